"""Fetch a weights file into torch's own cache, with progress, cancel and a hash check."""

import contextlib
import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlparse

from napari_deeppixel.core.errors import WeightsError
from napari_deeppixel.core.progress import CancelToken, Progress
from napari_deeppixel.engine.torch_gate import torch

_CHUNK = 1 << 18
_TIMEOUT_S = 20.0


def cached_path(url: str) -> Path:
    """Return where torch keeps the file of an address; it need not be there yet."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name


def fetch(
    url: str,
    *,
    cancel: CancelToken | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Path:
    """Return the cached file of an address, downloading it where it is missing.

    The end of the file name (``…-bf2d0c1e.pth``) is the start of its SHA-256, as torch's hub has
    it, and is checked. A download that fails or is cancelled leaves nothing behind.

    Raises
    ------
    RunCancelled
        If `cancel` was set meanwhile.
    WeightsError
        If the address cannot be reached, the file is incomplete, or its hash differs.
    """
    path = cached_path(url)
    if path.exists():
        return path
    cancel = cancel or CancelToken()
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = _download(url, temporary, cancel, on_progress)
        wanted = torch.hub.HASH_REGEX.search(path.name)
        if wanted is not None and not digest.startswith(wanted.group(1)):
            raise WeightsError(
                f"{url}: the file that came has SHA-256 {digest[:8]}…, expected "
                f"{wanted.group(1)}…: try again, or ask who runs the network for a proxy that "
                "changes downloads"
            )
        temporary.replace(path)
    except (OSError, urllib.error.URLError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection
        raise WeightsError(
            f"the weights cannot be downloaded ({error}). Without a network: get {url} on another "
            f"computer and put it at {path}"
        ) from error
    finally:
        # where even the folder cannot be made, that error is the one to show
        with contextlib.suppress(OSError):
            temporary.unlink()
    return path


def _download(
    url: str,
    path: Path,
    cancel: CancelToken,
    on_progress: Callable[[Progress], None] | None,
) -> str:
    digest, done = hashlib.sha256(), 0
    with (
        urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer,
        path.open("wb") as file,
    ):
        total = int(answer.headers.get("Content-Length") or 0)
        while chunk := answer.read(_CHUNK):
            cancel.raise_if_cancelled()
            file.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            if on_progress is not None:
                message = f"downloading {path.name.split('.')[0]}: {done / 1e6:.0f} MB"
                on_progress(Progress(fraction=done / total if total else 0.0, message=message))
    if total and done != total:
        raise WeightsError(f"{url}: the download stopped at {done} of {total} bytes; try again")
    return digest.hexdigest()
