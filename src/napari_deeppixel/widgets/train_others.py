"""Runs that go on while the window shows something else."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qtpy.QtCore import QObject, QTimer, Signal

from napari_deeppixel.core.progress import CancelToken
from napari_deeppixel.training.run_folder import RunFolder
from napari_deeppixel.widgets.train_watch import is_run_alive
from napari_deeppixel.widgets.worker import BackgroundTask, ReportProgress

_LOOK_MS = 2_000


@dataclass(frozen=True, kw_only=True)
class OtherRun:
    """A run that went on when it was last looked at.

    Attributes
    ----------
    run
        Its folder.
    dataset
        What it learns from.
    """

    run: RunFolder
    dataset: Path

    @property
    def caption(self) -> str:
        """What to say of it."""
        return goes_on(self.dataset)


def goes_on(dataset: Path) -> str:
    """Return what to say of a run on a dataset that goes on."""
    return f"A training run on {dataset.name} goes on."


class OtherRuns(QObject):
    """Knows the living runs that this window started or followed and shows no more.

    Signals
    -------
    changed
        There is another one, or one less.
    ended
        The `OtherRun` that is over.
    """

    changed = Signal()
    ended = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        # by the true folder: one may be reached by several names
        self._known: dict[Path, OtherRun] = {}
        self._task = BackgroundTask(self)
        self._task.yielded.connect(self._on_over)
        self._timer = QTimer(self)
        self._timer.setInterval(_LOOK_MS)
        self._timer.timeout.connect(self._look)

    @property
    def all(self) -> tuple[OtherRun, ...]:
        """Those that go on, the one that was shown last first."""
        return tuple(reversed(self._known.values()))

    def of(self, dataset: Path) -> bool:
        """Return whether one of them learns from a dataset."""
        return any(each.dataset.resolve() == dataset.resolve() for each in self.all)

    def add(self, run: RunFolder, dataset: Path) -> None:
        """Look after a run until it ends."""
        self._known[run.path.resolve()] = OtherRun(run=run, dataset=dataset)
        self._timer.start()
        self.changed.emit()

    def drop(self, run: RunFolder) -> None:
        """Look after a run no more: it is shown again."""
        if self._known.pop(run.path.resolve(), None) is not None:
            self.changed.emit()

    def shut_down(self) -> None:
        """Look no more."""
        self._timer.stop()
        self._task.abandon()

    def _look(self) -> None:
        if not self._known:
            self._timer.stop()
        elif not self._task.is_running:
            known = self.all

            def work(_cancel: CancelToken, _report: ReportProgress) -> Iterator[OtherRun]:
                yield from (each for each in known if not is_run_alive(each.run))

            self._task.start(work)

    def _on_over(self, other: OtherRun) -> None:
        # it may have been dropped meanwhile
        if self._known.pop(other.run.path.resolve(), None) is not None:
            self.ended.emit(other)
            self.changed.emit()
