"""The report of an evaluation: everything that is known about how good predictions are."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.progress import CancelToken, Progress
from napari_deeppixel.core.words import counted
from napari_deeppixel.training.evaluation.coco import (
    CocoImage,
    CocoResult,
    Kind,
    coco_image,
    coco_result,
    result_of_images,
)
from napari_deeppixel.training.evaluation.curves import (
    Judgement,
    as_confusion,
    calibration,
    score_curve,
)
from napari_deeppixel.training.evaluation.figures import IOU_THRESHOLDS as IOU_THRESHOLDS
from napari_deeppixel.training.evaluation.figures import Calibration as Calibration
from napari_deeppixel.training.evaluation.figures import CategoryFigures as CategoryFigures
from napari_deeppixel.training.evaluation.figures import CocoFigures as CocoFigures
from napari_deeppixel.training.evaluation.figures import Confusion as Confusion
from napari_deeppixel.training.evaluation.figures import EvaluationReport as EvaluationReport
from napari_deeppixel.training.evaluation.figures import GroupFigures as GroupFigures
from napari_deeppixel.training.evaluation.figures import ImageOutcome as ImageOutcome
from napari_deeppixel.training.evaluation.figures import Outcome as Outcome
from napari_deeppixel.training.evaluation.figures import PrecisionRecall as PrecisionRecall
from napari_deeppixel.training.evaluation.figures import ScoreCurve as ScoreCurve
from napari_deeppixel.training.evaluation.judge import ImageJudge
from napari_deeppixel.training.evaluation.matching import Counts
from napari_deeppixel.training.evaluation.truth import (
    Found,
    Truth,
    found_of,
    in_one_table,
    truth_of,
)
from napari_deeppixel.training.samples import Sample

_ALL_IMAGES = "all"
# shares of the time: images one by one, COCO's figures of masks and of boxes; the rest are groups
_IMAGES, _MASKS, _BOXES = 0.5, 0.7, 0.8
_NO_RESULT = CocoResult(figures=CocoFigures(), curves=())


def evaluate_predictions(
    samples: Sequence[Sample | Truth],
    predictions: Sequence[InstanceSet | Found],
    *,
    score: float,
    on_progress: Callable[[Progress], None] | None = None,
    cancel: CancelToken | None = None,
) -> EvaluationReport:
    """Return how well predictions match the annotations, image by image.

    Parameters
    ----------
    samples
        The annotated images.
    predictions
        What was found in each, with all the low-score candidates there are: curves and COCO's
        figures use them. Categories go by their names.
    score
        Lowest score of the predictions that count elsewhere.
    on_progress, cancel
        Told and asked between the steps.

    Raises
    ------
    ValueError
        If there are not as many predictions as samples.
    RunCancelled
        If `cancel` was set meanwhile.
    """
    if len(samples) != len(predictions):
        raise ValueError(f"{len(samples)} images but {len(predictions)} predictions")
    tell = partial(_tell, on_progress, cancel or CancelToken())
    truths, founds, notes = in_one_table(
        [truth_of(sample) for sample in samples], [found_of(found) for found in predictions]
    )
    kind = _kind_of(founds)
    images = []
    for number, (truth, found) in enumerate(zip(truths, founds, strict=True), start=1):
        tell(_IMAGES * number / len(truths), f"comparing image {number} of {len(truths)}")
        images.append(_counted(ImageJudge(truth=truth, found=found, kind=kind, score=score)))
    tell(_IMAGES, "COCO's figures of masks")
    counted_by_coco = [coco_image(t, f, kind) for t, f in zip(truths, founds, strict=True)]
    chosen = result_of_images(counted_by_coco, kind)
    tell(_MASKS, "COCO's figures of boxes")
    masks = chosen if kind == "mask" else _NO_RESULT
    boxes = coco_result(truths, founds, "box") if kind == "mask" else chosen
    tell(_BOXES, "images that look alike")
    groups = [_group(_ALL_IMAGES, images, chosen)]
    groups += _groups(truths, images, counted_by_coco, kind)
    notes += [*_notes_of_truths(truths), *_notes(founds, kind)]
    return _report(
        images, truths, groups=groups, masks=masks, boxes=boxes, score=score, notes=notes
    )


def outcome_of(
    sample: Sample | Truth, prediction: InstanceSet | Found, *, score: float, iou: float = 0.5
) -> Outcome:
    """Return which predictions of an image are right, which are wrong, and what is missing.

    A prediction is right if it matches an annotation of its category; wrong ones in ignored
    regions are in none of the sets.
    """
    (truth,), (found,), _ = in_one_table([truth_of(sample)], [found_of(prediction)])
    kind = _kind_of([found])
    return ImageJudge(truth=truth, found=found, kind=kind, score=score, iou=iou).outcome()


@dataclass(frozen=True, kw_only=True, eq=False)
class _CountedImage:
    outcome: ImageOutcome
    label_counts: list[Counts]
    mask_counts: list[Counts]
    judgement: Judgement
    confusion: NDArray[np.int64]
    num_objects: int
    # found less annotated
    surplus: int


def _counted(judge: ImageJudge) -> _CountedImage:
    has_masks = judge.kind == "mask"
    nothing = [Counts()] * len(IOU_THRESHOLDS)
    return _CountedImage(
        outcome=judge.image_outcome(),
        label_counts=judge.label_counts() if has_masks else nothing,
        mask_counts=judge.mask_counts() if has_masks else nothing,
        judgement=judge.judgement(),
        confusion=judge.confusion(),
        num_objects=judge.truth.num_objects,
        surplus=judge.surplus(),
    )


def _tell(
    on_progress: Callable[[Progress], None] | None,
    cancel: CancelToken,
    fraction: float,
    message: str,
) -> None:
    cancel.raise_if_cancelled()
    if on_progress is not None:
        on_progress(Progress(fraction=fraction, message=message))


def _kind_of(founds: Sequence[Found]) -> Kind:
    has_boxes = any(len(found.instances) for found in founds)
    return "box" if has_boxes and all(found.is_box_alone.all() for found in founds) else "mask"


def _notes_of_truths(truths: Sequence[Truth]) -> list[str]:
    num_loose = sum(truth.num_boxes_alone for truth in truths)
    if not num_loose:
        return []
    return [
        f"for COCO's figures of boxes, and for the count of objects, alone: "
        f"{counted(num_loose, 'annotation')} with a box and no mask"
    ]


def _notes(founds: Sequence[Found], kind: Kind) -> list[str]:
    if kind == "box":
        return ["no prediction has a mask: boxes are compared, and there are no figures of masks"]
    num_loose = sum(int(found.is_box_alone.sum()) for found in founds)
    num_empty = sum(int(found.is_empty.sum()) for found in founds)
    notes = []
    if num_loose:
        notes.append(f"for boxes alone: {counted(num_loose, 'prediction')} without a mask")
    if num_empty:
        notes.append(
            f"wrong for COCO, and nothing in label images: {counted(num_empty, 'prediction')} with "
            "an empty mask"
        )
    return notes


def _pooled(counts: Iterable[list[Counts]]) -> dict[float, Counts]:
    pooled = dict.fromkeys(IOU_THRESHOLDS, Counts())
    for of_image in counts:
        for iou, each in zip(IOU_THRESHOLDS, of_image, strict=True):
            pooled[iou] += each
    return pooled


def _groups(
    truths: Sequence[Truth],
    images: Sequence[_CountedImage],
    counted_by_coco: Sequence[CocoImage],
    kind: Kind,
) -> list[GroupFigures]:
    names = sorted({truth.appearance for truth in truths})
    if len(names) < 2:
        return []
    groups = []
    for name in names:
        members = [n for n, truth in enumerate(truths) if truth.appearance == name]
        result = result_of_images([counted_by_coco[n] for n in members], kind)
        groups.append(_group(name or "other", [images[n] for n in members], result))
    return groups


def _group(name: str, images: Sequence[_CountedImage], result: CocoResult) -> GroupFigures:
    counts = _pooled(image.label_counts for image in images)
    return GroupFigures(
        name=name,
        num_images=len(images),
        num_objects=sum(image.num_objects for image in images),
        ap=result.figures.ap,
        ap50=result.figures.ap50,
        ap75=result.figures.ap75,
        accuracy50=counts[0.5].accuracy,
        count_error=_mean([abs(image.surplus) for image in images]),
    )


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else nan


def _report(
    images: Sequence[_CountedImage],
    truths: Sequence[Truth],
    *,
    groups: Sequence[GroupFigures],
    masks: CocoResult,
    boxes: CocoResult,
    score: float,
    notes: Sequence[str],
) -> EvaluationReport:
    labels = _pooled(image.label_counts for image in images)
    judgements = [image.judgement for image in images]
    of_labels: dict[str, Any] = {
        name: {iou: getattr(counts, name) for iou, counts in labels.items()}
        for name in ("accuracy", "f1", "pq", "precision", "recall")
    }
    whole = _pooled(image.mask_counts for image in images)
    confusion = Confusion()
    if truths:
        counts = np.sum([image.confusion for image in images], axis=0)
        confusion = as_confusion(truths[0].instances.categories, counts)
    return EvaluationReport(
        mask=masks.figures,
        box=boxes.figures,
        **of_labels,
        accuracy_of_masks={iou: counts.accuracy for iou, counts in whole.items()},
        mean_matched_iou=labels[0.5].mean_iou,
        count_error=groups[0].count_error,
        count_bias=_mean([image.surplus for image in images]),
        num_images=len(images),
        num_objects=groups[0].num_objects,
        score=score,
        confusion=confusion,
        curves=masks.curves or boxes.curves,
        by_score=score_curve(judgements),
        calibration=calibration(judgements),
        images=tuple(image.outcome for image in images),
        groups=tuple(groups),
        notes=tuple(notes),
    )
