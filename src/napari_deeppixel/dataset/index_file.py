"""``index.jsonl``: records of annotation files, a line each, the last one of a name counts.

A cache and never the truth. Lines are added at the end; a torn one is passed over.
"""

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from uuid import uuid4

from napari_deeppixel.dataset.image_entry import ImageRecord

INDEX_NAME = "index.jsonl"
_HEAD = {"format": "napari-deeppixel index", "version": 1}
# lines that count no more, before the file is written anew
_SPARE_LINES = 1000


class IndexFile:
    """The index on the disk, as far as this process has read it; not for several threads.

    Parameters
    ----------
    root
        The dataset.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / INDEX_NAME
        self._num_lines, self._is_foreign = 0, False
        self._read_to: tuple[int, int] = (0, 0)

    def is_read_to_its_end(self) -> bool:
        """Whether nobody else has added a line since `read_new`."""
        return self._end() == self._read_to

    def is_wasteful(self, num_records: int) -> bool:
        """Whether so many records should be written anew instead of added to."""
        return self._is_foreign or self._num_lines > 2 * num_records + _SPARE_LINES

    def read_new(self) -> list[ImageRecord]:
        """Return the records in lines that others, or an earlier process, added."""
        now = self._end()
        if now == self._read_to:
            return []
        is_longer = now[0] == self._read_to[0] and now[1] > self._read_to[1]
        start = self._read_to[1] if is_longer else 0
        lines, end = self._lines_from(start)
        self._num_lines = len(lines) + (self._num_lines if start else 0)
        self._read_to = (now[0], end)
        found = (_record_of_line(line) for line in lines)
        return [record for record in found if record is not None]

    def all_lines(self) -> tuple[dict[str, ImageRecord], int]:
        """Return the records that count, by name, and how many lines are torn."""
        records: dict[str, ImageRecord] = {}
        torn = 0
        for line in self._lines_from(0)[0]:
            record = _record_of_line(line)
            torn += _value_of(line) is None
            if record is not None:
                records[record.name] = record
        return records, torn

    def append(self, records: Iterable[ImageRecord]) -> None:
        """Add records; the caller has the lock. A disk that takes nothing is no error here."""
        lines = [_line(record) for record in records]
        self._append("".join(f"{line}\n" for line in lines))
        self._num_lines += len(lines)

    def append_gone(self, name: str) -> None:
        """Add a line that tells others that somebody wrote; the caller has the lock."""
        self._append(f"{json.dumps({'gone': name})}\n")

    def rewrite(self, records: Iterable[ImageRecord]) -> None:
        """Write the whole index; the caller has the lock.

        Raises
        ------
        OSError
            If it cannot be written; the older one stays.
        """
        lines = [json.dumps(_HEAD), *(_line(record) for record in records)]
        name = f".{INDEX_NAME}.{os.getpid()}-{uuid4().hex[:8]}.part"
        temporary = self._path.with_name(name)
        try:
            with temporary.open("x", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in lines)
            temporary.replace(self._path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        self._num_lines, self._read_to, self._is_foreign = len(lines) - 1, self._end(), False

    def _append(self, text: str) -> None:
        if self._path.is_symlink():
            # never written through; the files are read each time instead
            return
        was_read = self.is_read_to_its_end()
        with contextlib.suppress(OSError), self._path.open("ab+") as file:
            end = file.seek(0, os.SEEK_END)
            if not end:
                text = f"{json.dumps(_HEAD)}\n{text}"
            else:
                file.seek(end - 1)
                # behind a torn line
                text = text if file.read(1) == b"\n" else f"\n{text}"
            file.write(text.encode())
        if was_read:
            self._read_to = self._end()

    def _end(self) -> tuple[int, int]:
        try:
            status = self._path.stat()
        except OSError:
            return 0, 0
        return status.st_ino, status.st_size

    def _lines_from(self, start: int) -> tuple[list[str], int]:
        """Return the whole lines from a place on, without the head, and where they end."""
        try:
            with self._path.open("rb") as file:
                head = file.readline(1000)
                self._is_foreign = _value_of(head.decode(errors="replace")) != _HEAD
                if self._is_foreign:
                    # another version's: as if it were empty
                    return [], self._end()[1]
                start = max(start, len(head))
                file.seek(start)
                data = file.read()
        except OSError:
            return [], 0
        data = data[: data.rfind(b"\n") + 1]
        lines = data.decode(errors="replace").split("\n")[:-1]
        return [line for line in lines if line], start + len(data)


def _line(record: ImageRecord) -> str:
    return json.dumps(record.to_line())


def _record_of_line(line: str) -> ImageRecord | None:
    value: Any = _value_of(line)
    if not isinstance(value, list):
        return None
    try:
        return ImageRecord.of_line(value)
    except (KeyError, TypeError, ValueError):
        return None


def _value_of(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
