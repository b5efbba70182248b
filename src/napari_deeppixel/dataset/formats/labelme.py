"""LabelMe: a JSON file an image, with a shape an object.

Written are shapes of type ``mask`` (LabelMe 5.3 and later): a PNG in base64 whose first pixel is at
the first of two points, the second being its last pixel. They hold everything exactly. What
LabelMe has no place for lies under a key of ours, which LabelMe keeps when it saves the file.

Polygons, rectangles and circles are read as lying on pixel *edges*, because that is where LabelMe
shows them, and because its own `labelme2coco` hands the points to COCO unchanged. LabelMe's
`shape_to_mask` draws them with an outline instead, half a pixel larger all around.
"""

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from napari_deeppixel.core.atomic import atomic_file
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.instance import Instance
from napari_deeppixel.dataset.annotated import AnnotatedImage
from napari_deeppixel.dataset.formats.base import Format, Holds, ReadBack, ReadSource, WriteTarget
from napari_deeppixel.dataset.formats.flat_files import FlatImage, put_image, write_flat
from napari_deeppixel.dataset.formats.image_pairs import place_in
from napari_deeppixel.dataset.formats.label_names import files_below
from napari_deeppixel.dataset.formats.labelme_read import OUR_KEY, SHAPE_KEYS, TOP_KEYS, read_file
from napari_deeppixel.dataset.formats.labelme_shapes import mask_to_shape, shape_to_mask
from napari_deeppixel.dataset.formats.named_objects import NamedCategories

_VERSION = "5.5.0"
# LabelMe writes the shapes before the image
_LOOK_BYTES = 4096
# enough of a look, should this be somebody's whole home folder
_LOOK_ENTRIES = 1000


def image_document(image: AnnotatedImage, image_path: str) -> dict[str, Any]:
    """Return the LabelMe document (JSON values only) of an image.

    Parameters
    ----------
    image
        A flat image, or one plane.
    image_path
        Where the image file is, relative to the document.
    """
    named = [(image.categories.name_of(each.category_id), each) for each in image.instances]
    crowds = [(image.categories.name_of(each.category_id), each) for each in image.crowds]
    groups = Counter(
        (label, repr(image.instance_extras.get(each.uuid, {}).get("group_id")))
        for label, each in named + crowds
    )
    shapes = []
    for position, (label, each) in enumerate(named + crowds):
        extra = dict(image.instance_extras.get(each.uuid, {}))
        is_single = groups[label, repr(extra.get("group_id"))] == 1
        ours = _ours(each) | ({"is_crowd": True} if position >= len(named) else {})
        shapes.append(_shape(label, each, extra, ours, keeps_group=is_single))
    about = {"state": image.state.value, "split": image.split, "group": image.group}
    top, rest = _sorted_extra(image.image_extra, TOP_KEYS, keeps_group=True)
    return (
        {"version": _VERSION, "flags": {}}
        | top
        | {
            "shapes": shapes,
            "imagePath": image_path,
            "imageData": None,
            "imageHeight": image.image_hw[0],
            "imageWidth": image.image_hw[1],
            OUR_KEY: about | ({"extra": rest} if rest else {}),
        }
    )


def _shape(
    label: str,
    instance: Instance,
    extra: Mapping[str, Any],
    ours: dict[str, Any],
    *,
    keeps_group: bool,
) -> dict[str, Any]:
    known, rest = _sorted_extra(extra, SHAPE_KEYS, keeps_group=keeps_group)
    if rest:
        ours["extra"] = rest
    empty: dict[str, Any] = {"group_id": None, "description": "", "flags": {}}
    return {"label": label} | mask_to_shape(instance.mask) | empty | known | {OUR_KEY: ours}


def _ours(instance: Instance) -> dict[str, Any]:
    values = {
        "uuid": instance.uuid,
        "handle": instance.handle,
        "state": instance.state.value,
        "source": instance.source,
        "score": instance.score,
        "edge_uncertainty": instance.edge_uncertainty,
        "level": instance.level,
    }
    if not any(math.isnan(edge) for edge in instance.predicted_box_xyxy):
        values["predicted_box"] = list(instance.predicted_box_xyxy)
    return {
        key: value
        for key, value in values.items()
        if not (isinstance(value, float) and math.isnan(value))
    }


def _sorted_extra(
    extra: Mapping[str, Any], taken: frozenset[str], *, keeps_group: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what LabelMe takes as it is, and what it would refuse or mix up."""
    known: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for key, value in extra.items():
        is_fine = key not in taken
        if key == "flags":
            is_fine = isinstance(value, dict) and all(isinstance(v, bool) for v in value.values())
        elif key == "description":
            is_fine = isinstance(value, str)
        elif key == "group_id":
            is_fine = isinstance(value, int) and not isinstance(value, bool) and keeps_group
        (known if is_fine else rest)[key] = value
    return known, rest


def _write(images: Iterable[AnnotatedImage], target: WriteTarget) -> Iterator[AnnotatedImage]:
    target.path.mkdir(parents=True, exist_ok=True)
    return write_flat(images, target, partial(_write_image, target))


def _write_image(target: WriteTarget, flat: FlatImage) -> None:
    # LabelMe looks for an image's file beside the image
    folder = (target.images_dir or target.path) if target.copies_images else None
    path = place_in(target.path, f"{flat.name}.json")
    document = image_document(flat.image, _image_path(flat, path, folder))
    with atomic_file(path) as file:
        file.write(json.dumps(document, indent=1).encode())


def _image_path(flat: FlatImage, path: Path, folder: Path | None) -> str:
    """Copy the image and return where it is, seen from the document."""
    name = put_image(flat, folder)
    place = folder / name if folder is not None else flat.image.path
    if place is None or (flat.image.path is None and folder is not None):
        return name.name
    try:
        return Path(os.path.relpath(place.absolute(), path.parent.absolute())).as_posix()
    except ValueError:
        # on another drive
        return name.name


def _read(source: ReadSource) -> Iterator[AnnotatedImage]:
    categories = NamedCategories()
    if not source.path.is_dir():
        yield read_file(source.path, source, categories)
        return
    paths = files_below(source.path, (".json",))
    if not paths:
        raise AnnotationError(f"{source.path}: no LabelMe files (*.json)")
    for path in paths:
        try:
            image = read_file(path, source, categories)
        except AnnotationError as error:
            source.complain(f"{error}: left out", path=path)
            continue
        yield image


def _read_back(image: AnnotatedImage) -> ReadBack:
    masks = [shape_to_mask(mask_to_shape(mask), image.image_hw) for mask in image.instances.masks]
    return ReadBack(masks=tuple(() if mask is None else (mask,) for mask in masks))


def _looks_like(path: Path) -> bool:
    try:
        if path.is_dir():
            found = islice(path.rglob("*"), _LOOK_ENTRIES)
            return any(_is_labelme(each) for each in found if each.suffix == ".json")
        return path.suffix.lower() == ".json" and _is_labelme(path)
    except OSError:
        return False


def _is_labelme(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(_LOOK_BYTES)
    return b'"shapes"' in start and (b'"version"' in start or b'"imagePath"' in start)


LABELME = Format(
    name="labelme",
    title="LabelMe",
    note="A JSON file an image, beside it; masks as they are. Ids and colours of categories are "
    "not in it.",
    looks_like=_looks_like,
    read=_read,
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
            Holds.CROWDS,
            Holds.IMAGE_STATES,
            Holds.GROUPS,
            Holds.SPLITS,
            Holds.EXTRAS,
        }
    ),
)
