"""Planes of a stack one by one, and `segment` in one call."""

import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import dask.array as da
import numpy as np
import pytest
from tests.engine.networks import noise, slim_engine
from tests.fakes import ThresholdEngine

from napari_deeppixel.core.errors import ImageError, RunCancelled
from napari_deeppixel.core.image import ImageArray, as_image_array
from napari_deeppixel.core.normalization import Normalization
from napari_deeppixel.core.progress import CancelToken, Progress
from napari_deeppixel.engine.base import InstanceCapWarning, PredictOptions
from napari_deeppixel.engine.planes import predict_planes, segment


def spots(*scores: int, image_hw: tuple[int, int] = (6, 12)) -> np.ndarray:
    """Return a uint8 image with a spot of 1, 2, 3, … px of each brightness in a row of its own."""
    pixels = np.zeros(image_hw, np.uint8)
    for number, value in enumerate(scores):
        pixels[2 * number, 1 : 2 + number] = value
    return pixels


class CountingArray:
    """A stack of planes that writes down which ones are read."""

    def __init__(self, pixels: np.ndarray) -> None:
        self._pixels, self.shape, self.dtype = pixels, pixels.shape, pixels.dtype
        self.read: list[int] = []

    def __getitem__(self, index: tuple) -> np.ndarray:
        self.read.append(index[0])
        return self._pixels[index]


def test_segment_gives_the_bright_spots_of_an_image() -> None:
    instances = segment(spots(255, 204, 153), ThresholdEngine())
    assert instances.boxes_xyxy.tolist() == [[1, 0, 2, 1], [1, 2, 3, 3], [1, 4, 4, 5]]
    assert instances.scores.tolist() == pytest.approx([1, 0.8, 0.6])


def test_segment_filters_by_score_and_area() -> None:
    image = spots(255, 204, 153)
    assert segment(image, ThresholdEngine(), score=0.7).areas.tolist() == [1, 2]
    assert segment(image, ThresholdEngine(), min_area=2).areas.tolist() == [2, 3]
    assert segment(image, ThresholdEngine(), score=0.7, min_area=2).areas.tolist() == [2]
    assert len(segment(image, ThresholdEngine(threshold=0.1), score=0.0)) == 3


def test_segment_takes_the_models_score_unless_told() -> None:
    image = spots(255, 102)  # scores 1 and 0.4; the model shows from 0.5 on
    engine = ThresholdEngine(threshold=0.2)
    assert len(segment(image, engine)) == 1
    assert len(segment(image, engine, score=0.3)) == 2


def test_segment_warns_at_the_cap_and_not_below() -> None:
    image = spots(255, 204, 153)
    with pytest.warns(InstanceCapWarning, match="limit of 2 instances a plane was reached"):
        assert len(segment(image, ThresholdEngine(), max_instances=2)) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(segment(image, ThresholdEngine(), max_instances=4)) == 3
        # two of the three are wanted, so the limit of three hid none of these
        assert len(segment(image, ThresholdEngine(), max_instances=3, score=0.7)) == 2


def test_segment_with_a_network_warns_at_the_cap() -> None:
    engine = slim_engine()
    with pytest.warns(InstanceCapWarning, match="limit of 5 instances"):
        assert len(segment(noise(40, 56), engine, max_instances=5, score=0.05)) <= 5


@pytest.mark.parametrize("make", [np.asarray, da.from_array, np.ndarray.tolist])
def test_segment_takes_arrays_of_any_kind(make: Any) -> None:
    image = spots(255, 204).astype(np.float64)
    assert segment(make(image), ThresholdEngine()).areas.tolist() == [1, 2]


def test_segment_takes_channels_first_when_the_axes_say_so() -> None:
    pixels = np.stack([spots(0, 255), spots(255)])
    instances = segment(pixels, ThresholdEngine(), axes="cyx", channels=(1,))
    assert instances.areas.tolist() == [1]
    assert instances.image_hw == (6, 12)


def test_segment_refuses_a_stack_and_says_how_to_go_on() -> None:
    with pytest.raises(ImageError, match=r"axes 'zyx' of shape \(2, 6, 12\).*axes='cyx'"):
        segment(np.zeros((2, 6, 12)), ThresholdEngine())


def test_segment_refuses_options_twice() -> None:
    with pytest.raises(ValueError, match=r"give options or \['score'\], not both"):
        segment(spots(), ThresholdEngine(), options=PredictOptions(), score=0.3)


def test_segment_of_an_empty_image_gives_no_instance() -> None:
    assert len(segment(spots(), ThresholdEngine())) == 0


def test_planes_come_one_by_one_with_their_index() -> None:
    stack = np.stack([spots(255), spots(), spots(255, 204)])[np.newaxis]
    results = list(predict_planes(as_image_array(stack), ThresholdEngine(), PredictOptions()))
    assert [index for index, _ in results] == [(0, 0), (0, 1), (0, 2)]
    assert [len(prediction.candidates) for _, prediction in results] == [1, 0, 2]


def test_a_plane_is_read_only_when_it_is_its_turn() -> None:
    pixels = CountingArray(np.stack([spots(255)] * 4))
    image = ImageArray(pixels=pixels, axes="zyx")
    predictions = predict_planes(image, ThresholdEngine(), PredictOptions())
    assert pixels.read == []
    next(predictions)
    assert pixels.read == [0]
    next(predictions)
    assert pixels.read == [0, 1]


def test_only_the_planes_asked_for_are_read() -> None:
    pixels = CountingArray(np.stack([spots(255)] * 4))
    image = ImageArray(pixels=pixels, axes="zyx")
    wanted = predict_planes(image, ThresholdEngine(), PredictOptions(), indices=iter([(3,), (1,)]))
    assert [index for index, _ in wanted] == [(3,), (1,)]
    assert pixels.read == [3, 1]


def test_no_plane_asked_for_gives_none() -> None:
    image = as_image_array(spots(255))
    assert list(predict_planes(image, ThresholdEngine(), PredictOptions(), indices=[])) == []


def test_instances_of_a_region_come_back_in_the_whole_plane() -> None:
    pixels = spots(255, 204, 153)
    region = (1, 2, 9, 6)
    ((_, prediction),) = predict_planes(
        as_image_array(pixels), ThresholdEngine(), PredictOptions(), region_xyxy=region
    )
    candidates = prediction.candidates
    assert candidates.image_hw == (6, 12)
    assert candidates.boxes_xyxy.tolist() == [[1, 2, 3, 3], [1, 4, 4, 5]]
    assert candidates.predicted_boxes_xyxy.tolist() == candidates.boxes_xyxy.tolist()


def test_progress_grows_over_all_planes_and_names_the_plane() -> None:
    steps: list[Progress] = []
    stack = as_image_array(np.stack([spots(255)] * 2))
    list(
        predict_planes(stack, ThresholdEngine(steps=4), PredictOptions(), on_progress=steps.append)
    )
    assert [step.fraction for step in steps] == [
        *(0, 0, 0.125, 0.25, 0.375),
        *(0.5, 0.5, 0.625, 0.75, 0.875),
    ]
    assert steps[0].message == "plane 1 of 2"
    assert steps[-1].message == "plane 2 of 2"
    single: list[Progress] = []
    image = as_image_array(spots(255))
    list(predict_planes(image, ThresholdEngine(), PredictOptions(), on_progress=single.append))
    assert single[0].message == "predicting"


def test_cancel_between_planes_keeps_what_came_before_and_reads_no_more() -> None:
    pixels, cancel = CountingArray(np.stack([spots(255)] * 4)), CancelToken()
    image = ImageArray(pixels=pixels, axes="zyx")
    predictions: Iterator[Any] = predict_planes(
        image, ThresholdEngine(), PredictOptions(), cancel=cancel
    )
    index, _ = next(predictions)
    cancel.cancel()
    with pytest.raises(RunCancelled):
        next(predictions)
    assert index == (0,)
    assert pixels.read == [0]


# a few planes at a time ---------------------------------------------------------------------------


def test_planes_of_a_batch_come_in_order_and_are_read_when_it_is_its_turn() -> None:
    pixels = CountingArray(np.stack([spots(*[255] * count) for count in (1, 0, 2, 3, 1, 2, 0)]))
    image, engine = ImageArray(pixels=pixels, axes="zyx"), ThresholdEngine(num_planes=3)
    predictions = predict_planes(image, engine, PredictOptions())
    found = [next(predictions) for _ in range(3)]
    assert pixels.read == [0, 1, 2]
    found += predictions
    assert [index for index, _ in found] == [(z,) for z in range(7)]
    assert [len(prediction.candidates) for _, prediction in found] == [1, 0, 2, 3, 1, 2, 0]
    assert engine.batches == [3, 3, 1]


def test_pixels_of_a_batch_are_let_go_of_before_the_next_is_read() -> None:
    held: list[weakref.ref[np.ndarray]] = []

    class Fresh(CountingArray):
        def __getitem__(self, index: tuple) -> np.ndarray:
            pixels = super().__getitem__(index).copy()
            held.append(weakref.ref(pixels))
            return pixels

    image = ImageArray(pixels=Fresh(np.stack([spots(255)] * 4)), axes="zyx")
    for _ in predict_planes(image, ThresholdEngine(num_planes=2), PredictOptions()):
        assert [reference() for reference in held] == [None] * len(held)
    assert len(held) == 4


def test_progress_of_a_batch_is_that_of_its_planes() -> None:
    steps: list[Progress] = []
    stack = as_image_array(np.stack([spots(255)] * 8))
    engine = ThresholdEngine(steps=2, num_planes=4)
    some = [(z,) for z in range(5)]
    list(predict_planes(stack, engine, PredictOptions(), indices=some, on_progress=steps.append))
    assert [(step.message, round(step.fraction, 6)) for step in steps] == [
        *(("planes 1 to 4 of 5", done) for done in (0, 0, 0.4)),
        *(("plane 5 of 5", done) for done in (0.8, 0.8, 0.9)),
    ]


def test_cancel_inside_a_batch_gives_none_of_it() -> None:
    cancel = CancelToken()

    def stop(progress: Progress) -> None:
        if progress.fraction > 0.5:
            cancel.cancel()

    stack, engine = as_image_array(np.stack([spots(255)] * 4)), ThresholdEngine(num_planes=2)
    predictions = predict_planes(stack, engine, PredictOptions(), cancel=cancel, on_progress=stop)
    assert [next(predictions)[0], next(predictions)[0]] == [(0,), (1,)]
    with pytest.raises(RunCancelled):
        next(predictions)


def test_cancel_between_the_planes_of_a_batch_gives_no_more_of_it() -> None:
    cancel, stack = CancelToken(), as_image_array(np.stack([spots(255)] * 4))
    engine = ThresholdEngine(num_planes=4)
    predictions = predict_planes(stack, engine, PredictOptions(), cancel=cancel)
    next(predictions)
    cancel.cancel()
    with pytest.raises(RunCancelled):
        next(predictions)


def test_planes_of_a_region_go_one_by_one_each_with_its_own_contrast() -> None:
    stack = as_image_array(np.stack([spots(255), spots(200), spots(100)]))
    engine = ThresholdEngine(num_planes=3)
    relative = PredictOptions(normalization=Normalization(mode="percentile", low=0, high=100))
    list(predict_planes(stack, engine, relative, region_xyxy=(0, 0, 6, 4)))
    assert engine.batches == [1, 1, 1]
    limits = [options.normalization.high for options in engine.calls if options.normalization]
    assert limits == [255, 200, 100]


def test_planes_before_one_that_cannot_be_read_come_out() -> None:
    class Torn(CountingArray):
        def __getitem__(self, index: tuple) -> np.ndarray:
            if index[0] == 2:
                raise OSError("torn")
            return super().__getitem__(index)

    image = ImageArray(pixels=Torn(np.stack([spots(255)] * 4)), axes="zyx")
    predictions = predict_planes(image, ThresholdEngine(num_planes=4), PredictOptions())
    assert [next(predictions)[0], next(predictions)[0]] == [(0,), (1,)]
    with pytest.raises(OSError, match="torn"):
        next(predictions)


def test_a_network_finds_the_same_in_a_batch_as_alone() -> None:
    engine = slim_engine()
    stack = np.stack([noise(40, 56, seed=seed) for seed in range(3)])
    options = PredictOptions(max_instances=20)
    assert engine.planes_at_once((40, 56), options) >= 3
    for (index,), together in predict_planes(stack, engine, options):
        (alone,) = engine.predict([stack[index]], options)
        assert len(alone.candidates) > 5
        assert together.candidates.boxes_xyxy.tolist() == alone.candidates.boxes_xyxy.tolist()


# faults -------------------------------------------------------------------------------------------


def test_a_plane_that_does_not_exist_is_an_image_error() -> None:
    image = as_image_array(np.stack([spots(255)] * 2), name="stack")
    with pytest.raises(ImageError, match=r"stack: no plane \(2,\)"):
        list(predict_planes(image, ThresholdEngine(), PredictOptions(), indices=[(2,)]))


@pytest.mark.parametrize("changes", [{"engine": "reference"}, {"device": "cpu"}])
def test_an_engine_cannot_be_made_another_one(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="are chosen when a model is loaded"):
        segment(np.zeros((8, 8), np.uint8), ThresholdEngine(), **changes)
