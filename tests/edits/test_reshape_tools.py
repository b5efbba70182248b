"""Masks drawn, joined, cut and mended by hand, done and taken back."""

import math
from dataclasses import replace

import numpy as np
import pytest
from tests.edits.tiny import (
    done,
    got,
    new_in,
    picture,
    rect,
    refs_of,
    rows_of,
    session_of,
    state_of,
)

from napari_deeppixel.core.instance import InstanceState
from napari_deeppixel.edits.diff import OverlapRule
from napari_deeppixel.edits.draft import EditError
from napari_deeppixel.edits.reshape_tools import (
    drawn,
    filled,
    grown,
    lasso,
    shrunk,
    smoothed,
    split_along,
    split_at,
    suggested,
    united,
    with_mask,
    without_specks,
)
from napari_deeppixel.edits.tools import deleted, with_category

S = InstanceState
TAKE, KEEP, OVERLAP = OverlapRule.TAKE, OverlapRule.KEEP, OverlapRule.OVERLAP


# -- join and cut -----------------------------------------------------------------------------


def test_largest_instance_of_each_plane_gets_the_pixels_of_the_others() -> None:
    planes = {
        (0,): [rect(0, 0, 1, 1), rect(0, 1, 1, 3), rect(4, 4, 1, 1)],
        (1,): [rect(0, 0, 2, 2), rect(0, 2, 2, 2)],
        (2,): [rect(0, 0)],
    }
    session = session_of(planes)
    done(session, with_category(session, [((0,), "b")], 2))
    handle = got(session, "b", (0,)).handle
    refs = [((0,), "a"), ((0,), "b"), ((1,), "d"), ((1,), "e"), ((2,), "f")]
    action = united(session, refs)
    assert action.name == "unite 4 instances"
    done(session, action)
    united_one = got(session, "b", (0,))
    assert rows_of(united_one.mask) == ["####...."]
    assert (united_one.handle, united_one.category_id, united_one.state) == (handle, 2, S.EDITED)
    assert session.get((0,), "a") is None
    assert state_of(session, "c", (0,)) is S.UNREVIEWED
    # of equal ones the first selected stays
    assert rows_of(got(session, "d", (1,)).mask) == ["####....", "####...."]
    assert session.get((1,), "e") is None
    assert state_of(session, "f", (2,)) is S.UNREVIEWED


def test_one_instance_cannot_be_united() -> None:
    session = session_of({(): [rect(0, 0), rect(3, 4)]})
    assert not united(session, refs_of("a", "gone"))


def test_line_splits_the_selected_instance_and_the_larger_part_keeps_its_identity() -> None:
    # rows 0..1, columns 0..6 and rows 3..4, columns 0..6; the line runs between columns 2 and 3
    session = session_of({(): [rect(0, 0, 2, 7), rect(3, 0, 2, 7)]}, scores=[0.8, 0.9])
    line_yx = [(-1, 2.5), (6, 2.5)]
    action = split_along(session, refs_of("a"), line_yx, index=())
    assert action.name == "split an instance"
    done(session, action)
    a = got(session, "a")
    (new,) = new_in(session)
    assert rows_of(a.mask) == ["...####.", "...####."]
    assert rows_of(new.mask) == ["###.....", "###....."]
    assert (a.handle, a.state, a.score) == (1, S.EDITED, 0.8)
    assert (new.handle, new.state, new.score, new.source) == (3, S.EDITED, 0.8, "model")
    assert math.isnan(new.edge_uncertainty)
    assert state_of(session, "b") is S.UNREVIEWED


def test_line_without_a_selection_splits_all_that_it_crosses_and_none_that_it_ends_in() -> None:
    session = session_of({(): [rect(0, 0, 1, 4), rect(2, 0, 1, 4), rect(4, 0, 2, 4)]})
    line_yx = [(-1, 1.5), (4, 1.5)]  # ends in c, from where it would be carried on
    action = split_along(session, [], line_yx, index=())
    assert action.name == "split 2 instances"
    done(session, action)
    assert [state_of(session, uuid) for uuid in "abc"] == [S.EDITED, S.EDITED, S.UNREVIEWED]
    assert sorted(session.visible(()).areas.tolist()) == [2, 2, 2, 2, 8]
    assert split_along(session, refs_of("c"), line_yx, index=())


def test_line_on_another_plane_or_of_one_point_splits_nothing() -> None:
    session = session_of({(0,): [rect(0, 0)]})
    assert not split_along(session, refs_of("a", index=(0,)), [(-1, 1), (6, 1)], index=(1,))
    assert not split_along(session, [], [(1, 1)], index=(0,))


def test_points_split_an_instance_at_its_neck_into_new_ones() -> None:
    session = session_of({(): [picture("###.####", "########", "###.####")]})
    action = split_at(session, ((), "a"), [(1, 1), (1, 6)])
    done(session, action)
    (new,) = new_in(session)
    parts = [rows_of(got(session, "a").mask), rows_of(new.mask)]
    assert [row[4:] for row in parts[0]] == ["####"] * 3
    assert [row[:3] for row in parts[1]] == ["###"] * 3
    assert got(session, "a").area + new.area == 22
    assert not split_at(session, ((), "a"), [(1, 5)])
    assert not split_at(session, ((), "a"), [])
    assert not split_at(session, ((), "gone"), [(1, 1), (1, 6)])


# -- mend -------------------------------------------------------------------------------------


def test_holes_are_filled_on_two_planes_and_an_instance_without_one_is_left() -> None:
    ring = picture("###", "#.#", "###")
    session = session_of({(0,): [ring, rect(0, 4)], (1,): [ring]})
    action = filled(session, [((0,), "a"), ((0,), "b"), ((1,), "c")])
    assert action.name == "fill 2 instances"
    done(session, action)
    assert got(session, "a", (0,)).mask.equals(rect(0, 0))
    assert got(session, "c", (1,)).mask.equals(rect(0, 0))
    assert state_of(session, "b", (0,)) is S.UNREVIEWED


def test_hole_with_another_instance_in_it_stays_unless_its_pixels_are_taken() -> None:
    masks = [picture("####", "#..#", "####"), rect(1, 1, 1, 1)]
    session = session_of({(): masks})
    done(session, filled(session, refs_of("a")))
    assert rows_of(got(session, "a").mask) == ["####....", "#.##....", "####...."]
    done(session, filled(session, refs_of("a"), rule=TAKE))
    assert got(session, "a").area == 12
    assert state_of(session, "b") is S.REJECTED


def test_specks_go() -> None:
    session = session_of({(): [picture("####...#", "####", "####")]})
    done(session, without_specks(session, refs_of("a")))
    assert got(session, "a").mask.equals(rect(0, 0, 3, 4))
    assert not without_specks(session, refs_of("a"))


def test_smoothing_fills_a_notch_unless_another_instance_there_is_kept() -> None:
    notched = picture("", "###.###", *["#######"] * 4)
    for rule, top_row in ((OVERLAP, "######.."), (TAKE, "######.."), (KEEP, "###.##..")):
        session = session_of({(): [notched, rect(1, 3, 1, 1)]})
        done(session, smoothed(session, refs_of("a"), rule=rule, radius_px=1.0))
        assert rows_of(got(session, "a").mask)[:3] == ["........", top_row, "#######."]
        assert (state_of(session, "a"), session.is_visible((), "b")) == (S.EDITED, rule != TAKE)


def test_growing_over_a_neighbour_follows_the_rule() -> None:
    # a is the pixel [1, 1], b the columns 2..4 beside it
    grown_row, b_row = {}, {}
    for rule in OverlapRule:
        session = session_of({(): [rect(1, 1, 1, 1), rect(0, 2)]})
        done(session, grown(session, refs_of("a"), rule=rule, radius_px=1))
        grown_row[rule] = rows_of(got(session, "a").mask)[1]
        b_row[rule] = rows_of(got(session, "b").mask)[1]
        assert state_of(session, "b") is (S.EDITED if rule is TAKE else S.UNREVIEWED)
    assert grown_row == {TAKE: "###.....", KEEP: "##......", OVERLAP: "###....."}
    assert b_row == {TAKE: "...##...", KEEP: "..###...", OVERLAP: "..###..."}


@pytest.mark.parametrize("rule", [TAKE, KEEP])
def test_instances_that_grow_together_do_not_take_from_each_other(rule: OverlapRule) -> None:
    session = session_of({(): [rect(0, 0, 1, 2), rect(0, 2, 1, 2), rect(0, 6, 1, 2)]})
    done(session, grown(session, refs_of("a", "b"), rule=rule, radius_px=1))
    assert rows_of(got(session, "a").mask) == ["##......", "##......"]
    assert rows_of(got(session, "b").mask) == ["..###...", "..##...."]
    assert not grown(session, refs_of("a", "b"), rule=rule, radius_px=0)


def test_shrinking_takes_a_rim_and_leaves_what_would_vanish() -> None:
    session = session_of({(): [rect(0, 0, 4, 4), rect(2, 6, 1, 1)]})
    action = shrunk(session, refs_of("a", "b"), radius_px=1)
    assert action.name == "shrink an instance"
    done(session, action)
    # the sides at the image's border do not draw back
    assert got(session, "a").mask.equals(rect(0, 0, 3, 3))
    assert state_of(session, "b") is S.UNREVIEWED


def test_rejected_instance_does_not_come_back_when_it_is_still_selected() -> None:
    session = session_of({(): [rect(0, 0, 2, 2), rect(0, 2, 2, 2)]})
    done(session, deleted(session, refs_of("a")))
    assert not grown(session, refs_of("a"), rule=TAKE)
    assert not united(session, refs_of("a", "b"))
    assert not with_mask(session, (), "a", mask=rect(4, 4, 1, 1), rule=TAKE)


# -- draw -------------------------------------------------------------------------------------


def test_drawing_over_an_instance_follows_the_rule() -> None:
    new_rows, a_rows = {}, {}
    for rule in OverlapRule:
        session = session_of({(): [rect(0, 0, 1, 4)]})
        action = drawn(session, (), rect(0, 2, 1, 4), category_id=2, rule=rule)
        assert action.name == "draw an instance"
        done(session, action)
        (new,) = new_in(session)
        assert (new.state, new.source, new.category_id, new.handle) == (S.DRAWN, "person", 2, 2)
        new_rows[rule], a_rows[rule] = rows_of(new.mask), rows_of(got(session, "a").mask)
    assert new_rows == {TAKE: ["..####.."], KEEP: ["....##.."], OVERLAP: ["..####.."]}
    assert a_rows == {TAKE: ["##......"], KEEP: ["####...."], OVERLAP: ["####...."]}


def test_only_the_instance_on_top_loses_a_pixel_and_what_lies_under_it_keeps_its_own() -> None:
    # b scores more and lies on top of a in columns 2 and 3
    session = session_of({(): [rect(0, 0, 1, 4), rect(0, 2, 1, 4)]}, scores=[0.6, 0.9])
    done(session, drawn(session, (), rect(0, 1, 1, 2), category_id=1, rule=TAKE))
    assert rows_of(got(session, "a").mask) == ["#.##...."]
    assert rows_of(got(session, "b").mask) == ["...###.."]


def test_instance_whose_last_pixel_is_taken_is_rejected_with_its_mask_or_goes() -> None:
    session = session_of({(): [rect(0, 0, 1, 1)]})
    done(session, drawn(session, (), rect(0, 1, 1, 1), category_id=1, rule=TAKE))
    (old,) = new_in(session)
    done(session, drawn(session, (), rect(0, 0), category_id=1, rule=TAKE))
    assert state_of(session, "a") is S.REJECTED
    assert got(session, "a").mask.equals(rect(0, 0, 1, 1))
    assert session.get((), old.uuid) is None


def test_nothing_is_drawn_where_others_keep_every_pixel() -> None:
    session = session_of({(): [rect(0, 0)]})
    assert not drawn(session, (), rect(1, 1, 2, 2), category_id=1, rule=KEEP)


def test_hidden_and_rejected_instances_neither_lose_pixels_nor_keep_them() -> None:
    session = session_of({(): [rect(0, 0), rect(0, 0)]}, scores=[0.1, 0.9])
    done(session, deleted(session, refs_of("b")))
    for rule in OverlapRule:
        done(session, drawn(session, (), rect(0, 0, 2, 2), category_id=1, rule=rule))
        assert new_in(session)[0].area == 4
        assert got(session, "a").mask.equals(rect(0, 0))
        assert got(session, "b").mask.equals(rect(0, 0))
        session.undo()


def test_drawing_outside_the_plane_or_in_no_category_is_refused() -> None:
    session = session_of({(): [rect(0, 0)]})
    with pytest.raises(ValueError, match="does not fit"):
        drawn(session, (), rect(4, 0), category_id=1, rule=TAKE)
    with pytest.raises(ValueError, match="does not fit"):
        with_mask(session, (), "a", mask=rect(0, 6), rule=TAKE)
    with pytest.raises(EditError, match="no category 7"):
        drawn(session, (), rect(0, 0), category_id=7, rule=TAKE)


def test_new_mask_takes_only_pixels_that_the_instance_did_not_have() -> None:
    # a and b share column 2, where b is seen; a moves one column to the right
    session = session_of({(): [rect(0, 0, 1, 3), rect(0, 2, 1, 3)]}, scores=[0.6, 0.9])
    done(session, with_mask(session, (), "a", mask=rect(0, 1, 1, 3), rule=TAKE))
    assert rows_of(got(session, "a").mask) == [".###...."]
    assert rows_of(got(session, "b").mask) == ["..#.#..."]
    session.undo()
    done(session, with_mask(session, (), "a", mask=rect(0, 1, 1, 3), rule=KEEP))
    assert rows_of(got(session, "a").mask) == [".##....."]
    session.undo()
    assert not with_mask(session, (), "a", mask=rect(0, 0, 1, 3), rule=TAKE)
    assert not with_mask(session, (), "gone", mask=rect(0, 0), rule=TAKE)


def test_lasso_makes_an_instance_of_the_pixels_with_their_centre_inside() -> None:
    session = session_of({})
    outline_yx = [(0.6, 0.6), (0.6, 3.4), (2.4, 3.4), (2.4, 0.6)]
    done(session, lasso(session, (), outline_yx, category_id=2, rule=TAKE))
    (new,) = new_in(session)
    assert new.mask.equals(rect(1, 1, 2, 3))
    assert (new.category_id, new.state) == (2, S.DRAWN)
    assert not lasso(session, (), [(9, 9), (9, 12), (12, 9)], category_id=2, rule=TAKE)


def test_lasso_adds_to_the_given_instance_and_shows_what_lay_under_another() -> None:
    session = session_of({(): [rect(0, 0, 1, 3), rect(0, 2, 1, 3)]}, scores=[0.6, 0.9])
    outline_yx = [(-0.4, 1.6), (-0.4, 3.4), (0.4, 3.4), (0.4, 1.6)]  # columns 2 and 3
    action = lasso(session, (), outline_yx, ref=((), "a"), category_id=1, rule=TAKE)
    assert action.name == "add to an instance"
    done(session, action)
    assert rows_of(got(session, "a").mask) == ["####...."]
    assert rows_of(got(session, "b").mask) == ["....#..."]
    assert got(session, "a").category_id == 1
    session.undo()
    assert not lasso(session, (), outline_yx, ref=((), "a"), category_id=1, rule=KEEP)


def test_lasso_round_pixels_that_an_instance_has_and_shows_changes_nothing() -> None:
    session = session_of({(): [rect(0, 0)]})
    outline_yx = [(-0.4, -0.4), (-0.4, 1.4), (1.4, 1.4), (1.4, -0.4)]
    for rule in OverlapRule:
        assert not lasso(session, (), outline_yx, ref=((), "a"), category_id=1, rule=rule)


@pytest.mark.parametrize("ref", [((0,), "gone"), ((1,), "b")])
def test_lasso_for_an_instance_that_is_not_there_draws_a_new_one(ref: tuple) -> None:
    session = session_of({(0,): [rect(0, 0)], (1,): [rect(0, 0)]})
    outline_yx = [(3.6, 3.6), (3.6, 5.4), (5.4, 5.4), (5.4, 3.6)]
    done(session, lasso(session, (0,), outline_yx, ref=ref, category_id=1, rule=TAKE))
    (new,) = new_in(session, (0,))
    assert new.mask.equals(rect(4, 4, 2, 2))
    assert new_in(session, (1,)) == []


def test_suggested_instance_is_drawn_by_a_person_with_a_model() -> None:
    session = session_of({(): [rect(0, 0, 1, 4)]})
    made = replace(
        got(session, "a"), mask=rect(0, 2, 2, 2), source="nuclei@1a", score=0.7, category_id=2
    )
    action = suggested(session, (), made, rule=TAKE)
    assert action.name == "add an instance from a box"
    done(session, action)
    (new,) = new_in(session)
    assert (new.state, new.source, new.category_id) == (S.DRAWN, "person+nuclei@1a", 2)
    assert np.isnan(new.score)
    assert (new.handle, rows_of(got(session, "a").mask)) == (2, ["##......"])
