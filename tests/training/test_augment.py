"""Crops: the same for the same seed, and masks where the objects are."""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from tests.training.datasets import (
    CELLS,
    RANGE_8_BIT,
    disc,
    discs_sample,
    instances_of,
    pixels_of,
    rectangle,
    sample_of,
)

from napari_deeppixel.core.category import Category, CategoryTable
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.core.normalization import Normalization
from napari_deeppixel.training.augment import Augmentation, random_crop
from napari_deeppixel.training.samples import Sample

AS_IT_IS = Augmentation(crop=48, zoom=(1, 1), noise=0)
PLAIN = Augmentation.plain(48)


def crop(
    sample: Sample,
    augmentation: Augmentation,
    seed: Any = 0,
    *,
    num_inputs: int = 3,
    zoom: float = 1.0,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    rng = np.random.default_rng(seed)
    return random_crop(sample, RANGE_8_BIT, augmentation, num_inputs=num_inputs, zoom=zoom, rng=rng)


def overlapping() -> Sample:
    """Return an image of 60 x 90 with small, large, thin and overlapping objects."""
    masks = [
        disc(20, 20, 12),
        disc(30, 25, 12),
        rectangle(60, 5, 62, 55),
        rectangle(80, 40, 83, 43),
    ]
    return sample_of(instances_of(masks, (60, 90)))


@given(
    st.integers(0, 2**32),
    st.sampled_from([32, 48, 128]),
    st.sampled_from([(1.0, 1.0), (0.6, 1.8), (0.3, 0.4), (3.0, 5.0)]),
)
def test_a_target_is_what_torchvision_trains_on(
    seed: int, size: int, zoom: tuple[float, float]
) -> None:
    image, target = crop(overlapping(), Augmentation(crop=size, zoom=zoom), seed)
    assert image.shape == (3, size, size)
    assert image.dtype == torch.float32
    assert torch.isfinite(image).all()
    count = len(target["labels"])
    assert target["boxes"].shape == (count, 4)
    assert target["boxes"].dtype == torch.float32
    assert target["labels"].dtype == torch.int64
    assert target["masks"].shape == (count, size, size)
    assert target["masks"].dtype == torch.uint8
    assert target["weights"].shape == (count,)
    assert target["weights"].dtype == torch.float32
    assert target["ignored"].shape == (size, size)
    assert target["ignored"].dtype == torch.bool
    for box, mask in zip(target["boxes"].tolist(), target["masks"].numpy(), strict=True):
        rows, columns = np.nonzero(mask)
        # half-open: one more than the last pixel
        extent = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert box == extent
        assert mask.sum() >= 10
        assert min(box[2] - box[0], box[3] - box[1]) >= 2
        assert mask.max() == 1


@given(st.integers(0, 2**32))
def test_the_same_seed_gives_the_same_crop(seed: int) -> None:
    first, first_target = crop(overlapping(), Augmentation(crop=64), seed)
    second, second_target = crop(overlapping(), Augmentation(crop=64), seed)
    assert torch.equal(first, second)
    assert all(torch.equal(first_target[key], second_target[key]) for key in first_target)


def test_other_seeds_give_other_crops() -> None:
    images = [crop(overlapping(), Augmentation(crop=32), seed)[0] for seed in range(8)]
    assert len({image.numpy().tobytes() for image in images}) == 8


@given(st.integers(0, 2**32))
def test_masks_lie_where_the_objects_are(seed: int) -> None:
    sample = sample_of(instances_of([disc(30, 25, 14), rectangle(55, 30, 80, 50)], (60, 90)))
    image, target = crop(sample, Augmentation(crop=64, zoom=(0.6, 1.8)), seed)
    is_object = target["masks"].numpy().any(axis=0)
    if not 100 < is_object.sum() < 64 * 64 - 100:
        return
    # brightness, contrast, noise, blur and inversion leave this
    assert abs(np.corrcoef(image[0].numpy().ravel(), is_object.ravel())[0, 1]) > 0.75


def test_a_whole_image_at_its_size_keeps_each_mask_pixel_for_pixel() -> None:
    masks = [disc(14, 14, 12), disc(24, 20, 10), rectangle(30, 2, 46, 5)]
    instances = instances_of(masks, (48, 48))
    full = [mask.to_mask((48, 48)) for mask in masks]
    turned_ways = set()
    for seed in range(12):
        _, target = crop(sample_of(instances), AS_IT_IS, seed)
        found = target["masks"].numpy().astype(bool)
        ways = [
            (turns, is_flipped)
            for turns in range(4)
            for is_flipped in (False, True)
            if {turn(mask, turns, is_flipped).tobytes() for mask in full}
            == {mask.tobytes() for mask in found}
        ]
        assert len(ways) == 1
        turned_ways.add(ways[0])
    assert len(turned_ways) > 4


def turn(mask: np.ndarray, turns: int, is_flipped: bool) -> np.ndarray:
    turned = np.rot90(mask, turns)
    return np.ascontiguousarray(turned[:, ::-1] if is_flipped else turned)


@pytest.mark.parametrize(
    ("mask", "is_kept"),
    [
        (rectangle(5, 5, 8, 8), False),  # 9 px
        (rectangle(5, 5, 10, 7), True),  # 10 px
        (rectangle(5, 5, 25, 6), False),  # 20 px, one row
        (rectangle(5, 5, 6, 25), False),
        (rectangle(0, 0, 5, 2), True),  # at the corner
        (rectangle(43, 46, 48, 48), True),
    ],
)
def test_what_is_under_10_px_or_a_line_is_ignored(mask: Any, is_kept: bool) -> None:
    sample = sample_of(instances_of([mask, disc(30, 30, 10)], (48, 48)))
    for seed in range(4):
        _, target = crop(sample, AS_IT_IS, seed)
        assert len(target["boxes"]) == (2 if is_kept else 1)
        # nor is it background
        assert target["ignored"].sum() == (0 if is_kept else mask.area)


def test_an_image_without_an_object_gives_an_empty_target() -> None:
    empty = InstanceSet.empty((20, 70), CELLS)
    image, target = crop(sample_of(empty), Augmentation(crop=64))
    assert image.shape == (3, 64, 64)
    assert target["boxes"].shape == (0, 4)
    assert target["labels"].shape == (0,)
    assert target["masks"].shape == (0, 64, 64)


def test_most_crops_of_a_sparse_image_hold_an_object() -> None:
    sample = sample_of(instances_of([disc(20, 20, 8)], (100, 100)))
    counts = [len(crop(sample, AS_IT_IS, seed)[1]["boxes"]) for seed in range(100)]
    # one in twenty lies anywhere
    assert 90 <= sum(counts) < 100


def test_an_image_smaller_than_the_crop_is_padded() -> None:
    sample = sample_of(instances_of([disc(6, 6, 5)], (13, 30)), limits=(0.0, 255.0))
    image, target = crop(sample, AS_IT_IS)
    assert image.shape == (3, 48, 48)
    assert target["masks"].sum() == disc(6, 6, 5).area


def test_a_one_pixel_image_gives_a_crop() -> None:
    sample = sample_of(InstanceSet.empty((1, 1), CELLS))
    image, target = crop(sample, Augmentation(crop=32, zoom=(0.2, 0.3)))
    assert image.shape == (3, 32, 32)
    assert len(target["boxes"]) == 0


def test_large_images_hold_small_objects_and_are_never_shrunk() -> None:
    squares = [rectangle(x, 18, x + 4, 22) for x in range(0, 1000, 20)]
    shrink = Augmentation(crop=64, zoom=(0.5, 0.5), noise=0)

    def largest(width: int) -> int:
        sample = sample_of(instances_of(squares[: width // 20], (40, width)))
        targets = [crop(sample, shrink, seed)[1] for seed in range(6)]
        return max(int(mask.sum()) for target in targets for mask in target["masks"])

    assert largest(1000) == 64  # 16 px, twice as wide and high
    with pytest.raises(ValueError, match="empty"):
        largest(800)  # 4 px are left of each


def test_labels_are_class_indices_of_a_table_with_gaps() -> None:
    table = CategoryTable(
        categories=(
            Category(id=70, name="cat", color="#ff0000"),
            Category(id=30, name="dog", color="#00ff00"),
        ),
        class_indices=(4, 9),
    )
    instances = instances_of(
        [rectangle(2, 2, 20, 20), rectangle(25, 25, 30, 30)],
        (48, 48),
        table,
        category_ids=np.array([30, 70]),
    )
    _, target = crop(sample_of(instances), AS_IT_IS)
    areas = target["masks"].sum(dim=(1, 2)).tolist()
    assert dict(zip(areas, target["labels"].tolist(), strict=True)) == {324: 9, 25: 4}


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_feeds_all_inputs_and_rgb_each_its_own(channels: int) -> None:
    instances = instances_of([disc(20, 20, 9)], (48, 48))
    pixels = np.concatenate(
        [pixels_of(instances, outside=outside) for outside in (20, 90, 160)[:channels]], axis=2
    )
    image, _ = crop(sample_of(instances, pixels), AS_IT_IS, seed=2)
    assert image.shape == (3, 48, 48)
    assert torch.equal(image[0], image[2]) == (channels == 1)


def test_uint16_pixels_are_normalised_by_the_limits_of_their_image() -> None:
    instances = instances_of([disc(20, 20, 9)], (48, 48))
    words = sample_of(instances, pixels_of(instances).astype(np.uint16) * 256, limits=(0, 65280.0))
    bytes_ = sample_of(instances)
    for seed in range(3):
        assert torch.allclose(crop(words, AS_IT_IS, seed)[0], crop(bytes_, AS_IT_IS, seed)[0])


def test_noise_stays_under_its_limit() -> None:
    flat = sample_of(InstanceSet.empty((48, 48), CELLS))
    for noise, largest in ((0.0, 0.0), (0.005, 0.006), (0.07, 0.075)):
        augmentation = Augmentation(crop=48, zoom=(1, 1), noise=noise)
        deviations = [float(crop(flat, augmentation, seed)[0].std()) for seed in range(20)]
        assert max(deviations) <= largest + 1e-6
        assert (max(deviations) > 1e-6) == (noise > 0)


def test_the_sample_stays_as_it_is() -> None:
    sample = discs_sample(0)
    pixels, weights = sample.pixels.copy(), sample.weights.copy()
    for seed in range(5):
        crop(sample, Augmentation(crop=64), seed)
    assert np.array_equal(sample.pixels, pixels)
    assert np.array_equal(sample.weights, weights)


def gradient_sample(image_hw: tuple[int, int] = (60, 90), **fields: Any) -> Sample:
    """Return an image whose every pixel is another, with two discs."""
    height, width = image_hw
    pixels = np.arange(height * width, dtype=np.uint16).reshape(*image_hw, 1)
    instances = instances_of([disc(20, 20, 9), disc(60, 40, 12)], image_hw)
    return sample_of(instances, pixels, limits=(0.0, float(height * width - 1)), **fields)


def test_a_plain_crop_is_a_part_of_the_image() -> None:
    sample = gradient_sample()
    places = set()
    for seed in range(10):
        image, target = crop(sample, PLAIN, seed)
        first = round(float(image[0, 0, 0]) * 5399)
        top, left = divmod(first, 90)
        expected = sample.pixels[top : top + 48, left : left + 48, 0] / 5399
        assert np.allclose(image[2].numpy(), expected, atol=1e-6)
        masks = [
            m.to_mask((60, 90))[top : top + 48, left : left + 48] for m in sample.instances.masks
        ]
        kept = [mask for mask in masks if mask.sum() >= 10]
        assert {m.tobytes() for m in target["masks"].numpy().astype(bool)} == {
            np.ascontiguousarray(m).tobytes() for m in kept
        }
        places.add((top, left))
    assert len(places) > 5


@pytest.mark.parametrize(("zoom", "jitter"), [(2.0, 1.0), (1.0, 2.0), (4.0, 0.5)])
def test_the_zoom_of_the_network_multiplies_the_random_one(zoom: float, jitter: float) -> None:
    instances = instances_of([rectangle(4, 6, 14, 12)], (24, 24))
    augmentation = Augmentation.plain(48, zoom=(jitter, jitter))
    image, target = crop(sample_of(instances), augmentation, zoom=zoom)
    assert target["boxes"].tolist() == [[8, 12, 28, 24]]
    assert target["masks"].sum() == 4 * 60
    inside = image[0, 14:22, 10:26]
    assert torch.allclose(inside, torch.full_like(inside, 200 / 255))


def test_masks_do_not_drift_off_the_image_when_it_is_resized() -> None:
    # "nearest" as v2 resizes masks rounds down: about a third of a pixel too far right and down
    rng = np.random.default_rng(0)
    squares = [
        rectangle(x + dx, y + dy, x + dx + 10 + dx, y + dy + 10 + dy)
        for x in range(0, 192, 24)
        for y in range(0, 192, 24)
        for dx, dy in [rng.integers(0, 5, 2).tolist()]
    ]
    sample = sample_of(instances_of(squares, (192, 192)), limits=(20.0, 200.0))
    for factor in (0.6, 0.8, 1.7):
        size = round(192 * factor)
        image, target = crop(sample, Augmentation.plain(size, zoom=(factor, factor)))
        drifts = []
        for box, mask in zip(target["boxes"].int().tolist(), target["masks"], strict=True):
            near = np.s_[max(0, box[1] - 1) : box[3] + 1, max(0, box[0] - 1) : box[2] + 1]
            by_mask, by_light = (
                ndimage.center_of_mass(values[near].numpy()) for values in (mask, image[0])
            )
            drifts.append(np.subtract(by_mask, by_light))
        assert len(drifts) == 64
        assert np.abs(np.mean(drifts, axis=0)).max() < 0.1


@pytest.mark.parametrize(
    "change",
    [
        {"turns": True},
        {"grey": 1.0},
        {"inversion": 1.0},
        {"gamma": 0.5},
        {"contrast": 0.25},
        {"brightness": 0.1},
        {"blur": 1.3},
        {"noise": 0.07},
    ],
)
def test_each_setting_changes_the_crop_by_itself(change: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (48, 48, 3), dtype=np.uint8)
    sample = sample_of(instances_of([disc(20, 20, 9)], (48, 48)), pixels)
    plain, _ = crop(sample, PLAIN)
    changed = [crop(sample, Augmentation.plain(48, **change), seed)[0] for seed in range(12)]
    assert any(not torch.equal(image, plain) for image in changed)
    if change == {"inversion": 1.0}:
        assert torch.allclose(changed[0], 1 - plain)
    if change == {"grey": 1.0}:
        assert torch.allclose(changed[0], plain.mean(dim=0).expand(3, -1, -1))
    if change == {"brightness": 0.1}:
        offsets = torch.stack([image - plain for image in changed])
        assert offsets.abs().max() <= 0.1 + 1e-6
        assert offsets.flatten(1).std(dim=1).max() < 1e-6
        assert len({round(float(o.mean()), 4) for o in offsets}) == 12


def test_blur_comes_on_top_of_other_changes() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (48, 48, 1), dtype=np.uint8)
    sample = sample_of(InstanceSet.empty((48, 48), CELLS), pixels)
    augmentation = Augmentation.plain(48, contrast=0.01, blur=1.3)
    deviations = [float(crop(sample, augmentation, seed)[0].std()) for seed in range(40)]
    # in a quarter of the crops, blur takes most of the noise away
    assert 3 <= sum(deviation < 0.25 for deviation in deviations) <= 17


def test_values_beyond_0_and_1_are_not_clipped() -> None:
    # dark background and very bright objects of a percentile stretch
    stretched = Normalization(mode="range", low=50, high=150, clip_low=-0.2, clip_high=1.5)
    sample = sample_of(instances_of([disc(20, 20, 9)], (48, 48)), limits=(50.0, 150.0))
    for augmentation in (PLAIN, replace(PLAIN, gamma=0.5)):
        image, _ = random_crop(
            sample, stretched, augmentation, num_inputs=3, rng=np.random.default_rng(1)
        )
        assert image.max() > 1.1
        assert image.min() < -0.05


def test_a_crop_leaves_torchs_own_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    crop(overlapping(), Augmentation(crop=32))
    assert torch.equal(torch.rand(3), expected)


def test_another_process_makes_the_same_crop() -> None:
    sample, augmentation = overlapping(), Augmentation(crop=48)
    here, target = crop(sample, augmentation, 3)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        there, other = pool.submit(_numpy_crop, sample, augmentation, 3).result()
    assert np.array_equal(here.numpy(), there)
    assert target.keys() == other.keys()
    assert all(np.array_equal(target[key].numpy(), other[key]) for key in other)


def _numpy_crop(sample: Sample, augmentation: Augmentation, seed: int) -> Any:
    torch.rand(int(np.random.default_rng().integers(1, 9)))
    image, target = crop(sample, augmentation, seed)
    return image.numpy(), {key: value.numpy() for key, value in target.items()}


def test_ignored_pixels_and_weights_go_with_the_crop() -> None:
    # the right part, of which nobody knows anything but the second disc
    ignored = np.zeros((60, 90), bool)
    ignored[:, 40:] = True
    ignored[disc(60, 40, 12).slices] &= ~disc(60, 40, 12).pixels
    sample = gradient_sample(
        ignored=CroppedMask.from_mask(ignored), weights=np.array([1.0, 0.5], np.float32)
    )
    for seed in range(8):
        image, target = crop(sample, PLAIN, seed)
        top, left = divmod(round(float(image[0, 0, 0]) * 5399), 90)
        expected = ignored[top : top + 48, left : left + 48].copy()
        for part in (m.to_mask((60, 90)) for m in sample.instances.masks):
            inside = part[top : top + 48, left : left + 48]
            if inside.sum() < 10:
                expected |= inside
        assert np.array_equal(target["ignored"].numpy(), expected)
        weight_of_area = {disc(20, 20, 9).area: 1.0, disc(60, 40, 12).area: 0.5}
        for mask, weight in zip(target["masks"], target["weights"].tolist(), strict=True):
            assert weight_of_area.get(int(mask.sum()), weight) == weight
    turned = crop(sample, replace(PLAIN, turns=True, crop=90), 2)[1]
    assert turned["ignored"].sum() == ignored.sum()
    assert not (turned["ignored"] & turned["masks"].any(dim=0)).any()
