import itertools
import shutil
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from tests.dataset.formats.exchange import read_or_refuse, read_with, with_pixels, write_with
from tests.dataset.made import CELLS, ELEVEN_HW, annotated_images, disc, eleven

from napari_deeppixel.core.category import Category, CategoryTable
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState, Split
from napari_deeppixel.dataset.formats.base import Problem
from napari_deeppixel.dataset.formats.cvat import CVAT, z_orders
from napari_deeppixel.dataset.formats.loss import measure_loss

few = settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
META = (
    "<version>1.1</version><meta><task><labels>"
    "<label><name>cell</name><color>#112233</color><attributes/></label>"
    "<label><name>debris</name><color>red</color></label>"
    "</labels></task></meta>"
)
MASK = '<mask label="cell" rle="1, 2, 1, 2" left="2" top="1" width="3" height="2" z_order="4"/>'


def made_file(folder: Path, shapes: str, image: str = 'id="7" name="a.png"') -> Path:
    """Make a file with an image of 4 x 8 (H, W)."""
    folder.mkdir(exist_ok=True)
    Image.fromarray(np.zeros((4, 8), np.uint8)).save(folder / "a.png")
    path = folder / "annotations.xml"
    path.write_text(
        f"<annotations>{META}<image {image} width='8' height='4'>{shapes}</image></annotations>"
    )
    return path


def as_cvat_documents(shape: ElementTree.Element, image_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Return a mask by CVAT's rule: counts of unset and set pixels in turn, row by row."""
    pixels: list[bool] = []
    for value, count in zip(itertools.cycle([False, True]), shape.attrib["rle"].split(",")):
        pixels += [value] * int(count)
    left, top, width, height = (int(shape.attrib[k]) for k in ("left", "top", "width", "height"))
    mask = np.zeros(image_hw, bool)
    mask[top : top + height, left : left + width] = np.reshape(pixels, (height, width))
    return mask


def test_the_eleven_shapes_come_back_exactly(tmp_path: Path) -> None:
    image = with_pixels(eleven(), tmp_path / "images")
    assert write_with(CVAT, [image], tmp_path / "out") == [image]
    (back,), problems = read_with(CVAT, tmp_path / "out")
    assert problems == []
    assert back.file_name == "images/day 1/eleven.png"
    assert (back.state, back.split) == (ImageState.DRAFT, Split.VAL)
    assert [(c.name, c.color) for c in back.categories.categories] == [
        (c.name, c.color) for c in CELLS.categories
    ]
    assert set(back.instances.states) == {InstanceState.ACCEPTED}
    for before, after in zip(image.instances, back.instances, strict=True):
        assert before.mask.equals(after.mask)
        assert CELLS.name_of(before.category_id) == back.categories.name_of(after.category_id)


def test_run_lengths_are_those_that_cvat_reads(tmp_path: Path) -> None:
    write_with(CVAT, [eleven()], tmp_path / "out.xml")
    root = ElementTree.parse(tmp_path / "out.xml").getroot()
    (image,) = root.findall("image")
    assert image.attrib == {
        "id": "0",
        "name": "day 1/eleven.png",
        "subset": "val",
        "width": "120",
        "height": "90",
    }
    assert [each.text for each in root.iterfind("meta/project/labels/label/name")] == [
        "nucleus",
        "cell body",
    ]
    for shape, mask in zip(image.findall("mask"), eleven().instances.masks, strict=True):
        assert np.array_equal(as_cvat_documents(shape, ELEVEN_HW), mask.to_mask(ELEVEN_HW))


def test_every_image_is_of_a_subset_that_the_project_names(tmp_path: Path) -> None:
    splits = (Split.VAL, None, Split.TRAIN, Split.VAL)
    images = [eleven(file_name=f"{i}.png", split=split) for i, split in enumerate(splits)]
    write_with(CVAT, images, tmp_path / "out.xml")
    root = ElementTree.parse(tmp_path / "out.xml").getroot()
    subsets = ["val", "default", "train"]
    assert [each.text for each in root.iterfind("meta/project/tasks/task/subset")] == subsets
    assert [each.get("subset") for each in root.findall("image")] == [*subsets, "val"]
    backs, _ = read_with(CVAT, tmp_path / "out.xml")
    assert [back.split for back in backs] == list(splits)


@few
@given(image=annotated_images())
def test_what_comes_back_is_what_was_told(tmp_path: Path, image: AnnotatedImage) -> None:
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    write_with(CVAT, [image, image], tmp_path / "out")
    backs, problems = read_with(CVAT, tmp_path / "out")
    assert problems == []
    assert [back.file_name for back in backs] == ["made.png", "made.png.png"]
    told = CVAT.read_back(image).masks
    for back in backs:
        assert back.split == image.split
        assert len(back.instances) == len(image.instances)
        for before, (expected,), after in zip(
            image.instances.masks, told, back.instances.masks, strict=True
        ):
            assert before.equals(expected)
            assert before.equals(after)
        same = {c.name: c.color for c in back.categories.categories}
        assert same == {c.name: c.color for c in image.categories.categories}


def test_no_mask_is_lost() -> None:
    report = measure_loss([eleven()], CVAT)
    assert report.instances_changed == 0
    assert "categories" not in report.lost
    assert "splits" not in report.lost


def test_what_lies_on_top_stays_on_top(tmp_path: Path) -> None:
    masks = (disc(20, 20, 9), disc(20, 30, 9), disc(60, 60, 9))
    instances = InstanceSet(
        image_hw=ELEVEN_HW,
        masks=masks,
        categories=CELLS,
        states=("drawn",) * 3,
        levels=np.array([5, 2, 9]),
    )
    assert z_orders(instances).tolist() == [1, 0, 0]
    write_with(CVAT, [eleven(instances=instances)], tmp_path / "out.xml")
    (back,), _ = read_with(CVAT, tmp_path / "out.xml")
    assert back.instances.levels.tolist() == [1, 0, 0]
    assert np.array_equal(back.instances.label_image(), instances.label_image())


def test_a_pile_of_three_has_three_heights() -> None:
    masks = tuple(disc(20, x, 9) for x in (20, 30, 40))
    instances = InstanceSet(
        image_hw=ELEVEN_HW,
        masks=masks,
        categories=CELLS,
        states=("drawn",) * 3,
        levels=np.array([3, 2, 1]),
    )
    assert z_orders(instances).tolist() == [2, 1, 0]


def test_a_mask_is_read_by_rows(tmp_path: Path) -> None:
    (image,), problems = read_with(CVAT, made_file(tmp_path, MASK))
    assert problems == []
    (instance,) = image.instances
    assert instance.mask.to_mask((4, 8))[1:3, 2:5].astype(int).tolist() == [[0, 1, 1], [0, 1, 1]]
    assert instance.level == 4
    assert (image.image_id, image.file_name) == ("7", "a.png")
    assert [(c.name, c.color) for c in image.categories.categories] == [
        ("cell", "#112233"),
        ("debris", "#e69f00"),
    ]


def test_polygons_and_ellipses_become_masks(tmp_path: Path) -> None:
    shapes = (
        '<polygon label="cell" points="1.00,1.00;4.00,1.00;4.00,3.00;1.00,3.00"/>'
        '<ellipse label="cell" cx="5" cy="2" rx="2" ry="1"/>'
        '<ellipse label="cell" cx="5" cy="2" rx="2" ry="1" rotation="90"/>'
    )
    (image,), problems = read_with(CVAT, made_file(tmp_path, shapes))
    assert problems == []
    assert image.instances.boxes_xyxy.tolist() == [[1, 1, 4, 3], [3, 1, 7, 3], [4, 0, 6, 4]]


def test_a_box_alone_is_kept_but_no_instance(tmp_path: Path) -> None:
    box = '<box label="debris" xtl="1" ytl="1.5" xbr="3" ybr="4"/>'
    (image,), (problem,) = read_with(CVAT, made_file(tmp_path, box + MASK))
    assert image.maskless == ({"category_id": 2, "bbox": [1, 1.5, 2, 2.5]},)
    assert len(image.instances) == 1
    assert problem.entry == "box 1 of a.png"


def test_what_cvat_knows_of_a_shape_survives(tmp_path: Path) -> None:
    shape = MASK.replace("/>", ' occluded="1" group_id="3" source="semi-auto">')
    shape += '<attribute name="phase">late &amp; odd</attribute></mask>'
    (image,), _ = read_with(CVAT, made_file(tmp_path / "a", shape + '<tag label="blurred"/>'))
    (extra,) = image.instance_extras.values()
    assert extra == {
        "cvat": {
            "occluded": "1",
            "group_id": "3",
            "source": "semi-auto",
            "attributes": {"phase": "late & odd"},
        }
    }
    assert image.image_extra == {"cvat": {"tags": ["blurred"]}}
    write_with(CVAT, [image], tmp_path / "out.xml")
    (back,), problems = read_with(CVAT, tmp_path / "out.xml")
    assert problems == []
    assert list(back.instance_extras.values()) == [extra]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (MASK.replace('label="cell"', ""), "name of a category"),
        (MASK.replace('left="2"', 'left="7"'), "leaves its image"),
        (MASK.replace('left="2"', 'left="-1"'), "leaves its image"),
        (MASK.replace('left="2"', 'left="nan"'), "whole"),
        (MASK.replace('left="2"', 'left="1e300"'), "whole"),
        (MASK.replace('left="2"', ""), "must be a number"),
        (MASK.replace('width="3"', 'width="99999999999"'), "leaves its image"),
        (MASK.replace('width="3"', 'width="0"'), "leaves its image"),
        (MASK.replace("1, 2, 1, 2", "1, 2, 1, 99999999"), "add up"),
        (MASK.replace("1, 2, 1, 2", "1, -2, 1, 2"), "add up"),
        (MASK.replace("1, 2, 1, 2", "6"), "no pixel"),
        (MASK.replace("1, 2, 1, 2", ""), "must be a number"),
        (MASK.replace("1, 2, 1, 2", "9" * 5000), "whole"),
        (MASK.replace('z_order="4"', 'z_order="x"'), "z_order"),
        (MASK.replace('z_order="4"', 'z_order="inf"'), "z_order"),
        ('<polygon label="cell" points="1,1;2,2"/>', "3 vertices"),
        ('<polygon label="cell" points="1,1;2,2;nan,3"/>', "finite"),
        ('<polygon label="cell" points="1,1,1;2,2;3,3"/>', "must look like"),
        ('<polygon label="cell"/>', "must look like"),
        ('<polyline label="cell" points="1,1;2,2;3,3"/>', "no area"),
        ('<ellipse label="cell" cx="1"/>', "must be a number"),
        ('<ellipse label="cell" cx="1" cy="1" rx="-1" ry="inf"/>', "two radii"),
        ('<box label="cell" xtl="x"/>', "a box"),
        ("<skeleton/>", "name of a category"),
    ],
)
def test_a_bad_shape_is_named_and_the_others_come_in(
    tmp_path: Path, shape: str, expected: str
) -> None:
    (image,), (problem,) = read_with(CVAT, made_file(tmp_path, shape + MASK))
    assert len(image.instances) == 1
    assert expected in problem.message
    assert problem.entry.endswith("1 of a.png")


@pytest.mark.parametrize(
    "image",
    [
        'name="../a.png"',
        'name="/etc/passwd"',
        "",
        'name="a.png" width="9"',
        'name="b.png" width="-9"',
        'name="b.png" width="nan"',
        'name="b.png" width="1e300"',
        'name="b.png" width="99999999"',
    ],
)
def test_a_bad_image_is_named_and_the_others_come_in(tmp_path: Path, image: str) -> None:
    path = made_file(tmp_path, MASK)
    sides = f"{image if 'width' in image else image + ' width=' + chr(34) + '8' + chr(34)}"
    bad = f'<image {sides} height="99999">{MASK}</image>'
    path.write_text(path.read_text().replace("</meta>", f"</meta>{bad}"))
    (back,), (problem,) = read_with(CVAT, path)
    assert back.file_name == "a.png"
    assert problem.entry.startswith("image")


def test_tracks_are_told(tmp_path: Path) -> None:
    path = made_file(tmp_path, MASK)
    track = '<track id="0" label="cell"><box frame="0"/></track>'
    path.write_text(path.read_text().replace("</annotations>", f"{track}</annotations>"))
    (image,), (problem,) = read_with(CVAT, path)
    assert len(image.instances) == 1
    assert "tracks" in problem.message


def test_images_before_a_damaged_place_come_in(tmp_path: Path) -> None:
    path = made_file(tmp_path, MASK)
    path.write_text(path.read_text().replace("</annotations>", "<image"))
    (image,), (problem,) = read_with(CVAT, path)
    assert len(image.instances) == 1
    assert "after image 1" in problem.message


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "xxxxxxxxxx">'
    + "".join(f'<!ENTITY b{n} "{"&b" + str(n - 1 or "") + ";"}{"&b;" * 9}">' for n in range(1, 30))
    + "]><annotations>&b29;</annotations>"
)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"<",
        b"<annotations>",
        b"<annotation></annotation>",
        b"not xml",
        BOMB.encode(),
        b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotations>&x;</annotations>',
        b'<?xml version="1.0" encoding="nonsense"?><annotations></annotations>',
        b'<?xml version="1.0" encoding="utf-16"?><annotations></annotations>',
        b"<annotations>\xff</annotations>",
        b"<annotations>\x00</annotations>",
        b"\x80\x04]",
    ],
)
def test_a_file_that_makes_no_sense_is_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(text)
    with pytest.raises(AnnotationError, match=r"a\.xml"):
        read_with(CVAT, path)


def test_names_that_xml_cannot_hold_are_not_written(tmp_path: Path) -> None:
    table = CategoryTable(categories=(Category(id=1, name="a\x00b", color="#000000"),))
    nobody = InstanceSet.empty((3, 3), table)
    with pytest.raises(AnnotationError, match="rename"):
        write_with(CVAT, [AnnotatedImage.of("a.png", nobody)], tmp_path / "a.xml")
    assert list(tmp_path.iterdir()) == []


def test_names_are_escaped(tmp_path: Path) -> None:
    name = "a <b> & \"c\" 'd'"
    table = CategoryTable(categories=(Category(id=1, name=name, color="#000000"),))
    instances = InstanceSet(image_hw=ELEVEN_HW, masks=(disc(9, 9, 3),), categories=table)
    write_with(CVAT, [AnnotatedImage.of("a & b's.png", instances)], tmp_path / "a.xml")
    (back,), _ = read_with(CVAT, tmp_path / "a.xml")
    assert back.file_name == "a & b's.png"
    assert back.categories.by_id(1).name == name


def test_an_image_that_cannot_be_written_is_told_and_the_others_are(tmp_path: Path) -> None:
    problems: list[Problem] = []
    images = [eleven(file_name="../x.png"), eleven(file_name="good.png")]
    written = write_with(CVAT, images, tmp_path / "out", on_problem=problems.append)
    assert written == images[1:]
    assert [problem.entry for problem in problems] == ["../x.png"]
    (back,) = read_with(CVAT, tmp_path / "out")[0]
    assert len(back.instances) == 11


def test_names_that_lead_out_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="leads out"):
        write_with(CVAT, [eleven(file_name="../x.png")], tmp_path / "out")
    assert not (tmp_path / "out/annotations.xml").exists()


def test_what_is_no_cvat_file_does_not_look_like_one(tmp_path: Path) -> None:
    path = made_file(tmp_path / "set", MASK)
    assert CVAT.looks_like(path)
    assert CVAT.looks_like(path.parent)
    (tmp_path / "voc.xml").write_text("<annotation></annotation>")
    assert not CVAT.looks_like(tmp_path / "voc.xml")
    assert not CVAT.looks_like(tmp_path / "missing.xml")


def test_thousands_of_masks_take_seconds(tmp_path: Path) -> None:
    masks = [
        disc(20 + y, 20 + x, 7, (400, 400)) for y in range(0, 350, 10) for x in range(0, 350, 10)
    ]
    instances = InstanceSet(image_hw=(400, 400), masks=tuple(masks), categories=CELLS)
    started = time.process_time()
    write_with(CVAT, [AnnotatedImage.of("a.png", instances)], tmp_path / "a.xml")
    (back,), _ = read_with(CVAT, tmp_path / "a.xml")
    assert len(back.instances) == len(masks) == 1225
    assert time.process_time() - started < 10


@settings(few, max_examples=100)
@given(data=st.data())
def test_damaged_files_end_in_an_error_of_ours(tmp_path: Path, data: Any) -> None:
    path = made_file(tmp_path / "set", MASK + '<polygon label="cell" points="1,1;4,1;4,3"/>')
    damaged = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged)))
        new = data.draw(st.binary(max_size=4) | st.sampled_from([b"9", b"-", b"<", b'"', b"&"]))
        damaged[at : at + data.draw(st.integers(0, 3))] = new
    path.write_bytes(bytes(damaged))
    read_or_refuse(CVAT, path)
