"""The Live tab in a real napari window, which draws, with the shipped model."""

import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from napari.layers import Image, Labels, Vectors
from tests.live.moving_nuclei import VIDEO, read_truth
from tests.widgets.review_window import use_engine

from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.widgets.dock import DeepPixelWidget
from napari_deeppixel.widgets.live_run import Shown

TIMEOUT_MS = 60_000


@pytest.fixture
def window(
    make_napari_viewer_proxy: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, DeepPixelWidget]:
    """A window that is shown, with the dock; the viewer is what plugins get, a proxy."""
    # whatever cameras this computer has
    monkeypatch.setattr("napari_deeppixel.widgets.live_sources.list_sources", lambda: ())
    viewer = make_napari_viewer_proxy(show=True)
    dock = DeepPixelWidget(viewer)
    viewer.window.add_dock_widget(dock, name="DeepPixel")
    dock.tabs.setCurrentWidget(dock.live)
    return viewer, dock


def start(dock: DeepPixelWidget, address: str) -> None:
    dock.live.source.choose(address)
    dock.live.findChild(object, "live.start").click()


def live_threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("deeppixel ")]


def num_found(found: InstanceSet, truth: InstanceSet, *, least_iou: float = 0.5) -> int:
    """Return how many objects of the truth some instance covers at an IoU or more."""
    return sum(any(mask.iou(one) >= least_iou for one in found.masks) for mask in truth.masks)


def test_nuclei_of_the_sample_video_get_masks_and_boxes_where_they_are(
    window: tuple[Any, DeepPixelWidget], qtbot: Any
) -> None:
    viewer, dock = window
    shown = dock.live.findChild(object, "live.shown")
    shown.setCurrentIndex(shown.findData(Shown.MATCHED))
    start(dock, str(VIDEO))
    run = dock.live.run
    qtbot.waitUntil(
        lambda: run.last is not None and run.figures().num_draws > 0, timeout=TIMEOUT_MS
    )
    run.stop()
    qtbot.waitUntil(lambda: not live_threads(), timeout=TIMEOUT_MS)

    assert run.last is not None
    instances, frame = run.last.instances, run.last.frame
    image, labels, boxes = (
        next(layer for layer in viewer.layers if isinstance(layer, kind))
        for kind in (Image, Labels, Vectors)
    )
    assert np.array_equal(image.data, frame.pixels)
    for mask in instances.masks:
        assert (labels.data[mask.slices][mask.pixels] > 0).all()
    assert np.count_nonzero(labels.data) <= instances.areas.sum()
    assert len(boxes.data) == 4 * len(instances)
    truths = read_truth()
    truth = truths[frame.number % len(truths)]
    # 22 nuclei and less, some of them at the edge or under others
    assert num_found(instances, truth) >= 0.7 * len(truth)
    assert len(instances) <= 1.3 * len(truth)


def test_boxes_are_drawn_in_3d_as_well(
    window: tuple[Any, DeepPixelWidget], qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_engine(monkeypatch)
    viewer, dock = window
    start(dock, "demo")
    run = dock.live.run
    qtbot.waitUntil(
        lambda: run.last is not None and len(run.last.instances) > 0, timeout=TIMEOUT_MS
    )
    run.stop()
    boxes = next(layer for layer in viewer.layers if isinstance(layer, Vectors))
    boxes.edge_color, boxes.opacity = "#ff00ff", 1.0
    shares = []
    for ndisplay in (2, 3):
        viewer.dims.ndisplay = ndisplay
        viewer.reset_view()
        picture = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
        shares.append(np.count_nonzero(abs(picture - [255, 0, 255]).sum(axis=2) < 60))
    viewer.dims.ndisplay = 2
    assert shares[0] > 50
    assert shares[1] > shares[0] / 2


def test_a_viewer_that_is_closed_while_live_leaves_no_thread(
    window: tuple[Any, DeepPixelWidget], qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_engine(monkeypatch)
    viewer, dock = window
    start(dock, "demo")
    qtbot.waitUntil(lambda: dock.live.run.last is not None, timeout=TIMEOUT_MS)
    assert live_threads() == ["deeppixel model", "deeppixel grabber"]
    viewer.close()
    qtbot.waitUntil(lambda: not live_threads(), timeout=1000)


def test_a_process_whose_viewer_is_closed_while_live_ends_in_silence() -> None:
    """As on a user's machine: the window is there before torch, and the model is at work."""
    script = textwrap.dedent(
        """
        import time
        import napari
        from qtpy.QtWidgets import QApplication
        viewer = napari.Viewer()
        QApplication.processEvents()
        from napari_deeppixel.widgets.dock import DeepPixelWidget
        dock = DeepPixelWidget(viewer)
        viewer.window.add_dock_widget(dock)
        dock.live.source.choose("demo")
        # small frames, so that the model is quick
        dock.live.findChild(object, "live.size").setCurrentIndex(1)
        dock.live.findChild(object, "live.start").click()
        until = time.monotonic() + 60
        while time.monotonic() < until:
            QApplication.processEvents()
            time.sleep(0.01)
            figures = dock.live.run.figures()
            if figures.num_results > 0 and figures.num_draws > 5:
                break
        print(figures.num_results, "results,", figures.num_draws, "draws")
        viewer.close()
        """
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    num_results, _, num_draws, _ = done.stdout.split()
    assert int(num_results) > 0
    assert int(num_draws) > 5
    assert not unexpected(done.stderr)


def unexpected(stderr: str) -> list[str]:
    """Return the lines that a person should not see; Mesa's and Qt's remarks on xvfb are known."""
    known = ("libEGL warning", "MESA", "QStandardPaths: XDG_RUNTIME_DIR", "qt.qpa.")
    return [line for line in stderr.splitlines() if line.strip() and not line.startswith(known)]
