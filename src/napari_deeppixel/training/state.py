"""All that changes while a network is trained, and what of it a checkpoint holds."""

import math
from pathlib import Path
from typing import Any

from napari_deeppixel.core.atomic import atomic_file
from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.engine.precision import run_heads_in
from napari_deeppixel.engine.spec import ModelSpec
from napari_deeppixel.engine.torch_gate import torch
from napari_deeppixel.training.choices import Freeze
from napari_deeppixel.training.crops import CropSampler
from napari_deeppixel.training.distributed import Processes
from napari_deeppixel.training.evaluate import Figures
from napari_deeppixel.training.ignore import respect_ignored
from napari_deeppixel.training.options import FitOptions, is_rate_falling
from napari_deeppixel.training.samples import mean_the_same

_BATCH_NORM = torch.nn.modules.batchnorm._BatchNorm


class FitState:
    """A network in training with its average, its optimiser and the best figures so far.

    Parameters
    ----------
    spec
        What the network says about itself.
    model
        The network with the weights to start from; it is trained in place.
    options
        How to train.
    processes
        This process among those that train together.

    Attributes
    ----------
    iteration
        Steps done.
    batch_size
        Crops at a time; below the one of the options once memory has run out.
    skipped
        Steps in a row that were left out for a loss or gradient that was not finite.
    best
        Mask AP and AP50 of the best weights; below 0 before the first evaluation.
    best_trained
        The same without the weights that training started from.
    without_gain
        Evaluations since the best of these.
    """

    def __init__(
        self, spec: ModelSpec, model: Any, options: FitOptions, processes: Processes
    ) -> None:
        self.spec, self.options, self.processes = spec, options, processes
        self.device = torch.device(processes.device)
        self.model = model.to(self.device)
        processes.share(self.model)
        self.averaged = torch.optim.swa_utils.AveragedModel(
            self.model, multi_avg_fn=self._average, use_buffers=True
        )
        self.model = self._with_shared_statistics().to(memory_format=torch.channels_last)
        respect_ignored(self.model)
        self.samplers = CropSampler.install(self.model)
        dtype = training_dtype(self.device)
        run_heads_in(self.model, dtype, self.device.type)
        # fp16 has no numbers for small gradients: they are scaled up (Micikevicius et al. 2018)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=dtype == torch.float16)
        self.optimizer = self._make_optimizer()
        self.iteration, self.batch_size, self.skipped = 0, options.batch_size, 0
        self.best = self.best_trained = (-1.0, -1.0)
        self.without_gain = 0
        self._frozen: Freeze | None = None

    def _with_shared_statistics(self) -> Any:
        # for GPUs alone: on CPUs each process takes statistics of its own crops, and those of the
        # first one are kept
        is_shared = self.processes.size > 1 and self.device.type == "cuda"
        if not (is_shared and self.options.train_batch_norm):
            return self.model
        return torch.nn.SyncBatchNorm.convert_sync_batchnorm(self.model)

    def _make_optimizer(self) -> Any:
        parameters = list(self.model.parameters())
        decay = self.options.weight_decay
        return torch.optim.AdamW(
            [
                {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
                {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=self.options.learning_rate,
        )

    def _average(self, averaged: Any, current: Any, count: Any) -> None:
        # young averages follow fast (Tan & Le 2019 train with the same ramp)
        keep = min(self.options.ema, (1 + int(count)) / (10 + int(count)))
        torch.optim.swa_utils.get_ema_multi_avg_fn(keep)(averaged, current, count)

    def prepare_step(self) -> None:
        """Set up learning rate and layers for the next step, from its number alone."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.learning_rate_at(self.iteration)
        self.model.train()
        if not self.options.train_batch_norm:
            for module in self.model.modules():
                if isinstance(module, _BATCH_NORM):
                    module.eval()
        freeze = self.options.freeze_at(self.iteration)
        if freeze is not self._frozen:
            freeze_layers(self.model, freeze, self.spec)
            self._frozen = freeze

    def note(self, figures: Figures) -> bool:
        """Remember figures and return whether these weights are the best: by AP, ties by AP50.

        Where there is no object to find, the AP is no number, and the latest weights are the best.
        The weights to start from spend no patience: training may lose a little before it gains.
        """
        if math.isnan(figures.ap):
            return True
        found = (figures.ap, figures.ap50)
        is_best = found > self.best
        self.best = max(self.best, found)
        if self.iteration:
            is_gain = found > self.best_trained
            # at the full rate figures go up and down: most of the gain comes as it falls
            is_counted = is_rate_falling(self.iteration, self.options) and not is_gain
            self.without_gain = self.without_gain + 1 if is_counted else 0
            self.best_trained = max(self.best_trained, found)
        return is_best

    @property
    def is_untouched(self) -> bool:
        """Whether there was no step and no evaluation yet."""
        return self.iteration == 0 and self.best[0] < 0

    @property
    def is_start_best(self) -> bool:
        """Whether training has not come to weights as good as those that it started from."""
        return self.best > self.best_trained

    @property
    def has_settled(self) -> bool:
        """Whether patience has run out."""
        return 0 < self.options.patience <= self.without_gain

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all."""
        state = {
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "iteration": self.iteration,
            "batch_size": self.batch_size,
            "skipped": self.skipped,
            "best": self.best,
            "best_trained": self.best_trained,
            "without_gain": self.without_gain,
            "spec": self.spec.to_json(),
        }
        with atomic_file(path) as file:
            torch.save(state, file)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises
        ------
        AnnotationError
            If it is damaged, of another version, or was trained on other categories.
        """
        state = read_checkpoint(path, self.device)
        check_categories(ModelSpec.from_json(state["spec"]), self.spec.categories, path)
        try:
            self.model.load_state_dict(state["model"])
            self.averaged.load_state_dict(state["averaged"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
            self.iteration, self.skipped = state["iteration"], state["skipped"]
            self.batch_size = min(state["batch_size"], self.options.batch_size)
            self.best, self.best_trained = tuple(state["best"]), tuple(state["best_trained"])
            self.without_gain = state["without_gain"]
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            raise AnnotationError(
                f"{path}: a checkpoint of another version or network ({error}); start a new run"
            ) from error


def check_categories(spec: ModelSpec, categories: CategoryTable, path: Path) -> None:
    """Let a checkpoint pass that was trained on these categories.

    Raises
    ------
    AnnotationError
        If it was trained on others.
    """
    if not mean_the_same(spec.categories, categories):
        raise AnnotationError(
            f"{path} was trained on other categories than the dataset has now: choose another "
            "folder for the new run"
        )


def read_checkpoint(path: Path, device: Any = "cpu") -> dict[str, Any]:
    """Return what `FitState.save` wrote.

    Raises
    ------
    AnnotationError
        If it is missing or no such file.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    # damaged files end in UnpicklingError, IndexError, struct.error and more
    except Exception as error:
        raise AnnotationError(f"{path}: no checkpoint to go on from ({error})") from error
    if not isinstance(state, dict) or not isinstance(state.get("spec"), str):
        raise AnnotationError(f"{path}: no checkpoint of a training run; start a new one")
    return state


def training_dtype(device: Any) -> Any:
    """Return the torch dtype of convolutions and linear layers in training.

    bf16 where it is fast; fp16 on older GPUs, which only emulate bf16.
    """
    if device.type == "cuda":
        is_fast = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if is_fast else torch.float16
    has_bf16 = torch.backends.cpu.get_cpu_capability() == "AVX512" and (
        torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )
    return torch.bfloat16 if device.type == "cpu" and has_bf16 else torch.float32


def freeze_layers(model: Any, freeze: Freeze, spec: ModelSpec) -> None:
    """Let the layers of a network learn or not; heads are all but the ResNet."""
    last_stage = "layer3." if spec.architecture == "maskrcnn_slim" else "layer4."
    for name, parameter in model.backbone.body.named_parameters():
        is_upper = name.startswith(last_stage)
        learns = freeze is Freeze.NONE or (freeze is Freeze.UPPER and is_upper)
        parameter.requires_grad_(learns)
