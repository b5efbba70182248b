"""The boxes layer and the session in step both ways."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from napari.layers import Shapes
from napari.layers.shapes import _shapes_mouse_bindings as shapes_mouse
from tests.viewer.scene import HW, TABLE, Scene, assert_in_step, found, rect

from napari_deeppixel.core.geometry import boxes_xyxy_to_corners_yx
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.edits.tools import deleted
from napari_deeppixel.viewer import boxes_view
from napari_deeppixel.viewer.box_edits import BoxEdits

A_BOX, B_BOX, C_BOX = (2, 2, 7, 6), (5, 2, 10, 6), (20, 12, 25, 16)


def corners(box: tuple[float, float, float, float], *lead: float) -> np.ndarray:
    """Return the corners of a box on pixel edges in napari's coordinates."""
    x1, y1, x2, y2 = (edge - 0.5 for edge in box)
    return np.array([[*lead, y, x] for y, x in ((y1, x1), (y1, x2), (y2, x2), (y2, x1))])


def move(layer: Shapes, place: int, by: tuple[float, ...]) -> None:
    """Move a box as napari's mouse does, with the event that it sends at the end."""
    layer._data_view.shift(place, np.array(by[-2:]))
    layer.events.data(
        value=layer.data, action="changed", data_indices=(place,), vertex_indices=((),)
    )


def rounded(edits: BoxEdits) -> dict[str, Any]:
    """Return edits with the uuids and whole pixels."""
    return {
        "moved": [(uuid, tuple(round(edge, 2) for edge in box)) for (_, uuid), box in edits.moved],
        "drawn": [(index, tuple(round(edge, 2) for edge in box)) for index, box in edits.drawn],
        "deleted": [uuid for _, uuid in edits.deleted],
    }


def taken(scene: Scene) -> dict[str, Any]:
    """Take what a person did; the layer must be as the session then."""
    edits = rounded(scene.view.take_box_edits())
    scene.settle()
    assert not scene.view.take_box_edits()
    return {name: what for name, what in edits.items() if what}


def test_boxes_follow_strokes_without_being_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    adding = []
    monkeypatch.setattr(Shapes, "add_rectangles", lambda *_args, **_more: adding.append(1))
    scene.stroke((8, 3), number=1)
    assert scene.boxes.data[0].tolist() == corners((2, 2, 7, 10)).tolist()
    assert scene.boxes.features["state"].tolist() == ["edited", "unreviewed", "unreviewed"]
    assert scene.boxes.features["area"].tolist() == [29, 20, 20]
    assert adding == []


def test_a_new_instance_and_one_that_goes_change_one_row() -> None:
    scene = Scene()
    scene.stroke((17, 3), number=4)
    assert_in_step(scene.view)
    assert scene.boxes.features["caption"].tolist()[3] == "nucleus (drawn)"
    scene.session.apply(deleted(scene.session, [((), "b")]))
    assert_in_step(scene.view)
    assert scene.boxes.features["handle"].tolist() == [1, 3, 4]


def test_captions_follow_category_and_score() -> None:
    scene = Scene()
    again = found([rect(2, 2), rect(2, 5), rect(12, 20)], names="xyz", scores=[0.7, 0.85, 0.8])
    scene.session.add_predictions((), again)
    scene.session.take_attributes((), {2: ("debris", "")})
    captions = ["nucleus 0.70", "debris 0.85", "nucleus 0.80"]
    assert scene.boxes.features["caption"].tolist() == captions
    assert scene.boxes.text.values.tolist() == captions


def test_moving_and_resizing_are_told_once_and_the_box_goes_back() -> None:
    scene = Scene()
    move(scene.boxes, 2, (1, 2))
    assert taken(scene) == {"moved": [("c", (22, 13, 27, 17))]}
    data = [*scene.boxes.data]
    data[0] = corners((2, 2, 9, 7.5))
    scene.boxes.data = data
    assert taken(scene) == {"moved": [("a", (2, 2, 9, 7.5))]}


@pytest.mark.parametrize("kind", ["turned", "skewed", "dented", "more corners"])
def test_a_box_that_is_none_any_more_goes_back_to_one(kind: str) -> None:
    scene = Scene()
    layer = scene.boxes
    if kind == "turned":
        layer._data_view.rotate(0, 45, center=[3.5, 4])
    elif kind == "skewed":
        layer._data_view.edit(0, corners(A_BOX) + np.eye(4)[2, :, None] * 3)
    elif kind == "dented":
        layer._data_view.edit(0, corners(A_BOX) + np.eye(4)[0, :, None])
    else:
        more = np.insert(corners(A_BOX), 1, [1.5, 4], axis=0)
        layer._data_view.edit(0, more, new_type="polygon")
    edits = taken(scene)
    expected = {"turned", "skewed"}
    assert (list(edits) == ["moved"]) is (kind in expected)
    assert scene.boxes.data[0].tolist() == corners(A_BOX).tolist()


@pytest.mark.parametrize("number", [1, 2, 3])
def test_deleted_boxes_are_told_once(number: int) -> None:
    scene = Scene()
    scene.boxes.selected_data = set(range(number))
    scene.boxes.remove_selected()
    assert taken(scene) == {"deleted": ["a", "b", "c"][:number]}


def test_a_deleted_box_takes_its_instance_along_and_undo_brings_both_back() -> None:
    scene = Scene()
    scene.boxes.remove([1])
    edits = scene.view.take_box_edits()
    scene.session.apply(deleted(scene.session, edits.deleted))
    scene.settle()
    assert scene.get("b").state is InstanceState.REJECTED
    scene.view.undo()
    scene.settle()


@pytest.mark.parametrize(
    ("box", "is_told"),
    [
        ((12, 3, 16, 9), True),
        ((12, 3, 13, 9), False),  # a slip of the mouse
        ((-4, -3, 6, 5), True),  # the model clips it
    ],
)
def test_drawn_boxes_are_told_once(box: tuple[float, float, float, float], is_told: bool) -> None:
    scene = Scene()
    scene.boxes.add_rectangles([corners(box)])
    assert taken(scene) == ({"drawn": [((), box)]} if is_told else {})
    assert len(scene.boxes.data) == 3


def test_boxes_drawn_on_planes_know_theirs() -> None:
    scene = Scene((3, *HW))
    scene.boxes.add_rectangles([corners((12, 3, 16, 9), 2), corners((1, 3, 9, 9), 1)])
    assert taken(scene) == {"drawn": [((2,), (12, 3, 16, 9)), ((1,), (1, 3, 9, 9))]}
    scene.boxes.add_rectangles([corners((12, 3, 16, 9), 7)])  # there is no such plane
    assert taken(scene) == {}


def test_boxes_drawn_across_channels_have_one_plane() -> None:
    scene = Scene((2, 3, *HW), {(1,): found([rect(2, 2)])}, channel_axis=1)
    scene.boxes.add_rectangles([corners((12, 3, 16, 9), 1, 0.33)])
    assert taken(scene) == {"drawn": [((1,), (12, 3, 16, 9))]}


def test_many_drawn_boxes_a_line_and_an_ellipse() -> None:
    scene = Scene()
    boxes = [(12.0, 3.0 * n, 16.0, 3.0 * n + 3) for n in range(5)]
    scene.boxes.add_rectangles([corners(box) for box in boxes])
    scene.boxes.add([[1, 1], [9, 1]], shape_type="line")
    scene.boxes.add(corners((1, 8, 5, 18)), shape_type="ellipse")
    expected = [((), box) for box in [*boxes, (1, 8, 5, 18)]]
    assert taken(scene) == {"drawn": expected}


def test_a_copied_box_is_a_drawn_one() -> None:
    scene = Scene()
    scene.boxes.selected_data = {0}
    scene.boxes._copy_data()
    scene.boxes._paste_data()
    assert taken(scene) == {"drawn": [((), A_BOX)]}


def test_all_at_once() -> None:
    scene = Scene()
    move(scene.boxes, 0, (1, 1))
    scene.boxes.remove([1])
    scene.boxes.add_rectangles([corners((12, 3, 16, 9))])
    assert taken(scene) == {
        "moved": [("a", (3, 3, 8, 7))],
        "drawn": [((), (12, 3, 16, 9))],
        "deleted": ["b"],
    }


def test_what_waits_survives_strokes_slider_and_redraw() -> None:
    scene = Scene()
    move(scene.boxes, 0, (1, 1))
    scene.boxes.remove([1])
    scene.boxes.add_rectangles([corners((12, 3, 16, 9))])
    scene.stroke((17, 3), number=4)
    scene.session.set_visibility(score=0.82, min_area=1)
    scene.session.set_visibility(score=0.5, min_area=1)
    scene.redraw()
    assert taken(scene) == {
        "moved": [("a", (3, 3, 8, 7))],
        "drawn": [((), (12, 3, 16, 9))],
        "deleted": ["b"],
    }


def test_edits_of_instances_that_went_meanwhile_are_not_told() -> None:
    scene = Scene()
    move(scene.boxes, 0, (1, 1))
    scene.boxes.remove([1])
    scene.view.undo()
    assert taken(scene) == {}


def test_a_deleted_and_a_drawn_box_do_not_mix_up_rows() -> None:
    scene = Scene()
    scene.boxes.remove([0])
    scene.boxes.add_rectangles([corners((12, 3, 16, 9))])
    scene.stroke((17, 22), number=3)  # the layer has three rows, but others
    assert taken(scene) == {"drawn": [((), (12, 3, 16, 9))], "deleted": ["a"]}


def test_a_change_while_boxes_are_being_drawn_is_followed() -> None:
    scene = Scene()
    scene.view.boxes.forget()
    for step, _ in enumerate(scene.view.redraw_boxes()):
        if step == 0:
            scene.stroke((8, 3), number=1)
            scene.stroke((17, 3), number=4)
    assert_in_step(scene.view)


def test_nothing_is_taken_or_drawn_while_the_mouse_drags(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    layer = scene.boxes
    layer._data_view.shift(0, np.array([1, 1]))
    monkeypatch.setattr(layer, "_private_is_moving", True)
    assert not scene.view.take_box_edits()
    scene.stroke((17, 3), number=4)
    scene.view.settle_all()
    assert len(layer.data) == 3
    monkeypatch.setattr(layer, "_private_is_moving", False)
    assert taken(scene) == {"moved": [("a", (3, 3, 8, 7))]}


def test_a_box_drawn_with_the_mouse_is_no_copy_of_the_last_one() -> None:
    scene = Scene()
    layer, heard = scene.boxes, []
    scene.view.dirtied.connect(lambda: heard.append(1))
    layer.mode = "add_rectangle"
    event = SimpleNamespace(type="mouse_press", position=(3, 12), modifiers=[], pos=(0, 0))
    drag = shapes_mouse.add_rectangle(layer, event)
    next(drag)
    event.type, event.position = "mouse_move", (9, 16)
    next(drag)
    event.type = "mouse_release"
    for _ in drag:
        pass
    assert heard
    assert layer.features["handle"].tolist() == [1, 2, 3, 0]
    assert np.isnan(layer.features["score"].tolist()[3])
    assert list(taken(scene)) == ["drawn"]


# -- the features table ---------------------------------------------------------------------------


def test_categories_and_states_in_the_boxes_table_are_taken_over() -> None:
    scene = Scene()
    scene.boxes.features.loc[0, "category"] = "debris"
    scene.boxes.features.loc[2, "state"] = "accepted"
    scene.boxes.features.loc[1, "state"] = "no such word"
    scene.settle()
    assert scene.get("a").category_id == 2
    assert scene.get("c").state is InstanceState.ACCEPTED
    assert scene.get("b").state is InstanceState.UNREVIEWED
    colors = [tuple(color) for color in scene.boxes.edge_color]
    assert colors[0] == colors[2] != colors[1]


def test_a_boxes_table_without_handles_deletes_nothing() -> None:
    scene = Scene()
    scene.boxes.features = pd.DataFrame({"caption": ["x", "y", "z"]})
    move(scene.boxes, 0, (1, 1))
    assert taken(scene) == {"moved": [("a", (3, 3, 8, 7))]}
    scene.boxes.features = pd.DataFrame({"caption": ["x", "y", "z"]})
    scene.boxes.remove([0])
    assert taken(scene) == {}
    assert len(scene.session.visible(())) == 3


def test_columns_of_a_person_stay_with_their_boxes() -> None:
    scene = Scene()
    scene.boxes.features["size"] = [10, 20, 30]
    scene.stroke((8, 3), number=1)
    scene.redraw()
    assert scene.boxes.features["size"].tolist() == [10, 20, 30]


# -- layers ---------------------------------------------------------------------------------------


def test_a_deleted_boxes_layer_comes_back_and_what_waited_is_told() -> None:
    scene = Scene()
    old = scene.boxes
    move(old, 0, (1, 1))
    scene.viewer.layers.remove(old)
    assert scene.view.boxes_layer is None
    scene.stroke((8, 12), number=3)
    assert rounded(scene.view.take_box_edits())["moved"] == [("a", (3, 3, 8, 7))]
    scene.settle()
    assert scene.boxes != old
    move(old, 1, (3, 3))
    scene.settle()
    assert taken(scene) == {}


def test_hidden_renamed_and_moved_boxes_are_followed() -> None:
    scene = Scene()
    scene.boxes.visible = False
    scene.boxes.name = "mine"
    scene.viewer.layers.move(2, 0)
    scene.stroke((8, 3), number=1)
    assert_in_step(scene.view)
    scene.stroke((17, 3), number=4)
    scene.redraw()
    assert scene.boxes.name == "mine"
    scene.settle()


def test_selected_boxes_are_told_by_what_they_are() -> None:
    scene = Scene()
    selected: list[Any] = []
    scene.view.selection_changed.connect(selected.append)
    scene.boxes.selected_data = {0, 2}
    assert selected[-1] == [((), "a"), ((), "c")]
    scene.boxes.selected_data = {0}
    scene.boxes.remove_selected()
    scene.boxes.selected_data = {0}  # the next one moved up
    assert selected[-1] == [((), "b")]
    scene.boxes.add_rectangles([corners((12, 3, 16, 9))])
    told = len(selected)
    scene.boxes.selected_data = {2}  # not ours
    assert len(selected) == told


def test_edits_of_some_boxes_while_not_all_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boxes_view, "MAX_BOXES", 2)
    masks = [rect(2, 2), rect(2, 12), rect(12, 20)]
    scene = Scene((2, *HW), {(0,): found(masks), (1,): found(masks, names="xyz")})
    # a viewer without a canvas shows nothing
    monkeypatch.setattr(scene.view.planes, "view_region", lambda: (0, 0, 20, 20))
    scene.redraw()
    assert scene.boxes.features["handle"].tolist() == [1, 2]
    assert scene.view.num_hidden_boxes == 4
    move(scene.boxes, 1, (1, 1))
    scene.boxes.remove([0])
    edits = rounded(scene.view.take_box_edits())
    assert edits["moved"] == [("b", (13, 3, 18, 7))]
    assert edits["deleted"] == ["a"]
    scene.view.settle_all()
    assert scene.boxes.features["handle"].tolist() == [1, 2]
    scene.viewer.dims.set_current_step(0, 1)
    for _ in scene.view.redraw_boxes():
        pass
    assert scene.boxes.features["handle"].tolist() == [4, 5]
    scene.stroke((1, 17, 3), number=7)  # above the limit: nothing is added
    scene.view.settle_all()
    assert len(scene.boxes.data) <= 2


def test_edits_join_each_box_once() -> None:
    first = BoxEdits(moved=((((), "a"), A_BOX), (((), "b"), B_BOX)), deleted=(((), "c"),))
    later = BoxEdits(moved=((((), "a"), C_BOX),), deleted=(((), "b"), ((), "c")))
    assert first.then(later) == BoxEdits(
        moved=((((), "a"), C_BOX),), deleted=(((), "c"), ((), "b"))
    )


def many_boxes() -> Scene:
    """Return a scene with 250 boxes, which are drawn in three steps."""
    places = [(y, x) for y in range(0, 100, 4) for x in range(0, 40, 4)]
    masks = [rect(y, x, 3, 3) for y, x in places]
    instances = InstanceSet(
        image_hw=(100, 60), masks=tuple(masks), categories=TABLE, scores=np.full(len(masks), 0.9)
    )
    return Scene((100, 60), {(): instances})


def begin_to_redraw(scene: Scene, *, steps: int = 2) -> Iterator[None]:
    """Return what is left of a redraw of all boxes after some steps."""
    scene.view.boxes.forget()
    left = scene.view.redraw_boxes()
    for _ in range(steps):
        next(left)
    assert len(scene.boxes.data) == 100 * (steps - 1)
    return left


def test_a_box_that_is_drawn_while_boxes_are_drawn_anew_is_taken() -> None:
    scene = many_boxes()
    left = begin_to_redraw(scene)
    scene.boxes.add_rectangles(boxes_xyxy_to_corners_yx([(45, 10, 55, 30)]))
    for _ in left:
        pass
    assert rounded(scene.view.take_box_edits())["drawn"] == [((), (45, 10, 55, 30))]
    scene.redraw()
    assert_in_step(scene.view)


def test_a_box_that_is_deleted_while_boxes_are_drawn_anew_is_taken() -> None:
    scene = many_boxes()
    uuid = scene.session.visible(()).uuids[7]
    left = begin_to_redraw(scene)
    scene.boxes.selected_data = {7}
    scene.boxes.remove_selected()
    for _ in left:
        pass
    assert scene.view.take_box_edits().deleted == (((), uuid),)


def test_a_drawing_that_begins_while_boxes_are_drawn_anew_is_not_disturbed() -> None:
    scene = many_boxes()
    left = begin_to_redraw(scene)
    # as napari's rectangle tool does at the press of the mouse
    scene.boxes._is_creating = True
    scene.boxes.add(
        boxes_xyxy_to_corners_yx([(45, 10, 55, 30)])[0], shape_type="rectangle", gui=True
    )
    for _ in left:
        pass
    assert len(scene.boxes.data) == 101
    scene.boxes._is_creating = False
    assert rounded(scene.view.take_box_edits())["drawn"] == [((), (45, 10, 55, 30))]


def test_a_redraw_that_nobody_finishes_loses_no_edit() -> None:
    scene = many_boxes()
    begin_to_redraw(scene)
    scene.boxes.add_rectangles(boxes_xyxy_to_corners_yx([(45, 10, 55, 30)]))
    scene.redraw()
    assert rounded(scene.view.take_box_edits())["drawn"] == [((), (45, 10, 55, 30))]


def test_edits_that_nobody_could_use_come_again() -> None:
    scene = Scene()
    scene.boxes.add_rectangles(boxes_xyxy_to_corners_yx([(20, 3, 26, 9)]))
    edits = scene.view.take_box_edits()
    scene.view.boxes.wait(edits)
    assert scene.view.take_box_edits() == edits
    assert not scene.view.take_box_edits()


def test_napari_says_who_is_drawing_where_we_look() -> None:
    # private names, which a new napari may change: then work under way would be drawn over
    scene = Scene()
    assert not scene.boxes._is_creating
    assert not scene.boxes._is_moving
    assert not scene.labels._block_history
    assert callable(scene.boxes._data_view.edit)
