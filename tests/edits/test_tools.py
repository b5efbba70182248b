"""What a person says about instances, done and taken back."""

import pytest
from tests.edits.tiny import HW, done, got, new_in, rect, refs_of, session_of, state_of

from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.edits.diff import OverlapRule
from napari_deeppixel.edits.draft import EditError
from napari_deeppixel.edits.rerun import Keep
from napari_deeppixel.edits.reshape_tools import drawn, grown
from napari_deeppixel.edits.tools import (
    candidate_at,
    deleted,
    deleted_in,
    promoted,
    replace_counts,
    with_category,
    with_state,
)

S = InstanceState


def test_accepting_a_selection_over_two_planes_is_one_step() -> None:
    session = session_of({(0,): [rect(0, 0), rect(3, 4)], (1,): [rect(0, 0)]})
    refs = [((0,), "a"), ((1,), "c"), ((1,), "gone"), ((7,), "a"), ((0,), "a")]
    action = with_state(session, refs, S.ACCEPTED)
    assert action.name == "accept 2 instances"
    done(session, action)
    assert state_of(session, "a", (0,)) is S.ACCEPTED
    assert state_of(session, "b", (0,)) is S.UNREVIEWED
    assert state_of(session, "c", (1,)) is S.ACCEPTED


@pytest.mark.parametrize(
    ("state", "name"),
    [
        (S.REJECTED, "reject an instance"),
        (S.UNSURE, "mark an instance unsure"),
    ],
)
def test_state_goes_and_comes_back_to_unreviewed(state: InstanceState, name: str) -> None:
    session = session_of({(): [rect(0, 0)]})
    action = with_state(session, refs_of("a"), state)
    assert action.name == name
    done(session, action)
    assert state_of(session, "a") is state
    assert session.is_visible((), "a") is (state is not S.REJECTED)
    back = with_state(session, refs_of("a"), S.UNREVIEWED)
    assert back.name == "set an instance back to unreviewed"
    done(session, back)
    assert state_of(session, "a") is S.UNREVIEWED


def test_accepting_what_is_edited_or_drawn_changes_nothing() -> None:
    session = session_of({(): [rect(0, 0, 2, 2)]})
    done(session, grown(session, refs_of("a"), rule=OverlapRule.TAKE))
    done(session, drawn(session, (), rect(4, 6, 1, 1), category_id=1, rule=OverlapRule.TAKE))
    (new,) = new_in(session)
    action = with_state(session, refs_of("a", new.uuid), S.ACCEPTED)
    assert not action
    assert action.name == "accept no instances"
    assert (state_of(session, "a"), state_of(session, new.uuid)) == (S.EDITED, S.DRAWN)


def test_rejected_drawn_instance_is_drawn_again_when_accepted_or_set_back() -> None:
    session = session_of({})
    done(session, drawn(session, (), rect(0, 0), category_id=1, rule=OverlapRule.TAKE))
    (new,) = new_in(session)
    for state in (S.ACCEPTED, S.UNREVIEWED):
        done(session, with_state(session, refs_of(new.uuid), S.REJECTED))
        assert not session.is_visible((), new.uuid)
        done(session, with_state(session, refs_of(new.uuid), state))
        assert state_of(session, new.uuid) is S.DRAWN
    assert not with_state(session, refs_of(new.uuid), S.UNREVIEWED)


def test_edited_is_no_state_to_choose() -> None:
    with pytest.raises(ValueError, match="edited"):
        with_state(session_of({}), [], S.EDITED)


def test_new_category_makes_an_unreviewed_instance_edited_and_leaves_a_rejected_one_out() -> None:
    session = session_of({(): [rect(0, 0), rect(3, 0), rect(3, 4)]})
    done(session, with_state(session, refs_of("b"), S.REJECTED))
    action = with_category(session, refs_of("a", "b"), 2)
    assert action.name == "make 2 instances 'debris'"
    done(session, action)
    assert [got(session, uuid).category_id for uuid in "abc"] == [2, 2, 1]
    assert [state_of(session, uuid) for uuid in "abc"] == [S.EDITED, S.REJECTED, S.UNREVIEWED]
    assert not with_category(session, refs_of("a"), 2)


def test_unknown_category_is_refused_with_those_there_are() -> None:
    session = session_of({(): [rect(0, 0)]})
    with pytest.raises(EditError, match=r"no category 9.*nucleus.*debris"):
        with_category(session, refs_of("a"), 9)


def test_deleting_keeps_what_a_model_found_as_rejected_and_drops_what_was_drawn() -> None:
    session = session_of({(): [rect(0, 0)]})
    done(session, drawn(session, (), rect(3, 4), category_id=1, rule=OverlapRule.TAKE))
    (new,) = new_in(session)
    action = deleted(session, refs_of("a", new.uuid))
    assert action.name == "delete 2 instances"
    done(session, action)
    assert state_of(session, "a") is S.REJECTED
    assert session.get((), new.uuid) is None
    assert not deleted(session, refs_of("a", new.uuid))


def test_outline_deletes_instances_with_more_than_half_of_their_pixels_inside() -> None:
    # columns 0..3 lie inside: all of a, half of b (columns 2..5), none of c
    session = session_of({(): [rect(0, 0, 2, 2), rect(2, 2, 2, 4), rect(4, 5, 2, 2)]})
    outline_yx = [(-0.5, -0.5), (-0.5, 3.5), (5.5, 3.5), (5.5, -0.5)]
    done(session, deleted_in(session, (), outline_yx))
    assert [state_of(session, uuid) for uuid in "abc"] == [S.REJECTED, S.UNREVIEWED, S.UNREVIEWED]
    # one column more, and b has six of its eight pixels inside
    wider_yx = [(-0.5, -0.5), (-0.5, 4.5), (5.5, 4.5), (5.5, -0.5)]
    done(session, deleted_in(session, (), wider_yx))
    assert [state_of(session, uuid) for uuid in "bc"] == [S.REJECTED, S.UNREVIEWED]


def test_outline_beside_the_plane_deletes_nothing() -> None:
    session = session_of({(): [rect(0, 0)]})
    assert not deleted_in(session, (), [(20, 20), (20, 30), (30, 30)])


def test_best_hidden_candidate_under_the_pixel_is_found_and_accepted() -> None:
    masks = [rect(0, 0), rect(0, 1), rect(0, 2), rect(3, 4)]
    session = session_of({(): masks}, scores=[0.2, 0.4, 0.9, 0.3])
    best = candidate_at(session, (), y=1, x=2)
    assert best is not None
    assert best is session.get((), "b")  # a scores less, c is shown
    assert candidate_at(session, (), y=5, x=0) is None
    assert candidate_at(session, (), y=1, x=4) is None
    assert candidate_at(session, (9,), y=1, x=1) is None
    done(session, promoted(session, (), "b"))
    assert session.is_visible((), "b")
    assert state_of(session, "b") is S.ACCEPTED
    assert got(session, "c").mask.equals(rect(0, 2))
    assert sorted(session.visible(()).handles.tolist()) == [1, 2]
    after = candidate_at(session, (), y=1, x=2)
    assert after is not None
    assert after.uuid == "a"
    assert not promoted(session, (), "b")
    assert not promoted(session, (), "gone")


def test_candidate_needs_its_mask_at_the_pixel_not_only_its_box() -> None:
    session = session_of({(): [rect(0, 0, 1, 3)]}, scores=[0.1])
    assert candidate_at(session, (), y=0, x=2) is not None
    done(session, deleted(session, refs_of("a")))
    assert candidate_at(session, (), y=0, x=2) is None  # rejected is no candidate


def test_counts_tell_what_a_run_would_replace() -> None:
    masks = [rect(0, 0, 1, 1), rect(0, 2, 1, 1), rect(0, 4, 1, 1), rect(0, 6, 1, 1)]
    session = session_of({(0,): masks, (1,): [rect(3, 0)]}, scores=[0.9, 0.9, 0.9, 0.1, 0.9])
    done(session, with_state(session, refs_of("a", index=(0,)), S.ACCEPTED))
    done(session, with_state(session, refs_of("b", index=(0,)), S.REJECTED))
    done(session, drawn(session, (1,), rect(0, 0), category_id=1, rule=OverlapRule.TAKE))
    nothing = dict.fromkeys(S, 0)
    # the hidden candidate d does not count
    assert replace_counts(session, [(0,)], Keep.HUMAN) == {**nothing, S.UNREVIEWED: 1}
    both = [(0,), (1,)]
    assert replace_counts(session, both, Keep.EDITED) == {
        **nothing,
        S.UNREVIEWED: 2,
        S.ACCEPTED: 1,
        S.REJECTED: 1,
    }
    everything = replace_counts(session, both, Keep.NOTHING)
    assert everything == {**nothing, S.UNREVIEWED: 2, S.ACCEPTED: 1, S.REJECTED: 1, S.DRAWN: 1}
    session.add_predictions((1,), InstanceSet.empty(HW, session.categories), keep=Keep.NOTHING)
    assert replace_counts(session, [(1,)], Keep.NOTHING) == nothing
