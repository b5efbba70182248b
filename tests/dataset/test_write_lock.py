"""One process writes at a time."""

import errno
import threading
from pathlib import Path
from typing import Any

import filelock
import pytest

from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.dataset.write_lock import write_lock


def test_who_waits_too_long_is_told(tmp_path: Path) -> None:
    with (
        write_lock(tmp_path),
        pytest.raises(AnnotationError, match=r"another program has been writing for 0\.05 s"),
        write_lock(tmp_path, wait_s=0.05),
    ):
        pass
    with write_lock(tmp_path, wait_s=0):
        pass


def test_threads_of_one_process_keep_each_other_out(tmp_path: Path) -> None:
    order: list[str] = []
    is_waiting = threading.Event()

    def second() -> None:
        is_waiting.set()
        with write_lock(tmp_path):
            order.append("second")

    thread = threading.Thread(target=second)
    with write_lock(tmp_path):
        thread.start()
        assert is_waiting.wait(60)
        order.append("first")
    thread.join(60)
    assert order == ["first", "second"]


def test_an_error_gives_the_lock_back(tmp_path: Path) -> None:
    with pytest.raises(KeyError), write_lock(tmp_path):
        raise KeyError
    with write_lock(tmp_path, wait_s=0):
        pass


class NoLocks(filelock.FileLock):
    """What a network disk without locks says."""

    def acquire(self, *_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOLCK, "No locks available")


def test_on_a_disk_without_locks_a_file_stands_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filelock, "FileLock", NoLocks)
    soft = tmp_path / "dataset.lock.soft"
    with write_lock(tmp_path):
        assert soft.exists()
        told = pytest.raises(AnnotationError, match=r"remove dataset\.lock\.soft")
        with told, write_lock(tmp_path, wait_s=0.05):
            pass
    assert not soft.exists()


def test_a_folder_that_is_gone_is_not_made_anew(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="is gone"), write_lock(tmp_path / "set"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    # whatever rights a person has, a folder cannot be opened as a file
    (tmp_path / "dataset.lock").mkdir()
    with pytest.raises(AnnotationError, match="cannot be written to"), write_lock(tmp_path):
        pass
