"""The table of instances, on layers in a viewer model."""

import gc
import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QItemSelectionModel, QPoint, Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QCheckBox, QLabel, QLineEdit, QTableView, QWidget

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.edits.action import Action, Change
from napari_deeppixel.edits.filter import attribute_table
from napari_deeppixel.edits.session import AnnotationSession
from napari_deeppixel.viewer.colors import ColorBy, color_layers
from napari_deeppixel.viewer.layers import InstanceLayers
from napari_deeppixel.widgets.instance_rows import COLUMNS, Column, InstanceRows
from napari_deeppixel.widgets.instance_table import InstanceTable

TABLE = CategoryTable.from_names("nucleus", "debris")
HW = (40, 60)
SCORES = (0.9, 0.3, 0.6, 0.3)


def found(
    names: str = "abcd", *, scores: tuple[float, ...] = SCORES, image_hw: tuple[int, int] = HW
) -> InstanceSet:
    """Return predictions side by side, 2 px high and 1, 2, 3 … wide; b and d are debris."""
    across = image_hw[1] // 6
    masks = tuple(
        CroppedMask(
            pixels=np.ones((2, n % 4 + 1), np.bool_), y=3 * (n // across), x=6 * (n % across)
        )
        for n in range(len(names))
    )
    return InstanceSet(
        image_hw=image_hw,
        masks=masks,
        categories=TABLE,
        category_ids=np.arange(len(names)) % 2 + 1,
        scores=np.array(scores),
        uuids=tuple(names),
        sources=("nuclei@0123456789ab",) * len(names),
    )


def copies(count: int) -> InstanceSet:
    """Return one pixel column so many times, u000, u001 … with scores from 0 to 1."""
    return InstanceSet(
        image_hw=HW,
        masks=found("a", scores=(0.5,)).masks * count,
        categories=TABLE,
        uuids=tuple(f"u{n:03}" for n in range(count)),
        scores=np.linspace(0, 1, count),
    )


def view_of(planes: dict[PlaneIndex, InstanceSet], shape: tuple[int, ...] = HW) -> InstanceLayers:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros(shape, np.uint8), name="cells")
    session = AnnotationSession((shape[-2], shape[-1]), TABLE)
    for index, instances in planes.items():
        session.add_predictions(index, instances)
    view = InstanceLayers(viewer, image, session)
    for _ in view.redraw():
        pass
    return view


@pytest.fixture
def view() -> InstanceLayers:
    return view_of({(): found()})


@pytest.fixture
def table(qtbot: Any, view: InstanceLayers) -> Any:
    widget = InstanceTable()
    qtbot.addWidget(widget)
    widget.resize(340, 400)
    widget.show()
    widget.set_view(view)
    yield widget
    widget.set_view(None)


def part(table: InstanceTable, kind: type, name: str) -> Any:
    child = table.findChild(kind, f"table.{name}")
    assert child is not None
    return child


def rows_of(table: InstanceTable) -> Any:
    return part(table, QTableView, "rows")


def names(table: InstanceTable) -> str:
    return "".join(uuid for _, uuid in table.shown_refs())


def chosen(table: InstanceTable) -> str:
    return "".join(uuid for _, uuid in table.selected_refs())


def count(table: InstanceTable) -> str:
    return str(part(table, QLabel, "count").text())


def cell(table: InstanceTable, row: int, column: Column, role: Any = None) -> Any:
    model = rows_of(table).model()
    role = Qt.ItemDataRole.DisplayRole if role is None else role
    return model.data(model.index(row, COLUMNS.index(column)), role)


def set_filter(table: InstanceTable, text: str) -> None:
    part(table, QLineEdit, "filter").setText(text)
    part(table, QLineEdit, "filter").returnPressed.emit()


def sort(table: InstanceTable, column: Column, *, descending: bool = False) -> None:
    order = Qt.SortOrder.DescendingOrder if descending else Qt.SortOrder.AscendingOrder
    rows_of(table).horizontalHeader().setSortIndicator(COLUMNS.index(column), order)


def change(view: InstanceLayers, uuid: str, index: PlaneIndex = (), **fields: Any) -> None:
    before = view.session.get(index, uuid)
    assert before is not None
    after = replace(before, **fields)
    view.session.apply(
        Action(name="change", changes=(Change(index=index, before=before, after=after),))
    )


def refs(names: str) -> list[tuple[PlaneIndex, str]]:
    return [((), name) for name in names]


# -- rows -----------------------------------------------------------------------------------------


def test_each_instance_has_a_row_with_what_is_known(table: InstanceTable) -> None:
    assert names(table) == "abcd"
    row = [cell(table, 2, column) for column in COLUMNS]
    assert row == ["3", "nucleus", "0.60", "6", "unreviewed", "", "", "nuclei"]
    tooltip = cell(table, 2, Column.SOURCE, Qt.ItemDataRole.ToolTipRole)
    assert tooltip == "nuclei@0123456789ab"
    assert count(table) == "4 of 4"


def test_planes_and_uncertainties_have_a_column_only_where_there_are_any(
    table: InstanceTable,
) -> None:
    def hidden() -> list[Column]:
        return [c for n, c in enumerate(COLUMNS) if rows_of(table).isColumnHidden(n)]

    assert hidden() == [Column.UNCERTAINTY, Column.PLANE]
    table.set_uncertainties({((), "b"): 0.75})
    assert hidden() == [Column.PLANE]
    assert [cell(table, n, Column.UNCERTAINTY) for n in range(4)] == ["", "0.75", "", ""]
    table.set_view(view_of({(1,): found("ab", scores=(0.5, 0.6))}, (3, *HW)))
    assert hidden() == [Column.UNCERTAINTY]


def test_rows_are_of_all_planes_and_a_plane_is_a_word(table: InstanceTable) -> None:
    stack = view_of(
        {(0, 10): found("ab", scores=(0.5, 0.6)), (0, 2): found("c", scores=(0.7,))}, (1, 11, *HW)
    )
    table.set_view(stack)
    assert table.shown_refs() == [((0, 2), "c"), ((0, 10), "a"), ((0, 10), "b")]
    assert [cell(table, n, Column.PLANE) for n in range(3)] == ["0, 2", "0, 10", "0, 10"]
    sort(table, Column.PLANE, descending=True)
    assert names(table) == "abc"
    set_filter(table, "z == 10")
    assert names(table) == "ab"


def test_filter_columns_are_those_of_the_attribute_table(view: InstanceLayers) -> None:
    change(view, "b", state=InstanceState.ACCEPTED)
    rows = InstanceRows()
    rows.set_session(view.session)
    expected = attribute_table(view.session.visible(()), uncertainty=np.full(4, np.nan))
    pd.testing.assert_frame_equal(
        rows.table(), expected, check_categorical=False, check_dtype=False
    )
    assert list(rows.table()["category"].cat.categories) == ["nucleus", "debris"]


def test_swatch_has_the_colour_on_the_canvas(table: InstanceTable, view: InstanceLayers) -> None:
    color_layers(view, ColorBy.CATEGORY)
    swatches = [cell(table, n, Column.HANDLE, Qt.ItemDataRole.DecorationRole) for n in (0, 1)]
    assert [swatch.name() for swatch in swatches] == ["#56b4e9", "#e69f00"]
    state = cell(table, 0, Column.STATE, Qt.ItemDataRole.DecorationRole)
    assert state == QColor("#56b4e9")


def test_no_instance_is_no_row(table: InstanceTable) -> None:
    table.set_view(view_of({}))
    assert table.shown_refs() == []
    assert count(table) == "no instances"
    sort(table, Column.PLANE)
    sort(table, Column.CATEGORY)
    set_filter(table, "score > 0.5")
    table.select(refs("a"))
    assert table.selected_refs() == []


# -- sorting --------------------------------------------------------------------------------------


def test_click_on_a_header_sorts_and_a_second_one_turns_it(
    table: InstanceTable, qtbot: Any
) -> None:
    header = rows_of(table).horizontalHeader()
    at = COLUMNS.index(Column.SCORE)
    place = QPoint(header.sectionViewportPosition(at) + 10, header.height() // 2)
    orders = []
    for _ in range(2):
        qtbot.mouseClick(header.viewport(), Qt.MouseButton.LeftButton, pos=place)
        orders.append(names(table))
    assert set(orders) == {"bdca", "acbd"}
    assert table.selected_refs() == []


def test_equal_rows_keep_the_order_of_the_click_before(table: InstanceTable) -> None:
    sort(table, Column.AREA, descending=True)
    assert names(table) == "dcba"
    sort(table, Column.CATEGORY)
    # debris before nucleus, the larger one first in each
    assert names(table) == "dbca"


def test_unknown_numbers_come_last_either_way(
    table: InstanceTable, view: InstanceLayers, qtbot: Any
) -> None:
    change(view, "a", score=float("nan"), state=InstanceState.DRAWN)
    qtbot.waitUntil(lambda: cell(table, 0, Column.SCORE) == "")
    sort(table, Column.SCORE)
    assert names(table) == "bdca"
    sort(table, Column.SCORE, descending=True)
    assert names(table) == "cbda"


def test_states_sort_in_the_order_of_a_review(
    table: InstanceTable, view: InstanceLayers, qtbot: Any
) -> None:
    change(view, "a", state=InstanceState.UNSURE)
    change(view, "b", state=InstanceState.ACCEPTED)
    sort(table, Column.STATE)
    qtbot.waitUntil(lambda: names(table) == "cdba")


# -- filter ---------------------------------------------------------------------------------------


def test_filter_keeps_what_fits_in_order(table: InstanceTable) -> None:
    sort(table, Column.SCORE, descending=True)
    set_filter(table, "score < 0.7 and area > 4")
    assert names(table) == "cd"
    assert count(table) == "2 of 4"
    set_filter(table, "")
    assert names(table) == "acbd"


def test_filter_is_used_when_the_typing_stops(table: InstanceTable, qtbot: Any) -> None:
    qtbot.keyClicks(part(table, QLineEdit, "filter"), "area > 6")
    qtbot.waitUntil(lambda: names(table) == "d")


def test_wrong_filter_is_told_and_changes_no_row(table: InstanceTable) -> None:
    set_filter(table, "area > 4")
    set_filter(table, "aera > 4")
    error = part(table, QLabel, "filter_error")
    assert error.isVisible()
    assert "unknown word 'aera'" in error.text()
    assert names(table) == "cd"
    set_filter(table, "area > 6")
    assert not error.isVisible()


def test_filter_for_another_image_is_given_up_and_told(table: InstanceTable) -> None:
    table.set_view(view_of({(1,): found("ab", scores=(0.5, 0.6))}, (3, *HW)))
    set_filter(table, "z == 0")
    assert names(table) == ""
    table.set_view(view_of({(): found("ab", scores=(0.5, 0.6))}))
    assert names(table) == "ab"
    assert "unknown word 'z'" in part(table, QLabel, "filter_error").text()


def test_rejected_ones_have_rows_on_demand(
    table: InstanceTable, view: InstanceLayers, qtbot: Any
) -> None:
    change(view, "b", state=InstanceState.REJECTED)
    qtbot.waitUntil(lambda: names(table) == "acd")
    part(table, QCheckBox, "rejected").setChecked(True)
    assert names(table) == "abcd"
    assert cell(table, 1, Column.STATE) == "rejected"
    set_filter(table, "state == rejected")
    assert names(table) == "b"


# -- selecting ------------------------------------------------------------------------------------


def test_person_selects_rows_and_is_heard(table: InstanceTable, qtbot: Any) -> None:
    heard: list[Any] = []
    table.selected.connect(heard.append)
    rows = rows_of(table)
    for row, modifier in (
        (1, Qt.KeyboardModifier.NoModifier),
        (3, Qt.KeyboardModifier.ShiftModifier),
    ):
        place = rows.visualRect(rows.model().index(row, 1)).center()
        qtbot.mouseClick(rows.viewport(), Qt.MouseButton.LeftButton, modifier, place)
    assert heard == [refs("b"), refs("bcd")]
    assert chosen(table) == "bcd"
    assert count(table) == "4 of 4 · 3 selected"


def test_select_all_selects_what_the_filter_shows(table: InstanceTable) -> None:
    set_filter(table, "area > 4")
    rows_of(table).selectAll()
    assert chosen(table) == "cd"


def test_selection_from_the_canvas_is_silent(table: InstanceTable) -> None:
    heard: list[Any] = []
    table.selected.connect(heard.append)
    table.select(refs("ca"))
    assert chosen(table) == "ac"
    assert table.selected_refs() == refs("ac")
    assert count(table) == "4 of 4 · 2 selected"
    table.select([*refs("d"), ((), "nobody")])
    assert chosen(table) == "d"
    table.select([])
    assert chosen(table) == ""
    assert heard == []


def test_selection_from_the_canvas_scrolls_there(table: InstanceTable) -> None:
    table.set_view(view_of({(): copies(200)}))
    rows = rows_of(table)
    table.select([((), "u150")])
    top, bottom = rows.rowAt(0), rows.rowAt(rows.viewport().height() - 1)
    assert top <= 150 <= bottom
    assert top > 0
    rows.verticalScrollBar().setValue(0)
    table.select([((), "u150"), ((), "u160")])
    assert rows.rowAt(0) == top


@pytest.mark.parametrize("key", [Qt.Key.Key_Return, Qt.Key.Key_Enter])
def test_enter_goes_to_the_current_instance(table: InstanceTable, qtbot: Any, key: Any) -> None:
    rows = rows_of(table)
    rows.selectRow(2)
    with qtbot.waitSignal(table.activated) as heard:
        qtbot.keyClick(rows, key)
    assert heard.args == [((), "c")]


def test_double_click_goes_to_the_instance(table: InstanceTable, qtbot: Any) -> None:
    rows = rows_of(table)
    place = rows.visualRect(rows.model().index(1, 1)).center()
    qtbot.mouseClick(rows.viewport(), Qt.MouseButton.LeftButton, pos=place)
    with qtbot.waitSignal(table.activated) as heard:
        qtbot.mouseDClick(rows.viewport(), Qt.MouseButton.LeftButton, pos=place)
    assert heard.args == [((), "b")]


def test_letters_are_left_to_the_window(table: InstanceTable, qtbot: Any) -> None:
    keys: list[str] = []

    class Parent(QWidget):
        def keyPressEvent(self, event: Any) -> None:
            keys.append(event.text())

    parent = Parent()
    qtbot.addWidget(parent)
    table.setParent(parent)
    qtbot.keyClicks(rows_of(table), "nG")
    assert keys == ["n", "G"]
    assert chosen(table) == ""
    table.setParent(None)


# -- following the session ------------------------------------------------------------------------


def test_change_renews_its_row_alone(
    table: InstanceTable, view: InstanceLayers, qtbot: Any
) -> None:
    drawn: list[tuple[int, int]] = []
    resets: list[int] = []
    model = rows_of(table).model()
    model.dataChanged.connect(lambda a, b: drawn.append((a.row(), b.row())))
    model.modelReset.connect(lambda: resets.append(1))
    for state in (InstanceState.UNSURE, InstanceState.ACCEPTED):
        change(view, "c", state=state, category_id=2)
    qtbot.waitUntil(lambda: bool(drawn))
    assert (drawn, resets) == ([(2, 2)], [])
    assert cell(table, 2, Column.STATE) == "accepted"
    assert cell(table, 2, Column.CATEGORY) == "debris"


def test_settled_instance_is_uncertain_no_more(
    table: InstanceTable, view: InstanceLayers, qtbot: Any
) -> None:
    table.set_uncertainties({((), "a"): 0.5, ((), "b"): 0.25})
    change(view, "a", state=InstanceState.ACCEPTED)
    qtbot.waitUntil(lambda: cell(table, 0, Column.UNCERTAINTY) == "0.00")
    assert cell(table, 1, Column.UNCERTAINTY) == "0.25"


def test_row_that_no_longer_fits_goes_and_the_selection_stays(
    table: InstanceTable, view: InstanceLayers, qtbot: Any
) -> None:
    heard: list[Any] = []
    table.selected.connect(heard.append)
    set_filter(table, "state == unreviewed")
    table.select(refs("bd"))
    change(view, "c", state=InstanceState.ACCEPTED)
    qtbot.waitUntil(lambda: names(table) == "abd")
    assert chosen(table) == "bd"
    selection = rows_of(table).selectionModel()
    assert sorted(index.row() for index in selection.selectedRows()) == [1, 2]
    assert heard == []


def test_new_and_deleted_instances_come_and_go_with_undo(
    table: InstanceTable, view: InstanceLayers, qtbot: Any
) -> None:
    before = view.session.get((), "b")
    view.session.apply(
        Action(name="delete", changes=(Change(index=(), before=before, after=None),))
    )
    qtbot.waitUntil(lambda: names(table) == "acd")
    view.undo()
    qtbot.waitUntil(lambda: names(table) == "abcd")
    assert [cell(table, n, Column.HANDLE) for n in range(4)] == ["1", "2", "3", "4"]
    assert count(table) == "4 of 4"


def add(view: InstanceLayers, uuids: str) -> None:
    template = view.session.get((), "a")
    assert template is not None
    for uuid in uuids:
        drawn = replace(template, uuid=uuid, handle=view.session.next_handle)
        view.session.apply(
            Action(name="draw", changes=(Change(index=(), before=None, after=drawn),))
        )


def test_new_instance_selected_before_its_row_is_there_is_selected_then(
    table: InstanceTable, view: InstanceLayers, qtbot: Any
) -> None:
    heard: list[Any] = []
    table.selected.connect(heard.append)
    add(view, "e")
    table.select(refs("e"))
    assert chosen(table) == ""
    qtbot.waitUntil(lambda: names(table) == "abcde")
    assert chosen(table) == "e"
    assert [i.row() for i in rows_of(table).selectionModel().selectedRows()] == [4]
    assert count(table) == "5 of 5 · 1 selected"
    assert heard == []
    add(view, "f")
    rows_of(table).selectRow(0)
    qtbot.waitUntil(lambda: names(table) == "abcdef")
    assert chosen(table) == "a"


def test_new_instance_that_is_selected_is_scrolled_to(table: InstanceTable, qtbot: Any) -> None:
    view = view_of({(): copies(200)})
    table.set_view(view)
    before = view.session.get((), "u000")
    assert before is not None
    new = replace(before, uuid="new", handle=view.session.next_handle)
    view.session.apply(Action(name="draw", changes=(Change(index=(), before=None, after=new),)))
    table.select([((), "new")])
    qtbot.waitUntil(lambda: len(table.shown_refs()) == 201)
    rows = rows_of(table)
    assert rows.rowAt(rows.viewport().height() - 1) == 200


def test_selection_of_the_image_before_is_forgotten(
    table: InstanceTable, view: InstanceLayers
) -> None:
    table.select(refs("b"))
    table.set_view(None)
    table.set_view(view)
    assert chosen(table) == ""


def test_rows_are_in_the_order_of_handles_after_undo_and_redo(
    table: InstanceTable, qtbot: Any
) -> None:
    view = view_of({(): copies(40)})
    table.set_view(view)
    first = names(table)
    gone = tuple(
        Change(index=(), before=view.session.get((), f"u{n:03}"), after=None) for n in range(30)
    )
    view.session.apply(Action(name="delete", changes=gone))
    qtbot.waitUntil(lambda: len(table.shown_refs()) == 10)
    view.undo()
    qtbot.waitUntil(lambda: len(table.shown_refs()) == 40)
    assert names(table) == first
    assert [cell(table, n, Column.HANDLE) for n in range(40)] == [str(n + 1) for n in range(40)]
    sort(table, Column.CATEGORY)
    assert names(table) == first


def test_state_column_has_room_for_its_longest_word(table: InstanceTable) -> None:
    rows = rows_of(table)
    column = COLUMNS.index(Column.STATE)
    assert rows.columnWidth(column) >= rows.sizeHintForColumn(column)


def test_score_hides_and_brings_back_rows(
    table: InstanceTable, view: InstanceLayers, qtbot: Any
) -> None:
    table.select(refs("c"))
    view.session.set_visibility(score=0.5, min_area=1)
    qtbot.waitUntil(lambda: names(table) == "ac")
    assert chosen(table) == "c"
    view.session.set_visibility(score=0.0, min_area=1)
    qtbot.waitUntil(lambda: names(table) == "abcd")


def test_scroll_place_stays_when_rows_come_and_go(qtbot: Any, table: InstanceTable) -> None:
    view = view_of({(): copies(300)})
    table.set_view(view)
    bar = rows_of(table).verticalScrollBar()
    table.select([((), "u200")])
    bar.setValue(123)
    change(view, "u250", state=InstanceState.REJECTED)
    qtbot.waitUntil(lambda: len(table.shown_refs()) == 299)
    assert bar.value() == 123
    view.session.set_visibility(score=0.1, min_area=1)
    qtbot.waitUntil(lambda: len(table.shown_refs()) < 299)
    assert bar.value() == 123


def test_many_changes_at_once_are_all_shown(qtbot: Any, table: InstanceTable) -> None:
    view = view_of({(): copies(300)})
    table.set_view(view)
    changes = tuple(
        Change(index=(), before=i, after=replace(i, state=InstanceState.ACCEPTED))
        for i in view.session.visible(())
    )
    view.session.apply(Action(name="accept", changes=changes))
    set_filter(table, "")
    qtbot.waitUntil(lambda: cell(table, 299, Column.STATE) == "accepted")
    assert cell(table, 0, Column.STATE) == "accepted"


# -- letting go -----------------------------------------------------------------------------------


def slots_of(view: InstanceLayers) -> list[int]:
    session = view.session
    return [
        len(signal)
        for signal in (
            session.changed,
            session.visibility_changed,
            session.categories_changed,
            view.layer_added,
        )
    ]


def test_another_image_lets_go_of_the_first(qtbot: Any, view: InstanceLayers) -> None:
    before = slots_of(view)
    colormap = len(view.labels_layers[0].events.colormap.callbacks)
    table = InstanceTable()
    qtbot.addWidget(table)
    table.set_view(view)
    assert slots_of(view) == [n + 1 for n in before]
    table.set_view(view_of({(): found("ab", scores=(0.5, 0.6))}))
    assert slots_of(view) == before
    assert len(view.labels_layers[0].events.colormap.callbacks) == colormap
    change(view, "a", state=InstanceState.ACCEPTED)
    assert names(table) == "ab"
    table.set_view(None)
    assert table.shown_refs() == []


def test_closed_or_deleted_table_lets_go(qtbot: Any, view: InstanceLayers) -> None:
    before = slots_of(view)
    closed = InstanceTable()
    qtbot.addWidget(closed)
    closed.set_view(view)
    closed.close()
    assert slots_of(view) == before
    parent = QWidget()
    child = InstanceTable(parent)
    child.set_view(view)
    with qtbot.waitSignal(child.destroyed):
        parent.deleteLater()
    assert slots_of(view) == before
    change(view, "a", state=InstanceState.ACCEPTED)


@pytest.mark.usefixtures("qtbot")
def test_dropped_table_is_not_kept_alive(view: InstanceLayers) -> None:
    table = InstanceTable()
    table.set_view(view)
    alive = weakref.ref(table)
    del table
    gc.collect()
    assert alive() is None


def test_header_does_not_follow_the_selection_which_costs_time_for_each_row(
    table: InstanceTable,
) -> None:
    header = rows_of(table).horizontalHeader()
    rows_of(table).selectAll()
    assert isinstance(header.selectionModel(), QItemSelectionModel)
    assert not header.selectionModel().hasSelection()
    assert chosen(table) == "abcd"
