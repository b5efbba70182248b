"""Random crops of a sample as network input and target.

The label planes are cropped and turned as one small integer image and split into masks last:
turning hundreds of masks one by one takes about 190 times longer.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.core.normalization import Normalization
from napari_deeppixel.engine.torch_gate import torch, torchvision
from napari_deeppixel.training.samples import Sample

_MIN_AREA = 10
_MIN_SIDE = 2
# larger images hold small objects: shrinking them would lose these
_NEVER_SHRUNK_FROM = 900


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How far crops may differ from the image.

    Attributes
    ----------
    crop
        Side of the square crop in pixels.
    zoom
        Smallest and largest magnification, drawn log-uniformly, beside the network's own.
    noise
        Largest standard deviation of added noise, in units of the normalised range.
    """

    crop: int = 256
    zoom: tuple[float, float] = (0.6, 1.8)
    noise: float = 0.07


def random_crop(
    sample: Sample,
    normalization: Normalization,
    augmentation: Augmentation,
    *,
    num_inputs: int,
    rng: np.random.Generator,
) -> tuple[Any, dict[str, Any]]:
    """Return a random crop (num_inputs, S, S) float32 and its torchvision target.

    The target has ``boxes`` (half-open, float32), ``labels`` (class indices) and ``masks``
    (uint8, N x S x S); instances under 10 px after the crop are left out.
    """
    pixels, planes = _cut(sample, normalization, augmentation, rng)
    pixels, planes = _turn(pixels, planes, rng)
    image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
    image = image.expand(num_inputs, -1, -1)
    return _recolour(image, augmentation, rng), _target(planes, sample)


def _cut(
    sample: Sample,
    normalization: Normalization,
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    height, width = sample.pixels.shape[:2]
    low, high = np.log(augmentation.zoom)
    zoom = float(np.exp(rng.uniform(low, high)))
    if max(height, width) > _NEVER_SHRUNK_FROM and zoom < 1:
        zoom = 1 / zoom
    size = augmentation.crop
    window_hw = tuple(min(round(size / zoom), side) for side in (height, width))
    # a few tries for a crop with an object; mostly empty ones teach little
    for _ in range(8):
        top, left = (
            int(rng.integers(side - window + 1))
            for side, window in zip((height, width), window_hw, strict=True)
        )
        where = np.s_[top : top + window_hw[0], left : left + window_hw[1]]
        planes = sample.label_planes[:, where[0], where[1]]
        if planes.any() or rng.random() < 0.05:
            break
    out_hw = [max(1, min(round(window * zoom), size)) for window in window_hw]
    pixels = normalization.apply(sample.pixels[where], sample.limits)
    image = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
    image = torchvision.transforms.v2.functional.resize(image, out_hw, antialias=True)
    rows, columns = (
        ((np.arange(out) + 0.5) * window / out).astype(int)
        for out, window in zip(out_hw, window_hw, strict=True)
    )
    planes = planes[:, rows][:, :, columns]
    missing = [(0, size - out_hw[0]), (0, size - out_hw[1])]
    padded = np.stack(
        [np.pad(channel, missing, constant_values=channel.min()) for channel in image.numpy()],
        axis=-1,
    )
    return padded, np.pad(planes, [(0, 0), *missing])


def _turn(
    pixels: NDArray[np.float32], planes: NDArray[np.int32], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    turns = int(rng.integers(4))
    pixels, planes = np.rot90(pixels, turns), np.rot90(planes, turns, axes=(1, 2))
    if rng.random() < 0.5:
        pixels, planes = pixels[:, ::-1], planes[:, :, ::-1]
    return pixels, planes


def _recolour(image: Any, augmentation: Augmentation, rng: np.random.Generator) -> Any:
    if rng.random() < 0.15:
        image = image.mean(dim=0, keepdim=True).expand_as(image)
    if rng.random() < 0.1:
        image = 1 - image
    if rng.random() < 0.5:
        image = image.sign() * image.abs() ** float(np.exp(rng.uniform(-0.5, 0.5)))
    image = image * float(rng.uniform(0.75, 1.25)) + float(rng.uniform(-0.1, 0.1))
    if rng.random() < 0.25:
        sigma = float(rng.uniform(0.4, 1.3))
        image = torchvision.transforms.v2.functional.gaussian_blur(image, [7, 7], [sigma, sigma])
    if rng.random() < 0.3:
        deviation = float(rng.uniform(min(0.01, augmentation.noise), augmentation.noise))
        noise = rng.standard_normal(tuple(image.shape), dtype=np.float32)
        image = image + deviation * torch.from_numpy(noise)
    return image.contiguous()


def _target(planes: NDArray[np.int32], sample: Sample) -> dict[str, Any]:
    class_index = sample.instances.categories.id_to_class_index()
    size = planes.shape[1:]
    boxes, labels, masks = [], [], []
    for plane in planes:
        rows, columns = np.nonzero(plane)
        numbers = plane[rows, columns]
        for number in np.unique(numbers):
            is_it = numbers == number
            y, x = rows[is_it], columns[is_it]
            # half-open: torchvision's training stops on a box without area
            box = (x.min(), y.min(), x.max() + 1, y.max() + 1)
            if y.size < _MIN_AREA or min(box[2] - box[0], box[3] - box[1]) < _MIN_SIDE:
                continue
            mask = np.zeros(size, np.uint8)
            mask[y, x] = 1
            boxes.append(box)
            masks.append(mask)
            labels.append(class_index[int(sample.instances.category_ids[number - 1])])
    return {
        "boxes": torch.tensor(np.array(boxes, np.float32).reshape(-1, 4)),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "masks": torch.from_numpy(np.array(masks, np.uint8).reshape(-1, *size)),
    }
