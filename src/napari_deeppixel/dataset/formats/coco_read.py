"""COCO documents as annotated images; what is wrong is told, and the rest comes in."""

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import numpy as np

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.geometry import boxes_xyxy_to_xywh
from napari_deeppixel.core.instance import MAX_HANDLE, Instance, InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState
from napari_deeppixel.dataset.formats.base import Problem, raise_problem
from napari_deeppixel.dataset.formats.coco_categories import FileTable, id_key, whole_id
from napari_deeppixel.dataset.formats.coco_rle import segmentation_to_mask
from napari_deeppixel.dataset.formats.coco_values import (
    MAX_LEVEL,
    Taken,
    box_of,
    handle_of,
    image_state_of,
    number_of,
    outlines_of,
    share_of,
    split_of,
    state_of,
    text_of,
    whole_of,
)
from napari_deeppixel.dataset.formats.hostile import plane_hw

# fingerprint of the mask that a foreign ``bbox`` or ``area`` belongs to; in memory alone
MASK_KEY = "_mask"
IMAGE_KEYS = ("id", "file_name", "height", "width", "plane", "attributes")
IMAGE_ATTRIBUTES = ("state", "split", "group", "complete_regions")
INSTANCE_KEYS = ("image_id", "category_id", "iscrowd", "segmentation", "score", "attributes")
INSTANCE_ATTRIBUTES = (
    "uuid",
    "handle",
    "state",
    "source",
    "predicted_box",
    "edge_uncertainty",
    "level",
)
_MAX_ID = 1 << 31


def planes_of_document(
    document: Any,
    path: Path,
    on_problem: Callable[[Problem], None] = raise_problem,
    *,
    categories: CategoryTable | None = None,
) -> Iterator[AnnotatedImage]:
    """Yield the images of a COCO document, in its order.

    Parameters
    ----------
    document
        A value that came from JSON; nothing about it is trusted.
    path
        The file, for messages.
    on_problem
        Called with each entry that cannot be taken as it is.
    categories
        Table that the file's category ids belong to, whatever the file says of them. None: the
        file's own.

    Raises
    ------
    AnnotationError
        If it is no COCO document at all.
    """
    if not isinstance(document, dict):
        raise AnnotationError(f"{path}: not a COCO file: expected a JSON object")
    lists: dict[str, list[Any]] = {}
    for key in ("images", "annotations", "categories"):
        entries = document.get(key)
        if not isinstance(entries, list):
            raise AnnotationError(f"{path}: not a COCO file: it has no list of {key}")
        lists[key] = entries

    def complain(entry: str, message: str, *, is_kept: bool = False) -> None:
        on_problem(Problem(path=path, entry=entry, message=message, is_kept=is_kept))

    table = FileTable.read(lists["categories"], complain, categories)
    extra = {key: value for key, value in document.items() if key not in lists}
    header = extra | ({"categories": table.extras} if table.extras else {})
    annotations = _by_image(lists["annotations"], complain)
    names = _names(lists["images"], complain)
    for image in names:
        reader = _ImageReader(image, names[image], table, complain)
        found = reader.read(annotations.pop(id_key(image.entry["id"]), []), header)
        if found is not None:
            yield found
    for left in annotations.values():
        for annotation in left:
            where = f"annotation {annotation.get('id')!r}"
            image_id = annotation.get("image_id")
            complain(where, f"image {image_id!r} is not in the file; the annotation is left out")


def _by_image(
    entries: list[Any], complain: Callable[[str, str], None]
) -> dict[tuple[type, Any], list[dict[str, Any]]]:
    by_image: dict[tuple[type, Any], list[dict[str, Any]]] = {}
    for position, entry in enumerate(entries):
        image_id = whole_id(entry.get("image_id")) if isinstance(entry, dict) else None
        if not isinstance(image_id, int | str):
            complain(
                f"annotation at place {position}", "it names no image; the annotation is left out"
            )
        else:
            by_image.setdefault(id_key(image_id), []).append(entry)
    return by_image


@dataclass(frozen=True, eq=False)
class _ImageEntry:
    entry: dict[str, Any]


def _names(entries: list[Any], complain: Callable[[str, str], None]) -> dict[_ImageEntry, str]:
    """Return the usable entries of images with their names."""
    found: dict[_ImageEntry, str] = {}
    ids: set[tuple[type, Any]] = set()
    for position, entry in enumerate(entries):
        where = f"image at place {position}"
        if isinstance(entry, dict):
            entry = entry | {"id": whole_id(entry.get("id"))}
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), int | str):
            complain(where, "it has no id; left out with its annotations")
            continue
        if id_key(entry["id"]) in ids:
            complain(where, f"two images have the same id {entry['id']!r}; the first one counts")
            continue
        try:
            name = _file_name(entry.get("file_name"))
        except AnnotationError as error:
            complain(where, f"{error}; left out with its annotations")
            continue
        ids.add(id_key(entry["id"]))
        found[_ImageEntry(entry)] = name
    return found


def _file_name(value: Any) -> str:
    # whoever opens or writes files by it asks `image_folder.safe_name` first
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise AnnotationError(f"a file name must be text, got {value!r}")
    return value.replace("\\", "/")


class _Complain(Protocol):
    def __call__(self, entry: str, message: str, *, is_kept: bool = False) -> None: ...


class _ImageReader:
    """Reads the annotations of one image."""

    def __init__(
        self,
        image: _ImageEntry,
        name: str,
        table: FileTable,
        complain: _Complain,
    ) -> None:
        self._entry, self._name, self._table = image.entry, name, table
        self._complain = complain
        self._hw = (1, 1)
        self._handles: dict[bool, set[int]] = {False: set(), True: set()}
        self._uuids: set[str] = set()
        self._extras: dict[str, dict[str, Any]] = {}
        self._maskless: list[dict[str, Any]] = []

    def read(
        self, annotations: list[dict[str, Any]], document: Mapping[str, Any]
    ) -> AnnotatedImage | None:
        entry, take = self._entry, Taken(lambda text: self._complain(f"image {self._name}", text))
        try:
            self._hw = plane_hw(entry.get("height"), entry.get("width"))
        except AnnotationError as error:
            self._complain(f"image {self._name}", f"{error}; left out with its annotations")
            return None
        attributes = take.mapping(entry, "attributes")
        found = {0: list[Instance](), 1: list[Instance]()}
        for annotation in annotations:
            instance = self._instance(annotation)
            if instance is not None:
                found[int(bool(annotation.get("iscrowd")))].append(instance)
        unknown = {key: value for key, value in entry.items() if key not in IMAGE_KEYS}
        others = {key: value for key, value in attributes.items() if key not in IMAGE_ATTRIBUTES}
        return AnnotatedImage(
            file_name=self._name,
            instances=self._set(found[0]),
            crowds=self._set(found[1]),
            plane=take.get(entry, "plane", _plane, ()),
            regions=take.get(attributes, "complete_regions", outlines_of, ()),
            state=take.get(attributes, "state", image_state_of, ImageState.NONE),
            split=take.get(attributes, "split", split_of, None),
            group=take.get(attributes, "group", lambda v: text_of(v, "group"), ""),
            image_id=entry["id"],
            image_extra=unknown | ({"attributes": others} if others else {}),
            instance_extras=self._extras,
            maskless=tuple(self._maskless),
            document=document,
        )

    def _set(self, instances: list[Instance]) -> InstanceSet:
        largest = max((i.handle for i in instances), default=0)
        numbered = []
        for instance in instances:
            # another program may have added annotations to our file: ours keep their numbers
            if not instance.handle:
                largest += 1
                instance = replace(instance, handle=largest)
            numbered.append(instance)
        if largest > MAX_HANDLE:
            numbered = [replace(each, handle=n) for n, each in enumerate(numbered, start=1)]
        return InstanceSet.from_instances(numbered, image_hw=self._hw, categories=self._table.table)

    def _instance(self, annotation: dict[str, Any]) -> Instance | None:
        where = f"annotation {annotation.get('id')!r} of {self._name}"
        take = Taken(lambda text: self._complain(where, text))
        try:
            category_id = self._table.id_of(annotation.get("category_id"))
            mask = self._mask(annotation)
        except AnnotationError as error:
            self._complain(where, f"{error}; the annotation is left out")
            return None
        if mask is None:
            message = "has no pixel: no instance, but kept as it is"
            self._complain(where, message, is_kept=True)
            self._maskless.append(annotation | {"category_id": category_id})
            return None
        extra = take.mapping(annotation, "attributes")
        uuid = self._new_uuid(take.get(extra, "uuid", lambda v: text_of(v, "uuid"), ""), where)
        self._keep_extras(uuid, annotation, extra, mask, take)
        box = take.get(extra, "predicted_box", lambda v: box_of(v, "predicted_box"), None)
        return Instance(
            mask=mask,
            score=take.get(annotation, "score", lambda v: share_of(v, "score"), np.nan),
            category_id=category_id,
            handle=self._handle(
                take.get(extra, "handle", handle_of, 0), bool(annotation.get("iscrowd")), where
            ),
            uuid=uuid,
            state=take.get(extra, "state", state_of, _default_state(annotation)),
            source=take.get(extra, "source", lambda v: text_of(v, "source"), ""),
            predicted_box_xyxy=box or (np.nan,) * 4,
            edge_uncertainty=take.get(
                extra, "edge_uncertainty", lambda v: share_of(v, "edge_uncertainty"), np.nan
            ),
            level=take.get(
                extra, "level", lambda v: whole_of(v, "level", lowest=0, highest=MAX_LEVEL), 0
            ),
        )

    def _mask(self, annotation: dict[str, Any]) -> CroppedMask | None:
        segmentation = annotation.get("segmentation")
        return None if segmentation is None else segmentation_to_mask(segmentation, self._hw)

    def _new_uuid(self, uuid: str, where: str) -> str:
        if uuid in self._uuids:
            self._complain(where, f"uuid {uuid!r} is another one's, too; it gets a new one")
            uuid = ""
        uuid = uuid or str(uuid4())
        self._uuids.add(uuid)
        return uuid

    def _handle(self, handle: int, is_crowd: bool, where: str) -> int:
        taken = self._handles[is_crowd]
        if handle in taken:
            self._complain(where, f"number {handle} is another one's, too; it gets a new one")
            return 0
        taken.add(handle)
        # 0, which is no number, may be had by many
        taken.discard(0)
        return handle

    def _keep_extras(
        self,
        uuid: str,
        annotation: dict[str, Any],
        attributes: dict[str, Any],
        mask: CroppedMask,
        take: Taken,
    ) -> None:
        known = (*INSTANCE_KEYS, "bbox", "area")
        unknown = {key: value for key, value in annotation.items() if key not in known}
        others = {k: v for k, v in attributes.items() if k not in INSTANCE_ATTRIBUTES}
        if others:
            unknown["attributes"] = others
        # what other programs measured may differ from our tight box: kept while the mask is
        box = take.get(annotation, "bbox", _bbox, None)
        area = take.get(annotation, "area", lambda v: number_of(v, "area"), None)
        own_box = boxes_xyxy_to_xywh(np.array([mask.box_xyxy], np.float64))[0].tolist()
        if box is not None and list(box) != own_box:
            unknown |= {"bbox": annotation["bbox"], MASK_KEY: mask_fingerprint(mask)}
        if area is not None and area != mask.area:
            unknown |= {"area": annotation["area"], MASK_KEY: mask_fingerprint(mask)}
        if unknown:
            self._extras[uuid] = unknown


def _default_state(annotation: dict[str, Any]) -> InstanceState:
    # what another program gives without a score was drawn by people, or taken for true by them
    is_prediction = annotation.get("score") is not None
    return InstanceState.UNREVIEWED if is_prediction else InstanceState.ACCEPTED


def mask_fingerprint(mask: CroppedMask) -> int:
    """Return a number that another mask hardly has."""
    return zlib.crc32(repr(mask.box_xyxy).encode() + np.packbits(mask.pixels).tobytes())


def _bbox(value: Any) -> tuple[float, ...]:
    box = box_of(value, "bbox")
    if box[2] < 0 or box[3] < 0:
        raise AnnotationError(f"bbox must not have a negative size, got {value!r}")
    return box


def _plane(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > 8:
        raise AnnotationError(f"plane must be a list of indices, got {value!r}")
    return tuple(whole_of(each, "plane", lowest=0, highest=_MAX_ID) for each in value)
