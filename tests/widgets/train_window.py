"""The dock widget with its Train tab on a viewer, and runs that a person can check by hand."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from tests.widgets.data_window import annotated, write_image
from tests.widgets.dock_window import DockWindow
from tests.widgets.review_window import TABLE

from napari_deeppixel.dataset.annotated import ImageState, Split
from napari_deeppixel.dataset.formats.coco import write_coco
from napari_deeppixel.dataset.store import Dataset
from napari_deeppixel.training.compare import ComparedModel, Comparison, Role
from napari_deeppixel.training.evaluate import Figures
from napari_deeppixel.training.evaluation.report import CocoFigures, EvaluationReport, ImageOutcome
from napari_deeppixel.training.events import (
    Compared,
    Evaluated,
    FitEnded,
    FitEvent,
    MistakesFound,
    RunStarted,
    SamplesDrawn,
    StepEnded,
    event_to_json,
)
from napari_deeppixel.training.run_folder import RunFolder, runs_folder
from napari_deeppixel.training.verdict import Verdict


def training_set(folder: Path) -> Dataset:
    """Return four complete images: 1 and 2 to learn from, 3 (a, b, c) and 4 (a) to choose by."""
    dataset = Dataset.create(folder / "set", categories=TABLE)
    for number, names in enumerate((("a", "b"), ("a", "b", "c"), ("a", "b", "c"), ("a",)), start=1):
        added = dataset.add_file(
            write_image(folder / f"{number}.png", number),
            planes=[annotated(*names)],
            state=ImageState.COMPLETE,
        )
        split = Split.TRAIN if number < 3 else Split.VAL
        dataset.set_split([added.entry.image_id], split)
    return dataset


def figures(ap: float) -> Figures:
    return Figures(ap=ap, ap50=ap + 0.3, ap75=ap, num_images=2, num_objects=4)


def started(dataset: Dataset, **changes: Any) -> RunStarted:
    values: dict[str, Any] = {
        "dataset": dataset.path,
        "start": "nuclei",
        "device": "cpu",
        "num_train": 2,
        "num_val": 2,
        "iterations": 100,
        "first_iteration": 0,
        "categories": ("cell", "debris"),
        "notes": ("Preset cpu: 4 crops of 256 px a step.",),
    }
    return RunStarted(**values | changes)


def step(iteration: int, loss: float, **changes: Any) -> StepEnded:
    values: dict[str, Any] = {
        "iteration": iteration,
        "iterations": 100,
        "loss": loss,
        "parts": {"loss_mask": loss},
        "learning_rate": 0.001,
        "seconds_left": 90.0,
    }
    return StepEnded(**values | changes)


def half_a_run(dataset: Dataset) -> list[FitEvent]:
    """Return the events of a run at step 50 of 100: loss 2 to 1, AP 0.2 and 0.4."""
    return [
        started(dataset),
        step(10, 2.0),
        Evaluated(iteration=25, figures=figures(0.2), is_best=True),
        step(50, 1.0),
        Evaluated(iteration=50, figures=figures(0.4), is_best=True),
    ]


def write_events(run: RunFolder, events: Sequence[FitEvent]) -> None:
    """Write on, as a run does."""
    run.path.mkdir(parents=True, exist_ok=True)
    with run.events.open("a") as file:
        for event in events:
            file.write(json.dumps(event_to_json(event)) + "\n")


def made_run(dataset: Dataset, name: str = "2026-01-02_03-04-05") -> RunFolder:
    return RunFolder(runs_folder(dataset.path) / name)


def write_pictures(run: RunFolder, number: int = 2) -> SamplesDrawn:
    run.samples.mkdir(parents=True, exist_ok=True)
    paths = tuple(run.samples / f"{at}.png" for at in range(number))
    for at, path in enumerate(paths):
        iio.imwrite(path, np.full((40, 60, 3), 40 * at + 40, np.uint8))
    return SamplesDrawn(iteration=50, paths=paths)


def report(*images: ImageOutcome, ap: float, score: float = 0.5) -> EvaluationReport:
    return EvaluationReport(
        mask=CocoFigures(ap=ap, ap50=ap + 0.2, ap75=ap, ap_small=ap),
        box=CocoFigures(ap=ap),
        accuracy={0.5: ap + 0.1, 0.75: ap},
        f1={0.5: ap},
        pq={0.5: ap},
        count_error=1.0 - ap,
        count_bias=0.0,
        num_images=2,
        num_objects=4,
        score=score,
        images=images,
    )


def outcome(name: str, true: int, false: int, missed: int) -> ImageOutcome:
    return ImageOutcome(
        file_name=name,
        num_true_positive=true,
        num_false_positive=false,
        num_missed=missed,
        mean_iou=1.0 if true else float("nan"),
    )


def write_comparison(run: RunFolder, dataset: Dataset, *, is_better: bool = True) -> Compared:
    """Write a comparison: in 3.png the new model finds a and b and misses c, the current a alone.

    In 4.png both find a; the new one finds b, too, where nothing is annotated.
    """
    new = (outcome("3.png", 2, 0, 1), outcome("4.png", 1, 1, 0))
    current = (outcome("3.png", 1, 0, 2), outcome("4.png", 1, 0, 0))
    found = {
        Role.NEW: (annotated("a", "b"), annotated("a", "b")),
        Role.CURRENT: (annotated("a"), annotated("a")),
    }
    models = []
    for role, images, ap in ((Role.CURRENT, current, 0.4), (Role.NEW, new, 0.6)):
        target = run.path / "comparison" / f"{role}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        write_coco(
            [
                replace(image, file_name=name)
                for name, image in zip(("3.png", "4.png"), found[role], strict=True)
            ],
            target,
        )
        models.append(
            ComparedModel(
                role=role,
                model="nuclei" if role is Role.CURRENT else str(run.best),
                name="nuclei" if role is Role.CURRENT else run.path.name,
                weights_hash=role.value,
                report=report(*images, ap=ap),
                predictions=f"comparison/{role}.json",
            )
        )
    reason = "AP 0.600 against 0.400." if is_better else "AP is 0.100 lower."
    Comparison(
        models=tuple(models),
        verdict=Verdict(is_better=is_better, reason=reason),
        dataset=str(dataset.path),
        split="val",
    ).save(run.comparison)
    return Compared(path=run.comparison, is_better=is_better, reason=reason)


def write_finished_run(dataset: Dataset, *, is_better: bool = True) -> RunFolder:
    """Write a run that is over, with its comparison and two likely mistakes."""
    run = made_run(dataset)
    write_events(run, half_a_run(dataset))
    write_events(
        run,
        [
            FitEnded(weights=run.best, iteration=100),
            write_comparison(run, dataset, is_better=is_better),
            MistakesFound(path=run.mistakes, count=2),
        ],
    )
    return run


class TrainWindow(DockWindow):
    """The dock widget beside a viewer, with the Train tab open."""

    def __init__(self, qtbot: Any, viewer: Any, *, has_window: bool = False) -> None:
        super().__init__(qtbot, viewer, has_window=has_window)
        self.train = self.dock.train
        self.watch, self.result = self.train.watch, self.train.result
        self.dock.tabs.setCurrentWidget(self.train)

    def open_dataset(self, dataset: Dataset) -> None:
        self.dock.data.import_path(dataset.path)
        self.wait(lambda: self.dock.datasets.dataset is not None)
        self.wait(lambda: not self.train._finding.is_running)
        self.wait(lambda: self.train.summary.summary is not None)

    def settle(self) -> None:
        """Wait until nothing is under way but a run."""
        train = self.train
        self.wait(
            lambda: (
                not any(
                    task.is_running
                    for task in (train._finding, train._loading, train._starting, train._killing)
                )
                and train.store.queue.current is None
                and not train.outcomes.is_busy
                and (train.watch.run is None or train.watch.is_read)
            )
        )

    def text(self, name: str) -> str:
        return str(self.find(name).text())
