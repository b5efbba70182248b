"""Starts training runs, and finds those of a dataset."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from napari_deeppixel.training.run_folder import (
    RunFolder,
    new_run_folder,
    runs_of,
    train_command,
)
from napari_deeppixel.widgets.detached import DetachedProcess
from napari_deeppixel.widgets.settings import own_settings
from napari_deeppixel.widgets.train_watch import is_run_alive, process_note

# what follows the training in the same process
_AFTERWARDS = ("--compare", "--mistakes")
# runs of years are not all looked at; the list tells the newest
_MAX_RUNS = 200
_LEFT_KEY = "train/left_running"


@dataclass(frozen=True, kw_only=True)
class KnownRun:
    """A run of a dataset, as a list shows it.

    Attributes
    ----------
    run
        Its folder.
    is_alive
        Whether a process trains in it.
    is_new
        Whether it is over and nobody looked at it since.
    """

    run: RunFolder
    is_alive: bool
    is_new: bool

    @property
    def caption(self) -> str:
        """When it began, and how it is."""
        when = self.run.path.name.replace("_", "  ", 1)
        day, _, time = when.partition("  ")
        clock = time.replace("-", ":") if time else ""
        how = "  running" if self.is_alive else "  new" if self.is_new else ""
        return f"{day}  {clock}{how}".strip()


def start_run(
    dataset: Path, options: Sequence[str], *, save: Callable[[], object]
) -> Iterator[RunFolder]:
    """Start a new run and yield its folder; for a thread.

    Parameters
    ----------
    dataset
        What to train on.
    options
        Of `napari-deeppixel train`.
    save
        Brings what is open in the window to the disk first.
    """
    save()
    run = new_run_folder(dataset.resolve(), now=datetime.now())
    run.path.mkdir(parents=True)
    _start(run, dataset, options)
    yield run


def resume_run(run: RunFolder, dataset: Path) -> Iterator[RunFolder]:
    """Go on with a run that ended before its time, and yield its folder; for a thread."""
    run.forget_stop()
    _seen(run).unlink(missing_ok=True)
    # a run keeps its own options
    _start(run, dataset, ["--resume"])
    yield run


def _start(run: RunFolder, dataset: Path, options: Sequence[str]) -> None:
    command = train_command(dataset.resolve(), run.path.resolve(), *options, *_AFTERWARDS)
    DetachedProcess.start(command, output=run.output, note=process_note(run))


def known_runs(dataset: Path) -> list[KnownRun]:
    """Return the runs of a dataset, the newest first; for a thread."""
    known = []
    for run in runs_of(dataset)[:_MAX_RUNS]:
        is_alive = is_run_alive(run)
        known.append(
            KnownRun(run=run, is_alive=is_alive, is_new=not is_alive and not _seen(run).exists())
        )
    return known


def note_seen(run: RunFolder) -> None:
    """Remember that somebody looked at what came of a run."""
    try:
        _seen(run).touch()
    except OSError:
        # a folder that may only be read: it is offered again
        return


def _seen(run: RunFolder) -> Path:
    return run.path / "seen"


def kill_run(run: RunFolder) -> Iterator[bool]:
    """End the process of a run at once, and yield whether there was one; for a thread."""
    process = DetachedProcess.find(process_note(run))
    if process is not None:
        process.kill()
    yield process is not None


# -- what a closed window left running ------------------------------------------------------------


def remember_left(dataset: Path | None) -> None:
    """Remember the dataset whose run goes on without a window; None: none does."""
    if dataset is None:
        own_settings().remove(_LEFT_KEY)
    else:
        own_settings().setValue(_LEFT_KEY, str(dataset))


def left_dataset() -> Path | None:
    """Return the dataset whose run was left running, by the last window that closed."""
    value = own_settings().value(_LEFT_KEY)
    return Path(str(value)) if value else None
