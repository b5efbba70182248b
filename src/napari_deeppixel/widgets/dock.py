"""The dock widget DeepPixel."""

from typing import Any

from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QTabWidget, QVBoxLayout, QWidget

from napari_deeppixel.widgets.data import DataTab
from napari_deeppixel.widgets.dataset_state import DatasetState
from napari_deeppixel.widgets.detect import DetectTab
from napari_deeppixel.widgets.journals import Journals
from napari_deeppixel.widgets.live import LiveTab
from napari_deeppixel.widgets.review import ReviewTab


class DeepPixelWidget(QWidget):
    """The window of the plugin, one tab for each thing to do.

    Parameters
    ----------
    napari_viewer
        Given by napari.
    """

    # napari gives the viewer to a parameter of this name
    def __init__(self, napari_viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("DeepPixel")
        self.journals = Journals(self)
        self.detect = DetectTab(napari_viewer, self.journals.refusal, self)
        self.review = ReviewTab(napari_viewer, self.detect, self.journals, self)
        self.datasets = DatasetState(self)
        self.live = LiveTab(napari_viewer, self.detect, self.datasets, self)
        self.data = DataTab(
            napari_viewer, self.detect, self.review, self.journals, self.datasets, self
        )
        self.tabs = QTabWidget(self)
        self.tabs.setObjectName("tabs")
        self.tabs.addTab(self.detect, "Detect")
        self.tabs.addTab(self.review, "Review")
        self.tabs.addTab(self.live, "Live")
        self.tabs.addTab(self.data, "Data")
        self.live.review_wanted.connect(lambda: self.tabs.setCurrentWidget(self.review))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        # what it says concerns all tabs
        layout.addWidget(self.review.bar)
        layout.addWidget(self.tabs)

    def event(self, event: QEvent | None) -> bool:
        """Stop all work when napari takes the widget out of its dock.

        The dock's close button neither closes nor deletes the widget; it only loses its parent.
        """
        if event is not None and event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self._shut_down()
        return bool(super().event(event))

    def closeEvent(self, event: Any) -> None:
        """Stop all work."""
        self._shut_down()
        super().closeEvent(event)

    def _shut_down(self) -> None:
        # first: it saves what the others know of
        self.data.shut_down()
        self.live.shut_down()
        self.review.shut_down()
        self.detect.shut_down()
        self.journals.shut_down()
