"""One Labels layer as a view of some of a session's instances."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from napari.layers import Labels
from numpy.typing import NDArray

from napari_deeppixel.core.geometry import mask_to_box_xyxy
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import Instance, label_dtype
from napari_deeppixel.edits.action import Change
from napari_deeppixel.edits.diff import Region, draw_region
from napari_deeppixel.edits.levels import drawing_rank
from napari_deeppixel.edits.session import AnnotationSession
from napari_deeppixel.viewer.features import (
    EDITABLE_COLUMNS,
    attribute_rows,
    changed_cells,
    is_same_table,
    labels_features,
    put_rows,
    with_other_columns,
    with_rows,
)
from napari_deeppixel.viewer.plane_map import PlaneMap
from napari_deeppixel.viewer.strokes import small_numbers

# more pixels at once are written past napari's undo list, which keeps 17 bytes for each
_MAX_LISTED_PIXELS = 1 << 18
# side of the squares in which a whole plane is compared: about 3 ms each
_TILE = 1024
# comparing a small region of its own takes as long as so many pixels of a large one
_REGION_COST_PX = 8000
# regions that are drawn one by one
_MAX_APART = 4


class LabelsView:
    """Draws instances into a Labels layer, and reads hand edits back.

    Parameters
    ----------
    layer
        The layer; its data cover all planes.
    session
        The instances.
    planes
        Which plane is where.
    is_member
        Which of the session's instances this layer shows.
    category_id
        Category of what is drawn in this layer; None: the one that the person chose.

    Attributes
    ----------
    is_writing
        While set, the layer's events tell of our own work.
    on_top
        Handle of the instance to draw on top of all; None: none.
    announced
        Lead slices and regions that napari is about to write.
    """

    def __init__(
        self,
        layer: Labels,
        session: AnnotationSession,
        planes: PlaneMap,
        is_member: Callable[[Instance], bool],
        *,
        category_id: int | None = None,
    ) -> None:
        self.layer, self._session, self._planes = layer, session, planes
        self.is_member, self.category_id = is_member, category_id
        self.is_writing = False
        self.on_top: int | None = None
        self.announced: list[tuple[tuple[slice, ...], Region]] = []
        self._followed: Any = layer.data  # Any: napari takes all kinds of arrays
        self._written = labels_features([])

    # -- what should be seen ------------------------------------------------------------------

    def members(self, index: PlaneIndex, region: Region) -> list[Instance]:
        """Return the instances to draw in a region, the last on top."""
        chosen = [i for i in self._session.shown_in(index, region) if self.is_member(i)]
        return self._raised(chosen)

    def in_drawing_order(self, index: PlaneIndex, instances: Sequence[Instance]) -> list[Instance]:
        """Return instances, as they are or were, in the order in which they are drawn."""
        return self._raised(self._session.in_drawing_order(index, instances))

    def _raised(self, instances: list[Instance]) -> list[Instance]:
        # the sort is stable: only one instance moves
        return sorted(instances, key=lambda i: i.handle == self.on_top)

    @property
    def is_busy(self) -> bool:
        """Whether a person is in the middle of a stroke, which is taken when it ends."""
        return bool(getattr(self.layer, "_block_history", False))

    def plane(self, index: PlaneIndex) -> NDArray[Any]:
        """Return the layer's pixels (H, W) of a plane, as a view."""
        plane: NDArray[Any] = self.layer.data[self._planes.data_index(index)]
        return plane

    def shows(self, handle: int, index: PlaneIndex, region: Region) -> bool:
        """Whether a number is in a region of the layer."""
        x1, y1, x2, y2 = region
        return bool((self.plane(index)[y1:y2, x1:x2] == handle).any())

    def looks_same(self, change: Change) -> bool:
        """Whether a change is not to be seen in this layer, so that nothing is to be drawn."""
        before, after = change.before, change.after
        was_member = before is not None and self.is_member(before)
        is_member = after is not None and self.is_member(after)
        if before is None or after is None or not was_member or not is_member:
            return not was_member and not is_member
        if before.mask is not after.mask or before.handle != after.handle:
            return False
        old, new = drawing_rank(before), drawing_rank(after)
        if old == new:
            return True
        mask = after.mask
        is_on_top = bool((self.plane(change.index)[mask.slices][mask.pixels] == after.handle).all())
        # one that rises stays on top; one that sinks may go below a neighbour
        return is_on_top and (
            old < new or len(self._session.shown_in(change.index, mask.box_xyxy)) == 1
        )

    # -- drawing ------------------------------------------------------------------------------

    @contextmanager
    def _writing(self) -> Iterator[None]:
        was_writing, self.is_writing = self.is_writing, True
        try:
            yield
        finally:
            self.is_writing = was_writing

    def fill(self) -> None:
        """Draw all planes into a new layer."""
        height, width = self._session.image_hw
        for index in self._session.plane_indices:
            plane = self.plane(index)
            for instance in self.members(index, (0, 0, width, height)):
                plane[instance.mask.slices][instance.mask.pixels] = instance.handle
        self.write_features()

    def redraw(self, index: PlaneIndex, region: Region) -> None:
        """Draw all pixels of a region anew; what waits there must have been taken over before."""
        self._draw(index, region, [region], before=None)

    def redraw_changed(
        self, index: PlaneIndex, regions: Sequence[Region], before: Sequence[Instance]
    ) -> None:
        """Draw regions anew, but for what somebody did there that was not taken over yet.

        Parameters
        ----------
        index, regions
            Where.
        before
            What was drawn there, the last on top: pixels that differ from it stay.
        """
        # each region of its own costs as much as 20 instances
        groups = [[region] for region in regions] if len(regions) <= _MAX_APART else [regions]
        for group in groups:
            low, high = np.min(group, axis=0), np.max(group, axis=0)
            x1, y1, x2, y2 = int(low[0]), int(low[1]), int(high[2]), int(high[3])
            is_dense = (x2 - x1) * (y2 - y1) < len(group) * _REGION_COST_PX
            self._draw(
                index,
                (x1, y1, x2, y2),
                [(x1, y1, x2, y2)] if is_dense else group,
                before=before,
            )

    def _draw(
        self,
        index: PlaneIndex,
        whole: Region,
        regions: Sequence[Region],
        *,
        before: Sequence[Instance] | None,
    ) -> None:
        after = self.members(index, whole)
        self.grow_type(max((i.handle for i in after), default=0))
        plane = self.plane(index)
        wanted = draw_region(after, whole, plane.dtype)
        known = None if before is None else draw_region(before, whole, plane.dtype)
        rows, columns, numbers = [], [], []
        for x1, y1, x2, y2 in regions:
            part = slice(y1 - whole[1], y2 - whole[1]), slice(x1 - whole[0], x2 - whole[0])
            seen = plane[y1:y2, x1:x2]
            differs = wanted[part] != seen
            if known is not None:
                differs &= known[part] == seen
            y, x = np.nonzero(differs)
            rows.append(y + y1)
            columns.append(x + x1)
            numbers.append(wanted[part][y, x])
        if any(each.size for each in rows):
            self._put(index, np.concatenate(rows), np.concatenate(columns), np.concatenate(numbers))

    def _put(
        self,
        index: PlaneIndex,
        rows: NDArray[np.intp],
        columns: NDArray[np.intp],
        numbers: NDArray[Any],
    ) -> None:
        layer = self.layer
        # napari keeps the slice of a hidden layer as it was: it would write into that plane, too
        is_sliced = layer.visible and layer.loaded
        if is_sliced and (rows.size <= _MAX_LISTED_PIXELS or self.is_busy):
            lead = tuple(np.full(rows.size, step) for step in self._planes.data_index(index))
            with self._writing():
                # only the texture's part changes, and napari's own undo list stays true
                layer.data_setitem((*lead, rows, columns), numbers)
            return
        self.plane(index)[rows, columns] = numbers
        with self._writing():
            layer.refresh(extent=False, thumbnail=False, highlight=False)
            self.forget_history()

    def forget_history(self) -> None:
        """Empty napari's undo list of a layer that was drawn over, but for a stroke under way.

        An older stroke would otherwise put pixels back that no longer belong there. Switching
        `editable` off and on is the public way; it also leaves the chosen tool.
        """
        layer = self.layer
        if self.is_busy:
            return
        mode, editable = layer.mode, layer.editable
        layer.editable = not editable
        layer.editable = editable
        layer.mode = mode

    def grow_type(self, max_handle: int) -> None:
        """Make room in the layer for a handle."""
        data = self.layer.data
        if np.iinfo(data.dtype).max < max_handle:
            self._replace_data(data.astype(label_dtype(max_handle)))

    def _replace_data(self, data: NDArray[Any]) -> None:
        editable = self.layer.editable
        with self._writing():
            self.layer.data = data
            self.layer.editable = editable
        self._followed = self.layer.data

    # -- hand edits ---------------------------------------------------------------------------

    def adopt_data(self, others: Iterable[Any]) -> bool:
        """Follow an array that somebody put into the layer; return False if it cannot hold planes.

        Parameters
        ----------
        others
            Data of other layers: an array that is also theirs is copied, as what we draw would
            show there.
        """
        data = self.layer.data
        if data is self._followed:
            return True
        if tuple(getattr(data, "shape", ())) != self._planes.layer_shape():
            return False
        with self._writing():
            # napari keeps it, and would put the old array's pixels into this one
            self.forget_history()
        array = np.asarray(data)
        top = self._session.next_handle - 1
        has_room = array.dtype in (np.uint16, np.uint32) and np.iinfo(array.dtype).max >= top
        is_shared = any(
            isinstance(other, np.ndarray) and np.may_share_memory(array, other) for other in others
        )
        if array is data and has_room and array.flags.writeable and not is_shared:
            self._followed = data
        else:
            small = small_numbers(array, first=top + 1)
            self._replace_data(np.array(small, label_dtype(max(top, int(small.max(initial=0))))))
        return True

    def take(
        self, index: PlaneIndex, region: Region, *, brings_back: bool, **settings: Any
    ) -> bool:
        """Take what a person changed in a region into the session; return whether anything was.

        `settings` go to `AnnotationSession.take_label_region`.
        """
        x1, y1, x2, y2 = region
        seen = self.plane(index)[y1:y2, x1:x2]
        drawn = self.members(index, region)
        if brings_back and np.array_equal(seen, draw_region(drawn, region, seen.dtype)):
            return False
        # what other layers of ours show there
        shown = self._session.shown_in(index, region)
        beside = [instance for instance in shown if not self.is_member(instance)]
        return self._session.take_label_region(
            index,
            drawn,
            small_numbers(np.array(seen), first=self._session.next_handle),
            region_xyxy=region,
            brings_back=brings_back,
            beside=beside,
            **settings,
        )

    def tiles(self) -> Iterator[Region]:
        """Return the squares in which a plane is compared."""
        height, width = self._session.image_hw
        for y in range(0, height, _TILE):
            for x in range(0, width, _TILE):
                yield x, y, min(x + _TILE, width), min(y + _TILE, height)

    def dirty_region(self, index: PlaneIndex, tile: Region) -> Region | None:
        """Return the box round the pixels in a tile that differ from what should be seen."""
        x1, y1, x2, y2 = tile
        seen = self.plane(index)[y1:y2, x1:x2]
        box = mask_to_box_xyxy(draw_region(self.members(index, tile), tile, seen.dtype) != seen)
        if box is None:
            return None
        return x1 + box[0], y1 + box[1], x1 + box[2], y1 + box[3]

    def make_way(self, index: PlaneIndex, top: int) -> None:
        """Renumber pixels above a number: instances just got those, and the pixels are not theirs.

        A person or a program wrote them, and nobody has taken them over yet.
        """
        plane = self.plane(index)
        if int(plane.max(initial=0)) <= top:
            return
        rows, columns = np.nonzero(plane > top)
        numbers = plane[rows, columns].astype(np.int64) - top - 1 + self._session.next_handle
        self.grow_type(int(numbers.max()))
        self._put(index, rows, columns, numbers.astype(self.layer.data.dtype))

    # -- features -----------------------------------------------------------------------------

    def write_features(self) -> None:
        """Write the features table: row n is handle n; what a person did in it stays."""
        self._put_features(self._unsettled())

    def _put_features(self, unsettled: Mapping[int, Mapping[str, str]]) -> None:
        sets = [self._session.visible(index) for index in self._session.plane_indices]
        written = labels_features([s.select([self.is_member(i) for i in s]) for s in sets])
        table = with_other_columns(written, self.layer.features)
        for handle, cells in unsettled.items():
            if handle < len(table) and table["category"].iat[handle] is not None:
                for column, value in cells.items():
                    table.iat[handle, _place(table, column)] = value
        self._written = written
        with self._writing():
            self.layer.features = table

    def write_rows(self, touched: Mapping[int, Instance | None]) -> None:
        """Write the rows of some handles; None: the instance is not shown any more."""
        unsettled = self._unsettled()
        rows = 1 + max((h for h, instance in touched.items() if instance is not None), default=0)
        table = with_rows(self.layer.features, rows)
        written = self._written = with_rows(self._written, rows)
        is_ours = len(table) == len(written) and all(
            name in table and table[name].dtype == written[name].dtype for name in written
        )
        if not is_ours:
            self.write_features()
            return
        # a handle past the end never had a row
        touched = {handle: i for handle, i in touched.items() if handle < len(written)}
        if not touched:
            return
        names = {c.id: c.name for c in self._session.categories.categories}
        new = attribute_rows(touched.values(), names)
        put_rows(written, list(touched), new)
        kept = {
            (handle, column): value
            for handle, cells in unsettled.items()
            for column, value in cells.items()
            if touched.get(handle) is not None
        }
        put_rows(table, list(touched), new)
        for (handle, column), value in kept.items():
            table.iat[handle, _place(table, column)] = value
        with self._writing():
            if table is not self.layer.features:
                self.layer.features = table
            else:
                # changed in place, which napari's own table view cannot see
                self.layer.events.features()

    def _unsettled(self) -> dict[int, dict[str, str]]:
        """Return what a person wrote into the table: handle → column → text."""
        found: dict[int, dict[str, str]] = {}
        for column in EDITABLE_COLUMNS:
            for handle, value in changed_cells(self.layer.features, self._written, column):
                if handle:
                    found.setdefault(handle, {})[column] = value
        return found

    def changed_attributes(self) -> dict[int, tuple[str, str]]:
        """Return what a person changed in the features table: handle → (category, state).

        "" stands for what did not change.
        """
        return {
            handle: (cells.get("category", ""), cells.get("state", ""))
            for handle, cells in self._unsettled().items()
        }

    def has_changed_features(self) -> bool:
        """Whether a person changed the features table."""
        return not is_same_table(self.layer.features, self._written)

    def restore_features(self) -> bool:
        """Put the features table back to the session; return whether a person had changed it."""
        is_changed = self.has_changed_features()
        if is_changed:
            self._put_features({})
        return is_changed


def _place(table: pd.DataFrame, column: str) -> int:
    return list(table.columns).index(column)
