"""When the frames of a file are due."""

import time
from collections.abc import Callable


class Pace:
    """Tells how long to wait before each frame, so that a file runs as it was recorded.

    Who comes late gets the frames that are due at once, and none is left out.

    Parameters
    ----------
    fps
        Frames a second; None: as their stamps say.
    usual_fps
        The rate of frames without a stamp, or with one that goes back.
    longest_s
        Longest wait; longer ones are cut, as in a time lapse with a frame a minute.
    now_s
        The clock.
    """

    def __init__(
        self,
        *,
        fps: float | None = None,
        usual_fps: float = 25.0,
        longest_s: float = 5.0,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interval_s = 1 / (fps or usual_fps)
        self._has_stamps, self._longest_s, self._now_s = fps is None, longest_s, now_s
        self._stamp_s: float | None = None
        self._due_s: float | None = None

    def wait_s(self, stamp_s: float | None) -> float:
        """Return how long to wait for the next frame; 0 if it is due."""
        now_s = self._now_s()
        if self._due_s is None:
            self._due_s = now_s
        else:
            self._due_s += self._step_s(stamp_s)
        self._stamp_s = stamp_s
        # a later frame keeps its distance to this one
        self._due_s = min(self._due_s, now_s + self._longest_s)
        return max(0.0, self._due_s - now_s)

    def _step_s(self, stamp_s: float | None) -> float:
        if self._has_stamps and stamp_s is not None and self._stamp_s is not None:
            step_s = stamp_s - self._stamp_s
            if step_s >= 0:
                return step_s
        return self._interval_s
