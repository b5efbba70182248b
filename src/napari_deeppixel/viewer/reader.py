"""Opens annotation files of all formats as layers."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from napari.types import LayerData
from napari.utils.notifications import show_warning

from napari_deeppixel.core.errors import AnnotationError, ImageError
from napari_deeppixel.core.geometry import boxes_xyxy_to_corners_yx
from napari_deeppixel.core.image import ImageArray
from napari_deeppixel.core.instance import InstanceSet, label_dtype
from napari_deeppixel.dataset.annotated import AnnotatedImage
from napari_deeppixel.dataset.convert import Annotations
from napari_deeppixel.dataset.folder import FILE_NAME as DATASET_FILE
from napari_deeppixel.dataset.formats.base import Problem
from napari_deeppixel.dataset.formats.coco import read_coco
from napari_deeppixel.dataset.formats.label_tiff import read_label_tiff
from napari_deeppixel.dataset.formats.registry import guess_format
from napari_deeppixel.dataset.image_file import read_image
from napari_deeppixel.viewer.boxes_view import MAX_CAPTIONS, box_colors, box_settings
from napari_deeppixel.viewer.features import boxes_features, labels_features

# each image makes up to three layers, and napari takes about 0.1 s to add one
MAX_IMAGES = 20

# of the problems in a file, so many are told one by one
_MAX_TOLD = 5

ReadLayers = Callable[[str | Sequence[str]], list[LayerData]]


def get_reader(path: str | Sequence[str]) -> ReadLayers | None:
    """Return a reader for a path, or None if it is not ours: napari's reader protocol."""
    first = Path(path if isinstance(path, str) else path[0])
    if first.stem.endswith("_labels"):
        return read_layers
    try:
        guess_format(_annotations_at(first))
    except AnnotationError:
        return None
    return read_layers


def _annotations_at(path: Path) -> Path:
    # a dataset is a folder, which napari offers to nobody who does not take all folders
    return path.parent if path.name == DATASET_FILE else path


def read_layers(path: str | Sequence[str]) -> list[LayerData]:
    """Return the layers of one or more annotation files of any format, with their images."""
    paths = [Path(path)] if isinstance(path, str) else [Path(one) for one in path]
    layers: list[LayerData] = []
    for one in paths:
        is_label_image = one.stem.endswith("_labels")
        layers += _label_layers(one) if is_label_image else _annotated_layers(one)
    return layers


def _label_layers(path: Path) -> list[LayerData]:
    return [(read_label_tiff(path).label_images, {"name": path.stem}, "labels")]


def _annotated_layers(path: Path) -> list[LayerData]:
    annotations = Annotations(_annotations_at(path))
    if annotations.format.name == "coco" and path.is_file():
        return _coco_layers(path)
    by_file: dict[str, list[AnnotatedImage]] = {}
    for annotated in annotations:
        if len(by_file) == MAX_IMAGES and annotated.file_name not in by_file:
            show_warning(f"{path.name} holds more images; the first {MAX_IMAGES} are opened.")
            break
        by_file.setdefault(annotated.file_name, []).append(annotated)
    _tell(annotations.problems)
    layers: list[LayerData] = []
    for file_name, planes in by_file.items():
        layers += _image_layers(path, file_name, planes)
    return layers


def _coco_layers(path: Path) -> list[LayerData]:
    """Return the layers of a COCO file, whose names of images may lead out of its folder.

    `napari-deeppixel segment` writes such names. Nothing is copied here, only shown.
    """
    problems: list[Problem] = []
    by_file: dict[str, list[AnnotatedImage]] = {}
    for annotated in read_coco(path, on_problem=problems.append):
        place = path.parent / annotated.file_name
        found = replace(annotated, path=place if place.is_file() else None)
        by_file.setdefault(annotated.file_name, []).append(found)
    _tell(problems)
    if len(by_file) > MAX_IMAGES:
        show_warning(f"{path.name} holds {len(by_file)} images; the first {MAX_IMAGES} are opened.")
    layers: list[LayerData] = []
    for file_name, planes in list(by_file.items())[:MAX_IMAGES]:
        if planes[0].path is None:
            show_warning(f"{file_name} is not beside {path.name}: its instances are opened alone.")
        layers += _image_layers(path, file_name, planes)
    return layers


def _tell(problems: Sequence[Problem]) -> None:
    for problem in problems[:_MAX_TOLD]:
        show_warning(str(problem))
    if len(problems) > _MAX_TOLD:
        show_warning(f"… and {len(problems) - _MAX_TOLD} more problems of this kind")


def _image_layers(path: Path, file_name: str, planes: list[AnnotatedImage]) -> list[LayerData]:
    name = Path(file_name).stem
    layers: list[LayerData] = []
    image: ImageArray | None = None
    try:
        image = None if planes[0].path is None else read_image(planes[0].path)
    except ImageError as error:
        show_warning(f"{path.name}: {error}; its instances are opened alone.")
    if image is not None:
        layers.append((np.asarray(image.pixels), {"name": name} | _channels(image), "image"))
    index_length = len(planes[0].plane)
    sets = _with_unique_handles([annotated.instances for annotated in planes])
    lead = (
        image.lead_shape
        if image is not None and len(image.lead_shape) == index_length
        else tuple(max(p.plane[axis] for p in planes) + 1 for axis in range(index_length))
    )
    largest = max((int(s.handles.max(initial=0)) for s in sets), default=0)
    labels = np.zeros((*lead, *planes[0].instances.image_hw), label_dtype(largest))
    corners = []
    for annotated, instances in zip(planes, sets, strict=True):
        instances.draw_into(labels[annotated.plane])
        corners += list(boxes_xyxy_to_corners_yx(instances.boxes_xyxy, lead=annotated.plane))
    settings: dict[str, Any] = {"name": f"{name} instances", "opacity": 0.5}
    layers.append((labels, settings | {"features": labels_features(sets)}, "labels"))
    shapes: dict[str, Any] = {
        "name": f"{name} boxes",
        "ndim": labels.ndim,
        "shape_type": "rectangle",
        "features": boxes_features(sets),
        "edge_color": [c for s in sets for c in box_colors(s)] or "white",
        "edge_width": 1,
        "face_color": "transparent",
    }
    layers.append((corners, shapes | box_settings(visible=len(corners) <= MAX_CAPTIONS), "shapes"))
    return layers


def _channels(image: ImageArray) -> dict[str, Any]:
    """Return what napari must know about an image's channels."""
    if "c" not in image.axes:
        return {"rgb": False}
    if image.axes.endswith("c") and image.num_channels in (3, 4):
        return {"rgb": True}
    # a layer for each channel, so that the instances lie on all of them
    return {"channel_axis": image.axes.index("c")}


def _with_unique_handles(sets: list[InstanceSet]) -> list[InstanceSet]:
    handles = np.concatenate([s.handles for s in sets])
    if np.unique(handles).size == handles.size:
        return sets
    renumbered, first = [], 1
    for instances in sets:
        renumbered.append(instances.with_handles_from(first))
        first += len(instances)
    return renumbered
