"""Where the file of an image lies, and whether it is the one that came in."""

import os
import shutil
from pathlib import Path

from napari_deeppixel.core.atomic import atomic_file
from napari_deeppixel.core.progress import CancelToken
from napari_deeppixel.dataset.content_hash import sha256_of
from napari_deeppixel.dataset.folder import (
    DatasetFolder,
    ImageChangedError,
    ImageMissingError,
)
from napari_deeppixel.dataset.image_entry import ImageRecord


def image_path(folder: DatasetFolder, record: ImageRecord) -> Path:
    """Return where the file of an image is; see `ImageFileMethods.image_path`."""
    path = folder.image_place(record)
    if not path.is_file():
        what = "is not there any more" if record.file.reference else "is missing from the dataset"
        raise ImageMissingError(
            f"{record.name}: its file {path} {what}; put it back, or find it with relocate(FOLDER)"
        )
    size = path.stat().st_size
    if record.file.num_bytes and size != record.file.num_bytes:
        raise ImageChangedError(
            f"{record.name}: its file {path} has {size:,} bytes, it had {record.file.num_bytes:,} "
            "when it came in: put the old one back, or accept the new one"
        )
    return path


def verify_image(folder: DatasetFolder, record: ImageRecord, cancel: CancelToken | None) -> None:
    """Compare the file of an image with what came in."""
    path = image_path(folder, record)
    if record.file.sha256 and sha256_of(path, cancel) != record.file.sha256:
        raise ImageChangedError(
            f"{record.name}: the content of {path} is not what came in: put the old file back, or "
            "accept the new one"
        )


def has_its_file(folder: DatasetFolder, record: ImageRecord) -> bool:
    """Whether the file of an image is there with the size that it had."""
    try:
        image_path(folder, record)
    except (ImageMissingError, ImageChangedError):
        return False
    return True


def reference_to(folder: DatasetFolder, path: Path) -> tuple[str, str]:
    """Return the two ways that lead to a file outside: from the root, and from the dataset."""
    try:
        near = Path(os.path.relpath(path, folder.root)).as_posix()
    except ValueError:
        # another drive
        near = ""
    return str(path), near


def copy_file(path: Path, to: Path) -> None:
    """Copy a file, whole or not at all."""
    with path.open("rb") as source, atomic_file(to) as file:
        shutil.copyfileobj(source, file)
