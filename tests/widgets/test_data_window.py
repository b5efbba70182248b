"""The Data tab in a window of napari."""

from pathlib import Path
from typing import Any

import pytest
from napari.layers import Shapes
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDropEvent
from qtpy.QtWidgets import QAbstractButton, QComboBox, QLineEdit
from tests.widgets.data_window import DataWindow, made_dataset, write_image

from napari_deeppixel.edits.region_tools import plane_completed
from napari_deeppixel.widgets.data_panels import NEXT_KEY, PREVIOUS_KEY, UNFINISHED_KEY
from napari_deeppixel.widgets.key_clashes import _menu_actions, _napari_action, binding_of


@pytest.mark.parametrize("tab", ["data", "review"])
def test_images_are_gone_through_in_a_window_and_its_end_saves(
    qtbot: Any, make_napari_viewer_proxy: Any, tmp_path: Path, tab: str
) -> None:
    dataset = made_dataset(tmp_path)
    viewer = make_napari_viewer_proxy(show=True)
    window = DataWindow(qtbot, viewer, has_window=True)
    window.open_dataset(dataset)
    window.open("1.png")
    window.dock.tabs.setCurrentWidget(getattr(window.dock, tab))
    # a Shapes layer that is seen: napari crashes if such a one leaves in the wrong way
    window.session.apply(plane_completed(window.session, ()))
    assert sum(isinstance(layer, Shapes) for layer in viewer.layers) == 2
    for image_id in ("2.png", "10.png", "1.png"):
        window.data.go(1) if image_id != "1.png" else window.data.open_image(image_id)
        window.wait(lambda i=image_id: window.open_id == i and not window.switcher.is_busy)
        window.settle()
        # repaints: one of them would be the last
        qtbot.wait(300)
    assert len(dataset.load("1.png").planes[0].regions) == 1
    window.draw(30, 60)
    viewer.close()
    assert dataset.entry("1.png").num_instances == 3


def test_the_keys_of_the_tab_mean_nothing_else_in_napari(
    make_napari_viewer_proxy: Any,
) -> None:
    make_napari_viewer_proxy()
    keys = [
        str(binding_of(key.replace("PgDown", "PageDown").replace("PgUp", "PageUp")))
        for key in (NEXT_KEY, PREVIOUS_KEY, UNFINISHED_KEY)
    ]
    assert [_napari_action(key) for key in keys] == [("", "")] * 3
    assert not set(keys) & set(_menu_actions())


@pytest.fixture
def narrow(qtbot: Any, make_napari_viewer_proxy: Any, tmp_path: Path) -> DataWindow:
    window = DataWindow(qtbot, make_napari_viewer_proxy(), has_window=True)
    window.open_dataset(made_dataset(tmp_path))
    window.find("data.advanced").expand(animate=False)
    return window


def test_nothing_is_cut_off_in_a_narrow_dock(narrow: DataWindow) -> None:
    assert narrow.dock.minimumSizeHint().width() <= 375
    narrow.data.resize(375, 800)
    narrow.qtbot.wait(50)
    for each in narrow.data.findChildren(QAbstractButton):
        if each.isVisibleTo(narrow.data) and each.text():
            needed = each.fontMetrics().horizontalAdvance(each.text())
            assert each.width() >= needed, each.objectName()


def test_what_is_in_sight_are_five_groups_of_controls(
    qtbot: Any, make_napari_viewer_proxy: Any, tmp_path: Path
) -> None:
    window = DataWindow(qtbot, make_napari_viewer_proxy(), has_window=True)
    window.open_dataset(made_dataset(tmp_path))
    window.open("1.png")
    kinds, advanced = (QAbstractButton, QComboBox, QLineEdit), window.find("data.advanced")
    shown = [
        each.objectName()
        for kind in kinds
        for each in window.data.findChildren(kind)
        if each.isVisibleTo(window.data)
        and each.objectName().startswith("data.")
        and not advanced.isAncestorOf(each)
    ]
    groups = (
        ("data.chooser",),
        ("data.filter", "data.show"),
        ("data.previous", "data.next", "data.unfinished"),
        ("data.add",),
        ("data.complete",),
    )
    assert sorted(shown) == sorted(name for group in groups for name in group)


def test_a_file_that_is_dropped_on_the_tab_comes_in(
    qtbot: Any, make_napari_viewer_proxy: Any, tmp_path: Path
) -> None:
    window = DataWindow(qtbot, make_napari_viewer_proxy(), has_window=True)
    window.open_dataset(made_dataset(tmp_path))
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(write_image(tmp_path / "4.png", 4)))])
    event = QDropEvent(
        QPointF(5, 5),
        Qt.DropAction.CopyAction,
        data,
        Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )
    window.data.dropEvent(event)
    window.wait(lambda: "4.png" in window.rows())
    assert event.isAccepted()
