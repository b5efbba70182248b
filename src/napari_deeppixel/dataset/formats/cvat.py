"""CVAT: "CVAT for images 1.1", one XML file for all images, with masks as run lengths.

Masks are exact. Which one lies over another is CVAT's ``z_order``, our level. What else CVAT knows
of a shape (occluded, group, its attributes) is kept and written again. CVAT's export as COCO is
read by the COCO format.

Written as CVAT exports a project with a task for each subset: datumaro takes images of subsets from
projects only.
"""

import itertools
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.core.atomic import atomic_file
from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.dataset.annotated import AnnotatedImage
from napari_deeppixel.dataset.formats.base import Format, Holds, ReadBack, ReadSource, WriteTarget
from napari_deeppixel.dataset.formats.cvat_read import CVAT_KEY, read_cvat
from napari_deeppixel.dataset.formats.cvat_shapes import attributes_to_mask, mask_to_attributes
from napari_deeppixel.dataset.formats.flat_files import FlatImage, put_image, write_flat
from napari_deeppixel.dataset.formats.xml_files import xml_text

_FILE_NAME = "annotations.xml"
_LOOK_BYTES = 65_536
# as CVAT calls the subset of images that are in no split
_NO_SPLIT = "default"
# what CVAT itself says of a shape that a person drew; extras may say otherwise
_SHAPE_DEFAULTS = {"source": "manual", "occluded": "0"}
_SHAPE_KEYS = ("source", "occluded", "group_id")


def z_orders(instances: InstanceSet) -> NDArray[np.int64]:
    """Return 0 for instances (N,) that lie over no other one, else 1 more than these."""
    orders = np.zeros(len(instances), np.int64)
    left, top, right, bottom = instances.boxes_xyxy.T
    is_below = np.zeros(len(instances), np.bool_)
    for position in instances.drawing_order().tolist():
        mask = instances.masks[position]
        x1, y1, x2, y2 = mask.box_xyxy
        is_near = is_below & (left < x2) & (right > x1) & (top < y2) & (bottom > y1)
        for other in np.flatnonzero(is_near).tolist():
            if orders[other] >= orders[position] and mask.intersection(instances.masks[other]):
                orders[position] = orders[other] + 1
        is_below[position] = True
    return orders


def _write(images: Iterable[AnnotatedImage], target: WriteTarget) -> Iterator[AnnotatedImage]:
    is_folder = target.path.suffix.lower() != ".xml" or target.path.is_dir()
    path = target.path / _FILE_NAME if is_folder else target.path
    images_dir = target.images_dir or (target.path / "images" if is_folder else None)
    path.parent.mkdir(parents=True, exist_ok=True)
    # the subsets come before the images, and are known after them
    with atomic_file(path) as file, tempfile.TemporaryFile() as body:
        subsets: dict[str, None] = {}
        ids = itertools.count()

        def write_one(flat: FlatImage) -> None:
            name = put_image(flat, images_dir if target.copies_images else None)
            # whole before it goes into the file, or an error in the midst would stay there
            lines = list(_image(flat.image, name.as_posix(), next(ids)))
            _write_lines(body, *lines)
            subsets[_subset(flat.image)] = None

        yield from write_flat(images, target, write_one)
        _write_lines(file, '<?xml version="1.0" encoding="utf-8"?>', "<annotations>")
        _write_lines(file, "  <version>1.1</version>", *_meta(target.categories, subsets))
        body.seek(0)
        shutil.copyfileobj(body, file)
        _write_lines(file, "</annotations>")


def _subset(image: AnnotatedImage) -> str:
    return _NO_SPLIT if image.split is None else image.split.value


def _write_lines(file: IO[bytes], *lines: str) -> None:
    file.write("".join(f"{line}\n" for line in lines).encode())


def _meta(categories: CategoryTable, subsets: Iterable[str]) -> list[str]:
    labels = [
        f"        <label><name>{escape(xml_text(category.name, 'category'))}</name>"
        f"<color>{category.color}</color><attributes></attributes></label>"
        for category in categories.categories
    ]
    return [
        "  <meta>",
        "    <project>",
        "      <tasks>",
        *(f"        <task><subset>{subset}</subset></task>" for subset in subsets),
        "      </tasks>",
        "      <labels>",
        *labels,
        "      </labels>",
        "    </project>",
        "  </meta>",
    ]


def _tag(name: str, attributes: Mapping[str, Any]) -> str:
    written = "".join(
        f" {key}={quoteattr(xml_text(str(value), key))}" for key, value in attributes.items()
    )
    return f"<{name}{written}>"


def _image(image: AnnotatedImage, name: str, number: int) -> Iterator[str]:
    height, width = image.image_hw
    place = {"id": number, "name": name, "subset": _subset(image)}
    yield "  " + _tag("image", place | {"width": width, "height": height})
    orders = z_orders(image.instances)
    for instance, z_order in zip(image.instances, orders.tolist(), strict=True):
        extra = image.instance_extras.get(instance.uuid, {}).get(CVAT_KEY)
        extra = extra if isinstance(extra, dict) else {}
        attributes = {"label": image.categories.name_of(instance.category_id)} | _SHAPE_DEFAULTS
        attributes |= {key: extra[key] for key in _SHAPE_KEYS if isinstance(extra.get(key), str)}
        attributes |= mask_to_attributes(instance.mask) | {"z_order": str(z_order)}
        yield f"    {_tag('mask', attributes)}"
        more = extra.get("attributes")
        for key, value in more.items() if isinstance(more, dict) else ():
            text = escape(xml_text(str(value), "attribute"))
            yield f"      {_tag('attribute', {'name': key})}{text}</attribute>"
        yield "    </mask>"
    yield "  </image>"


def _read(source: ReadSource) -> Iterator[AnnotatedImage]:
    path = source.path
    if not path.is_dir():
        yield from read_cvat(path, source)
        return
    paths = [each for each in sorted(path.glob("*.xml")) if _is_cvat(each)]
    if not paths:
        raise AnnotationError(f"{path}: no CVAT file ({_FILE_NAME})")
    for each in paths:
        yield from read_cvat(each, source)


def _read_back(image: AnnotatedImage) -> ReadBack:
    masks = [
        attributes_to_mask(mask_to_attributes(mask), image.image_hw)
        for mask in image.instances.masks
    ]
    return ReadBack(masks=tuple(() if mask is None else (mask,) for mask in masks))


def _looks_like(path: Path) -> bool:
    try:
        if path.is_dir():
            return any(_is_cvat(each) for each in path.glob("*.xml"))
        return path.suffix.lower() == ".xml" and _is_cvat(path)
    except OSError:
        return False


def _is_cvat(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return b"<annotations>" in file.read(_LOOK_BYTES)


CVAT = Format(
    name="cvat",
    title="CVAT for images 1.1",
    note="One XML file for all images, to and from CVAT; masks as they are. Scores, states and "
    "numbers of instances are not in it.",
    suffixes=(".xml",),
    looks_like=_looks_like,
    read=_read,
    write=_write,
    read_back=_read_back,
    holds=frozenset({Holds.CATEGORIES, Holds.SPLITS}),
)
