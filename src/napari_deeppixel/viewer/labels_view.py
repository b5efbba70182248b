"""One Labels layer as a view of some of a session's instances."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray

from napari_deeppixel.core.geometry import mask_to_box_xyxy
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import Instance, label_dtype
from napari_deeppixel.edits.diff import Region, draw_region
from napari_deeppixel.edits.session import AnnotationSession
from napari_deeppixel.viewer.features import attribute_row, labels_features, read_attributes
from napari_deeppixel.viewer.plane_map import PlaneMap

# more pixels at once are written past napari's undo list, which keeps 17 bytes for each
_MAX_LISTED_PIXELS = 1 << 18
# side of the squares in which a whole plane is compared: about 3 ms each
_TILE = 1024


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
    """

    def __init__(
        self,
        layer: Labels,
        session: AnnotationSession,
        planes: PlaneMap,
        is_member: Callable[[Instance], bool],
    ) -> None:
        self.layer, self._session, self._planes = layer, session, planes
        self.is_member = is_member
        self.is_writing = False
        self.on_top: int | None = None
        self._drawn: set[PlaneIndex] = set()
        self._written: dict[int, tuple[str, str]] = {}

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

    def _whole(self) -> Region:
        height, width = self._session.image_hw
        return 0, 0, width, height

    # -- drawing ------------------------------------------------------------------------------

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self.is_writing = True
        try:
            yield
        finally:
            self.is_writing = False

    def draw_plane(self, index: PlaneIndex, *, is_current: bool) -> None:
        """Draw a plane anew; what a person did there must have been taken over before."""
        instances = self.members(index, self._whole())
        self.grow_type(max((i.handle for i in instances), default=0))
        plane = self.plane(index)
        if index not in self._drawn:
            # a new layer is empty: only the instances need to be written
            self._drawn.add(index)
        else:
            plane[...] = 0
        for instance in instances:
            plane[instance.mask.slices][instance.mask.pixels] = instance.handle
        with self._writing():
            self.layer.refresh(extent=False, thumbnail=is_current, highlight=False)
            forget_history(self.layer)

    def redraw(
        self,
        index: PlaneIndex,
        region: Region,
        *,
        before: Sequence[Instance] | None = None,
    ) -> None:
        """Draw a region anew.

        Parameters
        ----------
        index, region
            Where.
        before
            What was drawn there, the last on top: pixels that differ from it are somebody's work
            that was not taken over yet, and stay. None: all pixels are written.
        """
        after = self.members(index, region)
        self.grow_type(max((i.handle for i in after), default=0))
        x1, y1, x2, y2 = region
        seen = self.plane(index)[y1:y2, x1:x2]
        wanted = draw_region(after, region, seen.dtype)
        differs = wanted != seen
        if before is not None:
            differs &= draw_region(before, region, seen.dtype) == seen
        rows, columns = np.nonzero(differs)
        if rows.size == 0:
            return
        with self._writing():
            if rows.size > _MAX_LISTED_PIXELS:
                seen[differs] = wanted[differs]
                self.layer.refresh(extent=False, thumbnail=False, highlight=False)
                forget_history(self.layer)
                return
            lead = tuple(np.full(rows.size, step) for step in self._planes.data_index(index))
            # only the texture's part changes, and napari's own undo list stays true
            self.layer.data_setitem((*lead, rows + y1, columns + x1), wanted[rows, columns])

    def grow_type(self, max_handle: int) -> None:
        """Make room in the layer for a handle."""
        data = self.layer.data
        if np.iinfo(data.dtype).max < max_handle:
            with self._writing():
                self.layer.data = data.astype(label_dtype(max_handle))
                forget_history(self.layer)

    # -- hand edits ---------------------------------------------------------------------------

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
        return self._session.take_label_region(
            index,
            drawn,
            np.array(seen),
            region_xyxy=region,
            brings_back=brings_back,
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

    # -- features -----------------------------------------------------------------------------

    def write_features(self) -> None:
        """Write the features table: row n is handle n."""
        sets = [self._session.visible(index) for index in self._session.plane_indices]
        members = [s.select([self.is_member(i) for i in s]) for s in sets]
        with self._writing():
            self.layer.features = labels_features(members)
        self._written = read_attributes(self.layer.features)

    def write_rows(self, touched: dict[int, Instance | None]) -> None:
        """Write the rows of some handles; None: the instance is not shown any more."""
        table = self.layer.features
        if max(touched, default=0) >= len(table) or "handle" not in table:
            self.write_features()
            return
        names = {c.id: c.name for c in self._session.categories.categories}
        for handle, instance in touched.items():
            row = attribute_row(instance, names)
            for column, value in row.items():
                table.iat[handle, table.columns.get_loc(column)] = value
            self._written[handle] = (str(row["category"]), str(row["state"]))
        with self._writing():
            # the table was changed in place, which napari's own table view cannot see
            self.layer.events.features()

    def changed_attributes(self) -> dict[int, tuple[str, str]]:
        """Return what a person changed in the features table: handle → (category, state).

        "" stands for what did not change.
        """
        changed = {}
        for handle, (category, state) in read_attributes(self.layer.features).items():
            old_category, old_state = self._written.get(handle, (category, state))
            if (category, state) != (old_category, old_state):
                changed[handle] = (
                    category if category != old_category else "",
                    state if state != old_state else "",
                )
                self._written[handle] = (category, state)
        return changed


def forget_history(layer: Labels) -> None:
    """Empty napari's undo list of a layer that was drawn over.

    An older stroke would otherwise put pixels back that no longer belong there. Switching
    `editable` off and on is the public way; it also leaves the chosen tool.
    """
    mode, editable = layer.mode, layer.editable
    layer.editable = not editable
    layer.editable = editable
    layer.mode = mode


def stroke_regions(atoms: Any) -> list[tuple[tuple[slice, ...], Region]]:
    """Return the lead slices and the region (x1, y1, x2, y2) that a `paint` event touched.

    napari 0.9 sends two kinds of atoms: (slices, mask, …) for strokes, (indices, …) for
    `data_setitem`.
    """
    boxes = []
    for atom in atoms:
        if hasattr(atom, "slice_key"):
            boxes.append([(int(s.start), int(s.stop)) for s in map(_as_slice, atom.slice_key)])
        else:
            boxes.append(
                [(int(i.min()), int(i.max()) + 1) for i in map(np.atleast_1d, atom[0]) if i.size]
            )
    boxes = [box for box in boxes if box]
    if not boxes:
        return []
    low = [min(box[axis][0] for box in boxes) for axis in range(len(boxes[0]))]
    high = [max(box[axis][1] for box in boxes) for axis in range(len(boxes[0]))]
    lead = tuple(slice(a, b) for a, b in zip(low[:-2], high[:-2], strict=True))
    return [(lead, (low[-1], low[-2], high[-1], high[-2]))]


def _as_slice(step: Any) -> slice:
    return step if isinstance(step, slice) else slice(int(step), int(step) + 1)
