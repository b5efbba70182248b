"""napari Image layer → ImageArray."""

from typing import Any

from napari.layers import Image

from napari_deeppixel.core.image import ImageArray

_LEAD_LETTERS = "tzuvwqrspn"


def layer_to_image(layer: Image, *, channel_axis: int | None = None) -> ImageArray:
    """Return the pixels of an Image layer; of a multiscale one those of full size.

    Parameters
    ----------
    layer
        The layer.
    channel_axis
        Axis of the layer's data that holds channels, where it is not RGB; None: there is none.

    Raises
    ------
    ImageError
        If the layer has fewer than two axes or does not hold numbers.
    """
    pixels = layer.data[0] if layer.multiscale else layer.data
    axes = "".join(_lead_letters(layer)) + "yx" + ("c" if layer.rgb else "")
    if channel_axis is not None and not layer.rgb:
        axes = axes[:channel_axis] + "c" + axes[channel_axis + 1 :]
    return ImageArray(
        pixels=pixels, axes=axes, name=layer.name, source=str(layer.source.path or "")
    )


def lead_axis_letters(layer: Image) -> str:
    """Return a letter for each axis before the last two, such as ``tz``."""
    return "".join(_lead_letters(layer))


def _lead_letters(layer: Any) -> list[str]:
    count = layer.ndim - 2
    labels = [str(label).lower() for label in layer.axis_labels[:count]]
    usable = [
        label for label in labels if len(label) == 1 and label.isalpha() and label not in "yxc"
    ]
    if len(set(usable)) == count:
        return labels
    # unnamed: the slowest axis is time if there are two or more, else depth
    return ["z"] if count == 1 else list(_LEAD_LETTERS[:count])
