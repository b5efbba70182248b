"""What a web server answers, where FFmpeg only says that it found no video."""

import base64
import contextlib
import http.client
import time
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

from napari_deeppixel.live.av_errors import without_password

_JPEG_BEGINS = b"\xff\xd8\xff"
# by then a row of JPEGs has begun with one, headers and all
_ENOUGH_BYTES = 4096
_ROW_OF_PICTURES = "multipart/"
# a video of these may still come, if slowly
_VIDEO_TYPES = (_ROW_OF_PICTURES, "video/", "audio/", "image/", "application/")
# lists that lead to a video
_LIST_TYPES = ("mpegurl", "dash+xml", "sdp")


def nonsense_from(url: str, *, has_ended: bool, timeout_s: float) -> str:
    """Return what a server sends in place of a video, for people; empty if that cannot be told.

    Asks the server once more and looks at the first bytes. A server that refuses, is silent or
    slow has sent no nonsense.

    Parameters
    ----------
    url
        Beginning with http or https; may hold name and password.
    has_ended
        FFmpeg saw all of the answer, or enough, and made nothing of it.
    timeout_s
        Longest wait for the answer, and for more of it.
    """
    try:
        with urlopen(_request(url), timeout=timeout_s) as answer:
            kind = answer.headers.get_content_type()
            is_row = kind.startswith(_ROW_OF_PICTURES)
            body = _first_bytes(answer, _ENOUGH_BYTES if is_row else 1, timeout_s)
    # HTTPException: what answers is no web server. ValueError: the address is none
    except (OSError, http.client.HTTPException, ValueError):
        return ""
    if not body or any(name in kind for name in _LIST_TYPES):
        return ""
    if is_row:
        is_nonsense = len(body) >= _ENOUGH_BYTES and _JPEG_BEGINS not in body
        return "what it sends holds no picture" if is_nonsense else ""
    return f"it answers with {kind}" if has_ended or not kind.startswith(_VIDEO_TYPES) else ""


def _request(url: str) -> Request:
    parts = urlsplit(url)
    headers = {}
    if parts.username is not None:
        name_and_password = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        coded = base64.b64encode(name_and_password.encode()).decode()
        headers["Authorization"] = f"Basic {coded}"
    return Request(without_password(url), headers=headers)


def _first_bytes(answer: http.client.HTTPResponse, enough: int, timeout_s: float) -> bytes:
    body, until_s = b"", time.monotonic() + timeout_s
    # what came until a wait was too long counts
    with contextlib.suppress(OSError):
        while len(body) < enough and time.monotonic() < until_s:
            more = answer.read1(enough)
            if not more:
                break
            body += more
    return body
