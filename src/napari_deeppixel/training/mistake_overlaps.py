"""How the annotations of a plane and what a model finds there lie on each other."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.edits.neighbours import shared_pixels, touching_boxes

Numbers = NDArray[np.float64]
Positions = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Overlaps:
    """The pairs of an annotation and a prediction that share a pixel.

    Attributes
    ----------
    num_annotations, num_predictions
        Of the plane.
    annotation, prediction
        Positions (K,) of each pair.
    iou
        Intersection over union (K,).
    annotation_share, prediction_share
        Pixels in both over those of the annotation, of the prediction (K,).
    """

    num_annotations: int
    num_predictions: int
    annotation: Positions
    prediction: Positions
    iou: Numbers
    annotation_share: Numbers
    prediction_share: Numbers

    @classmethod
    def of(cls, annotated: InstanceSet, predicted: InstanceSet) -> "Overlaps":
        """Return the overlaps of two sets of one plane."""
        pairs = touching_boxes(annotated.boxes_xyxy, predicted.boxes_xyxy)
        both = shared_pixels(annotated.masks, predicted.masks, pairs)
        pairs, both = pairs[both > 0], both[both > 0]
        areas_a, areas_p = annotated.areas[pairs[:, 0]], predicted.areas[pairs[:, 1]]
        return cls(
            num_annotations=len(annotated),
            num_predictions=len(predicted),
            annotation=pairs[:, 0],
            prediction=pairs[:, 1],
            iou=both / (areas_a + areas_p - both),
            annotation_share=both / areas_a,
            prediction_share=both / areas_p,
        )

    def where(self, which: NDArray[np.bool_]) -> "Overlaps":
        """Return some of the pairs (K,)."""
        return Overlaps(
            num_annotations=self.num_annotations,
            num_predictions=self.num_predictions,
            annotation=self.annotation[which],
            prediction=self.prediction[which],
            iou=self.iou[which],
            annotation_share=self.annotation_share[which],
            prediction_share=self.prediction_share[which],
        )

    def most_by_prediction(self, values: Numbers) -> Numbers:
        """Return the largest of values (K,) of pairs for each prediction; 0 without a pair."""
        most = np.zeros(self.num_predictions)
        np.maximum.at(most, self.prediction, values)
        return most

    def most_by_annotation(self, values: Numbers) -> Numbers:
        """Return the largest of values (K,) of pairs for each annotation; 0 without a pair."""
        most = np.zeros(self.num_annotations)
        np.maximum.at(most, self.annotation, values)
        return most

    @cached_property
    def best_ious(self) -> Numbers:
        """IoU (N,) of each annotation with the prediction that fits it best; 0 without any."""
        return self.most_by_annotation(self.iou)

    @cached_property
    def best_predictions(self) -> Positions:
        """That prediction (N,); -1 without any."""
        best = np.full(self.num_annotations, -1, np.int64)
        # the last that is written counts
        order = np.argsort(self.iou, kind="stable")
        best[self.annotation[order]] = self.prediction[order]
        return best
