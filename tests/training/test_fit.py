"""Training runs, stops, goes on as if it had not stopped, and leaves weights that load."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.training.datasets import CELLS, discs_sample, sample_of

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.progress import CancelToken
from napari_deeppixel.engine.base import PredictOptions
from napari_deeppixel.engine.spec import slim_spec
from napari_deeppixel.engine.weights import load_model
from napari_deeppixel.training.augment import Augmentation
from napari_deeppixel.training.evaluate import Figures
from napari_deeppixel.training.fit import (
    Evaluated,
    FitEnded,
    FitEvent,
    FitOptions,
    StepEnded,
    evaluate_weights,
    fit,
    learning_rate_factor,
)

# narrow and coarse: the law of training is the same
SPEC = slim_spec("discs", CELLS, fpn_channels=8, rpn_post_nms_top_n=50)
OPTIONS = FitOptions(
    iterations=6,
    batch_size=2,
    evaluate_every=3,
    workers=0,
    augmentation=Augmentation(crop=64),
)
TRAIN = [discs_sample(1), discs_sample(2, (90, 84))]
VAL = [discs_sample(3)]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums come in one order, so that two runs can be compared bit for bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, _one_thread: None) -> Any:
    """The folder and the events of a run from start to end."""
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    return run_dir, list(fit(SPEC, TRAIN, VAL, run_dir=run_dir, options=OPTIONS))


def assert_same_content(left: Any, right: Any, place: str = "") -> None:
    """Check that two checkpoints hold the same numbers, bit for bit."""
    assert type(left) is type(right), place
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right), place
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), place
        for key in left:
            assert_same_content(left[key], right[key], f"{place}/{key}")
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), place
        for n, (a, b) in enumerate(zip(left, right, strict=True)):
            assert_same_content(a, b, f"{place}/{n}")
    else:
        assert left == right, place


def checkpoint(run_dir: Path) -> Any:
    return torch.load(run_dir / "last.pt", weights_only=True)


def test_a_run_reports_evaluates_and_ends(finished: tuple[Path, list[FitEvent]]) -> None:
    run_dir, events = finished
    assert [type(event) for event in events] == [StepEnded, Evaluated] * 2 + [FitEnded]
    first, last = events[0], events[2]
    assert isinstance(first, StepEnded)
    assert isinstance(last, StepEnded)
    assert (first.iteration, last.iteration, last.iterations) == (3, 6, 6)
    assert first.loss == pytest.approx(sum(first.parts.values()))
    assert np.isfinite(first.loss)
    assert set(first.parts) == {
        "loss_classifier",
        "loss_box_reg",
        "loss_mask",
        "loss_objectness",
        "loss_rpn_box_reg",
    }
    assert first.seconds_left > 0
    assert last.seconds_left == 0
    # the third step of a warm-up of 100
    assert first.learning_rate == pytest.approx(0.001 * 3 / 100)
    evaluated = events[1]
    assert isinstance(evaluated, Evaluated)
    assert evaluated.is_best
    assert (evaluated.figures.num_images, evaluated.figures.num_objects) == (1, 3)
    assert events[-1] == FitEnded(weights=run_dir / "best.safetensors", iteration=6)
    assert sorted(path.name for path in run_dir.iterdir()) == [
        "best.safetensors",
        "last.pt",
        "options.json",
    ]
    written = json.loads((run_dir / "options.json").read_text(encoding="utf-8"))
    assert (written["iterations"], written["augmentation"]["crop"]) == (6, 64)


def test_both_files_of_a_run_load_and_predict(finished: tuple[Path, list[FitEvent]]) -> None:
    run_dir, _ = finished
    best = load_model(run_dir / "best.safetensors", device="cpu")
    last = load_model(run_dir / "last.pt", device="cpu")
    assert best.spec.categories == last.spec.categories == CELLS
    assert best.spec.name == "discs"
    for engine in (best, last):
        (prediction,) = engine.predict([VAL[0].pixels], PredictOptions(max_instances=10))
        assert prediction.candidates.image_hw == (64, 80)


def test_the_saved_weights_are_the_averaged_ones(finished: tuple[Path, list[FitEvent]]) -> None:
    state = checkpoint(finished[0])
    loaded = load_model(finished[0] / "last.pt", device="cpu").model.state_dict()
    differs_from_raw = 0
    for name, value in loaded.items():
        assert torch.equal(value, state["averaged"][f"module.{name}"]), name
        differs_from_raw += not torch.equal(value, state["model"][name])
    assert differs_from_raw > 20


def test_the_best_weights_say_how_they_came_about(finished: tuple[Path, list[FitEvent]]) -> None:
    provenance = load_model(finished[0] / "best.safetensors", device="cpu").spec.provenance
    assert (provenance["batch_size"], provenance["seed"]) == (2, 0)
    assert provenance["validation"]["num_objects"] == 3


def test_a_run_that_is_stopped_and_resumed_ends_as_one_that_was_not(
    finished: tuple[Path, list[FitEvent]], tmp_path: Path
) -> None:
    run_dir, cancel = tmp_path / "halves", CancelToken()
    stopped = []
    for event in fit(SPEC, TRAIN, VAL, run_dir=run_dir, options=OPTIONS, cancel=cancel):
        stopped.append(event)
        if isinstance(event, Evaluated):
            cancel.cancel()
    assert stopped[-1] == FitEnded(weights=run_dir / "best.safetensors", iteration=3)
    assert checkpoint(run_dir)["iteration"] == 3
    resumed = list(fit(SPEC, TRAIN, VAL, run_dir=run_dir, options=OPTIONS, resume=True))
    assert isinstance(resumed[0], StepEnded)
    assert resumed[0].iteration == 6
    assert_same_content(checkpoint(run_dir), checkpoint(finished[0]))
    weights = [folder / "best.safetensors" for folder in (run_dir, finished[0])]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_finished_run_that_is_resumed_ends_at_once(
    finished: tuple[Path, list[FitEvent]],
) -> None:
    before = checkpoint(finished[0])
    events = list(fit(SPEC, TRAIN, VAL, run_dir=finished[0], options=OPTIONS, resume=True))
    assert [type(event) for event in events] == [FitEnded]
    assert_same_content(checkpoint(finished[0]), before)


def test_a_run_that_is_stopped_at_once_leaves_weights_that_load(tmp_path: Path) -> None:
    cancel = CancelToken()
    cancel.cancel()
    events = list(fit(SPEC, TRAIN, VAL, run_dir=tmp_path / "run", options=OPTIONS, cancel=cancel))
    assert events == [FitEnded(weights=tmp_path / "run" / "best.safetensors", iteration=0)]
    for name in ("best.safetensors", "last.pt"):
        assert load_model(tmp_path / "run" / name, device="cpu").spec.categories == CELLS


def test_other_categories_than_the_models_are_refused(tmp_path: Path) -> None:
    dogs = replace(SPEC, categories=CategoryTable.from_names("dog"))
    with pytest.raises(AnnotationError, match="categories of the images are not those"):
        next(fit(dogs, TRAIN, VAL, run_dir=tmp_path / "run", options=OPTIONS))
    assert not (tmp_path / "run").exists()


def test_a_run_of_other_categories_cannot_be_resumed(
    finished: tuple[Path, list[FitEvent]],
) -> None:
    dogs = CategoryTable.from_names("dog")
    samples = [replace(s, instances=replace(s.instances, categories=dogs)) for s in TRAIN]
    resumed = fit(
        replace(SPEC, categories=dogs),
        samples,
        samples,
        run_dir=finished[0],
        options=OPTIONS,
        resume=True,
    )
    with pytest.raises(AnnotationError, match="was trained on other categories"):
        next(resumed)


@pytest.mark.parametrize(("train", "val"), [([], VAL), (TRAIN, [])])
def test_nothing_to_learn_from_or_to_choose_by_is_refused(
    tmp_path: Path, train: list, val: list
) -> None:
    with pytest.raises(AnnotationError, match="needs images to learn from and to choose by"):
        next(fit(SPEC, train, val, run_dir=tmp_path / "run", options=OPTIONS))


def test_images_without_an_object_can_be_trained_and_chosen_by(tmp_path: Path) -> None:
    empty = sample_of(
        InstanceSet.empty((64, 64), CELLS),
        np.random.default_rng(0).integers(0, 255, (64, 64, 1), dtype=np.uint8),
    )
    options = replace(OPTIONS, iterations=2, evaluate_every=1)
    events = list(fit(SPEC, [empty], [empty], run_dir=tmp_path / "run", options=options))
    evaluated = [event for event in events if isinstance(event, Evaluated)]
    assert [np.isnan(event.figures.ap) for event in evaluated] == [True, True]
    # the AP cannot tell, so the latest weights are kept
    best = load_model(tmp_path / "run" / "best.safetensors", device="cpu")
    assert best.spec.provenance["iterations"] == 2


def test_a_full_disk_keeps_the_old_checkpoint(
    finished: tuple[Path, list[FitEvent]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = finished[0]
    before = (run_dir / "last.pt").read_bytes()

    def no_space(_state: Any, file: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", no_space)
    with pytest.raises(OSError, match="No space left"):
        list(fit(SPEC, TRAIN, VAL, run_dir=run_dir, options=OPTIONS, resume=True))
    assert (run_dir / "last.pt").read_bytes() == before
    assert len(list(run_dir.iterdir())) == 3


@pytest.mark.parametrize(
    ("iteration", "factor"),
    [
        (0, 0.01),  # warm-up: 1 of 100
        (49, 0.5),
        (99, 1.0),
        (100, 1.0),
        (600, 1.0),
        (800, 0.505),  # half way down the cosine
        (1000, 0.01),
        (5000, 0.01),
    ],
)
def test_the_learning_rate_warms_up_stays_and_falls_along_a_cosine(
    iteration: int, factor: float
) -> None:
    assert learning_rate_factor(iteration, 1000) == pytest.approx(factor)


def test_the_learning_rate_falls_without_a_jump() -> None:
    factors = [learning_rate_factor(iteration, 1000) for iteration in range(100, 1001)]
    assert (np.diff(factors) <= 1e-12).all()
    assert np.abs(np.diff(factors)).max() < 0.005


def test_weights_are_evaluated_on_whole_images(
    finished: tuple[Path, list[FitEvent]],
) -> None:
    model = load_model(finished[0] / "last.pt", device="cpu").model
    figures = evaluate_weights(model, SPEC, [*VAL, *TRAIN], device="cpu")
    assert isinstance(figures, Figures)
    assert (figures.num_images, figures.num_objects) == (3, 9)
