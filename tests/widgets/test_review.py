"""The Review tab: choose, decide, correct, undo, and what comes and goes around it."""

import threading
from collections.abc import Callable
from importlib import resources
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QWidget
from tests.edits.compare import assert_same_snapshot
from tests.widgets.review_window import HW, SQUARES, ReviewWindow, squares, use_engine

from napari_deeppixel.core.category import Category, CategoryTable
from napari_deeppixel.core.instance import InstanceState
from napari_deeppixel.edits import reshape_tools
from napari_deeppixel.edits.queue import QueueOrder
from napari_deeppixel.edits.session import DONE_STATES


@pytest.fixture
def window(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Three squares were found, a fourth is a candidate; Review is open."""
    use_engine(monkeypatch)
    window = ReviewWindow(qtbot)
    window.add(squares())
    window.run()
    return window


@pytest.fixture
def empty(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """No image yet."""
    use_engine(monkeypatch)
    return ReviewWindow(qtbot)


# -- choosing and deciding ------------------------------------------------------------------------


def test_next_selects_on_card_table_and_canvas_with_the_reason(window: ReviewWindow) -> None:
    assert window.viewer.layers.selection.active == window.labels()
    window.key("N")
    c = window.ref("c")
    assert window.selected == window.review.table.selected_refs() == [c]
    assert window.labels().selected_label == window.get(c).handle
    assert "score 0.71" in window.find("card.reason").text()
    assert window.viewer.scene.camera.center[-2:] == pytest.approx((44.5, 14.5))


def test_good_junk_and_unsure_go_on_and_count(window: ReviewWindow) -> None:
    for key in "NGJQ":
        window.key(key)
    window.settle()
    assert window.states() == {"accepted": 1, "rejected": 1, "unsure": 1}
    assert window.find("review.progress").text().startswith("2 of 3 reviewed")
    window.key("Shift-N")
    window.key("Shift-N")
    assert window.get(window.selected[0]).state is InstanceState.ACCEPTED


def test_deciding_without_a_selection_says_what_to_do(window: ReviewWindow) -> None:
    window.press("accept")
    assert "select an instance first" in window.status
    assert window.states() == {"unreviewed": 3}


def test_shift_click_adds_to_the_selection_and_unite_makes_one(window: ReviewWindow) -> None:
    window.click(15, 15)
    window.click(15, 45, "Shift")
    assert set(window.selected) == {window.ref("a"), window.ref("b")}
    assert set(window.review.table.selected_refs()) == set(window.selected)
    window.key("U")
    (united,) = window.selected
    assert window.get(united).area == 200
    assert window.states() == {"unreviewed": 1, "edited": 1}


def test_rows_of_the_table_are_selected_on_the_canvas(window: ReviewWindow) -> None:
    refs = [window.ref("a"), window.ref("c")]
    window.review.table.selected.emit(refs)
    assert window.selected == refs
    window.review.table.activated.emit(refs[1])
    assert window.viewer.scene.camera.center[-2:] == pytest.approx((44.5, 14.5))


def test_number_keys_set_the_category_of_all_that_is_selected(window: ReviewWindow) -> None:
    window.tools.select([window.ref("a"), window.ref("b")])
    window.key("2")
    names = {n: window.get(window.ref(n)).category_id for n in "abc"}
    assert names == {"a": 2, "b": 2, "c": 1}
    window.key("7")
    assert window.status.startswith("No category 7: there is cell, debris.")


def test_the_key_of_a_category_goes_before_its_number_and_behind_commands(
    window: ReviewWindow,
) -> None:
    table = CategoryTable(
        categories=(
            Category(id=5, name="mitosis", color="#ff0000", key="1"),
            Category(id=6, name="crystal", color="#00ff00", key="x"),
            Category(id=7, name="granule", color="#0000ff", key="g"),
        )
    )
    window.session.join_categories(table)
    names = window.session.categories
    window.tools.select([window.ref("a")])
    # the first of the list is called cell
    window.key("1")
    assert names.name_of(window.get(window.ref("a")).category_id) == "mitosis"
    window.key("x")
    assert names.name_of(window.get(window.ref("a")).category_id) == "crystal"
    # G says that an instance is good
    window.key("g")
    assert names.name_of(window.get(window.ref("a")).category_id) == "crystal"
    assert window.get(window.ref("a")).state in DONE_STATES


def test_a_typed_category_is_added_and_offered_everywhere(window: ReviewWindow) -> None:
    window.tools.select([window.ref("a")])
    window.review.card.category_chosen.emit("mitosis")
    assert window.session.categories.name_of(window.at(15, 15).category_id) == "mitosis"
    assert window.find("review.drawn_category").findText("mitosis") == 2


def test_the_queue_of_a_category_holds_that_category_alone(window: ReviewWindow) -> None:
    window.tools.select([window.ref("b")])
    window.key("2")
    box = window.find("review.order")
    box.setCurrentIndex(box.findData(QueueOrder.CATEGORY))
    window.find("review.queue_category").setCurrentIndex(1)
    window.settle()
    assert len(window.review.queue) == 1
    window.key("N")
    assert window.selected == [window.ref("b")]


# -- drawing --------------------------------------------------------------------------------------


def test_lasso_draws_an_instance_of_the_chosen_category(window: ReviewWindow) -> None:
    window.find("review.drawn_category").setCurrentIndex(1)
    window.key("Shift-Q")
    assert "Esc cancels" in window.status
    window.drag((20, 60), (20, 69), (29, 69), (29, 60))
    drawn = window.at(25, 65)
    assert (drawn.area, drawn.category_id, drawn.state) == (100, 2, InstanceState.DRAWN)
    assert window.selected == [((), drawn.uuid)]


def test_a_line_splits_what_it_crosses_and_selects_both_parts(window: ReviewWindow) -> None:
    window.key("K")
    window.drag((5, 15), (25, 15))
    areas = sorted(window.get(ref).area for ref in window.selected)
    assert len(areas) == 2
    assert sum(areas) == 100
    assert window.at(15, 11).uuid != window.at(15, 18).uuid


def test_points_split_the_selected_instance(window: ReviewWindow) -> None:
    window.tools.select([window.ref("a")])
    window.key("Shift-K")
    window.click(15, 11)
    window.click(15, 18)
    window.key("Enter")
    assert len(window.selected) == 2
    assert window.at(15, 11).uuid != window.at(15, 18).uuid


def test_all_in_a_traced_region_is_deleted_as_one_step(window: ReviewWindow) -> None:
    window.key("Shift-J")
    window.drag((5, 5), (5, 55), (25, 55), (25, 5))
    assert window.states() == {"unreviewed": 1, "rejected": 2}
    window.press("undo")
    assert window.states() == {"unreviewed": 3}


def test_escape_calls_a_gesture_off_and_gives_the_mouse_back(window: ReviewWindow) -> None:
    window.press("lasso")
    assert window.review.panels.buttons["lasso"].isDown()
    window.key("Escape")
    assert not window.tools.gestures.is_armed
    assert not window.review.panels.buttons["lasso"].isDown()
    assert window.status == ""
    window.click(15, 15)
    assert window.selected == [window.ref("a")]


def test_gesture_that_finds_nothing_says_so_and_changes_nothing(window: ReviewWindow) -> None:
    before = window.session.snapshot()
    window.key("K")
    window.drag((30, 60), (50, 60))
    assert "crosses no object" in window.status
    assert_same_snapshot(window.session.snapshot(), before)


def test_deleting_with_the_key_works_on_boxes_too(window: ReviewWindow) -> None:
    boxes = window.boxes()
    window.viewer.layers.selection.active = boxes
    handle = window.get(window.ref("b")).handle
    boxes.selected_data = {list(boxes.features["handle"]).index(handle)}
    assert window.selected == [window.ref("b")]
    window.key("Delete")
    window.settle()
    assert window.states() == {"unreviewed": 2, "rejected": 1}
    assert len(boxes.data) == 2


def test_boxes_removed_in_their_layer_delete_the_instances(window: ReviewWindow) -> None:
    boxes = window.boxes()
    boxes.selected_data = {0, 1}
    boxes.remove_selected()
    window.settle()
    assert window.states() == {"unreviewed": 1, "rejected": 2}
    assert len(boxes.data) == 1


# -- reshaping ------------------------------------------------------------------------------------


def test_one_is_reshaped_at_once_and_many_in_a_thread(window: ReviewWindow) -> None:
    window.key("Shift-Q")
    window.drag((40, 60), (40, 69), (49, 69), (49, 60))
    window.tools.select([window.ref("a")])
    window.press("grow")
    assert window.at(15, 15).area > 100
    window.press("undo")
    window.tools.select([*(window.ref(n) for n in "abc"), ((), window.at(45, 65).uuid)])
    window.press("grow")
    assert "working on 4" in window.status
    assert window.at(15, 15).area == 100
    window.settle()
    assert {window.get(ref).area for ref in window.selected} == {140}
    window.press("undo")
    assert {window.get(ref).area for ref in window.selected} == {100}


def test_result_of_a_thread_is_dropped_when_the_instances_changed_meanwhile(
    window: ReviewWindow, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    shrunk = reshape_tools.shrunk

    def held(*args: Any) -> Any:
        go_on.wait(10)
        return shrunk(*args)

    monkeypatch.setattr(reshape_tools, "shrunk", held)
    window.key("Shift-Q")
    window.drag((40, 60), (40, 69), (49, 69), (49, 60))
    window.tools.select([*(window.ref(n) for n in "abc"), ((), window.at(45, 65).uuid)])
    window.press("shrink")
    window.stroke((30, 30), number=50)
    go_on.set()
    window.settle()
    assert "changed meanwhile" in window.status
    assert window.at(15, 15).area == 100


# -- undo -----------------------------------------------------------------------------------------


def test_everything_is_undone_to_the_start_and_done_again_to_the_end(window: ReviewWindow) -> None:
    snapshots = [window.session.snapshot()]
    pixels = [window.labels().data.copy()]

    def note() -> None:
        window.settle()
        snapshots.append(window.session.snapshot())
        pixels.append(window.labels().data.copy())

    steps: list[Callable[[], None]] = [
        lambda: window.key("2"),
        lambda: window.press("fill"),
        lambda: window.press("smooth"),
        lambda: window.key("G"),
        lambda: window.stroke((30, 30), (30, 40), number=60),
        lambda: window.draw("K", (35, 15), (55, 15)),
        lambda: window.press("unite"),
        lambda: window.draw("W", (38, 38), (52, 52)),
        lambda: window.press("complete-plane"),
        lambda: window.press("delete"),
    ]
    window.tools.select([window.ref("a")])
    for step in steps:
        step()
        note()
    count = len(window.session.history)
    assert count >= 9
    while len(window.session.history) > 1:
        window.key("Control-Z", window.labels())
        window.settle()
    assert_same_snapshot(window.session.snapshot(), snapshots[0])
    assert np.array_equal(window.labels().data, pixels[0])
    while window.session.history.redo_name:
        window.key("Control-Shift-Z", window.labels())
        window.settle()
    assert len(window.session.history) == count
    assert_same_snapshot(window.session.snapshot(), snapshots[-1])
    assert np.array_equal(window.labels().data, pixels[-1])


def test_undo_names_the_step_and_is_off_where_there_is_none(empty: ReviewWindow) -> None:
    undo = empty.review.panels.buttons["undo"]
    assert not undo.isEnabled()
    empty.add(squares())
    empty.run()
    empty.tools.select([empty.ref("a")])
    empty.key("G")
    empty.settle()
    assert undo.caption == "Undo: accept an instance"


# -- hiding ---------------------------------------------------------------------------------------


def alpha(window: ReviewWindow, name: str) -> float:
    color = window.labels().get_color(window.get(window.ref(name)).handle)
    return 0.0 if color is None else float(color[3])


def test_others_are_hidden_follow_the_selection_and_come_back(window: ReviewWindow) -> None:
    window.key("H")
    assert "select what is to stay" in window.status
    window.tools.select([window.ref("a")])
    window.key("H")
    assert [alpha(window, name) > 0 for name in "abc"] == [True, False, False]
    window.click(15, 45)
    assert [alpha(window, name) > 0 for name in "abc"] == [False, True, False]
    window.key("H")
    assert [alpha(window, name) > 0 for name in "abc"] == [True, True, True]


def test_nothing_stays_hidden_when_the_dock_is_closed(window: ReviewWindow) -> None:
    window.tools.select([window.ref("a")])
    window.key("H")
    assert alpha(window, "b") == 0
    window.dock.close()
    color = window.labels().get_color(2)
    assert color is not None
    assert color[3] > 0


# -- complete -------------------------------------------------------------------------------------


def test_complete_regions_are_counted_and_tell_what_is_left(window: ReviewWindow) -> None:
    window.press("complete-region")
    window.drag((-1, -1), (29, 100))
    window.settle()
    assert "2 instances in it are still unreviewed" in window.status
    assert window.find("review.complete_text").text() == "50% of this image is complete."
    window.press("complete-plane")
    window.settle()
    assert window.find("review.complete_text").text().startswith("100%")
    window.press("complete-none")
    window.settle()
    assert window.find("review.complete_text").text().startswith("0%")


# -- read-only ------------------------------------------------------------------------------------


def test_while_read_only_every_tool_refuses_and_a_stroke_is_taken_off(
    window: ReviewWindow, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[str] = []
    monkeypatch.setattr("napari_deeppixel.widgets.review.show_warning", warned.append)
    window.session.is_read_only = True
    before, pixels = window.session.snapshot(), window.labels().data.copy()
    window.tools.select([window.ref("a"), window.ref("b")])
    for command_id in ("accept", "delete", "unite", "grow", "again", "complete-plane", "undo"):
        window.review.panels.status.say("")
        window.press(command_id)
        window.settle()
        assert "another window" in window.status, command_id
    window.stroke((30, 30), (30, 40), number=60)
    window.settle()
    assert len(warned) == 1
    assert "Edit here" in warned[0]
    assert np.array_equal(window.labels().data, pixels)
    assert_same_snapshot(window.session.snapshot(), before)


# -- images come and go ---------------------------------------------------------------------------


def test_annotating_by_hand_needs_no_model(empty: ReviewWindow) -> None:
    empty.open_review()
    empty.find("review.by_hand").click()
    assert "Open an image first" in empty.status
    empty.add(np.zeros(HW, np.uint8))
    empty.find("review.by_hand").click()
    empty.settle()
    assert not empty.find("review.by_hand").isVisible()
    assert empty.viewer.layers.selection.active == empty.labels()
    empty.stroke((30, 30), (30, 40), number=empty.labels().selected_label)
    assert empty.states() == {"drawn": 1}
    assert empty.at(30, 35).source == "person"


def test_review_follows_the_image_that_is_chosen_also_by_its_labels(window: ReviewWindow) -> None:
    window.add(squares("a"), "two")
    window.settle()
    assert window.review.view is None
    assert window.find("review.by_hand").isVisibleTo(window.review)
    window.find("detect.run").click()
    window.settle()
    assert window.view.image.name == "two"
    window.viewer.layers.selection.active = window.labels("im")
    window.settle()
    assert window.view.image.name == "im"
    assert len(window.review.queue) == 3
    window.key("N")
    assert window.selected == [window.ref("c")]


def test_a_gesture_ends_with_the_image_and_leaves_its_layers_as_they_were(
    window: ReviewWindow,
) -> None:
    view = window.view
    window.key("K")
    assert view.is_tool_armed
    window.add(squares("a"), "two")
    window.settle()
    assert not window.tools.gestures.is_armed
    assert not view.is_tool_armed
    window.viewer.layers.selection.active = window.labels("im")
    assert window.labels().mouse_pan


def test_removed_image_leaves_an_empty_tab_and_comes_back_with_all(window: ReviewWindow) -> None:
    image = window.view.image
    window.tools.select([window.ref("a")])
    window.key("G")
    window.viewer.layers.remove(image)
    window.settle()
    assert window.review.view is None
    assert window.review.table.shown_refs() == []
    window.press("next")
    window.press("accept")
    assert "no instances yet" in window.status
    window.viewer.layers.append(image)
    window.settle()
    assert window.states() == {"unreviewed": 2, "accepted": 1}
    assert window.journals.earlier(image) is None
    assert window.journals.state(image) is not None


def test_keys_work_while_review_is_open_and_on_our_layers_alone(window: ReviewWindow) -> None:
    assert window.has_key("N")
    window.dock.tabs.setCurrentWidget(window.detect)
    assert not window.has_key("N")
    window.dock.tabs.setCurrentWidget(window.review)
    assert window.has_key("N")
    window.viewer.layers.selection.active = window.view.image
    assert not window.has_key("N")


def test_dock_closed_and_opened_again_goes_on_where_it_was(
    window: ReviewWindow, qtbot: Any
) -> None:
    image, session = window.view.image, window.session
    window.tools.select([window.ref("a")])
    window.key("G")
    # what the dock's close button does
    parent = QWidget()
    qtbot.addWidget(parent)
    window.dock.setParent(parent)
    window.dock.setParent(None)
    assert not window.has_key("N")
    window.stroke((30, 30), (30, 40), number=60)
    assert session.count_states()[InstanceState.DRAWN] == 1
    again = ReviewWindow(qtbot, window.viewer, has_window=False)
    again.open_review()
    assert again.session is session
    assert not session.is_read_only
    assert again.journals.earlier(image) is None
    assert not again.find("journal.edit_here").isVisible()
    again.tools.select([again.ref("b")])
    again.key("J")
    assert again.states() == {"unreviewed": 1, "accepted": 1, "drawn": 1, "rejected": 1}
    journal = image.metadata["napari_deeppixel_journal"].journal
    assert journal.flush()
    assert journal.state.phase.value == "saved"


# -- stacks and channels --------------------------------------------------------------------------


def test_the_queue_goes_over_all_planes_of_a_stack(empty: ReviewWindow) -> None:
    empty.add(np.stack([squares("a"), np.zeros(HW, np.uint8), squares("c")]), scale=(3, 1, 1))
    empty.run("Stack z (3 planes)")
    visited = []
    for _ in range(2):
        empty.key("N")
        visited.append((empty.selected[0][0], empty.view.planes.current()))
        empty.key("G")
    assert visited == [((2,), (2,)), ((0,), (0,))]
    assert empty.states() == {"accepted": 2}
    assert "Nothing left" in empty.status


def test_copy_to_the_next_plane_goes_there_and_selects_the_copy(empty: ReviewWindow) -> None:
    empty.add(np.stack([squares("a"), np.zeros(HW, np.uint8)]))
    empty.run("Stack z (2 planes)")
    empty.viewer.dims.set_current_step(0, 0)
    empty.tools.select([((0,), empty.at(15, 15).uuid)])
    empty.press("copy-next")
    assert empty.view.planes.current() == (1,)
    assert empty.selected == [((1,), empty.at(15, 15).uuid)]
    assert empty.at(15, 15).area == 100
    empty.press("copy-next")
    assert "last plane" in empty.status


def test_planes_between_two_clicked_ones_are_filled_in(empty: ReviewWindow) -> None:
    blank = np.zeros(HW, np.uint8)
    empty.add(np.stack([squares("a"), blank, blank, squares("a")]))
    empty.run("Stack z (4 planes)")
    for z in (0, 3):
        empty.viewer.dims.set_current_step(0, z)
        empty.click(15, 15)
    empty.press("interpolate")
    assert [int((plane > 0).sum()) for plane in empty.labels().data] == [100] * 4


def test_instances_of_an_image_with_channels_are_the_same_in_all(empty: ReviewWindow) -> None:
    empty.add(np.stack([np.zeros(HW, np.uint8), squares()]))
    axis = empty.find("detect.channel_axis")
    axis.setCurrentIndex(1)
    empty.find("detect.channels").setText("1")
    empty.find("detect.channels").editingFinished.emit()
    empty.run()
    for channel in (0, 1):
        empty.viewer.dims.set_current_step(0, channel)
        empty.key("Shift-W")
        y, x, _ = SQUARES["hidden"]
        empty.click(y + 5, x + 5)
        assert empty.states() == {"unreviewed": 3, "accepted": 1}
        empty.press("undo")
        empty.settle()


# -- the real thing -------------------------------------------------------------------------------


def test_nuclei_are_found_walked_through_and_boxed_in_a_real_window(
    make_napari_viewer: Any, qtbot: Any
) -> None:
    with resources.as_file(resources.files("napari_deeppixel") / "samples") as folder:
        pixels = np.asarray(iio.imread(folder / "tissue.png"))[:160, :192]
    viewer = make_napari_viewer(show=True)
    window = ReviewWindow(qtbot, viewer)
    window.add(pixels)
    window.find("detect.run").click()
    qtbot.waitUntil(lambda: not window.detect.run.is_running, timeout=90_000)
    window.open_review()
    total = window.states()["unreviewed"]
    assert total >= 5
    canvas = viewer.window._qt_viewer.canvas.native
    for key in (Qt.Key.Key_N, Qt.Key.Key_G, Qt.Key.Key_J):
        QTest.keyClick(canvas, key)
    window.settle()
    assert window.states() == {"unreviewed": total - 2, "accepted": 1, "rejected": 1}
    assert window.find("review.progress").text().startswith(f"2 of {total} reviewed")

    ref = window.selected[0]
    lost = window.get(ref)
    window.press("delete")
    x1, y1, x2, y2 = lost.box_xyxy
    window.press("box")
    window.drag((y1 - 0.5, x1 - 0.5), (y2 - 0.5, x2 - 0.5))
    qtbot.waitUntil(lambda: not window.review.prompts.is_busy, timeout=90_000)
    window.settle()
    (new,) = window.selected
    boxed = window.get(new)
    assert boxed.mask.iou(lost.mask) > 0.8
    assert boxed.state is InstanceState.DRAWN
    assert "added as nucleus" in window.status


@pytest.mark.parametrize("under_way", ["prompt", "gesture", "thread"])
def test_closing_the_window_ends_whatever_is_under_way(
    make_napari_viewer: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch, under_way: str
) -> None:
    hold = threading.Event()
    hold.set()
    use_engine(monkeypatch, hold=hold)
    viewer = make_napari_viewer()
    window = ReviewWindow(qtbot, viewer)
    window.add(squares())
    window.run()
    hold.clear()
    if under_way == "prompt":
        window.tools.ask_box((), (8, 8, 22, 22))
        assert window.review.prompts.is_busy
    elif under_way == "gesture":
        window.press("lasso")
    else:
        monkeypatch.setattr("napari_deeppixel.widgets.review_tools._MAX_AT_ONCE", 0)
        window.tools.select([window.ref("a")])
        window.press("smooth")
    viewer.close()
    qtbot.wait(100)
    hold.set()
    qtbot.wait(100)


def test_every_button_has_a_name_and_tells_its_key(empty: ReviewWindow) -> None:
    for command_id, button in empty.review.panels.buttons.items():
        assert empty.find(f"review.{command_id}") is button
        assert button.toolTip().startswith(empty.review.commands[command_id].tooltip)
    assert empty.find("review.next").toolTip().endswith("Key: N")


def test_undo_goes_to_the_plane_that_it_changes(empty: ReviewWindow) -> None:
    empty.add(np.stack([squares("a"), np.zeros(HW, np.uint8)]))
    empty.run("Stack z (2 planes)")
    empty.tools.select([((0,), empty.session.visible((0,)).uuids[0])])
    empty.key("G")
    empty.view.planes.show((1,))
    empty.press("undo")
    assert empty.view.planes.current() == (0,)
    assert empty.status == "Undone: accept an instance, on plane 0"


def test_delete_on_complete_regions_deletes_no_instance(window: ReviewWindow) -> None:
    window.press("complete-plane")
    regions = window.view.regions.layer
    assert regions is not None
    window.viewer.layers.selection.active = regions
    assert not window.has_key("Delete")
    window.viewer.layers.selection.active = window.labels()
    assert window.has_key("Delete")


def test_keys_leave_a_layer_that_is_no_longer_ours(window: ReviewWindow) -> None:
    theirs = window.labels()
    theirs.data = np.zeros((5, 5), np.uint16)
    window.settle()
    window.viewer.layers.selection.active = theirs
    assert not window.has_key("Delete")
    assert window.labels() != theirs
    window.viewer.layers.selection.active = window.labels()
    assert window.has_key("Delete")


def test_a_tool_waits_no_longer_when_review_is_left(window: ReviewWindow) -> None:
    window.press("lasso")
    assert window.tools.gestures.is_armed
    window.dock.tabs.setCurrentWidget(window.detect)
    assert not window.tools.gestures.is_armed


def test_a_tool_that_another_plane_stops_says_so(empty: ReviewWindow) -> None:
    empty.add(np.stack([squares("a"), squares("b")]))
    empty.run("Stack z (2 planes)")
    empty.press("lasso")
    empty.view.planes.show((1,))
    assert empty.status == "lasso stopped: another plane or view is shown."


def test_the_trace_of_tools_goes_with_the_dock(window: ReviewWindow) -> None:
    window.press("lasso")
    assert "DeepPixel trace" in window.viewer.layers
    window.review.shut_down()
    assert "DeepPixel trace" not in window.viewer.layers


def test_a_cell_that_nobody_tells_of_is_taken_and_a_wrong_one_explained(
    window: ReviewWindow,
) -> None:
    # napari's own table writes so, without an event
    window.labels().features.loc[1, "state"] = "accepted"
    window.wait(lambda: window.states() == {"accepted": 1, "unreviewed": 2})
    window.labels().features.loc[1, "score"] = 0.25
    window.wait(lambda: "what is measured is as it was" in window.status)
    assert window.labels().features["score"][1] == window.get(window.ref("a")).score
    window.labels().features.loc[1, "category"] = "mitosis"
    window.wait(lambda: "category must be one of ['cell', 'debris']" in window.status)
    assert window.labels().features["category"][1] == "cell"


def test_a_reason_that_is_settled_is_shown_no_longer(window: ReviewWindow) -> None:
    window.press("next")
    ref = window.selected[0]
    assert window.find("card.reason").text()
    window.tools.set_state(InstanceState.REJECTED)
    window.tools.select([ref])
    assert window.find("card.reason").text() == "rejected, so it is not drawn"


def test_the_uncertainty_of_the_queue_stands_in_the_table(window: ReviewWindow) -> None:
    window.settle()
    assert window.review.table._model.rows.has_uncertainties


def test_a_deleted_labels_layer_comes_back_with_the_next_instance(window: ReviewWindow) -> None:
    window.viewer.layers.remove(window.labels())
    window.press("next")
    window.settle()
    assert window.at(15, 15).uuid in window.session.visible(()).uuids
