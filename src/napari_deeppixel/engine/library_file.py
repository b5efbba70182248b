"""``library.json``: which model of the library is used, and which were before."""

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import filelock

from napari_deeppixel.core.atomic import atomic_file
from napari_deeppixel.core.errors import WeightsError
from napari_deeppixel.engine.catalogue import DEFAULT_MODEL

FILE_NAME = "library.json"

_VERSION = 1
_LOCK_NAME = "library.lock"
# an import of 200 MB over a network is held no longer
_WAIT_S = 60.0
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS}


@dataclass(frozen=True, kw_only=True)
class LibraryState:
    """What a library remembers.

    Attributes
    ----------
    used
        Name of the model in use.
    history
        Those in use before, the oldest first.
    problem
        What is wrong with the file, in a sentence; empty: nothing.
    is_newer
        Whether a later version of this program wrote the file.
    """

    used: str = DEFAULT_MODEL
    history: tuple[str, ...] = ()
    problem: str = ""
    is_newer: bool = False


def read_state(folder: Path) -> LibraryState:
    """Return what a library's file says; where it is damaged, the default with the problem."""
    path = folder / FILE_NAME
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["version"] > _VERSION:
            return LibraryState(
                problem=f"{path}: of a later version of napari-deeppixel: {DEFAULT_MODEL} is used; "
                "update this program",
                is_newer=True,
            )
        used, history = values["used"], values["history"]
        if not isinstance(history, list) or not all(
            isinstance(name, str) and name for name in (used, *history)
        ):
            raise TypeError("a name is no text")
        return LibraryState(used=used, history=tuple(history))
    except FileNotFoundError:
        return LibraryState()
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return LibraryState(
            problem=f"{path}: cannot be read ({error}), so which model was used is not known: "
            f"{DEFAULT_MODEL} is used until you choose another"
        )


def write_state(folder: Path, state: LibraryState) -> None:
    """Write a library's file, whole or not at all; a damaged one is kept beside it."""
    before = read_state(folder)
    if before.is_newer:
        raise WeightsError(before.problem)
    path = folder / FILE_NAME
    if before.problem:
        path.replace(path.with_suffix(".damaged.json"))
    values = {"version": _VERSION, "used": state.used, "history": list(state.history)}
    with atomic_file(path) as file:
        file.write(json.dumps(values, indent=1).encode())


@contextlib.contextmanager
def library_lock(folder: Path) -> Iterator[None]:
    """Hold the right to change a library, which is made if it is not there.

    Raises
    ------
    WeightsError
        If another process has it for long, or nothing may be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _acquired(folder)
    except filelock.Timeout as error:
        raise WeightsError(
            f"{folder}: another program has been changing the models for {_WAIT_S:g} s; try again "
            "when it is done"
        ) from error
    except OSError as error:
        raise WeightsError(
            f"{folder}: the folder of models cannot be written to ({error.strerror or error}); "
            "free some space, or set NAPARI_DEEPPIXEL_MODELS to another folder"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _acquired(folder: Path) -> filelock.BaseFileLock:
    path = folder / _LOCK_NAME
    # not of one thread: a worker's lock may be released elsewhere
    lock: filelock.BaseFileLock = filelock.FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=_WAIT_S)
        return lock
    except NotImplementedError:
        # how filelock tells of ENOSYS
        pass
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    lock = filelock.SoftFileLock(f"{os.fspath(path)}.soft", thread_local=False)
    lock.acquire(timeout=_WAIT_S)
    return lock
