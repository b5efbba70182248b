"""Which files in a folder are label images, which of them belong together, and to which image."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from napari_deeppixel.dataset.image_folder import is_inside

LABEL_SUFFIXES = (".tif", ".tiff", ".png")
_LABEL_FOLDERS = frozenset({"labels", "label", "masks", "mask"})
_IMAGE_FOLDER = "images"
_NAMED_SO = re.compile(r"(.+?)[_-](cp_masks?|masks?|labels?)", re.IGNORECASE)
_LAYER = re.compile(r"(.+)_layer_([1-9]\d{0,5})", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class LabelFile:
    """A label image and what belongs to it.

    Attributes
    ----------
    path
        The label image.
    name
        What its image is called, without an ending: relative to the folder of the images.
    layers
        Label images of what this one hides.
    """

    path: Path
    name: PurePosixPath
    layers: tuple[Path, ...] = ()


def with_layers(paths: Sequence[Path]) -> dict[Path, tuple[Path, ...]]:
    """Return label image → its layers, in order, for the label images of some folders."""
    by_stem = {path.with_suffix(""): path for path in paths}
    layers: dict[Path, list[tuple[int, Path]]] = {path: [] for path in paths}
    for path in paths:
        stem, number = layer_of(path.stem)
        base = by_stem.get(path.with_name(stem))
        if number and base in layers and path in layers:
            layers[base].append((number, path))
            layers.pop(path)
    return {base: tuple(path for _, path in sorted(found)) for base, found in layers.items()}


def layer_path(path: Path, number: int) -> Path:
    """Return where the layer 1, 2, … of a label image lies."""
    return path.with_name(f"{path.stem}_layer_{number}{path.suffix}")


def layer_of(name: str) -> tuple[str, int]:
    """Return what a layer's name is the layer of, and its number; the name and 0 for others."""
    named = _LAYER.fullmatch(name)
    return (named[1], int(named[2])) if named else (name, 0)


def is_reserved_stem(stem: str) -> bool:
    """Whether a label image of that name would be taken for another image's."""
    return bool(_LAYER.fullmatch(stem) or _NAMED_SO.fullmatch(stem))


def image_stem(stem: str) -> str:
    """Return the name of the image, without an ending, for a name like ``x_masks``."""
    named = _NAMED_SO.fullmatch(stem)
    return named[1] if named else stem


def files_below(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Return the files below a folder with some endings, by name.

    Left out are hidden ones and links that lead out of the folder.
    """
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in suffixes
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
        and is_inside(path, folder)
    ]


def find_label_files(folder: Path, *, has_images: bool) -> list[LabelFile]:
    """Return the label images below a folder.

    These are the files below a folder ``labels`` or ``masks``; without one, those with names like
    ``x_labels.tif``; without these, all, unless images lie there, too (`has_images`).
    """
    names = {
        path: PurePosixPath(path.relative_to(folder).as_posix()).with_suffix("")
        for path in files_below(folder, LABEL_SUFFIXES)
    }
    in_folders = {path: inner for path, name in names.items() if (inner := _in_label_folder(name))}
    if in_folders:
        files = _files(in_folders)
    else:
        files = _files(names)
        named_so = [file for file in files if _NAMED_SO.fullmatch(file.path.stem)]
        files = named_so if named_so or has_images else files
    return files


def _files(names: dict[Path, PurePosixPath]) -> list[LabelFile]:
    return [
        LabelFile(path=path, name=name.with_name(image_stem(name.name)), layers=layers)
        for path, layers in with_layers(list(names)).items()
        for name in [names[path]]
    ]


def _in_label_folder(name: PurePosixPath) -> PurePosixPath | None:
    """Return a name without its folder ``labels``; None if it lies in none."""
    for at, part in enumerate(name.parts[:-1]):
        # the outermost folder decides: images/labels/x.png is an image
        if part.casefold() == _IMAGE_FOLDER:
            return None
        if part.casefold() in _LABEL_FOLDERS:
            return PurePosixPath(*name.parts[:at], *name.parts[at + 1 :])
    return None


def label_file_at(path: Path) -> LabelFile:
    """Return a single label image with the layers beside it."""
    beside = [
        each
        for each in sorted(path.parent.glob("*_layer_*"))
        if each.suffix == path.suffix and each.is_file()
    ]
    return LabelFile(
        path=path,
        name=PurePosixPath(image_stem(path.stem)),
        layers=with_layers(list(dict.fromkeys([path, *beside]))).get(path, ()),
    )


def has_label_images(folder: Path) -> bool:
    """Whether a folder itself has label images, by their names or in a folder of theirs."""
    for path in folder.iterdir():
        if path.is_dir() and path.name.casefold() in _LABEL_FOLDERS:
            if any(each.suffix.lower() in LABEL_SUFFIXES for each in path.rglob("*.*")):
                return True
        elif path.suffix.lower() in LABEL_SUFFIXES and _NAMED_SO.fullmatch(path.stem):
            return True
    return False
