"""Faults that check finds, and what repair does about them."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.dataset.folders import (
    annotation_path,
    document_of,
    faults_of,
    files_below,
    names,
    new_dataset,
    put_document,
    squares,
    write_image,
)

from napari_deeppixel.core.errors import RunCancelled
from napari_deeppixel.core.instance import InstanceState
from napari_deeppixel.core.progress import CancelToken, Progress
from napari_deeppixel.dataset.annotated import Split
from napari_deeppixel.dataset.store import Dataset, Fault, FaultKind, Storage


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Return a dataset of two images with two instances each, and nothing wrong."""
    made = new_dataset(tmp_path)
    for level, name in enumerate(("a", "b")):
        planes = [squares((0, 0), (2, 2))]
        made.add_pixels(np.full((6, 8), level, np.uint8), name=name, planes=planes)
    assert faults_of(made) == []
    return made


def edit(dataset: Dataset, change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """Change the annotations of a.png behind the dataset's back; return what they were."""
    document = document_of(dataset, "a.png")
    before = json.loads(json.dumps(document))
    change(document)
    put_document(dataset, "a.png", document)
    return before


def only_fault(dataset: Dataset) -> Fault:
    [fault] = faults_of(dataset)
    return fault


def kept(dataset: Dataset, name: str) -> Path:
    """Return the one file of a name under removed/."""
    [path] = (dataset.path / "removed").rglob(name)
    return path


def assert_repaired(dataset: Dataset, *done: str) -> None:
    """Repair everything; check what was said, and that nothing is left to do after it."""
    assert dataset.repair(faults_of(dataset)) == list(done)
    assert faults_of(dataset) == []
    files = files_below(dataset.path)
    assert dataset.repair(faults_of(dataset)) == []
    assert files_below(dataset.path) == files


def assert_not_repaired(dataset: Dataset) -> None:
    before = {name: (dataset.path / name).read_bytes() for name in files_below(dataset.path)}
    fault = only_fault(dataset)
    assert fault.repair == ""
    assert dataset.repair([fault]) == []
    after = {name: (dataset.path / name).read_bytes() for name in files_below(dataset.path)}
    assert before == after


# entries


def test_an_empty_mask_is_taken_out_and_kept(dataset: Dataset) -> None:
    before = edit(
        dataset, lambda d: d["annotations"][1].update(segmentation={"size": [6, 8], "counts": [48]})
    )
    broken = document_of(dataset, "a.png")
    fault = only_fault(dataset)
    assert (fault.kind, fault.image_id, fault.entry) == (
        FaultKind.EMPTY_MASK,
        "a.png",
        "annotation 2",
    )
    assert str(fault) == "a.png, annotation 2: empty mask: no pixel is set"
    assert_repaired(dataset, "a.png: annotation 2: no pixel is set; taken out")
    assert document_of(dataset, "a.png")["annotations"] == before["annotations"][:1]
    assert json.loads(kept(dataset, "a.png.json").read_text()) == broken
    assert dataset.entry("a.png").revision == 2


def test_a_box_alone_is_told_and_stays(dataset: Dataset) -> None:
    edit(dataset, lambda d: d["annotations"][1].update(segmentation=[]))
    assert only_fault(dataset).kind is FaultKind.BOX_ALONE
    assert_not_repaired(dataset)
    assert len(dataset.load("a.png").planes[0].maskless) == 1


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"size": [6, 8], "counts": "???"}, "cannot be read|counts"),
        ({"size": [6, 8], "counts": [1, 2]}, "add up"),
        ({"size": [7, 9], "counts": [0, 63]}, "size"),
        ("text", "expected polygons or run lengths"),
        ({"counts": [48]}, "size"),
    ],
)
def test_bad_run_lengths_are_told_and_stay(
    dataset: Dataset, segmentation: object, message: str
) -> None:
    edit(dataset, lambda d: d["annotations"][1].update(segmentation=segmentation))
    fault = only_fault(dataset)
    assert (fault.kind, fault.entry) == (FaultKind.BAD_MASK, "annotation 2")
    assert any(part in fault.message for part in message.split("|"))
    assert_not_repaired(dataset)


def test_a_mask_outside_the_image_is_told(dataset: Dataset) -> None:
    edit(dataset, lambda d: d["annotations"][1].update(segmentation=[[5, 1, 11, 1, 11, 4, 5, 4]]))
    fault = only_fault(dataset)
    assert (fault.kind, fault.entry) == (FaultKind.OUTSIDE, "annotation 2")
    assert fault.message == "it leaves the image and is cut at its border"
    assert_not_repaired(dataset)


def test_of_two_equal_instances_the_one_a_person_saw_stays(dataset: Dataset) -> None:
    def double(document: dict[str, Any]) -> None:
        first = json.loads(json.dumps(document["annotations"][0]))
        first["id"], first["attributes"]["uuid"] = 77, "new"
        first["attributes"]["handle"] = 9
        document["annotations"][0]["attributes"]["state"] = "unreviewed"
        document["annotations"].append(first)

    edit(dataset, double)
    fault = only_fault(dataset)
    assert (fault.kind, fault.entry) == (FaultKind.DUPLICATE_INSTANCE, "annotation 1")
    assert_repaired(
        dataset,
        "a.png: annotation 1: another one of the category has exactly this mask; taken out",
    )
    assert [a["id"] for a in document_of(dataset, "a.png")["annotations"]] == [2, 77]


def test_a_rejected_or_crowd_or_other_category_copy_is_no_duplicate(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    dataset.add_pixels(np.zeros((6, 8), np.uint8), name="a", planes=[squares(*[(0, 0)] * 4)])
    document = document_of(dataset, "a.png")
    annotations = document["annotations"]
    annotations[1]["attributes"]["state"] = InstanceState.REJECTED.value
    annotations[2]["iscrowd"] = 1
    annotations[3]["category_id"] = 2
    put_document(dataset, "a.png", document)
    assert faults_of(dataset) == []


@pytest.mark.parametrize(("key", "what"), [("uuid", "uuid"), ("handle", "number")])
def test_a_doubled_identity_is_made_new(dataset: Dataset, key: str, what: str) -> None:
    def double(document: dict[str, Any]) -> None:
        first, second = document["annotations"]
        second["attributes"][key] = first["attributes"][key]

    edit(dataset, double)
    value = document_of(dataset, "a.png")["annotations"][0]["attributes"][key]
    fault = only_fault(dataset)
    assert (fault.kind, fault.entry) == (FaultKind.DUPLICATE_IDENTITY, "annotation 2")
    assert_repaired(
        dataset,
        f"a.png: annotation 2: another instance has the {what} {value!r}, too; "
        f"give it a new {what}",
    )
    instances = dataset.load("a.png").planes[0].instances
    assert len(set(instances.uuids)) == 2
    assert len(set(instances.handles.tolist())) == 2
    assert document_of(dataset, "a.png")["annotations"][0]["attributes"][key] == value


def test_an_unknown_category_is_added_if_the_file_names_it(dataset: Dataset) -> None:
    def rename(document: dict[str, Any]) -> None:
        document["categories"].append({"id": 9, "name": "debris"})
        document["annotations"][1]["category_id"] = 9

    edit(dataset, rename)
    fault = only_fault(dataset)
    assert fault.kind is FaultKind.UNKNOWN_CATEGORY
    assert fault.repair == "add 'debris' to the dataset"
    assert dataset.repair([fault])[0].startswith(
        "a.png: annotation 2: the dataset has no category 9"
    )
    assert faults_of(dataset) == []
    assert dataset.entry("a.png").counts == {4: 1, 5: 1}
    assert dataset.categories.name_of(5) == "debris"


def test_an_unknown_category_without_a_name_stays(dataset: Dataset) -> None:
    edit(dataset, lambda d: d["annotations"][1].update(category_id=9))
    assert only_fault(dataset).kind is FaultKind.UNKNOWN_CATEGORY
    assert_not_repaired(dataset)


def test_values_out_of_their_range_are_told(dataset: Dataset) -> None:
    edit(dataset, lambda d: d["annotations"][1].update(score=7))
    fault = only_fault(dataset)
    assert (fault.kind, fault.entry) == (FaultKind.BAD_ENTRY, "annotation 2")
    assert "7" in fault.message
    assert_not_repaired(dataset)
    edit(dataset, lambda d: (d["annotations"][1].pop("score"), d["annotations"].append("text")))
    assert only_fault(dataset).kind is FaultKind.BAD_ENTRY


def test_all_faults_of_a_file_are_mended_at_once(dataset: Dataset) -> None:
    def spoil(document: dict[str, Any]) -> None:
        first, second = document["annotations"]
        copy = json.loads(json.dumps(first)) | {"id": 8}
        second["attributes"]["handle"] = first["attributes"]["handle"]
        empty = {"id": 9, "image_id": 1, "category_id": 4, "segmentation": []}
        document["annotations"] = [empty, first, second, copy]

    edit(dataset, spoil)
    kinds = [fault.kind.name for fault in faults_of(dataset)]
    assert sorted(kinds) == [
        "DUPLICATE_IDENTITY",
        "DUPLICATE_IDENTITY",
        "DUPLICATE_IDENTITY",
        "DUPLICATE_INSTANCE",
        "EMPTY_MASK",
    ]
    assert len(dataset.repair(faults_of(dataset))) == 5
    assert faults_of(dataset) == []
    assert [a["id"] for a in document_of(dataset, "a.png")["annotations"]] == [1, 2]


def test_what_somebody_saved_after_the_check_is_not_touched(dataset: Dataset) -> None:
    before = edit(dataset, lambda d: d["annotations"][1].update(segmentation=[], bbox=[]))
    faults = faults_of(dataset)
    put_document(dataset, "a.png", before)
    assert dataset.repair(faults) == []
    assert document_of(dataset, "a.png") == before


# files


@pytest.mark.parametrize("text", ["", "{", "[]", '{"images": [], "annotations": []}', "\xff"])
def test_an_unreadable_file_is_told(dataset: Dataset, text: str) -> None:
    annotation_path(dataset, "a.png").write_text(text, encoding="latin-1")
    fault = only_fault(dataset)
    assert (fault.kind, fault.image_id) == (FaultKind.UNREADABLE, "a.png")
    assert "backup" in fault.message
    assert_not_repaired(dataset)


def test_a_link_among_the_annotations_is_told(dataset: Dataset, tmp_path: Path) -> None:
    path = annotation_path(dataset, "a.png")
    path.rename(tmp_path / "elsewhere.json")
    path.symlink_to(tmp_path / "elsewhere.json")
    assert "a link" in only_fault(dataset).message
    assert [bool(e.problem) for e in dataset.entries()] == [True, False]


def test_annotations_without_their_image_are_told(dataset: Dataset) -> None:
    dataset.image_path("a.png").unlink()
    fault = only_fault(dataset)
    assert (fault.kind, fault.image_id) == (FaultKind.MISSING_IMAGE, "a.png")
    assert "relocate(FOLDER)" in fault.message
    assert_not_repaired(dataset)


def test_an_image_that_was_renamed_by_hand_is_moved_back(dataset: Dataset) -> None:
    dataset.image_path("a.png").rename(dataset.path / "images" / "other name.png")
    fault = only_fault(dataset)
    assert (fault.kind, fault.message) == (
        FaultKind.MISSING_IMAGE,
        "its image is images/other name.png",
    )
    assert_repaired(dataset, "a.png: its image was images/other name.png; moved back")
    dataset.verify_image("a.png")
    assert names(dataset) == ["a.png", "b.png"]


def test_an_image_that_is_not_listed_is_listed(dataset: Dataset) -> None:
    write_image(dataset.path / "images" / "day 1" / "c.png", 50)
    fault = only_fault(dataset)
    assert (fault.kind, fault.image_id) == (FaultKind.ORPHAN_IMAGE, "day 1/c.png")
    assert_repaired(dataset, "day 1/c.png: listed, with no annotations")
    assert names(dataset) == ["a.png", "b.png", "day 1/c.png"]
    dataset.verify_image("day 1/c.png")


def test_a_second_copy_is_moved_away(dataset: Dataset) -> None:
    shutil.copy(dataset.image_path("a.png"), dataset.path / "images" / "copy.png")
    fault = only_fault(dataset)
    assert fault.message == "it is in the dataset already, as a.png"
    assert_repaired(dataset, "copy.png: the same image as a.png; moved to removed/")
    assert kept(dataset, "copy.png").parent.name == "images"


def test_what_is_no_image_stays(dataset: Dataset) -> None:
    (dataset.path / "images" / "notes.txt").write_text("hello")
    (dataset.path / "images" / ".DS_Store").write_text("x")
    fault = only_fault(dataset)
    assert fault.kind is FaultKind.ORPHAN_IMAGE
    assert "take it out of images/" in fault.message
    assert_not_repaired(dataset)


def test_a_changed_image_is_told(dataset: Dataset) -> None:
    write_image(dataset.image_path("a.png"), 200)
    fault = only_fault(dataset)
    assert (fault.kind, fault.image_id) == (FaultKind.CHANGED_IMAGE, "a.png")
    assert_not_repaired(dataset)
    dataset.accept_image("a.png")
    assert faults_of(dataset) == []


def test_an_image_of_another_size_is_told(dataset: Dataset) -> None:
    write_image(dataset.image_path("a.png"), 0, image_hw=(9, 9))
    kinds = {fault.kind for fault in faults_of(dataset)}
    assert kinds == {FaultKind.CHANGED_IMAGE, FaultKind.IMAGE_SIZE}


def test_an_image_that_is_none_any_more_is_told(dataset: Dataset) -> None:
    dataset.image_path("a.png").write_bytes(b"rubbish")
    kinds = {fault.kind for fault in faults_of(dataset)}
    assert kinds == {FaultKind.CHANGED_IMAGE, FaultKind.BAD_IMAGE}


def test_an_image_whose_content_nobody_noted_is_noted(dataset: Dataset) -> None:
    edit(dataset, lambda d: d["images"][0].pop("attributes"))
    assert only_fault(dataset).kind is FaultKind.NO_HASH
    assert_repaired(dataset, "a.png: content of its image noted")
    dataset.verify_image("a.png")
    assert len(dataset.entry("a.png").sha256) == 64


def test_the_same_image_under_two_names_is_told(dataset: Dataset) -> None:
    shutil.copy(dataset.image_path("a.png"), dataset.path / "images" / "c.png")
    put_document(dataset, "c.png", document_of(dataset, "a.png"))
    fault = only_fault(dataset)
    assert (fault.kind, fault.image_id) == (FaultKind.DUPLICATE_IMAGE, "a.png")
    assert "c.png" in fault.message
    assert_not_repaired(dataset)


def test_names_that_differ_in_case_alone_are_told(dataset: Dataset) -> None:
    document = document_of(dataset, "a.png")
    document["images"][0]["attributes"]["sha256"] = ""
    put_document(dataset, "A.png", document)
    if len(files_below(dataset.path / "annotations")) == 2:
        pytest.skip("this disk takes the names for one")
    shutil.copy(dataset.image_path("a.png"), dataset.path / "images" / "A.png")
    dataset.repair(faults_of(dataset))
    assert FaultKind.CASE_TWIN in {fault.kind for fault in faults_of(dataset)}


def test_a_referenced_image_that_moved_or_changed_is_told(dataset: Dataset, tmp_path: Path) -> None:
    for number in (5, 6):
        path = write_image(tmp_path / "far" / f"{number}.png", number)
        dataset.add_file(path, storage=Storage.REFERENCE)
    assert faults_of(dataset) == []
    write_image(tmp_path / "far" / "5.png", 55)
    (tmp_path / "far" / "6.png").rename(tmp_path / "6.png")
    found = {fault.image_id: fault.kind for fault in faults_of(dataset)}
    assert found == {"5.png": FaultKind.CHANGED_IMAGE, "6.png": FaultKind.MOVED_IMAGE}
    dataset.relocate(tmp_path)
    assert only_fault(dataset).image_id == "5.png"


def test_a_group_in_several_splits_is_told(dataset: Dataset) -> None:
    for name, split in (("a.png", Split.TRAIN), ("b.png", Split.TEST)):
        dataset.set_split([name], split)
    dataset.set_group(["a.png", "b.png"], "slide")
    fault = only_fault(dataset)
    assert (fault.kind, fault.entry) == (FaultKind.GROUP_SPLIT, "group 'slide'")
    assert fault.message.startswith("pinned to test, train")
    assert_not_repaired(dataset)
    dataset.set_split(["a.png"], Split.TEST)
    assert faults_of(dataset) == []


def test_what_dead_processes_left_is_moved_away(dataset: Dataset) -> None:
    # no system gives this number to a process
    left = [f"{place}.a.png.json.{2**31 - 1}.part" for place in ("", "annotations/", "images/day/")]
    for name in left:
        (dataset.path / name).parent.mkdir(exist_ok=True)
        (dataset.path / name).write_text("half")
    # of one that is alive, and just wrote it
    (dataset.path / "images" / f".b.png.{os.getpid()}.part").write_text("half")
    found = faults_of(dataset)
    assert [fault.image_id for fault in found] == sorted(left)
    assert {fault.kind for fault in found} == {FaultKind.LEFT_OVER}
    assert_repaired(dataset, *[f"{name}: moved to removed/" for name in sorted(left)])
    assert names(dataset) == ["a.png", "b.png"]
    assert len(list((dataset.path / "removed").rglob("a.png.json.*.part"))) == 3


def test_an_index_that_lies_is_written_anew(dataset: Dataset) -> None:
    dataset.entries()
    path = dataset.path / "index.jsonl"
    assert faults_of(dataset) == []
    head, *lines = path.read_text().splitlines()
    records = [json.loads(line) for line in lines]
    # the number of instances
    lies = [json.dumps([*record[:7], 3, *record[8:]]) for record in records]
    path.write_text("\n".join([head, *lies, "[", ""]))
    fault = only_fault(Dataset.open(dataset.path))
    assert fault.kind is FaultKind.STALE_INDEX
    assert fault.message == "1 torn lines; wrong about a.png, b.png"
    assert_repaired(Dataset.open(dataset.path), "index written anew")
    assert [e.num_instances for e in Dataset.open(dataset.path).entries()] == [2, 2]


# the whole


def test_check_tells_how_far_it_is_and_stops_when_asked(dataset: Dataset) -> None:
    steps = [event for event in dataset.check() if isinstance(event, Progress)]
    assert [step.fraction for step in steps] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert steps[0].message == "a.png"
    cancel = CancelToken()
    run = dataset.check(cancel=cancel)
    next(run)
    cancel.cancel()
    with pytest.raises(RunCancelled):
        list(run)


def test_check_changes_nothing(dataset: Dataset) -> None:
    edit(dataset, lambda d: d["annotations"][1].update(segmentation=[]))
    write_image(dataset.path / "images" / "c.png", 50)
    before = {name: (dataset.path / name).read_bytes() for name in files_below(dataset.path)}
    faults_of(dataset)
    after = {name: (dataset.path / name).read_bytes() for name in files_below(dataset.path)}
    assert before == after


def test_every_kind_of_fault_has_a_test() -> None:
    text = (
        Path(__file__).read_text() + Path(__file__).with_name("test_category_edits.py").read_text()
    )
    assert [kind for kind in FaultKind if f"FaultKind.{kind.name}" not in text] == []


def test_images_that_are_links_out_are_told(dataset: Dataset, tmp_path: Path) -> None:
    place = dataset.image_path("a.png")
    shutil.move(place, tmp_path / "a.png")
    place.symlink_to(tmp_path / "a.png")
    assert only_fault(dataset).kind is FaultKind.LINK
    (dataset.path / "images" / "new.png").symlink_to(write_image(tmp_path / "new.png", 9))
    assert [fault.kind for fault in faults_of(dataset)] == [FaultKind.LINK] * 2
    assert dataset.repair(faults_of(dataset)) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_is_named_and_not_waited_for(dataset: Dataset) -> None:
    os.mkfifo(dataset.path / "images" / "c.png")
    fault = only_fault(dataset)
    assert (fault.kind, fault.image_id) == (FaultKind.ORPHAN_IMAGE, "c.png")
    assert "a pipe or a device" in fault.message
    assert fault.repair == ""
