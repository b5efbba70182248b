"""Annotations of other programs into the open dataset, and its annotations out to them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from qtpy.QtCore import QObject, Qt, Signal
from qtpy.QtWidgets import QFileDialog, QInputDialog, QMenu, QMessageBox, QWidget

from napari_deeppixel.core.errors import AnnotationError, DeepPixelError
from napari_deeppixel.core.progress import CancelToken, Progress
from napari_deeppixel.dataset.convert import Annotations, Conversion, Converted
from napari_deeppixel.dataset.formats.base import Format, Problem
from napari_deeppixel.dataset.formats.registry import all_formats, guess_format
from napari_deeppixel.dataset.store import Dataset
from napari_deeppixel.widgets.dataset_state import DatasetState
from napari_deeppixel.widgets.job_queue import Job, JobQueue
from napari_deeppixel.widgets.worker import ReportProgress

# a folder of images, which is no annotation, may look like these
_IMAGES_ALONE = ("labels", "cellpose")
_MAX_DETAILS = 500


@dataclass(frozen=True, kw_only=True, eq=False)
class _Surveyed:
    """What a conversion would do, before it does it."""

    conversion: Conversion
    num_missing: int


class DataExchange(QObject):
    """Import and export with progress; what would be lost is told, and asked about, first.

    Parameters
    ----------
    parent
        Of the dialogs.
    state
        Holds the open dataset.
    queue
        Does the work.
    saving_of_open
        Returns what saves the image that is open, in a thread.
    closed_meanwhile
        Closes the image that is open, calls what it is given, and opens the image again when that
        calls what it is given in turn.

    Signals
    -------
    said
        Message for the person.
    refused
        Why something cannot be done now.
    no_annotations
        Path that was to be imported and holds images alone.
    """

    said = Signal(str)
    refused = Signal(str)
    no_annotations = Signal(object)

    def __init__(
        self,
        parent: QWidget,
        *,
        state: DatasetState,
        queue: JobQueue,
        saving_of_open: Callable[[], Callable[[], object]],
        closed_meanwhile: Callable[[Callable[[Callable[[], object]], object]], object],
    ) -> None:
        super().__init__(parent)
        self._widget, self._state, self._queue = parent, state, queue
        self._saving_of_open, self._closed_meanwhile = saving_of_open, closed_meanwhile

    def offer_import(self, menu: QMenu) -> None:
        """Put what can be imported into a menu."""
        menu.addSeparator()
        for caption, tooltip, do in (
            (
                "Annotations, file…",
                "COCO, CVAT, GeoJSON, ImageJ ROIs, a label image, …",
                self.choose_file,
            ),
            (
                "Annotations, folder…",
                "YOLO, LabelMe, Pascal VOC, masks, another dataset, …",
                self.choose_folder,
            ),
        ):
            action = menu.addAction(caption, lambda do=do: self._try(do))
            if action is not None:
                action.setToolTip(tooltip)

    def offer_export(self, menu: QMenu) -> None:
        """Put the formats that can be written into a menu."""
        coco, *others = (
            each for each in all_formats() if each.write is not None and each.name != "dataset"
        )
        entries = [
            ("COCO JSON, without images…", coco, True),
            ("COCO JSON with images…", coco, False),
            *((f"{each.title}…", each, False) for each in others),
        ]
        menu.setToolTipsVisible(True)
        for caption, each, is_file in entries:
            action = menu.addAction(
                caption,
                lambda each=each, is_file=is_file: self._try(
                    lambda: self.choose_target(each, is_file)
                ),
            )
            if action is not None:
                action.setToolTip(each.note)

    def _try(self, do: Callable[[], object]) -> None:
        try:
            do()
        except (DeepPixelError, ValueError, OSError) as error:
            self.refused.emit(str(error))

    @property
    def _dataset(self) -> Dataset:
        if self._state.dataset is None:
            raise ValueError("Open or make a dataset first.")
        return self._state.dataset

    # -- in -----------------------------------------------------------------------------------

    def choose_file(self) -> None:
        """Ask for an annotation file, and import it."""
        name, _ = QFileDialog.getOpenFileName(self._widget, "Import annotations")
        if name:
            self.import_annotations(Path(name))

    def choose_folder(self) -> None:
        """Ask for a folder of annotations, and import it."""
        folder = QFileDialog.getExistingDirectory(self._widget, "Import a folder of annotations")
        if folder:
            self.import_annotations(Path(folder))

    def import_annotations(
        self, path: Path, *, format_name: str | None = None, images_dir: Path | None = None
    ) -> None:
        """Import annotations into the open dataset; a format that cannot be told is asked for."""
        dataset = self._dataset

        def work(cancel: CancelToken, report: ReportProgress) -> Iterator[object]:
            if format_name is None:
                found = _guess(path)
                if found is None:
                    yield None
                    return
            source = Annotations(path, format_name=format_name, images_dir=images_dir)
            yield from _survey(
                Conversion(source, dataset.path, format_name="dataset"), cancel, report
            )

        def on_result(result: object) -> None:
            if isinstance(result, _Surveyed):
                self._go_on_importing(result, path)
            else:
                self._ask_format(path, images_dir)

        self._queue.run(Job(caption=f"reading {path.name}", work=work, on_result=on_result))

    def take(self, path: Path) -> None:
        """Import what was dropped, if it is annotations; else `no_annotations` tells."""
        _ = self._dataset

        def work(_cancel: CancelToken, _report: ReportProgress) -> Iterator[object]:
            found = guess_format(path) if path.is_file() else _guess(path)
            is_images = path.is_dir() and found is not None and found.name in _IMAGES_ALONE
            yield None if is_images else found

        def on_result(found: object) -> None:
            if isinstance(found, Format):
                self.import_annotations(path, format_name=found.name)
            else:
                self.no_annotations.emit(path)

        self._queue.run(Job(caption=f"looking at {path.name}", work=work, on_result=on_result))

    def _ask_format(self, path: Path, images_dir: Path | None) -> None:
        readable = [each for each in all_formats() if each.read is not None]
        title, is_ok = QInputDialog.getItem(
            self._widget,
            "Import annotations",
            f"{path.name}: the format cannot be told. Which one is it?",
            [each.title for each in readable],
            editable=False,
        )
        if is_ok:
            name = next(each.name for each in readable if each.title == title)
            self.import_annotations(path, format_name=name, images_dir=images_dir)

    def _go_on_importing(self, surveyed: _Surveyed, path: Path) -> None:
        if not surveyed.num_missing:
            self._import(surveyed.conversion, path)
            return
        loss = surveyed.conversion.loss
        total = loss.num_images if loss is not None else surveyed.num_missing
        box = QMessageBox(
            QMessageBox.Icon.Question,
            "Import annotations",
            f"{surveyed.num_missing:,} of {total:,} images are not beside the annotations. A "
            "dataset needs them.",
            parent=self._widget,
        )
        choose = box.addButton("Choose their folder…", QMessageBox.ButtonRole.AcceptRole)
        go_on = box.addButton("Import the others", QMessageBox.ButtonRole.DestructiveRole)
        box.setDefaultButton(box.addButton(QMessageBox.StandardButton.Cancel))
        box.exec()
        box.deleteLater()
        if box.clickedButton() is choose:
            folder = QFileDialog.getExistingDirectory(self._widget, "Where are the images?")
            if folder:
                source = surveyed.conversion.source_format
                self.import_annotations(path, format_name=source, images_dir=Path(folder))
        elif box.clickedButton() is go_on:
            self._import(surveyed.conversion, path)

    def _import(self, conversion: Conversion, path: Path) -> None:
        # annotations may come to the image that is open, which would show what it had before
        self._closed_meanwhile(
            lambda end: self._write(conversion, f"importing {path.name}", on_end=end)
        )

    # -- out ----------------------------------------------------------------------------------

    def choose_target(self, exchange_format: Format, is_file: bool) -> None:
        """Ask where to, and export the open dataset."""
        dataset = self._dataset
        title = f"Export as {exchange_format.title}"
        if is_file:
            suffix = exchange_format.suffixes[0]
            start = str(dataset.path.parent / f"{dataset.path.name}{suffix}")
            name, _ = QFileDialog.getSaveFileName(self._widget, title, start, f"*{suffix}")
        else:
            name = QFileDialog.getExistingDirectory(self._widget, f"{title}: an empty folder")
        if name:
            self.export(Path(name), exchange_format.name)

    def export(self, path: Path, format_name: str) -> None:
        """Export the open dataset; what gets lost is told first."""
        dataset = self._dataset
        save_open = self._saving_of_open()

        def work(cancel: CancelToken, report: ReportProgress) -> Iterator[object]:
            save_open()
            source = Annotations(dataset.path, format_name="dataset")
            # of a file, the dialog has asked
            conversion = Conversion(
                source, path, format_name=format_name, overwrites=not path.is_dir()
            )
            yield from _survey(conversion, cancel, report)

        self._queue.run(
            Job(caption="looking what gets lost", work=work, on_result=self._go_on_exporting)
        )

    def _go_on_exporting(self, surveyed: _Surveyed) -> None:
        conversion = surveyed.conversion
        loss = conversion.loss
        if loss is not None and not loss.is_lossless:
            box = QMessageBox(
                QMessageBox.Icon.Question,
                "Export",
                f"{loss.format_title} cannot hold everything. Of {loss.num_instances:,} instances "
                f"in {loss.num_images:,} images:",
                parent=self._widget,
            )
            lines = "\n".join(f"• {line}" for line in loss.lines())
            box.setInformativeText(f"{lines}\n\nThe dataset itself stays as it is.")
            accept = box.addButton("Export", QMessageBox.ButtonRole.AcceptRole)
            box.addButton(QMessageBox.StandardButton.Cancel)
            box.exec()
            box.deleteLater()
            if box.clickedButton() is not accept:
                return
        self._write(
            conversion, f"exporting {conversion.format.title}", on_end=self._state.note_change
        )

    # -- both ---------------------------------------------------------------------------------

    def _write(self, conversion: Conversion, caption: str, *, on_end: Callable[[], object]) -> None:
        def work(cancel: CancelToken, report: ReportProgress) -> Iterator[object]:
            for event in conversion.write(cancel):
                if isinstance(event, Converted):
                    yield event
                else:
                    fraction = event.number / max(1, event.num_images)
                    report(Progress(fraction=min(1.0, fraction), message=event.file_name))

        self._queue.run(
            Job(
                caption=caption,
                work=work,
                on_result=self._on_converted,
                on_end=on_end,
            )
        )

    def _on_converted(self, done: Converted) -> None:
        message = (
            f"{done.num_images:,} images with {done.num_instances:,} instances written to "
            f"{done.path.name}."
        )
        if done.problems:
            message += f" {len(done.problems):,} entries were not taken as they are."
            self._show_problems(done.problems)
        self.said.emit(message)

    def _show_problems(self, problems: Sequence[Problem]) -> None:
        box = QMessageBox(
            QMessageBox.Icon.Warning,
            "Not taken as they are",
            f"{len(problems):,} entries were left out, or changed. The first: {problems[0]}",
            parent=self._widget,
        )
        more = [] if len(problems) <= _MAX_DETAILS else [f"… {len(problems) - _MAX_DETAILS} more"]
        box.setDetailedText("\n".join([*map(str, problems[:_MAX_DETAILS]), *more]))
        # it stays while the person looks at the files
        box.setModal(False)
        box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        box.show()


def _guess(path: Path) -> Format | None:
    try:
        return guess_format(path)
    except AnnotationError:
        return None


def _survey(
    conversion: Conversion, cancel: CancelToken, report: ReportProgress
) -> Iterator[_Surveyed]:
    for read in conversion.survey(cancel):
        report(Progress(fraction=0.0, message=f"{read.number:,}: {read.file_name}"))
    yield _Surveyed(
        conversion=conversion,
        num_missing=conversion.num_missing,
    )
