"""How good predictions are: COCO's average precision and matching counts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from faster_coco_eval import COCO, COCOeval_faster

from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.dataset.annotated import AnnotatedImage
from napari_deeppixel.dataset.formats.coco_write import coco_document


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
    """

    ap: float
    ap50: float
    ap75: float
    num_images: int
    num_objects: int


def average_precision(
    annotated: Sequence[InstanceSet], predicted: Sequence[InstanceSet]
) -> Figures:
    """Return COCO's mask AP of predictions against annotations, image by image.

    All predictions of an image count (COCO's usual limit of 100 would hide most of a dense field).
    """
    truth = coco_document([_as_image(position, s) for position, s in enumerate(annotated)])
    found = coco_document([_as_image(position, s) for position, s in enumerate(predicted)])
    most = max([1, *(len(instances) for instances in predicted)])
    detections = [
        {key: a[key] for key in ("image_id", "category_id", "segmentation", "score")}
        for a in found["annotations"]
    ]
    num_objects = len(truth["annotations"])
    if not detections or not num_objects:
        value = 0.0 if num_objects else float("nan")
        return Figures(
            ap=value,
            ap50=value,
            ap75=value,
            num_images=len(annotated),
            num_objects=num_objects,
        )
    reference = COCO(truth)
    evaluation = COCOeval_faster(reference, reference.loadRes(detections), "segm")
    evaluation.params.maxDets = [1, 10, most]
    evaluation.evaluate()
    evaluation.accumulate()
    # stats[0] is -1 for any limit but 100, so the means are taken here; -1 marks "no annotation"
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    return Figures(
        ap=_mean(precision),
        ap50=_mean(precision[0]),
        ap75=_mean(precision[5]),
        num_images=len(annotated),
        num_objects=num_objects,
    )


def _as_image(position: int, instances: InstanceSet) -> AnnotatedImage:
    crowds = InstanceSet.empty(instances.image_hw, instances.categories)
    return AnnotatedImage(file_name=str(position), instances=instances, crowds=crowds)


def _mean(precision: Any) -> float:
    known = precision[precision > -1]
    return float(known.mean()) if known.size else float("nan")
