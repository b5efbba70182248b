"""Which dataset is open in a window; whoever adds images to it asks here."""

from qtpy.QtCore import QObject, Signal

from napari_deeppixel.dataset.store import Dataset


class DatasetState(QObject):
    """The open dataset of a window.

    It may be used from any thread once it was got here; a change is told with `note_change`, in
    the GUI thread.

    Signals
    -------
    dataset_changed
        Another dataset is open, or none.
    images_changed
        Images of it were added, saved or removed.
    """

    dataset_changed = Signal()
    images_changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._dataset: Dataset | None = None

    @property
    def dataset(self) -> Dataset | None:
        """The open dataset; None: none is."""
        return self._dataset

    def set_dataset(self, dataset: Dataset | None) -> None:
        """Let another dataset be the open one."""
        if dataset is not self._dataset:
            self._dataset = dataset
            self.dataset_changed.emit()

    def note_change(self) -> None:
        """Tell that images of the dataset were added, saved or removed."""
        self.images_changed.emit()
