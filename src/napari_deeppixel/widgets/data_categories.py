"""The categories of a dataset: add, rename, colour, key, merge, remove."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QAbstractItemView,
    QColorDialog,
    QGridLayout,
    QHeaderView,
    QInputDialog,
    QMessageBox,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QWidget,
)

from napari_deeppixel.core.category import Category, CategoryTable
from napari_deeppixel.core.progress import CancelToken
from napari_deeppixel.dataset.image_entry import ImageEntry
from napari_deeppixel.dataset.store import Dataset
from napari_deeppixel.widgets.controls import button, named
from napari_deeppixel.widgets.worker import ReportProgress, Work

_NAME, _KEY, _COUNT = range(3)
_ROW_PX, _MAX_ROWS = 26, 6


class CategoriesPanel(QWidget):
    """Shows the categories of a dataset and how often each is used.

    Signals
    -------
    change_wanted
        Caption and `Work` of a change of names or colours.
    merge_wanted
        Caption and `Work` of a change that writes annotation files anew.
    """

    change_wanted = Signal(str, object)
    merge_wanted = Signal(str, object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._dataset: Dataset | None = None
        self._table = CategoryTable(categories=())
        self._counts, self._num_images = Counter[int](), Counter[int]()
        self._shown: object = None
        self.table = named(
            QTableWidget(0, 3), "data.categories", "Double-click a name or a key to change it."
        )
        self.table.setHorizontalHeaderLabels(["Name", "Key", "Instances"])
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self._set_up_headers()
        self.table.itemChanged.connect(self._on_edited)
        self.table.itemSelectionChanged.connect(self._enable)
        self._buttons: list[QPushButton] = []
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.addWidget(self.table, 0, 0, 1, 4)
        for column, (text, name, tooltip, slot) in enumerate(
            (
                ("Add…", "add", "Add a category.", self.choose_new),
                ("Colour…", "color", "Choose another colour.", self.choose_color),
                ("Merge…", "merge", "Make one category of two; asks first.", self.choose_merge),
                ("Remove", "remove", "Remove a category that nothing uses.", self.remove),
            )
        ):
            each = button(text, f"data.category_{name}", tooltip)
            each.clicked.connect(lambda _checked=False, slot=slot: slot())
            each.setMinimumWidth(20)
            grid.addWidget(each, 1, column)
            self._buttons.append(each)
        self._enable()

    def _set_up_headers(self) -> None:
        header, rows = self.table.horizontalHeader(), self.table.verticalHeader()
        # Qt makes both with the table
        assert header is not None
        assert rows is not None
        header.setSectionResizeMode(_NAME, QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(_KEY, QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(_COUNT, QHeaderView.ResizeMode.ResizeToContents)
        rows.setVisible(False)
        rows.setDefaultSectionSize(_ROW_PX)

    # -- showing ------------------------------------------------------------------------------

    def show_dataset(self, dataset: Dataset | None, entries: Iterable[ImageEntry]) -> None:
        """Show the categories of a dataset with the counts of its images."""
        table = CategoryTable(categories=()) if dataset is None else dataset.categories
        counts, num_images = Counter[int](), Counter[int]()
        for entry in entries:
            counts.update(entry.counts)
            num_images.update(entry.counts.keys())
        shown = (dataset, table, counts)
        if shown == self._shown:
            # somebody may be typing in the table
            return
        self._shown, self._dataset, self._table = shown, dataset, table
        self._counts, self._num_images = counts, num_images
        chosen = self.chosen
        with QSignalBlocker(self.table):
            self.table.setRowCount(len(self._table))
            for row, category in enumerate(self._table.categories):
                self._fill_row(row, category)
                if chosen is not None and category.id == chosen.id:
                    self.table.selectRow(row)
        rows = min(max(len(self._table), 2), _MAX_ROWS)
        self.table.setFixedHeight(_ROW_PX * (rows + 1) + 6)
        self._enable()

    def _fill_row(self, row: int, category: Category) -> None:
        name, key = QTableWidgetItem(category.name), QTableWidgetItem(category.key)
        count = QTableWidgetItem(f"{self._counts[category.id]:,}")
        name.setData(Qt.ItemDataRole.DecorationRole, QColor(category.color))
        name.setData(Qt.ItemDataRole.UserRole, category.id)
        count.setFlags(Qt.ItemFlag.ItemIsSelectable | Qt.ItemFlag.ItemIsEnabled)
        count.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        for column, item in ((_NAME, name), (_KEY, key), (_COUNT, count)):
            self.table.setItem(row, column, item)

    @property
    def chosen(self) -> Category | None:
        """The selected category."""
        row = self.table.currentRow()
        item = self.table.item(row, _NAME) if row >= 0 else None
        wanted = None if item is None else item.data(Qt.ItemDataRole.UserRole)
        return next((c for c in self._table.categories if c.id == wanted), None)

    def _enable(self) -> None:
        has_one = self.chosen is not None
        add, *others = self._buttons
        add.setEnabled(self._dataset is not None)
        for each in others:
            each.setEnabled(has_one)

    # -- changing -----------------------------------------------------------------------------

    def _change(self, caption: str, do: Callable[[Dataset], object]) -> None:
        # what was typed may be refused: the table shows what became of it
        dataset, self._shown = self._dataset, None
        if dataset is not None:
            self.change_wanted.emit(caption, _work_of(lambda: do(dataset)))

    def _on_edited(self, item: QTableWidgetItem) -> None:
        category = self._table.categories[item.row()]
        text = item.text().strip()
        if item.column() == _NAME and text != category.name:
            self._change("renaming", lambda dataset: dataset.rename_category(category.id, text))
        elif item.column() == _KEY and text != category.key:
            self._change("setting a key", lambda data: data.set_category(category.id, key=text))

    def choose_new(self) -> None:
        """Ask for a name, and add a category."""
        name, is_ok = QInputDialog.getText(self, "Add a category", "Name of the category:")
        if is_ok and name.strip():
            self._change("adding a category", lambda dataset: dataset.add_category(name.strip()))

    def choose_color(self) -> None:
        """Ask for a colour of the selected category."""
        category = self.chosen
        if category is None:
            return
        color = QColorDialog.getColor(QColor(category.color), self, f"Colour of {category.name}")
        if color.isValid():
            self._change(
                "setting a colour",
                lambda dataset: dataset.set_category(category.id, color=color.name()),
            )

    def remove(self) -> None:
        """Remove the selected category, if nothing uses it."""
        category = self.chosen
        if category is not None:
            self._change("removing", lambda dataset: dataset.remove_category(category.id))

    def choose_merge(self) -> None:
        """Ask which category the selected one becomes a part of."""
        category = self.chosen
        others = [c for c in self._table.categories if category is not None and c.id != category.id]
        if category is None or not others:
            return
        name, is_ok = QInputDialog.getItem(
            self,
            "Merge",
            f"Make all of {category.name} to:",
            [other.name for other in others],
            editable=False,
        )
        if is_ok:
            self.merge(category, next(other for other in others if other.name == name))

    def merge(self, category: Category, into: Category) -> None:
        """Make one category of two; asks first, with counts."""
        dataset = self._dataset
        count, images = self._counts[category.id], self._num_images[category.id]
        answer = QMessageBox.question(
            self,
            "Merge categories?",
            f"{count:,} instances in {images:,} images become {into.name}, and {category.name} is "
            "gone. This cannot be undone.",
            QMessageBox.StandardButton.Yes | QMessageBox.StandardButton.Cancel,
            QMessageBox.StandardButton.Cancel,
        )
        if answer != QMessageBox.StandardButton.Yes or dataset is None:
            return

        def work(cancel: CancelToken, _report: ReportProgress) -> Iterator[Any]:
            dataset.merge_categories(category.id, into.id, cancel=cancel)
            yield None

        self.merge_wanted.emit(f"merging {category.name} into {into.name}", work)


def _work_of(do: Callable[[], object]) -> Work:
    def work(*_: object) -> Iterator[Any]:
        yield do()

    return work
