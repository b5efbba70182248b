"""Colours of instances in a viewer model without a window."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels, Shapes
from napari.utils.colormaps import CyclicLabelColormap, label_colormap
from napari.utils.notifications import notification_manager

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.edits.action import Action, Change
from napari_deeppixel.edits.session import AnnotationSession
from napari_deeppixel.viewer.colors import (
    ColorBy,
    ColorKeeper,
    color_layers,
    score_colors,
    state_colors,
)
from napari_deeppixel.viewer.layers import InstanceLayers, LabelsMode

TABLE = CategoryTable.from_names("nucleus", "debris")
SKY, ORANGE, GREEN, YELLOW = "#56b4e9", "#e69f00", "#009e73", "#f0e442"
HW = (12, 20)


@pytest.fixture
def view() -> InstanceLayers:
    """Three 2 x 3 px instances a, b, c side by side; b is debris, c has score 1."""
    masks = tuple(CroppedMask(pixels=np.ones((2, 3), np.bool_), y=1, x=1 + 5 * n) for n in range(3))
    instances = InstanceSet(
        image_hw=HW,
        masks=masks,
        categories=TABLE,
        category_ids=np.array([1, 2, 1]),
        scores=np.array([0.5, 0.8, 1.0]),
        uuids=("a", "b", "c"),
    )
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros(HW), name="cells")
    session = AnnotationSession(HW, TABLE)
    session.add_predictions((), instances)
    made = InstanceLayers(viewer, image, session)
    redraw(made)
    return made


def redraw(view: InstanceLayers) -> None:
    for _ in view.redraw():
        pass


def labels_of(view: InstanceLayers) -> Labels:
    (layer,) = view.labels_layers
    return layer


def boxes_of(view: InstanceLayers) -> Shapes:
    assert view.boxes_layer is not None
    return view.boxes_layer


def hexes(colors: Any) -> list[str]:
    return ["#" + "".join(f"{round(float(c) * 255):02x}" for c in color[:3]) for color in colors]


def seen(view: InstanceLayers) -> list[str]:
    """Return the colours of handles 1, 2, 3 in the Labels layer; empty where they are hidden."""
    colors = [labels_of(view).get_color(handle) for handle in (1, 2, 3)]
    return [hexes([color])[0] if color[3] else "" for color in colors]


def set_state(view: InstanceLayers, uuid: str, state: InstanceState) -> None:
    before = view.session.get((), uuid)
    assert before is not None
    change = Change(index=(), before=before, after=replace(before, state=state))
    view.session.apply(Action(name="state", changes=(change,)))


def test_states_have_six_different_colours() -> None:
    assert len(set(state_colors().values())) == len(InstanceState) == 6


def test_colour_by_category_is_that_of_the_table_in_labels_and_boxes(view: InstanceLayers) -> None:
    color_layers(view, ColorBy.CATEGORY)
    assert seen(view) == [SKY, ORANGE, SKY]
    assert hexes(boxes_of(view).edge_color) == [SKY, ORANGE, SKY]
    assert labels_of(view).get_color(0) is None


def test_colour_by_state_is_in_the_picture(view: InstanceLayers) -> None:
    set_state(view, "b", InstanceState.ACCEPTED)
    color_layers(view, ColorBy.STATE)
    assert seen(view) == [SKY, GREEN, SKY]
    assert hexes(boxes_of(view).edge_color) == [SKY, GREEN, SKY]
    pixels = labels_of(view).colormap.map(labels_of(view).data)
    assert hexes(pixels[1, [1, 6]]) == [SKY, GREEN]
    assert pixels[0, 0].tolist() == [0, 0, 0, 0]


def test_scores_go_from_dark_violet_to_yellow_and_grey_is_none() -> None:
    # the ends of viridis, van der Walt & Smith 2015
    found = hexes(score_colors(np.array([0.0, 1.0, np.nan])))
    assert found == ["#440154", "#fde725", "#999999"]


def test_colour_by_score_follows_the_score(view: InstanceLayers) -> None:
    color_layers(view, ColorBy.SCORE)
    assert seen(view)[2] == "#fde725"
    assert len(set(seen(view))) == 3


def test_by_instance_brings_naparis_own_colours_back(view: InstanceLayers) -> None:
    own = seen(view)
    color_layers(view, ColorBy.STATE)
    assert seen(view) != own
    color_layers(view, ColorBy.INSTANCE)
    assert seen(view) == own
    assert hexes(boxes_of(view).edge_color) == [SKY, ORANGE, SKY]
    expected = label_colormap(49, 0.5, background_value=0).map(np.array([1, 2, 3]))
    assert own == hexes(expected)


def test_by_instance_leaves_colours_that_a_person_shuffled(view: InstanceLayers) -> None:
    labels_of(view).new_colormap(seed=7)
    shuffled = labels_of(view).colormap
    keeper = ColorKeeper(view)
    keeper.set_by(ColorBy.INSTANCE)
    assert labels_of(view).colormap is shuffled


def test_colour_follows_the_state_and_its_undo(view: InstanceLayers) -> None:
    keeper = ColorKeeper(view)
    keeper.set_by(ColorBy.STATE)
    set_state(view, "a", InstanceState.ACCEPTED)
    assert seen(view) == [GREEN, SKY, SKY]
    assert hexes(boxes_of(view).edge_color) == [GREEN, SKY, SKY]
    view.undo()
    assert seen(view) == [SKY, SKY, SKY]


def test_a_change_that_keeps_the_colour_sets_no_new_colormap(view: InstanceLayers) -> None:
    keeper = ColorKeeper(view)
    keeper.set_by(ColorBy.CATEGORY)
    before = labels_of(view).colormap
    set_state(view, "a", InstanceState.ACCEPTED)
    assert labels_of(view).colormap is before
    keeper.set_by(ColorBy.STATE)
    assert labels_of(view).colormap is not before


def test_a_window_may_draw_several_changes_at_once(view: InstanceLayers) -> None:
    calls: list[int] = []
    keeper = ColorKeeper(view, on_stale=lambda: calls.append(1))
    keeper.set_by(ColorBy.STATE)
    assert not keeper.is_stale
    for uuid in ("a", "b"):
        set_state(view, uuid, InstanceState.ACCEPTED)
    assert seen(view) == [SKY, SKY, SKY]
    assert len(calls) == 2
    keeper.refresh()
    assert seen(view) == [GREEN, GREEN, SKY]
    assert not keeper.is_stale


def test_an_instance_that_the_score_brings_back_has_its_colour(view: InstanceLayers) -> None:
    set_state(view, "a", InstanceState.UNSURE)
    set_state(view, "a", InstanceState.UNREVIEWED)
    view.session.set_visibility(score=0.9, min_area=1)
    keeper = ColorKeeper(view)
    keeper.set_by(ColorBy.CATEGORY)
    view.session.set_visibility(score=0.1, min_area=1)
    assert seen(view) == [SKY, ORANGE, SKY]


def test_hidden_others_come_back(view: InstanceLayers) -> None:
    keeper = ColorKeeper(view)
    own = seen(view)
    for by in ColorBy:
        keeper.set_by(by)
        all_colors = seen(view)
        keeper.hide_others([((), "b")])
        assert keeper.hides_others
        assert seen(view) == ["", all_colors[1], ""]
        assert boxes_of(view).edge_color[:, 3].tolist() == [0, 1, 0]
        assert boxes_of(view).text.color.array[:, 3].tolist() == [0, 1, 0]
        keeper.hide_others(None)
        assert seen(view) == all_colors
        assert boxes_of(view).edge_color[:, 3].tolist() == [1, 1, 1]
        assert boxes_of(view).text.color.constant.tolist() == [1, 1, 1, 1]
    keeper.set_by(ColorBy.INSTANCE)
    assert seen(view) == own


def test_what_is_painted_while_others_are_hidden_can_be_seen(view: InstanceLayers) -> None:
    keeper = ColorKeeper(view)
    keeper.set_by(ColorBy.STATE)
    keeper.hide_others([((), "a")])
    layer = labels_of(view)
    view.select_new()
    assert hexes([layer.get_color(4)]) == [YELLOW]
    with layer.block_history():  # as a stroke of the mouse does
        layer.paint((9, 9), 4)
    assert view.session.find(4) is not None
    assert layer.get_color(4)[3] == 1
    # and so can the one after it
    assert layer.get_color(5)[3] == 1
    assert seen(view) == [SKY, "", ""]


def test_new_colours_are_no_selection(view: InstanceLayers) -> None:
    selections: list[Any] = []
    labels_of(view).selected_label = 2
    view.selection_changed.connect(selections.append)
    keeper = ColorKeeper(view)
    keeper.set_by(ColorBy.STATE)
    keeper.hide_others([((), "a")])
    assert selections == []


def test_only_the_selected_label_stays_shown(view: InstanceLayers) -> None:
    layer = labels_of(view)
    layer.selected_label = 2
    layer.show_selected_label = True
    color_layers(view, ColorBy.CATEGORY)
    assert layer.colormap.map(np.array([1, 2, 3]))[:, 3].tolist() == [0, 1, 0]


def test_a_new_labels_layer_gets_the_colours(view: InstanceLayers) -> None:
    keeper = ColorKeeper(view)
    keeper.set_by(ColorBy.STATE)
    view.mode = LabelsMode.BY_CATEGORY
    redraw(view)
    layers = view.labels_layers
    assert len(layers) == 2
    assert [hexes([layer.get_color(1)]) for layer in layers] == [[SKY], [SKY]]
    assert layers[0].colormap is not layers[1].colormap


def test_boxes_that_are_drawn_anew_keep_the_colours(view: InstanceLayers) -> None:
    keeper = ColorKeeper(view)
    keeper.set_by(ColorBy.STATE)
    redraw(view)
    assert hexes(boxes_of(view).edge_color) == [SKY, SKY, SKY]


def test_the_first_boxes_layer_gets_the_colours() -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros(HW), name="cells")
    session = AnnotationSession(HW, TABLE)
    view = InstanceLayers(viewer, image, session)
    keeper = ColorKeeper(view)
    keeper.set_by(ColorBy.STATE)
    mask = CroppedMask(pixels=np.ones((2, 3), np.bool_), y=1, x=1)
    session.add_predictions(
        (),
        InstanceSet(image_hw=HW, masks=(mask,), categories=TABLE, category_ids=np.array([2])),
    )
    redraw(view)
    assert hexes(boxes_of(view).edge_color) == [SKY]


def test_a_new_category_does_not_turn_a_state_colour_of_its_box(view: InstanceLayers) -> None:
    keeper = ColorKeeper(view)
    keeper.set_by(ColorBy.STATE)
    before = view.session.get((), "a")
    assert before is not None
    change = Change(index=(), before=before, after=replace(before, category_id=2))
    view.session.apply(Action(name="category", changes=(change,)))
    assert hexes(boxes_of(view).edge_color) == [SKY, SKY, SKY]


def test_a_closed_keeper_follows_no_more(view: InstanceLayers) -> None:
    keeper = ColorKeeper(view)
    keeper.set_by(ColorBy.STATE)
    keeper.close()
    keeper.close()
    set_state(view, "a", InstanceState.ACCEPTED)
    assert seen(view) == [SKY, SKY, SKY]


def test_numbers_too_large_for_a_colour_each_are_told(view: InstanceLayers) -> None:
    own = seen(view)
    keeper = ColorKeeper(view)
    keeper.set_by(ColorBy.STATE)
    view.session._max_handle = 65_534
    count = len(notification_manager.records)
    set_state(view, "a", InstanceState.ACCEPTED)
    assert seen(view) == own
    set_state(view, "b", InstanceState.ACCEPTED)
    records = notification_manager.records[count:]
    assert [str(record.message)[:23] for record in records] == ["Colours by state and hi"]
    assert isinstance(labels_of(view).colormap, CyclicLabelColormap)


def test_colours_of_an_image_without_instances() -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros(HW), name="cells")
    view = InstanceLayers(viewer, image, AnnotationSession(HW, TABLE))
    redraw(view)
    keeper = ColorKeeper(view)
    for by in ColorBy:
        keeper.set_by(by)
        keeper.hide_others([])
        keeper.hide_others(None)
    keeper.set_by(ColorBy.STATE)
    labels_of(view).paint((5, 5), 1)
    assert hexes([labels_of(view).get_color(1)]) == [YELLOW]


def test_boxes_of_selected_instances_are_white_and_go_back(view: InstanceLayers) -> None:
    keeper = ColorKeeper(view)
    keeper.set_selected([((), "b")])
    assert hexes(boxes_of(view).edge_color) == [SKY, "#ffffff", SKY]
    keeper.set_selected([((), "a")])
    assert hexes(boxes_of(view).edge_color) == ["#ffffff", ORANGE, SKY]
    view.boxes.forget()
    for _ in view.redraw_boxes():
        pass
    assert hexes(boxes_of(view).edge_color) == ["#ffffff", ORANGE, SKY]
    keeper.set_selected([])
    assert hexes(boxes_of(view).edge_color) == [SKY, ORANGE, SKY]
