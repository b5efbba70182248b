"""From the network's masks and boxes to instances, against torchvision's paste, in one run.

``python benchmarks/paste.py`` prints three tables, times as the median of alternating rounds:
the same boxes in a larger image; pasting with the compiled kernel, with torch's resize inside the
boxes, and as torchvision does, with the pixels that differ; and all that follows the network's
answer.
"""

import resource
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.engine import paste, paste_jit, uncertainty
from napari_deeppixel.engine.torch_gate import torch, torchvision

torchvision_paste = torchvision.models.detection.roi_heads.paste_masks_in_image
NUCLEI, PHOTOGRAPH = (20, 60), (100, 400)
ROUNDS = 11


def make_instances(count: int, side: int, box_side: tuple[int, int]) -> tuple[Any, Any]:
    """Return smooth mask probabilities (N, 1, 28, 28) and boxes (N, 4) inside an image."""
    torch.manual_seed(0)
    noise = torch.nn.functional.interpolate(torch.randn(count, 1, 7, 7), size=(28, 28))
    size = torch.randint(*box_side, (count, 2)).float() + torch.rand(count, 2)
    corner = torch.rand(count, 2) * (side - size)
    return torch.sigmoid(3 * noise), torch.cat([corner, corner + size], dim=1)


def median_times(*works: Callable[[], Any], rounds: int = ROUNDS) -> list[float]:
    """Return the median milliseconds of each of several works, which take turns."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for taken, work in zip(times, works, strict=True):
            start = time.perf_counter()
            work()
            taken.append(1000 * (time.perf_counter() - start))
    return [statistics.median(taken) for taken in times]


def peak_mib() -> float:
    """Return the most memory that this process has taken so far."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def paste_with(
    kernel: ModuleType | None, masks: Any, boxes: Any, side: int
) -> list[CroppedMask | None]:
    """Return the masks of an image, pasted with the compiled kernel or without."""
    paste.kernels = lambda _name: kernel
    return paste.paste_masks(masks, boxes, image_hw=(side, side))


def as_instances(masks: Any, boxes: Any, side: int, kernel: ModuleType | None) -> InstanceSet:
    """Return what a prediction holds, as the engines make it."""
    uncertainty.kernels = lambda _name: kernel
    pasted = paste_with(kernel, masks, boxes, side)
    kept = [n for n, mask in enumerate(pasted) if mask]
    return InstanceSet(
        image_hw=(side, side),
        masks=tuple(mask for mask in pasted if mask),
        categories=CategoryTable.from_names("cell"),
        scores=np.ones(len(kept)),
        predicted_boxes_xyxy=boxes.double().numpy()[kept],
        edge_uncertainties=uncertainty.edge_uncertainties(masks)[kept],
    )


def full_size(masks: Any, boxes: Any, side: int) -> Any:
    """Return torchvision's answer: bool (N, H, W)."""
    return torchvision_paste(masks, boxes, (side, side))[:, 0].numpy() >= 0.5


def compare_with_torchvision() -> None:
    """Print one line for each image size and kind of box."""
    print(
        "\n100 instances | kernel ms | torch in boxes ms | torchvision ms | ratio | pixels differ"
    )
    for name, box_side in (("nuclei 20-60 px", NUCLEI), ("photograph 100-400 px", PHOTOGRAPH)):
        for side in (1024, 2048):
            instances = (*make_instances(100, side, box_side), side)
            compiled, plain, theirs = median_times(
                partial(paste_with, paste_jit, *instances),
                partial(paste_with, None, *instances),
                partial(full_size, *instances),
                rounds=3,
            )
            differ = sum(
                int(np.count_nonzero(pixels != (mask.to_mask((side, side)) if mask else False)))
                for pixels, mask in zip(
                    full_size(*instances), paste_with(paste_jit, *instances), strict=True
                )
            )
            print(
                f"{name}, {side}² | {compiled:.1f} | {plain:.1f} | {theirs:.0f} | "
                f"{theirs / compiled:.0f}x | {differ}"
            )


def compare_image_sizes() -> None:
    """Print what the same boxes take in a larger image; first, as the peak only ever rises."""
    print("the same 100 boxes | 2048² ms | 8192² ms | ratio | peak MiB above the masks at 8192²")
    for name, box_side in (("nuclei 20-60 px", NUCLEI), ("photograph 100-400 px", PHOTOGRAPH)):
        instances = make_instances(100, 2048, box_side)
        before = peak_mib()
        pasted = paste_with(paste_jit, *instances, 8192)
        masks_mib = sum(mask.pixels.nbytes for mask in pasted if mask) / 2**20
        above_mib = max(0.0, peak_mib() - before - masks_mib)
        small, large = median_times(
            partial(paste_with, paste_jit, *instances, 2048),
            partial(paste_with, paste_jit, *instances, 8192),
        )
        print(f"{name} | {small:.1f} | {large:.1f} | {large / small:.2f}x | {above_mib:.1f}")


def compare_all_after_the_network() -> None:
    """Print what it takes to make a prediction of the network's answer."""
    print("\ninstances, image | kernel ms | torch in boxes ms | torchvision's paste alone ms")
    for count, side, box_side in ((300, 1024, NUCLEI), (100, 1024, PHOTOGRAPH)):
        instances = (*make_instances(count, side, box_side), side)
        compiled, plain = median_times(
            partial(as_instances, *instances, paste_jit), partial(as_instances, *instances, None)
        )
        (theirs,) = median_times(partial(full_size, *instances), rounds=3)
        print(f"{count} of {box_side} px, {side}² | {compiled:.1f} | {plain:.1f} | {theirs:.0f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    compare_image_sizes()
    compare_with_torchvision()
    compare_all_after_the_network()
