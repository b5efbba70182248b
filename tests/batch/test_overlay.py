"""The picture of instances over their image."""

import colorsys

import numpy as np

from napari_deeppixel.batch.overlay import contrast_stretched, draw_overlay, outline
from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.mask import CroppedMask

TABLE = CategoryTable.from_names("nucleus")


def square(y: int, x: int, side: int) -> CroppedMask:
    return CroppedMask(pixels=np.ones((side, side), np.bool_), y=y, x=x)


def set_of(*masks: CroppedMask, image_hw: tuple[int, int] = (30, 40)) -> InstanceSet:
    return InstanceSet(image_hw=image_hw, masks=masks, categories=TABLE)


def test_without_instances_grey_stays_grey() -> None:
    plane = np.arange(1200, dtype=np.uint16).reshape(30, 40, 1) + 5000
    picture = draw_overlay(plane, InstanceSet.empty((30, 40), TABLE))
    assert (picture.dtype, picture.shape) == (np.uint8, (30, 40, 3))
    assert (picture == picture[..., :1]).all()
    # the darkest and the brightest pixel fill the range, whatever the numbers were
    assert (picture.min(), picture.max()) == (0, 255)


def test_colour_stays_colour() -> None:
    plane = np.zeros((30, 40, 3), np.uint8)
    plane[:, :20] = (200, 0, 100)
    picture = contrast_stretched(plane)
    assert picture[0, 0].tolist() == [255, 0, 128]
    assert picture[0, 39].tolist() == [0, 0, 0]


def test_two_channels_show_the_first() -> None:
    plane = np.zeros((30, 40, 2), np.uint8)
    plane[3, 4, 0] = 200
    plane[9, 9, 1] = 200
    plane[10:20, :, 0] = 100
    picture = contrast_stretched(plane)
    assert picture[3, 4].min() > 0
    assert picture[9, 9].max() == 0


def test_nan_and_constant_planes_are_drawn() -> None:
    for value in (np.nan, np.inf, 0.0, 7.0):
        picture = draw_overlay(np.full((30, 40, 1), value), set_of(square(2, 3, 5)))
        assert picture[20, 20].max() in (0, 255)


def test_image_is_not_written_into() -> None:
    plane = np.full((30, 40, 3), 9, np.uint8)
    draw_overlay(plane, set_of(square(2, 3, 5)))
    assert (plane == 9).all()


def test_outline_is_one_pixel_wide_and_inside() -> None:
    assert outline(square(0, 0, 4), 1).astype(int).tolist() == [
        [1, 1, 1, 1],
        [1, 0, 0, 1],
        [1, 0, 0, 1],
        [1, 1, 1, 1],
    ]
    assert int(outline(square(0, 0, 9), 2).sum()) == 81 - 25
    assert outline(square(0, 0, 1), 3).tolist() == [[True]]


def test_object_has_a_bright_outline_and_a_faint_tint() -> None:
    picture = draw_overlay(np.zeros((30, 40, 1), np.uint8), set_of(square(10, 20, 6)))
    outline_colour, tint, ground = (picture[at].astype(int) for at in ((10, 20), (12, 22), (9, 20)))
    assert outline_colour.max() == 255
    assert 40 < tint.max() < 110
    assert ground.tolist() == [0, 0, 0]


def test_outline_of_a_covered_object_is_seen() -> None:
    instances = set_of(square(4, 4, 6), square(0, 0, 20))
    picture = draw_overlay(np.zeros((30, 40, 1), np.uint8), instances)
    inner, outer = picture[4, 6], picture[0, 6]
    assert inner.max() == outer.max() == 255
    assert inner.tolist() != outer.tolist()


def hue(colour: np.ndarray) -> float:
    return colorsys.rgb_to_hsv(*(colour / 255))[0]


def test_neighbours_have_unlike_colours() -> None:
    masks = [square(y, x, 5) for y in range(0, 30, 5) for x in range(0, 40, 5)]
    picture = draw_overlay(np.zeros((30, 40, 1), np.uint8), set_of(*masks))
    hues = np.array([[hue(picture[y, x]) for x in range(0, 40, 5)] for y in range(0, 30, 5)])
    for axis in (0, 1):
        apart = np.abs(np.diff(hues, axis=axis))
        assert np.minimum(apart, 1 - apart).min() > 0.1


def test_colours_stay_away_from_the_stain() -> None:
    stain = np.array([90, 20, 200], np.uint8)
    masks = [square(y, x, 5) for y in range(0, 30, 10) for x in range(0, 40, 10)]
    # a white corner keeps the contrast stretch from changing the stain
    plane = np.broadcast_to(stain, (30, 40, 3)).copy()
    plane[-9:, -9:] = 255
    picture = draw_overlay(plane, set_of(*masks))
    apart = np.array(
        [abs(hue(picture[y, x]) - hue(stain)) for y in range(0, 30, 10) for x in range(0, 40, 10)]
    )
    assert np.minimum(apart, 1 - apart).min() > 0.15


def test_lines_grow_with_the_image() -> None:
    for side, thickness in ((256, 1), (520, 1), (1024, 2), (2048, 3)):
        instances = set_of(square(100, 100, 60), image_hw=(side, side))
        picture = draw_overlay(np.zeros((side, side, 1), np.uint8), instances)
        assert int((picture[130, :130].max(axis=1) == 255).sum()) == thickness
