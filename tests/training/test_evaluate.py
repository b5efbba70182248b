"""Average precision against cases a person can count."""

import math

import numpy as np
import pytest
from tests.training.datasets import CELLS, disc, instances_of, rectangle, sample_of
from tests.training.evaluation.made import truth_with

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.training.evaluate import Figures, average_precision, figures_of
from napari_deeppixel.training.evaluation.truth import Maskless

IMAGE_HW = (40, 60)


def truth(*masks: CroppedMask) -> InstanceSet:
    return instances_of(masks, IMAGE_HW)


def found(*scored: tuple[CroppedMask, float]) -> InstanceSet:
    return instances_of(
        [mask for mask, _ in scored], IMAGE_HW, scores=np.array([score for _, score in scored])
    )


LEFT, RIGHT, NOTHING_THERE = disc(12, 20, 8), disc(45, 20, 8), rectangle(25, 2, 30, 8)


def test_all_found_exactly_is_1() -> None:
    figures = average_precision([truth(LEFT, RIGHT)], [found((LEFT, 0.9), (RIGHT, 0.3))])
    assert (figures.ap, figures.ap50, figures.ap75) == (1, 1, 1)
    assert (figures.num_images, figures.num_objects) == (1, 2)


def test_none_found_is_0() -> None:
    empty = InstanceSet.empty(IMAGE_HW, CELLS)
    assert average_precision([truth(LEFT)], [empty]).ap == 0
    assert average_precision([truth(LEFT)], [found((NOTHING_THERE, 0.9))]).ap == 0


def test_nothing_to_find_has_no_figure() -> None:
    empty = InstanceSet.empty(IMAGE_HW, CELLS)
    for predicted in (empty, found((LEFT, 0.9))):
        figures = average_precision([empty], [predicted])
        assert math.isnan(figures.ap)
        assert math.isnan(figures.ap50)
        assert figures.num_objects == 0


def test_a_false_positive_above_the_only_hit_halves_the_precision() -> None:
    figures = average_precision([truth(LEFT)], [found((NOTHING_THERE, 0.9), (LEFT, 0.8))])
    assert figures.ap == pytest.approx(0.5)


def test_a_false_positive_below_all_hits_costs_nothing() -> None:
    figures = average_precision([truth(LEFT)], [found((NOTHING_THERE, 0.2), (LEFT, 0.8))])
    assert figures.ap == 1


def test_a_false_positive_between_two_hits() -> None:
    predicted = found((LEFT, 0.9), (NOTHING_THERE, 0.8), (RIGHT, 0.7))
    figures = average_precision([truth(LEFT, RIGHT)], [predicted])
    # COCO's 101 recalls: precision 1 up to recall 0.50, then two of three
    assert figures.ap == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)


def test_a_second_hit_on_one_object_is_a_false_positive() -> None:
    predicted = found((LEFT, 0.9), (LEFT, 0.8), (RIGHT, 0.7))
    figures = average_precision([truth(LEFT, RIGHT)], [predicted])
    assert figures.ap == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)


def test_half_of_the_objects_found_is_51_of_101_recalls() -> None:
    figures = average_precision([truth(LEFT, RIGHT)], [found((LEFT, 0.9))])
    assert figures.ap == pytest.approx(51 / 101)


def test_a_mask_of_two_thirds_counts_up_to_iou_0_65() -> None:
    whole, part = rectangle(0, 0, 6, 2), rectangle(0, 0, 4, 2)
    figures = average_precision([truth(whole)], [found((part, 0.9))])
    assert (figures.ap50, figures.ap75) == (1, 0)
    # 0.50, 0.55, 0.60 and 0.65 of ten thresholds
    assert figures.ap == pytest.approx(0.4)


def test_overlapping_objects_are_matched_by_their_masks() -> None:
    over = disc(18, 20, 8)
    figures = average_precision([truth(LEFT, over)], [found((over, 0.9), (LEFT, 0.8))])
    assert figures.ap == 1


def test_an_object_in_another_image_is_no_hit() -> None:
    images = [truth(LEFT), truth(RIGHT)]
    assert average_precision(images, [found((LEFT, 0.9)), found((RIGHT, 0.8))]).ap == 1
    assert average_precision(images, [found((RIGHT, 0.9)), found((LEFT, 0.8))]).ap == 0


@pytest.mark.parametrize("count", [1, 9, 150])
def test_all_objects_of_a_crowded_image_count_and_not_only_100(count: int) -> None:
    masks = [
        rectangle(4 * (n % 15), 4 * (n // 15), 4 * (n % 15) + 3, 4 * (n // 15) + 3)
        for n in range(count)
    ]
    scores = np.linspace(1, 0.1, count)
    image_hw = (40, 60)
    figures = average_precision(
        [instances_of(masks, image_hw)], [instances_of(masks, image_hw, scores=scores)]
    )
    assert figures.ap == 1
    assert figures.num_objects == count
    # and those beyond the hundredth can be missed
    if count == 150:
        fewer = instances_of(masks[:100], image_hw, scores=scores[:100])
        assert average_precision([instances_of(masks, image_hw)], [fewer]).ap < 0.7


def test_categories_are_averaged_and_those_without_an_object_left_out() -> None:
    table = CategoryTable.from_names("cat", "dog", "bird")

    def animals(masks: list[CroppedMask], ids: list[int], **fields: np.ndarray) -> InstanceSet:
        return instances_of(masks, IMAGE_HW, table, category_ids=np.array(ids), **fields)

    annotated = animals([LEFT, RIGHT], [1, 2])
    right = animals([LEFT, RIGHT], [1, 2], scores=np.array([0.9, 0.8]))
    mixed_up = animals([LEFT, RIGHT], [1, 1], scores=np.array([0.9, 0.8]))
    bird_too = animals([LEFT, RIGHT, NOTHING_THERE], [1, 2, 3], scores=np.array([0.9, 0.8, 0.99]))
    assert average_precision([annotated], [right]).ap == 1
    assert average_precision([annotated], [mixed_up]).ap == 0.5
    assert average_precision([annotated], [bird_too]).ap == 1


def test_figures_of_samples_count_what_reaches_the_score() -> None:
    samples = [sample_of(truth(LEFT, RIGHT)), sample_of(truth(RIGHT))]
    predictions = [found((LEFT, 0.9), (NOTHING_THERE, 0.8), (RIGHT, 0.3)), found((RIGHT, 0.7))]
    figures = figures_of(samples, predictions, 0.5)
    # of what counts, 2 are right, 1 wrong and 1 missed; AP takes all
    assert figures.accuracy50 == 0.5
    assert figures.count_error == 0
    assert figures.ap == pytest.approx((34 + 67 * 3 / 4) / 101)
    assert figures_of(samples, predictions, 0.85).count_error == 1
    assert figures_of(samples, predictions, 0.3).accuracy50 == 3 / 4
    assert (figures.num_images, figures.num_objects) == (2, 3)


def test_figures_of_samples_leave_out_what_nobody_knows() -> None:
    sample = sample_of(truth(LEFT), ignored=rectangle(25, 0, 60, 40))
    figures = figures_of([sample], [found((LEFT, 0.7), (NOTHING_THERE, 0.9), (RIGHT, 0.9))], 0.5)
    assert (figures.ap, figures.accuracy50, figures.count_error) == (1, 1, 0)


def test_figures_that_were_not_asked_for_are_none() -> None:
    figures = Figures(ap=1, ap50=1, ap75=1, num_images=1, num_objects=1)
    assert math.isnan(figures.accuracy50)
    assert math.isnan(average_precision([truth(LEFT)], [found((LEFT, 0.9))]).count_error)


def test_an_object_with_a_box_alone_is_one_to_count() -> None:
    box = Maskless(
        category_id=1, box_xywh=(37, 12, 17, 17), area=289, is_crowd=False, is_empty=False
    )
    one = truth_with(LEFT, maskless=(box,))
    assert figures_of([one], [found((LEFT, 0.9))], 0.5).count_error == 1
    assert figures_of([one], [found((LEFT, 0.9), (RIGHT, 0.9))], 0.5).count_error == 0
