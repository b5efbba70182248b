"""The few figures that a training run is steered by; `training.evaluation` has all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np

from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.training.evaluation.coco import coco_result
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


@dataclass(frozen=True, kw_only=True)
class Figures:
    """How well predictions match the annotations of a set of images.

    Attributes
    ----------
    ap, ap50, ap75
        COCO's mask average precision over IoU 0.50:0.05:0.95, at 0.50 and at 0.75; 0 to 1, NaN
        where there is no annotation.
    num_images, num_objects
        What was evaluated.
    accuracy50
        StarDist's accuracy TP / (TP + FP + FN) of label images at IoU 0.5 and a score; NaN if it
        was not asked for.
    count_error
        Mean of |found - annotated| an image at that score; NaN likewise.
    """

    ap: float
    ap50: float
    ap75: float
    num_images: int
    num_objects: int
    accuracy50: float = nan
    count_error: float = nan


def average_precision(
    annotated: Sequence[InstanceSet], predicted: Sequence[InstanceSet]
) -> Figures:
    """Return COCO's mask AP of predictions against annotations, image by image.

    All predictions of an image count (COCO's usual limit of 100 would hide most of a dense field).
    """
    truths = [
        Truth(
            file_name=str(position),
            instances=instances,
            crowds=InstanceSet.empty(instances.image_hw, instances.categories),
        )
        for position, instances in enumerate(annotated)
    ]
    return _figures(*in_one_table(truths, [found_of(found) for found in predicted])[:2])


def figures_of(
    samples: Sequence[Sample | Truth],
    predictions: Sequence[InstanceSet | Found],
    score: float,
) -> Figures:
    """Return the figures of predictions, of which those with at least a score count as found.

    AP takes them all. What lies where nobody knows what is there counts neither way.
    """
    truths, founds, _ = in_one_table(
        [truth_of(sample) for sample in samples], [found_of(found) for found in predictions]
    )
    judges = [
        ImageJudge(truth=truth, found=found, kind="mask", score=score)
        for truth, found in zip(truths, founds, strict=True)
    ]
    counts = sum((judge.label_counts((0.5,))[0] for judge in judges), Counts())
    errors = [abs(judge.surplus()) for judge in judges]
    return _figures(
        truths,
        founds,
        accuracy50=counts.accuracy,
        count_error=float(np.mean(errors)) if errors else nan,
    )


def _figures(truths: Sequence[Truth], founds: Sequence[Found], **others: float) -> Figures:
    found = coco_result(truths, founds, "mask").figures
    return Figures(
        ap=found.ap,
        ap50=found.ap50,
        ap75=found.ap75,
        num_images=len(truths),
        num_objects=sum(len(truth.instances) for truth in truths),
        **others,
    )
