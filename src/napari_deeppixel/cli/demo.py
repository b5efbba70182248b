"""``napari-deeppixel demo``."""

import argparse
import subprocess
import sys
from pathlib import Path

from napari_deeppixel.batch.files import ResultFormat
from napari_deeppixel.batch.inputs import sample_paths
from napari_deeppixel.cli.console import EXIT_BAD_INPUT, EXIT_INTERRUPTED, say_json
from napari_deeppixel.cli.segment import Report, open_model, run_record, segment_and_report
from napari_deeppixel.engine.base import PredictOptions
from napari_deeppixel.engine.catalogue import DEFAULT_MODEL


def run(arguments: argparse.Namespace) -> int:
    """Segment the sample images with the model in the package; return the exit code."""
    paths = sample_paths()
    report = Report(paths, is_talkative=not arguments.json)
    options, output = PredictOptions(), Path(arguments.output)
    with report.progress:
        engine = open_model(DEFAULT_MODEL, arguments, report.progress)
        is_interrupted = segment_and_report(
            paths,
            engine,
            options,
            output=output,
            formats=list(ResultFormat),
            overwrite=True,
            report=report,
        )
    report.ended(output)
    if arguments.json:
        say_json(run_record(engine, options, output, is_interrupted, report))
    if is_interrupted:
        return EXIT_INTERRUPTED
    if arguments.napari:
        return _open_in_napari(paths, output)
    return EXIT_BAD_INPUT if report.num_failed else 0


def _open_in_napari(paths: tuple[Path, ...], output: Path) -> int:
    """Show the COCO files, which name their images, in a napari of its own; return its exit code.

    A process of its own: the command line stands beside the viewer, not above it.
    """
    files = [str(output / f"{path.stem}_coco.json") for path in paths]
    command = [sys.executable, "-m", "napari_deeppixel.viewer.open", *files]
    return subprocess.run(command, check=False).returncode
