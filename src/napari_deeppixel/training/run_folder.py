"""The folder of one training run: what is in it, whether the run is alive, how it is stopped."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path, PureWindowsPath

from filelock import FileLock, Timeout

from napari_deeppixel.core.errors import AnnotationError, DeepPixelError
from napari_deeppixel.dataset.store import Dataset
from napari_deeppixel.training.events import (
    Compared,
    FitEnded,
    FitEvent,
    MistakesFound,
    RunStarted,
    SamplesDrawn,
    event_from_json,
)

# `is_alive` elsewhere holds the lock for a moment; and the processes that make crops look after 5 s
# whether the run that they work for was killed, and share its lock (filelock before 4.0)
_FREED_IN_S = 8.0


@dataclass(frozen=True)
class RunFolder:
    """One run on disk; made by `napari-deeppixel train`, read by whoever watches it.

    Attributes
    ----------
    path
        The folder.
    """

    path: Path

    @property
    def best(self) -> Path:
        """The best weights so far."""
        return self.path / "best.safetensors"

    @property
    def last(self) -> Path:
        """The checkpoint to go on from."""
        return self.path / "last.pt"

    @property
    def options(self) -> Path:
        """How to train, for whoever goes on."""
        return self.path / "options.json"

    @property
    def events(self) -> Path:
        """All events, one JSON object a line; a resumed run writes on."""
        return self.path / "events.jsonl"

    @property
    def output(self) -> Path:
        """What a run without a terminal printed."""
        return self.path / "output.txt"

    @property
    def comparison(self) -> Path:
        """Base, current and new side by side."""
        return self.path / "comparison.json"

    @property
    def mistakes(self) -> Path:
        """Likely mistakes among the annotations."""
        return self.path / "mistakes.json"

    @property
    def samples(self) -> Path:
        """Folder of pictures."""
        return self.path / "samples"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard's logs."""
        return self.path / "tensorboard"

    @property
    def _stop(self) -> Path:
        return self.path / "stop"

    def request_stop(self) -> None:
        """Ask the run to finish its step, save, keep the best, and end."""
        self._stop.touch()

    def forget_stop(self) -> None:
        """Take an earlier request back."""
        self._stop.unlink(missing_ok=True)

    @property
    def is_stop_requested(self) -> bool:
        """Whether somebody asked the run to stop."""
        return self._stop.exists()

    @property
    def stop_time_ns(self) -> int | None:
        """When somebody asked the run to stop, the last time; None: nobody did."""
        try:
            return self._stop.stat().st_mtime_ns
        except OSError:
            return None

    @property
    def was_begun(self) -> bool:
        """Whether a process ever trained in this folder, if only for a moment."""
        return self._lock_path.exists()

    @contextmanager
    def alive(self) -> Iterator[None]:
        """Hold the run: `is_alive` in all processes until the end, however that comes.

        Raises
        ------
        AnnotationError
            If another process trains in this folder.
        """
        lock = self._lock()
        try:
            lock.acquire(timeout=_FREED_IN_S)
        except Timeout:
            raise AnnotationError(
                f"{self.path}: another process trains here; wait for it, or stop it"
            ) from None
        try:
            self._forget_half_written()
            yield
        finally:
            lock.release()

    def _forget_half_written(self) -> None:
        # a process that was killed could not: tens of megabytes each
        for file in (self.last, self.best, self.options):
            for left_over in self.path.glob(f".{file.name}.*.part"):
                left_over.unlink(missing_ok=True)

    @property
    def is_alive(self) -> bool:
        """Whether a process trains in this folder."""
        if not self.path.is_dir():
            return False
        lock = self._lock()
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        lock.release()
        return False

    @property
    def _lock_path(self) -> Path:
        return self.path / "alive.lock"

    def _lock(self) -> FileLock:
        return FileLock(self._lock_path)

    def read_events(self, offset: int = 0) -> tuple[list[FitEvent], int]:
        """Return the events from a byte of the file on, and where to go on from.

        A line that is not finished yet waits for the next call; lines that are none of ours, as
        of another version, are passed over. Files are those of this folder, wherever it was when
        they were written.
        """
        try:
            with self.events.open("rb") as file:
                file.seek(offset)
                text = file.read()
        except FileNotFoundError:
            return [], offset
        whole = text[: text.rfind(b"\n") + 1]
        events = []
        for line in whole.splitlines():
            try:
                events.append(self._here(event_from_json(json.loads(line))))
            except (ValueError, AttributeError, DeepPixelError):
                continue
        return events, offset + len(whole)

    def _here(self, event: FitEvent) -> FitEvent:
        """Return an event with the paths that hold now: the folder may be moved or copied."""
        match event:
            case RunStarted():
                return replace(event, dataset=self._dataset_of(event))
            case SamplesDrawn():
                return replace(event, paths=tuple(self.samples / _name(p) for p in event.paths))
            case FitEnded():
                return replace(event, weights=self.path / _name(event.weights))
            case Compared() | MistakesFound():
                return replace(event, path=self.path / _name(event.path))
        return event

    def _dataset_of(self, event: RunStarted) -> Path:
        above = self.path.parent.parent
        if self.path.parent == runs_folder(above) and Dataset.is_dataset(above):
            return above
        return event.dataset


def _name(path: Path) -> str:
    # of any system: it takes both slashes
    return PureWindowsPath(path).name


def runs_folder(dataset: Path) -> Path:
    """Return where the runs of a dataset go unless a person says otherwise."""
    return dataset / "runs"


def runs_of(dataset: Path) -> list[RunFolder]:
    """Return the runs of a dataset, the newest first."""
    try:
        paths = [path for path in runs_folder(dataset).iterdir() if path.is_dir()]
    except OSError:
        return []
    runs = [RunFolder(path) for path in paths if (path / "events.jsonl").is_file()]
    # by the name, which begins with the date: a folder's own time changes when it is copied
    return sorted(runs, key=lambda run: run.path.name, reverse=True)


def new_run_folder(dataset: Path, *, now: datetime) -> RunFolder:
    """Return a folder for a new run, named by the time; it is not made."""
    name = now.strftime("%Y-%m-%d_%H-%M-%S")
    path = runs_folder(dataset) / name
    number = 2
    while path.exists():
        path = runs_folder(dataset) / f"{name}_{number}"
        number += 1
    return RunFolder(path)


def train_command(dataset: Path, run: Path, *more: str) -> Sequence[str]:
    """Return the command that trains in a process of its own; `more` are further options."""
    program = [sys.executable, "-m", "napari_deeppixel.cli", "train"]
    return [*program, str(dataset), "--output", str(run), "--json", *more]
