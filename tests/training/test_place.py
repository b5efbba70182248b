"""Where crops lie: at objects, and where somebody knows what is there."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.training.datasets import CELLS, disc, instances_of, rectangle, sample_of

from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.training.place import Window, random_window
from napari_deeppixel.training.samples import Sample

NO_CELL = InstanceSet.empty((100, 200), CELLS)


def windows(sample: Sample, size_hw: tuple[int, int], number: int = 200) -> list[Window]:
    rng = np.random.default_rng(0)
    return [random_window(sample, size_hw, rng) for _ in range(number)]


def known_share(sample: Sample, window: Window) -> float:
    assert sample.ignored is not None
    return 1 - float(sample.ignored.to_mask(sample.image_hw)[window.slices].mean())


@given(st.integers(0, 2**32), st.data())
def test_a_window_lies_in_the_image(seed: int, data: st.DataObject) -> None:
    sample = sample_of(instances_of([disc(8, 8, 5), rectangle(29, 19, 30, 20)], (20, 30)))
    size = data.draw(st.tuples(st.integers(1, 20), st.integers(1, 30)))
    window = random_window(sample, size, np.random.default_rng(seed))
    left, top, right, bottom = window.box_xyxy
    assert (bottom - top, right - left) == size
    assert left >= 0
    assert top >= 0
    assert right <= 30
    assert bottom <= 20


def test_nearly_all_windows_hold_the_one_object_of_a_large_image() -> None:
    sample = sample_of(instances_of([disc(1500, 30, 9)], (1000, 2000)))
    mask = sample.instances.masks[0].to_mask((1000, 2000))
    shares = [mask[w.slices].sum() / mask.sum() for w in windows(sample, (64, 64))]
    # 95 %, and those that lie there by chance
    assert 180 <= sum(share > 0.2 for share in shares) < 200


def test_where_objects_are_everywhere_windows_lie_everywhere() -> None:
    masks = [rectangle(x, y, x + 8, y + 8) for x in range(0, 200, 10) for y in range(0, 100, 10)]
    sample = sample_of(instances_of(masks, (100, 200)))
    lefts = np.array([w.left for w in windows(sample, (50, 50), 600)])
    # even: 0 to 150 have a mean of 75 and a standard deviation of 43.3
    assert abs(lefts.mean() - 75) < 6
    assert abs(lefts.std() - 43.3) < 4
    assert (lefts.min(), lefts.max()) == (0, 150)


def test_an_object_larger_than_the_window_is_held_by_it() -> None:
    sample = sample_of(instances_of([rectangle(0, 0, 100, 100)], (100, 200)))
    lefts = [w.left for w in windows(sample, (30, 30))]
    # half of the window is covered, save for one in twenty
    assert 2 <= sum(left > 85 for left in lefts) < 25
    # not round its centre: by chance
    assert max(left for left in lefts if left <= 85) > 75
    assert min(lefts) < 10


def partly_known(instances: InstanceSet, known: Any) -> Sample:
    ignored = np.ones(instances.image_hw, bool)
    ignored[known] = False
    return sample_of(instances, ignored=CroppedMask.from_mask(ignored))


def test_windows_lie_where_somebody_knows_what_is_there() -> None:
    sample = partly_known(NO_CELL, np.s_[40:70, 20:50])
    shares = [known_share(sample, w) for w in windows(sample, (32, 32))]
    assert min(shares) > 0
    # by chance, four in five hold less than a tenth
    assert np.mean(np.array(shares) > 0.1) > 0.9


def test_windows_of_an_image_with_a_tiny_known_part_hold_it() -> None:
    sample = partly_known(NO_CELL, np.s_[90:92, 190:192])
    assert min(known_share(sample, w) for w in windows(sample, (16, 16))) > 0


def test_an_image_of_which_nothing_is_known_gives_windows_all_the_same() -> None:
    sample = partly_known(NO_CELL, np.s_[:0, :0])
    lefts = [w.left for w in windows(sample, (16, 16))]
    assert min(lefts) < 20
    assert max(lefts) > 160
