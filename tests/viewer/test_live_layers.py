"""How live layers mark instances that are older than the frame under them."""

import numpy as np
import pytest
from napari.components import ViewerModel
from tests.live.made_results import made_result

from napari_deeppixel.viewer.live_layers import LiveLayers, strength


@pytest.mark.parametrize(
    ("older_s", "share"),
    # half way from 0.3 to 1.5 s: half way from 1 to 0.3, rounded to tenths
    [(0.0, 1.0), (0.3, 1.0), (0.9, 0.6), (1.5, 0.3), (60.0, 0.3)],
)
def test_instances_fade_with_their_age_and_stay_faint(older_s: float, share: float) -> None:
    assert strength(older_s) == pytest.approx(share)


def test_old_instances_vanish_where_no_others_will_come() -> None:
    assert strength(1.0, has_more=False) == strength(1.0)
    assert strength(1.6, has_more=False) == 0


def drawn() -> tuple[LiveLayers, ViewerModel]:
    viewer = ViewerModel()
    layers = LiveLayers(viewer, "cam")
    result = made_result(0)
    layers.draw(result.frame, result.instances)
    return layers, viewer


def opacities(viewer: ViewerModel) -> list[float]:
    return [viewer.layers[f"cam live {name}"].opacity for name in ("instances", "boxes")]


def test_masks_and_boxes_fade_and_come_back() -> None:
    layers, viewer = drawn()
    assert opacities(viewer) == [0.5, 0.7]
    layers.draw(made_result(1).frame, None, older_s=60)
    assert opacities(viewer) == pytest.approx([0.15, 0.21])
    assert viewer.layers["cam"].opacity == 1
    result = made_result(2)
    layers.draw(result.frame, result.instances)
    assert opacities(viewer) == [0.5, 0.7]


def test_an_opacity_that_a_person_sets_counts_as_the_full_one() -> None:
    layers, viewer = drawn()
    layers.draw(made_result(1).frame, None, older_s=60)
    viewer.layers["cam live instances"].opacity = 0.8
    layers.draw(made_result(2).frame, None, older_s=61)
    assert opacities(viewer) == pytest.approx([0.8, 0.21])
    layers.draw(made_result(3).frame, None)
    assert opacities(viewer) == [0.8, 0.7]


def test_another_run_begins_at_full_strength() -> None:
    layers, viewer = drawn()
    layers.draw(made_result(1).frame, None, older_s=60)
    layers.disconnect()
    LiveLayers(viewer, "cam", earlier=layers)
    assert opacities(viewer) == [0.5, 0.7]


def test_other_instances_are_shown_on_the_frame_that_is_there() -> None:
    layers, viewer = drawn()
    layers.show(made_result(0, handles=(2,)).instances)
    labels = viewer.layers["cam live instances"].data
    # the square of handle 2: 8 x 8 px at row 20
    assert np.unique(labels).tolist() == [0, 2]
    assert np.count_nonzero(labels) == 64
    assert len(viewer.layers["cam live boxes"].data) == 4


def test_showing_and_hiding_is_told_also_by_the_eye() -> None:
    layers, viewer = drawn()
    told: list[bool] = []
    layers.visibility_changed.connect(lambda: told.append(layers.is_visible))
    for layer in viewer.layers:
        layer.visible = False
    assert told[-1] is False
    viewer.layers["cam"].visible = True
    assert told[-1] is True
    layers.disconnect()
    told.clear()
    viewer.layers["cam"].visible = False
    assert told == []
