"""Small controls with a name to be found by and a tooltip."""

from collections.abc import Callable
from typing import TypeVar

from qtpy.QtCore import QObject, Qt, QTimer
from qtpy.QtWidgets import QComboBox, QLabel, QPushButton, QSizePolicy, QWidget

RED, AMBER = "#ff6b6b", "#ffb454"

_Widget = TypeVar("_Widget", bound=QWidget)


def named(widget: _Widget, name: str, tooltip: str = "") -> _Widget:
    """Return a widget with its stable object name and its tooltip set."""
    widget.setObjectName(name)
    widget.setToolTip(tooltip)
    return widget


def combo(name: str, tooltip: str) -> QComboBox:
    """Return a combo box that long entries do not widen."""
    box = named(QComboBox(), name, tooltip)
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(16)
    box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return box


def button(text: str, name: str, tooltip: str) -> QPushButton:
    """Return a push button."""
    return named(QPushButton(text), name, tooltip)


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
