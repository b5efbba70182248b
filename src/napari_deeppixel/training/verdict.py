"""Whether a new model is better than the one in use, on the same images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.training.evaluation.figures import ImageOutcome
from napari_deeppixel.training.evaluation.report import EvaluationReport

# averaged and raw weights of one run differed by 0.004 on 96 images (measured on the validation
# images of the shipped model): less says nothing
LEAST_AP_GAIN = 0.005
MOST_ACCURACY_LOSS = 0.01
# share of draws in which the new model must be better (Efron & Tibshirani 1993, ch. 16)
LEAST_SHARE = 0.8
NUM_DRAWS = 1000
# below, every draw is nearly the same images
LEAST_IMAGES = 3


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether to use the new model.

    Attributes
    ----------
    is_better
        Whether it passed: only then it is to be used without a person's word.
    reason
        Why, in one or two sentences with the numbers.
    is_sure
        False where the images are too few to tell: a person has to look and decide.
    """

    is_better: bool
    reason: str
    is_sure: bool = True


@dataclass(frozen=True, kw_only=True)
class ImageChange:
    """One image with two models.

    Attributes
    ----------
    before, after
        What came of it with the one and with the other.
    """

    before: ImageOutcome
    after: ImageOutcome

    @property
    def file_name(self) -> str:
        """The image, as the data name it."""
        return self.after.file_name

    @property
    def plane(self) -> PlaneIndex:
        """Which plane of it."""
        return self.after.plane

    @property
    def change(self) -> float:
        """How much better the second model is, -1 to 1; 0: as good."""
        return quality(self.after) - quality(self.before)


def quality(outcome: ImageOutcome) -> float:
    """Return the IoU of what matched over TP + FP + FN, 0 to 1: accuracy that sees outlines.

    1 where there was nothing to find and nothing was found.
    """
    matched, total = _parts(outcome)
    return matched / total if total else 1.0


def image_changes(
    before: Sequence[ImageOutcome], after: Sequence[ImageOutcome]
) -> tuple[ImageChange, ...]:
    """Return the images that both have, those that got worse first."""
    earlier = {(outcome.file_name, outcome.plane): outcome for outcome in before}
    pairs = [(earlier.get((outcome.file_name, outcome.plane)), outcome) for outcome in after]
    changes = [ImageChange(before=one, after=other) for one, other in pairs if one is not None]
    return tuple(sorted(changes, key=lambda each: (each.change, each.file_name, each.plane)))


def judge(current: EvaluationReport, new: EvaluationReport) -> Verdict:
    """Return whether a new model is better than the current one, by reports on the same images.

    It is if AP of the masks rises by 0.005 or more, accuracy at IoU 0.5 does not fall by more than
    0.01, and it is better in 80 % of 1,000 draws of the images (a paired bootstrap of the pooled
    `quality`). Each model counts at its own score.
    """
    num_images = len(new.images)
    if math.isnan(new.mask.ap) or math.isnan(current.mask.ap):
        reason = "There is no annotated object in these images, so nothing tells which is better."
        return Verdict(is_better=False, reason=reason, is_sure=False)
    told = (
        f"AP {_moved(current.mask.ap, new.mask.ap)}, accuracy at IoU 0.5 "
        f"{_moved(current.accuracy[0.5], new.accuracy[0.5])}"
    )
    if num_images < LEAST_IMAGES:
        images = "1 image is" if num_images == 1 else f"{num_images} images are"
        reason = f"{told}. But {images} too few to be sure: look at the results and decide."
        return Verdict(is_better=False, reason=reason, is_sure=False)
    share = share_of_draws(current.images, new.images)
    drawn = f"in {math.floor(100 * share)} % of {NUM_DRAWS:,} draws of the {num_images:,} images"
    objections = []
    if new.mask.ap - current.mask.ap < LEAST_AP_GAIN:
        objections.append(f"AP must rise by {LEAST_AP_GAIN:g} or more")
    if current.accuracy[0.5] - new.accuracy[0.5] > MOST_ACCURACY_LOSS:
        objections.append(f"accuracy must not fall by more than {MOST_ACCURACY_LOSS:g}")
    if share < LEAST_SHARE:
        objections.append(f"it is better only {drawn}, less than {LEAST_SHARE:.0%}")
    if objections:
        return Verdict(is_better=False, reason=f"{told}. Not better: {'; '.join(objections)}.")
    return Verdict(is_better=True, reason=f"{told}. The new model is better {drawn}.")


def share_of_draws(
    before: Sequence[ImageOutcome], after: Sequence[ImageOutcome], *, seed: int = 0
) -> float:
    """Return the share of draws of the images, with replacement, in which the second is better.

    Better: the pooled IoU of what matched over TP + FP + FN is higher.
    """
    changes = image_changes(before, after)
    if not changes:
        return 0.0
    parts = np.array([(*_parts(each.before), *_parts(each.after)) for each in changes])
    rng = np.random.default_rng(seed)
    drawn = parts[rng.integers(len(parts), size=(NUM_DRAWS, len(parts)))].sum(axis=1)
    is_better = _pooled(drawn[:, 2], drawn[:, 3]) > _pooled(drawn[:, 0], drawn[:, 1])
    return float(is_better.mean())


def _parts(outcome: ImageOutcome) -> tuple[float, int]:
    """Return the summed IoU of what matched, and TP + FP + FN."""
    hits = outcome.num_true_positive
    matched = hits * outcome.mean_iou if hits else 0.0
    return matched, hits + outcome.num_false_positive + outcome.num_missed


def _pooled(matched: NDArray[np.float64], totals: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(matched, totals, out=np.ones_like(matched), where=totals > 0)


def _moved(before: float, after: float) -> str:
    one, other = f"{before:.3f}", f"{after:.3f}"
    if one == other:
        return f"stays at {one}"
    return f"{'rises' if after > before else 'falls'} from {one} to {other}"
