"""Camera to instances, with a source and an engine that do what a test tells them."""

import gc
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psutil
import pytest
from tests.live.moving_nuclei import VIDEO
from tests.live.scripted import FILE, ScriptedEngine, ScriptedSource, image, wait_for

from napari_deeppixel.core.errors import DeviceError
from napari_deeppixel.core.progress import CancelToken
from napari_deeppixel.engine.base import PredictOptions
from napari_deeppixel.live.av_source import AvSource
from napari_deeppixel.live.pipeline import LivePipeline
from napari_deeppixel.live.pushed import PushedSource
from napari_deeppixel.live.result import LiveResult
from napari_deeppixel.live.source import Frame, FrameSource, SourceInfo, SourceOptions
from napari_deeppixel.live.status import LiveState
from napari_deeppixel.live.synthetic import SyntheticSource

SMALL = SourceOptions(size_hw=(32, 40), fps=200)


class Run:
    """A pipeline that keeps what it gave."""

    def __init__(self, source: FrameSource, engine: ScriptedEngine | None, **settings: Any) -> None:
        self.pipeline = LivePipeline(source, engine=engine, retry_pauses_s=(0.001,), **settings)
        self.frames: list[Frame] = []
        self.results: list[LiveResult] = []
        self.pipeline.frame_listeners.append(self.frames.append)
        self.pipeline.listeners.append(self.results.append)
        self.pipeline.start()

    @property
    def numbers(self) -> list[int]:
        """The frames that have a result."""
        return [result.frame.number for result in self.results]


@pytest.fixture
def begin() -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def run(source: FrameSource, engine: ScriptedEngine | None, **settings: Any) -> Run:
        runs.append(Run(source, engine, **settings))
        return runs[-1]

    yield run
    for each in runs:
        assert each.pipeline.stop(5)


def gated(name: str = "scripted") -> tuple[ScriptedEngine, threading.Event, threading.Semaphore]:
    """Return an engine whose calls wait; what is set inside one; and what lets one go on."""
    inside, gate = threading.Event(), threading.Semaphore(0)

    def on_call(_: int) -> None:
        inside.set()
        assert gate.acquire(timeout=5)

    return ScriptedEngine(on_call, name=name), inside, gate


def own_threads() -> set[str]:
    names = ("deeppixel grabber", "deeppixel model")
    return {thread.name for thread in threading.enumerate() if thread.name in names}


# newest wins -------------------------------------------------------------------------------------


def test_the_model_gets_the_newest_frame_and_the_others_are_counted_as_skipped(
    begin: Callable[..., Run],
) -> None:
    engine, inside, gate = gated()
    more, hold = threading.Event(), threading.Event()
    script = [image(0), more, image(1), image(2), image(3), image(4), hold]
    run = begin(ScriptedSource(script), engine)
    assert inside.wait(5)
    more.set()
    wait_for(lambda: len(run.frames) == 5)
    gate.release(2)
    wait_for(lambda: len(run.results) == 2)
    assert run.numbers == [0, 4]
    assert [int(result.frame.pixels[0, 0]) for result in run.results] == [0, 4]
    figures = run.pipeline.figures()
    assert (figures.num_frames, figures.num_results, figures.num_skipped) == (5, 2, 3)
    assert [frame.number for frame in run.frames] == [0, 1, 2, 3, 4]


def test_a_result_has_the_instances_of_its_own_frame_though_newer_ones_came(
    begin: Callable[..., Run],
) -> None:
    engine, inside, gate = gated()
    more, hold = threading.Event(), threading.Event()
    run = begin(ScriptedSource([image(7), more, image(8, (5, 5)), hold]), engine)
    assert inside.wait(5)
    more.set()
    wait_for(lambda: len(run.frames) == 2)
    gate.release(2)
    wait_for(lambda: len(run.results) == 2)
    for result, hw in zip(run.results, [(4, 6), (5, 5)], strict=True):
        assert result.frame.image_hw == result.instances.image_hw == hw
        assert result.instances.areas.tolist() == [hw[0] * hw[1]]
    assert run.results[0].frame is run.frames[0]


def test_who_shows_gets_the_newest_frame_and_result_only(begin: Callable[..., Run]) -> None:
    run = begin(ScriptedSource([image(n) for n in range(5)], info=FILE), ScriptedEngine())
    wait_for(lambda: run.pipeline.status.state is LiveState.ENDED and run.pipeline.is_settled)
    frame, result = run.pipeline.frames.take(), run.pipeline.results.take()
    assert frame is not None
    assert result is not None
    assert (frame.number, result.frame.number) == (4, 4)
    assert run.pipeline.frames.take() is None


def test_with_all_frames_a_file_waits_for_the_model(begin: Callable[..., Run]) -> None:
    source = ScriptedSource([image(n) for n in range(12)], info=FILE)
    run = begin(source, ScriptedEngine(lambda _: time.sleep(0.01)), has_all_frames=True)
    wait_for(lambda: run.pipeline.status.state is LiveState.ENDED)
    # at the end of the file the model still has the last ones
    wait_for(lambda: run.pipeline.is_settled)
    assert run.numbers == list(range(12))
    assert run.pipeline.figures().num_skipped == 0


def test_with_all_frames_a_model_that_stopped_does_not_hold_the_file_back(
    begin: Callable[..., Run],
) -> None:
    def fail(_: int) -> None:
        raise ValueError("broken")

    source = ScriptedSource([image(n) for n in range(12)], info=FILE)
    run = begin(source, ScriptedEngine(fail), has_all_frames=True)
    wait_for(lambda: run.pipeline.status.state is LiveState.ENDED and run.pipeline.is_settled)
    assert (len(run.frames), run.results) == (12, [])


def test_it_is_settled_only_when_no_frame_is_with_the_model(begin: Callable[..., Run]) -> None:
    engine, inside, gate = gated()
    run = begin(ScriptedSource([image()], info=FILE), engine)
    assert inside.wait(5)
    wait_for(lambda: run.pipeline.status.state is LiveState.ENDED)
    assert not run.pipeline.is_settled
    gate.release()
    wait_for(lambda: run.pipeline.is_settled)
    assert run.numbers == [0]


# changes in mid-stream ---------------------------------------------------------------------------


def steps(count: int) -> tuple[ScriptedSource, list[threading.Event]]:
    """Return a camera that gives each frame when its event is set."""
    events = [threading.Event() for _ in range(count + 1)]
    script: list[Any] = []
    for number, event in enumerate(events[:-1]):
        script += [event, image(number)]
    return ScriptedSource([*script, events[-1]]), events


def test_a_model_is_swapped_in_mid_stream_without_a_stop_and_no_frame_is_lost(
    begin: Callable[..., Run],
) -> None:
    source = SyntheticSource(SMALL)
    old, new = (ScriptedEngine(lambda _: time.sleep(0.01), name=name) for name in ("old", "new"))
    run = begin(source, old)
    wait_for(lambda: len(run.results) >= 3)
    run.pipeline.set_engine(new)
    wait_for(lambda: len({result.model for result in run.results}) == 2)
    wait_for(lambda: run.results[-1].model == "new")
    assert run.pipeline.status.state is LiveState.LIVE
    assert run.pipeline.stop()
    models = [result.model for result in run.results]
    assert models == sorted(models, reverse=True)
    assert [frame.number for frame in run.frames] == list(range(len(run.frames)))
    # the frame went on under one number of opening, and so do the ids
    assert {frame.stream for frame in run.frames} == {1}
    assert len({result.instances.uuids for result in run.results}) == 1


def test_new_options_count_from_the_next_frame_on(begin: Callable[..., Run]) -> None:
    source, (first, second, _) = steps(2)
    run = begin(source, ScriptedEngine(), options=PredictOptions(score=0.5))
    first.set()
    wait_for(lambda: len(run.results) == 1)
    run.pipeline.set_options(PredictOptions(score=0.95))
    second.set()
    wait_for(lambda: len(run.results) == 2)
    # the instance has a score of 0.9
    assert [len(result.instances) for result in run.results] == [1, 0]


def test_another_size_begins_the_tracks_anew(begin: Callable[..., Run]) -> None:
    script = [image(hw=(4, 6)), image(hw=(4, 6)), image(hw=(6, 4))]
    run = begin(ScriptedSource(script, info=FILE), ScriptedEngine(), has_all_frames=True)
    wait_for(lambda: len(run.results) == 3)
    first, second, third = (result.instances.uuids for result in run.results)
    assert first == second
    assert third != first


# faults of the model -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ZeroDivisionError("oops"), "ZeroDivisionError: oops"),
        (DeviceError("too little memory: choose a smaller size"), "too little memory"),
    ],
)
def test_a_model_that_fails_three_times_stops_and_the_camera_goes_on_until_a_new_one(
    begin: Callable[..., Run], error: Exception, message: str
) -> None:
    def fail(_: int) -> None:
        raise error

    broken = ScriptedEngine(fail)
    run = begin(SyntheticSource(SMALL), broken)
    wait_for(lambda: run.pipeline.model_status.message != "" and broken.num_calls == 3)
    wait_for(lambda: not run.pipeline.model_status.is_running)
    assert run.pipeline.model_status.message.startswith(message)
    num_frames = len(run.frames)
    wait_for(lambda: len(run.frames) > num_frames + 10)
    assert (run.pipeline.status.state, run.results) == (LiveState.LIVE, [])
    assert (broken.num_calls, run.pipeline.figures().num_failed) == (3, 3)
    run.pipeline.set_engine(ScriptedEngine())
    wait_for(lambda: len(run.results) > 0)
    assert run.pipeline.model_status.is_running
    assert run.pipeline.model_status.message == ""


def test_a_model_that_fails_once_goes_on(begin: Callable[..., Run]) -> None:
    def fail_at_2(number: int) -> None:
        if number == 2:
            raise ValueError("odd pixels")

    script = [image(n) for n in range(4)]
    run = begin(ScriptedSource(script, info=FILE), ScriptedEngine(fail_at_2), has_all_frames=True)
    wait_for(lambda: run.pipeline.status.state is LiveState.ENDED and run.pipeline.is_settled)
    assert run.numbers == [0, 2, 3]
    figures = run.pipeline.figures()
    assert (figures.num_results, figures.num_failed, figures.num_skipped) == (3, 1, 0)


# stopping ----------------------------------------------------------------------------------------


class HungEngine(ScriptedEngine):
    """Waits in each call for its cancel, or, if it does not look at that, for `let_go`."""

    def __init__(self, *, looks_at_cancel: bool) -> None:
        super().__init__()
        self._looks_at_cancel = looks_at_cancel
        self.is_inside, self.let_go = threading.Event(), threading.Event()

    def predict(
        self,
        planes: Sequence[Any],
        options: PredictOptions,
        *,
        cancel: CancelToken | None = None,
        **settings: Any,
    ) -> Any:
        self.is_inside.set()
        while not self.let_go.wait(0.005):
            if self._looks_at_cancel and cancel is not None:
                cancel.raise_if_cancelled()
        return super().predict(planes, options, cancel=cancel, **settings)


@pytest.mark.parametrize("looks_at_cancel", [True, False])
def test_stop_comes_back_within_a_second_and_says_whether_a_hung_model_ended(
    begin: Callable[..., Run], looks_at_cancel: bool
) -> None:
    engine = HungEngine(looks_at_cancel=looks_at_cancel)
    run = begin(SyntheticSource(SMALL), engine)
    assert engine.is_inside.wait(5)
    start_s = time.monotonic()
    has_ended = run.pipeline.stop()
    # a second, and what two busy cores need to wake up
    assert time.monotonic() - start_s < 1.5
    assert has_ended is looks_at_cancel
    assert run.pipeline.is_alive is not looks_at_cancel
    assert run.pipeline.status.state is LiveState.STOPPED
    engine.let_go.set()
    assert run.pipeline.stop(5)
    # a result after the stop is nobody's
    assert run.results == []


def test_a_source_that_gives_nothing_is_stopped_at_once(begin: Callable[..., Run]) -> None:
    run = begin(ScriptedSource([image(), threading.Event()]), ScriptedEngine())
    wait_for(lambda: len(run.results) == 1)
    assert run.pipeline.stop()
    assert not run.pipeline.is_alive
    assert own_threads() == set()


def test_with_all_frames_a_grabber_that_waits_for_a_hung_model_is_stopped(
    begin: Callable[..., Run],
) -> None:
    engine = HungEngine(looks_at_cancel=True)
    script = [image(n) for n in range(9)]
    run = begin(ScriptedSource(script, info=FILE), engine, has_all_frames=True)
    assert engine.is_inside.wait(5)
    wait_for(lambda: len(run.frames) == 2)
    assert run.pipeline.stop()


def test_asking_to_stop_does_not_wait(begin: Callable[..., Run]) -> None:
    engine = HungEngine(looks_at_cancel=False)
    run = begin(SyntheticSource(SMALL), engine)
    assert engine.is_inside.wait(5)
    run.pipeline.ask_to_stop()
    assert run.pipeline.is_alive
    engine.let_go.set()
    wait_for(lambda: not run.pipeline.is_alive)


def test_it_can_be_stopped_before_it_starts_and_twice() -> None:
    pipeline = LivePipeline(ScriptedSource([image()]), engine=ScriptedEngine())
    assert pipeline.stop()
    assert pipeline.stop()
    assert not pipeline.is_alive


def test_50_rounds_leave_no_thread_and_no_open_file() -> None:
    info = SourceInfo(address=str(VIDEO), label=VIDEO.name, kind="file")
    process = psutil.Process()

    def round_of(source: FrameSource) -> None:
        run = Run(source, ScriptedEngine())
        if isinstance(source, PushedSource):
            source.push(image())
        wait_for(lambda: len(run.results) > 0)
        assert run.pipeline.stop()
        assert not run.pipeline.is_alive

    def sources() -> tuple[FrameSource, ...]:
        return (
            SyntheticSource(SMALL),
            AvSource(info),
            PushedSource(SourceInfo(address="layer", label="layer", kind="layer")),
        )

    for source in sources():
        round_of(source)
    gc.collect()
    before = (process.num_threads(), open_files(process))
    for number in range(50):
        round_of(sources()[number % 3])
    gc.collect()
    assert (process.num_threads(), open_files(process)) == before
    assert own_threads() == set()


def open_files(process: psutil.Process) -> int:
    return process.num_handles() if sys.platform == "win32" else process.num_fds()


# figures -----------------------------------------------------------------------------------------


def test_ages_and_rates_are_those_of_a_clock_that_a_test_moves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipeline = LivePipeline(ScriptedSource([]), engine=None)
    # frames at 10, 10.5 and 11 s; instances 0.2, 0.2 and 0.4 s later, of which the model took half
    for grabbed_s, age_s in ((10.0, 0.2), (10.5, 0.2), (11.0, 0.4)):
        frame = Frame(pixels=image(), number=0, grabbed_s=grabbed_s)
        pipeline._on_frame(frame)
        found = ScriptedEngine().predict([frame.pixels], PredictOptions())[0].candidates
        pipeline._on_result(
            LiveResult(
                frame=frame,
                instances=found,
                model="m",
                model_s=age_s / 2,
                finished_s=grabbed_s + age_s,
            )
        )
        with monkeypatch.context() as patch:
            patch.setattr("time.monotonic", lambda now=grabbed_s + 2 * age_s: now)
            pipeline.was_drawn(frame)
    monkeypatch.setattr("time.monotonic", lambda: 11.0)
    figures = pipeline.figures()
    assert figures.camera_fps == pytest.approx(2)
    # 10.2, 10.7 and 11.4
    assert figures.model_fps == pytest.approx(2 / 1.2)
    assert figures.model_s == pytest.approx(0.1)
    assert (figures.result_age_s, figures.screen_age_s) == pytest.approx((0.2, 0.4))
    # between the second and the third of three, nine tenths of the way
    assert figures.result_age_95_s == pytest.approx(0.2 + 0.9 * 0.2)
    assert figures.screen_age_95_s == pytest.approx(0.4 + 0.9 * 0.4)
    assert figures.model_load == pytest.approx(2 / 1.2 * 0.1)
    assert (figures.num_frames, figures.num_results, figures.num_draws) == (3, 3, 3)


def test_before_the_second_result_there_is_no_rate_and_no_load() -> None:
    pipeline = LivePipeline(ScriptedSource([]), engine=None)
    frame = Frame(pixels=image(), number=0)
    pipeline._on_frame(frame)
    pipeline._on_result(result_of("m", frame, model_s=0.2))
    figures = pipeline.figures()
    assert all(map(math.isnan, (figures.camera_fps, figures.model_fps, figures.model_load)))
    assert figures.model_s == 0.2


def result_of(model: str, frame: Frame, *, model_s: float) -> LiveResult:
    found = ScriptedEngine().predict([frame.pixels], PredictOptions())[0].candidates
    return LiveResult(
        frame=frame,
        instances=found,
        model=model,
        model_s=model_s,
        finished_s=frame.grabbed_s + model_s,
    )


def test_times_of_the_old_model_do_not_count_after_a_swap() -> None:
    pipeline = LivePipeline(ScriptedSource([]), engine=None)
    for number in range(3):
        frame = Frame(pixels=image(), number=number, grabbed_s=float(number))
        pipeline._on_result(result_of("old", frame, model_s=0.8))
    assert pipeline.figures().model_s == 0.8
    pipeline.set_engine(ScriptedEngine(name="new"))
    assert math.isnan(pipeline.figures().model_s)
    assert math.isnan(pipeline.figures().result_age_s)
    # what was in work when it was replaced
    pipeline._on_result(result_of("old", Frame(pixels=image(), number=3), model_s=0.8))
    pipeline._on_result(result_of("new", Frame(pixels=image(), number=4), model_s=0.1))
    figures = pipeline.figures()
    assert (figures.model_s, figures.num_results) == (0.1, 5)
    assert figures.result_age_s == pytest.approx(0.1)
    assert math.isnan(figures.model_fps)
