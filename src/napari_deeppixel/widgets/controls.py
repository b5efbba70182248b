"""Small controls with a name to be found by and a tooltip."""

from collections.abc import Callable
from typing import TypeVar

from qtpy.QtCore import QObject, QSize, Qt, QTimer
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import (
    QComboBox,
    QFrame,
    QLabel,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QWidget,
)

RED, AMBER = "#ff6b6b", "#ffb454"

_Widget = TypeVar("_Widget", bound=QWidget)
_Combo = TypeVar("_Combo", bound=QComboBox)


def named(widget: _Widget, name: str, tooltip: str = "") -> _Widget:
    """Return a widget with its stable object name and its tooltip set."""
    widget.setObjectName(name)
    widget.setToolTip(tooltip)
    return widget


def combo(name: str, tooltip: str) -> QComboBox:
    """Return a combo box that long entries do not widen."""
    return not_widened(named(QComboBox(), name, tooltip))


def not_widened(box: _Combo) -> _Combo:
    """Return a combo box, set so that long entries do not widen it."""
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(16)
    box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return box


def button(text: str, name: str, tooltip: str) -> QPushButton:
    """Return a push button."""
    return named(QPushButton(text), name, tooltip)


class TallArea(QScrollArea):
    """Scrolls up and down; as there is no bar below, it is as wide as what it holds."""

    def __init__(self, content: QWidget) -> None:
        super().__init__()
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidget(content)

    def minimumSizeHint(self) -> QSize:
        """Return a size in which nothing is cut off at the side."""
        content, bar = self.widget(), self.verticalScrollBar()
        if content is None or bar is None:
            return super().minimumSizeHint()
        width = content.minimumSizeHint().width() + bar.sizeHint().width()
        return QSize(width, super().minimumSizeHint().height())

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Ask for more room where napari's style made the parts wider meanwhile."""
        super().resizeEvent(event)
        self.updateGeometry()


class Note(QLabel):
    """A line of text that is there only while it says something.

    Parameters
    ----------
    name
        Its object name.
    color
        Of the text.
    lines
        Room that it keeps, also while it says nothing, so that what is below does not move.
    """

    def __init__(self, name: str, *, color: str = "", lines: int = 0) -> None:
        super().__init__()
        self._keeps_room = lines > 0
        if lines:
            self.setMinimumHeight(lines * self.fontMetrics().lineSpacing() + 2)
            self.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
        self.setObjectName(name)
        self.setWordWrap(True)
        # messages quote what they were given, which may look like markup
        self.setTextFormat(Qt.TextFormat.PlainText)
        self._color = color
        self.say("")

    def say(self, message: str, *, color: str | None = None) -> None:
        """Show a message; empty: hide."""
        shade = self._color if color is None else color
        self.setStyleSheet(f"color: {shade};" if shade else "")
        self.setText(message)
        self.setVisible(bool(message) or self._keeps_room)


def single_shot(parent: QObject, interval_ms: int, slot: Callable[[], None]) -> QTimer:
    """Return a timer that calls a slot once, an interval after its last start."""
    timer = QTimer(parent)
    timer.setSingleShot(True)
    timer.setInterval(interval_ms)
    timer.timeout.connect(slot)
    return timer
