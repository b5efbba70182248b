"""Planes as they are → what a network finds in them, with the device kept busy."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.core.normalization import Normalization
from napari_deeppixel.core.progress import CancelToken
from napari_deeppixel.engine.cuda_graph import Batch, Programs, Recorder
from napari_deeppixel.engine.device import is_out_of_memory
from napari_deeppixel.engine.device_input import stage
from napari_deeppixel.engine.fixed_shape import (
    Answer,
    FixedShapeForward,
    Settings,
    mask_slots,
    settings_of,
)
from napari_deeppixel.engine.torch_gate import torch

# planes in one batch: the next goes up, and the last is pasted, while one is computed
_BATCH = 8
# masks that are computed with the boxes of a first image; where there are more, once more
_FIRST_MASKS = 100
_MAX_FORWARDS = 8

Found = dict[str, Any]


class DeviceForward:
    """A network's forward with fixed shapes, recorded where the device can do that.

    For one thread at a time.

    Parameters
    ----------
    network
        Mask R-CNN in evaluation, on the device.
    device
        torch device.
    recorder
        See `Programs`.
    """

    def __init__(self, network: Any, device: Any, *, recorder: Recorder | None = None) -> None:
        self._network, self._device = network, device
        self._programs = Programs(device, recorder=recorder)
        self._forwards: dict[Settings, FixedShapeForward] = {}
        self._slots: dict[Settings, int] = {}

    def __call__(
        self,
        planes: Sequence[NDArray[Any]],
        normalizations: Sequence[Normalization],
        *,
        otherwise: Callable[[int], Found],
        cancel: CancelToken,
    ) -> Iterator[Found]:
        """Start on all planes; return what torchvision's forward gives of each, one after another.

        Parameters
        ----------
        planes
            (H, W, C), the channels that the network takes.
        normalizations
            How intensities of each become the network's input.
        otherwise
            Gives it for the plane at a position by torchvision's own forward, where fixed shapes
            have no room.
        cancel
            Looked at before each batch.

        Returns
        -------
        iterator
            Of torchvision's dicts, of CPU tensors.

        Raises
        ------
        RunCancelled
            If `cancel` was set.
        """
        staged = [stage(*both) for both in zip(planes, normalizations, strict=True)]
        under_way = []
        for part in _alike(staged):
            cancel.raise_if_cancelled()
            under_way.append((part, *self._submit([staged[n] for n in part])))
        return self._answers(under_way, otherwise, cancel)

    def _answers(
        self,
        under_way: list[tuple[list[int], Settings, Batch]],
        otherwise: Callable[[int], Found],
        cancel: CancelToken,
    ) -> Iterator[Found]:
        for part, settings, batch in under_way:
            cancel.raise_if_cancelled()
            answer = batch.answer()
            counts = answer.is_valid.sum(dim=1).tolist()
            self._guess(settings, max(counts))
            masks = self._masks(batch, answer, settings, max(counts))
            for row, position in enumerate(part):
                if masks is None or not answer.is_exact[row]:
                    yield otherwise(position)
                else:
                    yield _found(answer, masks, row, counts[row])

    def clear(self) -> None:
        """Give the device's memory back."""
        self._programs.clear()
        self._forwards.clear()

    def _submit(self, staged: Sequence[tuple[Any, Any]]) -> tuple[Settings, Batch]:
        pixels, scalings = zip(*staged, strict=True)
        settings = settings_of(self._network, pixels[0].shape[:2])
        slots = self._slots.get(settings, mask_slots(_FIRST_MASKS, settings.max_detections))
        make = partial(self._function, settings, slots)
        return settings, self._programs.submit((settings, slots), make, [pixels, scalings])

    def _function(self, settings: Settings, slots: int) -> Callable[..., tuple[Any, Any]]:
        return partial(self._forward(settings), slots=slots)

    def _forward(self, settings: Settings) -> FixedShapeForward:
        if settings not in self._forwards:
            while len(self._forwards) >= _MAX_FORWARDS:
                # the oldest: a folder may hold images of thousands of sizes
                del self._forwards[next(iter(self._forwards))]
            forward = FixedShapeForward(self._network, settings, device=self._device)
            self._forwards[settings] = forward
        return self._forwards[settings]

    def _guess(self, settings: Settings, count: int) -> None:
        """Choose for how many objects masks are computed next time, from what there were now.

        Each size is recorded anew, so it falls only where three quarters would be for nothing.
        """
        slots = self._slots.get(settings, 0)
        if count > slots or 4 * count < slots:
            self._slots[settings] = mask_slots(count, settings.max_detections)

    def _masks(self, batch: Batch, answer: Answer, settings: Settings, count: int) -> Any:
        """Return masks (B, S, M, M) of all that was found; None: they cannot be had any more."""
        if count <= answer.masks.shape[1]:
            return answer.masks
        if batch.result is None:
            return None
        on_device, levels = batch.result
        slots = mask_slots(count, settings.max_detections)
        boxes, class_indices = on_device.input_boxes, on_device.class_indices
        try:
            with torch.inference_mode():
                masks = self._forward(settings).masks_of(
                    levels, boxes[:, :slots], class_indices[:, :slots]
                )
                return masks.cpu()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return None


def _alike(staged: Sequence[tuple[NDArray[Any], Any]]) -> list[list[int]]:
    """Return the positions of planes in batches, in order, each of one size and type."""
    parts: list[list[int]] = []
    for position, (pixels, _) in enumerate(staged):
        fits = parts and len(parts[-1]) < _BATCH
        before = staged[parts[-1][-1]][0] if fits else np.empty(0)
        if fits and (before.shape, before.dtype) == (pixels.shape, pixels.dtype):
            parts[-1].append(position)
        else:
            parts.append([position])
    return parts


def _found(answer: Answer, masks: Any, row: int, count: int) -> Found:
    return {
        "boxes": answer.boxes[row, :count],
        "labels": answer.class_indices[row, :count],
        "scores": answer.scores[row, :count],
        "masks": masks[row, :count, None],
    }
