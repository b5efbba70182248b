"""The gate loads triton apart from all other libraries and leaves no trace."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

PROBE = """
import json, sys
before = sys.getdlopenflags()
loaded_with = []
keep = sys.setdlopenflags
def watch(flags):
    loaded_with.append([flags, "triton._C.libtriton" in sys.modules])
    keep(flags)
sys.setdlopenflags = watch
import napari_deeppixel.engine.torch_gate as gate
after = sys.getdlopenflags()
print(json.dumps({
    "unchanged": before == after,
    "calls": loaded_with,
    "triton": "triton._C.libtriton" in sys.modules,
    "torch": gate.torch.__name__,
    "torchvision": gate.torchvision.__name__,
}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has RTLD_DEEPBIND and this fault")
def test_triton_is_loaded_under_deepbind_and_the_flags_are_as_before() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["unchanged"]
    assert (seen["torch"], seen["torchvision"]) == ("torch", "torchvision")
    assert seen["triton"] == (find_spec("triton") is not None)
    # torch sets flags of its own later on
    first, last, *_ = seen["calls"]
    # not loaded when the flag is set, loaded when it is taken back
    assert first == [os.RTLD_NOW | os.RTLD_DEEPBIND, False]
    assert last[1] == seen["triton"]
