"""Runs pieces of work one after the other in a thread, and says how far the one is."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_deeppixel.core.progress import Progress
from napari_deeppixel.widgets.worker import BackgroundTask, Work


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """A piece of work.

    Attributes
    ----------
    caption
        What it does, for the person: "adding images".
    work
        Done in a thread.
    on_result
        Called with each thing that it yields.
    on_end
        Called when it is over: done, failed or cancelled.
    """

    caption: str
    work: Work
    on_result: Callable[[Any], object] | None = None
    on_end: Callable[[], object] | None = None


class JobQueue(QObject):
    """Jobs in the order in which they were asked for.

    Signals
    -------
    changed
        Another job is under way, or none.
    progressed
        `Progress` of the job that is under way.
    failed
        The exception that ended a job.
    """

    changed = Signal()
    progressed = Signal(object)
    failed = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._waiting: deque[Job] = deque()
        self.current: Job | None = None
        self._is_shut_down = False
        self._task = BackgroundTask(self)
        self._task.yielded.connect(self._on_yielded)
        self._task.progressed.connect(self._on_progressed)
        self._task.failed.connect(self.failed)
        self._task.finished.connect(self._on_finished)

    def run(self, job: Job) -> None:
        """Do a job when those before it are done."""
        if not self._is_shut_down:
            self._waiting.append(job)
            self._next()

    def cancel(self) -> None:
        """Stop the job that is under way, and forget those that wait."""
        self._waiting.clear()
        self._task.cancel()

    def shut_down(self) -> None:
        """Stop all, and call nobody any more."""
        self._is_shut_down = True
        self._waiting.clear()
        self._task.abandon()

    def _next(self) -> None:
        if self.current is None and self._waiting:
            self.current = self._waiting.popleft()
            self._task.start(self.current.work)
            self.changed.emit()

    def _on_yielded(self, result: Any) -> None:
        if isinstance(result, Progress):
            self.progressed.emit(result)
        elif self.current is not None and self.current.on_result is not None:
            self.current.on_result(result)

    def _on_progressed(self, progress: Progress) -> None:
        self.progressed.emit(progress)

    def _on_finished(self) -> None:
        done, self.current = self.current, None
        self.changed.emit()
        if done is not None and done.on_end is not None:
            done.on_end()
        self._next()
