"""Instances carried from plane to plane."""

import pytest
from tests.edits.tiny import done, got, new_in, rect, refs_of, session_of

from napari_deeppixel.core.instance import InstanceState
from napari_deeppixel.edits.diff import OverlapRule
from napari_deeppixel.edits.draft import EditError
from napari_deeppixel.edits.planes_tools import copied_to, interpolated
from napari_deeppixel.edits.tools import with_category

TAKE, KEEP = OverlapRule.TAKE, OverlapRule.KEEP


def test_copies_are_drawn_on_the_other_plane_and_not_on_their_own() -> None:
    session = session_of({(0,): [rect(0, 0), rect(3, 4)], (1,): [rect(0, 4, 1, 1)]})
    done(session, with_category(session, refs_of("b", index=(0,)), 2))
    refs = [((0,), "a"), ((0,), "b"), ((0,), "gone"), ((1,), "c")]
    action = copied_to(session, refs, (1,))
    assert action.name == "copy 2 instances to another plane"
    done(session, action)
    first, second = new_in(session, (1,))
    assert first.mask.equals(rect(0, 0))
    assert second.mask.equals(rect(3, 4))
    assert (first.category_id, second.category_id) == (1, 2)
    assert first.state is second.state is InstanceState.DRAWN
    assert len(session.visible((1,))) == 3
    assert len(session.visible((0,))) == 2
    assert len({i.handle for z in (0, 1) for i in session.visible((z,))}) == 5


def test_copy_has_a_mask_of_its_own_over_the_same_pixels() -> None:
    session = session_of({(0,): [rect(0, 0)], (1,): []})
    done(session, copied_to(session, refs_of("a", index=(0,)), (1,)))
    (copy,) = new_in(session, (1,))
    original = got(session, "a", (0,))
    # the history packs masks, not pixels
    assert copy.mask is not original.mask
    assert copy.mask.pixels is original.mask.pixels


def test_copy_follows_the_rule_where_another_instance_is() -> None:
    session = session_of({(0,): [rect(0, 0)], (1,): [rect(0, 2, 1, 2)]})
    done(session, copied_to(session, refs_of("a", index=(0,)), (1,), rule=TAKE))
    assert got(session, "b", (1,)).mask.equals(rect(0, 3, 1, 1))
    session.undo()
    done(session, copied_to(session, refs_of("a", index=(0,)), (1,)))
    assert got(session, "b", (1,)).mask.equals(rect(0, 2, 1, 2))


def test_copies_of_overlapping_instances_overlap_only_if_that_is_allowed() -> None:
    columns = {}
    for rule in OverlapRule:
        session = session_of({(0,): [rect(0, 0, 1, 3), rect(0, 2, 1, 3)], (1,): []})
        done(session, copied_to(session, refs_of("a", "b", index=(0,)), (1,), rule=rule))
        columns[rule] = [(i.box_xyxy[0], i.box_xyxy[2]) for i in new_in(session, (1,))]
    apart, over = [(0, 3), (3, 5)], [(0, 3), (2, 5)]
    assert columns == {TAKE: apart, KEEP: apart, OverlapRule.OVERLAP: over}


@pytest.mark.parametrize("is_backward", [False, True])
def test_instances_are_drawn_on_all_planes_between_two(is_backward: bool) -> None:
    session = session_of({(2, 5): [rect(0, 0)], (2, 1): [rect(0, 4)]})
    done(session, with_category(session, [((2, 5), "a"), ((2, 1), "b")], 2))
    ends = [((2, 5), "a"), ((2, 1), "b")]
    one, other = ends[::-1] if is_backward else ends
    action = interpolated(session, one, other, rule=TAKE)
    assert action.name == "fill in 3 of 3 planes between two instances"
    done(session, action)
    for z, x in ((4, 1), (3, 2), (2, 3)):
        (new,) = session.visible((2, z))
        assert new.mask.equals(rect(0, x))
        assert (new.category_id, new.state) == (2, InstanceState.DRAWN)
    assert session.plane_indices == [(2, 1), (2, 2), (2, 3), (2, 4), (2, 5)]


def test_name_tells_on_how_many_planes_others_left_room() -> None:
    planes = {(0,): [rect(0, 0)], (1,): [rect(0, 0, 4, 4)], (3,): [rect(0, 0)]}
    session = session_of(planes)
    action = interpolated(session, ((0,), "a"), ((3,), "c"), rule=KEEP)
    assert action.name == "fill in 1 of 2 planes between two instances"
    done(session, action)
    assert len(session.visible((2,))) == 1


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        (((0, 0), "a"), ((0, 0), "b"), "both are on plane"),
        (((0, 0), "a"), ((1, 4), "d"), "differ in more"),
        (((0, 0), "a"), ((0, 1), "c"), "neighbours"),
        (((0, 0), "a"), ((0, 4), "gone"), "no longer shown"),
    ],
)
def test_two_instances_without_planes_between_are_refused_with_what_to_do(
    one: tuple, other: tuple, message: str
) -> None:
    planes = {(0, 0): [rect(0, 0), rect(3, 4)], (0, 1): [rect(0, 0)], (1, 4): [rect(0, 0)]}
    session = session_of(planes)
    with pytest.raises(EditError, match=message) as refused:
        interpolated(session, one, other, rule=TAKE)
    assert "select" in str(refused.value)
