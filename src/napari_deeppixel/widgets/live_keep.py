"""What is kept of a live view: recordings, single frames, frames caught by themselves."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal, cast

from qtpy.QtCore import QObject, QTimer, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.live.capture import AutoCapture, CapturePolicy
from napari_deeppixel.live.pipeline import LivePipeline
from napari_deeppixel.live.record import Recorder
from napari_deeppixel.live.recording import RecordOptions
from napari_deeppixel.live.result import LiveResult
from napari_deeppixel.live.saved_frame import SavedFrame, add_frame, save_frame
from napari_deeppixel.widgets.controls import RED, Note, button, combo, named
from napari_deeppixel.widgets.dataset_state import DatasetState
from napari_deeppixel.widgets.worker import BackgroundTask

_FINISH_LOOK_MS = 100
_OFF = "off"
_CAPTURES = {
    _OFF: "",
    "uncertain frames": "uncertain",
    "novel frames": "novel",
    "every few seconds": "interval",
}
_VIDEOS = {"with instances": "overlay", "as it is": "raw", "none": "none"}
_LABELS = {"TIFF stack": "tiff", "OME-Zarr": "zarr", "none": "none"}


class FrameSaver(QObject):
    """Saves frames in a thread, one after the other; what comes meanwhile waits, up to a few.

    Signals
    -------
    saved
        `SavedFrame` and why it was saved.
    failed
        Message for the person.
    """

    saved = Signal(object, str)
    failed = Signal(str)

    MAX_WAITING = 8

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._waiting: list[tuple[Callable[[], SavedFrame], str]] = []
        self._reason = ""
        self._task = BackgroundTask(self)
        self._task.yielded.connect(self._on_saved)
        self._task.failed.connect(lambda error: self.failed.emit(f"not saved: {error}"))
        self._task.finished.connect(self._next)

    def save(self, work: Callable[[], SavedFrame], reason: str = "") -> bool:
        """Do the work of saving a frame soon; return False if too much waits already."""
        if len(self._waiting) >= self.MAX_WAITING:
            return False
        self._waiting.append((work, reason))
        if not self._task.is_running:
            self._next()
        return True

    def shut_down(self) -> None:
        """Drop what waits."""
        self._waiting.clear()
        self._task.abandon()

    def _next(self) -> None:
        if not self._waiting:
            return
        work, self._reason = self._waiting.pop(0)
        self._task.start(lambda _cancel, _report: _done(work))

    def _on_saved(self, saved: SavedFrame) -> None:
        self.saved.emit(saved, self._reason)


def _done(work: Callable[[], SavedFrame]) -> Iterator[SavedFrame]:
    # in the thread: a generator does nothing before it is asked
    yield work()


class LiveKeep(QWidget):
    """Folder, recording and automatic capture.

    Frames go into the dataset that is open in the window, else into the folder.

    Parameters
    ----------
    datasets
        Knows which dataset is open.

    Signals
    -------
    recording_changed
        A recording began or ended.
    """

    recording_changed = Signal()

    def __init__(self, datasets: DatasetState, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._datasets, self._group = datasets, ""
        self._pipeline: LivePipeline | None = None
        self._source = ""
        self._recorder: Recorder | None = None
        self._finishing: Recorder | None = None
        self._finish_timer = QTimer(self)
        self._finish_timer.setInterval(_FINISH_LOOK_MS)
        self._finish_timer.timeout.connect(self._say_recorded)
        self._capture: AutoCapture | None = None
        self._num_saved = 0
        self.saver = FrameSaver(self)
        self.saver.saved.connect(self._on_saved)
        self.saver.failed.connect(lambda message: self._note.say(message, color=RED))
        self._build()

    def _build(self) -> None:
        self._folder = named(
            QLineEdit(str(Path.home() / "DeepPixel live")),
            "live.folder",
            "Where recordings go, and frames while no dataset is open: PNG or TIFF images with "
            "their instances as COCO JSON beside them.",
        )
        self._browse = named(QToolButton(), "live.browse", "Choose the folder.")
        self._browse.setText("…")
        self._video = _choices("live.video", "Whether and how the film is recorded (MP4).", _VIDEOS)
        self._labels = _choices(
            "live.labels", "How masks are recorded, as label images of each result.", _LABELS
        )
        self._kind = _choices(
            "live.capture",
            "Save frames by themselves: those with many instances in doubt, those unlike the ones "
            "that were saved, or one every few seconds.",
            _CAPTURES,
        )
        self._every = named(QDoubleSpinBox(), "live.every", "Seconds between two saved frames.")
        self._every.setRange(0.5, 3600)
        self._every.setValue(10)
        self._every.setSuffix(" s")
        self._limit = named(QSpinBox(), "live.limit", "Most frames that are saved by themselves.")
        self._limit.setRange(1, 100_000)
        self._limit.setValue(100)
        self.record_button = button(
            "Record", "live.record", "Record video, masks and a table of instances."
        )
        self.record_button.setEnabled(False)
        # each its own: a recording tells of itself twice a second
        self._record_note = Note("live.record_note")
        self._note = Note("live.keep_note", lines=3)
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        folder = QHBoxLayout()
        folder.addWidget(self._folder, 1)
        folder.addWidget(self._browse)
        form.addRow("Folder", folder)
        form.addRow("Video", self._video)
        form.addRow("Masks", self._labels)
        form.addRow("", self.record_button)
        form.addRow("", self._record_note)
        form.addRow("Auto-save", self._kind)
        form.addRow("At most every", self._every)
        form.addRow("Limit", self._limit)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addWidget(self._note)
        self._browse.clicked.connect(self._on_browse)
        self.record_button.clicked.connect(self._on_record)
        for signal in (
            self._kind.currentIndexChanged,
            self._every.valueChanged,
            self._limit.valueChanged,
        ):
            signal.connect(self._renew_capture)

    @property
    def folder(self) -> Path:
        """Where everything goes."""
        return Path(self._folder.text()).expanduser()

    @property
    def source_name(self) -> str:
        """What the source of the last run is called."""
        return self._source

    def set_folder(self, folder: Path) -> None:
        """Choose where everything goes."""
        self._folder.setText(str(folder))

    # -- following a run ----------------------------------------------------------------------

    def follow(self, pipeline: LivePipeline | None, source: str = "") -> None:
        """Keep what comes from another pipeline; None: nothing comes."""
        if pipeline is self._pipeline:
            return
        self._stop_recording()
        self._pipeline, self._source = pipeline, source or self._source
        self.record_button.setEnabled(pipeline is not None)
        if pipeline is not None:
            self._group = time.strftime(f"{self._source} %Y-%m-%d %H.%M.%S")
            # what went wrong before is over
            if not self._finish_timer.isActive():
                self._record_note.say("", color="")
            self._note.say("", color="")
        self._renew_capture()

    def see(self, result: LiveResult, score: float) -> None:
        """Look at a result that was drawn, and save it if it is worth that."""
        if self._capture is None:
            return
        self._capture.shown_score = score
        reason = self._capture.decide(result)
        if reason is not None:
            self.save(result, reason)

    def save(self, result: LiveResult, reason: str = "") -> None:
        """Save a frame with its instances."""
        dataset, source = self._datasets.dataset, self._source
        if dataset is None:
            work = partial(save_frame, result, self.folder, source=source)
        else:
            work = partial(add_frame, result, dataset, source=source, group=self._group)
        if not self.saver.save(work, reason):
            self._note.say("not saved: the disk is too slow", color=RED)

    def _renew_capture(self) -> None:
        kind = self._kind.currentData()
        self._every.setEnabled(bool(kind))
        self._limit.setEnabled(bool(kind))
        self._capture = None
        if not kind:
            return
        seconds = self._every.value()
        policy = CapturePolicy(
            kind=cast(Literal["uncertain", "novel", "interval"], kind),
            every_s=seconds,
            min_gap_s=seconds,
            limit=self._limit.value(),
        )
        self._capture = AutoCapture(policy)

    def _on_saved(self, saved: SavedFrame, reason: str) -> None:
        if not saved.is_new:
            self._note.say(f"{saved.image.name} is there already", color="")
            return
        self._num_saved += 1
        self._datasets.note_change()
        full = " · the limit is reached" if self._capture and self._capture.is_full else ""
        why = f" ({reason})" if reason else ""
        self._note.say(f"{self._num_saved} saved: {saved.image.name}{why}{full}", color="")

    # -- recording ----------------------------------------------------------------------------

    @property
    def is_recording(self) -> bool:
        """Whether a recording is under way."""
        return self._recorder is not None and self._recorder.is_recording

    def _on_record(self) -> None:
        if self._recorder is not None:
            self._stop_recording()
        else:
            self._start_recording()

    def _start_recording(self) -> None:
        if self._pipeline is None:
            return
        options = RecordOptions(video=self._video.currentData(), labels=self._labels.currentData())
        name = time.strftime("recording %Y-%m-%d %H.%M.%S")
        try:
            self._recorder = Recorder(self.folder / name, options, source=self._source)
        except DeepPixelError as error:
            self._record_note.say(str(error), color=RED)
            return
        self._recorder.start()
        self._pipeline.listeners.append(self._recorder.put)
        if options.video == "raw":
            self._pipeline.frame_listeners.append(self._recorder.put)
        self.record_button.setText("Stop recording")
        self.recording_changed.emit()

    def _stop_recording(self) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder is None:
            return
        if self._pipeline is not None:
            for listeners in (self._pipeline.listeners, self._pipeline.frame_listeners):
                if recorder.put in listeners:
                    listeners.remove(recorder.put)
        # its thread goes on by itself until all is written
        recorder.stop(timeout_s=0)
        self.record_button.setText("Record")
        self._finishing = recorder
        self._finish_timer.start()
        self._say_recorded()
        self.recording_changed.emit()

    def _say_recorded(self) -> None:
        """Say what is on the disk once all of it is."""
        recorder = self._finishing
        if recorder is None or recorder.is_alive:
            self._record_note.say("finishing the recording …", color="")
            return
        self._finish_timer.stop()
        self._record_note.say(
            recorder.fault or f"recorded {_counted(recorder)} in {recorder.folder}",
            color=RED if recorder.fault else "",
        )

    def look(self) -> None:
        """Say how the recording is doing; called once in a while."""
        recorder = self._recorder
        if recorder is None:
            return
        if not recorder.is_recording and not recorder.is_alive:
            self._stop_recording()
            return
        stats = recorder.stats
        dropped = f" · {stats.dropped:,} dropped: the disk is too slow" if stats.dropped else ""
        self._record_note.say(
            f"recording: {_counted(recorder)}, {stats.num_bytes / 1e6:.1f} MB{dropped}",
            color="",
        )

    def shut_down(self) -> None:
        """Stop recording, and save nothing more."""
        self.follow(None)
        self._finish_timer.stop()
        self.saver.shut_down()

    def _on_browse(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder for frames and recordings")
        if folder:
            self.set_folder(Path(folder))


def _counted(recorder: Recorder) -> str:
    """Return how much is on the disk: of the film, or without one, of the results."""
    if recorder.options.video == "none":
        return f"{recorder.stats.results:,} results"
    return f"{recorder.stats.film_frames:,} film frames"


def _choices(name: str, tooltip: str, choices: dict[str, str]) -> QComboBox:
    box = combo(name, tooltip)
    for text, data in choices.items():
        box.addItem(text, data)
    return box
