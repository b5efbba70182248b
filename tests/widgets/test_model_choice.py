"""The combo box of models: what it offers, and what it does when the library changes."""

import itertools
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from napari.components import ViewerModel
from qtpy.QtWidgets import QFileDialog
from tests.fakes import ThresholdEngine
from tests.live.scripted import ScriptedSource
from tests.widgets.review_window import TABLE, TIMEOUT_MS, squares

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.progress import CancelToken
from napari_deeppixel.engine.library import ModelLibrary
from napari_deeppixel.engine.spec import slim_spec
from napari_deeppixel.engine.spec_file import SPEC_KEY
from napari_deeppixel.widgets.dock import DeepPixelWidget
from napari_deeppixel.widgets.job import EngineShelf
from napari_deeppixel.widgets.model_choice import ModelChoice

OPEN = "open a weights file…"


def write_model(path: Path, *, number: int = 0, **values: Any) -> Path:
    """Write a file that says what a model says, with hardly any weights."""
    spec = slim_spec(path.stem, CategoryTable.from_names("cell"), **values)
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.numpy.save_file(
        {"weight": np.full(1, number)}, path, metadata={SPEC_KEY: spec.to_json()}
    )
    return path


def put(*names: str, **values: Any) -> ModelLibrary:
    library = ModelLibrary()
    for name in names:
        write_model(library.folder / f"{name}.safetensors", **values)
    return library


@pytest.fixture
def choice(qtbot: Any) -> ModelChoice:
    made = ModelChoice("test.model")
    qtbot.addWidget(made)
    return made


def offered(choice: ModelChoice) -> list[str]:
    return [choice.itemText(n) for n in range(choice.count())]


def changes_of(choice: ModelChoice) -> list[str]:
    """Return a list that grows by the chosen model at each change."""
    seen: list[str] = []
    choice.model_changed.connect(lambda: seen.append(choice.weights))
    return seen


def test_without_a_library_there_are_the_models_of_the_package(choice: ModelChoice) -> None:
    assert offered(choice) == ["nuclei", "coco", "coco-v2", OPEN]
    assert (choice.weights, choice.error) == ("nuclei", "")


def test_the_model_in_use_is_offered_first_and_chosen(qtbot: Any) -> None:
    put("cells", "apples", score=0.7, box_nms=0.2).use("cells")
    choice = ModelChoice("test.model")
    qtbot.addWidget(choice)
    assert offered(choice) == ["cells", "nuclei", "coco", "coco-v2", "apples", OPEN]
    assert choice.weights == "cells"
    assert choice.defaults is not None
    assert (choice.defaults.score, choice.defaults.box_nms) == (0.7, 0.2)


def test_a_model_without_a_description_tells_where_it_is_from(qtbot: Any) -> None:
    put("cells", provenance={"start": {"model": "coco"}, "data": "my data"}).use("cells")
    choice = ModelChoice("test.model")
    qtbot.addWidget(choice)
    assert choice.defaults is not None
    assert choice.defaults.description == "Trained from coco on my data."


def test_another_model_in_use_is_chosen_where_the_one_before_was(
    choice: ModelChoice, qtbot: Any
) -> None:
    changes = changes_of(choice)
    library = put("cells")
    library.use("cells")
    qtbot.waitUntil(lambda: choice.weights == "cells", timeout=TIMEOUT_MS)
    library.roll_back()
    qtbot.waitUntil(lambda: choice.weights == "nuclei", timeout=TIMEOUT_MS)
    assert changes == ["cells", "nuclei"]
    assert offered(choice)[0] == "nuclei"


def test_a_model_that_a_person_chose_stays_when_another_is_used(choice: ModelChoice) -> None:
    choice.setCurrentIndex(choice.findData("coco"))
    changes = changes_of(choice)
    put("cells").use("cells")
    choice.refresh()
    assert choice.weights == "coco"
    assert offered(choice) == ["cells", "nuclei", "coco", "coco-v2", OPEN]
    assert changes == []


def test_renaming_the_used_model_is_followed(choice: ModelChoice) -> None:
    library = put("cells")
    library.use("cells")
    choice.refresh()
    library.rename("cells", "nerves")
    choice.refresh()
    assert (choice.weights, choice.error) == ("nerves", "")
    assert "cells" not in offered(choice)


def test_a_chosen_model_that_is_removed_is_told_and_stays_until_another_is_chosen(
    choice: ModelChoice,
) -> None:
    library = put("cells")
    choice.refresh()
    choice.setCurrentIndex(choice.findData("cells"))
    assert choice.error == ""
    library.remove("cells")
    choice.refresh()
    assert choice.weights == "cells"
    assert choice.error == "cells is gone: choose another model"
    choice.setCurrentIndex(0)
    choice.refresh()
    assert offered(choice) == ["nuclei", "coco", "coco-v2", OPEN]


def test_an_opened_file_stays_offered_when_the_library_changes(
    choice: ModelChoice, tmp_path: Path
) -> None:
    path = str(write_model(tmp_path / "mine.safetensors"))
    choice.add_file(path)
    put("cells").use("cells")
    choice.refresh()
    assert choice.weights == path
    assert offered(choice) == ["cells", "nuclei", "coco", "coco-v2", "mine.safetensors", OPEN]
    choice.add_file(path)
    assert offered(choice).count("mine.safetensors") == 1


def test_no_file_chosen_in_the_dialog_goes_back_to_the_model_in_use(
    choice: ModelChoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: ("", ""))
    last = choice.count() - 1
    choice.setCurrentIndex(last)
    assert choice.error == "choose a model, or open a weights file"
    choice.activated.emit(last)
    assert choice.weights == "nuclei"


def test_the_list_is_looked_at_anew_when_it_is_opened(choice: ModelChoice) -> None:
    choice._watcher.removePaths(choice._watcher.directories())
    put("cells")
    choice.showPopup()
    choice.hidePopup()
    assert "cells" in offered(choice)


def test_weights_that_training_writes_anew_are_told_once_and_keep_the_settings(
    choice: ModelChoice, qtbot: Any, tmp_path: Path
) -> None:
    best = write_model(tmp_path / "run" / "best.safetensors")
    choice.add_file(str(best))
    changes, renewed = changes_of(choice), []
    choice.weights_renewed.connect(lambda: renewed.append(choice.weights))
    replace_with(best, number=1)
    qtbot.waitUntil(lambda: len(renewed) == 1, timeout=TIMEOUT_MS)
    assert changes == []
    # other settings are told as another model's
    replace_with(best, number=2, score=0.9)
    qtbot.waitUntil(lambda: changes == [str(best)], timeout=TIMEOUT_MS)
    assert len(renewed) == 1
    assert choice.defaults is not None
    assert choice.defaults.score == 0.9
    choice.refresh()
    assert (len(renewed), len(changes)) == (1, 1)


def replace_with(path: Path, **values: Any) -> None:
    """Write a model as training does: beside its place, then renamed."""
    new = write_model(path.parent / "new" / path.name, **values)
    status = path.stat()
    new.replace(path)
    assert path.stat().st_mtime_ns > status.st_mtime_ns
    shutil.rmtree(path.parent / "new")


def test_a_model_of_the_library_that_is_another_file_now_is_loaded_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded: list[str] = []
    monkeypatch.setattr(
        "napari_deeppixel.engine.weights.load_model", lambda model, **_: loaded.append(model)
    )
    shelf = EngineShelf()

    def load() -> None:
        shelf.engine("cells", "cpu", cancel=CancelToken(), report=lambda _: None)

    library = put("cells")
    load()
    load()
    assert loaded == ["cells"]
    replace_with(library.path_of("cells"), number=1)
    load()
    assert loaded == ["cells", "cells"]


def test_another_engine_of_the_same_model_is_loaded_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    monkeypatch.setattr(
        "napari_deeppixel.engine.weights.load_model", lambda _, engine, **__: loaded.append(engine)
    )
    shelf = EngineShelf()
    for kind in ("fast", "fast", "reference", "reference"):
        shelf.engine("nuclei", "cpu", kind, cancel=CancelToken(), report=lambda _: None)
    assert loaded == ["fast", "reference"]


# a live run ---------------------------------------------------------------------------------------


class Engines:
    """Loads a `ThresholdEngine` for each model, and counts what is loaded."""

    def __init__(self) -> None:
        self.loaded: list[tuple[str, ThresholdEngine]] = []

    def load(self, model: str, **_: Any) -> ThresholdEngine:
        engine = ThresholdEngine(threshold=0.2, categories=TABLE)
        self.loaded.append((str(model), engine))
        return engine


@pytest.fixture
def dock(
    qtbot: Any, monkeypatch: pytest.MonkeyPatch, engines: Engines
) -> Iterator[DeepPixelWidget]:
    monkeypatch.setattr("napari_deeppixel.widgets.live_sources.list_sources", lambda: ())
    monkeypatch.setattr("napari_deeppixel.engine.weights.load_model", engines.load)
    source = ScriptedSource(moving())
    monkeypatch.setattr("napari_deeppixel.widgets.live.create_source", lambda *_: source)
    made = DeepPixelWidget(ViewerModel())
    qtbot.addWidget(made)
    made.show()
    made.tabs.setCurrentWidget(made.live)
    start = made.findChild(object, "live.start")
    start.click()
    qtbot.waitUntil(lambda: made.live.run.last is not None, timeout=TIMEOUT_MS)
    yield made
    assert source.num_opened == 1
    # pytest-qt may have closed it, which stops the run
    if made.live.run.is_running:
        start.click()
        qtbot.waitUntil(lambda: not made.live.run.is_running, timeout=TIMEOUT_MS)
        made.close()


@pytest.fixture
def engines() -> Engines:
    return Engines()


def moving() -> Iterator[Any]:
    """Yield frames for ever, at 100 a second at most, no two alike."""
    pause = threading.Event()
    for number in itertools.count():
        pause.wait(0.01)
        frame = squares("ab"[number % 2])
        # too dark for an instance
        frame[0, :2] = divmod(number % 1600, 40)
        yield frame


def test_a_running_loop_goes_over_to_the_model_that_is_used_now_without_a_stop(
    dock: DeepPixelWidget, engines: Engines, qtbot: Any
) -> None:
    frames = dock.live.run.pipeline.figures().num_frames
    put("cells").use("cells")
    qtbot.waitUntil(
        lambda: engines.loaded[-1][0] == "cells" and bool(engines.loaded[-1][1].calls),
        timeout=TIMEOUT_MS,
    )
    assert dock.live.run.is_running
    assert dock.live.run.pipeline.figures().num_frames > frames
    # Detect shows the same choice
    assert dock.findChild(ModelChoice, "detect.model").weights == "cells"


def test_weights_written_anew_are_swapped_in_and_the_score_of_the_person_stays(
    dock: DeepPixelWidget, engines: Engines, qtbot: Any, tmp_path: Path
) -> None:
    best = write_model(tmp_path / "best.safetensors")
    dock.findChild(ModelChoice, "live.model").add_file(str(best))
    qtbot.waitUntil(lambda: len(engines.loaded) == 2, timeout=TIMEOUT_MS)
    # the next request waits until this one is loaded
    qtbot.waitUntil(lambda: bool(engines.loaded[-1][1].calls), timeout=TIMEOUT_MS)
    dock.findChild(object, "live.score").setValue(0.33)
    replace_with(best, number=1)
    qtbot.waitUntil(
        lambda: len(engines.loaded) == 3 and bool(engines.loaded[-1][1].calls), timeout=TIMEOUT_MS
    )
    assert dock.findChild(object, "live.score").value() == 0.33
    assert dock.live.run.is_running
