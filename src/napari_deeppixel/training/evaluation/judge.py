"""One image judged: what matches at every threshold, and what came of each prediction."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.core.geometry import boxes_xywh_to_xyxy
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.training.evaluation.coco import IGNORED_SHARE, Kind, box_shares_inside
from napari_deeppixel.training.evaluation.curves import Judgement, confusion_counts
from napari_deeppixel.training.evaluation.figures import IOU_THRESHOLDS, ImageOutcome, Outcome
from napari_deeppixel.training.evaluation.matching import (
    Counts,
    Pairs,
    best_matches,
    box_pairs,
    count_matches,
    greedy_matches,
    label_pairs,
    mask_pairs,
    shares_inside,
)
from napari_deeppixel.training.evaluation.truth import Found, Truth


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageJudge:
    """Compares what was found in one image with the truth, in one table of categories.

    Attributes
    ----------
    truth, found
        The two.
    kind
        Whether masks or boxes are compared.
    score
        Lowest score of the predictions that count, but for `judgement`.
    iou
        IoU from which a prediction is right.
    """

    truth: Truth
    found: Found
    kind: Kind
    score: float
    iou: float = 0.5

    @cached_property
    def compared(self) -> InstanceSet:
        """Predictions that can be compared: with masks, those that have one."""
        return self.found.masks if self.kind == "mask" else self.found.instances

    @cached_property
    def is_counted(self) -> NDArray[np.bool_]:
        """Which of `compared` reach the score."""
        reach: NDArray[np.bool_] = self.compared.scores >= self.score
        return reach

    @cached_property
    def is_ignored(self) -> NDArray[np.bool_]:
        """Which of `compared` lie by half or more where nobody knows what is there."""
        truth, found = self.truth, self.compared
        shares = np.zeros(len(found))
        if truth.ignored is not None:
            shares = self._shares_in(truth.ignored)
        for crowd in truth.crowds:
            inside = self._shares_in(crowd.mask)
            is_same = found.category_ids == crowd.category_id
            shares = np.maximum(shares, np.where(is_same, inside, 0))
        is_ignored: NDArray[np.bool_] = shares >= IGNORED_SHARE
        return is_ignored

    def _shares_in(self, mask: CroppedMask) -> NDArray[np.float64]:
        region = mask.to_mask(self.truth.instances.image_hw)
        if self.kind == "mask":
            return shares_inside(self.compared, region)
        return box_shares_inside(self.found.boxes_xyxy, region)

    @cached_property
    def pairs(self) -> Pairs:
        """All pairs that overlap, whatever score and category."""
        if self.kind == "mask":
            return mask_pairs(self.truth.instances, self.compared)
        return box_pairs(boxes_xywh_to_xyxy(self.truth.boxes_xywh), self.found.boxes_xyxy)

    @cached_property
    def _pairs_of_category(self) -> Pairs:
        pairs = self.pairs
        true_ids, found_ids = self.truth.instances.category_ids, self.compared.category_ids
        return pairs.select(true_ids[pairs.true] == found_ids[pairs.found])

    def _reaching(self, pairs: Pairs) -> Pairs:
        return pairs.select(self.is_counted[pairs.found])

    @cached_property
    def matches(self) -> Pairs:
        """Objects and predictions of their category that match, at score and IoU."""
        return best_matches(self._reaching(self._pairs_of_category), self.iou)

    @cached_property
    def is_false(self) -> NDArray[np.bool_]:
        """Which of `compared` are wrong, at score and IoU."""
        is_false = self.is_counted & ~self.is_ignored
        is_false[self.matches.found] = False
        return is_false

    @cached_property
    def is_missed(self) -> NDArray[np.bool_]:
        """Which objects have no prediction, at score and IoU."""
        is_missed = np.ones(len(self.truth.instances), np.bool_)
        is_missed[self.matches.true] = False
        return is_missed

    def outcome(self) -> Outcome:
        """Return the instances that are right, wrong and missing."""
        return Outcome(
            true=self.compared.select(np.sort(self.matches.found)),
            false=self.compared.select(self.is_false),
            missed=self.truth.instances.select(self.is_missed),
        )

    def image_outcome(self) -> ImageOutcome:
        """Return how many are right, wrong and missing."""
        ious = self.matches.ious
        return ImageOutcome(
            file_name=self.truth.file_name,
            plane=tuple(self.truth.plane),
            num_true_positive=len(ious),
            num_false_positive=int(self.is_false.sum()),
            num_missed=int(self.is_missed.sum()),
            mean_iou=float(ious.mean()) if len(ious) else float("nan"),
        )

    def num_found(self) -> int:
        """Return how many predictions reach the score, of whatever kind, but for ignored ones."""
        reach = self.found.instances.scores >= self.score
        num_loose = int((reach & self.found.is_box_alone).sum()) if self.kind == "mask" else 0
        return len(self.matches) + int(self.is_false.sum()) + num_loose

    def surplus(self) -> int:
        """Return how many more were found than annotated, of whatever kind; below 0: fewer."""
        return self.num_found() - self.truth.num_objects

    def judgement(self) -> Judgement:
        """Return which predictions are right, whatever their score."""
        scores = self.compared.scores
        is_true = np.zeros(len(scores), np.bool_)
        is_true[greedy_matches(self._pairs_of_category, scores, self.iou).found] = True
        is_kept = is_true | ~self.is_ignored
        return Judgement(
            scores=scores[is_kept], is_true=is_true[is_kept], num_objects=len(self.truth.instances)
        )

    def confusion(self) -> NDArray[np.int64]:
        """Return which category was taken for which, (K + 1, K + 1); see `Confusion`."""
        return confusion_counts(
            table=self.truth.instances.categories,
            true_ids=self.truth.instances.category_ids,
            found_ids=self.compared.category_ids,
            matches=self.matches,
            rest=self._reaching(self.pairs),
            is_false=self.is_false,
            iou=self.iou,
        )

    def mask_counts(self) -> list[Counts]:
        """Return counts at each of `IOU_THRESHOLDS`, of whole masks of whatever category."""
        pairs = self._reaching(self.pairs)
        return [
            count_matches(
                best_matches(pairs, iou),
                num_true=len(self.truth.instances),
                num_found=int(self.is_counted.sum()),
                is_ignored=self.is_ignored & self.is_counted,
            )
            for iou in IOU_THRESHOLDS
        ]

    def label_counts(self, ious: Sequence[float] = IOU_THRESHOLDS) -> list[Counts]:
        """Return counts at each IoU, of label images, as StarDist has them.

        A pixel shows the top-most object; one that is hidden wholly is not in a label image.
        """
        true = self.truth.instances.with_handles_from(1).label_image()
        shown = self.compared.with_handles_from(1)
        found = shown.select(self.is_counted).label_image()
        is_seen = np.bincount(found.ravel(), minlength=len(self.compared) + 1)[1:] > 0
        pairs = label_pairs(true, found)
        num_true = int((np.bincount(true.ravel())[1:] > 0).sum())
        return [
            count_matches(
                best_matches(pairs, iou),
                num_true=num_true,
                num_found=int(is_seen.sum()),
                is_ignored=self.is_ignored & is_seen,
            )
            for iou in ious
        ]
