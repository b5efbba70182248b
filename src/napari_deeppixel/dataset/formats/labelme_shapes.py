"""LabelMe's shapes as masks, and masks as its shapes of type ``mask``."""

import base64
import binascii
import io
import math
import struct
import warnings
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.dataset.formats.column_crossings import check_mask_hw, packed_if_large
from napari_deeppixel.dataset.formats.polygons import rings_to_mask

_POLYGONS = frozenset({"polygon", "oriented_rectangle"})
# a rectangle or circle has two points
_NUM_POINTS = {"rectangle": 2, "circle": 2}
# what Pillow raises on damaged PNG files, next to OSError
_DAMAGED = (ValueError, SyntaxError, EOFError, IndexError, TypeError, struct.error, zlib.error)
# a circle is no larger than what a polygon may be
_MAX_RADIUS = 4e8


def mask_to_shape(mask: CroppedMask) -> dict[str, Any]:
    """Return ``points``, ``shape_type`` and ``mask`` of a mask.

    The two points are the first and the last *pixel* of the box.
    """
    x1, y1, x2, y2 = mask.box_xyxy
    file = io.BytesIO()
    Image.fromarray(mask.pixels.astype(np.uint8) * np.uint8(255)).save(file, format="PNG")
    return {
        "points": [[float(x1), float(y1)], [float(x2 - 1), float(y2 - 1)]],
        "shape_type": "mask",
        "mask": base64.b64encode(file.getvalue()).decode(),
    }


def shape_to_mask(shape: Mapping[str, Any], image_hw: tuple[int, int]) -> CroppedMask | None:
    """Return the mask of a shape in an image (H, W); None if no pixel of it is in the image.

    Raises
    ------
    AnnotationError
        If the shape has no area (points, lines), is of an unknown type, or makes no sense.
    """
    kind = shape.get("shape_type")
    # old versions leave it out
    kind = "polygon" if kind is None else repr(kind) if not isinstance(kind, str) else kind
    if kind == "mask":
        return _png_to_mask(shape, image_hw)
    if kind not in _POLYGONS and kind not in _NUM_POINTS:
        raise AnnotationError(f"a shape of type {kind!r:.40} has no area")
    points = _points(shape)
    if kind in _NUM_POINTS and len(points) != _NUM_POINTS[kind]:
        raise AnnotationError(f"a {kind} needs 2 points, got {len(points)}")
    if kind == "circle":
        return _circle_to_mask(points, image_hw)
    if kind == "rectangle":
        (x1, y1), (x2, y2) = points
        points = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
    return rings_to_mask([points], image_hw)


def _points(shape: Mapping[str, Any]) -> NDArray[np.float64]:
    points = shape.get("points")
    is_list = isinstance(points, list) and all(
        isinstance(point, list)
        and len(point) == 2
        and all(isinstance(v, int | float) and not isinstance(v, bool) for v in point)
        for point in points
    )
    if not is_list:
        raise AnnotationError(f"points must be a list of [x, y], got {points!r:.80}")
    try:
        array = np.array(points, np.float64).reshape(-1, 2)
    except OverflowError as error:
        raise AnnotationError("points must be finite, got a number of many digits") from error
    if not (np.abs(array) <= _MAX_RADIUS).all():
        raise AnnotationError(f"points must be finite and near the image, got {points!r:.80}")
    return array


def _circle_to_mask(points: NDArray[np.float64], image_hw: tuple[int, int]) -> CroppedMask | None:
    (x, y), (border_x, border_y) = points.tolist()
    radius = math.hypot(border_x - x, border_y - y)
    left, top = max(0, math.floor(x - radius)), max(0, math.floor(y - radius))
    right, bottom = min(image_hw[1], math.ceil(x + radius)), min(image_hw[0], math.ceil(y + radius))
    if right <= left or bottom <= top:
        return None
    check_mask_hw((bottom - top, right - left))
    columns = np.arange(left, right)[None] + 0.5
    rows = np.arange(top, bottom)[:, None] + 0.5
    inside = (columns - x) ** 2 + (rows - y) ** 2 <= radius**2
    return packed_if_large(CroppedMask.from_mask(inside, y=top, x=left))


def _png_to_mask(shape: Mapping[str, Any], image_hw: tuple[int, int]) -> CroppedMask | None:
    points = _points(shape)
    if not len(points):
        raise AnnotationError("a mask needs the points of its box, got none")
    pixels = _decoded(shape.get("mask"), image_hw)
    # newer versions of LabelMe round the first point and take the size from the PNG
    x, y = (round(value) for value in points[0].tolist())
    height, width = pixels.shape
    if x < 0 or y < 0 or x + width > image_hw[1] or y + height > image_hw[0]:
        raise AnnotationError(
            f"a mask of {height} x {width} pixels at x {x}, y {y} leaves its image of "
            f"{image_hw[0]} x {image_hw[1]}"
        )
    return packed_if_large(CroppedMask.from_mask(pixels, y=y, x=x))


def _decoded(text: Any, image_hw: tuple[int, int]) -> NDArray[np.bool_]:
    if not isinstance(text, str):
        raise AnnotationError(f"a mask must be a PNG in base64, got {text!r:.40}")
    try:
        data = base64.b64decode(text, validate=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
                if image.height > image_hw[0] or image.width > image_hw[1]:
                    raise AnnotationError(
                        f"a mask of {image.height} x {image.width} pixels in an image of "
                        f"{image_hw[0]} x {image_hw[1]}"
                    )
                check_mask_hw((image.height, image.width))
                pixels = np.asarray(image)
    except (OSError, Image.DecompressionBombError, binascii.Error, *_DAMAGED) as error:
        raise AnnotationError(f"a mask is no readable PNG ({error})") from error
    if pixels.ndim != 2:
        raise AnnotationError(f"a mask must be a grey PNG, got {pixels.shape[2]} channels")
    return pixels.astype(np.bool_)
