"""Masks in CVAT's XML: run lengths row by row inside a box, the unset ones first.

As CVAT 2 writes and reads them (cvat/apps/dataset_manager/formats/cvat.py).
"""

from collections.abc import Mapping

import numpy as np

from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.dataset.formats.column_crossings import check_mask_hw, packed_if_large
from napari_deeppixel.dataset.formats.polygons import rings_to_mask

# a number of more digits is no coordinate
_MAX_DIGITS = 30
_MAX_RADIUS = 1e8
# off by less than a twentieth of a pixel at a radius of 1,000 pixels
_ELLIPSE_CORNERS = 360


def mask_to_attributes(mask: CroppedMask) -> dict[str, str]:
    """Return the XML attributes ``rle``, ``left``, ``top``, ``width`` and ``height`` of a mask."""
    x1, y1, x2, y2 = mask.box_xyxy
    flat = np.concatenate([[False], mask.pixels.ravel()])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], edges, [flat.size - 1]]))
    return {
        "rle": ", ".join(str(count) for count in counts.tolist()),
        "left": str(x1),
        "top": str(y1),
        "width": str(x2 - x1),
        "height": str(y2 - y1),
    }


def attributes_to_mask(
    attributes: Mapping[str, str], image_hw: tuple[int, int]
) -> CroppedMask | None:
    """Return the mask that XML attributes describe; None if it sets no pixel.

    Raises
    ------
    AnnotationError
        If one is missing or no number, the box leaves the image, or the runs do not fill it.
    """
    left, top, width, height = (
        _whole(attributes.get(name, ""), name) for name in ("left", "top", "width", "height")
    )
    is_inside = left >= 0 and top >= 0 and width >= 1 and height >= 1
    if not is_inside or left + width > image_hw[1] or top + height > image_hw[0]:
        raise AnnotationError(
            f"a mask of {height} x {width} pixels at x {left}, y {top} leaves its image of "
            f"{image_hw[0]} x {image_hw[1]}"
        )
    check_mask_hw((height, width))
    words = attributes.get("rle", "").split(",")
    counts = np.array([_whole(word, "rle") for word in words], np.int64)
    # older versions leave out the unset pixels at the end
    if (counts < 0).any() or counts.sum() > width * height:
        raise AnnotationError(
            f"run lengths must add up to {height} x {width} pixels, got {int(counts.sum())}"
        )
    values = np.arange(counts.size) % 2 == 1
    pixels = np.zeros(width * height, np.bool_)
    pixels[: counts.sum()] = np.repeat(values, counts)
    return packed_if_large(CroppedMask.from_mask(pixels.reshape(height, width), y=top, x=left))


def points_to_mask(text: str, image_hw: tuple[int, int]) -> CroppedMask | None:
    """Return the mask of a polygon ``x,y;x,y;…`` by COCO's rule; None if it has no pixel.

    Raises
    ------
    AnnotationError
        If it is no polygon.
    """
    pairs = [pair.split(",") for pair in text.split(";")]
    if any(len(pair) != 2 for pair in pairs):
        raise AnnotationError(f"points must look like 1.5,2;3,4;…, got {text!r:.60}")
    ring = [(number_of(x, "points"), number_of(y, "points")) for x, y in pairs]
    return rings_to_mask([ring], image_hw)


def ellipse_to_mask(attributes: Mapping[str, str], image_hw: tuple[int, int]) -> CroppedMask | None:
    """Return the pixels whose centre lies in an ellipse; None if there is none.

    Raises
    ------
    AnnotationError
        If a number is missing or makes no sense.
    """
    x, y, radius_x, radius_y = (
        number_of(attributes.get(name, ""), name) for name in ("cx", "cy", "rx", "ry")
    )
    angle = np.deg2rad(number_of(attributes.get("rotation", "0"), "rotation"))
    if not (0 < radius_x < _MAX_RADIUS and 0 < radius_y < _MAX_RADIUS and np.isfinite(angle)):
        raise AnnotationError(f"an ellipse needs two radii, got {radius_x} and {radius_y}")
    turns = np.linspace(0, 2 * np.pi, _ELLIPSE_CORNERS, endpoint=False)
    along, across = radius_x * np.cos(turns), radius_y * np.sin(turns)
    ring = np.stack(
        [
            x + along * np.cos(angle) - across * np.sin(angle),
            y + along * np.sin(angle) + across * np.cos(angle),
        ],
        axis=1,
    )
    return rings_to_mask([ring], image_hw)


def number_of(text: str, what: str) -> float:
    """Return the number that a text is.

    Raises
    ------
    AnnotationError
        If it is none.
    """
    try:
        return float(text) if len(text) <= _MAX_DIGITS else float("nan")
    except ValueError as error:
        raise AnnotationError(f"{what} must be a number, got {text!r:.40}") from error


def _whole(text: str, what: str) -> int:
    number = number_of(text, what)
    if not abs(number) < 1 << 40 or number != int(number):
        raise AnnotationError(f"{what} must be whole numbers, got {text!r:.40}")
    return int(number)
