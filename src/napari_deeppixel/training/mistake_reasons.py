"""Why an annotation may be wrong, in sentences for people."""

from napari_deeppixel.core.mask import CroppedMask

_SIDES = ("on the left", "at the top", "on the right", "at the bottom")
# smaller differences are in the width of the outline
_LEAST_PX, _LEAST_SHARE = 2, 0.08
_LEAST_AREA_CHANGE = 0.1
_MOST_SIDES = 2
# below, one mask is called several times as large rather than some per cent larger
_SEVERAL = 2.0


def missing_reason(category: str, score: float) -> str:
    """Return why something may have been overlooked."""
    return f"nobody annotated this, but the model is {_sure(score)} sure of a {category}"


def spurious_reason(*, num_found: int, num_near: int, score: float) -> str:
    """Return why an annotation may be of nothing.

    Parameters
    ----------
    num_found, num_near
        Annotations near it that the model finds, and all of them.
    score
        Of the best candidate in its place; 0: there is none.
    """
    what = (
        f"the model is only {_sure(score)} sure of anything here"
        if score
        else ("the model finds nothing here")
    )
    if not num_near:
        return what
    return f"{what}, though it finds {num_found} of the {num_near} nearest objects"


def merged_reason(count: int) -> str:
    """Return why an annotation may hold several objects."""
    return f"looks like {count} objects: the model finds {count} in this one"


def split_reason(count: int) -> str:
    """Return why several annotations may be one object."""
    return f"looks like a part of an object: the model sees one where {count} are annotated"


def category_reason(theirs: str, *, ours: str, score: float) -> str:
    """Return why an annotation may have the wrong category."""
    return f"the model is {_sure(score)} sure that this is {theirs}, not {ours}"


def outline_reason(annotated: CroppedMask, predicted: CroppedMask) -> str:
    """Return how a model's outline differs from an annotation's.

    Sizes first, then the sides (two at most) on which it lies further in or out: those of the two
    tight boxes.
    """
    parts = [part for part in (_size(annotated, predicted), *_sides(annotated, predicted)) if part]
    if not parts:
        shared = percent(annotated.iou(predicted))
        return f"the model's outline has another shape: they share {shared} of their pixels"
    return f"the model's outline {_listed(parts)}"


def _size(annotated: CroppedMask, predicted: CroppedMask) -> str:
    ratio = predicted.area / annotated.area
    if ratio >= _SEVERAL:
        return f"is {ratio:.1f} times as large"
    if ratio <= 1 / _SEVERAL:
        return f"is {1 / ratio:.1f} times smaller"
    if abs(ratio - 1) < _LEAST_AREA_CHANGE:
        return ""
    return f"is {percent(abs(ratio - 1))} {'larger' if ratio > 1 else 'smaller'}"


def _sides(annotated: CroppedMask, predicted: CroppedMask) -> list[str]:
    before, after = annotated.box_xyxy, predicted.box_xyxy
    # how far the model reaches beyond the annotation
    beyond = [
        before[0] - after[0],
        before[1] - after[1],
        after[2] - before[2],
        after[3] - before[3],
    ]
    least = max(_LEAST_PX, _LEAST_SHARE * max(before[2] - before[0], before[3] - before[1]))
    largest = sorted(range(4), key=lambda side: -abs(beyond[side]))[:_MOST_SIDES]
    return [
        f"{'reaches' if beyond[side] > 0 else 'leaves out'} {abs(beyond[side])} px"
        f"{' further' if beyond[side] > 0 else ''} {_SIDES[side]}"
        for side in largest
        if abs(beyond[side]) >= least
    ]


def _sure(score: float) -> str:
    """Return a score as people write it; never all, as no model is that sure."""
    return percent(min(score, 0.99))


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def percent(share: float) -> str:
    """Return a share, 0 to 1, as people write it."""
    return f"{share:.0%}"
