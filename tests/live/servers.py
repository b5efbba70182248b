"""Stream servers on this computer that fail when a test tells them to."""

import base64
import contextlib
import io
import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, Self

import av
import numpy as np
from PIL import Image

# what a server sends as its nth picture; None: nothing any more, but the line stays open
Picture = Callable[[int], bytes | None]


def jpeg(pixels: Any, quality: int = 95) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return file.getvalue()


def flat(colour: Any = (255, 0, 0), hw: tuple[int, int] = (48, 64)) -> bytes:
    """A JPEG of one colour, or of one grey value."""
    shape = hw if np.isscalar(colour) else (*hw, 3)
    return jpeg(np.full(shape, colour, np.uint8))


class Server:
    """Takes connections on a free port of 127.0.0.1, each in a thread, until it is killed."""

    scheme = "tcp"
    path = ""

    def __init__(self, *, fps: float = 50.0) -> None:
        self._interval_s = 1 / fps
        self._threads: list[threading.Thread] = []
        self._connections: list[socket.socket] = []
        self.port = 0
        self.num_connections = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/{self.path}"

    def start(self) -> None:
        """Begin; after `kill`, on the same port as before."""
        self._killed = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=8)
        self._listener.settimeout(0.05)
        self.port = self._listener.getsockname()[1]
        self._run(self._accept)

    def kill(self) -> None:
        """Cut all lines, as the end of a process does."""
        self._killed.set()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()
        self._listener.close()
        self._threads, self._connections = [], []

    def serve(self, connection: socket.socket) -> None:  # noqa: ARG002  others need it
        """Say nothing, for ever."""
        self._killed.wait()

    def _run(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._killed.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            connection.settimeout(5)
            self._connections.append(connection)
            self.num_connections += 1
            self._run(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self.serve(connection)


class SilentHttpServer(Server):
    """Accepts, and never answers."""

    scheme = "http"


class SilentRtspServer(Server):
    """Accepts, and never answers."""

    scheme = "rtsp"


class MjpegServer(Server):
    """A camera of MJPEG over HTTP; `num_lost` bytes in the first picture never come."""

    scheme, path = "http", "video.mjpg"

    def __init__(
        self,
        picture: Picture = lambda _: flat(),
        *,
        status: str = "200 OK",
        content_type: str = "multipart/x-mixed-replace; boundary=frame",
        has_length: bool = True,
        num_lost: int = 0,
        fps: float = 50.0,
    ) -> None:
        super().__init__(fps=fps)
        self.picture = picture
        self._num_lost = num_lost
        self._status, self._content_type, self._has_length = status, content_type, has_length

    def serve(self, connection: socket.socket) -> None:
        connection.recv(65536)
        head = f"HTTP/1.0 {self._status}\r\nContent-Type: {self._content_type}\r\n\r\n"
        connection.sendall(head.encode())
        if not self._status.startswith("200"):
            return
        for number in itertools.count():
            image = self.picture(number)
            if image is None:
                self._killed.wait()
                return
            length = f"Content-Length: {len(image)}\r\n" if self._has_length else ""
            part = f"--frame\r\nContent-Type: image/jpeg\r\n{length}\r\n".encode()
            if number == 0:
                image = image[: len(image) - self._num_lost]
            connection.sendall(part + image + b"\r\n")
            if self._killed.wait(self._interval_s):
                return


class NonsenseServer(Server):
    """Answers 200 with something, and ends the line or leaves it open."""

    scheme, path = "http", "video"

    def __init__(self, body: bytes, *, content_type: str, stays_open: bool = False) -> None:
        super().__init__()
        self._body, self._content_type, self._stays_open = body, content_type, stays_open

    def serve(self, connection: socket.socket) -> None:
        connection.recv(65536)
        head = f"HTTP/1.0 200 OK\r\nContent-Type: {self._content_type}\r\n\r\n"
        connection.sendall(head.encode() + self._body)
        if self._stays_open:
            self._killed.wait()


class RtspServer(Server):
    """A camera of H.264 over RTSP, interleaved in its TCP line."""

    scheme, path = "rtsp", "camera"

    def __init__(
        self,
        *,
        hw: tuple[int, int] = (48, 64),
        num_frames: int | None = None,
        ends_line: bool = False,
        password: str = "",
        fps: float = 25.0,
    ) -> None:
        super().__init__(fps=fps)
        self._hw, self._num_frames, self._ends_line = hw, num_frames, ends_line
        self._token = base64.b64encode(f"me:{password}".encode()).decode() if password else ""

    def serve(self, connection: socket.socket) -> None:
        requests = connection.makefile("r", newline="\r\n")
        while not self._killed.is_set():
            lines = list(iter(lambda: requests.readline().strip(), ""))
            if not lines:
                return
            method = lines[0].split()[0]
            headers = dict(line.split(": ", 1) for line in lines[1:])
            if self._token and headers.get("Authorization") != f"Basic {self._token}":
                answer = ["RTSP/1.0 401 Unauthorized", 'WWW-Authenticate: Basic realm="test"']
                body = ""
            else:
                answer, body = self._answer(method)
            answer += [f"CSeq: {headers['CSeq']}", f"Content-Length: {len(body)}", "", body]
            connection.sendall("\r\n".join(answer).encode())
            if method == "PLAY" and answer[0].endswith("OK"):
                self._run(self._play, connection)

    def _answer(self, method: str) -> tuple[list[str], str]:
        answer, body = ["RTSP/1.0 200 OK"], ""
        if method == "OPTIONS":
            answer.append("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN")
        elif method == "DESCRIBE":
            answer.append("Content-Type: application/sdp")
            body = (
                "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=test\r\nt=0 0\r\n"
                "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:track\r\n"
                "a=fmtp:96 packetization-mode=1\r\n"
            )
        elif method == "SETUP":
            answer += ["Transport: RTP/AVP/TCP;unicast;interleaved=0-1", "Session: 1;timeout=60"]
        elif method == "PLAY":
            answer.append("Session: 1")
        return answer, body

    def _play(self, connection: socket.socket) -> None:
        sequence = itertools.count()
        try:
            for number, units in enumerate(self._units()):
                for unit in units:
                    is_last = unit is units[-1]
                    head = bytes([0x80, 96 | (is_last << 7)])
                    head += (next(sequence) & 0xFFFF).to_bytes(2, "big")
                    head += round(number * self._interval_s * 90000).to_bytes(4, "big")
                    packet = head + bytes(4) + unit
                    connection.sendall(b"$\0" + len(packet).to_bytes(2, "big") + packet)
                if self._killed.wait(self._interval_s):
                    return
            if self._ends_line:
                connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def _units(self) -> Iterator[list[bytes]]:
        """The NAL units of each picture: each is one packet, small as the pictures are."""
        encoder = av.CodecContext.create("libx264", "w")
        assert isinstance(encoder, av.VideoCodecContext)
        encoder.height, encoder.width = self._hw
        encoder.pix_fmt, encoder.framerate = "yuv420p", 25
        encoder.options = {"tune": "zerolatency", "preset": "ultrafast", "g": "10"}
        numbers = itertools.count() if self._num_frames is None else range(self._num_frames)
        for number in numbers:
            pixels = np.full((*self._hw, 3), 8 * number % 256, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            data = b"".join(bytes(packet) for packet in encoder.encode(frame))
            yield [unit for unit in data.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1") if unit]
