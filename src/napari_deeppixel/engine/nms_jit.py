"""Kernel of `engine.proposals`: greedy suppression that ends with the last box needed."""

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit("i8(f4[:,::1], i8[::1], f8, i8[::1])", nogil=True, cache=True)
def fill_best(
    boxes: NDArray[np.float32],
    groups: NDArray[np.int64],
    threshold: float,
    kept: NDArray[np.int64],
) -> int:
    """Fill the positions of the boxes to keep, as many as fit, and return their number.

    `boxes` (N, 4) come with the best score first; a box is dropped if a kept one of its group (0,
    1, …) overlaps it by an IoU above the threshold. The same arithmetic as `torchvision.ops.nms`.
    """
    num_groups = groups.max() + 1 if len(groups) else 0
    corners = np.empty((num_groups, 5, len(kept)), np.float32)
    counts = np.zeros(num_groups, np.int64)
    total = 0
    for n in range(len(boxes)):
        if total == len(kept):
            break
        x1, y1, x2, y2 = boxes[n]
        area = (x2 - x1) * (y2 - y1)
        group = groups[n]
        others = corners[group]
        is_dropped = False
        for k in range(counts[group]):
            width = max(np.float32(0), min(x2, others[2, k]) - max(x1, others[0, k]))
            height = max(np.float32(0), min(y2, others[3, k]) - max(y1, others[1, k]))
            overlap = width * height
            iou = overlap / (others[4, k] + area - overlap)
            is_dropped |= iou > threshold
        if is_dropped:
            continue
        k = counts[group]
        others[0, k], others[1, k], others[2, k], others[3, k] = x1, y1, x2, y2
        others[4, k] = area
        counts[group] += 1
        kept[total] = n
        total += 1
    return total
