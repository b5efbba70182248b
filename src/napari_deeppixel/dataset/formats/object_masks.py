"""Folders with a file for each object, as the Data Science Bowl 2018 (BBBC038) has them.

``ID/images/ID.png`` is the image, and each file in ``ID/masks/`` one of its objects, whatever it is
called.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState
from napari_deeppixel.dataset.formats.base import ReadSource
from napari_deeppixel.dataset.formats.image_pairs import size_problem
from napari_deeppixel.dataset.formats.label_names import LABEL_SUFFIXES, files_below, image_stem
from napari_deeppixel.dataset.formats.label_source import label_plane, open_label_image
from napari_deeppixel.dataset.image_folder import ImageFolder, is_inside


@dataclass(frozen=True, kw_only=True)
class ObjectMasks:
    """An image and the files of its objects."""

    image: Path
    masks: tuple[Path, ...]


def find_object_masks(folder: Path) -> list[ObjectMasks]:
    """Return the images of such folders: alone in ``images``, none of the masks called so."""
    found = []
    for masks_dir in sorted(folder.rglob("masks")):
        images_dir = masks_dir.with_name("images")
        if not masks_dir.is_dir() or not all(is_inside(d, folder) for d in (masks_dir, images_dir)):
            continue
        images = ImageFolder(images_dir).paths
        if len(images) != 1:
            continue
        masks = files_below(masks_dir, LABEL_SUFFIXES)
        names = {name for mask in masks for name in (mask.stem, image_stem(mask.stem))}
        if masks and not names & {images[0].stem, images[0].name}:
            found.append(ObjectMasks(image=images[0], masks=tuple(masks)))
    return found


def read_object_masks(found: Sequence[ObjectMasks], source: ReadSource) -> Iterator[AnnotatedImage]:
    """Yield images with an instance for each file, numbered in the order of their names."""
    categories = CategoryTable.from_names(source.default_category)
    for each in found:
        masks: list[CroppedMask] = []
        plane_hw: tuple[int, int] | None = None
        for path in each.masks:
            try:
                mask, hw = _object_in(path, each.image)
                plane_hw = plane_hw or hw
                if hw != plane_hw:
                    raise AnnotationError(f"has size {hw}, the others {plane_hw}")
                masks.append(mask)
            except AnnotationError as error:
                source.complain(f"{error}: left out", path=path)
        if plane_hw is None:
            continue
        instances = InstanceSet(
            image_hw=plane_hw,
            masks=tuple(masks),
            categories=categories,
            states=(InstanceState.ACCEPTED,) * len(masks),
        )
        is_known = each.image in source.images.paths
        yield AnnotatedImage.of(
            source.images.relative_name(each.image) if is_known else each.image.name,
            instances,
            path=each.image,
            state=ImageState.DRAFT,
        )


def _object_in(path: Path, image: Path) -> tuple[CroppedMask, tuple[int, int]]:
    stack = open_label_image(path)
    problem = size_problem(image, stack.image_hw)
    if stack.lead_shape or problem:
        raise AnnotationError(problem or f"has {stack.lead_shape} planes, not one object")
    numbers, _ = label_plane(stack, ())
    mask = CroppedMask.from_mask(np.asarray(numbers > 0, np.bool_))
    if mask is None:
        raise AnnotationError("has no pixel")
    return mask, stack.image_hw
