"""Pascal VOC: an instance PNG, a class PNG and an XML file an image, and lists of images.

``SegmentationObject`` holds the number of an instance at each pixel, ``SegmentationClass`` that of
its class; ``labelmap.txt``, which CVAT and datumaro added, names the classes. A PNG holds 254
instances, and of what overlaps only the top-most.

255 is *void*: VOC draws a border of it round each object, and over what was too difficult. It
belongs to no instance. Void that touches an object is taken for its border; what lies elsewhere is
told, because there may be objects under it.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.core.atomic import atomic_file
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.dataset.annotated import AnnotatedImage
from napari_deeppixel.dataset.formats.base import Format, Holds, ReadBack, WriteTarget
from napari_deeppixel.dataset.formats.flat_files import FlatImage, put_image, write_flat
from napari_deeppixel.dataset.formats.image_pairs import place_in
from napari_deeppixel.dataset.formats.voc_lists import (
    LABELMAP,
    LISTS,
    NO_SPLIT,
    class_palette,
    labelmap_text,
    list_text,
)
from napari_deeppixel.dataset.formats.voc_png import (
    decode_numbers,
    draw_numbers,
    encode_numbers,
    instance_numbers,
    object_numbers,
    voc_colors,
)
from napari_deeppixel.dataset.formats.voc_read import (
    CLASSES,
    OBJECTS,
    VOC_KEY,
    XML,
    find_root,
    read_voc,
)
from napari_deeppixel.dataset.formats.xml_files import xml_text

_IMAGES = "JPEGImages"
# of an object in XML, next to its name and box
_FLAGS = ("pose", "truncated", "difficult", "occluded")


def _write(images: Iterable[AnnotatedImage], target: WriteTarget) -> Iterator[AnnotatedImage]:
    text = labelmap_text(target.categories)
    palette = class_palette(target.categories)
    target.path.mkdir(parents=True, exist_ok=True)
    lists: dict[str, list[str]] = {}

    def write_one(flat: FlatImage) -> None:
        _write_image(flat, target, palette)
        lists.setdefault(flat.image.split or NO_SPLIT, []).append(str(flat.name))

    yield from write_flat(images, target, write_one)
    _put(target.path, PurePosixPath(LABELMAP), text.encode())
    for split, names in lists.items():
        _put(target.path, LISTS / f"{split}.txt", list_text(names).encode())


def _write_image(flat: FlatImage, target: WriteTarget, palette: NDArray[np.uint8]) -> None:
    images_dir = (target.images_dir or target.path / _IMAGES) if target.copies_images else None
    image, name, image_name = flat.image, flat.name, put_image(flat, images_dir)
    numbers = instance_numbers(image.instances)
    drawn = draw_numbers(image.instances, numbers)
    class_of_number = np.zeros(256, np.uint8)
    class_of_number[numbers] = _class_indices(image)
    class_of_number[0] = 0
    png = name.with_name(f"{name.name}.png")
    _put(target.path, OBJECTS / png, encode_numbers(drawn, voc_colors()))
    _put(target.path, CLASSES / png, encode_numbers(class_of_number[drawn], palette))
    text = "\n".join(_xml_lines(image, numbers, drawn, image_name)) + "\n"
    _put(target.path, XML / name.with_name(f"{name.name}.xml"), text.encode())


def _put(root: Path, name: PurePosixPath, data: bytes) -> None:
    with atomic_file(place_in(root, name)) as file:
        file.write(data)


def _class_indices(image: AnnotatedImage) -> NDArray[np.int64]:
    indices = {c.id: index for index, c in enumerate(image.categories.categories, start=1)}
    return np.array([indices[i] for i in image.instances.category_ids.tolist()], np.int64)


def _visible(mask: CroppedMask, drawn: NDArray[Any], number: int) -> CroppedMask | None:
    """Return what shows of a mask in drawn numbers (H, W); None if nothing does."""
    if not number:
        return None
    return CroppedMask.from_mask(drawn[mask.slices] == number, y=mask.y, x=mask.x)


def _xml_lines(
    image: AnnotatedImage,
    numbers: NDArray[np.int64],
    drawn: NDArray[np.uint8],
    image_name: PurePosixPath,
) -> Iterator[str]:
    height, width = image.image_hw
    yield "<annotation>"
    yield f"  <filename>{escape(image_name.as_posix())}</filename>"
    yield f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    yield "  <segmented>1</segmented>"
    # VOC's objects are in the order of their numbers
    for position in np.argsort(numbers, kind="stable").tolist():
        instance = image.instances[position]
        visible = _visible(instance.mask, drawn, int(numbers[position]))
        if visible is None:
            continue
        x1, y1, x2, y2 = visible.box_xyxy
        name = escape(xml_text(image.categories.name_of(instance.category_id), "category"))
        yield f"  <object><name>{name}</name>{_flags(image, instance.uuid)}"
        # VOC counts pixels from 1, the last one included
        yield (
            f"    <bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin>"
            f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        )
    yield "</annotation>"


def _flags(image: AnnotatedImage, uuid: str) -> str:
    extra = image.instance_extras.get(uuid, {}).get(VOC_KEY)
    known = extra if isinstance(extra, dict) else {}
    return "".join(
        f"<{key}>{escape(xml_text(known[key], key))}</{key}>"
        for key in _FLAGS
        if isinstance(known.get(key), str)
    )


def _read_back(image: AnnotatedImage) -> ReadBack:
    numbers = instance_numbers(image.instances)
    data = encode_numbers(draw_numbers(image.instances, numbers), voc_colors())
    decoded = object_numbers(decode_numbers(data)[0])
    masks: list[tuple[CroppedMask, ...]] = []
    for mask, number in zip(image.instances.masks, numbers.tolist(), strict=True):
        left = _visible(mask, decoded, number)
        masks.append(() if left is None else (left,))
    is_renumbered = (numbers > 0) & (numbers != image.instances.handles)
    return ReadBack(masks=tuple(masks), renumbered=int(is_renumbered.sum()))


def _looks_like(path: Path) -> bool:
    try:
        return find_root(path) is not None
    except OSError:
        return False


VOC = Format(
    name="voc",
    title="Pascal VOC",
    note="A folder of PNGs and XML files; 254 instances an image, and of what overlaps only the "
    "top-most. Scores and states are not in it.",
    looks_like=_looks_like,
    read=read_voc,
    write=_write,
    read_back=_read_back,
    holds=frozenset({Holds.CATEGORIES, Holds.HANDLES, Holds.SPLITS}),
)
