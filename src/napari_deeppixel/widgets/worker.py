"""The only place that starts threads for the window.

The thread knows nothing of Qt: it leaves what it has in a queue, and a timer in the GUI thread
takes it out. So a closed window is never called from a thread, and results without a taker are
dropped.
"""

import queue
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_deeppixel.core.errors import RunCancelled
from napari_deeppixel.core.progress import CancelToken, Progress

ReportProgress = Callable[[Progress], None]
Work = Callable[[CancelToken, ReportProgress], Iterator[Any]]

_POLL_MS = 30
# after so long, the window breathes before the next result is taken
_MAX_HOLD_S = 0.015


@dataclass(frozen=True)
class _Ended:
    error: BaseException | None = None


class BackgroundTask(QObject):
    """Runs one piece of work at a time in a thread.

    Signals
    -------
    yielded
        Each thing that the work yields.
    progressed
        The newest `Progress`, at most once each poll.
    failed
        The exception that ended the work.
    finished
        Always the last: done, failed or cancelled.
    """

    yielded = Signal(object)
    progressed = Signal(object)
    failed = Signal(object)
    finished = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._results: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._latest: list[Progress] = []
        self._cancel = CancelToken()
        self._timer = QTimer(self)
        self._timer.setInterval(_POLL_MS)
        self._timer.timeout.connect(self._on_poll)
        self.is_running = False

    @property
    def is_cancelled(self) -> bool:
        """Whether the work was asked to stop."""
        return self._cancel.is_cancelled

    def start(self, work: Work) -> None:
        """Run the work; `is_running` until `finished`.

        Raises
        ------
        RuntimeError
            If another piece of work is still running.
        """
        if self.is_running:
            raise RuntimeError("a task is running already")
        self.is_running = True
        self._cancel = CancelToken()
        self._results, self._latest = queue.SimpleQueue(), []
        thread = threading.Thread(
            target=_run,
            args=(work, self._cancel, self._results, self._latest),
            daemon=True,
            name="napari-deeppixel",
        )
        thread.start()
        self._timer.start()

    def cancel(self) -> None:
        """Ask the work to stop; `finished` follows."""
        self._cancel.cancel()

    def abandon(self) -> None:
        """Ask the work to stop and drop all that it still gives; no signal follows."""
        self._cancel.cancel()
        self._timer.stop()
        self.is_running = False

    def _on_poll(self) -> None:
        if self._latest:
            self.progressed.emit(self._latest[-1])
        results, until_s = self._results, time.monotonic() + _MAX_HOLD_S
        while self.is_running and results is self._results and time.monotonic() < until_s:
            try:
                result = results.get_nowait()
            except queue.Empty:
                return
            if isinstance(result, _Ended):
                self._timer.stop()
                self.is_running = False
                if result.error is not None:
                    self.failed.emit(result.error)
                self.finished.emit()
            elif not self._cancel.is_cancelled:
                self.yielded.emit(result)


def _run(
    work: Work,
    cancel: CancelToken,
    results: "queue.SimpleQueue[Any]",
    latest: list[Progress],
) -> None:
    def report(progress: Progress) -> None:
        latest[:] = [progress]

    try:
        for result in work(cancel, report):
            results.put(result)
            if cancel.is_cancelled:
                break
        results.put(_Ended())
    except RunCancelled:
        results.put(_Ended())
    except BaseException as error:  # noqa: BLE001  handed to the GUI thread, which shows it
        error.add_note(traceback.format_exc())
        results.put(_Ended(error))


class StepRunner(QObject):
    """Runs an iterator of short steps in the GUI thread, letting the window breathe in between."""

    finished = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._steps: Iterator[None] | None = None
        self._timer = QTimer(self)
        self._timer.setInterval(0)
        self._timer.timeout.connect(self._on_step)

    def run(self, steps: Iterator[None]) -> None:
        """Run these steps, and drop those still left of an earlier call."""
        self._steps = steps
        self._timer.start()

    def stop(self) -> None:
        """Drop the steps that are left."""
        self._timer.stop()
        self._steps = None

    @property
    def is_running(self) -> bool:
        """Whether steps are left."""
        return self._steps is not None

    def _on_step(self) -> None:
        if self._steps is None:
            self._timer.stop()
            return
        try:
            next(self._steps)
        except StopIteration:
            self.stop()
            self.finished.emit()
        except BaseException:
            self.stop()
            raise
