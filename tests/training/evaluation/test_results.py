"""Files of predictions that other programs wrote, right and wrong."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from tests.training.datasets import CELLS, instances_of, rectangle
from tests.training.evaluation.made import IMAGE_HW, truth_with

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.dataset.annotated import AnnotatedImage
from napari_deeppixel.dataset.formats.coco import write_coco
from napari_deeppixel.training.evaluation.data import EvaluationData
from napari_deeppixel.training.evaluation.results import read_results

CELL = rectangle(4, 6, 10, 16)
HEIGHT, WIDTH = IMAGE_HW


def data_of(*ids: int | str | None, table: CategoryTable = CELLS, **fields: Any) -> EvaluationData:
    truths = tuple(
        truth_with(CELL, table=table, file_name=f"images/{n}.png") for n in range(len(ids))
    )
    return EvaluationData(truths=truths, image_ids=ids, **{"category_ids": {}} | fields)


def entry(**fields: Any) -> dict[str, Any]:
    polygon = [4, 6, 10, 6, 10, 16, 4, 16]
    values = {"image_id": 7, "category_id": 1, "score": 0.5, "segmentation": [polygon]}
    return {key: value for key, value in (values | fields).items() if value is not ...}


def written(tmp_path: Path, value: Any) -> Path:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(value))
    return path


def test_run_lengths_and_polygons_are_the_same_mask(tmp_path: Path) -> None:
    runs = coco_mask.encode(np.asfortranarray(CELL.to_mask(IMAGE_HW).astype(np.uint8)))
    packed = {"size": runs["size"], "counts": runs["counts"].decode()}
    plain = {"size": [HEIGHT, WIDTH], "counts": [4 * HEIGHT + 6, *[10, HEIGHT - 10] * 5, 10]}
    rest = HEIGHT * WIDTH - sum(plain["counts"])
    plain["counts"].append(rest)
    path = written(tmp_path, [entry(), entry(segmentation=packed), entry(segmentation=plain)])
    (found,), notes = read_results(path, data_of(7))
    assert [mask.equals(CELL) for mask in found.instances.masks] == [True] * 3
    assert found.has_mask.tolist() == [True] * 3
    assert notes == []


def test_order_scores_and_boxes_are_those_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, [entry(score=0.2, bbox=[3.5, 6, 7, 10.5]), entry(score=0.9)])
    (found,), _ = read_results(path, data_of(7))
    assert found.instances.scores.tolist() == [0.2, 0.9]
    assert found.boxes_xyxy.tolist() == [[3.5, 6, 10.5, 16.5], [4, 6, 10, 16]]


def test_a_score_that_was_rounded_up_is_one(tmp_path: Path) -> None:
    (found,), _ = read_results(written(tmp_path, [entry(score=1.0000001)]), data_of(7))
    assert found.instances.scores.tolist() == [1]


def test_a_box_alone_fills_its_pixels_and_has_no_mask(tmp_path: Path) -> None:
    boxes = [[4, 6, 6, 10], [-3.0, 38, 10, 50], [70, 50, 5, 5]]
    path = written(tmp_path, [entry(segmentation=..., bbox=box) for box in boxes])
    (found,), _ = read_results(path, data_of(7))
    assert found.has_mask.tolist() == [False] * 3
    assert [mask.box_xyxy for mask in found.instances.masks] == [
        (4, 6, 10, 16),
        (0, 38, 7, 40),
        (59, 39, 60, 40),
    ]
    assert found.boxes_xyxy[1].tolist() == [-3, 38, 7, 88]


@pytest.mark.parametrize("image_id", [3, "3"])
def test_ids_are_matched_as_numbers_and_as_text(tmp_path: Path, image_id: int | str) -> None:
    path = written(tmp_path, [entry(image_id=image_id)])
    for own in (3, "3"):
        found, notes = read_results(path, data_of(8, own))
        assert [len(each.instances) for each in found] == [0, 1]
        assert notes == []
    # where the data have both, each is itself
    found, _ = read_results(path, data_of("3", 3))
    assert [len(each.instances) for each in found] == [int(image_id == "3"), int(image_id == 3)]


@pytest.mark.parametrize("image_id", [2, "images/1.png", "1.png", "1"])
def test_images_without_an_id_go_by_name_or_number(tmp_path: Path, image_id: int | str) -> None:
    found, _ = read_results(written(tmp_path, [entry(image_id=image_id)]), data_of(None, None))
    assert [len(each.instances) for each in found] == [0, 1]


def test_unknown_images_and_categories_are_told(tmp_path: Path) -> None:
    table = CategoryTable.from_names("cat", "dog")
    entries = [entry(), entry(image_id=99), entry(image_id="x"), entry(category_id=5)]
    (found,), notes = read_results(written(tmp_path, entries), data_of(7, table=table))
    assert len(found.instances) == 1
    assert notes == [
        "left out: 2 predictions of images that the data do not have (id 99, 'x')",
        "left out: 1 prediction of categories that the data do not have (id 5)",
    ]


def test_category_ids_are_those_of_the_data_file(tmp_path: Path) -> None:
    table = CategoryTable.from_names("cat", "dog")
    entries = [entry(category_id=0), entry(category_id=1)]
    data = data_of(7, table=table, category_ids={0: 1, 1: 2})
    (found,), _ = read_results(written(tmp_path, entries), data)
    assert found.instances.category_ids.tolist() == [1, 2]


def test_one_category_on_both_sides_is_the_same_by_whatever_id(tmp_path: Path) -> None:
    (found,), notes = read_results(written(tmp_path, [entry(category_id=0)]), data_of(7))
    assert found.instances.category_ids.tolist() == [1]
    assert "all predictions are of category 0" in notes[0]


def test_an_empty_mask_is_kept_as_one(tmp_path: Path) -> None:
    nothing = {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}
    box = [1, 2, 3, 4]
    entries = [entry(segmentation=nothing), entry(), entry(segmentation=[], bbox=box)]
    entries.append(entry(segmentation=[[]], bbox=box))
    (found,), notes = read_results(written(tmp_path, entries), data_of(7))
    assert notes == []
    assert found.has_mask.tolist() == [False, True, False, False]
    assert found.is_empty.tolist() == [True, False, False, True]
    assert found.is_box_alone.tolist() == [False, False, True, False]
    assert found.boxes_xywh.tolist() == [[0, 0, 0, 0], [4, 6, 6, 10], box, box]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (7, "entry 1: expected an object, got 7"),
        (entry(image_id=...), "entry 1: image_id must be a number or text, got None"),
        (entry(category_id=[1]), r"entry 1: category_id must be a number or text, got \[1\]"),
        (entry(score=...), r"entry 1 \(image 7\): it has no score"),
        (entry(score=1.5), r"entry 1 \(image 7\): score must lie in 0..1, got 1.5"),
        (entry(segmentation=...), r"entry 1 \(image 7\): it has neither a segmentation nor a bbox"),
        (entry(bbox=[1, 2, 3]), r"entry 1 \(image 7\): bbox must be four numbers"),
        (entry(segmentation="x"), r"entry 1 \(image 7\): expected polygons or run lengths"),
        (
            entry(segmentation={"size": [4, 4], "counts": [16]}),
            r"entry 1 \(image 7\): mask has size \[4, 4\], its image \[40, 60\]",
        ),
    ],
)
def test_a_wrong_entry_is_named_with_its_file(tmp_path: Path, wrong: Any, message: str) -> None:
    path = written(tmp_path, [entry(), wrong])
    with pytest.raises(AnnotationError, match=f"results.json: {message}"):
        read_results(path, data_of(7))


@pytest.mark.parametrize("value", [3, {"results": []}, None])
def test_what_is_no_results_file_is_told(tmp_path: Path, value: Any) -> None:
    with pytest.raises(AnnotationError, match="expected a list of COCO results"):
        read_results(written(tmp_path, value), data_of(7))
    path = tmp_path / "results.json"
    path.write_text("[{")
    with pytest.raises(AnnotationError, match="no readable JSON"):
        read_results(path, data_of(7))


def test_a_coco_document_with_scores_is_as_good(tmp_path: Path) -> None:
    table = CategoryTable.from_names("other", "cell")
    instances = instances_of([CELL], IMAGE_HW, table, category_ids=[2], scores=np.array([0.7]))
    path = tmp_path / "found.json"
    # the name goes before the id, which another program gave
    write_coco([AnnotatedImage.of("images/1.png", instances, image_id=7)], path)
    found, notes = read_results(path, data_of(7, 8))
    assert [len(each.instances) for each in found] == [0, 1]
    assert found[1].instances.scores.tolist() == [0.7]
    assert notes == []
    document = json.loads(path.read_text())
    document["annotations"].append(
        {"id": 5, "image_id": 7, "category_id": 2, "bbox": [0, 0, 4, 4], "score": 0.4}
    )
    found, _ = read_results(written(tmp_path, document), data_of(7, 8))
    assert found[1].has_mask.tolist() == [True, False]
    # without the images' entries, it is a list
    alone = {"annotations": [entry()]}
    assert len(read_results(written(tmp_path, alone), data_of(7))[0][0].instances) == 1
    del document["annotations"][0]["score"]
    with pytest.raises(AnnotationError, match="has no score: predictions need one"):
        read_results(written(tmp_path, document), data_of(7, 8))
