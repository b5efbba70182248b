"""The part of the Train tab that says whether a new model is better, and lets a person use it."""

import math
from pathlib import Path

from qtpy.QtCore import QModelIndex, QSortFilterProxyModel, Qt, Signal
from qtpy.QtGui import QFont
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QTableView,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.training.compare import Comparison, Role
from napari_deeppixel.viewer.outcome_layers import OUTCOME_COLORS, OutcomeKind
from napari_deeppixel.widgets.controls import AMBER, Note, button, combo, named
from napari_deeppixel.widgets.train_figures import (
    FigureRow,
    ImageTable,
    SortRole,
    compared,
    figure_rows,
)
from napari_deeppixel.widgets.train_outcome import OutcomeRequest, OutcomeViewer

_GREEN = "#7bd88f"
_MAX_TABLE_PX = 230


class ResultPanel(QWidget):
    """Shows a comparison, or that there is none for a new model.

    Parameters
    ----------
    outcomes
        Opens images of it in the viewer.

    Signals
    -------
    use_wanted, keep_wanted, roll_back_wanted
        The person decided.
    mistakes_wanted
        The person wants to look at likely mistakes among the annotations.
    correct_wanted
        File name of an image that the person wants to correct.
    """

    use_wanted = Signal()
    keep_wanted = Signal()
    roll_back_wanted = Signal()
    mistakes_wanted = Signal()
    correct_wanted = Signal(str)

    def __init__(self, outcomes: OutcomeViewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._outcomes = outcomes
        self.comparison: Comparison | None = None
        self._path, self._folder = Path(), Path()
        self._make()
        self._make_images()
        self._lay_out()
        outcomes.changed.connect(self._show_legend)
        outcomes.failed.connect(self._on_failed)
        self.clear()

    def _make(self) -> None:
        self.verdict = Note("train.verdict")
        font = QFont(self.verdict.font())
        font.setBold(True)
        self.verdict.setFont(font)
        self.facts = Note("train.facts")
        self.use_button = button(
            "Use", "train.use", "Put the new model into the list, and use it from now on."
        )
        self.keep_button = button(
            "Keep current", "train.keep", "Go on with the model in use. The run stays as it is."
        )
        self.back_button = button(
            "Roll back", "train.roll_back", "Use the model again that was in use before this one."
        )
        self.decision = Note("train.decision")
        self.mistakes = button(
            "Review label mistakes",
            "train.mistakes",
            "Go through annotations that the new model doubts: missing, spurious, badly outlined.",
        )
        self.use_button.clicked.connect(self.use_wanted)
        self.keep_button.clicked.connect(self.keep_wanted)
        self.back_button.clicked.connect(self.roll_back_wanted)
        self.mistakes.clicked.connect(self.mistakes_wanted)
        self.table = named(
            QTableWidget(),
            "train.comparison",
            "All on the same validation images. Bold: the best of a row.",
        )
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.table.setFocusPolicy(Qt.FocusPolicy.NoFocus)

    def _make_images(self) -> None:
        self.images = ImageTable(self)
        self.sorted = QSortFilterProxyModel(self)
        self.sorted.setSourceModel(self.images)
        self.sorted.setSortRole(SortRole)
        self.list = named(
            QTableView(), "train.images", "Click one to see what is right, wrong and missed in it."
        )
        self.list.setModel(self.sorted)
        self.list.setSortingEnabled(True)
        self.list.sortByColumn(3, Qt.SortOrder.AscendingOrder)
        self.list.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.list.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.list.setMinimumHeight(150)
        self.list.clicked.connect(self._on_clicked)
        rows, columns = self.list.verticalHeader(), self.list.horizontalHeader()
        assert rows is not None  # Qt makes both with the table
        assert columns is not None
        rows.hide()
        rows.setDefaultSectionSize(22)
        columns.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        columns.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.role = combo("train.role", "Whose right, wrong and missed objects are drawn.")
        self.role.setMinimumContentsLength(8)
        self.role.currentIndexChanged.connect(self._on_role)
        self.legend = named(QLabel(), "train.legend", "What the outlines in napari mean.")
        self.correct = button(
            "Correct it", "train.correct", "Open this image with its annotations, to correct them."
        )
        self.close_image = button(
            "Close it", "train.close_image", "Take the outlines away, and show the layers again."
        )
        self.correct.clicked.connect(self._on_correct)
        self.close_image.clicked.connect(self._outcomes.forget)
        self.problem = Note("train.image_problem", color=AMBER)

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for part in (self.verdict, self.facts, self.table):
            layout.addWidget(part)
        row = QHBoxLayout()
        for each in (self.use_button, self.keep_button, self.back_button):
            row.addWidget(each)
        layout.addLayout(row)
        layout.addWidget(self.decision)
        layout.addWidget(self.mistakes)
        self._images = QWidget()
        below = QVBoxLayout(self._images)
        below.setContentsMargins(0, 0, 0, 0)
        row = QHBoxLayout()
        row.addWidget(QLabel("Draw"))
        row.addWidget(self.role, 1)
        below.addLayout(row)
        below.addWidget(self.legend)
        below.addWidget(self.list)
        row = QHBoxLayout()
        row.addWidget(self.correct)
        row.addWidget(self.close_image)
        below.addLayout(row)
        below.addWidget(self.problem)
        layout.addWidget(self._images)

    # -- showing ------------------------------------------------------------------------------

    def clear(self) -> None:
        """Show no comparison, and hide."""
        self.comparison, self._path, self._folder = None, Path(), Path()
        self._renew(is_shown=False)
        self.images.show_rows(())
        self._show_legend()

    def show_comparison(self, comparison: Comparison, path: Path, folder: Path) -> None:
        """Show another comparison.

        Parameters
        ----------
        comparison
            What to show.
        path
            Its file.
        folder
            Of its images, as `read_split` takes it.
        """
        self.comparison, self._path, self._folder = comparison, path, folder
        self._renew(is_shown=True)
        verdict = comparison.verdict
        self.verdict.say(verdict.reason, color=_GREEN if verdict.is_better else AMBER)
        self._show_figures(comparison)
        self.images.show_rows(comparison.changes())
        with signals_blocked(self.role):
            self.role.clear()
            for model in reversed(compared(comparison)):
                self.role.addItem(model.role.value, model.role)
        self._show_legend()

    def _renew(self, *, is_shown: bool) -> None:
        for part in (self, self.table, self._images):
            part.setVisible(is_shown)
        self.decision.say("")
        self.problem.say("")

    def show_uncompared(self, reason: str) -> None:
        """Offer a new model that was not compared; `reason` says why."""
        self.clear()
        self.verdict.say(reason, color=AMBER)
        self.facts.say("Nobody knows whether the new model is better.")
        self.setVisible(True)

    def show_mistakes(self, count: int | None) -> None:
        """Offer likely label mistakes; None: nobody looked for any."""
        self.mistakes.setVisible(count is not None)
        self.mistakes.setEnabled(bool(count))
        self.mistakes.setText(f"Review label mistakes ({count or 0:,})")

    def show_roll_back(self, before: str) -> None:
        """Offer the model that was in use before; empty: none was."""
        self.back_button.setEnabled(bool(before))
        self.back_button.setToolTip(
            f"Use {before} again, as before." if before else "No model was in use before this one."
        )

    def _show_figures(self, comparison: Comparison) -> None:
        models, rows = compared(comparison), figure_rows(comparison)
        report = models[0].report
        self.facts.say(
            f"On {report.num_images:,} images with {report.num_objects:,} objects "
            f"({comparison.split}) of {Path(comparison.dataset).name}."
        )
        self.table.clear()
        self.table.setRowCount(len(rows))
        self.table.setColumnCount(len(models))
        self.table.setVerticalHeaderLabels([row.name for row in rows])
        self.table.setHorizontalHeaderLabels([model.role.value for model in models])
        for column, model in enumerate(models):
            header = self.table.horizontalHeaderItem(column)
            if header is not None:
                header.setToolTip(f"{model.name}\n{model.model}")
        for at, row in enumerate(rows):
            self._show_row(at, row)
        self._fit()

    def _show_row(self, at: int, row: FigureRow) -> None:
        for column, value in enumerate(row.values):
            item = QTableWidgetItem("" if math.isnan(value) else f"{value:.3f}")
            item.setTextAlignment(Qt.AlignmentFlag.AlignCenter)
            item.setToolTip(row.about)
            if value == row.best:
                font = QFont(self.table.font())
                font.setBold(True)
                item.setFont(font)
            self.table.setItem(at, column, item)

    def _fit(self) -> None:
        """Make the table as high as its rows, within bounds."""
        rows, columns = self.table.verticalHeader(), self.table.horizontalHeader()
        assert rows is not None  # Qt makes both with the table
        assert columns is not None
        rows.setDefaultSectionSize(22)
        columns.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        height = columns.sizeHint().height() + 22 * self.table.rowCount() + 4
        self.table.setFixedHeight(min(height, _MAX_TABLE_PX))

    # -- images -------------------------------------------------------------------------------

    def _on_clicked(self, index: QModelIndex) -> None:
        row = self.images.rows[self.sorted.mapToSource(index).row()]
        self.open_image(row.file_name, row.plane)

    def open_image(self, file_name: str, plane: PlaneIndex) -> None:
        """Show an image in napari with the outcome of the chosen model."""
        self.problem.say("")
        role = self.role.currentData() or Role.NEW
        self._outcomes.show(
            OutcomeRequest(
                comparison=self._path,
                folder=self._folder,
                role=Role(role),
                file_name=file_name,
                plane=plane,
            )
        )

    def _on_role(self) -> None:
        shown = self._outcomes.shown
        if shown is not None:
            self.open_image(shown.file_name, shown.plane)

    def _on_correct(self) -> None:
        shown = self._outcomes.shown
        if shown is not None:
            self._outcomes.forget()
            self.correct_wanted.emit(shown.file_name)

    def _on_failed(self, message: str) -> None:
        self.problem.say(message)

    def _show_legend(self) -> None:
        shown, counts = self._outcomes.shown, self._outcomes.counts
        for each in (self.correct, self.close_image):
            each.setVisible(shown is not None)
        parts = []
        for kind in OutcomeKind:
            number = f" {counts.get(kind, 0):,}" if shown is not None else ""
            color = OUTCOME_COLORS[kind]
            parts.append(f'<span style="color: {color}">■</span> {kind.value}{number}')
        self.legend.setText("&nbsp; ".join(parts))
