"""``napari-deeppixel train``."""

import argparse
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_deeppixel.cli.console import complain, say, say_json
from napari_deeppixel.cli.train_options import SCRATCH
from napari_deeppixel.core.errors import AnnotationError, RunCancelled
from napari_deeppixel.core.progress import CancelToken, duration
from napari_deeppixel.dataset.store import Dataset
from napari_deeppixel.engine.catalogue import DEFAULT_MODEL
from napari_deeppixel.training.choices import Freeze, Preset

if TYPE_CHECKING:
    from napari_deeppixel.training.events import EndReason, FitEvent
    from napari_deeppixel.training.plan import Plan, Wishes
    from napari_deeppixel.training.run_folder import RunFolder

# what PyTorch's threads read once, when it is loaded
_THREADS = "OMP_NUM_THREADS"
_WAITING = "OMP_WAIT_POLICY"
# set by torchrun
_NUM_PROCESSES = "WORLD_SIZE"
_PROCESS = "RANK"


def run(arguments: argparse.Namespace) -> int:
    """Train a network on a dataset folder; return the exit code."""
    dataset = Path(arguments.dataset)
    folder = _run_folder(dataset, arguments)
    _check_folders(dataset, folder, resume=arguments.resume)
    # killed while it read the images, say: the same command with --resume must do
    is_resumed = arguments.resume and folder.last.exists()
    _prepare_threads()
    is_first = int(os.environ.get(_PROCESS, "0")) == 0
    folder.path.mkdir(parents=True, exist_ok=True)
    # of several processes, the first one holds the folder, writes and prints
    with folder.alive() if is_first else nullcontext():
        if is_first:
            folder.forget_stop()
        reporter = _Reporter(folder, as_json=arguments.json, is_first=is_first)
        try:
            if is_first and arguments.resume and not is_resumed:
                complain(f"note: {folder.path} has no checkpoint yet: the run begins anew")
            return _train(dataset, folder, arguments, reporter, is_resumed=is_resumed)
        except Exception as error:
            from napari_deeppixel.training.events import RunFailed

            reporter.record(RunFailed(message=f"{error}" or repr(error)))
            raise


def _train(
    dataset: Path,
    folder: "RunFolder",
    arguments: argparse.Namespace,
    reporter: "_Reporter",
    *,
    is_resumed: bool,
) -> int:
    from napari_deeppixel.engine.device import pick_device
    from napari_deeppixel.training.events import EndReason, Warned
    from napari_deeppixel.training.plan import plan_run

    device = pick_device(arguments.device)
    plan = plan_run(
        dataset,
        folder,
        _wishes(arguments),
        device=device,
        resume=is_resumed,
        now=datetime.now().astimezone(),
        processes=int(os.environ.get(_NUM_PROCESSES, "1")),
    )
    reporter.record(_started(plan, dataset))
    for warning in plan.warnings:
        reporter.record(Warned(message=warning))
    cancel = CancelToken()
    with _stopped_by_signals(cancel):
        reason = _fit(plan, folder, reporter, is_resumed=is_resumed, cancel=cancel)
        # whoever asked by the folder waits for the comparison; whoever pressed Ctrl-C does not
        is_over = reason is EndReason.STOPPED and cancel.is_cancelled
        if not is_over and reporter.is_first:
            until_asked = _AskedAgain(folder, cancel)
            _after(plan, dataset, folder, arguments, reporter=reporter, cancel=until_asked)
    if reason is EndReason.STOPPED:
        complain(f"stopped; go on with: napari-deeppixel train {dataset} -o {folder.path} --resume")
    return 0


def _fit(
    plan: "Plan",
    folder: "RunFolder",
    reporter: "_Reporter",
    *,
    is_resumed: bool,
    cancel: CancelToken,
) -> "EndReason":
    """Train, tell what happens, and return why it ended."""
    from napari_deeppixel.training.events import EndReason, FitEnded
    from napari_deeppixel.training.fit import fit

    reason = EndReason.DONE
    events = fit(
        plan.start,
        plan.train,
        plan.val,
        run=folder,
        options=plan.options,
        device=plan.device,
        resume=is_resumed,
        cancel=cancel,
    )
    for event in events:
        reporter.tell(event)
        reason = event.reason if isinstance(event, FitEnded) else reason
    return reason


def _after(
    plan: "Plan",
    dataset: Path,
    folder: "RunFolder",
    arguments: argparse.Namespace,
    *,
    reporter: "_Reporter",
    cancel: CancelToken,
) -> None:
    """Compare, and look for mistakes, where that was asked for."""
    if not (arguments.compare or arguments.mistakes):
        return
    from napari_deeppixel.cli.after_training import Trained, compare_trained, find_mistakes_of
    from napari_deeppixel.training.events import Warned

    trained = Trained(
        dataset=dataset,
        run=folder,
        val=plan.val,
        device=plan.device,
        data_hash=plan.data_hash,
    )
    try:
        if arguments.compare and plan.val:
            reporter.record(compare_trained(trained, cancel))
        elif arguments.compare:
            reporter.record(Warned(message="no image to choose by: the models were not compared"))
        if arguments.mistakes:
            reporter.record(find_mistakes_of(trained, cancel))
    except RunCancelled:
        complain("stopped; the weights are there")


def _run_folder(dataset: Path, arguments: argparse.Namespace) -> "RunFolder":
    from napari_deeppixel.training.run_folder import RunFolder, new_run_folder, runs_of

    if arguments.output is not None:
        return RunFolder(Path(arguments.output))
    if _NUM_PROCESSES in os.environ:
        raise AnnotationError("several processes need one folder: name it with -o RUN")
    if not arguments.resume:
        return new_run_folder(dataset, now=datetime.now())
    for known in runs_of(dataset):
        if known.last.is_file():
            return known
    raise AnnotationError(f"{dataset}: no run to go on with; leave out --resume, or give -o RUN")


def _check_folders(dataset: Path, folder: "RunFolder", *, resume: bool) -> None:
    if not Dataset.is_dataset(dataset) and not (dataset / "train" / "instances.json").is_file():
        raise AnnotationError(
            f"{dataset}: no train/instances.json; train on a dataset (the folder of "
            "dataset.json), or a folder with train/ and val/, each with instances.json (COCO) "
            "and its images"
        )
    has_checkpoint, has_weights = folder.last.exists(), folder.best.exists()
    if resume and not has_checkpoint and (has_weights or not folder.was_begun):
        raise AnnotationError(f"{folder.path}: no last.pt to go on from; leave out --resume")
    if not resume and (has_checkpoint or has_weights):
        raise AnnotationError(
            f"{folder.path} holds a run already: add --resume to go on with it, or choose another "
            "-o"
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


def _wishes(arguments: argparse.Namespace) -> "Wishes":
    from napari_deeppixel.training.plan import Wishes

    names = (
        "iterations",
        "batch_size",
        "accumulate",
        "learning_rate",
        "heads_first",
        "seed",
        "workers",
    )
    changes = {name: getattr(arguments, name) for name in names}
    changes["freeze"] = None if arguments.freeze is None else Freeze(arguments.freeze)
    changes["patience"] = 0 if arguments.no_early_stop else None
    start = arguments.start or DEFAULT_MODEL
    return Wishes(
        start=None if start == SCRATCH else start,
        preset=Preset(arguments.preset),
        epochs=arguments.epochs,
        crop=arguments.crop,
        zoom=arguments.zoom,
        changes={name: value for name, value in changes.items() if value is not None},
    )


def _started(plan: "Plan", dataset: Path) -> "FitEvent":
    from napari_deeppixel.training.events import RunStarted

    categories = plan.start.spec.categories.categories
    return RunStarted(
        dataset=dataset,
        start=plan.start_model,
        device=plan.device,
        num_train=len(plan.train),
        num_val=len(plan.val),
        iterations=plan.options.iterations,
        first_iteration=plan.first_iteration,
        categories=tuple(category.name for category in categories),
        notes=plan.notes,
    )


class _AskedAgain(CancelToken):
    """Ends what follows the training: at a signal, or when the folder is asked to stop once more.

    Parameters
    ----------
    folder
        Of the run; a request that is there already has been met.
    signals
        Is set by signals.
    """

    def __init__(self, folder: "RunFolder", signals: CancelToken) -> None:
        super().__init__()
        self._folder, self._signals, self._met = folder, signals, folder.stop_time_ns

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody asked to stop."""
        if super().is_cancelled or self._signals.is_cancelled:
            return True
        return self._folder.stop_time_ns not in (None, self._met)


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


class _Reporter:
    """Tells a person or a program what happens; of several processes, the first one alone."""

    def __init__(self, folder: "RunFolder", *, as_json: bool, is_first: bool) -> None:
        self._folder, self._as_json, self.is_first = folder, as_json, is_first

    def tell(self, event: "FitEvent") -> None:
        """Tell of what `fit` has written to the run's events already."""
        if self.is_first:
            (_tell_json if self._as_json else _tell)(event)

    def record(self, event: "FitEvent") -> None:
        """Write an event that comes before or after `fit`, and tell of it."""
        from napari_deeppixel.training.run_log import append_event

        if self.is_first:
            append_event(self._folder, event)
        self.tell(event)


def _tell_json(event: "FitEvent") -> None:
    from napari_deeppixel.training.events import event_to_json

    say_json(event_to_json(event))


def _tell(event: "FitEvent") -> None:
    from napari_deeppixel.training import events

    match event:
        case events.RunStarted():
            say(
                f"{event.num_train:,} images to learn from, {event.num_val:,} to choose by; on "
                f"{event.device}"
            )
            for note in event.notes:
                say(note)
        case events.StepEnded():
            say(
                f"step {event.iteration:,} of {event.iterations:,}   loss {event.loss:.3f}   "
                f"rate {event.learning_rate:.1e}   {duration(event.seconds_left)} left"
            )
        case events.Evaluated(figures=figures):
            best = "   best so far" if event.is_best else ""
            say(
                f"step {event.iteration:,}: AP {figures.ap:.3f}   AP50 {figures.ap50:.3f}   "
                f"AP75 {figures.ap75:.3f}   accuracy {figures.accuracy50:.3f}{best}"
            )
        case events.Warned():
            complain(f"note: {event.message}")
        case events.FitEnded():
            early = "no longer got better; " if event.reason is events.EndReason.EARLY else ""
            say(f"step {event.iteration:,}: {early}weights are in {event.weights}")
        case events.Compared():
            say(f"{event.reason} (all figures: {event.path})")
        case events.MistakesFound():
            say(f"{event.count:,} likely mistakes among the annotations: {event.path}")
