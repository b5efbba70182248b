"""Saves a Labels layer of instances: COCO JSON without loss, others with word of what is lost."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from napari.utils.notifications import show_warning
from numpy.typing import NDArray

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import (
    InstanceSet,
    InstanceState,
    label_image_to_instances,
)
from napari_deeppixel.dataset.annotated import AnnotatedImage
from napari_deeppixel.dataset.convert import Conversion
from napari_deeppixel.dataset.formats.label_tiff import write_label_tiff
from napari_deeppixel.viewer.layers import VIEW_KEY, InstanceLayers

_LEAD_LETTERS = "qwvutz"


def write_layer(path: str, data: NDArray[Any], meta: dict[str, Any]) -> list[str]:
    """Write a Labels layer's instances in the format of a file's ending: napari's protocol.

    What the format cannot hold is told; COCO JSON keeps all.
    """
    name = _file_name(meta)
    images = [
        AnnotatedImage.of(name, instances, plane=index)
        for index, instances in _planes(data, meta).items()
    ]
    # napari has asked
    conversion = Conversion(images, Path(path), overwrites=True)
    for _ in conversion.survey():
        pass
    lost = conversion.loss.lines() if conversion.loss is not None else []
    for _ in conversion.write():
        pass
    if lost:
        title = conversion.format.title
        show_warning(f"{Path(path).name}, {title}: {'; '.join(lost)}. COCO JSON keeps all.")
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
    view = meta.get("metadata", {}).get(VIEW_KEY)
    # a duplicated layer shares our metadata, but not our data
    record = view.record_of(data) if isinstance(view, InstanceLayers) else None
    if record is not None:
        return record
    table, attributes = _read_features(meta.get("features"))
    return {
        index: _with_attributes(
            label_image_to_instances(np.asarray(data[index]), categories=table), attributes
        )
        for index in np.ndindex(*data.shape[:-2])
    }


def _read_features(features: Any) -> tuple[CategoryTable, dict[int, dict[Any, Any]]]:
    """Return the categories in a features table of ours, and the row of each handle."""
    columns = {"category", "score", "state", "source"}
    if not isinstance(features, pd.DataFrame) or not columns <= set(features.columns):
        return CategoryTable.from_names("object"), {}
    rows = {n: row for n, row in enumerate(features.to_dict("records")) if row["category"]}
    names = list(dict.fromkeys(str(row["category"]) for row in rows.values()))
    return CategoryTable.from_names(*(names or ["object"])), rows


def _with_attributes(instances: InstanceSet, attributes: dict[int, dict[Any, Any]]) -> InstanceSet:
    ids = {category.name: category.id for category in instances.categories.categories}
    states = {state.value: state for state in InstanceState}
    return instances.with_instances(
        [
            replace(
                instance,
                category_id=ids[str(row["category"])],
                score=float(row["score"]),
                state=states.get(str(row["state"]), instance.state),
                source=str(row["source"]),
            )
            if (row := attributes.get(instance.handle))
            else instance
            for instance in instances
        ]
    )


def _file_name(meta: dict[str, Any]) -> str:
    view = meta.get("metadata", {}).get(VIEW_KEY)
    if isinstance(view, InstanceLayers):
        path = view.image.source.path
        return Path(path).name if path else f"{view.image.name}.png"
    return f"{meta.get('name', 'labels')}.png"
