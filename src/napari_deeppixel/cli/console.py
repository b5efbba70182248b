"""How the command line speaks: tables on stdout, everything else on stderr."""

import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, TextIO

from napari_deeppixel.core.progress import Progress

EXIT_BAD_INPUT = 2
# 128 + SIGINT, as shells count
EXIT_INTERRUPTED = 130

_REFRESH_S = 0.1


def say(text: str = "") -> None:
    """Write a line to stdout, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def complain(text: str) -> None:
    """Write a line to stderr: what is wrong and what to do."""
    one_line = " ".join(text.split())
    sys.stderr.write(f"napari-deeppixel: {one_line}\n")
    sys.stderr.flush()


def say_json(value: Any) -> None:
    """Write one line of strict JSON to stdout; numbers that are none (NaN) become null."""
    say(json.dumps(_without_nan(value), allow_nan=False))


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(inside) for key, inside in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inside) for inside in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class ProgressLine:
    """One line on a terminal that is rewritten in place; nothing elsewhere.

    Parameters
    ----------
    stream
        Where to write; None: stderr.
    is_wanted
        False keeps it silent even on a terminal.
    """

    def __init__(self, stream: TextIO | None = None, *, is_wanted: bool = True) -> None:
        self._stream = stream or sys.stderr
        self._is_live = is_wanted and self._stream.isatty()
        self._shown_at = -math.inf

    def show(self, text: str) -> None:
        """Show a text, at most ten times a second."""
        if self._is_live and time.monotonic() - self._shown_at >= _REFRESH_S:
            self._shown_at = time.monotonic()
            # \x1b[K: erase the rest of the line
            self._stream.write(f"\r{text}\x1b[K")
            self._stream.flush()

    def show_event(self, event: Progress) -> None:
        """Show what is done, and how far it is."""
        self.show(f"{event.message}  {event.fraction:.0%}")

    def clear(self) -> None:
        """Take the line away, so that others can write."""
        if self._is_live and self._shown_at > -math.inf:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._shown_at = -math.inf

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()


@dataclass(frozen=True, kw_only=True)
class Table:
    """Columns of text; the first is aligned to the left, numbers to the right.

    Attributes
    ----------
    headings
        One for each column.
    widths
        Characters of each column; longer texts push the rest of their row.
    """

    headings: tuple[str, ...]
    widths: tuple[int, ...]

    def head(self) -> str:
        """Return the headings and a line under them."""
        return f"{self.row(self.headings)}\n{'  '.join('-' * width for width in self.widths)}"

    def row(self, cells: Sequence[str]) -> str:
        """Return one row."""
        first, *others = zip(cells, self.widths, strict=True)
        aligned = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        return "  ".join(aligned).rstrip()


def number(value: float, digits: int) -> str:
    """Return a number for a table; a dash for NaN."""
    return "-" if math.isnan(value) else f"{value:,.{digits}f}"
