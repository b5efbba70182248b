"""What is recorded is used only after it gave the right answer; no GPU is needed for that.

A fake recorder stands for CUDA graphs: its recording runs the function again, into tensors that
stay, as a replay does.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any
from unittest.mock import Mock, create_autospec

import numpy as np
import pytest
import torch
from tests.engine.networks import noise, slim_model

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.engine.cuda_graph import Batch, CudaRecorder, Function, Programs
from napari_deeppixel.engine.fixed_shape import FixedShapeForward, settings_of
from napari_deeppixel.engine.spec import slim_spec

CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Sums:
    totals: Any
    is_even: Any


class Adder:
    """Sums the pixels of each image, and counts how often it is called on the host."""

    def __init__(self, offset: int = 0) -> None:
        self.offset, self.calls = offset, 0

    def __call__(self, pixels: Any, scale: Any) -> tuple[Sums, Any]:
        self.calls += 1
        totals = pixels.to(torch.float32).flatten(1).sum(dim=1) * scale[:, 0] + self.offset
        return Sums(totals=totals, is_even=totals % 2 == 0), {"pixels": pixels.float()}


class FakeRecording:
    def __init__(self, function: Function, inputs: Sequence[Any]) -> None:
        self.function, self.inputs = function, inputs
        self.result = function(*inputs)
        self.replays, self.is_closed = 0, False

    def replay(self) -> None:
        self.replays += 1
        answer, rest = self.function(*self.inputs)
        for field in fields(answer):
            getattr(self.result[0], field.name).copy_(getattr(answer, field.name))
        for name, tensor in rest.items():
            self.result[1][name].copy_(tensor)

    def close(self) -> None:
        self.is_closed = True


class BakedIn(FakeRecording):
    """Holds on to the values that it was recorded with."""

    def __init__(self, function: Function, inputs: Sequence[Any]) -> None:
        super().__init__(function, [tensor.clone() for tensor in inputs])


class FakeRecorder:
    def __init__(self, make: Callable[..., Any] = FakeRecording) -> None:
        self.make, self.tries = make, 0
        self.recordings: list[FakeRecording] = []

    def record(self, function: Function, inputs: Sequence[Any]) -> Any:
        self.tries += 1
        self.recordings.append(self.make(function, inputs))
        return self.recordings[-1]


def no_recording(*_: Any) -> Any:
    raise RuntimeError("operation not permitted when stream is capturing")


def planes(*values: int, shape: tuple[int, ...] = (2, 3), dtype: Any = np.uint16) -> Any:
    """Return the inputs of a batch: planes of one value each, and a scale of 1 each."""
    return [np.full(shape, value, dtype) for value in values], [np.ones(1, np.float32)] * len(
        values
    )


def totals(batch: Batch) -> list[float]:
    found: list[float] = batch.answer().totals.tolist()
    return found


def programs(recorder: Any = None, **limits: Any) -> Programs:
    return Programs(CPU, recorder=recorder, **limits)


def test_a_batch_gives_its_answer_on_the_host_and_keeps_the_rest_on_the_device() -> None:
    batch = programs().submit("sum", Adder, planes(1, 60000))
    assert totals(batch) == [6, 360000]
    assert batch.answer().is_even.tolist() == [True, True]
    assert batch.result is not None
    assert batch.result[1]["pixels"].shape == (2, 2, 3)


def test_a_function_is_recorded_when_it_is_asked_for_again() -> None:
    recorder, adder = FakeRecorder(), Adder()
    runner = programs(recorder)
    assert totals(runner.submit("sum", lambda: adder, planes(1))) == [6]
    assert (adder.calls, len(recorder.recordings)) == (1, 0)
    assert totals(runner.submit("sum", lambda: adder, planes(2))) == [12]
    assert len(recorder.recordings) == 1
    # only the check has replayed it so far
    assert recorder.recordings[0].replays == 1
    for value in (3, 4):
        assert totals(runner.submit("sum", lambda: adder, planes(value))) == [6 * value]
    assert len(recorder.recordings) == 1
    assert recorder.recordings[0].replays == 3


def test_answers_outlive_the_batches_that_are_written_over_them() -> None:
    runner = programs(FakeRecorder())
    batches = [runner.submit("sum", Adder, planes(value)) for value in range(5)]
    assert [totals(batch) for batch in batches] == [[6.0 * value] for value in range(5)]
    assert [batch.result is None for batch in batches] == [True] * 4 + [False]


def test_arrays_may_be_changed_once_they_are_handed_over() -> None:
    inputs = planes(5)
    batch = programs().submit("sum", Adder, inputs)
    inputs[0][0][:] = 0
    assert totals(batch) == [30]
    assert batch.result is not None
    assert batch.result[1]["pixels"].unique().tolist() == [5]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (BakedIn, "other results than the plain call"),
        (no_recording, "not permitted when stream is capturing"),
    ],
)
def test_without_a_right_recording_the_plain_call_goes_on_and_it_is_said_once(
    make: Callable[..., Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    recorder, adder = FakeRecorder(make), Adder()
    runner = programs(recorder)
    with caplog.at_level(logging.WARNING):
        for value in range(1, 6):
            assert totals(runner.submit("sum", lambda: adder, planes(value))) == [6 * value]
    assert [reason in record.message for record in caplog.records] == [True]
    assert recorder.tries == 1
    assert all(recording.is_closed for recording in recorder.recordings)


def test_other_errors_of_a_recorder_are_not_hidden() -> None:
    def mistaken(*_: Any) -> Any:
        raise TypeError("a bug")

    runner = programs(FakeRecorder(mistaken))
    runner.submit("sum", Adder, planes(1))
    with pytest.raises(TypeError, match="a bug"):
        runner.submit("sum", Adder, planes(1))


@pytest.mark.parametrize(
    "other",
    [
        ("sum", planes(1, 1)),
        ("sum", planes(1, shape=(3, 2))),
        ("sum", planes(1, dtype=np.uint8)),
        ("other", planes(1)),
    ],
    ids=["batch", "shape", "dtype", "key"],
)
def test_each_key_shape_and_type_has_its_own_recording(other: tuple[str, Any]) -> None:
    recorder = FakeRecorder()
    runner = programs(recorder)
    made: list[Adder] = []

    def make() -> Adder:
        made.append(Adder(offset=len(made)))
        return made[-1]

    for _ in range(3):
        assert totals(runner.submit("sum", make, planes(1)))[0] == 6
        assert totals(runner.submit(other[0], make, other[1]))[0] == 7
    assert (len(made), len(recorder.recordings)) == (2, 2)


def test_the_least_recently_used_recordings_give_their_memory_back() -> None:
    recorder = FakeRecorder()
    runner = programs(recorder, max_programs=2)

    def ask(key: str) -> Batch:
        runner.submit(key, Adder, planes(1))
        return runner.submit(key, Adder, planes(1))

    first, _ = ask("a"), ask("b")
    ask("a")
    assert [recording.is_closed for recording in recorder.recordings] == [False, False]
    last = ask("c")
    assert [recording.is_closed for recording in recorder.recordings] == [False, True, False]
    runner.clear()
    assert all(recording.is_closed for recording in recorder.recordings)
    assert (totals(first), totals(last)) == ([6], [6])
    assert last.result is None


def test_a_recorded_network_finds_the_same_as_the_plain_one() -> None:
    model = slim_model(slim_spec("m", CategoryTable.from_names("cell"), fpn_channels=16))
    settings = settings_of(model, (64, 96))
    runner = programs(FakeRecorder())

    def forward() -> Function:
        return partial(FixedShapeForward(model, settings, device=CPU), slots=32)

    scaling = [np.array([0, 255, 0, 1], np.float32)]
    images = [noise(64, 96, seed=seed) for seed in range(4)]
    batches = [runner.submit(settings, forward, ([image], scaling)) for image in images]
    for image, batch in zip(images, batches, strict=True):
        plain = programs().submit(settings, forward, ([image], scaling)).answer()
        for field in fields(plain):
            have, want = getattr(batch.answer(), field.name), getattr(plain, field.name)
            assert torch.equal(have, want)
        assert plain.is_valid.sum() > 10


def test_cuda_is_asked_in_the_order_that_torch_prescribes(monkeypatch: pytest.MonkeyPatch) -> None:
    # without a GPU: stand-ins that take only the arguments that torch's own take
    order = Mock()
    for name in ("Stream", "stream", "current_stream", "CUDAGraph", "graph", "synchronize"):
        stand_in = create_autospec(getattr(torch.cuda, name))
        order.attach_mock(stand_in, name)
        monkeypatch.setattr(torch.cuda, name, stand_in)
    order.function.return_value = ("answer", "rest")
    inputs = [torch.zeros(2)]
    recording = CudaRecorder().record(order.function, inputs)
    recording.replay()
    assert recording.result == ("answer", "rest")
    recording.close()

    aside, computing = order.Stream.return_value, order.current_stream.return_value
    recorded = order.CUDAGraph.return_value
    names = [name for name, *_ in order.mock_calls]
    once, queued = names.index("stream().__enter__"), names.index("stream().__exit__")
    captured, done = names.index("graph().__enter__"), names.index("graph().__exit__")
    calls = [position for position, name in enumerate(names) if name == "function"]
    assert [once < call < queued for call in calls] == [True, True, False]
    assert captured < calls[2] < done < names.index("CUDAGraph().replay")
    assert names.index("synchronize") < names.index("CUDAGraph().reset")
    aside.wait_stream.assert_called_once_with(computing)
    computing.wait_stream.assert_called_once_with(aside)
    order.stream.assert_called_once_with(aside)
    order.graph.assert_called_once_with(recorded, stream=aside, capture_error_mode="thread_local")
