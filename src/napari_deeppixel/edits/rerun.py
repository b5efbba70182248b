"""What a new run of a model does to the instances that are there."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.core.geometry import boxes_touch_region
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import Instance, InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.edits.action import Action, Change

Region = tuple[int, int, int, int]

# two masks of one object (Lin et al. 2014, COCO: IoU 0.5 is a match)
_SAME_OBJECT_IOU = 0.5
# of the smaller mask, where the edge of a view may have cut it
_SAME_OBJECT_SHARE = 0.5
# of a prediction: so much of it under shapes that a person made is what they united or split
_COVERED_SHARE = 0.5
_SHAPED_STATES = {InstanceState.EDITED, InstanceState.DRAWN}
# a mask that was only found ends within a pixel of the box that the network gave for it
_BOX_MARGIN_PX = 1


class Keep(StrEnum):
    """What a new run leaves as it is."""

    HUMAN = "keep all reviewed and edited"
    EDITED = "keep edited and drawn, replace accepted and rejected"
    NOTHING = "replace everything"


_REPLACED_STATES = {
    Keep.HUMAN: {InstanceState.UNREVIEWED},
    Keep.EDITED: {
        InstanceState.UNREVIEWED,
        InstanceState.ACCEPTED,
        InstanceState.REJECTED,
        InstanceState.UNSURE,
    },
    Keep.NOTHING: set(InstanceState),
}


@dataclass(frozen=True, kw_only=True)
class Replaced:
    """What became of a plane when a model ran on it again.

    Attributes
    ----------
    kept
        Instances that a person had reviewed, edited or drawn.
    held_back
        Predictions that were left out because they show the same object as a kept one.
    """

    kept: int
    held_back: int


def rerun_action(
    index: PlaneIndex,
    present: InstanceSet,
    predictions: InstanceSet,
    *,
    region_xyxy: Region | None,
    keep: Keep,
    hidden_uuids: Collection[str] = (),
) -> tuple[Action, Replaced]:
    """Return the action that puts predictions in the place of a plane's instances.

    A prediction of an object that was there before gets its uuid, and so its handle and colour.

    Parameters
    ----------
    index
        Lead index of the plane.
    present
        All instances of the plane.
    predictions
        All candidates, in the categories of `present`.
    region_xyxy
        The part that the model saw; None: the plane.
    keep
        What stays.
    hidden_uuids
        Candidates that are not shown: those that the region cuts hold no prediction back.
    """
    is_kept = np.array([state not in _REPLACED_STATES[keep] for state in present.states], np.bool_)
    is_staying = is_kept
    if region_xyxy is not None:
        # an object that the region cuts is known better from the run that saw it whole
        is_staying = is_kept | ~_lie_inside(present, region_xyxy)
    kept, staying, gone = (present.select(w) for w in (is_kept, is_staying, ~is_staying))
    share = None if region_xyxy is None else _SAME_OBJECT_SHARE
    seen = staying.select([uuid not in hidden_uuids for uuid in staying.uuids])
    shaped = kept.select([_is_shaped(instance) for instance in kept])
    is_made_up = _are_made_up(shaped, predictions)
    # what a person saw there and left as it was may come again
    left_alone = gone.select([uuid not in hidden_uuids for uuid in gone.uuids])
    fresh = [
        not _is_among(p, kept)
        and not _is_among(p, seen, share)
        and (_is_among(p, left_alone) or not _is_covered(p, shaped, is_made_up))
        for p in predictions
    ]
    accepted = predictions.select(np.array(fresh, np.bool_))
    changes = _changes(index, gone, _as_new(accepted, present), hidden_uuids)
    reviewed = sum(state is not InstanceState.REJECTED for state in kept.states)
    replaced = Replaced(kept=reviewed, held_back=len(predictions) - len(accepted))
    return Action(name="run the model", changes=tuple(changes)), replaced


def _as_new(accepted: InstanceSet, present: InstanceSet) -> InstanceSet:
    """Return predictions with new uuids where one is there already: a result that comes again."""
    taken = set(present.uuids)
    return replace(accepted, uuids=tuple(str(uuid4()) if u in taken else u for u in accepted.uuids))


def _changes(
    index: PlaneIndex,
    gone: InstanceSet,
    accepted: InstanceSet,
    hidden_uuids: Collection[str],
) -> list[Change]:
    left = {instance.uuid: instance for instance in gone}
    uuids = list(gone.uuids)
    new = []
    for prediction in accepted:
        near = np.flatnonzero(boxes_touch_region(gone.boxes_xyxy, prediction.box_xyxy))
        ious = {uuids[i]: prediction.mask.iou(gone.masks[i]) for i in near if uuids[i] in left}
        # what was seen before what was hidden: its colour is known
        matches = {uuid: iou for uuid, iou in ious.items() if iou >= _SAME_OBJECT_IOU}
        best = max(matches, key=lambda u: (u not in hidden_uuids, matches[u]), default="")
        same = left.pop(best, None)
        after = prediction if same is None else replace(prediction, uuid=same.uuid)
        new.append(Change(index=index, before=same, after=after))
    old = [Change(index=index, before=instance, after=None) for instance in left.values()]
    return old + new


def _lie_inside(instances: InstanceSet, region_xyxy: Region) -> NDArray[np.bool_]:
    """Return which instances (N,) the edge of a region inside the image does not touch."""
    height, width = instances.image_hw
    x1, y1, x2, y2 = region_xyxy
    boxes = instances.boxes_xyxy
    inside: NDArray[np.bool_] = (
        (boxes[:, 0] >= x1 + (x1 > 0))
        & (boxes[:, 1] >= y1 + (y1 > 0))
        & (boxes[:, 2] <= x2 - (x2 < width))
        & (boxes[:, 3] <= y2 - (y2 < height))
    )
    return inside


def _is_among(prediction: Instance, kept: InstanceSet, share: float | None = None) -> bool:
    """Whether a prediction shows one of some instances, or that share of one."""
    near = np.flatnonzero(boxes_touch_region(kept.boxes_xyxy, prediction.box_xyxy))
    mask = prediction.mask
    if share is None:
        return any(mask.iou(kept.masks[i]) >= _SAME_OBJECT_IOU for i in near)
    return any(
        mask.intersection(kept.masks[i]) >= share * min(mask.area, kept.masks[i].area) for i in near
    )


def _is_shaped(instance: Instance) -> bool:
    """Whether a person made an instance's shape, of what a model found and they rejected, too.

    A rejected mask as it was found says nothing about objects in it. One that leaves the box that
    the network gave for it was united or painted; without such a box nobody can tell.
    """
    if instance.state is not InstanceState.REJECTED or np.isnan(instance.score):
        return instance.state in _SHAPED_STATES
    x1, y1, x2, y2 = np.array(instance.predicted_box_xyxy)
    left, top, right, bottom = instance.box_xyxy
    over = np.array([x1 - left, y1 - top, right - x2, bottom - y2])
    return bool((over > _BOX_MARGIN_PX).any())


def _are_made_up(shaped: InstanceSet, predictions: InstanceSet) -> NDArray[np.bool_]:
    """Return which shapes (N,) are for the most part under predictions that lie mostly in them.

    Those are the parts of what a person united, whatever category they gave it.
    """
    is_made_up = np.zeros(len(shaped), np.bool_)
    for place, shape in enumerate(shaped.masks):
        near = np.flatnonzero(boxes_touch_region(predictions.boxes_xyxy, shape.box_xyxy))
        if (predictions.category_ids[near] == shaped.category_ids[place]).all():
            continue  # no prediction of another category asks
        found = [predictions.masks[i] for i in near]
        parts = [mask for mask in found if mask.intersection(shape) >= _COVERED_SHARE * mask.area]
        is_made_up[place] = _covered_area(shape, parts) >= _COVERED_SHARE * shape.area
    return is_made_up


def _is_covered(prediction: Instance, shaped: InstanceSet, is_made_up: NDArray[np.bool_]) -> bool:
    """Whether most of a prediction lies under shapes that a person made of its object.

    IoU alone does not see that: the parts of an object that was united, the whole of one that was
    split. Shapes of another category count where they are such parts or wholes, relabelled; not
    where one kind of object lies in another, as nuclei in cells.
    """
    mask, over = prediction.mask, []
    for i in np.flatnonzero(boxes_touch_region(shaped.boxes_xyxy, prediction.box_xyxy)):
        shape = shaped.masks[i]
        is_part = mask.intersection(shape) >= _COVERED_SHARE * shape.area
        if shaped.category_ids[i] == prediction.category_id or is_made_up[i] or is_part:
            over.append(shape)
    return _covered_area(mask, over) >= _COVERED_SHARE * mask.area


def _covered_area(mask: CroppedMask, others: Iterable[CroppedMask]) -> int:
    """Return how many pixels of a mask lie under others, which touch its box."""
    covered = np.zeros(mask.pixels.shape, np.bool_)
    for other in others:
        x1, y1 = max(mask.x, other.x), max(mask.y, other.y)
        x2, y2 = np.minimum(mask.box_xyxy[2:], other.box_xyxy[2:])
        covered[y1 - mask.y : y2 - mask.y, x1 - mask.x : x2 - mask.x] |= other.pixels[
            y1 - other.y : y2 - other.y, x1 - other.x : x2 - other.x
        ]
    return int(np.count_nonzero(covered & mask.pixels))
