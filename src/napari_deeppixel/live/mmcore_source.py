"""The camera of a microscope, through a core of pymmcore-plus that somebody else set up."""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.live.source import (
    Frame,
    SourceError,
    SourceFault,
    SourceInfo,
    SourceOptions,
    StreamInfo,
)

_T = TypeVar("_T")

ADDRESS = "micromanager"

# Any: pymmcore-plus is an extra, and a core may be one of several classes
Core: TypeAlias = Any

# a look at the number of images costs microseconds; an image is copied when the number changed, or
# after half a frame: the number of a full buffer stays, as does that of one that others empty
_LOOK_S = 0.002
_LEAST_COPY_S, _MOST_COPY_S = 0.01, 0.1
# nobody else's acquisition waits longer than this for the camera
_IDLE_CHECK_S = 0.05

# as MMCore names them; together they differ from image to image
_ELAPSED_TAG = "ElapsedTime-ms"
_TAGS = ("Camera", "ImageNumber", _ELAPSED_TAG, "TimeReceivedByCore")

_LOAD_ADVICE = (
    "load its configuration in this program first, such as with napari-micromanager or "
    "CMMCorePlus.instance().loadSystemConfiguration(…)"
)


def list_cameras() -> tuple[SourceInfo, ...]:
    """Return the cameras of this program's core, the active one first; makes no core.

    Raises
    ------
    SourceError
        If the core cannot tell.
    """
    core = _existing_core()
    if core is None:
        return ()
    try:
        active, labels = core.getCameraDevice(), _camera_labels(core)
    except Exception as error:
        raise SourceError(f"Micro-Manager does not tell its cameras ({_cause(error)})") from error
    found = [
        SourceInfo(address=f"{ADDRESS}:{label}", label=f"Micro-Manager: {label}", kind="camera")
        for label in labels
        if label != active
    ]
    if active:
        label = f"Micro-Manager: {active}"
        found.insert(0, SourceInfo(address=ADDRESS, label=label, kind="camera"))
    return tuple(found)


class MMCoreSource:
    """The newest images of a camera of `CMMCorePlus.instance()`.

    A live view that runs is followed, and left running; later openings wait for it, as whoever
    stopped it may need the camera. If none runs, one is started, and stopped by `close`. No
    configuration is loaded, and a camera that was made the active one is so until `close` only.

    Parameters
    ----------
    address
        ``micromanager``: the active camera; ``micromanager:LABEL``: that one.
    options
        How long to wait; a long exposure is waited for on top. `SourceOptions.extra` may have
        ``exposure_ms``, which stays set. Size and rate are the camera's own.

    Raises
    ------
    SourceError
        If the exposure is not a number above 0.
    """

    def __init__(self, address: str = ADDRESS, options: SourceOptions | None = None) -> None:
        self._options = options or SourceOptions()
        self._exposure_ms = _parse_exposure_ms(self._options.extra)
        self._wanted = address.partition(":")[2]
        label = f"Micro-Manager: {self._wanted}" if self._wanted else "Micro-Manager"
        self._info = SourceInfo(address=address, label=label, kind="camera")
        self._interrupted = threading.Event()
        self._core: Core = None
        self._camera = ""
        self._active_before: str | None = None
        self._is_ours = self._has_followed = False
        self._timeout_s = self._options.timeout_s

    @property
    def info(self) -> SourceInfo:
        """What it is."""
        return self._info

    def open(self) -> StreamInfo:
        """Find the camera, and start a live view if none runs.

        Raises
        ------
        SourceError
            If there is no camera, another acquisition has it, or it does not start.
        """
        self._interrupted.clear()
        self._core = core = _loaded_core()
        self._camera = self._find_camera()
        if core.mda.is_running():
            raise self._busy()
        self._make_active()
        self._set_exposure()
        self._start()
        return self._ask(
            lambda: StreamInfo(
                image_hw=(core.getImageHeight(), core.getImageWidth()),
                description=f"{self._camera}, {core.getImageBitDepth()} bits, "
                f"{core.getExposure():g} ms",
            )
        )

    def frames(self) -> Iterator[Frame]:
        """Yield the newest image whenever there is one, until `interrupt`.

        Raises
        ------
        SourceError
            If no image comes in time, the camera stops, or an acquisition begins that needs it.
        """
        if self._core is None:
            raise SourceError(f"{self._info.label} is not open: call open() first")
        number, last_key, last_count = 0, None, -1
        came_s = copied_s = time.monotonic()
        pause_s, cause = _LEAST_COPY_S, ""
        while not self._interrupted.wait(_LOOK_S):
            now_s = time.monotonic()
            count = self._ask(self._core.getRemainingImageCount, SourceFault.LOST)
            if count == last_count and now_s - copied_s < pause_s:
                continue
            copied_s, has_changed, last_count = now_s, count != last_count, count
            try:
                pixels, key, device_s = _newest_image(self._core)
            except (IndexError, RuntimeError) as error:
                # what the core says of an empty buffer, which may be so for a moment
                cause = _cause(error)
                self._check_waiting(now_s - came_s, cause)
                continue
            except Exception as error:
                raise self._error("cannot be read", error, SourceFault.LOST) from error
            # a camera whose images have no stamps goes by the number
            if key == last_key and not (key is None and has_changed):
                self._check_waiting(now_s - came_s, cause)
                continue
            pause_s = float(np.clip((now_s - came_s) / 2, _LEAST_COPY_S, _MOST_COPY_S))
            came_s, last_key, cause = now_s, key, ""
            yield Frame(pixels=pixels, number=number, grabbed_s=now_s, device_s=device_s)
            number += 1
            self._check_waiting(0.0, cause)

    def interrupt(self) -> None:
        """End `open` and `frames`."""
        self._interrupted.set()

    def close(self) -> None:
        """Stop the live view if it was started here, and give the active camera back.

        Raises
        ------
        SourceError
            If the camera does not stop.
        """
        core, is_ours, before = self._core, self._is_ours, self._active_before
        self._core, self._is_ours, self._active_before = None, False, None
        if core is None:
            return
        try:
            if is_ours and core.isSequenceRunning(self._camera):
                core.stopSequenceAcquisition(self._camera)
            if before is not None and core.getCameraDevice() == self._camera:
                core.setCameraDevice(before)
        except Exception as error:
            raise self._error("cannot be stopped", error) from error

    # -- opening ------------------------------------------------------------------------------

    def _find_camera(self) -> str:
        active, labels = self._ask(
            lambda: (self._core.getCameraDevice(), _camera_labels(self._core))
        )
        if self._wanted and self._wanted not in labels:
            there = f"there are {', '.join(labels)}" if labels else _LOAD_ADVICE
            raise SourceError(
                f"Micro-Manager has no camera {self._wanted!r}: {there}", fault=SourceFault.MISSING
            )
        if not (self._wanted or active):
            raise _no_camera()
        return self._wanted or str(active)

    def _make_active(self) -> None:
        core = self._core
        active = core.getCameraDevice()
        if active == self._camera:
            return
        if self._ask(core.isSequenceRunning):
            raise SourceError(
                f"Micro-Manager shows the camera {active!r}: stop its live view to use "
                f"{self._camera!r}",
                fault=SourceFault.BUSY,
            )
        self._ask(lambda: core.setCameraDevice(self._camera))
        self._active_before = active

    def _set_exposure(self) -> None:
        core, exposure_ms = self._core, self._exposure_ms
        if exposure_ms is not None:
            try:
                core.setExposure(self._camera, exposure_ms)
            except Exception as error:
                raise self._error(f"takes no exposure of {exposure_ms:g} ms", error) from error
        self._timeout_s = self._options.timeout_s + self._ask(core.getExposure) / 1000

    def _start(self) -> None:
        core = self._core
        if self._has_followed:
            self._wait_for_others()
            return
        if self._ask(core.isSequenceRunning):
            self._has_followed = True
            return
        try:
            core.startContinuousSequenceAcquisition(0)
        except Exception as error:
            raise self._error("does not start", error) from error
        self._is_ours = True

    def _wait_for_others(self) -> None:
        until_s = time.monotonic() + self._timeout_s
        while not self._ask(self._core.isSequenceRunning):
            if time.monotonic() > until_s:
                raise self._not_running()
            if self._interrupted.wait(_IDLE_CHECK_S):
                return

    # -- reading ------------------------------------------------------------------------------

    def _check_waiting(self, waited_s: float, cause: str) -> None:
        """Raise if it is of no use, or not right, to wait for the next image."""
        core = self._core
        if self._is_ours and core.mda.is_running():
            raise self._busy()
        if waited_s < _IDLE_CHECK_S:
            return
        if self._is_ours and not self._ask(core.isSequenceRunning, SourceFault.LOST):
            raise SourceError(
                f"{self._info.label} has stopped ({self._camera}{_after_comma(cause)}): check the "
                f"camera, and what Micro-Manager says",
                fault=SourceFault.LOST,
            )
        if waited_s <= self._timeout_s:
            return
        if not self._ask(core.isSequenceRunning, SourceFault.LOST):
            raise self._not_running()
        raise SourceError(
            f"{self._info.label} sent nothing for {waited_s:.1f} s ({self._camera}"
            f"{_after_comma(cause)}): check the camera and its trigger, or wait longer",
            fault=SourceFault.TIMEOUT,
        )

    # -- what is wrong ------------------------------------------------------------------------

    def _ask(self, question: Callable[[], _T], fault: SourceFault = SourceFault.OTHER) -> _T:
        try:
            return question()
        except Exception as error:
            raise self._error("does not answer", error, fault) from error

    def _error(
        self, what: str, error: Exception, fault: SourceFault = SourceFault.OTHER
    ) -> SourceError:
        message = (
            f"{self._info.label} {what} ({self._camera or 'camera'}: {_cause(error)}): close other "
            f"programs that use the camera, and try it in Micro-Manager"
        )
        return SourceError(message, fault=fault)

    def _busy(self) -> SourceError:
        return SourceError(
            f"{self._info.label} is in use ({self._camera}): an acquisition runs; wait for its end",
            fault=SourceFault.BUSY,
        )

    def _not_running(self) -> SourceError:
        return SourceError(
            f"{self._info.label} is not live ({self._camera}): its live view was stopped; start it "
            f"again, or press Stop and Start here",
            fault=SourceFault.TIMEOUT,
        )


def _newest_image(core: Core) -> tuple[NDArray[Any], tuple[str, ...] | None, float | None]:
    """Return the newest image, what tells it from others, and its stamp in seconds."""
    pixels, tags = core.getLastImageAndMD()
    values = {name: tags.get(name, None) for name in _TAGS}
    key = tuple(map(str, values.values())) if any(values.values()) else None
    try:
        device_s = float(values[_ELAPSED_TAG]) / 1000
    except (TypeError, ValueError):
        device_s = None
    # RGB32 has a fourth channel that means nothing; what the core has turned is not in order
    pixels = pixels[..., :3] if pixels.ndim == 3 else pixels
    return np.ascontiguousarray(pixels), key, device_s


def _loaded_core() -> Core:
    try:
        import pymmcore_plus  # noqa: F401  whether it is there
    except ImportError as error:
        raise SourceError(
            f"microscopes need pymmcore-plus ({error}): "
            'pip install "napari-deeppixel[micromanager]"'
        ) from error
    core = _existing_core()
    if core is None:
        raise _no_camera()
    return core


def _existing_core() -> Core:
    """Return the program's core; None if nobody has made one.

    `CMMCorePlus.instance()` would make one: without a camera, with a search of the disk, and, in
    this thread, with Qt's signals.
    """
    module = sys.modules.get("pymmcore_plus.core._mmcore_plus")
    if module is None:
        return None
    if not hasattr(module, "_instance"):
        return module.CMMCorePlus.instance()
    reference = module._instance
    return None if reference is None else reference()


def _camera_labels(core: Core) -> Sequence[str]:
    from pymmcore_plus import DeviceType

    return tuple(map(str, core.getLoadedDevicesOfType(DeviceType.Camera)))


def _no_camera() -> SourceError:
    return SourceError(f"Micro-Manager has no camera: {_LOAD_ADVICE}", fault=SourceFault.MISSING)


def _parse_exposure_ms(extra: Mapping[str, str]) -> float | None:
    text = extra.get("exposure_ms")
    if text is None:
        return None
    try:
        exposure_ms = float(text)
    except ValueError:
        exposure_ms = float("nan")
    if not 0 < exposure_ms < float("inf"):
        raise SourceError(
            f"exposure_ms must be a number above 0, got {text!r}", fault=SourceFault.FORMAT
        )
    return exposure_ms


def _cause(error: Exception) -> str:
    return str(error) or type(error).__name__


def _after_comma(cause: str) -> str:
    return f", {cause}" if cause else ""
