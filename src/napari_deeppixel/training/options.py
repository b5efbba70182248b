"""How to train, and which numbers fit a device."""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from napari_deeppixel.core.atomic import atomic_file
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.engine.spec import ModelSpec
from napari_deeppixel.engine.torch_gate import torch
from napari_deeppixel.training.anchors import scale_in_network
from napari_deeppixel.training.augment import Augmentation
from napari_deeppixel.training.choices import Freeze as Freeze
from napari_deeppixel.training.choices import Preset as Preset


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """How to train. All of it is a function of the step, none of the clock.

    Attributes
    ----------
    iterations
        Optimiser steps in all.
    batch_size
        Crops that a process holds in memory at a time.
    accumulate
        Batches a step: their gradients are averaged, over all processes.
    learning_rate
        AdamW's, after the warm-up; it falls along a cosine over the last 40 %.
    warm_up
        Steps over which the learning rate rises.
    weight_decay
        Of weights with more than one dimension; norms and biases have none.
    clip
        Largest norm of the gradient; a step whose norm is not finite is left out.
    ema
        Share that the averaged weights keep at each step, once warm.
    freeze
        Which layers learn.
    heads_first
        Steps at the beginning in which the body stays as it is, whatever `freeze` says.
    train_batch_norm
        Whether batch norms take their statistics from the crops, as a network from random weights
        needs; otherwise they keep those that they come with.
    seed
        Of weights, crops and sampling.
    evaluate_every
        Steps between two evaluations of the averaged weights on the validation images.
    patience
        Evaluations without a gain, while the learning rate falls, after which the run ends; 0: it
        never ends early.
    checkpoint_every_s
        Seconds between two checkpoints.
    workers
        Processes that prepare crops; 0 prepares them in this one.
    augmentation
        How far crops may differ from the image.

    Raises
    ------
    ValueError
        If a number is out of its range.
    """

    iterations: int = 2000
    batch_size: int = 8
    accumulate: int = 1
    learning_rate: float = 1e-3
    warm_up: int = 100
    weight_decay: float = 0.02
    clip: float = 5.0
    ema: float = 0.998
    freeze: Freeze = Freeze.NONE
    heads_first: int = 0
    train_batch_norm: bool = False
    seed: int = 0
    evaluate_every: int = 500
    patience: int = 0
    checkpoint_every_s: float = 120.0
    workers: int = 1
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for name in ("iterations", "batch_size", "accumulate", "evaluate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")
        for name in ("warm_up", "heads_first", "seed", "patience", "workers"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")

    @property
    def crops_per_step(self) -> int:
        """Crops a step and process."""
        return self.batch_size * self.accumulate

    def freeze_at(self, iteration: int) -> Freeze:
        """Return which layers learn in a step."""
        return Freeze.HEADS if iteration < self.heads_first else self.freeze

    def learning_rate_at(self, iteration: int) -> float:
        """Return the learning rate of a step: warm-up, constant, cosine to 1 %."""
        share = learning_rate_factor(iteration, self.iterations, warm_up=self.warm_up)
        return self.learning_rate * share


# share of the steps after which the learning rate falls
_FALLS_FROM = 0.6


def learning_rate_factor(iteration: int, iterations: int, *, warm_up: int = 100) -> float:
    """Return the share of the full learning rate at a step: warm-up, constant, cosine to 1 %."""
    if iteration < warm_up:
        return (iteration + 1) / warm_up
    progress = (iteration / iterations - _FALLS_FROM) / (1 - _FALLS_FROM)
    return 1.0 if progress <= 0 else 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(progress, 1)))


def is_rate_falling(iteration: int, options: FitOptions) -> bool:
    """Whether a step comes after the learning rate has begun to fall."""
    return iteration > _FALLS_FROM * options.iterations


def write_options(options: FitOptions, path: Path) -> None:
    """Write options as JSON, whole or not at all."""
    with atomic_file(path) as file:
        file.write(json.dumps(asdict(options), indent=2).encode())


def read_options(path: Path) -> FitOptions:
    """Return the options that `write_options` wrote; what an older version did not know is default.

    Raises
    ------
    AnnotationError
        If the file is missing or damaged.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        crops = _known(Augmentation, values.pop("augmentation"))
        values = _known(FitOptions, values)
        values["freeze"] = Freeze(values.get("freeze", Freeze.NONE))
        return FitOptions(augmentation=Augmentation(**crops), **values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AnnotationError(
            f"{path}: the options of the run cannot be read ({error}); start a new run"
        ) from error


def _known(kind: type[Any], values: dict[str, Any]) -> dict[str, Any]:
    names = {each.name for each in fields(kind)}
    # JSON has lists alone
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in values.items()
        if name in names
    }


@dataclass(frozen=True, kw_only=True)
class _Size:
    """What fits a memory: crops at a time and their side, for the slim network and ResNet-50."""

    slim: tuple[int, int]
    resnet50: tuple[int, int]
    is_measured: bool = False


# the CPU's as measured for the prototype (four crops of 256 px: 0.8 s a step on a core); those of
# GPUs are estimates on the safe side, and a batch that does not fit is halved
_SIZES = {
    Preset.CPU: _Size(slim=(4, 256), resnet50=(2, 384), is_measured=True),
    Preset.GPU_8_GB: _Size(slim=(8, 384), resnet50=(2, 512)),
    Preset.GPU_24_GB: _Size(slim=(16, 512), resnet50=(6, 512)),
    Preset.GPU_80_GB: _Size(slim=(32, 512), resnet50=(16, 640)),
}
_SCRATCH_BATCH = 8
# bytes of a GPU up to which a preset is the one for it
_UP_TO = ((12e9, Preset.GPU_8_GB), (45e9, Preset.GPU_24_GB))
# below this many images the heads learn alone at first: the body would learn the images by heart
_FEW_IMAGES = 5
_EVALUATIONS = 20
_PATIENCE = 4


def preset_options(
    preset: Preset,
    *,
    device: str,
    spec: ModelSpec,
    train_hw: Sequence[tuple[int, int]],
    val_hw: Sequence[tuple[int, int]],
    is_from_scratch: bool,
) -> tuple[FitOptions, tuple[str, ...]]:
    """Return options that fit a device, a network and the images, and a sentence on the preset.

    Parameters
    ----------
    preset
        ``auto`` takes the one for the device.
    device
        torch device.
    spec
        The network that will be trained.
    train_hw, val_hw
        Sizes of the images.
    is_from_scratch
        Whether the weights are random at the start.
    """
    preset = _preset_for(device) if preset is Preset.AUTO else preset
    size = _SIZES[preset]
    is_slim = spec.architecture == "maskrcnn_slim"
    batch, crop = size.slim if is_slim else size.resnet50
    # crops are cut at the network's zoom: a larger one keeps some of what surrounds an object
    crop = 32 * round(crop * math.sqrt(spec.zoom) / 32)
    if is_from_scratch:
        batch = max(batch, _SCRATCH_BATCH) if is_slim else batch
        iterations, rate, warm_up = (2000 if preset is Preset.CPU else 4000), 1e-3, 100
    else:
        # 2 images gained most of what they could in 50 steps, 11 images in 100 (measured)
        iterations = min(max(25 * len(train_hw), 100), 1000)
        # at 3e-4, what a model knew of images like these was lost before it was found again
        rate, warm_up = 1e-4, min(100, iterations // 10)
    has_few = len(train_hw) < _FEW_IMAGES and not is_from_scratch
    options = FitOptions(
        iterations=iterations,
        batch_size=batch,
        learning_rate=rate,
        warm_up=warm_up,
        heads_first=iterations // 5 if has_few else 0,
        train_batch_norm=is_from_scratch,
        patience=_PATIENCE,
        workers=1 if preset is Preset.CPU else max(1, min(8, (os.cpu_count() or 1) - 1)),
        augmentation=Augmentation(crop=crop),
    )
    note = f"Preset {preset}."
    if not size.is_measured:
        note += " Its sizes are estimates: a batch that does not fit the memory is halved."
    return with_evaluations(options, spec=spec, val_hw=val_hw), (note,)


def with_evaluations(
    options: FitOptions, *, spec: ModelSpec, val_hw: Sequence[tuple[int, int]]
) -> FitOptions:
    """Return options that evaluate 20 times, or so often that it takes a quarter of the time.

    By pixels, not by the clock, which would choose other weights on a busy day: an evaluation
    costs a forward pass for each pixel, a step about three.
    """
    step = 3 * options.crops_per_step * options.augmentation.crop**2
    evaluation = _area(spec, val_hw)
    # e / (e + n s) = 1/4
    least = math.ceil(3 * evaluation / step)
    every = max(10, math.ceil(options.iterations / _EVALUATIONS), least)
    return replace(options, evaluate_every=every)


def iterations_of(
    epochs: int,
    options: FitOptions,
    *,
    spec: ModelSpec,
    train_hw: Sequence[tuple[int, int]],
    processes: int = 1,
) -> int:
    """Return the steps of some epochs.

    An epoch has as many crops as cover the images once, at least one for each image.
    """
    crops = max(len(train_hw), math.ceil(_area(spec, train_hw) / options.augmentation.crop**2))
    return max(1, math.ceil(epochs * crops / (options.crops_per_step * processes)))


def with_length(options: FitOptions, iterations: int) -> FitOptions:
    """Return options for another number of steps; warm-up and heads first keep their share."""
    share = iterations / options.iterations
    return replace(
        options,
        iterations=iterations,
        warm_up=min(100, round(options.warm_up * share)),
        heads_first=round(options.heads_first * share),
    )


def _area(spec: ModelSpec, sizes_hw: Sequence[tuple[int, int]]) -> float:
    """Return the pixels of images as the network sees them."""
    return sum(math.prod(hw) * scale_in_network(hw, spec) ** 2 for hw in sizes_hw)


def _preset_for(device: str) -> Preset:
    if not device.startswith("cuda"):
        return Preset.CPU
    total = torch.cuda.get_device_properties(device).total_memory
    return next((preset for limit, preset in _UP_TO if total <= limit), Preset.GPU_80_GB)


def sentences_of(options: FitOptions, *, processes: int = 1) -> tuple[str, ...]:
    """Return what was decided, for people."""
    crops = options.crops_per_step * processes
    size = options.augmentation.crop
    told = [
        f"{options.iterations:,} steps of {crops} crop{'s' if crops > 1 else ''} of {size} px, "
        f"learning rate {options.learning_rate:g}; evaluated every {options.evaluate_every} steps."
    ]
    if options.heads_first:
        told.append(f"Until step {options.heads_first:,} the heads alone learn.")
    if options.freeze is not Freeze.NONE:
        what = "heads alone" if options.freeze is Freeze.HEADS else "heads and the last stage"
        told.append(f"Only the {what} learn; the rest of the ResNet stays as it is.")
    if options.train_batch_norm and processes > 1:
        told.append("Batch norms take their statistics from each process's own crops on CPUs.")
    return tuple(told)
