"""Reads files that nobody vouches for: nothing is trusted before it was checked."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari_deeppixel.core.errors import AnnotationError

# a COCO file of 3 million instances has 600 MB; what is larger is no annotation file
MAX_TEXT_BYTES = 4_000_000_000
# files that describe a single image
MAX_SMALL_BYTES = 256_000_000
# 65,536 x 65,536: slides of this size are annotated tile by tile
MAX_PLANE_PIXELS = 1 << 32


def read_bytes(path: Path, *, limit: int = MAX_SMALL_BYTES) -> bytes:
    """Return what is in a file.

    Raises
    ------
    AnnotationError
        If it is missing, no ordinary file, cannot be read, or is larger than `limit` bytes.
    """
    try:
        if not path.is_file():
            what = "a folder, not a file" if path.is_dir() else "no such file"
            raise AnnotationError(f"{path}: {what}")
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read ({error.strerror or error})") from error
    if len(data) > limit:
        raise AnnotationError(f"{path}: larger than {limit:,} bytes, so it is not read")
    return data


def read_text(path: Path, *, limit: int = MAX_SMALL_BYTES) -> str:
    """Return the text of a UTF-8 file, with or without a byte order mark.

    Raises
    ------
    AnnotationError
        As `read_bytes`, or if it is in another encoding.
    """
    data = read_bytes(path, limit=limit)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AnnotationError(
            f"{path}: must be UTF-8 text, got byte {data[error.start]:#04x} at {error.start}; save "
            "it as UTF-8"
        ) from error


def read_json(
    path: Path,
    *,
    limit: int = MAX_SMALL_BYTES,
    on_odd: Callable[[str], object] = lambda _: None,
) -> Any:
    """Return the value of a JSON file. NaN and infinity, which JSON does not know, become None.

    Parameters
    ----------
    path
        The file.
    limit
        Largest size in bytes.
    on_odd
        Called with each NaN and infinity, as it is written.

    Raises
    ------
    AnnotationError
        As `read_text`, or if it is cut short, nested too deeply, or no JSON.
    """
    text = read_text(path, limit=limit)

    def drop(constant: str) -> None:
        on_odd(constant)

    try:
        return json.loads(text, parse_constant=drop)
    except RecursionError as error:
        raise AnnotationError(f"{path}: nested too deeply to be annotations") from error
    # a number of many thousand digits is a ValueError, too
    except ValueError as error:
        raise AnnotationError(f"{path}: no readable JSON ({error})") from error


def plane_hw(height: Any, width: Any) -> tuple[int, int]:
    """Return the size of a plane that a file gives.

    Raises
    ------
    AnnotationError
        If these are no whole numbers of 1 or more, or no plane is so large.
    """
    for value in (height, width):
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
            raise AnnotationError(f"the size must be whole numbers, got {height!r} x {width!r}")
    if not (height >= 1 and width >= 1 and height * width <= MAX_PLANE_PIXELS):
        raise AnnotationError(
            f"the size must be 1 x 1 to {MAX_PLANE_PIXELS:,} pixels (height x width), got "
            f"{height} x {width}"
        )
    return int(height), int(width)
