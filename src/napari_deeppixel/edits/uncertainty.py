"""How much each instance needs a person's look, and why."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.core.geometry import Boxes
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.edits.neighbours import (
    overlap_shares,
    shared_box_areas,
    shared_pixels,
    touching_boxes,
)

# what nobody has settled yet
OPEN_STATES = frozenset({InstanceState.UNREVIEWED, InstanceState.UNSURE})

# Each table turns a signal into the share of instances with that value that were wrong (no true
# partner, or mask IoU below 0.7): measured on 10,214 predictions of `nuclei` on 273 training images
# of BBBC038v1, which it was trained on; other models' numbers will differ, their order less. That
# makes signals comparable, so that the largest can speak. Box shift and overlap begin at 0, though
# some of those without any are wrong, too: they must not speak where they say nothing.
_Table = Sequence[tuple[float, float]]
_SCORE: _Table = (
    (0.05, 0.95),
    (0.5, 0.82),
    (0.66, 0.66),
    (0.79, 0.56),
    (0.87, 0.43),
    (0.915, 0.34),
    (0.94, 0.27),
    (0.97, 0.19),
    (0.98, 0.13),
    (0.99, 0.06),
    (0.995, 0.015),
    (1.0, 0.0),
)
_EDGE: _Table = (
    (0.2, 0.005),
    (0.25, 0.02),
    (0.28, 0.05),
    (0.31, 0.11),
    (0.35, 0.19),
    (0.37, 0.25),
    (0.4, 0.34),
    (0.425, 0.46),
    (0.46, 0.57),
    (0.5, 0.69),
    (0.6, 0.85),
    (1.0, 1.0),
)
_BOX_SHIFT: _Table = ((0.1, 0.0), (0.16, 0.36), (0.21, 0.5), (0.3, 0.75))
_OVERLAP: _Table = ((0.0, 0.0), (0.1, 0.3), (0.2, 0.6), (0.5, 0.7), (1.0, 0.74))
# By the score of the second best part. Of those that no other signal names as well, only a quarter
# were wrong; tables down to that moved no figure by more than 0.003.
_MERGED: _Table = ((0.05, 0.43), (0.1, 0.47), (0.2, 0.6), (0.3, 0.7))
# 0.43 were wrong, but hardly more than others of their score: higher values here moved errors back
_PART = 0.15
# a third of those at the border were wrong, but no more than others of their score: a nudge
_BORDER = 0.05

# of its area inside a mask: the candidate belongs to it
_INSIDE = 0.7
# of the mask: a candidate that covers more is the whole object again, not a part of it
_WHOLE = 0.8
# two parts of one mask share less (IoU), and all cover so much of it
_DISJOINT_IOU = 0.1
_COVERED = 0.6
# best parts looked at: a mask that holds more candidates is in doubt whatever the others are
_MOST_PARTS = 50

_NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Uncertainties:
    """How much the instances of one plane need a look.

    Attributes
    ----------
    values
        float64 (N,), 0 to 1: the largest signal; 0 for what a person settled.
    reasons
        N short texts for people: the largest signal with its number, or the state of what a
        person settled.
    overlap_shares
        float64 (N,), see `edits.neighbours.overlap_shares`.
    """

    values: NDArray[np.float64]
    reasons: tuple[str, ...]
    overlap_shares: NDArray[np.float64]


class _Signal(NamedTuple):
    values: NDArray[np.float64]
    reason: Callable[[int], str]


def uncertainties(visible: InstanceSet, candidates: InstanceSet | None = None) -> Uncertainties:
    """Return how much each visible instance needs a look, and why.

    The largest of these signals counts, each turned into the share of instances that are wrong:

    - *marked unsure* by a person: 1;
    - the *score* (least confidence: Lewis & Gale 1994, A sequential algorithm for training text
      classifiers);
    - the *mask's edge*: `InstanceSet.edge_uncertainties`;
    - *box and mask disagree*: 1 - IoU of the network's box and the mask's tight box, two heads
      that see the same features;
    - *merged*: two or more hidden candidates lie mostly (0.7 of their area) inside the mask, are
      disjoint (IoU below 0.1) and cover 0.6 of it together;
    - *one of several parts*: the mask lies mostly inside a larger hidden candidate that covers
      another visible instance, too;
    - *overlap*: see `edits.neighbours.overlap_shares`;
    - *border*: the box touches the plane's edge.

    Parameters
    ----------
    visible
        What is shown.
    candidates
        Predictions of the same plane that are not shown. Those that are among `visible`, or were
        rejected, do not count.
    """
    shares = overlap_shares(visible)
    signals = [
        # first: the one that speaks where all are 0
        _score(visible),
        _unsure(visible),
        _edge(visible),
        _box_shift(visible),
        *_candidate_signals(visible, candidates),
        _Signal(_wrong_share(shares, _OVERLAP), lambda n: overlap_reason(shares[n])),
        _border(visible),
    ]
    strengths = np.stack([signal.values for signal in signals])
    strongest = strengths.argmax(axis=0).tolist()
    is_open = np.array([state in OPEN_STATES for state in visible.states], np.bool_)
    values = np.where(is_open, strengths.max(axis=0), 0.0)
    # what says nothing at all has no reason but that nobody has looked at it
    reasons = tuple(
        signals[strongest[n]].reason(n)
        if is_open[n] and (values[n] > 0 or not np.isnan(visible.scores[n]))
        else visible.states[n].value
        for n in range(len(visible))
    )
    return Uncertainties(values=values, reasons=reasons, overlap_shares=shares)


def touches_border(instances: InstanceSet) -> NDArray[np.bool_]:
    """Return which boxes (N,) touch the plane's edge."""
    height, width = instances.image_hw
    x1, y1, x2, y2 = instances.boxes_xyxy.T
    touches: NDArray[np.bool_] = (x1 <= 0) | (y1 <= 0) | (x2 >= width) | (y2 >= height)
    return touches


def overlap_reason(share: float) -> str:
    """Return an overlap in words."""
    return f"overlaps another by {100 * share:.0f} %"


def _wrong_share(values: NDArray[np.float64], table: _Table) -> NDArray[np.float64]:
    """Return what a table says; 0 where there is no value."""
    at, share = zip(*table, strict=True)
    shares: NDArray[np.float64] = np.nan_to_num(np.interp(values, at, share))
    return shares


def _unsure(visible: InstanceSet) -> _Signal:
    is_unsure = [state is InstanceState.UNSURE for state in visible.states]
    return _Signal(np.array(is_unsure, np.float64), lambda _: "marked unsure")


def _score(visible: InstanceSet) -> _Signal:
    scores = visible.scores
    return _Signal(_wrong_share(scores, _SCORE), lambda n: f"score {scores[n]:.2f}")


def _edge(visible: InstanceSet) -> _Signal:
    edges = visible.edge_uncertainties
    return _Signal(_wrong_share(edges, _EDGE), lambda n: f"mask edge unsure ({edges[n]:.2f})")


def _box_shift(visible: InstanceSet) -> _Signal:
    predicted, tight = visible.predicted_boxes_xyxy, visible.boxes_xyxy
    sides = np.minimum(predicted[:, 2:], tight[:, 2:]) - np.maximum(predicted[:, :2], tight[:, :2])
    both = sides.clip(0).prod(axis=1)
    shift = 1 - both / (_box_areas(predicted) + _box_areas(tight) - both)
    return _Signal(
        _wrong_share(shift, _BOX_SHIFT),
        lambda n: f"box and mask disagree by {100 * shift[n]:.0f} %",
    )


def _box_areas(boxes: Boxes) -> NDArray[np.float64]:
    areas: NDArray[np.float64] = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return areas


def _border(visible: InstanceSet) -> _Signal:
    return _Signal(np.where(touches_border(visible), _BORDER, 0.0), lambda _: "touches the border")


def _candidate_signals(visible: InstanceSet, candidates: InstanceSet | None) -> list[_Signal]:
    if candidates is None:
        return []
    shown = set(visible.uuids)
    is_hidden = [
        uuid not in shown and state is not InstanceState.REJECTED
        for uuid, state in zip(candidates.uuids, candidates.states, strict=True)
    ]
    hidden = np.flatnonzero(is_hidden)
    pairs = touching_boxes(visible.boxes_xyxy, candidates.boxes_xyxy[hidden])
    pairs[:, 1] = hidden[pairs[:, 1]]
    # masks are compared only where their boxes allow one to lie in the other
    least = np.minimum(visible.areas[pairs[:, 0]], candidates.areas[pairs[:, 1]])
    most = shared_box_areas(visible.boxes_xyxy, candidates.boxes_xyxy, pairs)
    pairs = pairs[most >= _INSIDE * least]
    both = shared_pixels(visible.masks, candidates.masks, pairs)
    return [_merged(visible, candidates, pairs, both), _part(visible, candidates, pairs, both)]


def _merged(
    visible: InstanceSet,
    candidates: InstanceSet,
    pairs: NDArray[np.int64],
    both: NDArray[np.int64],
) -> _Signal:
    outer, inner = pairs.T
    is_part = both >= _INSIDE * candidates.areas[inner]
    is_part &= both < _WHOLE * visible.areas[outer]
    outer, inner, both = outer[is_part], inner[is_part], both[is_part]
    covered = np.bincount(outer, weights=both, minlength=len(visible))
    may_be = (np.bincount(outer, minlength=len(visible)) > 1) & (
        covered >= _COVERED * visible.areas
    )
    counts, second = np.zeros(len(visible), np.int64), np.full(len(visible), np.nan)
    for n in np.flatnonzero(may_be).tolist():
        inside = inner[slice(*np.searchsorted(outer, [n, n + 1]))]
        best_first = inside[np.argsort(-np.nan_to_num(candidates.scores[inside]), kind="stable")]
        parts = _disjoint([candidates.masks[k] for k in best_first[:_MOST_PARTS]])
        if len(parts) > 1 and _covers(
            visible.masks[n], [candidates.masks[best_first[k]] for k in parts]
        ):
            counts[n], second[n] = (
                len(parts),
                np.nan_to_num(candidates.scores[best_first[parts[1]]]),
            )
    return _Signal(
        _wrong_share(second, _MERGED), lambda n: f"{_number(counts[n])} candidates merged"
    )


def _disjoint(masks: Sequence[CroppedMask]) -> list[int]:
    """Return the positions of masks that share little with those before them."""
    chosen: list[int] = []
    for n, mask in enumerate(masks):
        if all(mask.iou(masks[k]) < _DISJOINT_IOU for k in chosen):
            chosen.append(n)
    return chosen


def _covers(mask: CroppedMask, parts: Sequence[CroppedMask]) -> bool:
    """Whether parts cover most of a mask together."""
    return sum(mask.intersection(part) for part in parts) >= _COVERED * mask.area


def _part(
    visible: InstanceSet,
    candidates: InstanceSet,
    pairs: NDArray[np.int64],
    both: NDArray[np.int64],
) -> _Signal:
    inner, outer = pairs.T
    is_part = both >= _INSIDE * visible.areas[inner]
    is_part &= candidates.areas[outer] > visible.areas[inner]
    inner, outer = inner[is_part], outer[is_part]
    parts = np.bincount(outer, minlength=len(candidates))[outer]
    counts = np.zeros(len(visible), np.int64)
    np.maximum.at(counts, inner, parts)
    return _Signal(
        np.where(counts > 1, _PART, 0.0), lambda n: f"maybe one of {_number(counts[n])} parts"
    )


def _number(count: int) -> str:
    return _NUMBERS.get(int(count), str(count))
