"""What a run leaves to be read: its events as JSON lines, and TensorBoard's logs."""

import importlib
import json
import math
from pathlib import Path
from typing import Any

import imageio.v3 as iio

from napari_deeppixel.training.events import (
    Evaluated,
    FitEvent,
    SamplesDrawn,
    StepEnded,
    event_to_json,
)
from napari_deeppixel.training.run_folder import RunFolder

_FIGURES = ("ap", "ap50", "ap75", "accuracy50", "count_error")


class RunLog:
    """Writes the events of a run as they come; a resumed run writes on.

    TensorBoard's logs are written where ``tensorboard`` is installed.

    Parameters
    ----------
    run
        The folder, which is there.
    first_iteration
        Steps done before: what TensorBoard has of later ones, from before a crash, is forgotten.
    """

    def __init__(self, run: RunFolder, *, first_iteration: int = 0) -> None:
        self._board = _board(run.tensorboard, first_iteration)
        _end_last_line(run.events)
        self._file = run.events.open("a", encoding="utf-8")

    def write(self, event: FitEvent) -> None:
        """Append an event; others can read it at once."""
        self._file.write(_line(event))
        self._file.flush()
        if self._board is not None:
            _show(event, self._board)

    def close(self) -> None:
        """Let go of the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def append_event(run: RunFolder, event: FitEvent) -> None:
    """Append an event that comes before or after the training itself."""
    _end_last_line(run.events)
    with run.events.open("a", encoding="utf-8") as file:
        file.write(_line(event))


def _line(event: FitEvent) -> str:
    return f"{json.dumps(event_to_json(event), allow_nan=False)}\n"


def _end_last_line(path: Path) -> None:
    """End the line that a process began and did not live to finish."""
    try:
        with path.open("rb+") as file:
            if file.seek(0, 2) and file.seek(-1, 2) >= 0 and file.read(1) != b"\n":
                file.write(b"\n")
    except FileNotFoundError:
        return


def _board(folder: Path, first_iteration: int) -> Any:
    try:
        # a package of its own, which few need
        tensorboard = importlib.import_module("torch.utils.tensorboard")
    except ImportError:
        return None
    return tensorboard.SummaryWriter(str(folder), purge_step=first_iteration or None)


def _show(event: FitEvent, board: Any) -> None:
    match event:
        case StepEnded():
            board.add_scalar("loss/sum", event.loss, event.iteration)
            for name, value in event.parts.items():
                board.add_scalar(f"loss/{name.removeprefix('loss_')}", value, event.iteration)
            board.add_scalar("learning rate", event.learning_rate, event.iteration)
        case Evaluated(figures=figures):
            for name in _FIGURES:
                value = getattr(figures, name)
                # TensorBoard complains on stderr about each number that is none
                if math.isfinite(value):
                    board.add_scalar(f"validation/{name}", value, event.iteration)
            board.flush()
        case SamplesDrawn():
            for number, path in enumerate(event.paths, start=1):
                picture = iio.imread(path)
                board.add_image(f"sample {number}", picture, event.iteration, dataformats="HWC")
