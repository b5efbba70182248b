"""A dataset, the Train tab, a child process that trains, and the new model in use."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QMessageBox
from tests.widgets.train_window import TrainWindow, training_set

from napari_deeppixel.engine.library import ModelLibrary
from napari_deeppixel.training.events import EndReason
from napari_deeppixel.training.run_folder import RunFolder, runs_folder
from napari_deeppixel.viewer.outcome_layers import outcome_layers
from napari_deeppixel.widgets.train_runs import kill_run

# PyTorch is loaded in another process, beside other tests
_CHILD_MS = 240_000


def choose_little(window: TrainWindow) -> None:
    """Let a run take two steps on two crops."""
    choices = window.train.choices
    choices.epochs.setValue(2)
    choices.batch.setValue(2)
    choices.crop.setValue(64)
    choices.workers.setValue(0)
    choices.device.setCurrentIndex(choices.device.findData("cpu"))


@pytest.fixture
def window(qtbot: Any, tmp_path: Path) -> Iterator[TrainWindow]:
    """The tab on a small dataset; no run goes on after the test."""
    dataset = training_set(tmp_path)
    window = TrainWindow(qtbot, ViewerModel())
    window.open_dataset(dataset)
    window.wait(lambda: window.train._has_devices and not window.train._listing.is_running)
    choose_little(window)
    yield window
    for run in runs_folder(dataset.path).iterdir():
        for _ in kill_run(RunFolder(run)):
            pass


def test_a_new_model_is_trained_compared_looked_at_and_used(
    window: TrainWindow, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    window.find("train.train").click()
    window.wait(lambda: window.watch.is_alive)
    assert not window.find("train.train").isEnabled()
    window.wait(lambda: window.watch.log.started is not None, _CHILD_MS)
    # another window finds the run, and may be closed while it goes on
    other = TrainWindow(qtbot, ViewerModel())
    dataset = window.dock.datasets.dataset
    assert dataset is not None
    other.open_dataset(dataset)
    other.wait(lambda: other.watch.run == window.watch.run)
    other.dock.close()
    window.wait(lambda: not window.watch.is_alive, _CHILD_MS)
    assert window.text("train.failure") == ""
    window.wait(lambda: window.result.comparison is not None)
    assert window.find("train.mistakes").text().startswith("Review label mistakes (")
    window.result.open_image("3.png", ())
    window.wait(lambda: bool(outcome_layers(window.viewer)))
    # whichever the verdict on so few images
    monkeypatch.setattr(QMessageBox, "question", lambda *_: QMessageBox.StandardButton.Yes)
    with qtbot.waitSignal(window.train.store.used, timeout=_CHILD_MS) as used:
        window.find("train.use").click()
    model = ModelLibrary().model(ModelLibrary().current)
    assert model.name == used.args[0]
    assert model.origin.start == "nuclei"
    assert 1 <= model.origin.iterations <= window.watch.log.iteration


def test_a_run_that_is_killed_is_gone_on_with_and_stopped(window: TrainWindow) -> None:
    window.train.choices.epochs.setValue(5000)
    window.find("train.train").click()
    window.wait(lambda: window.watch.log.iteration > 0, _CHILD_MS)
    run = window.watch.run
    assert run is not None
    # as a run has it after two minutes
    window.wait(lambda: run.last.is_file() or window.watch.log.iteration >= 10, _CHILD_MS)
    window.train.kill()
    window.wait(lambda: not window.watch.is_alive)
    assert "killed" in window.text("train.failure")
    window.train.resume() if run.last.is_file() else window.train.train()
    window.wait(lambda: window.watch.is_alive)
    # at once, while it still starts
    window.find("train.stop").click()
    window.wait(lambda: not window.watch.is_alive, _CHILD_MS)
    ended = window.watch.log.ended
    assert ended is not None
    assert ended.reason is EndReason.STOPPED
    assert ended.weights.is_file()
    # a stop that is asked for leads to what a person can use
    window.wait(lambda: window.result.comparison is not None)
    assert window.find("train.use").isVisible()
    assert window.find("train.resume").isVisible()
