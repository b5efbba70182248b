"""Labels layers and the session in step both ways: strokes, raw writes, undo, tables, layers."""

import gc
import weakref
from types import SimpleNamespace
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from napari.layers import Labels, Shapes
from napari.layers._layer_actions import _duplicate_layer
from napari.utils import interactions
from tests.viewer.scene import HW, Scene, assert_in_step, found, rect

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import InstanceState
from napari_deeppixel.edits.diff import OverlapRule
from napari_deeppixel.edits.tools import deleted
from napari_deeppixel.viewer.layers import VIEW_KEY, InstanceLayers, LabelsMode
from napari_deeppixel.viewer.strokes import small_numbers

TAKE, KEEP, OVERLAP = OverlapRule.TAKE, OverlapRule.KEEP, OverlapRule.OVERLAP
RUN = "run the model"


def steps(scene: Scene) -> list[str]:
    """Return the names of the steps that can be undone, newest first, and undo them."""
    names = []
    while name := scene.view.undo():
        names.append(name)
    return names


# -- strokes --------------------------------------------------------------------------------------


def test_a_stroke_is_one_step_on_the_selected_instance() -> None:
    scene = Scene()
    scene.stroke((8, 3), (9, 3), (10, 3), number=1)
    assert scene.get("a").area == 20 + 3 * 5
    assert scene.get("a").state is InstanceState.EDITED
    assert scene.get("a").box_xyxy == (2, 2, 7, 12)
    assert_in_step(scene.view)
    assert steps(scene) == ["paint", RUN]


@pytest.mark.parametrize(
    ("rule", "area_a", "area_c"), [(TAKE, 20, 11), (KEEP, 20, 20), (OVERLAP, 29, 20)]
)
def test_painting_over_another_follows_the_rule(
    rule: OverlapRule, area_a: int, area_c: int
) -> None:
    scene = Scene(rule=rule)
    scene.stroke((14, 22), number=1)  # 3 x 3 px inside c
    if rule is TAKE:
        area_a += 9
    assert (scene.get("a").area, scene.get("c").area) == (area_a, area_c)
    assert_in_step(scene.view)


def test_hidden_pixels_survive_a_stroke_on_the_instance_on_top() -> None:
    scene = Scene()
    hidden = scene.mask("b")
    scene.stroke((3, 5), number=1)  # on what a covers of b
    assert np.array_equal(scene.mask("b"), hidden)
    scene.stroke((3, 5), number=0)  # a goes there, and b comes to light
    assert scene.labels.data[3, 5] == 2
    assert np.array_equal(scene.mask("b"), hidden)
    assert_in_step(scene.view)


def test_fill_polygon_and_eraser_are_one_step_each() -> None:
    scene = Scene()
    scene.labels.fill((13, 21), 1)  # c's pixels become a's
    scene.labels.paint_polygon([[8, 8], [8, 12], [11, 12], [11, 8]], 2)
    scene.stroke((3, 3), number=0)
    assert scene.get("c").state is InstanceState.REJECTED
    assert scene.get("b").area == 20 + 20
    assert scene.get("a").area == 20 + 20 - 9
    assert_in_step(scene.view)
    assert steps(scene) == ["paint", "paint", "erase an instance", RUN]


def test_an_unknown_number_is_a_new_instance_of_the_chosen_category() -> None:
    scene = Scene()
    scene.view.drawn_category_id = 2
    scene.stroke((17, 3), number=40)
    new = scene.newest()
    assert (new.handle, new.category_id, new.area) == (40, 2, 9)
    assert new.state is InstanceState.DRAWN
    assert np.isnan(new.score)
    assert_in_step(scene.view)


@pytest.mark.parametrize("kind", ["rejected", "hidden"])
def test_the_number_of_an_instance_that_is_not_shown_stays_its_own(kind: str) -> None:
    scene = Scene()
    if kind == "rejected":
        scene.labels.fill((13, 21), 0)
    else:
        scene.session.set_visibility(score=0.82, min_area=1)
    area = scene.get("c").area
    scene.stroke((17, 3), number=3)
    assert scene.get("c").area == area
    assert scene.newest().handle == 4
    # and the brush goes on with the new one
    assert scene.labels.selected_label == 4
    scene.stroke((18, 6), number=scene.labels.selected_label)
    assert scene.session.next_handle == 5
    assert_in_step(scene.view)


def test_the_number_of_another_planes_instance_stays_its_own() -> None:
    scene = Scene((2, *HW))
    scene.viewer.dims.set_current_step(0, 1)
    scene.stroke((1, 10, 10), number=1)
    assert scene.get("a", (0,)).area == 20
    assert scene.newest().handle == 4
    assert scene.labels.selected_label == 4
    assert scene.labels.data[1, 10, 10] == 4
    assert_in_step(scene.view)


def test_a_stroke_through_several_planes_makes_an_instance_in_each() -> None:
    scene = Scene((4, *HW), planes={(1,): found([rect(2, 2), rect(12, 20)])})
    scene.viewer.dims.set_current_step(0, 1)
    scene.labels.n_edit_dimensions = 3
    scene.stroke((1, 9, 9), number=1, size=3)
    areas = [[i.area for i in scene.session.visible((z,))] for z in range(4)]
    # the brush is a ball
    assert areas == [[5], [29, 20], [5], []]
    # the person goes on with the one on the plane in view
    assert scene.labels.selected_label == 1
    assert_in_step(scene.view)
    scene.settle()
    # one stroke, one step
    scene.view.undo()
    assert [len(scene.session.visible((z,))) for z in range(4)] == [0, 2, 0, 0]
    assert scene.session.history.undo_name == "run the model"


def test_erasing_the_last_pixel_of_a_prediction_keeps_its_mask_and_undo_brings_it_back() -> None:
    scene = Scene()
    before = scene.mask("c")
    scene.labels.fill((13, 21), 0)
    assert scene.get("c").state is InstanceState.REJECTED
    assert np.array_equal(scene.mask("c"), before)
    assert not (scene.labels.data == 3).any()
    scene.view.undo()
    assert scene.get("c").state is InstanceState.UNREVIEWED
    assert np.array_equal(scene.labels.data == 3, before)
    assert_in_step(scene.view)


def test_erasing_the_last_pixel_of_a_drawing_deletes_it_and_undo_brings_it_back() -> None:
    scene = Scene()
    scene.stroke((17, 3), number=4)
    uuid = scene.newest().uuid
    scene.labels.fill((17, 3), 0)
    assert scene.session.get((), uuid) is None
    scene.view.undo()
    assert scene.get(uuid).area == 9
    assert_in_step(scene.view)


@pytest.mark.parametrize(
    ("mode", "names"),
    [
        (LabelsMode.BY_CATEGORY, ["nucleus", "mine"]),
        (LabelsMode.BY_INSTANCE, ["1", "mine", "3", "4"]),
    ],
)
def test_a_stroke_in_a_layer_of_its_own_kind(mode: LabelsMode, names: list[str]) -> None:
    scene = Scene(mode=mode)
    debris = scene.view.labels_layers[1]
    # a name says nothing
    debris.name = "cells instances: mine"
    scene.viewer.layers.selection.active = debris
    debris.brush_size = 3
    debris.selected_label = 4
    debris.paint((17, 3), 4)
    assert scene.newest().category_id == (2 if mode is LabelsMode.BY_CATEGORY else 1)
    assert [layer.name.split(": ")[1] for layer in scene.view.labels_layers] == names
    # the layer that came does not take the brush away
    assert scene.viewer.layers.selection.active == debris
    scene.settle()


def test_a_new_category_brings_its_layer() -> None:
    scene = Scene(planes={(): found([rect(2, 2)])}, mode=LabelsMode.BY_CATEGORY)
    assert len(scene.view.labels_layers) == 1
    scene.session.take_attributes((), {1: ("debris", "")})
    assert len(scene.view.labels_layers) == 2
    scene.settle()
    scene.redraw()
    assert len(scene.view.labels_layers) == 1
    scene.settle()


def test_the_next_number_past_16_bits_fits_into_the_layer() -> None:
    scene = Scene()
    scene.session._max_handle = 65_534
    scene.stroke((17, 3), number=65_535)
    assert scene.labels.data.dtype == np.uint16
    scene.view.select_new()
    assert scene.labels.data.dtype == np.uint32
    scene.stroke((17, 9), number=65_536)
    assert scene.newest().handle == 65_536
    assert scene.labels.data[17, 9] == 65_536
    assert_in_step(scene.view)


def test_a_stroke_goes_on_while_the_type_grows() -> None:
    scene = Scene()
    labels = scene.labels
    labels.brush_size = 3
    labels.selected_label = 1
    with labels.block_history():
        labels.paint((8, 3), 1)
        scene.view._groups.view_of(labels).grow_type(70_000)  # type: ignore[union-attr]
        labels.paint((9, 3), 1)
    assert scene.get("a").area == 20 + 12
    assert steps(scene)[0] == "paint"


def test_a_redraw_in_the_middle_of_a_stroke_loses_none_of_it() -> None:
    scene = Scene()
    labels = scene.labels
    labels.brush_size = 3
    with labels.block_history():
        labels.paint((8, 3), 1)
        scene.redraw()
        scene.view.settle_all()
        scene.session.apply(deleted(scene.session, [((), "c")]))
        labels.paint((9, 3), 1)
    assert scene.get("a").area == 20 + 12
    scene.settle()
    assert steps(scene) == ["paint", "delete an instance", RUN]


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ((*HW, 3), {"rgb": True}),
        (HW, {"scale": (0.5, 2), "translate": (7, -3)}),
        ((3, *HW), {"channel_axis": 0}),
        ((2, 3, *HW), {"channel_axis": 1, "scale": (1, 2, 0.5, 0.25)}),
    ],
)
def test_strokes_on_images_of_all_kinds(shape: tuple[int, ...], settings: dict[str, Any]) -> None:
    index = (0,) if len(shape) == 4 else ()
    masks = [rect(2, 2), rect(2, 5), rect(12, 20)]
    scene = Scene(shape, {index: found(masks)}, **settings)
    lead = (0,) * (scene.labels.ndim - 2)
    scene.stroke((*lead, 8, 3), number=1)
    scene.labels.data[(*lead, 17, 17)] = 9
    scene.settle()
    assert scene.get("a", index).area == np.count_nonzero(scene.labels.data == 1) > 20
    assert scene.newest().box_xyxy == (17, 17, 18, 18)


def test_selecting_raises_the_hidden_part_where_overlap_is_allowed() -> None:
    scene = Scene(rule=OVERLAP)
    assert scene.labels.data[3, 5] == 1
    scene.labels.data[4, 5] = 3  # nobody has taken this over yet
    scene.labels.selected_label = 2
    assert scene.labels.data[3, 5] == 2
    assert scene.labels.data[4, 5] == 3
    scene.settle()
    assert scene.mask("c")[4, 5]
    scene.view.set_overlap_rule(TAKE)
    assert scene.labels.data[3, 5] == 1
    scene.settle()


def test_a_stroke_in_a_read_only_session_is_taken_off_again() -> None:
    scene = Scene()
    scene.session.is_read_only = True
    scene.stroke((8, 3), number=1)
    scene.labels.features.loc[3, "state"] = "accepted"
    scene.labels.data[18, 18] = 1
    scene.settle()
    assert scene.get("a").area == 20
    assert "open for editing" in scene.viewer.status


# -- raw writes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("refreshes", [True, False])
def test_a_write_from_the_console_is_taken_over(refreshes: bool) -> None:
    scene = Scene()
    heard = []
    scene.view.dirtied.connect(lambda: heard.append(1))
    scene.labels.data[10:12, 3:6] = 1
    if refreshes:
        scene.labels.refresh()
    assert bool(heard) is refreshes
    scene.settle()
    assert scene.get("a").area == 26


def test_a_write_on_a_plane_that_is_not_in_view_is_taken_over() -> None:
    scene = Scene((3, *HW))
    scene.labels.data[2, 10:12, 3:6] = 8
    scene.settle()
    assert scene.newest().area == 6
    assert scene.session.plane_indices == [(0,), (2,)]


def test_data_that_are_replaced_are_taken_over_and_napari_puts_no_old_pixels_back() -> None:
    scene = Scene()
    scene.stroke((8, 3), number=1)
    new = scene.labels.data.copy()
    new[8, 3] = 0
    new[17, 17] = 9
    scene.labels.data = new
    scene.labels.undo()  # of a stroke on the array that is gone
    scene.settle()
    assert scene.get("a").area == 28
    assert not scene.mask("a")[8, 3]
    assert scene.newest().box_xyxy == (17, 17, 18, 18)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.uint64])
def test_data_of_another_type_are_taken_over(dtype: Any) -> None:
    scene = Scene()
    scene.labels.data = scene.labels.data.astype(dtype)
    scene.settle()
    assert steps(scene) == [RUN]
    scene = Scene()
    new = scene.labels.data.astype(dtype)
    new[17, 17] = 9
    scene.labels.data = new
    scene.settle()
    assert scene.newest().handle == 9
    scene.stroke((17, 3), number=1)
    scene.settle()


def test_floating_point_data_are_refused_by_napari_and_change_nothing() -> None:
    scene = Scene()
    with pytest.raises(TypeError, match="integer"):
        scene.labels.data = np.zeros(HW)
    scene.settle()
    assert steps(scene) == [RUN]


def test_a_mask_as_data_leaves_instance_1_and_what_it_hides() -> None:
    scene = Scene()
    scene.labels.data = scene.labels.data == 1
    scene.settle()
    assert [(i.uuid, i.area) for i in scene.session.visible(())] == [("a", 20), ("b", 8)]


def test_numbers_that_no_table_could_hold_are_replaced() -> None:
    scene = Scene()
    new = scene.labels.data.astype(np.int64)
    new[17, 17], new[17, 19], new[17, 21] = 10**12, -5, 10**12
    scene.labels.data = new
    scene.settle()
    assert scene.session.next_handle == 6
    assert [i.area for i in scene.session.visible(())] == [20, 20, 20, 1, 2]
    scene.labels.data = scene.labels.data.astype(np.uint32)
    scene.labels.data[18, 3] = 4_000_000_000
    scene.settle()
    assert scene.newest().handle == 6


def test_small_numbers_keeps_what_is_in_range() -> None:
    numbers = np.array([0, 5, 10_004, 10_005, -1, 99_999, -1])
    assert small_numbers(numbers, first=4).tolist() == [
        0,
        5,
        10_004,
        10_006,
        10_005,
        10_007,
        10_005,
    ]
    assert small_numbers(numbers[:3], first=4) is not None
    assert small_numbers(np.array([], np.uint16), first=1).size == 0


def test_lazy_and_read_only_arrays_become_ones_that_can_be_painted_on() -> None:
    scene = Scene()
    frozen = scene.labels.data.copy()
    frozen[17, 17] = 9
    frozen.flags.writeable = False
    scene.labels.data = frozen
    scene.stroke((8, 3), number=1)
    scene.settle()
    assert scene.newest().handle == 9
    scene.labels.data = da.from_array(np.asarray(scene.labels.data) * 1)
    scene.stroke((10, 12), number=1)
    scene.settle()
    assert isinstance(scene.labels.data, np.ndarray)


def test_an_array_of_another_layer_is_copied() -> None:
    scene = Scene()
    mine = scene.viewer.add_labels(np.zeros(HW, np.uint16))
    mine.data[17, 17] = 7
    scene.labels.data = mine.data
    scene.settle()
    assert scene.newest().handle == 7
    scene.view.undo()
    assert np.flatnonzero(mine.data).tolist() == [17 * HW[1] + 17]


def test_a_layer_with_data_of_another_shape_is_the_persons_own() -> None:
    scene = Scene()
    labels = scene.labels
    labels.data = np.full((7, 9), 5, np.uint16)
    assert scene.labels != labels
    assert labels.name == "cells instances (own data)"
    assert VIEW_KEY not in labels.metadata
    assert (labels.data == 5).all()
    labels.paint((1, 1), 3)
    scene.settle()
    assert scene.labels.name == "cells instances"
    assert steps(scene) == [RUN]


def test_work_that_waits_survives_the_slider_and_is_taken_over() -> None:
    scene = Scene(score=0.82)  # c is hidden, and has no number yet
    scene.labels.data[17, 17] = 3
    scene.labels.selected_label = 3
    scene.session.set_visibility(score=0.5, min_area=1)  # c gets number 3
    assert scene.labels.data[17, 17] == 4
    assert scene.labels.selected_label == 4
    scene.settle()
    assert scene.get("c").area == 20
    assert scene.newest().box_xyxy == (17, 17, 18, 18)
    scene.labels.data[3, 3] = 0
    scene.session.set_visibility(score=0.95, min_area=1)
    scene.session.set_visibility(score=0.5, min_area=1)
    scene.settle()


def test_an_erased_pixel_of_an_instance_that_the_slider_hides_meanwhile() -> None:
    scene = Scene()
    scene.labels.data[13, 21] = 0  # of c
    scene.labels.data[3, 3] = 0  # of a
    scene.session.set_visibility(score=0.82, min_area=1)
    scene.settle()
    assert scene.get("a").area == 19
    scene.session.set_visibility(score=0.5, min_area=1)
    scene.settle()


def test_a_large_write_is_one_step() -> None:
    scene = Scene()
    scene.labels.data[...] = np.flipud(scene.labels.data)
    scene.settle()
    assert len(steps(scene)) == 2


# -- undo and redo --------------------------------------------------------------------------------


@pytest.mark.parametrize("does_settle", [True, False])
def test_naparis_own_undo_and_redo_are_taken_over(does_settle: bool) -> None:
    scene = Scene()
    scene.stroke((8, 3), number=1)
    scene.stroke((17, 3), number=4)
    scene.labels.undo()
    if does_settle:
        scene.settle()
        assert len(scene.session.visible(())) == 3
    scene.labels.undo()
    scene.settle()
    assert scene.get("a").area == 20
    scene.labels.redo()
    scene.settle()
    assert scene.get("a").area == 29
    scene.labels.redo()
    scene.settle()
    assert scene.newest().area == 9


def test_naparis_undo_of_an_erased_prediction_brings_that_one_back() -> None:
    scene = Scene()
    scene.labels.fill((13, 21), 0)
    scene.labels.undo()
    scene.settle()
    assert scene.session.next_handle == 4
    assert scene.get("c").area == 20
    assert scene.get("c").score == 0.8


def test_undo_after_a_change_of_slice_reaches_the_plane_of_the_stroke() -> None:
    scene = Scene((2, *HW))
    scene.stroke((0, 8, 3), number=1)
    scene.viewer.dims.set_current_step(0, 1)
    scene.labels.undo()
    scene.settle()
    assert scene.get("a", (0,)).area == 20
    scene.view.undo()  # takes napari's undo back
    assert scene.get("a", (0,)).area == 29
    assert_in_step(scene.view)


def test_undo_of_predictions_takes_them_off_the_layers_and_redo_puts_them_back() -> None:
    scene = Scene()
    scene.labels.data[18, 18] = 1
    scene.view.undo()
    assert np.unique(scene.labels.data).tolist() == [0, 1]  # the write that nobody took over
    scene.view.redo()
    scene.settle()
    assert scene.get("a").area == 21


def test_undo_of_many_predictions_keeps_work_that_waits() -> None:
    masks = [rect(3 * (n // 20), 3 * (n % 20), 2, 2) for n in range(260)]
    names = [str(n) for n in range(260)]
    scene = Scene((60, 70), {(): found(masks, names=names, image_hw=(60, 70))})  # type: ignore[arg-type]
    scene.labels.data[50, 65] = 1
    scene.view.undo()
    assert np.argwhere(scene.labels.data).tolist() == [[50, 65]]
    scene.view.redo()
    scene.settle()
    assert scene.get("0").area == 5


@pytest.mark.parametrize("layer", ["labels", "boxes"])
def test_control_z_on_our_layers_is_the_sessions(layer: str) -> None:
    scene = Scene()
    scene.stroke((8, 3), number=1)
    keymap = getattr(scene, layer).keymap
    keymap[next(key for key in keymap if str(key) == "Ctrl+Z")](getattr(scene, layer))
    assert scene.get("a").area == 20
    keymap[next(key for key in keymap if str(key) == "Ctrl+Shift+Z")](getattr(scene, layer))
    assert scene.get("a").area == 29
    assert_in_step(scene.view)


# -- layers that a person moves, hides, copies or deletes -----------------------------------------


def test_a_hidden_layer_is_followed_and_no_other_plane_is_touched() -> None:
    planes = {(0,): found([rect(2, 2)]), (2,): found([rect(2, 12)], names="x")}
    scene = Scene((3, *HW), planes)
    scene.labels.visible = False
    scene.viewer.dims.set_current_step(0, 2)
    scene.session.apply(deleted(scene.session, [((2,), "x")]))
    assert_in_step(scene.view)
    scene.view.undo()
    assert_in_step(scene.view)
    scene.labels.data[2, 4, 4] = 5
    scene.settle()
    scene.labels.visible = True
    scene.settle()
    assert not scene.labels.data[1].any()


def test_a_layer_that_is_renamed_and_moved_is_followed() -> None:
    scene = Scene()
    scene.labels.name = "mine"
    scene.viewer.layers.move(scene.viewer.layers.index(scene.labels), 0)
    scene.stroke((8, 3), number=1)
    scene.redraw()
    assert [layer.name for layer in scene.viewer.layers] == ["mine", "cells", "cells boxes"]
    scene.settle()


def test_a_duplicate_is_the_persons_own() -> None:
    scene = Scene()
    labels = scene.labels
    scene.viewer.layers.selection = {labels}
    _duplicate_layer(scene.viewer.layers)
    copy = scene.viewer.layers["cells instances copy"]
    assert scene.view.labels_layers == [labels]
    copy.brush_size = 3
    copy.paint((8, 3), 1)
    copy.features.loc[3, "state"] = "accepted"
    copy.undo()
    copy.data[17, 17] = 5
    scene.settle()
    assert steps(scene) == [RUN]
    assert "Ctrl+Z" not in map(str, copy.keymap)
    assert scene.view._on_press not in copy.mouse_drag_callbacks
    scene.view.redo()
    scene.stroke((8, 3), number=1)
    assert copy.data[8, 3] == 0
    assert copy.features["state"][1] == "unreviewed"
    assert scene.view.record_of(copy.data) is None
    assert scene.view.record_of(labels.data) is not None


def test_a_deleted_labels_layer_comes_back_with_the_next_change() -> None:
    scene = Scene((2, *HW))
    labels = scene.labels
    labels.data[1, 8, 8] = 1  # on a plane that nobody looked at
    labels.features.loc[3, "state"] = "accepted"
    scene.viewer.layers.remove(labels)
    assert scene.view.labels_layers == []
    assert scene.newest().handle == 4
    assert scene.get("c", (0,)).state is InstanceState.ACCEPTED
    scene.view.undo()
    scene.view.redo()
    assert scene.labels != labels
    scene.settle()
    # the old one is nobody's
    kept = labels.data.copy()
    scene.stroke((0, 8, 3), number=1)
    assert np.array_equal(labels.data, kept)
    assert "Ctrl+Z" not in map(str, labels.keymap)


@pytest.mark.parametrize("mode", list(LabelsMode))
def test_clearing_all_layers_keeps_the_work_and_brings_none_back(mode: LabelsMode) -> None:
    scene = Scene((2, *HW), mode=mode)
    scene.labels.data[1, 17, 17] = 9
    scene.viewer.layers.clear()
    assert len(scene.viewer.layers) == 0
    assert scene.newest().handle == 9
    assert scene.view.planes.current() is None
    scene.view.settle_all()
    scene.view.undo()
    scene.redraw()
    assert len(scene.viewer.layers) == 0


def test_our_layers_stay_in_step_without_their_image() -> None:
    scene = Scene((2, *HW))
    scene.viewer.layers.remove("cells")
    scene.stroke((0, 8, 3), number=1)
    scene.settle()
    assert scene.get("a", (0,)).area == 29
    scene.view.undo()
    assert scene.get("a", (0,)).area == 20
    scene.settle()
    scene.viewer.layers.remove(scene.labels)
    scene.view.redo()
    scene.redraw()
    assert [type(layer) for layer in scene.viewer.layers] == [Shapes]


def test_nothing_holds_the_layers_of_an_image_that_went() -> None:
    scene = Scene()
    scene.stroke((8, 3), number=1)
    # napari itself keeps the layer that was active last
    viewer, gone = scene.viewer, [weakref.ref(scene.view), weakref.ref(scene.session)]
    viewer.layers.clear()
    del scene
    gc.collect()
    assert [each() for each in gone] == [None, None]


def test_layers_set_aside_are_napari_s_own_again() -> None:
    scene = Scene()
    labels = scene.labels
    scene.view.set_aside()
    assert labels.name == "cells instances (old)"
    assert [str(key) for key in labels.keymap] == []
    labels.brush_size = 3
    labels.paint((8, 3), 1)
    labels.undo()
    assert labels.data[8, 3] == 0
    assert scene.get("a").area == 20


def test_an_image_that_gets_other_pixels_keeps_its_instances() -> None:
    scene = Scene((2, *HW))
    scene.image.data = np.zeros((5, 7, 9))
    scene.viewer.layers.remove(scene.labels)
    scene.redraw()
    assert scene.labels.data.shape == (2, *HW)
    scene.image.data = np.zeros((7, 9))
    assert scene.view.planes.current() is None
    scene.labels.data[1, 3, 3] = 1
    scene.settle()


def test_layers_follow_an_image_that_is_turned() -> None:
    scene = Scene()
    scene.image.rotate = 30
    scene.image.affine = [[1, 0, 4], [0, 1, 5], [0, 0, 1]]
    scene.redraw()
    for layer in scene.view.layers:
        assert np.allclose(layer.rotate, scene.image.rotate)
        assert np.allclose(layer.affine.affine_matrix, scene.image.affine.affine_matrix)


# -- the features table ---------------------------------------------------------------------------


def test_categories_and_states_in_the_table_are_taken_over() -> None:
    scene = Scene()
    scene.labels.features.loc[1, "category"] = "debris"
    scene.labels.features.loc[2, "state"] = "unsure"
    scene.labels.features.loc[3, "state"] = "rejected"
    scene.settle()
    assert scene.get("a").category_id == 2
    assert scene.get("a").state is InstanceState.EDITED
    assert scene.get("b").state is InstanceState.UNSURE
    assert scene.get("c").state is InstanceState.REJECTED
    assert steps(scene) == ["edit the table", RUN]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("category", "x"),
        ("category", np.nan),
        ("state", "fine"),
        ("state", None),
        ("area", 7),
        ("score", np.nan),
        ("handle", 9),
        ("source", "me"),
    ],
)
def test_what_a_table_cannot_say_goes_back(column: str, value: Any) -> None:
    scene = Scene()
    scene.labels.features.loc[1, column] = value
    scene.settle()
    assert scene.labels.features[column].tolist() == Scene().labels.features[column].tolist() or (
        column == "score"
    )
    assert scene.labels.features["score"][1] == 0.9
    if value == "x":
        assert "['debris', 'nucleus'], got ['x']" in scene.viewer.status
    assert steps(scene) == [RUN]


def test_a_stroke_loses_nothing_that_waits_in_the_table() -> None:
    scene = Scene()
    scene.labels.features.loc[1, "category"] = "debris"
    scene.labels.features.loc[3, "state"] = "accepted"
    scene.stroke((8, 3), number=1)  # writes row 1
    scene.stroke((17, 3), number=4)  # writes the whole table: it grows
    scene.settle()
    assert scene.get("a").category_id == 2
    assert scene.get("a").area == 29
    assert scene.get("c").state is InstanceState.ACCEPTED


def test_columns_of_a_person_stay_with_their_instances() -> None:
    scene = Scene()
    scene.labels.features["size"] = [0, 10, 20, 30]
    scene.stroke((17, 3), number=5)
    scene.settle()
    assert scene.labels.features["size"].tolist()[:4] == [0, 10, 20, 30]
    assert np.isnan(scene.labels.features["size"].tolist()[4:]).all()


def test_a_table_of_a_persons_own_joins_ours() -> None:
    scene = Scene()
    scene.labels.features = pd.DataFrame({"index": [3, 1], "roundness": [0.3, 0.1]})
    scene.settle()
    assert scene.labels.features["category"].tolist() == [None, "nucleus", "nucleus", "debris"]
    roundness = scene.labels.features["roundness"].tolist()
    assert (roundness[1], roundness[3]) == (0.1, 0.3)
    assert steps(scene) == [RUN]


def test_a_table_with_choices_can_be_edited() -> None:
    scene = Scene()
    table = scene.labels.features.copy()
    table["category"] = pd.Categorical(table["category"], categories=["nucleus", "debris"])
    scene.labels.features = table
    scene.labels.features.loc[1, "category"] = "debris"
    scene.settle()
    assert scene.get("a").category_id == 2
    scene.session.join_categories(CategoryTable.from_names("dust"))
    scene.session.take_attributes((), {1: ("dust", "")})
    scene.settle()


# -- the mouse ------------------------------------------------------------------------------------


def click(
    scene: Scene, yx: tuple[float, float], *, moves: tuple[float, ...] = (), **changes: Any
) -> None:
    """Send what napari's canvas sends; ten canvas pixels to one of the image."""
    labels = scene.labels
    settings = {"button": 1, "modifiers": (), "view_direction": None, "is_dragging": False}
    event = SimpleNamespace(
        type="mouse_press",
        position=labels.data_to_world(yx),
        pos=np.array(yx[::-1]) * 10,
        dims_displayed=[0, 1],
        handled=False,
        **settings | changes,
    )
    interactions.mouse_press_callbacks(labels, event)
    for move in moves:
        event.type, event.is_dragging = "mouse_move", True
        event.pos = np.array(yx[::-1]) * 10 + move
        event.position = tuple(np.array(event.position) + move / 10)
        interactions.mouse_move_callbacks(labels, event)
    event.type = "mouse_release"
    interactions.mouse_release_callbacks(labels, event)


@pytest.mark.parametrize(
    ("yx", "settings", "expected"),
    [
        ((13, 21), {}, [("c", False)]),
        ((13, 21), {"modifiers": ("Shift",)}, [("c", True)]),
        ((13, 21), {"moves": (1, 3)}, [("c", False)]),  # an unsteady hand
        ((13, 21), {"moves": (3, 30)}, []),  # pans
        ((13, 21), {"button": 2}, []),
        ((0, 0), {}, []),
        ((-5, 90), {}, []),
    ],
)
def test_a_click_selects_what_is_under_the_mouse(
    yx: tuple[float, float], settings: dict[str, Any], expected: list[Any]
) -> None:
    scene = Scene(scale=(2, 3))
    clicked: list[Any] = []
    scene.view.clicked.connect(lambda ref, is_adding: clicked.append((ref[1], is_adding)))
    click(scene, yx, **settings)
    assert clicked == expected


def test_clicks_select_nothing_while_the_mouse_paints_or_a_tool_waits() -> None:
    scene = Scene()
    clicked: list[Any] = []
    scene.view.clicked.connect(lambda ref, _: clicked.append(ref))
    scene.view.is_tool_armed = True
    click(scene, (13, 21))
    scene.view.is_tool_armed = False
    scene.labels.mode = "pick"
    click(scene, (13, 21))
    assert clicked == []
    # napari's own picking selects
    assert scene.labels.selected_label == 3


def test_selecting_a_number_tells_which_instance() -> None:
    scene = Scene()
    selected: list[Any] = []
    scene.view.selection_changed.connect(selected.append)
    scene.labels.selected_label = 3
    scene.labels.selected_label = 77
    assert selected == [[((), "c")]]
    scene.view.select((), "b")
    assert scene.labels.selected_label == 2


def test_a_write_that_takes_a_new_number_leaves_the_brush_alone() -> None:
    scene = Scene(planes={(): found([])})
    assert scene.labels.selected_label == 1
    scene.labels.data[3, 3] = 7
    scene.settle()
    assert scene.labels.selected_label == 1


# -- modes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [LabelsMode.BY_CATEGORY, LabelsMode.BY_INSTANCE])
def test_a_change_of_mode_takes_over_what_waits_on_all_planes(mode: LabelsMode) -> None:
    scene = Scene((2, *HW))
    scene.labels.data[1, 8, 8] = 9
    scene.view.mode = mode
    scene.redraw()
    assert scene.newest().handle == 9
    scene.settle()
    assert len(scene.view.labels_layers) == (2 if mode is LabelsMode.BY_CATEGORY else 4)
    assert isinstance(scene.viewer.layers[1], Labels)


def test_from_mode_to_mode_each_instance_is_in_one_layer() -> None:
    masks = [rect(2, 2), rect(2, 12), rect(12, 20)]
    scene = Scene(planes={(): found(masks, category_ids=[1, 2, 2])})
    # a category that is called like the number of an instance
    scene.session.join_categories(CategoryTable.from_names("2"))
    scene.session.take_attributes((), {1: ("2", "")})
    modes = [LabelsMode.BY_CATEGORY, LabelsMode.BY_INSTANCE, LabelsMode.BY_CATEGORY, LabelsMode.ONE]
    for mode in modes:
        scene.view.mode = mode
        scene.redraw()
        numbers = [np.unique(layer.data)[1:].tolist() for layer in scene.view.labels_layers]
        assert sorted(n for each in numbers for n in each) == [1, 2, 3]
        scene.settle()


def test_the_views_are_found_by_their_image_alone() -> None:
    scene = Scene()
    assert scene.image.metadata[VIEW_KEY] is scene.view
    assert isinstance(scene.labels.metadata[VIEW_KEY], InstanceLayers)


@pytest.mark.parametrize("mode", [LabelsMode.ONE, LabelsMode.BY_CATEGORY, LabelsMode.BY_INSTANCE])
@pytest.mark.parametrize(
    ("rule", "areas", "shared"),
    [
        (OverlapRule.TAKE, (29, 11), 0),
        (OverlapRule.KEEP, (20, 20), 0),
        (OverlapRule.OVERLAP, (29, 20), 9),
    ],
)
def test_the_overlap_rule_holds_between_layers_as_it_does_in_one(
    mode: LabelsMode, rule: OverlapRule, areas: tuple[int, int], shared: int
) -> None:
    scene = Scene(mode=mode, rule=rule)
    (layer,) = {view.layer for view in scene.view._groups if view.is_member(scene.get("a"))}
    layer.brush_size, layer.selected_label = 3, 1
    # 3 x 3 pixels of a, in the middle of c
    layer.paint((13, 21), 1)
    scene.settle()
    assert (scene.get("a").area, scene.get("c").area) == areas
    assert int((scene.mask("a") & scene.mask("c")).sum()) == shared
    if rule is OverlapRule.KEEP:
        # nothing happened that could be undone
        return
    scene.view.undo()
    scene.settle()
    assert (scene.get("a").area, scene.get("c").area) == (20, 20)
