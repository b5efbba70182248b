"""Folders of label images: all pixels come back, whoever wrote them; hostile files are refused."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.dataset.formats.exchange import (
    assert_agrees,
    by_handle,
    label_array,
    read_or_refuse,
    read_with,
    with_pixels,
    write_with,
)
from tests.dataset.made import annotated_images, disc, eleven, eleven_masks

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState
from napari_deeppixel.dataset.formats.label_files import LABELS
from napari_deeppixel.dataset.formats.label_layers import hidden_layers
from napari_deeppixel.dataset.formats.loss import measure_loss

TABLE = CategoryTable.from_names("nucleus")


def plain(name: str, *boxes: tuple[int, int, int, int], plane: tuple[int, ...] = (), **others):
    """Return an image of 4 x 6 with rectangles y1, x1, y2, x2."""
    masks = []
    for y1, x1, y2, x2 in boxes:
        pixels = np.zeros((4, 6), bool)
        pixels[y1:y2, x1:x2] = True
        masks.append(pixels)
    instances = InstanceSet(
        image_hw=(4, 6),
        masks=tuple(CroppedMask.from_mask(mask) for mask in masks),  # type: ignore[arg-type]
        categories=TABLE,
    )
    return AnnotatedImage.of(name, instances, plane=plane, **others)


def test_the_eleven_shapes_come_back_exactly_with_their_numbers(tmp_path: Path) -> None:
    image = with_pixels(eleven(), tmp_path / "in")
    assert write_with(LABELS, [image], tmp_path / "out") == [image]
    (read,), problems = read_with(LABELS, tmp_path / "out", default_category="nucleus")
    assert problems == []
    assert read.file_name == "images/day 1/eleven.png"
    assert read.path == tmp_path / "out/images/day 1/eleven.png"
    assert read.path.read_bytes() == image.path.read_bytes()
    assert read.state is ImageState.DRAFT
    assert set(read.instances.states) == {InstanceState.ACCEPTED}
    assert [c.name for c in read.categories.categories] == ["nucleus"]
    assert read.instances.handles.tolist() == list(range(3, 14))
    for mask, found in zip(image.instances.masks, read.instances.masks, strict=True):
        assert mask.equals(found)


def test_other_programs_find_one_number_a_pixel_and_the_rest_beside_it(tmp_path: Path) -> None:
    # the second square lies over the first one's right half
    write_with(LABELS, [plain("a.png", (0, 0, 2, 4), (0, 2, 2, 6))], tmp_path)
    on_top = np.asarray(Image.open(tmp_path / "labels/a.tif"))
    assert on_top.dtype == np.uint16
    assert on_top.tolist() == [[1, 1, 2, 2, 2, 2]] * 2 + [[0] * 6] * 2
    hidden = tifffile.imread(tmp_path / "labels/a_layer_1.tif")
    assert hidden.tolist() == [[1, 1, 1, 1, 0, 0]] * 2 + [[0] * 6] * 2
    assert sorted(p.name for p in (tmp_path / "labels").iterdir()) == ["a.tif", "a_layer_1.tif"]


def test_layers_are_as_few_as_greedy_colouring_makes_them() -> None:
    # 2 hides part of 1 and 4, 3 hides part of 2: 1 and 4 share a layer with nobody between them
    image = plain("a", (0, 0, 1, 2), (0, 1, 1, 4), (0, 3, 1, 6), (1, 0, 2, 1), (1, 0, 2, 3))
    layers = hidden_layers(image.instances)
    assert [layer.handles.tolist() for layer in layers] == [[1, 4], [2]]


@settings(deadline=None, max_examples=60)
@given(image=annotated_images())
def test_any_image_comes_back_exactly(image: AnnotatedImage, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("labels")
    write_with(LABELS, [image], folder)
    (read,), problems = read_with(LABELS, folder)
    assert problems == []
    assert_agrees(LABELS.read_back(image), image, read)
    assert by_handle(read).keys() == set(image.instances.handles.tolist())


def test_the_loss_report_names_what_label_images_cannot_hold() -> None:
    report = measure_loss([eleven()], LABELS)
    assert (report.instances_changed, report.overlaps_lost, report.renumbered) == (0, 0, 0)
    assert set(report.lost) == {
        "categories", "scores", "review states", "sources", "identities (uuids)",
        "crowd regions", "complete regions", "states of images", "groups of images", "splits",
        "fields of other programs",
    }  # fmt: skip


def test_planes_of_a_stack_are_pages(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "t.tif", np.zeros((2, 3, 4, 6), np.uint8), imagej=True, metadata={"axes": "TZYX"}
    )
    planes = [
        plain("t.tif", (0, 0, 1, 2), (0, 1, 1, 4), plane=(0, 2), path=tmp_path / "t.tif"),
        plain("t.tif", (2, 0, 3, 2), plane=(1, 0), path=tmp_path / "t.tif"),
    ]
    write_with(LABELS, planes, tmp_path / "out")
    stack = tifffile.imread(tmp_path / "out/labels/t.tif")
    assert stack.shape == (2, 3, 4, 6)
    assert np.flatnonzero(stack.any(axis=(2, 3))).tolist() == [2, 3]
    read, problems = read_with(LABELS, tmp_path / "out")
    assert problems == []
    assert [image.plane for image in read] == [(t, z) for t in range(2) for z in range(3)]
    assert {image.file_name for image in read} == {"images/t.tif"}
    assert [len(image.instances) for image in read] == [0, 0, 2, 1, 0, 0]
    assert read[2].instances.boxes_xyxy.tolist() == [[0, 0, 2, 1], [1, 0, 4, 1]]


def test_a_stack_of_one_plane_stays_a_stack(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "t.tif", np.zeros((1, 4, 6), np.uint8), metadata={"axes": "ZYX"})
    image = plain("t.tif", (0, 0, 1, 2), plane=(0,))
    write_with(LABELS, [image], tmp_path / "out")
    (read,), _ = read_with(LABELS, tmp_path / "out")
    # a TIFF forgets axes of size 1, and no image is there to tell
    assert read.plane == ()
    assert len(read.instances) == 1


def test_planes_without_an_image_must_be_believable(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"a\.tif: plane \(1000000000,\) asks for a stack"):
        write_with(LABELS, [plain("a.tif", plane=(1_000_000_000,))], tmp_path)


def test_images_of_one_stem_keep_their_own_labels(tmp_path: Path) -> None:
    names = ["x.png", "x.bmp", "b/x.png", "x_masks.png", "x_layer_1.png", "x.bmp.png", "y.png"]
    images = [
        with_pixels(plain(name, (0, 0, 1, number + 1)), tmp_path / "in")
        for number, name in enumerate(names[:-1])
    ]
    images.append(with_pixels(plain("y.png", (0, 0, 2, 4), (0, 2, 2, 6)), tmp_path / "in"))
    write_with(LABELS, images, tmp_path / "out")
    read, problems = read_with(LABELS, tmp_path / "out")
    assert problems == []
    widths = {image.file_name: int(image.instances.areas[0]) for image in read}
    assert widths == {f"images/{name}": number + 1 for number, name in enumerate(names[:-1])} | {
        "images/y.png": 8
    }


def test_a_sub_folder_of_the_images_may_be_called_labels(tmp_path: Path) -> None:
    image = with_pixels(plain("labels/x.png", (0, 0, 1, 2)), tmp_path / "in")
    write_with(LABELS, [image], tmp_path / "out")
    (read,), problems = read_with(LABELS, tmp_path / "out")
    assert (problems, read.file_name) == ([], "images/labels/x.png")
    assert read.instances.areas.tolist() == [2]


def test_reading_and_writing_again_does_not_nest_folders(tmp_path: Path) -> None:
    images = [
        with_pixels(plain(name, (0, 0, 1, width)), tmp_path / "in")
        for name, width in (("images/a/x.png", 1), ("a/x.png", 2), ("b/images/y.png", 3))
    ]
    for folder in ("one", "two"):
        write_with(LABELS, images, tmp_path / folder)
        images, problems = read_with(LABELS, tmp_path / folder)
        assert problems == []
        assert {image.file_name: image.instances.areas.tolist() for image in images} == {
            "images/a/x.png": [1],
            "images/images/a/x.png": [2],
            "images/b/y.png": [3],
        }


def test_an_older_files_layers_are_not_joined_with_the_new_one(tmp_path: Path) -> None:
    write_with(LABELS, [plain("a.png", (0, 0, 2, 4), (0, 2, 2, 6))], tmp_path)
    write_with(LABELS, [plain("a.png", (3, 0, 4, 1))], tmp_path)
    (read,), _ = read_with(LABELS, tmp_path)
    assert read.instances.boxes_xyxy.tolist() == [[0, 3, 1, 4]]


def test_one_file_has_its_layers_beside_it(tmp_path: Path) -> None:
    for name in ("p/a.png", "t/a.tif"):
        (tmp_path / name).parent.mkdir()
        write_with(LABELS, [plain("x.png", (0, 0, 2, 4), (0, 2, 2, 6))], tmp_path / name)
        (read,), problems = read_with(LABELS, tmp_path / name)
        assert problems == []
        assert read.file_name == name[2:]
        assert read.path is None
        assert read.instances.boxes_xyxy.tolist() == [[0, 0, 4, 2], [2, 0, 6, 2]]
    assert np.asarray(Image.open(tmp_path / "p/a.png")).dtype == np.uint16


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([plain("a.tif"), plain("b.tif")], "holds the annotations of one image"),
        ([plain("a.tif", plane=(0,)), plain("a.tif", plane=(1,))], "a PNG holds one plane"),
        ([plain("a.tif", plane=(0,)), plain("a.tif", plane=())], "not those of one stack"),
    ],
)
def test_what_one_png_cannot_hold_is_refused(tmp_path: Path, images, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        write_with(LABELS, images, tmp_path / "out.png")


def save(path: Path, pixels: np.ndarray, **others: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        Image.fromarray(pixels).save(path)
    else:
        tifffile.imwrite(path, pixels, photometric="minisblack", **others)


@pytest.mark.parametrize(
    ("image", "labels"),
    [
        ("images/x.tif", "masks/x.tif"),
        ("images/x.png", "labels/x.png"),
        ("train/images/x.png", "train/masks/x.tif"),
        ("images/a/x.png", "labels/a/x.tif"),
        ("x.png", "labels/x.tif"),
        ("x.tif", "x_labels.tif"),
        ("x.tif", "x_masks.tif"),
        ("x.png", "x_mask.png"),
        ("x.jpg", "x-label.png"),
        ("images/x.png", "labels/x_mask.png"),
    ],
)
def test_pairs_of_other_programs_are_found(tmp_path: Path, image: str, labels: str) -> None:
    save(tmp_path / labels, label_array("0110/0222"))
    (tmp_path / image).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((2, 4), np.uint8)).save(tmp_path / image)
    assert LABELS.looks_like(tmp_path)
    (read,), problems = read_with(LABELS, tmp_path)
    assert problems == []
    assert read.file_name == image
    assert read.path == tmp_path / image
    assert read.instances.handles.tolist() == [1, 2]
    assert read.instances.boxes_xyxy.tolist() == [[1, 0, 3, 1], [1, 1, 4, 2]]


def test_a_folder_of_nothing_but_labels_goes_with_images_elsewhere(tmp_path: Path) -> None:
    save(tmp_path / "l/x.png", label_array("01"))
    save(tmp_path / "i/x.tif", label_array("99"))
    (read,), problems = read_with(LABELS, tmp_path / "l", tmp_path / "i")
    assert (problems, read.path) == ([], tmp_path / "i/x.tif")
    with pytest.raises(AnnotationError, match="no label images; expected TIFF or PNG in a folder"):
        read_with(LABELS, tmp_path / "l")


def test_an_image_of_another_size_is_not_the_labels_image(tmp_path: Path) -> None:
    save(tmp_path / "labels/x.png", label_array("01"))
    save(tmp_path / "images/x.png", label_array("012"))
    read, (problem,) = read_with(LABELS, tmp_path)
    assert read == []
    assert "has 1 x 2 pixels (height x width), but its image x.png 1 x 3" in str(problem)


@pytest.mark.parametrize(
    "pixels",
    [
        label_array("0120/0020"),
        label_array("0120/0020").astype(np.uint16) * 1,
        label_array("0120/0020").astype(np.int32),
        label_array("0120/0020").astype(np.float32),
        label_array("0120/0020").astype(np.uint32),
        label_array("0120/0020").astype(np.int64),
    ],
)
def test_numbers_of_any_type_are_read(tmp_path: Path, pixels: np.ndarray) -> None:
    save(tmp_path / "x_labels.tif", pixels)
    (read,), problems = read_with(LABELS, tmp_path / "x_labels.tif")
    assert problems == []
    assert read.instances.boxes_xyxy.tolist() == [[1, 0, 2, 1], [2, 0, 3, 2]]


def test_a_palette_png_gives_its_numbers_not_its_colours(tmp_path: Path) -> None:
    picture = Image.fromarray(label_array("0120"))
    picture = picture.convert("P")
    picture.putdata([0, 1, 2, 0])
    picture.putpalette([9, 9, 9, 255, 0, 0, 255, 0, 0])
    (tmp_path / "labels").mkdir()
    picture.save(tmp_path / "labels/x.png")
    (read,), _ = read_with(LABELS, tmp_path)
    assert read.instances.handles.tolist() == [1, 2]


@pytest.mark.parametrize("bools", [True, False])
def test_parts_of_a_bool_mask_become_instances_and_it_is_said(tmp_path: Path, bools: bool) -> None:
    drawn = label_array("1100/0010/0000/1000") > 0
    save(tmp_path / "labels/x.png", drawn if bools else drawn * np.uint8(255))
    (read,), (problem,) = read_with(LABELS, tmp_path)
    assert read.instances.areas.tolist() == [3, 1]
    assert "a mask of yes and no" in problem.message


def test_an_image_without_a_number_is_no_bool_mask(tmp_path: Path) -> None:
    save(tmp_path / "labels/x.png", label_array("0000"))
    (read,), problems = read_with(LABELS, tmp_path)
    assert (problems, len(read.instances)) == ([], 0)


def test_one_object_of_number_one_is_no_bool_mask(tmp_path: Path) -> None:
    save(tmp_path / "labels/x.png", label_array("1001"))
    (read,), problems = read_with(LABELS, tmp_path)
    assert (problems, read.instances.areas.tolist()) == ([], [2])


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 99)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(*part) for part in ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    )


def tiff_bytes(pixels: np.ndarray, **others: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **others)
    return file.getvalue()


def tiff_that_claims(side: int, **others: object) -> bytes:
    data = bytearray(tiff_bytes(np.ones((7, 11), np.uint16), photometric="minisblack", **others))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        tags = file.pages[0].tags
        for name in ("ImageWidth", "ImageLength"):
            tag = tags[name]
            struct.pack_into("<H" if tag.dtype == 3 else "<I", data, tag.valueoffset, side)
    return bytes(data)


def inflating_tiff() -> bytes:
    data = tiff_bytes(np.ones((7, 11), np.uint16), photometric="minisblack", compression="zlib")
    bomb = zlib.compress(bytes(100_000_000))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        tags = file.pages[0].tags
        offset, count = tags["StripOffsets"], tags["StripByteCounts"]
    changed = bytearray(data + bomb)
    struct.pack_into("<I", changed, offset.valueoffset, len(data))
    struct.pack_into(
        "<I" if count.dtype == 4 else "<H",
        changed,
        count.valueoffset,
        len(bomb) % 65536 if count.dtype != 4 else len(bomb),
    )
    return bytes(changed)


HOSTILE = {
    "empty": (b"", "cannot be read"),
    "text": (b"no image at all", "cannot be read"),
    "html": (b"<html>" * 99, "cannot be read"),
    "huge png": (png_that_claims(60_000, 60_000), "too large for a PNG"),
    "png of a bomb's size": (png_that_claims(2**31 - 1, 2**31 - 1), "too large for a PNG"),
    "png of more pixels than bytes": (png_that_claims(13_000, 13_000), "claims 169,000,000 bytes"),
    "cut png": (png_that_claims(20, 20), "cannot be read"),
    "huge tiff": (tiff_that_claims(60_000), "claims 7,200,000,000 bytes"),
    "huge packed tiff": (tiff_that_claims(60_000, compression="zlib"), "claims 7,200,000,000"),
    "cut tiff": (tiff_bytes(np.ones((64, 64), np.uint16))[:500], "cut short"),
    "inflating tiff": (inflating_tiff(), "inflates to more"),
    "colours": (tiff_bytes(np.ones((4, 6, 3), np.uint8), photometric="rgb"), "3 channels"),
    "channels": (
        tiff_bytes(np.ones((2, 4, 6), np.uint8), imagej=True, metadata={"axes": "CYX"}),
        "2 channels",
    ),
    "complex": (tiff_bytes(np.ones((4, 6), np.complex64)), "numbers, got complex64"),
    "fractions": (tiff_bytes(np.full((4, 6), 0.5, np.float32)), "holds fractions"),
    "nan": (tiff_bytes(np.full((4, 6), np.nan, np.float32)), "numbers must lie in 0"),
    "infinity": (tiff_bytes(np.full((4, 6), np.inf, np.float32)), "numbers must lie in 0"),
    "negative": (tiff_bytes(np.full((4, 6), -1, np.int16)), "got -1 to -1"),
    "too large": (tiff_bytes(np.full((4, 6), 2**33, np.int64)), "numbers must lie in 0"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_told_of_and_the_good_ones_come_in(tmp_path: Path, kind: str) -> None:
    data, message = HOSTILE[kind]
    save(tmp_path / "labels/good.png", label_array("01"))
    (tmp_path / "labels/bad.tif").write_bytes(data)
    read, (problem,) = read_with(LABELS, tmp_path)
    assert [image.file_name for image in read] == ["good.png"]
    assert problem.path == tmp_path / "labels/bad.tif"
    assert message in problem.message


def test_a_single_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    for name in ("missing.tif", "text.png"):
        if name == "text.png":
            (tmp_path / name).write_text("no image")
        with pytest.raises(AnnotationError, match=name):
            read_with(LABELS, tmp_path / name)


def test_coloured_pngs_are_refused_with_the_reason(tmp_path: Path) -> None:
    save(tmp_path / "x_labels.png", np.zeros((4, 6, 3), np.uint8))
    with pytest.raises(AnnotationError, match=r"x_labels\.png: a colour picture \(RGB\)"):
        read_with(LABELS, tmp_path / "x_labels.png")


def test_a_photograph_is_no_label_image(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(1, 60_000, (512, 512)).astype(np.uint16)
    save(tmp_path / "labels/x.tif", pixels)
    read, (problem,) = read_with(LABELS, tmp_path)
    assert read == []
    assert "scattered" in problem.message


def test_millions_of_objects_in_one_plane_are_refused(tmp_path: Path) -> None:
    numbers = np.arange(2_250_000, dtype=np.uint32).reshape(1500, 1500)
    save(tmp_path / "labels/x.tif", numbers, compression="zlib")
    read, (problem,) = read_with(LABELS, tmp_path)
    assert read == []
    assert "holds 2,249,999 numbers" in problem.message


def test_nothing_is_written_through_a_link_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/labels").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(AnnotationError, match="is a link out of"):
        write_with(LABELS, [plain("a.png", (0, 0, 1, 1))], tmp_path / "out")
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("name", ["../a.png", "/a.png", "b/../../a.png", "..\\a.png"])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(AnnotationError, match="leads out of the folder"):
        write_with(LABELS, [plain(name)], tmp_path / "out")
    assert list(tmp_path.rglob("*.tif")) == []


def test_links_out_of_the_folder_are_not_read(tmp_path: Path) -> None:
    save(tmp_path / "secret.png", label_array("01"))
    save(tmp_path / "in/labels/a.png", label_array("01"))
    (tmp_path / "in/labels/b.png").symlink_to(tmp_path / "secret.png")
    read, _ = read_with(LABELS, tmp_path / "in")
    assert [image.file_name for image in read] == ["a.png"]


NUMBERS = label_array("0120/0020")
VALID = [
    tiff_bytes(NUMBERS.astype(np.uint16), photometric="minisblack", compression="zlib"),
    tiff_bytes(np.stack([NUMBERS] * 3).astype(np.uint16), imagej=True),
    tiff_bytes(NUMBERS.astype(np.uint32), photometric="minisblack"),
]


@settings(deadline=None, max_examples=100)
@given(
    which=st.integers(0, len(VALID) - 1),
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=6),
    length=st.integers(0, 10_000) | st.none(),
)
def test_damaged_tiffs_never_bring_another_error(
    which: int, changes: list[tuple[int, int]], length: int | None, tmp_path_factory
) -> None:
    data = bytearray(VALID[which])
    for at, value in changes:
        data[at % len(data)] = value
    path = tmp_path_factory.mktemp("fuzz") / "x_labels.tif"
    path.write_bytes(bytes(data[:length]))
    read_or_refuse(LABELS, path)
    LABELS.looks_like(path)


def test_only_label_images_look_like_label_images(tmp_path: Path) -> None:
    save(tmp_path / "a.tif", label_array("01"))
    assert LABELS.looks_like(tmp_path / "a.tif")
    (tmp_path / "b.tif").write_text("text")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/x.txt").write_text("0 0.5 0.5")
    for foreign in (tmp_path / "b.tif", tmp_path / "missing.png", tmp_path):
        assert not LABELS.looks_like(foreign)


def test_shapes_under_many_others_come_back(tmp_path: Path) -> None:
    masks = (*eleven_masks().values(), disc(45, 25, 12), disc(45, 26, 11), disc(45, 27, 10))
    instances = InstanceSet(image_hw=(90, 120), masks=masks, categories=TABLE)
    write_with(LABELS, [AnnotatedImage.of("a.png", instances)], tmp_path)
    (read,), _ = read_with(LABELS, tmp_path)
    assert all(a.equals(b) for a, b in zip(masks, read.instances.masks, strict=True))


def test_a_neighbour_that_is_no_layer_of_ours_stays(tmp_path: Path) -> None:
    own = tmp_path / "out_layer_1.tif"
    own.write_bytes(b"somebody's own")
    with pytest.raises(AnnotationError, match=r"would be taken for a layer of out\.tif"):
        write_with(LABELS, [plain("a.tif", (0, 0, 2, 4))], tmp_path / "out.tif")
    assert own.read_bytes() == b"somebody's own"
    assert not (tmp_path / "out.tif").exists()
