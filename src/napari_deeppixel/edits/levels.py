"""Which instance lies on top of which, so that nothing that a person looks at vanishes."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import Instance, InstanceState
from napari_deeppixel.edits.action import Action, Change
from napari_deeppixel.edits.diff import draw_region
from napari_deeppixel.edits.plane import PlaneRecord


def drawing_rank(instance: Instance) -> tuple[bool, int, float]:
    """Return what decides how high an instance lies; see `InstanceSet.drawing_order`."""
    is_human = instance.state is not InstanceState.UNREVIEWED
    level = instance.level if is_human else 0
    return is_human, level, 1.0 if np.isnan(instance.score) else instance.score


def with_levels(action: Action, planes: Mapping[PlaneIndex, PlaneRecord]) -> Action:
    """Return an action that gives a level to what a person touches for the first time.

    What is drawn anew comes on top of all. What was a prediction until now comes below all that
    the person touched before: a neighbour that merely lost some pixels to a stroke must not rise
    above the object that was painted. Of several at once, those that gained pixels come first,
    and the others stay in the order in which they lie.

    Parameters
    ----------
    action
        What is done.
    planes
        What is there before it.
    """
    fresh: dict[PlaneIndex, list[Change]] = {}
    levels: dict[tuple[PlaneIndex, str], int] = {}
    for change in action.changes:
        before, after = change.before, change.after
        if _is_touched_first(change):
            fresh.setdefault(change.index, []).append(change)
        elif before is not None and after is not None and before.level != after.level:
            # what comes from elsewhere in its place stays where it is
            levels[change.index, change.uuid] = before.level
    for index, changes in fresh.items():
        record = planes.get(index) or PlaneRecord()
        # also of those that were set back: they keep their level, and may be accepted again
        known = [instance.level for instance in record.instances()]
        low, high = min(known, default=0), max(known, default=0)
        levels |= _levels(changes, record, low=low, high=high)
    if not levels:
        return action
    return replace(
        action, changes=tuple(_at_level(c, levels.get((c.index, c.uuid))) for c in action.changes)
    )


def _is_touched_first(change: Change) -> bool:
    before, after = change.before, change.after
    if after is None or after.state is InstanceState.UNREVIEWED:
        return False
    if before is None:
        return True
    return not before.level and before.state is InstanceState.UNREVIEWED


def _levels(
    changes: list[Change], record: PlaneRecord, *, low: int, high: int
) -> dict[tuple[PlaneIndex, str], int]:
    new = [change for change in changes if change.before is None]
    known = [change for change in changes if change.before is not None]
    # one that comes back may have the level of another time, which counts no more
    new.sort(key=lambda change: (_score(change), record.last_place(change.uuid)))
    known.sort(key=lambda change: (*_height(change), record.place(change.uuid)), reverse=True)
    levels = {(c.index, c.uuid): max(0, high) + 1 + n for n, c in enumerate(new)}
    # 0 is the level of what nobody touched
    return levels | {(c.index, c.uuid): min(0, low) - 1 - n for n, c in enumerate(known)}


def _score(change: Change) -> float:
    assert change.after is not None  # it is new
    return drawing_rank(change.after)[2]


def _height(change: Change) -> tuple[bool, tuple[bool, int, float]]:
    assert change.before is not None  # the caller has looked
    return _gains_pixels(change), drawing_rank(change.before)


def _gains_pixels(change: Change) -> bool:
    before, after = change.before, change.after
    if before is None or after is None or before.mask is after.mask:
        return False
    box = after.mask.box_xyxy
    was = draw_region([replace(before, handle=1)], box, np.dtype(np.uint8))
    return bool((after.mask.pixels & (was == 0)).any())


def _at_level(change: Change, level: int | None) -> Change:
    if level is None or change.after is None:
        return change
    return replace(change, after=replace(change.after, level=level))
