"""The layers that show an image's instances, kept in step with its session both ways."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from enum import StrEnum
from typing import Any, ClassVar

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer, Shapes
from psygnal import Signal

from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import Instance, InstanceSet, label_dtype
from napari_deeppixel.edits.action import Change
from napari_deeppixel.edits.diff import OverlapRule, Region
from napari_deeppixel.edits.session import AnnotationSession, Applied, ReadOnlyError
from napari_deeppixel.viewer.boxes_view import BoxEdits, BoxesView, box_settings
from napari_deeppixel.viewer.features import boxes_features
from napari_deeppixel.viewer.labels_view import LabelsView, stroke_regions
from napari_deeppixel.viewer.plane_map import PlaneMap
from napari_deeppixel.viewer.regions_view import RegionsView

METADATA_KEY = "napari_deeppixel"
# the InstanceLayers object itself: on the image, so that it lives as long, and on our layers, so
# that writers find what a flat label image cannot hold
VIEW_KEY = "napari_deeppixel_view"

# napari takes about 0.2 s to add each layer
MAX_INSTANCE_LAYERS = 25
# of one plane: more are drawn anew with their plane
_MAX_SINGLE_REDRAWS = 200


class LabelsMode(StrEnum):
    """How instances are spread over Labels layers."""

    ONE = "one Labels layer"
    BY_CATEGORY = "one per category"
    BY_INSTANCE = "one per instance"


class InstanceLayers:
    """Shows the instances of one Image layer, and takes hand edits into the session.

    Whatever changes the session is drawn at once, only where it changed. A stroke is taken when it
    ends; everything else that a person or a program does to our layers when somebody calls
    `settle` or `settle_all`, which the window does after `dirtied`, and a save always.

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

    Attributes
    ----------
    dirtied
        Signal: something may have changed in our layers that was not taken over yet.
    selection_changed
        Signal: the instances that a person selected in our layers, plane index and uuid each.
    clicked
        Signal: the instance that a person clicked in a Labels layer, plane index and uuid, and
        whether to add it to the selection (Shift).
    layer_added
        Signal: a layer of ours came into the viewer.
    is_tool_armed
        While a drawing tool waits for the mouse, clicks select nothing.
    """

    dirtied = Signal()
    selection_changed = Signal(object)
    clicked = Signal(object, bool)
    layer_added = Signal(object)

    # what a person can do to a layer of ours, as its undo and "new label" keys do it
    _KEYS: ClassVar[dict[str, Callable[["InstanceLayers"], object]]] = {
        "Control-Z": lambda view: view.undo(),
        "Control-Shift-Z": lambda view: view.redo(),
        "M": lambda view: view.select_new(),
    }

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
        self.planes = PlaneMap(viewer, image, channel_axis)
        self._views: dict[str, LabelsView] = {}
        self._boxes: Shapes | None = None
        self.boxes = BoxesView(self._boxes_layer, session, self.planes)
        self.regions = RegionsView(viewer, f"{image.name} complete", session, self.planes)
        self.regions.edited.connect(self.dirtied.emit)
        self.regions.layer_added.connect(self._adopt_layer)
        self.is_tool_armed = False
        self.mode = LabelsMode.ONE
        self.overlap_rule = OverlapRule.TAKE
        self.drawn_category_id: int | None = None
        self.metadata: dict[str, Any] = {}
        image.metadata[VIEW_KEY] = self
        session.changed.connect(self._on_session_changed)
        session.visibility_changed.connect(self._on_visibility_changed)
        viewer.layers.events.removed.connect(self._on_layer_removed)

    @property
    def image(self) -> Image:
        """The Image layer whose instances these are."""
        return self._image

    @property
    def channel_axis(self) -> int | None:
        """Axis of the image that holds channels."""
        return self.planes.channel_axis

    @property
    def labels_layers(self) -> list[Labels]:
        """Our Labels layers that are in the viewer."""
        layers = [view.layer for view in self._views.values()]
        return [layer for layer in layers if layer in self._viewer.layers]

    @property
    def layers(self) -> list[Layer]:
        """All our layers that are in the viewer."""
        others = [self._boxes, self.regions.layer]
        return self.labels_layers + [
            layer for layer in others if layer is not None and layer in self._viewer.layers
        ]

    @property
    def boxes_layer(self) -> Shapes | None:
        """Our boxes layer, if it is in the viewer."""
        return self._boxes if self._boxes in self._viewer.layers else None

    # -- drawing everything -------------------------------------------------------------------

    def redraw(self) -> Iterator[None]:
        """Draw all planes, the current one first, then the boxes; each step is short.

        What a person did meanwhile is taken over first.
        """
        indices = self.session.plane_indices
        current = self.planes.current()
        indices.sort(key=lambda index: index != current)
        self._follow_image()
        self._make_groups(())
        for index in indices:
            yield from self._draw_plane(index)
        yield from self._remove_empty_groups()
        for view in self._views.values():
            view.layer.metadata[METADATA_KEY] = self.metadata
            view.write_features()
        self.regions.redraw()
        yield
        self.boxes.forget()
        yield from self.redraw_boxes()

    def draw_plane(self, index: PlaneIndex) -> None:
        """Draw one plane into the Labels layers; hand edits in it are taken over first."""
        for _ in self._draw_plane(index):
            pass

    def _draw_plane(self, index: PlaneIndex) -> Iterator[None]:
        yield from self.settle_plane(index)
        visible = self.session.visible(index)
        self._make_groups(visible)
        is_current = index == self.planes.current()
        for view in list(self._views.values()):
            view.draw_plane(index, is_current=is_current)
            yield

    def _make_groups(self, instances: Iterable[Instance]) -> None:
        if self.mode is LabelsMode.ONE or not self.num_visible:
            self._labels_view(self._base_name, lambda _: True)
            return
        for instance in instances:
            self._view_for(instance)

    @property
    def _base_name(self) -> str:
        return f"{self._name} instances"

    def _view_for(self, instance: Instance) -> LabelsView:
        """Return the view of the Labels layer that an instance belongs in."""
        if self.mode is LabelsMode.BY_CATEGORY:
            category_id = instance.category_id
            name = self.session.categories.name_of(category_id)
            return self._labels_view(
                f"{self._base_name}: {name}", lambda i: i.category_id == category_id
            )
        if self.mode is LabelsMode.BY_INSTANCE and self.num_visible <= MAX_INSTANCE_LAYERS:
            handle = instance.handle
            return self._labels_view(f"{self._base_name}: {handle}", lambda i: i.handle == handle)
        return self._labels_view(self._base_name, lambda _: True)

    @property
    def num_visible(self) -> int:
        """Instances shown on all planes."""
        return sum(len(self.session.visible(index)) for index in self.session.plane_indices)

    def _labels_view(self, name: str, is_member: Callable[[Instance], bool]) -> LabelsView:
        view = self._views.get(name)
        if view is not None and view.layer in self._viewer.layers:
            return view
        data = np.zeros(self.planes.layer_shape(), label_dtype(self.session.next_handle - 1))
        layer = Labels(data, name=name, opacity=0.5, **self.planes.placement())
        # a deleted layer is drawn again from the session, so nothing is lost with it
        view = LabelsView(layer, self.session, self.planes, is_member)
        self._views[name] = view
        layer.events.paint.connect(self._on_paint)
        layer.events.set_data.connect(self._on_set_data)
        layer.events.selected_label.connect(self._on_label_selected)
        layer.mouse_drag_callbacks.append(self._on_press)
        # above the image and whatever else is there, below the boxes
        place = len(self._viewer.layers)
        if self._boxes is not None and self._boxes in self._viewer.layers:
            place = self._viewer.layers.index(self._boxes)
        self._viewer.layers.insert(place, layer)
        self._adopt_layer(layer)
        for index in self.session.plane_indices:
            view.draw_plane(index, is_current=index == self.planes.current())
        view.write_features()
        return view

    def _adopt_layer(self, layer: Layer) -> None:
        layer.metadata.update({VIEW_KEY: self, METADATA_KEY: self.metadata})
        for key, do in self._KEYS.items():
            if key != "M" or isinstance(layer, Labels):
                layer.bind_key(key, lambda _layer, do=do: do(self) and None, overwrite=True)
        self.layer_added.emit(layer)

    def _remove_empty_groups(self) -> Iterator[None]:
        used = {
            view.layer.name
            for view in self._views.values()
            for index in self.session.plane_indices
            if any(map(view.is_member, self.session.visible(index)))
        }
        for name, view in list(self._views.items()):
            is_only = name == self._base_name and (
                self.mode is LabelsMode.ONE or not self.num_visible
            )
            if is_only or (view.layer.name in used and self._is_current_group(name)):
                continue
            del self._views[name]
            if view.layer in self._viewer.layers:
                self._viewer.layers.remove(view.layer)
            yield

    def _is_current_group(self, name: str) -> bool:
        is_base = name == self._base_name
        if self.mode is LabelsMode.BY_INSTANCE and self.num_visible > MAX_INSTANCE_LAYERS:
            return is_base
        return is_base == (self.mode is LabelsMode.ONE)

    @property
    def shape(self) -> tuple[tuple[int, int], tuple[int, ...]]:
        """Size of the planes and sizes of the lead axes that these layers were made for."""
        return self.session.image_hw, self.planes.lead_shape

    def set_aside(self) -> None:
        """Leave our layers to the person, under names that nothing else uses."""
        for layer in self.layers:
            layer.name = f"{layer.name} (old)"
            layer.metadata.pop(VIEW_KEY, None)
        self.disconnect()

    def discard(self) -> None:
        """Take our layers out of the viewer; the session stays."""
        self.disconnect()
        for layer in self.layers:
            self._viewer.layers.remove(layer)

    def disconnect(self) -> None:
        """Stop following the session."""
        self.session.changed.disconnect(self._on_session_changed, missing_ok=True)
        self.session.visibility_changed.disconnect(self._on_visibility_changed, missing_ok=True)
        self._viewer.layers.events.removed.disconnect(self._on_layer_removed)
        self.regions.disconnect()
        for view in self._views.values():
            view.layer.events.paint.disconnect(self._on_paint)
            view.layer.events.set_data.disconnect(self._on_set_data)
            view.layer.events.selected_label.disconnect(self._on_label_selected)

    def _follow_image(self) -> None:
        """Move our layers to where the image is now."""
        placement = self.planes.placement()
        for layer in self.layers:
            layer.scale, layer.translate = placement["scale"], placement["translate"]

    # -- boxes --------------------------------------------------------------------------------

    def redraw_boxes(self) -> Iterator[None]:
        """Draw boxes: all of them while they are few, else those in view, best first."""
        self.boxes.update_captions()
        yield from self.boxes.redraw()

    @property
    def num_hidden_boxes(self) -> int:
        """Instances whose box is not drawn because there are more than `MAX_BOXES`."""
        return self.num_visible - self.boxes.num_shown

    def _boxes_layer(self) -> Shapes:
        if self._boxes is not None and self._boxes in self._viewer.layers:
            return self._boxes
        self._boxes = Shapes(
            ndim=self._image.ndim,
            name=f"{self._name} boxes",
            features=boxes_features([]),
            **box_settings(visible=False),
            **self.planes.placement(),
        )
        # deleting a Shapes layer can crash napari (napari#6472); ours is kept and emptied instead
        if hasattr(self._boxes, "locked"):
            self._boxes.locked = True
        self._boxes.events.data.connect(self._on_boxes_data)
        self._boxes.selected_data.events.items_changed.connect(self._on_boxes_selected)
        self._viewer.layers.append(self._boxes)
        self._adopt_layer(self._boxes)
        return self._boxes

    # -- session → layers ---------------------------------------------------------------------

    def _on_session_changed(self, applied: Applied) -> None:
        if self._image not in self._viewer.layers:
            return
        changes = [self._as_shown(change) for change in applied.action.changes]
        self._update([c for c in changes if c is not None])
        if applied.action.regions:
            self.regions.redraw()

    def _as_shown(self, change: Change) -> Change | None:
        """Return a change of what is shown: None stands for hidden as well as for gone."""
        before = change.before
        if before is not None and not self.session.is_to_show(before):
            before = None
        after = self.session.get(change.index, change.uuid)
        if not self.session.is_visible(change.index, change.uuid):
            after = None
        if before is None and after is None:
            return None
        return replace(change, before=before, after=after)

    def _on_visibility_changed(self, turned: dict[PlaneIndex, list[Instance]]) -> None:
        if self._image not in self._viewer.layers:
            return
        self._update(
            [
                Change(index=index, before=None, after=i)
                if self.session.is_visible(index, i.uuid)
                else Change(index=index, before=i, after=None)
                for index, instances in turned.items()
                for i in instances
            ]
        )

    def _update(self, changes: list[Change]) -> None:
        by_plane: dict[PlaneIndex, list[Change]] = {}
        for change in changes:
            by_plane.setdefault(change.index, []).append(change)
        for index, of_plane in by_plane.items():
            if len(of_plane) > _MAX_SINGLE_REDRAWS:
                self._redraw_whole(index, of_plane)
            else:
                self._redraw_changes(index, of_plane)
        self._write_features(changes)
        self.boxes.update(changes)
        if self.boxes.is_stale:
            self.dirtied.emit()

    def _redraw_whole(self, index: PlaneIndex, changes: list[Change]) -> None:
        height, width = self.session.image_hw
        self._make_groups(c.after for c in changes if c.after is not None)
        for view in list(self._views.values()):
            region = (0, 0, width, height)
            view.redraw(index, region, before=_as_before(view, index, region, changes))

    def _redraw_changes(self, index: PlaneIndex, changes: list[Change]) -> None:
        for change in changes:
            if change.after is not None:
                self._view_for(change.after)
        for change in changes:
            for instance in (change.before, change.after):
                if instance is None:
                    continue
                for view in list(self._views.values()):
                    region = instance.box_xyxy
                    view.redraw(index, region, before=_as_before(view, index, region, changes))

    def _write_features(self, changes: list[Change]) -> None:
        for view in self._views.values():
            if len(changes) > _MAX_SINGLE_REDRAWS:
                view.write_features()
                continue
            rows: dict[int, Instance | None] = {}
            for change in changes:
                after = change.after
                if change.before is not None and change.before.handle:
                    rows[change.before.handle] = None
                if after is not None and view.is_member(after):
                    rows[after.handle] = after
            if rows:
                view.write_rows(rows)

    # -- layers → session ---------------------------------------------------------------------

    def _view_of(self, layer: Any) -> LabelsView | None:
        # events carry the layer itself, `is` would fail on napari's proxy
        return next((view for view in self._views.values() if view.layer == layer), None)

    def _on_paint(self, event: Any) -> None:
        view = self._view_of(event.source)
        if view is None or view.is_writing:
            return
        for lead, region in stroke_regions(event.value):
            for data_index in _planes_in(lead):
                self._take(view, self.planes.session_index(data_index), region, brings_back=False)

    def _take(
        self, view: LabelsView, index: PlaneIndex, region: Region, *, brings_back: bool
    ) -> None:
        painted = int(view.layer.selected_label)
        top = self.session.next_handle
        try:
            view.take(
                index,
                region,
                brings_back=brings_back,
                rule=self.overlap_rule,
                category_id=self._category_for(view),
            )
        except ReadOnlyError:
            # what was painted is taken off again; the window says why
            self.dirtied.emit()
        view.redraw(index, region)
        found = self.session.find(painted)
        if self.session.next_handle > top and (found is None or found[0] != index):
            # the number was another's: go on with the one that the new instance got
            view.layer.selected_label = self.session.next_handle - 1

    def _category_for(self, view: LabelsView) -> int | None:
        if self.mode is LabelsMode.BY_CATEGORY:
            for category in self.session.categories.categories:
                if view.layer.name.endswith(f": {category.name}"):
                    return category.id
        return self.drawn_category_id

    def _on_set_data(self, event: Any) -> None:
        view = self._view_of(event.source)
        if view is not None and not view.is_writing:
            self.dirtied.emit()

    def _on_boxes_data(self, event: Any) -> None:
        action = getattr(event, "action", "")
        if not self.boxes.is_writing and action in ("added", "changed", "removed"):
            self.dirtied.emit()

    def settle(self) -> Iterator[None]:
        """Take over what was done to the current plane past `paint`, and draw what is stale."""
        current = self.planes.current()
        if current is not None:
            yield from self.settle_plane(current)
        self.regions.take()
        if self.boxes.is_stale or self.boxes_layer is None:
            yield from self.redraw_boxes()

    def settle_all(self) -> None:
        """Take over what was done to any plane; before a save."""
        for index in np.ndindex(*self.planes.lead_shape):
            for _ in self.settle_plane(index):
                pass
        self.regions.take()

    def settle_plane(self, index: PlaneIndex) -> Iterator[None]:
        """Take over what was done to a plane, in short steps; several regions are one step."""
        for view in list(self._views.values()):
            if view.layer in self._viewer.layers and not view.is_busy:
                yield from self._settle_view(view, index)

    def _settle_view(self, view: LabelsView, index: PlaneIndex) -> Iterator[None]:
        dirty: Region | None = None
        for tile in view.tiles():
            dirty = _joined(dirty, view.dirty_region(index, tile))
            yield
        if dirty is not None:
            self._take(view, index, dirty, brings_back=True)
        attributes = view.changed_attributes()
        for plane in self.session.plane_indices if attributes else ():
            self.session.take_attributes(plane, attributes)

    def _on_layer_removed(self, event: Any) -> None:
        """Take over what was done to a layer of ours that somebody deletes."""
        view = self._view_of(event.value)
        if view is not None:
            for index in np.ndindex(*self.planes.lead_shape):
                for _ in self._settle_view(view, index):
                    pass

    def take_box_edits(self) -> BoxEdits:
        """Return what a person did in the boxes layer, and put the layer back to the session."""
        edits = self.boxes.take()
        self.boxes.restore()
        return edits

    def record_of(self, data: Any) -> dict[PlaneIndex, InstanceSet] | None:
        """Return the instances of one of our Labels layers, by place in its lead axes.

        Overlaps are kept. None if the data are of no Labels layer of ours.
        """
        found = [view for view in self._views.values() if view.layer.data is data]
        if not found:
            return None
        self.settle_all()
        view = found[0]
        record = {}
        for index in np.ndindex(*data.shape[:-2]):
            visible = self.session.visible(self.planes.session_index(index))
            record[index] = visible.select([view.is_member(i) for i in visible])
        return record

    # -- selection, undo ----------------------------------------------------------------------

    def _on_label_selected(self, event: Any) -> None:
        view = self._view_of(event.source)
        if view is None or view.is_writing:
            return
        handle = int(view.layer.selected_label)
        if self.overlap_rule is OverlapRule.OVERLAP:
            self._raise(view, handle)
        found = self.session.find(handle)
        if found is not None:
            self.selection_changed.emit([(found[0], found[1].uuid)])

    def _on_press(self, layer: Labels, event: Any) -> Iterator[None]:
        """Select what is clicked, where the mouse does not paint; a drag pans as always."""
        if self.is_tool_armed or layer.mode != "pan_zoom":
            return
        position, directions = event.position, (event.view_direction, event.dims_displayed)
        is_adding = "Shift" in event.modifiers
        yield
        while event.type == "mouse_move":
            if np.linalg.norm(np.subtract(event.position, position)) > 0 and event.is_dragging:
                return
            yield
        handle = layer.get_value(
            position, view_direction=directions[0], dims_displayed=directions[1], world=True
        )
        found = self.session.find(int(handle)) if handle else None
        if found is not None:
            self.clicked.emit((found[0], found[1].uuid), is_adding)

    def _raise(self, view: LabelsView, handle: int | None) -> None:
        """Draw the selected instance on top, so that its hidden part can be seen and edited."""
        before, view.on_top = view.on_top, handle
        for one in (before, handle):
            found = None if one is None else self.session.find(one)
            if found is not None and self.session.is_visible(found[0], found[1].uuid):
                view.redraw(found[0], found[1].box_xyxy)

    def set_overlap_rule(self, rule: OverlapRule) -> None:
        """Set what painting one instance over another does to the other."""
        self.overlap_rule = rule
        for view in self._views.values():
            is_raised = rule is OverlapRule.OVERLAP
            self._raise(view, int(view.layer.selected_label) if is_raised else None)

    def _on_boxes_selected(self, *_event: Any) -> None:
        if self._boxes is not None and not self.boxes.is_writing:
            refs = self.boxes.refs_at(set(self._boxes.selected_data))
            if refs:
                self.selection_changed.emit(refs)

    def select(self, index: PlaneIndex, uuid: str) -> None:
        """Select an instance in our layers, so that painting goes to it."""
        instance = self.session.get(index, uuid)
        if instance is None or not instance.handle:
            return
        for view in self._views.values():
            if view.is_member(instance) and view.layer in self._viewer.layers:
                view.layer.selected_label = instance.handle

    def select_new(self) -> None:
        """Choose a number that no instance ever had, so that painting draws a new one."""
        for view in self._views.values():
            if view.layer in self._viewer.layers:
                view.grow_type(self.session.next_handle)
                view.layer.selected_label = self.session.next_handle

    def undo(self) -> str:
        """Take the last step back; return its name."""
        name = self.session.undo()
        self._viewer.status = f"Undone: {name}" if name else "Nothing to undo"
        return name

    def redo(self) -> str:
        """Do the step again that was taken back last; return its name."""
        name = self.session.redo()
        self._viewer.status = f"Done again: {name}" if name else "Nothing to do again"
        return name


def _as_before(
    view: LabelsView, index: PlaneIndex, region: Region, changes: list[Change]
) -> list[Instance]:
    """Return what was drawn in a region before some changes, the last on top."""
    touched = {change.uuid for change in changes}
    shown = [i for i in view.members(index, region) if i.uuid not in touched]
    shown += [c.before for c in changes if c.before is not None and view.is_member(c.before)]
    return view.in_drawing_order(index, shown)


def _planes_in(lead: tuple[slice, ...]) -> Iterator[PlaneIndex]:
    starts = tuple(step.start for step in lead)
    for offset in np.ndindex(*(step.stop - step.start for step in lead)):
        yield tuple(int(a) + b for a, b in zip(starts, offset, strict=True))


def _joined(a: Region | None, b: Region | None) -> Region | None:
    if a is None or b is None:
        return a or b
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def instance_layers_of(image: Image) -> InstanceLayers | None:
    """Return what shows the instances of an Image layer; None if nothing ran on it yet."""
    view = image.metadata.get(VIEW_KEY)
    # a duplicated layer shares the metadata of the one it was made from
    return view if isinstance(view, InstanceLayers) and view.image == image else None
