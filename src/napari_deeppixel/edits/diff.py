"""What a person changed in a label image, against the instances that it was drawn from."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.core.geometry import BoolImage
from napari_deeppixel.core.instance import Instance, InstanceState
from napari_deeppixel.core.mask import CroppedMask

PERSON = "person"

Region = tuple[int, int, int, int]


class OverlapRule(StrEnum):
    """What painting one instance over another does to the other."""

    TAKE = "take pixels"
    KEEP = "keep others"
    OVERLAP = "allow overlap"


def draw_region(
    instances: Sequence[Instance], region_xyxy: Region, dtype: "np.dtype[Any]"
) -> NDArray[Any]:
    """Return the handles of instances drawn into a region (h, w), the last on top."""
    x1, y1, x2, y2 = region_xyxy
    image = np.zeros((y2 - y1, x2 - x1), dtype)
    for instance in instances:
        mask = instance.mask
        left, top, right, bottom = mask.box_xyxy
        rows = slice(max(top, y1), min(bottom, y2))
        columns = slice(max(left, x1), min(right, x2))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            continue
        pixels = mask.pixels[rows.start - top : rows.stop - top]
        pixels = pixels[:, columns.start - left : columns.stop - left]
        target = image[rows.start - y1 : rows.stop - y1, columns.start - x1 : columns.stop - x1]
        target[pixels] = instance.handle
    return image


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelEdit:
    """What hand edits make of one handle.

    Attributes
    ----------
    handle
        The number in the label image.
    before
        The instance that was drawn with it; None if there was none.
    after
        The instance now; None if no pixel of it is left.
    """

    handle: int
    before: Instance | None
    after: Instance | None


def label_edits(
    instances: Sequence[Instance],
    seen: NDArray[Any],
    *,
    region_xyxy: Region,
    rule: OverlapRule,
    drawn_category_id: int,
) -> list[LabelEdit]:
    """Return what hand edits in a region of a label image made of its instances.

    An instance gains the pixels that now carry its handle and loses those that no longer do, as
    far as the rule lets it; what lay hidden under another instance stays. Changed instances are
    ``edited``, unknown handles are ``drawn``.

    Parameters
    ----------
    instances
        What was drawn, the last on top.
    seen
        The region (h, w) of the label image as it is now.
    region_xyxy
        Where it lies in the plane.
    rule
        What painting over another instance does to it. Erasing takes the pixels of the instance
        on top, always.
    drawn_category_id
        Category of new instances.
    """
    before = draw_region(instances, region_xyxy, seen.dtype)
    changed = before != seen
    box = CroppedMask.from_mask(changed)
    if box is None:
        return []
    old, new, is_changed = before[box.slices], seen[box.slices], box.pixels
    is_over_another = is_changed & (old != 0) & (new != 0)
    if rule is OverlapRule.KEEP:
        is_gained, is_lost = is_changed & ~is_over_another, is_changed & ~is_over_another
    elif rule is OverlapRule.OVERLAP:
        is_gained, is_lost = is_changed, is_changed & ~is_over_another
    else:
        is_gained, is_lost = is_changed, is_changed
    y, x = region_xyxy[1] + box.y, region_xyxy[0] + box.x
    by_handle = {instance.handle: instance for instance in instances}
    edits = []
    for handle in np.union1d(old[is_changed], new[is_changed]).tolist():
        if not handle:
            continue
        gained, lost = is_gained & (new == handle), is_lost & (old == handle)
        if not gained.any() and not lost.any():
            continue
        instance = by_handle.get(handle)
        if instance is None:
            edits.append(_drawn(handle, gained, (y, x), drawn_category_id))
            continue
        mask = _with_pixels(instance.mask, gained, lost, (y, x))
        after = None if mask is None else replace(instance, mask=mask, state=edited_state(instance))
        edits.append(LabelEdit(handle=handle, before=instance, after=after))
    return edits


def edited_state(instance: Instance) -> InstanceState:
    """Return the state of an instance after a person changed it."""
    is_drawn = instance.state is InstanceState.DRAWN
    return InstanceState.DRAWN if is_drawn else InstanceState.EDITED


def with_pixels_of(instance: Instance, mask: CroppedMask) -> Instance:
    """Return an instance to which a person added the pixels of a mask."""
    nothing = np.zeros_like(mask.pixels)
    larger = _with_pixels(instance.mask, mask.pixels, nothing, (mask.y, mask.x))
    assert larger is not None  # nothing is taken away
    return replace(instance, mask=larger, state=edited_state(instance))


def _drawn(
    handle: int, pixels: BoolImage, origin_yx: tuple[int, int], category_id: int
) -> LabelEdit:
    mask = CroppedMask.from_mask(pixels, y=origin_yx[0], x=origin_yx[1])
    assert mask is not None  # it gained a pixel
    return LabelEdit(
        handle=handle, before=None, after=drawn_instance(mask, category_id, handle=handle)
    )


def drawn_instance(
    mask: CroppedMask, category_id: int, *, handle: int = 0, source: str = PERSON
) -> Instance:
    """Return a new instance that a person drew."""
    return Instance(
        mask=mask,
        score=math.nan,
        category_id=category_id,
        handle=handle,
        uuid=str(uuid4()),
        state=InstanceState.DRAWN,
        source=source,
    )


def _with_pixels(
    mask: CroppedMask, gained: BoolImage, lost: BoolImage, origin_yx: tuple[int, int]
) -> CroppedMask | None:
    """Return a mask with pixels of an area added and removed; None if none is left."""
    y, x = origin_yx
    left, top, right, bottom = mask.box_xyxy
    y1, x1 = min(top, y), min(left, x)
    y2, x2 = max(bottom, y + gained.shape[0]), max(right, x + gained.shape[1])
    canvas = np.zeros((y2 - y1, x2 - x1), np.bool_)
    canvas[top - y1 : bottom - y1, left - x1 : right - x1] = mask.pixels
    area = canvas[y - y1 : y - y1 + gained.shape[0], x - x1 : x - x1 + gained.shape[1]]
    area &= ~lost
    area |= gained
    return CroppedMask.from_mask(canvas, y=y1, x=x1)
