"""Which devices there are, what people call them, and how much memory is free."""

import platform
from dataclasses import dataclass

import psutil

from napari_deeppixel.core.errors import DeviceError
from napari_deeppixel.engine.torch_gate import torch


@dataclass(frozen=True, kw_only=True)
class Device:
    """Something to run a network on.

    Attributes
    ----------
    id
        As torch names it: ``cpu``, ``cuda:0``, ``mps``.
    name
        What people call it.
    free_bytes
        Free memory; None where it cannot be asked for.
    """

    id: str
    name: str
    free_bytes: int | None = None

    @property
    def description(self) -> str:
        """Name and free memory, for people."""
        if self.free_bytes is None:
            return self.name
        return f"{self.name} ({self.free_bytes / 2**30:.1f} GiB free)"


def list_devices() -> list[Device]:
    """Return the devices of this machine, the fastest first; the CPU is always the last."""
    devices = [
        Device(
            id=f"cuda:{index}",
            name=torch.cuda.get_device_name(index),
            free_bytes=torch.cuda.mem_get_info(index)[0],
        )
        for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    ]
    if torch.backends.mps.is_available():
        devices.append(Device(id="mps", name="Apple GPU"))
    threads = torch.get_num_threads()
    name = f"CPU, {threads} thread{'s' if threads > 1 else ''}"
    free = psutil.virtual_memory().available
    devices.append(Device(id="cpu", name=name, free_bytes=free))
    return devices


def pick_device(device: str = "auto") -> str:
    """Return the torch name of a device; ``auto`` is the first of `list_devices`.

    Raises
    ------
    DeviceError
        If there is no such device here.
    """
    devices = list_devices()
    if device == "auto":
        return devices[0].id
    wanted = "cuda:0" if device == "cuda" else device
    if wanted not in [known.id for known in devices]:
        known = ", ".join(known.id for known in devices)
        raise DeviceError(
            f"no device {device!r} on {platform.node() or 'this machine'}: use {known}"
        )
    return wanted


def free_memory(device: str) -> int:
    """Return the bytes that a network could still take on a device."""
    if not device.startswith("cuda"):
        return int(psutil.virtual_memory().available)
    # torch keeps what it has freed, which the driver counts as used
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0] + kept)


def device_load(device: str) -> str:
    """Return how busy a device is, for people: ``GPU 81 %, 3.2 of 24.0 GiB`` or ``CPU 64 %``.

    Of the CPU, since the last call; of a GPU the share only where nvidia-ml-py is installed.
    """
    if not device.startswith("cuda"):
        return f"CPU {psutil.cpu_percent():.0f} %"
    free, total = torch.cuda.mem_get_info(device)
    memory = f"{(total - free) / 2**30:.1f} of {total / 2**30:.1f} GiB"
    try:
        return f"GPU {torch.cuda.utilization(device)} %, {memory}"
    except (ModuleNotFoundError, RuntimeError):
        return f"GPU {memory}"


def device_description(device: str) -> str:
    """Return name and free memory of a device, for people."""
    for known in list_devices():
        if known.id == device:
            return known.description
    return device


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error of torch says that a device's memory ran out."""
    # torch has no class of its own for the CPU's
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
