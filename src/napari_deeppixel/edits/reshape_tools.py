"""What a person does to masks on their plane: draw, join, cut, fill, smooth, grow.

Each tool is a pure function from a session and a selection to one `Action`, for
`AnnotationSession.apply`. Instances of a selection that are not shown are ignored, so that none
comes back unasked; an action without anything to do is falsy. Points are (y, x) in napari data
coordinates, as in `edits.reshape`.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from uuid import uuid4

import numpy as np
from numpy.typing import ArrayLike

from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import Instance, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.edits import reshape
from napari_deeppixel.edits.action import Action
from napari_deeppixel.edits.diff import PERSON, OverlapRule, drawn_instance, edited_state
from napari_deeppixel.edits.draft import Draft, InstanceRef, counted, visible_of
from napari_deeppixel.edits.session import AnnotationSession
from napari_deeppixel.edits.tools import known_category

# -- join and cut -----------------------------------------------------------------------------


def united(session: AnnotationSession, refs: Sequence[InstanceRef]) -> Action:
    """Return the action that makes one instance of those selected on each plane.

    The largest (of equal ones the first selected) keeps uuid, handle and category and gets all
    pixels; the others go. A plane with one selected instance stays as it is.
    """
    on_plane: dict[PlaneIndex, list[Instance]] = defaultdict(list)
    for (index, _), instance in visible_of(session, refs).items():
        on_plane[index].append(instance)
    draft, count = Draft(session), 0
    for index, instances in on_plane.items():
        if len(instances) < 2:
            continue
        largest = max(instances, key=lambda instance: instance.area)
        mask = reshape.union_of(instance.mask for instance in instances)
        draft.put(index, replace(largest, mask=mask, state=edited_state(largest)))
        for instance in instances:
            if instance is not largest:
                draft.remove(index, instance.uuid)
        count += len(instances)
    return draft.action(f"unite {counted(count)}")


def split_along(
    session: AnnotationSession,
    refs: Sequence[InstanceRef],
    line_yx: ArrayLike,
    *,
    index: PlaneIndex,
) -> Action:
    """Return the action that cuts instances of a plane along a line.

    The largest part keeps uuid and handle; each other part is a new instance of the same
    category, source and score.

    Parameters
    ----------
    session
        The session.
    refs
        What to cut; a line that ends inside one is carried on, see `reshape.split_by_line`. With
        nothing selected, every visible instance is cut that the line crosses from outside to
        outside.
    line_yx
        Points (K, 2) of the line.
    index
        Lead index of the plane that it was drawn on; selected instances elsewhere stay.
    """
    if refs:
        chosen = [i for (at, _), i in visible_of(session, refs).items() if at == index]
    else:
        chosen = _crossed(session, line_yx, index)
    draft, count = Draft(session), 0
    for instance in chosen:
        count += _put_parts(draft, index, instance, reshape.split_by_line(instance.mask, line_yx))
    return draft.action(f"split {counted(count)}")


def _crossed(session: AnnotationSession, line_yx: ArrayLike, index: PlaneIndex) -> list[Instance]:
    """Return the visible instances near a line that hold neither of its ends."""
    line = np.asarray(line_yx, dtype=np.float64)
    if len(line) < 2:
        return []
    y1, x1 = np.floor(line.min(axis=0)).astype(int).tolist()
    y2, x2 = np.ceil(line.max(axis=0)).astype(int).tolist()
    ends = [tuple(np.rint(end).astype(int).tolist()) for end in (line[0], line[-1])]
    near = session.shown_in(index, (x1, y1, x2 + 1, y2 + 1))
    return [i for i in near if not any(_holds(i.mask, y=y, x=x) for y, x in ends)]


def _holds(mask: CroppedMask, *, y: int, x: int) -> bool:
    x1, y1, x2, y2 = mask.box_xyxy
    return y1 <= y < y2 and x1 <= x < x2 and bool(mask.pixels[y - y1, x - x1])


def split_at(session: AnnotationSession, ref: InstanceRef, points_yx: ArrayLike) -> Action:
    """Return the action that cuts an instance into one part for each point (K, 2).

    The largest part keeps uuid and handle, as in `split_along`; how it is cut tells
    `reshape.split_by_points`. Fewer than two points change nothing.
    """
    draft, count = Draft(session), 0
    if len(np.asarray(points_yx)) >= 2:
        for (index, _), instance in visible_of(session, [ref]).items():
            parts = reshape.split_by_points(instance.mask, points_yx)
            count += _put_parts(draft, index, instance, parts)
    return draft.action(f"split {counted(count)}")


def _put_parts(
    draft: Draft, index: PlaneIndex, instance: Instance, parts: Sequence[CroppedMask]
) -> bool:
    """Put the parts of an instance, largest first, in its place; return if there are several."""
    if len(parts) < 2:
        return False
    largest = replace(instance, mask=parts[0], state=edited_state(instance))
    draft.put(index, largest)
    for part in parts[1:]:
        # the network's box and doubt were about the whole
        new = replace(
            largest,
            mask=part,
            uuid=str(uuid4()),
            handle=0,
            predicted_box_xyxy=(math.nan,) * 4,
            edge_uncertainty=math.nan,
        )
        draft.put(index, new)
    return True


# -- mend -------------------------------------------------------------------------------------


def filled(
    session: AnnotationSession,
    refs: Sequence[InstanceRef],
    *,
    rule: OverlapRule = OverlapRule.KEEP,
) -> Action:
    """Return the action that fills the holes of instances.

    With the default rule a hole stays where another instance is seen in it.
    """
    return _reshaped(session, refs, reshape.filled, verb="fill", rule=rule)


def without_specks(
    session: AnnotationSession, refs: Sequence[InstanceRef], *, min_area: int | None = None
) -> Action:
    """Return the action that takes the small parts of instances away.

    Parts smaller than ``min_area`` pixels go, by default as in `reshape.without_specks`.
    """
    return _reshaped(
        session,
        refs,
        lambda mask: reshape.without_specks(mask, min_area=min_area),
        verb="remove specks of",
        rule=OverlapRule.OVERLAP,
    )


def smoothed(
    session: AnnotationSession,
    refs: Sequence[InstanceRef],
    *,
    rule: OverlapRule,
    radius_px: float = 2.0,
) -> Action:
    """Return the action that smooths the outlines of instances; see `reshape.smoothed`."""
    return _reshaped(
        session,
        refs,
        lambda mask: reshape.smoothed(mask, radius_px=radius_px, image_hw=session.image_hw),
        verb="smooth",
        rule=rule,
    )


def grown(
    session: AnnotationSession,
    refs: Sequence[InstanceRef],
    *,
    rule: OverlapRule,
    radius_px: float = 1.0,
) -> Action:
    """Return the action that grows instances by a radius; those selected stop at each other."""
    return _reshaped(
        session,
        refs,
        lambda mask: reshape.grown(mask, radius_px=radius_px, image_hw=session.image_hw),
        verb="grow",
        rule=rule,
    )


def shrunk(
    session: AnnotationSession, refs: Sequence[InstanceRef], *, radius_px: float = 1.0
) -> Action:
    """Return the action that shrinks instances by a radius; one that would vanish stays."""
    return _reshaped(
        session,
        refs,
        lambda mask: reshape.shrunk(mask, radius_px=radius_px, image_hw=session.image_hw),
        verb="shrink",
        rule=OverlapRule.OVERLAP,
    )


def _reshaped(
    session: AnnotationSession,
    refs: Sequence[InstanceRef],
    new_mask: Callable[[CroppedMask], CroppedMask | None],
    *,
    verb: str,
    rule: OverlapRule,
) -> Action:
    chosen = visible_of(session, refs)
    draft, count = Draft(session, chosen), 0
    for (index, _), instance in chosen.items():
        mask = new_mask(instance.mask)
        if mask is not None:
            count += draft.reshape(index, _edited(instance, mask), rule=rule)
    return draft.action(f"{verb} {counted(count)}")


def _edited(instance: Instance, mask: CroppedMask) -> Instance:
    return replace(instance, mask=mask, state=edited_state(instance))


# -- draw -------------------------------------------------------------------------------------


def drawn(
    session: AnnotationSession,
    index: PlaneIndex,
    mask: CroppedMask,
    *,
    category_id: int,
    rule: OverlapRule,
) -> Action:
    """Return the action that adds an instance that a person drew.

    Raises
    ------
    EditError
        If the session has no such category.
    ValueError
        If the mask leaves the plane.
    """
    known_category(session, category_id)
    _refuse_outside(mask, session.image_hw)
    draft = Draft(session)
    draft.reshape(index, drawn_instance(mask, category_id), rule=rule)
    return draft.action("draw an instance")


def with_mask(
    session: AnnotationSession,
    index: PlaneIndex,
    uuid: str,
    *,
    mask: CroppedMask,
    rule: OverlapRule,
) -> Action:
    """Return the action that gives an instance another mask.

    Raises
    ------
    ValueError
        If the mask leaves the plane.
    """
    _refuse_outside(mask, session.image_hw)
    draft = Draft(session)
    for instance in visible_of(session, [(index, uuid)]).values():
        draft.reshape(index, _edited(instance, mask), rule=rule)
    return draft.action("change the shape of an instance")


def lasso(
    session: AnnotationSession,
    index: PlaneIndex,
    outline_yx: ArrayLike,
    *,
    category_id: int,
    rule: OverlapRule,
    ref: InstanceRef | None = None,
) -> Action:
    """Return the action that adds what an outline (K, 2) holds.

    Parameters
    ----------
    session
        The session.
    index
        Lead index of the plane.
    outline_yx
        Corners (K, 2); an outline without a pixel changes nothing.
    category_id
        Category of a new instance.
    rule
        What becomes of pixels that other visible instances have. Pixels of the given instance
        that lie under another one count as newly drawn, so taking them shows them.
    ref
        An instance of the plane that gets the pixels; if None, gone or on another plane, they
        are a new one.

    Raises
    ------
    EditError
        If the session has no such category.
    """
    outlined = reshape.mask_from_outline(outline_yx, session.image_hw)
    target = visible_of(session, [ref]).get(ref) if ref is not None and ref[0] == index else None
    if target is None and outlined is not None:
        return drawn(session, index, outlined, category_id=category_id, rule=rule)
    draft = Draft(session)
    if target is not None and outlined is not None:
        mask = reshape.union_of((target.mask, outlined))
        draft.reshape(index, _edited(target, mask), rule=rule, claimed=outlined)
    return draft.action("add to an instance")


def suggested(
    session: AnnotationSession, index: PlaneIndex, instance: Instance, *, rule: OverlapRule
) -> Action:
    """Return the action that adds the instance that a model made of a person's box or click.

    It is *drawn*: a person said that it is there, and no run may replace it. Its score is NaN,
    as no score was asked for; its source is ``person+`` and the model's, so that training can
    tell a model's mask from a hand-drawn one. Its uuid is new.

    Raises
    ------
    EditError
        If the session does not have its category.
    ValueError
        If the mask leaves the plane.
    """
    known_category(session, instance.category_id)
    _refuse_outside(instance.mask, session.image_hw)
    new = replace(
        instance,
        state=InstanceState.DRAWN,
        score=math.nan,
        source=f"{PERSON}+{instance.source}" if instance.source else PERSON,
        uuid=str(uuid4()),
        handle=0,
    )
    draft = Draft(session)
    draft.reshape(index, new, rule=rule)
    return draft.action("add an instance from a box")


def _refuse_outside(mask: CroppedMask, image_hw: tuple[int, int]) -> None:
    _, _, x2, y2 = mask.box_xyxy
    if y2 > image_hw[0] or x2 > image_hw[1]:
        raise ValueError(f"mask with box {mask.box_xyxy} does not fit a plane of {image_hw}")
