"""The rows of the instance table as Qt asks for them."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray
from qtpy.QtCore import QAbstractTableModel, QItemSelection, QModelIndex, QObject, Qt, Signal
from qtpy.QtGui import QColor

from napari_deeppixel.core.instance import InstanceState
from napari_deeppixel.edits.draft import InstanceRef
from napari_deeppixel.viewer.colors import state_colors
from napari_deeppixel.widgets.instance_rows import COLUMNS, Column, InstanceRows

# of a header click before the newest that still counts among equals
_MAX_SORT_KEYS = 3
# caption, tooltip, width in pixels
HEADERS = {
    Column.HANDLE: ("#", "Number in the Labels layer, and the colour there.", 46),
    Column.CATEGORY: ("Category", "What it is.", 72),
    Column.SCORE: ("Score", "How sure the model is (0 to 1); none where a person drew.", 44),
    Column.AREA: ("Area px", "Pixels of the mask.", 58),
    Column.STATE: ("State", "What a person has said about it.", 100),
    Column.UNCERTAINTY: ("Uncertain", "How much it needs a look (0 to 1).", 68),
    Column.PLANE: ("Plane", "Where it lies in the image's other axes.", 52),
    Column.SOURCE: ("Source", "The model or person it is from.", 80),
}
_NUMBERS = frozenset({Column.HANDLE, Column.SCORE, Column.AREA, Column.UNCERTAINTY})


class InstanceModel(QAbstractTableModel):
    """Rows of the table in the order in which they are shown.

    Signals
    -------
    sort_changed
        `sort_by` is another one: whoever holds the filter puts the rows in order.
    """

    sort_changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.rows = InstanceRows()
        self.order: NDArray[np.int64] = np.zeros(0, np.int64)
        self.sort_by: list[tuple[Column, bool]] = []
        self.labels: Labels | None = None
        self._state_colors = {state: QColor(color) for state, color in state_colors().items()}

    def rowCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802  Qt's name
        """Return how many rows pass the filter."""
        return 0 if parent is not None and parent.isValid() else len(self.order)

    def columnCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802  Qt's name
        """Return how many columns there are, hidden ones too."""
        return 0 if parent is not None and parent.isValid() else len(COLUMNS)

    def headerData(  # noqa: N802  Qt's name
        self,
        section: int,
        orientation: Qt.Orientation,
        role: int = Qt.ItemDataRole.DisplayRole,
    ) -> Any:
        """Return caption or tooltip of a column."""
        if orientation is not Qt.Orientation.Horizontal:
            return None
        column = COLUMNS[section]
        caption, tooltip, _ = HEADERS[column]
        if column is Column.PLANE and self.rows.axes:
            caption = ", ".join(self.rows.axes)
        return {
            Qt.ItemDataRole.DisplayRole: caption,
            Qt.ItemDataRole.ToolTipRole: tooltip,
        }.get(Qt.ItemDataRole(role))

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return text, colour or alignment of a cell."""
        if not index.isValid():
            return None
        row, column = int(self.order[index.row()]), COLUMNS[index.column()]
        match role:
            case Qt.ItemDataRole.DisplayRole:
                return _text(self.rows.value(row, column), column)
            case Qt.ItemDataRole.ToolTipRole if column is Column.SOURCE:
                return str(self.rows.value(row, column))
            case Qt.ItemDataRole.DecorationRole if column is Column.HANDLE:
                return self._swatch(int(self.rows.value(row, column)))
            case Qt.ItemDataRole.DecorationRole if column is Column.STATE:
                return self._state_colors[self.rows.value(row, column)]
            case Qt.ItemDataRole.TextAlignmentRole if column in _NUMBERS:
                return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
            case Qt.ItemDataRole.ForegroundRole:
                is_rejected = self.rows.value(row, Column.STATE) is InstanceState.REJECTED
                return QColor(Qt.GlobalColor.gray) if is_rejected else None
        return None

    def _swatch(self, handle: int) -> QColor | None:
        if self.labels is None or not handle:
            return None
        color = self.labels.get_color(handle)
        # hidden on the canvas
        if color is None or not color[3]:
            return None
        return QColor.fromRgbF(*(float(channel) for channel in color[:3]))

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Sort by a column; among equals, the columns clicked before count. -1: by none."""
        if column < 0:
            self.sort_by = []
        else:
            chosen = COLUMNS[column]
            older = [key for key in self.sort_by if key[0] is not chosen]
            is_descending = order is Qt.SortOrder.DescendingOrder
            self.sort_by = [(chosen, is_descending), *older][:_MAX_SORT_KEYS]
        self.sort_changed.emit()

    def refs_at(self, positions: NDArray[np.int64]) -> list[InstanceRef]:
        """Return the instances at some places of the table."""
        refs = self.rows.refs
        return [refs[row] for row in self.order[positions].tolist()]

    def positions_of(self, refs: Iterable[InstanceRef]) -> NDArray[np.int64]:
        """Return the places of instances, sorted; those that the filter hides are left out."""
        found = [row for row in map(self.rows.row_of, refs) if row is not None]
        is_wanted = np.zeros(len(self.rows), np.bool_)
        is_wanted[found] = True
        return np.flatnonzero(is_wanted[self.order])

    def selection_at(self, positions: NDArray[np.int64]) -> QItemSelection:
        """Return a selection of whole rows at sorted places, one range for each run."""
        selection, last = QItemSelection(), len(COLUMNS) - 1
        ends = np.flatnonzero(np.diff(positions, append=-1) != 1)
        starts = np.append(0, ends[:-1] + 1)[: len(ends)]
        for top, bottom in zip(positions[starts].tolist(), positions[ends].tolist(), strict=True):
            # `index` would ask Python for the size of the table each time
            selection.select(self.createIndex(top, 0), self.createIndex(bottom, last))
        return selection

    def positions_in(self, selection: QItemSelection) -> NDArray[np.int64]:
        """Return the places of selected rows, sorted."""
        is_selected = np.zeros(len(self.order), np.bool_)
        for number in range(selection.count()):
            run = selection[number]
            is_selected[run.top() : run.bottom() + 1] = True
        return np.flatnonzero(is_selected)


def _text(value: Any, column: Column) -> str:
    match column:
        case Column.SCORE | Column.UNCERTAINTY:
            return "" if np.isnan(value) else f"{value:.2f}"
        case Column.HANDLE:
            return str(value) if value else ""
        case Column.AREA:
            return f"{value:,}"
        case Column.PLANE:
            return ", ".join(map(str, value))
        case Column.SOURCE:
            return source_name(str(value))
    return str(value)


def source_name(source: str) -> str:
    """Return who made an instance, without the hash of the weights, which a tooltip may show."""
    return " + ".join(part.split("@")[0] for part in source.split("+"))
