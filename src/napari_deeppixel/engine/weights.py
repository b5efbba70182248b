"""Weights files: loading what is safe and fits, saving, and models by name."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import safetensors
import safetensors.torch

from napari_deeppixel.core.atomic import atomic_file
from napari_deeppixel.core.category import Category, CategoryTable, palette_color
from napari_deeppixel.core.errors import WeightsError
from napari_deeppixel.core.normalization import Normalization
from napari_deeppixel.core.progress import CancelToken, Progress
from napari_deeppixel.engine.base import EngineKind
from napari_deeppixel.engine.build import build_model
from napari_deeppixel.engine.catalogue import CATALOGUE, CatalogueEntry
from napari_deeppixel.engine.device import pick_device
from napari_deeppixel.engine.download import fetch
from napari_deeppixel.engine.fast import FastEngine
from napari_deeppixel.engine.library import ModelLibrary, hash_of, packaged_weights
from napari_deeppixel.engine.maskrcnn import MaskRCNNEngine
from napari_deeppixel.engine.model_name import USED
from napari_deeppixel.engine.spec import Architecture, ModelSpec
from napari_deeppixel.engine.spec_file import SPEC_KEY, naming, read_spec, unreadable
from napari_deeppixel.engine.torch_gate import torch, torchvision

_COCO_NUM_CLASSES = 91

StateDict = dict[str, Any]
# takes a spec, a network and the hash of its weights
MakeEngine = Callable[..., MaskRCNNEngine]


def load_model(
    model: str | Path,
    *,
    engine: EngineKind = "fast",
    device: str = "auto",
    cancel: CancelToken | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> MaskRCNNEngine:
    """Return an engine with the weights of a model, ready to predict.

    Parameters
    ----------
    model
        ``nuclei`` (in this package), ``coco`` or ``coco-v2`` (torchvision's, downloaded once into
        torch's cache), a name in the `ModelLibrary`, ``used`` for the model in use there, or the
        path of a ``.safetensors`` or ``.pth`` file.
    engine
        ``fast``, or ``reference``: torchvision's own forward. On ``mps`` it is always this one.
    device
        ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
    cancel, on_progress
        For the download.

    Raises
    ------
    WeightsError
        If the name is unknown, or the file is missing, damaged, unsafe, or does not fit.
    DeviceError
        If there is no such device.
    RunCancelled
        If `cancel` was set meanwhile.
    """
    make_engine = _maker(engine, pick_device(device))
    library = ModelLibrary()
    name = library.current if str(model) == USED else str(model)
    entries = {entry.name: entry for entry in CATALOGUE}
    if name not in entries:
        in_library = library.find(name)
        if in_library is None:
            return _load_file(Path(name), make_engine)
        # instances tell the name that people know, whatever training called it
        return _load_file(in_library, make_engine, name=in_library.stem)
    entry = entries[name]
    if not entry.torchvision_weights:
        with packaged_weights(entry.name) as path:
            return _load_file(path, make_engine)
    return _load_published(entry, make_engine, cancel, on_progress)


def load_file(path: Path, *, engine: EngineKind = "fast", device: str = "auto") -> MaskRCNNEngine:
    """Return an engine with the weights of a file, whatever models its name stands for.

    Parameters
    ----------
    path
        A ``.safetensors`` or ``.pth`` file.
    engine, device
        As for `load_model`.

    Raises
    ------
    WeightsError, DeviceError
        As `load_model`.
    """
    return _load_file(path, _maker(engine, pick_device(device)))


def _maker(engine: EngineKind, torch_device: str) -> MakeEngine:
    if engine not in get_args(EngineKind):
        raise ValueError(f"engine must be fast or reference, got {engine!r}")
    # nobody has run the fast one on Apple's GPUs
    is_fast = engine == "fast" and torch_device != "mps"
    return partial(FastEngine if is_fast else MaskRCNNEngine, device=torch_device)


def save_weights(model: Any, spec: ModelSpec, path: Path | str) -> None:
    """Write weights as fp16 with their spec to a ``.safetensors`` file, whole or not at all.

    Batch-norm statistics stay fp32: fp16 cannot hold them all.
    """
    path = Path(path)
    state = {
        name: (value if _keeps_precision(name, value) else value.half()).cpu().contiguous()
        for name, value in model.state_dict().items()
    }
    with atomic_file(path) as file:
        file.write(safetensors.torch.save(state, metadata={SPEC_KEY: spec.to_json()}))


def _keeps_precision(name: str, value: Any) -> bool:
    return not value.is_floating_point() or name.endswith(("running_var", "running_mean"))


def _load_file(path: Path, make_engine: MakeEngine, *, name: str | None = None) -> MaskRCNNEngine:
    if not path.is_file():
        names = ", ".join([*(entry.name for entry in CATALOGUE), *ModelLibrary().names()])
        raise WeightsError(f"no model {str(path)!r}: neither a file nor one of {names}")
    if path.suffix == ".safetensors":
        spec = read_spec(path)
        state = safetensors.torch.load_file(path)
    elif path.suffix in (".pth", ".pt"):
        spec, state = _read_checkpoint(path)
    else:
        raise WeightsError(
            f"{path}: {path.suffix or 'a file without ending'} is no weights file; use "
            ".safetensors or .pth"
        )
    return _engine(replace(spec, name=name or spec.name), state, path, make_engine)


def _engine(
    spec: ModelSpec, state: StateDict, path: Path, make_engine: MakeEngine
) -> MaskRCNNEngine:
    with naming(path):
        model = build_model(spec)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        problems = str(error).splitlines()[1:]
        shown = "; ".join(problem.strip() for problem in problems[:3])
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise WeightsError(
            f"{path}: the weights do not fit {spec.architecture} with "
            f"{spec.categories.num_classes - 1} categories: {shown[:500]}{more}"
        ) from error
    return make_engine(spec, model, weights_hash=hash_of(path))


def _read_checkpoint(path: Path) -> tuple[ModelSpec, StateDict]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path}: needs to run code to be read, or is no torch file, and was refused; save its "
            "weights alone with torch.save(model.state_dict(), …)"
        ) from error
    # of 7,000 damaged files some ended in IndexError, struct.error, AssertionError and TypeError
    except Exception as error:
        raise unreadable(path, error) from error
    if isinstance(content, dict) and isinstance(content.get("averaged"), dict):
        # a checkpoint of our own training: the averaged weights are the model
        prefix = "module."
        averaged = content["averaged"].items()
        state = {name[len(prefix) :]: v for name, v in averaged if name.startswith(prefix)}
        with naming(path):
            return ModelSpec.from_json(content.get("spec", "")), state
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        # torchvision's training scripts put the state dict under "model"
        content = content["model"]
    if not isinstance(content, dict) or not all(
        isinstance(value, torch.Tensor) for value in content.values()
    ):
        raise WeightsError(f"{path}: holds no state dict of a model")
    return _guess_spec(content, path), content


def _guess_spec(state: StateDict, path: Path) -> ModelSpec:
    """Return the spec of a torchvision state dict, told from its names and shapes."""
    is_resnet50 = "backbone.body.layer4.0.conv3.weight" in state
    architecture: Architecture
    if is_resnet50 and "roi_heads.box_head.fc6.weight" in state:
        architecture = "maskrcnn_resnet50_fpn"
    elif is_resnet50 and "roi_heads.box_head.0.0.weight" in state:
        architecture = "maskrcnn_resnet50_fpn_v2"
    else:
        raise WeightsError(
            f"{path}: not a state dict of torchvision's maskrcnn_resnet50_fpn or "
            "maskrcnn_resnet50_fpn_v2; other networks need a .safetensors file written by "
            "napari-deeppixel"
        )
    try:
        num_classes = int(state["roi_heads.box_predictor.cls_score.weight"].shape[0])
    except (KeyError, IndexError) as error:
        raise WeightsError(f"{path}: the box predictor is missing: no Mask R-CNN") from error
    if num_classes == _COCO_NUM_CLASSES:
        categories = coco_categories()
    else:
        names = [f"category {index}" for index in range(1, num_classes)]
        categories = CategoryTable.from_names(*names)
    return _resnet50_spec(
        path.stem,
        architecture,
        categories,
        frozen_batch_norm=not any(name.endswith("num_batches_tracked") for name in state),
    )


def _resnet50_spec(
    name: str, architecture: Architecture, categories: CategoryTable, **changes: Any
) -> ModelSpec:
    # 8-bit photographs are divided by 255, as torchvision's weights expect
    normalization = Normalization(mode="auto")
    return ModelSpec(
        name=name,
        architecture=architecture,
        categories=categories,
        normalization=normalization,
        **changes,
    )


def coco_categories() -> CategoryTable:
    """Return COCO's categories; class index and category id are the same.

    torchvision's networks have outputs for ten numbers that COCO never used; they are named as
    unused, so that nothing a network says is lost.
    """
    names = torchvision.models.detection.MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    numbers = range(1, len(names))
    return CategoryTable(
        categories=tuple(
            Category(
                id=n,
                name=f"unused {n}" if names[n] == "N/A" else names[n],
                color=palette_color(n - 1),
            )
            for n in numbers
        ),
        class_indices=tuple(numbers),
    )


def _load_published(
    entry: CatalogueEntry,
    make_engine: MakeEngine,
    cancel: CancelToken | None,
    on_progress: Callable[[Progress], None] | None,
) -> MaskRCNNEngine:
    weights = torchvision.models.get_weight(entry.torchvision_weights)
    path = fetch(weights.url, cancel=cancel, on_progress=on_progress)
    guessed, state = _read_checkpoint(path)
    spec = replace(
        guessed,
        name=entry.name,
        description=entry.description,
        # torchvision sets this when it loads these weights (overwrite_eps)
        batch_norm_eps=0.0 if guessed.frozen_batch_norm else guessed.batch_norm_eps,
        provenance={
            "url": weights.url,
            "licence": "BSD-3-Clause",
            "data": "COCO train2017",
        },
    )
    return _engine(spec, state, path, make_engine)
