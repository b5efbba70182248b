"""Which image belongs to which annotation file, and where files go."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from PIL import Image
from tests.dataset.made import eleven

from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.dataset.annotated import AnnotatedImage
from napari_deeppixel.dataset.formats.base import Problem, WriteTarget
from napari_deeppixel.dataset.formats.image_pairs import (
    AnnotationNames,
    StackAxes,
    by_file,
    checked_plane,
    copy_image,
    match_images,
    place_in,
    plane_at,
    size_problem,
    stack_axes,
    write_each,
)
from napari_deeppixel.dataset.image_folder import ImageFolder


def made(root: Path, *names: str) -> ImageFolder:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((3, 4), np.uint8)).save(root / name)
    return ImageFolder(root)


def test_names_are_stems_while_nobody_else_has_them() -> None:
    names = AnnotationNames(lambda stem: stem == "odd")
    given = ["a/x.png", "x.png", "x.jpg", "X.tif", "odd.png", "y.png.png", "z", "x.png", "con.png"]
    assert [str(names.name_for(name)) for name in given] == [
        "a/x", "x", "x.jpg", "X.tif", "odd.png", "y.png.png", "z", "x.png", "_con",
    ]  # fmt: skip
    assert [str(names.name_for("x.png")) for _ in range(2)] == ["x.png-2", "x.png-3"]


def test_names_of_two_images_with_one_stem_find_both_again(tmp_path: Path) -> None:
    images = made(tmp_path, "x.png", "x.jpg", "x.bmp")
    names = AnnotationNames()
    given = {names.name_for(name): name for name in ("x.jpg", "x.png", "x.bmp")}
    for order in (list(given), list(given)[::-1]):
        matched = match_images(order, images)
        assert {name: path.name for name, path in matched.items()} == given


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("a/x", "a/x.png"),
        ("A/X", "a/x.png"),
        ("a/x.png", "a/x.png"),
        ("y", "images/y.tif"),
        ("images/y", "images/y.tif"),
        ("b/z", "b/images/z.png"),
        ("elsewhere/y", "images/y.tif"),
        ("twice", None),
        ("missing", None),
    ],
)
def test_an_image_is_found_by_folder_and_stem(tmp_path: Path, name: str, image: str | None) -> None:
    images = made(
        tmp_path, "a/x.png", "images/y.tif", "b/images/z.png", "b/twice.png", "c/twice.png"
    )
    matched = match_images([PurePosixPath(name)], images)
    assert {str(path.relative_to(tmp_path)) for path in matched.values()} == (
        {image} if image else set()
    )


def test_an_image_belongs_to_one_name_and_labels_are_no_images(tmp_path: Path) -> None:
    images = made(tmp_path, "a/x.png", "b/x.png", "labels/y.png")
    names = [PurePosixPath(name) for name in ("c/x", "a/x", "y")]
    matched = match_images(names, images, left_out=[tmp_path / "labels/y.png"])
    # a/x takes its own; the other one is the only x left
    assert {str(name): path.parent.name for name, path in matched.items()} == {
        "a/x": "a",
        "c/x": "b",
    }


def test_another_size_speaks_against_an_image(tmp_path: Path) -> None:
    made(tmp_path, "x.png")
    assert size_problem(tmp_path / "x.png", (3, 4)) == ""
    assert "has 4 x 3 pixels" in size_problem(tmp_path / "x.png", (4, 3))
    (tmp_path / "bad.png").write_text("text")
    assert size_problem(tmp_path / "bad.png", (4, 3)) == ""


def test_planes_of_one_file_come_together() -> None:
    images = [eleven(file_name=name) for name in "aabba"]
    assert [len(planes) for planes in by_file(images)] == [2, 2, 1]


def test_a_stack_without_an_image_is_as_large_as_its_planes_ask_for() -> None:
    planes = [eleven(plane=(1, 0)), eleven(plane=(0, 4))]
    assert stack_axes(planes) == StackAxes(axes="tz", lead_shape=(2, 5))
    assert stack_axes([eleven()]) == StackAxes(axes="", lead_shape=())


@pytest.mark.parametrize(
    ("planes", "message"),
    [
        ([(0,), ()], "not those of one stack"),
        ([(0,), (0,)], "not those of one stack"),
        ([(10**9,)], "asks for a stack"),
        ([(0,) * 99], "asks for a stack"),
    ],
)
def test_planes_that_fit_no_stack_are_refused(planes: list, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        stack_axes([eleven(plane=plane) for plane in planes])


@pytest.mark.parametrize(
    ("at", "axes", "lead_shape", "plane"),
    [
        ({}, "", (), ()),
        ({"z": 2}, "z", (3,), (2,)),
        ({"z": 2}, "t", (3,), (2,)),
        ({"t": 1, "z": 2}, "tz", (2, 3), (1, 2)),
        ({"t": 1, "z": 2}, "zt", (3, 2), (2, 1)),
        ({}, "tz", (2, 3), (0, 0)),
        ({"z": 9}, "z", (), (9,)),
    ],
)
def test_numbers_of_t_and_z_name_a_plane(at, axes, lead_shape, plane) -> None:
    assert plane_at(at, axes, lead_shape) == plane


@pytest.mark.parametrize("at", [{"z": 3}, {"z": -1}, {"t": -1}])
def test_planes_that_the_stack_has_not_are_refused(at) -> None:
    with pytest.raises(AnnotationError, match="but the image has"):
        plane_at(at, "tz", (2, 3))


@pytest.mark.parametrize("value", [None, 3, [-1], [1.5], [True], ["1"], [2**31], [0] * 99])
def test_a_plane_is_a_list_of_whole_numbers(value) -> None:
    with pytest.raises(AnnotationError, match="a plane must be a list"):
        checked_plane(value)


def test_links_out_of_a_folder_are_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root/out").symlink_to(tmp_path)
    with pytest.raises(AnnotationError, match="is a link out of"):
        place_in(tmp_path / "root", "out/deeper/a.tif")
    assert [path.name for path in tmp_path.iterdir()] == ["root"]
    assert place_in(tmp_path / "root", "new/a.tif").parent.is_dir()


def test_copying_an_image_onto_itself_leaves_it(tmp_path: Path) -> None:
    made(tmp_path, "day 1/x.png")
    image = eleven(file_name="day 1/x.png", path=tmp_path / "day 1/x.png")
    before = image.path.read_bytes()
    copy_image(image, tmp_path)
    copy_image(image, tmp_path / "out")
    assert image.path.read_bytes() == before
    assert (tmp_path / "out/day 1/x.png").read_bytes() == before
    assert len(list((tmp_path / "out").rglob("*.*"))) == 1


def test_what_cannot_be_written_is_told_and_the_rest_is_written(tmp_path: Path) -> None:
    told: list[Problem] = []
    target = WriteTarget(path=tmp_path, categories=eleven().categories, on_problem=told.append)

    def write_file(planes: Sequence[AnnotatedImage]) -> None:
        if planes[0].file_name == "b":
            raise AnnotationError("b: no room for it")

    images = [eleven(file_name=name) for name in "abbc"]
    written = write_each(images, target, write_file, is_single=False)
    assert [image.file_name for image in written] == ["a", "c"]
    assert [str(problem) for problem in told] == [f"{tmp_path}: b: no room for it: not written"]
    with pytest.raises(AnnotationError, match="holds the annotations of one image"):
        list(write_each(images, target, write_file, is_single=True))
