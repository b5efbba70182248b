"""The threads that bring what happens to a session onto the disk.

One hands each step to the system as soon as it comes: from then on it survives the death of this
process. Another makes it survive a power cut (fsync, see `journal_syncer`), a third one writes
snapshots. They are three because each of these may take long, and the one before must not wait.

In memory stay the newest snapshot and all steps since: from these, everything is written anew when
the folder is gone or a file has gone bad.
"""

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from napari_deeppixel.edits.journal_files import JournalFolder, LogFile, write_json
from napari_deeppixel.edits.journal_lock import FolderLock
from napari_deeppixel.edits.journal_queue import Numbered
from napari_deeppixel.edits.journal_state import (
    JournalPace,
    failure_message,
    is_full,
    missing_message,
)
from napari_deeppixel.edits.journal_syncer import JournalSyncer
from napari_deeppixel.edits.record import StepMissing, encode_record, framed, gently
from napari_deeppixel.edits.recovery import RecoveryError, RecoveryReport, summarise
from napari_deeppixel.edits.session import Applied
from napari_deeppixel.edits.snapshot_file import Snapshot, SnapshotError, write_snapshot

_LOGGER = logging.getLogger(__name__)

# between two tries while the journal is being closed
_LAST_TRIES_S = 0.1


class JournalWriter(JournalSyncer):
    """Takes records from the GUI thread, without waiting, and writes them.

    Parameters
    ----------
    folder, lock
        Where to; the lock is given back at the end.
    base
        The session as it is now.
    about
        What to say about the image, for ``image.json``.
    recovered
        How the session was read from this folder; None if it has nothing to do with what is there,
        which is then set aside.
    pace, clock
        How often to do what, and the time in seconds.
    """

    def __init__(
        self,
        *,
        folder: JournalFolder,
        lock: FolderLock,
        base: Snapshot,
        about: Mapping[str, Any],
        recovered: RecoveryReport | None,
        pace: JournalPace,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(folder=folder, base=base, pace=pace, clock=clock)
        self._lock, self._about = lock, dict(about)
        self._recovered = recovered
        self._generation = 0
        self._snapshot_due: Snapshot | None = None
        self._snapshot_not_before = 0.0
        self._stop_at: float | None = None
        self._newest_missing = 0
        self._threads = [
            self._syncing,
            *(
                threading.Thread(target=target, name=name, daemon=True)
                for target, name in (
                    (self._write_until_stopped, "deeppixel-journal-writer"),
                    (self._keep_until_stopped, "deeppixel-journal-keeper"),
                )
            ),
        ]

    def start(self) -> None:
        """Begin to write."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float, *, deletes: bool = False) -> bool:
        """Write the rest and end; return whether the disk has all.

        Returns after `timeout_s` at the latest. Should a disk not answer, the threads, and with
        them the lock, stay until it does.
        """
        with self._news:
            self._stop_at = self._clock() + timeout_s
            self._is_to_be_deleted |= deletes
            self._news.notify_all()
            self._news.wait_for(lambda: self._is_closed, timeout_s + _LAST_TRIES_S)
            return self._is_closed and self._synced >= self._put

    # -- writing ----------------------------------------------------------------------------------

    def _write_until_stopped(self) -> None:
        pause_s = 0.0
        while self._wait_for_work():
            try:
                self.write_next()
            except Exception as error:  # noqa: BLE001  a dead writer would lose all that follows
                if not pause_s:
                    # an error that passes shall not cost a step: at once, and only then in peace
                    _LOGGER.warning("journal in %s: %s", self._folder.path, error)
                    self._choose_how_to_go_on(error)
                    pause_s = self._pace.first_pause_s
                    continue
                self._note_failure("log", error)
                self._pause(pause_s)
                pause_s = min(2 * pause_s, self._pace.longest_pause_s)
            else:
                pause_s = 0.0
                self._note_success("log")
        with self._news:
            self._has_written_all = True
            self._news.notify_all()

    def _wait_for_work(self) -> bool:
        with self._news:
            self._news.wait_for(lambda: self._has_work() or self._stop_at is not None)
            is_late = self._stop_at is not None and self._clock() > self._stop_at
            is_in_vain = bool(self._failures) and is_late
            return self._has_work() and not is_in_vain and not self._is_to_be_deleted

    def _has_work(self) -> bool:
        return bool(self._pending) or self._must_rebuild

    def _pause(self, pause_s: float) -> None:
        with self._news:
            if self._stop_at is not None:
                pause_s = min(pause_s, _LAST_TRIES_S)
                self._news.wait(pause_s)
            else:
                self._news.wait_for(lambda: self._stop_at is not None, pause_s)

    def write_next(self) -> None:
        """Hand what is next to the system: a step, a new log, or everything anew.

        Raises
        ------
        OSError
            If that failed; nothing is lost in memory.
        """
        if self._must_rebuild or self._log is None:
            self._rebuild()
            return
        with self._news:
            item = self._pending[0]
        if isinstance(item, Snapshot):
            self._roll(item)
            return
        self._log.append(self._line(item))
        with self._news:
            self._pending.popleft()
            self._since_base.append(item)
            self._written = item[0]
            # a second time only after a snapshot has come, or each step would ask for one
            is_long = self._log.length > self._pace.log_bytes
            self._is_log_long |= is_long and not any(isinstance(i, Snapshot) for i in self._pending)
            self._news.notify_all()

    def _line(self, item: Numbered) -> bytes:
        """Return the line of a record, or one that says why there is none."""
        number, record = item
        try:
            return framed(b"".join(gently(encode_record(record, number=number))))
        except Exception as error:  # nobody knows what a session may hold
            _LOGGER.exception("step %d cannot be written down", number)
            name = record.action.name if isinstance(record, Applied) else type(record).__name__
            with self._news:
                self._newest_missing = max(self._newest_missing, number)
                self._failures["record"] = missing_message(name, error, self._folder.path)
                # a snapshot has what the step left behind
                self._is_log_long = True
            lost = StepMissing(name=str(name), reason=str(error))
            return framed(b"".join(encode_record(lost, number=number)))

    def _roll(self, base: Snapshot) -> None:
        """Go on in a new log; the other thread writes the snapshot that it follows."""
        with self._news:
            log, self._next_log = self._next_log, None
        if log is None:
            self._refuse_another_folder()
            log = LogFile(self._folder.log(self._generation + 1))
        if self._log is not None and self._log.is_in_place():
            self._own.note(self._folder.log(self._generation))
        with self._news:
            self._generation += 1
            # one that was laid ready while this one was made is this generation's, not the next
            # one's: what follows the next snapshot would go the way of what is before it
            self._old_logs += [old for old in (self._log, self._next_log) if old is not None]
            self._log, self._next_log = log, None
            self._pending.popleft()
            self._base, self._since_base = base, []
            self._snapshot_due = base
            self._news.notify_all()

    def _refuse_another_folder(self) -> None:
        """Raise if the folder is no longer the one that was locked: another window may have it."""
        if not self._lock.is_held:
            raise FileNotFoundError(f"{self._folder.path} is gone")

    def _rebuild(self) -> None:
        """Write everything anew, from memory; for the first time at the start."""
        self._make_room(is_locked_anew=self._lock.acquire())
        self._skip_to_newest_base()
        # not the one after this one, whose log may be lying ready, or is just being made
        newest_known = self._generation + 1 if self._generation else 0
        generation = max(newest_known, self._folder.newest) + 1
        write_json(self._folder.about, self._about)
        log = self._written_anew(generation)
        with self._news:
            self._old_logs += [old for old in (self._log, self._next_log) if old is not None]
            self._log, self._next_log = log, None
            self._generation = generation
            self._written = self._since_base[-1][0] if self._since_base else self._base.number
            self._synced = self._written
            self._must_rebuild = False
            self._snapshot_due = None
            for what in self._failures.keys() - {"record"}:
                del self._failures[what]
            self._news.notify_all()
        self._note_snapshot(generation, self._base)

    def _written_anew(self, generation: int) -> LogFile:
        """Write a generation; return its log.

        The snapshot comes last: once it is there, all that came before it counts no more. Until
        then, its log only repeats what is in those before it.
        """
        log = LogFile(self._folder.log(generation))
        try:
            for item in self._since_base:
                log.append(self._line(item))
            log.sync()
            write_snapshot(self._folder.snapshot(generation), self._base)
        except BaseException:
            log.close()
            # with a disk that is full, one such try after the other would pile up
            with contextlib.suppress(OSError):
                self._folder.remove_generation(generation)
            raise
        return log

    def _note_snapshot(self, generation: int, base: Snapshot) -> None:
        """Remove what a snapshot on the disk has made superfluous."""
        self._own.note(self._folder.snapshot(generation))
        with self._news:
            if base.number >= self._newest_missing:
                self._failures.pop("record", None)
        # what stays does no harm: the newest snapshot counts
        with contextlib.suppress(OSError):
            if self._lock.is_held:
                self._folder.remove_before(self._folder.before(generation))

    def _make_room(self, *, is_locked_anew: bool) -> None:
        """Set aside what somebody else left in the folder."""
        if self._generation:
            if is_locked_anew:
                logs = [log for log in (self._log, self._next_log, *self._old_logs) if log]
                self._folder.set_aside(self._own.are_not_ours(self._folder, logs))
            return
        contents, recovered = self._folder.contents(), self._recovered
        if recovered is not None and recovered.contents == contents:
            if recovered.damage:
                self._folder.set_aside()
        elif contents and self._is_anything_missed():
            self._folder.set_aside()
        else:
            # the numbers of its steps are not ours
            self._folder.remove_before(self._folder.newest + 1)

    def _is_anything_missed(self) -> bool:
        try:
            return summarise(self._folder.path) is not None
        except RecoveryError:
            return True

    def _skip_to_newest_base(self) -> None:
        """Forget what a snapshot in memory has made superfluous, so that memory stays flat."""
        with self._news:
            while any(isinstance(item, Snapshot) for item in self._pending):
                item = self._pending.popleft()
                if isinstance(item, Snapshot):
                    self._base, self._since_base = item, []

    # -- keeping ----------------------------------------------------------------------------------

    def _keep_until_stopped(self) -> None:
        while self._wait_for_keeping():
            try:
                self._write_snapshot_when_due()
                self._see_whether_it_is_there()
                self._lay_next_log_ready()
            except Exception as error:  # noqa: BLE001  as above
                self._note_failure("keeping", error)
        self._syncing.join()
        self._end()

    def _wait_for_keeping(self) -> bool:
        with self._news:
            next_check = self._clock() + self._pace.check_s
            while not self._has_written_all:
                left_s = min(self._snapshot_at(), next_check) - self._clock()
                if left_s <= 0:
                    return True
                self._news.wait(left_s)
            return self._snapshot_at() <= self._clock()

    def _snapshot_at(self) -> float:
        """Return when there is a snapshot to write, in time of the clock; infinite if never."""
        is_due = self._snapshot_due is not None
        if self._must_rebuild or self._is_to_be_deleted or not is_due:
            return math.inf
        return self._snapshot_not_before

    def _write_snapshot_when_due(self) -> None:
        with self._news:
            snapshot, generation = self._snapshot_due, self._generation
            is_early = self._snapshot_at() > self._clock()
        if snapshot is None or is_early:
            return
        self._refuse_another_folder()
        try:
            write_snapshot(self._folder.snapshot(generation), snapshot)
        except SnapshotError:
            # it will not do the next time either; the logs have all of it
            self._forget_snapshot(snapshot)
            raise
        self._forget_snapshot(snapshot)
        self._note_snapshot(generation, snapshot)
        self._note_success("keeping")

    def _forget_snapshot(self, snapshot: Snapshot) -> None:
        with self._news:
            if self._snapshot_due is snapshot:
                self._snapshot_due = None

    def _see_whether_it_is_there(self) -> None:
        with self._news:
            log = self._log
        if log is not None and not (log.is_in_place() and self._lock.is_held):
            self._refuse_to_lose(log)

    def _lay_next_log_ready(self) -> None:
        """Make the next log in time: on a busy disk a new file took up to half a second.

        The one who writes the steps makes it only if there is none.
        """
        with self._news:
            generation = self._generation + 1
            is_wanted = self._next_log is None and not self._must_rebuild
        if not is_wanted or self._stop_at is not None:
            return
        with contextlib.suppress(OSError):
            self._refuse_another_folder()
            log = LogFile(self._folder.log(generation))
            with self._news:
                if self._generation + 1 == generation and not self._must_rebuild:
                    self._next_log = log
                else:
                    self._old_logs.append(log)

    def _end(self) -> None:
        try:
            for log in (*self._old_logs, self._log, self._next_log):
                if log is not None:
                    log.close()
            if self._is_to_be_deleted and self._generation and self._lock.is_held:
                self._folder.remove_before(self._folder.newest + 1)
        except OSError as error:
            self._note_failure("keeping", error)
        finally:
            with contextlib.suppress(OSError):
                self._lock.release()
            with self._news:
                self._is_closed = True
                self._news.notify_all()
            self._announce()

    def _note_failure(self, what: str, error: Exception) -> None:
        message = failure_message(error, self._folder.path)
        if not isinstance(error, OSError):
            _LOGGER.error("journal in %s", self._folder.path, exc_info=error)
        with self._news:
            self._failures[what] = message
            self._snapshot_not_before = self._clock() + self._pace.longest_pause_s / 2
            self._choose_how_to_go_on(error)
        self._announce()

    def _choose_how_to_go_on(self, error: Exception) -> None:
        """Try again, or write all anew."""
        with self._news:
            has_new_base = any(isinstance(item, Snapshot) for item in self._pending)
            is_of_session = isinstance(error, SnapshotError)
            is_file_good = is_full(error) and not has_new_base
            self._must_rebuild |= not (is_file_good or is_of_session)
            self._news.notify_all()
