"""Cellpose's masks: what lies on top comes back, the rest is told; pickles are never opened."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.dataset.formats.exchange import (
    assert_agrees,
    label_array,
    read_or_refuse,
    read_with,
    with_pixels,
    write_with,
)
from tests.dataset.made import annotated_images, disc, eleven

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.dataset.annotated import AnnotatedImage
from napari_deeppixel.dataset.formats.cellpose import CELLPOSE
from napari_deeppixel.dataset.formats.loss import measure_loss

TABLE = CategoryTable.from_names("cell")


def one_disc(name: str, handle: int, plane: tuple[int, ...] = ()) -> AnnotatedImage:
    instances = InstanceSet(
        image_hw=(90, 120),
        masks=(disc(20, 30, 5),),
        categories=TABLE,
        handles=np.array([handle]),
    )
    return AnnotatedImage.of(name, instances, plane=plane)


def test_masks_lie_beside_the_image_where_cellpose_looks(tmp_path: Path) -> None:
    image = with_pixels(eleven(), tmp_path / "in")
    write_with(CELLPOSE, [image], tmp_path / "out")
    folder = tmp_path / "out/day 1"
    assert sorted(p.name for p in folder.iterdir()) == ["eleven.png", "eleven_cp_masks.png"]
    pixels = np.asarray(Image.open(folder / "eleven_cp_masks.png"))
    assert pixels.dtype == np.uint16
    assert np.array_equal(pixels, image.instances.label_image())


def test_the_eleven_shapes_come_back_but_for_what_is_hidden(tmp_path: Path) -> None:
    image = with_pixels(eleven(), tmp_path / "in")
    write_with(CELLPOSE, [image], tmp_path / "out")
    (read,), problems = read_with(CELLPOSE, tmp_path / "out")
    assert problems == []
    assert (read.file_name, read.path) == ("day 1/eleven.png", tmp_path / "out/day 1/eleven.png")
    assert_agrees(CELLPOSE.read_back(image), image, read)
    report = measure_loss([image], CELLPOSE)
    # one of the two discs lies over the other
    assert (report.instances_changed, report.overlaps_lost, report.instances_lost) == (1, 1, 0)
    assert (report.holes_lost, report.parts_lost, report.renumbered) == (0, 0, 0)


@settings(deadline=None, max_examples=60)
@given(image=annotated_images())
def test_what_comes_back_of_any_image_is_told_before(image, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("cellpose")
    write_with(CELLPOSE, [image], folder)
    (read,), problems = read_with(CELLPOSE, folder)
    assert problems == []
    assert_agrees(CELLPOSE.read_back(image), image, read)


def test_numbers_beyond_16_bits_and_stacks_are_tiffs(tmp_path: Path) -> None:
    images = [
        one_disc("a.png", 65_535),
        one_disc("b.png", 65_536),
        one_disc("c.tif", 7, (0,)),
        one_disc("c.tif", 8, (1,)),
    ]
    write_with(CELLPOSE, images, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "a_cp_masks.png", "b_cp_masks.tif", "c_cp_masks.tif",
    ]  # fmt: skip
    read, _ = read_with(CELLPOSE, tmp_path)
    assert [image.instances.handles.tolist() for image in read] == [[65_535], [65_536], [7], [8]]
    assert [image.plane for image in read] == [(), (), (0,), (1,)]


def test_masks_of_an_older_run_do_not_stay_beside_the_new_ones(tmp_path: Path) -> None:
    write_with(CELLPOSE, [one_disc("a.png", 65_536)], tmp_path)
    write_with(CELLPOSE, [one_disc("a.png", 2)], tmp_path)
    (read,), _ = read_with(CELLPOSE, tmp_path)
    assert read.instances.handles.tolist() == [2]


def test_an_image_that_cellpose_would_take_for_masks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"a_cp_masks\.png: Cellpose would take"):
        write_with(CELLPOSE, [one_disc("a_cp_masks.png", 1)], tmp_path)


@pytest.mark.parametrize("name", ["x_masks.tif", "x_masks.png", "x_cp_masks.png", "x_cp_masks.tif"])
def test_masks_of_training_sets_are_found(tmp_path: Path, name: str) -> None:
    Image.fromarray(label_array("0110/0220").astype(np.uint16)).save(tmp_path / name)
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((2, 4), np.uint8))
    (read,), problems = read_with(CELLPOSE, tmp_path)
    assert problems == []
    assert (read.file_name, read.instances.handles.tolist()) == ("x.tif", [1, 2])


def test_plain_arrays_are_read(tmp_path: Path) -> None:
    np.save(tmp_path / "x_masks.npy", np.stack([label_array("01"), label_array("20")]))
    read, problems = read_with(CELLPOSE, tmp_path)
    assert problems == []
    assert [(image.plane, image.instances.handles.tolist()) for image in read] == [
        ((0,), [1]),
        ((1,), [2]),
    ]


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["x_seg.npy", "x_masks.npy", "x_cp_masks.npy"])
def test_pickles_are_refused_with_the_way_out_and_never_opened(tmp_path: Path, name: str) -> None:
    trap = tmp_path / "sprung"
    path = tmp_path / "in" / name
    path.parent.mkdir()
    np.save(path, np.array({"masks": Trap(trap)}, dtype=object), allow_pickle=True)
    with pytest.raises(AnnotationError, match=r"never read\. In cellpose: File > Save masks"):
        read_with(CELLPOSE, path)
    read_or_refuse(CELLPOSE, path.parent)
    assert not trap.exists()
    # the trap works
    np.load(path, allow_pickle=True)
    assert trap.exists()


def test_a_bare_pickle_is_not_opened_either(tmp_path: Path) -> None:
    path = tmp_path / "x_seg.npy"
    path.write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(AnnotationError, match=r"x_seg\.npy: not a \.npy file"):
        read_with(CELLPOSE, path)
    assert not (tmp_path / "sprung").exists()


def test_a_pickle_without_masks_beside_it_is_told_of(tmp_path: Path) -> None:
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}_seg.npy", np.array({}, dtype=object), allow_pickle=True)
    Image.fromarray(label_array("01")).save(tmp_path / "a_cp_masks.png")
    (read,), (problem,) = read_with(CELLPOSE, tmp_path)
    assert len(read.instances) == 1
    assert problem.path == tmp_path / "b_seg.npy"
    assert "never read" in problem.message


def test_a_folder_of_pickles_alone_is_refused_with_the_way_out(tmp_path: Path) -> None:
    np.save(tmp_path / "a_seg.npy", np.array({}, dtype=object), allow_pickle=True)
    with pytest.raises(AnnotationError, match=r"a_seg\.npy: holds pickled .* Save masks"):
        read_with(CELLPOSE, tmp_path)


def npy_that_claims(shape: str, dtype: str = "<u2") -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY",
        npy_that_claims("(60000, 60000)"),
        npy_that_claims("(2, 99999999999999999999)"),
        npy_that_claims("(-2, 4)"),
        npy_that_claims("(0, 4)"),
        npy_that_claims("(4,)"),
        npy_that_claims("()"),
        npy_that_claims("(2, 4)", "|O"),
        npy_that_claims("(2, 4)", "<M8[s]"),
        npy_that_claims("(2, 4)", "<U2"),
        npy_that_claims("__import__('os')"),
        npy_that_claims("(" * 5000),
        b"PK\x03\x04 a zip",
    ],
)
def test_hostile_arrays_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x_masks.npy"
    path.write_bytes(data)
    with pytest.raises(AnnotationError, match=r"x_masks\.npy"):
        read_with(CELLPOSE, path)


@settings(deadline=None, max_examples=60)
@given(
    changes=st.lists(st.tuples(st.integers(0, 999), st.integers(0, 255)), max_size=5),
    length=st.integers(0, 999) | st.none(),
)
def test_damaged_arrays_never_bring_another_error(changes, length, tmp_path_factory) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "x_masks.npy"
    np.save(path, label_array("0120/0020").astype(np.int32))
    data = bytearray(path.read_bytes())
    for at, value in changes:
        data[at % len(data)] = value
    path.write_bytes(bytes(data[:length]))
    read_or_refuse(CELLPOSE, path)


def test_cellposes_files_look_like_cellpose(tmp_path: Path) -> None:
    for name in ("x_cp_masks.png", "x_seg.npy"):
        assert CELLPOSE.looks_like(tmp_path / name)
    assert not CELLPOSE.looks_like(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x_cp_masks.tif").touch()
    assert CELLPOSE.looks_like(tmp_path)
    assert not CELLPOSE.looks_like(tmp_path / "x.npy")
    assert not CELLPOSE.looks_like(tmp_path / "missing")
