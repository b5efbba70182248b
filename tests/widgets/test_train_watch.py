"""The folder of a run, watched."""

from pathlib import Path
from typing import Any

import pytest
from tests.widgets.review_window import TIMEOUT_MS
from tests.widgets.train_window import (
    half_a_run,
    made_run,
    step,
    training_set,
    write_events,
)

from napari_deeppixel.training.run_folder import RunFolder
from napari_deeppixel.widgets.train_watch import RunWatch, last_lines


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    dataset = training_set(tmp_path)
    run = made_run(dataset)
    write_events(run, half_a_run(dataset))
    return run


@pytest.fixture
def watch(qtbot: Any) -> Any:  # noqa: ARG001  it makes the application
    watch = RunWatch()
    yield watch
    watch.shut_down()


def test_a_run_that_is_over_is_read_once(qtbot: Any, watch: RunWatch, run: RunFolder) -> None:
    run.output.write_text('{"event": "step"}\nTraceback\nKilled\n')
    watch.follow(run)
    qtbot.waitUntil(lambda: watch.is_read and not watch._task.is_running, timeout=TIMEOUT_MS)
    assert (watch.log.iteration, watch.is_alive, watch.tail) == (50, False, "Traceback\nKilled")
    assert not watch._timer.isActive()


def test_a_run_that_is_alive_is_read_until_it_ends(
    qtbot: Any, watch: RunWatch, run: RunFolder
) -> None:
    with run.alive():
        watch.follow(run)
        qtbot.waitUntil(lambda: watch.is_alive, timeout=TIMEOUT_MS)
        write_events(run, [step(60, 0.9)])
        qtbot.waitUntil(lambda: watch.log.iteration == 60, timeout=TIMEOUT_MS)
    with qtbot.waitSignal(watch.ended, timeout=TIMEOUT_MS):
        pass
    assert not watch.is_alive


def test_what_the_last_run_still_says_is_dropped(
    qtbot: Any, watch: RunWatch, run: RunFolder
) -> None:
    watch.follow(run)
    watch.follow(None)
    qtbot.wait(100)
    assert (watch.run, watch.log.losses, watch.is_read) == (None, {}, False)


def test_a_run_whose_folder_is_gone_is_over(qtbot: Any, watch: RunWatch, tmp_path: Path) -> None:
    watch.follow(RunFolder(tmp_path / "gone"), is_alive=True)
    with qtbot.waitSignal(watch.ended, timeout=TIMEOUT_MS):
        pass
    assert watch.log.started is None


def test_the_last_lines_of_a_long_output_are_few(tmp_path: Path) -> None:
    path = tmp_path / "output.txt"
    path.write_text("".join(f"line {number}\n" for number in range(10_000)))
    assert last_lines(path).splitlines()[0] == "line 9988"
    assert len(last_lines(path).splitlines()) == 12
    assert last_lines(tmp_path / "none") == ""
