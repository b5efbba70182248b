"""Label images as TIFF: one number an instance, 0 for the background, one page a plane.

The format is lossy where instances overlap: a pixel holds one number. The writer says how much was
hidden; COCO (`dataset.formats.coco`) keeps all of it.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_deeppixel.core.atomic import atomic_file
from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import AnnotationError, ImageError
from napari_deeppixel.core.instance import InstanceSet, label_dtype, label_image_to_instances
from napari_deeppixel.dataset.tiff_chain import check_page_chain

LabelImage = NDArray[np.uint16] | NDArray[np.uint32]

# ImageJ's order of axes; a hyperstack in another order cannot be described to it
_IMAGEJ_LEAD = "tzc"


@dataclass(frozen=True, kw_only=True)
class HiddenByOverlap:
    """What a label image cannot show.

    Attributes
    ----------
    pixels
        Pixels of instances that lie under another one.
    instances
        Instances without a single visible pixel: they are not in the file.
    """

    pixels: int
    instances: int


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelStack:
    """The label images of a file.

    Attributes
    ----------
    label_images
        uint16 or uint32 (…, H, W).
    axes
        One letter an axis, as in `core.image.ImageArray`.
    """

    label_images: LabelImage
    axes: str

    def planes(self) -> Iterator[tuple[tuple[int, ...], LabelImage]]:
        """Yield lead index and label image (H, W) of each plane, the last axis fastest."""
        for index in np.ndindex(*self.label_images.shape[:-2]):
            yield index, self.label_images[index]

    def to_instances(self, categories: CategoryTable) -> list[InstanceSet]:
        """Return the instances of each plane; handles are the numbers in the file."""
        return [
            label_image_to_instances(plane, categories=categories) for _, plane in self.planes()
        ]


def write_label_tiff(
    planes: Sequence[InstanceSet | NDArray[np.integer[Any]]],
    path: Path | str,
    *,
    axes: str = "yx",
    lead_shape: tuple[int, ...] | None = None,
) -> HiddenByOverlap:
    """Write planes as one compressed label TIFF, whole or not at all; return what it hides.

    Numbers are the handles: uint16 while they allow, else uint32. ImageJ reads both; axes in its
    own order (t, z, c) are named to it.

    Parameters
    ----------
    planes
        Instances, or ready label images (H, W), of all planes, the last lead axis fastest.
    path
        File to write; an older one is replaced.
    axes
        Lead axes, then ``yx``.
    lead_shape
        Sizes of the lead axes; None: one axis that holds all planes, or none for one plane.

    Raises
    ------
    ValueError
        If there is no plane, sizes differ, a number does not fit 32 bits, or axes and planes do
        not match.
    OSError
        If the file cannot be written; an older one then stays as it was.
    """
    path = Path(path)
    if lead_shape is None:
        lead_shape = (len(planes),) if len(axes) > 2 else ()
    plane_hw = _common_size(planes)
    if not axes.endswith("yx") or len(axes) - 2 != len(lead_shape):
        raise ValueError(f"axes {axes!r} do not fit lead axes of {lead_shape} before yx")
    if math.prod(lead_shape) != len(planes):
        raise ValueError(f"{len(planes)} planes do not fit lead axes of {lead_shape}")
    dtype = _smallest_dtype(planes)
    drawing = _Drawing(planes, dtype)
    lead = axes[:-2]
    # ImageJ has no 32-bit integers: tifffile's own description keeps their axes
    is_imagej = dtype == np.uint16 and lead == "".join(a for a in _IMAGEJ_LEAD if a in lead)
    with atomic_file(path) as file:
        tifffile.imwrite(
            file,
            drawing.label_images(),
            shape=(*lead_shape, *plane_hw),
            dtype=dtype,
            compression="zlib",
            photometric="minisblack",
            imagej=is_imagej,
            metadata={"axes": axes.upper()},
        )
    return HiddenByOverlap(pixels=drawing.hidden_pixels, instances=drawing.hidden_instances)


class _Drawing:
    """Draws one plane after the other, and counts what is hidden."""

    def __init__(self, planes: Sequence[Any], dtype: "np.dtype[Any]") -> None:
        self._planes, self._dtype = planes, dtype
        self.hidden_pixels = 0
        self.hidden_instances = 0

    def label_images(self) -> Iterator[LabelImage]:
        for plane in self._planes:
            if not isinstance(plane, InstanceSet):
                yield np.asarray(plane).astype(self._dtype)
                continue
            label_image = np.zeros(plane.image_hw, self._dtype)
            plane.draw_into(label_image)
            numbers, counts = np.unique(label_image[label_image > 0], return_counts=True)
            self.hidden_pixels += int(plane.areas.sum()) - int(counts.sum())
            self.hidden_instances += len(plane) - numbers.size
            yield label_image


def _common_size(planes: Sequence[Any]) -> tuple[int, int]:
    sizes = {p.image_hw if isinstance(p, InstanceSet) else np.asarray(p).shape for p in planes}
    if len(sizes) != 1 or len(next(iter(sizes))) != 2:
        raise ValueError(f"planes must be one size (H, W), got {sorted(sizes)}")
    height, width = sizes.pop()
    return int(height), int(width)


def _smallest_dtype(planes: Sequence[Any]) -> "np.dtype[Any]":
    numbers = [p.handles if isinstance(p, InstanceSet) else np.asarray(p) for p in planes]
    largest = max(int(values.max(initial=0)) for values in numbers)
    smallest = min(int(values.min(initial=0)) for values in numbers)
    if smallest < 0 or largest > np.iinfo(np.uint32).max:
        raise ValueError(f"numbers must fit 32 bits without sign, got {smallest} to {largest}")
    return label_dtype(largest)


def read_label_tiff(path: Path | str) -> LabelStack:
    """Return the label images of a TIFF, ours or another program's.

    Floats are taken if they hold whole numbers: ImageJ stores numbers above 65,535 so.

    Raises
    ------
    AnnotationError
        If the file is missing, is no TIFF, or does not hold whole numbers from 0 on.
    """
    path = Path(path)
    try:
        check_page_chain(path)
        with tifffile.TiffFile(path) as file:
            series = file.series[0]
            axes = series.axes.lower()
            pixels = series.asarray()
    except ImageError as error:
        raise AnnotationError(str(error)) from error
    except FileNotFoundError as error:
        raise AnnotationError(f"{path}: no such file") from error
    except (OSError, ValueError, IndexError, KeyError, TypeError, tifffile.TiffFileError) as error:
        raise AnnotationError(f"{path}: not a readable TIFF ({error})") from error
    if not axes.endswith("yx"):
        raise AnnotationError(f"{path}: a colour image (axes {axes}), not numbers of instances")
    return LabelStack(label_images=_as_labels(pixels, path), axes=_named(axes))


def _as_labels(pixels: NDArray[Any], path: Path) -> LabelImage:
    if pixels.dtype.kind not in "buif":
        raise AnnotationError(f"{path}: holds {pixels.dtype}, not numbers of instances")
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0 and high <= np.iinfo(np.uint32).max):
        raise AnnotationError(f"{path}: numbers must lie in 0..2**32 - 1, got {low:g} to {high:g}")
    if pixels.dtype.kind == "f" and not (pixels == np.floor(pixels)).all():
        raise AnnotationError(f"{path}: holds fractions, so it is no label image")
    is_small = high <= np.iinfo(np.uint16).max
    return pixels.astype(np.uint16) if is_small else pixels.astype(np.uint32)


def _named(axes: str) -> str:
    # tifffile calls axes that nobody named q and i
    free = iter(letter for letter in "ztuvw" if letter not in axes)
    return "".join(next(free) if a in "qi" else a for a in reversed(axes))[::-1]
