"""``napari-deeppixel compare``."""

import argparse
from pathlib import Path

from napari_deeppixel.cli.console import ProgressLine, Table, complain, number, say, say_json
from napari_deeppixel.dataset.annotated import Split
from napari_deeppixel.dataset.store import Dataset
from napari_deeppixel.training.compare import (
    ComparedModel,
    Comparison,
    Role,
    compare,
    models_to_compare,
)
from napari_deeppixel.training.evaluation.data import read_data, read_pixels, with_appearance
from napari_deeppixel.training.evaluation.truth import Truth
from napari_deeppixel.training.summary import summarise
from napari_deeppixel.training.verdict import ImageChange

_MOST_IMAGES = 5


def run(arguments: argparse.Namespace) -> int:
    """Compare models on annotated images; return the exit code."""
    data = Path(arguments.data)
    path = _output(arguments.output)
    models = models_to_compare(arguments.new, current=arguments.current, base=arguments.base)
    with ProgressLine(is_wanted=not arguments.json) as progress:
        progress.show("reading images ...")
        split = Split(arguments.split) if arguments.split else None
        truths, content_hash = _read(data, split)
        comparison = compare(
            models,
            truths,
            path=path,
            dataset=data.resolve().name,
            data_hash=content_hash,
            split=arguments.split or "",
            device=arguments.device,
            on_progress=progress.show_event,
        )
    if path is not None:
        comparison.save(path)
    if arguments.json:
        told = {} if path is None else {"path": str(path)}
        say_json({**comparison.to_json(), **told})
        return 0
    _say_table(comparison)
    _say_images(comparison)
    say(f"\n{comparison.verdict.reason}")
    if comparison.verdict.is_better:
        new = models[Role.NEW]
        action = f'import "{new}" --use' if Path(new).is_file() else f'use "{new}"'
        say(f"Use it with: napari-deeppixel models {action}")
    return 0


def _output(text: str | None) -> Path | None:
    if text is None:
        return None
    path = Path(text)
    # what the models found goes into a folder of the name without the ending
    path = path if path.suffix == ".json" else path.with_name(f"{path.name}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _read(data: Path, split: Split | None) -> tuple[list[Truth], str]:
    """Return the images, and what tells two states of a dataset apart; empty for other data."""
    read = read_data(data, split=split)
    for problem in read.problems[:_MOST_IMAGES]:
        complain(problem)
    truths = [with_appearance(truth, read_pixels(truth)) for truth in read.truths]
    return truths, summarise(data).content_hash if Dataset.is_dataset(data) else ""


def _say_table(comparison: Comparison) -> None:
    table = Table(
        headings=("", "model", "AP", "AP50", "AP75", "accuracy", "count off by", "at score"),
        widths=(
            8,
            max(5, *(len(model.name) for model in comparison.models)),
            *(5, 5, 5, 8, 12, 8),
        ),
    )
    say(table.head())
    for model in comparison.models:
        say(table.row(_cells(model)))
    report = comparison.models[-1].report
    say(
        f"\n{report.num_images:,} images with {report.num_objects:,} objects. AP: COCO's mask "
        "average precision; accuracy: TP / (TP + FP + FN) at IoU 0.5."
    )


def _cells(model: ComparedModel) -> tuple[str, ...]:
    report = model.report
    return (
        model.role.value,
        model.name,
        *(number(value, 3) for value in (report.mask.ap, report.mask.ap50, report.mask.ap75)),
        number(report.accuracy[0.5], 3),
        number(report.count_error, 1),
        f"{report.score:g}",
    )


def _say_images(comparison: Comparison) -> None:
    """Tell which images changed most, for the worse and for the better."""
    changes = comparison.changes()
    worse = [each for each in changes if each.change < 0][:_MOST_IMAGES]
    better = [each for each in reversed(changes) if each.change > 0][:_MOST_IMAGES]
    for title, chosen in (("worse than now", worse), ("better than now", better)):
        if chosen:
            say(f"\n{title}:")
            for each in chosen:
                say(f"  {_image(each)}")


def _image(change: ImageChange) -> str:
    plane = f" {change.plane}" if change.plane else ""
    before, after = change.before, change.after
    return (
        f"{change.file_name}{plane}: {change.change:+.3f}; right {before.num_true_positive} -> "
        f"{after.num_true_positive}, false {before.num_false_positive} -> "
        f"{after.num_false_positive}, missed {before.num_missed} -> {after.num_missed}"
    )
