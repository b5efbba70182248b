"""Where the journal of an image lies, and the files in its folder.

A folder holds *generations*: ``snapshot-3.jsonl.gz`` is a whole session, ``log-3.jsonl`` what was
done after it, ``log-4.jsonl`` what was done after that. Once ``snapshot-5.jsonl.gz`` is there, all
before generation 3 goes: should the disk damage the newest snapshot, the one before it and the logs
since hold the same.
"""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import platformdirs

from napari_deeppixel.core.atomic import atomic_file, sync_folder
from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.core.image import ImageArray
from napari_deeppixel.edits.journal_key import image_key

ROOT_VARIABLE = "NAPARI_DEEPPIXEL_JOURNAL"

_KEY_LENGTH = 24
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
        self._is_named = False

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

    @property
    def name(self) -> str:
        """Name in the folder."""
        return self._path.name

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
        if not self._is_named:
            sync_folder(self._path.parent)
            self._is_named = True

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

    def before(self, generation: int) -> int:
        """Return the generation of the snapshot before; the same one if there is none."""
        older = [each for each in self.generations("snapshot") if each < generation]
        return max(older, default=generation)

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
            if is_left_over and path.is_dir():
                shutil.rmtree(path)
            elif is_left_over or (match and int(match[2]) < generation):
                path.unlink(missing_ok=True)

    def remove_generation(self, generation: int) -> None:
        """Remove a generation that did not come about.

        Raises
        ------
        OSError
            If a file cannot be removed.
        """
        # a snapshot without its log would hide what is before it
        self.snapshot(generation).unlink(missing_ok=True)
        self.log(generation).unlink(missing_ok=True)

    def set_aside(self, names: Collection[str] | None = None) -> Path | None:
        """Move snapshots and logs into a folder ``earlier-…``; return it, None if there are none.

        If the process dies meanwhile, all is in the old place, or in the new one, or in both.

        Parameters
        ----------
        names
            Of the files; all by default.

        Raises
        ------
        OSError
            If a file cannot be moved.
        """
        names = self.contents() if names is None else names
        if not names:
            return None
        aside = self._free_aside()
        part = self.path / f".{aside.name}.{os.getpid()}.part"
        part.mkdir()
        try:
            for name in names:
                _put_beside(self.path / name, part / name)
            sync_folder(part)
            part.rename(aside)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        sync_folder(self.path)
        # the oldest first: what is left is whole until the last snapshot goes, and then nothing
        for name in sorted(names, key=_removal_order):
            (self.path / name).unlink(missing_ok=True)
        sync_folder(self.path)
        return aside

    def _free_aside(self) -> Path:
        stem = f"{_ASIDE}{datetime.now():%Y%m%d-%H%M%S}"
        aside = self.path / stem
        for attempt in range(2, 1000):
            if not aside.exists():
                break
            aside = self.path / f"{stem}-{attempt}"
        return aside


def _put_beside(path: Path, other: Path) -> None:
    """Give a file a second name, or a copy where the disk does not know such names."""
    try:
        other.hardlink_to(path)
    except FileNotFoundError:
        raise
    except (OSError, NotImplementedError):
        # with its time, by which it is known again
        shutil.copy2(path, other)
        with other.open("rb+") as file:
            os.fsync(file.fileno())


def _removal_order(name: str) -> tuple[int, bool]:
    """Return generation, and whether it is a log: these go after their snapshot."""
    match = _GENERATION.fullmatch(name)
    assert match is not None  # only such are set aside
    return int(match[2]), match[1] == "log"


class OwnFiles:
    """Knows the files that a journal wrote from those that somebody else put in their place."""

    def __init__(self) -> None:
        self._marks: dict[str, tuple[int, ...]] = {}

    def note(self, path: Path) -> None:
        """Remember a file that is written; it must not grow any more."""
        self._marks[path.name] = _mark(path)

    def are_not_ours(self, folder: JournalFolder, logs: Collection[LogFile]) -> list[str]:
        """Return the names of the files that are neither remembered nor among open logs."""
        open_names = {log.name for log in logs if log.is_in_place()}
        names = folder.contents().keys() - open_names
        return sorted(n for n in names if self._marks.get(n) != _mark(folder.path / n))


def _mark(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns


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
