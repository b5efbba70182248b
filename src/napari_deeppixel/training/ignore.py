"""Training on images of which parts are unknown, and on instances that may be wrong.

torchvision takes for background whatever is no annotated object. Here, anchors and proposals in
ignored parts of a crop are neither, and each instance weighs what its target says.
"""

from typing import Any

from napari_deeppixel.engine.build import CropTransform
from napari_deeppixel.engine.torch_gate import torch, torchvision

detection = torchvision.models.detection
functional = torch.nn.functional

# as COCO's evaluation, which ignores detections that lie by half in a crowd
_IGNORED_SHARE = 0.5
# where smooth L1 turns from a square to a line, as in torchvision
_BETA = 1 / 9


def respect_ignored(model: Any) -> None:
    """Make a network of `engine.build.build_model` respect what its targets say, in place.

    In training, what would be background but lies by half or more in ``target["ignored"]`` (bool,
    H x W) counts as neither object nor background; ``target["weights"]`` (float32, N) weigh the
    losses of what matches the instances. A target may lack either. With nothing ignored and all
    weights 1 the losses are torchvision's own, of crops that are not resized; predictions are the
    same in any case.
    """
    # other classes rather than other methods: a copy of the model gets its own
    model.transform.__class__ = _Transform
    model.rpn.__class__ = _RegionProposals
    model.roi_heads.__class__ = _Heads


def ignored_share(boxes_xyxy: Any, ignored: Any) -> Any:
    """Return which share (N,) of each box lies in a mask (H, W), exactly; 0 to 1.

    Of a box that reaches out of the image, the part within it counts; without such a part: 0.
    """
    height, width = ignored.shape
    # float32 cannot count the pixels of large images; Apple's GPUs have nothing better
    dtype = torch.float32 if ignored.device.type == "mps" else torch.float64
    sums = functional.pad(ignored.to(dtype).cumsum(0).cumsum(1), (1, 0, 1, 0))
    x1, y1, x2, y2 = boxes_xyxy.detach().to(dtype).unbind(1)
    x1, x2 = x1.clamp(0, width), x2.clamp(0, width)
    y1, y2 = y1.clamp(0, height), y2.clamp(0, height)
    inside = _sum_to(sums, x2, y2) - _sum_to(sums, x1, y2) - _sum_to(sums, x2, y1)
    inside = inside + _sum_to(sums, x1, y1)
    area = (x2 - x1) * (y2 - y1)
    share = torch.where(area > 0, inside / area.clamp(min=1e-6), 0.0)
    return share.to(boxes_xyxy.dtype)


def _sum_to(sums: Any, x: Any, y: Any) -> Any:
    """Return what lies left of x and above y, both between pixels: sums are bilinear there."""
    left, top = x.floor().long(), y.floor().long()
    # the last edge has no pixel behind it
    right = (left + 1).clamp(max=sums.shape[1] - 1)
    bottom = (top + 1).clamp(max=sums.shape[0] - 1)
    upper = torch.lerp(sums[top, left], sums[top, right], x - left)
    lower = torch.lerp(sums[bottom, left], sums[bottom, right], x - left)
    return torch.lerp(upper, lower, y - top)


def _leave_out_ignored(labels: Any, boxes: Any, ignored: Any) -> None:
    """Turn background (0) into neither (-1) where a box lies in ignored pixels, in place."""
    if ignored is None or not ignored.any():
        return
    background = torch.where(labels == 0)[0]
    is_unknown = ignored_share(boxes[background], ignored) >= _IGNORED_SHARE
    labels[background[is_unknown]] = -1


class _Transform(CropTransform):
    """Takes crops as they come in training: they are cut at the network's own scale.

    torchvision would resize each to the size of a whole image, and so train at another scale than
    that of the images to predict.
    """

    def resize(self, image: Any, target: Any = None) -> tuple[Any, Any]:
        """Return image and target at the size that the network takes."""
        if self.training:
            return image, target
        resized: tuple[Any, Any] = super().resize(image, target)
        return resized


class _RegionProposals(detection.rpn.RegionProposalNetwork):  # type: ignore[misc,name-defined]
    """torchvision's RPN (Ren et al. 2015) with ignored anchors and weighed objects."""

    def assign_targets_to_anchors(
        self, anchors: list[Any], targets: list[dict[str, Any]]
    ) -> tuple[list[Any], list[Any]]:
        """Return the label (1, 0, or -1 for neither) and the matched box of each anchor."""
        labels, matched = super().assign_targets_to_anchors(anchors, targets)
        self._weights = []
        for boxes, target, label in zip(anchors, targets, labels, strict=True):
            _leave_out_ignored(label, boxes, target.get("ignored"))
            weights = torch.ones_like(label)
            positive = torch.where(label > 0)[0]
            if "weights" in target and positive.numel():
                # what torchvision matched: the object that overlaps most
                overlaps = self.box_similarity(target["boxes"], boxes[positive])
                weights[positive] = target["weights"][overlaps.max(dim=0).indices].to(weights)
            self._weights.append(weights)
        return labels, matched

    def compute_loss(
        self, objectness: Any, pred_bbox_deltas: Any, labels: Any, regression_targets: Any
    ) -> tuple[Any, Any]:
        """Return the losses of objectness and of boxes."""
        weights = torch.cat(self._weights)
        # they would keep the crops in memory until the next step
        self._weights = []
        positive, negative = (
            torch.where(torch.cat(sampled))[0] for sampled in self.fg_bg_sampler(labels)
        )
        sampled = torch.cat([positive, negative])
        if sampled.numel() == 0:
            # all of the batch is ignored
            return objectness.sum() * 0, pred_bbox_deltas.sum() * 0
        box_losses = functional.smooth_l1_loss(
            pred_bbox_deltas[positive],
            torch.cat(regression_targets)[positive],
            beta=_BETA,
            reduction="none",
        )
        objectness_loss = functional.binary_cross_entropy_with_logits(
            objectness.flatten()[sampled], torch.cat(labels)[sampled], weight=weights[sampled]
        )
        return objectness_loss, (box_losses * weights[positive, None]).sum() / sampled.numel()


class _Heads(detection.roi_heads.RoIHeads):  # type: ignore[misc,name-defined]
    """torchvision's box and mask heads with ignored proposals and weighed objects."""

    def forward(
        self, features: Any, proposals: Any, image_shapes: Any, targets: Any = None
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Return predictions, or in training the losses."""
        if not self.training:
            predictions: tuple[list[dict[str, Any]], dict[str, Any]] = super().forward(
                features, proposals, image_shapes, targets
            )
            return predictions
        self._ignored = [target.get("ignored") for target in targets]
        proposals, matched, labels, deltas = self.select_training_samples(proposals, targets)
        self._ignored = []
        weights = [
            _weights_of(target, positions, label)
            for target, positions, label in zip(targets, matched, labels, strict=True)
        ]
        pooled = self.box_head(self.box_roi_pool(features, proposals, image_shapes))
        logits, regression = self.box_predictor(pooled)
        losses = _box_losses(logits, regression, torch.cat(labels), torch.cat(deltas), weights)
        is_object = [torch.where(label > 0)[0] for label in labels]
        chosen = [boxes[i] for boxes, i in zip(proposals, is_object, strict=True)]
        mask_logits = self.mask_predictor(
            self.mask_head(self.mask_roi_pool(features, chosen, image_shapes))
        )
        matched = [positions[i] for positions, i in zip(matched, is_object, strict=True)]
        weights = [weight[i] for weight, i in zip(weights, is_object, strict=True)]
        losses["loss_mask"] = _mask_loss(mask_logits, chosen, targets, matched, weights)
        return [], losses

    def assign_targets_to_proposals(
        self, proposals: Any, gt_boxes: Any, gt_labels: Any
    ) -> tuple[list[Any], list[Any]]:
        """Return the matched object and the label (-1 for neither) of each proposal."""
        matched, labels = super().assign_targets_to_proposals(proposals, gt_boxes, gt_labels)
        for boxes, label, ignored in zip(proposals, labels, self._ignored, strict=True):
            _leave_out_ignored(label, boxes, ignored)
        return matched, labels


def _weights_of(target: dict[str, Any], matched: Any, labels: Any) -> Any:
    """Return what each proposal weighs: background as much as an object that is certain."""
    if "weights" not in target or target["weights"].numel() == 0:
        return torch.ones(labels.shape, device=labels.device)
    return torch.where(labels > 0, target["weights"][matched], 1.0)


def _box_losses(
    logits: Any, regression: Any, labels: Any, targets: Any, weights: list[Any]
) -> dict[str, Any]:
    """Return torchvision's `fastrcnn_loss` with weights."""
    if labels.numel() == 0:
        return {"loss_classifier": logits.sum() * 0, "loss_box_reg": regression.sum() * 0}
    weight = torch.cat(weights)
    classes = functional.cross_entropy(logits, labels, reduction="none")
    # taken off the mean, rather than a mean of products: where all weigh 1, it is torchvision's
    # loss to the last bit
    excess = ((1 - weight) * classes).sum() / labels.numel()
    positive = torch.where(labels > 0)[0]
    boxes = functional.smooth_l1_loss(
        regression.reshape(labels.numel(), -1, 4)[positive, labels[positive]],
        targets[positive],
        beta=_BETA,
        reduction="none",
    )
    return {
        "loss_classifier": functional.cross_entropy(logits, labels) - excess,
        "loss_box_reg": (boxes * weight[positive, None]).sum() / labels.numel(),
    }


def _mask_loss(
    logits: Any, boxes: list[Any], targets: Any, matched: list[Any], weights: list[Any]
) -> Any:
    """Return torchvision's `maskrcnn_loss` with weights."""
    labels = torch.cat([t["labels"][i] for t, i in zip(targets, matched, strict=True)])
    if labels.numel() == 0:
        return logits.sum() * 0
    project = detection.roi_heads.project_masks_on_boxes
    truth = torch.cat(
        [
            project(t["masks"], b, i, logits.shape[-1])
            for t, b, i in zip(targets, boxes, matched, strict=True)
        ]
    )
    return functional.binary_cross_entropy_with_logits(
        logits[torch.arange(labels.numel(), device=labels.device), labels],
        truth,
        weight=torch.cat(weights)[:, None, None],
    )
