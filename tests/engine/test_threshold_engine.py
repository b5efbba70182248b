"""The stand-in keeps the promises of an engine, so tests that use it mean something."""

import threading

import numpy as np
import pytest
from tests.fakes import ThresholdEngine

from napari_deeppixel.core.errors import ImageError, RunCancelled
from napari_deeppixel.core.progress import CancelToken
from napari_deeppixel.engine.base import Engine, PredictOptions


def plane() -> np.ndarray:
    """Return two squares of brightness 1 and 0.6 and one pixel of 0.8, uint8 (5, 9, 1)."""
    pixels = np.zeros((5, 9, 1), np.uint8)
    pixels[0:2, 0:2] = 255
    pixels[3:5, 5:7] = 153
    pixels[0, 8] = 204
    return pixels


def test_it_finds_bright_groups_best_first() -> None:
    engine: Engine = ThresholdEngine()
    (prediction,) = engine.predict([plane()], PredictOptions())
    candidates = prediction.candidates
    assert candidates.boxes_xyxy.tolist() == [[0, 0, 2, 2], [8, 0, 9, 1], [5, 3, 7, 5]]
    assert candidates.scores.tolist() == pytest.approx([1, 0.8, 0.6])
    assert candidates.predicted_boxes_xyxy.tolist() == candidates.boxes_xyxy.tolist()
    assert set(candidates.sources) == {engine.source}


def test_it_caps_and_says_so() -> None:
    (prediction,) = ThresholdEngine().predict([plane()], PredictOptions(max_instances=2))
    assert len(prediction.candidates) == 2
    assert prediction.is_capped(0.5)


def test_it_refuses_channels_that_do_not_exist() -> None:
    with pytest.raises(ImageError, match="channel 1 does not exist"):
        ThresholdEngine().predict([plane()], PredictOptions(channels=(1,)))


def test_it_waits_to_be_let_go_and_stops_on_cancel() -> None:
    hold, cancel, stopped = threading.Event(), CancelToken(), []
    engine = ThresholdEngine(hold=hold)

    def work() -> None:
        try:
            engine.predict([plane()], PredictOptions(), cancel=cancel)
        except RunCancelled:
            stopped.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    assert engine.is_inside.wait(30)
    cancel.cancel()
    thread.join(30)
    assert stopped == [True]
    hold.set()
    (prediction,) = engine.predict([plane()], PredictOptions())
    assert len(prediction.candidates) == 3
    assert len(engine.calls) == 2


def test_a_long_delay_ends_at_once_on_cancel() -> None:
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(RunCancelled):
        ThresholdEngine(delay_s=1e6).predict([plane()], PredictOptions(), cancel=cancel)
