"""Categories that change under the images that use them."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.dataset.folders import document_of, faults_of, new_dataset, put_document, squares

from napari_deeppixel.core.category import Category
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.dataset.annotated import AnnotatedImage
from napari_deeppixel.dataset.store import Dataset, FaultKind


def of_both(plane: AnnotatedImage) -> AnnotatedImage:
    """Return a plane whose first instance is a nucleus (4), the others cell bodies (2)."""
    ids = np.array([4] + [2] * (len(plane.instances) - 1))
    return replace(plane, instances=replace(plane.instances, category_ids=ids))


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    made = new_dataset(tmp_path)
    for level in range(3):
        plane = of_both(squares((0, 0), (2, 2), (4, 4)))
        made.add_pixels(np.full((6, 8), level, np.uint8), name=f"{level}", planes=[plane])
    return made


def used(dataset: Dataset, number: int) -> list[int]:
    found = [a["category_id"] for a in document_of(dataset, f"{number}.png")["annotations"]]
    return sorted(found)


def test_a_category_is_added_once(dataset: Dataset) -> None:
    added = dataset.add_category("debris", key="d")
    assert (added.id, added.key) == (5, "d")
    assert Dataset.open(dataset.path).categories.by_id(5) == added
    with pytest.raises(AnnotationError, match="there is a category 'debris' already"):
        dataset.add_category("debris")
    with pytest.raises(AnnotationError, match="must look like #56b4e9"):
        dataset.add_category("x", color="red")


def test_a_renamed_category_is_read_by_its_new_name_at_once(dataset: Dataset) -> None:
    other = Dataset.open(dataset.path)
    assert other.categories.name_of(2) == "cell body"
    dataset.rename_category(2, "cytoplasm")
    assert other.categories.name_of(2) == "cytoplasm"
    assert [e.counts for e in other.entries()] == [{4: 1, 2: 2}] * 3
    loaded = other.load("0.png").planes[0]
    assert loaded.categories.name_of(2) == "cytoplasm"
    # one who still has the old name does not bring it back
    dataset.save("0.png", [of_both(squares((0, 0), (2, 2)))], revision=1)
    assert len(dataset.categories) == 2
    with pytest.raises(AnnotationError, match="merge them"):
        dataset.rename_category(2, "nucleus")
    with pytest.raises(AnnotationError, match="no category 9"):
        dataset.rename_category(9, "x")
    with pytest.raises(AnnotationError, match="needs a name"):
        dataset.rename_category(2, " ")


def test_files_follow_a_new_name(dataset: Dataset) -> None:
    dataset.rename_category(2, "cytoplasm")
    assert [c["name"] for c in document_of(dataset, "1.png")["categories"]][1] == "cell body"
    steps = list(dataset.rewrite_categories())
    assert len(steps) == 3
    for number in range(3):
        names = [c["name"] for c in document_of(dataset, f"{number}.png")["categories"]]
        assert names == ["nucleus", "cytoplasm"]
    assert list(dataset.rewrite_categories()) == []


def test_colour_and_key_change(dataset: Dataset) -> None:
    dataset.set_category(4, color="#123456")
    dataset.set_category(4, key="x")
    assert dataset.categories.by_id(4) == Category(id=4, name="nucleus", color="#123456", key="x")
    assert dataset.load("0.png").planes[0].categories == dataset.categories
    with pytest.raises(AnnotationError, match="must be one character"):
        dataset.set_category(4, key="xy")


def test_merged_categories_are_one_in_every_file(dataset: Dataset) -> None:
    dataset.merge_categories(2, 4)
    assert [c.name for c in dataset.categories.categories] == ["nucleus"]
    assert [used(dataset, number) for number in range(3)] == [[4, 4, 4]] * 3
    assert [e.counts for e in dataset.entries()] == [{4: 3}] * 3
    assert [e.revision for e in dataset.entries()] == [2, 2, 2]
    with pytest.raises(AnnotationError, match="no category 2"):
        dataset.merge_categories(2, 2)
    with pytest.raises(AnnotationError, match="into itself"):
        dataset.merge_categories(4, 4)


# dies after some files, with nothing tidied up
DIES = """
import os, sys
from napari_deeppixel.dataset import category_edits
from napari_deeppixel.dataset.store import Dataset

rewrite_one, left = category_edits.rewrite_one, int(sys.argv[2])

def rewrite_or_die(*arguments):
    global left
    if not left:
        os._exit(9)
    left -= 1
    rewrite_one(*arguments)

category_edits.rewrite_one = rewrite_or_die
Dataset.open(sys.argv[1]).merge_categories(2, 4)
"""


@pytest.mark.parametrize("kills_after", [0, 1, 2])
def test_a_merge_that_dies_half_way_is_whole_for_readers_and_goes_on(
    dataset: Dataset, kills_after: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DIES, str(dataset.path), str(kills_after)], check=False
    )
    assert done.returncode == 9
    again = Dataset.open(dataset.path)
    assert sum(used(again, number) == [2, 2, 4] for number in range(3)) == 3 - kills_after
    assert [e.counts for e in again.entries()] == [{4: 3}] * 3
    for number in range(3):
        plane = again.load(f"{number}.png").planes[0]
        assert plane.instances.category_ids.tolist() == [4, 4, 4]
    kinds = [f.kind for f in faults_of(again)]
    assert kinds == [FaultKind.STALE_CATEGORY] * (3 - kills_after)
    # by asking for the same again
    again.merge_categories(2, 4)
    assert [used(again, number) for number in range(3)] == [[4, 4, 4]] * 3
    assert faults_of(again) == []


def test_a_session_from_before_a_merge_does_not_bring_the_category_back(dataset: Dataset) -> None:
    loaded = dataset.load("0.png")
    dataset.merge_categories(2, 4)
    revision = dataset.entry("0.png").revision
    entry = dataset.save("0.png", loaded.planes, revision=revision)
    assert len(dataset.categories) == 1
    assert entry.counts == {4: 3}


def test_only_a_category_that_nobody_uses_can_be_removed(dataset: Dataset) -> None:
    with pytest.raises(AnnotationError, match="'cell body' is used in 3 images"):
        dataset.remove_category(2)
    unused = dataset.add_category("debris")
    dataset.remove_category(unused.id)
    assert [c.id for c in dataset.categories.categories] == [4, 2]
    assert dataset.add_category("debris").id == unused.id + 1


def test_a_file_of_another_dataset_means_its_names_not_its_ids(dataset: Dataset) -> None:
    document = document_of(dataset, "0.png")
    # there, 2 is the nucleus, and 4 something that is not here
    for category in document["categories"]:
        category["name"] = {2: "nucleus", 4: "debris"}[category["id"]]
    put_document(dataset, "0.png", document)
    assert dataset.entry("0.png").counts == {4: 2}
    plane = dataset.load("0.png").planes[0]
    names = [plane.categories.name_of(int(i)) for i in plane.instances.category_ids]
    assert names == ["debris", "nucleus", "nucleus"]
    # reading changed nothing; saving brings it in
    assert [c.name for c in dataset.categories.categories] == ["nucleus", "cell body"]
    entry = dataset.save("0.png", [plane], revision=1)
    assert [c.name for c in dataset.categories.categories] == ["nucleus", "cell body", "debris"]
    assert entry.counts == {5: 1, 4: 2}
