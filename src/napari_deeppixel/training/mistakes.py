"""Likely mistakes among annotations, found by what a model sees in their images.

After ObjectLab (Tkachenko, Thyagarajan & Mueller 2023, arXiv:2309.00832): objects that were
overlooked, badly located or given the wrong category are told by confident predictions that
disagree, measured against how well the model does elsewhere. Here masks are compared instead of
boxes, and two more kinds are told: annotations of nothing, and one annotation for several objects
or the other way round.

A model has memorised a part of the labels that it was trained on, their mistakes among them: what
it says of validation images, and with averaged weights, tells more.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.training.mistake import MATCH_IOU, Mistake, MistakeKind, hash_of
from napari_deeppixel.training.mistake_overlaps import Positions
from napari_deeppixel.training.mistake_planes import (
    Agreement,
    Annotated,
    ComparedPlane,
    names_of,
)
from napari_deeppixel.training.mistake_reasons import (
    category_reason,
    merged_reason,
    missing_reason,
    outline_reason,
    split_reason,
    spurious_reason,
)

# Thresholds without a source: best of some on 116 train images of BBBC038 with made mistakes
# (benchmarks/label_mistakes.py).

# a prediction that lies on annotations by more than this, or covers more of one, is no new object
_FREE_IOU, _FREE_SHARE = 0.2, 0.4
# outlines of one object: at least this IoU, or one mostly inside the other
_SAME_IOU, _SAME_INSIDE_IOU, _INSIDE = 0.3, 0.1, 0.7
# outlines this much below the usual IoU are still as good as any
_AGREED_DROP = 0.2
# of an object by its parts
_COVERED = 0.6
# two parts of an object share less
_DISJOINT_IOU = 0.2
# of a whole with its largest part: from 0.9 on, the rest is a speck
_WHOLE_IOU = 0.9
# a model is believed from here on, unless it says of itself that it should be from higher on
BELIEVED_SCORE = 0.7
# what is less likely a mistake than this is not told
_LEAST_SEVERITY = {
    MistakeKind.MISSING: 0.5,
    MistakeKind.SPURIOUS: 0.5,
    MistakeKind.OUTLINE: 0.35,
    MistakeKind.CATEGORY: 0.35,
}
# one object or several: models err more often about it
_PARTS_TRUST = 0.75


def find_mistakes(
    samples: Sequence[Annotated], predictions: Sequence[InstanceSet], *, score: float
) -> list[Mistake]:
    """Return likely mistakes of the annotations, the worst first.

    Parameters
    ----------
    samples
        Annotated images.
    predictions
        What a model finds in each, candidates from a score of 0.05 on included.
    score
        From which on the model is believed.

    Notes
    -----
    Categories are compared by name. If model and annotations share none, all objects count as of
    one kind; else a prediction of a category that the annotations do not have is left out, and an
    annotation of one that the model does not know is not judged.
    """
    planes = [
        ComparedPlane.of(sample, predicted, score=score)
        for sample, predicted in zip(samples, predictions, strict=True)
    ]
    usual = Agreement.of(planes)
    found = [mistake for plane in planes for mistake in _Judge(plane, usual).mistakes()]
    return sorted(found, key=lambda mistake: -mistake.severity)


class _Judge:
    """Finds the mistakes of one plane."""

    def __init__(self, plane: ComparedPlane, usual: Agreement) -> None:
        self._plane, self._usual = plane, usual
        self._annotated, self._predicted = plane.annotated, plane.predicted
        self._trust = usual.trust_near(plane)

    def mistakes(self) -> list[Mistake]:
        """Return one mistake at most for each annotation, and what is missing."""
        judged = (self._spurious, self._outlines, self._merged, self._split, self._categories)
        worst: dict[str, Mistake] = {}
        for judge in judged:
            for mistake in judge():
                known = worst.get(mistake.uuid)
                if known is None or mistake.severity > known.severity:
                    worst[mistake.uuid] = mistake
        found = [*self._missing(), *worst.values()]
        return [m for m in found if m.severity >= _LEAST_SEVERITY[m.kind]]

    def _mistake(
        self,
        kind: MistakeKind,
        reason: str,
        severity: float,
        *,
        annotation: int | None = None,
        prediction: int | None = None,
        **more: Any,
    ) -> Mistake:
        plane, where = self._plane, None
        if prediction is not None:
            instance = where = self._predicted[prediction]
            more |= {"mask": instance.mask, "score": instance.score, "source": instance.source}
        if annotation is not None:
            where = self._annotated[annotation]
            more |= {"uuid": where.uuid, "mask_hash": hash_of(where.mask)}
        assert where is not None  # a mistake is somewhere
        return Mistake(
            file_name=plane.sample.file_name,
            plane=plane.sample.plane,
            kind=kind,
            reason=reason,
            severity=float(np.clip(severity, 0, 1)),
            box_xyxy=where.box_xyxy,
            image_hw=self._annotated.image_hw,
            **({"uuid": ""} | more),
        )

    # -- what the annotations lack ------------------------------------------------------------

    def _missing(self) -> Iterator[Mistake]:
        predicted, overlaps = self._predicted, self._plane.overlaps
        is_free = self._plane.is_confident & ~self._plane.is_ignored
        is_free &= overlaps.most_by_prediction(overlaps.iou) < _FREE_IOU
        is_free &= overlaps.most_by_prediction(overlaps.prediction_share) < _FREE_SHARE
        is_free &= overlaps.most_by_prediction(overlaps.annotation_share) < _FREE_SHARE
        told: list[CroppedMask] = []
        trust = self._usual.trust_in(self._plane)
        for n in sorted(np.flatnonzero(is_free).tolist(), key=lambda n: -predicted.scores[n]):
            mask = predicted.masks[n]
            if any(mask.iou(other) >= _FREE_IOU for other in told):
                continue
            told.append(mask)
            category, score = self._category_of(n), float(predicted.scores[n])
            yield self._mistake(
                MistakeKind.MISSING,
                missing_reason(category, score),
                score**3 * trust,
                prediction=n,
                category=category,
            )

    def _category_of(self, prediction: int) -> str:
        if self._plane.has_common_names:
            return str(names_of(self._predicted.select([prediction]))[0])
        return self._annotated.categories.categories[0].name

    # -- annotations of nothing ---------------------------------------------------------------

    def _spurious(self) -> Iterator[Mistake]:
        plane, overlaps = self._plane, self._plane.overlaps
        scores = self._predicted.scores[overlaps.prediction]
        lies_on = np.maximum(overlaps.iou / MATCH_IOU, overlaps.annotation_share).clip(0, 1)
        support = overlaps.most_by_annotation(scores * lies_on)
        for n in np.flatnonzero(~plane.is_found).tolist():
            found = plane.is_found[plane.near[n]]
            yield self._mistake(
                MistakeKind.SPURIOUS,
                spurious_reason(
                    num_found=int(found.sum()), num_near=found.size, score=float(support[n])
                ),
                self._trust[n] * (1 - support[n]),
                annotation=n,
            )

    # -- outlines -----------------------------------------------------------------------------

    def _outlines(self) -> Iterator[Mistake]:
        pairs, usual = self._plane.confident, self._usual.iou_in(self._plane)
        is_inside = np.maximum(pairs.annotation_share, pairs.prediction_share) >= _INSIDE
        is_same = (pairs.iou >= _SAME_IOU) | (is_inside & (pairs.iou >= _SAME_INSIDE_IOU))
        every = self._plane.overlaps
        agrees = every.iou >= usual - _AGREED_DROP
        # a candidate that is less sure, but draws it as the person did
        doubt = 1 - every.most_by_annotation(
            np.where(agrees, self._predicted.scores[every.prediction], 0.0)
        )
        # what fits another annotation better says nothing of this one
        best = pairs.most_by_prediction(pairs.iou)
        pairs = pairs.where(is_same & (pairs.iou >= best[pairs.prediction]))
        for n, k in enumerate(pairs.best_predictions.tolist()):
            iou = float(pairs.best_ious[n])
            if k < 0 or iou >= usual:
                continue
            drop = (usual - iou) / max(usual - _SAME_IOU, 1e-6)
            yield self._mistake(
                MistakeKind.OUTLINE,
                outline_reason(self._annotated.masks[n], self._predicted.masks[k]),
                min(drop, 1.0) * self._predicted.scores[k] * self._trust[n] * doubt[n],
                annotation=n,
                prediction=k,
            )

    def _merged(self) -> Iterator[Mistake]:
        """Yield annotations that hold several objects."""
        pairs, scores = self._plane.confident, self._predicted.scores
        is_part = pairs.prediction_share >= _INSIDE
        for n in np.unique(pairs.annotation[is_part]).tolist():
            inside = pairs.prediction[is_part & (pairs.annotation == n)]
            parts = _disjoint(self._predicted, inside[np.argsort(-scores[inside], kind="stable")])
            masks = [self._predicted.masks[k] for k in parts]
            whole = self._annotated.masks[n]
            covered = sum(whole.intersection(mask) for mask in masks)
            if len(parts) < 2 or covered < _COVERED * whole.area:
                continue
            yield self._mistake(
                MistakeKind.OUTLINE,
                merged_reason(len(parts)),
                scores[parts[1]]
                * _not_whole(float(self._plane.confident.best_ious[n]))
                * self._trust[n]
                * _PARTS_TRUST,
                annotation=n,
                prediction=parts[0],
                more_masks=tuple(masks[1:]),
            )

    def _split(self) -> Iterator[Mistake]:
        """Yield annotations that are parts of one object, the largest of each."""
        pairs, annotated = self._plane.confident, self._annotated
        # a candidate of their own speaks for two objects
        every = self._plane.overlaps
        own = every.most_by_annotation(
            np.where(every.iou >= MATCH_IOU, self._predicted.scores[every.prediction], 0.0)
        )
        best = pairs.most_by_prediction(pairs.iou)
        is_part = pairs.annotation_share >= _INSIDE
        for k in np.unique(pairs.prediction[is_part]).tolist():
            inside = pairs.annotation[is_part & (pairs.prediction == k)]
            parts = inside[np.argsort(-annotated.areas[inside], kind="stable")].tolist()
            whole = self._predicted.masks[k]
            covered = sum(whole.intersection(annotated.masks[n]) for n in parts)
            if len(parts) < 2 or covered < _COVERED * whole.area:
                continue
            doubt = 1 - sorted(own[parts])[-2]
            yield self._mistake(
                MistakeKind.OUTLINE,
                split_reason(len(parts)),
                self._predicted.scores[k]
                * _not_whole(float(best[k]))
                * doubt
                * self._trust[parts[0]]
                * _PARTS_TRUST,
                annotation=parts[0],
                prediction=k,
                more_uuids=tuple(annotated.uuids[n] for n in parts[1:]),
            )

    # -- categories ---------------------------------------------------------------------------

    def _categories(self) -> Iterator[Mistake]:
        plane = self._plane
        if not plane.has_common_names or len(self._annotated.categories) < 2:
            return
        pairs = plane.overlaps.where(plane.overlaps.iou >= MATCH_IOU)
        ours, theirs = names_of(self._annotated), names_of(self._predicted)
        scores = self._predicted.scores[pairs.prediction]
        is_ours = ours[pairs.annotation] == theirs[pairs.prediction]
        own = pairs.most_by_annotation(np.where(is_ours, scores, 0.0))
        is_other = ~is_ours & (scores >= plane.score)
        for n in np.unique(pairs.annotation[is_other]).tolist():
            others = pairs.prediction[is_other & (pairs.annotation == n)]
            k = int(others[np.argmax(self._predicted.scores[others])])
            score, theirs_name = float(self._predicted.scores[k]), str(theirs[k])
            yield self._mistake(
                MistakeKind.CATEGORY,
                category_reason(theirs_name, ours=str(ours[n]), score=score),
                score * (1 - own[n]),
                annotation=n,
                prediction=k,
                category=theirs_name,
            )


def _not_whole(iou: float) -> float:
    """Return 1 for a part of a half or less of a whole, 0 for one that is nearly all of it."""
    return float(np.clip((_WHOLE_IOU - iou) / (_WHOLE_IOU - MATCH_IOU), 0, 1))


def _disjoint(instances: InstanceSet, best_first: Positions) -> list[int]:
    """Return the positions of instances that share little with those before them."""
    chosen: list[int] = []
    for n in best_first.tolist():
        if all(instances.masks[n].iou(instances.masks[k]) < _DISJOINT_IOU for k in chosen):
            chosen.append(n)
    return chosen
