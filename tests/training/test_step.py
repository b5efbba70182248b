"""A step goes on where memory runs out, and stops where numbers are no longer finite."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torchvision
from tests.training.runs import OPTIONS, SPEC, start_of, train, weights_of

from napari_deeppixel.core.errors import DeepPixelError, DeviceError
from napari_deeppixel.engine.spec import ModelSpec
from napari_deeppixel.training.choices import Freeze
from napari_deeppixel.training.distributed import Processes
from napari_deeppixel.training.events import StepEnded, Warned
from napari_deeppixel.training.state import FitState, freeze_layers, training_dtype

FIXED_NORMS = replace(OPTIONS, train_batch_norm=False, iterations=3, evaluate_every=9)
Change = Callable[[int, dict[str, Any]], None]


def change_losses(monkeypatch: pytest.MonkeyPatch, change: Change) -> None:
    """Let a function see the number of crops and the losses of each training batch."""
    forward = type(start_of().model).forward

    def changed(model: Any, images: list[Any], targets: Any = None) -> Any:
        losses = forward(model, images, targets)
        if model.training:
            change(len(images), losses)
        return losses

    monkeypatch.setattr(type(start_of().model), "forward", changed)


def fit_at_most(crops: int) -> Change:
    def change(count: int, _losses: dict[str, Any]) -> None:
        if count > crops:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    return change


def test_the_same_crops_are_taken_again_when_memory_runs_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_by_one = replace(FIXED_NORMS, batch_size=1, accumulate=2)
    train(tmp_path / "small", one_by_one)
    train(tmp_path / "large", FIXED_NORMS)
    change_losses(monkeypatch, fit_at_most(1))
    events = train(tmp_path / "halved", FIXED_NORMS)
    warnings = [event.message for event in events if isinstance(event, Warned)]
    assert len(warnings) == 1
    assert "out of memory: from step 1 on, 1 crops at a time instead of 2" in warnings[0]
    # as if it had been started so: the same crops, each looked at in the same way
    assert torch.equal(weights_of(tmp_path / "halved"), weights_of(tmp_path / "small"))
    # and nearly as with enough memory: the mask loss is a mean over the objects at a time
    large = weights_of(tmp_path / "large")
    begun = [v.flatten() for v in start_of().model.state_dict().values() if v.is_floating_point()]
    moved, difference = large - torch.cat(begun), weights_of(tmp_path / "halved") - large
    assert difference.abs().mean() < 0.2 * moved.abs().mean()


def test_a_smaller_batch_is_kept_when_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        change_losses(patched, fit_at_most(1))
        train(tmp_path / "run", FIXED_NORMS)
    seen = []
    change_losses(monkeypatch, lambda count, _losses: seen.append(count))
    train(tmp_path / "run", replace(FIXED_NORMS, iterations=4), resume=True)
    assert seen == [1, 1]


def test_one_crop_that_does_not_fit_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_losses(monkeypatch, fit_at_most(0))
    with pytest.raises(DeviceError, match="one crop of 64 px does not fit the memory of cpu"):
        train(tmp_path / "run", FIXED_NORMS)


def test_other_errors_are_not_taken_for_a_lack_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_count: int, _losses: dict[str, Any]) -> None:
        raise RuntimeError("shape mismatch")

    change_losses(monkeypatch, fail)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        train(tmp_path / "run", FIXED_NORMS)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_step_without_a_finite_loss_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    steps = []

    def spoil(_count: int, losses: dict[str, Any]) -> None:
        steps.append(losses)
        if len(steps) == 2:
            losses["loss_mask"] = losses["loss_mask"] * value

    change_losses(monkeypatch, spoil)
    events = train(tmp_path / "run", FIXED_NORMS)
    warnings = [event.message for event in events if isinstance(event, Warned)]
    assert warnings == ["step 2 was left out: its loss is not a finite number"]
    assert torch.isfinite(weights_of(tmp_path / "run")).all()
    (told,) = [event for event in events if isinstance(event, StepEnded)]
    assert told.iteration == 3
    assert told.loss < 10


def test_ten_such_steps_in_a_row_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []

    def spoil(_count: int, losses: dict[str, Any]) -> None:
        steps.append(losses)
        if len(steps) > 3 and len(steps) != 5:
            losses["loss_mask"] = losses["loss_mask"] * float("nan")

    change_losses(monkeypatch, spoil)
    expected = r"10 steps in a row \(up to step 15\).*rate below 0\.001, such as.* 0\.00025"
    with pytest.raises(DeepPixelError, match=expected):
        train(tmp_path / "run", replace(FIXED_NORMS, iterations=30, evaluate_every=99))


# which layers learn ------------------------------------------------------------------------------


def learning(model: Any) -> set[str]:
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    return {".".join(name.split(".")[:3]) for name in names if name.startswith("backbone.body")}


def test_layers_freeze_and_thaw() -> None:
    model = start_of().model
    everything = learning(model)
    assert len(everything) > 4
    freeze_layers(model, Freeze.UPPER, SPEC)
    assert learning(model) == {"backbone.body.layer3"}
    freeze_layers(model, Freeze.HEADS, SPEC)
    assert learning(model) == set()
    assert all(p.requires_grad for p in model.rpn.parameters())
    assert all(p.requires_grad for p in model.backbone.fpn.parameters())
    freeze_layers(model, Freeze.NONE, SPEC)
    assert learning(model) == everything


def test_the_last_stage_of_a_resnet50_is_its_fourth() -> None:
    spec = ModelSpec(name="", architecture="maskrcnn_resnet50_fpn", categories=SPEC.categories)
    with torch.device("meta"):
        body = torchvision.models.resnet50()
    model = SimpleNamespace(backbone=SimpleNamespace(body=body))
    freeze_layers(model, Freeze.UPPER, spec)
    assert {name.split(".")[0] for name, p in body.named_parameters() if p.requires_grad} == {
        "layer4"
    }


def changed_stages(path: Path) -> set[str]:
    before = start_of().model.state_dict()
    after = torch.load(path / "last.pt", weights_only=True)["model"]
    return {
        name.split(".")[2]
        for name, value in before.items()
        if name.startswith("backbone.body") and not torch.equal(value, after[name])
    }


def test_frozen_layers_stay_bit_for_bit(tmp_path: Path) -> None:
    train(tmp_path / "heads", replace(FIXED_NORMS, freeze=Freeze.HEADS))
    assert changed_stages(tmp_path / "heads") == set()
    train(tmp_path / "upper", replace(FIXED_NORMS, freeze=Freeze.UPPER))
    assert changed_stages(tmp_path / "upper") == {"layer3"}


def test_heads_learn_first_then_all(tmp_path: Path) -> None:
    two_steps = replace(FIXED_NORMS, heads_first=2, iterations=2)
    train(tmp_path / "run", two_steps)
    assert changed_stages(tmp_path / "run") == set()
    train(tmp_path / "run", replace(two_steps, iterations=3), resume=True)
    assert changed_stages(tmp_path / "run") > {"layer1", "layer2", "layer3"}


def test_statistics_of_batch_norms_stay_unless_they_are_trained(tmp_path: Path) -> None:
    name = "backbone.body.bn1.running_mean"
    for is_trained in (False, True):
        path = tmp_path / str(is_trained)
        train(path, replace(FIXED_NORMS, train_batch_norm=is_trained))
        after = torch.load(path / "last.pt", weights_only=True)["model"][name]
        assert torch.equal(after, start_of().model.state_dict()[name]) is not is_trained


def test_small_gradients_are_scaled_up_in_fp16_alone() -> None:
    state = FitState(SPEC, start_of().model, OPTIONS, Processes())
    assert training_dtype(torch.device("cpu")) is not torch.float16
    assert not state.scaler.is_enabled()
