"""A dataset as its callers see it."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.strategies import assert_same_instances
from tests.dataset.folders import (
    annotation_path,
    document_of,
    names,
    new_dataset,
    put_document,
    squares,
    write_image,
)
from tests.dataset.made import CELLS, annotated_images, eleven, pixels_for

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.geometry import Outline
from napari_deeppixel.core.instance import InstanceState
from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState, Split
from napari_deeppixel.dataset.store import Dataset, DatasetConflictError, SplitRule


def test_a_new_dataset_is_empty_and_opens(tmp_path: Path) -> None:
    rule = SplitRule(seed="s", val=0.5)
    dataset = Dataset.create(tmp_path / "new" / "set", categories=CELLS, split=rule)
    again = Dataset.open(str(dataset.path))
    assert (again.categories, again.split_rule, again.entries()) == (CELLS, rule, [])
    assert Dataset.is_dataset(dataset.path)
    assert not Dataset.is_dataset(tmp_path)


def test_a_folder_with_other_things_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(AnnotationError, match=r"not empty \(thesis.txt\) and no dataset"):
        Dataset.create(tmp_path, categories=CELLS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(AnnotationError, match=r"no dataset \(dataset.json is missing\)"):
        Dataset.open(tmp_path)


def test_what_a_killed_creation_left_is_no_other_thing(tmp_path: Path) -> None:
    (tmp_path / ".dataset.json.1.part").write_text("{")
    (tmp_path / "dataset.lock").touch()
    assert Dataset.create(tmp_path, categories=CELLS).entries() == []


def test_creating_one_that_is_there_opens_it_and_adds_categories(tmp_path: Path) -> None:
    new_dataset(tmp_path, split=SplitRule(val=0.5))
    again = new_dataset(tmp_path)
    assert again.split_rule.val == 0.5
    more = Dataset.create(again.path, categories=CategoryTable.from_names("nucleus", "debris"))
    assert [(c.id, c.name) for c in more.categories.categories] == [
        (4, "nucleus"),
        (2, "cell body"),
        (5, "debris"),
    ]


def test_an_entry_tells_what_is_in_a_file(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    image = eleven()
    added = dataset.add_pixels(pixels_for(image), name="day 1/eleven.png", planes=[image])
    [entry] = dataset.entries()
    assert entry == added.entry == dataset.entry("day 1/eleven.png")
    # of the eleven, one is rejected; one unreviewed and one unsure; categories take turns
    assert entry.image_hw == (90, 120)
    assert (entry.num_instances, entry.num_unreviewed) == (10, 2)
    assert entry.counts == {4: 5, 2: 5}
    assert (entry.state, entry.group, entry.num_planes) == (ImageState.DRAFT, "slide 7", 1)
    assert (entry.split, entry.is_split_pinned) == (Split.VAL, True)
    assert (entry.revision, entry.is_referenced, entry.problem) == (1, False, "")
    assert entry.num_bytes == dataset.image_path(entry.image_id).stat().st_size


def test_images_are_sorted_as_people_count(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    for level, name in enumerate(["b10.png", "B9.png", "b1/2.png", "a²3.png", "Ä 1.png", "10.png"]):
        dataset.add_file(write_image(tmp_path / "in" / f"{level}.png", level), name=name)
    assert names(dataset) == ["10.png", "a²3.png", "b1/2.png", "B9.png", "b10.png", "Ä 1.png"]


def all_of(image: AnnotatedImage) -> dict[str, Any]:
    """Return all that must come back, but for the instances."""
    return {
        "regions": image.regions,
        "state": image.state,
        "split": image.split,
        "group": image.group,
        "plane": image.plane,
        "image_id": image.image_id,
        "image_extra": image.image_extra,
        "instance_extras": {
            uuid: {k: v for k, v in extra.items() if k != "id"}
            for uuid, extra in image.instance_extras.items()
            if set(extra) != {"id"}
        },
        "maskless": image.maskless,
    }


def assert_same(one: AnnotatedImage, other: AnnotatedImage) -> None:
    assert one.instances.levels.tolist() == other.instances.levels.tolist()
    assert_same_instances(one.instances, other.instances)
    assert_same_instances(one.crowds, other.crowds)
    assert all_of(one) == all_of(other)


def test_every_attribute_comes_back(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    image = eleven()
    added = dataset.add_pixels(pixels_for(image), name="eleven.png", planes=[image])
    loaded = dataset.load(added.entry.image_id)
    assert_same(loaded.planes[0], image)
    assert loaded.problems == ()
    assert loaded.planes[0].path == dataset.path / "images" / "eleven.png"
    # and a second time, as the tab does it
    dataset.save("eleven.png", loaded.planes, revision=loaded.revision)
    assert_same(dataset.load("eleven.png").planes[0], image)


points = st.tuples(st.floats(0, 9), st.floats(0, 9))
regions = st.lists(st.lists(points, min_size=3, max_size=5).map(tuple), max_size=2).map(tuple)
json_values = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
extras = st.dictionaries(st.sampled_from(["note", "track", "é"]), json_values, max_size=2)


@settings(deadline=None)
@given(annotated_images(), regions, extras)
def test_what_is_saved_is_what_is_loaded(
    image: AnnotatedImage, regions: tuple[Outline, ...], extra: dict[str, Any]
) -> None:
    levels = np.arange(len(image.instances)) * 7
    image = replace(
        image,
        instances=replace(image.instances, levels=levels),
        regions=regions,
        image_extra=extra,
        instance_extras=dict.fromkeys(image.instances.uuids, extra) if extra else {},
    )
    with tempfile.TemporaryDirectory() as folder:
        dataset = Dataset.create(folder, categories=image.categories)
        entry = dataset.add_pixels(pixels_for(image), name="made.png").entry
        assert dataset.load("made.png").planes[0].image_hw == image.image_hw
        saved = dataset.save("made.png", [image], revision=entry.revision)
        loaded = Dataset.open(folder).load("made.png")
        by_id = {c.id: c for c in loaded.planes[0].categories.categories}
        assert by_id == {c.id: c for c in image.categories.categories}
        expected = replace(
            image,
            instances=replace(image.instances, categories=loaded.planes[0].categories),
            crowds=replace(image.crowds, categories=loaded.planes[0].categories),
            image_id=1,
        )
        assert_same(loaded.planes[0], expected)
        assert (saved.revision, loaded.revision) == (2, 2)


@settings(deadline=None, max_examples=30)
@given(annotated_images(), extras)
def test_one_who_saves_again_writes_what_a_newcomer_would(
    image: AnnotatedImage, extra: dict[str, Any]
) -> None:
    more = replace(
        image, image_extra=extra, instance_extras=dict.fromkeys(image.instances.uuids, extra)
    )
    # then sessions that know nothing of unknown keys, with fewer and other instances
    bare = AnnotatedImage.of("x", image.instances)
    fewer = AnnotatedImage.of("x", image.instances.select(range(len(image.instances) // 2)))
    found = []
    for is_new_each_time in (True, False):
        with tempfile.TemporaryDirectory() as folder:
            dataset = Dataset.create(folder, categories=image.categories)
            dataset.add_pixels(pixels_for(image), name="a")
            for revision, plane in enumerate([more, bare, fewer, bare, image], start=1):
                dataset.save("a.png", [plane], revision=revision)
                dataset = Dataset.open(folder) if is_new_each_time else dataset
            found.append(document_of(dataset, "a.png"))
    assert found[0] == found[1]


def test_planes_of_a_stack_come_back_and_those_not_given_go(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    planes = [squares((0, 0), plane=(0, 1)), squares((1, 1), (3, 3), plane=(1, 0))]
    entry = dataset.add_pixels(np.zeros((6, 8), np.uint8), name="a", planes=planes).entry
    assert (entry.num_planes, entry.num_instances) == (2, 3)
    loaded = dataset.load(entry.image_id)
    assert [(p.plane, len(p.instances)) for p in loaded.planes] == [((0, 1), 1), ((1, 0), 2)]
    entry = dataset.save(entry.image_id, loaded.planes[1:], revision=1)
    assert (entry.num_planes, entry.num_instances) == (1, 2)


def test_a_stack_is_complete_when_all_planes_are(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    planes = [squares(plane=(0,), state=ImageState.COMPLETE), squares(plane=(1,))]
    planes = [replace(planes[0], state=ImageState.COMPLETE), planes[1]]
    entry = dataset.add_pixels(np.zeros((6, 8), np.uint8), name="a", planes=planes).entry
    assert entry.state is ImageState.DRAFT
    [entry] = dataset.set_state([entry.image_id], ImageState.COMPLETE)
    assert entry.state is ImageState.COMPLETE
    assert [p.state for p in dataset.load("a.png").planes] == [ImageState.COMPLETE] * 2


def test_an_older_revision_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    entry = dataset.add_pixels(np.zeros((6, 8), np.uint8), name="a").entry
    mine, theirs = dataset.load("a.png"), Dataset.open(dataset.path).load("a.png")
    dataset.save("a.png", [squares((0, 0))], revision=mine.revision)
    before = annotation_path(dataset, "a.png").read_bytes()
    with pytest.raises(DatasetConflictError, match=r"revision 2, yours is 1"):
        dataset.save("a.png", [squares((1, 1))], revision=theirs.revision)
    assert annotation_path(dataset, "a.png").read_bytes() == before
    # every write counts, or a save would take it back
    [entry] = dataset.set_state(["a.png"], ImageState.COMPLETE)
    with pytest.raises(DatasetConflictError):
        dataset.save("a.png", [squares((1, 1))], revision=2)
    assert dataset.save("a.png", [squares((1, 1))], revision=entry.revision).revision == 4


def test_planes_of_another_size_are_refused(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    dataset.add_pixels(np.zeros((8, 6), np.uint8), name="a")
    with pytest.raises(AnnotationError, match=r"the image has \(8, 6\) pixels"):
        dataset.save("a.png", [squares((0, 0))], revision=1)
    with pytest.raises(AnnotationError, match="give at least one plane"):
        dataset.save("a.png", [], revision=1)
    with pytest.raises(AnnotationError, match="a plane is given twice"):
        dataset.save("a.png", [squares(), squares()], revision=1)


def test_unknown_keys_everywhere_survive_a_save(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    dataset.add_pixels(np.zeros((6, 8), np.uint8), name="a", planes=[squares((0, 0), (2, 2))])
    document = document_of(dataset, "a.png")
    document["lab"] = {"who": ["us", None, 1.5]}
    document["info"]["year"] = 1999
    document["licenses"] = [{"name": "CC0"}]
    document["images"][0]["date_captured"] = "today"
    document["images"][0]["attributes"]["stain"] = "DAPI"
    document["annotations"][1]["track"] = 7
    document["annotations"][1]["attributes"]["note"] = "dividing"
    document["categories"][0]["supercategory"] = "cell"
    put_document(dataset, "a.png", document)
    # planes from a session that knows of none of it, but for the instances
    loaded = dataset.load("a.png").planes[0]
    dataset.save("a.png", [AnnotatedImage.of("x", loaded.instances)], revision=1)
    dataset.set_state(["a.png"], ImageState.COMPLETE)
    after = document_of(dataset, "a.png")
    assert after["lab"] == document["lab"]
    assert after["info"]["year"] == 1999
    assert after["licenses"] == [{"name": "CC0"}]
    assert after["images"][0]["date_captured"] == "today"
    assert after["images"][0]["attributes"]["stain"] == "DAPI"
    assert after["annotations"][1]["track"] == 7
    assert after["annotations"][1]["attributes"]["note"] == "dividing"
    assert after["categories"][0]["supercategory"] == "cell"
    assert [a["id"] for a in after["annotations"]] == [a["id"] for a in document["annotations"]]


def test_a_save_keeps_the_file_whose_entries_it_could_not_read(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    dataset.add_pixels(np.zeros((6, 8), np.uint8), name="a", planes=[squares((0, 0), (2, 2))])
    document = document_of(dataset, "a.png")
    document["annotations"][0]["segmentation"]["counts"] = "???"
    put_document(dataset, "a.png", document)
    loaded = dataset.load("a.png")
    assert len(loaded.planes[0].instances) == 1
    assert [p.entry for p in loaded.problems] == ["annotation 1 of a.png"]
    dataset.save("a.png", loaded.planes, revision=1)
    [kept] = (dataset.path / "removed").rglob("a.png.json")
    assert json.loads(kept.read_text()) == document


def test_a_box_without_a_mask_is_kept_without_a_fuss(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    dataset.add_pixels(np.zeros((6, 8), np.uint8), name="a", planes=[squares((0, 0), (2, 2))])
    document = document_of(dataset, "a.png")
    document["annotations"][0]["segmentation"] = []
    put_document(dataset, "a.png", document)
    assert [len(image.instances) for image in dataset.annotated()] == [1]
    loaded = dataset.load("a.png")
    assert loaded.problems == ()
    dataset.save("a.png", loaded.planes, revision=1)
    boxes = [a["bbox"] for a in document_of(dataset, "a.png")["annotations"]]
    assert boxes == [[2, 2, 2, 2], [0, 0, 2, 2]]
    assert not (dataset.path / "removed").exists()


def test_state_split_and_group_stay_where_planes_say_nothing(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    dataset.add_pixels(
        np.zeros((6, 8), np.uint8), name="a", group="g", state=ImageState.DRAFT, split=Split.TEST
    )
    entry = dataset.save("a.png", [squares((0, 0))], revision=1)
    assert (entry.state, entry.group, entry.split) == (ImageState.DRAFT, "g", Split.TEST)
    entry = dataset.save("a.png", [squares()], revision=2, state=ImageState.NONE)
    assert (entry.state, entry.num_instances) == (ImageState.NONE, 0)


def test_categories_of_a_session_are_joined_by_name(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    dataset.add_pixels(np.zeros((6, 8), np.uint8), name="a")
    table = CategoryTable.from_names("debris", "cell body")
    plane = squares((0, 0), (2, 2), table=table)
    plane = replace(plane, instances=replace(plane.instances, category_ids=np.array([1, 2])))
    entry = dataset.save("a.png", [plane], revision=1)
    assert [(c.id, c.name) for c in dataset.categories.categories] == [
        (4, "nucleus"),
        (2, "cell body"),
        (5, "debris"),
    ]
    assert entry.counts == {5: 1, 2: 1}
    assert dataset.load("a.png").planes[0].instances.category_ids.tolist() == [5, 2]


def test_a_file_that_cannot_be_read_is_listed_and_told(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    for name in ("a", "b"):
        dataset.add_pixels(np.full((6, 8), ord(name), np.uint8), name=name)
    annotation_path(dataset, "a.png").write_text('{"images": [')
    first, second = dataset.entries()
    assert (first.file_name, second.problem) == ("a.png", "")
    assert "no readable JSON" in first.problem
    with pytest.raises(AnnotationError, match="no readable JSON"):
        dataset.load("a.png")
    with pytest.raises(AnnotationError, match="no readable JSON"):
        dataset.save("a.png", [squares()], revision=0)


@pytest.mark.parametrize("name", ["../a.png", "/etc/passwd", "a/../../b", "", "a.png ", "no.png"])
def test_names_that_lead_out_or_nowhere_are_refused(tmp_path: Path, name: str) -> None:
    dataset = new_dataset(tmp_path)
    dataset.add_pixels(np.zeros((6, 8), np.uint8), name="a")
    for use in (dataset.entry, dataset.load, dataset.image_path, dataset.verify_image):
        with pytest.raises(AnnotationError):
            use(name)
    with pytest.raises(AnnotationError):
        dataset.save(name, [squares()], revision=1)
    with pytest.raises(AnnotationError):
        dataset.remove([name])


# splits


def test_groups_stay_together_and_pins_win(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path, split=SplitRule(val=0.4, test=0.3))
    for number in range(12):
        group = f"slide {number % 3}"
        dataset.add_pixels(np.full((6, 8), number, np.uint8), name=f"{number}", group=group)
    splits = {group: {e.split for e in dataset.entries() if e.group == group} for group in GROUPS}
    assert all(len(split) == 1 for split in splits.values())
    changed = dataset.set_split(["3.png"], Split.TEST)
    assert [entry.file_name for entry in changed] == ["0.png", "3.png", "6.png", "9.png"]
    assert all(e.split is Split.TEST and e.is_split_pinned for e in changed)
    # one that comes later goes where its group is
    late = dataset.add_pixels(np.full((6, 8), 99, np.uint8), name="late", group="slide 0").entry
    assert (late.split, late.is_split_pinned) == (Split.TEST, True)
    back = dataset.set_split(["late.png"], None)
    assert {(e.split, e.is_split_pinned) for e in back} == {(splits["slide 0"].pop(), False)}


GROUPS = ("slide 0", "slide 1", "slide 2")


def test_splits_do_not_change_when_images_come_go_or_are_renamed(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path, split=SplitRule(val=0.5))
    for number in range(20):
        dataset.add_pixels(np.full((6, 8), number, np.uint8), name=f"{number}")
    before = {entry.sha256: entry.split for entry in dataset.entries()}
    dataset.remove(["3.png"])
    dataset.rename("4.png", "renamed.png")
    dataset.add_pixels(np.full((6, 8), 100, np.uint8), name="new")
    after = {entry.sha256: entry.split for entry in dataset.entries()}
    both = before.keys() & after.keys()
    assert len(both) == 19
    assert [before[sha] for sha in both] == [after[sha] for sha in both]
    # both splits came up
    assert len(set(before.values())) == 2


def test_another_rule_deals_anew_but_for_pins(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path, split=SplitRule(val=0, test=0))
    for number in range(4):
        dataset.add_pixels(np.full((6, 8), number, np.uint8), name=f"{number}")
    dataset.set_split(["2.png"], Split.TRAIN)
    dataset.set_split_rule(SplitRule(seed="s", val=1))
    assert Dataset.open(dataset.path).split_rule == SplitRule(seed="s", val=1)
    assert [e.split.value for e in dataset.entries()] == ["val", "val", "train", "val"]
    assert dataset.categories == CELLS


def test_a_group_is_set_and_taken_away(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    for number in range(2):
        dataset.add_pixels(np.full((6, 8), number, np.uint8), name=f"{number}")
    assert [e.group for e in dataset.set_group(["0.png", "1.png"], "g")] == ["g", "g"]
    assert [e.group for e in dataset.set_group(["1.png"], "")] == [""]
    assert [e.group for e in dataset.entries()] == ["g", ""]


# all of it


def test_annotated_images_are_read_again_each_time(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    planes = [squares((0, 0), plane=(0,)), squares(plane=(1,))]
    dataset.add_pixels(np.zeros((6, 8), np.uint8), name="b", planes=planes, split=Split.VAL)
    dataset.add_pixels(np.ones((6, 8), np.uint8), name="a", planes=[squares((2, 2))])
    images = dataset.annotated()
    found = [(i.file_name, i.plane, len(i.instances), i.split) for i in images]
    assert found == [
        ("a.png", (), 1, None),
        ("b.png", (0,), 1, Split.VAL),
        ("b.png", (1,), 0, Split.VAL),
    ]
    assert next(iter(images)).path == dataset.path / "images" / "a.png"
    dataset.remove(["a.png"])
    assert [i.file_name for i in images] == ["b.png", "b.png"]
    assert [i.file_name for i in dataset.annotated([Split.TRAIN, Split.TEST])] == []


def test_one_bad_file_does_not_hide_the_others(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    for name in ("a", "b"):
        dataset.add_pixels(np.full((6, 8), ord(name), np.uint8), name=name)
    annotation_path(dataset, "a.png").write_text("[]")
    with pytest.raises(AnnotationError, match=r"a\.png\.json"):
        list(dataset.annotated())
    problems: list[object] = []
    images = list(dataset.annotated(on_problem=problems.append))
    assert [i.file_name for i in images] == ["b.png"]
    assert len(problems) == 1


def test_states_count_for_what_is_open(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    for number, state in enumerate(InstanceState):
        dataset.add_pixels(
            np.full((6, 8), number, np.uint8), name=state, planes=[squares((0, 0), state=state)]
        )
    found = {e.file_name: (e.num_instances, e.num_unreviewed) for e in dataset.entries()}
    assert found == {
        "unreviewed.png": (1, 1),
        "accepted.png": (1, 0),
        "edited.png": (1, 0),
        "drawn.png": (1, 0),
        "rejected.png": (0, 0),
        "unsure.png": (1, 1),
    }
