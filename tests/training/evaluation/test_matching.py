"""Matching against numbers that `stardist.matching` 0.9.2 gave for the same label images."""

import math

import numpy as np
import pytest
from tests.training.datasets import instances_of, rectangle
from tests.training.evaluation.made import IMAGE_HW, found_with, truth_with

from napari_deeppixel.core.instance import label_image_to_instances
from napari_deeppixel.training.evaluation.figures import IOU_THRESHOLDS
from napari_deeppixel.training.evaluation.judge import ImageJudge
from napari_deeppixel.training.evaluation.matching import (
    Counts,
    Pairs,
    best_matches,
    box_pairs,
    count_matches,
    greedy_matches,
    label_pairs,
    mask_pairs,
)
from napari_deeppixel.training.evaluation.truth import Found

CASES = {
    # name: (true label image, found label image)
    "equal": ([[1, 1, 0, 2, 2]], [[2, 2, 0, 1, 1]]),
    "shifted to an IoU of exactly 1/2": ([[1, 1, 1, 0]], [[0, 5, 5, 5]]),
    "IoU of exactly 0.6": ([[1, 1, 1, 1, 1]], [[1, 1, 1, 0, 0]]),
    "IoU of exactly 0.75": ([[1, 1, 1, 1]], [[0, 7, 7, 7]]),
    "two halves of one": ([[1, 1, 1, 1]], [[1, 1, 2, 2]]),
    "two halves of each other": ([[1, 1, 2, 2]], [[3, 3, 3, 3]]),
    "nothing found": ([[1, 1, 0, 2]], [[0, 0, 0, 0]]),
    "nothing there": ([[0, 0, 0, 0]], [[1, 1, 0, 2]]),
    "no background": ([[1, 1, 2, 2], [1, 1, 2, 2]], [[1, 1, 2, 2], [1, 1, 1, 2]]),
    "two rows": (
        [[1, 1, 1, 0, 2, 2], [1, 1, 1, 0, 2, 2]],
        [[4, 4, 0, 0, 9, 9], [4, 4, 0, 3, 9, 9]],
    ),
}
# (IoU, TP, FP, FN, accuracy, F1, panoptic quality, mean IoU of what matches), from StarDist
STARDIST: dict[str, list[tuple[float, int, int, int, float, float, float, float]]] = {
    "equal": [
        (0.5, 2, 0, 0, 1, 1, 1, 1),
        (0.6, 2, 0, 0, 1, 1, 1, 1),
        (0.75, 2, 0, 0, 1, 1, 1, 1),
        (0.9, 2, 0, 0, 1, 1, 1, 1),
    ],
    "shifted to an IoU of exactly 1/2": [
        (0.5, 1, 0, 0, 1, 1, 0.5, 0.5),
        (0.6, 0, 1, 1, 0, 0, 0, 0),
        (0.75, 0, 1, 1, 0, 0, 0, 0),
        (0.9, 0, 1, 1, 0, 0, 0, 0),
    ],
    "IoU of exactly 0.6": [
        (0.5, 1, 0, 0, 1, 1, 0.6, 0.6),
        (0.6, 1, 0, 0, 1, 1, 0.6, 0.6),
        (0.75, 0, 1, 1, 0, 0, 0, 0),
        (0.9, 0, 1, 1, 0, 0, 0, 0),
    ],
    "IoU of exactly 0.75": [
        (0.5, 1, 0, 0, 1, 1, 0.75, 0.75),
        (0.6, 1, 0, 0, 1, 1, 0.75, 0.75),
        (0.75, 1, 0, 0, 1, 1, 0.75, 0.75),
        (0.9, 0, 1, 1, 0, 0, 0, 0),
    ],
    "two halves of one": [
        (0.5, 1, 1, 0, 0.5, 0.6666667, 0.3333333, 0.5),
        (0.6, 0, 2, 1, 0, 0, 0, 0),
        (0.75, 0, 2, 1, 0, 0, 0, 0),
        (0.9, 0, 2, 1, 0, 0, 0, 0),
    ],
    "two halves of each other": [
        (0.5, 1, 0, 1, 0.5, 0.6666667, 0.3333333, 0.5),
        (0.6, 0, 1, 2, 0, 0, 0, 0),
        (0.75, 0, 1, 2, 0, 0, 0, 0),
        (0.9, 0, 1, 2, 0, 0, 0, 0),
    ],
    "nothing found": [
        (0.5, 0, 0, 2, 0, 0, 0, 0),
        (0.6, 0, 0, 2, 0, 0, 0, 0),
        (0.75, 0, 0, 2, 0, 0, 0, 0),
        (0.9, 0, 0, 2, 0, 0, 0, 0),
    ],
    "nothing there": [
        (0.5, 0, 2, 0, 0, 0, 0, 0),
        (0.6, 0, 2, 0, 0, 0, 0, 0),
        (0.75, 0, 2, 0, 0, 0, 0, 0),
        (0.9, 0, 2, 0, 0, 0, 0, 0),
    ],
    "no background": [
        (0.5, 2, 0, 0, 1, 1, 0.775, 0.775),
        (0.6, 2, 0, 0, 1, 1, 0.775, 0.775),
        (0.75, 2, 0, 0, 1, 1, 0.775, 0.775),
        (0.9, 0, 2, 2, 0, 0, 0, 0),
    ],
    "two rows": [
        (0.5, 2, 1, 0, 0.6666667, 0.8, 0.6666667, 0.8333334),
        (0.6, 2, 1, 0, 0.6666667, 0.8, 0.6666667, 0.8333334),
        (0.75, 1, 2, 1, 0.25, 0.4, 0.4, 1),
        (0.9, 1, 2, 1, 0.25, 0.4, 0.4, 1),
    ],
}


def judge_of(true: object, found: object) -> ImageJudge:
    images = [np.array(each, np.int32) for each in (true, found)]
    hw = (images[0].shape[0], images[0].shape[1])
    sets = [
        label_image_to_instances(image, categories=truth_with().instances.categories)
        for image in images
    ]
    truth = truth_with(*sets[0].masks, image_hw=hw)
    return ImageJudge(truth=truth, found=Found(instances=sets[1]), kind="mask", score=0.0)


def pairs_of(*triples: tuple[int, int, float]) -> Pairs:
    true, found, ious = zip(*triples, strict=True)
    return Pairs(true=np.array(true), found=np.array(found), ious=np.array(ious, float))


@pytest.mark.parametrize("name", CASES)
def test_counts_are_those_of_stardist(name: str) -> None:
    judge = judge_of(*CASES[name])
    of_masks, of_labels = judge.mask_counts(), judge.label_counts()
    for iou, *expected in STARDIST[name]:
        for counts in (of_labels, of_masks):
            found = counts[IOU_THRESHOLDS.index(iou)]
            values = (found.num_true, found.num_false, found.num_missed)
            assert values == tuple(expected[:3]), iou
            shares = (found.accuracy, found.f1, found.pq)
            # StarDist divides in 32 bits
            assert shares == pytest.approx(expected[3:6], abs=1e-6), iou
            mean = 0.0 if not found.num_true else found.mean_iou
            assert mean == pytest.approx(expected[6], abs=1e-6)


def test_nothing_there_and_nothing_found_has_no_figure() -> None:
    # StarDist says 0 here, as if everything were wrong
    nothing = [[0, 0, 0]]
    counts = judge_of(nothing, nothing).label_counts()[0]
    assert counts == Counts()
    assert all(math.isnan(each) for each in (counts.accuracy, counts.f1, counts.pq))
    assert (counts + Counts(num_true=1, iou_sum=0.5)).accuracy == 1


def test_as_many_as_possible_are_matched_before_the_best() -> None:
    # the best pair alone would leave one object and one prediction without a partner
    pairs = pairs_of((0, 0, 0.95), (0, 1, 0.45), (1, 0, 0.45))
    matches = best_matches(pairs, 0.4)
    assert sorted(zip(matches.true, matches.found, strict=True)) == [(0, 1), (1, 0)]
    # where the lower ones do not count, the best one does
    assert best_matches(pairs, 0.7).ious.tolist() == [0.95]


def test_of_equally_many_the_highest_sum_of_iou_is_matched() -> None:
    matches = best_matches(pairs_of((0, 0, 0.6), (0, 1, 0.8), (3, 2, 0.5)), 0.5)
    assert sorted(zip(matches.true, matches.found, strict=True)) == [(0, 1), (3, 2)]
    assert best_matches(pairs_of((0, 0, 0.6)), 0.61).ious.size == 0


def test_greedy_matching_takes_the_highest_score_first() -> None:
    pairs = pairs_of((0, 0, 0.9), (0, 1, 0.6), (1, 0, 0.6))
    matches = greedy_matches(pairs, np.array([0.3, 0.8]), 0.5)
    assert sorted(zip(matches.true, matches.found, strict=True)) == [(0, 1), (1, 0)]
    matches = greedy_matches(pairs, np.array([0.8, 0.3]), 0.5)
    assert list(zip(matches.true, matches.found, strict=True)) == [(0, 0)]


def test_pairs_of_masks_share_pixels_and_not_only_their_boxes() -> None:
    # an L and the square in its corner
    corner = np.ones((4, 4), bool)
    corner[:2, 2:] = False
    true = truth_with(rectangle(0, 0, 4, 4), rectangle(10, 10, 14, 12)).instances
    over = instances_of(
        [rectangle(2, 0, 4, 2), rectangle(2, 2, 6, 4), rectangle(30, 30, 31, 31)], IMAGE_HW
    )
    pairs = mask_pairs(true, over)
    assert list(zip(pairs.true, pairs.found, strict=True)) == [(0, 0), (0, 1)]
    assert pairs.ious.tolist() == [4 / 16, 4 / 20]


def test_pairs_of_boxes_may_have_fractions() -> None:
    pairs = box_pairs(np.array([[0, 0, 2, 2.0]]), np.array([[0.5, 0, 2.5, 2], [2, 0, 3, 1]]))
    assert (pairs.true.tolist(), pairs.found.tolist()) == ([0], [0])
    assert pairs.ious.tolist() == [3 / 5]


def test_pairs_of_label_images_go_by_the_numbers() -> None:
    pairs = label_pairs(np.array([[1, 1, 3, 0]]), np.array([[2, 2, 2, 2]]))
    assert list(zip(pairs.true, pairs.found, strict=True)) == [(0, 1), (2, 1)]
    assert pairs.ious.tolist() == [2 / 4, 1 / 4]


def test_ignored_predictions_are_no_errors_unless_they_match() -> None:
    matches = pairs_of((0, 1, 0.7))
    ignored = np.array([False, True, True])
    counts = count_matches(matches, num_true=2, num_found=3, is_ignored=ignored)
    assert (counts.num_true, counts.num_false, counts.num_missed) == (1, 1, 1)
    assert counts.iou_sum == 0.7


def test_hidden_predictions_count_as_masks_and_not_in_label_images() -> None:
    small, large = rectangle(2, 2, 5, 5), rectangle(0, 0, 10, 10)
    truth = truth_with(large)
    # the better one covers the other
    found = Found(instances=found_with((large, 0.9), (small, 0.6)))
    judge = ImageJudge(truth=truth, found=found, kind="mask", score=0.5)
    assert judge.label_counts()[0].accuracy == 1
    assert judge.mask_counts()[0].accuracy == 0.5
    # on top of it, it takes its pixels
    found = Found(instances=found_with((large, 0.6), (small, 0.9)))
    judge = ImageJudge(truth=truth, found=found, kind="mask", score=0.5)
    counts = judge.label_counts()[0]
    assert (counts.num_true, counts.num_false, counts.iou_sum) == (1, 1, 0.91)
