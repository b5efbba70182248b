"""Geometries of GeoJSON that nobody vouches for, as shapely polygons."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import shapely

from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.dataset.formats.column_crossings import checked_ring

# no set: a file may say that a type is a list, which has no hash
_NO_INSIDE = ("Point", "MultiPoint", "LineString", "MultiLineString")
# a polygon for an ellipse stays within a thousandth of its radius
_ELLIPSE_CORNERS = 128
# an ellipse of QuPath's may be given by its box alone: four corners, the first one twice
_BOX_CORNERS = 5


def polygons_of(geometry: Any, complain: Callable[[str], None]) -> list[shapely.Polygon]:
    """Return the valid polygons of a GeoJSON geometry; points and lines are told and left out.

    Polygons that cross themselves are made valid by the even-odd rule, which is told, too.

    Raises
    ------
    AnnotationError
        If it is no geometry of GeoJSON, or a coordinate is no number or far from any image.
    """
    polygons = []
    for rings in _all_rings(geometry, complain):
        polygon = _polygon(rings)
        if polygon.is_valid:
            polygons.append(polygon)
            continue
        complain(f"{shapely.is_valid_reason(polygon)}: made valid by the even-odd rule")
        polygons += _polygons_in(shapely.make_valid(polygon))
    return polygons


def _all_rings(geometry: Any, complain: Callable[[str], None]) -> Iterator[list[Any]]:
    waiting = [geometry]
    while waiting:
        one = waiting.pop(0)
        if not isinstance(one, dict):
            raise AnnotationError(f"a geometry must be an object, got {_short(one)}")
        kind = one.get("type")
        inside = one.get("geometries" if kind == "GeometryCollection" else "coordinates")
        if kind in _NO_INSIDE:
            complain(f"a {kind} has no pixels, so it is left out")
        elif not isinstance(inside, list):
            raise AnnotationError(f"a geometry {_short(kind)} without its coordinates")
        elif kind == "GeometryCollection":
            waiting += inside
        elif kind == "MultiPolygon":
            yield from inside
        elif kind == "Polygon":
            yield [_ellipse(inside)] if _is_box_of_ellipse(one, inside) else inside
        else:
            raise AnnotationError(f"GeoJSON has no geometry {_short(kind)}")


def _polygon(rings: Any) -> shapely.Polygon:
    if not isinstance(rings, list) or not rings:
        raise AnnotationError(f"a polygon must be a list of rings, got {_short(rings)}")
    exterior, *holes = (_ring(ring) for ring in rings)
    return shapely.Polygon(exterior, holes)


def _ring(ring: Any) -> "np.ndarray[Any, np.dtype[np.float64]]":
    if not isinstance(ring, list) or len(ring) < 3:
        raise AnnotationError(f"a ring must be three points or more, got {_short(ring)}")
    for position in ring:
        if not isinstance(position, list) or len(position) < 2:
            raise AnnotationError(f"a point must be [x, y], got {_short(position)}")
    return checked_ring([position[:2] for position in ring])


def _is_box_of_ellipse(geometry: dict[str, Any], rings: list[Any]) -> bool:
    return (
        geometry.get("isEllipse") is True
        and len(rings) == 1
        and isinstance(rings[0], list)
        and len(rings[0]) <= _BOX_CORNERS
    )


def _ellipse(rings: list[Any]) -> list[list[float]]:
    corners = _ring(rings[0])
    low, high = corners.min(axis=0), corners.max(axis=0)
    angles = np.linspace(0, 2 * np.pi, _ELLIPSE_CORNERS, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    points: list[list[float]] = ((low + high) / 2 + circle * (high - low) / 2).tolist()
    return points


def _polygons_in(geometry: Any) -> list[shapely.Polygon]:
    if isinstance(geometry, shapely.Polygon):
        return [] if geometry.is_empty else [geometry]
    return [each for part in getattr(geometry, "geoms", ()) for each in _polygons_in(part)]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
