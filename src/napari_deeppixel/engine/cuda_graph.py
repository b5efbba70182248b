"""Functions of fixed shape on a GPU: recorded once, replayed with one launch, fed without waiting.

A forward of hundreds of small kernels takes longer to queue than to run. A CUDA graph replays all
of them at once, at the same memory addresses: so inputs are copied into tensors that stay, and
answers are copied out of such. While one batch is computed, the pixels of the next go up.

A recording is used after it gave the answer of the plain call, on pixels other than those it was
recorded with. Where that fails, the plain call is used: it takes the same inputs.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.engine.torch_gate import torch

# Device tensors in; out come a dataclass of tensors, which goes to the host, and what stays on the
# device. It must not wait for the device, nor read on the host what changes between calls.
Function = Callable[..., tuple[Any, Any]]

# each recording holds the memory of a whole forward
_MAX_PROGRAMS = 4
# the same kernels give the same bits, but libraries may choose others
_TOLERANCE = 1e-3

_logger = logging.getLogger(__name__)


class Recording(Protocol):
    """A recorded call."""

    @property
    def result(self) -> tuple[Any, Any]:
        """What the function gave: tensors that `replay` writes anew."""
        ...

    def replay(self) -> None:
        """Run it again on what the inputs hold now."""
        ...

    def close(self) -> None:
        """Give its memory back."""
        ...


class Recorder(Protocol):
    """Records calls."""

    def record(self, function: Function, inputs: Sequence[Any]) -> Recording:
        """Return the recorded call of a function with input tensors that stay.

        Raises
        ------
        RuntimeError
            If it cannot be recorded.
        """
        ...


class CudaRecorder:
    """Records into CUDA graphs (a `Recorder`)."""

    def record(self, function: Function, inputs: Sequence[Any]) -> Recording:
        """Return the recorded call; see `Recorder`."""
        device = inputs[0].device
        # as torch's notes on CUDA graphs ask: calls on a side stream first, so that libraries are
        # set up and have chosen their kernels
        computing, aside = torch.cuda.current_stream(device), torch.cuda.Stream(device)
        aside.wait_stream(computing)
        with torch.cuda.stream(aside):
            for _ in range(2):
                function(*inputs)
        computing.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        # "thread_local": what other threads do with the device meanwhile fails neither them nor us
        with torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local"):
            result = function(*inputs)
        return _CudaRecording(graph, result, device)


class _CudaRecording:
    def __init__(self, graph: Any, result: tuple[Any, Any], device: Any) -> None:
        self._graph, self._device = graph, device
        self.result: tuple[Any, Any] = result

    def replay(self) -> None:
        self._graph.replay()

    def close(self) -> None:
        # a replay may still be under way
        torch.cuda.synchronize(self._device)
        self._graph.reset()
        self.result = (None, None)
        torch.cuda.empty_cache()


class Batch:
    """A batch under way."""

    def __init__(self, result: tuple[Any, Any], on_host: Any, done: Any) -> None:
        self._result: tuple[Any, Any] | None = result
        self._on_host, self._done = on_host, done

    @property
    def result(self) -> tuple[Any, Any] | None:
        """What the function gave, on the device; None once a later batch is written over it."""
        return self._result

    def answer(self) -> Any:
        """Return what goes to the host, a dataclass of CPU tensors, as soon as it is there."""
        if self._done is not None:
            self._done.synchronize()
        return self._on_host

    def forget_result(self) -> None:
        """Let go of what is on the device."""
        self._result = None


class Programs:
    """Runs functions of fixed shape on batches of host arrays, recorded where that works.

    A function is recorded when it is asked for the second time: recording takes several calls, and
    an odd size that comes once should not wait for it. The least recently used functions are
    forgotten. For one thread at a time.

    Parameters
    ----------
    device
        torch device. On the CPU, all is done at once.
    recorder
        None: CUDA graphs on CUDA, nothing is recorded elsewhere.
    max_programs
        How many functions are kept, with their memory.
    """

    def __init__(
        self,
        device: Any,
        *,
        recorder: Recorder | None = None,
        max_programs: int = _MAX_PROGRAMS,
    ) -> None:
        if recorder is None and device.type == "cuda":
            recorder = CudaRecorder()
        self._copies = _Copies(device)
        self._recorder, self._max_programs = recorder, max_programs
        self._programs: OrderedDict[Hashable, _Program] = OrderedDict()
        self._unrecordable: set[Hashable] = set()

    def submit(
        self,
        key: Hashable,
        make_function: Callable[[], Function],
        inputs: Sequence[Sequence[NDArray[Any]]],
    ) -> Batch:
        """Start a function on a batch, and return before it is done.

        Parameters
        ----------
        key
            All that the function depends on besides its inputs, their shapes and types.
        make_function
            Called when the key is new or was forgotten.
        inputs
            For each input one array an image, all of one shape and type: they are stacked on the
            way up, and may be changed afterwards.
        """
        key = (key, *((len(arrays), arrays[0].shape, arrays[0].dtype.str) for arrays in inputs))
        # tensors that are made in inference mode can be written to nowhere else
        with torch.inference_mode():
            uploaded = [self._copies.up(arrays) for arrays in inputs]
            program = self._program(key, make_function, uploaded)
            if program.latest is not None:
                program.latest.forget_result()
            for tensor, values in zip(program.inputs, uploaded, strict=True):
                tensor.copy_(values)
            result = self._run(key, program)
            program.latest = Batch(result, *self._copies.down(result[0]))
        return program.latest

    def clear(self) -> None:
        """Forget all functions and give their memory back."""
        while self._programs:
            self._forget_oldest()

    def _program(
        self, key: Hashable, make_function: Callable[[], Function], inputs: Sequence[Any]
    ) -> "_Program":
        program = self._programs.pop(key, None)
        if program is None:
            while len(self._programs) >= self._max_programs:
                self._forget_oldest()
            program = _Program(make_function(), inputs)
        self._programs[key] = program
        return program

    def _forget_oldest(self) -> None:
        _, program = self._programs.popitem(last=False)
        program.close()

    def _run(self, key: Hashable, program: "_Program") -> tuple[Any, Any]:
        if program.recording is not None:
            program.recording.replay()
            return program.recording.result
        result = program.function(*program.inputs)
        if program.has_run and self._recorder is not None and key not in self._unrecordable:
            program.recording = _checked_recording(self._recorder, program, expected=result[0])
            if program.recording is None:
                self._unrecordable.add(key)
        program.has_run = True
        return result


class _Program:
    """A function with the tensors that it reads."""

    def __init__(self, function: Function, inputs: Sequence[Any]) -> None:
        self.function = function
        self.inputs = [torch.empty_like(tensor) for tensor in inputs]
        self.recording: Recording | None = None
        self.has_run = False
        self.latest: Batch | None = None

    def close(self) -> None:
        if self.latest is not None:
            self.latest.forget_result()
        if self.recording is not None:
            self.recording.close()


def _checked_recording(recorder: Recorder, program: _Program, *, expected: Any) -> Recording | None:
    """Return a recording that gives what is expected of the present inputs; None: no such."""
    present = [tensor.clone() for tensor in program.inputs]
    recording, reason = None, "it gave other results than the plain call"
    try:
        # on other values, so that any that are baked in show
        for tensor in program.inputs:
            tensor.zero_()
        recording = recorder.record(program.function, program.inputs)
    # capture fails with many kinds of these: a wait, memory, a library that does not support it
    except RuntimeError as error:
        reason = str(error)
    for tensor, values in zip(program.inputs, present, strict=True):
        tensor.copy_(values)
    if recording is not None:
        recording.replay()
        if _agree(recording.result[0], expected):
            return recording
        recording.close()
    _logger.warning("prediction goes on without a CUDA graph, slower, as before: %s", reason)
    return None


class _Copies:
    """Copies between host and device that run beside what is computed.

    torch's allocators keep memory from being used again before the copies from or to it are done.
    """

    def __init__(self, device: Any) -> None:
        self._device, self._is_cuda = device, device.type == "cuda"
        self._stream = torch.cuda.Stream(device) if self._is_cuda else None

    def up(self, arrays: Sequence[NDArray[Any]]) -> Any:
        """Return arrays as one tensor (B, …) on the device."""
        dtype = torch.from_numpy(np.empty(0, arrays[0].dtype)).dtype
        shape = (len(arrays), *arrays[0].shape)
        stacked = torch.empty(shape, dtype=dtype, pin_memory=self._is_cuda)
        np.stack(arrays, out=stacked.numpy())
        if self._stream is None:
            return stacked.to(self._device)
        with torch.cuda.stream(self._stream):
            uploaded = stacked.to(self._device, non_blocking=True)
        computing = torch.cuda.current_stream(self._device)
        computing.wait_stream(self._stream)
        uploaded.record_stream(computing)
        return uploaded

    def down(self, answer: Any) -> tuple[Any, Any]:
        """Return a dataclass of tensors on the host, and the event after which they hold values.

        The event is None where they do so already.
        """
        tensors = {field.name: getattr(answer, field.name) for field in fields(answer)}
        on_host = {
            name: torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=self._is_cuda)
            for name, tensor in tensors.items()
        }
        for name, tensor in tensors.items():
            on_host[name].copy_(tensor, non_blocking=True)
        done = torch.cuda.current_stream(self._device).record_event() if self._is_cuda else None
        return type(answer)(**on_host), done


def _agree(answer: Any, expected: Any) -> bool:
    """Whether two dataclasses of tensors hold the same up to rounding."""
    for field in fields(expected):
        has, wanted = getattr(answer, field.name), getattr(expected, field.name)
        if has.shape != wanted.shape or has.dtype != wanted.dtype:
            return False
        tolerance = _TOLERANCE if wanted.is_floating_point() else 0
        if not torch.allclose(has, wanted, rtol=tolerance, atol=tolerance, equal_nan=True):
            return False
    return True
