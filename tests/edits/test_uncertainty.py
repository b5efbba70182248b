"""Each signal of the queue on masks made to raise it, and it alone."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from tests.core.strategies import instance_sets

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.edits.uncertainty import touches_border, uncertainties

HW = (60, 100)


def rectangle(y: int, x: int, height: int, width: int) -> CroppedMask:
    return CroppedMask(pixels=np.ones((height, width), np.bool_), y=y, x=x)


def found(*masks: CroppedMask, score: float = 1.0, **fields: Any) -> InstanceSet:
    fields.setdefault("scores", np.full(len(masks), score))
    return InstanceSet(
        image_hw=HW, masks=masks, categories=CategoryTable.from_names("nucleus"), **fields
    )


def test_a_low_score_is_the_reason_and_counts_as_the_share_of_wrong_ones() -> None:
    result = uncertainties(found(rectangle(5, 5, 9, 9), rectangle(30, 5, 9, 9), score=0.5))
    assert result.reasons == ("score 0.50",) * 2
    assert result.values.tolist() == [0.82, 0.82]


def test_a_lower_score_is_never_less_uncertain() -> None:
    masks = [rectangle(5, 1 + 3 * n, 2, 2) for n in range(30)]
    values = uncertainties(found(*masks, scores=np.linspace(0, 1, 30))).values
    assert (np.diff(values) <= 0).all()
    assert values[0] > 0.9
    assert values[-1] == 0


def test_a_sure_one_says_its_score() -> None:
    result = uncertainties(found(rectangle(5, 5, 9, 9)))
    assert (result.values.tolist(), result.reasons) == ([0.0], ("score 1.00",))


def test_an_unsure_edge_is_named_when_the_score_is_high() -> None:
    result = uncertainties(found(rectangle(5, 5, 9, 9), edge_uncertainties=np.array([0.5])))
    assert result.reasons == ("mask edge unsure (0.50)",)
    assert result.values.tolist() == [0.69]


def test_a_mask_that_fills_half_of_the_predicted_box_disagrees_by_half() -> None:
    predicted = np.array([[5.0, 5, 15, 25]])
    result = uncertainties(found(rectangle(5, 5, 10, 10), predicted_boxes_xyxy=predicted))
    assert result.reasons == ("box and mask disagree by 50 %",)
    assert result.values.tolist() == [0.75]


def test_two_that_overlap_are_both_named() -> None:
    result = uncertainties(found(rectangle(5, 5, 10, 10), rectangle(5, 12, 10, 10)))
    assert result.reasons == ("overlaps another by 30 %",) * 2


def test_the_border_is_only_a_nudge() -> None:
    instances = found(rectangle(0, 5, 9, 9), rectangle(51, 5, 9, 9), rectangle(20, 91, 9, 9))
    result = uncertainties(instances)
    assert result.reasons == ("touches the border",) * 3
    assert result.values.max() < 0.1


def test_boxes_on_each_side_touch_the_border() -> None:
    # one pixel from each side of a plane that is wider than high
    inside = found(rectangle(1, 1, 58, 98))
    sides = found(
        rectangle(0, 9, 2, 2), rectangle(58, 9, 2, 2), rectangle(9, 0, 2, 2), rectangle(9, 98, 2, 2)
    )
    assert touches_border(inside).tolist() == [False]
    assert touches_border(sides).tolist() == [True] * 4


def test_two_hidden_candidates_side_by_side_in_a_mask_say_merged() -> None:
    visible = found(rectangle(10, 10, 10, 20), rectangle(40, 40, 10, 10))
    halves = found(rectangle(10, 10, 10, 9), rectangle(10, 21, 10, 10), score=0.2)
    result = uncertainties(visible, halves)
    assert result.reasons == ("two candidates merged", "score 1.00")
    assert result.values.tolist() == [0.6, 0.0]


@pytest.mark.parametrize(
    "candidates",
    [
        # one alone
        (rectangle(10, 10, 10, 10),),
        # the same one twice
        (rectangle(10, 10, 10, 15), rectangle(10, 11, 10, 15)),
        # two that cover half of the mask
        (rectangle(10, 10, 10, 5), rectangle(10, 25, 10, 5)),
        # two that lie half outside
        (rectangle(10, 0, 10, 20), rectangle(10, 20, 10, 20)),
        # the whole object again
        (rectangle(10, 10, 10, 20), rectangle(12, 12, 2, 2)),
    ],
)
def test_other_candidates_do_not_say_merged(candidates: tuple[CroppedMask, ...]) -> None:
    visible = found(rectangle(10, 10, 10, 20))
    assert uncertainties(visible, found(*candidates, score=0.2)).reasons == ("score 1.00",)


def test_a_whole_object_found_again_does_not_hide_its_parts() -> None:
    visible = found(rectangle(10, 10, 10, 20))
    candidates = found(
        rectangle(10, 10, 10, 20),
        rectangle(10, 10, 10, 10),
        rectangle(10, 20, 10, 10),
        scores=np.array([0.3, 0.2, 0.2]),
    )
    assert uncertainties(visible, candidates).reasons == ("two candidates merged",)


def test_two_in_one_larger_candidate_may_be_parts() -> None:
    visible = found(rectangle(10, 10, 10, 10), rectangle(10, 22, 10, 10), rectangle(40, 40, 5, 5))
    whole = found(rectangle(10, 10, 10, 22), score=0.2)
    result = uncertainties(visible, whole)
    assert result.reasons == ("maybe one of two parts",) * 2 + ("score 1.00",)
    assert uncertainties(visible.select([0]), whole).reasons == ("score 1.00",)


def test_a_candidate_no_larger_than_an_instance_is_not_its_whole() -> None:
    # 7 of 10 columns of the first, and all of the second, lie in a candidate of the first's size
    visible = found(rectangle(10, 10, 10, 10), rectangle(10, 20, 10, 2))
    candidate = found(rectangle(10, 13, 10, 10), score=0.2)
    assert uncertainties(visible, candidate).reasons == ("score 1.00",) * 2


def test_candidates_may_be_all_instances_of_the_plane() -> None:
    visible = found(rectangle(10, 10, 10, 20), uuids=("a",))
    everything = found(
        rectangle(10, 10, 10, 20),
        rectangle(10, 10, 10, 10),
        rectangle(10, 20, 10, 10),
        uuids=("a", "b", "c"),
        scores=np.array([1, 0.2, 0.2]),
    )
    assert uncertainties(visible, everything).reasons == ("two candidates merged",)


def test_visible_and_rejected_ones_among_the_candidates_do_not_count() -> None:
    visible = found(rectangle(10, 10, 10, 20))
    halves = found(rectangle(10, 10, 10, 10), rectangle(10, 20, 10, 10), score=0.2)
    rejected = replace(halves, states=(InstanceState.REJECTED, InstanceState.UNREVIEWED))
    assert uncertainties(visible, rejected).reasons == ("score 1.00",)
    shown = replace(halves, uuids=(visible.uuids[0], "other"))
    assert uncertainties(visible, shown).reasons == ("score 1.00",)


def test_what_a_person_marked_unsure_comes_first_and_what_they_settled_last() -> None:
    states = tuple(InstanceState)
    masks = [rectangle(5, 5 + 10 * n, 5, 5) for n in range(len(states))]
    result = uncertainties(found(*masks, score=0.5, states=states))
    assert dict(zip(states, result.values.tolist(), strict=True)) == {
        InstanceState.UNREVIEWED: 0.82,
        InstanceState.ACCEPTED: 0,
        InstanceState.EDITED: 0,
        InstanceState.DRAWN: 0,
        InstanceState.REJECTED: 0,
        InstanceState.UNSURE: 1,
    }
    assert result.reasons == (
        "score 0.50", "accepted", "edited", "drawn", "rejected", "marked unsure"
    )  # fmt: skip


def test_an_unreviewed_one_without_any_number_says_so() -> None:
    assert uncertainties(found(rectangle(5, 5, 9, 9), score=np.nan)).reasons == ("unreviewed",)


def test_nothing_visible_needs_no_look() -> None:
    result = uncertainties(found(), found(rectangle(5, 5, 9, 9)))
    assert (result.values.shape, result.reasons) == ((0,), ())


@given(instance_sets(image_hw=(9, 9)), instance_sets(image_hw=(9, 9)))
def test_any_instances_have_a_value_from_0_to_1_and_a_reason(
    visible: InstanceSet, candidates: InstanceSet
) -> None:
    result = uncertainties(visible, candidates)
    assert ((result.values >= 0) & (result.values <= 1)).all()
    assert len(result.reasons) == len(visible)
    assert all(result.reasons)
