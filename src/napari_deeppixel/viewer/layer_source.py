"""An Image layer that something else keeps updating, as a live source."""

import time
import zlib
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image
from numpy.typing import NDArray

from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.live.pushed import PushedSource
from napari_deeppixel.live.source import SourceError, SourceFault, SourceInfo
from napari_deeppixel.viewer.plane_map import PlaneMap
from napari_deeppixel.viewer.read_layer import layer_to_image

# how long a layer may be away: plugins remove and add their preview when its size changes
_PATIENCE_S = 2.0


class LayerSource(PushedSource):
    """Gives the plane that the viewer shows of a layer, each time somebody changes it.

    Events only set a flag, as they may come from any thread; `poll`, called by the window's timer,
    copies the plane. A layer that is deleted and added again under its name is followed. Frames
    equal to the one before are left out: plugins announce some twice, and a dead camera's last one
    for ever.

    Parameters
    ----------
    viewer
        The napari viewer.
    layer
        The Image layer.
    """

    def __init__(self, viewer: ViewerModel, layer: Image) -> None:
        super().__init__(SourceInfo(address=layer.name, label=layer.name, kind="layer"))
        self._viewer, self._layer = viewer, layer
        self._name = layer.name
        self._is_dirty = True
        self._missing_since_s: float | None = None
        self._checksum: tuple[Any, ...] | None = None
        self._connect()
        viewer.layers.events.removed.connect(self._on_removed)

    @property
    def layer(self) -> Image:
        """The layer that is followed now."""
        return self._layer

    def _connect(self) -> None:
        for event in (self._layer.events.data, self._layer.events.set_data):
            event.connect(self._on_changed)

    def disconnect(self) -> None:
        """Stop listening to the viewer and the layer; may be called more than once."""
        for event in (self._layer.events.data, self._layer.events.set_data):
            event.disconnect(self._on_changed)
        self._viewer.layers.events.removed.disconnect(self._on_removed)

    def _on_changed(self) -> None:
        self._is_dirty = True

    def _on_removed(self, event: Any) -> None:
        if event.value == self._layer:
            self._name = self._layer.name
            self._missing_since_s = time.monotonic()

    def poll(self) -> None:
        """Take the layer's pixels if they changed; in the thread of the window."""
        if self._missing_since_s is not None and not self._find_again():
            return
        if not self._is_dirty:
            return
        self._is_dirty = False
        try:
            plane = self._plane()
        except DeepPixelError as error:
            self.end(SourceError(str(error), fault=SourceFault.FORMAT))
            return
        if plane is None:
            return
        checksum = (plane.shape, plane.dtype, zlib.crc32(plane[::4, ::4].tobytes()))
        if checksum != self._checksum:
            self._checksum = checksum
            self.push(plane)

    def _find_again(self) -> bool:
        assert self._missing_since_s is not None  # the caller has looked
        for layer in self._viewer.layers:
            if isinstance(layer, Image) and layer.name == self._name:
                self._layer, self._missing_since_s, self._is_dirty = layer, None, True
                self._connect()
                return True
        if time.monotonic() - self._missing_since_s > _PATIENCE_S:
            self.end(
                SourceError(
                    f"the layer {self._name} was deleted: choose another source",
                    fault=SourceFault.GONE,
                )
            )
        return False

    def _plane(self) -> NDArray[Any] | None:
        image = layer_to_image(self._layer)
        index = PlaneMap(self._viewer, self._layer, None).current()
        if index is None:
            return None
        plane = np.array(image.plane(index))
        return plane[..., 0] if plane.shape[2] == 1 else plane
