"""Moves the viewer to an instance."""

from typing import Any

import numpy as np

from napari_deeppixel.core.geometry import boxes_xyxy_to_corners_yx
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.viewer.layers import InstanceLayers

# of the shorter side of the canvas that an object's longer side takes
_SHARE = 0.25
# a smaller object is shown like one of this side: with what lies round it
_SMALLEST_PX = 40
# a zoom that shows an object between these times that share is left alone: jumps tire the eye
_TOLERANCE = (0.5, 2.0)


def show_instance(viewer: Any, view: InstanceLayers, index: PlaneIndex, uuid: str) -> bool:
    """Bring an instance to the middle of the canvas; return whether it is there.

    The zoom changes only where the object would be hard to see, or larger than the canvas.
    """
    instance = view.session.get(index, uuid)
    if instance is None:
        return False
    if index != view.planes.current():
        view.planes.show(index)
    layer = view.labels_layers[0] if view.labels_layers else view.image
    corners = boxes_xyxy_to_corners_yx([instance.box_xyxy], lead=view.planes.data_index(index))[0]
    world = np.array([layer.data_to_world(corner) for corner in corners])[:, -2:]
    centre = world.mean(axis=0)
    camera = viewer.scene.camera
    x1, y1, x2, y2 = instance.box_xyxy
    shown_as = max(1.0, _SMALLEST_PX / max(x2 - x1, y2 - y1))
    side = float(np.ptp(world, axis=0).max()) * shown_as
    wanted = _SHARE * min(viewer.canvas.size) / max(side, 1e-9)
    low, high = _TOLERANCE
    if not low * wanted <= camera.zoom <= high * wanted:
        camera.zoom = wanted
    camera.center = (*camera.center[:-2], *centre)
    return True
