"""A source and an engine that do what a test tells them."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.core.progress import CancelToken, Progress
from napari_deeppixel.engine.base import Prediction, PredictOptions
from napari_deeppixel.engine.spec import ModelSpec, slim_spec
from napari_deeppixel.live.source import Frame, SourceInfo, StreamInfo

LIVE = SourceInfo(address="test", label="test camera", kind="camera")
FILE = SourceInfo(address="test.mp4", label="test.mp4", kind="file")

# what a script holds: an image, an error to raise, or something to wait for
Step = Any


class ScriptedSource:
    """Plays one script at each opening; the last one again when there are no more.

    A step is an array (a frame), an exception (raised), or an `Event` (waited for). A script that
    begins with an exception cannot be opened. An iterator may go on for ever.
    """

    def __init__(self, *scripts: Iterable[Step], info: SourceInfo = LIVE) -> None:
        self._scripts, self._info = scripts, info
        self._interrupted = threading.Event()
        self.num_opened = self.num_closed = 0
        self.threads: set[int] = set()

    @property
    def info(self) -> SourceInfo:
        return self._info

    def open(self) -> StreamInfo:
        self.threads.add(threading.get_ident())
        script = self._scripts[min(self.num_opened, len(self._scripts) - 1)]
        self.num_opened += 1
        self._script = script
        if isinstance(script, Sequence) and script and isinstance(script[0], Exception):
            raise script[0]
        return StreamInfo(fps=30)

    def frames(self) -> Iterator[Frame]:
        number = 0
        for step in self._script:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, threading.Event):
                while not step.wait(0.01) and not self._interrupted.is_set():
                    pass
                continue
            yield Frame(pixels=step, number=number)
            number += 1

    def interrupt(self) -> None:
        self._interrupted.set()

    def close(self) -> None:
        self.threads.add(threading.get_ident())
        self.num_closed += 1


class ScriptedEngine:
    """Finds one instance, the whole frame; each call does what `on_call` does with its number."""

    def __init__(
        self, on_call: Callable[[int], None] = lambda _: None, *, name: str = "scripted"
    ) -> None:
        self._on_call = on_call
        self._spec = slim_spec(name, CategoryTable.from_names("object"), description="", score=0.5)
        self.num_calls = 0

    @property
    def spec(self) -> ModelSpec:
        return self._spec

    @property
    def source(self) -> str:
        return self._spec.name

    @property
    def device_name(self) -> str:
        return "test device"

    def predict(
        self,
        planes: Sequence[Any],
        options: PredictOptions,
        *,
        cancel: CancelToken | None = None,
        on_progress: Callable[[Progress], None] | None = None,  # noqa: ARG002  the protocol's
    ) -> list[Prediction]:
        self.num_calls += 1
        self._on_call(self.num_calls)
        if cancel is not None:
            cancel.raise_if_cancelled()
        (plane,) = planes
        mask = CroppedMask.from_mask(np.ones(plane.shape[:2], bool))
        assert mask is not None
        found = InstanceSet(
            image_hw=plane.shape[:2],
            masks=(mask,),
            categories=self._spec.categories,
            scores=np.array([0.9]),
            sources=(self.source,),
        )
        return [
            Prediction(
                candidates=found,
                detection_scores=np.array([0.9]),
                max_instances=options.max_instances,
            )
        ]

    def prompter(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


def image(value: int = 0, hw: tuple[int, int] = (4, 6)) -> Any:
    return np.full(hw, value, np.uint8)


def wait_for(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    """Wait until a condition holds; fail if it does not in time."""
    pause = threading.Event()
    for _ in range(round(timeout_s / 0.005)):
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError("what was waited for did not happen in time")
