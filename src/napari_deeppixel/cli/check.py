"""``napari-deeppixel check``."""

import argparse
from collections import Counter
from typing import Any

from napari_deeppixel.cli.console import EXIT_BAD_INPUT, ProgressLine, say, say_json
from napari_deeppixel.core.progress import Progress
from napari_deeppixel.dataset.store import Dataset, Fault


def run(arguments: argparse.Namespace) -> int:
    """Check a dataset, and repair it if asked to; return 2 if anything is wrong with it now."""
    dataset = Dataset.open(arguments.dataset)
    is_quiet = arguments.json
    found = left = _faults(dataset, is_quiet=is_quiet)
    repaired: list[str] = []
    if arguments.repair and any(fault.repair for fault in found):
        repaired = dataset.repair(found)
        # what was repaired is not taken on trust
        left = _faults(dataset, is_quiet=is_quiet)
    if arguments.json:
        say_json(
            {
                "dataset": str(dataset.path),
                "images": len(dataset.entries()),
                "faults": [_as_json(fault) for fault in found],
                "repaired": repaired,
                "left": [_as_json(fault) for fault in left],
            }
        )
    else:
        _say(dataset, left, repaired, is_repair=arguments.repair)
    return EXIT_BAD_INPUT if left else 0


def _faults(dataset: Dataset, *, is_quiet: bool) -> list[Fault]:
    faults = []
    with ProgressLine(is_wanted=not is_quiet) as progress:
        for event in dataset.check():
            if isinstance(event, Progress):
                progress.show(f"{event.fraction:4.0%}  {event.message}")
            else:
                faults.append(event)
    return faults


def _as_json(fault: Fault) -> dict[str, Any]:
    return {
        "kind": fault.kind.name.lower(),
        "image": fault.image_id,
        "entry": fault.entry,
        "message": fault.message,
        "repair": fault.repair,
    }


def _say(dataset: Dataset, left: list[Fault], repaired: list[str], *, is_repair: bool) -> None:
    for line in repaired:
        say(f"repaired: {line}")
    for fault in left:
        say(f"{fault} [--repair: {fault.repair}]" if fault.repair else str(fault))
    num_images = len(dataset.entries())
    if not left:
        say(f"{num_images:,} images, nothing wrong with them")
        return
    counts = Counter(fault.kind.value for fault in left)
    what = ", ".join(f"{count:,} x {kind}" for kind, count in counts.most_common())
    say(f"\n{num_images:,} images; {what}")
    num_mendable = sum(bool(fault.repair) for fault in left)
    if num_mendable and not is_repair:
        say(f"--repair can do something about {num_mendable:,} of {len(left):,}")
