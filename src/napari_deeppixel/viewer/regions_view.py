"""The Shapes layer with the regions of an image in which every object was reviewed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Shapes
from numpy.typing import NDArray
from psygnal import Signal

from napari_deeppixel.core.geometry import outline_xy_to_yx, outline_yx_to_xy
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.edits.action import Outline
from napari_deeppixel.edits.session import AnnotationSession
from napari_deeppixel.viewer.plane_map import PlaneMap

_COLOR = "#00d084"


class RegionsView:
    """Draws complete regions, and takes what a person draws, moves or deletes there.

    The layer comes with the first region.

    Parameters
    ----------
    viewer
        Where the layer is.
    name
        Name of the layer.
    session
        Whose regions.
    planes
        Which plane is where.

    Attributes
    ----------
    edited
        Signal: a person changed the layer; `take` puts that into the session.
    layer_added
        Signal: the layer came into the viewer.
    """

    edited = Signal()
    layer_added = Signal(object)

    def __init__(
        self, viewer: ViewerModel, name: str, session: AnnotationSession, planes: PlaneMap
    ) -> None:
        self._viewer, self._name = viewer, name
        self._session, self._planes = session, planes
        self._is_writing = False
        self._is_dirty = False
        self.layer: Shapes | None = None

    def redraw(self) -> None:
        """Draw the regions as the session has them."""
        regions = [
            (index, outline)
            for index in self._session.region_planes
            for outline in self._session.regions(index)
        ]
        if not regions and self.layer is None:
            return
        layer = self._present_layer()
        with self._writing():
            layer.selected_data = set()
            layer.data = []
            if regions:
                layer.add_polygons(
                    [self._vertices(index, outline) for index, outline in regions],
                    edge_color=_COLOR,
                    face_color=[0, 0.82, 0.52, 0.08],
                    edge_width=2,
                )
                layer.selected_data = set()
        self._is_dirty = False

    def _vertices(self, index: PlaneIndex, outline: Outline) -> NDArray[np.float64]:
        yx = outline_xy_to_yx(outline)
        lead = np.tile(np.array(self._planes.data_index(index), np.float64), (len(yx), 1))
        return np.concatenate([lead, yx], axis=1)

    def take(self) -> None:
        """Put what a person changed in the layer into the session."""
        layer = self.layer
        if not self._is_dirty or layer is None or layer not in self._viewer.layers:
            return
        self._is_dirty = False
        found: dict[PlaneIndex, list[Outline]] = {i: [] for i in self._session.region_planes}
        for vertices in layer.data:
            lead = tuple(round(float(step)) for step in vertices[0][:-2])
            index = self._planes.session_index(lead)
            found.setdefault(index, []).append(outline_yx_to_xy(vertices[:, -2:]))
        for index, outlines in found.items():
            self._session.set_regions(index, outlines, name="edit complete regions")
        self.redraw()

    def disconnect(self) -> None:
        """Stop listening to the layer."""
        if self.layer is not None:
            self.layer.events.data.disconnect(self._on_data)

    def _present_layer(self) -> Shapes:
        if self.layer is not None and self.layer in self._viewer.layers:
            return self.layer
        self.layer = Shapes(
            ndim=len(self._planes.layer_shape()),
            name=self._name,
            edge_color=_COLOR,
            face_color=[0, 0.82, 0.52, 0.08],
            edge_width=2,
            **self._planes.placement(),
        )
        # deleting a Shapes layer can crash napari (napari#6472)
        if hasattr(self.layer, "locked"):
            self.layer.locked = True
        self.layer.events.data.connect(self._on_data)
        selection = list(self._viewer.layers.selection)
        active = self._viewer.layers.selection.active
        self._viewer.layers.append(self.layer)
        self._viewer.layers.selection.clear()
        self._viewer.layers.selection.update(selection)
        self._viewer.layers.selection.active = active
        self.layer_added.emit(self.layer)
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
            self._is_dirty = True
            self.edited.emit()
