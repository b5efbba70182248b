"""What every source of moving images gives, and what goes wrong with one."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.core.errors import DeepPixelError


class SourceFault(StrEnum):
    """What is wrong with a source; of these, trying again may help but for the last three."""

    MISSING = "missing"
    BUSY = "busy"
    TIMEOUT = "timeout"
    LOST = "lost"
    OTHER = "other"
    DENIED = "denied"
    FORMAT = "format"
    GONE = "gone"


class SourceError(DeepPixelError):
    """A source cannot be opened, or gives no more frames though it should.

    Parameters
    ----------
    message
        What was expected, what came, and what to do.
    fault
        What is wrong.
    """

    def __init__(self, message: str, *, fault: SourceFault = SourceFault.OTHER) -> None:
        super().__init__(message)
        self.fault = fault


@dataclass(frozen=True, kw_only=True)
class SourceInfo:
    """One source to choose from.

    Attributes
    ----------
    address
        What opens it again: a device, a URL, a path, a layer's name.
    label
        What people call it.
    kind
        ``camera``, ``stream`` and ``layer`` are live: what is not taken in time is gone. A
        ``file`` waits and ends.
    """

    address: str
    label: str
    kind: Literal["camera", "stream", "file", "layer", "synthetic", "screen"]

    @property
    def is_live(self) -> bool:
        """Whether frames that are not taken in time are lost."""
        return self.kind != "file"


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """How to open a source; None and an empty table leave it to the source.

    Attributes
    ----------
    size_hw
        Height and width in pixels.
    fps
        Frames a second.
    timeout_s
        Longest time to wait for the source to open, and for each of its frames.
    is_looped
        Begin a file again at its end.
    extra
        Settings that only this kind of source knows, such as ``rtsp_transport``.

    Raises
    ------
    ValueError
        If a number is not above 0.
    """

    size_hw: tuple[int, int] | None = None
    fps: float | None = None
    timeout_s: float = 5.0
    is_looped: bool = False
    extra: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        numbers: dict[str, float | None] = {"fps": self.fps, "timeout_s": self.timeout_s}
        if self.size_hw is not None:
            numbers |= {"height": self.size_hw[0], "width": self.size_hw[1]}
        for name, value in numbers.items():
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0, got {value}")


@dataclass(frozen=True, kw_only=True)
class StreamInfo:
    """What a source gives once it is open.

    Attributes
    ----------
    image_hw
        Height and width in pixels, as far as known before the first frame.
    fps
        Frames a second that the source promises; None: it does not say.
    description
        For people: codec, pixel format.
    """

    image_hw: tuple[int, int] | None = None
    fps: float | None = None
    description: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """One image of a source.

    Attributes
    ----------
    pixels
        (H, W) grey or (H, W, C); nobody writes into it.
    number
        0, 1, … since the source was opened.
    grabbed_s
        `time.monotonic` when it arrived here.
    device_s
        The source's own stamp in seconds; None where it has none.
    stream
        Which opening of the source it is from: 1, 2, ….
    """

    pixels: NDArray[Any]
    number: int
    grabbed_s: float = field(default_factory=time.monotonic)
    device_s: float | None = None
    stream: int = 1

    def __post_init__(self) -> None:
        if self.pixels.ndim not in (2, 3) or 0 in self.pixels.shape:
            raise SourceError(
                f"a frame must be (H, W) or (H, W, C), got shape {self.pixels.shape}",
                fault=SourceFault.FORMAT,
            )
        if np.dtype(self.pixels.dtype).kind not in "buif":
            raise SourceError(
                f"the pixels of a frame must be numbers, got {self.pixels.dtype}",
                fault=SourceFault.FORMAT,
            )

    @property
    def image_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]


class FrameSource(Protocol):
    """One source. `open`, `frames` and `close` are called from one thread, in this order.

    Waits are bounded: `open` and each step of `frames` take `SourceOptions.timeout_s` at most, or
    end at `interrupt`, so that whoever asks a pipeline to stop never waits for long.
    """

    @property
    def info(self) -> SourceInfo:
        """What it is."""
        ...

    def open(self) -> StreamInfo:
        """Open it; may be called again after `close`.

        Raises
        ------
        SourceError
            If it cannot be opened.
        """
        ...

    def frames(self) -> Iterator[Frame]:
        """Yield frames as they come; return at the end of a file.

        Raises
        ------
        SourceError
            If none comes in time, or the source is gone.
        """
        ...

    def interrupt(self) -> None:
        """Let a wait in `open` or `frames` end soon, and no other begin; from any thread."""
        ...

    def close(self) -> None:
        """Let go of the source; may be called more than once."""
        ...


class SourceProvider(Protocol):
    """A kind of sources, as an entry point of the group ``napari_deeppixel.sources`` gives it."""

    @property
    def name(self) -> str:
        """What people call this kind."""
        ...

    def list_sources(self) -> Sequence[SourceInfo]:
        """Return what is there now; empty if nothing is. May take a second.

        Raises
        ------
        SourceError
            If it cannot be told.
        """
        ...

    def opens(self, address: str) -> bool:
        """Whether this provider takes an address; the first one that does is asked."""
        ...

    def create(self, address: str, options: SourceOptions) -> FrameSource:
        """Return a source that is not open yet.

        Raises
        ------
        SourceError
            If the address names nothing that could be opened.
        """
        ...
