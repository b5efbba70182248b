"""What `benchmarks.engine` asks: real planes, of a trained network and two random ones."""

from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from benchmarks.side_by_side import Case
from numpy.typing import NDArray
from tests.engine.networks import as_tensor, sharpen

from napari_deeppixel.engine.base import DEFAULT_MAX_INSTANCES
from napari_deeppixel.engine.build import build_model
from napari_deeppixel.engine.spec import Architecture, ModelSpec
from napari_deeppixel.engine.torch_gate import torch
from napari_deeppixel.engine.weights import coco_categories

SAMPLES = ("fluorescence", "brightfield", "histology", "tissue")
RESNETS: dict[str, Architecture] = {
    "ResNet-50 v1": "maskrcnn_resnet50_fpn",
    "ResNet-50 v2": "maskrcnn_resnet50_fpn_v2",
}
BATCH = 16


def sample(name: str) -> NDArray[Any]:
    """Return a sample image of the package (H, W, C)."""
    with resources.as_file(resources.files("napari_deeppixel") / "samples") as folder:
        pixels = np.asarray(iio.imread(folder / f"{name}.png"))
    return np.atleast_3d(pixels)


def mirrored(plane: NDArray[Any], image_hw: tuple[int, int]) -> NDArray[Any]:
    """Return a plane (H, W, C) continued by its mirror images to a size, or cut to it."""
    height, width = image_hw
    missing = [(0, max(0, side - had)) for side, had in zip(image_hw, plane.shape[:2], strict=True)]
    return np.pad(plane, [*missing, (0, 0)], mode="symmetric")[:height, :width]


def photograph() -> NDArray[Any]:
    """Return stained tissue in the place of a photograph of 640 x 480."""
    return mirrored(sample("histology"), (480, 640))


def nuclei_case(name: str, plane: NDArray[Any]) -> Case:
    """Return a plane for the shipped model."""
    height, width = plane.shape[:2]
    return Case(
        name=f"nuclei, {name} {width} x {height}",
        model="nuclei",
        planes=[plane],
        max_instances=DEFAULT_MAX_INSTANCES,
    )


def crowded_case() -> Case:
    """Return a plane of 1024 x 1024 with about 300 nuclei (268 are found)."""
    return nuclei_case("crowded", mirrored(sample("fluorescence"), (1024, 1024)))


def resnet_case(name: str, folder: Path, max_instances: int) -> Case:
    """Return an image of 640 x 480 for a ResNet-50 that finds as many objects as it may.

    Its weights, in a folder, are random but spread, the same each time.
    """
    weights = folder / f"{name}.pth"
    if not weights.exists():
        torch.manual_seed(0)
        spec = ModelSpec(name=name, architecture=RESNETS[name], categories=coco_categories())
        model = sharpen(build_model(spec), as_tensor(photograph()))
        torch.save(model.state_dict(), weights)
    return Case(
        name=f"{name}, 640 x 480, {max_instances}",
        model=str(weights),
        planes=[photograph()],
        max_instances=max_instances,
    )


def batch_of(case: Case) -> Case:
    """Return a case with its plane in a batch of 16."""
    return replace(case, name=f"{case.name}, batch of {BATCH}", planes=list(case.planes) * BATCH)
