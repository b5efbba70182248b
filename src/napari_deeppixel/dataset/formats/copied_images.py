"""Copies images beside annotations that are written, and never outside their folder."""

import shutil
from pathlib import Path, PurePosixPath

from napari_deeppixel.core.atomic import atomic_file
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.dataset.image_folder import is_inside, portable_name, safe_name


def place_in(folder: Path, file_name: str, root: Path) -> Path:
    """Return where a file of a name goes in a folder; the folders on the way are made.

    Parameters
    ----------
    folder
        Where to.
    file_name
        Name relative to it, with ``/``; what some systems cannot store becomes ``_``.
    root
        Folder that must not be left, as by a link on the way.

    Raises
    ------
    AnnotationError
        If the place is outside of `root`.
    OSError
        If a folder cannot be made.
    """
    place = folder / portable_name(safe_name(file_name))
    existing = place.parent
    while not existing.exists():
        existing = existing.parent
    inside = is_inside(existing, root) or root.resolve().is_relative_to(existing.resolve())
    if not inside or place.is_symlink():
        raise AnnotationError(f"{place}: a link on the way leads out of {root}")
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def copy_image(path: Path, folder: Path, file_name: str, root: Path) -> Path:
    """Copy an image file into a folder, whole or not at all; return where it is.

    The file itself, if it is there already, stays.

    Raises
    ------
    AnnotationError
        As `place_in`, and if another file has the name.
    OSError
        If it cannot be copied.
    """
    place = place_in(folder, file_name, root)
    if place.exists():
        if place.samefile(path) or _same_content(place, path):
            return place
        raise AnnotationError(f"{place}: another image has this name already; choose a new folder")
    with path.open("rb") as source, atomic_file(place) as target:
        shutil.copyfileobj(source, target)
    return place


def _same_content(left: Path, right: Path) -> bool:
    if left.stat().st_size != right.stat().st_size:
        return False
    with left.open("rb") as one, right.open("rb") as other:
        while chunk := one.read(1 << 20):
            if chunk != other.read(1 << 20):
                return False
    return True


def flat_name(file_name: str) -> str:
    """Return a name for a layout without sub-folders: ``a/b.png`` becomes ``a__b.png``."""
    return "__".join(PurePosixPath(file_name).parts)
