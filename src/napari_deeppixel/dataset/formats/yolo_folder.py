"""Finds its way in a YOLO folder: classes, label files, and which images are for what."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from napari_deeppixel.core.category import Category, CategoryTable, palette_color
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.dataset.annotated import Split
from napari_deeppixel.dataset.formats.base import ReadSource
from napari_deeppixel.dataset.formats.hostile import read_text
from napari_deeppixel.dataset.formats.label_names import files_below
from napari_deeppixel.dataset.image_folder import is_inside

DATA_FILE = "data.yaml"
_YAML_SUFFIXES = (".yaml", ".yml")
# 100,000 classes; reading YAML is slow
_MAX_YAML_BYTES = 4_000_000
_MAX_CLASSES = 100_000
_LOOK_ENTRIES = 1000
# text files beside label files that are none
_NO_LABELS = frozenset({"classes", "train", "val", "valid", "test", "readme", "obj", "notes"})
_SPLIT_FOLDERS = {"valid": Split.VAL, "validation": Split.VAL} | {s.value: s for s in Split}


@dataclass(frozen=True, kw_only=True, eq=False)
class YoloFolder:
    """What is in a YOLO folder.

    Attributes
    ----------
    categories
        One a class; the class indices of the files are in `class_ids`.
    class_ids
        Class index in the files → category id.
    labels
        Name of an image (relative, without ending and folders called ``images``) → label file.
    split_folders, split_names
        Folders of images, and names of single ones, that the data file gives to a split.
    """

    categories: CategoryTable
    class_ids: Mapping[int, int]
    labels: Mapping[PurePosixPath, Path]
    split_folders: Mapping[PurePosixPath, Split]
    split_names: Mapping[PurePosixPath, Split]

    def category_id_of(self, number: float) -> int:
        """Return the category of a class index.

        Raises
        ------
        AnnotationError
            If there is no such class.
        """
        category_id = self.class_ids.get(int(number)) if number == int(number) else None
        if category_id is None:
            raise AnnotationError(
                f"class {number:g} is not among the {len(self.class_ids)} classes of the data file"
            )
        return category_id

    def split_of(self, name: PurePosixPath) -> Split | None:
        """Return what an image is for; None if neither the data file nor its folder says."""
        if name in self.split_names:
            return self.split_names[name]
        for folder in name.parents:
            if folder in self.split_folders:
                return self.split_folders[folder]
        found = (_SPLIT_FOLDERS.get(part.casefold()) for part in name.parts[:-1])
        return next((split for split in found if split), None)


def open_yolo_folder(source: ReadSource) -> YoloFolder:
    """Return what is in a folder with a ``data.yaml``, given by it, or in a folder of labels.

    Raises
    ------
    AnnotationError
        If the data file cannot be read, or there is no label file.
    """
    path = source.path
    data_path = path if path.is_file() else _find_data_file(path)
    root = path.parent if path.is_file() else path
    data = {} if data_path is None else _read_yaml(data_path)
    files = [
        file
        for file in files_below(root, (".txt",))
        if file.stem.casefold() not in _NO_LABELS or file.parent != root
    ]
    in_labels = [file for file in files if "labels" in file.relative_to(root).parts[:-1]]
    labels = {_image_name(file.relative_to(root)): file for file in in_labels or files}
    if not labels:
        raise AnnotationError(f"{path}: no label files (labels/…/*.txt)")
    names = _names(data.get("names"), source) if data_path else _names_from_text(root)
    if names is None:
        names = _names_from_labels(labels.values(), source.default_category)
    table, class_ids = _categories(names, source)
    folders, single = _splits(data, root)
    return YoloFolder(
        categories=table,
        class_ids=class_ids,
        labels=labels,
        split_folders=folders,
        split_names=single,
    )


def looks_like_yolo(path: Path) -> bool:
    """Whether a folder or file is probably a YOLO data set; raises nothing."""
    try:
        if path.is_file():
            is_yaml = path.suffix.lower() in _YAML_SUFFIXES
            return is_yaml and isinstance(_read_yaml(path).get("names"), list | dict)
        data_path = _find_data_file(path) if path.is_dir() else None
        if data_path is not None:
            return isinstance(_read_yaml(data_path).get("names"), list | dict)
        labels = path / "labels" if (path / "labels").is_dir() else path
        # enough of a look, should this be somebody's whole home folder
        found = islice(labels.rglob("*"), _LOOK_ENTRIES)
        return any(_has_label_line(each) for each in found if each.suffix == ".txt")
    except (OSError, AnnotationError):
        return False


def _has_label_line(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        words = file.readline(10_000).split()
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        return False
    return len(numbers) >= 5 and all(0 <= number <= 1 for number in numbers[1:])


def _find_data_file(folder: Path) -> Path | None:
    named = folder / DATA_FILE
    if named.is_file():
        return named
    found = [path for path in sorted(folder.glob("*")) if path.suffix.lower() in _YAML_SUFFIXES]
    if len(found) == 1 and found[0].is_file():
        return found[0]
    # a folder of labels within a data set
    above = [parent / DATA_FILE for parent in folder.absolute().parents[:2]]
    is_labels = "labels" in folder.absolute().parts[-2:]
    return next((path for path in above if is_labels and path.is_file()), None)


def _read_yaml(path: Path) -> dict[str, Any]:
    text = read_text(path, limit=_MAX_YAML_BYTES)
    try:
        document = yaml.safe_load(text)
    # a number or date that is none is a ValueError, an odd key a TypeError
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, OverflowError) as error:
        raise AnnotationError(f"{path}: no readable YAML ({error})") from error
    if not isinstance(document, dict):
        raise AnnotationError(f"{path}: expected keys like names and train, got {document!r:.80}")
    return document


def _names(value: Any, source: ReadSource) -> dict[int, str]:
    """Return class index → name from a list, or from a mapping of numbers to names."""
    if isinstance(value, list):
        value = dict(enumerate(value))
    if not isinstance(value, dict) or not value:
        raise AnnotationError(
            f"{source.path}: the data file needs names of classes, a list or index: name, got "
            f"{value!r:.80}"
        )
    names = {}
    for key, name in value.items():
        is_index = str(key).isdecimal() and len(str(key)) < 10
        if not is_index or isinstance(name, list | dict) or not str(name).strip():
            source.complain(f"class {key!r:.80} with name {name!r:.80} makes no sense: left out")
            continue
        names[int(key)] = str(name)
    return names


def _names_from_text(root: Path) -> dict[int, str] | None:
    # labelImg and others: a name a line
    for path in (root / "classes.txt", root.parent / "classes.txt"):
        if path.is_file():
            lines = read_text(path, limit=_MAX_YAML_BYTES).splitlines()
            return {index: line.strip() for index, line in enumerate(lines) if line.strip()}
    return None


def _names_from_labels(paths: Iterable[Path], default_category: str) -> dict[int, str]:
    """Return names for the class indices that come up: ``class 2``; 0 is the default category."""
    indices: set[int] = set()
    for path in paths:
        # what cannot be read is told later, when its objects are
        with contextlib.suppress(AnnotationError):
            words = [line.split(maxsplit=1)[:1] for line in read_text(path).splitlines()]
            indices |= {int(w) for word in words for w in word if w.isdecimal() and len(w) < 10}
    found = sorted(indices)[:_MAX_CLASSES]
    return {index: default_category if index == 0 else f"class {index}" for index in found}


def _categories(
    names: Mapping[int, str], source: ReadSource
) -> tuple[CategoryTable, dict[int, int]]:
    if len(names) > _MAX_CLASSES:
        raise AnnotationError(f"{source.path}: {len(names):,} classes are more than anyone has")
    ids: dict[str, int] = {}
    for index, name in sorted(names.items()):
        if name in ids:
            source.complain(f"two classes are called {name!r}; they become one category")
        ids.setdefault(name, index + 1)
    table = CategoryTable(
        categories=tuple(
            Category(id=number, name=name, color=palette_color(at))
            for at, (name, number) in enumerate(ids.items())
        )
    )
    return table, {index: ids[name] for index, name in names.items()}


def _image_name(path: Path) -> PurePosixPath:
    """Return a label file's path without its ending and its innermost folder ``labels``."""
    parts = list(path.with_suffix("").parts)
    if "labels" in parts[:-1]:
        del parts[len(parts) - 2 - parts[-2::-1].index("labels")]
    return _without_image_folders(PurePosixPath(*parts))


def _without_image_folders(name: PurePosixPath) -> PurePosixPath:
    parts = [part for part in name.parts[:-1] if part not in ("images", "..")]
    return PurePosixPath(*parts, *name.parts[-1:])


def _splits(
    data: Mapping[str, Any], root: Path
) -> tuple[dict[PurePosixPath, Split], dict[PurePosixPath, Split]]:
    """Return the folders and the single images that a data file gives to each split.

    What two splits share, as train and val do in small sets, belongs to the first.
    """
    folders: dict[PurePosixPath, Split] = {}
    single: dict[PurePosixPath, Split] = {}
    for split in Split:
        value = data.get(split.value)
        for text in value if isinstance(value, list) else [value]:
            if not isinstance(text, str) or not text.strip():
                continue
            entry = PurePosixPath(text.replace("\\", "/"))
            if entry.suffix == ".txt":
                for name in _listed(root, entry):
                    single.setdefault(name, split)
            else:
                folder = _without_image_folders(entry / "x").parent
                if folder.parts:
                    folders.setdefault(folder, split)
    return folders, single


def _listed(root: Path, entry: PurePosixPath) -> Iterator[PurePosixPath]:
    path = root / entry
    if entry.is_absolute() or not is_inside(path, root) or not path.is_file():
        return
    for line in read_text(path).splitlines():
        if line.strip():
            name = PurePosixPath(line.strip().replace("\\", "/"))
            yield _without_image_folders(name).with_suffix("")
