"""Mask R-CNN's forward with fixed shapes: nothing on the way asks the host.

torchvision's forward waits for the device wherever a shape depends on what was found, some 1,400
times for 100 objects. Here all tensors have their largest size and say by a mask what is valid, so
the whole forward is queued at once, and can be recorded into a CUDA graph. The answer is that of
torchvision, up to the rounding of sums over batches of another size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from napari_deeppixel.engine.device_input import input_size, normalise, padded_size, to_input
from napari_deeppixel.engine.level_pooling import as_rois, pool_levels
from napari_deeppixel.engine.nms import best_first, keep_best
from napari_deeppixel.engine.torch_gate import torch, torchvision

_ops = torchvision.ops
_ImageList = torchvision.models.detection.image_list.ImageList

# of (proposal, category) pairs above the score; photographs have hundreds, crowded planes 2,000.
# More need memory with their square, so then torchvision's own forward is the better one
MAX_CANDIDATES = 2048
# measured: at most 7 were needed on 24 images
NMS_ITERATIONS = 16
# torchvision's RoIHeads.postprocess_detections
_SMALLEST_DETECTION = 1e-2
# few sizes, because each needs a recording of its own
_MASK_SLOTS = (32, 64, 128, 256, 512)
# so many objects keep a large card busy, and each activation of ResNet-50's mask head is 0.2 GB
_MASKS_AT_ONCE = 1024


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All numbers that a forward depends on: where they are equal, a recording can be used again.

    Attributes
    ----------
    image_hw, input_hw, padded_hw
        Size of the images, resized, and with padding.
    pre_nms_top_n, post_nms_top_n
        Anchors kept for each level, proposals kept for each image.
    rpn_nms, box_nms
        IoU above which the lower of two proposals, of two detections goes.
    rpn_score, score
        A proposal needs at least, a detection more than this.
    rpn_smallest
        Shortest side of a proposal in pixels of the network's input.
    max_candidates, max_detections
        Detections for each image before and after non-maximum suppression.
    nms_iterations
        Rounds of `keep_best`.
    """

    image_hw: tuple[int, int]
    input_hw: tuple[int, int]
    padded_hw: tuple[int, int]
    pre_nms_top_n: int
    post_nms_top_n: int
    rpn_nms: float
    rpn_score: float
    rpn_smallest: float
    score: float
    box_nms: float
    max_detections: int
    max_candidates: int = MAX_CANDIDATES
    nms_iterations: int = NMS_ITERATIONS


def settings_of(model: Any, image_hw: tuple[int, int]) -> Settings:
    """Return what a network, as it is set now, does with images (height, width) of one size."""
    rpn, heads = model.rpn, model.roi_heads
    input_hw = input_size(model.transform, image_hw)
    return Settings(
        image_hw=image_hw,
        input_hw=input_hw,
        padded_hw=padded_size(model.transform, input_hw),
        pre_nms_top_n=rpn.pre_nms_top_n(),
        post_nms_top_n=rpn.post_nms_top_n(),
        rpn_nms=rpn.nms_thresh,
        rpn_score=rpn.score_thresh,
        rpn_smallest=rpn.min_size,
        score=heads.score_thresh,
        box_nms=heads.nms_thresh,
        max_detections=heads.detections_per_img,
    )


def mask_slots(count: int, limit: int) -> int:
    """Return for how many objects to compute masks where so many, and `limit` at most, are due."""
    return next((slots for slots in _MASK_SLOTS if count <= slots < limit), limit)


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """What was found in B images, with D slots each, best first: tensors, for the host.

    Attributes
    ----------
    boxes, input_boxes
        float32 (B, D, 4): in the image, and in the network's input.
    scores
        float32 (B, D).
    class_indices
        int64 (B, D), from 1 on.
    is_valid
        bool (B, D): the slots that hold an object, the first ones. What others hold means nothing.
    is_exact
        bool (B,): False where there were too many candidates, or too long a chain of overlaps:
        then only torchvision's own forward gives the right answer.
    masks
        float32 (B, S, M, M): mask probabilities of the first S slots in their boxes.
    """

    boxes: Any
    input_boxes: Any
    scores: Any
    class_indices: Any
    is_valid: Any
    is_exact: Any
    masks: Any


class FixedShapeForward:
    """A Mask R-CNN's forward for images of one size: all is prepared, nothing waits.

    Parameters
    ----------
    model
        The network, as `engine.build.build_model` gives it, in evaluation. Its parts may be
        replaced by equals; of the RoI poolings only the attributes are used.
    settings
        Of `settings_of`. What is set on the model later is not seen.
    device
        torch device that the model is on.
    """

    def __init__(self, model: Any, settings: Settings, *, device: Any) -> None:
        self._model, self._settings, self._device = model, settings, device
        self._mean = self._constant(model.transform.image_mean)[:, None, None]
        self._std = self._constant(model.transform.image_std)[:, None, None]
        self._rpn_weights = self._constant(model.rpn.box_coder.weights)
        self._box_weights = self._constant(model.roi_heads.box_coder.weights)
        # twice width and height, as boxes have it
        image_whwh = self._constant(settings.image_hw[::-1] * 2)
        self._to_image = image_whwh / self._constant(settings.input_hw[::-1] * 2)
        self._anchors = self._anchors_of_levels()

    def __call__(self, pixels: Any, scaling: Any, *, slots: int) -> tuple[Answer, dict[str, Any]]:
        """Return what is in images, and their features for `masks_of`.

        Parameters
        ----------
        pixels, scaling
            Tensors (B, H, W, C) and (B, 4), of `engine.device_input.stage`.
        slots
            For how many objects of each image masks are computed; see `mask_slots`.
        """
        images = to_input(
            self._model.transform,
            normalise(pixels, scaling),
            mean=self._mean,
            std=self._std,
            padded_hw=self._settings.padded_hw,
        )
        features = self._model.backbone(images)
        # as RoIAlign needs them, for both poolings
        levels = {name: level.contiguous() for name, level in features.items()}
        proposals, is_proposal, is_settled = self._propose(list(features.values()))
        candidates = self._classify(levels, proposals, is_proposal)
        best, is_valid, has_converged = self._suppress(candidates)
        input_boxes = _take(candidates.boxes, best)
        class_indices = candidates.class_indices.gather(1, best)
        answer = Answer(
            boxes=input_boxes * self._to_image,
            input_boxes=input_boxes,
            scores=candidates.scores.gather(1, best),
            class_indices=class_indices,
            is_valid=is_valid,
            is_exact=candidates.is_complete & is_settled & has_converged,
            masks=self.masks_of(levels, input_boxes[:, :slots], class_indices[:, :slots]),
        )
        return answer, levels

    def masks_of(self, levels: dict[str, Any], input_boxes: Any, class_indices: Any) -> Any:
        """Return mask probabilities (B, S, M, M) of objects in their boxes.

        Parameters
        ----------
        levels
            Feature maps (B, C, h, w) by name, as `__call__` gives them.
        input_boxes
            float32 (B, S, 4): in the network's input.
        class_indices
            int64 (B, S).
        """
        heads = self._model.roi_heads
        rois = as_rois(input_boxes).split(_MASKS_AT_ONCE)
        chosen = class_indices.flatten().split(_MASKS_AT_ONCE)
        parts = []
        for some, indices in zip(rois, chosen, strict=True):
            pooled = pool_levels(heads.mask_roi_pool, levels, some)
            logits = heads.mask_predictor(heads.mask_head(pooled))
            rows = torch.arange(len(indices), device=self._device)
            parts.append(torch.sigmoid(logits[rows, indices]))
        return torch.cat(parts).unflatten(0, class_indices.shape)

    def _propose(self, features: list[Any]) -> tuple[Any, Any, Any]:
        """Return proposals (B, P, 4), which are valid (B, P), and whether they are exact (B,)."""
        settings = self._settings
        objectness, shifts = self._model.rpn.head(features)
        count = min(settings.pre_nms_top_n, max(len(anchors) for anchors in self._anchors))
        best = [
            _best_anchors(*level, count=count)
            for level in zip(objectness, shifts, self._anchors, strict=True)
        ]
        logits, chosen, anchors = (torch.stack(parts, dim=1) for parts in zip(*best, strict=True))
        boxes = self._decode(self._model.rpn.box_coder, self._rpn_weights, chosen, anchors)
        scores = torch.sigmoid(logits)
        is_valid = _has_sides(boxes, settings.rpn_smallest) & (scores >= settings.rpn_score)
        keep, has_converged = keep_best(
            boxes, is_valid, iou=settings.rpn_nms, iterations=settings.nms_iterations
        )
        order, is_kept = best_first(scores.flatten(1), keep.flatten(1), settings.post_nms_top_n)
        return _take(boxes.flatten(1, 2), order), is_kept, has_converged.all(dim=1)

    def _classify(self, levels: dict[str, Any], proposals: Any, is_proposal: Any) -> "_Candidates":
        """Return the best pairs of a proposal (B, P, 4) and a category, refined."""
        heads, settings = self._model.roi_heads, self._settings
        pooled = pool_levels(heads.box_roi_pool, levels, as_rois(proposals))
        logits, shifts = heads.box_predictor(heads.box_head(pooled))
        # class index 0 is the background
        scores = torch.softmax(logits, dim=-1)[:, 1:].unflatten(0, proposals.shape[:2])
        is_candidate = (scores > settings.score) & is_proposal[..., None]
        order, is_valid = best_first(
            scores.flatten(1), is_candidate.flatten(1), settings.max_candidates
        )
        num_classes = logits.shape[-1]
        rows = torch.div(order, num_classes - 1, rounding_mode="floor")
        class_indices = order % (num_classes - 1) + 1
        by_class = shifts.unflatten(1, (num_classes, 4)).unflatten(0, proposals.shape[:2])
        chosen = _take(by_class.flatten(1, 2), rows * num_classes + class_indices)
        boxes = self._decode(heads.box_coder, self._box_weights, chosen, _take(proposals, rows))
        return _Candidates(
            boxes=boxes,
            scores=scores.flatten(1).gather(1, order),
            class_indices=class_indices,
            is_valid=is_valid & _has_sides(boxes, _SMALLEST_DETECTION),
            is_complete=is_candidate.flatten(1).sum(dim=1) <= settings.max_candidates,
        )

    def _suppress(self, candidates: "_Candidates") -> tuple[Any, Any, Any]:
        """Return the best that stay (B, D), which are valid (B, D), and whether exactly so (B,)."""
        settings = self._settings
        keep, has_converged = keep_best(
            candidates.boxes,
            candidates.is_valid,
            iou=settings.box_nms,
            groups=candidates.class_indices,
            iterations=settings.nms_iterations,
        )
        return *best_first(candidates.scores, keep, settings.max_detections), has_converged

    def _decode(self, coder: Any, weights: Any, shifts: Any, boxes: Any) -> Any:
        decoded = decode_boxes(shifts / weights, boxes, largest=coder.bbox_xform_clip)
        return _ops.clip_boxes_to_image(decoded, self._settings.input_hw)

    def _anchors_of_levels(self) -> list[Any]:
        """Return the anchors (N, 4) of each feature level."""
        generator = self._model.rpn.anchor_generator
        # only a run of the backbone tells the sizes of its maps
        image = self._mean.new_zeros((1, len(self._mean), *self._settings.padded_hw))
        maps = list(self._model.backbone(image).values())
        (anchors,) = generator(_ImageList(image, [self._settings.input_hw]), maps)
        counts = [
            level.shape[2] * level.shape[3] * count
            for level, count in zip(maps, generator.num_anchors_per_location(), strict=True)
        ]
        return list(anchors.split(counts))

    def _constant(self, values: Sequence[float]) -> Any:
        return torch.tensor(values, dtype=torch.float32, device=self._device)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Candidates:
    """Detections before non-maximum suppression, best first.

    boxes (B, K, 4), scores, class_indices and is_valid (B, K); is_complete (B,): whether there was
    room for all.
    """

    boxes: Any
    scores: Any
    class_indices: Any
    is_valid: Any
    is_complete: Any


def decode_boxes(shifts: Any, boxes: Any, *, largest: float) -> Any:
    """Return boxes (…, 4) moved and scaled, by the arithmetic of torchvision's `BoxCoder`.

    Parameters
    ----------
    shifts
        float32 (…, 4): of the centre, in sides of the box; and the logarithm of the sides' factor.
    boxes
        float32 (…, 4).
    largest
        Limit of that logarithm.
    """
    sides = boxes[..., 2:] - boxes[..., :2]
    centres = shifts[..., :2] * sides + (boxes[..., :2] + 0.5 * sides)
    half = 0.5 * (torch.exp(shifts[..., 2:].clamp(max=largest)) * sides)
    return torch.cat([centres - half, centres + half], dim=-1)


def _best_anchors(objectness: Any, shifts: Any, anchors: Any, *, count: int) -> tuple[Any, ...]:
    """Return the best anchors of one level: logits (B, n), shifts (B, n, 4), anchors (B, n, 4).

    Where the level has fewer than `count`, the rest are boxes without a side.

    Parameters
    ----------
    objectness, shifts
        (B, A, h, w) and (B, 4 A, h, w), of the RPN's head.
    anchors
        (h w A, 4).
    count
        n.
    """
    logits = objectness.permute(0, 2, 3, 1).flatten(1)
    by_anchor = shifts.unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2).flatten(1, 3)
    best = logits.topk(min(count, len(anchors)), dim=1)
    missing = count - best.values.shape[1]
    pad = torch.nn.functional.pad
    return (
        pad(best.values, (0, missing)),
        pad(_take(by_anchor, best.indices), (0, 0, 0, missing)),
        pad(anchors[best.indices], (0, 0, 0, missing)),
    )


def _has_sides(boxes: Any, smallest: float) -> Any:
    """Return whether both sides of each box (…, 4) have at least a length."""
    return (boxes[..., 2:] - boxes[..., :2] >= smallest).all(dim=-1)


def _take(values: Any, order: Any) -> Any:
    """Return rows of values (B, N, F) by their indices (B, n): (B, n, F)."""
    return values.gather(1, order[..., None].expand(-1, -1, values.shape[2]))
