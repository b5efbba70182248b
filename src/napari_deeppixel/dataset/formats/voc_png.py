"""The palette PNGs of Pascal VOC: a number a pixel, shown in VOC's colours."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.dataset.formats.hostile import read_bytes
from napari_deeppixel.dataset.formats.label_source import named_errors

# 255 is "void": the border round objects, and what nobody could tell
VOID = 255
MAX_NUMBER = 254
# one number of 64 bits a pixel: half a gigabyte
_MAX_COLOR_PIXELS = 1 << 26


def voc_colors() -> NDArray[np.uint8]:
    """Return VOC's 256 colours (256, 3): the bits of a number, spread over red, green and blue.

    VOCdevkit, VOClabelcolormap.m.
    """
    numbers = np.arange(256)
    colors = np.zeros((256, 3), np.int64)
    for bit in range(8):
        for channel in range(3):
            colors[:, channel] |= (numbers >> (3 * bit + channel) & 1) << (7 - bit)
    return colors.astype(np.uint8)


def encode_numbers(numbers: NDArray[np.uint8], palette: NDArray[np.uint8]) -> bytes:
    """Return the PNG of numbers (H, W) with a palette (256, 3)."""
    image = Image.fromarray(numbers)
    image.putpalette(palette.tobytes())
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


def decode_numbers(data: bytes) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
    """Return the numbers (H, W) in a PNG, and its palette (256, 3), if it has one.

    Of a colour picture, the numbers are ``65536 R + 256 G + B``, as int64.

    Raises
    ------
    AnnotationError
        If it is damaged or too large; the message does not name the file.
    """
    with named_errors(Path()):
        try:
            opened = Image.open(io.BytesIO(data), formats=("PNG",))
        except Image.DecompressionBombError as error:
            raise AnnotationError(f"too large ({error})") from error
        with opened as image:
            if image.mode == "P":
                palette = np.zeros((256, 3), np.uint8)
                found = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
                palette[: len(found)] = found
                return np.asarray(image), palette
            if image.mode in ("L", "1", "I") or image.mode.startswith("I;16"):
                return np.asarray(image), None
            if image.width * image.height > _MAX_COLOR_PIXELS:
                raise AnnotationError(f"too large for a colour picture ({image.size})")
            return packed_colors(np.asarray(image.convert("RGB"))), None


def packed_colors(colors: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return one number for each colour (..., 3)."""
    packed: NDArray[np.int64] = colors.astype(np.int64) @ np.array([65536, 256, 1])
    return packed


def read_numbers(path: Path) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
    """Return what `decode_numbers` does of a file.

    Raises
    ------
    AnnotationError
        As `decode_numbers`, or if there is no such file.
    """
    return decode_numbers(read_bytes(path))


def object_numbers(image: NDArray[Any]) -> NDArray[Any]:
    """Return instance numbers (H, W) with 0 for none and 255 for void.

    Colours are those of VOC's palette; others get the numbers from 256 on.
    """
    if image.dtype != np.int64:
        return image.astype(np.uint8) if image.dtype == np.bool_ else image
    known = packed_colors(voc_colors())
    colors, index = np.unique(image, return_inverse=True)
    number_of = {int(color): number for number, color in reversed(list(enumerate(known)))}
    free = iter(range(256, 256 + len(colors)))
    numbers = [number_of[c] if c in number_of else next(free) for c in colors.tolist()]
    return np.array(numbers, np.int64)[index].reshape(image.shape)


def instance_numbers(instances: InstanceSet) -> NDArray[np.int64]:
    """Return a number 1 to 254 for each instance (N,): its handle, else the next free one; 0: none.

    A PNG of VOC has no more, so the last ones of more than 254 instances get none.
    """
    numbers = np.where(instances.handles <= MAX_NUMBER, instances.handles, 0)
    free = iter(sorted(set(range(1, MAX_NUMBER + 1)) - set(numbers.tolist())))
    for position in np.flatnonzero(numbers == 0):
        numbers[position] = next(free, 0)
    return numbers


def draw_numbers(instances: InstanceSet, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return numbers drawn into an image (H, W); where masks overlap, the top-most shows."""
    drawn = np.zeros(instances.image_hw, np.uint8)
    for position in instances.drawing_order():
        if numbers[position]:
            mask = instances.masks[position]
            drawn[mask.slices][mask.pixels] = numbers[position]
    return drawn
