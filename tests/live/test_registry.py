import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

av = pytest.importorskip("av", reason="the extra `live` is not installed")

from napari_deeppixel.live import av_devices, registry  # noqa: E402
from napari_deeppixel.live.av_devices import (  # noqa: E402
    CameraFormat,
    camera_input,
    find_camera,
    parse_v4l2_formats,
    screen_input,
)
from napari_deeppixel.live.av_source import AvSource  # noqa: E402
from napari_deeppixel.live.registry import (  # noqa: E402
    CameraProvider,
    StreamProvider,
    create_source,
    list_sources,
    providers,
)
from napari_deeppixel.live.source import (  # noqa: E402
    SourceError,
    SourceFault,
    SourceInfo,
    SourceOptions,
)

FRONT = SourceInfo(address="/dev/video0", label="HD Webcam: HD Webcam", kind="camera")
MICROSCOPE = SourceInfo(address="/dev/video2", label="Microscope", kind="camera")

# what libavdevice 62 writes for a webcam, piece by piece, and for a camera that takes any size
V4L2_LOG = (
    "Compressed:       mjpeg :          Motion-JPEG : 1280x720 640x480\n"
    "Raw       :     yuyv422 :           YUYV 4:2:2 : Emulated : 640x480 320x240 640x480\n"
    "Raw       : Unsupported :      Strange : thing : 64x64\n"
    "Raw       :        gray :       8-bit Greyscale : {16-1920, 8}x{32-1080, 4}\n"
)

# the source of a third party, as somebody would write it
PLUGIN = """
import numpy as np
from napari_deeppixel.live.source import Frame, SourceInfo, StreamInfo

class NoiseSource:
    info = SourceInfo(address="noise:1", label="Noise", kind="camera")

    def open(self):
        return StreamInfo()

    def frames(self):
        yield Frame(pixels=np.full((3, 4), 7, np.uint8), number=0)

    def interrupt(self):
        pass

    def close(self):
        pass

class NoiseProvider:
    name = "Noise generators"

    def list_sources(self):
        return [NoiseSource.info]

    def opens(self, address):
        return address.startswith("noise:")

    def create(self, address, options):
        return NoiseSource()

ready_made = NoiseProvider()
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a package with entry points, as pip leaves it."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(module: str, code: str, **points: str) -> None:
        (tmp_path / f"{module}.py").write_text(code)
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        lines = [f"{name} = {module}:{attribute}" for name, attribute in points.items()]
        text = "\n".join(["[napari_deeppixel.sources]", *lines, ""])
        (info / "entry_points.txt").write_text(text)
        monkeypatch.delitem(sys.modules, module, raising=False)
        importlib.invalidate_caches()

    return write


@pytest.fixture
def two_cameras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "list_cameras", lambda: (FRONT, MICROSCOPE))


# -- third parties ------------------------------------------------------------------------------


@pytest.mark.parametrize("attribute", ["NoiseProvider", "ready_made"])
def test_a_third_party_source_is_listed_and_opened(install: Install, attribute: str) -> None:
    install("noise_plugin", PLUGIN, noise=attribute)
    (listed,) = [found for found in list_sources() if found.name == "Noise generators"]
    assert [info.label for info in listed.sources] == ["Noise"]
    source = create_source("noise:1")
    source.open()
    assert next(iter(source.frames())).pixels.tolist() == [[7] * 4] * 3


def test_a_third_party_is_not_imported_before_it_is_asked(install: Install) -> None:
    install("noise_plugin", PLUGIN, noise="NoiseProvider")
    create_source("demo")
    providers()
    assert "noise_plugin" not in sys.modules


def test_a_provider_that_cannot_be_imported_is_told_and_stops_nobody(install: Install) -> None:
    install("broken_plugin", "import a_driver_that_is_not_there", broken="Provider")
    install("noise_plugin", PLUGIN, noise="NoiseProvider")
    problems = {found.name: found.problem for found in list_sources()}
    assert "No module named 'a_driver_that_is_not_there'" in problems["broken"]
    assert "broken_plugin:Provider" in problems["broken"]
    assert problems["Noise generators"] == problems["Synthetic"] == ""
    assert create_source("noise:1").info.label == "Noise"


def test_a_provider_that_fails_while_it_lists_is_told(install: Install) -> None:
    code = PLUGIN.replace("return [NoiseSource.info]", "raise RuntimeError('bus error')")
    install("noise_plugin", code, noise="NoiseProvider")
    problems = {found.name: found.problem for found in list_sources()}
    assert "RuntimeError: bus error" in problems["Noise generators"]


def test_a_provider_that_fails_to_create_says_so(install: Install) -> None:
    code = PLUGIN.replace("return NoiseSource()", "raise RuntimeError('bus error')")
    install("noise_plugin", code, noise="NoiseProvider")
    with pytest.raises(SourceError, match="bus error"):
        create_source("noise:1")


def test_a_third_party_goes_before_files(install: Install, tmp_path: Path) -> None:
    install("noise_plugin", PLUGIN.replace('"noise:"', '"/"'), noise="NoiseProvider")
    assert create_source(str(tmp_path / "a.mp4")).info.label == "Noise"


# -- addresses ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "kind", "label"),
    [
        ("rtsp://me:secret@10.0.0.7:554/a", "stream", "rtsp://10.0.0.7:554/a"),
        ("HTTP://host/video.mjpg", "stream", "HTTP://host/video.mjpg"),
        ("screen", "screen", "Screen"),
        (":99.0+10,20", "screen", "Screen :99.0+10,20"),
        ("0", "camera", "HD Webcam: HD Webcam"),
        ("1", "camera", "Microscope"),
        ("camera:microscope", "camera", "Microscope"),
        ("/dev/video2", "camera", "Microscope"),
        ("/dev/video7", "camera", "/dev/video7"),
    ],
)
@pytest.mark.usefixtures("two_cameras")
def test_an_address_names_its_source(address: str, kind: str, label: str) -> None:
    source = create_source(address)
    assert isinstance(source, AvSource)
    assert (source.info.kind, source.info.label) == (kind, label)


def test_a_file_is_named_by_its_path_or_url(tmp_path: Path) -> None:
    path = tmp_path / "my film.mp4"
    path.write_bytes(b"")
    for address in (str(path), path.as_uri()):
        info = create_source(address).info
        assert (info.kind, info.label, info.address) == ("file", "my film.mp4", str(path))
        assert not info.is_live


@pytest.mark.parametrize("address", ["missing.mp4", "folder/missing"])
def test_a_file_that_is_not_there_is_missing(address: str) -> None:
    with pytest.raises(SourceError, match="check the path") as caught:
        create_source(address)
    assert caught.value.fault is SourceFault.MISSING


def test_an_address_that_nobody_takes_is_told_without_its_password() -> None:
    with pytest.raises(SourceError, match="no source has the address 'gopher://host/x'"):
        create_source("gopher://me:secret@host/x", among=(StreamProvider(),))
    # what looks like a path, too
    with pytest.raises(SourceError, match=r"no source has the address 'gopher://host/x\.mp4'"):
        create_source("gopher://me:secret@host/x.mp4")


def test_an_address_that_nobody_takes_is_missing() -> None:
    with pytest.raises(SourceError, match="no source has the address 'nonsense'") as caught:
        create_source("nonsense")
    assert caught.value.fault is SourceFault.MISSING


@pytest.mark.usefixtures("two_cameras")
def test_a_camera_that_is_not_there_tells_which_are() -> None:
    with pytest.raises(SourceError, match="0: HD Webcam: HD Webcam, 1: Microscope") as caught:
        create_source("2")
    assert caught.value.fault is SourceFault.MISSING


def test_without_a_camera_the_first_one_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "list_cameras", tuple)
    with pytest.raises(SourceError, match="there is no camera"):
        create_source("0")


def test_the_demo_moves() -> None:
    source = create_source("demo", SourceOptions(size_hw=(60, 80)))
    source.open()
    frame = next(iter(source.frames()))
    source.close()
    assert frame.image_hw == (60, 80)


def test_the_providers_are_named_in_the_order_in_which_they_are_asked() -> None:
    names = [provider.name for provider in providers()]
    assert names[:4] == ["Synthetic", "Camera", "Stream", "Screen"]
    assert names[-1] == "File"


def test_cameras_that_cannot_be_told_stop_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Any:
        raise SourceError("no library")

    monkeypatch.setattr(registry, "list_cameras", refuse)
    found = {listed.name: listed for listed in list_sources()}
    assert found["Camera"].problem == "no library"
    assert [info.address for info in found["Synthetic"].sources] == ["demo"]


def test_pyav_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    source = create_source("rtsp://127.0.0.1:1/")
    with pytest.raises(SourceError, match=r'pip install "napari-deeppixel\[live\]"'):
        source.open()


# -- devices ------------------------------------------------------------------------------------


class Device:
    def __init__(self, name: str, description: str, media_types: list[str]) -> None:
        self.name, self.description, self.media_types = name, description, media_types


def listed(
    monkeypatch: pytest.MonkeyPatch, platform: str, *devices: Device
) -> list[tuple[str, str]]:
    asked: list[str] = []

    def enumerate_devices(device_format: str) -> list[Device]:
        asked.append(device_format)
        return list(devices)

    monkeypatch.setattr(av.device, "enumerate_input_devices", enumerate_devices)
    monkeypatch.setattr(av_devices.sys, "platform", platform)
    formats = {"/dev/video0": ("mjpeg",), "/dev/video2": ("mjpeg",), "/dev/video10": ("mjpeg",)}
    monkeypatch.setattr(av_devices, "list_formats", lambda camera: formats.get(camera.address, ()))
    monkeypatch.setattr(av_devices.os, "access", lambda *_: True)
    found = [(info.address, info.label) for info in av_devices.list_cameras()]
    assert asked == [{"linux": "v4l2", "win32": "dshow", "darwin": "avfoundation"}[platform]]
    return found


def test_cameras_of_linux_come_in_the_order_of_their_numbers_without_their_second_devices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    numbers = (10, 1, 0, 2)
    devices = [Device(f"/dev/video{n}", f"Cam {n}", []) for n in numbers]
    assert listed(monkeypatch, "linux", *devices) == [
        ("/dev/video0", "Cam 0"),
        ("/dev/video2", "Cam 2"),
        ("/dev/video10", "Cam 10"),
    ]


def test_cameras_of_windows_and_macos_are_listed_without_the_microphones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    devices = [Device("@pnp_1", "HD Webcam", ["video"]), Device("@pnp_2", "Mic", ["audio"])]
    assert listed(monkeypatch, "win32", *devices) == [("video=@pnp_1", "HD Webcam")]
    assert listed(monkeypatch, "darwin", *devices) == [("camera:HD Webcam", "HD Webcam")]


@pytest.mark.parametrize(
    ("platform", "address", "url", "container_format"),
    [
        ("linux", "/dev/video0", "/dev/video0", "v4l2"),
        ("win32", "video=@pnp_1", "video=@pnp_1", "dshow"),
        ("win32", "camera:HD Webcam", "video=HD Webcam", "dshow"),
        ("darwin", "camera:HD Webcam", "HD Webcam", "avfoundation"),
    ],
)
def test_a_camera_is_opened_as_its_system_wants_it(
    platform: str, address: str, url: str, container_format: str
) -> None:
    found = camera_input(SourceInfo(address=address, label="", kind="camera"), platform)
    assert (found.url, found.container_format) == (url, container_format)
    # a driver that waits cannot be stopped
    assert found.settings["fflags"] == "4"


def test_the_screen_of_each_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":7")
    found = [screen_input("screen", platform) for platform in ("linux", "win32", "darwin")]
    assert [(each.url, each.container_format) for each in found] == [
        (":7", "x11grab"),
        ("desktop", "gdigrab"),
        ("Capture screen 0", "avfoundation"),
    ]
    assert screen_input("screen::3.0", "linux").url == ":3.0"


def test_a_camera_is_found_by_number_name_and_device() -> None:
    cameras = (FRONT, MICROSCOPE)
    for address in ("1", "camera:1", "camera:MICROSCOPE", "/dev/video2"):
        assert find_camera(address, cameras) is MICROSCOPE


def test_the_formats_of_a_camera_are_read_from_what_libavdevice_writes() -> None:
    assert parse_v4l2_formats(V4L2_LOG) == (
        CameraFormat(codec="mjpeg", sizes_hw=((720, 1280), (480, 640))),
        CameraFormat(codec="yuyv422", sizes_hw=((480, 640), (240, 320))),
        CameraFormat(codec="gray", sizes_hw=((32, 16), (1080, 1920))),
    )


def test_a_camera_that_is_not_there_has_no_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "list_cameras", tuple)
    level = av.logging.get_level()
    assert CameraProvider().list_formats("/dev/video99") == ()
    assert av.logging.get_level() == level
