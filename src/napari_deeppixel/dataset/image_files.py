"""Image files of a dataset: whether they are there and the same, and how they get elsewhere."""

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.progress import CancelToken
from napari_deeppixel.dataset.annotation_file import with_file, with_name
from napari_deeppixel.dataset.content_hash import sha256_of
from napari_deeppixel.dataset.folder import DatasetFolder, DatasetPart
from napari_deeppixel.dataset.image_entry import ImageEntry, ImageFile, ImageRecord
from napari_deeppixel.dataset.image_file import image_hw
from napari_deeppixel.dataset.image_place import (
    copy_file,
    has_its_file,
    image_path,
    reference_to,
    verify_image,
)
from napari_deeppixel.dataset.index import walk_files
from napari_deeppixel.dataset.names import wanted_name


class ImageFileMethods(DatasetPart):
    """What a dataset does with image files."""

    def image_path(self, image_id: str) -> Path:
        """Return where the file of an image is; its size is looked at, not its content.

        Raises
        ------
        ImageMissingError
            If it is not there.
        ImageChangedError
            If it has another size than when it came in.
        """
        return image_path(self._folder, self._folder.record(image_id))

    def verify_image(self, image_id: str, *, cancel: CancelToken | None = None) -> None:
        """Read the file of an image and compare it with what came in.

        Raises
        ------
        ImageMissingError
            If it is not there.
        ImageChangedError
            If its content is another one.
        """
        verify_image(self._folder, self._folder.record(image_id), cancel)

    def accept_image(self, image_id: str) -> ImageEntry:
        """Take the file of an image as it is now for the right one.

        Raises
        ------
        ImageMissingError
            If it is not there.
        AnnotationError
            If it has another size in pixels: its masks would not fit.
        """
        _accept_image(self._folder, image_id)
        return self.entry(image_id)

    def remove(self, image_ids: Iterable[str]) -> Path:
        """Move annotations, and copied images, to a new folder under ``removed/``; return it."""
        return _remove(self._folder, list(image_ids))

    def rename(self, image_id: str, new_name: str) -> ImageEntry:
        """Give an image another name, with its annotations and its copied file.

        Raises
        ------
        AnnotationError
            If the name is taken, or leads out of the dataset.
        """
        name = wanted_name(new_name)
        _rename(self._folder, image_id, name)
        return self.entry(name)

    def relocate(
        self, folder: Path | str, *, cancel: CancelToken | None = None
    ) -> list[tuple[str, Path]]:
        """Look for missing images in a folder, by size and content; return those that were found.

        What is referenced then leads to the new place; what should be in the dataset is copied
        into it.
        """
        return _relocate(self._folder, Path(folder), cancel)


def _accept_image(folder: DatasetFolder, image_id: str) -> None:
    """Take the file of an image as it is."""
    record = folder.record(image_id)
    path = folder.image_place(record)
    if not path.is_file():
        image_path(folder, record)
    size_hw = image_hw(path)
    if size_hw != record.image_hw:
        raise AnnotationError(
            f"{image_id}: {path} has {size_hw} pixels (height, width), its annotations "
            f"{record.image_hw}: add it as a new image"
        )
    file = replace(record.file, sha256=sha256_of(path), num_bytes=path.stat().st_size)
    _say_file(folder, image_id, file)


def _say_file(folder: DatasetFolder, name: str, file: ImageFile) -> None:
    with folder.locked():
        folder.write_next(name, with_file(folder.read_document(name), file))


def _remove(folder: DatasetFolder, image_ids: Iterable[str]) -> Path:
    """Move images out of a dataset."""
    with folder.locked():
        place = folder.new_removed()
        for record in [folder.record(image_id) for image_id in image_ids]:
            path = folder.annotation_path(record.name)
            image = folder.images / record.name
            # the annotations first: alone, the image is one that can be listed again
            folder.move(path, place / path.relative_to(folder.root))
            folder.index.note_gone(record.name)
            if not record.file.reference and os.path.lexists(image):
                folder.move(image, place / image.relative_to(folder.root))
    return place


def _rename(folder: DatasetFolder, image_id: str, new_name: str) -> None:
    """Rename an image.

    The old names go last: a process that dies on the way leaves the image twice, not at all.
    """
    folder.index.warm_up()
    with folder.locked():
        record = folder.record(image_id)
        if new_name == record.name:
            return
        document = folder.read_document(record.name)
        old_image, new_image = folder.images / record.name, folder.images / new_name
        old_path, new_path = (folder.annotation_path(n) for n in (record.name, new_name))
        folder.index.latest()
        twins = set(folder.index.twins(new_name)) - {record.name}
        is_taken = os.path.lexists(new_image) or os.path.lexists(new_path)
        if twins or (is_taken and not _are_one(old_path, new_path)):
            raise AnnotationError(f"there is an image {new_name!r} already")
        is_copied = not record.file.reference and old_image.is_file()
        if _are_one(old_path, new_path):
            # other letters on a disk that takes them for the same
            old_image.rename(new_image)
            old_path.rename(new_path)
            folder.index.note_gone(record.name)
            folder.write_next(new_name, with_name(document, new_name))
            return
        if is_copied:
            _doubled(old_image, folder.made_place(new_image))
        folder.write_next(new_name, with_name(document, new_name))
        folder.made_place(old_path).unlink()
        folder.index.note_gone(record.name)
        if is_copied:
            folder.made_place(old_image).unlink()


def _are_one(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:
        return False


def _doubled(path: Path, other: Path) -> None:
    try:
        os.link(path, other)
    except OSError:
        # disks without hard links
        copy_file(path, other)


def _relocate(
    folder: DatasetFolder, place: Path, cancel: CancelToken | None
) -> list[tuple[str, Path]]:
    """Find missing images in a folder."""
    missing: dict[int, list[ImageRecord]] = {}
    for record in folder.index.records(cancel=cancel).values():
        is_known = record.file.sha256 and record.file.num_bytes
        if is_known and not has_its_file(folder, record):
            missing.setdefault(record.file.num_bytes, []).append(record)
    found: dict[str, Path] = {}
    for name, entry in walk_files(place):
        if cancel is not None:
            cancel.raise_if_cancelled()
        wanted = [r for r in missing.get(_size(entry), ()) if r.name not in found]
        if not wanted or not entry.is_file(follow_symlinks=False):
            continue
        path = place / name
        digest = sha256_of(path, cancel)
        for record in wanted:
            if record.file.sha256 == digest:
                found[record.name] = _taken_over(folder, record, path.resolve())
    return sorted(found.items())


def _size(entry: "os.DirEntry[str]") -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except OSError:
        return -1


def _taken_over(folder: DatasetFolder, record: ImageRecord, path: Path) -> Path:
    if record.file.reference:
        reference, near = reference_to(folder, path)
        _say_file(folder, record.name, replace(record.file, reference=reference, near=near))
        return path
    with folder.locked():
        image = folder.made_place(folder.images / record.name)
        if os.path.lexists(image):
            # one with another content is kept, too
            folder.move(image, folder.new_removed() / image.relative_to(folder.root))
        copy_file(path, image)
    return image
