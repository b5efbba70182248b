"""Runs a job in the background and puts what it finds on the layers."""

import time
from dataclasses import asdict, dataclass
from typing import Any
from uuid import uuid4

from napari.layers import Image
from qtpy.QtCore import QObject, Signal

from napari_deeppixel import __version__
from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.core.geometry import Outline
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.edits.rerun import Keep
from napari_deeppixel.edits.session import AnnotationSession
from napari_deeppixel.engine.base import cap_message
from napari_deeppixel.viewer.layers import (
    MAX_INSTANCE_LAYERS,
    InstanceLayers,
    LabelsMode,
    instance_layers_of,
)
from napari_deeppixel.widgets.job import (
    DetectJob,
    EngineReady,
    EngineShelf,
    PlaneFound,
    run_job,
)
from napari_deeppixel.widgets.worker import BackgroundTask, StepRunner


class DetectRun(QObject):
    """One detection run at a time on a viewer.

    Attributes
    ----------
    shelf
        Holds the engine that was used last; prompts use it, too.

    Signals
    -------
    progressed
        `Progress` of the run.
    failed
        The exception that ended the run.
    finished
        A summary for the person; always the last. Empty if the run failed.
    """

    progressed = Signal(object)
    failed = Signal(object)
    finished = Signal(str)

    def __init__(self, viewer: Any, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.shelf = EngineShelf()
        self._task = BackgroundTask(self)
        self._task.yielded.connect(self._on_yielded)
        self._task.progressed.connect(self.progressed)
        self._task.failed.connect(self._on_failed)
        self._task.finished.connect(self._on_finished)
        self.steps = StepRunner(self)
        self._has_failed = False
        self._view: InstanceLayers | None = None
        self._ready: EngineReady | None = None

    @property
    def is_running(self) -> bool:
        """Whether a run is on its way."""
        return self._task.is_running

    def start(
        self,
        job: DetectJob,
        image: Image,
        *,
        channel_axis: int | None,
        mode: LabelsMode,
        keep: Keep = Keep.HUMAN,
    ) -> None:
        """Run a job whose results go on an Image layer."""
        self._keep = keep
        self._job, self._image, self._channel_axis, self._mode = (
            job,
            image,
            channel_axis,
            mode,
        )
        self._started = time.monotonic()
        # all planes of a run are one step to undo
        self._run_id = f"run {uuid4()}"
        self._view = None
        self._ready = None
        self._found = self._kept = self._held_back = self._planes = 0
        self._is_capped = self._has_failed = False
        shelf = self.shelf
        self._task.start(lambda cancel, report: run_job(job, shelf, cancel, report))

    def cancel(self) -> None:
        """Ask the run to stop; planes that are done stay."""
        self._task.cancel()

    def shut_down(self) -> None:
        """Stop, and never touch the viewer again."""
        self._task.abandon()
        self.steps.stop()

    def _on_yielded(self, result: EngineReady | PlaneFound) -> None:
        if self._image not in self._viewer.layers:
            # nothing to draw on any more
            self._task.cancel()
        elif isinstance(result, EngineReady):
            self._ready = result
        else:
            try:
                self._show(result)
            except DeepPixelError as error:
                self._task.cancel()
                self._on_failed(error)
            except Exception:
                self._has_failed = True
                self._task.cancel()
                raise

    def _show(self, found: PlaneFound) -> None:
        view = self._view or self._make_view()
        score = self._job.options.score or 0.0
        for _ in view.settle_plane(found.index):
            pass
        candidates = found.prediction.candidates
        replaced = view.session.add_predictions(
            found.index,
            candidates,
            region_xyxy=self._job.region_xyxy,
            keep=self._keep,
            joins=self._run_id,
        )
        self._planes += 1
        self._found += len(view.session.visible(found.index))
        self._kept += replaced.kept
        self._held_back += replaced.held_back
        self._is_capped |= found.prediction.is_capped(score)

    def _make_view(self) -> InstanceLayers:
        assert self._ready is not None  # the job yields it before any plane
        view = instance_layers_of(self._image)
        shape = (self._job.image.image_hw, self._job.image.lead_shape)
        if view is None or (view.channel_axis, view.shape) != (self._channel_axis, shape):
            view = self._renew_view(view)
        options = self._job.options
        view.mode = self._mode
        view.session.set_visibility(score=options.score or 0.0, min_area=options.min_area)
        view.metadata = {
            "model": self._ready.source,
            "parameters": asdict(options),
            "device": self._ready.device_name,
            "version": __version__,
        }
        self._view = view
        return view

    def _renew_view(self, old: InstanceLayers | None) -> InstanceLayers:
        """Return new instance layers; what a person did on the old ones goes along if it fits."""
        assert self._ready is not None
        job = self._job
        kept = {} if old is None else _human_work(old)
        is_same_size = old is not None and old.session.image_hw == job.image.image_hw
        if old is not None and is_same_size:
            old.discard()
        elif old is not None:
            # other pixels: the old layers stay as they are, under a name that says so
            old.set_aside()
        session = AnnotationSession(job.image.image_hw, self._ready.spec.categories)
        view = InstanceLayers(self._viewer, self._image, session, channel_axis=self._channel_axis)
        if is_same_size:
            _take_over(view, kept)
        return view

    def _on_failed(self, error: BaseException) -> None:
        self._has_failed = True
        self.failed.emit(error)

    def _on_finished(self) -> None:
        if self._view is not None and self._image in self._viewer.layers:
            self.steps.run(self._view.redraw())
        self.finished.emit("" if self._has_failed else self._summary())

    def _summary(self) -> str:
        if self._image not in self._viewer.layers:
            return "Stopped: the image layer is gone, so its results were dropped."
        if self._task.is_cancelled and not self._planes:
            return "Cancelled. Nothing was changed."
        assert self._ready is not None
        seconds = time.monotonic() - self._started
        planes = f" on {self._planes} planes" if len(self._job.indices) > 1 else ""
        parts = [f"{self._found:,} instances{planes} in {seconds:.1f} s"]
        if self._task.is_cancelled:
            parts.insert(0, f"Cancelled after {self._planes} of {len(self._job.indices)} planes")
        if self._kept:
            parts.append(
                f"{self._kept} reviewed ones kept, {self._held_back} new ones of the same objects "
                "left out"
            )
        return " · ".join(parts) + "."

    def warnings(self) -> list[str]:
        """Return what the person must know about the last run."""
        found = []
        if self._is_capped:
            message = cap_message(self._job.options.max_instances)
            found.append(f"{message[0].upper()}{message[1:]} under Advanced.")
        view = self._view
        if view is None:
            return found
        if view.mode is LabelsMode.BY_INSTANCE and view.num_visible > MAX_INSTANCE_LAYERS:
            found.append(
                f"{view.num_visible} instances are in one Labels layer: a layer for each works up "
                f"to {MAX_INSTANCE_LAYERS}."
            )
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class _HumanWork:
    """What a person did on a plane."""

    instances: InstanceSet
    regions: tuple[Outline, ...]


def _human_work(view: InstanceLayers) -> dict[PlaneIndex, _HumanWork]:
    """Return what a person did on some layers, by lead index in their data."""
    view.settle_all()
    session, work = view.session, {}
    for index in sorted({*session.plane_indices, *session.region_planes}):
        instances, regions = session.plane(index), session.regions(index)
        kept = instances.select([s is not InstanceState.UNREVIEWED for s in instances.states])
        if len(kept) or regions:
            work[view.planes.data_index(index)] = _HumanWork(instances=kept, regions=regions)
    return work


def _take_over(view: InstanceLayers, work: dict[PlaneIndex, _HumanWork]) -> None:
    """Put what a person did on earlier layers on new ones, as far as their planes are there."""
    name, lead_shape = "take over earlier work", view.planes.lead_shape
    for data_index, done in work.items():
        index = view.planes.session_index(data_index)
        fits = len(index) == len(lead_shape) and all(
            step < size for step, size in zip(index, lead_shape, strict=False)
        )
        if fits:
            view.session.add(index, done.instances, name=name)
            view.session.set_regions(index, done.regions, name=name)
