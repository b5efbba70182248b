"""Finds the image that an annotation names, in a folder and never outside it."""

import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath

from napari_deeppixel.core.errors import AnnotationError

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".lsm", ".bmp", ".gif", ".webp"}
)
# halves of characters, which no file system stores, among them
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_MAX_PART_BYTES = 255
# names that Windows gives to devices, with any ending
_DEVICE_NAME = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def safe_name(name: object) -> PurePosixPath:
    """Return a file name that annotations give as a relative path that stays where it begins.

    Backslashes count as ``/``, since annotations travel between systems.

    Raises
    ------
    AnnotationError
        If it is no text, empty, absolute on any system, or has ``..`` or a control character.
    """
    if not isinstance(name, str) or not name.strip():
        raise AnnotationError(f"a file name must be text, got {name!r}")
    path = PurePosixPath(name.replace("\\", "/"))
    is_absolute = path.is_absolute() or bool(PureWindowsPath(name).drive)
    if is_absolute or ".." in path.parts or not path.parts:
        raise AnnotationError(f"file name {name!r} leads out of the folder")
    if _CONTROL.search(name) or any(len(part.encode()) > _MAX_PART_BYTES for part in path.parts):
        raise AnnotationError(f"file name {name!r} cannot be stored")
    return path


def inner_name(name: str) -> PurePosixPath:
    """Return the part of a file name that may be used inside a folder, wherever it leads.

    Many programs write absolute paths, or such as ``../images/a.png``: the last part is worth
    something.

    Raises
    ------
    AnnotationError
        If nothing is left.
    """
    try:
        return safe_name(name)
    except AnnotationError:
        return safe_name(PurePosixPath(name.replace("\\", "/")).name)


def portable_name(name: PurePosixPath) -> PurePosixPath:
    """Return a relative name that every system can store: what is odd becomes ``_``."""
    parts = []
    for part in name.parts:
        kept = re.sub(r'[<>:"|?*]', "_", part).rstrip(" .") or "_"
        parts.append(f"_{kept}" if _DEVICE_NAME.fullmatch(kept) else kept)
    return PurePosixPath(*parts)


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a path, links followed, lies in a folder."""
    return path.resolve().is_relative_to(folder.resolve())


class ImageFolder:
    """A folder with images, and what is in its sub-folders.

    Parameters
    ----------
    root
        The folder. Links in it that lead out of it are not followed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, file_name: str) -> Path | None:
        """Return the image file of a name; None if there is none.

        Tried are the name under the folder and under its ``images/``, then the last part of it
        anywhere below, if only one file there has it.

        Raises
        ------
        AnnotationError
            If the name, or a link that it names, leads out of the folder.
        """
        name = safe_name(file_name)
        for place in (self.root / name, self.root / "images" / name):
            if place.is_file():
                if not is_inside(place, self.root):
                    raise AnnotationError(
                        f"{place} is a link out of {self.root}: name the folder that it leads to"
                    )
                return place
        found = self._by_name.get(name.name.casefold(), [])
        return found[0] if len(found) == 1 else None

    def find_stem(self, stem: str) -> Path | None:
        """Return the only image file whose name without its ending is a text; None else."""
        found = self._by_stem.get(stem.casefold(), [])
        return found[0] if len(found) == 1 else None

    def relative_name(self, path: Path) -> str:
        """Return the name of a file in the folder, relative to it, with ``/``."""
        return path.relative_to(self.root).as_posix()

    @cached_property
    def paths(self) -> tuple[Path, ...]:
        """All image files, by name; hidden ones and links that lead out are left out."""
        if not self.root.is_dir():
            return ()
        return tuple(
            path
            for path in sorted(self.root.rglob("*"))
            if path.suffix.lower() in IMAGE_SUFFIXES
            and not any(part.startswith(".") for part in path.relative_to(self.root).parts)
            and path.is_file()
            and is_inside(path, self.root)
        )

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        return _grouped((path.name, path) for path in self.paths)

    @cached_property
    def _by_stem(self) -> dict[str, list[Path]]:
        return _grouped((path.stem, path) for path in self.paths)


def _grouped(named: Iterable[tuple[str, Path]]) -> dict[str, list[Path]]:
    groups: dict[str, list[Path]] = {}
    for name, path in named:
        groups.setdefault(name.casefold(), []).append(path)
    return groups
