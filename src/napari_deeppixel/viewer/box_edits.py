"""What a person did in a layer of boxes, against what was drawn there."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from napari.layers import Shapes
from numpy.typing import NDArray

from napari_deeppixel.core.geometry import boxes_xyxy_to_corners_yx, corners_yx_to_boxes_xyxy
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import Instance
from napari_deeppixel.viewer.plane_map import PlaneMap

# a click with the rectangle tool is no box
_MIN_SIDE_PX = 2
# napari counts in 32-bit floats
_SAME_PX = 0.01

Ref = tuple[PlaneIndex, str]
Row = tuple[PlaneIndex, Instance]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class BoxEdits:
    """What a person did in the boxes layer; boxes are x1, y1, x2, y2 on pixel edges."""

    moved: tuple[tuple[Ref, Box], ...] = ()
    drawn: tuple[tuple[PlaneIndex, Box], ...] = ()
    deleted: tuple[Ref, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return bool(self.moved or self.drawn or self.deleted)

    def then(self, later: "BoxEdits") -> "BoxEdits":
        """Return these edits and later ones, each box once."""
        deleted = dict.fromkeys((*self.deleted, *later.deleted))
        moved = dict(self.moved) | dict(later.moved)
        return BoxEdits(
            moved=tuple((ref, box) for ref, box in moved.items() if ref not in deleted),
            drawn=(*self.drawn, *later.drawn),
            deleted=tuple(deleted),
        )


@dataclass(kw_only=True)
class Comparison:
    """A layer against what was drawn there.

    Attributes
    ----------
    edits
        What a person did.
    crooked
        Place in the layer → row whose box is not where it was drawn.
    foreign
        Places in the layer of boxes that are not ours.
    kept
        Rows that are there, in the layer's order.
    """

    edits: BoxEdits
    crooked: dict[int, Row] = field(default_factory=dict)
    foreign: list[int] = field(default_factory=list)
    kept: list[Row] = field(default_factory=list)


def corners_of(row: Row, planes: PlaneMap) -> NDArray[np.float64]:
    """Return the corners (4, D) of an instance's box in the layer's data."""
    lead = planes.data_index(row[0])
    corners: NDArray[np.float64] = boxes_xyxy_to_corners_yx([row[1].box_xyxy], lead=lead)[0]
    return corners


def compare(layer: Shapes, rows: list[Row], planes: PlaneMap) -> Comparison | None:
    """Return what differs from what was drawn; None if nobody can tell which box is whose."""
    data, handles = layer.data, handles_of(layer, rows)
    if handles is None:
        return None
    if _is_as_drawn(data, handles, rows, planes):
        return Comparison(edits=BoxEdits(), kept=rows)
    known = {row[1].handle: row for row in rows}
    found = Comparison(edits=BoxEdits())
    moved, drawn = [], []
    for place, (corners, handle) in enumerate(zip(data, handles, strict=True)):
        row, box = known.pop(handle, None), _box(corners)
        if row is None:
            found.foreign.append(place)
            index = planes.plane_of(corners[0])
            if index is not None and min(box[2] - box[0], box[3] - box[1]) >= _MIN_SIDE_PX:
                drawn.append((index, box))
            continue
        found.kept.append(row)
        expected = corners_of(row, planes)
        if corners.shape == expected.shape and np.abs(corners - expected).max() < _SAME_PX:
            continue
        found.crooked[place] = row
        if not np.allclose(box, row[1].box_xyxy, rtol=0, atol=_SAME_PX):
            moved.append(((row[0], row[1].uuid), box))
    found.edits = BoxEdits(
        moved=tuple(moved),
        drawn=tuple(drawn),
        deleted=tuple((index, row.uuid) for index, row in known.values()),
    )
    return found


def _is_as_drawn(
    data: list[NDArray[Any]], handles: list[int], rows: list[Row], planes: PlaneMap
) -> bool:
    """Return quickly whether nobody did anything."""
    if handles != [row.handle for _, row in rows] or len({c.shape for c in data}) > 1:
        return False
    if not data:
        return True
    boxes = boxes_xyxy_to_corners_yx([row.box_xyxy for _, row in rows])
    leads = np.array([planes.data_index(index) for index, _ in rows], np.float64)
    expected = np.concatenate([np.repeat(leads[:, None], 4, axis=1), boxes], axis=2)
    now = np.stack(data)
    return now.shape == expected.shape and bool(np.abs(now - expected).max() < _SAME_PX)


def handles_of(layer: Shapes, rows: list[Row]) -> list[int] | None:
    """Return the handle of each box, 0 for one that is not ours; None if it cannot be said."""
    count, table = len(layer.data), layer.features
    # after the last box went, napari keeps a row in the table
    if count == 0:
        return []
    if "handle" in table and len(table) == count:
        column = pd.to_numeric(table["handle"], errors="coerce").to_numpy(np.float64)
        return [int(handle) for handle in np.nan_to_num(column, posinf=0, neginf=0)]
    return [row.handle for _, row in rows] if count == len(rows) else None


def _box(corners: NDArray[Any]) -> Box:
    x1, y1, x2, y2 = corners_yx_to_boxes_xyxy(np.asarray(corners)[None, :, -2:])[0].tolist()
    return x1, y1, x2, y2
