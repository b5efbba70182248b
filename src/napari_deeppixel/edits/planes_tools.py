"""What a person carries from plane to plane: copies, and all that lies between two.

As in `edits.tools`, each tool is a pure function to one `Action`, for `AnnotationSession.apply`.
"""

from collections.abc import Sequence

from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import Instance
from napari_deeppixel.edits import reshape
from napari_deeppixel.edits.action import Action
from napari_deeppixel.edits.diff import OverlapRule, drawn_instance
from napari_deeppixel.edits.draft import Draft, EditError, InstanceRef, counted, visible_of
from napari_deeppixel.edits.session import AnnotationSession


def copied_to(
    session: AnnotationSession,
    refs: Sequence[InstanceRef],
    index: PlaneIndex,
    *,
    rule: OverlapRule = OverlapRule.OVERLAP,
) -> Action:
    """Return the action that draws copies of instances on another plane.

    They have the same masks and categories and are *drawn*. Instances that are on that plane
    already are not copied; those not shown are ignored.
    """
    draft, count = Draft(session), 0
    for (at, _), instance in visible_of(session, refs).items():
        if at != index:
            # a mask of its own over the same pixels: packing the one must not pack the other
            mask = instance.mask.moved(dy=0, dx=0)
            copy = drawn_instance(mask, instance.category_id)
            count += draft.reshape(index, copy, rule=rule)
    return draft.action(f"copy {counted(count)} to another plane")


def interpolated(
    session: AnnotationSession, ref_a: InstanceRef, ref_b: InstanceRef, *, rule: OverlapRule
) -> Action:
    """Return the action that draws an instance on each plane between those of two instances.

    The masks come from `reshape.interpolated`, the category from the first instance. Where the
    rule leaves no pixel (all belongs to others that are kept) none is drawn; the action's name
    tells on how many planes one is.

    Raises
    ------
    EditError
        If one of the two is not shown, they do not lie on two planes that differ in one axis,
        no plane lies between, or the shape has no pixel on one that does.
    """
    one, other = _both(session, ref_a, ref_b)
    between, fractions = _planes_between(ref_a[0], ref_b[0])
    masks = reshape.interpolated(one.mask, other.mask, fractions, image_hw=session.image_hw)
    draft, count = Draft(session), 0
    for index, mask in zip(between, masks, strict=True):
        if mask is None:
            raise EditError(
                f"the two shapes leave nothing on plane {index} between them: draw the instance "
                "there by hand, then fill in the planes from that one on"
            )
        drawn = drawn_instance(mask, one.category_id)
        count += draft.reshape(index, drawn, rule=rule)
    planes = "a plane" if len(between) == count == 1 else f"{count} of {len(between)} planes"
    return draft.action(f"fill in {planes} between two instances")


def _both(
    session: AnnotationSession, ref_a: InstanceRef, ref_b: InstanceRef
) -> tuple[Instance, Instance]:
    shown = visible_of(session, [ref_a, ref_b])
    if ref_a not in shown or ref_b not in shown:
        raise EditError(
            "an instance to fill in from is no longer shown: select two instances that are"
        )
    return shown[ref_a], shown[ref_b]


def _planes_between(a: PlaneIndex, b: PlaneIndex) -> tuple[list[PlaneIndex], list[float]]:
    """Return the planes from one to another, without these, and how far along each lies."""
    if len(a) != len(b):
        raise ValueError(f"planes of one image have equally many indices, got {a} and {b}")
    axes = [axis for axis, (i, j) in enumerate(zip(a, b, strict=True)) if i != j]
    if len(axes) != 1:
        where = f"both are on plane {a}" if not axes else f"planes {a} and {b} differ in more"
        raise EditError(
            "filling in needs two instances on planes that differ in one axis (say z), but "
            f"{where}: select the same object on two planes of one stack"
        )
    (axis,) = axes
    start, end = a[axis], b[axis]
    step = 1 if end > start else -1
    places = range(start + step, end, step)
    if not places:
        raise EditError(
            f"planes {a} and {b} are neighbours, with nothing between to fill in: select the "
            "object on planes farther apart"
        )
    between = [(*a[:axis], place, *a[axis + 1 :]) for place in places]
    return between, [(place - start) / (end - start) for place in places]
