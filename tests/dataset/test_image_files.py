"""Image files that move, change, and go."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.dataset.folders import (
    document_of,
    files_below,
    names,
    new_dataset,
    squares,
    write_image,
)

from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.dataset.annotated import ImageState
from napari_deeppixel.dataset.formats.base import Problem
from napari_deeppixel.dataset.store import (
    Dataset,
    ImageChangedError,
    ImageMissingError,
    Storage,
)


def with_references(tmp_path: Path) -> Dataset:
    dataset = new_dataset(tmp_path)
    for level in range(3):
        path = write_image(tmp_path / "old" / f"{level}.png", level)
        dataset.add_file(path, storage=Storage.REFERENCE, planes=[squares((0, 0))])
    return dataset


def test_moved_files_are_found_by_their_content(tmp_path: Path) -> None:
    dataset = with_references(tmp_path)
    for old, new in (("0", "deep/x"), ("1", "y"), ("2", "z")):
        place = tmp_path / "new" / f"{new}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(tmp_path / "old" / f"{old}.png", place)
    # same size, other content
    write_image(tmp_path / "new" / "z.png", 77)
    with pytest.raises(ImageMissingError, match=r"find it with relocate\(FOLDER\)"):
        dataset.image_path("0.png")
    found = dataset.relocate(tmp_path / "new")
    assert found == [
        ("0.png", tmp_path / "new" / "deep" / "x.png"),
        ("1.png", tmp_path / "new" / "y.png"),
    ]
    assert dataset.image_path("0.png") == tmp_path / "new" / "deep" / "x.png"
    dataset.verify_image("1.png")
    assert dataset.entry("0.png").num_instances == 1
    with pytest.raises(ImageMissingError):
        dataset.image_path("2.png")
    assert dataset.relocate(tmp_path / "new") == []


def test_a_copied_file_that_is_lost_is_copied_back(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    path = write_image(tmp_path / "backup" / "a.png", 5)
    dataset.add_file(path, name="day/a.png")
    (dataset.path / "images" / "day" / "a.png").unlink()
    place = dataset.path / "images" / "day" / "a.png"
    assert dataset.relocate(tmp_path / "backup") == [("day/a.png", place)]
    dataset.verify_image("day/a.png")
    assert path.exists()


def test_changed_files_are_told_by_size_or_content(tmp_path: Path) -> None:
    dataset = with_references(tmp_path)
    same_size = bytearray((tmp_path / "old" / "0.png").read_bytes())
    same_size[-1] ^= 1
    (tmp_path / "old" / "0.png").write_bytes(same_size)
    assert dataset.image_path("0.png") == tmp_path / "old" / "0.png"
    with pytest.raises(ImageChangedError, match="is not what came in"):
        dataset.verify_image("0.png")
    (tmp_path / "old" / "1.png").write_bytes(b"short")
    with pytest.raises(ImageChangedError, match=r"has 5 bytes, it had \d+"):
        dataset.image_path("1.png")


def test_a_change_can_be_accepted_unless_masks_would_not_fit(tmp_path: Path) -> None:
    dataset = with_references(tmp_path)
    write_image(tmp_path / "old" / "0.png", 200)
    entry = dataset.accept_image("0.png")
    assert entry.revision == 2
    dataset.verify_image("0.png")
    write_image(tmp_path / "old" / "0.png", 200, image_hw=(9, 9))
    with pytest.raises(AnnotationError, match=r"\(9, 9\) pixels"):
        dataset.accept_image("0.png")


def test_what_is_removed_is_kept(tmp_path: Path) -> None:
    dataset = with_references(tmp_path)
    dataset.add_pixels(np.zeros((6, 8), np.uint8), name="day/a", planes=[squares((1, 1))])
    before = document_of(dataset, "day/a.png")
    place = dataset.remove(["day/a.png", "0.png"])
    assert names(dataset) == ["1.png", "2.png"]
    assert files_below(place) == [
        "annotations/0.png.json",
        "annotations/day/a.png.json",
        "images/day/a.png",
    ]
    assert (tmp_path / "old" / "0.png").exists()
    again = dataset.add_pixels(np.zeros((6, 8), np.uint8), name="day/a")
    assert again.is_new
    second = dataset.remove(["day/a.png"])
    assert second != place
    assert (place / "annotations" / "day" / "a.png.json").read_text().startswith("{")
    assert before["annotations"] != []
    with pytest.raises(AnnotationError, match="no image"):
        dataset.load("day/a.png")


def test_a_renamed_image_keeps_all_but_its_name(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    pixels = np.zeros((6, 8), np.uint8)
    dataset.add_pixels(pixels, name="a", planes=[squares((1, 1))], state=ImageState.DRAFT)
    before = dataset.load("a.png")
    entry = dataset.rename("a.png", "day 1/Ä b.png")
    assert (entry.file_name, entry.state, entry.num_instances) == (
        "day 1/Ä b.png",
        ImageState.DRAFT,
        1,
    )
    assert document_of(dataset, "day 1/Ä b.png")["images"][0]["file_name"] == "day 1/Ä b.png"
    dataset.verify_image("day 1/Ä b.png")
    assert names(dataset) == ["day 1/Ä b.png"]
    assert (
        dataset.load("day 1/Ä b.png").planes[0].instances.uuids == before.planes[0].instances.uuids
    )
    assert files_below(dataset.path / "images") == ["day 1/Ä b.png"]


def test_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path)
    for level, name in enumerate(("a", "b")):
        dataset.add_pixels(np.full((6, 8), level, np.uint8), name=name)
    for taken in ("b.png", "B.PNG"):
        with pytest.raises(AnnotationError, match="there is an image"):
            dataset.rename("a.png", taken)
    assert dataset.rename("a.png", "a.png").revision == 1
    # its own name with other letters is free
    assert dataset.rename("a.png", "A.png").file_name == "A.png"
    assert names(dataset) == ["A.png", "b.png"]
    dataset.verify_image("A.png")


def test_a_reference_that_does_not_say_which_file_it_is_is_not_handed_out(tmp_path: Path) -> None:
    dataset = with_references(tmp_path)
    entry = next(each for each in dataset.entries() if each.is_referenced)
    path = dataset.path / "annotations" / f"{entry.image_id}.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    for image in document["images"]:
        del image["attributes"]["sha256"]
    path.write_text(json.dumps(document), encoding="utf-8")
    problems: list[Problem] = []
    found = {i.file_name: i.path for i in dataset.annotated(on_problem=problems.append)}
    assert found[entry.image_id] is None
    assert "without saying which file it is" in str(problems[0])
