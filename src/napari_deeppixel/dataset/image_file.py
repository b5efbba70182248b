"""Images from files with the names of their axes; the pages of a stack are read when asked for."""

import struct
import threading
import warnings
import weakref
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from napari_deeppixel.core.errors import ImageError
from napari_deeppixel.core.image import ImageArray
from napari_deeppixel.dataset.tiff_chain import check_page_chain

# classic and big TIFF, either byte order
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG_START = b"\x89PNG\r\n\x1a\n"
# what the decoders raise on damaged files, next to OSError
_DAMAGED = (
    ValueError,
    SyntaxError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    struct.error,
    zlib.error,
)
# three bytes each, all in memory: a kilobyte of GIF can hold any number of frames
_MAX_ANIMATION_PIXELS = 1 << 30
# modes that numpy takes as they are; Pillow converts all others to RGB
_PLAIN_MODES = ("1", "L", "LA", "RGB", "RGBA", "I", "F")
# letters for axes that a file leaves unnamed, the last axis first, as for bare arrays
_FREE_LETTERS = "ztuvwqabdefghijklmnoprs"


def read_image(path: Path | str, *, on_note: Callable[[str], None] | None = None) -> ImageArray:
    """Return the image in a PNG, JPEG or TIFF file (or another that Pillow reads).

    Axes are those that a TIFF names (ImageJ, OME, LSM, tifffile's own). Pages that a file leaves
    unnamed become ``z``; the frames of an animation ``t``. Palettes become RGB(A), CMYK becomes
    RGB. The orientation in EXIF is not applied: pixels stay as they are stored.

    Parameters
    ----------
    path
        The file.
    on_note
        Called with a sentence for each part of the file that is not read.

    Raises
    ------
    ImageError
        If the file is missing, empty, a folder, damaged, or holds no image.
    """
    path = Path(path)
    note = on_note or (lambda _: None)
    start = _first_bytes(path)
    read = _read_tiff if start.startswith(TIFF_STARTS) else _read_with_pillow
    try:
        pixels, axes = read(path, note)
    except UnidentifiedImageError as error:
        raise ImageError(f"{path}: not an image; use PNG, JPEG or TIFF") from error
    except (OSError, *_DAMAGED, tifffile.TiffFileError) as error:
        raise ImageError(f"{path}: the image is damaged or cut short ({error})") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{path}: too large for this format ({error}); save it as TIFF") from error
    if start.startswith(_PNG_START) and start[24] == 16 and "c" in axes:
        note("16-bit colour PNG is read with 8 bits a channel; a TIFF keeps all 16")
    return ImageArray(pixels=pixels, axes=axes, name=path.name, source=str(path))


def image_hw(path: Path | str) -> tuple[int, int]:
    """Return the size (height, width) of the planes of an image file, without its pixels.

    Raises
    ------
    ImageError
        As `read_image`.
    """
    path = Path(path)
    if _first_bytes(path).startswith(TIFF_STARTS):
        return read_image(path).image_hw
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except (OSError, *_DAMAGED, Image.DecompressionBombError) as error:
        raise ImageError(f"{path}: not an image that can be read ({error})") from error


def _first_bytes(path: Path) -> bytes:
    if path.is_dir():
        raise ImageError(f"{path}: a folder, not an image")
    try:
        with path.open("rb") as file:
            # a PNG's bit depth is byte 24
            start = file.read(25)
    except FileNotFoundError as error:
        raise ImageError(f"{path}: no such file") from error
    except OSError as error:
        raise ImageError(f"{path}: cannot be opened ({error.strerror or error})") from error
    if not start:
        raise ImageError(f"{path}: the file is empty")
    return start.ljust(25, b"\0")


def _read_with_pillow(path: Path, note: Callable[[str], None]) -> tuple[NDArray[Any], str]:
    with warnings.catch_warnings():
        # the limit protects web servers; a stitched scan of 100 megapixels is nothing odd here
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(path) as image:
            num_frames = getattr(image, "n_frames", 1)
            if num_frames == 1:
                pixels = _to_array(image)
                return pixels, "yxc" if pixels.ndim == 3 else "yx"
            if image.format == "MPO":
                # phones hide previews and depth maps of other sizes behind the photograph
                note(f"holds {num_frames} pictures; only the first is read")
                return _to_array(image), "yxc"
            if num_frames * image.width * image.height > _MAX_ANIMATION_PIXELS:
                raise Image.DecompressionBombError(
                    f"{num_frames} frames of {image.width} x {image.height} pixels"
                )
            frames = []
            for number in range(num_frames):
                image.seek(number)
                frames.append(np.asarray(image.convert("RGB")))
    return np.stack(frames), "tyxc"


def _to_array(image: Image.Image) -> NDArray[Any]:
    if image.mode == "P" or image.mode == "PA":
        has_alpha = image.mode == "PA" or "transparency" in image.info
        image = image.convert("RGBA" if has_alpha else "RGB")
    elif image.mode not in _PLAIN_MODES and not image.mode.startswith("I;16"):
        image = image.convert("RGB")
    return np.asarray(image)


def _read_tiff(path: Path, note: Callable[[str], None]) -> tuple[Any, str]:
    check_page_chain(path)
    file = tifffile.TiffFile(path)
    try:
        if not file.series:
            raise ImageError(f"{path}: a TIFF without a page")
        series = file.series[0]
        axes = _axes_of(series.axes)
        if len(file.series) > 1:
            size = " x ".join(str(side) for side in series.shape)
            note(f"holds {len(file.series)} images; only the first ({size}) is read")
        if series.dataoffset is None:
            return _TiffPages(file, path), axes
    except BaseException:
        file.close()
        raise
    file.close()
    return tifffile.memmap(path, mode="r"), axes


def _axes_of(tiff_axes: str) -> str:
    """Return our names for tifffile's axes; S (samples) and C both hold channels.

    In a file with both, such as several stains in RGB each, C is looped over.
    """
    letters = tiff_axes.lower()
    named = [letter for letter in letters if letter not in "qisc"]
    free = [letter for letter in _FREE_LETTERS if letter not in named]
    axes = []
    for letter in reversed(letters):
        if letter == "s" or (letter == "c" and "s" not in letters):
            axes.append("c")
        elif letter in "qic":
            axes.append(free.pop(0))
        else:
            axes.append(letter)
    return "".join(reversed(axes))


class _TiffPages:
    """The first series of a TIFF file, decoded page by page when it is sliced.

    Parameters
    ----------
    file
        Open file; it is closed with this object.
    path
        Where it is, for messages.
    """

    def __init__(self, file: tifffile.TiffFile, path: Path) -> None:
        self._series, self._path = file.series[0], path
        self._lock = threading.Lock()
        weakref.finalize(self, file.close)
        self.shape: tuple[int, ...] = tuple(self._series.shape)
        self.dtype: np.dtype[Any] = np.dtype(self._series.dtype)
        self._num_lead = self._count_lead_axes()

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def _count_lead_axes(self) -> int:
        # a page may hold more than y and x: samples, or the slices of a volumetric tile
        page_size = self._series.keyframe.size
        for num_lead in range(self.ndim - 1):
            if np.prod(self.shape[num_lead:]) == page_size:
                return num_lead
        raise ImageError(
            f"{self._path}: pages of {page_size} pixels do not fit an image of {self.shape}"
        )

    def __getitem__(self, key: Any) -> NDArray[Any]:
        index = key if isinstance(key, tuple) else (key,)
        if Ellipsis in index:
            at = index.index(Ellipsis)
            rest = (slice(None),) * (self.ndim - len(index) + 1)
            index = (*index[:at], *rest, *index[at + 1 :])
        index = (*index, *(slice(None),) * (self.ndim - len(index)))
        lead, inside = index[: self._num_lead], index[self._num_lead :]
        lead_shape = self.shape[: self._num_lead]
        numbers = np.asarray(np.arange(np.prod(lead_shape, dtype=int)).reshape(lead_shape)[lead])
        pages = np.stack([self._page(int(number))[inside] for number in numbers.flat])
        return pages.reshape(numbers.shape + pages.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        pixels = self[...]
        return pixels if dtype is None else pixels.astype(dtype)

    def _page(self, number: int) -> NDArray[Any]:
        page_shape = self.shape[self._num_lead :]
        try:
            with self._lock:
                page = self._series.pages[number]
                if page is None:
                    # OME-TIFF may leave planes out
                    return np.zeros(page_shape, self.dtype)
                return self._decode(page).reshape(page_shape)
        except (OSError, *_DAMAGED, tifffile.TiffFileError) as error:
            raise ImageError(f"{self._path}: page {number + 1} cannot be read ({error})") from error

    def _decode(self, page: Any) -> NDArray[Any]:
        try:
            pixels: NDArray[Any] = page.asarray()
        except (ValueError, ImportError) as error:
            # tifffile leaves LZW, JPEG and fax codes to imagecodecs; Pillow brings libtiff along
            pixels = self._decode_with_pillow(page, error)
        return pixels

    def _decode_with_pillow(self, page: Any, first_error: Exception) -> NDArray[Any]:
        try:
            with Image.open(self._path) as image:
                image.seek(page.index)
                pixels = np.asarray(image)
        except (OSError, *_DAMAGED):
            pixels = np.zeros(0)
        if pixels.size != page.size or pixels.dtype != self.dtype:
            raise ImageError(
                f"{self._path}: page {page.index + 1} cannot be decoded ({first_error}); save it "
                "without compression or with ZIP, or: pip install imagecodecs"
            ) from first_error
        return pixels
