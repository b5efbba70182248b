"""What a person can do to a dataset: open, add, mark, move, remove, find."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from napari.layers import Image
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QFileDialog, QInputDialog, QMessageBox, QWidget

from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.dataset.annotated import ImageState, Split
from napari_deeppixel.dataset.image_entry import ImageEntry, Storage
from napari_deeppixel.dataset.image_folder import IMAGE_SUFFIXES
from napari_deeppixel.dataset.store import Added, Dataset, LoadedImage
from napari_deeppixel.viewer.dataset_add import LayerContent, add_layer, add_region
from napari_deeppixel.viewer.layers import instance_layers_of
from napari_deeppixel.viewer.plane_map import view_region
from napari_deeppixel.widgets.data_jobs import (
    AddedFiles,
    add_files,
    create_dataset,
    describe_added,
    open_dataset,
)
from napari_deeppixel.widgets.data_model import STATE_WORDS
from napari_deeppixel.widgets.dataset_image import mark_of
from napari_deeppixel.widgets.dataset_state import DatasetState
from napari_deeppixel.widgets.dataset_switch import ImageSwitcher
from napari_deeppixel.widgets.detect import DetectTab
from napari_deeppixel.widgets.job_queue import Job, JobQueue
from napari_deeppixel.widgets.worker import Work


class DataActions(QObject):
    """Does what the Data tab offers; long work in a thread, questions first.

    Parameters
    ----------
    parent
        Of the dialogs.
    viewer
        The napari viewer.
    detect
        Whose image is the current one.
    state
        Holds the open dataset.
    switcher
        Holds the open image.
    queue
        Does the work.

    Signals
    -------
    said
        Message for the person.
    opened
        A dataset that is to be open.
    annotations_dropped
        Path that may hold annotations of another program.
    """

    said = Signal(str)
    opened = Signal(object)
    annotations_dropped = Signal(object)

    def __init__(
        self,
        parent: QWidget,
        viewer: Any,
        detect: DetectTab,
        *,
        state: DatasetState,
        switcher: ImageSwitcher,
        queue: JobQueue,
    ) -> None:
        super().__init__(parent)
        self._widget, self._viewer, self._detect = parent, viewer, detect
        self._state, self._switcher, self._queue = state, switcher, queue
        self.storage = Storage.COPY

    @property
    def dataset(self) -> Dataset:
        """The open dataset.

        Raises
        ------
        ValueError
            If none is open.
        """
        if self._state.dataset is None:
            raise ValueError("Open or make a dataset first.")
        return self._state.dataset

    def _run(
        self,
        caption: str,
        do: Callable[[], Any],
        on_result: Callable[[Any], object] = lambda _: None,
    ) -> None:
        """Call a function in a thread; then look at the images again."""
        self._run_work(caption, lambda *_: iter([do()]), on_result)

    def _run_work(self, caption: str, work: Work, on_result: Callable[[Any], object]) -> None:
        self._queue.run(
            Job(
                caption=caption,
                work=work,
                on_result=on_result,
                on_end=self._state.note_change,
            )
        )

    # -- datasets -----------------------------------------------------------------------------

    def choose_dataset(self) -> None:
        """Ask for the folder of a dataset, and open it."""
        folder = QFileDialog.getExistingDirectory(self._widget, "Open a dataset")
        if folder:
            self.open_dataset(Path(folder))

    def open_dataset(self, path: Path) -> None:
        """Open a dataset; what is open is saved first."""
        self._run("opening the dataset", lambda: open_dataset(path), self.opened.emit)

    def choose_new_dataset(self) -> None:
        """Ask for an empty folder and for categories, and make a dataset."""
        folder = QFileDialog.getExistingDirectory(
            self._widget, "Choose or make an empty folder for the new dataset"
        )
        if not folder:
            return
        names, is_ok = QInputDialog.getText(
            self._widget,
            "New dataset",
            "What is to be found in the images? Names, separated by commas:",
            text=", ".join(self._known_categories()),
        )
        if is_ok:
            self.create_dataset(Path(folder), names)

    def create_dataset(self, path: Path, names: str) -> None:
        """Make a dataset in an empty folder with categories of these names."""
        self._run("making the dataset", lambda: create_dataset(path, names), self.opened.emit)

    def _known_categories(self) -> list[str]:
        """Return what the objects of the current image are called, for a start."""
        view = self._detect.instance_layers
        if view is None:
            return ["object"]
        used = {i.category_id for p in view.session.plane_indices for i in view.session.visible(p)}
        table = view.session.categories
        return [c.name for c in table.categories if c.id in used] or ["object"]

    # -- images come in -----------------------------------------------------------------------

    def import_path(self, path: Path) -> None:
        """Take what somebody dropped or chose: images, annotations, or a dataset."""
        self.import_paths([path])

    def import_paths(self, paths: Sequence[Path]) -> None:
        """Take several at once; see `import_path`."""
        datasets = [path for path in paths if _is_dataset(path)]
        if datasets and len(paths) > 1:
            raise ValueError(
                f"{datasets[0].name} is a dataset: drop it alone to open it, and the others "
                "afterwards to add them."
            )
        if datasets:
            self.open_dataset(datasets[0])
            return
        _ = self.dataset
        others = [path for path in paths if not _is_image(path)]
        for path in others:
            self.annotations_dropped.emit(path)
        images = [path for path in paths if path not in others]
        if images:
            self.add_images(images)

    def add_images(self, paths: Sequence[Path]) -> None:
        """Add image files, and those in folders."""
        dataset, storage = self.dataset, self.storage
        self._run_work(
            "adding images",
            lambda cancel, report: add_files(dataset, list(paths), storage, cancel, report),
            self._on_files_added,
        )

    def _on_files_added(self, result: AddedFiles) -> None:
        self.said.emit(result.summary())

    def choose_files(self) -> None:
        """Ask for image files, and add them."""
        endings = " ".join(f"*{suffix}" for suffix in sorted(IMAGE_SUFFIXES))
        names, _ = QFileDialog.getOpenFileNames(
            self._widget, "Add images", "", f"Images ({endings});;All files (*)"
        )
        if names:
            self.add_images([Path(name) for name in names])

    def choose_folder(self) -> None:
        """Ask for a folder, and add the images in it."""
        folder = QFileDialog.getExistingDirectory(self._widget, "Add the images in a folder")
        if folder:
            self.add_images([Path(folder)])

    def _current_layer(self) -> Image:
        layer = self._detect.image_layer
        if layer is None:
            raise ValueError("Open an image first.")
        return layer

    def _content(self, layer: Image) -> LayerContent:
        view = instance_layers_of(layer)
        axis = self._detect.channel_axis if view is None else view.channel_axis
        return LayerContent.of(layer, channel_axis=axis)

    def add_image(self) -> None:
        """Add the current image with its instances, and go on with it as part of the dataset."""
        dataset, layer, storage = self.dataset, self._current_layer(), self.storage
        current = self._switcher.current
        if current is not None and current.layer == layer:
            self.said.emit(f"{current.image_id} is in the dataset already.")
            return
        content, seen = self._content(layer), mark_of(layer)

        def do() -> tuple[Added, LoadedImage, bool]:
            added = add_layer(content, dataset, storage=storage)
            loaded = dataset.load(added.entry.image_id)
            return added, loaded, content.is_in(loaded)

        def on_added(result: tuple[Added, LoadedImage, bool]) -> None:
            added, loaded, is_same = result
            self.said.emit(describe_added(added))
            if is_same:
                self._switcher.adopt(dataset, loaded, layer, seen=seen)

        self._run(f"adding {layer.name}", do, on_added)

    def add_region(self) -> None:
        """Add the part of the current plane that the canvas shows, with what lies in it."""
        dataset, layer = self.dataset, self._current_layer()
        content = self._content(layer)
        index = self._detect.current_index(content.image)
        region = self._visible_region(layer, content.image.image_hw)
        current = self._switcher.current
        group, change = content.image.name, None
        if current is not None and current.layer == layer:
            entry = current.saver.entry
            group = entry.group or entry.image_id
            if not entry.group:
                # the image and its part stay in one split, or the one would tell of the other
                image_id = entry.image_id
                change = current.change_beside(lambda: dataset.set_group([image_id], group))

        def do() -> Added:
            if change is not None:
                change()
            return add_region(content, dataset, index=index, region_xyxy=region, group=group)

        self._run(f"adding a part of {layer.name}", do, self._on_added)

    def _on_added(self, added: Added) -> None:
        self.said.emit(describe_added(added))

    def _visible_region(self, layer: Image, image_hw: tuple[int, int]) -> tuple[int, int, int, int]:
        dims = self._viewer.dims
        if dims.ndisplay != 2 or tuple(dims.order[-2:]) != (dims.ndim - 2, dims.ndim - 1):
            raise ValueError("A region needs the last two axes on the screen, in 2-D.")
        region = view_region(layer, image_hw)
        if region is None:
            raise ValueError("The image is out of view: press Home to bring it back.")
        return region

    # -- what is said of images ---------------------------------------------------------------

    def _change(self, caption: str, change: Callable[[], object], done: str) -> None:
        """Change annotation files past the session; the open image is saved first and follows."""
        current = self._switcher.current
        do = change
        if current is not None and current.saver.dataset is self._state.dataset:
            current.settle()
            do = current.change_beside(change)
        self._run(caption, do, lambda _: self.said.emit(done))

    def set_state(self, entries: Sequence[ImageEntry], state: ImageState) -> None:
        """Say how far images are; asks first if something in them was not reviewed."""
        dataset, ids = self.dataset, [entry.image_id for entry in entries]
        left = sum(entry.num_unreviewed for entry in entries)
        if state is ImageState.COMPLETE and left and not self._ask_complete(entries, left):
            return
        done = f"{_named(entries)} marked {STATE_WORDS[state]}."
        self._change("marking", lambda: dataset.set_state(ids, state), done)

    def _ask_complete(self, entries: Sequence[ImageEntry], left: int) -> bool:
        return self._ask(
            "Mark complete?",
            f"{left:,} instances in {_named(entries)} were not reviewed. A model that learns from "
            "complete images takes them as they are, and all else for background.",
            "Mark complete",
        )

    def _ask(self, title: str, text: str, yes: str) -> bool:
        box = QMessageBox(QMessageBox.Icon.Question, title, text, parent=self._widget)
        accept = box.addButton(yes, QMessageBox.ButtonRole.AcceptRole)
        box.setDefaultButton(box.addButton(QMessageBox.StandardButton.Cancel))
        box.exec()
        box.deleteLater()
        return box.clickedButton() is accept

    def set_split(self, entries: Sequence[ImageEntry], split: Split | None) -> None:
        """Pin images to a split; None leaves it to the rule."""
        dataset, ids = self.dataset, [entry.image_id for entry in entries]
        what = "dealt out by the rule" if split is None else f"set to {split.value}"
        done = f"{_named(entries)} {what}."
        self._change("setting the split", lambda: dataset.set_split(ids, split), done)

    def choose_group(self, entries: Sequence[ImageEntry]) -> None:
        """Ask for a group, and put images into it."""
        known = next((entry.group for entry in entries if entry.group), "")
        group, is_ok = QInputDialog.getText(
            self._widget,
            "Group",
            "Images of one group (tiles of a slide, frames of a film) stay together when images "
            "are dealt out for training and validation.\n\nName of the group; empty: none.",
            text=known,
        )
        if is_ok:
            self.set_group(entries, group.strip())

    def set_group(self, entries: Sequence[ImageEntry], group: str) -> None:
        """Put images into a group."""
        dataset, ids = self.dataset, [entry.image_id for entry in entries]
        done = f"{_named(entries)} {f'in the group {group}' if group else 'in no group'}."
        self._change("setting the group", lambda: dataset.set_group(ids, group), done)

    def accept_file(self, entry: ImageEntry) -> None:
        """Take the file of an image as it is now for the right one."""
        dataset, image_id = self.dataset, entry.image_id
        done = f"The file of {image_id} counts as it is now."
        self._change("reading the file", lambda: dataset.accept_image(image_id), done)

    # -- images that go -----------------------------------------------------------------------

    def _without(self, ids: Sequence[str], then: Callable[[], object]) -> None:
        """Do something when none of some images is open any more."""
        current = self._switcher.current
        if current is not None and current.image_id in ids:
            self._switcher.close(then)
        else:
            then()

    def choose_name(self, entry: ImageEntry) -> None:
        """Ask for another name of an image."""
        name, is_ok = QInputDialog.getText(
            self._widget, "Rename", f"New name of {entry.file_name}:", text=entry.file_name
        )
        if is_ok and name.strip() and name != entry.file_name:
            self.rename(entry, name.strip())

    def rename(self, entry: ImageEntry, name: str) -> None:
        """Give an image another name; one that is open is closed."""
        dataset, image_id = self.dataset, entry.image_id
        self._without(
            [image_id],
            lambda: self._run(
                "renaming",
                lambda: dataset.rename(image_id, name),
                lambda now: self.said.emit(f"{image_id} is {now.image_id} now."),
            ),
        )

    def remove(self, entries: Sequence[ImageEntry]) -> None:
        """Take images out of the dataset; asks first. Nothing is deleted."""
        instances = sum(entry.num_instances for entry in entries)
        if not self._ask(
            "Remove?",
            f"Take {_named(entries)} with {instances:,} instances out of the dataset? They are "
            "kept in its folder removed. Images that are not copied stay where they are.",
            "Remove",
        ):
            return
        dataset, ids = self.dataset, [entry.image_id for entry in entries]
        done = f"{_named(entries)} removed; kept in "
        self._without(
            ids,
            lambda: self._run(
                "removing",
                lambda: dataset.remove(ids),
                lambda folder: self.said.emit(f"{done}{Path(folder).name} of removed."),
            ),
        )

    def choose_relocation(self) -> None:
        """Ask where images that are missing may be, and look there."""
        _ = self.dataset
        folder = QFileDialog.getExistingDirectory(self._widget, "Where are the missing images?")
        if folder:
            self.relocate(Path(folder))

    def relocate(self, folder: Path) -> None:
        """Look for missing images in a folder."""
        dataset = self.dataset

        def work(cancel: Any, _report: object) -> Iterator[list[tuple[str, Path]]]:
            yield dataset.relocate(folder, cancel=cancel)

        def on_found(found: list[tuple[str, Path]]) -> None:
            first = f": {found[0][0]} is {found[0][1]}" if found else ""
            self.said.emit(f"{len(found):,} missing images found in {folder.name}{first}.")

        self._run_work("looking for moved images", work, on_found)


def _is_dataset(path: Path) -> bool:
    try:
        return path.is_dir() and Dataset.is_dataset(path)
    except (DeepPixelError, OSError):
        return False


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir()


def _named(entries: Sequence[ImageEntry]) -> str:
    return entries[0].file_name if len(entries) == 1 else f"{len(entries):,} images"
