"""The proposals that the fast suppression chooses against torchvision's."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import batched_nms

from napari_deeppixel.engine import kernels as kernels_module
from napari_deeppixel.engine.kernels import wait_for_kernels
from napari_deeppixel.engine.nms_jit import fill_best
from napari_deeppixel.engine.proposals import FastProposals


@pytest.fixture(params=["kernels", "no kernels"])
def _with_and_without_kernels(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert wait_for_kernels()
    if request.param == "no kernels":
        monkeypatch.setattr(kernels_module, "_ready", {})


def rpn(keep: int, *, score: float = 0.0) -> Any:
    return RegionProposalNetwork(
        AnchorGenerator(((8,), (16,)), ((1.0,), (1.0,))),
        RPNHead(4, 1),
        *(0.7, 0.3, 64, 0.5),
        pre_nms_top_n={"training": 200, "testing": 150},
        post_nms_top_n={"training": 100, "testing": keep},
        nms_thresh=0.6,
        score_thresh=score,
    ).eval()


def candidates(num_images: int) -> tuple[Any, Any]:
    """Boxes of two levels (200 and 60 anchors), some without area or outside, and their logits."""
    torch.manual_seed(0)
    centre, size = torch.rand(num_images, 260, 2) * 100, torch.rand(num_images, 260, 2) * 30
    size[:, ::13] = 0
    return torch.cat([centre - size / 2, centre + size / 2], dim=2), torch.randn(num_images, 260)


@pytest.mark.usefixtures("_with_and_without_kernels")
@pytest.mark.parametrize(("keep", "score"), [(30, 0.0), (1000, 0.0), (1000, 0.6), (5, 0.9999)])
def test_two_images_get_torchvisions_proposals(keep: int, score: float) -> None:
    slow = rpn(keep, score=score)
    fast = FastProposals.of(slow, slow.head)
    boxes, logits = candidates(2)
    shapes = [(100, 100), (80, 90)]
    want = slow.filter_proposals(boxes, logits, shapes, [200, 60])
    have = fast.filter_proposals(boxes, logits, shapes, [200, 60])
    for wanted, got in zip(want[0], have[0], strict=True):
        assert torch.equal(wanted, got)
    for wanted, got in zip(want[1], have[1], strict=True):
        # the last bit of torch's sigmoid depends on where in a tensor a value stands
        assert torch.allclose(wanted, got, rtol=3e-7)
    assert type(slow) is RegionProposalNetwork


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(0, 12)] * 4, st.integers(0, 2)), max_size=40),
    st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    st.integers(1, 50),
)
def test_the_kernel_keeps_what_torchvision_keeps(
    rows: list[tuple[int, ...]], threshold: float, limit: int
) -> None:
    numbers = np.array(rows, np.float32).reshape(-1, 5)
    boxes = numbers[:, :4] + np.array([0, 0, 13, 13], np.float32)
    groups = numbers[:, 4].astype(np.int64)
    scores = torch.linspace(1, 0, len(boxes))
    want = batched_nms(torch.from_numpy(boxes), scores, torch.from_numpy(groups), threshold)
    kept = np.empty(limit, np.int64)
    count = fill_best(boxes, groups, threshold, kept)
    assert kept[:count].tolist() == want[:limit].tolist()
