"""Low precision for convolutions and linear layers, full precision for boxes."""

from typing import Any

from napari_deeppixel.engine.base import Precision
from napari_deeppixel.engine.torch_gate import torch


def pick_dtype(precision: Precision, device_type: str) -> Any:
    """Return the torch dtype of convolutions for a precision on a kind of device."""
    if precision == "auto":
        if device_type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def run_heads_in(model: Any, dtype: Any, device_type: str) -> None:
    """Make the convolutions and linear layers of a Mask R-CNN run in a dtype, for good.

    Autocast round the whole model would round anchors and boxes too (by up to 7 px at 800 x 1344
    in bf16), so only these parts run under it and hand on float32.
    """
    heads = model.roi_heads
    for module in (
        model.backbone,
        model.rpn.head,
        heads.box_head,
        heads.box_predictor,
        heads.mask_head,
        heads.mask_predictor,
    ):
        _run_in(module, dtype, device_type)


def _run_in(module: Any, dtype: Any, device_type: str) -> None:
    forward = type(module).forward

    def forward_in_dtype(*args: Any) -> Any:
        enabled = dtype != torch.float32
        with torch.autocast(device_type, dtype=dtype, enabled=enabled):
            result = forward(module, *args)
        return _to_float(result) if enabled else result

    module.forward = forward_in_dtype


def _to_float(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.float()
    if isinstance(value, dict):
        return type(value)((key, _to_float(item)) for key, item in value.items())
    return type(value)(_to_float(item) for item in value)
