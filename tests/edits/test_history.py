"""The undo stack: what comes back, what is joined, what is forgotten."""

import numpy as np
from tests.edits.made import found, one, session_with, square

from napari_deeppixel.core.instance import Instance, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.edits.action import Action, Change
from napari_deeppixel.edits.history import History
from napari_deeppixel.edits.tools import with_state

SMALL, LARGE = one(square(0, 0, 1)), one(square(0, 0, 3))


def step(name: str, before: Instance | None, after: Instance | None) -> Action:
    return Action(name=name, changes=(Change(index=(), before=before, after=after),))


def ends(action: Action | None) -> tuple[Instance | None, Instance | None]:
    assert action is not None
    (change,) = action.changes
    return change.before, change.after


def test_empty_history_gives_nothing_to_undo_or_redo() -> None:
    history = History()
    assert (history.undo(), history.redo()) == (None, None)
    assert (history.undo_name, history.redo_name, len(history)) == ("", "", 0)


def test_undo_gives_the_inverse_of_the_last_step_and_redo_the_step() -> None:
    history = History()
    history.push(step("add", None, SMALL))
    history.push(step("grow", SMALL, LARGE))
    assert (history.undo_name, history.redo_name) == ("grow", "")
    assert ends(history.undo()) == (LARGE, SMALL)
    assert (history.undo_name, history.redo_name) == ("add", "grow")
    assert ends(history.undo()) == (SMALL, None)
    assert ends(history.redo()) == (None, SMALL)
    assert ends(history.redo()) == (SMALL, LARGE)
    assert history.redo() is None


def test_new_step_ends_what_could_be_done_again() -> None:
    history = History()
    history.push(step("add", None, SMALL))
    history.undo()
    history.push(step("add another", None, LARGE))
    assert history.redo_name == ""
    assert history.redo() is None
    assert len(history) == 1


def test_steps_with_the_same_joins_are_taken_back_at_once() -> None:
    history = History()
    history.push(step("add", None, SMALL), joins="run 1")
    history.push(step("grow", SMALL, LARGE), joins="run 1")
    assert len(history) == 1
    assert ends(history.undo()) == (LARGE, None)


def test_steps_with_other_joins_or_none_stay_apart() -> None:
    history = History()
    for joins in ("run 1", "run 2", "", "", "run 2"):
        history.push(step("grow", SMALL, LARGE), joins=joins)
    assert len(history) == 5


def test_step_after_undo_is_not_joined_to_the_one_below() -> None:
    history = History()
    history.push(step("add", None, SMALL))
    history.push(step("run", SMALL, LARGE), joins="run 1")
    history.undo()
    history.push(step("run", SMALL, LARGE), joins="run 1")
    assert len(history) == 2


def test_step_after_redo_is_not_joined_to_what_was_done_again() -> None:
    history = History()
    history.push(step("run", None, SMALL), joins="run 1")
    history.undo()
    history.redo()
    history.push(step("run", SMALL, LARGE), joins="run 1")
    assert len(history) == 2


def test_oldest_steps_beyond_the_limit_are_forgotten() -> None:
    history = History(max_steps=2)
    for name in ("one", "two", "three"):
        history.push(step(name, None, SMALL))
    assert len(history) == 2
    names = [history.undo_name]
    history.undo()
    names.append(history.undo_name)
    history.undo()
    assert names == ["three", "two"]
    assert history.undo() is None


def bulk(name: str, count: int) -> Action:
    changes = [
        Change(index=(), before=None, after=one(square(0, 0), handle=n)) for n in range(count)
    ]
    return Action(name=name, changes=tuple(changes))


def names_of(history: History) -> list[str]:
    """Take everything back; return the names, newest first."""
    names = []
    while history.undo_name:
        names.append(history.undo_name)
        history.undo()
    return names


def test_oldest_steps_beyond_the_number_of_changes_are_forgotten() -> None:
    history = History(max_changes=6)
    for name, count in (("one", 3), ("two", 1), ("three", 2)):
        history.push(bulk(name, count))
    assert len(history) == 3
    history.push(bulk("four", 1))
    assert names_of(history) == ["four", "three", "two"]


def test_newest_step_stays_however_many_instances_it_changes() -> None:
    history = History(max_changes=6)
    history.push(bulk("one", 1))
    history.push(bulk("all", 7))
    assert names_of(history) == ["all"]


def test_changes_that_were_taken_back_or_joined_count_once() -> None:
    history = History(max_changes=6)
    history.push(bulk("one", 3))
    for _ in range(5):
        history.undo()
        history.redo()
    for _ in range(5):
        history.push(bulk("two", 3), joins="run 1")
    assert names_of(history) == ["two", "one"]
    for _ in range(5):
        history.push(bulk("three", 3))
        history.undo()
    history.push(bulk("three", 3))
    history.push(bulk("four", 3))
    assert names_of(history) == ["four", "three"]


def test_a_thousand_steps_of_five_hundred_instances_each_stay() -> None:
    history = History()
    step_of_many = bulk("many", 500)
    for _ in range(1500):
        history.push(step_of_many)
    assert len(history) == 1000


def test_a_step_that_leaves_masks_as_they_are_shares_them() -> None:
    session = session_with(found(square(0, 0), square(3, 4)))
    before = list(session.visible(()))
    refs = [((), instance.uuid) for instance in before]
    session.apply(with_state(session, refs, InstanceState.ACCEPTED))
    action = session.history.top
    assert action is not None
    for change, old in zip(action.changes, before, strict=True):
        assert change.before is not None
        assert change.after is not None
        assert change.before.mask is change.after.mask is old.mask


def test_a_mask_that_goes_from_one_instance_to_another_stays_at_hand() -> None:
    large = CroppedMask(pixels=np.ones((200, 200), np.bool_), y=0, x=0)
    one_gone = Change(index=(), before=one(large, handle=1), after=None)
    one_new = Change(index=(), before=None, after=one(large, handle=2))
    History().push(Action(name="pass on", changes=(one_gone, one_new)))
    assert large.pixels is large.pixels


def test_last_known_is_the_instance_before_it_went() -> None:
    history = History()
    assert history.last_known("uuid 1") is None
    history.push(step("add", None, SMALL))
    history.push(step("grow", SMALL, LARGE))
    history.push(step("delete", LARGE, None))
    assert history.last_known("uuid 1") is LARGE
    assert history.last_known("uuid 2") is None


def test_last_known_looks_into_what_was_taken_back_when_nothing_else_knows() -> None:
    history = History()
    history.push(step("add", None, SMALL))
    history.push(step("grow", SMALL, LARGE))
    history.undo()
    history.undo()
    assert history.last_known("uuid 1") is LARGE
    history.redo()
    assert history.last_known("uuid 1") is SMALL
