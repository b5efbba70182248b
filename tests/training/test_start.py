"""Where training starts: which rows of a network stand for which category."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import napari_deeppixel
from napari_deeppixel.core.category import Category, CategoryTable
from napari_deeppixel.core.errors import WeightsError
from napari_deeppixel.engine.base import PredictOptions
from napari_deeppixel.engine.build import build_model
from napari_deeppixel.engine.maskrcnn import MaskRCNNEngine
from napari_deeppixel.engine.spec import ModelSpec, slim_spec
from napari_deeppixel.engine.weights import coco_categories, load_model, save_weights
from napari_deeppixel.training.start import StartingPoint, starting_point

CLS = "roi_heads.box_predictor.cls_score"
BOX = "roi_heads.box_predictor.bbox_pred"
MASK = "roi_heads.mask_predictor.mask_fcn_logits"
NUCLEUS = CategoryTable.from_names("nucleus")


@pytest.fixture(scope="module")
def nuclei() -> MaskRCNNEngine:
    return load_model("nuclei", device="cpu")


def rows(state: dict[str, Any], index: int) -> list[torch.Tensor]:
    """Return all values of one class."""
    return [
        *(state[f"{CLS}.{kind}"][index] for kind in ("weight", "bias")),
        *(state[f"{BOX}.{kind}"][4 * index : 4 * index + 4] for kind in ("weight", "bias")),
        *(state[f"{MASK}.{kind}"][index] for kind in ("weight", "bias")),
    ]


def mean_rows(state: dict[str, Any], indices: list[int]) -> list[torch.Tensor]:
    each = [rows(state, index) for index in indices]
    return [torch.stack(parts).mean(dim=0) for parts in zip(*each, strict=True)]


def assert_equal(left: list[torch.Tensor], right: list[torch.Tensor]) -> None:
    for one, other in zip(left, right, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def random_file(path: Path, table: CategoryTable) -> dict[str, Any]:
    """Write a narrow network with random weights; return its weights as a file keeps them."""
    torch.manual_seed(3)
    spec = slim_spec("made", table, fpn_channels=16)
    save_weights(build_model(spec), spec, path)
    state: dict[str, Any] = load_model(path, device="cpu").model.state_dict()
    return state


def predicted(start: StartingPoint) -> Any:
    engine = MaskRCNNEngine(start.spec, start.model, device="cpu")
    folder = Path(napari_deeppixel.__file__).parent / "samples"
    pixels = np.asarray(Image.open(folder / "fluorescence.png"))[:160, :200]
    pixels = pixels[..., np.newaxis] if pixels.ndim == 2 else pixels
    (prediction,) = engine.predict([pixels], PredictOptions())
    return prediction.candidates


def test_only_the_weights_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_deeppixel.engine.weights.FastEngine", None)
    assert starting_point("nuclei", NUCLEUS, name="mine").source.startswith("nuclei@")


def test_the_same_categories_keep_every_weight(nuclei: MaskRCNNEngine) -> None:
    start = starting_point("nuclei", NUCLEUS, name="run 1", description="made")
    state, before = start.model.state_dict(), nuclei.model.state_dict()

    assert state.keys() == before.keys()
    assert all(torch.equal(state[key], before[key]) for key in state)
    assert start.source == nuclei.source
    assert start.notes == (f"Starts from {nuclei.source}.", "Keeps what it knows of nucleus.")
    digest = nuclei.weights_hash
    assert len(digest) == 64
    assert start.weights_hash == digest
    assert start.spec == replace(
        nuclei.spec,
        name="run 1",
        description="made",
        categories=NUCLEUS,
        provenance={"start": {"model": "nuclei", "hash": digest}},
    )


def test_a_new_category_comes_beside_the_ones_that_are_kept(nuclei: MaskRCNNEngine) -> None:
    table = CategoryTable.from_names("nucleus", "debris")
    start = starting_point("nuclei", table, name="run", provenance={"data": "made"})
    state, before = start.model.state_dict(), nuclei.model.state_dict()

    assert state[f"{CLS}.weight"].shape[0] == 3
    assert state[f"{BOX}.weight"].shape[0] == 12
    assert_equal(rows(state, 0), rows(before, 0))
    assert_equal(rows(state, 1), rows(before, 1))
    assert_equal(rows(state, 2), rows(before, 1))
    assert start.notes[1:] == (
        "Keeps what it knows of nucleus.",
        "New, as the one category that it knew: debris.",
    )
    assert start.spec.provenance["data"] == "made"
    others = [key for key in state if not key.startswith((CLS, BOX, MASK))]
    assert all(torch.equal(state[key], before[key]) for key in others)


def test_another_name_finds_what_the_old_one_found() -> None:
    cell = starting_point("nuclei", CategoryTable.from_names("cell"), name="run")
    nucleus = starting_point("nuclei", NUCLEUS, name="run")
    found, expected = predicted(cell), predicted(nucleus)

    assert len(expected.above_score(0.4)) >= 4
    assert found.scores.tolist() == pytest.approx(expected.scores.tolist(), abs=1e-5)
    assert all(mask.equals(other) for mask, other in zip(found.masks, expected.masks, strict=True))
    assert found.categories.categories[0].name == "cell"
    assert cell.notes[1:] == (
        "New, as the one category that it knew: cell.",
        "Forgets nucleus.",
    )


def test_categories_in_another_order_take_their_rows_along(tmp_path: Path) -> None:
    path = tmp_path / "base.safetensors"
    before = random_file(path, CategoryTable.from_names("a", "b", "c"))
    start = starting_point(path, CategoryTable.from_names("c", "new", "A"), name="run")
    state = start.model.state_dict()

    assert_equal(rows(state, 0), rows(before, 0))
    assert_equal(rows(state, 1), rows(before, 3))
    assert_equal(rows(state, 2), mean_rows(before, [1, 2, 3]))
    # a name counts whatever the case
    assert_equal(rows(state, 3), rows(before, 1))
    assert start.notes[1:] == (
        "Keeps what it knows of c, A.",
        "New, as the mean of the 3 categories that it knew: new.",
        "Forgets b.",
    )


def test_the_exact_name_comes_before_one_of_another_case(tmp_path: Path) -> None:
    path = tmp_path / "base.safetensors"
    before = random_file(path, CategoryTable.from_names("Cell", "cell"))
    state = starting_point(path, CategoryTable.from_names("cell"), name="run").model.state_dict()

    assert_equal(rows(state, 1), rows(before, 2))


def test_class_indices_that_no_category_has_are_never_found(tmp_path: Path) -> None:
    path = tmp_path / "base.safetensors"
    random_file(path, CategoryTable.from_names("a"))
    table = CategoryTable(
        categories=(Category(id=1, name="a", color="#56b4e9"),), class_indices=(2,)
    )
    model = starting_point(path, table, name="run").model
    logits, _ = model.roi_heads.box_predictor(torch.ones(1, 256))

    assert logits.shape == (1, 3)
    assert torch.softmax(logits, dim=1)[0, 1] < 1e-6


def test_a_torch_file_of_coco_gives_its_rows_by_name(tmp_path: Path) -> None:
    coco = coco_categories()
    spec = ModelSpec(
        name="made", architecture="maskrcnn_resnet50_fpn", categories=coco, frozen_batch_norm=True
    )
    model = build_model(spec)
    torch.manual_seed(0)
    before = model.state_dict()
    for layer in (CLS, BOX, MASK):
        for kind in ("weight", "bias"):
            before[f"{layer}.{kind}"].normal_()
    path = tmp_path / "like_coco.pth"
    torch.save(before, path)
    start = starting_point(path, CategoryTable.from_names("dog", "cell"), name="run")
    state = start.model.state_dict()
    numbers = {category.name: category.id for category in coco.categories}
    real = [number for name, number in numbers.items() if not name.startswith("unused")]

    assert len(real) == 80
    assert state[f"{CLS}.weight"].shape == (3, 1024)
    assert_equal(rows(state, 1), rows(before, numbers["dog"]))
    assert_equal(rows(state, 2), mean_rows(before, real))
    assert start.spec.architecture == "maskrcnn_resnet50_fpn"
    assert start.spec.min_size == 800
    assert start.notes[-1] == ("Forgets person, bicycle, car, motorcycle, airplane and 74 more.")


def test_a_checkpoint_starts_with_its_averaged_weights(tmp_path: Path) -> None:
    spec = slim_spec("made", CategoryTable.from_names("a"), fpn_channels=16)
    averaged = torch.optim.swa_utils.AveragedModel(build_model(spec), use_buffers=True)
    path = tmp_path / "last.pt"
    torch.save({"averaged": averaged.state_dict(), "spec": spec.to_json()}, path)
    start = starting_point(path, CategoryTable.from_names("a"), name="run")

    before = averaged.module.state_dict()
    assert all(torch.equal(value, before[key]) for key, value in start.model.state_dict().items())


def test_from_scratch_the_seed_alone_decides_on_the_weights() -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    one = starting_point(None, NUCLEUS, name="run", seed=5).model.state_dict()
    # whoever draws random numbers goes on as if nothing had been
    assert torch.equal(torch.rand(3), expected)
    same = starting_point(None, NUCLEUS, name="run", seed=5)
    other = starting_point(None, NUCLEUS, name="run", seed=6).model.state_dict()

    assert all(torch.equal(value, one[key]) for key, value in same.model.state_dict().items())
    assert not torch.equal(one[f"{CLS}.weight"], other[f"{CLS}.weight"])
    assert same.spec == slim_spec("run", NUCLEUS)
    assert (same.source, same.weights_hash) == ("", "")
    assert same.notes[0].startswith("Starts from random weights")


def test_other_anchors_keep_the_weights(tmp_path: Path) -> None:
    path = tmp_path / "base.safetensors"
    random_file(path, CategoryTable.from_names("a"))
    start = starting_point(path, CategoryTable.from_names("a"), name="run")
    sizes = ((4, 6), (16, 20), (32, 40), (64, 80))
    changed = start.with_anchors(sizes)
    before = start.model.state_dict()

    assert changed.spec.anchor_sizes == changed.model.rpn.anchor_generator.sizes == sizes
    assert all(torch.equal(value, before[key]) for key, value in changed.model.state_dict().items())
    assert changed.notes == start.notes
    assert start.model.rpn.anchor_generator.sizes == ((8, 12), (16, 24), (32, 48), (64, 110))


def test_another_magnification_keeps_the_weights(tmp_path: Path) -> None:
    path = tmp_path / "base.safetensors"
    random_file(path, CategoryTable.from_names("a"))
    start = starting_point(path, CategoryTable.from_names("a"), name="run")
    changed = start.with_zoom(1.5)
    before = start.model.state_dict()
    assert changed.spec == replace(start.spec, zoom=1.5)
    assert all(torch.equal(value, before[key]) for key, value in changed.model.state_dict().items())


def test_a_network_that_resizes_cannot_be_trained_for_magnified_images() -> None:
    spec = ModelSpec(name="photos", architecture="maskrcnn_resnet50_fpn", categories=NUCLEUS)
    start = StartingPoint(spec=spec, model=None, notes=())
    with pytest.raises(WeightsError, match="photos resizes images to 800 px itself"):
        start.with_zoom(2.0)


@pytest.mark.parametrize("sizes", [((8,),), ((8,), (16,), (32,), (64,))])
def test_anchors_in_another_number_are_refused(sizes: tuple[tuple[int, ...], ...]) -> None:
    start = starting_point(None, NUCLEUS, name="run")

    with pytest.raises(ValueError, match="as many anchor sizes on each level"):
        start.with_anchors(sizes)


@pytest.mark.parametrize(
    ("num_channels", "note"),
    [
        (1, "The images are grey: all 3 inputs get the same."),
        (2, "The images have 2 channels: the first one alone is used, for all 3 inputs."),
        (4, "Of 4 channels the first three are used."),
    ],
)
def test_notes_say_what_becomes_of_channels(num_channels: int, note: str) -> None:
    start = starting_point(None, NUCLEUS, name="run", num_channels=num_channels)

    assert start.notes[-1] == note
    assert len(start.notes) == 2


def test_nothing_is_said_of_colour_images() -> None:
    assert len(starting_point(None, NUCLEUS, name="run", num_channels=3).notes) == 1


def test_a_start_without_a_category_is_refused() -> None:
    with pytest.raises(ValueError, match="one category or more"):
        starting_point(None, CategoryTable(categories=()), name="run")


def test_a_model_that_is_not_there_is_named() -> None:
    with pytest.raises(WeightsError, match="no model 'nowhere'"):
        starting_point("nowhere", NUCLEUS, name="run")
