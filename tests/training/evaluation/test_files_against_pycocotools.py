"""Whole files, with all that other programs put into them: the figures are pycocotools'."""

import contextlib
import copy
import io
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from napari_deeppixel.training.evaluation.data import read_data
from napari_deeppixel.training.evaluation.report import EvaluationReport, evaluate_predictions
from napari_deeppixel.training.evaluation.results import read_results

HW = (90, 120)
CATEGORY_IDS = (0, 3)
Form = Literal["mask", "box", "both"]


def runs_of(mask: np.ndarray) -> dict[str, Any]:
    runs = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(HW), "counts": runs["counts"].decode()}


def disc(rng: np.random.Generator) -> np.ndarray:
    y, x = rng.uniform(0, HW[0]), rng.uniform(0, HW[1])
    rows, columns = np.mgrid[: HW[0], : HW[1]]
    # a third are larger than 32 x 32 pixels
    radius = rng.uniform(3, 26)
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


class Files:
    """What a person has: `instances.json`, and what another program found."""

    def __init__(self, form: Form) -> None:
        self._rng, self._form = np.random.default_rng(5), form
        self.annotations: list[dict[str, Any]] = []
        self.results: list[dict[str, Any]] = []
        self.document = {
            "images": [
                {"id": n, "file_name": f"{n}.png", "height": HW[0], "width": HW[1]}
                for n in (1, 2, 3)
            ],
            "annotations": self.annotations,
            "categories": [{"id": n, "name": f"kind {n}"} for n in CATEGORY_IDS],
        }
        for image_id in (1, 2, 3):
            for _ in range(12):
                mask, category_id = disc(self._rng), int(self._rng.choice(CATEGORY_IDS))
                self._annotate(image_id, category_id, mask)
                for shift in range(int(self._rng.integers(0, 3))):
                    self._find(image_id, category_id, np.roll(mask, shift + 1, 1))
        nothing = np.zeros(HW, bool)
        # a mask without a pixel, which has a high score where it was predicted
        self._annotate(2, 3, nothing)
        self._find(1, 0, nothing, score=0.97)
        self._find(3, 3, nothing, score=0.99)
        if form == "both":
            # its box is that of an object
            self.results[-2]["bbox"] = self.annotations[0]["bbox"]
            self.results[-2]["category_id"] = self.annotations[0]["category_id"]

    def _annotate(self, image_id: int, category_id: int, mask: np.ndarray) -> None:
        runs = runs_of(mask)
        self.annotations.append(
            {
                "id": len(self.annotations) + 1,
                "image_id": image_id,
                "category_id": category_id,
                "iscrowd": int(self._rng.random() < 0.1),
                "segmentation": runs,
                "area": float(coco_mask.area(runs)),
                "bbox": coco_mask.toBbox(runs).tolist(),
            }
        )

    def _find(
        self, image_id: int, category_id: int, mask: np.ndarray, score: float | None = None
    ) -> None:
        runs = runs_of(mask)
        entry = {
            "image_id": image_id,
            "category_id": category_id,
            "score": float(self._rng.random()) if score is None else score,
        }
        if self._form != "box":
            entry["segmentation"] = runs
        if self._form != "mask":
            x, y, width, height = coco_mask.toBbox(runs).tolist()
            entry["bbox"] = [x + 0.25, y, width + 0.5, height]
        self.results.append(entry)

    def report(self, folder: Path) -> EvaluationReport:
        (folder / "instances.json").write_text(json.dumps(self.document))
        (folder / "results.json").write_text(json.dumps(self.results))
        data = read_data(folder / "instances.json")
        founds, _ = read_results(folder / "results.json", data)
        return evaluate_predictions(data.truths, founds, score=0.5)

    def pycocotools(self, kind: Literal["segm", "bbox"]) -> list[float]:
        results = copy.deepcopy(self.results)
        for entry in results:
            if kind == "segm":
                # with a box, pycocotools takes that for the size of the mask
                entry.pop("bbox", None)
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO()
            truth.dataset = copy.deepcopy(self.document)
            truth.createIndex()
            run = COCOeval(truth, truth.loadRes(results), kind)
            run.evaluate()
            run.accumulate()
        precision, recall = run.eval["precision"][..., -1], run.eval["recall"][..., -1]
        parts = [precision[..., 0], precision[0, ..., 0], precision[5, ..., 0]]
        parts += [*(precision[..., area] for area in (1, 2, 3)), recall[..., 0]]
        return [float(p[p > -1].mean()) if (p > -1).any() else float("nan") for p in parts]


def as_list(figures: Any) -> list[float]:
    by_size = (figures.ap_small, figures.ap_medium, figures.ap_large)
    return [figures.ap, figures.ap50, figures.ap75, *by_size, figures.ar]


@pytest.mark.parametrize("form", ["mask", "box", "both"])
def test_files_give_the_figures_of_pycocotools(tmp_path: Path, form: Form) -> None:
    files = Files(form)
    report = files.report(tmp_path)
    assert as_list(report.box) == pytest.approx(files.pycocotools("bbox"), abs=1e-12, nan_ok=True)
    if form != "box":
        expected = files.pycocotools("segm")
        assert as_list(report.mask) == pytest.approx(expected, abs=1e-12, nan_ok=True)
        assert "2 predictions with an empty mask" in report.notes[-1]


def test_annotations_that_are_boxes_alone_have_figures_of_boxes(tmp_path: Path) -> None:
    files = Files("box")
    # pycocotools fails on boxes of crowds without a mask
    files.annotations[:] = [each for each in files.annotations if not each["iscrowd"]]
    for number, each in enumerate(files.annotations):
        if number % 2:
            each["segmentation"] = []
        else:
            del each["segmentation"]
    report = files.report(tmp_path)
    assert as_list(report.box) == pytest.approx(files.pycocotools("bbox"), abs=1e-12, nan_ok=True)
    assert np.isnan(report.mask.ap)
    assert report.num_objects == len(files.annotations)
    assert any("annotations with a box and no mask" in note for note in report.notes)


def test_whole_numbers_with_a_point_are_the_same_ids(tmp_path: Path) -> None:
    files = Files("mask")
    expected = as_list(files.report(tmp_path).mask)
    for entry in [*files.results, *files.annotations]:
        entry |= {"image_id": float(entry["image_id"]), "category_id": float(entry["category_id"])}
    assert as_list(files.report(tmp_path).mask) == pytest.approx(expected, nan_ok=True)
    for entry in files.document["images"] + files.document["categories"]:
        entry["id"] = float(entry["id"])
    assert as_list(files.report(tmp_path).mask) == pytest.approx(expected, nan_ok=True)
