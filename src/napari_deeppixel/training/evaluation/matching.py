"""Which prediction is which annotated object: pairs by overlap, and what their counts say.

Accuracy, F1 and panoptic quality are those of StarDist (`stardist.matching`), which are the Data
Science Bowl's and, for one category, Kirillov et al. 2019 (Panoptic Segmentation, eq. 1).
"""

from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from napari_deeppixel.core.geometry import BoolImage, Boxes
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.edits.neighbours import shared_box_areas, shared_pixels, touching_boxes


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """Pairs of a true object and a predicted one, by their positions.

    Attributes
    ----------
    true, found
        int64 (P,): positions of the two.
    ious
        float64 (P,): intersection over union, above 0.
    """

    true: NDArray[np.int64]
    found: NDArray[np.int64]
    ious: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.ious)

    def select(self, which: NDArray[Any]) -> "Pairs":
        """Return some of the pairs: a bool array (P,) or positions."""
        return Pairs(true=self.true[which], found=self.found[which], ious=self.ious[which])


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What matched and what did not, of one image or of many; they can be added.

    Attributes
    ----------
    num_true, num_false, num_missed
        Predictions that match (TP), those that do not (FP), objects without a prediction (FN).
    iou_sum
        Of the matched pairs.
    """

    num_true: int = 0
    num_false: int = 0
    num_missed: int = 0
    iou_sum: float = 0.0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            num_true=self.num_true + other.num_true,
            num_false=self.num_false + other.num_false,
            num_missed=self.num_missed + other.num_missed,
            iou_sum=self.iou_sum + other.iou_sum,
        )

    @property
    def accuracy(self) -> float:
        """TP / (TP + FP + FN); NaN if there is nothing at all (StarDist says 0)."""
        return _ratio(self.num_true, self.num_true + self.num_false + self.num_missed)

    @property
    def precision(self) -> float:
        """TP / (TP + FP)."""
        return _ratio(self.num_true, self.num_true + self.num_false)

    @property
    def recall(self) -> float:
        """TP / (TP + FN)."""
        return _ratio(self.num_true, self.num_true + self.num_missed)

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN)."""
        return _ratio(2 * self.num_true, 2 * self.num_true + self.num_false + self.num_missed)

    @property
    def pq(self) -> float:
        """Panoptic quality: the IoU of what matched, by TP + FP / 2 + FN / 2."""
        return _ratio(self.iou_sum, self.num_true + (self.num_false + self.num_missed) / 2)

    @property
    def mean_iou(self) -> float:
        """Mean IoU of what matched."""
        return _ratio(self.iou_sum, self.num_true)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else nan


def mask_pairs(true: InstanceSet, found: InstanceSet) -> Pairs:
    """Return all pairs of masks that share a pixel."""
    touching = touching_boxes(true.boxes_xyxy, found.boxes_xyxy)
    shared = shared_pixels(true.masks, found.masks, touching)
    return _pairs(touching[:, 0], touching[:, 1], shared, true.areas, found.areas)


def box_pairs(true_xyxy: Boxes, found_xyxy: Boxes) -> Pairs:
    """Return all pairs of boxes (N, 4), (M, 4) that share area."""
    touching = touching_boxes(true_xyxy, found_xyxy)
    shared = shared_box_areas(true_xyxy, found_xyxy, touching)
    areas = [(b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) for b in (true_xyxy, found_xyxy)]
    return _pairs(touching[:, 0], touching[:, 1], shared, *areas)


def label_pairs(true: NDArray[Any], found: NDArray[Any]) -> Pairs:
    """Return all pairs of numbers that share a pixel in two label images (H, W).

    Positions are the numbers less one.
    """
    both = (true > 0) & (found > 0)
    width = int(found.max(initial=0)) + 1
    codes, shared = np.unique(true[both].astype(np.int64) * width + found[both], return_counts=True)
    areas = [np.bincount(image.ravel())[1:] for image in (true, found)]
    return _pairs(codes // width - 1, codes % width - 1, shared, *areas)


def _pairs(
    true: NDArray[Any],
    found: NDArray[Any],
    shared: NDArray[Any],
    true_areas: NDArray[Any],
    found_areas: NDArray[Any],
) -> Pairs:
    ious = shared / np.maximum(true_areas[true] + found_areas[found] - shared, 1e-300)
    kept = shared > 0
    return Pairs(
        true=true[kept].astype(np.int64), found=found[kept].astype(np.int64), ious=ious[kept]
    )


def best_matches(pairs: Pairs, iou: float) -> Pairs:
    """Return the pairs that match: as many as can be, and of those the highest sum of IoU.

    Each object is in one pair at most; an IoU of exactly `iou` matches.
    """
    pairs = pairs.select(pairs.ious >= iou)
    if not len(pairs):
        return pairs
    # hardly any object has two partners from IoU 0.5 on: those few groups are solved one by one
    true_numbers, rows = np.unique(pairs.true, return_inverse=True)
    found_numbers, columns = np.unique(pairs.found, return_inverse=True)
    size = len(true_numbers) + len(found_numbers)
    links = coo_array((np.ones(len(pairs)), (rows, columns + len(true_numbers))), (size, size))
    _, groups = connected_components(links, directed=False)
    group_of_pair = groups[rows]
    is_alone = np.bincount(group_of_pair)[group_of_pair] == 1
    chosen = [np.flatnonzero(is_alone)]
    for group in np.unique(group_of_pair[~is_alone]):
        members = np.flatnonzero(group_of_pair == group)
        chosen.append(members[_assigned(pairs.select(members))])
    return pairs.select(np.sort(np.concatenate(chosen)))


def _assigned(pairs: Pairs) -> NDArray[np.int64]:
    true_numbers, rows = np.unique(pairs.true, return_inverse=True)
    found_numbers, columns = np.unique(pairs.found, return_inverse=True)
    most = min(len(true_numbers), len(found_numbers))
    gains = np.zeros((len(true_numbers), len(found_numbers)))
    # one more pair outweighs every sum of IoU
    gains[rows, columns] = 1 + pairs.ious / (2 * most)
    position = np.full(gains.shape, -1)
    position[rows, columns] = np.arange(len(pairs))
    assigned = position[linear_sum_assignment(gains, maximize=True)]
    return assigned[assigned >= 0]


def greedy_matches(pairs: Pairs, scores: NDArray[np.float64], iou: float) -> Pairs:
    """Return the pairs that match as COCO counts: the highest score takes its best free object."""
    pairs = pairs.select(pairs.ious >= iou)
    order = np.lexsort((-pairs.ious, pairs.found, -scores[pairs.found]))
    taken_true: set[int] = set()
    taken_found: set[int] = set()
    chosen = []
    for position in order.tolist():
        true, found = int(pairs.true[position]), int(pairs.found[position])
        if true not in taken_true and found not in taken_found:
            taken_true.add(true)
            taken_found.add(found)
            chosen.append(position)
    return pairs.select(np.array(chosen, np.int64))


def count_matches(
    matches: Pairs, *, num_true: int, num_found: int, is_ignored: NDArray[np.bool_] | None = None
) -> Counts:
    """Return the counts of one image.

    Parameters
    ----------
    matches
        What matches.
    num_true, num_found
        How many objects and predictions there are.
    is_ignored
        bool, by position: predictions that are no error where they match nothing.
    """
    num_ignored = 0
    if is_ignored is not None:
        is_left = is_ignored.copy()
        is_left[matches.found] = False
        num_ignored = int(is_left.sum())
    return Counts(
        num_true=len(matches),
        num_false=num_found - num_ignored - len(matches),
        num_missed=num_true - len(matches),
        iou_sum=float(matches.ious.sum()),
    )


def shares_inside(masks: InstanceSet, region: BoolImage) -> NDArray[np.float64]:
    """Return the share (N,) of each mask's pixels that lies in a region (H, W)."""
    inside = [
        np.count_nonzero(mask.pixels & region[mask.slices]) / mask.area for mask in masks.masks
    ]
    return np.array(inside, np.float64)
