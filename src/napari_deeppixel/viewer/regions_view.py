"""The Shapes layer with the regions of an image in which every object was reviewed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from napari.layers import Shapes
from numpy.typing import NDArray
from psygnal import Signal

from napari_deeppixel.core.geometry import Outline, outline_xy_to_yx, outline_yx_to_xy
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.edits.action import Action, RegionsChange
from napari_deeppixel.edits.session import AnnotationSession
from napari_deeppixel.viewer.boxes_view import is_drawing
from napari_deeppixel.viewer.plane_map import PlaneMap

_COLOR = "#00d084"
_FACE = [0, 0.82, 0.52, 0.08]
# napari counts in 32-bit floats
_SAME_PX = 0.01
# corners of the polygon that an ellipse becomes: the two differ by 0.1 % of its size
_ELLIPSE_CORNERS = 64


class RegionsView:
    """Draws complete regions, and takes what a person draws, moves or deletes there.

    The layer comes with the first region.

    Parameters
    ----------
    name
        Name of the layer.
    session
        Whose regions.
    planes
        Which plane is where.
    insert
        Puts a new layer into the viewer.

    Attributes
    ----------
    edited
        Signal: a person changed the layer; `take` puts that into the session.
    layer
        The layer; None while there is none in the viewer.
    """

    edited = Signal()

    def __init__(
        self,
        name: str,
        session: AnnotationSession,
        planes: PlaneMap,
        insert: Callable[[Shapes], None],
    ) -> None:
        self._name, self._session, self._planes, self._insert = name, session, planes, insert
        self._is_writing = False
        self._drawn: list[tuple[PlaneIndex, Outline, NDArray[np.float64]]] = []
        self.layer: Shapes | None = None

    def redraw(self) -> None:
        """Draw the regions as the session has them, and leave what nobody has taken yet.

        Later, while a person is in the middle of drawing one: `edited` tells to call `take` again.
        """
        if self.is_busy:
            self.edited.emit()
            return
        layer = self.layer
        shapes = [] if layer is None else zip(layer.shape_type, layer.data, strict=True)
        drawn = [vertices for _, _, vertices in self._drawn]
        self._draw([each for each in shapes if not any(_is_same(each[1], v) for v in drawn)])

    def _draw(self, others: list[tuple[str, NDArray[Any]]]) -> None:
        regions = [
            (index, outline, self._vertices(index, outline))
            for index in self._session.region_planes
            for outline in self._session.regions(index)
        ]
        layer = self._present_layer() if regions else self.layer
        if layer is None:
            return
        self._drawn = regions
        with self._writing():
            layer.selected_data = set()
            layer.data = []
            if regions:
                layer.add_polygons(
                    [vertices for _, _, vertices in regions],
                    edge_color=_COLOR,
                    face_color=_FACE,
                    edge_width=2,
                )
            for kind, vertices in others:
                layer.add(vertices, shape_type=kind)
            layer.selected_data = set()

    def _vertices(self, index: PlaneIndex, outline: Outline) -> NDArray[np.float64]:
        yx = outline_xy_to_yx(outline)
        lead = np.tile(np.array(self._planes.data_index(index), np.float64), (len(yx), 1))
        return np.concatenate([lead, yx], axis=1)

    @property
    def is_busy(self) -> bool:
        """Whether a person is in the middle of drawing or dragging a region."""
        return is_drawing(self.layer)

    def take(self) -> bool:
        """Put what a person changed in the layer into the session; return whether anything was.

        Nothing while a region is being drawn or dragged: a part of it would count as complete.

        Raises
        ------
        ReadOnlyError
            If the session may not be changed; the layer is as the session again.
        """
        if self.layer is None or self.is_busy:
            return False
        if self._is_as_drawn(self.layer):
            self._catch_up()
            return False
        found = self._merged(self.layer)
        self._draw([])
        changes = [
            RegionsChange(index=index, before=self._session.regions(index), after=tuple(outlines))
            for index, outlines in found.items()
            if self._session.regions(index) != tuple(outlines)
        ]
        try:
            return self._session.apply(Action(name="edit complete regions", regions=tuple(changes)))
        finally:
            self._draw([])

    def _merged(self, layer: Shapes) -> dict[PlaneIndex, list[Outline]]:
        """Return the session's regions with what a person changed in the layer since it was drawn.

        The session may have changed since, too: what is the same in the layer stays as it is there.
        """
        drawn, shapes = self._drawn, list(zip(layer.shape_type, layer.data, strict=True))
        same = {
            place: next((n for n, each in enumerate(drawn) if _is_same(vertices, each[2])), None)
            for place, (_, vertices) in enumerate(shapes)
        }
        gone = set(range(len(drawn))) - set(same.values())
        planes = {index for index, _, _ in drawn} | set(self._session.region_planes)
        found = {index: list(self._session.regions(index)) for index in planes}
        for place, (kind, vertices) in enumerate(shapes):
            index, outline = self._planes.plane_of(vertices[0]), _outline(kind, vertices)
            if same[place] is not None or index is None or outline is None:
                continue
            outlines = found.setdefault(index, list(self._session.regions(index)))
            # one that was moved keeps its place in the order
            old = drawn[place][:2] if place in gone else None
            if old is not None and old[0] == index and old[1] in outlines:
                outlines[outlines.index(old[1])] = outline
                gone.discard(place)
            else:
                outlines.append(outline)
        for index, outline, _ in (drawn[n] for n in gone):
            if outline in found[index]:
                found[index].remove(outline)
        return found

    def _catch_up(self) -> None:
        """Draw what could not be drawn while the person was at it."""
        drawn = [(index, outline) for index, outline, _ in self._drawn]
        wanted = [
            (index, outline)
            for index in self._session.region_planes
            for outline in self._session.regions(index)
        ]
        if drawn != wanted:
            self._draw([])

    def _is_as_drawn(self, layer: Shapes) -> bool:
        data = layer.data
        return len(data) == len(self._drawn) and all(
            _is_same(now, drawn) for now, (_, _, drawn) in zip(data, self._drawn, strict=True)
        )

    def disconnect(self) -> None:
        """Let the layer go."""
        if self.layer is not None:
            self.layer.events.data.disconnect(self._on_data)
        self.layer, self._drawn = None, []

    def _present_layer(self) -> Shapes | None:
        if self.layer is not None or not self._planes.is_open:
            return self.layer
        self.layer = Shapes(
            ndim=len(self._planes.layer_shape()),
            name=self._name,
            edge_color=_COLOR,
            face_color=_FACE,
            edge_width=2,
            **self._planes.placement(),
        )
        # deleting a Shapes layer can crash napari (napari#6472) where our dock was never shown, see
        # widgets/own_context.py
        if hasattr(self.layer, "locked"):
            self.layer.locked = True
        self.layer.events.data.connect(self._on_data)
        self._insert(self.layer)
        return self.layer

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self._is_writing = True
        try:
            yield
        finally:
            self._is_writing = False

    def _on_data(self, event: Any) -> None:
        if not self._is_writing and getattr(event, "action", "") in ("added", "changed", "removed"):
            self.edited.emit()


def _outline(kind: str, vertices: NDArray[Any]) -> Outline | None:
    """Return the outline that a shape stands for; None if it has no area."""
    yx = np.asarray(vertices, np.float64)[:, -2:]
    if kind == "ellipse":
        yx = _ellipse(yx)
    outline = outline_yx_to_xy(yx)
    return outline if _area(yx) > 0 and kind != "line" else None


def _is_same(vertices: NDArray[Any], drawn: NDArray[np.float64]) -> bool:
    return vertices.shape == drawn.shape and bool(np.abs(vertices - drawn).max() < _SAME_PX)


def _ellipse(corners_yx: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return points (K, 2) on the ellipse that touches the four sides of a rectangle (4, 2)."""
    centre = corners_yx.mean(axis=0)
    axis_a = (corners_yx[1] - corners_yx[0]) / 2
    axis_b = (corners_yx[3] - corners_yx[0]) / 2
    angles = np.linspace(0, 2 * np.pi, _ELLIPSE_CORNERS, endpoint=False)[:, None]
    points: NDArray[np.float64] = centre + np.cos(angles) * axis_a + np.sin(angles) * axis_b
    return points


def _area(yx: NDArray[np.float64]) -> float:
    y, x = yx.T
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2
