"""An annotation file of a dataset: a COCO document of one image, and what we keep with it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari_deeppixel.core.category import Category, palette_color
from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState, Split
from napari_deeppixel.dataset.dataset_file import DatasetFile
from napari_deeppixel.dataset.formats.base import Problem
from napari_deeppixel.dataset.formats.coco_read import planes_of_document
from napari_deeppixel.dataset.formats.coco_write import image_document
from napari_deeppixel.dataset.image_entry import (
    FILE_KEYS,
    ImageFile,
    attributes_of,
    category_names,
)


def planes_of(
    document: dict[str, Any],
    content: DatasetFile,
    *,
    name: str,
    path: Path,
    on_problem: Callable[[Problem], None],
) -> list[AnnotatedImage]:
    """Return the planes in an annotation document, in the dataset's categories.

    Categories that the dataset does not have come after those that it has. An annotation without a
    pixel is no problem here: it is kept.

    Raises
    ------
    AnnotationError
        If it is no COCO document.
    """
    document, content = in_categories(_without_ours(document, name), content)

    def tell(problem: Problem) -> None:
        # what is no instance, but among `maskless`
        if not problem.is_kept:
            on_problem(problem)

    return list(planes_of_document(document, path, tell, categories=content.categories))


def _without_ours(document: dict[str, Any], name: str) -> dict[str, Any]:
    images = document.get("images")
    if isinstance(images, list):
        images = [_image_without_ours(e, name) if isinstance(e, dict) else e for e in images]
    info = document.get("info")
    if isinstance(info, dict):
        info = {key: value for key, value in info.items() if key != "revision"}
    return {**document, "images": images} | ({"info": info} if "info" in document else {})


def _image_without_ours(entry: dict[str, Any], name: str) -> dict[str, Any]:
    attributes = {k: v for k, v in attributes_of(entry).items() if k not in FILE_KEYS}
    # the place of the file says which image it is, whatever stands in it
    without = {key: value for key, value in entry.items() if key != "attributes"}
    return without | {"file_name": name} | ({"attributes": attributes} if attributes else {})


def in_categories(
    document: dict[str, Any], content: DatasetFile
) -> tuple[dict[str, Any], DatasetFile]:
    """Return a document with the dataset's ids and names, and the dataset with what it lacks.

    Ids that have no name in the file and mean nothing in the dataset stay as they are.
    """
    names = category_names(document)
    used = [a.get("category_id") for a in _dicts(document, "annotations")]
    new_ids: dict[Any, int] = {}
    for old in dict.fromkeys([*names, *(i for i in used if isinstance(i, int | str))]):
        new = content.resolve(old, names.get(old))
        if new is None and (names.get(old) or "").strip():
            content = content.with_category(_new_category(content, str(names[old])))
            new = content.categories.categories[-1].id
        if new is not None:
            new_ids[old] = new
    annotations = [
        a | {"category_id": new_ids[a["category_id"]]} if _is_other(a, new_ids) else a
        for a in document["annotations"]
    ]
    categories = _own_entries(_dicts(document, "categories"), new_ids, content)
    return {**document, "annotations": annotations, "categories": categories}, content


def _new_category(content: DatasetFile, name: str) -> Category:
    color = palette_color(len(content.categories))
    return Category(id=content.next_category_id, name=name, color=color)


def _is_other(annotation: Any, new_ids: Mapping[Any, int]) -> bool:
    old = annotation.get("category_id") if isinstance(annotation, dict) else None
    return isinstance(old, int | str) and new_ids.get(old, old) != old


def _own_entries(
    entries: list[dict[str, Any]], new_ids: Mapping[Any, int], content: DatasetFile
) -> list[dict[str, Any]]:
    kept = {new_ids[e["id"]]: e for e in reversed(entries) if _is_known(e.get("id"), new_ids)}
    return [
        {**kept.get(c.id, {}), "id": c.id, "name": c.name, "color": c.color}
        for c in content.categories.categories
    ]


def _is_known(value: Any, new_ids: Mapping[Any, int]) -> bool:
    return isinstance(value, int | str) and value in new_ids


def _dicts(document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    values = document.get(key)
    return [v for v in values if isinstance(v, dict)] if isinstance(values, list) else []


def document_of(
    planes: Sequence[AnnotatedImage],
    content: DatasetFile,
    *,
    name: str,
    file: ImageFile,
    revision: int,
) -> dict[str, Any]:
    """Return the annotation document of planes that are in the dataset's categories."""
    named = [replace(plane, file_name=name) for plane in planes]
    document = image_document(named, content.categories)
    for entry in document["images"]:
        others = {k: v for k, v in attributes_of(entry).items() if k not in FILE_KEYS}
        entry["attributes"] = others | file.to_attributes()
    info = document["info"] if isinstance(document["info"], dict) else {}
    document["info"] = {**info, "revision": revision}
    return document


def with_kept(
    planes: Sequence[AnnotatedImage], stored: Sequence[AnnotatedImage]
) -> list[AnnotatedImage]:
    """Return planes with what only the stored ones say: unknown keys, state, split and group.

    A plane that says nothing of these (state none, no split, no group) says no to none of them.
    """
    known = {plane.plane: plane for plane in stored}
    everyone = [*planes, *stored]
    split = next((plane.split for plane in everyone if plane.split is not None), None)
    group = next((plane.group for plane in everyone if plane.group), "")
    document: dict[str, Any] = {}
    for plane in reversed(everyone):
        for key, value in plane.document.items():
            below = document.get(key)
            if isinstance(value, Mapping) and isinstance(below, Mapping):
                value = {**below, **value}
            document[key] = value
    joined = []
    for plane in planes:
        before = known.get(plane.plane)
        plane = replace(plane, split=split, group=group, document=document)
        joined.append(plane if before is None else _with_kept(plane, before))
    return joined


def _with_kept(plane: AnnotatedImage, before: AnnotatedImage) -> AnnotatedImage:
    extras = {
        uuid: _joined(before.instance_extras.get(uuid, {}), plane.instance_extras.get(uuid, {}))
        for uuid in (*plane.instances.uuids, *plane.crowds.uuids)
    }
    return replace(
        plane,
        state=before.state if plane.state is ImageState.NONE else plane.state,
        image_id=before.image_id if plane.image_id is None else plane.image_id,
        image_extra=_joined(before.image_extra, plane.image_extra),
        instance_extras={uuid: extra for uuid, extra in extras.items() if extra},
    )


def _joined(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    both = {**before, **now}
    if "attributes" in before and "attributes" in now:
        both["attributes"] = {**before["attributes"], **now["attributes"]}
    return both


def with_attributes(document: dict[str, Any], **values: Any) -> dict[str, Any]:
    """Return a document with attributes of all its planes set; None takes one away."""
    images = []
    for entry in document["images"]:
        if isinstance(entry, dict):
            attributes = {**attributes_of(entry), **values}
            attributes = {key: value for key, value in attributes.items() if value is not None}
            entry = {**entry, "attributes": attributes}
        images.append(entry)
    return {**document, "images": images}


def with_file(document: dict[str, Any], file: ImageFile) -> dict[str, Any]:
    """Return a document that says something else about its image file."""
    gone = dict.fromkeys(FILE_KEYS)
    return with_attributes(document, **gone | file.to_attributes())


def with_revision(document: dict[str, Any], revision: int) -> dict[str, Any]:
    """Return a document with another revision."""
    info = document.get("info")
    return {**document, "info": {**(info if isinstance(info, dict) else {}), "revision": revision}}


def with_name(document: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a document for an image of another name."""
    images = [{**e, "file_name": name} if isinstance(e, dict) else e for e in document["images"]]
    return {**document, "images": images}


def state_value(state: ImageState) -> str | None:
    """Return what stands for a state in a file; none is said by silence."""
    return None if state is ImageState.NONE else state.value


def split_value(split: Split | None) -> str | None:
    """Return what stands for a pin in a file."""
    return None if split is None else split.value
