"""The button that names the open dataset and offers others."""

from collections.abc import Callable
from pathlib import Path

from qtpy.QtWidgets import QMenu

from napari_deeppixel.dataset.store import Dataset
from napari_deeppixel.widgets.data_actions import DataActions
from napari_deeppixel.widgets.data_panels import MenuButton
from napari_deeppixel.widgets.settings import own_settings

_RECENT_KEY, _MAX_RECENT = "datasets/recent", 8


class DatasetChooser:
    """Names the open dataset, and remembers those that were open.

    Parameters
    ----------
    button
        The button.
    actions
        Open and make datasets.
    close
        Closes the one that is open.
    offer_export
        Puts the formats to export to into a menu.
    """

    def __init__(
        self,
        button: MenuButton,
        actions: DataActions,
        *,
        close: Callable[[], object],
        offer_export: Callable[[QMenu], object],
    ) -> None:
        self._button, self._actions, self._close = button, actions, close
        self._offer_export = offer_export
        # a folder that is gone since is not offered: look when somebody wants to choose
        button.popup.aboutToShow.connect(self.fill)
        self._dataset: Dataset | None = None

    def show_dataset(self, dataset: Dataset | None) -> None:
        """Name another dataset; None: none is open."""
        self._dataset = dataset
        if dataset is None:
            self._button.setText("Choose a dataset")
            self._button.setToolTip("Open or make a dataset, or one of the last ones.")
            return
        self._button.setText(dataset.path.name)
        self._button.setToolTip(f"{dataset.path}\nOpen another dataset, or make one.")
        names = [str(dataset.path), *(str(p) for p in self._recent() if p != dataset.path)]
        own_settings().setValue(_RECENT_KEY, names[:_MAX_RECENT])

    def fill(self) -> None:
        """Put what there is to choose into the menu."""
        popup, actions = self._button.popup, self._actions
        popup.clear()
        popup.addAction("Open…", actions.choose_dataset)
        popup.addAction("New…", actions.choose_new_dataset)
        if self._dataset is not None:
            popup.addAction("Close", self._close)
            export = popup.addMenu("Export as")
            if export is not None:
                self._offer_export(export)
        recent = [path for path in self._recent() if Dataset.is_dataset(path)]
        if recent:
            popup.addSeparator()
        for path in recent:
            popup.addAction(str(path), lambda path=path: actions.open_dataset(path))

    def _recent(self) -> list[Path]:
        value = own_settings().value(_RECENT_KEY)
        names = [value] if isinstance(value, str) else list(value or [])
        return [Path(str(name)) for name in names]
