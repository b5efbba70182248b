"""The one door through which torch and torchvision come in.

On Linux, Mesa's drivers and triton's library both bring LLVM. When a window is already drawn with
Mesa and triton is loaded after it, the loader joins triton's LLVM calls to Mesa's LLVM and the
process dies (SIGSEGV). A napari plugin is always imported after the window. Loading triton's
library first with RTLD_DEEPBIND keeps its symbols to itself.
"""

import contextlib
import os
import sys


def _load_triton_apart() -> None:
    if sys.platform != "linux" or "triton" in sys.modules:
        return
    flags = sys.getdlopenflags()
    sys.setdlopenflags(os.RTLD_NOW | os.RTLD_DEEPBIND)
    try:
        # CPU-only builds of torch come without triton
        with contextlib.suppress(ImportError):
            import triton._C.libtriton  # noqa: F401
    finally:
        sys.setdlopenflags(flags)


_load_triton_apart()

import torch as torch  # noqa: E402
import torchvision as torchvision  # noqa: E402
import torchvision.transforms.v2  # noqa: E402, F401
