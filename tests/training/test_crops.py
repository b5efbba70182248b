"""Crops by number, at the scale at which the network will look at images."""

import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

import pytest
from tests.training.datasets import (
    CELLS,
    RANGE_8_BIT,
    instances_of,
    pixels_of,
    rectangle,
    sample_of,
    write_split,
)
from tests.training.runs import SPEC

from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.engine.spec import ModelSpec
from napari_deeppixel.training.augment import Augmentation
from napari_deeppixel.training.crops import crops_of_steps
from napari_deeppixel.training.distributed import Processes
from napari_deeppixel.training.options import FitOptions
from napari_deeppixel.training.pixels import PixelCache
from napari_deeppixel.training.samples import read_split

PLAIN = FitOptions(iterations=1, batch_size=1, workers=0, augmentation=Augmentation.plain(96))


def test_crops_come_at_the_scale_of_a_network_that_resizes_whole_images() -> None:
    sample = sample_of(instances_of([rectangle(10, 12, 20, 20)], (40, 60)))
    spec = ModelSpec(
        name="a",
        architecture="maskrcnn_resnet50_fpn",
        categories=CELLS,
        min_size=80,
        max_size=200,
    )
    ((crop,),) = crops_of_steps([sample], spec, PLAIN, first_iteration=0, processes=Processes())
    x1, y1, x2, y2 = crop.target["boxes"][0].tolist()
    # 40 px of height become 80
    assert (x2 - x1, y2 - y1) == (20, 16)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_is_deleted_meanwhile_is_named_in_one_line(
    tmp_path: Path, workers: int
) -> None:
    instances = instances_of([rectangle(10, 12, 20, 20)], (40, 60))
    folder = write_split(tmp_path / "train", {"a.png": (pixels_of(instances)[..., 0], instances)})
    samples = read_split(folder, RANGE_8_BIT, cache=PixelCache(max_bytes=0))
    (folder / "a.png").unlink()
    crops = crops_of_steps(
        samples,
        SPEC,
        replace(PLAIN, workers=workers),
        first_iteration=0,
        processes=Processes(),
    )
    with pytest.raises((DeepPixelError, OSError)) as caught:
        next(crops)
    assert "a.png" in str(caught.value)
    assert "Traceback" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "getpgid"), reason="Windows has no process groups")
def test_a_signal_for_all_processes_of_a_run_does_not_reach_those_that_make_crops() -> None:
    sample = sample_of(instances_of([rectangle(10, 12, 20, 20)], (40, 60)))
    crops = crops_of_steps(
        [sample],
        SPEC,
        replace(PLAIN, workers=1),
        first_iteration=0,
        processes=Processes(),
    )
    next(crops)
    (maker,) = multiprocessing.active_children()
    assert os.getpgid(maker.pid or 0) == maker.pid != os.getpgrp()
