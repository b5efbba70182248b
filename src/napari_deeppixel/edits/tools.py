"""What a person says about instances: good, junk, another kind, gone, still there.

Each tool is a pure function from a session and a selection to one `Action`, for
`AnnotationSession.apply`. Instances of a selection that are gone are ignored; an action without
anything to do is falsy. Tools that change masks: `edits.reshape_tools`, `edits.planes_tools`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from napari_deeppixel.core.geometry import boxes_touch_region
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import Instance, InstanceSet, InstanceState
from napari_deeppixel.edits.action import Action
from napari_deeppixel.edits.diff import PERSON, edited_state
from napari_deeppixel.edits.draft import Draft, EditError, InstanceRef, counted
from napari_deeppixel.edits.rerun import Keep, rerun_action
from napari_deeppixel.edits.reshape import mask_from_outline
from napari_deeppixel.edits.session import AnnotationSession, erased

_STATE_NAMES = {
    InstanceState.ACCEPTED: "accept {}",
    InstanceState.REJECTED: "reject {}",
    InstanceState.UNSURE: "mark {} unsure",
    InstanceState.UNREVIEWED: "set {} back to unreviewed",
}


def with_state(
    session: AnnotationSession, refs: Sequence[InstanceRef], state: InstanceState
) -> Action:
    """Return the action that accepts or rejects instances, marks them unsure or takes that back.

    Accepting leaves an *edited* or *drawn* instance as it is: it is reviewed, and training weighs
    what a person's hand was on. One that a person drew has no unreviewed state: accepted or set
    back after it was rejected or unsure, it is *drawn* again.

    Raises
    ------
    ValueError
        If the state is *edited* or *drawn*, which only a change of the mask gives.
    """
    if state not in _STATE_NAMES:
        raise ValueError(f"state must be one of {[str(s) for s in _STATE_NAMES]}, got {state!r}")
    draft, count = Draft(session), 0
    for index, instance in _all_of(session, refs):
        new_state = _reviewed_state(instance, state)
        if new_state is not instance.state:
            draft.put(index, replace(instance, state=new_state))
            count += 1
    return draft.action(_STATE_NAMES[state].format(counted(count)))


def _reviewed_state(instance: Instance, state: InstanceState) -> InstanceState:
    is_accepting = state is InstanceState.ACCEPTED
    if is_accepting and instance.state in (InstanceState.EDITED, InstanceState.DRAWN):
        return instance.state
    if (is_accepting or state is InstanceState.UNREVIEWED) and _is_by_person(instance):
        return InstanceState.DRAWN
    return state


def _is_by_person(instance: Instance) -> bool:
    return instance.source.split("+")[0] == PERSON


def with_category(
    session: AnnotationSession, refs: Sequence[InstanceRef], category_id: int
) -> Action:
    """Return the action that gives instances a category; a rejected one stays so.

    Raises
    ------
    EditError
        If the session has no such category.
    """
    name = known_category(session, category_id)
    draft, count = Draft(session), 0
    for index, instance in _all_of(session, refs):
        if instance.category_id == category_id:
            continue
        is_rejected = instance.state is InstanceState.REJECTED
        state = instance.state if is_rejected else edited_state(instance)
        draft.put(index, replace(instance, category_id=category_id, state=state))
        count += 1
    return draft.action(f"make {counted(count)} {name!r}")


def known_category(session: AnnotationSession, category_id: int) -> str:
    """Return the name of a category of a session.

    Raises
    ------
    EditError
        If the session has no such category.
    """
    names = {category.id: category.name for category in session.categories.categories}
    if category_id not in names:
        raise EditError(
            f"there is no category {category_id}: choose one of {list(names.values())}, or add it "
            "to the image first"
        )
    return names[category_id]


def deleted(session: AnnotationSession, refs: Sequence[InstanceRef]) -> Action:
    """Return the action that deletes instances; what a model found stays as *rejected*."""
    draft, count = Draft(session), 0
    for index, instance in _all_of(session, refs):
        left = erased(instance)
        if left is None:
            draft.remove(index, instance.uuid)
        elif instance.state is not InstanceState.REJECTED:
            draft.put(index, left)
        else:
            continue
        count += 1
    return draft.action(f"delete {counted(count)}")


def deleted_in(session: AnnotationSession, index: PlaneIndex, outline_yx: ArrayLike) -> Action:
    """Return the action that deletes what lies inside an outline.

    Parameters
    ----------
    session
        The session.
    index
        Lead index of the plane.
    outline_yx
        Corners (K, 2) in napari data coordinates. Visible instances go that have more than half
        of their pixels inside.
    """
    inside = mask_from_outline(outline_yx, session.image_hw)
    near = [] if inside is None else session.shown_in(index, inside.box_xyxy)
    refs = [
        (index, instance.uuid)
        for instance in near
        if inside is not None and 2 * instance.mask.intersection(inside) > instance.area
    ]
    return deleted(session, refs)


def candidate_at(
    session: AnnotationSession, index: PlaneIndex, *, y: int, x: int
) -> Instance | None:
    """Return the best hidden candidate at the pixel [y, x]; None if there is none.

    The best has the highest score. Candidates are unreviewed and hidden by the score or the
    smallest area.
    """
    plane = session.plane(index)
    best = None
    for place in np.flatnonzero(boxes_touch_region(plane.boxes_xyxy, (x, y, x + 1, y + 1))):
        uuid, mask = plane.uuids[place], plane.masks[place]
        if not mask.pixels[y - mask.y, x - mask.x] or session.is_visible(index, uuid):
            continue
        # the set's own instances carry made-up handles
        instance = session.get(index, uuid)
        if instance is None or instance.state is not InstanceState.UNREVIEWED:
            continue
        if best is None or not _rank(instance) <= _rank(best):
            best = instance
    return best


def _rank(instance: Instance) -> float:
    return 1.0 if np.isnan(instance.score) else instance.score


def promoted(session: AnnotationSession, index: PlaneIndex, uuid: str) -> Action:
    """Return the action that accepts a hidden candidate, so that it shows.

    Its mask may overlap others: they stay as they are. One that a person has seen to already
    does not change.
    """
    draft = Draft(session)
    instance = session.get(index, uuid)
    if instance is not None and instance.state is InstanceState.UNREVIEWED:
        draft.put(index, replace(instance, state=InstanceState.ACCEPTED))
    return draft.action("accept a missed instance")


def replace_counts(
    session: AnnotationSession, indices: Iterable[PlaneIndex], keep: Keep
) -> dict[InstanceState, int]:
    """Return how many instances of each state a new run on whole planes would replace.

    Every state is there. Hidden candidates do not count, as in `AnnotationSession.count_states`.
    """
    nothing = InstanceSet.empty(session.image_hw, session.categories)
    counts = dict.fromkeys(InstanceState, 0)
    for index in indices:
        present = session.plane(index)
        action, _ = rerun_action(index, present, nothing, region_xyxy=None, keep=keep)
        for change in action.changes:
            gone = session.get(index, change.uuid)
            assert gone is not None  # it comes from `present`
            is_rejected = gone.state is InstanceState.REJECTED
            counts[gone.state] += is_rejected or session.is_visible(index, gone.uuid)
    return counts


def _all_of(
    session: AnnotationSession, refs: Iterable[InstanceRef]
) -> list[tuple[PlaneIndex, Instance]]:
    """Return the instances of a selection that are there, shown or not, each once."""
    found = [(index, session.get(index, uuid)) for index, uuid in dict.fromkeys(refs)]
    return [(index, instance) for index, instance in found if instance is not None]
