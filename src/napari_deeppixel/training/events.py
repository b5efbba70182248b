"""What a training run tells while it goes: one small dataclass a kind, and their JSON lines."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.training.evaluate import Figures


class EndReason(StrEnum):
    """Why a run ended."""

    DONE = "done"
    EARLY = "early stop"
    STOPPED = "stopped"


@dataclass(frozen=True, kw_only=True)
class RunStarted:
    """What will be trained, on what, and how.

    Attributes
    ----------
    dataset
        Folder of the images.
    start
        Model that training starts from, as `load_model` takes it; empty: random weights.
    device
        torch device.
    num_train, num_val
        Images to learn from and to choose by.
    iterations, first_iteration
        Optimiser steps in all, and those done before (by a run that is resumed).
    categories
        Names, in the order of their class index.
    notes
        What was decided, in sentences: preset, batch, layers, anchors, category rows.
    """

    dataset: Path
    start: str
    device: str
    num_train: int
    num_val: int
    iterations: int
    first_iteration: int
    categories: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class StepEnded:
    """Mean loss of the last steps."""

    iteration: int
    iterations: int
    loss: float
    parts: dict[str, float]
    learning_rate: float
    seconds_left: float


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """Figures of the averaged weights on the validation images."""

    iteration: int
    figures: Figures
    is_best: bool


@dataclass(frozen=True, kw_only=True)
class SamplesDrawn:
    """Pictures (PNG) of validation images with what the averaged weights find in them."""

    iteration: int
    paths: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True)
class Warned:
    """Something that a person should know; the run goes on."""

    message: str


@dataclass(frozen=True, kw_only=True)
class FitEnded:
    """Where the weights are."""

    weights: Path
    iteration: int
    reason: EndReason = EndReason.DONE


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Base, current and new were compared; the file that says how."""

    path: Path
    is_better: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class MistakesFound:
    """Likely mistakes among the annotations were listed in a file."""

    path: Path
    count: int


@dataclass(frozen=True, kw_only=True)
class RunFailed:
    """The error that ended the run."""

    message: str


FitEvent = (
    RunStarted
    | StepEnded
    | Evaluated
    | SamplesDrawn
    | Warned
    | FitEnded
    | Compared
    | MistakesFound
    | RunFailed
)

_KINDS: dict[str, type[Any]] = {
    "started": RunStarted,
    "step": StepEnded,
    "evaluated": Evaluated,
    "samples": SamplesDrawn,
    "warning": Warned,
    "ended": FitEnded,
    "compared": Compared,
    "mistakes": MistakesFound,
    "failed": RunFailed,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def event_to_json(event: FitEvent) -> dict[str, Any]:
    """Return an event as a strict JSON object; ``event`` is its kind, NaN becomes null."""
    return {"event": _NAMES[type(event)], **_plain(asdict(event))}


def event_from_json(value: Mapping[str, Any]) -> FitEvent:
    """Return the event that `event_to_json` wrote; NaN comes back from null.

    Raises
    ------
    DeepPixelError
        If it is none.
    """
    kind = _KINDS.get(str(value.get("event")))
    try:
        if kind is None:
            raise ValueError(f"unknown event {value.get('event')!r}")
        event: FitEvent = kind(**{f.name: _read(f.name, value[f.name]) for f in fields(kind)})
    except (KeyError, TypeError, ValueError) as error:
        raise DeepPixelError(f"no event of a training run ({error!r}): {value!r}") from error
    return event


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path | StrEnum) else value


def _read(name: str, value: Any) -> Any:
    if name in ("dataset", "weights", "path"):
        return Path(value)
    if name == "paths":
        return tuple(Path(each) for each in value)
    if name == "figures":
        return Figures(**{key: _number(each) for key, each in value.items()})
    if name == "parts":
        return {key: _number(each) for key, each in value.items()}
    if name == "reason" and value in tuple(EndReason):
        return EndReason(value)
    if isinstance(value, list):
        return tuple(value)
    return _number(value)


def _number(value: Any) -> Any:
    return float("nan") if value is None else value
