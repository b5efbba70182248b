import json
from pathlib import Path

import pytest

from napari_deeppixel.core.category import Category, CategoryTable
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.dataset.dataset_file import (
    DatasetFile,
    read_dataset_file,
    write_dataset_file,
)
from napari_deeppixel.dataset.split import SplitRule

CELL = Category(id=1, name="cell", color="#56b4e9", key="1")
DEBRIS = Category(id=3, name="debris", color="#e69f00")
TWO = DatasetFile(categories=CategoryTable(categories=(CELL, DEBRIS)))


def test_it_reads_what_it_writes(tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    content = TWO.renamed(1, "nucleus").merged_into(3, 1)
    write_dataset_file(path, content)
    assert read_dataset_file(path) == content
    assert json.loads(path.read_text())["merged"] == {"3": 1}


def test_unknown_keys_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    value = TWO.to_json() | {"lab": ["ours"]}
    value["categories"][1]["ontology"] = "CL:0"
    value["split"]["by"] = "hand"
    path.write_text(json.dumps(value))
    write_dataset_file(path, read_dataset_file(path).renamed(1, "nucleus"))
    again = json.loads(path.read_text())
    assert again["lab"] == ["ours"]
    assert again["categories"][1]["ontology"] == "CL:0"
    assert again["split"] == {"by": "hand", "seed": "", "val": 0.2, "test": 0.0}


def test_an_id_is_never_used_again() -> None:
    content = TWO.without_category(3)
    joined, new_ids = content.joined_with(CategoryTable.from_names("new"))
    assert new_ids == {1: 4}
    assert [c.id for c in joined.categories.categories] == [1, 4]
    merged, _ = TWO.merged_into(3, 1).joined_with(CategoryTable.from_names("debris 2"))
    assert [c.id for c in merged.categories.categories] == [1, 4]


@pytest.mark.parametrize(
    ("category_id", "name", "expected"),
    [
        (1, "cell", 1),
        # ids of another program
        (7, "cell", 1),
        (1, "debris", 3),
        (1, "something else", None),
        # no name in the file
        (3, None, 3),
        (7, None, None),
        ("1", None, None),
        (True, None, None),
    ],
)
def test_a_category_is_known_by_id_and_name(
    category_id: object, name: str | None, expected: int | None
) -> None:
    assert TWO.resolve(category_id, name) == expected


def test_what_was_renamed_or_merged_is_known_by_what_it_was() -> None:
    content = TWO.renamed(1, "nucleus").renamed(1, "blob").merged_into(3, 1)
    assert [content.resolve(1, name) for name in ("cell", "nucleus", "blob")] == [1, 1, 1]
    assert content.resolve(3, "debris") == 1
    assert content.joined_with(TWO.categories) == (content, {1: 1, 3: 1})


def test_merges_into_what_is_merged_later_lead_to_the_last_one() -> None:
    three, _ = TWO.joined_with(CategoryTable.from_names("x"))
    content = three.merged_into(3, 4).merged_into(4, 1)
    assert content.merged == {3: 1, 4: 1}
    assert content.resolve(3, "debris") == 1


def test_categories_are_joined_by_name_first() -> None:
    # 'cell' was renamed, and another one is called so since
    renamed = TWO.renamed(1, "nucleus")
    content = renamed.with_category(Category(id=4, name="cell", color="#000000"))
    assert content.joined_with(TWO.categories) == (content, {1: 4, 3: 3})
    # a file of the dataset itself still means the first one
    assert content.resolve(1, "cell") == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "no dataset of napari-deeppixel"),
        ({"version": 2}, "update napari-deeppixel"),
        ({"version": None}, "update napari-deeppixel"),
        ({"categories": None}, "damaged"),
        ({"categories": [{"id": 1}]}, "damaged"),
        ({"categories": [{"id": 0, "name": "a"}]}, "damaged"),
        ({"merged": {"3": 1}}, "damaged"),
        ({"merged": {"9": 8}}, "damaged"),
        ({"merged": []}, None),
        ({"split": {"val": 7}}, "damaged"),
        ({"split": []}, None),
        ({"former_names": {"x": []}}, "damaged"),
    ],
)
def test_damage_is_told(tmp_path: Path, change: dict[str, object], message: str | None) -> None:
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps(TWO.to_json() | change))
    if message is None:
        assert read_dataset_file(path).categories == TWO.categories
        return
    with pytest.raises(AnnotationError, match=message) as caught:
        read_dataset_file(path)
    assert str(path) in str(caught.value)


def test_a_torn_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    write_dataset_file(path, DatasetFile(categories=TWO.categories, split=SplitRule(val=0.5)))
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(AnnotationError, match="no readable JSON"):
        read_dataset_file(path)
