from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from tests.training.datasets import CELLS, RANGE_8_BIT, instances_of, rectangle, sample_of

from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.training.pictures import (
    DRAWN_COLOR,
    FOUND_COLOR,
    draw_pictures,
    picture_positions,
    sample_picture,
)


@pytest.mark.parametrize(
    ("count", "positions"), [(0, []), (1, [0]), (2, [0, 1]), (3, [0, 1, 2]), (9, [0, 4, 8])]
)
def test_up_to_three_images_are_drawn(count: int, positions: list[int]) -> None:
    assert picture_positions(count) == positions


def test_a_picture_shows_what_is_drawn_and_what_is_found() -> None:
    true = instances_of([rectangle(2, 3, 7, 8)], (12, 20))
    found = instances_of([rectangle(10, 3, 14, 6)], (12, 20))
    picture = sample_picture(sample_of(true), found, RANGE_8_BIT)
    assert picture.shape == (12, 20, 3)
    is_drawn = (picture == DRAWN_COLOR).all(axis=2)
    is_found = (picture == FOUND_COLOR).all(axis=2)
    # the rim of 5 x 5 has 16 pixels, that of 3 x 4 has 10
    assert (is_drawn.sum(), is_found.sum()) == (16, 10)
    assert is_drawn[3, 2:7].all()
    assert picture[5, 4].tolist() == [200, 200, 200]
    assert picture[0, 0].tolist() == [20, 20, 20]


def test_of_a_large_image_the_part_with_the_objects_is_shown() -> None:
    true = instances_of([rectangle(900, 700, 920, 720)], (800, 1000))
    picture = sample_picture(sample_of(true), InstanceSet.empty((800, 1000), CELLS), RANGE_8_BIT)
    assert picture.shape == (512, 512, 3)
    # the last 512 rows and columns: 288 and 488 on
    assert picture[720 - 288 - 1, 920 - 488 - 1].tolist() == list(DRAWN_COLOR)


def test_pictures_are_written_under_the_step(tmp_path: Path) -> None:
    true = instances_of([rectangle(2, 3, 7, 8)], (12, 20))
    sample = sample_of(true)
    paths = draw_pictures(
        [sample, sample],
        [true, true],
        normalization=RANGE_8_BIT,
        folder=tmp_path / "samples",
        iteration=40,
    )
    assert [path.name for path in paths] == ["000040_1.png", "000040_2.png"]
    assert np.array_equal(iio.imread(paths[0]), sample_picture(sample, true, RANGE_8_BIT))
