"""Connections of a widget to signals that live longer than it does."""

from collections.abc import Callable
from typing import Any
from weakref import WeakMethod


class Links:
    """Keeps which methods were connected to which signals, to undo all of it at once.

    The methods are not kept alive. A widget closes its links when it lets go of what it shows,
    and connects `close` to its own ``destroyed``.
    """

    def __init__(self) -> None:
        self._pairs: list[tuple[Any, WeakMethod[Callable[..., Any]]]] = []

    def connect(self, signal: Any, slot: Callable[..., Any]) -> None:
        """Connect a method to a signal of psygnal or napari."""
        signal.connect(slot)
        self._pairs.append((signal, WeakMethod(slot)))

    def close(self, *_args: Any) -> None:
        """Undo all connections; may be called more than once."""
        for signal, weak in self._pairs:
            slot = weak()
            if slot is not None:
                signal.disconnect(slot)
        self._pairs.clear()
