"""Kernel of `engine.roi_align`: one feature level, channels last."""

import math

import numba
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
IndexArray = NDArray[np.int64]


@numba.njit("void(f4, f4, i8, i8, i8[::1], f4[::1])", nogil=True, cache=True)
def _taps(
    start: np.float32, cell: np.float32, samples: int, size: int, low: IndexArray, share: FloatArray
) -> None:
    """Fill, for each sample along a side, the lower pixel and the upper one's share (-1: outside).

    In torchvision's order of operations: another rounds to other shares.
    """
    for n in range(low.shape[0]):
        in_cell = (np.float32(n % samples) + np.float32(0.5)) * cell / np.float32(samples)
        at = start + np.float32(n // samples) * cell + in_cell
        if at < -1 or at > size:
            low[n], share[n] = 0, -1
            continue
        at = max(at, np.float32(0))
        pixel = math.floor(at)
        if pixel >= size - 1:
            low[n], share[n] = size - 1, 0
        else:
            low[n], share[n] = pixel, at - np.float32(pixel)


@numba.njit(
    "void(f4[:,:,:,::1], f4, i8, i8[::1], f4[:,::1], i8[::1], f4[:,:,:,::1])",
    nogil=True,
    cache=True,
    fastmath={"contract", "reassoc", "nsz"},
)
def pool_level(
    features: FloatArray,
    scale: np.float32,
    samples: int,
    image_of_box: IndexArray,
    boxes: FloatArray,
    which: IndexArray,
    into: FloatArray,
) -> None:
    """Fill the pooled features (R, P, P, C) of those boxes (R, 4) that belong to one level.

    `features` is (N, H, W, C), `scale` its size over that of the images, `samples` how many lie
    along each side of a cell, `which` the positions of the boxes.
    """
    num_channels, side = into.shape[3], into.shape[1]
    low_y, low_x = np.empty(side * samples, np.int64), np.empty(side * samples, np.int64)
    share_y = np.empty(side * samples, np.float32)
    share_x = np.empty(side * samples, np.float32)
    height, width = features.shape[1], features.shape[2]
    each = np.float32(1) / np.float32(samples * samples)
    for position in which:
        image = features[image_of_box[position]]
        left, top = boxes[position, 0] * scale, boxes[position, 1] * scale
        box_width = max(boxes[position, 2] * scale - left, np.float32(1))
        box_height = max(boxes[position, 3] * scale - top, np.float32(1))
        _taps(top, box_height / np.float32(side), samples, height, low_y, share_y)
        _taps(left, box_width / np.float32(side), samples, width, low_x, share_x)
        for i in range(side):
            for j in range(side):
                cell = into[position, i, j]
                cell[:] = 0
                for y in range(i * samples, (i + 1) * samples):
                    for x in range(j * samples, (j + 1) * samples):
                        if share_y[y] < 0 or share_x[x] < 0:
                            continue
                        down, right = share_y[y], share_x[x]
                        up, left_share = np.float32(1) - down, np.float32(1) - right
                        upper = image[low_y[y]]
                        lower = image[min(low_y[y] + 1, height - 1)]
                        next_x = min(low_x[x] + 1, width - 1)
                        a, b = upper[low_x[x]], upper[next_x]
                        c, d = lower[low_x[x]], lower[next_x]
                        w_a, w_b = up * left_share * each, up * right * each
                        w_c, w_d = down * left_share * each, down * right * each
                        for n in range(num_channels):
                            cell[n] += w_a * a[n] + w_b * b[n] + w_c * c[n] + w_d * d[n]
