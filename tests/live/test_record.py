import csv
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tifffile
from tests.live.made_results import made_frame, made_result
from tests.live.scripted import wait_for

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.dataset.formats.coco import read_coco
from napari_deeppixel.dataset.formats.label_tiff import read_label_tiff
from napari_deeppixel.live import label_files
from napari_deeppixel.live.instance_lines import read_lines
from napari_deeppixel.live.label_files import LabelTiff
from napari_deeppixel.live.record import Recorder
from napari_deeppixel.live.recording import Recording, RecordOptions
from napari_deeppixel.live.recording_folder import RecordError, finish_recording
from napari_deeppixel.live.result import LiveResult
from napari_deeppixel.live.source import Frame

av = pytest.importorskip("av", reason="PyAV is an extra")

ALL = RecordOptions(min_free_bytes=0, queue_frames=10_000)


def _record(folder: Path, items: list[Any], options: RecordOptions = ALL, **about: Any) -> Recorder:
    times = [getattr(item, "frame", item).grabbed_s for item in items]
    recorder = Recorder(folder, options, now_s=clock(*times[:1], *times[-1:]), **about)
    recorder.start()
    for item in items:
        recorder.put(item)
    assert recorder.stop(timeout_s=30)
    return recorder


def made_recorder(folder: Path, options: RecordOptions) -> Recorder:
    """Return a recorder whose clock stands still, as that of made results does."""
    return Recorder(folder, options, now_s=lambda: 1000.0)


def clock(*times_s: float) -> Callable[[], float]:
    """Return a clock that tells each of some times once, the last one for ever."""
    left = list(times_s or (0.0,))
    return lambda: left.pop(0) if len(left) > 1 else left[0]


def _film(path: Path) -> list[tuple[float, int, int]]:
    """Return stamp, height and width of each frame that can be read."""
    frames = []
    with av.open(str(path)) as container:
        try:
            for frame in container.decode(video=0):
                frames.append((round(frame.time, 4), frame.height, frame.width))
        except av.error.InvalidDataError:
            pass
    return frames


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "instances.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _about(folder: Path) -> dict[str, Any]:
    about: dict[str, Any] = json.loads((folder / "recording.json").read_text())
    return about


def test_a_film_has_every_result_with_its_stamp(tmp_path: Path) -> None:
    times = [1000.0, 1000.1, 1000.35, 1002.0]
    results = [made_result(n, grabbed_s=t) for n, t in enumerate(times)]

    recorder = _record(tmp_path / "a", results, source="camera 0")

    film = _film(recorder.folder / "video.mp4")
    assert film == [(0.0, 48, 64), (0.1, 48, 64), (0.35, 48, 64), (2.0, 48, 64)]
    assert recorder.stats.results == 4
    assert recorder.stats.dropped == 0
    assert recorder.fault is None
    assert sorted(path.name for path in recorder.folder.iterdir()) == [
        "instances.csv",
        "instances.json",
        "labels.tif",
        "recording.json",
        "video.mp4",
    ]
    about = _about(recorder.folder)
    assert about["source"] == "camera 0"
    assert about["models"] == ["squares@0123"]
    assert (about["results"], about["instances"], about["dropped"]) == (4, 8, 0)
    assert about["ended"] == "stopped"
    assert about["versions"]["av"] == av.__version__


def test_a_film_takes_as_long_as_its_recording_however_slow_the_model_is(tmp_path: Path) -> None:
    # a result every five seconds, of a frame of up to five seconds before: recorded from 1000 to
    # 1012 s, the first frame came before that
    results = [made_result(n, grabbed_s=t) for n, t in enumerate((998.0, 1003.0, 1008.0))]
    recorder = Recorder(tmp_path / "a", ALL, now_s=clock(1000.0, 1012.0))
    recorder.start()
    for result in results:
        recorder.put(result)
    assert recorder.stop(timeout_s=30)

    with av.open(str(recorder.folder / "video.mp4")) as container:
        assert container.duration / 1e6 == pytest.approx(12, abs=0.001)
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.pts is not None]
        shown = [(float(p.pts * p.time_base), float(p.duration * p.time_base)) for p in packets]
    # the last picture once more, at the end
    assert shown == [
        (pytest.approx(begin), pytest.approx(span))
        for begin, span in ((0, 3), (3, 5), (8, 3.98), (11.98, 0.02))
    ]
    assert (recorder.stats.film_frames, recorder.stats.results) == (3, 3)
    assert recorder.stats.seconds == _about(recorder.folder)["seconds"] == 12
    assert [row["seconds"] for row in _rows(recorder.folder)[::2]] == ["0.0", "3.0", "8.0"]


def test_a_film_that_ends_by_its_limit_ends_there(tmp_path: Path) -> None:
    options = RecordOptions(max_s=3, min_free_bytes=0)
    times = (1000.0, 1002.0, 1004.0, 1010.0)
    results = [made_result(n, grabbed_s=t) for n, t in enumerate(times)]
    recorder = _record(tmp_path / "a", results, options)
    assert [stamp for stamp, _, _ in _film(recorder.folder / "video.mp4")] == [0, 2, 3.98]


def test_the_part_before_a_new_size_is_shown_until_that_comes(tmp_path: Path) -> None:
    results = [
        made_result(0, grabbed_s=1000.0),
        made_result(1, grabbed_s=1004.0, image_hw=(50, 60)),
        made_result(2, grabbed_s=1005.0, image_hw=(50, 60)),
    ]
    folder = _record(tmp_path / "a", results).folder
    assert [stamp for stamp, _, _ in _film(folder / "video.mp4")] == [0, 3.98]
    assert [stamp for stamp, _, _ in _film(folder / "video-2.mp4")] == [0, 1]


def test_a_pause_of_a_day_is_filled_with_the_last_picture(tmp_path: Path) -> None:
    results = [made_result(n, grabbed_s=t) for n, t in enumerate((1000.0, 1000.0 + 86_400))]
    folder = _record(tmp_path / "a", results).folder
    with av.open(str(folder / "video.mp4")) as container:
        assert container.duration / 1e6 == pytest.approx(86_400, abs=0.1)
    images = json.loads((folder / "instances.json").read_text())["images"]
    # one each ten minutes in between, 143
    assert [image["plane"] for image in images] == [[0], [144]]


def test_a_film_by_the_sources_clock_runs_as_the_source_does(tmp_path: Path) -> None:
    # made frames have ten stamps a second; a slow model took them every two seconds
    results = [made_result(n, grabbed_s=1000.0 + 2 * n) for n in range(5)]
    options = RecordOptions(clock="source", min_free_bytes=0)
    folder = _record(tmp_path / "a", results, options).folder
    stamps = [stamp for stamp, _, _ in _film(folder / "video.mp4")]
    assert stamps == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.48])
    with av.open(str(folder / "video.mp4")) as container:
        assert container.duration / 1e6 == pytest.approx(0.5, abs=0.001)


def test_coco_labels_and_table_read_back_equal(tmp_path: Path) -> None:
    results = [made_result(n, handles=(1, 3) if n else ()) for n in range(4)]

    folder = _record(tmp_path / "a", results).folder

    images = read_coco(folder / "instances.json")
    assert [image.plane for image in images] == [(0,), (1,), (2,), (3,)]
    assert {image.file_name for image in images} == {"video.mp4"}
    for image, result in zip(images, results, strict=True):
        assert image.instances.handles.tolist() == result.instances.handles.tolist()
        assert image.instances.uuids == result.instances.uuids
        for mask, expected in zip(image.instances.masks, result.instances.masks, strict=True):
            assert mask.equals(expected)
    stack = read_label_tiff(folder / "labels.tif")
    assert stack.label_images.dtype == np.uint16
    assert stack.label_images.shape == (4, 48, 64)
    for page, result in zip(stack.label_images, results, strict=True):
        assert np.array_equal(page, result.instances.label_image())
    rows = _rows(folder)
    assert len(rows) == 6
    assert rows[-1] == {
        "stream": "1",
        "frame": "3",
        "seconds": "0.3",
        "device_s": "0.3",
        "track_id": "3",
        "category": "cell",
        "score": "0.9",
        "x1": "3",
        "y1": "30",
        "x2": "11",
        "y2": "38",
        "area": "64",
    }


def test_labels_as_ome_zarr_read_back_equal(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr", minversion="3", reason="zarr is an extra")
    results = [made_result(n) for n in range(5)]
    options = RecordOptions(video="none", labels="zarr", min_free_bytes=0)

    folder = _record(tmp_path / "a", results, options).folder

    group = zarr.open_group(str(folder / "labels.ome.zarr"), mode="r")
    assert [axis["name"] for axis in group.attrs["ome"]["multiscales"][0]["axes"]] == [*"tyx"]
    assert group["0"].shape == (5, 48, 64)
    for number, result in enumerate(results):
        assert np.array_equal(group["0"][number], result.instances.label_image())
    image = json.loads((folder / "instances.json").read_text())["images"][4]
    assert (image["file_name"], image["plane"]) == ("labels.ome.zarr", [4])


def test_a_raw_film_has_every_frame_once_and_results_point_into_it(tmp_path: Path) -> None:
    frames = [made_frame(n) for n in range(6)]
    # the model is slower than the camera: the result of frame 1 comes after frame 3
    items: list[Frame | LiveResult] = [*frames[:4], made_result(1, frame=frames[1]), *frames[4:]]

    folder = _record(tmp_path / "a", items, RecordOptions(video="raw", min_free_bytes=0)).folder

    assert [stamp for stamp, _, _ in _film(folder / "video.mp4")] == [0, 0.1, 0.2, 0.3, 0.4, 0.5]
    (image,) = json.loads((folder / "instances.json").read_text())["images"]
    assert (image["file_name"], image["plane"], image["labels"]) == (
        "video.mp4",
        [1],
        ["labels.tif", 0],
    )


def test_drawn_instances_are_in_the_overlay_only(tmp_path: Path) -> None:
    result = made_result(0, pixels=np.zeros((48, 64, 3), np.uint8))
    pictures = {}
    for video in ("overlay", "raw"):
        options = RecordOptions(video=video, min_free_bytes=0)
        folder = _record(tmp_path / video, [result], options).folder
        with av.open(str(folder / "video.mp4")) as container:
            pictures[video] = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert pictures["raw"].max() < 10
    assert pictures["overlay"][10:18, 0:8].max() > 100


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.bool_])
@pytest.mark.parametrize("shape", [(5, 7), (31, 33, 4), (20, 20, 2)])
def test_frames_of_every_type_and_odd_size_are_filmed(
    tmp_path: Path, dtype: Any, shape: tuple[int, ...]
) -> None:
    pixels = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    frame = made_frame(0, pixels=pixels)
    options = RecordOptions(video="raw", labels="none", min_free_bytes=0)

    recorder = _record(tmp_path / "a", [frame], options)

    assert recorder.fault is None
    even = tuple(side + side % 2 for side in shape[:2])
    assert _film(recorder.folder / "video.mp4") == [(0.0, *even)]


def test_a_new_size_begins_new_files(tmp_path: Path) -> None:
    sizes = [(48, 64), (48, 64), (50, 60), (48, 64)]
    results = [made_result(n, image_hw=hw) for n, hw in enumerate(sizes)]

    recorder = _record(tmp_path / "a", results)

    folder = recorder.folder
    assert recorder.fault is None
    # the last picture once more, so that it is shown until the new size comes
    assert _film(folder / "video.mp4") == [(0.0, 48, 64), (0.1, 48, 64), (0.18, 48, 64)]
    assert _film(folder / "video-2.mp4") == [(0.0, 50, 60), (0.08, 50, 60)]
    assert _film(folder / "video-3.mp4") == [(0.0, 48, 64)]
    shapes = [tifffile.imread(folder / f"labels{n}.tif").shape for n in ("", "-2", "-3")]
    assert shapes == [(2, 48, 64), (50, 60), (48, 64)]
    images = read_coco(folder / "instances.json")
    assert [i.instances.image_hw for i in images] == sizes
    assert [i.file_name for i in images] == [
        "video.mp4",
        "video.mp4",
        "video-2.mp4",
        "video-3.mp4",
    ]
    assert [part["start_s"] for part in _about(folder)["videos"]] == [0.0, 0.2, 0.3]


def test_large_ids_begin_a_label_file_of_32_bits(tmp_path: Path) -> None:
    results = [made_result(0), made_result(1, handles=(70_000,)), made_result(2)]

    folder = _record(tmp_path / "a", results).folder

    assert tifffile.imread(folder / "labels.tif").dtype == np.uint16
    wide = tifffile.imread(folder / "labels-2.tif")
    assert (wide.dtype, wide.shape, wide.max()) == (np.uint32, (2, 48, 64), 70_000)


def test_categories_of_new_weights_are_joined_by_name(tmp_path: Path) -> None:
    other = CategoryTable.from_names("debris", "cell")
    results = [made_result(0), made_result(1, handles=(1,), categories=other), made_result(2)]

    folder = _record(tmp_path / "a", results).folder

    images = read_coco(folder / "instances.json")
    table = images[0].instances.categories
    names = [table.name_of(int(image.instances.category_ids[0])) for image in images]
    assert names == ["cell", "debris", "cell"]
    assert [row["category"] for row in _rows(folder)] == ["cell", "cell", "debris", "cell", "cell"]


class _SlowDisk:
    """Lets the first frames through when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.may_write, self.is_stuck = threading.Event(), threading.Event()
        write = Recording.write

        def wait_and_write(self_: Recording, item: Any) -> None:
            self.is_stuck.set()
            assert self.may_write.wait(20)
            write(self_, item)

        monkeypatch.setattr(Recording, "write", wait_and_write)


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[_SlowDisk]:
    disk = _SlowDisk(monkeypatch)
    yield disk
    disk.may_write.set()


def test_a_slow_disk_drops_the_oldest_and_never_blocks(
    tmp_path: Path, slow_disk: _SlowDisk
) -> None:
    recorder = made_recorder(tmp_path / "a", RecordOptions(queue_frames=5, min_free_bytes=0))
    recorder.start()
    results = [made_result(n) for n in range(40)]
    recorder.put(results[0])
    assert slow_disk.is_stuck.wait(10)
    times = []
    for result in results[1:]:
        start = time.perf_counter()
        recorder.put(result)
        times.append(time.perf_counter() - start)

    assert recorder.stats.dropped == 34
    # the median: another process may have the core at any single one
    assert sorted(times)[len(times) // 2] < 0.001
    slow_disk.may_write.set()
    assert recorder.stop(timeout_s=30)
    frames = [
        image["frame"]
        for image in json.loads((recorder.folder / "instances.json").read_text())["images"]
    ]
    assert frames == [0, 35, 36, 37, 38, 39]
    assert _about(recorder.folder)["dropped"] == 34


def test_a_recorder_that_is_waited_for_drops_nothing(tmp_path: Path, slow_disk: _SlowDisk) -> None:
    options = RecordOptions(queue_frames=5, min_free_bytes=0, waits_for_disk=True)
    recorder = made_recorder(tmp_path / "a", options)
    recorder.start()
    put: list[int] = []

    def work() -> None:
        for number in range(40):
            recorder.put(made_result(number))
            put.append(number)

    model = threading.Thread(target=work, daemon=True)
    model.start()
    assert slow_disk.is_stuck.wait(10)
    # one is being written, five wait, and the model waits with the next one
    wait_for(lambda: len(put) == 6)
    model.join(0.1)
    assert (len(put), model.is_alive()) == (6, True)
    slow_disk.may_write.set()
    model.join(20)
    assert recorder.stop(timeout_s=30)
    assert (recorder.stats.results, recorder.stats.dropped) == (40, 0)


def test_who_waits_for_the_disk_goes_on_when_the_recording_ends(
    tmp_path: Path, slow_disk: _SlowDisk
) -> None:
    options = RecordOptions(queue_frames=1, min_free_bytes=0, waits_for_disk=True)
    recorder = made_recorder(tmp_path / "a", options)
    recorder.start()
    results = [made_result(number) for number in range(4)]
    model = threading.Thread(target=lambda: [*map(recorder.put, results)], daemon=True)
    model.start()
    assert slow_disk.is_stuck.wait(10)
    recorder.stop(timeout_s=0)
    model.join(10)
    assert not model.is_alive()
    slow_disk.may_write.set()
    assert recorder.stop(timeout_s=30)


def test_what_waits_is_bounded_in_bytes_too(tmp_path: Path, slow_disk: _SlowDisk) -> None:
    # a frame has 48 * 64 * 3 = 9,216 bytes
    options = RecordOptions(queue_bytes=3 * 9_216, min_free_bytes=0)
    recorder = made_recorder(tmp_path / "a", options)
    recorder.start()
    recorder.put(made_result(0))
    assert slow_disk.is_stuck.wait(10)
    for number in range(1, 9):
        recorder.put(made_result(number))

    assert recorder.stats.dropped == 5
    slow_disk.may_write.set()
    assert recorder.stop(timeout_s=30)
    assert recorder.stats.results == 4


def test_stop_comes_back_at_once_and_what_waits_is_still_written(
    tmp_path: Path, slow_disk: _SlowDisk
) -> None:
    recorder = made_recorder(tmp_path / "a", ALL)
    recorder.start()
    for number in range(5):
        recorder.put(made_result(number))
    assert slow_disk.is_stuck.wait(10)

    start = time.monotonic()
    assert not recorder.stop(timeout_s=0)
    assert time.monotonic() - start < 1
    assert not recorder.is_recording
    assert recorder.is_alive
    slow_disk.may_write.set()
    assert recorder.stop(timeout_s=30)
    assert recorder.stats.results == 5


def test_after_some_seconds_a_stopped_recording_drops_what_still_waits(
    tmp_path: Path, slow_disk: _SlowDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_deeppixel.live.record._DRAIN_S", 0.0)
    recorder = made_recorder(tmp_path / "a", ALL)
    recorder.start()
    for number in range(5):
        recorder.put(made_result(number))
    assert slow_disk.is_stuck.wait(10)

    assert not recorder.stop(timeout_s=0.01)
    slow_disk.may_write.set()
    assert recorder.stop(timeout_s=30)
    assert (recorder.stats.results, recorder.stats.dropped) == (1, 4)


@pytest.mark.parametrize(
    ("limit", "expected", "reason"),
    [
        ({"max_frames": 7}, 7, "7 frames are recorded"),
        ({"max_s": 0.5}, 5, "0.5 seconds are recorded"),
    ],
)
def test_a_limit_ends_the_recording(
    tmp_path: Path, limit: dict[str, Any], expected: int, reason: str
) -> None:
    recorder = made_recorder(tmp_path / "a", RecordOptions(min_free_bytes=0, **limit))
    recorder.start()
    for number in range(20):
        recorder.put(made_result(number))
    assert recorder.stop(timeout_s=30)

    assert recorder.ended == reason
    assert recorder.fault is None
    assert len(_film(recorder.folder / "video.mp4")) == expected
    assert len(read_coco(recorder.folder / "instances.json")) == expected
    assert recorder.stats.dropped == 0


def test_a_limit_in_bytes_ends_the_recording_near_it(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    options = RecordOptions(min_free_bytes=0, max_bytes=300_000, queue_frames=200)
    pixels = [noise.integers(0, 255, (120, 160, 3), np.uint8) for _ in range(40)]
    results = [made_result(n, pixels=p) for n, p in enumerate(pixels)]

    recorder = _record(tmp_path / "a", results, options)

    assert recorder.ended == "0.3 MB are recorded"
    assert 250_000 < (recorder.folder / "video.mp4").stat().st_size < 600_000
    # while it grew, the lines of the COCO file counted as well
    assert 0.5 < recorder.stats.num_bytes / 300_000 < 2


def test_an_existing_folder_is_never_written_into(tmp_path: Path) -> None:
    first = _record(tmp_path / "a", [made_result(0)])
    second = _record(tmp_path / "a", [made_result(0)])

    assert (first.folder.name, second.folder.name) == ("a", "a-2")


def test_a_folder_that_cannot_be_made_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match="cannot record to"):
        Recorder(tmp_path / "file" / "a")


def test_a_write_error_ends_the_recording_and_keeps_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = LabelTiff.write

    def fail_at_three(self: LabelTiff, instances: Any) -> int:
        if self.num_frames == 3:
            raise OSError(28, "No space left on device")
        return write(self, instances)

    monkeypatch.setattr(LabelTiff, "write", fail_at_three)
    recorder = _record(tmp_path / "a", [made_result(n) for n in range(10)])

    assert recorder.fault is not None
    assert "No space left on device" in recorder.fault
    assert not recorder.is_recording
    assert len(read_coco(recorder.folder / "instances.json")) == 3
    assert _about(recorder.folder)["ended"] == recorder.fault
    recorder.put(made_result(11))
    assert recorder.stats.results == 3


def test_a_nearly_full_disk_ends_the_recording_while_there_is_room(tmp_path: Path) -> None:
    recorder = _record(tmp_path / "a", [made_result(0)], RecordOptions(min_free_bytes=10**18))
    assert recorder.fault is not None
    assert "MB left" in recorder.fault
    assert len(read_coco(recorder.folder / "instances.json")) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root can mount a small disk")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_ends_the_recording_and_it_can_be_finished_elsewhere(
    small_disk: Path, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0)
    pixels = [noise.integers(0, 255, (240, 320, 3), np.uint8) for _ in range(60)]
    results = [made_result(n, pixels=p) for n, p in enumerate(pixels)]

    recorder = _record(small_disk / "a", results)

    assert recorder.fault is not None
    assert "No space left" in recorder.fault
    saved = tmp_path / "saved"
    saved.mkdir()
    for path in recorder.folder.iterdir():
        (saved / path.name).write_bytes(path.read_bytes())
    written = recorder.stats.results
    assert 10 < written < 60
    images = read_coco(finish_recording(saved))
    assert len(images) in (written, written + 1)
    assert read_label_tiff(saved / "labels.tif").label_images.shape[0] >= written
    with av.open(str(saved / "video.mp4")) as container:
        # to the end, without an error: the fragment that was cut off is gone
        assert len(list(container.decode(video=0))) > 5


def test_a_folder_that_is_gone_ends_the_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_deeppixel.live.record._CHECK_S", 0.0)
    recorder = made_recorder(tmp_path / "a", ALL)
    recorder.start()
    recorder.put(made_result(0))
    deadline = time.monotonic() + 10
    while recorder.stats.results < 1 and time.monotonic() < deadline:
        threading.Event().wait(0.005)
    recorder.folder.rename(tmp_path / "b")
    recorder.put(made_result(1))
    assert recorder.stop(timeout_s=30)

    assert recorder.fault is not None
    assert "its folder is gone" in recorder.fault


def test_a_film_without_pyav_is_refused_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    recorder = _record(tmp_path / "a", [made_result(0)])
    assert recorder.fault is not None
    assert 'pip install "napari-deeppixel[live]"' in recorder.fault

    without = _record(tmp_path / "b", [made_result(0)], RecordOptions(video="none"))
    assert without.fault is None
    assert len(read_coco(without.folder / "instances.json")) == 1


def test_a_recording_without_any_frame_is_whole(tmp_path: Path) -> None:
    recorder = _record(tmp_path / "a", [])
    assert recorder.fault is None
    assert read_coco(recorder.folder / "instances.json") == []


def test_a_password_in_the_address_is_not_written(tmp_path: Path) -> None:
    recorder = _record(tmp_path / "a", [], source="rtsp://me:secret@10.0.0.7/live")
    assert _about(recorder.folder)["source"] == "rtsp://10.0.0.7/live"


_CHILD = """
import sys, time
from pathlib import Path
from napari_deeppixel.live.record import Recorder, RecordOptions
from tests.live.made_results import made_result

options = RecordOptions(labels=sys.argv[2], min_free_bytes=0)
recorder = Recorder(Path(sys.argv[1]), options, now_s=lambda: 1000.0)
recorder.start()
number = 0
while True:
    recorder.put(made_result(number, grabbed_s=1000 + number / 30))
    while recorder.stats.results <= number:
        time.sleep(0.001)
    number += 1
    print(number, flush=True)
"""


@pytest.mark.parametrize("labels", ["tiff", "zarr"])
def test_after_kill_minus_nine_the_recording_is_made_whole(tmp_path: Path, labels: str) -> None:
    if labels == "zarr":
        pytest.importorskip("zarr", minversion="3", reason="zarr is an extra")
    folder = tmp_path / "a"
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(folder), labels],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, os.getcwd()])},
    )
    assert child.stdout is not None
    for told in child.stdout:
        if int(told) == 90:
            break
    with pytest.raises(RecordError, match="still being recorded"):
        finish_recording(folder)
    child.kill()
    child.wait(10)
    child.stdout.close()

    coco = finish_recording(folder)

    images = read_coco(coco)
    # a few more may have been written before the kill came
    assert len(images) >= 90
    assert [image.instances.masks[0].x for image in images[:90]] == [n % 20 for n in range(90)]
    # of 30 frames a second, at most one second is missing
    film = _film(folder / "video.mp4")
    assert len(film) >= 60
    assert [stamp for stamp, _, _ in film[:4]] == [0.0, 0.0333, 0.0667, 0.1]
    path = folder / ("labels.tif" if labels == "tiff" else "labels.ome.zarr")
    assert label_files.num_readable(path) >= len(images)
    assert len(_rows(folder)) == 2 * len(images)
    assert _about(folder)["ended"] == "interrupted"
    assert finish_recording(folder) == coco


def _interrupted(folder: Path, num_frames: int) -> None:
    """Leave a folder as a killed recorder does."""
    folder.mkdir()
    recording_ = Recording(folder, ALL)
    for number in range(num_frames):
        recording_.write(made_result(number))
    recording_.close()


def test_every_label_image_and_line_is_on_the_disk_while_the_recording_goes_on(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    with Recording(folder, ALL) as recording_:
        for number in range(3):
            recording_.write(made_result(number))
            assert label_files.num_readable(folder / "labels.tif") == number + 1
            assert len(list(read_lines(folder / "instances.jsonl"))) == number + 1
            assert len(_rows(folder)) == 2 * (number + 1)


@pytest.mark.parametrize("cut", [1, 50, 400])
def test_torn_files_lose_the_last_frame_only(tmp_path: Path, cut: int) -> None:
    folder = tmp_path / "a"
    _interrupted(folder, 5)
    for name in ("instances.jsonl", "labels.tif", "instances.csv"):
        path = folder / name
        os.truncate(path, path.stat().st_size - min(cut, 100 if name != "labels.tif" else cut))

    images = read_coco(finish_recording(folder))

    assert len(images) == 4
    stack = read_label_tiff(folder / "labels.tif").label_images
    for number, image in enumerate(images):
        assert np.array_equal(stack[number], made_result(number).instances.label_image())
        assert len(image.instances) == 2
    assert len(_rows(folder)) == 8
    assert not list(folder.glob("new-*"))


def test_only_a_recording_can_be_finished(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="not a recording"):
        finish_recording(tmp_path)


def test_a_label_tiff_never_grows_beyond_what_imagej_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_files, "_MAX_TIFF_BYTES", 12_000)
    folder = _record(tmp_path / "a", [made_result(n) for n in range(40)]).folder

    parts = sorted(folder.glob("labels*.tif"))
    assert len(parts) > 1
    assert max(path.stat().st_size for path in parts) < 12_000
    assert sum(len(read_label_tiff(path).label_images) for path in parts) == 40


def test_memory_and_files_stay_flat_over_two_thousand_frames(tmp_path: Path) -> None:
    folder, process = tmp_path / "a", psutil.Process()
    folder.mkdir()

    def write(recording_: Recording, numbers: range) -> None:
        for number in numbers:
            pixels = np.full((120, 160, 3), number % 200, np.uint8)
            recording_.write(made_frame(number, pixels=pixels))
            if number % 5 == 0:
                recording_.write(made_result(number, pixels=pixels))

    with Recording(folder, RecordOptions(video="raw", min_free_bytes=0)) as recording_:
        write(recording_, range(500))
        rss, files = process.memory_info().rss, process.num_fds() if os.name != "nt" else 0
        write(recording_, range(500, 2500))
        # all the frames since would be 115 MB
        assert process.memory_info().rss - rss < 15_000_000
        assert process.num_fds() if os.name != "nt" else files == 0
        assert recording_.num_video_frames == 2500


def test_a_thousand_frames_are_remembered_for_results_that_come_late(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    pixels = np.zeros((4, 6), np.uint8)
    with Recording(folder, RecordOptions(video="raw", min_free_bytes=0)) as recording_:
        for number in range(1025):
            recording_.write(made_frame(number, pixels=pixels))
        for number in (0, 1):
            recording_.write(made_result(number, handles=(), pixels=pixels))
        lines = list(read_lines(folder / "instances.jsonl"))
    assert [line["image"]["file_name"] for line in lines] == ["labels.tif", "video.mp4"]


@pytest.mark.parametrize("field", ["max_s", "max_bytes", "max_frames", "queue_frames"])
def test_limits_must_be_above_zero(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} must be above 0, got 0"):
        RecordOptions(**{field: 0})
