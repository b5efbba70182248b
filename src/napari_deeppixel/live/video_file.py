"""The film of a recording, readable up to the last half second if the process dies."""

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from napari_deeppixel.live.av_errors import import_av
from napari_deeppixel.live.overlay_frame import Picture
from napari_deeppixel.live.source import SourceError

# MPEG's own clock
_TICKS_PER_S = 90_000
_KEY_FRAME_S = 1.0
# MP4 has 32 bits of ticks for how long a picture is shown, 13 hours; and players seek to pictures
_LONGEST_S = 600.0
# how long the last picture is shown, where it is repeated to fill the time
_END_S = 0.02
# Each fragment is whole on the disk once the next one begins. Measured with PyAV 18.1: of 150
# frames at 30 fps, 135 were readable in a file that was never closed, and none in a plain MP4.
_MP4 = {
    "movflags": "frag_keyframe+empty_moov",
    "frag_duration": "500000",
    "flush_packets": "1",
}
# zerolatency: no frame waits in the encoder, where a kill would lose it
_X264 = {"preset": "ultrafast", "tune": "zerolatency", "crf": "20"}
# builds of FFmpeg without GPL parts have no libx264
_ENCODERS = ("libx264", "libopenh264", "mpeg4")


class VideoFile:
    """A film of variable frame rate: H.264 in a fragmented MP4.

    Frames of odd size are widened by one pixel, as H.264 asks.

    Parameters
    ----------
    path
        File to write.
    image_hw
        Size of all its frames.

    Raises
    ------
    SourceError
        If PyAV is not installed, or has no encoder.
    OSError
        If the file cannot be written.
    """

    def __init__(self, path: Path, image_hw: tuple[int, int]) -> None:
        av = import_av()
        self.path, self.image_hw = path, image_hw
        self.num_frames = 0
        self._good_bytes = 0
        self._has_failed = self._is_closed = False
        self._last_tick, self._last_key_s = -1, -np.inf
        self._last: Any = None
        self._frame_type, kinds = av.VideoFrame, av.video.frame.PictureType
        self._key_frame, self._no_picture_type = kinds.I, kinds.NONE
        self._container = av.open(str(path), "w", format="mp4", options=_MP4)
        try:
            self._stream = self._container.add_stream(_encoder(av))
            self._stream.height, self._stream.width = (side + side % 2 for side in image_hw)
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = Fraction(1, _TICKS_PER_S)
            # the model needs the other cores
            self._stream.codec_context.thread_count = 1
            if self._stream.codec_context.name == "libx264":
                self._stream.options = _X264
        except BaseException:
            self._container.close()
            raise

    @property
    def num_bytes(self) -> int:
        """Size on the disk."""
        return size_of(self.path)

    def write(self, picture: Picture, seconds: float) -> int:
        """Append a frame, uint8 (H, W) or RGB (H, W, 3); return its number in the file.

        Stamps begin anywhere and must not go back; equal ones are moved on by 1/90,000 s.
        """
        odd = [(0, side % 2) for side in self.image_hw]
        if any(after for _, after in odd):
            picture = np.pad(picture, odd + [(0, 0)] * (picture.ndim - 2), mode="edge")
        layout = "gray" if picture.ndim == 2 else "rgb24"
        frame = self._frame_type.from_ndarray(np.ascontiguousarray(picture), format=layout)
        self._repeat_until(seconds)
        self._write_frame(frame, seconds)
        self._last = frame
        return self.num_frames - 1

    def _write_frame(self, frame: Any, seconds: float, *, shown_s: float | None = None) -> None:
        self._last_tick = max(round(seconds * _TICKS_PER_S), self._last_tick + 1)
        frame.pts, frame.time_base = self._last_tick, Fraction(1, _TICKS_PER_S)
        is_key = seconds - self._last_key_s >= _KEY_FRAME_S
        frame.pict_type = self._key_frame if is_key else self._no_picture_type
        if is_key:
            self._last_key_s = seconds
        self._mux(frame, shown_s=shown_s)
        self.num_frames += 1

    def _repeat_until(self, seconds: float) -> None:
        """Write the last picture again where the next one would come very late."""
        while self._last is not None and seconds - self._last_s > _LONGEST_S:
            self._write_frame(self._last, self._last_s + _LONGEST_S)

    @property
    def _last_s(self) -> float:
        return self._last_tick / _TICKS_PER_S

    def _mux(self, frame: Any, *, shown_s: float | None = None) -> None:
        try:
            for packet in self._stream.encode(frame):
                if shown_s is not None:
                    packet.duration = round(shown_s / packet.time_base)
                self._container.mux(packet)
        except BaseException:
            self._has_failed = True
            raise
        self._good_bytes = self.num_bytes

    def close(self, until_s: float | None = None) -> None:
        """Write what is left; after an error, cut off the fragment that is not whole.

        Parameters
        ----------
        until_s
            How long the film goes: its last picture is shown until then. None: not for long.
        """
        if self._is_closed:
            return
        self._is_closed = True
        try:
            if not self._has_failed and self.num_frames:
                if until_s is not None and until_s - self._last_s > 2 * _END_S:
                    # the film's format has no end, only a last picture
                    self._repeat_until(until_s)
                    self._write_frame(self._last, until_s - _END_S, shown_s=_END_S)
                self._mux(None)
        finally:
            try:
                self._container.close()
            finally:
                if self._has_failed and self.path.exists():
                    os.truncate(self.path, self._good_bytes)


def _encoder(av: Any) -> str:
    for name in _ENCODERS:
        if name in av.codecs_available:
            try:
                av.Codec(name, "w")
            except ValueError:
                continue
            return name
    raise SourceError(f"PyAV {av.__version__} has none of the encoders {', '.join(_ENCODERS)}")


def size_of(path: Path) -> int:
    """Return the bytes of a file; 0 if it is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
