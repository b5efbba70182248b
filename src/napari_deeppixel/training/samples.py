"""Annotated images to learn from: what is known of each, and where nobody knows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.geometry import BoolImage
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.core.normalization import Normalization
from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState, Split
from napari_deeppixel.dataset.formats.coco import read_coco
from napari_deeppixel.dataset.image_folder import ImageFolder, inner_name
from napari_deeppixel.dataset.store import Dataset
from napari_deeppixel.edits.reshape import regions_mask
from napari_deeppixel.training.pixels import (
    Limits,
    PixelCache,
    PixelsInMemory,
    PixelsOnDisk,
    PixelSource,
)

# two RGB channels differ by more than this on average in a colour image
_COLOUR_DIFFERENCE = 4.0
# nobody has looked at these, only at the region round them
_UNREVIEWED_WEIGHT = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """One annotated plane, ready to be cropped.

    Attributes
    ----------
    path, plane
        The image file, and which plane of it.
    file_name
        Of the image, as the annotations name it.
    instances
        What is to be found; objects that a person rejected or is unsure of are left out.
    source
        Where the pixels come from.
    weights
        float32 (N,), above 0: how much each instance counts in the loss. Default: 1.
    ignored
        Where nobody knows what is there: that is neither object nor background. None: nowhere.
    appearance
        Which images look alike: colour or grey, objects lighter or darker than the rest.

    Raises
    ------
    ValueError
        If the number of weights is not that of the instances, or one is not above 0.
    """

    path: Path
    plane: PlaneIndex = ()
    file_name: str = ""
    instances: InstanceSet
    source: PixelSource
    weights: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    ignored: CroppedMask | None = None
    appearance: str = ""

    def __post_init__(self) -> None:
        weights = np.array(self.weights, np.float32)
        if weights.size == 0:
            weights = np.ones(len(self.instances), np.float32)
        if weights.shape != (len(self.instances),) or not (weights > 0).all():
            raise ValueError(
                f"{len(self.instances)} instances need as many weights above 0, got "
                f"{weights.tolist()}"
            )
        weights.flags.writeable = False
        object.__setattr__(self, "weights", weights)

    @classmethod
    def in_memory(
        cls, pixels: NDArray[Any], instances: InstanceSet, *, limits: Limits, **others: Any
    ) -> "Sample":
        """Return a sample of pixels (H, W, C) at hand; `others` are attributes by name."""
        source = PixelsInMemory(pixels=pixels, limits=limits)
        values: dict[str, Any] = {"path": Path(), "instances": instances, "source": source}
        return cls(**(values | others))

    @property
    def image_hw(self) -> tuple[int, int]:
        """Size of the plane (height, width)."""
        return self.instances.image_hw

    @property
    def pixels(self) -> NDArray[Any]:
        """Pixels (H, W, C) as in the file, C being 1 or the inputs of the network."""
        return self.source.read()[0]

    @property
    def limits(self) -> Limits:
        """Intensities that become 0 and 1."""
        return self.source.read()[1]


def read_split(
    folder: Path, normalization: Normalization, *, cache: PixelCache | None = None
) -> list[Sample]:
    """Return the samples of a split. Each image is read once, to see that it can be.

    Parameters
    ----------
    folder
        ``DATASET/train`` (or ``val``, ``test``) of a dataset; or a folder with ``instances.json``
        (COCO) and the images that it names. Of a dataset, an image counts if it is complete, and
        else in its complete regions; of a COCO file, unless it is called a draft there.
    normalization
        Of the network.
    cache
        Where pixels are kept once they are read. By default one for this split.

    Raises
    ------
    AnnotationError
        If the file or an image is missing or cannot be read, sizes differ, or there is no image.
    """
    cache = cache or PixelCache()
    is_dataset = folder.name in tuple(Split) and Dataset.is_dataset(folder.parent)
    samples = []
    for image in _of_dataset(folder) if is_dataset else _of_coco(folder):
        known = known_part(image, is_whole=is_whole_image(image, is_dataset))
        if known is not None:
            samples.append(_sample_of(image, *known, normalization=normalization, cache=cache))
    if samples:
        return samples
    if is_dataset:
        raise AnnotationError(
            f"{folder.parent}: no complete image is in the split {folder.name}; mark images or "
            "regions complete, or pin some to it"
        )
    raise AnnotationError(
        f"{folder}: no image in instances.json, or drafts alone that have no complete region"
    )


def _of_coco(folder: Path) -> Iterator[AnnotatedImage]:
    images = ImageFolder(folder)
    for image in read_coco(folder / "instances.json"):
        path = folder / image.file_name
        if not path.exists():
            path = images.find(inner_name(image.file_name).as_posix()) or path
        yield replace(image, path=path)


def _of_dataset(folder: Path) -> Iterator[AnnotatedImage]:
    dataset = Dataset.open(folder.parent)
    for image in dataset.annotated([Split(folder.name)]):
        yield replace(image, path=image.path or dataset.path / "images" / image.file_name)


def is_whole_image(image: AnnotatedImage, is_dataset: bool) -> bool:
    """Whether all objects of an image are annotated."""
    # other programs' COCO files say nothing of it, and mean whole images
    is_silent = not is_dataset and image.state is ImageState.NONE and not image.regions
    return image.state is ImageState.COMPLETE or is_silent


def known_part(
    image: AnnotatedImage, *, is_whole: bool
) -> tuple[InstanceSet, CroppedMask | None] | None:
    """Return what is to be found in an image and where nobody knows; None: all of it unknown."""
    unknown = np.zeros(image.image_hw, np.bool_)
    if not is_whole:
        unknown = ~_inside(image)
        if unknown.all():
            return None
    states = image.instances.states
    kept = np.array(
        [
            state not in (InstanceState.REJECTED, InstanceState.UNSURE)
            # one pixel in a region is enough: the person who closed it was asked about those
            and (state is not InstanceState.UNREVIEWED or not _lies_in(mask, unknown))
            for mask, state in zip(image.instances.masks, states, strict=True)
        ],
        np.bool_,
    )
    for mask, state in zip(image.instances.masks, states, strict=True):
        if state is InstanceState.UNSURE:
            unknown[mask.slices] |= mask.pixels
    for mask in image.crowds.masks:
        unknown[mask.slices] |= mask.pixels
    instances = image.instances.select(kept)
    for mask in instances.masks:
        unknown[mask.slices] &= ~mask.pixels
    ignored = CroppedMask.from_mask(unknown)
    if ignored is not None:
        ignored.pack()
    return instances, ignored


def _inside(image: AnnotatedImage) -> BoolImage:
    """Return the pixels (H, W) in complete regions."""
    inside = regions_mask(image.regions, image.image_hw)
    return np.zeros(image.image_hw, np.bool_) if inside is None else inside.to_mask(image.image_hw)


def _lies_in(mask: CroppedMask, pixels: BoolImage) -> bool:
    return bool(pixels[mask.slices][mask.pixels].all())


def _sample_of(
    image: AnnotatedImage,
    instances: InstanceSet,
    ignored: CroppedMask | None,
    *,
    normalization: Normalization,
    cache: PixelCache,
) -> Sample:
    path = image.path or Path(image.file_name)
    source = PixelsOnDisk(path=path, plane=image.plane, normalization=normalization, cache=cache)
    try:
        pixels, _ = source.read()
    # a damaged PNG ends in SyntaxError, a TIFF in ZeroDivisionError, TiffFileError and more
    except Exception as error:
        raise AnnotationError(
            f"{path}: image cannot be read ({error}); put it back, or take it out of the dataset"
        ) from error
    if pixels.shape[:2] != image.image_hw:
        raise AnnotationError(
            f"{path} has {pixels.shape[:2]} pixels, its annotations {image.image_hw}; put back the "
            "image that was annotated"
        )
    is_unreviewed = [state is InstanceState.UNREVIEWED for state in instances.states]
    return Sample(
        path=path,
        plane=image.plane,
        file_name=image.file_name,
        instances=instances,
        source=source,
        weights=np.where(is_unreviewed, _UNREVIEWED_WEIGHT, 1).astype(np.float32),
        ignored=ignored,
        appearance=appearance_of(pixels, instances, ignored),
    )


def pack_label_planes(
    masks: Sequence[CroppedMask], region_xyxy: tuple[int, int, int, int]
) -> NDArray[np.int32]:
    """Return int32 (K, h, w): n + 1 at each pixel of mask n in a region, none overwritten.

    Masks that overlap lie on different planes; K is 1 where nothing overlaps.
    """
    left, top, right, bottom = region_xyxy
    planes = [np.zeros((bottom - top, right - left), np.int32)]
    for number, mask in enumerate(masks, start=1):
        x1, y1, x2, y2 = mask.box_xyxy
        x1, y1, x2, y2 = max(x1, left), max(y1, top), min(x2, right), min(y2, bottom)
        if x1 >= x2 or y1 >= y2:
            continue
        pixels = mask.pixels[y1 - mask.y : y2 - mask.y, x1 - mask.x : x2 - mask.x]
        where = np.s_[y1 - top : y2 - top, x1 - left : x2 - left]
        for plane in planes:
            if not plane[where][pixels].any():
                break
        else:
            plane = np.zeros_like(planes[0])
            planes.append(plane)
        plane[where][pixels] = number
    return np.stack(planes)


def appearance_of(pixels: NDArray[Any], instances: InstanceSet, ignored: CroppedMask | None) -> str:
    """Return how an image looks: colour or grey, objects lighter or darker than the rest."""
    values = pixels.astype(np.float32)
    is_colour = values.shape[2] > 1 and np.ptp(values, axis=2).mean() > _COLOUR_DIFFERENCE
    is_object = instances.label_image() > 0
    is_background = ~is_object
    if ignored is not None:
        is_background[ignored.slices] &= ~ignored.pixels
    if not is_object.any() or not is_background.any():
        return "empty"
    is_lighter = values[is_object].mean() > values[is_background].mean()
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


def mean_the_same(one: CategoryTable, other: CategoryTable) -> bool:
    """Whether two tables are one to a network: colours and keys may differ."""
    return _classes(one) == _classes(other)


def _classes(table: CategoryTable) -> list[tuple[int, str, int]]:
    return [
        (category.id, category.name, index)
        for category, index in zip(table.categories, table.class_indices, strict=True)
    ]
