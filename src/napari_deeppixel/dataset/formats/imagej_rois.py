"""Single ROIs of ImageJ: an instance as one, and the pixels of one.

Outlines of areas lie on pixel edges in ImageJ: the pixel at row 2, column 3 is the polygon from
(3, 2) to (4, 3), so nothing shifts by half a pixel.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import roifile
from numpy.typing import NDArray

from napari_deeppixel.core.category import Category
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.instance import Instance
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.dataset.formats.column_crossings import (
    centre_crossings,
    checked_ring,
    mask_of_crossings,
)
from napari_deeppixel.dataset.formats.instance_values import instance_values
from napari_deeppixel.dataset.formats.polygons import mask_to_polygons

Ring = NDArray[np.float64]

_TYPE, _SUBTYPE, _OPTION = roifile.ROI_TYPE, roifile.ROI_SUBTYPE, roifile.ROI_OPTIONS
_OUTLINES = (_TYPE.POLYGON, _TYPE.FREEHAND, _TYPE.TRACED)
_NO_INSIDE = {
    _TYPE.LINE: "a line",
    _TYPE.FREELINE: "a line",
    _TYPE.POLYLINE: "a line",
    _TYPE.ANGLE: "an angle",
    _TYPE.POINT: "points",
    _TYPE.NOROI: "nothing",
}
_NO_OBJECT = {_SUBTYPE.TEXT: "a text", _SUBTYPE.ARROW: "an arrow", _SUBTYPE.IMAGE: "a picture"}
# whole coordinates have 16 bits; those of composite ROIs are floats, exact up to 2**24
_MAX_WHOLE = 32_767
_MAX_GROUP = 65_535
# path commands (java.awt.geom.PathIterator) → how many points follow
_MOVE, _CLOSE = 0, 4
_POINTS_OF: dict[float, int] = {_MOVE: 1, 1: 1, 2: 2, 3: 3, _CLOSE: 0}
# a quarter circle in 16 straight pieces is off by 0.0012 of its radius
_PIECES = 16
_MAX_OVAL_PIXELS = 1 << 30


def instance_to_roi(
    instance: Instance, category: Category, *, group: int, plane: Sequence[int]
) -> roifile.ImagejRoi:
    """Return an instance as a traced outline, or a composite ROI if it has holes or parts.

    Parameters
    ----------
    instance
        What to write.
    category
        Its category; the outline has its colour.
    group
        Number of the category among ImageJ's groups, from 1 on.
    plane
        Lead index, kept in the properties.
    """
    roi = roifile.ImagejRoi()
    roi.name = _basic(f"{instance.handle:04d} {category.name}")
    roi.group = group if group <= _MAX_GROUP else 0
    roi.stroke_color = bytes.fromhex(f"ff{category.color[1:]}")
    values = {"category": category.name, **instance_values(instance)}
    if plane:
        values["plane"] = " ".join(str(number) for number in plane)
    roi.props = "".join(f"{key}: {_to_text(value)}\n" for key, value in values.items())
    roi.left, roi.top, roi.right, roi.bottom = instance.mask.box_xyxy
    polygons = mask_to_polygons(instance.mask)
    rings = [ring for polygon in polygons for ring in polygon.rings]
    if len(rings) == 1 and max(roi.right, roi.bottom) <= _MAX_WHOLE:
        roi.roitype = _TYPE.TRACED
        roi.integer_coordinates = (rings[0] - [roi.left, roi.top]).astype(np.int32)
        roi.n_coordinates = len(rings[0])
    else:
        roi.roitype = _TYPE.RECT
        roi.multi_coordinates = np.concatenate([_path(ring) for ring in rings])
        roi.shape_roi_size = len(roi.multi_coordinates)
    return roi


def _path(ring: NDArray[Any]) -> NDArray[np.float32]:
    commands = np.column_stack([np.ones(len(ring)), ring])
    commands[0, 0] = _MOVE
    return np.append(commands.ravel(), _CLOSE).astype(np.float32)


def _basic(text: str) -> str:
    # roifile counts characters where ImageJ counts 16-bit units
    return "".join(each if each.isprintable() and ord(each) < 0xFFFF else "_" for each in text)


def _to_text(value: Any) -> str:
    text = str(value)
    is_plain = text == _basic(text) and text == text.strip() and text[:1] not in ("", '"')
    return text if is_plain else json.dumps(text)


def roi_values(roi: roifile.ImagejRoi) -> dict[str, Any]:
    """Return what the properties of a ROI say; ours as `instance_values` gives them."""
    values: dict[str, Any] = {}
    for line in roi.props.split("\n"):
        key, colon, text = line.partition(":")
        if colon:
            values[key.strip()] = _from_text(text.strip())
    for key, convert in (("handle", int), ("score", float)):
        try:
            values |= {key: convert(values[key])} if key in values else {}
        except ValueError:
            # whoever checks the values complains of it
            continue
    return values


def _from_text(text: str) -> str:
    if not text.startswith('"'):
        return text
    try:
        return str(json.loads(text))
    except (ValueError, RecursionError):
        return text


def roi_mask(
    roi: roifile.ImagejRoi, image_hw: tuple[int, int], complain: Callable[[str], None]
) -> CroppedMask | None:
    """Return the pixels of an image (H, W) in a ROI; None if there is none.

    Parameters
    ----------
    roi
        An area: outline, rectangle, oval, or a composite of these.
    image_hw
        Size of the image (height, width).
    complain
        Called with what could not be taken as it is.

    Raises
    ------
    AnnotationError
        If the ROI is no area, or its coordinates are no numbers near an image.
    """
    nothing = _NO_INSIDE.get(roi.roitype) or _NO_OBJECT.get(roi.subtype)
    if nothing:
        raise AnnotationError(f"{nothing}, not an area")
    if roi.roitype == _TYPE.OVAL:
        x1, y1, x2, y2 = _box(roi)
        mask = _oval_mask((x1, y1, x2, y2), image_hw)
    else:
        rings = [checked_ring(ring) for ring in _rings(roi, complain)]
        if not rings:
            return None
        mask = mask_of_crossings([centre_crossings(ring, image_hw) for ring in rings])
        points = np.concatenate(rings)
        (x1, y1), (x2, y2) = points.min(axis=0), points.max(axis=0)
    height, width = image_hw
    if mask is not None and (x1 < 0 or y1 < 0 or x2 > width or y2 > height):
        complain(f"reaches out of the image of {height} x {width} and was cut at its border")
    return mask


def _rings(roi: roifile.ImagejRoi, complain: Callable[[str], None]) -> list[Ring]:
    if roi.composite and roi.multi_coordinates is not None:
        return list(_rings_of_path(roi.multi_coordinates.astype(np.float64).tolist()))
    if roi.roitype == _TYPE.RECT:
        return [_rectangle(_box(roi), roi.rounded_rect_arc_size / 2)]
    if roi.roitype not in _OUTLINES:
        raise AnnotationError(f"ImageJ has no ROI of type {int(roi.roitype)}")
    if roi.options & _OPTION.SPLINE_FIT:
        complain("a spline: its points are joined by straight lines")
    coordinates = roi.coordinates()
    return [np.asarray(coordinates, np.float64)] if len(coordinates) > 2 else []


def _box(roi: roifile.ImagejRoi) -> tuple[float, float, float, float]:
    if roi.subpixelrect:
        box = (roi.xd, roi.yd, roi.xd + roi.widthd, roi.yd + roi.heightd)
    else:
        box = (roi.left, roi.top, roi.right, roi.bottom)
    checked_ring(list(box))
    return box


def _rectangle(box: tuple[float, float, float, float], radius: float) -> Ring:
    x1, y1, x2, y2 = box
    radius = max(0.0, min(radius, (x2 - x1) / 2, (y2 - y1) / 2))
    angles = np.linspace(0, np.pi / 2, _PIECES + 1) if radius else np.zeros(1)
    arc = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    corners = []
    for x, y in ((x2 - radius, y2 - radius), (x1 + radius, y2 - radius)):
        corners.append(arc * radius + (x, y))
        # the next corner's arc begins a quarter turn later
        arc = np.stack([-arc[:, 1], arc[:, 0]], axis=1)
    for x, y in ((x1 + radius, y1 + radius), (x2 - radius, y1 + radius)):
        corners.append(arc * radius + (x, y))
        arc = np.stack([-arc[:, 1], arc[:, 0]], axis=1)
    return np.concatenate(corners)


def _oval_mask(
    box: tuple[float, float, float, float], image_hw: tuple[int, int]
) -> CroppedMask | None:
    x1, y1, x2, y2 = box
    left, top = max(0, math.floor(x1)), max(0, math.floor(y1))
    right, bottom = min(image_hw[1], math.ceil(x2)), min(image_hw[0], math.ceil(y2))
    if left >= right or top >= bottom or not (x1 < x2 and y1 < y2):
        return None
    if (right - left) * (bottom - top) > _MAX_OVAL_PIXELS:
        raise AnnotationError(f"an oval of {bottom - top} x {right - left} pixels is too large")
    y = (2 * np.arange(top, bottom)[:, np.newaxis] + 1 - y1 - y2) / (y2 - y1)
    x = (2 * np.arange(left, right) + 1 - x1 - x2) / (x2 - x1)
    return CroppedMask.from_mask(y**2 + x**2 <= 1, y=top, x=left)


def _rings_of_path(path: Sequence[float]) -> Iterator[Ring]:
    """Yield the closed outlines of a path, its curves as short straight pieces."""
    points: list[NDArray[np.float64]] = []
    at = 0
    while at < len(path):
        num_points = _POINTS_OF.get(path[at])
        if num_points is None or at + 2 * num_points >= len(path):
            raise AnnotationError(f"a path that breaks off at number {at} of {len(path)}")
        given = np.array(path[at + 1 : at + 1 + 2 * num_points], np.float64).reshape(-1, 2)
        if path[at] in (_MOVE, _CLOSE):
            if len(points) > 2:
                yield np.array(points)
            points = [given[0]] if path[at] == _MOVE else points[:1]
        elif not points:
            raise AnnotationError("a path that does not begin with a point")
        else:
            points += _curve(np.vstack([points[-1], given]))
        at += 1 + 2 * num_points
    if len(points) > 2:
        yield np.array(points)


def _curve(controls: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Return the points of a Bézier curve after its first one; of a line, its end."""
    degree = len(controls) - 1
    if degree == 1:
        return [controls[1]]
    t = np.linspace(0, 1, _PIECES + 1)[1:, np.newaxis]
    weights = [math.comb(degree, k) * t**k * (1 - t) ** (degree - k) for k in range(degree + 1)]
    return list(sum(w * point for w, point in zip(weights, controls, strict=True)))


def roi_color(roi: roifile.ImagejRoi) -> str:
    """Return ``#rrggbb`` of a ROI's outline; empty if it has none of its own."""
    return f"#{roi.stroke_color[1:].hex()}" if roi.stroke_color[0] else ""


def roi_plane(roi: roifile.ImagejRoi) -> Mapping[str, int]:
    """Return the numbers t and z, from 0, that a ROI is tied to; empty if to none."""
    if roi.z_position > 0 or roi.t_position > 0:
        found = {"t": roi.t_position, "z": roi.z_position}
        return {axis: number - 1 for axis, number in found.items() if number > 0}
    return {"z": roi.position - 1} if roi.position > 0 else {}
