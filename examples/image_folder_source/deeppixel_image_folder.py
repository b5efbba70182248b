"""A live source for napari-deeppixel: the PNG and JPEG images of a folder, as a film.

``folder:PATH`` opens a folder. Those named in the environment variable
``DEEPPIXEL_IMAGE_FOLDERS`` are offered in the Live tab.
"""

import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import imageio.v3 as iio
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

PREFIX = "folder:"
FOLDERS_VARIABLE = "DEEPPIXEL_IMAGE_FOLDERS"
SUFFIXES = frozenset({".jpeg", ".jpg", ".png"})
USUAL_FPS = 10.0


class FolderSource:
    """The images of a folder in the order of their names.

    Parameters
    ----------
    folder
        Where they are.
    options
        Frames a second (10), and whether they begin again at the end.
    """

    def __init__(self, folder: Path, options: SourceOptions) -> None:
        self._folder, self._is_looped = folder, options.is_looped
        self._fps = options.fps or USUAL_FPS
        self._paths: list[Path] = []
        self._interrupted = threading.Event()

    @property
    def info(self) -> SourceInfo:
        """What it is. A ``file`` may be slowed down by a slow model; a ``camera`` goes on."""
        return SourceInfo(
            address=f"{PREFIX}{self._folder}", label=f"Images in {self._folder.name}", kind="file"
        )

    def open(self) -> StreamInfo:
        """Look for the images.

        Raises
        ------
        SourceError
            If there are none.
        """
        try:
            found = [path for path in self._folder.iterdir() if path.suffix.lower() in SUFFIXES]
        except OSError as error:
            raise SourceError(
                f"{self._folder} cannot be read ({error.strerror}): check the path",
                fault=SourceFault.MISSING,
            ) from error
        if not found:
            raise SourceError(
                f"{self._folder} holds no PNG or JPEG image: choose another folder",
                fault=SourceFault.MISSING,
            )
        self._paths = sorted(found)
        return StreamInfo(fps=self._fps, description=f"{len(found)} images")

    def frames(self) -> Iterator[Frame]:
        """Yield one image after the other, each when it is due; return at the end.

        Raises
        ------
        SourceError
            If an image cannot be read.
        """
        begin_s, number = time.monotonic(), 0
        while True:
            for path in self._paths:
                device_s = number / self._fps
                # `interrupt` ends the wait at once: Stop never waits for the next image
                if self._interrupted.wait(max(0.0, begin_s + device_s - time.monotonic())):
                    return
                yield Frame(pixels=_read(path), number=number, device_s=device_s)
                number += 1
            if not self._is_looped:
                return

    def interrupt(self) -> None:
        """End `frames`; called from another thread."""
        self._interrupted.set()

    def close(self) -> None:
        """Do nothing: no file stays open."""


class FolderProvider:
    """Opens ``folder:PATH``."""

    name = "Image folder"

    def list_sources(self) -> Sequence[SourceInfo]:
        """Return the folders that the environment variable names and that are there."""
        named = os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep)
        folders = [Path(name).expanduser() for name in named if name]
        return [FolderSource(folder, SourceOptions()).info for folder in folders if folder.is_dir()]

    def opens(self, address: str) -> bool:
        """Whether it begins with ``folder:``."""
        return address.startswith(PREFIX)

    def create(self, address: str, options: SourceOptions) -> FolderSource:
        """Return the images of a folder, not looked for yet."""
        return FolderSource(Path(address.removeprefix(PREFIX)).expanduser(), options)


def _read(path: Path) -> NDArray[Any]:
    """Return an image as (H, W) or (H, W, 3), without its alpha channel."""
    try:
        pixels = np.asarray(iio.imread(path))
    except (OSError, ValueError) as error:
        raise SourceError(
            f"{path.name} cannot be read ({error}): remove it from the folder",
            fault=SourceFault.FORMAT,
        ) from error
    has_alpha = pixels.ndim == 3 and pixels.shape[2] in (2, 4)
    return pixels[..., :-1] if has_alpha else pixels
