"""How the journal writes a whole session: lines of JSON, packed with gzip."""

import gzip
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_deeppixel.core.atomic import atomic_file
from napari_deeppixel.core.geometry import Outline
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import Instance
from napari_deeppixel.edits.action import Action, Change, RegionsChange
from napari_deeppixel.edits.record import BATCH, UNREADABLE, gently
from napari_deeppixel.edits.record_values import (
    decode_categories,
    decode_instance,
    decode_outlines,
    encode_categories,
    encode_instance,
    to_json,
)
from napari_deeppixel.edits.saved_session import GonePlace, SavedSession
from napari_deeppixel.edits.session import SessionSnapshot

FORMAT = 2

# Instances that only the history still knows; older steps are left out. Each is about 150 bytes
# and 10 µs of work.
_MAX_PAST_INSTANCES = 20_000


class SnapshotError(Exception):
    """A snapshot is damaged, of a newer version, or holds what cannot be written down."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Snapshot:
    """A session at one point of its log.

    Attributes
    ----------
    saved
        The session.
    number
        Of the newest record in it; the log goes on with the next one.
    is_saved_elsewhere
        Whether all of it was saved as annotations.
    """

    saved: SavedSession
    number: int
    is_saved_elsewhere: bool = False


def encode_snapshot(snapshot: Snapshot) -> Iterator[bytes]:
    """Yield the lines of a snapshot, before packing; each is the work of about 1 ms.

    An instance is written once, however many steps know it. Without the oldest steps of a history
    that knows more than 20,000 instances that are there no more.
    """
    now, saved = snapshot.saved.snapshot, snapshot.saved
    yield _line(
        format=FORMAT,
        number=snapshot.number,
        is_saved_elsewhere=snapshot.is_saved_elsewhere,
        image_hw=now.image_hw,
        categories=encode_categories(now.categories),
        max_handle=now.max_handle,
        score=now.score,
        min_area=now.min_area,
        joins=saved.joins,
    )
    pool = _Pool()
    for index, instances in now.instances.items():
        yield from pool.lines(instances)
        gone = [[place.place, place.uuid, place.handle] for place in saved.gone.get(index, ())]
        yield _line(plane=index, instances=pool.positions(instances), gone=gone)
    for index, regions in now.regions.items():
        yield _line(plane=index, regions=regions)
    for part, steps in _newest_steps(saved, pool).items():
        for step in steps:
            touched = [i for c in step.changes for i in (c.before, c.after) if i]
            yield from pool.lines(touched)
            yield _line(**{part: _encode_step(step, pool)})
    yield _line(end=True)


class _Pool:
    """Instances that were written, by their place in the file."""

    def __init__(self) -> None:
        self._positions: dict[int, int] = {}

    def knows(self, instance: Instance) -> bool:
        return id(instance) in self._positions

    def lines(self, instances: Iterable[Instance]) -> Iterator[bytes]:
        new = list({id(i): i for i in instances if not self.knows(i)}.values())
        for start in range(0, len(new), BATCH):
            batch = new[start : start + BATCH]
            for instance in batch:
                self._positions[id(instance)] = len(self._positions)
            yield b'{"pool":[' + b",".join(map(encode_instance, batch)) + b"]}\n"

    def positions(self, instances: Iterable[Instance]) -> list[int]:
        return [self._positions[id(instance)] for instance in instances]

    def position(self, instance: Instance | None) -> int | None:
        return None if instance is None else self._positions[id(instance)]


def _newest_steps(saved: SavedSession, pool: _Pool) -> dict[str, Sequence[Action]]:
    """Return the steps that a snapshot keeps, oldest first."""
    past: set[int] = set()

    def fits(step: Action) -> bool:
        touched = [i for change in step.changes for i in (change.before, change.after) if i]
        past.update(id(instance) for instance in touched if not pool.knows(instance))
        return len(past) <= _MAX_PAST_INSTANCES

    # what was taken back can be done again only in its order, so a part of it is of no use
    if not all(map(fits, saved.undone)):
        return {"done": (), "undone": ()}
    kept = list(itertools.takewhile(fits, reversed(saved.done)))
    if saved.joins and not kept:
        # the next step may become a part of it
        kept = [*saved.done[-1:]]
    return {"done": kept[::-1], "undone": saved.undone}


def _encode_step(step: Action, pool: _Pool) -> dict[str, Any]:
    return {
        "name": step.name,
        "changes": [
            [c.index, pool.position(c.before), pool.position(c.after)] for c in step.changes
        ],
        "regions": [[r.index, r.before, r.after] for r in step.regions],
    }


def _line(**values: Any) -> bytes:  # Any: all that JSON can say
    return to_json(values) + b"\n"


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Write a snapshot, whole or not at all.

    Raises
    ------
    OSError
        If it cannot be written.
    SnapshotError
        If the session holds what cannot be written down.
    """
    with (
        atomic_file(path) as raw,
        # level 1: masks and uuids are as good as random
        gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=1) as file,
    ):
        for line in gently(_encoded(snapshot)):
            file.write(line)


def _encoded(snapshot: Snapshot) -> Iterator[bytes]:
    try:
        yield from encode_snapshot(snapshot)
    except (TypeError, ValueError, AttributeError) as error:
        raise SnapshotError(f"a snapshot cannot be written down: {error}") from error


def read_snapshot(path: Path) -> Snapshot:
    """Return what a snapshot holds.

    Raises
    ------
    SnapshotError
        If it is damaged, or of a newer version.
    OSError
        If it cannot be read.
    """
    try:
        with gzip.open(path) as file:
            return _decode(file)
    except (EOFError, gzip.BadGzipFile, *UNREADABLE) as error:
        raise SnapshotError(f"{path.name} is damaged: {error}") from error


def _decode(lines: Iterable[bytes]) -> Snapshot:
    reader = _Reader()
    rows = map(json.loads, lines)
    head: dict[str, Any] = next(rows, {})
    if head["format"] > FORMAT:
        raise SnapshotError(
            f"the journal was written by a newer version (format {head['format']}, this one "
            f"reads {FORMAT}): update napari-deeppixel"
        )
    is_whole = False
    for row in rows:
        is_whole = "end" in row
        reader.read(row)
    if not is_whole:
        raise ValueError("its end is missing")
    return Snapshot(
        saved=reader.saved(head),
        number=head["number"],
        is_saved_elsewhere=head["is_saved_elsewhere"],
    )


class _Reader:
    """Gathers what the lines of a snapshot say."""

    def __init__(self) -> None:
        self._pool: list[Instance] = []
        self._instances: dict[PlaneIndex, tuple[Instance, ...]] = {}
        self._gone: dict[PlaneIndex, tuple[GonePlace, ...]] = {}
        self._regions: dict[PlaneIndex, tuple[Outline, ...]] = {}
        self._steps: dict[str, list[Action]] = {"done": [], "undone": []}

    def read(self, row: dict[str, Any]) -> None:
        if "pool" in row:
            self._pool += map(decode_instance, row["pool"])
        elif "instances" in row:
            index = tuple(row["plane"])
            self._instances[index] = tuple(self._pool[position] for position in row["instances"])
            if row["gone"]:
                self._gone[index] = tuple(
                    GonePlace(place=place, uuid=uuid, handle=handle)
                    for place, uuid, handle in row["gone"]
                )
        elif "regions" in row:
            self._regions[tuple(row["plane"])] = decode_outlines(row["regions"])
        else:
            for part in row.keys() & self._steps.keys():
                self._steps[part].append(self._step(row[part]))

    def _known(self, position: int | None) -> Instance | None:
        return None if position is None else self._pool[position]

    def _step(self, values: dict[str, Any]) -> Action:
        return Action(
            name=values["name"],
            changes=tuple(
                Change(index=tuple(index), before=self._known(before), after=self._known(after))
                for index, before, after in values["changes"]
            ),
            regions=tuple(
                RegionsChange(
                    index=tuple(index),
                    before=decode_outlines(before),
                    after=decode_outlines(after),
                )
                for index, before, after in values["regions"]
            ),
        )

    def saved(self, head: dict[str, Any]) -> SavedSession:
        height, width = head["image_hw"]
        return SavedSession(
            snapshot=SessionSnapshot(
                image_hw=(height, width),
                categories=decode_categories(head["categories"]),
                instances=self._instances,
                regions=self._regions,
                max_handle=head["max_handle"],
                score=head["score"],
                min_area=head["min_area"],
            ),
            gone=self._gone,
            done=tuple(self._steps["done"]),
            undone=tuple(self._steps["undone"]),
            joins=head["joins"],
        )
