"""The example of docs/live.md, installed as pip leaves it and found by its entry point."""

import importlib
import sys
import threading
import tomllib
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from tests.fakes import ThresholdEngine

from napari_deeppixel.live.pipeline import LivePipeline
from napari_deeppixel.live.registry import ENTRY_POINT_GROUP, create_source, list_sources
from napari_deeppixel.live.source import SourceError, SourceFault, SourceOptions
from napari_deeppixel.live.status import LiveState

EXAMPLE = Path(__file__).parents[2] / "examples" / "image_folder_source"
MODULE = "deeppixel_image_folder"


@pytest.fixture(autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the example and its metadata, made of its pyproject.toml, on the path."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    site = tmp_path_factory.mktemp("site")
    info = site / f"{MODULE}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    points = project["entry-points"][ENTRY_POINT_GROUP]
    lines = [f"[{ENTRY_POINT_GROUP}]", *(f"{name} = {value}" for name, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join([*lines, ""]))
    for folder in (site, EXAMPLE):
        monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    importlib.invalidate_caches()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images: a dark one, one with a bright 2 x 2 spot, a colour one with alpha."""
    grey = np.zeros((6, 8), np.uint8)
    iio.imwrite(tmp_path / "1.png", grey)
    grey[2:4, 3:5] = 255
    iio.imwrite(tmp_path / "2.PNG", grey, extension=".png")
    iio.imwrite(tmp_path / "3.png", np.full((6, 8, 4), (10, 20, 30, 0), np.uint8))
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_the_example_is_listed_by_its_entry_point(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPPIXEL_IMAGE_FOLDERS", str(folder))
    (found,) = [listed for listed in list_sources() if listed.name == "Image folder"]
    assert found.problem == ""
    assert [(info.address, info.label) for info in found.sources] == [
        (f"folder:{folder}", f"Images in {folder.name}")
    ]


def test_the_example_plays_the_images_of_a_folder(folder: Path) -> None:
    source = create_source(f"folder:{folder}", SourceOptions(fps=100))
    stream = source.open()
    frames = list(source.frames())
    source.close()
    assert (stream.fps, stream.description) == (100, "3 images")
    assert [(frame.number, frame.device_s) for frame in frames] == [(0, 0.0), (1, 0.01), (2, 0.02)]
    assert [int(frame.pixels.max()) for frame in frames[:2]] == [0, 255]
    assert frames[2].pixels.shape == (6, 8, 3)
    assert frames[2].pixels[0, 0].tolist() == [10, 20, 30]


def test_a_pipeline_finds_what_is_in_the_examples_images(folder: Path) -> None:
    source = create_source(f"folder:{folder}", SourceOptions(fps=100))
    pipeline = LivePipeline(source, engine=ThresholdEngine(), has_all_frames=True)
    counts: list[int] = []
    is_through = threading.Event()

    def count(result: object) -> None:
        counts.append(len(result.instances))  # type: ignore[attr-defined]
        if len(counts) == 3:
            is_through.set()

    pipeline.listeners.append(count)
    pipeline.start()
    assert is_through.wait(10)
    assert pipeline.stop(10)
    assert counts == [0, 1, 0]
    assert pipeline.status.state is LiveState.ENDED


def test_the_example_begins_again_and_stops_at_once(folder: Path) -> None:
    source = create_source(f"folder:{folder}", SourceOptions(fps=1000, is_looped=True))
    source.open()
    frames = source.frames()
    assert [next(frames).number for _ in range(7)] == list(range(7))
    source.interrupt()
    assert next(frames, None) is None


def test_the_example_says_what_is_wrong_with_a_folder(folder: Path) -> None:
    with pytest.raises(SourceError, match="check the path") as caught:
        create_source(f"folder:{folder / 'none'}").open()
    assert caught.value.fault is SourceFault.MISSING
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(SourceError, match="holds no PNG or JPEG image"):
        create_source(f"folder:{folder}").open()
    (folder / "broken.png").write_bytes(b"no picture")
    source = create_source(f"folder:{folder}")
    source.open()
    with pytest.raises(SourceError, match=r"broken\.png cannot be read") as caught:
        next(iter(source.frames()))
    assert caught.value.fault is SourceFault.FORMAT
