"""How near the convolutions of a Mask R-CNN come to what the device can do at most.

Williams et al. 2009, Roofline: a layer takes at least the time of its multiplications at the
device's highest rate, and at least the time of moving its inputs, weights and outputs once.
"""

import math
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

from benchmarks.performance_page import markdown_table
from benchmarks.side_by_side import FAST, FAST_BF16, REFERENCE, Case, Contestants, median_seconds

from napari_deeppixel.engine.torch_gate import torch

nn = torch.nn
_LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
_DTYPES = {FAST: torch.float32, FAST_BF16: torch.bfloat16}

# stage → where its layers are in torchvision's network
STAGES = {
    "body": ("backbone.body.",),
    "FPN": ("backbone.fpn.",),
    "RPN head": ("rpn.head.",),
    "box head": ("roi_heads.box_head.", "roi_heads.box_predictor."),
    "mask head": ("roi_heads.mask_head.", "roi_heads.mask_predictor."),
}
# what else a prediction does; no multiplications are counted there
RESIZE, POOLING, BOXES, OUTSIDE = (
    "resize",
    "RoIAlign",
    "anchors, boxes, suppression",
    "pixels in, masks out",
)
WHOLE = "whole call"
FIXED_SHAPES = "whole call, fixed shapes"


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One convolution or linear layer in one call.

    Attributes
    ----------
    flops
        Multiplications and additions of the direct sum.
    elements
        Numbers in inputs, weights and outputs.
    """

    flops: int
    elements: int


@dataclass(frozen=True, kw_only=True)
class Ceilings:
    """The most that a device reached: multiplications and additions, and bytes, a second."""

    flops: float
    bytes: float

    def seconds(self, layers: list[Layer], bytes_of_element: int) -> float:
        """Return the least time for layers, one after the other."""
        return sum(
            max(layer.flops / self.flops, layer.elements * bytes_of_element / self.bytes)
            for layer in layers
        )


def count_layers(network: Any, inputs: list[Any]) -> dict[str, list[Layer]]:
    """Return the layers of `STAGES`, and of all, that a call of torchvision's Mask R-CNN runs."""
    layers: dict[str, list[Layer]] = {stage: [] for stage in (*STAGES, WHOLE)}

    def count_into(stage: str) -> Callable[..., None]:
        def count(module: Any, args: tuple[Any, ...], output: Any) -> None:
            (values,) = args
            # each input of a transposed convolution, each output of others meets so many weights
            meeting = values if isinstance(module, nn.ConvTranspose2d) else output
            elements = values.numel() + module.weight.numel() + output.numel()
            flops = 2 * meeting.numel() * module.weight[0].numel()
            for of in (stage, WHOLE):
                layers[of].append(Layer(flops=flops, elements=elements))

        return count

    hooks = [
        module.register_forward_hook(count_into(stage))
        for name, module in network.named_modules()
        for stage, prefixes in STAGES.items()
        if isinstance(module, _LAYERS) and name.startswith(prefixes)
    ]
    try:
        network(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return layers


def highest_flops(device: str, dtype: Any) -> float:
    """Return the highest rate of a device: the better of a convolution and a matrix product."""
    side, channels = (8192, 512) if device.startswith("cuda") else (2048, 256)
    matrix = torch.randn(side, side, device=device, dtype=dtype)
    images = torch.randn(1, channels, 128, 128, device=device, dtype=dtype)
    images = images.contiguous(memory_format=torch.channels_last)
    conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False, device=device, dtype=dtype)
    conv = conv.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        product = 2 * side**3 / _best_seconds(lambda: torch.mm(matrix, matrix), device)
        flops = 2 * 128**2 * conv.weight.numel()
        return max(product, flops / _best_seconds(lambda: conv(images), device))


def highest_bytes(device: str) -> float:
    """Return how many bytes a second a large copy reads and writes."""
    source = torch.ones(2**28 if device.startswith("cuda") else 2**26, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _best_seconds(lambda: target.copy_(source), device)


def _best_seconds(work: Callable[[], Any], device: str, seconds: float = 2.0) -> float:
    """Return the shortest time of a call, of all that fit two seconds."""
    best, end = math.inf, time.perf_counter() + seconds
    while time.perf_counter() < end:
        synchronize(device)
        start = time.perf_counter()
        work()
        synchronize(device)
        best = min(best, time.perf_counter() - start)
    return best


def synchronize(device: str) -> None:
    """Wait until a device has done all that was asked of it."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def stage_seconds(
    contestants: Contestants, variant: str, case: Case, *, device: str, rounds: int
) -> dict[str, float]:
    """Return the median time of each stage, all others and the whole in a fast variant.

    On CUDA each part is waited for, in torchvision's own order; how long the forward of fixed
    shapes takes, which has no such parts, is `FIXED_SHAPES`.
    """
    predict = partial(contestants.predict, variant, case)
    with contestants.network(variant, case) as network:
        parts = _parts_of(network)
    taken = []
    with mock.patch.object(contestants.fast, "_has_fixed_shapes", False):
        for _ in range(rounds + 1):
            with _timed(parts, device) as seconds:
                start = time.perf_counter()
                predict()
                seconds["call"] = time.perf_counter() - start
            taken.append(_by_stage(seconds))
    # the first round warms up
    medians = {stage: statistics.median(one[stage] for one in taken[1:]) for stage in taken[0]}
    if device.startswith("cuda"):
        # the second records
        median_seconds([predict], 2)
        medians[FIXED_SHAPES] = median_seconds([predict], rounds)[0]
    return medians


def _parts_of(network: Any) -> dict[str, list[Any]]:
    """Return the modules of the fused network (`engine.fused`) that are timed, by name."""
    backbone, rpn, heads = network.backbone, network.rpn, network.roi_heads
    return {
        "network": [network],
        "transform": [network.transform],
        "backbone": [backbone],
        "body": [backbone.stem, backbone.maxpool, *backbone.stages.values()],
        "rpn": [rpn],
        "RPN head": [rpn.head],
        "roi_heads": [heads],
        "RoIAlign": [heads.box_roi_pool, heads.mask_roi_pool],
        "box head": [heads.box_head, heads.box_predictor],
        "mask head": [heads.mask_head, heads.mask_predictor],
    }


@contextmanager
def _timed(parts: dict[str, list[Any]], device: str) -> Iterator[dict[str, float]]:
    """Add up the seconds in each part while this is open."""
    seconds: dict[str, float] = defaultdict(float)

    def add(name: str, sign: int) -> Callable[..., None]:
        def hook(*_args: Any) -> None:
            synchronize(device)
            seconds[name] += sign * time.perf_counter()

        return hook

    hooks = []
    for name, modules in parts.items():
        for module in modules:
            hooks.append(module.register_forward_pre_hook(add(name, -1)))
            hooks.append(module.register_forward_hook(add(name, +1)))
    try:
        yield seconds
    finally:
        for hook in hooks:
            hook.remove()


def _by_stage(seconds: dict[str, float]) -> dict[str, float]:
    heads = seconds["box head"] + seconds["mask head"] + seconds["RoIAlign"]
    return {
        "body": seconds["body"],
        "FPN": seconds["backbone"] - seconds["body"],
        "RPN head": seconds["RPN head"],
        "box head": seconds["box head"],
        "mask head": seconds["mask head"],
        RESIZE: seconds["transform"],
        POOLING: seconds["RoIAlign"],
        BOXES: seconds["rpn"] - seconds["RPN head"] + seconds["roi_heads"] - heads,
        OUTSIDE: seconds["call"] - seconds["network"],
        WHOLE: seconds["call"],
    }


def roofline_tables(
    cases: list[Case], names: list[str], *, device: str, rounds: int
) -> Iterator[str]:
    """Yield the device's ceilings, and for each case a table of each stage's limit and time.

    `names` are variants of the fast engine.
    """
    bandwidth = highest_bytes(device)
    ceilings = {
        name: Ceilings(flops=highest_flops(device, _DTYPES[name]), bytes=bandwidth)
        for name in names
    }
    told = [f"{name} {ceiling.flops / 1e12:,.3g} TFLOP/s" for name, ceiling in ceilings.items()]
    yield f"Ceilings measured: {', '.join(told)}, copies {bandwidth / 1e9:,.0f} GB/s.\n"
    for case in cases:
        contestants = Contestants(case.model, device)
        with contestants.network(REFERENCE, case) as network:
            layers = count_layers(network, contestants.inputs(case))
        layers[FIXED_SHAPES] = layers[WHOLE]
        header, rows = [case.name, "GFLOP", "MB in fp32"], {}
        for name, ceiling in ceilings.items():
            header += [f"{name}: limit, ms", "measured, ms", "reached"]
            taken = stage_seconds(contestants, name, case, device=device, rounds=rounds)
            for stage, seconds in taken.items():
                row = rows.setdefault(stage, [stage, *_count_cells(layers.get(stage))])
                row += _limit_cells(layers.get(stage), ceiling, _DTYPES[name].itemsize, seconds)
        yield markdown_table(header, rows.values())


def _count_cells(layers: list[Layer] | None) -> list[str]:
    if not layers:
        return ["", ""]
    flops = sum(layer.flops for layer in layers)
    elements = sum(layer.elements for layer in layers)
    return [f"{flops / 1e9:,.1f}", f"{4 * elements / 1e6:,.0f}"]


def _limit_cells(
    layers: list[Layer] | None, ceiling: Ceilings, itemsize: int, seconds: float
) -> list[str]:
    measured = f"{1000 * seconds:,.1f}"
    if not layers:
        return ["", measured, ""]
    limit = ceiling.seconds(layers, itemsize)
    return [f"{1000 * limit:,.1f}", measured, f"{100 * limit / seconds:.0f} %"]
