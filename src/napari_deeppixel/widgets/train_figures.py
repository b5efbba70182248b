"""What a comparison says, as rows for tables."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, QObject, Qt

from napari_deeppixel.training.compare import ComparedModel, Comparison, Role
from napari_deeppixel.training.evaluation.report import EvaluationReport
from napari_deeppixel.training.verdict import ImageChange, quality

SortRole = Qt.ItemDataRole.UserRole + 1

ROLES = (Role.BASE, Role.CURRENT, Role.NEW)
_FIGURES: tuple[tuple[str, Callable[[EvaluationReport], float], str], ...] = (
    ("AP", lambda r: r.mask.ap, "COCO's average precision of masks over IoU 0.50 to 0.95."),
    ("AP50", lambda r: r.mask.ap50, "Average precision of masks at IoU 0.50."),
    ("AP75", lambda r: r.mask.ap75, "Average precision of masks at IoU 0.75."),
    ("Accuracy .5", lambda r: _at(r.accuracy, 0.5), "TP / (TP + FP + FN) at IoU 0.50."),
    ("Accuracy .75", lambda r: _at(r.accuracy, 0.75), "TP / (TP + FP + FN) at IoU 0.75."),
    ("Count error", lambda r: r.count_error, "Mean of |found - true| an image; lower is better."),
    ("AP small", lambda r: r.mask.ap_small, "Objects below 32 x 32 px."),
    ("AP medium", lambda r: r.mask.ap_medium, "Objects from 32 x 32 to 96 x 96 px."),
    ("AP large", lambda r: r.mask.ap_large, "Objects above 96 x 96 px."),
)
_COUNT_ERROR = "Count error"


@dataclass(frozen=True, kw_only=True)
class FigureRow:
    """A figure of each model.

    Attributes
    ----------
    name, about
        Of the figure, and what it means.
    values
        In the order of the models; NaN where there is none.
    is_lower_better
        Whether less is better.
    """

    name: str
    about: str
    values: tuple[float, ...]
    is_lower_better: bool = False

    @property
    def best(self) -> float:
        """The best of them; NaN if they are all alike."""
        known = [value for value in self.values if not math.isnan(value)]
        if not known or max(known) == min(known):
            return math.nan
        return min(known) if self.is_lower_better else max(known)


def figure_rows(comparison: Comparison) -> list[FigureRow]:
    """Return the rows of a table: figures over all, by size, by category; empty ones left out."""
    reports = [model.report for model in compared(comparison)]
    rows = [
        FigureRow(
            name=name,
            about=about,
            values=tuple(take(report) for report in reports),
            is_lower_better=name == _COUNT_ERROR,
        )
        for name, take, about in _FIGURES
    ]
    names = list(dict.fromkeys(name for r in reports for name in r.mask.by_category))
    if len(names) > 1:
        for name in names:
            found = [r.mask.by_category.get(name) for r in reports]
            values = tuple(math.nan if each is None else each.ap for each in found)
            rows.append(FigureRow(name=f"AP {name}", about=f"Objects of {name}.", values=values))
    return [row for row in rows if not all(math.isnan(value) for value in row.values)]


def compared(comparison: Comparison) -> list[ComparedModel]:
    """Return the models of a comparison: base, current, new, those that are there."""
    found = [comparison.of(role) for role in ROLES]
    return [model for model in found if model is not None]


def _at(values: Mapping[float, float], iou: float) -> float:
    return next((v for at, v in values.items() if abs(float(at) - iou) < 1e-6), math.nan)


def caption_of(change: ImageChange) -> str:
    """Return the name of an image, and which plane of a stack."""
    plane = f" {list(change.plane)}" if change.plane else ""
    return f"{change.file_name}{plane}"


class ImageTable(QAbstractTableModel):
    """The images of a comparison; `SortRole` gives numbers."""

    headers = ("Image", "New", "Current", "Change")
    _about = (
        "Click: open it in napari.",
        "Right / wrong / missed objects of the new model, at IoU 0.50.",
        "Right / wrong / missed objects of the model in use, at IoU 0.50.",
        "How much better the new model is here, -1 to 1: IoU of what matched over TP + FP + FN.",
    )

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.rows: Sequence[ImageChange] = ()

    def show_rows(self, rows: Sequence[ImageChange]) -> None:
        """Show other images."""
        self.beginResetModel()
        self.rows = tuple(rows)
        self.endResetModel()

    def rowCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802  Qt's name
        """Return the number of images."""
        return 0 if parent is not None and parent.isValid() else len(self.rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802  Qt's name
        """Return the number of columns."""
        return 0 if parent is not None and parent.isValid() else len(self.headers)

    def headerData(  # noqa: N802  Qt's name
        self,
        section: int,
        orientation: Qt.Orientation,
        role: int = Qt.ItemDataRole.DisplayRole,
    ) -> Any:
        """Return name and tooltip of a column."""
        if orientation is not Qt.Orientation.Horizontal:
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return self.headers[section]
        return self._about[section] if role == Qt.ItemDataRole.ToolTipRole else None

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return text, tooltip, alignment or the number to sort by."""
        if not index.isValid() or index.row() >= len(self.rows):
            return None
        row, column = self.rows[index.row()], index.column()
        if role == SortRole:
            return _sort_value(row, column)
        if role == Qt.ItemDataRole.DisplayRole:
            return _cell(row, column)
        if role == Qt.ItemDataRole.ToolTipRole:
            return caption_of(row) if column == 0 else self._about[column]
        if role == Qt.ItemDataRole.TextAlignmentRole and column:
            return Qt.AlignmentFlag.AlignCenter
        return None


def _sort_value(row: ImageChange, column: int) -> Any:
    if column == 0:
        return caption_of(row).casefold()
    if column == 3:
        return row.change
    return quality(row.after if column == 1 else row.before)


def _cell(row: ImageChange, column: int) -> str:
    if column == 0:
        return caption_of(row)
    if column == 3:
        return f"{row.change:+.2f}"
    outcome = row.after if column == 1 else row.before
    counts = (outcome.num_true_positive, outcome.num_false_positive, outcome.num_missed)
    return " / ".join(f"{count:,}" for count in counts)
