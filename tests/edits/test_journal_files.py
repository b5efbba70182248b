"""Where a journal lies."""

import os
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_deeppixel.core.image import ImageArray, as_image_array
from napari_deeppixel.edits import journal_key
from napari_deeppixel.edits.journal_files import (
    ROOT_VARIABLE,
    JournalFolder,
    JournalLockedError,
    LogFile,
    image_key,
    journal_folder,
    journal_root,
    write_json,
)
from napari_deeppixel.edits.journal_lock import FolderLock


def gradient(*shape: int, dtype: str = "uint16") -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def test_renamed_image_finds_its_journal() -> None:
    pixels = gradient(5, 7)
    here = as_image_array(pixels, name="a", source="/a.tif")
    there = as_image_array(pixels.copy(order="F"), name="b", source="/old/b.tif")
    assert journal_folder(here) == journal_folder(there)
    assert len(journal_folder(here).name) == 24


@pytest.mark.parametrize(
    "other",
    [
        as_image_array(gradient(7, 5)),
        as_image_array(gradient(5, 7, dtype="int32")),
        as_image_array(gradient(5, 7) + np.eye(5, 7, dtype="uint16")),
        as_image_array(gradient(5, 7), axes="xy"),
    ],
)
def test_other_image_has_another_key(other: ImageArray) -> None:
    assert image_key(other) != image_key(as_image_array(gradient(5, 7)))


def test_byte_order_does_not_matter() -> None:
    little = as_image_array(gradient(5, 7, dtype="<u2"))
    assert image_key(little) == image_key(as_image_array(gradient(5, 7, dtype=">u2")))


def test_change_in_any_of_a_few_planes_and_in_the_corners_of_a_large_one_is_seen() -> None:
    stack = gradient(3, 2, 4, 5)
    key = image_key(as_image_array(stack, axes="tzyx"))
    for plane in np.ndindex(3, 2):
        changed = stack.copy()
        changed[(*plane, 3, 4)] += 1
        assert image_key(as_image_array(changed, axes="tzyx")) != key
    large = np.zeros((700, 900), np.uint8)
    for y, x in ((0, 0), (0, 899), (699, 0), (699, 899)):
        changed = large.copy()
        changed[y, x] = 1
        assert image_key(as_image_array(changed)) != image_key(as_image_array(large))


class Endless:
    """Counts the pixels that are read of 10,000 planes of 10 Gpixel."""

    shape = (10_000, 100_000, 100_000)
    dtype = np.dtype(np.uint8)
    pixels_read = 0

    def __getitem__(self, at: tuple[Any, ...]) -> np.ndarray:
        self.pixels_read += (at[1].stop - at[1].start) * (at[2].stop - at[2].start)
        return np.zeros((at[1].stop - at[1].start, at[2].stop - at[2].start), np.uint8)


def test_of_a_huge_image_only_a_little_is_read() -> None:
    pixels = Endless()
    image_key(ImageArray(pixels=pixels, axes="tyx"))
    assert pixels.pixels_read == 4 * 16 * 512 * 512


def test_sparse_images_that_differ_in_one_object_have_different_keys() -> None:
    keys = set()
    for number in range(40):
        pixels = np.zeros((1024, 1500), np.uint16)
        # none of them on a grid of samples that leaves pixels out
        pixels[25 * number + 3, 36 * number + 5] = 200
        keys.add(image_key(as_image_array(pixels)))
    assert len(keys) == 40


def test_plane_in_memory_is_read_as_a_whole_however_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_key, "_WHOLE_PIXELS", 1000)
    pixels = np.zeros((70, 600, 600), np.uint8)
    key = image_key(as_image_array(pixels, axes="zyx"))
    pixels[35, 300, 257] = 1
    assert image_key(as_image_array(pixels, axes="zyx")) != key


def test_root_is_where_the_variable_says_else_in_the_persons_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    assert journal_root() == tmp_path
    monkeypatch.delenv(ROOT_VARIABLE)
    assert journal_root().parts[-2:] == ("napari-deeppixel", "journal")


def test_log_that_was_replaced_by_another_file_is_not_written_to(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = LogFile(path)
    log.append(b"one\n")
    path.unlink()
    path.write_bytes(b"another's\n")
    with pytest.raises(FileNotFoundError):
        log.append(b"two\n")
    log.close()
    log.close()
    assert path.read_bytes() == b"another's\n"


def test_clean_up_leaves_the_newest_generation_and_what_is_not_ours(tmp_path: Path) -> None:
    kept = {"snapshot-10.jsonl.gz", "log-10.jsonl", "log-11.jsonl", "notes.txt", "image.json"}
    gone = {"snapshot-9.jsonl.gz", "log-9.jsonl", ".snapshot-8.jsonl.gz.1.part"}
    for name in kept | gone:
        (tmp_path / name).write_bytes(b"")
    folder = JournalFolder(path=tmp_path)
    assert (folder.generations("snapshot"), folder.newest) == ([9, 10], 11)
    folder.remove_before(10)
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_two_sets_of_files_can_be_set_aside_in_one_second(tmp_path: Path) -> None:
    folder = JournalFolder(path=tmp_path)
    assert folder.set_aside() is None
    places = []
    for content in (b"one", b"two"):
        folder.log(1).write_bytes(content)
        places.append(folder.set_aside())
    assert [(place / "log-1.jsonl").read_bytes() for place in places if place] == [b"one", b"two"]
    assert folder.contents() == {}


def test_what_was_set_aside_comes_newest_first_without_what_was_answered(tmp_path: Path) -> None:
    stamp = "earlier-20260102-030405"
    for name in (stamp, f"{stamp}-2", f"{stamp}-10", "earlier-20251231-235959"):
        (tmp_path / name).mkdir()
    folder = JournalFolder(path=tmp_path)
    names = [f"{stamp}-10", f"{stamp}-2", stamp, "earlier-20251231-235959"]
    assert [each.path.name for each in folder.asides()] == names
    folder.asides()[1].mark_answered()
    assert [each.path.name for each in folder.asides()] == [names[0], *names[2:]]


@pytest.mark.parametrize(
    ("owner", "place"),
    [
        ({"host": "here", "process": 1}, "another window since"),
        ({"host": "there", "process": os.getpid()}, "another window on there since"),
        ({"host": "here", "process": os.getpid()}, "this napari since"),
    ],
)
def test_lock_says_who_edits_to_the_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: dict[str, Any], place: str
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "here")
    when = datetime(2026, 11, 23, 9, 32, 59).astimezone()
    holder = FolderLock(tmp_path)
    holder.acquire()
    write_json(tmp_path / "owner.json", owner | {"since": when.isoformat(sep=" ")})
    with pytest.raises(JournalLockedError) as caught:
        FolderLock(tmp_path).acquire()
    holder.release()
    assert str(caught.value) == (
        f"this image is being edited in {place} 09:32 (2026-11-23): close it there, or press "
        "Edit here"
    )
