"""Watches the folder of a run: its events, and whether it is alive."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qtpy.QtCore import QObject, QTimer, Signal

from napari_deeppixel.core.progress import CancelToken
from napari_deeppixel.training.events import FitEvent
from napari_deeppixel.training.run_folder import RunFolder
from napari_deeppixel.widgets.detached import DetachedProcess
from napari_deeppixel.widgets.train_log import RunLog
from napari_deeppixel.widgets.worker import BackgroundTask, ReportProgress

_LOOK_MS = 500
_TAIL_LINES = 12
_TAIL_BYTES = 8_192


@dataclass(frozen=True, kw_only=True)
class _Look:
    """What the folder of a run says now."""

    events: tuple[FitEvent, ...]
    offset: int
    is_alive: bool
    tail: str
    has_checkpoint: bool
    has_weights: bool


class RunWatch(QObject):
    """Follows one run at a time; files are read in a thread.

    Attributes
    ----------
    run
        The run that is followed; None: none is.
    log
        What is known of it.
    is_alive
        Whether a process trains in it.
    tail
        The last lines that it printed, once it is over.
    has_checkpoint
        Whether it can be gone on with, once it is over.
    has_weights
        Whether its best weights are there, so far.

    Signals
    -------
    run_changed
        Another run is followed; `log` is empty until the next `changed`.
    changed
        `log` has more, or the run was read for the first time.
    ended
        The run that was alive is over.
    """

    run_changed = Signal()
    changed = Signal()
    ended = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.run: RunFolder | None = None
        self.log = RunLog()
        self.is_alive, self.tail = False, ""
        self.has_checkpoint, self.has_weights = False, False
        self._offset, self._is_first = 0, True
        self._task = BackgroundTask(self)
        self._task.yielded.connect(self._on_look)
        self._task.finished.connect(self._on_looked)
        self._timer = QTimer(self)
        self._timer.setInterval(_LOOK_MS)
        self._timer.timeout.connect(self._look)

    def follow(self, run: RunFolder | None, *, is_alive: bool = False) -> None:
        """Follow another run; `is_alive`: it was just started."""
        self._task.abandon()
        self._timer.stop()
        self.run, self.log, self.tail = run, RunLog(), ""
        self.is_alive = is_alive
        self._offset, self._is_first = 0, True
        self.run_changed.emit()
        if run is not None:
            self._timer.start()
            self._look()

    @property
    def is_read(self) -> bool:
        """Whether the run was looked at since it is followed."""
        return not self._is_first

    def shut_down(self) -> None:
        """Look no more."""
        self._timer.stop()
        self._task.abandon()

    def _look(self) -> None:
        if self.run is None or self._task.is_running:
            return
        run, offset = self.run, self._offset

        def work(_cancel: CancelToken, _report: ReportProgress) -> Iterator[_Look]:
            yield _look_at(run, offset)

        self._task.start(work)

    def _on_look(self, look: _Look) -> None:
        self.log.take(look.events)
        self._offset = look.offset
        was_alive, self.is_alive, self.tail = self.is_alive, look.is_alive, look.tail
        is_new = self._is_first or bool(look.events)
        self._is_first = False
        self.has_checkpoint, self.has_weights = look.has_checkpoint, look.has_weights
        if is_new or was_alive != self.is_alive:
            self.changed.emit()
        if was_alive and not self.is_alive:
            self.ended.emit()

    def _on_looked(self) -> None:
        # a run that is over says no more, unless somebody resumes it: then it is chosen again
        if not self.is_alive and self.is_read:
            self._timer.stop()


def process_note(run: RunFolder) -> Path:
    """Return the file that says which process was started for a run."""
    return run.path / "process.json"


def is_run_alive(run: RunFolder) -> bool:
    """Return whether a process trains in a folder, or is about to; for a thread."""
    # first: the lock is taken for a moment to see whether it is free, which must not stop a process
    # that is about to take it
    if DetachedProcess.find(process_note(run)) is not None:
        return True
    try:
        return run.is_alive
    except OSError:
        # a folder that may only be read: nobody trains there from here
        return False


def _look_at(run: RunFolder, offset: int) -> _Look:
    # asked first: what was written before the end is read then
    is_alive = is_run_alive(run)
    events, offset = run.read_events(offset)
    tail = "" if is_alive else last_lines(run.output)
    return _Look(
        events=tuple(events),
        offset=offset,
        is_alive=is_alive,
        tail=tail,
        has_checkpoint=run.last.is_file(),
        has_weights=run.best.is_file(),
    )


def last_lines(path: Path) -> str:
    """Return the last lines of a text file; empty if there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(size - _TAIL_BYTES, 0))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    # what `train --json` prints is in the events
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("{")]
    return "\n".join(lines[-_TAIL_LINES:])
