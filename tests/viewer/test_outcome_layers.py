"""What a model got right, wrong and missed, as layers."""

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels
from tests.widgets.data_window import annotated
from tests.widgets.review_window import squares

from napari_deeppixel.viewer.outcome_layers import (
    OUTCOME_COLORS,
    OutcomeKind,
    outcome_labels,
    outcome_layers,
    restore,
    show_outcome,
)


@pytest.fixture
def viewer() -> ViewerModel:
    viewer = ViewerModel()
    viewer.add_image(np.zeros((5, 5)), name="mine")
    viewer.add_image(np.zeros((5, 5)), name="hidden", visible=False)
    return viewer


def show(viewer: ViewerModel, name: str = "3 (new)") -> Image:
    labels = {
        OutcomeKind.TRUE: outcome_labels(annotated("a", "b").instances),
        OutcomeKind.FALSE: outcome_labels(annotated("hidden").instances),
        OutcomeKind.MISSED: outcome_labels(annotated("c").instances),
    }
    return show_outcome(viewer, squares(), labels, name=name)


def color_at(layer: Labels, y: int, x: int) -> str:
    red, green, blue, _ = layer.colormap.map(layer.data[y, x]).ravel()
    return "#" + "".join(f"{round(255 * float(each)):02x}" for each in (red, green, blue))


def test_each_kind_is_a_layer_of_outlines_in_its_colour(viewer: ViewerModel) -> None:
    show(viewer)
    _, true, false, missed = outcome_layers(viewer)
    assert [layer.name for layer in (true, false, missed)] == [
        "3 (new): right",
        "3 (new): wrong",
        "3 (new): missed",
    ]
    # a and b at (10, 10) and (10, 40), c at (40, 10), the false one at (40, 40)
    assert color_at(true, 15, 15) == color_at(true, 15, 45) == OUTCOME_COLORS[OutcomeKind.TRUE]
    assert color_at(false, 45, 45) == OUTCOME_COLORS[OutcomeKind.FALSE]
    assert color_at(missed, 45, 15) == OUTCOME_COLORS[OutcomeKind.MISSED]
    assert true.data[15, 15] != true.data[15, 45], "touching objects keep an outline each"
    assert all(layer.contour == 1 and not layer.editable for layer in (true, false, missed))


def test_what_was_there_is_hidden_and_comes_back(viewer: ViewerModel) -> None:
    show(viewer)
    show(viewer, name="4 (new)")
    assert [layer.name for layer in viewer.layers if layer.visible] == [
        "4 (new)",
        "4 (new): right",
        "4 (new): wrong",
        "4 (new): missed",
    ]
    restore(viewer)
    assert [(layer.name, layer.visible) for layer in viewer.layers] == [
        ("mine", True),
        ("hidden", False),
    ]


def test_layers_that_left_meanwhile_do_not_come_back(viewer: ViewerModel) -> None:
    show(viewer)
    viewer.layers.remove(viewer.layers["mine"])
    restore(viewer)
    assert [layer.name for layer in viewer.layers] == ["hidden"]


def test_colour_images_are_shown_as_such(viewer: ViewerModel) -> None:
    pixels = np.zeros((60, 80, 3), np.uint8)
    image = show_outcome(viewer, pixels, {}, name="colour")
    assert image.rgb
    assert len(outcome_layers(viewer)) == 1


def test_outlines_of_large_images_are_thicker(viewer: ViewerModel) -> None:
    labels = {OutcomeKind.TRUE: np.zeros((700, 80), np.uint16)}
    show_outcome(viewer, np.zeros((700, 80)), labels, name="large")
    assert viewer.layers["large: right"].contour == 2


def test_the_next_image_is_shown_in_the_same_layers_whatever_its_size(viewer: ViewerModel) -> None:
    show(viewer)
    before = outcome_layers(viewer)
    labels = {kind: np.zeros((700, 80), np.uint16) for kind in OutcomeKind}
    image = show_outcome(viewer, np.full((700, 80), 1000.0), labels, name="5 (new)")
    after = outcome_layers(viewer)
    assert all(one is other for one, other in zip(before, after, strict=True))
    assert [layer.name for layer in after] == [
        "5 (new)",
        "5 (new): right",
        "5 (new): wrong",
        "5 (new): missed",
    ]
    assert image.contrast_limits[1] >= 1000
    assert {(layer.contour, layer.editable) for layer in after[1:]} == {(2, False)}


def test_a_colour_image_after_a_grey_one_gets_layers_of_its_own(viewer: ViewerModel) -> None:
    show(viewer)
    labels = {kind: np.zeros((60, 80), np.uint16) for kind in OutcomeKind}
    image = show_outcome(viewer, np.zeros((60, 80, 3), np.uint8), labels, name="colour")
    assert image.rgb
    assert len(outcome_layers(viewer)) == 4
    restore(viewer)
    assert [(layer.name, layer.visible) for layer in viewer.layers] == [
        ("mine", True),
        ("hidden", False),
    ]
