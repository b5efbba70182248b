"""Fills outlines, from where they cross the columns of an image.

A column of pixels is inside between its first and second crossing, its third and fourth, …: the
even-odd rule. Work grows with the crossings and with the mask's own box, never with coordinates
that a file gives.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.mask import CroppedMask, union_mask

# columns, and the first row below each crossing; both (N,)
Crossings: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64]]

# COCO's rule works on a grid of fifths of a pixel: maskApi.c, rleFrPoly
_COCO_SCALE = 5
# COCO's own numbers overflow at 2**31 / 5
_MAX_COORDINATE = 4e8
# a mask of 32,768 x 32,768, and as many crossings of outlines with columns of pixels
_MAX_PIXELS = 1 << 30
_MAX_CROSSINGS = 1 << 28
# larger masks are kept compressed, so that a file of a few lines cannot fill the memory
_PACK_PIXELS = 1 << 24


def checked_ring(ring: ArrayLike) -> NDArray[np.float64]:
    """Return the vertices (K, 2) of a flat x, y, x, y, … or of an array (K, 2).

    Raises
    ------
    AnnotationError
        If it is neither, or a coordinate is not finite or far from any image.
    """
    try:
        vertices = np.asarray(ring, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise AnnotationError(f"a polygon must be numbers x, y, x, y, …: {error}") from error
    if vertices.ndim == 1 and vertices.size % 2 == 0:
        vertices = vertices.reshape(-1, 2)
    if vertices.ndim != 2 or vertices.shape[1] != 2:
        raise AnnotationError(f"a polygon must be pairs x, y, got shape {vertices.shape}")
    if not (np.abs(vertices) <= _MAX_COORDINATE).all():
        raise AnnotationError(
            f"coordinates must be finite and within ±{_MAX_COORDINATE:g}, got {vertices.min():g} "
            f"to {vertices.max():g}"
        )
    return vertices


def centre_crossings(ring: NDArray[np.float64], image_hw: tuple[int, int]) -> Crossings:
    """Return columns and first rows below where a ring crosses the centres of columns."""
    begin, end = _from_left_to_right(ring, np.roll(ring, -1, axis=0))
    first = np.ceil(begin[:, 0] - 0.5)
    edge, column = _columns(first, np.ceil(end[:, 0] - 0.5), image_hw[1])
    begin, run = begin[edge], (end - begin)[edge]
    y = begin[:, 1] + (column + 0.5 - begin[:, 0]) * (run[:, 1] / run[:, 0])
    return column, np.clip(np.ceil(y - 0.5), 0, image_hw[0]).astype(np.int64)


def coco_crossings(ring: NDArray[np.float64], image_hw: tuple[int, int]) -> Crossings:
    """Return what `centre_crossings` does, by the rule of COCO's maskApi.c, rleFrPoly.

    There, vertices are rounded to fifths of a pixel, edges are drawn with them, and a column is
    crossed where an edge steps over the middle of its third fifth.
    """
    points = np.trunc(_COCO_SCALE * ring + 0.5)
    begin, end = points, np.roll(points, -1, axis=0)
    begin, end = _from_left_to_right(begin, end)
    half = _COCO_SCALE // 2
    first = np.ceil((begin[:, 0] - half) / _COCO_SCALE)
    edge, column = _columns(first, np.ceil((end[:, 0] - half) / _COCO_SCALE), image_hw[1])
    begin, end = begin[edge], end[edge]
    before = (_COCO_SCALE * column + half).astype(np.float64)
    run = end - begin
    is_flat = run[:, 0] >= np.abs(run[:, 1])
    y = np.where(is_flat, _y_of_flat(begin, run, before), _y_of_steep(begin, end, before))
    row = np.ceil((y + 0.5) / _COCO_SCALE - 0.5)
    return column, np.clip(row, 0, image_hw[0]).astype(np.int64)


def _y_of_flat(
    begin: NDArray[np.float64], run: NDArray[np.float64], before: NDArray[np.float64]
) -> NDArray[np.float64]:
    slope = run[:, 1] / np.maximum(run[:, 0], 1)
    step = before - begin[:, 0]
    at, then = (np.trunc(begin[:, 1] + slope * (step + more) + 0.5) for more in (0, 1))
    y: NDArray[np.float64] = np.minimum(at, then)
    return y


def _y_of_steep(
    begin: NDArray[np.float64], end: NDArray[np.float64], before: NDArray[np.float64]
) -> NDArray[np.float64]:
    # drawn downwards, a fifth a step; wanted is the upper one of the two steps between which x
    # goes over the middle
    is_up = begin[:, 1] > end[:, 1]
    top = np.where(is_up[:, None], end, begin)
    bottom = np.where(is_up[:, None], begin, end)
    run = bottom - top
    slope = run[:, 0] / np.maximum(run[:, 1], 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        guess = np.floor((before + 0.5 - top[:, 0]) / slope)
    guess = np.where(np.isfinite(guess), guess, 0)
    last = np.full(len(guess), np.nan)
    # rounding may put the step one off the exact place
    for step in (guess + 1, guess, guess - 1, guess - 2):
        at, then = (np.trunc(top[:, 0] + slope * (step + more) + 0.5) for more in (0, 1))
        goes_over = np.minimum(at, then) == before
        last = np.where(goes_over & (at != then), step, last)
    y: NDArray[np.float64] = top[:, 1] + np.where(np.isnan(last), guess, last)
    return y


def _from_left_to_right(
    begin: NDArray[np.float64], end: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    # an edge that is gone along both ways must give the same numbers both times
    is_back = (begin[:, 0] > end[:, 0])[:, None]
    return np.where(is_back, end, begin), np.where(is_back, begin, end)


def _columns(
    first: NDArray[np.float64], stop: NDArray[np.float64], width: int
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Return edge and column of each column that each edge crosses, inside the image."""
    begin, end = (np.clip(values, 0, width).astype(np.int64) for values in (first, stop))
    counts = np.maximum(end - begin, 0)
    total = int(counts.sum())
    if total > _MAX_CROSSINGS:
        raise AnnotationError(f"a polygon of {len(counts):,} vertices crosses itself too often")
    edge = np.repeat(np.arange(len(counts)), counts)
    within = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    return edge, begin[edge] + within


def mask_of_crossings(crossings: Iterable[Crossings]) -> CroppedMask | None:
    """Return the mask that begins and ends, down each column, at every crossing; None if empty.

    Raises
    ------
    AnnotationError
        If it is too large for any memory.
    """
    found = list(crossings)
    columns = np.concatenate([column for column, _ in found])
    rows = np.concatenate([row for _, row in found])
    if columns.size == 0:
        return None
    left, top = int(columns.min()), int(rows.min())
    size_hw = (int(rows.max()) - top, int(columns.max()) + 1 - left)
    check_mask_hw(size_hw)
    places = (rows - top) * size_hw[1] + columns - left
    turns = np.zeros((size_hw[0] + 1) * size_hw[1], np.uint8)
    place, counts = np.unique(places, return_counts=True)
    turns[place] = counts & 1
    rows_inside = turns.reshape(-1, size_hw[1])
    # row by row: np.bitwise_xor.accumulate takes 15 times as long on wide masks
    for above, row in pairwise(rows_inside):
        np.bitwise_xor(row, above, out=row)
    inside = rows_inside[:-1]
    return packed_if_large(CroppedMask.from_mask(inside.view(np.bool_), x=left, y=top))


def joined_mask(masks: Sequence[CroppedMask]) -> CroppedMask | None:
    """Return the pixels that any of several masks sets; None without a mask.

    Raises
    ------
    AnnotationError
        If they lie so far apart that the whole is too large for any memory.
    """
    if masks:
        boxes = np.array([mask.box_xyxy for mask in masks])
        width, height = (boxes[:, 2:].max(axis=0) - boxes[:, :2].min(axis=0)).tolist()
        check_mask_hw((height, width))
    return packed_if_large(union_mask(masks))


def check_mask_hw(size_hw: tuple[int, int]) -> None:
    """Refuse a mask (height, width) that is too large for any memory.

    Raises
    ------
    AnnotationError
        If it is.
    """
    if size_hw[0] * size_hw[1] > _MAX_PIXELS:
        raise AnnotationError(f"a mask of {size_hw[0]:,} x {size_hw[1]:,} pixels is too large")


def packed_if_large(mask: CroppedMask | None) -> CroppedMask | None:
    """Return a mask, its pixels compressed if they are many."""
    if mask is not None and mask.crop_hw[0] * mask.crop_hw[1] > _PACK_PIXELS:
        mask.pack()
    return mask
