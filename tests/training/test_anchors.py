"""Anchors that fit the objects."""

import math

import numpy as np
import pytest
import torch

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.engine.build import build_model
from napari_deeppixel.engine.spec import ModelSpec, slim_spec
from napari_deeppixel.training.anchors import AnchorFit, boxes_in_network, fit_anchors

SLIM = slim_spec("made", CategoryTable.from_names("cell"))
COCO = ModelSpec(
    name="coco",
    architecture="maskrcnn_resnet50_fpn",
    categories=CategoryTable.from_names("cell"),
)


def sides_about(*medians: float) -> np.ndarray:
    """Return a hundred sides about each median, spread by a fifth."""
    spread = np.exp(np.random.default_rng(0).normal(0, 0.2, (len(medians), 100)))
    return (np.array(medians)[:, np.newaxis] * spread).ravel()


def all_sides(fit: AnchorFit) -> list[int]:
    return [side for level in fit.sizes for side in level]


def test_iou_is_that_of_two_boxes_with_one_centre() -> None:
    # 8 x 8 exactly, and 14 x 14 in 16 x 16
    fit = fit_anchors(np.array([[0, 0, 8, 8], [5, 5, 5 + 14, 5 + 14]]), SLIM)

    assert fit.mean_best_iou_before == pytest.approx((1 + 14**2 / 16**2) / 2)
    assert fit.share_matched_before == 1


def test_an_object_counts_as_matched_from_an_iou_of_a_half() -> None:
    spec = slim_spec("made", SLIM.categories, anchor_sizes=((8,), (16,), (32,), (64,)))
    # 64 x 128: half of it is an anchor of 64
    exactly = fit_anchors(np.array([[0.0, 0, 64, 128]]), spec)
    less = fit_anchors(np.array([[0.0, 0, 64, 129]]), spec)

    assert (exactly.share_matched_before, less.share_matched_before) == (1, 0)


def test_anchors_that_match_well_are_kept() -> None:
    fit = fit_anchors(sides_about(10, 20, 40), SLIM)

    assert fit.sizes == SLIM.anchor_sizes
    assert not fit.is_new
    assert fit.share_matched_before == fit.share_matched_after > 0.9
    assert fit.sentence().startswith("Anchors of 8, 12, 16, 24, 32, 48, 64, 110 px are kept")


@pytest.mark.parametrize("median", [5.0, 200.0, 400.0])
def test_anchors_that_match_badly_give_way_to_ones_that_fit(median: float) -> None:
    fit = fit_anchors(sides_about(median), SLIM)

    assert fit.is_new
    assert fit.share_matched_before < 0.6
    assert fit.share_matched_after > 0.95
    assert fit.mean_best_iou_after > fit.mean_best_iou_before + 0.2
    assert [len(level) for level in fit.sizes] == [2, 2, 2, 2]
    assert fit.sentence().startswith("New anchors of ")


@pytest.mark.parametrize("medians", [(3.0,), (20.0,), (9.0, 300.0), (700.0,)])
def test_sides_rise_and_none_is_too_small_for_its_level(medians: tuple[float, ...]) -> None:
    fit = fit_anchors(sides_about(*medians), SLIM, is_from_scratch=True)
    sides = all_sides(fit)

    assert sides == sorted(set(sides))
    assert all(side % 2 == 0 for side in sides)
    least = (4, 16, 32, 64)
    assert all(min(level) >= side for level, side in zip(fit.sizes, least, strict=True))


def test_sides_that_serve_stay_where_they_are() -> None:
    # nothing but some large objects is badly matched
    fit = fit_anchors(np.concatenate([sides_about(10, 20, 40), sides_about(280)[:30]]), SLIM)

    assert fit.is_new
    assert len(set(all_sides(fit)) & {8, 12, 16, 24, 32, 48, 64, 110}) >= 5
    assert max(all_sides(fit)) > 200


def test_torchvision_takes_the_sides_as_they_are() -> None:
    fit = fit_anchors(sides_about(200), SLIM)
    spec = slim_spec("made", SLIM.categories, anchor_sizes=fit.sizes)
    generator = build_model(spec).rpn.anchor_generator
    cells = generator.generate_anchors(fit.sizes[-1], spec.aspect_ratios)

    assert (cells[:, 2] - cells[:, 0]).tolist() == list(fit.sizes[-1])
    assert torch.equal(cells[:, 2], -cells[:, 0])


def test_aspect_ratios_of_the_network_count() -> None:
    # 128 / sqrt(2) x 128 * sqrt(2) is an anchor; of four times the width, a square shares a third
    assert fit_anchors(np.array([[0, 0, 90, 181]]), COCO).mean_best_iou_before > 0.98
    squares_alone = fit_anchors(np.array([[0, 0, 60, 240]] * 50), SLIM)

    assert squares_alone.mean_best_iou_after == pytest.approx(1 / 3, abs=0.01)
    assert squares_alone.share_matched_after == 0
    assert "others would hardly match more" in squares_alone.sentence()


def test_a_network_without_training_takes_what_fits_better_at_all() -> None:
    objects = sides_about(20)
    trained, untrained = (
        fit_anchors(objects, SLIM),
        fit_anchors(objects, SLIM, is_from_scratch=True),
    )

    assert not trained.is_new
    assert untrained.is_new
    assert untrained.mean_best_iou_after > trained.mean_best_iou_after
    assert untrained.share_matched_after >= untrained.share_matched_before


def test_the_same_objects_in_any_order_give_the_same_anchors() -> None:
    objects = sides_about(5, 300)
    shuffled = np.random.default_rng(1).permutation(objects)

    assert fit_anchors(objects, SLIM).sizes == fit_anchors(shuffled, SLIM).sizes


def test_a_few_objects_change_nothing() -> None:
    fit = fit_anchors(np.full(5, 400.0), SLIM, is_from_scratch=True)

    assert not fit.is_new
    assert fit.sentence().endswith("5 objects, too few to fit others to.")


def test_no_object_changes_nothing() -> None:
    fit = fit_anchors(np.zeros((0, 4)), SLIM)

    assert fit.sizes == SLIM.anchor_sizes
    assert math.isnan(fit.share_matched_before)
    assert fit.sentence() == "Anchors stay as they are: there is no object to fit them to."


def test_objects_too_small_for_the_network_are_told() -> None:
    assert "magnify the images" in fit_anchors(sides_about(4), SLIM).sentence()
    assert "magnify" not in fit_anchors(sides_about(20), SLIM).sentence()


def test_boxes_are_those_that_the_network_sees() -> None:
    box = [[10, 20, 30, 60]]
    zoomed = slim_spec("made", SLIM.categories, zoom=2.0)

    assert boxes_in_network(box, (100, 200), SLIM).tolist() == box
    assert boxes_in_network(box, (100, 200), zoomed).tolist() == [[20, 40, 60, 120]]
    # the shorter side becomes 800 px, unless the longer one would pass 1333
    assert boxes_in_network(box, (400, 500), COCO).tolist() == [[20, 40, 60, 120]]
    assert boxes_in_network(box, (100, 2666), COCO).tolist() == [[5, 10, 15, 30]]
