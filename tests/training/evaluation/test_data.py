"""Annotated images in every form that people have them in."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.training.datasets import CELLS, instances_of, rectangle

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState, Split
from napari_deeppixel.dataset.formats.coco import write_coco
from napari_deeppixel.dataset.store import Dataset
from napari_deeppixel.training.evaluation.data import read_data, read_pixels, with_appearance

HW = (20, 30)
LEFT, RIGHT = rectangle(2, 2, 8, 8), rectangle(15, 4, 25, 12)


def save(path: Path, instances: InstanceSet | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    bright = np.zeros(HW, np.uint8) if instances is None else (instances.label_image() > 0) * 200
    Image.fromarray(bright.astype(np.uint8)).save(path)
    return path


def annotated(name: str, *masks: Any, **fields: Any) -> AnnotatedImage:
    return AnnotatedImage.of(name, instances_of(masks, HW), **fields)


def names(data: Any) -> list[str]:
    return [truth.file_name for truth in data.truths]


def add_to(dataset: Dataset, name: str, *, state: ImageState, split: Split) -> None:
    image = annotated(name, LEFT)
    pixels = (image.instances.label_image() > 0).astype(np.uint8) * (100 + ord(name))
    dataset.add_pixels(pixels[..., None], name=name, planes=[image], state=state, split=split)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    made = Dataset.create(tmp_path / "data", categories=CELLS)
    add_to(made, "a", split=Split.TRAIN, state=ImageState.COMPLETE)
    add_to(made, "b", split=Split.VAL, state=ImageState.COMPLETE)
    add_to(made, "c", split=Split.VAL, state=ImageState.DRAFT)
    return tmp_path / "data"


def test_of_a_dataset_the_complete_images_of_val_count(dataset: Path) -> None:
    for data in (read_data(dataset), read_data(dataset / "val")):
        assert [Path(name).stem for name in names(data)] == ["b"]
        assert data.problems == (
            "left out: 1 image that nobody marked complete, without a complete region",
        )
    (train,) = names(read_data(dataset, split=Split.TRAIN))
    assert Path(train).stem == "a"
    assert read_data(dataset).truths[0].path is not None


def test_without_a_val_image_all_count_with_a_word(tmp_path: Path) -> None:
    made = Dataset.create(tmp_path / "data", categories=CELLS)
    add_to(made, "a", split=Split.TRAIN, state=ImageState.COMPLETE)
    data = read_data(tmp_path / "data")
    assert [Path(name).stem for name in names(data)] == ["a"]
    assert "no complete image in the split val: all of its splits count" in data.problems[0]
    with pytest.raises(AnnotationError, match="no annotated image in the split test"):
        read_data(tmp_path / "data", split=Split.TEST)


@pytest.mark.parametrize("place", [".", "images"])
def test_a_coco_file_finds_its_images_beside_it_and_in_images(tmp_path: Path, place: str) -> None:
    image = annotated("a.png", LEFT, RIGHT)
    write_coco([image], tmp_path / "instances.json")
    save(tmp_path / place / "a.png", image.instances)
    for path in (tmp_path / "instances.json", tmp_path):
        data = read_data(path)
        assert [len(truth.instances) for truth in data.truths] == [2]
        assert read_pixels(data.truths[0]).shape == (*HW, 1)
    seen = with_appearance(data.truths[0], read_pixels(data.truths[0]))
    assert seen.appearance == "grey, lighter objects"


def test_boxes_areas_and_order_are_those_of_the_file(tmp_path: Path) -> None:
    document = {
        "images": [
            {"id": 9, "file_name": "z.png", "height": 20, "width": 30},
            {"id": 2, "file_name": "y.png", "height": 20, "width": 30},
        ],
        "annotations": [
            {
                "id": 1,
                "image_id": 9,
                "category_id": 0,
                "segmentation": [[2, 2, 8, 2, 8, 8, 2, 8]],
                "bbox": [1.5, 2, 6.25, 6],
                "area": 33.5,
                "iscrowd": 0,
            },
            {
                "id": 2,
                "image_id": 9,
                "category_id": 0,
                "segmentation": [[12, 2, 18, 2, 18, 8, 12, 8]],
                "bbox": [12, 2, 6, 6],
                "area": 36,
                "iscrowd": 1,
            },
        ],
        "categories": [{"id": 0, "name": "cell"}],
    }
    (tmp_path / "some.json").write_text(json.dumps(document))
    data = read_data(tmp_path / "some.json")
    assert data.image_ids == (2, 9)
    truth = data.truths[1]
    assert truth.boxes_xywh.tolist() == [[1.5, 2, 6.25, 6]]
    assert truth.areas.tolist() == [33.5]
    assert (len(truth.crowds), truth.crowd_areas.tolist()) == (1, [36])
    assert data.category_ids == {0: truth.instances.categories.categories[0].id}
    # images that are not there are told, and told again when they are needed
    assert any("there is no such image" in problem for problem in data.problems)
    with pytest.raises(AnnotationError, match=r"z.png: the image is not there"):
        read_pixels(truth)


def test_states_and_regions_are_honoured(tmp_path: Path) -> None:
    states = (InstanceState.REJECTED, InstanceState.UNSURE, InstanceState.ACCEPTED)
    masks = (LEFT, rectangle(0, 15, 4, 19), RIGHT)
    image = AnnotatedImage.of(
        "a.png",
        instances_of(masks, HW, states=states),
        state=ImageState.DRAFT,
        regions=(((0, 0), (28, 0), (28, 20), (0, 20)),),
    )
    write_coco([image], tmp_path / "instances.json")
    save(tmp_path / "a.png")
    (truth,) = read_data(tmp_path).truths
    assert [mask.box_xyxy for mask in truth.instances.masks] == [RIGHT.box_xyxy]
    assert truth.ignored is not None
    ignored = truth.ignored.to_mask(HW)
    # the unsure one and what is outside the region
    assert (ignored[16, 2], ignored[3, 3], ignored[3, 29]) == (True, False, True)


def test_label_images_are_read_as_they_are(tmp_path: Path) -> None:
    instances = instances_of([LEFT, RIGHT], HW)
    save(tmp_path / "images" / "a.png", instances)
    (tmp_path / "labels").mkdir()
    Image.fromarray(instances.label_image()).save(tmp_path / "labels" / "a.png")
    (truth,) = read_data(tmp_path).truths
    assert truth.instances.areas.tolist() == [36, 80]
    assert truth.instances.categories == CategoryTable.from_names("object")
    assert truth.path == tmp_path / "images" / "a.png"


def test_of_a_folder_with_splits_val_counts(tmp_path: Path) -> None:
    for split in ("train", "val"):
        image = annotated(f"{split}.png", LEFT)
        save(tmp_path / split / f"{split}.png")
        write_coco([image], tmp_path / split / "instances.json")
    data = read_data(tmp_path)
    assert names(data) == ["val.png"]
    assert "val counts" in data.problems[-1]
    assert names(read_data(tmp_path, split=Split.TRAIN)) == ["train.png"]
    assert names(read_data(tmp_path / "train")) == ["train.png"]


def test_an_image_of_another_size_is_told(tmp_path: Path) -> None:
    write_coco([annotated("a.png", LEFT)], tmp_path / "instances.json")
    Image.fromarray(np.zeros((5, 6), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(AnnotationError, match=r"a.png has \(5, 6\) pixels, its annotations"):
        read_pixels(read_data(tmp_path).truths[0])
    (tmp_path / "a.png").write_bytes(b"nothing")
    with pytest.raises(AnnotationError, match="cannot be read"):
        read_pixels(read_data(tmp_path).truths[0])


def test_what_is_missing_or_no_data_is_told(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="no such file or folder"):
        read_data(tmp_path / "nowhere")
    with pytest.raises(AnnotationError, match="the format cannot be told"):
        read_data(tmp_path)
