"""Pixels of any size and kind with the names of their axes; planes are read one at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.core.errors import ImageError

# lead index (t, z, …) of a plane in an image; () in a flat one
PlaneIndex: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageArray:
    """An n-dimensional image.

    Attributes
    ----------
    pixels
        A numpy, dask or zarr array, or anything with ``shape``, ``dtype`` and slicing. It is
        never read as a whole.
    axes
        One letter an axis. ``y`` and ``x`` are the plane; ``c`` (at most one, anywhere) holds
        channels; all others (t, z, …) are looped over.
    name
        What people call the image.
    source
        Path or other origin; may be empty.

    Raises
    ------
    ImageError
        If the axes do not fit the array, or its type is not a number.
    """

    pixels: Any
    axes: str
    name: str = "image"
    source: str = ""

    def __post_init__(self) -> None:
        shape = tuple(self.pixels.shape)
        if len(self.axes) != len(shape) or len(set(self.axes)) != len(self.axes):
            raise ImageError(f"{self.name}: axes {self.axes!r} do not fit an array of {shape}")
        if "y" not in self.axes or "x" not in self.axes:
            raise ImageError(f"{self.name}: an image needs the axes y and x, got {self.axes!r}")
        if 0 in shape:
            raise ImageError(f"{self.name}: the image has no pixels (shape {shape})")
        dtype = np.dtype(self.pixels.dtype)
        if dtype.kind not in "buif":
            raise ImageError(f"{self.name}: pixels must be numbers, got {dtype}")

    @property
    def image_hw(self) -> tuple[int, int]:
        """Size of a plane (height, width)."""
        shape = self.pixels.shape
        return int(shape[self.axes.index("y")]), int(shape[self.axes.index("x")])

    @property
    def num_channels(self) -> int:
        """Channels of a plane; 1 without a channel axis."""
        return int(self.pixels.shape[self.axes.index("c")]) if "c" in self.axes else 1

    @property
    def lead_axes(self) -> str:
        """Axes that are looped over, in the array's order."""
        return "".join(axis for axis in self.axes if axis not in "yxc")

    @property
    def lead_shape(self) -> tuple[int, ...]:
        """Sizes of the lead axes; () for one plane."""
        return tuple(int(self.pixels.shape[self.axes.index(axis)]) for axis in self.lead_axes)

    def plane_indices(self) -> Iterator[tuple[int, ...]]:
        """Yield the lead index of every plane, the last axis fastest."""
        return iter(np.ndindex(*self.lead_shape))

    def plane(
        self,
        index: tuple[int, ...] = (),
        *,
        region_xyxy: tuple[int, int, int, int] | None = None,
    ) -> NDArray[Any]:
        """Return one plane (H, W, C), or a region (x1, y1, x2, y2) of it, as a numpy array.

        Raises
        ------
        ImageError
            If the index does not name a plane.
        """
        if len(index) != len(self.lead_shape) or any(
            not 0 <= i < size for i, size in zip(index, self.lead_shape, strict=True)
        ):
            raise ImageError(f"{self.name}: no plane {index} in lead axes of {self.lead_shape}")
        height, width = self.image_hw
        x1, y1, x2, y2 = region_xyxy or (0, 0, width, height)
        at: dict[str, int | slice] = dict(zip(self.lead_axes, index, strict=True))
        at |= {"y": slice(y1, y2), "x": slice(x1, x2), "c": slice(None)}
        pixels = np.asarray(self.pixels[tuple(at[axis] for axis in self.axes)])
        left = [axis for axis in self.axes if axis in "yxc"]
        if "c" not in left:
            pixels, left = pixels[..., np.newaxis], [*left, "c"]
        return pixels.transpose([left.index(axis) for axis in "yxc"])


def default_channels(num_channels: int) -> tuple[int, ...]:
    """Return which channels feed a network that nobody chose channels for.

    Three channels are RGB, four RGBA (alpha is left out); otherwise the first one is used.
    """
    return (0, 1, 2) if num_channels in (3, 4) else (0,)


def pick_channels(
    plane: NDArray[Any], channels: tuple[int, ...] | None, num_inputs: int = 3
) -> NDArray[Any]:
    """Return the channels (H, W, num_inputs) that feed a network; (H, W, 1) if all are the same.

    Parameters
    ----------
    plane
        (H, W, C).
    channels
        One channel for each input, or one for all of them. None: `default_channels`.
    num_inputs
        Inputs of the network.

    Raises
    ------
    ImageError
        If a channel does not exist, or their number is neither one nor `num_inputs`.
    """
    available = plane.shape[2]
    chosen = default_channels(available) if channels is None else tuple(channels)
    missing = [channel for channel in chosen if not 0 <= channel < available]
    if missing:
        raise ImageError(f"channel {missing[0]} does not exist: the image has 0..{available - 1}")
    if len(chosen) not in (1, num_inputs):
        raise ImageError(f"choose 1 or {num_inputs} channels for this model, got {len(chosen)}")
    if len(set(chosen)) == 1:
        return plane[..., chosen[:1]]
    return plane[..., list(chosen)]


def as_image_array(
    image: Any, *, axes: str | None = None, name: str = "image", source: str = ""
) -> ImageArray:
    """Return an array as an `ImageArray`, guessing the axes where none are given.

    A last axis of 3 or 4 on a 3-D or larger array is taken for RGB(A); the two axes before it, or
    the last two, are the plane; others become lead axes.

    Raises
    ------
    ImageError
        If the array has fewer than two axes or does not hold numbers.
    """
    if isinstance(image, ImageArray):
        return image
    pixels = image if hasattr(image, "shape") and hasattr(image, "dtype") else np.asarray(image)
    if axes is None:
        axes = _guess_axes(tuple(pixels.shape), name)
    return ImageArray(pixels=pixels, axes=axes, name=name, source=source)


def _guess_axes(shape: tuple[int, ...], name: str) -> str:
    if len(shape) < 2:
        raise ImageError(f"{name}: an image needs at least two axes, got shape {shape}")
    plane = "yxc" if len(shape) >= 3 and shape[-1] in (3, 4) else "yx"
    lead = len(shape) - len(plane)
    if lead > 6:
        raise ImageError(f"{name}: too many axes ({len(shape)}); name them with axes=…")
    return "qwvutz"[6 - lead :] + plane
