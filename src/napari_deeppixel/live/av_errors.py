"""What PyAV's exceptions mean for a source, in words that help."""

import errno
import sys
from types import ModuleType
from urllib.parse import urlsplit, urlunsplit

from napari_deeppixel.live.source import SourceError, SourceFault, SourceInfo

_MISSING = frozenset(
    {
        errno.ENOENT,
        errno.ENODEV,
        errno.ENXIO,
        errno.ECONNREFUSED,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EADDRNOTAVAIL,
    }
)
# ENOSPC: no room on the USB bus beside another camera
_BUSY = frozenset({errno.EBUSY, errno.ENOSPC})
_DENIED = frozenset({errno.EACCES, errno.EPERM})
_FORMAT = frozenset({errno.EINVAL, errno.ENOTTY, errno.EISDIR, errno.ERANGE})

_WHAT = {
    SourceFault.MISSING: "is not there",
    SourceFault.BUSY: "is in use",
    SourceFault.DENIED: "may not be opened",
    SourceFault.TIMEOUT: "sent no picture in time",
    SourceFault.LOST: "is gone",
    SourceFault.FORMAT: "gives nothing that can be shown",
    SourceFault.OTHER: "cannot be read",
}

_ADVICE: dict[SourceFault, dict[str, str]] = {
    SourceFault.MISSING: {
        "camera": "check that it is plugged in",
        "stream": "check the address, and that the server runs",
        "file": "check the path",
        "screen": "check the name of the display",
    },
    SourceFault.BUSY: {
        "camera": "close the other program that uses it, or choose a smaller size",
    },
    SourceFault.DENIED: {
        "camera": "allow it in the settings of the system (on Linux: join the group `video`)",
        "stream": "put name and password into the address: {scheme}://name:password@host/path",
        "file": "check who may read it",
    },
    SourceFault.TIMEOUT: {
        "camera": "unplug it and plug it in again, or wait longer",
        "stream": "check the network and the server, or wait longer",
    },
    SourceFault.FORMAT: {
        "camera": "choose another size or frame rate",
        "stream": "check that the address is that of the pictures, not of a page around them",
        "file": "check that it is a video",
    },
}

_CHECK_PASSWORD = "check name and password in the address, and that they may see this camera"


def import_av() -> ModuleType:
    """Return PyAV.

    Raises
    ------
    SourceError
        If it is not installed, or too old to tell the names of cameras.
    """
    try:
        import av
        import av.device
    except ImportError as error:
        raise SourceError(
            f"cameras, streams and videos need PyAV 17 or later ({error}): "
            'pip install "napari-deeppixel[live]"'
        ) from error
    return av


def without_password(address: str) -> str:
    """Return an address as it may be shown: what stands before the @ of a URL is left out."""
    if "://" not in address or "@" not in address:
        return address
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def source_error(error: Exception, *, info: SourceInfo, was_live: bool) -> SourceError:
    """Return what an exception of PyAV says about a source.

    Parameters
    ----------
    error
        What opening or reading raised.
    info
        The source.
    was_live
        Whether it has given frames before: what could mean a wrong address is then a source that
        went away, and is worth another try.
    """
    return fault_error(_fault(error, info=info, was_live=was_live), info=info, cause=_cause(error))


def fault_error(fault: SourceFault, *, info: SourceInfo, cause: str) -> SourceError:
    """Return an error that says what is wrong, why, and what to do."""
    advice = _ADVICE.get(fault, {}).get(info.kind, "")
    if fault is SourceFault.DENIED and info.kind == "stream":
        parts = urlsplit(info.address)
        has_password = "@" in parts.netloc
        advice = _CHECK_PASSWORD if has_password else advice.format(scheme=parts.scheme or "rtsp")
    message = f"{info.label} {_WHAT[fault]} ({cause})" + (f": {advice}" if advice else "")
    return SourceError(message, fault=fault)


def _cause(error: Exception) -> str:
    import av

    if isinstance(error, av.error.ExitError):
        return "timed out"
    text = getattr(error, "strerror", None) or str(error)
    return str(text)


def _fault(error: Exception, *, info: SourceInfo, was_live: bool) -> SourceFault:
    import av

    if isinstance(error, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError):
        return SourceFault.DENIED
    if isinstance(error, av.error.HTTPServerError | av.error.HTTPTooManyRequestsError):
        return SourceFault.OTHER
    if isinstance(error, av.error.ExitError | TimeoutError):
        return SourceFault.TIMEOUT
    number = getattr(error, "errno", None)
    if number in _DENIED:
        return SourceFault.DENIED
    if number in _BUSY:
        return SourceFault.BUSY
    if was_live:
        return SourceFault.LOST
    if number in _MISSING or isinstance(error, av.error.HTTPClientError):
        return SourceFault.MISSING
    if number == errno.EIO:
        return _fault_of_eio(info)
    if number in _FORMAT or isinstance(error, ValueError | LookupError):
        return SourceFault.FORMAT
    return SourceFault.LOST if isinstance(error, ConnectionError) else SourceFault.OTHER


def _fault_of_eio(info: SourceInfo) -> SourceFault:
    # libavdevice says EIO for a display that is not there and a name that no server knows, and,
    # on Windows and macOS, for a camera that another program has or that may not be used
    if info.kind == "camera" and sys.platform != "linux":
        return SourceFault.BUSY
    return SourceFault.OTHER if info.kind == "file" else SourceFault.MISSING
