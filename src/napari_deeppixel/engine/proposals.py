"""The RPN's choice of proposals on the CPU, by a suppression that ends with the last one needed."""

from typing import Any

import numpy as np

from napari_deeppixel.engine.kernels import kernels
from napari_deeppixel.engine.module_copy import with_parts
from napari_deeppixel.engine.torch_gate import torch, torchvision

_Network = torchvision.models.detection.rpn.RegionProposalNetwork


class FastProposals(_Network):  # type: ignore[misc,valid-type]  # untyped
    """A region proposal network that gives torchvision's proposals in a fraction of the time.

    torchvision suppresses among all candidates of each level, and takes the best of what is left.
    """

    @classmethod
    def of(cls, rpn: Any, head: Any) -> Any:
        """Return an RPN with the settings of another one, and a head of its own."""
        return with_parts(rpn, cls, head=head)

    def filter_proposals(
        self,
        proposals: Any,
        objectness: Any,
        image_shapes: list[tuple[int, int]],
        num_anchors_per_level: list[int],
    ) -> tuple[list[Any], list[Any]]:
        """Return the best proposals (P, 4) and their scores (P,) of each image.

        `proposals` are (N, A, 4) with all anchors of the levels one after the other, `objectness`
        their logits.
        """
        jit = kernels("nms_jit")
        if jit is None or proposals.device.type != "cpu":
            chosen: tuple[list[Any], list[Any]] = super().filter_proposals(
                proposals, objectness, image_shapes, num_anchors_per_level
            )
            return chosen
        objectness = objectness.reshape(len(proposals), -1)
        best = self._get_top_n_idx(objectness, num_anchors_per_level)
        level_of_anchor = torch.repeat_interleave(torch.tensor(num_anchors_per_level))
        boxes, scores = [], []
        for image, which in enumerate(best):
            in_image = torchvision.ops.clip_boxes_to_image(
                proposals[image, which], image_shapes[image]
            )
            probabilities = torch.sigmoid(objectness[image, which])
            large = torchvision.ops.remove_small_boxes(in_image, self.min_size)
            large = large[probabilities[large] >= self.score_thresh]
            order = large[probabilities[large].argsort(descending=True, stable=True)]
            kept = np.empty(min(self.post_nms_top_n(), len(order)), np.int64)
            count = jit.fill_best(
                in_image[order].numpy(),
                level_of_anchor[which[order]].numpy(),
                self.nms_thresh,
                kept,
            )
            chosen_here = order[torch.from_numpy(kept[:count])]
            boxes.append(in_image[chosen_here])
            scores.append(probabilities[chosen_here])
        return boxes, scores
