"""The list of images without a window around it."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage
from qtpy.QtCore import QPoint, QRectF, Qt
from qtpy.QtGui import QImage, QPainter

from napari_deeppixel.dataset.annotated import ImageState, Split
from napari_deeppixel.dataset.image_entry import ImageEntry
from napari_deeppixel.widgets.data_delegate import draw_state
from napari_deeppixel.widgets.data_jobs import AddedFiles
from napari_deeppixel.widgets.data_model import ImageListModel, Show, facts_of, totals_of
from napari_deeppixel.widgets.thumbnails import Thumbnails, thumbnail


def entry(name: str, state: ImageState = ImageState.NONE, **others: Any) -> ImageEntry:
    values: dict[str, Any] = {
        "image_id": name,
        "file_name": name,
        "image_hw": (60, 80),
        "num_planes": 1,
        "state": state,
        "num_instances": 0,
        "num_unreviewed": 0,
        "counts": {},
        "split": Split.TRAIN,
        "is_split_pinned": False,
        "group": "",
        "is_referenced": False,
        "reference": "",
        "sha256": f"hash of {name}",
        "num_bytes": 1,
        "revision": 1,
        "modified_s": 0.0,
    }
    return ImageEntry(**values | others)


def filled(entries: Sequence[ImageEntry]) -> ImageListModel:
    model = ImageListModel()
    model.set_entries(entries)
    return model


def names(model: ImageListModel) -> list[str]:
    return [model.entry_at(row).image_id for row in range(model.rowCount())]


DONE, DRAFT = ImageState.COMPLETE, ImageState.DRAFT


def test_all_words_must_be_in_the_name_whatever_their_case() -> None:
    model = filled([entry("Plate A 1.png"), entry("plate B 1.png"), entry("plate A 2.png")])
    model.set_filter("b PLATE", Show.ALL)
    assert names(model) == ["plate B 1.png"]


@pytest.mark.parametrize(
    ("show", "expected"),
    [
        (Show.ALL, ["a", "b", "c", "d"]),
        (Show.UNFINISHED, ["a", "b"]),
        (Show.NONE, ["a", "d"]),
        (Show.DRAFT, ["b"]),
        (Show.COMPLETE, ["c"]),
        (Show.VAL, ["c"]),
        (Show.PROBLEM, ["d"]),
    ],
)
def test_each_choice_shows_its_images(show: Show, expected: list[str]) -> None:
    entries = [
        entry("a"),
        entry("b", DRAFT),
        entry("c", DONE, split=Split.VAL),
        entry("d", problem="torn"),
    ]
    model = filled(entries)
    model.set_filter("", show)
    assert names(model) == expected


def test_what_changed_in_place_moves_no_row(qtbot: Any) -> None:
    model = filled([entry("a"), entry("b")])
    with qtbot.assertNotEmitted(model.modelReset), qtbot.waitSignal(model.dataChanged) as changed:
        assert not model.set_entries([entry("a"), entry("b", DRAFT)])
    assert changed.args[0].row() == 1


def test_an_image_that_was_finished_stays_in_sight_until_the_list_is_read_anew() -> None:
    model = filled([entry("a", DRAFT), entry("b", DRAFT)])
    model.set_filter("", Show.UNFINISHED)
    model.replace_entry(entry("a", DONE))
    assert names(model) == ["a", "b"]
    assert model.entry_at(0).state is DONE
    model.set_entries(model.entries)
    assert names(model) == ["b"]


def test_neighbours_are_those_in_the_filtered_list() -> None:
    model = filled([entry("a", DRAFT), entry("b", DONE), entry("c", DRAFT), entry("d", DONE)])
    model.set_filter("", Show.UNFINISHED)

    def neighbour(of: str, step: int) -> str | None:
        found = model.neighbour(of, step)
        return None if found is None else found.image_id

    assert neighbour("a", 1) == "c"
    # b is hidden: it lies between a and c
    assert (neighbour("b", -1), neighbour("b", 1)) == ("a", "c")
    assert neighbour("d", 1) is None
    assert neighbour("d", -1) == "c"
    assert neighbour("a", -1) is None


def test_the_next_unfinished_comes_round_from_the_top() -> None:
    model = filled([entry("a", DRAFT), entry("b", DONE), entry("c", problem="x"), entry("d", DONE)])
    found = model.next_unfinished("b")
    assert found is not None
    assert found.image_id == "a"
    assert model.next_unfinished("a") is None


def test_a_tooltip_tells_all_that_the_row_has_no_room_for() -> None:
    facts = facts_of(
        entry(
            "a.tif",
            DRAFT,
            num_planes=3,
            num_instances=1200,
            num_unreviewed=7,
            is_split_pinned=True,
            group="slide 3",
            is_referenced=True,
            reference="/data/a.tif",
        )
    )
    assert facts == [
        "a.tif",
        "draft · 1,200 instances, 7 to review",
        "80 x 60 px · 3 planes",
        "for training (set by hand)",
        "group: slide 3",
        "stays where it is: /data/a.tif",
    ]


def test_totals_count_states_and_instances() -> None:
    entries = [entry("a", DONE, num_instances=2), entry("b"), entry("c", problem="torn")]
    assert totals_of(entries) == (
        "3 images · 1 complete · 1 not begun · 1 cannot be read · 2 instances"
    )


def test_what_became_of_many_files_is_told_in_short() -> None:
    result = AddedFiles(added=("a",), known=("b", "c"), failed=tuple(f"{n}: no" for n in "defgh"))
    assert result.summary() == (
        "1 image added. 2 images were there already. Not added: d: no; e: no; f: no; and 2 more."
    )


def test_each_state_has_a_sign_of_its_own_also_without_colours(qapp: Any) -> None:  # noqa: ARG001
    grey = []
    for each in (entry("a"), entry("b", DRAFT), entry("c", DONE), entry("d", problem="x")):
        image = QImage(16, 16, QImage.Format.Format_Grayscale8)
        image.fill(Qt.GlobalColor.black)
        painter = QPainter(image)
        draw_state(painter, QRectF(2, 2, 12, 12), each)
        painter.end()
        pixels = [image.pixelColor(QPoint(x, y)).value() > 40 for x in range(16) for y in range(16)]
        grey.append(tuple(pixels))
    assert len(set(grey)) == 4


def test_ten_thousand_images_are_filtered_at_once(qapp: Any) -> None:  # noqa: ARG001
    import time

    model = filled([entry(f"{n}.png", DRAFT) for n in range(10_000)])
    begin = time.perf_counter()
    model.set_filter("99", Show.UNFINISHED)
    # some 10 ms; ten times as long would be felt
    assert time.perf_counter() - begin < 0.3
    assert model.rowCount() == sum("99" in str(n) for n in range(10_000))


# -- thumbnails -----------------------------------------------------------------------------------


def test_a_thumbnail_is_the_mean_of_blocks_in_the_contrast_of_the_image(tmp_path: Path) -> None:
    pixels = np.zeros((96, 192), np.uint16)
    pixels[:, 96:] = 4000
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    small = thumbnail(tmp_path / "a.tif")
    assert small.shape == (24, 48, 3)
    assert small.dtype == np.uint8
    assert (small[:, :24] == 0).all()
    assert (small[:, 24:] == 255).all()


def test_a_thumbnail_keeps_colours_and_takes_the_middle_of_a_stack(tmp_path: Path) -> None:
    colours = np.zeros((10, 20, 3), np.uint8)
    colours[..., 1] = 200
    PillowImage.fromarray(colours).save(tmp_path / "a.png")
    assert thumbnail(tmp_path / "a.png")[5, 5].tolist() == [0, 200, 0]
    stack = np.zeros((3, 8, 8), np.uint8)
    stack[1, :, 4:] = 9
    tifffile.imwrite(tmp_path / "b.tif", stack, photometric="minisblack")
    assert thumbnail(tmp_path / "b.tif")[0, :, 0].tolist() == [0] * 4 + [255] * 4


def test_thumbnails_are_made_newest_first_in_a_thread_and_only_once(
    qtbot: Any, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    PillowImage.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    made: list[str] = []
    asked: list[tuple[str, bool]] = []
    go = threading.Event()
    thumbnails = Thumbnails()
    thumbnails.made.connect(made.append)

    def find(key: str) -> Path:
        go.wait(10)
        asked.append((key, threading.current_thread() is threading.main_thread()))
        return path

    for key in "abc":
        assert thumbnails.get(key, lambda key=key: find(key)) is None
    go.set()
    qtbot.waitUntil(lambda: len(made) == 3)
    assert made == ["a", "c", "b"]
    assert asked == [("a", False), ("c", False), ("b", False)]
    image = thumbnails.get("a", lambda: find("a"))
    assert isinstance(image, QImage)
    assert len(asked) == 3
    thumbnails.shut_down()


def test_what_has_no_thumbnail_is_tried_once(qtbot: Any, tmp_path: Path) -> None:
    thumbnails = Thumbnails()
    with qtbot.waitSignal(thumbnails.made):
        assert thumbnails.get("a", lambda: tmp_path / "missing.png") is None
    assert thumbnails.is_known("a")
    assert thumbnails.get("a", lambda: tmp_path / "missing.png") is None
    assert not thumbnails._task.is_running or thumbnails._waiting == {}
    thumbnails.shut_down()
