"""Mask probabilities and boxes → cropped masks, pixel for pixel as torchvision pastes them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.core.geometry import mask_to_box_xyxy
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.engine.kernels import kernels
from napari_deeppixel.engine.torch_gate import torch, torchvision

_roi_heads = torchvision.models.detection.roi_heads


def paste_masks(
    probabilities: Any,
    boxes_xyxy: Any,
    *,
    image_hw: tuple[int, int],
    threshold: float = 0.5,
) -> list[CroppedMask | None]:
    """Return the mask of each box; None where no pixel reaches the threshold.

    The same pixels as `torchvision.models.detection.roi_heads.paste_masks_in_image` followed by
    ``>= threshold``: each mask is padded by one pixel, its box grown alike and cut to integers,
    and the resize is the same, but into the box alone. Time grows with the areas of the boxes and
    memory with the largest, not with instances x image.

    Parameters
    ----------
    probabilities
        float tensor (N, 1, M, M) on the CPU.
    boxes_xyxy
        float tensor (N, 4) on the CPU, in the image.
    image_hw
        Size of the image.
    threshold
        Probability from which a pixel is set.
    """
    if len(boxes_xyxy) == 0:
        return []
    padded, scale = _roi_heads.expand_masks(probabilities.float(), padding=1)
    boxes = _roi_heads.expand_boxes(boxes_xyxy, scale).to(dtype=torch.int64).contiguous()
    compiled = kernels("paste_jit")
    paste = _paste_mask if compiled is None else compiled.paste_mask
    masks: list[CroppedMask | None] = []
    for cells, box in zip(padded[:, 0].numpy(), boxes.numpy(), strict=True):
        pixels, y, x = paste(cells, box, *image_hw, threshold)
        has_pixels = pixels.size > 0
        masks.append(CroppedMask(pixels=pixels.view(np.bool_), y=y, x=x) if has_pixels else None)
    return masks


def _paste_mask(
    cells: NDArray[np.float32],
    box_xyxy: NDArray[np.int64],
    height: int,
    width: int,
    threshold: float,
) -> tuple[NDArray[np.bool_], int, int]:
    """Return what `paste_jit.paste_mask` returns, by torch's own resize."""
    x1, y1, x2, y2 = box_xyxy.tolist()
    resized = torch.nn.functional.interpolate(
        torch.from_numpy(cells)[None, None],
        size=(max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)),
        mode="bilinear",
        align_corners=False,
    )[0, 0]
    top, left = max(y1, 0), max(x1, 0)
    bottom, right = max(min(y2 + 1, height), top), max(min(x2 + 1, width), left)
    pixels = (resized[top - y1 : bottom - y1, left - x1 : right - x1] >= threshold).numpy()
    found = mask_to_box_xyxy(pixels)
    if found is None:
        return pixels[:0], 0, 0
    x1, y1, x2, y2 = found
    return pixels[y1:y2, x1:x2], top + y1, left + x1
