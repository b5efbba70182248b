"""Mask probabilities and boxes → cropped masks, pixel for pixel as torchvision pastes them."""

from typing import Any

import numpy as np

from napari_deeppixel.core.mask import CroppedMask
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
    and the resize is the same call, but into the box alone. Memory grows with the largest box,
    not with instances x image.

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
    height, width = image_hw
    padded, scale = _roi_heads.expand_masks(probabilities.float(), padding=1)
    boxes = _roi_heads.expand_boxes(boxes_xyxy, scale).to(dtype=torch.int64).tolist()
    masks: list[CroppedMask | None] = []
    for mask, (x1, y1, x2, y2) in zip(padded, boxes, strict=True):
        box_hw = (max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1))
        resized = torch.nn.functional.interpolate(
            mask[None], size=box_hw, mode="bilinear", align_corners=False
        )[0, 0]
        top, left = max(y1, 0), max(x1, 0)
        bottom, right = min(y2 + 1, height), min(x2 + 1, width)
        inside = resized[top - y1 : max(bottom, top) - y1, left - x1 : max(right, left) - x1]
        pixels = (inside >= threshold).numpy()
        masks.append(CroppedMask.from_mask(np.asarray(pixels), y=top, x=left))
    return masks
