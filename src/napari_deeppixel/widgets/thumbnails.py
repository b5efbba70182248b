"""Small pictures of image files, made in a thread and kept within bounds."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from qtpy.QtCore import QObject, Signal
from qtpy.QtGui import QImage

from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.core.image import default_channels
from napari_deeppixel.dataset.image_file import image_hw, read_image
from napari_deeppixel.widgets.worker import BackgroundTask

THUMBNAIL_PX = 48
# 48 x 48 x 3 bytes: 7 MB
_MAX_KEPT = 1000
# more rows than a tall window shows; of a list that is scrolled, those that left are dropped
_MAX_WAITING = 40
# a slide takes seconds to read: it is worth no thumbnail
_MAX_FILE_BYTES = 2**28
# a plane is decoded as a whole
_MAX_PLANE_PIXELS = 1 << 27


class Thumbnails(QObject):
    """Thumbnails by a key of the content, newest request first.

    Signals
    -------
    made
        The key of a thumbnail that is there now, or is known not to be possible.
    """

    made = Signal(str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._kept: OrderedDict[str, QImage | None] = OrderedDict()
        self._waiting: OrderedDict[str, Callable[[], Path]] = OrderedDict()
        self._lock = threading.Lock()
        self._task = BackgroundTask(self)
        self._task.yielded.connect(self._on_made)
        self._task.finished.connect(self._start)
        self._is_shut_down = False

    def get(self, key: str, find_path: Callable[[], Path]) -> QImage | None:
        """Return a thumbnail; None while there is none: `made` tells when to ask again.

        Parameters
        ----------
        key
            Of the content.
        find_path
            Returns where the image is; called in a thread.
        """
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        with self._lock:
            self._waiting[key] = find_path
            self._waiting.move_to_end(key)
            while len(self._waiting) > _MAX_WAITING:
                self._waiting.popitem(last=False)
        self._start()
        return None

    def is_known(self, key: str) -> bool:
        """Whether it was tried to make a thumbnail."""
        return key in self._kept

    def forget(self) -> None:
        """Drop all requests, as another dataset is open."""
        with self._lock:
            self._waiting.clear()

    def shut_down(self) -> None:
        """Make no more."""
        self._is_shut_down = True
        self.forget()
        self._task.abandon()

    def _start(self) -> None:
        if self._waiting and not self._task.is_running and not self._is_shut_down:
            self._task.start(self._make_all)

    def _make_all(self, *_: object) -> Iterator[tuple[str, NDArray[np.uint8] | None]]:
        while True:
            with self._lock:
                if not self._waiting:
                    return
                key, find_path = self._waiting.popitem()
            yield key, _thumbnail_of(find_path)

    def _on_made(self, result: tuple[str, NDArray[np.uint8] | None]) -> None:
        key, pixels = result
        self._kept[key] = None if pixels is None else as_qimage(pixels)
        self._kept.move_to_end(key)
        while len(self._kept) > _MAX_KEPT:
            self._kept.popitem(last=False)
        self.made.emit(key)


def _thumbnail_of(find_path: Callable[[], Path]) -> NDArray[np.uint8] | None:
    try:
        path = find_path()
        height, width = image_hw(path)
        if path.stat().st_size > _MAX_FILE_BYTES or height * width > _MAX_PLANE_PIXELS:
            return None
        return thumbnail(path)
    except (DeepPixelError, OSError, MemoryError, ValueError):
        # the list says elsewhere what is wrong with a file
        return None


def thumbnail(path: Path, side_px: int = THUMBNAIL_PX) -> NDArray[np.uint8]:
    """Return the middle plane of an image file as uint8 RGB (h, w, 3), no side above `side_px`.

    Raises
    ------
    ImageError
        As `read_image`.
    """
    image = read_image(path)
    plane = image.plane(tuple(size // 2 for size in image.lead_shape))
    small = _reduced(plane[..., list(default_channels(plane.shape[2]))], side_px)
    if small.shape[2] == 1 or image.pixels.dtype != np.uint8:
        low, high = np.nanpercentile(small, (1, 99.8))
        small = (small - low) / max(high - low, 1e-30) * 255
    shades = np.rint(np.clip(np.nan_to_num(small), 0, 255)).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(shades, (*shades.shape[:2], 3)))


def _reduced(pixels: NDArray[Any], side_px: int) -> NDArray[np.float32]:
    """Return pixels (H, W, C) as float32, reduced to means so that no side is above `side_px`."""
    height, width = pixels.shape[:2]
    factor = max(height, width) / side_px
    # four by four pixels of a block tell its mean well enough
    step = max(int(factor / 4), 1)
    sample = pixels[::step, ::step].astype(np.float32)
    if factor <= 1:
        return sample
    size = (max(round(width / factor), 1), max(round(height / factor), 1))
    channels = [
        Image.fromarray(sample[..., channel]).resize(size, Image.Resampling.BOX)
        for channel in range(sample.shape[2])
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1)


def as_qimage(pixels: NDArray[np.uint8]) -> QImage:
    """Return pixels (H, W, 3) as a picture of Qt's."""
    height, width = pixels.shape[:2]
    # a copy, as the array goes
    return QImage(pixels.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888).copy()
