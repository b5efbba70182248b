"""The cameras and screens of this computer, as FFmpeg names them."""

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from napari_deeppixel.live.av_errors import fault_error, import_av
from napari_deeppixel.live.av_source import AvInput
from napari_deeppixel.live.source import SourceError, SourceFault, SourceInfo

_DEVICE_FORMATS = {"linux": "v4l2", "win32": "dshow", "darwin": "avfoundation"}

# 4 is nonblock, which has no name: a camera that sends nothing holds its reader inside the driver,
# where no timeout of FFmpeg is asked. With it the driver says "not yet", and we wait ourselves.
_CAMERA_FLAGS = "4"

# a display of X11, such as :0 or :99.0+10,20 (with the left top corner)
DISPLAY = re.compile(r"[\w.-]*:\d+(\.\d+)?(\+\d+,\d+)?")


@dataclass(frozen=True, kw_only=True)
class CameraFormat:
    """One way of sending pictures that a camera offers.

    Attributes
    ----------
    codec
        For `SourceOptions.extra`, as ``input_format``.
    sizes_hw
        Heights and widths in pixels; of a camera that takes any size, the least and the largest.
    """

    codec: str
    sizes_hw: tuple[tuple[int, int], ...]


def list_cameras() -> tuple[SourceInfo, ...]:
    """Return the cameras that are plugged in.

    Raises
    ------
    SourceError
        If PyAV is not there.
    """
    av = import_av()
    device_format = _DEVICE_FORMATS.get(sys.platform, "v4l2")
    try:
        devices = av.device.enumerate_input_devices(device_format)
    # ValueError: this PyAV was built without cameras
    except (av.FFmpegError, ValueError) as error:
        raise SourceError(f"the cameras of this computer cannot be told: {error}") from error
    cameras = [
        SourceInfo(
            address=_camera_address(device.name, device.description),
            label=device.description or device.name,
            kind="camera",
        )
        for device in devices
        # an empty list: the system does not tell
        if "video" in (device.media_types or ["video"])
    ]
    if device_format == "v4l2":
        # many webcams have a second device, which gives no pictures
        cameras = [camera for camera in cameras if list_formats(camera) or _is_unreadable(camera)]
    return tuple(sorted(cameras, key=lambda camera: _natural(camera.address)))


def find_camera(address: str, cameras: Sequence[SourceInfo]) -> SourceInfo:
    """Return the camera that an address means: its number, its name or what it is called.

    Raises
    ------
    SourceError
        If there is none.
    """
    wanted = address.removeprefix("camera:")
    if wanted.isdecimal() and int(wanted) < len(cameras):
        return cameras[int(wanted)]
    for camera in cameras:
        names = (camera.address, camera.address.removeprefix("camera:"), camera.label)
        if wanted.casefold() in (name.casefold() for name in names):
            return camera
    # a device that is known by its path can be plugged in later
    if wanted.startswith(("/dev/", "video=")):
        return SourceInfo(address=wanted, label=wanted, kind="camera")
    there = ", ".join(f"{number}: {camera.label}" for number, camera in enumerate(cameras))
    raise fault_error(
        SourceFault.MISSING,
        info=SourceInfo(address=address, label=f"camera {wanted}", kind="camera"),
        cause=f"there is {there or 'no camera'}",
    )


def camera_input(info: SourceInfo, platform: str = sys.platform) -> AvInput:
    """Return what opens a camera on an operating system."""
    url = info.address.removeprefix("camera:")
    settings = {"fflags": _CAMERA_FLAGS}
    if platform == "win32":
        # the default, 3 MB, does not hold one frame of 1080p
        settings["rtbufsize"] = "100M"
        if not url.startswith("video="):
            url = f"video={url}"
    elif platform == "darwin":
        # its default, 29.97, is refused by most cameras
        settings["framerate"] = "30"
    return AvInput(
        url=url, container_format=_DEVICE_FORMATS.get(platform, "v4l2"), settings=settings
    )


def screen_input(address: str, platform: str = sys.platform) -> AvInput:
    """Return what opens the screen: of X11 the display that the address names."""
    settings = {"framerate": "30"}
    if platform == "win32":
        return AvInput(url="desktop", container_format="gdigrab", settings=settings)
    if platform == "darwin":
        return AvInput(url="Capture screen 0", container_format="avfoundation", settings=settings)
    url = (
        address.removeprefix("screen:")
        if DISPLAY.fullmatch(address.removeprefix("screen:"))
        else ""
    )
    return AvInput(
        url=url or os.environ.get("DISPLAY", ":0"), container_format="x11grab", settings=settings
    )


def list_formats(camera: SourceInfo) -> tuple[CameraFormat, ...]:
    """Return what a camera offers; empty where that cannot be told (not on Linux).

    Raises
    ------
    SourceError
        If PyAV is not there.
    """
    av = import_av()
    if not sys.platform.startswith("linux"):
        return ()
    # FFmpeg writes this list into its log, and nowhere else
    level = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)
    try:
        with av.logging.Capture() as lines:
            av.open(camera.address, format="v4l2", options={"list_formats": "all"}).close()
    except av.FFmpegError:
        # this is how the list ends, too
        pass
    finally:
        av.logging.set_level(level)
    return parse_v4l2_formats("".join(text for _, _, text in lines))


def parse_v4l2_formats(log: str) -> tuple[CameraFormat, ...]:
    """Return what libavdevice's list of formats says; what it cannot decode is left out."""
    found = []
    for line in log.splitlines():
        match = re.match(r"(?:Raw|Compressed) *: +(\w+) : .* :(.*)", line)
        if match is None or match[1] == "Unsupported":
            continue
        sizes = [
            (int(height), int(width)) for width, height in re.findall(r"(\d+)x(\d+)", match[2])
        ]
        # {least-largest, step}x{least-largest, step}
        for step in re.findall(r"\{(\d+)-(\d+), *\d+\}x\{(\d+)-(\d+), *\d+\}", match[2]):
            least_w, most_w, least_h, most_h = map(int, step)
            sizes += [(least_h, least_w), (most_h, most_w)]
        found.append(CameraFormat(codec=match[1], sizes_hw=tuple(dict.fromkeys(sizes))))
    return tuple(found)


def _camera_address(name: str, description: str) -> str:
    if sys.platform == "win32":
        return f"video={name}"
    # avfoundation opens by what people call a camera
    return f"camera:{description or name}" if sys.platform == "darwin" else name


def _is_unreadable(camera: SourceInfo) -> bool:
    return not os.access(camera.address, os.R_OK | os.W_OK)


def _natural(text: str) -> list[tuple[int, str]]:
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text)
    ]
