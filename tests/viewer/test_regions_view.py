"""The layer of complete regions and the session in step both ways."""

from typing import Any

import numpy as np
import pytest
from napari.layers import Shapes
from tests.viewer.scene import HW, Scene

SQUARE = ((2.0, 3.0), (12.0, 3.0), (12.0, 9.0), (2.0, 9.0))  # x, y on pixel edges
OTHER = ((1.5, 1.25), (9.0, 2.0), (4.0, 8.0))


def yx(outline: tuple[tuple[float, float], ...], *lead: float) -> np.ndarray:
    """Return an outline in napari's coordinates."""
    return np.array([[*lead, y - 0.5, x - 0.5] for x, y in outline])


def layer_of(scene: Scene) -> Shapes:
    """Return the regions layer, which must be there."""
    layer = scene.view.regions.layer
    assert layer is not None
    assert layer in scene.viewer.layers
    return layer


def with_regions(shape: tuple[int, ...] = HW, **regions_settings: Any) -> Scene:
    """Return a scene with two complete regions on the first plane."""
    scene = Scene(shape, **regions_settings)
    index = (0,) * (len(shape) - 2)
    scene.session.set_regions(index, [SQUARE, OTHER], name="mark")
    return scene


def test_the_layer_comes_with_the_first_region_and_leaves_the_brush_alone() -> None:
    scene = Scene()
    scene.viewer.layers.selection.active = scene.labels
    assert scene.view.regions.layer is None
    scene.session.set_regions((), [SQUARE], name="mark")
    assert layer_of(scene).data[0].tolist() == yx(SQUARE).tolist()
    assert scene.viewer.layers.selection.active == scene.labels
    scene.settle()
    assert scene.session.regions(()) == (SQUARE,)


@pytest.mark.parametrize("kind", ["rectangle", "polygon", "path"])
def test_a_drawn_shape_is_a_region(kind: str) -> None:
    scene = with_regions()
    heard = []
    scene.view.dirtied.connect(lambda: heard.append(1))
    drawn = ((14.0, 4.0), (20.0, 4.0), (20.0, 8.0), (14.0, 8.0))
    layer_of(scene).add(yx(drawn), shape_type=kind)
    assert heard
    scene.settle()
    # those that nobody touched are as they were to the last digit
    assert scene.session.regions(()) == (SQUARE, OTHER, drawn)
    assert layer_of(scene).shape_type == ["polygon"] * 3
    assert scene.session.history.undo_name == "edit complete regions"


def test_an_ellipse_is_a_region_of_its_own_size() -> None:
    scene = with_regions()
    layer_of(scene).add(
        yx(((10.0, 4.0), (18.0, 4.0), (18.0, 8.0), (10.0, 8.0))), shape_type="ellipse"
    )
    scene.settle()
    x, y = np.array(scene.session.regions(())[2]).T
    assert np.allclose([x.min(), x.max(), y.min(), y.max()], [10, 18, 4, 8], atol=0.02)
    area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    assert area == pytest.approx(np.pi * 4 * 2, rel=0.01)


def test_shapes_without_area_are_no_regions() -> None:
    scene = with_regions()
    layer_of(scene).add(yx(((1, 1), (9, 9))), shape_type="line")
    layer_of(scene).add(yx(((1, 1), (5, 5), (9, 9))), shape_type="path")
    scene.settle()
    assert scene.session.regions(()) == (SQUARE, OTHER)
    assert len(layer_of(scene).data) == 2


def test_moved_and_deleted_regions_are_one_step_each() -> None:
    scene = with_regions()
    layer = layer_of(scene)
    layer._data_view.shift(0, np.array([1, 2]))
    scene.settle()
    moved = tuple((x + 2, y + 1) for x, y in SQUARE)
    assert scene.session.regions(()) == (moved, OTHER)
    layer.selected_data = {1}
    layer.remove_selected()
    scene.settle()
    assert scene.session.regions(()) == (moved,)
    layer.data = []
    scene.settle()
    assert scene.session.regions(()) == ()
    for expected in [(moved,), (moved, OTHER), (SQUARE, OTHER), ()]:
        scene.view.undo()
        assert scene.session.regions(()) == expected
        assert [one.tolist() for one in layer.data] == [yx(one).tolist() for one in expected]
    scene.view.redo()
    scene.settle()
    assert scene.session.regions(()) == (SQUARE, OTHER)


def test_regions_on_several_planes_are_taken_in_one_step() -> None:
    scene = with_regions((3, *HW))
    layer = layer_of(scene)
    layer.add(yx(SQUARE, 2), shape_type="polygon")
    layer.add(yx(SQUARE, 9), shape_type="polygon")  # there is no such plane
    layer.remove([1])
    scene.settle()
    assert scene.session.regions((0,)) == (SQUARE,)
    assert scene.session.regions((2,)) == (SQUARE,)
    assert len(layer.data) == 2
    scene.view.undo()
    assert scene.session.region_planes == [(0,)]
    assert scene.session.regions((0,)) == (SQUARE, OTHER)


def test_a_region_across_channels_belongs_to_one_plane() -> None:
    scene = Scene((3, *HW), {(): Scene().session.visible(())}, channel_axis=0)
    scene.session.set_regions((), [SQUARE], name="mark")
    layer_of(scene).add(yx(OTHER, 0.33), shape_type="polygon")
    scene.settle()
    assert len(scene.session.regions(())) == 2
    assert layer_of(scene).data[1][:, 0].tolist() == [0, 0, 0]


def test_a_region_that_waits_survives_an_undo_of_something_else() -> None:
    scene = with_regions()
    drawn = ((14.0, 4.0), (20.0, 4.0), (20.0, 8.0))
    layer_of(scene).add(yx(drawn), shape_type="polygon")
    scene.session.undo()
    assert scene.session.regions(()) == ()
    scene.settle()
    assert scene.session.regions(()) == (drawn,)


def test_a_deleted_layer_keeps_the_regions_and_what_waits() -> None:
    scene = with_regions()
    layer = layer_of(scene)
    layer.remove([0])
    scene.viewer.layers.remove(layer)
    assert scene.session.regions(()) == (OTHER,)
    assert scene.view.regions.layer is None
    scene.redraw()
    assert layer_of(scene) != layer
    assert len(layer_of(scene).data) == 1
    layer.data = []
    scene.settle()
    assert scene.session.regions(()) == (OTHER,)


def test_renamed_hidden_and_moved_regions_are_followed() -> None:
    scene = with_regions()
    layer = layer_of(scene)
    layer.name, layer.visible = "mine", False
    scene.viewer.layers.move(scene.viewer.layers.index(layer), 0)
    scene.session.set_regions((), [OTHER], name="mark")
    assert len(layer.data) == 1
    layer.remove([0])
    scene.settle()
    assert scene.session.regions(()) == ()
    assert [str(each) for each in scene.viewer.layers].count("mine") == 1


def test_a_read_only_session_keeps_its_regions() -> None:
    scene = with_regions()
    scene.session.is_read_only = True
    layer_of(scene).remove([0])
    scene.settle()
    assert scene.session.regions(()) == (SQUARE, OTHER)
    assert len(layer_of(scene).data) == 2
    assert "open for editing" in scene.viewer.status


def test_regions_are_as_they_were_after_the_image_went() -> None:
    scene = with_regions()
    scene.viewer.layers.remove("cells")
    scene.view.undo()
    assert len(layer_of(scene).data) == 0
    scene.view.redo()
    scene.viewer.layers.remove(layer_of(scene))
    scene.view.undo()
    scene.view.redo()
    assert scene.view.regions.layer is None
    scene.settle()


def test_a_region_is_taken_when_its_drawing_ends_not_before() -> None:
    scene = with_regions()
    layer = layer_of(scene)
    # as napari's polygon tool does at the first click
    layer._is_creating = True
    layer.add(yx(((14.0, 4.0), (20.0, 4.0), (20.0, 8.0))), shape_type="polygon", gui=True)
    scene.settle()
    assert scene.session.regions(()) == (SQUARE, OTHER)
    assert len(layer.data) == 3
    layer._is_creating = False
    scene.settle()
    assert scene.session.regions(())[2] == ((14.0, 4.0), (20.0, 4.0), (20.0, 8.0))


def test_an_undo_while_a_region_is_drawn_is_drawn_and_kept_afterwards() -> None:
    scene = with_regions()
    layer, drawn = layer_of(scene), ((14.0, 4.0), (20.0, 4.0), (20.0, 8.0))
    layer._is_creating = True
    layer.add(yx(drawn), shape_type="polygon", gui=True)
    scene.session.undo()
    assert scene.session.regions(()) == ()
    assert len(layer.data) == 3
    layer._is_creating = False
    scene.settle()
    assert scene.session.regions(()) == (drawn,)
    assert len(layer.data) == 1


def test_a_drawing_that_is_given_up_leaves_what_happened_meanwhile() -> None:
    scene = with_regions()
    layer = layer_of(scene)
    layer._is_creating = True
    scene.session.undo()
    layer._is_creating = False
    scene.settle()
    assert scene.session.regions(()) == ()
    assert len(layer.data) == 0
