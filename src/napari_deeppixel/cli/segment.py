"""``napari-deeppixel segment``."""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from napari_deeppixel.batch.files import (
    FileDone,
    FileFailed,
    FileStarted,
    ResultFormat,
    segment_files,
)
from napari_deeppixel.batch.inputs import find_images
from napari_deeppixel.cli.console import (
    EXIT_BAD_INPUT,
    EXIT_INTERRUPTED,
    ProgressLine,
    Table,
    complain,
    number,
    say,
    say_json,
)
from napari_deeppixel.core.errors import ImageError
from napari_deeppixel.core.progress import Progress
from napari_deeppixel.engine.base import Engine, PredictOptions
from napari_deeppixel.engine.weights import load_model

_MAX_NAME_WIDTH = 48


class Report:
    """Tells of a run while it goes: a table, warnings, progress; keeps records for JSON.

    Parameters
    ----------
    paths
        The images, for the width of the table.
    is_talkative
        Whether to print the table and progress.
    """

    def __init__(self, paths: Iterable[Path], *, is_talkative: bool) -> None:
        width = max((len(path.name) for path in paths), default=0)
        self._table = Table(
            headings=("image", "planes", "count", "mean score", "mean area px", "seconds"),
            widths=(min(max(width, len("image")), _MAX_NAME_WIDTH), 6, 7, 10, 12, 8),
        )
        self._is_talkative = is_talkative
        self._has_head = False
        self._current = ""
        self._hidden: list[FileDone] = []
        self.progress = ProgressLine(is_wanted=is_talkative)
        self.records: list[dict[str, Any]] = []
        self.num_failed = 0

    def on_progress(self, progress: Progress) -> None:
        """Show how far the current image is."""
        self.progress.show(f"{self._current}  {progress.message}  {progress.fraction:.0%}")

    def started(self, event: FileStarted) -> None:
        """Name the current image in the progress line."""
        self._current = f"{event.number} of {event.num_files}: {event.path.name}"
        self.progress.show(self._current)

    def done(self, event: FileDone) -> None:
        """Add a row to the table and a record."""
        self.progress.clear()
        self._row(
            event.path.name,
            f"{event.num_planes:,}",
            f"{event.count:,}",
            number(event.mean_score, 2),
            number(event.mean_area_px, 1),
            number(event.seconds, 1),
        )
        for warning in event.warnings:
            complain(f"{event.path}: {warning}")
        if event.hidden is not None and event.hidden.pixels:
            self._hidden.append(event)
        self.records.append(_record_of(event))

    def failed(self, path: Path | str, message: str, seconds: float = 0.0) -> None:
        """Say what is wrong with an image, and add a record."""
        self.progress.clear()
        complain(message)
        self.num_failed += 1
        self.records.append(_empty_record(str(path)) | {"error": message, "seconds": seconds})

    def ended(self, output: Path) -> None:
        """Say where the results are and what label images cannot show."""
        self.progress.clear()
        done = [record for record in self.records if record["error"] is None]
        if not self._is_talkative or not done:
            return
        count = sum(record["count"] for record in done)
        images = "1 image" if len(done) == 1 else f"{len(done):,} images"
        say(f"\n{count:,} objects in {images}; results in {output}")
        if self._hidden:
            pixels = sum(event.hidden.pixels for event in self._hidden if event.hidden)
            lost = sum(event.hidden.instances for event in self._hidden if event.hidden)
            objects = f", {lost:,} of them wholly" if lost else ""
            say(
                f"Label TIFFs show one object a pixel: {pixels:,} px of overlapping objects are "
                f"hidden{objects}. COCO files keep them."
            )

    def _row(self, *cells: str) -> None:
        if not self._is_talkative:
            return
        if not self._has_head:
            say(self._table.head())
            self._has_head = True
        say(self._table.row(cells))


def _empty_record(path: str) -> dict[str, Any]:
    return {
        "path": path,
        "planes": 0,
        "count": 0,
        "mean_score": None,
        "mean_area_px": None,
        "outputs": [],
        "hidden_pixels": None,
        "hidden_instances": None,
        "seconds": 0.0,
        "error": None,
        "warnings": [],
    }


def _record_of(event: FileDone) -> dict[str, Any]:
    return _empty_record(str(event.path)) | {
        "planes": event.num_planes,
        "count": event.count,
        "mean_score": event.mean_score,
        "mean_area_px": event.mean_area_px,
        "outputs": [str(path) for path in event.outputs],
        "hidden_pixels": event.hidden.pixels if event.hidden else None,
        "hidden_instances": event.hidden.instances if event.hidden else None,
        "seconds": round(event.seconds, 3),
        "warnings": list(event.warnings),
    }


def run(arguments: argparse.Namespace) -> int:
    """Segment the images that were named; return the exit code."""
    is_talkative = not (arguments.quiet or arguments.json)
    found = find_images(arguments.images)
    report = Report(found.paths, is_talkative=is_talkative)
    for argument, problem in found.problems:
        report.failed(argument, f"{argument}: {problem}")
    if found.left_out:
        names = ", ".join(path.name for path in found.left_out[:3])
        more = f" and {len(found.left_out) - 3} more" if len(found.left_out) > 3 else ""
        complain(f"left out {names}{more}: results of an earlier run (name them to segment them)")
    options = PredictOptions(
        score=arguments.score,
        mask_threshold=arguments.mask_threshold,
        max_instances=arguments.max_instances,
        min_area=arguments.min_area,
        zoom=arguments.zoom,
        channels=arguments.channels,
        precision=arguments.precision,
    )
    output = Path(arguments.output)
    engine: Engine | None = None
    is_interrupted = False
    if found.paths:
        with report.progress:
            engine = open_model(arguments.model, arguments, report.progress)
            formats = [ResultFormat(name) for name in arguments.format]
            is_interrupted = segment_and_report(
                found.paths,
                engine,
                options,
                output=output,
                formats=formats,
                overwrite=arguments.overwrite,
                report=report,
            )
    report.ended(output)
    if arguments.json:
        say_json(run_record(engine, options, output, is_interrupted, report))
    if is_interrupted:
        complain("interrupted; the results of finished images are kept")
        return EXIT_INTERRUPTED
    return EXIT_BAD_INPUT if report.num_failed else 0


def run_record(
    engine: Engine | None,
    options: PredictOptions,
    output: Path,
    is_interrupted: bool,
    report: Report,
) -> dict[str, Any]:
    """Return what a run did, for JSON; without a model if no image could be found."""
    return {
        "model": engine.source if engine else None,
        "device": engine.device_name if engine else None,
        "engine": engine.kind if engine else None,
        "precision": options.precision,
        "score": engine.spec.score if engine and options.score is None else options.score,
        "output": str(output),
        "is_interrupted": is_interrupted,
        "images": report.records,
    }


def open_model(model: str, arguments: argparse.Namespace, progress: ProgressLine) -> Engine:
    """Return a model by the options of `add_engine`; a line tells how far a download is."""

    def on_progress(event: Progress) -> None:
        progress.show(f"{event.message or f'loading {model}'}  {event.fraction:.0%}")

    progress.show(f"loading {model} ...")
    engine: Engine = load_model(
        model, engine=arguments.engine, device=arguments.device, on_progress=on_progress
    )
    return engine


def segment_and_report(
    paths: tuple[Path, ...],
    engine: Engine,
    options: PredictOptions,
    *,
    output: Path,
    formats: list[ResultFormat],
    overwrite: bool,
    report: Report,
) -> bool:
    """Segment files and report each; return whether the person interrupted it.

    Raises
    ------
    ImageError
        If the output folder cannot be made.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageError(
            f"no folder can be made at {output} ({error}): choose another -o"
        ) from error
    events = segment_files(
        paths,
        engine,
        options,
        output=output,
        formats=formats,
        overwrite=overwrite,
        on_progress=report.on_progress,
    )
    try:
        for event in events:
            match event:
                case FileStarted():
                    report.started(event)
                case FileDone():
                    report.done(event)
                case FileFailed():
                    report.failed(event.path, event.message, event.seconds)
    except KeyboardInterrupt:
        return True
    return False
