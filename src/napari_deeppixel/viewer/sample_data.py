"""Images to try the plugin on, in File > Open Sample."""

from importlib import resources
from typing import Any

import imageio.v3 as iio
import numpy as np
from napari.types import LayerData
from numpy.typing import NDArray


def _sample(name: str) -> NDArray[Any]:
    file = resources.files("napari_deeppixel") / "samples" / f"{name}.png"
    with resources.as_file(file) as path:
        return np.asarray(iio.imread(path))


def _layer(pixels: NDArray[Any], name: str) -> LayerData:
    settings: dict[str, Any] = {"name": name}
    if pixels.ndim == 2:
        # dim nuclei are hard to see at the full range
        settings["contrast_limits"] = [
            float(pixels.min()),
            float(np.percentile(pixels, 99.8)),
        ]
    return pixels, settings, "image"


def fluorescence() -> list[LayerData]:
    """Return a field of nuclei in fluorescence (BBBC038, CC0)."""
    return [_layer(_sample("fluorescence"), "fluorescence")]


def tissue() -> list[LayerData]:
    """Return crowded nuclei in fluorescence (BBBC038, CC0)."""
    return [_layer(_sample("tissue"), "tissue")]


def histology() -> list[LayerData]:
    """Return stained nuclei in colour (BBBC038, CC0)."""
    return [_layer(_sample("histology"), "histology")]


def brightfield() -> list[LayerData]:
    """Return dark nuclei on a bright ground (BBBC038, CC0)."""
    return [_layer(_sample("brightfield"), "brightfield")]


def stack() -> list[LayerData]:
    """Return the four quarters of the fluorescence field as a stack of planes (BBBC038, CC0)."""
    field = _sample("fluorescence")
    height, width = field.shape[0] // 2, field.shape[1] // 2
    quarters = [
        field[top : top + height, left : left + width] for top in (0, height) for left in (0, width)
    ]
    return [_layer_of_stack(np.stack(quarters))]


def _layer_of_stack(pixels: NDArray[Any]) -> LayerData:
    limits = [float(pixels.min()), float(np.percentile(pixels, 99.8))]
    return pixels, {"name": "stack", "contrast_limits": limits}, "image"


def coffee() -> list[LayerData]:
    """Return a photograph of a coffee cup (scikit-image, CC0) for the COCO models."""
    # imported here: scikit-image's samples load a lot that nobody else needs
    from skimage import data

    return [_layer(np.asarray(data.coffee()), "coffee")]
