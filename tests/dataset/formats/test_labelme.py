import base64
import copy
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from tests.core.strategies import assert_same_instances
from tests.dataset.formats.exchange import read_or_refuse, read_with, with_pixels, write_with
from tests.dataset.made import ELEVEN_HW, annotated_images, eleven

from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState, Split
from napari_deeppixel.dataset.formats.base import Problem
from napari_deeppixel.dataset.formats.labelme import LABELME
from napari_deeppixel.dataset.formats.loss import measure_loss

few = settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])


def png(pixels: NDArray[Any]) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


BLOCK = png(np.full((2, 3), 255, np.uint8))
SQUARE = {"label": "cell", "shape_type": "polygon", "points": [[1, 1], [4, 1], [4, 3], [1, 3]]}


def made_file(folder: Path, *shapes: Any, **others: Any) -> Path:
    """Make a file of shapes beside an image of 4 x 8 (H, W)."""
    folder.mkdir(exist_ok=True)
    Image.fromarray(np.zeros((4, 8), np.uint8)).save(folder / "a.png")
    document = {
        "version": "5.5.0",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": "a.png",
        "imageData": None,
        "imageHeight": 4,
        "imageWidth": 8,
    }
    (folder / "a.json").write_text(json.dumps(document | others))
    return folder / "a.json"


def as_labelme_does(shape: dict[str, Any], image_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the mask of a shape by LabelMe's own rule (labelme/utils/shape.py, _label_file.py)."""
    patch = np.array(Image.open(io.BytesIO(base64.b64decode(shape["mask"])))).astype(bool)
    mask = np.zeros(image_hw, bool)
    (x1, y1), (x2, y2) = np.array(shape["points"]).astype(int)
    mask[y1 : y2 + 1, x1 : x2 + 1] = patch
    return mask


def test_the_eleven_shapes_come_back_with_all_that_is_known(tmp_path: Path) -> None:
    image = with_pixels(eleven(), tmp_path / "images")
    assert write_with(LABELME, [image], tmp_path / "out") == [image]
    (back,), problems = read_with(LABELME, tmp_path / "out")
    assert problems == []
    assert back.file_name == "day 1/eleven.png"
    assert (back.state, back.split, back.group) == (ImageState.DRAFT, Split.VAL, "slide 7")
    assert back.image_extra == image.image_extra
    assert back.instance_extras == image.instance_extras
    by_name = {category.name: category.id for category in image.categories.categories}
    ids = {c.id: by_name[c.name] for c in back.categories.categories}
    same = back.in_table(image.categories, ids)
    assert_same_instances(same.instances, image.instances)
    assert_same_instances(same.crowds, image.crowds)


def test_labelme_itself_would_draw_the_same_masks(tmp_path: Path) -> None:
    write_with(LABELME, [eleven()], tmp_path)
    document = json.loads((tmp_path / "day 1/eleven.json").read_text())
    assert (document["imageHeight"], document["imageWidth"]) == ELEVEN_HW
    assert document["imagePath"] == "eleven.png"
    for shape, mask in zip(document["shapes"], eleven().instances.masks, strict=False):
        assert shape["shape_type"] == "mask"
        assert isinstance(shape["label"], str)
        assert np.array_equal(as_labelme_does(shape, ELEVEN_HW), mask.to_mask(ELEVEN_HW))


@few
@given(image=annotated_images())
def test_what_comes_back_is_what_was_told(tmp_path: Path, image: AnnotatedImage) -> None:
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    write_with(LABELME, [image], tmp_path / "out")
    (back,), problems = read_with(LABELME, tmp_path / "out")
    assert problems == []
    assert (back.state, back.split) == (image.state, image.split)
    told = LABELME.read_back(image).masks
    for before, (expected,), after in zip(
        image.instances.masks, told, back.instances.masks, strict=True
    ):
        assert before.equals(expected)
        assert before.equals(after)
    assert back.instances.uuids == image.instances.uuids
    assert np.array_equal(back.instances.scores, image.instances.scores, equal_nan=True)
    assert np.array_equal(back.instances.handles, image.instances.handles)


def test_only_regions_are_lost() -> None:
    report = measure_loss([eleven()], LABELME)
    assert report.instances_changed == 0
    assert report.lost == {"complete regions": 1}


def test_extras_that_labelme_would_refuse_come_back_all_the_same(tmp_path: Path) -> None:
    extra = {"flags": 3, "description": None, "label": "x", "points": [], "group_id": "g"}
    image = eleven(instance_extras={"uuid-0": extra}, image_extra={"shapes": 1, "flags": []})
    write_with(LABELME, [image], tmp_path)
    shape = json.loads((tmp_path / "day 1/eleven.json").read_text())["shapes"][0]
    assert (shape["flags"], shape["description"], shape["group_id"]) == ({}, "", None)
    (back,), problems = read_with(LABELME, tmp_path)
    assert problems == []
    assert back.instance_extras == image.instance_extras
    assert back.image_extra == image.image_extra


def test_instances_that_got_the_same_group_stay_apart(tmp_path: Path) -> None:
    extras = {"uuid-0": {"group_id": 1}, "uuid-2": {"group_id": 1}}
    write_with(LABELME, [eleven(instance_extras=extras)], tmp_path)
    (back,), _ = read_with(LABELME, tmp_path)
    assert len(back.instances) == 11


def test_a_polygon_lies_on_the_edges_of_pixels(tmp_path: Path) -> None:
    (image,), problems = read_with(LABELME, made_file(tmp_path, SQUARE))
    assert problems == []
    assert image.instances.boxes_xyxy.tolist() == [[1, 1, 4, 3]]
    assert image.instances.states == (InstanceState.ACCEPTED,)
    assert image.file_name == "a.png"
    assert image.state is ImageState.DRAFT


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        ({"shape_type": "rectangle", "points": [[5, 3], [1, 2]]}, [1, 2, 5, 3]),
        ({"shape_type": "circle", "points": [[4, 2], [5, 2]]}, [3, 1, 5, 3]),
        ({"shape_type": None, "points": [[0, 0], [2, 0], [2, 2], [0, 2]]}, [0, 0, 2, 2]),
        ({"shape_type": "mask", "points": [[5, 2], [7, 3]], "mask": BLOCK}, [5, 2, 8, 4]),
        ({"shape_type": "polygon", "points": [[6, 2], [99, 2], [99, 99], [6, 99]]}, [6, 2, 8, 4]),
    ],
)
def test_shapes_with_an_area_become_masks(tmp_path: Path, shape: Any, box: list[int]) -> None:
    (image,), problems = read_with(LABELME, made_file(tmp_path, {"label": "a"} | shape))
    assert problems == []
    assert image.instances.boxes_xyxy.tolist() == [box]


def test_shapes_of_one_group_are_one_instance(tmp_path: Path) -> None:
    shapes = [copy.deepcopy(SQUARE) | {"group_id": group} for group in (3, 3, None, 3)]
    shapes[1]["points"] = [[5, 0], [6, 0], [6, 1], [5, 1]]
    shapes[3]["label"] = "other"
    (image,), problems = read_with(LABELME, made_file(tmp_path, *shapes))
    assert problems == []
    assert image.instances.areas.tolist() == [7, 6, 6]


def test_flags_and_descriptions_are_kept(tmp_path: Path) -> None:
    shape = SQUARE | {"flags": {"mitotic": True}, "description": "late", "colour": 3}
    (image,), _ = read_with(LABELME, made_file(tmp_path, shape, flags={"blurred": True}))
    (extra,) = image.instance_extras.values()
    assert extra == {"flags": {"mitotic": True}, "description": "late", "colour": 3}
    assert image.image_extra == {"flags": {"blurred": True}}


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (7, "must be an object"),
        (SQUARE | {"label": None}, "name of a category"),
        (SQUARE | {"label": " "}, "name of a category"),
        (SQUARE | {"points": [[1, 2], [3, 4]]}, "3 vertices"),
        (SQUARE | {"points": "1,2"}, "list of"),
        (SQUARE | {"points": [[1, 2, 3]] * 3}, "list of"),
        (SQUARE | {"points": [[1, None]] * 3}, "list of"),
        (SQUARE | {"points": [[1, 10**400]] * 3}, "finite"),
        (SQUARE | {"points": [[1, 1e300]] * 3}, "finite"),
        (SQUARE | {"points": [[-9, -9], [-8, -9], [-8, -8]]}, "no pixel"),
        (SQUARE | {"shape_type": "point", "points": [[1, 1]]}, "no area"),
        (SQUARE | {"shape_type": "linestrip"}, "no area"),
        (SQUARE | {"shape_type": ["polygon"]}, "no area"),
        (SQUARE | {"shape_type": "circle"}, "2 points"),
        (SQUARE | {"shape_type": "mask"}, "PNG in base64"),
        (SQUARE | {"shape_type": "mask", "mask": "***"}, "no readable PNG"),
        (SQUARE | {"shape_type": "mask", "mask": BLOCK[:40]}, "no readable PNG"),
        (SQUARE | {"shape_type": "mask", "mask": "AAAA"}, "no readable PNG"),
        (SQUARE | {"shape_type": "mask", "mask": BLOCK, "points": []}, "points of its box"),
        (SQUARE | {"shape_type": "mask", "mask": BLOCK, "points": [[6, 1]]}, "leaves its image"),
        (SQUARE | {"shape_type": "mask", "mask": BLOCK, "points": [[-1, 0]]}, "leaves its image"),
        (SQUARE | {"shape_type": "mask", "mask": png(np.ones((5, 1), np.uint8))}, "in an image of"),
        (SQUARE | {"shape_type": "mask", "mask": png(np.ones((1, 1, 3), np.uint8))}, "grey"),
        (SQUARE | {"shape_type": "mask", "mask": png(np.zeros((1, 1), np.uint8))}, "no pixel"),
    ],
)
def test_a_bad_shape_is_named_and_the_others_come_in(
    tmp_path: Path, shape: Any, expected: str
) -> None:
    (image,), (problem,) = read_with(LABELME, made_file(tmp_path, shape, SQUARE))
    assert len(image.instances) == 1
    assert expected in problem.message


def test_points_and_lines_are_kept_as_they_are(tmp_path: Path) -> None:
    point = SQUARE | {"shape_type": "point", "points": [[1, 1]]}
    (image,), _ = read_with(LABELME, made_file(tmp_path, point))
    assert image.maskless == ({"category_id": 1, "labelme": point},)


def test_wrong_fields_of_ours_are_told(tmp_path: Path) -> None:
    ours = {"handle": -1, "uuid": 3, "state": "great", "score": 7, "level": 0.5}
    path = made_file(tmp_path, SQUARE | {"napari_deeppixel": ours}, napari_deeppixel={"state": 1})
    (image,), problems = read_with(LABELME, path)
    assert len(problems) == 6
    assert image.instances.handles.tolist() == [1]


@pytest.mark.parametrize(
    "image_path",
    [
        "a.png",
        "../images/a.png",
        "..\\images\\a.png",
        "/data/a.png",
        "C:\\data\\a.png",
        "x/y/a.png",
    ],
)
def test_the_image_is_found_wherever_labelme_had_it(tmp_path: Path, image_path: str) -> None:
    made_file(tmp_path / "images", SQUARE, imagePath=image_path)
    (tmp_path / "annotations").mkdir()
    path = (tmp_path / "images/a.json").rename(tmp_path / "annotations/a.json")
    (image,), problems = read_with(LABELME, path, images=tmp_path / "images")
    assert problems == []
    assert image.file_name == "a.png"
    assert image.path is not None


@pytest.mark.parametrize("image_path", ["../secret.png", "/etc/passwd", "../../../etc/passwd"])
def test_no_image_outside_of_the_folder_is_taken(tmp_path: Path, image_path: str) -> None:
    path = made_file(tmp_path / "set", SQUARE, imagePath=image_path)
    (tmp_path / "set/a.png").rename(tmp_path / "secret.png")
    (image,), _ = read_with(LABELME, path)
    assert image.path is None
    assert image.file_name in ("secret.png", "passwd")


def test_an_image_inside_the_file_is_not_used_but_told(tmp_path: Path) -> None:
    path = made_file(tmp_path, SQUARE, imageData=BLOCK)
    (tmp_path / "a.png").unlink()
    (image,), (problem,) = read_with(LABELME, path)
    assert image.image_hw == (4, 8)
    assert "copy of it inside" in problem.message


def test_the_size_of_the_image_counts(tmp_path: Path) -> None:
    (image,), (problem,) = read_with(LABELME, made_file(tmp_path, SQUARE, imageHeight=9000))
    assert image.image_hw == (4, 8)
    assert "9000" in problem.message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"shapes": 3}',
        '{"shapes": {}}',
        '{"shapes": []}',
        '{"shapes": [], "imageHeight": -1, "imageWidth": 3}',
        '{"shapes": [], "imageHeight": 1e9, "imageWidth": 1e9}',
        '{"shapes": [], "imageHeight": NaN, "imageWidth": 3}',
        '{"shapes": [], "imageHeight": true, "imageWidth": 3}',
        "[" * 100_000,
        '{"shapes": [' + "9" * 5000 + "]}",
    ],
)
def test_a_file_that_makes_no_sense_is_refused_but_not_its_neighbours(
    tmp_path: Path, text: str
) -> None:
    good = made_file(tmp_path / "set", SQUARE)
    (tmp_path / "set/b.json").write_text(text)
    with pytest.raises(AnnotationError):
        read_with(LABELME, tmp_path / "set/b.json")
    images, (problem,) = read_with(LABELME, tmp_path / "set")
    assert [image.file_name for image in images] == ["a.png"]
    assert problem.path.name == "b.json"
    assert good.exists()


def test_an_image_that_cannot_be_written_is_told_and_the_others_are(tmp_path: Path) -> None:
    problems: list[Problem] = []
    images = [eleven(file_name="../x.png"), eleven(file_name="good.png")]
    written = write_with(LABELME, images, tmp_path / "out", on_problem=problems.append)
    assert written == images[1:]
    assert [problem.entry for problem in problems] == ["../x.png"]
    (back,) = read_with(LABELME, tmp_path / "out")[0]
    assert len(back.instances) == 11


def test_names_that_lead_out_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="leads out"):
        write_with(LABELME, [eleven(file_name="../x.png")], tmp_path / "out")


def test_what_is_no_labelme_file_does_not_look_like_one(tmp_path: Path) -> None:
    path = made_file(tmp_path / "set", SQUARE)
    assert LABELME.looks_like(path)
    assert LABELME.looks_like(path.parent)
    (tmp_path / "coco.json").write_text('{"images": [], "annotations": []}')
    assert not LABELME.looks_like(tmp_path / "coco.json")
    assert not LABELME.looks_like(tmp_path / "missing.json")
    assert not LABELME.looks_like(path.with_suffix(".png"))


@settings(few, max_examples=100)
@given(data=st.data())
def test_damaged_files_end_in_an_error_of_ours(tmp_path: Path, data: Any) -> None:
    mask = {"label": "b", "shape_type": "mask", "points": [[5, 2], [7, 3]], "mask": BLOCK}
    path = made_file(tmp_path / "set", SQUARE, mask)
    damaged = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged)))
        new = data.draw(st.binary(max_size=4) | st.sampled_from([b"9", b"-", b"null", b'"']))
        damaged[at : at + data.draw(st.integers(0, 3))] = new
    path.write_bytes(bytes(damaged))
    for image in read_or_refuse(LABELME, path):
        assert isinstance(image.instances, InstanceSet)
