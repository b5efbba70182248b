"""Moving the viewer to an instance."""

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
