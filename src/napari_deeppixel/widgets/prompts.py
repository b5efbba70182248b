"""Asks the model about boxes and points that a person gives, in a thread, on features it keeps."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.geometry import Boxes
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import Instance
from napari_deeppixel.core.progress import CancelToken, Progress
from napari_deeppixel.engine.base import BoxPrompter
from napari_deeppixel.widgets.job import DetectJob, EngineShelf
from napari_deeppixel.widgets.worker import BackgroundTask, ReportProgress

# a larger plane is looked at in a window round the prompt: its features would take seconds
_MAX_WHOLE_PIXELS = 2048 * 2048
_MARGIN_PX = 512
# planes, or windows of one, whose features are kept: a few tens of MB each
_MAX_KEPT = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Prompt:
    """What to ask, and of which plane.

    Attributes
    ----------
    job
        Image, model and settings.
    index
        Lead index of the plane.
    boxes_xyxy
        Boxes (N, 4) to find the object in; None: the object at a point.
    point_xy
        The point.
    size_px
        Side of a typical object, for a point.
    purpose
        Anything that the asker wants back with the answer.
    """

    job: DetectJob
    index: PlaneIndex
    boxes_xyxy: Boxes | None = None
    point_xy: tuple[float, float] = (0.0, 0.0)
    size_px: float | None = None
    purpose: Any = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """What a model with these categories says to a prompt; None where it sees no object."""

    prompt: Prompt
    categories: CategoryTable
    instances: list[Instance | None]


class PromptRunner(QObject):
    """Answers prompts one after the other.

    Signals
    -------
    answered
        `Answer`.
    progressed
        `Progress`, while the model is loaded or looks at a plane for the first time.
    failed
        The exception that stopped a prompt.
    busy_changed
        Whether prompts are under way.
    """

    answered = Signal(object)
    progressed = Signal(object)
    failed = Signal(object)
    busy_changed = Signal(bool)

    def __init__(self, shelf: EngineShelf, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._shelf = shelf
        self._waiting: list[Prompt] = []
        self._kept = _KeptFeatures()
        self._told: Progress | None = None
        self._task = BackgroundTask(self)
        self._task.yielded.connect(self.answered)
        self._task.progressed.connect(self._on_progressed)
        self._task.failed.connect(self.failed)
        self._task.finished.connect(self._on_finished)

    @property
    def is_busy(self) -> bool:
        """Whether prompts are under way."""
        return self._task.is_running

    def ask(self, prompt: Prompt) -> None:
        """Answer a prompt, after those that wait already."""
        self._waiting.append(prompt)
        self._start()

    def cancel(self) -> None:
        """Drop all prompts."""
        self._waiting.clear()
        self._task.cancel()

    def shut_down(self) -> None:
        """Drop all prompts and call nobody any more."""
        self._waiting.clear()
        self._task.abandon()

    def _start(self) -> None:
        if self._task.is_running or not self._waiting:
            return
        prompts, self._waiting = self._waiting, []
        shelf, kept = self._shelf, self._kept
        self._task.start(lambda cancel, report: _answers(prompts, shelf, kept, cancel, report))
        self.busy_changed.emit(True)

    def _on_progressed(self, progress: Progress) -> None:
        # each poll tells the newest again, also after the answer or a cancel
        if progress is not self._told and not self._task.is_cancelled:
            self._told = progress
            self.progressed.emit(progress)

    def _on_finished(self) -> None:
        self.busy_changed.emit(False)
        self._start()


@dataclass(frozen=True, kw_only=True, eq=False)
class _Features:
    key: tuple[Any, ...]
    # kept so that its id, which is in the key, is not given to another array
    pixels: Any
    region_xyxy: tuple[int, int, int, int] | None
    prompter: BoxPrompter

    def covers(self, box_xyxy: tuple[float, ...]) -> bool:
        if self.region_xyxy is None:
            return True
        x1, y1, x2, y2 = self.region_xyxy
        return x1 <= box_xyxy[0] and y1 <= box_xyxy[1] and x2 >= box_xyxy[2] and y2 >= box_xyxy[3]


class _KeptFeatures:
    """Features of the planes that were asked about last; only the task's thread uses it."""

    def __init__(self) -> None:
        self._kept: list[_Features] = []

    def prompter(
        self, prompt: Prompt, engine: Any, *, cancel: CancelToken, report: ReportProgress
    ) -> BoxPrompter:
        # imported here: torch takes seconds, and this runs in a thread
        from napari_deeppixel.engine.planes import plane_prompter
        from napari_deeppixel.engine.prompt import region_around

        job, box = prompt.job, _box_of(prompt)
        key: tuple[Any, ...] = (id(job.image.pixels), job.image.axes, prompt.index)
        key += (engine.source, job.device, job.engine, job.options)
        for position, features in enumerate(self._kept):
            if features.key == key and features.covers(box):
                self._kept.append(self._kept.pop(position))
                return features.prompter
        height, width = job.image.image_hw
        region = None
        if height * width > _MAX_WHOLE_PIXELS:
            region = region_around(box, job.image.image_hw, margin=_MARGIN_PX)
        report(Progress(fraction=0.0, message="looking at the image"))
        prompter = plane_prompter(
            job.image,
            engine,
            job.options,
            index=prompt.index,
            region_xyxy=region,
            cancel=cancel,
            on_progress=report,
        )
        self._kept = self._kept[-_MAX_KEPT + 1 :]
        self._kept.append(
            _Features(key=key, pixels=job.image.pixels, region_xyxy=region, prompter=prompter)
        )
        return prompter


def _box_of(prompt: Prompt) -> tuple[float, ...]:
    if prompt.boxes_xyxy is None:
        return prompt.point_xy * 2
    low, high = prompt.boxes_xyxy.min(axis=0), prompt.boxes_xyxy.max(axis=0)
    return float(low[0]), float(low[1]), float(high[2]), float(high[3])


def _answers(
    prompts: list[Prompt],
    shelf: EngineShelf,
    kept: _KeptFeatures,
    cancel: CancelToken,
    report: ReportProgress,
) -> Iterator[Answer]:
    for prompt in prompts:
        job = prompt.job
        engine = shelf.engine(job.model, job.device, job.engine, cancel=cancel, report=report)
        prompter = kept.prompter(prompt, engine, cancel=cancel, report=report)
        if prompt.boxes_xyxy is None:
            found = [prompter.instance_at(prompt.point_xy, size_px=prompt.size_px)]
        else:
            found = prompter.instances_in(prompt.boxes_xyxy)
        yield Answer(prompt=prompt, categories=engine.spec.categories, instances=found)
