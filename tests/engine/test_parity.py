"""The same answer as torchvision's own Mask R-CNN with the same weights."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.engine.networks import as_tensor, noise, sharpen
from torchvision.models import detection
from torchvision.ops import FrozenBatchNorm2d

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.engine.base import PredictOptions
from napari_deeppixel.engine.build import CropTransform
from napari_deeppixel.engine.maskrcnn import MaskRCNNEngine
from napari_deeppixel.engine.spec import ModelSpec
from napari_deeppixel.engine.weights import load_model

# small and few, for both networks: the law is the same and the test is quick
LIMITS = {"min_size": 64, "max_size": 96}
PROPOSALS = 40
DETECTIONS = 15


def batch_norm(num_classes: int, **limits: Any) -> Any:
    return detection.maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=num_classes, **limits
    )


def frozen_batch_norm(num_classes: int, **limits: Any) -> Any:
    backbone = detection.backbone_utils.resnet_fpn_backbone(
        backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d, trainable_layers=3
    )
    return detection.MaskRCNN(backbone, num_classes=num_classes, **limits)


def version_2(num_classes: int, **limits: Any) -> Any:
    return detection.maskrcnn_resnet50_fpn_v2(
        weights=None, weights_backbone=None, num_classes=num_classes, **limits
    )


def spread_batch_norms(model: Any) -> None:
    """Give each batch norm its own mean and variance, so that a mixed-up one shows."""
    for module in model.modules():
        if hasattr(module, "running_var"):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)


@pytest.mark.parametrize(
    ("build", "num_classes", "architecture", "is_frozen"),
    [
        (batch_norm, 10, "maskrcnn_resnet50_fpn", False),
        (frozen_batch_norm, 91, "maskrcnn_resnet50_fpn", True),
        (version_2, 10, "maskrcnn_resnet50_fpn_v2", False),
    ],
)
def test_a_saved_network_finds_what_torchvisions_own_finds(
    build: Callable[..., Any],
    num_classes: int,
    architecture: str,
    is_frozen: bool,
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    limits = LIMITS | {"rpn_post_nms_top_n_test": PROPOSALS, "box_detections_per_img": DETECTIONS}
    reference = build(num_classes, **limits)
    spread_batch_norms(reference)
    images = [noise(120, 160), noise(150, 96, seed=1)]
    reference = sharpen(reference, as_tensor(images[0]))
    torch.save(reference.state_dict(), tmp_path / "model.pth")

    loaded = load_model(tmp_path / "model.pth", device="cpu")
    assert loaded.spec.architecture == architecture
    assert loaded.spec.frozen_batch_norm == is_frozen
    assert loaded.spec.categories.num_classes == num_classes
    spec = replace(loaded.spec, rpn_post_nms_top_n=PROPOSALS, **LIMITS)
    loaded.model.transform = CropTransform(spec)
    engine = MaskRCNNEngine(spec, loaded.model)

    with torch.inference_mode():
        expected = reference([as_tensor(image) for image in images])
    found = engine.predict(images, PredictOptions(max_instances=DETECTIONS))

    total = 0
    for image, want, have in zip(images, expected, found, strict=True):
        # where no pixel reaches 0.5, there is no instance
        masks = (want["masks"][:, 0] >= 0.5).numpy()
        kept = masks.any(axis=(1, 2))
        candidates = have.candidates
        assert candidates.image_hw == image.shape[:2]
        assert have.detection_scores.tolist() == want["scores"].tolist()
        assert candidates.scores.tolist() == want["scores"][kept].tolist()
        assert candidates.category_ids.tolist() == want["labels"][kept].tolist()
        assert candidates.predicted_boxes_xyxy.tolist() == want["boxes"][kept].tolist()
        for mask, pixels in zip(candidates.masks, masks[kept], strict=True):
            assert np.array_equal(mask.to_mask(image.shape[:2]), pixels)
        total += len(candidates)
    assert total > 20


@pytest.mark.parametrize("image_hw", [(120, 160), (300, 100), (64, 900)])
def test_an_image_is_resized_and_padded_as_torchvision_does(image_hw: tuple[int, int]) -> None:
    spec = ModelSpec(
        name="m",
        architecture="maskrcnn_resnet50_fpn",
        categories=CategoryTable.from_names("cell"),
    )
    tensor = as_tensor(noise(*image_hw))
    reference = detection.transform.GeneralizedRCNNTransform(
        800, 1333, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    ).eval()
    want, _ = reference([tensor])
    have, _ = CropTransform(spec).eval()([tensor])
    assert have.image_sizes == want.image_sizes
    assert torch.equal(have.tensors, want.tensors)
