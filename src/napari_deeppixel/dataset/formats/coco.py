"""COCO JSON: instances with run-length coded masks, to and from files.

Polygons are read as COCO's own `frPyObjects` rasterises them; written masks are always run lengths,
which are exact. Our own fields (uuid, state, source, handle) travel under ``attributes``.
"""

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from faster_coco_eval import mask_api_new_cpp as coco_mask
from numpy.typing import NDArray

from napari_deeppixel.core.atomic import atomic_file
from napari_deeppixel.core.category import Category, CategoryTable, palette_color
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.geometry import boxes_xyxy_to_xywh
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.core.mask import (
    CroppedMask,
    mask_to_rle_counts,
    rle_counts_to_mask,
)
from napari_deeppixel.dataset.annotated import AnnotatedImage


def mask_to_rle(mask: CroppedMask, image_hw: tuple[int, int]) -> dict[str, Any]:
    """Return COCO's compressed run-length dict (``size``, ``counts`` as text) of a mask."""
    runs = {"size": list(image_hw), "counts": mask_to_rle_counts(mask, image_hw)}
    rle: dict[str, Any] = coco_mask.frPyObjects(runs, *image_hw)
    counts = rle["counts"]
    return {
        "size": list(image_hw),
        "counts": counts.decode() if isinstance(counts, bytes) else counts,
    }


def segmentation_to_mask(segmentation: Any, image_hw: tuple[int, int]) -> CroppedMask | None:
    """Return the mask of a COCO ``segmentation``: polygons or run lengths, packed or not.

    None if it sets no pixel.

    Raises
    ------
    AnnotationError
        If it is none of these, or its size is not the image's.
    """
    height, width = image_hw
    try:
        if isinstance(segmentation, list):
            if not segmentation:
                return None
            parts = [_packed_to_mask(rle) for rle in coco_mask.frPyObjects(segmentation, *image_hw)]
            return _union([part for part in parts if part is not None], image_hw)
        if list(segmentation["size"]) != [height, width]:
            raise AnnotationError(
                f"mask has size {segmentation['size']}, its image {[height, width]}"
            )
        if isinstance(segmentation["counts"], list):
            return rle_counts_to_mask(np.array(segmentation["counts"]), image_hw)
        return _packed_to_mask(segmentation)
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise AnnotationError(f"segmentation cannot be read: {error}") from error


def _packed_to_mask(rle: dict[str, Any]) -> CroppedMask | None:
    height, width = rle["size"]
    counts = rle["counts"]
    packed = {
        "size": [height, width],
        "counts": counts.encode() if isinstance(counts, str) else counts,
    }
    runs = coco_mask.toUncompressedRLE([packed])[0]["counts"]
    return rle_counts_to_mask(np.array(runs), (height, width))


def _union(masks: list[CroppedMask], image_hw: tuple[int, int]) -> CroppedMask | None:
    # several polygons of one object are joined (COCO API: annToRLE merges them)
    if len(masks) <= 1:
        return masks[0] if masks else None
    canvas = np.zeros(image_hw, np.bool_)
    for mask in masks:
        canvas[mask.slices] |= mask.pixels
    return CroppedMask.from_mask(canvas)


def read_coco(path: Path | str) -> list[AnnotatedImage]:
    """Return the images of a COCO file, with all their instances.

    Annotations without a pixel are refused rather than left out.

    Raises
    ------
    AnnotationError
        If the file is missing, is no COCO JSON, two images share an id, or an annotation names an
        unknown image or category or has no readable mask.
    """
    path = Path(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        categories = _categories_from_coco(document["categories"])
        by_image: dict[Any, list[dict[str, Any]]] = {i["id"]: [] for i in document["images"]}
        if len(by_image) != len(document["images"]):
            raise AnnotationError("two images have the same id")
        for annotation in document["annotations"]:
            by_image[annotation["image_id"]].append(annotation)
        return [
            _annotated_image(image, by_image[image["id"]], categories)
            for image in document["images"]
        ]
    except FileNotFoundError as error:
        raise AnnotationError(f"{path}: no such file") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise AnnotationError(f"{path}: not a readable JSON file ({error})") from error
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise AnnotationError(f"{path}: not a COCO file ({error!r})") from error
    except AnnotationError as error:
        raise AnnotationError(f"{path}: {error}") from error


def read_provenance(path: Path | str) -> dict[str, str]:
    """Return what a COCO file says of itself: ``data`` (its description) and ``licence``.

    Both are empty where the file is silent.

    Raises
    ------
    AnnotationError
        If the file is missing or is no JSON object.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        licences = [entry.get("name", "") for entry in document.get("licenses", [])]
        return {
            "data": str(document.get("info", {}).get("description", "")),
            "licence": ", ".join(name for name in licences if name),
        }
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise AnnotationError(f"{path}: not a COCO file ({error})") from error


def _categories_from_coco(entries: Sequence[dict[str, Any]]) -> CategoryTable:
    return CategoryTable(
        categories=tuple(
            Category(
                id=entry["id"],
                name=entry["name"],
                color=entry.get("color", palette_color(i)),
            )
            for i, entry in enumerate(entries)
        )
    )


def _annotated_image(
    image: dict[str, Any], annotations: list[dict[str, Any]], categories: CategoryTable
) -> AnnotatedImage:
    image_hw = (int(image["height"]), int(image["width"]))
    objects = [a for a in annotations if not a.get("iscrowd")]
    crowds = [a for a in annotations if a.get("iscrowd")]
    return AnnotatedImage(
        file_name=image["file_name"],
        instances=_to_instances(objects, image_hw, categories),
        crowds=_to_instances(crowds, image_hw, categories),
        plane=tuple(image.get("plane", ())),
    )


def _to_instances(
    annotations: list[dict[str, Any]],
    image_hw: tuple[int, int],
    categories: CategoryTable,
) -> InstanceSet:
    masks = []
    for annotation in annotations:
        mask = segmentation_to_mask(annotation["segmentation"], image_hw)
        if mask is None:
            raise AnnotationError(f"annotation {annotation['id']} has no pixel")
        masks.append(mask)
    extra = [annotation.get("attributes", {}) for annotation in annotations]
    return InstanceSet(
        image_hw=image_hw,
        masks=tuple(masks),
        categories=categories,
        category_ids=np.array([a["category_id"] for a in annotations], np.int64),
        scores=np.array([_score(a) for a in annotations], np.float64),
        handles=_handles(extra),
        uuids=tuple(str(e.get("uuid") or uuid4()) for e in extra),
        states=tuple(InstanceState(e.get("state", "unreviewed")) for e in extra),
        sources=tuple(e.get("source", "") for e in extra),
        predicted_boxes_xyxy=np.array(
            [e.get("predicted_box") or [math.nan] * 4 for e in extra], np.float64
        ),
        edge_uncertainties=np.array([_uncertainty(e) for e in extra], np.float64),
        levels=np.array([e.get("level", 0) for e in extra], np.int64),
    )


def _handles(extra: list[dict[str, Any]]) -> NDArray[np.int64]:
    # another program may have added annotations to our file: ours keep their numbers
    known = [e["handle"] for e in extra if "handle" in e]
    free = itertools.count(max(known, default=0) + 1)
    return np.array([e["handle"] if "handle" in e else next(free) for e in extra], np.int64)


def _score(annotation: dict[str, Any]) -> float:
    score = annotation.get("score")
    return math.nan if score is None else float(score)


def _uncertainty(extra: dict[str, Any]) -> float:
    uncertainty = extra.get("edge_uncertainty")
    return math.nan if uncertainty is None else float(uncertainty)


def coco_document(images: Sequence[AnnotatedImage]) -> dict[str, Any]:
    """Return the COCO document (JSON values only) of images that share one category table.

    Image and annotation ids are 1, 2, 3, … in the order given.

    Raises
    ------
    ValueError
        If there is no image, or the category tables differ.
    """
    if not images:
        raise ValueError("nothing to write: give at least one image")
    categories = images[0].instances.categories
    if any(image.instances.categories != categories for image in images):
        raise ValueError("images of one COCO file must share their categories")
    annotations: list[dict[str, Any]] = []
    entries = []
    for image_id, image in enumerate(images, start=1):
        height, width = image.instances.image_hw
        entry = {
            "id": image_id,
            "file_name": image.file_name,
            "height": height,
            "width": width,
        }
        entries.append(entry | ({"plane": list(image.plane)} if image.plane else {}))
        for iscrowd, instances in ((0, image.instances), (1, image.crowds)):
            for annotation in _annotations(instances, iscrowd):
                annotations.append({"id": len(annotations) + 1, "image_id": image_id} | annotation)
    return {
        "info": {"description": "Instances written by napari-deeppixel"},
        "images": entries,
        "annotations": annotations,
        "categories": [
            {"id": c.id, "name": c.name, "color": c.color} for c in categories.categories
        ],
    }


def _annotations(instances: InstanceSet, iscrowd: int) -> list[dict[str, Any]]:
    boxes_xywh = boxes_xyxy_to_xywh(instances.boxes_xyxy)
    annotations = []
    for position, instance in enumerate(instances):
        box = instances.predicted_boxes_xyxy[position]
        annotation: dict[str, Any] = {
            "category_id": instance.category_id,
            "iscrowd": iscrowd,
            "area": instance.area,
            "bbox": boxes_xywh[position].tolist(),
            "segmentation": mask_to_rle(instance.mask, instances.image_hw),
            "attributes": {
                "uuid": instance.uuid,
                "handle": instance.handle,
                "state": instance.state.value,
                "source": instance.source,
                "predicted_box": None if np.isnan(box).any() else box.tolist(),
            },
        }
        if not math.isnan(instance.edge_uncertainty):
            annotation["attributes"]["edge_uncertainty"] = instance.edge_uncertainty
        if instance.level:
            annotation["attributes"]["level"] = instance.level
        if not math.isnan(instance.score):
            annotation["score"] = instance.score
        annotations.append(annotation)
    return annotations


def write_coco(images: Sequence[AnnotatedImage], path: Path | str) -> None:
    """Write images and their instances as a COCO file, whole or not at all.

    Raises
    ------
    ValueError
        As `coco_document`.
    OSError
        If the file cannot be written; an older one then stays as it was.
    """
    path = Path(path)
    text = json.dumps(coco_document(images))
    with atomic_file(path) as file:
        file.write(text.encode())
