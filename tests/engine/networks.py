"""Networks with random weights that find something, and images for them."""

from typing import Any

import numpy as np
import torch

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.engine.build import build_model
from napari_deeppixel.engine.maskrcnn import MaskRCNNEngine
from napari_deeppixel.engine.spec import ModelSpec, slim_spec


def sharpen(model: Any, image: torch.Tensor) -> Any:
    """Return a random Mask R-CNN whose answers on an image are spread as a trained one's are.

    Random heads say the same thing everywhere: class scores, box shifts and mask probabilities
    are centred and scaled until objects of all classes, sizes and scores are found.
    """
    model.eval()
    heads = model.roi_heads
    with torch.no_grad():
        logits, shifts = _output_of(heads.box_predictor, model, image)
        _spread(heads.box_predictor.cls_score, logits, deviation=2.5)
        _spread(heads.box_predictor.bbox_pred, shifts, deviation=1.0)
        masks = _output_of(heads.mask_predictor, model, image)
        _spread(heads.mask_predictor.mask_fcn_logits, masks.movedim(1, -1).flatten(0, 2), 4.0)
    return model


def _output_of(module: Any, model: Any, image: torch.Tensor) -> Any:
    seen = []
    hook = module.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    model([image])
    hook.remove()
    return seen[0]


def _spread(layer: Any, output: torch.Tensor, deviation: float) -> None:
    """Centre and scale each output (N, outputs) of a layer."""
    scale = deviation / output.std(dim=0)
    layer.weight *= scale.reshape(-1, *[1] * (layer.weight.ndim - 1))
    layer.bias.copy_((layer.bias - output.mean(dim=0)) * scale)


def slim_model(spec: ModelSpec) -> Any:
    """Return a random slim network, the same each time, that finds dozens of objects."""
    torch.manual_seed(0)
    return sharpen(build_model(spec), as_tensor(noise(64, 96)))


def slim_engine(**changes: Any) -> MaskRCNNEngine:
    """Return an engine with two categories and a network that is narrow, to be quick."""
    limits = {"rpn_post_nms_top_n": 60, "fpn_channels": 16} | changes
    spec = slim_spec("random", CategoryTable.from_names("cell", "debris"), **limits)
    return MaskRCNNEngine(spec, slim_model(spec), device="cpu", weights_hash="0123456789abcdef")


def noise(height: int, width: int, channels: int = 3, *, seed: int = 0) -> np.ndarray:
    """Return uint8 noise (H, W, C) with a few bright rectangles."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 120, (height, width, channels), dtype=np.uint8)
    for _ in range(6):
        y, x = rng.integers(height), rng.integers(width)
        pixels[y : y + height // 4, x : x + width // 4] += rng.integers(60, 130, dtype=np.uint8)
    return pixels


def as_tensor(pixels: np.ndarray) -> torch.Tensor:
    """Return uint8 pixels (H, W, 3) as torchvision's networks take them: (3, H, W), 0 to 1."""
    return torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32) / np.float32(255))
