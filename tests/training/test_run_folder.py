import json
import math
import multiprocessing
import os
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from napari_deeppixel.core.errors import AnnotationError, DeepPixelError
from napari_deeppixel.training.evaluate import Figures
from napari_deeppixel.training.events import (
    Compared,
    EndReason,
    Evaluated,
    FitEnded,
    FitEvent,
    MistakesFound,
    RunFailed,
    RunStarted,
    SamplesDrawn,
    StepEnded,
    Warned,
    event_from_json,
    event_to_json,
)
from napari_deeppixel.training.run_folder import RunFolder, new_run_folder, runs_of

EVENTS: list[FitEvent] = [
    RunStarted(
        dataset=Path("cells"),
        start="nuclei",
        device="cpu",
        num_train=3,
        num_val=1,
        iterations=50,
        first_iteration=0,
        categories=("nucleus", "debris"),
        notes=("Small GPU: half the crops a step.",),
    ),
    StepEnded(
        iteration=10,
        iterations=50,
        loss=1.5,
        parts={"loss_mask": 1.5},
        learning_rate=1e-3,
        seconds_left=8.0,
    ),
    Evaluated(
        iteration=50,
        figures=Figures(
            ap=0.5,
            ap50=0.75,
            ap75=0.25,
            num_images=1,
            num_objects=4,
            accuracy50=0.625,
            count_error=1.5,
        ),
        is_best=True,
    ),
    SamplesDrawn(iteration=50, paths=(Path("samples/a.png"), Path("samples/b.png"))),
    Warned(message="no image to choose by"),
    FitEnded(weights=Path("best.safetensors"), iteration=50, reason=EndReason.EARLY),
    Compared(path=Path("comparison.json"), is_better=False, reason="done"),
    MistakesFound(path=Path("mistakes.json"), count=3),
    RunFailed(message="out of memory"),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_comes_back_from_its_json_line(event: FitEvent) -> None:
    assert event_from_json(json.loads(json.dumps(event_to_json(event)))) == event


def test_a_figure_that_is_no_number_comes_back_from_null() -> None:
    figures = Figures(ap=math.nan, ap50=0.5, ap75=0.5, num_images=1, num_objects=0)
    value = event_to_json(Evaluated(iteration=1, figures=figures, is_best=True))
    value["figures"]["ap"] = None
    event = event_from_json(value)
    assert isinstance(event, Evaluated)
    assert math.isnan(event.figures.ap)


@pytest.mark.parametrize("value", [{}, {"event": "step"}, {"event": "later than this version"}])
def test_what_is_no_event_is_refused(value: dict[str, Any]) -> None:
    with pytest.raises(DeepPixelError, match="no event of a training run"):
        event_from_json(value)


def test_events_are_read_on_from_where_the_last_whole_line_ended(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.read_events() == ([], 0)
    lines = [f"{json.dumps(event_to_json(event))}\n".encode() for event in EVENTS]
    run.events.write_bytes(lines[0] + b"not ours\n" + lines[1] + lines[2][:20])
    events, offset = run.read_events()
    assert events == EVENTS[:2]
    with run.events.open("ab") as file:
        file.write(lines[2][20:])
    events, offset = run.read_events(offset)
    assert events == [EVENTS[2]]
    assert run.read_events(offset) == ([], run.events.stat().st_size)


def test_a_run_that_was_moved_with_its_dataset_tells_the_files_that_are_there_now(
    tmp_path: Path,
) -> None:
    written = RunFolder(tmp_path / "set" / "runs" / "one")
    written.samples.mkdir(parents=True)
    (tmp_path / "set" / "dataset.json").touch()
    events: list[FitEvent] = [
        RunStarted(**(vars(EVENTS[0]) | {"dataset": tmp_path / "set"})),
        SamplesDrawn(iteration=1, paths=(written.samples / "1.png",)),
        FitEnded(weights=written.best, iteration=1),
        Compared(path=written.comparison, is_better=True, reason=""),
        MistakesFound(path=Path("C:\\set\\runs\\one\\mistakes.json"), count=1),
    ]
    lines = [f"{json.dumps(event_to_json(event))}\n" for event in events]
    written.events.write_text("".join(lines))
    # a copy, too: what it tells must not lead into the original
    shutil.copytree(tmp_path / "set", tmp_path / "copy")
    run = RunFolder(tmp_path / "copy" / "runs" / "one")
    start, samples, ended, compared, mistakes = run.read_events()[0]
    assert isinstance(start, RunStarted)
    assert start.dataset == tmp_path / "copy"
    assert samples == SamplesDrawn(iteration=1, paths=(run.samples / "1.png",))
    assert ended == FitEnded(weights=run.best, iteration=1)
    assert isinstance(compared, Compared)
    assert compared.path == run.comparison
    assert mistakes == MistakesFound(path=run.mistakes, count=1)


def test_a_run_that_lies_elsewhere_keeps_its_dataset(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "elsewhere" / "run")
    run.path.mkdir(parents=True)
    run.events.write_text(f"{json.dumps(event_to_json(EVENTS[0]))}\n")
    assert run.read_events()[0] == [EVENTS[0]]


def _train(path: Path, begun: Any, end: Any) -> None:
    with RunFolder(path).alive():
        begun.set()
        end.wait(30)


def test_a_run_is_alive_as_long_as_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_deeppixel.training.run_folder._FREED_IN_S", 0.0)
    run = RunFolder(tmp_path / "run")
    assert not run.is_alive
    run.path.mkdir()
    context = multiprocessing.get_context("spawn")
    begun, end = context.Event(), context.Event()
    process = context.Process(target=_train, args=(run.path, begun, end))
    process.start()
    assert begun.wait(30)
    assert run.is_alive
    with pytest.raises(AnnotationError, match="another process trains here"), run.alive():
        pass
    process.kill()
    process.join()
    assert not run.is_alive


def test_runs_are_listed_with_the_newest_first(tmp_path: Path) -> None:
    assert runs_of(tmp_path) == []
    made = []
    for day in (3, 4, 4):
        run = new_run_folder(tmp_path, now=datetime(2026, 5, day))
        run.path.mkdir(parents=True)
        run.events.touch()
        made.append(run)
    (tmp_path / "runs" / "something else").mkdir()
    assert runs_of(tmp_path) == made[::-1]
    assert [run.path.name for run in made[1:]] == ["2026-05-04_00-00-00", "2026-05-04_00-00-00_2"]


def test_a_stop_is_asked_for_and_taken_back(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert not run.is_stop_requested
    run.request_stop()
    assert run.is_stop_requested
    asked = run.stop_time_ns
    assert asked is not None
    os.utime(run.path / "stop", ns=(asked - 10**9, asked - 10**9))
    run.request_stop()
    assert run.stop_time_ns != asked - 10**9, "asked once more"
    run.forget_stop()
    assert not run.is_stop_requested
    assert run.stop_time_ns is None
