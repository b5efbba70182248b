"""Which live frames are worth keeping, to be corrected and learnt from."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.live.result import LiveResult

# an instance whose score is so little above the shown one might as well be hidden
_NEAR_SCORE = 0.1
# from here on half of the instances were wrong: table of `edits.uncertainty`, measured on `nuclei`
_UNSURE_EDGE = 0.43
# a histogram needs no more pixels than this
_MAX_SAMPLED = 1 << 14
_BINS = 64
# What counts as 1: a quarter of the range in brightness, four times the size, four times as many.
# Judgement, not measured.
_BRIGHTNESS_STEP = 0.25
_DOUBLINGS = 2.0


@dataclass(frozen=True, kw_only=True)
class CapturePolicy:
    """Which frames to keep.

    Attributes
    ----------
    kind
        ``uncertain``: the model doubts many of its instances. ``novel``: the frame is unlike all
        that were kept. ``interval``: one every so often.
    every_s
        Seconds between frames of ``interval``.
    threshold
        0 to 1. ``uncertain``: share of the instances that are in doubt. ``novel``: distance to
        the nearest frame that was kept; 1 is a quarter of the range in brightness, or four times
        the size or number of instances.
    limit
        Frames in all.
    min_gap_s
        Least seconds between two frames of any kind.

    Raises
    ------
    ValueError
        If a number is out of its range.
    """

    kind: Literal["uncertain", "novel", "interval"]
    every_s: float = 10.0
    threshold: float = 0.5
    limit: int = 100
    min_gap_s: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in ("uncertain", "novel", "interval"):
            raise ValueError(f"kind must be uncertain, novel or interval, got {self.kind!r}")
        if not self.every_s > 0 or not self.min_gap_s >= 0:
            raise ValueError(
                f"every_s must be above 0 and min_gap_s not below, got {self.every_s} and "
                f"{self.min_gap_s}"
            )
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold must lie above 0 and up to 1, got {self.threshold}")
        if self.limit < 1:
            raise ValueError(f"limit must be 1 or more, got {self.limit}")


class AutoCapture:
    """Decides frame by frame, by a policy; use it from one thread.

    Parameters
    ----------
    policy
        Which frames to keep.
    shown_score
        Instances below are not shown; may be set at any time.

    Attributes
    ----------
    num_captured
        Frames that were to be kept so far.
    """

    def __init__(self, policy: CapturePolicy, *, shown_score: float = 0.5) -> None:
        self.policy, self.shown_score = policy, shown_score
        self.num_captured = 0
        self._last_s = -np.inf
        self._range: tuple[float, float] | None = None
        self._seen: list[_Look] = []

    @property
    def is_full(self) -> bool:
        """Whether the limit is reached."""
        return self.num_captured >= self.policy.limit

    def decide(self, result: LiveResult) -> str | None:
        """Return why a frame is worth keeping, for people, and count it; None if it is not."""
        now_s = result.frame.grabbed_s
        if self.is_full or now_s - self._last_s < self.policy.min_gap_s:
            return None
        if self.policy.kind == "interval":
            reason = self._by_time(now_s)
        elif self.policy.kind == "uncertain":
            reason = self._by_doubt(result)
        else:
            reason = self._by_look(result)
        if reason is not None:
            self.num_captured += 1
            self._last_s = now_s
        return reason

    def _by_time(self, now_s: float) -> str | None:
        is_due = now_s - self._last_s >= self.policy.every_s
        return f"every {self.policy.every_s:g} s" if is_due else None

    def _by_doubt(self, result: LiveResult) -> str | None:
        is_doubtful = doubtful(result, self.shown_score)
        count, total = int(is_doubtful.sum()), is_doubtful.size
        if not total or count / total < self.policy.threshold:
            return None
        return f"{count} of {total} instances in doubt"

    def _by_look(self, result: LiveResult) -> str | None:
        if self._range is None:
            self._range = _value_range(result.frame.pixels)
        look = _look(result, self._range)
        if not self._seen:
            reason: str | None = "the first frame"
        else:
            nearest = min((look.differences(seen) for seen in self._seen), key=_largest)
            name = max(nearest, key=nearest.__getitem__)
            reason = f"new {name}" if nearest[name] >= self.policy.threshold else None
        if reason is not None:
            self._seen.append(look)
        return reason


def doubtful(result: LiveResult, shown_score: float) -> NDArray[np.bool_]:
    """Return which instances (N,) are hardly above the shown score, or have an unsure edge."""
    instances = result.instances
    # comparisons with NaN (no score, no such number) are False
    is_doubtful: NDArray[np.bool_] = (instances.scores < shown_score + _NEAR_SCORE) | (
        instances.edge_uncertainties >= _UNSURE_EDGE
    )
    return is_doubtful


@dataclass(frozen=True, kw_only=True, eq=False)
class _Look:
    """What a frame looks like, in a few numbers."""

    frame: NDArray[np.float64]
    instances: NDArray[np.float64] | None
    log_size: float
    log_count: float

    def differences(self, other: "_Look") -> dict[str, float]:
        """Return how far apart two frames are, by what is different; 1 is a lot."""
        found = {"brightness": _histogram_distance(self.frame, other.frame) / _BRIGHTNESS_STEP}
        found["number of instances"] = abs(self.log_count - other.log_count) / _DOUBLINGS
        if self.instances is not None and other.instances is not None:
            between = _histogram_distance(self.instances, other.instances)
            found["brightness of instances"] = between / _BRIGHTNESS_STEP
            found["size of instances"] = abs(self.log_size - other.log_size) / _DOUBLINGS
        return found


def _largest(differences: dict[str, float]) -> float:
    return max(differences.values())


def _look(result: LiveResult, limits: tuple[float, float]) -> _Look:
    grey, instances = _grey(result.frame.pixels), result.instances
    inside = [_sampled(grey[mask.slices][mask.pixels]) for mask in instances.masks]
    return _Look(
        frame=_cumulative(_sampled(grey), limits),
        instances=_cumulative(np.concatenate(inside), limits) if inside else None,
        log_size=float(np.log2(np.median(instances.areas))) if inside else 0.0,
        log_count=float(np.log2(1 + len(instances))),
    )


def _grey(pixels: NDArray[Any]) -> NDArray[Any]:
    return pixels if pixels.ndim == 2 else pixels[..., : min(3, pixels.shape[2])].mean(axis=2)


def _sampled(values: NDArray[Any]) -> NDArray[np.float64]:
    # a step along the flat image would see the same columns in every row
    step = int(np.ceil((values.size / _MAX_SAMPLED) ** (1 / values.ndim)))
    some = values[(slice(None, None, step),) * values.ndim].astype(np.float64).ravel()
    return some[np.isfinite(some)]


def _value_range(pixels: NDArray[Any]) -> tuple[float, float]:
    """Return the range of brightness: that of 8 bits, else twice that of the first frame."""
    if pixels.dtype == np.uint8:
        return 0.0, 255.0
    values = _sampled(_grey(pixels))
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    room = (high - low) / 2 or 0.5
    return low - room, high + room


def _cumulative(values: NDArray[np.float64], limits: tuple[float, float]) -> NDArray[np.float64]:
    counts, _ = np.histogram(values.clip(*limits), bins=_BINS, range=limits)
    shares: NDArray[np.float64] = np.cumsum(counts) / max(1, counts.sum())
    return shares


def _histogram_distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return the earth mover's distance, in shares of the range: the area between the sums."""
    return float(np.abs(a - b).mean())
