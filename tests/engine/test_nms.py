"""The boxes that stay are torchvision's, or it is said that they may not be."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torchvision.ops import batched_nms, nms

from napari_deeppixel.engine.nms import best_first, keep_best

# on a small grid many boxes are equal, touch, or overlap by exactly the threshold
corners = st.integers(0, 12)
box = st.tuples(corners, corners, st.integers(0, 6), st.integers(0, 6), st.integers(0, 2))


def as_boxes(drawn: list[tuple[int, ...]]) -> torch.Tensor:
    x, y, width, height, _ = np.array(drawn, np.float32).T
    return torch.from_numpy(np.stack([x, y, x + width, y + height], axis=1))


def chain(length: int) -> torch.Tensor:
    """Return boxes each of which overlaps its neighbours alone: by 7 of 13 pixels."""
    left = torch.arange(length) * 3.0
    return torch.stack([left, torch.zeros(length), left + 10, torch.ones(length)], dim=1)


@settings(max_examples=200)
@given(st.lists(box, min_size=1, max_size=40), st.sampled_from([0.0, 0.2, 0.4, 0.5, 0.7, 1.0]))
@example([(0, 0, 5, 1, 0), (0, 0, 2, 1, 0)], 0.4)  # an IoU of float32(0.4), which is above 0.4
@example([(3, 3, 0, 0, 0), (3, 3, 0, 0, 0)], 0.0)  # no area
def test_the_same_boxes_stay_as_in_torchvision(drawn: list[tuple[int, ...]], iou: float) -> None:
    boxes = as_boxes(drawn)
    scores = torch.linspace(1, 0, len(boxes))
    is_valid = torch.ones(len(boxes), dtype=torch.bool)
    keep, has_converged = keep_best(boxes, is_valid, iou=iou, iterations=len(boxes))
    assert has_converged
    assert keep.nonzero()[:, 0].tolist() == nms(boxes, scores, iou).tolist()

    groups = torch.tensor([group for *_, group in drawn])
    keep, _ = keep_best(boxes, is_valid, iou=iou, groups=groups, iterations=len(boxes))
    assert keep.nonzero()[:, 0].tolist() == batched_nms(boxes, scores, groups, iou).tolist()


def test_crowds_settle_in_the_usual_number_of_rounds() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        low = torch.rand((3, 500, 2), generator=generator) * 100
        boxes = torch.cat([low, low + 5 + torch.rand(low.shape, generator=generator) * 20], dim=-1)
        keep, has_converged = keep_best(boxes, torch.ones(3, 500, dtype=torch.bool), iou=0.5)
        assert has_converged.tolist() == [True] * 3
        for image in range(3):
            expected = nms(boxes[image], torch.linspace(1, 0, 500), 0.5)
            assert keep[image].nonzero()[:, 0].tolist() == expected.tolist()


def test_a_box_that_takes_no_part_removes_none() -> None:
    boxes = chain(3)
    keep, _ = keep_best(boxes, torch.tensor([False, True, True]), iou=0.5)
    assert keep.tolist() == [False, True, False]


@pytest.mark.parametrize(("iterations", "is_final"), [(16, False), (39, False), (40, True)])
def test_a_chain_longer_than_the_rounds_is_told(iterations: int, is_final: bool) -> None:
    keep, has_converged = keep_best(
        torch.stack([chain(40), torch.zeros(40, 4)]),
        torch.ones(2, 40, dtype=torch.bool),
        iou=0.5,
        iterations=iterations,
    )
    assert has_converged.tolist() == [is_final, True]
    # the last round only finds that the one before was right
    assert (keep[0].tolist() == [True, False] * 20) == (iterations >= 39)


def test_the_best_come_first_and_equal_ones_in_their_order() -> None:
    scores = torch.tensor([[0.5, 0.9, 0.5, 0.0, 0.7]])
    is_valid = torch.tensor([[True, False, True, True, True]])
    order, is_best = best_first(scores, is_valid, 9)
    assert order.tolist() == [[4, 0, 2, 3, 1]]
    assert is_best.tolist() == [[True, True, True, True, False]]
    order, is_best = best_first(scores, is_valid, 2)
    assert order.tolist() == [[4, 0]]
    assert is_best.tolist() == [[True, True]]
