"""Label images that nobody vouches for: sizes are checked before pixels are decoded."""

import contextlib
import math
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import AnnotationError, DeepPixelError
from napari_deeppixel.core.image import ImageArray
from napari_deeppixel.core.instance import (
    MAX_HANDLE,
    InstanceSet,
    InstanceState,
    label_image_to_instances,
)
from napari_deeppixel.dataset.formats.hostile import plane_hw
from napari_deeppixel.dataset.image_file import TIFF_STARTS, read_image
from napari_deeppixel.dataset.tiff_chain import check_page_chain

# modes of Pillow that hold one number a pixel; a palette's colours are only for looking at it
_NUMBER_MODES = ("1", "L", "P", "I", "F")
# how many bytes one byte of a compressed file can stand for at most: zlib's technical notes say
# 1032; a code of LZW's stands for at most 4096 bytes and takes 9 bits; PackBits makes 128 of 2
_MOST_BYTES_A_BYTE = {1: 1, 5: 4096, 8: 1040, 32946: 1040, 32773: 65}
_MOST_BYTES_UNKNOWN_CODE = 50_000
_DEFLATE = (8, 32946)
PICKLED = (
    "holds pickled Python objects: reading them runs whatever code the file brings, so it is never "
    "read. In cellpose: File > Save masks as PNG/TIF, and give the _cp_masks file that this makes"
)
# small files need no judging
_SMALL_BYTES = 1 << 24
# 32,768 x 32,768: a plane is decoded as a whole
_MAX_LABEL_PIXELS = 1 << 30
# boxes of all objects together, in planes: more, and the numbers are scattered as in a photograph
_MAX_BOXES_IN_PLANES = 16
_MIN_BOX_PIXELS = 1 << 30
# each object takes about a kilobyte, however small it is
_MAX_OBJECTS = 2_000_000
# parts of a bool mask that touch at corners are one object, as in `loss`
_CORNERS_TOUCH = np.ones((3, 3), np.bool_)


@contextlib.contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises on a damaged file into an `AnnotationError`.

    Raises
    ------
    AnnotationError
        With what the decoder said, without the path.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except DeepPixelError as error:
        raise AnnotationError(str(error).removeprefix(f"{path}: ")) from error
    # fuzzing tifffile and Pillow brings errors of any kind
    except Exception as error:
        raise AnnotationError(f"cannot be read ({type(error).__name__}: {error})") from error


def is_picture(path: Path) -> bool:
    """Whether a file begins as a PNG or TIFF does.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with path.open("rb") as file:
        return file.read(4) in (*TIFF_STARTS, b"\x89PNG")


def open_label_image(path: Path) -> ImageArray:
    """Return a label image, PNG or TIFF; the planes of a stack are decoded when asked for.

    Raises
    ------
    AnnotationError
        If it is missing, damaged, in colour, or claims more pixels than its bytes can hold; the
        message does not name the file.
    """
    with named_errors(path):
        with path.open("rb") as file:
            start = file.read(4)
        if start in TIFF_STARTS:
            check_page_chain(path)
            _check_tiff(path)
            image = read_image(path)
        else:
            image = _open_with_pillow(path)
        if image.num_channels > 1:
            raise AnnotationError(
                f"has {image.num_channels} channels (a colour picture?), not one number a pixel; "
                "save the numbers themselves, as a grey image of 8, 16 or 32 bits"
            )
        return image


def _open_with_pillow(path: Path) -> ImageArray:
    try:
        opened = Image.open(path)
    except Image.DecompressionBombError as error:
        raise AnnotationError(f"too large for a PNG ({error}); save it as TIFF") from error
    with opened as image:
        num_bits = 8 if image.mode in ("L", "P") else 1 if image.mode == "1" else 16
        _check_claim(image.height, image.width, num_bits / 8, path.stat().st_size)
        if image.mode not in _NUMBER_MODES and not image.mode.startswith("I;16"):
            raise AnnotationError(
                f"a colour picture ({image.mode}), not one number a pixel; save the numbers "
                "themselves, as a grey image of 8 or 16 bits"
            )
        return ImageArray(pixels=np.asarray(image), axes="yx", name=path.name, source=str(path))


def open_npy(path: Path) -> ImageArray:
    """Return the label image in a ``.npy`` file, left on the disk; pickled objects are refused.

    Raises
    ------
    AnnotationError
        If it is missing, damaged, shorter than its header claims, or holds Python objects; the
        message does not name the file.
    """
    with named_errors(path):
        with path.open("rb") as file:
            header = _npy_header(file)
        if header is None:
            raise AnnotationError("not a .npy file")
        if header.hasobject:
            raise AnnotationError(PICKLED)
        # maps exactly what the header claims, and fails where the file is shorter
        array = np.lib.format.open_memmap(path, mode="r")
        if array.ndim < 2:
            raise AnnotationError(f"holds an array of {array.shape}, not a label image")
        plane_hw(*array.shape[-2:])
        axes = "rsedbawvutz"[-(array.ndim - 2) :] if array.ndim > 2 else ""
        return ImageArray(pixels=array, axes=f"{axes}yx", name=path.name, source=str(path))


def _npy_header(file: BinaryIO) -> "np.dtype[Any] | None":
    try:
        version = np.lib.format.read_magic(file)
    except ValueError:
        return None
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    return read(file)[2]


def _check_claim(height: int, width: int, pixel_bytes: float, file_bytes: int) -> None:
    plane_hw(height, width)
    _check_bytes(height * width * pixel_bytes, 1040, file_bytes)
    if height * width > _MAX_LABEL_PIXELS:
        raise AnnotationError(f"{height} x {width} pixels are too many for one label image")


def _check_bytes(claimed: float, most: int, file_bytes: int) -> None:
    if claimed > most * file_bytes + _SMALL_BYTES:
        raise AnnotationError(
            f"claims {claimed:,.0f} bytes of pixels, which its {file_bytes:,} bytes cannot hold"
        )


def _check_tiff(path: Path) -> None:
    file_bytes = path.stat().st_size
    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        page = series.keyframe
        itemsize = np.dtype(series.dtype).itemsize
        most = _MOST_BYTES_A_BYTE.get(int(page.compression), _MOST_BYTES_UNKNOWN_CODE)
        tile_bytes = math.prod(page.chunks) * itemsize
        for claimed in (math.prod(series.shape) * itemsize, tile_bytes):
            _check_bytes(claimed, most, file_bytes)
        if max(math.prod(series.shape[-2:]), page.size) > _MAX_LABEL_PIXELS:
            raise AnnotationError(f"{series.shape} pixels are too many for one label image")
        if page.compression in _DEFLATE:
            for each in series.pages:
                if each is not None:
                    _check_deflated(file, each, tile_bytes)


def _check_deflated(file: tifffile.TiffFile, page: Any, tile_bytes: int) -> None:
    # tifffile inflates a tile whatever it grows to
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        if count * 1040 <= tile_bytes + _SMALL_BYTES:
            continue
        file.filehandle.seek(offset)
        inflated = zlib.decompressobj().decompress(file.filehandle.read(count), tile_bytes + 1)
        if len(inflated) > tile_bytes:
            raise AnnotationError(f"a tile of {tile_bytes:,} bytes inflates to more")


def label_plane(image: ImageArray, index: tuple[int, ...]) -> tuple[NDArray[Any], bool]:
    """Return the numbers (H, W) of a plane, integers from 0 on, and whether it was a bool mask.

    The parts of a bool mask (also: 8 bits with nothing but 0 and 255) get numbers of their own;
    touching corners join parts.

    Raises
    ------
    AnnotationError
        If it cannot be decoded, or holds other values; the message does not name the file.
    """
    with named_errors(Path(image.source)):
        pixels = image.plane(index)[..., 0]
        if pixels.dtype.kind not in "buif":
            raise AnnotationError(f"holds {pixels.dtype}, not numbers of instances")
        if _is_bool_mask(pixels):
            numbers, _ = ndimage.label(pixels, structure=_CORNERS_TOUCH)
            return numbers, True
        low, high = float(pixels.min()), float(pixels.max())
        if not (low >= 0 and high <= MAX_HANDLE):
            raise AnnotationError(f"numbers must lie in 0..{MAX_HANDLE}, got {low:g} to {high:g}")
        if pixels.dtype.kind == "f":
            if (pixels != np.floor(pixels)).any():
                raise AnnotationError("holds fractions, so it is no label image")
            pixels = pixels.astype(np.uint32)
        return pixels, False


def _is_bool_mask(pixels: NDArray[Any]) -> bool:
    if pixels.dtype == np.bool_:
        return True
    if pixels.dtype != np.uint8 or pixels.max() != 255:
        return False
    return bool(((pixels == 0) | (pixels == 255)).all())


def numbered_instances(numbers: NDArray[Any], categories: CategoryTable) -> InstanceSet:
    """Return the instances of a label image (H, W) of integers from 0 on; handles = the numbers.

    Raises
    ------
    AnnotationError
        If the pixels of the numbers are scattered, as the grey values of a photograph are: their
        masks would not fit the memory.
    """
    _check_scatter(numbers)
    return label_image_to_instances(
        numbers, categories=categories, state=InstanceState.ACCEPTED, source=""
    )


def _check_scatter(numbers: NDArray[Any]) -> None:
    rows, columns = np.nonzero(numbers)
    values = numbers[rows, columns]
    if not values.size:
        return
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.diff(values[order].astype(np.int64), prepend=0))
    if starts.size > _MAX_OBJECTS:
        raise AnnotationError(
            f"holds {starts.size:,} numbers in one plane, more than {_MAX_OBJECTS:,}: no label "
            "image, or one to be cut into tiles"
        )
    box_sides = [
        np.maximum.reduceat(at, starts) - np.minimum.reduceat(at, starts) + 1
        for at in (rows[order], columns[order])
    ]
    box_pixels = int((box_sides[0] * box_sides[1]).sum())
    if box_pixels > max(_MAX_BOXES_IN_PLANES * numbers.size, _MIN_BOX_PIXELS):
        raise AnnotationError(
            f"holds {starts.size:,} numbers whose pixels are scattered over the image, as in a "
            "photograph: no label image"
        )
