"""The gate: what is better is let through, what is worse or uncertain is not."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from tests.fakes import ThresholdEngine

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import AnnotationError, RunCancelled, WeightsError
from napari_deeppixel.core.instance import label_image_to_instances
from napari_deeppixel.core.progress import CancelToken, Progress
from napari_deeppixel.engine.build import build_model
from napari_deeppixel.engine.library import ModelLibrary
from napari_deeppixel.engine.spec import slim_spec
from napari_deeppixel.engine.weights import load_model, save_weights
from napari_deeppixel.training.compare import (
    Comparison,
    Role,
    compare,
    load_comparison,
    models_to_compare,
    outcome_from_file,
)
from napari_deeppixel.training.evaluation.figures import CocoFigures, ImageOutcome
from napari_deeppixel.training.evaluation.report import EvaluationReport
from napari_deeppixel.training.samples import Sample
from napari_deeppixel.training.verdict import judge, quality, share_of_draws

DATA = Path(__file__).parents[1] / "data"


# the verdict, on figures that a person can check --------------------------------------------------


def image(name: int, hits: int, false: int, missed: int, iou: float = 0.8) -> ImageOutcome:
    return ImageOutcome(
        file_name=f"{name}.png",
        num_true_positive=hits,
        num_false_positive=false,
        num_missed=missed,
        mean_iou=iou if hits else math.nan,
    )


def report(ap: float, images: Sequence[ImageOutcome]) -> EvaluationReport:
    hits = sum(each.num_true_positive for each in images)
    total = hits + sum(each.num_false_positive + each.num_missed for each in images)
    accuracy = {0.5: hits / total if total else math.nan}
    return EvaluationReport(
        mask=CocoFigures(ap=ap, ap50=ap, ap75=ap),
        box=CocoFigures(ap=ap),
        accuracy=accuracy,
        f1=accuracy,
        pq=accuracy,
        count_error=0.0,
        count_bias=0.0,
        num_images=len(images),
        num_objects=sum(each.num_true_positive + each.num_missed for each in images),
        score=0.5,
        images=tuple(images),
    )


HALF = [image(n, 5, 0, 5) for n in range(6)]
MOST = [image(n, 8, 0, 2) for n in range(6)]


def test_a_model_that_finds_more_in_each_image_is_better() -> None:
    verdict = judge(report(0.5, HALF), report(0.6, MOST))
    assert verdict.is_better
    assert verdict.is_sure
    assert verdict.reason == (
        "AP rises from 0.500 to 0.600, accuracy at IoU 0.5 rises from 0.500 to 0.800. The new "
        "model is better in 100 % of 1,000 draws of the 6 images."
    )


def test_a_model_that_finds_less_is_not_better() -> None:
    verdict = judge(report(0.6, MOST), report(0.5, HALF))
    assert not verdict.is_better
    assert verdict.is_sure
    assert verdict.reason == (
        "AP falls from 0.600 to 0.500, accuracy at IoU 0.5 falls from 0.800 to 0.500. Not better: "
        "AP must rise by 0.005 or more; accuracy must not fall by more than 0.01; it is better "
        "only in 0 % of 1,000 draws of the 6 images, less than 80%."
    )


def test_the_same_figures_are_not_better() -> None:
    verdict = judge(report(0.6, MOST), report(0.6, MOST))
    assert not verdict.is_better
    assert "AP stays at 0.600" in verdict.reason


@pytest.mark.parametrize(("ap", "is_better"), [(0.504, False), (0.506, True)])
def test_ap_must_rise_enough(ap: float, is_better: bool) -> None:
    assert judge(report(0.5, HALF), report(ap, MOST)).is_better is is_better


def test_accuracy_must_not_fall() -> None:
    # finer outlines, but fewer objects: AP and the IoU-weighted draws rise, accuracy falls
    before = [image(n, 80, 0, 20, 0.6) for n in range(6)]
    fewer = [image(n, 78, 0, 22, 0.9) for n in range(6)]
    verdict = judge(report(0.5, before), report(0.6, fewer))
    assert not verdict.is_better
    assert "Not better: accuracy must not fall by more than 0.01." in verdict.reason
    as_many = [image(n, 80, 0, 20, 0.9) for n in range(6)]
    assert judge(report(0.5, before), report(0.6, as_many)).is_better


def test_one_image_that_carries_all_of_the_gain_is_not_enough() -> None:
    lucky = [image(0, 60, 0, 0), *(image(n, 49, 0, 11) for n in range(1, 6))]
    before = [image(0, 30, 0, 30), *(image(n, 50, 0, 10) for n in range(1, 6))]
    verdict = judge(report(0.5, before), report(0.6, lucky))
    # pooled accuracy rises, but without that image it falls: a third of the draws lack it
    assert "rises from 0.778 to 0.847" in verdict.reason
    assert not verdict.is_better
    assert "it is better only in 6" in verdict.reason


@pytest.mark.parametrize("num_images", [1, 2])
def test_too_few_images_are_left_to_the_person(num_images: int) -> None:
    verdict = judge(report(0.5, HALF[:num_images]), report(0.6, MOST[:num_images]))
    assert (verdict.is_better, verdict.is_sure) == (False, False)
    assert "too few to be sure: look at the results and decide" in verdict.reason


def test_images_without_objects_tell_nothing() -> None:
    nothing = [image(n, 0, 0, 0) for n in range(6)]
    verdict = judge(report(math.nan, nothing), report(math.nan, nothing))
    assert (verdict.is_better, verdict.is_sure) == (False, False)
    assert "no annotated object" in verdict.reason


def test_quality_is_accuracy_times_iou() -> None:
    assert quality(image(0, 3, 1, 0, iou=0.8)) == pytest.approx(0.6)
    assert quality(image(0, 0, 2, 0)) == 0
    assert quality(image(0, 0, 0, 0)) == 1


def test_draws_are_the_same_each_time_and_pair_the_images_by_name() -> None:
    mixed = [image(n, 5 + (-1) ** n, 0, 5 - (-1) ** n) for n in range(6)]
    share = share_of_draws(HALF, mixed)
    assert share == share_of_draws(HALF, mixed) == share_of_draws(HALF[::-1], mixed)
    # three better and three worse by as much: better in fewer than half of the draws, as some tie
    assert 0.3 < share < 0.5
    assert share_of_draws(HALF, MOST) == 1
    assert share_of_draws(MOST, HALF) == 0
    assert share_of_draws([], MOST) == 0


# comparing, with models whose answers a person can see --------------------------------------------

TABLE = CategoryTable.from_names("object")


class NamedEngine(ThresholdEngine):
    """A `ThresholdEngine` with a name and a hash."""

    def __init__(self, name: str, weights_hash: str, **settings: Any) -> None:
        super().__init__(**settings)
        self._spec = replace(self._spec, name=name)
        self._hash = weights_hash

    @property
    def source(self) -> str:
        return f"{self._spec.name}@{self._hash}"


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> dict[str, NamedEngine]:
    """Models by name: `dim`, `twin` and `pets` see all squares, `bright` half of them."""
    made = {
        "dim": NamedEngine("dim", "aaa", threshold=0.3),
        "twin": NamedEngine("twin", "aaa", threshold=0.3),
        "bright": NamedEngine("bright", "bbb", threshold=0.7),
        "pets": NamedEngine(
            "pets", "ccc", threshold=0.3, categories=CategoryTable.from_names("pet", "object")
        ),
    }
    monkeypatch.setattr(
        "napari_deeppixel.engine.weights.load_model", lambda model, **_: made[model]
    )
    return made


def squares_sample(number: int) -> Sample:
    """Return an image with two bright squares and two dim ones, all annotated."""
    pixels = np.zeros((40, 60), np.uint8)
    labels = np.zeros((40, 60), np.int32)
    for index, (y, x) in enumerate([(2, 3), (2, 30), (20, 3), (20, 30)], start=1):
        pixels[y : y + 10 + number, x : x + 10] = 230 if index <= 2 else 140
        labels[y : y + 10 + number, x : x + 10] = index
    return Sample.in_memory(
        pixels[..., np.newaxis],
        label_image_to_instances(labels, categories=TABLE),
        limits=(0, 255),
        file_name=f"{number}.png",
        path=Path(f"{number}.png"),
        plane=(number,),
    )


SQUARES = [squares_sample(number) for number in range(4)]


@pytest.mark.usefixtures("engines")
def test_models_are_compared_on_the_same_images_in_the_order_of_their_roles() -> None:
    comparison = compare(
        {Role.NEW: "dim", Role.CURRENT: "bright"}, SQUARES, dataset="squares", split="val"
    )
    assert [(m.role, m.model, m.weights_hash) for m in comparison.models] == [
        (Role.CURRENT, "bright", "bbb"),
        (Role.NEW, "dim", "aaa"),
    ]
    accuracies = [model.report.accuracy[0.5] for model in comparison.models]
    assert accuracies == [0.5, 1]
    assert comparison.verdict.is_better
    assert (comparison.dataset, comparison.split) == ("squares", "val")
    assert comparison.of(Role.BASE) is None


@pytest.mark.usefixtures("engines")
def test_a_worse_model_is_not_let_through() -> None:
    assert not compare({Role.NEW: "bright", Role.CURRENT: "dim"}, SQUARES).verdict.is_better


def test_models_with_the_same_weights_are_asked_once(engines: dict[str, NamedEngine]) -> None:
    models = {Role.BASE: "dim", Role.CURRENT: "dim", Role.NEW: "twin"}
    comparison = compare(models, SQUARES)
    assert len(engines["dim"].calls) == len(SQUARES)
    assert engines["twin"].calls == []
    assert [model.name for model in comparison.models] == ["dim", "dim", "twin"]
    assert not comparison.verdict.is_better
    assert comparison.verdict.reason == "twin and dim are the same weights."


@pytest.mark.usefixtures("engines")
def test_a_model_with_more_categories_is_compared_by_their_names() -> None:
    comparison = compare({Role.CURRENT: "dim", Role.NEW: "pets"}, SQUARES)
    current, new = comparison.models
    assert current.report.mask.by_category["object"].ap == 1
    # it calls all of them pets
    assert new.report.mask.by_category["object"].ap == 0
    assert not comparison.verdict.is_better


@pytest.mark.usefixtures("engines")
def test_the_images_that_got_worse_come_first() -> None:
    some = SQUARES[0].instances.select([0, 1])
    only_bright = replace(
        SQUARES[0], instances=some, weights=np.ones(2), file_name="only bright.png"
    )
    mixed = [*SQUARES, only_bright]
    comparison = compare({Role.CURRENT: "bright", Role.NEW: "dim"}, mixed)
    changes = comparison.changes()
    assert changes[0].file_name == "only bright.png"
    assert changes[0].change == pytest.approx(-0.5)
    assert (changes[0].before.num_false_positive, changes[0].after.num_false_positive) == (0, 2)
    assert [each.change for each in changes[1:]] == pytest.approx([0.5] * 4)
    assert comparison.changes(Role.NEW, Role.CURRENT)[-1].file_name == "only bright.png"
    assert comparison.changes(Role.BASE) == ()


@pytest.mark.usefixtures("engines")
def test_a_comparison_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "run" / "comparison.json"
    path.parent.mkdir()
    models = {Role.BASE: "dim", Role.CURRENT: "bright", Role.NEW: "dim"}
    comparison = compare(models, SQUARES, path=path, dataset="d", data_hash="abc", split="val")
    comparison.save(path)
    assert plain(load_comparison(path)) == plain(comparison)
    files = {model.role: model.predictions for model in comparison.models}
    # base and new are one model
    assert files == {
        Role.BASE: "comparison/base.json",
        Role.CURRENT: "comparison/current.json",
        Role.NEW: "comparison/base.json",
    }
    assert sorted(each.name for each in (tmp_path / "run" / "comparison").iterdir()) == [
        "base.json",
        "current.json",
    ]


def plain(comparison: Comparison) -> str:
    # NaN is not equal to itself
    return json.dumps(comparison.to_json(), sort_keys=True)


@pytest.mark.usefixtures("engines")
def test_outcomes_are_drawn_from_the_file_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "comparison.json"
    comparison = compare({Role.CURRENT: "bright", Role.NEW: "dim"}, SQUARES, path=path)
    comparison.save(path)
    monkeypatch.setattr("napari_deeppixel.engine.weights.load_model", None)
    outcome = outcome_from_file(path, Role.CURRENT, SQUARES[1])
    assert outcome.true.boxes_xyxy.tolist() == [[3, 2, 13, 13], [30, 2, 40, 13]]
    assert outcome.missed.boxes_xyxy.tolist() == [[3, 20, 13, 31], [30, 20, 40, 31]]
    assert len(outcome.false) == 0
    assert len(outcome_from_file(path, Role.NEW, SQUARES[1]).true) == 4
    with pytest.raises(AnnotationError, match=r"dim was not asked about other\.png"):
        outcome_from_file(path, Role.NEW, replace(SQUARES[1], file_name="other.png"))
    with pytest.raises(AnnotationError, match="what the base model found was not kept"):
        outcome_from_file(path, Role.BASE, SQUARES[1])
    with pytest.raises(AnnotationError, match="no comparison is there"):
        outcome_from_file(tmp_path / "gone.json", Role.NEW, SQUARES[1])


@pytest.mark.usefixtures("engines")
def test_a_comparison_that_is_made_anew_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "comparison.json"
    for new, num_true in (("bright", 2), ("dim", 4)):
        compare({Role.CURRENT: "bright", Role.NEW: new}, SQUARES, path=path).save(path)
        assert len(outcome_from_file(path, Role.NEW, SQUARES[0]).true) == num_true


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"version": 1}',
        '{"version": 99}',
        pytest.param("[" * 200_000, id="nested"),
    ],
)
def test_a_file_that_is_no_comparison_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.json").write_text(text, encoding="utf-8")
    with pytest.raises(AnnotationError, match=r"c\.json: "):
        load_comparison(tmp_path / "c.json")
    with pytest.raises(AnnotationError, match=r"gone\.json: "):
        load_comparison(tmp_path / "gone.json")


@pytest.mark.usefixtures("engines")
def test_current_and_new_are_needed() -> None:
    with pytest.raises(WeightsError, match="needs a current model"):
        compare({Role.BASE: "dim", Role.NEW: "bright"}, SQUARES)


def test_progress_goes_up_and_a_cancel_ends_it(engines: dict[str, NamedEngine]) -> None:
    told: list[Progress] = []
    models = {Role.CURRENT: "bright", Role.NEW: "dim"}
    compare(models, SQUARES, on_progress=told.append)
    fractions = [progress.fraction for progress in told]
    assert fractions == sorted(fractions)
    assert 0 <= fractions[0] <= fractions[-1] <= 1
    assert "new: image 2 of 4" in [progress.message for progress in told]
    cancel = CancelToken()
    engines["dim"].calls.clear()

    def stop(progress: Progress) -> None:
        if progress.message.startswith("new"):
            cancel.cancel()

    with pytest.raises(RunCancelled):
        compare(models, SQUARES, on_progress=stop, cancel=cancel)
    assert len(engines["dim"].calls) <= 1


# which models -------------------------------------------------------------------------------------


def test_a_run_is_compared_by_its_best_weights_with_the_model_it_began_with(
    tmp_path: Path,
) -> None:
    spec = slim_spec("run", TABLE, fpn_channels=16, provenance={"start": {"model": "coco"}})
    network = build_model(spec)
    save_weights(network, spec, tmp_path / "best.safetensors")
    best = str(tmp_path / "best.safetensors")
    expected = {Role.BASE: "coco", Role.CURRENT: "nuclei", Role.NEW: best}
    assert models_to_compare(tmp_path) == expected
    library = ModelLibrary()
    library.use(library.add(best, "cells").name)
    assert models_to_compare("cells") == expected | {Role.CURRENT: "cells", Role.NEW: "cells"}
    assert models_to_compare(best, current="nuclei", base="coco-v2") == {
        Role.BASE: "coco-v2",
        Role.CURRENT: "nuclei",
        Role.NEW: best,
    }
    # random weights have no base
    save_weights(network, replace(spec, provenance={}), tmp_path / "scratch.safetensors")
    assert Role.BASE not in models_to_compare(tmp_path / "scratch.safetensors")
    assert Role.BASE not in models_to_compare("nuclei", current="cells")


# real models on real images -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_samples() -> list[Sample]:
    """Return a part of three sample images in the package, with what people drew."""
    samples = []
    # small, as a spoilt model pastes hundreds of masks; all three have objects here
    part = np.s_[48:112, 176:256]
    for name in ("fluorescence", "histology", "tissue"):
        packaged = resources.files("napari_deeppixel") / "samples" / f"{name}.png"
        with resources.as_file(packaged) as path:
            pixels = np.asarray(iio.imread(path))
        plane = pixels if pixels.ndim == 3 else pixels[..., np.newaxis]
        labels = iio.imread(DATA / f"{name}_labels.png")
        samples.append(
            Sample.in_memory(
                plane[part],
                label_image_to_instances(
                    labels[part], categories=CategoryTable.from_names("nucleus")
                ),
                limits=(0, 255),
                file_name=f"{name}.png",
            )
        )
    return samples


def spoilt(kind: str, folder: Path) -> str:
    """Return the file of the shipped model with weights that are worse."""
    engine = load_model("nuclei", device="cpu")
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in engine.model.parameters():
            if kind == "noisy":
                parameter += torch.randn_like(parameter) * parameter.std(correction=0)
            elif kind == "exploded":
                # what steps of a huge learning rate end in
                parameter *= 1e3
            elif kind == "not a number":
                parameter.fill_(math.nan)
    path = folder / f"{kind}.safetensors"
    save_weights(engine.model, replace(engine.spec, name=kind), path)
    return str(path)


KINDS = ("noisy", "exploded", "not a number")


@pytest.fixture(scope="module")
def reports(
    real_samples: list[Sample], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, EvaluationReport]:
    """Return the report of the shipped model and of each that is spoilt."""
    folder = tmp_path_factory.mktemp("spoilt")
    found: dict[str, EvaluationReport] = {}
    noisy, exploded, no_number = (spoilt(kind, folder) for kind in KINDS)
    for models in (
        {Role.BASE: noisy, Role.CURRENT: "nuclei", Role.NEW: exploded},
        {Role.CURRENT: exploded, Role.NEW: no_number},
    ):
        comparison = compare(models, real_samples, device="cpu")
        found |= {model.name: model.report for model in comparison.models}
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_spoilt_model_is_not_let_through_and_the_good_one_in_its_place_is(
    kind: str, reports: dict[str, EvaluationReport]
) -> None:
    worse = judge(reports["nuclei"], reports[kind])
    assert (worse.is_better, worse.is_sure) == (False, True), worse.reason
    better = judge(reports[kind], reports["nuclei"])
    assert (better.is_better, better.is_sure) == (True, True), better.reason
