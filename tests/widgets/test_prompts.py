"""Boxes and points for the model: what becomes of the answers, and which features are kept."""

import threading
from typing import Any

import numpy as np
import pytest
from tests.fakes import ThresholdEngine
from tests.widgets.review_window import SQUARES, TABLE, ReviewWindow, squares, use_engine

from napari_deeppixel.core.image import ImageArray
from napari_deeppixel.core.instance import InstanceState
from napari_deeppixel.engine.base import PredictOptions
from napari_deeppixel.viewer.boxes_view import set_box
from napari_deeppixel.widgets import prompts as prompts_module
from napari_deeppixel.widgets.job import DetectJob, EngineShelf
from napari_deeppixel.widgets.prompts import Answer, Prompt, PromptRunner


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> ThresholdEngine:
    return use_engine(monkeypatch)


@pytest.fixture
def window(qtbot: Any, engine: ThresholdEngine) -> ReviewWindow:
    """Three squares were found, a fourth is a candidate; Review is open."""
    window = ReviewWindow(qtbot)
    window.add(squares())
    window.run()
    assert engine.calls
    return window


@pytest.fixture
def runner(qapp: Any) -> Any:  # noqa: ARG001  timers need it
    runner = PromptRunner(EngineShelf())
    yield runner
    runner.shut_down()


def job(pixels: np.ndarray) -> DetectJob:
    return DetectJob(
        image=ImageArray(pixels=pixels, axes="zyx"[-pixels.ndim :]),
        model="nuclei",
        device="auto",
        options=PredictOptions(),
        indices=(),
    )


def ask(qtbot: Any, runner: PromptRunner, *prompts: Prompt) -> list[Answer]:
    answers: list[Answer] = []
    runner.answered.connect(answers.append)
    for prompt in prompts:
        runner.ask(prompt)
    qtbot.waitUntil(lambda: not runner.is_busy, timeout=10_000)
    runner.answered.disconnect(answers.append)
    return answers


# -- the runner -----------------------------------------------------------------------------------


def test_answers_come_in_the_order_of_the_prompts_with_what_they_were_for(
    qtbot: Any, runner: PromptRunner, engine: ThresholdEngine
) -> None:
    the_job = job(squares())
    prompts = [
        Prompt(job=the_job, index=(), boxes_xyxy=np.array([[8.0, 8, 22, 22]]), purpose="box"),
        Prompt(job=the_job, index=(), point_xy=(45, 15), purpose="point"),
        Prompt(job=the_job, index=(), point_xy=(30, 30), purpose="nothing there"),
    ]
    box, point, nothing = ask(qtbot, runner, *prompts)
    assert [a.prompt.purpose for a in (box, point, nothing)] == ["box", "point", "nothing there"]
    assert box.instances[0].box_xyxy == (10, 10, 20, 20)
    assert point.instances[0].box_xyxy == (40, 10, 50, 20)
    assert nothing.instances == [None]
    assert box.categories == TABLE
    assert len(engine.prompter_calls) == 1


def test_features_are_kept_by_plane_and_made_again_for_other_settings(
    qtbot: Any, runner: PromptRunner, engine: ThresholdEngine
) -> None:
    the_job = job(np.stack([squares()] * 2))
    at = {z: Prompt(job=the_job, index=(z,), point_xy=(15, 15)) for z in (0, 1)}
    for z in (0, 1, 0, 1):
        ask(qtbot, runner, at[z])
    assert len(engine.prompter_calls) == 2
    options = PredictOptions(mask_threshold=0.3)
    other = DetectJob(
        image=the_job.image, model="nuclei", device="auto", options=options, indices=()
    )
    ask(qtbot, runner, Prompt(job=other, index=(0,), point_xy=(15, 15)))
    assert engine.prompter_calls[2:] == [options]


def test_a_large_plane_is_looked_at_in_a_window_that_is_kept_while_it_covers_the_prompt(
    qtbot: Any, runner: PromptRunner, engine: ThresholdEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompts_module, "_MAX_WHOLE_PIXELS", 100)
    monkeypatch.setattr(prompts_module, "_MARGIN_PX", 4)
    the_job = job(squares())
    first = Prompt(job=the_job, index=(), boxes_xyxy=np.array([[8.0, 8, 22, 22]]))
    inside = Prompt(job=the_job, index=(), boxes_xyxy=np.array([[9.0, 9, 21, 21]]))
    far = Prompt(job=the_job, index=(), boxes_xyxy=np.array([[38.0, 8, 52, 22]]))
    (answer,) = ask(qtbot, runner, first)
    assert answer.instances[0].box_xyxy == (10, 10, 20, 20)
    ask(qtbot, runner, inside)
    assert len(engine.prompter_calls) == 1
    (answer,) = ask(qtbot, runner, far)
    assert answer.instances[0].box_xyxy == (40, 10, 50, 20)
    assert len(engine.prompter_calls) == 2


def test_cancelled_prompts_give_no_answer_and_the_next_one_does(
    qtbot: Any, runner: PromptRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = threading.Event()
    engine = use_engine(monkeypatch, hold=hold)
    answers: list[Answer] = []
    runner.answered.connect(answers.append)
    prompt = Prompt(job=job(squares()), index=(), point_xy=(15, 15))
    runner.ask(prompt)
    runner.ask(prompt)
    assert engine.is_inside.wait(10)
    runner.cancel()
    qtbot.waitUntil(lambda: not runner.is_busy, timeout=10_000)
    assert answers == []
    hold.set()
    assert len(ask(qtbot, runner, prompt)) == 1


@pytest.mark.usefixtures("engine")
def test_failure_is_told_and_the_runner_goes_on(qtbot: Any, runner: PromptRunner) -> None:
    failures: list[BaseException] = []
    runner.failed.connect(failures.append)
    bad = Prompt(job=job(squares()), index=(7,), point_xy=(15, 15))
    ask(qtbot, runner, bad)
    assert len(failures) == 1
    good = Prompt(job=job(squares()), index=(), point_xy=(15, 15))
    assert len(ask(qtbot, runner, good)) == 1


# -- new instances --------------------------------------------------------------------------------


def test_a_box_becomes_an_instance_with_a_category_and_is_selected(window: ReviewWindow) -> None:
    window.key("W")
    window.drag((38, 38), (52, 52))
    window.settle()
    drawn = window.at(45, 45)
    assert (drawn.area, drawn.category_id) == (100, 1)
    assert drawn.state is InstanceState.DRAWN
    assert window.selected == [((), drawn.uuid)]
    assert "added as cell (39%)" in window.status
    window.key("2")
    assert window.at(45, 45).category_id == 2


def test_a_box_drawn_in_the_boxes_layer_does_the_same(window: ReviewWindow) -> None:
    boxes = window.boxes()
    boxes.add_rectangles([[[37.5, 37.5], [37.5, 51.5], [51.5, 51.5], [51.5, 37.5]]])
    window.settle()
    assert window.at(45, 45).area == 100
    assert sorted(boxes.features["handle"]) == [1, 2, 3, 4]


def test_a_click_takes_the_hidden_candidate_without_asking_the_model(
    window: ReviewWindow, engine: ThresholdEngine
) -> None:
    window.key("Shift-W")
    window.click(45, 45)
    window.settle()
    assert window.at(45, 45).state is InstanceState.ACCEPTED
    assert window.states() == {"unreviewed": 3, "accepted": 1}
    assert engine.prompter_calls == []
    window.press("undo")
    window.settle()
    assert window.states() == {"unreviewed": 3}


def test_a_click_asks_the_model_where_there_is_no_candidate(
    window: ReviewWindow, engine: ThresholdEngine
) -> None:
    window.tools.select([window.ref("a")])
    window.press("delete")
    window.key("Shift-W")
    window.click(15, 15)
    window.settle()
    assert len(engine.prompter_calls) == 1
    assert window.at(15, 15).state is InstanceState.DRAWN
    window.key("Shift-W")
    window.click(30, 30)
    window.settle()
    assert "no object there" in window.status


def test_an_object_that_is_there_is_selected_instead_of_added_twice(window: ReviewWindow) -> None:
    before = window.session.snapshot()
    for draw in (
        lambda: window.draw("Shift-W", (15, 15)),
        lambda: window.draw("W", (8, 8), (22, 22)),
    ):
        window.tools.select([])
        draw()
        window.settle()
        assert window.selected == [window.ref("a")]
        assert "there already" in window.status
    assert window.session.snapshot().instances == before.instances


# -- another mask ---------------------------------------------------------------------------------


def move_box(window: ReviewWindow, name: str, *, down: int) -> None:
    """Move the box of a square, as a drag with the mouse does."""
    boxes = window.boxes()
    place = window.view.boxes.place_of(*window.ref(name))
    corners = np.array(boxes.data[place])
    corners[:, 0] += down
    set_box(boxes, place, corners)
    boxes.events.data(value=boxes.data, action="changed", data_indices=(place,), vertex_indices=())
    window.settle()


def test_a_moved_box_gives_a_new_mask_that_escape_takes_back(window: ReviewWindow) -> None:
    move_box(window, "a", down=4)
    # the upper rows lie outside the box now
    assert window.at(17, 15).box_xyxy == (10, 14, 20, 20)
    assert "Enter keeps it" in window.status
    window.key("Escape", window.labels())
    assert window.at(15, 15).box_xyxy == (10, 10, 20, 20)
    assert window.states() == {"unreviewed": 3}
    assert not window.tools.is_pending
    assert not [k for k in window.labels().keymap if str(k) in ("Escape", "Enter")]
    window.settle()
    drawn = np.array(window.boxes().data[window.view.boxes.place_of(*window.ref("a"))])
    assert drawn.min(axis=0).tolist() == [9.5, 9.5]


def test_enter_keeps_the_new_mask(window: ReviewWindow) -> None:
    move_box(window, "a", down=4)
    window.key("Enter", window.labels())
    assert window.status == "kept"
    assert window.at(17, 15).box_xyxy == (10, 14, 20, 20)
    assert window.at(17, 15).state is InstanceState.EDITED
    window.settle()
    drawn = np.array(window.boxes().data[window.view.boxes.place_of((), window.at(17, 15).uuid)])
    assert drawn.min(axis=0).tolist() == [13.5, 9.5]


def test_going_on_keeps_the_new_mask_too(window: ReviewWindow) -> None:
    move_box(window, "a", down=4)
    window.stroke((30, 30), (30, 40), number=60)
    assert not window.tools.is_pending
    assert window.at(17, 15).area == 60


def test_a_box_moved_off_its_object_says_so_and_changes_nothing(window: ReviewWindow) -> None:
    move_box(window, "a", down=14)
    assert "no object there" in window.status
    assert window.at(15, 15).area == 100


def test_masks_asked_again_for_a_selection_are_one_step_that_escape_takes_back(
    window: ReviewWindow,
) -> None:
    # the model sees the square alone, so that what was painted beside it goes again
    for name in "ab":
        y, x, _ = SQUARES[name]
        number = window.get(window.ref(name)).handle
        window.stroke((y + 5, x + 12), number=number)
    window.tools.select([window.ref(name) for name in "ab"])
    areas = {name: window.get(window.ref(name)).area for name in "ab"}
    assert min(areas.values()) > 100
    steps = len(window.session.history)
    window.press("again")
    window.settle()
    assert {window.get(window.ref(name)).area for name in "ab"} == {100}
    assert len(window.session.history) == steps + 1
    window.key("Escape")
    assert {name: window.get(window.ref(name)).area for name in "ab"} == areas


def test_escape_stops_asking(window: ReviewWindow, monkeypatch: pytest.MonkeyPatch) -> None:
    hold = threading.Event()
    held = ThresholdEngine(threshold=0.2, categories=TABLE, hold=hold)
    monkeypatch.setattr(window.detect.run.shelf, "_engine", held)
    window.key("W")
    window.drag((38, 38), (52, 52))
    assert held.is_inside.wait(10)
    window.key("Escape")
    window.settle()
    assert "stopped" in window.status
    assert window.states() == {"unreviewed": 3}
    assert not [k for k in window.labels().keymap if str(k) == "Escape"]


def test_an_answer_for_an_image_that_is_no_longer_chosen_is_dropped(
    window: ReviewWindow, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = threading.Event()
    held = ThresholdEngine(threshold=0.2, categories=TABLE, hold=hold)
    monkeypatch.setattr(window.detect.run.shelf, "_engine", held)
    first = window.session
    window.tools.ask_box((), (38, 38, 52, 52))
    assert held.is_inside.wait(10)
    window.add(squares("a"), "two")
    window.find("review.by_hand").click()
    hold.set()
    window.settle()
    assert window.view.image.name == "two"
    assert sum(window.session.count_states().values()) == 0
    assert sum(first.count_states().values()) == 3
    assert "another image" in window.status


def test_a_wrong_setting_is_said_when_the_model_is_asked(window: ReviewWindow) -> None:
    channels = window.find("detect.channels")
    channels.setText("7")
    channels.editingFinished.emit()
    window.key("W")
    window.drag((38, 38), (52, 52))
    assert "cannot be asked" in window.status
    assert "7" in window.status


def test_a_box_that_is_drawn_while_a_setting_is_wrong_is_asked_about_later(
    window: ReviewWindow,
) -> None:
    channels = window.find("detect.channels")
    channels.setText("7")
    channels.editingFinished.emit()
    window.boxes().add_rectangles(
        np.array([[37.5, 37.5], [37.5, 51.5], [51.5, 51.5], [51.5, 37.5]])
    )
    window.settle()
    assert "cannot be asked" in window.status
    channels.setText("")
    channels.editingFinished.emit()
    window.view.dirtied.emit()
    window.settle()
    assert window.at(45, 45).box_xyxy == (40, 40, 50, 50)
