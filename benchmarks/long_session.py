"""Memory over a long scripted session: strokes, tools, reviews, undo, with a journal.

    python benchmarks/long_session.py [--steps 20000]

An hour of quick work is some 3,000 steps. Prints resident memory, the length of the undo stack and
the size of the journal as it goes.
"""

import argparse
import gc
import random
import tempfile
from pathlib import Path

import numpy as np
import psutil
from napari.components import ViewerModel

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.image import as_image_array
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.edits import reshape_tools, tools
from napari_deeppixel.edits.journal import open_journal
from napari_deeppixel.edits.session import AnnotationSession
from napari_deeppixel.viewer.layers import InstanceLayers

SIDE = 1024
COUNT = 200


def found() -> InstanceSet:
    """Return overlapping squares, a third of them below the score."""
    rng = np.random.default_rng(0)
    masks = tuple(
        CroppedMask(pixels=np.ones((40, 40), np.bool_), y=int(y), x=int(x))
        for y, x in rng.integers(0, SIDE - 40, (COUNT, 2))
    )
    return InstanceSet(
        image_hw=(SIDE, SIDE),
        masks=masks,
        categories=CategoryTable.from_names("nucleus", "debris"),
        scores=rng.uniform(0.25, 1, COUNT),
    )


def step(view: InstanceLayers, dice: random.Random) -> None:
    """Do one thing that a person does."""
    session, layer = view.session, view.labels_layers[0]
    refs = [((), uuid) for uuid in session.visible(()).uuids]
    chosen = dice.sample(refs, min(2, len(refs)))
    kind = dice.random()
    if kind < 0.5 or not chosen:
        # on or beside an object: with its number, the eraser's, or now and then a new one
        beside = session.get(*chosen[0]) if chosen else None
        number = 0 if beside is None else dice.choice([0, *[beside.handle] * 5])
        is_new = beside is None or dice.random() < 0.05
        layer.selected_label = session.next_handle if is_new else number
        x, y = (SIDE // 2, SIDE // 2) if beside is None else beside.box_xyxy[:2]
        start = [min(y + dice.randrange(40), SIDE - 1), min(x + dice.randrange(20), SIDE - 40)]
        with layer.block_history():
            for n in range(6):
                layer.paint((start[0], start[1] + 5 * n), layer.selected_label)
    elif kind < 0.7:
        state = dice.choice([InstanceState.ACCEPTED, InstanceState.UNSURE])
        session.apply(tools.with_state(session, chosen, state))
    elif kind < 0.71:
        session.apply(tools.deleted(session, chosen))
    elif kind < 0.85:
        session.apply(reshape_tools.smoothed(session, chosen, rule=view.overlap_rule))
    elif kind < 0.95:
        view.undo()
    elif kind < 0.98:
        view.redo()
    else:
        session.add_predictions((), found())
    for _ in view.settle():
        pass


def main() -> None:
    """Work, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20000)
    steps = parser.parse_args().steps
    viewer = ViewerModel()
    pixels = np.zeros((SIDE, SIDE), np.uint8)
    image = viewer.add_image(pixels, name="cells")
    instances = found()
    session = AnnotationSession(instances.image_hw, instances.categories)
    session.set_visibility(score=0.5, min_area=1)
    session.add_predictions((), instances)
    view = InstanceLayers(viewer, image, session)
    for _ in view.redraw():
        pass
    dice, process = random.Random(0), psutil.Process()
    with (
        tempfile.TemporaryDirectory() as folder,
        open_journal(Path(folder), session, image=as_image_array(pixels)) as journal,
    ):
        print("step | resident MiB | undo steps | visible | journal MiB | journal records kept")
        for n in range(steps + 1):
            if n % max(1, steps // 10) == 0:
                gc.collect()
                on_disk = sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file())
                print(
                    f"{n:6} | {process.memory_info().rss / 2**20:12.0f} | "
                    f"{len(session.history):10} | {len(session.visible(())):7} | "
                    f"{on_disk / 2**20:11.1f} | {journal.num_in_memory}",
                    flush=True,
                )
            step(view, dice)


if __name__ == "__main__":
    main()
