"""Instance layers in a viewer model without a window."""

from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels, Shapes

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.edits.session import AnnotationSession
from napari_deeppixel.viewer import boxes_view
from napari_deeppixel.viewer.layers import InstanceLayers, LabelsMode, instance_layers_of

TABLE = CategoryTable.from_names("nucleus", "debris")
HW = (40, 50)


def found(count: int, image_hw: tuple[int, int] = HW, *, score: float = 0.9) -> InstanceSet:
    """Return 2 x 3 px instances in rows; every other one is debris."""
    across = image_hw[1] // 4
    masks = tuple(
        CroppedMask(pixels=np.ones((2, 3), np.bool_), y=3 * (i // across), x=4 * (i % across))
        for i in range(count)
    )
    return InstanceSet(
        image_hw=image_hw,
        masks=masks,
        categories=TABLE,
        category_ids=np.arange(count) % 2 + 1,
        scores=np.full(count, score),
    )


def shown(
    viewer: ViewerModel, image: Any, planes: dict[tuple[int, ...], InstanceSet], **settings: Any
) -> InstanceLayers:
    first = next(iter(planes.values()))
    session = AnnotationSession(first.image_hw, TABLE)
    for index, instances in planes.items():
        session.add_predictions(index, instances)
    view = InstanceLayers(viewer, image, session, **settings)
    redraw(view)
    return view


def redraw(view: InstanceLayers) -> None:
    for _ in view.redraw():
        pass


def test_layers_lie_on_the_image_with_its_units_and_axes() -> None:
    viewer = ViewerModel()
    image = viewer.add_image(
        np.zeros((3, *HW)),
        name="cells",
        scale=(2, 0.5, 0.25),
        translate=(1, 2, 3),
        units=("s", "um", "um"),
        axis_labels=("t", "y", "x"),
    )
    shown(viewer, image, {(1,): found(2)})
    for name, kind in (("cells instances", Labels), ("cells boxes", Shapes)):
        layer = viewer.layers[name]
        assert isinstance(layer, kind)
        assert layer.scale.tolist() == [2, 0.5, 0.25]
        assert layer.translate.tolist() == [1, 2, 3]
        assert layer.axis_labels == ("t", "y", "x")
        assert layer.units == image.units
    assert viewer.layers["cells boxes"].data[0].tolist() == [
        [1, -0.5, -0.5],
        [1, -0.5, 2.5],
        [1, 1.5, 2.5],
        [1, 1.5, -0.5],
    ]
    assert np.unique(viewer.layers["cells instances"].data[1]).tolist() == [0, 1, 2]
    assert not viewer.layers["cells instances"].data[[0, 2]].any()


def test_features_have_a_dense_row_for_each_handle() -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros(HW), name="cells")
    shown(viewer, image, {(): found(3, score=0.75)})
    table = viewer.layers["cells instances"].features
    assert list(table.columns) == ["handle", "category", "score", "area", "state", "source"]
    assert table["handle"].tolist() == [0, 1, 2, 3]
    assert table["category"].tolist() == [None, "nucleus", "debris", "nucleus"]
    assert table["score"].tolist()[1:] == [0.75] * 3
    assert table["area"].tolist() == [0, 6, 6, 6]
    boxes = viewer.layers["cells boxes"]
    assert boxes.features["category"].tolist() == ["nucleus", "debris", "nucleus"]
    colors = [tuple(color) for color in boxes.edge_color]
    assert colors[0] == colors[2] != colors[1]


def test_deleted_labels_layer_is_drawn_again_from_the_session() -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros(HW), name="cells")
    view = shown(viewer, image, {(): found(2)})
    before = viewer.layers["cells instances"].data.copy()
    viewer.layers.remove("cells instances")
    redraw(view)
    assert np.array_equal(viewer.layers["cells instances"].data, before)


def test_renamed_layer_is_found_again() -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros(HW), name="cells")
    view = shown(viewer, image, {(): found(2)})
    viewer.layers["cells instances"].name = "mine"
    redraw(view)
    assert [layer.name for layer in viewer.layers] == ["cells", "mine", "cells boxes"]


def test_paint_undo_and_table_edits_all_reach_the_session() -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros(HW), name="cells")
    view = shown(viewer, image, {(): found(3)})
    labels = viewer.layers["cells instances"]
    labels.paint((30, 30), 1)
    labels.paint((20, 20), 2)
    labels.undo()  # emits no paint event
    labels.features.loc[3, "state"] = "accepted"  # nor does this
    redraw(view)
    states = view.session.visible(()).states
    # a stroke is taken at once, so napari's undo of it is an edit, too
    assert states == (InstanceState.EDITED, InstanceState.EDITED, InstanceState.ACCEPTED)
    assert labels.features["state"].tolist()[1:] == ["edited", "edited", "accepted"]
    assert view.session.visible(()).areas.tolist()[1:] == [6, 6]
    assert labels.data[30, 30] == 1
    assert labels.data[20, 20] == 0
    redraw(view)
    assert view.session.visible(()).states == states


@pytest.mark.parametrize("mode", list(LabelsMode))
def test_modes_show_every_instance_once(mode: LabelsMode) -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros(HW), name="cells")
    view = shown(viewer, image, {(): found(3)})
    view.mode = mode
    redraw(view)
    layers = [layer for layer in viewer.layers if isinstance(layer, Labels)]
    expected = {LabelsMode.ONE: 1, LabelsMode.BY_CATEGORY: 2, LabelsMode.BY_INSTANCE: 3}[mode]
    assert len(layers) == expected
    union = np.max([layer.data for layer in layers], axis=0)
    assert np.array_equal(union, view.session.visible(()).label_image())
    view.mode = LabelsMode.ONE
    redraw(view)
    assert sum(isinstance(layer, Labels) for layer in viewer.layers) == 1


def test_no_instance_gives_an_empty_labels_layer() -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros(HW), name="cells")
    view = shown(viewer, image, {(): found(0)})
    assert not viewer.layers["cells instances"].data.any()
    assert len(viewer.layers["cells boxes"].data) == 0
    view.session.add_predictions((), found(2))
    redraw(view)
    view.session.add_predictions((), found(0))
    redraw(view)
    assert len(viewer.layers["cells boxes"].data) == 0
    assert len(viewer.layers["cells boxes"].features) == 0


def test_above_the_limit_the_best_boxes_in_view_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boxes_view, "MAX_BOXES", 5)
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros(HW), name="cells")
    session = AnnotationSession(HW, TABLE)
    instances = found(8)
    session.add_predictions((), instances)
    view = InstanceLayers(viewer, image, session)
    monkeypatch.setattr(view.planes, "view_region", lambda: (0, 0, 12, 2))  # three of them
    redraw(view)
    assert len(viewer.layers["cells boxes"].data) == 3
    assert view.num_hidden_boxes == 5
    monkeypatch.setattr(view.planes, "view_region", lambda: (0, 0, 50, 40))
    for _ in view.redraw_boxes():
        pass
    assert len(viewer.layers["cells boxes"].data) == 5
    assert len(np.unique(viewer.layers["cells instances"].data)) == 9


def test_handles_above_16_bits_change_the_type_and_keep_the_pixels() -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros(HW), name="cells")
    view = shown(viewer, image, {(): found(2)})
    labels = viewer.layers["cells instances"]
    assert labels.data.dtype == np.uint16
    view.session._max_handle = 70_000
    view.session.add_predictions((), found(3))
    redraw(view)
    labels = viewer.layers["cells instances"]
    assert np.unique(labels.data).tolist() == [0, 1, 2, 70_001]
    assert labels.data.dtype == np.uint32


def test_instance_layers_belong_to_their_image_alone() -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros(HW), name="cells")
    view = shown(viewer, image, {(): found(1)})
    assert instance_layers_of(image) is view
    copy = viewer.add_image(np.zeros(HW), name="copy", metadata=image.metadata)
    assert instance_layers_of(copy) is None


def test_channel_axis_keeps_one_place_that_shows_in_all_channels() -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((2, 3, *HW)), name="cells")
    view = shown(viewer, image, {(1,): found(1)}, channel_axis=1)
    labels = viewer.layers["cells instances"]
    assert labels.data.shape == (2, 1, *HW)
    for channel in range(3):
        viewer.dims.set_current_step((0, 1), (1, channel))
        assert view.planes.current() == (1,)
        assert labels.get_value((1, channel, 0, 0), world=True) == 1


def test_undo_after_a_redraw_puts_no_old_pixels_back() -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros(HW), name="cells")
    view = shown(viewer, image, {(): found(2)})
    labels = viewer.layers["cells instances"]
    labels.mode = "paint"
    labels.paint((30, 30), 1)
    redraw(view)
    before = labels.data.copy()
    labels.undo()
    assert np.array_equal(labels.data, before)
    assert labels.mode == "paint"


def test_paint_on_a_layer_that_is_then_deleted_is_kept() -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros(HW), name="cells")
    view = shown(viewer, image, {(): found(2)})
    viewer.layers["cells instances"].data[30, 30] = 1
    viewer.layers.remove("cells instances")
    redraw(view)
    assert viewer.layers["cells instances"].data[30, 30] == 1


def test_layers_follow_an_image_that_was_scaled() -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros(HW), name="cells")
    view = shown(viewer, image, {(): found(2)})
    image.scale = (2, 3)
    redraw(view)
    assert viewer.layers["cells instances"].scale.tolist() == [2, 3]
    assert viewer.layers["cells boxes"].scale.tolist() == [2, 3]


def test_captions_name_category_and_score_or_that_a_person_drew_it() -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros(HW), name="cells")
    view = shown(viewer, image, {(): found(1)})
    viewer.layers["cells instances"].data[30, 30] = 7
    redraw(view)
    captions = viewer.layers["cells boxes"].features["caption"].tolist()
    assert captions == ["nucleus 0.90", "nucleus (drawn)"]
