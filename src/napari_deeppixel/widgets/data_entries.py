"""Reads the list of a dataset's images in a thread, and again when others may have changed it."""

import time
from collections.abc import Iterator

from qtpy.QtCore import QObject, Signal

from napari_deeppixel.dataset.image_entry import ImageEntry
from napari_deeppixel.dataset.store import Dataset
from napari_deeppixel.widgets.controls import single_shot
from napari_deeppixel.widgets.worker import BackgroundTask

_LOOK_MS = 5000
# looking takes at most this share of one core
_SHARE = 0.05


class EntryReader(QObject):
    """Reads the entries of a dataset, at most one reading at a time.

    Signals
    -------
    read
        The entries, of the dataset that is set now.
    failed
        The exception that ended a reading.
    """

    read = Signal(list)
    failed = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._dataset: Dataset | None = None
        self._is_wanted = False
        self._is_shut_down = False
        self._started = 0.0
        self.is_watching = False
        self._look_timer = single_shot(self, _LOOK_MS, self._look_again)
        self._task = BackgroundTask(self)
        self._task.yielded.connect(self._on_read)
        self._task.failed.connect(self.failed)
        self._task.finished.connect(self._on_finished)

    def set_dataset(self, dataset: Dataset | None) -> None:
        """Read another dataset."""
        self._dataset = dataset
        self.refresh()

    def refresh(self) -> None:
        """Read the entries soon."""
        self._is_wanted = True
        self._start()

    def note_saved(self) -> None:
        """Read once more after a reading that may have missed a save."""
        if self._task.is_running:
            self._is_wanted = True

    def watch(self, is_watching: bool) -> None:
        """Look once in a while what others did, while somebody looks at the list."""
        self.is_watching = is_watching
        if is_watching:
            self.refresh()
        else:
            self._look_timer.stop()

    def shut_down(self) -> None:
        """Read nothing more."""
        self._is_shut_down = True
        self._look_timer.stop()
        self._task.abandon()

    def _start(self) -> None:
        if self._is_shut_down or self._task.is_running or not self._is_wanted:
            return
        self._is_wanted = False
        dataset = self._dataset
        if dataset is None:
            return
        self._started = time.monotonic()

        def work(*_: object) -> Iterator[tuple[Dataset, list[ImageEntry]]]:
            yield dataset, dataset.entries()

        self._task.start(work)

    def _on_read(self, result: tuple[Dataset, list[ImageEntry]]) -> None:
        dataset, entries = result
        # an older one than what is asked for now would put back what was just changed
        if dataset is self._dataset and not self._is_wanted:
            self.read.emit(entries)

    def _on_finished(self) -> None:
        if self.is_watching and not self._is_wanted:
            took_ms = 1000 * (time.monotonic() - self._started)
            self._look_timer.setInterval(max(_LOOK_MS, round(took_ms / _SHARE)))
            self._look_timer.start()
        self._start()

    def _look_again(self) -> None:
        if self.is_watching:
            self.refresh()
