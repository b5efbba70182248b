"""Everything that can be wrong with a dataset, found and told; nothing is changed."""

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil

from napari_deeppixel.core.errors import AnnotationError, ImageError
from napari_deeppixel.core.progress import CancelToken, Progress
from napari_deeppixel.dataset.check_document import faults_of_document
from napari_deeppixel.dataset.content_hash import sha256_of
from napari_deeppixel.dataset.fault import Fault, FaultKind
from napari_deeppixel.dataset.folder import DatasetFolder
from napari_deeppixel.dataset.formats.hostile import read_json
from napari_deeppixel.dataset.image_entry import ImageRecord, record_of_document
from napari_deeppixel.dataset.image_file import image_hw
from napari_deeppixel.dataset.image_folder import is_inside, safe_name
from napari_deeppixel.dataset.index import SUFFIX, is_left_over, name_key, walk_files
from napari_deeppixel.dataset.split import group_pins

_OLD_S = 3600.0
# what systems put into folders that somebody looked at
_OF_SYSTEMS = ("thumbs.db", "desktop.ini")


def check_dataset(folder: DatasetFolder, cancel: CancelToken | None) -> Iterator[Progress | Fault]:
    """Yield each fault of a dataset; see `Dataset.check`."""
    check = _Check(folder, cancel)
    names = sorted(
        name.removesuffix(SUFFIX)
        for name, _ in walk_files(folder.annotations)
        if name.endswith(SUFFIX) and not is_left_over(name)
    )
    for done, name in enumerate(names):
        if cancel is not None:
            cancel.raise_if_cancelled()
        yield Progress(fraction=done / (len(names) + 1), message=name)
        yield from check.faults_of_image(name)
    yield Progress(fraction=len(names) / (len(names) + 1), message="files without annotations")
    yield from check.faults_of_files()
    yield from check.faults_between_images()
    yield from check.faults_of_index()
    yield Progress(fraction=1.0, message="done")


class _Check:
    def __init__(self, folder: DatasetFolder, cancel: CancelToken | None) -> None:
        self._folder, self._cancel = folder, cancel
        self._content = folder.content
        self._records: dict[str, ImageRecord] = {}
        self._missing: list[ImageRecord] = []

    # one image

    def faults_of_image(self, name: str) -> Iterator[Fault]:
        """Yield what is wrong with an annotation file and the image that it is of."""
        path = self._folder.annotation_path(name)
        try:
            if path.is_symlink():
                raise AnnotationError("a link: put the file itself here")
            safe_name(name)
            status = path.stat()
            document = read_json(path)
            record = record_of_document(document, name)
        except (AnnotationError, OSError) as error:
            message = str(error).removeprefix(f"{path}: ")
            yield Fault(
                kind=FaultKind.UNREADABLE,
                image_id=name,
                message=f"{message}; take annotations/{name}{SUFFIX} from a backup, or remove it",
            )
            self._records[name] = ImageRecord(name=name, problem=message)
            return
        record = replace(record, size=status.st_size, mtime_ns=status.st_mtime_ns)
        self._records[name] = record
        yield from faults_of_document(document, self._content, name=name, path=path)
        yield from self._faults_of_image_file(record)

    def _faults_of_image_file(self, record: ImageRecord) -> Iterator[Fault]:
        path = self._folder.image_place(record)
        if not path.is_file():
            self._missing.append(record)
            return
        if not record.file.reference and not is_inside(path, self._folder.root):
            yield Fault(
                kind=FaultKind.LINK,
                image_id=record.name,
                message=f"{path} is a link that leads out of the dataset; copy the file here",
            )
        try:
            yield from self._faults_of_content(record, path)
        except (ImageError, OSError) as error:
            yield Fault(kind=FaultKind.BAD_IMAGE, image_id=record.name, message=str(error))

    def _faults_of_content(self, record: ImageRecord, path: Path) -> Iterator[Fault]:
        file = record.file
        if not file.sha256:
            yield Fault(
                kind=FaultKind.NO_HASH,
                image_id=record.name,
                message="a change of the image would go unseen",
                repair="note its content as it is now",
            )
        elif path.stat().st_size != file.num_bytes or self._hash(path) != file.sha256:
            yield Fault(
                kind=FaultKind.CHANGED_IMAGE,
                image_id=record.name,
                message=f"{path} is not what came in: put the old file back, or accept the new one",
            )
        size_hw = image_hw(path)
        if size_hw != record.image_hw:
            yield Fault(
                kind=FaultKind.IMAGE_SIZE,
                image_id=record.name,
                message=f"the image has {size_hw[0]} x {size_hw[1]} pixels (height x width), its "
                f"annotations {record.image_hw[0]} x {record.image_hw[1]}",
            )

    def _hash(self, path: Path) -> str:
        return sha256_of(path, self._cancel)

    # files

    def faults_of_files(self) -> Iterator[Fault]:
        """Yield what is wrong with files that no annotation file is of."""
        yield from self._left_overs()
        orphans = list(unlisted_images(self._folder, self._records))
        moved: dict[str, str] = {}
        for record in self._missing:
            found = next((o for o in orphans if o not in moved and self._is_of(o, record)), "")
            if found:
                moved[found] = record.name
            yield _missing_fault(record, self._folder.image_place(record), found)
        for name in orphans:
            if name not in moved:
                yield self._orphan_fault(name)

    def _is_of(self, name: str, record: ImageRecord) -> bool:
        return is_content_of(self._folder.images / name, record, self._cancel)

    def _left_overs(self) -> Iterator[Fault]:
        for name in left_overs(self._folder.root):
            yield Fault(
                kind=FaultKind.LEFT_OVER,
                image_id=name,
                message="a file that was being written",
                repair="move it to removed/",
            )

    def _orphan_fault(self, name: str) -> Fault:
        path = self._folder.images / name
        if path.is_symlink():
            return Fault(
                kind=FaultKind.LINK,
                image_id=name,
                message=f"{path} is a link; copy the file itself here",
            )
        same = record_with_content(path, self._records.values(), self._cancel)
        if same is not None:
            message = f"it is in the dataset already, as {same.name}"
            repair = "move it to removed/"
        else:
            message, repair = _why_listed(path, name)
        return Fault(kind=FaultKind.ORPHAN_IMAGE, image_id=name, message=message, repair=repair)

    # all images

    def faults_between_images(self) -> Iterator[Fault]:
        """Yield what is wrong with images next to others."""
        records = list(self._records.values())
        for same in _grouped((r.file.sha256, r.name) for r in records if r.file.sha256):
            yield Fault(
                kind=FaultKind.DUPLICATE_IMAGE,
                image_id=same[0],
                message=f"the same image as {', '.join(same[1:])}: remove all but one",
            )
        for twins in _grouped((name_key(r.name), r.name) for r in records):
            yield Fault(
                kind=FaultKind.CASE_TWIN,
                image_id=twins[0],
                message=f"like {', '.join(twins[1:])} but for the case of letters: rename it "
                "before the dataset goes to another system",
            )
        for group, splits in sorted(group_pins((r.group, r.split) for r in records).items()):
            if len(splits) > 1:
                yield Fault(
                    kind=FaultKind.GROUP_SPLIT,
                    entry=f"group {group!r}",
                    message=f"pinned to {', '.join(sorted(splits))}: what is trained on would be "
                    "what is tested with; pin it to one",
                )

    def faults_of_index(self) -> Iterator[Fault]:
        """Yield where the index says something else than files that did not change since."""
        lines, num_torn = self._folder.index.lines()
        wrong = []
        for name, line in lines.items():
            record = self._records.get(name)
            if record is None or record.problem:
                continue
            if (line.size, line.mtime_ns) == (record.size, record.mtime_ns) and line != record:
                wrong.append(name)
        if wrong or num_torn:
            what = [f"{num_torn} torn lines"] if num_torn else []
            what += [f"wrong about {', '.join(sorted(wrong)[:3])}"] if wrong else []
            yield Fault(
                kind=FaultKind.STALE_INDEX,
                message="; ".join(what),
                repair="read all annotation files anew",
            )


def _missing_fault(record: ImageRecord, place: Path, found: str) -> Fault:
    if record.file.reference:
        return Fault(
            kind=FaultKind.MOVED_IMAGE,
            image_id=record.name,
            message=f"{place} is not there: put it back, or find it with relocate(FOLDER)",
        )
    if found:
        return Fault(
            kind=FaultKind.MISSING_IMAGE,
            image_id=record.name,
            message=f"its image is images/{found}",
            repair="move it back to its name",
        )
    return Fault(
        kind=FaultKind.MISSING_IMAGE,
        image_id=record.name,
        message=f"{place} is not there: put it back, or find it with relocate(FOLDER)",
    )


def _why_listed(path: Path, name: str) -> tuple[str, str]:
    try:
        safe_name(name)
        if not path.is_file():
            # to open a pipe is to wait for whoever writes to it
            return "no file, but a pipe or a device; take it out of images/", ""
        image_hw(path)
    except AnnotationError as error:
        return str(error), ""
    except (ImageError, OSError) as error:
        return f"{error}; take it out of images/", ""
    return "it is not listed", "list it, with no annotations"


def unlisted_images(folder: DatasetFolder, listed: Iterable[str]) -> Iterator[str]:
    """Yield files in ``images/`` that are of none of the images listed."""
    names = set(listed)
    for name, _ in sorted(walk_files(folder.images)):
        last = name.rpartition("/")[2]
        if name not in names and not last.startswith(".") and last.lower() not in _OF_SYSTEMS:
            yield name


def is_content_of(path: Path, record: ImageRecord, cancel: CancelToken | None = None) -> bool:
    """Whether a file is the one that came in as an image; hashed only if the size fits."""
    file = record.file
    try:
        return bool(
            file.sha256
            and path.is_file()
            and path.stat().st_size == file.num_bytes
            and sha256_of(path, cancel) == file.sha256
        )
    except OSError:
        return False


def record_with_content(
    path: Path, records: Iterable[ImageRecord], cancel: CancelToken | None = None
) -> ImageRecord | None:
    """Return the record of the image that a file is a copy of; None if there is none."""
    try:
        size = path.stat().st_size
    except OSError:
        return None
    fitting = [r for r in records if r.file.sha256 and r.file.num_bytes == size]
    digest = sha256_of(path, cancel) if fitting else ""
    return next((record for record in fitting if record.file.sha256 == digest), None)


def left_overs(root: Path) -> list[str]:
    """Return files that processes which died left, relative to a dataset."""
    found = []
    with os.scandir(root) as scan:
        beside = [(entry.name, entry) for entry in scan]
    for folder in ("annotations", "images"):
        beside += [(f"{folder}/{name}", entry) for name, entry in walk_files(root / folder)]
    for name, entry in beside:
        if is_left_over(name) and _is_abandoned(entry):
            found.append(name)
    return sorted(found)


def _is_abandoned(entry: "os.DirEntry[str]") -> bool:
    # `.NAME.PROCESS.part`; the process may be one of another computer
    process = entry.name.split(".")[-2].partition("-")[0]
    try:
        is_old = time.time() - entry.stat(follow_symlinks=False).st_mtime > _OLD_S
    except OSError:
        return False
    return is_old or not process.isdecimal() or not psutil.pid_exists(int(process))


def _grouped(pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
    groups: dict[str, list[str]] = {}
    for key, name in pairs:
        groups.setdefault(key, []).append(name)
    return sorted(sorted(names) for names in groups.values() if len(names) > 1)
