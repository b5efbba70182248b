"""A run goes on, and the window closes."""

import threading
from pathlib import Path
from typing import Any

import pytest
from qtpy.QtCore import QTimer
from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import QApplication, QMessageBox, QWidget
from tests.widgets.train_window import (
    TrainWindow,
    half_a_run,
    made_run,
    training_set,
    write_events,
)

from napari_deeppixel.dataset.store import Dataset
from napari_deeppixel.training.run_folder import RunFolder
from napari_deeppixel.widgets.train_closing import ClosingChoice, ask_closing


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return training_set(tmp_path)


@pytest.fixture
def run(dataset: Dataset) -> Any:
    """A run that goes on."""
    run = made_run(dataset)
    write_events(run, half_a_run(dataset))
    with run.alive():
        yield run


@pytest.fixture
def window(
    qtbot: Any,
    make_napari_viewer_proxy: Any,
    dataset: Dataset,
    run: RunFolder,  # noqa: ARG001  it goes on meanwhile
) -> TrainWindow:
    window = TrainWindow(qtbot, make_napari_viewer_proxy(show=True), has_window=True)
    window.open_dataset(dataset)
    window.wait(lambda: window.watch.is_alive and window.watch.is_read)
    return window


def answer(monkeypatch: pytest.MonkeyPatch, choice: ClosingChoice) -> list[str]:
    """Let the person answer so; return the questions."""
    asked: list[str] = []

    def ask(_parent: QWidget, status: str) -> ClosingChoice:
        asked.append(status)
        return choice

    monkeypatch.setattr("napari_deeppixel.widgets.train.ask_closing", ask)
    return asked


def test_cancel_keeps_napari_open(
    window: TrainWindow, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answer(monkeypatch, ClosingChoice.CANCEL)
    main = window.dock.window()
    assert not main.close()
    assert main.isVisible()
    assert asked == [
        "A training run is at step 50 of 100 · 2 min left · best AP 0.400, AP50 0.700."
    ]
    assert not run.is_stop_requested
    assert window.watch.is_alive
    answer(monkeypatch, ClosingChoice.LEAVE)


def close_event_passes(window: TrainWindow) -> bool:
    """Return whether the window would close; napari's own test fixture is to close it."""
    return not window.train.guard.eventFilter(window.dock.window(), QCloseEvent())


def test_let_it_run_lets_napari_close_and_leaves_the_run(
    window: TrainWindow, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answer(monkeypatch, ClosingChoice.LEAVE)
    assert close_event_passes(window)
    assert len(asked) == 1
    assert not run.is_stop_requested


def test_stop_asks_the_run_to_end_and_lets_napari_close(
    window: TrainWindow, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, ClosingChoice.STOP)
    assert close_event_passes(window)
    assert run.is_stop_requested


def test_a_run_of_another_dataset_is_asked_about_too(
    window: TrainWindow, run: RunFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = training_set(tmp_path / "other")
    window.dock.data.import_path(other.path)
    window.wait(lambda: window.watch.run is None)
    asked = answer(monkeypatch, ClosingChoice.CANCEL)
    assert not close_event_passes(window)
    assert asked == ["A training run on set goes on."]
    assert not run.is_stop_requested
    answer(monkeypatch, ClosingChoice.STOP)
    assert close_event_passes(window)
    assert run.is_stop_requested


def test_a_script_that_closes_the_viewer_is_not_asked(
    window: TrainWindow, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answer(monkeypatch, ClosingChoice.CANCEL)
    window.viewer.close()
    assert asked == []
    assert not run.is_stop_requested


def test_a_dock_that_is_closed_leaves_the_run_and_no_thread(
    window: TrainWindow, run: RunFolder
) -> None:
    window.settle()
    window.viewer.window.remove_dock_widget(window.dock)
    assert not window.watch._timer.isActive()
    assert not run.is_stop_requested

    def is_quiet() -> bool:
        return not any(each.name == "napari-deeppixel" for each in threading.enumerate())

    window.wait(is_quiet)


@pytest.mark.parametrize("choice", list(ClosingChoice))
def test_the_question_has_three_answers(qtbot: Any, choice: ClosingChoice) -> None:
    parent = QWidget()
    qtbot.addWidget(parent)
    told = []

    def click() -> None:
        box = QApplication.activeModalWidget()
        assert isinstance(box, QMessageBox)
        told.append(box.text())
        next(each for each in box.buttons() if each.text() == choice.value).click()

    QTimer.singleShot(100, click)
    assert ask_closing(parent, "A training run is at step 5 of 9.") is choice
    assert told == ["A training run is at step 5 of 9."]
