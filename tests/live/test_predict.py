"""The thread of the model, on frames that a test puts before it."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from tests.live.scripted import ScriptedEngine, image, wait_for

from napari_deeppixel.core.errors import DeviceError
from napari_deeppixel.core.progress import CancelToken
from napari_deeppixel.engine.base import PredictOptions
from napari_deeppixel.live.latest import Latest
from napari_deeppixel.live.predict import Predictor
from napari_deeppixel.live.result import LiveResult
from napari_deeppixel.live.source import Frame


class Bench:
    """A predictor, one frame after another."""

    def __init__(self, engine: ScriptedEngine | None, **settings: Any) -> None:
        self.place: Latest[Frame] = Latest()
        self.results: list[LiveResult] = []
        self.predictor = Predictor(
            self.place,
            settings.pop("on_result", self.results.append),
            engine=engine,
            options=settings.pop("options", PredictOptions()),
        )
        self._number = 0
        self.predictor.start()

    def see(self, pixels: Any = None) -> None:
        """Put a frame and wait until the model is through with it."""
        self._number += 1
        frame = Frame(pixels=image() if pixels is None else pixels, number=self._number)
        self.place.put(frame)
        wait_for(lambda: self.predictor.num_finished == self._number)


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(engine: ScriptedEngine | None, **settings: Any) -> Bench:
        made.append(Bench(engine, **settings))
        return made[-1]

    yield make
    for each in made:
        each.predictor.stop()
        assert each.predictor.join(5)


def fail_at(*numbers: int, error: Exception) -> ScriptedEngine:
    def on_call(number: int) -> None:
        if number in numbers:
            raise error

    return ScriptedEngine(on_call)


def test_a_result_carries_its_own_frame_its_model_and_its_times(
    bench: Callable[..., Bench],
) -> None:
    at = bench(ScriptedEngine(name="a"))
    at.see(image(3, (4, 6)))
    (result,) = at.results
    assert (result.frame.number, int(result.frame.pixels[0, 0])) == (1, 3)
    # the engine finds one instance, the whole frame
    assert result.instances.label_image().tolist() == [[1] * 6] * 4
    assert result.model == "a"
    assert result.prediction is not None
    assert result.frame.grabbed_s + result.model_s <= result.finished_s
    assert result.age_s >= result.model_s > 0


@pytest.mark.parametrize("hw", [(4, 6), (4, 6, 3)])
def test_grey_and_colour_come_to_the_model_with_channels_last(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch, hw: tuple[int, ...]
) -> None:
    shapes: list[tuple[int, ...]] = []
    engine = ScriptedEngine()
    predict = engine.predict

    def see(planes: Any, *arguments: Any, **settings: Any) -> Any:
        shapes.extend(plane.shape for plane in planes)
        return predict(planes, *arguments, **settings)

    monkeypatch.setattr(engine, "predict", see)
    bench(engine).see(np.zeros(hw, np.uint8))
    assert shapes == [(4, 6, 1 if len(hw) == 2 else 3)]


def test_one_bad_frame_is_counted_and_the_model_goes_on(bench: Callable[..., Bench]) -> None:
    at = bench(fail_at(2, error=ValueError("odd pixels")))
    at.see()
    at.see()
    assert at.predictor.status.message == "ValueError: odd pixels"
    assert at.predictor.status.is_running
    at.see()
    assert [result.frame.number for result in at.results] == [1, 3]
    assert (at.predictor.num_failed, at.predictor.status.message) == (1, "")


def test_failures_that_are_not_in_a_row_never_stop_it(bench: Callable[..., Bench]) -> None:
    at = bench(fail_at(1, 2, 4, 5, 7, 8, error=ValueError("odd")))
    for _ in range(9):
        at.see()
    assert at.predictor.status.is_running
    assert [result.frame.number for result in at.results] == [3, 6, 9]


def test_three_failures_in_a_row_stop_the_model_until_another_is_set(
    bench: Callable[..., Bench],
) -> None:
    broken = fail_at(*range(1, 100), error=ValueError("broken"))
    at = bench(broken)
    for _ in range(5):
        at.see()
    assert not at.predictor.status.is_running
    assert at.predictor.status.message == "ValueError: broken"
    assert (broken.num_calls, at.predictor.num_failed) == (3, 3)
    at.predictor.set_engine(ScriptedEngine(name="b"))
    assert at.predictor.status.is_running
    assert at.predictor.status.message == ""
    at.see()
    assert [(result.frame.number, result.model) for result in at.results] == [(6, "b")]


def test_too_little_memory_is_told_in_the_engines_own_words(bench: Callable[..., Bench]) -> None:
    error = DeviceError("a frame of 4 x 6 needs more memory than cuda has: choose a smaller size")
    at = bench(fail_at(1, error=error))
    at.see()
    assert at.predictor.status.message == str(error)


def test_the_failure_of_a_model_that_was_replaced_is_not_its_successors(
    bench: Callable[..., Bench],
) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def on_call(_: int) -> None:
        inside.set()
        assert go_on.wait(5)
        raise ValueError("old weights")

    at = bench(ScriptedEngine(on_call))
    at.place.put(Frame(pixels=image(), number=1))
    assert inside.wait(5)
    at.predictor.set_engine(ScriptedEngine(name="b"))
    go_on.set()
    wait_for(lambda: at.predictor.num_finished == 1)
    assert at.predictor.status.message == ""
    assert at.predictor.num_failed == 1


def test_a_listener_that_fails_is_told_and_does_not_end_the_thread(
    bench: Callable[..., Bench],
) -> None:
    seen: list[int] = []

    def on_result(result: LiveResult) -> None:
        if result.frame.number == 1:
            raise OSError("disk full")
        seen.append(result.frame.number)

    at = bench(ScriptedEngine(), on_result=on_result)
    at.see()
    assert at.predictor.status.message == "OSError: disk full"
    at.see()
    assert seen == [2]


def test_without_an_engine_frames_are_taken_and_nothing_is_told(
    bench: Callable[..., Bench],
) -> None:
    at = bench(None)
    at.see()
    assert (at.results, at.predictor.status.is_running) == ([], False)
    at.predictor.set_engine(ScriptedEngine())
    at.see()
    assert [result.frame.number for result in at.results] == [2]


def test_the_score_and_the_least_area_choose_what_is_shown(bench: Callable[..., Bench]) -> None:
    # the instance has a score of 0.9 and 24 pixels
    at = bench(ScriptedEngine(), options=PredictOptions(score=0.91))
    at.see()
    for options in (
        PredictOptions(score=0.9, min_area=24),
        PredictOptions(score=0.9, min_area=25),
        PredictOptions(),
    ):
        at.predictor.set_options(options)
        at.see()
    shown = [len(result.instances) for result in at.results]
    assert shown == [0, 1, 0, 1]
    # what is not shown is kept
    assert [len(result.prediction.candidates) for result in at.results if result.prediction] == [
        1
    ] * 4


def test_ids_stay_while_the_size_stays_and_begin_anew_with_another(
    bench: Callable[..., Bench],
) -> None:
    at = bench(ScriptedEngine())
    for hw in ((4, 6), (4, 6), (8, 6), (8, 6)):
        at.see(image(hw=hw))
    uuids = [result.instances.uuids[0] for result in at.results]
    assert uuids[0] == uuids[1]
    assert uuids[2] == uuids[3]
    assert uuids[0] != uuids[2]
    assert [result.instances.image_hw for result in at.results] == [(4, 6), (4, 6), (8, 6), (8, 6)]


def test_a_stop_ends_a_call_that_looks_at_its_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    inside = threading.Event()
    engine = ScriptedEngine()

    def predict(*_: Any, cancel: CancelToken, **__: Any) -> Any:
        inside.set()
        wait_for(lambda: cancel.is_cancelled)
        cancel.raise_if_cancelled()

    monkeypatch.setattr(engine, "predict", predict)
    at = Bench(engine)
    at.place.put(Frame(pixels=image(), number=1))
    assert inside.wait(5)
    at.predictor.stop()
    assert at.predictor.join(1)
    assert (at.results, at.predictor.num_failed) == ([], 0)


def test_a_still_source_is_asked_about_again_when_a_model_or_a_score_comes() -> None:
    frames: Latest[Frame] = Latest()
    results: list[LiveResult] = []
    predictor = Predictor(frames, results.append, engine=None, options=PredictOptions())
    predictor.start()
    frames.put(Frame(pixels=image(1), number=0))
    wait_for(lambda: not frames.wait_until_empty(0) or frames.num_put == 1)
    predictor.set_engine(ScriptedEngine())
    wait_for(lambda: len(results) == 1)
    predictor.set_options(PredictOptions(score=0.95))
    wait_for(lambda: len(results) == 2)
    predictor.stop()
    assert predictor.join(5)
    assert [len(result.instances) for result in results] == [1, 0]
    assert results[0].frame is results[1].frame
