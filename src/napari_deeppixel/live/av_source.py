"""Cameras, streams, files and screens, read by PyAV."""

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.live.av_errors import fault_error, import_av, source_error
from napari_deeppixel.live.http_answer import nonsense_from
from napari_deeppixel.live.own_sockets import OwnSockets
from napari_deeppixel.live.pace import Pace
from napari_deeppixel.live.source import (
    Frame,
    SourceError,
    SourceFault,
    SourceInfo,
    SourceOptions,
    StreamInfo,
)

if TYPE_CHECKING:
    import av

# pixels, and the source's stamp in seconds
_Image = tuple[NDArray[Any], float | None]

# between two looks at a device that has no frame yet
_POLL_S = 0.002

# for a look at what a web server sends in place of a video
_LOOK_S = 1.0

# a file in which a reader meets nothing else is damaged to the end
_MAX_DAMAGES = 50

# pictures without an end mark, from which on they are what this camera sends
_MAX_ENDLESS = 3

# as deep as they are, and not stretched: the pixel formats that PyAV hands out unchanged
_GREY = frozenset({"gray", "grayf32le", "grayf32be"}) | {
    f"gray{bits}{order}" for bits in (9, 10, 12, 14, 16) for order in ("le", "be")
}
_GREY_WITH_ALPHA = {"ya8": "gray", "ya16le": "gray16le", "ya16be": "gray16le"}


@dataclass(frozen=True, kw_only=True)
class AvInput:
    """What PyAV opens.

    Attributes
    ----------
    url
        A URL, a path, or what a device is called.
    container_format
        ``v4l2``, ``x11grab``, …; None: PyAV finds it out.
    settings
        Its settings; those of the person's own go before them.
    """

    url: str
    container_format: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)


class AvSource:
    """A camera, stream, file or screen.

    Live ones are read as fast as they come. A file runs at its own pace, or at `SourceOptions.fps`,
    without leaving a frame out.

    Parameters
    ----------
    info
        What it is.
    options
        How to open it. `SourceOptions.extra` are settings of FFmpeg.
    av_input
        What PyAV opens; None: the address.
    """

    def __init__(
        self,
        info: SourceInfo,
        options: SourceOptions | None = None,
        *,
        av_input: AvInput | None = None,
    ) -> None:
        self._info, self._options = info, options or SourceOptions()
        self._input = av_input or AvInput(url=info.address)
        self._container: av.container.InputContainer | None = None
        self._packets: Iterator[av.Packet[Any]] = iter(())
        self._interrupted = threading.Event()
        self._waits_since_s = 0.0
        self._sockets = OwnSockets(_port(self._input.url))
        self._number = self._num_corrupt = self._num_damages = 0
        self._num_endless = self._num_corrupt_before = 0
        self._was_live = self._ends_jpegs = False

    @property
    def info(self) -> SourceInfo:
        """What it is."""
        return self._info

    @property
    def num_corrupt(self) -> int:
        """How many frames were broken and left out, over all openings."""
        return self._num_corrupt

    def open(self) -> StreamInfo:
        """Open it, at the beginning.

        Raises
        ------
        SourceError
            If it cannot be opened.
        """
        self._number = 0
        self._open_container()
        return self._stream_info()

    def frames(self) -> Iterator[Frame]:
        """Yield frames as they come or, for a file, as they are due; return at its end.

        Raises
        ------
        SourceError
            If none comes in time, or the source is gone.
        """
        self._waits_since_s = time.monotonic()
        pace = self._pace()
        try:
            for pixels, device_s in self._images():
                if pace is not None:
                    self._interrupted.wait(pace.wait_s(device_s))
                if self._interrupted.is_set():
                    return
                self._was_live = True
                yield Frame(pixels=pixels, number=self._number, device_s=device_s)
                self._number += 1
                # what the taker does with a frame is not the source's time
                self._waits_since_s = time.monotonic()
        except SourceError:
            if not self._interrupted.is_set():
                raise

    def interrupt(self) -> None:
        """Let a wait end soon, and no other begin; from any thread."""
        self._interrupted.set()
        if self._info.kind == "stream":
            self._sockets.shut_down()

    def close(self) -> None:
        """Let go of the source; in the thread that reads it."""
        container, self._container = self._container, None
        # before the container: a packet may lie in the driver's own memory, which goes with it
        self._packets = iter(())
        if container is not None:
            container.close()

    # -- opening ------------------------------------------------------------------------------

    def _open_container(self) -> None:
        self.close()
        av = import_av()
        if self._interrupted.is_set():
            raise SourceError(f"{self._info.label} was told to stop")
        timeout_s, begin_s = self._options.timeout_s, time.monotonic()
        try:
            with self._sockets:
                container = av.open(
                    self._input.url,
                    format=self._input.container_format,
                    options=self._settings(),
                    timeout=(timeout_s, timeout_s),
                )
        # ValueError: this PyAV was built without such a device
        except (av.FFmpegError, ValueError) as error:
            # RTSP calls an answer that does not come invalid
            is_late = time.monotonic() - begin_s > timeout_s
            told = source_error(error, info=self._info, was_live=self._was_live)
            raise self._looked_into(self._timeout() if is_late else told) from error
        self._container = container
        self._stream = container.streams.best("video")
        if self._stream is None:
            self.close()
            raise fault_error(SourceFault.FORMAT, info=self._info, cause="it has no video")
        if not self._info.is_live:
            # all cores; for a live source this would hold back as many frames as there are cores
            self._stream.thread_type = "AUTO"
        # all streams: a wait for one of them would not end while the others send
        self._packets = container.demux()
        self._reformatter = av.video.reformatter.VideoReformatter()

    def _looked_into(self, error: SourceError) -> SourceError:
        """Return an error that says what a web server sends, if that is no video."""
        is_web = urlsplit(self._input.url).scheme.lower() in ("http", "https")
        may_answer = error.fault in (SourceFault.TIMEOUT, SourceFault.MISSING, SourceFault.FORMAT)
        if not is_web or not may_answer or self._was_live or self._interrupted.is_set():
            return error
        with self._sockets:
            has_ended = error.fault is not SourceFault.TIMEOUT
            sent = nonsense_from(self._input.url, has_ended=has_ended, timeout_s=_LOOK_S)
        if not sent:
            return error
        return fault_error(SourceFault.FORMAT, info=self._info, cause=sent)

    def _settings(self) -> dict[str, str]:
        settings = dict(self._input.settings)
        # what a stream or file sends cannot be asked to be otherwise
        if self._info.kind in ("camera", "screen"):
            if self._options.size_hw is not None:
                height, width = self._options.size_hw
                settings["video_size"] = f"{width}x{height}"
            if self._options.fps is not None:
                settings["framerate"] = f"{self._options.fps:g}"
        return settings | dict(self._options.extra)

    def _stream_info(self) -> StreamInfo:
        codec = self._stream.codec_context
        rate = self._stream.average_rate
        return StreamInfo(
            image_hw=(codec.height, codec.width) if codec.height and codec.width else None,
            fps=float(rate) if rate and self._has_stamps else None,
            description=", ".join(filter(None, (codec.name, codec.pix_fmt))),
        )

    @property
    def _has_stamps(self) -> bool:
        # FFmpeg stamps the pictures of a bare row of JPEGs as if 25 came in a second
        return self._container is not None and self._container.format.name != "mpjpeg"

    def _pace(self) -> Pace | None:
        if self._info.is_live:
            return None
        return Pace(
            fps=self._options.fps,
            usual_fps=float(self._stream.average_rate or 25),
            longest_s=self._options.timeout_s,
        )

    # -- reading ------------------------------------------------------------------------------
    # No method that yields may hold a packet or a frame of PyAV: the source may be closed then.

    def _images(self) -> Iterator[_Image]:
        round_begins_s = last_s = 0.0
        while True:
            number_before = self._number
            while (images := self._read()) is not None:
                for pixels, device_s in images:
                    if device_s is not None:
                        last_s = device_s = device_s + round_begins_s
                    yield pixels, device_s
            self._check_end(has_frames=self._number > number_before)
            if not self._options.is_looped:
                return
            round_begins_s = last_s + 1 / float(self._stream.average_rate or 25)
            self._open_container()

    def _check_end(self, *, has_frames: bool) -> None:
        # RTSP ends without a word when its server dies
        if self._info.is_live:
            raise fault_error(SourceFault.LOST, info=self._info, cause="it ended")
        if not has_frames:
            raise fault_error(SourceFault.FORMAT, info=self._info, cause="it has no frames")

    def _read(self) -> list[_Image] | None:
        """Return the images of the next packet, which may be none; None at the end."""
        av = import_av()
        begin_s = time.monotonic()
        try:
            packet = next(self._packets, None)
        except av.error.BlockingIOError:
            self._interrupted.wait(_POLL_S)
            self._look_again()
            return []
        except av.error.InvalidDataError as error:
            self._count_damage(error)
            return []
        except av.FFmpegError as error:
            raise source_error(error, info=self._info, was_live=True) from error
        if packet is None:
            return None
        if self._info.is_live and time.monotonic() - begin_s > self._options.timeout_s:
            # RTSP hands out at last what it held back before its line fell silent
            raise self._timeout()
        images: list[_Image] = []
        if packet.stream_index == self._stream.index:
            if self._is_broken(packet):
                self._num_corrupt += 1
            else:
                images = self._decode(packet)
        self._check_time(has_image=bool(images))
        return images

    def _look_again(self) -> None:
        # a generator that raised is over
        assert self._container is not None
        self._packets = self._container.demux()
        self._check_time(has_image=False)

    def _count_damage(self, error: Exception) -> None:
        # in a row of JPEGs each line of a damaged one is an error of its own, until the next one
        # begins (VLC cuts the first picture off); a file may say the same for ever
        self._num_corrupt += not self._num_damages
        self._num_damages += 1
        if not self._info.is_live and self._num_damages > _MAX_DAMAGES:
            raise source_error(error, info=self._info, was_live=False) from error
        self._look_again()

    def _check_time(self, *, has_image: bool) -> None:
        if has_image:
            self._num_damages = 0
            self._num_corrupt_before = self._num_corrupt
            self._waits_since_s = time.monotonic()
        elif time.monotonic() - self._waits_since_s > self._options.timeout_s:
            raise self._timeout()

    def _timeout(self) -> SourceError:
        waited = f"in {self._options.timeout_s:g} s"
        has_more = self._num_corrupt > self._num_corrupt_before
        cause = f"nothing {waited} that is a picture" if has_more else f"no whole frame {waited}"
        return fault_error(SourceFault.TIMEOUT, info=self._info, cause=cause)

    def _is_broken(self, packet: "av.Packet[av.VideoStream]") -> bool:
        # a driver's note of a damaged buffer; to a decoder an empty packet is the end
        if packet.size == 0:
            return packet.pts is not None
        if self._stream.codec_context.name != "mjpeg":
            return False
        # FFmpeg decodes a JPEG that was cut off and paints the rest green without a word. Some
        # cameras leave out the end mark always, which is no fault then.
        has_end = bytes(packet).rstrip(b"\0\r\n").endswith(b"\xff\xd9")
        if has_end:
            self._ends_jpegs = True
            return False
        self._num_endless += 1
        return self._ends_jpegs or self._num_endless <= _MAX_ENDLESS

    def _decode(self, packet: "av.Packet[av.VideoStream]") -> list[_Image]:
        av = import_av()
        try:
            frames = packet.decode()
        except av.FFmpegError:
            self._num_corrupt += 1
            return []
        whole = [frame for frame in frames if not frame.is_corrupt]
        self._num_corrupt += len(frames) - len(whole)
        has_stamps = self._has_stamps
        return [(self._pixels(frame), frame.time if has_stamps else None) for frame in whole]

    def _pixels(self, frame: "av.VideoFrame") -> NDArray[Any]:
        """Return the image of a frame in memory of its own: (H, W), or (H, W, 3) as RGB."""
        name = frame.format.name
        if name in _GREY:
            # copied: an uncompressed frame lies in the driver's memory
            return np.array(frame.to_ndarray())
        target = _GREY_WITH_ALPHA.get(name, "rgb24")
        pixels = self._reformatter.reformat(frame, format=target).to_ndarray()
        return np.array(pixels) if name == target else np.ascontiguousarray(pixels)


def _port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or {"http": 80, "https": 443, "rtsp": 554, "rtsps": 322}.get(parts.scheme, 0)
