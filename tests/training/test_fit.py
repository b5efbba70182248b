"""Training runs, stops, goes on as if it had not stopped, and leaves weights that load."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from tests.training.datasets import CELLS, sample_of
from tests.training.runs import (
    OPTIONS,
    SPEC,
    TRAIN,
    VAL,
    assert_same_content,
    assert_same_run,
    checkpoint,
    start_of,
    train,
)

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.progress import CancelToken
from napari_deeppixel.engine.base import PredictOptions
from napari_deeppixel.engine.weights import load_model
from napari_deeppixel.training.evaluate import Figures, figures_of
from napari_deeppixel.training.events import (
    EndReason,
    Evaluated,
    FitEnded,
    FitEvent,
    SamplesDrawn,
    StepEnded,
    Warned,
)
from napari_deeppixel.training.fit import find_instances, fit
from napari_deeppixel.training.options import read_options
from napari_deeppixel.training.run_folder import RunFolder
from napari_deeppixel.training.state import FitState
from napari_deeppixel.training.step import take_step


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The folder and the events of a run from start to end."""
    path = tmp_path_factory.mktemp("runs") / "whole"
    return path, train(path)


def of_kind(kind: type[Any], events: list[FitEvent]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def test_a_run_reports_evaluates_and_ends(finished: tuple[Path, list[FitEvent]]) -> None:
    path, events = finished
    evaluation = [Evaluated, SamplesDrawn]
    assert [type(event) for event in events] == [
        *[StepEnded, *evaluation],
        *[StepEnded, StepEnded, *evaluation, FitEnded],
    ]
    first, _, last = of_kind(StepEnded, events)
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
    assert events[-1] == FitEnded(weights=path / "best.safetensors", iteration=6)
    assert sorted(each.name for each in path.iterdir() if each.name != "tensorboard") == [
        "best.safetensors",
        "events.jsonl",
        "last.pt",
        "options.json",
        "samples",
    ]
    written = json.loads((path / "options.json").read_text(encoding="utf-8"))
    assert (written["iterations"], written["augmentation"]["crop"]) == (6, 64)


def test_all_events_are_in_the_folder(finished: tuple[Path, list[FitEvent]]) -> None:
    path, events = finished
    assert RunFolder(path).read_events()[0] == events


def test_each_evaluation_leaves_pictures(finished: tuple[Path, list[FitEvent]]) -> None:
    path, events = finished
    drawn = of_kind(SamplesDrawn, events)
    assert [event.paths for event in drawn] == [
        (path / "samples" / "000003_1.png",),
        (path / "samples" / "000006_1.png",),
    ]
    assert iio.imread(drawn[0].paths[0]).shape == (64, 80, 3)


def test_both_files_of_a_run_load_and_predict(finished: tuple[Path, list[FitEvent]]) -> None:
    path, _ = finished
    best = load_model(path / "best.safetensors", device="cpu")
    last = load_model(path / "last.pt", device="cpu")
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


# stopping and going on ---------------------------------------------------------------------------


def test_a_run_that_is_stopped_and_resumed_ends_as_one_that_was_not(
    finished: tuple[Path, list[FitEvent]], tmp_path: Path
) -> None:
    path, cancel = tmp_path / "halves", CancelToken()
    stopped = []
    for event in fit(start_of(), TRAIN, VAL, run=RunFolder(path), options=OPTIONS, cancel=cancel):
        stopped.append(event)
        if isinstance(event, Evaluated):
            cancel.cancel()
    assert stopped[-1] == FitEnded(
        weights=path / "best.safetensors", iteration=3, reason=EndReason.STOPPED
    )
    assert checkpoint(path)["iteration"] == 3
    resumed = train(path, resume=True)
    assert isinstance(resumed[0], StepEnded)
    assert resumed[0].iteration == 5
    assert_same_run(path, finished[0])
    assert RunFolder(path).read_events()[0] == [*stopped, *resumed]


@pytest.mark.parametrize("step", [1, 3, 5])
def test_a_run_that_died_goes_on_as_if_it_had_not(
    finished: tuple[Path, list[FitEvent]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: int,
) -> None:
    def step_or_die(state: FitState, crops: Any) -> Any:
        result = take_step(state, crops)
        if state.iteration == step:
            raise KeyboardInterrupt
        return result

    options = replace(OPTIONS, checkpoint_every_s=0)
    with monkeypatch.context() as patched:
        patched.setattr("napari_deeppixel.training.fit.take_step", step_or_die)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "run", options)
    assert checkpoint(tmp_path / "run")["iteration"] == step - 1
    train(tmp_path / "run", options, resume=True)
    assert_same_run(tmp_path / "run", finished[0])


def test_a_run_that_died_between_best_and_checkpoint_evaluates_again(
    finished: tuple[Path, list[FitEvent]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = FitState.save

    def save_or_die(state: FitState, path: Path) -> None:
        if state.iteration == 3:
            raise KeyboardInterrupt
        save(state, path)

    with monkeypatch.context() as patched:
        patched.setattr(FitState, "save", save_or_die)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "run")
    assert (tmp_path / "run" / "best.safetensors").exists()
    assert checkpoint(tmp_path / "run")["iteration"] == 0
    assert of_kind(Evaluated, train(tmp_path / "run", resume=True))[0].is_best
    assert_same_run(tmp_path / "run", finished[0])


def test_a_run_that_died_while_it_wrote_its_first_checkpoint_has_its_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FitState, "save", die)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path)
    # a kill right after the checkpoint would leave the same: it can be gone on with
    assert read_options(tmp_path / "options.json") == OPTIONS


def test_the_number_of_crop_makers_changes_nothing(
    finished: tuple[Path, list[FitEvent]], tmp_path: Path
) -> None:
    train(tmp_path / "run", replace(OPTIONS, workers=2))
    assert_same_run(tmp_path / "run", finished[0])


def test_a_finished_run_that_is_resumed_ends_at_once(
    finished: tuple[Path, list[FitEvent]], tmp_path: Path
) -> None:
    path = tmp_path / "run"
    path.mkdir()
    for name in ("last.pt", "best.safetensors"):
        (path / name).write_bytes((finished[0] / name).read_bytes())
    events = train(path, resume=True)
    assert [type(event) for event in events] == [FitEnded]
    assert_same_run(path, finished[0])


def test_a_run_that_is_stopped_at_once_leaves_weights_that_load(tmp_path: Path) -> None:
    cancel = CancelToken()
    cancel.cancel()
    events = train(tmp_path / "run", cancel=cancel)
    assert events == [
        FitEnded(
            weights=tmp_path / "run" / "best.safetensors", iteration=0, reason=EndReason.STOPPED
        )
    ]
    for name in ("best.safetensors", "last.pt"):
        assert load_model(tmp_path / "run" / name, device="cpu").spec.categories == CELLS


def test_a_run_stops_when_its_folder_says_so(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    events = []
    for event in fit(start_of(), TRAIN, VAL, run=run, options=OPTIONS):
        events.append(event)
        run.request_stop()
    assert [type(event) for event in events][-2:] == [SamplesDrawn, FitEnded]
    assert (events[-1].iteration, events[-1].reason) == (3, EndReason.STOPPED)


def test_a_full_disk_keeps_the_old_checkpoint(
    finished: tuple[Path, list[FitEvent]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = finished[0]
    before = (path / "last.pt").read_bytes()
    names = sorted(path.iterdir())

    def no_space(_state: Any, file: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", no_space)
    with pytest.raises(OSError, match="No space left"):
        train(path, resume=True)
    assert (path / "last.pt").read_bytes() == before
    assert sorted(path.iterdir()) == names


# which weights are the best ----------------------------------------------------------------------


def figures(ap: float, ap50: float = 0.0) -> Figures:
    return Figures(ap=ap, ap50=ap50, ap75=0.0, num_images=1, num_objects=1)


def fake_evaluations(monkeypatch: pytest.MonkeyPatch, values: list[Figures]) -> None:
    left = iter(values)
    monkeypatch.setattr("napari_deeppixel.training.fit.figures_of", lambda *_, **__: next(left))


def test_ties_in_ap_are_broken_by_ap50(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = [figures(0.5, 0.6), figures(0.5, 0.7), figures(0.5, 0.7), figures(0.4, 0.9)]
    fake_evaluations(monkeypatch, told)
    events = train(tmp_path / "run", replace(OPTIONS, iterations=4, evaluate_every=1))
    assert [event.is_best for event in of_kind(Evaluated, events)] == [True, True, False, False]
    spec = load_model(tmp_path / "run" / "best.safetensors", device="cpu").spec
    assert spec.provenance["iterations"] == 2


def test_a_run_ends_early_when_it_no_longer_gets_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_evaluations(monkeypatch, [figures(ap) for ap in (0.5, 0.4, 0.6, 0.5, 0.6, 0.5, 0.6)])
    options = replace(OPTIONS, iterations=9, evaluate_every=1, patience=2)
    events = train(tmp_path / "run", options)
    # the rate falls from step 6 on, and only then does patience count
    assert (events[-1].iteration, events[-1].reason) == (7, EndReason.EARLY)
    # it does not forget that
    again = train(tmp_path / "run", options, resume=True)
    assert [type(event) for event in again] == [FitEnded]
    assert again[-1] == events[-1]
    fake_evaluations(monkeypatch, [figures(0.1)] * 4)
    patient = train(tmp_path / "run", replace(options, patience=0), resume=True)
    assert (patient[-1].iteration, patient[-1].reason) == (9, EndReason.DONE)


def test_weights_to_start_from_stay_the_best_until_others_find_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter([0.5, 0.3, 0.4, 0.2, 0.1, 0.2, 0.3, 0.2])

    def figures(*_: Any) -> Figures:
        return Figures(ap=next(found), ap50=0.5, ap75=0.5, num_images=1, num_objects=3)

    monkeypatch.setattr("napari_deeppixel.training.fit.figures_of", figures)
    trained = replace(SPEC, provenance={"start": {"model": "nuclei", "hash": "12ab"}})
    options = replace(OPTIONS, iterations=9, evaluate_every=1, patience=2)
    events = train(tmp_path / "run", options, start=start_of(trained))
    evaluated = of_kind(Evaluated, events)
    # 0.4 is no gain on 0.5, but the best of the trained ones; patience counts from step 6 on
    assert [event.iteration for event in evaluated] == [0, 1, 2, 3, 4, 5, 6, 7]
    assert [event.is_best for event in evaluated] == [True, *[False] * 7]
    assert "no weights that find more" in of_kind(Warned, events)[-1].message
    best = load_model(tmp_path / "run" / "best.safetensors", device="cpu")
    name = "roi_heads.box_predictor.cls_score.weight"
    begun = start_of().model.state_dict()[name]
    assert torch.equal(best.model.state_dict()[name], begun.half().float())


def test_a_run_from_trained_weights_that_is_stopped_at_once_goes_on_as_if_it_was_not(
    tmp_path: Path,
) -> None:
    start = replace(SPEC, provenance={"start": {"model": "nuclei", "hash": "12ab"}})
    stopped = CancelToken()
    stopped.cancel()
    first = train(tmp_path / "stopped", start=start_of(start), cancel=stopped)
    assert [event.iteration for event in of_kind(Evaluated, first)] == [0]
    second = train(tmp_path / "stopped", start=start_of(start), resume=True)
    assert [event.iteration for event in of_kind(Evaluated, second)] == [3, 6]
    train(tmp_path / "whole", start=start_of(start))
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")


def test_images_without_an_object_can_be_trained_and_chosen_by(tmp_path: Path) -> None:
    empty = sample_of(
        InstanceSet.empty((64, 64), CELLS),
        np.random.default_rng(0).integers(0, 255, (64, 64, 1), dtype=np.uint8),
    )
    options = replace(OPTIONS, iterations=2, evaluate_every=1, patience=1)
    events = train(tmp_path / "run", options, train=[empty], val=[empty])
    evaluated = of_kind(Evaluated, events)
    assert [np.isnan(event.figures.ap) for event in evaluated] == [True, True]
    # the AP cannot tell, so the latest weights are kept
    best = load_model(tmp_path / "run" / "best.safetensors", device="cpu")
    assert best.spec.provenance["iterations"] == 2


def test_without_an_image_to_choose_by_the_latest_weights_are_kept(tmp_path: Path) -> None:
    events = train(tmp_path / "run", replace(OPTIONS, iterations=2, evaluate_every=1), val=[])
    assert [type(event) for event in events] == [Warned, StepEnded, StepEnded, FitEnded]
    assert "no image to choose by" in events[0].message
    best = load_model(tmp_path / "run" / "best.safetensors", device="cpu")
    averaged = checkpoint(tmp_path / "run")["averaged"]
    name = "roi_heads.box_predictor.cls_score.weight"
    assert torch.equal(best.model.state_dict()[name], averaged[f"module.{name}"].half().float())


# what is refused ---------------------------------------------------------------------------------


def test_other_categories_than_the_models_are_refused(tmp_path: Path) -> None:
    dogs = replace(SPEC, categories=CategoryTable.from_names("dog"))
    with pytest.raises(
        AnnotationError,
        match=r"made\.png: its categories \(1 cell\) are not those to learn \(1 dog\)",
    ):
        train(tmp_path / "run", start=start_of(dogs))
    assert not (tmp_path / "run").exists()


def test_a_run_of_other_categories_cannot_be_resumed(
    finished: tuple[Path, list[FitEvent]],
) -> None:
    dogs = CategoryTable.from_names("dog")
    samples = [replace(s, instances=replace(s.instances, categories=dogs)) for s in TRAIN]
    start = start_of(replace(SPEC, categories=dogs))
    with pytest.raises(AnnotationError, match="was trained on other categories"):
        train(finished[0], start=start, train=samples, val=samples, resume=True)


def test_a_run_goes_on_when_a_category_got_another_colour_and_key(tmp_path: Path) -> None:
    train(tmp_path, replace(OPTIONS, iterations=2))
    (cell,) = CELLS.categories
    other = CategoryTable(categories=(replace(cell, color="#123456", key="c"),))
    samples = [replace(s, instances=replace(s.instances, categories=other)) for s in (*TRAIN, *VAL)]
    options = replace(OPTIONS, iterations=3)
    events = train(tmp_path, options, train=samples[:-1], val=samples[-1:], resume=True)
    assert events[-1] == FitEnded(weights=tmp_path / "best.safetensors", iteration=3)


def test_nothing_to_learn_from_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="needs images to learn from"):
        train(tmp_path / "run", train=[])


@pytest.mark.parametrize("content", [b"", b"no checkpoint"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "last.pt").write_bytes(content)
    with pytest.raises(AnnotationError, match=r"last\.pt: no checkpoint to go on from"):
        train(tmp_path, resume=True)


def test_a_checkpoint_of_another_network_is_refused(
    finished: tuple[Path, list[FitEvent]],
) -> None:
    wider = start_of(replace(SPEC, fpn_channels=16))
    with pytest.raises(AnnotationError, match="another version or network"):
        train(finished[0], start=wider, resume=True)


def test_weights_are_evaluated_on_whole_images(
    finished: tuple[Path, list[FitEvent]],
) -> None:
    samples = [*VAL, *TRAIN]
    engine = load_model(finished[0] / "last.pt", device="cpu")
    found = figures_of(samples, find_instances(engine, samples), SPEC.score)
    assert isinstance(found, Figures)
    assert (found.num_images, found.num_objects) == (3, 9)


def test_two_runs_leave_the_random_numbers_of_the_process_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    train(tmp_path / "run", replace(OPTIONS, iterations=1))
    assert torch.equal(torch.rand(1), expected)


def test_same_content_sees_a_difference() -> None:
    with pytest.raises(AssertionError, match="/a/0"):
        assert_same_content({"a": [torch.tensor(1)]}, {"a": [torch.tensor(2)]})
