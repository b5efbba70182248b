"""The thread that makes the logs of a journal survive a power cut.

It does nothing else: a snapshot may take seconds to reach the disk, and a step must not wait for
that.
"""

import math
import threading
import time
from collections.abc import Callable

from napari_deeppixel.edits.journal_files import JournalFolder, LogFile, OwnFiles
from napari_deeppixel.edits.journal_queue import JournalQueue
from napari_deeppixel.edits.journal_state import JournalPace
from napari_deeppixel.edits.snapshot_file import Snapshot


class JournalSyncer(JournalQueue):
    """Holds the logs of a journal, and syncs what is written to them.

    Parameters
    ----------
    folder
        Where they lie.
    base, pace
        As for `JournalQueue`.
    clock
        Time in seconds.
    """

    def __init__(
        self,
        *,
        folder: JournalFolder,
        base: Snapshot,
        pace: JournalPace,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(base=base, pace=pace)
        self._folder, self._clock = folder, clock
        self._own = OwnFiles()
        self._log: LogFile | None = None
        self._next_log: LogFile | None = None
        self._old_logs: list[LogFile] = []
        self._last_sync = -math.inf
        self._has_written_all = False
        self._is_to_be_deleted = False
        self._syncing = threading.Thread(
            target=self._sync_until_stopped, name="deeppixel-journal-syncer", daemon=True
        )

    def _sync_until_stopped(self) -> None:
        while self._wait_for_sync():
            try:
                self.sync_logs()
            except Exception as error:  # noqa: BLE001  the next step wants to be synced as well
                self._note_failure("sync", error)

    def _wait_for_sync(self) -> bool:
        with self._news:
            while not self._has_written_all:
                left_s = self.sync_due() - self._clock()
                if left_s <= 0:
                    return True
                self._news.wait(None if math.isinf(left_s) else left_s)
            return not math.isinf(self.sync_due())

    def sync_due(self) -> float:
        """Return when the logs are to be synced, in time of the clock; infinite if never."""
        with self._news:
            has_unsynced = self._written > self._synced or bool(self._old_logs)
            if self._must_rebuild or self._is_to_be_deleted or not has_unsynced:
                return math.inf
            return self._clock() if self._has_written_all else self._last_sync + self._pace.sync_s

    def sync_logs(self) -> None:
        """Return once the disk has all that was written before.

        Raises
        ------
        OSError
            If it has not; then all is written anew.
        """
        with self._news:
            self._last_sync = self._clock()
            target, old_logs, log = self._written, list(self._old_logs), self._log
        try:
            self._sync([*old_logs, log] if log is not None else old_logs)
        except Exception:
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

    def _note_failure(self, what: str, error: Exception) -> None:
        """Remember what went wrong, and choose how to go on."""
        raise NotImplementedError
