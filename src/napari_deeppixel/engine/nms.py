"""Non-maximum suppression of fixed shape: the boxes that stay, without asking the device."""

from typing import Any

import numpy as np

from napari_deeppixel.engine.torch_gate import torch


def keep_best(
    boxes: Any, is_valid: Any, *, iou: float, groups: Any = None, iterations: int = 16
) -> tuple[Any, Any]:
    """Return which boxes stay, and whether that answer is final.

    The same boxes as `torchvision.ops.nms` keeps. Which boxes stay is the only solution of "a
    valid box stays if no better box that stays overlaps it", found by repetition: after n rounds
    all chains of n suppressions are settled. Images seldom hold chains of more than five.

    Parameters
    ----------
    boxes
        float tensor (…, N, 4), best first; the leading axes are apart from each other.
    is_valid
        bool tensor (…, N): the boxes that take part.
    iou
        Overlap above which the lesser of two boxes goes.
    groups
        Tensor (…, N): boxes of different groups leave each other alone. None: all are of one.
    iterations
        How many rounds.

    Returns
    -------
    tuple
        bool tensors (…, N), which boxes stay, and (…), whether the last round changed nothing.
    """
    suppresses = _overlap_more(boxes, iou)
    if groups is not None:
        suppresses &= groups[..., :, None] == groups[..., None, :]
    # row: the box that goes; column: a better one, so one with a lower index
    suppresses = suppresses.tril_(-1)
    keep = previous = is_valid
    for _ in range(iterations):
        previous = keep
        keep = is_valid & ~(suppresses & previous[..., None, :]).any(dim=-1)
    return keep, (keep == previous).all(dim=-1)


def best_first(scores: Any, is_valid: Any, count: int) -> tuple[Any, Any]:
    """Return the indices of the best valid entries, and which of these are valid after all.

    Equal scores stay in their order.

    Parameters
    ----------
    scores
        float tensor (B, N), 0 or more.
    is_valid
        bool tensor (B, N).
    count
        How many; no more than N are given.

    Returns
    -------
    tuple
        int64 and bool tensors (B, min(count, N)); the valid entries come first.
    """
    ranked = scores.masked_fill(~is_valid, -1.0).sort(dim=1, descending=True, stable=True)
    return ranked.indices[:, :count], ranked.values[:, :count] >= 0


def _overlap_more(boxes: Any, iou: float) -> Any:
    """Return whether each two of the boxes (…, N, 4) overlap by more than an IoU: (…, N, N).

    In place, because these are the largest tensors of the whole forward.
    """
    x1, y1, x2, y2 = boxes.unbind(dim=-1)
    areas = (x2 - x1) * (y2 - y1)
    shared = _shared_length(x1, x2).mul_(_shared_length(y1, y2))
    union = (areas[..., :, None] + areas[..., None, :]).sub_(shared)
    return shared.div_(union) > _not_above(iou)


def _shared_length(low: Any, high: Any) -> Any:
    """Return the length (…, N, N) that each two of the intervals (…, N) share."""
    ends = torch.minimum(high[..., :, None], high[..., None, :])
    return ends.sub_(torch.maximum(low[..., :, None], low[..., None, :])).clamp_(min=0)


def _not_above(value: float) -> float:
    """Return the largest float32 that is not above a number.

    torch compares in float32, torchvision on the CPU in float64, and float32(0.4) is above 0.4.
    """
    nearest = np.float32(value)
    # as a Python float, because numpy compares a float32 with a number in float32 too
    is_above = float(nearest) > value
    return float(np.nextafter(nearest, np.float32(-np.inf)) if is_above else nearest)
