"""The Data tab: the images of a dataset, and the one that is open."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari.utils.notifications import show_warning
from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtGui import QDragEnterEvent, QDropEvent, QKeySequence, QShortcut
from qtpy.QtWidgets import QMainWindow, QVBoxLayout, QWidget

from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.core.progress import Progress
from napari_deeppixel.dataset.image_entry import ImageEntry, Storage
from napari_deeppixel.dataset.store import Dataset
from napari_deeppixel.widgets.controls import RED, TallArea, single_shot
from napari_deeppixel.widgets.data_actions import DataActions
from napari_deeppixel.widgets.data_browser import ImageBrowser
from napari_deeppixel.widgets.data_categories import CategoriesPanel
from napari_deeppixel.widgets.data_check import CheckDialog
from napari_deeppixel.widgets.data_chooser import DatasetChooser
from napari_deeppixel.widgets.data_entries import EntryReader
from napari_deeppixel.widgets.data_exchange import DataExchange
from napari_deeppixel.widgets.data_panels import (
    NEXT_KEY,
    PREVIOUS_KEY,
    UNFINISHED_KEY,
    DataPanels,
)
from napari_deeppixel.widgets.data_saving import SavingLine
from napari_deeppixel.widgets.dataset_state import DatasetState
from napari_deeppixel.widgets.dataset_switch import NOT_SAVED, ImageSwitcher
from napari_deeppixel.widgets.detect import DetectTab
from napari_deeppixel.widgets.job_queue import Job, JobQueue
from napari_deeppixel.widgets.journals import Journals
from napari_deeppixel.widgets.mistakes import MistakesPanel
from napari_deeppixel.widgets.mistakes_search import search_work
from napari_deeppixel.widgets.review import ReviewTab
from napari_deeppixel.widgets.worker import Work

# what is done sooner needs no bar that flickers
_SHOW_PROGRESS_MS = 300


class DataTab(QWidget):
    """Browse a dataset, open its images, and keep them saved.

    Parameters
    ----------
    viewer
        The napari viewer.
    detect
        Whose image is the current one.
    review
        Where images are corrected.
    journals
        Of the viewer's images.
    state
        Which dataset is open: other tabs ask there.
    """

    def __init__(
        self,
        viewer: Any,
        detect: DetectTab,
        review: ReviewTab,
        journals: Journals,
        state: DatasetState,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._detect, self._review = viewer, detect, review
        self.state, self._journals = state, journals
        self._watched: QMainWindow | None = None
        self._is_shut_down = False
        self.panels = DataPanels()
        self.queue = JobQueue(self)
        self.switcher = ImageSwitcher(
            viewer,
            draw=detect.run.steps.run,
            refusal=self._why_not_leave,
            finish=self._finish_edits,
            score=lambda: detect.score,
            parent=self,
        )
        self.commands = DataActions(
            self, viewer, detect, state=state, switcher=self.switcher, queue=self.queue
        )
        self.exchange = DataExchange(
            self,
            state=state,
            queue=self.queue,
            saving_of_open=self.saving_of_open,
            closed_meanwhile=self._closed_meanwhile,
        )
        self.mistakes = MistakesPanel(
            viewer,
            review,
            state=state,
            switcher=self.switcher,
            open_dataset=self.commands.open_dataset,
        )
        self.browser = ImageBrowser(self.panels, self.commands, self)
        self.reader = EntryReader(self)
        self.categories = CategoriesPanel()
        self.saving = SavingLine(self.panels, self.switcher, journals, self.queue, self)
        self._progress_timer = single_shot(self, _SHOW_PROGRESS_MS, self._show_job)
        self._chooser = DatasetChooser(
            self.panels.chooser,
            self.commands,
            close=self.close_dataset,
            offer_export=self.exchange.offer_export,
        )
        self._build()
        self._connect()
        self._show_dataset()
        self._take_up()

    # -- building -----------------------------------------------------------------------------

    def _build(self) -> None:
        self.setAcceptDrops(True)
        panels = self.panels
        self._body = panels.body(self.categories)
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(0, 0, 6, 0)
        layout.addLayout(panels.top())
        layout.addWidget(panels.empty, 1)
        layout.addWidget(self._body, 1)
        layout.addLayout(panels.bottom())
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 4, 0, 0)
        outer.addWidget(TallArea(content))
        self._fill_add_menu()
        self.exchange.offer_import(panels.add.popup)

    def _fill_add_menu(self) -> None:
        panels, commands = self.panels, self.commands
        for caption, tooltip, do in (
            ("Image in the viewer", "With its instances.", commands.add_image),
            (
                "Visible region",
                "The part of the plane that the canvas shows, with the instances in it.",
                commands.add_region,
            ),
            ("Files…", "Image files.", commands.choose_files),
            ("Folder…", "All images in a folder.", commands.choose_folder),
        ):
            action = panels.add.popup.addAction(caption, lambda do=do: self._try(do))
            if action is not None:
                action.setToolTip(tooltip)

    def _connect(self) -> None:
        panels = self.panels
        panels.new_button.clicked.connect(self.commands.choose_new_dataset)
        panels.open_button.clicked.connect(self.commands.choose_dataset)
        panels.copies.toggled.connect(self._on_copies)
        panels.check.clicked.connect(self.check)
        panels.relocate.clicked.connect(lambda: self._try(self.commands.choose_relocation))
        panels.find_mistakes.clicked.connect(self.find_mistakes)
        panels.open_mistakes.clicked.connect(lambda: self._try(self.mistakes.choose_list))
        panels.cancel.clicked.connect(self.queue.cancel)
        self.commands.opened.connect(self._on_dataset_opened)
        self.commands.annotations_dropped.connect(self.exchange.take)
        self.exchange.refused.connect(self._on_switch_failed)
        self.exchange.no_annotations.connect(lambda path: self.commands.add_images([path]))
        for said in (
            self.commands.said,
            self.browser.said,
            self.saving.said,
            self.exchange.said,
        ):
            said.connect(self.say)
        self.browser.open_wanted.connect(self.open_image)
        self.switcher.opened.connect(self._on_image_opened)
        self.switcher.saved.connect(self._on_saved)
        self.switcher.failed.connect(self._on_switch_failed)
        self.reader.read.connect(self._on_entries)
        self.reader.failed.connect(self._on_failed)
        self.queue.changed.connect(self._on_job_changed)
        self.queue.progressed.connect(self._on_progress)
        self.queue.failed.connect(self._on_failed)
        self.categories.change_wanted.connect(self._on_category_change)
        self.categories.merge_wanted.connect(self._on_category_merge)
        self.state.dataset_changed.connect(self._show_dataset)
        self.state.images_changed.connect(self.reader.refresh)
        self._detect.image_changed.connect(self._follow_layers)
        self._detect.run.finished.connect(self._follow_layers)
        self._review.bar.brought_back.connect(self._follow_layers)
        # whatever made an image's first instances, its journal is opened soon
        self._journals.changed.connect(self._follow_layers)
        for key, do in (
            (NEXT_KEY, lambda: self.go(1)),
            (PREVIOUS_KEY, lambda: self.go(-1)),
            (UNFINISHED_KEY, self.browser.go_to_unfinished),
        ):
            shortcut = QShortcut(QKeySequence(key), self)
            # also while the canvas has the focus
            shortcut.setContext(Qt.ShortcutContext.WindowShortcut)
            shortcut.activated.connect(do)

    # -- the dataset --------------------------------------------------------------------------

    def _on_dataset_opened(self, dataset: Dataset) -> None:
        known = self.state.dataset
        if known is not None and known.path == dataset.path:
            self.say(f"{dataset.path.name} is open already.")
            return
        self.switcher.close(lambda: self.state.set_dataset(dataset))

    def close_dataset(self) -> None:
        """Save what is open, and close the dataset."""
        self.switcher.close(lambda: self.state.set_dataset(None))

    def _show_dataset(self) -> None:
        dataset, panels = self.state.dataset, self.panels
        self._body.setVisible(dataset is not None)
        panels.empty.setVisible(dataset is None)
        self._chooser.show_dataset(dataset)
        self.browser.set_dataset(dataset)
        self.categories.show_dataset(dataset, [])
        self.reader.set_dataset(dataset)
        self.say("")

    def _take_up(self) -> None:
        """Go on with what a closed dock left in the viewer."""
        dataset = self.switcher.take_up()
        if dataset is not None:
            self.state.set_dataset(dataset)

    def _on_entries(self, entries: list[ImageEntry]) -> None:
        self.browser.set_entries(entries)
        self.browser.model.set_open(self._open_id)
        with contextlib.suppress(DeepPixelError):
            # the list itself has just been read
            self.categories.show_dataset(self.state.dataset, entries)

    def _on_category_change(self, caption: str, work: Work) -> None:
        self.queue.run(Job(caption=caption, work=work, on_end=self._on_categories_changed))

    def _on_categories_changed(self) -> None:
        self.state.note_change()
        # its session has the names as they were
        self.switcher.reopen()

    def _on_category_merge(self, caption: str, work: Work) -> None:
        self._closed_meanwhile(
            lambda end: self.queue.run(Job(caption=caption, work=work, on_end=end))
        )

    def _closed_meanwhile(self, do: Callable[[Callable[[], object]], object]) -> None:
        """Do something to files while no image is open; then open the image again."""
        dataset, image_id = self.state.dataset, self._open_id

        def on_end() -> None:
            self.state.note_change()
            if image_id and dataset is not None and dataset is self.state.dataset:
                self.switcher.open(dataset, image_id)

        self.switcher.close(lambda: do(on_end))

    def check(self) -> CheckDialog | None:
        """Look for faults of the dataset."""
        dataset = self.state.dataset
        if dataset is None:
            return None
        dialog = CheckDialog(dataset, self)

        def repair() -> None:
            def begin(end: Callable[[], object]) -> None:
                dialog.repaired.connect(end)
                dialog.repair()

            self._closed_meanwhile(begin)

        dialog.repair_wanted.connect(repair)
        dialog.show()
        return dialog

    def find_mistakes(self) -> None:
        """Look for label mistakes with the model of the Detect tab; then go through them."""
        dataset = self.state.dataset
        if dataset is None or not self._detect.weights:
            self.say("Choose a model in the Detect tab first.", color=RED)
            return
        work = search_work(
            dataset,
            self._detect.run.shelf,
            model=self._detect.weights,
            device=self._detect.device,
            engine=self._detect.engine,
            save_open=self.saving_of_open(),
        )
        open_list = self.open_mistakes
        self.queue.run(Job(caption="looking for mistakes", work=work, on_result=open_list))

    def open_mistakes(self, path: Path) -> None:
        """Go through a list of label mistakes in the Review tab."""
        self._try(lambda: self.mistakes.open_mistakes(path))

    # -- images -------------------------------------------------------------------------------

    @property
    def _open_id(self) -> str:
        current = self.switcher.current
        return "" if current is None else current.image_id

    def open_image(self, image_id: str) -> None:
        """Show an image of the dataset with its annotations; what is open is saved first."""
        if self.state.dataset is not None:
            self.say("")
            self.switcher.open(self.state.dataset, image_id)

    def go(self, step: int) -> None:
        """Open the next image of the list (1) or the one before (-1)."""
        self.browser.go(step, self.switcher.wanted_id)

    def import_path(self, path: Path) -> None:
        """Take an image, a folder of images, or a dataset, as if it was dropped here."""
        self._try(lambda: self.commands.import_path(path))

    def _why_not_leave(self, layer: Any) -> str:
        if self._detect.run.is_running and self._detect.image_layer == layer:
            return "The model is at work on this image: wait until it is done, or press Cancel."
        return ""

    def saving_of_open(self) -> Callable[[], object]:
        """Return what saves the image that is open, for a thread; other tabs call it, too."""
        current = self.switcher.current
        if current is None or current.saver.dataset is not self.state.dataset:
            return lambda: None
        self._finish_edits()
        current.settle()
        return current.change_beside(lambda: None)

    def _finish_edits(self) -> None:
        """Take over boxes that were moved or deleted, which only Review does."""
        current, tools = self.switcher.current, self._review.tools
        if current is not None and self._review.view is current.view is not None:
            with contextlib.suppress(DeepPixelError, ValueError):
                tools.take_box_edits()

    def _follow_layers(self, *_: object) -> None:
        current = self.switcher.current
        if current is not None and not self._is_shut_down:
            current.follow()

    def _on_image_opened(self) -> None:
        self.browser.set_open(self._open_id)

    def _on_saved(self, entry: ImageEntry) -> None:
        self.browser.replace_entry(entry)
        self.reader.note_saved()
        if self.panels.status.text().endswith(NOT_SAVED):
            self.say("")

    def _on_switch_failed(self, message: str) -> None:
        self.say(message, color=RED)

    # -- what the person is told --------------------------------------------------------------

    def say(self, message: str, color: str = "") -> None:
        """Show a message below the list."""
        self.panels.status.say(message, color=color)

    def _try(self, do: Callable[[], object]) -> None:
        """Do something; what stands in the way is said."""
        try:
            do()
        except (DeepPixelError, ValueError, OSError) as error:
            self.say(str(error), color=RED)

    def _on_failed(self, error: BaseException) -> None:
        self.say(str(error), color=RED)
        if not isinstance(error, DeepPixelError | OSError):
            raise error

    def _on_job_changed(self) -> None:
        panels, job = self.panels, self.queue.current
        if job is None:
            self._progress_timer.stop()
            panels.progress.hide()
            panels.cancel.hide()
        else:
            panels.progress.setRange(0, 0)
            panels.progress.setFormat(job.caption)
            self._progress_timer.start()

    def _show_job(self) -> None:
        if self.queue.current is not None:
            self.panels.progress.show()
            self.panels.cancel.show()

    def _on_progress(self, progress: Progress) -> None:
        bar, job = self.panels.progress, self.queue.current
        bar.setRange(0, 1000)
        bar.setValue(round(1000 * progress.fraction))
        bar.setFormat(progress.message or ("" if job is None else job.caption))

    def _on_copies(self, is_copied: bool) -> None:
        self.commands.storage = Storage.COPY if is_copied else Storage.REFERENCE

    # -- drag and drop ------------------------------------------------------------------------

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:
        """Take files and folders."""
        if event is not None and _dropped_paths(event):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent | None) -> None:
        """Add them, or open the dataset that is among them."""
        paths = [] if event is None else _dropped_paths(event)
        if event is not None and paths:
            event.acceptProposedAction()
            self._try(lambda: self.commands.import_paths(paths))

    # -- coming and going ---------------------------------------------------------------------

    def showEvent(self, event: Any) -> None:
        """Look once in a while what others did."""
        super().showEvent(event)
        self.reader.watch(True)
        self._watch_window()

    def hideEvent(self, event: Any) -> None:
        """Look no longer."""
        super().hideEvent(event)
        self.reader.watch(False)

    def _watch_window(self) -> None:
        """Hear of the window's end while there is still something to save from."""
        parent: QWidget | None = self
        while parent is not None and not isinstance(parent, QMainWindow):
            parent = parent.parentWidget()
        if isinstance(parent, QMainWindow) and parent is not self._watched:
            self._watched = parent
            parent.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Save before the window closes."""
        if watched is self._watched and event is not None and event.type() == QEvent.Type.Close:
            self.save_here()
        return False

    def save_here(self) -> bool:
        """Save what is open before this returns; return whether the dataset has all."""
        is_saved = self.switcher.save_here()
        self.saving.refresh()
        if not is_saved and self.switcher.current is not None:
            show_warning(
                f"{self._open_id} is not saved: {self.switcher.current.problem}. What you did is "
                "offered when the image is opened again."
            )
        return is_saved

    def shut_down(self) -> None:
        """Save what is open, stop all work and let go of the viewer; may be called twice."""
        if self._is_shut_down:
            return
        self.save_here()
        self._is_shut_down = True
        self.mistakes.shut_down()
        self.switcher.shut_down()
        self.reader.shut_down()
        self.queue.shut_down()
        self.browser.thumbnails.shut_down()
        self._progress_timer.stop()
        if self._watched is not None:
            self._watched.removeEventFilter(self)
            self._watched = None


def _dropped_paths(event: QDropEvent) -> list[Path]:
    data = event.mimeData()
    urls = [] if data is None else data.urls()
    return [Path(url.toLocalFile()) for url in urls if url.isLocalFile()]
