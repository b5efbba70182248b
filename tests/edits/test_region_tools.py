"""Where every object has been reviewed."""

import pytest
from tests.edits.tiny import done, rect, refs_of, session_of

from napari_deeppixel.core.instance import InstanceState
from napari_deeppixel.edits.region_tools import (
    completed_fraction,
    completed_mask,
    plane_completed,
    region_completed,
    region_removed,
    unreviewed_in,
)
from napari_deeppixel.edits.tools import with_state

# rows 0..1 and columns 0..2 of a plane, as a person draws it
CORNER_YX = [(-0.5, -0.5), (-0.5, 2.5), (1.5, 2.5), (1.5, -0.5)]
CORNER = ((0.0, 0.0), (3.0, 0.0), (3.0, 2.0), (0.0, 2.0))


def test_region_is_kept_as_x_y_on_pixel_edges() -> None:
    session = session_of({})
    action = region_completed(session, (0,), CORNER_YX)
    assert action.name == "mark a region complete"
    done(session, action)
    assert session.regions((0,)) == (CORNER,)
    assert session.regions((1,)) == ()
    mask = completed_mask(session, (0,))
    assert mask is not None
    assert mask.equals(rect(0, 0, 2, 3))
    assert completed_fraction(session, (0,)) == 6 / 48
    assert completed_fraction(session, (1,)) == 0


def test_overlap_of_two_regions_counts_once_and_one_without_a_new_pixel_is_left_out() -> None:
    session = session_of({})
    done(session, region_completed(session, (), CORNER_YX))
    assert not region_completed(session, (), CORNER_YX)
    assert not region_completed(session, (), [(0, 0), (0, 1), (1, 1)])
    assert not region_completed(session, (), [(9, 9), (9, 12), (12, 12)])
    # rows 0..1, columns 2..3
    done(session, region_completed(session, (), [(-0.5, 1.5), (-0.5, 3.5), (1.5, 3.5), (1.5, 1.5)]))
    assert completed_fraction(session, ()) == 8 / 48


def test_whole_plane_takes_the_place_of_its_regions() -> None:
    session = session_of({})
    done(session, region_completed(session, (), CORNER_YX))
    action = plane_completed(session, ())
    done(session, action)
    assert session.regions(()) == (((0, 0), (8, 0), (8, 6), (0, 6)),)
    assert completed_fraction(session, ()) == 1
    assert not plane_completed(session, ())
    assert not region_completed(session, (), CORNER_YX)


def test_region_is_removed_by_its_position() -> None:
    session = session_of({})
    done(session, region_completed(session, (), CORNER_YX))
    done(session, region_completed(session, (), [(2.5, 2.5), (2.5, 7.5), (5.5, 7.5), (5.5, 2.5)]))
    done(session, region_removed(session, (), 1))
    assert session.regions(()) == (CORNER,)
    assert not region_removed(session, (), 1)
    done(session, region_removed(session, (), 0))
    assert session.regions(()) == ()


@pytest.mark.parametrize(
    ("x", "count"),
    [(2, 1), (3, 0)],
)
def test_unreviewed_instance_with_one_pixel_inside_is_counted(x: int, count: int) -> None:
    session = session_of({(): [rect(1, x), rect(0, 0, 1, 1), rect(0, 1, 1, 1)]}, scores=[0.9] * 2)
    done(session, with_state(session, refs_of("b"), InstanceState.ACCEPTED))
    done(session, with_state(session, refs_of("c"), InstanceState.REJECTED))
    assert unreviewed_in(session, CORNER, ()) == count
    assert unreviewed_in(session, ((20.0, 20.0), (30.0, 20.0), (30.0, 30.0)), ()) == 0


def test_hidden_candidates_are_not_counted() -> None:
    session = session_of({(): [rect(0, 0)]}, scores=[0.2])
    assert unreviewed_in(session, CORNER, ()) == 0
