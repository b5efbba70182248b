"""What there is to train on, in the open dataset."""

from collections.abc import Iterator

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.core.progress import CancelToken
from napari_deeppixel.training.summary import DataSummary, Known, summarise
from napari_deeppixel.widgets.controls import AMBER, Note, button, single_shot
from napari_deeppixel.widgets.dataset_state import DatasetState
from napari_deeppixel.widgets.worker import BackgroundTask, ReportProgress

# after the last of several changes, such as images that are added one by one
_SETTLE_MS = 1500
_MAX_WARNINGS = 4
_NO_DATASET = (
    "Training learns from the images of a dataset: open one in the Data tab, or make one from "
    "images that you corrected."
)


class SummaryPanel(QWidget):
    """Says how many images and objects there are, and what is wrong with them.

    Parameters
    ----------
    state
        Knows which dataset is open.

    Signals
    -------
    data_wanted
        The person wants to choose a dataset.
    changed
        `summary` is another one.
    """

    data_wanted = Signal()
    changed = Signal()

    def __init__(self, state: DatasetState, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._state = state
        self.summary: DataSummary | None = None
        self._is_stale = False
        # what earlier counts read, so that a save costs one file
        self._known: Known = {}
        self._task = BackgroundTask(self)
        self._task.yielded.connect(self._on_summary)
        self._task.failed.connect(self._on_failed)
        self._task.finished.connect(self._on_finished)
        self._timer = single_shot(self, _SETTLE_MS, self._start)
        self._text = Note("train.summary")
        self._warnings = Note("train.warnings", color=AMBER)
        self._open = button(
            "Go to Data", "train.to_data", "Open or make a dataset in the Data tab."
        )
        self._open.clicked.connect(self.data_wanted)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for each in (self._text, self._warnings, self._open):
            layout.addWidget(each)
        state.dataset_changed.connect(self._on_dataset_changed)
        state.images_changed.connect(self.refresh)
        self._on_dataset_changed()

    def refresh(self) -> None:
        """Count again, soon; while nobody looks, when somebody does."""
        self._is_stale = self._state.dataset is not None
        if self._is_stale and self.isVisible():
            self._timer.start()

    def showEvent(self, event: object) -> None:
        """Count now what changed meanwhile."""
        super().showEvent(event)  # type: ignore[arg-type]  # any event of Qt's
        if self._is_stale:
            self._timer.stop()
            self._start()

    def shut_down(self) -> None:
        """Count no more."""
        self._timer.stop()
        self._task.abandon()

    def _on_dataset_changed(self) -> None:
        self._task.abandon()
        self._timer.stop()
        dataset = self._state.dataset
        self.summary, self._known = None, {}
        self._warnings.say("")
        self._open.setVisible(dataset is None)
        self._text.say(_NO_DATASET if dataset is None else "Counting images and objects…")
        self._is_stale = dataset is not None
        if self._is_stale and self.isVisible():
            self._start()
        self.changed.emit()

    def _start(self) -> None:
        dataset = self._state.dataset
        if dataset is None or self._task.is_running:
            return
        self._is_stale = False
        path, known = dataset.path, self._known

        def work(cancel: CancelToken, report: ReportProgress) -> Iterator[DataSummary]:
            yield summarise(path, known=known, cancel=cancel, on_progress=report)

        self._task.start(work)

    def _on_summary(self, summary: DataSummary) -> None:
        self.summary = summary
        self._text.say("\n".join(summary.lines()))
        told = [f"⚠ {each}" for each in summary.warnings[:_MAX_WARNINGS]]
        if len(summary.warnings) > _MAX_WARNINGS:
            told.append(f"and {len(summary.warnings) - _MAX_WARNINGS} more: see the tooltip")
        self._warnings.say("\n".join(told))
        self._warnings.setToolTip("\n".join(summary.warnings))
        self.changed.emit()

    def _on_failed(self, error: BaseException) -> None:
        self._warnings.say(str(error))
        self._text.say("")
        if not isinstance(error, DeepPixelError | OSError):
            raise error

    def _on_finished(self) -> None:
        if self._is_stale:
            self._timer.start()
