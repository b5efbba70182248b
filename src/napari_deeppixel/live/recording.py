"""One recording as it is written to its folder."""

import contextlib
import math
from collections import OrderedDict
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.live.av_errors import import_av
from napari_deeppixel.live.instance_lines import (
    InstanceTable,
    categories_line,
    instance_line,
    line_text,
)
from napari_deeppixel.live.label_files import LabelsFile, labels_file
from napari_deeppixel.live.overlay_frame import FrameContrast, draw_on_frame
from napari_deeppixel.live.recording_folder import (
    ABOUT,
    COCO,
    LINES,
    TABLE,
    about_recording,
    complete,
    locked,
    unlock,
    write_about,
)
from napari_deeppixel.live.result import LiveResult
from napari_deeppixel.live.source import Frame
from napari_deeppixel.live.video_file import VideoFile, size_of

# frames that a slower model may still give instances for
_REMEMBERED_FRAMES = 1024


@dataclass(frozen=True, kw_only=True)
class RecordOptions:
    """What is recorded, and when it ends by itself.

    Attributes
    ----------
    video
        ``overlay``: the frames of results, with their instances drawn. ``raw``: every frame. Each
        is shown until the next one came, the last until the end, so that the film takes as long
        as what it shows.
    labels
        Label images of the results: a TIFF stack, or OME-Zarr.
    max_s, max_bytes, max_frames
        The recording ends there; None: it does not.
    min_free_bytes
        The recording ends when the disk has less, while there is still room to finish it.
    queue_frames, queue_bytes
        What may wait for the disk; above it the oldest is dropped.
    waits_for_disk
        Nothing is dropped: `Recorder.put` waits instead, and model and source with it.
    clock
        ``arrival``: when frames came here. ``source``: their own stamps, as far as they have any,
        for files that are read slower than they were recorded.

    Raises
    ------
    ValueError
        If a limit is not above 0.
    """

    video: Literal["overlay", "raw", "none"] = "overlay"
    labels: Literal["tiff", "zarr", "none"] = "tiff"
    max_s: float | None = None
    max_bytes: int | None = None
    max_frames: int | None = None
    min_free_bytes: int = 200_000_000
    queue_frames: int = 64
    queue_bytes: int = 256 << 20
    waits_for_disk: bool = False
    clock: Literal["arrival", "source"] = "arrival"

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            # no room to keep free is a choice
            is_number = type(value) in (int, float) and field.name != "min_free_bytes"
            if is_number and not value > 0:
                raise ValueError(f"{field.name} must be above 0, got {value}")


class Recording:
    """A recording that is being written, in one thread.

    Parameters
    ----------
    folder
        Made by `fresh_folder`.
    options
        What is recorded.
    source
        Where the frames come from, for ``recording.json``.
    begin_s
        `time.monotonic` when it began: what came before is shown from then on.

    Raises
    ------
    OSError
        If the folder cannot be written.
    SourceError
        If PyAV is missing and a film is asked for.
    """

    def __init__(
        self,
        folder: Path,
        options: RecordOptions,
        *,
        source: str = "",
        begin_s: float = -math.inf,
    ) -> None:
        self._folder, self._options = folder, options
        self._begin_s = begin_s
        if options.video != "none":
            import_av()
        self._lock = locked(folder)
        self._start_s: float | None = None
        self._start_device_s: float | None = None
        self._seconds = 0.0
        self._contrast = FrameContrast()
        self._categories: CategoryTable | None = None
        self._in_video: OrderedDict[tuple[int, int], tuple[str, int]] = OrderedDict()
        self._newest = (0, -1)
        self._video: VideoFile | None = None
        self._labels: LabelsFile | None = None
        self._closed_bytes = 0
        self.num_video_frames = self.num_results = self.num_instances = 0
        self._about: dict[str, Any] = about_recording(source, options.video)
        self._save_about()
        self._lines = (folder / LINES).open("wb")
        self._table_file = (folder / TABLE).open("w", newline="", encoding="utf-8")
        self._table = InstanceTable(self._table_file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # -- how it stands ----------------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        """From the first frame to the newest; after the end, to the end."""
        return self._seconds

    @property
    def num_bytes(self) -> int:
        """Size on the disk."""
        growing = [f.num_bytes for f in (self._video, self._labels) if f is not None]
        texts = [size_of(self._folder / name) for name in (LINES, TABLE, ABOUT, COCO)]
        return self._closed_bytes + sum(growing) + sum(texts)

    def is_there(self) -> bool:
        """Whether the folder still has its files: open ones of a deleted folder take all."""
        return (self._folder / LINES).exists()

    def seconds_of(self, item: LiveResult | Frame) -> float:
        """Return when a frame came, in seconds since the first."""
        frame = item.frame if isinstance(item, LiveResult) else item
        if self._start_s is None:
            return 0.0
        if self._start_device_s is not None and frame.device_s is not None:
            return max(0.0, frame.device_s - self._start_device_s)
        return max(0.0, frame.grabbed_s - self._start_s)

    # -- writing ----------------------------------------------------------------------------------

    def write(self, item: LiveResult | Frame) -> None:
        """Append a result, or a frame that no model saw.

        Raises
        ------
        OSError
            If a file cannot be written.
        """
        frame = item.frame if isinstance(item, LiveResult) else item
        if self._start_s is None:
            self._start_s = max(self._begin_s, frame.grabbed_s)
            if self._options.clock == "source":
                self._start_device_s = frame.device_s
        seconds = self.seconds_of(item)
        self._seconds = max(self._seconds, seconds)
        self._film(item, frame, seconds)
        if isinstance(item, LiveResult):
            self._write_instances(item, seconds)

    def _film(self, item: LiveResult | Frame, frame: Frame, seconds: float) -> None:
        is_drawn = self._options.video == "overlay"
        is_wanted = self._options.video == "raw" or (is_drawn and isinstance(item, LiveResult))
        key = (frame.stream, frame.number)
        # a result of a frame that was filmed before, or whose turn is over
        if not is_wanted or key <= self._newest:
            return
        self._newest = key
        picture = self._contrast.apply(frame.pixels)
        if is_drawn and isinstance(item, LiveResult):
            picture = draw_on_frame(picture, item.instances)
        video = self._video_for(frame.image_hw, seconds)
        part = self._about["videos"][-1]
        number = video.write(picture, seconds - part["start_s"])
        self.num_video_frames += 1
        self._in_video[key] = (part["file"], number)
        if len(self._in_video) > _REMEMBERED_FRAMES:
            self._in_video.popitem(last=False)

    def _video_for(self, image_hw: tuple[int, int], seconds: float) -> VideoFile:
        if self._video is None or self._video.image_hw != image_hw:
            if self._video is not None:
                self._close_video(seconds)
                self._closed_bytes += self._video.num_bytes
            name = self._next_part("videos", "video", ".mp4", start_s=round(seconds, 6))
            self._video = VideoFile(self._folder / name, image_hw)
        return self._video

    def _close_video(self, until_s: float) -> None:
        if self._video is not None:
            self._video.close(until_s - self._about["videos"][-1]["start_s"])

    def _next_part(self, kind: str, stem: str, suffix: str, **about: Any) -> str:
        number = len(self._about[kind]) + 1
        name = f"{stem}{suffix}" if number == 1 else f"{stem}-{number}{suffix}"
        self._about[kind].append({"file": name} | about)
        self._save_about()
        return name

    def _write_instances(self, result: LiveResult, seconds: float) -> None:
        instances = self._in_one_table(result.instances)
        line = instance_line(
            replace(result, instances=instances),
            seconds=seconds,
            video=self._in_video.get((result.frame.stream, result.frame.number)),
            labels=self._write_labels(instances),
        )
        self._lines.write(line_text(line))
        self._lines.flush()
        self._table.write(line, {c.id: c.name for c in instances.categories.categories})
        self._table_file.flush()
        self.num_results += 1
        self.num_instances += len(instances)
        if result.model not in self._about["models"]:
            self._about["models"].append(result.model)
            self._save_about()

    def _in_one_table(self, instances: InstanceSet) -> InstanceSet:
        """Return instances in the recording's category table, which new weights may widen."""
        if instances.categories == self._categories:
            return instances
        known = self._categories or instances.categories
        table, new_ids = known.joined_with(instances.categories)
        if table != self._categories:
            self._categories = table
            self._lines.write(line_text(categories_line(table)))
        return instances.recategorised(table, new_ids)

    def _write_labels(self, instances: InstanceSet) -> tuple[str, int] | None:
        if self._options.labels == "none":
            return None
        if self._labels is None or not self._labels.takes(instances):
            if self._labels is not None:
                self._labels.close()
                self._closed_bytes += self._labels.num_bytes
            make, suffix = labels_file(self._options.labels)
            name = self._next_part("labels", "labels", suffix)
            self._labels = make(self._folder / name, instances)
        return self._labels.path.name, self._labels.write(instances)

    # -- the end ----------------------------------------------------------------------------------

    def close(self) -> None:
        """Close all files; `finish_recording` makes the folder whole."""
        try:
            self._close_files()
        finally:
            unlock(self._folder, self._lock)

    def finish(self, *, ended: str, num_dropped: int, ended_s: float | None = None) -> None:
        """Close all files, and write COCO and the last of ``recording.json``.

        Parameters
        ----------
        ended
            Why it is over.
        num_dropped
            What the disk was too slow for.
        ended_s
            `time.monotonic` when it ended: the last picture is shown until then.

        Raises
        ------
        OSError
            If a file cannot be written; `finish_recording` does it later.
        """
        self._seconds = max(self._seconds, self._end_of_film(ended_s))
        self._about |= {"ended": ended, "dropped": num_dropped, "seconds": round(self._seconds, 6)}
        try:
            self._close_files()
            complete(self._folder, self._about)
        finally:
            unlock(self._folder, self._lock)

    def _end_of_film(self, ended_s: float | None) -> float:
        """Return how long the film goes, in seconds since the first frame."""
        if self._start_device_s is not None:
            # a source's clock does not tell when a person stopped: one more usual step
            return self._seconds * (1 + 1 / max(1, self.num_video_frames - 1))
        if ended_s is None or self._start_s is None:
            return 0.0
        return ended_s - self._start_s

    def _close_files(self) -> None:
        with contextlib.ExitStack() as stack:
            # each of them, whatever the others raise
            for file in (self._table_file, self._lines, self._labels):
                if file is not None:
                    stack.callback(file.close)
            stack.callback(self._close_video, self._seconds)

    def _save_about(self) -> None:
        write_about(self._folder, self._about)
