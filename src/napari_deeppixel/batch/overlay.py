"""A picture of instances over their image, for people."""

import colorsys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.morphology import isotropic_erosion

from napari_deeppixel.core.geometry import boxes_touch_region
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.core.normalization import Normalization

# dim nuclei stay visible beside bright debris; measured by eye on the shipped samples
_CONTRAST = Normalization(mode="percentile", low=0.5, high=99.8)
_FILL_OPACITY = 0.28
# a line of one pixel up to 900 px, of two from there, of three from 1500 px (shorter side)
_PIXELS_PER_LINE = 600
_GOLDEN_RATIO = 0.618034
_HUE_CHOICES = 8
# instances closer than this are neighbours, whose colours must differ
_NEARBY_PX = 4
# share of the colour circle round a stain's own hue that no instance gets
_AVOIDED_HUES = 0.45
_IS_COLOUR = 0.05

RGBImage = NDArray[np.uint8]


def draw_overlay(plane: NDArray[Any], instances: InstanceSet) -> RGBImage:
    """Return the image as uint8 RGB (H, W, 3) with a tint and an outline for each instance.

    Outlines lie above all tints, so that overlapping instances show both borders. Colours of
    neighbours are far apart, and far from the colour of a stain.

    Parameters
    ----------
    plane
        (H, W, 1) grey or (H, W, 3) RGB of any number type; of other numbers of channels, the
        first is shown.
    instances
        Instances in the plane.
    """
    picture = contrast_stretched(plane)
    colours = [_rgb(hue) for hue in _hues(instances, picture)]
    order = instances.drawing_order()
    for position in order:
        mask = instances.masks[position]
        _blend(picture, mask.slices, mask.pixels, colours[position], _FILL_OPACITY)
    thickness = max(1, round(min(instances.image_hw) / _PIXELS_PER_LINE))
    for position in order:
        mask = instances.masks[position]
        _blend(picture, mask.slices, outline(mask, thickness), colours[position], 1.0)
    return picture


def contrast_stretched(plane: NDArray[Any]) -> RGBImage:
    """Return a plane (H, W, C) as uint8 RGB over its own range; grey stays grey."""
    shown = plane if plane.shape[2] == 3 else plane[..., :1]
    values = np.rint(_CONTRAST.apply(shown) * 255).astype(np.uint8)
    return np.array(np.broadcast_to(values, (*values.shape[:2], 3)))


def outline(mask: CroppedMask, thickness: int) -> NDArray[np.bool_]:
    """Return the rim of a mask, as a crop like ``mask.pixels``, some pixels wide inside it."""
    padded = np.pad(mask.pixels, 1)
    rim: NDArray[np.bool_] = padded & ~isotropic_erosion(padded, thickness)
    return rim[1:-1, 1:-1]


def _hues(instances: InstanceSet, picture: RGBImage) -> list[float]:
    circle = _distinct_hues(instances)
    mean = picture.reshape(-1, 3).mean(axis=0) / 255
    if np.ptp(mean) < _IS_COLOUR:
        return circle
    stain_hue = colorsys.rgb_to_hsv(*mean)[0]
    return [(stain_hue + _AVOIDED_HUES / 2 + h * (1 - _AVOIDED_HUES)) % 1 for h in circle]


def _distinct_hues(instances: InstanceSet) -> list[float]:
    """Return a hue (0 to 1) for each instance, far from those of its neighbours."""
    boxes = instances.boxes_xyxy
    hues = np.zeros(len(instances))
    for position, handle in enumerate(instances.handles):
        # multiples of the golden ratio never come close to each other soon
        first = int(handle) * _GOLDEN_RATIO % 1
        x1, y1, x2, y2 = boxes[position]
        nearby_xyxy = (x1 - _NEARBY_PX, y1 - _NEARBY_PX, x2 + _NEARBY_PX, y2 + _NEARBY_PX)
        neighbours = hues[:position][boxes_touch_region(boxes[:position], nearby_xyxy)]
        choices = (first + np.arange(_HUE_CHOICES) / _HUE_CHOICES) % 1
        apart = np.abs(choices[:, np.newaxis] - neighbours)
        # the smaller way round the colour circle; without neighbours the first choice is as good
        nearest = np.minimum(apart, 1 - apart).min(axis=1, initial=1.0)
        hues[position] = choices[int(nearest.argmax())]
    return [float(hue) for hue in hues]


def _rgb(hue: float) -> NDArray[np.float32]:
    return np.array(colorsys.hsv_to_rgb(hue, 0.75, 1.0), np.float32) * 255


def _blend(
    picture: RGBImage,
    where: tuple[slice, slice],
    pixels: NDArray[np.bool_],
    colour: NDArray[np.float32],
    opacity: float,
) -> None:
    region = picture[where]
    region[pixels] = (region[pixels] * (1 - opacity) + colour * opacity).astype(np.uint8)
