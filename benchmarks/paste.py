"""Masks pasted inside their boxes against torchvision's paste, in one run.

``python benchmarks/paste.py``: for each image size, 100 instances; the ratio of times (median of
three alternating rounds), peak memory above the inputs, and the number of pixels that differ.
"""

import statistics
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from napari_deeppixel.engine.paste import paste_masks
from napari_deeppixel.engine.torch_gate import torch, torchvision

torchvision_paste = torchvision.models.detection.roi_heads.paste_masks_in_image
INSTANCES = 100
ROUNDS = 3


def make_instances(side: int, box_side: tuple[int, int]) -> tuple[Any, Any]:
    """Return smooth mask probabilities (N, 1, 28, 28) and boxes (N, 4) inside an image."""
    torch.manual_seed(0)
    noise = torch.nn.functional.interpolate(torch.randn(INSTANCES, 1, 7, 7), size=(28, 28))
    size = torch.randint(*box_side, (INSTANCES, 2)).float() + torch.rand(INSTANCES, 2)
    corner = torch.rand(INSTANCES, 2) * (side - size)
    return torch.sigmoid(3 * noise), torch.cat([corner, corner + size], dim=1)


def timed(work: Callable[[], Any]) -> float:
    """Return the seconds that one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Print one line for each image size and kind of box."""
    torch.set_num_threads(1)
    print("boxes, image | ours ms | torchvision ms | ratio | our peak MiB (numpy) | pixels differ")
    for name, box_side, side in (
        ("nuclei 20-60 px", (20, 60), 1024),
        ("nuclei 20-60 px", (20, 60), 2048),
        ("photograph 100-400 px", (100, 400), 1024),
        ("photograph 100-400 px", (100, 400), 2048),
    ):
        probabilities, boxes = make_instances(side, box_side)
        hw = (side, side)
        ours, theirs = [], []
        for _ in range(ROUNDS):
            ours.append(timed(partial(paste_masks, probabilities, boxes, image_hw=hw)))
            theirs.append(timed(partial(torchvision_paste, probabilities, boxes, hw)))
        pasted = torchvision_paste(probabilities, boxes, hw)[:, 0].numpy() >= 0.5
        tracemalloc.start()
        masks = paste_masks(probabilities, boxes, image_hw=hw)
        peak = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
        differ = sum(
            int(np.count_nonzero(reference != (mask.to_mask(hw) if mask else False)))
            for reference, mask in zip(pasted, masks, strict=True)
        )
        mine, other = statistics.median(ours), statistics.median(theirs)
        print(
            f"{name}, {side}² | {1000 * mine:.0f} | {1000 * other:.0f} | {other / mine:.0f}x | "
            f"{peak:.1f} | {differ}"
        )


if __name__ == "__main__":
    main()
