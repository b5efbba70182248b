"""ImageJ's ROIs: all pixels come back, files are as ImageJ has them, hostile ones are refused."""

import io
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import roifile
import shapely
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.core.strategies import assert_same_instances
from tests.dataset.formats.exchange import read_or_refuse, read_with, with_pixels, write_with
from tests.dataset.made import CELLS, annotated_images, disc, eleven

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.dataset.annotated import AnnotatedImage
from napari_deeppixel.dataset.formats.imagej import IMAGEJ
from napari_deeppixel.dataset.formats.loss import measure_loss

TYPE = roifile.ROI_TYPE
HW = (9, 10)


def same_but_ids(image: AnnotatedImage, read: AnnotatedImage) -> InstanceSet:
    """Return what ROIs hold of an image's instances; categories are known by name."""
    ids = {category.name: category.id for category in read.categories.categories}
    names = [image.categories.name_of(each) for each in image.instances.category_ids]
    kept = ("masks", "scores", "handles", "uuids", "states", "sources")
    return InstanceSet(
        image_hw=image.image_hw,
        categories=read.categories,
        category_ids=np.array([ids[name] for name in names], np.int64),
        **{name: getattr(image.instances, name) for name in kept},
    )


def test_all_that_is_known_of_the_eleven_shapes_comes_back(tmp_path: Path) -> None:
    image = with_pixels(eleven(), tmp_path / "in")
    write_with(IMAGEJ, [image], tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out/day 1").iterdir())
    assert names == ["eleven.png", "eleven_rois.zip"]
    (read,), problems = read_with(IMAGEJ, tmp_path / "out")
    assert problems == []
    assert read.file_name == "day 1/eleven.png"
    assert_same_instances(read.instances, same_but_ids(image, read))
    colors = {category.name: category.color for category in read.categories.categories}
    assert colors == {"nucleus": "#56b4e9", "cell body": "#e69f00"}


def test_the_loss_report_names_the_rest() -> None:
    report = measure_loss([eleven()], IMAGEJ)
    assert (report.instances_changed, report.instances_split) == (0, 0)
    assert set(report.lost) == {
        "crowd regions", "complete regions", "states of images", "groups of images", "splits",
        "fields of other programs",
    }  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(image=annotated_images())
def test_any_image_comes_back_exactly(image: AnnotatedImage, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("imagej")
    write_with(IMAGEJ, [with_pixels(image, folder)], folder / "made_rois.zip")
    (read,), problems = read_with(IMAGEJ, folder)
    assert problems == []
    assert_same_instances(read.instances, same_but_ids(image, read))
    for told, mask in zip(IMAGEJ.read_back(image).masks, read.instances.masks, strict=True):
        assert told[0].equals(mask)


def outlines_by_hand(data: bytes) -> list[np.ndarray]:
    """Return the outlines in a ROI as ImageJ's RoiDecoder.java reads them."""
    assert data[:4] == b"Iout"
    kind = data[6]
    top, left, _, _ = struct.unpack(">4h", data[8:16])
    (num_points,) = struct.unpack(">H", data[16:18])
    (num_floats,) = struct.unpack(">i", data[36:40])
    if not num_floats:
        assert kind == 8
        x, y = np.frombuffer(data, ">i2", 2 * num_points, 64).reshape(2, -1).astype(int)
        return [np.stack([x + left, y + top], axis=1)]
    assert kind == 1
    numbers = list(np.frombuffer(data, ">f4", num_floats, 64))
    outlines: list[list[list[float]]] = []
    while numbers:
        command = numbers.pop(0)
        if command == 4:
            continue
        if command == 0:
            outlines.append([])
        outlines[-1].append([numbers.pop(0), numbers.pop(0)])
    return [np.array(outline) for outline in outlines]


@settings(deadline=None, max_examples=40)
@given(image=annotated_images())
def test_outlines_are_the_masks_by_the_even_odd_rule(image, tmp_path_factory) -> None:
    path = tmp_path_factory.mktemp("imagej") / "made_rois.zip"
    write_with(IMAGEJ, [image], path)
    y, x = np.mgrid[: image.image_hw[0], : image.image_hw[1]] + 0.5
    with zipfile.ZipFile(path) as archive:
        for name, mask in zip(archive.namelist(), image.instances.masks, strict=True):
            inside = np.zeros(image.image_hw, bool)
            for outline in outlines_by_hand(archive.read(name)):
                inside ^= shapely.contains_xy(shapely.Polygon(outline), x, y)
            assert np.array_equal(inside, mask.to_mask(image.image_hw))


def test_rois_have_names_groups_and_colours(tmp_path: Path) -> None:
    write_with(IMAGEJ, [eleven()], tmp_path / "a.zip")
    rois = roifile.roiread(tmp_path / "a.zip")
    assert isinstance(rois, list)
    assert [roi.name for roi in rois[:2]] == ["0003 nucleus", "0004 cell body"]
    assert [roi.group for roi in rois[:2]] == [1, 2]
    assert rois[0].stroke_color == bytes.fromhex("ff56b4e9")
    assert rois[0].properties["category"] == "nucleus"
    assert rois[0].roitype == TYPE.TRACED
    assert (rois[1].roitype, rois[1].composite) == (TYPE.RECT, True)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist()[0] == "0003 nucleus.roi"


def test_outlines_beyond_16_bits_are_kept_as_floats() -> None:
    far = CroppedMask(pixels=np.ones((3, 2), bool), y=70_000, x=40_000)
    near = CroppedMask(pixels=np.ones((3, 2), bool), y=32_764, x=1)
    instances = InstanceSet(image_hw=(80_000, 50_000), masks=(far, near), categories=CELLS)
    image = AnnotatedImage.of("a.tif", instances)
    assert measure_loss([image], IMAGEJ).instances_changed == 0


@pytest.mark.parametrize(
    "name", ["a/b", 'quo"ted', " blank ", "nuc\nleus", "🔬", "é: x", "a\u2028b"]
)
def test_names_of_categories_survive(tmp_path: Path, name: str) -> None:
    table = CategoryTable.from_names(name)
    instances = InstanceSet(image_hw=(90, 120), masks=(disc(9, 9, 3),) * 2, categories=table)
    image = with_pixels(AnnotatedImage.of("x.png", instances), tmp_path)
    write_with(IMAGEJ, [image], tmp_path / "x_rois.zip")
    (read,), problems = read_with(IMAGEJ, tmp_path)
    assert problems == []
    assert [category.name for category in read.categories.categories] == [name]


def test_planes_are_imagejs_positions(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "s.tif", np.zeros((2, 3, 90, 120), np.uint8), imagej=True,
        metadata={"axes": "TZYX"},
    )  # fmt: skip
    instances = InstanceSet(image_hw=(90, 120), masks=(disc(20, 20, 3),), categories=CELLS)
    planes = [
        AnnotatedImage.of("s.tif", instances, plane=plane, path=tmp_path / "s.tif")
        for plane in ((0, 1), (1, 2))
    ]
    write_with(IMAGEJ, planes, tmp_path / "out")
    rois = roifile.roiread(tmp_path / "out/s_rois.zip")
    assert isinstance(rois, list)
    assert [(roi.t_position, roi.z_position) for roi in rois] == [(1, 2), (2, 3)]
    for roi in rois:
        # and without our own word for it
        roi.props = ""
    (tmp_path / "out/s_rois.zip").unlink()
    roifile.roiwrite(tmp_path / "out/s_rois.zip", rois, name=["a", "b"])
    read, problems = read_with(IMAGEJ, tmp_path / "out")
    assert (problems, [image.plane for image in read]) == ([], [(0, 1), (1, 2)])


def rois_of_imagej(folder: Path, *rois: roifile.ImagejRoi, name: str = "RoiSet.zip") -> Path:
    folder.mkdir(exist_ok=True)
    Image.fromarray(np.zeros(HW, np.uint8)).save(folder / "x.png")
    with zipfile.ZipFile(folder / name, "w") as archive:
        for number, roi in enumerate(rois):
            archive.writestr(f"{number}.roi", roi.tobytes())
    return folder / name


def boxed(roitype: Any, x1: int, y1: int, x2: int, y2: int, **others: Any) -> roifile.ImagejRoi:
    return roifile.ImagejRoi(roitype=roitype, left=x1, top=y1, right=x2, bottom=y2, **others)


def outline(roitype: Any, points: Any) -> roifile.ImagejRoi:
    roi = roifile.ImagejRoi.frompoints(points)
    roi.roitype = roitype
    return roi


def triangle_at(x: float) -> roifile.ImagejRoi:
    roi = outline(TYPE.POLYGON, [[1.5, 1], [5, 5], [5, 1]])
    assert roi.subpixel_coordinates is not None
    roi.subpixel_coordinates[0, 0] = x
    return roi


PATHS = {
    "a triangle": ([0, 1, 1, 1, 5, 1, 1, 1, 5, 4], 6),
    "a square with a hole": (
        [0, 0, 0, 1, 5, 0, 1, 5, 5, 1, 0, 5, 4, 0, 1, 1, 1, 3, 1, 1, 3, 3, 1, 1, 3, 4], 21,
    ),
    # a quarter circle of radius 8 about the origin, whose curve cuts off the corner
    "a curve": ([0, 0, 0, 1, 8, 0, 3, 8, 4.418, 4.418, 8, 0, 8, 4], 52),
    "a parabola": ([0, 0, 0, 2, 4, 8, 8, 0, 4], 20),
}  # fmt: skip


@pytest.mark.parametrize(
    ("roi", "area"),
    [
        (boxed(TYPE.RECT, 1, 2, 4, 6), 12),
        (boxed(TYPE.RECT, 0, 0, 8, 8, rounded_rect_arc_size=4), 60),
        (boxed(TYPE.OVAL, 1, 1, 5, 5), 12),
        (boxed(TYPE.OVAL, 2, 3, 3, 4), 1),
        (outline(TYPE.POLYGON, [[1, 1], [5, 1], [5, 4], [1, 4]]), 12),
        (outline(TYPE.FREEHAND, [[1, 1], [5, 1], [5, 4], [1, 4]]), 12),
        (outline(TYPE.TRACED, [[1, 1], [5, 1], [5, 4], [1, 4]]), 12),
        (outline(TYPE.POLYGON, [[1.6, 1.6], [4.4, 1.6], [4.4, 3.4], [1.6, 3.4]]), 2),
        *(
            (
                boxed(
                    TYPE.RECT, 0, 0, 8, 8, shape_roi_size=len(path),
                    multi_coordinates=np.array(path, np.float32),
                ),
                area,
            )
            for path, area in PATHS.values()
        ),
    ],
)  # fmt: skip
def test_areas_of_imagej_are_read(tmp_path: Path, roi: roifile.ImagejRoi, area: int) -> None:
    path = rois_of_imagej(tmp_path, roi)
    for place in (path, tmp_path):
        (read,), problems = read_with(IMAGEJ, place)
        assert (problems, read.file_name) == ([], "x.png")
        assert read.instances.areas.tolist() == [area]
        assert read.instances.states == (InstanceState.ACCEPTED,)


def test_sub_pixel_rectangles_are_read(tmp_path: Path) -> None:
    roi = boxed(
        TYPE.RECT, 1, 1, 4, 4, xd=1.6, yd=1.4, widthd=2.0, heightd=1.0,
        options=roifile.ROI_OPTIONS.SUB_PIXEL_RESOLUTION,
    )  # fmt: skip
    (read,), _ = read_with(IMAGEJ, rois_of_imagej(tmp_path, roi))
    assert read.instances.boxes_xyxy.tolist() == [[2, 1, 4, 2]]


def test_groups_become_categories(tmp_path: Path) -> None:
    rois = [boxed(TYPE.RECT, 0, 0, 2, 2, group=group) for group in (0, 3, 300)]
    (read,), _ = read_with(IMAGEJ, rois_of_imagej(tmp_path, *rois))
    names = [read.categories.name_of(each) for each in read.instances.category_ids]
    assert names == ["object", "group 3", "group 300"]


def test_a_single_roi_is_read(tmp_path: Path) -> None:
    rois_of_imagej(tmp_path)
    (tmp_path / "x.roi").write_bytes(boxed(TYPE.RECT, 1, 2, 4, 6).tobytes())
    (read,), problems = read_with(IMAGEJ, tmp_path / "x.roi")
    assert (problems, read.instances.areas.tolist()) == ([], [12])
    assert IMAGEJ.looks_like(tmp_path / "x.roi")


def test_an_empty_zip_is_an_image_without_objects(tmp_path: Path) -> None:
    (read,), problems = read_with(IMAGEJ, rois_of_imagej(tmp_path))
    assert (problems, len(read.instances), read.image_hw) == ([], 0, HW)


def test_without_an_image_rois_cannot_be_placed(tmp_path: Path) -> None:
    path = rois_of_imagej(tmp_path, boxed(TYPE.RECT, 0, 0, 2, 2), name="y_rois.zip")
    (tmp_path / "x.png").unlink()
    with pytest.raises(AnnotationError, match="ROIs do not know the size of their image"):
        read_with(IMAGEJ, path)
    read, (problem,) = read_with(IMAGEJ, tmp_path)
    assert (read, problem.path) == ([], path)


@pytest.mark.parametrize(
    ("roi", "message"),
    [
        (roifile.ImagejRoi(roitype=TYPE.LINE, x2=5, y2=5), "a line, not an area"),
        (outline(TYPE.POINT, [[1, 1]]), "points, not an area"),
        (outline(TYPE.POLYLINE, [[1, 1], [5, 5], [5, 1]]), "a line, not an area"),
        (outline(TYPE.ANGLE, [[1, 1], [5, 5], [5, 1]]), "an angle, not an area"),
        (boxed(TYPE.RECT, 0, 0, 2, 2, subtype=roifile.ROI_SUBTYPE.TEXT, text="a"), "a text"),
        (boxed(TYPE.RECT, 50, 50, 60, 60), "no pixel of the image of 9 x 10"),
        (boxed(TYPE.RECT, 3, 3, 3, 3), "no pixel of the image"),
        (boxed(TYPE.OVAL, 3, 3, 3, 3), "no pixel of the image"),
        (triangle_at(np.nan), "must be finite"),
        (triangle_at(1e30), "must be finite"),
        (boxed(TYPE.RECT, -5, 0, 3, 3), "reaches out of the image"),
        *(
            (
                boxed(
                    TYPE.RECT, 0, 0, 8, 8, shape_roi_size=len(path),
                    multi_coordinates=np.array(path, np.float32),
                ),
                message,
            )
            for path, message in (
                ([0, 1], "breaks off"),
                ([7, 1, 1], "breaks off"),
                ([np.nan, 1, 1], "breaks off"),
                ([1, 1, 1], "does not begin with a point"),
                ([4], "no pixel"),
                ([0, 1, 1, 1, np.inf, 1, 1, 1, 5, 4], "must be finite"),
            )
        ),
    ],
)  # fmt: skip
def test_what_is_no_area_is_told_of_and_the_good_ones_come_in(
    tmp_path: Path, roi: roifile.ImagejRoi, message: str
) -> None:
    good = boxed(TYPE.RECT, 1, 1, 3, 3)
    (read,), problems = read_with(IMAGEJ, rois_of_imagej(tmp_path, roi, good))
    assert read.instances.boxes_xyxy[-1].tolist() == [1, 1, 3, 3]
    assert [problem.entry for problem in problems] == ["ROI '0.roi'"]
    assert re.search(message, problems[0].message)


def with_claim(roi: roifile.ImagejRoi, at: int, code: str, value: int) -> bytes:
    data = bytearray(roi.tobytes())
    struct.pack_into(code, data, at, value)
    return bytes(data)


TRIANGLE = outline(TYPE.POLYGON, [[1, 1], [5, 5], [5, 1]])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"Iout",
        b"no roi" * 20,
        TRIANGLE.tobytes()[:70],
        with_claim(TRIANGLE, 16, ">H", 65_535),
        with_claim(TRIANGLE, 36, ">i", 2**31 - 1),
        with_claim(boxed(TYPE.RECT, 0, 0, 2, 2), 36, ">i", 2**31 - 1),
        with_claim(boxed(TYPE.RECT, 0, 0, 2, 2), 36, ">i", -5) + b"",
        with_claim(TRIANGLE, 6, ">B", 77),
    ],
)
def test_broken_rois_are_told_of_and_the_good_ones_come_in(tmp_path: Path, data: bytes) -> None:
    path = rois_of_imagej(tmp_path, boxed(TYPE.RECT, 1, 1, 3, 3))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../evil.roi", data)
    (read,), problems = read_with(IMAGEJ, path)
    assert read.instances.boxes_xyxy[0].tolist() == [1, 1, 3, 3]
    assert {problem.entry for problem in problems} <= {"ROI '../../evil.roi'"}
    assert len(problems) + len(read.instances) == 2
    assert not list(tmp_path.parent.glob("evil*"))


def zipped(*entries: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return file.getvalue()


def lying_zip() -> bytes:
    """Return a zip that says its entry of 10 MB has 10 bytes."""
    data = bytearray(zipped(("a.roi", bytes(10_000_000))))
    for signature, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", data, data.index(signature) + at, 10)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cannot be read"),
        (b"PK\x03\x04", "cannot be read"),
        (b"no zip" * 50, "cannot be read"),
        (zipped(("a.roi", b"Iout" * 99))[:-30], "cannot be read"),
        (zipped(("a.roi", bytes(70_000_000))), "grows to 70,000,000 bytes"),
        (
            zipped(*((f"{number}.roi", bytes(60_000_000)) for number in range(9))),
            "its entries grow to 540,000,000 bytes",
        ),
        (zipped(("a.roi", b"Iout" * 99), method=zipfile.ZIP_LZMA), "packed in a way"),
        (lying_zip(), "cannot be read"),
    ],
)
def test_hostile_zips_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = rois_of_imagej(tmp_path)
    path.write_bytes(data)
    with pytest.raises(AnnotationError, match=rf"RoiSet\.zip: .*{message}"):
        read_with(IMAGEJ, path)


@settings(deadline=None, max_examples=100)
@given(
    changes=st.lists(st.tuples(st.integers(0, 99_999), st.integers(0, 255)), max_size=5),
    length=st.integers(0, 9_999) | st.none(),
    is_single=st.booleans(),
)
def test_damaged_files_never_bring_another_error(
    changes, length, is_single, tmp_path_factory
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    image = with_pixels(eleven(file_name="x.png"), folder)
    write_with(IMAGEJ, [image], folder / "x.zip")
    path = folder / "x.zip"
    data = bytearray(path.read_bytes())
    if is_single:
        with zipfile.ZipFile(path) as archive:
            data = bytearray(archive.read(archive.namelist()[changes[0][0] % 11 if changes else 0]))
        path = folder / "x.roi"
    for at, value in changes:
        data[at % len(data)] = value
    path.write_bytes(bytes(data[:length]))
    read_or_refuse(IMAGEJ, path)
    IMAGEJ.looks_like(path)


def test_zips_of_rois_alone_look_like_imagej(tmp_path: Path) -> None:
    assert IMAGEJ.looks_like(rois_of_imagej(tmp_path, TRIANGLE))
    assert IMAGEJ.looks_like(tmp_path)
    (tmp_path / "other.zip").write_bytes(zipped(("a.txt", b"text")))
    (tmp_path / "text.zip").write_bytes(b"text")
    for name in ("other.zip", "text.zip", "missing.roi"):
        assert not IMAGEJ.looks_like(tmp_path / name)
