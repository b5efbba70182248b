"""TIFFs whose pages go round in circles."""

import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_deeppixel.core.errors import ImageError
from napari_deeppixel.dataset.image_file import image_hw, read_image
from napari_deeppixel.dataset.tiff_chain import check_page_chain


def stack(path: Path, **others: object) -> list[int]:
    """Write three pages and return where they begin."""
    with tifffile.TiffWriter(path, **others) as file:  # type: ignore[arg-type]
        for number in range(3):
            file.write(np.full((4, 6), number, np.uint8), metadata=None)
    with tifffile.TiffFile(path) as file:
        return [page.offset for page in file.pages]  # type: ignore[union-attr]


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("back_to", [0, 1, 2])
def test_circles_of_pages_are_refused(
    tmp_path: Path, byteorder: str, bigtiff: bool, back_to: int
) -> None:
    path = tmp_path / "a.tif"
    offsets = stack(path, byteorder=byteorder, bigtiff=bigtiff)
    check_page_chain(path)
    assert read_image(path).pixels.shape == (3, 4, 6)
    data = bytearray(path.read_bytes())
    of_count, tag_size, of_offset = ("Q", 20, "Q") if bigtiff else ("H", 12, "I")
    (num_tags,) = struct.unpack_from(byteorder + of_count, data, offsets[2])
    end = offsets[2] + struct.calcsize(of_count) + num_tags * tag_size
    struct.pack_into(byteorder + of_offset, data, end, offsets[back_to])
    path.write_bytes(bytes(data))
    for read in (check_page_chain, read_image, image_hw):
        with pytest.raises(ImageError, match=r"a\.tif: the image is damaged: page 3 is followed"):
            read(path)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"text", b"II*\0", b"II*\0\xff\xff\xff\xff", b"II+\0\x08\0\0\0" + b"\xff" * 8,
        b"II*\0\x08\0\0\0\xff\xff", b"II*\0\x08\0\0\0\0\0",
    ],
)  # fmt: skip
def test_other_damage_is_left_to_the_reader(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.tif").write_bytes(data)
    check_page_chain(tmp_path / "a.tif")
