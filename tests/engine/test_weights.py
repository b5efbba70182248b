"""Weights files: what is safe and fits is loaded, all else is refused by name."""

import hashlib
import io
import json
import os
import pickle
import struct
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from tests.engine.file_server import FileServer
from tests.engine.networks import noise, slim_engine, slim_model

from napari_deeppixel.core.category import Category, CategoryTable
from napari_deeppixel.core.errors import DeviceError, RunCancelled, WeightsError
from napari_deeppixel.core.progress import CancelToken, Progress
from napari_deeppixel.engine.base import PredictOptions
from napari_deeppixel.engine.build import build_model
from napari_deeppixel.engine.download import fetch
from napari_deeppixel.engine.fast import FastEngine
from napari_deeppixel.engine.maskrcnn import MaskRCNNEngine
from napari_deeppixel.engine.spec import ModelSpec, slim_spec
from napari_deeppixel.engine.weights import (
    coco_categories,
    load_file,
    load_model,
    read_spec,
    save_weights,
)

SPEC_KEY = "napari_deeppixel"
GAPPY = CategoryTable(
    categories=(
        Category(id=7, name="cat", color="#ff0000"),
        Category(id=3, name="dog", color="#00ff00"),
    ),
    class_indices=(1, 3),
)


def gappy_spec() -> ModelSpec:
    # narrow, to be small: 45 MB of the network are its body
    return slim_spec("pets", GAPPY, provenance={"licence": "CC0"}, fpn_channels=16)


@pytest.fixture(scope="module")
def model() -> Any:
    return slim_model(gappy_spec())


@pytest.fixture(scope="module")
def saved(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that `save_weights` wrote."""
    path = tmp_path_factory.mktemp("weights") / "pets.safetensors"
    save_weights(model, gappy_spec(), path)
    return path


def rewritten(saved: Path, path: Path, **changes: str) -> Path:
    """Return the path of the same weights with other metadata."""
    with safetensors.safe_open(saved, framework="pt") as file:
        metadata = dict(file.metadata()) | changes
    safetensors.torch.save_file(safetensors.torch.load_file(saved), path, metadata=metadata)
    return path


def refusal_of(path: Path) -> str:
    """Return the message with which a file is refused; it names the file."""
    with pytest.raises(WeightsError) as caught:
        load_model(path, device="cpu")
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_weights_come_back_as_they_were_saved(saved: Path, model: Any) -> None:
    engine = load_model(saved, device="cpu")
    assert engine.spec == gappy_spec()
    assert read_spec(saved) == gappy_spec()
    loaded = engine.model.state_dict()
    for name, value in model.state_dict().items():
        is_statistic = name.endswith(("running_mean", "running_var"))
        is_kept = is_statistic or not value.is_floating_point()
        expected = value if is_kept else value.half().to(value.dtype)
        assert torch.equal(loaded[name], expected), name
    digest = hashlib.sha256(saved.read_bytes()).hexdigest()
    assert engine.source == f"pets@{digest[:12]}"


def test_loaded_weights_predict_as_the_saved_ones(tmp_path: Path) -> None:
    engine = slim_engine()
    # what fp16 holds exactly comes back exactly
    for parameter in engine.model.parameters():
        parameter.data = parameter.data.half().float()
    save_weights(engine.model, engine.spec, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors", engine="reference", device="cpu")
    options = PredictOptions(max_instances=30)
    (want,) = engine.predict([noise(40, 56)], options)
    (have,) = loaded.predict([noise(40, 56)], options)
    assert len(want.candidates) > 10
    assert have.detection_scores.tolist() == want.detection_scores.tolist()
    boxes = want.candidates.predicted_boxes_xyxy
    assert have.candidates.predicted_boxes_xyxy.tolist() == boxes.tolist()


def test_saving_keeps_the_old_file_when_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"old")

    def no_space(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        save_weights(torch.nn.Linear(1, 1), gappy_spec(), path)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_the_shipped_model_loads_without_a_network(
    torch_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("urllib.request.urlopen", None)
    engine = load_model("nuclei", device="cpu")
    assert engine.spec.name == "nuclei"
    assert engine.spec.architecture == "maskrcnn_slim"
    assert not torch_home.exists()
    packaged = resources.files("napari_deeppixel") / "models" / "nuclei.safetensors"
    with resources.as_file(packaged) as path:
        assert read_spec(path) == engine.spec
        assert path.stat().st_size < 16 * 2**20


@pytest.mark.parametrize("keep", [0, 5, 8, 1000, -1])
def test_a_truncated_safetensors_file_is_refused(saved: Path, tmp_path: Path, keep: int) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(saved.read_bytes()[:keep])
    assert "cannot be read as weights" in refusal_of(path)
    with pytest.raises(WeightsError, match=r"cut\.safetensors"):
        read_spec(path)


def test_a_text_file_is_refused_whatever_its_ending(tmp_path: Path) -> None:
    for ending in ("safetensors", "pth", "pt"):
        path = tmp_path / f"notes.{ending}"
        path.write_text("these are notes and no weights\n" * 50, encoding="utf-8")
        refusal_of(path)
    path = tmp_path / "notes.txt"
    path.write_text("notes", encoding="utf-8")
    assert ".txt is no weights file; use .safetensors or .pth" in refusal_of(path)
    path = tmp_path / "notes"
    path.write_text("notes", encoding="utf-8")
    assert "a file without ending is no weights file" in refusal_of(path)


@pytest.mark.parametrize("keep", [0, 10, 1000, -100])
def test_a_truncated_pth_file_is_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "cut.pth"
    torch.save({"weight": torch.zeros(5000)}, path)
    path.write_bytes(path.read_bytes()[:keep])
    refusal_of(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")
@given(st.data(), st.booleans())
def test_a_damaged_pth_file_is_refused_or_read(
    tmp_path: Path, data: st.DataObject, is_zip: bool
) -> None:
    content = io.BytesIO()
    state = {"weight": torch.zeros(2)}
    torch.save(state, content, _use_new_zipfile_serialization=is_zip)
    damaged = bytearray(content.getvalue())
    for _ in range(3):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.pth"
    path.write_bytes(damaged)
    refusal_of(path)


class RunsCode:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(
    tmp_path: Path, is_zip: bool
) -> None:
    path, trap = tmp_path / "evil.pth", tmp_path / "trap"
    content = {"backbone": torch.zeros(1), "x": RunsCode(trap)}
    torch.save(content, path, _use_new_zipfile_serialization=is_zip)
    assert "needs to run code to be read" in refusal_of(path)
    assert not trap.exists()
    # the trap works: whoever allows code gets the folder
    torch.load(path, weights_only=False)
    assert trap.is_dir()


# torch says so before it refuses
@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")
def test_a_bare_pickle_is_refused_and_does_not_run(tmp_path: Path) -> None:
    path, trap = tmp_path / "evil.pt", tmp_path / "trap"
    path.write_bytes(pickle.dumps(RunsCode(trap)))
    refusal_of(path)
    assert not trap.exists()


def test_a_whole_model_instead_of_its_weights_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pth")
    assert "torch.save(model.state_dict(), …)" in refusal_of(tmp_path / "model.pth")


@pytest.mark.parametrize("content", [5, [1, 2], {"epoch": 3}, {"model": {"epoch": 3}}])
def test_a_torch_file_without_a_state_dict_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "model.pth")
    assert "holds no state dict of a model" in refusal_of(tmp_path / "model.pth")


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"fc.weight": torch.zeros(2)},
        {"backbone.body.layer4.0.conv3.weight": torch.zeros(2)},  # e.g. RetinaNet
    ],
)
def test_a_state_dict_of_another_network_is_refused(tmp_path: Path, state: Any) -> None:
    torch.save(state, tmp_path / "model.pth")
    message = refusal_of(tmp_path / "model.pth")
    assert "not a state dict of torchvision's maskrcnn_resnet50_fpn" in message


@pytest.mark.parametrize("scores", [{}, {"roi_heads.box_predictor.cls_score.weight": 1.0}])
def test_a_network_without_a_box_predictor_is_refused(tmp_path: Path, scores: Any) -> None:
    names = ("backbone.body.layer4.0.conv3.weight", "roi_heads.box_head.fc6.weight")
    state = {name: torch.zeros(1) for name in names}
    state |= {name: torch.tensor(value) for name, value in scores.items()}
    torch.save(state, tmp_path / "model.pth")
    assert "the box predictor is missing" in refusal_of(tmp_path / "model.pth")


def test_a_faster_rcnn_without_masks_is_refused(tmp_path: Path) -> None:
    network = torchvision.models.detection.fasterrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=3
    )
    torch.save({"model": network.state_dict()}, tmp_path / "boxes.pth")
    message = refusal_of(tmp_path / "boxes.pth")
    assert "do not fit maskrcnn_resnet50_fpn with 2 categories" in message
    assert "mask_head" in message


def test_a_description_with_another_number_of_categories_is_refused(
    saved: Path, tmp_path: Path
) -> None:
    wrong = replace(gappy_spec(), categories=CategoryTable.from_names("one"))
    path = rewritten(saved, tmp_path / "a.safetensors", **{SPEC_KEY: wrong.to_json()})
    message = refusal_of(path)
    assert "do not fit maskrcnn_slim with 1 categories" in message
    assert "size mismatch" in message
    # no screenful of tensors
    assert len(message) < 1000


def test_weights_of_another_network_than_the_description_are_refused(
    saved: Path, tmp_path: Path
) -> None:
    other = ModelSpec(name="x", architecture="maskrcnn_resnet50_fpn", categories=GAPPY)
    path = rewritten(saved, tmp_path / "a.safetensors", **{SPEC_KEY: other.to_json()})
    assert "do not fit maskrcnn_resnet50_fpn with 3 categories" in refusal_of(path)


def test_a_description_of_an_unknown_network_is_refused(saved: Path, tmp_path: Path) -> None:
    unknown = json.loads(gappy_spec().to_json()) | {"architecture": "yolo"}
    path = rewritten(saved, tmp_path / "a.safetensors", **{SPEC_KEY: json.dumps(unknown)})
    assert "unknown architecture 'yolo': update napari-deeppixel" in refusal_of(path)


@pytest.mark.parametrize("text", ["", "{}", '{"spec_version": 99}'])
def test_a_damaged_description_is_refused(saved: Path, tmp_path: Path, text: str) -> None:
    path = rewritten(saved, tmp_path / "a.safetensors", **{SPEC_KEY: text})
    assert "the model description" in refusal_of(path)


def test_a_safetensors_file_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"weight": torch.zeros(2)}, path)
    assert "no model description, so another program wrote it" in refusal_of(path)
    safetensors.torch.save_file({"weight": torch.zeros(2)}, path, metadata={"format": "pt"})
    assert "no model description" in refusal_of(path)


def test_a_header_that_claims_a_huge_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.safetensors"
    path.write_bytes(struct.pack("<Q", 2**60) + b"{}")
    assert "cannot be read as weights" in refusal_of(path)


def test_an_unknown_name_and_a_missing_file_are_refused_with_the_names_there_are(
    tmp_path: Path,
) -> None:
    with pytest.raises(WeightsError, match=r"no model 'nuclie': .*nuclei, coco, coco-v2"):
        load_model("nuclie", device="cpu")
    assert "neither a file nor one of" in refusal_of(tmp_path / "gone.pth")
    (tmp_path / "folder.pth").mkdir()
    assert "neither a file nor one of" in refusal_of(tmp_path / "folder.pth")


def test_an_unknown_device_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="tpu"):
        load_model(tmp_path / "gone.pth", device="tpu")


@pytest.mark.parametrize("load", [load_model, load_file])
def test_the_fast_engine_is_used_unless_the_reference_is_asked_for(load: Any, saved: Path) -> None:
    assert (load(saved, device="cpu").kind, type(load(saved, device="cpu"))) == ("fast", FastEngine)
    reference = load(saved, engine="reference", device="cpu")
    assert (reference.kind, type(reference)) == ("reference", MaskRCNNEngine)


def test_on_apples_gpus_the_reference_is_used(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("napari_deeppixel.engine.weights.pick_device", lambda device: device)
    monkeypatch.setattr(
        "napari_deeppixel.engine.weights.MaskRCNNEngine",
        lambda *_, device, **__: asked.append(device),
    )
    load_model(saved, engine="fast", device="mps")
    assert asked == ["mps"]


def test_an_unknown_engine_is_told_with_those_there_are(saved: Path) -> None:
    with pytest.raises(ValueError, match="engine must be fast or reference, got 'quick'"):
        load_model(saved, engine="quick", device="cpu")  # type: ignore[arg-type]


def test_our_own_checkpoint_gives_its_averaged_weights(model: Any, tmp_path: Path) -> None:
    averaged = {f"module.{name}": value for name, value in model.state_dict().items()}
    checkpoint = {
        "model": {name: torch.zeros_like(value) for name, value in model.state_dict().items()},
        "averaged": averaged | {"n_averaged": torch.tensor(3)},
        "spec": gappy_spec().to_json(),
    }
    torch.save(checkpoint, tmp_path / "last.pt")
    engine = load_model(tmp_path / "last.pt", device="cpu")
    assert engine.spec == gappy_spec()
    for name, value in model.state_dict().items():
        assert torch.equal(engine.model.state_dict()[name], value), name
    for damaged in ({"spec": "{}"}, {"spec": 5}, {"spec": None}):
        torch.save(checkpoint | damaged, tmp_path / "bad.pt")
        assert "the model description is damaged" in refusal_of(tmp_path / "bad.pt")


def test_coco_has_91_outputs_and_80_categories_that_people_know() -> None:
    table = coco_categories()
    assert table.num_classes == 91
    assert table.by_id(1).name == "person"
    assert table.by_id(90).name == "toothbrush"
    known = [c for c in table.categories if not c.name.startswith("unused")]
    assert len(known) == 80
    assert table.class_index_to_id() == {number: number for number in range(1, 91)}


class Published:
    """torchvision's entry for COCO, served from this computer with random weights."""

    def __init__(self, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
        spec = ModelSpec(
            name="x",
            architecture="maskrcnn_resnet50_fpn",
            categories=coco_categories(),
            frozen_batch_norm=True,
        )
        torch.manual_seed(0)
        path = Path(os.environ["TORCH_HOME"]).parent / "published.pth"
        torch.save(build_model(spec).state_dict(), path)
        self.content = path.read_bytes()
        digest = hashlib.sha256(self.content).hexdigest()
        self.name = f"maskrcnn_resnet50_fpn_coco-{digest[:8]}.pth"
        self.server = server
        self.url = f"{server.url}/models/{self.name}"
        weights = torchvision.models.get_weight("MaskRCNN_ResNet50_FPN_Weights.COCO_V1")
        monkeypatch.setattr(weights.value, "url", self.url)
        server.content[f"/models/{self.name}"] = self.content


def test_coco_is_fetched_once_and_its_frozen_norms_add_nothing(
    server: FileServer, torch_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = Published(server, monkeypatch)
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(RunCancelled):
        load_model("coco", device="cpu", cancel=cancel)

    steps: list[Progress] = []
    engine = load_model("coco", device="cpu", on_progress=steps.append)
    assert steps[-1].fraction == 1
    assert engine.spec.name == "coco"
    assert engine.spec.provenance["url"] == published.url
    assert engine.spec.frozen_batch_norm
    # torchvision's overwrite_eps(model, 0.0)
    assert engine.spec.batch_norm_eps == 0.0
    norms = [m for m in engine.model.modules() if type(m).__name__ == "FrozenBatchNorm2d"]
    assert len(norms) == 53
    assert {norm.eps for norm in norms} == {0.0}

    # and is there when the network is not
    server.content.clear()
    (cached,) = torch_home.rglob("*.pth")
    assert fetch(published.url) == cached
    assert engine.source == f"coco@{hashlib.sha256(cached.read_bytes()).hexdigest()[:12]}"


def test_coco_without_a_network_says_where_to_put_the_file(
    torch_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = torchvision.models.get_weight("MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1")
    monkeypatch.setattr(weights.value, "url", "http://127.0.0.1:9/coco_v2-0123abcd.pth")
    with pytest.raises(WeightsError, match="Without a network") as caught:
        load_model("coco-v2", device="cpu")
    assert str(torch_home / "hub" / "checkpoints" / "coco_v2-0123abcd.pth") in str(caught.value)
