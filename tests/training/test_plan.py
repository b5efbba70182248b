"""What a run will do is decided before it begins, and a resumed run remembers it."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.training.datasets import CELLS, discs_sample, instances_of, rectangle, write_split
from tests.training.runs import OPTIONS, VAL, train

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.training.events import RunStarted
from napari_deeppixel.training.options import Freeze
from napari_deeppixel.training.plan import Plan, Wishes, plan_run
from napari_deeppixel.training.run_folder import RunFolder
from napari_deeppixel.training.run_log import append_event

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two images to learn from and one to choose by."""
    for split, seeds in (("train", (1, 2)), ("val", (3,))):
        samples = {f"{n}.png": discs_sample(n) for n in seeds}
        write_split(
            tmp_path / "data" / split,
            {name: (s.pixels[..., 0], s.instances) for name, s in samples.items()},
        )
    return tmp_path / "data"


def plan(data: Path, *, resume: bool = False, **wishes: Any) -> Plan:
    values = {"start": None, "changes": {}} | wishes
    return plan_run(
        data, RunFolder(data / "run"), Wishes(**values), device="cpu", resume=resume, now=NOW
    )


def test_random_weights_get_the_datasets_categories(data: Path) -> None:
    found = plan(data)
    assert found.start.spec.categories == CELLS
    assert (found.start.spec.name, found.start_model) == ("run", "")
    assert [len(found.train), len(found.val)] == [2, 1]
    assert found.options.train_batch_norm
    assert found.first_iteration == 0


def test_a_model_tells_what_it_came_from(data: Path) -> None:
    found = plan(data, start="nuclei")
    provenance = found.start.spec.provenance
    assert provenance["start"]["model"] == found.start_model == "nuclei"
    assert provenance["date"] == "2026-05-04T03:02:01+00:00"
    assert provenance["data_hash"] == found.data_hash
    assert not found.options.train_batch_norm
    assert "2 images of data" in found.start.spec.description


def test_anchors_and_options_are_told_before_training(data: Path) -> None:
    notes = plan(data, start="nuclei").notes
    assert any(note.startswith("Anchors of 8, 12, ") for note in notes)
    assert any("100 steps of 4 crops of 320 px" in note for note in notes)


def test_anchors_that_fit_no_object_are_replaced(tmp_path: Path) -> None:
    large = instances_of(
        [rectangle(x, y, x + 180, y + 180) for x in (0, 200) for y in range(0, 2600, 200)],
        (2600, 400),
    )
    pixels = np.zeros((2600, 400), np.uint8)
    write_split(tmp_path / "large" / "train", {"a.png": (pixels, large)})
    write_split(tmp_path / "large" / "val", {"a.png": (pixels, large)})
    found = plan(tmp_path / "large", start="nuclei")
    sizes = found.start.spec.anchor_sizes
    assert max(max(level) for level in sizes) > 150
    assert found.start.model.rpn.anchor_generator.sizes == sizes


def test_what_a_person_asks_for_wins(data: Path) -> None:
    changes = {"iterations": 40, "batch_size": 3, "freeze": Freeze.HEADS, "seed": 7}
    options = plan(data, changes=changes, crop=96).options
    assert (options.iterations, options.batch_size, options.seed) == (40, 3, 7)
    assert (options.freeze, options.augmentation.crop) == (Freeze.HEADS, 96)
    # the warm-up keeps its share
    assert options.warm_up == 2


def test_a_model_can_be_trained_for_magnified_images(data: Path) -> None:
    plain, zoomed = plan(data, zoom=1.0), plan(data, zoom=2.0)
    assert (plain.start.spec.zoom, zoomed.start.spec.zoom) == (1.0, 2.0)
    image, _ = zoomed.start.model.eval().transform.resize(torch.zeros(3, 20, 30))
    assert image.shape == (3, 40, 60)


def test_a_resumed_run_keeps_its_magnification(data: Path) -> None:
    begun(data, "of these images")
    with pytest.raises(AnnotationError, match="leave out --zoom with --resume"):
        plan(data, resume=True, zoom=2.0)
    # the same command with --resume
    assert plan(data, resume=True, zoom=1.0).start.spec.zoom == 1.0


def test_epochs_are_counted_in_crops(data: Path) -> None:
    # 2 x 64 x 80 px in crops of 64 x 64: three a time
    options = plan(data, epochs=4, crop=64, changes={"batch_size": 2}).options
    assert options.iterations == 6


def test_a_folder_without_images_to_choose_by_is_planned(data: Path) -> None:
    for path in (data / "val").iterdir():
        path.unlink()
    (data / "val").rmdir()
    assert plan(data).val == []


def test_without_an_image_to_learn_from_there_is_no_plan(data: Path) -> None:
    (data / "train" / "instances.json").unlink()
    with pytest.raises(AnnotationError, match=r"train.instances\.json"):
        plan(data)


def begun(data: Path, data_hash: str) -> None:
    """Write a run of one step, as if it had begun on some data."""
    run = RunFolder(data / "run")
    found = plan(data)
    spec = replace(found.start.spec, provenance={"data_hash": data_hash})
    start = replace(found.start, spec=spec)
    train(run.path, replace(OPTIONS, iterations=1, patience=4), start=start, val=VAL)
    append_event(
        run,
        RunStarted(
            dataset=data,
            start="nuclei",
            device="cpu",
            num_train=2,
            num_val=1,
            iterations=1,
            first_iteration=0,
            categories=("cell",),
            notes=(),
        ),
    )


def test_a_resumed_run_has_the_options_that_it_had(data: Path) -> None:
    begun(data, plan(data).data_hash)
    found = plan(data, resume=True, changes={"iterations": 9})
    assert found.options == replace(OPTIONS, iterations=9, patience=4)
    assert (found.first_iteration, found.start_model) == (1, "nuclei")
    assert found.notes == ("Going on after step 1.",)
    assert not any("changed" in warning for warning in found.warnings)


def test_a_resumed_run_tells_that_the_data_have_changed(data: Path) -> None:
    begun(data, "of other images")
    assert "the dataset has changed" in plan(data, resume=True).warnings[-1]


def test_two_tables_of_categories_are_refused(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dogs = replace(discs_sample(1).instances, categories=CategoryTable.from_names("dog"))

    class Image:
        def __init__(self, instances: Any) -> None:
            self.instances = instances

    monkeypatch.setattr(
        "napari_deeppixel.training.plan.read_coco",
        lambda _path: [Image(dogs), Image(discs_sample(1).instances)],
    )
    with pytest.raises(AnnotationError, match="2 tables of categories"):
        plan(data)


def test_a_dataset_without_a_category_is_refused(tmp_path: Path) -> None:
    empty = InstanceSet.empty((40, 40), CategoryTable(categories=()))
    write_split(tmp_path / "data" / "train", {"a.png": (np.zeros((40, 40), np.uint8), empty)})
    with pytest.raises(AnnotationError, match="data: no category, so there is nothing to learn"):
        plan(tmp_path / "data")


def test_a_run_is_not_gone_on_with_when_there_is_another_category(data: Path) -> None:
    begun(data, "of these images")
    path = data / "train" / "instances.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["categories"].append({"id": 2, "name": "debris"})
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(AnnotationError, match="trained on other categories than the dataset has"):
        plan(data, resume=True)
