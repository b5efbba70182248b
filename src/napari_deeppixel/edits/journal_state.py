"""How the journal is: what a person is told, and how patient it is."""

import errno
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from napari_deeppixel.core.errors import DeepPixelError

# where waiting for space may help, and the file that is open stays good
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

# what flock says on a network disk that is mounted without locks
NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS}

# what went wrong, what to do
_ADVICE = {
    "full": ("the disk is full", "free space on the disk that holds this folder"),
    "read-only": ("the folder is read-only", "make its disk writable again"),
    "permission": ("you may not write there", "allow it in the folder's permissions"),
    "gone": ("the folder is gone", "bring back its disk or network drive"),
    "locks": (
        "its disk knows no file locks",
        "switch them on for this network disk, or let NAPARI_DEEPPIXEL_JOURNAL name a local folder",
    ),
    "bug": ("", "save the annotations elsewhere, and report this"),
    "unknown": ("", "look after the disk, and save the annotations elsewhere"),
}


class JournalPhase(StrEnum):
    """How far the journal is behind the session."""

    SAVED = "saved"
    WRITING = "writing"
    FAILED = "failed"
    CLOSED = "closed"


@dataclass(frozen=True, kw_only=True)
class JournalState:
    """What to show of the journal.

    Attributes
    ----------
    message
        What is wrong and what to do about it; empty unless the phase is failed, or it was closed
        with something left over.
    unsaved
        Steps that are in memory only; a power cut would lose them.
    """

    phase: JournalPhase
    message: str = ""
    unsaved: int = 0


@dataclass(frozen=True, kw_only=True)
class JournalPace:
    """How often the journal does what.

    Attributes
    ----------
    sync_s
        Shortest time between two fsyncs, and the longest that a step waits for one.
    steps, log_bytes
        A log that is longer is replaced by a snapshot and a new log.
    first_pause_s, longest_pause_s
        Between two tries to write; each pause is twice the one before.
    check_s
        How often an idle journal sees whether its folder is still there.
    wait_s, short_wait_s
        How long a step waits, at most, until the system has it; the second if the step before it
        waited in vain.
    """

    sync_s: float = 0.25
    steps: int = 500
    log_bytes: int = 8 * 2**20
    first_pause_s: float = 0.5
    longest_pause_s: float = 10.0
    check_s: float = 2.0
    # A local disk takes 0.1 to 0.5 ms, but a busy machine may stop a thread for longer than 20 ms.
    # A drive that does not answer shall not cost each stroke that much.
    wait_s: float = 0.25
    short_wait_s: float = 0.02


def is_full(error: Exception) -> bool:
    """Whether an error says that there is no space left."""
    return isinstance(error, OSError) and error.errno in _FULL


def failure_message(error: Exception, folder: Path) -> str:
    """Return what was tried, why it failed, and what to do."""
    kind = _kind(error)
    reason, advice = _ADVICE[kind]
    if not reason:
        reason = str(error) or type(error).__name__
    if isinstance(error, DeepPixelError):
        reason, advice = str(error), "save the annotations elsewhere"
    return (
        f"Your edits could not be written to {folder}: {reason}. Please {advice}; the edits are "
        "kept in memory and the save is tried again every few seconds."
    )


def missing_message(name: str, error: Exception, folder: Path) -> str:
    """Return which step could not be written down, why, and what becomes of it."""
    return (
        f"The step {name!r} could not be written to {folder}: {error}. It is kept in memory, and "
        "in a snapshot as soon as you go on. Please report this."
    )


def _kind(error: Exception) -> str:
    if not isinstance(error, OSError):
        return "bug"
    if is_full(error):
        return "full"
    if error.errno in NO_LOCKS:
        return "locks"
    if error.errno == errno.EROFS:
        return "read-only"
    if isinstance(error, PermissionError):
        return "permission"
    # a file where a folder should be, and a network drive that went away, are "gone", too
    is_gone = isinstance(error, FileNotFoundError | NotADirectoryError | FileExistsError)
    if is_gone or error.errno == errno.ESTALE:
        return "gone"
    return "unknown"
