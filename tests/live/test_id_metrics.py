"""Switches, fragments and IDF1, each counted by hand."""

import math

import numpy as np
import pytest

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.live.id_metrics import id_figures

TABLE = CategoryTable.from_names("thing")


def frame(**columns: int) -> InstanceSet:
    """Return squares of 2 x 2 pixels: ``i7=4`` is the one with id 7 at column 4."""
    return InstanceSet(
        image_hw=(2, 20),
        masks=tuple(CroppedMask(pixels=np.ones((2, 2), bool), y=0, x=x) for x in columns.values()),
        categories=TABLE,
        handles=np.array([int(name[1:]) for name in columns], np.int64),
    )


def test_ids_that_stay_are_perfect() -> None:
    truth = [frame(i1=0, i2=10), frame(i1=2, i2=8), frame(i1=4, i2=6)]
    tracked = [frame(i7=10, i5=0), frame(i7=8, i5=2), frame(i7=6, i5=4)]
    figures = id_figures(truth, tracked)
    assert (figures.num_switches, figures.num_fragments) == (0, 0)
    assert (figures.num_misses, figures.num_false, figures.num_ids) == (0, 0, 2)
    assert figures.idf1 == figures.mota == 1.0


def test_two_objects_that_swap_ids_are_two_switches() -> None:
    truth = [frame(i1=0, i2=10)] * 4
    tracked = [frame(i1=0, i2=10)] * 3 + [frame(i2=0, i1=10)]
    figures = id_figures(truth, tracked)
    assert figures.num_switches == 2
    # 6 of 8 hits are left with one id each: 2 * 6 / (8 + 8)
    assert figures.idf1 == 0.75
    # 2 wrong of 8
    assert figures.mota == 0.75


def test_a_new_id_in_the_middle_is_one_switch_and_halves_idf1() -> None:
    figures = id_figures([frame(i1=0)] * 4, [frame(i1=0)] * 2 + [frame(i2=0)] * 2)
    assert (figures.num_switches, figures.num_ids, figures.idf1) == (1, 2, 0.5)


def test_a_gap_is_a_fragment_and_a_switch_only_if_the_id_is_new_after_it() -> None:
    truth = [frame(i1=0)] * 4
    again = id_figures(truth, [frame(i1=0), frame(), frame(), frame(i1=0)])
    assert (again.num_fragments, again.num_switches, again.num_misses) == (1, 0, 2)
    new = id_figures(truth, [frame(i1=0), frame(), frame(), frame(i2=0)])
    assert (new.num_fragments, new.num_switches, new.num_misses) == (1, 1, 2)


def test_an_object_that_is_away_is_neither_missed_nor_a_fragment() -> None:
    truth = [frame(i1=0), frame(), frame(i1=0)]
    figures = id_figures(truth, truth)
    assert (figures.num_fragments, figures.num_misses, figures.num_objects) == (0, 0, 2)


def test_a_miss_at_the_end_is_no_fragment() -> None:
    figures = id_figures([frame(i1=0)] * 3, [frame(i1=0), frame(), frame()])
    assert (figures.num_fragments, figures.num_misses) == (0, 2)


def test_what_overlaps_less_than_half_is_a_miss_and_a_false_one() -> None:
    # squares two wide, one column apart: IoU 2 / 6
    figures = id_figures([frame(i1=0)], [frame(i1=1)])
    assert (figures.num_misses, figures.num_false) == (1, 1)
    assert (figures.idf1, figures.mota) == (0.0, -1.0)
    assert id_figures([frame(i1=0)], [frame(i1=1)], min_iou=1 / 3).idf1 == 1.0


def test_a_pair_stays_together_though_another_one_overlaps_more() -> None:
    def wide(**columns: int) -> InstanceSet:
        masks = tuple(
            CroppedMask(pixels=np.ones((1, 10), bool), y=0, x=x) for x in columns.values()
        )
        handles = np.array([int(name[1:]) for name in columns], np.int64)
        return InstanceSet(image_hw=(2, 20), masks=masks, categories=TABLE, handles=handles)

    truth = [wide(i1=0), wide(i1=0)]
    # id 5 slides to IoU 8 / 12 while id 6 comes to lie exactly there
    figures = id_figures(truth, [wide(i5=0), wide(i5=2, i6=0)])
    assert (figures.num_switches, figures.num_false) == (0, 1)


def test_nothing_at_all_has_no_figure() -> None:
    figures = id_figures([frame()] * 2, [frame()] * 2)
    assert math.isnan(figures.idf1)
    assert math.isnan(figures.mota)
    assert math.isnan(id_figures([], []).idf1)


def test_only_false_ones_give_zero() -> None:
    figures = id_figures([frame()], [frame(i1=0)])
    assert (figures.num_false, figures.idf1) == (1, 0.0)


def test_unlike_numbers_of_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="2 frames of truth but 1"):
        id_figures([frame()] * 2, [frame()])
