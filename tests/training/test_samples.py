"""Annotated images in memory: nothing flattened, every kind drawn."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from tests.core.strategies import assert_same_instances, instance_sets
from tests.training.datasets import (
    CELLS,
    RANGE_8_BIT,
    disc,
    discs_sample,
    instances_of,
    pixels_of,
    rectangle,
    sample_of,
    write_split,
)

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.core.normalization import Normalization
from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState, Split
from napari_deeppixel.dataset.store import Dataset
from napari_deeppixel.training.samples import (
    common_categories,
    pack_label_planes,
    read_split,
    sampling_weights,
)

NO_CELL = InstanceSet.empty((20, 30), CELLS)


def two_cells(image_hw: tuple[int, int] = (20, 30)) -> InstanceSet:
    return instances_of([rectangle(1, 2, 5, 8), rectangle(20, 10, 30, 20)], image_hw)


def grey_of(instances: InstanceSet) -> np.ndarray:
    return pixels_of(instances)[..., 0]


def test_a_split_is_read_with_its_images_and_annotations(tmp_path: Path) -> None:
    cells = two_cells()
    folder = write_split(
        tmp_path / "train",
        {
            "a.png": (grey_of(cells), cells),
            "b.png": (grey_of(NO_CELL), NO_CELL),
        },
    )
    first, second = read_split(folder, RANGE_8_BIT)
    assert first.path == folder / "a.png"
    assert first.pixels.shape == (20, 30, 1)
    assert first.pixels[3, 2, 0] == 200
    assert first.limits == (0, 255)
    assert_same_instances(first.instances, cells)
    assert first.label_planes.dtype == np.int32
    assert first.label_planes.shape == (1, 20, 30)
    assert first.label_planes[0, 3, 2] == 1
    assert first.label_planes[0, 19, 29] == 2
    assert first.appearance == "grey, lighter objects"
    assert len(second.instances) == 0
    assert second.appearance == "empty"


def test_uint16_keeps_its_values_and_gets_the_limits_of_the_whole_image(tmp_path: Path) -> None:
    pixels = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
    folder = write_split(tmp_path / "train", {"a.png": (pixels, two_cells())})
    (sample,) = read_split(folder, Normalization(mode="percentile", low=0, high=100))
    assert sample.pixels.dtype == np.uint16
    assert sample.pixels.max() == 59900
    assert sample.limits == (0, 59900)


def test_rgba_is_read_as_rgb_and_unlike_channels_as_colour(tmp_path: Path) -> None:
    pixels = np.zeros((20, 30, 4), np.uint8)
    pixels[..., 0], pixels[..., 3] = 90, 255
    pixels[2:8, 1:5] = 10
    folder = write_split(tmp_path / "train", {"a.png": (pixels, two_cells())})
    (sample,) = read_split(folder, RANGE_8_BIT)
    assert sample.pixels.shape == (20, 30, 3)
    assert sample.appearance == "colour, darker objects"


def test_rgb_of_one_grey_is_grey(tmp_path: Path) -> None:
    grey = np.repeat(pixels_of(two_cells(), inside=10, outside=90), 3, axis=2)
    folder = write_split(tmp_path / "train", {"a.png": (grey, two_cells())})
    (sample,) = read_split(folder, RANGE_8_BIT)
    assert sample.appearance == "grey, darker objects"


def test_a_file_without_annotations_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"instances\.json: no such file"):
        read_split(tmp_path, RANGE_8_BIT)


def test_an_image_that_is_gone_is_an_error_that_names_it(tmp_path: Path) -> None:
    folder = write_split(tmp_path / "train", {"a.png": (grey_of(two_cells()), two_cells())})
    (folder / "a.png").unlink()
    with pytest.raises(AnnotationError, match=r"a\.png: image cannot be read"):
        read_split(folder, RANGE_8_BIT)


# Pillow ends in OSError and SyntaxError
@pytest.mark.parametrize("kept", [60, -60])
def test_an_image_that_is_damaged_is_an_error_that_names_it(tmp_path: Path, kept: int) -> None:
    folder = write_split(tmp_path / "train", {"a.png": (grey_of(two_cells()), two_cells())})
    content = (folder / "a.png").read_bytes()
    (folder / "a.png").write_bytes(content[:kept])
    with pytest.raises(AnnotationError, match=r"a\.png: image cannot be read"):
        read_split(folder, RANGE_8_BIT)


def test_an_image_of_another_size_than_its_annotations_is_an_error(tmp_path: Path) -> None:
    folder = write_split(tmp_path / "train", {"a.png": (np.zeros((30, 20), np.uint8), two_cells())})
    with pytest.raises(AnnotationError, match=r"a\.png has \(30, 20\) pixels, .* \(20, 30\)"):
        read_split(folder, RANGE_8_BIT)


def test_crowds_are_refused_rather_than_left_out(tmp_path: Path) -> None:
    folder = write_split(
        tmp_path / "train", {"a.png": (grey_of(two_cells()), two_cells())}, crowds=1
    )
    with pytest.raises(AnnotationError, match="crowd regions cannot be trained on yet"):
        read_split(folder, RANGE_8_BIT)


def test_a_split_without_an_image_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "instances.json").write_text(
        '{"images": [], "annotations": [], "categories": []}', encoding="utf-8"
    )
    with pytest.raises(AnnotationError, match=r"no image in instances\.json"):
        read_split(tmp_path, RANGE_8_BIT)


def test_instances_side_by_side_share_a_plane_and_overlapping_ones_do_not() -> None:
    apart = instances_of([rectangle(0, 0, 2, 2), rectangle(2, 0, 4, 2)], (3, 6))
    assert pack_label_planes(apart).tolist() == [
        [[1, 1, 2, 2, 0, 0], [1, 1, 2, 2, 0, 0], [0, 0, 0, 0, 0, 0]]
    ]
    over = instances_of(
        [rectangle(0, 0, 3, 2), rectangle(2, 1, 5, 3), rectangle(5, 0, 6, 1)], (3, 6)
    )
    assert pack_label_planes(over).tolist() == [
        [[1, 1, 1, 0, 0, 3], [1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]],
        [[0, 0, 0, 0, 0, 0], [0, 0, 2, 2, 2, 0], [0, 0, 2, 2, 2, 0]],
    ]


def test_no_instance_gives_one_empty_plane() -> None:
    planes = pack_label_planes(NO_CELL)
    assert planes.shape == (1, 20, 30)
    assert not planes.any()


@given(instance_sets(max_instances=6))
def test_every_mask_can_be_read_back_from_the_planes(instances: InstanceSet) -> None:
    planes = pack_label_planes(instances)
    for number, mask in enumerate(instances.masks, start=1):
        assert np.array_equal((planes == number).any(axis=0), mask.to_mask(instances.image_hw))
        assert (planes == number).sum() == mask.area


def test_a_rare_kind_is_drawn_more_often_but_not_as_often_as_the_common_one() -> None:
    kinds = ["grey"] * 4 + ["colour"]
    samples = [replace(discs_sample(0), appearance=kind) for kind in kinds]
    # square roots of 4 and 1: two thirds and one third
    assert sampling_weights(samples).tolist() == pytest.approx([1 / 6] * 4 + [1 / 3])
    assert sampling_weights(samples).sum() == pytest.approx(1)
    assert sampling_weights(samples[:1]).tolist() == [1]


def test_categories_must_be_the_same_in_all_images() -> None:
    cells = discs_sample(0)
    assert common_categories([cells, discs_sample(1)]) == CELLS
    dogs = sample_of(instances_of([disc(9, 9, 5)], (20, 30), CategoryTable.from_names("dog")))
    with pytest.raises(AnnotationError, match="2 different category tables"):
        common_categories([cells, dogs])
    with pytest.raises(AnnotationError, match="0 different category tables"):
        common_categories([])


def test_what_a_person_rejected_is_background(tmp_path: Path) -> None:
    cells = two_cells()
    rejected = replace(cells, states=(InstanceState.REJECTED, InstanceState.DRAWN))
    folder = write_split(tmp_path / "train", {"a.png": (grey_of(cells), rejected)})
    (sample,) = read_split(folder, RANGE_8_BIT)
    assert sample.instances.uuids == cells.uuids[1:]
    assert sample.label_planes.max() == 1


def test_images_may_lie_in_a_folder_of_their_own(tmp_path: Path) -> None:
    folder = write_split(tmp_path / "train", {"a.png": (grey_of(two_cells()), two_cells())})
    (folder / "images").mkdir()
    (folder / "a.png").rename(folder / "images" / "a.png")
    (sample,) = read_split(folder, RANGE_8_BIT)
    assert sample.path == folder / "images" / "a.png"


def test_a_dataset_gives_the_complete_images_of_a_split(tmp_path: Path) -> None:
    cells = two_cells()
    dataset = Dataset.create(tmp_path / "set", categories=cells.categories)
    for number, (state, split) in enumerate(
        [("complete", "train"), ("draft", "train"), ("complete", "val"), ("none", "train")]
    ):
        pixels = grey_of(cells) + np.uint8(number)
        dataset.add_pixels(
            pixels,
            name=f"{number}",
            planes=[AnnotatedImage.of("any", cells)],
            state=ImageState(state),
            split=Split(split),
        )
    (train,) = read_split(dataset.path / "train", RANGE_8_BIT)
    assert train.path.stem == "0"
    assert_same_instances(train.instances, cells)
    (val,) = read_split(dataset.path / "val", RANGE_8_BIT)
    assert val.path.stem == "2"
    with pytest.raises(AnnotationError, match="no complete image is in the split test"):
        read_split(dataset.path / "test", RANGE_8_BIT)
