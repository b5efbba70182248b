"""What an evaluation gives: one dataclass a table or curve. No torch and no network here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import nan
from typing import Any, cast

from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.training.evaluation.plain import COCO_NAMES, from_plain, to_plain

# 0.50, 0.55, … 0.95 as COCO and the Data Science Bowl use them; exact decimals, which numpy's
# linspace does not give at 0.85
IOU_THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


@dataclass(frozen=True, kw_only=True)
class CategoryFigures:
    """COCO's figures of one category; NaN without an object of it.

    Attributes
    ----------
    ap, ap50, ap75, ar
        As in `CocoFigures`.
    num_objects
        Annotated objects of the category, crowds not counted.
    """

    ap: float
    ap50: float
    ap75: float
    ar: float
    num_objects: int


@dataclass(frozen=True, kw_only=True)
class CocoFigures:
    """COCO's average precision of masks or of boxes, 0 to 1; NaN where there is no object.

    Attributes
    ----------
    ap, ap50, ap75
        Over IoU 0.50:0.05:0.95, at 0.50, and at 0.75; means over the categories.
    ap_small, ap_medium, ap_large
        `ap` of objects below 32², from there to 96², and above, in pixels of area.
    ar
        Average recall over IoU 0.50:0.05:0.95, all predictions counted.
    by_category
        Name → figures, in the order of the table.
    """

    ap: float = nan
    ap50: float = nan
    ap75: float = nan
    ap_small: float = nan
    ap_medium: float = nan
    ap_large: float = nan
    ar: float = nan
    by_category: dict[str, CategoryFigures] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PrecisionRecall:
    """COCO's precision at 101 recalls 0, 0.01, … 1, mean over the categories.

    Attributes
    ----------
    iou
        IoU from which a prediction counts.
    precisions
        101 numbers, 0 to 1, which never rise; their mean is AP at this IoU. Empty without an
        object.
    """

    iou: float
    precisions: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class ScoreCurve:
    """Precision, recall and F1 over the score from which predictions count, at IoU 0.5.

    Attributes
    ----------
    scores
        Thresholds, rising.
    precisions, recalls, f1s
        One for each threshold; NaN where nothing is left to count.
    best_score, best_f1
        The threshold with the highest F1 (half-way to the next lower score), and that F1; NaN
        without a true prediction.
    """

    scores: tuple[float, ...] = ()
    precisions: tuple[float, ...] = ()
    recalls: tuple[float, ...] = ()
    f1s: tuple[float, ...] = ()
    best_score: float = nan
    best_f1: float = nan


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Whether a score is the chance to be right (Guo et al. 2017, reliability diagram).

    Attributes
    ----------
    edges
        Of the bins of scores, one more than bins.
    counts
        Predictions in each bin.
    mean_scores, true_shares
        Mean score of each bin, and the share of it that is right at IoU 0.5; NaN in an empty bin.
    error
        Expected calibration error: mean of |share - score| over all predictions, NaN if none.
    """

    edges: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    mean_scores: tuple[float, ...] = ()
    true_shares: tuple[float, ...] = ()
    error: float = nan


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """Which category was taken for which, at IoU 0.5 and the score.

    Attributes
    ----------
    names
        Categories.
    counts
        One row for each true category and a last one for predictions where nothing is ("false");
        one column for each predicted category and a last one for objects not found ("missed").
    """

    names: tuple[str, ...] = ()
    counts: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, kw_only=True)
class ImageOutcome:
    """What came of one image at IoU 0.5 and the score.

    Attributes
    ----------
    file_name, plane
        The image, as the data name it.
    num_true_positive, num_false_positive, num_missed
        Predictions that match an annotation of their category, those that match none, annotations
        without a prediction. What lies in ignored regions is in none of them.
    mean_iou
        Mean IoU of what matched; NaN if nothing did.
    """

    file_name: str
    plane: PlaneIndex = ()
    num_true_positive: int
    num_false_positive: int
    num_missed: int
    mean_iou: float

    @property
    def title(self) -> str:
        """Name of the image for people, with its plane."""
        plane = f" [{', '.join(map(str, self.plane))}]" if self.plane else ""
        return f"{self.file_name}{plane}"

    @property
    def num_errors(self) -> int:
        """Wrong predictions and missed objects."""
        return self.num_false_positive + self.num_missed

    @property
    def accuracy(self) -> float:
        """TP / (TP + FP + FN); NaN for an image with nothing to find where nothing was found."""
        total = self.num_true_positive + self.num_false_positive + self.num_missed
        return self.num_true_positive / total if total else nan


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """The instances behind an `ImageOutcome`, to be drawn.

    Attributes
    ----------
    true
        Predictions that match an annotation of their category.
    false
        Predictions that match none.
    missed
        Annotations without a prediction.
    """

    true: InstanceSet
    false: InstanceSet
    missed: InstanceSet


@dataclass(frozen=True, kw_only=True)
class GroupFigures:
    """Figures of the images that look alike.

    Attributes
    ----------
    name
        The appearance.
    num_images, num_objects
        How many.
    ap, ap50, ap75
        COCO's, of masks (of boxes if no prediction has a mask).
    accuracy50
        Accuracy at IoU 0.5.
    count_error
        Mean of |found - annotated| an image.
    """

    name: str
    num_images: int
    num_objects: int
    ap: float
    ap50: float
    ap75: float
    accuracy50: float
    count_error: float


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """How well predictions match the annotations of a set of images.

    Attributes
    ----------
    mask, box
        COCO's figures.
    accuracy, f1, pq, precision, recall
        IoU threshold (0.5 … 0.95) → pooled over all images, at `score`: accuracy is TP / (TP + FP
        + FN), pq panoptic quality. From label images (a pixel shows the best of the predictions
        there), whatever the category: equal to StarDist's. NaN if there is neither an object nor
        a prediction.
    accuracy_of_masks
        As `accuracy`, but with whole masks, which may overlap.
    mean_matched_iou
        Mean IoU of what matches at 0.5, in label images.
    count_error, count_bias
        Mean of |found - annotated| and of found - annotated an image, at `score`.
    num_images, num_objects
        What was evaluated.
    score
        Lowest score of the predictions that count, but for COCO's figures and the curves.
    confusion, curves, by_score, calibration
        See there. The curves are of masks (of boxes if no prediction has a mask).
    images
        In the order of the samples.
    groups
        All images first, then those of each appearance, if there are several.
    notes
        What a person should know about how it was counted, in sentences.
    """

    mask: CocoFigures
    box: CocoFigures
    accuracy: dict[float, float]
    f1: dict[float, float]
    pq: dict[float, float]
    precision: dict[float, float] = field(default_factory=dict)
    recall: dict[float, float] = field(default_factory=dict)
    accuracy_of_masks: dict[float, float] = field(default_factory=dict)
    mean_matched_iou: float = nan
    count_error: float
    count_bias: float
    num_images: int
    num_objects: int
    score: float
    confusion: Confusion = Confusion()
    curves: tuple[PrecisionRecall, ...] = ()
    by_score: ScoreCurve = ScoreCurve()
    calibration: Calibration = Calibration()
    images: tuple[ImageOutcome, ...] = ()
    groups: tuple[GroupFigures, ...] = ()
    notes: tuple[str, ...] = ()

    def worst_images(self) -> list[ImageOutcome]:
        """Return the images by accuracy, the lowest first; of equal ones, that with most errors."""
        return sorted(
            self.images,
            key=lambda image: (image.accuracy if image.num_errors else 1.0, -image.num_errors),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object; numbers that are none (NaN) are null."""
        value = to_plain(self)
        for kind in ("mask", "box"):
            value[kind] = to_plain(getattr(self, kind), COCO_NAMES)
        return cast("dict[str, Any]", value)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "EvaluationReport":
        """Return the report that `to_json` wrote.

        Raises
        ------
        DeepPixelError
            If it is none.
        """
        try:
            figures = {
                kind: to_plain(from_plain(CocoFigures, value[kind], COCO_NAMES))
                for kind in ("mask", "box")
            }
            return cast("EvaluationReport", from_plain(cls, {**value, **figures}))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DeepPixelError(f"no report of an evaluation ({error!r})") from error
