"""Hand edits of a label image against masks that can be checked by eye."""

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from tests.core.strategies import instance_sets
from tests.edits.made import HW, WHOLE, drawn, one, square

from napari_deeppixel.core.instance import Instance, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.edits.diff import (
    LabelEdit,
    OverlapRule,
    Region,
    draw_region,
    edited_state,
    label_edits,
    with_pixels_of,
)

U16 = np.dtype(np.uint16)
# 1 lies at the left, 2 at the right; they share column 2
LEFT, RIGHT = one(square(0, 0), handle=1), one(square(0, 2), handle=2)


def edits_of(
    instances: list[Instance],
    seen: NDArray[np.uint16],
    *,
    region_xyxy: Region = WHOLE,
    rule: OverlapRule = OverlapRule.TAKE,
    beside: Sequence[Instance] = (),
) -> list[LabelEdit]:
    return label_edits(
        instances,
        seen,
        region_xyxy=region_xyxy,
        rule=rule,
        drawn_category_id=7,
        beside=beside,
    )


def pixels(instance: Instance | None) -> set[tuple[int, int]]:
    assert instance is not None
    return {(int(y), int(x)) for y, x in np.argwhere(instance.mask.to_mask(HW))}


# -- drawing a region


def test_last_instance_is_drawn_on_top_and_a_region_is_a_part_of_the_plane() -> None:
    assert draw_region([LEFT, RIGHT], (1, 0, 4, 2), U16).tolist() == [[1, 2, 2], [1, 2, 2]]
    assert draw_region([RIGHT, LEFT], (1, 0, 4, 2), U16).tolist() == [[1, 1, 2], [1, 1, 2]]


def test_instance_beyond_the_region_or_at_its_edge_draws_nothing() -> None:
    assert not draw_region([LEFT], (3, 0, 8, 6), U16).any()
    assert not draw_region([LEFT], (0, 3, 8, 6), U16).any()


@given(instance_sets(max_instances=5), st.data())
def test_region_is_the_same_part_of_the_whole_drawing(instances, data) -> None:
    height, width = instances.image_hw
    x1, y1 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x2, y2 = data.draw(st.integers(x1 + 1, width)), data.draw(st.integers(y1 + 1, height))
    lowest_first = [instances[i] for i in instances.drawing_order()]
    part = draw_region(lowest_first, (x1, y1, x2, y2), np.dtype(np.uint32))
    assert np.array_equal(part, instances.label_image()[y1:y2, x1:x2])


# -- what is no edit


def test_unchanged_label_image_has_no_edits() -> None:
    assert edits_of([LEFT, RIGHT], draw_region([LEFT, RIGHT], WHOLE, U16)) == []


def test_part_that_shows_none_of_an_instance_says_nothing_about_it() -> None:
    assert edits_of([LEFT], np.zeros((2, 3), np.uint16), region_xyxy=(4, 0, 7, 2)) == []


# -- gaining, losing, coming, going


def test_pixels_hidden_under_another_instance_survive_an_edit_elsewhere() -> None:
    seen = draw_region([LEFT, RIGHT], WHOLE, U16)
    seen[5, 0] = 1
    (edit,) = edits_of([LEFT, RIGHT], seen)
    assert (edit.handle, edit.before) == (1, LEFT)
    assert pixels(edit.after) == pixels(LEFT) | {(5, 0)}
    assert edit.after is not None
    assert edit.after.box_xyxy == (0, 0, 3, 6)
    assert edit.after.state is InstanceState.EDITED


def test_edit_in_a_region_leaves_the_pixels_beyond_it_as_they_are() -> None:
    seen = np.array([[0, 0]], np.uint16)  # row 2, columns 1 and 2: erased
    (edit,) = edits_of([LEFT], seen, region_xyxy=(1, 2, 3, 3))
    assert pixels(edit.after) == pixels(LEFT) - {(2, 1), (2, 2)}


def test_erasing_takes_the_pixel_of_the_instance_on_top_alone() -> None:
    seen = draw_region([LEFT, RIGHT], WHOLE, U16)
    seen[0, 2] = 0
    for rule in OverlapRule:
        (edit,) = edits_of([LEFT, RIGHT], seen, rule=rule)
        assert edit.before is RIGHT
        assert pixels(edit.after) == pixels(RIGHT) - {(0, 2)}


def test_instance_without_a_pixel_left_has_no_after() -> None:
    (edit,) = edits_of([LEFT], np.zeros(HW, np.uint16))
    assert (edit.handle, edit.before, edit.after) == (1, LEFT, None)


def test_instance_with_hidden_pixels_left_is_still_there() -> None:
    seen = draw_region([LEFT, RIGHT], WHOLE, U16)
    seen[seen == 1] = 0
    (edit,) = edits_of([LEFT, RIGHT], seen)
    assert pixels(edit.after) == {(0, 2), (1, 2), (2, 2)}


def test_unknown_number_is_a_drawn_instance_of_the_chosen_category() -> None:
    (edit,) = edits_of([LEFT], np.array([[9]], np.uint16), region_xyxy=(7, 4, 8, 5))
    assert edit.before is None
    new = edit.after
    assert new is not None
    assert (new.handle, new.category_id, new.state) == (9, 7, InstanceState.DRAWN)
    assert (new.box_xyxy, new.source) == ((7, 4, 8, 5), "person")
    assert np.isnan(new.score)


def test_one_stroke_may_touch_many_instances_in_the_order_of_their_numbers() -> None:
    seen = draw_region([RIGHT, LEFT], WHOLE, U16)
    seen[0, :] = 5
    seen[5, 7] = 3
    edits = edits_of([RIGHT, LEFT], seen)
    assert [edit.handle for edit in edits] == [1, 2, 3, 5]


# -- painting over another instance


def painted_over(rule: OverlapRule) -> dict[int, Instance | None]:
    """Paint 1 over a pixel of 2 and the pixel above the background below it."""
    apart = one(square(0, 4), handle=2)
    seen = draw_region([LEFT, apart], WHOLE, U16)
    seen[2:4, 4] = 1
    return {edit.handle: edit.after for edit in edits_of([LEFT, apart], seen, rule=rule)}


def test_take_pixels_moves_them_from_one_instance_to_the_other() -> None:
    after = painted_over(OverlapRule.TAKE)
    assert pixels(after[1]) == pixels(LEFT) | {(2, 4), (3, 4)}
    assert pixels(after[2]) == pixels(one(square(0, 4))) - {(2, 4)}


def test_keep_others_stops_at_the_other_instance() -> None:
    after = painted_over(OverlapRule.KEEP)
    assert after.keys() == {1}
    assert pixels(after[1]) == pixels(LEFT) | {(3, 4)}


def test_allow_overlap_gives_pixels_to_one_and_leaves_the_other_alone() -> None:
    after = painted_over(OverlapRule.OVERLAP)
    assert after.keys() == {1}
    assert pixels(after[1]) == pixels(LEFT) | {(2, 4), (3, 4)}


def test_keep_others_paints_nothing_where_all_is_taken() -> None:
    seen = draw_region([LEFT], WHOLE, U16)
    seen[1, 1] = 9
    assert edits_of([LEFT], seen, rule=OverlapRule.KEEP) == []


@pytest.mark.parametrize("rule", OverlapRule)
@given(seen=arrays(np.uint16, HW, elements=st.integers(0, 4)))
def test_hidden_pixels_never_change_and_painted_ones_show_as_the_rule_says(rule, seen) -> None:
    instances = [
        one(square(0, 0), handle=1),
        one(square(1, 2), handle=2),
        drawn(square(2, 3, 4), handle=3),
    ]
    old = draw_region(instances, WHOLE, U16)
    edits = {edit.handle: edit for edit in edits_of(instances, seen, rule=rule)}
    for instance in instances:
        edit = edits.get(instance.handle)
        after = instance if edit is None else edit.after
        before_mask = instance.mask.to_mask(HW)
        mask = np.zeros(HW, np.bool_) if after is None else after.mask.to_mask(HW)
        shown = (old == instance.handle) | (seen == instance.handle)
        assert np.array_equal(mask[~shown], before_mask[~shown])
        free = seen[old == 0] == instance.handle
        assert mask[old == 0][free].all()
        if rule is OverlapRule.TAKE:
            assert np.array_equal(mask[shown], (seen == instance.handle)[shown])


# -- painting over what another layer shows


# 1 is in the layer; 8 and, on top of it, 9 are in others
NUCLEUS, LOW, TOP = LEFT, one(square(0, 3), handle=8), one(square(1, 4), handle=9)


def painted_beside(rule: OverlapRule) -> dict[int, LabelEdit]:
    """Paint 1 over rows 1 and 3 of columns 3 and 4, which shows 8, 9, and 9 below the empty."""
    seen = draw_region([NUCLEUS], WHOLE, U16)
    seen[1:4:2, 3:5] = 1
    return {e.handle: e for e in edits_of([NUCLEUS], seen, rule=rule, beside=[LOW, TOP])}


def test_take_pixels_takes_them_from_what_is_seen_in_another_layer() -> None:
    edits = painted_beside(OverlapRule.TAKE)
    assert edits.keys() == {1, 8, 9}
    assert pixels(edits[1].after) == pixels(NUCLEUS) | {(1, 3), (1, 4), (3, 3), (3, 4)}
    # at (1, 4) lies 8 as well, hidden under 9
    assert pixels(edits[8].after) == pixels(LOW) - {(1, 3)}
    assert pixels(edits[9].after) == pixels(TOP) - {(1, 4), (3, 4)}
    assert (edits[8].before, edits[9].before) == (LOW, TOP)
    assert edits[9].after is not None
    assert edits[9].after.state is InstanceState.EDITED


def test_keep_others_stops_at_what_is_seen_in_another_layer() -> None:
    edits = painted_beside(OverlapRule.KEEP)
    assert edits.keys() == {1}
    assert pixels(edits[1].after) == pixels(NUCLEUS) | {(3, 3)}


def test_allow_overlap_leaves_another_layer_alone() -> None:
    edits = painted_beside(OverlapRule.OVERLAP)
    assert edits.keys() == {1}
    assert pixels(edits[1].after) == pixels(NUCLEUS) | {(1, 3), (1, 4), (3, 3), (3, 4)}


def test_erasing_leaves_another_layer_alone() -> None:
    seen = draw_region([LEFT], WHOLE, U16)
    seen[:, 2] = 0
    for rule in OverlapRule:
        (edit,) = edits_of([LEFT], seen, rule=rule, beside=[RIGHT])
        assert pixels(edit.after) == pixels(LEFT) - {(0, 2), (1, 2), (2, 2)}


def test_instance_of_another_layer_may_lose_its_last_pixel_to_a_new_one() -> None:
    seen = np.zeros(HW, np.uint16)
    seen[0:3, 2:5] = 5
    gone, new = edits_of([], seen, beside=[RIGHT])
    assert (new.handle, new.before, pixels(new.after)) == (5, None, pixels(RIGHT))
    assert (gone.handle, gone.before, gone.after) == (2, RIGHT, None)


def test_pixels_under_the_number_of_another_layers_instance_are_that_instances() -> None:
    seen = draw_region([LEFT], WHOLE, U16)
    seen[0, 4:6] = 2  # (0, 4) shows it already
    (edit,) = edits_of([LEFT], seen, beside=[RIGHT])
    assert (edit.handle, edit.before) == (2, RIGHT)
    assert pixels(edit.after) == pixels(RIGHT) | {(0, 5)}


@pytest.mark.parametrize("rule", OverlapRule)
@given(seen=arrays(np.uint16, HW, elements=st.integers(0, 4)), num_beside=st.integers(0, 2))
def test_pixels_go_one_by_one_where_the_rule_says(rule, seen, num_beside) -> None:
    own = [one(square(0, 0), handle=1), one(square(1, 2), handle=2)]
    beside = [one(square(2, 3, 4), handle=8), one(square(0, 1, 4), handle=9)][:num_beside]
    old, over = draw_region(own, WHOLE, U16), draw_region(beside, WHOLE, U16)
    expected = {i.handle: pixels(i) for i in (*own, *beside)} | {3: set(), 4: set()}
    for at in map(tuple, np.argwhere(old != seen).tolist()):
        o, n, b = (int(image[at]) for image in (old, seen, over))
        if n and (rule is not OverlapRule.KEEP or not (o or b)):
            expected[n].add(at)
        if o and (not n or rule is OverlapRule.TAKE):
            expected[o].discard(at)
        if n and b and rule is OverlapRule.TAKE:
            expected[b].discard(at)
    found = {i.handle: i for i in (*own, *beside)}
    found |= {e.handle: e.after for e in edits_of(own, seen, rule=rule, beside=beside)}
    assert {handle: pixels(i) for handle, i in found.items() if i is not None} == {
        handle: those for handle, those in expected.items() if those
    }


def test_emptying_a_plane_of_a_thousand_instances_takes_no_pass_over_it_for_each() -> None:
    disc = square(0, 0, 20)
    there = [
        one(disc.moved(dy=n // 40 * 30, dx=n % 40 * 30), handle=n + 1, uuid=str(n))
        for n in range(1200)
    ]
    began = time.perf_counter()
    edits = edits_of(there, np.zeros((900, 1200), np.uint16), region_xyxy=(0, 0, 1200, 900))
    # measured on 2 cores: 0.1 s; 5 s with a pass for each
    assert time.perf_counter() - began < 2
    assert [(e.before, e.after) for e in edits] == [(i, None) for i in there]


# -- states


def test_drawn_instance_stays_drawn_and_all_others_become_edited() -> None:
    assert edited_state(drawn(square(0, 0))) is InstanceState.DRAWN
    others = set(InstanceState) - {InstanceState.DRAWN}
    assert {edited_state(one(square(0, 0), state=s)) for s in others} == {InstanceState.EDITED}


def test_edit_keeps_all_that_it_is_not_about() -> None:
    known = replace(LEFT, predicted_box_xyxy=(0.5, 0.0, 3.0, 2.5), edge_uncertainty=0.25)
    seen = draw_region([known], WHOLE, U16)
    seen[0, 0] = 0
    (edit,) = edits_of([known], seen)
    assert edit.after is not None
    same = replace(edit.after, mask=known.mask, state=known.state)
    assert same.__dict__ == known.__dict__


def test_pixels_far_away_are_added_to_an_instance() -> None:
    corner = CroppedMask(pixels=np.ones((1, 2), np.bool_), y=5, x=6)
    larger = with_pixels_of(LEFT, corner)
    assert pixels(larger) == pixels(LEFT) | {(5, 6), (5, 7)}
    assert (larger.box_xyxy, larger.state) == ((0, 0, 8, 6), InstanceState.EDITED)
