"""Keeps napari from crashing when layers go.

napari 0.9 deletes what a removed layer had on the GPU (`VispyCanvas._clean_and_update_scenegraph`)
in whatever OpenGL context is current, which in a window with other widgets is often Qt's own. Mesa
then ends the process in the ``glDrawArrays`` of the next repaint; mostly after a Shapes layer went.
"""

from typing import Any

from qtpy.QtWidgets import QWidget


def finish_in_own_context(window: QWidget) -> None:
    """Make each canvas of a window current whenever its work on the GPU is finished.

    It is safe to call this again, and does nothing where a canvas is of another kind.
    """
    for widget in window.findChildren(QWidget):
        # vispy's widget knows its canvas by this name alone
        canvas = getattr(widget, "_vispy_canvas", None)
        context = getattr(canvas, "context", None)
        if context is not None and not hasattr(context.finish, "is_in_own_context"):
            context.finish = _InOwnContext(canvas, context.finish)


class _InOwnContext:
    is_in_own_context = True

    def __init__(self, canvas: Any, finish: Any) -> None:
        self._canvas, self._finish = canvas, finish

    def __call__(self) -> None:
        self._canvas.set_current()
        self._finish()
