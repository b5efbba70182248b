"""``evaluate``: numbers that a person can count, and a report that stands alone."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage.measure import label
from tests.fakes import ThresholdEngine

from napari_deeppixel.cli import main
from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import InstanceSet, label_image_to_instances
from napari_deeppixel.dataset.annotated import AnnotatedImage
from napari_deeppixel.dataset.formats.coco import write_coco
from napari_deeppixel.dataset.formats.coco_rle import mask_to_rle

TABLE = CategoryTable.from_names("object")


def squares(*corners_yx: tuple[int, int], value: int = 204) -> NDArray[np.uint8]:
    pixels = np.zeros((20, 30), np.uint8)
    for y, x in corners_yx:
        pixels[y : y + 3, x : x + 3] = value
    return pixels


def save(path: Path, pixels: NDArray[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def write_split(
    folder: Path, images: dict[str, NDArray[Any]], table: CategoryTable = TABLE
) -> list[InstanceSet]:
    """Write images and, as truth, what is above half brightness in them."""
    annotated = []
    for name, pixels in images.items():
        save(folder / "images" / name, pixels)
        grey = pixels if pixels.ndim == 2 else pixels.mean(axis=2)
        truth = label_image_to_instances(label(grey > 127), categories=table)
        annotated.append(AnnotatedImage.of(f"images/{name}", truth))
    write_coco(annotated, folder / "instances.json")
    return [image.instances for image in annotated]


def write_results(path: Path, truths: list[InstanceSet], scores: list[list[float]]) -> Path:
    """Write the first objects of each image as what was found."""
    entries = [
        {
            "image_id": image_id,
            "category_id": 1,
            "score": score,
            "segmentation": mask_to_rle(mask, truth.image_hw),
        }
        for image_id, (truth, of_image) in enumerate(zip(truths, scores, strict=True), start=1)
        for mask, score in zip(truth.masks, of_image, strict=False)
    ]
    path.write_text(json.dumps(entries))
    return path


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def fake_model(monkeypatch: pytest.MonkeyPatch) -> ThresholdEngine:
    """Put `ThresholdEngine` in the place of every model."""
    engine = ThresholdEngine()
    monkeypatch.setattr("napari_deeppixel.cli.segment.load_model", lambda *_, **__: engine)
    return engine


@pytest.mark.usefixtures("fake_model")
def test_evaluation_of_a_perfect_model_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    colour = np.dstack([squares((2, 3))] * 3)
    # a blue ground
    colour[..., 2] = np.maximum(colour[..., 2], 60)
    write_split(Path("val"), {"a.png": squares((2, 3), (9, 9)), "b.png": colour})
    assert main(["evaluate", "val", "--json"]) == 0
    output = capsys.readouterr()
    result = json.loads(output.out)
    assert output.err == ""
    assert result["model"] == "threshold@0123456789ab"
    assert [result[name] for name in ("data", "split", "device", "score")] == [
        "val",
        None,
        "test device",
        0.5,
    ]
    assert [group["name"] for group in result["groups"]] == [
        "all",
        "colour, lighter objects",
        "grey, lighter objects",
    ]
    assert [group["num_objects"] for group in result["groups"]] == [3, 1, 2]
    for group in result["groups"]:
        assert [group[name] for name in ("ap", "ap50", "ap75")] == pytest.approx([1, 1, 1])
        assert group["count_error"] == 0
    for kind in ("mask", "box"):
        assert result[kind]["AP"] == result[kind]["APs"] == result[kind]["AR"] == 1
        assert result[kind]["APl"] is None
    for name in ("accuracy", "f1", "pq"):
        assert result[name] == {f"{0.5 + n / 20:g}": 1 for n in range(10)}
    assert (result["count_error"], result["count_bias"]) == (0, 0)
    assert (result["num_images"], result["num_objects"]) == (2, 3)
    assert [image["num_true_positive"] for image in result["images"]] == [2, 1]
    assert result["confusion"] == {"names": ["object"], "counts": [[3, 0], [0, 0]]}


@pytest.mark.usefixtures("fake_model")
def test_evaluation_counts_what_is_missed(capsys: pytest.CaptureFixture[str]) -> None:
    write_split(Path("val"), {"a.png": squares((2, 3), (9, 9), (9, 20))})
    # two of the three fade
    save(Path("val/images/a.png"), squares((2, 3)))
    assert main(["evaluate", "val"]) == 0
    header, _, row, *_ = lines = capsys.readouterr().out.splitlines()
    assert header.split()[-7:] == ["AP", "AP50", "AP75", "accuracy50", "count", "off", "by"]
    # one of three found: precision is 1 up to a recall of 1/3, at 34 of COCO's 101 points
    assert row.split() == ["all", "1", "3", "0.337", "0.337", "0.337", "0.333", "2.0"]
    assert "accuracy" + " " * 16 + "  ".join(["0.333"] * 10) in lines
    assert "F1" + " " * 22 + "  ".join(["0.500"] * 10) in lines


@pytest.mark.usefixtures("fake_model")
def test_other_category_names_are_told_and_not_refused(capsys: pytest.CaptureFixture[str]) -> None:
    write_split(Path("val"), {"a.png": squares((2, 3))}, CategoryTable.from_names("cat"))
    assert main(["evaluate", "val", "--json"]) == 0
    output = capsys.readouterr()
    assert "the data call everything 'cat', the predictions 'object'" in output.err
    result = json.loads(output.out)
    assert result["mask"]["by_category"]["cat"]["AP"] == 1
    assert len(result["notes"]) == 1


def test_predictions_of_another_program_need_no_images(capsys: pytest.CaptureFixture[str]) -> None:
    truths = write_split(Path("val"), {"a.png": squares((2, 3), (9, 9)), "b.png": squares((9, 9))})
    results = write_results(Path("found.json"), truths, [[0.9, 0.3], [0.6]])
    arguments = ["evaluate", "val/instances.json", "--predictions", str(results), "--json"]
    assert main(arguments) == 0
    seen = json.loads(capsys.readouterr().out)
    for image in Path("val/images").iterdir():
        image.unlink()
    assert main(arguments) == 0
    unseen = json.loads(capsys.readouterr().out)
    assert (seen["model"], seen["predictions"], seen["device"]) == (None, "found.json", None)
    assert seen["score"] == 0.5
    assert seen["accuracy"]["0.5"] == pytest.approx(2 / 3)
    assert seen["mask"]["AP"] == 1
    for name in ("mask", "box", "accuracy", "f1", "pq", "images", "count_error"):
        assert unseen[name] == seen[name]
    assert any("there is no such image" in note for note in unseen["notes"])
    assert main([*arguments, "-s", "0.3"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"]["0.5"] == 1


@pytest.mark.usefixtures("fake_model")
def test_label_images_and_a_dataset_are_data_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    write_split(Path("val"), {"a.png": squares((2, 3), (9, 9))})
    save(Path("pairs/images/a.png"), squares((2, 3), (9, 9)))
    save(Path("pairs/labels/a.png"), label(squares((2, 3), (9, 9)) > 0).astype(np.uint16))
    assert main(["convert", "val", "data", "--state", "complete"]) == 0
    capsys.readouterr()
    for data in ("pairs", "data"):
        assert main(["evaluate", data, "--json"]) == 0
        result = json.loads(capsys.readouterr().out)
        assert (result["mask"]["AP"], result["num_objects"]) == (1, 2)
    assert main(["evaluate", "pairs", "--split", "test", "--json"]) == 2
    assert "no annotated image in the split test" in capsys.readouterr().err


@pytest.mark.usefixtures("fake_model")
def test_missing_data_and_images_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "val"]) == 2
    assert capsys.readouterr().err == "napari-deeppixel: val: no such file or folder\n"
    write_split(Path("val"), {"a.png": squares((2, 3))})
    Path("val/images/a.png").unlink()
    assert main(["evaluate", "val", "--json"]) == 2
    output = capsys.readouterr()
    message = "val: 1 of 1 images are not there (images/a.png): put them beside the annotations"
    assert message in output.err
    assert message in json.loads(output.out)["error"]


def test_a_model_or_a_file_of_predictions_and_not_both(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["evaluate", "val", "-m", "nuclei", "--predictions", "x.json"])
    assert "not allowed with argument" in capsys.readouterr().err
    write_split(Path("val"), {"a.png": squares((2, 3))})
    assert main(["evaluate", "val", "--predictions", "x.json"]) == 2
    assert capsys.readouterr().err == "napari-deeppixel: x.json: no such file\n"


def test_an_interrupt_leaves_no_half_report(
    fake_model: ThresholdEngine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fake_model, "predict", interrupt)
    write_split(Path("val"), {"a.png": squares((2, 3))})
    assert main(["evaluate", "val", "--html", "report.html", "--json"]) == 130
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", "napari-deeppixel: interrupted\n")
    assert not Path("report.html").exists()


# the report --------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Collects what a page loads, its texts, and whether its tags are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.texts: list[str] = []
        self.tags: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag != "meta":
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_report_stands_alone_and_shows_the_worst_images(
    capsys: pytest.CaptureFixture[str],
) -> None:
    images = {f"{n}.png": squares((2, 3), (9, 9)) for n in range(10)}
    images["<b>&.png"] = squares((2, 3), (9, 9), (9, 20))
    truths = write_split(Path("val"), images)
    scores = [[0.9, 0.8]] * 10 + [[0.9]]
    results = write_results(Path("found.json"), truths, scores)
    arguments = ["evaluate", "val", "--predictions", str(results), "--html", "report.html"]
    assert main(arguments) == 0
    assert capsys.readouterr().out.endswith("Report: report.html\n")
    text = Path("report.html").read_text(encoding="utf-8")
    page = Page(text)
    # nothing from outside, and nothing that runs
    assert page.loaded
    assert all(each.startswith("data:image/jpeg;base64,") for each in page.loaded)
    assert "script" not in page.tags
    assert not re.search(r"url\(|@import|https?://", text)
    assert len(page.loaded) == 8
    captions = [each for each in page.texts if each.startswith("images/") and "missed" in each]
    assert captions[0] == "images/<b>&.png: 1 right, 0 wrong, 2 missed; accuracy 0.333"
    assert text.count('<g class="true">') == 9
    assert "b" not in page.tags[page.tags.index("h2") :][:3]
    assert "prefers-color-scheme: dark" in text
    assert "missed: annotated, not found" in page.texts
    # 5 charts, and each says what it is
    assert text.count('<figure class="chart">') == 5
    assert "All 11 images" in page.texts


def test_the_report_says_which_pictures_are_missing(capsys: pytest.CaptureFixture[str]) -> None:
    truths = write_split(Path("val"), {"a.png": squares((2, 3)), "b.png": squares((2, 3))})
    Path("val/images/b.png").unlink()
    results = write_results(Path("found.json"), truths, [[0.9], []])
    arguments = ["evaluate", "val", "--predictions", str(results), "--html", "report.html"]
    assert main(arguments) == 0
    message = "the report has no picture of images/b.png: the image cannot be read"
    assert message in capsys.readouterr().err
    assert message in Page(Path("report.html").read_text(encoding="utf-8")).texts


@pytest.mark.parametrize("place", ["nowhere/r.html", "val"])
def test_a_report_that_cannot_be_written_is_told_before_the_long_part(
    place: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_split(Path("val"), {"a.png": squares()})
    Path("none.json").write_text("[]")
    monkeypatch.setattr("napari_deeppixel.cli.evaluate.read_data", None)
    assert main(["evaluate", "val", "--predictions", "none.json", "--html", place]) == 2
    assert "name a file in a folder that is there" in capsys.readouterr().err


def test_a_report_without_an_object_or_a_prediction_is_written(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_split(Path("val"), {"a.png": squares()})
    Path("none.json").write_text("[]")
    arguments = ["evaluate", "val", "--predictions", "none.json", "--html", "r.html", "--json"]
    assert main(arguments) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["accuracy"]["0.5"] is None
    assert result["mask"]["AP"] is None
    Page(Path("r.html").read_text(encoding="utf-8"))


def test_help_needs_no_torch(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "--predictions RESULTS.json" in text
    assert "--html REPORT" in text
    assert "one of your own models by name, 'used' for the one in use" in text
    assert "default: nuclei" in text
