"""An image with instances in a viewer without a window, and what must be true of its layers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Labels, Shapes
from numpy.typing import NDArray

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.geometry import boxes_xyxy_to_corners_yx
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import Instance, InstanceSet
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.edits.diff import OverlapRule
from napari_deeppixel.edits.session import AnnotationSession
from napari_deeppixel.viewer.layers import InstanceLayers, LabelsMode

HW = (20, 30)
TABLE = CategoryTable.from_names("nucleus", "debris")


def rect(y: int, x: int, height: int = 4, width: int = 5) -> CroppedMask:
    """Return a filled rectangle with its top left pixel at [y, x]."""
    return CroppedMask(pixels=np.ones((height, width), np.bool_), y=y, x=x)


def found(
    masks: Sequence[CroppedMask],
    *,
    names: str = "abcdefgh",
    scores: Sequence[float] = (),
    category_ids: Sequence[int] = (),
    image_hw: tuple[int, int] = HW,
) -> InstanceSet:
    """Return predictions with one-letter uuids."""
    return InstanceSet(
        image_hw=image_hw,
        masks=tuple(masks),
        categories=TABLE,
        category_ids=np.array(category_ids or [1] * len(masks), np.int64),
        scores=np.array(scores or np.linspace(0.9, 0.8, len(masks))),
        uuids=tuple(names[: len(masks)]),
        sources=("model",) * len(masks),
    )


class Scene:
    """Three 4 x 5 px predictions a, b, c (numbers 1, 2, 3), b half under a, unless told otherwise.

    a covers rows 2 to 5 and columns 2 to 6, b the same rows and columns 5 to 9, c rows 12 to 15
    and columns 20 to 24; c is debris.
    """

    def __init__(
        self,
        shape: tuple[int, ...] = HW,
        planes: Mapping[PlaneIndex, InstanceSet] | None = None,
        *,
        rgb: bool = False,
        channel_axis: int | None = None,
        mode: LabelsMode = LabelsMode.ONE,
        rule: OverlapRule = OverlapRule.TAKE,
        score: float = 0.5,
        **placement: Any,
    ) -> None:
        if planes is None:
            masks = [rect(2, 2), rect(2, 5), rect(12, 20)]
            planes = {(0,) * (len(shape) - 2 - rgb): found(masks, category_ids=[1, 1, 2])}
        first = next(iter(planes.values()))
        self.viewer = ViewerModel()
        pixels = np.zeros(shape, np.uint8)
        self.image = self.viewer.add_image(pixels, name="cells", rgb=rgb, **placement)
        self.session = AnnotationSession(first.image_hw, TABLE)
        self.session.set_visibility(score=score, min_area=1)
        for index, instances in planes.items():
            self.session.add_predictions(index, instances)
        self.view = InstanceLayers(self.viewer, self.image, self.session, channel_axis=channel_axis)
        self.view.mode = mode
        self.redraw()
        self.view.set_overlap_rule(rule)

    def redraw(self) -> None:
        """Draw everything."""
        for _ in self.view.redraw():
            pass

    def settle(self) -> None:
        """Take everything over, and check that session and layers agree."""
        self.view.settle_all()
        assert_in_step(self.view)

    @property
    def labels(self) -> Labels:
        """The Labels layer, of one at least."""
        return self.view.labels_layers[0]

    @property
    def boxes(self) -> Shapes:
        """The boxes layer."""
        assert self.view.boxes_layer is not None
        return self.view.boxes_layer

    def get(self, uuid: str, index: PlaneIndex = ()) -> Instance:
        """Return an instance that must be there."""
        instance = self.session.get(index, uuid)
        assert instance is not None
        return instance

    def mask(self, uuid: str, index: PlaneIndex = ()) -> NDArray[np.bool_]:
        """Return an instance's mask on the whole plane."""
        return self.get(uuid, index).mask.to_mask(self.session.image_hw)

    def newest(self) -> Instance:
        """Return the instance with the largest number."""
        found_ = self.session.find(self.session.next_handle - 1)
        assert found_ is not None
        return found_[1]

    def stroke(self, *places: tuple[float, ...], number: int, size: int = 3) -> None:
        """Paint as a drag of napari's brush does: several stamps, one step."""
        labels = self.labels
        labels.brush_size = size
        if number:
            labels.selected_label = number
        with labels.block_history():
            for place in places:
                labels.paint(place, number)


def drawn(view: InstanceLayers, index: PlaneIndex, layer: Labels) -> NDArray[np.int64]:
    """Return what a Labels layer must show of a plane, the slow and plain way."""
    session = view.session
    image = np.zeros(session.image_hw, np.int64)
    shown = (
        session.in_drawing_order(index, session.visible(index))
        if len(session.visible(index))
        else []
    )
    if view.overlap_rule is OverlapRule.OVERLAP:
        shown.sort(key=lambda instance: instance.handle == layer.selected_label)
    for instance in shown:
        if view.mode is LabelsMode.ONE or _belongs(view, instance, layer):
            image[instance.mask.to_mask(session.image_hw)] = instance.handle
    return image


def _belongs(view: InstanceLayers, instance: Instance, layer: Labels) -> bool:
    found_ = next(each for each in view._groups if each.layer == layer)
    return found_.is_member(instance)


def assert_in_step(view: InstanceLayers) -> None:
    """Assert that all layers show what the session holds."""
    session, planes = view.session, view.planes
    for layer in view.labels_layers:
        assert layer.data.shape == planes.layer_shape()
        for index in np.ndindex(*planes.lead_shape):
            expected = drawn(view, index, layer)
            assert np.array_equal(layer.data[planes.data_index(index)], expected), index
    every = [(i, one) for i in session.plane_indices for one in session.visible(i)]
    _assert_features(view, every)
    if view.boxes_layer is not None:
        _assert_boxes(view, every)


def _assert_features(view: InstanceLayers, every: list[tuple[PlaneIndex, Instance]]) -> None:
    names = {c.id: c.name for c in view.session.categories.categories}
    rows = {}
    for layer in view.labels_layers:
        table = layer.features
        assert table["handle"].tolist() == list(range(len(table)))
        for row in table.to_dict("records"):
            if row["category"] is not None:
                rows[row["handle"]] = (row["category"], row["state"], row["area"])
    assert rows == {
        one.handle: (names[one.category_id], one.state.value, one.area) for _, one in every
    }


def _assert_boxes(view: InstanceLayers, every: list[tuple[PlaneIndex, Instance]]) -> None:
    layer = view.boxes_layer
    assert layer is not None
    names = {c.id: c.name for c in view.session.categories.categories}
    expected = {}
    for index, one in every:
        corners = boxes_xyxy_to_corners_yx([one.box_xyxy], lead=view.planes.data_index(index))[0]
        expected[one.handle] = (corners.tolist(), names[one.category_id], one.state.value)
    table = layer.features
    assert len(layer.data) == len(every)
    shown = {}
    for place, corners in enumerate(layer.data):
        row = table.iloc[place]
        shown[int(row["handle"])] = (corners.tolist(), row["category"], row["state"])
    assert shown == expected
