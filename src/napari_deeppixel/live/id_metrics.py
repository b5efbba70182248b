"""How well ids follow the true objects."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.live.track import mask_iou_matrix

# Bernardin & Stiefelhagen 2008 and MOTChallenge (Milan et al. 2016, MOT16) count a hit from here
MIN_IOU = 0.5


@dataclass(frozen=True, kw_only=True)
class IdFigures:
    """What was counted over all frames.

    Attributes
    ----------
    num_switches
        Times that a true object was seen under another id than the last time (CLEAR MOT:
        Bernardin & Stiefelhagen 2008, Evaluating multiple object tracking performance).
    num_fragments
        Times that a true object was missed though it was there, and was seen again later (MOT16:
        Milan et al. 2016, sec. 4.1.2).
    num_misses, num_false
        True objects without an instance, and instances without a true object.
    num_objects, num_instances
        True ones and found ones, each counted in every frame.
    num_ids
        Different ids that were given.
    idf1
        Share of objects and instances that belong together when each true object has one id for
        all frames, chosen best (Ristani et al. 2016, Performance measures and a data set for
        multi-target, multi-camera tracking); 0 to 1, NaN without any.
    """

    num_switches: int
    num_fragments: int
    num_misses: int
    num_false: int
    num_objects: int
    num_instances: int
    num_ids: int
    idf1: float

    @property
    def mota(self) -> float:
        """1 - (misses + false + switches) / objects (CLEAR MOT); NaN without an object."""
        wrong = self.num_misses + self.num_false + self.num_switches
        return 1 - wrong / self.num_objects if self.num_objects else float("nan")


def id_figures(
    truth: Sequence[InstanceSet], tracked: Sequence[InstanceSet], *, min_iou: float = MIN_IOU
) -> IdFigures:
    """Return how well the handles of tracked instances follow those of the true ones.

    Both are told frame by frame. As CLEAR MOT does, a pair of one frame stays together in the next
    as long as its masks overlap enough, and only the others are paired anew.

    Raises
    ------
    ValueError
        If the numbers of frames differ.
    """
    if len(truth) != len(tracked):
        raise ValueError(f"{len(truth)} frames of truth but {len(tracked)} tracked ones")
    last_id: dict[int, int] = {}
    was_missed: set[int] = set()
    num_switches = num_fragments = num_hits = 0
    for true_set, found_set in zip(truth, tracked, strict=True):
        hits = _hits(true_set, found_set, last_id, min_iou)
        num_hits += len(hits)
        for handle, track_id in hits.items():
            num_switches += last_id.get(handle, track_id) != track_id
            num_fragments += handle in was_missed
            was_missed.discard(handle)
        last_id |= hits
        was_missed |= {h for h in true_set.handles.tolist() if h in last_id and h not in hits}
    num_objects, num_instances = sum(map(len, truth)), sum(map(len, tracked))
    both = num_objects + num_instances
    return IdFigures(
        num_switches=num_switches,
        num_fragments=num_fragments,
        num_misses=num_objects - num_hits,
        num_false=num_instances - num_hits,
        num_objects=num_objects,
        num_instances=num_instances,
        num_ids=len({handle for found in tracked for handle in found.handles.tolist()}),
        idf1=2 * _num_same_identity(truth, tracked, min_iou) / both if both else float("nan"),
    )


def _ious(true_set: InstanceSet, found_set: InstanceSet) -> NDArray[np.float64]:
    return mask_iou_matrix(true_set.masks, found_set.masks)


def _hits(
    true_set: InstanceSet, found_set: InstanceSet, last_id: dict[int, int], min_iou: float
) -> dict[int, int]:
    """Return the id of each true object that is found, by its handle."""
    ious = _ious(true_set, found_set)
    # a sum of gains: no pair below the limit, and nothing outweighs a pair that may stay
    gains = np.where(ious >= min_iou, ious, 0.0)
    for row, handle in enumerate(true_set.handles.tolist()):
        stays = (found_set.handles == last_id.get(handle, 0)) & (gains[row] > 0)
        gains[row, stays] += 1 + min(gains.shape)
    rows, columns = linear_sum_assignment(gains, maximize=True)
    return {
        int(true_set.handles[row]): int(found_set.handles[column])
        for row, column in zip(rows, columns, strict=True)
        if gains[row, column] > 0
    }


def _num_same_identity(
    truth: Sequence[InstanceSet], tracked: Sequence[InstanceSet], min_iou: float
) -> int:
    """Return the hits that are left when each object has one id for all frames (IDTP)."""
    true_ids = sorted({handle for s in truth for handle in s.handles.tolist()})
    found_ids = sorted({handle for s in tracked for handle in s.handles.tolist()})
    row_of = {handle: row for row, handle in enumerate(true_ids)}
    column_of = {handle: column for column, handle in enumerate(found_ids)}
    num_together = np.zeros((len(true_ids), len(found_ids)))
    for true_set, found_set in zip(truth, tracked, strict=True):
        for i, j in np.argwhere(_ious(true_set, found_set) >= min_iou).tolist():
            row, column = row_of[int(true_set.handles[i])], column_of[int(found_set.handles[j])]
            num_together[row, column] += 1
    rows, columns = linear_sum_assignment(num_together, maximize=True)
    return int(num_together[rows, columns].sum())
