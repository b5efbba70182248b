"""Images that come into a dataset: each once, under a name that every system can store."""

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import uuid4

from numpy.typing import NDArray

from napari_deeppixel.core.atomic import atomic_file, sync_folder
from napari_deeppixel.core.errors import AnnotationError, ImageError
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState, Split
from napari_deeppixel.dataset.annotation_file import document_of, with_kept
from napari_deeppixel.dataset.content_hash import chunks_of, sha256_of
from napari_deeppixel.dataset.folder import (
    DatasetFolder,
    ImageChangedError,
)
from napari_deeppixel.dataset.image_entry import ImageFile, ImageRecord
from napari_deeppixel.dataset.image_file import image_hw
from napari_deeppixel.dataset.image_place import reference_to
from napari_deeppixel.dataset.names import shortened
from napari_deeppixel.dataset.pixels_file import encode_pixels, storable
from napari_deeppixel.dataset.saving import in_dataset_categories, stored_planes


@dataclass(frozen=True, kw_only=True, eq=False)
class Content:
    """What is in an image file that is to come in.

    Attributes
    ----------
    sha256, num_bytes
        Of the file.
    image_hw
        Size of its planes.
    path
        The file; None: it is `data`.
    data
        Its bytes, for one that is made here.
    """

    sha256: str
    num_bytes: int
    image_hw: tuple[int, int]
    path: Path | None = None
    data: bytes = b""

    @classmethod
    def of_file(cls, path: Path) -> "Content":
        """Return the content of a file.

        Raises
        ------
        ImageError
            If it is missing, or no image.
        """
        size_hw = image_hw(path)
        try:
            return cls(
                sha256=sha256_of(path),
                num_bytes=path.stat().st_size,
                image_hw=size_hw,
                path=path,
            )
        except OSError as error:
            raise ImageError(f"{path}: cannot be read ({error.strerror or error})") from error

    @classmethod
    def of_pixels(cls, pixels: NDArray[Any]) -> "Content":
        """Return the content of a file with pixels (H, W) or (H, W, C), without loss."""
        data = encode_pixels(storable(pixels))
        return cls(
            sha256=hashlib.sha256(data).hexdigest(),
            num_bytes=len(data),
            image_hw=(pixels.shape[0], pixels.shape[1]),
            data=data,
        )

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes of the file."""
        return iter([self.data]) if self.path is None else chunks_of(self.path)


@dataclass(frozen=True, kw_only=True, eq=False)
class Wish:
    """How an image shall come in.

    Attributes
    ----------
    name
        Relative to ``images/``; another one if it is taken.
    original_name
        What it was called, if that cannot be its name; else empty.
    is_referenced
        Whether the file stays where it is.
    planes
        What is known about it.
    state, split, group
        For all planes; None and empty: what the planes say.
    """

    name: str
    original_name: str = ""
    is_referenced: bool = False
    planes: Sequence[AnnotatedImage] = ()
    state: ImageState | None = None
    split: Split | None = None
    group: str = ""


class Arrival(StrEnum):
    """What became of an image that was to come in, by its content."""

    NEW = "new"
    # it was there, and had no annotation yet
    JOINED = "joined"
    KNOWN = "known"


def add(folder: DatasetFolder, content: Content, wish: Wish) -> tuple[ImageRecord, Arrival]:
    """Bring an image into a dataset; return its record and what became of it.

    Raises
    ------
    AnnotationError
        If planes do not have its size, or the dataset cannot be written to.
    ImageChangedError
        If the file changes while it is copied.
    """
    for plane in wish.planes:
        if plane.image_hw != content.image_hw:
            raise AnnotationError(
                f"{wish.name}: the image has {content.image_hw} pixels (height, width), its "
                f"annotations {plane.image_hw}: these are of another image"
            )
    # before the lock: others would wait while a large dataset is read for the first time
    folder.index.warm_up()
    with folder.locked():
        known = _with_same_content(folder, content, wish)
    if known is not None:
        return known
    # outside the lock: others need not wait while a large image is copied
    with folder.writing(), _copied(folder, content, wish) as copy, folder.locked():
        known = _with_same_content(folder, content, wish)
        if known is not None:
            return known
        return _added(folder, content, wish, copy), Arrival.NEW


def _with_same_content(
    folder: DatasetFolder, content: Content, wish: Wish
) -> tuple[ImageRecord, Arrival] | None:
    records = folder.index.latest()
    for name in folder.index.with_sha256(content.sha256):
        record = records[name]
        _put_back(folder, record, content)
        if record.categories or not wish.planes:
            return record, Arrival.KNOWN
        return _joined(folder, record, wish), Arrival.JOINED
    return None


def _put_back(folder: DatasetFolder, record: ImageRecord, content: Content) -> None:
    """Copy an image again whose file went missing."""
    place = folder.images / record.name
    if not record.file.reference and not os.path.lexists(place):
        with atomic_file(folder.made_place(place)) as file:
            file.writelines(content.chunks())


def _joined(folder: DatasetFolder, record: ImageRecord, wish: Wish) -> ImageRecord:
    stored, _ = stored_planes(folder, record.name, folder.read_document(record.name))
    if record.split is not None:
        # else what comes from elsewhere would move a test image to what is trained on
        wish = replace(wish, split=record.split)
    planes = with_kept(_planes(wish, record.name), stored)
    planes, content = in_dataset_categories(folder, planes)
    document = document_of(
        planes, content, name=record.name, file=record.file, revision=record.revision + 1
    )
    return folder.write_document(record.name, document)


def _planes(wish: Wish, name: str) -> list[AnnotatedImage]:
    changes: dict[str, Any] = {"file_name": name}
    changes |= {} if wish.state is None else {"state": wish.state}
    changes |= {} if wish.split is None else {"split": wish.split}
    changes |= {"group": wish.group} if wish.group else {}
    return [replace(plane, **changes) for plane in wish.planes]


def _added(folder: DatasetFolder, content: Content, wish: Wish, copy: Path | None) -> ImageRecord:
    name = _free_name(folder, wish.name, content)
    original = wish.original_name or (wish.name if name != wish.name else "")
    reference, near = _reference(folder, content) if wish.is_referenced else ("", "")
    file = ImageFile(
        sha256=content.sha256,
        num_bytes=content.num_bytes,
        original_name=original,
        reference=reference,
        near=near,
    )
    if copy is not None:
        place = folder.made_place(folder.images / name)
        if not place.exists():
            copy.rename(place)
            sync_folder(place.parent)
    if not wish.planes:
        nobody = InstanceSet.empty(content.image_hw, folder.content.categories)
        wish = replace(wish, planes=[AnnotatedImage.of(name, nobody)])
    # split and group are the file's, whichever plane says so
    planes, dataset = in_dataset_categories(folder, with_kept(_planes(wish, name), ()))
    document = document_of(planes, dataset, name=name, file=file, revision=1)
    return folder.write_document(name, document)


def _reference(folder: DatasetFolder, content: Content) -> tuple[str, str]:
    if content.path is None:
        raise ValueError("pixels have no file to refer to")
    return reference_to(folder, content.path.resolve())


@contextlib.contextmanager
def _copied(folder: DatasetFolder, content: Content, wish: Wish) -> Iterator[Path | None]:
    """Yield a copy of an image on the dataset's disk, which goes if nobody renames it."""
    if wish.is_referenced:
        yield None
        return
    temporary = _temporary_beside(folder.made_place(folder.images / "image"))
    digest = hashlib.sha256()
    try:
        with temporary.open("xb") as file:
            for chunk in content.chunks():
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        if digest.hexdigest() != content.sha256:
            raise ImageChangedError(f"{content.path}: changed while it was copied; add it again")
        yield temporary
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _free_name(folder: DatasetFolder, name: str, content: Content) -> str:
    wanted, number = name, 1
    while not _is_free(folder, name, content):
        number += 1
        name = shortened(wanted, f"_{number}")
    return name


def _is_free(folder: DatasetFolder, name: str, content: Content) -> bool:
    if folder.index.twins(name) or os.path.lexists(folder.annotation_path(name)):
        return False
    place = folder.images / name
    if not os.path.lexists(place):
        return True
    # its copy came in, and the process died before it was listed
    return (
        place.is_file()
        and not place.is_symlink()
        and place.stat().st_size == content.num_bytes
        and sha256_of(place) == content.sha256
    )


def _temporary_beside(path: Path) -> Path:
    """Return a name for a file that is being written; `check` knows the pattern.

    The end of it is ours alone: two threads may write files of one name.
    """
    return path.with_name(f".{uuid4().hex[:12]}.{os.getpid()}.part")
