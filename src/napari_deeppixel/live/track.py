"""Stable ids: which instance of this frame is which of the frames before."""

import math
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.live.one_track import Sight, Track, TrackSettings

__all__ = ["MAX_ID", "TrackSettings", "Tracker", "mask_centre_yx", "mask_iou_matrix"]

# label images of 16 bits are drawn much faster by napari (`core.instance.label_dtype`)
MAX_ID = int(np.iinfo(np.uint16).max)


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
    `scipy.optimize.linear_sum_assignment`. Categories are not looked at.

    Parameters
    ----------
    settings
        How far apart two sights of one object may be.
    """

    def __init__(self, settings: TrackSettings | None = None) -> None:
        self._settings = settings or TrackSettings()
        # the model's thread goes on, while the window's shows more of what it found
        self._lock = threading.Lock()
        self._ids = _Ids(self._settings.reuse_after_s)
        self._tracks: list[Track] = []
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
        with self._lock:
            self._forget_all()

    def _forget_all(self) -> None:
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
        with self._lock:
            tracks, _ = self._tracks_of(instances, time_s, low)
        return _of_tracks(instances, tracks)

    def update_candidates(
        self,
        candidates: InstanceSet,
        time_s: float,
        *,
        is_shown: NDArray[np.bool_],
        is_low: NDArray[np.bool_],
    ) -> InstanceSet:
        """Return all candidates in their order, those of a track with its handle and uuid.

        As `update`, but what is not shown comes back as well. Handles above 65535 are of no
        track: `adopt` begins one when they are shown after all.

        Parameters
        ----------
        candidates
            All that was found in a frame.
        time_s
            When the frame was taken, in seconds from any start.
        is_shown, is_low
            Which of them (N,) are shown, and which others keep a track alive.
        """
        shown, low = np.flatnonzero(is_shown), np.flatnonzero(is_low)
        with self._lock:
            of_shown, of_low = self._tracks_of(
                candidates.select(is_shown), time_s, candidates.select(is_low)
            )
        tracks: list[Track | None] = [None] * len(candidates)
        for position, track in zip([*shown, *low], [*of_shown, *of_low], strict=True):
            tracks[position] = track
        return _of_tracks(candidates, tracks)

    def adopt(
        self, candidates: InstanceSet, time_s: float, *, is_shown: NDArray[np.bool_]
    ) -> InstanceSet:
        """Return candidates of `update_candidates`; those shown begin a track where they have none.

        From the frame of their time on, so that the next frame finds them again. May be called
        while another thread is in `update`, and for an earlier frame than its last.
        """
        fresh = np.flatnonzero(is_shown & (candidates.handles > MAX_ID))
        if not len(fresh):
            return candidates
        handles, uuids = candidates.handles.copy(), list(candidates.uuids)
        sights = _sights(candidates, fresh.tolist())
        with self._lock:
            is_known = self._image_hw == candidates.image_hw and time_s <= self._time_s
            for position, sight in zip(fresh.tolist(), sights, strict=True):
                track = Track(self._ids.take(time_s), sight, time_s, self._settings)
                handles[position], uuids[position] = track.id, track.uuid
                if not is_known:
                    # the tracker was reset since: nobody will see it again
                    self._ids.give_back(track.id, time_s)
                    continue
                self._history.append((track.id, time_s, *sight.centre_yx.tolist()))
                track.predict(self._time_s - time_s)
                self._tracks.append(track)
        return replace(candidates, handles=handles, uuids=tuple(uuids))

    def _tracks_of(
        self, instances: InstanceSet, time_s: float, low: InstanceSet | None
    ) -> tuple[list[Track], list[Track | None]]:
        """Return the track of each instance, and of each candidate of low score that has one."""
        self._begin(instances.image_hw, time_s)
        # ids must not hang on the order that the model happens to give
        order = _order_in_plane(instances)
        low_order = _order_in_plane(low) if low else []
        sights, low_sights = _sights(instances, order), _sights(low, low_order) if low else []
        track_of, low_track_of = self._assign(sights, low_sights)
        tracks: dict[int, Track] = {}
        for index, position in enumerate(order):
            track = track_of.get(index)
            if track is None:
                track = Track(self._ids.take(time_s), sights[index], time_s, self._settings)
                self._tracks.append(track)
            tracks[position] = track
            self._history.append((track.id, time_s, *sights[index].centre_yx.tolist()))
        low_tracks = {low_order[index]: track for index, track in low_track_of.items()}
        return (
            [tracks[position] for position in range(len(order))],
            [low_tracks.get(position) for position in range(len(low_order))],
        )

    def _begin(self, image_hw: tuple[int, int], time_s: float) -> None:
        """Move all tracks on to a frame and drop those that are lost for too long."""
        if time_s < self._time_s or self._image_hw not in (None, image_hw):
            self._forget_all()
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

    def _lost_s(self, track: Track) -> float:
        return self._settings.lost_s if track.num_seen > 2 else self._settings.young_lost_s

    def _assign(
        self, sights: list[Sight], low_sights: list[Sight]
    ) -> tuple[dict[int, Track], dict[int, Track]]:
        """Return the tracks of the sights that have one, by position; tracks take them in."""
        settings = self._settings
        free_tracks, free_sights = list(self._tracks), list(range(len(sights)))
        track_of: dict[int, Track] = {}

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
        low_track_of = {s: seen[t] for t, s in pairs}
        kept_alive = {track.id for track in low_track_of.values()}
        free_tracks = [track for track in free_tracks if track.id not in kept_alive]
        take(_nearness(free_tracks, [sights[s] for s in free_sights], settings))
        for track in free_tracks:
            track.is_missed = True
        return track_of, low_track_of


def _of_tracks(instances: InstanceSet, tracks: Sequence[Track | None]) -> InstanceSet:
    """Return instances with the handle and uuid of their track, else a handle above `MAX_ID`."""
    handles = [
        MAX_ID + 1 + position if track is None else track.id
        for position, track in enumerate(tracks)
    ]
    uuids = [
        uuid if track is None else track.uuid
        for uuid, track in zip(instances.uuids, tracks, strict=True)
    ]
    return replace(instances, handles=np.array(handles, np.int64), uuids=tuple(uuids))


def _sights(instances: InstanceSet, order: list[int]) -> list[Sight]:
    masks = [instances.masks[position] for position in order]
    return [
        Sight(mask=mask, centre_yx=mask_centre_yx(mask), size=math.sqrt(mask.area))
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


def _overlaps(tracks: list[Track], sights: list[Sight], least: float) -> NDArray[np.float64]:
    shifts = np.array([track.shift_yx for track in tracks]).reshape(-1, 2).round().astype(np.int64)
    masks = [track.last.mask for track in tracks]
    ious = mask_iou_matrix(masks, [sight.mask for sight in sights], shifts_yx=shifts)
    return np.where(ious >= least, ious, 0.0)


def _nearness(
    tracks: list[Track], sights: list[Sight], settings: TrackSettings
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
