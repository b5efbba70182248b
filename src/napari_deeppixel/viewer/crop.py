"""A small picture of one instance in its image, as the viewer shows it."""

from typing import Any

import numpy as np
from napari.layers import Image
from numpy.typing import NDArray
from skimage.morphology import isotropic_dilation, isotropic_erosion

from napari_deeppixel.core.geometry import BoolImage
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.edits.diff import Region
from napari_deeppixel.viewer.layers import InstanceLayers
from napari_deeppixel.viewer.read_layer import layer_to_image

RGBImage = NDArray[np.uint8]

# an object of a few pixels says nothing without what is around it
_SMALLEST_SIDE_PX = 24
_HALO_OPACITY = 0.6


def crop_region(box_xyxy: tuple[int, int, int, int], image_hw: tuple[int, int]) -> Region:
    """Return a square region (x1, y1, x2, y2) twice as large as a box, the box in its middle.

    At the image's border it is moved inward; where the image is smaller, it is cut.
    """
    x1, y1, x2, y2 = box_xyxy
    side = max(2 * (x2 - x1), 2 * (y2 - y1), _SMALLEST_SIDE_PX)
    height, width = image_hw
    left, right = _interval(x1 + x2, side, width)
    top, bottom = _interval(y1 + y2, side, height)
    return left, top, right, bottom


def _interval(doubled_centre: int, side: int, size: int) -> tuple[int, int]:
    start = max(min((doubled_centre - side) // 2, size - side), 0)
    return start, min(start + side, size)


def crop_rgb(
    image: Image,
    index: PlaneIndex,
    region_xyxy: Region,
    *,
    channel_axis: int | None = None,
    channel: int = 0,
) -> RGBImage:
    """Return a region of a plane (h, w, 3) in the colours in which its layer shows it.

    Only the region is read, at full size.

    Parameters
    ----------
    image
        The layer.
    index
        Lead index of the plane.
    region_xyxy
        x1, y1, x2, y2 inside the plane.
    channel_axis, channel
        Axis of the layer's data that holds channels, and the one to show.

    Raises
    ------
    ImageError
        If there is no such plane.
    """
    pixels = layer_to_image(image, channel_axis=channel_axis).plane(index, region_xyxy=region_xyxy)
    return as_shown(image, pixels, channel=channel)


def as_shown(image: Image, pixels: NDArray[Any], *, channel: int = 0) -> RGBImage:
    """Return pixels (h, w, C) of an Image layer as uint8 RGB (h, w, 3), as the layer shows them.

    Contrast, gamma and colormap are the layer's; RGB layers have none. The grey of a layer that is
    not RGB is that of one channel. NaN is black.
    """
    if image.rgb:
        return _bytes(_unit_range(pixels[..., :3]))
    low, high = (float(limit) for limit in image.contrast_limits)
    grey = (pixels[..., channel].astype(np.float32) - low) / max(high - low, 1e-30)
    grey = np.clip(np.nan_to_num(grey, nan=0.0, posinf=1.0, neginf=0.0), 0, 1) ** image.gamma
    # 256 shades are what the screen can show
    shades = _bytes(np.asarray(image.colormap.map(np.linspace(0, 1, 256)))[:, :3])
    shown: RGBImage = shades[_bytes(grey)]
    return shown


def _unit_range(pixels: NDArray[Any]) -> NDArray[np.float32]:
    values = pixels.astype(np.float32)
    if np.issubdtype(pixels.dtype, np.integer):
        values /= np.iinfo(pixels.dtype).max
    return np.clip(np.nan_to_num(values), 0, 1)


def _bytes(values: NDArray[Any]) -> RGBImage:
    shades: RGBImage = np.rint(values * 255).astype(np.uint8)
    return shades


def shown_channel(view: InstanceLayers) -> int:
    """Return which channel of the image the viewer shows; 0 if it has no channel axis."""
    axis, image = view.channel_axis, view.image
    if axis is None:
        return 0
    # the plane map leaves the channel out, on purpose: instances are the same in all of them
    point = view.planes._viewer.dims.point[-image.ndim :]
    step = round(float(np.asarray(image.world_to_data(point))[axis]))
    return min(max(step, 0), view.planes.image_shape()[axis] - 1)


def magnified(pixels: NDArray[Any], size_hw: tuple[int, int]) -> NDArray[Any]:
    """Return an image (h, w, …) at another size, each pixel as it is (nearest neighbour)."""
    rows, columns = (
        (np.arange(new) * old) // new for new, old in zip(size_hw, pixels.shape[:2], strict=True)
    )
    larger: NDArray[Any] = pixels[rows][:, columns]
    return larger


def with_outline(
    picture: RGBImage,
    mask: CroppedMask,
    region_xyxy: Region,
    *,
    color: str,
    thickness: float = 2,
) -> RGBImage:
    """Return a picture (H, W, 3) of a region with a mask's outline, a dark halo along both sides.

    Parameters
    ----------
    picture
        The region, at any size.
    mask
        The instance.
    region_xyxy
        What the picture shows.
    color
        ``#rrggbb``.
    thickness
        Of the line inside the mask's edge, in pixels of the picture; the halo on each side has
        half of that.
    """
    inside = magnified(_in_region(mask, region_xyxy), (picture.shape[0], picture.shape[1]))
    # a mask that leaves the picture has no edge where it is cut
    pad = int(2 * thickness) + 1
    half = thickness / 2
    padded = np.pad(inside, pad, mode="edge")
    core = isotropic_erosion(padded, thickness)
    halo = isotropic_dilation(padded, half) & ~isotropic_erosion(core, half)
    line = padded & ~core
    middle = (slice(pad, -pad), slice(pad, -pad))
    drawn = picture.copy()
    drawn[halo[middle]] = (drawn[halo[middle]] * (1 - _HALO_OPACITY)).astype(np.uint8)
    drawn[line[middle]] = [int(color[start : start + 2], 16) for start in (1, 3, 5)]
    return drawn


def _in_region(mask: CroppedMask, region_xyxy: Region) -> BoolImage:
    """Return the part of a mask in a region (h, w)."""
    x1, y1, x2, y2 = region_xyxy
    inside = np.zeros((y2 - y1, x2 - x1), np.bool_)
    left, top, right, bottom = mask.box_xyxy
    a, b, c, d = max(left, x1), max(top, y1), min(right, x2), min(bottom, y2)
    if a < c and b < d:
        inside[b - y1 : d - y1, a - x1 : c - x1] = mask.pixels[
            b - top : d - top, a - left : c - left
        ]
    return inside
