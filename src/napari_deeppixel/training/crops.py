"""The crops of a run, by number: the same for the same seed, whoever prepares them and when."""

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.engine.spec import ModelSpec
from napari_deeppixel.engine.torch_gate import torch
from napari_deeppixel.training.anchors import scale_in_network
from napari_deeppixel.training.augment import random_crop
from napari_deeppixel.training.distributed import Processes
from napari_deeppixel.training.options import FitOptions
from napari_deeppixel.training.samples import Sample, sampling_weights


@dataclass(frozen=True, kw_only=True, eq=False)
class Crop:
    """One crop, ready for the network.

    Attributes
    ----------
    seed
        Of what is drawn at random when the network looks at it.
    image
        float32 (inputs, S, S).
    target
        torchvision's.
    """

    seed: int
    image: Any
    target: dict[str, Any]

    def to(self, device: Any) -> "Crop":
        """Return the crop on a device."""
        target = {name: value.to(device) for name, value in self.target.items()}
        return Crop(seed=self.seed, image=self.image.to(device), target=target)


class _Crops(torch.utils.data.Dataset[Any]):
    def __init__(self, samples: Sequence[Sample], spec: ModelSpec, options: FitOptions) -> None:
        self._samples, self._spec, self._options = samples, spec, options
        self._weights = sampling_weights(samples)

    def __getitem__(self, number: int) -> Crop | Exception:
        try:
            return self._crop(number)
        # given back: a DataLoader that raises puts the traceback of its process into the message
        except (DeepPixelError, OSError) as error:
            return error

    def _crop(self, number: int) -> Crop:
        rng = np.random.default_rng((self._options.seed, number))
        sample = self._samples[int(rng.choice(len(self._samples), p=self._weights))]
        image, target = random_crop(
            sample,
            self._spec.normalization,
            self._options.augmentation,
            num_inputs=self._spec.num_inputs,
            zoom=scale_in_network(sample.image_hw, self._spec),
            rng=rng,
        )
        return Crop(seed=int(rng.integers(2**62)), image=image, target=target)


def crop_numbers(iteration: int, options: FitOptions, processes: Processes) -> list[int]:
    """Return the numbers of the crops that a process has in a step.

    Batches of a step are dealt to the processes in turn, so that two processes with one batch each
    and one process with two batches see the same.
    """
    batches = options.accumulate * processes.size
    first = iteration * batches * options.batch_size
    return [
        first + (part * processes.size + processes.rank) * options.batch_size + n
        for part in range(options.accumulate)
        for n in range(options.batch_size)
    ]


def crops_of_steps(
    samples: Sequence[Sample],
    spec: ModelSpec,
    options: FitOptions,
    *,
    first_iteration: int,
    processes: Processes,
) -> Iterator[list[Crop]]:
    """Yield the crops of each step from one on to the last.

    Raises
    ------
    DeepPixelError, OSError
        If an image can no longer be read.
    """
    steps = range(first_iteration, options.iterations)
    loader = torch.utils.data.DataLoader(
        _Crops(samples, spec, options),
        batch_sampler=[crop_numbers(step, options, processes) for step in steps],
        num_workers=options.workers,
        collate_fn=list,
        worker_init_fn=_leave_signals_alone,
        # of its own: it would draw from the one of the whole process
        generator=torch.Generator(),
        prefetch_factor=3 if options.workers else None,
    )
    for crops_of_step in loader:
        for crop in crops_of_step:
            if isinstance(crop, Exception):
                raise crop
        yield crops_of_step


def _leave_signals_alone(_worker: int) -> None:
    # Ctrl-C, and a cluster that ends a job, reach every process of the group: the main one alone
    # decides when to stop, and needs crops until then
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)


class CropSampler:
    """A sampler of anchors or proposals that draws for each crop by the crop's own seed.

    torchvision's draws from the generator of the process, one image after the other: which
    proposals teach would depend on how crops are dealt to batches and processes, and on how often
    a run was interrupted.

    Parameters
    ----------
    sampler
        torchvision's, as in the network.
    stage
        A number of its own for each sampler of a network.
    """

    def __init__(self, sampler: Any, *, stage: int) -> None:
        self._sampler, self._stage = sampler, stage
        self.seeds: list[int] = []

    def __call__(self, matched_idxs: list[Any]) -> tuple[list[Any], list[Any]]:
        """Return masks of the positive and of the negative ones that teach, image by image."""
        positive: list[Any] = []
        negative: list[Any] = []
        device = matched_idxs[0].device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            for seed, matched in zip(self.seeds, matched_idxs, strict=True):
                torch.manual_seed(seed + self._stage)
                for found, kept in zip(self._sampler([matched]), (positive, negative), strict=True):
                    kept.extend(found)
        return positive, negative

    @classmethod
    def install(cls, model: Any) -> "list[CropSampler]":
        """Put them into a network and return them."""
        rpn, heads = model.rpn, model.roi_heads
        rpn.fg_bg_sampler = cls(rpn.fg_bg_sampler, stage=0)
        heads.fg_bg_sampler = cls(heads.fg_bg_sampler, stage=1)
        return [rpn.fg_bg_sampler, heads.fg_bg_sampler]
