"""GeoJSON as QuPath reads and writes it: a Feature for each instance, in pixels of the full image.

What is written: ``<name>.geojson`` for each image, with all its planes; coordinates lie on pixel
edges, which is exact both ways. Next to what QuPath knows (``classification`` with its colour,
``objectType``, ``measurements``, ``id``, the ``plane`` of a geometry), our own values lie under
``napari-deeppixel``: in a feature's ``properties`` (uuid, handle, state, source, score, plane,
extra), and in the collection (size and name of the image, categories, planes with their state,
split, group and complete regions). QuPath passes over them.

What is read: a FeatureCollection, a list of Features, a single Feature or geometry; a file, or a
folder of ``.geojson`` files. The size of the image comes from its file, or from what we wrote.
"""

import json
import math
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from napari_deeppixel.core.atomic import atomic_file
from napari_deeppixel.core.instance import Instance, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.dataset.annotated import AnnotatedImage
from napari_deeppixel.dataset.formats.base import Format, Holds, WriteTarget
from napari_deeppixel.dataset.formats.geojson_read import OUR_KEY, SUFFIX, read_geojson
from napari_deeppixel.dataset.formats.image_pairs import (
    AnnotationNames,
    copy_image,
    is_single_file,
    place_in,
    stack_axes,
    write_each,
)
from napari_deeppixel.dataset.formats.instance_values import category_values, instance_values
from napari_deeppixel.dataset.formats.polygons import mask_to_polygons


def _write(images: Iterable[AnnotatedImage], target: WriteTarget) -> Iterator[AnnotatedImage]:
    is_single = is_single_file(target.path, (SUFFIX, ".json"))
    names = AnnotationNames()
    images_dir = target.images_dir or (None if is_single else target.path)

    def write_file(planes: Sequence[AnnotatedImage]) -> None:
        text = json.dumps(_document(planes), ensure_ascii=False, separators=(",", ":"))
        path = target.path
        if not is_single:
            path = place_in(target.path, f"{names.name_for(planes[0].file_name)}{SUFFIX}")
        with atomic_file(path) as file:
            # half of a surrogate pair, which only hostile names have, is no UTF-8
            file.write(text.encode("utf-8", errors="replace"))
        if target.copies_images and images_dir is not None:
            copy_image(planes[0], images_dir)

    return write_each(images, target, write_file, is_single=is_single)


def _document(planes: Sequence[AnnotatedImage]) -> dict[str, Any]:
    axes = stack_axes(planes).axes
    height, width = planes[0].image_hw
    return {
        "type": "FeatureCollection",
        "features": [
            _feature(instance, image, dict(zip(axes, image.plane, strict=True)))
            for image in planes
            for instance in image.instances
        ],
        OUR_KEY: {
            "file_name": planes[0].file_name,
            "height": height,
            "width": width,
            "categories": category_values(planes[0].categories),
            "planes": [_plane_values(image) for image in planes],
        },
    }


def _plane_values(image: AnnotatedImage) -> dict[str, Any]:
    return {
        "plane": list(image.plane),
        "state": image.state.value,
        "split": image.split.value if image.split else None,
        "group": image.group,
        "regions": [[list(point) for point in region] for region in image.regions],
        "extra": dict(image.image_extra),
    }


def _feature(instance: Instance, image: AnnotatedImage, at: dict[str, int]) -> dict[str, Any]:
    category = image.categories.by_id(instance.category_id)
    ours = {**instance_values(instance), "plane": list(image.plane)}
    extra = image.instance_extras.get(instance.uuid)
    is_open = instance.state is InstanceState.UNREVIEWED
    properties: dict[str, Any] = {
        # QuPath's word for what a program found and nobody edits
        "objectType": "detection" if is_open else "annotation",
        "classification": {
            "name": category.name,
            "color": [int(category.color[start : start + 2], 16) for start in (1, 3, 5)],
        },
        OUR_KEY: ours | ({"extra": dict(extra)} if extra else {}),
    }
    if not math.isnan(instance.score):
        properties["measurements"] = {"score": instance.score}
    geometry = _geometry(instance.mask)
    if at:
        geometry["plane"] = {"c": -1, "z": at.get("z", 0), "t": at.get("t", 0)}
    feature = {"type": "Feature", "geometry": geometry, "properties": properties}
    # QuPath drops an id that is no UUID
    return {"id": instance.uuid, **feature} if _is_uuid(instance.uuid) else feature


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _geometry(mask: CroppedMask) -> dict[str, Any]:
    # RFC 7946, 3.1.6: rings are closed, and exteriors go the other way round than holes
    polygons = [
        [[*ring.tolist(), ring[0].tolist()] for ring in polygon.rings]
        for polygon in mask_to_polygons(mask)
    ]
    if len(polygons) == 1:
        return {"type": "Polygon", "coordinates": polygons[0]}
    return {"type": "MultiPolygon", "coordinates": polygons}


def _looks_like(path: Path) -> bool:
    try:
        if path.is_dir():
            folders = [path, *(each for each in path.iterdir() if each.is_dir())]
            return any(
                each.name.lower().endswith(SUFFIX)
                for folder in folders
                for each in folder.iterdir()
            )
        if path.suffix.lower() not in (SUFFIX, ".json"):
            return False
        with path.open("rb") as file:
            start = file.read(4096)
    except OSError:
        return False
    return b'"Feature' in start or b'"geometry"' in start


GEOJSON = Format(
    name="geojson",
    title="GeoJSON (QuPath)",
    note="Outlines on pixel edges, one file an image; QuPath opens and writes it. Crowds are not "
    "in it.",
    suffixes=(SUFFIX,),
    looks_like=_looks_like,
    read=read_geojson,
    write=_write,
    holds=frozenset(
        {
            Holds.CATEGORIES,
            Holds.SCORES,
            Holds.STATES,
            Holds.SOURCES,
            Holds.IDENTITIES,
            Holds.HANDLES,
            Holds.REGIONS,
            Holds.IMAGE_STATES,
            Holds.GROUPS,
            Holds.SPLITS,
            Holds.PLANES,
            Holds.EXTRAS,
        }
    ),
)
