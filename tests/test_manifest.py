"""napari.yaml: npe2 finds it by the package's name, and all that it names is there."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from npe2 import PluginManifest
from npe2.manifest.utils import import_python_name

NAME = "napari-deeppixel"
TOP_LEVEL = Path(__file__).parents[1] / "napari.yaml"


def manifest_text() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(TOP_LEVEL.read_text(encoding="utf-8"))
    return loaded


def found(node: Any, key: str) -> Iterator[str]:
    """Return each value of a key, at any depth."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield value
            yield from found(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from found(value, key)


@pytest.fixture(scope="module")
def manifest() -> PluginManifest:
    return PluginManifest.from_distribution(NAME)


def test_npe2_finds_the_manifest_by_the_name_of_the_package(manifest: PluginManifest) -> None:
    assert manifest.name == NAME
    assert manifest.display_name == "DeepPixel"


def test_the_package_holds_the_top_level_manifest() -> None:
    spec = find_spec("napari_deeppixel")
    assert spec is not None
    packaged = Path(spec.submodule_search_locations[0]) / "napari.yaml"
    assert packaged.read_bytes() == TOP_LEVEL.read_bytes()


@pytest.mark.parametrize("python_name", sorted({*found(manifest_text(), "python_name")}))
def test_python_name_is_something_to_call(python_name: str) -> None:
    assert callable(import_python_name(python_name))


def test_every_command_that_is_used_is_declared(manifest: PluginManifest) -> None:
    declared = [command.id for command in manifest.contributions.commands or []]
    assert len(declared) == len(set(declared))
    assert all(command_id.startswith(f"{NAME}.") for command_id in declared)
    assert {*found(manifest_text(), "command")} == set(declared)


def test_no_command_has_an_icon() -> None:
    # an icon key that no installed font knows passes npe2 and stops napari at its start:
    # research on napari 0.9.2, `app_model/backends/qt/_util.py`
    assert list(found(manifest_text(), "icon")) == []


def test_the_widget_of_the_manifest_is_a_qt_widget(manifest: PluginManifest) -> None:
    from qtpy.QtWidgets import QWidget

    commands = {command.id: command.python_name for command in manifest.contributions.commands}
    widgets = manifest.contributions.widgets
    assert [widget.display_name for widget in widgets] == ["DeepPixel"]
    for widget in widgets:
        assert issubclass(import_python_name(commands[widget.command]), QWidget)
