"""Reads "CVAT for images 1.1": one XML file with all images and their shapes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState, Split
from napari_deeppixel.dataset.formats.base import ReadSource
from napari_deeppixel.dataset.formats.cvat_shapes import (
    attributes_to_mask,
    ellipse_to_mask,
    number_of,
    points_to_mask,
)
from napari_deeppixel.dataset.formats.hostile import plane_hw
from napari_deeppixel.dataset.formats.image_pairs import size_problem
from napari_deeppixel.dataset.formats.named_objects import NamedCategories, ObjectList
from napari_deeppixel.dataset.formats.xml_files import iterate_xml
from napari_deeppixel.dataset.image_folder import safe_name

# where we keep what only CVAT knows
CVAT_KEY = "cvat"
_SPLITS = {"validation": Split.VAL, "valid": Split.VAL} | {split.value: split for split in Split}
_IMAGE_ATTRIBUTES = frozenset({"id", "name", "width", "height", "subset"})
# of shapes: what is read, and where they lie
_KNOWN = frozenset(
    {"label", "z_order", "rle", "left", "top", "width", "height", "points", "cx", "cy", "rx", "ry"}
)
# every shape has these
_USUAL = {("occluded", "0"), ("source", "manual"), ("source", "file"), ("group_id", "0")}
_MAX_Z_ORDER = 1 << 31


def read_cvat(path: Path, source: ReadSource) -> Iterator[AnnotatedImage]:
    """Yield the images of a file.

    Raises
    ------
    AnnotationError
        If it is no CVAT file, or nothing of it can be read.
    """
    reader = _Reader(path, source)
    try:
        yield from reader.images()
    except AnnotationError as error:
        if not reader.num_images:
            raise
        reader.tell(f"{error}; what comes after image {reader.num_images} is lost")


class _Reader:
    """Reads one file, image by image."""

    def __init__(self, path: Path, source: ReadSource) -> None:
        self._path, self._source = path, source
        self._categories = NamedCategories()
        self.num_images = 0

    def images(self) -> Iterator[AnnotatedImage]:
        depth = 0
        has_tracks = False
        for event, element in iterate_xml(self._path):
            depth += 1 if event == "start" else -1
            if event == "start" and depth == 1 and element.tag != "annotations":
                raise AnnotationError(
                    f"{self._path}: no CVAT file; expected <annotations>, got <{element.tag:.40}>"
                )
            if event == "start" or depth != 1:
                continue
            if element.tag == "meta":
                self._categories = _categories(element, self._tell_name)
            elif element.tag == "image":
                self.num_images += 1
                image = self._image(element)
                if image is not None:
                    yield image
            has_tracks = has_tracks or element.tag == "track"
            element.clear()
        if has_tracks:
            self.tell(
                'tracks ("CVAT for video") are left out: export the task as "CVAT for images 1.1"'
            )

    def tell(self, message: str, entry: str = "") -> None:
        self._source.complain(message, entry=entry, path=self._path)

    def _tell_name(self, message: str) -> None:
        self.tell(message, "labels")

    def _image(self, element: Element) -> AnnotatedImage | None:
        attributes = element.attrib
        entry = f"image {attributes.get('name', '')!r:.200}"
        try:
            name, path = self._find(attributes.get("name", ""), attributes.get("subset", ""))
            sides = (attributes.get(side, "") for side in ("height", "width"))
            image_hw = plane_hw(*(number_of(side, "the size") for side in sides))
            problem = size_problem(path, image_hw) if path is not None else ""
            if problem:
                raise AnnotationError(problem)
        except (AnnotationError, ValueError) as error:
            # the whole part of NaN or infinity is a ValueError
            self.tell(f"{error}; left out with its shapes", entry)
            return None
        objects = _Shapes(self, name, self._categories, image_hw)
        tags = []
        for number, shape in enumerate(element, start=1):
            if shape.tag == "tag":
                tags.append(shape.get("label", ""))
            else:
                objects.add(shape, f"{shape.tag} {number} of {name}")
        extra: dict[str, Any] = {k: v for k, v in attributes.items() if k not in _IMAGE_ATTRIBUTES}
        extra |= {"tags": tags} if tags else {}
        return AnnotatedImage.of(
            name,
            objects.found.instances(image_hw, self._categories.table),
            path=path,
            state=ImageState.DRAFT,
            split=_SPLITS.get(attributes.get("subset", "").casefold()),
            image_id=attributes.get("id"),
            image_extra={CVAT_KEY: extra} if extra else {},
            instance_extras=objects.found.extras,
            maskless=tuple(objects.found.maskless),
        )

    def _find(self, name: str, subset: str) -> tuple[str, Path | None]:
        images = self._source.images
        # projects are exported with a folder for each subset
        for tried in (f"{subset}/{name}" if subset else name, name):
            path = images.find(tried)
            if path is not None:
                return images.relative_name(path), path
        return safe_name(name).as_posix(), None


class _Shapes:
    """Collects the shapes of one image."""

    def __init__(
        self, reader: _Reader, name: str, categories: NamedCategories, image_hw: tuple[int, int]
    ) -> None:
        self._reader, self._name, self._categories = reader, name, categories
        self._hw = image_hw
        self.found = ObjectList()

    def add(self, shape: Element, entry: str) -> None:
        try:
            category_id = self._categories.id_of(shape.get("label"))
        except AnnotationError as error:
            self._reader.tell(f"{error}; left out", entry)
            return
        try:
            mask = self._mask(shape)
            level = _level(shape.get("z_order", "0"))
        except AnnotationError as error:
            self._keep_maskless(shape, category_id)
            self._reader.tell(f"{error}: no instance, but kept as it is", entry)
            return
        self.found.add(mask, category_id, level=level, extra=_extra(shape))

    def _mask(self, shape: Element) -> CroppedMask:
        if shape.tag == "mask":
            mask = attributes_to_mask(shape.attrib, self._hw)
        elif shape.tag == "polygon":
            mask = points_to_mask(shape.get("points", ""), self._hw)
        elif shape.tag == "ellipse":
            mask = ellipse_to_mask(shape.attrib, self._hw)
        elif shape.tag == "box":
            raise AnnotationError("a box without a mask")
        else:
            raise AnnotationError(f"a shape <{shape.tag:.40}> has no area")
        if mask is None:
            raise AnnotationError("has no pixel in the image")
        return mask

    def _keep_maskless(self, shape: Element, category_id: int) -> None:
        if shape.tag == "box":
            try:
                box = [number_of(shape.get(k, ""), k) for k in ("xtl", "ytl", "xbr", "ybr")]
            except AnnotationError:
                box = []
            if box and all(abs(edge) < float("inf") for edge in box):
                self.found.maskless_box(category_id, box)
                return
        entry = {"type": shape.tag, **shape.attrib, **_attributes(shape)}
        self.found.maskless.append({"category_id": category_id, CVAT_KEY: entry})


def _level(z_order: str) -> int:
    number = number_of(z_order, "z_order")
    if not abs(number) < _MAX_Z_ORDER or number != int(number):
        raise AnnotationError(f"z_order must be a whole number, got {z_order!r:.40}")
    # levels begin at 0; what CVAT puts below that stays below all else
    return max(int(number), 0)


def _extra(shape: Element) -> dict[str, Any]:
    extra: dict[str, Any] = {
        key: value
        for key, value in shape.attrib.items()
        if key not in _KNOWN and (key, value) not in _USUAL
    }
    extra |= _attributes(shape)
    return {CVAT_KEY: extra} if extra else {}


def _attributes(shape: Element) -> dict[str, dict[str, str]]:
    found = {each.get("name", ""): each.text or "" for each in shape if each.tag == "attribute"}
    return {"attributes": found} if found else {}


def _categories(meta: Element, tell: Any) -> NamedCategories:
    """Return the labels of a task, in their order and colours."""
    names: list[str] = []
    colors: dict[str, str] = {}
    for label in meta.iter("label"):
        name, color = label.findtext("name", ""), label.findtext("color", "")
        if not name.strip():
            tell(f"a label without a name, color {color!r:.40}: left out")
            continue
        names.append(name)
        is_color = len(color) == 7 and color[0] == "#"
        if is_color and all(digit in "0123456789abcdefABCDEF" for digit in color[1:]):
            colors[name] = color
    categories = NamedCategories(colors)
    for name in names:
        categories.id_of(name)
    return categories
