"""GeoJSON: all pixels come back, rings are as the standard has them, hostile files are refused."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.core.strategies import assert_same_instances
from tests.dataset.formats.exchange import read_or_refuse, read_with, with_pixels, write_with
from tests.dataset.made import CELLS, annotated_images, disc, eleven

from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState
from napari_deeppixel.dataset.formats.geojson import GEOJSON
from napari_deeppixel.dataset.formats.loss import measure_loss

UUID = "0a3f5b8c-8a87-4b3b-9f0e-2d1f6a7c9e10"


def bare(instances: InstanceSet, categories: Any) -> InstanceSet:
    """Return instances with what GeoJSON holds of them."""
    names = ("masks", "category_ids", "scores", "handles", "uuids", "states", "sources")
    return InstanceSet(
        image_hw=instances.image_hw,
        categories=categories,
        **{name: getattr(instances, name) for name in names},
    )


def test_all_that_is_known_of_the_eleven_shapes_comes_back(tmp_path: Path) -> None:
    image = with_pixels(eleven(), tmp_path / "in")
    write_with(GEOJSON, [image], tmp_path / "out")
    (read,), problems = read_with(GEOJSON, tmp_path / "out")
    assert problems == []
    assert (read.file_name, read.path) == ("day 1/eleven.png", tmp_path / "out/day 1/eleven.png")
    assert_same_instances(read.instances, bare(image.instances, read.categories))
    assert read.categories.categories == CELLS.categories
    for name in ("state", "split", "group", "regions", "image_extra", "instance_extras"):
        assert getattr(read, name) == getattr(image, name), name


def test_only_crowds_are_lost() -> None:
    report = measure_loss([eleven()], GEOJSON)
    assert (report.instances_changed, report.lost) == (0, {"crowd regions": 1})


@settings(deadline=None, max_examples=60)
@given(image=annotated_images())
def test_any_image_comes_back_exactly(image: AnnotatedImage, tmp_path_factory) -> None:
    path = tmp_path_factory.mktemp("geojson") / "made.geojson"
    write_with(GEOJSON, [image], path)
    (read,), problems = read_with(GEOJSON, path)
    assert problems == []
    assert_same_instances(read.instances, bare(image.instances, read.categories))
    assert (read.state, read.split) == (image.state, image.split)


def features_of(image: AnnotatedImage, path: Path) -> list[dict[str, Any]]:
    write_with(GEOJSON, [image], path)
    return json.loads(path.read_text())["features"]


@settings(deadline=None, max_examples=40)
@given(image=annotated_images())
def test_rings_are_valid_closed_and_turn_as_the_standard_wants(image, tmp_path_factory) -> None:
    path = tmp_path_factory.mktemp("geojson") / "made.geojson"
    for feature, mask in zip(features_of(image, path), image.instances.masks, strict=True):
        shape = shapely.from_geojson(json.dumps(feature["geometry"]))
        assert shape.is_valid
        assert shape.area == mask.area
        assert shape.bounds == mask.box_xyxy
        for polygon in getattr(shape, "geoms", [shape]):
            assert polygon.exterior.is_ccw
            assert polygon.exterior.is_closed
            assert not any(hole.is_ccw for hole in polygon.interiors)
        # the convention read with another rule: a pixel is in if its centre is
        y, x = np.mgrid[: image.image_hw[0], : image.image_hw[1]] + 0.5
        assert np.array_equal(shapely.contains_xy(shape, x, y), mask.to_mask(image.image_hw))


def test_features_are_what_qupath_documents(tmp_path: Path) -> None:
    instances = InstanceSet(
        image_hw=(90, 120),
        masks=(disc(20, 20, 0), disc(40, 20, 0)),
        categories=CELLS,
        category_ids=np.array([4, 2]),
        scores=np.array([0.25, np.nan]),
        uuids=(UUID, "mine"),
        states=(InstanceState.UNREVIEWED, InstanceState.DRAWN),
    )
    one, other = features_of(AnnotatedImage.of("a.png", instances), tmp_path / "a.geojson")
    assert one["type"] == "Feature"
    assert one["id"] == UUID
    assert one["geometry"] == {
        "type": "Polygon",
        "coordinates": [[[20, 20], [21, 20], [21, 21], [20, 21], [20, 20]]],
    }
    properties = one["properties"]
    assert properties["objectType"] == "detection"
    assert properties["classification"] == {"name": "nucleus", "color": [0x56, 0xB4, 0xE9]}
    assert properties["measurements"] == {"score": 0.25}
    assert "id" not in other
    assert other["properties"]["objectType"] == "annotation"
    assert "measurements" not in other["properties"]


QUPATH = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "id": UUID,
            "geometry": {
                "type": "Polygon",
                "coordinates": [[[1, 1], [5, 1], [5, 4], [1, 4], [1, 1]]],
            },
            "properties": {
                "objectType": "annotation",
                "name": "first",
                "classification": {"name": "Tumor", "color": [200, 0, 0]},
                "isLocked": False,
            },
        },
        {
            "type": "Feature",
            "geometry": {
                "type": "MultiPolygon",
                "coordinates": [
                    [[[0, 0], [1, 0], [1, 1], [0, 0.99]]],
                    [[[6, 6], [8, 6], [8, 7.5], [6, 7.5], [6, 6]]],
                ],
            },
            "properties": {
                "object_type": "detection",
                "classification": {"name": "Stroma", "colorRGB": -15720400},
                "measurements": [{"name": "Area", "value": 2.5}],
            },
        },
        {
            "type": "Feature",
            "geometry": {
                "type": "Polygon",
                "coordinates": [[[2, 2], [6, 2], [6, 6], [2, 6], [2, 2]]],
                "isEllipse": True,
            },
            "properties": {"classification": {"names": ["Tumor", "Positive"]}},
            "nucleusGeometry": {"type": "Point", "coordinates": [1, 1]},
        },
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [[[0, 8], [9, 8], [9, 9], [0, 9]]]},
            "properties": None,
        },
    ],
}


def saved(folder: Path, document: Any, *, hw: tuple[int, int] | None = (9, 10)) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "x.geojson"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    if hw:
        Image.fromarray(np.zeros(hw, np.uint8)).save(folder / "x.png")
    return path


def test_what_qupath_writes_is_read(tmp_path: Path) -> None:
    for place in (saved(tmp_path, QUPATH), tmp_path):
        (read,), problems = read_with(GEOJSON, place)
        assert problems == []
        instances = read.instances
        names = [read.categories.name_of(each) for each in instances.category_ids]
        assert names == ["Tumor", "Stroma", "Tumor: Positive", "object"]
        colors = [category.color for category in read.categories.categories[:2]]
        assert colors == ["#c80000", "#102030"]
        # 4 x 3; one pixel and 2 x 2 whose centres lie in 1.5 rows; a circle of 4; 9 x 1
        assert instances.areas.tolist() == [12, 1 + 2, 12, 9]
        assert instances.boxes_xyxy[1].tolist() == [0, 0, 8, 7]
        assert instances.uuids[0] == UUID
        assert set(instances.states) == {InstanceState.ACCEPTED}
        assert read.state is ImageState.DRAFT
        assert read.instance_extras[UUID] == {"name": "first", "isLocked": False}
        assert read.instance_extras[instances.uuids[1]] == {
            "measurements": [{"name": "Area", "value": 2.5}]
        }
        assert "nucleusGeometry" in read.instance_extras[instances.uuids[2]]


@pytest.mark.parametrize(
    "document",
    [QUPATH["features"], QUPATH["features"][0], QUPATH["features"][0]["geometry"]],  # type: ignore[index]
)
def test_lists_single_features_and_bare_geometries_are_read(tmp_path: Path, document: Any) -> None:
    (read,), _ = read_with(GEOJSON, saved(tmp_path, document))
    assert read.instances.boxes_xyxy[0].tolist() == [1, 1, 5, 4]


def test_planes_of_a_stack_are_qupaths_z_and_t(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "s.tif", np.zeros((2, 3, 90, 120), np.uint8), imagej=True,
        metadata={"axes": "TZYX"},
    )  # fmt: skip
    instances = InstanceSet(image_hw=(90, 120), masks=(disc(20, 20, 3),), categories=CELLS)
    image = AnnotatedImage.of("s.tif", instances, plane=(1, 2), path=tmp_path / "s.tif")
    write_with(GEOJSON, [image], tmp_path / "out")
    path = tmp_path / "out/s.geojson"
    document = json.loads(path.read_text())
    assert document["features"][0]["geometry"]["plane"] == {"c": -1, "z": 2, "t": 1}
    # and without our own word for it, as it comes back from QuPath
    del document["napari-deeppixel"]
    del document["features"][0]["properties"]["napari-deeppixel"]
    path.write_text(json.dumps(document))
    (read,), problems = read_with(GEOJSON, tmp_path / "out")
    assert (problems, read.plane) == ([], (1, 2))
    document["features"][0]["geometry"]["plane"]["z"] = 3
    path.write_text(json.dumps(document))
    read_again, (problem,) = read_with(GEOJSON, tmp_path / "out")
    assert "is in plane {'t': 1, 'z': 3}, but the image has (2, 3)" in problem.message
    assert sum(len(image.instances) for image in read_again) == 0


def test_without_an_image_its_size_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="the size of its image is not known"):
        read_with(GEOJSON, saved(tmp_path, QUPATH, hw=None))
    read, (problem,) = read_with(GEOJSON, tmp_path)
    assert (read, problem.path) == ([], tmp_path / "x.geojson")


def test_a_file_without_objects_is_an_image_without_objects(tmp_path: Path) -> None:
    path = saved(tmp_path, {"type": "FeatureCollection", "features": []})
    (read,), problems = read_with(GEOJSON, path)
    assert (problems, len(read.instances), read.image_hw) == ([], 0, (9, 10))


def polygon(*points: Any, **others: Any) -> dict[str, Any]:
    geometry = {"type": "Polygon", "coordinates": [list(points)]}
    return {"type": "Feature", "geometry": geometry, "properties": {}, **others}


def test_a_bow_tie_is_made_valid_and_it_is_said(tmp_path: Path) -> None:
    path = saved(tmp_path, polygon([0, 0], [8, 8], [8, 0], [0, 8], [0, 0]))
    (read,), (problem,) = read_with(GEOJSON, path)
    assert "Self-intersection" in problem.message
    assert problem.entry == "feature 0"
    mask = read.instances.masks[0].to_mask((9, 10))
    # the lobes lie left and right of the crossing
    assert mask[4, 0]
    assert mask[4, 7]
    assert not mask[0, 4]


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        (polygon([0, 0], [9, 9]), "three points or more"),
        (polygon([0, 0], [4, 4], [8, 8], [0, 0]), "has no area"),
        (polygon([0, 0], [1e300, 0], [1, 1]), "coordinates must be finite"),
        (polygon([0, 0], [None, 0], [1, 1]), "coordinates must be finite"),
        (polygon([0, 0], ["a", 0], [1, 1]), "must be numbers"),
        (polygon([0, 0], [[1], 0], [1, 1]), "must be numbers"),
        (polygon([0, 0], 5, [1, 1]), r"a point must be \[x, y\]"),
        (polygon([50, 50], [60, 50], [60, 60], [50, 50]), "no pixel of the image of 9 x 10"),
        (polygon([-5, 0], [5, 0], [5, 5], [-5, 5], [-5, 0]), "reaches out of the image"),
        ({"geometry": {"type": "Point", "coordinates": [1, 1]}}, "a Point has no pixels"),
        ({"geometry": {"type": "LineString", "coordinates": []}}, "a LineString has no pixels"),
        ({"geometry": {"type": "Blob", "coordinates": []}}, "GeoJSON has no geometry 'Blob'"),
        ({"geometry": {"type": "Polygon"}}, "without its coordinates"),
        ({"geometry": {"type": "Polygon", "coordinates": []}}, "must be a list of rings"),
        ({"geometry": {"type": "Polygon", "coordinates": [7]}}, "a ring must be"),
        ({"geometry": {"type": ["Polygon"], "coordinates": [7]}}, "no geometry"),
        ({"geometry": None}, "a geometry must be an object"),
        ({}, "a geometry must be an object"),
        (7, "a feature must be an object"),
    ],
)
def test_wrong_features_are_told_of_and_the_good_ones_come_in(
    tmp_path: Path, feature: Any, message: str
) -> None:
    good = polygon([1, 1], [3, 1], [3, 3], [1, 3], [1, 1])
    document = {"type": "FeatureCollection", "features": [feature, good]}
    (read,), problems = read_with(GEOJSON, saved(tmp_path, document))
    assert read.instances.boxes_xyxy[-1].tolist() == [1, 1, 3, 3]
    assert {problem.entry for problem in problems} == {"feature 0"}
    assert any(re.search(message, problem.message) for problem in problems)


@pytest.mark.parametrize(
    "ours",
    [
        {"handle": "7"},
        {"handle": 2**40},
        {"uuid": 5},
        {"score": 7},
        {"state": "??"},
        {"source": []},
        {"extra": 7},
    ],
)
def test_wrong_values_of_ours_are_told_of(tmp_path: Path, ours: dict[str, Any]) -> None:
    good = polygon([1, 1], [3, 1], [3, 3], [1, 3], [1, 1])
    good["properties"] = {"napari-deeppixel": ours}
    (read,), problems = read_with(GEOJSON, saved(tmp_path, good))
    assert len(read.instances) == 1
    assert len(problems) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no readable JSON"),
        ("{", "no readable JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("7", "no GeoJSON"),
        ("{}", "type must be FeatureCollection"),
        ('{"type": "Topology"}', "type must be FeatureCollection"),
        ('{"type": "FeatureCollection", "features": 7}', "no list of features"),
        ('{"type": ["Feature"]}', "type must be"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        read_with(GEOJSON, saved(tmp_path, text))


def test_a_size_that_no_image_has_is_refused(tmp_path: Path) -> None:
    document = {"type": "FeatureCollection", "features": []}
    for height in (10**9, -1, "7", None, 1.5):
        ours = {"height": height, "width": 10**9}
        path = saved(tmp_path, document | {"napari-deeppixel": ours}, hw=None)
        with pytest.raises(AnnotationError, match="the size must be"):
            read_with(GEOJSON, path)


def test_one_file_holds_one_image(tmp_path: Path) -> None:
    images = [eleven(), eleven(file_name="b.png")]
    with pytest.raises(AnnotationError, match="holds the annotations of one image"):
        write_with(GEOJSON, images, tmp_path / "all.geojson")


@settings(deadline=None, max_examples=100)
@given(
    changes=st.lists(st.tuples(st.integers(0, 99_999), st.integers(0, 255)), max_size=5),
    length=st.integers(0, 9_999) | st.none(),
)
def test_damaged_files_never_bring_another_error(changes, length, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    write_with(GEOJSON, [eleven(file_name="x.png")], folder / "x.geojson")
    data = bytearray((folder / "x.geojson").read_bytes())
    for at, value in changes:
        data[at % len(data)] = value
    (folder / "x.geojson").write_bytes(bytes(data[:length]))
    read_or_refuse(GEOJSON, folder)
    GEOJSON.looks_like(folder / "x.geojson")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(
            ["type", "features", "geometry", "coordinates", "properties", "classification", "name",
             "color", "plane", "z", "napari-deeppixel", "planes", "categories", "uuid"]
        ),
        inner | st.sampled_from(["Feature", "FeatureCollection", "Polygon", "MultiPolygon"]),
        max_size=5,
    ),
    max_leaves=25,
)  # fmt: skip


@settings(deadline=None, max_examples=100)
@given(value=json_values, ours=json_values)
def test_any_json_never_brings_another_error(value, ours, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    good = polygon([1, 1], [3, 1], [3, 3], [1, 3], [1, 1])
    document = {
        "type": "FeatureCollection",
        "features": [value, {**good, "properties": value}, {**good, "geometry": value}],
        "napari-deeppixel": ours,
    }
    read_or_refuse(GEOJSON, saved(folder, document))


def test_geojson_looks_like_geojson(tmp_path: Path) -> None:
    assert GEOJSON.looks_like(saved(tmp_path, QUPATH))
    assert GEOJSON.looks_like(tmp_path)
    (tmp_path / "coco.json").write_text('{"images": [], "annotations": []}')
    assert not GEOJSON.looks_like(tmp_path / "coco.json")
    assert not GEOJSON.looks_like(tmp_path / "missing.geojson")
