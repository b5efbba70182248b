"""Devices by name."""

import pytest

from napari_deeppixel.core.errors import DeviceError
from napari_deeppixel.engine.device import Device, device_description, list_devices, pick_device


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
