"""The engine round the network: any image, any time, in one piece after every fault."""

import gc
import threading
import weakref
from dataclasses import replace
from importlib import resources
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from tests.core.strategies import assert_same_instances
from tests.engine.networks import noise, slim_engine

from napari_deeppixel.core.category import Category, CategoryTable
from napari_deeppixel.core.errors import DeviceError, ImageError, RunCancelled
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.normalization import Normalization
from napari_deeppixel.core.progress import CancelToken, Progress
from napari_deeppixel.engine.base import PredictOptions
from napari_deeppixel.engine.maskrcnn import MaskRCNNEngine
from napari_deeppixel.engine.weights import load_model

# few, to be quick
FEW = PredictOptions(max_instances=30)


@pytest.fixture(scope="module")
def engine() -> MaskRCNNEngine:
    return slim_engine()


def assert_same_findings(left: InstanceSet, right: InstanceSet) -> None:
    """Check that two runs found the same; each run makes its own uuids."""
    assert_same_instances(left, replace(right, uuids=left.uuids))


def hooks_of(engine: MaskRCNNEngine) -> int:
    return sum(len(module._forward_pre_hooks) for module in engine.model.modules())


def test_images_keep_their_size_on_the_way_into_the_network(engine: MaskRCNNEngine) -> None:
    sizes = []
    hook = engine.model.backbone.register_forward_pre_hook(
        lambda _module, inputs: sizes.append(tuple(inputs[0].shape))
    )
    try:
        engine.predict([noise(31, 33), noise(90, 20)], FEW)
    finally:
        hook.remove()
    # padded to multiples of 32 that hold both, not resized
    assert sizes == [(2, 3, 96, 64)]


@pytest.mark.parametrize("image_hw", [(1, 1), (1, 500), (31, 33), (200, 3)])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_of_any_size_is_predicted(
    engine: MaskRCNNEngine, image_hw: tuple[int, int], channels: int
) -> None:
    (prediction,) = engine.predict([noise(*image_hw, channels)], FEW)
    candidates = prediction.candidates
    assert candidates.image_hw == image_hw
    boxes = candidates.predicted_boxes_xyxy
    assert (boxes >= 0).all()
    assert (boxes[:, 2:] <= [image_hw[1], image_hw[0]]).all()
    assert (candidates.scores >= 0.05).all()
    assert (np.diff(candidates.scores) <= 0).all()
    assert set(candidates.sources) <= {"random@0123456789ab"}
    if min(image_hw) > 30:
        assert len(candidates) > 10
        assert set(candidates.category_ids.tolist()) == {1, 2}


def test_no_plane_gives_no_prediction(engine: MaskRCNNEngine) -> None:
    assert engine.predict([], FEW) == []


def test_grey_and_rgb_of_the_same_grey_give_the_same(engine: MaskRCNNEngine) -> None:
    grey = noise(40, 56, 1)
    rgb = np.repeat(grey, 3, axis=2)
    rgba = np.concatenate([rgb, noise(40, 56, 1, seed=9)], axis=2)
    options = replace(FEW, normalization=Normalization(mode="range", low=0, high=255))
    found = [engine.predict([pixels], options)[0] for pixels in (grey, rgb, rgba)]
    assert len(found[0].candidates) > 10
    assert_same_findings(found[0].candidates, found[1].candidates)
    assert_same_findings(found[0].candidates, found[2].candidates)


def test_uint16_and_float_images_give_the_same_as_uint8(engine: MaskRCNNEngine) -> None:
    # powers of two leave the normalised values as they are
    pixels = noise(40, 56, 1)
    (bytes_,) = engine.predict([pixels], FEW)
    (words,) = engine.predict([pixels.astype(np.uint16) * 128], FEW)
    (floats,) = engine.predict([pixels.astype(np.float32) / 1024], FEW)
    assert len(bytes_.candidates) > 10
    assert_same_findings(bytes_.candidates, words.candidates)
    assert_same_findings(bytes_.candidates, floats.candidates)


def test_nan_pixels_are_taken_for_dark_ones(engine: MaskRCNNEngine) -> None:
    pixels = noise(40, 56, 1).astype(np.float32)
    dark, holes = pixels.copy(), pixels.copy()
    dark[10:20, 5:30] = -1e9
    holes[10:20, 5:30] = np.nan
    options = replace(FEW, normalization=Normalization(mode="range", low=0, high=255))
    found = [engine.predict([pixels], options)[0] for pixels in (dark, holes)]
    assert len(found[0].candidates) > 10
    assert_same_findings(found[0].candidates, found[1].candidates)


BLANK = [np.full((20, 30, 1), np.nan, np.float32), np.zeros((9, 9, 3)), np.full((1, 1, 1), 7)]


@pytest.mark.parametrize("pixels", BLANK)
def test_an_image_without_contrast_holds_no_instance(
    engine: MaskRCNNEngine, pixels: np.ndarray
) -> None:
    (prediction,) = engine.predict([pixels], FEW)
    assert len(prediction.candidates) == prediction.detection_scores.size == 0
    assert prediction.candidates.image_hw == pixels.shape[:2]
    assert not prediction.is_capped(0.0)


@pytest.mark.parametrize("pixels", BLANK)
def test_with_limits_of_its_own_an_image_without_contrast_is_looked_at(
    engine: MaskRCNNEngine, pixels: np.ndarray
) -> None:
    options = replace(FEW, normalization=Normalization(mode="range", low=0, high=255))
    (prediction,) = engine.predict([pixels], options)
    assert np.isfinite(prediction.detection_scores).all()


def test_blank_planes_between_others_keep_their_place(engine: MaskRCNNEngine) -> None:
    blank, cells = np.zeros((40, 56, 1), np.uint8), noise(40, 56)
    found = engine.predict([blank, cells, blank], FEW)
    (alone,) = engine.predict([cells], FEW)
    assert [len(prediction.candidates) for prediction in found[::2]] == [0, 0]
    assert_same_findings(found[1].candidates, alone.candidates)


def test_the_image_stays_as_it_is(engine: MaskRCNNEngine) -> None:
    pixels = noise(40, 56).astype(np.float32)
    before = pixels.copy()
    engine.predict([pixels], FEW)
    assert np.array_equal(pixels, before)


def test_planes_of_one_batch_come_back_in_their_order(engine: MaskRCNNEngine) -> None:
    planes = [noise(32, 64, seed=seed) for seed in range(3)]
    together = engine.predict(planes, FEW)
    for plane, prediction in zip(planes, together, strict=True):
        (alone,) = engine.predict([plane], FEW)
        # torch may sum a batch in another order, so within 0.01 px
        np.testing.assert_allclose(
            alone.candidates.predicted_boxes_xyxy[:5],
            prediction.candidates.predicted_boxes_xyxy[:5],
            atol=0.01,
        )


def test_chosen_channels_feed_the_network(engine: MaskRCNNEngine) -> None:
    plane = np.concatenate([noise(40, 56, 2), noise(40, 56, 3, seed=5)], axis=2)
    (chosen,) = engine.predict([plane], replace(FEW, channels=(2, 3, 4)))
    (one,) = engine.predict([plane], replace(FEW, channels=(4,)))
    (same_as_chosen,) = engine.predict([plane[..., 2:]], FEW)
    (same_as_one,) = engine.predict([plane[..., 4:]], FEW)
    assert len(chosen.candidates) > 10
    assert_same_findings(chosen.candidates, same_as_chosen.candidates)
    assert_same_findings(one.candidates, same_as_one.candidates)


def test_a_channel_that_does_not_exist_is_an_image_error(engine: MaskRCNNEngine) -> None:
    with pytest.raises(ImageError, match=r"channel 3 does not exist: the image has 0\.\.2"):
        engine.predict([noise(9, 9)], PredictOptions(channels=(3,)))
    with pytest.raises(ImageError, match="choose 1 or 3 channels"):
        engine.predict([noise(9, 9)], PredictOptions(channels=(0, 1)))


def test_a_class_that_no_category_stands_for_is_left_out(engine: MaskRCNNEngine) -> None:
    # the same weights, but the network's output 1 has no category
    gappy = CategoryTable(
        categories=(Category(id=30, name="debris", color="#ff0000"),), class_indices=(2,)
    )
    other = MaskRCNNEngine(replace(engine.spec, categories=gappy), engine.model)
    (all_found,) = engine.predict([noise(40, 56)], FEW)
    (found,) = other.predict([noise(40, 56)], FEW)
    is_debris = all_found.candidates.category_ids == 2
    assert 0 < is_debris.sum() < len(is_debris)
    assert set(found.candidates.category_ids.tolist()) == {30}
    assert found.candidates.scores.tolist() == all_found.candidates.scores[is_debris].tolist()


def test_progress_grows_from_nothing_to_almost_one(engine: MaskRCNNEngine) -> None:
    steps: list[Progress] = []
    engine.predict([noise(40, 56)], FEW, on_progress=steps.append)
    fractions = [step.fraction for step in steps]
    assert len(fractions) > 20
    assert fractions == sorted(fractions)
    assert fractions[0] < 0.05
    assert 0.8 < fractions[-1] < 1


def test_cancel_in_the_middle_stops_and_the_engine_works_afterwards(
    engine: MaskRCNNEngine,
) -> None:
    pixels = noise(40, 56)
    (before,) = engine.predict([pixels], FEW)
    cancel, seen = CancelToken(), []

    def stop_after_ten(progress: Progress) -> None:
        seen.append(progress)
        if len(seen) == 10:
            cancel.cancel()

    with pytest.raises(RunCancelled):
        engine.predict([pixels], FEW, cancel=cancel, on_progress=stop_after_ten)
    # not one layer more
    assert len(seen) == 10
    assert hooks_of(engine) == 0
    (after,) = engine.predict([pixels], FEW)
    assert_same_findings(before.candidates, after.candidates)


def test_a_run_that_is_cancelled_before_it_begins_does_not_begin(engine: MaskRCNNEngine) -> None:
    cancel, seen = CancelToken(), []
    cancel.cancel()
    with pytest.raises(RunCancelled):
        engine.predict([noise(9, 9)], FEW, cancel=cancel, on_progress=seen.append)
    assert seen == []


def test_threads_take_turns_and_each_gets_its_own_answer(engine: MaskRCNNEngine) -> None:
    planes = [noise(40, 56, seed=seed) for seed in range(3)]
    options = [replace(FEW, max_instances=count) for count in (5, 20, 40)]
    expected = [engine.predict([p], o)[0].candidates for p, o in zip(planes, options, strict=True)]
    found: dict[int, InstanceSet] = {}

    def work(number: int) -> None:
        found[number] = engine.predict([planes[number]], options[number])[0].candidates

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, instances in enumerate(expected):
        assert_same_findings(instances, found[number])


@pytest.mark.parametrize("limit", [1, 7, 15])
def test_no_more_than_max_instances_are_found_and_they_are_the_best(
    engine: MaskRCNNEngine, limit: int
) -> None:
    pixels = noise(40, 56)
    (many,) = engine.predict([pixels], FEW)
    (few,) = engine.predict([pixels], replace(FEW, max_instances=limit))
    assert few.detection_scores.tolist() == many.detection_scores[:limit].tolist()
    assert few.is_capped(0.05)
    assert not few.is_capped(1.0)


def test_proposals_grow_with_max_instances() -> None:
    engine = slim_engine(rpn_post_nms_top_n=10)
    (few,) = engine.predict([noise(60, 80)], PredictOptions(max_instances=10, box_nms=1))
    (many,) = engine.predict([noise(60, 80)], PredictOptions(max_instances=60, box_nms=1))
    assert len(few.detection_scores) == 10
    assert len(many.detection_scores) == 60


def test_a_lower_box_nms_leaves_fewer_overlaps(engine: MaskRCNNEngine) -> None:
    counts = [
        len(engine.predict([noise(40, 56)], replace(FEW, box_nms=nms))[0].detection_scores)
        for nms in (0.0, 0.2)
    ]
    assert counts[0] < counts[1]


def test_a_higher_mask_threshold_gives_smaller_masks(engine: MaskRCNNEngine) -> None:
    areas = [
        engine.predict([noise(40, 56)], replace(FEW, mask_threshold=threshold))[
            0
        ].candidates.areas.sum()
        for threshold in (0.2, 0.5, 0.9)
    ]
    assert areas[0] > areas[1] > areas[2] > 0


class OutOfMemory(torch.nn.Module):
    """A network that runs out of memory when a batch is larger than a limit."""

    def __init__(self, model: Any, limit: int, error: Exception) -> None:
        super().__init__()
        self.inner, self.limit, self.error = model, limit, error
        self.roi_heads, self.rpn, self.transform = model.roi_heads, model.rpn, model.transform
        self.batches: list[int] = []
        self.held: list[weakref.ref] = []
        self.still_held: list[bool] = []

    def forward(self, images: list[torch.Tensor]) -> Any:
        self.still_held.append(any(reference() is not None for reference in self.held))
        self.batches.append(len(images))
        activations = torch.zeros(10)
        self.held.append(weakref.ref(activations))
        if len(images) > self.limit:
            raise self.error
        del activations
        return self.inner(images)


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_a_batch_that_does_not_fit_is_halved_until_it_does(
    engine: MaskRCNNEngine, error: Exception
) -> None:
    planes = [noise(32, 32, seed=seed) for seed in range(3)]
    expected = [engine.predict([plane], FEW)[0].candidates for plane in planes]
    model = OutOfMemory(engine.model, 1, error)
    small = MaskRCNNEngine(engine.spec, model, weights_hash="0123456789abcdef")
    found = small.predict(planes, FEW)
    assert model.batches == [3, 1, 2, 1, 1]
    for alone, halved in zip(expected, found, strict=True):
        assert_same_findings(alone, halved.candidates)


def test_what_a_failed_try_held_is_free_before_the_next(engine: MaskRCNNEngine) -> None:
    model = OutOfMemory(engine.model, 1, torch.OutOfMemoryError("CUDA out of memory"))
    # the garbage collector would hide what a traceback holds
    gc.disable()
    try:
        MaskRCNNEngine(engine.spec, model).predict([noise(9, 9), noise(9, 9)], FEW)
    finally:
        gc.enable()
    assert model.batches == [2, 1, 1]
    assert model.still_held == [False, False, False]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_one_plane_that_does_not_fit_is_a_device_error_that_says_what_to_do(
    engine: MaskRCNNEngine, error: Exception
) -> None:
    small = MaskRCNNEngine(engine.spec, OutOfMemory(engine.model, 0, error))
    with pytest.raises(DeviceError, match=r"\(31, 33\) pixels does not fit .* run on the view"):
        small.predict([noise(31, 33), noise(31, 33)], FEW)
    assert hooks_of(small) == 0


def test_a_size_that_did_not_fit_is_not_tried_again(
    engine: MaskRCNNEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_deeppixel.engine.maskrcnn.free_memory", lambda _: 2**36)
    small = MaskRCNNEngine(engine.spec, OutOfMemory(engine.model, 2, OUT_OF_MEMORY[0]))
    small.predict([noise(16, 24)] * 8, FEW)
    small._device = torch.device("cuda")
    assert small.planes_at_once((16, 24), FEW) == 2
    assert small.planes_at_once((24, 16), FEW) == 16


def test_a_cpu_gets_small_planes_together_and_large_ones_alone(
    engine: MaskRCNNEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_deeppixel.engine.maskrcnn.free_memory", lambda _: 2**36)
    sides = (64, 384, 768, 4096)
    assert [engine.planes_at_once((side, side), FEW) for side in sides] == [16, 4, 1, 1]
    assert engine.planes_at_once((384, 384), replace(FEW, zoom=2)) == 1
    monkeypatch.setattr("napari_deeppixel.engine.maskrcnn.free_memory", lambda _: 0)
    assert engine.planes_at_once((64, 64), FEW) == 1


def test_a_gpu_gets_as_many_planes_as_its_memory_has_room_for(
    engine: MaskRCNNEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 32 x 32 px of 400 bytes and 30 instances of 0.8 MB: 24.4 MB
    monkeypatch.setattr("napari_deeppixel.engine.maskrcnn.free_memory", lambda _: 150_000_000)
    other = MaskRCNNEngine(engine.spec, engine.model)
    other._device = torch.device("cuda")
    assert other.planes_at_once((32, 32), FEW) == 3
    monkeypatch.setattr("napari_deeppixel.engine.maskrcnn.free_memory", lambda _: 0)
    assert other.planes_at_once((32, 32), FEW) == 1


def test_other_errors_of_a_network_are_not_hidden(engine: MaskRCNNEngine) -> None:
    broken = MaskRCNNEngine(engine.spec, OutOfMemory(engine.model, 0, RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        broken.predict([noise(9, 9)], FEW)


def test_bf16_is_close_and_fp32_afterwards_is_as_before() -> None:
    with resources.as_file(resources.files("napari_deeppixel") / "samples") as folder:
        plane = np.asarray(iio.imread(folder / "histology.png"))[:160, :160]
    engine = load_model("nuclei", engine="reference", device="cpu")
    options = PredictOptions(max_instances=100, precision="fp32")
    (before,) = engine.predict([plane], options)
    (low,) = engine.predict([plane], replace(options, precision="bf16"))
    (after,) = engine.predict([plane], options)
    assert_same_findings(before.candidates, after.candidates)
    assert low.detection_scores.tolist() != before.detection_scores.tolist()
    sure = before.at(score=0.6)
    assert len(sure) >= 5
    best = [max(mask.iou(other) for other in low.candidates.masks) for mask in sure.masks]
    assert np.mean(best) > 0.9
    assert min(best) > 0.7


def test_auto_precision_is_fp32_on_the_cpu(engine: MaskRCNNEngine) -> None:
    (auto,) = engine.predict([noise(40, 56)], FEW)
    (full,) = engine.predict([noise(40, 56)], replace(FEW, precision="fp32"))
    assert_same_findings(auto.candidates, full.candidates)


def test_the_engine_says_what_it_is(engine: MaskRCNNEngine) -> None:
    assert engine.spec.name == "random"
    assert engine.source == "random@0123456789ab"
    assert engine.device_name.startswith("CPU")
    assert MaskRCNNEngine(engine.spec, engine.model).source == "random"
