"""Small runs of training, and how to compare what they leave."""

from pathlib import Path
from typing import Any

import torch
from tests.training.datasets import CELLS, discs_sample

from napari_deeppixel.engine.build import build_model
from napari_deeppixel.engine.spec import ModelSpec, slim_spec
from napari_deeppixel.training.augment import Augmentation
from napari_deeppixel.training.events import FitEvent
from napari_deeppixel.training.fit import fit
from napari_deeppixel.training.options import FitOptions
from napari_deeppixel.training.run_folder import RunFolder
from napari_deeppixel.training.start import StartingPoint

# narrow and coarse: the law of training is the same
SPEC = slim_spec("discs", CELLS, fpn_channels=8, rpn_post_nms_top_n=50)
OPTIONS = FitOptions(
    iterations=6,
    batch_size=2,
    evaluate_every=3,
    train_batch_norm=True,
    workers=0,
    augmentation=Augmentation(crop=64),
)
TRAIN = [discs_sample(1), discs_sample(2, (90, 84))]
VAL = [discs_sample(3)]


def start_of(spec: ModelSpec = SPEC) -> StartingPoint:
    """Return random weights, the same each time; training changes them in place."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return StartingPoint(spec=spec, model=build_model(spec), notes=())


def train(path: Path, options: FitOptions = OPTIONS, **changes: Any) -> list[FitEvent]:
    """Return the events of a run from its start or checkpoint to its end."""
    values = {"start": start_of(), "train": TRAIN, "val": VAL} | changes
    start, samples, val = (values.pop(name) for name in ("start", "train", "val"))
    return list(fit(start, samples, val, run=RunFolder(path), options=options, **values))


def checkpoint(path: Path) -> Any:
    return torch.load(path / "last.pt", weights_only=True)


def assert_same_content(left: Any, right: Any, place: str = "") -> None:
    """Check that two checkpoints hold the same numbers, bit for bit."""
    assert type(left) is type(right), place
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right), place
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), place
        for key in left:
            assert_same_content(left[key], right[key], f"{place}/{key}")
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), place
        for n, (a, b) in enumerate(zip(left, right, strict=True)):
            assert_same_content(a, b, f"{place}/{n}")
    else:
        assert left == right, place


def assert_same_run(left: Path, right: Path) -> None:
    """Check that two runs came to the same state and the same best weights, bit for bit."""
    assert_same_content(checkpoint(left), checkpoint(right))
    best = [path / "best.safetensors" for path in (left, right)]
    assert best[0].read_bytes() == best[1].read_bytes()


def weights_of(path: Path) -> torch.Tensor:
    """Return all trained weights of a run as one vector."""
    model = checkpoint(path)["model"]
    return torch.cat([v.flatten() for v in model.values() if v.is_floating_point()])
