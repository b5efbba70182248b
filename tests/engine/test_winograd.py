"""Convolutions by tiles against the direct sum."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_deeppixel.engine.kernels import wait_for_kernels
from napari_deeppixel.engine.winograd import WinogradConv, winograd_fits


@pytest.fixture(scope="module", autouse=True)
def _kernels() -> None:
    assert wait_for_kernels()


def direct(images: Any, weight: Any, bias: Any, *, has_relu: bool, add: Any = 0.0) -> Any:
    """The exact result, in float64."""
    sums = torch.nn.functional.conv2d(images.double(), weight.double(), bias.double(), padding=1)
    return (sums + add).relu() if has_relu else sums + add


def made(*shape: int) -> Any:
    return torch.randn(shape).contiguous(memory_format=torch.channels_last)


@settings(max_examples=60, deadline=None)
@given(
    num=st.integers(1, 3),
    height=st.integers(1, 18),
    width=st.integers(1, 23),
    num_in=st.sampled_from([1, 3, 16, 20]),
    num_out=st.sampled_from([1, 5, 16]),
    has_relu=st.booleans(),
    adds=st.booleans(),
)
def test_every_size_gives_the_direct_sums(
    num: int, height: int, width: int, num_in: int, num_out: int, has_relu: bool, adds: bool
) -> None:
    torch.manual_seed(0)
    images, weight = made(num, num_in, height, width), made(num_out, num_in, 3, 3)
    bias = torch.randn(num_out)
    add = made(num, num_out, height, width) if adds else None
    want = direct(images, weight, bias, has_relu=has_relu, add=0.0 if add is None else add)
    have = WinogradConv(weight, bias, has_relu=has_relu)(images, add)
    assert have.shape == want.shape
    assert (have - want).abs().max() < 3e-5 * max(1, want.abs().max())


def test_the_widest_layers_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    images, weight, bias = made(1, 512, 9, 30), made(512, 512, 3, 3) * 0.02, torch.randn(512)
    conv = WinogradConv(weight, bias, has_relu=True)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    # 3 x 8 tiles of 4 x 4 are fewer than one core's share of work
    assert not conv.suits(images.shape)
    assert conv.suits((1, 512, 30, 30))
    want = direct(images, weight, bias, has_relu=True)
    assert (conv(images) - want).abs().max() < 3e-5 * want.max()


def test_a_small_image_is_left_to_the_direct_convolution() -> None:
    conv = WinogradConv(torch.ones(64, 64, 3, 3), torch.zeros(64), has_relu=False)
    assert not conv.suits((1, 64, 8, 8))
    assert conv.suits((1, 64, 200, 264))


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        ({}, True),
        ({"stride": 2}, False),
        ({"padding": 0}, False),
        ({"dilation": 2}, False),
        ({"kernel_size": 1, "padding": 0}, False),
        ({"groups": 2}, False),
        ({"out_channels": 513}, False),
    ],
)
def test_only_plain_3_by_3_convolutions_fit(changes: dict[str, Any], fits: bool) -> None:
    settings_of = {"in_channels": 4, "out_channels": 4, "kernel_size": 3, "padding": 1} | changes
    assert winograd_fits(torch.nn.Conv2d(**settings_of)) == fits
