"""How to train: what to start from, how much memory there is, how long."""

from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QSpinBox,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_deeppixel.engine.catalogue import DEFAULT_MODEL
from napari_deeppixel.widgets.controls import combo, named
from napari_deeppixel.widgets.model_choice import OPEN_FILE, WEIGHTS_FILES

_AUTO = "auto"
_SCRATCH = "scratch"

_PRESETS = (
    ("auto: what this computer has", "auto"),
    ("CPU: small and slow", "cpu"),
    ("GPU with 8 GB", "8gb"),
    ("GPU with 24 GB", "24gb"),
    ("GPU with 80 GB", "80gb"),
)
_FREEZE = (
    ("auto: by the number of images", ""),
    ("nothing: train all layers", "none"),
    ("the first layers", "4+"),
    ("all but the heads", "heads"),
)


class TrainChoices:
    """Makes and reads the fields of a training run.

    Attributes
    ----------
    form
        The fields in sight.
    advanced
        The others.
    """

    def __init__(self) -> None:
        self.start = combo(
            "train.start",
            "The model whose weights training begins with. base is the shipped model, which every "
            "run can start from anew: recommended. current is the one in use: mistakes of earlier "
            "runs add up.",
        )
        self._current = DEFAULT_MODEL
        self._models: tuple[tuple[str, str], ...] = ()
        self._files: list[str] = []
        self.preset = combo(
            "train.preset",
            "How large crops and batches are, by the memory of the device. Out of memory is no "
            "harm: the batch is halved, and the run goes on.",
        )
        for caption, value in _PRESETS:
            self.preset.addItem(caption, value)
        self.epochs = named(
            QSpinBox(),
            "train.epochs",
            "How often each image is learnt from, in epochs. auto: by the number of images; the "
            "run ends early when it gets no better.",
        )
        self.epochs.setRange(0, 100_000)
        self.epochs.setSpecialValueText(_AUTO)
        self.epochs.setSuffix(" epochs")
        self._make_advanced()
        self.show_models((), current=DEFAULT_MODEL)
        self.start.activated.connect(self._on_activated)

    def _make_advanced(self) -> None:
        self.freeze = combo(
            "train.freeze",
            "Which layers keep their weights. Few images: all but the heads is safer and quicker.",
        )
        for caption, value in _FREEZE:
            self.freeze.addItem(caption, value)
        self.learning_rate = named(
            QDoubleSpinBox(),
            "train.learning_rate",
            "Size of a step at its largest, AdamW's. auto: 0.0001 from a model, 0.001 from random "
            "weights.",
        )
        self.learning_rate.setDecimals(6)
        self.learning_rate.setRange(0.0, 1.0)
        self.learning_rate.setSingleStep(0.0001)
        self.learning_rate.setSpecialValueText(_AUTO)
        self.batch = _number("train.batch", "Crops in a step.", high=1024)
        self.crop = _number("train.crop", "Side of a crop, in pixels.", high=4096, step=32)
        self.crop.setSuffix(" px")
        self.seed = named(
            QSpinBox(), "train.seed", "Same seed, same images and device: same result."
        )
        self.seed.setRange(0, 2**31 - 1)
        self.device = combo("train.device", "Where the network is trained.")
        self.device.addItem("auto: a GPU where there is one", "")
        self.workers = named(
            QSpinBox(),
            "train.workers",
            "Processes that prepare crops beside the one that trains. auto: by the cores.",
        )
        self.workers.setRange(-1, 64)
        self.workers.setValue(-1)
        self.workers.setSpecialValueText(_AUTO)

    def form(self) -> QFormLayout:
        """Return the fields in sight."""
        return _form(("Start from", self.start), ("Preset", self.preset), ("Length", self.epochs))

    def advanced(self) -> QWidget:
        """Return the others."""
        widget = QWidget()
        widget.setLayout(
            _form(
                ("Keep", self.freeze),
                ("Learning rate", self.learning_rate),
                ("Batch", self.batch),
                ("Crop", self.crop),
                ("Seed", self.seed),
                ("Device", self.device),
                ("Workers", self.workers),
            )
        )
        return widget

    # -- models -------------------------------------------------------------------------------

    def show_models(self, models: tuple[tuple[str, str], ...], *, current: str) -> None:
        """Offer other models.

        Parameters
        ----------
        models
            Name and description of each.
        current
            Which one is in use.
        """
        self._models, self._current = models, current
        chosen = self.start.currentData()
        with signals_blocked(self.start):
            self._fill(chosen or DEFAULT_MODEL)

    def _fill(self, chosen: str) -> None:
        models, current = self._models, self._current
        self.start.clear()
        self.start.addItem(f"base: {DEFAULT_MODEL} (recommended)", DEFAULT_MODEL)
        if current != DEFAULT_MODEL:
            self.start.addItem(f"current: {Path(current).name}", current)
        for name, description in models:
            if name not in (DEFAULT_MODEL, current):
                self.start.addItem(name, name)
                self.start.setItemData(
                    self.start.count() - 1, description, Qt.ItemDataRole.ToolTipRole
                )
        for path in self._files:
            self.start.addItem(Path(path).name, path)
            self.start.setItemData(self.start.count() - 1, path, Qt.ItemDataRole.ToolTipRole)
        self.start.addItem("scratch: random weights", _SCRATCH)
        self.start.addItem(OPEN_FILE, None)
        # no data is that of the last entry
        self.start.setCurrentIndex(max(self.start.findData(chosen), 0))

    def add_file(self, path: str) -> None:
        """Offer a weights file to start from, and choose it."""
        if path not in self._files:
            self._files.append(path)
        self.show_models(self._models, current=self._current)
        self.start.setCurrentIndex(self.start.findData(path))

    def _on_activated(self, index: int) -> None:
        if self.start.itemText(index) != OPEN_FILE:
            return
        path, _ = QFileDialog.getOpenFileName(
            self.start, "Start from these weights", "", WEIGHTS_FILES
        )
        if path:
            self.add_file(path)
        else:
            self.start.setCurrentIndex(0)

    def show_devices(self, devices: list[tuple[str, str]]) -> None:
        """Offer these devices (id and description)."""
        for identifier, description in devices:
            if self.device.findData(identifier) < 0:
                self.device.addItem(description, identifier)

    # -- reading ------------------------------------------------------------------------------

    @property
    def model(self) -> str:
        """Name or path of the model to start from."""
        return str(self.start.currentData() or DEFAULT_MODEL)

    def options(self) -> tuple[str, ...]:
        """Return the choices as options of `napari-deeppixel train`; what is auto is left out."""
        given: list[str] = ["--from", self.model, "--preset", str(self.preset.currentData())]
        for name, value, automatic in (
            ("--epochs", self.epochs.value(), 0),
            ("--freeze", self.freeze.currentData(), ""),
            ("--batch-size", self.batch.value(), 0),
            ("--crop", self.crop.value(), 0),
            ("--seed", self.seed.value(), 0),
            ("--device", self.device.currentData(), ""),
            ("--workers", self.workers.value(), -1),
        ):
            if value != automatic:
                given += [name, str(value)]
        if self.learning_rate.value():
            given += ["--learning-rate", f"{self.learning_rate.value():g}"]
        return tuple(given)


def _number(name: str, tooltip: str, *, high: int, step: int = 1) -> QSpinBox:
    spin = named(QSpinBox(), name, f"{tooltip} auto: by the preset.")
    spin.setRange(0, high)
    spin.setSingleStep(step)
    spin.setSpecialValueText(_AUTO)
    return spin


def _form(*rows: tuple[str, Any]) -> QFormLayout:
    form = QFormLayout()
    form.setContentsMargins(0, 0, 0, 0)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    form.setLabelAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
    for caption, field in rows:
        form.addRow(caption, field)
    return form
