"""COCO as an exchange format: a JSON file, or a folder with one and its images."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from napari_deeppixel.core.atomic import atomic_file
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.dataset.annotated import AnnotatedImage, Split
from napari_deeppixel.dataset.formats.base import Format, Holds, ReadSource, WriteTarget
from napari_deeppixel.dataset.formats.coco_read import planes_of_document
from napari_deeppixel.dataset.formats.coco_write import coco_document
from napari_deeppixel.dataset.formats.hostile import MAX_TEXT_BYTES, read_json
from napari_deeppixel.dataset.formats.image_pairs import copy_image, place_in
from napari_deeppixel.dataset.image_folder import ImageFolder

_FILE = "instances.json"
# what is read to guess: keys of COCO come early, or the file is read as a whole
_PEEK_BYTES = 1 << 16
_SPLIT_FOLDERS = {split.value: split for split in Split} | {"valid": Split.VAL}


def _looks_like(path: Path) -> bool:
    if path.is_dir():
        return any(_looks_like(found) for found in _json_files(path))
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            start = file.read(_PEEK_BYTES)
        if not start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
            return False
        if any(b'"' + key + b'"' in start for key in (b"annotations", b"images", b"categories")):
            document = read_json(path, limit=MAX_TEXT_BYTES)
            return {"images", "annotations", "categories"} <= set(document)
    except (OSError, AnnotationError):
        return False
    return False


def _json_files(folder: Path) -> list[Path]:
    """Return the COCO files of a folder: its own, or one for each split."""
    own = folder / _FILE
    if own.is_file():
        return [own]
    of_splits = [folder / name / _FILE for name in _SPLIT_FOLDERS]
    # Roboflow and CVAT call them so
    others = [*of_splits, *(folder / name / "_annotations.coco.json" for name in _SPLIT_FOLDERS)]
    found = [path for path in others if path.is_file()]
    return found or sorted((folder / "annotations").glob("instances_*.json"))


def _read(source: ReadSource) -> Iterator[AnnotatedImage]:
    if not source.path.is_dir():
        yield from _read_file(source, source.path, source.images, None)
        return
    paths = _json_files(source.path)
    if not paths:
        raise AnnotationError(f"{source.path}: there is no {_FILE} in this folder")
    for path in paths:
        split = None if path.parent == source.path else _split_of(path)
        beside = ImageFolder(path.parent)
        yield from _read_file(source, path, source.images, split, beside)


def _split_of(path: Path) -> Split | None:
    words = (path.parent.name, path.stem.removeprefix("instances_").rstrip("0123456789"))
    return next((_SPLIT_FOLDERS[word] for word in words if word in _SPLIT_FOLDERS), None)


def _read_file(
    source: ReadSource,
    path: Path,
    images: ImageFolder,
    split: Split | None,
    beside: ImageFolder | None = None,
) -> Iterator[AnnotatedImage]:
    document = read_json(path, limit=MAX_TEXT_BYTES)
    for image in planes_of_document(document, path, source.on_problem):
        found = _find(source, image.file_name, path, (beside, images))
        if found is None:
            source.complain(
                f"there is no such image in {images.root}; its annotations come in without it",
                entry=f"image {image.file_name}",
                path=path,
            )
        yield replace(image, path=found, split=image.split or split)


def _find(
    source: ReadSource, file_name: str, path: Path, folders: tuple[ImageFolder | None, ...]
) -> Path | None:
    for folder in folders:
        try:
            found = None if folder is None else folder.find(file_name)
        except AnnotationError as error:
            source.complain(str(error), entry=f"image {file_name}", path=path)
            return None
        if found is not None:
            return found
    return None


def _write(images: Iterable[AnnotatedImage], target: WriteTarget) -> Iterator[AnnotatedImage]:
    is_file = target.path.suffix.lower() == ".json"
    path = target.path if is_file else target.path / _FILE
    folder = target.images_dir
    if folder is None and not is_file and target.copies_images:
        folder = place_in(target.path, "images/x").parent
    written: list[AnnotatedImage] = []
    for image in images:
        if folder is not None:
            copy_image(image, folder)
        written.append(image)
        yield image
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(coco_document(written, target.categories), allow_nan=False)
    with atomic_file(path) as file:
        file.write(text.encode())


COCO = Format(
    name="coco",
    title="COCO JSON",
    note="Run lengths, which keep every pixel; polygons are read as COCO's own tools draw them.",
    suffixes=(".json",),
    looks_like=_looks_like,
    read=_read,
    write=_write,
    holds=frozenset(Holds),
)
