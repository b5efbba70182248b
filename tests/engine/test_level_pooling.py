"""Levels chosen without asking which: the same features, bit by bit, as torchvision's."""

import pytest
import torch
from torchvision.ops import MultiScaleRoIAlign

from napari_deeppixel.engine.level_pooling import as_rois, pool_levels

SIDE_Y, SIDE_X = 128, 192


def feature_maps(names: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        name: torch.randn(2, 5, SIDE_Y >> level, SIDE_X >> level)
        for level, name in enumerate(names, start=2)
    }


def boxes_of_all_sizes() -> torch.Tensor:
    """Return boxes (2, R, 4): random ones, the whole image, none at all, and at the borders."""
    generator = torch.Generator().manual_seed(1)
    centres = torch.rand((2, 60, 2), generator=generator) * torch.tensor([SIDE_X, SIDE_Y])
    half = torch.exp(torch.rand((2, 60, 2), generator=generator) * 5) / 2
    special = torch.tensor(
        [
            [0, 0, SIDE_X, SIDE_Y],
            [0, 0, 0, 0],
            [SIDE_X - 0.2, SIDE_Y - 0.3, SIDE_X, SIDE_Y],
            [0, 0, 0.1, SIDE_Y],
        ]
    ).expand(2, 4, 4)
    limits = torch.tensor([SIDE_X, SIDE_Y] * 2)
    boxes = torch.cat([centres - half, centres + half], dim=-1)
    return torch.cat([torch.minimum(boxes.clamp(min=0), limits), special], dim=1)


@pytest.mark.parametrize("names", ["0123", "012", "0"])
@pytest.mark.parametrize("sampling_ratio", [2, 0])
@pytest.mark.parametrize("scale", [224, 64])
def test_features_are_those_of_torchvision(names: str, sampling_ratio: int, scale: int) -> None:
    pool = MultiScaleRoIAlign(
        list(names), output_size=7, sampling_ratio=sampling_ratio, canonical_scale=scale
    )
    # "pool" is a level for proposals alone
    levels = feature_maps(names) | {"pool": torch.zeros(2, 5, 1, 1)}
    boxes = boxes_of_all_sizes()
    expected = pool(levels, list(boxes), [(SIDE_Y, SIDE_X)] * 2)
    assert torch.equal(pool_levels(pool, levels, as_rois(boxes)), expected)
    assert (expected.abs().amax(dim=(1, 2, 3)) > 0).sum() > 120


def test_rois_carry_the_index_of_their_image() -> None:
    boxes = torch.arange(16.0).reshape(2, 2, 4)
    assert as_rois(boxes)[:, 0].tolist() == [0, 0, 1, 1]
    assert torch.equal(as_rois(boxes)[:, 1:], boxes.reshape(4, 4))
