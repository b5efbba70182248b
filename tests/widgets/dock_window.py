"""The dock widget on a viewer."""

from typing import Any

from tests.widgets.review_window import TIMEOUT_MS

# the windows of two tests would else import it at once in two threads
import napari_deeppixel.engine.device  # noqa: F401
from napari_deeppixel.widgets.dock import DeepPixelWidget


class DockWindow:
    """The dock widget beside a viewer.

    Parameters
    ----------
    qtbot
        Of pytest-qt.
    viewer
        The viewer.
    has_window
        Whether the viewer has a window, whose dock takes the widget.
    """

    def __init__(self, qtbot: Any, viewer: Any, *, has_window: bool = False) -> None:
        self.qtbot, self.viewer = qtbot, viewer
        self.dock = DeepPixelWidget(viewer)
        if has_window:
            viewer.window.add_dock_widget(self.dock, name="DeepPixel")
        else:
            qtbot.addWidget(self.dock)
            self.dock.show()

    def wait(self, until: Any, timeout_ms: int = TIMEOUT_MS) -> None:
        self.qtbot.waitUntil(until, timeout=timeout_ms)

    def find(self, name: str) -> Any:
        return self.dock.findChild(object, name)
