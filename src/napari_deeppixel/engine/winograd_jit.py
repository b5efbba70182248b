"""Kernels of `engine.winograd`: 6 x 6 inputs to 4 x 4 outputs of a 3 x 3 convolution.

F(4 x 4, 3 x 3) of Lavin and Gray 2016, Fast Algorithms for Convolutional Neural Networks. All
arrays are float32 with channels last; tile ``t`` of images (N, H, W, C) is counted along rows,
then columns, then images.
"""

import numba
import numpy as np
from numpy.typing import NDArray

_2, _4, _5, _8 = np.float32(2), np.float32(4), np.float32(5), np.float32(8)

FloatArray = NDArray[np.float32]


# Rows of the kernels' own buffers have this length whatever the number of channels: only where the
# compiler knows how far rows lie apart, it sees that they do not overlap and uses vectors. For
# `winograd.MAX_CHANNELS`, and no power of two, for the cache's sake.
_ROW = 512 + 16


@numba.njit(inline="always")
def _copy(source: FloatArray, target: FloatArray, channels: int) -> None:
    for c in range(channels):
        target[c] = source[c]


@numba.njit(inline="always")
def _input_side(
    source: FloatArray, target: FloatArray, first: int, step: int, channels: int
) -> None:
    """Multiply six rows of channels, a step apart, by the transform's matrix."""
    for c in range(channels):
        d0, d1, d2 = source[first, c], source[first + step, c], source[first + 2 * step, c]
        d3, d4 = source[first + 3 * step, c], source[first + 4 * step, c]
        d5 = source[first + 5 * step, c]
        far, near = d4 - _4 * d2, d3 - _4 * d1
        even, odd = d4 - d2, _2 * (d3 - d1)
        target[first, c] = _4 * d0 - _5 * d2 + d4
        target[first + step, c] = far + near
        target[first + 2 * step, c] = far - near
        target[first + 3 * step, c] = even + odd
        target[first + 4 * step, c] = even - odd
        target[first + 5 * step, c] = _4 * d1 - _5 * d3 + d5


@numba.njit("void(f4[:,:,:,::1], f4[:,:,::1], i8)", nogil=True, cache=True, fastmath=True)
def transform_input(images: FloatArray, into: FloatArray, first: int) -> None:
    """Fill transformed tiles (T, 36, C) from images (N, H, W, C), from a tile on."""
    num, height, width, channels = images.shape
    down, across = (height + 3) // 4, (width + 3) // 4
    pixels = np.zeros((36, _ROW), np.float32)
    half = np.zeros((36, _ROW), np.float32)
    tile = np.zeros((36, _ROW), np.float32)
    for t in range(first, min(first + into.shape[0], num * down * across)):
        image = images[t // (down * across)]
        top = 4 * (t // across % down) - 1
        left = 4 * (t % across) - 1
        if top < 0 or left < 0 or top + 6 > height or left + 6 > width:
            pixels[:, :channels] = 0
        for i in range(max(0, -top), min(6, height - top)):
            for j in range(max(0, -left), min(6, width - left)):
                _copy(image[top + i, left + j], pixels[6 * i + j], channels)
        for i in range(6):
            _input_side(pixels, half, 6 * i, 1, channels)
        for j in range(6):
            _input_side(half, tile, j, 6, channels)
        for k in range(36):
            _copy(tile[k], into[t - first, k], channels)


@numba.njit(inline="always")
def _output_side(
    m: FloatArray,
    stride: int,
    bias: FloatArray,
    adds: bool,
    lowest: np.float32,
    o0: FloatArray,
    o1: FloatArray,
    o2: FloatArray,
    o3: FloatArray,
) -> None:
    """Multiply six vectors of channels by the transform's matrix, add, and cut below."""
    m0, m1, m2 = m[0], m[stride], m[2 * stride]
    m3, m4, m5 = m[3 * stride], m[4 * stride], m[5 * stride]
    for c in range(bias.shape[0]):
        near, near_odd = m1[c] + m2[c], m1[c] - m2[c]
        far, far_odd = m3[c] + m4[c], m3[c] - m4[c]
        s0 = m0[c] + near + far + bias[c]
        s1 = near_odd + _2 * far_odd + bias[c]
        s2 = near + _4 * far + bias[c]
        s3 = near_odd + _8 * far_odd + m5[c] + bias[c]
        if adds:
            s0, s1, s2, s3 = s0 + o0[c], s1 + o1[c], s2 + o2[c], s3 + o3[c]
        o0[c], o1[c] = max(s0, lowest), max(s1, lowest)
        o2[c], o3[c] = max(s2, lowest), max(s3, lowest)


@numba.njit(
    "void(f4[:,:,::1], f4[::1], b1, f4, f4[:,:,:,::1], i8)", nogil=True, cache=True, fastmath=True
)
def transform_output(
    tiles: FloatArray,
    bias: FloatArray,
    adds: bool,
    lowest: np.float32,
    into: FloatArray,
    first: int,
) -> None:
    """Fill images (N, H, W, K) from products of tiles (T, 36, K), from a tile on.

    `bias` (K,) is added, and what the images held if `adds`; what is below `lowest` becomes that.
    """
    num, height, width, channels = into.shape
    down, across = (height + 3) // 4, (width + 3) // 4
    half = np.zeros((4, 6, channels), np.float32)
    no_bias = np.zeros(channels, np.float32)
    # takes what lies outside of the image
    spare = np.zeros(channels, np.float32)
    for t in range(first, min(first + tiles.shape[0], num * down * across)):
        top, left = 4 * (t // across % down), 4 * (t % across)
        for j in range(6):
            _output_side(
                tiles[t - first, j:],
                6,
                no_bias,
                False,
                np.float32(-3e38),
                half[0, j],
                half[1, j],
                half[2, j],
                half[3, j],
            )
        for i in range(min(4, height - top)):
            row = into[t // (down * across), top + i]
            _output_side(
                half[i],
                1,
                bias,
                adds,
                lowest,
                row[left],
                row[left + 1] if left + 1 < width else spare,
                row[left + 2] if left + 2 < width else spare,
                row[left + 3] if left + 3 < width else spare,
            )
