"""The small picture of an instance."""

import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from napari.components import ViewerModel
from napari.layers import Image

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import ImageError
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.edits.session import AnnotationSession
from napari_deeppixel.viewer.crop import (
    as_shown,
    crop_region,
    crop_rgb,
    magnified,
    shown_channel,
    with_outline,
)
from napari_deeppixel.viewer.layers import InstanceLayers

SQUARE = CroppedMask(pixels=np.ones((2, 2), np.bool_), y=1, x=2)


def test_region_has_half_the_object_around_it_on_each_side() -> None:
    assert crop_region((100, 200, 140, 220), (500, 400)) == (80, 170, 160, 250)


def test_region_at_the_border_moves_inward() -> None:
    assert crop_region((0, 0, 40, 20), (500, 400)) == (0, 0, 80, 80)
    assert crop_region((380, 480, 400, 500), (500, 400)) == (360, 460, 400, 500)


def test_region_of_one_pixel_shows_what_is_around_it() -> None:
    assert crop_region((50, 60, 51, 61), (500, 400)) == (38, 48, 62, 72)


def test_region_in_a_small_image_is_the_whole_of_it() -> None:
    assert crop_region((2, 1, 4, 3), (5, 8)) == (0, 0, 8, 5)


@given(st.data())
def test_region_holds_the_box_and_lies_in_the_image(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 200)), data.draw(st.integers(1, 200))
    x1, y1 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x2, y2 = data.draw(st.integers(x1 + 1, width)), data.draw(st.integers(y1 + 1, height))
    left, top, right, bottom = crop_region((x1, y1, x2, y2), (height, width))
    assert 0 <= left <= x1 < x2 <= right <= width
    assert 0 <= top <= y1 < y2 <= bottom <= height


def test_grey_crop_has_the_contrast_of_its_layer() -> None:
    pixels = np.array([[0, 10, 20], [30, 40, 50]], np.uint16)
    image = Image(pixels, contrast_limits=(10, 30))
    crop = crop_rgb(image, (), (1, 0, 3, 2))
    assert crop.dtype == np.uint8
    assert crop[..., 0].tolist() == [[0, 128], [255, 255]]
    assert np.ptp(crop, axis=2).max() == 0


def test_gamma_and_colormap_count() -> None:
    image = Image(np.array([[0.0, 0.5, 1.0]]), contrast_limits=(0, 1), gamma=2, colormap="green")
    assert crop_rgb(image, (), (0, 0, 3, 1)).tolist() == [[[0, 0, 0], [0, 64, 0], [0, 255, 0]]]


def test_nan_is_black_and_infinity_is_not() -> None:
    image = Image(np.zeros((1, 3)), contrast_limits=(0, 1))
    pixels = np.array([[[np.nan], [np.inf], [-np.inf]]])
    assert as_shown(image, pixels)[..., 0].tolist() == [[0, 255, 0]]


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_rgb_crop_is_as_it_is(kind: type) -> None:
    top = np.iinfo(kind).max if np.issubdtype(kind, np.integer) else 1
    pixels = np.zeros((3, 4, 3), kind)
    pixels[1, 2] = (top, 0, top)
    crop = crop_rgb(Image(pixels, rgb=True), (), (2, 1, 4, 3))
    assert crop.tolist() == [[[255, 0, 255], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]]]


def test_crop_is_of_the_plane_that_was_asked_for() -> None:
    stack = np.zeros((3, 2, 4), np.uint8)
    stack[2, 1, 3] = 255
    image = Image(stack, contrast_limits=(0, 255))
    assert crop_rgb(image, (2,), (2, 0, 4, 2))[..., 0].tolist() == [[0, 0], [0, 255]]
    assert not crop_rgb(image, (1,), (2, 0, 4, 2)).any()
    with pytest.raises(ImageError, match=r"no plane \(3,\)"):
        crop_rgb(image, (3,), (0, 0, 1, 1))


def test_only_the_crop_is_read() -> None:
    blocks: list[tuple[int, ...]] = []

    def read(block_id: tuple[int, ...] | None = None) -> np.ndarray:
        assert block_id is not None
        blocks.append(block_id)
        return np.full((1, 10, 10), 7, np.uint8)

    lazy = da.map_blocks(
        read, chunks=((1,) * 4, (10,) * 3, (10,) * 3), dtype=np.uint8, meta=np.zeros(0, np.uint8)
    )
    image = Image(lazy, contrast_limits=(0, 255))
    blocks.clear()
    assert crop_rgb(image, (2,), (12, 3, 18, 9)).shape == (6, 6, 3)
    assert blocks == [(2, 0, 1)]


def test_channel_is_the_one_that_the_viewer_shows() -> None:
    viewer = ViewerModel()
    pixels = np.zeros((2, 3, 5, 6), np.uint8)
    pixels[1, 2] = 255
    image = viewer.add_image(pixels, contrast_limits=(0, 255))
    session = AnnotationSession((5, 6), CategoryTable.from_names("nucleus"))
    view = InstanceLayers(viewer, image, session, channel_axis=1)
    viewer.dims.set_current_step((0, 1), (1, 2))
    assert shown_channel(view) == 2
    crops = [
        crop_rgb(image, (1,), (0, 0, 2, 2), channel_axis=1, channel=channel) for channel in (1, 2)
    ]
    assert [int(crop.max()) for crop in crops] == [0, 255]


def test_magnified_pixels_stay_sharp() -> None:
    small = np.array([[1, 2, 3], [4, 5, 6]])
    assert magnified(small, (4, 6)).tolist() == np.kron(small, np.ones((2, 2), int)).tolist()
    assert magnified(np.arange(16).reshape(4, 4), (2, 2)).tolist() == [[0, 2], [8, 10]]


def test_outline_lies_inside_the_mask_with_a_dark_line_on_both_sides() -> None:
    picture = np.full((50, 80, 3), 200, np.uint8)
    drawn = with_outline(picture, SQUARE, (0, 0, 8, 5), color="#56b4e9")
    # the mask begins at column 20 and ends before column 40
    assert drawn[20, 18:24, 0].tolist() == [200, 80, 0x56, 0x56, 80, 200]
    assert drawn[20, 36:42, 0].tolist() == [200, 80, 0x56, 0x56, 80, 200]
    assert drawn[20, 20].tolist() == [0x56, 0xB4, 0xE9]
    assert drawn[0, 0].tolist() == [200, 200, 200]
    assert drawn[20, 30].tolist() == [200, 200, 200]
    assert picture.min() == 200


def test_outline_is_seen_on_white_and_on_black() -> None:
    for shade in (0, 255):
        picture = np.full((50, 80, 3), shade, np.uint8)
        drawn = with_outline(picture, SQUARE, (0, 0, 8, 5), color="#f0e442").astype(int)
        row = drawn[20].sum(axis=1)
        assert np.abs(np.diff(row)).max() > 300


def test_mask_that_is_cut_has_no_edge_at_the_cut() -> None:
    picture = np.full((40, 40, 3), 200, np.uint8)
    wide = CroppedMask(pixels=np.ones((2, 10), np.bool_), y=1, x=0)
    drawn = with_outline(picture, wide, (2, 0, 6, 4), color="#56b4e9")
    assert drawn[20, [0, 20, 39]].tolist() == [[200] * 3] * 3
    assert drawn[10, [0, 20, 39]].tolist() == [[0x56, 0xB4, 0xE9]] * 3
