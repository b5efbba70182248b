"""Which plane is where: the axes of an Image layer against those of its instances."""

from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image
from numpy.typing import ArrayLike

from napari_deeppixel.core.geometry import view_corners_to_region_xyxy
from napari_deeppixel.core.image import PlaneIndex


class PlaneMap:
    """Lead indices of an image's planes, seen from the viewer, our layers and the session.

    Parameters
    ----------
    viewer
        The napari viewer.
    image
        The Image layer.
    channel_axis
        Axis of the image that holds channels; the instances are the same in all of them.
    """

    def __init__(self, viewer: ViewerModel, image: Image, channel_axis: int | None) -> None:
        self._viewer, self._image, self.channel_axis = viewer, image, channel_axis
        data = image.data[0] if image.multiscale else image.data
        self._shape = tuple(data.shape[: image.ndim])
        self.lead_shape = tuple(
            size for axis, size in enumerate(self.image_shape()[:-2]) if axis != channel_axis
        )
        self.image_hw = self.image_shape()[-2:]

    def image_shape(self) -> tuple[int, ...]:
        """Return the image's shape without its RGB axis, as it was when this was made."""
        return self._shape

    @property
    def is_open(self) -> bool:
        """Whether the image is in the viewer."""
        return self._image in self._viewer.layers

    def layer_shape(self) -> tuple[int, ...]:
        """Return the shape of our Labels layers, which keep one place for all channels."""
        return tuple(
            1 if axis == self.channel_axis else size for axis, size in enumerate(self.image_shape())
        )

    def current(self) -> PlaneIndex | None:
        """Return the lead index of the plane that the viewer shows; None if it shows none."""
        image = self._image
        if not self._viewer.dims.ndim >= image.ndim == len(self._shape):
            # the image is not in the viewer, or somebody gave it other pixels
            return None
        position = np.asarray(image.world_to_data(self._viewer.dims.point[-image.ndim :]))
        index = []
        for axis, size in enumerate(self.image_shape()[:-2]):
            if axis == self.channel_axis:
                continue
            step = round(float(position[axis]))
            if not 0 <= step < size:
                return None
            index.append(step)
        return tuple(index)

    def show(self, index: PlaneIndex) -> None:
        """Move the viewer's sliders to a plane."""
        image, dims = self._image, self._viewer.dims
        point = list(image.world_to_data(dims.point[-image.ndim :]))
        axes = [a for a in range(image.ndim - 2) if a != self.channel_axis]
        for axis, step in zip(axes, index, strict=True):
            point[axis] = step
        world = image.data_to_world(point)
        first = dims.ndim - image.ndim
        for axis in axes:
            dims.set_point(first + axis, world[axis])

    def data_index(self, index: PlaneIndex) -> PlaneIndex:
        """Return the lead index in our layers' data."""
        if self.channel_axis is None:
            return index
        return (*index[: self.channel_axis], 0, *index[self.channel_axis :])

    def session_index(self, data_index: PlaneIndex) -> PlaneIndex:
        """Return the session's lead index for one in our layers' data."""
        if self.channel_axis is None:
            return data_index
        return (*data_index[: self.channel_axis], *data_index[self.channel_axis + 1 :])

    def plane_of(self, vertex: ArrayLike) -> PlaneIndex | None:
        """Return the session's lead index for a point in our layers' data; None if outside."""
        lead = np.round(np.asarray(vertex, np.float64)[:-2]).astype(int)
        if ((lead < 0) | (lead >= self.layer_shape()[:-2])).any():
            return None
        return self.session_index(tuple(lead.tolist()))

    def view_region(self) -> tuple[int, int, int, int] | None:
        """Return the part of the plane (x1, y1, x2, y2) that the viewer shows."""
        return view_region(self._image, (self.image_hw[0], self.image_hw[1]))

    def placement(self) -> dict[str, Any]:
        """Return scale, translate and so on that put our layers on the image."""
        image = self._image
        scale, translate = np.array(image.scale), np.array(image.translate)
        if self.channel_axis is not None:
            # one thick slice through all channels instead of a copy for each
            channels = self.image_shape()[self.channel_axis]
            translate[self.channel_axis] += scale[self.channel_axis] * (channels - 1) / 2
            scale[self.channel_axis] *= channels
        return {
            "scale": scale,
            "translate": translate,
            "rotate": image.rotate,
            "shear": image.shear,
            "affine": image.affine.affine_matrix,
            "units": image.units,
            "axis_labels": image.axis_labels,
        }


def view_region(image: Image, image_hw: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Return the part of a layer's plane (x1, y1, x2, y2) that is on the canvas; None if none."""
    corners = np.asarray(image.corner_pixels, dtype=np.float64)[:, -2:]
    if image.multiscale:
        corners = corners * np.asarray(image.downsample_factors[image.data_level][-2:])
    return view_corners_to_region_xyxy(corners, image_hw)
