"""Pixels as they are → the network's input, on the device."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.core.normalization import Normalization
from napari_deeppixel.engine.torch_gate import torch

# these are uploaded as they are: every value is exact in float32
_UPLOADED = (np.uint8, np.uint16, np.float32)


def stage(
    plane: NDArray[Any], normalization: Normalization
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Return the pixels of a plane (H, W, C) to upload, and the scaling that `normalise` takes.

    Where float32 would lose digits (doubles, 32-bit integers, very wide spans), the plane is
    normalised here and scaled no more.

    Returns
    -------
    tuple
        uint8, uint16 or float32 (H, W, C), and float32 (4,): the intensity that becomes 0, the
        span to the one that becomes 1 (0 in a plane without one), the lowest and highest result.
    """
    low, high = normalization.limits(plane)
    span = high - low
    # the bounds are those of `Normalization.apply`
    is_exact = np.can_cast(plane.dtype, np.float32)
    if not is_exact or max(span, abs(low), abs(high)) >= float(np.finfo(np.float32).max):
        pixels = normalization.apply(plane, (low, high))
        return pixels, np.array([0, 1, -np.inf, np.inf], np.float32)
    if not span > np.finfo(np.float32).eps * max(abs(low), abs(high)):
        span = 0.0
    scaling = np.array([low, span, normalization.clip_low, normalization.clip_high], np.float32)
    if plane.dtype in _UPLOADED and plane.dtype.isnative:
        return plane, scaling
    return plane.astype(np.float32), scaling


def normalise(pixels: Any, scaling: Any) -> Any:
    """Return planes as `Normalization.apply` gives them, by the same float32 arithmetic.

    Parameters
    ----------
    pixels
        uint8, uint16 or float32 tensor (B, H, W, C).
    scaling
        float32 tensor (B, 4), of `stage`.

    Returns
    -------
    tensor
        float32 (B, H, W, C).
    """
    low, span, lowest, highest = scaling[:, :, None, None, None].unbind(dim=1)
    values = pixels.to(torch.float32)
    scaled = (values - low) / span
    scaled = torch.where(torch.isnan(scaled), lowest, scaled).clamp(lowest, highest)
    return torch.where(span > 0, scaled, (values > low).to(torch.float32))


def input_size(transform: Any, image_hw: tuple[int, int]) -> tuple[int, int]:
    """Return the size (height, width) to which a network's transform resizes an image."""
    resized, _ = transform.resize(torch.empty((1, *image_hw), device="meta"))
    return int(resized.shape[-2]), int(resized.shape[-1])


def padded_size(transform: Any, input_hw: tuple[int, int]) -> tuple[int, int]:
    """Return the size (height, width) to which a network's transform pads resized images."""
    height, width = (-(-side // transform.size_divisible) for side in input_hw)
    return height * transform.size_divisible, width * transform.size_divisible


def to_input(
    transform: Any, images: Any, *, mean: Any, std: Any, padded_hw: tuple[int, int]
) -> Any:
    """Return images as torchvision's `GeneralizedRCNNTransform` gives them to the backbone.

    Parameters
    ----------
    transform
        Of the network: does the resize.
    images
        float32 tensor (B, H, W, C), normalised; one channel stands for all inputs.
    mean, std
        float32 tensors (inputs, 1, 1).
    padded_hw
        Height and width with the padding.

    Returns
    -------
    tensor
        float32 (B, inputs, *padded_hw).
    """
    scaled = (images.permute(0, 3, 1, 2) - mean) / std
    # the resize takes one image with any number of channels, and treats each alone
    resized, _ = transform.resize(scaled.flatten(0, 1))
    resized = resized.unflatten(0, scaled.shape[:2])
    missing_y, missing_x = (
        side - had for side, had in zip(padded_hw, resized.shape[2:], strict=True)
    )
    return torch.nn.functional.pad(resized, (0, missing_x, 0, missing_y))
