"""A thread that always takes what a source gives, and opens it again when it is lost."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from napari_deeppixel.live.source import Frame, FrameSource, SourceError, SourceFault, StreamInfo
from napari_deeppixel.live.status import LiveState, LiveStatus

# before each new try; the last one is kept to. A grown pause of 4 s and more makes people wait in
# front of a camera that is long back (measured on 2026-11-20)
RETRY_PAUSES_S = (0.25, 0.5, 1.0, 2.0)

# no frame for so long, and for so many times the usual wait, is told
_STALLED_S, _STALLED_INTERVALS = 2.0, 5.0

# trying again changes nothing about these
_LASTING = frozenset({SourceFault.DENIED, SourceFault.FORMAT, SourceFault.GONE})


class Grabber:
    """Drains a source in a thread of its own.

    A source that fails before its first frame has failed: its address is probably wrong. One that
    was live is opened again and again, with pauses that grow, until somebody stops.

    Parameters
    ----------
    source
        What to read; opened, read and closed in the thread.
    on_frame
        Called in the thread with each frame; must be quick.
    retry_pauses_s
        Pauses before the tries to open again.

    Attributes
    ----------
    error
        What no source should raise and this one did; None mostly.
    """

    def __init__(
        self,
        source: FrameSource,
        on_frame: Callable[[Frame], None],
        *,
        retry_pauses_s: tuple[float, ...] = RETRY_PAUSES_S,
    ) -> None:
        self._source, self._on_frame, self._pauses_s = source, on_frame, retry_pauses_s
        self._asked_to_stop = threading.Event()
        self._status = LiveStatus(state=LiveState.IDLE)
        self._thread: threading.Thread | None = None
        self._stream = 0
        self._last_s = self._interval_s = 0.0
        self.stream_info = StreamInfo()
        self.num_frames = 0
        self.error: Exception | None = None

    def start(self) -> None:
        """Begin; frames come as soon as the source gives them.

        Raises
        ------
        RuntimeError
            If it was started before: make a new one.
        """
        if self._thread is not None:
            raise RuntimeError("a grabber can be started once only")
        self._status = LiveStatus(state=LiveState.OPENING)
        self._thread = threading.Thread(target=self._run, name="deeppixel grabber", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; it does with the next frame, or when its wait times out."""
        self._asked_to_stop.set()
        self._source.interrupt()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread to end; return whether it did."""
        if self._thread is not None:
            self._thread.join(timeout_s)
        return not self.is_alive

    @property
    def is_alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def status(self) -> LiveStatus:
        """What the source is doing now."""
        status = self._status
        if self._asked_to_stop.is_set() and not status.state.is_over:
            return LiveStatus(state=LiveState.STOPPED)
        waited_s = time.monotonic() - self._last_s
        is_late = waited_s > max(_STALLED_S, _STALLED_INTERVALS * self._interval_s)
        if status.state is LiveState.LIVE and is_late:
            return LiveStatus(state=LiveState.STALLED, message=f"no frame for {waited_s:.0f} s")
        return status

    # -- in the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        attempt = 0
        while not self._asked_to_stop.is_set():
            before = self.num_frames
            ended = self._read_stream(attempt)
            if ended is not None:
                self._status = ended
                return
            attempt = 1 if self.num_frames > before else attempt + 1
            self._status = replace(self._status, state=LiveState.RECONNECTING, attempt=attempt)
            self._asked_to_stop.wait(self._pauses_s[min(attempt, len(self._pauses_s)) - 1])
        self._status = LiveStatus(state=LiveState.STOPPED)

    def _read_stream(self, attempt: int) -> LiveStatus | None:
        """Read until something ends it; return where that leaves the source, None to try again."""
        self._stream += 1
        if not attempt:
            self._status = LiveStatus(state=LiveState.OPENING)
        try:
            self.stream_info = self._source.open()
            # a source may forget at `open` that it was interrupted before
            if self._asked_to_stop.is_set():
                return LiveStatus(state=LiveState.STOPPED)
            for frame in self._source.frames():
                self._take(replace(frame, stream=self._stream))
                if self._asked_to_stop.is_set():
                    return LiveStatus(state=LiveState.STOPPED)
            if self._asked_to_stop.is_set():
                return LiveStatus(state=LiveState.STOPPED)
            if not self._source.info.is_live:
                return LiveStatus(state=LiveState.ENDED, message="the end of the file")
            # RTSP sources end without a word when their server dies
            raise SourceError(
                f"{self._source.info.label} gives no more frames", fault=SourceFault.LOST
            )
        except SourceError as error:
            return self._after(error)
        except Exception as error:  # noqa: BLE001  a third party's source; told and kept
            self.error = error
            return LiveStatus(
                state=LiveState.FAILED,
                message=f"{self._source.info.label}: {type(error).__name__}: {error}",
            )
        finally:
            self._close()

    def _close(self) -> None:
        try:
            self._source.close()
        except Exception as error:  # noqa: BLE001  what ended the stream is what counts
            self.error = error

    def _take(self, frame: Frame) -> None:
        if self.num_frames:
            gap_s = frame.grabbed_s - self._last_s
            known_s = self._interval_s or gap_s
            self._interval_s = 0.9 * known_s + 0.1 * gap_s
        self._last_s = frame.grabbed_s
        self.num_frames += 1
        if self._status.state is not LiveState.LIVE:
            self._status = LiveStatus(state=LiveState.LIVE)
        self._on_frame(frame)

    def _after(self, error: SourceError) -> LiveStatus | None:
        if self._asked_to_stop.is_set():
            return LiveStatus(state=LiveState.STOPPED)
        is_lasting = error.fault in _LASTING or not self._source.info.is_live
        if is_lasting or not self.num_frames:
            return LiveStatus(state=LiveState.FAILED, message=str(error))
        # not 0 for a moment: who looks then would tell of one loss twice
        attempt = max(1, self._status.attempt)
        self._status = LiveStatus(state=LiveState.RECONNECTING, message=str(error), attempt=attempt)
        return None
