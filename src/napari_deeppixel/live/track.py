"""Stable ids: which instance of this frame is which of the frames before."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.mask import CroppedMask

# label images of 16 bits are drawn much faster by napari (`core.instance.label_dtype`)
MAX_ID = int(np.iinfo(np.uint16).max)


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


def mask_centre_yx(mask: CroppedMask) -> NDArray[np.float64]:
    """Return the mean row and column of a mask's pixels, as indices into the image."""
    rows = np.count_nonzero(mask.pixels, axis=1)
    columns = np.count_nonzero(mask.pixels, axis=0)
    y = mask.y + float(rows @ np.arange(rows.size)) / mask.area
    x = mask.x + float(columns @ np.arange(columns.size)) / mask.area
    return np.array([y, x])


def mask_iou_matrix(
    masks: Sequence[CroppedMask],
    others: Sequence[CroppedMask],
    *,
    shifts_yx: NDArray[np.int64] | None = None,
) -> NDArray[np.float64]:
    """Return the IoU (N, M) of masks with others; pixels are compared only where boxes meet.

    Parameters
    ----------
    masks, others
        N and M masks of one plane.
    shifts_yx
        (N, 2) rows and columns to move the first masks by; they may leave the plane.
    """
    ious = np.zeros((len(masks), len(others)))
    if not masks or not others:
        return ious
    boxes = np.array([mask.box_xyxy for mask in masks])
    if shifts_yx is not None:
        boxes += np.tile(shifts_yx[:, ::-1], 2)
    other_boxes = np.array([mask.box_xyxy for mask in others])
    low = np.maximum(boxes[:, None, :2], other_boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], other_boxes[None, :, 2:])
    for i, j in np.argwhere((low < high).all(axis=2)).tolist():
        (x1, y1), (x2, y2) = low[i, j].tolist(), high[i, j].tolist()
        left, top = boxes[i, :2].tolist()
        mine = masks[i].pixels[y1 - top : y2 - top, x1 - left : x2 - left]
        other = others[j]
        theirs = other.pixels[y1 - other.y : y2 - other.y, x1 - other.x : x2 - other.x]
        both = int(np.count_nonzero(mine & theirs))
        ious[i, j] = both / (masks[i].area + other.area - both)
    return ious


@dataclass(frozen=True, kw_only=True, eq=False)
class _Sight:
    """One instance of a frame as the tracker sees it."""

    mask: CroppedMask
    centre_yx: NDArray[np.float64]
    size: float


class _Track:
    """One object over time: a Kalman filter with constant velocity, the same for rows and columns.

    The covariance of place and speed is held as three numbers, since both axes share it.
    """

    def __init__(
        self, track_id: int, sight: _Sight, time_s: float, settings: TrackSettings
    ) -> None:
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

    def see(self, sight: _Sight, time_s: float) -> None:
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


class _Ids:
    """Hands out 1 to 65535; what came back rests before it is handed out again."""

    def __init__(self, reuse_after_s: float) -> None:
        self._reuse_after_s = reuse_after_s
        self._last = 0
        self._busy: set[int] = set()
        self._resting: deque[tuple[float, int]] = deque()

    def take(self, time_s: float) -> int:
        while self._resting and (
            time_s - self._resting[0][0] > self._reuse_after_s or len(self._busy) >= MAX_ID
        ):
            self._busy.discard(self._resting.popleft()[1])
        if len(self._busy) >= MAX_ID:
            raise ValueError(f"more than {MAX_ID} objects at a time cannot be told apart")
        while True:
            self._last = self._last % MAX_ID + 1
            if self._last not in self._busy:
                self._busy.add(self._last)
                return self._last

    def give_back(self, track_id: int, time_s: float) -> None:
        self._resting.append((time_s, track_id))


class Tracker:
    """Gives the instances of one frame after another ids that stay with the object.

    An instance takes the track whose last mask, moved on by a Kalman filter in real seconds,
    overlaps it best; then candidates of low score keep tracks alive (Zhang et al. 2022,
    ByteTrack); then the nearest centre of a like area counts, within a gate. Each step is one
    `scipy.optimize.linear_sum_assignment`. Categories are not looked at. Not thread-safe.

    Parameters
    ----------
    settings
        How far apart two sights of one object may be.
    """

    def __init__(self, settings: TrackSettings | None = None) -> None:
        self._settings = settings or TrackSettings()
        self._ids = _Ids(self._settings.reuse_after_s)
        self._tracks: list[_Track] = []
        self._history: deque[tuple[int, float, float, float]] = deque(
            maxlen=self._settings.max_history
        )
        self._image_hw: tuple[int, int] | None = None
        self._time_s = -math.inf

    @property
    def tracks(self) -> NDArray[np.float64]:
        """Where the objects were lately, as napari's Tracks layer takes it.

        Rows ``(id, time_s, y, x)``, ordered by id and time; y and x count from pixel centres.
        """
        # a copy first: the model's thread may add to it meanwhile
        rows = np.array(list(self._history), np.float64).reshape(-1, 4)
        ordered: NDArray[np.float64] = rows[np.lexsort((rows[:, 1], rows[:, 0]))]
        return ordered

    def reset(self) -> None:
        """Forget all objects; the ids go on, so that no new object looks like an old one."""
        for track in self._tracks:
            self._ids.give_back(track.id, self._time_s)
        self._tracks = []
        self._history.clear()
        self._image_hw, self._time_s = None, -math.inf

    def update(
        self, instances: InstanceSet, time_s: float, *, low: InstanceSet | None = None
    ) -> InstanceSet:
        """Return the instances in their order, with the handle and uuid of their track each.

        What fits no track begins a new one at once. A frame of another size, or an earlier one,
        resets first.

        Parameters
        ----------
        instances
            What is shown.
        time_s
            When the frame was taken, in seconds from any start.
        low
            Candidates of low score, none of them shown: they keep a track alive, and begin none.

        Raises
        ------
        ValueError
            If more than 65535 objects are known at a time.
        """
        self._begin(instances.image_hw, time_s)
        # ids must not hang on the order that the model happens to give
        order = _order_in_plane(instances)
        sights = _sights(instances, order)
        track_of = self._assign(sights, _sights(low, _order_in_plane(low)) if low else [])
        handles = np.zeros(len(sights), np.int64)
        uuids = [""] * len(sights)
        for index, position in enumerate(order):
            track = track_of.get(index)
            if track is None:
                track = _Track(self._ids.take(time_s), sights[index], time_s, self._settings)
                self._tracks.append(track)
            handles[position], uuids[position] = track.id, track.uuid
            self._history.append((track.id, time_s, *sights[index].centre_yx.tolist()))
        return replace(instances, handles=handles, uuids=tuple(uuids))

    def _begin(self, image_hw: tuple[int, int], time_s: float) -> None:
        """Move all tracks on to a frame and drop those that are lost for too long."""
        if time_s < self._time_s or self._image_hw not in (None, image_hw):
            self.reset()
        dt = 0.0 if self._image_hw is None else time_s - self._time_s
        self._image_hw, self._time_s = image_hw, time_s
        kept = []
        for track in self._tracks:
            if track.is_missed and time_s - track.seen_s > self._lost_s(track):
                self._ids.give_back(track.id, time_s)
                continue
            track.predict(dt)
            if track.is_missed:
                # what left the picture comes back where it left, if it does
                track.centre_yx = track.centre_yx.clip(0, np.array(image_hw) - 1)
            kept.append(track)
        self._tracks = kept
        while self._history and time_s - self._history[0][1] > self._settings.history_s:
            self._history.popleft()

    def _lost_s(self, track: _Track) -> float:
        return self._settings.lost_s if track.num_seen > 2 else self._settings.young_lost_s

    def _assign(self, sights: list[_Sight], low_sights: list[_Sight]) -> dict[int, _Track]:
        """Return the track of each sight that has one, by its position; tracks take them in."""
        settings = self._settings
        free_tracks, free_sights = list(self._tracks), list(range(len(sights)))
        track_of: dict[int, _Track] = {}

        def take(gains: NDArray[np.float64]) -> None:
            pairs = _best_pairs(gains)
            for t, s in pairs:
                track_of[free_sights[s]] = free_tracks[t]
                free_tracks[t].see(sights[free_sights[s]], self._time_s)
            free_tracks[:] = _without(free_tracks, [t for t, _ in pairs])
            free_sights[:] = _without(free_sights, [s for _, s in pairs])

        take(_overlaps(free_tracks, sights, settings.min_iou))
        # as in ByteTrack, only what was there in the last frame: noise would wake the lost
        seen = [track for track in free_tracks if not track.is_missed]
        pairs = _best_pairs(_overlaps(seen, low_sights, settings.low_min_iou))
        for t, s in pairs:
            seen[t].see(low_sights[s], self._time_s)
        kept_alive = {seen[t].id for t, _ in pairs}
        free_tracks = [track for track in free_tracks if track.id not in kept_alive]
        take(_nearness(free_tracks, [sights[s] for s in free_sights], settings))
        for track in free_tracks:
            track.is_missed = True
        return track_of


def _sights(instances: InstanceSet, order: list[int]) -> list[_Sight]:
    masks = [instances.masks[position] for position in order]
    return [
        _Sight(mask=mask, centre_yx=mask_centre_yx(mask), size=math.sqrt(mask.area))
        for mask in masks
    ]


def _order_in_plane(instances: InstanceSet) -> list[int]:
    def place(position: int) -> tuple[Any, ...]:
        x1, y1, x2, y2 = instances.masks[position].box_xyxy
        area, score = instances.masks[position].area, instances.scores[position]
        return y1, x1, y2, x2, area, np.nan_to_num(score, nan=2.0), instances.uuids[position]

    return sorted(range(len(instances)), key=place)


def _best_pairs(gains: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Return the rows and columns whose gains add up to most; a gain of 0 is no pair."""
    rows, columns = linear_sum_assignment(gains, maximize=True)
    return [
        (int(row), int(column))
        for row, column in zip(rows, columns, strict=True)
        if gains[row, column] > 0
    ]


def _without(things: list[Any], positions: list[int]) -> list[Any]:
    gone = set(positions)
    return [thing for position, thing in enumerate(things) if position not in gone]


def _overlaps(tracks: list[_Track], sights: list[_Sight], least: float) -> NDArray[np.float64]:
    shifts = np.array([track.shift_yx for track in tracks]).reshape(-1, 2).round().astype(np.int64)
    masks = [track.last.mask for track in tracks]
    ious = mask_iou_matrix(masks, [sight.mask for sight in sights], shifts_yx=shifts)
    return np.where(ious >= least, ious, 0.0)


def _nearness(
    tracks: list[_Track], sights: list[_Sight], settings: TrackSettings
) -> NDArray[np.float64]:
    """Return how near each sight is to each track: 1 at its place, 0 outside the gate."""
    if not tracks or not sights:
        return np.zeros((len(tracks), len(sights)))
    places = np.array([track.centre_yx for track in tracks])
    centres = np.array([sight.centre_yx for sight in sights])
    sizes = np.array([track.size for track in tracks])
    sigmas = np.array([track.sigma for track in tracks])
    distances = np.linalg.norm(places[:, None] - centres[None], axis=2)
    reach = np.minimum(settings.gate_sigmas * sigmas, settings.max_distance * sizes)
    ratios = (sizes[:, None] / np.array([sight.size for sight in sights])[None]) ** 2
    ratios = np.minimum(ratios, 1 / ratios)
    nearness: NDArray[np.float64] = np.clip(1 - distances / reach[:, None], 0, 1) * ratios
    nearness[ratios < settings.min_area_ratio] = 0.0
    return nearness
