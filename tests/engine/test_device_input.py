"""What the device makes of pixels is what the host made of them."""

from typing import Any

import numpy as np
import pytest
import torch
from tests.engine.networks import noise

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.normalization import Normalization
from napari_deeppixel.engine.build import CropTransform
from napari_deeppixel.engine.device_input import (
    input_size,
    normalise,
    padded_size,
    stage,
    to_input,
)
from napari_deeppixel.engine.spec import ModelSpec

RAMP = np.arange(30, dtype=np.float64).reshape(5, 6, 1)
NORMALIZATIONS = [
    Normalization(mode="percentile", low=1, high=99.8, clip_low=-0.2, clip_high=1.5),
    Normalization(mode="range", low=3.3, high=21.7),
    Normalization(mode="auto"),
]


def on_device(plane: np.ndarray, normalization: Normalization) -> np.ndarray:
    pixels, scaling = stage(plane, normalization)
    assert pixels.dtype in (np.uint8, np.uint16, np.float32)
    tensors = torch.from_numpy(np.stack([pixels] * 2)), torch.from_numpy(np.stack([scaling] * 2))
    result: np.ndarray = normalise(*tensors).numpy()[1]
    return result


def with_gaps(plane: np.ndarray) -> np.ndarray:
    plane = plane.copy()
    plane[0, :3, 0] = np.nan, np.inf, -np.inf
    return plane


@pytest.mark.parametrize("normalization", NORMALIZATIONS, ids=lambda found: found.mode)
@pytest.mark.parametrize(
    "plane",
    [
        RAMP.astype(np.uint8),
        (RAMP * 2184).astype(np.uint16),
        (RAMP * 2184).astype(">u2"),
        (RAMP - 15).astype(np.int16),
        RAMP > 11,
        RAMP.astype(np.float16),
        with_gaps((RAMP / 7).astype(np.float32)),
        with_gaps(RAMP / 7),
        (RAMP * 1e37).astype(np.float32),
        RAMP.astype(np.int64) + 2**40,
        np.full((5, 6, 1), 7, np.uint8),
        np.full((5, 6, 1), 7.5, np.float32),
        np.full((5, 6, 1), np.nan, np.float32),
    ],
    ids=lambda plane: f"{plane.dtype}-{plane.flat[-1]}",
)
def test_planes_are_normalised_to_the_same_bits(
    plane: np.ndarray, normalization: Normalization
) -> None:
    assert np.array_equal(on_device(plane, normalization), normalization.apply(plane))


def test_each_image_of_a_batch_has_its_own_limits() -> None:
    planes = [RAMP.astype(np.uint8), np.full((5, 6, 1), 3, np.uint8), RAMP.astype(np.uint8) * 8]
    pixels, scaling = zip(*[stage(plane, NORMALIZATIONS[0]) for plane in planes], strict=True)
    found = normalise(torch.from_numpy(np.stack(pixels)), torch.from_numpy(np.stack(scaling)))
    for have, plane in zip(found.numpy(), planes, strict=True):
        assert np.array_equal(have, NORMALIZATIONS[0].apply(plane))


@pytest.mark.parametrize(
    "changes",
    [
        {"min_size": 96, "max_size": 128},
        {"min_size": None, "max_size": None},
        {"min_size": None, "max_size": None, "zoom": 1.7},
        {"min_size": None, "max_size": None, "zoom": 0.6},
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("image_hw", [(50, 70), (160, 40), (64, 96)])
def test_images_are_resized_and_padded_as_by_the_transform(
    changes: dict[str, Any], channels: int, image_hw: tuple[int, int]
) -> None:
    spec = ModelSpec(
        name="m",
        architecture="maskrcnn_resnet50_fpn",
        categories=CategoryTable.from_names("cell"),
        **changes,
    )
    transform = CropTransform(spec).eval()
    images = torch.from_numpy(
        np.stack([noise(*image_hw, channels, seed=seed) for seed in (0, 1)]) / np.float32(255)
    )
    want, _ = transform([image.permute(2, 0, 1).expand(3, -1, -1) for image in images])
    input_hw = input_size(transform, image_hw)
    assert [input_hw] * 2 == want.image_sizes
    have = to_input(
        transform,
        images,
        mean=torch.tensor(spec.image_mean)[:, None, None],
        std=torch.tensor(spec.image_std)[:, None, None],
        padded_hw=padded_size(transform, input_hw),
    )
    assert torch.equal(have, want.tensors)
