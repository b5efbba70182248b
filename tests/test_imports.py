"""What may be imported without Qt, without napari and without torch."""

import json
import os
import pkgutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

BINDINGS = ("PyQt5", "PyQt6", "PySide2", "PySide6")
QT = (*BINDINGS, "magicgui", "qtpy", "superqt")
NAPARI = ("napari", "npe2", "vispy")
TORCH = ("torch", "torchvision", "triton")

# Blocks the packages, imports the modules, and prints {module: error} and what was loaded.
PROBE = """
import importlib, json, sys, traceback

blocked, modules = json.loads(sys.argv[1]), json.loads(sys.argv[2])

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ModuleNotFoundError(f"{name} is blocked by the test", name=name)

sys.meta_path.insert(0, Blocker())
errors = {}
for module in modules:
    try:
        importlib.import_module(module)
    except BaseException:
        errors[module] = traceback.format_exc()
print(json.dumps([errors, sorted({name.split(".")[0] for name in sys.modules})]))
"""


def module_names(package: str = "napari_deeppixel") -> list[str]:
    """Return the package and all modules in it, found as files: nothing is imported."""
    spec = find_spec(package)
    assert spec is not None
    return [package, *_names_below(Path(spec.submodule_search_locations[0]), package)]


def _names_below(folder: Path, package: str) -> list[str]:
    names = []
    for module in pkgutil.iter_modules([str(folder)], f"{package}."):
        names.append(module.name)
        if module.ispkg:
            names += _names_below(folder / module.name.rpartition(".")[2], module.name)
    return names


def is_in(module: str, *packages: str) -> bool:
    return any(f"{module}.".startswith(f"napari_deeppixel.{package}.") for package in packages)


def import_apart(
    modules: list[str], *, blocked: tuple[str, ...]
) -> tuple[dict[str, str], set[str]]:
    """Return each module's error in a fresh process, and the top-level names that it loaded."""
    no_display = {"DISPLAY", "QT_QPA_PLATFORM", "WAYLAND_DISPLAY"}
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(blocked), json.dumps(modules)],
        env={name: value for name, value in os.environ.items() if name not in no_display},
        capture_output=True,
        text=True,
        check=True,
    )
    errors, loaded = json.loads(done.stdout.splitlines()[-1])
    return errors, set(loaded)


def assert_none_failed(errors: dict[str, str]) -> None:
    assert not errors, "\n\n".join(f"{module}:\n{error}" for module, error in errors.items())


def test_modules_of_every_layer_are_found() -> None:
    names = module_names()
    for package in ("core", "engine", "edits", "dataset", "training", "viewer", "widgets"):
        assert f"napari_deeppixel.{package}" in names
    assert "napari_deeppixel.engine.torch_gate" in names


def test_all_but_viewer_and_widgets_needs_neither_qt_nor_napari() -> None:
    modules = [name for name in module_names() if not is_in(name, "viewer", "widgets")]
    errors, loaded = import_apart(modules, blocked=(*QT, *NAPARI))
    assert_none_failed(errors)
    # no binding is behind a back door either
    assert not loaded & {*QT, *NAPARI}


def test_viewer_needs_no_qt() -> None:
    modules = [name for name in module_names() if is_in(name, "viewer")]
    # napari's own layers import magicgui, qtpy and superqt where they are installed
    errors, _ = import_apart(modules, blocked=BINDINGS)
    assert_none_failed(errors)


def test_importing_the_package_loads_no_heavy_library() -> None:
    errors, loaded = import_apart(["napari_deeppixel"], blocked=())
    assert_none_failed(errors)
    assert not loaded & {*QT, *NAPARI, *TORCH}


def test_importing_the_dock_widget_loads_no_torch() -> None:
    # napari imports it with the menus; torch takes seconds
    errors, loaded = import_apart(["napari_deeppixel.widgets.dock"], blocked=())
    assert_none_failed(errors)
    assert not loaded & set(TORCH)


def test_every_public_name_is_there() -> None:
    import napari_deeppixel

    for name in napari_deeppixel.__all__:
        assert getattr(napari_deeppixel, name).__name__ == name
    assert {*napari_deeppixel.__all__} <= {*dir(napari_deeppixel)}


def test_an_unknown_name_is_an_attribute_error() -> None:
    import napari_deeppixel

    with pytest.raises(AttributeError, match="no attribute 'segmnet'"):
        _ = napari_deeppixel.segmnet
