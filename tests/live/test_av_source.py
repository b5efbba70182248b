import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

av = pytest.importorskip("av", reason="the extra `live` is not installed")

from tests.live.servers import (  # noqa: E402
    MjpegServer,
    NonsenseServer,
    RtspServer,
    Server,
    SilentHttpServer,
    SilentRtspServer,
    flat,
    jpeg,
)

from napari_deeppixel.batch.inputs import sample_video  # noqa: E402
from napari_deeppixel.live.av_devices import camera_input  # noqa: E402
from napari_deeppixel.live.av_errors import source_error, without_password  # noqa: E402
from napari_deeppixel.live.av_source import AvInput, AvSource  # noqa: E402
from napari_deeppixel.live.pace import Pace  # noqa: E402
from napari_deeppixel.live.registry import create_source  # noqa: E402
from napari_deeppixel.live.source import (  # noqa: E402
    Frame,
    FrameSource,
    SourceError,
    SourceFault,
    SourceInfo,
    SourceOptions,
)

INVALID = av.error.InvalidDataError(1094995529, "Invalid data found when processing input")
SHORT = SourceOptions(timeout_s=0.6)
LONG = SourceOptions(timeout_s=20)


@contextlib.contextmanager
def opened(source: FrameSource) -> Iterator[Iterator[Frame]]:
    try:
        source.open()
        yield source.frames()
    finally:
        source.close()


def take(frames: Iterator[Frame], num: int) -> list[Frame]:
    return [next(frames) for _ in range(num)]


def fault_of(source: FrameSource) -> SourceFault:
    """The fault that opening, or else reading to the end, shows."""
    with pytest.raises(SourceError) as caught, opened(source) as frames:
        for _ in frames:
            pass
    return caught.value.fault


def video(
    path: Path,
    images: list[Any],
    *,
    codec: str = "ffv1",
    pix_fmt: str = "gray16le",
    fps: int = 20,
) -> Path:
    """Write images, all of them of the type that the pixel format says."""
    array_format = pix_fmt if pix_fmt.startswith("gray") else "rgb24"
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=fps)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pix_fmt
        for pixels in images:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format=array_format)))
        file.mux(stream.encode(None))
    return path


# -- files --------------------------------------------------------------------------------------


def test_sixteen_bit_grey_comes_back_as_it_was_written(tmp_path: Path) -> None:
    images = [np.full((48, 66), 1000 * n + 7, np.uint16) for n in range(3)]
    source = create_source(str(video(tmp_path / "a.mkv", images)))
    info = source.open()
    frames = list(source.frames())
    source.close()
    assert (info.image_hw, info.fps) == ((48, 66), 20)
    assert [frame.number for frame in frames] == [0, 1, 2]
    assert [int(frame.pixels[5, 9]) for frame in frames] == [7, 1007, 2007]
    assert {(frame.pixels.dtype.name, frame.pixels.shape) for frame in frames} == {
        ("uint16", (48, 66))
    }
    assert [frame.device_s for frame in frames] == pytest.approx([0, 0.05, 0.1])


def test_eight_bit_grey_stays_grey(tmp_path: Path) -> None:
    images = [np.arange(48 * 66, dtype=np.uint8).reshape(48, 66)]
    with opened(create_source(str(video(tmp_path / "a.mkv", images, pix_fmt="gray")))) as frames:
        (frame,) = frames
    assert frame.pixels.tolist() == images[0].tolist()


def test_colours_come_as_rgb_in_memory_of_their_own(tmp_path: Path) -> None:
    images = [np.zeros((48, 66, 3), np.uint8) for _ in range(2)]
    images[0][..., 0] = images[1][..., 2] = 200
    path = video(tmp_path / "a.mkv", images, pix_fmt="bgr0")
    with opened(create_source(str(path))) as frames:
        first, second = frames
    assert first.pixels[3, 4].tolist() == [200, 0, 0]
    assert second.pixels[3, 4].tolist() == [0, 0, 200]
    assert first.pixels.flags.c_contiguous


def test_a_file_runs_as_it_was_recorded_and_no_frame_is_left_out(tmp_path: Path) -> None:
    path = video(tmp_path / "a.mkv", [np.full((48, 64), n, np.uint16) for n in range(9)])
    begin_s = time.monotonic()
    with opened(create_source(str(path))) as frames:
        values = [int(frame.pixels[0, 0]) for frame in frames]
    assert values == list(range(9))
    # 8 steps of 50 ms
    assert time.monotonic() - begin_s >= 0.39


def test_a_looped_file_goes_on_with_its_numbers_and_stamps(tmp_path: Path) -> None:
    path = video(tmp_path / "a.mkv", [np.full((48, 64), n, np.uint16) for n in range(3)])
    source = create_source(str(path), SourceOptions(is_looped=True, fps=1000))
    with opened(source) as frames:
        seven = take(frames, 7)
    assert [int(frame.pixels[0, 0]) for frame in seven] == [0, 1, 2, 0, 1, 2, 0]
    assert [frame.number for frame in seven] == list(range(7))
    assert [frame.device_s for frame in seven] == pytest.approx([0.05 * n for n in range(7)])


def test_a_wait_within_a_file_ends_when_it_is_interrupted(tmp_path: Path) -> None:
    path = video(tmp_path / "a.mkv", [np.zeros((48, 64), np.uint16)] * 3)
    source = create_source(str(path), SourceOptions(fps=0.1, timeout_s=30))
    with opened(source) as frames:
        next(frames)
        timer = threading.Timer(0.1, source.interrupt)
        timer.start()
        begin_s = time.monotonic()
        assert next(frames, None) is None
        assert time.monotonic() - begin_s < 2
        timer.join()


def test_a_file_that_is_no_video_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_text("Dear Sir or Madam, " * 40)
    with pytest.raises(SourceError, match=r"a\.mp4 .*check that it is a video") as caught:
        create_source(str(path)).open()
    assert caught.value.fault is SourceFault.FORMAT


def test_a_looped_file_without_a_whole_frame_ends_with_an_error(tmp_path: Path) -> None:
    images = [np.zeros((48, 64, 3), np.uint8)] * 2
    path = video(tmp_path / "a.avi", images, codec="mjpeg", pix_fmt="yuvj420p")
    data = path.read_bytes()
    with av.open(str(path)) as file:
        for packet in file.demux():
            data = data.replace(bytes(packet), bytes(packet.size)) if packet.size else data
    path.write_bytes(data)
    source = create_source(str(path), SourceOptions(is_looped=True))
    assert fault_of(source) is SourceFault.FORMAT


def test_a_file_can_be_opened_again_after_its_end(tmp_path: Path) -> None:
    source = create_source(
        str(video(tmp_path / "a.mkv", [np.zeros((48, 64), np.uint16)] * 2)), SourceOptions(fps=500)
    )
    for _ in range(2):
        with opened(source) as frames:
            assert [frame.number for frame in frames] == [0, 1]


# -- streams ------------------------------------------------------------------------------------


def test_mjpeg_is_read_in_its_colours() -> None:
    with MjpegServer() as server, opened(create_source(server.url, LONG)) as frames:
        three = take(frames, 3)
    assert [frame.number for frame in three] == [0, 1, 2]
    assert three[0].pixels.shape == (48, 64, 3)
    assert three[0].pixels[20, 20] == pytest.approx([254, 0, 0], abs=3)
    # a row of JPEGs has no stamps
    assert three[0].device_s is None


def test_mjpeg_without_lengths_is_read_too() -> None:
    with MjpegServer(has_length=False) as server, opened(create_source(server.url, LONG)) as frames:
        assert {frame.pixels.shape for frame in take(frames, 3)} == {(48, 64, 3)}


def test_a_size_that_changes_in_mid_stream_is_passed_on() -> None:
    def picture(number: int) -> bytes:
        return flat(hw=(48, 64)) if number < 5 else flat(hw=(30, 100))

    with MjpegServer(picture) as server, opened(create_source(server.url, LONG)) as frames:
        shapes = [frame.pixels.shape for frame in take(frames, 8)]
    assert shapes == [(48, 64, 3)] * 5 + [(30, 100, 3)] * 3


def test_colours_that_turn_grey_in_mid_stream_are_passed_on_as_grey() -> None:
    def picture(number: int) -> bytes:
        return flat((0, 0, 255)) if number < 5 else flat(100)

    with MjpegServer(picture) as server, opened(create_source(server.url, LONG)) as frames:
        eight = take(frames, 8)
    assert [frame.pixels.ndim for frame in eight] == [3] * 5 + [2] * 3
    assert int(eight[-1].pixels[20, 20]) == 100


def test_broken_pictures_are_left_out_and_counted() -> None:
    noise = jpeg(np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8))
    broken = {4: noise[: len(noise) // 2], 6: b"\xff\xd8" + b"nonsense" * 20, 8: noise[:60]}

    def picture(number: int) -> bytes:
        return broken.get(number, flat())

    with MjpegServer(picture) as server:
        source = create_source(server.url, LONG)
        with opened(source) as frames:
            ten = take(frames, 10)
    assert isinstance(source, AvSource)
    assert source.num_corrupt == 3
    assert all(frame.pixels[40, 40] == pytest.approx([254, 0, 0], abs=3) for frame in ten)


def test_a_stream_whose_first_picture_is_cut_off_is_read_on() -> None:
    # as VLC sends it; the next picture is taken for its rest, with many line ends in it
    noise = jpeg(np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8))

    def picture(number: int) -> bytes:
        return noise if number < 2 else flat()

    with MjpegServer(picture, num_lost=300) as server:
        source = create_source(server.url, LONG)
        with opened(source) as frames:
            five = take(frames, 5)
    assert all(frame.pixels[40, 40] == pytest.approx([254, 0, 0], abs=3) for frame in five)
    # the cut one, and the one that was searched through
    assert source.num_corrupt == 2


def test_a_camera_that_never_marks_the_end_of_its_pictures_is_read() -> None:
    picture = flat()[:-2]
    with (
        MjpegServer(lambda _: picture) as server,
        opened(create_source(server.url, LONG)) as frames,
    ):
        assert len(take(frames, 3)) == 3


def test_broken_pictures_only_are_told_after_a_while() -> None:
    def picture(number: int) -> bytes:
        return flat() if number < 3 else b"\xff\xd8" + b"nonsense" * 20

    with MjpegServer(picture) as server:
        source = create_source(server.url, SourceOptions(timeout_s=1.0))
        assert fault_of(source) is SourceFault.TIMEOUT


@pytest.mark.parametrize("make", [MjpegServer, RtspServer])
def test_a_killed_server_is_lost_and_found_again(make: type[Server]) -> None:
    with make() as server:
        source = create_source(server.url, LONG)
        with opened(source) as frames:
            take(frames, 5)
            server.kill()
            begin_s = time.monotonic()
            with pytest.raises(SourceError) as caught:
                for _ in frames:
                    pass
            assert caught.value.fault is SourceFault.LOST
            assert time.monotonic() - begin_s < 3
        with pytest.raises(SourceError, match="Connection refused") as refused:
            source.open()
        # worth another try: it was there before
        assert refused.value.fault is SourceFault.LOST
        server.start()
        with opened(source) as frames:
            assert [frame.number for frame in take(frames, 3)] == [0, 1, 2]


def test_a_stream_that_stalls_ends_when_its_time_is_over() -> None:
    with MjpegServer(lambda n: flat() if n < 4 else None) as server:
        begin_s = time.monotonic()
        assert fault_of(create_source(server.url, SHORT)) is SourceFault.TIMEOUT
        assert time.monotonic() - begin_s < 5


def test_an_rtsp_stream_that_stalls_ends_when_its_time_is_over() -> None:
    with RtspServer(num_frames=20) as server:
        source = create_source(server.url, SourceOptions(timeout_s=1.5))
        assert fault_of(source) is SourceFault.TIMEOUT


def test_an_rtsp_stream_that_ends_without_a_word_is_lost() -> None:
    with RtspServer(num_frames=30, ends_line=True) as server:
        assert fault_of(create_source(server.url, LONG)) is SourceFault.LOST


@pytest.mark.parametrize("make", [SilentHttpServer, SilentRtspServer])
def test_a_server_that_never_answers_is_given_up(make: type[Server]) -> None:
    with make() as server:
        begin_s = time.monotonic()
        assert fault_of(create_source(server.url, SHORT)) is SourceFault.TIMEOUT
        assert time.monotonic() - begin_s < 4


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not list open sockets")
@pytest.mark.parametrize(
    "server",
    [
        SilentHttpServer(),
        SilentRtspServer(),
        MjpegServer(lambda n: flat() if n < 3 else None),
        RtspServer(num_frames=20),
    ],
    ids=["http opens", "rtsp opens", "http reads", "rtsp reads"],
)
def test_a_wait_for_a_network_ends_when_it_is_interrupted(server: Server) -> None:
    with server:
        source = create_source(server.url, SourceOptions(timeout_s=30))
        came = threading.Event()

        def read() -> None:
            with contextlib.suppress(SourceError), opened(source) as frames:
                for _ in frames:
                    came.set()

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        # until it waits
        while came.wait(1.0):
            came.clear()
        begin_s = time.monotonic()
        source.interrupt()
        thread.join(20)
        assert time.monotonic() - begin_s < 3


@pytest.mark.parametrize("number", [0, 1])
def test_an_interrupt_leaves_other_streams_of_the_same_server_alone(number: int) -> None:
    with MjpegServer() as server:
        sources = [create_source(server.url, LONG) for _ in range(2)]
        with opened(sources[0]) as first, opened(sources[1]) as second:
            take(first, 2)
            take(second, 2)
            sources[number].interrupt()
            stopped, other = (first, second) if number == 0 else (second, first)
            assert next(stopped, None) is None
            assert len(take(other, 20)) == 20


def test_rtsp_is_read_with_its_size_and_stamps() -> None:
    with RtspServer(hw=(48, 96)) as server, opened(create_source(server.url, LONG)) as frames:
        five = take(frames, 5)
    assert {frame.pixels.shape for frame in five} == {(48, 96, 3)}
    # the first one has no stamp yet
    stamps = [frame.device_s for frame in five[1:]]
    assert np.diff(np.array(stamps, float)) == pytest.approx(0.04, abs=0.002)


@pytest.mark.parametrize(
    ("status", "fault"),
    [
        ("404 Not Found", SourceFault.MISSING),
        ("401 Unauthorized", SourceFault.DENIED),
        ("403 Forbidden", SourceFault.DENIED),
        ("503 Service Unavailable", SourceFault.OTHER),
    ],
)
def test_what_a_server_refuses_is_told(status: str, fault: SourceFault) -> None:
    with MjpegServer(status=status) as server:
        assert fault_of(create_source(server.url, LONG)) is fault


def test_a_wrong_password_is_denied_and_not_shown() -> None:
    with RtspServer(password="right") as server:
        source = create_source(server.url.replace("//", "//me:wrong@"), LONG)
        with pytest.raises(SourceError) as caught:
            source.open()
        assert caught.value.fault is SourceFault.DENIED
        assert "wrong" not in str(caught.value)
        assert "wrong" not in source.info.label
        with opened(create_source(server.url.replace("//", "//me:right@"), LONG)) as frames:
            take(frames, 2)


def message_of(source: FrameSource) -> tuple[SourceFault, str]:
    with pytest.raises(SourceError) as caught, opened(source) as frames:
        take(frames, 1)
    return caught.value.fault, str(caught.value)


@pytest.mark.parametrize("stays_open", [True, False])
@pytest.mark.parametrize(
    ("content_type", "body", "cause"),
    [
        ("text/html; charset=utf-8", b"<html>" * 99, "(it answers with text/html)"),
        (
            "multipart/x-mixed-replace; boundary=frame",
            b"nonsense" * 999,
            "(what it sends holds no picture)",
        ),
    ],
)
def test_an_answer_that_is_no_video_is_told(
    content_type: str, body: bytes, cause: str, stays_open: bool
) -> None:
    with NonsenseServer(body, content_type=content_type, stays_open=stays_open) as server:
        fault, message = message_of(create_source(server.url, SHORT))
    assert fault is SourceFault.FORMAT
    assert f"gives nothing that can be shown {cause}: check that the address is" in message


def test_bytes_that_end_and_are_no_video_are_told() -> None:
    body = np.random.default_rng(0).bytes(9999)
    with NonsenseServer(body, content_type="application/octet-stream") as server:
        fault, message = message_of(create_source(server.url, SHORT))
    assert fault is SourceFault.FORMAT
    assert "(it answers with application/octet-stream)" in message


def test_a_video_that_may_still_come_has_sent_no_picture_in_time() -> None:
    with NonsenseServer(b"", content_type="video/mp4", stays_open=True) as server:
        fault, message = message_of(create_source(server.url, SHORT))
    assert fault is SourceFault.TIMEOUT
    assert "sent no picture in time (no whole frame in " in message


def test_pictures_that_are_none_are_told_as_such() -> None:
    with MjpegServer(lambda _: b"\xff\xd8" + b"nonsense" * 20) as server:
        source = create_source(server.url, SHORT)
        fault, message = message_of(source)
    assert fault is SourceFault.TIMEOUT
    assert "sent no picture in time (nothing in " in message
    assert "that is a picture)" in message


@pytest.mark.parametrize("user", ["", "me:secret@"])
def test_who_is_refused_is_told_how_an_address_with_a_password_looks(user: str) -> None:
    with MjpegServer(status="401 Unauthorized") as server:
        _, message = message_of(create_source(server.url.replace("//", f"//{user}"), LONG))
    advice = "put name and password into the address: http://name:password@host/path"
    assert ("check name and password in the address" if user else advice) in message
    assert "secret" not in message


def test_nobody_at_an_address_is_missing() -> None:
    with pytest.raises(SourceError, match="check the address, and that the server runs") as caught:
        create_source("http://127.0.0.1:1/video").open()
    assert caught.value.fault is SourceFault.MISSING


def test_opening_and_closing_leaves_no_thread_and_no_open_file() -> None:
    fds = Path("/proc/self/fd")
    if not fds.is_dir():
        pytest.skip("open files cannot be counted here")

    def count() -> tuple[int, int]:
        return len(os.listdir(fds)), threading.active_count()

    server = MjpegServer(fps=200)
    with server:
        source = create_source(server.url, LONG)
        before = count()
        for _ in range(6):
            with opened(source) as frames:
                take(frames, 2)
        # the server needs a moment to see that nobody listens
        deadline_s = time.monotonic() + 5
        while count() != before and time.monotonic() < deadline_s:
            threading.Event().wait(0.01)
        assert count() == before


# -- devices ------------------------------------------------------------------------------------


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the devices of Linux")
def test_a_camera_that_is_not_there_is_missing() -> None:
    with pytest.raises(SourceError, match="check that it is plugged in") as caught:
        create_source("/dev/video99").open()
    assert caught.value.fault is SourceFault.MISSING


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the devices of Linux")
def test_a_device_that_is_no_camera_is_of_the_wrong_format() -> None:
    info = SourceInfo(address="/dev/null", label="null", kind="camera")
    with pytest.raises(SourceError, match="choose another size") as caught:
        AvSource(info, av_input=camera_input(info)).open()
    assert caught.value.fault is SourceFault.FORMAT


def test_a_kind_of_device_that_this_computer_has_not_is_of_the_wrong_format() -> None:
    info = SourceInfo(address="x", label="x", kind="camera")
    source = AvSource(info, av_input=AvInput(url="x", container_format="nothing"))
    assert fault_of(source) is SourceFault.FORMAT


@contextlib.contextmanager
def x_server(number: int) -> Iterator["subprocess.Popen[bytes]"]:
    xvfb = shutil.which("Xvfb")
    if xvfb is None:
        pytest.skip("no Xvfb here")
    command = [xvfb, f":{number}", "-screen", "0", "160x120x24", "-nolisten", "tcp"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline_s = time.monotonic() + 10
            while not Path(f"/tmp/.X11-unix/X{number}").exists():
                assert time.monotonic() < deadline_s
                threading.Event().wait(0.02)
            yield process
        finally:
            process.terminate()


def test_a_screen_is_a_device_that_can_be_unplugged() -> None:
    number = 300 + os.getpid() % 1000
    with x_server(number) as process:
        source = create_source(f":{number}", SourceOptions(fps=30, size_hw=(90, 120)))
        with opened(source) as frames:
            three = take(frames, 3)
            assert three[0].pixels.shape == (90, 120, 3)
            stamps = np.array([frame.device_s for frame in three], float)
            assert (np.diff(stamps) > 0).all()
            # the clock on the wall
            assert abs(stamps[0] - time.time()) < 60
            process.terminate()
            process.wait(10)
            with pytest.raises(SourceError) as caught:
                take(frames, 90)
        assert caught.value.fault is SourceFault.LOST
    assert fault_of(create_source(f":{number}")) is SourceFault.MISSING


class FakeContainer:
    """A device that says "not yet" before each packet, as cameras do."""

    def __init__(self, path: Path, num_waits: int) -> None:
        self._container = av.open(str(path))
        self._packets = self._container.demux()
        self._num_waits, self._waited = num_waits, 0
        self.streams, self.format = self._container.streams, self._container.format

    def demux(self) -> Iterator[Any]:
        while True:
            if self._waited < self._num_waits:
                self._waited += 1
                raise av.error.BlockingIOError(11, "Resource temporarily unavailable")
            self._waited = 0
            yield next(self._packets)

    def close(self) -> None:
        self._container.close()


def test_a_camera_that_has_no_frame_yet_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = video(tmp_path / "a.mkv", [np.full((48, 64), n, np.uint16) for n in range(4)])
    device = FakeContainer(path, num_waits=3)
    monkeypatch.setattr(av, "open", lambda *_, **__: device)
    source = AvSource(SourceInfo(address="x", label="x", kind="camera"), LONG)
    with opened(source) as frames:
        assert [int(frame.pixels[0, 0]) for frame in take(frames, 4)] == [0, 1, 2, 3]


def test_a_camera_that_never_has_a_frame_ends_when_its_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = video(tmp_path / "a.mkv", [np.zeros((48, 64), np.uint16)] * 2)
    device = FakeContainer(path, num_waits=10**9)
    monkeypatch.setattr(av, "open", lambda *_, **__: device)
    source = AvSource(
        SourceInfo(address="x", label="x", kind="camera"), SourceOptions(timeout_s=0.2)
    )
    assert fault_of(source) is SourceFault.TIMEOUT


# -- pure ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind", "was_live", "fault"),
    [
        (av.error.OSError(16, "Device or resource busy"), "camera", False, SourceFault.BUSY),
        (av.error.OSError(28, "No space left on device"), "camera", True, SourceFault.BUSY),
        (av.error.PermissionError(13, "Permission denied"), "camera", True, SourceFault.DENIED),
        (av.error.OSError(19, "No such device"), "camera", False, SourceFault.MISSING),
        (av.error.OSError(19, "No such device"), "camera", True, SourceFault.LOST),
        (av.error.OSError(5, "Input/output error"), "stream", True, SourceFault.LOST),
        (INVALID, "stream", True, SourceFault.LOST),
        (INVALID, "stream", False, SourceFault.FORMAT),
        (av.error.OSError(12, "Cannot allocate memory"), "stream", False, SourceFault.OTHER),
    ],
)
def test_what_goes_wrong_has_a_name(
    error: Exception, kind: Any, was_live: bool, fault: SourceFault
) -> None:
    info = SourceInfo(address="x", label="x", kind=kind)
    assert source_error(error, info=info, was_live=was_live).fault is fault


def test_a_password_is_left_out_of_what_is_shown() -> None:
    assert without_password("rtsp://me:se@cret@host:554/a?b=c") == "rtsp://host:554/a?b=c"
    assert without_password("/home/a@b.mp4") == "/home/a@b.mp4"


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def waits(pace: Pace, clock: Clock, stamps: list[float | None], late_s: float = 0.0) -> list[float]:
    found = []
    for stamp_s in stamps:
        wait_s = pace.wait_s(stamp_s)
        clock.now_s += wait_s + late_s
        found.append(wait_s)
    return found


def test_frames_are_due_at_the_distances_of_their_stamps() -> None:
    clock = Clock()
    found = waits(Pace(now_s=clock), clock, [7.0, 7.5, 7.6])
    assert found == pytest.approx([0, 0.5, 0.1])


def test_who_comes_late_catches_up() -> None:
    clock = Clock()
    # each frame takes 0.3 s, and frames are 0.1 s, then 1 s apart
    found = waits(Pace(now_s=clock), clock, [0, 0.1, 0.2, 1.2], late_s=0.3)
    assert found == pytest.approx([0, 0, 0, 0.3])


def test_a_chosen_rate_goes_before_the_stamps() -> None:
    clock = Clock()
    assert waits(Pace(fps=4, now_s=clock), clock, [0, 9, None]) == pytest.approx([0, 0.25, 0.25])


def test_frames_without_stamps_come_at_the_usual_rate() -> None:
    clock = Clock()
    found = waits(Pace(usual_fps=10, now_s=clock), clock, [None, None, 5, 4])
    assert found == pytest.approx([0, 0.1, 0.1, 0.1])


def test_a_long_wait_is_cut_and_the_next_frame_keeps_its_distance() -> None:
    clock = Clock()
    found = waits(Pace(longest_s=2, now_s=clock), clock, [0, 60, 60.5])
    assert found == pytest.approx([0, 2, 0.5])


def test_a_socket_of_another_kind_is_no_hindrance() -> None:
    # such as the one to the display
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other, opened(create_source(str(sample_video()))) as frames:
        assert next(frames).image_hw == (512, 512)
