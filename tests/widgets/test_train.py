"""The Train tab, on runs that others wrote."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QMessageBox
from tests.widgets.data_window import annotated, write_image
from tests.widgets.train_window import (
    TrainWindow,
    figures,
    half_a_run,
    made_run,
    started,
    step,
    training_set,
    write_comparison,
    write_events,
    write_finished_run,
    write_pictures,
)

from napari_deeppixel.dataset.annotated import ImageState
from napari_deeppixel.dataset.store import Dataset
from napari_deeppixel.engine.library import ModelLibrary
from napari_deeppixel.training.events import (
    Compared,
    EndReason,
    Evaluated,
    FitEnded,
    FitEvent,
    MistakesFound,
    RunFailed,
)
from napari_deeppixel.training.run_folder import RunFolder
from napari_deeppixel.viewer.outcome_layers import outcome_layers
from napari_deeppixel.widgets.train_runs import left_dataset, remember_left

PACKAGED = Path(__file__).parents[2] / "src/napari_deeppixel/models/nuclei.safetensors"


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return training_set(tmp_path)


@pytest.fixture
def window(qtbot: Any) -> TrainWindow:
    # qtbot closes it
    return TrainWindow(qtbot, ViewerModel())


@pytest.fixture
def finished(window: TrainWindow, dataset: Dataset) -> RunFolder:
    """The window on a run that is over, whose new model is better."""
    run = write_finished_run(dataset)
    shutil.copy(PACKAGED, run.best)
    window.open_dataset(dataset)
    window.wait(lambda: window.result.comparison is not None)
    window.settle()
    return run


def visible(window: TrainWindow, name: str) -> bool:
    return bool(window.find(name).isVisible())


# -- what there is to train on --------------------------------------------------------------------


def test_without_a_dataset_the_tab_leads_to_data(window: TrainWindow) -> None:
    assert "open one in the Data tab" in window.text("train.summary")
    assert not visible(window, "train.train")
    window.find("train.to_data").click()
    assert window.dock.tabs.currentWidget() is window.dock.data


def test_a_dataset_tells_images_objects_and_warnings(window: TrainWindow, dataset: Dataset) -> None:
    window.open_dataset(dataset)
    summary = window.train.summary.summary
    assert summary is not None
    assert summary.num_objects["cell"]["train"] == 5
    assert "2 images to learn from, 2 to choose by" in window.text("train.summary")
    assert "debris" in window.text("train.warnings")
    assert window.find("train.train").isEnabled()


def test_an_image_that_comes_in_is_counted(
    window: TrainWindow, dataset: Dataset, tmp_path: Path
) -> None:
    window.open_dataset(dataset)
    dataset.add_file(
        write_image(tmp_path / "5.png", 5), planes=[annotated("a")], state=ImageState.COMPLETE
    )
    window.dock.datasets.note_change()

    def num_images() -> int:
        summary = window.train.summary.summary
        return 0 if summary is None else sum(summary.num_images.values())

    window.wait(lambda: num_images() == 5)


def test_what_came_in_while_nobody_looked_is_counted_at_once_when_somebody_does(
    window: TrainWindow, dataset: Dataset
) -> None:
    window.open_dataset(dataset)
    counting = window.train.summary._task
    window.wait(lambda: not counting.is_running)
    window.dock.tabs.setCurrentWidget(window.dock.data)
    window.dock.datasets.note_change()
    assert not counting.is_running
    window.dock.tabs.setCurrentWidget(window.train)
    assert counting.is_running


def test_tabs_are_in_the_order_of_the_work(window: TrainWindow) -> None:
    tabs = window.dock.tabs
    names = [tabs.tabText(at) for at in range(tabs.count())]
    assert names == ["Detect", "Review", "Train", "Live", "Data"]


# -- runs -----------------------------------------------------------------------------------------


def test_a_run_that_goes_on_is_found_and_followed(window: TrainWindow, dataset: Dataset) -> None:
    run = made_run(dataset)
    write_events(run, half_a_run(dataset))
    with run.alive():
        window.open_dataset(dataset)
        window.wait(lambda: window.watch.is_read)
        assert window.find("train.progress").value() == 50
        assert window.text("train.status").startswith("step 50 of 100 · 2 min left")
        assert not window.find("train.train").isEnabled()
        assert window.find("train.stop").isEnabled()
        assert "running" in window.find("train.runs").currentText()
        write_events(run, [step(70, 0.5), write_pictures(run)])
        window.wait(lambda: window.find("train.pictures").count() == 2)
        assert window.find("train.loss").lines == {"loss": ((10, 2.0), (50, 1.0), (70, 0.5))}
        window.find("train.stop").click()
        assert run.is_stop_requested
        assert not window.find("train.stop").isEnabled()
    window.wait(lambda: not window.watch.is_alive)
    assert window.find("train.train").isEnabled()


def test_a_picture_is_shown_large(window: TrainWindow, dataset: Dataset) -> None:
    run = made_run(dataset)
    write_events(run, [started(dataset), write_pictures(run)])
    window.open_dataset(dataset)
    strip = window.find("train.pictures")
    window.wait(lambda: strip.count() == 2)
    strip.itemClicked.emit(strip.item(1))
    dialog = window.find("train.picture")
    assert dialog.isVisible()
    dialog.close()


def test_a_run_that_failed_says_why_and_what_it_printed(
    window: TrainWindow, dataset: Dataset
) -> None:
    run = made_run(dataset)
    write_events(run, [started(dataset), RunFailed(message="no images to learn from")])
    run.output.write_text("ValueError: something\n")
    window.open_dataset(dataset)
    window.wait(lambda: window.watch.is_read)
    told = window.text("train.failure")
    assert "no images to learn from" in told
    assert "ValueError: something" in told
    assert visible(window, "train.folder")
    assert not visible(window, "train.resume"), "there is no checkpoint"


def test_a_run_that_was_killed_can_be_gone_on_with(window: TrainWindow, dataset: Dataset) -> None:
    run = made_run(dataset)
    write_events(run, half_a_run(dataset))
    run.last.touch()
    window.open_dataset(dataset)
    window.wait(lambda: window.watch.is_read)
    assert "killed" in window.text("train.failure")
    assert visible(window, "train.resume")


def test_a_run_that_ended_while_nobody_looked_is_shown_once(
    window: TrainWindow, dataset: Dataset, qtbot: Any
) -> None:
    run = made_run(dataset)
    write_events(run, half_a_run(dataset))
    window.open_dataset(dataset)
    window.wait(lambda: window.watch.run == run)
    window.settle()
    again = TrainWindow(qtbot, ViewerModel())
    again.open_dataset(dataset)
    again.settle()
    assert again.watch.run is None
    assert again.find("train.runs").count() == 2


def test_an_earlier_run_is_looked_at_again(window: TrainWindow, dataset: Dataset) -> None:
    for name, loss in (("2026-01-01_00-00-00", 3.0), ("2026-01-02_00-00-00", 4.0)):
        write_events(made_run(dataset, name), [started(dataset), step(10, loss)])
    window.open_dataset(dataset)
    window.settle()
    runs = window.find("train.runs")
    assert [runs.itemText(at) for at in range(1, 3)] == [
        "2026-01-02  00:00:00  new",
        "2026-01-01  00:00:00  new",
    ]
    runs.setCurrentIndex(2)
    runs.activated.emit(2)
    window.wait(lambda: window.watch.log.losses == {10: 3.0})


def test_another_dataset_has_other_runs(
    window: TrainWindow, dataset: Dataset, tmp_path: Path
) -> None:
    write_events(made_run(dataset), half_a_run(dataset))
    window.open_dataset(dataset)
    window.settle()
    other = training_set(tmp_path / "other")
    window.dock.data.import_path(other.path)
    window.wait(lambda: window.train._dataset == other.path)
    window.settle()
    assert window.watch.run is None
    assert not visible(window, "train.runs")


def test_a_run_left_by_a_closed_window_is_offered(window: TrainWindow, dataset: Dataset) -> None:
    run = made_run(dataset)
    write_events(run, half_a_run(dataset))
    remember_left(dataset.path)
    with run.alive():
        window.train.look_for_left()
        window.wait(lambda: window.find("train.show_left").isVisible())
        assert window.text("train.left") == "A training run on set goes on."
        window.find("train.show_left").click()
        window.wait(lambda: window.watch.is_alive)
        assert not visible(window, "train.show_left")
    window.wait(lambda: not window.watch.is_alive)
    assert left_dataset() is None


def test_a_run_of_another_dataset_is_told_of_and_shown(
    window: TrainWindow, dataset: Dataset, tmp_path: Path
) -> None:
    run = made_run(dataset)
    write_events(run, half_a_run(dataset))
    other = training_set(tmp_path / "other")
    with run.alive():
        window.open_dataset(dataset)
        window.wait(lambda: window.watch.is_alive and window.watch.is_read)
        window.dock.data.import_path(other.path)
        window.wait(lambda: window.train._dataset == other.path)
        window.settle()
        assert window.text("train.left") == "A training run on set goes on."
        window.find("train.show_left").click()
        window.wait(lambda: window.watch.is_alive and window.watch.run == run)
        assert not visible(window, "train.show_left")


def test_a_run_that_is_hidden_by_an_earlier_one_keeps_train_from_starting_another(
    window: TrainWindow, dataset: Dataset
) -> None:
    window.train.others._timer.setInterval(100)
    run, earlier = made_run(dataset), made_run(dataset, "2026-01-01_00-00-00")
    write_events(run, half_a_run(dataset))
    write_events(earlier, half_a_run(dataset))
    with run.alive():
        window.open_dataset(dataset)
        window.wait(lambda: window.watch.is_alive and window.watch.is_read)
        window.train.follow(earlier)
        window.wait(lambda: window.watch.is_read)
        assert not window.watch.is_alive
        assert not window.find("train.train").isEnabled()
        assert visible(window, "train.show_left")
    window.wait(window.find("train.train").isEnabled)
    assert not visible(window, "train.show_left")


def test_steps_show_without_an_evaluation_and_the_other_way_round(
    window: TrainWindow, dataset: Dataset
) -> None:
    run = made_run(dataset)
    write_events(
        run, [started(dataset), Evaluated(iteration=5, figures=figures(0.1), is_best=True)]
    )
    window.open_dataset(dataset)
    window.wait(lambda: window.watch.is_read)
    assert visible(window, "train.figures")
    assert not visible(window, "train.loss")


# -- the gate -------------------------------------------------------------------------------------


def cells(window: TrainWindow) -> dict[str, list[str]]:
    table = window.find("train.comparison")
    return {
        table.verticalHeaderItem(row).text(): [
            table.item(row, column).text() for column in range(table.columnCount())
        ]
        for row in range(table.rowCount())
    }


@pytest.mark.usefixtures("finished")
def test_a_comparison_shows_figures_verdict_and_images(window: TrainWindow) -> None:
    assert window.text("train.verdict") == "AP 0.600 against 0.400."
    shown = cells(window)
    assert shown["AP"] == ["0.400", "0.600"]
    assert shown["Accuracy .75"] == ["0.400", "0.600"]
    assert shown["Count error"] == ["0.600", "0.400"]
    assert "AP large" not in shown, "no object is large"
    model = window.result.sorted
    rows = [
        [model.data(model.index(row, column)) for column in range(4)]
        for row in range(model.rowCount())
    ]
    # what got worse comes first: 4.png has a false one now
    assert rows == [
        ["4.png", "1 / 1 / 0", "1 / 0 / 0", "-0.50"],
        ["3.png", "2 / 0 / 1", "1 / 0 / 2", "+0.33"],
    ]


@pytest.mark.usefixtures("finished")
def test_the_best_of_a_row_is_bold(window: TrainWindow) -> None:
    table = window.find("train.comparison")
    bold = {
        table.verticalHeaderItem(row).text(): [
            table.item(row, column).font().bold() for column in range(2)
        ]
        for row in range(table.rowCount())
    }
    assert bold["AP"] == [False, True]
    assert bold["Count error"] == [False, True], "less is better"


@pytest.mark.usefixtures("finished")
def test_an_image_opens_with_what_is_right_wrong_and_missed(window: TrainWindow) -> None:
    mine = window.viewer.add_image(annotated("a").instances.label_image(), name="mine")
    window.result.open_image("3.png", ())
    window.wait(lambda: bool(outcome_layers(window.viewer)))
    image, true, false, missed = outcome_layers(window.viewer)
    assert image.name == "3 (new)"
    assert (true.data[15, 15] > 0, true.data[15, 45] > 0) == (True, True)
    assert not false.data.any()
    assert missed.data[45, 15] > 0
    assert "right 2" in window.text("train.legend")
    assert "wrong 0" in window.text("train.legend")
    assert not mine.visible
    role = window.find("train.role")
    role.setCurrentIndex(role.findText("current"))
    window.wait(lambda: outcome_layers(window.viewer)[0].name == "3 (current)")
    assert "missed 2" in window.text("train.legend")
    window.find("train.close_image").click()
    assert [layer.name for layer in window.viewer.layers] == ["mine"]
    assert mine.visible


@pytest.mark.usefixtures("finished")
def test_an_image_is_opened_to_be_corrected(window: TrainWindow) -> None:
    window.result.open_image("3.png", ())
    window.wait(lambda: window.train.outcomes.shown is not None)
    window.find("train.correct").click()
    switcher = window.dock.data.switcher
    window.wait(lambda: switcher.current is not None and not switcher.is_busy)
    assert switcher.current is not None
    assert switcher.current.image_id == "3.png"
    assert window.dock.tabs.currentWidget() is window.dock.review
    assert not outcome_layers(window.viewer)
    window.wait(lambda: not window.dock.detect.run.steps.is_running)


@pytest.mark.usefixtures("finished")
def test_an_image_that_left_the_dataset_is_refused_in_words(window: TrainWindow) -> None:
    window.result.open_image("gone.png", ())
    window.wait(lambda: bool(window.text("train.image_problem")))
    assert "gone.png" in window.text("train.image_problem")
    assert not outcome_layers(window.viewer)


@pytest.mark.usefixtures("finished")
def test_use_puts_the_model_into_the_library_and_roll_back_takes_it_out_of_use(
    window: TrainWindow, qtbot: Any
) -> None:
    assert not window.find("train.roll_back").isEnabled()
    with qtbot.waitSignal(window.train.store.used, timeout=60_000) as used:
        window.find("train.use").click()
    library = ModelLibrary()
    assert library.current == used.args[0] != "nuclei"
    window.settle()
    assert f"{library.current} is used from now on" in window.text("train.decision")
    window.wait(lambda: window.dock.detect.weights == library.current)
    start = window.find("train.start")
    assert start.itemText(1) == f"current: {library.current}"
    with qtbot.waitSignal(window.train.store.used, timeout=60_000):
        window.find("train.roll_back").click()
    assert library.current == "nuclei"


def test_a_model_that_is_not_better_is_used_only_if_a_person_insists(
    window: TrainWindow, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_finished_run(dataset, is_better=False)
    shutil.copy(PACKAGED, run.best)
    window.open_dataset(dataset)
    window.wait(lambda: window.result.comparison is not None)
    asked = []

    def answer(*args: Any) -> QMessageBox.StandardButton:
        asked.append(args[2])
        return QMessageBox.StandardButton.Cancel

    monkeypatch.setattr(QMessageBox, "question", answer)
    window.find("train.use").click()
    window.settle()
    assert "AP is 0.100 lower." in asked[0]
    assert ModelLibrary().current == "nuclei"


def write_uncompared_run(dataset: Dataset, *more: FitEvent, num_val: int = 2) -> RunFolder:
    """Write a run that is over and has weights, and no comparison yet."""
    run = made_run(dataset)
    write_events(run, [started(dataset, num_val=num_val), step(50, 1.0)])
    write_events(run, [FitEnded(weights=run.best, iteration=100), *more])
    shutil.copy(PACKAGED, run.best)
    return run


def test_a_model_that_was_not_compared_is_used_if_a_person_insists(
    window: TrainWindow, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, qtbot: Any
) -> None:
    mistakes = MistakesFound(path=made_run(dataset).mistakes, count=3)
    write_uncompared_run(dataset, mistakes, num_val=0)
    window.open_dataset(dataset)
    window.wait(lambda: visible(window, "train.use"))
    assert window.text("train.verdict") == "Not compared: there is no image to choose by."
    assert window.find("train.mistakes").text() == "Review label mistakes (3)"
    assert visible(window, "train.mistakes")
    assert not visible(window, "train.comparison")
    assert not visible(window, "train.images")
    asked = []

    def answer(*args: Any) -> QMessageBox.StandardButton:
        asked.append(args[2])
        return QMessageBox.StandardButton.Yes

    monkeypatch.setattr(QMessageBox, "question", answer)
    with qtbot.waitSignal(window.train.store.used, timeout=60_000) as used:
        window.find("train.use").click()
    assert ModelLibrary().current == used.args[0] != "nuclei"
    assert "no image to choose by" in asked[0]


def test_a_damaged_comparison_is_told_in_a_sentence_and_the_model_can_be_used(
    window: TrainWindow, dataset: Dataset
) -> None:
    run = made_run(dataset)
    compared = Compared(path=run.comparison, is_better=True, reason="")
    write_uncompared_run(dataset, compared)
    run.comparison.write_bytes(b"\x80\xff" * 500)
    window.open_dataset(dataset)
    window.wait(lambda: visible(window, "train.use"))
    told = window.text("train.verdict").removeprefix(str(run.comparison))
    assert "no comparison of models can be read" in told
    assert len(told) < 200
    assert not visible(window, "train.comparison")
    # a path has no blank to wrap at, and must not widen the window
    width = window.result.minimumSizeHint().width()
    window.result.show_uncompared("x" * 500)
    assert window.result.minimumSizeHint().width() == width
    # it is not read again at each look
    assert not window.train._loading.is_running


def test_a_run_that_was_stopped_is_compared_and_can_be_gone_on_with(
    window: TrainWindow, dataset: Dataset
) -> None:
    run = write_uncompared_run(dataset)
    stopped = FitEnded(weights=run.best, iteration=50, reason=EndReason.STOPPED)
    write_events(run, [stopped, write_comparison(run, dataset)])
    run.last.touch()
    window.open_dataset(dataset)
    window.wait(lambda: window.result.comparison is not None)
    assert visible(window, "train.use")
    assert visible(window, "train.resume")
    assert window.text("train.failure") == ""


def test_what_follows_the_training_can_be_left(window: TrainWindow, dataset: Dataset) -> None:
    run = made_run(dataset)
    write_events(run, half_a_run(dataset))
    with run.alive():
        window.open_dataset(dataset)
        window.wait(lambda: window.watch.is_read and window.watch.is_alive)
        window.find("train.stop").click()
        first = run.stop_time_ns
        assert first is not None
        stopped = FitEnded(weights=run.best, iteration=50, reason=EndReason.STOPPED)
        write_events(run, [stopped])
        stop = window.find("train.stop")
        window.wait(stop.isEnabled)
        assert run.stop_time_ns == first, "one request is no wish to leave the comparison"
        assert stop.text() == "End without comparing"
        stop.click()
        assert (run.stop_time_ns or 0) > first
    window.wait(lambda: not window.watch.is_alive)
    assert stop.text() == "Stop and keep the best"


@pytest.mark.usefixtures("finished")
def test_keep_current_changes_nothing(window: TrainWindow) -> None:
    window.find("train.keep").click()
    assert window.text("train.decision").startswith("nuclei stays in use")
    assert ModelLibrary().names() == ()


def test_label_mistakes_are_offered_with_their_number(
    window: TrainWindow, finished: RunFolder, qtbot: Any
) -> None:
    button = window.find("train.mistakes")
    assert button.text() == "Review label mistakes (2)"
    with qtbot.waitSignal(window.train.mistakes_wanted) as wanted:
        button.click()
    assert wanted.args == [finished.mistakes]


# -- models ---------------------------------------------------------------------------------------


def names_of(window: TrainWindow) -> list[str]:
    tree = window.find("train.models")
    return sorted(tree.topLevelItem(at).text(0) for at in range(tree.topLevelItemCount()))


def select(window: TrainWindow, name: str) -> None:
    tree = window.find("train.models")
    for at in range(tree.topLevelItemCount()):
        tree.topLevelItem(at).setSelected(
            tree.topLevelItem(at).data(0, Qt.ItemDataRole.UserRole) == name
        )


def test_models_are_imported_renamed_exported_removed_and_brought_back(
    window: TrainWindow, tmp_path: Path
) -> None:
    store = window.train.store
    store.add(PACKAGED, name="mine")
    store.use("mine")
    window.settle()
    assert names_of(window) == ["nuclei", "✓ mine"]
    store.rename("mine", "better")
    store.export("better", tmp_path / "out.safetensors")
    window.settle()
    assert (tmp_path / "out.safetensors").read_bytes() == PACKAGED.read_bytes()
    select(window, "better")
    window.train.models._actions["remove"].trigger()
    window.settle()
    assert names_of(window) == ["✓ nuclei"]
    window.train.models._actions["back"].trigger()
    window.settle()
    assert names_of(window) == ["nuclei", "✓ better"]


def test_a_name_that_is_taken_is_refused_in_words(window: TrainWindow) -> None:
    window.train.store.add(PACKAGED, name="mine")
    window.train.store.rename("mine", "nuclei")
    window.settle()
    assert "nuclei" in window.text("train.models_note")
    assert names_of(window) == ["mine", "✓ nuclei"]
