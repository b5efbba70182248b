"""From intensities to the range of a network, for every kind of number."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_deeppixel.core.normalization import Normalization

AUTO = Normalization(mode="auto")
WHOLE = Normalization(mode="percentile", low=0, high=100)


def test_auto_takes_the_full_range_of_8_bits_whatever_is_in_the_image() -> None:
    pixels = np.array([[0, 51], [102, 51]], np.uint8)
    assert AUTO.limits(pixels) == (0, 255)
    assert AUTO.apply(pixels).tolist() == np.array([[0, 0.2], [0.4, 0.2]], np.float32).tolist()


def test_auto_takes_the_lowest_and_highest_pixel_of_other_types() -> None:
    pixels = np.array([[1000, 3000], [2000, 5000]], np.uint16)
    assert AUTO.limits(pixels) == (1000, 5000)
    assert AUTO.apply(pixels).tolist() == [[0, 0.5], [0.25, 1]]


@pytest.mark.parametrize("mode", ["auto", "percentile"])
def test_bool_pixels_become_0_and_1(mode: Any) -> None:
    pixels = np.array([[True, False, False]])
    assert Normalization(mode=mode).limits(pixels) == (0, 1)
    assert Normalization(mode=mode).apply(pixels).tolist() == [[1, 0, 0]]
    # and not 1 for a plane without contrast
    assert Normalization(mode=mode).apply(np.zeros((2, 2), bool)).tolist() == [[0, 0], [0, 0]]


def test_percentiles_leave_out_the_outliers() -> None:
    pixels = np.arange(101, dtype=np.uint16).reshape(1, 101)
    pixels[0, 100] = 60000
    normalization = Normalization(mode="percentile", low=10, high=90)
    assert normalization.limits(pixels) == (10, 90)
    values = normalization.apply(pixels)
    assert values[0, [0, 10, 50, 90, 100]].tolist() == [0, 0, 0.5, 1, 1]


@given(
    numbers=st.lists(st.integers(0, 65535), min_size=1, max_size=60),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    percentiles=st.tuples(st.floats(0, 100), st.floats(0, 100)).filter(
        lambda pair: pair[0] < pair[1]
    ),
)
def test_counted_percentiles_are_those_of_numpy(
    numbers: list[int], dtype: Any, percentiles: tuple[float, float]
) -> None:
    pixels = np.array(numbers).astype(dtype)[np.newaxis]
    normalization = Normalization(mode="percentile", low=percentiles[0], high=percentiles[1])
    expected = np.percentile(pixels.astype(np.float64), percentiles)
    assert normalization.limits(pixels) == tuple(expected)


def test_range_takes_intensities() -> None:
    pixels = np.array([[50, 100, 150, 200, 250]], np.uint8)
    normalization = Normalization(mode="range", low=100, high=200)
    assert normalization.limits(pixels) == (100, 200)
    assert normalization.apply(pixels).tolist() == [[0, 0, 0.5, 1, 1]]


def test_room_beyond_0_and_1_keeps_bright_pixels_apart() -> None:
    normalization = Normalization(mode="range", low=0, high=4, clip_low=-0.5, clip_high=1.5)
    pixels = np.array([[-8, -1, 5, 8]], np.int16)
    assert normalization.apply(pixels).tolist() == [[-0.5, -0.25, 1.25, 1.5]]


def test_uint16_loses_no_step() -> None:
    pixels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert np.unique(AUTO.apply(pixels)).size == 65536


def test_nan_and_infinity_do_not_move_the_limits_and_go_to_the_ends() -> None:
    pixels = np.array([[np.nan, -np.inf, 2, 4, 6, np.inf]], np.float32)
    for normalization in (AUTO, WHOLE):
        assert normalization.limits(pixels) == (2, 6)
        assert normalization.apply(pixels).tolist() == [[0, 0, 0, 0.5, 1, 1]]
    wide = Normalization(mode="percentile", low=0, high=100, clip_low=-0.25, clip_high=2)
    assert wide.apply(pixels).tolist() == [[-0.25, -0.25, 0, 0.5, 1, 2]]


@pytest.mark.parametrize("mode", ["auto", "percentile"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_plane_without_a_finite_pixel_has_the_limits_0_and_1(mode: Any, value: float) -> None:
    pixels = np.full((2, 3), value, np.float32)
    assert Normalization(mode=mode).limits(pixels) == (0, 1)
    expected = 1 if value == np.inf else 0
    assert Normalization(mode=mode).apply(pixels).tolist() == [[expected] * 3] * 2


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("mode", ["auto", "percentile"])
@pytest.mark.parametrize("value", [0, 7, 30000])
def test_a_constant_plane_gives_zeros(dtype: type, mode: Any, value: int) -> None:
    pixels = np.full((3, 2), value, dtype)
    assert Normalization(mode=mode).apply(pixels).tolist() == [[0, 0]] * 3


def test_a_constant_8_bit_plane_keeps_its_brightness_with_auto() -> None:
    assert AUTO.apply(np.full((1, 2), 255, np.uint8)).tolist() == [[1, 1]]


def test_a_constant_plane_with_holes_gives_zeros_and_infinity_the_highest() -> None:
    pixels = np.array([[5, np.nan, 5, -np.inf, np.inf]], np.float32)
    assert AUTO.apply(pixels).tolist() == [[0, 0, 0, 0, 1]]


def test_few_bright_pixels_on_a_constant_plane_stay_visible() -> None:
    pixels = np.zeros((40, 50), np.uint16)
    pixels[3, 4] = 9
    normalization = Normalization(mode="percentile", low=1, high=99.8)
    assert normalization.limits(pixels) == (0, 0)
    assert np.argwhere(normalization.apply(pixels) == 1).tolist() == [[3, 4]]


def test_doubles_beyond_float32_keep_their_contrast() -> None:
    pixels = np.array([[0, 0.5e300, 1e300]])
    assert AUTO.apply(pixels).tolist() == [[0, 0.5, 1]]
    assert WHOLE.apply(-pixels).tolist() == [[1, 0.5, 0]]


def test_the_widest_span_of_float32_keeps_its_contrast() -> None:
    largest = np.finfo(np.float32).max
    pixels = np.array([[-largest, 0, largest]], np.float32)
    assert AUTO.apply(pixels).tolist() == [[0, 0.5, 1]]


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float16, np.float32])
def test_percentiles_between_the_lowest_and_highest_number_of_a_type_do_not_wrap(
    dtype: Any,
) -> None:
    info = np.iinfo(dtype) if np.dtype(dtype).kind == "i" else np.finfo(dtype)
    low, high = float(info.min), float(info.max)
    pixels = np.array([[info.min, info.max]], dtype)
    limits = Normalization(mode="percentile", low=25, high=75).limits(pixels)
    assert limits == (low + (high - low) / 4, low + (high - low) * 3 / 4)


def test_large_whole_numbers_keep_their_contrast() -> None:
    # float32 would round all of them to 4,000,000,000
    pixels = np.array([[4_000_000_000, 4_000_000_001, 4_000_000_004]], np.uint32)
    assert AUTO.apply(pixels).tolist() == [[0, 0.25, 1]]


def test_a_crop_takes_the_limits_of_its_plane() -> None:
    pixels = np.array([[0, 10], [20, 40]], np.uint16)
    limits = AUTO.limits(pixels)
    assert AUTO.apply(pixels[:1], limits).tolist() == [[0, 0.25]]
    assert AUTO.apply(pixels[:1]).tolist() == [[0, 1]]


def test_percentiles_of_a_large_plane_come_from_a_sample_and_stay_close() -> None:
    pixels = np.arange(1600 * 1500, dtype=np.uint32).reshape(1600, 1500)
    low, high = Normalization(mode="percentile", low=1, high=99).limits(pixels)
    assert low == pytest.approx(0.01 * pixels.size, rel=0.1)
    assert high == pytest.approx(0.99 * pixels.size, rel=0.01)


def test_the_lowest_and_highest_pixel_of_a_large_plane_are_never_missed() -> None:
    pixels = np.full((1600, 1500), 100, np.uint16)
    pixels[1, 1], pixels[3, 3] = 7, 900
    assert AUTO.limits(pixels) == (7, 900)


normalizations = st.builds(
    Normalization,
    mode=st.sampled_from(["auto", "percentile"]),
    low=st.sampled_from([0.0, 1.0, 10.0]),
    high=st.sampled_from([90.0, 99.8, 100.0]),
    clip_low=st.sampled_from([-0.2, 0.0]),
    clip_high=st.sampled_from([1.0, 1.5]),
)
planes = st.sampled_from(
    [np.bool_, np.uint8, np.uint16, np.int32, np.float16, np.float32, np.float64]
).flatmap(
    lambda dtype: hnp.arrays(
        dtype,
        st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 3)),
        elements=st.floats(-1e300, 1e300) | st.sampled_from([np.nan, np.inf, -np.inf])
        if dtype is np.float64
        else None,
    )
)


@given(planes, normalizations)
def test_any_plane_gives_float32_within_the_limits_and_stays_as_it_is(
    pixels: np.ndarray, normalization: Normalization
) -> None:
    before = pixels.copy()
    values = normalization.apply(pixels)
    assert values.dtype == np.float32
    assert values.shape == pixels.shape
    # NaN would fail both
    assert (values >= np.float32(min(normalization.clip_low, 0))).all()
    assert (values <= np.float32(max(normalization.clip_high, 1))).all()
    assert np.array_equal(pixels, before, equal_nan=pixels.dtype.kind == "f")


@given(planes, normalizations)
def test_a_brighter_pixel_never_gets_a_lower_value(
    pixels: np.ndarray, normalization: Normalization
) -> None:
    if pixels.dtype.kind == "f":
        pixels = np.nan_to_num(pixels, nan=0.0, posinf=1.0, neginf=-1.0)
    order = np.argsort(pixels, axis=None)
    values = normalization.apply(pixels).ravel()[order].astype(np.float64)
    assert (np.diff(values) >= 0).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mode": "minmax"}, "percentile, range or auto, got 'minmax'"),
        ({"low": 5, "high": 5}, "low must be below high, got 5 and 5"),
        ({"mode": "range", "low": 9, "high": 5}, "low must be below high"),
        ({"mode": "range", "low": np.nan, "high": 5}, "low must be below high"),
        ({"low": -1, "high": 99}, "percentiles must lie in 0..100, got -1 and 99"),
        ({"low": 1, "high": 100.5}, "percentiles must lie in 0..100"),
        ({"clip_low": 1, "clip_high": 1}, "clip_low 1 must be below 1"),
    ],
)
def test_wrong_values_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Normalization(**values)


def test_a_range_may_lie_outside_0_to_100() -> None:
    assert Normalization(mode="range", low=-5, high=4000).limits(np.zeros((1, 1))) == (-5, 4000)
