"""Asks before napari closes while a training run goes on."""

from collections.abc import Callable
from enum import StrEnum
from weakref import ref

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QMainWindow, QMessageBox, QWidget


class ClosingChoice(StrEnum):
    """What becomes of a run when the window closes; captions for people."""

    STOP = "Stop and keep the best"
    LEAVE = "Let it run"
    CANCEL = "Cancel"


class ClosingGuard(QObject):
    """Hears of the end of a main window before the window does, and may refuse it.

    Parameters
    ----------
    widget
        Somewhere in the window.
    may_close
        Called when a person closes the window.
    """

    def __init__(self, widget: QWidget, may_close: Callable[[], bool]) -> None:
        super().__init__(widget)
        self._widget, self._may_close = widget, may_close
        # weak: the window owns the widget, which may be kept for longer by whoever made it
        self._watched: ref[QMainWindow] | None = None

    @property
    def _window(self) -> QMainWindow | None:
        return None if self._watched is None else self._watched()

    def watch(self) -> None:
        """Look for the window; it is known once the widget is shown."""
        parent: QWidget | None = self._widget
        while parent is not None and not isinstance(parent, QMainWindow):
            parent = parent.parentWidget()
        if isinstance(parent, QMainWindow) and parent is not self._window:
            self.shut_down()
            self._watched = ref(parent)
            parent.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Stop the closing if a person says so."""
        is_end = event is not None and event.type() == QEvent.Type.Close
        if not is_end or watched is not self._window or self._is_by_script():
            return False
        if self._may_close():
            return False
        if event is not None:
            event.ignore()
        return True

    def _is_by_script(self) -> bool:
        """Whether `viewer.close()` closes the window: it took the canvas away before, for good."""
        window = self._window
        if window is None or not window.isVisible():
            return True
        centre = window.centralWidget()
        options = Qt.FindChildOption.FindDirectChildrenOnly
        parts = [] if centre is None else centre.findChildren(QWidget, options=options)
        return not any(part.isVisible() for part in parts)

    def shut_down(self) -> None:
        """Hear of nothing more."""
        window, self._watched = self._window, None
        if window is not None:
            window.removeEventFilter(self)


def ask_closing(parent: QWidget, status: str) -> ClosingChoice:
    """Ask what becomes of a run; `status` says which and where it is, in a sentence."""
    box = QMessageBox(parent)
    box.setObjectName("train.closing")
    box.setIcon(QMessageBox.Icon.Question)
    box.setWindowTitle("Training goes on")
    box.setText(status)
    box.setInformativeText(
        "Stop it and keep the best weights so far, or let it run without napari? It is found again "
        "when DeepPixel is opened."
    )
    stop = box.addButton(ClosingChoice.STOP.value, QMessageBox.ButtonRole.AcceptRole)
    leave = box.addButton(ClosingChoice.LEAVE.value, QMessageBox.ButtonRole.DestructiveRole)
    cancel = box.addButton(ClosingChoice.CANCEL.value, QMessageBox.ButtonRole.RejectRole)
    box.setDefaultButton(leave)
    box.setEscapeButton(cancel)
    box.exec()
    clicked = box.clickedButton()
    if clicked is stop:
        return ClosingChoice.STOP
    return ClosingChoice.LEAVE if clicked is leave else ClosingChoice.CANCEL
