"""A folder of annotated images, held in memory and drawn from evenly."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.image import pick_channels
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.core.normalization import Normalization
from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState, Split
from napari_deeppixel.dataset.formats.coco import read_coco
from napari_deeppixel.dataset.image_file import read_image
from napari_deeppixel.dataset.image_folder import ImageFolder, inner_name
from napari_deeppixel.dataset.store import Dataset

# two RGB channels differ by more than this on average in a colour image
_COLOUR_DIFFERENCE = 4.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """One annotated image, ready to be cropped.

    Attributes
    ----------
    path
        The image file.
    pixels
        (H, W, C) as in the file, C being 1 or the inputs of the network.
    limits
        Intensities that become 0 and 1.
    label_planes
        int32 (K, H, W): number of the instance, 1 … N, or 0. Masks that overlap lie on different
        planes, so none is flattened; K is 1 where nothing overlaps.
    instances
        The annotations; instance n is number n + 1 in the planes.
    appearance
        Which images look alike: colour or grey, objects lighter or darker than the rest.
    """

    path: Path
    pixels: NDArray[Any]
    limits: tuple[float, float]
    label_planes: NDArray[np.int32]
    instances: InstanceSet
    appearance: str


def read_split(folder: Path, normalization: Normalization) -> list[Sample]:
    """Return the samples of a split.

    Parameters
    ----------
    folder
        ``DATASET/train`` (or ``val``, ``test``) of a dataset, of which the complete images are
        taken; or a folder with ``instances.json`` (COCO) and the images that it names.
    normalization
        Of the network.

    Raises
    ------
    AnnotationError
        If the file or an image is missing or cannot be read, sizes differ, or there is no image.
    """
    samples = []
    is_dataset = folder.name in tuple(Split) and Dataset.is_dataset(folder.parent)
    for image in _of_dataset(folder) if is_dataset else _of_coco(folder):
        path = image.path or folder / image.file_name
        try:
            pixels = read_image(path).plane(image.plane)
        # a damaged PNG ends in SyntaxError, a TIFF in ZeroDivisionError, TiffFileError and more
        except Exception as error:
            raise AnnotationError(f"{path}: image cannot be read ({error})") from error
        if pixels.shape[:2] != image.instances.image_hw:
            raise AnnotationError(
                f"{path} has {pixels.shape[:2]} pixels, its annotations {image.instances.image_hw}"
            )
        if len(image.crowds):
            raise AnnotationError(f"{path}: crowd regions cannot be trained on yet; remove them")
        pixels = pick_channels(pixels, None)
        # what a person rejected is background like the rest
        kept = [state is not InstanceState.REJECTED for state in image.instances.states]
        instances = image.instances.select(np.array(kept, np.bool_))
        samples.append(
            Sample(
                path=path,
                pixels=pixels,
                limits=normalization.limits(pixels),
                label_planes=pack_label_planes(instances),
                instances=instances,
                appearance=_appearance(pixels, instances),
            )
        )
    if not samples:
        where = (
            f"{folder.parent}: no complete image is in the split {folder.name}; mark images "
            "complete, or pin some to it"
            if is_dataset
            else f"{folder}: no image in instances.json"
        )
        raise AnnotationError(where)
    return samples


def _of_coco(folder: Path) -> Iterator[AnnotatedImage]:
    images = ImageFolder(folder)
    for image in read_coco(folder / "instances.json"):
        path = folder / image.file_name
        if not path.exists():
            path = images.find(inner_name(image.file_name).as_posix()) or path
        yield replace(image, path=path)


def _of_dataset(folder: Path) -> Iterator[AnnotatedImage]:
    # of a draft nobody knows yet which objects are missing
    for image in Dataset.open(folder.parent).annotated([Split(folder.name)]):
        if image.state is ImageState.COMPLETE:
            yield image


def pack_label_planes(instances: InstanceSet) -> NDArray[np.int32]:
    """Return int32 (K, H, W) with number n + 1 at each pixel of instance n, none overwritten."""
    planes = [np.zeros(instances.image_hw, np.int32)]
    for number, mask in enumerate(instances.masks, start=1):
        for plane in planes:
            if not plane[mask.slices][mask.pixels].any():
                break
        else:
            plane = np.zeros(instances.image_hw, np.int32)
            planes.append(plane)
        plane[mask.slices][mask.pixels] = number
    return np.stack(planes)


def _appearance(pixels: NDArray[Any], instances: InstanceSet) -> str:
    values = pixels.astype(np.float32)
    is_colour = values.shape[2] > 1 and np.ptp(values, axis=2).mean() > _COLOUR_DIFFERENCE
    is_object = instances.label_image() > 0
    if not is_object.any() or is_object.all():
        return "empty"
    is_lighter = values[is_object].mean() > values[~is_object].mean()
    return f"{'colour' if is_colour else 'grey'}, {'lighter' if is_lighter else 'darker'} objects"


def sampling_weights(samples: Sequence[Sample]) -> NDArray[np.float64]:
    """Return the chance (N,) of each image to be drawn; they add up to 1.

    A kind of appearance is drawn in proportion to the square root of its number of images, so
    that rare kinds are learnt without drowning the common one (Mahajan et al. 2018, sec. 2.2).
    """
    kinds, inverse, counts = np.unique(
        [sample.appearance for sample in samples],
        return_inverse=True,
        return_counts=True,
    )
    del kinds
    weights: NDArray[np.float64] = (1 / np.sqrt(counts))[inverse]
    weights /= weights.sum()
    return weights


def common_categories(samples: Sequence[Sample]) -> CategoryTable:
    """Return the categories of the samples.

    Raises
    ------
    AnnotationError
        If two images have different ones.
    """
    tables = {sample.instances.categories for sample in samples}
    if len(tables) != 1:
        raise AnnotationError(f"images have {len(tables)} different category tables")
    return tables.pop()
