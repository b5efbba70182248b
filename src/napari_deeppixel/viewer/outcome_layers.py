"""What a model got right, wrong, and missed in an image, as layers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer
from napari.utils.colormaps import CyclicLabelColormap
from numpy.typing import NDArray

from napari_deeppixel.core.instance import InstanceSet

_KEY, _IMAGE = "napari_deeppixel_outcome", "image"
# of outlines, in pixels of the image; of larger images fewer screen pixels are left for each
_CONTOUR_PX, _LARGE_CONTOUR_PX, _LARGE_SIDE = 1, 2, 600


class OutcomeKind(StrEnum):
    """What became of an object; captions for people."""

    TRUE = "right"
    FALSE = "wrong"
    MISSED = "missed"


# told apart by the colour-blind (Okabe & Ito 2008: blue, orange; magenta for Tol 2021)
OUTCOME_COLORS = {
    OutcomeKind.TRUE: "#56b4e9",
    OutcomeKind.FALSE: "#e69f00",
    OutcomeKind.MISSED: "#ee3377",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class _Mark:
    """What one of our layers shows, and which layers were hidden for it."""

    kind: str
    hidden: list[Layer] = field(default_factory=list)


def outcome_labels(instances: InstanceSet) -> NDArray[Any]:
    """Return the label image (H, W) of one kind, numbers 1, 2, 3, …; for a thread."""
    return instances.with_handles_from(1).label_image()


def show_outcome(
    viewer: ViewerModel,
    pixels: NDArray[Any],
    labels: Mapping[OutcomeKind, NDArray[Any]],
    *,
    name: str,
) -> Image:
    """Show an image with the outlines of a model's outcome; in the layers of an earlier one.

    Other layers are hidden: `restore` shows them again.

    Parameters
    ----------
    viewer
        The napari viewer.
    pixels
        (H, W), or (H, W, 3) as colours.
    labels
        A label image (H, W) for each kind.
    name
        What is shown, for people.
    """
    image = _shown_in_place(viewer, pixels, labels, name)
    if image is not None:
        return image
    earlier = outcome_layers(viewer)
    hidden = _hidden_by(earlier)
    image = Image(
        pixels, rgb=pixels.ndim == 3, name=name, metadata={_KEY: _Mark(kind=_IMAGE, hidden=hidden)}
    )
    # batched: napari tidies up after each layer that goes, for 0.2 s
    with viewer.layers.batched_update():
        for layer in earlier:
            viewer.layers.remove(layer)
        for layer in viewer.layers:
            if layer.visible:
                layer.visible = False
                hidden.append(layer)
        viewer.layers.append(image)
        for kind, label_image in labels.items():
            viewer.layers.append(_labels_layer(kind, label_image, name))
    viewer.layers.selection.active = image
    viewer.reset_view()
    return image


def _shown_in_place(
    viewer: ViewerModel,
    pixels: NDArray[Any],
    labels: Mapping[OutcomeKind, NDArray[Any]],
    name: str,
) -> Image | None:
    """Show another image in the layers that are there, which is ten times as quick as new ones.

    None: there are none, or napari cannot change them so.
    """
    there = {layer.metadata[_KEY].kind: layer for layer in outcome_layers(viewer)}
    image = there.get(_IMAGE)
    if image is None or set(there) != {_IMAGE, *labels} or image.rgb != (pixels.ndim == 3):
        return None
    is_other_size = image.data.shape != pixels.shape
    image.data, image.name = pixels, name
    if not image.rgb:
        image.reset_contrast_limits_range()
        image.reset_contrast_limits()
    for kind, label_image in labels.items():
        layer = there[kind]
        layer.data, layer.name = label_image, f"{name}: {kind.value}"
        layer.contour, layer.editable = _contour_px(label_image), False
    if is_other_size:
        viewer.reset_view()
    return image


def outcome_layers(viewer: ViewerModel) -> list[Layer]:
    """Return the layers that `show_outcome` added and nobody took out."""
    return [layer for layer in viewer.layers if _KEY in layer.metadata]


def restore(viewer: ViewerModel) -> None:
    """Take the layers of an outcome out, and show those that were hidden for it."""
    ours = outcome_layers(viewer)
    hidden = _hidden_by(ours)
    with viewer.layers.batched_update():
        for layer in ours:
            viewer.layers.remove(layer)
    for layer in hidden:
        if layer in viewer.layers:
            layer.visible = True


def _hidden_by(ours: list[Layer]) -> list[Layer]:
    return [layer for each in ours for layer in each.metadata[_KEY].hidden]


def _labels_layer(kind: OutcomeKind, label_image: NDArray[Any], name: str) -> Labels:
    colors = ["#00000000", OUTCOME_COLORS[kind]]
    layer = Labels(
        label_image,
        name=f"{name}: {kind.value}",
        opacity=1.0,
        colormap=CyclicLabelColormap(colors=colors, background_value=0),
        metadata={_KEY: _Mark(kind=kind.value)},
    )
    layer.contour, layer.editable = _contour_px(label_image), False
    return layer


def _contour_px(label_image: NDArray[Any]) -> int:
    return _LARGE_CONTOUR_PX if max(label_image.shape) > _LARGE_SIDE else _CONTOUR_PX
