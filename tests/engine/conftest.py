"""A server on this computer and an empty cache for what it serves."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.engine.file_server import FileServer


@pytest.fixture
def torch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no proxy between us and the server."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "torch"


@pytest.fixture
def server(torch_home: Path) -> Iterator[FileServer]:
    assert not torch_home.exists()
    server = FileServer()
    yield server
    server.stop()
