"""The folder of a recording: its names, its lock, and what makes it whole after a crash."""

import contextlib
import json
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import filelock

from napari_deeppixel.core.atomic import atomic_file
from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.live.av_errors import without_password
from napari_deeppixel.live.instance_lines import write_coco_of_lines, write_table_of_lines
from napari_deeppixel.live.label_files import rebuild_labels

ABOUT = "recording.json"
LINES = "instances.jsonl"
TABLE = "instances.csv"
COCO = "instances.json"
_LOCK = ".lock"
_PACKAGES = ("napari-deeppixel", "av", "numpy", "tifffile", "zarr")


class RecordError(DeepPixelError):
    """A recording cannot be begun or finished."""


def fresh_folder(path: Path) -> Path:
    """Make a folder and return it: the path, or ``path-2``, … where there is something already.

    Raises
    ------
    RecordError
        If it cannot be made.
    """
    number = 1
    while True:
        folder = path if number == 1 else path.with_name(f"{path.name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        except OSError as error:
            raise RecordError(f"cannot record to {folder}: {error}") from error
        else:
            return folder


def finish_recording(folder: Path) -> Path:
    """Make a recording whole whose program died; return its COCO file.

    All frames whose line was written are in it. Label images that lack some of them are drawn
    anew. A recording that is whole already stays as it is.

    Raises
    ------
    RecordError
        If the folder holds no recording, it is still being recorded, or cannot be written.
    """
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        lock = locked(folder)
    except (OSError, ValueError) as error:
        raise RecordError(f"{folder}: not a recording ({error})") from error
    try:
        if (folder / LINES).exists():
            write_table_of_lines(folder / LINES, folder / TABLE)
            rebuild_labels(folder, [part["file"] for part in about["labels"]], folder / LINES)
            complete(folder, about | {"ended": about.get("ended") or "interrupted"})
    except OSError as error:
        raise RecordError(f"{folder}: the recording cannot be finished ({error})") from error
    finally:
        unlock(folder, lock)
    return folder / COCO


def complete(folder: Path, about: dict[str, Any]) -> None:
    """Write the COCO file of a folder and the last of ``recording.json``.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    num_results, num_instances = write_coco_of_lines(folder / LINES, folder / COCO)
    counts = {"results": num_results, "instances": num_instances}
    write_about(folder, about | {"is_complete": True} | counts)
    # all that they hold is in the COCO file now
    (folder / LINES).unlink()


def locked(folder: Path) -> filelock.BaseFileLock:
    """Return the right to write in a folder; the system takes it back when the process dies.

    Raises
    ------
    RecordError
        If another recorder has it.
    """
    # not of one thread: what begins a recording and what writes it may be two
    lock = filelock.FileLock(folder / _LOCK, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise RecordError(f"{folder} is still being recorded: stop that first") from None
    return lock


def unlock(folder: Path, lock: filelock.BaseFileLock) -> None:
    """Give the right to write back."""
    lock.release()
    # Windows removes no file that is open
    with contextlib.suppress(OSError):
        (folder / _LOCK).unlink(missing_ok=True)


def about_recording(source: str, video: str) -> dict[str, Any]:
    """Return what ``recording.json`` says at the beginning."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    return {
        "source": without_password(source),
        "started": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "is_complete": False,
        "video": video,
        "models": [],
        "videos": [],
        "labels": [],
        "versions": versions,
    }


def write_about(folder: Path, values: dict[str, Any]) -> None:
    """Write ``recording.json``, whole or not at all.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    with atomic_file(folder / ABOUT) as file:
        file.write(json.dumps(values, indent=1).encode())
