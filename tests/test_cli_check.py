"""The command ``check``."""

import json
from pathlib import Path

import numpy as np
import pytest
from tests.dataset.folders import document_of, new_dataset, put_document, squares

from napari_deeppixel.cli import main
from napari_deeppixel.dataset.store import Dataset


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Return a dataset with an empty mask, and an image that is missing."""
    made = new_dataset(tmp_path)
    for level, name in enumerate(("a", "b")):
        planes = [squares((0, 0), (2, 2))]
        made.add_pixels(np.full((6, 8), level, np.uint8), name=name, planes=planes)
    document = document_of(made, "a.png")
    document["annotations"][1] |= {"segmentation": [], "bbox": None}
    put_document(made, "a.png", document)
    made.image_path("b.png").unlink()
    return made


def test_faults_are_told_and_the_exit_code_is_2(
    dataset: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(dataset.path)]) == 2
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "a.png, annotation 2: empty mask: no pixel is set [--repair: take it out]",
        f"b.png: annotations without their image: {dataset.path / 'images' / 'b.png'} is not "
        "there: put it back, or find it with relocate(FOLDER)",
        "",
        "2 images; 1 x empty mask, 1 x annotations without their image",
        "--repair can do something about 1 of 2",
    ]
    assert err == ""
    assert dataset.entry("a.png").revision == 1


def test_what_cannot_be_repaired_keeps_the_exit_code_at_2(
    dataset: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(dataset.path), "--repair", "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert [fault["kind"] for fault in found["faults"]] == ["empty_mask", "missing_image"]
    assert found["repaired"] == ["a.png: annotation 2: no pixel is set; taken out"]
    assert [(fault["kind"], fault["image"]) for fault in found["left"]] == [
        ("missing_image", "b.png")
    ]
    assert found["images"] == 2
    dataset.remove(["b.png"])
    assert main(["check", str(dataset.path), "--repair"]) == 0
    assert capsys.readouterr().out == "1 images, nothing wrong with them\n"


def test_a_folder_that_is_no_dataset_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(tmp_path), "--json"]) == 2
    out, err = capsys.readouterr()
    assert "no dataset (dataset.json is missing)" in err
    assert "error" in json.loads(out)
