"""The Shapes layer with the boxes of a session's instances."""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from napari.layers import Shapes
from numpy.typing import NDArray

from napari_deeppixel.core.geometry import (
    boxes_touch_region,
    boxes_xyxy_to_corners_yx,
)
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import Instance, InstanceSet
from napari_deeppixel.edits.action import Change
from napari_deeppixel.edits.session import AnnotationSession
from napari_deeppixel.viewer.box_edits import (
    BoxEdits,
    Ref,
    Row,
    compare,
    corners_of,
    handles_of,
)
from napari_deeppixel.viewer.features import (
    EDITABLE_COLUMNS,
    attribute_row,
    box_caption,
    boxes_features,
    changed_cells,
    is_same_table,
    with_other_columns,
)
from napari_deeppixel.viewer.plane_map import PlaneMap

# measured in benchmarks/boxes.py: a Shapes layer is filled at about 0.1 to 0.3 ms a box
MAX_BOXES = 1000
_BOXES_A_STEP = 100
# more captions than this cover the image instead of explaining it
MAX_CAPTIONS = 40
# adding or removing one box costs napari about 20 ms among 1,000: more than a few are drawn anew
_MAX_SINGLE = 2


@dataclass(kw_only=True, eq=False)
class _Filling:
    """A layer that is being drawn anew, in steps."""

    layer: Shapes
    rows: list[Row]
    table: pd.DataFrame
    num_drawn: int = 0


class BoxesView:
    """Draws boxes: all of them while they are few, else those in view, best first.

    Parameters
    ----------
    make_layer
        Gives the layer, in the viewer; a new one where it was deleted; None if there is to be none.
    session
        The instances.
    planes
        Which plane is where.
    """

    def __init__(
        self,
        make_layer: Callable[[], Shapes | None],
        session: AnnotationSession,
        planes: PlaneMap,
    ) -> None:
        self._make_layer, self._session, self._planes = make_layer, session, planes
        # what the layer `_filled` holds, apart from what a person did there since
        self._rows: list[Row] = []
        self._filled: Shapes | None = None
        self._is_stale, self._is_dirty = True, False
        self._missed: dict[Ref, Change] | None = None
        self._filling: _Filling | None = None
        self._waiting = BoxEdits()
        self.is_writing = False

    # -- drawing all --------------------------------------------------------------------------

    @contextmanager
    def _writing(self) -> Iterator[None]:
        was_writing, self.is_writing = self.is_writing, True
        try:
            yield
        finally:
            self.is_writing = was_writing

    @property
    def num_shown(self) -> int:
        """Boxes that are drawn."""
        return len(self._rows)

    @property
    def is_stale(self) -> bool:
        """Whether `redraw` may have something to do."""
        return self._is_stale

    @property
    def is_busy(self) -> bool:
        """Whether a person is drawing or dragging a box."""
        layer = self._filled if self._filling is None else self._filling.layer
        return is_drawing(layer)

    def forget(self) -> None:
        """Draw all boxes anew next time; what a person did in the layer is kept for `take`."""
        self._read()
        self._rows, self._filled, self._is_stale = [], None, True

    def redraw(self) -> Iterator[None]:
        """Draw the boxes anew if others are to be seen than are drawn; each step is short."""
        if self.is_busy:
            return
        layer = self._make_layer()
        if layer is None:
            return
        self._read()
        chosen = self._choose()
        rows = [(index, instance) for index, instances in chosen for instance in instances]
        if self._filled == layer and _looks(rows) == _looks(self._rows):
            self._is_stale = False
            return
        self._rows, self._filled, self._missed = [], None, {}
        table = with_other_columns(boxes_features([s for _, s in chosen]), layer.features)
        self._filling = _Filling(layer=layer, rows=rows, table=table)
        is_whole = yield from self._fill(layer, chosen)
        if not is_whole or len(layer.data) != len(rows):
            # somebody drew, moved or deleted in between
            self.hold()
            return
        self._filling = None
        with self._writing():
            layer.features = table
            _expect_drawn(layer)
        self._rows, self._filled, self._is_stale, self._is_dirty = rows, layer, False, False
        missed, self._missed = self._missed or {}, None
        self.update(list(missed.values()))
        self.update_captions()

    def _fill(
        self, layer: Shapes, chosen: list[tuple[PlaneIndex, InstanceSet]]
    ) -> Generator[None, None, bool]:
        """Fill the layer in steps; return False if somebody else came in between."""
        with self._writing():
            layer.selected_data = set()
            layer.data = []
            layer.features = boxes_features([])
            _expect_drawn(layer)
        yield
        for step in _chunks(chosen, _BOXES_A_STEP):
            if self.is_busy:
                self.hold()
            if self._filling is None:
                return False
            with self._writing():
                layer.add_rectangles(
                    [corners for index, s in step for corners in self._corners(index, s)],
                    edge_color=[color for _, s in step for color in box_colors(s)],
                    edge_width=1,
                    face_color="transparent",
                )
            self._filling.num_drawn += sum(len(s) for _, s in step)
            yield
        return self._filling is not None

    def hold(self) -> None:
        """Stop drawing anew, if that is under way, and know what is drawn so far as ours.

        To be called before somebody else changes the layer; `redraw` then begins again.
        """
        filling, self._filling = self._filling, None
        if filling is None:
            return
        layer, count = filling.layer, filling.num_drawn
        self._missed, self._is_stale = None, True
        num_others = len(layer.data) - count
        if num_others < 0:
            # nobody can tell which are gone
            return
        table = filling.table.iloc[:count]
        if num_others:
            others = pd.DataFrame([_NO_ROW] * num_others).astype(boxes_features([]).dtypes)
            table = pd.concat([table, others], ignore_index=True)
        with self._writing():
            layer.features = table
            _expect_drawn(layer)
        self._rows, self._filled, self._is_dirty = filling.rows[:count], layer, True

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

    def _corners(self, index: PlaneIndex, instances: InstanceSet) -> NDArray[np.float64]:
        lead = self._planes.data_index(index)
        return boxes_xyxy_to_corners_yx(instances.boxes_xyxy, lead=lead)

    # -- drawing what changed -----------------------------------------------------------------

    def update(self, changes: list[Change]) -> None:
        """Follow what became of some instances, given as they are shown (None: not shown)."""
        if self._missed is not None:
            self._missed.update({(c.index, c.uuid): c for c in changes})
            return
        layer = self._filled
        places = {(index, row.uuid): place for place, (index, row) in enumerate(self._rows)}
        added = [c for c in changes if c.after is not None and (c.index, c.uuid) not in places]
        gone = [
            places[c.index, c.uuid]
            for c in changes
            if c.after is None and (c.index, c.uuid) in places
        ]
        is_much = len(added) + len(gone) > _MAX_SINGLE or len(self._rows) + len(added) > MAX_BOXES
        # where a person is at work, rows of the layer are not ours: `redraw` looks into that
        self._is_stale |= is_much or self._is_dirty or self.is_busy
        if self._is_stale or layer is None or len(layer.data) != len(self._rows):
            self._is_stale = True
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
        before = self._rows[place][1]
        self._rows[place] = (index, after)
        if before.box_xyxy != after.box_xyxy:
            set_box(layer, place, corners_of((index, after), self._planes))
        self._write_row(layer, place, after)
        if before.category_id != after.category_id:
            colors = layer.edge_color
            colors[place] = _rgba(self._color(after))
            layer.edge_color = colors
        if self._row(before)["caption"] != self._row(after)["caption"]:
            layer.refresh_text()

    def _add(self, layer: Shapes, index: PlaneIndex, instance: Instance) -> None:
        row = self._row(instance)
        layer.feature_defaults = {name: [value] for name, value in row.items()}
        layer.add_rectangles(
            [corners_of((index, instance), self._planes)],
            edge_color=self._color(instance),
            edge_width=1,
            face_color="transparent",
        )
        _expect_drawn(layer)
        layer.selected_data = set()
        self._rows.append((index, instance))

    def _write_row(self, layer: Shapes, place: int, instance: Instance) -> None:
        table, row = layer.features, self._row(instance)
        if len(table) <= place or not set(row) <= set(table.columns):
            self._write_features(layer)
            return
        for column, value in row.items():
            try:
                table.iat[place, table.columns.get_loc(column)] = value
            except (TypeError, ValueError):
                # somebody gave the column another type
                self._write_features(layer)
                return

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

    def note_edit(self) -> None:
        """Take note that a person changed boxes."""
        self._is_dirty = True

    def take(self) -> BoxEdits:
        """Return what a person did since the boxes were drawn, once.

        The layer goes back to the session's boxes. Nothing while a box is being drawn or dragged.
        """
        if self.is_busy:
            return BoxEdits()
        self._read()
        waiting, self._waiting = self._waiting, BoxEdits()
        is_there = self._session.is_visible
        return BoxEdits(
            moved=tuple((ref, box) for ref, box in waiting.moved if is_there(*ref)),
            drawn=waiting.drawn,
            deleted=tuple(ref for ref in waiting.deleted if is_there(*ref)),
        )

    def wait(self, edits: BoxEdits) -> None:
        """Give edits out again with the next `take`: nobody could do anything with them yet."""
        self._waiting = edits.then(self._waiting)

    def _read(self) -> None:
        """Keep what a person did, and put the layer back, or have it drawn anew."""
        self.hold()
        layer = self._filled
        if layer is None:
            return
        self._is_dirty = False
        found = compare(layer, self._rows, self._planes)
        if found is None:
            self._rows, self._filled, self._is_stale = [], None, True
            return
        self._waiting = self._waiting.then(found.edits)
        self._is_stale |= bool(found.edits.deleted)
        self._rows = found.kept
        with self._writing():
            if found.crooked or found.foreign:
                layer.selected_data = set()
            for place, row in found.crooked.items():
                set_box(layer, place, corners_of(row, self._planes))
            if len(found.foreign) > _MAX_SINGLE:
                self._rows, self._filled, self._is_stale = [], None, True
            elif found.foreign:
                layer.remove(found.foreign)

    def changed_attributes(self) -> dict[int, tuple[str, str]]:
        """Return what a person changed in the features table: handle → (category, state).

        "" stands for what did not change.
        """
        layer = self._filled
        handles = None if layer is None else handles_of(layer, self._rows)
        if layer is None or handles != [row.handle for _, row in self._rows]:
            return {}
        written = self._features()
        cells = {
            name: dict(changed_cells(layer.features, written, name)) for name in EDITABLE_COLUMNS
        }
        return {
            handles[place]: (cells["category"].get(place, ""), cells["state"].get(place, ""))
            for place in sorted({place for each in cells.values() for place in each})
        }

    def has_changed_features(self) -> bool:
        """Whether a person changed the features table."""
        layer = self._filled
        if layer is None or len(layer.data) != len(self._rows) or not self._rows:
            return False
        return not is_same_table(layer.features, self._features())

    def restore_features(self) -> bool:
        """Put the features table back to the session; return whether a person had changed it."""
        is_changed = self.has_changed_features()
        if is_changed and self._filled is not None:
            self._write_features(self._filled)
        return is_changed

    def _write_features(self, layer: Shapes) -> None:
        with self._writing():
            layer.features = with_other_columns(self._features(), layer.features)
            _expect_drawn(layer)

    def _features(self) -> pd.DataFrame:
        table = boxes_features([])
        rows = [self._row(instance) for _, instance in self._rows]
        return pd.DataFrame(rows, columns=table.columns).astype(table.dtypes) if rows else table

    def place_of(self, index: PlaneIndex, uuid: str) -> int | None:
        """Return the row of an instance in the layer; None if its box is not drawn."""
        for place, (row_index, row) in enumerate(self._rows):
            if (row_index, row.uuid) == (index, uuid):
                return place
        return None

    def refs_at(self, places: set[int]) -> list[Ref]:
        """Return the instances of some rows of the layer."""
        handles = (None if self._filled is None else handles_of(self._filled, self._rows)) or []
        known = {row.handle: (index, row.uuid) for index, row in self._rows}
        # a copy comes after the box that it was made from
        refs = [known.pop(handle, None) for handle in handles]
        return [ref for place, ref in enumerate(refs) if ref is not None and place in places]


_NO_ROW: dict[str, Any] = {
    "handle": 0,
    "category": None,
    "score": np.nan,
    "area": 0,
    "state": None,
    "source": None,
    "caption": "",
}


def is_drawing(layer: Shapes | None) -> bool:
    """Return whether a person is in the middle of drawing or dragging a shape."""
    # private, and the only place where napari (0.9) says so; a test looks whether they are there
    return any(bool(getattr(layer, name, False)) for name in ("_is_creating", "_is_moving"))


def _expect_drawn(layer: Shapes) -> None:
    """Give the next box that a person draws a row of its own: it would inherit the last one."""
    others = {name: layer.feature_defaults[name].tolist() for name in layer.feature_defaults}
    ours = {name: [value] for name, value in _NO_ROW.items()}
    layer.feature_defaults = others | ours


def _looks(rows: list[Row]) -> list[Any]:
    """Return all that can be seen of some boxes, in an order of their own."""
    looks = [
        (index, row.uuid, row.handle, row.box_xyxy, row.category_id, row.score, row.state)
        for index, row in rows
    ]
    # a score may be NaN, which never equals itself
    return sorted((*map(str, each),) for each in looks)


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
