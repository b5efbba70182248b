"""A brush stroke on a plane of 4096² with 1,000 instances: GUI-thread time until it is in the
session and on the screen, side by side with the same stroke on a plain Labels layer of napari.
Also a new instance, and steps that touch all instances. `--dock` has the whole plugin open.

    xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/stroke.py
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import napari
import numpy as np
from napari.layers import Labels
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.edits.diff import OverlapRule
from napari_deeppixel.edits.session import AnnotationSession
from napari_deeppixel.edits.tools import with_state
from napari_deeppixel.viewer.layers import InstanceLayers
from napari_deeppixel.widgets.dock import DeepPixelWidget

BRUSH = 15


def discs(count: int, side: int) -> InstanceSet:
    """Return overlapping discs of 20 to 60 px at random places."""
    rng = np.random.default_rng(0)
    masks = []
    for _ in range(count):
        radius = int(rng.integers(10, 31))
        y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
        corner = rng.integers(0, side - 2 * radius - 1, 2)
        pixels = y**2 + x**2 <= radius**2
        masks.append(CroppedMask(pixels=pixels, y=int(corner[0]), x=int(corner[1])))
    return InstanceSet(
        image_hw=(side, side),
        masks=tuple(masks),
        categories=CategoryTable.from_names("nucleus"),
        scores=rng.uniform(0.5, 1, count),
    )


def stroke(layer: Labels, start: np.ndarray, handle: int) -> None:
    """Paint as a drag does: several stamps, one step."""
    layer.selected_label = handle
    with layer.block_history():
        for step in range(8):
            layer.paint((start[0], start[1] + 4 * step), handle)


def measure(make: Callable[[int], None], repeats: int) -> list[tuple[float, float]]:
    """Return GUI-thread CPU ms of each stroke, until it is taken and until it is drawn."""
    times = []
    for n in range(repeats):
        # what a pause of the hand leaves time for, such as the table and the card
        QTest.qWait(400)
        QApplication.processEvents()
        start = time.thread_time()
        make(n)
        taken = time.thread_time()
        QApplication.processEvents()
        times.append((1e3 * (taken - start), 1e3 * (time.thread_time() - start)))
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--instances", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--dock", action="store_true", help="with the Review tab open")
    chosen = parser.parse_args()
    viewer = napari.Viewer(title="stroke")
    image = viewer.add_image(np.zeros((chosen.side, chosen.side), np.uint8), name="cells")
    instances = discs(chosen.instances, chosen.side)
    session = AnnotationSession(instances.image_hw, instances.categories)
    session.add_predictions((), instances)
    view = InstanceLayers(viewer, image, session)
    for _ in view.redraw():
        QApplication.processEvents()
    if chosen.dock:
        dock = DeepPixelWidget(viewer)
        viewer.window.add_dock_widget(dock, name="DeepPixel")
        dock.tabs.setCurrentWidget(dock.review)
        QTest.qWait(5000)
    ours = view.labels_layers[0]
    plain = viewer.add_labels(ours.data.copy(), name="plain", visible=False)
    rng = np.random.default_rng(1)
    masks = instances.masks

    def on(layer: Labels) -> Callable[[int], None]:
        layer.brush_size = BRUSH
        layer.mode = "paint"

        def one(_n: int) -> None:
            which = int(rng.integers(len(masks)))
            start = np.array([masks[which].y, masks[which].x], float) + 10
            stroke(layer, start, which + 1)

        return one

    rows: list[tuple[str, Any]] = []
    for rule in OverlapRule:
        view.set_overlap_rule(rule)
        rows.append((f"ours, {rule.value}", measure(on(ours), chosen.repeats)))
    view.set_overlap_rule(OverlapRule.TAKE)

    def new(_n: int) -> None:
        view.select_new()
        start = rng.integers(50, chosen.side - 100, 2).astype(float)
        stroke(ours, start, int(ours.selected_label))

    rows.append(("ours, a new instance", measure(new, chosen.repeats)))
    rows.append(("ours, undo", measure(lambda _: view.undo() and None, chosen.repeats)))
    rows.append(("ours, redo", measure(lambda _: view.redo() and None, chosen.repeats)))
    refs = [((), uuid) for uuid in session.visible(()).uuids]
    states = [InstanceState.ACCEPTED, InstanceState.UNSURE]

    def decide(n: int) -> None:
        session.apply(with_state(session, refs, states[n % 2]))

    rows.append(("ours, accept all", measure(decide, 4)))
    rows.append(("ours, undo of that", measure(lambda _: view.undo() and None, 4)))
    ours.visible, plain.visible = False, True
    rows.append(("napari alone", measure(on(plain), chosen.repeats)))
    where = "Review open" if chosen.dock else "layers alone"
    print(f"{chosen.side}² px, {chosen.instances} instances, {where}, GUI-thread CPU ms")
    print(f"{'':24} taken: median  worst   drawn: median  worst")
    for name, times in rows:
        taken, drawn = zip(*times, strict=True)
        print(
            f"{name:24} {statistics.median(taken):13.1f} {max(taken):6.1f} "
            f"{statistics.median(drawn):15.1f} {max(drawn):6.1f}"
        )
    viewer.close()


if __name__ == "__main__":
    main()
