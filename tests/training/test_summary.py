"""What there is to learn from, told before training."""

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from tests.dataset.folders import HW, document_of, new_dataset, put_document, squares, write_image

from napari_deeppixel.core.errors import AnnotationError, RunCancelled
from napari_deeppixel.core.instance import InstanceState
from napari_deeppixel.core.normalization import Normalization
from napari_deeppixel.core.progress import CancelToken, Progress
from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState, Split
from napari_deeppixel.dataset.formats.coco import write_coco
from napari_deeppixel.dataset.store import Dataset
from napari_deeppixel.training import summary as summary_module
from napari_deeppixel.training.samples import read_split
from napari_deeppixel.training.summary import Known, summarise

# x from 0 to 4: the left half of an image of 6 x 8
LEFT_HALF = (((0.0, 0.0), (4.0, 0.0), (4.0, 6.0), (0.0, 6.0)),)


def add(
    dataset: Dataset,
    level: int,
    image: AnnotatedImage,
    *,
    split: Split = Split.TRAIN,
    state: ImageState = ImageState.COMPLETE,
) -> str:
    """Add an image of a grey level; return its name."""
    path = write_image(dataset.path.parent / "in" / f"{level}.png", level)
    added = dataset.add_file(path, planes=[image], split=split, state=state)
    return added.entry.image_id


def two_splits(tmp_path: Path) -> Dataset:
    """Return a dataset of three images: 2 and 0 objects in train, 1 in val."""
    dataset = new_dataset(tmp_path)
    add(dataset, 1, squares((0, 0), (3, 3)))
    add(dataset, 2, squares())
    add(dataset, 3, squares((1, 1)), split=Split.VAL)
    return dataset


def hash_of(dataset: Dataset) -> str:
    return summarise(dataset.path).content_hash


def with_squares(dataset: Dataset, image_id: str, **others: Any) -> None:
    """Save other attributes of an image's plane."""
    loaded = dataset.load(image_id)
    planes = [replace(loaded.planes[0], **others)]
    dataset.save(image_id, planes, revision=loaded.revision)


def test_images_and_objects_are_counted_by_split_and_category(tmp_path: Path) -> None:
    found = summarise(two_splits(tmp_path).path)

    assert found.num_images == {"train": 2, "val": 1, "test": 0}
    assert found.num_objects == {
        "nucleus": {"train": 2, "val": 1, "test": 0},
        "cell body": {"train": 0, "val": 0, "test": 0},
    }
    assert found.num_without_objects == 1
    assert found.complete_share == 1
    assert found.num_left_out == 0
    # a circle of 4 px
    assert found.object_diameter_px == pytest.approx((2 * math.sqrt(4 / math.pi),) * 3)
    assert found.lines() == (
        "2 images to learn from, 1 to choose by, 0 for tests.",
        "nucleus: 2 in train, 1 in val, 0 in test.",
        "cell body: 0 in train, 0 in val, 0 in test.",
        "Objects are 2 to 2 px wide, half below 2.",
        "Without an object: 1 image.",
        "Every object is annotated on 100 % of all pixels.",
    )


def test_a_folder_of_coco_files_gives_the_same_numbers(tmp_path: Path) -> None:
    dataset = two_splits(tmp_path)
    for split in (Split.TRAIN, Split.VAL):
        folder = tmp_path / "coco" / split
        (folder / "images").mkdir(parents=True)
        images = list(dataset.annotated([split]))
        write_coco([replace(image, split=None) for image in images], folder / "instances.json")
        for image in images:
            assert image.path is not None
            shutil.copy(image.path, folder / "images" / image.file_name)

    coco, ours = summarise(tmp_path / "coco"), summarise(dataset.path)

    assert (coco.lines(), coco.warnings) == (ours.lines(), ours.warnings)
    assert coco.content_hash == ours.content_hash


def test_the_hash_is_that_of_the_content_wherever_it_lies_and_whatever_it_is_called(
    tmp_path: Path,
) -> None:
    dataset = two_splits(tmp_path)
    before = hash_of(dataset)
    copied = shutil.copytree(dataset.path, tmp_path / "elsewhere" / "copy")
    copy = Dataset.open(copied)
    # saved once more: another revision, another time
    with_squares(copy, "1.png")
    copy.rename("2.png", "other name.png")

    assert hash_of(copy) == before
    assert len(before) == 64


def test_the_hash_changes_with_whatever_training_would_see(tmp_path: Path) -> None:
    dataset = two_splits(tmp_path)
    seen = [hash_of(dataset)]
    moved = squares((0, 1), (3, 3)).instances
    with_squares(dataset, "1.png", instances=moved)
    seen.append(hash_of(dataset))
    with_squares(dataset, "1.png", instances=replace(moved, category_ids=np.array([2, 4])))
    seen.append(hash_of(dataset))
    with_squares(dataset, "1.png", instances=replace(moved, states=(InstanceState.UNREVIEWED,) * 2))
    seen.append(hash_of(dataset))
    dataset.set_state(["1.png"], ImageState.DRAFT)
    seen.append(hash_of(dataset))
    with_squares(dataset, "1.png", regions=LEFT_HALF)
    seen.append(hash_of(dataset))
    dataset.set_split(["1.png"], Split.VAL)
    seen.append(hash_of(dataset))
    Image.fromarray(np.full(HW, 77, np.uint8)).save(dataset.path / "images" / "1.png")
    dataset.accept_image("1.png")
    seen.append(hash_of(dataset))
    dataset.rename_category(2, "cytoplasm")
    seen.append(hash_of(dataset))

    assert len(set(seen)) == len(seen)


def test_drafts_count_only_in_their_complete_regions(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    add(dataset, 1, squares((0, 0)), state=ImageState.DRAFT)
    # one lies in the region, one reaches into it, one lies outside
    unreviewed = squares((0, 0), (2, 3), (4, 6), regions=LEFT_HALF, state=InstanceState.UNREVIEWED)
    add(dataset, 2, unreviewed, state=ImageState.DRAFT)
    # what a person drew counts wherever it is
    add(dataset, 3, squares((4, 6), regions=LEFT_HALF), state=ImageState.DRAFT)

    found = summarise(dataset.path)

    assert found.num_left_out == 1
    assert found.num_images["train"] == 2
    assert found.num_objects["nucleus"]["train"] == 3
    # two halves of three images
    assert found.complete_share == pytest.approx(1 / 3)
    assert "with a complete region: 1 image." in " ".join(found.warnings)
    assert "reviewed by nobody: 2 objects." in " ".join(found.warnings)


def test_rejected_unsure_and_crowded_annotations_are_no_objects(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    image = squares((0, 0), (0, 3), (3, 0), (3, 3))
    states = (
        InstanceState.REJECTED,
        InstanceState.UNSURE,
        InstanceState.ACCEPTED,
        InstanceState.EDITED,
    )
    instances = replace(image.instances, states=states)
    add(dataset, 1, replace(image, instances=instances, crowds=squares((0, 5)).instances))

    assert summarise(dataset.path).num_objects["nucleus"]["train"] == 2


def test_what_is_counted_is_what_training_reads(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    every = squares(*((y, x) for y in (0, 2, 4) for x in (0, 3)), regions=LEFT_HALF)
    states = replace(every.instances, states=tuple(InstanceState))
    for level, state in enumerate(ImageState):
        add(dataset, level, replace(every, instances=states), state=state)
    # a stack: one plane is complete, one a draft
    stack = tmp_path / "stack.tif"
    tifffile.imwrite(stack, np.zeros((2, *HW), np.uint8), photometric="minisblack")
    planes = [
        replace(squares((0, 0), plane=(0,)), state=ImageState.DRAFT),
        replace(squares((2, 2), (0, 5), plane=(1,)), state=ImageState.COMPLETE),
    ]
    dataset.add_file(stack, planes=planes, split=Split.TRAIN)

    samples = read_split(dataset.path / "train", Normalization())
    found = summarise(dataset.path)

    assert found.num_images["train"] == len(samples) == 4
    assert found.num_left_out == 1
    assert found.num_objects["nucleus"]["train"] == sum(len(s.instances) for s in samples)


def test_warnings_say_what_is_missing(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    add(dataset, 1, squares((0, 0)))

    told = summarise(dataset.path).warnings

    assert [line.split(":")[0] for line in told] == [
        "One image alone is in train",
        "No image is in val, so nobody can say whether the model gets better, or which weights "
        "are best",
        "No object of cell body is in train",
        "Few objects in train",
    ]


def test_an_empty_dataset_has_nothing_to_learn_from(tmp_path: Path) -> None:
    found = summarise(new_dataset(tmp_path).path)

    assert found.warnings[0].startswith("No image is in train, so there is nothing to learn from")
    assert math.isnan(found.object_diameter_px[1])
    assert found.complete_share == 0
    assert found.lines()[-1] == "Every object is annotated on 0 % of all pixels."


def test_what_cannot_be_read_is_counted_and_the_rest_comes_in(tmp_path: Path) -> None:
    dataset = two_splits(tmp_path)
    (dataset.path / "images" / "2.png").unlink()
    (dataset.annotation_path("3.png")).write_text("{")
    document = document_of(dataset, "1.png")
    document["annotations"][0]["segmentation"] = None
    put_document(dataset, "1.png", document)

    found = summarise(dataset.path)
    told = " ".join(found.warnings)

    assert "Unreadable annotations: of 1 image" in told
    assert "Missing or changed: 1 image file" in told
    assert "without a mask or a known category: 1 annotation" in told
    assert found.num_objects["nucleus"] == {"train": 1, "val": 0, "test": 0}


def test_an_image_in_two_splits_is_told(tmp_path: Path) -> None:
    for split in ("train", "val"):
        folder = tmp_path / split
        write_image(folder / f"{split}.png", 7)
        write_coco([squares((0, 0), name=f"{split}.png")], folder / "instances.json")

    told = summarise(tmp_path).warnings

    assert told[-1].startswith("In more than one split: 1 image,")


def test_categories_are_those_that_the_dataset_has_now(tmp_path: Path) -> None:
    dataset = two_splits(tmp_path)
    before = dataset.annotation_path("1.png").read_bytes()
    dataset.rename_category(4, "kernel")
    # written by somebody who did not know yet
    dataset.annotation_path("1.png").write_bytes(before)

    found = summarise(dataset.path)

    assert found.num_objects["kernel"]["train"] == 2
    assert "nucleus" not in found.num_objects


def test_files_that_did_not_change_are_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = two_splits(tmp_path)
    for path in dataset.path.glob("annotations/*.json"):
        os.utime(path, (1e9, 1e9))
    known: Known = {}
    first = summarise(dataset.path, known=known)
    read: list[str] = []
    read_json = summary_module.read_json

    def counted(path: Path, **others: Any) -> Any:
        read.append(path.name)
        return read_json(path, **others)

    monkeypatch.setattr(summary_module, "read_json", counted)

    assert summarise(dataset.path, known=known) == first
    assert read == []
    with_squares(dataset, "2.png", instances=squares((0, 0)).instances)
    assert summarise(dataset.path, known=known).num_without_objects == 0
    assert read == ["2.png.json"]


def test_progress_is_told_and_a_summary_can_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = two_splits(tmp_path)
    monkeypatch.setattr(summary_module, "_TELL_EVERY", 2)
    told: list[Progress] = []
    summarise(dataset.path, on_progress=told.append)
    cancel = CancelToken()
    cancel.cancel()

    assert [round(progress.fraction, 2) for progress in told] == [0.67]
    with pytest.raises(RunCancelled):
        summarise(dataset.path, cancel=cancel)


def test_a_folder_that_is_neither_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"no dataset\.json and no train/instances\.json"):
        summarise(tmp_path)


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"images": [1, {"id": [], "file_name": 3, "height": "a"}], "annotations": {}},
        {
            "images": [{"id": 1, "file_name": "/etc/x\0", "height": 2, "width": 2}],
            "annotations": [{"image_id": 1, "category_id": [1], "segmentation": 5}],
            "categories": [{"id": [], "name": 1}],
        },
    ],
)
def test_a_file_of_nonsense_ends_in_a_message_or_in_warnings(tmp_path: Path, document: Any) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "instances.json").write_text(json.dumps(document))

    try:
        assert summarise(tmp_path).warnings
    except AnnotationError as error:
        assert "not a COCO file" in str(error)  # noqa: PT017  either will do


def test_a_summary_needs_no_torch() -> None:
    code = "import sys, napari_deeppixel.training.summary; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
