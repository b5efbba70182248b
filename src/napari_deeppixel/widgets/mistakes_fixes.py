"""What sets a label mistake right, and whether somebody has done so."""

from dataclasses import replace
from uuid import uuid4

import numpy as np

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.geometry import boxes_touch_region
from napari_deeppixel.core.instance import Instance, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.edits import tools
from napari_deeppixel.edits.action import Action
from napari_deeppixel.edits.diff import OverlapRule, edited_state
from napari_deeppixel.edits.draft import Draft, EditError, InstanceRef
from napari_deeppixel.edits.session import DONE_STATES, AnnotationSession
from napari_deeppixel.training.mistake import (
    MATCH_IOU,
    Mistake,
    MistakeAnswer,
    MistakeKind,
    hash_of,
)


def fix_of(session: AnnotationSession, mistake: Mistake, *, rule: OverlapRule) -> Action:
    """Return the action that does what the model suggests; one step to undo.

    What was missing is added, *accepted* and with the model as its source; an annotation of nothing
    is *rejected*; an outline becomes the model's, several where it finds several objects, one where
    it finds one; a category becomes the model's.

    Parameters
    ----------
    session
        Of the mistake's image.
    mistake
        The mistake.
    rule
        What becomes of pixels that other visible instances have.

    Raises
    ------
    EditError
        If the annotation is gone, or the image has another size.
    """
    if mistake.image_hw != session.image_hw:
        raise EditError(
            f"the list is of an image of {mistake.image_hw} pixels, this one has "
            f"{session.image_hw}: make the list anew"
        )
    match mistake.kind:
        case MistakeKind.MISSING:
            return _added(session, mistake, rule)
        case MistakeKind.SPURIOUS:
            ref = (mistake.plane, annotation_of(session, mistake).uuid)
            return tools.with_state(session, [ref], InstanceState.REJECTED)
        case MistakeKind.OUTLINE:
            return _reshaped(session, mistake, rule)
        case MistakeKind.CATEGORY:
            ref = (mistake.plane, annotation_of(session, mistake).uuid)
            return tools.with_category(session, [ref], _category_id(session, mistake.category))


def masks_of(mistake: Mistake) -> list[CroppedMask]:
    """Return all that the model sees there."""
    return [mask for mask in (mistake.mask, *mistake.more_masks) if mask is not None]


def annotation_of(session: AnnotationSession, mistake: Mistake) -> Instance:
    """Return the annotation that a mistake was found in.

    Raises
    ------
    EditError
        If it is gone.
    """
    instance = session.get(mistake.plane, mistake.uuid)
    if instance is None:
        raise EditError("this annotation is gone meanwhile: press N for the next mistake")
    return instance


def _category_id(session: AnnotationSession, name: str) -> int:
    # of a name that is known, the category that is there
    (category_id,) = session.join_categories(CategoryTable.from_names(name)).values()
    return category_id


def _new(mask: CroppedMask, category_id: int, mistake: Mistake) -> Instance:
    return Instance(
        mask=mask,
        score=mistake.score,
        category_id=category_id,
        handle=0,
        uuid=str(uuid4()),
        state=InstanceState.ACCEPTED,
        source=mistake.source,
    )


def _added(session: AnnotationSession, mistake: Mistake, rule: OverlapRule) -> Action:
    draft = Draft(session)
    if mistake.mask is not None:
        new = _new(mistake.mask, _category_id(session, mistake.category), mistake)
        draft.reshape(mistake.plane, new, rule=rule)
    return draft.action("add a missed instance")


def _reshaped(session: AnnotationSession, mistake: Mistake, rule: OverlapRule) -> Action:
    before = annotation_of(session, mistake)
    draft = Draft(session, [(mistake.plane, mistake.uuid)])
    for uuid in mistake.more_uuids:
        # its pixels go into the one object, so it is not remembered as junk
        draft.remove(mistake.plane, uuid)
    if mistake.mask is not None:
        after = replace(before, mask=mistake.mask, state=edited_state(before))
        draft.reshape(mistake.plane, after, rule=rule)
    for mask in mistake.more_masks:
        draft.reshape(mistake.plane, _new(mask, before.category_id, mistake), rule=rule)
    return draft.action("take the model's outline")


def is_settled(session: AnnotationSession, mistake: Mistake) -> bool:
    """Whether a mistake of a session's image is none any more.

    That is so if its annotation is gone, rejected, or has another mask than when the list was
    made; or if there is an instance now where one was missing, also one that a person rejected.
    """
    if mistake.kind is MistakeKind.MISSING:
        return mistake.mask is None or subject_of(session, mistake) is not None
    instance = session.get(mistake.plane, mistake.uuid)
    if instance is None or instance.state is InstanceState.REJECTED:
        return True
    if mistake.kind is MistakeKind.CATEGORY:
        return session.categories.by_id(instance.category_id).name == mistake.category
    return hash_of(instance.mask) != mistake.mask_hash


def subject_of(session: AnnotationSession, mistake: Mistake) -> InstanceRef | None:
    """Return the instance that a mistake is about; None if there is none.

    Where an object was missing, that is the instance that shows it now, if any does.
    """
    if mistake.kind is not MistakeKind.MISSING:
        instance = session.get(mistake.plane, mistake.uuid)
        return None if instance is None else (mistake.plane, mistake.uuid)
    mask, plane = mistake.mask, session.plane(mistake.plane)
    if mask is None:
        return None
    ious = {}
    for place in np.flatnonzero(boxes_touch_region(plane.boxes_xyxy, mask.box_xyxy)):
        uuid, state = plane.uuids[place], plane.states[place]
        is_hidden = state is InstanceState.UNREVIEWED and not session.is_visible(
            mistake.plane, uuid
        )
        if not is_hidden:
            ious[uuid] = plane.masks[place].iou(mask)
    best = max(ious, key=ious.__getitem__, default="")
    return (mistake.plane, best) if best and ious[best] >= MATCH_IOU else None


def is_rejected(session: AnnotationSession, mistake: Mistake) -> bool:
    """Whether the instance that a mistake is about is rejected."""
    subject = subject_of(session, mistake)
    instance = None if subject is None else session.get(*subject)
    return instance is not None and instance.state is InstanceState.REJECTED


def answer_of(session: AnnotationSession, mistake: Mistake, *, is_right: bool) -> MistakeAnswer:
    """Return the answer that fits what a session's image holds now.

    Parameters
    ----------
    session
        Of the mistake's image.
    mistake
        The mistake.
    is_right
        Whether a person said that the annotation is right, which its state alone does not tell.
    """
    is_missing = mistake.kind is MistakeKind.MISSING
    if is_missing and is_rejected(session, mistake):
        return MistakeAnswer.DISMISSED
    if is_settled(session, mistake):
        return MistakeAnswer.FIXED
    instance = None if is_missing else session.get(mistake.plane, mistake.uuid)
    is_done = instance is not None and instance.state in DONE_STATES
    return MistakeAnswer.DISMISSED if is_right and is_done else MistakeAnswer.OPEN
