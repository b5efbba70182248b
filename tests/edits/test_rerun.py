"""What a new run leaves, replaces and holds back."""

from dataclasses import replace

import numpy as np
import pytest
from tests.edits.made import HW, NUCLEUS, WHOLE, drawn, found, one, square

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import Instance, InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.edits.action import Action
from napari_deeppixel.edits.rerun import Keep, Region, Replaced, rerun_action


def present(*instances: Instance) -> InstanceSet:
    return InstanceSet.from_instances(instances, image_hw=HW, categories=NUCLEUS)


def run(
    there: InstanceSet,
    predictions: InstanceSet,
    *,
    region_xyxy: Region | None = None,
    keep: Keep = Keep.HUMAN,
) -> tuple[Action, Replaced]:
    return rerun_action((), there, predictions, region_xyxy=region_xyxy, keep=keep)


def gone(action: Action) -> set[str]:
    return {change.uuid for change in action.changes if change.after is None}


def new_boxes(action: Action) -> list[tuple[int, ...]]:
    return [c.after.box_xyxy for c in action.changes if c.after is not None]


def test_run_on_an_empty_plane_adds_everything_it_found() -> None:
    predictions = found(square(0, 0), square(3, 4))
    action, replaced = run(present(), predictions)
    assert [change.after.uuid for change in action.changes if change.after] == list(
        predictions.uuids
    )
    assert all(change.before is None for change in action.changes)
    assert replaced == Replaced(kept=0, held_back=0)


def test_run_that_finds_nothing_where_nothing_is_changes_nothing() -> None:
    assert not run(present(), found())[0]


def test_object_found_again_keeps_its_uuid_and_an_object_not_found_goes() -> None:
    there = present(one(square(0, 0), handle=1), one(square(3, 5), handle=2))
    shifted = found(square(0, 1), scores=[0.6])  # IoU 6 / 12
    action, _ = run(there, shifted)
    assert gone(action) == {"uuid 2"}
    (change,) = [c for c in action.changes if c.after is not None]
    assert (change.before, change.uuid) == (change.before, "uuid 1")
    assert change.before is not None
    assert change.after is not None
    assert (change.after.box_xyxy, change.after.score) == ((1, 0, 4, 3), 0.6)


def test_one_object_of_before_passes_its_uuid_on_once() -> None:
    there = present(one(square(0, 0)))
    action, _ = run(there, found(square(0, 0), square(0, 1)))
    uuids = [change.uuid for change in action.changes]
    assert uuids[0] == "uuid 1"
    assert len(set(uuids)) == 2


KEPT = {
    Keep.HUMAN: {"accepted", "edited", "drawn", "rejected", "unsure"},
    Keep.EDITED: {"edited", "drawn"},
    Keep.NOTHING: set(),
}


@pytest.mark.parametrize("keep", Keep)
@pytest.mark.parametrize("state", InstanceState)
def test_each_choice_keeps_the_states_that_it_names(keep: Keep, state: InstanceState) -> None:
    action, replaced = run(present(one(square(0, 0), state=state)), found(), keep=keep)
    is_kept = state.value in KEPT[keep]
    assert bool(gone(action)) is not is_kept
    # what a person rejected is no object
    assert replaced.kept == (is_kept and state is not InstanceState.REJECTED)


def test_prediction_of_a_kept_object_is_held_back_and_counted() -> None:
    there = present(one(square(0, 0), state=InstanceState.ACCEPTED))
    # IoU 6 / 12 and 3 / 15
    action, replaced = run(there, found(square(0, 1), square(0, 2)))
    assert new_boxes(action) == [(2, 0, 5, 3)]
    assert replaced == Replaced(kept=1, held_back=1)


def test_prediction_of_a_rejected_object_is_held_back() -> None:
    there = present(one(square(0, 0), state=InstanceState.REJECTED))
    action, replaced = run(there, found(square(0, 0)))
    assert not action
    assert replaced == Replaced(kept=0, held_back=1)


def test_run_on_a_region_leaves_what_lies_elsewhere_or_is_cut_by_its_edge() -> None:
    inside, cut, touching, elsewhere = (
        one(square(1, 0, 1), handle=1),
        one(square(3, 2), handle=2),
        one(square(0, 3, 1), handle=3),  # ends where the region does
        one(square(3, 6, 1), handle=4),
    )
    action, _ = run(present(inside, cut, touching, elsewhere), found(), region_xyxy=(0, 0, 4, 6))
    assert gone(action) == {"uuid 1"}


def test_edge_of_the_region_at_the_border_of_the_image_cuts_nothing() -> None:
    corners = present(one(square(0, 0), handle=1), one(square(3, 5), handle=2))
    assert gone(run(corners, found(), region_xyxy=WHOLE)[0]) == {"uuid 1", "uuid 2"}


def test_region_run_does_not_double_an_object_that_its_edge_cuts() -> None:
    part = CroppedMask(pixels=np.ones((3, 2), np.bool_), y=0, x=2)
    action, replaced = run(present(one(square(0, 2))), found(part), region_xyxy=(0, 0, 4, 6))
    assert not action
    assert replaced == Replaced(kept=0, held_back=1)


def test_predictions_that_come_again_replace_themselves() -> None:
    predictions = found(square(0, 0), square(3, 4))
    action, _ = run(predictions, predictions)
    assert [change.uuid for change in action.changes] == list(predictions.uuids)
    assert all(change.before is not None for change in action.changes)


def test_prediction_that_comes_again_never_overwrites_what_a_person_made_of_it() -> None:
    predictions = found(square(0, 0))
    reshaped = replace(predictions[0], mask=square(3, 4), state=InstanceState.EDITED)
    action, replaced = run(present(reshaped), predictions)
    (change,) = action.changes
    assert change.before is None
    assert change.uuid != reshaped.uuid
    assert replaced == Replaced(kept=1, held_back=0)


def block(height: int, width: int, *, y: int, x: int) -> CroppedMask:
    return CroppedMask(pixels=np.ones((height, width), np.bool_), y=y, x=x)


def test_parts_of_what_a_person_united_are_held_back() -> None:
    united = one(block(3, 6, y=0, x=0), state=InstanceState.EDITED)
    # a third each: their IoU with the whole is 1/3
    parts = found(*(block(3, 2, y=0, x=x) for x in (0, 2, 4)))
    action, replaced = run(present(united), parts)
    assert not action
    assert replaced == Replaced(kept=1, held_back=3)


def test_the_whole_of_what_a_person_split_is_held_back() -> None:
    parts = [
        one(block(3, 2, y=0, x=x), handle=x + 1, state=InstanceState.EDITED) for x in (0, 2, 4)
    ]
    action, replaced = run(present(*parts), found(block(3, 6, y=0, x=0)))
    assert not action
    assert replaced == Replaced(kept=3, held_back=1)


def test_an_object_beside_a_drawn_one_that_touches_it_comes_in() -> None:
    drawn = one(block(3, 4, y=0, x=0), state=InstanceState.DRAWN)
    # one of its three columns lies under the drawn one
    assert new_boxes(run(present(drawn), found(block(3, 3, y=0, x=3)))[0]) == [(3, 0, 6, 3)]


def test_an_overlapping_object_that_a_person_left_as_it_was_comes_again() -> None:
    edited = one(block(3, 6, y=0, x=0), handle=1, state=InstanceState.EDITED)
    beside = one(block(3, 2, y=0, x=0), handle=2)
    action, replaced = run(present(edited, beside), found(block(3, 2, y=0, x=0)))
    assert [(c.uuid, c.after is not None) for c in action.changes] == [(beside.uuid, True)]
    assert replaced == Replaced(kept=1, held_back=0)


# 1 is a nucleus, 2 a cell
BOTH = CategoryTable.from_names("nucleus", "cell")


def of_both(instances: InstanceSet, *category_ids: int) -> InstanceSet:
    return replace(instances, categories=BOTH, category_ids=np.array(category_ids))


def test_parts_of_what_a_person_united_and_relabelled_are_held_back() -> None:
    united = one(block(3, 6, y=0, x=0), state=InstanceState.EDITED)
    parts = found(*(block(3, 2, y=0, x=x) for x in (0, 2, 4)))
    action, replaced = run(of_both(present(united), 2), of_both(parts, 1, 1, 1))
    assert not action
    assert replaced == Replaced(kept=1, held_back=3)


def test_the_whole_of_what_a_person_split_and_relabelled_is_held_back() -> None:
    parts = [
        one(block(3, 2, y=0, x=x), handle=x + 1, state=InstanceState.EDITED) for x in (0, 2, 4)
    ]
    whole = found(block(3, 6, y=0, x=0))
    action, replaced = run(of_both(present(*parts), 2, 2, 2), of_both(whole, 1))
    assert not action
    assert replaced == Replaced(kept=3, held_back=1)


def test_objects_of_one_kind_inside_an_edited_one_of_another_come_in() -> None:
    cell = one(block(6, 8, y=0, x=0), state=InstanceState.EDITED)
    nuclei = found(block(3, 3, y=0, x=0), block(3, 3, y=3, x=4))  # 18 of its 48 pixels
    action, _ = run(of_both(present(cell), 2), of_both(nuclei, 1, 1))
    assert new_boxes(action) == [(0, 0, 3, 3), (4, 3, 7, 6)]


@pytest.mark.parametrize("category_id", [1, 2])
def test_parts_of_what_a_person_united_and_deleted_are_held_back(category_id: int) -> None:
    rejected = one(
        block(3, 6, y=0, x=0),
        state=InstanceState.REJECTED,
        predicted_box_xyxy=(0.1, 0.0, 2.2, 3.0),  # of the first part
    )
    parts = found(*(block(3, 2, y=0, x=x) for x in (0, 2, 4)))
    action, replaced = run(of_both(present(rejected), category_id), of_both(parts, 1, 1, 1))
    assert not action
    assert replaced == Replaced(kept=0, held_back=3)


@pytest.mark.parametrize("box_xyxy", [(0.4, 0.0, 5.5, 2.2), (np.nan,) * 4])
def test_objects_in_what_was_found_as_one_and_rejected_come_in(
    box_xyxy: tuple[float, ...],
) -> None:
    rejected = one(block(3, 6, y=0, x=0), state=InstanceState.REJECTED, predicted_box_xyxy=box_xyxy)
    action, _ = run(present(rejected), found(*(block(3, 2, y=0, x=x) for x in (0, 4))))
    assert new_boxes(action) == [(0, 0, 2, 3), (4, 0, 6, 3)]


def test_objects_in_a_drawn_one_that_was_rejected_come_in() -> None:
    rejected = drawn(block(3, 6, y=0, x=0), state=InstanceState.REJECTED)
    action, _ = run(present(rejected), found(block(3, 2, y=0, x=0)))
    assert new_boxes(action) == [(0, 0, 2, 3)]
