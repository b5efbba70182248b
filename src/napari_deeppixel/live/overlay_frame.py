"""A frame as people see it, with instances drawn into it, cheaply enough for a film.

`batch.overlay` draws finer pictures (colours that differ between neighbours) and takes many times
as long; here a colour belongs to a track and stays with it.
"""

import colorsys
from collections import deque
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.core.normalization import Normalization

Picture = NDArray[np.uint8]

# multiples of the golden ratio never come close to each other soon
_GOLDEN_RATIO = 0.618034
# a quarter (two bits) of the colour, three of the image
_FILL_SHIFT = 2
# a line of one pixel up to 900 px, of two from there (shorter side), as `batch.overlay`
_PIXELS_PER_LINE = 600
_LETTERS_PER_HEIGHT = 40
_MIN_LETTER_PX = 10
# The median over a second at 30 fps: a flash does not blacken what follows, and nothing flickers.
_REMEMBERED_LIMITS = 31
_LIMITS = Normalization(mode="percentile", low=0.1, high=99.9)
# a percentile needs no more pixels than this
_MAX_SAMPLED = 1 << 14


class FrameContrast:
    """Turns frames of any number type into 8 bits, without flicker.

    8-bit frames stay as they are; others are stretched between the median percentiles
    of the last frames.
    """

    def __init__(self) -> None:
        self._limits: deque[tuple[float, float]] = deque(maxlen=_REMEMBERED_LIMITS)

    def apply(self, pixels: NDArray[Any]) -> Picture:
        """Return a frame as uint8, (H, W) or RGB (H, W, 3).

        Of four channels the first three are taken, of two the first.
        """
        if pixels.ndim == 3:
            pixels = pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., 0]
        if pixels.dtype == np.uint8:
            return pixels
        if pixels.dtype == np.bool_:
            return pixels.astype(np.uint8) * np.uint8(255)
        step = int(np.ceil(np.sqrt(pixels.shape[0] * pixels.shape[1] / _MAX_SAMPLED)))
        self._limits.append(_LIMITS.limits(pixels[::step, ::step]))
        low, high = np.median(self._limits, axis=0).tolist()
        return np.rint(_LIMITS.apply(pixels, (low, high)) * 255).astype(np.uint8)


def draw_on_frame(picture: Picture, instances: InstanceSet) -> Picture:
    """Return a picture as RGB (H, W, 3) with tint, outline, box and track id of each instance.

    Parameters
    ----------
    picture
        uint8, (H, W) or RGB (H, W, 3); untouched.
    instances
        Instances in it; their handles are the track ids.

    Raises
    ------
    ValueError
        If the sizes differ.
    """
    if picture.shape[:2] != instances.image_hw:
        raise ValueError(f"a picture of {picture.shape[:2]}, instances of {instances.image_hw}")
    drawn = np.repeat(picture[..., np.newaxis], 3, axis=2) if picture.ndim == 2 else picture.copy()
    thickness = max(1, round(min(instances.image_hw) / _PIXELS_PER_LINE))
    order = instances.drawing_order().tolist()
    for position in order:
        _tint(drawn, instances.masks[position], track_color(int(instances.handles[position])))
    for position in order:
        mask, handle = instances.masks[position], int(instances.handles[position])
        colour = track_color(handle)
        drawn[mask.slices][_rim(mask, thickness)] = colour
        _frame_box(drawn, mask.box_xyxy, thickness, colour)
        _write_id(drawn, handle, mask.box_xyxy, colour)
    return drawn


@lru_cache(maxsize=4096)
def track_color(handle: int) -> tuple[int, int, int]:
    """Return the colour (red, green, blue; 0 to 255) of a track."""
    red, green, blue = colorsys.hsv_to_rgb(handle * _GOLDEN_RATIO % 1, 0.6, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


def _tint(drawn: Picture, mask: CroppedMask, colour: tuple[int, int, int]) -> None:
    # shifts and a masked copy, channel by channel: a tenth of the time of `region[mask] = …`
    for channel, value in enumerate(colour):
        region = drawn[mask.slices][..., channel]
        mixed = region.copy()
        mixed -= mixed >> _FILL_SHIFT
        mixed += np.uint8(value >> _FILL_SHIFT)
        np.copyto(region, mixed, where=mask.pixels)


def _rim(mask: CroppedMask, thickness: int) -> NDArray[np.bool_]:
    core = np.pad(mask.pixels, 1)
    for _ in range(thickness):
        inner = core[1:-1, 1:-1].copy()
        for neighbours in (core[:-2, 1:-1], core[2:, 1:-1], core[1:-1, :-2], core[1:-1, 2:]):
            inner &= neighbours
        core[1:-1, 1:-1] = inner
    rim: NDArray[np.bool_] = mask.pixels & ~core[1:-1, 1:-1]
    return rim


def _frame_box(
    drawn: Picture,
    box_xyxy: tuple[int, int, int, int],
    thickness: int,
    colour: tuple[int, int, int],
) -> None:
    x1, y1, x2, y2 = box_xyxy
    drawn[y1 : min(y1 + thickness, y2), x1:x2] = colour
    drawn[max(y2 - thickness, y1) : y2, x1:x2] = colour
    drawn[y1:y2, x1 : min(x1 + thickness, x2)] = colour
    drawn[y1:y2, max(x2 - thickness, x1) : x2] = colour


def _write_id(
    drawn: Picture,
    handle: int,
    box_xyxy: tuple[int, int, int, int],
    colour: tuple[int, int, int],
) -> None:
    """Write a number on a dark ground above a box, or in it where the image ends."""
    letters = _letters(str(handle), max(_MIN_LETTER_PX, drawn.shape[0] // _LETTERS_PER_HEIGHT))
    height, width = letters.shape
    x = max(0, min(box_xyxy[0], drawn.shape[1] - width))
    y = box_xyxy[1] - height if box_xyxy[1] >= height else box_xyxy[1]
    region = drawn[y : y + height, x : x + width]
    letters = letters[: region.shape[0], : region.shape[1]]
    region[:] = (letters[..., np.newaxis] * np.array(colour, np.uint16) // 255).astype(np.uint8)


@lru_cache(maxsize=1024)
def _letters(text: str, height_px: int) -> NDArray[np.uint16]:
    font = ImageFont.load_default(height_px)
    left, top, right, bottom = font.getbbox(text)
    image = Image.new("L", (round(right - left) + 2, round(bottom - top) + 2))
    ImageDraw.Draw(image).text((1 - left, 1 - top), text, fill=255, font=font)
    return np.asarray(image, np.uint16)
