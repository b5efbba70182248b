"""Complete regions: where a person has seen to every object, so that training may learn there.

As in `edits.tools`, each tool is a pure function to one `Action`, for `AnnotationSession.apply`.
Regions are kept as outlines of (x, y) on pixel edges; a person draws in napari data coordinates.
"""

from collections.abc import Sequence

from numpy.typing import ArrayLike

from napari_deeppixel.core.geometry import Outline, outline_yx_to_xy
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.edits.action import Action, RegionsChange
from napari_deeppixel.edits.reshape import (
    difference,
    mask_from_outline,
    outline_mask,
    regions_mask,
)
from napari_deeppixel.edits.session import AnnotationSession


def region_completed(
    session: AnnotationSession, index: PlaneIndex, outline_yx: ArrayLike
) -> Action:
    """Return the action that marks the inside of an outline (K, 2) complete.

    Nothing changes if it holds no pixel that is not complete yet.
    """
    name = "mark a region complete"
    drawn = mask_from_outline(outline_yx, session.image_hw)
    complete = completed_mask(session, index)
    if drawn is None or (complete is not None and difference(drawn, complete) is None):
        return Action(name=name)
    after = (*session.regions(index), outline_yx_to_xy(outline_yx))
    return _regions_action(session, index, after, name=name)


def plane_completed(session: AnnotationSession, index: PlaneIndex) -> Action:
    """Return the action that marks a whole plane complete: one outline instead of all others."""
    return _regions_action(
        session, index, (whole_plane(session.image_hw),), name="mark a plane complete"
    )


def region_removed(session: AnnotationSession, index: PlaneIndex, position: int) -> Action:
    """Return the action that takes a region of `AnnotationSession.regions` away; none if gone."""
    kept = tuple(r for n, r in enumerate(session.regions(index)) if n != position)
    return _regions_action(session, index, kept, name="remove a complete region")


def _regions_action(
    session: AnnotationSession, index: PlaneIndex, after: Sequence[Outline], *, name: str
) -> Action:
    change = RegionsChange(index=index, before=session.regions(index), after=tuple(after))
    return Action(name=name, regions=() if change.before == change.after else (change,))


def whole_plane(image_hw: tuple[int, int]) -> Outline:
    """Return the outline of a plane."""
    height, width = (float(size) for size in image_hw)
    return ((0.0, 0.0), (width, 0.0), (width, height), (0.0, height))


def completed_mask(session: AnnotationSession, index: PlaneIndex) -> CroppedMask | None:
    """Return the pixels of a plane that lie in any complete region; None if there are none."""
    return regions_mask(session.regions(index), session.image_hw)


def completed_fraction(session: AnnotationSession, index: PlaneIndex) -> float:
    """Return how much of a plane lies in complete regions, 0 to 1; overlaps count once."""
    complete = completed_mask(session, index)
    height, width = session.image_hw
    return 0.0 if complete is None else complete.area / (height * width)


def unreviewed_in(session: AnnotationSession, outline: Outline, index: PlaneIndex) -> int:
    """Return how many visible unreviewed instances have a pixel in an outline.

    One pixel is enough: training would take an object at the edge for background.
    """
    inside = outline_mask(outline, session.image_hw)
    if inside is None:
        return 0
    return sum(
        instance.state is InstanceState.UNREVIEWED and instance.mask.intersection(inside) > 0
        for instance in session.shown_in(index, inside.box_xyxy)
    )
