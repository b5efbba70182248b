"""Repairs of a dataset that lose nothing: what is taken out is kept under ``removed/``."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.dataset.annotated import AnnotatedImage
from napari_deeppixel.dataset.annotation_file import document_of, with_file
from napari_deeppixel.dataset.check import (
    is_content_of,
    left_overs,
    record_with_content,
    unlisted_images,
)
from napari_deeppixel.dataset.check_document import MENDABLE, mended
from napari_deeppixel.dataset.content_hash import sha256_of
from napari_deeppixel.dataset.fault import Fault, FaultKind
from napari_deeppixel.dataset.folder import DatasetFolder
from napari_deeppixel.dataset.image_entry import ImageFile, record_of_document
from napari_deeppixel.dataset.image_file import image_hw


def repair_dataset(folder: DatasetFolder, faults: Sequence[Fault]) -> list[str]:
    """Repair faults that can be safely; see `Dataset.repair`.

    Each is looked for anew under the lock: what somebody did since the check counts.
    """
    chosen = [fault for fault in faults if fault.repair]
    removed = folder.new_removed()
    repairs: dict[FaultKind, Callable[[DatasetFolder, str, Path], list[str]]] = {
        FaultKind.MISSING_IMAGE: _bring_back,
        FaultKind.ORPHAN_IMAGE: _list_orphan,
        FaultKind.NO_HASH: _note_content,
        FaultKind.LEFT_OVER: _take_away,
        FaultKind.STALE_INDEX: _rebuild_index,
    }
    done = []
    kinds_of: dict[str, set[FaultKind]] = {}
    for fault in chosen:
        if fault.kind in MENDABLE:
            kinds_of.setdefault(fault.image_id, set()).add(fault.kind)
    for name, kinds in kinds_of.items():
        done += _mend(folder, name, kinds, removed)
    for kind, repair in repairs.items():
        for name in dict.fromkeys(fault.image_id for fault in chosen if fault.kind is kind):
            with folder.locked():
                done += repair(folder, name, removed)
    return done


def _mend(folder: DatasetFolder, name: str, kinds: Iterable[FaultKind], removed: Path) -> list[str]:
    with folder.locked():
        document = folder.read_document(name)
        before = folder.content
        changed, content, done = mended(document, before, frozenset(kinds))
        if not done:
            return []
        folder.keep_copy(folder.annotation_path(name), removed)
        if len(content.categories) > len(before.categories):
            folder.write_content(content)
        folder.write_next(name, changed)
    return [f"{name}: {line}" for line in done]


def _bring_back(folder: DatasetFolder, name: str, removed: Path) -> list[str]:
    del removed
    record = folder.record(name)
    place = folder.images / name
    if place.exists():
        return []
    for other in unlisted_images(folder, folder.index.latest()):
        if is_content_of(folder.images / other, record):
            folder.move(folder.images / other, place)
            return [f"{name}: its image was images/{other}; moved back"]
    return []


def _list_orphan(folder: DatasetFolder, name: str, removed: Path) -> list[str]:
    name = folder.checked(name)
    path = folder.images / name
    records = folder.index.latest()
    if not path.is_file() or path.is_symlink() or name in records:
        return []
    # only of images that are themselves there: else this file is all there is
    same = record_with_content(
        path, (r for r in records.values() if folder.image_place(r).is_file())
    )
    if same is not None:
        folder.move(path, removed / path.relative_to(folder.root))
        return [f"{name}: the same image as {same.name}; moved to removed/"]
    size_hw = image_hw(path)
    nobody = InstanceSet.empty(size_hw, folder.content.categories)
    file = ImageFile(sha256=sha256_of(path), num_bytes=path.stat().st_size)
    document = document_of(
        [AnnotatedImage.of(name, nobody)], folder.content, name=name, file=file, revision=1
    )
    folder.write_document(name, document)
    return [f"{name}: listed, with no annotations"]


def _note_content(folder: DatasetFolder, name: str, removed: Path) -> list[str]:
    del removed
    document = folder.read_document(name)
    record = record_of_document(document, name)
    path = folder.image_place(record)
    if record.file.sha256 or not path.is_file():
        return []
    file = replace(record.file, sha256=sha256_of(path), num_bytes=path.stat().st_size)
    folder.write_next(name, with_file(document, file))
    return [f"{name}: content of its image noted"]


def _take_away(folder: DatasetFolder, name: str, removed: Path) -> list[str]:
    if name not in left_overs(folder.root):
        return []
    # without the dot it can be seen
    place = (removed / name).with_name(Path(name).name.lstrip("."))
    folder.move(folder.root / name, place)
    return [f"{name}: moved to removed/"]


def _rebuild_index(folder: DatasetFolder, name: str, removed: Path) -> list[str]:
    del name, removed
    folder.index.rebuild()
    return ["index written anew"]
