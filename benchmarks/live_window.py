"""A live camera in a window: our Live view against the pattern of napari's tutorials, in one run.

640 x 480 at 30 frames a second, about a dozen instances, a model of 100 ms. The tutorial's: workers
that yield each frame and each result, and `layer.data = …` for image, labels and boxes. Both are
run in turns, in a window of one size. A draw is a picture that Qt put on the screen; a stall is the
longest time that a timer of 8 ms had to wait.

    xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/live_window.py
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import napari
import numpy as np
from napari.qt.threading import thread_worker
from qtpy.QtCore import QEventLoop, QTimer
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QWidget

from napari_deeppixel.core.geometry import boxes_xyxy_to_corners_yx
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.engine.base import Prediction, PredictOptions
from napari_deeppixel.engine.spec import slim_spec
from napari_deeppixel.live.source import Frame
from napari_deeppixel.live.synthetic import SyntheticSource
from napari_deeppixel.widgets.live_run import LiveRun, ModelRequest, Shown

MODEL_S = 0.1
_WHAT = ("draws", "stall_ms")


class TruthEngine:
    """Takes 100 ms, and finds what the source says is there."""

    source, device_name = "truth", "none"

    def __init__(self, scene: SyntheticSource) -> None:
        self._scene = scene
        self.spec = slim_spec("truth", scene.truth(0).categories, description="", score=0.5)
        self.numbers: dict[int, int] = {}

    def instances(self, pixels: Any) -> InstanceSet:
        """Return the instances of a frame, after the time that a model takes."""
        time.sleep(MODEL_S)
        return self._scene.truth(self.numbers.get(id(pixels), 0))

    def predict(self, planes: Any, *_: Any, **__: Any) -> list[Prediction]:
        """Return the instances of one plane."""
        (plane,) = planes
        pixels = plane.base if plane.base is not None else plane
        found = self.instances(pixels)
        scores = np.full(len(found), 0.9)
        candidates = InstanceSet(
            image_hw=found.image_hw,
            masks=found.masks,
            categories=found.categories,
            scores=scores,
        )
        return [Prediction(candidates=candidates, detection_scores=scores, max_instances=1000)]


class NumberedSource(SyntheticSource):
    """Tells the engine which frame is which."""

    engine: TruthEngine

    def frames(self) -> Iterator[Frame]:
        """Yield frames, and note their numbers."""
        for frame in super().frames():
            self.engine.numbers[id(frame.pixels)] = frame.number
            yield frame


class Shelf:
    """Gives the engine at once."""

    def __init__(self, engine: TruthEngine) -> None:
        self._engine = engine

    def engine(self, *_: Any, **__: Any) -> Any:
        """Return the engine."""
        return self._engine


@dataclass
class Figures:
    """What was seen in one turn."""

    draws: float = 0.0
    stall_ms: float = 0.0


def watched(viewer: Any, seconds: float, start: Callable[[], Callable[[], None]]) -> Figures:
    """Run something for a while and watch the window."""
    window = viewer.window._qt_window
    (canvas,) = window.findChildren(QOpenGLWidget)
    seen, waits, last = Figures(), [], [time.perf_counter()]
    count = [0]

    def drawn() -> None:
        count[0] += 1

    def tick() -> None:
        now = time.perf_counter()
        waits.append(now - last[0])
        last[0] = now

    stop = start()
    wait(3)
    canvas.frameSwapped.connect(drawn)
    timer = QTimer()
    timer.setInterval(8)
    timer.timeout.connect(tick)
    count[0], last[0] = 0, time.perf_counter()
    timer.start()
    began = time.perf_counter()
    wait(seconds)
    took = time.perf_counter() - began
    timer.stop()
    canvas.frameSwapped.disconnect(drawn)
    stop()
    seen.draws, seen.stall_ms = count[0] / took, 1e3 * max(waits)
    return seen


def wait(seconds: float) -> None:
    """Let the window live for a while."""
    loop = QEventLoop()
    QTimer.singleShot(round(1e3 * seconds), loop.quit)
    loop.exec()


def ours(viewer: Any, source: NumberedSource, shown: Shown) -> Callable[[], None]:
    """Start our live view; return what stops it."""
    parent = QWidget(viewer.window._qt_window)
    run = LiveRun(viewer, Shelf(source.engine), parent)
    run.shown = shown
    run.start(source, request=ModelRequest(model="truth", device="cpu"), options=PredictOptions())
    return run.shut_down


def tutorial(viewer: Any, source: NumberedSource) -> Callable[[], None]:
    """Start workers that yield each frame and each result; return what stops them."""
    source.open()
    newest: list[Frame] = []
    image = viewer.add_image(np.zeros((480, 640), np.uint8), name="camera")
    labels = viewer.add_labels(np.zeros((480, 640), np.uint16), name="masks")
    boxes = viewer.add_shapes(ndim=2, name="boxes", edge_color="cyan", face_color="transparent")

    @thread_worker
    def grab() -> Iterator[Any]:
        for frame in source.frames():
            newest[:] = [frame]
            yield frame.pixels

    @thread_worker
    def predict() -> Iterator[InstanceSet]:
        while True:
            if newest:
                yield source.engine.instances(newest[0].pixels)
            else:
                time.sleep(0.01)
                yield None

    def show(found: InstanceSet | None) -> None:
        if found is not None:
            labels.data = found.label_image()
            boxes.data = list(boxes_xyxy_to_corners_yx(found.boxes_xyxy))

    def show_frame(pixels: Any) -> None:
        image.data = pixels

    workers = [grab(), predict()]
    workers[0].yielded.connect(show_frame)
    workers[1].yielded.connect(show)
    for worker in workers:
        worker.start()

    def stop() -> None:
        source.interrupt()
        for worker in workers:
            worker.quit()
        wait(2)

    return stop


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--turns", type=int, default=2)
    chosen = parser.parse_args()
    starts: dict[str, Callable[..., Callable[[], None]]] = {
        "tutorial": tutorial,
        "ours, own instances": partial(ours, shown=Shown.MATCHED),
        "ours, newest frame": partial(ours, shown=Shown.NEWEST),
    }
    results: dict[str, list[Figures]] = {name: [] for name in starts}
    for _ in range(chosen.turns):
        for name, start in starts.items():
            viewer = napari.Viewer(title=name)
            viewer.window._qt_window.resize(800, 600)
            source = NumberedSource()
            source.engine = TruthEngine(source)
            wait(1)
            results[name].append(
                watched(viewer, chosen.seconds, lambda s=start, v=viewer, c=source: s(v, c))
            )
            viewer.close()
            wait(1)
    print(f"{'':22} {'draws/s':>9} {'longest stall, ms':>19}")
    middle = {
        name: tuple(statistics.median(getattr(t, what) for t in turns) for what in _WHAT)
        for name, turns in results.items()
    }
    base = middle["tutorial"]
    for name, (draws, stall) in middle.items():
        ratio = f"{draws / base[0]:.1f} x the draws, {stall / base[1]:.2f} of the stall"
        print(f"{name:22} {draws:9.1f} {stall:19.0f}   {ratio}")


if __name__ == "__main__":
    main()
