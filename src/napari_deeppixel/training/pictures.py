"""Pictures of validation images: what people drew, and what the averaged weights find."""

from collections.abc import Sequence
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.core.atomic import atomic_file
from napari_deeppixel.core.geometry import box_centres_xy
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.normalization import Normalization
from napari_deeppixel.training.samples import Sample

# Okabe & Ito 2008: told apart by people who see no red or no green
DRAWN_COLOR = (0, 158, 115)
FOUND_COLOR = (230, 159, 0)
_MOST_PICTURES = 3
_MOST_PX = 512


def picture_positions(count: int) -> list[int]:
    """Return which of some images are drawn: up to three, spread over all."""
    return sorted({round(n) for n in np.linspace(0, count - 1, min(count, _MOST_PICTURES))})


def draw_pictures(
    samples: Sequence[Sample],
    found: Sequence[InstanceSet],
    *,
    normalization: Normalization,
    folder: Path,
    iteration: int,
) -> tuple[Path, ...]:
    """Write a picture (PNG) of each sample and return the paths."""
    folder.mkdir(exist_ok=True)
    paths = []
    for number, (sample, instances) in enumerate(zip(samples, found, strict=True), start=1):
        path = folder / f"{iteration:06d}_{number}.png"
        picture = sample_picture(sample, instances, normalization)
        with atomic_file(path) as file:
            file.write(iio.imwrite("<bytes>", picture, extension=".png"))
        paths.append(path)
    return tuple(paths)


def sample_picture(
    sample: Sample, found: InstanceSet, normalization: Normalization
) -> NDArray[np.uint8]:
    """Return RGB (h, w, 3), 512 px at most, with outlines of what is drawn and what is found.

    Of a larger image, the part round the middle of the objects.
    """
    where = _window(sample)
    pixels, limits = sample.source.read()
    pixels = normalization.apply(pixels[where], limits)
    shown = pixels if pixels.shape[2] == 3 else pixels[..., :1]
    grey = np.rint(np.clip(shown, 0, 1) * 255).astype(np.uint8)
    picture = np.array(np.broadcast_to(grey, (*grey.shape[:2], 3)))
    for instances, color in ((sample.instances, DRAWN_COLOR), (found, FOUND_COLOR)):
        picture[_outlines(instances)[where]] = color
    return picture


def _outlines(instances: InstanceSet) -> NDArray[np.bool_]:
    """Return the rim of each mask, inside it, overlaps included."""
    drawn = np.zeros(instances.image_hw, np.bool_)
    for mask in instances.masks:
        padded = np.pad(mask.pixels, 1)
        inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        drawn[mask.slices] |= mask.pixels & ~inner
    return drawn


def _window(sample: Sample) -> tuple[slice, slice]:
    boxes = sample.instances.boxes_xyxy
    centre_xy = np.median(box_centres_xy(boxes), axis=0) if len(boxes) else (0, 0)
    slices = []
    for side, centre in zip(sample.image_hw, (centre_xy[1], centre_xy[0]), strict=True):
        first = int(np.clip(round(float(centre)) - _MOST_PX // 2, 0, max(side - _MOST_PX, 0)))
        slices.append(slice(first, min(first + _MOST_PX, side)))
    return slices[0], slices[1]
