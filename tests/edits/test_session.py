"""The session: what is shown, what a person did to it, and what comes in."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from tests.core.strategies import assert_same_instances, instance_sets
from tests.edits.compare import assert_same_snapshot
from tests.edits.made import HW, NUCLEUS, WHOLE, drawn, found, one, session_with, square

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import Instance, InstanceSet, InstanceState
from napari_deeppixel.edits.action import Action, Change
from napari_deeppixel.edits.diff import OverlapRule, Region, draw_region
from napari_deeppixel.edits.levels import drawing_rank
from napari_deeppixel.edits.rerun import Keep, Replaced
from napari_deeppixel.edits.session import (
    AnnotationSession,
    Applied,
    ReadOnlyError,
    erased,
)

U16 = np.dtype(np.uint16)
TRIANGLE = ((0.0, 0.0), (4.0, 0.0), (4.0, 3.0))


def painted(
    session: AnnotationSession,
    *strokes: tuple[int, tuple[slice | int, slice | int]],
    index: PlaneIndex = (),
    region_xyxy: Region = WHOLE,
    brings_back: bool = False,
) -> bool:
    """Write numbers into what is drawn in a region, and take that over."""
    x1, y1, x2, y2 = region_xyxy
    shown = session.shown_in(index, region_xyxy)
    seen = np.zeros(HW, U16)
    seen[y1:y2, x1:x2] = draw_region(shown, region_xyxy, U16)
    for handle, where in strokes:
        seen[where] = handle
    return session.take_label_region(
        index,
        shown,
        seen[y1:y2, x1:x2],
        region_xyxy=region_xyxy,
        brings_back=brings_back,
    )


def handles(session: AnnotationSession, index: PlaneIndex = ()) -> list[int]:
    return session.visible(index).handles.tolist()


def boxes(session: AnnotationSession, index: PlaneIndex = ()) -> list[tuple[int, ...]]:
    return [mask.box_xyxy for mask in session.visible(index).masks]


def applied_of(session: AnnotationSession) -> list[Applied]:
    """Return a list that all further steps of a session are noted in."""
    noted: list[Applied] = []
    session.changed.connect(noted.append)
    return noted


EVERYTHING = (slice(None), slice(None))


# -- what is shown


def test_empty_session_has_no_instances_no_planes_and_no_regions() -> None:
    session = AnnotationSession(HW, NUCLEUS)
    assert len(session.visible((3,))) == len(session.plane((3,))) == 0
    assert session.shown_in((3,), WHOLE) == []
    assert (session.plane_indices, session.region_planes) == ([], [])
    assert (session.get((3,), "uuid 1"), session.find(1), session.owner_of(1)) == (None,) * 3
    assert session.next_handle == 1


def test_handles_stay_when_the_score_moves_and_are_unique_over_planes() -> None:
    session = AnnotationSession(HW, NUCLEUS)
    session.set_visibility(score=0.5, min_area=1)
    for index in ((0,), (1,)):
        session.add_predictions(index, found(square(0, 0), square(3, 4), scores=[0.9, 0.2]))
    assert [handles(session, (z,)) for z in (0, 1)] == [[1], [2]]
    session.set_visibility(score=0.1, min_area=1)
    assert [handles(session, (z,)) for z in (0, 1)] == [[1, 3], [2, 4]]
    session.set_visibility(score=0.5, min_area=1)
    assert [handles(session, (z,)) for z in (0, 1)] == [[1], [2]]


def test_score_and_area_at_the_limit_are_shown() -> None:
    session = session_with(found(square(0, 0), square(3, 4), scores=[0.5, 0.49]))
    assert boxes(session) == [(0, 0, 3, 3)]
    session.set_visibility(score=0.5, min_area=9)
    assert boxes(session) == [(0, 0, 3, 3)]
    session.set_visibility(score=0.5, min_area=10)
    assert boxes(session) == []


def test_small_predictions_are_hidden_but_drawn_ones_never() -> None:
    session = session_with(found(square(0, 0, 1), square(3, 4, 3)))
    session.set_visibility(score=0.5, min_area=4)
    assert session.visible(()).areas.tolist() == [9]
    painted(session, (7, (0, 7)))
    assert session.visible(()).areas.tolist() == [9, 1]


def test_visibility_signal_tells_who_appeared_and_who_vanished_with_their_handles() -> None:
    session = session_with(found(square(0, 0), square(3, 4), scores=[0.6, 0.3]))
    heard: list[dict[PlaneIndex, list[Instance]]] = []
    session.visibility_changed.connect(heard.append)
    session.set_visibility(score=0.2, min_area=1)
    session.set_visibility(score=0.2, min_area=1)
    session.set_visibility(score=0.5, min_area=1)
    assert [[i.handle for i in turned[()]] for turned in heard] == [[2], [2]]


def test_hidden_instance_has_no_handle_but_counts_as_an_instance_of_the_plane() -> None:
    session = session_with(found(square(0, 0), square(3, 4), scores=[0.9, 0.3]))
    every = session.plane(())
    assert every.handles.tolist() == [1, 2]  # made up for the set
    hidden = session.get((), every.uuids[1])
    assert hidden is not None
    assert hidden.handle == 0
    assert session.find(2) is None
    assert not session.is_visible((), every.uuids[1])


def test_states_are_counted_without_hidden_candidates() -> None:
    session = session_with(found(square(0, 0), square(3, 4), square(0, 5), scores=[0.9, 0.9, 0.3]))
    painted(session, (0, (slice(0, 3), slice(0, 3))))
    counts = session.count_states()
    assert counts[InstanceState.REJECTED] == counts[InstanceState.UNREVIEWED] == 1
    assert sum(counts.values()) == 2


def test_highest_are_what_a_person_touched_then_the_best_scores() -> None:
    ranked = [
        drawn(square(0, 0)),
        one(square(0, 0), score=0.1, state=InstanceState.ACCEPTED),
        one(square(0, 0), score=0.9),
        one(square(0, 0), score=0.4),
    ]
    assert sorted(ranked, key=drawing_rank, reverse=True) == ranked


@given(instance_sets(max_instances=8, image_hw=HW), st.floats(0, 1))
def test_fast_path_draws_in_the_order_of_the_whole_set(instances, score: float) -> None:
    session = AnnotationSession(HW, instances.categories)
    session.set_visibility(score=score, min_area=2)
    session.add((), instances, name="bring in")
    visible = session.visible(())
    order = [visible.uuids[i] for i in visible.drawing_order()]
    lowest_first = session.shown_in((), WHOLE)
    assert [instance.uuid for instance in lowest_first] == order
    for x1, y1, x2, y2 in ((0, 0, 3, 3), (4, 2, 8, 6), (7, 5, 8, 6)):
        part = draw_region(session.shown_in((), (x1, y1, x2, y2)), (x1, y1, x2, y2), U16)
        assert np.array_equal(part, visible.label_image()[y1:y2, x1:x2])


# -- strokes


def test_erased_prediction_is_rejected_with_its_mask_and_a_new_number_is_drawn() -> None:
    session = session_with(found(square(0, 0)))
    uuid = session.visible(()).uuids[0]
    assert painted(session, (0, EVERYTHING), (9, (4, 7)))
    rejected = session.get((), uuid)
    assert rejected is not None
    assert rejected.state is InstanceState.REJECTED
    assert rejected.mask.equals(square(0, 0))
    (new,) = session.visible(())
    assert (new.state, new.handle, new.box_xyxy) == (InstanceState.DRAWN, 9, (7, 4, 8, 5))
    assert np.isnan(new.score)


def test_erased_drawn_instance_is_gone_and_undo_brings_it_back_in_its_place() -> None:
    session = session_with(found())
    painted(session, (1, (0, 0)))
    painted(session, (2, (3, 4)))
    before = session.snapshot()
    painted(session, (0, (0, 0)))
    assert handles(session) == [2]
    assert session.undo() == "erase an instance"
    assert handles(session) == [1, 2]
    assert_same_snapshot(session.snapshot(), before)


def test_stroke_is_named_by_what_it_does() -> None:
    session = session_with(found(square(0, 0)))
    names = []
    for stroke in ((1, (3, 0)), (2, (5, 7)), (0, (5, 7))):
        painted(session, stroke)
        names.append(session.history.undo_name)
    assert names == ["paint", "paint a new instance", "erase an instance"]


def test_unchanged_label_image_is_no_step() -> None:
    session = session_with(found(square(0, 0)))
    assert not painted(session)
    assert len(session.history) == 1


@given(arrays(np.uint16, HW, elements=st.integers(0, 4)))
def test_visible_instances_draw_the_label_image_that_a_person_left(
    label_image: NDArray[np.uint16],
) -> None:
    session = session_with(found(square(0, 0), square(1, 2), square(3, 4)))
    session.take_label_region((), session.shown_in((), WHOLE), label_image, region_xyxy=WHOLE)
    kept = session.visible(())
    masks = {int(h): m.to_mask(HW) for h, m in zip(kept.handles, kept.masks, strict=True)}
    # what was hidden may lie under a pixel that was erased: only that can differ
    for y, x in zip(*np.nonzero(kept.label_image() != label_image), strict=True):
        assert masks[int(kept.label_image()[y, x])][y, x]
    for handle in np.unique(label_image[label_image > 0]):
        assert masks[int(handle)][label_image == handle].all()


def test_new_label_with_the_number_of_a_hidden_instance_gets_its_own() -> None:
    session = session_with(found(square(0, 0), square(3, 4), scores=[0.9, 0.6]))
    assert handles(session) == [1, 2]
    session.set_visibility(score=0.8, min_area=1)
    painted(session, (2, (5, 0)))  # what napari's "new label" offers
    session.set_visibility(score=0.5, min_area=1)
    assert handles(session) == [1, 2, 3]
    assert session.visible(()).states[2] is InstanceState.DRAWN


def two_planes() -> AnnotationSession:
    session = AnnotationSession(HW, NUCLEUS)
    for index in ((0,), (1,)):
        session.add_predictions(index, found(square(0, 0)))
    return session


def test_number_of_another_plane_painted_here_is_a_new_instance() -> None:
    session = two_planes()
    painted(session, (1, (5, 7)), index=(1,))
    assert handles(session, (0,)) == [1]
    assert handles(session, (1,)) == [2, 3]


def test_foreign_number_and_the_next_free_one_in_one_stroke_are_two_instances() -> None:
    session = two_planes()
    painted(session, (1, (5, 7)), (3, (5, 0)), index=(1,))
    assert handles(session, (1,)) == [2, 4, 3]
    assert boxes(session, (1,)) == [(0, 0, 3, 3), (7, 5, 8, 6), (0, 5, 1, 6)]
    found_3 = session.find(3)
    assert found_3 is not None
    assert found_3[1].box_xyxy == (0, 5, 1, 6)


def test_visible_instance_painted_in_a_region_far_from_it_grows() -> None:
    session = session_with(found(square(0, 0), square(3, 5)))
    painted(session, (1, (1, 7)), region_xyxy=(7, 1, 8, 2))
    assert handles(session) == [1, 2]
    assert boxes(session)[0] == (0, 0, 8, 3)
    assert session.visible(()).areas.tolist() == [10, 9]


def test_number_of_an_erased_instance_is_a_new_one_unless_it_is_brought_back() -> None:
    for brings_back, expected in ((False, [3, 2]), (True, [1, 2])):
        session = session_with(found(square(0, 0), square(3, 5)))
        uuid = session.visible(()).uuids[0]
        painted(session, (0, (slice(0, 3), slice(0, 3))))
        painted(session, (1, (0, 0)), brings_back=brings_back)
        assert sorted(handles(session)) == sorted(expected)
        assert session.is_visible((), uuid) is brings_back


def test_gone_instance_comes_back_with_its_uuid_and_category() -> None:
    session = AnnotationSession(HW, CategoryTable.from_names("nucleus", "debris"))
    painted(session, (1, (0, 0)))
    session.take_attributes((), {1: ("debris", "")})
    (before,) = session.visible(())
    painted(session, (0, (0, 0)))
    assert session.get((), before.uuid) is None
    painted(session, (1, (0, 0)), brings_back=True)
    (back,) = session.visible(())
    assert (back.uuid, back.category_id, back.handle) == (before.uuid, 2, 1)


@pytest.mark.parametrize("number", [2**32 - 1, 2**31])
def test_number_that_leaves_no_room_for_the_next_ones_is_replaced(number: int) -> None:
    session = session_with(found(square(0, 0)))
    seen = session.visible(()).label_image().astype(np.uint32)
    seen[5, 7] = number
    seen[5, 0] = 2
    session.take_label_region((), session.shown_in((), WHOLE), seen, region_xyxy=WHOLE)
    assert handles(session) == [1, 2, 3]
    painted(session, (session.next_handle, (5, 4)))
    assert handles(session) == [1, 2, 3, 4]


def test_painting_over_what_another_layer_shows_takes_from_it_in_the_same_step() -> None:
    session = session_with(found(square(0, 0), square(0, 4)))
    before = session.snapshot()
    own, other = session.shown_in((), WHOLE)
    seen = draw_region([own], WHOLE, U16)
    seen[:, 3:] = 1
    assert session.take_label_region((), [own], seen, region_xyxy=WHOLE, beside=[other])
    (grown,) = session.visible(())
    assert (grown.handle, grown.area) == (1, 9 + 6 * 5)
    # its last pixel went: the model's instance stays as rejected
    left = session.get((), other.uuid)
    assert left is not None
    assert left.state is InstanceState.REJECTED
    session.undo()
    assert_same_snapshot(session.snapshot(), before)


def test_new_instance_gets_the_first_category_or_the_one_that_was_chosen() -> None:
    session = AnnotationSession(HW, CategoryTable.from_names("nucleus", "debris"))
    for handle, category_id in ((1, None), (2, 2)):
        seen = session.visible(()).label_image()
        seen[0, handle] = handle
        session.take_label_region(
            (),
            session.shown_in((), WHOLE),
            seen,
            region_xyxy=WHOLE,
            rule=OverlapRule.OVERLAP,
            category_id=category_id,
        )
    assert session.visible(()).category_ids.tolist() == [1, 2]


def test_what_a_model_found_is_rejected_and_what_a_person_drew_goes() -> None:
    prediction = one(square(0, 0), state=InstanceState.EDITED)
    rejected = erased(prediction)
    assert rejected is not None
    assert (rejected.state, rejected.uuid) == (InstanceState.REJECTED, prediction.uuid)
    assert erased(drawn(square(0, 0))) is None


# -- the table and the regions


def test_state_and_category_set_in_a_table_are_taken_over() -> None:
    session = AnnotationSession(HW, CategoryTable.from_names("nucleus", "debris"))
    session.add_predictions((), found(square(0, 0), square(3, 4)))
    assert session.take_attributes((), {1: ("debris", ""), 2: ("", "accepted")})
    after = session.visible(())
    assert after.category_ids.tolist() == [2, 1]
    assert after.states == (InstanceState.EDITED, InstanceState.ACCEPTED)
    assert not session.take_attributes((), {1: ("no such category", "no such state")})
    assert not session.take_attributes((0,), {1: ("nucleus", "accepted")})
    assert not session.take_attributes((), {99: ("nucleus", "accepted")})
    session.undo()
    assert session.visible(()).category_ids.tolist() == [1, 1]


def test_complete_regions_are_set_undone_and_known_by_plane() -> None:
    session = AnnotationSession(HW, NUCLEUS)
    assert session.set_regions((2,), [TRIANGLE], name="mark complete")
    assert not session.set_regions((2,), [TRIANGLE], name="mark complete")
    assert (session.regions((2,)), session.region_planes) == ((TRIANGLE,), [(2,)])
    assert session.undo() == "mark complete"
    assert (session.regions((2,)), session.region_planes) == ((), [])


# -- what comes in


def test_new_run_replaces_unreviewed_and_keeps_what_a_person_did() -> None:
    session = session_with(found(square(0, 0), square(3, 4)))
    painted(session, (1, (5, 0)))
    replaced = session.add_predictions((), found(square(0, 0), square(0, 5)))
    assert replaced == Replaced(kept=1, held_back=1)
    assert sorted(boxes(session)) == [(0, 0, 3, 6), (5, 0, 8, 3)]
    assert 1 in handles(session)


def test_run_that_replaces_everything_is_taken_back_as_a_whole() -> None:
    session = session_with(found(square(0, 0), square(3, 4)))
    painted(session, (1, (5, 0)))
    before = session.snapshot()
    session.add_predictions((), found(square(0, 5)), keep=Keep.NOTHING)
    assert boxes(session) == [(5, 0, 8, 3)]
    session.undo()
    assert_same_snapshot(session.snapshot(), before)


def test_rejected_instance_is_not_brought_back_by_a_run() -> None:
    session = session_with(found(square(0, 0)))
    painted(session, (0, EVERYTHING))
    session.add_predictions((), found(square(0, 0)))
    assert len(session.visible(())) == 0
    assert session.plane(()).states == (InstanceState.REJECTED,)


def test_run_on_a_region_leaves_instances_elsewhere() -> None:
    session = session_with(found(square(0, 0), square(3, 4)))
    session.add_predictions((), found(), region_xyxy=(0, 0, 4, 6))
    assert boxes(session) == [(4, 3, 7, 6)]


def test_hidden_candidate_cut_by_the_region_holds_nothing_back() -> None:
    session = session_with(found(square(1, 1, 2), square(0, 0, 6), scores=[0.9, 0.1]))
    replaced = session.add_predictions((), found(square(1, 1, 2)), region_xyxy=(0, 0, 5, 6))
    assert replaced == Replaced(kept=0, held_back=0)
    assert boxes(session) == [(1, 1, 3, 3)]


def test_object_found_again_keeps_its_handle_and_a_new_one_gets_the_next() -> None:
    session = session_with(found(square(0, 0), square(3, 4)))
    assert handles(session) == [1, 2]
    session.add_predictions((), found(square(3, 5), square(0, 4), square(0, 0)))
    of_box = dict(zip(boxes(session), handles(session), strict=True))
    assert of_box == {(5, 3, 8, 6): 2, (0, 0, 3, 3): 1, (4, 0, 7, 3): 3}


def test_planes_of_one_run_are_taken_back_as_one() -> None:
    session = AnnotationSession(HW, NUCLEUS)
    for index in ((0,), (1,)):
        session.add_predictions(index, found(square(0, 0)), joins="run 1")
    session.undo()
    assert [len(session.plane((z,))) for z in (0, 1)] == [0, 0]
    session.redo()
    assert [handles(session, (z,)) for z in (0, 1)] == [[1], [2]]


def test_categories_of_a_second_model_are_added_by_name() -> None:
    session = session_with(found(square(0, 0)))
    heard: list[CategoryTable] = []
    session.categories_changed.connect(heard.append)
    session.take_attributes((), {1: ("", "accepted")})
    others = InstanceSet(
        image_hw=HW,
        masks=(square(3, 0), square(3, 4)),
        categories=CategoryTable.from_names("cat", "nucleus"),
        category_ids=np.array([1, 2]),
        scores=np.array([0.9, 0.9]),
    )
    session.add_predictions((), others)
    names = [session.categories.name_of(i) for i in session.visible(()).category_ids]
    assert names == ["nucleus", "cat", "nucleus"]
    assert heard == [session.categories]


def test_instances_of_another_session_keep_state_and_uuid() -> None:
    first = session_with(found(square(0, 0)))
    first.take_attributes((), {1: ("", "accepted")})
    second = AnnotationSession(HW, NUCLEUS)
    second.add((), first.plane(()), name="join sessions")
    assert second.visible(()).uuids == first.visible(()).uuids
    assert second.visible(()).states == (InstanceState.ACCEPTED,)
    assert second.undo() == "join sessions"
    assert len(second.plane(())) == 0


# -- steps


def test_signal_tells_what_was_done_as_it_is_now_in_the_session() -> None:
    session = AnnotationSession(HW, NUCLEUS)
    session.set_visibility(score=0.5, min_area=1)
    noted = applied_of(session)
    session.add_predictions((), found(square(0, 0), square(3, 4), scores=[0.9, 0.3]), joins="run 1")
    session.undo()
    session.redo()
    assert [applied.kind for applied in noted] == ["do", "undo", "redo"]
    assert [applied.joins for applied in noted] == ["run 1", "", ""]
    for applied in (noted[0], noted[2]):
        assert [c.after and c.after.handle for c in applied.action.changes] == [1, 0]
    last = [change.after for change in noted[2].action.changes]
    assert last == [session.get((), uuid) for uuid in session.plane(()).uuids]


def test_nothing_to_do_undo_or_redo_says_so_and_sends_no_signal() -> None:
    session = AnnotationSession(HW, NUCLEUS)
    noted = applied_of(session)
    assert not session.apply(Action(name="nothing"))
    assert (session.undo(), session.redo()) == ("", "")
    assert (noted, len(session.history)) == ([], 0)


def test_candidate_shown_after_the_step_keeps_its_handle_through_undo_and_redo() -> None:
    session = session_with(found(square(0, 0), scores=[0.3]))
    session.set_visibility(score=0.2, min_area=1)
    assert handles(session) == [1]
    session.undo()
    session.redo()
    assert handles(session) == [1]
    assert session.find(1) is not None


def test_undone_instance_leaves_its_handle_to_nobody() -> None:
    session = session_with(found())
    painted(session, (1, (0, 0)))
    session.undo()
    assert session.owner_of(1) is not None
    painted(session, (1, (0, 0)))
    assert handles(session) == [2]


def changes_of(session: AnnotationSession) -> Sequence[Callable[[], object]]:
    return [
        lambda: painted(session, (1, (5, 0))),
        lambda: session.take_attributes((), {1: ("", "accepted")}),
        lambda: session.set_regions((), [TRIANGLE], name="mark complete"),
        lambda: session.add_predictions((), found(square(0, 5))),
        lambda: session.add((), found(square(0, 5)), name="join sessions"),
        lambda: session.add((), replace(found(), categories=OTHERS), name="join sessions"),
        lambda: session.add_predictions((), replace(found(), categories=OTHERS)),
        session.undo,
        session.redo,
    ]


OTHERS = CategoryTable.from_names("cat")


@pytest.mark.parametrize("position", range(9))
def test_read_only_session_refuses_every_change(position: int) -> None:
    session = session_with(found(square(0, 0)))
    before = session.snapshot()
    session.is_read_only = True
    with pytest.raises(ReadOnlyError, match="open for editing in another window"):
        changes_of(session)[position]()
    assert_same_snapshot(session.snapshot(), before)


def test_read_only_session_still_shows_and_hides() -> None:
    session = session_with(found(square(0, 0), scores=[0.6]))
    session.is_read_only = True
    session.set_visibility(score=0.7, min_area=1)
    assert boxes(session) == []
    assert not painted(session)


# -- snapshots


def worked_on() -> AnnotationSession:
    """Return a session with hidden, rejected, drawn and gone instances and regions."""
    session = session_with(found(square(0, 0), square(3, 4), square(0, 5), scores=[0.9, 0.3, 0.8]))
    painted(session, (0, (slice(0, 3), slice(5, 8))))  # 2 is rejected
    painted(session, (3, (5, 0)))
    painted(session, (4, (5, 1)))
    painted(session, (0, (5, 1)))  # 4 is gone
    session.set_regions((1,), [TRIANGLE], name="mark complete")
    return session


def test_session_of_a_snapshot_shows_the_same_and_has_no_history() -> None:
    session = worked_on()
    again = AnnotationSession.from_snapshot(session.snapshot())
    assert_same_snapshot(again.snapshot(), session.snapshot())
    assert_same_instances(again.visible(()), session.visible(()))
    assert (again.next_handle, session.next_handle) == (5, 5)
    assert (len(again.history), again.undo()) == (0, "")
    again.set_visibility(score=0.2, min_area=1)
    assert sorted(handles(again)) == [1, 3, 5]


def test_number_of_an_instance_that_went_before_the_snapshot_is_never_given_again() -> None:
    again = AnnotationSession.from_snapshot(worked_on().snapshot())
    assert again.owner_of(4) is None
    painted(again, (4, (5, 7)))
    assert sorted(handles(again)) == [1, 3, 5]


def test_snapshot_stays_as_it_was_when_the_session_goes_on() -> None:
    session = worked_on()
    snapshot = session.snapshot()
    again = AnnotationSession.from_snapshot(snapshot)
    session.add_predictions((), found(square(2, 2)), keep=Keep.NOTHING)
    session.set_regions((1,), [], name="mark incomplete")
    assert_same_snapshot(again.snapshot(), snapshot)


def test_stale_change_is_undone_to_what_was_there() -> None:
    session = session_with(found(square(0, 0)))
    (there,) = session.visible(())
    stale = replace(there, score=0.7)
    after = replace(there, mask=square(3, 4))
    session.apply(Action(name="move", changes=(Change(index=(), before=stale, after=after),)))
    session.undo()
    (back,) = session.visible(())
    assert (back.score, back.box_xyxy) == (0.9, (0, 0, 3, 3))
