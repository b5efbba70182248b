"""A combo box of models."""

from dataclasses import dataclass
from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QWidget

from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.engine.catalogue import CATALOGUE
from napari_deeppixel.engine.spec_file import read_spec
from napari_deeppixel.widgets.controls import named, not_widened

_OPEN_FILE = "open a weights file…"


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
    """The models that come with the package, and weights files that a person opens.

    Parameters
    ----------
    name
        Its object name.

    Signals
    -------
    model_changed
        Another model is chosen; also where the file that is chosen cannot be read.
    """

    model_changed = Signal()

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        not_widened(
            named(self, name, "What to look for. A weights file may be .safetensors or .pth.")
        )
        self._file_error = ""
        for entry in CATALOGUE:
            self.addItem(entry.name, entry.name)
        self.addItem(_OPEN_FILE, None)
        self.activated.connect(self._on_activated)
        self.currentIndexChanged.connect(self._on_changed)
        self._defaults = self._read()

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
        if (
            self.weights not in [entry.name for entry in CATALOGUE]
            and not Path(self.weights).is_file()
        ):
            return f"{self.weights} is gone: choose another model"
        return self._file_error

    def add_file(self, path: str) -> None:
        """Offer a weights file, and choose it."""
        position = self.findData(path)
        if position < 0:
            position = self.count() - 1
            self.insertItem(position, Path(path).name, path)
            self.setItemData(position, path, Qt.ItemDataRole.ToolTipRole)
        self.setCurrentIndex(position)

    def _on_activated(self, index: int) -> None:
        if self.itemText(index) != _OPEN_FILE:
            return
        path, _ = QFileDialog.getOpenFileName(
            self, "Open weights", "", "Weights (*.safetensors *.pth *.pt)"
        )
        if path:
            self.add_file(path)
        else:
            self.setCurrentIndex(0)

    def _on_changed(self) -> None:
        self._defaults = self._read()
        self.model_changed.emit()

    def _read(self) -> ModelDefaults | None:
        self._file_error = ""
        for entry in CATALOGUE:
            if entry.name == self.weights:
                return ModelDefaults(
                    description=entry.description, score=entry.score, box_nms=entry.box_nms
                )
        if not self.weights:
            return None
        if not self.weights.endswith(".safetensors"):
            # torchvision's own settings, which a bare state dict goes with
            return ModelDefaults(description=self.weights, score=0.5, box_nms=0.5)
        try:
            spec = read_spec(self.weights)
        except DeepPixelError as error:
            self._file_error = str(error)
            return None
        return ModelDefaults(
            description=spec.description or self.weights, score=spec.score, box_nms=spec.box_nms
        )
