"""``napari-deeppixel evaluate``."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_deeppixel.cli.console import ProgressLine, Table, complain, number, say, say_json
from napari_deeppixel.core.errors import AnnotationError, DeepPixelError
from napari_deeppixel.dataset.annotated import Split
from napari_deeppixel.engine.base import PredictOptions, cap_message
from napari_deeppixel.engine.catalogue import DEFAULT_MODEL
from napari_deeppixel.training.evaluation.data import (
    EvaluationData,
    read_data,
    read_pixels,
    with_appearance,
)
from napari_deeppixel.training.evaluation.html import write_html
from napari_deeppixel.training.evaluation.report import EvaluationReport, evaluate_predictions
from napari_deeppixel.training.evaluation.results import read_results
from napari_deeppixel.training.evaluation.truth import Found, Truth

# where nobody says otherwise: a prediction that is rather right than wrong
_DEFAULT_SCORE = 0.5
_MOST_PROBLEMS = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """What was found, and by whom.

    Attributes
    ----------
    truths, founds
        Of each image; the truth with what the image looks like, where it can be read.
    model, device, engine
        Source of the predictions, for people; device and engine are empty if they come from a file.
    score
        Lowest score that counts, unless the person says otherwise.
    notes
        What a person should know.
    """

    truths: list[Truth]
    founds: list[Found]
    model: str
    device: str
    score: float
    notes: list[str]
    engine: str = ""


def run(arguments: argparse.Namespace) -> int:
    """Compare predictions with annotated images; return the exit code."""
    is_quiet = arguments.json
    html = _html(arguments.html)
    with ProgressLine(is_wanted=not is_quiet) as progress:
        progress.show("reading annotations ...")
        split = Split(arguments.split) if arguments.split else None
        data = read_data(Path(arguments.data), split=split)
        if arguments.predictions:
            predictions = _from_file(Path(arguments.predictions), data, progress)
        else:
            predictions = _from_model(arguments, data, progress)
        score = predictions.score if arguments.score is None else arguments.score
        report = evaluate_predictions(
            predictions.truths, predictions.founds, score=score, on_progress=progress.show_event
        )
        notes = [*_shortened(data.problems), *predictions.notes, *report.notes]
        if html is not None:
            progress.show("writing the report ...")
            notes += write_html(
                html,
                report,
                truths=predictions.truths,
                founds=predictions.founds,
                title=f"{predictions.model} on {arguments.data}",
                notes=notes,
            )
    for note in notes:
        complain(note)
    if is_quiet:
        say_json(_record(report, predictions, arguments, notes))
    else:
        _say_report(report, predictions)
        if arguments.html:
            say(f"Report: {arguments.html}")
    return 0


def _html(text: str | None) -> Path | None:
    """Return where the report goes; asked before the long part, so that nothing is lost."""
    if text is None:
        return None
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else f"cannot be: there is no folder {path.parent}"
        raise DeepPixelError(f"--html {path} {what}; name a file in a folder that is there")
    return path


def _from_model(
    arguments: argparse.Namespace, data: EvaluationData, progress: ProgressLine
) -> Predictions:
    # here, so that figures of a file do not wait for torch
    from napari_deeppixel.cli.segment import open_model

    missing = [truth.file_name for truth in data.truths if truth.path is None]
    if missing:
        names = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise AnnotationError(
            f"{arguments.data}: {len(missing):,} of {len(data.truths):,} images are not there "
            f"({names}): put them beside the annotations or in images/"
        )
    engine = open_model(arguments.model or DEFAULT_MODEL, arguments, progress)
    options = PredictOptions(zoom=arguments.zoom, precision=arguments.precision)
    truths, founds, capped = [], [], []
    for done, truth in enumerate(data.truths, start=1):
        progress.show(f"image {done:,} of {len(data.truths):,}: {truth.file_name}")
        pixels = read_pixels(truth)
        (prediction,) = engine.predict([pixels], options)
        if prediction.is_capped(0.0):
            capped.append(truth.file_name)
        truths.append(with_appearance(truth, pixels))
        founds.append(Found(instances=prediction.candidates))
    notes = [f"{', '.join(capped[:3])}: {cap_message(options.max_instances)}"] if capped else []
    return Predictions(
        truths=truths,
        founds=founds,
        model=engine.source,
        device=engine.device_name,
        engine=engine.kind,
        score=engine.spec.score,
        notes=notes,
    )


def _from_file(path: Path, data: EvaluationData, progress: ProgressLine) -> Predictions:
    progress.show(f"reading {path} ...")
    founds, notes = read_results(path, data)
    truths = []
    for done, truth in enumerate(data.truths, start=1):
        progress.show(f"looking at image {done:,} of {len(data.truths):,}")
        truths.append(_looked_at(truth))
    # where some cannot be seen, nothing is said of any
    if any(not truth.appearance for truth in truths):
        truths = list(data.truths)
    return Predictions(
        truths=truths, founds=founds, model=str(path), device="", score=_DEFAULT_SCORE, notes=notes
    )


def _looked_at(truth: Truth) -> Truth:
    try:
        return with_appearance(truth, read_pixels(truth))
    except DeepPixelError:
        # numbers need no pixels
        return truth


def _shortened(problems: tuple[str, ...]) -> list[str]:
    more = len(problems) - _MOST_PROBLEMS
    shown = list(problems[:_MOST_PROBLEMS])
    return [*shown, f"and {more:,} more such lines"] if more > 0 else shown


def _record(
    report: EvaluationReport,
    predictions: Predictions,
    arguments: argparse.Namespace,
    notes: list[str],
) -> dict[str, Any]:
    return {
        "data": arguments.data,
        "split": arguments.split,
        "model": None if arguments.predictions else predictions.model,
        "predictions": arguments.predictions,
        "device": predictions.device or None,
        "engine": predictions.engine or None,
        "precision": None if arguments.predictions else arguments.precision,
    } | (report.to_json() | {"notes": notes})


def _say_report(report: EvaluationReport, predictions: Predictions) -> None:
    _say_groups(report)
    say()
    _say_coco(report)
    say()
    _say_thresholds(report)
    say()
    where = f" on {predictions.device}" if predictions.device else ""
    say(f"{predictions.model}{where}, {report.num_images:,} images.")
    say(
        f"AP: COCO's average precision, all predictions counted. Accuracy TP / (TP + FP + FN), F1 "
        f"and quality (panoptic): as StarDist, at score {report.score:g}."
    )
    bias = report.count_bias
    say(
        f"Count: |found - annotated| an image at that score; found - annotated is {bias:+.1f} on "
        "average."
    )
    best = report.by_score
    if best.best_f1 == best.best_f1:
        say(
            f"F1 at IoU 0.5 is highest, {best.best_f1:.3f}, at score {best.best_score:.2f} (chosen "
            "on these very images). Scores are off the share that is right by "
            f"{report.calibration.error:.2f} on average."
        )
    _say_confusion(report)
    _say_worst(report)


def _say_groups(report: EvaluationReport) -> None:
    width = max([22, *(len(group.name) for group in report.groups)])
    table = Table(
        headings=(
            "images that look alike",
            "images",
            "objects",
            "AP",
            "AP50",
            "AP75",
            "accuracy50",
            "count off by",
        ),
        widths=(width, 6, 8, 5, 5, 5, 10, 12),
    )
    say(table.head())
    for group in report.groups:
        shares = (group.ap, group.ap50, group.ap75, group.accuracy50)
        cells = [group.name, f"{group.num_images:,}", f"{group.num_objects:,}"]
        cells += [number(share, 3) for share in shares]
        say(table.row([*cells, number(group.count_error, 1)]))


def _say_coco(report: EvaluationReport) -> None:
    by_category = report.mask.by_category or report.box.by_category
    width = max([22, *map(len, by_category)])
    table = Table(
        headings=("COCO", "AP", "AP50", "AP75", "APs", "APm", "APl", "AR"),
        widths=(width, 5, 5, 5, 5, 5, 5, 5),
    )
    say(table.head())
    for title, figures in (("masks", report.mask), ("boxes", report.box)):
        by_size = (figures.ap_small, figures.ap_medium, figures.ap_large)
        shares = (figures.ap, figures.ap50, figures.ap75, *by_size, figures.ar)
        say(table.row([title, *(number(share, 3) for share in shares)]))
    if len(by_category) > 1:
        for name, one in by_category.items():
            cells = [number(share, 3) for share in (one.ap, one.ap50, one.ap75)]
            say(table.row([name, *cells, "", "", "", number(one.ar, 3)]))


def _say_thresholds(report: EvaluationReport) -> None:
    ious = tuple(report.accuracy)
    table = Table(
        headings=("at IoU", *(f"{iou:.2f}" for iou in ious)), widths=(22, *(5 for _ in ious))
    )
    say(table.head())
    for title, values in (("accuracy", report.accuracy), ("F1", report.f1), ("quality", report.pq)):
        say(table.row([title, *(number(values[iou], 3) for iou in ious)]))


def _say_confusion(report: EvaluationReport) -> None:
    names, counts = report.confusion.names, report.confusion.counts
    mixed = [
        (counts[row][column], name, names[column])
        for row, name in enumerate(names)
        for column in range(len(names))
        if row != column and counts[row][column]
    ]
    for count, true, found in sorted(mixed, reverse=True)[:_MOST_PROBLEMS]:
        say(f"{count:,} of category {true} were taken for {found}.")


def _say_worst(report: EvaluationReport) -> None:
    worst = [image for image in report.worst_images() if image.accuracy < 1][:_MOST_PROBLEMS]
    if not worst or report.num_images < 2:
        return
    width = max([22, *(len(image.title) for image in worst)])
    table = Table(
        headings=("worst images", "right", "wrong", "missed", "accuracy50"),
        widths=(width, 6, 6, 6, 10),
    )
    say()
    say(table.head())
    for image in worst:
        counts = (image.num_true_positive, image.num_false_positive, image.num_missed)
        say(table.row([image.title, *(f"{n:,}" for n in counts), number(image.accuracy, 3)]))
