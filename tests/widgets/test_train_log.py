"""What is known of a run from its events."""

import math
from pathlib import Path
from typing import Any

import pytest
from tests.widgets.train_window import figures, half_a_run, started, step, training_set

from napari_deeppixel.training.evaluate import Figures
from napari_deeppixel.training.events import (
    Compared,
    EndReason,
    Evaluated,
    FitEnded,
    MistakesFound,
    RunFailed,
    RunStarted,
    Warned,
)
from napari_deeppixel.widgets.train_log import RunLog, figures_text, status_of
from napari_deeppixel.widgets.train_progress import why_failed


@pytest.fixture
def start(tmp_path: Path) -> RunStarted:
    return started(training_set(tmp_path))


@pytest.fixture
def log(tmp_path: Path) -> RunLog:
    log = RunLog()
    log.take(half_a_run(training_set(tmp_path)))
    return log


def test_curves_and_the_best_are_gathered(log: RunLog) -> None:
    assert log.losses == {10: 2.0, 50: 1.0}
    assert {at: each.ap for at, each in log.figures.items()} == {25: 0.2, 50: 0.4}
    assert (log.iteration, log.iterations, log.best) == (50, 100, 50)


def test_the_status_tells_step_time_left_and_the_best(log: RunLog) -> None:
    assert status_of(log) == "step 50 of 100 · 2 min left · best AP 0.400, AP50 0.700"


def test_after_the_training_the_status_tells_what_is_done(log: RunLog, start: RunStarted) -> None:
    ended = FitEnded(weights=Path("b"), iteration=60)
    log.take([ended])
    assert status_of(log).startswith("Comparing")
    log.take([Compared(path=Path("c"), is_better=True, reason="")])
    assert status_of(log).startswith("Looking for label mistakes")
    no_val = RunLog()
    no_val.take([RunStarted(**(vars(start) | {"num_val": 0})), ended])
    assert status_of(no_val).startswith("Looking for label mistakes")
    no_val.take([MistakesFound(path=Path("m"), count=0)])
    assert status_of(no_val) == "Ending…"


def test_before_the_first_event_the_run_is_starting() -> None:
    assert status_of(RunLog()).startswith("Starting")


def test_a_resumed_run_forgets_what_came_after_its_checkpoint(
    log: RunLog, start: RunStarted
) -> None:
    log.take([RunFailed(message="no memory")])
    log.take([Compared(path=Path("c"), is_better=True, reason="")])
    log.take([RunStarted(**(vars(start) | {"first_iteration": 30}))])
    assert log.losses == {10: 2.0}
    assert list(log.figures) == [25]
    assert (log.best, log.failed, log.compared) == (25, None, None)


def test_a_resumed_run_is_at_its_checkpoint_before_its_first_step(
    log: RunLog, start: RunStarted
) -> None:
    log.take([RunStarted(**(vars(start) | {"first_iteration": 30}))])
    assert log.iteration == 30


def test_the_log_tells_all_but_the_steps(log: RunLog) -> None:
    log.take([Warned(message="out of memory"), FitEnded(weights=Path("b"), iteration=60)])
    assert log.lines == [
        "Training from nuclei on 2 images, 2 to choose by; on cpu.\n"
        "Preset cpu: 4 crops of 256 px a step.",
        "Step 25: AP 0.200, AP50 0.500, the best so far.",
        "Step 50: AP 0.400, AP50 0.700, the best so far.",
        "Warning: out of memory",
        "Ended after 60 steps.",
    ]


def test_a_log_of_days_keeps_its_newest_lines() -> None:
    log = RunLog()
    log.take([Warned(message=str(number)) for number in range(1000)])
    assert (len(log.lines), log.lines[-1]) == (500, "Warning: 999")


def test_figures_without_an_object_are_no_numbers() -> None:
    nothing = Figures(ap=math.nan, ap50=math.nan, ap75=math.nan, num_images=1, num_objects=0)
    assert figures_text(nothing).startswith("no object")


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (RunFailed(message="no images"), "Training failed: no images\n\nTraceback"),
        (FitEnded(weights=Path("b"), iteration=1, reason=EndReason.STOPPED), ""),
        (step(60, 0.9), "The run ended without saying why"),
    ],
)
def test_why_a_run_did_not_come_to_its_end(log: RunLog, event: Any, told: str) -> None:
    log.take([event])
    found = why_failed(log, "Traceback")
    assert found.startswith(told)
    assert bool(found) == bool(told)


def test_a_better_evaluation_is_the_best_although_it_came_before(log: RunLog) -> None:
    log.take([Evaluated(iteration=75, figures=figures(0.3), is_best=False)])
    assert log.best_figures == figures(0.4)
