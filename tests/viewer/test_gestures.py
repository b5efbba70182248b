"""Gestures in a viewer model with made mouse events, and in a real window with Qt's."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from napari.components import ViewerModel
from napari.layers import Labels, Layer
from napari.utils import interactions
from napari.utils._proxies import ReadOnlyWrapper
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent, QWheelEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_deeppixel.viewer.gestures import Drawn, GestureError, Gestures
from napari_deeppixel.viewer.trace import TRACE_NAME, is_trace

HW = (40, 50)
ARM = {"name": "tool", "hint": "draw something"}
SHAPES = ["line", "lasso", "rectangle", "click", "points"]


class Mouse:
    """Sends what napari's canvas sends, at places in a layer's data."""

    def __init__(self, viewer: ViewerModel, layer: Layer) -> None:
        self.viewer, self.layer = viewer, layer

    def send(self, kind: str, yx: tuple[float, float], **changes: Any) -> None:
        lead = np.asarray(self.layer.world_to_data(self.viewer.dims.point))[:-2]
        world = np.array(self.viewer.dims.point)
        world[-self.layer.ndim :] = self.layer.data_to_world((*lead, *yx))
        event = SimpleNamespace(
            type=f"mouse_{kind}",
            position=tuple(world),
            # ten canvas pixels to one of the image
            pos=np.array(yx[::-1]) * 10,
            **{"button": 1, "modifiers": (), "is_dragging": False, "handled": False} | changes,
        )
        run = getattr(interactions, f"mouse_{kind}_callbacks")
        for receiver in (self.viewer, self.viewer.layers.selection.active):
            if receiver is not None:
                run(receiver, ReadOnlyWrapper(event, exceptions=("handled",)))

    def drag(self, *places: tuple[float, float], **changes: Any) -> None:
        self.send("press", places[0], **changes)
        for place in places[1:]:
            self.send("move", place, is_dragging=True, **changes)
        self.send("release", places[-1], **changes)

    def click(self, place: tuple[float, float]) -> None:
        self.drag(place)

    def double_click(self, place: tuple[float, float]) -> None:
        self.click(place)
        self.send("double_click", place)
        self.send("release", place)


def without_no_op(callbacks: list[Any]) -> list[Any]:
    # napari adds one of these with each change of mode
    return [callback for callback in callbacks if getattr(callback, "__name__", "") != "no_op"]


class Scene:
    """A viewer with one Labels layer, a mouse over it and what was drawn."""

    def __init__(self, shape: tuple[int, ...] = HW, **placement: Any) -> None:
        self.viewer = ViewerModel()
        self.labels = self.viewer.add_labels(np.zeros(shape, np.uint16), **placement)
        self.gestures = Gestures(self.viewer)
        self.mouse = Mouse(self.viewer, self.labels)
        self.drawn: list[Drawn] = []

    def arm(self, shape: str) -> None:
        getattr(self.gestures, shape)(self.labels, self.drawn.append, **ARM)

    def draw(self, shape: str) -> None:
        {
            "line": lambda: self.mouse.drag((1, 1), (5, 9)),
            "lasso": lambda: self.mouse.drag((1, 1), (1, 9), (9, 9)),
            "rectangle": lambda: self.mouse.drag((1, 1), (5, 9)),
            "click": lambda: self.mouse.click((1, 1)),
            "points": lambda: (self.mouse.click((1, 1)), self.mouse.double_click((9, 9))),
        }[shape]()

    def press_key(self, key: str) -> Any:
        functions = {str(binding): function for binding, function in self.labels.keymap.items()}
        return functions[key](self.labels)

    def state(self) -> dict[str, Any]:
        viewer, layer = self.viewer, self.labels
        return {
            "layer": (layer.mode, layer.mouse_pan, layer.mouse_zoom, layer.cursor, layer.help),
            "label": (layer.selected_label, layer.brush_size, layer.data.any()),
            "selected": set(viewer.layers.selection),
            "active": viewer.layers.selection.active,
            "viewer": (viewer.cursor.style, viewer.help),
            "camera": (viewer.scene.camera.mouse_pan, viewer.scene.camera.mouse_zoom),
            "zoom": (viewer.scene.camera.zoom, viewer.scene.camera.center),
            "keys": dict(layer.keymap),
            "drags": without_no_op(layer.mouse_drag_callbacks),
            "moves": without_no_op(layer.mouse_move_callbacks),
            "double clicks": without_no_op(
                layer.mouse_double_click_callbacks + viewer.mouse_double_click_callbacks
            ),
        }

    @property
    def only(self) -> Drawn:
        (drawn,) = self.drawn
        return drawn

    @property
    def trace(self) -> Any:
        return self.viewer.layers[TRACE_NAME]


def test_a_dragged_line_comes_as_it_was_drawn() -> None:
    scene = Scene()
    scene.arm("line")
    scene.mouse.drag((1, 2), (1, 2), (4, 2.5), (8, 30))
    assert scene.only.points_yx.tolist() == [[1, 2], [4, 2.5], [8, 30]]
    assert scene.only.plane == ()
    assert not scene.gestures.is_armed


def test_a_drag_too_fast_for_any_move_is_still_one() -> None:
    scene = Scene()
    scene.arm("line")
    scene.mouse.send("press", (1, 2))
    scene.mouse.send("release", (8, 30))
    assert scene.only.points_yx.tolist() == [[1, 2], [8, 30]]


def test_a_line_of_two_clicks_is_straight() -> None:
    scene = Scene()
    scene.arm("line")
    scene.mouse.click((1, 2))
    for place in ((3, 3), (20, 30)):
        scene.mouse.send("move", place, button=None)
    assert scene.gestures.is_armed
    assert ends_of(scene.trace) == [[1, 2], [20, 30]]
    # the second one a little shaky
    scene.mouse.drag((8, 30), (8.1, 30))
    assert scene.only.points_yx.tolist() == [[1, 2], [8.1, 30]]


def test_a_second_click_on_the_same_place_makes_no_line() -> None:
    scene = Scene()
    scene.arm("line")
    scene.mouse.click((1, 2))
    scene.mouse.click((1, 2))
    assert scene.gestures.is_armed
    scene.mouse.click((1, 3))
    assert scene.only.points_yx.tolist() == [[1, 2], [1, 3]]


def test_a_lasso_does_not_repeat_its_first_point_and_is_shown_closed() -> None:
    scene = Scene()
    scene.arm("lasso")
    scene.mouse.send("press", (1, 1))
    for place in ((1, 9), (9, 9)):
        scene.mouse.send("move", place, is_dragging=True)
    assert ends_of(scene.trace) == [[1, 1], [1, 1]]
    scene.mouse.send("release", (1, 1))
    assert scene.only.points_yx.tolist() == [[1, 1], [1, 9], [9, 9]]


@pytest.mark.parametrize("shape", ["lasso", "rectangle"])
def test_a_stray_click_leaves_a_drag_gesture_armed_and_nothing_on_screen(shape: str) -> None:
    scene = Scene()
    scene.arm(shape)
    scene.mouse.drag((5, 5), (5.1, 5), (5, 5.2))
    assert scene.gestures.is_armed
    assert len(scene.trace.data) == 0
    scene.draw(shape)
    assert len(scene.drawn) == 1


def test_a_rectangle_starts_at_its_lowest_corner() -> None:
    scene = Scene()
    scene.arm("rectangle")
    scene.mouse.drag((9, 2), (4, 12), (5, 12))
    assert scene.only.points_yx.tolist() == [[5, 2], [9, 12]]


def test_a_flat_rectangle_is_none() -> None:
    scene = Scene()
    scene.arm("rectangle")
    scene.mouse.drag((5, 2), (5, 12))
    assert scene.gestures.is_armed


def test_a_click_counts_at_once_and_a_drag_pans_instead() -> None:
    scene = Scene()
    scene.arm("click")
    assert scene.viewer.scene.camera.mouse_pan
    scene.mouse.drag((3, 3), (9, 9))
    assert scene.gestures.is_armed
    scene.mouse.drag((3, 4), (3.2, 4.2))
    assert scene.only.points_yx.tolist() == [[3, 4]]


@pytest.mark.parametrize("by_key", [True, False])
def test_points_end_when_there_are_two(by_key: bool) -> None:
    scene = Scene()
    scene.arm("points")
    if by_key:
        scene.mouse.click((1, 2))
        scene.mouse.click((1, 2))
        scene.press_key("Enter")
        scene.mouse.click((3, 4))
        scene.press_key("Enter")
    else:
        scene.mouse.double_click((1, 2))
        scene.mouse.double_click((3, 4))
    assert scene.only.points_yx.tolist() == [[1, 2], [3, 4]]


def test_each_point_is_marked_by_a_cross() -> None:
    scene = Scene()
    scene.arm("points")
    scene.mouse.click((10, 20))
    scene.mouse.click((30, 20))
    starts, extents = scene.trace.data[:, 0], scene.trace.data[:, 1]
    middles = {tuple(np.round(yx, 6)) for yx in starts + extents}
    assert {(10, 20), (30, 20)} <= middles
    # all within the arm of a cross
    arm = 6 / scene.viewer.scene.camera.zoom
    distances = np.linalg.norm(starts[:, None] - [[10, 20], [30, 20]], axis=2).min(axis=1)
    assert distances.max() == pytest.approx(arm)


@pytest.mark.parametrize("shape", SHAPES)
def test_other_buttons_draw_nothing(shape: str) -> None:
    scene = Scene()
    scene.arm(shape)
    for button in (2, 3):
        scene.mouse.drag((1, 1), (9, 9), button=button)
        scene.mouse.drag((1, 1), button=button)
    assert scene.gestures.is_armed
    assert len(scene.trace.data) == 0


def test_alt_and_a_drag_stay_naparis_zoom() -> None:
    scene = Scene()
    scene.arm("rectangle")
    scene.mouse.drag((1, 1), (9, 9), modifiers=("Alt",))
    assert scene.gestures.is_armed


def test_the_view_moves_while_space_is_held() -> None:
    scene = Scene()
    scene.arm("line")
    assert not scene.viewer.scene.camera.mouse_pan
    held = scene.press_key("Space")
    next(held)
    assert scene.viewer.scene.camera.mouse_pan
    scene.mouse.drag((1, 1), (9, 9))
    assert next(held, "released") == "released"
    assert not scene.viewer.scene.camera.mouse_pan
    assert not scene.drawn
    scene.mouse.drag((1, 1), (9, 9))
    assert len(scene.drawn) == 1


# -- coordinates ----------------------------------------------------------------------------


def test_the_plane_is_that_on_screen() -> None:
    scene = Scene((4, 5, *HW), scale=(1, 3, 0.5, 0.25), translate=(0, 7, 1, 2))
    scene.viewer.dims.current_step = (2, 3, 0, 0)
    scene.arm("click")
    scene.mouse.click((11, 12))
    assert scene.only.plane == (2, 3)
    assert scene.only.points_yx == pytest.approx(np.array([[11, 12]]))


def test_one_thick_slice_through_all_channels_stays_plane_zero() -> None:
    viewer = ViewerModel()
    viewer.add_image(np.zeros((3, 4, *HW)))
    labels = viewer.add_labels(
        np.zeros((3, 1, *HW), np.uint8), scale=(1, 4, 1, 1), translate=(0, 1.5, 0, 0)
    )
    gestures, drawn = Gestures(viewer), []
    for channel in range(4):
        viewer.dims.current_step = (1, channel, 0, 0)
        gestures.click(labels, drawn.append, **ARM)
        Mouse(viewer, labels).click((5, 6))
    assert [(d.plane, d.points_yx.round(9).tolist()) for d in drawn] == [((1, 0), [[5, 6]])] * 4
    # another channel is no other plane
    viewer.dims.current_step = (1, 0, 0, 0)
    gestures.click(labels, drawn.append, **ARM)
    viewer.dims.current_step = (1, 2, 0, 0)
    assert gestures.is_armed
    viewer.dims.current_step = (2, 2, 0, 0)
    assert not gestures.is_armed


def test_an_rgb_image_below_a_stack_is_a_target() -> None:
    viewer = ViewerModel()
    viewer.add_image(np.zeros((7, *HW)))
    image = viewer.add_image(np.zeros((*HW, 3), np.uint8), rgb=True, scale=(2, 2))
    drawn: list[Drawn] = []
    Gestures(viewer).rectangle(image, drawn.append, **ARM)
    Mouse(viewer, image).drag((1, 2), (11, 32))
    assert drawn[0].points_yx.tolist() == [[1, 2], [11, 32]]
    assert drawn[0].plane == ()


@given(
    points=st.lists(
        st.tuples(st.integers(-20, 60), st.integers(-20, 60)), min_size=3, max_size=8, unique=True
    ),
    degrees=st.floats(-180, 180),
    scale=st.tuples(st.floats(0.1, 9), st.floats(0.1, 9)),
)
def test_points_are_where_the_mouse_was_however_the_image_lies(
    points: list[tuple[int, int]], degrees: float, scale: tuple[float, float]
) -> None:
    scene = Scene(scale=scale, rotate=degrees, translate=(5, -7))
    scene.arm("lasso")
    scene.mouse.drag(*points)
    assert np.allclose(scene.only.points_yx, points, atol=1e-6)


def test_the_trace_lies_in_world_coordinates() -> None:
    scene = Scene((3, *HW), scale=(1, 2, 2), rotate=90)
    scene.arm("rectangle")
    scene.mouse.send("press", (1, 2))
    scene.mouse.send("move", (5, 12), is_dragging=True)
    ends = np.concatenate([scene.trace.data[:, 0], scene.trace.data.sum(axis=1)])
    corners = [scene.labels.data_to_world((0, y, x))[1:] for y, x in ((1, 2), (5, 12))]
    assert np.allclose(ends.min(axis=0), np.min(corners, axis=0))
    assert np.allclose(ends.max(axis=0), np.max(corners, axis=0))


# -- before and after ------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["pan_zoom", "paint", "polygon", "pick", "transform"])
def test_all_is_as_before(mode: str) -> None:
    scene = Scene()
    scene.labels.mode = mode
    scene.labels.selected_label = 7
    before = scene.state()
    for shape in SHAPES:
        scene.arm(shape)
        assert scene.labels.mode == "pan_zoom"
        assert scene.viewer.cursor.style == "cross"
        assert scene.viewer.status == scene.viewer.help == ARM["hint"]
        scene.press_key("Escape")
        assert scene.state() == before
        assert not scene.drawn
        scene.arm(shape)
        scene.draw(shape)
        assert scene.state() == before
        assert len(scene.drawn) == 1
        scene.drawn.clear()
        assert len(scene.trace.data) == 0
        assert scene.viewer.status != ARM["hint"]


@pytest.mark.parametrize("num_selected", [0, 1, 2])
def test_the_selected_layers_are_selected_again(num_selected: int) -> None:
    scene = Scene()
    others = [scene.viewer.add_image(np.zeros(HW)) for _ in range(2)]
    scene.viewer.layers.selection.clear()
    scene.viewer.layers.selection.update(others[:num_selected])
    before = scene.state()
    scene.arm("line")
    assert scene.viewer.layers.selection.active == scene.labels
    scene.draw("line")
    assert scene.state() == before


def test_keys_bound_before_come_back() -> None:
    scene = Scene()
    pressed: list[str] = []
    scene.labels.bind_key("Escape", lambda _: pressed.append("mine"))
    scene.arm("line")
    scene.press_key("Escape")
    assert not scene.gestures.is_armed
    assert pressed == []
    scene.press_key("Escape")
    assert pressed == ["mine"]


def test_all_is_back_before_the_tool_gets_the_drawing() -> None:
    scene = Scene()
    scene.labels.mode = "paint"
    before, seen = scene.state(), []
    scene.gestures.line(scene.labels, lambda _: seen.append(scene.state()), **ARM)
    scene.draw("line")
    assert seen == [before]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_tool_may_arm_the_next_gesture(shape: str) -> None:
    scene = Scene()
    scene.labels.mode = "polygon"
    before = scene.state()

    def again(drawn: Drawn) -> None:
        scene.drawn.append(drawn)
        getattr(scene.gestures, shape)(scene.labels, again, **ARM)

    getattr(scene.gestures, shape)(scene.labels, again, **ARM)
    for count in (1, 2, 3):
        scene.draw(shape)
        assert len(scene.drawn) == count
    scene.gestures.cancel()
    assert scene.state() == before


def test_a_double_click_of_ours_does_not_zoom_and_a_later_one_does() -> None:
    scene = Scene()
    zoom = scene.viewer.scene.camera.zoom
    scene.arm("points")
    scene.draw("points")
    assert scene.viewer.scene.camera.zoom == zoom
    scene.mouse.double_click((3, 3))
    assert scene.viewer.scene.camera.zoom == 2 * zoom


def test_the_name_of_the_tool_is_told() -> None:
    scene = Scene()
    names: list[str | None] = []
    scene.gestures.changed.connect(names.append)
    scene.gestures.line(scene.labels, scene.drawn.append, name="knife", hint="cut")
    assert (scene.gestures.armed_name, scene.gestures.hint) == ("knife", "cut")
    scene.gestures.click(scene.labels, scene.drawn.append, name="add", hint="click")
    scene.draw("click")
    assert names == ["knife", None, "add", None]
    assert (scene.gestures.armed_name, scene.gestures.hint) == (None, "")
    scene.gestures.cancel()
    assert len(names) == 4


# -- called off --------------------------------------------------------------------------------


def other_layer(scene: Scene) -> None:
    scene.viewer.layers.selection.active = scene.viewer.layers["other"]


def other_plane(scene: Scene) -> None:
    scene.viewer.dims.set_current_step(0, 2)


def other_axes(scene: Scene) -> None:
    scene.viewer.dims.order = (1, 0, 2)


def three_d(scene: Scene) -> None:
    scene.viewer.dims.ndisplay = 3


def removed(scene: Scene) -> None:
    scene.viewer.layers.remove(scene.labels)


def all_removed(scene: Scene) -> None:
    scene.viewer.layers.clear()


def other_mode(scene: Scene) -> None:
    scene.labels.mode = "fill"


@pytest.mark.parametrize("is_dragging", [True, False])
@pytest.mark.parametrize(
    "change", [other_layer, other_plane, other_axes, three_d, removed, all_removed, other_mode]
)
def test_a_change_of_mind_calls_it_off(change: Callable[[Scene], None], is_dragging: bool) -> None:
    scene = Scene((3, *HW))
    scene.viewer.add_image(np.zeros((3, *HW)), name="other")
    scene.viewer.layers.selection.active = scene.labels
    scene.labels.mode = "paint"
    before = scene.state()
    scene.arm("lasso")
    if is_dragging:
        scene.mouse.send("press", (1, 1))
        scene.mouse.send("move", (1, 9), is_dragging=True)
    change(scene)
    assert not scene.gestures.is_armed
    after = scene.state()
    assert after["keys"] == before["keys"]
    assert after["double clicks"] == before["double clicks"]
    assert scene.labels.mode == ("fill" if change is other_mode else "paint")
    if scene.labels in scene.viewer.layers and change is not three_d:
        # the mouse goes on, and is let go
        if is_dragging:
            scene.mouse.send("move", (9, 9), is_dragging=True)
        scene.mouse.send("release", (9, 9))
        assert len(scene.trace.data) == 0
    assert not scene.drawn


def test_the_mouse_may_be_let_go_after_a_cancel() -> None:
    scene = Scene()
    scene.arm("line")
    scene.mouse.send("press", (1, 1))
    scene.press_key("Escape")
    scene.arm("line")
    scene.mouse.send("release", (9, 9))
    assert scene.gestures.is_armed
    assert not scene.drawn


def test_a_layer_made_active_keeps_its_own_cursor() -> None:
    scene = Scene()
    other = scene.viewer.add_labels(np.zeros(HW, np.uint8))
    other.mode = "pick"
    scene.labels.mode = "paint"
    scene.arm("line")
    scene.viewer.layers.selection.active = other
    assert scene.viewer.cursor.style == other.cursor == "cross"
    assert scene.labels.cursor == "circle"
    other.mode = "pan_zoom"
    scene.arm("line")
    scene.viewer.layers.selection.active = other
    assert scene.viewer.cursor.style == "standard"
    assert scene.viewer.scene.camera.mouse_pan
    assert scene.viewer.layers.selection == {other}


def test_a_third_layer_made_active_stays_so() -> None:
    scene = Scene()
    first, third = (scene.viewer.add_image(np.zeros(HW)) for _ in range(2))
    scene.viewer.layers.selection.active = first
    scene.arm("line")
    scene.viewer.layers.selection.active = third
    assert scene.viewer.layers.selection == {third}


def test_another_tool_takes_over() -> None:
    scene = Scene()
    scene.labels.mode = "paint"
    before = scene.state()
    scene.arm("lasso")
    clicks: list[Drawn] = []
    scene.gestures.click(scene.labels, clicks.append, **ARM)
    scene.mouse.click((1, 1))
    assert len(clicks) == 1
    assert not scene.drawn
    assert scene.state() == before


def test_what_cannot_be_drawn_on_is_refused() -> None:
    scene = Scene((3, *HW))
    scene.viewer.dims.ndisplay = 3
    with pytest.raises(GestureError, match="'Labels' must be on screen in 2D"):
        scene.arm("line")
    scene.viewer.dims.ndisplay = 2
    scene.viewer.dims.order = (2, 0, 1)
    with pytest.raises(GestureError):
        scene.arm("line")
    scene.viewer.dims.order = (0, 2, 1)
    scene.arm("line")
    with pytest.raises(GestureError):
        scene.gestures.line(Labels(np.zeros(HW, int)), scene.drawn.append, **ARM)
    assert not scene.gestures.is_armed


# -- the trace ---------------------------------------------------------------------------------


def ends_of(trace: Any) -> list[list[float]]:
    """Return where a drawn path starts and ends."""
    return np.round([trace.data[0, 0], trace.data[-1].sum(axis=0)], 6).tolist()


def test_one_trace_lies_on_top_and_is_never_active() -> None:
    scene = Scene()
    for _ in range(2):
        scene.viewer.add_image(np.zeros(HW))
        scene.arm("line")
        scene.draw("line")
        assert [is_trace(layer) for layer in scene.viewer.layers].count(True) == 1
        assert is_trace(scene.viewer.layers[-1])
        assert scene.viewer.layers.selection.active != scene.trace
    # a second dock widget's gestures use it too
    Gestures(scene.viewer).line(scene.labels, scene.drawn.append, **ARM)
    assert [is_trace(layer) for layer in scene.viewer.layers].count(True) == 1


def test_a_deleted_or_hidden_trace_comes_back() -> None:
    scene = Scene()
    for change in ("delete", "hide", "delete while armed"):
        scene.arm("line")
        assert scene.trace.visible
        if change == "delete while armed":
            scene.viewer.layers.remove(scene.trace)
        scene.draw("line")
        if change == "delete":
            scene.viewer.layers.remove(scene.trace)
        if change == "hide":
            scene.trace.visible = False
    assert len(scene.drawn) == 3


def test_the_trace_keeps_units_axis_names_and_planes() -> None:
    scene = Scene(
        (3, *HW), scale=(1, 0.5, 0.5), units=("s", "um", "um"), axis_labels=("t", "y", "x")
    )
    viewer = scene.viewer
    before = viewer.dims.range, viewer.dims.units, viewer.dims.axis_labels, viewer.layers.units
    scene.arm("lasso")
    scene.mouse.send("press", (-300, 1))
    scene.mouse.send("move", (1, 900), is_dragging=True)
    assert len(scene.trace.data) > 0
    after = viewer.dims.range, viewer.dims.units, viewer.dims.axis_labels, viewer.layers.units
    assert after == before


def test_a_long_trace_has_few_dashes_and_a_short_one_small_ones() -> None:
    scene = Scene()
    scene.viewer.scene.camera.zoom = 3
    scene.arm("line")
    scene.mouse.send("press", (0, 0))
    scene.mouse.send("move", (0, 20), is_dragging=True)
    # 20 units are 60 canvas pixels: ten dashes of six
    assert len(scene.trace.data) == 10
    assert scene.trace.edge_width == pytest.approx(2 / 3)
    assert scene.trace.edge_color[:3].tolist() == [[1, 1, 1, 1], [0, 0, 0, 1], [1, 1, 1, 1]]
    scene.mouse.send("move", (0, 20_000), is_dragging=True)
    assert len(scene.trace.data) == 200
    assert ends_of(scene.trace) == [[0, 0], [0, 20_000]]


# -- a real window -----------------------------------------------------------------------------


class QtMouse:
    """Sends Qt's own mouse events to the canvas."""

    def __init__(self, viewer: Any, layer: Layer) -> None:
        self._layer = layer
        self._camera = viewer.scene.camera
        self.window = viewer.window._qt_viewer
        self.canvas = self.window.canvas.native

    def place(self, yx: tuple[float, float]) -> QPointF:
        y, x = np.subtract(self._layer.data_to_world(yx), self._camera.center[-2:])
        middle = QPointF(self.canvas.width() / 2, self.canvas.height() / 2)
        return middle + QPointF(x, y) * self._camera.zoom

    def send(self, kind: Any, yx: tuple[float, float]) -> None:
        none, left = Qt.MouseButton.NoButton, Qt.MouseButton.LeftButton
        is_move, is_release = kind == QEvent.Type.MouseMove, kind == QEvent.Type.MouseButtonRelease
        place = self.place(yx)
        event = QMouseEvent(
            kind,
            place,
            QPointF(self.canvas.mapToGlobal(place.toPoint())),
            none if is_move else left,
            none if is_release else left,
            Qt.KeyboardModifier.NoModifier,
        )
        QApplication.sendEvent(self.canvas, event)

    def drag(self, *places: tuple[float, float]) -> None:
        self.send(QEvent.Type.MouseButtonPress, places[0])
        for place in places[1:]:
            self.send(QEvent.Type.MouseMove, place)
        self.send(QEvent.Type.MouseButtonRelease, places[-1])

    def wheel(self, yx: tuple[float, float]) -> None:
        place = self.place(yx)
        event = QWheelEvent(
            place,
            QPointF(self.canvas.mapToGlobal(place.toPoint())),
            QPoint(0, 0),
            QPoint(0, 120),
            Qt.MouseButton.NoButton,
            Qt.KeyboardModifier.NoModifier,
            Qt.ScrollPhase.NoScrollPhase,
            False,
        )
        QApplication.sendEvent(self.canvas, event)


def test_qts_mouse_draws_in_a_window_and_does_not_paint(
    make_napari_viewer_proxy: Callable[..., Any], qtbot: Any
) -> None:
    viewer = make_napari_viewer_proxy(show=True)
    labels = viewer.add_labels(np.zeros((200, 300), np.uint16), scale=(0.5, 0.5), rotate=30)
    labels.mode = "paint"
    gestures, drawn = Gestures(viewer), []
    mouse = QtMouse(viewer.__wrapped__, labels)
    canvas = mouse.canvas
    qtbot.waitUntil(lambda: viewer.canvas.size == (canvas.height(), canvas.width()))
    # Qt's places are whole pixels; one of the image is half a unit
    screen_pixel = 1 / viewer.scene.camera.zoom / 0.5

    gestures.lasso(labels, drawn.append, **ARM)
    mouse.drag((20, 30), (20, 130), (120, 130), (120, 30))
    ((corners, plane),) = [(d.points_yx, d.plane) for d in drawn]
    assert plane == ()
    # fast moves are dropped by napari, the ends are not
    assert np.abs(corners[0] - [20, 30]).max() < screen_pixel
    assert np.abs(corners[-1] - [120, 30]).max() < screen_pixel

    gestures.points(labels, drawn.append, **ARM)
    zoom = viewer.scene.camera.zoom
    mouse.drag((50, 50))
    mouse.drag((150, 50))
    mouse.send(QEvent.Type.MouseButtonDblClick, (150, 50))
    mouse.send(QEvent.Type.MouseButtonRelease, (150, 50))
    assert np.abs(drawn[1].points_yx - [[50, 50], [150, 50]]).max() < screen_pixel
    assert viewer.scene.camera.zoom == zoom

    gestures.points(labels, drawn.append, **ARM)
    mouse.wheel((100, 100))
    qtbot.waitUntil(lambda: viewer.scene.camera.zoom > zoom)
    mouse.drag((50, 50))
    mouse.drag((100, 50))
    QTest.keyClick(mouse.window, Qt.Key.Key_Return)
    assert np.abs(drawn[2].points_yx - [[50, 50], [100, 50]]).max() < screen_pixel

    gestures.line(labels, drawn.append, **ARM)
    mouse.send(QEvent.Type.MouseButtonPress, (20, 30))
    QTest.keyClick(mouse.window, Qt.Key.Key_Escape)
    mouse.send(QEvent.Type.MouseButtonRelease, (20, 130))
    assert len(drawn) == 3
    assert labels.mode == "paint"
    assert not labels.data.any()
    assert labels.keymap == {}


def test_a_window_closes_while_a_gesture_is_armed(
    make_napari_viewer_proxy: Callable[..., Any],
) -> None:
    viewer = make_napari_viewer_proxy()
    labels = viewer.add_labels(np.zeros(HW, np.uint16))
    gestures = Gestures(viewer)
    drawn: list[Drawn] = []
    gestures.points(labels, drawn.append, **ARM)
    mouse = QtMouse(viewer.__wrapped__, labels)
    mouse.drag((5, 5))
    viewer.close()
    assert not gestures.is_armed
    assert not drawn
