"""The review queue: which instances to look at, in which order, and why."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.core.geometry import box_centres_xy
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.edits.uncertainty import (
    OPEN_STATES,
    overlap_reason,
    touches_border,
    uncertainties,
)

# coarse rows of the reading order, in heights of the plane's median box: objects that a person
# sees side by side fall into one row
_ROW_HEIGHTS = 2.0

_UNREVIEWED = frozenset({InstanceState.UNREVIEWED})
_CATEGORY_RANKS = {InstanceState.UNREVIEWED: 0.0, InstanceState.UNSURE: 1.0}

_PAUSE_S = 60.0
_RECENT = 20
_FEWEST = 3


class QueueOrder(StrEnum):
    """Which instances belong to a queue and which comes first; captions for people."""

    UNCERTAIN = "uncertain first"
    UNREVIEWED = "unreviewed"
    CATEGORY = "of one category"
    SMALL = "small"
    BORDER = "touching the border"
    OVERLAPPING = "overlapping"
    ALL = "all"


@dataclass(frozen=True, kw_only=True)
class QueueItem:
    """One instance to look at.

    Attributes
    ----------
    index
        Lead index of its plane.
    uuid, handle
        Which one.
    reason
        Why it is in the queue, in a few words with a number.
    uncertainty
        0 to 1, see `edits.uncertainty.uncertainties`; 0 for what a person settled.
    """

    index: PlaneIndex
    uuid: str
    handle: int
    reason: str
    uncertainty: float


@dataclass(frozen=True, kw_only=True, eq=False)
class _Ranked:
    """Some instances of a plane: their items in reading order, and a number to sort by."""

    items: list[QueueItem]
    ranks: NDArray[np.float64]


def review_queue(
    visible: Mapping[PlaneIndex, InstanceSet],
    order: QueueOrder,
    *,
    candidates: Mapping[PlaneIndex, InstanceSet] | None = None,
    category_id: int | None = None,
) -> list[QueueItem]:
    """Return the instances to look at, in their order.

    - *uncertain first*: unreviewed and unsure ones of all planes, the most uncertain first;
    - *unreviewed*: plane by plane in reading order (coarse rows from the top, each from the left),
      so that the camera moves little;
    - *of one category*: unreviewed ones of all planes, then unsure ones, then the others, each in
      reading order;
    - *small*: unreviewed ones of all planes, the smallest first. There is no limit: what is small
      depends on the objects, and a person sees when they become normal;
    - *touching the border*: in reading order, whatever their state;
    - *overlapping*: those that share a pixel with another visible one, whatever their state; the
      largest overlap first (see `edits.neighbours.overlap_shares`);
    - *all*: in reading order.

    Ties are in reading order. Pure; 10,000 instances with 10,000 candidates on one plane took
    0.4 s on a busy core, so call it in a thread.

    Parameters
    ----------
    visible
        What is shown, by the lead index of the plane.
    order
        Which instances, and which first.
    candidates
        Predictions that are not shown, by plane: they tell what may be merged or in parts. Visible
        and rejected ones among them do not count, so all instances of a plane will do.
    category_id
        The category, for that order.

    Raises
    ------
    ValueError
        If the order is by category and there is no `category_id`.
    """
    if order is QueueOrder.CATEGORY and category_id is None:
        raise ValueError("a queue of one category needs its category_id, got None")
    planes = [
        _rank(index, visible[index], order, (candidates or {}).get(index), category_id)
        for index in sorted(visible)
    ]
    items = [item for plane in planes for item in plane.items]
    ranks = np.concatenate([np.zeros(0), *(plane.ranks for plane in planes)])
    return [items[n] for n in np.argsort(ranks, kind="stable").tolist()]


def _rank(
    index: PlaneIndex,
    instances: InstanceSet,
    order: QueueOrder,
    candidates: InstanceSet | None,
    category_id: int | None,
) -> _Ranked:
    found = uncertainties(instances, candidates)
    reasons: Sequence[str] = found.reasons
    chosen = np.ones(len(instances), np.bool_)
    ranks: NDArray[np.float64] = np.zeros(len(instances))
    states = instances.states
    match order:
        case QueueOrder.UNCERTAIN:
            chosen, ranks = _are_in(states, OPEN_STATES), -found.values
        case QueueOrder.UNREVIEWED:
            chosen = _are_in(states, _UNREVIEWED)
        case QueueOrder.CATEGORY:
            chosen = instances.category_ids == category_id
            ranks = np.array([_CATEGORY_RANKS.get(state, 2.0) for state in states])
        case QueueOrder.SMALL:
            chosen = _are_in(states, _UNREVIEWED)
            ranks = instances.areas.astype(np.float64)
            reasons = [f"area {area} px" for area in instances.areas.tolist()]
        case QueueOrder.BORDER:
            chosen = touches_border(instances)
            reasons = ["touches the border"] * len(instances)
        case QueueOrder.OVERLAPPING:
            shares = found.overlap_shares
            chosen, ranks = shares > 0, -shares
            reasons = [overlap_reason(share) for share in shares.tolist()]
    in_order = reading_order(instances)
    in_order = in_order[chosen[in_order]]
    items = [
        QueueItem(
            index=index,
            uuid=instances.uuids[n],
            handle=int(instances.handles[n]),
            reason=reasons[n],
            uncertainty=float(found.values[n]),
        )
        for n in in_order.tolist()
    ]
    return _Ranked(items=items, ranks=ranks[in_order])


def _are_in(states: Sequence[InstanceState], which: frozenset[InstanceState]) -> NDArray[np.bool_]:
    return np.array([state in which for state in states], np.bool_)


def reading_order(instances: InstanceSet) -> NDArray[np.int64]:
    """Return positions (N,) row by row from the top, each row from the left.

    A row begins with the highest centre left and is two median box heights high, so that objects
    side by side share one.
    """
    boxes = instances.boxes_xyxy
    if not len(boxes):
        return np.zeros(0, np.int64)
    x, y = box_centres_xy(boxes).T
    height = _ROW_HEIGHTS * np.median(boxes[:, 3] - boxes[:, 1])
    downwards = np.sort(y)
    starts, start = [], 0
    while start < len(downwards):
        starts.append(downwards[start])
        start = int(np.searchsorted(downwards, downwards[start] + height, side="left"))
    rows = np.searchsorted(starts, y, side="right")
    return np.lexsort((y, x, rows))


def position_after(
    queue: Sequence[QueueItem],
    uuid: str | None,
    *,
    is_done: Callable[[str], bool],
    step: int = 1,
) -> int | None:
    """Return the position of the next item that is still to do; None if there is none that way.

    A queue stays as it was made while a person works through it: what they review or delete
    meanwhile is skipped through `is_done`, and an item that vanished keeps its place in the queue
    to go on from. To change to a newly made queue at the same place, walk the old one with an
    `is_done` that is also true for what the new one lacks, and look its uuid up there.

    Parameters
    ----------
    queue
        As it was made.
    uuid
        Where one is. None, or one that the queue never held: before the first item, or behind the
        last for a negative step; so None wraps round at an end.
    is_done
        Whether an instance is to be skipped. To go back to what was just reviewed, let it be true
        only for what is gone.
    step
        1: next; -1: previous.

    Raises
    ------
    ValueError
        If `step` is neither.
    """
    if step not in (1, -1):
        raise ValueError(f"step must be 1 or -1, got {step}")
    outside = -1 if step == 1 else len(queue)
    position = next((n for n, item in enumerate(queue) if item.uuid == uuid), outside) + step
    while 0 <= position < len(queue):
        if not is_done(queue[position].uuid):
            return position
        position += step
    return None


def time_left_s(durations_s: Sequence[float], remaining: int) -> float | None:
    """Return the seconds that the rest of a queue will take; None with fewer than three to go by.

    The median of the last 20 durations times what remains; pauses of over a minute are left out,
    and the median ignores the few instances that took long.

    Parameters
    ----------
    durations_s
        Seconds from one reviewed instance to the next, oldest first.
    remaining
        Instances to do.
    """
    working = [duration for duration in durations_s if duration <= _PAUSE_S][-_RECENT:]
    if len(working) < _FEWEST:
        return None
    return median(working) * remaining
