"""One object over time: where it was seen last, and where it should be now."""

import math
from dataclasses import dataclass
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.core.mask import CroppedMask


@dataclass(frozen=True, kw_only=True)
class TrackSettings:
    """How far apart two sights of one object may be.

    Lengths are in object sizes, where the size is the square root of the area. Defaults were
    chosen on the synthetic scenes of ``benchmarks/live_ids.py``, not on the shipped video.

    Attributes
    ----------
    min_iou
        Least overlap of a mask with the last mask of a track, moved to where it should be now.
    low_min_iou
        The same for a candidate of low score, which only keeps a known track alive. 0.5 is that of
        Zhang et al. 2022, ByteTrack: 0.2 was as good on synthetic scenes, but candidates of the
        shipped model that cover two nuclei drew tracks away (25 instead of 22 switches).
    gate_sigmas
        What does not overlap may lie this many standard deviations of the prediction away …
    max_distance
        … and this many sizes, whichever is nearer.
    min_area_ratio
        Smaller by larger area, least value, for what does not overlap.
    lost_s
        How long an object that is out of sight can be found again. One that was there in the
        last frame always can, however slow the model is.
    young_lost_s
        The same for one that was seen twice at most: most false detections come only once.
    position_noise, start_speed, acceleration
        Standard deviations that the Kalman filter expects: of a centre, in sizes; of the speed of
        a new object, in sizes a second; of the change of speed, in sizes a second squared.
    reuse_after_s
        How long the id of a lost object rests before another gets it.
    history_s, max_history
        How much of the tracks is kept: seconds, and rows in all.

    Raises
    ------
    ValueError
        If a number is out of its range.
    """

    min_iou: float = 0.1
    low_min_iou: float = 0.5
    gate_sigmas: float = 4.0
    max_distance: float = 2.0
    min_area_ratio: float = 0.25
    lost_s: float = 2.0
    young_lost_s: float = 1.0
    position_noise: float = 0.15
    start_speed: float = 2.0
    acceleration: float = 5.0
    reuse_after_s: float = 30.0
    history_s: float = 10.0
    max_history: int = 20_000

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be 0 or more, got {value}")
        for name in ("min_iou", "low_min_iou", "min_area_ratio"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie above 0 and up to 1, got {getattr(self, name)}")
        if self.position_noise == 0:
            raise ValueError("position_noise must be above 0: no centre is known exactly")


@dataclass(frozen=True, kw_only=True, eq=False)
class Sight:
    """One instance of a frame as the tracker sees it."""

    mask: CroppedMask
    centre_yx: NDArray[np.float64]
    size: float


class Track:
    """One object over time: a Kalman filter with constant velocity, the same for rows and columns.

    The covariance of place and speed is held as three numbers, since both axes share it.
    """

    def __init__(self, track_id: int, sight: Sight, time_s: float, settings: TrackSettings) -> None:
        self.id, self.uuid = track_id, str(uuid4())
        self.centre_yx, self.velocity_yx = sight.centre_yx.copy(), np.zeros(2)
        self.size = sight.size
        self._settings = settings
        self._place_var = (settings.position_noise * self.size) ** 2
        self._speed_var = (settings.start_speed * self.size) ** 2
        self._covariance = 0.0
        self.last, self.seen_s, self.num_seen, self.is_missed = sight, time_s, 1, False

    @property
    def _noise_var(self) -> float:
        return (self._settings.position_noise * self.size) ** 2

    @property
    def sigma(self) -> float:
        """Standard deviation of where the next centre should lie, in pixels along an axis."""
        return math.sqrt(self._place_var + self._noise_var)

    @property
    def shift_yx(self) -> NDArray[np.float64]:
        """How far the last mask should have moved."""
        return self.centre_yx - self.last.centre_yx

    def predict(self, dt: float) -> None:
        """Move on by some seconds."""
        # piecewise constant acceleration: Bar-Shalom et al. 2001, Estimation with Applications to
        # Tracking and Navigation, sec. 6.3.2
        jolt = (self._settings.acceleration * self.size) ** 2
        self.centre_yx = self.centre_yx + dt * self.velocity_yx
        self._place_var += dt * (2 * self._covariance + dt * self._speed_var) + jolt * dt**4 / 4
        self._covariance += dt * self._speed_var + jolt * dt**3 / 2
        self._speed_var += jolt * dt**2

    def see(self, sight: Sight, time_s: float) -> None:
        """Take in where the object was seen."""
        total = self._place_var + self._noise_var
        place_gain, speed_gain = self._place_var / total, self._covariance / total
        error_yx = sight.centre_yx - self.centre_yx
        self.centre_yx = self.centre_yx + place_gain * error_yx
        self.velocity_yx = self.velocity_yx + speed_gain * error_yx
        self._speed_var -= speed_gain * self._covariance
        self._place_var *= 1 - place_gain
        self._covariance *= 1 - place_gain
        # what is half hidden for a moment keeps most of its size
        self.size = 0.8 * self.size + 0.2 * sight.size
        self.last, self.seen_s, self.is_missed = sight, time_s, False
        self.num_seen += 1
