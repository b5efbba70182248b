"""Anchors that fit the objects: the boxes that a network compares each place of an image with."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_deeppixel.core.geometry import as_boxes
from napari_deeppixel.engine.spec import ModelSpec

AnchorSizes = tuple[tuple[int, ...], ...]

# an object that no anchor overlaps so far is learnt from its single best one alone, since the RPN
# takes boxes of IoU 0.5 to 0.7 for objects (Ren et al. 2015, Faster R-CNN, sec. 3.1.2)
_MATCH_IOU = 0.5
# judged: what the RPN has learnt with its anchors is worth so many objects; others keep anchors
# that serve 98 % (YOLOv5's check), where boxes count that differ up to fourfold in each side
_WORTH = 0.05
# where the anchors serve badly anyhow, less is worth it
_BADLY_MATCHED, _WORTH_IF_BAD = 0.9, 0.02
# too few say nothing about the next image's objects
_MIN_OBJECTS = 20
# objects come smaller and larger by half an octave: crops are scaled, and images differ
_SCALES = (math.sqrt(0.5), 1.0, math.sqrt(2.0))
_MAX_FITTED = 2000
_MAX_ROUNDS = 20
# mean best IoU: what gains less is not moved
_LEAST_GAIN = 0.005
# the first feature level has a place every 4 px, the others each half as many
_FIRST_STRIDE = 4
# squares of twice the stride overlap their neighbours well enough to meet every object: halfway
# between two places, IoU is still 0.39, and 0.62 at a quarter
_MIN_SIDE_IN_STRIDES = 2


@dataclass(frozen=True, kw_only=True)
class AnchorFit:
    """Which anchors to train with, and why.

    Attributes
    ----------
    sizes
        Sides of the anchors for each feature level, as in `ModelSpec.anchor_sizes`.
    is_new
        Whether they are others than before.
    num_objects
        Objects that were looked at.
    median_side_px
        Half of these are smaller, as the network sees them; NaN without any.
    mean_best_iou_before, mean_best_iou_after
        Mean IoU of each object with the best anchor, were it centred on it; NaN without any.
    share_matched_before, share_matched_after
        Share of objects, 0 to 1, whose best IoU is 0.5 or more; NaN without any.
    """

    sizes: AnchorSizes
    is_new: bool
    num_objects: int
    median_side_px: float
    mean_best_iou_before: float
    mean_best_iou_after: float
    share_matched_before: float
    share_matched_after: float

    def sentence(self) -> str:
        """Return what was decided, for people."""
        if not self.num_objects:
            return "Anchors stay as they are: there is no object to fit them to."
        sides = ", ".join(str(side) for level in self.sizes for side in level)
        shares = (self.share_matched_before, self.share_matched_after)
        before, after = (f"{100 * share:.0f} %" for share in shares)
        if self.is_new:
            return (
                f"New anchors of {sides} px: they match {after} of {self.num_objects:,} objects, "
                f"the ones before {before}{self._advice()}."
            )
        return (
            f"Anchors of {sides} px are kept: they match {before} of {self.num_objects:,} "
            f"objects{self._advice()}."
        )

    def _advice(self) -> str:
        if self.median_side_px < _MIN_SIDE_IN_STRIDES * _FIRST_STRIDE:
            return (
                f"; half of these are below {self.median_side_px:.0f} px, too small for the "
                "network: magnify the images"
            )
        if self.num_objects < _MIN_OBJECTS:
            return ", too few to fit others to"
        if self.share_matched_after < _BADLY_MATCHED:
            return "; their shapes or sizes differ so much that others would hardly match more"
        return ""


def boxes_in_network(
    boxes_xyxy: ArrayLike, image_hw: tuple[int, int], spec: ModelSpec
) -> NDArray[np.float64]:
    """Return boxes (N, 4) of an image at the size at which a network looks at it."""
    scaled: NDArray[np.float64] = as_boxes(boxes_xyxy) * scale_in_network(image_hw, spec)
    return scaled


def scale_in_network(image_hw: tuple[int, int], spec: ModelSpec) -> float:
    """Return how many times a network magnifies an image before it looks at it."""
    if spec.min_size is None or spec.max_size is None:
        return spec.zoom
    return min(spec.min_size / min(image_hw), spec.max_size / max(image_hw))


def fit_anchors(objects: ArrayLike, spec: ModelSpec, *, is_from_scratch: bool = False) -> AnchorFit:
    """Return anchors for objects, the present ones wherever these will do.

    New ones have as many sides on each level, and the same aspect ratios, so that trained weights
    still fit. The same objects always give the same anchors.

    Parameters
    ----------
    objects
        Boxes xyxy (N, 4), or sides (N,) of squares, in pixels of the network's input:
        see `boxes_in_network`.
    spec
        Of the model that training starts from.
    is_from_scratch
        Whether nothing was learnt with the present anchors yet, so that others cost nothing.
    """
    wh = _widths_and_heights(objects)
    before = _best_ious(wh, spec.anchor_sizes, spec.aspect_ratios)
    sizes = spec.anchor_sizes
    if len(wh) >= _MIN_OBJECTS:
        sizes = _fitted_sizes(wh, sizes, spec.aspect_ratios)
    after = _best_ious(wh, sizes, spec.aspect_ratios)
    if not _is_worth_it(before, after, is_from_scratch=is_from_scratch):
        sizes, after = spec.anchor_sizes, before
    return AnchorFit(
        sizes=sizes,
        is_new=sizes != spec.anchor_sizes,
        num_objects=len(wh),
        median_side_px=float(np.median(np.sqrt(wh.prod(axis=1)))) if len(wh) else math.nan,
        mean_best_iou_before=_mean(before),
        mean_best_iou_after=_mean(after),
        share_matched_before=_mean(before >= _MATCH_IOU),
        share_matched_after=_mean(after >= _MATCH_IOU),
    )


def _widths_and_heights(objects: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(objects, np.float64)
    if values.ndim == 1:
        wh = np.stack([values, values], axis=1)
    else:
        boxes = as_boxes(values)
        wh = boxes[:, 2:] - boxes[:, :2]
    found: NDArray[np.float64] = wh[(wh > 0).all(axis=1)]
    return found


def _is_worth_it(
    before: NDArray[np.float64], after: NDArray[np.float64], *, is_from_scratch: bool
) -> bool:
    if not len(before):
        return False
    share_before, share_after = _mean(before >= _MATCH_IOU), _mean(after >= _MATCH_IOU)
    if is_from_scratch:
        return _mean(after) > _mean(before) and share_after >= share_before
    worth = _WORTH_IF_BAD if share_before < _BADLY_MATCHED else _WORTH
    return share_after - share_before >= worth


def _best_ious(
    wh: NDArray[np.float64], sizes: AnchorSizes, aspect_ratios: Iterable[float]
) -> NDArray[np.float64]:
    """Return the IoU (N,) of each object with the best anchor, both centred at one place."""
    sides = np.array([side for level in sizes for side in level], np.float64)
    roots = np.sqrt(np.array(list(aspect_ratios), np.float64))
    # torchvision rounds half the width and half the height
    anchor_w = 2 * np.round(np.outer(1 / roots, sides).ravel() / 2)
    anchor_h = 2 * np.round(np.outer(roots, sides).ravel() / 2)
    best = np.zeros(len(wh))
    # one anchor at a time: all at once would take a gigabyte for millions of objects
    for width, height in zip(anchor_w, anchor_h, strict=True):
        shared = np.minimum(wh[:, 0], width) * np.minimum(wh[:, 1], height)
        best = np.maximum(best, shared / (wh.prod(axis=1) + width * height - shared))
    return best


def _fitted_sizes(
    wh: NDArray[np.float64], like: AnchorSizes, aspect_ratios: Iterable[float]
) -> AnchorSizes:
    """Move one side after the other to where it raises the mean best IoU most, until none does.

    k-means over boxes with IoU as its distance is Redmon & Farhadi 2017, YOLO9000, sec. 2; by one
    side at a time, a side that serves stays where it is.
    """
    sides = [side for level in like for side in level]
    least = [_least_side(number) for number, level in enumerate(like) for _ in level]
    candidates = _candidates(wh, sides)
    ious = np.stack([_best_ious(_spread(wh), ((side,),), aspect_ratios) for side in candidates])
    row_of = {side: row for row, side in enumerate(candidates)}
    rows = [row_of[side] for side in sides]
    for _ in range(_MAX_ROUNDS):
        before = list(rows)
        for place in range(len(rows)):
            others = ious[rows[:place] + rows[place + 1 :]].max(axis=0, initial=0.0)
            gains = np.maximum(ious, others).mean(axis=1)
            gains[np.array(candidates) < least[place]] = -1
            gains[[row for row in rows if row != rows[place]]] = -1
            if gains.max() > gains[rows[place]] + _LEAST_GAIN:
                rows[place] = int(gains.argmax())
        if rows == before:
            break
    return _on_levels(sorted(candidates[row] for row in rows), like)


def _spread(wh: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return some thousand objects that stand for all, each at several sizes."""
    by_area = wh[np.lexsort((wh[:, 0], wh.prod(axis=1)))]
    chosen = np.unique(np.linspace(0, len(wh) - 1, _MAX_FITTED).round().astype(np.int64))
    return np.concatenate([by_area[chosen] * scale for scale in _SCALES])


def _candidates(wh: NDArray[np.float64], sides: list[int]) -> list[int]:
    """Return the sides to choose from: even, eight an octave, and the present ones."""
    octaves = math.log2(max(2.0 * float(wh.max()), *sides) / _FIRST_STRIDE)
    steps = _FIRST_STRIDE * 2 ** (np.arange(8 * octaves + 1) / 8)
    # torchvision rounds half the side: odd ones are no other anchors
    return sorted({*(2 * np.round(steps / 2).astype(np.int64)).tolist(), *sides})


def _least_side(level: int) -> int:
    # on the first level nothing finer is there to see a small object
    return _FIRST_STRIDE << level if level == 0 else _MIN_SIDE_IN_STRIDES * _FIRST_STRIDE << level


def _on_levels(sides: list[int], like: AnchorSizes) -> AnchorSizes:
    # sorted, each level still has at least what it must have: only larger ones move up
    rest = iter(sides)
    return tuple(tuple(next(rest) for _ in level) for level in like)


def _mean(values: NDArray[np.float64] | NDArray[np.bool_]) -> float:
    return float(values.mean()) if len(values) else math.nan
