"""Made-up work on a session, the same for the same numbers, and what it leaves behind.

As a script, ``scribble.py FOLDER SEED``: works on and on with a journal open, and prints the number
of each step once it is over. Now and then the disk fails once, and all is written anew.
"""

import errno
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.image import as_image_array
from napari_deeppixel.core.instance import Instance, InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.edits.action import Action, Change
from napari_deeppixel.edits.diff import OverlapRule, draw_region, drawn_instance
from napari_deeppixel.edits.journal import open_journal
from napari_deeppixel.edits.journal_state import JournalPace
from napari_deeppixel.edits.saved_session import SavedSession
from napari_deeppixel.edits.session import AnnotationSession

HW = (24, 32)
IMAGE = as_image_array(np.zeros((2, *HW), np.uint8), name="two planes", source="/data/two.tif")
PLANES = ((0,), (1,))

# as shipped, but for ten steps to a log: snapshots come all the time
PACE = JournalPace(steps=10)

# of a plane of its own, which only steps on all of it touch; in every third seed
MANY = 500
CROWDED = (2,)


def new_session() -> AnnotationSession:
    """Return a session without instances that shows predictions from a score of 0.5 on."""
    session = AnnotationSession(HW, CategoryTable.from_names("nucleus"))
    session.set_visibility(score=0.5, min_area=1)
    return session


def run_model(session: AnnotationSession, rng: np.random.Generator) -> None:
    """Put overlapping predictions on a plane, some too weak to show."""
    masks = [_blob(rng) for _ in range(8)]
    name = ("nucleus", "cell", "debris")[int(rng.integers(3))]
    predictions = InstanceSet(
        image_hw=HW,
        masks=tuple(masks),
        categories=CategoryTable.from_names(name),
        scores=rng.random(len(masks)),
        uuids=tuple(_uuid(rng) for _ in masks),
        sources=("model@1",) * len(masks),
        predicted_boxes_xyxy=rng.random((len(masks), 4)) * 9,
        edge_uncertainties=rng.random(len(masks)),
    )
    session.add_predictions(_plane(rng), predictions)


def stroke(session: AnnotationSession, rng: np.random.Generator) -> None:
    """Paint an instance that is shown, or erase."""
    index = _plane(rng)
    shown = list(session.visible(index))
    if not shown:
        draw(session, rng)
        return
    whole = (0, 0, HW[1], HW[0])
    drawn = session.shown_in(index, whole)
    seen = draw_region(drawn, whole, np.dtype(np.uint16))
    chosen = shown[int(rng.integers(len(shown)))].handle
    seen[_blob(rng).slices] = chosen if rng.random() < 0.7 else 0
    rule = tuple(OverlapRule)[int(rng.integers(3))]
    session.take_label_region(index, drawn, seen, region_xyxy=whole, rule=rule)


def draw(session: AnnotationSession, rng: np.random.Generator) -> None:
    """Draw a new instance."""
    new = replace(drawn_instance(_blob(rng), 1), uuid=_uuid(rng))
    change = Change(index=_plane(rng), before=None, after=new)
    joins = "drawn" if rng.random() < 0.5 else ""
    session.apply(Action(name="draw", changes=(change,)), joins=joins)


def delete(session: AnnotationSession, rng: np.random.Generator) -> None:
    """Delete an instance for good."""
    index = _plane(rng)
    shown = list(session.visible(index))
    if shown:
        one = session.get(index, shown[int(rng.integers(len(shown)))].uuid)
        session.apply(Action(name="delete", changes=(Change(index=index, before=one, after=None),)))


def review(session: AnnotationSession, rng: np.random.Generator) -> None:
    """Give an instance a state and a category."""
    index = _plane(rng)
    shown = list(session.visible(index))
    if shown:
        state = tuple(InstanceState)[int(rng.integers(len(InstanceState)))]
        categories = session.categories.categories
        name = categories[int(rng.integers(len(categories)))].name
        handle = shown[int(rng.integers(len(shown)))].handle
        session.take_attributes(index, {handle: (name, state.value)})


def complete(session: AnnotationSession, rng: np.random.Generator) -> None:
    """Mark a region as complete, or none."""
    x, y = rng.random(2) * 9
    region = ((x, y), (x + 4.5, y), (x, y + 3.25))
    session.set_regions(_plane(rng), [region] if rng.random() < 0.7 else [], name="complete")


def slide(session: AnnotationSession, rng: np.random.Generator) -> None:
    """Move the score slider."""
    session.set_visibility(score=float(rng.random()), min_area=int(rng.integers(1, 30)))


def undo(session: AnnotationSession, _rng: np.random.Generator) -> None:
    """Take a step back."""
    session.undo()


def redo(session: AnnotationSession, _rng: np.random.Generator) -> None:
    """Do a step again."""
    session.redo()


def crowd(session: AnnotationSession) -> None:
    """Fill the crowded plane with predictions."""
    pixels = np.ones((2, 2), np.bool_)
    masks = [CroppedMask(pixels=pixels, y=number // 30, x=number % 30) for number in range(MANY)]
    predictions = InstanceSet(
        image_hw=HW,
        masks=tuple(masks),
        categories=session.categories,
        scores=np.full(MANY, 0.9),
        uuids=tuple(f"one of many {number}" for number in range(MANY)),
    )
    session.add_predictions(CROWDED, predictions)


def review_all(session: AnnotationSession, rng: np.random.Generator) -> None:
    """Give all that is shown on the crowded plane another state."""
    states = (InstanceState.ACCEPTED, InstanceState.UNSURE, InstanceState.UNREVIEWED)
    state = states[int(rng.integers(len(states)))]
    shown = session.visible(CROWDED).uuids
    before = [session.get(CROWDED, uuid) for uuid in shown]
    changes = tuple(
        Change(index=CROWDED, before=one, after=replace(one, state=state)) for one in before if one
    )
    session.apply(Action(name="review all", changes=changes))


Work = Callable[[AnnotationSession, np.random.Generator], None]
ALL_WORK: tuple[Work, ...] = (
    run_model,
    stroke,
    draw,
    delete,
    review,
    complete,
    slide,
    undo,
    redo,
)
# mostly strokes, as in life; undo often comes several times in a row
_USUAL = (stroke,) * 6 + (draw,) * 2 + (undo,) * 5 + (redo,) * 3 + (review,) * 3 + ALL_WORK


def steps(session: AnnotationSession, seed: int) -> Iterator[int]:
    """Work on a session for ever; yield the number of each step, 1, 2, …, after it."""
    rng = np.random.default_rng(seed)
    run_model(session, rng)
    usual = _USUAL
    if seed % 3 == 0:
        crowd(session)
        usual = (*_USUAL, review_all, review_all)
    number = 1
    while True:
        yield number
        usual[int(rng.integers(len(usual)))](session, rng)
        number += 1


def everything(session: AnnotationSession) -> dict[str, Any]:
    """Return all that a session holds, in values that compare bit for bit."""
    saved = SavedSession.of(session)
    now = saved.snapshot

    def of_steps(actions: tuple[Action, ...]) -> list[Any]:
        return [
            (
                action.name,
                [(c.index, *map(_one, (c.before, c.after))) for c in action.changes],
                action.regions,
            )
            for action in actions
        ]

    return {
        "categories": now.categories,
        "instances": {i: [_one(one) for one in found] for i, found in now.instances.items()},
        "regions": dict(now.regions),
        "max_handle": now.max_handle,
        "visibility": (now.score, now.min_area),
        "gone": {index: places for index, places in saved.gone.items() if places},
        "done": of_steps(saved.done),
        "undone": of_steps(saved.undone),
        "joins": saved.joins,
        "shown": {i: session.visible(i).uuids for i in session.plane_indices},
    }


def _one(instance: Instance | None) -> Any:
    if instance is None:
        return None
    mask = instance.mask
    rest = {name: repr(value) for name, value in vars(instance).items() if name != "mask"}
    return mask.box_xyxy, mask.pixels.tobytes(), rest


def _plane(rng: np.random.Generator) -> tuple[int, ...]:
    return PLANES[int(rng.random() < 0.2)]


def _uuid(rng: np.random.Generator) -> str:
    return rng.bytes(8).hex()


def _blob(rng: np.random.Generator) -> CroppedMask:
    height, width = (int(size) for size in rng.integers(1, 12, 2))
    pixels = rng.random((height, width)) < 0.8
    pixels[0, 0] = True
    y, x = (int(rng.integers(0, size - 11)) for size in HW)
    mask = CroppedMask.from_mask(pixels, y=y, x=x)
    assert mask is not None
    return mask


class _FailingDisk:
    """`os.write` that fails once, when it is told to."""

    def __init__(self) -> None:
        self.fails_next = False
        self._write = os.write

    def write(self, descriptor: int, data: bytes) -> int:
        if self.fails_next:
            self.fails_next = False
            raise OSError(errno.EIO, "passing error")
        return self._write(descriptor, data)


def _work_for_ever(folder: Path, seed: int) -> None:
    session, disk = new_session(), _FailingDisk()
    journal = open_journal(folder, session, image=IMAGE, pace=PACE)
    journal.flush()
    os.write = disk.write  # type: ignore[assignment]
    pauses = np.random.default_rng(seed + 1)
    for number in steps(session, seed):
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
        disk.fails_next = pauses.random() < 0.05
        time.sleep(float(pauses.random()) * 0.006)


if __name__ == "__main__":
    _work_for_ever(Path(sys.argv[1]), int(sys.argv[2]))
