"""What the GUI thread hands to the threads of a journal, and how it stands; for all of them."""

import logging
import threading
from collections import deque
from typing import TypeAlias

from psygnal import EmitLoopError, Signal

from napari_deeppixel.edits.journal_state import JournalPace, JournalPhase, JournalState
from napari_deeppixel.edits.record import Record
from napari_deeppixel.edits.session import Applied
from napari_deeppixel.edits.snapshot_file import Snapshot

_LOGGER = logging.getLogger(__name__)

# to encode an instance with a new mask of 24 x 24 pixels (measured 2026-11; 3 µs without a mask)
_CHANGE_S = 25e-6
# 40,000 of them; the rest is not waited for
_MAX_WORK_S = 1.0
_REBUILD_S = 1.0

Numbered: TypeAlias = tuple[int, Record]


class JournalQueue:
    """Records on their way to the disk.

    Parameters
    ----------
    base
        The session as it is now.
    pace
        How often to do what.

    Attributes
    ----------
    state_changed
        Signal: `JournalState` when its phase or message changes, in a thread of the journal.
    """

    state_changed = Signal(object)

    def __init__(self, *, base: Snapshot, pace: JournalPace) -> None:
        self._pace = pace
        # all below is read and written while this is held
        self._news = threading.Condition()
        self._pending: deque[Numbered | Snapshot] = deque()
        # from these, all can be written anew
        self._base, self._since_base = base, list[Numbered]()
        self._steps_since_base = 0
        self._is_log_long = False
        # numbers of the newest records that were put, that the system has, that the disk has
        self._put = self._written = self._synced = base.number
        self._must_rebuild = True
        self._failures: dict[str, str] = {}
        self._is_slow = False
        self._is_closed = False
        self._announced = self.state

    @property
    def state(self) -> JournalState:
        """How it stands; for any thread."""
        with self._news:
            unsaved = self._put - self._synced
            message = next(iter(self._failures.values()), "")
            if self._is_closed:
                phase = JournalPhase.CLOSED
            elif message:
                phase = JournalPhase.FAILED
            elif unsaved or self._must_rebuild:
                phase = JournalPhase.WRITING
            else:
                phase = JournalPhase.SAVED
            return JournalState(phase=phase, message=message, unsaved=unsaved)

    @property
    def wants_base(self) -> bool:
        """Whether the log is long enough to begin anew with a snapshot."""
        with self._news:
            return self._steps_since_base >= self._pace.steps or self._is_log_long

    @property
    def num_in_memory(self) -> int:
        """Records that are kept, to be written or to be written anew."""
        with self._news:
            return len(self._pending) + len(self._since_base)

    def put(self, record: Record) -> None:
        """Take what happened; returns at once."""
        with self._news:
            self._put += 1
            self._pending.append((self._put, record))
            self._steps_since_base += isinstance(record, Applied)
            self._news.notify_all()

    def put_base(self, base: Snapshot) -> None:
        """Take the session as it is after the newest record; returns at once."""
        with self._news:
            self._pending.append(base)
            self._steps_since_base = 0
            self._is_log_long = False
            self._news.notify_all()

    @property
    def number(self) -> int:
        """Of the newest record."""
        with self._news:
            return self._put

    def wait_until_written(self, num_changes: int = 1) -> None:
        """Wait until the system has all, unless something is wrong.

        Mostly for a millisecond; a step with many changes takes longer, and is waited for longer.
        """
        pace = self._pace
        work_s = min(num_changes * _CHANGE_S, _MAX_WORK_S)

        def is_over() -> bool:
            is_there = self._written >= self._put
            return is_there or bool(self._failures) or self._is_closed

        with self._news:
            patience_s = min(pace.short_wait_s, pace.wait_s) if self._is_slow else pace.wait_s
            self._news.wait_for(is_over, patience_s + work_s)
            if not is_over() and self._must_rebuild:
                # the disk failed once, and all is being written anew: that is seldom, and takes a
                # few fsyncs
                self._news.wait_for(is_over, _REBUILD_S)
                return
            self._is_slow = not is_over()

    def flush(self, timeout_s: float) -> bool:
        """Return whether the disk has all that was put so far, waiting for it at most so long."""
        with self._news:
            goal = self._put

            def is_there() -> bool:
                return self._synced >= goal and not self._must_rebuild

            self._news.wait_for(lambda: is_there() or self._is_closed, timeout_s)
            return is_there()

    # -- telling ----------------------------------------------------------------------------------

    def _note_success(self, what: str) -> None:
        with self._news:
            self._failures.pop(what, None)
        self._announce()

    def _announce(self) -> None:
        state = self.state
        with self._news:
            is_news = (state.phase, state.message) != (
                self._announced.phase,
                self._announced.message,
            )
            self._announced = state
        if is_news:
            try:
                self.state_changed.emit(state)
            except EmitLoopError:
                _LOGGER.exception("a listener to the journal's state failed")
