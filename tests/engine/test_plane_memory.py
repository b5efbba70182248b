"""How many planes a device's memory has room for."""

from typing import Any, get_args

import pytest
import torch

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.engine.base import PredictOptions
from napari_deeppixel.engine.build import CropTransform
from napari_deeppixel.engine.plane_memory import input_hw, planes_that_fit
from napari_deeppixel.engine.spec import Architecture, ModelSpec, slim_spec

CELLS = CategoryTable.from_names("cell")
GIB = 2**30


def resnet_spec(**changes: Any) -> ModelSpec:
    values = {"architecture": "maskrcnn_resnet50_fpn"} | changes
    return ModelSpec(name="m", categories=CELLS, **values)


@pytest.mark.parametrize(
    "spec",
    [
        slim_spec("m", CELLS),
        slim_spec("m", CELLS, zoom=1.5),
        resnet_spec(),
        resnet_spec(min_size=64, max_size=96),
    ],
    ids=["own size", "magnified", "resized", "resized small"],
)
@pytest.mark.parametrize("zoom", [None, 0.5, 2.0])
@pytest.mark.parametrize("image_hw", [(33, 65), (64, 300), (1, 7)])
def test_the_size_is_that_of_the_network_s_own_transform(
    spec: ModelSpec, zoom: float | None, image_hw: tuple[int, int]
) -> None:
    transform = CropTransform(spec).eval()
    transform.set_zoom(spec.zoom if zoom is None else zoom)
    images, _ = transform([torch.zeros(3, *image_hw)])
    assert input_hw(spec, image_hw, PredictOptions(zoom=zoom)) == tuple(images.tensors.shape[-2:])


def test_planes_share_half_of_what_is_free() -> None:
    # 512 x 512 px of 400 bytes and 100 instances of 0.8 MB: 185 MB
    options = PredictOptions(max_instances=100)
    spec = slim_spec("m", CELLS)
    assert planes_that_fit(spec, (512, 512), options, free_bytes=1_850_000_000) == 5
    assert planes_that_fit(spec, (500, 481), options, free_bytes=1_850_000_000) == 5
    assert planes_that_fit(spec, (512, 512), options, free_bytes=0) == 1


def test_a_magnified_plane_and_more_instances_need_more() -> None:
    def fitting(**changes: Any) -> int:
        options = PredictOptions(**{"max_instances": 10, **changes})
        return planes_that_fit(slim_spec("m", CELLS), (512, 512), options, free_bytes=4 * GIB)

    assert fitting() > fitting(zoom=2) > 1
    assert fitting() > fitting(max_instances=1000) > 1


@pytest.mark.parametrize("architecture", get_args(Architecture))
def test_each_architecture_has_its_figures(architecture: Architecture) -> None:
    spec = resnet_spec(architecture=architecture)
    assert planes_that_fit(spec, (64, 64), PredictOptions(), free_bytes=64 * GIB) > 1
