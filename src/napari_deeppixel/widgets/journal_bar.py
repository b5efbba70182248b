"""What the person must know about the safety of their work, and what they can do."""

from typing import Any

from napari.layers import Image
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QMessageBox, QVBoxLayout, QWidget

from napari_deeppixel.edits.journal_state import JournalPhase
from napari_deeppixel.widgets.controls import AMBER, RED, Note, button
from napari_deeppixel.widgets.journals import Journals


class JournalBar(QWidget):
    """Says how the journal is; offers earlier work.

    Nothing is shown while all is well.

    Parameters
    ----------
    viewer
        The napari viewer.
    journals
        Of the viewer's images.

    Signals
    -------
    brought_back
        The image layer whose earlier work came back.
    """

    brought_back = Signal(object)

    def __init__(self, viewer: Any, journals: Journals, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer, self._journals = viewer, journals
        self._image: Image | None = None
        self._channel_axis: int | None = None
        self._alarm = Note("journal.alarm", color=RED)
        self._notice = Note("journal.notice", color=AMBER)
        self._bring_back = button(
            "Bring back", "journal.bring_back", "Show the instances as they were then."
        )
        self._discard = button(
            "Discard…", "journal.discard", "Delete the earlier work; asks first."
        )
        self._edit_here = button(
            "Edit here",
            "journal.edit_here",
            "Edit in this window as well. What the other window does is not seen here.",
        )
        buttons = QHBoxLayout()
        for each in (self._bring_back, self._discard, self._edit_here):
            buttons.addWidget(each)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._alarm)
        layout.addWidget(self._notice)
        layout.addLayout(buttons)
        self._bring_back.clicked.connect(self._on_bring_back)
        self._discard.clicked.connect(self._on_discard)
        self._edit_here.clicked.connect(self._on_edit_here)
        journals.changed.connect(self.refresh)
        self.refresh()

    def set_image(self, image: Image | None, *, channel_axis: int | None) -> None:
        """Tell of another image."""
        self._image, self._channel_axis = image, channel_axis
        self.refresh()

    def refresh(self) -> None:
        """Show what is true now."""
        image, journals = self._image, self._journals
        state = None if image is None else journals.state(image)
        is_failed = state is not None and state.phase is JournalPhase.FAILED
        self._alarm.say(f"NOT SAVED: {state.message}" if state is not None and is_failed else "")
        earlier = None if image is None else journals.earlier(image)
        is_locked = image is not None and journals.is_locked(image)
        problem = "" if image is None else journals.problem(image)
        self._notice.say(earlier.summary() if earlier is not None else problem)
        self._bring_back.setVisible(earlier is not None)
        self._discard.setVisible(earlier is not None)
        self._edit_here.setVisible(is_locked)
        self.setVisible(bool(is_failed or earlier is not None or problem))

    def _on_bring_back(self) -> None:
        image = self._image
        if image is None or self._journals.earlier(image) is None:
            return
        self._journals.bring_back(image, self._viewer, channel_axis=self._channel_axis)
        self.brought_back.emit(image)

    def _on_discard(self) -> None:
        image = self._image
        earlier = None if image is None else self._journals.earlier(image)
        if image is None or earlier is None:
            return
        answer = QMessageBox.question(
            self,
            "Discard earlier work?",
            f"{earlier.summary()}\n\nDelete it for good?",
            QMessageBox.StandardButton.Discard | QMessageBox.StandardButton.Cancel,
            QMessageBox.StandardButton.Cancel,
        )
        if answer == QMessageBox.StandardButton.Discard:
            self._journals.discard(image)

    def _on_edit_here(self) -> None:
        if self._image is not None:
            self._journals.edit_here(self._image)
