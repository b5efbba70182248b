"""Draw one thing on the canvas for a tool: a line, an outline, a box, a click or some points."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Layer
from numpy.typing import ArrayLike, NDArray
from psygnal import Signal

from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.viewer.gesture_shapes import (
    Click,
    Lasso,
    Line,
    Point,
    Points,
    Rectangle,
    Shape,
)
from napari_deeppixel.viewer.trace import Trace

# on the canvas, in logical pixels
_CLICK_RADIUS_PX = 5.0


class GestureError(DeepPixelError):
    """Nothing can be drawn on this layer as the viewer shows it now."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """What a person drew.

    Attributes
    ----------
    points_yx
        (K, 2) float64 in the last two axes of the layer's data; napari's coordinates, with pixel
        centres on integers. Nothing is clipped to the image.
    plane
        Index in the layer's other axes of the plane that was on screen; outside of the layer where
        it ends before the others do.
    """

    points_yx: NDArray[np.float64]
    plane: PlaneIndex


class Gestures:
    """Lets a person draw one thing on the canvas for a tool, then puts all back as it was.

    While a gesture is armed, its layer is the active one and the mouse draws instead of painting.
    The wheel zooms, and holding Space pans. Escape, another tool or mode, another active layer,
    another plane, a removed layer: each calls it off, and nothing is called. One object for each
    viewer.

    Parameters
    ----------
    viewer
        Where the layers are.

    Attributes
    ----------
    why_cancelled
        Why the last gesture was called off, if it was not the person who did.
    """

    # the name of the tool that is armed now, or None
    changed = Signal(object)

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._trace = Trace(viewer)
        self._armed: _Armed | None = None
        self.why_cancelled = ""

    @property
    def is_armed(self) -> bool:
        """Whether the next thing drawn goes to a tool."""
        return self._armed is not None

    @property
    def armed_name(self) -> str | None:
        """Name of the tool that waits for a drawing."""
        return self._armed.name if self._armed else None

    @property
    def hint(self) -> str:
        """What the person is asked to draw; empty if nothing."""
        return self._armed.hint if self._armed else ""

    def line(
        self, target: Layer, on_done: Callable[[Drawn], None], *, name: str, hint: str
    ) -> None:
        """Wait for a line: a free-hand drag, or two clicks for a straight one.

        Parameters
        ----------
        target
            Layer in whose data the points are given.
        on_done
            Called once, after all has been put back, with at least two different points. It may
            arm the next gesture, but must not run an event loop (no modal dialog).
        name
            Of the tool, for `armed_name`.
        hint
            What to draw; shown in the status bar.

        Raises
        ------
        GestureError
            If the layer is not in the viewer, or its last two axes are not on screen in 2D.
        """
        self._arm(target, on_done, Line(), name=name, hint=hint)

    def lasso(
        self, target: Layer, on_done: Callable[[Drawn], None], *, name: str, hint: str
    ) -> None:
        """Wait for a free-hand outline in one drag; its end is joined to its start.

        At least three different points come, the first not repeated. A click draws nothing and
        leaves the tool armed. Parameters and errors as for `line`.
        """
        self._arm(target, on_done, Lasso(), name=name, hint=hint)

    def rectangle(
        self, target: Layer, on_done: Callable[[Drawn], None], *, name: str, hint: str
    ) -> None:
        """Wait for a box in one drag; lowest (y, x) first, then highest, along the data's axes.

        Parameters and errors as for `line`.
        """
        self._arm(target, on_done, Rectangle(), name=name, hint=hint)

    def click(
        self, target: Layer, on_done: Callable[[Drawn], None], *, name: str, hint: str
    ) -> None:
        """Wait for one click, (1, 2); a drag pans. Parameters and errors as for `line`."""
        self._arm(target, on_done, Click(), name=name, hint=hint)

    def points(
        self, target: Layer, on_done: Callable[[Drawn], None], *, name: str, hint: str
    ) -> None:
        """Wait for two or more different clicks, ended by Enter or a double click; a drag pans.

        The double click's own place counts. Parameters and errors as for `line`.
        """
        self._arm(target, on_done, Points(), name=name, hint=hint)

    def cancel(self, why: str = "") -> None:
        """Call the armed gesture off, if any: all is as before, and nothing is called.

        Parameters
        ----------
        why
            For `why_cancelled`, where it was not the person who asked.
        """
        if self._armed is not None:
            self.why_cancelled = why
            self._disarm()

    def close(self) -> None:
        """Call the armed gesture off, and take the trace out of the viewer."""
        self.cancel()
        self._trace.remove()

    # -- armed and disarmed -------------------------------------------------------------------

    def _arm(
        self,
        target: Layer,
        on_done: Callable[[Drawn], None],
        shape: Shape,
        *,
        name: str,
        hint: str,
    ) -> None:
        self.cancel()
        self.why_cancelled = ""
        if not self._can_draw_on(target):
            raise GestureError(
                f"{name}: the last two axes of the layer {target.name!r} must be on screen in 2D; "
                "leave the 3D view and roll the axes back"
            )
        loan = _Loan(self._viewer, target)
        self._armed = _Armed(
            target=target,
            on_done=on_done,
            shape=shape,
            name=name,
            hint=hint,
            loan=loan,
            position=self._lead_position(target),
        )
        loan.take(hint=hint, drag_pans=shape.drag_pans, keys=self._keys(shape))
        self._trace.prepare(target)
        # goes with the next move of the mouse, while the layer's help stays
        self._viewer.status = hint
        target.mouse_drag_callbacks.append(self._on_press)
        target.mouse_move_callbacks.append(self._on_hover)
        target.mouse_double_click_callbacks.append(self._on_double_click)
        for signal, slot in self._connections(target):
            signal.connect(slot)
        self.changed.emit(name)

    def _disarm(self) -> None:
        armed, self._armed = self._armed, None
        if armed is None:
            return
        for signal, slot in self._connections(armed.target):
            signal.disconnect(slot)
        # before the mode comes back: its callbacks must not run for the event that ended this
        armed.target.mouse_drag_callbacks.remove(self._on_press)
        armed.target.mouse_move_callbacks.remove(self._on_hover)
        armed.target.mouse_double_click_callbacks.remove(self._on_double_click)
        armed.loan.give_back()
        self._trace.clear()
        self.changed.emit(None)

    def _finish(self, armed: "_Armed") -> None:
        drawn = Drawn(points_yx=np.array(armed.shape.points, dtype=np.float64), plane=armed.plane)
        self._disarm()
        armed.on_done(drawn)

    def _connections(self, target: Layer) -> list[tuple[Any, Callable[[], None]]]:
        viewer = self._viewer
        return [
            # also when the layer is removed
            (viewer.layers.selection.events.active, self._on_active_changed),
            (viewer.dims.events.point, self._on_view_changed),
            (viewer.dims.events.order, self._on_view_changed),
            (viewer.dims.events.ndisplay, self._on_view_changed),
            (target.events.mode, self._on_mode_changed),
        ]

    def _on_active_changed(self) -> None:
        armed = self._armed
        if armed is not None and self._viewer.layers.selection.active != armed.target:
            self.cancel(f"{armed.name} stopped: another layer was chosen.")

    def _on_mode_changed(self) -> None:
        self.cancel()

    def _on_view_changed(self) -> None:
        armed = self._armed
        if armed is not None and (
            not self._can_draw_on(armed.target)
            or _as_plane(self._lead_position(armed.target)) != armed.plane
        ):
            self.cancel(f"{armed.name} stopped: another plane or view is shown.")

    def _can_draw_on(self, target: Layer) -> bool:
        dims = self._viewer.dims
        return (
            target in self._viewer.layers
            and target.ndim >= 2
            and sorted(dims.displayed) == [dims.ndim - 2, dims.ndim - 1]
        )

    def _lead_position(self, target: Layer) -> tuple[float, ...]:
        return tuple(np.asarray(target.world_to_data(self._viewer.dims.point))[:-2].tolist())

    # -- mouse and keys -----------------------------------------------------------------------

    def _keys(self, shape: Shape) -> dict[str, Callable[[Layer], Any]]:
        def end(_: Layer) -> None:
            armed = self._armed
            if armed is not None and armed.shape.end():
                self._finish(armed)

        def pan(layer: Layer) -> Iterator[None]:
            armed = self._armed
            layer.mouse_pan = True
            yield
            if armed is not None and self._armed is armed:
                layer.mouse_pan = shape.drag_pans

        return {"Escape": lambda _: self.cancel(), "Enter": end, "Space": pan}

    def _on_press(self, layer: Layer, event: Any) -> Iterator[None]:
        armed = self._armed
        # Alt and a drag is napari's zoom into a box
        if armed is None or event.button != 1 or "Alt" in event.modifiers:
            return
        shape = armed.shape
        if layer.mouse_pan and not shape.drag_pans:
            return
        pressed_px = np.asarray(event.pos)
        dragged = False
        shape.press(armed.data_yx(event))
        self._draw(armed)
        yield
        while event.type == "mouse_move":
            if self._armed is not armed:
                return
            dragged = dragged or _distance(event.pos, pressed_px) > _CLICK_RADIUS_PX
            shape.drag(armed.data_yx(event))
            if not shape.drag_pans:
                self._draw(armed)
            yield
        if self._armed is not armed:
            return
        # napari drops moves that come too fast: the last may be this one
        dragged = dragged or _distance(event.pos, pressed_px) > _CLICK_RADIUS_PX
        if shape.release(armed.data_yx(event), dragged=dragged):
            self._finish(armed)
        else:
            self._draw(armed)

    def _draw(self, armed: "_Armed") -> None:
        if armed.shape.is_marks:
            self._trace.draw_marks(armed.world_yx(armed.shape.points))
        else:
            self._trace.draw_path(armed.world_yx(armed.shape.path))

    def _on_hover(self, _layer: Layer, event: Any) -> None:
        armed = self._armed
        if armed is not None and armed.shape.points and not armed.shape.is_marks:
            armed.shape.hover(armed.data_yx(event))
            self._draw(armed)

    def _on_double_click(self, _layer: Layer, event: Any) -> None:
        armed = self._armed
        if armed is not None and event.button == 1 and armed.shape.end():
            self._finish(armed)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Armed:
    target: Layer
    on_done: Callable[[Drawn], None]
    shape: Shape
    name: str
    hint: str
    loan: "_Loan"
    position: tuple[float, ...]

    @property
    def plane(self) -> PlaneIndex:
        return _as_plane(self.position)

    def data_yx(self, event: Any) -> Point:
        y, x = np.asarray(self.target.world_to_data(event.position))[-2:].tolist()
        return y, x

    def world_yx(self, points_yx: ArrayLike) -> NDArray[np.float64]:
        """Return points (K, 2) of the plane in world coordinates: it lies flat in them."""
        corners = [(0, 0), (1, 0), (0, 1)]
        origin, down, right = (
            np.asarray(self.target.data_to_world((*self.position, *yx)), dtype=np.float64)[-2:]
            for yx in corners
        )
        axes = np.stack([down - origin, right - origin])
        world: NDArray[np.float64] = origin + np.reshape(points_yx, (-1, 2)) @ axes
        return world


class _Loan:
    """What a gesture changes on the layer and the viewer, to be given back."""

    def __init__(self, viewer: ViewerModel, target: Layer) -> None:
        self._viewer, self._target = viewer, target

    def take(self, *, hint: str, drag_pans: bool, keys: dict[str, Callable[[Layer], Any]]) -> None:
        viewer, target = self._viewer, self._target
        self._mode, self._mouse_pan = target.mode, target.mouse_pan
        self._cursor, self._help = target.cursor, target.help
        self._hint = hint
        self._selected = set(viewer.layers.selection)
        if self._selected != {target}:
            viewer.layers.selection.active = target
        target.mode = "pan_zoom"
        target.mouse_pan = drag_pans
        target.cursor = "cross"
        target.help = viewer.help = hint
        self._keys = {key: target.bind_key(key, f, overwrite=True) for key, f in keys.items()}
        # napari zooms on a double click
        self._double_clicks = list(viewer.mouse_double_click_callbacks)
        viewer.mouse_double_click_callbacks.clear()

    def give_back(self) -> None:
        viewer, target = self._viewer, self._target
        viewer.mouse_double_click_callbacks[:0] = self._double_clicks
        for key, function in self._keys.items():
            target.bind_key(key, None)
            if function is not None:
                target.bind_key(key, function)
        # another mode now: the person chose it, and with it come its cursor and its help
        if target.mode == "pan_zoom":
            target.mode = self._mode
            target.mouse_pan, target.cursor = self._mouse_pan, self._cursor
            target.help = self._help
        if viewer.status == self._hint:
            viewer.status = "Ready"
        # another active layer now: the person chose it, and napari is about to take its cursor
        if viewer.layers.selection.active == target:
            viewer.help = target.help
            present = {layer for layer in self._selected if layer in viewer.layers}
            if present != {target}:
                viewer.layers.selection.clear()
                viewer.layers.selection.update(present)


def _as_plane(position: tuple[float, ...]) -> PlaneIndex:
    return tuple(round(value) for value in position)


def _distance(a_px: ArrayLike, b_px: ArrayLike) -> float:
    return float(np.linalg.norm(np.subtract(a_px, b_px)))
