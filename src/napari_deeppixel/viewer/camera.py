"""Moves the viewer to an instance."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

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

    Near the border of an image that is larger than the canvas, the canvas stays inside the image.
    The zoom changes only where the object would be hard to see, or larger than the canvas.
    """
    instance = view.session.get(index, uuid)
    if instance is None:
        return False
    show_box(viewer, view, index, instance.box_xyxy)
    return True


def show_box(
    viewer: Any, view: InstanceLayers, index: PlaneIndex, box_xyxy: tuple[int, int, int, int]
) -> None:
    """Bring a box of a plane to the middle of the canvas, as `show_instance` does."""
    if index != view.planes.current():
        view.planes.show(index)
    layer = view.labels_layers[0] if view.labels_layers else view.image
    height, width = view.session.image_hw
    boxes = [box_xyxy, (0, 0, width, height)]
    corners = boxes_xyxy_to_corners_yx(boxes, lead=view.planes.data_index(index))
    world, image_world = (
        np.array([layer.data_to_world(corner) for corner in box])[:, -2:] for box in corners
    )
    centre = world.mean(axis=0)
    camera = viewer.scene.camera
    x1, y1, x2, y2 = box_xyxy
    shown_as = max(1.0, _SMALLEST_PX / max(x2 - x1, y2 - y1))
    side = float(np.ptp(world, axis=0).max()) * shown_as
    wanted = _SHARE * min(viewer.canvas.size) / max(side, 1e-9)
    low, high = _TOLERANCE
    if not low * wanted <= camera.zoom <= high * wanted:
        camera.zoom = wanted
    if viewer.dims.ndisplay == 2:
        view_hw = np.array(viewer.canvas.size) / camera.zoom
        centre = _kept_inside(centre, view_hw, image_world)
    camera.center = (*camera.center[:-2], *centre)


def _kept_inside(
    centre: NDArray[np.float64], view_hw: NDArray[np.float64], corners: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return a centre (2,) for which the view stays in the upright box round some corners (K, 2).

    Along an axis on which that box is smaller than the view, the centre stays as it is.
    """
    low, high = corners.min(axis=0) + view_hw / 2, corners.max(axis=0) - view_hw / 2
    return np.where(low <= high, np.clip(centre, low, high), centre)
