"""Source → frames → instances, each in its own thread; what shows them only looks."""

import time
from collections.abc import Callable

import numpy as np

from napari_deeppixel.engine.base import Engine, PredictOptions
from napari_deeppixel.live.grab import RETRY_PAUSES_S, Grabber
from napari_deeppixel.live.latest import Latest
from napari_deeppixel.live.meters import LiveFigures, RateMeter, SpanMeter
from napari_deeppixel.live.predict import ModelStatus, Predictor
from napari_deeppixel.live.result import LiveResult
from napari_deeppixel.live.source import Frame, FrameSource, StreamInfo
from napari_deeppixel.live.status import LiveStatus
from napari_deeppixel.live.track import Tracker

STOP_S = 1.0


class LivePipeline:
    """A source with instances on its frames.

    The grabber always drains the source; the model takes the newest frame when it is free, and
    older ones are counted as skipped. `frames` and `results` hold the newest of each, for
    whoever shows them. Nothing here waits for a reader, so memory stays bounded.

    Parameters
    ----------
    source
        Where frames come from.
    engine
        What finds instances; None: none until `set_engine`.
    options
        How; `set_options` changes it.
    tracker
        Gives instances ids that stay over frames; None: one with its usual settings.
    has_all_frames
        Wait for the model at each frame, so that none is skipped: for files.
    retry_pauses_s
        As for `Grabber`.

    Attributes
    ----------
    frames, results
        The newest frame, and the newest result.
    listeners
        Called with each result, in the model's thread; must be quick.
    frame_listeners
        Called with each frame, in the grabber's thread; must be quick.
    """

    def __init__(
        self,
        source: FrameSource,
        *,
        engine: Engine | None,
        options: PredictOptions | None = None,
        tracker: Tracker | None = None,
        has_all_frames: bool = False,
        retry_pauses_s: tuple[float, ...] = RETRY_PAUSES_S,
    ) -> None:
        self.source = source
        self.frames: Latest[Frame] = Latest()
        self.results: Latest[LiveResult] = Latest()
        self.listeners: list[Callable[[LiveResult], None]] = []
        self.frame_listeners: list[Callable[[Frame], None]] = []
        self._has_all_frames = has_all_frames
        self._to_predict: Latest[Frame] = Latest()
        self._grabber = Grabber(source, self._on_frame, retry_pauses_s=retry_pauses_s)
        self._predictor = Predictor(
            self._to_predict,
            self._on_result,
            engine=engine,
            options=options or PredictOptions(),
            tracker=tracker,
        )
        self._is_stopping = False
        self._measured_model = ""
        self._camera, self._model, self._screen = RateMeter(), RateMeter(), RateMeter()
        self._model_s, self._result_age_s, self._screen_age_s = (SpanMeter() for _ in range(3))

    # -- running ------------------------------------------------------------------------------

    def start(self) -> None:
        """Open the source and begin; may be called once."""
        self._predictor.start()
        self._grabber.start()

    def ask_to_stop(self) -> None:
        """Ask all threads to end, without waiting."""
        self._is_stopping = True
        self._grabber.stop()
        self._predictor.stop()

    def stop(self, timeout_s: float = STOP_S) -> bool:
        """Ask all threads to end and wait for them; return whether all did.

        A thread that waits for a source which gives nothing ends when its wait times out.
        """
        self.ask_to_stop()
        until_s = time.monotonic() + timeout_s
        ended = [
            part.join(max(0.0, until_s - time.monotonic()))
            for part in (self._grabber, self._predictor)
        ]
        return all(ended)

    @property
    def is_alive(self) -> bool:
        """Whether a thread still runs."""
        return self._grabber.is_alive or self._predictor.is_alive

    @property
    def is_settled(self) -> bool:
        """Whether the model is through with all that came: nothing waits, nothing is in work."""
        # in this order: a frame that comes in between makes it False, never True
        done = self._predictor.num_finished + self._to_predict.num_dropped
        return done >= self._to_predict.num_put

    @property
    def status(self) -> LiveStatus:
        """What the source is doing."""
        return self._grabber.status

    @property
    def model_status(self) -> ModelStatus:
        """How the model is doing."""
        return self._predictor.status

    @property
    def tracker(self) -> Tracker:
        """What gives instances their ids."""
        return self._predictor.tracker

    @property
    def stream_info(self) -> StreamInfo:
        """What the source said of itself when it was opened."""
        return self._grabber.stream_info

    def set_engine(self, engine: Engine | None) -> None:
        """Use other weights from the next frame on; the camera does not stop."""
        self._forget_model_times()
        self._predictor.set_engine(engine)

    def _forget_model_times(self) -> None:
        self._model.forget()
        self._model_s.forget()
        self._result_age_s.forget()

    def set_options(self, options: PredictOptions) -> None:
        """Use other options from the next frame on."""
        self._predictor.set_options(options)

    # -- in the threads -----------------------------------------------------------------------

    def _on_frame(self, frame: Frame) -> None:
        self._camera.tick(frame.grabbed_s)
        self.frames.put(frame)
        if self._has_all_frames:
            while not self._to_predict.wait_until_empty(0.1) and not self._is_stopping:
                pass
        self._to_predict.put(frame)
        for listener in self.frame_listeners:
            listener(frame)

    def _on_result(self, result: LiveResult) -> None:
        if result.model != self._measured_model:
            # the one before may have given a last result since it was replaced
            self._measured_model = result.model
            self._forget_model_times()
        self._model.tick(result.finished_s)
        self._model_s.add(result.model_s)
        self._result_age_s.add(result.finished_s - result.frame.grabbed_s)
        self.results.put(result)
        for listener in self.listeners:
            listener(result)

    # -- how it is doing ----------------------------------------------------------------------

    def was_drawn(self, frame: Frame) -> None:
        """Take note that a frame is on the screen now."""
        now_s = time.monotonic()
        self._screen.tick(now_s)
        self._screen_age_s.add(now_s - frame.grabbed_s)

    @property
    def model_fps(self) -> float:
        """Results of this model a second, over the last two seconds; NaN before the second."""
        return self._model.rate()

    def figures(self) -> LiveFigures:
        """Return how it is doing now."""
        model_fps, model_s = self._model.rate(), self._model_s.quantile(0.5)
        return LiveFigures(
            camera_fps=self._camera.rate(),
            model_fps=model_fps,
            screen_fps=self._screen.rate(),
            model_s=model_s,
            result_age_s=self._result_age_s.quantile(0.5),
            result_age_95_s=self._result_age_s.quantile(0.95),
            screen_age_s=self._screen_age_s.quantile(0.5),
            screen_age_95_s=self._screen_age_s.quantile(0.95),
            num_frames=self._camera.count,
            num_results=self._model.count,
            num_draws=self._screen.count,
            num_skipped=self._to_predict.num_dropped,
            num_failed=self._predictor.num_failed,
            # no results any more: no time of one either
            model_load=float(np.minimum(1.0, model_fps * model_s)) if model_fps else 0.0,
        )
