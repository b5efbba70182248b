"""Cropped masks and their run lengths."""

import pickle

import numpy as np
import pytest
from faster_coco_eval import mask_api_new_cpp as coco_mask
from hypothesis import given
from hypothesis import strategies as st
from tests.core.strategies import bool_images, masks_in, sizes_hw

from napari_deeppixel.core.mask import CroppedMask, mask_to_rle_counts, rle_counts_to_mask

images = sizes_hw.flatmap(bool_images)
images_with_two_masks = sizes_hw.flatmap(
    lambda hw: st.tuples(st.just(hw), masks_in(hw), masks_in(hw))
)


def cropped(rows: list[str], *, y: int = 0, x: int = 0) -> CroppedMask:
    """Return the mask drawn with # and . in rows."""
    mask = CroppedMask.from_mask(np.array([[c == "#" for c in row] for row in rows]), y=y, x=x)
    assert mask is not None
    return mask


def reference_counts(mask: np.ndarray) -> list[int]:
    packed = coco_mask.encode(np.asfortranarray(mask[..., np.newaxis].astype(np.uint8)))
    return [int(count) for count in coco_mask.toUncompressedRLE(packed)[0]["counts"]]


def test_from_mask_trims_to_the_set_pixels_and_keeps_their_place() -> None:
    mask = cropped(["....", "..#.", "..##", "...."], y=10, x=20)
    assert (mask.y, mask.x) == (11, 22)
    assert mask.pixels.tolist() == [[True, False], [True, True]]
    assert mask.box_xyxy == (22, 11, 24, 13)
    assert mask.area == 3


def test_one_pixel_mask_has_a_box_of_area_one() -> None:
    mask = cropped(["......", "......", "...#.."])
    assert mask.box_xyxy == (3, 2, 4, 3)
    assert mask.area == 1


def test_from_mask_of_nothing_is_none() -> None:
    assert CroppedMask.from_mask(np.zeros((3, 4), bool)) is None


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.ones((2, 2), np.uint8), "2-D bool, got 2-D uint8"),
        (np.ones(3, bool), "2-D bool, got 1-D bool"),
        (np.ones((1, 2, 2), bool), "2-D bool, got 3-D bool"),
        (np.zeros((2, 2), bool), "empty or not tight"),
        (np.zeros((0, 0), bool), "empty or not tight"),
        (np.array([[False, True], [False, True]]), "empty or not tight"),
        (np.array([[True, False], [True, False]]), "empty or not tight"),
        (np.array([[False, False], [True, True]]), "empty or not tight"),
        (np.array([[True, True], [False, False]]), "empty or not tight"),
    ],
)
def test_a_crop_of_the_wrong_kind_or_with_an_empty_border_is_refused(
    pixels: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        CroppedMask(pixels=pixels, y=0, x=0)


@pytest.mark.parametrize(("y", "x"), [(-1, 0), (0, -1)])
def test_a_mask_before_the_origin_is_refused(y: int, x: int) -> None:
    with pytest.raises(ValueError, match="must lie in the image"):
        CroppedMask(pixels=np.ones((1, 1), bool), y=y, x=x)


def test_pixels_are_a_copy_that_cannot_be_written() -> None:
    drawn = np.ones((2, 3), bool)
    mask = CroppedMask(pixels=drawn, y=0, x=0)
    drawn[0, 0] = False
    assert mask.pixels.all()
    with pytest.raises(ValueError, match="read-only"):
        mask.pixels[0, 0] = False


def test_a_read_only_view_of_a_writable_array_is_copied_too() -> None:
    drawn = np.ones((2, 3), bool)
    view = drawn.view()
    view.flags.writeable = False
    mask = CroppedMask(pixels=view, y=0, x=0)
    drawn[0, 0] = False
    assert mask.pixels.all()


def test_to_mask_puts_the_crop_back_in_its_place() -> None:
    mask = cropped(["##", "#."], y=1, x=2)
    assert mask.to_mask((3, 4)).tolist() == [
        [False, False, False, False],
        [False, False, True, True],
        [False, False, True, False],
    ]


@pytest.mark.parametrize("image_hw", [(2, 4), (3, 3), (1, 1)])
def test_to_mask_refuses_an_image_that_is_too_small(image_hw: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        cropped(["##", "#."], y=1, x=2).to_mask(image_hw)


@given(images)
def test_mask_to_crop_and_back_is_the_same(image: np.ndarray) -> None:
    mask = CroppedMask.from_mask(image)
    if mask is None:
        assert not image.any()
        return
    assert np.array_equal(mask.to_mask(image.shape), image)
    assert mask.area == image.sum()
    assert np.array_equal(image[mask.slices], mask.pixels)


@given(images_with_two_masks)
def test_intersection_and_iou_are_those_of_the_full_masks(drawn: tuple) -> None:
    image_hw, a, b = drawn
    full_a, full_b = a.to_mask(image_hw), b.to_mask(image_hw)
    both, either = int((full_a & full_b).sum()), int((full_a | full_b).sum())
    assert a.intersection(b) == b.intersection(a) == both
    assert a.iou(b) == b.iou(a) == both / either
    assert a.iou(a) == 1.0
    assert a.equals(b) == np.array_equal(full_a, full_b)


def test_iou_of_two_dominoes_that_share_a_pixel_is_a_third() -> None:
    assert cropped(["##"], x=0).iou(cropped(["##"], x=1)) == 1 / 3


def test_masks_side_by_side_share_nothing() -> None:
    left, right = cropped(["##", "##"]), cropped(["##", "##"], x=2)
    assert left.intersection(right) == 0
    assert left.iou(right) == 0.0


def test_boxes_that_overlap_without_a_common_pixel_have_no_iou() -> None:
    assert cropped(["#.", ".#"]).iou(cropped([".#", "#."])) == 0.0


def test_moved_keeps_the_pixels_and_takes_y_and_x_apart() -> None:
    mask = cropped(["##", "#."], y=1, x=2)
    moved = mask.moved(dy=3, dx=-2)
    assert moved.box_xyxy == (0, 4, 2, 6)
    assert np.array_equal(moved.pixels, mask.pixels)
    assert moved.moved(dy=-3, dx=2).equals(mask)
    assert not moved.equals(mask)


def test_moved_out_of_the_origin_is_refused() -> None:
    with pytest.raises(ValueError, match="must lie in the image"):
        cropped(["#"], y=1, x=1).moved(dy=-2, dx=0)


def test_masks_of_one_box_and_other_pixels_are_not_equal() -> None:
    assert not cropped(["##", "#."]).equals(cropped(["##", ".#"]))


def test_runs_go_down_the_columns_and_begin_with_the_unset_ones() -> None:
    # columns from the left: 001, 011
    assert mask_to_rle_counts(cropped(["..", ".#", "##"]), (3, 2)) == [2, 1, 1, 2]


@pytest.mark.parametrize(
    ("rows", "counts"),
    [
        (["##", "##", "##"], [0, 6]),  # the full image
        (["..", "..", ".#"], [5, 1]),  # the last pixel: no empty run at the end
        (["#.", "..", ".."], [0, 1, 5]),  # the first pixel: an empty run at the start
        ([".#.", ".#.", ".#."], [3, 3, 3]),  # a full column
        (["##.", "##.", "##."], [0, 6, 3]),  # full columns are one run
        ([".##", ".#.", "##."], [2, 5, 2]),  # foot of a column to head of the next
        (["#"], [0, 1]),
    ],
)
def test_runs_of_masks_at_the_border(rows: list[str], counts: list[int]) -> None:
    image_hw = (len(rows), len(rows[0]))
    mask = cropped(rows)
    assert mask_to_rle_counts(mask, image_hw) == counts
    assert reference_counts(mask.to_mask(image_hw)) == counts


@given(images)
def test_runs_are_those_of_the_coco_api_and_give_the_mask_back(image: np.ndarray) -> None:
    mask = CroppedMask.from_mask(image)
    if mask is None:
        return
    counts = mask_to_rle_counts(mask, image.shape)
    assert counts == reference_counts(image)
    decoded = rle_counts_to_mask(np.array(counts), image.shape)
    assert decoded is not None
    assert decoded.equals(mask)


@given(sizes_hw, st.data())
def test_runs_with_empty_ones_between_are_read_as_the_coco_api_reads_them(
    image_hw: tuple[int, int], data: st.DataObject
) -> None:
    size = image_hw[0] * image_hw[1]
    cuts = sorted(data.draw(st.lists(st.integers(0, size), max_size=8)))
    counts = np.diff([0, *cuts, size])
    expected = np.zeros(size, bool)
    for start, end in zip([0, *cuts][1::2], [*cuts, size][1::2], strict=False):
        expected[start:end] = True
    decoded = rle_counts_to_mask(counts, image_hw)
    full = np.zeros(image_hw, bool) if decoded is None else decoded.to_mask(image_hw)
    assert np.array_equal(full, expected.reshape(image_hw[::-1]).T)


@pytest.mark.parametrize("counts", [[12], [0, 0, 12], [5, 0, 7]])
def test_runs_without_a_set_pixel_give_none(counts: list[int]) -> None:
    assert rle_counts_to_mask(np.array(counts), (3, 4)) is None


@pytest.mark.parametrize("counts", [[], [11], [13], [5, 8], [14, -2]])
def test_runs_that_do_not_fill_the_image_are_refused(counts: list[int]) -> None:
    with pytest.raises(ValueError, match="3 x 4 = 12 pixels"):
        rle_counts_to_mask(np.array(counts, np.int64), (3, 4))


def test_runs_of_a_mask_that_leaves_the_image_are_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        mask_to_rle_counts(cropped(["##"], x=3), (3, 4))


def test_runs_of_a_small_mask_in_a_huge_image_need_no_huge_memory() -> None:
    # a full mask would be 10 GB
    side = 100_000
    mask = cropped(["##"], y=side - 1, x=side - 2)
    counts = mask_to_rle_counts(mask, (side, side))
    assert counts == [side * side - side - 1, 1, side - 1, 1]
    decoded = rle_counts_to_mask(np.array(counts), (side, side))
    assert decoded is not None
    assert decoded.equals(mask)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_a_packed_mask_reads_as_before(height: int, width: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).random((height, width)) < 0.5
    pixels[[0, -1]] = pixels[:, [0, -1]] = True
    mask = CroppedMask(pixels=pixels, y=3, x=4)
    mask.pack()
    mask.pack()
    assert np.array_equal(mask.pixels, pixels)
    assert mask.pixels.dtype == np.bool_
    assert not mask.pixels.flags.writeable
    assert mask.box_xyxy == (4, 3, 4 + width, 3 + height)
    mask.unpack()
    assert mask.pixels is mask.pixels
    assert np.array_equal(mask.pixels, pixels)


def test_a_packed_mask_tells_its_place_without_its_pixels(monkeypatch) -> None:
    mask = CroppedMask(pixels=np.ones((300, 200), np.bool_), y=3, x=4)
    mask.pack()
    monkeypatch.setattr("zlib.decompress", None)
    assert mask.crop_hw == (300, 200)
    assert mask.box_xyxy == (4, 3, 204, 303)
    assert mask.slices == (slice(3, 303), slice(4, 204))


def test_a_large_packed_mask_takes_little_memory_and_survives_pickling() -> None:
    mask = CroppedMask(pixels=np.ones((1000, 1000), np.bool_), y=0, x=0)
    mask.pack()
    assert len(pickle.dumps(mask)) < 5000
    assert pickle.loads(pickle.dumps(mask)).equals(mask)
    with pytest.raises(AttributeError, match="colour"):
        mask.colour  # noqa: B018
