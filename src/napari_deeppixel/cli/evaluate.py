"""``napari-deeppixel evaluate``."""

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from napari_deeppixel.cli.console import ProgressLine, Table, number, say, say_json
from napari_deeppixel.cli.segment import open_model
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.engine.base import Engine, Prediction, PredictOptions
from napari_deeppixel.training.evaluate import Figures, average_precision
from napari_deeppixel.training.samples import Sample, common_categories, read_split


@dataclass(frozen=True, kw_only=True)
class GroupFigures:
    """How well a model does on images that look alike.

    Attributes
    ----------
    name
        ``all``, or the appearance.
    figures
        COCO's average precision.
    count_error
        Mean of |found - annotated| at the model's score, in objects an image.
    """

    name: str
    figures: Figures
    count_error: float


def run(arguments: argparse.Namespace) -> int:
    """Compare a model with the annotations of a folder; return the exit code."""
    with ProgressLine(is_wanted=not arguments.json) as progress:
        engine = open_model(arguments.model, arguments.device, progress)
        progress.show("reading images ...")
        samples = read_split(Path(arguments.split), engine.spec.normalization)
        _check_categories(engine, samples, arguments.split)
        predictions = []
        for done, sample in enumerate(samples):
            progress.show(f"image {done + 1} of {len(samples)}")
            predictions += engine.predict([sample.pixels], PredictOptions())
    groups = group_figures(samples, predictions, score=engine.spec.score)
    if arguments.json:
        say_json(
            {
                "model": engine.source,
                "device": engine.device_name,
                "score": engine.spec.score,
                "groups": [
                    {"name": g.name, "count_error": g.count_error, **asdict(g.figures)}
                    for g in groups
                ],
            }
        )
    else:
        _say_table(groups, engine)
    return 0


def _check_categories(engine: Engine, samples: list[Sample], folder: str) -> None:
    known = {c.id: c.name for c in engine.spec.categories.categories}
    for category in common_categories(samples).categories:
        if known.get(category.id) != category.name:
            names = ", ".join(f"{i} {name}" for i, name in list(known.items())[:5])
            raise AnnotationError(
                f"{folder}: category {category.id} {category.name} is not the model's "
                f"({names}{', ...' if len(known) > 5 else ''}): give both the same ids and names"
            )


def group_figures(
    samples: list[Sample], predictions: list[Prediction], *, score: float
) -> list[GroupFigures]:
    """Return the figures of all images, then of each appearance if there are several."""
    appearances = sorted({sample.appearance for sample in samples})
    groups = [("all", list(range(len(samples))))]
    if len(appearances) > 1:
        groups += [
            (name, [i for i, sample in enumerate(samples) if sample.appearance == name])
            for name in appearances
        ]
    errors = [
        abs(len(prediction.at(score=score)) - len(sample.instances))
        for sample, prediction in zip(samples, predictions, strict=True)
    ]
    return [
        GroupFigures(
            name=name,
            figures=average_precision(
                [samples[i].instances for i in members],
                [predictions[i].candidates for i in members],
            ),
            count_error=float(np.mean([errors[i] for i in members])),
        )
        for name, members in groups
    ]


def _say_table(groups: list[GroupFigures], engine: Engine) -> None:
    table = Table(
        headings=(
            "images that look alike",
            "images",
            "objects",
            "AP",
            "AP50",
            "AP75",
            "count off by",
        ),
        widths=(max(22, *(len(group.name) for group in groups)), 6, 8, 5, 5, 5, 12),
    )
    say(table.head())
    for group in groups:
        figures = group.figures
        say(
            table.row(
                (
                    group.name,
                    f"{figures.num_images:,}",
                    f"{figures.num_objects:,}",
                    number(figures.ap, 3),
                    number(figures.ap50, 3),
                    number(figures.ap75, 3),
                    number(group.count_error, 1),
                )
            )
        )
    say(
        f"\n{engine.source} on {engine.device_name}. AP: COCO's mask average precision; count: "
        f"|found - annotated| an image at score {engine.spec.score:g}."
    )
