"""``napari-deeppixel live``."""

import argparse
import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from napari_deeppixel.cli.console import (
    EXIT_BAD_INPUT,
    ProgressLine,
    Table,
    complain,
    number,
    say,
    say_json,
)
from napari_deeppixel.engine.base import Engine, PredictOptions
from napari_deeppixel.live.av_errors import without_password
from napari_deeppixel.live.meters import LiveFigures
from napari_deeppixel.live.pipeline import STOP_S, LivePipeline
from napari_deeppixel.live.record import Recorder
from napari_deeppixel.live.recording import RecordOptions
from napari_deeppixel.live.registry import create_source, list_sources
from napari_deeppixel.live.result import LiveResult
from napari_deeppixel.live.source import Frame, FrameSource, SourceError, SourceInfo, SourceOptions
from napari_deeppixel.live.status import LiveState, LiveStatus

_LOOK_S = 0.05
# what a long film still needs at its end; a person may interrupt it
_FINISH_S = 60.0


def run(arguments: argparse.Namespace) -> int:
    """Find the instances in what a source gives, until it ends; return the exit code."""
    if arguments.list:
        return list_and_report(is_json=arguments.json)
    if arguments.source is None:
        raise SourceError("give a SOURCE, or --list to see what there is")
    source = open_source(arguments)
    # only now: torch takes seconds, which nobody waits for who mistyped an address
    from napari_deeppixel.cli.segment import open_model

    with ProgressLine(is_wanted=not arguments.json) as progress:
        engine = open_model(arguments.model, arguments, progress)
        outcome = watch(source, engine, arguments, progress)
    for problem in outcome.problems:
        complain(problem)
    if arguments.json:
        say_json(outcome.record())
    else:
        for line in outcome.lines():
            say(line)
    return EXIT_BAD_INPUT if outcome.has_failed else 0


def open_source(arguments: argparse.Namespace) -> FrameSource:
    """Return the source that was asked for, not open yet.

    Raises
    ------
    SourceError
        If there is no such source, or it cannot wait for a model.
    """
    options = SourceOptions(
        size_hw=arguments.size,
        fps=arguments.fps,
        timeout_s=arguments.timeout,
        is_looped=arguments.loop,
    )
    source = create_source(arguments.source, options)
    if arguments.all_frames and source.info.is_live:
        raise SourceError(
            f"--all-frames is for files: {source.info.label} is live and does not wait for a model"
        )
    return source


# what is there ---------------------------------------------------------------------------------


def list_and_report(*, is_json: bool) -> int:
    """Print the sources that each provider lists; return the exit code."""
    found = list_sources()
    if is_json:
        providers = [
            {
                "name": provider.name,
                "problem": provider.problem,
                "sources": [_source_record(info) for info in provider.sources],
            }
            for provider in found
        ]
        say_json({"providers": providers})
        return 0
    rows = [
        (_shown_address(info), info.kind, info.label)
        for provider in found
        for info in provider.sources
    ]
    widths = tuple(
        max(map(len, column)) for column in zip(("source", "kind", "name"), *rows, strict=True)
    )
    table = Table(headings=("source", "kind", "name"), widths=widths)
    say(table.head())
    for row in rows:
        say(table.row(row))
    for provider in found:
        if provider.problem:
            complain(f"{provider.name}: {provider.problem}")
    return 0


def _shown_address(info: SourceInfo) -> str:
    return without_password(info.address)


def _source_record(info: SourceInfo) -> dict[str, Any]:
    return asdict(info) | {"address": _shown_address(info)}


# a run -----------------------------------------------------------------------------------------


class RunCounts:
    """Counts over a whole run what a pipeline's own figures tell of its last seconds."""

    def __init__(self) -> None:
        self._frames = self._results = self.num_instances = 0
        self._frame_span_s = self._result_span_s = (0.0, 0.0)
        self.track_ids: set[int] = set()

    def on_frame(self, frame: Frame) -> None:
        """Take note of a frame."""
        first_s = self._frame_span_s[0] if self._frames else frame.grabbed_s
        self._frame_span_s = (first_s, frame.grabbed_s)
        self._frames += 1

    def on_result(self, result: LiveResult) -> None:
        """Take note of a result."""
        first_s = self._result_span_s[0] if self._results else result.finished_s
        self._result_span_s = (first_s, result.finished_s)
        self._results += 1
        self.num_instances += len(result.instances)
        self.track_ids.update(result.instances.handles.tolist())

    @property
    def first_frame_s(self) -> float | None:
        """When the first frame came; None before."""
        return self._frame_span_s[0] if self._frames else None

    @property
    def camera_fps(self) -> float:
        """Frames a second from the first to the last; NaN with fewer than two."""
        return _rate(self._frames, self._frame_span_s)

    @property
    def model_fps(self) -> float:
        """Results a second from the first to the last; NaN with fewer than two."""
        return _rate(self._results, self._result_span_s)

    @property
    def instances_a_frame(self) -> float:
        """Mean number of instances of a result; NaN without any."""
        return self.num_instances / self._results if self._results else float("nan")


def _rate(count: int, span_s: tuple[float, float]) -> float:
    seconds = span_s[1] - span_s[0]
    return (count - 1) / seconds if seconds > 0 else float("nan")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run came to.

    Attributes
    ----------
    source
        What was read.
    engine
        What found the instances.
    figures
        Rates of the last two seconds before the end, counts of the whole run.
    counts
        Rates and instances of the whole run.
    status
        How the source ended.
    model_message
        Why the model stopped before; empty if it did not.
    recorder
        Holds what was recorded; None: nothing.
    problems
        What is to be told in any case.
    """

    source: SourceInfo
    engine: Engine
    figures: LiveFigures
    counts: RunCounts
    status: LiveStatus
    model_message: str
    recorder: Recorder | None
    problems: tuple[str, ...]

    @property
    def has_failed(self) -> bool:
        """Whether source, model or recording ended by an error."""
        is_recorded = self.recorder is None or self.recorder.fault is None
        return self.status.state is LiveState.FAILED or bool(self.model_message) or not is_recorded

    def record(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        return {
            "source": _source_record(self.source),
            "model": self.engine.source,
            "device": self.engine.device_name,
            "state": self.status.state.value,
            "message": self.status.message,
            "model_message": self.model_message,
            **asdict(self.figures),
            "mean_camera_fps": self.counts.camera_fps,
            "mean_model_fps": self.counts.model_fps,
            "num_instances": self.counts.num_instances,
            "instances_a_frame": self.counts.instances_a_frame,
            "num_track_ids": len(self.counts.track_ids),
            "recording": self._recording(),
        }

    def _recording(self) -> dict[str, Any] | None:
        if self.recorder is None:
            return None
        return {
            "folder": str(self.recorder.folder),
            "fault": self.recorder.fault,
            **asdict(self.recorder.stats),
        }

    def lines(self) -> Iterator[str]:
        """Yield a summary for people; nothing of a source that could not be opened."""
        figures, counts = self.figures, self.counts
        if self.status.state is LiveState.FAILED and not figures.num_frames:
            return
        yield (
            f"{figures.num_frames:,} frames, {number(counts.camera_fps, 1)} a second; "
            f"{figures.num_results:,} results, {number(counts.model_fps, 1)} a second; "
            f"{figures.num_skipped:,} frames skipped, {figures.num_failed:,} failed"
        )
        yield (
            f"age of a result {_ms(figures.result_age_s)} (median), 95 % within "
            f"{_ms(figures.result_age_95_s)}; the model takes {_ms(figures.model_s)}"
        )
        yield (
            f"{number(counts.instances_a_frame, 1)} instances a frame, "
            f"track ids: {len(counts.track_ids):,}; {self.engine.source} on "
            f"{self.engine.device_name}"
        )
        if self.recorder is not None:
            stats = self.recorder.stats
            yield (
                f"recorded in {self.recorder.folder}: {stats.film_frames:,} film frames, "
                f"{stats.results:,} results, {stats.dropped:,} dropped"
            )


def watch(
    source: FrameSource, engine: Engine, arguments: argparse.Namespace, progress: ProgressLine
) -> Outcome:
    """Run a pipeline until its source ends, its time is up, or the person interrupts it.

    Raises
    ------
    RecordError
        If the folder of the recording cannot be made.
    """
    pipeline = LivePipeline(
        source,
        engine=engine,
        options=PredictOptions(
            score=arguments.score,
            min_area=arguments.min_area,
            zoom=arguments.zoom,
            precision=arguments.precision,
        ),
        has_all_frames=arguments.all_frames,
    )
    counts = RunCounts()
    pipeline.frame_listeners.append(counts.on_frame)
    pipeline.listeners.append(counts.on_result)
    recorder = _begin_recording(pipeline, arguments)
    teller = Teller(pipeline, progress)
    pipeline.start()
    # Ctrl-C is the usual end of a camera
    with contextlib.suppress(KeyboardInterrupt):
        while not _is_over(pipeline, counts, arguments.seconds):
            teller.tell()
            time.sleep(_LOOK_S)
    before, status = pipeline.figures(), pipeline.status
    problems = []
    if recorder is not None and recorder.options.waits_for_disk:
        # a model that waits for it could not end
        recorder.stop(0)
    if not pipeline.stop():
        problems.append(f"source or model did not end within {STOP_S:g} s")
    if recorder is not None:
        progress.show("finishing the recording ...")
        while not recorder.stop(_FINISH_S):
            pass
        problems += [recorder.fault] if recorder.fault else []
    progress.clear()
    model = pipeline.model_status
    if status.state is LiveState.FAILED:
        problems.append(status.message)
    if not model.is_running:
        problems.append(f"the model stopped: {model.message}")
    return Outcome(
        source=source.info,
        engine=engine,
        # after the end a rate sinks
        figures=replace(
            pipeline.figures(),
            camera_fps=before.camera_fps,
            model_fps=before.model_fps,
            model_load=before.model_load,
        ),
        counts=counts,
        status=status if status.state.is_over else pipeline.status,
        model_message="" if model.is_running else model.message,
        recorder=recorder,
        problems=tuple(problems),
    )


def _is_over(pipeline: LivePipeline, counts: RunCounts, seconds: float | None) -> bool:
    if pipeline.status.state.is_over:
        # the last frames of a file are still with the model
        return pipeline.is_settled
    begin_s = counts.first_frame_s
    return seconds is not None and begin_s is not None and time.monotonic() - begin_s >= seconds


def _begin_recording(pipeline: LivePipeline, arguments: argparse.Namespace) -> Recorder | None:
    if arguments.record is None:
        return None
    options = RecordOptions(
        video=arguments.video,
        labels=arguments.labels,
        # nobody looks on, and a file is patient; its film runs as the file does
        waits_for_disk=arguments.all_frames,
        clock="source" if arguments.all_frames else "arrival",
    )
    recorder = Recorder(
        Path(arguments.record), options, source=_shown_address(pipeline.source.info)
    )
    recorder.start()
    pipeline.frame_listeners.append(recorder.put)
    pipeline.listeners.append(recorder.put)
    return recorder


class Teller:
    """Tells how a pipeline is doing: a line that is rewritten, and one for each trouble."""

    def __init__(self, pipeline: LivePipeline, progress: ProgressLine) -> None:
        self._pipeline, self._progress = pipeline, progress
        self._told: tuple[LiveState, int] = (LiveState.LIVE, 0)
        self._model_was_running = True

    def tell(self) -> None:
        """Look, and tell what is new."""
        status, model = self._pipeline.status, self._pipeline.model_status
        key = (status.state, status.attempt)
        is_trouble = status.state in (LiveState.STALLED, LiveState.RECONNECTING)
        was_trouble = self._told[0] is not LiveState.LIVE
        if key != self._told and (is_trouble or (was_trouble and status.state is LiveState.LIVE)):
            self._told = key
            self._complain(
                f"{status.state.value}: {status.message}" if is_trouble else "live again"
            )
        if self._model_was_running and not model.is_running:
            self._complain(f"no more instances, the camera goes on: {model.message}")
        self._model_was_running = model.is_running
        self._progress.show(progress_text(status, self._pipeline.figures()))

    def _complain(self, text: str) -> None:
        self._progress.clear()
        complain(text)


def progress_text(status: LiveStatus, figures: LiveFigures) -> str:
    """Return one line about a pipeline that runs."""
    return (
        f"{status.state.value}  camera {number(figures.camera_fps, 1)}/s"
        f"  model {number(figures.model_fps, 1)}/s"
        f"  age {_ms(figures.result_age_s)}, 95 % {_ms(figures.result_age_95_s)}"
        f"  skipped {figures.num_skipped:,}  failed {figures.num_failed:,}"
    )


def _ms(seconds: float) -> str:
    return f"{number(1000 * seconds, 0)} ms"
