import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count, islice
from typing import Any

import numpy as np
import pytest
from tests.live.scripted import wait_for

from napari_deeppixel.live.mmcore_source import MMCoreSource, list_cameras
from napari_deeppixel.live.pipeline import LivePipeline
from napari_deeppixel.live.registry import create_source, list_sources
from napari_deeppixel.live.source import Frame, SourceError, SourceFault, SourceOptions
from napari_deeppixel.live.status import LiveState

# -- with a camera in Python, in the real core ----------------------------------------------------

mmcore = pytest.importorskip(
    "pymmcore_plus.core._mmcore_plus", reason="the extra `micromanager` is not installed"
)
useq = pytest.importorskip("useq", reason="the extra `micromanager` is not installed")
unicore = pytest.importorskip("pymmcore_plus.experimental.unicore")

# how a test's camera that fails ends: its thread is the core's
FAILS_IN_ITS_THREAD = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"
)


class CountingCamera(unicore.CameraDevice):  # type: ignore[misc, name-defined]
    """Every pixel of image n is n; it may be told to fail, wait or change."""

    def __init__(self, image_hwc: tuple[int, ...] = (3, 4), dtype: str = "uint8") -> None:
        super().__init__()
        self.image_hwc, self.pixel_type = image_hwc, dtype
        self.exposure_ms, self.interval_s = 10.0, 0.005
        self.fails_at: int | None = None
        self.waits = threading.Event()
        self.is_stopped: Callable[[], bool] = lambda: False
        self.refuses_exposure = self.refuses_to_start = False
        self.num_images = 0

    def get_exposure(self) -> float:
        return self.exposure_ms

    def set_exposure(self, exposure: float) -> None:
        if self.refuses_exposure:
            raise ValueError("1 to 100 ms only")
        self.exposure_ms = exposure

    def shape(self) -> tuple[int, ...]:
        if self.refuses_to_start:
            raise OSError("the driver hangs")
        return self.image_hwc

    def dtype(self) -> str:
        return self.pixel_type

    def start_sequence(
        self, n: int | None, get_buffer: Callable[[Sequence[int], Any], Any]
    ) -> Iterator[Mapping[str, Any]]:
        pause = threading.Event()
        for number in count() if n is None else range(n):
            if number == self.fails_at:
                raise OSError("the cable is out")
            while self.waits.is_set():
                pause.wait(0.002)
                # the core itself looks at the next image only
                if self.is_stopped():
                    return
            buffer = get_buffer(self.image_hwc, self.pixel_type)
            buffer[:] = number % 251 if self.pixel_type == "uint8" else number + 1000
            self.num_images = number + 1
            yield {}
            pause.wait(self.interval_s)


class Core(unicore.UniMMCore):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.num_components = 1
        self.num_copies = 0

    def add(self, label: str, camera: CountingCamera) -> None:
        self.loadPyDevice(label, camera)
        self.initializeDevice(label)

    def getNumberOfComponents(self) -> int:  # noqa: N802  the core's name
        return self.num_components

    def getLastImageMD(self, *args: Any, **kwargs: Any) -> Any:  # noqa: N802  the core's name
        self.num_copies += 1
        return super().getLastImageMD(*args, **kwargs)


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch) -> Iterator[Core]:
    core = Core()
    monkeypatch.setattr(mmcore, "_instance", weakref.ref(core))
    yield core
    if core.isSequenceRunning():
        core.stopSequenceAcquisition()
    core.unloadAllDevices()


@pytest.fixture
def camera(core: Core) -> CountingCamera:
    camera = CountingCamera()
    camera.is_stopped = core._stop_event.is_set
    core.add("Cam", camera)
    core.setCameraDevice("Cam")
    return camera


@pytest.fixture
def source(camera: CountingCamera) -> Iterator[MMCoreSource]:  # noqa: ARG001  it must be there
    source = MMCoreSource(options=SourceOptions(timeout_s=0.3))
    yield source
    source.close()


def take(source: MMCoreSource, num_frames: int) -> list[Frame]:
    return list(islice(source.frames(), num_frames))


def take_to_the_error(source: MMCoreSource) -> tuple[list[Frame], SourceError]:
    frames = []
    try:
        for frame in islice(source.frames(), 500):
            frames.append(frame)
    except SourceError as error:
        return frames, error
    raise AssertionError("no error came")


# -- images ---------------------------------------------------------------------------------------


def test_frames_come_in_order_and_with_the_stamps_of_the_core(source: MMCoreSource) -> None:
    info = source.open()
    assert info.image_hw == (3, 4)
    assert info.description == "Cam, 8 bits, 10 ms"
    frames = take(source, 10)
    assert [frame.number for frame in frames] == list(range(10))
    values = [int(frame.pixels[0, 0]) for frame in frames]
    assert values == sorted(set(values))
    stamps = [frame.device_s for frame in frames if frame.device_s is not None]
    assert len(stamps) == 10
    assert stamps == sorted(set(stamps))
    assert frames[0].pixels.tolist() == [[values[0]] * 4] * 3


def test_no_frame_is_lost_of_a_camera_of_50_frames_a_second(
    camera: CountingCamera, source: MMCoreSource
) -> None:
    camera.interval_s = 0.02
    source.open()
    values = [int(frame.pixels[0, 0]) for frame in take(source, 25)]
    # two may be lost on a computer that does other things
    assert values[-1] - values[0] <= 26


def test_who_comes_late_gets_the_newest_image(camera: CountingCamera, source: MMCoreSource) -> None:
    source.open()
    frames = source.frames()
    next(frames)
    wait_for(lambda: camera.num_images >= 20)
    assert next(frames).pixels[0, 0] >= 19


def test_images_are_ours_and_stay_as_they_were(source: MMCoreSource, core: Core) -> None:
    source.open()
    frame = take(source, 1)[0]
    before = frame.pixels.copy()
    # the whole ring is written over
    core._seq_buffer._pool[:] = 255
    assert frame.pixels.tolist() == before.tolist()


def test_16_bits_stay_16_bits(camera: CountingCamera, source: MMCoreSource) -> None:
    camera.pixel_type = "uint16"
    source.open()
    frame = take(source, 1)[0]
    assert frame.pixels.dtype == np.uint16
    assert frame.pixels[0, 0] >= 1000


def test_rgb32_of_the_core_becomes_red_green_blue(
    camera: CountingCamera, core: Core, source: MMCoreSource
) -> None:
    # 1000 + n is 232 + n, 3, 0, 0 in memory: blue, green, red, nothing
    camera.pixel_type, core.num_components = "uint32", 4
    source.open()
    frame = take(source, 1)[0]
    assert frame.pixels.shape == (3, 4, 3)
    assert frame.pixels.dtype == np.uint8
    red, green, blue = frame.pixels[0, 0].tolist()
    assert (red, green) == (0, 3)
    assert blue >= 232
    assert frame.pixels.flags.c_contiguous


def test_a_fourth_channel_is_left_out(camera: CountingCamera, source: MMCoreSource) -> None:
    camera.image_hwc = (3, 4, 4)
    source.open()
    assert take(source, 1)[0].pixels.shape == (3, 4, 3)


def test_the_size_may_change_while_it_runs(camera: CountingCamera, source: MMCoreSource) -> None:
    source.open()
    frames = source.frames()
    assert next(frames).image_hw == (3, 4)
    camera.image_hwc = (6, 2)
    assert any(frame.image_hw == (6, 2) for frame in islice(frames, 20))


def test_an_image_without_stamps_counts_when_the_number_of_images_changes(
    core: Core, source: MMCoreSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.zeros((3, 4), np.uint8)
    numbers = iter([1, 1, 2])
    monkeypatch.setattr(core, "getLastImageAndMD", lambda: (pixels, {}))
    monkeypatch.setattr(core, "getRemainingImageCount", lambda: next(numbers, 2))
    source.open()
    frames, error = take_to_the_error(source)
    assert [frame.device_s for frame in frames] == [None, None]
    assert error.fault is SourceFault.TIMEOUT


def test_a_slow_camera_is_not_copied_at_each_look(
    camera: CountingCamera, core: Core, source: MMCoreSource
) -> None:
    camera.interval_s = 0.1
    source.open()
    before = core.num_copies
    take(source, 5)
    # one a frame, and some to see whether a full buffer has changed
    assert core.num_copies - before <= 30


# -- settings -------------------------------------------------------------------------------------


def test_the_exposure_is_set(camera: CountingCamera) -> None:
    source = create_source("micromanager", SourceOptions(extra={"exposure_ms": "5"}))
    info = source.open()
    source.close()
    assert camera.exposure_ms == 5
    assert info.description == "Cam, 8 bits, 5 ms"


def test_an_exposure_that_the_camera_refuses_is_told(camera: CountingCamera, core: Core) -> None:
    camera.refuses_exposure = True
    source = create_source("micromanager", SourceOptions(extra={"exposure_ms": "500"}))
    with pytest.raises(SourceError, match=r"takes no exposure of 500 ms .*1 to 100 ms only"):
        source.open()
    source.close()
    assert not core.isSequenceRunning()


def test_cameras_are_listed_the_active_one_first(core: Core, camera: CountingCamera) -> None:
    core.add("Other", CountingCamera())
    (found,) = [listed for listed in list_sources() if listed.name == "Micro-Manager"]
    assert [(info.address, info.label) for info in found.sources] == [
        ("micromanager", "Micro-Manager: Cam"),
        ("micromanager:Other", "Micro-Manager: Other"),
    ]
    assert camera.num_images == 0


def test_another_camera_is_the_active_one_until_it_is_closed(
    core: Core,
    camera: CountingCamera,  # noqa: ARG001  the active one
) -> None:
    core.add("Wide", CountingCamera((2, 9)))
    source = create_source("micromanager:Wide")
    assert source.open().image_hw == (2, 9)
    assert next(source.frames()).image_hw == (2, 9)
    source.close()
    assert core.getCameraDevice() == "Cam"
    assert not core.isSequenceRunning()


def test_another_camera_does_not_interrupt_a_live_view(core: Core, camera: CountingCamera) -> None:
    core.add("Wide", CountingCamera((2, 9)))
    core.startContinuousSequenceAcquisition(0)
    source = create_source("micromanager:Wide")
    with pytest.raises(SourceError, match="stop its live view to use 'Wide'") as caught:
        source.open()
    source.close()
    assert caught.value.fault is SourceFault.BUSY
    assert core.isSequenceRunning()
    assert core.getCameraDevice() == "Cam"
    assert camera.exposure_ms == 10


# -- who started it stops it ----------------------------------------------------------------------


def test_what_was_started_here_is_stopped_here(core: Core, source: MMCoreSource) -> None:
    source.open()
    assert core.isSequenceRunning()
    take(source, 2)
    source.close()
    source.close()
    assert not core.isSequenceRunning()


def test_a_live_view_that_ran_before_is_followed_and_goes_on(
    core: Core, camera: CountingCamera, source: MMCoreSource
) -> None:
    core.startContinuousSequenceAcquisition(0)
    source.open()
    take(source, 3)
    source.close()
    assert core.isSequenceRunning()
    before = camera.num_images
    wait_for(lambda: camera.num_images > before + 2)


def test_a_live_view_that_others_stopped_is_waited_for_and_not_started(
    core: Core, camera: CountingCamera, source: MMCoreSource
) -> None:
    core.startContinuousSequenceAcquisition(0)
    source.open()
    frames = source.frames()
    next(frames)
    core.stopSequenceAcquisition()
    with pytest.raises(SourceError, match="its live view was stopped") as caught:
        list(islice(frames, 500))
    source.close()
    assert caught.value.fault is SourceFault.TIMEOUT
    with pytest.raises(SourceError, match="its live view was stopped"):
        source.open()
    assert not core.isSequenceRunning()
    core.startContinuousSequenceAcquisition(0)
    source.open()
    assert len(take(source, 2)) == 2
    assert camera.num_images > 0


def test_an_acquisition_goes_before_us(
    core: Core, camera: CountingCamera, source: MMCoreSource
) -> None:
    source.open()
    frames = source.frames()
    next(frames)
    begun, go_on = threading.Event(), threading.Event()

    def events() -> Iterator[Any]:
        begun.set()
        go_on.wait(5)
        yield useq.MDAEvent()

    # there is no shutter
    core.setAutoShutter(False)
    acquisition = core.run_mda(events())
    try:
        assert begun.wait(5)
        with pytest.raises(SourceError, match="an acquisition runs") as caught:
            list(islice(frames, 500))
        assert caught.value.fault is SourceFault.BUSY
        source.close()
        assert not core.isSequenceRunning()
        with pytest.raises(SourceError, match="an acquisition runs"):
            source.open()
        assert not core.isSequenceRunning()
    finally:
        go_on.set()
        acquisition.join(5)
    source.open()
    assert len(take(source, 2)) == 2
    assert camera.num_images > 0


# -- faults ---------------------------------------------------------------------------------------


def test_no_core_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmcore, "_instance", None)
    assert list_cameras() == ()
    with pytest.raises(SourceError, match="load its configuration in this program") as caught:
        create_source("micromanager").open()
    assert caught.value.fault is SourceFault.MISSING
    assert mmcore._instance is None


def test_a_core_without_a_camera_is_told(core: Core) -> None:
    assert list_cameras() == ()
    for address in ("micromanager", "micromanager:Cam"):
        with pytest.raises(SourceError, match="load its configuration in this program") as caught:
            create_source(address).open()
        assert caught.value.fault is SourceFault.MISSING
    assert core.getLoadedDevices() == ("Core",)


def test_a_label_that_is_not_there_is_told_with_those_that_are(
    camera: CountingCamera,  # noqa: ARG001  the one that is there
) -> None:
    with pytest.raises(SourceError, match="no camera 'Came': there are Cam") as caught:
        create_source("micromanager:Came").open()
    assert caught.value.fault is SourceFault.MISSING


def test_a_camera_that_does_not_start_is_told(camera: CountingCamera, source: MMCoreSource) -> None:
    camera.refuses_to_start = True
    with pytest.raises(SourceError, match=r"does not start .*the driver hangs"):
        source.open()
    camera.refuses_to_start = False
    source.open()
    assert len(take(source, 1)) == 1


@FAILS_IN_ITS_THREAD
def test_a_camera_that_fails_is_lost_after_its_last_image(
    camera: CountingCamera, source: MMCoreSource
) -> None:
    camera.fails_at, camera.interval_s = 5, 0.03
    source.open()
    frames, error = take_to_the_error(source)
    assert "has stopped" in str(error)
    assert error.fault is SourceFault.LOST
    assert frames[-1].pixels[0, 0] == 4


@FAILS_IN_ITS_THREAD
def test_a_camera_that_failed_is_opened_again(core: Core, camera: CountingCamera) -> None:
    camera.fails_at = 5
    pipeline = LivePipeline(create_source("micromanager"), engine=None)
    pipeline.start()
    wait_for(lambda: pipeline.status.state is LiveState.RECONNECTING)
    camera.fails_at = None
    wait_for(lambda: pipeline.status.state is LiveState.LIVE)
    pipeline.stop()
    assert not core.isSequenceRunning()


def test_no_image_in_time_is_told_after_exposure_and_time_out(
    camera: CountingCamera, source: MMCoreSource
) -> None:
    camera.exposure_ms = 200
    camera.waits.set()
    source.open()
    begun_s = time.monotonic()
    with pytest.raises(SourceError, match=r"sent nothing for 0\.\d s .*empty") as caught:
        take(source, 1)
    camera.waits.clear()
    assert caught.value.fault is SourceFault.TIMEOUT
    assert 0.5 <= time.monotonic() - begun_s < 2


def test_devices_that_are_unloaded_are_told(core: Core, source: MMCoreSource) -> None:
    source.open()
    frames = source.frames()
    next(frames)
    core.unloadAllDevices()
    with pytest.raises(SourceError, match="has stopped"):
        list(islice(frames, 500))
    source.close()
    with pytest.raises(SourceError, match="load its configuration"):
        source.open()


def test_a_wait_is_interrupted_at_once(camera: CountingCamera) -> None:
    source = MMCoreSource(options=SourceOptions(timeout_s=30))
    camera.waits.set()
    source.open()
    ended: list[Frame] | None = None

    def read() -> None:
        nonlocal ended
        ended = list(islice(source.frames(), 500))

    thread = threading.Thread(target=read)
    thread.start()
    source.interrupt()
    thread.join(1)
    assert not thread.is_alive()
    assert ended == []
    source.close()
    camera.waits.clear()


def test_frames_of_a_source_that_is_not_open_are_refused(source: MMCoreSource) -> None:
    with pytest.raises(SourceError, match="call open"):
        take(source, 1)


def test_a_closed_source_does_not_keep_the_core(monkeypatch: pytest.MonkeyPatch) -> None:
    core = unicore.UniMMCore()
    monkeypatch.setattr(mmcore, "_instance", weakref.ref(core))
    source = MMCoreSource()
    with pytest.raises(SourceError):
        source.open()
    source.close()
    assert source._core is None
    del core
    gc.collect()
