"""What may be asked of an engine, and how its answer is filtered."""

from typing import Any

import numpy as np
import pytest

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.engine.base import Prediction, PredictOptions


def prediction(*, max_instances: int = 10) -> Prediction:
    """Return instances of 1, 2, 3 pixels with scores 0.9, 0.5, 0.05; a fourth has no pixel."""
    masks = tuple(
        CroppedMask(pixels=np.ones((1, length), bool), y=length, x=0) for length in (1, 2, 3)
    )
    candidates = InstanceSet(
        image_hw=(5, 8),
        masks=masks,
        categories=CategoryTable.from_names("cell"),
        scores=np.array([0.9, 0.5, 0.05]),
    )
    return Prediction(
        candidates=candidates,
        detection_scores=np.array([0.9, 0.6, 0.5, 0.05]),
        max_instances=max_instances,
    )


@pytest.mark.parametrize(
    ("score", "min_area", "handles"),
    [(0.0, 1, [1, 2, 3]), (0.5, 1, [1, 2]), (0.51, 1, [1]), (1.0, 1, []), (0.0, 2, [2, 3])],
)
def test_at_keeps_what_has_the_score_and_the_area(
    score: float, min_area: int, handles: list[int]
) -> None:
    kept = prediction().at(score=score, min_area=min_area)
    assert kept.handles.tolist() == handles


@pytest.mark.parametrize(
    ("max_instances", "score", "is_capped"),
    [(5, 0.0, False), (4, 0.0, True), (3, 0.5, True), (4, 0.5, False), (1, 0.95, False)],
)
def test_the_cap_counts_all_detections_from_a_score_on_also_without_a_pixel(
    max_instances: int, score: float, is_capped: bool
) -> None:
    assert prediction(max_instances=max_instances).is_capped(score) is is_capped


def test_moved_shifts_the_candidates_into_a_larger_plane() -> None:
    moved = prediction().moved(dy=10, dx=20, image_hw=(30, 40))
    assert moved.candidates.image_hw == (30, 40)
    assert moved.candidates.boxes_xyxy[0].tolist() == [20, 11, 21, 12]
    assert moved.is_capped(0.0) == prediction().is_capped(0.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"score": 1.1}, "score must lie in 0..1, got 1.1"),
        ({"score": -0.1}, "score must lie in 0..1"),
        ({"score": float("nan")}, "score must lie in 0..1"),
        ({"mask_threshold": 2}, "mask_threshold must lie in 0..1"),
        ({"box_nms": -1}, "box_nms must lie in 0..1"),
        ({"max_instances": 0}, "max_instances must be 1 or more, got 0"),
        ({"min_area": 0}, "min_area must be 1 or more, got 0"),
        ({"zoom": 0.05}, "zoom must lie in 0.1..10, got 0.05"),
        ({"zoom": float("nan")}, "zoom must lie in 0.1..10"),
        ({"precision": "int8"}, "precision must be auto, fp32, bf16 or fp16, got 'int8'"),
    ],
)
def test_wrong_options_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PredictOptions(**values)


def test_options_may_sit_at_the_ends_of_their_ranges() -> None:
    options = PredictOptions(score=0, mask_threshold=1, box_nms=0, max_instances=1, min_area=1)
    assert (options.score, options.mask_threshold, options.box_nms) == (0, 1, 0)
