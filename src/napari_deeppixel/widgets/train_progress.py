"""The part of the Train tab that shows one run: how far it is, curves, pictures, what it says."""

from qtpy.QtCore import Qt, QUrl, Signal
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QHBoxLayout, QPlainTextEdit, QProgressBar, QVBoxLayout, QWidget

from napari_deeppixel.training.events import EndReason
from napari_deeppixel.widgets.controls import AMBER, RED, Note, button, named
from napari_deeppixel.widgets.review_panels import collapsible
from napari_deeppixel.widgets.train_log import RunLog, status_of
from napari_deeppixel.widgets.train_pictures import PictureStrip
from napari_deeppixel.widgets.train_plot import CurvePlot
from napari_deeppixel.widgets.train_watch import RunWatch

# Okabe & Ito 2008, Color Universal Design, as elsewhere in the window
_LOSS = {"loss": "#e69f00"}
_FIGURES = {"AP": "#56b4e9", "AP50": "#009e73", "accuracy": "#cc79a7"}
_MAX_TOLD = 3


class RunProgress(QWidget):
    """Shows what a `RunWatch` knows.

    Parameters
    ----------
    watch
        The watch.

    Attributes
    ----------
    details
        Curves, pictures and log, to be put elsewhere.

    Signals
    -------
    resume_wanted
        The person wants to go on with a run that ended before its time.
    """

    resume_wanted = Signal()

    def __init__(self, watch: RunWatch, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._watch = watch
        self._num_lines = 0
        self._make()
        self._lay_out()
        watch.run_changed.connect(self._on_run_changed)
        watch.changed.connect(self.show_log)
        self._on_run_changed()

    def _make(self) -> None:
        self.bar = named(QProgressBar(), "train.progress", "Steps that are done.")
        self.bar.setFormat("%p %")
        self.status = Note("train.status")
        self.warnings = Note("train.run_warnings", color=AMBER)
        self.failure = Note("train.failure", color=RED)
        self.failure.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.folder = button(
            "Open folder", "train.folder", "Show the folder of the run: weights, output, events."
        )
        self.folder.clicked.connect(self._on_folder)
        self.resume = button(
            "Go on", "train.resume", "Go on with this run from its last checkpoint."
        )
        self.resume.clicked.connect(self.resume_wanted)
        self.loss = CurvePlot(
            "train.loss", _LOSS, tooltip="Mean loss over the steps: lower is better."
        )
        self.figures = CurvePlot(
            "train.figures",
            _FIGURES,
            tooltip="Found on the validation images, 0 to 1: COCO's AP over IoU 0.5 to 0.95, AP50 "
            "at IoU 0.5, and accuracy TP / (TP + FP + FN) at IoU 0.5. Higher is better; the dashed "
            "line is the best so far, which is kept.",
            top=1.0,
        )
        self.pictures = PictureStrip()
        self.lines = named(QPlainTextEdit(), "train.log", "What the run said.")
        self.lines.setReadOnly(True)
        self.lines.setMinimumHeight(120)

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for each in (self.bar, self.status, self.warnings, self.failure):
            layout.addWidget(each)
        row = QHBoxLayout()
        row.addWidget(self.resume)
        row.addWidget(self.folder)
        layout.addLayout(row)
        self.details = QWidget()
        below = QVBoxLayout(self.details)
        below.setContentsMargins(0, 0, 0, 0)
        self._log = collapsible("What the run said", "train.log_fold", self.lines)
        for part in (self.loss, self.figures, self.pictures, self._log):
            below.addWidget(part)

    def shut_down(self) -> None:
        """Read no more."""
        self.pictures.shut_down()

    # -- showing ------------------------------------------------------------------------------

    def _on_run_changed(self) -> None:
        self._num_lines = 0
        self.lines.clear()
        self.pictures.show_paths(())
        self.show_log()

    def show_log(self) -> None:
        """Show what is known of the run."""
        watch, log = self._watch, self._watch.log
        has_run = watch.run is not None
        self.setVisible(has_run)
        self.details.setVisible(has_run)
        self.bar.setVisible(watch.is_alive)
        self.bar.setRange(0, log.iterations if log.iteration else 0)
        self.bar.setValue(log.iteration)
        self._say()
        self.loss.setVisible(bool(log.losses))
        self.figures.setVisible(bool(log.figures))
        accuracy = {at: each.accuracy50 for at, each in log.figures.items()}
        self.loss.show_lines({"loss": log.losses}, iterations=log.iterations)
        self.figures.show_lines(
            {
                "AP": {at: each.ap for at, each in log.figures.items()},
                "AP50": {at: each.ap50 for at, each in log.figures.items()},
                "accuracy": accuracy,
            },
            iterations=log.iterations,
            marked=log.best,
        )
        if log.samples is not None:
            self.pictures.show_paths(log.samples.paths)
        self._log.setVisible(bool(log.lines))
        if len(log.lines) != self._num_lines:
            self._num_lines = len(log.lines)
            self.lines.setPlainText("\n".join(log.lines))
            self.lines.moveCursor(self.lines.textCursor().MoveOperation.End)

    def _say(self) -> None:
        watch, log = self._watch, self._watch.log
        is_over = watch.is_read and not watch.is_alive
        told = log.warnings[-_MAX_TOLD:]
        if len(log.warnings) > _MAX_TOLD:
            told.append(f"{len(log.warnings) - _MAX_TOLD} earlier warnings: see below")
        self.warnings.say("\n".join(told))
        failure = why_failed(log, watch.tail) if is_over else ""
        self.failure.say(failure)
        is_done = log.ended is not None and log.ended.reason is not EndReason.STOPPED
        can_go_on = is_over and not is_done and watch.run is not None
        self.resume.setVisible(can_go_on and watch.has_checkpoint)
        self.folder.setVisible(bool(failure))
        if watch.is_alive:
            self.status.say(status_of(log))
        elif not watch.is_read:
            self.status.say("Reading the run…")
        else:
            self.status.say(_result_of(log))

    def _on_folder(self) -> None:
        if self._watch.run is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._watch.run.path)))


def why_failed(log: RunLog, tail: str) -> str:
    """Return why a run that is over did not come to its end; empty if it did."""
    if log.failed is not None:
        return f"Training failed: {log.failed.message}" + (f"\n\n{tail}" if tail else "")
    if log.ended is not None:
        return ""
    last = f" What it printed last:\n\n{tail}" if tail else " It printed nothing."
    return f"The run ended without saying why: it was killed, or the computer went down.{last}"


def _result_of(log: RunLog) -> str:
    """Return what came of a run that is over."""
    if log.ended is None:
        return ""
    how = f"{log.ended.reason.value} after {log.ended.iteration:,} steps"
    best = "" if log.best_figures is None else f" · AP {log.best_figures.ap:.3f} at its best"
    return f"Training is over: {how}{best}."
