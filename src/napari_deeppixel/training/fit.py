"""Train a Mask R-CNN: a loop that reports, evaluates, checkpoints and resumes."""

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.progress import CancelToken
from napari_deeppixel.engine.base import PredictOptions
from napari_deeppixel.engine.maskrcnn import MaskRCNNEngine
from napari_deeppixel.engine.spec import ModelSpec
from napari_deeppixel.engine.torch_gate import torch
from napari_deeppixel.engine.weights import save_weights
from napari_deeppixel.training.crops import crops_of_steps
from napari_deeppixel.training.distributed import joined_processes
from napari_deeppixel.training.evaluate import Figures, figures_of
from napari_deeppixel.training.events import (
    EndReason,
    Evaluated,
    FitEnded,
    FitEvent,
    SamplesDrawn,
    StepEnded,
    Warned,
)
from napari_deeppixel.training.options import FitOptions, write_options
from napari_deeppixel.training.pictures import draw_pictures, picture_positions
from napari_deeppixel.training.run_folder import RunFolder
from napari_deeppixel.training.run_log import RunLog
from napari_deeppixel.training.samples import Sample, mean_the_same
from napari_deeppixel.training.start import StartingPoint
from napari_deeppixel.training.state import FitState
from napari_deeppixel.training.step import StepResult, take_step

_SHORT_RUN = 500


def fit(
    start: StartingPoint,
    train: Sequence[Sample],
    val: Sequence[Sample],
    *,
    run: RunFolder,
    options: FitOptions | None = None,
    device: str = "cpu",
    resume: bool = False,
    cancel: CancelToken | None = None,
) -> Iterator[FitEvent]:
    """Train a network and yield what happens.

    The averaged weights are evaluated on all validation images; the best so far by AP, ties by
    AP50, are in ``best.safetensors``, the state to go on from in ``last.pt``. Trained weights that
    a run starts from are evaluated, too, and stay the best unless others find more. Without a
    validation image the latest averaged weights count as the best. The run ends, with a checkpoint,
    after the step in which it is asked to by `cancel` or `RunFolder.request_stop`.

    A run on CPUs that is resumed, after whatever end, comes to the same weights, bit for bit, as
    one that was not interrupted, given the same threads.

    Parameters
    ----------
    start
        The network to train, which changes, and its spec; categories are those of the samples.
    train, val
        Samples to learn from, and to choose the best weights by.
    run
        Folder for the results; made if missing.
    options
        How to train.
    device
        torch device.
    resume
        Go on from ``last.pt`` where there is one.
    cancel
        Stops after the current step.

    Raises
    ------
    AnnotationError
        If the samples' categories are not the network's, or there is nothing to learn from.
    DeviceError
        If one crop does not fit the device's memory.
    DeepPixelError
        If the loss is no longer a finite number.
    """
    options = options or FitOptions()
    _check_categories([*train, *val], start.spec)
    if not train:
        raise AnnotationError("training needs images to learn from, got none")
    run.path.mkdir(parents=True, exist_ok=True)
    with joined_processes(device) as processes, _repeatable(device):
        state = FitState(start.spec, start.model, options, processes)
        is_resumed = resume and run.last.exists()
        if is_resumed:
            state.load(run.last)
        if processes.is_first:
            # before the checkpoint, which nobody can go on from without them
            write_options(options, run.options)
            if not is_resumed:
                state.save(run.last)
        # from here on all have read what the first may now replace
        processes.any(False)
        events = _Fit(state, train, val, run, cancel or CancelToken()).events()
        if not processes.is_first:
            yield from events
            return
        log = RunLog(run, first_iteration=state.iteration)
        try:
            for event in events:
                log.write(event)
                yield event
        finally:
            log.close()


def _check_categories(samples: Sequence[Sample], spec: ModelSpec) -> None:
    for sample in samples:
        found = sample.instances.categories
        if not mean_the_same(found, spec.categories):
            raise AnnotationError(
                f"{sample.path}: its categories ({_listed(found)}) are not those to learn "
                f"({_listed(spec.categories)}): give all images one list, with the same ids"
            )


def _listed(categories: CategoryTable) -> str:
    return ", ".join(f"{each.id} {each.name}" for each in categories.categories)


class _Fit:
    """One run, or what is left of it."""

    def __init__(
        self,
        state: FitState,
        train: Sequence[Sample],
        val: Sequence[Sample],
        run: RunFolder,
        cancel: CancelToken,
    ) -> None:
        self._state, self._train, self._val = state, train, val
        self._run, self._cancel = run, cancel
        self._options, self._processes = state.options, state.processes
        self._engine = MaskRCNNEngine(
            state.spec, state.averaged.module, device=self._processes.device
        )

    def events(self) -> Iterator[FitEvent]:
        """Train to the end and yield what happens."""
        state = self._state
        if not self._val:
            yield Warned(
                message="no image to choose by: the latest weights are kept, however good they are"
            )
        elif state.is_untouched and "start" in state.spec.provenance:
            # no weights are better than these until they have shown it
            yield from self._evaluate()
        reason = EndReason.EARLY if state.has_settled else EndReason.DONE
        if reason is EndReason.DONE:
            reason = yield from self._steps()
        if state.is_start_best and reason is not EndReason.STOPPED:
            yield Warned(
                message="training came to no weights that find more on the images to choose by "
                "than those that it started from: these are kept"
            )
        if self._processes.is_first:
            state.save(self._run.last)
            if not self._run.best.exists() or not self._val:
                save_weights(state.averaged.module, self._described(None), self._run.best)
        yield FitEnded(weights=self._run.best, iteration=state.iteration, reason=reason)

    def _steps(self) -> Generator[FitEvent, None, EndReason]:
        state, options = self._state, self._options
        recent: list[dict[str, float]] = []
        begun, first, saved_at = time.monotonic(), state.iteration, time.monotonic()
        crops = crops_of_steps(
            self._train,
            state.spec,
            options,
            first_iteration=first,
            processes=self._processes,
        )
        for crops_of_step in crops:
            if self._processes.any(self._cancel.is_cancelled or self._run.is_stop_requested):
                return EndReason.STOPPED
            result: StepResult = take_step(state, crops_of_step)
            yield from (Warned(message=warning) for warning in result.warnings)
            if result.losses is not None:
                recent.append(result.losses)
            is_last = state.iteration == options.iterations
            is_evaluated = state.iteration % options.evaluate_every == 0 or is_last
            if recent and (is_evaluated or state.iteration % self._report_every() == 0):
                pace = (time.monotonic() - begun) / (state.iteration - first)
                yield self._mean(recent, pace)
                recent.clear()
            if is_evaluated:
                yield from self._evaluate()
                if state.has_settled:
                    return EndReason.EARLY
            elif time.monotonic() - saved_at > options.checkpoint_every_s:
                if self._processes.is_first:
                    state.save(self._run.last)
                saved_at = time.monotonic()
        return EndReason.DONE

    def _report_every(self) -> int:
        return 5 if self._options.iterations <= _SHORT_RUN else 10

    def _mean(self, recent: list[dict[str, float]], pace: float) -> StepEnded:
        iteration, iterations = self._state.iteration, self._options.iterations
        parts = {name: float(np.mean([losses[name] for losses in recent])) for name in recent[0]}
        return StepEnded(
            iteration=iteration,
            iterations=iterations,
            loss=sum(parts.values()),
            parts=parts,
            learning_rate=self._options.learning_rate_at(iteration - 1),
            seconds_left=pace * (iterations - iteration),
        )

    def _evaluate(self) -> Iterator[FitEvent]:
        """Evaluate, keep the best, then write the checkpoint that knows of it.

        In this order: a run that dies in between evaluates the same weights again.
        """
        state, run = self._state, self._run
        if not self._val:
            if self._processes.is_first:
                save_weights(state.averaged.module, self._described(None), run.best)
                state.save(run.last)
            return
        found, figures = [], None
        if self._processes.is_first:
            found = find_instances(self._engine, self._val)
            figures = figures_of(self._val, found, state.spec.score)
        figures = self._processes.from_first(figures)
        is_best = state.note(figures)
        if self._processes.is_first:
            if is_best or not run.best.exists():
                save_weights(state.averaged.module, self._described(figures), run.best)
            state.save(run.last)
        yield Evaluated(iteration=state.iteration, figures=figures, is_best=is_best)
        if self._processes.is_first:
            yield self._draw(found)

    def _draw(self, found: Sequence[InstanceSet]) -> SamplesDrawn:
        spec = self._state.spec
        positions = picture_positions(len(self._val))
        paths = draw_pictures(
            [self._val[n] for n in positions],
            [found[n].select(found[n].scores >= spec.score) for n in positions],
            normalization=spec.normalization,
            folder=self._run.samples,
            iteration=self._state.iteration,
        )
        return SamplesDrawn(iteration=self._state.iteration, paths=paths)

    def _described(self, figures: Figures | None) -> ModelSpec:
        """Return the spec with how these weights came about and how good they are."""
        options, processes = self._options, self._processes
        made: dict[str, Any] = {
            "iterations": self._state.iteration,
            "batch_size": options.crops_per_step * processes.size,
            "seed": options.seed,
            "torch": str(torch.__version__),
            "device": self._state.device.type,
        }
        if figures is not None:
            made["validation"] = asdict(figures)
        spec = self._state.spec
        return replace(spec, provenance=spec.provenance | made)


@contextmanager
def _repeatable(device: str) -> Iterator[None]:
    """Let sums come in one order, so that a resumed run ends as one that was not interrupted.

    On CPUs alone: on CUDA, torchvision's RoIAlign would need a slow way, and what remains there
    are differences in the last digits of a gradient.
    """
    before = torch.are_deterministic_algorithms_enabled()
    if not device.startswith("cuda"):
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def find_instances(engine: MaskRCNNEngine, samples: Sequence[Sample]) -> list[InstanceSet]:
    """Return what an engine finds in each sample, whole and at its own size, weak ones included."""
    options = PredictOptions()
    return [engine.predict([sample.pixels], options)[0].candidates for sample in samples]
