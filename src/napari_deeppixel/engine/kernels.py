"""Kernels that numba compiles: in the background, never in front of a waiting person.

A module ``<name>_jit`` holds functions with explicit signatures, so importing it compiles them all,
or loads them from numba's cache on disk. Until that is done, callers take torch's own operations,
which give the same result more slowly.
"""

import functools
import importlib
import logging
import os
import sys
import tempfile
import threading
from types import ModuleType

_MODULES = ("roi_align_jit", "winograd_jit", "nms_jit", "paste_jit")

_logger = logging.getLogger(__name__)
_ready: dict[str, ModuleType] = {}


def prepare_kernels() -> None:
    """Start to compile all kernels in a background thread, unless that was done before."""
    _compiling()


def kernels(name: str) -> ModuleType | None:
    """Return the module of compiled kernels; None while it is not ready, or cannot be."""
    return _ready.get(name)


def wait_for_kernels() -> bool:
    """Wait until all kernels are compiled; return whether they are all there."""
    _compiling().join()
    return len(_ready) == len(_MODULES)


@functools.cache
def _compiling() -> threading.Thread:
    # no daemon: a program that ends while LLVM compiles would crash
    thread = threading.Thread(target=_compile, name="kernels")
    thread.start()
    return thread


def _compile() -> None:
    _yield_to_others()
    for name in _MODULES:
        if not threading.main_thread().is_alive():
            # the program ends: it waits for this thread
            return
        try:
            _ready[name] = _import(f"napari_deeppixel.engine.{name}")
        # numba must fit the Python, and LLVM the processor
        except Exception as error:
            _logger.warning("no compiled kernels (%s): slower, same results (%s)", name, error)
            _logger.debug("why", exc_info=True)


def _import(name: str) -> ModuleType:
    """Import a module of kernels, into a folder of this process if numba can write nowhere else."""
    try:
        return importlib.import_module(name)
    except RuntimeError as error:
        if "no locator" not in str(error):
            raise
    import numba

    _logger.warning(
        "kernels are compiled anew in each process: set NUMBA_CACHE_DIR to a folder that can be "
        "written, or make the home folder writable"
    )
    numba.config.CACHE_DIR = _folder_of_process().name  # type: ignore[attr-defined]  # no stub
    return importlib.import_module(name)


@functools.cache
def _folder_of_process() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="napari-deeppixel-kernels-")


def _yield_to_others() -> None:
    """Give this thread a lower priority, where the system can do that for one thread.

    Not the lowest: whoever waits for Python's lock while it is held here waits with it.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 5)
