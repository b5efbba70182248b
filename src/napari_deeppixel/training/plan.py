"""What a run will do, decided before it begins: weights, images, options, and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.dataset.annotated import Split
from napari_deeppixel.dataset.formats.coco import read_coco, read_provenance
from napari_deeppixel.dataset.store import Dataset
from napari_deeppixel.engine.build import build_model
from napari_deeppixel.engine.catalogue import DEFAULT_MODEL
from napari_deeppixel.engine.spec import ModelSpec
from napari_deeppixel.training.anchors import boxes_in_network, fit_anchors
from napari_deeppixel.training.events import RunStarted
from napari_deeppixel.training.options import (
    FitOptions,
    Preset,
    iterations_of,
    preset_options,
    read_options,
    sentences_of,
    with_evaluations,
    with_length,
)
from napari_deeppixel.training.pixels import PixelCache
from napari_deeppixel.training.run_folder import RunFolder
from napari_deeppixel.training.samples import Sample, read_split
from napari_deeppixel.training.start import StartingPoint, starting_point
from napari_deeppixel.training.state import check_categories, read_checkpoint
from napari_deeppixel.training.summary import DataSummary, summarise


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What a person asked for; what is None or missing is chosen.

    Attributes
    ----------
    start
        Model to start from, as `load_model` takes it; None: random weights.
    preset
        Sizes for a device.
    epochs
        Length, instead of iterations.
    changes
        Options of `FitOptions` by name.
    crop
        Side of the crops in pixels.
    zoom
        Magnification of the images for which the model is trained.
    """

    start: str | None = DEFAULT_MODEL
    preset: Preset = Preset.AUTO
    epochs: int | None = None
    changes: Mapping[str, Any]
    crop: int | None = None
    zoom: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """All that `fit` needs.

    Attributes
    ----------
    start
        Weights and spec to start from; of a resumed run, of its checkpoint.
    start_model
        What it started from, as `load_model` takes it; empty: random weights.
    train, val
        Samples to learn from and to choose by.
    options
        How to train.
    device
        torch device.
    data_hash
        Of what is in the dataset.
    first_iteration
        Steps that were done before.
    notes
        What was decided, in sentences.
    warnings
        What a person should know before training.
    """

    start: StartingPoint
    start_model: str
    train: Sequence[Sample]
    val: Sequence[Sample]
    options: FitOptions
    device: str
    data_hash: str
    first_iteration: int
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def plan_run(
    dataset: Path,
    run: RunFolder,
    wishes: Wishes,
    *,
    device: str,
    resume: bool,
    now: datetime,
    processes: int = 1,
) -> Plan:
    """Return what a run on a dataset will do.

    Parameters
    ----------
    dataset
        A dataset, or a folder with ``train/`` and ``val/``.
    run
        Where it will be written; its name becomes that of the model.
    wishes
        What a person asked for.
    device
        torch device.
    resume
        Go on from the checkpoint in the folder, with its options.
    now
        When it begins, for the model's provenance.
    processes
        How many train together.

    Raises
    ------
    DeepPixelError
        If the images, the model to start from or the checkpoint cannot be used.
    """
    summary = summarise(dataset)
    if resume:
        first_iteration, start, warnings = _resumed(dataset, run, wishes, summary)
        start_model = _begun_from(run)
    else:
        first_iteration, warnings = 0, ()
        start = _started(dataset, run, wishes, summary, now)
        start_model = wishes.start or ""
    train, val = _samples_of(dataset, start.spec, summary)
    notes = list(start.notes)
    if resume:
        options = _with_wishes(read_options(run.options), wishes)
        iterations = _length(options, wishes, start.spec, train, processes)
        options = replace(options, iterations=iterations)
    else:
        start, sentence = _with_anchors(start, train, is_from_scratch=wishes.start is None)
        options, sentences = _options(wishes, device, start.spec, train, val, processes)
        notes += [sentence, *sentences]
    return Plan(
        start=start,
        start_model=start_model,
        train=train,
        val=val,
        options=options,
        device=device,
        data_hash=summary.content_hash,
        first_iteration=first_iteration,
        notes=tuple(notes),
        warnings=(*summary.warnings, *warnings),
    )


def _started(
    dataset: Path, run: RunFolder, wishes: Wishes, summary: DataSummary, now: datetime
) -> StartingPoint:
    said = (
        {"data": dataset.resolve().name, "licence": ""}
        if Dataset.is_dataset(dataset)
        else read_provenance(dataset / Split.TRAIN / "instances.json")
    )
    origin = f"from {wishes.start}" if wishes.start else "from scratch"
    count = summary.num_images.get(Split.TRAIN, 0)
    start = starting_point(
        wishes.start,
        _categories_of(dataset),
        name=run.path.resolve().name,
        description=f"Trained {origin} on {count:,} images of {dataset.resolve().name}.",
        provenance={
            **said,
            "data_hash": summary.content_hash,
            "date": now.isoformat(timespec="seconds"),
        },
        seed=wishes.changes.get("seed", 0),
    )
    return start if wishes.zoom is None else start.with_zoom(wishes.zoom)


def _resumed(
    dataset: Path, run: RunFolder, wishes: Wishes, summary: DataSummary
) -> tuple[int, StartingPoint, tuple[str, ...]]:
    state = read_checkpoint(run.last)
    spec = ModelSpec.from_json(state["spec"])
    check_categories(spec, _categories_of(dataset), run.last)
    if wishes.zoom not in (None, spec.zoom):
        raise AnnotationError(
            f"the run magnifies images {spec.zoom:g} times, and keeps to it: leave out --zoom with "
            "--resume"
        )
    iteration = int(state["iteration"])
    start = StartingPoint(
        spec=spec,
        model=build_model(spec),
        notes=(f"Going on after step {iteration:,}.",),
    )
    changed = spec.provenance.get("data_hash") not in (None, summary.content_hash)
    warning = "the dataset has changed since this run began: it goes on with what is there now"
    return iteration, start, (warning,) if changed else ()


def _begun_from(run: RunFolder) -> str:
    events, _ = run.read_events()
    return next((event.start for event in events if isinstance(event, RunStarted)), "")


def _samples_of(
    dataset: Path, spec: ModelSpec, summary: DataSummary
) -> tuple[list[Sample], list[Sample]]:
    """Return what to learn from and what to choose by, which there may be none of."""
    cache = PixelCache()
    train = read_split(dataset / Split.TRAIN, spec.normalization, cache=cache)
    if not summary.num_images.get(Split.VAL, 0):
        return train, []
    return train, read_split(dataset / Split.VAL, spec.normalization, cache=cache)


def _categories_of(dataset: Path) -> CategoryTable:
    """Return the categories of a dataset before its images are read.

    Raises
    ------
    AnnotationError
        If there is no image to learn from, no category, or two images have other ones.
    """
    if Dataset.is_dataset(dataset):
        categories = Dataset.open(dataset).categories
    else:
        path = dataset / Split.TRAIN / "instances.json"
        tables = {image.instances.categories for image in read_coco(path)}
        if len(tables) != 1:
            raise AnnotationError(f"{path}: {len(tables)} tables of categories, expected one")
        categories = tables.pop()
    if not len(categories):
        raise AnnotationError(f"{dataset}: no category, so there is nothing to learn: add one")
    return categories


def _with_anchors(
    start: StartingPoint, train: Sequence[Sample], *, is_from_scratch: bool
) -> tuple[StartingPoint, str]:
    boxes = [
        boxes_in_network(sample.instances.boxes_xyxy, sample.image_hw, start.spec)
        for sample in train
    ]
    found = fit_anchors(np.concatenate(boxes), start.spec, is_from_scratch=is_from_scratch)
    return start.with_anchors(found.sizes) if found.is_new else start, found.sentence()


def _options(
    wishes: Wishes,
    device: str,
    spec: ModelSpec,
    train: Sequence[Sample],
    val: Sequence[Sample],
    processes: int,
) -> tuple[FitOptions, tuple[str, ...]]:
    val_hw = [sample.image_hw for sample in val]
    options, notes = preset_options(
        wishes.preset,
        device=device,
        spec=spec,
        train_hw=[sample.image_hw for sample in train],
        val_hw=val_hw,
        is_from_scratch=wishes.start is None,
    )
    chosen = _with_wishes(options, wishes)
    length = _length(chosen, wishes, spec, train, processes)
    shaped = with_length(replace(chosen, iterations=options.iterations), length)
    if "heads_first" in wishes.changes:
        shaped = replace(shaped, heads_first=chosen.heads_first)
    shaped = with_evaluations(shaped, spec=spec, val_hw=val_hw)
    return shaped, (*notes, *sentences_of(shaped, processes=processes))


def _with_wishes(options: FitOptions, wishes: Wishes) -> FitOptions:
    options = replace(options, **wishes.changes)
    if wishes.crop is None:
        return options
    return replace(options, augmentation=replace(options.augmentation, crop=wishes.crop))


def _length(
    options: FitOptions,
    wishes: Wishes,
    spec: ModelSpec,
    train: Sequence[Sample],
    processes: int,
) -> int:
    if wishes.epochs is None:
        return options.iterations
    sizes = [sample.image_hw for sample in train]
    return iterations_of(wishes.epochs, options, spec=spec, train_hw=sizes, processes=processes)
