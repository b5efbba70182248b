"""One detection run: what was asked for, and the work that a thread does."""

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from napari_deeppixel.core.image import ImageArray, PlaneIndex
from napari_deeppixel.core.progress import CancelToken, Progress
from napari_deeppixel.engine.base import EngineKind, Prediction, PredictOptions
from napari_deeppixel.engine.library import ModelLibrary
from napari_deeppixel.engine.spec import ModelSpec
from napari_deeppixel.widgets.worker import ReportProgress


class Scope(StrEnum):
    """Which part of an image a run covers."""

    VIEW = "view"
    PLANE = "plane"
    STACK = "stack"
    ALL = "all"


def scopes_of(image: ImageArray | None) -> list[tuple[str, Scope, str]]:
    """Return caption, scope and lead axis of each choice that an image offers."""
    scopes = [("View", Scope.VIEW, ""), ("Whole plane", Scope.PLANE, "")]
    if image is None:
        return scopes
    for axis, size in zip(image.lead_axes, image.lead_shape, strict=True):
        if size > 1:
            scopes.append((f"Stack {axis} ({size} planes)", Scope.STACK, axis))
    if len(image.lead_axes) > 1:
        scopes.append((f"All planes ({math.prod(image.lead_shape)})", Scope.ALL, ""))
    return scopes


def plane_indices(
    image: ImageArray, scope: Scope, axis: str, current: PlaneIndex
) -> tuple[PlaneIndex, ...]:
    """Return the lead indices of the planes that a scope covers, seen from the current one."""
    if scope is Scope.ALL:
        return tuple(image.plane_indices())
    if scope is not Scope.STACK:
        return (current,)
    position = image.lead_axes.index(axis)
    steps = range(image.lead_shape[position])
    return tuple((*current[:position], step, *current[position + 1 :]) for step in steps)


@dataclass(frozen=True, kw_only=True, eq=False)
class DetectJob:
    """All that a run needs, read from the window when Run was pressed."""

    image: ImageArray
    model: str
    device: str
    options: PredictOptions
    indices: tuple[PlaneIndex, ...]
    region_xyxy: tuple[int, int, int, int] | None = None
    engine: EngineKind = "fast"


@dataclass(frozen=True, kw_only=True)
class EngineReady:
    """The model is loaded."""

    spec: ModelSpec
    source: str
    device_name: str


@dataclass(frozen=True, kw_only=True, eq=False)
class PlaneFound:
    """One plane is done."""

    index: PlaneIndex
    prediction: Prediction


class EngineShelf:
    """Keeps the engine that was used last, so that the next run starts at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key: tuple[str, str, EngineKind, int] | None = None
        self._engine: Any = None

    def engine(
        self,
        model: str,
        device: str,
        kind: EngineKind = "fast",
        *,
        cancel: CancelToken,
        report: ReportProgress,
    ) -> Any:
        """Return the engine of a model on a device, loading it where it is not the last one."""
        # imported here: torch takes seconds, and this runs in a thread
        from napari_deeppixel.engine.weights import load_model

        path = ModelLibrary().find(model) or Path(model)
        # a file that was written anew is another model
        key = (model, device, kind, path.stat().st_mtime_ns if path.is_file() else 0)
        with self._lock:
            if self._key != key:
                report(Progress(fraction=0.0, message="loading the model"))
                self._key, self._engine = None, None
                self._engine = load_model(
                    model, engine=kind, device=device, cancel=cancel, on_progress=report
                )
                self._key = key
            return self._engine


def run_job(
    job: DetectJob, shelf: EngineShelf, cancel: CancelToken, report: ReportProgress
) -> Iterator[EngineReady | PlaneFound]:
    """Load the model, then yield the prediction of each plane."""
    report(Progress(fraction=0.0, message="starting"))
    engine = shelf.engine(job.model, job.device, job.engine, cancel=cancel, report=report)
    yield EngineReady(spec=engine.spec, source=engine.source, device_name=engine.device_name)
    from napari_deeppixel.engine.planes import predict_planes

    planes = predict_planes(
        job.image,
        engine,
        job.options,
        indices=job.indices,
        region_xyxy=job.region_xyxy,
        cancel=cancel,
        on_progress=report,
    )
    for index, prediction in planes:
        yield PlaneFound(index=index, prediction=prediction)


def find_devices() -> list[tuple[str, str]]:
    """Return id and description of each device; loads torch, so run it in a thread."""
    from napari_deeppixel.engine.device import list_devices

    return [(device.id, device.description) for device in list_devices()]
