"""Label images beside the images: a number for each instance, 0 for the background.

What is written: ``labels/<name>.tif`` for each image, with all its planes, 16 bits a number or 32
where needed, and the images under ``images/``. A pixel shows the instance that lies on top. What
it hides is not lost: ``<name>_layer_1.tif``, ``_layer_2``, … hold, whole, each instance of which
something is hidden; read again, the pixels of one number are joined. Other programs may leave
these files alone. A single file is written the same way, its layers beside it.

What is read: ``images/x.tif`` with ``masks/x.tif`` or ``labels/x.png`` (StarDist and many others),
``x.tif`` with ``x_labels.tif``, ``x_masks.tif``, ``x_mask.png`` and the like, a folder of nothing
but label images, or a single file; and ``ID/images/ID.png`` with a file for each object in
``ID/masks/`` (`object_masks`).
"""

import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from napari_deeppixel.core.atomic import atomic_file
from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.image import ImageArray, PlaneIndex
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState
from napari_deeppixel.dataset.formats.base import Format, Holds, ReadSource, WriteTarget
from napari_deeppixel.dataset.formats.image_pairs import (
    AnnotationNames,
    StackAxes,
    copy_image,
    filled_stack,
    inside_image_folder,
    is_single_file,
    lead_axes_of,
    match_images,
    place_in,
    plane_entry,
    size_problem,
    stack_axes,
    write_each,
)
from napari_deeppixel.dataset.formats.label_layers import hidden_layers, joined_layers
from napari_deeppixel.dataset.formats.label_names import (
    LABEL_SUFFIXES,
    LabelFile,
    find_label_files,
    has_label_images,
    is_reserved_stem,
    label_file_at,
    layer_path,
)
from napari_deeppixel.dataset.formats.label_source import (
    is_picture,
    label_plane,
    numbered_instances,
    open_label_image,
)
from napari_deeppixel.dataset.formats.label_tiff import write_label_tiff
from napari_deeppixel.dataset.formats.object_masks import find_object_masks, read_object_masks
from napari_deeppixel.dataset.image_folder import IMAGE_SUFFIXES, safe_name


def read_label_files(
    files: Sequence[LabelFile],
    source: ReadSource,
    *,
    opened: Callable[[Path], ImageArray] = open_label_image,
) -> Iterator[AnnotatedImage]:
    """Yield the planes of label images, each with the image that fits its name.

    Parameters
    ----------
    files
        What to read.
    source
        Where images are found and problems are told.
    opened
        Returns the label image in a file, or raises `AnnotationError`.
    """
    no_images = [path for file in files for path in (file.path, *file.layers)]
    matched = match_images([file.name for file in files], source.images, left_out=no_images)
    categories = CategoryTable.from_names(source.default_category)
    for file in files:
        try:
            stacks = [opened(path) for path in (file.path, *file.layers)]
        except AnnotationError as error:
            if file.path == source.path:
                raise AnnotationError(f"{file.path}: {error}") from error
            source.complain(str(error), path=file.path)
            continue
        reader = _Reader(source, file, stacks, categories)
        yield from reader.images(matched.get(file.name))


class _Reader:
    """Reads the planes of one label image and its layers."""

    def __init__(
        self,
        source: ReadSource,
        file: LabelFile,
        stacks: list[ImageArray],
        categories: CategoryTable,
    ) -> None:
        self._source, self._file, self._categories = source, file, categories
        self._stacks = stacks[:1]
        for path, layer in zip(file.layers, stacks[1:], strict=True):
            if layer.pixels.shape == stacks[0].pixels.shape:
                self._stacks.append(layer)
            else:
                source.complain(
                    f"has another shape than {file.path.name}, so it is left out", path=path
                )

    def images(self, path: Path | None) -> Iterator[AnnotatedImage]:
        stack = self._stacks[0]
        problem = size_problem(path, stack.image_hw) if path else ""
        if problem:
            self._source.complain(f"{problem}: left out", path=self._file.path)
            return
        name = self._file_name(path)
        # a TIFF forgets axes of size 1
        lead_shape = lead_axes_of(path)[1]
        is_same = np.prod(lead_shape, dtype=int) == np.prod(stack.lead_shape, dtype=int)
        lead_shape = lead_shape if is_same else stack.lead_shape
        for index, plane in zip(stack.plane_indices(), np.ndindex(*lead_shape), strict=True):
            instances = self._instances(index)
            if instances is not None:
                yield AnnotatedImage.of(
                    name, instances, plane=plane, path=path, state=ImageState.DRAFT
                )

    def _file_name(self, path: Path | None) -> str:
        if path is not None:
            return self._source.images.relative_name(path)
        if self._file.name.suffix.lower() in IMAGE_SUFFIXES:
            return str(self._file.name)
        return f"{self._file.name}{self._file.path.suffix}"

    def _instances(self, index: PlaneIndex) -> InstanceSet | None:
        layers = []
        try:
            for stack in self._stacks:
                numbers, was_bool = label_plane(stack, index)
                layers.append(numbered_instances(numbers, self._categories))
                if was_bool:
                    self._tell(
                        "a mask of yes and no, without numbers: each part of it was made an "
                        "instance, so objects that touch are one",
                        index,
                    )
        except AnnotationError as error:
            self._tell(f"{error}: left out", index)
            return None
        if len(layers) == 1:
            return layers[0]
        return joined_layers(layers, self._categories, InstanceState.ACCEPTED)

    def _tell(self, message: str, index: PlaneIndex) -> None:
        self._source.complain(message, entry=plane_entry(index), path=self._file.path)


def write_label_image(path: Path, planes: Sequence[InstanceSet], stack: StackAxes) -> None:
    """Write the label images of some planes as one file, whole or not at all.

    Raises
    ------
    AnnotationError
        If a PNG is asked for, and there are several planes or a number above 65,535.
    OSError
        If it cannot be written.
    """
    if path.suffix.lower() != ".png":
        write_label_tiff(planes, path, axes=f"{stack.axes}yx", lead_shape=stack.lead_shape)
        return
    label_image = planes[0].label_image()
    if len(planes) > 1 or label_image.dtype != np.uint16:
        raise AnnotationError(
            f"{path}: a PNG holds one plane and numbers up to 65,535; write a TIFF (.tif)"
        )
    encoded = io.BytesIO()
    Image.fromarray(label_image).save(encoded, format="PNG")
    with atomic_file(path) as file:
        file.write(encoded.getvalue())


def _write_with_layers(path: Path, planes: Sequence[AnnotatedImage]) -> None:
    stack = stack_axes(planes)
    sets = filled_stack(planes, stack)
    layers = [hidden_layers(instances) for instances in sets]
    # those of an older file would be joined with the new one
    for old in itertools.takewhile(Path.exists, (layer_path(path, n) for n in itertools.count(1))):
        if not path.exists():
            raise AnnotationError(
                f"{old} is there, and would be taken for a layer of {path.name}; choose another "
                "name, or remove it"
            )
        old.unlink()
    write_label_image(path, sets, stack)
    for number in range(max(len(of_plane) for of_plane in layers)):
        layer = [
            of_plane[number] if number < len(of_plane) else instances.select([])
            for of_plane, instances in zip(layers, sets, strict=True)
        ]
        write_label_image(layer_path(path, number + 1), layer, stack)


def _write(images: Iterable[AnnotatedImage], target: WriteTarget) -> Iterator[AnnotatedImage]:
    is_single = is_single_file(target.path, LABEL_SUFFIXES)
    names = AnnotationNames(is_reserved_stem)
    taken: set[str] = set()
    images_dir = target.images_dir or (None if is_single else target.path / "images")

    def write_file(planes: Sequence[AnnotatedImage]) -> None:
        file_name = _name_inside(planes[0].file_name, taken)
        path = target.path
        if not is_single:
            name = PurePosixPath("labels", f"{names.name_for(file_name)}.tif")
            path = place_in(target.path, name)
        _write_with_layers(path, planes)
        if target.copies_images and images_dir is not None:
            copy_image(replace(planes[0], file_name=file_name), images_dir)

    return write_each(images, target, write_file, is_single=is_single)


def _name_inside(file_name: str, taken: set[str]) -> str:
    """Return an image's name inside the folder ``images``, one that nobody has yet."""
    name = str(inside_image_folder(safe_name(file_name)))
    while name.casefold() in taken:
        name = f"images/{name}"
    taken.add(name.casefold())
    return name


def _read(source: ReadSource) -> Iterator[AnnotatedImage]:
    path = source.path
    if not path.is_dir():
        yield from read_label_files([label_file_at(path)], source)
        return
    of_objects = find_object_masks(path)
    parts = {mask for each in of_objects for mask in each.masks}
    has_images = source.images.root.resolve() == path.resolve()
    files = [
        file for file in find_label_files(path, has_images=has_images) if file.path not in parts
    ]
    if not files and not of_objects:
        raise AnnotationError(
            f"{path}: no label images; expected TIFF or PNG in a folder labels or masks, or with "
            "names like x_labels.tif"
        )
    yield from read_object_masks(of_objects, source)
    yield from read_label_files(files, source)


def _looks_like(path: Path) -> bool:
    try:
        if path.is_dir():
            folders = [path, *(each for each in path.iterdir() if each.is_dir())]
            return any(has_label_images(folder) for folder in folders)
        return path.suffix.lower() in LABEL_SUFFIXES and is_picture(path)
    except OSError:
        return False


LABELS = Format(
    name="labels",
    title="Label images (TIFF, PNG)",
    note="One number an instance; read by nearly everything. Categories and scores are not in it; "
    "what overlaps goes into further files.",
    suffixes=LABEL_SUFFIXES,
    looks_like=_looks_like,
    read=_read,
    write=_write,
    holds=frozenset({Holds.HANDLES, Holds.PLANES}),
)
