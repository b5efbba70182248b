"""The Labels and Shapes layers that show an image's instances."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Labels, Shapes
from numpy.typing import NDArray

from napari_deeppixel.core.geometry import (
    boxes_touch_region,
    boxes_xyxy_to_corners_yx,
    view_corners_to_region_xyxy,
)
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import InstanceSet, label_dtype
from napari_deeppixel.edits.session import AnnotationSession
from napari_deeppixel.viewer.features import (
    boxes_features,
    labels_features,
    read_attributes,
)

METADATA_KEY = "napari_deeppixel"
# the InstanceLayers object itself: on the image, so that it lives as long, and on our layers, so
# that writers find what a flat label image cannot hold
VIEW_KEY = "napari_deeppixel_view"

# measured in benchmarks/boxes.py: a Shapes layer is filled at about 0.1 to 0.3 ms a box
MAX_BOXES = 1000
_BOXES_A_STEP = 100
# more captions than this cover the image instead of explaining it
MAX_CAPTIONS = 40
# napari takes about 0.2 s to add each layer
MAX_INSTANCE_LAYERS = 25


class LabelsMode(StrEnum):
    """How instances are spread over Labels layers."""

    ONE = "one Labels layer"
    BY_CATEGORY = "one per category"
    BY_INSTANCE = "one per instance"


class InstanceLayers:
    """Shows the instances of one Image layer, and reads hand edits back.

    Work that may take longer is an iterator of small steps, so that a caller with a window can
    let it breathe between them.

    Parameters
    ----------
    viewer
        Where the layers are.
    image
        The Image layer.
    session
        The instances.
    channel_axis
        Axis of the image that holds channels; the instances are the same in all of them.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        image: Image,
        session: AnnotationSession,
        *,
        channel_axis: int | None = None,
    ) -> None:
        self._viewer, self._image, self.session = viewer, image, session
        self._name = image.name
        self.channel_axis = channel_axis
        self._labels: dict[str, Labels] = {}
        self._boxes: Shapes | None = None
        self._drawn: dict[PlaneIndex, dict[str, InstanceSet]] = {}
        self._written: dict[str, dict[int, tuple[str, str]]] = {}
        self._shown_boxes: tuple[str, ...] | None = None
        self._lead_shape = tuple(
            size for axis, size in enumerate(self._image_shape()[:-2]) if axis != channel_axis
        )
        self.mode = LabelsMode.ONE
        self.metadata: dict[str, Any] = {}
        image.metadata[VIEW_KEY] = self

    @property
    def image(self) -> Image:
        """The Image layer whose instances these are."""
        return self._image

    @property
    def labels_layers(self) -> list[Labels]:
        """Our Labels layers that are in the viewer."""
        return [layer for layer in self._labels.values() if layer in self._viewer.layers]

    # -- drawing ------------------------------------------------------------------------------

    def redraw(self) -> Iterator[None]:
        """Draw all planes, the current one first, then the boxes; each step is short."""
        indices = self.session.plane_indices
        current = self.current_plane()
        indices.sort(key=lambda index: index != current)
        self._follow_image()
        for index in indices:
            yield from self._draw_plane(index)
        yield from self._remove_empty_groups()
        self._update_features()
        yield
        self._shown_boxes = None
        yield from self.redraw_boxes()

    def draw_plane(self, index: PlaneIndex) -> None:
        """Draw one plane into the Labels layers; hand edits in it are taken over first."""
        for _ in self._draw_plane(index):
            pass

    def _draw_plane(self, index: PlaneIndex) -> Iterator[None]:
        self.take_edits(index)
        groups = self._groups(self.session.visible(index))
        for name in self._labels.keys() - groups.keys():
            groups[name] = self.session.visible(index).select([])
        for name, instances in groups.items():
            layer = self._labels_layer(name, int(instances.handles.max(initial=0)))
            plane = self._plane_of(layer, index)
            plane[...] = 0
            instances.draw_into(plane)
            layer.refresh(extent=False, thumbnail=index == self.current_plane(), highlight=False)
            self._drawn.setdefault(index, {})[name] = instances
            yield

    def current_plane(self) -> PlaneIndex | None:
        """Return the lead index of the plane that the viewer shows; None if it shows none."""
        image = self._image
        position = np.asarray(image.world_to_data(self._viewer.dims.point[-image.ndim :]))
        index = []
        for axis, size in enumerate(self._image_shape()[:-2]):
            if axis == self.channel_axis:
                continue
            step = round(float(position[axis]))
            if not 0 <= step < size:
                return None
            index.append(step)
        return tuple(index)

    def _groups(self, instances: InstanceSet) -> dict[str, InstanceSet]:
        base = f"{self._name} instances"
        if self.mode is LabelsMode.BY_CATEGORY and len(instances):
            return {
                f"{base}: {category.name}": instances.select(instances.category_ids == category.id)
                for category in instances.categories.categories
                if (instances.category_ids == category.id).any()
            }
        if (
            self.mode is LabelsMode.BY_INSTANCE
            and len(instances)
            and self.num_visible <= MAX_INSTANCE_LAYERS
        ):
            return {
                f"{base}: {handle}": instances.select([position])
                for position, handle in enumerate(instances.handles.tolist())
            }
        return {base: instances}

    @property
    def num_visible(self) -> int:
        """Instances shown on all planes."""
        return sum(len(self.session.visible(index)) for index in self.session.plane_indices)

    def _plane_of(self, layer: Labels, index: PlaneIndex) -> NDArray[Any]:
        plane: NDArray[Any] = layer.data[self.data_index(index)]
        return plane

    def data_index(self, index: PlaneIndex) -> PlaneIndex:
        """Return the lead index in our layers' data, which keep one place for all channels."""
        if self.channel_axis is None:
            return index
        return (*index[: self.channel_axis], 0, *index[self.channel_axis :])

    def session_index(self, data_index: PlaneIndex) -> PlaneIndex:
        """Return the session's lead index for one in our layers' data."""
        if self.channel_axis is None:
            return data_index
        return (*data_index[: self.channel_axis], *data_index[self.channel_axis + 1 :])

    def _labels_layer(self, name: str, max_handle: int) -> Labels:
        dtype = label_dtype(max_handle)
        layer = self._labels.get(name)
        if layer is not None and layer in self._viewer.layers:
            if np.iinfo(layer.data.dtype).max < max_handle:
                layer.data = layer.data.astype(dtype)
            return layer
        height, width = self.session.image_hw
        lead = [
            1 if axis == self.channel_axis else size
            for axis, size in enumerate(self._image_shape()[:-2])
        ]
        data = np.zeros((*lead, height, width), dtype)
        layer = Labels(data, name=name, opacity=0.5, **self._placement())
        layer.metadata[VIEW_KEY] = self
        # a deleted layer is drawn again from the session, so nothing is lost with it
        self._labels[name] = layer
        boxes_at = self._boxes_position()
        if boxes_at is None:
            self._viewer.layers.append(layer)
        else:
            self._viewer.layers.insert(boxes_at, layer)
        for drawn in self._drawn.values():
            drawn.pop(name, None)
        self._written.pop(name, None)
        return layer

    def _boxes_position(self) -> int | None:
        if self._boxes is None or self._boxes not in self._viewer.layers:
            return None
        return int(self._viewer.layers.index(self._boxes))

    def _image_shape(self) -> tuple[int, ...]:
        data = self._image.data[0] if self._image.multiscale else self._image.data
        return tuple(data.shape[: self._image.ndim])

    def _placement(self) -> dict[str, Any]:
        """Return scale, translate and so on that put our layers on the image."""
        image = self._image
        scale, translate = np.array(image.scale), np.array(image.translate)
        if self.channel_axis is not None:
            # one thick slice through all channels instead of a copy for each
            channels = self._image_shape()[self.channel_axis]
            translate[self.channel_axis] += scale[self.channel_axis] * (channels - 1) / 2
            scale[self.channel_axis] *= channels
        return {
            "scale": scale,
            "translate": translate,
            "rotate": image.rotate,
            "shear": image.shear,
            "affine": image.affine.affine_matrix,
            "units": image.units,
            "axis_labels": image.axis_labels,
        }

    def _remove_empty_groups(self) -> Iterator[None]:
        used = {name for groups in self._drawn.values() for name, s in groups.items() if len(s)}
        base = f"{self._name} instances"
        for name in [name for name in self._labels if name not in used]:
            if name == base and not used:
                continue
            layer = self._labels.pop(name)
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
            yield

    @property
    def shape(self) -> tuple[tuple[int, int], tuple[int, ...]]:
        """Size of the planes and sizes of the lead axes that these layers were made for."""
        return self.session.image_hw, self._lead_shape

    def set_aside(self) -> None:
        """Leave our layers to the person, under names that nothing else uses."""
        for layer in (*self._labels.values(), self._boxes):
            if layer is not None and layer in self._viewer.layers:
                layer.name = f"{layer.name} (old)"
                layer.metadata.pop(VIEW_KEY, None)

    def discard(self) -> None:
        """Take our layers out of the viewer; the session stays."""
        for layer in (*self._labels.values(), self._boxes):
            if layer is not None and layer in self._viewer.layers:
                self._viewer.layers.remove(layer)

    def _follow_image(self) -> None:
        """Move our layers to where the image is now."""
        placement = self._placement()
        for layer in (*self._labels.values(), self._boxes):
            if layer is not None:
                layer.scale, layer.translate = placement["scale"], placement["translate"]

    def _update_features(self) -> None:
        for name, layer in self._labels.items():
            sets = [groups[name] for groups in self._drawn.values() if name in groups]
            layer.features = labels_features(sets)
            layer.metadata[METADATA_KEY] = self.metadata
            self._written[name] = read_attributes(layer.features)
            _forget_history(layer)

    # -- boxes --------------------------------------------------------------------------------

    def redraw_boxes(self) -> Iterator[None]:
        """Draw boxes: all of them while they are few, else those in view, best first."""
        chosen = self._choose_boxes()
        uuids = tuple(uuid for _, instances in chosen for uuid in instances.uuids)
        layer = self._boxes_layer()
        layer.metadata |= {METADATA_KEY: self.metadata, VIEW_KEY: self}
        self.update_captions()
        if uuids == self._shown_boxes and len(layer.data) == len(uuids):
            return
        self._shown_boxes = None
        layer.data = []
        layer.features = boxes_features([])
        yield
        for step in _chunks(chosen, _BOXES_A_STEP):
            corners = self._corners(step)
            colors = [color for _, instances in step for color in box_colors(instances)]
            layer.add_rectangles(corners, edge_color=colors, edge_width=1, face_color="transparent")
            yield
        layer.features = boxes_features([instances for _, instances in chosen])
        self._shown_boxes = uuids
        self.update_captions()

    def record_of(self, data: Any) -> dict[PlaneIndex, InstanceSet] | None:
        """Return the instances of one of our Labels layers, by place in its lead axes.

        Overlaps are kept. None if the data are of no Labels layer of ours.
        """
        names = [name for name, layer in self._labels.items() if layer.data is data]
        if not names:
            return None
        for index in self.session.plane_indices:
            self.draw_plane(index)
        nothing = InstanceSet.empty(self.session.image_hw, self.session.categories)
        return {
            index: self._drawn.get(self.session_index(index), {}).get(names[0], nothing)
            for index in np.ndindex(*data.shape[:-2])
        }

    @property
    def num_hidden_boxes(self) -> int:
        """Instances whose box is not drawn because there are more than `MAX_BOXES`."""
        shown = len(self._boxes.data) if self._boxes is not None else 0
        return self.num_visible - shown

    def _choose_boxes(self) -> list[tuple[PlaneIndex, InstanceSet]]:
        every = [(index, self.session.visible(index)) for index in self.session.plane_indices]
        if sum(len(instances) for _, instances in every) <= MAX_BOXES:
            return every
        current = self.current_plane()
        for index, instances in every:
            if index == current:
                region = self.view_region()
                if region is None:
                    return []
                inside = np.flatnonzero(boxes_touch_region(instances.boxes_xyxy, region))
                best = inside[np.argsort(-np.nan_to_num(instances.scores[inside], nan=1.0))]
                return [(index, instances.select(np.sort(best[:MAX_BOXES])))]
        return []

    def view_region(self) -> tuple[int, int, int, int] | None:
        """Return the part of the plane (x1, y1, x2, y2) that the viewer shows."""
        return view_region(self._image, self.session.image_hw)

    def update_captions(self) -> None:
        """Show captions when few enough boxes are in view to read them."""
        layer = self._boxes
        if layer is None:
            return
        current, region = self.current_plane(), self.view_region()
        count = 0
        if current is not None and region is not None:
            boxes = self.session.visible(current).boxes_xyxy
            count = int(boxes_touch_region(boxes, region).sum()) if len(boxes) else 0
        is_readable = 0 < count <= MAX_CAPTIONS
        if layer.text.visible != is_readable:
            layer.text.visible = is_readable

    def _corners(self, step: list[tuple[PlaneIndex, InstanceSet]]) -> list[NDArray[np.float64]]:
        return [
            corners
            for index, instances in step
            for corners in boxes_xyxy_to_corners_yx(
                instances.boxes_xyxy, lead=self.data_index(index)
            )
        ]

    def _boxes_layer(self) -> Shapes:
        if self._boxes is not None and self._boxes in self._viewer.layers:
            return self._boxes
        self._shown_boxes = None
        self._boxes = Shapes(
            ndim=self._image.ndim,
            name=f"{self._name} boxes",
            features=boxes_features([]),
            **box_settings(visible=False),
            **self._placement(),
        )
        # deleting a Shapes layer can crash napari (napari#6472); ours is kept and emptied instead
        if hasattr(self._boxes, "locked"):
            self._boxes.locked = True
        self._viewer.layers.append(self._boxes)
        return self._boxes

    # -- hand edits ---------------------------------------------------------------------------

    def take_edits(self, index: PlaneIndex) -> None:
        """Take what people changed in our Labels layers on a plane into the session.

        Then the layers are out of step with it until `draw_plane`.
        """
        # taken once only: the second time, what was replaced meanwhile would come back
        for name, drawn in self._drawn.pop(index, {}).items():
            # a layer that somebody deleted still holds what was painted on it
            layer = self._labels.get(name)
            if layer is None:
                continue
            self.session.take_label_edits(index, drawn, self._plane_of(layer, index))
            self.session.take_attributes(index, self._changed_attributes(name, layer))

    def _changed_attributes(self, name: str, layer: Labels) -> dict[int, tuple[str, str]]:
        """Return what differs in a features table from what we wrote; "" where nothing does."""
        written = self._written.get(name, {})
        changed = {}
        for handle, (category, state) in read_attributes(layer.features).items():
            old_category, old_state = written.get(handle, (category, state))
            if (category, state) != (old_category, old_state):
                changed[handle] = (
                    category if category != old_category else "",
                    state if state != old_state else "",
                )
        return changed


def _forget_history(layer: Labels) -> None:
    """Empty napari's undo list of a layer that was drawn over.

    An older stroke would otherwise put pixels back that no longer belong there. Switching
    `editable` off and on is the public way; it also leaves the chosen tool.
    """
    mode = layer.mode
    layer.editable = False
    layer.editable = True
    layer.mode = mode


def instance_layers_of(image: Image) -> InstanceLayers | None:
    """Return what shows the instances of an Image layer; None if nothing ran on it yet."""
    view = image.metadata.get(VIEW_KEY)
    # a duplicated layer shares the metadata of the one it was made from
    return view if isinstance(view, InstanceLayers) and view.image == image else None


def view_region(image: Image, image_hw: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Return the part of a layer's plane (x1, y1, x2, y2) that is on the canvas; None if none."""
    corners = np.asarray(image.corner_pixels, dtype=np.float64)[:, -2:]
    if image.multiscale:
        corners = corners * np.asarray(image.downsample_factors[image.data_level][-2:])
    return view_corners_to_region_xyxy(corners, image_hw)


def box_settings(*, visible: bool) -> dict[str, Any]:
    """Return the caption of boxes, as settings of a Shapes layer."""
    text = {
        "string": "{caption}",
        "size": 9,
        "color": "white",
        "anchor": "upper_left",
        "visible": visible,
    }
    return {"text": text}


def box_colors(instances: InstanceSet) -> list[str]:
    """Return the colour of each instance's category."""
    colors = {category.id: category.color for category in instances.categories.categories}
    return [colors[int(category_id)] for category_id in instances.category_ids]


def _chunks(
    chosen: list[tuple[PlaneIndex, InstanceSet]], size: int
) -> Iterator[list[tuple[PlaneIndex, InstanceSet]]]:
    for index, instances in chosen:
        for start in range(0, len(instances), size):
            yield [
                (
                    index,
                    instances.select(np.arange(start, min(start + size, len(instances)))),
                )
            ]
