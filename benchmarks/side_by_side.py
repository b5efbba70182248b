"""Torchvision's Mask R-CNN and this package's engines on the same planes: how fast, how alike."""

import functools
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from napari_deeppixel.core.image import pick_channels
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.engine.base import Prediction, PredictOptions
from napari_deeppixel.engine.fast import FastEngine
from napari_deeppixel.engine.kernels import wait_for_kernels
from napari_deeppixel.engine.torch_gate import torch, torchvision
from napari_deeppixel.engine.weights import load_model

paste_masks_in_image = torchvision.models.detection.roi_heads.paste_masks_in_image

TORCHVISION = "torchvision"
AUTOCAST = "torchvision, autocast bf16"
REFERENCE = "reference"
FAST = "fast, fp32"
FAST_BF16 = "fast, bf16"

# an instance found twice has boxes that overlap by this much
SAME_BOX_IOU = 0.9


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A network, and what it is asked.

    Attributes
    ----------
    name
        For people.
    model
        What `load_model` takes.
    planes
        (H, W, C) each, asked about in one batch.
    max_instances
        Limit for each plane.
    """

    name: str
    model: str
    planes: Sequence[NDArray[Any]]
    max_instances: int

    def options(self, precision: Any) -> PredictOptions:
        """Return the options of a prediction."""
        return PredictOptions(precision=precision, max_instances=self.max_instances)


class Contestants:
    """The ways to predict on one device, with one model.

    Attributes
    ----------
    reference
        Torchvision's forward, masks pasted inside their boxes.
    """

    def __init__(self, model: str, device: str) -> None:
        self.reference = load_model(model, engine="reference", device=device)
        self.spec, self._device = self.reference.spec, device

    @functools.cached_property
    def fast(self) -> FastEngine:
        """The fast engine, made when first asked for."""
        return FastEngine(self.spec, self.reference.model, device=self._device)

    def predict(self, variant: str, case: Case) -> Sequence[Any]:
        """Return what a variant finds in each plane, on the host; `instances` reads it."""
        if variant in (TORCHVISION, AUTOCAST):
            return self._torchvision(case, is_autocast=variant == AUTOCAST)
        engine = self.reference if variant == REFERENCE else self.fast
        return engine.predict(case.planes, case.options("bf16" if variant == FAST_BF16 else "fp32"))

    def instances(self, variant: str, case: Case) -> list[InstanceSet]:
        """Return the instances that a variant finds in each plane."""
        return [self._instances(result) for result in self.predict(variant, case)]

    def network(self, variant: str, case: Case) -> Any:
        """Hold the network of an engine, set up for a case (context manager)."""
        engine = self.reference if variant == REFERENCE else self.fast
        return engine._turn(case.options("bf16" if variant == FAST_BF16 else "fp32"))

    def inputs(self, case: Case) -> list[Any]:
        """Return what torchvision's networks take: tensors (inputs, H, W)."""
        count = self.spec.num_inputs
        normalised = [
            self.spec.normalization.apply(pick_channels(plane, None, count))
            for plane in case.planes
        ]
        return [
            torch.from_numpy(pixels.transpose(2, 0, 1).copy())
            .to(self._device)
            .expand(count, -1, -1)
            for pixels in normalised
        ]

    def _torchvision(self, case: Case, *, is_autocast: bool) -> list[dict[str, Any]]:
        """Return torchvision's answer: its forward, its paste, and the threshold."""
        kind = torch.device(self._device).type
        with (
            self.network(REFERENCE, case) as network,
            torch.autocast(kind, dtype=torch.bfloat16, enabled=is_autocast),
        ):
            found = network(self.inputs(case))
            for answer, plane in zip(found, case.planes, strict=True):
                pasted = paste_masks_in_image(answer["masks"], answer["boxes"], plane.shape[:2])
                answer["masks"] = pasted[:, 0] >= 0.5
            return [{key: value.cpu() for key, value in answer.items()} for answer in found]

    def _instances(self, result: Any) -> InstanceSet:
        if isinstance(result, Prediction):
            return result.candidates
        pixels = result["masks"].numpy()
        masks = [CroppedMask.from_mask(mask) for mask in pixels]
        # where no pixel reaches the threshold, there is no instance
        kept = [n for n, mask in enumerate(masks) if mask is not None]
        ids = self.spec.categories.class_index_to_id()
        return InstanceSet(
            image_hw=pixels.shape[1:],
            masks=tuple(mask for mask in masks if mask is not None),
            categories=self.spec.categories,
            category_ids=np.array([ids[n] for n in result["labels"][kept].tolist()], np.int64),
            scores=result["scores"].double().numpy()[kept],
            predicted_boxes_xyxy=result["boxes"].double().numpy()[kept],
        )


def variants(device: str) -> list[str]:
    """Return the variants that make sense on a device."""
    has_bf16 = device.startswith("cuda") or any(
        torch.cpu.get_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16", "bf16")
    )
    everywhere = [TORCHVISION, REFERENCE, FAST]
    return [TORCHVISION, AUTOCAST, REFERENCE, FAST, FAST_BF16] if has_bf16 else everywhere


def median_seconds(works: Sequence[Callable[[], Any]], rounds: int) -> list[float]:
    """Return the median time of each of several works, which take turns."""
    seconds: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for taken, work in zip(seconds, works, strict=True):
            start = time.perf_counter()
            work()
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in seconds]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How alike two answers are.

    Attributes
    ----------
    expected, found, same
        Instances of each, and pairs of one category whose boxes overlap by more than 0.9.
    box_px, score
        The largest differences in such pairs; boxes side by side.
    mask_share
        Pixels that differ in such pairs, as a share of the expected foreground.
    """

    expected: int
    found: int
    same: int
    box_px: float
    score: float
    mask_share: float


def agreement(expected: Sequence[InstanceSet], found: Sequence[InstanceSet]) -> Agreement:
    """Return how alike two answers about the same planes are.

    Instances are matched one to one by their boxes, because equal scores may come in any order.
    """
    box_px = score = 0.0
    same = differ = area = 0
    for want, have in zip(expected, found, strict=True):
        pairs = partners(want, have)
        same += len(pairs)
        for one, other in pairs:
            boxes = want.predicted_boxes_xyxy[one] - have.predicted_boxes_xyxy[other]
            box_px = max(box_px, float(np.abs(boxes).max()))
            score = max(score, abs(float(want.scores[one] - have.scores[other])))
            mask, theirs = want.masks[one], have.masks[other]
            differ += mask.area + theirs.area - 2 * mask.intersection(theirs)
            area += mask.area
    return Agreement(
        expected=sum(map(len, expected)),
        found=sum(map(len, found)),
        same=same,
        box_px=box_px,
        score=score,
        mask_share=differ / max(area, 1),
    )


def partners(expected: InstanceSet, found: InstanceSet) -> list[tuple[int, int]]:
    """Return pairs of indices: one category, boxes that overlap by more than 0.9; none twice."""
    overlap = torchvision.ops.box_iou(
        torch.from_numpy(expected.predicted_boxes_xyxy.copy()),
        torch.from_numpy(found.predicted_boxes_xyxy.copy()),
    ).numpy()
    overlap[expected.category_ids[:, np.newaxis] != found.category_ids] = 0
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    return [
        (int(row), int(column))
        for row, column in zip(rows, columns, strict=True)
        if overlap[row, column] > SAME_BOX_IOU
    ]


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function gives in a Python process of its own, in which nothing ran before."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def first_result_seconds(variant: str, case: Case, device: str, threads: int) -> float:
    """Return how long it takes to load the model and have the first answer, after all imports."""
    torch.set_num_threads(threads)
    start = time.perf_counter()
    Contestants(case.model, device).predict(variant, case)
    return time.perf_counter() - start


def peak_mib(variant: str, case: Case, device: str, threads: int) -> float:
    """Return the most memory that a first call takes beyond the loaded model and kernels.

    On CUDA it is the device's, as torch allocates it.
    """
    torch.set_num_threads(threads)
    contestants = Contestants(case.model, device)
    if variant in (FAST, FAST_BF16):
        wait_for_kernels()
    work = functools.partial(contestants.predict, variant, case)
    if not device.startswith("cuda"):
        return _peak_resident_bytes(work) / 2**20
    torch.cuda.reset_peak_memory_stats(device)
    start = torch.cuda.memory_allocated(device)
    work()
    return (torch.cuda.max_memory_allocated(device) - start) / 2**20


def _peak_resident_bytes(work: Callable[[], Any]) -> int:
    """Return the most resident memory during a call above that at its start.

    Sampled: `ru_maxrss` of a new process starts at what its parent has, and never falls.
    """
    process = psutil.Process()
    start = process.memory_info().rss
    seen, is_done = [start], threading.Event()

    def watch() -> None:
        while not is_done.wait(0.002):
            seen.append(process.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        work()
    finally:
        is_done.set()
        thread.join()
    return int(max(seen) - start)
