"""Which sources there are, and who opens which address."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from napari_deeppixel.live import mmcore_source
from napari_deeppixel.live.av_devices import (
    DISPLAY,
    CameraFormat,
    camera_input,
    find_camera,
    list_cameras,
    list_formats,
    screen_input,
)
from napari_deeppixel.live.av_errors import fault_error, without_password
from napari_deeppixel.live.av_source import AvInput, AvSource
from napari_deeppixel.live.source import (
    FrameSource,
    SourceError,
    SourceFault,
    SourceInfo,
    SourceOptions,
    SourceProvider,
)

_T = TypeVar("_T")

ENTRY_POINT_GROUP = "napari_deeppixel.sources"

_STREAM_SCHEMES = frozenset({"http", "https", "rtmp", "rtp", "rtsp", "rtsps", "srt", "tcp", "udp"})
# the first frame came after 0.22 s with these and after 1.02 s without; the often told `nobuffer`
# throws the first key frame away, which took 1.1 s (GStreamer's server, a key frame a second,
# measured on 2026-11-26). TCP: over UDP each lost packet is a broken picture
_RTSP_SETTINGS = {
    "rtsp_transport": "tcp",
    "analyzeduration": "100000",
    "probesize": "32768",
}


class CameraProvider:
    """The cameras of this computer: ``0`` is the first, and ``camera:NAME`` goes by its name."""

    name = "Camera"

    def list_sources(self) -> Sequence[SourceInfo]:
        """Return the cameras that are plugged in."""
        return list_cameras()

    def opens(self, address: str) -> bool:
        """Whether it is a number, a device, or begins with ``camera:``."""
        return address.isdecimal() or address.startswith(("camera:", "/dev/video", "video="))

    def create(self, address: str, options: SourceOptions) -> FrameSource:
        """Return the camera of an address.

        Raises
        ------
        SourceError
            If there is none of this number or name.
        """
        info = find_camera(address, list_cameras())
        return AvSource(info, options, av_input=camera_input(info))

    def list_formats(self, address: str) -> tuple[CameraFormat, ...]:
        """Return what a camera offers; empty where that cannot be told (not on Linux)."""
        return list_formats(find_camera(address, list_cameras()))


class StreamProvider:
    """What comes over a network: RTSP, MJPEG over HTTP, and what else FFmpeg opens by a URL."""

    name = "Stream"

    def list_sources(self) -> Sequence[SourceInfo]:
        """Return nothing: streams are not announced."""
        return ()

    def opens(self, address: str) -> bool:
        """Whether it is a URL of a network."""
        return "://" in address and urlsplit(address).scheme.lower() in _STREAM_SCHEMES

    def create(self, address: str, options: SourceOptions) -> FrameSource:
        """Return the stream of a URL; a password in it is not shown."""
        info = SourceInfo(address=address, label=without_password(address), kind="stream")
        is_rtsp = urlsplit(address).scheme.lower().startswith("rtsp")
        settings = _RTSP_SETTINGS if is_rtsp else {}
        return AvSource(info, options, av_input=AvInput(url=address, settings=settings))


class ScreenProvider:
    """What is on the screen: ``screen``, and on X11 also ``:0`` or ``:0+10,20`` (its corner)."""

    name = "Screen"

    def list_sources(self) -> Sequence[SourceInfo]:
        """Return the screen."""
        return (SourceInfo(address="screen", label="Screen", kind="screen"),)

    def opens(self, address: str) -> bool:
        """Whether it is ``screen`` or a display of X11."""
        is_display = DISPLAY.fullmatch(address.removeprefix("screen:")) is not None
        return address == "screen" or (is_display and address.startswith(("screen:", ":")))

    def create(self, address: str, options: SourceOptions) -> FrameSource:
        """Return the screen."""
        label = "Screen" if address == "screen" else f"Screen {address.removeprefix('screen:')}"
        info = SourceInfo(address=address, label=label, kind="screen")
        return AvSource(info, options, av_input=screen_input(address, sys.platform))


class MMCoreProvider:
    """The cameras of a microscope that this program runs with pymmcore-plus.

    ``micromanager`` is the active one, and ``micromanager:LABEL`` goes by its label.
    """

    name = "Micro-Manager"

    def list_sources(self) -> Sequence[SourceInfo]:
        """Return the cameras that are loaded; nothing is imported for it."""
        return mmcore_source.list_cameras()

    def opens(self, address: str) -> bool:
        """Whether it is ``micromanager`` or begins with ``micromanager:``."""
        return address.partition(":")[0] == mmcore_source.ADDRESS

    def create(self, address: str, options: SourceOptions) -> FrameSource:
        """Return the camera; whether it is there is known when it is opened."""
        return mmcore_source.MMCoreSource(address, options)


class FileProvider:
    """Video files, which run as they were recorded."""

    name = "File"

    def list_sources(self) -> Sequence[SourceInfo]:
        """Return nothing: a file is chosen by its path."""
        return ()

    def opens(self, address: str) -> bool:
        """Whether it is a file that is there, or looks like one: it has a folder or an ending."""
        if "://" in address and not address.startswith("file://"):
            return False
        path = _path(address)
        return path.is_file() or len(path.parts) > 1 or bool(path.suffix)

    def create(self, address: str, options: SourceOptions) -> FrameSource:
        """Return the video of a path.

        Raises
        ------
        SourceError
            If there is no such file.
        """
        path = _path(address)
        info = SourceInfo(address=str(path), label=path.name, kind="file")
        if not path.is_file():
            raise fault_error(SourceFault.MISSING, info=info, cause=f"no file {path}")
        return AvSource(info, options)


class SyntheticProvider:
    """Moving discs, for trying things out without a camera."""

    name = "Synthetic"

    def list_sources(self) -> Sequence[SourceInfo]:
        """Return the one that there is."""
        return (SourceInfo(address="demo", label="Moving discs", kind="synthetic"),)

    def opens(self, address: str) -> bool:
        """Whether it is ``demo`` or begins with ``synthetic:``."""
        return address == "demo" or address.startswith("synthetic:")

    def create(self, address: str, options: SourceOptions) -> FrameSource:  # noqa: ARG002  one only
        """Return the moving discs."""
        from napari_deeppixel.live.synthetic import SyntheticSource

        return SyntheticSource(options)


class EntryPointProvider:
    """A third party's provider, imported at its first use; its errors become `SourceError`.

    Parameters
    ----------
    entry_point
        Names a provider, or a class or function without arguments that gives one.
    """

    def __init__(self, entry_point: EntryPoint) -> None:
        self.name = entry_point.name
        self._entry_point = entry_point
        self._provider: SourceProvider | None = None

    def list_sources(self) -> Sequence[SourceInfo]:
        """Return what the provider lists."""
        return self._told(lambda: tuple(self._load().list_sources()))

    def opens(self, address: str) -> bool:
        """Whether the provider takes an address; one that fails takes none."""
        try:
            return bool(self._told(lambda: self._load().opens(address)))
        except SourceError:
            return False

    def create(self, address: str, options: SourceOptions) -> FrameSource:
        """Return the provider's source."""
        return self._told(lambda: self._load().create(address, options))

    def _load(self) -> SourceProvider:
        if self._provider is None:
            loaded = self._entry_point.load()
            provider: SourceProvider = loaded() if callable(loaded) else loaded
            self._provider, self.name = provider, provider.name
        return self._provider

    def _told(self, ask: Callable[[], _T]) -> _T:
        try:
            return ask()
        except SourceError:
            raise
        except Exception as error:
            raise SourceError(
                f"the sources of {self._entry_point.value} do not work "
                f"({type(error).__name__}: {error}): update or remove that package"
            ) from error


@dataclass(frozen=True, kw_only=True)
class ProviderSources:
    """What one provider lists.

    Attributes
    ----------
    name
        What people call the provider.
    sources
        What is there now.
    problem
        Why nothing can be told; empty: all is well.
    """

    name: str
    sources: tuple[SourceInfo, ...] = ()
    problem: str = ""


def providers() -> tuple[SourceProvider, ...]:
    """Return who opens sources, in the order in which they are asked for an address.

    Third parties (entry points of the group ``napari_deeppixel.sources``) come before files, which
    take nearly everything, and are not imported yet.
    """
    third_parties = sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name)
    return (
        SyntheticProvider(),
        CameraProvider(),
        StreamProvider(),
        ScreenProvider(),
        MMCoreProvider(),
        *map(EntryPointProvider, third_parties),
        FileProvider(),
    )


def list_sources(among: Sequence[SourceProvider] | None = None) -> tuple[ProviderSources, ...]:
    """Return what each provider lists; may take some seconds.

    Parameters
    ----------
    among
        The providers to ask; None: all.
    """
    found = []
    for provider in providers() if among is None else among:
        sources: tuple[SourceInfo, ...] = ()
        problem = ""
        try:
            sources = tuple(provider.list_sources())
        except SourceError as error:
            problem = str(error)
        # the name of a third party's provider is known after its import
        found.append(ProviderSources(name=provider.name, sources=sources, problem=problem))
    return tuple(found)


def create_source(
    address: str,
    options: SourceOptions | None = None,
    among: Sequence[SourceProvider] | None = None,
) -> FrameSource:
    """Return the source of an address, not open yet.

    Parameters
    ----------
    address
        ``0`` (the first camera), ``camera:NAME``, ``/dev/video0``, a URL, a path, ``screen``,
        ``micromanager``, ``demo``, or what a third party takes.
    options
        How to open it.
    among
        The providers to ask; None: all.

    Raises
    ------
    SourceError
        If nobody takes the address, or it names nothing.
    """
    asked = providers() if among is None else among
    for provider in asked:
        if provider.opens(address):
            return provider.create(address, options or SourceOptions())
    raise SourceError(
        f"no source has the address {without_password(address)!r}; give 0 for the first camera, "
        f"camera:NAME, a URL (rtsp://…, http://…), the path of a video, screen or demo",
        fault=SourceFault.MISSING,
    )


def _path(address: str) -> Path:
    if address.startswith("file://"):
        return Path(url2pathname(unquote(urlsplit(address).path)))
    return Path(address).expanduser()
