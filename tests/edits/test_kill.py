"""What is left when the process is killed in the middle of the work."""

import random
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.edits.scribble import IMAGE, everything, new_session, steps

from napari_deeppixel.edits import journal_files
from napari_deeppixel.edits.journal import open_journal
from napari_deeppixel.edits.recovery import recover
from napari_deeppixel.edits.session import AnnotationSession

KILLS = 24


def work_and_kill(folder: Path, seed: int, seconds: float) -> int:
    """Return the last step that a working process said was over before it was killed."""
    script = Path(__file__).with_name("scribble.py")
    child = subprocess.Popen(
        [sys.executable, str(script), str(folder), str(seed)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    with child, child.stdout:
        first = child.stdout.readline()
        time.sleep(seconds)
        child.kill()
        # a last line may be cut short
        lines = (first + child.stdout.read()).split("\n")[:-1]
    assert lines, "the process died before its first step"
    return int(lines[-1])


def assert_nothing_is_lost(folder: Path, seed: int, last: int) -> None:
    """Assert that each step up to the last one that was over comes back, with its undo stack."""
    session, report = recover(folder)
    assert report.damage == ""
    found = everything(session)
    expected = new_session()
    reached, number = -1, 0

    def compare() -> None:
        nonlocal reached
        if number >= last - 3 and everything(expected) == found:
            reached = number

    # a run of the model that was killed between its categories and its instances
    expected.categories_changed.connect(compare)
    for number in steps(expected, seed):
        compare()
        if number > last:
            break
    assert reached >= last, f"of {last} finished steps of {seed}, {reached} came back"
    _assert_same_undo_stack(session, session_after(reached, seed))


def session_after(last: int, seed: int) -> AnnotationSession:
    """Return the session as it is after a step."""
    session = new_session()
    for number in steps(session, seed):
        if number == last:
            break
    return session


def _assert_same_undo_stack(one: AnnotationSession, other: AnnotationSession) -> None:
    while other.history.undo_name:
        assert one.undo() == other.undo()
    assert instances_of(one) == instances_of(other)
    while other.history.redo_name:
        assert one.redo() == other.redo()
    assert instances_of(one) == instances_of(other)


def instances_of(session: AnnotationSession) -> object:
    """Return the instances of a session, for comparison."""
    return everything(session)["instances"]


def test_kill_at_any_moment_loses_no_finished_step(
    tmp_path: Path, record_testsuite_property: Callable[[str, object], None]
) -> None:
    chance = random.Random(7)
    waits = [chance.uniform(0, 0.8) for _ in range(KILLS)]

    def one(number: int) -> int:
        folder = tmp_path / str(number)
        last = work_and_kill(folder, number, waits[number])
        assert_nothing_is_lost(folder, number, last)
        return last

    # the children mostly sleep and start
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(one, range(KILLS)))
    record_testsuite_property("steps before kills", sum(results))
    # enough was done before the kills for snapshots, and failures of the disk, to come in between
    assert max(results) > 50
    assert sum(results) > 20 * KILLS


def test_lock_of_a_killed_process_is_free_and_of_a_living_one_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    script = Path(__file__).with_name("scribble.py")
    child = subprocess.Popen(
        [sys.executable, str(script), str(folder), "1"], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    with child, child.stdout:
        child.stdout.readline()
        with pytest.raises(journal_files.JournalLockedError, match="in another window since"):
            open_journal(folder, new_session(), image=IMAGE)
        with pytest.raises(journal_files.JournalLockedError):
            recover(folder)
        child.kill()
    session, report = recover(folder)
    with open_journal(folder, session, image=IMAGE, recovered=report) as journal:
        assert journal.flush()
