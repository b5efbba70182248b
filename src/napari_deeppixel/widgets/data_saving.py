"""The line of the Data tab that says whether the open image is saved, and what to do if not."""

from collections.abc import Iterator

from qtpy.QtCore import QObject, Signal

from napari_deeppixel.widgets.controls import AMBER, RED
from napari_deeppixel.widgets.data_panels import DataPanels
from napari_deeppixel.widgets.dataset_image import OpenImage, SavePhase
from napari_deeppixel.widgets.dataset_switch import ImageSwitcher
from napari_deeppixel.widgets.job_queue import Job, JobQueue
from napari_deeppixel.widgets.journals import Journals


class SavingLine(QObject):
    """Shows how the open image is saved; asks what to do where somebody else saved it, too.

    Parameters
    ----------
    panels
        The widgets.
    switcher
        Holds the open image.
    journals
        They are told what is saved.
    queue
        Keeps the copy of what gives way.

    Signals
    -------
    said
        Message for the person.
    """

    said = Signal(str)

    def __init__(
        self,
        panels: DataPanels,
        switcher: ImageSwitcher,
        journals: Journals,
        queue: JobQueue,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._panels, self._switcher = panels, switcher
        self._journals, self._queue = journals, queue
        # image, change and journal state of the last word to the journal
        self._marked: object = None
        switcher.status_changed.connect(self.refresh)
        journals.changed.connect(self._tell_journal)
        panels.retry.clicked.connect(self._on_retry)
        panels.mine.clicked.connect(self._on_mine)
        panels.theirs.clicked.connect(self._on_theirs)
        self.refresh()

    def refresh(self) -> None:
        """Show what is true now."""
        panels, current = self._panels, self._switcher.current
        wanted = self._switcher.wanted_id
        phase = None if current is None else current.phase
        if wanted and phase not in (SavePhase.FAILED, SavePhase.CONFLICT):
            panels.saved.say(f"opening {wanted}…", color="")
        elif current is None:
            panels.saved.say("No image of the dataset is open: double-click one.", color="")
        else:
            text, color = _line(current)
            panels.saved.say(text, color=color)
        panels.retry.setVisible(phase is SavePhase.FAILED)
        panels.mine.setVisible(phase is SavePhase.CONFLICT)
        panels.theirs.setVisible(phase is SavePhase.CONFLICT)
        self._tell_journal()

    def _tell_journal(self) -> None:
        """Note in the image's journal that the dataset has all, so that nothing is offered."""
        current = self._switcher.current
        if current is None or not current.is_saved or current.view is None:
            return
        if self._journals.state(current.layer) is None:
            # it opens a moment after the image
            return
        mark = (current, current.view.session, current.change)
        if mark != self._marked:
            self._marked = mark
            self._journals.mark_saved(current.layer)

    def _on_retry(self) -> None:
        if self._switcher.current is not None:
            self._switcher.current.save()

    def _on_mine(self) -> None:
        if self._switcher.current is not None:
            self._switcher.current.save(overwrites=True)

    def _on_theirs(self) -> None:
        current = self._switcher.current
        if current is None:
            return
        current.settle()
        keep_copy, change = current.keep_copy(), current.change

        def work(*_: object) -> Iterator[object]:
            yield keep_copy()

        def on_kept(path: object) -> None:
            if self._switcher.current is not current:
                return
            if current.change != change:
                # the person went on meanwhile: the copy lacks that
                self._on_theirs()
                return
            current.drop_changes()
            self._switcher.reopen()
            self.said.emit(f"What you did is kept in {path}.")

        self._queue.run(Job(caption="keeping a copy", work=work, on_result=on_kept))


def _line(current: OpenImage) -> tuple[str, str]:
    """Return text and colour of the line."""
    name = current.image_id
    match current.phase:
        case SavePhase.SAVED:
            return f"{name}: saved", ""
        case SavePhase.CHANGED:
            return f"{name}: changed, saved in a moment", ""
        case SavePhase.SAVING:
            return f"{name}: saving…", ""
        case SavePhase.CONFLICT:
            return (
                f"NOT SAVED: somebody else saved {name} since you opened it. Take theirs (yours is "
                "kept as a copy), or keep yours?"
            ), AMBER
    return f"NOT SAVED: {current.problem}", RED
