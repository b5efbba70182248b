"""The Live tab: a camera with instances on it, and frames taken from it."""

import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from napari.layers import Image, Tracks
from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible, QLabeledDoubleSlider

from napari_deeppixel import __version__
from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.engine.base import CANDIDATE_SCORE, PredictOptions
from napari_deeppixel.live.av_devices import CameraFormat
from napari_deeppixel.live.registry import CameraProvider, create_source
from napari_deeppixel.live.result import LiveResult
from napari_deeppixel.live.source import FrameSource, SourceOptions
from napari_deeppixel.live.status import LiveState
from napari_deeppixel.viewer.layer_source import LayerSource
from napari_deeppixel.viewer.layers import InstanceLayers
from napari_deeppixel.widgets.advanced import zoom_field
from napari_deeppixel.widgets.controls import AMBER, RED, Note, TallArea, button, combo, named
from napari_deeppixel.widgets.dataset_state import DatasetState
from napari_deeppixel.widgets.detect import DetectTab
from napari_deeppixel.widgets.live_freeze import FrozenFrames
from napari_deeppixel.widgets.live_keep import LiveKeep
from napari_deeppixel.widgets.live_plot import LivePlot
from napari_deeppixel.widgets.live_run import LiveRun, ModelRequest, Shown
from napari_deeppixel.widgets.live_sources import SourceChoice
from napari_deeppixel.widgets.live_text import figures_text, older_text, status_text
from napari_deeppixel.widgets.model_choice import ModelChoice
from napari_deeppixel.widgets.worker import BackgroundTask

_LOOK_MS = 500
_LINES = {"camera": "#9aa4b2", "model": "#5ab4f0", "screen": "#7bd88f"}
_SIZES = ((240, 320), (480, 640), (720, 1280), (1080, 1920))
_FREEZE, _BACK = "Freeze and correct", "Back to live"
_SAVE_TO_FOLDER = "Save frame"


class LiveTab(QWidget):
    """Show a live source with its instances.

    Parameters
    ----------
    viewer
        The napari viewer.
    detect
        The Detect tab: its device and its loaded model are used here, too.
    datasets
        Knows which dataset is open: frames are saved into it.

    Signals
    -------
    review_wanted
        A frame was frozen: its instances are to be corrected.
    """

    review_wanted = Signal()

    def __init__(
        self,
        viewer: Any,
        detect: DetectTab,
        datasets: DatasetState,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._detect, self._datasets = viewer, detect, datasets
        self.run = LiveRun(viewer, detect.run.shelf, self)
        self._seen: LiveResult | None = None
        self._problem = ""
        self._frozen = FrozenFrames(viewer)
        self._build()
        self._connect()
        self._follow_model()
        self._say()

    # -- building -----------------------------------------------------------------------------

    def _build(self) -> None:
        self.source = SourceChoice(self._viewer)
        self._model = ModelChoice("live.model")
        self._score = named(
            QLabeledDoubleSlider(Qt.Orientation.Horizontal),
            "live.score",
            "Show instances from this score (0 to 1) on.",
        )
        self._score.setRange(CANDIDATE_SCORE, 1.0)
        self._score.setDecimals(2)
        self._score.setSingleStep(0.01)  # type: ignore[arg-type]  # superqt's stubs say int
        self._start = button("Start", "live.start", "Open the source and find instances in it.")
        self._freeze = button(
            _FREEZE,
            "live.freeze",
            "Take the frame that is shown, with its instances, as an image to correct in Review. "
            "The camera goes on.",
        )
        self._save = button(
            _SAVE_TO_FOLDER,
            "live.save",
            "Save the frame that is shown with its instances: into the dataset that is open in the "
            "Data tab, or else to the folder below.",
        )
        self._status = Note("live.status")
        self._model_note = Note("live.model_note", color=AMBER)
        self._figures = named(
            QLabel(),
            "live.figures",
            "Frames a second of camera, model and screen; time from the camera to the screen: "
            "median, and what 95 % do not exceed; frames that the model skipped because a newer "
            "one was there.",
        )
        self._figures.setWordWrap(True)
        self._plot = LivePlot(_LINES)
        self.keep = LiveKeep(self._datasets)
        self._lay_out()

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.setLabelAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        form.addRow("Source", self.source)
        form.addRow("", self.source.note)
        form.addRow("Model", self._model)
        form.addRow("Score", self._score)
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(0, 0, 6, 0)
        layout.addLayout(form)
        layout.addWidget(self._start)
        layout.addWidget(self._status)
        layout.addWidget(self._model_note)
        layout.addWidget(self._plot)
        layout.addWidget(self._figures)
        buttons = QHBoxLayout()
        buttons.addWidget(self._freeze)
        buttons.addWidget(self._save)
        layout.addLayout(buttons)
        layout.addWidget(_folded("Record and save", "live.keep", self.keep))
        layout.addWidget(_folded("Advanced", "live.advanced", self._advanced()))
        layout.addStretch(1)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 4, 0, 0)
        outer.addWidget(TallArea(content))

    def _advanced(self) -> QWidget:
        self._shown = combo(
            "live.shown",
            "auto: frames with their own instances while the model gives 8 or more a second, else "
            "the newest frame; its instances are of an earlier one, their boxes amber, and they "
            "fade with their age.",
        )
        for shown in Shown:
            self._shown.addItem(shown.value, shown)
        self._size = combo("live.size", "Size that a camera or the screen is asked for, in pixels.")
        self._show_sizes(())
        self._fps = _number("live.fps", "Frames a second that a camera is asked for.", high=1000)
        self._timeout = _number(
            "live.timeout",
            "Longest wait in seconds for the source to open, and for each frame, before it is "
            "opened again.",
            high=60,
        )
        self._timeout.setSuffix(" s")
        self._exposure = _number(
            "live.exposure", "Exposure in milliseconds, of a microscope's camera.", high=100_000
        )
        self._exposure.setSuffix(" ms")
        self._tracks = button(
            "Tracks of the last seconds",
            "live.tracks",
            "Add a Tracks layer of where the objects were lately, one step of its slider for each "
            "result.",
        )
        self._loop = named(
            QCheckBox("begin again at the end"), "live.loop", "For videos: play them for ever."
        )
        self._loop.setChecked(True)
        self._zoom = zoom_field("live.zoom")
        form = QFormLayout()
        form.addRow("Show", self._shown)
        form.addRow(self._zoom.label, self._zoom.native)
        form.addRow("Size", self._size)
        form.addRow("Rate", self._fps)
        form.addRow("Time-out", self._timeout)
        form.addRow("Exposure", self._exposure)
        form.addRow("Videos", self._loop)
        form.addRow("", self._tracks)
        widget = QWidget()
        widget.setLayout(form)
        return widget

    def _connect(self) -> None:
        self._start.clicked.connect(self._on_start)
        self._freeze.clicked.connect(self._on_freeze)
        self._save.clicked.connect(self._on_save)
        self._datasets.dataset_changed.connect(self._name_save)
        self._model.model_changed.connect(self._on_model_changed)
        self._model.weights_renewed.connect(self._on_weights_renewed)
        self._model.activated.connect(self._on_model_chosen)
        self._score.valueChanged.connect(self._on_options_changed)
        self._zoom.changed.connect(self._on_options_changed)
        self._shown.currentIndexChanged.connect(self._on_shown_changed)
        self._tracks.clicked.connect(self._on_tracks)
        self._formats = BackgroundTask(self)
        self._formats.yielded.connect(self._show_sizes)
        self.source.source_changed.connect(self._on_source_changed)
        self.run.state_changed.connect(self._say)
        self._timer = QTimer(self)
        self._timer.setInterval(_LOOK_MS)
        self._timer.timeout.connect(self._look)

    def shut_down(self) -> None:
        """Stop all work and let go of the viewer; may be called more than once."""
        self._timer.stop()
        self._formats.abandon()
        self.keep.shut_down()
        self.run.shut_down()
        self.source.shut_down()

    # -- starting and stopping ----------------------------------------------------------------

    def _on_start(self) -> None:
        if self.run.is_running:
            self.run.stop()
            return
        self._plot.clear()
        self._figures.clear()
        self._problem = ""
        try:
            source = self._make_source()
        except (DeepPixelError, ValueError) as error:
            self._problem = str(error)
            self._say()
            return
        self._frozen.hide()
        self.run.shown = self._shown.currentData()
        self.run.start(source, request=self._request(), options=self._options())
        self.keep.follow(self.run.pipeline, source.info.label)
        self._timer.start()

    def _make_source(self) -> FrameSource:
        chosen = self.source.chosen
        if chosen is None:
            raise ValueError("choose a source first")
        if isinstance(chosen, Image):
            return LayerSource(self._viewer, chosen)
        size_hw, codec = self._size.currentData()
        extra = {"input_format": codec} if codec else {}
        if self._exposure.isEnabled() and self._exposure.value():
            extra["exposure_ms"] = str(self._exposure.value())
        options = SourceOptions(
            size_hw=size_hw,
            fps=self._fps.value() or None,
            is_looped=self._loop.isChecked(),
            extra=extra,
        )
        if self._timeout.value():
            options = replace(options, timeout_s=self._timeout.value())
        return create_source(chosen, options)

    def _on_source_changed(self) -> None:
        """Offer what the source can do."""
        chosen = self.source.chosen
        address = chosen if isinstance(chosen, str) else ""
        self._exposure.setEnabled(address.startswith("micromanager"))
        cameras = CameraProvider()
        self._formats.abandon()
        self._show_sizes(())
        if cameras.opens(address):
            # opens the camera for a moment
            self._formats.start(lambda _c, _r: iter([cameras.list_formats(address)]))

    def _show_sizes(self, formats: tuple[CameraFormat, ...]) -> None:
        """Offer the sizes of a camera's formats, or the usual ones where it does not tell."""
        self._size.clear()
        self._size.addItem("the source's own", (None, ""))
        known = [(size, each.codec) for each in formats for size in each.sizes_hw]
        for size, codec in known or [(size, "") for size in _SIZES]:
            named_codec = f" ({codec})" if codec else ""
            self._size.addItem(f"{size[1]} x {size[0]}{named_codec}", (size, codec))

    def _request(self) -> ModelRequest:
        return ModelRequest(
            model=self._model.weights, device=self._detect.device, engine=self._detect.engine
        )

    def _options(self) -> PredictOptions:
        return PredictOptions(score=self._score.value(), zoom=self._zoom.value or None)

    def _follow_model(self) -> None:
        defaults = self._model.defaults
        if defaults is not None:
            self._score.setValue(defaults.score)

    def _on_model_changed(self) -> None:
        self._follow_model()
        if self.run.is_running and not self._model.error:
            self.run.set_model(self._request())
        self._say()

    def _on_weights_renewed(self) -> None:
        """Swap what training has written anew in between two frames; the score stays."""
        if self.run.is_running:
            self.run.set_model(self._request())

    def _on_model_chosen(self) -> None:
        """Ask a model again that had failed, where the person chooses the same once more."""
        pipeline = self.run.pipeline
        if pipeline is not None and not self._model.error and not pipeline.model_status.is_running:
            self.run.set_model(self._request())

    def _on_options_changed(self) -> None:
        self.run.set_options(self._options())

    def _on_shown_changed(self) -> None:
        self.run.shown = self._shown.currentData()

    # -- how it is doing ----------------------------------------------------------------------

    def _look(self) -> None:
        self._say()
        figures = self.run.figures()
        self.keep.look()
        if figures is None:
            return
        self._plot.add(
            time.monotonic(),
            {
                "camera": figures.camera_fps,
                "model": figures.model_fps,
                "screen": figures.screen_fps,
            },
        )
        load = self.run.device_load
        self._figures.setText(figures_text(figures) + (f" · {load}" if load else ""))
        if self.run.newest is not None and self.run.newest is not self._seen:
            self._seen = self.run.newest
            self.keep.see(self._seen, self._score.value())

    def _say(self) -> None:
        is_running = self.run.is_running
        self._start.setText("Stop" if is_running else "Start")
        self._start.setEnabled(is_running or not self._model.error)
        layers = self.run.layers
        is_hidden = layers is not None and not layers.is_visible
        self._freeze.setText(_BACK if is_hidden else _FREEZE)
        self._freeze.setEnabled(self.run.last is not None)
        self._save.setEnabled(self.run.last is not None)
        status = self.run.status
        if not is_running:
            self._timer.stop()
            self.keep.follow(None)
        text, color = status_text(status)
        if self._problem and not is_running:
            text, color = self._problem, RED
        pipeline = self.run.pipeline
        if pipeline is not None and status.state is LiveState.LIVE:
            if is_hidden:
                text = f"live, but hidden: {_BACK} shows it"
            elif pipeline.model_status.is_running and self.run.lag_s > 0:
                text, color = older_text(self.run.lag_s), AMBER
        self._status.say(text, color=color)
        self._model_note.say(self._model.error or self._model_message())

    def _model_message(self) -> str:
        pipeline = self.run.pipeline
        if pipeline is None:
            return ""
        if self.run.model_message:
            return self.run.model_message
        model = pipeline.model_status
        if not model.message:
            return ""
        stopped = "" if model.is_running else "No more instances: "
        again = "" if model.is_running else ". Choose the model again to go on"
        return f"{stopped}{model.message}{again}"

    def _on_tracks(self) -> None:
        rows = np.zeros((0, 4))
        if self.run.pipeline is not None:
            rows = self.run.pipeline.tracker.tracks
        if not len(rows):
            self._status.say("there are no tracks yet: press Start first")
            return
        # napari's slider counts steps, not seconds
        rows[:, 1] = np.unique(rows[:, 1], return_inverse=True)[1]
        image = None if self.run.layers is None else self.run.layers.image
        scale = (1.0, *(image.scale[-2:] if image is not None else (1, 1)))
        name = f"{self.keep.source_name} tracks"
        self._viewer.add_layer(Tracks(rows, name=name, scale=scale, tail_length=100))

    # -- taking frames ------------------------------------------------------------------------

    def _name_save(self) -> None:
        is_open = self._datasets.dataset is not None
        self._save.setText("Save to dataset" if is_open else _SAVE_TO_FOLDER)

    def _on_save(self) -> None:
        if self.run.last is not None:
            self.keep.save(self.run.last)

    def _on_freeze(self) -> None:
        layers, steps = self.run.layers, self._detect.run.steps
        if steps.is_running:
            # the frame before is still being drawn
            return
        if layers is not None and not layers.is_visible:
            self._frozen.hide()
            layers.set_visible(True)
            self._viewer.layers.selection.active = layers.image
            return
        if self.run.last is None:
            return
        self._frozen.hide()
        view = self._frozen.add(
            self.run.last,
            source=self.keep.source_name or "live",
            score=self._score.value(),
            metadata={
                "model": self.run.last.model,
                "parameters": asdict(self._options()),
                "device": self._detect.device,
                "version": __version__,
            },
        )
        if layers is not None:
            layers.set_visible(False)
        # one for all tabs: two that draw at once would undo each other's work for ever
        steps.run(self._drawn(view))
        self._viewer.layers.selection.active = view.image
        self.review_wanted.emit()

    def _drawn(self, view: InstanceLayers) -> Iterator[None]:
        """Draw all, then choose the layer on which the keys of Review work."""
        yield from view.redraw()
        if view.labels_layers:
            self._viewer.layers.selection.active = view.labels_layers[0]


def _number(name: str, tooltip: str, *, high: float) -> QDoubleSpinBox:
    spin = named(QDoubleSpinBox(), name, tooltip)
    spin.setRange(0, high)
    spin.setDecimals(1)
    spin.setSpecialValueText("the source's own")
    return spin


def _folded(title: str, name: str, content: QWidget) -> QCollapsible:
    collapsible = QCollapsible(title)
    collapsible.setObjectName(f"{name}_fold")
    collapsible.setDuration(0)
    collapsible.addWidget(content)
    return collapsible
