"""What it costs the GUI thread to fill a Shapes layer with boxes, with each triangulation backend.

``python benchmarks/boxes.py``: milliseconds of CPU of the main thread (median of three), in one
run; the largest single step is what a person could feel. Chooses `viewer.boxes_view.MAX_BOXES`.
"""

import statistics
import time

import numpy as np
from napari.components import ViewerModel
from napari.settings import get_settings
from napari.utils.triangulation_backend import TriangulationBackend

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.edits.session import AnnotationSession
from napari_deeppixel.viewer import boxes_view
from napari_deeppixel.viewer.layers import InstanceLayers

ROUNDS = 3
SIDE = 4096


def make_view(count: int) -> InstanceLayers:
    """Return instance layers of so many 20 x 20 px squares."""
    table = CategoryTable.from_names("nucleus")
    square = np.ones((20, 20), np.bool_)
    across = SIDE // 32
    masks = tuple(
        CroppedMask(pixels=square, y=32 * (i // across), x=32 * (i % across)) for i in range(count)
    )
    instances = InstanceSet(
        image_hw=(SIDE, SIDE), masks=masks, categories=table, scores=np.full(count, 0.9)
    )
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((SIDE, SIDE), np.uint8), name="image")
    session = AnnotationSession((SIDE, SIDE), table)
    session.add_predictions((), instances)
    return InstanceLayers(viewer, image, session)


def step_times_ms(view: InstanceLayers) -> list[float]:
    """Return main-thread milliseconds of each step of a full redraw of the boxes."""
    view.boxes.forget()
    times, steps = [], view.redraw_boxes()
    while True:
        start = time.thread_time()
        try:
            next(steps)
        except StopIteration:
            return [*times, 1000 * (time.thread_time() - start)]
        times.append(1000 * (time.thread_time() - start))


def main() -> None:
    """Print one line for each backend and number of boxes."""
    boxes_view.MAX_BOXES = 10**6
    print("backend | boxes | total ms | longest step ms")
    for backend in (TriangulationBackend.pure_python, TriangulationBackend.fastest_available):
        get_settings().experimental.triangulation_backend = backend
        for count in (100, 250, 500, 1000):
            view = make_view(count)
            for _ in view.redraw():
                pass
            rounds = [step_times_ms(view) for _ in range(ROUNDS)]
            total = statistics.median(sum(steps) for steps in rounds)
            longest = statistics.median(max(steps) for steps in rounds)
            print(f"{backend.value} | {count} | {total:.0f} | {longest:.0f}")


if __name__ == "__main__":
    main()
