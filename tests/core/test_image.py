"""Axes, channels and lazily read planes."""

from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from napari_deeppixel.core.errors import ImageError
from napari_deeppixel.core.image import (
    ImageArray,
    as_image_array,
    default_channels,
    pick_channels,
)


class WatchedArray:
    """An array that writes down each index it is read with."""

    def __init__(self, pixels: np.ndarray) -> None:
        self._pixels = pixels
        self.shape, self.dtype = pixels.shape, pixels.dtype
        self.read: list[tuple] = []

    def __getitem__(self, index: tuple) -> np.ndarray:
        self.read.append(index)
        return self._pixels[index]


def numbered(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)


def test_a_grey_image_has_one_plane_with_one_channel() -> None:
    image = ImageArray(pixels=numbered(2, 3), axes="yx")
    assert (image.image_hw, image.num_channels) == ((2, 3), 1)
    assert (image.lead_axes, image.lead_shape) == ("", ())
    assert list(image.plane_indices()) == [()]
    assert image.plane().tolist() == [[[0], [1], [2]], [[3], [4], [5]]]


@pytest.mark.parametrize("axes", ["cyx", "ycx", "yxc", "cxy", "xcy", "xyc"])
def test_a_plane_is_y_x_c_wherever_the_axes_are(axes: str) -> None:
    plane = numbered(2, 3, 4)
    pixels = plane.transpose(["yxc".index(axis) for axis in axes])
    image = ImageArray(pixels=pixels, axes=axes)
    assert (image.image_hw, image.num_channels) == ((2, 3), 4)
    assert np.array_equal(image.plane(), plane)


def test_lead_axes_may_stand_between_the_others() -> None:
    pixels = numbered(2, 3, 4, 5, 6)  # t y c z x
    image = ImageArray(pixels=pixels, axes="tyczx")
    assert (image.lead_axes, image.lead_shape) == ("tz", (2, 5))
    assert (image.image_hw, image.num_channels) == ((3, 6), 4)
    plane = image.plane((1, 3))
    assert plane.shape == (3, 6, 4)
    assert plane[2, 5, 1] == pixels[1, 2, 1, 3, 5]


@given(st.permutations("tzcyx"), st.data())
def test_every_pixel_is_in_the_plane_and_place_that_its_axes_say(
    order: list[str], data: st.DataObject
) -> None:
    sizes = {axis: data.draw(st.integers(1, 3)) for axis in order}
    pixels = numbered(*(sizes[axis] for axis in order))
    image = ImageArray(pixels=pixels, axes="".join(order))
    seen = 0
    for index in image.plane_indices():
        plane = image.plane(index)
        at = dict(zip(image.lead_axes, index, strict=True))
        for y, x, c in np.ndindex(*plane.shape):
            where = at | {"y": y, "x": x, "c": c}
            assert plane[y, x, c] == pixels[tuple(where[axis] for axis in order)]
            seen += 1
    assert seen == pixels.size


def test_planes_come_with_the_last_axis_fastest() -> None:
    image = ImageArray(pixels=numbered(2, 2, 1, 1), axes="tzyx")
    assert list(image.plane_indices()) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_a_region_is_x1_y1_x2_y2() -> None:
    image = ImageArray(pixels=numbered(2, 4, 6), axes="zyx")
    region = image.plane((1,), region_xyxy=(1, 2, 5, 4))
    assert region[..., 0].tolist() == [[37, 38, 39, 40], [43, 44, 45, 46]]


def test_only_the_plane_and_region_asked_for_are_read() -> None:
    pixels = WatchedArray(numbered(3, 4, 6))
    image = ImageArray(pixels=pixels, axes="zyx")
    assert pixels.read == []
    image.plane((2,), region_xyxy=(1, 0, 5, 2))
    assert pixels.read == [(2, slice(0, 2), slice(1, 5))]


def test_dask_computes_the_plane_asked_for_and_no_other() -> None:
    computed = []

    def block(block_info: Any = None) -> np.ndarray:
        computed.append(block_info[None]["chunk-location"])
        return np.full((1, 4, 6), computed[-1][0], np.uint16)

    # dtype and meta: else dask calls `block` once to see what comes
    stack = da.map_blocks(
        block, chunks=((1,) * 5, (4,), (6,)), dtype=np.uint16, meta=np.zeros((0, 0, 0), np.uint16)
    )
    image = as_image_array(stack)
    assert image.axes == "zyx"
    plane = image.plane((3,))
    assert computed == [(3, 0, 0)]
    assert type(plane) is np.ndarray
    assert plane.tolist() == np.full((4, 6, 1), 3).tolist()


def test_zarr_reads_the_chunks_of_the_plane_asked_for_and_no_other() -> None:
    read = []

    class WatchedStore(zarr.storage.MemoryStore):
        async def get(self, key: str, *args: Any, **kwargs: Any) -> Any:
            read.append(key)
            return await super().get(key, *args, **kwargs)

    pixels = numbered(2, 3, 4, 6)
    array = zarr.create_array(
        WatchedStore(), shape=pixels.shape, chunks=(1, 1, 4, 6), dtype=pixels.dtype
    )
    array[:] = pixels
    read.clear()
    image = ImageArray(pixels=array, axes="tcyx")
    assert read == []
    plane = image.plane((1,))
    assert sorted(read) == ["c/1/0/0/0", "c/1/1/0/0", "c/1/2/0/0"]
    assert type(plane) is np.ndarray
    assert np.array_equal(plane, pixels[1].transpose(1, 2, 0))


def test_arrays_that_are_not_contiguous_are_read_right() -> None:
    pixels = numbered(8, 12)[::-2, 1::3]
    assert not pixels.flags.c_contiguous
    image = as_image_array(pixels)
    assert np.array_equal(image.plane()[..., 0], pixels)
    fortran = np.asfortranarray(numbered(3, 4, 3))
    assert np.array_equal(as_image_array(fortran).plane(), fortran)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((5, 7), "yx"),
        ((5, 3), "yx"),
        ((5, 7, 3), "yxc"),
        ((5, 7, 4), "yxc"),
        ((5, 7, 2), "zyx"),
        ((3, 5, 7), "zyx"),
        ((2, 5, 7, 3), "zyxc"),
        ((2, 9, 5, 7), "tzyx"),
        ((1, 2, 9, 5, 7, 4), "utzyxc"),
        ((1, 1, 1, 1, 1, 1, 5, 7), "qwvutzyx"),
    ],
)
def test_axes_are_guessed_from_the_shape(shape: tuple[int, ...], axes: str) -> None:
    assert as_image_array(np.zeros(shape, np.uint8)).axes == axes


def test_named_axes_beat_the_guess() -> None:
    image = as_image_array(np.zeros((3, 5, 7)), axes="cyx")
    assert (image.num_channels, image.image_hw) == (3, (5, 7))
    stack = as_image_array(np.zeros((5, 7, 3)), axes="zyx")
    assert (stack.num_channels, stack.image_hw, stack.lead_shape) == (1, (7, 3), (5,))


def test_lists_are_images_and_an_image_array_is_handed_through() -> None:
    image = as_image_array([[1, 2, 3]], name="list")
    assert image.plane()[..., 0].tolist() == [[1, 2, 3]]
    assert as_image_array(image, axes="xy", name="other") is image


@pytest.mark.parametrize(
    ("pixels", "axes", "message"),
    [
        (np.zeros((2, 3)), "zyx", r"cells: axes 'zyx' do not fit an array of \(2, 3\)"),
        (np.zeros((2, 3, 4)), "yyx", "axes 'yyx' do not fit"),
        (np.zeros((2, 3, 4)), "ccy", "axes 'ccy' do not fit"),
        (np.zeros((2, 3)), "zx", "needs the axes y and x, got 'zx'"),
        (np.zeros((2, 0)), "yx", r"no pixels \(shape \(2, 0\)\)"),
        (np.zeros((0, 2, 2)), "zyx", "no pixels"),
        (np.zeros((2, 3), complex), "yx", "must be numbers, got complex128"),
        (np.zeros((2, 3), "U1"), "yx", "must be numbers, got <U1"),
        (np.zeros((2, 3), object), "yx", "must be numbers, got object"),
        (np.zeros((2, 3), "M8[s]"), "yx", "must be numbers"),
        (np.zeros(3), None, r"at least two axes, got shape \(3,\)"),
        (np.zeros(()), None, "at least two axes"),
        (np.zeros((1,) * 9), None, "too many axes"),
    ],
)
def test_a_wrong_array_is_refused(pixels: np.ndarray, axes: str | None, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        as_image_array(pixels, axes=axes, name="cells")


@pytest.mark.parametrize("index", [(), (0,), (0, 0, 0), (2, 0), (0, 3), (-1, 0)])
def test_an_index_without_a_plane_is_refused(index: tuple[int, ...]) -> None:
    image = ImageArray(pixels=numbered(2, 3, 4, 5), axes="tzyx", name="cells")
    with pytest.raises(ImageError, match=r"cells: no plane .* in lead axes of \(2, 3\)"):
        image.plane(index)


@pytest.mark.parametrize(
    ("num_channels", "channels"),
    [(1, (0,)), (2, (0,)), (3, (0, 1, 2)), (4, (0, 1, 2)), (5, (0,)), (64, (0,))],
)
def test_default_channels_are_rgb_or_the_first(
    num_channels: int, channels: tuple[int, ...]
) -> None:
    assert default_channels(num_channels) == channels


@pytest.mark.parametrize(
    ("num_channels", "channels", "picked"),
    [
        (1, None, [0]),
        (2, None, [0]),
        (3, None, [0, 1, 2]),
        (4, None, [0, 1, 2]),
        (4, (3,), [3]),
        (4, (3, 0, 1), [3, 0, 1]),
        (2, (1, 1, 1), [1]),  # one channel for all inputs is handed on once
        (2, (1, 0, 1), [1, 0, 1]),
    ],
)
def test_channels_are_picked(
    num_channels: int, channels: tuple[int, ...] | None, picked: list[int]
) -> None:
    plane = numbered(2, 3, num_channels)
    chosen = pick_channels(plane, channels)
    assert chosen.shape == (2, 3, len(picked))
    assert chosen[1, 2].tolist() == plane[1, 2, picked].tolist()


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        ((2,), "channel 2 does not exist: the image has 0..1"),
        ((0, 1, 5), "channel 5 does not exist"),
        ((-1,), "channel -1 does not exist"),
        ((0, 1), "choose 1 or 3 channels for this model, got 2"),
        ((), "choose 1 or 3 channels for this model, got 0"),
        ((0, 1, 0, 1), "got 4"),
    ],
)
def test_channels_that_do_not_fit_are_refused(channels: tuple[int, ...], message: str) -> None:
    with pytest.raises(ImageError, match=message):
        pick_channels(numbered(2, 3, 2), channels)
