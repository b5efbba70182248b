"""What is known about one plane of an image file: its instances and all that goes with them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.geometry import Outline
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import InstanceSet


class ImageState(StrEnum):
    """How far the annotation of an image is."""

    NONE = "none"
    DRAFT = "draft"
    COMPLETE = "complete"


class Split(StrEnum):
    """What an image is for."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


@dataclass(frozen=True, kw_only=True, eq=False)
class AnnotatedImage:
    """One plane of an image file with its instances.

    Attributes
    ----------
    file_name
        Of the image, as the annotations name it: relative, with ``/``.
    instances
        All instances but crowds.
    crowds
        Regions marked ``iscrowd``: groups of objects that nobody told apart.
    plane
        Lead index (t, z, …) of the plane in the image; () for a flat image.
    path
        Where the image file was found; None if it was not looked for or is missing.
    regions
        Complete regions: there, every object has been annotated.
    state
        How far the annotation is.
    split
        What the image is pinned to; None: nobody said.
    group
        Images of one group (frames of a recording, tiles of a slide) stay in one split; empty:
        the image is alone.
    image_id
        As in the file that it comes from, a number or a string; None: there was none.
    image_extra
        Keys of the image's entry that we do not know, JSON values.
    instance_extras
        uuid → keys of the annotation's entry that we do not know, its ``id`` among them.
    maskless
        Annotations without a pixel (a box alone, an empty mask), as they were read: no instances,
        but not to be lost.
    document
        Top-level keys of the file that we do not know, and its ``info`` and ``licenses``.
    """

    file_name: str
    instances: InstanceSet
    crowds: InstanceSet
    plane: PlaneIndex = ()
    path: Path | None = None
    regions: tuple[Outline, ...] = ()
    state: ImageState = ImageState.NONE
    split: Split | None = None
    group: str = ""
    image_id: int | str | None = None
    image_extra: Mapping[str, Any] = field(default_factory=dict)
    instance_extras: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    maskless: tuple[Mapping[str, Any], ...] = ()
    document: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, file_name: str, instances: InstanceSet, **others: Any) -> "AnnotatedImage":
        """Return an image without crowds; `others` are attributes by name."""
        nobody = InstanceSet.empty(instances.image_hw, instances.categories)
        return cls(file_name=file_name, instances=instances, **{"crowds": nobody} | others)

    @property
    def image_hw(self) -> tuple[int, int]:
        """Size of the plane (height, width)."""
        return self.instances.image_hw

    @property
    def categories(self) -> CategoryTable:
        """Categories of instances and crowds."""
        return self.instances.categories

    def in_table(self, table: CategoryTable, new_ids: Mapping[int, int]) -> "AnnotatedImage":
        """Return the same with another table of categories, ids mapped to it."""
        ids = dict(new_ids)
        maskless = tuple(
            {**entry, "category_id": ids[entry["category_id"]]}
            if entry.get("category_id") in ids
            else entry
            for entry in self.maskless
        )
        return replace(
            self,
            instances=self.instances.recategorised(table, ids),
            crowds=self.crowds.recategorised(table, ids),
            maskless=maskless,
        )


class AnnotatedImages(Protocol):
    """Images that can be gone through more than once; each time they may be read anew."""

    def __iter__(self) -> Iterator[AnnotatedImage]:
        """Yield the images in their order; planes of one file follow each other."""
        ...


def in_common_table(image: AnnotatedImage, table: CategoryTable) -> AnnotatedImage:
    """Return an image in a table that has all its categories, by name."""
    if image.categories == table:
        return image
    ids = {category.name: category.id for category in table.categories}
    new_ids = {category.id: ids[category.name] for category in image.categories.categories}
    return image.in_table(table, new_ids)
