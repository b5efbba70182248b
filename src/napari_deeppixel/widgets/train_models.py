"""The list of models: where each comes from, and which one is used."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from qtpy.QtCore import QObject, Qt, Signal
from qtpy.QtGui import QFont
from qtpy.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QInputDialog,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.core.progress import CancelToken
from napari_deeppixel.engine.catalogue import CATALOGUE, DEFAULT_MODEL
from napari_deeppixel.engine.library import LibraryModel, ModelLibrary
from napari_deeppixel.widgets.controls import RED, Note, button, named
from napari_deeppixel.widgets.data_panels import MenuButton
from napari_deeppixel.widgets.job_queue import Job, JobQueue
from napari_deeppixel.widgets.model_choice import WEIGHTS_FILES
from napari_deeppixel.widgets.worker import ReportProgress


@dataclass(frozen=True, kw_only=True)
class ModelState:
    """What the library says.

    Attributes
    ----------
    models
        Those of the library.
    current
        Name of the one in use.
    before
        Name of the one in use before; empty: none was.
    problems
        What is wrong with the library.
    """

    models: tuple[LibraryModel, ...] = ()
    current: str = DEFAULT_MODEL
    before: str = ""
    problems: tuple[str, ...] = ()


class ModelStore(QObject):
    """Reads and changes the library in a thread, one thing after the other.

    Signals
    -------
    changed
        `state` was read.
    used
        Name of the model that is in use from now on.
    failed
        Message for the person.
    """

    changed = Signal()
    used = Signal(str)
    failed = Signal(str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.state = ModelState()
        # of the last one that was removed: name, file, whether it was in use
        self.removed: tuple[str, Path, bool] | None = None
        self._has_read = False
        self.queue = JobQueue(self)
        self.queue.failed.connect(self._on_failed)

    def refresh(self) -> None:
        """Read what there is."""
        self._run("reading the models", lambda _: None)

    def use(self, name: str) -> None:
        """Use a model from now on."""
        self._run(f"using {name}", lambda library: library.use(name))

    def add(self, path: Path, *, name: str | None = None, is_used: bool = False) -> None:
        """Copy a weights file into the library; `is_used`: and use it from now on."""

        def add(library: ModelLibrary) -> None:
            added = library.add(path, name)
            if is_used:
                library.use(added.name)

        self._run(f"adding {path.name}", add)

    def roll_back(self) -> None:
        """Use the model again that was in use before."""
        self._run("rolling back", lambda library: library.roll_back())

    def rename(self, old: str, new: str) -> None:
        """Give a model another name."""
        self._run(f"renaming {old}", lambda library: library.rename(old, new))

    def export(self, name: str, path: Path) -> None:
        """Write a model to one file; the file dialog asked before one is replaced."""
        self._run(f"exporting {name}", lambda library: library.export(name, path, overwrite=True))

    def remove(self, name: str) -> None:
        """Move a model out of the list; `bring_back` undoes it."""

        def remove(library: ModelLibrary) -> None:
            was_used = library.current == name
            self.removed = (name, library.remove(name), was_used)

        self._run(f"removing {name}", remove)

    def bring_back(self) -> None:
        """Put the model back that was removed last."""
        if self.removed is not None:
            name, path, was_used = self.removed
            self.removed = None
            self.add(path, name=name, is_used=was_used)

    def shut_down(self) -> None:
        """Do no more."""
        self.queue.shut_down()

    def _run(self, caption: str, change: Callable[[ModelLibrary], object]) -> None:
        def work(_cancel: CancelToken, _report: ReportProgress) -> Iterator[ModelState]:
            library = ModelLibrary()
            try:
                change(library)
            finally:
                yield _read(library)

        self.queue.run(Job(caption=caption, work=work, on_result=self._on_state))

    def _on_state(self, state: ModelState) -> None:
        before, self.state = self.state.current, state
        has_read, self._has_read = self._has_read, True
        self.changed.emit()
        if has_read and state.current != before:
            self.used.emit(state.current)

    def _on_failed(self, error: BaseException) -> None:
        self.failed.emit(str(error))
        if not isinstance(error, DeepPixelError | OSError):
            raise error


def _read(library: ModelLibrary) -> ModelState:
    history = library.history
    return ModelState(
        models=library.models(),
        current=library.current,
        before=history[-1] if history else "",
        problems=library.problems,
    )


class ModelsPanel(QWidget):
    """Shows a `ModelStore`, and lets a person change it."""

    def __init__(self, store: ModelStore, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._store = store
        self._make()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.tree)
        row = QHBoxLayout()
        row.addWidget(self.use_button, 1)
        row.addWidget(self.more)
        layout.addLayout(row)
        layout.addWidget(self.note)
        store.changed.connect(self._show)
        store.failed.connect(lambda message: self.note.say(message, color=RED))
        self._show()

    def _make(self) -> None:
        self.tree = named(QTreeWidget(), "train.models", "Hold the mouse on one: where it is from.")
        self.tree.setHeaderLabels(["Model", "Data", "Date", "AP"])
        self.tree.setRootIsDecorated(False)
        self.tree.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.tree.setSortingEnabled(True)
        self.tree.sortByColumn(0, Qt.SortOrder.AscendingOrder)
        self.tree.setMinimumHeight(110)
        header = self.tree.header()
        assert header is not None  # Qt makes it with the tree
        header.setStretchLastSection(False)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        for column in (1, 2, 3):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
        self.use_button = button(
            "Use this model", "train.use_model", "Detect and Live take it from now on."
        )
        self.use_button.clicked.connect(lambda: self._store.use(self.selected))
        self.more = MenuButton("More", "train.model_menu", "Rename, export, import, remove.")
        self._actions = {
            name: self.more.popup.addAction(caption, do)
            for name, caption, do in (
                ("rename", "Rename…", self._on_rename),
                ("export", "Export to one file…", self._on_export),
                ("import", "Import a file…", self._on_import),
                ("remove", "Remove", lambda: self._store.remove(self.selected)),
                ("back", "Undo the last remove", self._store.bring_back),
            )
        }
        self.tree.itemSelectionChanged.connect(self._on_selected)
        self.note = Note("train.models_note")

    @property
    def selected(self) -> str:
        """Name of the model that is selected; empty if none is."""
        items = self.tree.selectedItems()
        return str(items[0].data(0, Qt.ItemDataRole.UserRole)) if items else ""

    def _show(self) -> None:
        state, selected = self._store.state, self.selected
        self.tree.clear()
        for entry in CATALOGUE:
            # torchvision's are downloaded: of them only the one in use is of interest
            if entry.name in (DEFAULT_MODEL, state.current):
                data = "shipped" if entry.name == DEFAULT_MODEL else ""
                self._add(entry.name, (data, "", ""), "")
        for model in state.models:
            origin = model.origin
            ap = "" if math.isnan(origin.ap) else f"{origin.ap:.3f}"
            self._add(model.name, (origin.data, origin.day, ap), "\n".join(model.lineage))
        for at in range(self.tree.topLevelItemCount()):
            item = self.tree.topLevelItem(at)
            if item is not None and item.data(0, Qt.ItemDataRole.UserRole) == selected:
                item.setSelected(True)
        self.note.say("\n".join(state.problems), color=RED)
        self._on_selected()

    def _add(self, name: str, facts: tuple[str, str, str], lineage: str) -> None:
        is_used = name == self._store.state.current
        item = QTreeWidgetItem([f"✓ {name}" if is_used else name, *facts])
        item.setData(0, Qt.ItemDataRole.UserRole, name)
        if is_used:
            font = QFont(item.font(0))
            font.setBold(True)
            item.setFont(0, font)
        head = f"{name}: the model in use" if is_used else name
        for column in range(4):
            item.setToolTip(column, "\n".join(part for part in (head, lineage) if part))
        self.tree.addTopLevelItem(item)

    def _on_selected(self) -> None:
        name, state = self.selected, self._store.state
        is_ours = name in [model.name for model in state.models]
        self.use_button.setEnabled(bool(name) and name != state.current)
        for key, is_possible in (
            ("rename", is_ours),
            ("remove", is_ours),
            ("export", is_ours or name == DEFAULT_MODEL),
            ("back", self._store.removed is not None),
        ):
            action = self._actions[key]
            if action is not None:
                action.setEnabled(is_possible)

    # -- what is asked ------------------------------------------------------------------------

    def _on_rename(self) -> None:
        old = self.selected
        new, is_ok = QInputDialog.getText(self, "Rename the model", "New name", text=old)
        if is_ok and new.strip() and new.strip() != old:
            self._store.rename(old, new.strip())

    def _on_export(self) -> None:
        name = self.selected
        path, _ = QFileDialog.getSaveFileName(
            self, f"Export {name}", f"{name}.safetensors", "Weights (*.safetensors)"
        )
        if path:
            self._store.export(name, Path(path).with_suffix(".safetensors"))

    def _on_import(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Import a model", "", WEIGHTS_FILES)
        if path:
            self._store.add(Path(path))
