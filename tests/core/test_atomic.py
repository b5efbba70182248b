"""Files that are there whole or not at all."""

import os
from pathlib import Path

import pytest

from napari_deeppixel.core.atomic import atomic_file, sync_folder


def test_file_takes_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with atomic_file(path) as file:
        file.write(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert os.listdir(tmp_path) == ["a.json"]


def test_older_file_stays_as_it_was_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"older")
    with pytest.raises(ZeroDivisionError), atomic_file(path) as file:
        file.write(bytes([1 // 0]))
    assert path.read_bytes() == b"older"
    assert os.listdir(tmp_path) == ["a.json"]


def test_content_is_on_the_disk_before_the_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, seen = tmp_path / "a", []
    monkeypatch.setattr(os, "fsync", lambda _: seen.append(path.exists()))
    with atomic_file(path) as file:
        file.write(b"x")
    assert seen == [False, True]


def test_disk_error_during_the_sync_reaches_the_caller_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"), atomic_file(tmp_path / "a") as file:
        file.write(b"x")
    assert os.listdir(tmp_path) == []


def test_syncing_a_folder_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sync_folder(tmp_path / "gone")
