"""YOLO segmentation, as Ultralytics documents it: a line of text an object, a text file an image.

A line holds the class index and the corners of one polygon, x and y as shares of the image's width
and height (docs.ultralytics.com/datasets/segment). One polygon an object: holes and parts are
joined by cuts without a width, as Ultralytics itself does when it converts COCO. Polygons are
written along pixel edges and read by COCO's rule, which gives back exactly what was written.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import yaml
from numpy.typing import NDArray

from napari_deeppixel.core.atomic import atomic_file
from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import AnnotationError, ImageError
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState, Split
from napari_deeppixel.dataset.formats.base import Format, Holds, ReadBack, ReadSource, WriteTarget
from napari_deeppixel.dataset.formats.flat_files import FlatImage, put_image, write_flat
from napari_deeppixel.dataset.formats.hostile import read_text
from napari_deeppixel.dataset.formats.image_pairs import match_images, place_in
from napari_deeppixel.dataset.formats.named_objects import ObjectList
from napari_deeppixel.dataset.formats.polygons import mask_to_keyhole, rings_to_mask
from napari_deeppixel.dataset.formats.yolo_folder import (
    DATA_FILE,
    YoloFolder,
    looks_like_yolo,
    open_yolo_folder,
)
from napari_deeppixel.dataset.image_file import image_hw

# Ultralytics finds labels by turning the last "images" of a path into "labels"
_LAYOUT_FOLDERS = ("images", "labels")
# what rounding may put outside of 0..1
_TOLERANCE = 1e-6


def _line(mask: CroppedMask, class_index: int, plane_hw: tuple[int, int]) -> str:
    height, width = plane_hw
    shares = mask_to_keyhole(mask) / np.array([width, height])
    # exact to a thousandth of a pixel
    digits = len(str(max(plane_hw))) + 3
    return " ".join([str(class_index), *(f"{share:.{digits}f}" for share in shares.ravel())])


def _class_indices(categories: CategoryTable) -> dict[int, int]:
    return {category.id: index for index, category in enumerate(categories.categories)}


def _write(images: Iterable[AnnotatedImage], target: WriteTarget) -> Iterator[AnnotatedImage]:
    target.path.mkdir(parents=True, exist_ok=True)
    yield from write_flat(_renamed(images), target, partial(_write_image, target))
    _write_data_file(target)


def _renamed(images: Iterable[AnnotatedImage]) -> Iterator[AnnotatedImage]:
    """Yield images under names without folders of the layout; equal ones are numbered."""
    owners: dict[str, str] = {}
    for image in images:
        path = PurePosixPath(image.file_name)
        folders = [each for each in path.parent.parts if each.casefold() not in _LAYOUT_FOLDERS]
        endings = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
        names = (str(PurePosixPath(*folders, path.stem + end + path.suffix)) for end in endings)
        # planes of a stack share a name
        name = next(
            n for n in names if owners.setdefault(n.casefold(), image.file_name) == image.file_name
        )
        yield image if name == image.file_name else replace(image, file_name=name)


def _write_image(target: WriteTarget, flat: FlatImage) -> None:
    image = flat.image
    indices = _class_indices(target.categories)
    images_dir = (target.images_dir or target.path / "images") if target.copies_images else None
    # every image needs one: those that nobody assigned are for training
    split = (image.split or Split.TRAIN).value
    put_image(flat, None if images_dir is None else images_dir / split)
    lines = [
        _line(instance.mask, indices[instance.category_id], image.image_hw) + "\n"
        for instance in image.instances
    ]
    path = place_in(target.path, PurePosixPath("labels", split, f"{flat.name}.txt"))
    with atomic_file(path) as file:
        file.write("".join(lines).encode())


def _write_data_file(target: WriteTarget) -> None:
    labels = target.path / "labels"
    splits = {split.value for split in Split if (labels / split.value).is_dir()} | {"train"}
    # Ultralytics asks for train and val, even if nothing was kept back
    folders = {"train": "train", "val": "val" if "val" in splits else "train"}
    folders |= {"test": "test"} if "test" in splits else {}
    document = {name: f"images/{folder}" for name, folder in folders.items()}
    names = {index: c.name for index, c in enumerate(target.categories.categories)}
    text = yaml.safe_dump(document | {"names": names}, allow_unicode=True, sort_keys=False)
    with atomic_file(target.path / DATA_FILE) as file:
        file.write(text.encode())


def _read(source: ReadSource) -> Iterator[AnnotatedImage]:
    folder = open_yolo_folder(source)
    found = match_images(folder.labels, source.images)
    for name, path in folder.labels.items():
        image_path = found.get(name)
        if image_path is None:
            source.complain(
                f"no image {name} in {source.images.root}, whose size is needed: left out",
                path=path,
            )
            continue
        try:
            reader = _LabelFile(source, path, folder, image_hw(image_path))
            yield reader.image(image_path, folder.split_of(name))
        except (AnnotationError, ImageError) as error:
            source.complain(f"{error}: left out", path=path)


class _LabelFile:
    """Reads the label file of one image."""

    def __init__(
        self, source: ReadSource, path: Path, folder: YoloFolder, plane_hw: tuple[int, int]
    ) -> None:
        self._source, self._path, self._folder, self._hw = source, path, folder, plane_hw
        self._objects = ObjectList()

    def image(self, image_path: Path, split: Split | None) -> AnnotatedImage:
        for number, line in enumerate(read_text(self._path).splitlines(), start=1):
            if not line.strip():
                continue
            try:
                self._add(line.split(), f"line {number}")
            except AnnotationError as error:
                self._tell(f"{error}; left out", f"line {number}")
        return AnnotatedImage.of(
            self._source.images.relative_name(image_path),
            self._objects.instances(self._hw, self._folder.categories),
            instance_extras=self._objects.extras,
            maskless=tuple(self._objects.maskless),
            path=image_path,
            state=ImageState.DRAFT,
            split=split,
        )

    def _add(self, words: list[str], entry: str) -> None:
        numbers = _numbers(words)
        category_id = self._folder.category_id_of(numbers[0])
        values = numbers[1:]
        if len(values) == 4:
            half = values[2:] / 2
            box = self._to_pixels(np.stack([values[:2] - half, values[:2] + half]), entry)
            self._objects.maskless_box(category_id, box.ravel().tolist())
            self._tell("a box without a mask: no instance, but kept as it is", entry)
            return
        if len(values) < 6 or len(values) % 2:
            raise AnnotationError(
                f"expected a class and 3 corners x y or more, got {len(numbers)} numbers"
            )
        ring = self._to_pixels(values.reshape(-1, 2), entry)
        mask = rings_to_mask([ring], self._hw)
        if mask is None:
            raise AnnotationError("the polygon has no pixel")
        self._objects.add(mask, category_id)

    def _to_pixels(self, shares: NDArray[np.float64], entry: str) -> NDArray[np.float64]:
        inside = np.clip(shares, 0, 1)
        if np.abs(inside - shares).max() > _TOLERANCE:
            self._tell(
                f"coordinates must lie in 0..1, got {shares.min():g} to {shares.max():g}; cut off "
                "at the image's border",
                entry,
            )
        height, width = self._hw
        return np.multiply(inside, [width, height])

    def _tell(self, message: str, entry: str) -> None:
        self._source.complain(message, entry=entry, path=self._path)


def _numbers(words: list[str]) -> NDArray[np.float64]:
    try:
        numbers = np.array([float(word) for word in words])
    except ValueError as error:
        raise AnnotationError(f"expected numbers ({error})") from error
    if not np.isfinite(numbers).all():
        raise AnnotationError("expected finite numbers, got nan or inf")
    return numbers


def _read_back(image: AnnotatedImage) -> ReadBack:
    height, width = image.image_hw
    scale = np.array([width, height])
    masks = []
    for instance in image.instances:
        words = _line(instance.mask, 0, image.image_hw).split()
        mask = rings_to_mask([_numbers(words)[1:].reshape(-1, 2) * scale], image.image_hw)
        masks.append(() if mask is None else (mask,))
    return ReadBack(masks=tuple(masks))


YOLO = Format(
    name="yolo",
    title="YOLO segmentation",
    note="For training with Ultralytics. Holes and parts of an object are joined to one polygon; "
    "scores, states and numbers of instances are not in it.",
    looks_like=looks_like_yolo,
    read=_read,
    write=_write,
    read_back=_read_back,
    holds=frozenset({Holds.CATEGORIES, Holds.SPLITS}),
)
