import time
import warnings
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as cocoapi
from tests.core.strategies import masks_in, sizes_hw
from tests.dataset.made import ELEVEN_HW, cropped, disc, eleven_masks

from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.dataset.formats.polygons import (
    geometry_to_mask,
    mask_to_geometry,
    mask_to_keyhole,
    mask_to_polygons,
    rings_to_mask,
)


def mask_of(*rows: str) -> CroppedMask:
    """Return the mask of a drawing in which ``#`` is a set pixel."""
    return cropped(np.array([[sign == "#" for sign in row] for row in rows]))


def by_cocoapi(rings: list[Any], image_hw: tuple[int, int]) -> NDArray[np.bool_]:
    flat = [np.ravel(ring).astype(float).tolist() for ring in rings]
    merged = cocoapi.merge(cocoapi.frPyObjects(flat, *image_hw))
    with warnings.catch_warnings():
        # pycocotools 2.0.11 with numpy 2
        warnings.simplefilter("ignore", DeprecationWarning)
        decoded = cocoapi.decode(merged)
    return np.asarray(decoded, bool)


def by_shapely(mask: CroppedMask) -> shapely.Geometry:
    y, x = np.nonzero(mask.pixels)
    y, x = y + mask.y, x + mask.x
    return shapely.union_all(shapely.box(x, y, x + 1, y + 1))


def to_pixels(mask: CroppedMask | None, image_hw: tuple[int, int]) -> NDArray[np.bool_]:
    return np.zeros(image_hw, bool) if mask is None else mask.to_mask(image_hw)


@st.composite
def masks_with_size(draw: st.DrawFn) -> tuple[CroppedMask, tuple[int, int]]:
    image_hw = draw(sizes_hw)
    return draw(masks_in(image_hw)), image_hw


def test_one_pixel_is_outlined_along_its_edges() -> None:
    (polygon,) = mask_to_polygons(CroppedMask(pixels=np.ones((1, 1), bool), y=2, x=3))
    assert polygon.exterior.tolist() == [[3, 2], [4, 2], [4, 3], [3, 3]]
    assert polygon.holes == ()


def test_an_outline_has_corners_only() -> None:
    (polygon,) = mask_to_polygons(mask_of("####", "##.."))
    assert polygon.exterior.tolist() == [[0, 0], [4, 0], [4, 1], [2, 1], [2, 2], [0, 2]]


def test_a_hole_is_a_ring_that_goes_the_other_way_round() -> None:
    (polygon,) = mask_to_polygons(mask_of("###", "#.#", "###"))
    assert polygon.exterior.tolist() == [[0, 0], [3, 0], [3, 3], [0, 3]]
    assert [hole.tolist() for hole in polygon.holes] == [[[1, 1], [1, 2], [2, 2], [2, 1]]]


def test_pixels_that_touch_at_a_corner_are_two_polygons() -> None:
    assert len(mask_to_polygons(mask_of("#.", ".#"))) == 2


def test_a_hole_that_touches_the_outside_at_a_corner_is_still_a_hole() -> None:
    (polygon,) = mask_to_polygons(mask_of(".##", "#.#", "###"))
    assert len(polygon.exterior) == 6
    assert [hole.tolist() for hole in polygon.holes] == [[[1, 1], [1, 2], [2, 2], [2, 1]]]


def test_a_part_inside_a_hole_does_not_get_the_hole() -> None:
    outer, inner = mask_to_polygons(mask_of("#####", "#...#", "#.#.#", "#...#", "#####"))
    assert (len(outer.holes), len(inner.holes)) == (1, 0)


def test_a_part_that_touches_at_a_corner_does_not_get_the_hole() -> None:
    mask = mask_of("###.", "#.#.", "###.", "...#")
    assert [len(polygon.holes) for polygon in mask_to_polygons(mask)] == [1, 0]
    assert mask_to_geometry(mask).equals(by_shapely(mask))


@given(masks_with_size())
def test_outlines_are_valid_shapes_of_the_pixels(
    drawn: tuple[CroppedMask, tuple[int, int]],
) -> None:
    mask, image_hw = drawn
    geometry = mask_to_geometry(mask)
    assert geometry.is_valid
    assert geometry.equals(by_shapely(mask))
    back = geometry_to_mask(geometry, image_hw)
    assert back is not None
    assert back.equals(mask)


@given(masks_with_size())
def test_one_ring_holds_all_parts_and_holes(drawn: tuple[CroppedMask, tuple[int, int]]) -> None:
    mask, image_hw = drawn
    ring = mask_to_keyhole(mask)
    assert (ring != np.roll(ring, 1, axis=0)).any(axis=1).all()
    assert np.array_equal(by_cocoapi([ring], image_hw), mask.to_mask(image_hw))
    assert np.array_equal(
        to_pixels(rings_to_mask([ring], image_hw), image_hw), mask.to_mask(image_hw)
    )
    even_odd = geometry_to_mask(shapely.Polygon(ring), image_hw)
    assert np.array_equal(to_pixels(even_odd, image_hw), mask.to_mask(image_hw))


def test_a_cut_joins_two_parts_where_they_are_nearest() -> None:
    ring = mask_to_keyhole(mask_of("#..#"))
    cuts = {frozenset(map(tuple, pair)) for pair in pairwise(ring.tolist())}
    assert cuts & {frozenset({(1, 0), (3, 0)}), frozenset({(1, 1), (3, 1)})}


@pytest.mark.parametrize("name", list(eleven_masks()))
def test_the_eleven_shapes_come_back_exactly(name: str) -> None:
    mask = eleven_masks()[name]
    for back in (
        geometry_to_mask(mask_to_geometry(mask), ELEVEN_HW),
        rings_to_mask([mask_to_keyhole(mask)], ELEVEN_HW),
    ):
        assert back is not None
        assert back.equals(mask)


vertices = st.one_of(
    st.floats(-4, 13),
    st.integers(-20, 70).map(lambda value: value / 5),
    st.integers(-8, 26).map(lambda value: value / 2),
    st.floats(-400, 400),
)


@given(
    rings=st.lists(
        st.lists(st.tuples(vertices, vertices), min_size=3, max_size=9), min_size=1, max_size=3
    ),
    image_hw=sizes_hw,
)
def test_polygons_are_filled_as_coco_fills_them(rings: Any, image_hw: tuple[int, int]) -> None:
    ours = to_pixels(rings_to_mask(rings, image_hw), image_hw)
    assert np.array_equal(ours, by_cocoapi(rings, image_hw))


def test_a_slanted_polygon_has_the_pixels_whose_centre_it_holds() -> None:
    # a triangle of height and width 4: centres below the diagonal
    mask = geometry_to_mask(shapely.Polygon([(0, 0), (4, 4), (0, 4)]), (4, 4))
    assert mask is not None
    assert mask.pixels.sum(axis=1).tolist() == [1, 2, 3, 4]


def test_what_lies_outside_the_image_is_cut_off() -> None:
    mask = geometry_to_mask(shapely.box(-5, -5, 2, 1), (4, 4))
    assert mask is not None
    assert mask.box_xyxy == (0, 0, 2, 1)
    assert geometry_to_mask(shapely.box(9, 9, 12, 12), (4, 4)) is None


def test_points_and_lines_have_no_inside() -> None:
    collection = shapely.GeometryCollection([shapely.Point(1, 1), shapely.box(0, 0, 1, 1)])
    assert geometry_to_mask(shapely.LineString([(0, 0), (3, 3)]), (4, 4)) is None
    mask = geometry_to_mask(collection, (4, 4))
    assert mask is not None
    assert mask.box_xyxy == (0, 0, 1, 1)


def test_overlapping_polygons_of_one_shape_are_joined() -> None:
    both = shapely.MultiPolygon([shapely.box(0, 0, 3, 1), shapely.box(1, 0, 4, 1)])
    mask = geometry_to_mask(both, (2, 5))
    assert mask is not None
    assert mask.box_xyxy == (0, 0, 4, 1)
    assert mask.area == 4


def test_vertices_far_away_cost_nothing() -> None:
    started = time.process_time()
    mask = rings_to_mask([[-3e8, 0, 3e8, 0, 3e8, 2, -3e8, 2]], (4, 6))
    assert mask is not None
    assert mask.box_xyxy == (0, 0, 6, 2)
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("ring", "expected"),
    [
        ([0, 0, 1, 1], "3 vertices"),
        ([0, 0, 1, 1, 2], "pairs"),
        ([0, 0, 1, float("nan"), 2, 2], "finite"),
        ([0, 0, 1, float("inf"), 2, 2], "finite"),
        ([0, 0, 1e300, 0, 1e300, 1], "finite"),
        (["a", 0, 1, 1, 2, 2], "numbers"),
        ([[0, 0], [1]], "numbers"),
        (None, "pairs"),
        ({}, "numbers"),
        ([10**400, 0, 1, 1, 2, 2], "numbers"),
    ],
)
def test_what_is_no_polygon_is_refused(ring: Any, expected: str) -> None:
    with pytest.raises(AnnotationError, match=expected):
        rings_to_mask([ring], (4, 4))


def test_a_mask_that_no_memory_holds_is_refused() -> None:
    plane_hw = (1 << 16, 1 << 16)
    with pytest.raises(AnnotationError, match="too large"):
        rings_to_mask([[0, 0, 65536, 0, 65536, 65536]], plane_hw)
    far = 65530
    corners = [[0, 0, 2, 0, 2, 2], [far, far, far + 2, far, far + 2, far + 2]]
    with pytest.raises(AnnotationError, match="too large"):
        rings_to_mask(corners, plane_hw)


def test_a_polygon_that_crosses_itself_without_end_is_refused() -> None:
    zigzag = np.array([[0, 0], [65536, 1]] * 3000)
    with pytest.raises(AnnotationError, match="too often"):
        rings_to_mask([zigzag], (10, 1 << 16))


def test_a_thousand_nuclei_take_a_second_or_so() -> None:
    mask = disc(30, 30, 8.3)
    started = time.process_time()
    for _ in range(1000):
        geometry_to_mask(mask_to_geometry(mask), ELEVEN_HW)
    # measured 0.7 s; the union of boxes took 3
    assert time.process_time() - started < 5
