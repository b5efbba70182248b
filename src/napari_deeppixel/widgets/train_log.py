"""What is known of a training run: its events, gathered."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from napari_deeppixel.core.progress import duration
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
)

# lines of the log that are kept; steps come every few seconds, for days
_MAX_LINES = 500


@dataclass
class RunLog:
    """The events of one run so far.

    Attributes
    ----------
    started, step, ended, compared, mistakes, failed
        The newest of its kind; None before there is one. A run that is resumed forgets how it
        ended before.
    losses
        Iteration → mean loss.
    figures
        Iteration → figures on the validation images.
    best
        Iteration of the best figures.
    samples
        The newest pictures.
    warnings
        What a person should know.
    lines
        All but the steps, for people.
    """

    started: RunStarted | None = None
    step: StepEnded | None = None
    ended: FitEnded | None = None
    compared: Compared | None = None
    mistakes: MistakesFound | None = None
    failed: RunFailed | None = None
    losses: dict[int, float] = field(default_factory=dict)
    figures: dict[int, Figures] = field(default_factory=dict)
    best: int | None = None
    samples: SamplesDrawn | None = None
    warnings: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def take(self, events: Iterable[FitEvent]) -> None:
        """Add events, in the order in which they were written."""
        for event in events:
            self._take(event)
            line = line_of(event)
            if line:
                self.lines.append(line)
        del self.lines[:-_MAX_LINES]

    def _take(self, event: FitEvent) -> None:
        match event:
            case RunStarted():
                self._start(event)
            case StepEnded():
                self.step = event
                self.losses[event.iteration] = event.loss
            case Evaluated():
                self.figures[event.iteration] = event.figures
                if event.is_best:
                    self.best = event.iteration
            case SamplesDrawn():
                self.samples = event
            case Warned():
                self.warnings.append(event.message)
            case FitEnded():
                self.ended = event
            case Compared():
                self.compared = event
            case MistakesFound():
                self.mistakes = event
            case RunFailed():
                self.failed = event

    def _start(self, event: RunStarted) -> None:
        self.started, self.step, self.ended, self.failed = event, None, None, None
        # of weights that are not the best any more
        self.compared, self.mistakes = None, None
        # what came after the checkpoint is done again
        first = event.first_iteration
        self.losses = {at: loss for at, loss in self.losses.items() if at <= first}
        self.figures = {at: each for at, each in self.figures.items() if at <= first}
        if self.best is not None and self.best > first:
            self.best = max(self.figures, key=lambda at: self.figures[at].ap, default=None)

    @property
    def iteration(self) -> int:
        """Optimiser steps that are done."""
        done = 0 if self.started is None else self.started.first_iteration
        return max(done, 0 if self.step is None else self.step.iteration)

    @property
    def iterations(self) -> int:
        """Optimiser steps in all; 0 while it is not known."""
        if self.step is not None:
            return self.step.iterations
        return 0 if self.started is None else self.started.iterations

    @property
    def best_figures(self) -> Figures | None:
        """Figures of the best weights so far."""
        return None if self.best is None else self.figures.get(self.best)


def line_of(event: FitEvent) -> str:
    """Return an event as a line for people; empty for those that the curves show."""
    match event:
        case RunStarted():
            start = event.start or "random weights"
            return "\n".join(
                [
                    f"Training from {start} on {event.num_train:,} images, {event.num_val:,} to "
                    f"choose by; on {event.device}.",
                    *event.notes,
                ]
            )
        case Evaluated():
            best = ", the best so far" if event.is_best else ""
            return f"Step {event.iteration:,}: {figures_text(event.figures)}{best}."
        case Warned():
            return f"Warning: {event.message}"
        case FitEnded():
            how = {EndReason.STOPPED: "Stopped", EndReason.EARLY: "Ended early"}
            return f"{how.get(event.reason, 'Ended')} after {event.iteration:,} steps."
        case Compared():
            return event.reason
        case MistakesFound():
            return f"{event.count:,} likely mistakes among the annotations."
        case RunFailed():
            return f"Failed: {event.message}"
    return ""


def figures_text(figures: Figures) -> str:
    """Return figures in a few words."""
    shown = (
        ("AP", figures.ap),
        ("AP50", figures.ap50),
        ("accuracy", figures.accuracy50),
    )
    return ", ".join(f"{name} {value:.3f}" for name, value in shown if not math.isnan(value)) or (
        "no object to find in the validation images"
    )


def _afterwards(log: RunLog) -> str:
    """Return what a run does that has its weights."""
    if log.compared is None and log.mistakes is None and log.started and log.started.num_val:
        return "Comparing the new model with the one in use…"
    if log.mistakes is None:
        return "Looking for label mistakes…"
    return "Ending…"


def status_of(log: RunLog) -> str:
    """Return where a run that is alive is, in a line."""
    if log.started is None:
        return "Starting: loading PyTorch and the images…"
    if log.ended is not None:
        return _afterwards(log)
    parts = [f"step {log.iteration:,} of {log.iterations:,}"]
    if log.step is not None and math.isfinite(log.step.seconds_left):
        parts.append(f"{duration(log.step.seconds_left)} left")
    if log.best_figures is not None:
        parts.append(f"best {figures_text(log.best_figures)}")
    return " · ".join(parts)
