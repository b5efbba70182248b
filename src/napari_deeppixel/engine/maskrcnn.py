"""The reference path: torchvision's own forward, with masks pasted inside their boxes."""

import math
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.core.errors import DeviceError
from napari_deeppixel.core.image import pick_channels
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.progress import CancelToken, Progress
from napari_deeppixel.engine.base import CANDIDATE_SCORE, EngineKind, Prediction, PredictOptions
from napari_deeppixel.engine.device import device_description, free_memory, is_out_of_memory
from napari_deeppixel.engine.paste import paste_masks
from napari_deeppixel.engine.plane_memory import input_hw, planes_that_fit
from napari_deeppixel.engine.precision import pick_dtype, run_heads_in
from napari_deeppixel.engine.prompt import FeaturePrompter, PlaneFeatures, plane_features
from napari_deeppixel.engine.spec import ModelSpec
from napari_deeppixel.engine.torch_gate import torch
from napari_deeppixel.engine.uncertainty import edge_uncertainties

ReportProgress = Callable[[Progress], None]

# the RPN's three layers run once for each feature level, all other layers once
_RPN_REPEATS = 3 * 4
# planes in one call
_MOST_PLANES = 16
# Pixels of the network's input in one call on a CPU. Measured with nuclei: four planes of 256 x 256
# (590,000 pixels) took 0.6 to 0.8 of the time of single ones on two busy cores, 0.9 to 1.0 on one;
# 512 x 512 on one core gained nothing, and whoever waits for the first plane waits longer.
_MOST_CPU_PIXELS = 600_000


class MaskRCNNEngine:
    """Torchvision's Mask R-CNN on one device.

    Safe to call from several threads: runs take turns.

    Parameters
    ----------
    spec
        What the model says about itself.
    model
        The network, as `engine.build.build_model` gives it, with its weights.
    device
        torch device, such as ``cpu`` or ``cuda:0``.
    weights_hash
        Hash of the weights, for provenance.
    """

    def __init__(
        self,
        spec: ModelSpec,
        model: Any,
        *,
        device: str = "cpu",
        weights_hash: str = "",
    ) -> None:
        self._spec = spec
        self._device = torch.device(device)
        self._model = model.to(self._device).eval()
        self._hash = weights_hash
        self._lock = threading.Lock()
        self._dtype = torch.float32
        # planes of a size that fit, where more did not
        self._fitting: dict[tuple[int, int], int] = {}

    @property
    def spec(self) -> ModelSpec:
        """What the model says about itself."""
        return self._spec

    @property
    def model(self) -> Any:
        """The torchvision module."""
        return self._model

    @property
    def source(self) -> str:
        """Name and hash of the weights, as written into each instance."""
        return f"{self._spec.name}@{self._hash[:12]}" if self._hash else self._spec.name

    @property
    def weights_hash(self) -> str:
        """SHA-256 of the weights' file; empty if they come from none."""
        return self._hash

    @property
    def device_name(self) -> str:
        """What it runs on, for people."""
        return device_description(str(self._device))

    @property
    def kind(self) -> EngineKind:
        """Which forward it has: torchvision's own."""
        return "reference"

    def planes_at_once(self, image_hw: tuple[int, int], options: PredictOptions) -> int:
        """Return how many planes of a size `predict` should be given together; 1 or more.

        As many as make it faster and half of the free memory has room for; after a batch of that
        size did not fit, half as many.
        """
        most = _MOST_PLANES
        if self._device.type != "cuda":
            num_pixels = math.prod(input_hw(self._spec, image_hw, options))
            most = max(1, min(most, _MOST_CPU_PIXELS // num_pixels))
        free = free_memory(str(self._device))
        fitting = planes_that_fit(self._spec, image_hw, options, free_bytes=free)
        return min(most, fitting, self._fitting.get(image_hw, most))

    def predict(
        self,
        planes: Sequence[NDArray[Any]],
        options: PredictOptions,
        *,
        cancel: CancelToken | None = None,
        on_progress: ReportProgress | None = None,
    ) -> list[Prediction]:
        """Return what was found in each plane (H, W, C), in one batch.

        A batch that does not fit the device's memory is halved until it does. A plane without
        contrast, where the model stretches contrast by percentiles, holds no instance.

        Raises
        ------
        RunCancelled
            If `cancel` was set meanwhile; it is looked at before every layer.
        ImageError
            If the chosen channels do not exist.
        DeviceError
            If one plane alone does not fit the device's memory.
        """
        if not planes:
            return []
        with closing(self._detect(planes, options, cancel, on_progress)) as found:
            return [
                self._to_prediction(raw, (plane.shape[0], plane.shape[1]), options)
                for raw, plane in zip(found, planes, strict=True)
            ]

    def prompter(
        self,
        plane: NDArray[Any],
        options: PredictOptions,
        *,
        cancel: CancelToken | None = None,
        on_progress: ReportProgress | None = None,
    ) -> FeaturePrompter:
        """Return a plane (H, W, C) with its features kept, to be asked about boxes and points.

        The backbone runs here, once. In a plane without contrast, where the model stretches
        contrast by percentiles, no prompt finds an object, as in `predict`.

        Raises
        ------
        RunCancelled
            If `cancel` was set meanwhile; it is looked at before every layer.
        ImageError
            If the chosen channels do not exist.
        DeviceError
            If the plane does not fit the device's memory.
        """
        normalised = self._normalise(plane, options)
        features = None
        with self._turn(options) as network:
            if self._has_contrast(normalised, options):
                with _watched(network.backbone, cancel, on_progress):
                    features = self._features(network, self._to_input(normalised))
        return FeaturePrompter(
            network,
            features,
            image_hw=(plane.shape[0], plane.shape[1]),
            spec=self._spec,
            source=self.source,
            mask_threshold=options.mask_threshold,
            take_turn=partial(self._turn, options),
        )

    def _detect(
        self,
        planes: Sequence[NDArray[Any]],
        options: PredictOptions,
        cancel: CancelToken | None,
        on_progress: ReportProgress | None,
    ) -> Generator[dict[str, Any]]:
        """Yield what the network gives for each plane: boxes, labels, scores and masks (CPU)."""
        normalised = [self._normalise(plane, options) for plane in planes]
        used = [n for n, plane in enumerate(normalised) if self._has_contrast(plane, options)]
        found: dict[int, dict[str, Any]] = {}
        if used:
            inputs = [self._to_input(normalised[n]) for n in used]
            with (
                self._turn(options) as network,
                _watched(network, cancel, on_progress, repeats=_RPN_REPEATS),
            ):
                found = dict(zip(used, self._forward(network, inputs), strict=True))
        for n in range(len(planes)):
            yield found.get(n, no_detections())

    @contextmanager
    def _turn(self, options: PredictOptions) -> Iterator[Any]:
        """Hold the network alone, set up as the options say."""
        with self._lock, torch.inference_mode():
            network = self._network(pick_dtype(options.precision, self._device.type))
            self._set_options(network, options)
            yield network

    def _network(self, dtype: Any) -> Any:
        """Return the network that computes in a torch type."""
        if dtype != self._dtype:
            run_heads_in(self._model, dtype, self._device.type)
            self._dtype = dtype
        return self._model

    def _has_contrast(self, normalised: NDArray[np.float32], options: PredictOptions) -> bool:
        # a percentile stretch makes noise or nothing of a plane without contrast: no object there
        is_relative = (options.normalization or self._spec.normalization).mode == "percentile"
        return not is_relative or bool(np.ptp(normalised) > 0)

    def _normalise(self, plane: NDArray[Any], options: PredictOptions) -> NDArray[np.float32]:
        pixels = pick_channels(plane, options.channels, self._spec.num_inputs)
        return (options.normalization or self._spec.normalization).apply(pixels)

    def _to_input(self, normalised: NDArray[np.float32]) -> Any:
        tensor = torch.from_numpy(np.ascontiguousarray(normalised.transpose(2, 0, 1)))
        return tensor.to(self._device).expand(self._spec.num_inputs, -1, -1)

    def _set_options(self, network: Any, options: PredictOptions) -> None:
        heads, rpn = network.roi_heads, network.rpn
        network.transform.set_zoom(self._spec.zoom if options.zoom is None else options.zoom)
        heads.score_thresh = CANDIDATE_SCORE
        heads.nms_thresh = self._spec.box_nms if options.box_nms is None else options.box_nms
        heads.detections_per_img = options.max_instances
        proposals = max(self._spec.rpn_post_nms_top_n, options.max_instances)
        rpn._post_nms_top_n["testing"] = proposals

    def _forward(self, network: Any, inputs: list[Any]) -> list[dict[str, Any]]:
        error = None
        try:
            results = network(inputs)
        except RuntimeError as caught:
            if not is_out_of_memory(caught):
                raise
            # the traceback holds the activations, which would stay in memory during the next try
            error = caught.with_traceback(None)
        if error is not None:
            torch.cuda.empty_cache()
            if len(inputs) == 1:
                raise self._too_large(inputs[0]) from error
            half = len(inputs) // 2
            self._remember_too_many(len(inputs), inputs[0].shape[-2:])
            return self._forward(network, inputs[:half]) + self._forward(network, inputs[half:])
        return [{key: value.cpu() for key, value in result.items()} for result in results]

    def _remember_too_many(self, num_planes: int, image_hw: Sequence[int]) -> None:
        """Let `planes_at_once` give half of what did not fit."""
        height, width = image_hw
        self._fitting[height, width] = max(1, num_planes // 2)

    def _features(self, network: Any, pixels: Any) -> PlaneFeatures:
        try:
            return plane_features(network, pixels)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            torch.cuda.empty_cache()
            raise self._too_large(pixels) from error

    def _too_large(self, pixels: Any) -> DeviceError:
        return DeviceError(
            f"an image of {tuple(pixels.shape[1:])} pixels does not fit the memory of "
            f"{self.device_name}: run on the view instead, choose the CPU, or close other "
            "programs that use the device"
        )

    def _to_prediction(
        self, raw: dict[str, Any], image_hw: tuple[int, int], options: PredictOptions
    ) -> Prediction:
        masks = paste_masks(
            raw["masks"],
            raw["boxes"],
            image_hw=image_hw,
            threshold=options.mask_threshold,
        )
        ids = self._spec.categories.class_index_to_id()
        class_indices = raw["labels"].tolist()
        # where class indices leave gaps, the network has outputs that no category stands for
        kept = [n for n, mask in enumerate(masks) if mask is not None and class_indices[n] in ids]
        scores = raw["scores"].double().numpy()
        candidates = InstanceSet(
            image_hw=image_hw,
            masks=tuple(mask for mask in (masks[n] for n in kept) if mask),
            categories=self._spec.categories,
            category_ids=np.array([ids[class_indices[n]] for n in kept], np.int64),
            scores=scores[kept],
            sources=(self.source,) * len(kept),
            predicted_boxes_xyxy=raw["boxes"].double().numpy()[kept],
            edge_uncertainties=edge_uncertainties(raw["masks"])[kept],
        )
        return Prediction(
            candidates=candidates,
            detection_scores=scores,
            max_instances=options.max_instances,
        )


def no_detections() -> dict[str, Any]:
    """Return what the network gives when it finds nothing."""
    return {
        "boxes": torch.zeros((0, 4)),
        "labels": torch.zeros(0, dtype=torch.int64),
        "scores": torch.zeros(0),
        "masks": torch.zeros((0, 1, 28, 28)),
    }


@contextmanager
def _watched(
    module: Any,
    cancel: CancelToken | None,
    on_progress: ReportProgress | None,
    *,
    repeats: int = 0,
) -> Iterator[None]:
    """Look at the cancel token, and report, before each layer of a forward pass.

    `repeats` is how often layers run beyond once each.
    """
    cancel = cancel or CancelToken()
    leaves = [part for part in module.modules() if not any(True for _ in part.children())]
    total = len(leaves) + repeats
    seen = 0

    def before_layer(_module: Any, _inputs: Any) -> None:
        nonlocal seen
        cancel.raise_if_cancelled()
        seen += 1
        if on_progress is not None:
            on_progress(Progress(fraction=min(seen / total, 0.99)))

    hooks = [leaf.register_forward_pre_hook(before_layer) for leaf in leaves]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
