"""The whole report on images that a person can count."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from tests.training.datasets import CELLS, disc, instances_of, rectangle, sample_of
from tests.training.evaluation.made import IMAGE_HW, found_with, truth_with

from napari_deeppixel.core.category import Category, CategoryTable
from napari_deeppixel.core.errors import DeepPixelError, RunCancelled
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.progress import CancelToken, Progress
from napari_deeppixel.training.evaluation.report import (
    EvaluationReport,
    evaluate_predictions,
    outcome_of,
)
from napari_deeppixel.training.evaluation.truth import Found

LEFT, RIGHT, ELSEWHERE = disc(12, 20, 8), disc(45, 20, 8), rectangle(25, 2, 30, 8)


def test_figures_of_two_images_are_pooled() -> None:
    first, second = truth_with(LEFT, RIGHT, file_name="b"), truth_with(RIGHT, file_name="a")
    found = [
        found_with((LEFT, 0.9), (ELSEWHERE, 0.8), (RIGHT, 0.3)),
        found_with((RIGHT, 0.7)),
    ]
    report = evaluate_predictions([first, second], found, score=0.5)
    assert (report.num_images, report.num_objects) == (2, 3)
    # right: 2, wrong: 1, missed: 1
    assert report.accuracy[0.5] == report.accuracy[0.95] == 2 / 4
    assert report.accuracy_of_masks == report.accuracy
    assert report.f1[0.5] == 4 / 6
    assert report.pq[0.5] == 2 / 3
    assert (report.precision[0.5], report.recall[0.5]) == (2 / 3, 2 / 3)
    assert report.mean_matched_iou == 1
    assert (report.count_error, report.count_bias) == (0, 0)
    assert [(image.file_name, image.accuracy) for image in report.images] == [
        ("b", 1 / 3),
        ("a", 1),
    ]
    assert [image.file_name for image in report.worst_images()] == ["b", "a"]
    # four predictions by score: right, wrong, right, right
    assert report.mask.ap == pytest.approx((34 + 67 * 3 / 4) / 101)
    assert (report.box.ap, report.box.ar) == (report.mask.ap, report.mask.ar)
    assert report.by_score.best_score == pytest.approx(0.3)


def test_masks_without_overlap_count_alike_in_label_images_and_whole() -> None:
    rng = np.random.default_rng(3)
    truths, found = [], []
    for n in range(6):
        places = [
            rectangle(10 * x + 1, 10 * y + 1, 10 * x + 9, 10 * y + 9)
            for x in range(6)
            for y in range(4)
        ]
        truths.append(truth_with(*[p for p in places if rng.random() < 0.6], file_name=str(n)))
        moved = [p.moved(dy=int(rng.integers(0, 2)), dx=int(rng.integers(0, 2))) for p in places]
        found.append(found_with(*[(m, rng.random()) for m in moved if rng.random() < 0.7]))
    report = evaluate_predictions(truths, found, score=0.3)
    assert report.accuracy == report.accuracy_of_masks
    assert 0.05 < report.accuracy[0.75] < report.accuracy[0.5] < 0.9


def test_counts_are_off_by_what_was_found_less_what_is_there() -> None:
    truths = [truth_with(LEFT, RIGHT), truth_with(LEFT)]
    found = [found_with((LEFT, 0.9)), found_with((LEFT, 0.9), (RIGHT, 0.9), (ELSEWHERE, 0.9))]
    report = evaluate_predictions(truths, found, score=0.5)
    assert report.count_error == 1.5
    assert report.count_bias == 0.5


def test_images_that_look_alike_are_grouped() -> None:
    truths = [truth_with(LEFT, appearance="grey"), truth_with(RIGHT, appearance="colour")]
    found = [found_with((LEFT, 0.9)), found_with((LEFT, 0.9))]
    report = evaluate_predictions(truths, found, score=0.5)
    assert [group.name for group in report.groups] == ["all", "colour", "grey"]
    assert [group.num_images for group in report.groups] == [2, 1, 1]
    assert [group.accuracy50 for group in report.groups] == [1 / 3, 0, 1]
    assert [group.ap for group in report.groups[1:]] == [0, 1]
    alike = evaluate_predictions(truths[:1] * 2, found[:1] * 2, score=0.5)
    assert [group.name for group in alike.groups] == ["all"]


def test_samples_are_compared_as_they_are() -> None:
    sample = sample_of(instances_of([LEFT], IMAGE_HW), appearance="grey")
    sample = replace(sample, file_name="images/x.png", plane=(2,), ignored=rectangle(25, 0, 60, 40))
    found = found_with((LEFT, 0.9), (RIGHT, 0.8), (ELSEWHERE, 0.9))
    report = evaluate_predictions([sample], [found], score=0.5)
    (image,) = report.images
    assert (image.file_name, image.plane, image.title) == ("images/x.png", (2,), "images/x.png [2]")
    assert (image.num_true_positive, image.num_false_positive, image.num_missed) == (1, 0, 0)
    assert report.mask.ap == report.box.ap == report.accuracy[0.5] == 1
    assert report.count_error == 0
    assert report.calibration.counts[8:] == (0, 1)


def test_a_crowd_takes_what_lies_in_it() -> None:
    truth = truth_with(LEFT, crowds=[rectangle(25, 0, 60, 40)])
    found = found_with((LEFT, 0.9), (RIGHT, 0.8), (ELSEWHERE, 0.9))
    report = evaluate_predictions([truth], [found], score=0.5)
    assert report.mask.ap == report.accuracy[0.5] == 1
    assert outcome_of(truth, found, score=0.5).false.masks == ()


def test_the_outcome_holds_the_instances_themselves() -> None:
    truth = truth_with(LEFT, RIGHT)
    shifted = disc(13, 20, 8)
    found = found_with((ELSEWHERE, 0.9), (shifted, 0.8), (RIGHT, 0.2))
    outcome = outcome_of(truth, found, score=0.5)
    assert outcome.true.masks == (shifted,)
    assert outcome.false.masks == (ELSEWHERE,)
    assert outcome.missed.uuids == truth.instances.uuids[1:]
    # a stricter IoU makes the shifted one wrong
    strict = outcome_of(truth, found, score=0.5, iou=0.95)
    assert (len(strict.true), len(strict.false), len(strict.missed)) == (0, 2, 2)


def test_categories_go_by_their_names() -> None:
    data = CategoryTable.from_names("cat", "dog")
    model = CategoryTable(
        categories=tuple(
            Category(id=number, name=name, color="#000000")
            for number, name in ((7, "dog"), (1, "bird"), (2, "cat"))
        )
    )
    truth = truth_with(LEFT, RIGHT, table=data, ids=[1, 2])
    found = found_with((LEFT, 0.9), (RIGHT, 0.9), (ELSEWHERE, 0.9), table=model, ids=[2, 7, 1])
    report = evaluate_predictions([truth], [found], score=0.5)
    assert report.mask.ap == 1
    assert report.confusion.counts == ((1, 0, 0), (0, 1, 0), (0, 0, 0))
    assert report.notes == (
        "left out: 1 prediction of categories that the data do not have ('bird')",
    )


def test_categories_that_the_model_does_not_know_are_told_and_missed() -> None:
    data = CategoryTable.from_names("cell", "yeast")
    truth = truth_with(LEFT, RIGHT, table=data, ids=[1, 2])
    report = evaluate_predictions([truth], [found_with((LEFT, 0.9))], score=0.5)
    assert report.mask.by_category["cell"].ap == 1
    assert report.mask.by_category["yeast"].ap == 0
    assert report.notes == (
        "the predictions know no 'yeast': what the data have of it counts as missed",
    )


@pytest.mark.parametrize(
    ("data", "model", "is_same"),
    [
        (["nucleus"], ["cell"], True),
        (["object"], ["cat", "dog"], True),
        (["nucleus"], ["cat", "dog"], False),
    ],
)
def test_one_category_on_both_sides_is_the_same_by_whatever_name(
    data: list[str], model: list[str], is_same: bool
) -> None:
    truth = truth_with(LEFT, table=CategoryTable.from_names(*data))
    found = found_with((LEFT, 0.9), table=CategoryTable.from_names(*model), ids=[len(model)])
    report = evaluate_predictions([truth], [found], score=0.5)
    assert report.mask.ap == (1 if is_same else 0)
    assert any("taken for the same" in note for note in report.notes) == is_same
    assert len(report.notes) == (1 if is_same else 2)


def test_predictions_that_are_boxes_alone_are_compared_as_boxes() -> None:
    truth = truth_with(LEFT, RIGHT)
    boxes = found_with((rectangle(*LEFT.box_xyxy), 0.9), (ELSEWHERE, 0.9))
    loose = Found(instances=boxes, has_mask=np.zeros(2, bool))
    report = evaluate_predictions([truth], [loose], score=0.5)
    assert math.isnan(report.mask.ap)
    assert math.isnan(report.accuracy[0.5])
    assert report.box.ap50 == pytest.approx(51 / 101)
    (image,) = report.images
    assert (image.num_true_positive, image.num_false_positive, image.num_missed) == (1, 1, 1)
    assert "no prediction has a mask" in report.notes[0]
    # beside masks, they count for boxes and in numbers of objects
    mixed = Found(
        instances=found_with((LEFT, 0.9), (rectangle(*RIGHT.box_xyxy), 0.9)),
        has_mask=np.array([True, False]),
    )
    report = evaluate_predictions([truth], [mixed], score=0.5)
    assert report.box.ap50 == 1
    assert report.mask.ap50 == pytest.approx(51 / 101)
    assert report.count_error == 0
    assert "for boxes alone: 1 prediction" in report.notes[0]


def test_a_prediction_without_a_score_is_sure() -> None:
    drawn = instances_of([LEFT], IMAGE_HW)
    report = evaluate_predictions([truth_with(LEFT)], [drawn], score=1.0)
    assert report.accuracy[0.5] == report.mask.ap == 1


def test_a_report_comes_back_from_its_json() -> None:
    table = CategoryTable.from_names("cat", "dog")
    truths = [
        truth_with(LEFT, RIGHT, table=table, ids=[1, 1], appearance="a", plane=(0, 3)),
        truth_with(table=table, appearance="b"),
    ]
    found = [found_with((LEFT, 0.9), table=table), InstanceSet.empty(IMAGE_HW, table)]
    report = evaluate_predictions(truths, found, score=0.5)
    value = report.to_json()
    text = json.dumps(value, allow_nan=False)
    # NaN is no equal of itself
    assert repr(EvaluationReport.from_json(json.loads(text))) == repr(report)
    assert {"AP", "AP50", "AP75", "APs", "APm", "APl", "AR", "by_category"} == set(value["mask"])
    assert value["mask"]["by_category"]["dog"]["AP"] is None
    assert list(value["accuracy"])[:3] == ["0.5", "0.55", "0.6"]
    assert value["images"][0]["plane"] == [0, 3]


@pytest.mark.parametrize(
    "change",
    [{"mask": None}, {"accuracy": [1]}, {"num_images": "3"}, {"images": 3}, {"count_error": "x"}],
)
def test_what_is_no_report_is_told(change: dict[str, object]) -> None:
    report = evaluate_predictions([truth_with(LEFT)], [found_with((LEFT, 0.9))], score=0.5)
    with pytest.raises(DeepPixelError, match="no report of an evaluation"):
        EvaluationReport.from_json(report.to_json() | change)
    with pytest.raises(DeepPixelError, match="no report of an evaluation"):
        EvaluationReport.from_json({})


def test_progress_rises_and_a_cancel_ends_it() -> None:
    events: list[Progress] = []
    truths = [truth_with(LEFT)] * 3
    found = [found_with((LEFT, 0.9))] * 3
    evaluate_predictions(truths, found, score=0.5, on_progress=events.append)
    fractions = [event.fraction for event in events]
    assert fractions == sorted(fractions)
    assert fractions[-1] < 1
    assert "comparing image 2 of 3" in [event.message for event in events]
    cancel = CancelToken()

    def stop(_: Progress) -> None:
        cancel.cancel()

    with pytest.raises(RunCancelled):
        evaluate_predictions(truths, found, score=0.5, on_progress=stop, cancel=cancel)


def test_nothing_to_evaluate_has_no_figures() -> None:
    report = evaluate_predictions([], [], score=0.5)
    assert (report.num_images, report.num_objects) == (0, 0)
    assert math.isnan(report.accuracy[0.5])
    assert math.isnan(report.count_error)
    with pytest.raises(ValueError, match="1 images but 0 predictions"):
        evaluate_predictions([truth_with(LEFT)], [], score=0.5)


def test_thousands_of_predictions_are_compared_in_a_moment() -> None:
    rng = np.random.default_rng(0)
    hw = (600, 900)
    places = [
        rectangle(30 * x, 30 * y, 30 * x + 24, 30 * y + 24) for x in range(30) for y in range(10)
    ]
    moved = [
        (place.moved(dy=int(rng.integers(0, 6)), dx=int(rng.integers(0, 6))), rng.random())
        for place in places
        for _ in range(3)
    ]
    truth = truth_with(*places, image_hw=hw)
    report = evaluate_predictions([truth], [found_with(*moved, image_hw=hw)], score=0.05)
    assert report.num_objects == 300
    assert sum(report.calibration.counts) == 900
    assert CELLS.categories[0].name in report.mask.by_category
