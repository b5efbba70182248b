"""The SHA-256 of files, by which images are known whatever they are called."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from napari_deeppixel.core.progress import CancelToken

_CHUNK = 1 << 20


def sha256_of(path: Path, cancel: CancelToken | None = None) -> str:
    """Return the SHA-256 of a file's content, hexadecimal.

    Raises
    ------
    OSError
        If it cannot be read.
    RunCancelled
        If somebody asked to stop.
    """
    digest = hashlib.sha256()
    for chunk in chunks_of(path):
        digest.update(chunk)
        if cancel is not None:
            cancel.raise_if_cancelled()
    return digest.hexdigest()


def chunks_of(path: Path) -> Iterator[bytes]:
    """Yield what is in a file, a mebibyte at a time."""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
