"""Real files of every kind that a person may bring."""

import gc
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_deeppixel.core.errors import ImageError
from napari_deeppixel.core.image import ImageArray
from napari_deeppixel.dataset.image_file import read_image

GREY = np.arange(20, dtype=np.uint8).reshape(4, 5) * 12
RGB = np.stack([GREY, GREY[::-1], 255 - GREY], axis=-1)
STACK = np.arange(2 * 3 * 4 * 5, dtype=np.uint16).reshape(2, 3, 4, 5) * 400


def write_16_bit_rgb_png(path: Path, pixels: np.ndarray) -> None:
    """Write what Pillow cannot: a PNG with 16 bits for each of three channels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    height, width, _ = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def write_zipped(path: Path, pixels: np.ndarray, axes: str) -> None:
    tifffile.imwrite(
        path, pixels, photometric="minisblack", compression="zlib", metadata={"axes": axes}
    )


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("grey.png", GREY),
        ("rgb.png", RGB),
        ("rgba.png", np.concatenate([RGB, RGB[..., :1]], axis=-1)),
        ("grey16.png", GREY.astype(np.uint16) * 200),
        ("grey.bmp", GREY),
        ("rgb.webp", RGB),
        ("rgb.bmp", RGB),
    ],
)
def test_pictures_keep_every_pixel(tmp_path: Path, name: str, pixels: np.ndarray) -> None:
    lossless = {"lossless": True} if name.endswith("webp") else {}
    Image.fromarray(pixels).save(tmp_path / name, **lossless)
    image = read_image(tmp_path / name)
    assert image.axes == ("yxc" if pixels.ndim == 3 else "yx")
    assert image.pixels.dtype == pixels.dtype
    assert np.array_equal(np.asarray(image.pixels), pixels)
    assert (image.name, image.source) == (name, str(tmp_path / name))


def test_one_bit_png_is_bool(tmp_path: Path) -> None:
    Image.fromarray(GREY > 100).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.pixels.dtype == np.bool_
    assert np.array_equal(image.plane()[..., 0], GREY > 100)


def test_palette_becomes_its_colours(tmp_path: Path) -> None:
    picture = Image.new("P", (5, 4))
    picture.putpalette([0, 0, 0, 200, 100, 50])
    picture.putpixel((3, 2), 1)
    picture.save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.axes == "yxc"
    assert image.pixels[2, 3].tolist() == [200, 100, 50]
    assert int((image.pixels.sum(axis=2) > 0).sum()) == 1


def test_transparent_palette_keeps_alpha(tmp_path: Path) -> None:
    picture = Image.new("P", (5, 4))
    picture.putpalette([9, 9, 9, 200, 100, 50])
    picture.save(tmp_path / "a.png", transparency=0)
    assert read_image(tmp_path / "a.png").pixels[0, 0].tolist() == [9, 9, 9, 0]


def test_grey_with_alpha_is_two_channels_and_no_stack(tmp_path: Path) -> None:
    Image.fromarray(GREY).convert("LA").save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert (image.axes, image.lead_axes, image.num_channels) == ("yxc", "", 2)


def test_cmyk_jpeg_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    image = read_image(tmp_path / "a.jpg")
    assert image.pixels.shape == (8, 16, 3)
    red, green, blue = image.pixels[4, 8].tolist()
    assert red > 200
    assert max(green, blue) < 60


def test_jpeg_is_read_as_it_is_stored_not_as_it_was_held(tmp_path: Path) -> None:
    exif = Image.Exif()
    # 6: turn by 90 degrees to show it upright
    exif[0x0112] = 6
    Image.new("RGB", (16, 8), (10, 200, 30)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").image_hw == (8, 16)


def test_animation_is_a_stack_over_time(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (5, 4), (level, level, level)) for level in (0, 120, 250)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    image = read_image(tmp_path / "a.gif")
    assert (image.axes, image.pixels.shape) == ("tyxc", (3, 4, 5, 3))
    assert image.plane((2,)).max() == 250


def test_16_bit_colour_png_says_that_it_loses_depth(tmp_path: Path) -> None:
    notes: list[str] = []
    write_16_bit_rgb_png(tmp_path / "a.png", RGB.astype(np.uint16) * 257)
    image = read_image(tmp_path / "a.png", on_note=notes.append)
    assert np.array_equal(image.pixels, RGB)
    assert notes == ["16-bit colour PNG is read with 8 bits a channel; a TIFF keeps all 16"]


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("axes", ["TZYX", "TCYX", "ZCYX"])
def test_imagej_stack_keeps_its_axes(tmp_path: Path, axes: str, compression: str | None) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif", STACK, imagej=True, metadata={"axes": axes}, compression=compression
    )
    image = read_image(tmp_path / "a.tif")
    assert image.axes == axes.lower()
    if "c" in image.axes:
        assert np.array_equal(image.plane((1,)), STACK[1].transpose(1, 2, 0))
    else:
        assert np.array_equal(image.plane((1, 2))[..., 0], STACK[1, 2])


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_ome_tiff_keeps_its_axes(tmp_path: Path, compression: str | None) -> None:
    pixels = np.arange(2 * 3 * 2 * 4 * 5, dtype=np.uint16).reshape(2, 3, 2, 4, 5)
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, pixels, metadata={"axes": "TZCYX"}, compression=compression)
    image = read_image(path)
    assert image.axes == "tzcyx"
    assert np.array_equal(image.plane((1, 2)), pixels[1, 2].transpose(1, 2, 0))


def test_colour_stack_has_one_plane_a_page(tmp_path: Path) -> None:
    pixels = np.stack([RGB, RGB[::-1]])
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", compression="zlib")
    image = read_image(tmp_path / "a.tif")
    assert (image.axes, image.lead_shape) == ("zyxc", (2,))
    assert np.array_equal(image.plane((1,)), RGB[::-1])


def test_planes_of_colour_are_channels(tmp_path: Path) -> None:
    planes = RGB.transpose(2, 0, 1)
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
    image = read_image(tmp_path / "a.tif")
    assert image.axes == "cyx"
    assert np.array_equal(image.plane(), RGB)


def test_several_stains_in_colour_are_looped_over(tmp_path: Path) -> None:
    pixels = np.stack([RGB, RGB[::-1]])
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels, photometric="rgb", metadata={"axes": "CYXS"})
    image = read_image(tmp_path / "a.ome.tif")
    assert (image.lead_shape, image.num_channels) == ((2,), 3)
    assert np.array_equal(image.plane((1,)), RGB[::-1])


def test_unnamed_pages_are_slices(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for page in STACK[0]:
            file.write(page, contiguous=False, metadata=None)
    image = read_image(tmp_path / "a.tif")
    assert image.axes == "zyx"
    assert [int(image.plane(index).max()) for index in image.plane_indices()] == [
        19 * 400,
        39 * 400,
        59 * 400,
    ]


def test_unnamed_axes_are_called_as_in_a_bare_array(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK, photometric="minisblack")
    assert read_image(tmp_path / "a.tif").axes == "tzyx"


@pytest.mark.parametrize("dtype", ["bool", "int16", "uint32", "float32", ">u2"])
def test_tiff_keeps_its_type(tmp_path: Path, dtype: str) -> None:
    byteorder = ">" if dtype == ">u2" else "<"
    tifffile.imwrite(tmp_path / "a.tif", GREY.astype(dtype), byteorder=byteorder)
    image = read_image(tmp_path / "a.tif")
    assert image.pixels.dtype == np.dtype(dtype)
    assert np.array_equal(image.plane()[..., 0], GREY.astype(dtype))


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate"])
@pytest.mark.parametrize("pixels", [GREY, RGB, GREY.astype(np.uint16) * 200, GREY > 100])
def test_compressed_tiff_needs_no_other_package(
    tmp_path: Path, compression: str, pixels: np.ndarray
) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.tif", compression=compression)
    read = read_image(tmp_path / "a.tif").plane()
    assert np.array_equal(read, pixels.reshape(read.shape))


def test_lzw_stack_is_read_page_by_page(tmp_path: Path) -> None:
    pages = [Image.fromarray(GREY + level) for level in (0, 1, 2)]
    pages[0].save(
        tmp_path / "a.tif", save_all=True, append_images=pages[1:], compression="tiff_lzw"
    )
    image = read_image(tmp_path / "a.tif")
    assert image.lead_shape == (3,)
    assert [image.plane(index)[0, 0, 0] for index in image.plane_indices()] == [0, 1, 2]


def test_only_the_page_that_is_asked_for_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_zipped(tmp_path / "a.tif", STACK[0], "ZYX")
    image = read_image(tmp_path / "a.tif")
    decoded = []
    decode = type(image.pixels)._decode

    def decode_and_note(self: object, page: tifffile.TiffPage) -> np.ndarray:
        decoded.append(page.index)
        return decode(self, page)

    monkeypatch.setattr(type(image.pixels), "_decode", decode_and_note)
    assert np.array_equal(image.plane((2,), region_xyxy=(1, 0, 4, 2))[..., 0], STACK[0, 2, :2, 1:4])
    assert decoded == [2]


@pytest.mark.parametrize(
    "key",
    [
        (1, 2),
        (slice(None), 1, slice(1, 3), slice(0, 4, 2)),
        (..., 3),
        (0, ..., slice(1, 2)),
        -1,
        (slice(None, None, -1),),
    ],
)
def test_lazy_pages_are_indexed_like_an_array(tmp_path: Path, key: object) -> None:
    write_zipped(tmp_path / "a.tif", STACK, "TZYX")
    pixels = read_image(tmp_path / "a.tif").pixels
    assert not isinstance(pixels, np.ndarray)
    assert np.array_equal(pixels[key], STACK[key])
    assert np.array_equal(np.asarray(pixels), STACK)


def test_file_is_closed_with_the_image(tmp_path: Path) -> None:
    write_zipped(tmp_path / "a.tif", STACK, "TZYX")
    image = read_image(tmp_path / "a.tif")
    file = image.pixels._series.parent
    assert not file.filehandle.closed
    del image
    gc.collect()
    assert file.filehandle.closed


def test_more_than_one_image_in_a_tiff_is_told(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(GREY)
        file.write(GREY[:2])
    notes: list[str] = []
    assert read_image(tmp_path / "a.tif", on_note=notes.append).image_hw == (4, 5)
    assert notes == ["holds 2 images; only the first (4 x 5) is read"]


def refusal(path: Path) -> str:
    with pytest.raises(ImageError) as caught:
        read_image(path).plane()
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def test_missing_file_folder_and_empty_file_are_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.png") == "no such file"
    assert refusal(tmp_path) == "a folder, not an image"
    (tmp_path / "empty.tif").touch()
    assert refusal(tmp_path / "empty.tif") == "the file is empty"


def test_text_is_not_an_image_whatever_it_is_called(tmp_path: Path) -> None:
    for name in ("a.png", "a.tif", "a.txt"):
        (tmp_path / name).write_text("hello")
        assert refusal(tmp_path / name) == "not an image; use PNG, JPEG or TIFF"


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "raw.tif", "zip.tif"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_every_cut_file_is_an_image_error(tmp_path: Path, name: str, share: float) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (60, 70), dtype=np.uint8)
    path = tmp_path / name
    if name.endswith("tif"):
        compression = "zlib" if name == "zip.tif" else None
        tifffile.imwrite(path, pixels, compression=compression)
    else:
        Image.fromarray(pixels).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ImageError):
        read_image(path).plane()


def test_complex_numbers_are_no_pixels(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GREY.astype(np.complex64))
    with pytest.raises(ImageError, match="pixels must be numbers, got complex64"):
        read_image(tmp_path / "a.tif")


def test_unknown_code_says_what_to_install(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GREY, compression="zlib", metadata=None)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
        # JPEG XL, which neither tifffile alone nor Pillow decodes
        file.pages[0].tags["Compression"].overwrite(50002)
    assert "pip install imagecodecs" in refusal(tmp_path / "a.tif")


def test_samples_of_the_package_are_read() -> None:
    from napari_deeppixel.batch.inputs import sample_paths

    shapes = {path.stem: read_image(path).pixels.shape for path in sample_paths()}
    assert shapes == {
        "fluorescence": (520, 696),
        "tissue": (256, 320),
        "histology": (256, 320, 3),
        "brightfield": (512, 512),
    }


def test_image_is_an_image_array(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png")
    assert isinstance(read_image(str(tmp_path / "a.png")), ImageArray)


def test_an_animation_larger_than_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [Image.fromarray(GREY + number) for number in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "a.gif").axes == "tyxc"
    monkeypatch.setattr("napari_deeppixel.dataset.image_file._MAX_ANIMATION_PIXELS", 59)
    with pytest.raises(ImageError, match="3 frames of 5 x 4 pixels"):
        read_image(tmp_path / "a.gif")
