"""The dock widget DeepPixel."""

from typing import Any

from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QTabWidget, QVBoxLayout, QWidget

from napari_deeppixel.widgets.data import DataTab
from napari_deeppixel.widgets.dataset_state import DatasetState
from napari_deeppixel.widgets.detect import DetectTab
from napari_deeppixel.widgets.journals import Journals
from napari_deeppixel.widgets.live import LiveTab
from napari_deeppixel.widgets.own_context import finish_in_own_context
from napari_deeppixel.widgets.review import ReviewTab
from napari_deeppixel.widgets.train import TrainTab


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
        self.train = TrainTab(
            napari_viewer, self.datasets, saving_of_open=self.data.saving_of_open, parent=self
        )
        self.tabs = QTabWidget(self)
        self.tabs.setObjectName("tabs")
        self.tabs.addTab(self.detect, "Detect")
        self.tabs.addTab(self.review, "Review")
        self.tabs.addTab(self.train, "Train")
        self.tabs.addTab(self.live, "Live")
        self.tabs.addTab(self.data, "Data")
        self.live.review_wanted.connect(lambda: self.tabs.setCurrentWidget(self.review))
        self.data.mistakes.review_wanted.connect(lambda: self.tabs.setCurrentWidget(self.review))
        self.train.data_wanted.connect(lambda: self.tabs.setCurrentWidget(self.data))
        self.train.dataset_wanted.connect(self.data.import_path)
        self.train.correct_wanted.connect(self._on_correct)
        self.train.mistakes_wanted.connect(self.data.open_mistakes)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        # what it says concerns all tabs
        layout.addWidget(self.review.bar)
        layout.addWidget(self.tabs)

    def _on_correct(self, file_name: str) -> None:
        self.data.open_image(file_name)
        self.tabs.setCurrentWidget(self.review)

    def event(self, event: QEvent | None) -> bool:
        """Stop all work when napari takes the widget out of its dock.

        The dock's close button neither closes nor deletes the widget; it only loses its parent.
        """
        if event is not None and event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self._shut_down()
        return bool(super().event(event))

    def showEvent(self, event: Any) -> None:
        """Make the window safe for layers that go."""
        window = self.window()
        if window is not None:
            finish_in_own_context(window)
        super().showEvent(event)

    def closeEvent(self, event: Any) -> None:
        """Stop all work."""
        self._shut_down()
        super().closeEvent(event)

    def _shut_down(self) -> None:
        # first: it saves what the others know of
        self.data.shut_down()
        self.train.shut_down()
        self.live.shut_down()
        self.review.shut_down()
        self.detect.shut_down()
        self.journals.shut_down()
