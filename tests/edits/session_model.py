"""A slow and simple model of a session: what should be true, in whole images.

It knows whole-image masks and a list of worlds, one a step; it has no crops, no regions of
interest, no changes and no handles of its own.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.core.geometry import Outline
from napari_deeppixel.core.instance import InstanceState
from napari_deeppixel.edits.diff import OverlapRule
from napari_deeppixel.edits.rerun import Keep, Replaced

HW = (6, 8)
WHOLE = (0, 0, 8, 6)
PLANES = ((0,), (1,))
Plane = tuple[int, ...]
Key = tuple[Plane, str]


@dataclass(frozen=True, eq=False)
class Thing:
    """What the model knows of an instance; its mask covers the image."""

    mask: NDArray[np.bool_]
    category: str
    state: InstanceState
    score: float

    @property
    def rank(self) -> tuple[bool, float]:
        """How high it lies."""
        score = 1.0 if math.isnan(self.score) else self.score
        return is_reviewed(self), score

    def edited(self, mask: NDArray[np.bool_] | None = None, category: str = "") -> "Thing":
        """Return it after a person changed it."""
        drawn = InstanceState.DRAWN
        return replace(
            self,
            mask=self.mask if mask is None else mask,
            category=category or self.category,
            state=drawn if self.state is drawn else InstanceState.EDITED,
        )


@dataclass(frozen=True, eq=False)
class World:
    """All that undo and redo move between."""

    things: dict[Key, Thing]
    regions: dict[Plane, tuple[Outline, ...]]
    # what a person ever touched, lowest first
    pile: tuple[Key, ...] = ()


@dataclass(frozen=True, eq=False)
class Newcomer:
    """A thing to come whose uuid or handle the session chooses; "" and 0 stand for that."""

    thing: Thing
    uuid: str = ""
    handle: int = 0


class Model:
    """What should be true, in whole images."""

    def __init__(self) -> None:
        self.now = World({}, {})
        self.done: list[World] = []
        self.undone: list[World] = []
        self.order: dict[Plane, list[str]] = {plane: [] for plane in PLANES}
        self.score, self.min_area = 0.0, 1
        self._joins = ""

    # -- what is there

    def present(self, plane: Plane) -> dict[str, Thing]:
        """Return the things of a plane in their order."""
        things = self.now.things
        return {u: things[plane, u] for u in self.order[plane] if (plane, u) in things}

    def is_shown(self, thing: Thing) -> bool:
        """Whether a thing is visible."""
        if thing.state is InstanceState.UNREVIEWED:
            is_strong = math.isnan(thing.score) or thing.score >= self.score
            return is_strong and int(thing.mask.sum()) >= self.min_area
        return thing.state is not InstanceState.REJECTED

    def visible(self, plane: Plane) -> dict[str, Thing]:
        """Return what is visible, in the order of the plane."""
        return {u: thing for u, thing in self.present(plane).items() if self.is_shown(thing)}

    def drawn(self, plane: Plane) -> list[str]:
        """Return the visible uuids, lowest first."""
        visible, pile = self.visible(plane), self.now.pile
        touched = [uuid for place, uuid in pile if place == plane]

        def height(uuid: str) -> tuple[bool, int, float]:
            is_human, score = visible[uuid].rank
            return is_human, touched.index(uuid) if is_human and uuid in touched else 0, score

        return sorted(visible, key=height)  # stable

    def label_image(self, plane: Plane, handles: dict[str, int]) -> NDArray[np.int64]:
        """Return what the plane looks like."""
        image = np.zeros(HW, np.int64)
        for uuid in self.drawn(plane):
            image[self.now.things[plane, uuid].mask] = handles[uuid]
        return image

    def last_known(self, key: Key) -> Thing | None:
        """Return a thing as it was last, in what was done or else in what was undone."""
        for world in (*reversed(self.done), *self.undone):
            if key in world.things:
                return world.things[key]
        return None

    # -- steps

    def do(
        self,
        changes: dict[Key, Thing | None] | None = None,
        regions: dict[Plane, tuple[Outline, ...]] | None = None,
        joins: str = "",
    ) -> bool:
        """Go on to a new world; return whether there is one."""
        if not changes and not regions:
            return False
        things = self.now.things | (changes or {})
        for (plane, uuid), thing in things.items():
            if thing is not None and uuid not in self.order[plane]:
                self.order[plane].append(uuid)
        if not (joins and joins == self._joins and self.done):
            self.done.append(self.now)
        self._joins = joins
        self.undone.clear()
        kept = {key: thing for key, thing in things.items() if thing is not None}
        pile = self._piled(changes or {})
        self.now = World(kept, self.now.regions | (regions or {}), pile)
        return True

    def _piled(self, changes: dict[Key, Thing | None]) -> tuple[Key, ...]:
        """Return the pile after some changes: new things on top, touched predictions below all."""
        before = self.now.things
        pile = [key for key in self.now.pile if changes.get(key, before.get(key)) is not None]
        touched = {
            key: thing
            for key, thing in changes.items()
            if thing is not None and is_reviewed(thing) and (key not in pile)
        }
        # the session sorts what comes at once, and the model says how
        new = [key for key in touched if key not in before]
        places = {uuid: n for order in self.order.values() for n, uuid in enumerate(order)}
        new.sort(key=lambda key: (touched[key].rank, places[key[1]]))
        old = [key for key in touched if key in before and not is_reviewed(before[key])]
        gains = {key: bool((touched[key].mask & ~before[key].mask).any()) for key in old}
        old.sort(key=lambda key: (gains[key], before[key].rank, places[key[1]]))
        return (*old, *pile, *new)

    def undo(self) -> None:
        """Go back one world."""
        if self.done:
            self._joins = ""
            self.undone.append(self.now)
            self.now = self.done.pop()

    def redo(self) -> None:
        """Go forward one world."""
        if self.undone:
            self._joins = ""
            self.done.append(self.now)
            self.now = self.undone.pop()

    def forget(self) -> None:
        """Forget how things came about."""
        self.done, self.undone, self._joins = [], [], ""
        self.order = {plane: list(self.present(plane)) for plane in PLANES}

    # -- what a run and a stroke should do

    def run(
        self,
        plane: Plane,
        predictions: dict[str, Thing],
        region_xyxy: tuple[int, int, int, int],
        keep: Keep,
    ) -> tuple[dict[Key, Thing | None], list[Newcomer], Replaced]:
        """Return what a run changes, what comes new, and its counts."""
        present = self.present(plane)
        replaced = REPLACED[keep]
        kept = {u: t for u, t in present.items() if t.state not in replaced}
        staying = kept | {u: t for u, t in present.items() if not lies_inside(t.mask, region_xyxy)}
        gone = {u: t for u, t in present.items() if u not in staying}
        changes: dict[Key, Thing | None] = {(plane, uuid): None for uuid in gone}
        new, held_back = [], 0
        at_first = dict(gone)
        for uuid, thing in predictions.items():
            is_known = any(iou(thing.mask, t.mask) >= 0.5 for t in kept.values())
            # parts of what was united, the whole of what was split
            shaped = [
                t.mask
                for t in kept.values()
                if t.state in (InstanceState.EDITED, InstanceState.DRAWN)
                and (t.category == thing.category or is_relabelled(t, thing, predictions.values()))
            ]
            covered = np.logical_or.reduce([np.zeros_like(thing.mask), *shaped]) & thing.mask
            # what a person saw there and left as it was may come again
            was_left = any(
                iou(thing.mask, t.mask) >= 0.5
                for t in at_first.values()
                if self.is_shown(t) or is_reviewed(t)
            )
            is_known |= not was_left and covered.sum() >= 0.5 * thing.mask.sum()
            if region_xyxy != WHOLE:
                # a candidate below the score must not take the place of what is seen
                known = [t for t in staying.values() if self.is_shown(t) or is_reviewed(t)]
                is_known |= any(share(thing.mask, t.mask) >= 0.5 for t in known)
            if is_known:
                held_back += 1
                continue
            # the best match, and what was seen before what was hidden
            ranks = {
                u: (self.is_shown(t) or is_reviewed(t), iou(thing.mask, t.mask))
                for u, t in gone.items()
                if iou(thing.mask, t.mask) >= 0.5
            }
            same = max(ranks, key=lambda u: ranks[u], default=None)
            if same is None:
                new.append(Newcomer(thing, uuid="" if uuid in present else uuid))
            else:
                del gone[same]
                changes[plane, same] = thing
        reviewed = sum(t.state is not InstanceState.REJECTED for t in kept.values())
        return changes, new, Replaced(kept=reviewed, held_back=held_back)

    def stroke(
        self,
        plane: Plane,
        label_images: tuple[NDArray[np.int64], NDArray[np.int64]],
        how: "Brush",
        known: "Known",
    ) -> tuple[dict[Key, Thing | None], list[Newcomer]]:
        """Return what hand edits of a label image change, and what comes new."""
        old, seen = label_images
        changed, over = old != seen, (old != 0) & (seen != 0)
        may_gain = changed & ~over if how.rule is OverlapRule.KEEP else changed
        may_lose = changed if how.rule is OverlapRule.TAKE else changed & ~over
        changes: dict[Key, Thing | None] = {}
        new = []
        for handle in sorted(({*old.flat} | {*seen.flat}) - {0}):
            gained, lost = may_gain & (seen == handle), may_lose & (old == handle)
            if not (gained | lost).any():
                continue
            key = known.owners.get(int(handle))
            if key is not None and key[0] == plane and key[1] in self.visible(plane):
                changes[key] = painted(self.now.things[key], gained, lost)
                continue
            back = None
            if how.brings_back and key is not None and key[0] == plane:
                back = self.now.things.get(key) or self.last_known(key)
            if back is not None and key is not None:
                changes[key] = back.edited(gained)
                continue
            is_free = key is None and handle > known.largest_forgotten
            thing = Thing(gained, how.category, InstanceState.DRAWN, math.nan)
            new.append(Newcomer(thing, handle=int(handle) if is_free else 0))
        return changes, new


REPLACED = {
    Keep.HUMAN: {InstanceState.UNREVIEWED},
    Keep.EDITED: set(InstanceState) - {InstanceState.EDITED, InstanceState.DRAWN},
    Keep.NOTHING: set(InstanceState),
}


@dataclass(frozen=True)
class Brush:
    """How a person paints."""

    rule: OverlapRule
    category: str
    brings_back: bool


@dataclass(frozen=True)
class Known:
    """Whose each number is, and up to where numbers may have been somebody's in the past."""

    owners: dict[int, Key]
    largest_forgotten: int


def painted(thing: Thing, gained: NDArray[np.bool_], lost: NDArray[np.bool_]) -> Thing | None:
    """Return a thing that gained and lost pixels; what a model found is rejected, never gone."""
    mask = (thing.mask & ~lost) | gained
    if mask.any():
        return thing.edited(mask)
    return None if math.isnan(thing.score) else replace(thing, state=InstanceState.REJECTED)


def is_reviewed(thing: Thing) -> bool:
    """Whether a person said something about a thing."""
    return thing.state is not InstanceState.UNREVIEWED


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Return intersection over union."""
    return float((a & b).sum() / (a | b).sum())


def share(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Return the part of the smaller mask that lies in the other."""
    return float((a & b).sum() / min(a.sum(), b.sum()))


def lies_inside(mask: NDArray[np.bool_], region_xyxy: tuple[int, int, int, int]) -> bool:
    """Whether a mask stays away from the edges of a region that lie inside the image."""
    x1, y1, x2, y2 = region_xyxy
    rows, columns = np.nonzero(mask)
    return bool(
        (rows >= (y1 + 1 if y1 else 0)).all()
        and (columns >= (x1 + 1 if x1 else 0)).all()
        and (rows < (y2 - 1 if y2 < HW[0] else y2)).all()
        and (columns < (x2 - 1 if x2 < HW[1] else x2)).all()
    )


def is_relabelled(shape: Thing, thing: Thing, things: Iterable[Thing]) -> bool:
    """Whether a shape is a part of a thing, or things lie in it that make most of it up."""
    inside = [t.mask for t in things if (t.mask & shape.mask).sum() >= 0.5 * t.mask.sum()]
    made_up = np.logical_or.reduce([np.zeros_like(shape.mask), *inside]) & shape.mask
    half = 0.5 * shape.mask.sum()
    return bool((thing.mask & shape.mask).sum() >= half or made_up.sum() >= half)
