"""OME-Zarr labels: all of an instance survives, others read it, hostile stores are refused."""

import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.strategies import assert_same_instances
from tests.dataset.formats.exchange import (
    by_handle,
    label_array,
    read_or_refuse,
    read_with,
    with_pixels,
    write_with,
)
from tests.dataset.made import CELLS, annotated_images, disc, eleven, pixels_for

from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState, Split
from napari_deeppixel.dataset.formats.loss import measure_loss
from napari_deeppixel.dataset.formats.ome_zarr import OME_ZARR

zarr = pytest.importorskip("zarr", reason="the extra ome-zarr is not installed")


def stack_plane(plane: tuple[int, ...], *handles: int, path: Path | None = None) -> AnnotatedImage:
    masks = tuple(disc(20, 20 + 30 * number, 5) for number in range(len(handles)))
    instances = InstanceSet(
        image_hw=(90, 120), masks=masks, categories=CELLS, handles=np.array(handles, np.int64)
    )
    return AnnotatedImage.of("s.tif", instances, plane=plane, path=path)


def test_all_that_is_known_of_the_eleven_shapes_comes_back(tmp_path: Path) -> None:
    image = with_pixels(eleven(), tmp_path / "in")
    write_with(OME_ZARR, [image], tmp_path / "out")
    (read,), problems = read_with(OME_ZARR, tmp_path / "out", tmp_path / "in")
    assert problems == []
    assert (read.file_name, read.path) == ("day 1/eleven.png", image.path)
    order = np.argsort(image.instances.handles)
    expected = image.instances.select(order)
    assert read.categories.categories == CELLS.categories
    for name in ("uuids", "states", "sources"):
        assert getattr(read.instances, name) == getattr(expected, name)
    assert np.array_equal(read.instances.scores, expected.scores, equal_nan=True)
    assert read.instances.category_ids.tolist() == expected.category_ids.tolist()
    assert read.instances.handles.tolist() == expected.handles.tolist()
    assert all(a.equals(b) for a, b in zip(expected.masks, read.instances.masks, strict=True))
    assert (read.state, read.split, read.group) == (ImageState.DRAFT, Split.VAL, "slide 7")


def test_the_loss_report_names_the_rest() -> None:
    report = measure_loss([eleven()], OME_ZARR)
    assert (report.instances_changed, report.renumbered) == (0, 0)
    assert set(report.lost) == {"crowd regions", "complete regions", "fields of other programs"}


@settings(deadline=None, max_examples=25)
@given(image=annotated_images())
def test_any_image_comes_back_exactly(image: AnnotatedImage, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("zarr")
    write_with(OME_ZARR, [image], folder)
    (read,), problems = read_with(OME_ZARR, folder)
    assert problems == []
    order = np.argsort(image.instances.handles)
    plain = image.instances.select(order)
    # what the network said of it is not in the file
    expected = InstanceSet(
        image_hw=plain.image_hw,
        masks=plain.masks,
        categories=read.categories,
        **{
            name: getattr(plain, name)
            for name in ("category_ids", "scores", "handles", "uuids", "states", "sources")
        },
    )
    assert_same_instances(read.instances, expected)
    assert (read.state, read.split) == (image.state, image.split)


def test_the_reference_library_and_its_models_accept_what_is_written(tmp_path: Path) -> None:
    models = pytest.importorskip("ome_zarr_models.v05", reason="ome-zarr-models is missing")
    image = with_pixels(eleven(), tmp_path / "in")
    write_with(OME_ZARR, [image], tmp_path / "a.ome.zarr")
    group = zarr.open_group(str(tmp_path / "a.ome.zarr"), mode="r")
    found = models.Image.from_zarr(group)
    assert [axis.name for axis in found.attributes.ome.multiscales[0].axes] == ["y", "x"]
    assert found.labels is not None
    labels = models.Labels.from_zarr(group["labels"])
    assert labels.attributes.ome.labels == ["instances", "instances_layer_1"]
    for name in labels.attributes.ome.labels:
        about = models.ImageLabel.from_zarr(group[f"labels/{name}"]).attributes.ome.image_label
        assert about is not None
    top = models.ImageLabel.from_zarr(group["labels/instances"]).attributes.ome.image_label
    assert top is not None
    assert top.colors is not None
    # the first of the eleven is a nucleus, #56b4e9
    assert (top.colors[0].label_value, top.colors[0].rgba) == (3, (0x56, 0xB4, 0xE9, 255))


def test_the_reference_reader_shows_image_and_labels(tmp_path: Path) -> None:
    reader = pytest.importorskip("ome_zarr.reader", reason="ome-zarr is missing")
    from ome_zarr.io import parse_url

    image = with_pixels(eleven(), tmp_path / "in")
    write_with(OME_ZARR, [image], tmp_path / "a.ome.zarr")
    nodes = list(reader.Reader(parse_url(tmp_path / "a.ome.zarr"))())
    arrays = [np.asarray(node.data[0]) for node in nodes if node.data]
    assert any(np.array_equal(array, pixels_for(image)) for array in arrays)
    assert any(np.array_equal(array, image.instances.label_image()) for array in arrays)


def test_large_images_have_a_pyramid_of_nearest_numbers(tmp_path: Path) -> None:
    instances = InstanceSet(
        image_hw=(1101, 600),
        masks=(disc(500, 300, 200, (1101, 600)),),
        categories=CELLS,
        handles=np.array([70_000]),
    )
    image = with_pixels(AnnotatedImage.of("big.png", instances), tmp_path / "in")
    write_with(OME_ZARR, [image], tmp_path / "big.zarr")
    group = zarr.open_group(str(tmp_path / "big.zarr"), mode="r")
    levels = [group[f"labels/instances/{level}"] for level in range(3)]
    assert [level.shape for level in levels] == [(1101, 600), (551, 300), (276, 150)]
    assert np.unique(levels[2][:]).tolist() == [0, 70_000]
    assert np.array_equal(levels[1][:], levels[0][:][::2, ::2])
    datasets = group["labels/instances"].attrs["ome"]["multiscales"][0]["datasets"]
    assert datasets[2]["coordinateTransformations"] == [{"type": "scale", "scale": [4.0, 4.0]}]
    assert [group[str(level)].shape for level in range(3)] == [level.shape for level in levels]
    pixels = pixels_for(image)
    corner = round(float(pixels[:2, :2].mean()))
    assert abs(int(group["1"][0, 0]) - corner) <= 1
    shift = group.attrs["ome"]["multiscales"][0]["datasets"][1]["coordinateTransformations"][1]
    assert shift == {"type": "translation", "translation": [0.5, 0.5]}


def test_colour_images_become_channels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    tifffile.imwrite(tmp_path / "s.tif", pixels, photometric="rgb")
    write_with(OME_ZARR, [stack_plane((), 1, path=tmp_path / "s.tif")], tmp_path / "s.zarr")
    group = zarr.open_group(str(tmp_path / "s.zarr"), mode="r")
    assert [axis["name"] for axis in group.attrs["ome"]["multiscales"][0]["axes"]] == [*"cyx"]
    assert np.array_equal(group["0"][:], pixels.transpose(2, 0, 1))


def test_planes_keep_their_numbers_and_what_is_said_of_them(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 60_000, (3, 2, 90, 120)).astype(np.uint16)
    # z before t: not the order of OME-NGFF
    tifffile.imwrite(tmp_path / "s.tif", pixels, metadata={"axes": "ZTYX"})
    planes = [
        stack_plane((0, 1), 5, 6, path=tmp_path / "s.tif"),
        stack_plane((2, 0), 5, path=tmp_path / "s.tif"),
        stack_plane((2, 1), path=tmp_path / "s.tif"),
    ]
    write_with(OME_ZARR, planes, tmp_path / "out")
    group = zarr.open_group(str(tmp_path / "out/s.ome.zarr"), mode="r")
    assert group["0"].shape == (2, 3, 90, 120)
    assert np.array_equal(group["0"][1, 2], pixels[2, 1])
    read, problems = read_with(OME_ZARR, tmp_path / "out")
    assert problems == []
    # planes that nobody annotated do not come back as planes without an object
    assert [image.plane for image in read] == [(0, 1), (2, 0), (2, 1)]
    by_plane = {image.plane: image for image in read}
    for plane in planes:
        found = by_plane[plane.plane].instances
        assert found.uuids == plane.instances.uuids
        assert found.handles.tolist() == plane.instances.handles.tolist()


def test_what_this_program_did_not_write_is_not_written_over(tmp_path: Path) -> None:
    image = eleven()
    for _ in range(2):
        write_with(OME_ZARR, [image], tmp_path / "a.zarr")
    zarr.create_array(str(tmp_path / "raw.zarr"), shape=(4,), dtype="u1")
    with pytest.raises(AnnotationError, match=r"raw\.zarr: exists and was not written by"):
        write_with(OME_ZARR, [image], tmp_path / "raw.zarr")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "raw.zarr"]


def test_a_failed_write_leaves_the_older_one(tmp_path: Path, monkeypatch) -> None:
    write_with(OME_ZARR, [stack_plane((), 1)], tmp_path / "a.zarr")
    monkeypatch.setattr(InstanceSet, "label_image", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_with(OME_ZARR, [stack_plane((), 2)], tmp_path / "a.zarr")
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]
    (read,), _ = read_with(OME_ZARR, tmp_path / "a.zarr")
    assert read.instances.handles.tolist() == [1]


def test_without_zarr_the_way_to_it_is_said(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(AnnotationError, match=r'pip install "napari-deeppixel\[ome-zarr\]"'):
        write_with(OME_ZARR, [eleven()], tmp_path / "a.zarr")


def made_v04(path: Path, numbers: np.ndarray, axes: str, **image_label: Any) -> Path:
    """Write what other programs do: NGFF 0.4, Zarr 2, by the convention as documented."""
    group = zarr.open_group(str(path / "labels/cells"), mode="w", zarr_format=2)
    group.create_array("0", shape=numbers.shape, dtype=numbers.dtype)[...] = numbers
    group.attrs["multiscales"] = [
        {"version": "0.4", "axes": [{"name": a} for a in axes], "datasets": [{"path": "0"}]}
    ]
    group.attrs["image-label"] = {"version": "0.4", **image_label}
    (path / "labels/.zattrs").write_text(json.dumps({"labels": ["cells"]}))
    for folder in (path, path / "labels"):
        (folder / ".zgroup").write_text('{"zarr_format": 2}')
    return path


def test_labels_of_other_programs_are_read(tmp_path: Path) -> None:
    numbers = np.zeros((2, 1, 4, 6), np.int32)
    numbers[1, 0, 0, :3] = 1
    numbers[1, 0, 3, 4] = 9
    path = made_v04(
        tmp_path / "x.zarr",
        numbers,
        "tcyx",
        properties=[{"label-value": 9, "class": "cell", "area (µm²)": 2.5}],
    )
    for place in (path, path / "labels", path / "labels/cells", tmp_path):
        assert OME_ZARR.looks_like(place) or place == path / "labels/cells"
        read, problems = read_with(OME_ZARR, place)
        assert problems == []
        assert [image.plane for image in read] == [(0,), (1,)]
        instances = read[1].instances
        assert instances.handles.tolist() == [1, 9]
        assert instances.boxes_xyxy.tolist() == [[0, 0, 3, 1], [4, 3, 5, 4]]
        assert set(instances.states) == {InstanceState.ACCEPTED}
        names = [instances.categories.name_of(each) for each in instances.category_ids]
        assert names == ["object", "cell"]
        assert read[1].instance_extras == {instances.uuids[1]: {"area (µm²)": 2.5}}


def edited(path: Path, file: str, edit) -> Path:
    made_v04(path, label_array("0120/0020"), "yx")
    place = path / "labels/cells" / file
    about = json.loads(place.read_text())
    edit(about)
    place.write_text(json.dumps(about))
    return path


@pytest.mark.parametrize(
    ("file", "edit", "message"),
    [
        ("0/.zarray", {"shape": [10**6, 10**6]}, "the size must be"),
        ("0/.zarray", {"shape": [60_000, 60_000], "dtype": "<i8"}, "a plane of 28,800,000,000"),
        ("0/.zarray", {"chunks": [60_000, 90_000]}, "a chunk of 5,400,000,000 bytes"),
        ("0/.zarray", {"shape": [-2, 4]}, "sizes must be"),
        ("0/.zarray", {"shape": "44"}, "sizes must be"),
        ("0/.zarray", {"shape": [2, 4, 4]}, "must have the same length"),
        ("0/.zarray", {"dtype": "|O"}, "hold integers, this one 'object'"),
        ("0/.zarray", {"dtype": "<f4"}, "hold integers, this one 'float32'"),
        ("0/.zarray", {"filters": [{"id": "pickle"}]}, "coded as pickle, which is not read"),
        ("0/.zarray", {"compressor": {"id": "evil"}}, "coded as evil"),
        (".zattrs", {"multiscales": []}, "no multiscales"),
        (".zattrs", {"multiscales": [{"axes": [{"name": "x"}, {"name": "y"}]}]}, "no multiscales"),
        (
            ".zattrs",
            {"multiscales": [{"axes": ["x", "y"], "datasets": [{"path": "0"}]}]},
            "axes must be",
        ),
        (
            ".zattrs",
            {"multiscales": [{"axes": ["y", "x"], "datasets": [{"path": "../../../x"}]}]},
            "leads out of the folder",
        ),
    ],
)
def test_hostile_metadata_is_told_of(tmp_path: Path, file: str, edit: dict, message: str) -> None:
    path = edited(tmp_path / "x.zarr", file, lambda about: about.update(edit))
    read, (problem,) = read_with(OME_ZARR, path)
    assert read == []
    assert message in problem.message


def test_a_stack_of_endless_planes_is_refused(tmp_path: Path) -> None:
    path = made_v04(tmp_path / "x.zarr", np.zeros((1, 2, 4), np.uint8), "zyx")
    place = path / "labels/cells/0/.zarray"
    place.write_text(json.dumps(json.loads(place.read_text()) | {"shape": [10**9, 2, 4]}))
    read, (problem,) = read_with(OME_ZARR, path)
    assert (read, "1,000,000,000 planes" in problem.message) == ([], True)


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_pickled_chunks_are_never_opened(tmp_path: Path) -> None:
    path = edited(
        tmp_path / "x.zarr",
        "0/.zarray",
        lambda about: about.update({"filters": [{"id": "pickle"}], "compressor": None}),
    )
    for chunk in (path / "labels/cells/0").glob("[0-9]*"):
        chunk.write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    assert read_with(OME_ZARR, path)[0] == []
    assert not (tmp_path / "sprung").exists()


def test_links_out_of_the_image_are_not_followed(tmp_path: Path) -> None:
    made_v04(tmp_path / "secret.zarr", label_array("01"), "yx")
    path = made_v04(tmp_path / "in/x.zarr", label_array("01"), "yx")
    (path / "labels/other").symlink_to(tmp_path / "secret.zarr/labels/cells")
    (path / "labels/.zattrs").write_text(
        json.dumps({"labels": ["other", "../../../a", 7, "cells"]})
    )
    (read,), problems = read_with(OME_ZARR, path)
    assert len(read.instances) == 1
    assert len(problems) == 3


@pytest.mark.parametrize(
    "properties",
    [
        "text",
        [1, None, {}],
        [{"label-value": True}],
        [{"label-value": 1, "score": 7, "state": "??", "uuid": [], "source": 4, "category": 5}],
        [{"label-value": n, "uuid": "same"} for n in (1, 2)],
    ],
)
def test_wrong_properties_are_told_of_and_the_masks_come_in(tmp_path: Path, properties) -> None:
    path = made_v04(tmp_path / "x.zarr", label_array("0120"), "yx", properties=properties)
    (read,), problems = read_with(OME_ZARR, path)
    assert by_handle(read).keys() == {1, 2}
    assert problems


def test_folders_without_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="neither an OME-Zarr image nor a folder"):
        read_with(OME_ZARR, tmp_path)
    zarr.open_group(str(tmp_path / "x.zarr"), mode="w")
    with pytest.raises(AnnotationError, match=r"x\.zarr: has no label images"):
        read_with(OME_ZARR, tmp_path / "x.zarr")
    with pytest.raises(AnnotationError, match="no such folder"):
        read_with(OME_ZARR, tmp_path / "missing.zarr")
    assert not OME_ZARR.looks_like(tmp_path / "missing.zarr")


@settings(deadline=None, max_examples=60)
@given(
    which=st.integers(0, 30),
    changes=st.lists(st.tuples(st.integers(0, 9999), st.integers(0, 255)), max_size=4),
    length=st.integers(0, 9999) | st.none(),
)
def test_damaged_stores_never_bring_another_error(which, changes, length, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    if which % 2:
        made_v04(folder / "x.zarr", label_array("0120/0020"), "yx")
    else:
        write_with(OME_ZARR, [stack_plane((1,), 5)], folder / "x.zarr")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = files[which % len(files)]
    data = bytearray(path.read_bytes())
    for at, value in changes:
        data[at % len(data)] = value
    path.write_bytes(bytes(data[:length]))
    read_or_refuse(OME_ZARR, folder)
    OME_ZARR.looks_like(folder)


def test_a_labels_folder_that_is_a_link_out_is_not_followed(tmp_path: Path) -> None:
    made_v04(tmp_path / "secret.zarr", label_array("01"), "yx")
    path = tmp_path / "in/x.zarr"
    path.mkdir(parents=True)
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    (path / "labels").symlink_to(tmp_path / "secret.zarr/labels", target_is_directory=True)
    read, (problem,) = read_with(OME_ZARR, path)
    assert read == []
    assert "a link out of the image" in problem.message
