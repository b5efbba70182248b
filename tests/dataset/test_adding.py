"""Images that come into a dataset."""

import os
import shutil
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.dataset.folders import (
    HW,
    document_of,
    files_below,
    names,
    new_dataset,
    squares,
    write_image,
)

from napari_deeppixel.core.errors import AnnotationError, ImageError
from napari_deeppixel.dataset import adding
from napari_deeppixel.dataset.annotated import ImageState, Split
from napari_deeppixel.dataset.image_file import read_image
from napari_deeppixel.dataset.image_folder import portable_name, safe_name
from napari_deeppixel.dataset.names import clean_name, wanted_name
from napari_deeppixel.dataset.store import Dataset, ImageChangedError, Storage


def test_a_copied_file_is_the_same_to_the_bit(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    path = write_image(tmp_path / "in" / "a b.png", 7)
    added = dataset.add_file(path, planes=[squares((0, 0))], state=ImageState.DRAFT)
    assert added.is_new
    assert added.entry.state is ImageState.DRAFT
    inside = dataset.image_path("a b.png")
    assert inside == dataset.path / "images" / "a b.png"
    assert inside.read_bytes() == path.read_bytes()
    path.unlink()
    dataset.verify_image("a b.png")
    attributes = document_of(dataset, "a b.png")["images"][0]["attributes"]
    assert attributes["storage"] == "copied"
    assert attributes["bytes"] == inside.stat().st_size
    assert files_below(dataset.path / "images") == ["a b.png"]


def test_the_same_content_comes_in_once(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    first = write_image(tmp_path / "a.png", 7)
    other = Path(shutil.copy(first, tmp_path / "b.png"))
    dataset.add_file(first)
    again = dataset.add_file(other, planes=[squares((0, 0))], split=Split.TEST)
    # it had no annotation: those that come along are taken
    assert (again.is_new, again.entry.file_name, again.entry.num_instances) == (False, "a.png", 1)
    assert (again.entry.revision, again.entry.split) == (2, Split.TEST)
    third = dataset.add_file(other, planes=[squares((0, 0), (3, 3))])
    assert (third.is_new, third.entry.num_instances, third.entry.revision) == (False, 1, 2)
    assert files_below(dataset.path / "images") == ["a.png"]


def test_annotations_from_elsewhere_do_not_move_an_image_that_was_pinned(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    path = write_image(tmp_path / "a.png", 7)
    dataset.add_file(path)
    dataset.set_split(["a.png"], Split.TEST)
    joined = dataset.add_file(path, planes=[squares((0, 0))], split=Split.TRAIN)
    assert (joined.entry.num_instances, joined.entry.split) == (1, Split.TEST)


def test_other_content_of_a_name_gets_another_name(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    for level in range(3):
        dataset.add_file(write_image(tmp_path / str(level) / "a.png", level))
    assert names(dataset) == ["a.png", "a_2.png", "a_3.png"]
    attributes = document_of(dataset, "a_2.png")["images"][0]["attributes"]
    assert attributes["original_name"] == "a.png"
    assert read_image(dataset.image_path("a_3.png")).plane()[0, 0] == 2


def test_names_that_differ_in_case_alone_are_told_apart_on_every_system(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    for level, name in enumerate(["A.png", "a.png", "STRASSE.png", "straße.png", "é.png", "é.png"]):
        dataset.add_file(write_image(tmp_path / f"{level}.png", level), name=name)
    assert names(dataset) == [
        "A.png",
        "a_2.png",
        "STRASSE.png",
        "straße_2.png",
        "é.png",
        "é_2.png",
    ]
    assert document_of(dataset, "a_2.png")["images"][0]["attributes"]["original_name"] == "a.png"


def test_folders_spaces_and_letters_of_all_kinds_are_kept(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    for level, name in enumerate(["day 1/well Ä/日本.png", "day 2/well Ä/日本.png", "🔬.png"]):
        dataset.add_file(write_image(tmp_path / f"{level}.png", level), name=name)
    assert set(names(dataset)) == {"day 1/well Ä/日本.png", "day 2/well Ä/日本.png", "🔬.png"}
    again = Dataset.open(dataset.path)
    assert again.load("day 2/well Ä/日本.png").planes[0].path == again.image_path(
        "day 2/well Ä/日本.png"
    )


@pytest.mark.parametrize(
    "name",
    ["../a.png", "/a.png", "a/../../b.png", "C:/a.png", "", " "],
)
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    dataset = new_dataset(tmp_path)
    path = write_image(tmp_path / "in.png")
    with pytest.raises(AnnotationError):
        dataset.add_file(path, name=name)
    with pytest.raises(AnnotationError):
        dataset.add_pixels(np.zeros(HW, np.uint8), name=name)
    dataset.add_file(path)
    with pytest.raises(AnnotationError):
        dataset.rename("in.png", name)
    assert files_below(tmp_path / "set" / "images") == ["in.png"]
    assert names(dataset) == ["in.png"]


def test_files_with_odd_names_come_in_under_good_ones(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    odd = tmp_path / 'what? "this": *.png'
    write_image(odd)
    entry = dataset.add_file(odd).entry
    assert entry.file_name == "what_ _this__ _.png"
    attributes = document_of(dataset, entry.image_id)["images"][0]["attributes"]
    assert attributes["original_name"] == odd.name


@pytest.mark.parametrize(
    "name", ["a" * 250 + ".png", "日" * 80 + ".png", "con.png", "...png", "." + "x" * 230]
)
def test_long_and_reserved_names_can_be_stored(tmp_path: Path, name: str) -> None:
    dataset = new_dataset(tmp_path)
    for level in range(2):
        entry = dataset.add_file(write_image(tmp_path / str(level) / name, level)).entry
        assert len(entry.file_name.encode()) <= 200
        assert dataset.load(entry.image_id).planes[0].path is not None
    assert len(names(dataset)) == 2


@given(st.text(min_size=1))
def test_every_name_can_be_made_one_that_all_systems_store(name: str) -> None:
    clean = clean_name(name)
    assert safe_name(clean).as_posix() == clean
    assert wanted_name(clean) == clean
    assert "/" not in clean
    assert portable_name(PurePosixPath(clean)).as_posix() == clean
    assert not clean.startswith(".")
    assert len(clean.encode()) <= 200


def test_bytes_that_are_no_text_in_a_name_do_no_harm() -> None:
    assert clean_name(os.fsdecode(b"a\xff.png")) == "a_.png"


def test_referenced_files_stay_where_they_are(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    path = write_image(tmp_path / "far" / "a.png")
    entry = dataset.add_file(path, storage=Storage.REFERENCE).entry
    assert (entry.is_referenced, entry.reference) == (True, str(path))
    assert dataset.image_path("a.png") == path
    assert not (dataset.path / "images").exists()
    # both are moved together
    shutil.move(tmp_path / "set", tmp_path / "new" / "set")
    shutil.move(tmp_path / "far", tmp_path / "new" / "far")
    moved = Dataset.open(tmp_path / "new" / "set")
    assert moved.image_path("a.png").samefile(tmp_path / "new" / "far" / "a.png")


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    (tmp_path / "a.png").write_text("text")
    for path in (tmp_path / "a.png", tmp_path, tmp_path / "none.png"):
        with pytest.raises(ImageError):
            dataset.add_file(path)
    with pytest.raises(AnnotationError, match="these are of another image"):
        dataset.add_file(write_image(tmp_path / "b.png", image_hw=(8, 6)), planes=[squares()])
    with pytest.raises(AnnotationError, match=r"\(H, W\) or \(H, W, C\), got \(3,\)"):
        dataset.add_pixels(np.zeros(3, np.uint8), name="a")
    assert files_below(dataset.path) == ["dataset.json", "dataset.lock"]


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.arange(48, dtype=np.uint8).reshape(6, 8), "frame 1.png"),
        (np.arange(144, dtype=np.uint8).reshape(6, 8, 3), "frame 1.png"),
        (np.arange(48, dtype=np.uint16).reshape(6, 8), "frame 1.tif"),
        (np.linspace(0, 1, 96, dtype=np.float32).reshape(6, 8, 2), "frame 1.tif"),
    ],
)
def test_pixels_come_back_as_they_were(tmp_path: Path, pixels: np.ndarray, expected: str) -> None:
    dataset = new_dataset(tmp_path)
    entry = dataset.add_pixels(pixels, name="frame 1.jpg", planes=[squares((0, 0))]).entry
    assert (entry.file_name, entry.image_hw, entry.num_instances) == (expected, (6, 8), 1)
    back = read_image(dataset.image_path(expected)).plane()
    assert np.array_equal(back.reshape(pixels.shape), pixels)
    assert not dataset.add_pixels(pixels, name="other").is_new


def test_a_copy_that_came_in_before_its_process_died_is_taken(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    path = write_image(tmp_path / "a.png", 5)
    shutil.copy(write_image(tmp_path / "set" / "images" / "a.png", 5), tmp_path / "b.png")
    entry = dataset.add_file(path).entry
    assert entry.file_name == "a.png"
    # but not one with other content
    write_image(tmp_path / "set" / "images" / "c.png", 6)
    assert dataset.add_file(write_image(tmp_path / "c.png", 7)).entry.file_name == "c_2.png"


def test_a_file_that_changes_while_it_is_copied_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = new_dataset(tmp_path)
    path = write_image(tmp_path / "a.png", 5)
    of_file = adding.Content.of_file

    def change_then(path: Path) -> adding.Content:
        content = of_file(path)
        write_image(path, 6)
        return content

    monkeypatch.setattr(adding.Content, "of_file", change_then)
    with pytest.raises(ImageChangedError, match="changed while it was copied"):
        dataset.add_file(path)
    assert files_below(dataset.path / "images") == []
    assert names(dataset) == []


@pytest.mark.parametrize("place", ["images", "images/day", "annotations", "annotations/day"])
def test_nothing_is_written_through_a_link(tmp_path: Path, place: str) -> None:
    dataset = new_dataset(tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (dataset.path / place).parent.mkdir(exist_ok=True)
    (dataset.path / place).symlink_to(outside)
    for path in (write_image(tmp_path / "a.png"), write_image(tmp_path / "b.tif", 3)):
        with pytest.raises(AnnotationError, match="nothing is written through links"):
            dataset.add_file(path, name=f"day/deeper/{path.name}")
    assert list(outside.iterdir()) == []
    assert names(dataset) == []


def test_a_linked_dataset_is_one(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    (tmp_path / "link").symlink_to(dataset.path)
    linked = Dataset.open(tmp_path / "link")
    linked.add_file(write_image(tmp_path / "a.png"), name="day/a.png")
    assert names(dataset) == ["day/a.png"]


def test_a_lock_that_is_a_link_is_refused(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    (dataset.path / "dataset.lock").unlink(missing_ok=True)
    (dataset.path / "dataset.lock").symlink_to(precious)
    with pytest.raises(AnnotationError, match="a link; remove it"):
        dataset.add_file(write_image(tmp_path / "a.png"))
    assert precious.read_text() == "mine"


def test_a_full_disk_is_told_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = new_dataset(tmp_path)
    dataset.add_file(write_image(tmp_path / "a.png"))
    before = document_of(dataset, "a.png")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(AnnotationError, match="No space left on device"):
            dataset.add_file(write_image(tmp_path / "b.png", 2))
        with pytest.raises(AnnotationError, match="No space left on device"):
            dataset.save("a.png", [squares((0, 0))], revision=1)
    assert document_of(dataset, "a.png") == before
    assert names(dataset) == ["a.png"]
    assert not [name for name in files_below(dataset.path) if name.endswith(".part")]


def test_images_without_annotations_of_all_kinds_are_added(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    Image.new("RGB", (8, 6)).save(tmp_path / "a.jpg")
    loaded = dataset.load(dataset.add_file(tmp_path / "a.jpg").entry.image_id)
    assert len(loaded.planes) == 1
    assert (loaded.planes[0].plane, loaded.planes[0].image_hw) == ((), (6, 8))
    assert len(loaded.planes[0].instances) == 0


def test_an_image_whose_file_is_lost_is_put_back_when_it_is_added_again(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    path = write_image(tmp_path / "a.png", 7)
    dataset.add_file(path, name="day/a.png")
    shutil.rmtree(dataset.path / "images")
    assert not dataset.add_file(path).is_new
    dataset.verify_image("day/a.png")
