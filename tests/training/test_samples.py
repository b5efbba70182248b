"""Annotated images in memory: nothing flattened, every kind drawn."""

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
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
from napari_deeppixel.dataset.formats.coco import write_coco
from napari_deeppixel.dataset.store import Dataset
from napari_deeppixel.training.pixels import PixelCache
from napari_deeppixel.training.samples import (
    Sample,
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
    # nobody has looked at these two
    assert first.weights.tolist() == [0.5, 0.5]
    assert first.ignored is None
    assert (first.file_name, first.plane, first.image_hw) == ("a.png", (), (20, 30))
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


def test_crowds_are_ignored_but_for_the_instances_in_them(tmp_path: Path) -> None:
    cells = instances_of([rectangle(1, 2, 5, 8), rectangle(3, 4, 9, 8)], (20, 30))
    folder = write_split(tmp_path / "train", {"a.png": (grey_of(cells), cells)}, crowds=2)
    annotated = json.loads((folder / "instances.json").read_text(encoding="utf-8"))
    annotated["annotations"] = annotated["annotations"][1:]
    (folder / "instances.json").write_text(json.dumps(annotated), encoding="utf-8")
    (sample,) = read_split(folder, RANGE_8_BIT)
    assert len(sample.instances) == 1
    # the first crowd without its four pixels columns 3 and 4, rows 4 to 7 of the instance
    assert ignored_rows(sample, (20, 30)) == {
        2: "1-4",
        3: "1-4",
        **dict.fromkeys(range(4, 8), "1-2"),
    }


def test_a_split_without_an_image_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "instances.json").write_text(
        '{"images": [], "annotations": [], "categories": []}', encoding="utf-8"
    )
    with pytest.raises(AnnotationError, match=r"no image in instances\.json"):
        read_split(tmp_path, RANGE_8_BIT)


def test_instances_side_by_side_share_a_plane_and_overlapping_ones_do_not() -> None:
    apart = [rectangle(0, 0, 2, 2), rectangle(2, 0, 4, 2)]
    assert pack_label_planes(apart, (0, 0, 6, 3)).tolist() == [
        [[1, 1, 2, 2, 0, 0], [1, 1, 2, 2, 0, 0], [0, 0, 0, 0, 0, 0]]
    ]
    over = [rectangle(0, 0, 3, 2), rectangle(2, 1, 5, 3), rectangle(5, 0, 6, 1)]
    assert pack_label_planes(over, (0, 0, 6, 3)).tolist() == [
        [[1, 1, 1, 0, 0, 3], [1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]],
        [[0, 0, 0, 0, 0, 0], [0, 0, 2, 2, 2, 0], [0, 0, 2, 2, 2, 0]],
    ]


def test_no_instance_gives_one_empty_plane() -> None:
    planes = pack_label_planes([], (0, 0, 30, 20))
    assert planes.shape == (1, 20, 30)
    assert not planes.any()


@given(instance_sets(max_instances=6), st.data())
def test_every_mask_can_be_read_back_from_the_planes_of_a_region(
    instances: InstanceSet, data: st.DataObject
) -> None:
    height, width = instances.image_hw
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    bottom, right = data.draw(st.integers(top + 1, height)), data.draw(st.integers(left + 1, width))
    planes = pack_label_planes(instances.masks, (left, top, right, bottom))
    for number, mask in enumerate(instances.masks, start=1):
        inside = mask.to_mask(instances.image_hw)[top:bottom, left:right]
        assert np.array_equal((planes == number).any(axis=0), inside)
        assert (planes == number).sum() == inside.sum()


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
    # it is background, not ignored
    assert sample.ignored is None


def test_images_may_lie_in_a_folder_of_their_own(tmp_path: Path) -> None:
    folder = write_split(tmp_path / "train", {"a.png": (grey_of(two_cells()), two_cells())})
    (folder / "images").mkdir()
    (folder / "a.png").rename(folder / "images" / "a.png")
    (sample,) = read_split(folder, RANGE_8_BIT)
    assert sample.path == folder / "images" / "a.png"


def ignored_rows(sample: Sample, image_hw: tuple[int, int]) -> dict[int, str]:
    """Return which columns of each row are ignored, as "first-last" of one run."""
    assert sample.ignored is not None
    rows = {}
    for y, row in enumerate(sample.ignored.to_mask(image_hw)):
        columns = np.flatnonzero(row)
        if columns.size:
            assert columns.size == columns[-1] - columns[0] + 1
            rows[y] = f"{columns[0]}-{columns[-1]}"
    return rows


STATES = (
    InstanceState.ACCEPTED,
    InstanceState.EDITED,
    InstanceState.DRAWN,
    InstanceState.UNREVIEWED,
    InstanceState.UNSURE,
    InstanceState.REJECTED,
)


def six_cells() -> InstanceSet:
    """Return one cell of each state, side by side: columns 5 n to 5 n + 3, rows 2 to 5."""
    masks = [rectangle(5 * n, 2, 5 * n + 4, 6) for n in range(6)]
    return instances_of(masks, (20, 30), states=STATES, uuids=tuple(STATES))


def dataset_sample(
    tmp_path: Path, state: ImageState, regions: tuple[Any, ...] = ()
) -> list[Sample]:
    cells = six_cells()
    dataset = Dataset.create(tmp_path / "set", categories=cells.categories)
    plane = AnnotatedImage.of("any", cells, regions=regions)
    dataset.add_pixels(grey_of(cells), name="a", planes=[plane], state=state, split=Split.TRAIN)
    return read_split(dataset.path / "train", RANGE_8_BIT)


def test_states_decide_what_an_instance_of_a_complete_image_is(tmp_path: Path) -> None:
    (sample,) = dataset_sample(tmp_path, ImageState.COMPLETE)
    weights = dict(zip(sample.instances.uuids, sample.weights.tolist(), strict=True))
    assert weights == {"accepted": 1, "edited": 1, "drawn": 1, "unreviewed": 0.5}
    # of the unsure one alone nobody knows what it is
    assert ignored_rows(sample, (20, 30)) == dict.fromkeys(range(2, 6), "20-23")


# the left 17 columns: three cells, and half of the unreviewed one
REGION = ((0.0, 0.0), (17.0, 0.0), (17.0, 20.0), (0.0, 20.0))


@pytest.mark.parametrize("state", [ImageState.DRAFT, ImageState.NONE])
def test_a_draft_counts_in_its_complete_regions_and_is_ignored_elsewhere(
    tmp_path: Path, state: ImageState
) -> None:
    (sample,) = dataset_sample(tmp_path, state, (REGION,))
    # one pixel of the unreviewed one in the region is enough
    assert sample.instances.uuids == ("accepted", "edited", "drawn", "unreviewed")
    assert ignored_rows(sample, (20, 30)) == {
        y: "19-29" if 2 <= y < 6 else "17-29" for y in range(20)
    }


def test_outside_of_regions_a_persons_instance_counts_and_a_prediction_does_not(
    tmp_path: Path,
) -> None:
    region = ((25.0, 0.0), (30.0, 0.0), (30.0, 20.0), (25.0, 20.0))
    (sample,) = dataset_sample(tmp_path, ImageState.DRAFT, (region,))
    assert sample.instances.uuids == ("accepted", "edited", "drawn")
    assert sample.ignored is not None
    ignored = sample.ignored.to_mask((20, 30))
    assert not ignored[2:6, 0:4].any()
    assert ignored[2:6, 15:25].all()
    assert not ignored[:, 25:].any()


def test_two_regions_that_overlap_are_one(tmp_path: Path) -> None:
    left = ((0.0, 0.0), (20.0, 0.0), (20.0, 20.0), (0.0, 20.0))
    right = ((10.0, 0.0), (30.0, 0.0), (30.0, 20.0), (10.0, 20.0))
    (sample,) = dataset_sample(tmp_path, ImageState.DRAFT, (left, right))
    assert ignored_rows(sample, (20, 30)) == dict.fromkeys(range(2, 6), "20-23")


def test_a_draft_without_a_pixel_in_a_region_is_left_out(tmp_path: Path) -> None:
    outside = ((40.0, 0.0), (50.0, 0.0), (50.0, 20.0))
    with pytest.raises(AnnotationError, match="mark images or regions complete"):
        dataset_sample(tmp_path, ImageState.DRAFT, (outside,))


def test_a_coco_file_counts_whole_but_for_drafts_and_what_lies_outside_of_regions(
    tmp_path: Path,
) -> None:
    cells = replace(two_cells(), states=(InstanceState.DRAWN,) * 2)
    images = [
        AnnotatedImage.of("plain.png", cells),
        AnnotatedImage.of("draft.png", cells, state=ImageState.DRAFT),
        AnnotatedImage.of("part.png", cells, regions=(REGION,)),
        AnnotatedImage.of("done.png", cells, regions=(REGION,), state=ImageState.COMPLETE),
    ]
    images = [
        replace(image, instances=replace(cells, uuids=(f"{n}a", f"{n}b")))
        for n, image in enumerate(images)
    ]
    for image in images:
        iio.imwrite(tmp_path / image.file_name, grey_of(cells))
    write_coco(images, tmp_path / "instances.json")
    samples = {s.file_name: s for s in read_split(tmp_path, RANGE_8_BIT)}
    assert list(samples) == ["plain.png", "part.png", "done.png"]
    assert samples["plain.png"].ignored is None
    assert samples["done.png"].ignored is None
    part = samples["part.png"]
    assert part.ignored is not None
    assert part.ignored.area == 13 * 20 - 100


def test_ignored_pixels_do_not_decide_what_an_image_looks_like(tmp_path: Path) -> None:
    cells = instances_of([rectangle(1, 2, 5, 8)], (20, 30))
    pixels = grey_of(cells)
    # far brighter than the cell, but nobody knows what it is
    pixels[:, 17:] = 255
    plane = AnnotatedImage.of("a.png", cells, regions=(REGION,))
    iio.imwrite(tmp_path / "a.png", pixels)
    write_coco([plane], tmp_path / "instances.json")
    (sample,) = read_split(tmp_path, RANGE_8_BIT)
    assert sample.appearance == "grey, lighter objects"


def test_pixels_are_read_when_asked_for_and_samples_can_be_sent_to_a_process(
    tmp_path: Path,
) -> None:
    cells = two_cells()
    folder = write_split(tmp_path / "train", {"a.png": (grey_of(cells), cells)})
    cache = PixelCache(max_bytes=0)
    (sample,) = read_split(folder, RANGE_8_BIT, cache=cache)
    iio.imwrite(folder / "a.png", grey_of(cells) + 1)
    assert sample.pixels[3, 2, 0] == 201
    sent = pickle.loads(pickle.dumps([sample]))[0]
    assert sent.pixels[3, 2, 0] == 201
    assert_same_instances(sent.instances, cells)
    assert len(pickle.dumps(sample)) < 20_000


def test_weights_are_as_many_as_instances_and_above_0() -> None:
    cells = two_cells()
    assert sample_of(cells).weights.tolist() == [1, 1]
    for wrong in ([1.0], [1.0, 0.0], [1.0, np.nan]):
        with pytest.raises(ValueError, match="2 instances need as many weights above 0"):
            sample_of(cells, weights=np.array(wrong, np.float32))


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
