"""The two threads that bring what happens to a session onto the disk.

One hands each step to the system as soon as it comes: from then on it survives the death of this
process. The other makes it survive a power cut (fsync) and writes snapshots. They are two because
both of the latter take long at times, and a step must not wait for them.

In memory stay the newest snapshot and all steps since: from these, everything is written anew when
the folder is gone or a file has gone bad.
"""

import contextlib
import logging
import math
import threading
import time
from collections.abc import Mapping
from typing import Any

from napari_deeppixel.edits.journal_files import FolderLock, JournalFolder, LogFile, write_json
from napari_deeppixel.edits.journal_queue import JournalQueue, Numbered
from napari_deeppixel.edits.journal_state import (
    JournalPace,
    failure_message,
    is_full,
)
from napari_deeppixel.edits.record import encode_record, framed, gently
from napari_deeppixel.edits.recovery import RecoveryError, RecoveryReport, summarise
from napari_deeppixel.edits.snapshot_file import Snapshot, write_snapshot

_LOGGER = logging.getLogger(__name__)

# between two tries while the journal is being closed
_LAST_TRIES_S = 0.1


class JournalWriter(JournalQueue):
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
    pace
        How often to do what.
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
    ) -> None:
        super().__init__(base=base, pace=pace)
        self._folder, self._lock, self._about = folder, lock, dict(about)
        self._recovered = recovered
        self._generation = 0
        self._log: LogFile | None = None
        self._next_log: LogFile | None = None
        self._old_logs: list[LogFile] = []
        self._snapshot_due: Snapshot | None = None
        self._snapshot_not_before = 0.0
        self._last_sync = 0.0
        self._stop_at: float | None = None
        self._is_to_be_deleted = False
        self._has_written_all = False
        self._threads = [
            threading.Thread(target=target, name=name, daemon=True)
            for target, name in (
                (self._write_until_stopped, "deeppixel-journal-writer"),
                (self._keep_until_stopped, "deeppixel-journal-keeper"),
            )
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
            self._stop_at = time.monotonic() + timeout_s
            self._is_to_be_deleted |= deletes
            self._news.notify_all()
            self._news.wait_for(lambda: self._is_closed, timeout_s + _LAST_TRIES_S)
            return self._is_closed and self._synced >= self._put

    # -- writing ----------------------------------------------------------------------------------

    def _write_until_stopped(self) -> None:
        pause_s = self._pace.first_pause_s
        while self._wait_for_work():
            try:
                self._write_next()
            except Exception as error:  # noqa: BLE001  a dead writer would lose all that follows
                self._note_failure("log", error)
                self._pause(pause_s)
                pause_s = min(2 * pause_s, self._pace.longest_pause_s)
            else:
                pause_s = self._pace.first_pause_s
                self._note_success("log")
        with self._news:
            self._has_written_all = True
            self._news.notify_all()

    def _wait_for_work(self) -> bool:
        with self._news:
            self._news.wait_for(lambda: self._has_work() or self._stop_at is not None)
            is_late = self._stop_at is not None and time.monotonic() > self._stop_at
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

    def _write_next(self) -> None:
        if self._must_rebuild or self._log is None:
            self._rebuild()
            return
        with self._news:
            item = self._pending[0]
        if isinstance(item, Snapshot):
            self._roll(item)
            return
        self._log.append(_line(item))
        with self._news:
            self._pending.popleft()
            self._since_base.append(item)
            self._written = item[0]
            # a second time only after a snapshot has come, or each step would ask for one
            is_long = self._log.length > self._pace.log_bytes
            self._is_log_long |= is_long and not any(isinstance(i, Snapshot) for i in self._pending)
            self._news.notify_all()

    def _roll(self, base: Snapshot) -> None:
        """Go on in a new log; the other thread writes the snapshot that it follows."""
        with self._news:
            log, self._next_log = self._next_log, None
        if log is None:
            log = LogFile(self._folder.log(self._generation + 1))
        with self._news:
            self._generation += 1
            if self._log is not None:
                self._old_logs.append(self._log)
            self._log = log
            self._pending.popleft()
            self._base, self._since_base = base, []
            self._snapshot_due = base
            self._news.notify_all()

    def _rebuild(self) -> None:
        """Write everything anew, from memory; for the first time at the start."""
        self._lock.acquire()
        self._make_room()
        self._skip_to_newest_base()
        generation = max(self._generation, self._folder.newest) + 1
        with self._news:
            self._generation = generation
        write_json(self._folder.about, self._about)
        write_snapshot(self._folder.snapshot(generation), self._base, in_between=lambda: None)
        log = LogFile(self._folder.log(generation))
        try:
            for item in self._since_base:
                log.append(_line(item))
            log.sync()
        except BaseException:
            log.close()
            raise
        with self._news:
            self._old_logs += [old for old in (self._log, self._next_log) if old is not None]
            self._log, self._next_log = log, None
            self._written = self._since_base[-1][0] if self._since_base else self._base.number
            self._synced = self._written
            self._must_rebuild = False
            self._snapshot_due = None
            self._failures.clear()
            self._news.notify_all()
        self._remove_before(generation)

    def _remove_before(self, generation: int) -> None:
        # what stays does no harm: the newest snapshot counts
        with contextlib.suppress(OSError):
            self._folder.remove_before(generation)

    def _make_room(self) -> None:
        """Set aside what somebody else left in the folder."""
        if self._generation:
            # the log that lies ready for the next generation is ours, too
            if self._folder.newest > self._generation + 1:
                self._folder.set_aside()
            return
        contents, recovered = self._folder.contents(), self._recovered
        if recovered is not None and recovered.contents == contents:
            is_missed = bool(recovered.damage)
        else:
            is_missed = bool(contents) and self._is_anything_missed()
        if is_missed:
            self._folder.set_aside()

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
                self._sync_when_due()
                self._write_snapshot_when_due()
                self._see_whether_it_is_there()
                self._lay_next_log_ready()
            except Exception as error:  # noqa: BLE001  as above
                self._note_failure("keeping", error)
        self._end()

    def _wait_for_keeping(self) -> bool:
        with self._news:
            next_check = time.monotonic() + self._pace.check_s
            while not self._has_written_all:
                left_s = min(self._next_due(), next_check) - time.monotonic()
                if left_s <= 0:
                    return True
                self._news.wait(left_s)
            return self._next_due() <= time.monotonic()

    def _next_due(self) -> float:
        """Return when there is something to sync or to write, in time of the monotonic clock."""
        if self._must_rebuild or self._is_to_be_deleted:
            return math.inf
        has_unsynced = self._written > self._synced or bool(self._old_logs)
        sync_at = 0.0 if self._has_written_all else self._last_sync + self._pace.sync_s
        return min(
            sync_at if has_unsynced else math.inf,
            math.inf if self._snapshot_due is None else self._snapshot_not_before,
        )

    def _sync_when_due(self) -> None:
        now = time.monotonic()
        with self._news:
            sync_at = 0.0 if self._has_written_all else self._last_sync + self._pace.sync_s
            has_unsynced = self._written > self._synced or bool(self._old_logs)
            if self._must_rebuild or now < sync_at or not has_unsynced:
                return
            self._last_sync = now
            target, old_logs, log = self._written, list(self._old_logs), self._log
        try:
            self._sync([*old_logs, log] if log is not None else old_logs)
        except OSError:
            # nobody knows what the disk has now, even if the next fsync succeeds
            with self._news:
                self._must_rebuild = True
            raise
        with self._news:
            if log is self._log and not self._must_rebuild:
                self._synced = max(self._synced, target)
            self._old_logs = [each for each in self._old_logs if each not in old_logs]
            self._news.notify_all()
        for each in old_logs:
            each.close()
        self._announce()

    def _sync(self, logs: list[LogFile]) -> None:
        for log in logs:
            if log.is_in_place():
                log.sync()
            else:
                self._refuse_to_lose(log)

    def _refuse_to_lose(self, log: LogFile) -> None:
        """Raise if a log that is not in its folder should be; old ones go with a snapshot."""
        with self._news:
            is_needed = log is self._log and not self._must_rebuild
        if is_needed:
            raise FileNotFoundError(f"{self._folder.path} is gone")

    def _write_snapshot_when_due(self) -> None:
        with self._news:
            snapshot, generation = self._snapshot_due, self._generation
            is_early = time.monotonic() < self._snapshot_not_before
        if snapshot is None or is_early:
            return
        path = self._folder.snapshot(generation)
        write_snapshot(path, snapshot, in_between=self._sync_when_due)
        # the log that follows it must be there, too, before what it replaces goes
        with self._news:
            self._last_sync = 0.0
            if self._snapshot_due is snapshot:
                self._snapshot_due = None
        self._sync_when_due()
        self._remove_before(generation)
        self._note_success("keeping")

    def _see_whether_it_is_there(self) -> None:
        with self._news:
            log = self._log
        if log is not None and not log.is_in_place():
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
            if self._is_to_be_deleted and self._generation:
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
        """Remember what went wrong, and choose how to go on: try again, or write all anew."""
        message = failure_message(error, self._folder.path)
        if not isinstance(error, OSError):
            _LOGGER.error("journal in %s", self._folder.path, exc_info=error)
        with self._news:
            self._failures[what] = message
            self._snapshot_not_before = time.monotonic() + self._pace.longest_pause_s / 2
            # after an fsync that failed, nobody knows what the disk has
            has_new_base = any(isinstance(item, Snapshot) for item in self._pending)
            self._must_rebuild |= not is_full(error) or has_new_base
            self._news.notify_all()
        self._announce()


def _line(item: Numbered) -> bytes:
    number, record = item
    return framed(b"".join(gently(encode_record(record, number=number))))
