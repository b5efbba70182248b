"""Arrays as image files: PNG where it holds all, else TIFF."""

import hashlib
import io
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

_PNG_CHANNELS = (3, 4)


def storable(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return pixels (H, W) or (H, W, C) of a type that image readers know."""
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype == np.float16:
        return pixels.astype(np.float32)
    return np.ascontiguousarray(pixels)


def suffix_for(pixels: NDArray[Any]) -> str:
    """Return ``.png`` or ``.tif``: what `encode_pixels` makes of storable pixels."""
    return ".png" if _is_png(pixels) else ".tif"


def encode_pixels(pixels: NDArray[Any]) -> bytes:
    """Return the image file of storable pixels (H, W) or (H, W, C), without loss."""
    return _png(pixels) if _is_png(pixels) else _tiff(pixels)


def _is_png(pixels: NDArray[Any]) -> bool:
    return pixels.dtype == np.uint8 and (pixels.ndim == 2 or pixels.shape[2] in _PNG_CHANNELS)


def _png(pixels: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", compress_level=3)
    return file.getvalue()


def _tiff(pixels: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    is_rgb = pixels.ndim == 3 and pixels.shape[2] in _PNG_CHANNELS
    tifffile.imwrite(
        file,
        pixels,
        compression="zlib",
        photometric="rgb" if is_rgb else "minisblack",
        # without it, (H, W, 2) would be H images
        planarconfig="contig" if pixels.ndim == 3 else None,
        metadata={"axes": "YX" if pixels.ndim == 2 else "YXS" if is_rgb else "YXC"},
    )
    return file.getvalue()


def pixels_hash(pixels: NDArray[Any]) -> str:
    """Return the SHA-256 of an array's values, type and shape, as hexadecimal digits."""
    about = f"{pixels.dtype.str} {pixels.shape} ".encode()
    return hashlib.sha256(about + pixels.tobytes()).hexdigest()
