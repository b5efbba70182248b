"""What a process knows of a dataset's annotation files, so that a list need not read them all.

A record counts only while its file has the size and time that it had when it was read.
"""

import contextlib
import os
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.progress import CancelToken
from napari_deeppixel.dataset.formats.hostile import read_json
from napari_deeppixel.dataset.image_entry import ImageRecord, record_of_document
from napari_deeppixel.dataset.index_file import IndexFile
from napari_deeppixel.dataset.write_lock import write_lock

SUFFIX = ".json"
# FAT counts in 2 s: a file that was written so shortly ago may change again without a trace
_UNSURE_S = 2.0
_BATCH = 500


def name_key(name: str) -> str:
    """Return what two names have in common that some systems take for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def is_left_over(name: str) -> bool:
    """Whether a file is what a dead process left while it wrote."""
    last = name.rpartition("/")[2]
    return last.startswith(".") and last.endswith(".part")


def walk_files(folder: Path) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    """Yield relative name (with ``/``) and entry of all files below; links are not followed."""
    pending = [(str(folder), "")]
    while pending:
        place, prefix = pending.pop()
        try:
            scan = os.scandir(place)
        except (FileNotFoundError, NotADirectoryError):
            continue
        with scan:
            for entry in scan:
                if entry.is_dir(follow_symlinks=False):
                    pending.append((entry.path, f"{prefix}{entry.name}/"))
                else:
                    yield f"{prefix}{entry.name}", entry


def read_record(path: Path, name: str) -> ImageRecord:
    """Return what an annotation file says; a record with a problem if it cannot be read."""
    size = mtime_ns = 0
    try:
        status = path.stat(follow_symlinks=False)
        size, mtime_ns = status.st_size, status.st_mtime_ns
        if path.is_symlink():
            raise AnnotationError("a link: put the file itself here")
        record = record_of_document(read_json(path), name)
    except AnnotationError as error:
        record = ImageRecord(name=name, problem=_without_path(str(error), path))
    except OSError as error:
        record = ImageRecord(name=name, problem=error.strerror or str(error))
    return replace(record, size=size, mtime_ns=mtime_ns)


def _without_path(message: str, path: Path) -> str:
    return message.removeprefix(f"{path}: ")


class Index:
    """Records of all annotation files, kept in memory and in the dataset's index; for any thread.

    A thread that asks for one file never waits for another one that reads thousands.

    Parameters
    ----------
    root
        The dataset.
    """

    def __init__(self, root: Path) -> None:
        self._root, self._folder = root, root / "annotations"
        self._file = IndexFile(root)
        # one walk at a time; the other lock is held for moments only
        self._walking, self._mutex = threading.RLock(), threading.RLock()
        self._records: dict[str, ImageRecord] = {}
        self._finder: _Finder | None = None
        # read too shortly after they were written
        self._unsure: set[str] = set()
        # not in the index yet, as far as this process knows
        self._unsaved: set[str] = set()
        self._folder_times: dict[str, int] | None = None

    # lists

    def records(
        self,
        *,
        cancel: CancelToken | None = None,
        on_read: Callable[[int, int], None] | None = None,
    ) -> dict[str, ImageRecord]:
        """Return name → record of all annotation files; those that changed are read.

        Parameters
        ----------
        cancel
            Looked at before each file that is read.
        on_read
            Called with how many files were read, of how many.

        Raises
        ------
        RunCancelled
            If somebody asked to stop; what was read until then is in the index.
        """
        self._walk(self._save_if_free, cancel, on_read)
        return self.seen()

    def seen(self) -> dict[str, ImageRecord]:
        """Return all records as this process last saw them."""
        with self._mutex:
            return dict(self._records)

    def warm_up(self) -> None:
        """Look at all files, unless this process did before: for who is about to take the lock."""
        if self._folder_times is None:
            self.records()

    def latest(self) -> dict[str, ImageRecord]:
        """Return all records for one who has the lock; walks only if somebody else wrote."""
        with self._mutex:
            is_current = self._is_current()
        if not is_current:
            self._walk(self._save)
        return self.seen()

    def _walk(
        self,
        save: Callable[[], None],
        cancel: CancelToken | None = None,
        on_read: Callable[[int, int], None] | None = None,
    ) -> None:
        with self._walking:
            times: dict[str, int] = {}
            stamps = self._stamps(times)
            changed = self._take_over(stamps)
            try:
                for done, name in enumerate(changed):
                    if cancel is not None:
                        cancel.raise_if_cancelled()
                    self._read(name)
                    if on_read is not None:
                        on_read(done + 1, len(changed))
                    if done % _BATCH == _BATCH - 1:
                        save()
            finally:
                save()
            with self._mutex:
                self._folder_times = times

    def _take_over(self, stamps: dict[str, tuple[int, int]]) -> list[str]:
        """Take over new lines of the index; return names of files that must be read."""
        with self._mutex:
            self._read_lines()
            for name in self._records.keys() - stamps.keys():
                self._forget(name)
            return [name for name, stamp in stamps.items() if self._differs(name, stamp)]

    def _read_lines(self) -> None:
        for record in self._file.read_new():
            self._put(record)
            self._unsaved.discard(record.name)

    def _read(self, name: str) -> None:
        with self._mutex:
            before = self._records.get(name)
        record = read_record(self._folder / f"{name}{SUFFIX}", name)
        with self._mutex:
            # unless another thread wrote it meanwhile
            if self._records.get(name) is before:
                self._put(record)
                if record != before:
                    self._unsaved.add(name)

    # single files

    def known(self, name: str) -> ImageRecord | None:
        """Return the record of one annotation file, which is read if it changed; None: no file."""
        path = self._folder / f"{name}{SUFFIX}"
        try:
            status = path.stat(follow_symlinks=False)
        except (OSError, ValueError):
            with self._mutex:
                self._forget(name)
            return None
        with self._mutex:
            if not self._differs(name, (status.st_size, status.st_mtime_ns)):
                return self._records[name]
        self._read(name)
        with self._mutex:
            return self._records.get(name)

    def with_sha256(self, sha256: str) -> list[str]:
        """Return names of the images with a content, as far as is known."""
        with self._mutex:
            return sorted(self._found.by_sha256.get(sha256, ())) if sha256 else []

    def twins(self, name: str) -> list[str]:
        """Return names that some systems take for this one, itself among them."""
        with self._mutex:
            return sorted(self._found.by_key.get(name_key(name), ()))

    @property
    def _found(self) -> "_Finder":
        # only who adds images needs it
        if self._finder is None:
            self._finder = _Finder()
            for record in self._records.values():
                self._finder.add(record)
        return self._finder

    # for those who have the lock

    def note(self, record: ImageRecord) -> None:
        """Take a file over that was just written; the caller has the lock."""
        with self._mutex:
            was_current = self._is_current(but_for=record.name)
            self._put(record)
            self._file.append([record])
            self._unsaved.discard(record.name)
            if was_current:
                self._folder_times = self._times_now(record.name)

    def note_gone(self, name: str) -> None:
        """Take over that a file was removed; the caller has the lock."""
        with self._mutex:
            self._forget(name)
            self._folder_times = None
            self._file.append_gone(name)

    def rebuild(self) -> None:
        """Read all annotation files anew and write the index; the caller has the lock."""
        with self._walking, self._mutex:
            for name in list(self._records):
                self._forget(name)
            for name in self._stamps({}):
                self._read(name)
            self._rewrite()

    def lines(self) -> tuple[dict[str, ImageRecord], int]:
        """Return what the index on the disk says now, and how many of its lines are torn."""
        with self._mutex:
            return self._file.all_lines()

    def _save(self) -> None:
        with self._mutex:
            names = sorted((self._unsaved - self._unsure) & self._records.keys())
            if names:
                self._file.append([self._records[name] for name in names])
                self._unsaved.difference_update(names)

    def _save_if_free(self) -> None:
        with self._mutex:
            is_wasteful = self._file.is_wasteful(len(self._records))
            if not is_wasteful and self._unsaved <= self._unsure:
                return
        # who may not write here, or would have to wait, saves it another time
        with contextlib.suppress(AnnotationError, OSError), write_lock(self._root, wait_s=0):
            with self._mutex:
                self._read_lines()
                if is_wasteful:
                    self._rewrite()
            self._save()

    def _rewrite(self) -> None:
        sure = [record for name, record in self._records.items() if name not in self._unsure]
        self._file.rewrite(sure)
        self._unsaved -= {record.name for record in sure}

    # what is in memory

    def _put(self, record: ImageRecord) -> None:
        self._forget(record.name)
        self._records[record.name] = record
        if self._finder is not None:
            self._finder.add(record)
        if time.time() - record.mtime_ns / 1e9 < _UNSURE_S:
            self._unsure.add(record.name)

    def _forget(self, name: str) -> None:
        record = self._records.pop(name, None)
        self._unsure.discard(name)
        if record is not None and self._finder is not None:
            self._finder.discard(record)

    def _differs(self, name: str, stamp: tuple[int, int]) -> bool:
        record = self._records.get(name)
        if record is None or name in self._unsure:
            return True
        return (record.size, record.mtime_ns) != stamp

    # what is on the disk

    def _stamps(self, times: dict[str, int]) -> dict[str, tuple[int, int]]:
        """Return name → size and time of all annotation files; fill in the times of folders."""
        times[""] = _mtime_ns(self._folder)
        stamps: dict[str, tuple[int, int]] = {}
        for name, entry in walk_files(self._folder):
            folder = name.rpartition("/")[0]
            while folder and folder not in times:
                times[folder] = _mtime_ns(self._folder / folder)
                folder = folder.rpartition("/")[0]
            if name.endswith(SUFFIX) and not is_left_over(name):
                # a file that goes in this moment is none
                with contextlib.suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    stamps[name.removesuffix(SUFFIX)] = (status.st_size, status.st_mtime_ns)
        return stamps

    def _is_current(self, but_for: str = "") -> bool:
        """Return whether nobody else has written since this process last looked.

        All who have the lock add a line to the index; others change the time of a folder.
        """
        times = self._folder_times
        if times is None or not self._file.is_read_to_its_end():
            return False
        skipped = {"", *_parents(but_for)} if but_for else set()
        return all(
            _mtime_ns(self._folder / folder) == then
            for folder, then in times.items()
            if folder not in skipped
        )

    def _times_now(self, name: str) -> dict[str, int]:
        touched = {folder: _mtime_ns(self._folder / folder) for folder in ("", *_parents(name))}
        return {**(self._folder_times or {}), **touched}


class _Finder:
    """Finds names of images by what they hold, and by what other systems take them for."""

    def __init__(self) -> None:
        self.by_sha256: dict[str, set[str]] = {}
        self.by_key: dict[str, set[str]] = {}

    def add(self, record: ImageRecord) -> None:
        self.by_key.setdefault(name_key(record.name), set()).add(record.name)
        self.by_sha256.setdefault(record.file.sha256, set()).add(record.name)

    def discard(self, record: ImageRecord) -> None:
        self.by_key.get(name_key(record.name), set()).discard(record.name)
        self.by_sha256.get(record.file.sha256, set()).discard(record.name)


def _parents(name: str) -> list[str]:
    parts = name.split("/")[:-1]
    return ["/".join(parts[: n + 1]) for n in range(len(parts))]


def _mtime_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
