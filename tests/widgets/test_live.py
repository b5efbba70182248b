"""The Live tab on a viewer, with sources that a test feeds."""

import itertools
import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels, Tracks, Vectors
from tests.fakes import ThresholdEngine
from tests.live.scripted import ScriptedSource
from tests.widgets.review_window import TABLE, TIMEOUT_MS, squares, use_engine

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.dataset.annotated import ImageState
from napari_deeppixel.dataset.formats.coco import read_coco
from napari_deeppixel.dataset.store import Dataset
from napari_deeppixel.live.av_devices import CameraFormat
from napari_deeppixel.live.registry import CameraProvider
from napari_deeppixel.live.source import SourceError, SourceFault, SourceInfo
from napari_deeppixel.live.status import LiveState
from napari_deeppixel.viewer.live_layers import MATCHED_COLOR, OLDER_COLOR
from napari_deeppixel.widgets.controls import RED
from napari_deeppixel.widgets.dock import DeepPixelWidget
from napari_deeppixel.widgets.live_run import Shown


class LiveWindow:
    """The dock widget beside a viewer, with a source that plays a script."""

    def __init__(self, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.qtbot, self._monkeypatch = qtbot, monkeypatch
        monkeypatch.setattr("napari_deeppixel.widgets.live_sources.list_sources", lambda: ())
        self.viewer = ViewerModel()
        self.dock = DeepPixelWidget(self.viewer)
        qtbot.addWidget(self.dock)
        self.dock.show()
        self.live, self.run = self.dock.live, self.dock.live.run
        self.dock.tabs.setCurrentWidget(self.live)

    def wait(self, until: Any) -> None:
        self.qtbot.waitUntil(until, timeout=TIMEOUT_MS)

    def find(self, name: str) -> Any:
        return self.dock.findChild(object, name)

    def play(self, *scripts: Any, **settings: Any) -> ScriptedSource:
        """Start a source that plays these scripts."""
        source = ScriptedSource(*scripts, **settings)
        self._monkeypatch.setattr("napari_deeppixel.widgets.live.create_source", lambda *_: source)
        self.find("live.start").click()
        return source

    def stop(self) -> None:
        if self.run.is_running:
            self.find("live.start").click()
        self.wait(lambda: not self.run._timer.isActive())

    @property
    def status(self) -> str:
        return str(self.find("live.status").text())

    def layer(self, kind: type) -> Any:
        (layer,) = [each for each in self.viewer.layers if type(each) is kind]
        return layer


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> ThresholdEngine:
    return use_engine(monkeypatch)


@pytest.fixture
def window(
    qtbot: Any,
    monkeypatch: pytest.MonkeyPatch,
    engine: ThresholdEngine,  # noqa: ARG001  in place before a model is loaded
) -> Iterator[LiveWindow]:
    made = LiveWindow(qtbot, monkeypatch)
    yield made
    made.stop()
    assert not [t for t in threading.enumerate() if t.name.startswith("deeppixel ")]
    made.dock.close()


def endless(*frames: Any) -> list[Any]:
    """Return a script that ends with a wait for nothing."""
    return [*frames, threading.Event()]


def moving() -> Iterator[Any]:
    """Yield frames for ever, at 100 a second at most, no two alike."""
    pause = threading.Event()
    for number in itertools.count():
        pause.wait(0.01)
        frame = squares("ab"[number % 2])
        # too dark for an instance
        frame[0, :2] = divmod(number % 1600, 40)
        yield frame


def test_a_frame_is_shown_with_its_instances_as_layers(window: LiveWindow) -> None:
    window.play(moving())
    window.wait(lambda: window.run.last is not None)
    image, labels, boxes = (window.layer(kind) for kind in (Image, Labels, Vectors))
    window.stop()
    assert image.name == "test camera"
    assert image.data.shape == labels.data.shape == (60, 80)
    assert np.count_nonzero(labels.data) == 100
    assert len(boxes.data) == 4
    assert not labels.editable


def test_masks_and_boxes_lie_on_the_frame_that_is_shown(window: LiveWindow) -> None:
    window.find("live.shown").setCurrentIndex(window.find("live.shown").findData(Shown.MATCHED))
    window.play(moving())
    window.wait(lambda: window.run.pipeline.figures().num_results > 5)
    window.stop()
    image, labels, boxes = (window.layer(kind) for kind in (Image, Labels, Vectors))
    assert np.array_equal(labels.data > 0, image.data > 40)
    y, x = np.nonzero(image.data > 40)
    assert boxes.data[:, 0].min(axis=0).tolist() == [y.min() - 0.5, x.min() - 0.5]
    assert boxes.edge_color[0].tolist()[:3] == pytest.approx(rgb(MATCHED_COLOR))


def rgb(color: str) -> list[float]:
    return [int(color[n : n + 2], 16) / 255 for n in (1, 3, 5)]


def test_instances_of_an_earlier_frame_are_amber_and_told(
    window: LiveWindow, engine: ThresholdEngine
) -> None:
    window.find("live.shown").setCurrentIndex(window.find("live.shown").findData(Shown.NEWEST))
    window.play(moving())
    window.wait(lambda: window.run.last is not None)
    hold = threading.Event()
    engine._hold = hold
    window.wait(lambda: "older than the frame" in window.status)
    color = window.layer(Vectors).edge_color[0].tolist()[:3]
    hold.set()
    assert color == pytest.approx(rgb(OLDER_COLOR))


def test_a_source_that_cannot_be_opened_says_why(window: LiveWindow) -> None:
    missing = SourceError("no camera 7: choose another", fault=SourceFault.MISSING)
    window.play([missing])
    window.wait(
        lambda: window.status == "no camera 7: choose another" and not window.run.is_running
    )
    assert window.run.status.state is LiveState.FAILED
    assert window.find("live.start").text() == "Start"


def test_a_lost_camera_is_waited_for_and_shown_again(window: LiveWindow) -> None:
    lost = SourceError("the camera is unplugged", fault=SourceFault.LOST)
    source = window.play([squares("a"), lost], [lost], endless(squares("b")))
    window.wait(lambda: source.num_opened >= 3)
    window.wait(lambda: window.layer(Image).data[15, 45] > 0)


def test_the_camera_goes_on_while_a_frame_is_corrected(window: LiveWindow) -> None:
    window.play(moving())
    window.wait(lambda: window.run.last is not None)
    window.find("live.freeze").click()
    window.wait(lambda: not window.dock.detect.run.steps.is_running)
    assert window.dock.tabs.currentWidget() is window.dock.review
    frozen = window.dock.detect.image_layer
    assert frozen is not None
    assert frozen.name.startswith("test camera")
    view = window.dock.review.view
    assert view is not None
    assert view.image == frozen
    assert view.num_visible == 1
    before = window.run.pipeline.figures().num_frames
    window.wait(lambda: window.run.pipeline.figures().num_frames > before + 5)
    live = window.viewer.layers["test camera"]
    assert not live.visible
    window.dock.tabs.setCurrentWidget(window.live)
    assert window.find("live.freeze").text() == "Back to live"
    window.find("live.freeze").click()
    assert live.visible


def test_another_model_is_used_without_a_stop(
    window: LiveWindow, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = window.play(moving())
    window.wait(lambda: window.run.last is not None)
    other = ThresholdEngine(threshold=0.95, categories=TABLE)
    other._spec = type(other._spec)(**{**other._spec.__dict__, "name": "other"})
    monkeypatch.setattr("napari_deeppixel.engine.weights.load_model", lambda *_, **__: other)
    window.find("live.model").setCurrentIndex(1)
    window.wait(lambda: bool(other.calls))
    assert source.num_opened == 1
    assert window.run.is_running


def test_a_deleted_live_layer_ends_the_run_with_its_reason(window: LiveWindow) -> None:
    window.play(moving())
    window.wait(lambda: window.run.last is not None)
    window.viewer.layers.remove("test camera")
    window.wait(lambda: not window.run.is_running)
    assert "the live layer was deleted" in window.status


def test_a_deleted_mask_layer_stays_away_and_the_frames_go_on(window: LiveWindow) -> None:
    window.play(moving())
    window.wait(lambda: window.run.last is not None)
    window.viewer.layers.remove("test camera live instances")
    drawn = window.run.pipeline.figures().num_draws
    window.wait(lambda: window.run.pipeline.figures().num_draws > drawn + 3)
    assert not [each for each in window.viewer.layers if isinstance(each, Labels)]


def test_a_size_or_type_that_changes_in_mid_stream_is_followed(window: LiveWindow) -> None:
    grey16 = (squares("a").astype(np.uint16) * 200)[:40]
    color = np.stack([squares("b")] * 3, axis=2)
    steps = [threading.Event() for _ in range(3)]
    window.play([squares("a"), steps[0], grey16, steps[1], color, steps[2]])
    window.wait(lambda: len(window.viewer.layers) >= 3)
    assert window.layer(Image).data.shape == (60, 80)
    steps[0].set()
    window.wait(lambda: window.layer(Image).data.shape == (40, 80))
    assert window.layer(Image).data.dtype == np.uint16
    steps[1].set()
    window.wait(lambda: window.layer(Image).rgb)
    assert window.layer(Image).data.shape == (60, 80, 3)
    assert window.run.is_running


def test_a_model_that_fails_leaves_the_camera_running(
    window: LiveWindow, engine: ThresholdEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(engine, "predict", fail)
    window.play(moving())
    window.wait(lambda: "No more instances: " in window.find("live.model_note").text())
    assert "out of luck" in window.find("live.model_note").text()
    before = window.run.pipeline.figures().num_frames
    window.wait(lambda: window.run.pipeline.figures().num_frames > before + 5)


def test_a_frame_is_saved_with_its_instances(window: LiveWindow, tmp_path: Path) -> None:
    window.live.keep.set_folder(tmp_path)
    window.play(endless(squares("a")))
    window.wait(lambda: window.run.last is not None)
    window.find("live.save").click()
    window.wait(lambda: "1 saved" in window.find("live.keep_note").text())
    (path,) = tmp_path.glob("*_coco.json")
    (saved,) = read_coco(path)
    assert saved.instances.boxes_xyxy.tolist() == [[10, 10, 20, 20]]


def test_a_frame_goes_into_the_dataset_that_is_open(window: LiveWindow, tmp_path: Path) -> None:
    dataset = Dataset.create(tmp_path / "set", categories=CategoryTable.from_names("disc"))
    told = []
    window.dock.datasets.images_changed.connect(lambda: told.append(1))
    assert window.find("live.save").text() == "Save frame"
    window.dock.datasets.set_dataset(dataset)
    assert window.find("live.save").text() == "Save to dataset"
    window.play(endless(squares("a")))
    window.wait(lambda: window.run.last is not None)
    window.find("live.save").click()
    window.wait(lambda: "1 saved" in window.find("live.keep_note").text())
    (entry,) = dataset.entries()
    assert entry.state is ImageState.DRAFT
    assert told


def test_a_recording_begins_and_ends_with_its_button(window: LiveWindow, tmp_path: Path) -> None:
    window.live.keep.set_folder(tmp_path)
    window.play(moving())
    window.wait(lambda: window.run.last is not None)
    button = window.find("live.record")
    button.click()
    assert button.text() == "Stop recording"
    recorder = window.live.keep._recorder
    window.wait(lambda: recorder.stats.results > 3)
    button.click()
    window.wait(lambda: not recorder.is_alive)
    assert (recorder.folder / "instances.json").exists()
    assert (recorder.folder / "video.mp4").stat().st_size > 0


def test_frames_save_themselves_up_to_the_limit(window: LiveWindow, tmp_path: Path) -> None:
    window.live.keep.set_folder(tmp_path)
    kinds = window.find("live.capture")
    kinds.setCurrentIndex(kinds.findData("interval"))
    window.find("live.every").setValue(0.5)
    window.find("live.limit").setValue(2)
    window.play(moving())
    window.wait(lambda: "the limit is reached" in window.find("live.keep_note").text())
    assert len(list(tmp_path.glob("*_coco.json"))) == 2


def test_a_layer_that_something_else_updates_is_a_source(window: LiveWindow) -> None:
    theirs = window.viewer.add_image(squares("a"), name="preview")
    box = window.find("live.source")
    box.setCurrentIndex(box.findText("layer: preview"))
    window.find("live.start").click()
    window.wait(lambda: window.run.last is not None)
    theirs.data = squares("b")
    window.wait(lambda: window.run.last.frame.pixels[15, 45] > 0)
    window.wait(lambda: np.count_nonzero(window.layer(Labels).data[10:20, 40:50]) == 100)
    # as plugins do when the size changes
    window.viewer.layers.remove(theirs)
    window.viewer.add_image(squares("c"), name="preview")
    window.wait(lambda: window.run.last.frame.pixels[45, 15] > 0)
    window.viewer.layers.remove("preview")
    window.wait(lambda: not window.run.is_running)
    assert "preview was deleted" in window.status


def test_closing_the_dock_stops_everything(window: LiveWindow) -> None:
    source = window.play(moving())
    window.wait(lambda: window.run.last is not None)
    window.dock.setParent(None)
    window.dock.close()
    window.wait(lambda: source.num_closed == source.num_opened)
    window.wait(lambda: not [t for t in threading.enumerate() if t.name.startswith("deeppixel ")])


def test_tracks_of_the_last_seconds_become_a_layer(window: LiveWindow) -> None:
    window.play(moving())
    window.wait(lambda: window.run.pipeline.figures().num_results > 4)
    window.find("live.tracks").click()
    tracks = window.layer(Tracks)
    assert tracks.name == "test camera tracks"
    steps = np.unique(tracks.data[:, 1])
    assert steps.tolist() == list(range(len(steps)))
    # centres of the squares a and b
    assert {tuple(row) for row in tracks.data[:, 2:].tolist()} <= {(14.5, 14.5), (14.5, 44.5)}


def test_a_cameras_formats_are_offered_and_used(
    window: LiveWindow, monkeypatch: pytest.MonkeyPatch
) -> None:
    formats = (CameraFormat(codec="mjpeg", sizes_hw=((480, 640), (720, 1280))),)
    monkeypatch.setattr(CameraProvider, "list_formats", lambda *_: formats)
    window.live.source.choose("/dev/video7")
    sizes = window.find("live.size")
    window.wait(lambda: sizes.findText("1280 x 720 (mjpeg)") > 0)
    sizes.setCurrentIndex(sizes.findText("1280 x 720 (mjpeg)"))
    asked: list[Any] = []

    def create(*what: Any) -> ScriptedSource:
        asked.extend(what)
        return ScriptedSource(endless())

    monkeypatch.setattr("napari_deeppixel.widgets.live.create_source", create)
    window.find("live.start").click()
    assert asked[0] == "/dev/video7"
    assert asked[1].size_hw == (720, 1280)
    assert dict(asked[1].extra) == {"input_format": "mjpeg"}
    window.live.source.choose("demo")
    assert sizes.findText("1280 x 720 (mjpeg)") < 0


def test_figures_tell_how_busy_the_device_is(window: LiveWindow) -> None:
    window.play(moving())
    window.wait(lambda: "CPU" in window.find("live.figures").text())


def test_all_boxes_have_one_colour_when_there_are_more_of_them(window: LiveWindow) -> None:
    shown = window.find("live.shown")
    shown.setCurrentIndex(shown.findData(Shown.MATCHED))
    more = threading.Event()
    window.play([squares("a"), more, squares("a", "b", "c"), threading.Event()])
    window.wait(lambda: window.run.last is not None)
    window.run._layers._is_older = True
    window.layer(Vectors).edge_color = OLDER_COLOR
    more.set()
    window.wait(lambda: len(window.layer(Vectors).data) == 12)
    colors = {tuple(color) for color in window.layer(Vectors).edge_color[:, :3].round(3).tolist()}
    assert colors == {tuple(np.round(rgb(MATCHED_COLOR), 3))}


def test_a_model_that_failed_is_asked_again_when_it_is_chosen_again(
    window: LiveWindow, engine: ThresholdEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:

        def fail(*_: Any, **__: Any) -> Any:
            raise RuntimeError("out of luck")

        patch.setattr(engine, "predict", fail)
        window.play(moving())
        window.wait(lambda: "No more instances: " in window.find("live.model_note").text())
    window.find("live.model").activated.emit(window.find("live.model").currentIndex())
    window.wait(lambda: window.run.last is not None)


def test_a_second_start_uses_the_layers_of_the_first(window: LiveWindow) -> None:
    window.play(moving())
    window.wait(lambda: window.run.last is not None)
    before = list(window.viewer.layers)
    window.stop()
    window.play(moving())
    window.wait(lambda: window.run.last is not None)
    assert list(window.viewer.layers) == before
    assert all(layer.visible for layer in before)


def test_the_layers_of_another_source_are_hidden(window: LiveWindow) -> None:
    window.play(moving())
    window.wait(lambda: window.run.last is not None)
    before = list(window.viewer.layers)
    window.stop()
    other = SourceInfo(address="other", label="other camera", kind="camera")
    window.play(moving(), info=other)
    window.wait(lambda: window.run.last is not None)
    assert not any(layer.visible for layer in before)
    assert len(window.viewer.layers) == 6


def test_back_to_live_shows_live_and_the_keys_of_review_work_at_once(window: LiveWindow) -> None:
    window.play(moving())
    window.wait(lambda: window.run.last is not None)
    window.find("live.freeze").click()
    window.wait(lambda: not window.dock.detect.run.steps.is_running)
    view = window.dock.review.view
    assert window.viewer.layers.selection.active == view.labels_layers[0]
    window.dock.tabs.setCurrentWidget(window.live)
    window.find("live.freeze").click()
    assert not view.image.visible
    assert not any(layer.visible for layer in view.layers)
    assert window.viewer.layers["test camera"].visible


def test_masks_follow_a_layer_that_is_turned_and_moved(window: LiveWindow) -> None:
    theirs = window.viewer.add_image(
        squares("a"),
        name="preview",
        scale=(2, 3),
        translate=(5, 7),
        rotate=30,
        affine=np.diag([2, 2, 1]),
    )
    box = window.find("live.source")
    box.setCurrentIndex(box.findText("layer: preview"))
    window.find("live.start").click()
    window.wait(lambda: window.run.last is not None)
    labels = window.layer(Labels)
    for corner in ((0, 0), (60, 80)):
        assert np.allclose(labels.data_to_world(corner), theirs.data_to_world(corner))


def test_masks_lie_on_a_layer_that_was_put_away_and_added_anew(window: LiveWindow) -> None:
    window.viewer.add_image(squares("a"), name="preview")
    box = window.find("live.source")
    box.setCurrentIndex(box.findText("layer: preview"))
    window.find("live.start").click()
    window.wait(lambda: window.run.last is not None)
    window.viewer.layers.remove("preview")
    anew = window.viewer.add_image(squares("b"), name="preview", scale=(2, 2))
    window.wait(lambda: window.run.last.frame.pixels[15, 45] > 0)
    labels = window.layer(Labels)
    window.wait(lambda: np.allclose(labels.scale, 2))
    assert window.viewer.layers.index(labels) > window.viewer.layers.index(anew)
    assert box.currentText() == "layer: preview"


def test_why_a_start_failed_stays_to_be_read(window: LiveWindow) -> None:
    window.live.source.choose("/nonexistent/video.mp4")
    window.find("live.start").click()
    window.live._look()
    assert "/nonexistent/video.mp4" in window.status


def test_a_frame_that_was_not_saved_is_told_until_one_is_or_the_next_start(
    window: LiveWindow, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    window.live.keep.set_folder(tmp_path / "file")
    window.play(endless(squares("a")))
    window.wait(lambda: window.run.last is not None)
    note = window.find("live.keep_note")

    def save() -> None:
        window.find("live.save").click()

    save()
    window.wait(lambda: note.text().startswith("not saved: "))
    assert RED in note.styleSheet()
    window.live.keep.set_folder(tmp_path)
    save()
    window.wait(lambda: note.text().startswith("1 saved"))
    assert note.styleSheet() == ""
    window.live.keep.set_folder(tmp_path / "file")
    save()
    window.wait(lambda: note.text().startswith("not saved: "))
    window.stop()
    window.play(endless(squares("a")))
    assert (note.text(), note.styleSheet()) == ("", "")


@pytest.mark.parametrize(
    ("video", "counted"),
    [("raw", r"recorded [\d,]+ film frames in "), ("none", r"recorded [\d,]+ results in ")],
)
def test_a_recording_says_what_it_counts(
    window: LiveWindow, tmp_path: Path, video: str, counted: str
) -> None:
    window.live.keep.set_folder(tmp_path)
    videos = window.find("live.video")
    videos.setCurrentIndex(videos.findData(video))
    window.play(moving())
    window.wait(lambda: window.run.last is not None)
    window.find("live.record").click()
    recorder = window.live.keep._recorder
    window.wait(lambda: recorder.stats.results > 3)
    window.find("live.record").click()
    note = window.find("live.record_note")
    window.wait(lambda: note.text().startswith("recorded "))
    assert re.match(counted, note.text())
    (number,) = re.findall(r"recorded ([\d,]+)", note.text())
    stats = recorder.stats
    assert int(number) == (stats.film_frames if video == "raw" else stats.results)
    about = json.loads((recorder.folder / "recording.json").read_text())
    assert about["results"] == stats.results


# the score ---------------------------------------------------------------------------------------


def held(window: LiveWindow, engine: ThresholdEngine) -> threading.Event:
    """Wait for a result with one instance of two, then let the model hang; return what ends that.

    The other one is a candidate, its score 0.39.
    """
    window.find("live.score").setValue(0.6)
    window.play(itertools.repeat(squares("a", "hidden")))
    window.wait(lambda: window.run.last is not None)
    hold = threading.Event()
    engine._hold = hold
    window.wait(engine.is_inside.is_set)
    # the results of before are on the screen
    window.wait(lambda: window.run.pipeline.results.num_put > 0)
    window.wait(lambda: window.run.pipeline.results.wait_until_empty(0))
    return hold


def shown_numbers(window: LiveWindow) -> list[int]:
    return [n for n in np.unique(window.layer(Labels).data).tolist() if n]


def test_the_score_filters_what_is_shown_at_once_however_slow_the_model_is(
    window: LiveWindow, engine: ThresholdEngine
) -> None:
    hold = held(window, engine)
    (tracked,) = shown_numbers(window)
    num_calls = len(engine.calls)
    window.find("live.score").setValue(0.3)
    both = shown_numbers(window)
    assert len(both) == 2
    assert tracked in both
    assert len(window.layer(Vectors).data) == 8
    window.find("live.score").setValue(0.99)
    assert shown_numbers(window) == []
    window.find("live.score").setValue(0.3)
    assert shown_numbers(window) == both
    assert len(engine.calls) == num_calls
    # the next results give them the same numbers
    results = window.run.pipeline.figures().num_results
    hold.set()
    window.wait(lambda: window.run.pipeline.figures().num_results > results + 3)
    window.wait(lambda: len(window.run.last.instances) == 2)
    assert sorted(window.run.last.instances.handles.tolist()) == both


def test_another_magnification_holds_from_the_next_frame_on(
    window: LiveWindow, engine: ThresholdEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    zooms: list[float | None] = []
    predict = engine.predict

    def noting(planes: Any, options: Any, **others: Any) -> Any:
        zooms.append(options.zoom)
        return predict(planes, options, **others)

    monkeypatch.setattr(engine, "predict", noting)
    window.play(itertools.repeat(squares("a")))
    window.wait(lambda: None in zooms)
    window.find("live.zoom").setValue(0.5)
    window.wait(lambda: 0.5 in zooms)


def test_the_score_filters_what_is_shown_after_a_stop(window: LiveWindow) -> None:
    window.find("live.score").setValue(0.6)
    window.play(endless(squares("a", "hidden")))
    window.wait(lambda: window.run.last is not None)
    window.stop()
    (tracked,) = shown_numbers(window)
    window.find("live.score").setValue(0.3)
    assert len(shown_numbers(window)) == 2
    assert tracked in shown_numbers(window)
    window.find("live.score").setValue(0.6)
    assert shown_numbers(window) == [tracked]


def test_a_result_that_was_in_work_when_the_score_changed_comes_with_the_new_one(
    window: LiveWindow, engine: ThresholdEngine
) -> None:
    hold = held(window, engine)
    # the model's thread has read its options
    window.run.pipeline.set_options = lambda _: None
    window.find("live.score").setValue(0.3)
    before = window.run.last
    hold.set()
    window.wait(lambda: window.run.last.frame is not before.frame)
    assert len(window.run.last.instances) == 2


# freezing ----------------------------------------------------------------------------------------


def test_a_frozen_frame_keeps_numbers_and_colours(window: LiveWindow) -> None:
    window.find("live.score").setValue(0.6)
    gate = threading.Event()
    window.play([squares("c"), gate, squares("a", "b", "c", "hidden"), threading.Event()])
    window.wait(lambda: window.run.last is not None)
    gate.set()
    window.wait(lambda: len(window.run.last.instances) == 3)
    live = window.layer(Labels)
    before = {int(live.data[y, x]) for y, x in ((15, 15), (15, 45), (45, 15))}
    colors = {n: live.get_color(n).tolist() for n in before}
    numbers = [int(live.data[y, x]) for y, x in ((15, 15), (15, 45), (45, 15))]
    window.find("live.freeze").click()
    window.wait(lambda: not window.dock.detect.run.steps.is_running)
    view = window.dock.review.view
    (frozen,) = view.labels_layers
    assert [int(frozen.data[y, x]) for y, x in ((15, 15), (15, 45), (45, 15))] == numbers
    assert {n: frozen.get_color(n).tolist() for n in before} == colors
    # by score, the order of a run of its own would be a, b, c
    assert numbers[2] == 1
    # the hidden candidate is there, too, and gets a number that nothing has
    view.session.set_visibility(score=0.3, min_area=1)
    assert int(frozen.data[45, 45]) == max(before) + 1


def test_one_frame_frozen_twice_gives_instances_of_their_own(window: LiveWindow) -> None:
    window.play(endless(squares("a")))
    window.wait(lambda: window.run.last is not None)
    uuids = set()
    for _ in range(2):
        window.find("live.freeze").click()
        window.wait(lambda: not window.dock.detect.run.steps.is_running)
        uuids.update(window.dock.review.view.session.plane(()).uuids)
        window.dock.tabs.setCurrentWidget(window.live)
        window.find("live.freeze").click()
    assert len(uuids) == 2


def test_the_freeze_button_follows_the_eyes_of_the_layers(window: LiveWindow) -> None:
    window.play(moving())
    window.wait(lambda: window.run.last is not None)
    button = window.find("live.freeze")
    button.click()
    window.wait(lambda: not window.dock.detect.run.steps.is_running)
    assert button.text() == "Back to live"
    window.viewer.layers["test camera"].visible = True
    assert button.text() == "Freeze and correct"
    for name in ("test camera", "test camera live instances", "test camera live boxes"):
        window.viewer.layers[name].visible = False
    assert button.text() == "Back to live"
    window.stop()
    window.viewer.layers["test camera"].visible = True
    assert button.text() == "Freeze and correct"


# what is old -------------------------------------------------------------------------------------


def test_old_instances_are_faint_and_told_in_auto(
    window: LiveWindow, engine: ThresholdEngine
) -> None:
    window.play(moving())
    window.wait(lambda: window.run.last is not None)
    hold = threading.Event()
    engine._hold = hold
    window.wait(lambda: window.run.lag_s > 1.6)
    window.wait(lambda: window.layer(Labels).opacity < 0.2)
    window.live._look()
    status = window.status
    hold.set()
    assert status.startswith("live · instances (amber, fading) are ")
    window.wait(lambda: window.layer(Labels).opacity == 0.5)


def test_instances_on_a_layer_that_went_on_are_amber(
    window: LiveWindow, engine: ThresholdEngine
) -> None:
    theirs = window.viewer.add_image(squares("a"), name="preview")
    box = window.find("live.source")
    box.setCurrentIndex(box.findText("layer: preview"))
    window.find("live.start").click()
    window.wait(lambda: window.run.last is not None)
    hold = threading.Event()
    engine._hold = hold
    # what is less than 0.3 s older is not called old
    window.wait(lambda: time.monotonic() - window.run.last.frame.grabbed_s > 0.4)
    theirs.data = squares("b")
    window.wait(lambda: color_of_boxes(window) == pytest.approx(rgb(OLDER_COLOR)))
    hold.set()
    window.wait(lambda: color_of_boxes(window) == pytest.approx(rgb(MATCHED_COLOR)))


def color_of_boxes(window: LiveWindow) -> list[float]:
    color: list[float] = window.layer(Vectors).edge_color[0].tolist()[:3]
    return color


def test_instances_of_a_camera_that_stands_still_are_drawn(window: LiveWindow) -> None:
    window.play(endless(squares("a")))
    window.wait(lambda: window.run.last is not None)
    window.wait(lambda: np.count_nonzero(window.layer(Labels).data) == 100)
