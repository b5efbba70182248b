"""A combo box of models."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from qtpy.QtCore import QFileSystemWatcher, QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QWidget

from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.engine.catalogue import CATALOGUE
from napari_deeppixel.engine.library import ModelLibrary
from napari_deeppixel.engine.origin import Origin
from napari_deeppixel.engine.spec_file import read_spec
from napari_deeppixel.widgets.controls import named, not_widened, single_shot

OPEN_FILE = "open a weights file…"
WEIGHTS_FILES = "Weights (*.safetensors *.pth *.pt)"
# a change of the library is two or three changes of its folder
_SETTLE_MS = 200


@dataclass(frozen=True, kw_only=True)
class ModelDefaults:
    """What a model says about itself, as far as a form needs it.

    Attributes
    ----------
    description
        For people.
    score
        Lowest score of an instance.
    box_nms
        IoU above which the lower of two boxes is dropped.
    """

    description: str
    score: float
    box_nms: float


class ModelChoice(QComboBox):
    """The model in use, the others that there are, and weights files that a person opens.

    The library is watched, so that what another tab, window or command does to it shows. Where the
    model in use is chosen and another becomes the one in use, that is chosen; another choice stays.

    Parameters
    ----------
    name
        Its object name.

    Signals
    -------
    model_changed
        Another model is chosen; also where the file that is chosen cannot be read.
    weights_renewed
        The file of the chosen model was written anew, as training does, and asks for the same
        settings.
    """

    model_changed = Signal()
    weights_renewed = Signal()

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        not_widened(
            named(self, name, "What to look for. A weights file may be .safetensors or .pth.")
        )
        self._file_error = ""
        self._library = ModelLibrary()
        self._opened: list[str] = []
        self._used = self._library.current
        self._watcher = QFileSystemWatcher(self)
        self._settled = single_shot(self, _SETTLE_MS, self.refresh)
        self._watcher.directoryChanged.connect(self._on_folder_changed)
        self._fill(self._used)
        self._watch()
        self._defaults, self._stamp = self._read(), self._written_at()
        self.activated.connect(self._on_activated)
        self.currentIndexChanged.connect(self._on_changed)

    @property
    def weights(self) -> str:
        """Name or path of the chosen model; empty if there is none."""
        return self.currentData() or ""

    @property
    def defaults(self) -> ModelDefaults | None:
        """What the chosen model says about itself; None if it cannot be told."""
        return self._defaults

    @property
    def error(self) -> str:
        """Why the chosen model cannot be used; empty if it can."""
        if not self.weights:
            return "choose a model, or open a weights file"
        if self._path is None and self.weights not in _SHIPPED:
            return f"{self.weights} is gone: choose another model"
        return self._file_error

    def add_file(self, path: str) -> None:
        """Offer a weights file, and choose it."""
        if self.findData(path) < 0:
            self._opened.append(path)
            self._insert(self.count() - 1, Path(path).name, path)
        self.setCurrentIndex(self.findData(path))

    def refresh(self) -> None:
        """Show what the library holds now; done by itself when its folder changes."""
        used, chosen = self._library.current, self.weights
        wanted = used if chosen == self._used != used else chosen
        self._used = used
        with QSignalBlocker(self):
            self._fill(wanted)
        self._watch()
        if self.weights != chosen:
            self._on_changed()
        elif self._written_at() != self._stamp:
            before = self._settings
            self._defaults, self._stamp = self._read(), self._written_at()
            changed = self.weights_renewed if self._settings == before else self.model_changed
            changed.emit()

    def showPopup(self) -> None:  # noqa: N802  Qt's
        """Look at the library first: on a disk of another computer nothing tells of changes."""
        self.refresh()
        super().showPopup()

    # -- inside -------------------------------------------------------------------------------

    @property
    def _path(self) -> Path | None:
        """File of the chosen model; None if it is one of the catalogue, or gone."""
        if self.weights in _SHIPPED:
            return None
        path = self._library.find(self.weights) or Path(self.weights)
        return path if path.is_file() else None

    @property
    def _settings(self) -> tuple[str, float, float] | None:
        told = self._defaults
        return None if told is None else (self.error, told.score, told.box_nms)

    def _fill(self, chosen: str) -> None:
        """Show all models, the one in use first, and choose one, be it gone."""
        others = [*_SHIPPED, *self._library.names()]
        names = [self._used, *(name for name in others if name != self._used), *self._opened]
        if chosen and chosen not in names:
            names.append(chosen)
        if names == [self.itemData(n) for n in range(self.count() - 1)]:
            self.setCurrentIndex(self.findData(chosen) if chosen else self.count() - 1)
            return
        self.clear()
        for name in names:
            text = Path(name).name if name in self._opened else name
            self._insert(self.count(), text, name)
        self.addItem(OPEN_FILE, None)
        self.setCurrentIndex(names.index(chosen) if chosen else len(names))

    def _insert(self, position: int, text: str, model: str) -> None:
        self.insertItem(position, text, model)
        if model != text:
            self.setItemData(position, model, Qt.ItemDataRole.ToolTipRole)

    def _watch(self) -> None:
        # a folder that is not there cannot be watched
        with contextlib.suppress(OSError):
            self._library.folder.mkdir(parents=True, exist_ok=True)
        wanted = {str(self._library.folder)}
        if self._path is not None:
            wanted.add(str(self._path.parent))
        watched = set(self._watcher.directories())
        for folder in watched - wanted:
            self._watcher.removePath(folder)
        for folder in wanted - watched:
            if Path(folder).is_dir():
                self._watcher.addPath(folder)

    def _written_at(self) -> int:
        try:
            return 0 if self._path is None else self._path.stat().st_mtime_ns
        except OSError:
            return 0

    def _on_folder_changed(self) -> None:
        self._settled.start()

    def _on_activated(self, index: int) -> None:
        if self.itemText(index) != OPEN_FILE:
            return
        path, _ = QFileDialog.getOpenFileName(self, "Open weights", "", WEIGHTS_FILES)
        if path:
            self.add_file(path)
        else:
            self.setCurrentIndex(0)

    def _on_changed(self) -> None:
        self._defaults, self._stamp = self._read(), self._written_at()
        self._watch()
        self.model_changed.emit()

    def _read(self) -> ModelDefaults | None:
        self._file_error = ""
        for entry in CATALOGUE:
            if entry.name == self.weights:
                return ModelDefaults(
                    description=entry.description, score=entry.score, box_nms=entry.box_nms
                )
        path = self._path
        if path is None:
            return None
        if path.suffix != ".safetensors":
            # torchvision's own settings, which a bare state dict goes with
            return ModelDefaults(description=self.weights, score=0.5, box_nms=0.5)
        try:
            spec = read_spec(path)
        except DeepPixelError as error:
            self._file_error = str(error)
            return None
        return ModelDefaults(
            description=spec.description or " ".join(Origin.of(spec).sentences()),
            score=spec.score,
            box_nms=spec.box_nms,
        )


_SHIPPED = tuple(entry.name for entry in CATALOGUE)
