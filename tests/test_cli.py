"""The command line: real files and the shipped model for each main path, a fake one for numbers."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from tests.fakes import ThresholdEngine

from napari_deeppixel.batch.inputs import sample_paths
from napari_deeppixel.cli import after_training, main, train
from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import DeviceError
from napari_deeppixel.core.instance import InstanceSet, label_image_to_instances
from napari_deeppixel.dataset.annotated import AnnotatedImage
from napari_deeppixel.dataset.formats.coco import read_coco, write_coco
from napari_deeppixel.dataset.formats.label_tiff import read_label_tiff
from napari_deeppixel.engine.base import Prediction, PredictOptions
from napari_deeppixel.engine.spec import slim_spec
from napari_deeppixel.engine.spec_file import read_spec
from napari_deeppixel.engine.torch_gate import torch
from napari_deeppixel.live.recording import Recording, RecordOptions
from napari_deeppixel.live.registry import ProviderSources
from napari_deeppixel.live.source import Frame, SourceError, SourceFault, SourceInfo, StreamInfo
from napari_deeppixel.training.events import StepEnded
from napari_deeppixel.training.run_folder import RunFolder

TABLE = CategoryTable.from_names("object")
TRUTH = Path(__file__).parent / "data"


def square_image(*squares_yx: tuple[int, int], value: int = 204) -> NDArray[np.uint8]:
    pixels = np.zeros((20, 30), np.uint8)
    for y, x in squares_yx:
        pixels[y : y + 3, x : x + 3] = value
    return pixels


def save(path: Path, pixels: NDArray[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def crop_of_a_sample(name: str, side: int = 96) -> NDArray[Any]:
    path = next(path for path in sample_paths() if path.stem == name)
    return np.asarray(Image.open(path))[:side, -side:]


@pytest.fixture
def fake_model(monkeypatch: pytest.MonkeyPatch) -> ThresholdEngine:
    """Put `ThresholdEngine` in the place of every model."""
    engine = ThresholdEngine()
    monkeypatch.setattr("napari_deeppixel.cli.segment.load_model", lambda *_, **__: engine)
    return engine


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def names(folder: Path | str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


# segment -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("fake_model")
def test_table_has_one_row_an_image(capsys: pytest.CaptureFixture[str]) -> None:
    save(Path("in/one.png"), square_image((2, 3)))
    save(Path("in/two.png"), square_image((2, 3), (9, 9)))
    save(Path("in/none.png"), square_image())
    assert main(["segment", "in", "-o", "out"]) == 0
    output = capsys.readouterr()
    rows = [line.split() for line in output.out.splitlines()]
    assert rows[0] == ["image", "planes", "count", "mean", "score", "mean", "area", "px", "seconds"]
    assert [row[:5] for row in rows[2:5]] == [
        ["none.png", "1", "0", "-", "-"],
        ["one.png", "1", "1", "0.80", "9.0"],
        ["two.png", "1", "2", "0.80", "9.0"],
    ]
    assert "3 objects in 3 images; results in out" in output.out
    assert output.err == ""
    assert len(names("out")) == 9


@pytest.mark.usefixtures("fake_model")
def test_json_says_all_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    save(Path("in/one.png"), square_image((2, 3)))
    Path("in/empty.png").touch()
    assert main(["segment", "in", "in/none.png", "-o", "out", "--json"]) == 2
    output = capsys.readouterr()
    result = json.loads(output.out)
    images = result.pop("images")
    assert result == {
        "model": "threshold@0123456789ab",
        "device": "test device",
        "engine": "fast",
        "precision": "auto",
        "score": 0.5,
        "output": "out",
        "is_interrupted": False,
    }
    assert [image["path"] for image in images] == ["in/empty.png", "in/one.png", "in/none.png"]
    assert [image["error"] for image in images] == [
        "in/empty.png: the file is empty",
        None,
        "in/none.png: no such file",
    ]
    one = images[1]
    assert one.pop("seconds") >= 0
    assert one.pop("mean_score") == pytest.approx(0.8)
    assert one == {
        "path": "in/one.png",
        "planes": 1,
        "count": 1,
        "mean_area_px": 9.0,
        "outputs": ["out/one_coco.json", "out/one_labels.tif", "out/one_overlay.png"],
        "hidden_pixels": 0,
        "hidden_instances": 0,
        "error": None,
        "warnings": [],
    }
    assert output.err.splitlines() == [
        "napari-deeppixel: in/empty.png: the file is empty",
        "napari-deeppixel: in/none.png: no such file",
    ]


@pytest.mark.usefixtures("fake_model")
def test_image_without_objects_is_null_in_json_not_nan(capsys: pytest.CaptureFixture[str]) -> None:
    save(Path("a.png"), square_image())
    assert main(["segment", "a.png", "--json"]) == 0
    text = capsys.readouterr().out
    assert "NaN" not in text
    assert json.loads(text)["images"][0]["mean_score"] is None


def test_options_reach_the_engine(fake_model: ThresholdEngine) -> None:
    tifffile.imwrite(
        "a.tif",
        np.stack([square_image(), square_image((2, 3))]),
        imagej=True,
        metadata={"axes": "CYX"},
    )
    arguments = "segment a.tif -o out -s 0.3 --max-instances 7 --mask-threshold 0.6 --min-area 4"
    assert main([*arguments.split(), "--channels", "1", "--format", "labels"]) == 0
    assert fake_model.calls == [
        PredictOptions(score=0.3, max_instances=7, mask_threshold=0.6, min_area=4, channels=(1,))
    ]
    assert names("out") == ["a_labels.tif"]
    assert read_label_tiff("out/a_labels.tif").label_images.max() == 1


@pytest.mark.usefixtures("fake_model")
def test_cap_is_told_even_when_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    save(Path("a.png"), square_image((2, 3), (9, 9)))
    assert main(["segment", "a.png", "--max-instances", "2", "--quiet"]) == 0
    output = capsys.readouterr()
    assert output.out == ""
    assert "a.png: the limit of 2 instances a plane was reached" in output.err
    assert main(["segment", "a.png", "--max-instances", "2", "--json", "--overwrite"]) == 0
    (warning,) = json.loads(capsys.readouterr().out)["images"][0]["warnings"]
    assert "the limit of 2 instances" in warning


@pytest.mark.usefixtures("fake_model")
def test_same_names_in_two_folders_are_kept_apart(capsys: pytest.CaptureFixture[str]) -> None:
    save(Path("day1/a.png"), square_image((2, 3)))
    save(Path("day2/a.png"), square_image((2, 3), (9, 9)))
    assert main(["segment", "day1", "day2", "-o", "out", "--format", "labels"]) == 0
    assert names("out") == ["day1_a_labels.tif", "day2_a_labels.tif"]
    assert capsys.readouterr().err.count("another image has this name") == 2


@pytest.mark.usefixtures("fake_model")
def test_second_run_replaces_nothing_unless_told(capsys: pytest.CaptureFixture[str]) -> None:
    save(Path("a.png"), square_image((2, 3)))
    assert main(["segment", "a.png"]) == 0
    results = Path("deeppixel-output")
    before = {path: path.read_bytes() for path in results.iterdir()}
    capsys.readouterr()
    assert main(["segment", "a.png"]) == 2
    assert "a_labels.tif is there already" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in results.iterdir()} == before
    assert main(["segment", "a.png", "--overwrite"]) == 0


@pytest.mark.usefixtures("fake_model")
def test_results_of_an_earlier_run_are_not_segmented(capsys: pytest.CaptureFixture[str]) -> None:
    save(Path("in/a.png"), square_image((2, 3)))
    assert main(["segment", "in", "-o", "in"]) == 0
    capsys.readouterr()
    assert main(["segment", "in", "-o", "in", "--overwrite", "--json"]) == 0
    output = capsys.readouterr()
    assert [image["path"] for image in json.loads(output.out)["images"]] == ["in/a.png"]
    assert "left out a_labels.tif, a_overlay.png: results of an earlier run" in output.err


def test_hidden_overlap_is_summed_up(
    monkeypatch: pytest.MonkeyPatch,
    fake_model: ThresholdEngine,
    capsys: pytest.CaptureFixture[str],
) -> None:
    predict = fake_model.predict

    def predict_twice(*arguments: Any, **settings: Any) -> list[Prediction]:
        (prediction,) = predict(*arguments, **settings)
        found = prediction.candidates
        both = InstanceSet(
            image_hw=found.image_hw,
            masks=found.masks * 2,
            categories=found.categories,
            scores=np.array([0.9, 0.8]),
        )
        return [Prediction(candidates=both, detection_scores=both.scores, max_instances=1000)]

    monkeypatch.setattr(fake_model, "predict", predict_twice)
    save(Path("a.png"), square_image((2, 3)))
    assert main(["segment", "a.png"]) == 0
    assert (
        "9 px of overlapping objects are hidden, 1 of them wholly. COCO files keep them."
        in capsys.readouterr().out
    )


def test_interrupt_keeps_what_is_finished(
    monkeypatch: pytest.MonkeyPatch,
    fake_model: ThresholdEngine,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save(Path("in/a.png"), square_image((2, 3)))
    save(Path("in/b.png"), square_image((2, 3)))
    predict = fake_model.predict

    def predict_once(planes: Sequence[Any], options: PredictOptions, **settings: Any) -> Any:
        if fake_model.calls:
            raise KeyboardInterrupt
        return predict(planes, options, **settings)

    monkeypatch.setattr(fake_model, "predict", predict_once)
    assert main(["segment", "in", "-o", "out", "--json"]) == 130
    output = capsys.readouterr()
    result = json.loads(output.out)
    assert result["is_interrupted"]
    assert [image["path"] for image in result["images"]] == ["in/a.png"]
    assert names("out") == ["a_coco.json", "a_labels.tif", "a_overlay.png"]
    assert "interrupted" in output.err


@pytest.mark.parametrize(
    "command",
    [
        "segment a.png",
        "evaluate annotated",
        "mistakes annotated",
        "live demo --seconds 0.1",
        "demo",
    ],
)
def test_a_model_is_loaded_with_the_engine_that_was_asked_for(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def load(_model: str, *, engine: str, device: str, **_: Any) -> None:
        asked.append((engine, device))
        raise DeviceError("enough")

    monkeypatch.setattr("napari_deeppixel.cli.segment.load_model", load)
    pixels = square_image((2, 3))
    save(Path("a.png"), pixels)
    save(Path("annotated/images/a.png"), pixels)
    Path("annotated/labels").mkdir()
    tifffile.imwrite("annotated/labels/a.tif", (pixels > 0).astype(np.uint8))
    assert main(command.split()) == 2
    assert main([*command.split(), "--engine", "reference", "--device", "cpu"]) == 2
    assert asked == [("fast", "auto"), ("reference", "cpu")]


@pytest.mark.parametrize("command", ["segment a.png --overwrite", "live demo --seconds 0.1"])
def test_precision_reaches_the_engine(command: str, fake_model: ThresholdEngine) -> None:
    save(Path("a.png"), square_image((2, 3)))
    assert main(command.split()) == 0
    assert main([*command.split(), "--precision", "bf16"]) == 0
    precisions = [options.precision for options in fake_model.calls]
    assert (precisions[0], precisions[-1]) == ("auto", "bf16")


def test_interrupt_while_a_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("napari_deeppixel.cli.segment.load_model", interrupted)
    save(Path("a.png"), square_image())
    assert main(["segment", "a.png"]) == 130
    assert capsys.readouterr().err == "napari-deeppixel: interrupted\n"


@pytest.mark.usefixtures("fake_model")
def test_output_that_is_a_file_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    save(Path("a.png"), square_image((2, 3)))
    assert main(["segment", "a.png", "-o", "a.png"]) == 2
    output = capsys.readouterr()
    assert output.err.startswith("napari-deeppixel: no folder can be made at a.png")
    assert output.err.count("\n") == 1


@pytest.mark.parametrize("is_json", [True, False])
def test_unknown_model_is_one_line(capsys: pytest.CaptureFixture[str], is_json: bool) -> None:
    save(Path("a.png"), square_image((2, 3)))
    assert main(["segment", "a.png", "-m", "cells", *(["--json"] if is_json else [])]) == 2
    output = capsys.readouterr()
    assert output.err == (
        "napari-deeppixel: no model 'cells': neither a file nor one of nuclei, coco, coco-v2\n"
    )
    assert output.out.startswith('{"error": "no model') if is_json else output.out == ""
    assert not Path("deeppixel-output").exists()


def test_only_bad_arguments_need_no_model(capsys: pytest.CaptureFixture[str]) -> None:
    Path("folder").mkdir()
    assert main(["segment", "folder", "*.png", "--json"]) == 2
    result = json.loads(capsys.readouterr().out)
    assert result["model"] is None
    assert [image["error"] for image in result["images"]] == [
        "folder: the folder holds no image",
        "*.png: no image fits this pattern",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("segment", "the following arguments are required: IMAGE"),
        ("segment a.png --score 2", "'2': must lie in 0 to 1"),
        ("segment a.png --score much", "'much': must be a number"),
        ("segment a.png --max-instances 0", "'0': must be 1 or more"),
        ("segment a.png --min-area 1.5", "'1.5': must be a whole number"),
        ("segment a.png --channels 0,x", "'0,x': give channels counted from 0"),
        ("segment a.png --channels=-1", "'-1': give channels counted from 0"),
        ("segment a.png --format labels,table", "choose among labels, coco, overlay"),
        ("live demo --size 640", "'640': give width and height, such as 640x480"),
        ("live demo --size 0x480", "'0x480': give width and height"),
        ("live demo --seconds 0", "'0': must be above 0"),
        ("live demo --video all", "invalid choice: 'all'"),
        ("train data --preset big", "argument --preset: invalid choice: 'big'"),
        ("train data --freeze 3+", "argument --freeze: invalid choice: '3+'"),
        ("train data --epochs 2 --iterations 9", "not allowed with argument --epochs"),
        ("train data --crop 32", "'32': must be 64 or more"),
        ("train data -o run --learning-rate 0", "'0': must be above 0"),
        ("train data -o run --workers -1", "'-1': must be 0 or more"),
        ("tile a.png", "invalid choice: 'tile'"),
    ],
)
def test_wrong_command_line_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: str, message: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments.split())
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("napari-deeppixel: ")
    assert error.count("\n") == 1
    assert message in error
    assert "--help" in error


def test_shipped_model_reads_every_kind_of_file(capsys: pytest.CaptureFixture[str]) -> None:
    grey, colour = crop_of_a_sample("tissue"), crop_of_a_sample("histology")
    folder = Path("in")
    save(folder / "grey.png", grey)
    save(folder / "grey16.png", grey.astype(np.uint16) * 257)
    save(folder / "photo.jpg", colour)
    save(folder / "rgba.png", np.dstack([colour, np.full(colour.shape[:2], 255, np.uint8)]))
    save(folder / "bits.png", grey > grey.mean())
    Image.fromarray(grey).convert("P").save(folder / "palette.png")
    imagej = {"imagej": True, "photometric": "minisblack"}
    tifffile.imwrite(folder / "zt.tif", np.stack([grey] * 2), metadata={"axes": "ZYX"}, **imagej)
    tifffile.imwrite(folder / "c.tif", np.stack([grey] * 2), metadata={"axes": "CYX"}, **imagej)
    tifffile.imwrite(folder / "t.ome.tif", np.stack([grey] * 2), metadata={"axes": "TYX"})
    tifffile.imwrite(folder / "float.tif", grey.astype(np.float32) / 7)
    (folder / "text.tif").write_text("hello")
    (folder / "empty.jpg").touch()
    assert main(["segment", "in", "none.png", "-o", "out", "--json"]) == 2
    images = json.loads(capsys.readouterr().out)["images"]
    failed = {Path(image["path"]).name for image in images if image["error"]}
    assert failed == {"text.tif", "empty.jpg", "none.png"}
    planes = {Path(i["path"]).name: i["planes"] for i in images if not i["error"]}
    assert planes == {
        "grey.png": 1,
        "grey16.png": 1,
        "photo.jpg": 1,
        "rgba.png": 1,
        "bits.png": 1,
        "palette.png": 1,
        "zt.tif": 2,
        "c.tif": 1,
        "t.ome.tif": 2,
        "float.tif": 1,
    }
    for image in images:
        assert all(Path(path).stat().st_size > 0 for path in image["outputs"])
    assert read_label_tiff("out/t_labels.tif").axes == "tyx"
    assert read_label_tiff("out/zt_labels.tif").label_images.shape == (2, 96, 96)
    for annotated in read_coco("out/rgba_coco.json"):
        assert annotated.file_name == "../in/rgba.png"
        assert annotated.instances.categories.name_of(1) == "nucleus"


# demo --------------------------------------------------------------------------------------------


def test_demo_segments_the_samples_with_the_shipped_model(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["demo", "-o", "out", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["model"].startswith("nuclei@")
    assert [Path(image["path"]).name for image in result["images"]] == [
        "fluorescence.png",
        "tissue.png",
        "histology.png",
        "brightfield.png",
    ]
    assert [image["error"] for image in result["images"]] == [None] * 4
    for path in sample_paths():
        annotated = np.asarray(Image.open(TRUTH / f"{path.stem}_labels.png"))
        labels = read_label_tiff(f"out/{path.stem}_labels.tif").label_images
        assert labels.shape == annotated.shape
        with Image.open(f"out/{path.stem}_overlay.png") as overlay:
            assert overlay.size == annotated.shape[::-1]
        (image,) = read_coco(f"out/{path.stem}_coco.json")
        assert (Path("out") / image.file_name).resolve() == path.resolve()


@pytest.mark.usefixtures("fake_model")
def test_demo_can_be_run_again_and_opens_napari(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["demo"]) == 0
    assert "results in demo-output" in capsys.readouterr().out
    commands: list[list[str]] = []

    def run(command: list[str], **_: Any) -> Any:
        commands.append(command)
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr("napari_deeppixel.cli.demo.subprocess.run", run)
    assert main(["demo", "--napari"]) == 3
    ((python, *module, first, _, _, _),) = commands
    assert (python, module) == (sys.executable, ["-m", "napari_deeppixel.viewer.open"])
    assert read_coco(first)[0].file_name.endswith("fluorescence.png")


# live --------------------------------------------------------------------------------------------


@pytest.fixture
def film() -> str:
    """Write a film of 12 frames, 30 a second, with one bright square."""
    from napari_deeppixel.live.video_file import VideoFile

    with contextlib.closing(VideoFile(Path("film.mp4"), (48, 64))) as file:
        for n in range(12):
            pixels = np.zeros((48, 64, 3), np.uint8)
            pixels[8:24, 2 * n : 2 * n + 16] = 230
            file.write(pixels, n / 30)
    return "film.mp4"


def test_live_finds_objects_in_the_demo_with_the_shipped_model(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["live", "demo", "--size", "128x96", "--seconds", "1", "--json"]) == 0
    output = capsys.readouterr()
    result = json.loads(output.out)
    assert result["source"]["kind"] == "synthetic"
    assert result["model"].startswith("nuclei@")
    assert (result["state"], result["message"], result["recording"]) == ("stopped", "", None)
    assert result["num_frames"] >= 15
    assert result["num_results"] >= 1
    assert result["num_instances"] >= 1
    assert result["result_age_s"] >= result["model_s"] > 0
    # none of the frames that came is unaccounted for, save those that the model had at the end
    rest = result["num_frames"] - result["num_results"] - result["num_skipped"]
    assert 0 <= rest <= 2
    assert output.err == ""


def test_live_with_all_frames_gives_each_frame_of_a_film_to_the_model(
    monkeypatch: pytest.MonkeyPatch,
    fake_model: ThresholdEngine,
    film: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    predict = fake_model.predict

    def predict_the_last_slowly(*arguments: Any, **settings: Any) -> list[Prediction]:
        # the film is over long before
        threading.Event().wait(0.3 if len(fake_model.calls) == 11 else 0)
        return predict(*arguments, **settings)

    monkeypatch.setattr(fake_model, "predict", predict_the_last_slowly)
    assert main(f"live {film} --all-frames --fps 100 -s 0.6 --min-area 5 --json".split()) == 0
    result = json.loads(capsys.readouterr().out)
    assert fake_model.calls == [PredictOptions(score=0.6, min_area=5)] * 12
    assert result["source"] == {"address": "film.mp4", "label": "film.mp4", "kind": "file"}
    assert (result["state"], result["message"]) == ("ended", "the end of the file")
    assert (result["model"], result["device"]) == ("threshold@0123456789ab", "test device")
    counts = ("frames", "results", "skipped", "failed", "instances", "track_ids")
    assert [result[f"num_{name}"] for name in counts] == [12, 12, 0, 0, 12, 1]
    assert result["instances_a_frame"] == 1
    # nothing is drawn here
    assert result["screen_age_s"] is None


@pytest.mark.usefixtures("fake_model")
def test_live_says_in_three_lines_how_it_went(
    film: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["live", film, "--all-frames"]) == 0
    output = capsys.readouterr()
    rates, ages, found = output.out.splitlines()
    assert rates.startswith("12 frames, ")
    assert " a second; 12 results, " in rates
    assert rates.endswith(" a second; 0 frames skipped, 0 failed")
    assert ages.startswith("age of a result ")
    assert found == "1.0 instances a frame, track ids: 1; threshold@0123456789ab on test device"
    assert output.err == ""


@pytest.mark.usefixtures("fake_model")
def test_live_records_what_it_finds(film: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["live", film, "--all-frames", "--fps", "100", "--json", "--record", "out"]
    assert main(arguments) == 0
    recording = json.loads(capsys.readouterr().out)["recording"]
    assert [recording[name] for name in ("folder", "fault", "film_frames", "results")] == [
        "out",
        None,
        12,
        12,
    ]
    assert recording["dropped"] == 0
    assert names("out") == [
        "instances.csv",
        "instances.json",
        "labels.tif",
        "recording.json",
        "video.mp4",
    ]
    assert tifffile.imread("out/labels.tif").shape == (12, 48, 64)
    # an earlier recording stays
    assert main([*arguments, "--video", "none", "--labels", "none"]) == 0
    assert json.loads(capsys.readouterr().out)["recording"]["folder"] == "out-2"
    assert names("out-2") == ["instances.csv", "instances.json", "recording.json"]
    assert main([*arguments[:-1], "film.mp4/out"]) == 2
    assert "cannot record to film.mp4/out" in capsys.readouterr().err


@pytest.mark.usefixtures("fake_model")
def test_live_with_all_frames_waits_for_a_slow_disk_and_films_as_the_file_runs(
    film: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    av = pytest.importorskip("av", reason="PyAV is an extra")
    small = partial(RecordOptions, queue_frames=1)
    monkeypatch.setattr("napari_deeppixel.cli.live.RecordOptions", small)
    write = Recording.write

    def write_slowly(recording: Recording, item: Any) -> None:
        # as if the disk took a tenth of a second
        threading.Event().wait(0.1)
        write(recording, item)

    monkeypatch.setattr(Recording, "write", write_slowly)
    arguments = ["live", film, "--all-frames", "--fps", "1000", "--json", "--record", "out"]
    assert main(arguments) == 0
    recording = json.loads(capsys.readouterr().out)["recording"]
    assert (recording["film_frames"], recording["dropped"]) == (12, 0)
    durations = []
    for path in (film, "out/video.mp4"):
        with av.open(path) as container:
            durations.append(container.duration / 1e6)
    assert durations[1] == pytest.approx(durations[0], abs=0.05)


@pytest.mark.usefixtures("fake_model")
def test_live_records_every_frame_of_a_camera_where_a_raw_film_is_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = "live demo --size 64x48 --fps 40 --seconds 0.5 --record out --video raw --json"
    assert main(arguments.split()) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["recording"]["film_frames"] == result["num_frames"]
    assert result["recording"]["results"] == result["num_results"]
    about = json.loads(Path("out/recording.json").read_text())
    assert (about["source"], about["is_complete"]) == ("synthetic:discs", True)


def test_live_ends_with_its_summary_when_interrupted(
    monkeypatch: pytest.MonkeyPatch,
    fake_model: ThresholdEngine,
    capsys: pytest.CaptureFixture[str],
) -> None:
    predict = fake_model.predict

    def predict_and_interrupt(*arguments: Any, **settings: Any) -> list[Prediction]:
        if len(fake_model.calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return predict(*arguments, **settings)

    monkeypatch.setattr(fake_model, "predict", predict_and_interrupt)
    assert main(["live", "demo", "--size", "64x48", "--record", "out", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["state"] == "stopped"
    assert result["num_results"] >= 2
    # the recording is whole
    assert "instances.json" in names("out")


@pytest.mark.parametrize("is_json", [True, False])
def test_live_goes_on_without_a_model_that_fails_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
    fake_model: ThresholdEngine,
    film: str,
    capsys: pytest.CaptureFixture[str],
    is_json: bool,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ValueError("odd pixels")

    monkeypatch.setattr(fake_model, "predict", fail)
    assert main(["live", film, "--all-frames", *(["--json"] if is_json else [])]) == 2
    output = capsys.readouterr()
    assert output.err.splitlines() == [
        "napari-deeppixel: no more instances, the camera goes on: ValueError: odd pixels",
        "napari-deeppixel: the model stopped: ValueError: odd pixels",
    ]
    if is_json:
        result = json.loads(output.out)
        assert (result["state"], result["model_message"]) == ("ended", "ValueError: odd pixels")
        assert (result["num_frames"], result["num_failed"]) == (12, 3)
        assert result["instances_a_frame"] is None
    else:
        assert "0 results, - a second; 0 frames skipped, 3 failed" in output.out


class LostCamera:
    """Gives two frames, cannot be opened twice, gives two frames, and is denied then."""

    info = SourceInfo(address="rtsp://me:secret@host/cam", label="rtsp://host/cam", kind="stream")

    def __init__(self) -> None:
        self._num_opened = 0

    def open(self) -> StreamInfo:
        self._num_opened += 1
        if self._num_opened in (2, 3):
            raise SourceError("nobody answers: check the server", fault=SourceFault.LOST)
        return StreamInfo()

    def frames(self) -> Iterator[Frame]:
        for number in range(2):
            yield Frame(pixels=square_image((2, 3)), number=number)
        if self._num_opened > 3:
            # longer than between two looks of the command, so that it sees this stream live
            threading.Event().wait(0.3)
            raise SourceError("the password is wrong: change it", fault=SourceFault.DENIED)
        raise SourceError("the server is gone: start it again", fault=SourceFault.LOST)

    def interrupt(self) -> None: ...

    def close(self) -> None: ...


@pytest.mark.usefixtures("fake_model")
def test_live_tells_of_a_lost_camera_and_of_its_end_without_the_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("napari_deeppixel.cli.live.create_source", lambda *_: LostCamera())
    assert main(["live", "rtsp://me:secret@host/cam", "--json"]) == 2
    output = capsys.readouterr()
    assert output.err.splitlines() == [
        "napari-deeppixel: reconnecting: the server is gone: start it again",
        "napari-deeppixel: reconnecting: nobody answers: check the server",
        "napari-deeppixel: reconnecting: nobody answers: check the server",
        "napari-deeppixel: live again",
        "napari-deeppixel: the password is wrong: change it",
    ]
    result = json.loads(output.out)
    assert result["source"]["address"] == "rtsp://host/cam"
    assert (result["state"], result["message"]) == ("failed", "the password is wrong: change it")
    assert "secret" not in output.out + output.err


def test_live_lists_what_is_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    camera = SourceInfo(address="camera:Desk", label="Desk", kind="camera")
    found = (
        ProviderSources(name="Camera", sources=(camera,)),
        ProviderSources(name="Microscope", problem="its driver is missing: install it"),
    )
    monkeypatch.setattr("napari_deeppixel.cli.live.list_sources", lambda: found)
    assert main(["live", "--list"]) == 0
    output = capsys.readouterr()
    head, _, row = output.out.splitlines()
    assert (head.split(), row.split()) == (
        ["source", "kind", "name"],
        ["camera:Desk", "camera", "Desk"],
    )
    assert output.err == "napari-deeppixel: Microscope: its driver is missing: install it\n"
    assert main(["live", "--list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["providers"] == [
        {
            "name": "Camera",
            "problem": "",
            "sources": [{"address": "camera:Desk", "label": "Desk", "kind": "camera"}],
        },
        {"name": "Microscope", "problem": "its driver is missing: install it", "sources": []},
    ]


def test_live_lists_the_demo_and_what_it_lists_can_be_opened(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["live", "--list", "--json"]) == 0
    providers = json.loads(capsys.readouterr().out)["providers"]
    assert {provider["name"]: provider["sources"] for provider in providers}["Synthetic"] == [
        {"address": "demo", "label": "Moving discs", "kind": "synthetic"}
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("live", "give a SOURCE, or --list to see what there is"),
        ("live nowhere", "no source has the address 'nowhere'"),
        ("live none.mp4", "none.mp4 is not there (no file none.mp4): check the path"),
        ("live demo --all-frames", "--all-frames is for files: Moving discs (synthetic) is live"),
    ],
)
def test_a_wrong_source_is_one_line_and_waits_for_no_model(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    message: str,
) -> None:
    def load(*_: Any, **__: Any) -> None:
        raise AssertionError("a model is loaded")

    monkeypatch.setattr("napari_deeppixel.cli.segment.load_model", load)
    assert main([*arguments.split(), "--json"]) == 2
    output = capsys.readouterr()
    assert output.err.startswith(f"napari-deeppixel: {message}")
    assert output.err.count("\n") == 1
    assert json.loads(output.out)["error"].startswith(message)


@pytest.mark.usefixtures("fake_model")
@pytest.mark.parametrize("is_json", [True, False])
def test_live_on_a_file_that_is_no_video_is_one_line(
    capsys: pytest.CaptureFixture[str], is_json: bool
) -> None:
    Path("text.mp4").write_text("hello")
    assert main(["live", "text.mp4", *(["--json"] if is_json else [])]) == 2
    output = capsys.readouterr()
    assert output.err.startswith("napari-deeppixel: text.mp4 gives nothing that can be shown")
    assert output.err.count("\n") == 1
    if is_json:
        assert json.loads(output.out)["state"] == "failed"
    else:
        assert output.out == ""


def test_the_choices_of_a_recording_are_those_of_the_recorder() -> None:
    from napari_deeppixel.cli.parser import RECORD_LABELS, RECORD_VIDEOS

    choices = get_type_hints(RecordOptions)
    assert get_args(choices["video"]) == RECORD_VIDEOS
    assert get_args(choices["labels"]) == RECORD_LABELS


def write_split(folder: Path, images: dict[str, NDArray[Any]], table: CategoryTable) -> None:
    """Write images and, as truth, what is above half brightness in them."""
    annotated = []
    for name, pixels in images.items():
        save(folder / "images" / name, pixels)
        grey = pixels if pixels.ndim == 2 else pixels.mean(axis=2)
        from skimage.measure import label

        truth = label_image_to_instances(label(grey > 127), categories=table)
        crowds = InstanceSet.empty(truth.image_hw, table)
        annotated.append(AnnotatedImage(file_name=f"images/{name}", instances=truth, crowds=crowds))
    write_coco(annotated, folder / "instances.json")


# train -------------------------------------------------------------------------------------------


@pytest.fixture
def dataset(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Write two small splits of squares."""
    # two threads wait for each other most of the time, where other tests run beside
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    # set, so that a run in this process leaves them as they are
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "2"))
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    pixels = np.zeros((64, 80), np.uint8)
    for y, x in ((5, 5), (30, 40), (10, 60)):
        pixels[y : y + 12, x : x + 14] = 200
    for split in ("train", "val"):
        write_split(Path("data") / split, {"a.png": pixels, "b.png": pixels.T.copy()}, TABLE)
    yield Path("data")
    torch.set_num_threads(threads)


SMALL = "--batch-size 1 --crop 64 --workers 0"


def test_training_writes_weights_that_can_be_used(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = f"train {dataset} -o run {SMALL} --zoom 1 --epochs 2".split()
    assert main([*arguments, "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    kinds = [event["event"] for event in events if event["event"] != "warning"]
    evaluation = ["evaluated", "samples"]
    # the weights to start from are the first to be evaluated
    assert kinds == ["started", *evaluation, "step", "step", *evaluation, "ended"]
    started, start, _, _, step, evaluated, _, ended = (e for e in events if e["event"] != "warning")
    assert (start["iteration"], evaluated["iteration"]) == (0, 6)
    assert started["start"] == "nuclei"
    assert (started["num_train"], started["num_val"]) == (2, 2)
    # an epoch of 10,240 px in crops of 64 x 64 px
    assert (step["iteration"], step["iterations"]) == (6, 6)
    assert evaluated["figures"]["num_objects"] == 6
    assert (ended["weights"], ended["reason"]) == ("run/best.safetensors", "done")
    written = Path("run/events.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in written] == events

    # a run is not started anew over another one
    assert main(arguments) == 2
    assert "run holds a run already: add --resume" in capsys.readouterr().err
    assert main(f"train {dataset} -o run --iterations 8 --resume".split()) == 0
    out = capsys.readouterr().out
    assert out.startswith("2 images to learn from, 2 to choose by; on ")
    assert "Going on after step 6." in out
    assert "step 8 of 8   loss " in out
    assert "step 8: AP " in out
    assert "step 8: weights are in run" in out

    provenance = read_spec(Path("run/best.safetensors")).provenance
    assert provenance["start"]["model"] == "nuclei"
    assert len(provenance["start"]["hash"]) == len(provenance["data_hash"]) == 64
    # one crop a step, as at first
    assert provenance["batch_size"] == 1
    assert datetime.fromisoformat(provenance["date"]).year >= 2026


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("dataset")
def test_signal_ends_training_with_a_checkpoint(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
) -> None:
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    told: list[Any] = []

    def tell(event: Any) -> None:
        told.append(event)
        if isinstance(event, StepEnded):
            signal.raise_signal(number)

    monkeypatch.setattr("napari_deeppixel.cli.train._tell_json", tell)
    arguments = f"train data -o run --iterations 500 {SMALL} --json"
    assert main(arguments.split()) == 0
    output = capsys.readouterr()
    assert (told[-1].iteration, told[-1].reason) == (5, "stopped")
    assert "finishing this step and saving" in output.err
    assert "go on with: napari-deeppixel train data -o run --resume" in output.err
    assert {"last.pt", "best.safetensors"} <= {*names("run")}
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers


def _stop_at_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    tell_json = train._tell_json

    def tell(event: Any) -> None:
        tell_json(event)
        if isinstance(event, StepEnded):
            RunFolder(Path("run")).request_stop()

    monkeypatch.setattr(train, "_tell_json", tell)


@pytest.mark.usefixtures("dataset")
def test_a_run_that_is_asked_to_stop_compares_the_best(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _stop_at_the_first_step(monkeypatch)
    arguments = f"train data -o run --iterations 500 {SMALL} --json --compare --mistakes"
    assert main(arguments.split()) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    ended, compared, mistakes = events[-3:]
    assert (ended["event"], ended["iteration"], ended["reason"]) == ("ended", 5, "stopped")
    assert (compared["event"], mistakes["event"]) == ("compared", "mistakes")
    assert {"comparison.json", "mistakes.json", "last.pt"} <= {*names("run")}


@pytest.mark.usefixtures("dataset")
def test_a_run_that_is_asked_to_stop_once_more_leaves_the_comparison(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _stop_at_the_first_step(monkeypatch)
    compare_trained = after_training.compare_trained

    def compare(trained: Any, cancel: Any) -> Any:
        assert not cancel.is_cancelled, "the first request has been met"
        later = (trained.run.stop_time_ns or 0) + 10**9
        os.utime("run/stop", ns=(later, later))
        return compare_trained(trained, cancel)

    monkeypatch.setattr(after_training, "compare_trained", compare)
    arguments = f"train data -o run --iterations 500 {SMALL} --json --compare --mistakes"
    assert main(arguments.split()) == 0
    output = capsys.readouterr()
    assert json.loads(output.out.splitlines()[-1])["event"] == "ended"
    assert "stopped; the weights are there" in output.err
    assert not {"comparison.json", "mistakes.json"} & {*names("run")}


@pytest.mark.usefixtures("dataset")
def test_a_run_without_images_to_choose_by_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree("data/val")
    arguments = f"train data -o run --from scratch --iterations 1 {SMALL} --json"
    assert main(arguments.split()) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["num_val"] for event in events if event["event"] == "started"] == [0]
    told = " ".join(event["message"] for event in events if event["event"] == "warning")
    assert "no image to choose by" in told
    assert Path("run/best.safetensors").is_file()
    assert "start" not in read_spec(Path("run/best.safetensors")).provenance


@pytest.mark.usefixtures("dataset")
def test_a_run_lies_in_the_dataset_unless_said_otherwise(
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = f"train data --iterations 1 {SMALL}"
    assert main(arguments.split()) == 0
    (run,) = Path("data/runs").iterdir()
    assert f"weights are in {run}" in capsys.readouterr().out
    # the newest is gone on with
    assert main(["train", "data", "--resume", "--iterations", "2"]) == 0
    assert [path.name for path in Path("data/runs").iterdir()] == [run.name]
    assert "step 2 of 2" in capsys.readouterr().out


@pytest.mark.usefixtures("dataset")
def test_what_ends_a_run_is_in_its_events(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise DeviceError("no memory")

    monkeypatch.setattr("napari_deeppixel.training.fit.take_step", fail)
    assert main(f"train data -o run --iterations 1 {SMALL}".split()) == 2
    assert "no memory" in capsys.readouterr().err
    last = Path("run/events.jsonl").read_text(encoding="utf-8").splitlines()[-1]
    assert json.loads(last) == {"event": "failed", "message": "no memory"}


@pytest.mark.usefixtures("dataset")
def test_two_processes_do_not_train_in_one_folder(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_deeppixel.training.run_folder._FREED_IN_S", 0.0)
    Path("run").mkdir()
    with RunFolder(Path("run")).alive():
        assert main(["train", "data", "-o", "run"]) == 2
    assert "run: another process trains here" in capsys.readouterr().err


@pytest.mark.usefixtures("dataset")
def test_a_device_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "data", "-o", "run", "--device", "cuda:7"]) == 2
    assert "no device 'cuda:7'" in capsys.readouterr().err


def test_training_without_a_dataset_is_one_line(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "nowhere", "-o", "run"]) == 2
    assert "nowhere: no train/instances.json" in capsys.readouterr().err
    shutil.rmtree(dataset / "train")
    assert main(["train", "data", "-o", "run"]) == 2
    assert "data: no train/instances.json" in capsys.readouterr().err
    assert not Path("run").exists()


def test_nothing_to_resume_is_one_line(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(dataset), "-o", "run", "--resume"]) == 2
    assert "run: no last.pt to go on from" in capsys.readouterr().err
    assert main(["train", str(dataset), "--resume"]) == 2
    assert "data: no run to go on with" in capsys.readouterr().err


@pytest.mark.parametrize("more", ["", "--resume"])
@pytest.mark.usefixtures("dataset")
def test_weights_without_a_checkpoint_are_not_written_over(
    more: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("run").mkdir()
    Path("run/alive.lock").touch()
    Path("run/best.safetensors").write_bytes(b"weeks of work")
    assert main(f"train data -o run --iterations 1 {SMALL} {more}".split()) == 2
    said = "no last.pt to go on from" if more else "run holds a run already"
    assert said in capsys.readouterr().err
    assert Path("run/best.safetensors").read_bytes() == b"weeks of work"


@pytest.mark.usefixtures("dataset")
def test_a_run_that_was_killed_before_its_first_checkpoint_begins_anew(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("run").mkdir()
    # what a killed process leaves; Windows takes the lock away where a run ends well
    Path("run/alive.lock").touch()
    Path("run/.last.pt.1234.part").write_bytes(b"half")
    assert main(f"train data -o run --iterations 1 {SMALL} --resume".split()) == 0
    assert "run has no checkpoint yet: the run begins anew" in capsys.readouterr().err
    assert {"last.pt", "best.safetensors"} <= {*names("run")}
    assert not list(Path("run").glob(".*.part"))


def test_several_processes_need_a_name_for_their_folder(
    dataset: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["train", str(dataset)]) == 2
    assert "several processes need one folder: name it with -o RUN" in capsys.readouterr().err


def test_threads_are_set_before_torch_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_deeppixel.cli.train import _prepare_threads

    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    _prepare_threads()
    assert int(os.environ["OMP_NUM_THREADS"]) >= 1
    # what the person chose stays
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


def test_numbers_in_the_help_are_those_of_training(capsys: pytest.CaptureFixture[str]) -> None:
    from napari_deeppixel.training.options import FitOptions, Preset, preset_options

    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = " ".join(capsys.readouterr().out.split())

    def options(images: int, *, is_from_scratch: bool = False) -> FitOptions:
        return preset_options(
            Preset.CPU,
            device="cpu",
            spec=slim_spec("help", TABLE),
            train_hw=[(9, 9)] * images,
            val_hw=[],
            is_from_scratch=is_from_scratch,
        )[0]

    fine, scratch = options(8), options(8, is_from_scratch=True)
    limits = f"{options(1).iterations} to {options(999).iterations}"
    assert f"default: {fine.iterations // 8} an image on a CPU, {limits}" in text
    assert f"{scratch.iterations} from scratch" in text
    assert f"crops at a time; default: {fine.batch_size} on a CPU" in text
    assert f"default: {fine.learning_rate}, from scratch {scratch.learning_rate}" in text
    assert f"side of the crops; default: {fine.augmentation.crop} on a CPU" in text
    assert f"same crops; default: {fine.seed} " in text
    assert f"make crops; default: {fine.workers} on a CPU" in text
    assert "OMP_WAIT_POLICY=PASSIVE" in text


# the program itself ------------------------------------------------------------------------------


def run_program(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "napari_deeppixel.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_program_segments_a_file_and_names_the_bad_one() -> None:
    save(Path("a.png"), crop_of_a_sample("fluorescence", 64))
    done = run_program("segment", "a.png", "none.png", "-o", "out")
    assert done.returncode == 2
    assert done.stderr == "napari-deeppixel: none.png: no such file\n"
    assert done.stdout.splitlines()[2].split()[:2] == ["a.png", "1"]
    assert names("out") == ["a_coco.json", "a_labels.tif", "a_overlay.png"]


@pytest.mark.parametrize(
    ("command", "in_help"), [("segment", "NAME_labels.tif"), ("live", "rtsp://HOST/PATH")]
)
def test_help_needs_no_torch(command: str, in_help: str) -> None:
    probe = (
        "import sys\n"
        "from napari_deeppixel.cli import main\n"
        "try:\n"
        f"    main(['{command}', '--help'])\n"
        "finally:\n"
        "    assert not {'torch', 'skimage', 'tifffile', 'av'} & sys.modules.keys()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert in_help in done.stdout


def test_the_list_of_sources_needs_no_torch() -> None:
    probe = (
        "import sys\n"
        "from napari_deeppixel.cli import main\n"
        "assert main(['live', '--list']) == 0\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "Moving discs" in done.stdout
