"""The sockets that a library opened for us and does not give away."""

import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from types import TracebackType
from typing import Self


class OwnSockets:
    """Knows the sockets that this process connected to a port inside a ``with``.

    FFmpeg waits for a network inside C and cannot be told to stop (closing it from another thread
    crashes); shutting its socket down from outside ends that wait at once. Where open files
    cannot be listed (Windows), nothing is found, and the wait ends when its time is over.

    Parameters
    ----------
    port
        What they are connected to.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._before: set[int] = set()
        self._own: set[int] | None = None

    def __enter__(self) -> Self:
        self._before = {inode for inode, _ in _connected(self._port)}
        self._own = None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._own = {inode for inode, _ in _connected(self._port)} - self._before

    def shut_down(self) -> None:
        """End what waits for them; from any thread."""
        for inode, connection in _connected(self._port):
            is_own = inode not in self._before if self._own is None else inode in self._own
            if is_own:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


def _connected(port: int) -> Iterator[tuple[int, socket.socket]]:
    """Yield (inode, socket) of each connection of this process to a port."""
    folder = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    numbers: list[str] = []
    with contextlib.suppress(OSError):
        numbers = os.listdir(folder)
    for number in map(int, numbers):
        # closed since it was listed, or not connected
        with contextlib.suppress(OSError):
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                continue
            with socket.socket(fileno=os.dup(number)) as connection:
                peer = connection.getpeername()
                # that of the display's socket is a path
                if isinstance(peer, tuple) and peer[1] == port:
                    yield os.fstat(connection.fileno()).st_ino, connection
