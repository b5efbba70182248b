"""Layers to files and back, with napari's own reader and writer protocols."""

from pathlib import Path

import numpy as np
import tifffile
from napari.components import ViewerModel

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.dataset.formats.coco import read_coco
from napari_deeppixel.edits.session import AnnotationSession
from napari_deeppixel.viewer import sample_data
from napari_deeppixel.viewer.layers import InstanceLayers
from napari_deeppixel.viewer.reader import get_reader
from napari_deeppixel.viewer.writer import write_label_layer, write_layer

TABLE = CategoryTable.from_names("nucleus")


def overlapping_view(viewer: ViewerModel) -> InstanceLayers:
    image = viewer.add_image(np.zeros((2, 10, 12)), name="cells")
    session = AnnotationSession((10, 12), TABLE)
    masks = tuple(CroppedMask(pixels=np.ones((4, 4), np.bool_), y=i, x=2 * i) for i in range(2))
    instances = InstanceSet(
        image_hw=(10, 12), masks=masks, categories=TABLE, scores=np.array([0.9, 0.6])
    )
    session.add_predictions((1,), instances)
    view = InstanceLayers(viewer, image, session)
    for _ in view.redraw():
        pass
    return view


def test_saved_coco_keeps_the_overlap_and_the_plane(tmp_path: Path) -> None:
    viewer = ViewerModel()
    view = overlapping_view(viewer)
    data, meta, _ = viewer.layers["cells instances"].as_layer_data_tuple()
    path = str(tmp_path / "cells.json")
    assert write_layer(path, data, meta) == [path]
    first, second = read_coco(path)
    assert (first.plane, second.plane) == ((0,), (1,))
    assert len(first.instances) == 0
    assert second.instances.areas.tolist() == [16, 16]
    assert second.instances.uuids == view.session.visible((1,)).uuids


def test_coco_file_opens_as_labels_and_boxes(tmp_path: Path) -> None:
    viewer = ViewerModel()
    overlapping_view(viewer)
    data, meta, _ = viewer.layers["cells instances"].as_layer_data_tuple()
    path = str(tmp_path / "cells.json")
    write_layer(path, data, meta)
    read = get_reader(path)
    assert read is not None
    (labels, settings, kind), (corners, _, boxes_kind) = read(path)
    assert (kind, boxes_kind) == ("labels", "shapes")
    assert np.array_equal(labels[1], viewer.layers["cells instances"].data[1])
    assert settings["features"]["score"].tolist()[1:] == [0.9, 0.6]
    assert corners[1].tolist() == [[1, 0.5, 1.5], [1, 0.5, 5.5], [1, 4.5, 5.5], [1, 4.5, 1.5]]


def test_saved_label_tiff_opens_as_the_same_labels(tmp_path: Path) -> None:
    viewer = ViewerModel()
    overlapping_view(viewer)
    data, meta, _ = viewer.layers["cells instances"].as_layer_data_tuple()
    path = str(tmp_path / "cells_labels.tif")
    write_label_layer(path, data, meta)
    read = get_reader(path)
    assert read is not None
    ((labels, _, kind),) = read(path)
    assert kind == "labels"
    assert np.array_equal(labels, data)


def test_labels_layer_of_somebody_else_is_written_as_objects(tmp_path: Path) -> None:
    viewer = ViewerModel()
    layer = viewer.add_labels(np.array([[0, 3], [5, 5]]), name="mine")
    data, meta, _ = layer.as_layer_data_tuple()
    path = str(tmp_path / "mine.json")
    write_layer(path, data, meta)
    (image,) = read_coco(path)
    assert image.instances.handles.tolist() == [3, 5]
    assert image.instances.areas.tolist() == [1, 2]


def test_other_json_files_are_left_to_others(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text('{"a": 1}')
    assert get_reader(str(path)) is None
    path.write_text("no json")
    assert get_reader(str(path)) is None


def test_samples_are_real_images() -> None:
    for name in ("fluorescence", "tissue", "histology", "brightfield", "stack", "coffee"):
        ((pixels, settings, kind),) = getattr(sample_data, name)()
        assert kind == "image"
        assert settings["name"] == name
        assert min(pixels.shape[:2] if name != "stack" else pixels.shape[1:]) >= 128
        assert pixels.std() > 1


def test_duplicated_layer_is_saved_as_it_is(tmp_path: Path) -> None:
    viewer = ViewerModel()
    overlapping_view(viewer)
    data, meta, _ = viewer.layers["cells instances"].as_layer_data_tuple()
    copy = np.zeros_like(data)
    copy[0, 5, 5] = 1
    path = str(tmp_path / "copy.json")
    write_layer(path, copy, meta)
    first, second = read_coco(path)
    assert first.instances.areas.tolist() == [1]
    assert len(second.instances) == 0


def test_opened_file_saved_again_keeps_categories_and_scores(tmp_path: Path) -> None:
    viewer = ViewerModel()
    overlapping_view(viewer)
    data, meta, _ = viewer.layers["cells instances"].as_layer_data_tuple()
    first, again = str(tmp_path / "first.json"), str(tmp_path / "again.json")
    write_layer(first, data, meta)
    read = get_reader(first)
    assert read is not None
    (labels, settings, _), _ = read(first)
    write_layer(again, labels, settings)
    saved = read_coco(again)[1].instances
    assert saved.categories.categories[0].name == "nucleus"
    assert saved.scores.tolist() == [0.9, 0.6]


def test_image_with_channels_opens_as_a_layer_each(tmp_path: Path) -> None:
    viewer = ViewerModel()
    overlapping_view(viewer)
    data, meta, _ = viewer.layers["cells instances"].as_layer_data_tuple()
    path = str(tmp_path / "cells.json")
    write_layer(path, data, meta)
    tifffile.imwrite(
        tmp_path / "cells.png", np.zeros((2, 2, 10, 12), np.uint8), metadata={"axes": "ZCYX"}
    )
    read = get_reader(path)
    assert read is not None
    (pixels, settings, kind), *_ = read(path)
    assert (kind, settings["channel_axis"], pixels.shape) == ("image", 1, (2, 2, 10, 12))
