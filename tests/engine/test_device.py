"""Devices by name."""

import psutil
import pytest

from napari_deeppixel.core.errors import DeviceError
from napari_deeppixel.engine.device import (
    Device,
    device_description,
    free_memory,
    list_devices,
    pick_device,
)
from napari_deeppixel.engine.torch_gate import torch


def test_the_cpu_is_always_there_and_last() -> None:
    devices = list_devices()
    assert devices[-1].id == "cpu"
    assert devices[-1].name.startswith("CPU, ")
    assert len({device.id for device in devices}) == len(devices)


def test_auto_takes_the_first_and_cpu_the_cpu() -> None:
    assert pick_device("auto") == pick_device() == list_devices()[0].id
    assert pick_device("cpu") == "cpu"


@pytest.mark.parametrize("device", ["cuda:77", "tpu", "", "CPU"])
def test_a_device_that_is_not_here_is_an_error_that_lists_those_that_are(device: str) -> None:
    with pytest.raises(DeviceError, match=f"no device '{device}' on .*: use .*cpu"):
        pick_device(device)


def test_free_memory_is_told_where_it_is_known() -> None:
    card = Device(id="cuda:0", name="A card", free_bytes=3 * 2**30)
    assert card.description == "A card (3.0 GiB free)"
    assert Device(id="cpu", name="CPU").description == "CPU"
    assert device_description("cpu").startswith("CPU, ")
    assert device_description("cuda:77") == "cuda:77"


def test_a_network_may_take_what_is_free_and_what_torch_keeps_unused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (100, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 70)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 30)
    assert free_memory("cuda:0") == 140
    assert 0 < free_memory("cpu") < psutil.virtual_memory().total
