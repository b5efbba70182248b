"""What a GPU runs, here on the CPU: the same instances as torchvision's forward."""

import logging
from typing import Any

import numpy as np
import pytest
import torch
from tests.engine.networks import noise, slim_model
from tests.engine.same_instances import assert_same_instances

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.progress import CancelToken, RunCancelled
from napari_deeppixel.engine import device_forward, fixed_shape
from napari_deeppixel.engine.base import PredictOptions
from napari_deeppixel.engine.device_forward import DeviceForward
from napari_deeppixel.engine.fast import FastEngine
from napari_deeppixel.engine.kernels import wait_for_kernels
from napari_deeppixel.engine.maskrcnn import MaskRCNNEngine
from napari_deeppixel.engine.spec import slim_spec

Pair = tuple[MaskRCNNEngine, FastEngine]


@pytest.fixture
def engines() -> Pair:
    """The reference, and an engine that does on the CPU what it does on CUDA."""
    assert wait_for_kernels()
    spec = slim_spec(
        "random",
        CategoryTable.from_names("cell", "debris"),
        rpn_post_nms_top_n=120,
        fpn_channels=16,
    )
    model = slim_model(spec)
    fast = FastEngine(spec, model)
    fast._has_fixed_shapes = True
    return MaskRCNNEngine(spec, model), fast


def assert_same(engines: Pair, planes: list[np.ndarray], options: PredictOptions) -> int:
    want, have = (engine.predict(planes, options) for engine in engines)
    return sum(assert_same_instances(*both) for both in zip(want, have, strict=True))


def batches_of(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many planes each batch holds, from now on."""
    sizes: list[int] = []
    submit = DeviceForward._submit

    def watch(self: DeviceForward, staged: Any) -> Any:
        sizes.append(len(staged))
        return submit(self, staged)

    monkeypatch.setattr(DeviceForward, "_submit", watch)
    return sizes


def test_planes_of_many_sizes_and_types_come_back_in_their_order(
    engines: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = batches_of(monkeypatch)
    planes = [
        noise(60, 90),
        noise(60, 90, seed=1),
        noise(48, 70, seed=2),
        np.zeros((60, 90, 3), np.uint8),
        noise(60, 90, seed=3).astype(np.uint16) * 40,
        noise(60, 90, seed=4).astype(np.float64) / 7,
        np.full((60, 90, 3), np.nan, np.float32),
        np.zeros((60, 90, 3), np.bool_),
        noise(60, 90, channels=1, seed=5),
    ]
    want, have = (engine.predict(planes, PredictOptions()) for engine in engines)
    counts = [assert_same_instances(*both) for both in zip(want, have, strict=True)]
    assert [n for n, count in enumerate(counts) if count == 0] == [3, 6, 7]
    assert sizes == [2, 1, 1, 1, 1]


def test_many_planes_go_in_several_batches(engines: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_forward, "_BATCH", 2)
    sizes = batches_of(monkeypatch)
    assert assert_same(engines, [noise(48, 64, seed=n) for n in range(5)], PredictOptions()) > 50
    assert sizes == [2, 2, 1]


def test_masks_beyond_the_guess_are_computed_too(
    engines: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_forward, "_FIRST_MASKS", 1)
    planes = [noise(80, 120), noise(80, 120, seed=1)]
    options = PredictOptions(box_nms=0.9)
    want, have = (engine.predict(planes, options) for engine in engines)
    # one batch has room for 32 and more were found
    assert max(assert_same_instances(*both) for both in zip(want, have, strict=True)) > 32
    monkeypatch.setattr(device_forward, "_BATCH", 1)
    engines[1]._device_forwards.clear()
    # the features of the first are written over by the second: it is done again
    assert assert_same(engines, planes, options) > 64


def test_where_fixed_shapes_have_no_room_torchvisions_forward_is_taken(
    engines: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fixed_shape, "NMS_ITERATIONS", 1)
    settings = fixed_shape.Settings
    monkeypatch.setattr(
        fixed_shape, "Settings", lambda **values: settings(**values, max_candidates=5)
    )
    assert assert_same(engines, [noise(60, 90), noise(60, 90, seed=1)], PredictOptions()) > 20


def test_a_batch_that_does_not_fit_is_done_by_torchvisions_forward(
    engines: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleared = []

    def run_out(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(DeviceForward, "_submit", run_out)
    monkeypatch.setattr(DeviceForward, "clear", lambda _self: cleared.append(True))
    assert assert_same(engines, [noise(60, 90), noise(60, 90, seed=1)], PredictOptions()) > 20
    assert cleared == [True]


def test_memory_that_ends_before_the_first_batch_is_no_other_error(
    engines: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(DeviceForward, "__init__", run_out)
    assert assert_same(engines, [noise(60, 90)], PredictOptions()) > 5


def test_memory_that_ends_with_more_masks_is_no_error_either(
    engines: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_forward, "_FIRST_MASKS", 1)
    masks_of = fixed_shape.FixedShapeForward.masks_of

    def run_out(self: Any, levels: Any, boxes: Any, class_indices: Any) -> Any:
        if boxes.shape[1] > 32:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return masks_of(self, levels, boxes, class_indices)

    monkeypatch.setattr(fixed_shape.FixedShapeForward, "masks_of", run_out)
    assert assert_same(engines, [noise(80, 120)], PredictOptions(box_nms=0.9)) > 32


def test_sizes_that_were_seen_long_ago_are_forgotten(
    engines: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_forward, "_MAX_FORWARDS", 2)
    for n in range(4):
        assert assert_same(engines, [noise(48, 64 + 32 * n, seed=n)], PredictOptions()) > 5
    (forward,) = engines[1]._device_forwards.values()
    assert len(forward._forwards) == 2


def test_a_fault_is_told_and_torchvisions_forward_goes_on(
    engines: Pair, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("CUDA error: invalid argument")

    monkeypatch.setattr(DeviceForward, "_submit", fail)
    with caplog.at_level(logging.WARNING):
        assert assert_same(engines, [noise(60, 90)], PredictOptions()) > 5
        assert assert_same(engines, [noise(60, 90)], PredictOptions()) > 5
    assert caplog.text.count("CUDA error: invalid argument") == 1


def test_a_cancelled_run_stops_before_its_next_batch_and_the_next_run_goes_on(
    engines: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_forward, "_BATCH", 1)
    cancel = CancelToken()
    submit = DeviceForward._submit
    done: list[int] = []

    def cancel_at_second(self: DeviceForward, staged: Any) -> Any:
        done.append(1)
        if len(done) == 2:
            cancel.cancel()
        return submit(self, staged)

    monkeypatch.setattr(DeviceForward, "_submit", cancel_at_second)
    planes = [noise(48, 64, seed=n) for n in range(4)]
    with pytest.raises(RunCancelled):
        engines[1].predict(planes, PredictOptions(), cancel=cancel)
    assert len(done) == 2
    assert assert_same(engines, planes, PredictOptions()) > 20
