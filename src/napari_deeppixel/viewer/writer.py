"""Saves a Labels layer of instances: COCO JSON without loss, label TIFF as it looks."""

from pathlib import Path
from typing import Any

import numpy as np
from napari.utils.notifications import show_warning
from numpy.typing import NDArray

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import InstanceSet, label_image_to_instances
from napari_deeppixel.dataset.formats.coco import AnnotatedImage, write_coco
from napari_deeppixel.dataset.formats.label_tiff import write_label_tiff
from napari_deeppixel.viewer.layers import VIEW_KEY, InstanceLayers, LabelsMode

_LEAD_LETTERS = "qwvutz"


def write_coco_layer(path: str, data: NDArray[Any], meta: dict[str, Any]) -> list[str]:
    """Write a Labels layer's instances as COCO JSON, overlaps included: napari's protocol."""
    planes = _planes(data, meta)
    images = [
        AnnotatedImage(
            file_name=_file_name(meta),
            instances=instances,
            crowds=InstanceSet.empty(instances.image_hw, instances.categories),
            plane=index,
        )
        for index, instances in planes.items()
    ]
    write_coco(images, path)
    return [path]


def write_label_layer(path: str, data: NDArray[Any], meta: dict[str, Any]) -> list[str]:
    """Write the instances of a Labels layer as a label TIFF: napari's protocol."""
    planes = _planes(data, meta)
    lead_shape = tuple(data.shape[:-2])
    axes = _LEAD_LETTERS[len(_LEAD_LETTERS) - len(lead_shape) :] + "yx"
    hidden = write_label_tiff(list(planes.values()), path, axes=axes, lead_shape=lead_shape)
    if hidden.pixels:
        show_warning(
            f"{Path(path).name}: a label image shows one instance a pixel; {hidden.pixels:,} "
            f"pixels lie under another instance and {hidden.instances} instances wholly hidden. "
            "COCO JSON keeps them."
        )
    return [path]


def _planes(data: NDArray[Any], meta: dict[str, Any]) -> dict[tuple[int, ...], InstanceSet]:
    """Return the instances of every plane, by its place in the layer's lead axes."""
    indices = list(np.ndindex(*data.shape[:-2]))
    view = meta.get("metadata", {}).get(VIEW_KEY)
    if isinstance(view, InstanceLayers) and view.mode is LabelsMode.ONE:
        for index in view.session.plane_indices:
            view.draw_plane(index)
        # with a channel axis the layer has one place more than the session
        return {index: view.session.visible(view.session_index(index)) for index in indices}
    table = CategoryTable.from_names("object")
    return {
        index: label_image_to_instances(np.asarray(data[index]), categories=table)
        for index in indices
    }


def _file_name(meta: dict[str, Any]) -> str:
    view = meta.get("metadata", {}).get(VIEW_KEY)
    if isinstance(view, InstanceLayers):
        path = view.image.source.path
        return Path(path).name if path else f"{view.image.name}.png"
    return f"{meta.get('name', 'labels')}.png"
