import json
import math
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from napari_deeppixel.training.evaluate import Figures
from napari_deeppixel.training.events import (
    Evaluated,
    FitEvent,
    SamplesDrawn,
    StepEnded,
    Warned,
)
from napari_deeppixel.training.run_folder import RunFolder
from napari_deeppixel.training.run_log import RunLog, append_event


def step(iteration: int) -> StepEnded:
    return StepEnded(
        iteration=iteration,
        iterations=9,
        loss=1.5,
        parts={"loss_mask": 1.5},
        learning_rate=1e-3,
        seconds_left=8.0,
    )


def log(run: RunFolder, *events: FitEvent, first_iteration: int = 0) -> None:
    writer = RunLog(run, first_iteration=first_iteration)
    for event in events:
        writer.write(event)
    writer.close()


def test_events_can_be_read_while_the_run_goes_on(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    writer = RunLog(run)
    writer.write(step(1))
    assert run.read_events()[0] == [step(1)]
    writer.close()


def test_a_line_that_a_dying_process_began_does_not_spoil_the_next(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    log(run, step(1))
    with run.events.open("ab") as file:
        file.write(b'{"event": "step", "itera')
    log(run, step(2))
    append_event(run, Warned(message="late"))
    assert run.read_events()[0] == [step(1), step(2), Warned(message="late")]


def test_lines_are_strict_json(tmp_path: Path) -> None:
    figures = Figures(ap=math.nan, ap50=0.5, ap75=math.inf, num_images=1, num_objects=0)
    log(RunFolder(tmp_path), Evaluated(iteration=1, figures=figures, is_best=True))
    (line,) = (tmp_path / "events.jsonl").read_text(encoding="utf-8").splitlines()

    def refuse(text: str) -> float:
        raise ValueError(text)

    value = json.loads(line, parse_constant=refuse)
    assert (value["figures"]["ap"], value["figures"]["ap75"]) == (None, None)


def test_tensorboard_shows_losses_figures_and_pictures(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra `tensorboard` is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    picture = tmp_path / "a.png"
    iio.imwrite(picture, np.zeros((4, 5, 3), np.uint8))
    figures = Figures(ap=0.25, ap50=0.5, ap75=0.1, num_images=1, num_objects=1)
    run = RunFolder(tmp_path)
    log(
        run,
        step(3),
        Evaluated(iteration=3, figures=figures, is_best=True),
        SamplesDrawn(iteration=3, paths=(picture,)),
    )
    board = EventAccumulator(str(run.tensorboard))
    board.Reload()
    told = {tag: board.Scalars(tag)[0] for tag in board.Tags()["scalars"]}
    assert {tag: told[tag].value for tag in ("loss/sum", "loss/mask", "validation/ap")} == {
        "loss/sum": 1.5,
        "loss/mask": 1.5,
        "validation/ap": 0.25,
    }
    assert told["loss/sum"].step == 3
    (shown,) = board.Images("sample 1")
    assert (shown.width, shown.height) == (5, 4)


def test_a_run_needs_no_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    run = RunFolder(tmp_path)
    log(run, step(1))
    assert run.read_events()[0] == [step(1)]
    assert not run.tensorboard.exists()
