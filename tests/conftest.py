"""What every test needs: settings of its own, no network, quick property tests."""

import atexit
import itertools
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Before napari and torch are imported: neither reads nor writes what the person at this computer
# has, napari's settings, downloaded weights, models and journals. Processes that a test starts get
# the same.
_SCRATCH = tempfile.TemporaryDirectory(prefix="napari-deeppixel-tests-")
atexit.register(_SCRATCH.cleanup)
os.environ["NAPARI_CONFIG"] = str(Path(_SCRATCH.name) / "napari.yaml")
os.environ["TORCH_HOME"] = str(Path(_SCRATCH.name) / "torch")
os.environ["NAPARI_DEEPPIXEL_JOURNAL"] = str(Path(_SCRATCH.name) / "journal")
os.environ["NAPARI_DEEPPIXEL_MODELS"] = str(Path(_SCRATCH.name) / "models")

# no deadline: a shared CI machine is slow now and then, and says nothing about the code.
# function_scoped_fixture: tmp_path and qtbot may be shared by the examples of one test
settings.register_profile(
    "tests",
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("tests")


_library_numbers = itertools.count()


@pytest.fixture(autouse=True)
def _own_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a library of models of its own, which is not there until it is needed."""
    folder = Path(_SCRATCH.name) / "models" / str(next(_library_numbers))
    monkeypatch.setenv("NAPARI_DEEPPIXEL_MODELS", str(folder))


class NetworkBlockedError(OSError):
    """A test asked for another computer."""


def _is_this_computer(host: Any) -> bool:
    name = host.decode() if isinstance(host, bytes) else host
    return name in (None, "", "localhost", "::1") or str(name).startswith("127.")


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Iterator[None]:
    """Answer each way out with an error at once, as a computer without a network does.

    Addresses on this computer stay open: torch's process groups and local test servers need them.
    """
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def connect_here(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_this_computer(address[0]):
            raise NetworkBlockedError(f"tests have no network, asked for {address}")
        connect(self, address)

    def look_up_here(host: Any, *args: Any, **kwargs: Any) -> Any:
        if not _is_this_computer(host):
            raise NetworkBlockedError(f"tests have no network, asked for {host}")
        return look_up(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect_here)
        patch.setattr(socket, "getaddrinfo", look_up_here)
        yield
