"""A part of a plane with what lies in it, as an image of its own."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from uuid import uuid4

import shapely

from napari_deeppixel.core.geometry import Outline
from napari_deeppixel.core.instance import Instance, InstanceSet
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.edits.diff import Region


def cut_instances(instances: InstanceSet, region_xyxy: Region) -> InstanceSet:
    """Return the instances of a plane that have a pixel in a region, cut at its border.

    They are instances of another image: their uuids are new, their handles stay.

    Parameters
    ----------
    instances
        Of the plane.
    region_xyxy
        x1, y1, x2, y2 inside the plane.
    """
    x1, y1, x2, y2 = region_xyxy
    return InstanceSet.from_instances(
        (cut for instance in instances for cut in _cut(instance, region_xyxy)),
        image_hw=(y2 - y1, x2 - x1),
        categories=instances.categories,
    )


def _cut(instance: Instance, region_xyxy: Region) -> Iterator[Instance]:
    x1, y1, x2, y2 = region_xyxy
    left, top, right, bottom = instance.box_xyxy
    low_y, low_x = max(top, y1), max(left, x1)
    high_y, high_x = min(bottom, y2), min(right, x2)
    if low_y >= high_y or low_x >= high_x:
        return
    pixels = instance.mask.pixels[low_y - top : high_y - top, low_x - left : high_x - left]
    mask = CroppedMask.from_mask(pixels, y=low_y - y1, x=low_x - x1)
    if mask is not None:
        a, b, c, d = instance.predicted_box_xyxy
        yield replace(
            instance,
            mask=mask,
            uuid=str(uuid4()),
            predicted_box_xyxy=(a - x1, b - y1, c - x1, d - y1),
        )


def cut_regions(regions: Iterable[Outline], region_xyxy: Region) -> tuple[Outline, ...]:
    """Return the complete regions of a plane inside a part of it, in its own coordinates."""
    x1, y1, x2, y2 = region_xyxy
    frame = shapely.box(x1, y1, x2, y2)
    found: list[list[tuple[float, float]]] = []
    for region in regions:
        # one that crosses itself covers what its even-odd rule says
        inside = shapely.make_valid(shapely.Polygon(region)).intersection(frame)
        for part in shapely.get_parts(inside):
            found += _rings(part)
    return tuple(tuple((x - x1, y - y1) for x, y in ring) for ring in found)


def _rings(part: shapely.Geometry) -> Iterator[list[tuple[float, float]]]:
    """Yield outlines without holes that cover a polygon; nothing for lines and points."""
    if not isinstance(part, shapely.Polygon) or part.is_empty:
        return
    if not part.interiors:
        yield [(float(x), float(y)) for x, y in shapely.get_coordinates(part.exterior)[:-1]]
        return
    # an outline has no holes: halve it where the hole is until none is left
    low_x, low_y, high_x, high_y = part.bounds
    middle = shapely.Polygon(part.interiors[0]).centroid.x
    for half in (
        shapely.box(low_x, low_y, middle, high_y),
        shapely.box(middle, low_y, high_x, high_y),
    ):
        for piece in shapely.get_parts(part.intersection(half)):
            yield from _rings(piece)
