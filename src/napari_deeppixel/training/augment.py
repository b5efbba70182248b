"""Random crops of a sample as network input and target.

All masks go through the transforms as few small integer images, and are split last: turning
hundreds of masks one by one takes about 190 times longer.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_deeppixel.core.geometry import boxes_touch_region
from napari_deeppixel.core.normalization import Normalization
from napari_deeppixel.engine.torch_gate import torch, torchvision
from napari_deeppixel.training.place import Window, random_window
from napari_deeppixel.training.recolour import RandomCurve, RandomNoise, SameInAllChannels
from napari_deeppixel.training.samples import Sample, pack_label_planes

v2 = torchvision.transforms.v2

_MIN_AREA = 10
_MIN_SIDE = 2
# larger images hold small objects: shrinking them would lose these
_NEVER_SHRUNK_FROM = 900


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How far crops may differ from the image; with `plain`, not at all.

    Attributes
    ----------
    crop
        Side of the square crop in pixels.
    zoom
        Smallest and largest magnification, drawn log-uniformly, beside the network's own.
    turns
        Whether crops are flipped and turned by right angles.
    grey, inversion
        Share of crops without colour, and of those with light and dark swapped.
    gamma
        Largest |ln| of the exponent of intensities, in half of the crops.
    contrast, brightness
        Intensities are multiplied by 1 ± contrast, then ± brightness is added.
    blur
        Largest standard deviation in pixels, in a quarter of the crops.
    noise
        Largest standard deviation of added noise, in units of the normalised range, in three
        tenths of the crops.
    """

    crop: int = 256
    zoom: tuple[float, float] = (0.6, 1.8)
    turns: bool = True
    grey: float = 0.15
    inversion: float = 0.1
    gamma: float = 0.5
    contrast: float = 0.25
    brightness: float = 0.1
    blur: float = 1.3
    noise: float = 0.07

    @classmethod
    def plain(cls, crop: int = 256, **changes: Any) -> "Augmentation":
        """Return one that changes nothing but what is named."""
        values: dict[str, Any] = dict.fromkeys(
            ("grey", "inversion", "gamma", "contrast", "brightness", "blur", "noise"), 0.0
        )
        values |= {"crop": crop, "zoom": (1.0, 1.0), "turns": False}
        return cls(**(values | changes))


def random_crop(
    sample: Sample,
    normalization: Normalization,
    augmentation: Augmentation,
    *,
    num_inputs: int,
    zoom: float = 1.0,
    rng: np.random.Generator,
) -> tuple[Any, dict[str, Any]]:
    """Return a random crop (num_inputs, S, S) float32 and its target for `respect_ignored`.

    The target has ``boxes`` (half-open, float32), ``labels`` (class indices), ``masks`` (uint8,
    N x S x S), ``weights`` (float32) and ``ignored`` (bool, S x S). Instances under 10 px or 2 px
    wide after the crop are ignored, rather than background. The same `rng` gives the same crop
    bit for bit, in any process.

    Parameters
    ----------
    sample
        The image.
    normalization
        Of the network.
    augmentation
        How far the crop may differ from the image.
    num_inputs
        Channels that the network takes.
    zoom
        How many times the network magnifies the image (`scale_in_network`), beside the random one.
    rng
        What decides.
    """
    size = augmentation.crop
    window, out_hw = _random_size(sample, augmentation, zoom, rng)
    numbers = _numbers_in(sample, window)
    pixels, limits = sample.source.read()
    image = _resized(normalization.apply(pixels[window.slices], limits), out_hw)
    planes = _planes(sample, numbers, window, out_hw)
    image, planes = _padded(image, planes, size)
    with _seeded(rng):
        image, planes = _transforms(augmentation)(
            torchvision.tv_tensors.Image(image.expand(num_inputs, -1, -1)),
            torchvision.tv_tensors.Mask(planes),
        )
    target = _target(planes.numpy(), numbers, sample)
    return image.as_subclass(torch.Tensor).contiguous(), target


def _random_size(
    sample: Sample, augmentation: Augmentation, zoom: float, rng: np.random.Generator
) -> tuple[Window, tuple[int, int]]:
    """Return which part of the image is cut out and the size that it gets."""
    low, high = np.log(augmentation.zoom)
    jitter = float(np.exp(rng.uniform(low, high)))
    if max(sample.image_hw) > _NEVER_SHRUNK_FROM and jitter < 1:
        jitter = 1 / jitter
    factor, size = jitter * zoom, augmentation.crop
    height, width = (min(max(1, round(size / factor)), side) for side in sample.image_hw)
    out_height, out_width = (max(1, min(round(side * factor), size)) for side in (height, width))
    return random_window(sample, (height, width), rng), (out_height, out_width)


def _numbers_in(sample: Sample, window: Window) -> NDArray[np.int64]:
    """Return which instances may have a pixel in a window."""
    return np.flatnonzero(boxes_touch_region(sample.instances.boxes_xyxy, window.box_xyxy))


def _resized(pixels: NDArray[np.float32], out_hw: tuple[int, int]) -> Any:
    image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
    return v2.functional.resize(image, list(out_hw), antialias=True)


def _planes(
    sample: Sample, numbers: NDArray[np.int64], window: Window, out_hw: tuple[int, int]
) -> Any:
    """Return int32 (K + 1, h, w): planes of 1 + position in `numbers`, last where ignored."""
    planes = pack_label_planes([sample.instances.masks[n] for n in numbers], window.box_xyxy)
    unknown = [] if sample.ignored is None else [sample.ignored]
    ignored = pack_label_planes(unknown, window.box_xyxy)
    # v2 resizes masks by "nearest", which rounds down: they would lie half a pixel off the image
    rows, columns = (
        ((np.arange(out) + 0.5) * side / out).astype(int)
        for out, side in zip(out_hw, window.size_hw, strict=True)
    )
    return torch.from_numpy(np.concatenate([planes, ignored])[:, rows][:, :, columns])


def _padded(image: Any, planes: Any, size: int) -> tuple[Any, Any]:
    """Return both at full size: at the right and the bottom there is dark background."""
    missing = [0, 0, size - image.shape[2], size - image.shape[1]]
    darkest = image.amin(dim=(1, 2)).tolist()
    pad = v2.functional.pad
    return pad(image, missing, fill=darkest), pad(planes, missing, fill=0)


@contextmanager
def _seeded(rng: np.random.Generator) -> Iterator[None]:
    """Let v2, which draws from torch's own generator, draw what `rng` says, and nothing else."""
    with torch.random.fork_rng(devices=[]):
        # `torch.manual_seed` would seed the GPUs as well, which are not put back
        torch.default_generator.manual_seed(int(rng.integers(2**63)))
        yield


@cache
def _transforms(augmentation: Augmentation) -> Any:
    angles = [v2.RandomRotation((angle, angle)) for angle in (0, 90, 180, 270)]
    steps: list[Any] = []
    if augmentation.turns:
        steps += [v2.RandomChoice(angles), v2.RandomHorizontalFlip()]
    if augmentation.grey:
        steps.append(v2.RandomApply([SameInAllChannels()], p=augmentation.grey))
    if augmentation.inversion:
        steps.append(v2.RandomInvert(p=augmentation.inversion))
    if augmentation.gamma or augmentation.contrast or augmentation.brightness:
        steps.append(
            RandomCurve(
                gamma=augmentation.gamma,
                contrast=augmentation.contrast,
                brightness=augmentation.brightness,
            )
        )
    if augmentation.blur:
        sigma = (min(0.4, augmentation.blur), augmentation.blur)
        steps.append(v2.RandomApply([v2.GaussianBlur(kernel_size=7, sigma=sigma)], p=0.25))
    if augmentation.noise:
        steps.append(v2.RandomApply([RandomNoise(augmentation.noise)], p=0.3))
    return v2.Compose([*steps, v2.Identity()])


def _target(
    planes: NDArray[np.int32], numbers: NDArray[np.int64], sample: Sample
) -> dict[str, Any]:
    ignored = planes[-1] > 0
    found: list[tuple[int, tuple[slice, ...], NDArray[np.bool_]]] = []
    for plane in planes[:-1]:
        for position, where in enumerate(ndimage.find_objects(plane)):
            if where is None:
                continue
            pixels = plane[where] == position + 1
            if np.count_nonzero(pixels) < _MIN_AREA or min(pixels.shape) < _MIN_SIDE:
                ignored[where] |= pixels
            else:
                found.append((int(numbers[position]), where, pixels))
    masks = np.zeros((len(found), *ignored.shape), np.uint8)
    for mask, (_, where, pixels) in zip(masks, found, strict=True):
        mask[where] = pixels
    # half-open: torchvision's training stops on a box without area
    boxes = [(x.start, y.start, x.stop, y.stop) for _, (y, x), _ in found]
    chosen = [number for number, _, _ in found]
    class_index = sample.instances.categories.id_to_class_index()
    labels = [class_index[int(sample.instances.category_ids[n])] for n in chosen]
    return {
        "boxes": torch.tensor(np.array(boxes, np.float32).reshape(-1, 4)),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "masks": torch.from_numpy(masks),
        "weights": torch.from_numpy(sample.weights[chosen]),
        "ignored": torch.from_numpy(ignored),
    }
