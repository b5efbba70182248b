"""Runs a pipeline beside the window and draws what it gives."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal
from qtpy.QtWidgets import QWidget

from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.progress import CancelToken, Progress
from napari_deeppixel.engine.base import Engine, EngineKind, PredictOptions
from napari_deeppixel.live.meters import LiveFigures
from napari_deeppixel.live.pipeline import STOP_S, LivePipeline
from napari_deeppixel.live.refilter import refiltered
from napari_deeppixel.live.result import LiveResult
from napari_deeppixel.live.source import Frame, FrameSource
from napari_deeppixel.live.status import LiveState, LiveStatus
from napari_deeppixel.live.track import Tracker
from napari_deeppixel.viewer.layer_source import LayerSource
from napari_deeppixel.viewer.live_layers import LiveLayers
from napari_deeppixel.widgets.draw_gate import DrawGate
from napari_deeppixel.widgets.job import EngineShelf
from napari_deeppixel.widgets.worker import BackgroundTask, ReportProgress

_TICK_MS = 8
# auto: from so many results a second on, frames with their own instances look smooth
_SMOOTH_FPS, _JERKY_FPS = 8.0, 6.0
# instances on a layer that are so little older are not called old: its picture is never ours
_LAYER_LAG_S = 0.3


class Shown(StrEnum):
    """Which frame is on the screen."""

    AUTO = "auto"
    MATCHED = "frames with their own instances"
    NEWEST = "newest frame, older instances"


@dataclass(frozen=True, kw_only=True)
class ModelRequest:
    """A model to load."""

    model: str
    device: str
    engine: EngineKind = "fast"


class LiveRun(QObject):
    """One live source at a time in a viewer.

    Nothing here waits: threads are asked to end and looked after by a timer, and what comes from
    an earlier run is dropped.

    Parameters
    ----------
    viewer
        The napari viewer.
    shelf
        Keeps the engine that was used last.
    parent
        The tab.

    Attributes
    ----------
    shown
        Which frame is drawn.
    last
        The newest result that was drawn; None before the first.
    newest
        The newest result, drawn or not.

    Signals
    -------
    state_changed
        Something began, ended, or needs telling.
    """

    state_changed = Signal()

    def __init__(self, viewer: Any, shelf: EngineShelf, parent: QWidget) -> None:
        super().__init__(parent)
        self._viewer, self._shelf = viewer, shelf
        self.shown = Shown.AUTO
        self.last: LiveResult | None = None
        self.newest: LiveResult | None = None
        self.pipeline: LivePipeline | None = None
        self._layers: LiveLayers | None = None
        self._options = PredictOptions()
        self._tracker = Tracker()
        self._source: FrameSource | None = None
        self._is_matched = False
        self._drawn_frame: Frame | None = None
        self._on_layer: Frame | None = None
        self._drawn_result: LiveResult | None = None
        self._stopping: list[tuple[LivePipeline, float]] = []
        self._ended = LiveStatus(state=LiveState.IDLE)
        self.model_message = ""
        self._wanted: ModelRequest | None = None
        self._loading: ModelRequest | None = None
        self._device = ""
        self._gate = DrawGate(parent)
        self._gate.drawn.connect(self._on_drawn)
        self._loader = BackgroundTask(self)
        self._loader.yielded.connect(self._on_engine)
        self._loader.failed.connect(self._on_load_failed)
        self._loader.progressed.connect(self._on_load_progress)
        self._loader.finished.connect(self._on_load_ended)
        self._timer = QTimer(self)
        self._timer.setInterval(_TICK_MS)
        self._timer.timeout.connect(self._on_tick)

    # -- what it is doing ---------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        """Whether frames are shown, or waited for."""
        return self.pipeline is not None

    @property
    def status(self) -> LiveStatus:
        """What the source is doing, or why it ended."""
        if self.pipeline is not None:
            return self.pipeline.status
        is_ending = any(pipeline.is_alive for pipeline, _ in self._stopping)
        if is_ending and not self._ended.message:
            return LiveStatus(state=LiveState.STOPPED, message="letting go of the source")
        return self._ended

    @property
    def device_load(self) -> str:
        """How busy the model's device is, for people; empty before a model is loaded."""
        if not self._device:
            return ""
        from napari_deeppixel.engine.device import device_load

        return device_load(self._device)

    def figures(self) -> LiveFigures | None:
        """Return how it is doing; None while nothing runs."""
        return None if self.pipeline is None else self.pipeline.figures()

    @property
    def lag_s(self) -> float:
        """How much older the instances on the screen are than the frame there, in seconds.

        A layer that shows its frames by itself is always a little ahead, which does not count.
        """
        shown, least_s = self._drawn_frame, 0.0
        if isinstance(self._source, LayerSource):
            shown, least_s = self._on_layer, _LAYER_LAG_S
        if self.last is None or shown is None:
            return 0.0
        older_s = shown.grabbed_s - self.last.frame.grabbed_s
        return older_s if older_s > least_s else 0.0

    @property
    def layers(self) -> LiveLayers | None:
        """The layers of the run, or of the last one."""
        return self._layers

    # -- beginning and ending -----------------------------------------------------------------

    def start(self, source: FrameSource, *, request: ModelRequest, options: PredictOptions) -> None:
        """Open a source, and load a model meanwhile."""
        self.stop()
        self.last = self.newest = self._drawn_result = None
        self._drawn_frame = self._on_layer = None
        self._is_matched = False
        base = source.layer if isinstance(source, LayerSource) else None
        self._source = source
        earlier = self._let_go_of_layers()
        self._layers = LiveLayers(self._viewer, source.info.label, base, earlier=earlier)
        self._layers.image_removed.connect(self._on_image_removed)
        self._layers.visibility_changed.connect(self._on_visibility_changed)
        self.pipeline = LivePipeline(source, engine=None, options=options)
        self._options, self._tracker = options, self.pipeline.tracker
        self.set_model(request)
        self.pipeline.start()
        self._timer.start()
        self.state_changed.emit()

    def stop(self, ended: LiveStatus | None = None) -> None:
        """Ask the threads to end; the last picture stays.

        Parameters
        ----------
        ended
            Why, where it was not the person who asked.
        """
        pipeline, self.pipeline = self.pipeline, None
        if pipeline is None:
            return
        self._ended = ended or LiveStatus(state=LiveState.STOPPED)
        pipeline.ask_to_stop()
        self._stopping.append((pipeline, time.monotonic() + STOP_S))
        if isinstance(self._source, LayerSource):
            self._source.disconnect()
        self.state_changed.emit()

    def shut_down(self) -> None:
        """Stop, wait a moment for the threads, and never touch the viewer again."""
        self.stop()
        self._timer.stop()
        self._loader.abandon()
        for pipeline, until_s in self._stopping:
            pipeline.stop(max(0.0, until_s - time.monotonic()))
        self._stopping.clear()
        self._let_go_of_layers()

    def _let_go_of_layers(self) -> LiveLayers | None:
        """Stop listening to the layers of the last run; return them."""
        layers, self._layers = self._layers, None
        if layers is not None:
            layers.image_removed.disconnect()
            layers.visibility_changed.disconnect()
            layers.disconnect()
        return layers

    def _on_visibility_changed(self) -> None:
        self.state_changed.emit()

    def _on_image_removed(self) -> None:
        message = "the live layer was deleted: press Start to show it again"
        self.stop(LiveStatus(state=LiveState.STOPPED, message=message))

    # -- the model ----------------------------------------------------------------------------

    def set_model(self, request: ModelRequest) -> None:
        """Use a model from the frame on that comes when it is loaded; the camera goes on."""
        self._wanted = request
        self.model_message = "loading the model"
        if not self._loader.is_running:
            self._load()

    def _load(self) -> None:
        request = self._loading = self._wanted
        assert request is not None  # the caller has looked

        def work(cancel: CancelToken, report: ReportProgress) -> Iterator[tuple[Engine, str]]:
            # imported here: torch takes seconds, and this runs in a thread
            from napari_deeppixel.engine.device import pick_device

            engine = self._shelf.engine(
                request.model, request.device, request.engine, cancel=cancel, report=report
            )
            yield engine, pick_device(request.device)

        self._loader.start(work)

    def _on_engine(self, loaded: tuple[Engine, str]) -> None:
        if self._loading == self._wanted:
            engine, self._device = loaded
            self.model_message = ""
            if self.pipeline is not None:
                self.pipeline.set_engine(engine)
            self.state_changed.emit()

    def _on_load_progress(self, progress: Progress) -> None:
        if self._loading == self._wanted and progress.message:
            self.model_message = f"{progress.message} {progress.fraction:.0%}"

    def _on_load_failed(self, error: BaseException) -> None:
        if self._loading == self._wanted:
            self.model_message = f"no instances: {error}"
            self.state_changed.emit()

    def _on_load_ended(self) -> None:
        if self._loading != self._wanted and self.is_running:
            self._load()

    # -- what is shown ------------------------------------------------------------------------

    def set_options(self, options: PredictOptions) -> None:
        """Use others from the next frame on; a score at once, whatever source and model do."""
        self._options = options
        if self.pipeline is not None:
            self.pipeline.set_options(options)
        if self.newest is not None and self.newest is not self.last:
            self.newest = self._filtered(self.newest)
        if self.last is None:
            return
        is_drawn, is_newest = self.last is self._drawn_result, self.last is self.newest
        self.last = self._filtered(self.last)
        if is_newest:
            self.newest = self.last
        if is_drawn and self._layers is not None and self.last is not self._drawn_result:
            self._drawn_result = self.last
            self._layers.show(self.last.instances)

    def _filtered(self, result: LiveResult) -> LiveResult:
        score, min_area = self._options.score, self._options.min_area
        if score is None:
            return result
        return refiltered(result, self._tracker, score=score, min_area=min_area)

    # -- drawing ------------------------------------------------------------------------------

    def _on_tick(self) -> None:
        self._stopping = [each for each in self._stopping if each[0].is_alive]
        pipeline, layers = self.pipeline, self._layers
        if pipeline is None or layers is None:
            if not self._stopping:
                self._timer.stop()
                self.state_changed.emit()
            return
        if isinstance(self._source, LayerSource):
            self._source.poll()
            layers.follow(self._source.layer)
        if self._gate.is_open:
            self._draw(pipeline, layers)
        status = pipeline.status
        if status.state.is_over:
            self.stop(status)

    def _draw(self, pipeline: LivePipeline, layers: LiveLayers) -> None:
        result = pipeline.results.take()
        if result is not None:
            # it may have been in work when the score was changed
            result = self._filtered(result)
            is_first, self.newest = self.newest is None, result
        if not layers.is_visible:
            # frozen: nobody sees it, and the frames go on
            return
        if result is not None:
            self.last = result
            if is_first:
                self.state_changed.emit()
        frame = self._frame_to_draw(pipeline, result)
        has_more = pipeline.model_status.is_running
        if frame is None:
            if self._drawn_frame is not None:
                # a source that stands still, or a layer
                undrawn = self._undrawn()
                if undrawn is not None:
                    layers.show(undrawn)
                layers.age(self.lag_s, has_more=has_more)
            return
        self._drawn_frame = frame
        layers.draw(frame, self._undrawn(), older_s=self.lag_s, has_more=has_more)
        self._gate.close()

    def _frame_to_draw(self, pipeline: LivePipeline, result: LiveResult | None) -> Frame | None:
        """Return the frame to put on the screen; None: what is there stays."""
        own_frame = None if result is None else result.frame
        if isinstance(self._source, LayerSource):
            # it shows its newest frame by itself, and we draw when there are other instances
            self._on_layer = pipeline.frames.take() or self._on_layer
            return own_frame
        return own_frame if self._shows_matched(pipeline) else pipeline.frames.take()

    def _undrawn(self) -> InstanceSet | None:
        """Return the newest instances, unless they are on the screen already."""
        if self.last is None or self.last is self._drawn_result:
            return None
        self._drawn_result = self.last
        return self.last.instances

    def _shows_matched(self, pipeline: LivePipeline) -> bool:
        if not pipeline.model_status.is_running:
            return False
        if self.shown is not Shown.AUTO:
            return self.shown is Shown.MATCHED
        # two bounds, so that a rate between them does not flicker
        least = _JERKY_FPS if self._is_matched else _SMOOTH_FPS
        self._is_matched = pipeline.model_fps >= least
        return self._is_matched

    def _on_drawn(self) -> None:
        if self.pipeline is not None and self._drawn_frame is not None:
            self.pipeline.was_drawn(self._drawn_frame)
