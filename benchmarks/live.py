"""The live pipeline without a window: frames lost, share of the model's own rate, age, growth.

    python benchmarks/live.py [--seconds 30] [--model-ms 100]
    python benchmarks/live.py --soak 50000
    python benchmarks/live.py --rounds 50

The model finds what is bright in 640 x 480 pixels and sleeps for the rest of its time. "Alone" is
that model in a plain loop over the same frames, without camera, threads and tracks.

The synthetic camera hands late frames out afterwards, so none can be missing; what a real one would
lose shows in how late the grabber took a frame: a driver that holds one picture loses it after
33 ms.
"""

import argparse
import gc
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import psutil
from scipy import ndimage

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.core.progress import CancelToken, Progress
from napari_deeppixel.engine.base import Prediction, PredictOptions
from napari_deeppixel.engine.spec import ModelSpec, slim_spec
from napari_deeppixel.live.pipeline import LivePipeline
from napari_deeppixel.live.result import LiveResult
from napari_deeppixel.live.source import Frame
from napari_deeppixel.live.synthetic import SyntheticSource

# discs are brighter than 120, their background is darker than 60
BRIGHT = 90
FPS = 30


class TimedEngine:
    """Finds groups of bright pixels, and takes a certain time for it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._spec = slim_spec("timed", CategoryTable.from_names("disc"), description="", score=0.5)

    @property
    def spec(self) -> ModelSpec:
        return self._spec

    @property
    def source(self) -> str:
        return self._spec.name

    @property
    def device_name(self) -> str:
        return "sleep"

    def predict(
        self,
        planes: Sequence[Any],
        options: PredictOptions,
        *,
        cancel: CancelToken | None = None,
        on_progress: Callable[[Progress], None] | None = None,  # noqa: ARG002  the protocol's
    ) -> list[Prediction]:
        until_s = time.perf_counter() + self._seconds
        predictions = [self._predict(plane[..., 0], options) for plane in planes]
        time.sleep(max(0.0, until_s - time.perf_counter()))
        if cancel is not None:
            cancel.raise_if_cancelled()
        return predictions

    def prompter(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    def _predict(self, plane: Any, options: PredictOptions) -> Prediction:
        numbers, count = ndimage.label(plane > BRIGHT)
        crops = [
            CroppedMask.from_mask(numbers[box] == n, y=box[0].start, x=box[1].start)
            for n, box in enumerate(ndimage.find_objects(numbers), start=1)
        ]
        masks = tuple(crop for crop in crops if crop is not None)
        found = InstanceSet(
            image_hw=plane.shape,
            masks=masks,
            categories=self._spec.categories,
            scores=np.full(count, 0.9),
        )
        return Prediction(
            candidates=found, detection_scores=found.scores, max_instances=options.max_instances
        )


def seconds_alone(engine: TimedEngine, count: int = 50) -> float:
    """Return what the model takes for a frame in a plain loop."""
    source = SyntheticSource(is_paced=False)
    source.open()
    planes = [frame.pixels[..., None] for frame in itertools.islice(source.frames(), count)]
    begin_s = time.perf_counter()
    for plane in planes:
        engine.predict([plane], PredictOptions())
    return (time.perf_counter() - begin_s) / count


def measure(seconds: float, model_s: float) -> None:
    """Run a camera for some time, and print what became of its frames."""
    engine = TimedEngine(model_s)
    alone_s = seconds_alone(engine)
    pipeline = LivePipeline(SyntheticSource(), engine=engine)
    frames: list[tuple[int, float, float]] = []
    results: list[tuple[float, float, int]] = []

    def on_frame(frame: Frame) -> None:
        frames.append((frame.number, frame.grabbed_s, frame.device_s or 0.0))

    def on_result(result: LiveResult) -> None:
        results.append((result.finished_s, result.age_s, len(result.instances)))

    pipeline.frame_listeners.append(on_frame)
    pipeline.listeners.append(on_result)
    pipeline.start()
    time.sleep(seconds)
    begin_s = time.perf_counter()
    has_ended = pipeline.stop()
    stop_s = time.perf_counter() - begin_s
    figures = pipeline.figures()

    numbers, grabbed_s, due_s = (np.array(column) for column in zip(*frames, strict=True))
    late_ms = 1000 * (grabbed_s - due_s)
    late_ms -= late_ms.min()
    finished_s, ages_s, counts = (np.array(column) for column in zip(*results, strict=True))
    rate = (len(results) - 1) / (finished_s[-1] - finished_s[0])
    median_s, most_s = np.quantile(ages_s, [0.5, 0.95])
    lost = int(numbers[-1]) + 1 - len(numbers)
    print(f"camera: {len(frames)} frames in {grabbed_s[-1] - grabbed_s[0]:.1f} s, {lost} lost")
    print(
        f"  taken late by {np.median(late_ms):.1f} ms (median), {late_ms.max():.1f} ms (most), "
        f"{np.count_nonzero(late_ms > 1000 / FPS)} by more than a frame"
    )
    print(f"model alone: {1000 * alone_s:.1f} ms a frame, {1 / alone_s:.2f} a second")
    print(
        f"results: {len(results)}, {rate:.2f} a second, {rate * alone_s:.1%} of the model alone; "
        f"{counts.mean():.1f} instances"
    )
    print(
        f"  age {1000 * median_s:.0f} ms (median), {median_s / alone_s:.2f} of the model's time; "
        f"95 %: {1000 * most_s:.0f} ms, {most_s / alone_s:.2f}"
    )
    rest = figures.num_frames - figures.num_results - figures.num_skipped
    print(f"  {figures.num_skipped} skipped, {figures.num_failed} failed, {rest} left at the stop")
    print(f"stop: {1000 * stop_s:.0f} ms, all threads ended: {has_ended}")


def held() -> tuple[float, int, int]:
    """Return resident MiB, threads and open files of this process."""
    gc.collect()
    process = psutil.Process()
    return process.memory_info().rss / 2**20, process.num_threads(), process.num_fds()


def soak(num_frames: int) -> None:
    """Run frames through as fast as they come, and print what grows."""
    pipeline = LivePipeline(SyntheticSource(is_paced=False), engine=TimedEngine(0.0))
    at_start = held()
    pipeline.start()
    samples = []
    print("frames | results | resident MiB | threads | open files")
    for n in range(11):
        while pipeline.figures().num_frames < n * num_frames / 10:
            time.sleep(0.02)
        samples.append(held())
        figures = pipeline.figures()
        mib, threads, files = samples[-1]
        print(
            f"{figures.num_frames:6} | {figures.num_results:7} | {mib:12.1f} | {threads:7} | "
            f"{files:10}",
            flush=True,
        )
    status, model = pipeline.status, pipeline.model_status
    has_ended = pipeline.stop()
    # the first half fills what is bounded: tracks of ten seconds, ids that rest for thirty
    grown = np.subtract(samples[-1], samples[5])
    print(
        f"state {status.state.value}, model runs: {model.is_running}, {figures.num_failed} failed"
    )
    print(f"growth in the second half: {grown[0]:+.1f} MiB, {grown[1]:+.0f} threads, ", end="")
    print(f"{grown[2]:+.0f} files")
    after = held()
    print(
        f"after the stop (all threads ended: {has_ended}), against before the start: "
        f"{after[1] - at_start[1]:+} threads, {after[2] - at_start[2]:+} files"
    )


def rounds(count: int) -> None:
    """Start and stop again and again, and print what grows."""
    stops_s = []

    def one_round() -> None:
        pipeline = LivePipeline(SyntheticSource(), engine=TimedEngine(0.01))
        pipeline.start()
        while pipeline.figures().num_results < 3:
            time.sleep(0.005)
        begin_s = time.perf_counter()
        if not pipeline.stop():
            print("a thread did not end in time")
        stops_s.append(time.perf_counter() - begin_s)

    for _ in range(5):
        one_round()
    before = held()
    for _ in range(count):
        one_round()
    grown = np.subtract(held(), before)
    print(f"{count} rounds: {grown[0]:+.1f} MiB, {grown[1]:+.0f} threads, {grown[2]:+.0f} files")
    print(f"stop: {1000 * np.median(stops_s):.0f} ms (median), {1000 * max(stops_s):.0f} ms (most)")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--model-ms", type=float, default=100)
    parser.add_argument("--soak", type=int, metavar="FRAMES")
    parser.add_argument("--rounds", type=int, metavar="N")
    arguments = parser.parse_args()
    if arguments.soak:
        soak(arguments.soak)
    if arguments.rounds:
        rounds(arguments.rounds)
    if not (arguments.soak or arguments.rounds):
        measure(arguments.seconds, arguments.model_ms / 1000)


if __name__ == "__main__":
    main()
