"""Where a line that a person draws cuts the pixels of one mask apart."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from napari_deeppixel.core.geometry import BoolImage

_Points = NDArray[np.float64]
_Parts = NDArray[Any]

_ALL_NEIGHBOURS = np.ones((3, 3), np.bool_)
# to half of the neighbours; the other half takes the same ways back
_STEPS = ((0, 1), (1, -1), (1, 0), (1, 1))

# chosen on made discs, dumbbells and rings
_REACH_PX = 5.0
_REACH_SHARE = 0.2  # of the line's length
_CLOSED_SHARE = 0.1  # of the line's length
_HEADING_PX = 3.0
_SCRAP_SHARE = 0.02  # of the mask
_PIECE_PX = 16.0
# A pixel centre on the line has no side. No line between points of a pixel grid has this slope.
_NUDGE = 1e-4 * np.array([1.0, math.sqrt(0.5)])


def cut_parts(pixels: BoolImage, line_yx: _Points) -> _Parts:
    """Return part numbers (h, w), 1 and up on the set pixels, different where a line cuts.

    `napari_deeppixel.edits.reshape.split_by_line` says what counts as cut.

    Parameters
    ----------
    pixels
        Crop (h, w) with a set pixel.
    line_yx
        Points (K, 2) in their order, (0, 0) at the centre of the crop's first pixel.
    """
    length = float(np.linalg.norm(np.diff(line_yx, axis=0), axis=1).sum())
    if length == 0:
        return pixels.astype(np.int32)
    pieces = _pieces(_carried_out(line_yx, pixels, length)) + _NUDGE
    cuts = _cut_steps(pixels.shape, pieces)
    is_under = np.zeros_like(pixels)
    for cut, step in zip(cuts, _STEPS, strict=True):
        start, end = _step_ends(is_under, step)
        start |= _step_ends(cut, step)[0]
        end |= _step_ends(cut, step)[0]
    is_under &= pixels
    # what hangs together away from the line is one node, each pixel beside it another
    nodes, count = ndimage.label(pixels & ~is_under, structure=_ALL_NEIGHBOURS)
    nodes[is_under] = np.arange(count + 1, count + 1 + np.count_nonzero(is_under))
    joins = [*_step_joins(nodes, cuts), _bridge_joins(nodes, pixels, pieces)]
    return _without_scraps(_joined(nodes, np.concatenate(joins, axis=1)), is_under)


def nearest_parts(parts: _Parts) -> _Parts:
    """Return part numbers (h, w) with each zero replaced by the number nearest to it."""
    nearest: _Parts = parts[tuple(_nearest_set(parts > 0))]
    return nearest


def _nearest_set(pixels: BoolImage) -> NDArray[np.intp]:
    """Return row and column (2, h, w) of the set pixel nearest to each pixel."""
    nearest = ndimage.distance_transform_edt(~pixels, return_distances=False, return_indices=True)
    return nearest.astype(np.intp)


def _carried_out(line: _Points, pixels: BoolImage, length: float) -> _Points:
    if np.linalg.norm(line[-1] - line[0]) <= _CLOSED_SHARE * length:
        return np.concatenate([line, line[:1]])
    # a line that ends in a hole has not got out yet
    body = ndimage.binary_fill_holes(pixels)
    reach_px = max(_REACH_PX, _REACH_SHARE * length)
    start, end = _way_out(line, body, reach_px), _way_out(line[::-1], body, reach_px)
    return np.concatenate([start, line, end])


def _way_out(line: _Points, body: BoolImage, reach_px: float) -> _Points:
    """Return the point (1, 2) outside a body before a line's first one; (0, 2) if not in reach."""
    # the last points of a line drawn by hand tremble
    heading = line[0] - line
    far = np.linalg.norm(heading, axis=1)
    inner = int(np.argmax(far >= _HEADING_PX)) or int(np.argmax(far))
    direction = heading[inner] / far[inner]
    way = line[0] + np.arange(0, reach_px + 0.5, 0.5)[:, None] * direction
    nearest = np.rint(way).astype(np.int64)
    is_inside = ((nearest >= 0) & (nearest < body.shape)).all(axis=1)
    is_inside[is_inside] = body[tuple(nearest[is_inside].T)]
    if not is_inside[0] or is_inside.all():
        return np.zeros((0, 2))
    # one pixel on, past the corner where two pixels of the mask may touch
    out: _Points = way[[int(np.argmin(is_inside))]] + direction
    return out


def _pieces(line: _Points) -> _Points:
    """Return the pieces (M, 2, 2) of a line, so short that the boxes round them are small."""
    points = [line[:1]]
    for start, end in pairwise(line):
        count = math.ceil(float(np.linalg.norm(end - start)) / _PIECE_PX)
        points.append(np.linspace(start, end, count + 1)[1:])
    short = np.concatenate(points)
    return np.stack([short[:-1], short[1:]], axis=1)


def _is_left(starts: _Points, ends: _Points, points: _Points) -> NDArray[np.bool_]:
    ahead, aside = ends - starts, points - starts
    left: NDArray[np.bool_] = ahead[..., 0] * aside[..., 1] > ahead[..., 1] * aside[..., 0]
    return left


def _crosses(starts: _Points, ends: _Points, piece: _Points) -> NDArray[np.bool_]:
    """Return which straight ways between points (..., 2) cross a piece (2, 2) of a line."""
    a, b = piece
    crosses: NDArray[np.bool_] = (_is_left(a, b, starts) != _is_left(a, b, ends)) & (
        _is_left(starts, ends, a) != _is_left(starts, ends, b)
    )
    return crosses


def _cut_steps(crop_hw: tuple[int, ...], pieces: _Points) -> NDArray[np.bool_]:
    """Return which of `_STEPS` from each pixel of a crop (4, h, w) cross a line."""
    cuts = np.zeros((len(_STEPS), *crop_hw), np.bool_)
    steps = np.array(_STEPS, np.float64)[:, None, None]
    for piece in pieces:
        y1, x1 = np.maximum(np.floor(piece.min(axis=0)).astype(np.int64) - 1, 0).tolist()
        y2, x2 = np.minimum(np.ceil(piece.max(axis=0)).astype(np.int64) + 2, crop_hw).tolist()
        if y1 < y2 and x1 < x2:
            from_yx: _Points = np.moveaxis(np.mgrid[y1:y2, x1:x2], 0, -1).astype(np.float64)
            cuts[:, y1:y2, x1:x2] |= _crosses(from_yx, from_yx + steps, piece)
    return cuts


def _step_ends(image: NDArray[Any], step: tuple[int, int]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return views of the pixels that a step leads from and to inside the image."""
    (dy, dx), (height, width) = step, image.shape
    left, right = max(0, -dx), width - max(0, dx)
    return image[: height - dy, left:right], image[dy:, left + dx : right + dx]


def _step_joins(nodes: _Parts, cuts: NDArray[np.bool_]) -> list[_Parts]:
    joins = []
    for cut, step in zip(cuts, _STEPS, strict=True):
        start, end = _step_ends(nodes, step)
        joined = (start > 0) & (end > 0) & (start != end) & ~_step_ends(cut, step)[0]
        joins.append(np.stack([start[joined], end[joined]]))
    return joins


def _bridge_joins(nodes: _Parts, pixels: BoolImage, pieces: _Points) -> _Parts:
    starts, ends = _bridges(pixels)
    for piece in pieces:
        whole = ~_crosses(starts.astype(np.float64), ends.astype(np.float64), piece)
        starts, ends = starts[whole], ends[whole]
    return np.stack([nodes[tuple(starts.T)], nodes[tuple(ends.T)]])


def _bridges(pixels: BoolImage) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the ends (L, 2) of the shortest straight ways that join all parts of a mask."""
    parts, count = ndimage.label(pixels, structure=_ALL_NEIGHBOURS)
    if count == 1:
        return np.zeros((0, 2), np.intp), np.zeros((0, 2), np.intp)
    # where the realms of two parts meet, each sends its pixel nearest to the meeting
    nearest = _nearest_set(pixels)
    starts, ends = [], []
    for step in _STEPS:
        here, there = zip(*(_step_ends(axis, step) for axis in nearest), strict=True)
        meet = parts[here] != parts[there]
        starts.append(np.stack(here, axis=-1)[meet])
        ends.append(np.stack(there, axis=-1)[meet])
    return _shortest_joins(parts, np.concatenate(starts), np.concatenate(ends))


def _shortest_joins(
    parts: _Parts, starts: NDArray[np.intp], ends: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return those of the ways between parts that are their minimum spanning tree."""
    order = np.argsort(np.hypot(*(ends - starts).T), kind="stable")
    starts, ends = starts[order], ends[order]
    pairs = np.sort(np.stack([parts[tuple(starts.T)], parts[tuple(ends.T)]]), axis=0)
    # of each pair of parts the first and thus shortest way; a sparse matrix would add them up
    pairs, ranks = np.unique(pairs, axis=1, return_index=True)
    size = int(parts.max()) + 1
    # a rank weighs as its length does, and says afterwards which way it was
    graph = coo_array((ranks + 1.0, (pairs[0], pairs[1])), shape=(size, size))
    kept = minimum_spanning_tree(graph).data.astype(np.intp) - 1
    return starts[kept], ends[kept]


def _joined(nodes: _Parts, joins: _Parts) -> _Parts:
    """Return the nodes renumbered, the same number where joins (2, M) lead; 0 stays 0."""
    size = int(nodes.max()) + 1
    graph = coo_array((np.ones(joins.shape[1]), (joins[0], joins[1])), shape=(size, size))
    # the background is joined to nothing, and as the first node it is number 0
    _, numbers = connected_components(graph, directed=False)
    joined: _Parts = numbers[nodes]
    return joined


def _without_scraps(parts: _Parts, is_under: BoolImage) -> _Parts:
    areas = np.bincount(parts.ravel())
    areas[0] = 0
    is_scrap = areas < _SCRAP_SHARE * areas.sum()
    is_scrap[np.unique(parts[~is_under])] = False
    is_scrap[np.argmax(areas)] = False
    if not is_scrap[parts].any():
        return parts
    kept = nearest_parts(np.where(is_scrap[parts], 0, parts))
    return np.where(parts > 0, kept, 0)
