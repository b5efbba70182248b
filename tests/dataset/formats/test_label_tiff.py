"""Label TIFFs: what is written is what is read, and what overlaps is counted."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.dataset.formats.label_tiff import (
    HiddenByOverlap,
    read_label_tiff,
    write_label_tiff,
)

TABLE = CategoryTable.from_names("nucleus")


def square(y: int, x: int, side: int) -> CroppedMask:
    return CroppedMask(pixels=np.ones((side, side), np.bool_), y=y, x=x)


def set_of(*masks: CroppedMask, scores: tuple[float, ...] = (), handles: tuple[int, ...] = ()):
    return InstanceSet(
        image_hw=(4, 6),
        masks=masks,
        categories=TABLE,
        scores=np.array(scores),
        handles=np.array(handles),
    )


def test_two_objects_are_written_with_their_handles(tmp_path: Path) -> None:
    hidden = write_label_tiff(
        [set_of(square(0, 0, 2), square(3, 5, 1), handles=(7, 300))], tmp_path / "a.tif"
    )
    assert hidden == HiddenByOverlap(pixels=0, instances=0)
    stack = read_label_tiff(tmp_path / "a.tif")
    assert stack.axes == "yx"
    assert stack.label_images.dtype == np.uint16
    assert stack.label_images.tolist() == [
        [7, 7, 0, 0, 0, 0],
        [7, 7, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 300],
    ]


def test_hidden_pixels_and_objects_are_counted(tmp_path: Path) -> None:
    # the first lies wholly, and the third with one pixel, under the second
    instances = set_of(square(1, 1, 1), square(0, 0, 3), square(2, 2, 2), scores=(0.5, 0.9, 0.7))
    hidden = write_label_tiff([instances], tmp_path / "a.tif")
    assert hidden == HiddenByOverlap(pixels=2, instances=1)
    labels = read_label_tiff(tmp_path / "a.tif").label_images
    assert np.unique(labels, return_counts=True)[1].tolist() == [12, 9, 3]


def test_plane_without_objects_is_all_zero(tmp_path: Path) -> None:
    write_label_tiff([InstanceSet.empty((4, 6), TABLE)], tmp_path / "a.tif")
    labels = read_label_tiff(tmp_path / "a.tif").label_images
    assert labels.shape == (4, 6)
    assert not labels.any()


def test_large_numbers_need_32_bits(tmp_path: Path) -> None:
    write_label_tiff([set_of(square(0, 0, 1), handles=(65_535,))], tmp_path / "small.tif")
    write_label_tiff([set_of(square(0, 0, 1), handles=(65_536,))], tmp_path / "large.tif")
    assert tifffile.imread(tmp_path / "small.tif").dtype == np.uint16
    large = tifffile.imread(tmp_path / "large.tif")
    assert large.dtype == np.uint32
    assert large[0, 0] == 65_536


@pytest.mark.parametrize("largest", [9, 70_000])
@pytest.mark.parametrize(
    ("axes", "lead_shape"),
    [("tyx", (3,)), ("tzyx", (2, 3)), ("tzcyx", (2, 3, 2)), ("ztyx", (2, 3))],
)
def test_stack_keeps_its_axes(
    tmp_path: Path, axes: str, lead_shape: tuple[int, ...], largest: int
) -> None:
    labels = (
        np.arange(np.prod(lead_shape) * 24, dtype=np.int64).reshape(*lead_shape, 4, 6) % largest
    )
    labels.flat[-1] = largest
    write_label_tiff(
        list(labels.reshape(-1, 4, 6)), tmp_path / "a.tif", axes=axes, lead_shape=lead_shape
    )
    stack = read_label_tiff(tmp_path / "a.tif")
    assert stack.axes == axes
    assert np.array_equal(stack.label_images, labels)


def test_imagej_knows_the_axes_of_a_16_bit_stack(tmp_path: Path) -> None:
    write_label_tiff(
        [np.ones((4, 6), np.uint8)] * 6, tmp_path / "a.tif", axes="tzyx", lead_shape=(2, 3)
    )
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_imagej
        assert file.imagej_metadata is not None
        assert (file.imagej_metadata["frames"], file.imagej_metadata["slices"]) == (2, 3)
        assert file.pages[0].compression == tifffile.COMPRESSION.ADOBE_DEFLATE


def test_stack_of_one_lead_axis_needs_no_shape(tmp_path: Path) -> None:
    write_label_tiff([set_of(), set_of(square(0, 0, 1))], tmp_path / "a.tif", axes="zyx")
    stack = read_label_tiff(tmp_path / "a.tif")
    assert [(index, int(plane.sum())) for index, plane in stack.planes()] == [((0,), 0), ((1,), 1)]


@given(
    planes=st.lists(
        st.lists(st.integers(0, 200_000), min_size=6, max_size=6), min_size=1, max_size=4
    )
)
def test_written_arrays_are_read_again(planes: list[list[int]], tmp_path: Path) -> None:
    arrays = [np.array(plane).reshape(2, 3) for plane in planes]
    write_label_tiff(arrays, tmp_path / "a.tif", axes="zyx")
    read = [plane for _, plane in read_label_tiff(tmp_path / "a.tif").planes()]
    assert np.array_equal(np.stack(arrays), np.stack(read))


def test_large_plane_is_read_again(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 500, (1500, 1100))
    write_label_tiff([labels], tmp_path / "a.tif")
    assert np.array_equal(read_label_tiff(tmp_path / "a.tif").label_images, labels)


def test_file_gives_instances_with_the_same_handles(tmp_path: Path) -> None:
    instances = set_of(square(0, 0, 2), square(2, 3, 2), handles=(5, 2))
    write_label_tiff([instances], tmp_path / "a.tif")
    (read,) = read_label_tiff(tmp_path / "a.tif").to_instances(TABLE)
    assert read.handles.tolist() == [2, 5]
    assert read.boxes_xyxy.tolist() == [[3, 2, 5, 4], [0, 0, 2, 2]]


def test_failed_write_keeps_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    write_label_tiff([np.ones((4, 6), np.uint8)], path)
    before = path.read_bytes()

    class Unreadable:
        shape = (4, 6)

        def __array__(self, *_: object, **__: object) -> np.ndarray:
            self.reads = getattr(self, "reads", 0) + 1
            if self.reads > 3:
                raise OSError("the disk is gone")
            return np.ones((4, 6), np.uint8)

    with pytest.raises(OSError, match="the disk is gone"):
        write_label_tiff([Unreadable()] * 9, path, axes="zyx")  # type: ignore[list-item]
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]


@pytest.mark.parametrize(
    ("planes", "axes", "lead_shape", "message"),
    [
        ([], "yx", None, "planes must be one size"),
        ([np.ones((4, 6)), np.ones((6, 4))], "zyx", None, "planes must be one size"),
        ([np.ones((4, 6), int)] * 2, "yx", None, "2 planes do not fit"),
        ([np.ones((4, 6), int)] * 2, "tzyx", (2, 2), "2 planes do not fit"),
        ([np.ones((4, 6), int)] * 2, "yxz", (2,), "axes 'yxz' do not fit"),
        ([np.full((4, 6), -1)], "yx", None, "got -1 to 0"),
        ([np.full((4, 6), 2**32)], "yx", None, "got 0 to 4294967296"),
    ],
)
def test_what_cannot_be_written_is_refused(
    tmp_path: Path, planes: list, axes: str, lead_shape: tuple[int, ...] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_label_tiff(planes, tmp_path / "a.tif", axes=axes, lead_shape=lead_shape)
    assert not list(tmp_path.iterdir())


def test_whole_floats_are_numbers_of_instances(tmp_path: Path) -> None:
    # ImageJ has no integers above 16 bits
    tifffile.imwrite(tmp_path / "a.tif", np.array([[0, 70_000.0], [1, 1]], np.float32))
    labels = read_label_tiff(tmp_path / "a.tif").label_images
    assert labels.dtype == np.uint32
    assert labels.tolist() == [[0, 70_000], [1, 1]]


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.full((4, 6), 0.5, np.float32), "fractions"),
        (np.full((4, 6), np.nan, np.float32), "must lie in 0"),
        (np.full((4, 6), -3, np.int16), "got -3 to -3"),
        (np.full((4, 6, 3), 3, np.uint8), "a colour image"),
        (np.full((4, 6), 1j, np.complex64), "holds complex64"),
    ],
)
def test_other_tiffs_are_no_label_images(tmp_path: Path, pixels: np.ndarray, message: str) -> None:
    is_rgb = pixels.ndim == 3
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb" if is_rgb else "minisblack")
    with pytest.raises(AnnotationError, match=message):
        read_label_tiff(tmp_path / "a.tif")


def test_missing_and_foreign_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"b\.tif: no such file"):
        read_label_tiff(tmp_path / "b.tif")
    (tmp_path / "c.tif").write_text("no image")
    with pytest.raises(AnnotationError, match=r"c\.tif: not a readable TIFF"):
        read_label_tiff(tmp_path / "c.tif")


def test_pages_that_go_round_in_circles_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.ones((4, 6), np.uint8))
    data = bytearray(path.read_bytes())
    # after the tags of 12 bytes comes the place of the next page: the first one again
    at = 8 + 2 + 12 * data[8]
    data[at : at + 4] = (8).to_bytes(4, "little")
    path.write_bytes(bytes(data))
    with pytest.raises(AnnotationError, match=r"a\.tif: the image is damaged"):
        read_label_tiff(path)
