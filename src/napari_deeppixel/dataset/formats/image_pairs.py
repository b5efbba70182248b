"""Image files and annotation files of one image each: which belong together, under which names."""

import filecmp
import itertools
import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from napari_deeppixel.core.atomic import atomic_file
from napari_deeppixel.core.errors import AnnotationError, DeepPixelError, ImageError
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.dataset.annotated import AnnotatedImage
from napari_deeppixel.dataset.formats.base import Problem, WriteTarget
from napari_deeppixel.dataset.image_file import image_hw, read_image
from napari_deeppixel.dataset.image_folder import (
    IMAGE_SUFFIXES,
    ImageFolder,
    is_inside,
    portable_name,
    safe_name,
)

_IMAGE_FOLDERS = frozenset({"images", "image", "imgs", "img", "jpegimages"})
# lead axes of a stack whose image nobody has, the last one first
_FREE_LETTERS = "ztuvwabdefghjklmnoprs"
# reading these to find no stack in them would cost a decoding
_FLAT_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
# a stack without its image has as many planes as its annotations say; one number there could ask
# for any number of empty planes
_MAX_PLANES = 100_000


class AnnotationNames:
    """Gives each image file a name for its annotation file: its stem, while nobody else has it.

    Where two images share a stem (``x.png`` and ``x.jpg``), the second one's whole name is used
    (``x.jpg``), and `match_images` finds both again. Sub-folders are kept.

    Parameters
    ----------
    is_reserved
        Whether a stem means something else in the format; the whole name is used instead.
    """

    def __init__(self, is_reserved: Callable[[str], bool] = lambda _: False) -> None:
        self._is_reserved = is_reserved
        self._taken: set[str] = set()

    def name_for(self, file_name: str) -> PurePosixPath:
        """Return the path of an image's annotation file, without its ending.

        Raises
        ------
        AnnotationError
            If the name leads out of the folder.
        """
        whole = portable_name(safe_name(file_name))
        stem = whole.with_suffix("") if whole.suffix.lower() in IMAGE_SUFFIXES else whole
        is_plain = stem.suffix.lower() not in IMAGE_SUFFIXES and not self._is_reserved(stem.name)
        numbered = (whole.with_name(f"{whole.name}-{number}") for number in itertools.count(2))
        names = itertools.chain([stem] if is_plain else [], [whole], numbered)
        name = next(name for name in names if str(name).casefold() not in self._taken)
        self._taken.add(str(name).casefold())
        return name


def match_images(
    names: Iterable[PurePosixPath], images: ImageFolder, *, left_out: Iterable[Path] = ()
) -> dict[PurePosixPath, Path]:
    """Return annotation name (without ending) → image file, where exactly one fits.

    Whole names go before stems, the same sub-folder before any other, and an image belongs to one
    name only. Folders called ``images`` do not count as sub-folders.

    Parameters
    ----------
    names
        As `AnnotationNames` gives them.
    images
        Where the images are.
    left_out
        Files there that are no images, such as label images.
    """
    no_images = {path.resolve() for path in left_out}
    free = {path for path in images.paths if not no_images or path.resolve() not in no_images}
    matched: dict[PurePosixPath, Path] = {}
    waiting = list(dict.fromkeys(names))
    for is_same_folder, has_ending in itertools.product((True, False), repeat=2):
        by_key: dict[str, list[Path]] = {}
        for path in sorted(free):
            name = inside_image_folder(PurePosixPath(images.relative_name(path)))
            name = name if has_ending else name.with_suffix("")
            by_key.setdefault(_key(name, is_same_folder), []).append(path)
        for name in waiting:
            # beside the images, annotations lie in their folder; in one of their own, they do not
            for each in (name, inside_image_folder(name)):
                found = by_key.get(_key(each, is_same_folder), [])
                if len(found) == 1 and found[0] in free and name not in matched:
                    matched[name] = found[0]
                    free.discard(found[0])
        waiting = [name for name in waiting if name not in matched]
    return matched


def _key(name: PurePosixPath, is_same_folder: bool) -> str:
    return (str(name) if is_same_folder else name.name).casefold()


def inside_image_folder(name: PurePosixPath) -> PurePosixPath:
    """Return a name without the outermost folder in it that is called ``images``."""
    for at, part in enumerate(name.parts[:-1]):
        if part.casefold() in _IMAGE_FOLDERS:
            return PurePosixPath(*name.parts[:at], *name.parts[at + 1 :])
    return name


def size_problem(path: Path, plane_hw: tuple[int, int]) -> str:
    """Return what speaks against annotations of a size belonging to an image file; empty: nothing.

    An image that cannot be read is not judged here.
    """
    try:
        found_hw = image_hw(path)
    except ImageError:
        return ""
    if found_hw == plane_hw:
        return ""
    return (
        f"has {plane_hw[0]} x {plane_hw[1]} pixels (height x width), but its image {path.name} "
        f"{found_hw[0]} x {found_hw[1]}"
    )


def by_file(images: Iterable[AnnotatedImage]) -> Iterator[list[AnnotatedImage]]:
    """Yield the planes of one image file after the other."""
    for _, planes in itertools.groupby(images, key=lambda image: image.file_name):
        yield list(planes)


@dataclass(frozen=True, kw_only=True)
class StackAxes:
    """Letters and sizes of the lead axes of a stack; both empty for a flat image."""

    axes: str
    lead_shape: tuple[int, ...]


def stack_axes(planes: Sequence[AnnotatedImage]) -> StackAxes:
    """Return the lead axes of the file that planes belong to.

    Those of the image file where it is known, else just enough for the planes.

    Raises
    ------
    AnnotationError
        If the planes do not belong to one stack, or ask for too many empty planes.
    """
    indices = [image.plane for image in planes]
    name = planes[0].file_name
    if len({len(index) for index in indices}) != 1 or len(set(indices)) != len(indices):
        raise AnnotationError(f"{name}: the planes {indices} are not those of one stack")
    if len({image.image_hw for image in planes}) != 1:
        sizes = sorted({image.image_hw for image in planes})
        raise AnnotationError(f"{name}: the planes must be of one size, got {sizes}")
    needed = tuple(max(numbers) + 1 for numbers in zip(*indices, strict=True))
    if not needed:
        return StackAxes(axes="", lead_shape=())
    axes, lead_shape = lead_axes_of(planes[0].path)
    if len(lead_shape) == len(needed) and all(
        has >= need for has, need in zip(lead_shape, needed, strict=True)
    ):
        return StackAxes(axes=axes, lead_shape=lead_shape)
    if math.prod(needed) > max(_MAX_PLANES, 10 * len(planes)) or len(needed) > len(_FREE_LETTERS):
        raise AnnotationError(
            f"{name}: plane {max(indices)} asks for a stack of {needed}; have the image found"
        )
    return StackAxes(axes=_FREE_LETTERS[: len(needed)][::-1], lead_shape=needed)


def filled_stack(planes: Sequence[AnnotatedImage], stack: StackAxes) -> list[InstanceSet]:
    """Return the instances of all planes of a stack; those that are not given have none."""
    given = {image.plane: image.instances for image in planes}
    nobody = InstanceSet.empty(planes[0].image_hw, planes[0].categories)
    return [given.get(index, nobody) for index in np.ndindex(*stack.lead_shape)]


def is_single_file(path: Path, suffixes: Sequence[str]) -> bool:
    """Whether a target is one file, as its ending says, rather than a folder."""
    return path.suffix.lower() in suffixes and not path.is_dir()


def write_each(
    images: Iterable[AnnotatedImage],
    target: WriteTarget,
    write_file: Callable[[Sequence[AnnotatedImage]], None],
    *,
    is_single: bool,
) -> Iterator[AnnotatedImage]:
    """Write the planes of one image file after the other, and yield them when they are written.

    What cannot be written is told, and the next file is gone on with.

    Parameters
    ----------
    images
        Planes of one file follow each other.
    target
        Where problems are told.
    write_file
        Writes the planes of one file.
    is_single
        Whether the target holds the annotations of one image file.

    Raises
    ------
    AnnotationError
        If there is a second image file for a single one.
    """
    for number, planes in enumerate(by_file(images)):
        if is_single and number:
            raise AnnotationError(
                f"{target.path}: holds the annotations of one image, but there are more; name a "
                "folder"
            )
        try:
            write_file(planes)
        except DeepPixelError as error:
            name = planes[0].file_name
            message = f"{str(error).removeprefix(f'{name}: ')}: not written"
            target.on_problem(Problem(path=target.path, entry=name, message=message))
            continue
        yield from planes


def lead_axes_of(path: Path | None) -> tuple[str, tuple[int, ...]]:
    """Return letters and sizes of an image file's lead axes; empty if flat, missing or damaged."""
    if path is None or path.suffix.lower() in _FLAT_SUFFIXES:
        return "", ()
    try:
        image = read_image(path)
    except ImageError:
        return "", ()
    return image.lead_axes, image.lead_shape


def plane_at(at: Mapping[str, int], axes: str, lead_shape: tuple[int, ...]) -> PlaneIndex:
    """Return the plane of a stack that another program means by its numbers of t and z, from 0.

    Axes that have no number of their own take the only one there is: ImageJ and QuPath number the
    planes of a stack along z, whatever the axis is called.

    Raises
    ------
    AnnotationError
        If the stack has no such plane.
    """
    if len(axes) == 1 and axes not in at:
        plane: PlaneIndex = (max(at.values(), default=0),)
    else:
        plane = tuple(at.get(axis, 0) for axis in axes)
    size_of = dict(zip(axes, lead_shape, strict=False))
    if any(number < 0 for number in at.values()) or any(
        number >= size_of.get(axis, number + 1) for axis, number in zip(axes, plane, strict=True)
    ):
        raise AnnotationError(f"is in plane {dict(at)}, but the image has {lead_shape}")
    return plane


def checked_plane(value: Any) -> PlaneIndex:
    """Return a plane from a list in a file.

    Raises
    ------
    AnnotationError
        If it is no list of whole numbers from 0 on.
    """
    is_list = isinstance(value, list) and len(value) <= len(_FREE_LETTERS)
    if not is_list or any(type(each) is not int or not 0 <= each < 2**31 for each in value):
        raise AnnotationError(
            f"a plane must be a list of whole numbers from 0 on, got {value!r:.60}"
        )
    return tuple(value)


def place_in(root: Path, name: PurePosixPath | str) -> Path:
    """Return where a file goes in a folder; the folders above it are made.

    Raises
    ------
    AnnotationError
        If a link there leads out of the folder.
    OSError
        If a folder cannot be made.
    """
    path = root / name
    if not is_inside(path.parent, root):
        raise AnnotationError(
            f"{path.parent} is a link out of {root}: nothing is written there; remove the link"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def copy_image(image: AnnotatedImage, folder: Path) -> None:
    """Copy the file of an image into a folder, under its name, whole or not at all.

    Does nothing if the file is not known, or is there already.

    Raises
    ------
    AnnotationError
        As `place_in`, if the name leads out of the folder, or another image has it there.
    OSError
        If it cannot be copied.
    """
    if image.path is None:
        return
    target = place_in(folder, portable_name(safe_name(image.file_name)))
    if target.exists():
        if not filecmp.cmp(target, image.path, shallow=False):
            raise AnnotationError(
                f"{target}: another image has this name already; choose an empty folder"
            )
        return
    with image.path.open("rb") as source, atomic_file(target) as copy:
        shutil.copyfileobj(source, copy)


def plane_entry(plane: PlaneIndex) -> str:
    """Return how problems name a plane; empty for a flat image."""
    return f"plane {', '.join(str(number) for number in plane)}" if plane else ""
