"""Moving the viewer to an instance."""

import numpy as np
import pytest
from tests.viewer.scene import HW, Scene, found, rect

from napari_deeppixel.viewer.camera import show_instance


def test_an_instance_on_another_plane_comes_to_the_middle() -> None:
    scene = Scene((3, *HW), {(2,): found([rect(12, 20)])}, scale=(4, 0.5, 2))
    scene.viewer.canvas.size = (400, 800)
    assert show_instance(scene.viewer, scene.view, (2,), "a")
    assert scene.viewer.dims.current_step[0] == 2
    # rows 12 to 15 and columns 20 to 24, from the middle of the first to that of the last
    assert scene.viewer.scene.camera.center[-2:] == (13.5 * 0.5, 22 * 2)


def test_the_zoom_stays_while_the_object_is_easy_to_see() -> None:
    scene = Scene()
    scene.viewer.canvas.size = (400, 400)
    camera = scene.viewer.scene.camera
    camera.zoom = 0.1
    show_instance(scene.viewer, scene.view, (), "a")
    # an object below 40 px is shown like one of 40: a quarter of 400 pixels of the canvas
    assert camera.zoom == pytest.approx(100 / 40)
    camera.zoom = 4.9
    show_instance(scene.viewer, scene.view, (), "c")
    assert camera.zoom == 4.9
    assert camera.center[-2:] == (13.5, 22)
    camera.zoom = 5.1
    show_instance(scene.viewer, scene.view, (), "c")
    assert camera.zoom == pytest.approx(2.5)


def test_an_instance_that_is_gone_moves_nothing() -> None:
    scene = Scene()
    before = scene.viewer.scene.camera.center
    assert not show_instance(scene.viewer, scene.view, (), "nobody")
    assert scene.viewer.scene.camera.center == before


def test_channels_keep_their_slider() -> None:
    scene = Scene((2, 3, *HW), {(1,): found([rect(12, 20)])}, channel_axis=1)
    scene.viewer.dims.set_current_step(1, 2)
    assert show_instance(scene.viewer, scene.view, (1,), "a")
    assert tuple(scene.viewer.dims.current_step[:2]) == (1, 2)


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        # an object of 4 x 5 px at zoom 2.5 on a canvas of 200 x 400: a view of 80 x 160
        ((0, 0), (39.5, 79.5)),
        ((196, 295), (159.5, 219.5)),
        ((100, 0), (101.5, 79.5)),
        ((100, 150), (101.5, 152)),
    ],
)
def test_near_the_border_the_view_stays_inside_the_image(
    place: tuple[int, int], expected: tuple[float, float]
) -> None:
    hw = (200, 300)
    scene = Scene(hw, {(): found([rect(*place)], image_hw=hw)})
    scene.viewer.canvas.size = (200, 400)
    scene.viewer.scene.camera.zoom = 2.5
    show_instance(scene.viewer, scene.view, (), "a")
    assert scene.viewer.scene.camera.zoom == 2.5
    assert scene.viewer.scene.camera.center[-2:] == pytest.approx(expected)


def test_along_an_axis_shorter_than_the_view_the_object_is_in_the_middle() -> None:
    hw = (60, 300)
    scene = Scene(hw, {(): found([rect(0, 0)], image_hw=hw)})
    scene.viewer.canvas.size = (200, 400)
    scene.viewer.scene.camera.zoom = 2.5
    show_instance(scene.viewer, scene.view, (), "a")
    assert scene.viewer.scene.camera.center[-2:] == pytest.approx((1.5, 79.5))


def test_in_a_scaled_and_turned_image_the_object_stays_in_view() -> None:
    hw = (200, 300)
    scene = Scene(
        hw, {(): found([rect(0, 0)], image_hw=hw)}, scale=(0.5, 0.5), rotate=30, translate=(7, 9)
    )
    scene.viewer.canvas.size = (200, 400)
    scene.viewer.scene.camera.zoom = 5
    show_instance(scene.viewer, scene.view, (), "a")
    away = np.array(scene.viewer.scene.camera.center[-2:]) - scene.labels.data_to_world((1.5, 2))
    assert (np.abs(away) <= (20, 40)).all()
