"""Where the journal of an image lies, and the files in its folder.

A folder holds *generations*: ``snapshot-3.jsonl.gz`` is a whole session, ``log-3.jsonl`` what was
done after it, ``log-4.jsonl`` what was done after that. Once ``snapshot-4.jsonl.gz`` is there, all
of generation 3 goes.
"""

import contextlib
import hashlib
import json
import os
import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import platformdirs

from napari_deeppixel.core.atomic import atomic_file, sync_folder
from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.core.image import ImageArray

ROOT_VARIABLE = "NAPARI_DEEPPIXEL_JOURNAL"

_KEY_LENGTH = 24
_SAMPLED_PLANES = 16
_SAMPLED_PIXELS = 65_536  # of a plane
_BLOCK = 64  # pixels along the edge of a block, in planes with more than that

_GENERATION = re.compile(r"(snapshot|log)-(\d+)\.jsonl(\.gz)?")


_ASIDE = "earlier-"
_ANSWERED = "answered"


class JournalLockedError(DeepPixelError):
    """Another window edits the same image."""


def journal_root() -> Path:
    """Return the folder of all journals; the variable ``NAPARI_DEEPPIXEL_JOURNAL`` overrides it."""
    chosen = os.environ.get(ROOT_VARIABLE)
    return Path(chosen or Path(platformdirs.user_data_dir("napari-deeppixel")) / "journal")


def journal_folder(image: ImageArray) -> Path:
    """Return the folder of an image's journal; see `image_key` for what it costs."""
    return journal_root() / image_key(image)[:_KEY_LENGTH]


def image_key(image: ImageArray) -> str:
    """Return a key of an image's pixels, so that a renamed or moved file finds its journal.

    BLAKE2b over shape, type, axes and a sample: 16 planes spread evenly, each as a whole up to
    65,536 pixels, else 16 blocks of 64 x 64 pixels on a grid. Images that differ elsewhere only
    share a key. Reads pixels, which may take long: not for the GUI thread.
    """
    dtype = np.dtype(image.pixels.dtype).newbyteorder("<")
    shape = tuple(int(size) for size in image.pixels.shape)
    digest = hashlib.blake2b(f"{shape} {dtype.str} {image.axes}".encode(), digest_size=20)
    planes = int(np.prod(image.lead_shape))
    for place in _spread(planes, _SAMPLED_PLANES):
        index = tuple(int(i) for i in np.unravel_index(place, image.lead_shape))
        for region in _sample_regions(image.image_hw):
            pixels = image.plane(index if image.lead_shape else (), region_xyxy=region)
            digest.update(np.ascontiguousarray(pixels, dtype).tobytes())
    return digest.hexdigest()


def _spread(count: int, most: int) -> list[int]:
    """Return up to `most` of the places 0 … count - 1, the first and the last among them."""
    return sorted({int(place) for place in np.linspace(0, count - 1, min(count, most))})


def _sample_regions(image_hw: tuple[int, int]) -> Iterable[tuple[int, int, int, int]]:
    height, width = image_hw
    if height * width <= _SAMPLED_PIXELS:
        return [(0, 0, width, height)]
    per_axis = round((_SAMPLED_PIXELS / _BLOCK**2) ** 0.5)
    return [
        (x, y, min(x + _BLOCK, width), min(y + _BLOCK, height))
        for y in _spread(max(1, height - _BLOCK + 1), per_axis)
        for x in _spread(max(1, width - _BLOCK + 1), per_axis)
    ]


class FolderLock:
    """The right to write in a journal's folder; the system takes it back when the process dies."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # not of one thread: the writer gives it back
        self._lock = filelock.FileLock(folder / "lock", thread_local=False)
        self._file_id: tuple[int, int] | None = None

    def acquire(self) -> None:
        """Take the right, or see that it is still there; make the folder where it is gone.

        Raises
        ------
        JournalLockedError
            If another window has it.
        OSError
            If the folder cannot be made or written to.
        """
        if self._file_id is not None and self._file_id == self._id_on_disk():
            return
        # the folder went, and with it the lock that others see
        self.release()
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            raise JournalLockedError(self._who_has_it()) from None
        self._file_id = self._id_on_disk()
        owner = {"process": os.getpid(), "host": socket.gethostname(), "since": now_text()}
        write_json(self._folder / "owner.json", owner)

    def release(self) -> None:
        """Give the right back, if it is held."""
        if self._file_id is None:
            return
        if self._file_id == self._id_on_disk():
            with contextlib.suppress(OSError):
                (self._folder / "owner.json").unlink(missing_ok=True)
        self._file_id = None
        self._lock.release(force=True)

    def _id_on_disk(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self._lock.lock_file)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _who_has_it(self) -> str:
        owner = read_json(self._folder / "owner.json")
        here = socket.gethostname()
        host = owner.get("host", here)
        place = "another window" if host == here else f"another window on {host}"
        if host == here and owner.get("process") == os.getpid():
            place = "this napari"
        since = _to_the_minute(str(owner.get("since", "")))
        return f"this image is being edited in {place}{since}: close it there, or press Edit here"


def _to_the_minute(when: str) -> str:
    try:
        local = datetime.fromisoformat(when).astimezone()
    except ValueError:
        return ""
    return f" since {local:%H:%M} ({local:%Y-%m-%d})"


class LogFile:
    """A file that only grows; what could not be written whole is cut off again."""

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        # neither text mode on Windows, nor a copy in the processes that we start
        flags |= getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        self._path = path
        self._descriptor = os.open(path, flags, 0o666)
        self.length = os.fstat(self._descriptor).st_size
        self._is_torn = False

    def append(self, line: bytes) -> None:
        """Write a line to the system, which keeps it if this process dies; not yet to the disk.

        Raises
        ------
        OSError
            If it could not be written, or the file is no longer in its folder.
        """
        if not self.is_in_place():
            raise FileNotFoundError(f"{self._path} is gone")
        self._mend()
        self._is_torn = True
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            # at once, while we live: else a torn line may come to lie in the middle
            with contextlib.suppress(OSError):
                self._mend()
            raise
        self._is_torn = False
        self.length += len(line)

    def _mend(self) -> None:
        if self._is_torn:
            os.ftruncate(self._descriptor, self.length)
            self._is_torn = False

    def is_in_place(self) -> bool:
        """Whether the file is still the one in the folder: Unix lets one write to deleted files."""
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._descriptor))
        except OSError:
            return False

    def sync(self) -> None:
        """Return once the disk has it.

        Raises
        ------
        OSError
            If the disk failed; what was written before may be lost.
        """
        os.fsync(self._descriptor)
        sync_folder(self._path.parent)

    def close(self) -> None:
        """Close the file; a second time, nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


@dataclass(frozen=True, kw_only=True)
class JournalFolder:
    """The files of one image's journal."""

    path: Path

    @property
    def about(self) -> Path:
        """The file that says which image this is about."""
        return self.path / "image.json"

    def log(self, generation: int) -> Path:
        """Return the path of a log."""
        return self.path / f"log-{generation}.jsonl"

    def snapshot(self, generation: int) -> Path:
        """Return the path of a snapshot."""
        return self.path / f"snapshot-{generation}.jsonl.gz"

    def generations(self, kind: str) -> list[int]:
        """Return the generations of which there is a ``snapshot`` or a ``log``, oldest first."""
        matches = map(_GENERATION.fullmatch, (path.name for path in self._files()))
        return sorted(int(match[2]) for match in matches if match and match[1] == kind)

    @property
    def newest(self) -> int:
        """The newest generation; 0 if there is none."""
        return max(*self.generations("snapshot"), *self.generations("log"), 0, 0)

    def contents(self) -> Mapping[str, int]:
        """Return name → bytes of all snapshots and logs."""
        sizes = {}
        for path in self._files():
            # the one that writes it may remove it right now
            with contextlib.suppress(FileNotFoundError):
                if _GENERATION.fullmatch(path.name):
                    sizes[path.name] = path.stat().st_size
        return sizes

    @property
    def last_written(self) -> datetime:
        """When a snapshot or a log was last written to, in local time; 1970 if there is none."""
        times = [0.0]
        for name in self.contents():
            with contextlib.suppress(FileNotFoundError):
                times.append((self.path / name).stat().st_mtime)
        return datetime.fromtimestamp(max(times)).astimezone()

    @property
    def is_aside(self) -> bool:
        """Whether `set_aside` made it."""
        return self.path.name.startswith(_ASIDE)

    @property
    def is_answered(self) -> bool:
        """Whether a person has decided about it; see `mark_answered`."""
        return (self.path / _ANSWERED).exists()

    def mark_answered(self) -> None:
        """Note that a person has decided about it, so that nobody asks again.

        Raises
        ------
        OSError
            If it cannot be noted.
        """
        (self.path / _ANSWERED).touch()

    def asides(self) -> "list[JournalFolder]":
        """Return what was set aside and nobody has decided about, newest first."""
        paths = sorted(self.path.glob(f"{_ASIDE}*"), key=_aside_order, reverse=True)
        folders = [JournalFolder(path=path) for path in paths]
        return [folder for folder in folders if not folder.is_answered]

    def _files(self) -> list[Path]:
        return list(self.path.iterdir()) if self.path.is_dir() else []

    def remove_before(self, generation: int) -> None:
        """Remove what a newer generation has made superfluous, and left-overs of a crash.

        Raises
        ------
        OSError
            If a file cannot be removed.
        """
        for path in self._files():
            match = _GENERATION.fullmatch(path.name)
            is_left_over = path.suffix == ".part" and f".{os.getpid()}." not in path.name
            if is_left_over or (match and int(match[2]) < generation):
                path.unlink(missing_ok=True)

    def set_aside(self) -> Path | None:
        """Move all snapshots and logs into a folder ``earlier-…``; return it, None if none is.

        Raises
        ------
        OSError
            If a file cannot be moved.
        """
        names = self.contents()
        if not names:
            return None
        stem = f"{_ASIDE}{datetime.now():%Y%m%d-%H%M%S}"
        aside = self.path / stem
        for attempt in range(2, 1000):
            if not aside.exists():
                break
            aside = self.path / f"{stem}-{attempt}"
        aside.mkdir()
        # logs first: alone they are no journal, so a crash in between brings nothing back twice
        for name in sorted(names):
            (self.path / name).replace(aside / name)
        sync_folder(self.path)
        return aside


def _aside_order(path: Path) -> tuple[str, int]:
    """Return date and time, and which of that second it is."""
    _, date, time, *attempt = [*path.name.split("-"), "", ""][:4]
    return f"{date}-{time}", int(attempt[0]) if attempt[0].isdigit() else 1


def now_text() -> str:
    """Return the time as people here read it, with the offset to UTC."""
    return datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a small JSON file, whole or not at all."""
    with atomic_file(path) as file:
        file.write(json.dumps(values, indent=2).encode())


def read_json(path: Path) -> dict[str, Any]:
    """Return what a small JSON file holds; nothing if it is missing or damaged."""
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
