"""A source that something else feeds, such as a layer that another plugin keeps updating."""

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from napari_deeppixel.live.latest import Latest
from napari_deeppixel.live.source import Frame, SourceError, SourceInfo, StreamInfo

_WAIT_S = 0.2


class PushedSource:
    """Gives what is pushed into it, from any thread; the newest wins.

    One that nothing comes into is silent, not broken: whoever feeds it may have paused.

    Parameters
    ----------
    info
        What it is.
    """

    def __init__(self, info: SourceInfo) -> None:
        self._info = info
        self._pushed: Latest[NDArray[Any]] = Latest()
        self._error: SourceError | None = None
        self._is_over = False

    @property
    def info(self) -> SourceInfo:
        """What it is."""
        return self._info

    def push(self, pixels: NDArray[Any]) -> None:
        """Give the next frame, (H, W) or (H, W, C); nobody may write into it any more."""
        self._pushed.put(pixels)

    def end(self, error: SourceError | None = None) -> None:
        """Say that nothing comes any more, and why."""
        self._error, self._is_over = error, True
        self._pushed.close()

    def open(self) -> StreamInfo:
        """Return that nothing is known before the first frame."""
        return StreamInfo()

    def frames(self) -> Iterator[Frame]:
        """Yield what is pushed until `end` or `interrupt`.

        Raises
        ------
        SourceError
            If `end` was told one.
        """
        number = 0
        while not self._is_over:
            pixels = self._pushed.take(_WAIT_S)
            if pixels is not None:
                yield Frame(pixels=pixels, number=number)
                number += 1
        if self._error is not None:
            raise self._error

    def interrupt(self) -> None:
        """End `frames`."""
        self.end(self._error)

    def close(self) -> None:
        """Do nothing: there is nothing to let go of."""
