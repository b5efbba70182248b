"""The right to write in a dataset: one process at a time, on any disk."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

import filelock

from napari_deeppixel.core.errors import AnnotationError

LOCK_NAME = "dataset.lock"
# a merge of categories gives the lock back after each file: nobody holds it for long
WAIT_S = 60.0
_POLL_S = 0.005
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS}


@contextlib.contextmanager
def write_lock(folder: Path, *, wait_s: float = WAIT_S) -> Iterator[None]:
    """Hold the right to write in a dataset's folder; the system takes it from a dead process.

    On a disk without locks a file stands for it, which `filelock` takes away where its process is
    dead.

    Raises
    ------
    AnnotationError
        If another process has it for longer than `wait_s`, the folder is gone, or nothing may be
        written there.
    """
    if not folder.is_dir():
        # filelock would make it: an empty folder in the place of a disk that was taken out
        raise AnnotationError(f"{folder}: the dataset is gone; put it back, or its disk in")
    if (folder / LOCK_NAME).is_symlink():
        # whoever opens it to write would empty the file that it leads to
        raise AnnotationError(f"{folder / LOCK_NAME}: a link; remove it")
    lock = _acquired(folder, wait_s)
    try:
        yield
    finally:
        lock.release()


def _acquired(folder: Path, wait_s: float) -> filelock.BaseFileLock:
    try:
        return _take(filelock.FileLock, folder / LOCK_NAME, wait_s)
    except filelock.Timeout as error:
        raise AnnotationError(
            f"{folder}: another program has been writing for {wait_s:g} s; try again when it is "
            "done"
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise AnnotationError(
                f"{folder}: cannot be written to ({error.strerror or error})"
            ) from error
    except NotImplementedError:
        # how filelock tells of ENOSYS
        pass
    try:
        return _take(filelock.SoftFileLock, folder / f"{LOCK_NAME}.soft", wait_s)
    except filelock.Timeout as error:
        raise AnnotationError(
            f"{folder}: another program has been writing for {wait_s:g} s; if none runs, remove "
            f"{LOCK_NAME}.soft"
        ) from error


def _take(kind: type[filelock.BaseFileLock], path: Path, wait_s: float) -> filelock.BaseFileLock:
    # a new object each time: two threads of one process keep each other out, too
    lock = kind(path, thread_local=False)
    lock.acquire(timeout=wait_s, poll_interval=_POLL_S)
    return lock
