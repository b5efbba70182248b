"""Colours of instances on the canvas: one each, or by category, state or score."""

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any

import numpy as np
from napari.layers import Labels, Layer
from napari.utils.colormaps import (
    CyclicLabelColormap,
    ensure_colormap,
    label_colormap,
)
from napari.utils.notifications import show_warning
from numpy.typing import NDArray

from napari_deeppixel.core.category import palette_color
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import Instance, InstanceSet, InstanceState
from napari_deeppixel.edits.draft import InstanceRef
from napari_deeppixel.edits.session import Applied
from napari_deeppixel.viewer.boxes_view import MAX_BOXES
from napari_deeppixel.viewer.layers import InstanceLayers

Rgba = NDArray[np.float32]

# napari marks nothing on a colormap; by this name ours are known again
_NAME = "napari-deeppixel"
# A cyclic colormap of this length never comes round: it holds a colour for each handle below it.
# Measured with 10,000 instances: 10 ms of the GUI thread to make and set one, for 16-bit as for
# 32-bit labels, against 130 to 200 ms for a `DirectLabelColormap`, which loops in Python.
# 65,535 colours are the most that fit in a 16-bit texture; a direct one for more needs numba.
_NUM_COLORS = (1 << 16) - 1
# napari's own choice for a new Labels layer
_NAPARI_COLORS, _NAPARI_SEED = 49, 0.5
_NO_SCORE = "#999999"
_CAPTION = "white"

# Okabe & Ito 2008, Color Universal Design: told apart by the colour-blind, too
_STATE_COLORS = {
    InstanceState.UNREVIEWED: palette_color(0),
    InstanceState.ACCEPTED: palette_color(2),
    InstanceState.EDITED: palette_color(1),
    InstanceState.DRAWN: palette_color(3),
    InstanceState.UNSURE: palette_color(4),
    InstanceState.REJECTED: palette_color(5),
}


class ColorBy(StrEnum):
    """What the colour of an instance tells; captions for people."""

    INSTANCE = "instance"
    CATEGORY = "category"
    STATE = "state"
    SCORE = "score"


def state_colors() -> dict[InstanceState, str]:
    """Return the colour ``#rrggbb`` of each state, from a colour-blind-safe set.

    Unreviewed is sky blue, accepted green, edited orange, drawn yellow, unsure purple and rejected
    vermilion.
    """
    return dict(_STATE_COLORS)


def color_layers(view: InstanceLayers, by: ColorBy) -> None:
    """Colour our layers once; `ColorKeeper` goes on doing so.

    `INSTANCE` brings napari's own colours back, and the category's to the boxes.
    """
    keeper = ColorKeeper(view)
    keeper.set_by(by)
    keeper.close()


class ColorKeeper:
    """Keeps the colours of our layers in step with what the session says.

    Scores are drawn in viridis from 0 to 1, grey where there is none. In the layer, a handle that
    no instance has yet, such as that of a stroke under the brush, has the colour that the drawn
    instance will get.

    Parameters
    ----------
    view
        Whose layers.
    on_stale
        Called when a colour on the canvas is no longer right; it must see to it that `refresh` is
        called soon, at best not more than a few times a second: that takes 10 ms, with 1,000
        boxes 25. None: drawn at once.
    """

    def __init__(self, view: InstanceLayers, *, on_stale: Callable[[], None] | None = None) -> None:
        self._view = view
        self._on_stale = on_stale or self.refresh
        self._by = ColorBy.INSTANCE
        self._chosen: set[InstanceRef] | None = None
        self._selected: set[InstanceRef] = set()
        self._colors = np.zeros((_NUM_COLORS, 4), np.float32)
        self._has_warned = False
        self._are_labels_stale = self._are_boxes_stale = False
        session = view.session
        self._connections: list[tuple[Any, Any]] = [
            (session.changed, self._on_changed),
            (session.visibility_changed, self._on_visibility_changed),
            (session.categories_changed, self._on_categories_changed),
            (view.layer_added, self._on_layer_added),
        ]
        if view.boxes_layer is not None:
            self._connections.append((view.boxes_layer.events.features, self._on_boxes_drawn))
        for signal, slot in self._connections:
            signal.connect(slot)

    def close(self) -> None:
        """Stop following; the colours stay. May be called more than once."""
        for signal, slot in self._connections:
            signal.disconnect(slot)
        self._connections.clear()

    @property
    def by(self) -> ColorBy:
        """What the colours tell."""
        return self._by

    @property
    def is_stale(self) -> bool:
        """Whether `refresh` has something to do."""
        return self._are_labels_stale or self._are_boxes_stale

    @property
    def hides_others(self) -> bool:
        """Whether some instances are hidden."""
        return self._chosen is not None

    def set_by(self, by: ColorBy) -> None:
        """Choose what the colours tell, and draw them."""
        self._by = by
        self._recolor()
        self.refresh()

    def set_selected(self, refs: Iterable[InstanceRef]) -> None:
        """Draw the boxes of these instances white, so that they are found on the canvas."""
        selected = set(refs)
        if selected != self._selected:
            self._selected = selected
            self._are_boxes_stale = True
            self.refresh()

    def hide_others(self, refs: Iterable[InstanceRef] | None) -> None:
        """Show these instances alone, and those that are drawn from now on; None: show all."""
        self._chosen = None if refs is None else set(refs)
        if not self._colors.any():
            self._recolor()
        self._are_labels_stale = self._are_boxes_stale = True
        self.refresh()

    # -- which colour -------------------------------------------------------------------------

    @property
    def _is_off(self) -> bool:
        """Whether napari's own colours are asked for."""
        return self._by is ColorBy.INSTANCE and self._chosen is None

    @property
    def _has_room(self) -> bool:
        return self._view.session.next_handle < _NUM_COLORS

    def _recolor(self) -> None:
        """Choose the colours of all instances anew."""
        session = self._view.session
        if self._by is ColorBy.INSTANCE:
            own = label_colormap(_NAPARI_COLORS, _NAPARI_SEED, background_value=0)
            self._colors = own.map(np.arange(_NUM_COLORS)).astype(np.float32)
        else:
            self._colors = np.tile(self._color_of_drawn(), (_NUM_COLORS, 1))
            for index in session.plane_indices:
                visible = session.visible(index)
                self._put(visible.handles, instance_colors(visible, self._by))
        self._are_labels_stale = self._are_boxes_stale = True

    def _put(self, handles: NDArray[np.int64], colors: Rgba) -> bool:
        """Set the colours (N, 4) of handles (N,); return whether that changed any."""
        near = handles < _NUM_COLORS
        handles, colors = handles[near], colors[near]
        differs = bool((self._colors[handles] != colors).any())
        self._colors[handles] = colors
        return differs

    def _color_of_drawn(self) -> Rgba:
        """Return the colour (4,) that an instance under the brush will get."""
        if self._by is ColorBy.STATE:
            return _rgba(_STATE_COLORS[InstanceState.DRAWN])
        categories = self._view.session.categories
        if self._by is ColorBy.SCORE or not len(categories):
            return _rgba(_NO_SCORE)
        category_id = self._view.drawn_category_id or categories.categories[0].id
        return _rgba(categories.by_id(category_id).color)

    def _on_changed(self, applied: Applied) -> None:
        if self._is_off:
            return
        session = self._view.session
        shown = []
        for change in applied.action.changes:
            ref = (change.index, change.uuid)
            instance = session.get(*ref)
            if instance is None or not session.is_visible(*ref):
                continue
            shown.append(instance)
            if self._chosen is not None and change.before is None and ref not in self._chosen:
                # made while the others are hidden: a person wants to see what they make
                self._chosen.add(ref)
                self._are_labels_stale = True
        self._take(shown)

    def _on_visibility_changed(self, turned: dict[PlaneIndex, list[Instance]]) -> None:
        session = self._view.session
        self._take(
            [
                instance
                for index, instances in turned.items()
                for found in instances
                if session.is_visible(index, found.uuid)
                and (instance := session.get(index, found.uuid)) is not None
            ]
        )

    def _take(self, shown: list[Instance]) -> None:
        """Set the colours of some shown instances."""
        if self._is_off:
            return
        self._are_labels_stale |= not (self._has_room or self._has_warned)
        if shown and self._by is not ColorBy.INSTANCE:
            session = self._view.session
            instances = InstanceSet.from_instances(
                shown, image_hw=session.image_hw, categories=session.categories
            )
            colors = instance_colors(instances, self._by)
            self._are_labels_stale |= self._put(instances.handles, colors)
        # the boxes layer goes back to the category's colour for whatever it draws anew
        self._are_boxes_stale = True
        self._on_stale()

    def _on_categories_changed(self) -> None:
        if not self._is_off:
            self._recolor()
            self._on_stale()

    def _on_layer_added(self, layer: Layer) -> None:
        if layer == self._view.boxes_layer:
            layer.events.features.connect(self._on_boxes_drawn)
            self._connections.append((layer.events.features, self._on_boxes_drawn))
        elif not self._is_off and isinstance(layer, Labels):
            self._are_labels_stale = True
            self._on_stale()

    def _on_boxes_drawn(self) -> None:
        if not self._is_off or self._selected:
            self._are_boxes_stale = True
            self._on_stale()

    # -- drawing ------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Draw the colours that changed."""
        if not (self._is_off or self._has_room or self._has_warned):
            self._has_warned = True
            show_warning(
                f"Colours by {self._by.value} and hiding need numbers below {_NUM_COLORS:,} in the "
                f"Labels layer, this image is at {self._view.session.next_handle:,}. napari's own "
                "colours are shown instead."
            )
        if self._are_labels_stale:
            self._are_labels_stale = False
            for layer in self._view.labels_layers:
                self._color_labels(layer)
        if self._are_boxes_stale:
            self._are_boxes_stale = False
            self._color_boxes()

    def _color_labels(self, layer: Labels) -> None:
        colormap = self._colormap()
        if _NAME not in (colormap.name, layer.colormap.name):
            # a person may have shuffled napari's own
            return
        colormap.use_selection = layer.show_selected_label
        colormap.selection = layer.selected_label
        # napari tells of a selection whenever colours change; nobody selected anything
        with self._view.selection_changed.blocked():
            layer.colormap = colormap

    def _colormap(self) -> CyclicLabelColormap:
        """Return a new colormap; napari keeps caches in each, so none is changed or shared."""
        if self._is_off or not self._has_room:
            return label_colormap(_NAPARI_COLORS, _NAPARI_SEED, background_value=0)
        # a colormap keeps the array that it is given
        colors, handles = self._colors.copy(), self._chosen_handles()
        if handles is not None:
            colors[:] = 0
            colors[handles] = self._colors[handles]
        return CyclicLabelColormap(colors=colors, background_value=0, name=_NAME)

    def _chosen_handles(self) -> list[int] | None:
        """Return the handles to show; None: all."""
        if self._chosen is None:
            return None
        session = self._view.session
        found = [session.get(*ref) for ref in self._chosen]
        # the next one is under the brush
        return [i.handle for i in found if i is not None and i.handle] + [session.next_handle]

    def _color_boxes(self) -> None:
        layer = self._view.boxes_layer
        if layer is None or not 0 < len(layer.data) <= MAX_BOXES:
            return
        handles = [int(handle) for handle in layer.features.get("handle", ())]
        if len(handles) != len(layer.data):
            return
        colors = self._box_colors(handles)
        # 13 ms to set 1,000, less than 0.1 ms to look
        if not np.allclose(layer.edge_color, colors, atol=1e-3):
            layer.edge_color = colors
        if self._chosen is None:
            if layer.text.color.encoding_type != "ConstantColorEncoding":
                layer.text.color = _CAPTION
        else:
            captions = np.ones((len(handles), 4), np.float32)
            captions[:, 3] = colors[:, 3]
            layer.text.color = captions

    def _box_colors(self, handles: list[int]) -> Rgba:
        session = self._view.session
        chosen = self._chosen_handles()
        colors = np.ones((len(handles), 4), np.float32)
        found = {row: session.find(handle) for row, handle in enumerate(handles)}
        known = {row: each[1] for row, each in found.items() if each is not None}
        instances = InstanceSet.from_instances(
            known.values(), image_hw=session.image_hw, categories=session.categories
        )
        # napari's own colours are not repeated: the box tells the category then
        by = ColorBy.CATEGORY if self._by is ColorBy.INSTANCE else self._by
        colors[list(known)] = instance_colors(instances, by)
        for row, each in found.items():
            if each is not None and (each[0], each[1].uuid) in self._selected:
                colors[row] = 1
        if chosen is not None:
            colors[~np.isin(handles, chosen), 3] = 0
        return colors


def instance_colors(instances: InstanceSet, by: ColorBy) -> Rgba:
    """Return the colour (N, 4) of each instance by category, state or score.

    Raises
    ------
    ValueError
        If `by` is `INSTANCE`: those colours are napari's.
    """
    match by:
        case ColorBy.CATEGORY:
            shades = {c.id: _rgba(c.color) for c in instances.categories.categories}
            rows = [shades[number] for number in instances.category_ids.tolist()]
        case ColorBy.STATE:
            of_state = {state: _rgba(color) for state, color in _STATE_COLORS.items()}
            rows = [of_state[state] for state in instances.states]
        case ColorBy.SCORE:
            return score_colors(instances.scores)
        case _:
            raise ValueError(f"instances have colours by category, state or score, got {by!r}")
    return np.array(rows, np.float32).reshape(-1, 4)


def score_colors(scores: NDArray[np.float64]) -> Rgba:
    """Return colours (N, 4) of scores from 0 to 1 in viridis; grey where a score is NaN."""
    if not scores.size:
        return np.zeros((0, 4), np.float32)
    colors: Rgba = ensure_colormap("viridis").map(np.nan_to_num(scores)).astype(np.float32)
    colors[np.isnan(scores)] = _rgba(_NO_SCORE)
    return colors


def _rgba(color: str) -> Rgba:
    channels = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    return np.array([*channels, 1.0], np.float32)
