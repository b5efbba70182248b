"""Train a Mask R-CNN: a plain loop that reports, checkpoints and resumes."""

import json
import math
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_deeppixel.core.atomic import atomic_file
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.progress import CancelToken
from napari_deeppixel.engine.base import PredictOptions
from napari_deeppixel.engine.build import build_model
from napari_deeppixel.engine.maskrcnn import MaskRCNNEngine
from napari_deeppixel.engine.precision import run_heads_in
from napari_deeppixel.engine.spec import ModelSpec
from napari_deeppixel.engine.torch_gate import torch
from napari_deeppixel.engine.weights import save_weights
from napari_deeppixel.training.augment import Augmentation, random_crop
from napari_deeppixel.training.evaluate import Figures, average_precision
from napari_deeppixel.training.events import Evaluated, FitEnded, FitEvent, StepEnded
from napari_deeppixel.training.samples import Sample, sampling_weights


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """How to train.

    Attributes
    ----------
    iterations
        Optimiser steps in all.
    batch_size
        Crops a step.
    learning_rate
        AdamW's, after a warm-up of 100 steps; it falls along a cosine over the last 40 %.
    weight_decay
        Of weights with more than one dimension; norms and biases have none.
    clip
        Largest norm of the gradient; a step whose norm is not finite is left out.
    ema
        Share that the averaged weights keep at each step, once warm.
    seed
        Of weights, crops and sampling.
    evaluate_every
        Steps between two evaluations of the averaged weights on the validation images.
    checkpoint_every_s
        Seconds between two checkpoints.
    workers
        Processes that prepare crops; 0 prepares them in this one.
    augmentation
        How far crops may differ from the image.
    """

    iterations: int = 2000
    batch_size: int = 8
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    clip: float = 5.0
    ema: float = 0.998
    seed: int = 0
    evaluate_every: int = 500
    checkpoint_every_s: float = 120.0
    workers: int = 1
    augmentation: Augmentation = field(default_factory=Augmentation)


_REPORT_EVERY = 10
_WARM_UP = 100


def _ignore_interrupts(_worker: int) -> None:
    # Ctrl-C reaches every process of a terminal; the main one decides when to stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class _Crops(torch.utils.data.Dataset[Any]):
    """Crop number n of a run: the same for the same seed, whoever prepares it and when."""

    def __init__(self, samples: list[Sample], spec: ModelSpec, options: FitOptions) -> None:
        self._samples, self._spec, self._options = samples, spec, options
        self._weights = sampling_weights(samples)

    def __len__(self) -> int:
        return self._options.iterations * self._options.batch_size

    def __getitem__(self, number: int) -> tuple[Any, dict[str, Any]]:
        rng = np.random.default_rng((self._options.seed, number))
        sample = self._samples[int(rng.choice(len(self._samples), p=self._weights))]
        return random_crop(
            sample,
            self._spec.normalization,
            self._options.augmentation,
            num_inputs=self._spec.num_inputs,
            rng=rng,
        )


def learning_rate_factor(iteration: int, iterations: int) -> float:
    """Return the share of the full learning rate at a step: warm-up, constant, cosine to 1 %."""
    if iteration < _WARM_UP:
        return (iteration + 1) / _WARM_UP
    progress = (iteration / iterations - 0.6) / 0.4
    return 1.0 if progress <= 0 else 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(progress, 1)))


class _Run:
    """All that changes while training, and can be written to a checkpoint."""

    def __init__(self, spec: ModelSpec, options: FitOptions, device: str) -> None:
        torch.manual_seed(options.seed)
        self.spec, self.options, self.device = spec, options, torch.device(device)
        self.model = build_model(spec).to(self.device)
        self.averaged = torch.optim.swa_utils.AveragedModel(
            self.model, multi_avg_fn=self._average, use_buffers=True
        )
        self.model = self.model.to(memory_format=torch.channels_last)
        run_heads_in(self.model, self._dtype(), self.device.type)
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": options.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=options.learning_rate,
        )
        self.iteration = 0
        self.best = -1.0

    def _dtype(self) -> Any:
        if self.device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
        has_bf16 = torch.backends.cpu.get_cpu_capability() == "AVX512" and (
            torch.ops.mkldnn._is_mkldnn_bf16_supported()
        )
        return torch.bfloat16 if self.device.type == "cpu" and has_bf16 else torch.float32

    def _average(self, averaged: Any, current: Any, count: Any) -> None:
        # young averages follow fast (Tan & Le 2019 train with the same ramp)
        keep = min(self.options.ema, (1 + int(count)) / (10 + int(count)))
        torch.optim.swa_utils.get_ema_multi_avg_fn(keep)(averaged, current, count)

    def step(self, images: list[Any], targets: list[dict[str, Any]]) -> dict[str, float] | None:
        """Return the losses of one optimiser step; None if its gradient was not finite."""
        factor = learning_rate_factor(self.iteration, self.options.iterations)
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.learning_rate * factor
        self.model.train()
        losses = self.model(images, targets)
        self.optimizer.zero_grad(set_to_none=True)
        sum(losses.values()).backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip)
        self.iteration += 1
        if not torch.isfinite(norm):
            return None
        self.optimizer.step()
        self.averaged.update_parameters(self.model)
        return {name: float(loss.detach()) for name, loss in losses.items()}

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all."""
        state = {
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "iteration": self.iteration,
            "best": self.best,
            "rng": torch.get_rng_state(),
            "spec": self.spec.to_json(),
        }
        with atomic_file(path) as file:
            torch.save(state, file)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        if ModelSpec.from_json(state["spec"]).categories != self.spec.categories:
            raise AnnotationError(
                f"{path} was trained on other categories than the dataset has now: choose another "
                "folder for the new run"
            )
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.iteration, self.best = state["iteration"], state["best"]
        torch.set_rng_state(state["rng"].cpu())


def fit(
    spec: ModelSpec,
    train: list[Sample],
    val: list[Sample],
    *,
    run_dir: Path,
    options: FitOptions | None = None,
    device: str = "cpu",
    resume: bool = False,
    cancel: CancelToken | None = None,
) -> Iterator[FitEvent]:
    """Train a network from scratch and yield what happens.

    The averaged weights are evaluated on all validation images; the best so far by AP are in
    ``best.safetensors``, the state to go on from in ``last.pt``.

    Parameters
    ----------
    spec
        Network to train; its categories are those of the samples.
    train, val
        Samples to learn from, and to choose the best weights by.
    run_dir
        Folder for the results; made if missing.
    options
        How to train.
    device
        torch device.
    resume
        Go on from ``last.pt`` where there is one.
    cancel
        Stops after the current step, with a checkpoint.

    Raises
    ------
    AnnotationError
        If the samples' categories are not the network's, or there is nothing to learn from or to
        choose by.
    """
    options = options or FitOptions()
    cancel = cancel or CancelToken()
    if any(sample.instances.categories != spec.categories for sample in (*train, *val)):
        raise AnnotationError("the categories of the images are not those of the model")
    if not train or not val:
        raise AnnotationError(
            f"training needs images to learn from and to choose by, got {len(train)} and {len(val)}"
        )
    run_dir.mkdir(parents=True, exist_ok=True)
    run = _Run(spec, options, device)
    last, best = run_dir / "last.pt", run_dir / "best.safetensors"
    if resume and last.exists():
        run.load(last)
    (run_dir / "options.json").write_text(json.dumps(asdict(options), indent=2), encoding="utf-8")

    saved_at = time.monotonic()
    for event in _steps(run, train, cancel):
        yield event
        is_last = run.iteration >= options.iterations
        if run.iteration % options.evaluate_every == 0 or is_last:
            figures = evaluate_weights(run.averaged.module, spec, val, device=device)
            # without an object to find, the AP is NaN and the latest weights are the best
            is_best = not figures.ap <= run.best
            if is_best or not best.exists():
                run.best = figures.ap
                save_weights(run.averaged.module, _with_figures(run, figures), best)
            run.save(last)
            yield Evaluated(iteration=run.iteration, figures=figures, is_best=is_best)
        elif time.monotonic() - saved_at > options.checkpoint_every_s:
            run.save(last)
            saved_at = time.monotonic()
    run.save(last)
    if not best.exists():
        save_weights(run.averaged.module, spec, best)
    yield FitEnded(weights=best, iteration=run.iteration)


def _with_figures(run: _Run, figures: Figures) -> ModelSpec:
    """Return the spec with how these weights came about and how good they are."""
    made = {
        "iterations": run.iteration,
        "batch_size": run.options.batch_size,
        "seed": run.options.seed,
        "torch": str(torch.__version__),
        "device": run.device.type,
        "validation": asdict(figures),
    }
    return replace(run.spec, provenance=run.spec.provenance | made)


def _steps(run: _Run, train: list[Sample], cancel: CancelToken) -> Iterator[StepEnded]:
    options = run.options
    first = run.iteration * options.batch_size
    loader = torch.utils.data.DataLoader(
        _Crops(train, run.spec, options),
        batch_size=options.batch_size,
        sampler=range(first, options.iterations * options.batch_size),
        num_workers=options.workers,
        collate_fn=list,
        worker_init_fn=_ignore_interrupts,
        # of its own: it would draw from the one that picks proposals, which a resumed run restores
        generator=torch.Generator(),
        prefetch_factor=3 if options.workers else None,
    )
    recent: list[dict[str, float]] = []
    started, first_iteration = time.monotonic(), run.iteration
    for batch in loader:
        if cancel.is_cancelled:
            return
        images = [image.to(run.device) for image, _ in batch]
        targets = [{key: v.to(run.device) for key, v in target.items()} for _, target in batch]
        losses = run.step(images, targets)
        if losses is not None:
            recent.append(losses)
        is_evaluated = run.iteration % options.evaluate_every == 0
        is_last = run.iteration == options.iterations
        if recent and (run.iteration % _REPORT_EVERY == 0 or is_evaluated or is_last):
            parts = {name: float(np.mean([r[name] for r in recent])) for name in recent[0]}
            pace = (time.monotonic() - started) / (run.iteration - first_iteration)
            yield StepEnded(
                iteration=run.iteration,
                iterations=options.iterations,
                loss=sum(parts.values()),
                parts=parts,
                learning_rate=run.optimizer.param_groups[0]["lr"],
                seconds_left=pace * (options.iterations - run.iteration),
            )
            recent.clear()


def evaluate_weights(
    model: Any,
    spec: ModelSpec,
    samples: list[Sample],
    *,
    device: str,
    options: PredictOptions | None = None,
) -> Figures:
    """Return the figures of a network on samples, each image whole and at its own size."""
    engine = MaskRCNNEngine(spec, model, device=device)
    options = options or PredictOptions()
    found = [engine.predict([s.pixels], options)[0].candidates for s in samples]
    return average_precision([s.instances for s in samples], found)
