"""Half pixels, swapped axes and half-open borders."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.core.strategies import bool_images, sizes_hw

from napari_deeppixel.core.geometry import (
    as_boxes,
    box_centres_xy,
    boxes_touch_region,
    boxes_xywh_to_xyxy,
    boxes_xyxy_to_corners_yx,
    boxes_xyxy_to_xywh,
    centres_in_region,
    corners_yx_to_boxes_xyxy,
    mask_to_box_xyxy,
    outline_xy_to_yx,
    outline_yx_to_xy,
    view_corners_to_region_xyxy,
)

# quarters are exact in binary, so round trips can be compared with ==
quarters = st.integers(-4000, 4000).map(lambda n: n / 4)


@st.composite
def boxes(draw: st.DrawFn) -> np.ndarray:
    corners = draw(st.lists(st.tuples(*[quarters] * 4), max_size=5))
    return np.array(
        [[min(a, c), min(b, d), max(a, c), max(b, d)] for a, b, c, d in corners]
    ).reshape(-1, 4)


def one_pixel(size_hw: tuple[int, int], row: int, column: int) -> np.ndarray:
    mask = np.zeros(size_hw, bool)
    mask[row, column] = True
    return mask


def test_pixel_at_row_2_column_3_has_the_box_3_2_4_3() -> None:
    assert mask_to_box_xyxy(one_pixel((4, 6), 2, 3)) == (3, 2, 4, 3)


def test_that_box_is_drawn_from_1_5_to_2_5_and_from_2_5_to_3_5_in_napari() -> None:
    corners = boxes_xyxy_to_corners_yx([[3, 2, 4, 3]])
    assert corners.tolist() == [[[1.5, 2.5], [1.5, 3.5], [2.5, 3.5], [2.5, 2.5]]]


def test_that_box_is_3_2_1_1_in_coco() -> None:
    assert boxes_xyxy_to_xywh([[3, 2, 4, 3]]).tolist() == [[3, 2, 1, 1]]
    assert boxes_xywh_to_xyxy([[3, 2, 1, 1]]).tolist() == [[3, 2, 4, 3]]


def test_an_empty_mask_has_no_box() -> None:
    assert mask_to_box_xyxy(np.zeros((3, 4), bool)) is None
    assert mask_to_box_xyxy(np.zeros((0, 4), bool)) is None


@pytest.mark.parametrize(
    ("row", "column", "box"),
    [(0, 0, (0, 0, 1, 1)), (0, 6, (6, 0, 7, 1)), (2, 0, (0, 2, 1, 3)), (2, 6, (6, 2, 7, 3))],
)
def test_a_pixel_in_a_corner_of_the_image_has_a_box_of_area_one(
    row: int, column: int, box: tuple[int, int, int, int]
) -> None:
    assert mask_to_box_xyxy(one_pixel((3, 7), row, column)) == box


@given(sizes_hw.flatmap(bool_images))
def test_the_box_of_a_mask_holds_all_its_pixels_and_no_empty_line_at_its_border(
    mask: np.ndarray,
) -> None:
    box = mask_to_box_xyxy(mask)
    if box is None:
        assert not mask.any()
        return
    x1, y1, x2, y2 = box
    inside = mask[y1:y2, x1:x2]
    assert inside.sum() == mask.sum()
    assert all(line.any() for line in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


@given(boxes())
def test_boxes_to_napari_corners_and_back_are_the_same(boxes_xyxy: np.ndarray) -> None:
    corners = boxes_xyxy_to_corners_yx(boxes_xyxy)
    assert corners.shape == (len(boxes_xyxy), 4, 2)
    assert corners_yx_to_boxes_xyxy(corners).tolist() == boxes_xyxy.tolist()


@given(boxes())
def test_boxes_to_coco_and_back_are_the_same(boxes_xyxy: np.ndarray) -> None:
    before = boxes_xyxy.copy()
    xywh = boxes_xyxy_to_xywh(boxes_xyxy)
    assert boxes_xywh_to_xyxy(xywh).tolist() == before.tolist()
    assert boxes_xyxy.tolist() == before.tolist()


def test_a_crooked_rectangle_gets_the_box_round_its_extremes() -> None:
    dragged = [[[1.5, 2.5], [1.5, 9.5], [4.5, 3.5], [2.5, 2.5]]]
    assert corners_yx_to_boxes_xyxy(dragged).tolist() == [[3, 2, 10, 5]]


def test_no_box_stays_an_array_of_the_right_shape() -> None:
    assert as_boxes([]).shape == (0, 4)
    assert boxes_xyxy_to_corners_yx([]).shape == (0, 4, 2)
    assert corners_yx_to_boxes_xyxy(np.zeros((0, 4, 2))).shape == (0, 4)
    assert boxes_xyxy_to_xywh([]).shape == (0, 4)
    assert box_centres_xy([]).shape == (0, 2)
    assert boxes_touch_region([], (0, 0, 5, 5)).shape == (0,)
    assert centres_in_region([], (0, 0, 5, 5)).shape == (0,)


@pytest.mark.parametrize("wrong", [[1, 2, 3, 4], [[1, 2, 3]], [[[1, 2, 3, 4]]]])
def test_boxes_of_another_shape_are_refused(wrong: list) -> None:
    with pytest.raises(ValueError, match=r"shape \(N, 4\)"):
        as_boxes(wrong)


def test_boxes_that_only_share_an_edge_do_not_touch() -> None:
    boxes_xyxy = [[0, 0, 2, 2], [1, 1, 3, 3], [4, 2, 6, 4], [2, 4, 4, 6]]
    assert boxes_touch_region(boxes_xyxy, (2, 2, 4, 4)).tolist() == [False, True, False, False]


def test_touching_looks_at_x_and_y_apart() -> None:
    # beside the region in x only, then in y only
    boxes_xyxy = [[10, 0, 12, 3], [0, 10, 3, 12], [4, 1, 5, 2]]
    assert boxes_touch_region(boxes_xyxy, (0, 0, 5, 3)).tolist() == [False, False, True]


def test_a_centre_on_the_low_edge_is_inside_and_on_the_high_edge_outside() -> None:
    boxes_xyxy = [[1, 3, 3, 5], [4, 3, 6, 5], [1, 7, 3, 9]]  # centres (2, 4), (5, 4), (2, 8)
    assert centres_in_region(boxes_xyxy, (2, 4, 5, 8)).tolist() == [True, False, False]


@given(st.tuples(quarters, quarters), st.integers(1, 6), st.integers(1, 6), st.integers(1, 30))
def test_each_centre_lies_in_exactly_one_cell_of_a_grid(
    centre_xy: tuple[float, float], cell_w: int, cell_h: int, half: int
) -> None:
    x, y = centre_xy
    box = [[x - half, y - half, x + half, y + half]]
    left, top = np.floor(x / cell_w) * cell_w, np.floor(y / cell_h) * cell_h
    cells = [
        (left + i * cell_w, top + j * cell_h, left + (i + 1) * cell_w, top + (j + 1) * cell_h)
        for i in (-1, 0, 1)
        for j in (-1, 0, 1)
    ]
    assert sum(bool(centres_in_region(box, cell)[0]) for cell in cells) == 1


def test_a_view_of_the_whole_image_shows_each_pixel() -> None:
    # napari's corner of an image of 3 x 5: half a pixel before the first centre
    corners = np.array([[-0.5, -0.5], [2.5, 4.5]])
    assert view_corners_to_region_xyxy(corners, (3, 5)) == (0, 0, 5, 3)


def test_a_pixel_that_is_partly_in_view_counts_and_corners_may_be_swapped() -> None:
    corners = np.array([[2.6, 3.4], [0.6, 1.6]])
    assert view_corners_to_region_xyxy(corners, (10, 10)) == (2, 1, 4, 4)


@pytest.mark.parametrize(
    "corners",
    [
        [[-9, 0], [-1, 4]],
        [[0, -9], [2, -0.6]],
        [[0, 4.6], [2, 9]],
        [[2.6, 0], [8, 4]],
    ],
)
def test_a_view_beside_the_image_shows_none_of_it(corners: list) -> None:
    assert view_corners_to_region_xyxy(np.array(corners), (3, 5)) is None


@given(hnp.arrays(np.float64, (2, 2), elements=st.floats(-20, 20)), sizes_hw)
def test_the_region_of_a_view_holds_exactly_the_pixels_with_area_in_it(
    corners: np.ndarray, image_hw: tuple[int, int]
) -> None:
    # grown to at least a pixel: a view without area shows nothing
    corners[1] = corners[0] + np.sign(corners[1] - corners[0] + 1e-9) * (
        np.abs(corners[1] - corners[0]) + 1
    )
    low, high = corners.min(axis=0), corners.max(axis=0)
    seen = np.array(
        [
            [
                y - 0.5 < high[0] and y + 0.5 > low[0] and x - 0.5 < high[1] and x + 0.5 > low[1]
                for x in range(image_hw[1])
            ]
            for y in range(image_hw[0])
        ]
    )
    assert view_corners_to_region_xyxy(corners, image_hw) == mask_to_box_xyxy(seen)


def test_corners_carry_the_lead_index_of_their_plane() -> None:
    corners = boxes_xyxy_to_corners_yx([[3, 2, 4, 3]], lead=(5, 1))
    assert corners.tolist() == [
        [[5, 1, 1.5, 2.5], [5, 1, 1.5, 3.5], [5, 1, 2.5, 3.5], [5, 1, 2.5, 2.5]]
    ]
    assert boxes_xyxy_to_corners_yx([], lead=(5,)).shape == (0, 4, 3)


def test_centre_of_a_pixel_lies_half_a_pixel_from_its_edges() -> None:
    # the centre of the pixel at row 2, column 3, and its top left corner
    assert outline_yx_to_xy([(2, 3), (1.5, 2.5)]) == ((3.5, 2.5), (3, 2))
    assert outline_xy_to_yx([(3.5, 2.5), (3, 2)]).tolist() == [[2, 3], [1.5, 2.5]]


@given(st.lists(st.tuples(quarters, quarters), min_size=1, max_size=5))
def test_outlines_come_back_from_pixel_edges(outline_yx: list[tuple[float, float]]) -> None:
    there = outline_yx_to_xy(outline_yx)
    assert outline_xy_to_yx(there).tolist() == [list(point) for point in outline_yx]
