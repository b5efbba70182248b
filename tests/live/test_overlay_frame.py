from typing import Any

import numpy as np
import pytest
from tests.live.made_results import CELL, made_result

from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.live.overlay_frame import FrameContrast, draw_on_frame, track_color


def test_a_square_has_tint_outline_and_its_id_above() -> None:
    black = np.zeros((48, 64), np.uint8)
    # handle 2: rows 20 to 27, columns 30 to 37 would need number 30 % 20 = 10
    instances = made_result(10, handles=(2,)).instances

    drawn = draw_on_frame(black, instances)

    colour = track_color(2)
    assert black.max() == 0
    assert drawn.shape == (48, 64, 3)
    assert tuple(drawn[20, 14]) == tuple(drawn[27, 10]) == colour
    assert tuple(drawn[24, 14]) == tuple(value >> 2 for value in colour)
    assert drawn[28:].max() == 0
    assert drawn[8:20, 10:20].max() > 0


def test_a_track_keeps_its_colour_and_neighbouring_ids_differ() -> None:
    colours = [track_color(handle) for handle in range(1, 20)]
    assert colours[4] == track_color(5)
    assert len(set(colours)) == 19


def test_without_instances_the_picture_is_as_it_was() -> None:
    picture = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    drawn = draw_on_frame(picture, InstanceSet.empty((5, 7), CELL))
    assert np.array_equal(drawn, picture)
    assert drawn is not picture


def test_an_id_at_every_border_stays_in_the_picture() -> None:
    picture = np.zeros((12, 9, 3), np.uint8)
    pixels = np.zeros((12, 9), np.uint8)
    result = made_result(1, handles=(60_000,), pixels=pixels, side=8)
    assert draw_on_frame(picture, result.instances).shape == (12, 9, 3)


def test_instances_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="instances of"):
        draw_on_frame(np.zeros((4, 4), np.uint8), InstanceSet.empty((5, 7), CELL))


def test_eight_bits_stay_and_sixteen_are_stretched() -> None:
    ramp = np.arange(200, dtype=np.uint8).reshape(10, 20)
    assert np.array_equal(FrameContrast().apply(ramp), ramp)
    wide = FrameContrast().apply(ramp.astype(np.uint16) * 50 + 1000)
    assert (wide[0, 0], wide[-1, -1]) == (0, 255)
    assert abs(int(wide[5, 0]) - 128) <= 1


@pytest.mark.parametrize(("channels", "expected"), [(1, (5, 7)), (2, (5, 7)), (4, (5, 7, 3))])
def test_channels_become_grey_or_rgb(channels: int, expected: Any) -> None:
    for dtype in (np.uint8, np.float32, np.bool_):
        picture = FrameContrast().apply(np.ones((5, 7, channels), dtype))
        assert (picture.shape, picture.dtype) == (expected, np.uint8)


def test_a_flash_does_not_blacken_the_next_frame() -> None:
    contrast = FrameContrast()
    usual = np.tile(np.arange(1000, 2000, 10, dtype=np.uint16), (50, 1))
    before = [contrast.apply(usual) for _ in range(3)][-1]
    contrast.apply(usual * 20)
    assert np.array_equal(contrast.apply(usual), before)


def test_a_lasting_change_of_light_is_followed_within_a_second() -> None:
    contrast = FrameContrast()
    usual = np.tile(np.arange(1000, 2000, 10, dtype=np.uint16), (50, 1))
    for _ in range(31):
        before = contrast.apply(usual)
    for _ in range(31):
        after = contrast.apply(usual * 20)
    assert np.array_equal(before, after)
