"""The text files of Pascal VOC: classes with their colours, and lists of images."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.core.category import CategoryTable, palette_color
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.dataset.annotated import Split
from napari_deeppixel.dataset.formats.base import ReadSource
from napari_deeppixel.dataset.formats.hostile import read_text
from napari_deeppixel.dataset.formats.named_objects import NamedCategories
from napari_deeppixel.dataset.formats.voc_png import MAX_NUMBER, packed_colors, voc_colors

LABELMAP = "labelmap.txt"
LISTS = PurePosixPath("ImageSets", "Segmentation")
# as datumaro and CVAT call the list of images that are in no split
NO_SPLIT = "default"
_BACKGROUND = "background"
_VOID_NAMES = frozenset({"void", "ignored", "borderingregion"})
# VOC 2012, in the order of their numbers
VOC_CLASSES = [
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
]


@dataclass(frozen=True, kw_only=True, eq=False)
class VocClasses:
    """The classes of a folder.

    Attributes
    ----------
    names
        Class index (1, 2, …) in the PNGs → name.
    colors
        Colour there, packed in one number → name.
    known
        Name → colour ``#rrggbb`` of the classes that the folder itself names, in their order.
    """

    names: Mapping[int, str]
    colors: Mapping[int, str]
    known: Mapping[str, str]

    def categories(self) -> NamedCategories:
        """Return the categories of the classes that the folder names."""
        categories = NamedCategories(self.known)
        for name in self.known:
            categories.id_of(name)
        return categories

    def name_of(
        self, value: int, image: NDArray[Any], palette: NDArray[np.int64] | None
    ) -> str | None:
        """Return the class of a value in a class image with a palette of packed colours, if any."""
        if image.dtype == np.int64:
            return self.colors.get(value)
        name = None if palette is None or not self.known else self.colors.get(int(palette[value]))
        return name or self.names.get(value)


def class_palette(categories: CategoryTable) -> NDArray[np.uint8]:
    """Return the colours (256, 3) of class indices: the categories' own if they differ, else VOC's.

    Raises
    ------
    AnnotationError
        If there are more than 254 categories.
    """
    if len(categories) > MAX_NUMBER:
        raise AnnotationError(f"VOC holds {MAX_NUMBER} categories, got {len(categories)}")
    palette = voc_colors()
    own = [bytes.fromhex(category.color[1:]) for category in categories.categories]
    reserved = {bytes(palette[0].tolist()), bytes(palette[-1].tolist())}
    if len(set(own) | reserved) == len(own) + len(reserved):
        for index, color in enumerate(own, start=1):
            palette[index] = list(color)
    return palette


def labelmap_text(categories: CategoryTable) -> str:
    """Return ``labelmap.txt`` as datumaro and CVAT write it.

    Raises
    ------
    AnnotationError
        As `class_palette`, or if a name cannot be in it.
    """
    lines = ["# label:color_rgb:parts:actions", f"{_BACKGROUND}:0,0,0::"]
    palette = class_palette(categories)
    for index, category in enumerate(categories.categories, start=1):
        name = category.name
        is_odd = name != name.strip() or name[0] == "#" or re.search("[:\x00-\x1f\x7f]", name)
        if is_odd or name.casefold() in (_BACKGROUND, *_VOID_NAMES) or len(name.splitlines()) > 1:
            raise AnnotationError(f"VOC cannot hold a category called {name!r}: rename it")
        lines.append(f"{name}:{','.join(str(value) for value in palette[index].tolist())}::")
    return "\n".join(lines) + "\n"


def read_classes(root: Path, source: ReadSource) -> VocClasses:
    """Return the classes of ``labelmap.txt``; without one, those of VOC 2012.

    Raises
    ------
    AnnotationError
        If the file is there and cannot be read.
    """
    path = root / LABELMAP
    lines = read_text(path).splitlines() if path.is_file() else []
    names: list[str] = []
    colors: list[int] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, color = _label(line)
        if not name or name in names:
            source.complain(
                f"no new class in {line!r:.80}: left out", entry=f"line {number}", path=path
            )
            continue
        names.append(name)
        colors.append(color)
    if not path.is_file():
        names = [_BACKGROUND, *VOC_CLASSES]
        colors = packed_colors(voc_colors())[: len(names)].tolist()
    # the background comes first; in files without it, numbers begin at 1 all the same
    shown = {at: name for at, name in enumerate(names) if not _is_nothing(name)}
    first = 0 if names and names[0].casefold() == _BACKGROUND else 1
    has_file = path.is_file()
    # datumaro names no colours where it draws in VOC's own
    usual = packed_colors(voc_colors())[first:].tolist()
    drawn = colors if max(colors, default=0) >= 0 else [*usual[: len(names)], *colors[len(usual) :]]
    return VocClasses(
        names={at + first: name for at, name in shown.items()},
        colors={drawn[at]: name for at, name in reversed(shown.items()) if drawn[at] > 0},
        known={
            name: f"#{colors[at]:06x}" if colors[at] > 0 else palette_color(position)
            for position, (at, name) in enumerate(shown.items())
            if has_file
        },
    )


def _is_nothing(name: str) -> bool:
    return name.casefold() in (_BACKGROUND, *_VOID_NAMES)


def _label(line: str) -> tuple[str, int]:
    """Return name and packed colour of a line ``name:r,g,b:parts:actions``; -1: no colour."""
    name, _, rest = line.partition(":")
    found = re.fullmatch(r"\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*", rest.split(":")[0])
    values = [int(value) for value in found.groups()] if found else []
    if not values or max(values) > 255:
        return name.strip(), -1
    return name.strip(), int(packed_colors(np.array(values, np.uint8)))


def read_splits(root: Path) -> dict[str, Split]:
    """Return image name → split from the lists in ``ImageSets/Segmentation``.

    Raises
    ------
    AnnotationError
        If a list cannot be read.
    """
    splits: dict[str, Split] = {}
    for split in Split:
        path = root / LISTS / f"{split.value}.txt"
        for name in _names(path) if path.is_file() else ():
            splits.setdefault(name, split)
    return splits


def _names(path: Path) -> Iterator[str]:
    for line in read_text(path).splitlines():
        # some programs put names with blanks in quotes
        name = line.strip()
        yield name[1:-1] if len(name) > 1 and name[0] == name[-1] == '"' else name


def list_text(names: Iterable[str]) -> str:
    """Return a list of images, one a line; blanks in names stay as they are, as in datumaro."""
    return "".join(f"{name}\n" for name in names)
