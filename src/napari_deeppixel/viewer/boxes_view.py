"""The Shapes layer with the boxes of a session's instances."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Shapes
from numpy.typing import NDArray

from napari_deeppixel.core.geometry import (
    boxes_touch_region,
    boxes_xyxy_to_corners_yx,
    corners_yx_to_boxes_xyxy,
)
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import Instance, InstanceSet
from napari_deeppixel.edits.action import Change
from napari_deeppixel.edits.session import AnnotationSession
from napari_deeppixel.viewer.features import attribute_row, box_caption, boxes_features
from napari_deeppixel.viewer.plane_map import PlaneMap

# measured in benchmarks/boxes.py: a Shapes layer is filled at about 0.1 to 0.3 ms a box
MAX_BOXES = 1000
_BOXES_A_STEP = 100
# more captions than this cover the image instead of explaining it
MAX_CAPTIONS = 40
# adding or removing one box costs napari about 20 ms among 1,000: more than a few are drawn anew
_MAX_SINGLE = 2
# a click with the rectangle tool is no box
_MIN_SIDE_PX = 2

Ref = tuple[PlaneIndex, str]
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


class BoxesView:
    """Draws boxes: all of them while they are few, else those in view, best first.

    Parameters
    ----------
    make_layer
        Gives the layer, in the viewer; a new one where it was deleted.
    session
        The instances.
    planes
        Which plane is where.
    """

    def __init__(
        self, make_layer: Callable[[], Shapes], session: AnnotationSession, planes: PlaneMap
    ) -> None:
        self._make_layer, self._session, self._planes = make_layer, session, planes
        self._rows: list[tuple[PlaneIndex, Instance]] | None = None
        self._filled: Shapes | None = None
        self.is_writing = False

    # -- drawing all --------------------------------------------------------------------------

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self.is_writing = True
        try:
            yield
        finally:
            self.is_writing = False

    @property
    def num_shown(self) -> int:
        """Boxes that are drawn."""
        return len(self._rows or ())

    @property
    def is_stale(self) -> bool:
        """Whether all boxes must be drawn anew."""
        return self._rows is None

    def _is_filled(self, layer: Shapes) -> bool:
        is_ours = self._rows is not None and self._filled == layer
        return is_ours and len(layer.data) == self.num_shown

    def forget(self) -> None:
        """Draw all boxes anew next time."""
        self._rows = None

    def redraw(self) -> Iterator[None]:
        """Draw the boxes anew if others are to be seen than are drawn; each step is short."""
        chosen = self._choose()
        layer = self._make_layer()
        rows = [(index, instance) for index, instances in chosen for instance in instances]
        if self._is_filled(layer) and _boxes_of(rows) == _boxes_of(self._rows or []):
            return
        self._rows, self._filled = None, None
        with self._writing():
            layer.selected_data = set()
            layer.data = []
            layer.features = boxes_features([])
            # a box that a person draws would inherit the row of the last one
            layer.feature_defaults = {name: [value] for name, value in _NO_ROW.items()}
        yield
        for step in _chunks(chosen, _BOXES_A_STEP):
            with self._writing():
                layer.add_rectangles(
                    self._corners(step),
                    edge_color=[color for _, s in step for color in box_colors(s)],
                    edge_width=1,
                    face_color="transparent",
                )
            yield
        with self._writing():
            layer.features = boxes_features([instances for _, instances in chosen])
        self._rows, self._filled = rows, layer
        self.update_captions()

    def _choose(self) -> list[tuple[PlaneIndex, InstanceSet]]:
        session = self._session
        every = [(index, session.visible(index)) for index in session.plane_indices]
        if sum(len(instances) for _, instances in every) <= MAX_BOXES:
            return every
        current, region = self._planes.current(), self._planes.view_region()
        for index, instances in every:
            if index == current and region is not None:
                inside = np.flatnonzero(boxes_touch_region(instances.boxes_xyxy, region))
                best = inside[np.argsort(-np.nan_to_num(instances.scores[inside], nan=1.0))]
                return [(index, instances.select(np.sort(best[:MAX_BOXES])))]
        return []

    def _corners(self, step: list[tuple[PlaneIndex, InstanceSet]]) -> list[NDArray[np.float64]]:
        return [
            corners
            for index, instances in step
            for corners in boxes_xyxy_to_corners_yx(
                instances.boxes_xyxy, lead=self._planes.data_index(index)
            )
        ]

    # -- drawing what changed -----------------------------------------------------------------

    def update(self, changes: list[Change]) -> None:
        """Follow what became of some instances, given as they are shown (None: not shown)."""
        if self._rows is None:
            return
        layer = self._make_layer()
        if not self._is_filled(layer):
            self.forget()
            return
        places = {(index, row.uuid): place for place, (index, row) in enumerate(self._rows)}
        added = [c for c in changes if c.after is not None and (c.index, c.uuid) not in places]
        gone = [
            places[c.index, c.uuid]
            for c in changes
            if c.after is None and (c.index, c.uuid) in places
        ]
        if len(added) + len(gone) > _MAX_SINGLE or len(self._rows) + len(added) > MAX_BOXES:
            self.forget()
            return
        with self._writing():
            for change in changes:
                place = places.get((change.index, change.uuid))
                if place is not None and change.after is not None:
                    self._edit(layer, place, change.index, change.after)
            if gone:
                layer.remove(gone)
                self._rows = [row for place, row in enumerate(self._rows) if place not in gone]
            for change in added:
                assert change.after is not None  # chosen so
                self._add(layer, change.index, change.after)

    def _edit(self, layer: Shapes, place: int, index: PlaneIndex, after: Instance) -> None:
        assert self._rows is not None  # `update` has looked
        before = self._rows[place][1]
        self._rows[place] = (index, after)
        if before.box_xyxy != after.box_xyxy:
            corners = boxes_xyxy_to_corners_yx(
                [after.box_xyxy], lead=self._planes.data_index(index)
            )[0]
            set_box(layer, place, corners)
        self._write_row(layer, place, after)
        if before.category_id != after.category_id:
            colors = layer.edge_color
            colors[place] = _rgba(self._color(after))
            layer.edge_color = colors
            layer.refresh_text()

    def _add(self, layer: Shapes, index: PlaneIndex, instance: Instance) -> None:
        assert self._rows is not None  # `update` has looked
        corners = boxes_xyxy_to_corners_yx([instance.box_xyxy], lead=self._planes.data_index(index))
        row = self._row(instance)
        layer.feature_defaults = {name: [value] for name, value in row.items()}
        layer.add_rectangles(
            list(corners), edge_color=self._color(instance), edge_width=1, face_color="transparent"
        )
        layer.feature_defaults = {name: [value] for name, value in _NO_ROW.items()}
        layer.selected_data = set()
        self._rows.append((index, instance))

    def _write_row(self, layer: Shapes, place: int, instance: Instance) -> None:
        table = layer.features
        for column, value in self._row(instance).items():
            table.iat[place, table.columns.get_loc(column)] = value

    def _row(self, instance: Instance) -> dict[str, Any]:
        names = {c.id: c.name for c in self._session.categories.categories}
        row = attribute_row(instance, names)
        caption = box_caption(row["category"], instance.score)
        return {"handle": instance.handle, **row, "caption": caption}

    def _color(self, instance: Instance) -> str:
        return self._session.categories.by_id(instance.category_id).color

    def update_captions(self) -> None:
        """Show captions when few enough boxes are in view to read them."""
        layer = self._filled
        if layer is None:
            return
        current, region = self._planes.current(), self._planes.view_region()
        count = 0
        if current is not None and region is not None:
            boxes = self._session.visible(current).boxes_xyxy
            count = int(boxes_touch_region(boxes, region).sum()) if len(boxes) else 0
        is_readable = 0 < count <= MAX_CAPTIONS
        if layer.text.visible != is_readable:
            layer.text.visible = is_readable

    # -- what a person does -------------------------------------------------------------------

    def take(self) -> BoxEdits:
        """Return what a person did since the boxes were drawn.

        The layer then shows boxes that the session does not have; `restore` or a change of the
        session mends that.
        """
        layer = self._filled
        if layer is None or self._rows is None:
            return BoxEdits()
        known = {row.handle: place for place, (_, row) in enumerate(self._rows)}
        seen: set[int] = set()
        moved, drawn = [], []
        handles = layer.features.get("handle", [])
        for corners, handle in zip(layer.data, handles, strict=False):
            place = None if handle in seen else known.get(int(handle))
            box = _box(corners)
            if place is None:
                if min(box[2] - box[0], box[3] - box[1]) >= _MIN_SIDE_PX:
                    drawn.append((self._plane_of(corners), box))
                continue
            seen.add(int(handle))
            index, row = self._rows[place]
            if not np.allclose(box, row.box_xyxy, atol=0.01):
                moved.append(((index, row.uuid), box))
        deleted = [(i, row.uuid) for i, row in self._rows if row.handle not in seen]
        return BoxEdits(moved=tuple(moved), drawn=tuple(drawn), deleted=tuple(deleted))

    def restore(self) -> None:
        """Put the layer's boxes back to the session's, where a person changed them."""
        edits, layer = self.take(), self._filled
        if not edits or layer is None or self._rows is None:
            return
        if edits.deleted or edits.drawn:
            self.forget()
            return
        places = {(index, row.uuid): place for place, (index, row) in enumerate(self._rows)}
        with self._writing():
            layer.selected_data = set()
            for (index, uuid), _ in edits.moved:
                row = self._rows[places[index, uuid]][1]
                corners = boxes_xyxy_to_corners_yx(
                    [row.box_xyxy], lead=self._planes.data_index(index)
                )[0]
                set_box(layer, places[index, uuid], corners)

    def _plane_of(self, corners: NDArray[Any]) -> PlaneIndex:
        lead = tuple(round(float(step)) for step in np.asarray(corners)[0][:-2])
        return self._planes.session_index(lead)

    def place_of(self, index: PlaneIndex, uuid: str) -> int | None:
        """Return the row of an instance in the layer; None if its box is not drawn."""
        for place, (row_index, row) in enumerate(self._rows or ()):
            if (row_index, row.uuid) == (index, uuid):
                return place
        return None

    def refs_at(self, places: set[int]) -> list[Ref]:
        """Return the instances of some rows of the layer."""
        rows = self._rows or []
        return [(rows[p][0], rows[p][1].uuid) for p in sorted(places) if p < len(rows)]


_NO_ROW: dict[str, Any] = {
    "handle": 0,
    "category": None,
    "score": np.nan,
    "area": 0,
    "state": None,
    "source": None,
    "caption": "",
}


def _box(corners: NDArray[Any]) -> Box:
    x1, y1, x2, y2 = corners_yx_to_boxes_xyxy(np.asarray(corners)[None, :, -2:])[0].tolist()
    return x1, y1, x2, y2


def _boxes_of(rows: list[tuple[PlaneIndex, Instance]]) -> list[Any]:
    return [(index, row.uuid, row.box_xyxy) for index, row in rows]


def set_box(layer: Shapes, place: int, corners: NDArray[np.float64]) -> None:
    """Move one rectangle of a Shapes layer.

    The public ways cost 20 to 300 ms among 1,000 boxes; what napari itself does while a box is
    dragged costs 4.
    """
    shapes: Any = getattr(layer, "_data_view", None)
    if shapes is not None and hasattr(shapes, "edit"):
        shapes.edit(place, corners)
        layer.refresh(extent=False, thumbnail=False)
    else:
        data = list(layer.data)
        data[place] = corners
        layer.data = data


def box_settings(*, visible: bool) -> dict[str, Any]:
    """Return the caption of boxes, as settings of a Shapes layer."""
    text = {
        "string": "{caption}",
        "size": 9,
        "color": "white",
        "anchor": "upper_left",
        "visible": visible,
    }
    return {"text": text}


def box_colors(instances: InstanceSet) -> list[str]:
    """Return the colour of each instance's category."""
    colors = {category.id: category.color for category in instances.categories.categories}
    return [colors[int(category_id)] for category_id in instances.category_ids]


def _rgba(color: str) -> list[float]:
    return [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)] + [1.0]


def _chunks(
    chosen: list[tuple[PlaneIndex, InstanceSet]], size: int
) -> Iterator[list[tuple[PlaneIndex, InstanceSet]]]:
    for index, instances in chosen:
        for start in range(0, len(instances), size):
            yield [(index, instances.select(np.arange(start, min(start + size, len(instances)))))]
