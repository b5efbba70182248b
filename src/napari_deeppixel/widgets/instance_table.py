"""The table of all instances of an image: sort, filter, select."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray
from qtpy.QtCore import QItemSelection, QItemSelectionModel, QModelIndex, QSize, Qt, Signal
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from napari_deeppixel.edits.draft import InstanceRef
from napari_deeppixel.edits.filter import FilterError, matching
from napari_deeppixel.edits.session import Applied
from napari_deeppixel.viewer.layers import InstanceLayers
from napari_deeppixel.viewer.read_layer import lead_axis_letters
from napari_deeppixel.widgets.controls import RED, Note, named, single_shot
from napari_deeppixel.widgets.instance_model import HEADERS, InstanceModel
from napari_deeppixel.widgets.instance_rows import COLUMNS, Column
from napari_deeppixel.widgets.links import Links

_RENEW_MS = 30
_FILTER_MS = 250
_ROW_HEIGHT, _SWATCH = 22, 12
# more are drawn anew with the whole table
_MAX_SINGLE_ROWS = 200


class InstanceTable(QWidget):
    """All instances of an image, on all its planes.

    Signals
    -------
    selected
        What a person selected in the table, plane index and uuid each.
    activated
        The instance that was double-clicked, or on which Enter was pressed.
    """

    selected = Signal(object)
    activated = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._view: InstanceLayers | None = None
        self._links = Links()
        self.destroyed.connect(self._links.close)
        self._touched: dict[InstanceRef, None] = {}
        # what is to be selected, as soon as there are rows for it
        self._wanted: list[InstanceRef] = []
        # places of the selected rows, sorted: Qt takes long to tell
        self._chosen: NDArray[np.int64] = np.zeros(0, np.int64)
        self._is_following = False
        self._condition = ""
        self._renew_timer = single_shot(self, _RENEW_MS, self._renew_touched)
        self._fill_timer = single_shot(self, _RENEW_MS, self._fill)
        self._filter_timer = single_shot(self, _FILTER_MS, self._on_filter)
        self._build()
        self._connect()

    # -- building -----------------------------------------------------------------------------

    def _build(self) -> None:
        self._model = InstanceModel(self)
        self._table = named(_Table(), "table.rows")
        self._table.show_model(self._model)
        for position, column in enumerate(COLUMNS):
            self._table.setColumnWidth(position, HEADERS[column][2])
        header = self._table.horizontalHeader()
        if header is not None:
            # what a person looks for first is in sight in a narrow dock, too
            header.moveSection(COLUMNS.index(Column.STATE), 1)
            header.moveSection(header.visualIndex(COLUMNS.index(Column.CATEGORY)), 4)
        self._filter = named(QLineEdit(), "table.filter", _filter_help(""))
        self._filter.setPlaceholderText("score < 0.6 and area > 50")
        self._filter.setClearButtonEnabled(True)
        self._error = Note("table.filter_error", color=RED)
        self._count = named(QLabel(), "table.count")
        self._rejected = named(
            QCheckBox("rejected too"), "table.rejected", "Show instances that were rejected."
        )
        foot = QHBoxLayout()
        foot.addWidget(self._count, 1)
        foot.addWidget(self._rejected)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self._filter)
        layout.addWidget(self._error)
        layout.addWidget(self._table, 1)
        layout.addLayout(foot)
        self._show_columns()
        self._show_count()

    def _connect(self) -> None:
        self._model.sort_changed.connect(self._arrange)
        self._selection().selectionChanged.connect(self._on_selection)
        self._table.doubleClicked.connect(self._on_activated)
        self._table.entered_row.connect(self._on_activated)
        self._filter.textChanged.connect(self._filter_timer.start)
        self._filter.returnPressed.connect(self._on_filter)
        self._rejected.toggled.connect(self._on_rejected)

    def _selection(self) -> QItemSelectionModel:
        selection = self._table.selectionModel()
        assert selection is not None  # there is a model
        return selection

    # -- which image --------------------------------------------------------------------------

    def set_view(self, view: InstanceLayers | None) -> None:
        """Show the instances of an image; None: of none."""
        self._links.close()
        self._renew_timer.stop()
        self._fill_timer.stop()
        self._touched.clear()
        # what still waits for a row is of the image before
        self._wanted = self.selected_refs()
        self._view = view
        axes = ""
        if view is not None:
            letters = lead_axis_letters(view.image)
            axes = "".join(a for n, a in enumerate(letters) if n != view.channel_axis)
            for signal, slot in (
                (view.session.changed, self._on_changed),
                (view.session.visibility_changed, self._on_visibility),
                (view.session.categories_changed, self._on_visibility),
                (view.layer_added, self._on_layer_added),
            ):
                self._links.connect(signal, slot)
            for layer in view.labels_layers:
                self._links.connect(layer.events.colormap, self._on_colors)
        self._follow_labels()
        with self._rows_replaced():
            self._model.rows.set_session(None if view is None else view.session, axes=axes)
        self._filter.setToolTip(_filter_help(axes))
        self._show_columns()

    def closeEvent(self, event: Any) -> None:
        """Let go of the session."""
        self.set_view(None)
        super().closeEvent(event)

    def set_uncertainties(self, values: Mapping[InstanceRef, float]) -> None:
        """Show the uncertainty (0 to 1) of instances, as far as it is known; {}: hide the column.

        What a person settles later has 0.
        """
        self._model.rows.set_uncertainties(values)
        self._show_columns()
        self._arrange()

    def _show_columns(self) -> None:
        rows = self._model.rows
        self._table.setColumnHidden(COLUMNS.index(Column.UNCERTAINTY), not rows.has_uncertainties)
        self._table.setColumnHidden(COLUMNS.index(Column.PLANE), not rows.axes)

    # -- following the session ----------------------------------------------------------------

    def _on_changed(self, applied: Applied) -> None:
        self._touched |= {(change.index, change.uuid): None for change in applied.action.changes}
        if self._touched:
            self._renew_timer.start()

    def _on_visibility(self, _what: object) -> None:
        self._fill_timer.start()

    def _on_layer_added(self, layer: Any) -> None:
        if isinstance(layer, Labels):
            self._links.connect(layer.events.colormap, self._on_colors)
            self._follow_labels()

    def _follow_labels(self) -> None:
        layers = [] if self._view is None else self._view.labels_layers
        self._model.labels = layers[0] if layers else None

    def _on_colors(self) -> None:
        viewport = self._table.viewport()
        if viewport is not None:
            viewport.update()

    def _fill(self) -> None:
        self._touched.clear()
        with self._rows_replaced():
            self._model.rows.fill()

    def _renew_touched(self) -> None:
        touched, self._touched = self._touched, {}
        if len(touched) > _MAX_SINGLE_ROWS:
            self._fill()
            return
        changed = self._model.rows.renew(touched)
        order = self._order()
        if changed is not None and np.array_equal(order, self._model.order):
            self._draw_rows(changed)
            return
        with self._rows_replaced():
            self._model.order = order

    def _draw_rows(self, rows: NDArray[np.int64]) -> None:
        model = self._model
        refs = [model.rows.refs[row] for row in rows.tolist()]
        for place in model.positions_of(refs).tolist():
            model.dataChanged.emit(model.index(place, 0), model.index(place, len(COLUMNS) - 1))

    def _arrange(self) -> None:
        """Sort and filter anew."""
        order = self._order()
        if np.array_equal(order, self._model.order):
            self._on_colors()
            return
        with self._rows_replaced():
            self._model.order = order

    @contextmanager
    def _rows_replaced(self) -> Iterator[None]:
        """Let the rows be replaced, and put selection, current row and scroll place back.

        Where no selected instance had a row, the first that has one now is scrolled to.
        """
        model, table = self._model, self._table
        bar = table.verticalScrollBar()
        assert bar is not None  # a table view has one
        scrolled, had_rows = bar.value(), len(self._chosen) > 0
        model.beginResetModel()
        try:
            yield
        finally:
            model.order = self._order()
            model.endResetModel()
        self._select_quietly(model.positions_of(self._wanted))
        # a current row out of sight was scrolled to
        bar.setValue(scrolled)
        if not had_rows:
            self._scroll_to_first()
        self._show_count()

    # -- sorting and filtering ----------------------------------------------------------------

    def _order(self) -> NDArray[np.int64]:
        rows = self._model.rows
        try:
            is_chosen = matching(rows.table(), self._condition) if self._condition else None
        except FilterError as error:
            # it was one for another image: its category is not known in this one
            self._error.say(str(error))
            self._condition, is_chosen = "", None
        if is_chosen is None:
            is_chosen = np.ones(len(rows), np.bool_)
        return rows.order(is_chosen, self._model.sort_by)

    def _on_filter(self) -> None:
        self._filter_timer.stop()
        condition = self._filter.text().strip()
        try:
            matching(self._model.rows.table(), condition)
        except FilterError as error:
            kept = f"\nThe table still shows: {self._condition}" if self._condition else ""
            self._error.say(f"{error}{kept}")
            return
        self._error.say("")
        self._condition = condition
        self._arrange()

    def _on_rejected(self, is_checked: bool) -> None:
        self._model.rows.with_rejected = is_checked
        self._fill()

    def shown_refs(self) -> list[InstanceRef]:
        """Return all instances that pass the filter, in the table's order."""
        return self._model.refs_at(np.arange(len(self._model.order)))

    # -- selecting ----------------------------------------------------------------------------

    def selected_refs(self) -> list[InstanceRef]:
        """Return the selected instances, in the table's order."""
        return self._model.refs_at(self._chosen)

    def select(self, refs: Iterable[InstanceRef]) -> None:
        """Select instances and scroll to the first; nothing is emitted.

        One that has no row yet is selected when its row comes.
        """
        self._wanted = list(refs)
        positions = self._model.positions_of(self._wanted)
        if np.array_equal(positions, self._chosen):
            return
        self._select_quietly(positions)
        self._scroll_to_first()
        self._show_count()

    def _scroll_to_first(self) -> None:
        if len(self._chosen):
            first = self._model.index(int(self._chosen[0]), 0)
            self._table.scrollTo(first, QAbstractItemView.ScrollHint.EnsureVisible)

    def _select_quietly(self, positions: NDArray[np.int64]) -> None:
        model = self._model
        self._chosen = positions
        flags = QItemSelectionModel.SelectionFlag
        self._is_following = True
        try:
            self._selection().select(model.selection_at(positions), flags.ClearAndSelect)
            if len(positions):
                self._selection().setCurrentIndex(model.index(int(positions[0]), 0), flags.NoUpdate)
        finally:
            self._is_following = False

    def _on_selection(self, *_what: QItemSelection) -> None:
        if self._is_following:
            return
        self._chosen = self._model.positions_in(self._selection().selection())
        self._wanted = self.selected_refs()
        self._show_count()
        self.selected.emit(list(self._wanted))

    def _on_activated(self, index: QModelIndex) -> None:
        if index.isValid():
            self.activated.emit(self._model.refs_at(np.array([index.row()]))[0])

    def _show_count(self) -> None:
        shown, total = len(self._model.order), len(self._model.rows)
        chosen = len(self._chosen)
        text = f"{shown:,} of {total:,}" if total else "no instances"
        if "rejected" in self._condition and not self._model.rows.with_rejected:
            text += " without rejected ones"
        self._count.setText(f"{text} · {chosen:,} selected" if chosen else text)


class _Table(QTableView):
    """A table view that leaves letters to the window's keys."""

    entered_row = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setMinimumHeight(8 * _ROW_HEIGHT)
        self.setIconSize(QSize(_SWATCH, _SWATCH))
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        rows, columns = self.verticalHeader(), self.horizontalHeader()
        assert rows is not None  # a table view has both
        assert columns is not None
        rows.hide()
        # one height for all: Qt would else ask for that of each row
        rows.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        rows.setDefaultSectionSize(_ROW_HEIGHT)
        columns.setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        columns.setStretchLastSection(True)
        columns.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)

    def show_model(self, model: InstanceModel) -> None:
        """Show the rows of a model, sorted by clicks on the header."""
        self.setModel(model)
        self.setSortingEnabled(True)
        columns = self.horizontalHeader()
        assert columns is not None  # a table view has one
        # The header asks of each column whether all of it is selected, row by row: 150 ms after
        # each selection of 10,000. An empty selection of its own answers at once.
        columns.setSelectionModel(QItemSelectionModel(model, self))

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Tell of Enter; leave letters to the window, where they are keys of the review."""
        if event is None:
            return
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.entered_row.emit(self.currentIndex())
        elif event.text().isalpha() and event.modifiers() in _PLAIN:
            event.ignore()
        else:
            super().keyPressEvent(event)


_PLAIN = (Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.ShiftModifier)


def _filter_help(axes: str) -> str:
    words = ["handle", "category", "score", "area", "width", "height", "state", "source"]
    words += ["uncertainty", "x", "y", "reviewed", *axes]
    return (
        "Show only the instances for which this is true.\n"
        f"Words: {', '.join(words)}.\n"
        "For example: score < 0.6 and area > 50 · state == unreviewed · category in [nucleus]"
    )
