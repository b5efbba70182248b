"""COCO's figures, computed by faster-coco-eval: the same as pycocotools', without its limit of 100.

Each image's predictions all count (``maxDets`` to match). Library summaries (``stats``) read -1
then, so means are taken from the precisions themselves.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from faster_coco_eval import mask as coco_mask
from numpy.typing import NDArray

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.geometry import BoolImage, Boxes
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.dataset.formats.coco_rle import mask_to_rle
from napari_deeppixel.training.evaluation.figures import (
    CategoryFigures,
    CocoFigures,
    PrecisionRecall,
)
from napari_deeppixel.training.evaluation.matching import box_pairs, mask_pairs, shares_inside
from napari_deeppixel.training.evaluation.truth import Found, Truth

Kind = Literal["mask", "box"]

# a prediction that is no match is no error either from this share on, as an anchor in training
IGNORED_SHARE = 0.5
_IOU50, _IOU75 = 0, 5
# in the order of COCO's area ranges: all, small, medium, large
_ALL = 0
_MIN_LIMIT = 100
# the library measures a box that it is given, whatever area stands beside it
_AREA_KEY = "own_area"


@dataclass(frozen=True, kw_only=True)
class CocoResult:
    """COCO's figures and curves."""

    figures: CocoFigures
    curves: tuple[PrecisionRecall, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class CocoImage:
    """What COCO's figures take of one image: made once, counted alone or with others.

    Attributes
    ----------
    image_hw
        Its height and width.
    categories
        Of all images that are counted with it.
    annotations, detections
        COCO's entries, but for the numbers that the set of images gives them.
    """

    image_hw: tuple[int, int]
    categories: CategoryTable
    annotations: tuple[dict[str, Any], ...]
    detections: tuple[dict[str, Any], ...]


def coco_image(truth: Truth, found: Found, kind: Kind) -> CocoImage:
    """Return what is counted of one image; truth and predictions share their categories.

    Predictions without a mask count for boxes alone; those with an empty one are wrong.
    """
    return CocoImage(
        image_hw=truth.instances.image_hw,
        categories=truth.instances.categories,
        annotations=tuple(_annotations(truth, kind)),
        detections=tuple(_detections(_judged(truth, found, kind), kind)),
    )


def coco_result(truths: Sequence[Truth], founds: Sequence[Found], kind: Kind) -> CocoResult:
    """Return COCO's figures of masks or boxes; truths and predictions share their categories."""
    pairs = zip(truths, founds, strict=True)
    return result_of_images([coco_image(truth, found, kind) for truth, found in pairs], kind)


def result_of_images(images: Sequence[CocoImage], kind: Kind) -> CocoResult:
    """Return COCO's figures of images that share their categories."""
    document = _true_document(images)
    detections = [
        entry | {"image_id": image_id}
        for image_id, image in enumerate(images, start=1)
        for entry in image.detections
    ]
    objects = [entry for entry in document["annotations"] if not entry["iscrowd"]]
    if not objects:
        return CocoResult(figures=CocoFigures(), curves=())
    precision, recall = _evaluated(document, detections, kind)
    by_category = {
        category["name"]: CategoryFigures(
            ap=_mean(precision[:, :, position, _ALL]),
            ap50=_mean(precision[_IOU50, :, position, _ALL]),
            ap75=_mean(precision[_IOU75, :, position, _ALL]),
            ar=_mean(recall[:, position, _ALL]),
            num_objects=sum(entry["category_id"] == category["id"] for entry in objects),
        )
        for position, category in enumerate(document["categories"])
    }
    every, small, medium, large = (_mean(precision[..., area]) for area in range(4))
    figures = CocoFigures(
        ap=every,
        ap50=_mean(precision[_IOU50, ..., _ALL]),
        ap75=_mean(precision[_IOU75, ..., _ALL]),
        ap_small=small,
        ap_medium=medium,
        ap_large=large,
        ar=_mean(recall[..., _ALL]),
        by_category=by_category,
    )
    curves = [
        PrecisionRecall(iou=iou, precisions=_curve(precision[at, ..., _ALL]))
        for iou, at in ((0.5, _IOU50), (0.75, _IOU75))
    ]
    return CocoResult(figures=figures, curves=tuple(curves))


def _evaluated(
    document: dict[str, Any], detections: list[dict[str, Any]], kind: Kind
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return precision (IoU, recall, category, area) and recall (IoU, category, area); -1: none."""
    counts = [entry["image_id"] for entry in detections]
    most = int(np.bincount(counts).max()) if counts else 0
    reference = COCO(document)
    results = reference.loadRes(detections)
    for entry in results.dataset["annotations"]:
        entry["area"] = entry.get(_AREA_KEY, entry["area"])
    evaluation = COCOeval_faster(reference, results, "segm" if kind == "mask" else "bbox")
    evaluation.params.maxDets = [1, 10, max(_MIN_LIMIT, most)]
    evaluation.evaluate()
    evaluation.accumulate()
    precision = np.asarray(evaluation.eval["precision"])[..., -1]
    return precision, np.asarray(evaluation.eval["recall"])[..., -1]


def _mean(values: NDArray[np.float64]) -> float:
    known = values[values > -1]
    return float(known.mean()) if known.size else float("nan")


def _curve(precision: NDArray[np.float64]) -> tuple[float, ...]:
    known = precision[:, (precision > -1).any(axis=0)]
    return tuple(known.mean(axis=1).tolist()) if known.size else ()


def _true_document(images: Sequence[CocoImage]) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = []
    for image_id, image in enumerate(images, start=1):
        for entry in image.annotations:
            annotations.append(entry | {"image_id": image_id, "id": len(annotations) + 1})
    table = images[0].categories.categories if images else ()
    return {
        "images": [
            {"id": n, "height": image.image_hw[0], "width": image.image_hw[1]}
            for n, image in enumerate(images, start=1)
        ],
        "annotations": annotations,
        "categories": [{"id": category.id, "name": category.name} for category in table],
    }


def _annotations(truth: Truth, kind: Kind) -> Iterator[dict[str, Any]]:
    for is_crowd, instances, boxes_xywh, areas in (
        (0, truth.instances, truth.boxes_xywh, truth.areas),
        (1, truth.crowds, truth.crowd_boxes_xywh, truth.crowd_areas),
    ):
        for entry, box, area in zip(_entries(instances, kind), boxes_xywh, areas, strict=True):
            yield entry | {"iscrowd": is_crowd, "bbox": box.tolist(), "area": float(area)}
    for each in truth.maskless:
        if each.is_empty if kind == "mask" else each.box_xywh:
            yield {
                "category_id": each.category_id,
                "segmentation": _empty_runs(truth.instances.image_hw),
                "bbox": list(each.box_xywh or (0.0,) * 4),
                "area": each.area,
                "iscrowd": int(each.is_crowd),
            }


def _detections(found: Found, kind: Kind) -> list[dict[str, Any]]:
    instances, has_box = found.instances, found.has_box
    entries = _entries(instances, kind)
    for position, entry in enumerate(entries):
        entry["score"] = float(instances.scores[position])
        # a box makes the library take its area for the mask's
        if kind == "box":
            entry["bbox"] = found.boxes_xywh[position].tolist()
            if not has_box[position]:
                # COCO sorts what has a mask by its area, annotations as well
                entry[_AREA_KEY] = float(instances.areas[position])
        elif found.is_empty[position]:
            entry["segmentation"] = _empty_runs(instances.image_hw)
    return entries


def _empty_runs(image_hw: tuple[int, int]) -> dict[str, Any]:
    height, width = image_hw
    runs = {"size": [height, width], "counts": [height * width]}
    empty: dict[str, Any] = coco_mask.frPyObjects(runs, height, width)
    return empty


def _entries(instances: InstanceSet, kind: Kind) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = [
        {"category_id": category_id} for category_id in instances.category_ids.tolist()
    ]
    if kind == "mask":
        for entry, mask in zip(entries, instances.masks, strict=True):
            entry["segmentation"] = mask_to_rle(mask, instances.image_hw)
    return entries


def _judged(truth: Truth, found: Found, kind: Kind) -> Found:
    """Return the predictions that are right or wrong, and not just where nobody knows."""
    if kind == "mask":
        found = found.select(~found.is_box_alone)
    if truth.ignored is None or not len(found.instances):
        return found
    ignored = truth.ignored.to_mask(truth.instances.image_hw)
    if kind == "mask":
        shares = shares_inside(found.instances, ignored)
        pairs = mask_pairs(truth.instances, found.instances)
    else:
        shares = box_shares_inside(found.boxes_xyxy, ignored)
        pairs = box_pairs(truth.instances.boxes_xyxy, found.boxes_xyxy)
    same = truth.instances.category_ids[pairs.true] == found.instances.category_ids[pairs.found]
    is_kept = shares < IGNORED_SHARE
    is_kept[pairs.found[same & (pairs.ious >= IGNORED_SHARE)]] = True
    return found.select(is_kept)


def box_shares_inside(boxes_xyxy: Boxes, region: BoolImage) -> NDArray[np.float64]:
    """Return the share (N,) of each box's pixels that lies in a region (H, W)."""
    height, width = region.shape
    corners = boxes_xyxy.round().astype(int).clip(0, (width, height, width, height))
    inside = [region[y1:y2, x1:x2] for x1, y1, x2, y2 in corners.tolist()]
    return np.array([float(part.mean()) if part.size else 0.0 for part in inside])
