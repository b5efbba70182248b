"""How many planes a device's memory has room for."""

from napari_deeppixel.engine.base import PredictOptions
from napari_deeppixel.engine.spec import Architecture, ModelSpec

# Bytes for each pixel of the network's input and for each instance that may be found: measured on
# one to two planes of 256 to 768 pixels with 1 to 1,000 instances, as the rise of the process's
# memory in a call on a CPU in fp32. The reference engine needs up to so much, the fast one about
# two thirds of it. What a GPU needs was not measured yet.
_BYTES: dict[Architecture, tuple[int, int]] = {
    "maskrcnn_slim": (400, 800_000),
    "maskrcnn_resnet50_fpn": (850, 2_700_000),
    "maskrcnn_resnet50_fpn_v2": (1300, 2_700_000),
}
# others use the device, too, and an estimate is none too sure
_SHARE = 0.5
# torchvision pads to multiples of it
_STRIDE = 32


def planes_that_fit(
    spec: ModelSpec, image_hw: tuple[int, int], options: PredictOptions, *, free_bytes: int
) -> int:
    """Return how many planes of a size half of the free memory has room for, at least 1."""
    a_pixel, an_instance = _BYTES[spec.architecture]
    height, width = input_hw(spec, image_hw, options)
    a_plane = a_pixel * height * width + an_instance * options.max_instances
    return max(1, int(_SHARE * free_bytes / a_plane))


def input_hw(
    spec: ModelSpec, image_hw: tuple[int, int], options: PredictOptions
) -> tuple[int, int]:
    """Return the size at which a network gets an image: resized, magnified and padded."""
    scale = spec.zoom if options.zoom is None else options.zoom
    if spec.min_size is not None and spec.max_size is not None:
        scale *= min(spec.min_size / min(image_hw), spec.max_size / max(image_hw))
    height, width = (-(-max(1, round(side * scale)) // _STRIDE) * _STRIDE for side in image_hw)
    return height, width
