"""The Detect tab in a real napari viewer, with the shipped model."""

import subprocess
import sys
import textwrap
from importlib import resources
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
from napari.layers import Labels, Shapes

from napari_deeppixel.core.geometry import corners_yx_to_boxes_xyxy
from napari_deeppixel.core.instance import InstanceState
from napari_deeppixel.viewer.layers import instance_layers_of
from napari_deeppixel.widgets.dock import DeepPixelWidget

TIMEOUT_MS = 90_000
MODEL = resources.files("napari_deeppixel") / "models" / "nuclei.safetensors"


@pytest.fixture
def nuclei() -> np.ndarray:
    """A corner of the tissue sample with a few dozen nuclei, uint8 (160, 192)."""
    with resources.as_file(resources.files("napari_deeppixel") / "samples") as folder:
        return np.asarray(iio.imread(folder / "tissue.png"))[:160, :192]


@pytest.fixture
def window(make_napari_viewer: Any) -> Any:
    """A viewer with the DeepPixel dock widget."""
    viewer = make_napari_viewer()
    widget = DeepPixelWidget(viewer)
    viewer.window.add_dock_widget(widget, name="DeepPixel")
    yield viewer, widget.detect
    widget.detect.shut_down()


def find(tab: Any, name: str) -> Any:
    return tab.findChild(object, name)


def wait_for_run(qtbot: Any, tab: Any) -> None:
    qtbot.waitUntil(lambda: not tab.run.is_running, timeout=TIMEOUT_MS)
    qtbot.waitUntil(lambda: not tab.run.steps.is_running, timeout=TIMEOUT_MS)


def run(qtbot: Any, tab: Any) -> None:
    find(tab, "detect.run").click()
    assert tab.run.is_running
    wait_for_run(qtbot, tab)


def test_run_shows_each_nucleus_as_a_label_and_a_box_on_its_pixel_edges(
    window: Any, qtbot: Any, nuclei: np.ndarray
) -> None:
    viewer, tab = window
    viewer.add_image(nuclei, name="cells", scale=(0.5, 0.25), translate=(3, 7))
    run(qtbot, tab)

    labels, boxes = viewer.layers["cells instances"], viewer.layers["cells boxes"]
    assert isinstance(labels, Labels)
    assert isinstance(boxes, Shapes)
    handles = np.unique(labels.data)[1:]
    assert len(handles) >= 5
    assert labels.data.dtype == np.uint16
    for layer in (labels, boxes):
        assert layer.scale.tolist() == [0.5, 0.25]
        assert layer.translate.tolist() == [3, 7]
    assert list(labels.features["handle"]) == list(range(len(labels.features)))
    shown = instance_layers_of(viewer.layers["cells"]).session.visible(())
    checked = 0
    drawn = corners_yx_to_boxes_xyxy(np.array(boxes.data))
    for box, handle in zip(drawn, boxes.features["handle"], strict=True):
        tight = shown.boxes_xyxy[list(shown.handles).index(handle)]
        assert box.tolist() == tight.tolist()
        rows, columns = np.nonzero(labels.data == handle)
        on_top = shown.masks[list(shown.handles).index(handle)].area == rows.size
        if on_top:
            edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert box.tolist() == edges
            checked += 1
    assert checked >= 5
    assert labels.metadata["napari_deeppixel"]["model"].startswith("nuclei@")


def test_score_slider_hides_and_brings_back_without_the_network(
    window: Any, qtbot: Any, nuclei: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer, tab = window
    viewer.add_image(nuclei, name="cells")
    run(qtbot, tab)
    boxes = viewer.layers["cells boxes"]
    before = viewer.layers["cells instances"].data.copy()
    count = len(boxes.data)
    middle = float(np.median(boxes.features["score"]))
    own_score = find(tab, "detect.score").value()
    monkeypatch.setattr(
        "napari_deeppixel.engine.maskrcnn.MaskRCNNEngine.predict",
        lambda *_, **__: pytest.fail("the slider ran the network"),
    )

    find(tab, "detect.score").setValue(min(middle + 0.005, 1.0))
    qtbot.waitUntil(lambda: 0 < len(boxes.data) < count, timeout=5000)
    qtbot.waitUntil(lambda: not tab.run.steps.is_running, timeout=5000)
    assert (boxes.features["score"] >= middle).all()
    find(tab, "detect.score").setValue(own_score)
    qtbot.waitUntil(lambda: len(boxes.data) == count, timeout=5000)
    qtbot.waitUntil(lambda: not tab.run.steps.is_running, timeout=5000)
    assert np.array_equal(viewer.layers["cells instances"].data, before)


def test_running_again_keeps_what_a_person_painted_and_rejected(
    window: Any, qtbot: Any, nuclei: np.ndarray
) -> None:
    viewer, tab = window
    viewer.add_image(nuclei, name="cells")
    run(qtbot, tab)
    labels = viewer.layers["cells instances"]
    first, second = np.unique(labels.data)[1:3]
    painted = (slice(0, 3), slice(0, 3))
    count = len(viewer.layers["cells boxes"].data)
    labels.data_setitem(np.nonzero(labels.data == second), 0)  # erased: rejected
    labels.data[painted] = first  # a raw write, with no event
    run(qtbot, tab)

    session = instance_layers_of(viewer.layers["cells"]).session
    states = dict(zip(session.visible(()).handles, session.visible(()).states, strict=True))
    assert states[first] is InstanceState.EDITED
    assert (labels.data[painted] == first).all()
    assert list(session.plane(()).states).count(InstanceState.REJECTED) == 1
    assert second not in labels.data
    assert len(viewer.layers["cells boxes"].data) == count - 1


def test_stack_run_puts_instances_on_their_planes(
    window: Any, qtbot: Any, nuclei: np.ndarray
) -> None:
    viewer, tab = window
    planes = np.stack([nuclei, np.zeros_like(nuclei), nuclei[::-1]])
    viewer.add_image(planes, name="stack")
    scope = find(tab, "detect.scope")
    scope.setCurrentText("Stack z (3 planes)")
    run(qtbot, tab)

    labels, boxes = viewer.layers["stack instances"], viewer.layers["stack boxes"]
    assert labels.data.shape == planes.shape
    assert labels.data[0].any()
    assert not labels.data[1].any()
    assert labels.data[2].any()
    used = [np.unique(plane)[1:] for plane in labels.data]
    assert not set(used[0]) & set(used[2])
    assert sorted({corners[0, 0] for corners in boxes.data}) == [0, 2]


def test_view_run_leaves_the_rest_of_the_plane_alone(
    window: Any, qtbot: Any, nuclei: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer, tab = window
    viewer.add_image(nuclei, name="cells")
    run(qtbot, tab)
    labels = viewer.layers["cells instances"]
    before = labels.data.copy()
    monkeypatch.setattr(
        "napari_deeppixel.widgets.detect.view_region", lambda *_: (0, 0, 96, nuclei.shape[0])
    )
    find(tab, "detect.scope").setCurrentText("View")
    run(qtbot, tab)
    session = instance_layers_of(viewer.layers["cells"]).session
    right = before[:, 130:]
    kept = {h for h in np.unique(right)[1:] if (before == h)[:, 100:].sum() == (before == h).sum()}
    assert kept
    for handle in kept:
        assert np.array_equal(labels.data == handle, before == handle)
    assert len(session.visible(())) >= len(kept)


@pytest.mark.parametrize("kind", ["uint16", "float with nan", "rgb", "channels"])
def test_all_kinds_of_pixels_run(window: Any, qtbot: Any, nuclei: np.ndarray, kind: str) -> None:
    viewer, tab = window
    if kind == "uint16":
        viewer.add_image(nuclei.astype(np.uint16) * 37, name="cells")
    elif kind == "float with nan":
        pixels = nuclei.astype(np.float32)
        pixels[:5, :5] = np.nan
        viewer.add_image(pixels, name="cells", contrast_limits=(0, 255))
    elif kind == "rgb":
        viewer.add_image(np.stack([nuclei] * 3, axis=-1), name="cells")
    else:
        viewer.add_image(np.stack([np.zeros_like(nuclei), nuclei]), name="cells")
        find(tab, "detect.channel_axis").setCurrentText("axis 0 (z, 2)")
        find(tab, "detect.channels").setText("1")
        find(tab, "detect.channels").editingFinished.emit()
    run(qtbot, tab)
    labels = viewer.layers["cells instances"]
    assert len(np.unique(labels.data)) > 5
    if kind == "channels":
        assert labels.data.shape == (1, *nuclei.shape)
        viewer.dims.set_current_step(0, 1)
        assert labels.get_value(viewer.dims.point, world=True) is not None


def test_run_is_off_and_says_why_while_a_setting_is_wrong(window: Any, nuclei: np.ndarray) -> None:
    viewer, tab = window
    button = find(tab, "detect.run")
    assert not button.isEnabled()
    assert "Open an image" in find(tab, "detect.image_error").text()
    viewer.add_image(nuclei, name="cells")
    assert button.isEnabled()
    channels = find(tab, "detect.channels")
    channels.setText("0,7,1")
    channels.editingFinished.emit()
    assert not button.isEnabled()
    assert "7" in find(tab, "detect.channels_error").text()
    channels.setText("")
    channels.editingFinished.emit()
    assert button.isEnabled()
    find(tab, "detect.normalization").setCurrentText("fixed range")
    assert (find(tab, "detect.low").value(), find(tab, "detect.high").value()) == (0, 255)
    find(tab, "detect.low").setValue(300)
    assert not button.isEnabled()
    assert "300" in find(tab, "detect.normalization_error").text()
    assert not find(tab, "detect.channels_error").text()


def test_cancel_stops_and_changes_nothing(window: Any, qtbot: Any, nuclei: np.ndarray) -> None:
    viewer, tab = window
    viewer.add_image(np.tile(nuclei, (6, 6)), name="large")
    find(tab, "detect.run").click()
    qtbot.waitUntil(lambda: find(tab, "detect.progress").value() > 0, timeout=TIMEOUT_MS)
    find(tab, "detect.cancel").click()
    wait_for_run(qtbot, tab)
    assert [layer.name for layer in viewer.layers] == ["large"]
    assert "Cancelled" in find(tab, "detect.status").text()
    assert find(tab, "detect.run").isEnabled()


def test_layer_deleted_in_mid_run_drops_the_result(
    window: Any, qtbot: Any, nuclei: np.ndarray
) -> None:
    viewer, tab = window
    viewer.add_image(np.stack([nuclei] * 3), name="stack")
    find(tab, "detect.scope").setCurrentText("Stack z (3 planes)")
    find(tab, "detect.run").click()
    viewer.layers.remove("stack")
    wait_for_run(qtbot, tab)
    assert list(viewer.layers) == []
    assert "gone" in find(tab, "detect.status").text()


def test_closing_in_mid_run_leaves_nothing_behind(
    make_napari_viewer: Any, qtbot: Any, nuclei: np.ndarray
) -> None:
    viewer = make_napari_viewer()
    widget = DeepPixelWidget(viewer)
    viewer.window.add_dock_widget(widget, name="DeepPixel")
    viewer.add_image(np.stack([nuclei] * 5), name="stack")
    find(widget.detect, "detect.scope").setCurrentText("Stack z (5 planes)")
    find(widget.detect, "detect.run").click()
    qtbot.wait(200)
    viewer.close()
    qtbot.wait(200)


def test_truncated_weights_end_in_a_clear_message(
    window: Any, qtbot: Any, nuclei: np.ndarray, tmp_path: Any
) -> None:
    viewer, tab = window
    viewer.add_image(nuclei, name="cells")
    damaged = tmp_path / "model.pth"
    damaged.write_bytes(b"PK no weights")
    tab.add_model_file(str(damaged))
    run(qtbot, tab)
    assert "model.pth" in find(tab, "detect.status").text()
    assert find(tab, "detect.run").isEnabled()
    assert [layer.name for layer in viewer.layers] == ["cells"]


def test_every_control_has_a_tooltip_and_a_name(window: Any) -> None:
    _, tab = window
    names = "image model device scope score run cancel channel_axis channels normalization low high"
    names += " mask_threshold box_nms max_instances min_area engine precision labels_mode"
    for name in names.split():
        control = find(tab, f"detect.{name}")
        assert control is not None, name
        assert control.toolTip(), name


def test_first_run_after_the_window_is_open_does_not_crash() -> None:
    """Torch is loaded after Mesa here, as on a user's machine: that killed the process once."""
    script = textwrap.dedent(
        """
        import sys, time
        import napari, numpy as np
        from qtpy.QtWidgets import QApplication
        viewer = napari.Viewer()
        viewer.add_image(np.random.default_rng(0).integers(0, 255, (96, 96), np.uint8))
        QApplication.processEvents()
        from napari_deeppixel.widgets.dock import DeepPixelWidget
        # the widget itself looks for devices in a thread, and so loads torch by and by
        assert "torch" not in sys.modules
        widget = DeepPixelWidget(viewer)
        viewer.window.add_dock_widget(widget)
        widget.detect.findChild(object, "detect.run").click()
        until = time.monotonic() + 120
        while widget.detect.run.is_running and time.monotonic() < until:
            QApplication.processEvents()
        QApplication.processEvents()
        assert "torchvision" in sys.modules and not widget.detect.run.is_running
        print("status:", widget.detect.findChild(object, "detect.status").text())
        viewer.close()
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "instances in" in done.stdout


def test_slider_moved_during_a_run_counts_when_it_ends(
    window: Any, qtbot: Any, nuclei: np.ndarray
) -> None:
    viewer, tab = window
    viewer.add_image(nuclei, name="cells")
    find(tab, "detect.run").click()
    find(tab, "detect.score").setValue(0.9)
    wait_for_run(qtbot, tab)
    session = instance_layers_of(viewer.layers["cells"]).session
    qtbot.waitUntil(lambda: session.score == 0.9, timeout=5000)
    qtbot.waitUntil(lambda: not tab.run.steps.is_running, timeout=5000)
    assert (viewer.layers["cells boxes"].features["score"] >= 0.9).all()


def test_choosing_a_channel_axis_keeps_what_a_person_drew(
    window: Any, qtbot: Any, nuclei: np.ndarray
) -> None:
    viewer, tab = window
    viewer.add_image(np.stack([nuclei, nuclei]), name="two")
    run(qtbot, tab)
    viewer.layers["two instances"].data[0, :3, :3] = 500
    find(tab, "detect.channel_axis").setCurrentText("axis 0 (z, 2)")
    run(qtbot, tab)
    assert [layer.name for layer in viewer.layers] == ["two", "two instances", "two boxes"]
    states = instance_layers_of(viewer.layers["two"]).session.visible(()).states
    assert states.count(InstanceState.DRAWN) == 1
    assert viewer.layers["two instances"].data[0, 1, 1] > 0


def test_garbage_file_is_refused_when_it_is_chosen_with_its_name(
    window: Any, nuclei: np.ndarray, tmp_path: Any
) -> None:
    viewer, tab = window
    viewer.add_image(nuclei, name="cells")
    damaged = tmp_path / "model.safetensors"
    damaged.write_text("no weights")
    tab.add_model_file(str(damaged))
    assert "model.safetensors" in find(tab, "detect.model_error").text()
    assert not find(tab, "detect.run").isEnabled()
    tab.add_model_file(str(MODEL))
    assert find(tab, "detect.run").isEnabled()
    assert find(tab, "detect.score").value() == 0.6
    assert find(tab, "detect.box_nms").value() == 0.4


def test_view_of_rolled_axes_is_refused_with_a_reason(window: Any, nuclei: np.ndarray) -> None:
    viewer, tab = window
    viewer.add_image(np.stack([nuclei] * 3), name="stack")
    find(tab, "detect.scope").setCurrentText("View")
    viewer.dims.order = (1, 0, 2)
    find(tab, "detect.run").click()
    assert not tab.run.is_running
    assert "roll the axes back" in find(tab, "detect.status").text()


def test_image_that_lost_planes_keeps_human_work_on_the_others(
    window: Any, qtbot: Any, nuclei: np.ndarray
) -> None:
    viewer, tab = window
    image = viewer.add_image(np.stack([nuclei] * 3), name="stack")
    find(tab, "detect.scope").setCurrentText("Stack z (3 planes)")
    run(qtbot, tab)
    for z in (0, 2):
        viewer.layers["stack instances"].data[z, :3, :3] = 500 + z
    image.data = image.data[:2]
    run(qtbot, tab)
    session = instance_layers_of(image).session
    assert viewer.layers["stack instances"].data.shape == (2, *nuclei.shape)
    assert session.visible((0,)).states.count(InstanceState.DRAWN) == 1
    assert (2,) not in session.plane_indices
