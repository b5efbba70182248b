"""Rates and latencies of a running pipeline."""

import math
import threading
import time
from collections import deque
from dataclasses import dataclass

import numpy as np

_WINDOW_S = 2.0
_MAX_LATENCIES = 300


class RateMeter:
    """Counts events, and tells how many a second there were lately."""

    def __init__(self, window_s: float = _WINDOW_S) -> None:
        self._window_s = window_s
        self._times_s: deque[float] = deque()
        self._lock = threading.Lock()
        self.count = 0

    def tick(self, now_s: float | None = None) -> None:
        """Count one event."""
        now_s = time.monotonic() if now_s is None else now_s
        with self._lock:
            self.count += 1
            self._times_s.append(now_s)
            self._forget(now_s)

    def rate(self, now_s: float | None = None) -> float:
        """Return events a second, over the last two seconds; 0 if they have ended, NaN before two.

        Where fewer than two lie in that time, as with a model that takes three seconds, the last
        two count, until twice the time between them is over.
        """
        now_s = time.monotonic() if now_s is None else now_s
        with self._lock:
            self._forget(now_s)
            if len(self._times_s) < 2:
                return math.nan
            silent_s = now_s - self._times_s[-1]
            if silent_s > max(self._window_s, 2 * self._mean_gap_s()):
                return 0.0
            # what came before the pause that lasts until now counts less and less
            span_s = max(self._times_s[-1], now_s - self._mean_gap_s()) - self._times_s[0]
            return (len(self._times_s) - 1) / span_s if span_s > 0 else 0.0

    def forget(self) -> None:
        """Begin anew; the count goes on."""
        with self._lock:
            self._times_s.clear()

    def _mean_gap_s(self) -> float:
        return (self._times_s[-1] - self._times_s[0]) / (len(self._times_s) - 1)

    def _forget(self, now_s: float) -> None:
        while len(self._times_s) > 2 and now_s - self._times_s[0] > self._window_s:
            self._times_s.popleft()


class SpanMeter:
    """Median and 95 % quantile of the newest spans of time."""

    def __init__(self, max_spans: int = _MAX_LATENCIES) -> None:
        self._spans_s: deque[float] = deque(maxlen=max_spans)
        self._lock = threading.Lock()

    def add(self, span_s: float) -> None:
        """Take one span in seconds."""
        with self._lock:
            self._spans_s.append(span_s)

    def forget(self) -> None:
        """Begin anew."""
        with self._lock:
            self._spans_s.clear()

    def quantile(self, share: float) -> float:
        """Return the span in seconds that a share (0 to 1) does not exceed; NaN without any."""
        with self._lock:
            spans = list(self._spans_s)
        return float(np.quantile(spans, share)) if spans else float("nan")


@dataclass(frozen=True, kw_only=True)
class LiveFigures:
    """How a pipeline is doing. Rates a second over the last two seconds, spans in seconds.

    Attributes
    ----------
    camera_fps, model_fps, screen_fps
        Frames that came, results that came, pictures that were drawn; NaN before the second one.
        Those of the model begin anew with another model.
    model_s
        Median time of the model for a frame.
    result_age_s, result_age_95_s
        From the grab of a frame to its instances: median, and what 95 % do not exceed.
    screen_age_s, screen_age_95_s
        From the grab of a frame to the screen.
    num_frames, num_results, num_draws
        Since the start.
    num_skipped
        Frames that the model did not see, because a newer one was there.
    num_failed
        Frames on which the model raised an error.
    model_load
        Share of the time that the model works, 0 to 1; NaN before the second result.
    """

    camera_fps: float
    model_fps: float
    screen_fps: float
    model_s: float
    result_age_s: float
    result_age_95_s: float
    screen_age_s: float
    screen_age_95_s: float
    num_frames: int
    num_results: int
    num_draws: int
    num_skipped: int
    num_failed: int
    model_load: float
