"""RoIAlign on channels-last features against torchvision's."""

from typing import Any

import pytest
import torch
from torchvision.ops import MultiScaleRoIAlign

from napari_deeppixel.engine import kernels as kernels_module
from napari_deeppixel.engine.kernels import wait_for_kernels
from napari_deeppixel.engine.roi_align import FastRoIAlign

IMAGE_HW = (96, 160)


@pytest.fixture(params=["kernels", "no kernels"])
def pools(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """torchvision's pooling and ours, with and without compiled kernels."""
    assert wait_for_kernels()
    if request.param == "no kernels":
        monkeypatch.setattr(kernels_module, "_ready", {})
    pool = MultiScaleRoIAlign(["0", "1", "2"], 7, 2, canonical_scale=32)
    pool(features(), [torch.tensor([[0.0, 0.0, 9.0, 9.0]])], [IMAGE_HW])
    return pool, FastRoIAlign.of(pool)


def features(num: int = 1) -> dict[str, Any]:
    torch.manual_seed(0)
    return {
        str(level): torch.randn(num, 8, IMAGE_HW[0] >> level + 2, IMAGE_HW[1] >> level + 2)
        for level in range(3)
    }


def channels_last(levels: dict[str, Any]) -> dict[str, Any]:
    return {
        name: level.contiguous(memory_format=torch.channels_last) for name, level in levels.items()
    }


def assert_equal_pools(pools: tuple[Any, Any], boxes: list[Any]) -> None:
    levels, sizes = features(len(boxes)), [IMAGE_HW] * len(boxes)
    want = pools[0](levels, boxes, sizes)
    have = pools[1](channels_last(levels), boxes, sizes)
    assert have.shape == want.shape
    if len(want):
        assert (have - want).abs().max() < 2e-6


def test_boxes_of_all_sizes_in_two_images_give_torchvisions_features(
    pools: tuple[Any, Any],
) -> None:
    torch.manual_seed(1)
    centre = torch.rand(2, 300, 2) * torch.tensor([160.0, 96.0])
    size = torch.exp(torch.rand(2, 300, 2) * 5)
    boxes = torch.cat([centre - size / 2, centre + size / 2], dim=2)
    assert_equal_pools(pools, [boxes[0], boxes[1, :17]])


def test_boxes_at_and_beyond_the_border_give_torchvisions_features(
    pools: tuple[Any, Any],
) -> None:
    boxes = [
        [0.0, 0.0, 160.0, 96.0],
        [159.0, 95.0, 160.0, 96.0],
        [-30.0, -30.0, -10.0, -10.0],
        [150.0, 90.0, 190.0, 130.0],
        [200.0, 200.0, 240.0, 240.0],
        [5.0, 5.0, 5.0, 5.0],
        [9.0, 9.0, 4.0, 4.0],
    ]
    assert_equal_pools(pools, [torch.tensor(boxes)])


def test_no_box_gives_no_features(pools: tuple[Any, Any]) -> None:
    assert_equal_pools(pools, [torch.zeros(0, 4)])
    assert_equal_pools(pools, [torch.zeros(0, 4), torch.tensor([[1.0, 2.0, 30.0, 40.0]])])
