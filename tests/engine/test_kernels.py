"""Kernels come in the background; without them all goes on."""

import importlib
import logging
import subprocess
import sys

import numba
import pytest

from napari_deeppixel.engine import kernels as kernels_module
from napari_deeppixel.engine.kernels import kernels, wait_for_kernels


def test_all_kernels_are_compiled_here() -> None:
    assert wait_for_kernels()
    for name in kernels_module._MODULES:
        module = kernels(name)
        assert module is not None
        assert module.__name__.endswith(name)


def test_a_kernel_that_cannot_be_compiled_is_told_and_the_others_are_there(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    load = importlib.import_module

    def without_one(name: str) -> object:
        if name.endswith("nms_jit"):
            raise RuntimeError("LLVM does not know this processor")
        return load(name)

    monkeypatch.setattr(kernels_module, "_ready", {})
    monkeypatch.setattr(kernels_module, "_yield_to_others", lambda: None)
    monkeypatch.setattr(importlib, "import_module", without_one)
    with caplog.at_level(logging.WARNING):
        kernels_module._compile()
    assert kernels("nms_jit") is None
    assert kernels("winograd_jit") is not None
    assert "no compiled kernels (nms_jit): slower, same results" in caplog.text
    assert "LLVM does not know this processor" in caplog.text


def test_without_a_folder_for_its_cache_numba_compiles_for_this_process(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    load = importlib.import_module
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")

    def with_a_folder(name: str) -> object:
        if not numba.config.CACHE_DIR:
            raise RuntimeError("cannot cache function 'f': no locator available for file 'x.py'")
        return load(name)

    monkeypatch.setattr(kernels_module, "_ready", {})
    monkeypatch.setattr(kernels_module, "_yield_to_others", lambda: None)
    monkeypatch.setattr(importlib, "import_module", with_a_folder)
    with caplog.at_level(logging.WARNING):
        kernels_module._compile()
    assert all(kernels(name) is not None for name in kernels_module._MODULES)
    assert len(caplog.messages) == 1
    assert "set NUMBA_CACHE_DIR to a folder that can be written" in caplog.text


def test_a_program_may_end_while_kernels_are_compiled(tmp_path: object) -> None:
    program = (
        "from napari_deeppixel.engine.kernels import prepare_kernels; prepare_kernels(); "
        "print('ended')"
    )
    environment = {"NUMBA_CACHE_DIR": str(tmp_path), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "ended\n"
    assert done.stderr == ""
