"""The folder of a dataset: where things lie, and how they get there whole."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

from napari_deeppixel.core.atomic import atomic_file, sync_folder
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.progress import CancelToken
from napari_deeppixel.dataset.annotated import AnnotatedImage, Split
from napari_deeppixel.dataset.annotation_file import with_revision
from napari_deeppixel.dataset.dataset_file import (
    DatasetFile,
    read_dataset_file,
    write_dataset_file,
)
from napari_deeppixel.dataset.formats.coco_write import document_bytes
from napari_deeppixel.dataset.formats.hostile import read_json
from napari_deeppixel.dataset.image_entry import (
    ImageEntry,
    ImageRecord,
    natural_key,
    record_of_document,
)
from napari_deeppixel.dataset.image_folder import safe_name
from napari_deeppixel.dataset.index import SUFFIX, Index
from napari_deeppixel.dataset.split import group_pins, split_key
from napari_deeppixel.dataset.write_lock import write_lock

FILE_NAME = "dataset.json"
# as for annotation files: a file may change again within one tick of its disk's clock
_UNSURE_S = 2.0


class DatasetConflictError(AnnotationError):
    """Somebody else saved an image meanwhile; nothing was written."""


class ImageMissingError(AnnotationError):
    """The file of an image is not where it was."""


class ImageChangedError(AnnotationError):
    """The file of an image does not hold what it held when it came in."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LastSaved:
    """An annotation file as it was written, and its planes without their instances."""

    name: str
    document: dict[str, Any]
    planes: Sequence[AnnotatedImage]


class DatasetFolder:
    """Paths, lock, index and files of a dataset; from any thread.

    Parameters
    ----------
    root
        An existing dataset, absolute.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.images, self.annotations = root / "images", root / "annotations"
        self.removed = root / "removed"
        self.index = Index(root)
        self._mutex = threading.Lock()
        self.last_saved: LastSaved | None = None
        self._file: DatasetFile | None = None
        self._file_stamp: tuple[int, int, int] = (0, 0, 0)

    # dataset.json

    @property
    def content(self) -> DatasetFile:
        """What is in ``dataset.json``, read anew when it changed.

        Raises
        ------
        AnnotationError
            If it is missing or damaged.
        """
        path = self.root / FILE_NAME
        with self._mutex:
            try:
                status = path.stat()
            except OSError as error:
                raise AnnotationError(f"{path}: {error.strerror or error}") from error
            stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
            is_unsure = time.time() - status.st_mtime < _UNSURE_S
            if self._file is None or is_unsure or stamp != self._file_stamp:
                self._file, self._file_stamp = read_dataset_file(path), stamp
            return self._file

    def write_content(self, content: DatasetFile) -> None:
        """Write ``dataset.json``; the caller has the lock."""
        write_dataset_file(self.root / FILE_NAME, content)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the right to write.

        Raises
        ------
        AnnotationError
            If somebody else holds it for too long, or the disk takes nothing.
        """
        with write_lock(self.root), self.writing():
            yield

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Tell of errors of the disk as `AnnotationError`."""
        try:
            yield
        except OSError as error:
            place = error.filename or self.root
            raise AnnotationError(
                f"{place}: cannot be written ({error.strerror or error}); nothing was changed"
            ) from error

    # places

    def checked(self, image_id: str) -> str:
        """Return the name of an image that a caller gives, if it stays in the dataset.

        Raises
        ------
        AnnotationError
            If it leads out of it.
        """
        try:
            name = safe_name(image_id).as_posix()
        except UnicodeEncodeError:
            # halves of characters
            name = ""
        if name != image_id:
            raise AnnotationError(f"no image {image_id!r} in {self.root}")
        return name

    def annotation_path(self, name: str) -> Path:
        """Return where the annotations of an image lie."""
        return self.annotations / f"{name}{SUFFIX}"

    def made_place(self, path: Path) -> Path:
        """Return a path in the dataset whose folder is there, made if need be.

        Raises
        ------
        AnnotationError
            If a folder on the way is a link: who follows it may write outside the dataset.
        """
        wanted = self.root.resolve() / path.parent.relative_to(self.root)
        if path.parent.resolve() != wanted:
            raise AnnotationError(
                f"{path.parent} is, or lies in, a link: nothing is written through links in a "
                "dataset; put a folder in its place"
            )
        missing = []
        folder = path.parent
        while not folder.exists():
            missing.append(folder)
            folder = folder.parent
        path.parent.mkdir(parents=True, exist_ok=True)
        for made in missing:
            sync_folder(made.parent)
        return path

    def new_removed(self) -> Path:
        """Return a new folder's path under ``removed/``, named by the time."""
        name = f"{datetime.now():%Y-%m-%dT%H-%M-%S}"
        place, number = self.removed / name, 1
        while place.exists():
            number += 1
            place = self.removed / f"{name}_{number}"
        return place

    def move(self, path: Path, to: Path) -> None:
        """Move a file within the dataset to a free place, for good."""
        self.made_place(path)
        self.made_place(to)
        path.rename(to)
        sync_folder(to.parent)
        sync_folder(path.parent)

    def keep_copy(self, path: Path, removed: Path) -> None:
        """Keep what is in a file of the dataset under a folder of ``removed/``."""
        place = self.made_place(removed / path.relative_to(self.root))
        with atomic_file(place) as file:
            file.write(path.read_bytes())

    # annotation files

    def record(self, image_id: str) -> ImageRecord:
        """Return what is known of an image.

        Raises
        ------
        AnnotationError
            If there is no such image.
        """
        record = self.index.known(self.checked(image_id))
        if record is None:
            raise AnnotationError(f"no image {image_id!r} in {self.root}")
        return record

    def read_document(self, image_id: str) -> dict[str, Any]:
        """Return the annotation document of an image, which is at least shaped like one.

        Raises
        ------
        AnnotationError
            If there is no such image, or the file cannot be read.
        """
        path = self.annotation_path(self.checked(image_id))
        if not path.exists():
            raise AnnotationError(f"no image {image_id!r} in {self.root}")
        if path.is_symlink():
            raise AnnotationError(f"{path}: a link: put the file itself here")
        document = read_json(path)
        try:
            record_of_document(document, image_id)
        except AnnotationError as error:
            raise AnnotationError(f"{path}: {error}") from error
        found: dict[str, Any] = document
        return found

    def write_document(self, name: str, document: dict[str, Any]) -> ImageRecord:
        """Write an annotation document, whole or not at all; the caller has the lock."""
        path = self.made_place(self.annotation_path(name))
        with atomic_file(path) as file:
            file.write(document_bytes(document))
        status = path.stat()
        record = record_of_document(document, name)
        record = replace(record, size=status.st_size, mtime_ns=status.st_mtime_ns)
        self.index.note(record)
        return record

    def write_next(self, name: str, document: dict[str, Any]) -> ImageRecord:
        """Write a changed annotation document as the next revision; the caller has the lock."""
        revision = record_of_document(document, name).revision + 1
        return self.write_document(name, with_revision(document, revision))

    # lists

    def entries(self, *, cancel: CancelToken | None = None) -> list[ImageEntry]:
        """Return the entries of all images, in natural order."""
        records = self.index.records(cancel=cancel).values()
        content = self.content
        pins = group_pins((record.group, record.split) for record in records)
        resolve = resolver_of(content)
        found = [entry_of(record, content, pins, resolve) for record in records]
        return sorted(found, key=lambda entry: natural_key(entry.file_name))

    def known_entries(self, records: Iterable[ImageRecord]) -> list[ImageEntry]:
        """Return entries of images that were just read or written, others taken as last seen.

        Only where a group may be pinned all files are looked at, once.
        """
        records, content = list(records), self.content
        pins: dict[str, set[Split]] = {}
        if any(record.group and record.split is None for record in records):
            self.index.warm_up()
            pins = group_pins((r.group, r.split) for r in self.index.seen().values())
        resolve = resolver_of(content)
        return [entry_of(record, content, pins, resolve) for record in records]

    def with_groups(self, image_ids: Iterable[str]) -> list[str]:
        """Return images and all that are in a group with one of them."""
        ids = [self.record(image_id).name for image_id in image_ids]
        records = self.index.records()
        groups = {records[name].group for name in ids if name in records} - {""}
        others = [name for name, record in records.items() if record.group in groups]
        return list(dict.fromkeys([*ids, *others]))

    # image files

    def image_place(self, record: ImageRecord) -> Path:
        """Return where the file of an image should be, looked for in both places it may have."""
        if not record.file.reference:
            return self.images / record.name
        path = Path(record.file.reference)
        near = self.root / record.file.near
        return near if record.file.near and not path.exists() and near.is_file() else path


class DatasetPart:
    """Methods of a dataset that belong together.

    Parameters
    ----------
    folder
        The dataset.
    """

    def __init__(self, folder: DatasetFolder) -> None:
        self._folder = folder

    def entry(self, image_id: str) -> ImageEntry:
        """Return one image.

        Raises
        ------
        AnnotationError
            If there is none of that name.
        """
        return self._entries_of([image_id])[0]

    def _entries_of(self, image_ids: Iterable[str]) -> list[ImageEntry]:
        names = sorted(set(image_ids), key=natural_key)
        return self._folder.known_entries(self._folder.record(name) for name in names)


Resolver: TypeAlias = Callable[[Any, str | None], int | None]


def resolver_of(content: DatasetFile) -> Resolver:
    """Return `DatasetFile.resolve` with a memory: files name the same few categories."""
    known: dict[tuple[Any, str | None], int | None] = {}

    def resolve(category_id: Any, name: str | None) -> int | None:
        key = (category_id, name)
        if key not in known:
            known[key] = content.resolve(category_id, name)
        return known[key]

    return resolve


def entry_of(
    record: ImageRecord, content: DatasetFile, pins: dict[str, set[Split]], resolve: Resolver
) -> ImageEntry:
    """Return what lists show of a record.

    Parameters
    ----------
    record
        What the annotation file says.
    content
        The dataset's split rule.
    pins
        Group → splits that its images are pinned to.
    resolve
        As `resolver_of`.
    """
    counts: dict[int, int] = {}
    for category_id, name, count in record.categories:
        now = resolve(category_id, name)
        if count and now is not None:
            counts[now] = counts.get(now, 0) + count
    file = record.file
    group_pin = pins.get(record.group) or set()
    pin = record.split or (next(iter(group_pin)) if len(group_pin) == 1 else None)
    key = split_key(record.name, group=record.group, sha256=file.sha256)
    return ImageEntry(
        image_id=record.name,
        file_name=record.name,
        image_hw=record.image_hw,
        num_planes=record.num_planes,
        state=record.state,
        num_instances=record.num_instances,
        num_unreviewed=record.num_unreviewed,
        counts=counts,
        split=pin or content.split.split_of(key),
        is_split_pinned=pin is not None,
        group=record.group,
        is_referenced=bool(file.reference),
        reference=file.reference,
        sha256=file.sha256,
        num_bytes=file.num_bytes,
        revision=record.revision,
        modified_s=record.mtime_ns / 1e9,
        problem=record.problem,
    )
