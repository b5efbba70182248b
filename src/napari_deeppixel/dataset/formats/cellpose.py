"""Masks as Cellpose keeps them: ``x_cp_masks.png`` beside ``x.tif``.

What is written: a copy of each image, and its label image beside it under the name that Cellpose
looks for: a 16-bit PNG, or a TIFF for stacks and numbers above 65,535. A label image shows only
what lies on top: `read_back` tells what is lost.

What is read: ``_cp_masks`` files, or, where a folder has none, ``_masks`` files (the usual name in
Cellpose's training sets), as PNG, TIFF or plain ``.npy`` arrays. ``_seg.npy`` files are pickles,
which run code when they are read: they are refused, with the way out.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.image import ImageArray
from napari_deeppixel.core.instance import label_dtype, label_image_to_instances
from napari_deeppixel.dataset.annotated import AnnotatedImage
from napari_deeppixel.dataset.formats.base import Format, Holds, ReadBack, ReadSource, WriteTarget
from napari_deeppixel.dataset.formats.image_pairs import (
    AnnotationNames,
    copy_image,
    filled_stack,
    is_single_file,
    place_in,
    stack_axes,
    write_each,
)
from napari_deeppixel.dataset.formats.label_files import read_label_files, write_label_image
from napari_deeppixel.dataset.formats.label_names import (
    LABEL_SUFFIXES,
    LabelFile,
    files_below,
    image_stem,
)
from napari_deeppixel.dataset.formats.label_source import (
    PICKLED,
    open_label_image,
    open_npy,
)

_READ_SUFFIXES = (*LABEL_SUFFIXES, ".npy")
_CP_MASKS = re.compile(r".+_cp_masks", re.IGNORECASE)
_MASKS = re.compile(r".+_masks", re.IGNORECASE)
_SEG = re.compile(r".+_seg\.npy", re.IGNORECASE)


def _open(path: Path) -> ImageArray:
    return open_npy(path) if path.suffix.lower() == ".npy" else open_label_image(path)


def _read(source: ReadSource) -> Iterator[AnnotatedImage]:
    path = source.path
    if not path.is_dir():
        file = LabelFile(path=path, name=PurePosixPath(image_stem(path.stem)))
        yield from read_label_files([file], source, opened=_open)
        return
    paths = files_below(path, _READ_SUFFIXES)
    files = [each for each in paths if _CP_MASKS.fullmatch(each.stem)]
    files = files or [each for each in paths if _MASKS.fullmatch(each.stem)]
    names = {each: _image_name(each, path) for each in files}
    pickles = [each for each in paths if _SEG.fullmatch(each.name)]
    if not files:
        raise AnnotationError(
            f"{pickles[0]}: {PICKLED}"
            if pickles
            else f"{path}: no masks of Cellpose; expected files like x_cp_masks.png or x_masks.tif"
        )
    for each in pickles:
        if _image_name(each, path) not in names.values():
            source.complain(PICKLED, path=each)
    label_files = [LabelFile(path=each, name=name) for each, name in names.items()]
    yield from read_label_files(label_files, source, opened=_open)


def _image_name(path: Path, folder: Path) -> PurePosixPath:
    name = PurePosixPath(path.relative_to(folder).as_posix()).with_suffix("")
    stem = name.name.removesuffix("_seg")
    return name.with_name(image_stem(stem))


def _write(images: Iterable[AnnotatedImage], target: WriteTarget) -> Iterator[AnnotatedImage]:
    names = AnnotationNames()
    is_single = is_single_file(target.path, LABEL_SUFFIXES)
    images_dir = target.images_dir or (None if is_single else target.path)

    def write_file(planes: Sequence[AnnotatedImage]) -> None:
        stack = stack_axes(planes)
        sets = filled_stack(planes, stack)
        path = target.path
        if not is_single:
            file_name = planes[0].file_name
            if _CP_MASKS.fullmatch(PurePosixPath(file_name).stem):
                raise AnnotationError(
                    f"{file_name}: Cellpose would take this image for masks; rename it"
                )
            largest = max(int(instances.handles.max(initial=0)) for instances in sets)
            is_png = not stack.axes and label_dtype(largest) == np.uint16
            ending = f"_cp_masks{'.png' if is_png else '.tif'}"
            path = place_in(target.path, f"{names.name_for(file_name)}{ending}")
            # that of an older run would be read, too
            path.with_suffix(".tif" if is_png else ".png").unlink(missing_ok=True)
        write_label_image(path, sets, stack)
        if target.copies_images and images_dir is not None:
            copy_image(planes[0], images_dir)

    return write_each(images, target, write_file, is_single=is_single)


def _read_back(image: AnnotatedImage) -> ReadBack:
    read = label_image_to_instances(image.instances.label_image(), categories=image.categories)
    masks = dict(zip(read.handles.tolist(), read.masks, strict=True))
    return ReadBack(
        masks=tuple(
            (masks[handle],) if handle in masks else ()
            for handle in image.instances.handles.tolist()
        )
    )


def _looks_like(path: Path) -> bool:
    try:
        if not path.is_dir():
            return bool(_SEG.fullmatch(path.name)) or (
                path.suffix.lower() in _READ_SUFFIXES and bool(_CP_MASKS.fullmatch(path.stem))
            )
        return any(
            _SEG.fullmatch(each.name)
            or (each.suffix.lower() in _READ_SUFFIXES and _CP_MASKS.fullmatch(each.stem))
            for folder in (path, *(each for each in path.iterdir() if each.is_dir()))
            for each in folder.iterdir()
        )
    except OSError:
        return False


CELLPOSE = Format(
    name="cellpose",
    title="Cellpose masks",
    note="One number an instance, beside the image, as Cellpose trains on it. What lies under "
    "another instance, categories and scores are not in it.",
    suffixes=("_cp_masks.png", "_cp_masks.tif"),
    looks_like=_looks_like,
    read=_read,
    write=_write,
    read_back=_read_back,
    holds=frozenset({Holds.HANDLES, Holds.PLANES}),
)
