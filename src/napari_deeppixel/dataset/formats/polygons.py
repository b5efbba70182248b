"""Masks as outlines along the edges of their pixels, and back: exact both ways.

The usual recipe joins the *centres* of border pixels (`cv2.findContours`), which takes half a
pixel off every side once the outline is filled by COCO's rule: nuclei keep an IoU of 0.83.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial import Delaunay

from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.dataset.formats.column_crossings import (
    centre_crossings,
    checked_ring,
    coco_crossings,
    joined_mask,
    mask_of_crossings,
)

# (K, 2) vertices x, y on whole numbers; the last one is joined to the first
Ring: TypeAlias = NDArray[np.int64]

# which neighbours of a corner are set: 1 top left, 2 top right, 4 bottom left, 8 bottom right
_CORNER_CODES = (1, 2, 4, 8, 7, 11, 13, 14)
_TWO_CORNERS = (6, 9)
# with the object on the right-hand side, these corners are left along a row
_LEFT_ALONG_ROW = np.isin(np.arange(16), (1, 8, 9, 11, 13))


@dataclass(frozen=True, kw_only=True, eq=False)
class PixelPolygon:
    """The outline of pixels that touch along edges.

    Attributes
    ----------
    exterior
        int64 (K, 2), x, y on pixel edges, clockwise on the screen; corners only, the first one not
        repeated.
    holes
        The same of each hole, counter-clockwise.
    """

    exterior: Ring
    holes: tuple[Ring, ...]

    @property
    def rings(self) -> tuple[Ring, ...]:
        """The exterior, then the holes."""
        return (self.exterior, *self.holes)


def mask_to_polygons(mask: CroppedMask) -> list[PixelPolygon]:
    """Return the outlines of a mask's parts: one of each group of pixels that touch along edges.

    No ring meets itself; rings may meet each other in single points, as OGC's rules allow.
    """
    crop = mask.pixels
    rings = _outlines(crop)
    origin = np.array([mask.x, mask.y])
    is_hole = [_doubled_area(ring) < 0 for ring in rings]
    if len(rings) - sum(is_hole) == 1:
        parts = np.zeros(len(rings), np.int64)
    else:
        labels, _ = ndimage.label(crop)
        parts = np.array([labels[_pixel_beside(ring)] for ring in rings])
    holes: dict[int, list[Ring]] = {}
    for ring, part, hole in zip(rings, parts.tolist(), is_hole, strict=True):
        if hole:
            holes.setdefault(part, []).append(ring + origin)
    return [
        PixelPolygon(exterior=ring + origin, holes=tuple(holes.get(part, ())))
        for ring, part, hole in zip(rings, parts.tolist(), is_hole, strict=True)
        if not hole
    ]


def mask_to_geometry(mask: CroppedMask) -> shapely.Polygon | shapely.MultiPolygon:
    """Return the outline of a mask as a valid shape on pixel edges, holes and all."""
    polygons = [
        shapely.Polygon(polygon.exterior, polygon.holes) for polygon in mask_to_polygons(mask)
    ]
    return polygons[0] if len(polygons) == 1 else shapely.MultiPolygon(polygons)


def mask_to_keyhole(mask: CroppedMask) -> Ring:
    """Return one ring that outlines all of a mask, for formats of one polygon an object.

    Holes and parts are joined by cuts without a width, each gone along twice, so that an even-odd
    rule (COCO's among them) fills exactly the mask. The cuts are the shortest that join all rings.
    """
    rings = [ring for polygon in mask_to_polygons(mask) for ring in polygon.rings]
    if len(rings) == 1:
        return rings[0]
    vertices = np.concatenate(rings)
    sizes = [len(ring) for ring in rings]
    after = np.arange(1, len(vertices) + 1)
    ends = np.cumsum(sizes)
    after[ends - 1] = ends - sizes
    ring_of = np.repeat(np.arange(len(rings)), sizes)
    place, following = list(range(len(vertices))), after.tolist()
    for one, other in _shortest_cuts(vertices, ring_of):
        # each end is there twice; exchanging what follows makes one ring of two
        for vertex in (one, other):
            place.append(vertex)
            following.append(following[vertex])
            following[vertex] = len(place) - 1
        following[one], following[other] = following[other], following[one]
    joined: Ring = vertices[[place[vertex] for vertex in _walk(following, 0)]]
    is_new = (joined != np.roll(joined, 1, axis=0)).any(axis=1)
    return joined.compress(is_new, axis=0)


def geometry_to_mask(geometry: shapely.Geometry, image_hw: tuple[int, int]) -> CroppedMask | None:
    """Return the pixels of an image (H, W) whose centre lies in a shape; None if there is none.

    Exact for shapes on pixel edges. A polygon that crosses itself is filled by the even-odd rule;
    polygons of one shape are joined. Points and lines have no inside.

    Raises
    ------
    AnnotationError
        If a coordinate is not finite or far from any image, or the mask would be huge.
    """
    masks = []
    for part in _polygons_of(geometry):
        rings = [shapely.get_coordinates(ring) for ring in (part.exterior, *part.interiors)]
        mask = mask_of_crossings(
            map(centre_crossings, map(checked_ring, rings), [image_hw] * len(rings))
        )
        masks += [mask] if mask is not None else []
    return joined_mask(masks)


def rings_to_mask(rings: Sequence[ArrayLike], image_hw: tuple[int, int]) -> CroppedMask | None:
    """Return what COCO makes of polygons in an image (H, W), joined; None if it is no pixel.

    Pixel for pixel what `frPyObjects` gives (maskApi.c, rleFrPoly), with work and memory for the
    polygon's own box only, wherever its vertices lie.

    Parameters
    ----------
    rings
        Each a flat x, y, x, y, … of three vertices or more, or an array (K, 2).
    image_hw
        Size of the image (height, width).

    Raises
    ------
    AnnotationError
        If a ring is none, a coordinate is not finite or far from any image, or the mask would be
        huge.
    """
    masks = []
    for ring in rings:
        vertices = checked_ring(ring)
        if len(vertices) < 3:
            raise AnnotationError(f"a polygon needs 3 vertices or more, got {len(vertices)}")
        mask = mask_of_crossings([coco_crossings(vertices, image_hw)])
        masks += [mask] if mask is not None else []
    return joined_mask(masks)


def _outlines(crop: NDArray[np.bool_]) -> list[Ring]:
    """Return rings (K, 2) round all parts and holes of a crop, the object on their right."""
    codes = _corner_codes(crop)
    y, x = np.nonzero(np.isin(codes, (*_CORNER_CODES, *_TWO_CORNERS)))
    code = codes[y, x]
    twice = np.flatnonzero(np.isin(code, _TWO_CORNERS))
    n = len(code)
    y, x, code = (np.concatenate([values, values[twice]]) for values in (y, x, code))
    # where pixels touch at a corner, each has a corner of its own: first the upper one
    is_lower = np.arange(len(code)) >= n
    is_right = np.where(code == _TWO_CORNERS[0], ~is_lower, is_lower)
    # along a row of corners, the first and second are joined, the third and fourth, …
    in_row = _partners(np.lexsort((is_right, x, y)))
    in_column = _partners(np.lexsort((is_lower, y, x)))
    following = np.where(_LEFT_ALONG_ROW[code], in_row, in_column).tolist()
    twin = dict(zip(twice.tolist(), range(n, len(code)), strict=True))
    twin |= {second: first for first, second in twin.items()}
    vertices = np.stack([x, y], axis=1)
    return [
        vertices[loop]
        for ring in _cycles(following)
        for loop in (_split_at_twins(ring, twin) if twin else [ring])
    ]


def _corner_codes(crop: NDArray[np.bool_]) -> NDArray[np.uint8]:
    padded = np.pad(crop, 1).view(np.uint8)
    above = padded[:-1, :-1] | padded[:-1, 1:] << 1
    below = padded[1:, :-1] << 2 | padded[1:, 1:] << 3
    return (above | below).astype(np.uint8, copy=False)


def _partners(order: NDArray[np.intp]) -> NDArray[np.intp]:
    partners = np.empty_like(order)
    partners[order[0::2]] = order[1::2]
    partners[order[1::2]] = order[0::2]
    return partners


def _cycles(following: list[int]) -> Iterator[list[int]]:
    is_done = bytearray(len(following))
    for start in range(len(following)):
        if not is_done[start]:
            cycle = list(_walk(following, start))
            for vertex in cycle:
                is_done[vertex] = 1
            yield cycle


def _walk(following: list[int], start: int) -> Iterator[int]:
    yield start
    vertex = following[start]
    while vertex != start:
        yield vertex
        vertex = following[vertex]


def _split_at_twins(ring: list[int], twin: dict[int, int]) -> Iterator[list[int]]:
    """Yield the loops of a ring that comes to one point more than once: no ring meets itself."""
    path: list[int] = []
    positions: dict[int, int] = {}
    for vertex in ring:
        start = positions.get(twin.get(vertex, -1))
        if start is not None:
            loop = path[start:]
            del path[start:]
            for gone in loop:
                positions.pop(gone, None)
            yield loop
        if vertex in twin:
            positions[vertex] = len(path)
        path.append(vertex)
    yield path


def _doubled_area(ring: Ring) -> int:
    x, y = ring.T
    return int((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())


def _pixel_beside(ring: Ring) -> tuple[int, int]:
    """Return the index of the pixel to the right of a ring's first edge, on the screen."""
    (x, y), (next_x, next_y) = ring[0].tolist(), ring[1].tolist()
    return y - (next_x < x or next_y < y), x - (next_x < x or next_y > y)


def _shortest_cuts(vertices: Ring, ring_of: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return pairs of vertices: the shortest cuts that join all rings to one.

    These are among the edges of the Delaunay triangulation (Shamos & Hoey 1975).
    """
    pairs = _near_pairs(vertices)
    rings = ring_of[pairs]
    pairs, rings = pairs[rings[:, 0] != rings[:, 1]], rings[rings[:, 0] != rings[:, 1]]
    rings.sort(axis=1)
    # 1 more, since 0 means no edge
    lengths = 1 + ((vertices[pairs[:, 0]] - vertices[pairs[:, 1]]) ** 2).sum(axis=1)
    order = np.lexsort((lengths, rings[:, 1], rings[:, 0]))
    pairs, rings, lengths = pairs[order], rings[order], lengths[order]
    is_first = np.append(True, (rings[1:] != rings[:-1]).any(axis=1))
    pairs, rings, lengths = pairs[is_first], rings[is_first], lengths[is_first]
    num_rings = int(ring_of[-1]) + 1
    graph = coo_array((lengths, (rings[:, 0], rings[:, 1])), shape=(num_rings, num_rings))
    chosen = minimum_spanning_tree(graph.tocsr()).tocoo()
    pair_of = {
        (int(a), int(b)): (int(i), int(j)) for (a, b), (i, j) in zip(rings, pairs, strict=True)
    }
    return [pair_of[int(a), int(b)] for a, b in zip(chosen.row, chosen.col, strict=True)]


def _near_pairs(vertices: Ring) -> NDArray[np.int64]:
    points, index, point_of = np.unique(vertices, axis=0, return_index=True, return_inverse=True)
    point_of = point_of.ravel()
    triangulation = Delaunay(points - points.min(axis=0))
    corners = triangulation.simplices
    sides = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]])
    # points that rounding left out hang on their nearest neighbour
    sides = np.concatenate([sides, triangulation.coplanar[:, [0, 2]]])
    same = np.stack([np.arange(len(vertices)), index[point_of]], axis=1)
    return np.concatenate([index[sides], same]).astype(np.int64)


def _polygons_of(geometry: Any) -> Iterator[shapely.Polygon]:
    parts = [geometry]
    while parts:
        part = parts.pop()
        if isinstance(part, shapely.Polygon):
            yield part
        elif hasattr(part, "geoms"):
            parts += part.geoms
