"""Overlapping instances as several label images, and back: nothing is hidden for ever."""

from collections.abc import Sequence

import numpy as np

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask, union_mask


def hidden_layers(instances: InstanceSet) -> list[InstanceSet]:
    """Return the instances of which a label image hides pixels, in sets without overlaps.

    The label image shows what lies on top, as napari does. With these sets beside it, drawn as
    label images of their own, joining the pixels of one number gives all masks exactly.
    """
    drawn = instances.with_handles_from(1).label_image()
    hidden = [
        position
        for position, mask in enumerate(instances.masks)
        if (drawn[mask.slices][mask.pixels] != position + 1).any()
    ]
    return [instances.select(np.array(layer)) for layer in _coloured(instances, hidden)]


def _coloured(instances: InstanceSet, positions: Sequence[int]) -> list[list[int]]:
    # greedy colouring: each goes into the first layer where none of its pixels is taken
    layers: list[list[int]] = []
    boxes = instances.boxes_xyxy
    layer_of = np.full(len(instances), -1)
    for position in positions:
        x1, y1, x2, y2 = boxes[position]
        near = (boxes[:, 0] < x2) & (boxes[:, 2] > x1) & (boxes[:, 1] < y2) & (boxes[:, 3] > y1)
        mask = instances.masks[position]
        taken = {
            int(layer_of[other])
            for other in np.flatnonzero(near & (layer_of >= 0))
            if mask.intersection(instances.masks[other])
        }
        layer = next(number for number in range(len(taken) + 1) if number not in taken)
        layers.extend([[]] if layer == len(layers) else [])
        layers[layer].append(position)
        layer_of[position] = layer
    return layers


def joined_layers(
    layers: Sequence[InstanceSet], categories: CategoryTable, state: InstanceState
) -> InstanceSet:
    """Return the instances of several label images of one plane; one number is one instance."""
    parts: dict[int, list[CroppedMask]] = {}
    for layer in layers:
        for handle, mask in zip(layer.handles.tolist(), layer.masks, strict=True):
            parts.setdefault(handle, []).append(mask)
    handles = sorted(parts)
    masks = [union_mask(parts[handle]) for handle in handles]
    return InstanceSet(
        image_hw=layers[0].image_hw,
        masks=tuple(mask for mask in masks if mask is not None),
        categories=categories,
        handles=np.array(handles, np.int64),
        states=(state,) * len(handles),
    )
