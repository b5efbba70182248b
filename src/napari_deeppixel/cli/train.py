"""``napari-deeppixel train``."""

import argparse
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_deeppixel.cli.console import complain, say, say_json
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.progress import CancelToken, duration
from napari_deeppixel.engine.spec import ModelSpec, slim_spec

if TYPE_CHECKING:
    from napari_deeppixel.training.events import FitEvent
    from napari_deeppixel.training.samples import Sample

# what PyTorch's threads read once, when it is loaded
_THREADS = "OMP_NUM_THREADS"
_WAITING = "OMP_WAIT_POLICY"


def run(arguments: argparse.Namespace) -> int:
    """Train a network on a dataset folder; return the exit code."""
    dataset, run_dir = Path(arguments.dataset), Path(arguments.output)
    _check_folders(dataset, run_dir, resume=arguments.resume)
    _prepare_threads()
    from napari_deeppixel.engine.device import pick_device
    from napari_deeppixel.training.fit import FitOptions, fit

    device = pick_device(arguments.device)
    chosen = {
        name: getattr(arguments, name)
        for name in ("iterations", "batch_size", "learning_rate", "seed", "workers")
        if getattr(arguments, name) is not None
    }
    options = replace(FitOptions(), **chosen)
    spec, train, val = _read_dataset(dataset, run_dir.resolve().name)
    tell = _tell_json if arguments.json else _tell
    if not arguments.json:
        say(f"{len(train):,} images to learn from, {len(val):,} to choose by; on {device}")
    cancel = CancelToken()
    with _stopped_by_signals(cancel):
        for event in fit(
            spec,
            train,
            val,
            run_dir=run_dir,
            options=options,
            device=device,
            resume=arguments.resume,
            cancel=cancel,
        ):
            tell(event)
    if cancel.is_cancelled:
        if arguments.json:
            say_json({"event": "stopped"})
        complain(f"stopped; go on with: napari-deeppixel train {dataset} -o {run_dir} --resume")
    return 0


def _check_folders(dataset: Path, run_dir: Path, *, resume: bool) -> None:
    for split in ("train", "val"):
        is_there = (dataset / split / "instances.json").is_file()
        if not is_there and not (dataset / "dataset.json").is_file():
            raise AnnotationError(
                f"{dataset}: no {split}/instances.json; train on a dataset (the folder of "
                "dataset.json), or a folder with train/ and val/, each with instances.json (COCO) "
                "and its images"
            )
    has_checkpoint = (run_dir / "last.pt").exists()
    if resume and not has_checkpoint:
        raise AnnotationError(f"{run_dir}: no last.pt to go on from; leave out --resume")
    if has_checkpoint and not resume:
        raise AnnotationError(
            f"{run_dir} holds a run already: add --resume to go on with it, or choose another -o"
        )


def _prepare_threads() -> None:
    """Let PyTorch use all cores, and let threads that wait leave theirs.

    The libraries read the environment once, when they are loaded: later it changes nothing.
    """
    if "torch" in sys.modules:
        return
    # the cores this process may use; macOS and Windows cannot tell
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    os.environ.setdefault(_THREADS, str(cores))
    os.environ.setdefault(_WAITING, "PASSIVE")


def _read_dataset(dataset: Path, name: str) -> "tuple[ModelSpec, list[Sample], list[Sample]]":
    from napari_deeppixel.core.category import CategoryTable
    from napari_deeppixel.dataset.formats.coco import read_provenance
    from napari_deeppixel.dataset.store import Dataset
    from napari_deeppixel.training.samples import common_categories, read_split

    # the same for any categories, and reading wants it first
    normalization = slim_spec(name, CategoryTable.from_names("object")).normalization
    train = read_split(dataset / "train", normalization)
    val = read_split(dataset / "val", normalization)
    spec = slim_spec(
        name,
        common_categories([*train, *val]),
        description=f"Trained from scratch on {len(train):,} images of {dataset.resolve().name}.",
        provenance=(
            {"data": dataset.resolve().name, "licence": ""}
            if Dataset.is_dataset(dataset)
            else read_provenance(dataset / "train" / "instances.json")
        ),
    )
    return spec, train, val


@contextmanager
def _stopped_by_signals(cancel: CancelToken) -> Iterator[None]:
    """Let the first SIGINT or SIGTERM finish the step and save; a second one ends at once."""
    main_process = os.getpid()

    def stop(number: int, _frame: Any) -> None:
        # Ctrl-C reaches the processes that prepare crops, too: they go on until they are told
        if os.getpid() != main_process:
            return
        cancel.cancel()
        signal.signal(number, before[signal.Signals(number)])
        complain("finishing this step and saving ...")

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell(event: "FitEvent") -> None:
    from napari_deeppixel.training.events import Evaluated, FitEnded, StepEnded

    match event:
        case StepEnded():
            say(
                f"step {event.iteration:,} of {event.iterations:,}   loss {event.loss:.3f}   "
                f"rate {event.learning_rate:.1e}   {duration(event.seconds_left)} left"
            )
        case Evaluated(figures=figures):
            best = "   best so far" if event.is_best else ""
            say(
                f"step {event.iteration:,}: AP {figures.ap:.3f}   AP50 {figures.ap50:.3f}   "
                f"AP75 {figures.ap75:.3f}{best}"
            )
        case FitEnded():
            say(f"step {event.iteration:,}: weights are in {event.weights}")


def _tell_json(event: "FitEvent") -> None:
    from napari_deeppixel.training.events import event_to_json

    say_json(event_to_json(event))
