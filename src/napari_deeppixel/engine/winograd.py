"""3 x 3 convolutions with a quarter of the multiplications, on the CPU in fp32.

Lavin and Gray 2016, Fast Algorithms for Convolutional Neural Networks (arXiv:1509.09308),
F(4 x 4, 3 x 3): tiles of 6 x 6 inputs and the weights are transformed, multiplied as 36 matrix
products, and transformed back to 4 x 4 outputs. Its rounding errors are about five times those of
the direct sum, 1e-5 of the largest value.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from napari_deeppixel.engine.cores import on_all_cores, parts_of
from napari_deeppixel.engine.kernels import kernels
from napari_deeppixel.engine.packed_conv import PackedConv, has_onednn
from napari_deeppixel.engine.torch_gate import torch

# rows of the weights' transform, Lavin and Gray's G
_WEIGHTS = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_PRODUCTS = len(_WEIGHTS) ** 2

# that `winograd_jit` has room for
MAX_CHANNELS = 512

# multiplications of the direct convolution from which its other costs are made up for, measured
_LEAST_WORK = 600_000_000


def winograd_fits(weight: Any, *, stride: tuple[int, int], padding: tuple[int, int]) -> bool:
    """Whether `WinogradConv` can do a convolution with a weight (K, C, h, w), and gains by it."""
    return (
        (tuple(weight.shape[2:]), stride, padding) == ((3, 3), (1, 1), (1, 1))
        and max(weight.shape[:2]) <= MAX_CHANNELS
        and weight.device.type == "cpu"
        and has_onednn(torch.float32)
    )


class WinogradConv:
    """A 3 x 3 convolution with stride 1, padding 1 and, at will, a ReLU.

    Parameters
    ----------
    weight
        (K, C, 3, 3) float32.
    bias
        (K,) float32.
    has_relu
        Whether negative results become 0.
    """

    def __init__(self, weight: Any, bias: Any, *, has_relu: bool) -> None:
        num_out, num_in = weight.shape[:2]
        # oneDNN's products were fastest so, measured on Zen 4: half of the second-level cache
        # holds 64 tiles of 64 channels; few tiles are all that images have for many channels
        self._chunk = 64 if num_in < 512 else 32
        self._work_of_tile = 16 * 9 * num_in * num_out
        self._bias = bias.float().contiguous().numpy()
        self._lowest = np.float32(0 if has_relu else np.finfo(np.float32).min)
        sides = torch.tensor(_WEIGHTS, dtype=torch.float64)
        transformed = torch.einsum("ia,kcab,jb->ijkc", sides, weight.double(), sides).float()
        grouped = transformed.reshape(_PRODUCTS * num_out, num_in, 1, 1)
        self._multiply = _grouped_product(grouped, self._chunk)

    def suits(self, images_shape: tuple[int, ...]) -> bool:
        """Whether the kernels are ready, and images (N, C, H, W) large enough to gain by them."""
        num_tiles = _num_tiles(images_shape)
        return (
            kernels("winograd_jit") is not None
            and num_tiles > (self._chunk - 1) * torch.get_num_threads()
            and num_tiles * self._work_of_tile >= _LEAST_WORK
        )

    def __call__(self, images: Any, add: Any = None) -> Any:
        """Return the convolution (N, K, H, W) of images (N, C, H, W), both channels last.

        `add`, of the result's shape, is added before the ReLU, and overwritten.
        """
        jit = kernels("winograd_jit")
        assert jit is not None, "ask `suits` first"
        num, num_in, height, width = images.shape
        pixels = images.permute(0, 2, 3, 1).contiguous()
        if add is None:
            result = torch.empty((num, height, width, len(self._bias)))
        else:
            result = add.permute(0, 2, 3, 1).contiguous()

        def convolve(part: range, source: Any, target: Any) -> None:
            tiles = torch.empty((self._chunk, _PRODUCTS, num_in))
            for first in part:
                jit.transform_input(source, tiles.numpy(), first)
                products = self._multiply(tiles).numpy()
                jit.transform_output(
                    products, self._bias, add is not None, self._lowest, target, first
                )

        chunks = range(0, _num_tiles(images.shape), self._chunk)
        work = partial(convolve, source=pixels.numpy(), target=result.numpy())
        on_all_cores(work, parts_of(chunks))
        return result.permute(0, 3, 1, 2)


def _num_tiles(images_shape: tuple[int, ...]) -> int:
    num, _, height, width = images_shape
    return num * -(-height // 4) * -(-width // 4)


def _grouped_product(weight: Any, chunk: int) -> Callable[[Any], Any]:
    """Return a function from tiles (T, 36, C) to products (T, 36, K).

    As a grouped convolution of one pixel: oneDNN's are faster than MKL's matrix products.
    """
    num_in = weight.shape[1]
    channels = _PRODUCTS * num_in
    convolve = PackedConv(
        weight, None, groups=_PRODUCTS, has_relu=False, images_shape=(1, channels, chunk, 1)
    )

    def multiply(tiles: Any) -> Any:
        num_tiles = tiles.shape[0]
        as_image = tiles.reshape(1, num_tiles, 1, channels).permute(0, 3, 1, 2)
        return convolve(as_image).permute(0, 2, 3, 1).reshape(num_tiles, _PRODUCTS, -1)

    return multiply
