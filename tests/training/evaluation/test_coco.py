"""COCO's figures against pycocotools on the same data."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tests.training.datasets import CELLS, instances_of, rectangle
from tests.training.evaluation.made import found_with, truth_with

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.geometry import boxes_xywh_to_xyxy
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.training.evaluation.coco import Kind, coco_result
from napari_deeppixel.training.evaluation.figures import CocoFigures
from napari_deeppixel.training.evaluation.truth import Found, Truth

HW = (150, 190)
THREE = CategoryTable.from_names("a", "b", "c")


class RandomData:
    """Images with masks that overlap, crowds, boxes and areas that are not the masks' own."""

    def __init__(self, seed: int, num_images: int = 4) -> None:
        self._rng = np.random.default_rng(seed)
        self.truths: list[Truth] = []
        self.founds: list[Found] = []
        self.annotations: list[dict[str, Any]] = []
        self.detections: list[dict[str, Any]] = []
        for image_id in range(1, num_images + 1):
            self._add_image(image_id)

    def _add_image(self, image_id: int) -> None:
        rng = self._rng
        true = [self._blob() for _ in range(int(rng.integers(5, 30)))]
        ids, is_crowd = rng.integers(1, 4, len(true)), rng.random(len(true)) < 0.15
        found = [self._moved(mask) for mask in true for _ in range(int(rng.integers(0, 4)))]
        found += [self._blob() for _ in range(150)]
        # far more than 100 of one category
        found_ids = rng.choice([1, 2, 3], len(found), p=[0.8, 0.1, 0.1])
        # ties within an image and between images
        scores = rng.integers(1, 30, len(found)) / 30
        boxes, found_boxes = (self._boxes(masks) for masks in (true, found))
        areas = np.array([mask.area for mask in true]) * rng.uniform(0.8, 1.2, len(true))
        self._add_truth(image_id, (true, ids, is_crowd, boxes, areas))
        instances = instances_of(
            found,
            HW,
            THREE,
            category_ids=found_ids,
            scores=scores,
            predicted_boxes_xyxy=boxes_xywh_to_xyxy(found_boxes),
        )
        self.founds.append(Found(instances=instances, boxes_xywh=found_boxes))
        for mask, category, score, box in zip(found, found_ids, scores, found_boxes, strict=True):
            entry = _entry(image_id, mask, category, box)
            self.detections.append(entry | {"score": float(score)})

    def _add_truth(self, image_id: int, values: tuple[Any, ...]) -> None:
        true, ids, is_crowd, boxes, areas = values
        parts = [
            instances_of(
                [m for m, chosen in zip(true, which, strict=True) if chosen],
                HW,
                THREE,
                category_ids=ids[which],
            )
            for which in (~is_crowd, is_crowd)
        ]
        self.truths.append(
            Truth(
                file_name=str(image_id),
                instances=parts[0],
                crowds=parts[1],
                boxes_xywh=boxes[~is_crowd],
                areas=areas[~is_crowd],
                crowd_boxes_xywh=boxes[is_crowd],
                crowd_areas=areas[is_crowd],
            )
        )
        for mask, category, crowd, box, area in zip(*values, strict=True):
            entry = _entry(image_id, mask, category, box) | {"area": float(area)}
            number = len(self.annotations) + 1
            self.annotations.append(entry | {"id": number, "iscrowd": int(crowd)})

    def _blob(self) -> CroppedMask:
        rng = self._rng
        height, width = rng.integers(3, 110 if rng.random() < 0.2 else 40, 2)
        y, x = (int(rng.integers(0, side - 2)) for side in HW)
        pixels = rng.random((min(height, HW[0] - y), min(width, HW[1] - x))) < 0.9
        pixels[0, 0] = True
        mask = CroppedMask.from_mask(pixels, y=y, x=x)
        assert mask is not None
        return mask

    def _moved(self, mask: CroppedMask) -> CroppedMask:
        shifted = np.roll(mask.to_mask(HW), self._rng.integers(-3, 4, 2), (0, 1))
        moved = CroppedMask.from_mask(shifted)
        assert moved is not None
        return moved

    def _boxes(self, masks: Sequence[CroppedMask]) -> np.ndarray:
        boxes = np.array([mask.box_xyxy for mask in masks], float)
        boxes[:, 2:] -= boxes[:, :2]
        boxes[:, :2] += self._rng.normal(0, 0.5, (len(masks), 2))
        return boxes


def _entry(image_id: int, mask: CroppedMask, category: Any, box: np.ndarray) -> dict[str, Any]:
    runs = coco_mask.encode(np.asfortranarray(mask.to_mask(HW).astype(np.uint8)))
    return {
        "image_id": image_id,
        "category_id": int(category),
        "bbox": box.tolist(),
        "segmentation": runs,
    }


def pycocotools_figures(data: RandomData, kind: Kind) -> tuple[CocoFigures, np.ndarray]:
    """Return what pycocotools says with `maxDets` to match, and its precision at IoU 0.5."""
    hidden = "bbox" if kind == "mask" else "segmentation"
    detections = [{k: v for k, v in each.items() if k != hidden} for each in data.detections]
    most = max(np.bincount([each["image_id"] for each in detections]))
    of_first = [each["image_id"] for each in detections if each["category_id"] == 1]
    assert max(np.bincount(of_first)) > 120
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [
                {"id": n, "height": HW[0], "width": HW[1]} for n in range(1, len(data.truths) + 1)
            ],
            "annotations": data.annotations,
            "categories": [{"id": c.id, "name": c.name} for c in THREE.categories],
        }
        truth.createIndex()
        run = COCOeval(truth, truth.loadRes(detections), "segm" if kind == "mask" else "bbox")
        run.params.maxDets = [1, 10, int(most)]
        run.evaluate()
        run.accumulate()
    precision, recall = run.eval["precision"][..., -1], run.eval["recall"][..., -1]

    def mean(values: np.ndarray) -> float:
        return float(values[values > -1].mean()) if (values > -1).any() else float("nan")

    sizes = [mean(precision[..., area]) for area in (1, 2, 3)]
    figures = CocoFigures(
        ap=mean(precision[..., 0]),
        ap50=mean(precision[0, ..., 0]),
        ap75=mean(precision[5, ..., 0]),
        ap_small=sizes[0],
        ap_medium=sizes[1],
        ap_large=sizes[2],
        ar=mean(recall[..., 0]),
    )
    return figures, precision[..., 0]


@pytest.mark.parametrize("kind", ["mask", "box"])
@pytest.mark.parametrize("seed", [0, 1])
def test_figures_are_those_of_pycocotools(seed: int, kind: Kind) -> None:
    data = RandomData(seed)
    result = coco_result(data.truths, data.founds, kind)
    expected, precision = pycocotools_figures(data, kind)
    assert 0.001 < expected.ap < 0.9
    for name in ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar"):
        value = getattr(result.figures, name)
        assert value == pytest.approx(getattr(expected, name), abs=1e-9, nan_ok=True), name
    for position, (name, one) in enumerate(result.figures.by_category.items()):
        assert name == THREE.categories[position].name
        assert one.ap == pytest.approx(precision[:, :, position].mean(), abs=1e-9)
        assert one.ap50 == pytest.approx(precision[0, :, position].mean(), abs=1e-9)
    for curve, at in zip(result.curves, (0, 5), strict=True):
        assert curve.precisions == pytest.approx(precision[at].mean(axis=1).tolist(), abs=1e-9)
    counts = [one.num_objects for one in result.figures.by_category.values()]
    assert sum(counts) == sum(not each["iscrowd"] for each in data.annotations)


def test_a_crowd_takes_many_predictions_of_its_category_and_no_other() -> None:
    table = CategoryTable.from_names("cell", "yeast")
    cell, crowd = rectangle(0, 0, 8, 8), rectangle(20, 0, 40, 20)
    truth = truth_with(cell, table=table, crowds=[crowd])
    inside = [rectangle(x, 2, x + 4, 6) for x in (20, 26, 34)]
    scored = [(mask, 0.9) for mask in inside] + [(cell, 0.5)]
    of_cells = found_with(*scored, table=table, ids=[1, 1, 1, 1])
    assert coco_result([truth], [Found(instances=of_cells)], "mask").figures.ap == 1
    assert coco_result([truth], [Found(instances=of_cells)], "box").figures.ap == 1
    # without the crowd, they are three errors before the hit
    alone = truth_with(cell, table=table)
    assert coco_result([alone], [Found(instances=of_cells)], "mask").figures.ap == pytest.approx(
        0.25
    )


@pytest.mark.parametrize("kind", ["mask", "box"])
def test_what_lies_by_half_where_nobody_knows_counts_neither_way(kind: Kind) -> None:
    cell = rectangle(0, 0, 8, 8)
    ignored = rectangle(30, 0, 60, 40)
    truth = truth_with(cell, ignored=ignored)

    def ap(place: CroppedMask) -> float:
        found = Found(instances=found_with((place, 0.9), (cell, 0.5)))
        return coco_result([truth], [found], kind).figures.ap

    assert ap(rectangle(28, 4, 32, 8)) == 1
    assert ap(rectangle(27, 4, 31, 8)) == pytest.approx(0.5)
    # an object that reaches into it is found all the same
    reaching = rectangle(20, 0, 50, 10)
    truth = truth_with(reaching, ignored=ignored)
    found = Found(instances=found_with((reaching, 0.9)))
    assert coco_result([truth], [found], kind).figures.ap == 1


def test_predictions_without_a_mask_count_for_boxes_alone() -> None:
    cell = rectangle(4, 4, 12, 12)
    truth = truth_with(cell)
    loose = Found(instances=found_with((cell, 0.9)), has_mask=np.array([False]))
    assert coco_result([truth], [loose], "box").figures.ap == 1
    assert coco_result([truth], [loose], "mask").figures.ap == 0


def test_predicted_boxes_are_compared_and_not_those_round_the_mask() -> None:
    cell = rectangle(4, 4, 14, 14)
    truth = truth_with(cell)
    wide = np.array([[4.0, 4.0, 24.0, 14.0]])
    found = Found(instances=found_with((cell, 0.9), predicted_boxes_xyxy=wide))
    assert coco_result([truth], [found], "mask").figures.ap == 1
    # an IoU of exactly a half
    figures = coco_result([truth], [found], "box").figures
    assert (figures.ap50, figures.ap75) == (1, 0)


def test_sizes_go_by_area() -> None:
    small, medium = rectangle(0, 0, 31, 33), rectangle(40, 0, 73, 32)
    truth = truth_with(small, medium, image_hw=(60, 90))
    found = Found(instances=found_with((small, 0.9), image_hw=(60, 90)))
    figures = coco_result([truth], [found], "mask").figures
    assert (figures.ap_small, figures.ap_medium) == (1, 0)
    assert np.isnan(figures.ap_large)
    assert figures.ar == 0.5


def test_nothing_to_find_has_no_figures_and_no_image_neither() -> None:
    found = Found(instances=found_with((rectangle(0, 0, 2, 2), 0.9)))
    result = coco_result([truth_with()], [found], "mask")
    assert np.isnan(result.figures.ap)
    assert result.curves == ()
    assert np.isnan(coco_result([], [], "box").figures.ar)
    assert CELLS.categories[0].name not in result.figures.by_category
