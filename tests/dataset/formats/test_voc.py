import io
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from tests.dataset.formats.exchange import (
    assert_agrees,
    label_array,
    read_or_refuse,
    read_with,
    with_pixels,
    write_with,
)
from tests.dataset.made import CELLS, ELEVEN_HW, annotated_images, disc, eleven

from napari_deeppixel.core.category import Category, CategoryTable
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState, Split
from napari_deeppixel.dataset.formats.base import Problem
from napari_deeppixel.dataset.formats.loss import measure_loss
from napari_deeppixel.dataset.formats.voc import VOC
from napari_deeppixel.dataset.formats.voc_png import encode_numbers, voc_colors

few = settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
EDGES = ("xmin", "ymin", "xmax", "ymax")
LABELMAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncell:128,0,0::\ndebris:0,128,0::\n"
OBJECTS = "0000/0110/0220/0000"
CLASSES = "0000/0110/0220/0000"


def voc_png(numbers: NDArray[np.uint8]) -> bytes:
    return encode_numbers(numbers, voc_colors())


def made_folder(
    folder: Path,
    objects: str | bytes = OBJECTS,
    classes: str | bytes | None = CLASSES,
    labelmap: str | None = LABELMAP,
    xml: str | None = None,
) -> Path:
    """Make a folder of one image, ``a``; PNGs are drawn as text."""
    for name, drawn in (("SegmentationObject", objects), ("SegmentationClass", classes)):
        if drawn is not None:
            (folder / name).mkdir(parents=True)
            data = voc_png(label_array(drawn)) if isinstance(drawn, str) else drawn
            (folder / name / "a.png").write_bytes(data)
    if labelmap is not None:
        (folder / "labelmap.txt").write_text(labelmap)
    if xml is not None:
        (folder / "Annotations").mkdir()
        (folder / "Annotations/a.xml").write_text(xml)
    return folder


def xml_object(name: str, box: tuple[int, ...], more: str = "") -> str:
    edges = "".join(f"<{k}>{v}</{k}>" for k, v in zip(EDGES, box, strict=False))
    return f"<object><name>{name}</name>{more}<bndbox>{edges}</bndbox></object>"


def as_png(pixels: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def test_colours_are_those_of_the_development_kit() -> None:
    # VOC2012: background, aeroplane, bicycle, bird, boat, tv/monitor, void
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 4: (0, 0, 128)}
    known |= {20: (0, 64, 128), 255: (224, 224, 192)}
    assert {number: tuple(voc_colors()[number].tolist()) for number in known} == known


def test_the_eleven_shapes_come_back_but_for_what_lies_under(tmp_path: Path) -> None:
    image = with_pixels(eleven(), tmp_path / "images")
    assert write_with(VOC, [image], tmp_path / "out") == [image]
    (back,), problems = read_with(VOC, tmp_path / "out")
    assert problems == []
    assert back.file_name == "JPEGImages/day 1/eleven.png"
    assert (back.state, back.split) == (ImageState.DRAFT, Split.VAL)
    assert set(back.instances.states) == {InstanceState.ACCEPTED}
    assert_agrees(VOC.read_back(image), image, back)
    assert np.array_equal(back.instances.label_image(), image.instances.label_image())
    for before, after in zip(image.instances, back.instances, strict=True):
        assert CELLS.name_of(before.category_id) == back.categories.name_of(after.category_id)
    assert [(c.name, c.color) for c in back.categories.categories] == [
        (c.name, c.color) for c in CELLS.categories
    ]


def test_pillow_sees_numbers_and_the_colours_of_classes(tmp_path: Path) -> None:
    write_with(VOC, [eleven()], tmp_path)
    objects = Image.open(tmp_path / "SegmentationObject/day 1/eleven.png")
    assert objects.mode == "P"
    assert np.array_equal(np.asarray(objects), eleven().instances.label_image())
    classes = Image.open(tmp_path / "SegmentationClass/day 1/eleven.png")
    drawn = np.asarray(classes)
    assert sorted(np.unique(drawn).tolist()) == [0, 1, 2]
    assert classes.convert("RGB").getpixel((15, 15)) == (0x56, 0xB4, 0xE9)


def test_lists_and_xml_are_those_of_voc(tmp_path: Path) -> None:
    free = eleven(file_name="free.png", split=None)
    write_with(VOC, [eleven(), free], tmp_path)
    lists = tmp_path / "ImageSets/Segmentation"
    assert (lists / "val.txt").read_text() == "day 1/eleven\n"
    assert (lists / "default.txt").read_text() == "free\n"
    assert (tmp_path / "labelmap.txt").read_text() == (
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nnucleus:86,180,233::\n"
        "cell body:230,159,0::\n"
    )
    root = ElementTree.parse(tmp_path / "Annotations/free.xml").getroot()
    assert root.findtext("filename") == "free.png"
    assert root.findtext("size/width") == "120"
    one_pixel = root.findall("object")[5]
    assert [each.text for each in one_pixel.iterfind("bndbox/*")] == ["61", "41", "61", "41"]


@few
@given(image=annotated_images(max_instances=8))
def test_what_comes_back_is_what_was_told(tmp_path: Path, image: AnnotatedImage) -> None:
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    write_with(VOC, [image], tmp_path / "out")
    (back,), problems = read_with(VOC, tmp_path / "out")
    assert problems == []
    assert back.split == image.split
    told = VOC.read_back(image)
    expected = {(*mask.box_xyxy, mask.area): mask for masks in told.masks for mask in masks}
    found = {(*mask.box_xyxy, mask.area): mask for mask in back.instances.masks}
    assert sum(len(masks) for masks in told.masks) == len(back.instances)
    assert expected.keys() == found.keys()
    assert told.renumbered <= sum(image.instances.handles > 254)


def test_the_report_names_what_overlaps() -> None:
    report = measure_loss([eleven()], VOC)
    assert (report.instances_changed, report.overlaps_lost) == (1, 1)
    assert not {"categories", "splits", "numbers of instances"} & set(report.lost)


def test_more_than_254_instances_are_reported(tmp_path: Path) -> None:
    masks = tuple(disc(2 + 4 * (n % 20), 2 + 4 * (n // 20), 1) for n in range(300))
    instances = InstanceSet(image_hw=ELEVEN_HW, masks=masks, categories=CELLS)
    image = eleven(instances=instances)
    assert measure_loss([image], VOC).instances_lost == 46
    write_with(VOC, [image], tmp_path)
    (back,), _ = read_with(VOC, tmp_path)
    assert back.instances.handles.tolist() == list(range(1, 255))


def test_handles_that_are_too_large_become_free_ones() -> None:
    instances = eleven().instances.with_handles_from(1000)
    assert VOC.read_back(eleven(instances=instances)).renumbered == 11


def test_a_drawn_image_is_read(tmp_path: Path) -> None:
    (image,), problems = read_with(VOC, made_folder(tmp_path))
    assert problems == []
    assert image.instances.handles.tolist() == [1, 2]
    assert image.instances.boxes_xyxy.tolist() == [[1, 1, 3, 2], [1, 2, 3, 3]]
    names = [image.categories.name_of(i) for i in image.instances.category_ids.tolist()]
    assert names == ["cell", "debris"]
    assert [c.color for c in image.categories.categories] == ["#800000", "#008000"]


def test_pngs_in_colour_are_read_by_their_colours(tmp_path: Path) -> None:
    colours = voc_colors()[label_array(OBJECTS)]
    (image,), problems = read_with(VOC, made_folder(tmp_path, as_png(colours), as_png(colours)))
    assert problems == []
    assert image.instances.handles.tolist() == [1, 2]
    assert image.instances.category_ids.tolist() == [1, 2]


def test_a_labelmap_without_colours_means_those_of_voc(tmp_path: Path) -> None:
    # as datumaro exports what has no colours: RGB, and label after label in VOC's own
    drawn = voc_colors()[label_array(CLASSES)]
    folder = made_folder(
        tmp_path, classes=as_png(drawn), labelmap="background:::\ncell:::\ndebris:::\n"
    )
    (image,), problems = read_with(VOC, folder)
    assert problems == []
    names = [image.categories.name_of(each.category_id) for each in image.instances]
    assert names == ["cell", "debris"]


def test_without_a_labelmap_the_classes_are_those_of_2012(tmp_path: Path) -> None:
    (image,), problems = read_with(VOC, made_folder(tmp_path, labelmap=None))
    assert problems == []
    assert [c.name for c in image.categories.categories] == ["aeroplane", "bicycle"]


def test_without_class_pngs_names_come_from_xml(tmp_path: Path) -> None:
    xml = xml_object("cell", (2, 2, 3, 2), "<difficult>1</difficult><pose>Unspecified</pose>")
    folder = made_folder(
        tmp_path, classes=None, labelmap=None, xml=f"<annotation>{xml}</annotation>"
    )
    (image,), problems = read_with(VOC, folder)
    assert problems == []
    names = [image.categories.name_of(i) for i in image.instances.category_ids.tolist()]
    assert names == ["cell", "object"]
    assert list(image.instance_extras.values()) == [{"voc": {"difficult": "1"}}]
    write_with(VOC, [image], tmp_path / "out")
    (back,), _ = read_with(VOC, tmp_path / "out")
    assert list(back.instance_extras.values()) == [{"voc": {"difficult": "1"}}]


def test_a_box_without_a_mask_is_kept_but_no_instance(tmp_path: Path) -> None:
    xml = f"<annotation>{xml_object('far', (4, 4, 4, 4))}</annotation>"
    (image,), (problem,) = read_with(VOC, made_folder(tmp_path, xml=xml))
    assert image.maskless == ({"category_id": 3, "bbox": [3, 3, 1, 1]},)
    assert "a box of far" in problem.message


def test_void_round_an_object_is_its_border(tmp_path: Path) -> None:
    numbers = label_array("00000/01100/00000/00000/00009").copy()
    border = voc_png(
        np.where(numbers == 9, 0, np.where(numbers == 0, 255, numbers)).astype(np.uint8)
    )
    (image,), problems = read_with(VOC, made_folder(tmp_path / "border", border, None))
    assert problems == []
    assert image.instances.areas.tolist() == [2]
    far = voc_png(np.where(numbers == 9, 255, numbers).astype(np.uint8))
    (image,), (problem,) = read_with(VOC, made_folder(tmp_path / "far", far, None))
    assert image.instances.areas.tolist() == [2]
    assert "1 areas of void" in problem.message


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"classes": "000/000"}, "classes are not known"),
        ({"classes": b"no png"}, "classes are not known"),
        ({"classes": "0000/0000/0220/0000"}, "instance 1 has no class"),
        ({"classes": "0000/0990/0220/0000"}, "instance 1 has no class"),
        ({"labelmap": LABELMAP + "cell:1,1,1::\n"}, "no new class"),
        ({"labelmap": LABELMAP + ":1,1,1::\n"}, "no new class"),
        ({"xml": "<annotation>"}, "boxes are not known"),
        ({"xml": "<!DOCTYPE a [<!ENTITY b 'c'>]><annotation>&b;</annotation>"}, "boxes are not"),
        ({"xml": "<a><object/></a>"}, "without a name"),
        ({"xml": f"<a>{xml_object('x', (1, 1))}</a>"}, "must be a number"),
        ({"xml": f"<a>{xml_object('x', ('nan',) * 4)}</a>"}, "finite"),
        ({"xml": f"<a>{xml_object('x', ('1e99',) * 4)}</a>"}, "finite"),
    ],
)
def test_what_is_wrong_is_named_and_the_instances_come_in(
    tmp_path: Path, changes: Any, expected: str
) -> None:
    (image,), problems = read_with(VOC, made_folder(tmp_path, **changes))
    assert len(image.instances) == 2
    assert [expected in problem.message for problem in problems] == [True]


@pytest.mark.parametrize(
    "objects",
    [b"", b"no png", voc_png(label_array(OBJECTS))[:60], as_png(np.zeros((1, 1), bool))[:9]],
)
def test_a_damaged_png_is_named_and_the_others_come_in(tmp_path: Path, objects: bytes) -> None:
    folder = made_folder(tmp_path)
    (folder / "SegmentationObject/b.png").write_bytes(objects)
    (image,), (problem,) = read_with(VOC, folder)
    assert image.file_name == "a.png"
    assert problem.path.name == "b.png"


def test_images_without_instances_are_counted(tmp_path: Path) -> None:
    folder = made_folder(tmp_path, xml="<annotation/>")
    for name in ("b", "c"):
        shutil.copy(folder / "SegmentationClass/a.png", folder / f"SegmentationClass/{name}.png")
    images, (problem,) = read_with(VOC, folder)
    assert len(images) == 1
    assert "2 images have no instances" in problem.message


def test_an_image_of_another_size_is_named(tmp_path: Path) -> None:
    folder = made_folder(tmp_path)
    (folder / "JPEGImages").mkdir()
    Image.new("L", (9, 9)).save(folder / "JPEGImages/a.jpg")
    images, (problem,) = read_with(VOC, folder)
    assert images == []
    assert "9 x 9" in problem.message


@pytest.mark.parametrize("name", ["a:b", " a", "#a", "a\nb", "background", "a\u2028b"])
def test_names_that_the_labelmap_cannot_hold_are_not_written(tmp_path: Path, name: str) -> None:
    table = CategoryTable(categories=(Category(id=1, name=name, color="#000000"),))
    image = AnnotatedImage.of("a.png", InstanceSet.empty((3, 3), table))
    with pytest.raises(AnnotationError, match="rename"):
        write_with(VOC, [image], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_categories_of_one_colour_get_those_of_voc(tmp_path: Path) -> None:
    same = tuple(Category(id=n, name=f"c{n}", color="#ffffff") for n in (1, 2))
    instances = InstanceSet(
        image_hw=ELEVEN_HW,
        masks=(disc(20, 20, 5), disc(50, 50, 5)),
        categories=CategoryTable(categories=same),
        category_ids=np.array([1, 2]),
    )
    write_with(VOC, [AnnotatedImage.of("a.png", instances)], tmp_path)
    (back,), _ = read_with(VOC, tmp_path)
    assert back.instances.category_ids.tolist() == [1, 2]
    assert [c.color for c in back.categories.categories] == ["#800000", "#008000"]


def test_an_image_that_cannot_be_written_is_told_and_the_others_are(tmp_path: Path) -> None:
    problems: list[Problem] = []
    images = [eleven(file_name="../x.png"), eleven(file_name="good.png")]
    written = write_with(VOC, images, tmp_path / "out", on_problem=problems.append)
    assert written == images[1:]
    assert [problem.entry for problem in problems] == ["../x.png"]
    (back,) = read_with(VOC, tmp_path / "out")[0]
    assert len(back.instances) == 11


def test_names_that_lead_out_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="leads out"):
        write_with(VOC, [eleven(file_name="../x.png")], tmp_path / "out")


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out/SegmentationObject").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AnnotationError, match="link"):
        write_with(VOC, [eleven()], tmp_path / "out")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_what_is_no_voc_folder_does_not_look_like_one(tmp_path: Path) -> None:
    folder = made_folder(tmp_path / "kit/VOC2012")
    for path in (folder, folder.parent, folder / "SegmentationObject"):
        assert VOC.looks_like(path)
    for path in (folder / "SegmentationClass", folder / "labelmap.txt", tmp_path / "missing"):
        assert not VOC.looks_like(path)
    with pytest.raises(AnnotationError, match="class PNGs alone"):
        read_with(VOC, folder / "SegmentationClass")


@settings(few, max_examples=100)
@given(data=st.data())
def test_damaged_files_end_in_an_error_of_ours(tmp_path: Path, data: Any) -> None:
    shutil.rmtree(tmp_path / "set", ignore_errors=True)
    xml = f"<annotation>{xml_object('cell', (2, 2, 3, 2))}</annotation>"
    folder = made_folder(tmp_path / "set", xml=xml)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(files))
    damaged = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged)))
        damaged[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    path.write_bytes(bytes(damaged))
    read_or_refuse(VOC, folder)
