"""Image files through an engine to results on disk."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from tests.fakes import ThresholdEngine

from napari_deeppixel.batch.files import (
    FileDone,
    FileEvent,
    FileFailed,
    FileStarted,
    PlaneDone,
    ResultFormat,
    segment_files,
)
from napari_deeppixel.core.errors import DeviceError, RunCancelled
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.core.progress import CancelToken, Progress
from napari_deeppixel.dataset.formats.coco import read_coco
from napari_deeppixel.dataset.formats.label_tiff import HiddenByOverlap, read_label_tiff
from napari_deeppixel.engine.base import Prediction, PredictOptions


class BlobEngine(ThresholdEngine):
    """Notes the planes that it gets; can fail on white ones and add a fixed mask."""

    def __init__(self) -> None:
        super().__init__()
        self.planes: list[NDArray[Any]] = []
        self.fails_on_white: Exception | None = None
        self.extra: CroppedMask | None = None

    def predict(
        self, planes: Sequence[NDArray[Any]], options: PredictOptions, **settings: Any
    ) -> list[Prediction]:
        self.planes += planes
        if self.fails_on_white is not None and planes[0].max() == 255:
            raise self.fails_on_white
        predictions = super().predict(planes, options, **settings)
        return [self._with_extra(prediction) for prediction in predictions]

    def _with_extra(self, prediction: Prediction) -> Prediction:
        if self.extra is None:
            return prediction
        found = prediction.candidates
        extra = InstanceSet(
            image_hw=found.image_hw,
            masks=(self.extra,),
            categories=found.categories,
            scores=np.array([0.6]),
            handles=np.array([1000]),
        )
        return replace(prediction, candidates=InstanceSet.concatenate([found, extra]))


def image_with(*squares_yx: tuple[int, int], value: int = 204) -> NDArray[np.uint8]:
    """Return (20, 30) zeros with 3 x 3 squares: the first of a value, each next one 51 less.

    `ThresholdEngine` gives the scores 0.8 and 0.6.
    """
    pixels = np.zeros((20, 30), np.uint8)
    for number, (y, x) in enumerate(squares_yx):
        pixels[y : y + 3, x : x + 3] = value - 51 * number
    return pixels


def save(path: Path, pixels: NDArray[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def run(
    paths: Sequence[Path],
    output: Path,
    *,
    engine: BlobEngine | None = None,
    options: PredictOptions | None = None,
    **settings: Any,
) -> list[FileEvent]:
    options = options or PredictOptions()
    return list(segment_files(paths, engine or BlobEngine(), options, output=output, **settings))


def done(events: list[FileEvent]) -> list[FileDone]:
    return [event for event in events if isinstance(event, FileDone)]


def failed(events: list[FileEvent]) -> list[FileFailed]:
    return [event for event in events if isinstance(event, FileFailed)]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_flat_image_gives_three_files_and_its_figures(tmp_path: Path) -> None:
    path = save(tmp_path / "cells.png", image_with((2, 3), (10, 20)))
    output = tmp_path / "deep" / "out"
    events = run([path], output)
    assert [type(event) for event in events] == [FileStarted, PlaneDone, FileDone]
    (event,) = done(events)
    assert (event.num_planes, event.count, event.mean_area_px) == (1, 2, 9)
    assert event.mean_score == pytest.approx(0.7)
    assert event.hidden == HiddenByOverlap(pixels=0, instances=0)
    assert event.warnings == ()
    assert [path.name for path in event.outputs] == names(output)
    assert names(output) == ["cells_coco.json", "cells_labels.tif", "cells_overlay.png"]

    labels = read_label_tiff(output / "cells_labels.tif").label_images
    assert labels[2:5, 3:6].tolist() == [[1] * 3] * 3
    assert labels[10:13, 20:23].tolist() == [[2] * 3] * 3
    assert np.count_nonzero(labels) == 18
    with Image.open(output / "cells_overlay.png") as overlay:
        assert (overlay.mode, overlay.size) == ("RGB", (30, 20))


def test_coco_names_the_image_as_seen_from_its_own_folder(tmp_path: Path) -> None:
    path = save(tmp_path / "images" / "cells.png", image_with((2, 3)))
    run([path], tmp_path / "out" / "deep")
    (annotated,) = read_coco(tmp_path / "out" / "deep" / "cells_coco.json")
    assert annotated.file_name == "../../images/cells.png"
    assert (tmp_path / "out" / "deep" / annotated.file_name).resolve() == path.resolve()
    assert annotated.instances.boxes_xyxy.tolist() == [[3, 2, 6, 5]]
    assert annotated.plane == ()


def test_stack_gives_one_label_stack_and_one_overlay_a_plane(tmp_path: Path) -> None:
    planes = [image_with(), image_with((2, 3)), image_with((2, 3), (10, 20)), image_with((4, 4))]
    stack = np.stack(planes).reshape(2, 2, 20, 30)
    tifffile.imwrite(tmp_path / "movie.tif", stack, imagej=True, metadata={"axes": "TZYX"})
    events = run([tmp_path / "movie.tif"], tmp_path / "out")
    steps = [event for event in events if isinstance(event, PlaneDone)]
    assert [(step.plane, step.number, step.count) for step in steps] == [
        ((0, 0), 1, 0),
        ((0, 1), 2, 1),
        ((1, 0), 3, 2),
        ((1, 1), 4, 1),
    ]
    assert done(events)[0].count == 4
    assert names(tmp_path / "out") == [
        "movie_coco.json",
        "movie_labels.tif",
        "movie_overlay_t0000_z0000.png",
        "movie_overlay_t0000_z0001.png",
        "movie_overlay_t0001_z0000.png",
        "movie_overlay_t0001_z0001.png",
    ]
    labels = read_label_tiff(tmp_path / "out" / "movie_labels.tif")
    assert (labels.axes, labels.label_images.shape) == ("tzyx", (2, 2, 20, 30))
    # one number is one object in the whole stack
    assert [np.unique(plane[plane > 0]).tolist() for _, plane in labels.planes()] == [
        [],
        [1],
        [2, 3],
        [4],
    ]
    annotated = read_coco(tmp_path / "out" / "movie_coco.json")
    assert [image.plane for image in annotated] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert [image.instances.handles.tolist() for image in annotated] == [[], [1], [2, 3], [4]]


def test_channels_are_given_to_the_engine_together(tmp_path: Path) -> None:
    stack = np.stack([image_with((2, 3)), image_with((9, 9))])
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "CYX"})
    engine = BlobEngine()
    events = run([tmp_path / "a.tif"], tmp_path / "out", engine=engine)
    assert [plane.shape for plane in engine.planes] == [(20, 30, 2)]
    assert done(events)[0].num_planes == 1
    assert "a_overlay.png" in names(tmp_path / "out")


def test_image_without_objects_has_empty_results(tmp_path: Path) -> None:
    (event,) = done(run([save(tmp_path / "a.png", image_with())], tmp_path / "out"))
    assert event.count == 0
    assert np.isnan([event.mean_score, event.mean_area_px]).all()
    assert not read_label_tiff(tmp_path / "out" / "a_labels.tif").label_images.any()
    assert len(read_coco(tmp_path / "out" / "a_coco.json")[0].instances) == 0


@pytest.mark.parametrize(
    ("formats", "expected"),
    [
        ([ResultFormat.LABELS], ["a_labels.tif"]),
        ([ResultFormat.OVERLAY, ResultFormat.COCO], ["a_coco.json", "a_overlay.png"]),
    ],
)
def test_only_what_is_wanted_is_written(
    tmp_path: Path, formats: list[ResultFormat], expected: list[str]
) -> None:
    path = save(tmp_path / "a.png", image_with((2, 3)))
    (event,) = done(run([path], tmp_path / "out", formats=formats))
    assert names(tmp_path / "out") == expected
    assert (event.hidden is None) == (ResultFormat.LABELS not in formats)


def test_score_and_area_leave_out_instances(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", image_with((2, 3), (10, 20)))
    scored = run([path], tmp_path / "1", options=PredictOptions(score=0.7))
    assert done(scored)[0].count == 1
    large = run([path], tmp_path / "2", options=PredictOptions(min_area=10))
    assert done(large)[0].count == 0
    # without a score, the engine's own 0.5 counts
    assert done(run([path], tmp_path / "3"))[0].count == 2


def test_limit_of_instances_is_told(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", image_with((2, 3), (10, 20)))
    capped = run([path], tmp_path / "1", options=PredictOptions(max_instances=2))
    (warning,) = done(capped)[0].warnings
    assert "limit of 2 instances a plane was reached" in warning

    stack = np.stack([image_with((2, 3)), image_with((2, 3), (9, 9)), image_with()])
    tifffile.imwrite(tmp_path / "b.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    options = PredictOptions(max_instances=2)
    (warning,) = done(run([tmp_path / "b.tif"], tmp_path / "2", options=options))[0].warnings
    assert warning.endswith("(in 1 of 3 planes)")


def test_overlap_is_kept_in_coco_and_counted_for_labels(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", image_with((2, 3)))
    engine = BlobEngine()
    # one pixel of the square at (2, 3), which has the higher score
    engine.extra = CroppedMask(pixels=np.ones((1, 1), np.bool_), y=3, x=4)
    (event,) = done(run([path], tmp_path / "out", engine=engine))
    assert event.hidden == HiddenByOverlap(pixels=1, instances=1)
    (annotated,) = read_coco(tmp_path / "out" / "a_coco.json")
    assert annotated.instances.areas.tolist() == [9, 1]


def test_bad_files_are_told_of_and_the_others_go_on(tmp_path: Path) -> None:
    good = save(tmp_path / "good.png", image_with((2, 3)))
    empty, text = tmp_path / "empty.png", tmp_path / "text.png"
    empty.touch()
    text.write_text("hello")
    last = save(tmp_path / "last.png", image_with((2, 3)))
    paths = [tmp_path / "none.png", good, empty, text, tmp_path, last]
    events = run(paths, tmp_path / "out")
    assert [event.path.name for event in done(events)] == ["good.png", "last.png"]
    assert [event.message for event in failed(events)] == [
        f"{tmp_path / 'none.png'}: no such file",
        f"{empty}: the file is empty",
        f"{text}: not an image; use PNG, JPEG or TIFF",
        f"{tmp_path}: a folder, not an image",
    ]
    starts = [event for event in events if isinstance(event, FileStarted)]
    assert [(event.number, event.num_files) for event in starts] == [(n, 6) for n in range(1, 7)]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (DeviceError("the image does not fit"), "bad.png: the image does not fit"),
        (MemoryError(), "bad.png: not enough memory for this image"),
        (OSError(28, "No space left on device"), "bad.png: [Errno 28] No space left on device"),
    ],
)
def test_image_that_the_engine_refuses_leaves_nothing_behind(
    tmp_path: Path, error: Exception, message: str
) -> None:
    bad = save(tmp_path / "bad.png", image_with((2, 3), value=255))
    good = save(tmp_path / "good.png", image_with((2, 3)))
    engine = BlobEngine()
    engine.fails_on_white = error
    events = run([bad, good], tmp_path / "out", engine=engine)
    assert failed(events)[0].message.endswith(message)
    assert names(tmp_path / "out") == ["good_coco.json", "good_labels.tif", "good_overlay.png"]


def test_stack_that_breaks_in_the_middle_leaves_nothing_behind(tmp_path: Path) -> None:
    stack = np.stack([image_with((2, 3)), image_with((2, 3)), image_with((2, 3))])
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, stack, photometric="minisblack", compression="zlib", metadata={"axes": "ZYX"}
    )
    with tifffile.TiffFile(path) as file:
        offset = file.pages[2].dataoffsets[0]
    content = bytearray(path.read_bytes())
    content[offset : offset + 8] = b"damaged!"
    path.write_bytes(content)
    events = run([path], tmp_path / "out")
    assert len([event for event in events if isinstance(event, PlaneDone)]) == 2
    assert "page 3 cannot be read" in failed(events)[0].message
    assert names(tmp_path / "out") == []


@pytest.mark.parametrize("is_closed", [True, False])
def test_run_that_is_left_keeps_whole_results_only(tmp_path: Path, is_closed: bool) -> None:
    first = save(tmp_path / "first.png", image_with((2, 3)))
    second = save(tmp_path / "second.png", image_with((2, 3)))
    cancel = CancelToken()
    events = segment_files(
        [first, second], BlobEngine(), PredictOptions(), output=tmp_path / "out", cancel=cancel
    )
    seen = [next(events) for _ in range(5)]
    assert isinstance(seen[-1], PlaneDone)
    assert any(name.startswith(".second_overlay") for name in names(tmp_path / "out"))
    if is_closed:
        events.close()  # type: ignore[attr-defined]
    else:
        # as Ctrl-C does
        with pytest.raises(KeyboardInterrupt):
            events.throw(KeyboardInterrupt)  # type: ignore[attr-defined]
    assert names(tmp_path / "out") == ["first_coco.json", "first_labels.tif", "first_overlay.png"]


def test_cancelled_run_stops(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{n}.png", image_with((2, 3))) for n in range(3)]
    cancel = CancelToken()
    events = segment_files(
        paths, BlobEngine(), PredictOptions(), output=tmp_path / "out", cancel=cancel
    )
    assert isinstance([next(events) for _ in range(3)][-1], FileDone)
    cancel.cancel()
    assert isinstance(next(events), FileStarted)
    with pytest.raises(RunCancelled):
        next(events)
    assert len(names(tmp_path / "out")) == 3


def test_images_of_one_name_are_told_apart_and_it_is_said(tmp_path: Path) -> None:
    first = save(tmp_path / "day1" / "cells.png", image_with((2, 3)))
    second = save(tmp_path / "day2" / "cells.png", image_with((2, 3), (9, 9)))
    events = run([second, first], tmp_path / "out", formats=[ResultFormat.LABELS])
    assert names(tmp_path / "out") == ["day1_cells_labels.tif", "day2_cells_labels.tif"]
    assert read_label_tiff(tmp_path / "out" / "day1_cells_labels.tif").label_images.max() == 1
    assert read_label_tiff(tmp_path / "out" / "day2_cells_labels.tif").label_images.max() == 2
    assert [event.warnings for event in done(events)] == [
        (f"another image has this name, too: the results are called {stem}_...",)
        for stem in ("day2_cells", "day1_cells")
    ]


def test_results_are_not_replaced_unless_it_is_said(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", image_with((2, 3)))
    output = tmp_path / "out"
    output.mkdir()
    corrected = output / "a_labels.tif"
    corrected.write_text("a person's work")
    engine = BlobEngine()
    (event,) = failed(run([path], output, engine=engine))
    assert "a_labels.tif is there already" in event.message
    assert corrected.read_text() == "a person's work"
    # it is said before time is spent
    assert engine.planes == []
    assert names(output) == ["a_labels.tif"]
    assert done(run([path], output, overwrite=True))
    assert read_label_tiff(corrected).label_images.max() == 1


def test_result_never_replaces_an_image_of_the_run(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", image_with((2, 3)))
    other = save(tmp_path / "a_overlay.png", image_with((2, 3)))
    before = other.read_bytes()
    events = run([path, other], tmp_path, overwrite=True, formats=[ResultFormat.OVERLAY])
    assert "would replace another image of this run" in failed(events)[0].message
    assert [event.path for event in done(events)] == [other]
    assert other.read_bytes() == before


def test_parts_that_are_not_read_are_told(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(image_with((2, 3)))
        file.write(image_with((2, 3))[:9])
    (event,) = done(run([tmp_path / "a.tif"], tmp_path / "out"))
    assert event.warnings == ("holds 2 images; only the first (20 x 30) is read",)


def test_progress_counts_the_planes_of_an_image(tmp_path: Path) -> None:
    stack = np.stack([image_with(), image_with()])
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    seen: list[Progress] = []
    run([tmp_path / "a.tif"], tmp_path / "out", on_progress=seen.append)
    assert [progress.fraction for progress in seen] == [
        *(0, 0, 1 / 8, 2 / 8, 3 / 8),
        *(4 / 8, 4 / 8, 5 / 8, 6 / 8, 7 / 8),
    ]


def test_coco_of_a_stack_is_plain_json(tmp_path: Path) -> None:
    stack = np.stack([image_with((2, 3)), image_with((4, 4))])
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "TYX"})
    run([tmp_path / "a.tif"], tmp_path / "out")
    document = json.loads((tmp_path / "out" / "a_coco.json").read_text())
    assert [image["plane"] for image in document["images"]] == [[0], [1]]
    assert [a["image_id"] for a in document["annotations"]] == [1, 2]
