"""Instance segmentation with Mask R-CNN, for napari and without it.

The public names are loaded on first use, so that importing the package is quick and needs neither
torch, Qt, nor a display.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_deeppixel.core.category import Category, CategoryTable
    from napari_deeppixel.core.errors import DeepPixelError
    from napari_deeppixel.core.image import ImageArray
    from napari_deeppixel.core.instance import Instance, InstanceSet, InstanceState
    from napari_deeppixel.core.mask import CroppedMask
    from napari_deeppixel.core.normalization import Normalization
    from napari_deeppixel.dataset.formats.coco import read_coco, write_coco
    from napari_deeppixel.dataset.store import Dataset
    from napari_deeppixel.engine.base import PredictOptions
    from napari_deeppixel.engine.planes import predict_planes, segment
    from napari_deeppixel.engine.weights import load_model

_HOMES = {
    "Category": "core.category",
    "CategoryTable": "core.category",
    "CroppedMask": "core.mask",
    "Dataset": "dataset.store",
    "DeepPixelError": "core.errors",
    "ImageArray": "core.image",
    "Instance": "core.instance",
    "InstanceSet": "core.instance",
    "InstanceState": "core.instance",
    "Normalization": "core.normalization",
    "PredictOptions": "engine.base",
    "load_model": "engine.weights",
    "predict_planes": "engine.planes",
    "read_coco": "dataset.formats.coco",
    "segment": "engine.planes",
    "write_coco": "dataset.formats.coco",
}

__all__ = [
    "Category",
    "CategoryTable",
    "CroppedMask",
    "Dataset",
    "DeepPixelError",
    "ImageArray",
    "Instance",
    "InstanceSet",
    "InstanceState",
    "Normalization",
    "PredictOptions",
    "load_model",
    "predict_planes",
    "read_coco",
    "segment",
    "write_coco",
]

try:
    __version__ = version("napari-deeppixel")
except PackageNotFoundError:
    # run from a source tree that was never installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
