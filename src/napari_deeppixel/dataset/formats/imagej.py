"""ROIs as ImageJ's ROI Manager saves them: a zip of outlines for each image.

What is written: ``<name>_rois.zip`` for each image, with all its planes: a traced outline for each
instance, a composite ROI where it has holes or parts, or lies beyond 32,767 pixels. ROIs are called
``0012 nucleus`` (number and category), a category is a group and a colour, and a ROI's properties
hold category, uuid, handle, state, source, score and plane.

What is read: polygons, freehand and traced outlines, rectangles, ovals and composites, in such a
zip, in a ``RoiSet.zip`` beside a single image, or in single ``.roi`` files; a folder of these, or
one. ROIs do not know the size of their image, so it must be there. Groups become categories.
"""

import itertools
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import roifile

from napari_deeppixel.core.atomic import atomic_file
from napari_deeppixel.core.instance import Instance
from napari_deeppixel.dataset.annotated import AnnotatedImage
from napari_deeppixel.dataset.formats.base import Format, Holds, ReadBack, WriteTarget
from napari_deeppixel.dataset.formats.image_pairs import (
    AnnotationNames,
    copy_image,
    is_single_file,
    place_in,
    stack_axes,
    write_each,
)
from napari_deeppixel.dataset.formats.imagej_read import ROI_SUFFIX, ZIP_SUFFIX, read_imagej
from napari_deeppixel.dataset.formats.imagej_rois import instance_to_roi, roi_mask

_NAME_ENDING = f"_rois{ZIP_SUFFIX}"
# zip's own beginning of time: the same ROIs give the same bytes
_NO_TIME = (1980, 1, 1, 0, 0, 0)


def _write(images: Iterable[AnnotatedImage], target: WriteTarget) -> Iterator[AnnotatedImage]:
    is_single = is_single_file(target.path, (ZIP_SUFFIX,))
    names = AnnotationNames()
    images_dir = target.images_dir or (None if is_single else target.path)

    def write_file(planes: Sequence[AnnotatedImage]) -> None:
        axes = stack_axes(planes).axes
        path = target.path
        if not is_single:
            path = place_in(target.path, f"{names.name_for(planes[0].file_name)}{_NAME_ENDING}")
        with atomic_file(path) as file:
            _write_zip(file, planes, axes)
        if target.copies_images and images_dir is not None:
            copy_image(planes[0], images_dir)

    return write_each(images, target, write_file, is_single=is_single)


def _write_zip(file: BinaryIO, planes: Sequence[AnnotatedImage], axes: str) -> None:
    taken: set[str] = set()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for image in planes:
            for instance in image.instances:
                roi = _roi(instance, image)
                _set_position(roi, image, axes)
                # the ROI Manager shows the names of entries
                name = _entry_name(roi.name, taken)
                info = zipfile.ZipInfo(name, _NO_TIME)
                archive.writestr(info, roi.tobytes(), zipfile.ZIP_DEFLATED)


def _roi(instance: Instance, image: AnnotatedImage) -> roifile.ImagejRoi:
    categories = image.categories.categories
    position = next(
        at for at, category in enumerate(categories) if category.id == instance.category_id
    )
    return instance_to_roi(instance, categories[position], group=position + 1, plane=image.plane)


def _set_position(roi: roifile.ImagejRoi, image: AnnotatedImage, axes: str) -> None:
    if len(image.plane) == 1:
        roi.position = image.plane[0] + 1
        return
    at = dict(zip(axes, image.plane, strict=True))
    roi.t_position, roi.z_position = (at[axis] + 1 if axis in at else 0 for axis in "tz")


def _entry_name(roi_name: str, taken: set[str]) -> str:
    stem = roi_name.replace("/", "_").replace("\\", "_")
    names = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
    name = next(name for name in names if name not in taken)
    taken.add(name)
    return f"{name}{ROI_SUFFIX}"


def _read_back(image: AnnotatedImage) -> ReadBack:
    masks = []
    for instance in image.instances:
        roi = roifile.ImagejRoi.frombytes(_roi(instance, image).tobytes())
        mask = roi_mask(roi, image.image_hw, lambda _: None)
        masks.append(() if mask is None else (mask,))
    return ReadBack(masks=tuple(masks))


def _looks_like(path: Path) -> bool:
    try:
        if path.is_dir():
            folders = [path, *(each for each in path.iterdir() if each.is_dir())]
            return any(_is_roi_file(each) for folder in folders for each in folder.iterdir())
        return _is_roi_file(path)
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return False


def _is_roi_file(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix == ROI_SUFFIX:
        return path.is_file()
    if suffix != ZIP_SUFFIX or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    # an image without an instance has no ROI
    return all(name.lower().endswith(ROI_SUFFIX) for name in names[:100])


IMAGEJ = Format(
    name="imagej",
    title="ImageJ ROIs (zip)",
    note="Outlines on pixel edges, one zip an image, for Fiji's ROI Manager; crowds, regions and "
    "what is known of images are not in it.",
    suffixes=(_NAME_ENDING, ZIP_SUFFIX),
    looks_like=_looks_like,
    read=read_imagej,
    write=_write,
    read_back=_read_back,
    holds=frozenset(
        {
            Holds.CATEGORIES,
            Holds.SCORES,
            Holds.STATES,
            Holds.SOURCES,
            Holds.IDENTITIES,
            Holds.HANDLES,
            Holds.PLANES,
        }
    ),
)
