"""The list of images in the Data tab: filter, selection, menu, and the way from one to the next."""

from collections.abc import Callable, Sequence

from qtpy.QtCore import QItemSelectionModel, QModelIndex, QObject, QPoint, Signal
from qtpy.QtWidgets import QMenu

from napari_deeppixel.dataset.annotated import ImageState, Split
from napari_deeppixel.dataset.image_entry import ImageEntry
from napari_deeppixel.dataset.store import Dataset
from napari_deeppixel.widgets.data_actions import DataActions
from napari_deeppixel.widgets.data_delegate import ImageDelegate
from napari_deeppixel.widgets.data_model import (
    STATE_WORDS,
    ImageListModel,
    is_unfinished,
    totals_of,
)
from napari_deeppixel.widgets.data_panels import DataPanels
from napari_deeppixel.widgets.thumbnails import Thumbnails

_SPLITS = {
    Split.TRAIN: "Training",
    Split.VAL: "Validation",
    Split.TEST: "Testing",
    None: "Automatic",
}


class ImageBrowser(QObject):
    """Shows the images of a dataset and says which one is wanted.

    Parameters
    ----------
    panels
        The widgets.
    actions
        What the menu does.

    Signals
    -------
    open_wanted
        Id of an image.
    said
        Message for the person.
    """

    open_wanted = Signal(str)
    said = Signal(str)

    def __init__(self, panels: DataPanels, actions: DataActions, parent: QObject) -> None:
        super().__init__(parent)
        self._panels, self._actions = panels, actions
        self.thumbnails = Thumbnails(self)
        self.thumbnails.made.connect(self._on_thumbnail)
        self.model = ImageListModel(self)
        self._delegate = ImageDelegate(self.thumbnails, panels.list)
        self._open_id = ""
        self._has_dataset = False
        panels.list.setModel(self.model)
        panels.list.setItemDelegate(self._delegate)
        panels.list.activated.connect(self._on_activated)
        panels.list.customContextMenuRequested.connect(self._on_menu_wanted)
        panels.filter.textChanged.connect(self._on_filter)
        panels.show.currentIndexChanged.connect(self._on_filter)
        panels.previous.clicked.connect(lambda: self.go(-1))
        panels.next.clicked.connect(lambda: self.go(1))
        panels.unfinished.clicked.connect(self.go_to_unfinished)
        panels.complete.clicked.connect(self._on_complete)
        selection = panels.list.selectionModel()
        assert selection is not None  # it has a model
        selection.selectionChanged.connect(self._show_buttons)
        self._show_buttons()

    # -- what is shown ------------------------------------------------------------------------

    def set_dataset(self, dataset: Dataset | None) -> None:
        """Show another dataset, whose images come with `set_entries`."""
        self.thumbnails.forget()
        self._delegate.dataset, self._has_dataset = dataset, False
        self.set_entries([])
        self._has_dataset = dataset is not None

    def set_entries(self, entries: Sequence[ImageEntry]) -> None:
        """Show these images; what is selected stays so."""
        self._keep_selection(lambda: self.model.set_entries(entries))
        self._show_totals()

    def replace_entry(self, entry: ImageEntry) -> None:
        """Show what became of an image."""
        self.model.replace_entry(entry)
        self._show_totals()

    def set_open(self, image_id: str) -> None:
        """Mark the image that is open, and bring it into sight."""
        self._open_id = image_id
        self.model.set_open(image_id)
        if image_id:
            self.select(image_id)
        self._show_buttons()

    def _show_totals(self) -> None:
        entries = self.model.entries
        self._panels.totals.say(totals_of(entries) if entries else "")
        self._panels.no_images.setVisible(self._has_dataset and not entries)
        self._show_buttons()

    def _show_buttons(self, *_: object) -> None:
        panels, selected = self._panels, self.selected()
        has_any = self.model.rowCount() > 0
        for each in (panels.previous, panels.next, panels.unfinished):
            each.setEnabled(has_any)
        is_complete = bool(selected) and all(not is_unfinished(entry) for entry in selected)
        panels.complete.setText("Back to draft" if is_complete else "Mark complete")
        panels.complete.setEnabled(bool(selected))

    def _on_thumbnail(self, _key: str) -> None:
        viewport = self._panels.list.viewport()
        if viewport is not None:
            viewport.update()

    def _on_filter(self, *_: object) -> None:
        text, show = self._panels.filter.text(), self._panels.show.currentData()
        self._keep_selection(lambda: self.model.set_filter(text, show))
        self._show_buttons()

    # -- selection ----------------------------------------------------------------------------

    def selected(self) -> list[ImageEntry]:
        """Return the selected images."""
        return [self.model.entry_at(index.row()) for index in self._panels.list.selectedIndexes()]

    def select(self, image_id: str) -> None:
        """Select an image alone, and bring it into sight, if the filter shows it."""
        row = self.model.row_of(image_id)
        if row is not None:
            self._panels.list.setCurrentIndex(self.model.index(row))

    def _keep_selection(self, change: Callable[[], bool]) -> None:
        ids = [entry.image_id for entry in self.selected()]
        if not change():
            return
        selection = self._panels.list.selectionModel()
        # what the filter hid comes back with the image that is open
        found = [self.model.row_of(image_id) for image_id in ids or [self._open_id]]
        rows = [row for row in found if row is not None]
        if selection is None or not rows:
            return
        # a reset puts the list back to its top
        for row in rows:
            selection.select(self.model.index(row), QItemSelectionModel.SelectionFlag.Select)
        current = self.model.index(rows[0])
        selection.setCurrentIndex(current, QItemSelectionModel.SelectionFlag.NoUpdate)
        self._panels.list.scrollTo(current)

    # -- the way ------------------------------------------------------------------------------

    def _on_activated(self, index: QModelIndex) -> None:
        self.open_wanted.emit(self.model.entry_at(index.row()).image_id)

    def _place(self, wanted_id: str) -> str:
        """Return from which image to go on: the one that is coming, is open, or is selected."""
        if wanted_id or self._open_id:
            return wanted_id or self._open_id
        current = self._panels.list.currentIndex()
        return self.model.entry_at(current.row()).image_id if current.isValid() else ""

    def go(self, step: int, wanted_id: str = "") -> None:
        """Ask for the image after the one that is open (1) or before it (-1)."""
        place = self._place(wanted_id)
        if not self.model.rowCount():
            return
        if not place:
            entry: ImageEntry | None = self.model.entry_at(0 if step > 0 else -1)
        else:
            entry = self.model.neighbour(place, step)
        if entry is None:
            self.said.emit("This is the last image." if step > 0 else "This is the first image.")
        else:
            self.open_wanted.emit(entry.image_id)

    def go_to_unfinished(self) -> None:
        """Ask for the next image that is not complete."""
        entry = self.model.next_unfinished(self._place(""))
        if entry is None:
            self.said.emit("No other image in this list is unfinished.")
        else:
            self.open_wanted.emit(entry.image_id)

    # -- what can be done ---------------------------------------------------------------------

    def _on_complete(self) -> None:
        selected = self.selected()
        if selected:
            is_complete = all(not is_unfinished(entry) for entry in selected)
            state = ImageState.DRAFT if is_complete else ImageState.COMPLETE
            self._actions.set_state(selected, state)

    def _on_menu_wanted(self, place: QPoint) -> None:
        viewport = self._panels.list.viewport()
        if viewport is not None and self.fill_menu():
            self._panels.menu.popup(viewport.mapToGlobal(place))

    def fill_menu(self) -> bool:
        """Put what can be done with the selected images into the menu; return whether any is."""
        menu, selected, actions = self._panels.menu, self.selected(), self._actions
        menu.clear()
        if not selected:
            return False
        if len(selected) == 1:
            image_id = selected[0].image_id
            menu.addAction("Open", lambda: self.open_wanted.emit(image_id))
            menu.addSeparator()
        for state in (ImageState.COMPLETE, ImageState.DRAFT, ImageState.NONE):
            menu.addAction(
                f"Mark {STATE_WORDS[state]}",
                lambda state=state: actions.set_state(selected, state),
            )
        menu.addSeparator()
        _fill_splits(menu.addMenu("Use for"), selected, actions)
        menu.addAction("Group…", lambda: actions.choose_group(selected))
        menu.addSeparator()
        if len(selected) == 1:
            menu.addAction("Rename…", lambda: actions.choose_name(selected[0]))
            menu.addAction("Accept changed file", lambda: actions.accept_file(selected[0]))
        menu.addAction("Remove…", lambda: actions.remove(selected))
        return True


def _fill_splits(menu: QMenu | None, selected: Sequence[ImageEntry], actions: DataActions) -> None:
    if menu is None:
        return
    pins = {entry.split if entry.is_split_pinned else None for entry in selected}
    for split, caption in _SPLITS.items():
        action = menu.addAction(caption, lambda split=split: actions.set_split(selected, split))
        if action is not None:
            action.setCheckable(True)
            action.setChecked(pins == {split})
