"""What scores are worth, on predictions that a person can count."""

import math

import numpy as np
import pytest
from tests.training.datasets import rectangle
from tests.training.evaluation.made import found_with, truth_with

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.training.evaluation.curves import Judgement, calibration, score_curve
from napari_deeppixel.training.evaluation.report import evaluate_predictions


def judged(num_objects: int, *scored: tuple[float, bool]) -> Judgement:
    return Judgement(
        scores=np.array([score for score, _ in scored], float),
        is_true=np.array([is_true for _, is_true in scored], bool),
        num_objects=num_objects,
    )


def test_the_best_score_is_where_f1_is_highest() -> None:
    one = judged(2, (0.9, True), (0.3, False))
    other = judged(1, (0.6, True), (0.4, False))
    curve = score_curve([one, other])
    # from 0.6 on, two of three objects are found and nothing is wrong
    assert curve.best_f1 == pytest.approx(2 * 2 / (2 + 3))
    assert curve.best_score == pytest.approx(0.5)
    at = {round(score, 2): n for n, score in enumerate(curve.scores)}
    assert len(at) == 101
    rates = [(c[at[s]]) for s in (0.0, 0.6, 0.61) for c in (curve.precisions, curve.recalls)]
    assert rates == pytest.approx([2 / 4, 2 / 3, 1, 2 / 3, 1, 1 / 3])
    assert math.isnan(curve.precisions[at[1.0]])
    assert curve.f1s[at[1.0]] == 0


def test_predictions_of_one_score_come_together() -> None:
    curve = score_curve([judged(3, (0.5, True), (0.5, False), (0.5, False))])
    assert curve.best_f1 == pytest.approx(2 / 6)
    assert curve.best_score == 0.5


def test_without_a_hit_there_is_no_best_score() -> None:
    assert math.isnan(score_curve([judged(1, (0.5, False))]).best_score)
    assert score_curve([judged(0)]).scores == ()
    assert score_curve([]).f1s == ()


def test_calibration_is_the_gap_between_score_and_share() -> None:
    found = calibration([judged(4, (0.95, True), (0.95, True), (0.55, True), (0.55, False))])
    assert found.counts == (0, 0, 0, 0, 0, 2, 0, 0, 0, 2)
    assert found.true_shares[5] == 0.5
    assert found.true_shares[9] == 1
    assert found.mean_scores[5] == pytest.approx(0.55)
    assert math.isnan(found.true_shares[0])
    assert found.error == pytest.approx(0.05)
    # a score of 1 lies in the last bin
    assert calibration([judged(1, (1.0, True))]).counts[-1] == 1
    assert math.isnan(calibration([judged(1)]).error)


def test_confusion_tells_which_category_was_taken_for_which() -> None:
    table = CategoryTable.from_names("cat", "dog")
    places = [rectangle(10 * n, 0, 10 * n + 8, 8) for n in range(5)]
    truth = truth_with(*places[:4], table=table, ids=[1, 1, 2, 2])
    found = found_with(
        (places[0], 0.9),  # right
        (places[1], 0.9),  # a cat taken for a dog
        (places[2], 0.9),  # right
        (places[4], 0.9),  # nothing there
        (places[3], 0.2),  # below the score: missed
        table=table,
        ids=[1, 2, 2, 1, 2],
    )
    report = evaluate_predictions([truth], [found], score=0.5)
    assert report.confusion.names == ("cat", "dog")
    assert report.confusion.counts == ((1, 1, 0), (0, 1, 1), (1, 0, 0))
    # a wrong category is an error and a miss, but StarDist asks where alone
    (image,) = report.images
    counts = (image.num_true_positive, image.num_false_positive, image.num_missed)
    assert counts == (2, 2, 2)
    assert report.accuracy[0.5] == pytest.approx(3 / 5)


def test_of_two_on_one_object_that_of_its_category_is_right() -> None:
    table = CategoryTable.from_names("cat", "dog")
    place, near = rectangle(0, 0, 10, 10), rectangle(1, 0, 11, 10)
    truth = truth_with(place, table=table, ids=[2])
    found = found_with((place, 0.9), (near, 0.6), table=table, ids=[1, 2])
    confusion = evaluate_predictions([truth], [found], score=0.5).confusion
    assert confusion.counts == ((0, 0, 0), (0, 1, 0), (1, 0, 0))
