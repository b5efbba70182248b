"""A place for one thing: the newest wins."""

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """Holds the newest thing that was put; what nobody took in time is dropped and counted."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._content: list[T] = []
        self._is_closed = False
        self._num_put = self._num_dropped = 0

    @property
    def num_put(self) -> int:
        """How many things were put."""
        return self._num_put

    @property
    def num_dropped(self) -> int:
        """How many were replaced before somebody took them."""
        return self._num_dropped

    def put(self, thing: T) -> None:
        """Put a thing in the place of what is there."""
        with self._changed:
            self._num_put += 1
            self._num_dropped += len(self._content)
            self._content[:] = [thing]
            self._changed.notify_all()

    def take(self, timeout_s: float = 0.0) -> T | None:
        """Return what is there and leave the place empty; None if nothing comes in time."""
        with self._changed:
            if not self._content and not self._is_closed and timeout_s > 0:
                self._changed.wait_for(lambda: self._content or self._is_closed, timeout_s)
            if not self._content:
                return None
            self._changed.notify_all()
            return self._content.pop()

    def wait_until_empty(self, timeout_s: float) -> bool:
        """Wait until somebody took what is there; return whether the place is empty."""
        with self._changed:
            self._changed.wait_for(lambda: not self._content or self._is_closed, timeout_s)
            return not self._content

    def close(self) -> None:
        """Wake whoever waits, now and later."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
