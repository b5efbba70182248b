"""Stand-ins that are quick and whose answers a person can see in the image."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.geometry import as_boxes
from napari_deeppixel.core.image import pick_channels
from napari_deeppixel.core.instance import Instance, InstanceSet
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.core.normalization import Normalization
from napari_deeppixel.core.progress import CancelToken, Progress
from napari_deeppixel.engine.base import CANDIDATE_SCORE, EngineKind, Prediction, PredictOptions
from napari_deeppixel.engine.spec import ModelSpec, slim_spec

_AUTO = Normalization(mode="auto")


class ThresholdEngine:
    """An `Engine` without a network: each group of bright pixels that touch is an instance.

    Pixels are normalised (`auto` unless the options say otherwise: uint8 by 255) and the channels
    averaged. The score of an instance is its mean brightness, at least 0.05; its predicted box is
    its tight one. Safe to call from several threads.

    Parameters
    ----------
    threshold
        Brightness (0 to 1) from which a pixel belongs to an instance.
    categories
        The first one is given to each instance; None: ``object``.
    steps
        Times per call that cancel is looked at and progress told, as the layers of a network.
    delay_s
        Pause at each step; a cancel ends it at once.
    num_planes
        How many planes it wants at once.
    hold
        Each call waits at its first step until this event is set or the call is cancelled: a test
        looks at a run in the middle without sleeping.

    Attributes
    ----------
    is_inside
        Set while a call waits for `hold`.
    calls, prompter_calls
        The options of each call of `predict` and of `prompter` so far.
    batches
        How many planes each call of `predict` got.
    """

    def __init__(
        self,
        threshold: float = 0.5,
        *,
        categories: CategoryTable | None = None,
        steps: int = 4,
        delay_s: float = 0.0,
        num_planes: int = 1,
        hold: threading.Event | None = None,
    ) -> None:
        self._threshold, self._steps, self._delay_s = threshold, steps, delay_s
        self._hold, self._num_planes = hold, num_planes
        table = categories or CategoryTable.from_names("object")
        self._spec = slim_spec("threshold", table, description="Bright pixels.", score=0.5)
        self.is_inside = threading.Event()
        self.calls: list[PredictOptions] = []
        self.prompter_calls: list[PredictOptions] = []
        self.batches: list[int] = []

    @property
    def spec(self) -> ModelSpec:
        return self._spec

    @property
    def source(self) -> str:
        return "threshold@0123456789ab"

    @property
    def device_name(self) -> str:
        return "test device"

    @property
    def kind(self) -> EngineKind:
        return "fast"

    def planes_at_once(
        self,
        image_hw: tuple[int, int],  # noqa: ARG002  part of the protocol
        options: PredictOptions,  # noqa: ARG002
    ) -> int:
        return self._num_planes

    def predict(
        self,
        planes: Sequence[NDArray[Any]],
        options: PredictOptions,
        *,
        cancel: CancelToken | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> list[Prediction]:
        cancel = cancel or CancelToken()
        self.calls.append(options)
        self.batches.append(len(planes))
        self._take_steps(cancel, on_progress)
        return [self._predict_plane(plane, options) for plane in planes]

    def prompter(
        self,
        plane: NDArray[Any],
        options: PredictOptions,
        *,
        cancel: CancelToken | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> "ThresholdPrompter":
        """Return a prompter, after steps that can be held and cancelled as those of `predict`."""
        self.prompter_calls.append(options)
        self._take_steps(cancel or CancelToken(), on_progress)
        return ThresholdPrompter(
            self._brightness(plane, options),
            threshold=self._threshold,
            categories=self._spec.categories,
            source=self.source,
        )

    def _take_steps(
        self, cancel: CancelToken, on_progress: Callable[[Progress], None] | None
    ) -> None:
        for step in range(self._steps):
            self._wait(cancel)
            cancel.raise_if_cancelled()
            if on_progress is not None:
                on_progress(Progress(fraction=step / self._steps))

    def _wait(self, cancel: CancelToken) -> None:
        if self._hold is not None:
            self.is_inside.set()
            while not (self._hold.wait(0.01) or cancel.is_cancelled):
                pass
            self.is_inside.clear()
        pause = threading.Event()
        for _ in range(round(self._delay_s / 0.01)):
            if cancel.is_cancelled:
                return
            pause.wait(0.01)

    def _brightness(self, plane: NDArray[Any], options: PredictOptions) -> NDArray[np.float64]:
        pixels = pick_channels(plane, options.channels, self._spec.num_inputs)
        bright: NDArray[np.float64] = (
            (options.normalization or _AUTO).apply(pixels).mean(axis=2, dtype=np.float64)
        )
        return bright

    def _predict_plane(self, plane: NDArray[Any], options: PredictOptions) -> Prediction:
        bright = self._brightness(plane, options)
        groups = label(bright >= self._threshold, connectivity=2)
        numbers = range(1, int(groups.max()) + 1)
        scores = np.array([bright[groups == number].mean() for number in numbers])
        scores = scores.clip(CANDIDATE_SCORE, 1)
        best = np.argsort(-scores, kind="stable")[: options.max_instances]
        masks = [CroppedMask.from_mask(groups == numbers[position]) for position in best]
        boxes = np.array([mask.box_xyxy for mask in masks if mask], np.float64).reshape(-1, 4)
        candidates = InstanceSet(
            image_hw=(plane.shape[0], plane.shape[1]),
            masks=tuple(mask for mask in masks if mask),
            categories=self._spec.categories,
            scores=scores[best],
            sources=(self.source,) * len(best),
            predicted_boxes_xyxy=boxes,
        )
        return Prediction(
            candidates=candidates,
            detection_scores=scores[best],
            max_instances=options.max_instances,
        )


class ThresholdPrompter:
    """A `BoxPrompter` without a network: the bright pixels in a box, the group under a point.

    Scores are mean brightness, at least 0.05; `size_px` changes nothing.

    Parameters
    ----------
    bright
        Brightness (H, W), 0 to 1.
    threshold
        Brightness from which a pixel is set.
    categories, source
        As instances carry them; the category is the first.
    """

    def __init__(
        self,
        bright: NDArray[np.float64],
        *,
        threshold: float,
        categories: CategoryTable,
        source: str,
    ) -> None:
        self._bright, self._is_set = bright, bright >= threshold
        self._categories, self._source = categories, source
        self.image_hw = (bright.shape[0], bright.shape[1])
        self.memory_bytes = bright.nbytes

    def instances_in(self, boxes_xyxy: Any) -> list[Instance | None]:
        height, width = self.image_hw
        boxes = as_boxes(boxes_xyxy).clip(0, (width, height, width, height))
        return [self._in_box(box) for box in boxes]

    def _in_box(self, box: NDArray[np.float64]) -> Instance | None:
        if not (box[2:] - box[:2] >= 1).all():
            return None
        x1, y1 = np.floor(box[:2]).astype(int)
        x2, y2 = np.ceil(box[2:]).astype(int)
        mask = CroppedMask.from_mask(self._is_set[y1:y2, x1:x2], y=int(y1), x=int(x1))
        return self._instance(mask, tuple(box.tolist())) if mask else None

    def instance_at(
        self,
        point_xy: tuple[float, float],
        *,
        size_px: float | None = None,  # noqa: ARG002  part of the protocol
    ) -> Instance | None:
        (x, y), (height, width) = point_xy, self.image_hw
        if not (0 <= x < width and 0 <= y < height) or not self._is_set[int(y), int(x)]:
            return None
        groups = label(self._is_set, connectivity=2)
        mask = CroppedMask.from_mask(groups == groups[int(y), int(x)])
        return self._instance(mask, mask.box_xyxy) if mask else None

    def _instance(self, mask: CroppedMask, box: tuple[float, ...]) -> Instance:
        brightness = self._bright[mask.slices][mask.pixels].mean()
        found = InstanceSet(
            image_hw=self.image_hw,
            masks=(mask,),
            categories=self._categories,
            scores=np.array([brightness]).clip(CANDIDATE_SCORE, 1),
            sources=(self._source,),
            predicted_boxes_xyxy=np.array([box]),
        )
        return found[0]
