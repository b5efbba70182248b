"""A thread that runs the model on the newest frame, again and again."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.core.errors import DeepPixelError, RunCancelled
from napari_deeppixel.core.progress import CancelToken
from napari_deeppixel.engine.base import Engine, PredictOptions
from napari_deeppixel.live.latest import Latest
from napari_deeppixel.live.result import LiveResult
from napari_deeppixel.live.source import Frame
from napari_deeppixel.live.track import Tracker

# one bad frame is no reason to stop; a model that fails three times in a row will fail again
MAX_FAILURES = 3

_WAIT_S = 0.2


@dataclass(frozen=True, kw_only=True)
class ModelStatus:
    """How the model is doing.

    Attributes
    ----------
    is_running
        Whether it is asked about new frames.
    message
        What went wrong last; empty if nothing did.
    """

    is_running: bool
    message: str = ""


class Predictor:
    """Takes the newest frame, finds its instances and gives them their ids.

    Parameters
    ----------
    frames
        Where frames come from.
    on_result
        Called in the thread with each result; must be quick.
    engine
        What finds instances; None: nobody is asked until `set_engine`.
    options
        How.
    tracker
        Gives instances ids that stay over frames.

    Attributes
    ----------
    num_failed
        Frames on which something raised an error.
    num_finished
        Frames that were taken and are through, with a result or without.
    """

    def __init__(
        self,
        frames: Latest[Frame],
        on_result: Callable[[LiveResult], None],
        *,
        engine: Engine | None,
        options: PredictOptions,
        tracker: Tracker | None = None,
    ) -> None:
        self._frames, self._on_result = frames, on_result
        self._tracker = tracker or Tracker()
        self._asked_to_stop = CancelToken()
        self._lock = threading.Lock()
        self._engine, self._options = engine, options
        self._message, self._failures = "", 0
        self._last: Frame | None = None
        self._is_due = False
        self._thread = threading.Thread(target=self._run, name="deeppixel model", daemon=True)
        self.num_failed = self.num_finished = 0

    def start(self) -> None:
        """Begin to look for frames."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; a run of a network ends at its next layer."""
        self._asked_to_stop.cancel()
        self._frames.close()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread to end; return whether it did."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self.is_alive

    @property
    def is_alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    @property
    def tracker(self) -> Tracker:
        """What gives instances their ids."""
        return self._tracker

    @property
    def status(self) -> ModelStatus:
        """How the model is doing."""
        with self._lock:
            is_running = self._engine is not None and self._failures < MAX_FAILURES
            return ModelStatus(is_running=is_running, message=self._message)

    def set_engine(self, engine: Engine | None) -> None:
        """Use another engine from the next frame on; one that had failed is asked again."""
        with self._lock:
            self._engine, self._message, self._failures = engine, "", 0
            self._is_due = True

    def set_options(self, options: PredictOptions) -> None:
        """Use other options from the next frame on."""
        with self._lock:
            self._options = options
            self._is_due = True

    # -- in the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._asked_to_stop.is_cancelled:
            frame = self._frames.take(_WAIT_S)
            if frame is None and self._is_due:
                # a still source: its last frame, for a new model or new options
                frame = self._last
            if frame is None:
                continue
            self._last = frame
            try:
                self._predict(frame)
            except RunCancelled:
                return
            self.num_finished += 1

    def _predict(self, frame: Frame) -> None:
        with self._lock:
            engine = self._engine if self._failures < MAX_FAILURES else None
            options = self._options
            self._is_due = engine is None
        if engine is None:
            return
        try:
            self._on_result(self._result(frame, engine, options))
        except RunCancelled:
            raise
        except Exception as error:  # noqa: BLE001  told by `status`; the camera goes on
            self._note(error, engine)
            return
        with self._lock:
            if self._engine is engine:
                self._failures, self._message = 0, ""

    def _result(self, frame: Frame, engine: Engine, options: PredictOptions) -> LiveResult:
        started_s = time.monotonic()
        plane = as_plane(frame.pixels)
        (prediction,) = engine.predict([plane], options, cancel=self._asked_to_stop)
        model_s = time.monotonic() - started_s
        score = engine.spec.score if options.score is None else options.score
        candidates = prediction.candidates
        is_large, is_high = candidates.areas >= options.min_area, candidates.scores >= score
        is_shown = is_high & is_large
        candidates = self._tracker.update_candidates(
            candidates, frame.grabbed_s, is_shown=is_shown, is_low=~is_high & is_large
        )
        return LiveResult(
            frame=frame,
            instances=candidates.select(is_shown),
            prediction=replace(prediction, candidates=candidates),
            model=engine.source,
            model_s=model_s,
            finished_s=time.monotonic(),
        )

    def _note(self, error: Exception, engine: Engine) -> None:
        with self._lock:
            self.num_failed += 1
            # one that was replaced meanwhile says nothing about its successor
            if self._engine is not engine:
                return
            self._failures += 1
            known = isinstance(error, DeepPixelError)
            self._message = str(error) if known else f"{type(error).__name__}: {error}"


def as_plane(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return a frame as an engine takes it, (H, W, C)."""
    return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels
