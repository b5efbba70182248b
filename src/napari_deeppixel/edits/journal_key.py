"""The key by which the journal of an image is found: what its pixels are."""

import hashlib
import math
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.core.image import ImageArray

_PLANES = 16
# 4 planes of 4096 x 4096: in memory 60 ms (uint8) or 134 ms (uint16), one alone 14 or 36 ms
# (measured on one core, 2026-11); from a lazy array what reading 4 planes takes
_WHOLE_PIXELS = 2**26
# of a plane that is larger than that
_BLOCKS_PER_AXIS, _BLOCK = 4, 512
_STRIP_BYTES = 2**20


def image_key(image: ImageArray) -> str:
    """Return a key of an image's pixels, so that a renamed or moved file finds its journal.

    BLAKE2b over shape, type, axes and the CRC-32 of each MiB of up to 16 planes, spread evenly:
    as many as have 2**26 pixels together, but at least one that is in memory. Of larger planes
    that are not, 16 blocks of 512 x 512 pixels on a grid of 4 planes. Images that differ elsewhere
    only share a key. Reads pixels, which may take long: not for the GUI thread.
    """
    dtype = np.dtype(image.pixels.dtype).newbyteorder("<")
    shape = tuple(int(size) for size in image.pixels.shape)
    digest = hashlib.blake2b(f"{shape} {dtype.str} {image.axes}".encode(), digest_size=20)
    for pixels in _sample(image):
        digest.update(_checksums(np.ascontiguousarray(pixels, dtype)))
    return digest.hexdigest()


def _checksums(pixels: NDArray[np.generic]) -> bytes:
    """Return the CRC-32 of each MiB: BLAKE2b of the pixels themselves takes five times as long."""
    data = pixels.reshape(-1).view(np.uint8).data
    sums = [zlib.crc32(data[at : at + _STRIP_BYTES]) for at in range(0, len(data), _STRIP_BYTES)]
    return np.array(sums, "<u4").tobytes()


def _sample(image: ImageArray) -> Iterator[NDArray[np.generic]]:
    height, width = image.image_hw
    whole = _WHOLE_PIXELS // (height * width)
    if type(image.pixels) is np.ndarray:  # not one that is mapped from a file
        whole = max(whole, 1)
    regions = [(0, 0, width, height)]
    if not whole:
        regions = [
            (x, y, min(x + _BLOCK, width), min(y + _BLOCK, height))
            for y in _spread(max(1, height - _BLOCK + 1), _BLOCKS_PER_AXIS)
            for x in _spread(max(1, width - _BLOCK + 1), _BLOCKS_PER_AXIS)
        ]
    for place in _spread(math.prod(image.lead_shape), min(whole, _PLANES) or 4):
        index = tuple(int(i) for i in np.unravel_index(place, image.lead_shape or (1,)))
        for region in regions:
            yield image.plane(index if image.lead_shape else (), region_xyxy=region)


def _spread(count: int, most: int) -> list[int]:
    """Return up to `most` of the places 0 … count - 1, the first and the last among them.

    If there may be one only, the middle: the ends of a stack are often dark.
    """
    if most == 1:
        return [count // 2]
    return sorted({int(place) for place in np.linspace(0, count - 1, min(count, most))})
