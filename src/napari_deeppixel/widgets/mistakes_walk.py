"""Goes through a list of label mistakes, and keeps what a person said about them."""

import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

from qtpy.QtCore import QObject, Signal

from napari_deeppixel.training.mistake import Mistake, MistakeAnswer
from napari_deeppixel.training.mistakes_file import MistakeList, save_mistakes
from napari_deeppixel.widgets.controls import single_shot
from napari_deeppixel.widgets.worker import BackgroundTask

# after the last answer
_SAVE_MS = 500
# a disk that is full or gone may come back
_RETRY_MS = 10_000


class _Writer:
    """Writes lists in the order in which they were handed over, from whatever thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = count(1)
        self._written = 0

    def next_number(self) -> int:
        """Return the place of a list in that order."""
        return next(self._numbers)

    def write(self, path: Path, found: MistakeList, number: int) -> None:
        """Write a list, unless a later one is written already."""
        with self._lock:
            if number > self._written:
                save_mistakes(path, found)
                self._written = number


class MistakeWalk(QObject):
    """A list of mistakes, where one is in it, and its file.

    Signals
    -------
    changed
        Another mistake is the current one, or one was answered.
    failed
        The exception that stopped the file from being written.
    """

    changed = Signal()
    failed = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._found: MistakeList | None = None
        self._path: Path | None = None
        self._position: int | None = None
        # where one was before, the latest last
        self._trail: list[int] = []
        self._is_saved = True
        self._writer = _Writer()
        self._timer = single_shot(self, _SAVE_MS, self._save)
        self._task = BackgroundTask(self)
        self._task.failed.connect(self._on_failed)
        self._task.finished.connect(self._on_saved)

    # -- the list -----------------------------------------------------------------------------

    @property
    def found(self) -> MistakeList | None:
        """The list; None: none is open."""
        return self._found

    @property
    def current(self) -> Mistake | None:
        """Where one is; None before the first."""
        if self._found is None or self._position is None:
            return None
        return self._found.mistakes[self._position]

    @property
    def position(self) -> int | None:
        """Place of the current one in the list."""
        return self._position

    def open(self, path: Path, found: MistakeList) -> None:
        """Go through another list, from its file."""
        self.save_here()
        self._path, self._found, self._position = path, found, None
        self._trail.clear()
        self.changed.emit()

    def close(self) -> None:
        """Go through none any more."""
        self.save_here()
        self._path, self._found, self._position = None, None, None
        self._trail.clear()
        self.changed.emit()

    def go(self, step: int, *, is_passed: Callable[[Mistake], bool], is_shown: bool = True) -> None:
        """Go on to the next open mistake (1), or back to where one was (-1), if any is left.

        Back leads to what was decided too. At an end, the walk goes on at the other one.

        Parameters
        ----------
        step
            1 or -1.
        is_passed
            Whether an open mistake is left out on the way on.
        is_shown
            Whether the current one was shown to the person: the way back leads there.
        """
        if self._found is None:
            return
        before = self._position
        self._position = self._position_before() if step < 0 else self._next_open(is_passed)
        if step > 0 and is_shown and before is not None and before != self._position:
            self._trail.append(before)
        self.changed.emit()

    def _next_open(self, is_passed: Callable[[Mistake], bool]) -> int | None:
        mistakes = () if self._found is None else self._found.mistakes
        start = -1 if self._position is None else self._position
        for way in range(1, len(mistakes) + 1):
            position = (start + way) % len(mistakes)
            if mistakes[position].is_open and not is_passed(mistakes[position]):
                return position
        return None

    def _position_before(self) -> int | None:
        while self._trail:
            position = self._trail.pop()
            if position != self._position:
                return position
        # before the first that was shown: as the list has them
        total = 0 if self._found is None else len(self._found.mistakes)
        return ((self._position or 0) - 1) % total if total else None

    # -- answers ------------------------------------------------------------------------------

    def answer(self, position: int, answer: MistakeAnswer) -> None:
        """Keep what a person said about a mistake."""
        if self._found is not None and self._found.mistakes[position].answer is not answer:
            self._found = self._found.answered(position, answer)
            self._is_saved = False
            self._timer.start(_SAVE_MS)
            self.changed.emit()

    def _save(self) -> None:
        path, found = self._path, self._found
        if path is None or found is None or self._is_saved:
            return
        if self._task.is_running:
            self._timer.start(_SAVE_MS)
            return
        self._is_saved = True

        writer, number = self._writer, self._writer.next_number()

        def work(*_: object) -> Iterator[None]:
            writer.write(path, found, number)
            yield

        self._task.start(work)

    def _on_failed(self, error: BaseException) -> None:
        self._is_saved = False
        self.failed.emit(error)

    def _on_saved(self) -> None:
        if not self._is_saved and not self._timer.isActive():
            self._timer.start(_RETRY_MS)

    def save_here(self) -> None:
        """Write what is not written yet before this returns."""
        self._timer.stop()
        if self._path is None or self._found is None or self._is_saved:
            return
        try:
            self._writer.write(self._path, self._found, self._writer.next_number())
            self._is_saved = True
        except OSError as error:
            self.failed.emit(error)

    def shut_down(self) -> None:
        """Write what is not written yet, and stop."""
        self.save_here()
        self._timer.stop()
        self._task.abandon()
