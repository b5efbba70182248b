"""What a person changed in a label image, put into the instances it was drawn from."""

import math
from dataclasses import replace
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.core.instance import Instance, InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask

PERSON = "person"


def label_edits(
    instances: InstanceSet, label_image: NDArray[Any], *, drawn_category_id: int
) -> list[Instance]:
    """Return the instances that hand edits in a label image changed or added.

    An instance gains the pixels that now carry its handle and loses those that no longer do; what
    lay hidden under another instance stays. Changed instances are ``edited``, unknown handles are
    ``drawn``. An instance without any pixel left is ``rejected`` with its old mask, so that the
    next run does not bring it back.

    Parameters
    ----------
    instances
        What was drawn (`InstanceSet.label_image`).
    label_image
        The image (H, W) as it is now.
    drawn_category_id
        Category of new instances.
    """
    before = instances.label_image()
    changed = before != label_image
    if not changed.any():
        return []
    rows, columns = np.nonzero(changed)
    old, new = before[changed], label_image[changed]
    changes = _Changes(rows=rows, columns=columns, old=old, new=new, image_hw=instances.image_hw)
    positions = {int(handle): i for i, handle in enumerate(instances.handles)}
    edited = []
    for handle in np.union1d(old, new).tolist():
        if handle in positions:
            edited.append(changes.edit(instances[positions[handle]]))
        elif handle:
            edited.append(changes.draw(handle, drawn_category_id))
    return edited


class _Changes:
    def __init__(
        self,
        *,
        rows: NDArray[np.intp],
        columns: NDArray[np.intp],
        old: NDArray[Any],
        new: NDArray[Any],
        image_hw: tuple[int, int],
    ) -> None:
        self._rows, self._columns, self._old, self._new = rows, columns, old, new
        self._image_hw = image_hw

    def edit(self, instance: Instance) -> Instance:
        mask = instance.mask.to_mask(self._image_hw)
        mask[self._rows, self._columns] &= self._old != instance.handle
        mask[self._rows, self._columns] |= self._new == instance.handle
        cropped = CroppedMask.from_mask(mask)
        if cropped is None:
            return replace(instance, state=InstanceState.REJECTED)
        is_drawn = instance.state is InstanceState.DRAWN
        state = InstanceState.DRAWN if is_drawn else InstanceState.EDITED
        return replace(instance, mask=cropped, state=state)

    def draw(self, handle: int, category_id: int) -> Instance:
        mask = np.zeros(self._image_hw, np.bool_)
        is_it = self._new == handle
        mask[self._rows[is_it], self._columns[is_it]] = True
        cropped = CroppedMask.from_mask(mask)
        assert cropped is not None  # the handle was found among the changed pixels
        return Instance(
            mask=cropped,
            score=math.nan,
            category_id=category_id,
            handle=handle,
            uuid=str(uuid4()),
            state=InstanceState.DRAWN,
            source=PERSON,
        )
