"""The Detect tab: choose an image and a model, run, and set the score."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from napari.layers import Image
from napari.utils.notifications import show_error, show_warning
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QFormLayout,
    QHBoxLayout,
    QMessageBox,
    QProgressBar,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible, QLabeledDoubleSlider
from superqt.utils import signals_blocked

from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.core.image import ImageArray
from napari_deeppixel.core.instance import InstanceState
from napari_deeppixel.core.progress import Progress, duration
from napari_deeppixel.edits.rerun import Keep
from napari_deeppixel.edits.tools import replace_counts
from napari_deeppixel.engine.base import CANDIDATE_SCORE, EngineKind
from napari_deeppixel.viewer.layers import (
    VIEW_KEY,
    InstanceLayers,
    instance_layers_of,
)
from napari_deeppixel.viewer.plane_map import view_region
from napari_deeppixel.viewer.read_layer import layer_to_image, lead_axis_letters
from napari_deeppixel.widgets.advanced import AdvancedSettings
from napari_deeppixel.widgets.controls import (
    AMBER,
    RED,
    Note,
    button,
    combo,
    named,
    single_shot,
)
from napari_deeppixel.widgets.job import (
    DetectJob,
    Scope,
    find_devices,
    plane_indices,
    scopes_of,
)
from napari_deeppixel.widgets.model_choice import ModelChoice
from napari_deeppixel.widgets.run import DetectRun
from napari_deeppixel.widgets.worker import BackgroundTask

_REDRAW_MS = 40
_VIEW_MOVED_MS = 150


class DetectTab(QWidget):
    """Find the instances of an Image layer.

    Parameters
    ----------
    viewer
        The napari viewer.
    refusal
        Why the instances of an image may not be changed; empty if they may.

    Signals
    -------
    image_changed
        Another image is chosen, or its axes mean something else.
    """

    image_changed = Signal()

    def __init__(
        self,
        viewer: Any,
        refusal: Callable[[Image], str] = lambda _: "",
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._refusal = viewer, refusal
        self._connections: list[tuple[Any, Any]] = []
        self.run = DetectRun(viewer, self)
        self._shown_image: Image | None = None
        self._after_drawing: Callable[[InstanceLayers], None] | None = None
        self._devices = BackgroundTask(self)
        self._redraw_timer = single_shot(self, _REDRAW_MS, self._redraw)
        self._view_timer = single_shot(self, _VIEW_MOVED_MS, self._on_view_settled)
        self._build()
        self._connect()
        self._update_images()
        self._follow_active_layer()
        self._on_model_changed()
        self._devices.start(lambda _cancel, _report: iter([find_devices()]))

    # -- building -----------------------------------------------------------------------------

    def _build(self) -> None:
        self._image = combo("detect.image", "The Image layer to find instances in.")
        self._model = ModelChoice("detect.model")
        self._description = Note("detect.description")
        self._device = combo(
            "detect.device",
            "Where the network runs. Auto takes a GPU where there is one.",
        )
        self._device.addItem("Auto", "auto")
        self._scope = combo("detect.scope", "Which part of the image to run on.")
        self._score = named(
            QLabeledDoubleSlider(Qt.Orientation.Horizontal),
            "detect.score",
            "Show instances from this score (0 to 1) on. Move it after a run: nothing is computed "
            "again.",
        )
        self._score.setRange(CANDIDATE_SCORE, 1.0)
        self._score.setDecimals(2)
        self._score.setSingleStep(0.01)  # type: ignore[arg-type]  # superqt's stubs say int
        self._run_button = button(
            "Run", "detect.run", "Find the instances. Reviewed and edited ones are kept."
        )
        self._cancel_button = button(
            "Cancel", "detect.cancel", "Stop the run. Planes that are done stay."
        )
        self._cancel_button.setEnabled(False)
        self._progress = named(QProgressBar(), "detect.progress", "How far the run is.")
        self._progress.setRange(0, 1000)
        self._progress.setTextVisible(True)
        self._progress.hide()
        self._image_error = Note("detect.image_error", color=AMBER)
        self._model_error = Note("detect.model_error", color=RED)
        self._status = Note("detect.status")
        self._advanced = AdvancedSettings()
        collapsible = QCollapsible("Advanced")
        collapsible.setObjectName("detect.advanced")
        collapsible.setDuration(0)
        collapsible.addWidget(self._advanced)
        self._lay_out(collapsible)

    def _lay_out(self, collapsible: QCollapsible) -> None:
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.setLabelAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        form.addRow("Image", self._image)
        form.addRow("", self._image_error)
        form.addRow("Model", self._model)
        form.addRow("", self._model_error)
        form.addRow("", self._description)
        form.addRow("Device", self._device)
        form.addRow("Run on", self._scope)
        form.addRow("Score", self._score)
        buttons = QHBoxLayout()
        buttons.addWidget(self._run_button, 2)
        buttons.addWidget(self._cancel_button, 1)
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        layout.addLayout(buttons)
        layout.addWidget(self._progress)
        layout.addWidget(self._status)
        layout.addWidget(collapsible)
        layout.addStretch(1)

    def _connect(self) -> None:
        self._image.currentIndexChanged.connect(self._on_image_changed)
        self._model.model_changed.connect(self._on_model_changed)
        self._scope.currentIndexChanged.connect(self._check_settings)
        self._score.valueChanged.connect(self._on_score_changed)
        self._advanced.changed.connect(self._on_advanced_changed)
        self._run_button.clicked.connect(self._on_run)
        self._cancel_button.clicked.connect(self._on_cancel)
        self.run.progressed.connect(self._on_progress)
        self.run.failed.connect(self._on_failed)
        self.run.finished.connect(self._on_finished)
        self.run.steps.finished.connect(self._on_drawn)
        self._devices.yielded.connect(self._on_devices)
        self._devices.failed.connect(self._on_failed)
        layers, dims = self._viewer.layers, self._viewer.dims
        camera = self._viewer.scene.camera
        for signal, slot in (
            (layers.events.inserted, self._on_layers_changed),
            (layers.events.removed, self._on_layers_changed),
            (layers.events.renamed, self._on_layers_changed),
            (layers.selection.events.active, self._follow_active_layer),
            (dims.events.current_step, self._on_view_moved),
            (camera.events.center, self._on_view_moved),
            (camera.events.zoom, self._on_view_moved),
        ):
            signal.connect(slot)
            self._connections.append((signal, slot))

    def shut_down(self) -> None:
        """Stop all work and let go of the viewer; may be called more than once."""
        self.run.shut_down()
        self._devices.abandon()
        self._redraw_timer.stop()
        self._view_timer.stop()
        for signal, slot in self._connections:
            signal.disconnect(slot)
        self._connections.clear()

    # -- what is chosen -----------------------------------------------------------------------

    @property
    def image_layer(self) -> Image | None:
        """The chosen Image layer."""
        layer = self._image.currentData()
        return layer if isinstance(layer, Image) else None

    @property
    def instance_layers(self) -> InstanceLayers | None:
        """What shows the instances of the chosen image; None before the first run."""
        layer = self.image_layer
        return None if layer is None else instance_layers_of(layer)

    @property
    def device(self) -> str:
        """The chosen device, as `load_model` takes it."""
        return str(self._device.currentData())

    @property
    def engine(self) -> EngineKind:
        """The chosen forward, as `load_model` takes it."""
        return self._advanced.engine

    @property
    def weights(self) -> str:
        """The chosen model, as `load_model` takes it; empty if there is none."""
        return self._model.weights

    @property
    def channel_axis(self) -> int | None:
        """Axis of the chosen image that holds channels."""
        return self._advanced.channel_axis

    @property
    def score(self) -> float:
        """Lowest score of a prediction that is shown."""
        return float(self._score.value())

    def show_score(self, score: float) -> None:
        """Put the slider where earlier work had it."""
        with signals_blocked(self._score):
            self._score.setValue(score)

    def image_array(self) -> ImageArray:
        """Return the pixels of the chosen image.

        Raises
        ------
        ValueError, DeepPixelError
            If none is chosen, or it cannot be read.
        """
        layer = self.image_layer
        if layer is None:
            raise ValueError("Open an image, or try File > Open Sample > DeepPixel.")
        return layer_to_image(layer, channel_axis=self._advanced.channel_axis)

    def job(self) -> DetectJob:
        """Return the run that the form describes.

        Raises
        ------
        ValueError, DeepPixelError
            If a setting is wrong.
        """
        job = self.prompt_job()
        image = job.image
        scope, axis = self._scope.currentData()
        region = None
        if scope is Scope.VIEW:
            layer = self.image_layer
            assert layer is not None  # image_array has said so
            dims = self._viewer.dims
            if dims.ndisplay != 2 or tuple(dims.order[-2:]) != (dims.ndim - 2, dims.ndim - 1):
                raise ValueError(
                    "View needs the last two axes on the screen, in 2-D: roll the axes back, or "
                    "run on the whole plane"
                )
            region = view_region(layer, image.image_hw)
            if region is None:
                raise ValueError("the image is out of view: press Home to bring it back")
        indices = plane_indices(image, scope, axis, self.current_index(image))
        return replace(job, indices=indices, region_xyxy=region)

    def prompt_job(self) -> DetectJob:
        """Return image, model and settings of the form; of no plane yet.

        Raises
        ------
        ValueError, DeepPixelError
            If a setting is wrong.
        """
        image = self.image_array()
        return DetectJob(
            image=image,
            model=self._model.weights,
            device=self.device,
            engine=self.engine,
            options=self._advanced.options(image.num_channels, self._score.value()),
            indices=(),
        )

    def current_index(self, image: ImageArray) -> tuple[int, ...]:
        """Return the lead index of the plane of the chosen image that is nearest to the view."""
        layer = self.image_layer
        assert layer is not None
        position = layer.world_to_data(self._viewer.dims.point[-layer.ndim :])
        index = [round(float(position[image.axes.index(axis)])) for axis in image.lead_axes]
        return tuple(
            min(max(step, 0), size - 1) for step, size in zip(index, image.lead_shape, strict=True)
        )

    # -- keeping the form right ---------------------------------------------------------------

    def _on_layers_changed(self) -> None:
        self._update_images()

    def _update_images(self) -> None:
        layers = [layer for layer in self._viewer.layers if isinstance(layer, Image)]
        chosen = self.image_layer
        with signals_blocked(self._image):
            self._image.clear()
            for layer in layers:
                self._image.addItem(layer.name, layer)
            if chosen in layers:
                self._image.setCurrentIndex(layers.index(chosen))
        self._on_image_changed()

    def _follow_active_layer(self) -> None:
        active = self._viewer.layers.selection.active
        view = None if active is None else active.metadata.get(VIEW_KEY)
        if isinstance(view, InstanceLayers) and not isinstance(active, Image):
            # of a layer of ours, the image below it
            active = view.image
        for position in range(self._image.count()):
            if self._image.itemData(position) == active:
                self._image.setCurrentIndex(position)

    def _on_image_changed(self) -> None:
        layer = self.image_layer
        axes = []
        if layer is not None and not layer.rgb:
            letters = lead_axis_letters(layer)
            sizes = (layer.data[0] if layer.multiscale else layer.data).shape
            axes = [(i, f"axis {i} ({letters[i]}, {sizes[i]})") for i in range(len(letters))]
        self._advanced.set_image_axes(axes)
        view = self.instance_layers
        if view is not None and layer != self._shown_image:
            self._advanced.show_channel_axis(view.channel_axis)
        # the list of layers changes during a run, too: the slider is the person's then
        if view is not None and layer != self._shown_image:
            with signals_blocked(self._score):
                self._score.setValue(view.session.score)
        self._shown_image = layer
        self._update_scopes()
        self.image_changed.emit()

    def _update_scopes(self) -> None:
        try:
            image = self.image_array()
        except (ValueError, DeepPixelError):
            image = None
        chosen = self._scope.currentText().split(" (")[0]
        with signals_blocked(self._scope):
            self._scope.clear()
            for caption, scope, axis in scopes_of(image):
                self._scope.addItem(caption, (scope, axis))
            captions = [self._scope.itemText(i).split(" (")[0] for i in range(self._scope.count())]
            wanted = chosen if chosen in captions else "Whole plane"
            self._scope.setCurrentIndex(captions.index(wanted))
        self._check_settings()

    def _on_advanced_changed(self) -> None:
        self._update_scopes()
        view = self.instance_layers
        if view is not None and view.session.min_area != self._advanced.min_area:
            self._redraw_timer.start()

    def add_model_file(self, path: str) -> None:
        """Offer a weights file in the list of models, and choose it."""
        self._model.add_file(path)

    def _on_model_changed(self) -> None:
        defaults = self._model.defaults
        if defaults is not None:
            self._description.say(defaults.description)
            self._score.setValue(defaults.score)
            self._advanced.set_model_box_nms(defaults.box_nms)
        self._check_settings()

    def _check_settings(self) -> None:
        """Disable Run while a setting is wrong, and say beside the field what is."""
        image_error = advanced_error = ""
        try:
            image = self.image_array()
            self._advanced.options(image.num_channels, self._score.value())
        except DeepPixelError as error:
            image_error = str(error)
        except ValueError as error:
            if self.image_layer is None:
                image_error = str(error)
            else:
                advanced_error = str(error)
        model_error = self._model.error
        self._image_error.say(image_error)
        self._model_error.say(model_error)
        self._advanced.show_error(advanced_error)
        problem = image_error or model_error or advanced_error
        self._run_button.setEnabled(not problem and not self.run.is_running)
        if advanced_error:
            self._status.say(f"Run is off. Advanced, {advanced_error}", color=RED)
        elif self._status.property("is_problem"):
            self._status.say("")
        self._status.setProperty("is_problem", bool(advanced_error))

    def _on_devices(self, devices: list[tuple[str, str]]) -> None:
        self._device.setItemText(0, f"Auto: {devices[0][1]}")
        for identifier, description in devices:
            self._device.addItem(description, identifier)

    # -- running ------------------------------------------------------------------------------

    def _on_run(self) -> None:
        try:
            job = self.job()
        except (ValueError, DeepPixelError) as error:
            self._status.say(str(error), color=RED)
            return
        layer = self.image_layer
        assert layer is not None
        refusal = self._refusal(layer)
        if refusal:
            self._status.say(refusal, color=RED)
            return
        keep = self._advanced.keep
        if not self._may_replace(job, keep):
            return
        self._advanced.keep_human_work()
        self._started = time.monotonic()
        self.run.steps.stop()
        self.run.start(
            job,
            layer,
            channel_axis=self._advanced.channel_axis,
            mode=self._advanced.labels_mode,
            keep=keep,
        )
        self._run_button.setEnabled(False)
        self._cancel_button.setEnabled(True)
        self._status.say("")
        self._on_progress(Progress(fraction=0.0, message="starting"))
        self._progress.show()

    def _may_replace(self, job: DetectJob, keep: Keep) -> bool:
        """Ask before a run replaces what a person did, with counts."""
        view = self.instance_layers
        if keep is Keep.HUMAN or view is None:
            return True
        view.settle_all()
        counts = replace_counts(view.session, job.indices, keep)
        human = {s.value: n for s, n in counts.items() if n and s is not InstanceState.UNREVIEWED}
        if not human:
            return True
        what = ", ".join(f"{count:,} {state}" for state, count in human.items())
        answer = QMessageBox.question(
            self,
            "Replace reviewed instances?",
            f"This run would replace {what}. Undo brings them back.",
            QMessageBox.StandardButton.Yes | QMessageBox.StandardButton.Cancel,
            QMessageBox.StandardButton.Cancel,
        )
        return bool(answer == QMessageBox.StandardButton.Yes)

    def _on_cancel(self) -> None:
        self.run.cancel()
        self._cancel_button.setEnabled(False)
        self._progress.setFormat("stopping…")

    def _on_progress(self, progress: Progress) -> None:
        self._progress.setValue(round(1000 * progress.fraction))
        elapsed = time.monotonic() - self._started
        text = progress.message
        if progress.fraction > 0.05 and elapsed > 1:
            text += f" · {duration(elapsed * (1 / progress.fraction - 1))} left"
        self._progress.setFormat(text)

    def _on_failed(self, error: BaseException) -> None:
        if not isinstance(error, DeepPixelError):
            self._status.say(f"Something went wrong: {error}", color=RED)
            raise error
        self._status.say(str(error), color=RED)
        show_error(str(error))

    def _on_finished(self, summary: str) -> None:
        self._progress.hide()
        self._cancel_button.setEnabled(False)
        self._check_settings()
        if not summary:
            return
        view = self.instance_layers
        if view is not None and (view.session.score, view.session.min_area) != (
            self._score.value(),
            self._advanced.min_area,
        ):
            # somebody moved the slider or changed the smallest area meanwhile
            self._redraw_timer.start()
        warnings = self.run.warnings()
        for warning in warnings:
            show_warning(warning)
        self._status.say(" ".join([summary, *warnings]), color=AMBER if warnings else "")
        self._after_drawing = self._select_labels

    # -- score and view -----------------------------------------------------------------------

    def _on_score_changed(self) -> None:
        if self.instance_layers is not None and not self.run.is_running:
            self._redraw_timer.start()

    def _redraw(self) -> None:
        view = self.instance_layers
        if view is None or self.run.is_running:
            return
        view.session.set_visibility(score=self._score.value(), min_area=self._advanced.min_area)
        self._after_drawing = self._say_how_many
        self.run.steps.run(view.redraw())

    def _on_drawn(self) -> None:
        view = self.instance_layers
        after, self._after_drawing = self._after_drawing, None
        if view is not None and after is not None and not self.run.is_running:
            after(view)

    def _select_labels(self, view: InstanceLayers) -> None:
        # hovering then tells what an object is, and painting corrects it
        if view.labels_layers:
            self._viewer.layers.selection.active = view.labels_layers[0]

    def _say_how_many(self, view: InstanceLayers) -> None:
        total, hidden = view.num_visible, view.num_hidden_boxes
        note = f", {total - hidden:,} boxes drawn: zoom in for the others" if hidden else ""
        self._status.say(f"{total:,} instances at this score{note}.")

    def _on_view_moved(self) -> None:
        self._view_timer.start()

    def _on_view_settled(self) -> None:
        view = self.instance_layers
        if view is None or self.run.is_running:
            return
        if self.run.steps.is_running:
            self._view_timer.start()
            return
        if view.num_hidden_boxes:
            self._after_drawing = self._say_how_many
        self.run.steps.run(view.redraw_boxes())
