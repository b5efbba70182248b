"""The undo stack: what comes back, what is joined, what is forgotten."""

from tests.edits.made import one, square

from napari_deeppixel.core.instance import Instance
from napari_deeppixel.edits.action import Action, Change
from napari_deeppixel.edits.history import History

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
