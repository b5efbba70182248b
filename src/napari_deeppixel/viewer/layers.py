"""The layers that show an image's instances, kept in step with its session both ways."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, ClassVar
from uuid import uuid4

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer, Shapes
from psygnal import Signal

from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import Instance, InstanceSet
from napari_deeppixel.edits.action import Change
from napari_deeppixel.edits.diff import OverlapRule, Region
from napari_deeppixel.edits.session import AnnotationSession, Applied, ReadOnlyError
from napari_deeppixel.viewer.box_edits import BoxEdits
from napari_deeppixel.viewer.boxes_view import BoxesView, box_settings
from napari_deeppixel.viewer.clicks import clicked_handle
from napari_deeppixel.viewer.features import boxes_features
from napari_deeppixel.viewer.labels_groups import (
    MAX_INSTANCE_LAYERS,
    LabelsGroups,
    LabelsMode,
)
from napari_deeppixel.viewer.labels_view import LabelsView
from napari_deeppixel.viewer.plane_map import PlaneMap
from napari_deeppixel.viewer.regions_view import RegionsView
from napari_deeppixel.viewer.strokes import is_written, stroke_regions

__all__ = [
    "MAX_INSTANCE_LAYERS",
    "METADATA_KEY",
    "VIEW_KEY",
    "InstanceLayers",
    "LabelsMode",
    "instance_layers_of",
]

METADATA_KEY = "napari_deeppixel"
# the InstanceLayers object itself: on the image, so that it lives as long, and on our layers, so
# that writers find what a flat label image cannot hold
VIEW_KEY = "napari_deeppixel_view"


class InstanceLayers:
    """Shows the instances of one Image layer, and takes hand edits into the session.

    Whatever changes the session is drawn at once, only where it changed. A stroke is taken when it
    ends; everything else that a person or a program does to our layers when somebody calls
    `settle` or `settle_all`, which the window does after `dirtied`, and a save always.

    A Labels layer that somebody deletes comes back, drawn from the session, with the next change
    or `redraw`. One that somebody gives data of another shape is left to them, and a new one drawn.

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
    layer_left
        Signal: a layer is no longer ours.
    told
        Signal: something for the person, such as why a change was not taken.
    last_planes
        The planes that the last undo or redo changed.
    is_tool_armed
        While a drawing tool waits for the mouse, clicks select nothing.
    """

    dirtied = Signal()
    selection_changed = Signal(object)
    clicked = Signal(object, bool)
    layer_added = Signal(object)
    layer_left = Signal(object)
    told = Signal(str)

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
        self._groups = LabelsGroups(
            f"{image.name} instances", session, self.planes, self._insert_labels
        )
        self._boxes: Shapes | None = None
        self.boxes = BoxesView(self._present_boxes, session, self.planes)
        self.regions = RegionsView(f"{image.name} complete", session, self.planes, self._insert)
        self.regions.edited.connect(self.dirtied.emit)
        self.is_tool_armed = False
        self.overlap_rule = OverlapRule.TAKE
        self.drawn_category_id: int | None = None
        self.metadata: dict[str, Any] = {}
        self.last_planes: list[PlaneIndex] = []
        # the largest number that an instance had when our layers were last drawn
        self._top = session.next_handle - 1
        self._is_taking = False
        # a layer was not settled, as somebody was painting on it
        self._has_left_out = False
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
    def mode(self) -> LabelsMode:
        """How instances are spread over Labels layers; `redraw` follows it."""
        return self._groups.mode

    @mode.setter
    def mode(self, mode: LabelsMode) -> None:
        self._groups.mode = mode

    @property
    def labels_layers(self) -> list[Labels]:
        """Our Labels layers that are in the viewer."""
        return [view.layer for view in self._groups]

    @property
    def layers(self) -> list[Layer]:
        """All our layers that are in the viewer."""
        others = [self._boxes, self.regions.layer]
        return self.labels_layers + [layer for layer in others if layer is not None]

    @property
    def boxes_layer(self) -> Shapes | None:
        """Our boxes layer, if it is in the viewer."""
        return self._boxes

    @property
    def num_visible(self) -> int:
        """Instances shown on all planes."""
        return self._groups.num_visible

    @property
    def shape(self) -> tuple[tuple[int, int], tuple[int, ...]]:
        """Size of the planes and sizes of the lead axes that these layers were made for."""
        return self.session.image_hw, self.planes.lead_shape

    # -- layers that come and go --------------------------------------------------------------

    def _insert_labels(self, view: LabelsView) -> None:
        layer = view.layer
        for event, slot in self._labels_slots(layer):
            event.connect(slot)
        layer.mouse_drag_callbacks.append(self._on_press)
        # above the image and whatever else is there, below the boxes
        place = len(self._viewer.layers)
        if self._boxes is not None:
            place = self._viewer.layers.index(self._boxes)
        self._insert(layer, place)
        if self.overlap_rule is OverlapRule.OVERLAP:
            self._raise(view, int(layer.selected_label))

    def _labels_slots(self, layer: Labels) -> list[tuple[Any, Callable[..., None]]]:
        return [
            (layer.events.paint, self._on_paint),
            (layer.events.labels_update, self._on_labels_update),
            (layer.events.set_data, self._on_set_data),
            (layer.events.features, self._on_set_data),
            (layer.events.data, self._on_data_replaced),
            (layer.events.selected_label, self._on_label_selected),
        ]

    def _boxes_slots(self, layer: Shapes) -> list[tuple[Any, Callable[..., None]]]:
        return [
            (layer.events.data, self._on_boxes_data),
            (layer.events.features, self._on_boxes_features),
            (layer.selected_data.events.items_changed, self._on_boxes_selected),
        ]

    def _insert(self, layer: Layer, place: int | None = None) -> None:
        """Put a layer of ours into the viewer; what a person works on stays the active one."""
        layers = self._viewer.layers
        active, selection = layers.selection.active, list(layers.selection)
        is_at_work = active in self.layers or (active is not None and isinstance(layer, Shapes))
        layers.insert(len(layers) if place is None else place, layer)
        if is_at_work:
            layers.selection.clear()
            layers.selection.update(selection)
            layers.selection.active = active
        layer.metadata.update({VIEW_KEY: self, METADATA_KEY: self.metadata})
        for key, do in self._KEYS.items():
            if key != "M" or isinstance(layer, Labels):
                layer.bind_key(key, lambda _layer, do=do: do(self) and None, overwrite=True)
        self.layer_added.emit(layer)

    def _present_boxes(self) -> Shapes | None:
        if self._boxes is not None or not self.planes.is_open:
            return self._boxes
        self._boxes = Shapes(
            ndim=len(self.planes.layer_shape()),
            name=f"{self._name} boxes",
            features=boxes_features([]),
            **box_settings(visible=False),
            **self.planes.placement(),
        )
        # deleting a Shapes layer can crash napari (napari#6472) where our dock was never shown, see
        # widgets/own_context.py; ours is kept and emptied instead
        if hasattr(self._boxes, "locked"):
            self._boxes.locked = True
        for event, slot in self._boxes_slots(self._boxes):
            event.connect(slot)
        self._insert(self._boxes)
        return self._boxes

    def _release(self, layer: Layer) -> None:
        """Stop following a layer, which is a person's own from now on."""
        view = self._groups.view_of(layer)
        if view is not None:
            self._groups.drop(view)
            self._let_go(view)
            return
        self._unbind(layer)
        if self._boxes is not None and layer == self._boxes:
            for event, slot in self._boxes_slots(self._boxes):
                event.disconnect(slot)
            self._boxes = None
        elif layer == self.regions.layer:
            self.regions.disconnect()

    def _let_go(self, view: LabelsView) -> None:
        self._unbind(view.layer)
        for event, slot in self._labels_slots(view.layer):
            event.disconnect(slot)
        view.layer.mouse_drag_callbacks.remove(self._on_press)

    def _unbind(self, layer: Layer) -> None:
        layer.metadata.pop(VIEW_KEY, None)
        for key in self._KEYS:
            layer.bind_key(key, None)
        self.layer_left.emit(layer)

    def _on_layer_removed(self, event: Any) -> None:
        """Take over what was done to a layer of ours that somebody deletes."""
        layer = event.value
        if layer not in self.layers:
            return
        view = self._groups.view_of(layer)
        if view is not None:
            for index in np.ndindex(*self.planes.lead_shape):
                for _ in self._settle_view(view, index):
                    pass
        elif layer == self.regions.layer:
            self._take_regions()
        else:
            self.boxes.forget()
            self.dirtied.emit()
        self._release(layer)

    def set_aside(self) -> None:
        """Leave our layers to the person, under names that nothing else uses."""
        for layer in self.layers:
            layer.name = f"{layer.name} (old)"
        self.disconnect()

    def discard(self) -> None:
        """Take our layers out of the viewer; the session stays."""
        layers = self.layers
        self.disconnect()
        for layer in layers:
            self._viewer.layers.remove(layer)

    def disconnect(self) -> None:
        """Stop following the session, and our layers."""
        self.session.changed.disconnect(self._on_session_changed, missing_ok=True)
        self.session.visibility_changed.disconnect(self._on_visibility_changed, missing_ok=True)
        self._viewer.layers.events.removed.disconnect(self._on_layer_removed)
        for layer in self.layers:
            self._release(layer)

    def _follow_image(self) -> None:
        """Move our layers to where the image is now."""
        for layer in self.layers:
            for name, value in self.planes.placement().items():
                if name == "affine":
                    is_same = np.array_equal(layer.affine.affine_matrix, value)
                else:
                    is_same = np.array_equal(getattr(layer, name), value)
                if not is_same:
                    setattr(layer, name, value)

    # -- drawing everything -------------------------------------------------------------------

    def redraw(self) -> Iterator[None]:
        """Bring all layers up to date, the current plane first, then the boxes, in short steps.

        What a person did meanwhile is taken over first.
        """
        indices = self.session.plane_indices
        current = self.planes.current()
        indices.sort(key=lambda index: index != current)
        self._follow_image()
        self._groups.add_missing(())
        for index in indices:
            yield from self.settle_plane(index)
            self._groups.add_missing(self.session.visible(index))
        yield from self._remove_unused()
        for view in self._groups:
            view.layer.metadata[METADATA_KEY] = self.metadata
            view.forget_history()
            view.write_features()
        self._take_regions()
        self.regions.redraw()
        yield
        self.boxes.forget()
        yield from self.redraw_boxes()

    def _remove_unused(self) -> Iterator[None]:
        for view in self._groups.unused():
            for index in np.ndindex(*self.planes.lead_shape):
                yield from self._settle_view(view, index)
            if view in self._groups.unused():
                self._release(view.layer)
                self._viewer.layers.remove(view.layer)
            yield

    def redraw_boxes(self) -> Iterator[None]:
        """Draw boxes: all of them while they are few, else those in view, best first."""
        self.boxes.update_captions()
        yield from self.boxes.redraw()
        if self.boxes.is_stale:
            # a person came in between
            self.dirtied.emit()

    @property
    def num_hidden_boxes(self) -> int:
        """Instances whose box is not drawn because there are more than `MAX_BOXES`."""
        return self.num_visible - self.boxes.num_shown

    # -- session → layers ---------------------------------------------------------------------

    def _on_session_changed(self, applied: Applied) -> None:
        action = applied.action
        planes = {c.index for c in action.changes} | {c.index for c in action.regions}
        self.last_planes = sorted(planes)
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
        if not changes:
            return
        self._adopt_data()
        by_plane: dict[PlaneIndex, list[Change]] = {}
        for change in changes:
            by_plane.setdefault(change.index, []).append(change)
        self._make_way(by_plane)
        self._groups.add_missing(c.after for c in changes if c.after is not None)
        for index, of_plane in by_plane.items():
            self._redraw_changes(index, of_plane)
        self._write_features(changes)
        self.boxes.update(changes)
        if self.boxes.is_stale:
            self.dirtied.emit()

    def _make_way(self, indices: Iterable[PlaneIndex]) -> None:
        """Give other numbers to work that waits, where instances just got its numbers."""
        top, self._top = self._top, self.session.next_handle - 1
        if self._top <= top or self._is_taking:
            return
        for view in self._groups:
            for index in indices:
                view.make_way(index, top)
            if view.layer.selected_label > top:
                self._choose_number(view, self.session.next_handle)

    def _redraw_changes(self, index: PlaneIndex, changes: list[Change]) -> None:
        for view in self._groups:
            seen = [change for change in changes if not view.looks_same(change)]
            if seen:
                both = [i for c in seen for i in (c.before, c.after) if i is not None]
                regions = list(dict.fromkeys(instance.box_xyxy for instance in both))
                view.redraw_changed(index, regions, _as_before(view, index, changes, seen))

    def _write_features(self, changes: list[Change]) -> None:
        befores = (c.before for c in changes if c.before is not None and c.before.handle)
        gone: dict[int, Instance | None] = dict.fromkeys(i.handle for i in befores)
        for view in self._groups:
            # one that goes may leave its number to one that comes
            afters = (c.after for c in changes if c.after is not None)
            rows = gone | {i.handle: i for i in afters if view.is_member(i)}
            if rows:
                view.write_rows(rows)

    # -- layers → session ---------------------------------------------------------------------

    def _on_paint(self, event: Any) -> None:
        view = self._groups.view_of(event.source)
        if view is None or view.is_writing:
            return
        view.announced += stroke_regions(event.value)
        if is_written(view.layer, event.value):
            self._take_stroke(view)
        else:
            self.dirtied.emit()
        if self._has_left_out:
            self._has_left_out = False
            self.dirtied.emit()

    def _on_labels_update(self, event: Any) -> None:
        view = self._groups.view_of(event.source)
        if view is not None and view.announced and not view.is_writing:
            self._take_stroke(view)

    def _take_stroke(self, view: LabelsView) -> None:
        announced, view.announced = view.announced, []
        current = self.planes.current()
        # a brush that reaches through several planes is one step all the same
        stroke = f"stroke {uuid4()}"
        for lead, region in announced:
            for data_index in _planes_in(lead):
                index = self.planes.session_index(data_index)
                painted = int(view.layer.selected_label)
                is_new = view.shows(painted, index, region)
                self._take(view, index, region, brings_back=False, joins=stroke)
                if is_new and index == current:
                    self._go_on_with_new(view, index, painted)

    def _take(
        self,
        view: LabelsView,
        index: PlaneIndex,
        region: Region,
        *,
        brings_back: bool,
        joins: str = "",
    ) -> None:
        self._is_taking = True
        try:
            view.take(
                index,
                region,
                brings_back=brings_back,
                rule=self.overlap_rule,
                category_id=view.category_id or self.drawn_category_id,
                joins=joins,
            )
        except ReadOnlyError as error:
            # what was painted is taken off again
            self._tell(str(error))
            self.dirtied.emit()
        finally:
            self._is_taking = False
        view.redraw(index, region)

    def _go_on_with_new(self, view: LabelsView, index: PlaneIndex, painted: int) -> None:
        """Select the instance that a stroke made, where the number was another's."""
        found = self.session.find(painted)
        is_its = (
            found is not None
            and found[0] == index
            and self.session.is_visible(index, found[1].uuid)
        )
        newest = self.session.find(self.session.next_handle - 1)
        if not is_its and newest is not None and newest[0] == index:
            self._choose_number(view, newest[1].handle)

    def _choose_number(self, view: LabelsView, handle: int) -> None:
        view.grow_type(handle)
        view.layer.selected_label = handle

    def _on_set_data(self, event: Any) -> None:
        view = self._groups.view_of(event.source)
        if view is not None and not view.is_writing:
            self.dirtied.emit()

    def _on_data_replaced(self, event: Any) -> None:
        view = self._groups.view_of(event.source)
        if view is not None and not view.is_writing:
            self._adopt_data()

    def _adopt_data(self) -> None:
        """Follow arrays that somebody put into our Labels layers."""
        for view in self._groups:
            others = (layer.data for layer in self._viewer.layers if layer != view.layer)
            if not view.adopt_data(others):
                self._leave(view)

    def _leave(self, view: LabelsView) -> None:
        """Leave a layer to the person who put other data in it, and draw a new one."""
        layer = view.layer
        self._viewer.status = (
            f"{layer.name}: expected data of shape {self.planes.layer_shape()}, got "
            f"{np.shape(layer.data)}: the layer is yours, and a new one shows the instances"
        )
        layer.name = f"{layer.name} (own data)"
        self._groups.renew(view)
        self._let_go(view)

    def _on_boxes_data(self, event: Any) -> None:
        action = getattr(event, "action", "")
        if self.boxes.is_writing:
            return
        if action in ("adding", "changing", "removing"):
            self.boxes.hold()
        elif action in ("added", "changed", "removed"):
            self.boxes.note_edit()
            self.dirtied.emit()

    def _on_boxes_features(self) -> None:
        if not self.boxes.is_writing:
            self.dirtied.emit()

    def settle(self) -> Iterator[None]:
        """Take over what was done to the current plane past `paint`, and draw what is stale."""
        current = self.planes.current()
        if current is not None:
            yield from self.settle_plane(current)
        self._take_regions()
        self._take_attributes(self.boxes)
        if self.boxes.is_stale or self._boxes is None:
            yield from self.redraw_boxes()

    def settle_all(self) -> None:
        """Take over what was done to any plane, and draw what is stale; before a save."""
        for index in np.ndindex(*self.planes.lead_shape):
            for _ in self.settle_plane(index):
                pass
        for _ in self.settle():
            pass

    def settle_plane(self, index: PlaneIndex) -> Iterator[None]:
        """Take over what was done to a plane, in short steps; several regions are one step."""
        self._adopt_data()
        for view in self._groups:
            if view.is_busy:
                self._has_left_out = True
            else:
                yield from self._settle_view(view, index)

    def _settle_view(self, view: LabelsView, index: PlaneIndex) -> Iterator[None]:
        dirty: Region | None = None
        for tile in view.tiles():
            dirty = _joined(dirty, view.dirty_region(index, tile))
            yield
        if dirty is not None:
            self._take(view, index, dirty, brings_back=True)
        self._take_attributes(view)

    def _take_attributes(self, view: LabelsView | BoxesView) -> None:
        attributes = view.changed_attributes()
        why = ""
        try:
            for index in self.session.plane_indices if attributes else ():
                self.session.take_attributes(index, attributes)
        except ReadOnlyError as error:
            why = str(error)
        known = {category.name for category in self.session.categories.categories}
        unknown = {name for name, _ in attributes.values() if name} - known
        if unknown:
            why = (
                f"category must be one of {sorted(known)}, got {sorted(unknown)}: the table is as "
                "it was. The card in the Review tab takes new ones"
            )
        if view.restore_features() and not why:
            why = "category and state can be changed in the table; what is measured is as it was"
        if why:
            self._tell(why)

    def _tell(self, message: str) -> None:
        self._viewer.status = message
        self.told.emit(message)

    def has_changed_tables(self) -> bool:
        """Whether a person changed a cell of our features tables, which napari tells nobody."""
        return self.boxes.has_changed_features() or any(
            view.has_changed_features() for view in self._groups
        )

    def _take_regions(self) -> None:
        if self.regions.is_busy:
            # when they have finished
            self.dirtied.emit()
        try:
            self.regions.take()
        except ReadOnlyError as error:
            self._tell(str(error))

    def take_box_edits(self) -> BoxEdits:
        """Return what a person did in the boxes layer, and put the layer back to the session."""
        return self.boxes.take()

    def record_of(self, data: Any) -> dict[PlaneIndex, InstanceSet] | None:
        """Return the instances of one of our Labels layers, by place in its lead axes.

        Overlaps are kept. None if the data are of no Labels layer of ours.
        """
        view = next((each for each in self._groups if each.layer.data is data), None)
        if view is None:
            return None
        self.settle_all()
        record = {}
        for index in np.ndindex(*data.shape[:-2]):
            visible = self.session.visible(self.planes.session_index(index))
            record[index] = visible.select([view.is_member(i) for i in visible])
        return record

    # -- selection, undo ----------------------------------------------------------------------

    def _on_label_selected(self, event: Any) -> None:
        view = self._groups.view_of(event.source)
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
        is_adding = "Shift" in event.modifiers
        handle = yield from clicked_handle(layer, event)
        found = self.session.find(handle)
        if found is not None:
            self.clicked.emit((found[0], found[1].uuid), is_adding)

    def _raise(self, view: LabelsView, handle: int | None) -> None:
        """Draw the selected instance on top, so that its hidden part can be seen and edited."""
        self._adopt_data()
        changed = []
        for one in {view.on_top, handle} - {None}:
            found = self.session.find(int(one or 0))
            if found is not None and self.session.is_visible(found[0], found[1].uuid):
                index, region = found[0], found[1].box_xyxy
                changed.append((index, region, view.members(index, region)))
        view.on_top = handle
        for index, region, before in changed:
            view.redraw_changed(index, [region], before)

    def set_overlap_rule(self, rule: OverlapRule) -> None:
        """Set what painting one instance over another does to the other."""
        self.overlap_rule = rule
        for view in self._groups:
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
        for view in self._groups:
            if view.is_member(instance):
                self._choose_number(view, instance.handle)

    def select_new(self) -> None:
        """Choose a number that no instance ever had, so that painting draws a new one."""
        for view in self._groups:
            self._choose_number(view, self.session.next_handle)

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
    view: LabelsView, index: PlaneIndex, changes: list[Change], seen: list[Change]
) -> list[Instance]:
    """Return what was drawn before some changes, where some of them are seen, the last on top."""
    boxes = [i.box_xyxy for c in seen for i in (c.before, c.after) if i is not None]
    low, high = np.min(boxes, axis=0), np.max(boxes, axis=0)
    touched = {change.uuid for change in changes}
    near = view.members(index, (int(low[0]), int(low[1]), int(high[2]), int(high[3])))
    shown = [i for i in near if i.uuid not in touched]
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
