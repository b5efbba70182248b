"""The Train tab: learn from a dataset, watch it, compare, and use what is better."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from napari.utils.notifications import show_info
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QMessageBox, QSizePolicy, QVBoxLayout, QWidget

from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.core.progress import CancelToken
from napari_deeppixel.training.compare import Comparison, load_comparison
from napari_deeppixel.training.run_folder import RunFolder
from napari_deeppixel.widgets.controls import AMBER, RED, Note, TallArea, button, combo, single_shot
from napari_deeppixel.widgets.dataset_state import DatasetState
from napari_deeppixel.widgets.job import find_devices
from napari_deeppixel.widgets.review_panels import collapsible
from napari_deeppixel.widgets.train_choices import TrainChoices
from napari_deeppixel.widgets.train_closing import ClosingChoice, ClosingGuard, ask_closing
from napari_deeppixel.widgets.train_log import RunLog, status_of
from napari_deeppixel.widgets.train_models import ModelsPanel, ModelStore
from napari_deeppixel.widgets.train_others import OtherRun, OtherRuns, goes_on
from napari_deeppixel.widgets.train_outcome import OutcomeViewer
from napari_deeppixel.widgets.train_progress import RunProgress
from napari_deeppixel.widgets.train_result import ResultPanel
from napari_deeppixel.widgets.train_runs import (
    KnownRun,
    kill_run,
    known_runs,
    left_dataset,
    note_seen,
    remember_left,
    resume_run,
    start_run,
)
from napari_deeppixel.widgets.train_summary import SummaryPanel
from napari_deeppixel.widgets.train_watch import RunWatch
from napari_deeppixel.widgets.worker import BackgroundTask, ReportProgress, Work

# a step of a large network and a save take seconds; a run that hangs takes for ever
_STOP_PATIENCE_MS = 30_000
_NEW_RUN = "choose a run to look at"
_STOP, _STOP_COMPARING = "Stop and keep the best", "End without comparing"


class TrainTab(QWidget):
    """Train on the open dataset, in a process of its own that outlives the window.

    Parameters
    ----------
    viewer
        The napari viewer.
    datasets
        Knows which dataset is open.
    saving_of_open
        Returns what saves the image that is open; it is called in a thread.

    Signals
    -------
    data_wanted
        The person wants to choose a dataset.
    dataset_wanted
        Path of a dataset that the person wants to open: a run of it goes on.
    correct_wanted
        File name of an image of the dataset that the person wants to correct.
    mistakes_wanted
        Path of a file with likely label mistakes that the person wants to go through.
    """

    data_wanted = Signal()
    dataset_wanted = Signal(object)
    correct_wanted = Signal(str)
    mistakes_wanted = Signal(object)

    def __init__(
        self,
        viewer: Any,
        datasets: DatasetState,
        *,
        saving_of_open: Callable[[], Callable[[], object]],
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._datasets, self._saving_of_open = datasets, saving_of_open
        self._is_shut_down, self._has_devices = False, False
        # of the run that is followed, which may go on while another dataset is open
        self._dataset: Path | None = None
        self._is_stopping, self._had_ended = False, False
        # why the comparison of the run cannot be shown
        self._unreadable = ""
        # of a run that an earlier window left, and of one that is being started
        self._left: Path | None = None
        self._begun_on: Path | None = None
        self.others = OtherRuns(self)
        self.store = ModelStore(self)
        self.watch = RunWatch(self)
        self.outcomes = OutcomeViewer(viewer, self)
        self.guard = ClosingGuard(self, self._may_close)
        self._starting = self._task(self._on_started)
        self._finding = self._task(self._on_found)
        self._loading = self._task(self._on_comparison, self._on_unreadable)
        self._killing = self._task(self._on_killed)
        self._listing = self._task(self._on_devices)
        self._looking = self._task(self._on_left)
        self._patience = single_shot(self, _STOP_PATIENCE_MS, self._offer_kill)
        self._make()
        self._lay_out()
        self._connect()
        self._on_dataset_changed()

    def _task(
        self,
        slot: Callable[[Any], None],
        failed: Callable[[BaseException], None] | None = None,
    ) -> BackgroundTask:
        task = BackgroundTask(self)
        task.yielded.connect(slot)
        task.failed.connect(failed or self._on_failed)
        task.finished.connect(self._show_state)
        return task

    # -- building -----------------------------------------------------------------------------

    def _make(self) -> None:
        self.summary = SummaryPanel(self._datasets)
        self.choices = TrainChoices()
        self.train_button = button(
            "Train",
            "train.train",
            "Train on the open dataset in a process of its own: napari stays free meanwhile, and "
            "may be closed.",
        )
        self.stop_button = button(
            _STOP,
            "train.stop",
            "Finish the step, save, and end; the best weights so far are compared with those in "
            "use.",
        )
        self.kill_button = button(
            "End it at once",
            "train.kill",
            "Kill the process. The best weights and the last checkpoint stay.",
        )
        self.runs = combo("train.runs", "Runs of this dataset, to look at again.")
        self.note = Note("train.note", color=AMBER)
        self.left_note = Note("train.left")
        self.left_button = button(
            "Show it", "train.show_left", "Open the dataset whose training goes on."
        )
        self.progress = RunProgress(self.watch)
        self.result = ResultPanel(self.outcomes)
        self.models = ModelsPanel(self.store)

    def _lay_out(self) -> None:
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(0, 0, 6, 0)
        for each in (self.left_note, self.left_button, self.summary):
            layout.addWidget(each)
        self._setup = QWidget()
        setup = QVBoxLayout(self._setup)
        setup.setContentsMargins(0, 0, 0, 0)
        setup.addLayout(self.choices.form())
        row = QHBoxLayout()
        row.addWidget(self.train_button, 2)
        row.addWidget(self.stop_button, 3)
        setup.addLayout(row)
        setup.addWidget(collapsible("Advanced", "train.advanced", self.choices.advanced()))
        layout.addWidget(self._setup)
        layout.addWidget(self.note)
        layout.addWidget(self.kill_button)
        # what came of a run before how it went
        for part in (self.runs, self.progress, self.result, self.progress.details):
            layout.addWidget(part)
        layout.addWidget(collapsible("Models", "train.models_fold", self.models))
        layout.addStretch(1)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 4, 0, 0)
        outer.addWidget(TallArea(content))
        for each in (self.left_button, self.kill_button):
            each.hide()
        for note in (self.note, self.result.verdict, self.progress.failure):
            # paths have no blanks to wrap at: they must not widen the window
            policy = note.sizePolicy()
            policy.setHorizontalPolicy(QSizePolicy.Policy.Ignored)
            note.setSizePolicy(policy)

    def _connect(self) -> None:
        self.summary.data_wanted.connect(self.data_wanted)
        self.summary.changed.connect(self._show_state)
        self.train_button.clicked.connect(self.train)
        self.stop_button.clicked.connect(self.stop)
        self.kill_button.clicked.connect(self.kill)
        self.left_button.clicked.connect(self._on_show_left)
        self.runs.activated.connect(self._on_run_chosen)
        self.progress.resume_wanted.connect(self.resume)
        self.watch.changed.connect(self._on_run_said)
        self.watch.ended.connect(self._on_run_ended)
        self.others.changed.connect(self._show_left)
        self.others.ended.connect(self._on_other_ended)
        self.result.use_wanted.connect(self.use_new)
        self.result.keep_wanted.connect(self._on_keep)
        self.result.roll_back_wanted.connect(self.store.roll_back)
        self.result.mistakes_wanted.connect(self._on_mistakes)
        self.result.correct_wanted.connect(self.correct_wanted)
        self.store.changed.connect(self._on_models)
        self.store.used.connect(self._on_used)
        self.store.failed.connect(self._say_problem)
        self._datasets.dataset_changed.connect(self._on_dataset_changed)
        self._datasets.images_changed.connect(self.outcomes.forget_samples)

    # -- datasets and runs --------------------------------------------------------------------

    def _on_dataset_changed(self) -> None:
        dataset = self._datasets.dataset
        path = None if dataset is None else dataset.path
        self._setup.setVisible(path is not None)
        self.outcomes.forget_samples()
        self._finding.abandon()
        if path is not None and path != self._dataset:
            # a run of another dataset goes on, and is found when that is opened again
            self.follow(None)
            self._dataset = path
        self.runs.clear()
        self.runs.hide()
        self._say_problem("")
        if path is not None:
            self._left = None
            self._find()
        self._show_left()

    def _find(self) -> None:
        path = self._dataset
        if path is not None and not self._finding.is_running:
            self._finding.start(lambda *_: iter([known_runs(path)]))

    def _on_found(self, known: list[KnownRun]) -> None:
        """List the runs; follow one that goes on, or that ended while nobody looked."""
        self.runs.clear()
        self.runs.addItem(_NEW_RUN, None)
        for each in known:
            self.runs.addItem(each.caption, str(each.run.path))
        self.runs.setVisible(bool(known))
        if self.watch.run is None:
            alive = [each for each in known if each.is_alive]
            wanted = alive or [each for each in known[:1] if each.is_new]
            if wanted:
                self.follow(wanted[0].run, is_alive=wanted[0].is_alive)
        self._mark_run()

    def _mark_run(self) -> None:
        run = self.watch.run
        self.runs.setCurrentIndex(0 if run is None else max(self.runs.findData(str(run.path)), 0))

    def _on_run_chosen(self) -> None:
        path = self.runs.currentData()
        if path is None:
            self.follow(None)
        elif self.watch.run is None or path != str(self.watch.run.path):
            self.follow(RunFolder(Path(path)))

    def follow(self, run: RunFolder | None, *, is_alive: bool = False) -> None:
        """Show a run; `is_alive`: it was just started."""
        if self.watch.run is not None and self.watch.is_alive and self._dataset is not None:
            self.others.add(self.watch.run, self._dataset)
        if run is not None:
            self.others.drop(run)
        self._unreadable = ""
        self._loading.abandon()
        self._patience.stop()
        self._is_stopping, self._had_ended = False, False
        self.kill_button.hide()
        if self.outcomes.shown is not None:
            self.outcomes.forget()
        self.result.clear()
        self.watch.follow(run, is_alive=is_alive)
        self._show_state()

    # -- training -----------------------------------------------------------------------------

    def train(self) -> None:
        """Start a run with the choices of the form."""
        dataset = self._datasets.dataset
        if dataset is None or self._is_busy:
            return
        self._say_problem("")
        save = self._saving_of_open()
        self._begin(start_run(dataset.path, self.choices.options(), save=save))

    def resume(self) -> None:
        """Go on with the run that is shown."""
        run, dataset = self.watch.run, self._dataset
        if run is not None and dataset is not None and not self._starting.is_running:
            self._say_problem("")
            self._begin(resume_run(run, dataset))

    def _begin(self, started: Iterator[RunFolder]) -> None:
        def work(_cancel: CancelToken, _report: ReportProgress) -> Iterator[RunFolder]:
            yield from started

        self._begun_on = self._dataset
        self._starting.start(work)
        self._show_state()

    def _on_started(self, run: RunFolder) -> None:
        # now, not when the window closes: it may be killed
        remember_left(self._begun_on)
        if self._begun_on != self._dataset and self._begun_on is not None:
            # another dataset was opened meanwhile
            self.others.add(run, self._begun_on)
            return
        self.follow(run, is_alive=True)
        self._find()

    def stop(self) -> None:
        """Ask the run to end and keep its best weights."""
        if not self.watch.is_alive or not self._request_stop():
            return
        self._is_stopping = True
        if self.watch.log.ended is None:
            self.note.say("Stopping: this step is finished, then the best weights are compared…")
        else:
            self.note.say("Stopping: the weights are kept as they are…")
        self._patience.start()
        self._show_state()

    def _request_stop(self) -> bool:
        run = self.watch.run
        try:
            # once only: a run that compares takes another request as the wish to leave that
            if run is not None and (self.watch.log.ended is not None or not run.is_stop_requested):
                run.request_stop()
        except OSError as error:
            self._say_problem(str(error))
            return False
        return run is not None

    def _offer_kill(self) -> None:
        if self.watch.is_alive:
            self.note.say(
                "The run goes on 30 s after it was asked to stop: it may finish a long step, or "
                "hang."
            )
            self.kill_button.show()

    def kill(self) -> None:
        """End the process of the run at once."""
        run = self.watch.run
        if run is not None and not self._killing.is_running:
            self._killing.start(lambda *_: kill_run(run))

    def _on_killed(self, was_there: bool) -> None:
        if not was_there:
            self._say_problem(
                "The process is not one of this computer: end it where it was started."
            )

    # -- what the run says --------------------------------------------------------------------

    def _on_run_said(self) -> None:
        log = self.watch.log
        if self._is_stopping and self.watch.is_alive and log.ended is None:
            # a run that begins forgets what was asked of it before
            self._request_stop()
        if self._is_stopping and log.ended is not None and not self._had_ended:
            # what follows takes minutes, and may be left by a second request
            self._is_stopping = False
            self._patience.stop()
            self.kill_button.hide()
            self.note.say("")
        self._had_ended = log.ended is not None
        self.result.show_mistakes(None if log.mistakes is None else log.mistakes.count)
        run = self.watch.run
        if log.started is not None and run is not None and self.runs.findData(str(run.path)) < 0:
            # it is listed from its first event on
            self._find()
        if log.compared is None and self.watch.is_alive and not self.result.isHidden():
            # it is gone on with: what was compared are other weights
            self.result.clear()
        is_wanted = self.result.comparison is None and not self._unreadable
        if log.compared is not None and is_wanted and not self._loading.is_running:
            path = log.compared.path
            self._loading.start(lambda *_: iter([load_comparison(path)]))
        self._offer_uncompared()
        self._note_seen()
        self._show_state()

    def _on_run_ended(self) -> None:
        self._patience.stop()
        self._is_stopping = False
        self.kill_button.hide()
        self.note.say("")
        self._forget_left(self._dataset)
        self._offer_uncompared()
        if self.watch.log.mistakes is None and self.watch.log.compared is not None:
            self.result.show_mistakes(None)
        self._note_seen()
        self._find()
        self._show_state()

    def _note_seen(self) -> None:
        run = self.watch.run
        if run is not None and self.watch.is_read and not self.watch.is_alive and self.isVisible():
            note_seen(run)

    def _offer_uncompared(self) -> None:
        """Offer the weights of a run that is over and of which there is no comparison."""
        watch, log = self.watch, self.watch.log
        is_over = watch.is_read and not watch.is_alive
        has_comparison = log.compared is not None and not self._unreadable
        if not is_over or not watch.has_weights or has_comparison or self.result.isVisibleTo(self):
            return
        has_val = log.started is None or bool(log.started.num_val)
        reason = "Not compared." if has_val else "Not compared: there is no image to choose by."
        self.result.show_uncompared(self._unreadable or reason)
        self.result.show_mistakes(None if log.mistakes is None else log.mistakes.count)

    def _on_unreadable(self, error: BaseException) -> None:
        self._unreadable = str(error) or repr(error)
        self._offer_uncompared()
        if not isinstance(error, DeepPixelError | OSError):
            raise error

    def _on_comparison(self, comparison: Comparison) -> None:
        compared = self.watch.log.compared
        if compared is None:
            return
        started, dataset = self.watch.log.started, Path(comparison.dataset)
        folder = (started.dataset if started is not None else dataset) / comparison.split
        self.result.show_comparison(comparison, compared.path, folder)
        self._on_run_said()

    # -- models -------------------------------------------------------------------------------

    def use_new(self) -> None:
        """Put the new model into the library, and use it; asks if it is not known to be better."""
        run, comparison = self.watch.run, self.result.comparison
        if run is None:
            return
        is_better = comparison is not None and comparison.verdict.is_better
        if not is_better and not self._wants_worse(self.result.verdict.text()):
            return
        self.store.add(run.best, is_used=True)

    def _wants_worse(self, reason: str) -> bool:
        answer = QMessageBox.question(
            self,
            "Use a model that is not known to be better?",
            f"{reason}\n\nUse it all the same? Roll back brings the other one back.",
            QMessageBox.StandardButton.Yes | QMessageBox.StandardButton.Cancel,
            QMessageBox.StandardButton.Cancel,
        )
        return bool(answer == QMessageBox.StandardButton.Yes)

    def _on_keep(self) -> None:
        self.result.decision.say(
            f"{self.store.state.current} stays in use. The run is kept under Runs."
        )

    def _on_models(self) -> None:
        state = self.store.state
        about = tuple((model.name, "\n".join(model.lineage)) for model in state.models)
        self.choices.show_models(about, current=state.current)
        self.result.show_roll_back(state.before)

    def _on_used(self, name: str) -> None:
        self.result.decision.say(f"{name} is used from now on, in Detect and Live.")

    def _on_mistakes(self) -> None:
        if self.watch.log.mistakes is not None:
            self.mistakes_wanted.emit(self.watch.log.mistakes.path)

    # -- state --------------------------------------------------------------------------------

    def _show_state(self) -> None:
        dataset, summary = self._datasets.dataset, self.summary.summary
        has_images = summary is None or bool(sum(summary.num_images.values()))
        self.train_button.setEnabled(dataset is not None and not self._is_busy and has_images)
        self.stop_button.setEnabled(self.watch.is_alive and not self._is_stopping)
        is_comparing = self.watch.is_alive and self.watch.log.ended is not None
        self.stop_button.setText(_STOP_COMPARING if is_comparing else _STOP)

    @property
    def _is_busy(self) -> bool:
        """Whether a run of the open dataset is begun or goes on, shown or not."""
        is_other = self._dataset is not None and self.others.of(self._dataset)
        return self._starting.is_running or self.watch.is_alive or is_other

    def _say_problem(self, message: str) -> None:
        self.note.say(message, color=RED if message else AMBER)

    def _on_failed(self, error: BaseException) -> None:
        self._say_problem(str(error))
        if not isinstance(error, DeepPixelError | OSError):
            raise error

    def _on_devices(self, devices: list[tuple[str, str]]) -> None:
        self.choices.show_devices(devices)

    # -- coming and going ---------------------------------------------------------------------

    def showEvent(self, event: Any) -> None:
        """Hear of the window's end; look what there is to train on and what goes on."""
        super().showEvent(event)
        self.guard.watch()
        self._note_seen()
        if not self._has_devices and not self._is_shut_down:
            self._has_devices = True
            self._listing.start(lambda *_: iter([find_devices()]))
        # commands and other windows change the library, too
        self.store.refresh()
        self.look_for_left()

    def look_for_left(self) -> None:
        """Offer the run that an earlier window left running, if it still goes on."""
        path = left_dataset()
        if path is None or self._datasets.dataset is not None or self._looking.is_running:
            return
        self._looking.start(_living(path))

    def _on_left(self, path: Path) -> None:
        self._left = path if self._datasets.dataset is None else None
        self._show_left()

    def _show_left(self) -> None:
        """Tell of a run that goes on and is not shown."""
        others = self.others.all
        path = others[0].dataset if others else self._left
        self.left_note.say("" if path is None else goes_on(path))
        self.left_button.setVisible(path is not None)
        self._show_state()

    def _on_show_left(self) -> None:
        others = self.others.all
        if others and others[0].dataset == self._dataset and self._datasets.dataset is not None:
            self.follow(others[0].run, is_alive=True)
            self._mark_run()
        elif others or self._left is not None:
            self.dataset_wanted.emit(others[0].dataset if others else self._left)

    def _on_other_ended(self, other: OtherRun) -> None:
        self._forget_left(other.dataset)
        if other.dataset == self._dataset:
            self._find()

    def _forget_left(self, dataset: Path | None) -> None:
        """Forget that a run on a dataset goes on; another may."""
        if left_dataset() == dataset:
            others = self.others.all
            remember_left(others[0].dataset if others else None)

    def _may_close(self) -> bool:
        """Ask what becomes of each run; return whether the window may close."""
        if self._is_shut_down:
            return True
        asked: list[tuple[str, Callable[[], None]]] = []
        if self.watch.is_alive:
            asked.append((_closing_text(self.watch.log), self.stop))
        for other in self.others.all:
            asked.append((other.caption, partial(self._stop_other, other)))
        stops = []
        for text, stop in asked:
            choice = ask_closing(self, text)
            if choice is ClosingChoice.CANCEL:
                return False
            if choice is ClosingChoice.STOP:
                stops.append(stop)
        for stop in stops:
            stop()
        return True

    def _stop_other(self, other: OtherRun) -> None:
        try:
            other.run.request_stop()
        except OSError as error:
            self._say_problem(str(error))

    def shut_down(self) -> None:
        """Stop all work of the window; the run goes on. May be called more than once."""
        if self._is_shut_down:
            return
        self._is_shut_down = True
        if self.watch.is_alive or self._starting.is_running or self.others.all:
            show_info("The training goes on. It is found again when DeepPixel is opened.")
        self.guard.shut_down()
        self._patience.stop()
        for task in (
            self._starting,
            self._finding,
            self._loading,
            self._killing,
            self._listing,
            self._looking,
        ):
            task.abandon()
        self.watch.shut_down()
        self.others.shut_down()
        self.progress.shut_down()
        self.outcomes.shut_down()
        self.summary.shut_down()
        self.store.shut_down()


def _closing_text(log: RunLog) -> str:
    """Return where the run that is shown is, as a sentence."""
    status = status_of(log)
    return f"A training run is at {status}." if log.started and not log.ended else status


def _living(path: Path) -> Work:
    """Return what yields a dataset's path if a run of it is alive."""

    def work(_cancel: CancelToken, _report: ReportProgress) -> Iterator[Path]:
        if any(each.is_alive for each in known_runs(path)):
            yield path

    return work
