"""The command ``mistakes``, with the shipped model on a sample image and its true masks."""

import json
from dataclasses import replace
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from napari_deeppixel.batch.inputs import sample_paths
from napari_deeppixel.cli import main
from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import InstanceSet, label_image_to_instances
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState, Split
from napari_deeppixel.dataset.store import Dataset
from napari_deeppixel.training.mistake import MistakeAnswer
from napari_deeppixel.training.mistakes_file import load_mistakes, save_mistakes

LABELS = Path(__file__).parent / "data" / "fluorescence_labels.png"
NUCLEI = CategoryTable.from_names("nucleus")


def truth() -> InstanceSet:
    return label_image_to_instances(iio.imread(LABELS), categories=NUCLEI)


def clear_place(instances: InstanceSet, side: int = 14) -> CroppedMask:
    """Return a square far from all nuclei."""
    away = distance_transform_edt(np.pad(instances.label_image() == 0, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(np.argmax(away)), away.shape)
    half = side // 2
    square = np.zeros(instances.image_hw, np.bool_)
    square[max(0, y - half) : y + half, max(0, x - half) : x + half] = True
    mask = CroppedMask.from_mask(square)
    assert mask is not None
    return mask


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Return a dataset in which the largest nucleus is left out and a square of nothing is in."""
    true = truth()
    largest = int(np.argmax(true.areas))
    kept = true.select(np.arange(len(true)) != largest)
    masks = (*kept.masks, clear_place(true))
    uuids = (*kept.uuids, "nothing")
    spoilt = InstanceSet(image_hw=true.image_hw, masks=masks, uuids=uuids, categories=NUCLEI)
    made = Dataset.create(tmp_path / "set", categories=NUCLEI)
    path = next(path for path in sample_paths() if path.stem == "fluorescence")
    plane = replace(AnnotatedImage.of(path.name, spoilt), split=Split.VAL)
    made.add_file(path, planes=[plane], state=ImageState.COMPLETE)
    made.set_split([path.name], Split.VAL)
    return made


def test_a_nucleus_that_is_left_out_and_an_annotation_of_nothing_are_told(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "mistakes.json"
    assert main(["mistakes", str(dataset.path), "-o", str(output), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["output"] == str(output)
    worst = {m["kind"]: m for m in reversed(told["mistakes"])}
    true = truth()
    box = true.masks[int(np.argmax(true.areas))].box_xyxy
    assert worst["missing"]["box_xyxy"] == pytest.approx(box, abs=3)
    assert worst["spurious"]["uuid"] == "nothing"
    # what is dismissed is not told again
    found = load_mistakes(output)
    place = [m.uuid for m in found.mistakes].index("nothing")
    save_mistakes(output, found.answered(place, MistakeAnswer.DISMISSED))
    assert main(["mistakes", str(dataset.path), "--split", "val", "-o", str(output)]) == 0
    out = capsys.readouterr().out
    assert "spurious" not in out
    assert "nobody annotated this, but the model is" in out
    assert "1 more was dismissed before." in out
    assert load_mistakes(output).mistakes[place].answer is MistakeAnswer.DISMISSED


def test_a_split_without_images_is_said_and_nothing_is_written(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "mistakes.json"
    assert main(["mistakes", str(dataset.path), "--split", "test", "-o", str(output)]) == 2
    assert "no complete image is in the splits test" in capsys.readouterr().err
    assert not output.exists()


def test_a_list_that_cannot_be_read_is_not_replaced(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "notes.json"
    output.write_text('["mine"]')
    assert main(["mistakes", str(dataset.path), "-o", str(output)]) == 2
    assert "no file of label mistakes" in capsys.readouterr().err
    assert output.read_text() == '["mine"]'
