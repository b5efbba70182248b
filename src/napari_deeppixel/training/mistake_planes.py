"""What is annotated in a plane beside what a model finds there, and how well they agree."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from napari_deeppixel.core.geometry import box_centres_xy
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.training.mistake import MATCH_IOU
from napari_deeppixel.training.mistake_overlaps import Numbers, Overlaps, Positions

# annotations that count as much as the share of all that the model finds
_PRIOR_COUNT = 5.0
_NUM_NEAR = 12


class Annotated(Protocol):
    """An image whose annotations are looked at; a `Sample` of training is one."""

    @property
    def file_name(self) -> str:
        """Of the image, as the dataset names it."""
        ...

    @property
    def plane(self) -> PlaneIndex:
        """Lead index in the image."""
        ...

    @property
    def instances(self) -> InstanceSet:
        """The annotations."""
        ...

    @property
    def ignored(self) -> CroppedMask | None:
        """Where nobody knows what is there; None: nowhere."""
        ...


def names_of(instances: InstanceSet) -> NDArray[np.str_]:
    """Return the category name (N,) of each instance."""
    names = {category.id: category.name for category in instances.categories.categories}
    return np.array([names[i] for i in instances.category_ids.tolist()], np.str_)


@dataclass(frozen=True, kw_only=True, eq=False)
class ComparedPlane:
    """What is annotated in a plane and what the model finds, as far as that can be compared.

    Attributes
    ----------
    sample
        The plane.
    annotated, predicted
        Without the categories that only one side knows, if they share any.
    unjudged
        Annotations of the other categories.
    has_common_names
        Whether they share any; else all objects count as of one kind.
    score
        From which on the model is believed.
    """

    sample: Annotated
    annotated: InstanceSet
    predicted: InstanceSet
    unjudged: InstanceSet
    has_common_names: bool
    score: float

    @classmethod
    def of(cls, sample: Annotated, predicted: InstanceSet, *, score: float) -> "ComparedPlane":
        """Return a plane with what a model finds in it."""
        annotated = sample.instances
        is_known = np.ones(len(annotated), np.bool_)
        ours = {category.name for category in annotated.categories.categories}
        common = ours & {category.name for category in predicted.categories.categories}
        if common:
            is_known = np.isin(names_of(annotated), list(common))
            predicted = predicted.select(np.isin(names_of(predicted), list(common)))
        return cls(
            sample=sample,
            annotated=annotated.select(is_known),
            predicted=predicted,
            unjudged=annotated.select(~is_known),
            has_common_names=bool(common),
            score=score,
        )

    @cached_property
    def overlaps(self) -> Overlaps:
        """Of annotations and all candidates."""
        return Overlaps.of(self.annotated, self.predicted)

    @cached_property
    def confident(self) -> Overlaps:
        """Of annotations and predictions that are believed."""
        return self.overlaps.where(self.is_confident[self.overlaps.prediction])

    @cached_property
    def is_confident(self) -> NDArray[np.bool_]:
        """Whether each prediction is believed."""
        return self.predicted.scores >= self.score

    @cached_property
    def near(self) -> list[Positions]:
        """The nearest other annotations of each."""
        return _nearest(self.annotated)

    @cached_property
    def is_found(self) -> NDArray[np.bool_]:
        """Whether the model finds each annotation."""
        return self.confident.best_ious >= MATCH_IOU

    @cached_property
    def is_matched(self) -> NDArray[np.bool_]:
        """Whether each prediction that is believed is annotated, without what nobody looked at."""
        is_matched = self.confident.most_by_prediction(self.confident.iou) >= MATCH_IOU
        return is_matched[self.is_confident & (is_matched | ~self.is_ignored)]

    @cached_property
    def is_ignored(self) -> NDArray[np.bool_]:
        """Whether each prediction lies where nobody knows what is there, or on another category."""
        on_others = Overlaps.of(self.unjudged, self.predicted)
        shares = on_others.most_by_prediction(on_others.prediction_share)
        if self.sample.ignored is not None:
            shared = [mask.intersection(self.sample.ignored) for mask in self.predicted.masks]
            shares = np.maximum(shares, np.array(shared) / self.predicted.areas)
        is_ignored: NDArray[np.bool_] = shares >= MATCH_IOU
        return is_ignored


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How well model and annotations agree as a rule.

    Attributes
    ----------
    found_share
        Of all annotations.
    iou
        Median of those that are found.
    matched_share
        Of all predictions that are believed.
    """

    found_share: float
    iou: float
    matched_share: float

    @classmethod
    def of(cls, planes: Sequence[ComparedPlane]) -> "Agreement":
        """Return how well they agree on some planes."""
        is_found = np.concatenate([np.zeros(0, np.bool_), *(plane.is_found for plane in planes)])
        ious = np.concatenate([np.zeros(0), *(plane.confident.best_ious for plane in planes)])
        is_matched = np.concatenate([np.zeros(0, np.bool_), *(p.is_matched for p in planes)])
        return cls(
            matched_share=float(is_matched.mean()) if is_matched.size else 0.0,
            found_share=float(is_found.mean()) if is_found.size else 0.0,
            iou=float(np.median(ious[is_found])) if is_found.any() else 0.0,
        )

    def trust_near(self, plane: ComparedPlane) -> Numbers:
        """Return the share (N,) of the objects near each annotation that the model finds."""
        counts = np.array([near.size for near in plane.near])
        found = np.array([plane.is_found[near].sum() for near in plane.near])
        return (found + _PRIOR_COUNT * self.found_share) / (counts + _PRIOR_COUNT)

    def trust_in(self, plane: ComparedPlane) -> float:
        """Return the share of what the model is sure of in a plane that is annotated."""
        found = plane.is_matched.sum() + _PRIOR_COUNT * self.matched_share
        return float(found / (plane.is_matched.size + _PRIOR_COUNT))

    def iou_in(self, plane: ComparedPlane) -> float:
        """Return the usual IoU of a plane, drawn to that of all where few objects tell it."""
        ious = plane.confident.best_ious[plane.is_found]
        if not ious.size:
            return self.iou
        total = ious.size * float(np.median(ious)) + _PRIOR_COUNT * self.iou
        return total / (ious.size + _PRIOR_COUNT)


def _nearest(instances: InstanceSet) -> list[Positions]:
    """Return the nearest others of each instance, by their centres."""
    if len(instances) < 2:
        return [np.zeros(0, np.int64)] * len(instances)
    centres = box_centres_xy(instances.boxes_xyxy)
    count = min(_NUM_NEAR + 1, len(instances))
    _, near = cKDTree(centres).query(centres, k=count)
    # two with one centre may come in any order
    return [row[row != n][: count - 1] for n, row in enumerate(near.reshape(-1, count))]
