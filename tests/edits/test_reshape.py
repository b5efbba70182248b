"""Masks reshaped by hand, on shapes that can be checked by eye and against whole-image work."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from skimage.draw import polygon
from tests.core.strategies import masks_in

from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.edits.reshape import (
    difference,
    filled,
    grown,
    interpolated,
    intersection_mask,
    mask_from_outline,
    shrunk,
    smoothed,
    split_by_line,
    split_by_points,
    union_of,
    with_pixels,
    without_specks,
)

HW = (7, 9)

blocks = masks_in(HW).map(
    lambda mask: CroppedMask(pixels=np.ones_like(mask.pixels), y=mask.y, x=mask.x)
)
# what masks_in draws is mostly dust; these have depth and reach the border
masks = masks_in(HW) | st.tuples(blocks, blocks).map(union_of)
radii = st.floats(0, 5)
coordinates = st.floats(-3, 12) | st.integers(-3, 12).map(float)
points = st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=6)


def drawn(*rows: str, y: int = 0, x: int = 0) -> CroppedMask:
    """Return the mask of the # in a picture whose first pixel is at (y, x)."""
    mask = CroppedMask.from_mask(np.array([[c == "#" for c in row] for row in rows]), y=y, x=x)
    assert mask is not None
    return mask


def disc(
    radius: float, centre_yx: tuple[float, float], image_hw: tuple[int, int] = (80, 100)
) -> CroppedMask:
    rows, columns = np.ogrid[: image_hw[0], : image_hw[1]]
    far = np.hypot(rows - centre_yx[0], columns - centre_yx[1])
    mask = CroppedMask.from_mask(far <= radius)
    assert mask is not None
    return mask


def picture(mask: CroppedMask | None, image_hw: tuple[int, int] = HW) -> NDArray[np.bool_]:
    return np.zeros(image_hw, np.bool_) if mask is None else mask.to_mask(image_hw)


def areas(parts: Sequence[CroppedMask]) -> list[int]:
    return [part.area for part in parts]


def assert_parts_make_up(parts: Sequence[CroppedMask], mask: CroppedMask) -> None:
    assert union_of(parts).equals(mask)
    assert sum(areas(parts)) == mask.area
    assert areas(parts) == sorted(areas(parts), reverse=True)


# --- sets of pixels


@given(masks, masks, masks)
def test_union_sets_what_any_mask_sets(a: CroppedMask, b: CroppedMask, c: CroppedMask) -> None:
    assert np.array_equal(picture(union_of([a, b, c])), picture(a) | picture(b) | picture(c))
    assert union_of([a, b]).area == a.area + b.area - a.intersection(b)


def test_union_of_no_mask_is_refused() -> None:
    with pytest.raises(ValueError, match="got none"):
        union_of([])


@given(masks, masks)
def test_difference_and_intersection_part_a_mask(a: CroppedMask, b: CroppedMask) -> None:
    only, both = difference(a, b), intersection_mask(a, b)
    assert np.array_equal(picture(only), picture(a) & ~picture(b))
    assert np.array_equal(picture(both), picture(a) & picture(b))
    assert difference(a, a) is None
    assert intersection_mask(a, b.moved(dy=20, dx=0)) is None


def test_removed_pixels_win_over_added_ones() -> None:
    mask, added, removed = drawn("##"), drawn("##", x=2), drawn("##", x=1)
    changed = with_pixels(mask, added=added, removed=removed)
    assert changed is not None
    assert changed.equals(drawn("#..#"))
    assert with_pixels(mask, removed=mask) is None
    assert with_pixels(mask) is mask


# --- holes, specks, outline


def test_hole_is_filled_and_a_bay_is_not() -> None:
    assert filled(drawn("####", "#..#", "####")).area == 12
    assert filled(drawn("####", "#..#", "#.##")).area == 9


def test_hole_closed_over_corners_alone_is_filled() -> None:
    assert filled(drawn(".#.", "#.#", ".#.")).area == 5


@given(masks)
def test_filling_twice_is_filling_once(mask: CroppedMask) -> None:
    once = filled(mask)
    assert filled(once).equals(once)
    assert difference(mask, once) is None


def test_parts_below_a_tenth_of_the_largest_are_specks() -> None:
    block, pair, speck = drawn(*["#####"] * 4), drawn("#.", ".#", x=7), drawn("#", y=5)
    mask = union_of([block, pair, speck])
    assert without_specks(mask).equals(union_of([block, pair]))
    assert without_specks(mask, min_area=3).equals(block)
    assert without_specks(mask, min_area=0).equals(mask)


def test_specks_never_take_the_largest_part() -> None:
    assert without_specks(drawn("##.#"), min_area=1000).equals(drawn("##"))
    assert without_specks(drawn("#"), min_area=2).equals(drawn("#"))


@pytest.mark.parametrize("radius", [2, 3, 5, 8, 13, 30])
def test_smoothed_disc_keeps_its_area(radius: int) -> None:
    mask = disc(radius, (40, 45))
    for _ in range(5):
        mask = smoothed(mask, image_hw=(80, 100))
    assert mask.area == pytest.approx(disc(radius, (40, 45)).area, rel=0.03)


def test_smoothing_takes_a_spike_and_fills_a_notch() -> None:
    mask = union_of([disc(10, (30, 40)), drawn("#" * 8, y=30, x=51)])
    notched = difference(mask, drawn("#" * 3, y=30, x=30))
    assert notched is not None
    smooth = smoothed(notched, image_hw=(80, 100)).to_mask((80, 100))
    assert smooth[30, 31:50].all()
    assert not smooth[30, 53:].any()


def test_smoothing_leaves_thin_and_tiny_masks() -> None:
    for mask in (drawn("#"), drawn("#########"), drawn("##", "##")):
        assert smoothed(mask, radius_px=5, image_hw=HW).equals(mask)


def test_smoothing_an_object_with_long_arms_does_not_swell_it() -> None:
    body = disc(10, (50, 50), (100, 100))
    arms = [drawn("#" * 39, y=row, x=60) for row in (46, 54)] + [
        drawn(*["#"] * 39, y=60, x=column) for column in (46, 54)
    ]
    smooth = smoothed(union_of([body, *arms]), image_hw=(100, 100))
    assert smooth.box_xyxy[:2] == body.box_xyxy[:2]


def test_smoothing_does_not_round_what_the_border_of_the_image_cuts() -> None:
    band = drawn(*["###"] * 7)  # from top to bottom
    assert smoothed(band, image_hw=HW).equals(band)
    assert smoothed(drawn(*["#########"] * 7), image_hw=HW).area == 63
    corner = smoothed(drawn(*["#" * 20] * 20), image_hw=(80, 100)).pixels
    assert corner[:15, :15].all()
    assert not corner[19, 19]


@given(masks, st.floats(0.5, 3))
def test_smoothing_treats_rows_as_columns(mask: CroppedMask, radius_px: float) -> None:
    both = np.zeros((9, 9), np.bool_)
    both[:7] |= picture(mask)
    both |= both.T
    symmetric = CroppedMask.from_mask(both)
    assert symmetric is not None
    smooth = picture(smoothed(symmetric, radius_px=radius_px, image_hw=(9, 9)), (9, 9))
    assert np.array_equal(smooth, smooth.T)


@given(masks, st.floats(-1, 8))
def test_smoothing_stays_in_the_image_and_never_takes_all(
    mask: CroppedMask, radius_px: float
) -> None:
    assert smoothed(mask, radius_px=radius_px, image_hw=HW).to_mask(HW).any()


@given(masks, radii)
def test_grown_is_every_pixel_within_the_radius(mask: CroppedMask, radius_px: float) -> None:
    expected = ndimage.distance_transform_edt(~picture(mask)) <= radius_px
    assert np.array_equal(picture(grown(mask, radius_px=radius_px, image_hw=HW)), expected)
    assert difference(mask, grown(mask, radius_px=radius_px, image_hw=HW)) is None


def test_one_pixel_grows_to_a_cross_and_then_a_square() -> None:
    pixel = drawn("#", y=2, x=3)
    assert grown(pixel, radius_px=1, image_hw=HW).equals(drawn(".#.", "###", ".#.", y=1, x=2))
    assert grown(pixel, radius_px=1.5, image_hw=HW).equals(drawn(*["###"] * 3, y=1, x=2))
    assert grown(drawn("#"), radius_px=1, image_hw=HW).equals(drawn("##", "#."))


@given(masks, radii)
def test_shrinking_is_growing_the_background(mask: CroppedMask, radius_px: float) -> None:
    background = CroppedMask.from_mask(~picture(mask))
    small = shrunk(mask, radius_px=radius_px, image_hw=HW)
    if background is None:
        assert small is not None
        assert small.equals(mask)
        return
    eaten = grown(background, radius_px=radius_px, image_hw=HW)
    assert np.array_equal(picture(small), ~picture(eaten))
    assert small is None or difference(small, mask) is None


def test_shrinking_takes_the_rim_but_not_at_the_border_of_the_image() -> None:
    small = shrunk(drawn(*["####"] * 4, y=2, x=2), radius_px=1, image_hw=HW)
    assert small is not None
    assert small.equals(drawn("##", "##", y=3, x=3))
    at_corner = shrunk(drawn(*["####"] * 4), radius_px=1, image_hw=HW)
    assert at_corner is not None
    assert at_corner.equals(drawn(*["###"] * 3))
    assert shrunk(drawn("#", y=2, x=2), radius_px=1, image_hw=HW) is None


# --- splits


def test_line_across_a_block_cuts_it_between_two_columns() -> None:
    block = drawn(*["#####"] * 3, y=2, x=3)
    left, right = drawn(*["##"] * 3, y=2, x=3), drawn(*["###"] * 3, y=2, x=5)
    parts = split_by_line(block, [(0, 4.5), (8, 4.5)])
    assert [part.equals(whole) for part, whole in zip(parts, (right, left), strict=True)] == [
        True,
        True,
    ]


def test_pixels_under_the_line_go_to_one_of_the_parts() -> None:
    block = drawn(*["#####"] * 5, y=1, x=2)
    parts = split_by_line(block, [(0, 4), (7, 4)])
    assert areas(parts) == [15, 10]
    assert_parts_make_up(parts, block)


def test_line_that_stops_a_few_pixels_inside_cuts_all_the_same() -> None:
    mask = disc(20, (40, 50))
    assert areas(split_by_line(mask, [(40.5, 34), (40.5, 66)])) == [649, 608]
    assert areas(split_by_line(mask, [(40.5, 0), (40.5, 66)])) == [649, 608]


def test_line_that_stops_in_the_middle_cuts_nothing() -> None:
    mask = disc(20, (40, 50))
    assert areas(split_by_line(mask, [(40, 0), (40, 50)])) == [mask.area]
    assert areas(split_by_line(mask, [(40, 48), (40, 52)])) == [mask.area]


@pytest.mark.parametrize("line", [[(1, 1)], [(1, 1), (1, 1)], [(9, 0), (9, 9)], np.zeros((0, 2))])
def test_line_that_does_not_cross_gives_the_whole_mask(line: list[tuple[float, float]]) -> None:
    mask = drawn("##.", "..#", "#..", y=1, x=1)
    (whole,) = split_by_line(mask, line)
    assert whole.equals(mask)


def test_trembling_end_of_a_line_does_not_turn_the_cut() -> None:
    mask = disc(20, (40, 50))
    assert areas(split_by_line(mask, [(40.5, 0), (40.5, 66), (41.4, 66)])) == [652, 605]


def test_line_that_ends_in_a_hole_goes_on_to_the_outline() -> None:
    mask = difference(disc(20, (40, 50)), drawn("###", "###", "###", y=39, x=63))
    assert mask is not None
    assert len(split_by_line(mask, [(40.4, 20), (40.4, 64)])) == 2


def test_ring_falls_apart_when_the_line_crosses_it_twice() -> None:
    ring = difference(disc(20, (40, 50)), disc(8, (40, 50)))
    assert ring is not None
    assert areas(split_by_line(ring, [(40.5, 20), (40.5, 50)])) == [1060]
    assert areas(split_by_line(ring, [(40.5, 20), (40.5, 80)])) == [542, 518]


def test_loop_that_nearly_closes_cuts_out_what_it_surrounds() -> None:
    mask = disc(20, (40, 50))
    angles = np.linspace(0, 5.9, 60)
    loop = np.stack([40 + 8.2 * np.sin(angles), 50 + 8.2 * np.cos(angles)], axis=1)
    outer, inner = split_by_line(mask, loop)
    assert difference(inner, disc(9, (40, 50))) is None
    assert difference(disc(7, (40, 50)), inner) is None
    assert_parts_make_up([outer, inner], mask)


def test_line_between_two_loose_parts_tells_them_apart() -> None:
    left, right = drawn("###", "###"), drawn("##", "##", y=4, x=6)
    parts = split_by_line(union_of([left, right]), [(6, 2), (0, 6)])
    assert parts[0].equals(left)
    assert parts[1].equals(right)


def test_loose_part_stays_with_its_neighbour() -> None:
    block, loose = drawn(*["########"] * 3), drawn("#", y=5, x=7)
    parts = split_by_line(union_of([block, loose]), [(-1, 3.5), (3, 3.5)])
    assert areas(parts) == [13, 12]
    assert parts[0].equals(union_of([drawn(*["####"] * 3, x=4), loose]))


def test_loose_part_is_joined_where_it_is_nearest() -> None:
    block = drawn(*["########"] * 3)
    loose = drawn("....#", "...#.", "..#..", ".#...", "#....", y=4, x=3)
    parts = split_by_line(union_of([block, loose]), [(-1, 3.5), (3, 3.5)])
    assert parts[0].equals(union_of([drawn(*["####"] * 3, x=4), loose]))


def test_line_drawn_by_a_trembling_hand_gives_two_parts() -> None:
    random = np.random.default_rng(3)
    mask = disc(25, (40, 50))
    columns = np.linspace(26, 74, 200)
    line = np.stack([40 + np.cumsum(random.normal(0, 0.4, 200)), columns], axis=1)
    line += random.normal(0, 0.3, line.shape)
    parts = split_by_line(mask, line)
    assert len(parts) == 2
    assert_parts_make_up(parts, mask)


@given(masks, points)
def test_parts_of_a_line_make_up_the_mask(
    mask: CroppedMask, line_yx: list[tuple[float, float]]
) -> None:
    assert_parts_make_up(split_by_line(mask, line_yx), mask)


def test_scrap_under_a_line_that_grazes_the_outline_is_no_part() -> None:
    body = drawn(*["#" * 10] * 10, y=1)
    one = union_of([body, drawn("#", x=4)])
    assert areas(split_by_line(one, [(0.5, -2), (0.5, 12)])) == [101]
    three = union_of([body, drawn("###", x=4)])
    assert areas(split_by_line(three, [(0.5, -2), (0.5, 12)])) == [100, 3]


def test_small_tip_cut_off_is_a_part_of_its_own() -> None:
    mask = disc(25, (40, 50))
    assert areas(split_by_line(mask, [(17.5, 20), (17.5, 80)])) == [
        mask.area - 35,
        35,
    ]  # 1 + 15 + 19


def test_parts_hold_together_over_corners_beside_the_line() -> None:
    falling = CroppedMask.from_mask(np.eye(6, dtype=np.bool_))
    rising = CroppedMask.from_mask(np.eye(6, dtype=np.bool_)[:, ::-1])
    for mask in (falling, rising):
        assert mask is not None
        assert areas(split_by_line(mask, [(2.5, -5), (2.5, 10)])) == [3, 3]


# below 50 pixels no part is a scrap
@given(masks_in((6, 8)), st.lists(st.integers(0, 5), min_size=7, max_size=7))
def test_no_part_lies_on_both_sides_of_a_line(mask: CroppedMask, heights: list[int]) -> None:
    columns = np.arange(-2, 11, 2)
    for part in split_by_line(mask, np.stack([heights, columns], axis=1)):
        rows, part_columns = np.nonzero(picture(part, (6, 8)))
        below = rows - np.interp(part_columns, columns, heights)
        assert (below > -1e-3).all() or (below < 1e-3).all()


@given(masks_in((6, 8)), st.integers(-3, 8), st.integers(-3, 8))
def test_straight_line_cuts_no_more_than_it_crosses(
    mask: CroppedMask, left: int, right: int
) -> None:
    body = without_specks(mask, min_area=48)
    neighbours = np.ones((3, 3))
    if ndimage.label(body.pixels, neighbours)[1] > 1:  # equally large parts
        return
    # no pixel centre of the image is on it
    start, end = left + 0.437, right + 0.437 + 0.01
    rows, columns = np.mgrid[:6, :8]
    above = rows < start + (end - start) * (columns + 2) / 11
    pixels = picture(body, (6, 8))
    sides = [ndimage.label(pixels & side, neighbours)[1] for side in (above, ~above)]
    assert len(split_by_line(body, [(start, -2), (end, 9)])) == sum(sides)


def test_points_cut_a_dumbbell_at_its_neck() -> None:
    left, right = disc(12, (40, 30)), disc(12, (40, 51))
    dumbbell = union_of([left, right])
    parts = split_by_points(dumbbell, [(43, 33), (38, 55)])
    assert_parts_make_up(parts, dumbbell)
    assert max(left.iou(part) for part in parts) > 0.92
    assert max(right.iou(part) for part in parts) > 0.92


def test_points_cut_one_round_object_midway() -> None:
    parts = split_by_points(disc(15, (40, 50)), [(40, 43), (40, 57)])
    assert areas(parts)[1] > 0.45 * disc(15, (40, 50)).area


def test_points_beside_the_mask_snap_to_it_and_two_on_a_pixel_count_once() -> None:
    bar = drawn("########", y=3, x=1)
    parts = split_by_points(bar, [(0, -20), (3, 1.2), (9, 30)])
    assert areas(parts) == [4, 4]
    assert parts[0].box_xyxy in {(1, 3, 5, 4), (5, 3, 9, 4)}


def test_part_without_a_point_goes_to_the_nearest_with_one() -> None:
    mask = union_of([drawn("##"), drawn("##", x=4), drawn("#", x=8)])
    parts = split_by_points(mask, [(0, 0), (0, 4)])
    assert parts[0].equals(drawn("##..#", x=4))
    assert parts[1].equals(drawn("##"))


def test_no_point_is_refused() -> None:
    with pytest.raises(ValueError, match="got none"):
        split_by_points(drawn("##"), np.zeros((0, 2)))


@given(masks, points)
def test_parts_of_points_make_up_the_mask(
    mask: CroppedMask, points_yx: list[tuple[float, float]]
) -> None:
    parts = split_by_points(mask, points_yx)
    assert_parts_make_up(parts, mask)
    assert len(parts) <= len(points_yx)


@pytest.mark.parametrize("points_yx", [[1.0, 2.0], [(1.0, 2.0, 3.0)], [(1.0, np.nan)]])
def test_points_of_another_shape_or_without_a_place_are_refused(points_yx: list[float]) -> None:
    mask = drawn("###")
    with pytest.raises(ValueError, match=r"finite with shape \(K, 2\)"):
        split_by_line(mask, points_yx)
    with pytest.raises(ValueError, match=r"finite with shape \(K, 2\)"):
        split_by_points(mask, points_yx)
    with pytest.raises(ValueError, match=r"finite with shape \(K, 2\)"):
        mask_from_outline(points_yx, HW)


# --- outlines


def test_outline_sets_the_pixels_whose_centres_are_inside_or_on_it() -> None:
    on = mask_from_outline([(1, 2), (1, 5), (3, 5), (3, 2)], HW)
    assert on is not None
    assert on.equals(drawn(*["####"] * 3, y=1, x=2))
    between = mask_from_outline([(0.6, 1.6), (0.6, 5.4), (3.4, 5.4), (3.4, 1.6)], HW)
    assert between is not None
    assert between.equals(on)


def test_outline_is_clipped_to_the_image() -> None:
    mask = mask_from_outline([(-4.5, -4.5), (-4.5, 2.5), (1.5, 2.5), (1.5, -4.5)], HW)
    assert mask is not None
    assert mask.equals(drawn("###", "###"))
    everything = mask_from_outline([(-9, -9), (-9, 30), (30, 30), (30, -9)], HW)
    assert everything is not None
    assert everything.box_xyxy == (0, 0, 9, 7)
    assert everything.area == 63


@pytest.mark.parametrize(
    "outline",
    [
        np.zeros((0, 2)),
        [(0.2, 0.2), (0.2, 0.8), (0.8, 0.8)],  # between four pixel centres
        [(-5, -5), (-5, -1), (-1, -1)],
        [(8, 2), (8, 5), (20, 3)],  # below the image of 7 rows
    ],
)
def test_outline_round_no_pixel_gives_none(outline: list[tuple[float, float]]) -> None:
    assert mask_from_outline(outline, HW) is None


def test_outline_of_one_point_is_its_pixel() -> None:
    mask = mask_from_outline([(2, 3)], HW)
    assert mask is not None
    assert mask.equals(drawn("#", y=2, x=3))


@given(st.tuples(st.integers(0, 6), st.integers(0, 8)), st.floats(0.01, 6), st.integers(3, 9))
def test_outline_agrees_with_sides_of_a_convex_polygon(
    centre: tuple[int, int], radius: float, corners: int
) -> None:
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False) + 0.123
    outline = np.stack([np.sin(angles), np.cos(angles)], axis=1) * radius + np.array(centre)
    rows, columns = np.mgrid[: HW[0], : HW[1]]
    inside = np.ones(HW, np.bool_)
    for (y1, x1), (y2, x2) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        inside &= (y2 - y1) * (columns - x1) - (x2 - x1) * (rows - y1) <= 1e-9
    assert np.array_equal(picture(mask_from_outline(outline, HW)), inside)


@given(
    st.tuples(*[coordinates.map(lambda number: round(number, 3))] * 4),
    st.integers(0, 3),
    st.booleans(),
    st.booleans(),
)
def test_upright_rectangle_has_the_pixels_of_any_polygon(
    sides: tuple[float, ...], first: int, is_turned: bool, is_closed: bool
) -> None:
    y1, x1, y2, x2 = sides
    outline = np.roll([(y1, x1), (y1, x2), (y2, x2), (y2, x1)], first, axis=0)
    outline = outline[::-1] if is_turned else outline
    outline = np.concatenate([outline, outline[:1]]) if is_closed else outline
    expected = np.zeros(HW, np.bool_)
    expected[polygon(*outline.T, shape=HW)] = True
    assert np.array_equal(picture(mask_from_outline(outline, HW)), expected)


def test_crossed_corners_are_no_rectangle() -> None:
    mask = mask_from_outline([(0, 0), (0, 4), (3, 0), (3, 4)], HW)
    assert mask is not None
    assert mask.equals(drawn("#####", "..#..", "..#..", "#####"))


# --- between planes


@given(masks, masks)
def test_interpolation_begins_and_ends_with_the_given_masks(
    before: CroppedMask, after: CroppedMask
) -> None:
    first, last = interpolated(before, after, [0, 1], image_hw=HW)
    assert first is not None
    assert last is not None
    assert first.equals(before)
    assert last.equals(after)


@given(masks, masks, st.floats(0.1, 0.9))
def test_interpolation_is_cut_off_at_the_border_of_the_image(
    before: CroppedMask, after: CroppedMask, fraction: float
) -> None:
    (mask,) = interpolated(before, after, [fraction], image_hw=HW)
    far = before.moved(dy=10, dx=10), after.moved(dy=10, dx=10)
    (whole,) = interpolated(*far, [fraction], image_hw=(30, 30))
    assert np.array_equal(picture(mask), picture(whole, (30, 30))[10:17, 10:19])


@pytest.mark.parametrize("flip", [(1, 1), (1, -1), (-1, 1), (-1, -1)])
@pytest.mark.parametrize("is_turned", [False, True])
def test_interpolated_shape_may_reach_over_each_border(
    flip: tuple[int, int], is_turned: bool
) -> None:
    pictures = [drawn("#......", "#......", "#....##", "#......"), drawn("....#", "#...#", "#...#")]
    ends = []
    for end in pictures:
        pixels = end.to_mask((4, 7))[:: flip[0], :: flip[1]]
        ends.append(CroppedMask.from_mask(pixels.T if is_turned else pixels))
    before, after = ends
    assert before is not None
    assert after is not None
    (mask,) = interpolated(before, after, [0.5], image_hw=(7, 4) if is_turned else (4, 7))
    far = before.moved(dy=3, dx=3), after.moved(dy=3, dx=3)
    (whole,) = interpolated(*far, [0.5], image_hw=(15, 15))
    assert mask is not None
    assert whole is not None
    assert (mask.area, whole.area) == (2, 4)


def test_moved_disc_stays_a_disc_on_its_way() -> None:
    between = interpolated(
        disc(8, (10, 10)), disc(8, (50, 90)), [0.25, 0.5, 0.75], image_hw=(80, 100)
    )
    for mask, centre in zip(between, ((20, 30), (30, 50), (40, 70)), strict=True):
        assert mask is not None
        assert mask.equals(disc(8, centre))


def test_growing_disc_has_the_radius_between() -> None:
    (mask,) = interpolated(disc(6, (40, 50)), disc(16, (40, 50)), [0.5], image_hw=(80, 100))
    assert mask is not None
    assert mask.iou(disc(11, (40, 50))) > 0.95


def test_one_pixel_moves_without_vanishing() -> None:
    (mask,) = interpolated(drawn("#"), drawn("#", y=6, x=3), [1 / 3], image_hw=HW)
    assert mask is not None
    assert mask.equals(drawn("#", y=2, x=1))


@pytest.mark.parametrize("fraction", [-0.1, 1.1, np.nan])
def test_fraction_outside_0_to_1_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        interpolated(drawn("#"), drawn("#"), [0.5, fraction], image_hw=HW)
