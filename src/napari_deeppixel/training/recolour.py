"""Random changes of intensities that `torchvision.transforms.v2` does not have for our range.

Normalised pixels reach a little beyond 0 … 1, where v2's own jitter would clip them; and images
may have any number of channels.
"""

import math
from typing import Any

from napari_deeppixel.engine.torch_gate import torch, torchvision

v2 = torchvision.transforms.v2


class _OfImages(v2.Transform):  # type: ignore[misc,name-defined]  # untyped
    """A transform that leaves masks alone."""

    _transformed_types = (torchvision.tv_tensors.Image,)

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Return the changed image."""
        # arithmetic gives bare tensors, which the transforms that follow would leave alone
        return torchvision.tv_tensors.wrap(self._changed(inpt, params), like=inpt)

    def _changed(self, image: Any, params: dict[str, Any]) -> Any:
        raise NotImplementedError


class SameInAllChannels(_OfImages):
    """The mean of all channels in each."""

    def _changed(self, image: Any, params: dict[str, Any]) -> Any:  # noqa: ARG002  # as the base
        return image.mean(dim=0, keepdim=True).expand_as(image)


class RandomCurve(_OfImages):
    """Another gamma in half of the images, another contrast and brightness in all.

    Parameters
    ----------
    gamma
        Largest |ln| of the exponent.
    contrast, brightness
        Largest distance of the factor from 1, and of what is added from 0.
    """

    def __init__(self, *, gamma: float, contrast: float, brightness: float) -> None:
        super().__init__()
        self._gamma, self._contrast, self._brightness = gamma, contrast, brightness

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:  # noqa: ARG002  # v2's
        """Return what all images of one call share."""
        half, *values = (2 * torch.rand(4) - 1).tolist()
        return {
            "exponent": math.exp(values[0] * self._gamma) if half > 0 else 1.0,
            "factor": 1 + values[1] * self._contrast,
            "offset": values[2] * self._brightness,
        }

    def _changed(self, image: Any, params: dict[str, Any]) -> Any:
        if params["exponent"] != 1:
            # what lies below 0 keeps its sign
            image = image.sign() * image.abs() ** params["exponent"]
        return image * params["factor"] + params["offset"]


class RandomNoise(_OfImages):
    """Gaussian noise, of another strength in each image.

    Parameters
    ----------
    largest
        Largest standard deviation; the smallest is 0.01, or this if it is less.
    """

    def __init__(self, largest: float) -> None:
        super().__init__()
        self._range = (min(0.01, largest), largest)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:  # noqa: ARG002  # v2's
        """Return what all images of one call share."""
        low, high = self._range
        return {"deviation": low + (high - low) * float(torch.rand(1))}

    def _changed(self, image: Any, params: dict[str, Any]) -> Any:
        return image + params["deviation"] * torch.randn(image.shape)
