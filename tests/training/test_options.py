"""Options fit the device and the images, and are a function of the step alone."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.training.datasets import CELLS

from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.engine.spec import ModelSpec, slim_spec
from napari_deeppixel.training.augment import Augmentation
from napari_deeppixel.training.options import (
    FitOptions,
    Freeze,
    Preset,
    iterations_of,
    learning_rate_factor,
    preset_options,
    read_options,
    sentences_of,
    with_evaluations,
    with_length,
    write_options,
)

SLIM = slim_spec("slim", CELLS)
BIG = ModelSpec(name="big", architecture="maskrcnn_resnet50_fpn", categories=CELLS)


def options_for(
    preset: Preset = Preset.CPU,
    *,
    spec: ModelSpec = SLIM,
    images: int = 10,
    is_from_scratch: bool = False,
    device: str = "cpu",
) -> FitOptions:
    options, _ = preset_options(
        preset,
        device=device,
        spec=spec,
        train_hw=[(256, 256)] * images,
        val_hw=[(256, 256)],
        is_from_scratch=is_from_scratch,
    )
    return options


@pytest.mark.parametrize(
    ("iteration", "factor"),
    [
        (0, 0.01),  # warm-up: 1 of 100
        (49, 0.5),
        (99, 1.0),
        (100, 1.0),
        (600, 1.0),
        (800, 0.505),  # half way down the cosine
        (1000, 0.01),
        (5000, 0.01),
    ],
)
def test_the_learning_rate_warms_up_stays_and_falls_along_a_cosine(
    iteration: int, factor: float
) -> None:
    assert learning_rate_factor(iteration, 1000) == pytest.approx(factor)


def test_the_learning_rate_falls_without_a_jump() -> None:
    factors = [learning_rate_factor(iteration, 1000) for iteration in range(100, 1001)]
    assert (np.diff(factors) <= 1e-12).all()
    assert np.abs(np.diff(factors)).max() < 0.005


def test_a_run_can_do_without_a_warm_up() -> None:
    options = FitOptions(iterations=10, warm_up=0, learning_rate=0.5)
    assert options.learning_rate_at(0) == 0.5


@pytest.mark.parametrize(("images", "iterations"), [(1, 100), (10, 250), (500, 1000)])
def test_fine_tuning_is_as_long_as_the_images_are_many(images: int, iterations: int) -> None:
    options = options_for(images=images)
    assert options.iterations == iterations
    assert (options.batch_size, options.learning_rate) == (4, 1e-4)
    assert options.warm_up == min(100, iterations // 10)
    assert not options.train_batch_norm


def test_random_weights_train_longer_faster_and_with_statistics_of_their_own() -> None:
    options = options_for(is_from_scratch=True)
    assert (options.iterations, options.batch_size, options.learning_rate) == (2000, 8, 1e-3)
    assert options.warm_up == 100
    assert options.train_batch_norm
    assert options.heads_first == 0


@pytest.mark.parametrize(("images", "steps"), [(4, 20), (5, 0)])
def test_few_images_train_the_heads_first(images: int, steps: int) -> None:
    assert options_for(images=images).heads_first == steps


@pytest.mark.parametrize(
    ("total_gb", "preset"), [(8, Preset.GPU_8_GB), (24, Preset.GPU_24_GB), (80, Preset.GPU_80_GB)]
)
def test_auto_takes_the_preset_for_the_memory(
    monkeypatch: pytest.MonkeyPatch, total_gb: int, preset: Preset
) -> None:
    card = SimpleNamespace(total_memory=total_gb * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: card)
    automatic = options_for(Preset.AUTO, device="cuda:0")
    assert automatic == options_for(preset)
    assert automatic.batch_size > options_for(Preset.CPU).batch_size


def test_auto_is_the_cpus_preset_without_a_card() -> None:
    assert options_for(Preset.AUTO) == options_for(Preset.AUTO, device="mps") == options_for()


def test_a_preset_that_nobody_measured_says_so() -> None:
    for preset, is_estimate in ((Preset.CPU, False), (Preset.GPU_8_GB, True)):
        _, notes = preset_options(
            preset,
            device="cpu",
            spec=SLIM,
            train_hw=[(9, 9)],
            val_hw=[],
            is_from_scratch=False,
        )
        assert ("estimates" in notes[0]) is is_estimate


def test_a_large_network_gets_smaller_batches() -> None:
    assert options_for(Preset.GPU_8_GB, spec=BIG).batch_size == 2


def test_crops_of_a_network_that_magnifies_are_larger() -> None:
    crop = options_for(spec=replace(SLIM, zoom=2.0)).augmentation.crop
    assert 256 < crop < 512
    assert crop % 32 == 0


def test_an_evaluation_takes_a_quarter_of_the_time_at_most() -> None:
    options = FitOptions(iterations=1000, batch_size=2, augmentation=Augmentation(crop=100))
    # 20 evaluations of a small set
    assert with_evaluations(options, spec=SLIM, val_hw=[(100, 100)]).evaluate_every == 50
    # a step costs three forward passes of 20,000 px, an evaluation one of 4,000,000
    many = with_evaluations(options, spec=SLIM, val_hw=[(1000, 1000)] * 4)
    assert many.evaluate_every == 200
    assert 4_000_000 / (4_000_000 + 200 * 3 * 20_000) == 0.25
    zoomed = replace(SLIM, zoom=2.0)
    assert with_evaluations(options, spec=zoomed, val_hw=[(500, 500)] * 4).evaluate_every == 200


def test_an_epoch_covers_the_images_once() -> None:
    options = FitOptions(batch_size=2, accumulate=2, augmentation=Augmentation(crop=100))
    # 40 crops of 10,000 px
    assert iterations_of(1, options, spec=SLIM, train_hw=[(200, 500)] * 4) == 10
    assert iterations_of(3, options, spec=SLIM, train_hw=[(200, 500)] * 4) == 30
    assert iterations_of(1, options, spec=SLIM, train_hw=[(200, 500)] * 4, processes=5) == 2
    # at least one crop an image
    assert iterations_of(1, options, spec=SLIM, train_hw=[(10, 10)] * 8) == 2
    assert iterations_of(1, options, spec=SLIM, train_hw=[(10, 10)]) == 1
    # the network sees four times the pixels
    zoomed = replace(SLIM, zoom=2.0)
    assert iterations_of(1, options, spec=zoomed, train_hw=[(200, 500)] * 4) == 40


def test_another_length_keeps_the_shares_of_its_parts() -> None:
    options = FitOptions(iterations=200, warm_up=20, heads_first=40)
    shorter = with_length(options, 100)
    assert (shorter.iterations, shorter.warm_up, shorter.heads_first) == (100, 10, 20)
    assert with_length(options, 10_000).warm_up == 100


def test_options_come_back_from_their_file(tmp_path: Path) -> None:
    options = FitOptions(
        iterations=7,
        freeze=Freeze.UPPER,
        augmentation=Augmentation(crop=96, zoom=(0.5, 2.0)),
    )
    write_options(options, tmp_path / "options.json")
    assert read_options(tmp_path / "options.json") == options


@pytest.mark.parametrize(
    "text", ["", "[]", '{"iterations": 3}', '{"augmentation": {}, "seed": -1}']
)
def test_options_that_cannot_be_read_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "options.json").write_text(text, encoding="utf-8")
    with pytest.raises(AnnotationError, match="options of the run cannot be read"):
        read_options(tmp_path / "options.json")


@pytest.mark.parametrize(
    ("name", "value"),
    [("iterations", 0), ("batch_size", 0), ("heads_first", -1), ("learning_rate", 0.0)],
)
def test_numbers_out_of_their_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be"):
        FitOptions(**{name: value})


def test_what_was_decided_is_told() -> None:
    options = FitOptions(iterations=1000, accumulate=2, freeze=Freeze.UPPER, heads_first=5)
    told = " ".join(sentences_of(options, processes=2))
    assert "1,000 steps of 32 crops of 256 px" in told
    assert "Until step 5 the heads alone learn" in told
    assert "Only the heads and the last stage learn" in told
