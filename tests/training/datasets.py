"""Tiny annotated images, in memory and on disk."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.core.normalization import Normalization
from napari_deeppixel.dataset.annotated import AnnotatedImage
from napari_deeppixel.dataset.formats.coco import write_coco
from napari_deeppixel.training.samples import Sample

CELLS = CategoryTable.from_names("cell")
RANGE_8_BIT = Normalization(mode="range", low=0, high=255)


def rectangle(x1: int, y1: int, x2: int, y2: int) -> CroppedMask:
    return CroppedMask(pixels=np.ones((y2 - y1, x2 - x1), bool), y=y1, x=x1)


def disc(x: int, y: int, radius: int) -> CroppedMask:
    offsets = np.arange(-radius, radius + 1)
    mask = CroppedMask.from_mask(
        np.hypot(*np.meshgrid(offsets, offsets)) <= radius, y=y - radius, x=x - radius
    )
    assert mask is not None
    return mask


def instances_of(
    masks: Sequence[CroppedMask],
    image_hw: tuple[int, int],
    categories: CategoryTable = CELLS,
    **fields: Any,
) -> InstanceSet:
    return InstanceSet(image_hw=image_hw, masks=tuple(masks), categories=categories, **fields)


def pixels_of(instances: InstanceSet, *, inside: int = 200, outside: int = 20) -> np.ndarray:
    """Return uint8 (H, W, 1), bright where an instance is."""
    drawn = np.where(instances.label_image() > 0, inside, outside)
    return drawn.astype(np.uint8)[..., np.newaxis]


def sample_of(instances: InstanceSet, pixels: np.ndarray | None = None, **fields: Any) -> Sample:
    pixels = pixels_of(instances) if pixels is None else pixels
    values = {
        "path": Path("made.png"),
        "file_name": "made.png",
        "limits": (0.0, 255.0),
        "appearance": "grey, lighter objects",
    }
    return Sample.in_memory(pixels, instances, **(values | fields))


def discs_sample(seed: int, image_hw: tuple[int, int] = (64, 80)) -> Sample:
    """Return an image with three discs on a little noise."""
    rng = np.random.default_rng(seed)
    masks = [
        disc(int(x), int(rng.integers(14, 50)), int(rng.integers(8, 12))) for x in (14, 38, 62)
    ]
    instances = instances_of(masks, image_hw)
    noise = rng.integers(0, 20, (*image_hw, 1), dtype=np.uint8)
    return sample_of(instances, pixels_of(instances) + noise)


def write_split(
    folder: Path, images: dict[str, tuple[np.ndarray, InstanceSet]], crowds: int = 0
) -> Path:
    """Write a split as `read_split` takes it and return its folder."""
    folder.mkdir(parents=True)
    annotated = []
    for name, (pixels, instances) in images.items():
        iio.imwrite(folder / name, pixels)
        crowd = replace(
            instances.select(np.arange(crowds)), uuids=tuple(f"crowd {n}" for n in range(crowds))
        )
        annotated.append(AnnotatedImage(file_name=name, instances=instances, crowds=crowd))
    write_coco(annotated, folder / "instances.json")
    return folder
