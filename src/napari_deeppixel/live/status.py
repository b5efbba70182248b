"""Where a live source is, in words that a person can act on."""

from dataclasses import dataclass
from enum import StrEnum


class LiveState(StrEnum):
    """What a source is doing."""

    IDLE = "idle"
    OPENING = "opening"
    LIVE = "live"
    STALLED = "stalled"
    RECONNECTING = "reconnecting"
    STOPPED = "stopped"
    ENDED = "ended"
    FAILED = "failed"

    @property
    def is_over(self) -> bool:
        """Whether no frame will come any more."""
        return self in (LiveState.IDLE, LiveState.STOPPED, LiveState.ENDED, LiveState.FAILED)


@dataclass(frozen=True, kw_only=True)
class LiveStatus:
    """State of a source.

    Attributes
    ----------
    state
        What it is doing.
    message
        Why, and what to do about it; empty if there is nothing to say.
    attempt
        Which try to open it again is under way: 1, 2, …; 0 while nothing went wrong.
    """

    state: LiveState
    message: str = ""
    attempt: int = 0
