"""The fast path: same weights and same results as `engine.maskrcnn`, several times faster."""

import logging
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.core.image import pick_channels
from napari_deeppixel.core.normalization import Normalization
from napari_deeppixel.core.progress import CancelToken, Progress
from napari_deeppixel.engine.base import EngineKind, PredictOptions
from napari_deeppixel.engine.device import is_out_of_memory
from napari_deeppixel.engine.device_forward import DeviceForward
from napari_deeppixel.engine.fused import fused_model
from napari_deeppixel.engine.kernels import prepare_kernels
from napari_deeppixel.engine.maskrcnn import MaskRCNNEngine, ReportProgress, no_detections
from napari_deeppixel.engine.spec import ModelSpec

_logger = logging.getLogger(__name__)


class FastEngine(MaskRCNNEngine):
    """Torchvision's Mask R-CNN with each part in the place of a faster one (`engine.fused`).

    In fp32 it finds the same instances: boxes within 0.05 px, scores within 1e-4, masks but for
    one pixel in 10,000. Kernels are compiled in the background at first; until they are ready,
    torch's own operations give the same results, less quickly. On CUDA the whole forward has fixed
    shapes and no host in between (`engine.device_forward`); a run is cancelled between batches of
    eight planes there.

    Parameters
    ----------
    spec, model, device, weights_hash
        As for `MaskRCNNEngine`. The model stays as it is, and in memory.
    """

    def __init__(
        self,
        spec: ModelSpec,
        model: Any,
        *,
        device: str = "cpu",
        weights_hash: str = "",
    ) -> None:
        super().__init__(spec, model, device=device, weights_hash=weights_hash)
        self._fused: dict[Any, Any] = {}
        self._device_forwards: dict[Any, DeviceForward] = {}
        self._has_fixed_shapes = self._device.type == "cuda"
        prepare_kernels()

    @property
    def kind(self) -> EngineKind:
        """Which forward it has: its own."""
        return "fast"

    def _network(self, dtype: Any) -> Any:
        if dtype not in self._fused:
            self._fused[dtype] = fused_model(self._model, dtype)
        return self._fused[dtype]

    def _detect(
        self,
        planes: Sequence[NDArray[Any]],
        options: PredictOptions,
        cancel: CancelToken | None,
        on_progress: ReportProgress | None,
    ) -> Generator[dict[str, Any]]:
        if self._has_fixed_shapes:
            with self._turn(options) as network:
                found = self._submit(network, planes, options, cancel or CancelToken())
                if found is not None:
                    # the next planes are computed while the caller pastes the first
                    for done, raw in enumerate(found, start=1):
                        if on_progress is not None:
                            on_progress(Progress(fraction=min(done / len(planes), 0.99)))
                        yield raw
                    return
        # on CUDA: halves a batch until it fits
        yield from super()._detect(planes, options, cancel, on_progress)

    def _submit(
        self,
        network: Any,
        planes: Sequence[NDArray[Any]],
        options: PredictOptions,
        cancel: CancelToken,
    ) -> Iterator[dict[str, Any]] | None:
        """Start on all planes, and return what is found in each; None: it does not work."""
        normalization = options.normalization or self._spec.normalization
        chosen = [pick_channels(plane, options.channels, self._spec.num_inputs) for plane in planes]
        fitted = [_with_limits(normalization, plane) for plane in chosen]
        used = [n for n, limits in enumerate(fitted) if limits is not None]

        def by_torchvision(position: int) -> dict[str, Any]:
            pixels = normalization.apply(chosen[used[position]])
            (found,) = self._forward(network, [self._to_input(pixels)])
            return found

        try:
            if network not in self._device_forwards:
                self._device_forwards[network] = DeviceForward(network, self._device)
            found = self._device_forwards[network](
                [chosen[n] for n in used],
                [limits for limits in fitted if limits is not None],
                otherwise=by_torchvision,
                cancel=cancel,
            )
        except RuntimeError as error:
            if is_out_of_memory(error):
                self._remember_too_many(len(planes), planes[0].shape[:2])
            else:
                # no GPU has run this yet: until one has, a fault in it must not stop a person
                self._has_fixed_shapes = False
                _logger.warning(
                    "torchvision's forward from now on, slower, same results: %s", error
                )
            if network in self._device_forwards:
                self._device_forwards[network].clear()
            return None
        return (next(found) if n in used else no_detections() for n in range(len(planes)))


def _with_limits(normalization: Normalization, plane: NDArray[Any]) -> Normalization | None:
    """Return what stretches a plane as a normalisation does; None: it holds no contrast.

    As `MaskRCNNEngine._has_contrast`, which asks this of the normalised plane.
    """
    if normalization.mode != "percentile":
        return normalization
    low, high = normalization.limits(plane)
    if low < high and plane.dtype != np.bool_:
        # a pixel is at or below the one and another at or above the other, unless none is a number
        return (
            replace(normalization, mode="range", low=low, high=high) if _has_number(plane) else None
        )
    return normalization if np.ptp(normalization.apply(plane, (low, high))) > 0 else None


def _has_number(plane: NDArray[Any]) -> bool:
    return plane.dtype.kind != "f" or bool(np.isfinite(plane).any())
