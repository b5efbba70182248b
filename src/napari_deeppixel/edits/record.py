"""How the journal writes what happened to a session: one line of JSON a record."""

import base64
import json
import math
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from napari_deeppixel.core.category import Category, CategoryTable
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import Instance, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.edits.action import Action, Change, Outline, RegionsChange
from napari_deeppixel.edits.saved_session import SavedSession, history_of
from napari_deeppixel.edits.session import AnnotationSession, Applied

# raised by text that is JSON but not what was written here: another version, or a bug
UNREADABLE = (KeyError, TypeError, ValueError, IndexError, zlib.error)

# smaller ones do not get smaller: a packed 20 x 20 mask has 50 bytes, zlib's frame alone 11
_LEAST_BYTES_TO_COMPRESS = 64

# about 1 ms of work
BATCH = 64

# without it, Python hands the interpreter over after 5 ms only (`sys.getswitchinterval`)
_MAX_HOLD_S, _BREATH_S = 0.001, 0.0002

# made once: `json.dumps` makes one for each call
_ENCODER = json.JSONEncoder(separators=(",", ":"), check_circular=False)

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
    changes: tuple[tuple[PlaneIndex, str, Instance | None], ...]
    regions: tuple[tuple[PlaneIndex, tuple[Outline, ...]], ...]


# what a session tells, and what comes back from a file
Record: TypeAlias = Applied | VisibilitySet | CategoriesSet | SavedElsewhere
ReadRecord: TypeAlias = StepTaken | VisibilitySet | CategoriesSet | SavedElsewhere


def to_json(value: Any) -> bytes:  # Any: all that JSON can say
    """Return compact JSON, in ASCII, so that no line break lies inside."""
    return _ENCODER.encode(value).encode("ascii")


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
    changes = action.changes
    for start in range(0, len(changes), BATCH):
        yield (b"," if start else b"") + b",".join(
            map(_encode_change, changes[start : start + BATCH])
        )
    yield b"]}"


def _encode_setting(record: VisibilitySet | CategoriesSet | SavedElsewhere) -> dict[str, Any]:
    if isinstance(record, VisibilitySet):
        return {"kind": "visibility", "score": record.score, "min_area": record.min_area}
    if isinstance(record, CategoriesSet):
        return {"kind": "categories", "categories": encode_categories(record.categories)}
    return {"kind": "saved"}


def _encode_change(change: Change) -> bytes:
    head = to_json([change.index, change.uuid])[:-1]
    return head + b"," + (encode_instance(change.after) if change.after else b"null") + b"]"


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
    if kind not in ("do", "undo", "redo"):
        raise ValueError(f"record {number} is of an unknown kind: {kind!r}")
    return number, StepTaken(
        kind=kind,
        name=values["name"],
        joins=values["joins"],
        changes=tuple(
            (tuple(index), uuid, decode_instance(after) if after else None)
            for index, uuid, after in values["changes"]
        ),
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
        session.apply(_action(step, session), joins=step.joins)


def _undo_beyond_history(step: StepTaken, session: AnnotationSession) -> None:
    """Take a step back that is older than those that the snapshot kept."""
    undone = SavedSession.of(session).undone
    inverse = _action(step, session)
    session.apply(inverse)
    session.history = history_of((), (*undone, inverse.inverse()))


def _action(step: StepTaken, session: AnnotationSession) -> Action:
    before = [session.get(index, uuid) for index, uuid, _ in step.changes]
    return Action(
        name=step.name,
        changes=tuple(
            Change(index=index, before=known, after=after)
            for known, (index, _, after) in zip(before, step.changes, strict=True)
            if known or after
        ),
        regions=tuple(
            RegionsChange(index=index, before=session.regions(index), after=after)
            for index, after in step.regions
        ),
    )


# -- values ---------------------------------------------------------------------------------------


def encode_instance(instance: Instance) -> bytes:
    """Return everything of an instance as JSON."""
    values: dict[str, Any] = {
        "uuid": instance.uuid,
        "handle": int(instance.handle),
        "category": int(instance.category_id),
        "state": instance.state.value,
        "source": instance.source,
        "mask": _encode_mask(instance.mask),
    }
    if not math.isnan(instance.score):
        values["score"] = float(instance.score)
    if not math.isnan(instance.edge_uncertainty):
        values["edge"] = float(instance.edge_uncertainty)
    box = [None if math.isnan(value) else float(value) for value in instance.predicted_box_xyxy]
    if any(value is not None for value in box):
        values["box"] = box
    return to_json(values)


def decode_instance(values: dict[str, Any]) -> Instance:
    """Return an instance from its JSON object."""
    return Instance(
        mask=_decode_mask(values["mask"]),
        score=values.get("score", math.nan),
        category_id=values["category"],
        handle=values["handle"],
        uuid=values["uuid"],
        state=InstanceState(values["state"]),
        source=values["source"],
        predicted_box_xyxy=tuple(
            math.nan if value is None else value for value in values.get("box", [None] * 4)
        ),
        edge_uncertainty=values.get("edge", math.nan),
    )


def _encode_mask(mask: CroppedMask) -> dict[str, Any]:
    packed = np.packbits(mask.pixels).tobytes()
    key = "bits"
    if len(packed) >= _LEAST_BYTES_TO_COMPRESS:
        # level 1: on masks, level 6 is hardly smaller and several times slower
        smaller = zlib.compress(packed, 1)
        if len(smaller) < len(packed):
            packed, key = smaller, "zlib"
    height, width = mask.pixels.shape
    box = [mask.y, mask.x, height, width]
    return {"yxhw": box, key: base64.b64encode(packed).decode("ascii")}


def _decode_mask(values: dict[str, Any]) -> CroppedMask:
    y, x, height, width = values["yxhw"]
    if "zlib" in values:
        packed = zlib.decompress(base64.b64decode(values["zlib"]))
    else:
        packed = base64.b64decode(values["bits"])
    bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=height * width)
    return CroppedMask(pixels=bits.reshape(height, width).astype(np.bool_), y=y, x=x)


def encode_categories(table: CategoryTable) -> dict[str, Any]:
    """Return a table of categories as a JSON object."""
    return {
        "categories": [[c.id, c.name, c.color] for c in table.categories],
        "class_indices": list(table.class_indices),
    }


def decode_categories(values: dict[str, Any]) -> CategoryTable:
    """Return a table of categories from its JSON object."""
    return CategoryTable(
        categories=tuple(
            Category(id=id_, name=name, color=color) for id_, name, color in values["categories"]
        ),
        class_indices=tuple(values["class_indices"]),
    )


def decode_outlines(values: Iterable[Any]) -> tuple[Outline, ...]:
    """Return closed outlines from their JSON lists."""
    return tuple(tuple((float(x), float(y)) for x, y in outline) for outline in values)
