"""Annotated images as COCO documents."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from napari_deeppixel.core.category import Category, CategoryTable
from napari_deeppixel.core.geometry import boxes_xyxy_to_xywh
from napari_deeppixel.core.instance import Instance, InstanceSet
from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState, in_common_table
from napari_deeppixel.dataset.formats.coco_read import MASK_KEY, mask_fingerprint
from napari_deeppixel.dataset.formats.coco_rle import mask_to_rle

_DESCRIPTION = {"description": "Instances written by napari-deeppixel"}


def image_document(planes: Sequence[AnnotatedImage], categories: CategoryTable) -> dict[str, Any]:
    """Return the COCO document of the planes of one file, in a dataset's categories.

    Category ids are those of the table, whatever the file that they once came from called them.

    Raises
    ------
    ValueError
        If there is no plane.
    """
    return _Document(categories, keeps_category_ids=False).of(planes)


def coco_document(
    images: Iterable[AnnotatedImage], categories: CategoryTable | None = None
) -> dict[str, Any]:
    """Return the COCO document (JSON values only) of images.

    Ids that images, annotations and categories had in the file that they come from stay while they
    are unique; others get the next free number.

    Parameters
    ----------
    images
        All in one table of categories, or with `categories`, of which they may hold some.
    categories
        Table of the document; None: that of the first image.

    Raises
    ------
    ValueError
        If there is no image and no table, or images of other categories without a table.
    """
    if categories is not None:
        return _Document(categories, keeps_category_ids=True).of(images)
    images = list(images)
    if not images:
        raise ValueError("nothing to write: give at least one image")
    if any(image.categories != images[0].categories for image in images):
        raise ValueError("images of one COCO file must share their categories")
    return _Document(images[0].categories, keeps_category_ids=True).of(images)


def document_bytes(document: Mapping[str, Any]) -> bytes:
    """Return a document as JSON text. Infinity, which 1e999 is read as, becomes None."""
    try:
        return json.dumps(document, allow_nan=False).encode()
    except ValueError:
        return json.dumps(_without_infinity(document), allow_nan=False).encode()


def _without_infinity(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_infinity(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_infinity(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class _Ids:
    """Gives out ids: the one wanted if it is free, else the next number."""

    def __init__(self) -> None:
        self._taken: set[tuple[type, Any]] = set()
        self._next = 1

    def give(self, wanted: Any) -> int | str:
        if isinstance(wanted, int | str) and (type(wanted), wanted) not in self._taken:
            given: int | str = wanted
        else:
            while (int, self._next) in self._taken:
                self._next += 1
            given = self._next
        self._taken.add((type(given), given))
        return given


class _Licences:
    """Licences of several files in one list: each file counts its own from 1."""

    def __init__(self) -> None:
        self.entries: list[Any] = []
        self._ids = _Ids()
        self._known: dict[str, int | str] = {}

    def ids_of(self, listed: Any) -> dict[int | str, int | str]:
        """Take over the licences of a file; return id there → id here."""
        new_ids: dict[int | str, int | str] = {}
        for entry in listed if isinstance(listed, list) else []:
            text = json.dumps(entry, sort_keys=True)
            there = entry.get("id") if isinstance(entry, dict) else None
            if text not in self._known:
                has_id = isinstance(there, int | str)
                self._known[text] = self._ids.give(there) if has_id else ""
                self.entries.append({**entry, "id": self._known[text]} if has_id else entry)
            if isinstance(there, int | str):
                new_ids[there] = self._known[text]
        return new_ids


class _Document:
    def __init__(self, categories: CategoryTable, *, keeps_category_ids: bool) -> None:
        self._table, self._keeps_ids = categories, keeps_category_ids
        self._document: dict[str, Any] = {}
        self._category_extras: dict[str, Mapping[str, Any]] = {}
        self._image_ids, self._annotation_ids = _Ids(), _Ids()
        self._licences = _Licences()

    def of(self, images: Iterable[AnnotatedImage]) -> dict[str, Any]:
        entries: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        category_id = self._category_id
        for image in images:
            image = in_common_table(image, self._table)
            licences = self._licences.ids_of(image.document.get("licenses"))
            self._add_header(image.document)
            image_id = self._image_ids.give(image.image_id)
            entries.append(_image_entry(image, image_id, licences))
            for annotation in _annotations(image):
                wanted = annotation.pop("id", None)
                values = {"id": self._annotation_ids.give(wanted), "image_id": image_id}
                annotations.append(values | annotation)
        ids = {category.id: category_id(category) for category in self._table.categories}
        if len(set(map(repr, ids.values()))) < len(ids):
            ids = {category.id: category.id for category in self._table.categories}
        for annotation in annotations:
            annotation["category_id"] = ids.get(annotation["category_id"])
        return {
            "info": _DESCRIPTION,
            **self._document,
            "images": entries,
            "annotations": annotations,
            "categories": [self._category_entry(c, ids[c.id]) for c in self._table.categories],
        }

    def _add_header(self, document: Mapping[str, Any]) -> None:
        for key, value in document.items():
            if key == "categories":
                for name, extra in value.items():
                    self._category_extras.setdefault(name, extra)
            else:
                # images of several files: what the first one says of itself stays
                self._document.setdefault(key, value)
        if self._licences.entries:
            self._document["licenses"] = self._licences.entries

    def _category_id(self, category: Category) -> int | str:
        extra = self._category_extras.get(category.name, {})
        original = extra.get("attributes", {}).get("original_id", category.id)
        return original if self._keeps_ids and isinstance(original, int | str) else category.id

    def _category_entry(self, category: Category, written_id: int | str) -> dict[str, Any]:
        extra = dict(self._category_extras.get(category.name, {}))
        attributes = dict(extra.pop("attributes", {}))
        color = attributes.get("original_color", category.color)
        if self._keeps_ids:
            attributes.pop("original_color", None)
            if written_id == attributes.get("original_id"):
                attributes.pop("original_id")
        else:
            color = category.color
        if category.key:
            attributes["key"] = category.key
        entry = {"id": written_id, "name": category.name, "color": color} | extra
        return entry | ({"attributes": attributes} if attributes else {})


def _image_entry(
    image: AnnotatedImage, image_id: int | str, licences: Mapping[int | str, int | str]
) -> dict[str, Any]:
    height, width = image.image_hw
    extra = dict(image.image_extra)
    licence = extra.get("license")
    if isinstance(licence, int | str):
        extra["license"] = licences.get(licence, licence)
    attributes = dict(extra.pop("attributes", {}))
    if image.state is not ImageState.NONE:
        attributes["state"] = image.state.value
    if image.split is not None:
        attributes["split"] = image.split.value
    if image.group:
        attributes["group"] = image.group
    if image.regions:
        attributes["complete_regions"] = [[list(point) for point in r] for r in image.regions]
    entry: dict[str, Any] = {
        "id": image_id,
        "file_name": image.file_name,
        "height": height,
        "width": width,
    }
    if image.plane:
        entry["plane"] = list(image.plane)
    return entry | extra | ({"attributes": attributes} if attributes else {})


def _annotations(image: AnnotatedImage) -> list[dict[str, Any]]:
    annotations = []
    for iscrowd, instances in ((0, image.instances), (1, image.crowds)):
        boxes_xywh = boxes_xyxy_to_xywh(instances.boxes_xyxy)
        for position, instance in enumerate(instances):
            extra = dict(image.instance_extras.get(instance.uuid, {}))
            annotation = _annotation(instance, instances, boxes_xywh[position].tolist())
            annotations.append(_with_extra(annotation | {"iscrowd": iscrowd}, instance, extra))
    # those keep what they are, but for their image
    return annotations + [
        {key: value for key, value in entry.items() if key != "image_id"}
        for entry in image.maskless
    ]


def _annotation(
    instance: Instance, instances: InstanceSet, box_xywh: list[float]
) -> dict[str, Any]:
    box = instance.predicted_box_xyxy
    annotation: dict[str, Any] = {
        "category_id": instance.category_id,
        "area": instance.area,
        "bbox": box_xywh,
        "segmentation": mask_to_rle(instance.mask, instances.image_hw),
        "attributes": {
            "uuid": instance.uuid,
            "handle": instance.handle,
            "state": instance.state.value,
            "source": instance.source,
            "predicted_box": None if np.isnan(box).any() else list(box),
        },
    }
    if not math.isnan(instance.edge_uncertainty):
        annotation["attributes"]["edge_uncertainty"] = instance.edge_uncertainty
    if instance.level:
        annotation["attributes"]["level"] = instance.level
    if not math.isnan(instance.score):
        annotation["score"] = instance.score
    return annotation


def _with_extra(
    annotation: dict[str, Any], instance: Instance, extra: dict[str, Any]
) -> dict[str, Any]:
    fingerprint = extra.pop(MASK_KEY, None)
    if fingerprint is not None and fingerprint != mask_fingerprint(instance.mask):
        # they were measured on a mask that has changed since
        extra.pop("bbox", None)
        extra.pop("area", None)
    attributes = annotation["attributes"] | dict(extra.pop("attributes", {}))
    return annotation | extra | {"attributes": attributes}
