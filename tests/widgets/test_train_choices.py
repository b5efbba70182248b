"""The fields of a training run, and the options that they become."""

from typing import Any

import pytest

from napari_deeppixel.widgets.train_choices import TrainChoices


@pytest.fixture
def choices(qtbot: Any) -> TrainChoices:
    choices = TrainChoices()
    choices.show_models((("mine", "about mine"), ("older", "")), current="mine")
    for each in (choices.start, choices.preset, choices.epochs):
        qtbot.addWidget(each)
    return choices


def texts(choices: TrainChoices) -> list[str]:
    return [choices.start.itemText(at) for at in range(choices.start.count())]


def test_base_is_recommended_and_current_and_the_others_follow(choices: TrainChoices) -> None:
    assert texts(choices) == [
        "base: nuclei (recommended)",
        "current: mine",
        "older",
        "scratch: random weights",
        "open a weights file…",
    ]
    assert choices.model == "nuclei"


def test_what_is_auto_is_left_to_the_command(choices: TrainChoices) -> None:
    assert choices.options() == ("--from", "nuclei", "--preset", "auto")


def test_all_choices_become_options_that_the_command_takes(choices: TrainChoices) -> None:
    choices.start.setCurrentIndex(1)
    choices.preset.setCurrentIndex(1)
    choices.epochs.setValue(3)
    choices.freeze.setCurrentIndex(choices.freeze.findData("heads"))
    choices.learning_rate.setValue(0.0005)
    choices.batch.setValue(2)
    choices.crop.setValue(128)
    choices.seed.setValue(7)
    choices.show_devices([("cpu", "CPU")])
    choices.device.setCurrentIndex(1)
    choices.workers.setValue(0)
    options = " ".join(choices.options())
    assert options == (
        "--from mine --preset cpu --epochs 3 --freeze heads --batch-size 2 --crop 128 --seed 7 "
        "--device cpu --workers 0 --learning-rate 0.0005"
    )


def test_a_file_that_was_opened_stays_when_the_list_changes(choices: TrainChoices) -> None:
    choices.add_file("/models/theirs.safetensors")
    choices.show_models((), current="nuclei")
    assert choices.model == "/models/theirs.safetensors"
    assert texts(choices)[1] == "theirs.safetensors"


def test_without_a_model_of_ones_own_current_is_base(choices: TrainChoices) -> None:
    choices.show_models((), current="nuclei")
    assert texts(choices) == [
        "base: nuclei (recommended)",
        "scratch: random weights",
        "open a weights file…",
    ]


def test_a_chosen_model_that_is_gone_gives_way_to_base(choices: TrainChoices) -> None:
    choices.start.setCurrentIndex(2)
    choices.show_models((), current="nuclei")
    assert choices.model == "nuclei"
