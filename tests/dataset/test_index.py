"""The index is a cache: whatever happens to it, a list tells what is in the files."""

import json
import os
import random
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tests.dataset.folders import (
    annotation_path,
    document_of,
    names,
    new_dataset,
    put_document,
    squares,
)

from napari_deeppixel.core.errors import RunCancelled
from napari_deeppixel.core.progress import CancelToken
from napari_deeppixel.dataset import index, index_file
from napari_deeppixel.dataset.annotated import ImageState
from napari_deeppixel.dataset.image_entry import ImageEntry
from napari_deeppixel.dataset.store import Dataset


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Return a dataset of four images that were written long ago, in an index."""
    made = new_dataset(tmp_path)
    for number in range(4):
        planes = [squares(*[(0, 0)] * number)]
        made.add_pixels(
            np.full((6, 8), number, np.uint8), name=f"{number % 2}/a {number}", planes=planes
        )
    age(made)
    made.entries()
    return Dataset.open(made.path)


def age(dataset: Dataset, seconds: float = 100) -> None:
    """Let annotation files be older than the clock of any disk is coarse."""
    for path in (dataset.path / "annotations").rglob("*.json"):
        then = path.stat().st_mtime - seconds
        os.utime(path, (then, then))


def index_path(dataset: Dataset) -> Path:
    return dataset.path / "index.jsonl"


def in_full(dataset: Dataset) -> list[ImageEntry]:
    """Return the entries as the files alone say them."""
    index_path(dataset).unlink(missing_ok=True)
    return Dataset.open(dataset.path).entries()


def read_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that names each annotation file when it is read."""
    read: list[str] = []
    before = index.read_record

    def read_and_note(path: Path, name: str) -> object:
        read.append(name)
        return before(path, name)

    monkeypatch.setattr(index, "read_record", read_and_note)
    return read


def test_with_an_index_no_file_is_read(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    read = read_files(monkeypatch)
    entries = dataset.entries()
    assert [(e.file_name, e.num_instances) for e in entries] == [
        ("0/a 0.png", 0),
        ("0/a 2.png", 2),
        ("1/a 1.png", 1),
        ("1/a 3.png", 3),
    ]
    assert read == []
    assert in_full(dataset) == entries


def test_without_an_index_each_file_is_read_once(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = dataset.entries()
    index_path(dataset).unlink()
    read = read_files(monkeypatch)
    fresh = Dataset.open(dataset.path)
    assert fresh.entries() == entries
    assert len(read) == 4
    assert fresh.entries() == Dataset.open(dataset.path).entries() == entries
    assert len(read) == 4


def test_only_what_was_edited_behind_its_back_is_read(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset.entries()
    document = document_of(dataset, "0/a 2.png")
    document["annotations"].pop()
    put_document(dataset, "0/a 2.png", document)
    annotation_path(dataset, "1/a 1.png").unlink()
    copy = annotation_path(dataset, "1/a 3.png").read_text()
    (dataset.path / "annotations" / "new.png.json").write_text(copy)
    read = read_files(monkeypatch)
    for each in (dataset, Dataset.open(dataset.path)):
        assert [(e.file_name, e.num_instances) for e in each.entries()] == [
            ("0/a 0.png", 0),
            ("0/a 2.png", 1),
            ("1/a 3.png", 3),
            ("new.png", 3),
        ]
    assert set(read) == {"0/a 2.png", "new.png"}


def test_a_change_within_one_tick_of_the_clock_is_seen(dataset: Dataset) -> None:
    path = annotation_path(dataset, "0/a 2.png")
    document = document_of(dataset, "0/a 2.png")
    document["annotations"][0]["attributes"]["state"] = "unsure"
    put_document(dataset, "0/a 2.png", document)
    stamp = path.stat().st_mtime_ns
    assert dataset.entry("0/a 2.png").num_unreviewed == 1
    assert [e.num_unreviewed for e in dataset.entries()] == [0, 1, 0, 0]
    # same size, same time
    document["annotations"][0]["attributes"]["state"] = "edited"
    put_document(dataset, "0/a 2.png", document)
    os.utime(path, ns=(stamp, stamp))
    assert [e.num_unreviewed for e in dataset.entries()] == [0, 0, 0, 0]
    assert dataset.entry("0/a 2.png").num_unreviewed == 0
    assert [e.num_unreviewed for e in Dataset.open(dataset.path).entries()] == [0, 0, 0, 0]


def test_however_it_is_torn_the_list_is_right(dataset: Dataset) -> None:
    expected = dataset.entries()
    whole = index_path(dataset).read_bytes()
    chance = random.Random(3)
    for _ in range(60):
        torn = bytearray(whole[: chance.randrange(len(whole) + 1)])
        for _ in range(chance.randrange(3)):
            if torn:
                torn[chance.randrange(len(torn))] = chance.randrange(256)
        index_path(dataset).write_bytes(bytes(torn))
        fresh = Dataset.open(dataset.path)
        assert [e.file_name for e in fresh.entries()] == [e.file_name for e in expected]
    # a torn end, and then a save
    index_path(dataset).write_bytes(whole[:-20])
    again = Dataset.open(dataset.path)
    again.set_state(["0/a 0.png"], ImageState.COMPLETE)
    assert Dataset.open(dataset.path).entries() == again.entries() == in_full(dataset)


@pytest.mark.parametrize("cut", [1, 5, 40, 100])
def test_a_line_whose_end_is_missing_is_read_anew(
    dataset: Dataset, cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = dataset.entries()
    index_path(dataset).write_bytes(index_path(dataset).read_bytes()[:-cut])
    read = read_files(monkeypatch)
    assert Dataset.open(dataset.path).entries() == expected
    assert len(read) == 1
    assert Dataset.open(dataset.path).entries() == expected
    assert len(read) == 1


def test_an_index_of_another_version_is_written_anew(dataset: Dataset) -> None:
    expected = dataset.entries()
    lines = index_path(dataset).read_text().splitlines()
    index_path(dataset).write_text("\n".join(['{"version": 99}', *lines[1:], ""]))
    assert Dataset.open(dataset.path).entries() == expected
    assert json.loads(index_path(dataset).read_text().splitlines()[0])["version"] == 1


def test_it_does_not_grow_for_ever(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_file, "_SPARE_LINES", 10)
    for number in range(30):
        dataset.set_state(["0/a 0.png"], [ImageState.NONE, ImageState.DRAFT][number % 2])
    age(dataset)
    expected = dataset.entries()
    assert len(index_path(dataset).read_text().splitlines()) < 25
    assert Dataset.open(dataset.path).entries() == expected


def test_others_are_seen_at_once(dataset: Dataset) -> None:
    other = Dataset.open(dataset.path)
    assert names(other) == names(dataset)
    other.add_pixels(np.full((6, 8), 77, np.uint8), name="new")
    other.set_state(["0/a 0.png"], ImageState.COMPLETE)
    other.remove(["1/a 1.png"])
    assert dataset.entries() == other.entries()
    assert dataset.entry("0/a 0.png").state is ImageState.COMPLETE
    # what another process brought in is known by its content
    assert not dataset.add_pixels(np.full((6, 8), 77, np.uint8), name="again").is_new


def test_a_folder_without_the_right_to_write_can_be_listed(dataset: Dataset) -> None:
    expected = dataset.entries()
    index_path(dataset).unlink()
    # a folder in the place of the lock: nobody can take it, whatever his rights
    (dataset.path / "dataset.lock").unlink(missing_ok=True)
    (dataset.path / "dataset.lock").mkdir()
    assert Dataset.open(dataset.path).entries() == expected
    assert not index_path(dataset).exists()


def test_a_stop_keeps_what_was_read(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    index_path(dataset).unlink()
    read = read_files(monkeypatch)
    cancel = CancelToken()
    fresh = Dataset.open(dataset.path)

    def stop(done: int, of: int) -> None:
        assert of == 4
        if done == 3:
            cancel.cancel()

    with pytest.raises(RunCancelled):
        fresh._folder.index.records(cancel=cancel, on_read=stop)
    assert len(read) == 3
    assert len(Dataset.open(dataset.path).entries()) == 4
    assert len(read) == 4


def test_no_instance_is_kept_in_memory(tmp_path: Path) -> None:
    made = new_dataset(tmp_path)
    made.add_pixels(np.zeros((6, 8), np.uint8), name="a", planes=[squares((0, 0), (3, 3))])
    template = document_of(made, "a.png")
    annotations = template["annotations"]
    template["annotations"] = [annotations[n % 2] | {"id": n} for n in range(500)]
    text = json.dumps(template)
    folder = made.path / "annotations"
    peaks = []
    for total in (20, 200):
        for number in range(total):
            (folder / f"{number}.json").write_text(text)
        fresh = Dataset.open(made.path)
        tracemalloc.start()
        fresh.entries()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        (made.path / "index.jsonl").unlink(missing_ok=True)
    # ten times as many files of 140 kB: 25 MB if they were kept
    assert len(text) > 100_000
    assert peaks[1] - peaks[0] < 3_000_000


def test_a_link_in_its_place_is_not_written_through(dataset: Dataset, tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    index_path(dataset).unlink()
    index_path(dataset).symlink_to(precious)
    fresh = Dataset.open(dataset.path)
    fresh.set_state(["0/a 0.png"], ImageState.COMPLETE)
    assert fresh.entry("0/a 0.png").state is ImageState.COMPLETE
    assert len(fresh.entries()) == 4
    assert precious.read_text() == "mine"


def test_what_others_added_within_one_tick_of_the_clock_is_known(dataset: Dataset) -> None:
    dataset.add_pixels(np.full((6, 8), 50, np.uint8), name="0/mine")
    folder = dataset.path / "annotations" / "0"
    before = folder.stat().st_mtime_ns
    Dataset.open(dataset.path).add_pixels(np.full((6, 8), 60, np.uint8), name="0/theirs")
    os.utime(folder, ns=(before, before))
    again = dataset.add_pixels(np.full((6, 8), 60, np.uint8), name="0/again")
    assert (again.is_new, again.entry.file_name) == (False, "0/theirs.png")


def test_what_was_put_in_by_hand_is_known(dataset: Dataset) -> None:
    dataset.add_pixels(np.full((6, 8), 50, np.uint8), name="0/mine")
    other = new_dataset(dataset.path.parent / "other")
    other.add_pixels(np.full((6, 8), 60, np.uint8), name="x")
    annotation_path(other, "x.png").rename(annotation_path(dataset, "0/x.png"))
    again = dataset.add_pixels(np.full((6, 8), 60, np.uint8), name="0/again")
    assert (again.is_new, again.entry.file_name) == (False, "0/x.png")


def test_a_thread_that_asks_for_one_image_does_not_wait_for_the_list(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_path(dataset).unlink()
    fresh = Dataset.open(dataset.path)
    before = index.read_record
    asked: list[int] = []

    def ask_and_read(path: Path, name: str) -> object:
        monkeypatch.setattr(index, "read_record", before)
        # another thread, while this one walks
        with ThreadPoolExecutor(1) as pool:
            found = pool.submit(fresh.load, "1/a 3.png").result(timeout=60)
        asked.append(len(found.planes[0].instances))
        return before(path, name)

    monkeypatch.setattr(index, "read_record", ask_and_read)
    assert len(fresh.entries()) == 4
    assert asked == [3]
