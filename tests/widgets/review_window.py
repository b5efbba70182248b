"""The dock widget on a viewer, with a model that a person can check by eye, a mouse and keys."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer, Shapes
from napari.utils import interactions
from napari.utils._proxies import ReadOnlyWrapper
from napari.utils.key_bindings import coerce_keybinding
from numpy.typing import NDArray
from tests.fakes import ThresholdEngine

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import Instance
from napari_deeppixel.edits.session import AnnotationSession
from napari_deeppixel.viewer.layers import InstanceLayers
from napari_deeppixel.widgets.dock import DeepPixelWidget
from napari_deeppixel.widgets.review_tools import InstanceRef

TABLE = CategoryTable.from_names("cell", "debris")
HW = (60, 80)
# top left corners (y, x) of 10 x 10 px squares and their brightness, which is their score times
# 255; the last is a candidate below the score of 0.4
SQUARES = {"a": (10, 10, 250), "b": (10, 40, 220), "c": (40, 10, 180), "hidden": (40, 40, 100)}
TIMEOUT_MS = 20_000


def squares(*names: str) -> NDArray[np.uint8]:
    """Return an image (60, 80) with some of `SQUARES`; all if none is named."""
    pixels = np.zeros(HW, np.uint8)
    for y, x, value in (SQUARES[name] for name in names or SQUARES):
        pixels[y : y + 10, x : x + 10] = value
    return pixels


def use_engine(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> ThresholdEngine:
    """Let all models be a `ThresholdEngine`, and return it."""
    engine = ThresholdEngine(**({"threshold": 0.2, "categories": TABLE} | settings))
    monkeypatch.setattr("napari_deeppixel.engine.weights.load_model", lambda *_, **__: engine)
    return engine


class ReviewWindow:
    """The dock widget, shown beside a viewer.

    Parameters
    ----------
    qtbot
        Of pytest-qt.
    viewer
        None: a new one without a window of its own, which is quick.
    has_window
        Whether the viewer has a window, whose dock takes the widget.
    """

    def __init__(self, qtbot: Any, viewer: Any = None, *, has_window: bool = True) -> None:
        self.qtbot = qtbot
        self.viewer = ViewerModel() if viewer is None else viewer
        self.dock = DeepPixelWidget(self.viewer)
        self.review, self.detect = self.dock.review, self.dock.detect
        self.tools, self.journals = self.review.tools, self.dock.journals
        if viewer is None or not has_window:
            qtbot.addWidget(self.dock)
            self.dock.show()
        else:
            viewer.window.add_dock_widget(self.dock, name="DeepPixel")

    # -- layers -------------------------------------------------------------------------------

    def add(self, pixels: NDArray[Any], name: str = "im", **settings: Any) -> Image:
        """Add an image, and wait until its journal was looked for."""
        image = self.viewer.add_image(pixels, name=name, **settings)
        self.wait(lambda: self.journals._works[image].looked is not None)
        assert isinstance(image, Image)
        return image

    def labels(self, name: str = "im") -> Labels:
        layer = self.viewer.layers[f"{name} instances"]
        assert isinstance(layer, Labels)
        return layer

    def boxes(self, name: str = "im") -> Shapes:
        layer = self.viewer.layers[f"{name} boxes"]
        assert isinstance(layer, Shapes)
        return layer

    @property
    def view(self) -> InstanceLayers:
        assert self.review.view is not None
        return self.review.view

    @property
    def session(self) -> AnnotationSession:
        return self.view.session

    # -- running ------------------------------------------------------------------------------

    def wait(self, until: Any) -> None:
        self.qtbot.waitUntil(until, timeout=TIMEOUT_MS)

    def settle(self) -> None:
        """Wait until nothing is under way."""
        review, run = self.review, self.detect.run
        timers = (review._settle_timer, review._progress_timer, review.queue._timer)
        tasks = (review.queue._task, review.tools._task, review.prompts._task)
        self.wait(
            lambda: (
                not any(timer.isActive() for timer in timers)
                and not any(task.is_running for task in tasks)
                and not (run.is_running or run.steps.is_running or review.steps.is_running)
            )
        )

    def run(self, scope: str = "Whole plane") -> None:
        """Press Run, wait for the instances, and open Review."""
        box = self.find("detect.scope")
        box.setCurrentIndex(max(box.findText(scope), 0))
        self.find("detect.run").click()
        self.wait(lambda: not self.detect.run.is_running)
        self.open_review()

    def open_review(self) -> None:
        self.dock.tabs.setCurrentWidget(self.review)
        self.settle()

    # -- a person -----------------------------------------------------------------------------

    def find(self, name: str) -> Any:
        return self.dock.findChild(object, name)

    def press(self, command_id: str) -> None:
        """Click the button of a command."""
        self.review.panels.buttons[command_id].click()

    def key(self, key: str, layer: Layer | None = None) -> None:
        """Press a key on the active layer, or on another; it must have a meaning there."""
        layer = layer or self.viewer.layers.selection.active
        assert layer is not None
        layer.keymap[coerce_keybinding(key)](layer)

    def has_key(self, key: str) -> bool:
        layer = self.viewer.layers.selection.active
        return layer is not None and coerce_keybinding(key) in layer.keymap

    def drag(self, *places_yx: tuple[float, float], modifiers: tuple[str, ...] = ()) -> None:
        """Press the mouse at the first place in the image, move to the others, and let go."""
        self._send("press", places_yx[0], modifiers)
        for place in places_yx[1:]:
            self._send("move", place, modifiers)
        self._send("release", places_yx[-1], modifiers)

    def click(self, y: float, x: float, *modifiers: str) -> None:
        self.drag((y, x), modifiers=modifiers)

    def draw(self, key: str, *places_yx: tuple[float, float]) -> None:
        """Press the key of a tool, and draw."""
        self.key(key)
        self.drag(*places_yx)

    def _send(self, kind: str, yx: tuple[float, float], modifiers: tuple[str, ...]) -> None:
        layer, dims = self.viewer.layers.selection.active, self.viewer.dims
        assert layer is not None
        lead = np.asarray(layer.world_to_data(dims.point))[:-2]
        event = SimpleNamespace(
            type=f"mouse_{kind}",
            position=layer.data_to_world((*lead, *yx)),
            # ten canvas pixels to one of the image
            pos=np.array(yx[::-1]) * 10,
            button=1,
            modifiers=modifiers,
            is_dragging=kind == "move",
            handled=False,
            view_direction=None,
            dims_displayed=list(dims.displayed),
        )
        run = getattr(interactions, f"mouse_{kind}_callbacks")
        for receiver in (self.viewer, layer):
            run(receiver, ReadOnlyWrapper(event, exceptions=("handled",)))

    def stroke(self, *places_yx: tuple[float, float], number: int, size: int = 3) -> None:
        """Paint with a brush."""
        labels = self.labels()
        self.viewer.layers.selection.active = labels
        labels.selected_label, labels.brush_size, labels.mode = number, size, "paint"
        self.drag(*places_yx)
        labels.mode = "pan_zoom"

    # -- what there is ------------------------------------------------------------------------

    def at(self, y: int, x: int) -> Instance:
        """Return the instance that is drawn at a pixel of the current plane."""
        labels = self.labels(self.view.image.name)
        lead = self.view.planes.data_index(self.view.planes.current() or ())
        found = self.session.find(int(labels.data[(*lead, y, x)]))
        assert found is not None
        return found[1]

    def get(self, ref: InstanceRef) -> Instance:
        instance = self.session.get(*ref)
        assert instance is not None
        return instance

    def ref(self, name: str) -> InstanceRef:
        """Return the instance of one of `SQUARES` on the only plane."""
        y, x, _ = SQUARES[name]
        return (), self.at(y + 5, x + 5).uuid

    def states(self) -> dict[str, int]:
        return {s.value: n for s, n in self.session.count_states().items() if n}

    @property
    def status(self) -> str:
        return str(self.review.panels.status.text())

    @property
    def selected(self) -> list[InstanceRef]:
        return self.tools.selected
