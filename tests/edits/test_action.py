"""Steps of work as values: turned round, and joined."""

import pytest
from tests.edits.made import one, square

from napari_deeppixel.core.instance import InstanceState
from napari_deeppixel.edits.action import Action, Change, RegionsChange

TRIANGLE = ((0.0, 0.0), (4.0, 0.0), (4.0, 3.0))


def test_change_about_two_instances_is_refused() -> None:
    with pytest.raises(ValueError, match=r"uuid 1.*uuid 2"):
        Change(index=(), before=one(square(0, 0)), after=one(square(0, 0), handle=2))


def test_change_about_no_instance_is_refused() -> None:
    with pytest.raises(ValueError, match="got neither"):
        Change(index=(), before=None, after=None)


def test_action_without_changes_is_false_and_regions_alone_are_one() -> None:
    assert not Action(name="nothing")
    assert Action(name="mark", regions=(RegionsChange(index=(), before=(), after=(TRIANGLE,)),))


def test_inverse_swaps_before_and_after_and_goes_backwards() -> None:
    first, second = one(square(0, 0)), one(square(3, 4), handle=2)
    action = Action(
        name="two steps",
        changes=(
            Change(index=(), before=None, after=first),
            Change(index=(), before=second, after=None),
        ),
        regions=(RegionsChange(index=(3,), before=(), after=(TRIANGLE,)),),
    )
    inverse = action.inverse()
    assert inverse.name == "two steps"
    assert [(c.before, c.after) for c in inverse.changes] == [(None, second), (first, None)]
    assert inverse.regions == (RegionsChange(index=(3,), before=(TRIANGLE,), after=()),)


def test_joined_action_goes_from_the_first_before_to_the_last_after() -> None:
    a, b, c = (one(square(0, 0), state=s) for s in list(InstanceState)[:3])
    regions = [RegionsChange(index=(), before=(), after=(TRIANGLE,))]
    regions.append(RegionsChange(index=(), before=(TRIANGLE,), after=(TRIANGLE, TRIANGLE)))
    first = Action(
        name="first", changes=(Change(index=(), before=a, after=b),), regions=(regions[0],)
    )
    later = Action(
        name="later", changes=(Change(index=(), before=b, after=c),), regions=(regions[1],)
    )
    joined = first.then(later)
    assert joined.name == "first"
    assert [(change.before, change.after) for change in joined.changes] == [(a, c)]
    assert [(r.before, r.after) for r in joined.regions] == [((), (TRIANGLE, TRIANGLE))]


def test_instance_that_comes_and_goes_leaves_nothing_in_a_joined_action() -> None:
    came = Action(name="add", changes=(Change(index=(), before=None, after=one(square(0, 0))),))
    assert not came.then(came.inverse())


def test_same_uuid_on_two_planes_is_two_changes_of_a_joined_action() -> None:
    here, there = (
        Action(name="add", changes=(Change(index=(z,), before=None, after=one(square(0, 0))),))
        for z in (0, 1)
    )
    assert [change.index for change in here.then(there).changes] == [(0,), (1,)]
