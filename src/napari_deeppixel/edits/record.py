"""How the journal writes what happened to a session: one line of JSON a record."""

import itertools
import json
import operator
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.geometry import Outline
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import Instance, InstanceState
from napari_deeppixel.edits.action import Action, Change, RegionsChange
from napari_deeppixel.edits.record_values import (
    decode_categories,
    decode_instance,
    decode_outlines,
    encode_categories,
    fields_but_mask,
    to_json,
    values_but_mask,
    values_of,
)
from napari_deeppixel.edits.saved_session import SavedSession, history_of
from napari_deeppixel.edits.session import AnnotationSession, Applied

# raised by text that is JSON but not what was written here: another version, or a bug
UNREADABLE = (KeyError, TypeError, ValueError, IndexError, zlib.error)

# about 1 ms of work, with masks and without
BATCH, _BATCH_OF_UUIDS = 64, 256

# all that an instance has but a mask, a state, a category and a level
_REST = operator.attrgetter(
    "uuid", "handle", "score", "source", "predicted_box_xyxy", "edge_uncertainty"
)

# without it, Python hands the interpreter over after 5 ms only (`sys.getswitchinterval`)
_MAX_HOLD_S, _BREATH_S = 0.001, 0.0002

_BEFORE_CRC, _BEFORE_PAYLOAD, _END = b'{"crc32":"', b'","record":', b"}\n"
_PAYLOAD_AT = len(_BEFORE_CRC) + 8 + len(_BEFORE_PAYLOAD)


@dataclass(frozen=True, kw_only=True)
class VisibilitySet:
    """The score and the area in pixels from which on predictions are shown."""

    score: float
    min_area: int


@dataclass(frozen=True, kw_only=True)
class CategoriesSet:
    """The table of categories, after it changed."""

    categories: CategoryTable


@dataclass(frozen=True, kw_only=True)
class SavedElsewhere:
    """All before it was saved as annotations: there is nothing to offer after a crash."""


@dataclass(frozen=True, kw_only=True)
class StepMissing:
    """A step that could not be written down; those after it may do without.

    Attributes
    ----------
    name, reason
        What was done, and why it is not there.
    """

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskKept:
    """An instance whose mask a step did not touch: what it changed, or all but the mask."""

    values: Mapping[str, Any]  # Any: whatever a field holds

    def of(self, before: Instance | None) -> Instance:
        """Return the instance after the step."""
        if before is None:
            raise ValueError("a step changes an instance that is not there")
        return replace(before, **self.values)


@dataclass(frozen=True, kw_only=True, eq=False)
class StepTaken:
    """A step as read back: what it left behind, not what was there before.

    Attributes
    ----------
    changes
        Plane, uuid and what is there now, for each instance.
    regions
        Plane and its complete regions now.
    """

    kind: Literal["do", "undo", "redo"]
    name: str
    joins: str
    changes: tuple[tuple[PlaneIndex, str, Instance | MaskKept | None], ...]
    regions: tuple[tuple[PlaneIndex, tuple[Outline, ...]], ...]


# what a session tells, and what comes back from a file
Record: TypeAlias = Applied | VisibilitySet | CategoriesSet | SavedElsewhere | StepMissing
ReadRecord: TypeAlias = StepTaken | VisibilitySet | CategoriesSet | SavedElsewhere | StepMissing


def gently(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the parts of long work, and let the GUI thread have the interpreter in between."""
    began = time.perf_counter()
    for part in parts:
        yield part
        if time.perf_counter() - began > _MAX_HOLD_S:
            time.sleep(_BREATH_S)
            began = time.perf_counter()


# -- lines ----------------------------------------------------------------------------------------


def framed(payload: bytes) -> bytes:
    """Return a line of JSON that holds a payload of JSON and its CRC-32."""
    crc32 = b"%08x" % zlib.crc32(payload)
    return b"".join((_BEFORE_CRC, crc32, _BEFORE_PAYLOAD, payload, _END))


def unframed(line: bytes) -> bytes | None:
    """Return the payload of a line; None if the line is torn or damaged."""
    payload = line[_PAYLOAD_AT : -len(_END)]
    return payload if line == framed(payload) else None


def encode_record(record: Record, *, number: int) -> Iterator[bytes]:
    """Yield the parts of a record's payload, each the work of about 1 ms."""
    if not isinstance(record, Applied):
        yield to_json({"number": number, **_encode_setting(record)})
        return
    action = record.action
    head: dict[str, Any] = {
        "number": number,
        "kind": record.kind,
        "name": action.name,
        "joins": record.joins,
    }
    if action.regions:
        head["regions"] = [[r.index, r.after] for r in action.regions]
    yield to_json(head)[:-1] + b',"changes":['
    comma = b""
    for part in _encode_changes(action.changes):
        yield comma + part
        comma = b","
    yield b"]}"


def _encode_setting(
    record: VisibilitySet | CategoriesSet | SavedElsewhere | StepMissing,
) -> dict[str, Any]:
    if isinstance(record, StepMissing):
        return {"kind": "missing", "name": record.name, "reason": record.reason}
    if isinstance(record, VisibilitySet):
        return {"kind": "visibility", "score": record.score, "min_area": record.min_area}
    if isinstance(record, CategoriesSet):
        return {"kind": "categories", "categories": encode_categories(record.categories)}
    return {"kind": "saved"}


def _encode_changes(changes: Sequence[Change]) -> Iterator[bytes]:
    """Yield changes in their order, those that say the same of many instances as one."""
    for shared, run in itertools.groupby(changes, _shared):
        size = BATCH if shared is None else _BATCH_OF_UUIDS
        while batch := list(itertools.islice(run, size)):
            if shared is None:
                yield b",".join(map(_encode_change, batch))
            else:
                levels = [change.after.level if change.after else 0 for change in batch]
                own = {"levels": levels} if any(levels) else {}
                yield to_json({**shared, **own, "uuids": [change.uuid for change in batch]})


def _shared(change: Change) -> dict[str, Any] | None:
    """Return what may be said of other instances as well; None if it is about this one only."""
    before, after = change.before, change.after
    if after is None:
        return {"at": change.index}
    if before is None or before.mask is not after.mask or _REST(before) != _REST(after):
        return None
    return {"at": change.index, "state": after.state.value, "category": int(after.category_id)}


def _encode_change(change: Change) -> bytes:
    before, after = change.before, change.after
    assert after is not None  # else it is `_shared`
    is_kept = before is not None and before.mask is after.mask
    values = values_but_mask(after) if is_kept else values_of(after)
    return to_json([change.index, change.uuid, values])


def _decode_changes(
    values: Iterable[Any],  # Any: as `_encode_changes` wrote them
) -> Iterator[tuple[PlaneIndex, str, Instance | MaskKept | None]]:
    for value in values:
        if isinstance(value, dict):
            levels = value.get("levels") or [0] * len(value["uuids"])
            for uuid, level in zip(value["uuids"], levels, strict=True):
                yield tuple(value["at"]), uuid, _kept(value, level)
            continue
        index, uuid, after = value
        if "mask" in after:
            yield tuple(index), uuid, decode_instance(after)
        else:
            yield tuple(index), uuid, MaskKept(values=fields_but_mask(after))


def _kept(shared: dict[str, Any], level: int) -> MaskKept | None:
    if "state" not in shared:
        return None
    state, category = InstanceState(shared["state"]), shared["category"]
    return MaskKept(values={"state": state, "category_id": category, "level": level})


def decode_record(payload: bytes) -> tuple[int, ReadRecord]:
    """Return number and content of a record.

    Raises
    ------
    UNREADABLE
        If it is not one that this version writes.
    """
    values = json.loads(payload)
    kind, number = values["kind"], int(values["number"])
    if kind == "visibility":
        return number, VisibilitySet(score=values["score"], min_area=values["min_area"])
    if kind == "categories":
        return number, CategoriesSet(categories=decode_categories(values["categories"]))
    if kind == "saved":
        return number, SavedElsewhere()
    if kind == "missing":
        return number, StepMissing(name=values["name"], reason=values["reason"])
    if kind not in ("do", "undo", "redo"):
        raise ValueError(f"record {number} is of an unknown kind: {kind!r}")
    return number, StepTaken(
        kind=kind,
        name=values["name"],
        joins=values["joins"],
        changes=tuple(_decode_changes(values["changes"])),
        regions=tuple(
            (tuple(index), decode_outlines(outlines))
            for index, outlines in values.get("regions", ())
        ),
    )


def replay(record: ReadRecord, session: AnnotationSession) -> AnnotationSession:
    """Do to a session what a record says; return it, or the one that takes its place."""
    if isinstance(record, VisibilitySet):
        session.set_visibility(score=record.score, min_area=record.min_area)
    elif isinstance(record, CategoriesSet):
        return SavedSession.of(session).recategorised(record.categories).restored()
    elif isinstance(record, StepTaken):
        _replay_step(record, session)
    return session


def _replay_step(step: StepTaken, session: AnnotationSession) -> None:
    if step.kind == "undo" and len(session.history):
        session.undo()
    elif step.kind == "undo":
        _undo_beyond_history(step, session)
    elif step.kind == "redo" and session.history.redo_name:
        session.redo()
    else:
        session.apply(_action(step, session), joins=step.joins, keeps_levels=True)


def _undo_beyond_history(step: StepTaken, session: AnnotationSession) -> None:
    """Take a step back that is older than those that the snapshot kept."""
    undone = SavedSession.of(session).undone
    inverse = _action(step, session)
    session.apply(inverse, keeps_levels=True)
    session.history = history_of((), (*undone, inverse.inverse()))


def _action(step: StepTaken, session: AnnotationSession) -> Action:
    changes = []
    for index, uuid, after in step.changes:
        before = session.get(index, uuid)
        if isinstance(after, MaskKept):
            after = after.of(before)
        if before or after:
            changes.append(Change(index=index, before=before, after=after))
    return Action(
        name=step.name,
        changes=tuple(changes),
        regions=tuple(
            RegionsChange(index=index, before=session.regions(index), after=after)
            for index, after in step.regions
        ),
    )
