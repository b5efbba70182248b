"""Work split over the CPU's cores, by threads that each have one core to themselves."""

import functools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from napari_deeppixel.engine.torch_gate import torch

# enough for one slow core not to hold up the others
_PARTS_A_CORE = 4

_lock = threading.Lock()


def parts_of(pieces: range) -> list[range]:
    """Return a range in a few parts, for `on_all_cores`."""
    size = max(1, len(pieces) // (_PARTS_A_CORE * torch.get_num_threads()))
    return [pieces[n : n + size] for n in range(0, len(pieces), size)]


def on_all_cores(work: Callable[[Any], None], pieces: Sequence[Any]) -> None:
    """Call a function with each piece of work, on as many threads as torch may use.

    What torch does in these threads uses one core each: numba's kernels alternate there with
    torch's matrix products, and torch's own threads would wait, spinning, for their share of each.
    Numba's parallel loops are no way out: its thread pools differ from torch's, and the one that
    every system has must not be used from two threads at once.
    """

    def without_gradients(piece: Any) -> None:
        # inference mode is a setting of the thread
        with torch.inference_mode():
            work(piece)

    try:
        with _lock:
            # a forked process has none of the threads
            pool = _pool(torch.get_num_threads(), os.getpid())
        done = pool.map(without_gradients, pieces)
    except RuntimeError:
        # the program's main thread has ended, and from then on pools take no more work
        for piece in pieces:
            without_gradients(piece)
        return
    for _ in done:
        pass


@functools.lru_cache(maxsize=4)
def _pool(count: int, _process: int) -> ThreadPoolExecutor:
    pool = ThreadPoolExecutor(count, thread_name_prefix="core")
    all_here = threading.Barrier(count)

    def settle(_: int) -> None:
        # a thread's first question sets it up: later, that would undo the setting
        torch.get_num_threads()
        torch.set_num_threads(1)
        all_here.wait()

    list(pool.map(settle, range(count)))
    # it is a setting of the thread, but also what threads take that are new to torch
    torch.set_num_threads(count)
    return pool
