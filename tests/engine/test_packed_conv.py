"""Packed convolutions against torch's plain ones."""

from typing import Any

import pytest
import torch

from napari_deeppixel.engine import packed_conv
from napari_deeppixel.engine.packed_conv import PackedConv


@pytest.fixture(params=["oneDNN", "plain"])
def _with_and_without_onednn(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if request.param == "plain":
        monkeypatch.setattr(packed_conv, "has_onednn", lambda _dtype: False)


@pytest.mark.usefixtures("_with_and_without_onednn")
@pytest.mark.parametrize(
    ("kernel", "settings"),
    [
        (1, {}),
        (3, {"padding": (1, 1)}),
        (7, {"padding": (3, 3), "stride": (2, 2)}),
        (1, {"stride": (2, 2)}),
        (3, {"padding": (1, 1), "groups": 2}),
    ],
)
@pytest.mark.parametrize("has_relu", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_packed_convolution_gives_what_torchs_gives(
    kernel: int, settings: dict[str, Any], has_relu: bool, dtype: Any
) -> None:
    torch.manual_seed(0)
    groups = settings.get("groups", 1)
    weight, bias = torch.randn(6, 4 // groups, kernel, kernel).to(dtype), torch.randn(6).to(dtype)
    conv = PackedConv(weight, bias, has_relu=has_relu, **settings)
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    for shape in ((1, 4, 9, 14), (3, 4, 16, 16), (0, 4, 9, 9)):
        images = torch.randn(shape).to(dtype).contiguous(memory_format=torch.channels_last)
        want = torch.nn.functional.conv2d(
            images.double(), weight.double(), bias.double(), **settings
        )
        scale = want.abs().max() if want.numel() else 1
        have = conv(images)
        assert have.dtype == dtype
        expected = want.relu() if has_relu else want
        assert torch.allclose(have.double(), expected, rtol=0, atol=tolerance * scale)
        if len(images) == 0:
            continue
        add = torch.randn_like(have)
        expected = want + add.double()
        have = conv(images, add)
        expected = expected.relu() if has_relu else expected
        assert torch.allclose(have.double(), expected, rtol=0, atol=2 * tolerance * scale)


def test_a_type_that_onednn_refuses_is_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise RuntimeError("the processor cannot do that")

    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_convolution_weight", refuse)
    assert not packed_conv.has_onednn.__wrapped__(torch.bfloat16)
