"""Convolutions by tiles against the direct sum."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_deeppixel.engine import winograd_jit
from napari_deeppixel.engine.kernels import wait_for_kernels
from napari_deeppixel.engine.winograd import MAX_CHANNELS, WinogradConv, winograd_fits


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
    ("shape", "stride", "padding", "fits"),
    [
        ((4, 4, 3, 3), (1, 1), (1, 1), True),
        ((MAX_CHANNELS, MAX_CHANNELS, 3, 3), (1, 1), (1, 1), True),
        ((4, 4, 3, 3), (2, 2), (1, 1), False),
        ((4, 4, 3, 3), (1, 1), (0, 0), False),
        ((4, 4, 1, 1), (1, 1), (0, 0), False),
        ((MAX_CHANNELS + 1, 4, 3, 3), (1, 1), (1, 1), False),
        ((4, MAX_CHANNELS + 1, 3, 3), (1, 1), (1, 1), False),
    ],
)
def test_only_plain_3_by_3_convolutions_fit(
    shape: tuple[int, ...], stride: tuple[int, int], padding: tuple[int, int], fits: bool
) -> None:
    assert winograd_fits(torch.zeros(shape), stride=stride, padding=padding) == fits


def test_the_kernels_have_room_for_the_widest_layer() -> None:
    # more would be written beyond their buffers
    assert winograd_jit._ROW >= MAX_CHANNELS
