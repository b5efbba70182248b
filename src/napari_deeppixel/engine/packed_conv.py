"""A convolution with its ReLU, and a sum, in one call of oneDNN."""

import functools
from typing import Any

from napari_deeppixel.engine.torch_gate import torch

# a typical feature map, for oneDNN to choose the weights' layout by; others cost it a reordering
_TYPICAL_HW = (100, 136)


class PackedConv:
    """A convolution whose weights lie as the CPU's kernels want them, channels last.

    These are the operations that `torch.compile` makes for a CPU, without its minutes of waiting.
    Where torch has no oneDNN, or the device is no CPU, its plain convolution does the same.

    Parameters
    ----------
    weight
        (K, C / groups, h, w), in the type that the convolution runs in.
    bias
        (K,) of the same type, or None.
    stride, padding
        (y, x).
    has_relu
        Whether negative results become 0.
    images_shape
        (N, C, H, W) of typical images.
    """

    def __init__(
        self,
        weight: Any,
        bias: Any,
        *,
        has_relu: bool,
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
        groups: int = 1,
        images_shape: tuple[int, int, int, int] | None = None,
    ) -> None:
        self._stride, self._padding, self._groups = list(stride), list(padding), groups
        self._bias, self._has_relu = bias, has_relu
        self._weight = weight.contiguous(memory_format=torch.channels_last)
        self._is_packed = weight.device.type == "cpu" and has_onednn(weight.dtype)
        if self._is_packed:
            shape = images_shape or (1, weight.shape[1] * groups, *_TYPICAL_HW)
            self._weight = torch.ops.mkldnn._reorder_convolution_weight(
                self._weight, self._padding, self._stride, [1, 1], groups, list(shape)
            )

    def __call__(self, images: Any, add: Any = None) -> Any:
        """Return the convolution of images (N, C, H, W), channels last.

        `add`, of the result's shape, is added before the ReLU, and may be overwritten.
        """
        if len(images) == 0:
            # oneDNN takes no empty batch
            return self(images.new_zeros((1, *images.shape[1:])))[:0]
        if not self._is_packed:
            result = torch.nn.functional.conv2d(
                images,
                self._weight,
                self._bias,
                stride=self._stride,
                padding=self._padding,
                groups=self._groups,
            )
            result = result if add is None else result.add_(add)
            return result.relu_() if self._has_relu else result
        settings = (self._padding, self._stride, [1, 1], self._groups)
        convolve = torch.ops.mkldnn._convolution_pointwise
        if add is None:
            activation = "relu" if self._has_relu else "none"
            return convolve(images, self._weight, self._bias, *settings, activation, [], "")
        last = "relu" if self._has_relu else None
        accumulate = torch.ops.mkldnn._convolution_pointwise_
        return accumulate.binary(
            add, images, self._weight, self._bias, *settings, "add", 1.0, last, [], ""
        )


@functools.cache
def has_onednn(dtype: Any) -> bool:
    """Whether oneDNN's packed convolutions can be had here, in a torch type."""
    if not torch.backends.mkldnn.is_available():
        return False
    weight = torch.ones((1, 1, 1, 1), dtype=dtype)
    # not part of torch's public interface: what makes torch.compile's code could change. And not
    # every processor can do every type
    try:
        packed = torch.ops.mkldnn._reorder_convolution_weight(
            weight, [0, 0], [1, 1], [1, 1], 1, [1, 1, 1, 1]
        )
        torch.ops.mkldnn._convolution_pointwise(
            weight, packed, None, [0, 0], [1, 1], [1, 1], 1, "relu", [], ""
        )
    except (AttributeError, RuntimeError):
        return False
    return True
