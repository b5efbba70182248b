"""``napari-deeppixel convert``."""

import argparse
from dataclasses import asdict
from pathlib import Path

from napari_deeppixel.cli.console import EXIT_BAD_INPUT, ProgressLine, complain, say, say_json
from napari_deeppixel.dataset.annotated import ImageState
from napari_deeppixel.dataset.convert import (
    Annotations,
    Conversion,
    Converted,
    ImageWritten,
)
from napari_deeppixel.dataset.formats.base import Problem
from napari_deeppixel.dataset.formats.loss import LossReport


def run(arguments: argparse.Namespace) -> int:
    """Convert annotations; return the exit code."""
    source, conversion = _opened(arguments)
    done: Converted | None = None
    with ProgressLine(is_wanted=not arguments.json) as progress:
        for read in conversion.survey():
            progress.show(f"reading image {read.number}: {read.file_name}")
        assert conversion.loss is not None  # survey has ended
        loss = conversion.loss
        progress.clear()
        _tell_loss(loss)
        is_refused = arguments.lossless and not loss.is_lossless
        if not arguments.dry_run and not is_refused:
            for event in conversion.write():
                if isinstance(event, ImageWritten):
                    progress.show(f"image {event.number} of {event.num_images}: {event.file_name}")
                else:
                    done = event
    problems = conversion.source_problems if done is None else done.problems
    for problem in problems:
        complain(str(problem))
    if is_refused:
        complain("nothing was written, because of --lossless")
    if arguments.json:
        say_json(_as_json(source, conversion, loss, problems, done))
    else:
        _say_result(source, conversion, loss, done)
    return EXIT_BAD_INPUT if problems or is_refused else 0


def _opened(arguments: argparse.Namespace) -> tuple[Annotations, Conversion]:
    images = Path(arguments.images) if arguments.images else None
    source = Annotations(
        Path(arguments.source),
        format_name=arguments.source_format,
        default_category=arguments.category,
    )
    has_own_images = source.format.name == "dataset"
    if images is not None and not has_own_images:
        source = Annotations(
            source.path,
            format_name=source.format.name,
            images_dir=images,
            default_category=arguments.category,
        )
    return source, Conversion(
        source,
        Path(arguments.target),
        format_name=arguments.target_format,
        images_dir=images if has_own_images else None,
        copies_images=not arguments.no_images,
        state=ImageState(arguments.state) if arguments.state else None,
        overwrites=arguments.overwrite,
        keeps_rejected=arguments.rejected == "keep" if arguments.rejected else None,
    )


def _tell_loss(loss: LossReport) -> None:
    for line in loss.lines():
        complain(f"{loss.format_title}: {line}")


def _say_result(
    source: Annotations, conversion: Conversion, loss: LossReport, done: Converted | None
) -> None:
    what = f"{source.format.title} to {conversion.format.title}"
    problems = conversion.source_problems if done is None else done.problems
    if problems:
        kept = f"{len(problems):,} entries were not taken as they are: see above"
    else:
        kept = "nothing gets lost" if loss.is_lossless else "see above for what gets lost"
    if done is None:
        say(f"{what}: {loss.num_images:,} images, {loss.num_instances:,} instances; {kept}")
    else:
        say(
            f"{what}: {done.num_images:,} images and {done.num_instances:,} instances in "
            f"{done.path}; {kept}"
        )


def _as_json(
    source: Annotations,
    conversion: Conversion,
    loss: LossReport,
    problems: tuple[Problem, ...],
    done: Converted | None,
) -> dict[str, object]:
    return {
        "from": source.format.name,
        "to": conversion.format.name,
        "path": str(done.path) if done else None,
        "images": done.num_images if done else 0,
        "instances": done.num_instances if done else 0,
        "lossless": loss.is_lossless,
        "loss": asdict(loss),
        "problems": [str(problem) for problem in problems],
    }
