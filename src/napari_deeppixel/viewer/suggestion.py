"""Shows masks that a model suggests, as dashed outlines over the instances."""

from collections.abc import Sequence

import numpy as np
from napari.components import ViewerModel
from numpy.typing import NDArray
from skimage.measure import find_contours

from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.viewer.layers import InstanceLayers
from napari_deeppixel.viewer.trace import Trace

SUGGESTION_NAME = "DeepPixel suggestion"
# on a plain image and beside the colours of the instances alike
_COLORS = ((0.0, 0.9, 1.0, 1.0), (0.0, 0.0, 0.0, 1.0))
# napari takes some 20 us for each place in the world
_MAX_POINTS = 200


class Suggestion:
    """The outlines of masks that are not there yet; one set at a time, on its plane alone."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._trace = Trace(viewer, name=SUGGESTION_NAME, colors=_COLORS)
        self._view: InstanceLayers | None = None
        self._index: PlaneIndex = ()
        self._paths: list[NDArray[np.float64]] = []
        self._is_drawn = False
        viewer.dims.events.current_step.connect(self._on_plane_changed)

    def show(self, view: InstanceLayers, index: PlaneIndex, masks: Sequence[CroppedMask]) -> None:
        """Show masks of a plane over the layers of its image."""
        layer = view.labels_layers[0] if view.labels_layers else view.image
        lead = view.planes.data_index(index)
        outlines = [outline for mask in masks for outline in outlines_yx(mask)]
        self._trace.prepare(layer)
        self._view, self._index, self._is_drawn = view, index, False
        self._paths = [
            np.array([layer.data_to_world((*lead, *point))[-2:] for point in outline])
            for outline in outlines
        ]
        self._on_plane_changed()

    def _on_plane_changed(self, _event: object = None) -> None:
        if self._view is None:
            return
        is_wanted = self._view.planes.current() == self._index
        if is_wanted and not self._is_drawn:
            self._trace.draw_paths(self._paths)
        elif not is_wanted:
            self._trace.clear()
        self._is_drawn = is_wanted

    def clear(self) -> None:
        """Show nothing; the layer stays, as napari takes long to add one."""
        self._view = None
        self._trace.clear()

    def remove(self) -> None:
        """Take the layer out of the viewer."""
        self._view = None
        self._trace.remove()

    def shut_down(self) -> None:
        """Take the layer out, and let go of the viewer."""
        self.remove()
        self._viewer.dims.events.current_step.disconnect(self._on_plane_changed)


def outlines_yx(mask: CroppedMask) -> list[NDArray[np.float64]]:
    """Return the closed outlines of a mask, each (K, 2) as (y, x) in napari data coordinates.

    They run half a pixel outside the centres of the outermost pixels at most; holes have their
    own.
    """
    padded = np.pad(mask.pixels, 1).astype(np.float64)
    outlines = []
    for points in find_contours(padded, 0.5):
        step = max(1, len(points) // _MAX_POINTS)
        thinned = np.concatenate([points[:-1:step], points[:1]])
        outlines.append(thinned + np.array([mask.y - 1, mask.x - 1]))
    return outlines
