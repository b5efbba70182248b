"""Small made instances and sessions that can be checked by eye."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import Instance, InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.edits.session import AnnotationSession

NUCLEUS = CategoryTable.from_names("nucleus")
HW = (6, 8)
WHOLE = (0, 0, 8, 6)


def square(y: int, x: int, size: int = 3) -> CroppedMask:
    """Return a full square with its first pixel at (y, x)."""
    return CroppedMask(pixels=np.ones((size, size), np.bool_), y=y, x=x)


def one(mask: CroppedMask, **fields: Any) -> Instance:
    """Return an unreviewed prediction of score 0.9; its uuid is made of its handle."""
    handle = fields.get("handle", 1)
    values: dict[str, Any] = {
        "score": 0.9,
        "category_id": 1,
        "handle": handle,
        "uuid": f"uuid {handle}",
        "state": InstanceState.UNREVIEWED,
        "source": "model",
    }
    return Instance(mask=mask, **(values | fields))


def drawn(mask: CroppedMask, **fields: Any) -> Instance:
    """Return an instance that a person drew."""
    return one(mask, **({"score": math.nan, "state": InstanceState.DRAWN} | fields))


def found(*masks: CroppedMask, scores: Sequence[float] = ()) -> InstanceSet:
    """Return predictions, of score 0.9 unless told, with uuids of their own."""
    return InstanceSet(
        image_hw=HW,
        masks=masks,
        categories=NUCLEUS,
        scores=np.array(scores or [0.9] * len(masks)),
    )


def session_with(instances: InstanceSet) -> AnnotationSession:
    """Return a session that shows the predictions of one plane from score 0.5 on."""
    session = AnnotationSession(HW, NUCLEUS)
    session.set_visibility(score=0.5, min_area=1)
    session.add_predictions((), instances)
    return session
