"""Reads folders of Pascal VOC."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.geometry import Boxes
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState, Split
from napari_deeppixel.dataset.formats.base import ReadSource
from napari_deeppixel.dataset.formats.cvat_shapes import number_of
from napari_deeppixel.dataset.formats.image_pairs import match_images, size_problem
from napari_deeppixel.dataset.formats.label_names import files_below
from napari_deeppixel.dataset.formats.label_source import numbered_instances
from napari_deeppixel.dataset.formats.voc_lists import VocClasses, read_classes, read_splits
from napari_deeppixel.dataset.formats.voc_png import (
    VOID,
    object_numbers,
    packed_colors,
    read_numbers,
)
from napari_deeppixel.dataset.formats.xml_files import read_xml

OBJECTS = PurePosixPath("SegmentationObject")
CLASSES = PurePosixPath("SegmentationClass")
XML = PurePosixPath("Annotations")
# where we keep what only VOC knows
VOC_KEY = "voc"
_CORNERS_TOUCH = np.ones((3, 3), np.bool_)
# a box in XML belongs to the instance that it fits best, from this IoU on
_SAME_BOX_IOU = 0.5
_MAX_EDGE = 1e9
_USUAL = {("pose", "Unspecified"), ("truncated", "0"), ("difficult", "0"), ("occluded", "0")}


def find_root(path: Path) -> Path | None:
    """Return the folder that holds ``SegmentationObject``: this one, one above or up to two below.

    Raises
    ------
    OSError
        If a folder cannot be read.
    """
    if not path.is_dir():
        return None
    for folder in (path, path.parent if path.name == str(OBJECTS) else path):
        if (folder / OBJECTS).is_dir():
            return folder
    found = [each.parent for depth in ("*", "*/*") for each in path.glob(f"{depth}/{OBJECTS}")]
    return found[0] if len(found) == 1 and found[0].is_dir() else None


def read_voc(source: ReadSource) -> Iterator[AnnotatedImage]:
    """Yield the images of a folder that have a PNG in ``SegmentationObject``.

    Raises
    ------
    AnnotationError
        If there is none, or a list of the folder cannot be read.
    """
    root = find_root(source.path)
    if root is None:
        raise AnnotationError(
            f"{source.path}: no folder {OBJECTS} with a PNG of instance numbers an image; class "
            "PNGs alone do not tell objects apart"
        )
    objects = _files(root / OBJECTS, ".png")
    class_files = _files(root / CLASSES, ".png")
    xml_files = _files(root / XML, ".xml")
    for files, what in ((class_files, CLASSES), (xml_files, XML)):
        lonely = sorted(name for name in files if name not in objects)
        if lonely:
            source.complain(
                f"{len(lonely):,} images have no instances in {OBJECTS} ({lonely[0]}, …): left out",
                path=root / what,
            )
    reader = _FolderReader(source, read_classes(root, source))
    splits = read_splits(root)
    left_out = [*objects.values(), *class_files.values()]
    matched = match_images(objects, source.images, left_out=left_out)
    for name, path in objects.items():
        try:
            image = reader.image(name, path, class_files.get(name), xml_files.get(name))
            problem = size_problem(matched[name], image.image_hw) if name in matched else ""
            if problem:
                raise AnnotationError(problem)
        except AnnotationError as error:
            source.complain(f"{error}: left out", path=path)
            continue
        found = matched.get(name)
        file_name = image.file_name if found is None else source.images.relative_name(found)
        yield replace(image, file_name=file_name, path=found, split=_split(splits, name))


def _split(splits: dict[str, Split], name: PurePosixPath) -> Split | None:
    return splits.get(str(name), splits.get(name.name))


def _files(folder: Path, suffix: str) -> dict[PurePosixPath, Path]:
    if not folder.is_dir():
        return {}
    return {
        PurePosixPath(path.relative_to(folder).as_posix()).with_suffix(""): path
        for path in files_below(folder, (suffix,))
    }


class _FolderReader:
    """Reads the images of one folder, which share their categories."""

    def __init__(self, source: ReadSource, classes: VocClasses) -> None:
        self._source, self._classes = source, classes
        self._categories = classes.categories()

    def image(
        self, name: PurePosixPath, path: Path, class_path: Path | None, xml_path: Path | None
    ) -> AnnotatedImage:
        """Return an image, its file not looked for.

        Raises
        ------
        AnnotationError
            If its instances cannot be read.
        """
        instances = self._instances(path)
        boxes = self._boxes(xml_path) if xml_path is not None else []
        box_of = _matches(instances.boxes_xyxy, boxes)
        names = self._class_names(instances, class_path)
        extras: dict[str, dict[str, Any]] = {}
        ids = []
        for position, uuid in enumerate(instances.uuids):
            box = boxes[box_of[position]] if position in box_of else None
            name_there = names[position] or (box.name if box else None)
            ids.append(self._categories.id_of(name_there or self._source.default_category))
            if box is not None and box.extra:
                extras[uuid] = {VOC_KEY: box.extra}
        lonely = [box for at, box in enumerate(boxes) if at not in box_of.values()]
        maskless = [self._maskless(box, xml_path) for box in lonely]
        table = self._categories.table
        return AnnotatedImage.of(
            f"{name}.png",
            replace(instances, categories=table, category_ids=np.array(ids, np.int64)),
            state=ImageState.DRAFT,
            instance_extras=extras,
            maskless=tuple(maskless),
        )

    def _instances(self, path: Path) -> InstanceSet:
        image, _ = read_numbers(path)
        numbers = object_numbers(image)
        if image.dtype.itemsize != 2:
            is_void = numbers == VOID
            numbers = np.where(is_void, 0, numbers)
            self._tell_void(is_void, numbers > 0, path)
        return numbered_instances(numbers, CategoryTable.from_names("any"))

    def _tell_void(
        self, is_void: NDArray[np.bool_], is_object: NDArray[np.bool_], path: Path
    ) -> None:
        areas, num_areas = ndimage.label(is_void, structure=_CORNERS_TOUCH)
        near = ndimage.binary_dilation(is_object, structure=_CORNERS_TOUCH)
        num_lonely = num_areas - np.count_nonzero(np.unique(areas[near & is_void]))
        if num_lonely:
            self._tell(
                f"{num_lonely:,} areas of void (255) touch no object: what is under them is not "
                "known",
                path,
            )

    def _class_names(self, instances: InstanceSet, path: Path | None) -> list[str | None]:
        """Return the class that most pixels of each instance have; None: not known."""
        names: list[str | None] = [None] * len(instances)
        if path is None:
            return names
        try:
            image, palette = read_numbers(path)
            if image.shape != instances.image_hw:
                raise AnnotationError(
                    f"has {image.shape[0]} x {image.shape[1]} pixels, the instances "
                    f"{instances.image_hw[0]} x {instances.image_hw[1]}"
                )
        except AnnotationError as error:
            self._tell(f"{error}: classes are not known", path)
            return names
        colors = None if palette is None else packed_colors(palette)
        for position, mask in enumerate(instances.masks):
            values, counts = np.unique(image[mask.slices][mask.pixels], return_counts=True)
            order = np.argsort(-counts, kind="stable")
            found = (self._classes.name_of(int(values[at]), image, colors) for at in order)
            names[position] = next((name for name in found if name), None)
            if names[position] is None:
                self._tell(f"instance {instances.handles[position]} has no class", path)
        return names

    def _boxes(self, path: Path) -> list["_Box"]:
        boxes = []
        try:
            for number, element in enumerate(read_xml(path).iter("object"), start=1):
                try:
                    boxes.append(_box(element))
                except AnnotationError as error:
                    self._tell(f"{error}; left out", path, f"object {number}")
        except AnnotationError as error:
            self._tell(f"{error}: boxes are not known", path)
        return boxes

    def _maskless(self, box: "_Box", path: Path | None) -> dict[str, Any]:
        self._tell(f"a box of {box.name} has no mask: no instance, but kept as it is", path)
        x1, y1, x2, y2 = box.box_xyxy
        bbox = [x1, y1, x2 - x1, y2 - y1]
        return {"category_id": self._categories.id_of(box.name), "bbox": bbox}

    def _tell(self, message: str, path: Path | None, entry: str = "") -> None:
        self._source.complain(message, entry=entry, path=path)


@dataclass(frozen=True, kw_only=True)
class _Box:
    """An object in XML."""

    name: str
    box_xyxy: tuple[float, float, float, float]
    extra: dict[str, Any]


def _box(element: Element) -> _Box:
    name = element.findtext("name", "").strip()
    if not name:
        raise AnnotationError("an object without a name")
    edges = [
        number_of(element.findtext(f"bndbox/{key}", "").strip(), key)
        for key in ("xmin", "ymin", "xmax", "ymax")
    ]
    if not all(abs(edge) < _MAX_EDGE for edge in edges):
        raise AnnotationError(f"a box needs four finite numbers, got {edges}")
    # VOC counts pixels from 1, the last one included
    extra: dict[str, Any] = {
        each.tag: each.text
        for each in element
        if each.text
        and len(each) == 0
        and each.tag != "name"
        and (each.tag, each.text) not in _USUAL
    }
    attributes = {
        each.findtext("name", ""): each.findtext("value", "") for each in element.iter("attribute")
    }
    x1, y1, x2, y2 = edges
    return _Box(
        name=name,
        box_xyxy=(x1 - 1, y1 - 1, x2, y2),
        extra=extra | ({"attributes": attributes} if attributes else {}),
    )


def _matches(boxes_xyxy: Boxes, boxes: list[_Box]) -> dict[int, int]:
    """Return position of an instance → position of the box that fits it best; each is used once."""
    if not len(boxes_xyxy) or not boxes:
        return {}
    others = np.array([box.box_xyxy for box in boxes])[None]
    mine = boxes_xyxy[:, None]
    overlap = np.minimum(mine[..., 2:], others[..., 2:]) - np.maximum(
        mine[..., :2], others[..., :2]
    )
    both = np.maximum(overlap, 0).prod(axis=2)
    areas = [np.maximum(each[..., 2:] - each[..., :2], 0).prod(axis=2) for each in (mine, others)]
    ious = both / np.maximum(areas[0] + areas[1] - both, 1e-9)
    found: dict[int, int] = {}
    for flat in np.argsort(-ious, axis=None, kind="stable").tolist():
        position, other = divmod(flat, len(boxes))
        if ious[position, other] < _SAME_BOX_IOU:
            break
        if position not in found and other not in found.values():
            found[position] = other
    return found
