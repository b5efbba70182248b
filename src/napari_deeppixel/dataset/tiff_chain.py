"""Walks the pages of a TIFF before a library does: some go round in circles for ever."""

import struct
from pathlib import Path
from typing import BinaryIO

from napari_deeppixel.core.errors import ImageError

# what a TIFF begins with → byte order and, of a page: formats of an offset and of the number of
# its tags, and the size of a tag (TIFF 6.0, section 2; BigTIFF)
_KINDS = {
    b"II*\0": ("<", "I", "H", 12),
    b"MM\0*": (">", "I", "H", 12),
    b"II+\0": ("<", "Q", "Q", 20),
    b"MM\0+": (">", "Q", "Q", 20),
}


def check_page_chain(path: Path) -> None:
    """Check that a TIFF's pages come to an end; other damage is left to whoever reads them.

    tifffile looks for circles at the hundredth page only, and follows some for ever.

    Raises
    ------
    ImageError
        If a page is followed by one that came before it.
    OSError
        If the file cannot be read.
    """
    with path.open("rb") as file:
        kind = _KINDS.get(file.read(4))
        if kind is None:
            return
        offset = _number(file, 8 if kind[1] == "Q" else 4, kind[0] + kind[1])
        seen: set[int] = set()
        while offset:
            if offset in seen:
                raise ImageError(
                    f"{path}: the image is damaged: page {len(seen)} is followed by one before it"
                )
            seen.add(offset)
            offset = _next_page(file, offset, kind)


def _next_page(file: BinaryIO, offset: int, kind: tuple[str, str, str, int]) -> int:
    order, of_offset, of_count, tag_size = kind
    num_tags = _number(file, offset, order + of_count)
    tags = offset + struct.calcsize(of_count)
    return _number(file, tags + num_tags * tag_size, order + of_offset)


def _number(file: BinaryIO, at: int, code: str) -> int:
    """Return a number in the file; 0 beyond its end."""
    try:
        file.seek(at)
    except (OverflowError, ValueError, OSError):
        return 0
    data = file.read(struct.calcsize(code))
    return int(struct.unpack(code, data)[0]) if len(data) == struct.calcsize(code) else 0
