"""The card of one instance."""

import threading
from dataclasses import replace
from typing import Any

import dask.array as da
import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QLabel, QWidget

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.edits.action import Action, Change
from napari_deeppixel.edits.session import AnnotationSession
from napari_deeppixel.viewer.layers import InstanceLayers
from napari_deeppixel.widgets.card import InstanceCard, physical_area

TABLE = CategoryTable.from_names("nucleus", "debris")
SKY, ORANGE = (0x56, 0xB4, 0xE9), (0xE6, 0x9F, 0x00)
HW = (100, 200)
A, B = ((), "a"), ((), "b")


def view_of(pixels: Any, **settings: Any) -> InstanceLayers:
    """Return layers with a 20 x 20 px square a at the left and b, debris, at the right."""
    masks = tuple(CroppedMask(pixels=np.ones((20, 20), np.bool_), y=40, x=x) for x in (40, 140))
    instances = InstanceSet(
        image_hw=HW,
        masks=masks,
        categories=TABLE,
        category_ids=np.array([1, 2]),
        scores=np.array([0.875, 0.5]),
        uuids=("a", "b"),
        sources=("nuclei@0123456789ab",) * 2,
    )
    viewer = ViewerModel()
    image = viewer.add_image(pixels, name="cells", contrast_limits=(0, 255), **settings)
    session = AnnotationSession(HW, TABLE)
    session.add_predictions((), instances)
    view = InstanceLayers(viewer, image, session)
    for _ in view.redraw():
        pass
    return view


@pytest.fixture
def view() -> InstanceLayers:
    """The left half of the image is black, the right one white."""
    pixels = np.zeros(HW, np.uint8)
    pixels[:, 100:] = 255
    return view_of(pixels)


@pytest.fixture
def card(qtbot: Any) -> Any:
    widget = InstanceCard()
    qtbot.addWidget(widget)
    widget.resize(340, 180)
    widget.show()
    yield widget
    widget.clear()


def text(card: InstanceCard, name: str) -> str:
    label = card.findChild(QLabel, f"card.{name}")
    assert label is not None
    return str(label.text())


def combo(card: InstanceCard) -> QComboBox:
    box = card.findChild(QComboBox, "card.category")
    assert box is not None
    return box


def pixel(card: InstanceCard, y: int, x: int) -> tuple[int, int, int]:
    """Return a pixel of the picture, whose sides are 140."""
    label = card.findChild(QLabel, "card.picture")
    assert label is not None
    image = label.pixmap().toImage()
    assert (image.width(), image.height()) == (140, 140)
    color = image.pixelColor(x, y)
    return color.red(), color.green(), color.blue()


def has_picture(card: InstanceCard) -> bool:
    label = card.findChild(QLabel, "card.picture")
    assert label is not None
    return not label.pixmap().isNull()


def change(view: InstanceLayers, uuid: str, **fields: Any) -> None:
    before = view.session.get((), uuid)
    assert before is not None
    action = Change(index=(), before=before, after=replace(before, **fields))
    view.session.apply(Action(name="change", changes=(action,)))


def test_card_tells_what_is_known(card: InstanceCard, view: InstanceLayers) -> None:
    card.show_instance(view, A, "score 0.88")
    assert text(card, "title") == "Instance 1"
    assert combo(card).currentText() == "nucleus"
    assert text(card, "score") == "0.88"
    assert text(card, "area") == "400 px"
    assert "unreviewed" in text(card, "state")
    assert text(card, "source") == "nuclei"
    assert text(card, "reason") == "score 0.88"


def test_picture_is_twice_the_object_with_its_outline(
    card: InstanceCard, view: InstanceLayers
) -> None:
    # 40 px wide at 140 screen pixels: the mask is 35 to 105
    card.show_instance(view, A)
    assert pixel(card, 70, 10) == (0, 0, 0)
    assert pixel(card, 70, 35) == SKY
    assert pixel(card, 70, 104) == SKY
    assert pixel(card, 35, 70) == SKY
    assert pixel(card, 70, 70) == (0, 0, 0)
    card.show_instance(view, B)
    assert pixel(card, 70, 10) == (255, 255, 255)
    assert pixel(card, 70, 35) == ORANGE
    # the halo
    assert pixel(card, 70, 34) == (102, 102, 102)
    assert pixel(card, 70, 70) == (255, 255, 255)


def test_area_in_micrometres_where_the_layer_has_a_scale() -> None:
    def area(scale: tuple[float, float], unit: str) -> str:
        return physical_area(
            ViewerModel().add_image(np.zeros((4, 5)), scale=scale, units=unit), 400
        )

    assert area((0.5, 0.25), "um") == "50 µm²"
    assert area((500, 250), "nm") == "50 µm²"
    assert area((2, 3), "um") == "2,400 µm²"
    assert area((0.01, 0.01), "um") == "0.04 µm²"
    assert area((0.5, 0.25), "pixel") == ""


def test_picture_has_the_true_shape_of_the_pixels(card: InstanceCard) -> None:
    view = view_of(np.zeros(HW, np.uint8), scale=(0.5, 0.25), units="um")
    card.show_instance(view, A)
    label = card.findChild(QLabel, "card.picture")
    assert label is not None
    assert (label.pixmap().width(), label.pixmap().height()) == (70, 140)
    assert text(card, "area") == "400 px\n50 µm²"


def test_drawn_instance_has_no_score_and_a_person(card: InstanceCard, view: InstanceLayers) -> None:
    change(view, "a", score=float("nan"), state=InstanceState.DRAWN, source="person")
    card.show_instance(view, A)
    assert text(card, "score") == "drawn, no score"
    assert text(card, "source") == "person"
    assert "drawn" in text(card, "state")


def test_card_follows_its_instance(card: InstanceCard, view: InstanceLayers, qtbot: Any) -> None:
    card.show_instance(view, A)
    change(view, "a", state=InstanceState.ACCEPTED, category_id=2)
    qtbot.waitUntil(lambda: "accepted" in text(card, "state"))
    assert combo(card).currentText() == "debris"
    assert pixel(card, 70, 35) == ORANGE
    larger = CroppedMask(pixels=np.ones((20, 40), np.bool_), y=40, x=20)
    change(view, "a", mask=larger)
    qtbot.waitUntil(lambda: text(card, "area") == "800 px")
    # 80 px wide now: the mask is 35 to 105 across and 52.5 to 87.5 down
    assert pixel(card, 70, 35) == ORANGE
    assert pixel(card, 40, 70) == (0, 0, 0)


def test_card_follows_the_contrast(card: InstanceCard, view: InstanceLayers, qtbot: Any) -> None:
    card.show_instance(view, B)
    view.image.contrast_limits = (0, 510)
    qtbot.waitUntil(lambda: pixel(card, 70, 10) == (128, 128, 128))
    view.image.colormap = "green"
    qtbot.waitUntil(lambda: pixel(card, 70, 10) == (0, 128, 0))


def test_card_follows_new_pixels(card: InstanceCard, view: InstanceLayers, qtbot: Any) -> None:
    card.show_instance(view, A)
    view.image.data = np.full(HW, 255, np.uint8)
    qtbot.waitUntil(lambda: pixel(card, 70, 10) == (255, 255, 255))


def test_instance_that_goes_clears_the_card(
    card: InstanceCard, view: InstanceLayers, qtbot: Any
) -> None:
    card.show_instance(view, A, "why")
    before = view.session.get(*A)
    view.session.apply(
        Action(name="delete", changes=(Change(index=(), before=before, after=None),))
    )
    qtbot.waitUntil(lambda: not has_picture(card))
    assert text(card, "picture") == "select an instance"
    assert text(card, "score") == ""
    assert text(card, "reason") == ""
    view.undo()
    qtbot.waitUntil(lambda: has_picture(card))
    assert text(card, "score") == "0.88"


# -- category -------------------------------------------------------------------------------------


def test_chosen_category_is_told(card: InstanceCard, view: InstanceLayers, qtbot: Any) -> None:
    card.show_instance(view, A)
    heard: list[str] = []
    card.category_chosen.connect(heard.append)
    box = combo(card)
    box.setFocus()
    qtbot.keyClick(box, Qt.Key.Key_Down)
    assert heard == ["debris"]
    # nobody did what was asked for
    assert box.currentText() == "nucleus"


def test_typed_category_is_told_once(card: InstanceCard, view: InstanceLayers, qtbot: Any) -> None:
    card.show_instance(view, A)
    heard: list[str] = []
    card.category_chosen.connect(heard.append)
    edit = combo(card).lineEdit()
    assert edit is not None
    for name in ("mitosis", "debris", "nucleus", "  "):
        edit.selectAll()
        qtbot.keyClicks(edit, name)
        qtbot.keyClick(edit, Qt.Key.Key_Return)
    assert heard == ["mitosis", "debris"]
    assert combo(card).count() == 2
    assert combo(card).currentText() == "nucleus"


def test_text_that_is_being_typed_stays_when_the_instance_changes(
    card: InstanceCard, view: InstanceLayers, qtbot: Any
) -> None:
    card.show_instance(view, A)
    card.activateWindow()
    edit = combo(card).lineEdit()
    assert edit is not None
    edit.setFocus()
    qtbot.waitUntil(edit.hasFocus)
    edit.selectAll()
    qtbot.keyClicks(edit, "mit")
    change(view, "a", state=InstanceState.ACCEPTED)
    qtbot.waitUntil(lambda: "accepted" in text(card, "state"))
    assert combo(card).currentText() == "mit"
    view.session.join_categories(CategoryTable.from_names("mitosis"))
    qtbot.waitUntil(lambda: combo(card).count() == 3)
    assert combo(card).currentText() == "mit"
    card.show_instance(view, B)
    assert combo(card).currentText() == "debris"


def test_new_category_of_the_session_can_be_chosen(
    card: InstanceCard, view: InstanceLayers, qtbot: Any
) -> None:
    card.show_instance(view, A)
    view.session.join_categories(CategoryTable.from_names("mitosis"))
    qtbot.waitUntil(lambda: combo(card).count() == 3)
    assert combo(card).currentText() == "nucleus"


# -- slow images ----------------------------------------------------------------------------------


class SlowImage:
    """A lazy image whose blocks wait until they are let go; the left half is black."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.is_asked = threading.Event()
        self.is_slow = False

    def array(self) -> Any:
        pixels = np.zeros(HW, np.uint8)
        pixels[:, 100:] = 255

        def wait(block: np.ndarray) -> np.ndarray:
            if self.is_slow:
                self.is_asked.set()
                assert self.go.wait(30)
            return block

        return da.from_array(pixels, chunks=(100, 100)).map_blocks(wait, dtype=np.uint8)


def test_slow_image_is_read_in_a_thread_and_a_late_picture_is_dropped(
    card: InstanceCard, qtbot: Any
) -> None:
    slow = SlowImage()
    view = view_of(slow.array())
    slow.is_slow = True
    card.show_instance(view, A)
    assert text(card, "picture") == "reading …"
    assert text(card, "title") == "Instance 1"
    assert slow.is_asked.wait(30)
    card.show_instance(view, B)
    slow.go.set()
    qtbot.waitUntil(lambda: has_picture(card))
    assert pixel(card, 70, 10) == (255, 255, 255)
    qtbot.wait(100)
    assert pixel(card, 70, 10) == (255, 255, 255)


def test_cleared_card_shows_nothing_that_comes_late(card: InstanceCard, qtbot: Any) -> None:
    slow = SlowImage()
    view = view_of(slow.array())
    slow.is_slow = True
    card.show_instance(view, A)
    assert slow.is_asked.wait(30)
    card.clear()
    slow.go.set()
    qtbot.wait(100)
    assert not has_picture(card)


# -- letting go -----------------------------------------------------------------------------------


def slots_of(view: InstanceLayers) -> list[int]:
    session, events = view.session, view.image.events
    emitters = (events.contrast_limits, events.gamma, events.colormap, events.data)
    counts = [len(emitter.callbacks) for emitter in emitters]
    return [len(session.changed), len(session.categories_changed), *counts]


def test_card_lets_go_of_what_it_showed(qtbot: Any, view: InstanceLayers) -> None:
    before = slots_of(view)
    cleared = InstanceCard()
    qtbot.addWidget(cleared)
    cleared.show_instance(view, A)
    assert slots_of(view) == [n + 1 for n in before]
    cleared.clear()
    assert slots_of(view) == before
    cleared.show_instance(view, A)
    cleared.close()
    assert slots_of(view) == before
    parent = QWidget()
    child = InstanceCard(parent)
    child.show_instance(view, A)
    with qtbot.waitSignal(child.destroyed):
        parent.deleteLater()
    assert slots_of(view) == before
    change(view, "a", state=InstanceState.ACCEPTED)
