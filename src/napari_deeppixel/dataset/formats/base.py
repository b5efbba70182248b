"""What an exchange format is: how it is read, written, and what it cannot hold."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NoReturn

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.dataset.annotated import AnnotatedImage
from napari_deeppixel.dataset.image_folder import ImageFolder


class Holds(StrEnum):
    """What a format may or may not hold, next to masks; the values are for people."""

    CATEGORIES = "categories"
    SCORES = "scores"
    STATES = "review states"
    SOURCES = "sources"
    IDENTITIES = "identities (uuids)"
    HANDLES = "numbers of instances"
    CROWDS = "crowd regions"
    REGIONS = "complete regions"
    IMAGE_STATES = "states of images"
    GROUPS = "groups of images"
    SPLITS = "splits"
    PLANES = "planes of stacks"
    EXTRAS = "fields of other programs"
    MASKLESS = "annotations without a mask"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something in a file that could not be taken as it is.

    Attributes
    ----------
    path
        The file.
    entry
        Which image or annotation in it, for people (``annotation 17 of a.png``); empty: the file.
    message
        What is wrong and what was done about it.
    is_kept
        Whether it is kept all the same, as it was: nothing gets lost.
    """

    path: Path
    entry: str
    message: str
    is_kept: bool = False

    def __str__(self) -> str:
        return ": ".join(part for part in (str(self.path), self.entry, self.message) if part)


def raise_problem(problem: Problem) -> NoReturn:
    """Stop at a problem: what readers do with one unless told otherwise.

    Raises
    ------
    AnnotationError
        With what the problem says.
    """
    raise AnnotationError(str(problem))


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadSource:
    """What a reader is given.

    Attributes
    ----------
    path
        File or folder of annotations.
    images
        Where the images are.
    default_category
        Name for instances of formats that know no categories.
    resolves_splits
        Whether images of a dataset say what split they are in, rather than what they are pinned to.
    on_problem
        Called with each entry that cannot be taken; the reader goes on with the next one when it
        returns. What makes the whole file unreadable is raised as `AnnotationError` instead.
    """

    path: Path
    images: ImageFolder
    default_category: str = "object"
    resolves_splits: bool = False
    on_problem: Callable[[Problem], None] = raise_problem

    def complain(self, message: str, *, entry: str = "", path: Path | None = None) -> None:
        """Tell of a problem."""
        self.on_problem(Problem(path=path or self.path, entry=entry, message=message))


@dataclass(frozen=True, kw_only=True, eq=False)
class WriteTarget:
    """What a writer is given.

    Attributes
    ----------
    path
        File or folder to write; what is in a folder already stays unless it has the same name.
    categories
        A table with the categories of all images; each image is in this table.
    images_dir
        Folder to copy the images to; None: where the format wants them, if it wants them at all.
    copies_images
        Whether a format of a folder brings the images with it.
    on_problem
        Called with each image that cannot be written as it is.
    """

    path: Path
    categories: CategoryTable
    images_dir: Path | None = None
    copies_images: bool = True
    on_problem: Callable[[Problem], None] = raise_problem


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadBack:
    """What a reader of the format would find of an image's instances.

    Attributes
    ----------
    masks
        For each instance (N), the masks of the objects that come back of it: usually one, none if
        it is not in the file, several if it falls into parts.
    renumbered
        How many instances get another number, theirs being beyond the format's range.
    """

    masks: tuple[tuple[CroppedMask, ...], ...]
    renumbered: int = 0


def _reads_back_exactly(image: AnnotatedImage) -> ReadBack:
    return ReadBack(masks=tuple((mask,) for mask in image.instances.masks))


@dataclass(frozen=True, kw_only=True, eq=False)
class Format:
    """An exchange format.

    Attributes
    ----------
    name
        For the command line: ``coco``.
    title
        For people: ``COCO JSON``.
    suffixes
        Endings of its files, lower case, with the dot; () if it is a folder.
    note
        One sentence: who uses it, and what it cannot hold.
    looks_like
        Whether a file or folder is probably of this format; reads little of it, raises nothing.
    read
        Yields the images of a source. None: cannot be read.
    write
        Writes images to a target, whole or not at all file by file, and yields each image when it
        is written. None: cannot be written.
    read_back
        What of an image's masks survives, worked out by encoding and decoding them in memory.
    holds
        What it keeps next to the masks.
    """

    name: str
    title: str
    note: str
    suffixes: tuple[str, ...] = ()
    looks_like: Callable[[Path], bool]
    read: Callable[[ReadSource], Iterator[AnnotatedImage]] | None = None
    write: Callable[[Iterable[AnnotatedImage], WriteTarget], Iterator[AnnotatedImage]] | None = None
    read_back: Callable[[AnnotatedImage], ReadBack] = _reads_back_exactly
    holds: frozenset[Holds] = field(default_factory=frozenset)
