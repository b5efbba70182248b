"""A whole session as a value, history and all, and the way back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import Instance, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.edits.action import Action, Change
from napari_deeppixel.edits.history import History
from napari_deeppixel.edits.session import AnnotationSession, SessionSnapshot


@dataclass(frozen=True, kw_only=True)
class GonePlace:
    """The empty place of an instance that is gone: undo puts it back there, with its handle.

    Attributes
    ----------
    place
        Position among all instances that the plane ever held.
    uuid, handle
        Of the instance; handle 0 if it was never shown.
    """

    place: int
    uuid: str
    handle: int


@dataclass(frozen=True, kw_only=True, eq=False)
class SavedSession:
    """All that an `AnnotationSession` holds.

    Attributes
    ----------
    snapshot
        What is there now.
    gone
        Empty places of each plane that has any.
    done
        Steps that can be taken back, oldest first.
    undone
        Steps that can be done again, the one that was taken back last at the end.
    joins
        Text of the newest step, which a step with the same text joins; may be empty.
    """

    snapshot: SessionSnapshot
    gone: Mapping[PlaneIndex, tuple[GonePlace, ...]]
    done: tuple[Action, ...] = ()
    undone: tuple[Action, ...] = ()
    joins: str = ""

    @classmethod
    def of(cls, session: AnnotationSession) -> "SavedSession":
        """Return a session as it is now; quick, because what cannot change is not copied."""
        # the one place that looks into the session: nobody else needs to see empty places
        snapshot = session.snapshot()
        gone = {}
        for index, record in session._planes.items():
            if len(record._places) == len(snapshot.instances[index]):
                continue
            gone[index] = tuple(
                GonePlace(place=place, uuid=uuid, handle=session._handles.get(uuid, 0))
                for uuid, place in record._places.items()
                if record._instances[place] is None
            )
        history = session.history
        return cls(
            snapshot=snapshot,
            gone=gone,
            done=tuple(history._done),
            undone=tuple(history._undone),
            joins=history._joins,
        )

    def restored(self) -> AnnotationSession:
        """Return a session that holds all this and goes on in the same way."""
        instances = dict(self.snapshot.instances)
        for index, places in self.gone.items():
            filled = list(instances[index])
            for gone in places:
                filled.insert(gone.place, _stand_in(gone))
            instances[index] = tuple(filled)
        session = AnnotationSession.from_snapshot(replace(self.snapshot, instances=instances))
        removals = tuple(
            Change(index=index, before=session.get(index, gone.uuid), after=None)
            for index, places in self.gone.items()
            for gone in places
        )
        session.apply(Action(name="empty the places", changes=removals))
        session.history = history_of(self.done, self.undone, joins=self.joins)
        return session

    def recategorised(self, categories: CategoryTable) -> "SavedSession":
        """Return the same with another table of categories."""
        return replace(self, snapshot=replace(self.snapshot, categories=categories))


def history_of(done: Sequence[Action], undone: Sequence[Action], *, joins: str = "") -> History:
    """Return a history with these steps; see `SavedSession`."""
    history = History()
    for action in (*done, *reversed(undone)):
        history.push(action)
    for _ in undone:
        history.undo()
    if joins and done:
        # a step that joins was just done, so nothing was undone after it
        history.undo()
        history.push(done[-1], joins=joins)
    return history


def _stand_in(gone: GonePlace) -> Instance:
    """Return an instance that keeps a place and a handle; rejected, so that it gets no new one."""
    return Instance(
        mask=CroppedMask(pixels=np.ones((1, 1), np.bool_), y=0, x=0),
        score=0.0,
        category_id=1,
        handle=gone.handle,
        uuid=gone.uuid,
        state=InstanceState.REJECTED,
        source="",
    )
