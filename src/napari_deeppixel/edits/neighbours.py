"""Which boxes and masks of a plane touch, without comparing each with each."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_deeppixel.core.geometry import Boxes, as_boxes
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.mask import CroppedMask

# pairs held at once: about 100 MB
_MOST_PAIRS = 1 << 20


def touching_boxes(boxes_xyxy_a: ArrayLike, boxes_xyxy_b: ArrayLike) -> NDArray[np.int64]:
    """Return the pairs (K, 2) of positions in a and in b whose boxes share area, in order.

    Time and memory grow with boxes plus pairs. Boxes are sorted into the cells of a grid as wide
    as the mean box, so that a box lies in nine cells at most on average, and compared within each
    cell; a pair counts in the cell of its intersection's top left corner alone (Dittrich & Seeger
    2000, Data redundancy and duplicate detection in spatial join processing, sec. 3).

    Raises
    ------
    ValueError
        If a shape is not (N, 4).
    """
    a, b = as_boxes(boxes_xyxy_a), as_boxes(boxes_xyxy_b)
    positions_a, positions_b = _with_area(a), _with_area(b)
    if not positions_a.size or not positions_b.size:
        return np.zeros((0, 2), np.int64)
    grid = _Grid(a[positions_a], b[positions_b])
    found = [
        np.stack([positions_a[i], positions_b[j]], axis=1).astype(np.int64) for i, j in grid.pairs()
    ]
    pairs = np.concatenate(found)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def _with_area(boxes: Boxes) -> NDArray[np.intp]:
    return np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(axis=1))


class _Grid:
    def __init__(self, a: Boxes, b: Boxes) -> None:
        both = np.concatenate([a, b])
        sides = both[:, 2:] - both[:, :2]
        # with the larger of these as cells, long thin boxes lie in few of them, too
        self._cell = max(*sides.mean(axis=0), np.sqrt(sides.prod(axis=1).mean()))
        self._origin = both[:, :2].min(axis=0)
        self._columns = int((both[:, 2].max() - self._origin[0]) / self._cell) + 1
        self._a, self._b = a, b

    def _cells_xy(self, points_xy: NDArray[np.float64]) -> NDArray[np.int64]:
        cells: NDArray[np.int64]
        cells = np.floor((points_xy - self._origin) / self._cell).astype(np.int64)
        return cells

    def _entries(self, boxes: Boxes) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
        """Return a cell's number and a box's position for each cell of each box."""
        low, high = self._cells_xy(boxes[:, :2]), self._cells_xy(boxes[:, 2:])
        across, down = (high - low + 1).T
        box = np.repeat(np.arange(len(boxes)), across * down)
        nth = np.arange(box.size) - np.repeat(
            np.cumsum(across * down) - across * down, across * down
        )
        rows, columns = low[box, 1] + nth // across[box], low[box, 0] + nth % across[box]
        return rows * self._columns + columns, box

    def pairs(self) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Yield positions in a and b of boxes that share area, each pair once."""
        cells_a, boxes_a = self._entries(self._a)
        cells_b, boxes_b = self._entries(self._b)
        order = np.argsort(cells_b, kind="stable")
        cells_b, boxes_b = cells_b[order], boxes_b[order]
        first = np.searchsorted(cells_b, cells_a, side="left")
        counts = np.searchsorted(cells_b, cells_a, side="right") - first
        ends = np.cumsum(counts)
        chunks = np.flatnonzero(np.diff(ends // _MOST_PAIRS, prepend=-1))
        for start, stop in zip(chunks, [*chunks[1:], counts.size], strict=True):
            n = counts[start:stop]
            nth = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)
            i = np.repeat(boxes_a[start:stop], n)
            j = boxes_b[np.repeat(first[start:stop], n) + nth]
            cell = np.repeat(cells_a[start:stop], n)
            low = np.maximum(self._a[i, :2], self._b[j, :2])
            high = np.minimum(self._a[i, 2:], self._b[j, 2:])
            column, row = self._cells_xy(low).T
            is_found = (low < high).all(axis=1) & (row * self._columns + column == cell)
            yield i[is_found], j[is_found]


def shared_box_areas(
    boxes_xyxy_a: Boxes, boxes_xyxy_b: Boxes, pairs: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the area (K,) that the boxes of each pair (K, 2) share: masks share no more."""
    a, b = boxes_xyxy_a[pairs[:, 0]], boxes_xyxy_b[pairs[:, 1]]
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    areas: NDArray[np.float64] = sides.clip(0).prod(axis=1)
    return areas


def shared_pixels(
    masks_a: Sequence[CroppedMask], masks_b: Sequence[CroppedMask], pairs: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the number of pixels (K,) that the masks of each pair (K, 2) share."""
    counts = [masks_a[i].intersection(masks_b[j]) for i, j in pairs.tolist()]
    return np.array(counts, dtype=np.int64)


def overlap_shares(instances: InstanceSet) -> NDArray[np.float64]:
    """Return the largest overlap (N,), 0 to 1, of each instance with another of the set.

    The overlap of two is the pixels that both have, over those of the smaller one: it is the same
    for both, and 1 where one lies in the other.
    """
    boxes, areas = instances.boxes_xyxy, instances.areas
    pairs = touching_boxes(boxes, boxes)
    pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    shares = np.zeros(len(instances))
    both = shared_pixels(instances.masks, instances.masks, pairs) / areas[pairs].min(axis=1)
    np.maximum.at(shares, pairs[:, 0], both)
    np.maximum.at(shares, pairs[:, 1], both)
    return shares
