"""``napari-deeppixel models``."""

import argparse
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from napari_deeppixel.cli.console import Table, complain, number, say, say_json
from napari_deeppixel.engine.catalogue import CATALOGUE, CatalogueEntry
from napari_deeppixel.engine.library import LibraryModel, ModelLibrary, packaged_weights
from napari_deeppixel.engine.spec_file import read_spec

_MOST_CATEGORIES = 3
_MOST_LETTERS = 24

# what an action tells: one JSON object, and lines for people
Told = tuple[dict[str, Any], list[str]]


def run(arguments: argparse.Namespace) -> int:
    """List the models, or change which there are or which is used; return the exit code."""
    library = ModelLibrary()
    actions: dict[str, Callable[[ModelLibrary, argparse.Namespace], Told]] = {
        "list": _list,
        "use": _use,
        "roll-back": _roll_back,
        "rename": _rename,
        "export": _export,
        "import": _import,
        "remove": _remove,
    }
    found, lines = actions[arguments.action or "list"](library, arguments)
    for problem in library.problems:
        complain(problem)
    if arguments.json:
        say_json({**found, "problems": list(library.problems)})
    else:
        for line in lines:
            say(line)
    return 0


def _list(library: ModelLibrary, _arguments: argparse.Namespace) -> Told:
    current = library.current
    rows = [*(_of_catalogue(entry) for entry in CATALOGUE), *map(_of_library, library.models())]
    for row in rows:
        row["is_used"] = row["name"] == current
    found = {"used": current, "history": list(library.history), "models": rows}
    return found, [*_table(rows), *_about(current, library)]


def _of_library(model: LibraryModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "categories": [category.name for category in model.spec.categories.categories],
        **asdict(model.origin),
        "lineage": list(model.lineage),
        "weights_hash": model.weights_hash,
        "path": str(model.path),
    }


def _of_catalogue(entry: CatalogueEntry) -> dict[str, Any]:
    if not entry.torchvision_weights:
        with packaged_weights(entry.name) as path:
            model = LibraryModel(name=entry.name, path=path, spec=read_spec(path))
            return {**_of_library(model), "path": ""}
    return {
        "name": entry.name,
        "categories": [],
        "start": "",
        "data": "COCO train2017",
        "date": "",
        "ap": math.nan,
        "lineage": [entry.description],
        "weights_hash": "",
        "path": "",
    }


def _table(rows: list[dict[str, Any]]) -> list[str]:
    headings = ("name", "categories", "from", "data", "date", "AP", "used")
    cells = [
        (
            row["name"],
            _categories(row["categories"]) or "80 objects",
            _short(row["start"]) or "-",
            _short(row["data"]) or "-",
            row["date"][:10] or "-",
            number(row["ap"], 3),
            "used" if row["is_used"] else "",
        )
        for row in rows
    ]
    columns = zip(headings, *cells, strict=True)
    table = Table(headings=headings, widths=tuple(max(map(len, column)) for column in columns))
    return [table.head(), *map(table.row, cells)]


def _about(current: str, library: ModelLibrary) -> list[str]:
    before = f"; {library.history[-1]} before it" if library.can_roll_back else ""
    return [
        "",
        f"{current} is used in the window{before}.",
        "AP is that on the validation images of a model's own training: to tell which of two is "
        "better, compare them.",
    ]


def _categories(names: list[str]) -> str:
    more = len(names) - _MOST_CATEGORIES
    shown = ", ".join(map(_short, names[:_MOST_CATEGORIES]))
    return f"{shown} and {more} more" if more > 0 else shown


def _short(text: str) -> str:
    return text if len(text) <= _MOST_LETTERS else f"{text[: _MOST_LETTERS - 1]}…"


def _use(library: ModelLibrary, arguments: argparse.Namespace) -> Told:
    before = library.current
    library.use(arguments.name)
    used = library.current
    return {"used": used, "before": before}, [f"{used} is used from now on; before: {before}"]


def _roll_back(library: ModelLibrary, _arguments: argparse.Namespace) -> Told:
    before = library.current
    used = library.roll_back()
    return {"used": used, "before": before}, [f"{used} is used again, in place of {before}"]


def _rename(library: ModelLibrary, arguments: argparse.Namespace) -> Told:
    name = library.rename(arguments.old, arguments.new)
    return {"name": name, "before": arguments.old}, [f"{arguments.old} is called {name} now"]


def _export(library: ModelLibrary, arguments: argparse.Namespace) -> Told:
    path = library.export(arguments.name, Path(arguments.file), overwrite=arguments.overwrite)
    return {"name": arguments.name, "path": str(path)}, [f"{arguments.name} is in {path}"]


def _import(library: ModelLibrary, arguments: argparse.Namespace) -> Told:
    model = library.add(Path(arguments.file), arguments.name)
    lines = [f"{model.name} is in the library", *model.lineage]
    if arguments.use:
        library.use(model.name)
        lines.append(f"{model.name} is used from now on")
    else:
        lines.append(f"use it with: napari-deeppixel models use {_quoted(model.name)}")
    return {**_of_library(model), "used": library.current}, lines


def _remove(library: ModelLibrary, arguments: argparse.Namespace) -> Told:
    kept = library.remove(arguments.name)
    current = library.current
    lines = [f"{arguments.name} is out of the library and kept as {kept}", f"{current} is used"]
    return {"removed": arguments.name, "path": str(kept), "used": current}, lines


def _quoted(name: str) -> str:
    # what PowerShell and cmd take, too
    return name if name.replace("-", "").replace("_", "").isalnum() else f'"{name}"'
