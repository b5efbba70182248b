"""The one place that knows how coordinates are ordered and where a pixel begins.

=================  ==========================================  ==========================
space              order                                       the pixel at row 2, col 3
=================  ==========================================  ==========================
array index        ``[y, x]``                                  ``[2, 3]``
edges (ours)       ``x1, y1, x2, y2``, half-open               ``3, 2, 4, 3``
napari data        ``(y, x)``, pixel centres on the integers   ``1.5..2.5 x 2.5..3.5``
COCO               ``x, y, width, height``                     ``3, 2, 1, 1``
=================  ==========================================  ==========================
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

BoolImage: TypeAlias = NDArray[np.bool_]
Boxes: TypeAlias = NDArray[np.float64]
# a closed outline: (x, y) on pixel edges, in the plane
Outline: TypeAlias = tuple[tuple[float, float], ...]

# napari puts the centre of pixel 0 at coordinate 0, so its left edge is at -0.5
_EDGE_TO_CENTRE = 0.5


def as_boxes(boxes_xyxy: ArrayLike) -> Boxes:
    """Return boxes as a float64 array (N, 4); no box gives (0, 4).

    Raises
    ------
    ValueError
        If the shape is not (N, 4).
    """
    boxes = np.asarray(boxes_xyxy, dtype=np.float64)
    if boxes.size == 0:
        return np.zeros((0, 4))
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes must have shape (N, 4), got {boxes.shape}")
    return boxes


def mask_to_box_xyxy(mask: BoolImage) -> tuple[int, int, int, int] | None:
    """Return the tight half-open box of a mask (H, W); None if no pixel is set.

    `torchvision.ops.masks_to_boxes` is inclusive (a one-pixel mask has no area there), hence
    our own.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        return None
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def boxes_xyxy_to_corners_yx(
    boxes_xyxy: ArrayLike, *, lead: tuple[int, ...] = ()
) -> NDArray[np.float64]:
    """Return the corners (N, 4, 2) of boxes in napari data coordinates (y, x).

    The corners go round: top left, top right, bottom right, bottom left. With the lead index of
    their plane they are (N, 4, len(lead) + 2), the index first.
    """
    x1, y1, x2, y2 = (as_boxes(boxes_xyxy) - _EDGE_TO_CENTRE).T
    corners_yx = np.stack(
        [np.stack(corner, axis=-1) for corner in ((y1, x1), (y1, x2), (y2, x2), (y2, x1))],
        axis=1,
    )
    starts = np.broadcast_to(np.array(lead, dtype=np.float64), (*corners_yx.shape[:2], len(lead)))
    return np.concatenate([starts, corners_yx], axis=2)


def corners_yx_to_boxes_xyxy(corners_yx: ArrayLike) -> Boxes:
    """Return the boxes (N, 4) round corners (N, K, 2) given in napari data coordinates.

    A dragged corner may leave the rectangle crooked, so the extremes count.
    """
    corners = np.asarray(corners_yx, dtype=np.float64)
    if corners.size == 0:
        return np.zeros((0, 4))
    low = corners.min(axis=1)[:, ::-1]
    high = corners.max(axis=1)[:, ::-1]
    return np.concatenate([low, high], axis=1) + _EDGE_TO_CENTRE


def boxes_xyxy_to_xywh(boxes_xyxy: ArrayLike) -> Boxes:
    """Return boxes as COCO writes them: x, y, width, height."""
    boxes = as_boxes(boxes_xyxy).copy()
    boxes[:, 2:] -= boxes[:, :2]
    return boxes


def boxes_xywh_to_xyxy(boxes_xywh: ArrayLike) -> Boxes:
    """Return COCO boxes (x, y, width, height) as x1, y1, x2, y2."""
    boxes = as_boxes(boxes_xywh).copy()
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def box_centres_xy(boxes_xyxy: ArrayLike) -> NDArray[np.float64]:
    """Return the centres (N, 2) of boxes as (x, y) on pixel edges."""
    boxes = as_boxes(boxes_xyxy)
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def boxes_touch_region(boxes_xyxy: ArrayLike, region_xyxy: ArrayLike) -> NDArray[np.bool_]:
    """Return which boxes (N,) share area with a region (x1, y1, x2, y2)."""
    boxes = as_boxes(boxes_xyxy)
    x1, y1, x2, y2 = np.asarray(region_xyxy, dtype=np.float64)
    inside: NDArray[np.bool_] = (
        (boxes[:, 0] < x2) & (boxes[:, 2] > x1) & (boxes[:, 1] < y2) & (boxes[:, 3] > y1)
    )
    return inside


def centres_in_region(boxes_xyxy: ArrayLike, region_xyxy: ArrayLike) -> NDArray[np.bool_]:
    """Return which box centres (N,) lie in a half-open region (x1, y1, x2, y2)."""
    x, y = box_centres_xy(boxes_xyxy).T
    x1, y1, x2, y2 = np.asarray(region_xyxy, dtype=np.float64)
    inside: NDArray[np.bool_] = (x >= x1) & (x < x2) & (y >= y1) & (y < y2)
    return inside


def view_corners_to_region_xyxy(
    corners_yx: NDArray[Any], image_hw: tuple[int, int]
) -> tuple[int, int, int, int] | None:
    """Return the whole pixels of an image that a view shows; None if it shows none.

    Parameters
    ----------
    corners_yx
        Any two opposite corners (2, 2) of the view in napari data coordinates.
    image_hw
        Size of the image.
    """
    low = np.floor(corners_yx.min(axis=0) + _EDGE_TO_CENTRE).astype(int)
    high = np.ceil(corners_yx.max(axis=0) + _EDGE_TO_CENTRE).astype(int)
    y1, x1 = np.maximum(low, 0)
    y2, x2 = np.minimum(high, image_hw)
    if y1 >= y2 or x1 >= x2:
        return None
    return int(x1), int(y1), int(x2), int(y2)


def outline_yx_to_xy(outline_yx: ArrayLike) -> tuple[tuple[float, float], ...]:
    """Return an outline (K, 2) given in napari data coordinates as (x, y) on pixel edges."""
    points = np.asarray(outline_yx, dtype=np.float64)[:, ::-1] + _EDGE_TO_CENTRE
    return tuple((float(x), float(y)) for x, y in points)


def outline_xy_to_yx(outline_xy: ArrayLike) -> NDArray[np.float64]:
    """Return an outline of (x, y) on pixel edges in napari data coordinates (K, 2)."""
    return np.asarray(outline_xy, dtype=np.float64).reshape(-1, 2)[:, ::-1] - _EDGE_TO_CENTRE
