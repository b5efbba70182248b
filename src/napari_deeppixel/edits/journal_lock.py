"""The right to write in a journal's folder."""

import contextlib
import os
import socket
from datetime import datetime
from pathlib import Path
from types import ModuleType
from uuid import uuid4

import filelock

from napari_deeppixel.edits.journal_files import JournalLockedError, now_text, read_json, write_json
from napari_deeppixel.edits.journal_state import NO_LOCKS

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows, whose locks network disks know
    fcntl = None


class FolderLock:
    """The right to write in a journal's folder; the system takes it back when the process dies.

    On a disk without locks, a file stands for it, which `filelock` takes away where its process
    is dead: it must be of this computer.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock: filelock.BaseFileLock | None = None
        self._file_id: tuple[int, int] | None = None

    @property
    def is_held(self) -> bool:
        """Whether the right is still there; it goes with the folder."""
        return self._file_id is not None and self._file_id == self._id_on_disk()

    def acquire(self) -> bool:
        """Take the right, and return whether it was not held; make the folder where it is gone.

        Raises
        ------
        JournalLockedError
            If another window has it.
        OSError
            If the folder cannot be made or written to.
        """
        if self.is_held:
            return False
        # the folder went, and with it the lock that others see
        self.release()
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock = self._taken()
        except filelock.Timeout:
            raise JournalLockedError(self._who_has_it()) from None
        self._file_id = self._id_on_disk()
        owner = {"process": os.getpid(), "host": socket.gethostname(), "since": now_text()}
        write_json(self._folder / "owner.json", owner)
        return True

    def _taken(self) -> filelock.BaseFileLock:
        # asked for first: filelock tells it as a lock that somebody has, or as an error, or not at
        # all, as its version and the error may be
        if _lacks_locks(self._folder):
            kind, name = filelock.SoftFileLock, "lock.soft"
        else:
            kind, name = filelock.FileLock, "lock"
        # not of one thread: the writer gives it back
        lock = kind(self._folder / name, thread_local=False)
        lock.acquire(timeout=0)
        return lock

    def release(self) -> None:
        """Give the right back, if it is held."""
        if self._file_id is None or self._lock is None:
            return
        if self.is_held:
            with contextlib.suppress(OSError):
                (self._folder / "owner.json").unlink(missing_ok=True)
        self._file_id = None
        self._lock.release(force=True)

    def _id_on_disk(self) -> tuple[int, int] | None:
        if self._lock is None:
            return None
        try:
            status = os.stat(self._lock.lock_file)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _who_has_it(self) -> str:
        owner = read_json(self._folder / "owner.json")
        here = socket.gethostname()
        host = owner.get("host", here)
        place = "another window" if host == here else f"another window on {host}"
        if host == here and owner.get("process") == os.getpid():
            place = "this napari"
        since = _to_the_minute(str(owner.get("since", "")))
        return f"this image is being edited in {place}{since}: close it there, or press Edit here"


def _lacks_locks(folder: Path) -> bool:
    """Return whether the disk of a folder refuses locks.

    Raises
    ------
    OSError
        If nothing can be written there.
    """
    if fcntl is None:
        return False
    # not the lock itself: another window may ask for it at this moment
    path = folder / f".lock-{uuid4().hex[:8]}.{os.getpid()}.part"
    try:
        with path.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in NO_LOCKS:
            return True
        raise
    finally:
        path.unlink(missing_ok=True)
    return False


def _to_the_minute(when: str) -> str:
    try:
        local = datetime.fromisoformat(when).astimezone()
    except ValueError:
        return ""
    return f" since {local:%H:%M} ({local:%Y-%m-%d})"
