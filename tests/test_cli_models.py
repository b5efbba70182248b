"""The commands ``models`` and ``compare``."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.engine.networks import slim_model
from tests.fakes import ThresholdEngine
from tests.training.datasets import instances_of, pixels_of, rectangle, write_split

from napari_deeppixel.cli import main
from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.engine.library import ModelLibrary
from napari_deeppixel.engine.spec import slim_spec
from napari_deeppixel.engine.weights import save_weights
from napari_deeppixel.training.compare import Role, load_comparison, outcome_from_file
from napari_deeppixel.training.evaluation.data import read_data

TABLE = CategoryTable.from_names("object")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file that a run made."""
    spec = slim_spec(
        "run",
        CategoryTable.from_names("cell", "debris", "dust", "dirt"),
        fpn_channels=16,
        provenance={
            "start": {"model": "nuclei", "hash": "0123456789abcdef"},
            "data": "a dataset with a very long name",
            "date": "2026-11-26T20:15:00+00:00",
            "validation": {"ap": 0.61},
        },
    )
    path = tmp_path_factory.mktemp("run") / "cells.safetensors"
    save_weights(slim_model(spec), spec, path)
    return path


def answer(capsys: pytest.CaptureFixture[str], *typed: str) -> dict[str, Any]:
    """Return the one JSON object that a command prints."""
    assert main([*typed, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    (line,) = out.splitlines()
    told: dict[str, Any] = json.loads(line)
    return told


def refusal(capsys: pytest.CaptureFixture[str], *typed: str) -> str:
    assert main(list(typed)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_the_models_are_listed_as_a_table(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "import", str(saved), "--use"]) == 0
    capsys.readouterr()
    assert main(["models"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[0].split() == ["name", "categories", "from", "data", "date", "AP", "used"]
    assert [row.split()[0] for row in rows[2:6]] == ["nuclei", "coco", "coco-v2", "cells"]
    assert " ".join(rows[5].split()) == (
        "cells cell, debris, dust and 1 more nuclei a dataset with a very l… 2026-11-26 0.610 used"
    )
    assert "cells is used in the window; nuclei before it." in rows


def test_a_model_goes_through_all_that_can_be_done_with_it(
    saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imported = answer(capsys, "models", "import", str(saved), "--name", "mine")
    assert (imported["name"], imported["used"]) == ("mine", "nuclei")
    assert answer(capsys, "models", "use", "mine") == {
        "used": "mine",
        "before": "nuclei",
        "problems": [],
    }
    assert answer(capsys, "models", "rename", "mine", "ours")["name"] == "ours"
    listed = answer(capsys, "models", "list")
    assert (listed["used"], listed["history"]) == ("ours", ["nuclei"])
    assert [model["name"] for model in listed["models"] if model["is_used"]] == ["ours"]
    assert listed["models"][3]["weights_hash"] == imported["weights_hash"]
    assert listed["models"][3]["lineage"][0].startswith("Trained from nuclei (0123456789ab) on a")
    exported = answer(capsys, "models", "export", "ours", "out.safetensors")
    assert Path(exported["path"]).read_bytes() == saved.read_bytes()
    assert answer(capsys, "models", "roll-back")["used"] == "nuclei"
    assert answer(capsys, "models", "use", "ours")["used"] == "ours"
    removed = answer(capsys, "models", "remove", "ours")
    assert (removed["removed"], removed["used"]) == ("ours", "nuclei")
    assert Path(removed["path"]).read_bytes() == saved.read_bytes()
    # --json may stand before the action, too
    assert main(["models", "--json", "list"]) == 0
    assert json.loads(capsys.readouterr().out)["history"] == []


def test_what_cannot_be_done_is_told(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no model was used before nuclei" in refusal(capsys, "models", "roll-back")
    assert "no model 'gone' in the library" in refusal(capsys, "models", "use", "gone")
    assert "the name 'coco' is taken" in refusal(
        capsys, "models", "import", str(saved), "--name", "coco"
    )
    (tmp_path / "there.safetensors").write_bytes(b"mine")
    assert "is there already" in refusal(capsys, "models", "export", "nuclei", "there.safetensors")
    assert (tmp_path / "there.safetensors").read_bytes() == b"mine"
    assert main(["models", "export", "nuclei", "there.safetensors", "--overwrite"]) == 0
    capsys.readouterr()
    assert main(["models", "use", "gone", "--json"]) == 2
    assert "no model 'gone'" in json.loads(capsys.readouterr().out)["error"]


def test_a_damaged_library_is_told_and_the_models_are_listed(
    saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    library = ModelLibrary()
    library.add(saved)
    (library.folder / "library.json").write_text("{", encoding="utf-8")
    assert main(["models"]) == 0
    out, err = capsys.readouterr()
    assert "library.json: cannot be read" in err
    assert "cells" in out


# compare ------------------------------------------------------------------------------------------


class NamedEngine(ThresholdEngine):
    def __init__(self, name: str, threshold: float) -> None:
        super().__init__(threshold)
        self._spec = replace(self._spec, name=name)

    @property
    def source(self) -> str:
        return f"{self._spec.name}@{self._spec.name}"


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with four images of two bright and two dim squares.

    The model `dim` sees all of them, every other one half.
    """
    monkeypatch.setattr(
        "napari_deeppixel.engine.weights.load_model",
        lambda model, **_: NamedEngine(model, 0.3 if model == "dim" else 0.7),
    )
    made = {}
    for number in range(4):
        masks = [rectangle(x, y, x + 8 + number, y + 9) for x in (2, 30) for y in (3, 20)]
        instances = instances_of(masks, (40, 50), TABLE)
        pixels = pixels_of(instances, inside=140)
        bright = pixels_of(instances.select([0, 1]), inside=230, outside=0)
        made[f"{number}.png"] = (np.maximum(pixels, bright)[..., 0], instances)
    return write_split(tmp_path / "data" / "val", made)


def test_a_better_model_is_told_with_its_figures(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", str(images), "dim"]) == 0
    rows = capsys.readouterr().out.splitlines()
    cells = {row.split()[0]: row.split()[1:] for row in rows[2:4]}
    assert cells["current"][0] == "nuclei"
    assert (cells["current"][4], cells["new"][4]) == ("0.500", "1.000")
    assert "better than now:" in rows
    assert "  0.png: +0.500; right 2 -> 4, false 0 -> 0, missed 2 -> 0" in rows
    assert rows[-1] == 'Use it with: napari-deeppixel models use "dim"'
    assert rows[-2].startswith("AP rises from 0.")
    assert rows[-2].endswith("The new model is better in 100 % of 1,000 draws of the 4 images.")


def test_a_comparison_is_written_for_the_window(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = answer(
        capsys, "compare", str(images), "bright", "--current", "dim", "--base", "b", "-o", "out/c"
    )
    assert told["verdict"]["is_better"] is False
    assert [model["role"] for model in told["models"]] == ["base", "current", "new"]
    assert told["path"] == str(Path("out/c.json"))
    comparison = load_comparison("out/c.json")
    assert json.loads(json.dumps(comparison.to_json())) == {
        key: value for key, value in told.items() if key != "path"
    }
    (first, *_) = read_data(images).truths
    assert len(outcome_from_file("out/c.json", Role.NEW, first).missed) == 2
    # what a model found is COCO with scores, which evaluate reads
    found = Path("out/c/new.json")
    evaluated = answer(capsys, "evaluate", str(images), "--predictions", str(found))
    assert evaluated["accuracy"]["0.5"] == 0.5


def test_data_that_is_none_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "gone", "dim"]) == 2
    assert "gone" in capsys.readouterr().err
