"""Kernels of `engine.paste` and `engine.uncertainty`, one mask a call.

Pasting computes the very numbers of torch's ``upsample_bilinear2d`` in float32, so it sets the
same pixels. Which products and sums torch fuses, and with that the last bit, is up to its compiler:
`_fma` stands where torch's builds for x86-64 fuse. Elsewhere a pixel can differ whose probability
equals the threshold to six digits. Measured with torch 2.14, on smooth and noisy masks and on such
of whole quarters, which meet 0.5 often: 0 of 1.4 billion pixels differ with AVX2 and AVX-512, 545
of 375 million where torch takes neither.
"""

from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
# see `_sources`
Sources = tuple[NDArray[np.int64], NDArray[np.int64], Floats, Floats]

_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_SOURCES = "Tuple((i8[::1], i8[::1], f4[::1], f4[::1]))"
_WRITER = f"void(f4[:,::1], {_SOURCES}, {_SOURCES}, f4, u1[:,::1], u1[::1], u1[::1])"


def _typed_fma(_context: Any, _a: Any, _b: Any, _c: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return builder.fma(*values)

    return types.float32(types.float32, types.float32, types.float32), generate


# a * b + c, rounded once; Any: to numba's own types the compiler's context is a fourth argument
_fma: Any = intrinsic(_typed_fma)


@numba.njit(f"{_SOURCES}(i8, i8, i8, i8)", nogil=True, cache=True, error_model="numpy")
def _sources(num_cells: int, num_pixels: int, start: int, stop: int) -> Sources:
    """Return two cells and their two weights for each pixel from start to stop.

    Along one side of a mask, whose cells are stretched over a number of pixels.
    """
    count = stop - start
    cell, next_cell = np.empty(count, np.int64), np.empty(count, np.int64)
    weight, next_weight = np.empty(count, np.float32), np.empty(count, np.float32)
    cells_per_pixel = np.float32(num_cells) / np.float32(num_pixels)
    for n in range(count):
        place = np.maximum(_fma(cells_per_pixel, np.float32(start + n) + _HALF, -_HALF), _ZERO)
        cell[n] = min(int(place), num_cells - 1)
        next_cell[n] = min(cell[n] + 1, num_cells - 1)
        next_weight[n] = np.minimum(place - np.float32(cell[n]), _ONE)
        weight[n] = _ONE - next_weight[n]
    return cell, next_cell, weight, next_weight


@numba.njit(_WRITER, nogil=True, cache=True, error_model="numpy")
def _set_small(
    cells: Floats,
    down: Sources,
    across: Sources,
    threshold: np.float32,
    pixels: Bytes,
    in_row: Bytes,
    in_column: Bytes,
) -> None:
    """Set pixels as torch resizes to small images: four cells, each with its two weights."""
    above, below, weights_above, weights_below = down
    before, after, weights_before, weights_after = across
    lefts, rights = cells[:, before], cells[:, after]
    for y in range(len(pixels)):
        above_left, above_right = lefts[above[y]], rights[above[y]]
        below_left, below_right = lefts[below[y]], rights[below[y]]
        weight_above, weight_below = weights_above[y], weights_below[y]
        is_in_row = np.uint8(0)
        for x in range(pixels.shape[1]):
            value = (weight_above * weights_after[x]) * above_right[x]
            value = _fma(weight_above * weights_before[x], above_left[x], value)
            value = _fma(weight_below * weights_before[x], below_left[x], value)
            value = _fma(weight_below * weights_after[x], below_right[x], value)
            is_set = np.uint8(value >= threshold)
            pixels[y, x] = is_set
            in_column[x] |= is_set
            is_in_row |= is_set
        in_row[y] = is_in_row


@numba.njit(_WRITER, nogil=True, cache=True, error_model="numpy")
def _set_large(
    cells: Floats,
    down: Sources,
    across: Sources,
    threshold: np.float32,
    pixels: Bytes,
    in_row: Bytes,
    in_column: Bytes,
) -> None:
    """Set pixels as torch resizes to larger images: first along the rows, then down."""
    above, below, weights_above, weights_below = down
    before, after, weights_before, weights_after = across
    lines = np.empty((len(cells), pixels.shape[1]), np.float32)
    for row in range(len(cells)):
        for x in range(pixels.shape[1]):
            right = cells[row, after[x]] * weights_after[x]
            lines[row, x] = _fma(cells[row, before[x]], weights_before[x], right)
    for y in range(len(pixels)):
        line_above, line_below = lines[above[y]], lines[below[y]]
        weight_above, weight_below = weights_above[y], weights_below[y]
        is_in_row = np.uint8(0)
        for x in range(pixels.shape[1]):
            value = _fma(line_above[x], weight_above, line_below[x] * weight_below)
            is_set = np.uint8(value >= threshold)
            pixels[y, x] = is_set
            in_column[x] |= is_set
            is_in_row |= is_set
        in_row[y] = is_in_row


@numba.njit(
    "Tuple((u1[:,:], i8, i8))(f4[:,::1], i8[::1], i8, i8, f4)",
    nogil=True,
    cache=True,
    error_model="numpy",
)
def paste_mask(
    cells: Floats, box_xyxy: NDArray[np.int64], height: int, width: int, threshold: np.float32
) -> tuple[Bytes, int, int]:
    """Return the tight crop (h, w), 0 or 1, of pixels that reach a threshold, and its y and x.

    Without such a pixel, the crop is (0, 0).

    Parameters
    ----------
    cells
        float32 (M, M): probabilities, padded.
    box_xyxy
        int64 (4,): the pixels that the cells are stretched over, with the last row and column.
    height, width
        Size of the image; the box is cut there.
    threshold
        Probability from which a pixel is set.
    """
    x1, y1, x2, y2 = box_xyxy
    box_height, box_width = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)
    top, left = max(y1, 0), max(x1, 0)
    bottom, right = max(min(y2 + 1, height), top), max(min(x2 + 1, width), left)
    down = _sources(len(cells), box_height, top - y1, bottom - y1)
    across = _sources(len(cells), box_width, left - x1, right - x1)
    pixels = np.empty((bottom - top, right - left), np.uint8)
    in_row, in_column = np.zeros(bottom - top, np.uint8), np.zeros(right - left, np.uint8)
    # `_use_vectorized_kernel_cond_2d` in torch's UpSampleKernel.cpp
    if box_height + box_width <= 128:
        _set_small(cells, down, across, threshold, pixels, in_row, in_column)
    else:
        _set_large(cells, down, across, threshold, pixels, in_row, in_column)
    rows, columns = np.flatnonzero(in_row), np.flatnonzero(in_column)
    if len(rows) == 0:
        return pixels[:0, :0], 0, 0
    crop = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return crop, top + rows[0], left + columns[0]


@numba.njit("f8[::1](f4[:,:,::1], f8)", nogil=True, cache=True, error_model="numpy")
def edge_uncertainties(probabilities: Floats, steps: float) -> NDArray[np.float64]:
    """Return the mean unsureness in and round each mask (N, M, M), in so many steps from 0 to 1.

    Without a cell of 0.5 or more it is NaN. See `engine.uncertainty`.
    """
    count, height, width = probabilities.shape
    means = np.empty(count, np.float64)
    is_inside = np.zeros((height + 2, width + 2), np.uint8)
    for n in range(count):
        for y in range(height):
            for x in range(width):
                is_inside[y + 1, x + 1] = probabilities[n, y, x] >= _HALF
        unsure, cells = 0, 0
        for y in range(height):
            for x in range(width):
                is_near = np.uint8(0)
                for row in range(3):
                    for column in range(3):
                        is_near |= is_inside[y + row, x + column]
                p = np.float64(probabilities[n, y, x])
                unsure += is_near * np.int64(np.rint(4 * p * (1 - p) * steps))
                cells += int(is_near)
        means[n] = unsure / steps / cells
    return means
