"""Tells when napari's canvas has drawn what it was given."""

import time
from typing import Any

from qtpy.QtCore import QObject, Signal
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QWidget

# a canvas that is covered or minimised draws nothing: go on after so long
_PATIENCE_S = 0.5


class DrawGate(QObject):
    """Open while the canvas has drawn all that was set since it last did.

    Setting layers faster than they are drawn only makes the window slow to answer.

    Signals
    -------
    drawn
        The canvas was drawn.
    """

    drawn = Signal()

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._owner = parent
        self._canvas: Any = None
        self._closed_at_s: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is time to set layers again."""
        return self._closed_at_s is None or time.monotonic() - self._closed_at_s > _PATIENCE_S

    def close(self) -> None:
        """Wait for the next draw from now on; where there is no canvas, nothing is waited for."""
        self._follow()
        if self._canvas is None:
            self.drawn.emit()
        else:
            self._closed_at_s = time.monotonic()

    def _follow(self) -> None:
        if self._canvas is not None:
            return
        for canvas in main_window_of(self._owner).findChildren(QOpenGLWidget):
            self._canvas = canvas
            canvas.frameSwapped.connect(self._on_swapped)
            canvas.destroyed.connect(self._on_destroyed)
            return

    def _on_swapped(self) -> None:
        if self._closed_at_s is not None:
            self._closed_at_s = None
            self.drawn.emit()

    def _on_destroyed(self) -> None:
        self._canvas = None


def main_window_of(widget: QWidget) -> QWidget:
    """Return the window that a widget belongs to; of a floating dock, the one it floats over."""
    window = widget.window() or widget
    while (parent := window.parentWidget()) is not None:
        window = parent.window() or parent
    return window
