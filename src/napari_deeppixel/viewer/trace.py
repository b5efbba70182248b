"""The layer that shows what a person is drawing, or what is suggested to them."""

from collections.abc import Sequence

import numpy as np
from napari.components import ViewerModel
from napari.layers import Layer, Vectors
from numpy.typing import NDArray

TRACE_NAME = "DeepPixel trace"
TRACE_KEY = "napari_deeppixel_trace"

# on the canvas, in logical pixels
_DASH_PX = 6.0
_LINE_WIDTH_PX = 2.0
_CROSS_ARM_PX = 6.0
# measured: napari takes 5 ms to draw 200 dashes anew and 18 ms for 1000
_MAX_DASHES = 200
# seen on black, on white and on stained tissue alike
_DASH_COLORS = ((1.0, 1.0, 1.0, 1.0), (0.0, 0.0, 0.0, 1.0))


class Trace:
    """Shows what is being drawn, in a Vectors layer that stays and is empty in between.

    Vectors and not Shapes: it is drawn anew in a quarter of the time, and a person may delete it,
    while removing a Shapes layer can crash napari where our dock was never shown (see
    widgets/own_context.py). Adding a layer takes 0.1 s, removing one 0.2 s; so it is kept.

    Parameters
    ----------
    viewer
        The napari viewer.
    name
        Of the layer; two traces in a viewer have different ones.
    colors
        RGBA, 0 to 1, that the dashes take in turn.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        *,
        name: str = TRACE_NAME,
        colors: Sequence[Sequence[float]] = _DASH_COLORS,
    ) -> None:
        self._viewer, self._name = viewer, name
        self._colors = np.array(colors, np.float64)
        self._layer: Vectors | None = None

    def prepare(self, target: Layer) -> None:
        """Put the layer on top of all, with the target's units and the target still active."""
        layers = self._viewer.layers
        # napari drops all units if those of one layer do not fit
        placement = {"units": target.units[-2:], "axis_labels": target.axis_labels[-2:]}
        layer = self._layer = self._find()
        if layer is None:
            layer = self._layer = Vectors(
                np.zeros((0, 2, 2)),
                ndim=2,
                name=self._name,
                vector_style="line",
                metadata={TRACE_KEY: self._name},
                **placement,
            )
            layers.append(layer)
            layers.selection.active = target
        for name, value in placement.items():
            if getattr(layer, name) != value:
                setattr(layer, name, value)
        if layers[-1] != layer:
            layers.move(layers.index(layer), len(layers))
        if not layer.visible:
            layer.visible = True

    def _find(self) -> Vectors | None:
        for layer in self._viewer.layers:
            # a duplicate has our metadata too, and is the person's own
            is_ours = layer.metadata.get(TRACE_KEY) == self._name
            if layer == self._layer or (self._layer is None and is_ours):
                return layer
        return None

    def draw_path(self, world_yx: NDArray[np.float64]) -> None:
        """Show one path through points (K, 2) in world coordinates."""
        self.draw_paths([world_yx])

    def draw_paths(self, paths_world_yx: list[NDArray[np.float64]]) -> None:
        """Show several paths, each through points (K, 2) in world coordinates."""
        pixel = 1 / self._viewer.scene.camera.zoom
        self._show(_dashes(paths_world_yx, _DASH_PX * pixel), width=_LINE_WIDTH_PX * pixel)

    def draw_marks(self, world_yx: NDArray[np.float64]) -> None:
        """Show a cross at each point (K, 2) in world coordinates."""
        self.draw_paths(_crosses(world_yx, _CROSS_ARM_PX / self._viewer.scene.camera.zoom))

    def clear(self) -> None:
        """Show nothing."""
        if self._layer is not None and len(self._layer.data):
            self._show(np.zeros((0, 2, 2)), width=self._layer.edge_width)

    def remove(self) -> None:
        """Take the layer out of the viewer; it comes back with the next drawing."""
        layer, self._layer = self._layer, None
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def _show(self, dashes: NDArray[np.float64], *, width: float) -> None:
        layer = self._layer
        if layer is None:
            return
        # the event makes napari measure all layers again: more than half of the time
        with layer.events.data.blocker():
            layer.data = dashes
        if len(dashes):
            layer.edge_color = self._colors[np.arange(len(dashes)) % len(self._colors)]
        if not np.isclose(layer.edge_width, width):
            layer.edge_width = width


def is_trace(layer: Layer) -> bool:
    """Return whether a layer only shows what is being drawn or suggested."""
    return TRACE_KEY in layer.metadata


def _crosses(centres: NDArray[np.float64], arm: float) -> list[NDArray[np.float64]]:
    offsets = [np.array([axis * -arm, axis * arm]) for axis in np.eye(2)]
    return [centre + offset for centre in centres for offset in offsets]


def _dashes(paths: list[NDArray[np.float64]], dash: float) -> NDArray[np.float64]:
    """Return (N, 2, 2) start and extent of dashes along paths, longer ones if too many."""
    dashes = [np.zeros((0, 2, 2))]
    lengths = [np.linalg.norm(np.diff(path, axis=0), axis=1) for path in paths]
    dash = max(dash, sum(float(steps.sum()) for steps in lengths) / _MAX_DASHES)
    for path, steps in zip(paths, lengths, strict=True):
        if not steps.any():
            continue
        along = np.concatenate([[0], np.cumsum(steps)])
        at = np.linspace(0, along[-1], max(round(along[-1] / dash), 1) + 1)
        ends = np.stack([np.interp(at, along, axis) for axis in path.T], axis=1)
        dashes.append(np.stack([ends[:-1], np.diff(ends, axis=0)], axis=1))
    return np.concatenate(dashes)
