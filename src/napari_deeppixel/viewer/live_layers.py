"""The layers that show moving images and their instances, written in place."""

from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer, Vectors
from numpy.typing import NDArray
from psygnal import Signal

from napari_deeppixel.core.geometry import boxes_xyxy_to_corners_yx
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.live.source import Frame

# of boxes: with their own frame, and on a newer one
MATCHED_COLOR, OLDER_COLOR = "#5ab4f0", "#ffb454"

_LIVE_KEY = "napari_deeppixel_live"

# Instances on a newer frame fade: full up to the first age, faint from the second on. A result that
# takes seconds is old when it comes, and of a scene that stands still it is right all the same: so
# they never vanish while others are to come.
_FADES_FROM_S, _FADES_TO_S, _FAINT = 0.3, 1.5, 0.3
# a change of opacity makes napari draw a thumbnail
_FADE_STEPS = 10

# napari's thumbnail, and a label image's text under the mouse, once in so many draws
_RARELY = 30


class LiveLayers:
    """An Image, a Labels and a Vectors layer that follow a source.

    Pixels are written into the layers' own arrays and only the picture is refreshed: giving the
    layers new arrays costs six to ten times as much. Boxes are Vectors, which napari draws anew
    several times faster than Shapes. A layer that somebody deletes stays away until the next
    start; without the image there is nothing to show, and `image_removed` says so.

    Parameters
    ----------
    viewer
        The napari viewer.
    name
        What the source is called.
    base
        A layer that already shows the frames; None: one of our own does.
    earlier
        Layers of an earlier run: of the same source they are used again, others are hidden.

    Attributes
    ----------
    image_removed
        Signal: somebody deleted the layer with the frames.
    visibility_changed
        Signal: a layer of ours was shown or hidden, by us or by its eye in the layer list.
    """

    image_removed = Signal()
    visibility_changed = Signal()

    def __init__(
        self,
        viewer: ViewerModel,
        name: str,
        base: Image | None = None,
        *,
        earlier: "LiveLayers | None" = None,
    ) -> None:
        self._viewer, self._name, self._base = viewer, name, base
        self._image: Image | None = None
        self._labels: Labels | None = None
        self._boxes: Vectors | None = None
        self._fadings: list[_Fading] = []
        self._strength = 1.0
        if earlier is not None:
            self._take_over(earlier)
        self._drawn: InstanceSet | None = None
        self._is_older = False
        self._num_draws = 0
        self._is_replacing = False
        viewer.layers.events.removed.connect(self._on_layer_removed)

    @property
    def image(self) -> Image | None:
        """The layer with the frames; None before the first one."""
        return self._base or self._image

    @property
    def layers(self) -> list[Layer]:
        """Our layers that are in the viewer."""
        return [each for each in (self._image, self._labels, self._boxes) if each is not None]

    @property
    def is_visible(self) -> bool:
        """Whether anything of ours is to be seen."""
        return any(layer.visible for layer in self.layers) or not self.layers

    def set_visible(self, visible: bool) -> None:
        """Show or hide all our layers."""
        for layer in self.layers:
            layer.visible = visible

    def _take_over(self, earlier: "LiveLayers") -> None:
        if (earlier._name, earlier._base) != (self._name, self._base):
            earlier.set_visible(False)
            earlier._fade_to(1.0)
            return
        there = [layer for layer in earlier.layers if layer in self._viewer.layers]
        self._image = earlier._image if earlier._image in there else None
        if self._image is None and self._base is None:
            # masks alone belong to nothing
            return
        self._labels = earlier._labels if earlier._labels in there else None
        self._boxes = earlier._boxes if earlier._boxes in there else None
        self._fadings = [each for each in earlier._fadings if each.layer in self.layers]
        self._strength = earlier._strength
        self._fade_to(1.0)
        self.set_visible(True)
        for layer in self.layers:
            self._watch(layer)

    def _watch(self, layer: Layer) -> None:
        layer.events.visible.connect(self._on_visible)

    def _on_visible(self) -> None:
        self.visibility_changed.emit()

    def follow(self, base: Image) -> None:
        """Lie on another layer from now on: the one before was put away and added anew."""
        if base == self._base:
            return
        self._base = base
        layers = self._viewer.layers
        for layer in (self._labels, self._boxes):
            if layer is not None:
                layers.move(layers.index(layer), len(layers))

    def disconnect(self) -> None:
        """Leave the layers as they are, and stop listening."""
        self._viewer.layers.events.removed.disconnect(self._on_layer_removed)
        for layer in self.layers:
            layer.events.visible.disconnect(self._on_visible)

    def _on_layer_removed(self, event: Any) -> None:
        layer = event.value
        if self._is_replacing:
            return
        if layer in self.layers:
            layer.events.visible.disconnect(self._on_visible)
        if layer == self._labels:
            self._labels = None
        elif layer == self._boxes:
            self._boxes = None
        elif layer == self._image:
            self._image = None
            self.image_removed.emit()

    # -- drawing ------------------------------------------------------------------------------

    def draw(
        self,
        frame: Frame,
        instances: InstanceSet | None,
        *,
        older_s: float = 0.0,
        has_more: bool = True,
    ) -> None:
        """Show a frame, and instances on it.

        Parameters
        ----------
        frame
            What to show.
        instances
            None: those that are shown stay.
        older_s
            How much older the frame of the instances is, in seconds; above 0 their boxes are
            amber, and they fade with it.
        has_more
            Whether others will come; if not, those that are old vanish.
        """
        is_first = self._image is None and self._base is None
        if self._base is None:
            self._draw_frame(frame.pixels)
        if self.image is None:
            return
        if self._labels is None and self._drawn is None:
            self._add_instances(frame.image_hw)
        if self._labels is not None and self._labels.data.shape != frame.image_hw:
            self._labels.data = np.zeros(frame.image_hw, np.uint16)
            self._drawn = None
        if instances is not None and instances.image_hw == frame.image_hw:
            self._draw_instances(instances)
        self.age(older_s, has_more=has_more)
        self._num_draws += 1
        if is_first:
            self._viewer.reset_view()

    def show(self, instances: InstanceSet) -> None:
        """Show other instances on the frame that is there."""
        if self._labels is not None and self._labels.data.shape == instances.image_hw:
            self._draw_instances(instances)

    def age(self, older_s: float, *, has_more: bool = True) -> None:
        """Mark the instances as so much older than the frame; see `draw`."""
        if (older_s > 0) != self._is_older:
            self._is_older = older_s > 0
            if self._boxes is not None:
                self._boxes.edge_color = self._color
        self._fade_to(strength(older_s, has_more=has_more))

    def _fade_to(self, strength: float) -> None:
        if strength != self._strength:
            self._strength = strength
            for fading in self._fadings:
                fading.to(strength)

    @property
    def _color(self) -> str:
        return OLDER_COLOR if self._is_older else MATCHED_COLOR

    def _draw_frame(self, pixels: NDArray[Any]) -> None:
        pixels = _shown(pixels)
        layer = self._image
        if layer is None or layer.rgb != (pixels.ndim == 3):
            self._replace_image(pixels)
        elif layer.data.shape == pixels.shape and layer.data.dtype == pixels.dtype:
            np.copyto(layer.data, pixels)
            layer.refresh(extent=False, thumbnail=self._num_draws % _RARELY == 0, highlight=False)
        else:
            is_other_type = layer.data.dtype != pixels.dtype
            layer.data = pixels.copy()
            if is_other_type:
                layer.reset_contrast_limits()

    def _replace_image(self, pixels: NDArray[Any]) -> None:
        """Put a new layer in the place of one that cannot show colour, or nothing but colour."""
        layers, old = self._viewer.layers, self._image
        place = len(layers) if old is None else layers.index(old)
        name = self._name if old is None else old.name
        new = Image(pixels.copy(), rgb=pixels.ndim == 3, name=name, metadata={_LIVE_KEY: True})
        if old is not None:
            self._is_replacing = True
            try:
                old.events.visible.disconnect(self._on_visible)
                layers.remove(old)
            finally:
                self._is_replacing = False
        layers.insert(place, new)
        self._watch(new)
        self._image = new

    def _add_instances(self, image_hw: tuple[int, int]) -> None:
        assert self.image is not None  # the caller has looked
        placement = _placement(self.image)
        self._labels = Labels(
            np.zeros(image_hw, np.uint16),
            name=f"{self._name} live instances",
            opacity=0.5,
            **placement,
        )
        self._boxes = Vectors(
            boxes_to_vectors(np.zeros((0, 4))),
            name=f"{self._name} live boxes",
            vector_style="line",
            edge_color=MATCHED_COLOR,
            edge_width=1.5,
            # in 3-D, what lies in one plane with the image is hidden by it otherwise
            blending="translucent_no_depth",
            **placement,
        )
        self._labels.editable = False
        self._fadings = [_Fading(self._labels), _Fading(self._boxes)]
        self._strength = 1.0
        self._watch(self._labels)
        self._watch(self._boxes)
        place = self._viewer.layers.index(self.image) + 1
        self._viewer.layers.insert(place, self._labels)
        self._viewer.layers.insert(place + 1, self._boxes)
        self._viewer.layers.selection.active = self.image

    def _draw_instances(self, instances: InstanceSet) -> None:
        self._follow_base()
        if self._labels is not None:
            _redraw(self._labels.data, self._drawn, instances)
            self._labels.refresh(
                extent=False, thumbnail=self._num_draws % _RARELY == 0, highlight=False
            )
        self._drawn = instances
        if self._boxes is not None:
            before = len(self._boxes.data)
            # the event makes napari measure all layers again
            with self._boxes.events.data.blocker():
                self._boxes.data = boxes_to_vectors(instances.boxes_xyxy)
            if len(self._boxes.data) > before:
                # napari gives new ones the colour that the layer was made with
                self._boxes.edge_color = self._color

    def _follow_base(self) -> None:
        if self._base is None:
            return
        for name, value in _placement(self._base).items():
            for layer in (self._labels, self._boxes):
                if layer is None:
                    continue
                now = getattr(layer, name)
                if not np.allclose(now.affine_matrix if name == "affine" else now, value):
                    setattr(layer, name, value)


class _Fading:
    """Opacity of a layer: a share of what the person chose, who may choose again at any time."""

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self._chosen = self._last = layer.opacity

    def to(self, share: float) -> None:
        """Set the opacity to a share of the chosen one."""
        if self.layer.opacity != self._last:
            self._chosen = self.layer.opacity
        self.layer.opacity = self._last = self._chosen * share


def strength(older_s: float, *, has_more: bool = True) -> float:
    """Return how strongly instances are drawn that are older than their frame: 0 to 1."""
    if not has_more and older_s > _FADES_TO_S:
        return 0.0
    faded = np.clip((older_s - _FADES_FROM_S) / (_FADES_TO_S - _FADES_FROM_S), 0, 1)
    return round((1 - float(faded) * (1 - _FAINT)) * _FADE_STEPS) / _FADE_STEPS


def is_live_layer(layer: Layer) -> bool:
    """Return whether a layer shows the frames of a source of ours."""
    return _LIVE_KEY in layer.metadata


def _redraw(label_image: NDArray[Any], before: InstanceSet | None, after: InstanceSet) -> None:
    """Draw other instances into a label image, touching only where there are or were some."""
    if before is None:
        label_image[:] = 0
    else:
        for mask in before.masks:
            label_image[mask.slices] = 0
    after.draw_into(label_image)


def _shown(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return what napari can show of a frame: (H, W), or (H, W, 3 or 4) as colours."""
    if pixels.ndim == 3 and pixels.shape[2] not in (3, 4):
        return pixels[..., 0]
    return pixels


def _placement(image: Image) -> dict[str, Any]:
    """Return what puts flat layers on the plane of an image."""
    affine = np.eye(3)
    affine[:2, :2] = image.affine.affine_matrix[-3:-1, -3:-1]
    affine[:2, 2] = image.affine.affine_matrix[-3:-1, -1]
    return {
        "scale": image.scale[-2:],
        "translate": image.translate[-2:],
        "rotate": image.rotate[-2:, -2:],
        "shear": image.shear[-1:],
        "affine": affine,
    }


def boxes_to_vectors(boxes_xyxy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the four sides of each box (N, 4) as napari's vectors, start and extent (4N, 2, 2).

    Without a box, one without an extent: a layer that was empty once forgets its colour.
    """
    if not len(boxes_xyxy):
        return np.zeros((1, 2, 2))
    corners = boxes_xyxy_to_corners_yx(boxes_xyxy)
    sides = np.stack([corners, np.roll(corners, -1, axis=1) - corners], axis=2)
    return sides.reshape(-1, 2, 2)
