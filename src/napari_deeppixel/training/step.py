"""One optimiser step: the gradient of many crops, as many at a time as fit the memory."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from napari_deeppixel.core.errors import DeepPixelError, DeviceError
from napari_deeppixel.engine.device import is_out_of_memory
from napari_deeppixel.engine.torch_gate import torch
from napari_deeppixel.training.crops import Crop
from napari_deeppixel.training.state import FitState

_MOST_SKIPPED = 10


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What a step did.

    Attributes
    ----------
    losses
        By name, the mean over all crops and processes; None if the step was left out.
    warnings
        What a person should know.
    """

    losses: dict[str, float] | None
    warnings: tuple[str, ...] = ()


def take_step(state: FitState, crops: Sequence[Crop]) -> StepResult:
    """Train on the crops of a step.

    Where memory runs out, the same crops are taken again, half as many at a time, from then on.

    Raises
    ------
    DeviceError
        If one crop alone does not fit the memory.
    DeepPixelError
        If ten losses or gradients in a row were not finite.
    """
    state.prepare_step()
    warnings = []
    losses = _gradient(state, crops)
    while state.processes.any(losses is None):
        warnings.append(_halve(state))
        losses = _gradient(state, crops)
    assert losses is not None  # the loop above ends with losses in every process
    is_finite = _update(state, losses)
    state.iteration += 1
    if is_finite:
        state.skipped = 0
        return StepResult(losses=state.processes.mean(losses), warnings=tuple(warnings))
    state.skipped += 1
    if state.skipped == 1:
        warnings.append(f"step {state.iteration:,} was left out: its loss is not a finite number")
    if state.skipped >= _MOST_SKIPPED:
        rate = state.options.learning_rate
        raise DeepPixelError(
            f"the loss was not a finite number in {state.skipped} steps in a row (up to step "
            f"{state.iteration:,}): train again with a learning rate below {rate:g}, such as "
            f"--learning-rate {rate / 4:g}"
        )
    return StepResult(losses=None, warnings=tuple(warnings))


def _gradient(state: FitState, crops: Sequence[Crop]) -> dict[str, float] | None:
    """Return the losses, with their gradient in the network; None if memory ran out."""
    state.optimizer.zero_grad(set_to_none=True)
    try:
        return _gradient_of(state, crops)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    # only out here are the activations gone, which the traceback held
    state.optimizer.zero_grad(set_to_none=True)
    if state.device.type == "cuda":
        torch.cuda.empty_cache()
    return None


def _gradient_of(state: FitState, crops: Sequence[Crop]) -> dict[str, float]:
    totals: dict[str, Any] = {}
    for first in range(0, len(crops), state.batch_size):
        batch = [crop.to(state.device) for crop in crops[first : first + state.batch_size]]
        for sampler in state.samplers:
            sampler.seeds = [crop.seed for crop in batch]
        losses = state.model([crop.image for crop in batch], [crop.target for crop in batch])
        share = len(batch) / len(crops)
        total = sum(losses.values()) * (share / state.processes.size)
        state.scaler.scale(total).backward()
        for name, loss in losses.items():
            totals[name] = totals.get(name, 0.0) + loss.detach() * share
    return {name: float(total) for name, total in totals.items()}


def _halve(state: FitState) -> str:
    if state.batch_size == 1:
        crop = state.options.augmentation.crop
        raise DeviceError(
            f"one crop of {crop} px does not fit the memory of {state.device}: use a smaller "
            f"--crop, such as {crop // 2}, or close other programs that use the device"
        )
    state.batch_size //= 2
    return (
        f"out of memory: from step {state.iteration + 1:,} on, {state.batch_size} crops at a time "
        f"instead of {state.options.batch_size}; the step has as many crops as before, but takes "
        "longer"
    )


def _update(state: FitState, losses: dict[str, float]) -> bool:
    """Return whether the gradient was finite; only then the weights have changed."""
    parameters = list(state.model.parameters())
    state.processes.sum_gradients(parameters)
    state.scaler.unscale_(state.optimizer)
    norm = torch.nn.utils.clip_grad_norm_(parameters, state.options.clip)
    has_loss = not state.processes.any(not all(map(math.isfinite, losses.values())))
    is_finite = bool(torch.isfinite(norm))
    if is_finite and has_loss:
        state.scaler.step(state.optimizer)
        state.averaged.update_parameters(state.model)
    state.scaler.update()
    # a scale that was too high for fp16 ends in infinite gradients, too, and falls by itself
    return has_loss and (is_finite or state.scaler.is_enabled())
