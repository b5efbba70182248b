"""Networks as a spec describes them."""

from dataclasses import replace
from importlib import resources
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from tests.engine.networks import noise

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import WeightsError
from napari_deeppixel.core.normalization import Normalization
from napari_deeppixel.engine.base import PredictOptions
from napari_deeppixel.engine.build import build_model
from napari_deeppixel.engine.maskrcnn import MaskRCNNEngine
from napari_deeppixel.engine.spec import ModelSpec, slim_spec
from napari_deeppixel.engine.weights import load_model

FLUORESCENCE = resources.files("napari_deeppixel") / "samples" / "fluorescence.png"
CELLS = CategoryTable.from_names("cell", "debris")


def pools_of(model: Any) -> list[Any]:
    return [model.roi_heads.box_roi_pool, model.roi_heads.mask_roi_pool]


@pytest.mark.parametrize("image_hw", [(40, 56), (1, 1), (17, 300), (64, 64)])
def test_the_first_image_does_not_change_how_later_ones_are_pooled(
    image_hw: tuple[int, int],
) -> None:
    # torchvision would infer stride 2 from an image of 40 rows that is padded to 64
    spec = slim_spec("x", CELLS, fpn_channels=8)
    engine = MaskRCNNEngine(spec, build_model(spec))
    engine.predict([noise(*image_hw)], PredictOptions(max_instances=5))
    for pool in pools_of(engine.model):
        assert pool.scales == [1 / 4, 1 / 8, 1 / 16]
        assert (pool.map_levels.k_min, pool.map_levels.k_max) == (2, 4)
        assert pool.map_levels.s0 == 64


@pytest.mark.parametrize("architecture", ["maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2"])
def test_a_resnet50_has_the_outputs_strides_and_limits_of_its_spec(architecture: Any) -> None:
    spec = ModelSpec(
        name="x",
        architecture=architecture,
        categories=CELLS,
        box_nms=0.3,
        rpn_post_nms_top_n=77,
        anchor_sizes=((16,), (32,), (64,), (128,), (256,)),
    )
    model = build_model(spec)
    assert model.roi_heads.box_predictor.cls_score.out_features == 3
    assert model.roi_heads.mask_predictor.mask_fcn_logits.out_channels == 3
    for pool in pools_of(model):
        assert pool.scales == [1 / 4, 1 / 8, 1 / 16, 1 / 32]
    assert model.rpn.anchor_generator.sizes == spec.anchor_sizes
    assert model.roi_heads.nms_thresh == 0.3
    assert model.rpn._post_nms_top_n["testing"] == 77


def test_frozen_norms_get_their_epsilon() -> None:
    spec = ModelSpec(
        name="x",
        architecture="maskrcnn_resnet50_fpn",
        categories=CELLS,
        frozen_batch_norm=True,
        batch_norm_eps=0.25,
    )
    norms = [m for m in build_model(spec).modules() if hasattr(m, "running_var")]
    assert {type(norm).__name__ for norm in norms} == {"FrozenBatchNorm2d"}
    assert {norm.eps for norm in norms} == {0.25}


def test_the_slim_network_is_small() -> None:
    model = build_model(slim_spec("x", CELLS))
    # 16 MB of fp16 in the wheel
    assert sum(value.numel() for value in model.state_dict().values()) < 8_000_000
    assert model.roi_heads.box_predictor.cls_score.out_features == 3


def test_the_slim_network_trains_on_an_image_without_an_object() -> None:
    torch.manual_seed(0)
    model = build_model(slim_spec("x", CELLS, fpn_channels=8)).train()
    nothing = {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.int64),
        "masks": torch.zeros(0, 64, 64, dtype=torch.uint8),
    }
    losses = model([torch.rand(3, 64, 64)], [nothing])
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_an_unknown_network_is_a_weights_error_that_lists_the_known() -> None:
    spec = ModelSpec(name="x", architecture="yolo", categories=CELLS)  # type: ignore[arg-type]
    with pytest.raises(WeightsError, match=r"unknown architecture 'yolo'.*maskrcnn_slim"):
        build_model(spec)


def test_a_magnified_image_gives_what_its_enlargement_gives() -> None:
    engine = load_model("nuclei", device="cpu")
    own = engine.spec.zoom
    pixels = iio.imread(FLUORESCENCE)[:96, :128].astype(np.float32)[..., None]
    twice = torch.nn.functional.interpolate(
        torch.from_numpy(pixels.transpose(2, 0, 1))[None], scale_factor=2 * own, mode="bilinear"
    )
    range_ = Normalization(mode="range", low=0, high=255)
    options = PredictOptions(normalization=range_, zoom=2 * own)
    [found] = engine.predict([pixels], options)
    [enlarged] = engine.predict([twice[0, 0].numpy()[..., None]], replace(options, zoom=1))
    assert len(found.candidates) == len(enlarged.candidates) >= 2
    np.testing.assert_allclose(
        found.candidates.predicted_boxes_xyxy,
        enlarged.candidates.predicted_boxes_xyxy / (2 * own),
        atol=1e-3,
    )
    # and the model's own comes back for the next run
    engine.predict([pixels], PredictOptions())
    assert engine.model.transform.resize(torch.zeros(1, 20, 30))[0].shape[-2:] == (
        round(20 * own),
        round(30 * own),
    )


def test_a_network_that_resizes_takes_larger_images_when_magnified() -> None:
    transform = build_model(
        ModelSpec(name="x", architecture="maskrcnn_resnet50_fpn", categories=CELLS)
    ).transform.eval()
    assert transform.resize(torch.zeros(3, 100, 120))[0].shape[-2:] == (800, 960)
    transform.set_zoom(0.5)
    assert transform.resize(torch.zeros(3, 100, 120))[0].shape[-2:] == (400, 480)
    assert transform.resize(torch.zeros(3, 10, 120))[0].shape[-1] in (665, 666)
