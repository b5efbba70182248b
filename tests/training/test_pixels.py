"""Pixels are kept while they fit, and go in the order in which they were asked for."""

import pickle
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import tifffile
from tests.training.datasets import RANGE_8_BIT

from napari_deeppixel.core.normalization import Normalization
from napari_deeppixel.training.pixels import PixelCache, PixelsOnDisk

PLANE = np.zeros((10, 10, 1), np.uint8)


def test_the_plane_not_asked_for_longest_goes_first() -> None:
    cache = PixelCache(max_bytes=250)
    cache.put("a", PLANE, (0, 1))
    cache.put("b", PLANE, (0, 1))
    assert cache.get("a") is not None
    cache.put("c", PLANE, (0, 1))
    assert cache.get("b") is None
    assert cache.get("a") is not None
    assert cache.get("c") is not None
    assert cache.num_bytes == 200


def test_a_plane_larger_than_the_cache_is_not_kept_and_drives_none_out() -> None:
    cache = PixelCache(max_bytes=150)
    cache.put("a", PLANE, (0, 1))
    cache.put("large", np.zeros((20, 20, 1), np.uint8), (0, 1))
    assert cache.get("large") is None
    assert cache.get("a") is not None


def test_a_plane_that_is_put_twice_counts_once() -> None:
    cache = PixelCache(max_bytes=150)
    cache.put("a", PLANE, (0, 1))
    cache.put("a", PLANE, (0, 1))
    assert cache.num_bytes == 100


def test_a_cache_arrives_empty_in_another_process() -> None:
    cache = PixelCache(max_bytes=150)
    cache.put("a", PLANE, (0, 1))
    sent = pickle.loads(pickle.dumps(cache))
    assert (sent.get("a"), sent.num_bytes) == (None, 0)
    sent.put("a", PLANE, (0, 1))
    sent.put("b", PLANE, (0, 1))
    assert sent.num_bytes == 100


def test_a_file_is_read_once_while_the_cache_keeps_it(tmp_path: Path) -> None:
    iio.imwrite(tmp_path / "a.png", np.full((4, 6), 7, np.uint8))
    cache = PixelCache()
    source = PixelsOnDisk(path=tmp_path / "a.png", plane=(), normalization=RANGE_8_BIT, cache=cache)
    first, limits = source.read()
    (tmp_path / "a.png").unlink()
    assert source.read()[0] is first
    assert limits == (0, 255)
    assert first.shape == (4, 6, 1)
    assert not first.flags.writeable


def test_each_plane_of_a_stack_has_its_own_pixels_and_limits(tmp_path: Path) -> None:
    stack = np.arange(2 * 20 * 30, dtype=np.uint16).reshape(2, 20, 30)
    tifffile.imwrite(tmp_path / "a.tif", stack, metadata={"axes": "TYX"})
    percentile = Normalization(mode="percentile", low=0, high=100)
    cache = PixelCache()
    for t in range(2):
        source = PixelsOnDisk(
            path=tmp_path / "a.tif", plane=(t,), normalization=percentile, cache=cache
        )
        pixels, limits = source.read()
        assert np.array_equal(pixels[..., 0], stack[t])
        assert limits == (600 * t, 600 * t + 599)
    # of a plane, not of the stack that it is cut from
    assert cache.num_bytes == 2 * 20 * 30 * 2
