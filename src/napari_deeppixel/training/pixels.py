"""Where the pixels of a sample come from: a file, read when asked for, or memory."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from numpy.typing import NDArray

from napari_deeppixel.core.image import PlaneIndex, pick_channels
from napari_deeppixel.core.normalization import Normalization
from napari_deeppixel.dataset.image_file import read_image

Limits: TypeAlias = tuple[float, float]

_CACHE_BYTES = 2 << 30


class PixelSource(Protocol):
    """Anything that gives the pixels of one plane, over and over."""

    def read(self) -> tuple[NDArray[Any], Limits]:
        """Return pixels (H, W, C), and the intensities that become 0 and 1."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class PixelsInMemory:
    """Pixels (H, W, C) at hand, and the intensities that become 0 and 1."""

    pixels: NDArray[Any]
    limits: Limits

    def read(self) -> tuple[NDArray[Any], Limits]:
        """Return pixels (H, W, C), and the intensities that become 0 and 1."""
        return self.pixels, self.limits


class PixelCache:
    """The planes that were read last, as many as fit; those not asked for longest go first.

    Safe to use from several threads. Sent to another process, it arrives empty.

    Parameters
    ----------
    max_bytes
        Most that the planes may take together; a larger plane is read anew each time.
    """

    def __init__(self, max_bytes: int = _CACHE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._clear()

    def _clear(self) -> None:
        self._planes: OrderedDict[Any, tuple[NDArray[Any], Limits]] = OrderedDict()
        self._num_bytes = 0
        self._lock = threading.Lock()

    def __getstate__(self) -> int:
        return self._max_bytes

    def __setstate__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._clear()

    @property
    def num_bytes(self) -> int:
        """What the planes take now."""
        return self._num_bytes

    def get(self, key: Any) -> tuple[NDArray[Any], Limits] | None:
        """Return a plane with its limits; None if it is not here."""
        with self._lock:
            if key not in self._planes:
                return None
            self._planes.move_to_end(key)
            return self._planes[key]

    def put(self, key: Any, pixels: NDArray[Any], limits: Limits) -> None:
        """Keep a plane, if it fits at all."""
        with self._lock:
            if key in self._planes or pixels.nbytes > self._max_bytes:
                return
            self._planes[key] = (pixels, limits)
            self._num_bytes += pixels.nbytes
            while self._num_bytes > self._max_bytes:
                _, (oldest, _) = self._planes.popitem(last=False)
                self._num_bytes -= oldest.nbytes


@dataclass(frozen=True, kw_only=True, eq=False)
class PixelsOnDisk:
    """One plane of an image file, of which the channels for the network are kept in a cache.

    Attributes
    ----------
    path, plane
        The file, and which plane of it.
    normalization
        Of the network: what the limits are for.
    cache
        Where pixels stay for the next time.
    """

    path: Path
    plane: PlaneIndex
    normalization: Normalization
    cache: PixelCache

    def read(self) -> tuple[NDArray[Any], Limits]:
        """Return pixels (H, W, C), and the intensities that become 0 and 1."""
        key = (self.path, self.plane, self.normalization)
        known = self.cache.get(key)
        if known is not None:
            return known
        pixels = pick_channels(read_image(self.path).plane(self.plane), None)
        limits = self.normalization.limits(pixels)
        # a slice of a file's array would keep the whole of it in memory, unseen by the cache
        if not pixels.flags.owndata:
            pixels = pixels.copy()
        # the same for all who ask
        pixels.flags.writeable = False
        self.cache.put(key, pixels, limits)
        return pixels, limits
