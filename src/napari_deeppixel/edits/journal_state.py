"""How the journal is: what a person is told, and how patient it is."""

import errno
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from napari_deeppixel.core.errors import DeepPixelError

# where waiting for space may help, and the file that is open stays good
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

# what went wrong, what to do
_ADVICE = {
    "full": ("the disk is full", "free space on the disk that holds this folder"),
    "read-only": ("the folder is read-only", "make its disk writable again"),
    "permission": ("you may not write there", "allow it in the folder's permissions"),
    "gone": ("the folder is gone", "bring back its disk or network drive"),
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
    wait_s
        How long a stroke waits, at most, until the system has it.
    """

    sync_s: float = 0.25
    steps: int = 500
    log_bytes: int = 8 * 2**20
    first_pause_s: float = 0.5
    longest_pause_s: float = 10.0
    check_s: float = 2.0
    # a local disk takes 0.1 to 0.5 ms; this bounds what a slow network drive costs
    wait_s: float = 0.02


def is_full(error: Exception) -> bool:
    """Whether an error says that there is no space left."""
    return isinstance(error, OSError) and error.errno in _FULL


def failure_message(error: Exception, folder: Path) -> str:
    """Return what was tried, why it failed, and what to do."""
    kind = _kind(error)
    reason, advice = _ADVICE[kind]
    if kind == "unknown":
        reason = str(error) or type(error).__name__
    if isinstance(error, DeepPixelError):
        reason, advice = str(error), "save the annotations elsewhere"
    return (
        f"Your edits could not be written to {folder}: {reason}. Please {advice}; the edits are "
        "kept in memory and the save is tried again every few seconds."
    )


def _kind(error: Exception) -> str:
    if is_full(error):
        return "full"
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        return "read-only"
    if isinstance(error, PermissionError):
        return "permission"
    # a file where a folder should be, and a network drive that went away, are "gone", too
    is_gone = isinstance(error, FileNotFoundError | NotADirectoryError | FileExistsError)
    if is_gone or (isinstance(error, OSError) and error.errno == errno.ESTALE):
        return "gone"
    return "unknown"
