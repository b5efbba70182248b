"""COCO as an exchange format: a JSON file, or a folder with one and its images."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from napari_deeppixel.core.atomic import atomic_file
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.dataset.annotated import AnnotatedImage, Split
from napari_deeppixel.dataset.formats.base import Format, Holds, ReadSource, WriteTarget
from napari_deeppixel.dataset.formats.coco_read import planes_of_document
from napari_deeppixel.dataset.formats.coco_write import coco_document, document_bytes
from napari_deeppixel.dataset.formats.hostile import MAX_TEXT_BYTES, read_json
from napari_deeppixel.dataset.formats.image_pairs import copy_image, place_in
from napari_deeppixel.dataset.image_folder import ImageFolder, inner_name, is_inside

_FILE = "instances.json"
# what is read to guess: keys of COCO come early, or the file is read as a whole
_PEEK_BYTES = 1 << 16
_SPLIT_FOLDERS = {split.value: split for split in Split} | {"valid": Split.VAL}
# folders with label images called as the images are
_PANOPTIC = "panoptic_"


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
        yield from _read_file(source, path, source.images, split, *_folders_beside(source, path))


def _folders_beside(source: ReadSource, path: Path) -> Iterator[ImageFolder]:
    """Yield the folders where the images of one COCO file of a folder are, the likeliest first."""
    if path.parent == source.path / "annotations":
        name = path.stem.removeprefix("instances_")
        for folder in (source.images.root / "images" / name, source.images.root / name):
            if folder.is_dir() and is_inside(folder, source.images.root):
                yield ImageFolder(folder)
    yield ImageFolder(path.parent)


def _split_of(path: Path) -> Split | None:
    words = (path.parent.name, path.stem.removeprefix("instances_").rstrip("0123456789"))
    return next((_SPLIT_FOLDERS[word] for word in words if word in _SPLIT_FOLDERS), None)


def _read_file(
    source: ReadSource,
    path: Path,
    images: ImageFolder,
    split: Split | None,
    *beside: ImageFolder,
) -> Iterator[AnnotatedImage]:
    odd: list[str] = []
    document = read_json(path, limit=MAX_TEXT_BYTES, on_odd=odd.append)
    if odd:
        source.complain(
            f"{len(odd):,} values are {', '.join(sorted(set(odd)))}, which are no JSON: left out",
            path=path,
        )
    num_instances = num_crowds = 0
    for image in planes_of_document(document, path, source.on_problem):
        num_instances += len(image.instances)
        num_crowds += len(image.crowds)
        entry = f"image {image.file_name}"
        try:
            name = inner_name(image.file_name).as_posix()
        except AnnotationError as error:
            source.complain(f"{error}; left out with its annotations", entry=entry, path=path)
            continue
        if name != image.file_name:
            message = f"the file name leads out of the folder; taken as {name!r}"
            source.complain(message, entry=entry, path=path)
        found = _find(source, name, path, (*beside, images))
        if found is None:
            source.complain(
                f"there is no such image in {images.root}; its annotations come in without it",
                entry=entry,
                path=path,
            )
        yield replace(image, file_name=name, path=found, split=image.split or split)
    if num_crowds and not num_instances:
        source.complain(
            f"all {num_crowds:,} annotations are marked iscrowd, as datumaro writes masks: they "
            "are crowd regions, no instances; set iscrowd to 0 in the file if they are objects",
            path=path,
        )


def _find(
    source: ReadSource, file_name: str, path: Path, folders: tuple[ImageFolder, ...]
) -> Path | None:
    for folder in folders:
        try:
            found = folder.find(file_name)
        except AnnotationError as error:
            source.complain(str(error), entry=f"image {file_name}", path=path)
            return None
        if found is not None and not _is_panoptic(found, folder):
            return found
    return None


def _is_panoptic(path: Path, folder: ImageFolder) -> bool:
    return any(part.startswith(_PANOPTIC) for part in path.relative_to(folder.root).parts[:-1])


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
    data = document_bytes(coco_document(written, target.categories))
    with atomic_file(path) as file:
        file.write(data)


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
