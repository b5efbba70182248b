"""Sessions on planes of 6 x 8 pixels, small enough to check by eye."""

from collections.abc import Mapping, Sequence

import numpy as np
from tests.edits.compare import assert_same_snapshot

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import Instance, InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.edits.action import Action
from napari_deeppixel.edits.draft import InstanceRef
from napari_deeppixel.edits.session import AnnotationSession

HW = (6, 8)
TABLE = CategoryTable.from_names("nucleus", "debris")


def rect(y: int, x: int, height: int = 3, width: int = 3) -> CroppedMask:
    """Return a filled rectangle with its top left pixel at [y, x]."""
    return CroppedMask(pixels=np.ones((height, width), np.bool_), y=y, x=x)


def picture(*rows: str) -> CroppedMask:
    """Return the mask of a plane with # where it is set; missing rows at the foot are empty."""
    pixels = np.array([[sign == "#" for sign in row.ljust(HW[1], ".")] for row in rows])
    mask = CroppedMask.from_mask(pixels)
    assert mask is not None
    return mask


def rows_of(mask: CroppedMask) -> list[str]:
    """Return a mask as `picture` takes it, without empty rows at the foot."""
    rows = ["".join(".#"[int(p)] for p in row) for row in mask.to_mask(HW)]
    return rows[: mask.box_xyxy[3]]


def session_of(
    planes: Mapping[PlaneIndex, Sequence[CroppedMask]], *, scores: Sequence[float] = ()
) -> AnnotationSession:
    """Return a session with predictions a, b, c … in their order over the planes; 0.5 shows."""
    session = AnnotationSession(HW, TABLE)
    session.set_visibility(score=0.5, min_area=1)
    names, left = iter("abcdefgh"), list(scores)
    for index, masks in planes.items():
        session.add_predictions(
            index,
            InstanceSet(
                image_hw=HW,
                masks=tuple(masks),
                categories=TABLE,
                scores=np.array([left.pop(0) if left else 0.9 for _ in masks]),
                uuids=tuple(next(names) for _ in masks),
                sources=("model",) * len(masks),
            ),
        )
    return session


def got(session: AnnotationSession, uuid: str, index: PlaneIndex = ()) -> Instance:
    """Return an instance that must be there."""
    instance = session.get(index, uuid)
    assert instance is not None
    return instance


def refs_of(*uuids: str, index: PlaneIndex = ()) -> list[InstanceRef]:
    """Return a selection on one plane."""
    return [(index, uuid) for uuid in uuids]


def new_in(session: AnnotationSession, index: PlaneIndex = ()) -> list[Instance]:
    """Return the visible instances that are not among a, b, c …, oldest first."""
    return [i for i in session.visible(index) if len(i.uuid) > 1]


def done(session: AnnotationSession, action: Action) -> AnnotationSession:
    """Return the session with an action applied, after seeing undo and redo give the same."""
    before = session.snapshot()
    assert session.apply(action)
    after = session.snapshot()
    session.undo()
    assert_same_snapshot(session.snapshot(), before)
    session.redo()
    assert_same_snapshot(session.snapshot(), after)
    return session


def state_of(session: AnnotationSession, uuid: str, index: PlaneIndex = ()) -> InstanceState:
    """Return the state of an instance that must be there."""
    return got(session, uuid, index).state
