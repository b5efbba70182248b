"""What scores are worth: F1 over the score, calibration, and which category is taken for which."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.training.evaluation.figures import Calibration, Confusion, ScoreCurve
from napari_deeppixel.training.evaluation.matching import Pairs, best_matches

_NUM_BINS = 10
# thresholds that a curve over the score has
_NUM_STEPS = 101


@dataclass(frozen=True, kw_only=True, eq=False)
class Judgement:
    """Which predictions of an image are right, each taken by falling score; ignored ones are out.

    Attributes
    ----------
    scores
        float64 (N,).
    is_true
        bool (N,).
    num_objects
        Annotated objects of the image.
    """

    scores: NDArray[np.float64]
    is_true: NDArray[np.bool_]
    num_objects: int


def score_curve(judgements: Sequence[Judgement]) -> ScoreCurve:
    """Return precision, recall and F1 over the score from which predictions count."""
    scores, is_true, num_objects = _joined(judgements)
    if not num_objects and not scores.size:
        return ScoreCurve()
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.concatenate([[0], np.cumsum(is_true[order])])
    steps = np.linspace(0, 1, _NUM_STEPS)
    # how many predictions are left at each threshold
    kept = np.searchsorted(-scores, -steps, side="right")
    precisions, recalls, f1s = _rates(hits[kept], kept, num_objects)
    best_score, best_f1 = _best(scores, hits, num_objects)
    return ScoreCurve(
        scores=tuple(steps.round(2).tolist()),
        precisions=tuple(precisions.tolist()),
        recalls=tuple(recalls.tolist()),
        f1s=tuple(f1s.tolist()),
        best_score=best_score,
        best_f1=best_f1,
    )


def _rates(
    hits: NDArray[np.int64], kept: NDArray[np.int64], num_objects: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    def ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
        result = np.full(len(part), np.nan)
        np.divide(part, whole, out=result, where=whole > 0)
        return result

    every = np.full_like(kept, num_objects)
    return ratio(hits, kept), ratio(hits, every), ratio(2 * hits, kept + every)


def _best(
    scores: NDArray[np.float64], hits: NDArray[np.int64], num_objects: int
) -> tuple[float, float]:
    """Return the threshold with the highest F1, and that F1; scores fall."""
    if not hits[-1]:
        return float("nan"), float("nan")
    # predictions of one score come and go together
    last_of_score = np.flatnonzero(np.append(np.diff(scores) < 0, True))
    kept = last_of_score + 1
    f1s = 2 * hits[kept] / (kept + num_objects)
    best = int(np.argmax(f1s))
    lowest = float(scores[last_of_score[best]])
    below = float(scores[kept[best]]) if kept[best] < len(scores) else lowest
    return (lowest + below) / 2, float(f1s[best])


def calibration(judgements: Sequence[Judgement]) -> Calibration:
    """Return how often predictions of a score are right, in ten bins."""
    scores, is_true, _ = _joined(judgements)
    edges = np.linspace(0, 1, _NUM_BINS + 1)
    bins = np.clip((scores * _NUM_BINS).astype(int), 0, _NUM_BINS - 1)
    counts = np.bincount(bins, minlength=_NUM_BINS)
    sums = [np.bincount(bins, weights=w, minlength=_NUM_BINS) for w in (scores, is_true)]
    means = [np.full(_NUM_BINS, np.nan) for _ in sums]
    for mean, total in zip(means, sums, strict=True):
        np.divide(total, counts, out=mean, where=counts > 0)
    gaps = np.abs(sums[0] - sums[1]).sum()
    return Calibration(
        edges=tuple(edges.round(1).tolist()),
        counts=tuple(counts.tolist()),
        mean_scores=tuple(means[0].tolist()),
        true_shares=tuple(means[1].tolist()),
        error=float(gaps / scores.size) if scores.size else float("nan"),
    )


def _joined(
    judgements: Sequence[Judgement],
) -> tuple[NDArray[np.float64], NDArray[np.bool_], int]:
    scores = np.concatenate([np.zeros(0), *(judgement.scores for judgement in judgements)])
    is_true = np.concatenate([np.zeros(0, bool), *(each.is_true for each in judgements)])
    return scores, is_true, sum(judgement.num_objects for judgement in judgements)


def confusion_counts(
    *,
    table: CategoryTable,
    true_ids: NDArray[np.int64],
    found_ids: NDArray[np.int64],
    matches: Pairs,
    rest: Pairs,
    is_false: NDArray[np.bool_],
    iou: float,
) -> NDArray[np.int64]:
    """Return the counts (K + 1, K + 1) of one image; see `Confusion`.

    Parameters
    ----------
    table
        K categories.
    true_ids, found_ids
        Category ids by position.
    matches
        What matches within a category.
    rest
        Pairs of whatever category, of which the free ones may be confused.
    is_false
        bool, by position: predictions that are wrong where they match nothing.
    iou
        IoU from which two are taken for one.
    """
    place = {category.id: position for position, category in enumerate(table.categories)}
    is_free = ~np.isin(rest.true, matches.true) & ~np.isin(rest.found, matches.found)
    confused = best_matches(rest.select(is_free), iou)
    counts = np.zeros((len(table) + 1, len(table) + 1), np.int64)
    for pairs in (matches, confused):
        for true, found in zip(pairs.true, pairs.found, strict=True):
            counts[place[int(true_ids[true])], place[int(found_ids[found])]] += 1
    taken_true = np.concatenate([matches.true, confused.true])
    taken_found = np.concatenate([matches.found, confused.found])
    for true in np.setdiff1d(np.arange(len(true_ids)), taken_true):
        counts[place[int(true_ids[true])], -1] += 1
    for found in np.setdiff1d(np.flatnonzero(is_false), taken_found):
        counts[-1, place[int(found_ids[found])]] += 1
    return counts


def as_confusion(table: CategoryTable, counts: NDArray[np.int64]) -> Confusion:
    """Return the confusion of all images."""
    return Confusion(
        names=tuple(category.name for category in table.categories),
        counts=tuple(tuple(row) for row in counts.tolist()),
    )
