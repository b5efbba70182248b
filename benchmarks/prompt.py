"""A mask for a drawn box on kept features against a whole prediction of the plane, in one run.

``python benchmarks/prompt.py``: for the shipped model on its sample image and for a ResNet-50 with
random weights on 640 x 480 noise, median milliseconds of rounds that take turns.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib import resources
from typing import Any

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.engine.base import PredictOptions
from napari_deeppixel.engine.build import build_model
from napari_deeppixel.engine.maskrcnn import MaskRCNNEngine
from napari_deeppixel.engine.spec import ModelSpec
from napari_deeppixel.engine.torch_gate import torch
from napari_deeppixel.engine.weights import load_model

ROUNDS = 5
OPTIONS = PredictOptions(max_instances=100, precision="fp32")


def sample_plane() -> NDArray[Any]:
    """Return the fluorescence sample (520, 696, 1)."""
    with resources.as_file(resources.files("napari_deeppixel") / "samples") as folder:
        return np.asarray(iio.imread(folder / "fluorescence.png"))[..., np.newaxis]


def random_resnet50() -> MaskRCNNEngine:
    """Return torchvision's first version with 91 classes and random weights, on the CPU."""
    torch.manual_seed(0)
    spec = ModelSpec(
        name="random",
        architecture="maskrcnn_resnet50_fpn",
        categories=CategoryTable.from_names(*[f"kind {n}" for n in range(1, 91)]),
    )
    return MaskRCNNEngine(spec, build_model(spec))


def timed(work: Callable[[], Any]) -> float:
    """Return the seconds that one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(name: str, engine: MaskRCNNEngine, plane: NDArray[Any]) -> None:
    """Print one line for a model and a plane (H, W, C)."""
    height, width = plane.shape[:2]
    centre = (width / 2, height / 2)
    box = [[width / 2 - 20, height / 2 - 15, width / 2 + 20, height / 2 + 15]]
    prompter = engine.prompter(plane, OPTIONS)
    kinds: dict[str, Callable[[], Any]] = {
        "box": partial(prompter.instances_in, box),
        "100 boxes": partial(prompter.instances_in, box * 100),
        "click": partial(prompter.instance_at, centre),
        "features": partial(engine.prompter, plane, OPTIONS),
        "predict": partial(engine.predict, [plane], OPTIONS),
    }
    rounds = [{kind: timed(work) for kind, work in kinds.items()} for _ in range(ROUNDS + 1)]
    # the first round warms up
    seconds = {kind: statistics.median(r[kind] for r in rounds[1:]) for kind in kinds}
    print(
        f"{name}, {width} x {height} | "
        + " | ".join(f"{1000 * value:.1f}" for value in seconds.values())
        + f" | {seconds['predict'] / seconds['box']:.0f}x | {prompter.memory_bytes / 2**20:.1f}"
    )


def main() -> None:
    """Print one line for each model."""
    torch.set_num_threads(1)
    print(
        "model, plane | one box ms | 100 boxes ms | click ms | features ms | predict ms | "
        "predict / one box | features MiB"
    )
    measure("nuclei", load_model("nuclei", device="cpu"), sample_plane())
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (480, 640, 3), dtype=np.uint8)
    measure("ResNet-50 v1 random", random_resnet50(), noise)


if __name__ == "__main__":
    main()
