"""Opens an image of a comparison in napari, with what a model got right and wrong."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal

from napari_deeppixel.core.errors import AnnotationError, DeepPixelError
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.normalization import Normalization
from napari_deeppixel.core.progress import CancelToken
from napari_deeppixel.training.compare import Role, outcome_from_file
from napari_deeppixel.training.pixels import PixelCache
from napari_deeppixel.training.samples import Sample, read_split
from napari_deeppixel.viewer.outcome_layers import (
    OutcomeKind,
    outcome_labels,
    outcome_layers,
    restore,
    show_outcome,
)
from napari_deeppixel.widgets.worker import BackgroundTask, ReportProgress

# one large image after the other is looked at
_CACHE_BYTES = 1 << 28


@dataclass(frozen=True, kw_only=True)
class OutcomeRequest:
    """Which outcome to show.

    Attributes
    ----------
    comparison
        File of the comparison.
    folder
        Folder of the split, as `read_split` takes it.
    role
        Whose outcome.
    file_name, plane
        Of which image.
    """

    comparison: Path
    folder: Path
    role: Role
    file_name: str
    plane: PlaneIndex


@dataclass(frozen=True, kw_only=True, eq=False)
class _Drawn:
    request: OutcomeRequest
    pixels: NDArray[Any]
    labels: dict[OutcomeKind, NDArray[Any]]
    counts: dict[OutcomeKind, int]


class OutcomeViewer(QObject):
    """Shows one outcome at a time in a viewer; of several requests the newest counts.

    Parameters
    ----------
    viewer
        The napari viewer.

    Signals
    -------
    changed
        Another outcome is shown, or none.
    failed
        Message for the person.
    """

    changed = Signal()
    failed = Signal(str)

    def __init__(self, viewer: Any, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.shown: OutcomeRequest | None = None
        self.counts: dict[OutcomeKind, int] = {}
        self._next: OutcomeRequest | None = None
        # the samples of the split that was read last: used in the thread alone
        self._samples: dict[Path, dict[tuple[str, PlaneIndex], Sample]] = {}
        self._task = BackgroundTask(self)
        self._task.yielded.connect(self._on_drawn)
        self._task.failed.connect(self._on_failed)
        self._task.finished.connect(self._on_finished)

    @property
    def is_busy(self) -> bool:
        """Whether an outcome is being read."""
        return self._task.is_running

    def show(self, request: OutcomeRequest) -> None:
        """Show an outcome as soon as it is read."""
        self._next = request
        if self._task.is_running:
            self._task.cancel()
        else:
            self._start()

    def forget(self) -> None:
        """Take the outcome out of the viewer, and show again what was hidden for it."""
        self._next = None
        self._task.cancel()
        if outcome_layers(self._viewer):
            restore(self._viewer)
        self.shown = None
        self.changed.emit()

    def forget_samples(self) -> None:
        """Read the annotations anew the next time: they were changed."""
        self._samples = {}

    def shut_down(self) -> None:
        """Read no more; what is shown stays."""
        self._next = None
        self._task.abandon()

    def _start(self) -> None:
        request, self._next = self._next, None
        if request is None:
            return
        known = self._samples

        def work(cancel: CancelToken, _report: ReportProgress) -> Iterator[_Drawn]:
            yield _drawn(request, known, cancel)

        self._task.start(work)

    def _on_drawn(self, drawn: _Drawn) -> None:
        request = drawn.request
        show_outcome(
            self._viewer,
            drawn.pixels,
            drawn.labels,
            name=f"{Path(request.file_name).stem} ({request.role.value})",
        )
        self.shown, self.counts = request, drawn.counts
        self.changed.emit()

    def _on_failed(self, error: BaseException) -> None:
        self.failed.emit(str(error))
        if not isinstance(error, DeepPixelError | OSError):
            raise error

    def _on_finished(self) -> None:
        self._start()


def _drawn(
    request: OutcomeRequest,
    known: dict[Path, dict[tuple[str, PlaneIndex], Sample]],
    cancel: CancelToken,
) -> _Drawn:
    if request.folder not in known:
        # what becomes black and white is napari's here
        samples = read_split(
            request.folder, Normalization(mode="auto"), cache=PixelCache(_CACHE_BYTES)
        )
        known.clear()
        known[request.folder] = {(each.file_name, each.plane): each for each in samples}
    cancel.raise_if_cancelled()
    sample = known[request.folder].get((request.file_name, request.plane))
    if sample is None:
        raise AnnotationError(
            f"{request.file_name} is no complete image of {request.folder.name} any more: compare "
            "again after the next training"
        )
    outcome = outcome_from_file(request.comparison, request.role, sample)
    found = {
        OutcomeKind.TRUE: outcome.true,
        OutcomeKind.FALSE: outcome.false,
        OutcomeKind.MISSED: outcome.missed,
    }
    return _Drawn(
        request=request,
        pixels=shown_pixels(sample.pixels),
        labels={kind: outcome_labels(instances) for kind, instances in found.items()},
        counts={kind: len(instances) for kind, instances in found.items()},
    )


def shown_pixels(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return pixels (H, W, C) as napari shows them: (H, W), or uint8 (H, W, 3) as colours."""
    if pixels.shape[2] not in (3, 4):
        return pixels[..., 0]
    if pixels.dtype == np.uint8:
        return pixels[..., :3]
    low, high = float(np.nanmin(pixels)), float(np.nanmax(pixels))
    shades = (pixels[..., :3].astype(np.float32) - low) / max(high - low, 1e-30) * 255
    shown: NDArray[np.uint8] = np.clip(np.nan_to_num(shades), 0, 255).astype(np.uint8)
    return shown
