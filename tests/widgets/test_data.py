"""The Data tab on a viewer, with real datasets."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels, Shapes
from napari.layers._source import layer_source
from PIL import Image as PillowImage
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QMessageBox
from tests.widgets.data_window import (
    DataWindow,
    annotated,
    made_dataset,
    uuids_on_disk,
    write_image,
)
from tests.widgets.review_window import squares

from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.instance import InstanceState
from napari_deeppixel.dataset.annotated import ImageState, Split
from napari_deeppixel.dataset.formats.coco import read_coco
from napari_deeppixel.dataset.store import Dataset, Storage
from napari_deeppixel.edits import tools
from napari_deeppixel.widgets.dataset_image import SavePhase


@pytest.fixture
def window(qtbot: Any) -> DataWindow:
    # qtbot closes it
    return DataWindow(qtbot, ViewerModel())


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return made_dataset(tmp_path)


# -- datasets and the list ------------------------------------------------------------------------


def test_without_a_dataset_the_tab_says_what_to_do_first(window: DataWindow) -> None:
    assert window.panels.empty.isVisible()
    assert "Make one with New" in window.find("data.first_steps").text()
    assert not window.panels.list.isVisible()


def test_a_dataset_shows_its_images_in_natural_order_with_totals(
    window: DataWindow, dataset: Dataset
) -> None:
    window.open_dataset(dataset)
    assert window.rows() == ["1.png", "2.png", "10.png"]
    assert window.panels.totals.text() == (
        "3 images · 1 complete · 1 draft · 1 not begun · 3 instances"
    )
    assert window.panels.chooser.text() == "set"
    assert not window.panels.empty.isVisible()


def test_a_dataset_that_was_open_is_offered_again(window: DataWindow, dataset: Dataset) -> None:
    window.open_dataset(dataset)
    window.data.close_dataset()
    window.wait(lambda: window.dock.datasets.dataset is None)
    window.panels.chooser.popup.aboutToShow.emit()
    captions = [action.text() for action in window.panels.chooser.popup.actions()]
    assert str(dataset.path) in captions


def test_a_folder_without_a_dataset_is_refused_in_words(window: DataWindow, tmp_path: Path) -> None:
    window.data.commands.open_dataset(tmp_path)
    window.settle()
    assert "no dataset" in window.status
    assert window.dock.datasets.dataset is None


def test_a_new_dataset_has_the_categories_that_were_named(
    window: DataWindow, tmp_path: Path
) -> None:
    window.data.commands.create_dataset(tmp_path / "new", "nucleus, debris, nucleus")
    window.wait(lambda: window.dock.datasets.dataset is not None)
    window.settle()
    made = window.dock.datasets.dataset
    assert made is not None
    assert [c.name for c in made.categories.categories] == ["nucleus", "debris"]
    assert window.panels.no_images.isVisible()


def test_the_filter_takes_words_and_states(window: DataWindow, dataset: Dataset) -> None:
    window.open_dataset(dataset)
    window.panels.filter.setText("1")
    assert window.rows() == ["1.png", "10.png"]
    window.panels.show.setCurrentIndex(window.panels.show.findText("Unfinished"))
    assert window.rows() == ["10.png"]
    window.panels.filter.clear()
    assert window.rows() == ["2.png", "10.png"]


def test_the_open_image_is_selected_again_when_the_filter_lets_it(
    window: DataWindow, dataset: Dataset
) -> None:
    window.open_dataset(dataset)
    window.open("2.png")
    window.panels.filter.setText("10")
    assert window.data.browser.selected() == []
    window.panels.filter.clear()
    assert [entry.image_id for entry in window.data.browser.selected()] == ["2.png"]


def test_what_another_process_adds_comes_into_the_list_and_the_selection_stays(
    window: DataWindow, dataset: Dataset, tmp_path: Path
) -> None:
    window.open_dataset(dataset)
    window.data.browser.select("10.png")
    Dataset.open(dataset.path).add_file(write_image(tmp_path / "3.png", 3))
    window.data.reader.refresh()
    window.wait(lambda: window.rows() == ["1.png", "2.png", "3.png", "10.png"])
    assert [entry.image_id for entry in window.data.browser.selected()] == ["10.png"]


def test_an_image_whose_annotations_cannot_be_read_is_listed_with_the_reason(
    window: DataWindow, dataset: Dataset
) -> None:
    (dataset.path / "annotations" / "2.png.json").write_text("{")
    window.open_dataset(dataset)
    model = window.data.browser.model
    assert model.entry_at(1).problem
    tooltip = model.data(model.index(1), Qt.ItemDataRole.ToolTipRole)
    assert tooltip.startswith("2.png\ncannot be read:")
    assert "1 cannot be read" in window.panels.totals.text()


# -- opening images -------------------------------------------------------------------------------


def test_an_image_opens_with_its_annotations(window: DataWindow, dataset: Dataset) -> None:
    window.open_dataset(dataset)
    window.open("1.png")
    kinds = [type(layer) for layer in window.viewer.layers]
    assert kinds == [Image, Labels, Shapes]
    labels = window.view.labels_layers[0].data
    assert (labels[15, 15], labels[15, 45], labels[45, 15]) == (1, 2, 0)
    assert window.session.plane(()).uuids == ("a", "b")
    assert set(window.session.plane(()).states) == {InstanceState.ACCEPTED}
    assert window.saved_line == "1.png: saved"
    assert window.dock.review.view is window.view


def test_a_switch_saves_the_last_image_and_leaves_no_layer_of_it(
    window: DataWindow, dataset: Dataset
) -> None:
    window.open_dataset(dataset)
    window.open("1.png")
    window.draw(30, 60)
    window.open("10.png")
    assert next(layer.name for layer in window.viewer.layers) == "10"
    assert all(layer.name.startswith("10") for layer in window.viewer.layers)
    assert uuids_on_disk(dataset, "1.png") > {"a", "b"}
    assert dataset.entry("1.png").num_instances == 3
    assert dataset.entry("1.png").state is ImageState.COMPLETE


def test_next_and_previous_go_along_the_list(window: DataWindow, dataset: Dataset) -> None:
    window.open_dataset(dataset)
    window.panels.next.click()
    window.wait(lambda: window.open_id == "1.png" and not window.switcher.is_busy)
    window.panels.next.click()
    window.wait(lambda: window.open_id == "2.png" and not window.switcher.is_busy)
    window.panels.previous.click()
    window.wait(lambda: window.open_id == "1.png" and not window.switcher.is_busy)
    window.panels.previous.click()
    assert window.status == "This is the first image."


def test_two_quick_steps_lead_to_the_image_after_the_next(
    window: DataWindow, dataset: Dataset
) -> None:
    window.open_dataset(dataset)
    window.open("1.png")
    window.data.go(1)
    window.data.go(1)
    window.wait(lambda: window.open_id == "10.png" and not window.switcher.is_busy)
    window.settle()
    assert next(layer.name for layer in window.viewer.layers) == "10"


def test_next_unfinished_leaves_out_what_is_complete(window: DataWindow, dataset: Dataset) -> None:
    window.open_dataset(dataset)
    window.open("10.png")
    window.panels.unfinished.click()
    window.wait(lambda: window.open_id == "2.png" and not window.switcher.is_busy)


def test_a_missing_image_says_so_and_what_was_open_stays(
    window: DataWindow, dataset: Dataset
) -> None:
    window.open_dataset(dataset)
    window.open("1.png")
    (dataset.path / "images" / "2.png").unlink()
    window.data.open_image("2.png")
    window.settle()
    assert window.open_id == "1.png"
    assert "2.png" in window.status
    assert "Find moved images…" in window.status
    assert next(layer.name for layer in window.viewer.layers) == "1"


def test_a_changed_file_opens_once_it_is_accepted(window: DataWindow, dataset: Dataset) -> None:
    window.open_dataset(dataset)
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80), np.uint8)
    PillowImage.fromarray(pixels).save(dataset.path / "images" / "2.png")
    window.data.open_image("2.png")
    window.settle()
    assert "Accept changed file" in window.status
    window.data.commands.accept_file(dataset.entry("2.png"))
    window.settle()
    window.open("2.png")
    assert np.array_equal(window.view.image.data, pixels)
    assert window.session.plane(()).uuids == ("a",)


def test_entries_that_cannot_be_read_are_told_and_kept(
    window: DataWindow, dataset: Dataset
) -> None:
    path = dataset.path / "annotations" / "1.png.json"
    document = json.loads(path.read_text())
    document["annotations"][0]["segmentation"]["counts"] = "nonsense"
    path.write_text(json.dumps(document))
    window.open_dataset(dataset)
    window.open("1.png")
    assert "cannot be read" in window.status
    assert window.session.plane(()).uuids == ("b",)
    window.draw(30, 60)
    window.wait(lambda: window.saved_line == "1.png: saved")
    assert len(list(dataset.path.glob("removed/**/1.png.json"))) == 1


# -- saving ---------------------------------------------------------------------------------------


def test_changes_are_saved_by_themselves_and_the_line_says_so(
    window: DataWindow, dataset: Dataset
) -> None:
    window.open_dataset(dataset)
    window.open("10.png")
    window.draw(30, 60)
    assert window.saved_line == "10.png: changed, saved in a moment"
    window.wait(lambda: window.saved_line == "10.png: saved")
    entry = dataset.entry("10.png")
    assert (entry.num_instances, entry.state, entry.revision) == (1, ImageState.DRAFT, 2)
    model = window.data.browser.model
    assert model.entry_at(2).num_instances == 1
    assert "4 instances" in window.panels.totals.text()


def test_a_failed_save_stops_the_switch_stays_in_sight_and_loses_nothing(
    window: DataWindow, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    window.open_dataset(dataset)
    window.open("1.png")

    def fail(*_: Any, **__: Any) -> None:
        raise AnnotationError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Dataset, "save", fail)
        window.draw(30, 60)
        window.data.open_image("2.png")
        window.settle()
        assert window.open_id == "1.png"
        assert window.saved_line == "NOT SAVED: the disk is full"
        assert "stays open" in window.status
        assert window.session.num_visible == 3
    window.panels.retry.click()
    window.wait(lambda: window.saved_line == "1.png: saved")
    assert window.status == ""
    assert dataset.entry("1.png").num_instances == 3


def test_what_somebody_else_saved_is_not_overwritten_unasked(
    window: DataWindow, dataset: Dataset
) -> None:
    window.open_dataset(dataset)
    window.open("1.png")
    loaded = dataset.load("1.png")
    dataset.save("1.png", [annotated("c")], revision=loaded.revision)
    window.draw(30, 60)
    window.wait(window.panels.mine.isVisible)
    assert uuids_on_disk(dataset, "1.png") == {"c"}
    assert window.saved_line.startswith("NOT SAVED: somebody else saved 1.png")
    window.data.open_image("2.png")
    window.settle()
    assert window.open_id == "1.png"
    window.panels.mine.click()
    window.wait(lambda: window.saved_line == "1.png: saved")
    assert uuids_on_disk(dataset, "1.png") > {"a", "b"}
    assert not window.panels.mine.isVisible()


def test_taking_theirs_keeps_mine_as_a_copy(window: DataWindow, dataset: Dataset) -> None:
    window.open_dataset(dataset)
    window.open("1.png")
    dataset.save("1.png", [annotated("c")], revision=dataset.load("1.png").revision)
    window.draw(30, 60)
    window.wait(window.panels.theirs.isVisible)
    window.panels.theirs.click()
    window.wait(lambda: window.session.plane(()).uuids == ("c",))
    window.settle()
    assert uuids_on_disk(dataset, "1.png") == {"c"}
    (copy,) = dataset.path.glob("removed/*/1.png.json")
    (mine,) = read_coco(copy)
    assert {"a", "b"} < set(mine.instances.uuids)
    assert len(mine.instances) == 3


def test_what_is_done_while_theirs_is_taken_is_in_the_copy(
    window: DataWindow, dataset: Dataset
) -> None:
    window.open_dataset(dataset)
    window.open("1.png")
    dataset.save("1.png", [annotated("c")], revision=dataset.load("1.png").revision)
    window.draw(30, 60)
    window.wait(window.panels.theirs.isVisible)
    window.panels.theirs.click()
    # the copy is written in a thread, and the person goes on
    window.draw(5, 5)
    window.wait(lambda: window.session.plane(()).uuids == ("c",))
    window.settle()
    copies = [read_coco(path)[0] for path in dataset.path.glob("removed/*/1.png.json")]
    assert max(len(copy.instances) for copy in copies) == 4


def test_closing_the_dock_saves(window: DataWindow, dataset: Dataset) -> None:
    window.open_dataset(dataset)
    window.open("10.png")
    window.draw(30, 60)
    window.dock.close()
    assert dataset.entry("10.png").num_instances == 1


def test_a_new_dock_goes_on_with_the_image_that_the_old_one_left(
    qtbot: Any, window: DataWindow, dataset: Dataset
) -> None:
    window.open_dataset(dataset)
    window.open("10.png")
    window.dock.close()
    view = window.view_of_layer("10")
    labels = view.labels_layers[0]
    labels.data_setitem((np.array([30]), np.array([60])), view.session.next_handle)
    other = DataWindow(qtbot, window.viewer)
    other.wait(lambda: dataset.entry("10.png").num_instances == 1)
    assert other.open_id == "10.png"
    other.settle()
    other.dock.close()


def test_an_image_layer_that_somebody_deletes_is_saved_first(
    window: DataWindow, dataset: Dataset
) -> None:
    window.open_dataset(dataset)
    window.open("10.png")
    window.draw(30, 60)
    window.viewer.layers.remove("10")
    window.wait(lambda: window.open_id == "")
    assert dataset.entry("10.png").num_instances == 1


def test_rejected_instances_are_saved_and_erased_drawn_ones_are_not(
    window: DataWindow, dataset: Dataset
) -> None:
    window.open_dataset(dataset)
    window.open("1.png")
    session = window.session
    session.apply(tools.with_state(session, [((), "a")], InstanceState.REJECTED))
    window.wait(lambda: window.saved_line == "1.png: saved" and dataset.entry("1.png").revision > 1)
    (plane,) = dataset.load("1.png").planes
    states = dict(zip(plane.instances.uuids, plane.instances.states, strict=True))
    assert states == {"a": InstanceState.REJECTED, "b": InstanceState.ACCEPTED}


def test_the_journal_offers_nothing_of_what_the_dataset_has(
    window: DataWindow, dataset: Dataset
) -> None:
    window.open_dataset(dataset)
    window.open("1.png")
    window.draw(30, 60)
    window.open("2.png")
    window.open("1.png")
    image = window.view.image
    assert window.journals.earlier(image) is None
    assert window.session.num_visible == 3


def test_what_could_not_be_saved_before_the_end_is_offered_again(
    qtbot: Any, window: DataWindow, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    window.open_dataset(dataset)
    window.open("1.png")

    def fail(*_: Any, **__: Any) -> None:
        raise AnnotationError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(Dataset, "save", fail)
        window.draw(30, 60)
        window.viewer.layers.remove("1")
        window.wait(lambda: window.saved_line == "NOT SAVED: the disk is gone")
        assert window.open_id == "1.png"
        window.dock.close()
    other = DataWindow(qtbot, ViewerModel())
    other.open_dataset(dataset)
    other.open("1.png")
    image = other.view.image
    other.wait(lambda: other.journals.earlier(image) is not None)
    assert other.session.num_visible == 2
    other.find("journal.bring_back").click()
    other.wait(lambda: dataset.entry("1.png").num_instances == 3)
    assert other.session.num_visible == 3
    other.settle()
    other.dock.close()


def test_a_run_is_saved_and_hidden_candidates_are_not(window: DataWindow, dataset: Dataset) -> None:
    window.open_dataset(dataset)
    window.open("10.png")
    session = window.session
    found = annotated("a", "b", state=InstanceState.UNREVIEWED).instances
    low = found.with_instances([i if i.uuid == "a" else _with_score(i, 0.1) for i in found])
    session.set_visibility(score=0.5, min_area=1)
    session.add_predictions((), low)
    window.wait(lambda: dataset.entry("10.png").num_instances == 1)
    assert uuids_on_disk(dataset, "10.png") == {"a"}


def _with_score(instance: Any, score: float) -> Any:
    return replace(instance, score=score)


# -- what is said of images -----------------------------------------------------------------------


def test_marking_the_open_image_complete_saves_it_first_and_meets_no_conflict(
    window: DataWindow, dataset: Dataset
) -> None:
    window.open_dataset(dataset)
    window.open("10.png")
    window.draw(30, 60)
    window.session.apply(
        tools.with_state(
            window.session,
            [((), window.session.plane(()).uuids[0])],
            InstanceState.ACCEPTED,
        )
    )
    window.panels.complete.click()
    window.settle()
    assert dataset.entry("10.png").state is ImageState.COMPLETE
    window.draw(40, 60)
    window.wait(lambda: dataset.entry("10.png").num_instances == 2)
    assert dataset.entry("10.png").state is ImageState.COMPLETE
    window.wait(lambda: window.saved_line == "10.png: saved")
    assert window.panels.complete.text() == "Back to draft"


def test_marking_complete_asks_when_something_was_not_reviewed(
    window: DataWindow, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(window.data.commands, "_ask", lambda *said: asked.append(said[1]) or False)
    window.open_dataset(dataset)
    window.data.browser.select("2.png")
    window.panels.complete.click()
    window.settle()
    assert asked[0].startswith("1 instances in 2.png were not reviewed")
    assert dataset.entry("2.png").state is ImageState.DRAFT


def test_several_images_get_a_state_a_split_and_a_group(
    window: DataWindow, dataset: Dataset
) -> None:
    window.open_dataset(dataset)
    window.open("10.png")
    window.panels.list.selectAll()
    chosen = window.data.browser.selected()
    assert len(chosen) == 3
    commands = window.data.commands
    commands.set_state(chosen, ImageState.DRAFT)
    commands.set_split(chosen, Split.VAL)
    commands.set_group(chosen, "film")
    window.settle()
    for entry in dataset.entries():
        found = (entry.state, entry.split, entry.is_split_pinned, entry.group)
        assert found == (ImageState.DRAFT, Split.VAL, True, "film")
    # the open image followed: a change of it is no conflict, and keeps all that
    window.draw(30, 60)
    window.wait(lambda: dataset.entry("10.png").num_instances == 1)
    entry = dataset.entry("10.png")
    assert (entry.split, entry.group) == (Split.VAL, "film")


def test_the_menu_names_what_can_be_done(window: DataWindow, dataset: Dataset) -> None:
    window.open_dataset(dataset)
    window.data.browser.select("1.png")
    assert window.data.browser.fill_menu()
    captions = [action.text() for action in window.panels.menu.actions() if action.text()]
    assert captions == [
        *("Open", "Mark complete", "Mark draft", "Mark not begun"),
        *("Use for", "Group…", "Rename…", "Accept changed file", "Remove…"),
    ]


def test_a_removed_image_is_kept_in_removed_and_closes(
    window: DataWindow, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window.data.commands, "_ask", lambda *_: True)
    window.open_dataset(dataset)
    window.open("1.png")
    window.data.commands.remove(window.data.browser.selected())
    window.wait(lambda: window.rows() == ["2.png", "10.png"])
    assert window.open_id == ""
    assert len(window.viewer.layers) == 0
    assert [path.name for path in dataset.path.glob("removed/**/1.png")] == ["1.png"]


def test_what_was_confirmed_is_done_though_another_image_is_asked_for_at_once(
    window: DataWindow, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window.data.commands, "_ask", lambda *_: True)
    window.open_dataset(dataset)
    window.open("1.png")
    window.data.commands.remove(window.data.browser.selected())
    window.data.open_image("2.png")
    window.wait(lambda: window.rows() == ["2.png", "10.png"])
    window.wait(lambda: window.open_id == "2.png")


def test_a_renamed_image_keeps_its_annotations(window: DataWindow, dataset: Dataset) -> None:
    window.open_dataset(dataset)
    window.data.commands.rename(dataset.entry("1.png"), "first.png")
    window.wait(lambda: window.rows() == ["2.png", "10.png", "first.png"])
    assert uuids_on_disk(dataset, "first.png") == {"a", "b"}


# -- images come in -------------------------------------------------------------------------------


def test_files_and_folders_come_in_and_what_is_no_image_is_named(
    window: DataWindow, dataset: Dataset, tmp_path: Path
) -> None:
    write_image(tmp_path / "folder" / "4.png", 4)
    write_image(tmp_path / "folder" / "deep" / "5.png", 5)
    (tmp_path / "notes.txt").write_text("no image")
    window.open_dataset(dataset)
    window.data.commands.add_images(
        [tmp_path / "folder", tmp_path / "1.png", tmp_path / "notes.txt"]
    )
    window.wait(lambda: len(window.rows()) == 5)
    assert window.status.startswith("2 images added. 1 image was there already. Not added: notes")


def test_a_dataset_among_other_things_is_not_taken_for_them(
    window: DataWindow, dataset: Dataset, tmp_path: Path
) -> None:
    window.data._try(lambda: window.data.commands.import_paths([tmp_path / "1.png", dataset.path]))
    assert window.status.startswith("set is a dataset: drop it alone")


def test_a_path_is_refused_while_no_dataset_is_open(window: DataWindow, tmp_path: Path) -> None:
    window.data.import_path(write_image(tmp_path / "4.png"))
    assert window.status == "Open or make a dataset first."


def test_the_image_in_the_viewer_comes_in_with_its_instances_and_is_kept_saved(
    window: DataWindow, dataset: Dataset, tmp_path: Path
) -> None:
    window.open_dataset(dataset)
    path = write_image(tmp_path / "new.png", 77)
    with layer_source(path=str(path)):
        window.viewer.add_image(np.asarray(PillowImage.open(path)), name="new")
    window.dock.review.panels.by_hand.click()
    window.wait(lambda: window.dock.review.view is not None)
    view = window.dock.review.view
    assert view is not None
    labels = view.labels_layers[0]
    labels.data_setitem((np.array([30]), np.array([60])), 1)
    view.settle_all()
    window.data.commands.add_image()
    window.wait(lambda: window.open_id == "new.png")
    window.settle()
    assert dataset.entry("new.png").num_instances == 1
    window.draw(40, 60)
    window.wait(lambda: dataset.entry("new.png").num_instances == 2)


def test_the_first_instances_of_an_image_that_came_in_without_any_are_saved(
    window: DataWindow, dataset: Dataset
) -> None:
    window.open_dataset(dataset)
    window.viewer.add_image(squares("a"), name="bare")
    window.data.commands.add_image()
    window.wait(lambda: window.open_id == "bare.png")
    window.settle()
    window.wait(lambda: window.journals._works[window.viewer.layers["bare"]].looked is not None)
    window.dock.review.panels.by_hand.click()
    view = window.view_of_layer("bare")
    view.labels_layers[0].data_setitem((np.array([30]), np.array([60])), 1)
    view.settle_all()
    window.wait(lambda: dataset.entry("bare.png").num_instances == 1)


@pytest.mark.parametrize("is_quick", [True, False])
def test_they_are_saved_before_a_switch_as_well(
    window: DataWindow, dataset: Dataset, is_quick: bool
) -> None:
    window.open_dataset(dataset)
    window.viewer.add_image(squares("a"), name="bare")
    window.data.commands.add_image()
    window.wait(lambda: window.open_id == "bare.png")
    window.settle()
    window.dock.review.panels.by_hand.click()
    view = window.view_of_layer("bare")
    view.labels_layers[0].data_setitem((np.array([30]), np.array([60])), 1)
    if is_quick:
        window.data.open_image("1.png")
    else:
        window.dock.close()
    window.wait(lambda: dataset.entry("bare.png").num_instances == 1)


def test_an_image_may_stay_where_it_is(
    window: DataWindow, dataset: Dataset, tmp_path: Path
) -> None:
    path = write_image(tmp_path / "new.png", 77)
    window.open_dataset(dataset)
    window.panels.copies.setChecked(False)
    assert window.data.commands.storage is Storage.REFERENCE
    window.data.import_path(path)
    window.wait(lambda: "new.png" in window.rows())
    assert dataset.entry("new.png").reference == str(path)


def test_a_stack_without_a_file_keeps_its_planes(window: DataWindow, dataset: Dataset) -> None:
    window.open_dataset(dataset)
    stack = np.stack([squares("a"), squares("b"), squares("c")])
    window.viewer.add_image(stack, name="stack")
    window.dock.review.panels.by_hand.click()
    view = window.dock.review.view
    assert view is not None
    labels = view.labels_layers[0]
    labels.data_setitem((np.array([2]), np.array([30]), np.array([60])), 1)
    view.settle_all()
    window.data.commands.add_image()
    window.wait(lambda: window.open_id == "stack.tif")
    window.settle()
    planes = {p.plane: len(p.instances) for p in dataset.load("stack.tif").planes}
    assert planes == {(2,): 1}
    window.open("1.png")
    window.open("stack.tif")
    shown = window.view.image.data
    assert np.array_equal(np.asarray(shown), stack)
    assert window.view.labels_layers[0].data[2, 30, 60] == 1


def test_the_visible_region_comes_in_with_what_lies_in_it(
    window: DataWindow, dataset: Dataset
) -> None:
    window.open_dataset(dataset)
    window.open("1.png")
    # rows 0 to 29 and columns 0 to 44: all of a, and half of b
    window.view.image.corner_pixels = np.array([[0, 0], [29, 44]])
    window.data.commands.add_region()
    window.wait(lambda: len(window.rows()) == 4)
    (name,) = set(window.rows()) - {"1.png", "2.png", "10.png"}
    assert name == "1 x0 y0.png"
    (plane,) = dataset.load(name).planes
    assert plane.image_hw == (30, 45)
    assert plane.instances.boxes_xyxy.tolist() == [[10, 10, 20, 20], [40, 10, 45, 20]]
    assert dataset.entry(name).group == dataset.entry("1.png").group == "1.png"
    assert window.open_id == "1.png"
    window.draw(30, 60)
    window.wait(lambda: dataset.entry("1.png").num_instances == 3)


def test_moved_images_are_found(window: DataWindow, dataset: Dataset, tmp_path: Path) -> None:
    path = write_image(tmp_path / "there" / "7.png", 7)
    dataset.add_file(path, storage=Storage.REFERENCE)
    moved = tmp_path / "elsewhere"
    path.parent.rename(moved)
    window.open_dataset(dataset)
    window.data.commands.relocate(moved)
    window.settle()
    assert window.status.startswith("1 missing images found in elsewhere: 7.png")
    assert dataset.image_path("7.png") == moved / "7.png"


# -- categories and faults ------------------------------------------------------------------------


def test_categories_are_shown_with_their_counts_and_renamed_in_place(
    window: DataWindow, dataset: Dataset
) -> None:
    window.open_dataset(dataset)
    window.open("1.png")
    table = window.data.categories.table
    assert [table.item(row, 0).text() for row in range(2)] == ["cell", "debris"]
    assert [table.item(row, 2).text() for row in range(2)] == ["3", "0"]
    table.item(0, 0).setText("nucleus")
    window.settle()
    window.wait(lambda: window.session.categories.categories[0].name == "nucleus")
    assert dataset.categories.categories[0].name == "nucleus"
    assert window.session.plane(()).uuids == ("a", "b")


def test_merging_asks_with_counts_and_the_open_image_follows(
    window: DataWindow, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(
        QMessageBox,
        "question",
        lambda *args: asked.append(args[2]) or QMessageBox.StandardButton.Yes,
    )
    window.open_dataset(dataset)
    window.open("1.png")
    cell, debris = dataset.categories.categories
    window.data.categories.merge(cell, debris)
    window.settle()
    window.wait(lambda: window.open_id == "1.png" and not window.switcher.is_busy)
    assert asked[0].startswith("3 instances in 2 images become debris")
    assert [c.name for c in dataset.categories.categories] == ["debris"]
    assert window.session.plane(()).category_ids.tolist() == [debris.id] * 2


def test_a_check_lists_faults_with_their_repair(window: DataWindow, dataset: Dataset) -> None:
    (dataset.path / "annotations" / "2.png.json").write_text("{")
    window.open_dataset(dataset)
    dialog = window.data.check()
    assert dialog is not None
    window.wait(lambda: not dialog._task.is_running)
    assert next(fault.image_id for fault in dialog.faults) == "2.png"
    assert dialog.summary.text().startswith("1 fault")
    assert dialog.tree.topLevelItem(0).child(0).text(0).startswith("2.png: ")
    dialog.close()


def test_a_repair_does_what_the_list_says_while_the_image_is_closed(
    window: DataWindow, dataset: Dataset
) -> None:
    write_image(dataset.path / "images" / "extra.png", 99)
    window.open_dataset(dataset)
    window.open("1.png")
    window.draw(30, 60)
    dialog = window.data.check()
    assert dialog is not None
    window.wait(lambda: not dialog._task.is_running)
    assert [fault.image_id for fault in dialog.faults if fault.repair] == ["extra.png"]
    dialog.repair_button.click()
    window.wait(lambda: dialog.summary.text().startswith("1 repaired"))
    window.wait(lambda: not dialog._task.is_running and window.open_id == "1.png")
    window.settle()
    assert "No faults." in dialog.summary.text()
    assert "extra.png" in window.rows()
    assert dataset.entry("1.png").num_instances == 3
    dialog.close()


# -- phases ---------------------------------------------------------------------------------------


def test_a_run_on_the_open_image_must_end_before_it_leaves(
    window: DataWindow, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    window.open_dataset(dataset)
    window.open("1.png")
    monkeypatch.setattr(window.data, "_detect", _Busy(window.dock.detect.image_layer))
    window.data.open_image("2.png")
    assert "The model is at work" in window.status
    assert window.open_id == "1.png"
    assert window.switcher.current is not None
    assert window.switcher.current.phase is SavePhase.SAVED


class _Busy:
    """A Detect tab with a run under way."""

    def __init__(self, layer: Any) -> None:
        self.image_layer = layer
        self.run = self
        self.is_running = True
