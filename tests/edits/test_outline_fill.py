"""The pixels in an outline: pictures that can be checked by eye, and a slow way to the same."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.draw import polygon

from napari_deeppixel.edits.outline_fill import enclosed_pixels

HW = (6, 9)
# quarters of a pixel: many corners, sides and crossings lie exactly on pixel centres, and the
# sums are exact
quarters = st.integers(-12, 48).map(lambda number: number / 4)


@pytest.mark.parametrize(
    ("outline_yx", "expected"),
    [
        ([(1, 1), (1, 4), (3, 4), (3, 1)], [".........", ".####", ".####", ".####"]),
        ([(0.9, 0.9), (0.9, 3.9), (3.1, 3.9), (3.1, 0.9)], ["", ".###", ".###", ".###"]),
        ([(0, 0), (4, 4), (0, 8)], ["#########", ".#######.", "..#####..", "...###...", "....#"]),
        # a bow tie: two sides on one centre cancel each other out
        ([(0, 0), (0, 4), (4, 0), (4, 4)], ["#####", ".###.", ".....", ".###.", "#####"]),
        # a square in a square, joined by one way there and back: even, so outside
        (
            [(0, 0), (0, 6), (5, 6), (5, 0), (0, 0), (1, 1), (4, 1), (4, 5), (1, 5), (1, 1)],
            ["#######", "#######", "##...##", "##...##", "#######", "#######"],
        ),
        # there and back on one line
        ([(2, 1), (2, 6)], ["", "", ".#....#"]),
        ([(3, 4)], ["", "", "", "....#"]),
        # mostly outside the image
        ([(-5, -5), (-5, 2), (1, 2), (1, -5)], ["###", "###"]),
        ([(4, 7), (4, 30), (30, 30), (30, 7)], ["", "", "", "", ".......##", ".......##"]),
        ([(7, 0), (7, 8), (9, 4)], []),
    ],
)
def test_outline_holds_the_pixels_of_its_picture(
    outline_yx: list[tuple[float, float]], expected: list[str]
) -> None:
    found = enclosed_pixels(np.array(outline_yx, np.float64), HW)
    rows = ["".join(".#"[int(pixel)] for pixel in row) for row in found]
    assert rows == [row.ljust(HW[1], ".") for row in (expected + [""] * HW[0])[: HW[0]]]


@given(st.lists(st.tuples(quarters, quarters), min_size=1, max_size=12))
def test_any_outline_has_the_pixels_that_a_look_at_each_pixel_finds(
    corners: list[tuple[float, float]],
) -> None:
    outline = np.array(corners)
    expected = np.zeros(HW, np.bool_)
    expected[polygon(*outline.T, shape=HW)] = True
    assert np.array_equal(enclosed_pixels(outline, HW), expected)


def test_long_outline_of_a_large_region_takes_no_look_at_each_pixel() -> None:
    angles = np.linspace(0, 2 * np.pi, 800, endpoint=False)
    circle = 1000 * (1 + np.stack([np.sin(angles), np.cos(angles)], axis=1))
    began = time.perf_counter()
    area = np.count_nonzero(enclosed_pixels(circle, (2001, 2001)))
    # measured on 2 cores: 6 ms; 38 s with a look at each pixel
    assert time.perf_counter() - began < 0.5
    assert area == pytest.approx(np.pi * 1000**2, rel=1e-3)
