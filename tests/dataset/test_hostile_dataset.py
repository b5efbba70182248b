"""Whatever stands in the files of a dataset: a clear error or a fault, and never a crash."""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.dataset.folders import (
    annotation_path,
    document_of,
    faults_of,
    new_dataset,
    put_document,
    squares,
)
from tests.dataset.made import CELLS, eleven, pixels_for

from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.dataset.dataset_file import DatasetFile
from napari_deeppixel.dataset.store import Dataset

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**31, 2**63, 2**80, -1, 0])
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from(["\ud800", "../../x", "\0", "reviewed", "???"])
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=4,
)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to each value inside a value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inside in pairs:
        yield (*at, key)
        if isinstance(inside, dict | list):
            yield from places(inside, (*at, key))


def spoilt(draw: st.DrawFn, value: Any, times: int) -> Any:
    """Return a value with other values in some places, or without what was there."""
    value = json.loads(json.dumps(value))
    for _ in range(draw(st.integers(1, times))):
        *way, last = draw(st.sampled_from(list(places(value))))
        inside = value
        for key in way:
            inside = inside[key]
        if draw(st.booleans()):
            inside[last] = draw(values)
        else:
            del inside[last]
        if not list(places(value)):
            break
    return value


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_spoilt_annotations(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        dataset = Dataset.create(folder, categories=CELLS)
        image = eleven()
        dataset.add_pixels(pixels_for(image), name="a", planes=[image])
        document = data.draw(st.composite(spoilt)(document_of(dataset, "a.png"), 3))
        put_document(dataset, "a.png", document)
        [entry] = dataset.entries()
        assert Dataset.open(folder).entries() == [entry]
        list(dataset.annotated(on_problem=lambda _: None))
        dataset.repair(faults_of(dataset))
        faults_of(dataset)
        before = annotation_path(dataset, "a.png").read_text()
        try:
            loaded = dataset.load("a.png")
            saved = dataset.save("a.png", loaded.planes, revision=loaded.revision)
        except AnnotationError:
            return
        assert saved.revision == loaded.revision + 1
        assert dataset.load("a.png").problems == ()
        # what could not be taken was kept
        kept = [path.read_text() for path in (dataset.path / "removed").rglob("*.json")]
        assert not loaded.problems or before in kept


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_spoilt_dataset_file(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        content = DatasetFile(categories=CELLS).renamed(4, "cell").merged_into(2, 4)
        value = data.draw(st.composite(spoilt)(content.to_json() | {"x": {"y": [1]}}, 3))
        (Path(folder) / "dataset.json").write_text(json.dumps(value))
        try:
            dataset = Dataset.open(folder)
        except AnnotationError:
            return
        dataset.add_category("another one")
        assert Dataset.open(folder).categories == dataset.categories
        image = squares((0, 0), name="a.png")
        assert dataset.add_pixels(np.zeros((6, 8), np.uint8), name="a", planes=[image]).is_new


def test_categories_can_be_added_where_another_program_used_up_the_numbers(tmp_path: Path) -> None:
    value = DatasetFile(categories=CELLS).to_json()
    value["categories"][1]["id"] = 2**31
    (tmp_path / "dataset.json").write_text(json.dumps(value))
    dataset = Dataset.open(tmp_path)
    taken = {category.id for category in dataset.categories.categories}
    added = [dataset.add_category(name).id for name in ("one more", "and another")]
    assert len({*taken, *added}) == len(taken) + 2
    assert max(added) < 10
    assert Dataset.open(tmp_path).categories == dataset.categories


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_spoilt_index(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        dataset = Dataset.create(folder, categories=CELLS)
        dataset.add_pixels(np.zeros((6, 8), np.uint8), name="a", planes=[squares((0, 0))])
        path = Path(folder) / "index.jsonl"
        head, line = path.read_text().splitlines()
        value = json.loads(line)
        # a file that is old enough to trust the index
        value[2] -= 10**11
        other = data.draw(st.composite(spoilt)(value, 2))
        path.write_text(f"{head}\n{json.dumps(other)}\n")
        stamp = value[2]
        os.utime(annotation_path(dataset, "a.png"), ns=(stamp, stamp))
        fresh = Dataset.open(folder)
        assert [entry.file_name for entry in fresh.entries()] == ["a.png"]
        fresh.repair(faults_of(fresh))
        assert faults_of(fresh) == []
        [entry] = fresh.entries()
        assert (entry.num_instances, entry.problem) == (1, "")


@pytest.mark.parametrize("size", [[1 << 40, 1 << 40], [1 << 16, 1 << 16]])
def test_a_mask_that_would_fill_the_memory_is_told(tmp_path: Path, size: list[int]) -> None:
    dataset = new_dataset(tmp_path)
    dataset.add_pixels(np.zeros((6, 8), np.uint8), name="a", planes=[squares((0, 0))])
    document = document_of(dataset, "a.png")
    document["images"][0] |= {"height": size[0], "width": size[1]}
    counts = [0, size[0] * size[1]]
    document["annotations"][0]["segmentation"] = {"size": size, "counts": counts}
    put_document(dataset, "a.png", document)
    assert len(dataset.entries()) == 1
    assert faults_of(dataset) != []
