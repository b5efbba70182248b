"""How long tasks tell where they are, and how they are told to stop."""

import threading
from dataclasses import dataclass

from napari_deeppixel.core.errors import RunCancelled


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One step of a long task.

    Attributes
    ----------
    fraction
        Share of the work that is done, 0 to 1.
    message
        What is being done now, for a person.
    """

    fraction: float
    message: str = ""


class CancelToken:
    """A flag that one thread sets and the working thread looks at."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Ask the task to stop at its next step."""
        self._event.set()

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody asked to stop."""
        return self._event.is_set()

    def raise_if_cancelled(self) -> None:
        """Stop here when asked to.

        Raises
        ------
        RunCancelled
            If `cancel` was called.
        """
        if self.is_cancelled:
            raise RunCancelled


def duration(seconds: float) -> str:
    """Return a span of time for a person: ``8 s``, ``3 min``, ``1 h 20 min``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
