"""``napari-deeppixel mistakes``."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from napari_deeppixel.cli.console import ProgressLine, Table, complain, number, say, say_json
from napari_deeppixel.dataset.annotated import Split

if TYPE_CHECKING:
    from napari_deeppixel.training.mistakes_file import MistakeList

_MOST_TOLD = 20
_MAX_NAME_WIDTH = 32


def run(arguments: argparse.Namespace) -> int:
    """List likely mistakes of a dataset's annotations; return the exit code."""
    # here, so that --help does not wait for torch
    from napari_deeppixel.cli.segment import open_model
    from napari_deeppixel.training.mistake_search import search_mistakes
    from napari_deeppixel.training.mistakes_file import load_mistakes, save_mistakes

    output = Path(arguments.output)
    # before the long part: an answer must not be lost because the file cannot be read
    earlier = load_mistakes(output) if output.is_file() else None
    output.parent.mkdir(parents=True, exist_ok=True)
    with ProgressLine(is_wanted=not arguments.json) as progress:
        engine = open_model(arguments.model, arguments, progress)
        found = search_mistakes(
            Path(arguments.dataset),
            engine,
            splits=[Split(split) for split in arguments.split],
            score=arguments.score,
            on_progress=progress.show_event,
        )
    if earlier is not None:
        found = found.with_answers_of(earlier)
    save_mistakes(output, found)
    if arguments.json:
        _say_json(found, output)
    else:
        _say_table(found, output)
    return 0


def _say_json(found: "MistakeList", output: Path) -> None:
    say_json(
        {
            "model": found.model,
            "output": str(output),
            "mistakes": [
                {
                    "file_name": mistake.file_name,
                    "plane": mistake.plane,
                    "kind": mistake.kind,
                    "reason": mistake.reason,
                    "severity": mistake.severity,
                    "uuid": mistake.uuid,
                    "box_xyxy": mistake.box_xyxy,
                    "answer": mistake.answer,
                }
                for mistake in found.mistakes
            ],
        }
    )


def _say_table(found: "MistakeList", output: Path) -> None:
    shown = [mistake for mistake in found.mistakes if mistake.is_open][:_MOST_TOLD]
    if shown:
        width = min(max(len(mistake.file_name) for mistake in shown), _MAX_NAME_WIDTH)
        table = Table(
            headings=("image", "severity", "kind", "x, y", "why"),
            widths=(max(width, len("image")), 8, 8, 11, 3),
        )
        say(table.head())
        for mistake in shown:
            x1, y1, x2, y2 = mistake.box_xyxy
            place = f"{(x1 + x2) // 2}, {(y1 + y2) // 2}"
            severity = number(mistake.severity, 2)
            say(table.row((mistake.file_name, severity, mistake.kind, place, mistake.reason)))
    counts = ", ".join(f"{count:,} {kind}" for kind, count in found.counts().items() if count)
    more = f"; the worst {len(shown)} are shown" if found.num_open > len(shown) else ""
    dismissed = len(found.mistakes) - found.num_open
    say(f"\n{found.num_open:,} likely mistakes{f' ({counts})' if counts else ''}{more}.")
    if dismissed:
        say(f"{dismissed:,} more {'was' if dismissed == 1 else 'were'} dismissed before.")
    say(f"Go through them in napari: Review tab, Label mistakes, Open {output}")
    if not found.num_open and not dismissed:
        complain("nothing was found: a model that knows these labels by heart finds no mistakes")
