"""COCO out and in again is the same, and a broken file says what is broken."""

import contextlib
import io
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faster_coco_eval import mask_api_new_cpp as coco_mask
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO
from tests.core.strategies import (
    assert_same_instances,
    category_tables,
    instance_sets,
    masks_in,
    sizes_hw,
)
from tests.dataset.made import annotated_images as made_images
from tests.dataset.made import eleven

from napari_deeppixel.core.category import Category, CategoryTable
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.dataset.annotated import AnnotatedImage
from napari_deeppixel.dataset.formats.base import Problem
from napari_deeppixel.dataset.formats.coco import read_coco, read_provenance, write_coco
from napari_deeppixel.dataset.formats.coco_read import planes_of_document
from napari_deeppixel.dataset.formats.coco_rle import mask_to_rle, segmentation_to_mask
from napari_deeppixel.dataset.formats.coco_values import number_of
from napari_deeppixel.dataset.formats.coco_write import coco_document, image_document

CATS_AND_DOGS = CategoryTable(
    categories=(
        Category(id=7, name="cat", color="#ff0000"),
        Category(id=3, name="dog", color="#00ff00"),
    )
)


def rectangle(x1: int, y1: int, x2: int, y2: int) -> CroppedMask:
    return CroppedMask(pixels=np.ones((y2 - y1, x2 - x1), bool), y=y1, x=x1)


def cat_over_dog(**changes: Any) -> AnnotatedImage:
    """Return an image of 4 x 6 with two overlapping instances and one crowd."""
    instances = InstanceSet(
        image_hw=(4, 6),
        masks=(rectangle(0, 0, 4, 2), rectangle(3, 1, 6, 4)),
        categories=CATS_AND_DOGS,
        category_ids=np.array([7, 3]),
        scores=np.array([0.1, np.nan]),
        handles=np.array([12, 4_000_000_000]),
        uuids=("first", "second"),
        states=(InstanceState.UNREVIEWED, InstanceState.DRAWN),
        sources=("nuclei@abc", "a person"),
        predicted_boxes_xyxy=np.array([[0.1, 0.2, 3.9, 2.1], [np.nan] * 4]),
    )
    crowds = InstanceSet(
        image_hw=(4, 6),
        masks=(rectangle(0, 2, 2, 4),),
        categories=CATS_AND_DOGS,
        category_ids=np.array([3]),
    )
    return AnnotatedImage(
        **({"file_name": "a.png", "instances": instances, "crowds": crowds} | changes)
    )


@st.composite
def annotated_images(draw: st.DrawFn, table: CategoryTable) -> AnnotatedImage:
    instances = draw(instance_sets(table))
    crowds = draw(instance_sets(table, max_instances=2, image_hw=instances.image_hw))
    return AnnotatedImage(
        file_name=draw(st.sampled_from(["a.png", "Ä 1/b c.tif", "day:1/x|y?.png", "it's.png"])),
        instances=instances,
        crowds=crowds,
        plane=draw(st.lists(st.integers(0, 99), max_size=3).map(tuple)),
    )


files = category_tables().flatmap(
    lambda table: st.lists(annotated_images(table), min_size=1, max_size=3)
)


@given(files)
def test_what_is_written_is_read_back_exactly(tmp_path: Path, images: list[AnnotatedImage]) -> None:
    write_coco(images, tmp_path / "instances.json")
    again = read_coco(tmp_path / "instances.json")
    assert len(again) == len(images)
    for before, after in zip(images, again, strict=True):
        assert after.file_name == before.file_name
        assert after.plane == before.plane
        assert after.instances.categories.categories == before.instances.categories.categories
        assert_same_instances(after.instances, before.instances)
        assert_same_instances(after.crowds, before.crowds)
    # nothing but the file is left behind
    assert [path.name for path in tmp_path.iterdir()] == ["instances.json"]


def test_the_document_is_what_other_programs_read() -> None:
    document = json.loads(json.dumps(coco_document([cat_over_dog(plane=(2, 5))])))
    assert document["images"] == [
        {"id": 1, "file_name": "a.png", "height": 4, "width": 6, "plane": [2, 5]}
    ]
    assert document["categories"] == [
        {"id": 7, "name": "cat", "color": "#ff0000"},
        {"id": 3, "name": "dog", "color": "#00ff00"},
    ]
    first, second, crowd = document["annotations"]
    assert (first["id"], first["image_id"], first["category_id"]) == (1, 1, 7)
    assert (first["bbox"], first["area"], first["iscrowd"]) == ([0, 0, 4, 2], 8, 0)
    assert first["score"] == 0.1
    assert second["bbox"] == [3, 1, 3, 3]
    # a person's instance has no score, and NaN is no JSON
    assert "score" not in second
    assert crowd["iscrowd"] == 1
    assert (crowd["id"], crowd["category_id"]) == (3, 3)
    masks = coco_mask.decode(
        [
            a["segmentation"] | {"counts": a["segmentation"]["counts"].encode()}
            for a in document["annotations"]
        ]
    )
    assert masks[..., 1].tolist() == [
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 1, 1, 1],
        [0, 0, 0, 1, 1, 1],
        [0, 0, 0, 1, 1, 1],
    ]


def test_image_and_annotation_ids_count_up_over_the_images() -> None:
    document = coco_document([cat_over_dog(), cat_over_dog(file_name="b.png")])
    assert [image["id"] for image in document["images"]] == [1, 2]
    assert [a["id"] for a in document["annotations"]] == [1, 2, 3, 4, 5, 6]
    assert [a["image_id"] for a in document["annotations"]] == [1, 1, 1, 2, 2, 2]


def test_an_image_without_instances_is_kept(tmp_path: Path) -> None:
    empty = InstanceSet.empty((2, 5), CATS_AND_DOGS)
    image = AnnotatedImage(file_name="é/empty.png", instances=empty, crowds=empty)
    write_coco([image], tmp_path / "a.json")
    (again,) = read_coco(tmp_path / "a.json")
    assert again.file_name == "é/empty.png"
    assert again.instances.image_hw == (2, 5)
    assert len(again.instances) == len(again.crowds) == 0


def test_nothing_and_unlike_categories_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one image"):
        write_coco([], tmp_path / "a.json")
    other = InstanceSet.empty((4, 6), CategoryTable.from_names("tree"))
    trees = AnnotatedImage(file_name="b.png", instances=other, crowds=other)
    with pytest.raises(ValueError, match="share their categories"):
        write_coco([cat_over_dog(), trees], tmp_path / "a.json")
    assert list(tmp_path.iterdir()) == []


def test_the_old_file_stays_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "instances.json"
    path.write_text("old", encoding="utf-8")

    def no_space(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        write_coco([cat_over_dog()], path)
    assert [p.name for p in tmp_path.iterdir()] == ["instances.json"]
    assert path.read_text(encoding="utf-8") == "old"


def test_a_file_that_is_read_while_it_is_replaced_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "instances.json"
    write_coco([cat_over_dog()], path)
    seen = []
    fsync = os.fsync

    def look(descriptor: int) -> None:
        fsync(descriptor)
        seen.append([image.file_name for image in read_coco(path)])

    monkeypatch.setattr(os, "fsync", look)
    write_coco([cat_over_dog(file_name="new.png")], path)
    # before it takes its name, and after: the folder is synced as well
    assert seen == [["a.png"], ["new.png"]]
    assert read_coco(path)[0].file_name == "new.png"


def test_a_folder_in_the_way_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    with pytest.raises(OSError, match=r"a\.json"):
        write_coco([cat_over_dog()], tmp_path / "a.json")
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


@given(sizes_hw.flatmap(lambda hw: st.tuples(st.just(hw), masks_in(hw))))
def test_run_lengths_are_those_of_the_coco_api(drawn: tuple) -> None:
    image_hw, mask = drawn
    full = mask.to_mask(image_hw)
    expected = coco_mask.encode(np.asfortranarray(full[..., np.newaxis].astype(np.uint8)))[0]
    rle = mask_to_rle(mask, image_hw)
    assert rle == {"size": list(image_hw), "counts": expected["counts"].decode()}
    again = segmentation_to_mask(rle, image_hw)
    assert again is not None
    assert again.equals(mask)


def test_uncompressed_run_lengths_are_read() -> None:
    mask = segmentation_to_mask({"size": [3, 4], "counts": [4, 2, 6]}, (3, 4))
    assert mask is not None
    assert mask.box_xyxy == (1, 1, 2, 3)
    assert mask.area == 2


def test_a_polygon_sets_the_pixels_inside_its_edges() -> None:
    # the corners of the box 1, 1, 4, 3
    mask = segmentation_to_mask([[1, 1, 4, 1, 4, 3, 1, 3]], (5, 7))
    assert mask is not None
    assert mask.box_xyxy == (1, 1, 4, 3)
    assert mask.area == 6


def test_several_polygons_are_one_mask() -> None:
    squares = [[0, 0, 2, 0, 2, 2, 0, 2], [1, 1, 3, 1, 3, 3, 1, 3]]
    mask = segmentation_to_mask(squares, (4, 5))
    assert mask is not None
    assert mask.pixels.tolist() == [
        [True, True, False],
        [True, True, True],
        [False, True, True],
    ]


def test_a_polygon_over_the_border_is_cut_there() -> None:
    mask = segmentation_to_mask([[-9, 2, 40, 2, 40, 30, -9, 30]], (5, 7))
    assert mask is not None
    assert mask.box_xyxy == (0, 2, 7, 5)
    assert mask.area == 21


triangles = st.lists(st.floats(-3, 14, width=32), min_size=6, max_size=6)


@given(sizes_hw, st.lists(triangles, min_size=1, max_size=3))
def test_polygons_are_read_as_the_coco_api_draws_them(
    image_hw: tuple[int, int], polygons: list[list[float]]
) -> None:
    rles = coco_mask.frPyObjects(polygons, *image_hw)
    expected = coco_mask.decode(rles).reshape(*image_hw, -1).any(axis=2)
    mask = segmentation_to_mask(polygons, image_hw)
    drawn = np.zeros(image_hw, bool) if mask is None else mask.to_mask(image_hw)
    assert np.array_equal(drawn, expected)


@pytest.mark.parametrize(
    "segmentation",
    [
        [],
        [[]],
        [[1, 1]],
        [1, 2, 3, 4],
        [[-9, -9, -5, -9, -5, -5]],
        {"size": [3, 4], "counts": [12]},
    ],
)
def test_a_segmentation_without_a_pixel_is_none(segmentation: Any) -> None:
    assert segmentation_to_mask(segmentation, (3, 4)) is None


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        5,
        "text",
        [1, 2, 3],
        [["a", "b", "c", "d", "e", "f"]],
        {},
        {"size": [3, 4]},
        {"counts": [12]},
        {"size": [4, 3], "counts": [12]},
        {"size": [3], "counts": [12]},
        {"size": 12, "counts": [12]},
        {"size": [3, 4], "counts": [11]},
        {"size": [3, 4], "counts": [13, -1]},
        {"size": [3, 4], "counts": ["a"]},
        {"size": [3, 4], "counts": [[0, 1], 11]},
        {"size": [3, 4], "counts": None},
        {"size": [3, 4], "counts": ""},
        {"size": [3, 4], "counts": "zzzz"},
        {"size": [3, 4], "counts": "PPPPPPPPPPPPPPPPPPP"},
        {"size": [3, 4], "counts": "~~é"},
        {"size": [3, 4], "counts": 7},
        {"size": [3, 4], "counts": [10**30]},
    ],
)
def test_an_unreadable_segmentation_is_an_annotation_error(segmentation: Any) -> None:
    with pytest.raises(AnnotationError):
        segmentation_to_mask(segmentation, (3, 4))


@given(st.text(max_size=12) | st.lists(st.integers(-(2**40), 2**40), max_size=5))
def test_damaged_run_lengths_give_a_mask_of_the_image_or_an_annotation_error(
    counts: Any,
) -> None:
    try:
        mask = segmentation_to_mask({"size": [3, 4], "counts": counts}, (3, 4))
    except AnnotationError:
        return
    if mask is not None:
        mask.to_mask((3, 4))


def written(tmp_path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """Return the path of a file with the document of `cat_over_dog`, changed."""
    document = coco_document([cat_over_dog()])
    changed = change(document)
    path = tmp_path / "broken.json"
    text = json.dumps(document if changed is None else changed)
    path.write_text(text, encoding="utf-8")
    return path


def at(*keys: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    """Return a change that puts a value at a place in the document."""

    def change(document: Any) -> None:
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = value

    return change


def without(*keys: Any) -> Callable[[dict[str, Any]], None]:
    """Return a change that deletes a place in the document."""

    def change(document: Any) -> None:
        for key in keys[:-1]:
            document = document[key]
        del document[keys[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _document: [], "not a COCO file"),
        (lambda _document: 5, "not a COCO file"),
        (lambda _document: {}, "not a COCO file: it has no list of images"),
        (without("annotations"), "no list of annotations"),
        (at("images", value=5), "no list of images"),
        (at("images", value=["a.png"]), "image at place 0: it has no id"),
        (at("annotations", value=["one"]), "annotation at place 0: it names no image"),
        (at("annotations", value={"a": 1}), "no list of annotations"),
        (without("images", 0, "height"), "image a.png: .* got None x 6"),
        (at("images", 0, "height", value="tall"), "tall"),
        (at("images", 0, "height", value=0), "got 0 x 6"),
        (at("images", 0, "height", value=10**9), "4,294,967,296 pixels"),
        (at("images", 0, "height", value=5), "its image"),
        (at("images", 0, "height", value=float("inf")), "whole numbers"),
        (at("images", 0, "height", value=float("nan")), "whole numbers"),
        (at("images", 0, "plane", value=[-1]), "plane must be a whole number"),
        (at("images", 0, "attributes", value={"state": "done"}), "'done'"),
        (at("images", 0, "attributes", value={"split": 5}), "split must be train"),
        (at("images", 0, "attributes", value={"complete_regions": [[[1, 2]]]}), "three points"),
        (without("images", 0, "file_name"), "file name"),
        (at("images", 0, "file_name", value=" "), "file name must be text"),
        (lambda d: d["images"].append(dict(d["images"][0])), "two images have the same id"),
        (at("annotations", 1, "image_id", value=99), "annotation 2: image 99 is not in the file"),
        (without("annotations", 1, "image_id"), "annotation at place 1: it names no image"),
        (at("annotations", 1, "category_id", value=99), "annotation 2 of a.png: category 99"),
        (at("annotations", 1, "category_id", value=10**30), "is not in the file"),
        (without("annotations", 1, "category_id"), "category None"),
        (without("annotations", 1, "segmentation"), "annotation 2 of a.png: has no pixel"),
        (at("annotations", 1, "segmentation", value=[]), "annotation 2 of a.png: has no pixel"),
        (at("annotations", 2, "segmentation", value=[]), "annotation 3 of a.png: has no pixel"),
        (at("annotations", 1, "segmentation", "size", value=[6, 4]), r"\[6, 4\]"),
        (at("annotations", 1, "segmentation", "counts", value="~"), "COCO does not use"),
        (at("annotations", 1, "segmentation", "counts", value="o"), "cut off"),
        (at("annotations", 1, "bbox", value=[1, 1, -4, 2]), "negative size"),
        (at("annotations", 1, "bbox", value=[1, 1, float("nan"), 2]), "bbox must be a number"),
        (at("annotations", 1, "score", value=1.5), "score must lie in 0..1"),
        (at("annotations", 1, "score", value="high"), "high"),
        (at("annotations", 1, "attributes", value=[1]), "attributes must be an object"),
        (at("annotations", 1, "attributes", "state", value="lost"), "lost"),
        (at("annotations", 1, "attributes", "handle", value=0), "handle must be a whole number"),
        (at("annotations", 1, "attributes", "handle", value=12), "number 12 is another one's"),
        (at("annotations", 1, "attributes", "uuid", value="first"), "uuid 'first' is another"),
        (at("annotations", 1, "attributes", "predicted_box", value=[1, 2]), "predicted_box"),
        (at("categories", value=[]), "category 7 is not in the file"),
        (at("categories", 1, "id", value=7), "two categories have the id 7"),
        (at("categories", 1, "id", value="7"), "category 3 is not in the file"),
        (at("categories", 1, "name", value="cat"), "two categories are called 'cat'"),
        (without("categories", 1, "name"), "no name; called 'category 3'"),
        (at("categories", value=["cat"]), "category at place 0: it has no id"),
    ],
)
def test_a_fault_in_the_file_is_an_annotation_error_that_names_it(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    path = written(tmp_path, change)
    with pytest.raises(AnnotationError, match=message) as caught:
        read_coco(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\x89PNG\r\n", b"\xff\xfe\x00", b"[" * 100_000, b"text"]
)
def test_a_file_that_is_no_json_is_an_annotation_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(AnnotationError, match=r"JSON|UTF-8|nested") as caught:
        read_coco(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_folder_are_annotation_errors(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"gone\.json: no such file"):
        read_coco(tmp_path / "gone.json")
    with pytest.raises(AnnotationError, match="a folder, not a file"):
        read_coco(tmp_path)


def test_another_programs_file_is_read_without_our_fields(tmp_path: Path) -> None:
    def strip(document: dict[str, Any]) -> None:
        del document["info"]
        for category in document["categories"]:
            del category["color"]
        for annotation in document["annotations"]:
            del annotation["attributes"]
        document["annotations"][1]["score"] = None
        del document["annotations"][0]["iscrowd"]

    (image,) = read_coco(written(tmp_path, strip))
    assert image.instances.handles.tolist() == [1, 2]
    assert len(set(image.instances.uuids)) == 2
    # with a score it is a prediction, without one somebody drew it
    assert image.instances.states == (InstanceState.UNREVIEWED, InstanceState.ACCEPTED)
    assert np.isnan(image.instances.predicted_boxes_xyxy).all()
    assert image.instances.scores[0] == 0.1
    assert np.isnan(image.instances.scores[1])
    assert len({c.color for c in image.instances.categories.categories}) == 2
    assert image.plane == ()


def test_an_annotation_that_another_program_added_takes_no_identity_away(tmp_path: Path) -> None:
    def add(document: dict[str, Any]) -> None:
        new = {k: v for k, v in document["annotations"][0].items() if k != "attributes"}
        document["annotations"].insert(0, new | {"id": 99})

    (image,) = read_coco(written(tmp_path, add))
    assert image.instances.uuids[1:] == ("first", "second")
    assert image.instances.handles.tolist() == [4_000_000_001, 12, 4_000_000_000]
    assert image.instances.predicted_boxes_xyxy[1].tolist() == [0.1, 0.2, 3.9, 2.1]
    assert np.isnan(image.instances.predicted_boxes_xyxy[[0, 2]]).all()


def test_two_planes_of_one_image_stay_apart(tmp_path: Path) -> None:
    crowdless = replace(cat_over_dog(), crowds=InstanceSet.empty((4, 6), CATS_AND_DOGS))
    planes = [replace(crowdless, plane=(0,)), replace(cat_over_dog(), plane=(1,))]
    write_coco(planes, tmp_path / "a.json")
    first, second = read_coco(tmp_path / "a.json")
    assert (first.file_name, first.plane, len(first.crowds)) == ("a.png", (0,), 0)
    assert (second.file_name, second.plane, len(second.crowds)) == ("a.png", (1,), 1)


def test_what_a_file_says_of_itself_is_read_and_silence_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    licences = [{"name": "CC0-1.0"}, {"url": "x"}, {"name": "CC-BY-4.0"}]
    path.write_text(
        json.dumps({"info": {"description": "Nuclei"}, "licenses": licences}), encoding="utf-8"
    )
    assert read_provenance(path) == {"data": "Nuclei", "licence": "CC0-1.0, CC-BY-4.0"}
    path.write_text("{}", encoding="utf-8")
    assert read_provenance(path) == {"data": "", "licence": ""}


@pytest.mark.parametrize("content", ["", "[]", "5", '{"licenses": 5}', '{"info": [1]}'])
def test_a_file_that_says_nothing_readable_of_itself_is_an_annotation_error(
    tmp_path: Path, content: str
) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(AnnotationError, match=r"a\.json"):
        read_provenance(path)
    path.write_text(content, encoding="utf-8")
    with pytest.raises(AnnotationError, match=r"a\.json: (not a COCO file|no readable JSON)"):
        read_provenance(path)


def ignore(_problem: Problem) -> None:
    """Go on."""


def same_but_path(left: AnnotatedImage, right: AnnotatedImage) -> None:
    """Check that two images agree in all that a COCO file holds."""
    assert_same_instances(left.instances, right.instances)
    assert_same_instances(left.crowds, right.crowds)
    assert left.categories.categories == right.categories.categories
    names = ("file_name", "plane", "regions", "state", "split", "group", "image_extra", "maskless")
    for name in names:
        assert getattr(left, name) == getattr(right, name), name


def test_all_that_we_know_of_an_image_comes_back(tmp_path: Path) -> None:
    before = eleven(plane=(3,))
    write_coco([before], tmp_path / "a.json")
    (after,) = read_coco(tmp_path / "a.json")
    same_but_path(after, before)
    assert after.image_id == "a string"
    assert after.instance_extras["uuid-0"] == {"id": 17, "note": ["kept", 1, None]}
    # and a second time, file for file
    write_coco([after], tmp_path / "b.json")
    assert (tmp_path / "b.json").read_bytes() == (tmp_path / "a.json").read_bytes()


def foreign_document() -> dict[str, Any]:
    """Return what another program may write: its own ids, boxes, areas and keys."""
    square = {"size": [4, 6], "counts": [0, 2, 2, 2, 18]}
    return {
        "info": {"description": "elsewhere", "year": 2020},
        "licenses": [{"id": 1, "name": "CC0"}],
        "images": [{"id": "frame-7", "file_name": "b.png", "height": 4, "width": 6, "license": 1}],
        "annotations": [
            {
                "id": "ann-1",
                "image_id": "frame-7",
                "category_id": 0,
                "iscrowd": 0,
                "segmentation": square,
                "bbox": [0.25, 0.0, 1.5, 2.0],
                "area": 3.5,
                "keypoints": [1, 2, 2],
                "attributes": {"occluded": True},
            },
            {
                "id": "ann-2",
                "image_id": "frame-7",
                "category_id": 1,
                "iscrowd": 0,
                "segmentation": [],
                "bbox": [1, 1, 2, 2],
                "area": 4,
            },
        ],
        "categories": [
            {"id": 0, "name": "person", "supercategory": "animal"},
            {"id": 1, "name": "dog", "supercategory": "animal"},
        ],
        "videos": [{"id": 1}],
    }


def test_what_another_program_wrote_comes_out_as_it_came_in(tmp_path: Path) -> None:
    document = foreign_document()
    path = tmp_path / "foreign.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    problems: list[Problem] = []
    images = read_coco(path, on_problem=problems.append)
    assert [problem.entry for problem in problems] == ["annotation 'ann-2' of b.png"]
    write_coco(images, tmp_path / "again.json")
    again = json.loads((tmp_path / "again.json").read_text(encoding="utf-8"))
    for key in ("info", "licenses", "videos", "images"):
        assert again[key] == document[key], key
    for before, after in zip(document["categories"], again["categories"], strict=True):
        assert after | before == after
    with_mask, without_mask = again["annotations"]
    assert without_mask == document["annotations"][1]
    for key in ("id", "image_id", "category_id", "bbox", "area", "keypoints"):
        assert with_mask[key] == document["annotations"][0][key], key
    assert with_mask["attributes"]["occluded"] is True


def test_a_box_measured_elsewhere_goes_when_the_mask_changes(tmp_path: Path) -> None:
    path = tmp_path / "foreign.json"
    path.write_text(json.dumps(foreign_document()), encoding="utf-8")
    (image,) = read_coco(path, on_problem=ignore)
    (instance,) = image.instances
    moved = image.instances.with_instances([replace(instance, mask=rectangle(1, 1, 5, 3))])
    annotation = coco_document([replace(image, instances=moved)])["annotations"][0]
    assert (annotation["bbox"], annotation["area"]) == ([1, 1, 4, 2], 8)
    assert annotation["keypoints"] == [1, 2, 2]


def test_good_entries_come_in_beside_bad_ones(tmp_path: Path) -> None:
    path = written(tmp_path, at("annotations", 0, "segmentation", "counts", value="~"))
    problems: list[Problem] = []
    (image,) = read_coco(path, on_problem=problems.append)
    assert image.instances.uuids == ("second",)
    assert [(problem.path, problem.entry) for problem in problems] == [
        (path, "annotation 1 of a.png")
    ]


def test_ids_that_two_files_share_are_made_unique_when_they_are_joined() -> None:
    images = [cat_over_dog(image_id=1), cat_over_dog(file_name="b.png", image_id=1)]
    document = coco_document(images)
    assert [entry["id"] for entry in document["images"]] == [1, 2]
    assert [a["image_id"] for a in document["annotations"]] == [1, 1, 1, 2, 2, 2]
    assert [a["id"] for a in document["annotations"]] == [1, 2, 3, 4, 5, 6]


def test_a_dataset_writes_its_own_ids_and_names_whatever_they_were(tmp_path: Path) -> None:
    path = tmp_path / "foreign.json"
    path.write_text(json.dumps(foreign_document()), encoding="utf-8")
    images = read_coco(path, on_problem=ignore)
    table = images[0].categories
    ids = {category.name: category.id for category in table.categories}
    document = image_document(images, table)
    assert [c["id"] for c in document["categories"]] == [ids["person"], ids["dog"]]
    renamed = CategoryTable(
        categories=tuple(replace(c, name=f"{c.name}s") for c in table.categories)
    )
    (again,) = planes_of_document(document, path, ignore, categories=renamed)
    assert again.categories == renamed
    (exported,) = coco_document([again])["annotations"][:1]
    assert exported["category_id"] == 0


# of pycocotools 2.0.11 with numpy 2
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_pycocotools_reads_the_same_masks(tmp_path: Path) -> None:
    image = eleven()
    write_coco([image], tmp_path / "a.json")
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = COCO(tmp_path / "a.json")
    objects = theirs.loadAnns(theirs.getAnnIds(iscrowd=0))
    assert len(objects) == len(image.instances)
    for annotation, mask in zip(objects, image.instances.masks, strict=True):
        assert np.array_equal(theirs.annToMask(annotation), mask.to_mask(image.image_hw))


@given(annotated=made_images(), data=st.data())
def test_a_file_with_any_byte_changed_is_read_or_refused(
    tmp_path: Path, annotated: AnnotatedImage, data: st.DataObject
) -> None:
    content = bytearray(json.dumps(coco_document([annotated])).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "fuzzed.json"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))])
    with contextlib.suppress(AnnotationError):
        read_coco(path, on_problem=ignore)


def test_large_masks_of_few_bytes_do_not_fill_the_memory() -> None:
    side = 8192
    counts = [0, 1, side * side - 2, 1]
    mask = segmentation_to_mask({"size": [side, side], "counts": counts}, (side, side))
    assert mask is not None
    assert "pixels" not in vars(mask)
    assert mask.area == 2


def test_a_whole_number_of_hundreds_of_digits_is_no_area() -> None:
    with pytest.raises(AnnotationError, match="area must be a number, got 1000"):
        number_of(10**400, "area")
