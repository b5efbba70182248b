"""Recording in a thread of its own, which the live view never waits for."""

import contextlib
import math
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from napari_deeppixel.live.recording import Recording, RecordOptions
from napari_deeppixel.live.recording_folder import fresh_folder
from napari_deeppixel.live.result import LiveResult
from napari_deeppixel.live.source import Frame

_CHECK_S = 1.0
_DRAIN_S = 5.0


@dataclass(frozen=True, kw_only=True)
class RecordStats:
    """How far a recording is.

    Attributes
    ----------
    film_frames
        Pictures of the film on the disk.
    results
        Results on the disk, with their instances.
    dropped
        Results and frames that the disk was too slow for.
    num_bytes
        Size on the disk.
    seconds
        From the first frame to the newest; after the end, to the end.
    """

    film_frames: int = 0
    results: int = 0
    dropped: int = 0
    num_bytes: int = 0
    seconds: float = 0.0


class Recorder:
    """Writes results and frames to a folder of their own.

    The folder gets ``video.mp4``, ``labels.tif`` or ``labels.ome.zarr``, ``instances.json``
    (COCO), ``instances.csv`` and ``recording.json``; where the size changes in mid-stream, film
    and labels go on in ``video-2.mp4``, …. After a crash, `finish_recording` makes it whole.

    Parameters
    ----------
    folder
        Where to; with a number behind it if there is something already. Made at once.
    options
        What is recorded, and when it ends by itself.
    source
        Where the frames come from, for ``recording.json``.
    now_s
        The clock of the frames' `grabbed_s`.

    Attributes
    ----------
    folder
        Where it really goes.
    options
        As given.
    fault
        What ended the recording, if that was an error; the live view goes on.
    ended
        Why the recording is over; empty while it is not.

    Raises
    ------
    RecordError
        If the folder cannot be made.
    """

    def __init__(
        self,
        folder: Path,
        options: RecordOptions | None = None,
        *,
        source: str = "",
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = fresh_folder(folder)
        self.fault: str | None = None
        self.ended = ""
        self.options = options or RecordOptions()
        self._source, self._now_s = source, now_s
        self._begin_s, self._ended_s = -math.inf, math.inf
        self._changed = threading.Condition()
        self._queue: deque[LiveResult | Frame] = deque()
        self._queued_bytes = 0
        self._is_open = True
        self._drain_until_s = float("inf")
        self._stats = RecordStats()
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    # -- for any thread ---------------------------------------------------------------------------

    @property
    def stats(self) -> RecordStats:
        """How far it is."""
        return replace(self._stats, dropped=self._dropped)

    @property
    def is_recording(self) -> bool:
        """Whether `put` still takes something."""
        return self._is_open

    @property
    def is_alive(self) -> bool:
        """Whether its thread is still writing or finishing."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to write."""
        self._begin_s = self._now_s()
        self._thread.start()

    def put(self, item: LiveResult | Frame) -> None:
        """Hand over a result, or a frame for a raw film; without `waits_for_disk`, never waits.

        What comes after the end is passed over. Of too many that wait, the oldest is dropped.
        """
        if isinstance(item, Frame) and self.options.video != "raw":
            return
        with self._changed:
            if self.options.waits_for_disk:
                self._changed.wait_for(lambda: not self._is_open or not self._is_full)
            if not self._is_open:
                return
            self._queue.append(item)
            self._queued_bytes += _bytes_of(item)
            while len(self._queue) > 1 and self._is_too_much():
                self._drop_oldest()
            self._changed.notify_all()

    @property
    def _is_full(self) -> bool:
        # half of the bytes: nobody knows how many the next one has
        options = self.options
        is_long = len(self._queue) >= options.queue_frames
        return is_long or self._queued_bytes > options.queue_bytes // 2

    def _is_too_much(self) -> bool:
        options = self.options
        is_long = len(self._queue) > options.queue_frames
        is_too_much = is_long or self._queued_bytes > options.queue_bytes
        return is_too_much and not options.waits_for_disk

    def _drop_oldest(self) -> None:
        self._queued_bytes -= _bytes_of(self._queue.popleft())
        self._dropped += 1

    def stop(self, timeout_s: float = 5.0) -> bool:
        """End the recording; return whether all is on the disk by now.

        What waits is written for five seconds or half of the time, the rest dropped; with
        `waits_for_disk` all of it is written. After False the thread goes on by itself: see
        `is_alive`; a program that ends before that needs `finish_recording`. With 0 it never
        waits.
        """
        with self._changed:
            self._end()
            until_s = time.monotonic() + max(_DRAIN_S, timeout_s / 2)
            if not self.options.waits_for_disk:
                self._drain_until_s = min(self._drain_until_s, until_s)
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _end(self) -> None:
        self._is_open = False
        self._ended_s = min(self._ended_s, self._now_s())

    # -- in the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        recording: Recording | None = None
        try:
            recording = Recording(
                self.folder, self.options, source=self._source, begin_s=self._begin_s
            )
            ended = self._write_all(recording)
        except Exception as error:  # noqa: BLE001  told by `fault`; the camera goes on
            ended = self._fail(error)
        self._close_queue()
        if recording is not None:
            self._finish(recording, ended)
        self.ended = ended

    def _fail(self, error: Exception) -> str:
        self.fault = f"the recording to {self.folder} stopped: {str(error) or type(error).__name__}"
        return self.fault

    def _finish(self, recording: Recording, ended: str) -> None:
        try:
            recording.finish(ended=ended, num_dropped=self._dropped, ended_s=self._ended_s)
        except Exception as error:  # noqa: BLE001  told by `fault`
            # what stopped the recording says more than what then failed as well
            if self.fault is None:
                self._fail(error)
        with contextlib.suppress(OSError):
            self._note(recording)

    def _write_all(self, recording: Recording) -> str:
        """Write what comes; return why that is over."""
        check_s = time.monotonic()
        while True:
            item = self._take()
            if item is None:
                return "stopped"
            reason = self._limit_reached(recording, item)
            if reason:
                # the film ends there, however long the disk took
                self._ended_s = min(self._ended_s, _frame_of(item).grabbed_s)
                return reason
            recording.write(item)
            self._note(recording)
            if time.monotonic() >= check_s:
                check_s = time.monotonic() + _CHECK_S
                self._check_disk(recording)

    def _take(self) -> LiveResult | Frame | None:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or not self._is_open)
            while self._queue and time.monotonic() > self._drain_until_s:
                self._drop_oldest()
            if not self._queue:
                return None
            item = self._queue.popleft()
            self._queued_bytes -= _bytes_of(item)
            self._changed.notify_all()
            return item

    def _limit_reached(self, recording: Recording, item: LiveResult | Frame) -> str:
        options = self.options
        if options.max_s is not None and recording.seconds_of(item) >= options.max_s:
            return f"{options.max_s:g} seconds are recorded"
        frames = max(recording.num_video_frames, recording.num_results)
        if options.max_frames is not None and frames >= options.max_frames:
            return f"{options.max_frames} frames are recorded"
        if options.max_bytes is not None and recording.num_bytes >= options.max_bytes:
            return f"{options.max_bytes / 1e6:g} MB are recorded"
        return ""

    def _check_disk(self, recording: Recording) -> None:
        if not recording.is_there():
            raise OSError("its folder is gone")
        free = shutil.disk_usage(self.folder).free
        if free < self.options.min_free_bytes:
            raise OSError(f"the disk has only {free / 1e6:.0f} MB left")

    def _note(self, recording: Recording) -> None:
        self._stats = RecordStats(
            film_frames=recording.num_video_frames,
            results=recording.num_results,
            num_bytes=recording.num_bytes,
            seconds=recording.seconds,
        )

    def _close_queue(self) -> None:
        with self._changed:
            self._end()
            # they came after the end
            self._queue.clear()
            self._changed.notify_all()


def _bytes_of(item: LiveResult | Frame) -> int:
    return int(_frame_of(item).pixels.nbytes)


def _frame_of(item: LiveResult | Frame) -> Frame:
    return item.frame if isinstance(item, LiveResult) else item
