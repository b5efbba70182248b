"""Annotations of other programs into the open dataset, and its own out to them, in the window."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QFileDialog, QInputDialog, QMenu, QMessageBox
from tests.widgets.data_window import DataWindow, annotated, made_dataset, write_image

from napari_deeppixel.dataset.convert import Annotations
from napari_deeppixel.dataset.formats.coco import write_coco
from napari_deeppixel.dataset.store import Dataset


@pytest.fixture
def window(qtbot: Any, tmp_path: Path) -> Iterator[DataWindow]:
    window = DataWindow(qtbot, ViewerModel())
    window.open_dataset(made_dataset(tmp_path / "made"))
    yield window
    window.dock.close()


def answer(button: str, *, asked: list[str]) -> QTimer:
    """Press a button of the next questions, and note what they say."""
    timer = QTimer()
    timer.setInterval(20)

    def press() -> None:
        box = QApplication.activeModalWidget()
        if isinstance(box, QMessageBox):
            asked.append(f"{box.text()}\n{box.informativeText()}")
            (found,) = [b for b in box.buttons() if b.text().replace("&", "") == button]
            found.click()

    timer.timeout.connect(press)
    timer.start()
    return timer


def coco_elsewhere(folder: Path, *, images: Path) -> Path:
    """Write annotations of one image whose file lies in another folder."""
    write_image(images / "new.png", 77)
    folder.mkdir(parents=True, exist_ok=True)
    image = annotated("a", "b")
    named = type(image).of("new.png", image.instances)
    write_coco([named], folder / "instances.json")
    return folder / "instances.json"


def dataset_of(window: DataWindow) -> Dataset:
    dataset = window.dock.datasets.dataset
    assert dataset is not None
    return dataset


def test_a_dropped_coco_file_comes_in_with_its_images(window: DataWindow, tmp_path: Path) -> None:
    path = coco_elsewhere(tmp_path / "new", images=tmp_path / "new")
    window.data.import_path(path)
    window.wait(lambda: "new.png" in window.rows())
    window.settle()
    assert dataset_of(window).entry("new.png").num_instances == 2
    assert "1 images with 2 instances" in window.panels.status.text()


def test_what_comes_to_the_open_image_is_shown(window: DataWindow, tmp_path: Path) -> None:
    write_image(tmp_path / "new" / "10.png", 10)
    named = type(annotated()).of("10.png", annotated("a", "b").instances)
    write_coco([named], tmp_path / "new" / "instances.json")
    window.open("10.png")
    window.data.import_path(tmp_path / "new" / "instances.json")
    window.wait(lambda: dataset_of(window).entry("10.png").num_instances == 2)
    window.settle()
    assert window.open_id == "10.png"
    assert len(window.session.visible(window.session.plane_indices[0])) == 2


def test_images_elsewhere_are_asked_for(
    window: DataWindow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = coco_elsewhere(tmp_path / "new", images=tmp_path / "pictures")
    monkeypatch.setattr(
        QFileDialog, "getExistingDirectory", lambda *_, **__: str(tmp_path / "pictures")
    )
    asked: list[str] = []
    timer = answer("Choose their folder…", asked=asked)
    window.data.import_path(path)
    window.wait(lambda: "new.png" in window.rows())
    timer.stop()
    assert "1 of 1 images are not beside the annotations" in asked[0]


def test_a_file_of_no_known_format_is_asked_about(
    window: DataWindow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def choose(_parent: Any, _title: str, text: str, *_: Any, **__: Any) -> tuple[str, bool]:
        asked.append(text)
        return "", False

    monkeypatch.setattr(QInputDialog, "getItem", choose)
    (tmp_path / "notes.txt").write_text("nothing")
    window.data.exchange.import_annotations(tmp_path / "notes.txt")
    window.wait(lambda: bool(asked))
    assert "the format cannot be told" in asked[0]
    assert window.rows() == ["1.png", "2.png", "10.png"]


def test_a_dropped_folder_of_images_adds_the_images(window: DataWindow, tmp_path: Path) -> None:
    write_image(tmp_path / "pictures" / "4.png", 4)
    window.data.import_path(tmp_path / "pictures")
    window.wait(lambda: "4.png" in window.rows())


def test_an_export_tells_what_gets_lost_and_asks(window: DataWindow, tmp_path: Path) -> None:
    asked: list[str] = []
    timer = answer("Cancel", asked=asked)
    window.data.exchange.export(tmp_path / "masks", "labels")
    window.wait(lambda: bool(asked))
    window.settle()
    timer.stop()
    assert "no review states" in asked[0]
    assert not (tmp_path / "masks").exists()
    timer = answer("Export", asked=asked)
    window.data.exchange.export(tmp_path / "masks", "labels")
    window.wait(lambda: "3 images with 3 instances" in window.panels.status.text())
    timer.stop()
    areas = [i.instances.areas.tolist() for i in Annotations(tmp_path / "masks")]
    assert sorted(areas) == [[], [100], [100, 100]]


def test_an_export_has_what_was_drawn_a_moment_ago(window: DataWindow, tmp_path: Path) -> None:
    window.open("1.png")
    window.draw(0, 0)
    window.data.exchange.export(tmp_path / "all.json", "coco")
    window.wait((tmp_path / "all.json").exists)
    window.settle()
    counts = {i.file_name: len(i.instances) for i in Annotations(tmp_path / "all.json")}
    assert counts == {"1.png": 3, "2.png": 1, "10.png": 0}


def test_all_formats_are_offered(window: DataWindow) -> None:
    menu = QMenu()
    window.data.exchange.offer_export(menu)
    captions = [action.text() for action in menu.actions()]
    assert captions[:2] == ["COCO JSON, without images…", "COCO JSON with images…"]
    assert len(captions) == 11
    window.data._chooser.fill()
    assert "Export as" in [a.text() for a in window.panels.chooser.popup.actions()]
    adding = [a.text() for a in window.panels.add.popup.actions()]
    assert adding[-2:] == ["Annotations, file…", "Annotations, folder…"]
