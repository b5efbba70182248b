"""What every engine takes and gives back; no torch here, so that forms can use it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.core.geometry import Boxes
from napari_deeppixel.core.instance import Instance, InstanceSet
from napari_deeppixel.core.normalization import Normalization
from napari_deeppixel.core.progress import CancelToken, Progress
from napari_deeppixel.engine.spec import ModelSpec

# which forward a model runs by: our own, or torchvision's to compare with
EngineKind = Literal["fast", "reference"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]

# torchvision's own default: below it, boxes are noise
CANDIDATE_SCORE = 0.05
DEFAULT_MAX_INSTANCES = 1000


class InstanceCapWarning(UserWarning):
    """As many instances were found as the limit allows; there may be more."""


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """How to run a network on an image. None takes the model's own setting.

    Attributes
    ----------
    score
        Lowest score (0 to 1) of an instance. Lower ones, down to 0.05, are kept as candidates.
    mask_threshold
        Probability (0 to 1) from which a pixel belongs to a mask (He et al. 2017, sec. 3.1: 0.5).
    box_nms
        IoU (0 to 1) above which the lower of two boxes of one category is dropped.
    max_instances
        Most instances a plane.
    min_area
        Smallest instance in pixels.
    zoom
        How many times the image is magnified before the network, 0.1 to 10; below the model's own
        it is faster and finds larger objects, above it smaller ones.
    channels
        Channels that feed the network: one for all inputs, or one for each.
    normalization
        How intensities become the network's input.
    precision
        ``auto``: bf16 (fp16 on older cards) for the convolutions on CUDA, fp32 elsewhere. Boxes
        are always computed in fp32.

    Raises
    ------
    ValueError
        If a value is out of its range.
    """

    score: float | None = None
    mask_threshold: float = 0.5
    box_nms: float | None = None
    max_instances: int = DEFAULT_MAX_INSTANCES
    min_area: int = 1
    zoom: float | None = None
    channels: tuple[int, ...] | None = None
    normalization: Normalization | None = None
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        for name in ("score", "mask_threshold", "box_nms"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} must lie in 0..1, got {value}")
        if self.zoom is not None and not 0.1 <= self.zoom <= 10:
            raise ValueError(f"zoom must lie in 0.1..10, got {self.zoom}")
        for name in ("max_instances", "min_area"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.precision not in ("auto", "fp32", "bf16", "fp16"):
            raise ValueError(f"precision must be auto, fp32, bf16 or fp16, got {self.precision!r}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """What a network found in one plane, hidden candidates included.

    Attributes
    ----------
    candidates
        All detections with a score of 0.05 or more whose mask has a pixel, best first.
    detection_scores
        float64: the scores of all detections, also of those without a pixel.
    max_instances
        The limit that was set.
    """

    candidates: InstanceSet
    detection_scores: NDArray[np.float64]
    max_instances: int

    def at(self, *, score: float, min_area: int = 1) -> InstanceSet:
        """Return the instances with at least a score and an area in pixels."""
        candidates = self.candidates
        return candidates.select((candidates.scores >= score) & (candidates.areas >= min_area))

    def moved(self, *, dy: int, dx: int, image_hw: tuple[int, int]) -> "Prediction":
        """Return the same prediction shifted into a plane of another size."""
        return replace(self, candidates=self.candidates.moved(dy=dy, dx=dx, image_hw=image_hw))

    def is_capped(self, score: float) -> bool:
        """Whether the limit was reached at a score, so that instances may be missing."""
        return int((self.detection_scores >= score).sum()) >= self.max_instances


def cap_message(max_instances: int) -> str:
    """Return what to tell a person when the limit of instances was reached."""
    return (
        f"the limit of {max_instances:,} instances a plane was reached, so there may be more: "
        "raise max instances"
    )


class BoxPrompter(Protocol):
    """One plane with its features kept: masks of boxes and points that a person gives.

    Coordinates are pixels of the plane, on pixel edges. Instances come back unreviewed, with the
    model as their source and handle 1: whoever keeps one gives it a handle.
    """

    @property
    def image_hw(self) -> tuple[int, int]:
        """Size of the plane."""
        ...

    @property
    def memory_bytes(self) -> int:
        """Memory that the features hold."""
        ...

    def instances_in(self, boxes_xyxy: Boxes) -> list[Instance | None]:
        """Return the object in each box (N, 4); None where there is none.

        A box is cut to the plane first, and comes back so as the predicted box. It holds no
        object if it is then less than a pixel wide or high, or no pixel reaches the mask
        threshold. The mask stays inside the box, rounded outwards to pixels.
        """
        ...

    def instance_at(
        self, point_xy: tuple[float, float], *, size_px: float | None = None
    ) -> Instance | None:
        """Return the object under a point (x, y); None where there is none.

        Parameters
        ----------
        point_xy
            A point in the plane.
        size_px
            Side of a typical object; None: sizes that the model was made for.
        """
        ...


class Engine(Protocol):
    """Anything that finds instances in planes."""

    @property
    def spec(self) -> ModelSpec:
        """What the model says about itself."""
        ...

    @property
    def source(self) -> str:
        """Name and hash of the weights, as written into each instance."""
        ...

    @property
    def device_name(self) -> str:
        """What it runs on, for people."""
        ...

    @property
    def kind(self) -> EngineKind:
        """Which forward it has, as `load_model` takes it."""
        ...

    def planes_at_once(self, image_hw: tuple[int, int], options: PredictOptions) -> int:
        """Return how many planes of a size `predict` should be given together; 1 or more.

        As many as make it faster and fit the memory that is free now.
        """
        ...

    def predict(
        self,
        planes: Sequence[NDArray[Any]],
        options: PredictOptions,
        *,
        cancel: CancelToken | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> list[Prediction]:
        """Return what was found in each plane (H, W, C).

        Raises
        ------
        RunCancelled
            If `cancel` was set meanwhile.
        """
        ...

    def prompter(
        self,
        plane: NDArray[Any],
        options: PredictOptions,
        *,
        cancel: CancelToken | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> BoxPrompter:
        """Return a plane (H, W, C) with its features kept, to be asked about boxes and points.

        Raises
        ------
        RunCancelled
            If `cancel` was set meanwhile.
        """
        ...
