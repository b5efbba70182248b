"""Names of images in a dataset: ones that every system can store."""

import re
import unicodedata
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.dataset.image_folder import IMAGE_SUFFIXES, portable_name, safe_name
from napari_deeppixel.dataset.pixels_file import storable, suffix_for

# of 255 bytes that a name may have: ".json", and what is put round it while it is written
_MAX_NAME_BYTES = 200
# control characters, and halves of characters: bytes of a name that are no text
_NO_TEXT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def pixels_name(name: str, pixels: NDArray[Any]) -> str:
    """Return a name for an image of pixels with the ending of the file that is made of them."""
    suffix = suffix_for(storable(np.asarray(pixels)))
    path = PurePosixPath(name)
    is_image = path.suffix.lower() in IMAGE_SUFFIXES
    return str(path.with_suffix(suffix)) if is_image else f"{name}{suffix}"


def clean_name(name: str) -> str:
    """Return the name of a file as every system can store it."""
    return _storable(PurePosixPath(re.sub(r"[\\/]", "_", name))).as_posix()


def wanted_name(name: str) -> str:
    """Return a name that a caller asks for as every system can store it.

    Raises
    ------
    AnnotationError
        If it leads out of the dataset.
    """
    return _storable(safe_name(_NO_TEXT.sub("_", name))).as_posix()


def original_name(name: str) -> str:
    """Return a name that cannot stay as it is as text that can be written."""
    return name.encode(errors="replace").decode()


def _storable(path: PurePosixPath) -> PurePosixPath:
    parts = [_NO_TEXT.sub("_", unicodedata.normalize("NFC", part)) for part in path.parts]
    # a hidden file is none that people see, and ours are while they are written
    parts = [f"_{part.lstrip('.')}" if part.startswith(".") else part for part in parts]
    parts = [shortened(part) for part in portable_name(PurePosixPath(*parts)).parts]
    # blanks that are not the space bar's, too
    parts = [part if part.strip() else "_" for part in parts]
    return PurePosixPath(*(parts or ["_"]))


def shortened(name: str, end: str = "") -> str:
    """Return a name with a text before its suffix, cut so that it can be stored."""
    path = PurePosixPath(name)
    suffix = f"{end}{path.suffix}".encode()[:_MAX_NAME_BYTES].decode(errors="ignore")
    room = max(1, _MAX_NAME_BYTES - len(suffix.encode()))
    stem = path.stem.encode()[:room].decode(errors="ignore").rstrip(" .") or "_"
    return str(path.with_name(f"{stem}{suffix}"))
