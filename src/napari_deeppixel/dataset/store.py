"""A dataset folder: annotated images that can be trained on for years, and edited by many at once.

::

    DATASET/dataset.json               categories and split rule
    DATASET/images/NAME                copied images
    DATASET/annotations/NAME.json      a COCO document for each image
    DATASET/index.jsonl                a cache that makes lists quick
    DATASET/removed/TIME/              what was taken out; nothing is ever deleted

Each file is written beside its place, brought to the disk and renamed, by one process at a time
(``dataset.lock``): a process that dies at any moment leaves a dataset with every finished save.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.progress import CancelToken, Progress
from napari_deeppixel.dataset import adding, saving
from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState, Split
from napari_deeppixel.dataset.annotation_file import split_value, state_value
from napari_deeppixel.dataset.category_edits import CategoryMethods
from napari_deeppixel.dataset.check import check_dataset
from napari_deeppixel.dataset.dataset_file import DatasetFile, write_dataset_file
from napari_deeppixel.dataset.fault import Fault, FaultKind
from napari_deeppixel.dataset.folder import (
    FILE_NAME,
    DatasetConflictError,
    DatasetFolder,
    ImageChangedError,
    ImageMissingError,
)
from napari_deeppixel.dataset.formats.base import Problem, raise_problem
from napari_deeppixel.dataset.image_entry import ImageEntry, Storage, record_of_document
from napari_deeppixel.dataset.image_files import ImageFileMethods
from napari_deeppixel.dataset.index import is_left_over
from napari_deeppixel.dataset.names import clean_name, original_name, pixels_name, wanted_name
from napari_deeppixel.dataset.repair import repair_dataset
from napari_deeppixel.dataset.saving import LoadedImage, StoredImages
from napari_deeppixel.dataset.split import SplitRule
from napari_deeppixel.dataset.write_lock import LOCK_NAME, write_lock

__all__ = [
    "Added",
    "Dataset",
    "DatasetConflictError",
    "Fault",
    "FaultKind",
    "ImageChangedError",
    "ImageEntry",
    "ImageMissingError",
    "LoadedImage",
    "SplitRule",
    "Storage",
]


@dataclass(frozen=True, kw_only=True)
class Added:
    """What became of an image that was added.

    Attributes
    ----------
    entry
        As lists show it.
    is_new
        Whether it was not in the dataset already, by its content.
    has_taken_planes
        Whether what came with it is in the dataset now: not so if it was there with annotations.
    """

    entry: ImageEntry
    is_new: bool
    has_taken_planes: bool


class Dataset(CategoryMethods, ImageFileMethods):
    """A dataset folder. All methods may be called from any thread, and by many processes at once.

    Made by `create` and `open`. Every method that writes raises `AnnotationError` if the folder
    cannot be written to, or is locked for a minute.
    """

    @classmethod
    def create(
        cls, path: Path | str, *, categories: CategoryTable, split: SplitRule | None = None
    ) -> "Dataset":
        """Return a new dataset in an empty folder, which is made if need be.

        A dataset that is there already gets the categories that it lacks, and keeps its split rule.

        Raises
        ------
        AnnotationError
            If something else is in the folder, or it cannot be made.
        """
        path = Path(path).absolute()
        try:
            path.mkdir(parents=True, exist_ok=True)
            _refuse_other_folder(path)
        except OSError as error:
            raise AnnotationError(
                f"{path}: no dataset can be made there ({error.strerror or error})"
            ) from error
        with write_lock(path):
            if not cls.is_dataset(path):
                content = DatasetFile(categories=categories, split=split or SplitRule())
                write_dataset_file(path / FILE_NAME, content)
                return cls.open(path)
            dataset = cls.open(path)
            before = dataset._folder.content
            content, _ = before.joined_with(categories)
            if content is not before:
                dataset._folder.write_content(content)
        return dataset

    @classmethod
    def open(cls, path: Path | str) -> "Dataset":
        """Return the dataset in a folder.

        Raises
        ------
        AnnotationError
            If there is none, or its ``dataset.json`` cannot be read.
        """
        path = Path(path).absolute()
        if not cls.is_dataset(path):
            raise AnnotationError(
                f"{path}: no dataset ({FILE_NAME} is missing); choose the folder that holds it, or "
                "make a new one in an empty folder"
            )
        dataset = cls(DatasetFolder(path))
        _ = dataset._folder.content
        return dataset

    @staticmethod
    def is_dataset(path: Path | str) -> bool:
        """Whether a folder holds a dataset."""
        return (Path(path) / FILE_NAME).is_file()

    @property
    def path(self) -> Path:
        """The folder."""
        return self._folder.root

    @property
    def categories(self) -> CategoryTable:
        """Categories, as they are on the disk now."""
        return self._folder.content.categories

    @property
    def split_rule(self) -> SplitRule:
        """How images are dealt out that nobody pinned."""
        return self._folder.content.split

    # lists

    def entries(self, *, cancel: CancelToken | None = None) -> list[ImageEntry]:
        """Return all images in the natural order of their names, those with a problem among them.

        The first time, without an index, each annotation file is read (some 2 ms of each).

        Raises
        ------
        RunCancelled
            If somebody asked to stop.
        """
        return self._folder.entries(cancel=cancel)

    # one image

    def load(self, image_id: str) -> LoadedImage:
        """Return an image with its annotations, whether or not its file is there.

        Raises
        ------
        AnnotationError
            If there is no such image, or its annotation file cannot be read.
        """
        document = self._folder.read_document(image_id)
        planes, problems = saving.stored_planes(self._folder, image_id, document)
        record = record_of_document(document, image_id)
        path = saving.found_path(self._folder, record)
        if not planes:
            nobody = InstanceSet.empty(record.image_hw, self.categories)
            planes = [AnnotatedImage.of(image_id, nobody)]
        return LoadedImage(
            entry=self.entry(image_id),
            planes=tuple(replace(plane, path=path) for plane in planes),
            revision=record.revision,
            problems=tuple(problems),
        )

    def save(
        self,
        image_id: str,
        planes: Sequence[AnnotatedImage],
        *,
        revision: int,
        state: ImageState | None = None,
    ) -> ImageEntry:
        """Save all planes of an image: what is not among them is taken out of its file.

        Keys that we do not know, and state, split and group where the planes say nothing of them,
        stay as they are in the file.

        Parameters
        ----------
        image_id
            Which image.
        planes
            As `load` gave them, with other instances. Categories that the dataset lacks come in.
        revision
            That of the `load` or `save` before; each write makes a new one.
        state
            For all planes; None: what the planes say.

        Raises
        ------
        DatasetConflictError
            If the revision on the disk is another one; nothing is written.
        AnnotationError
            If the planes do not have the image's size, or its file cannot be read.
        """
        record = saving.save(self._folder, image_id, planes, revision=revision, state=state)
        return self._folder.known_entries([record])[0]

    def annotation_path(self, image_id: str) -> Path:
        """Return where the annotations of an image lie.

        Raises
        ------
        AnnotationError
            If the name leads out of the dataset.
        """
        return self._folder.annotation_path(self._folder.checked(image_id))

    # images come in

    def add_file(
        self,
        path: Path | str,
        *,
        planes: Sequence[AnnotatedImage] = (),
        storage: Storage = Storage.COPY,
        name: str | None = None,
        state: ImageState | None = None,
        group: str = "",
        split: Split | None = None,
    ) -> Added:
        """Add an image file, unless its content is in the dataset already.

        To one that is there without an annotation, the planes are added.

        Parameters
        ----------
        path
            The image.
        planes
            What is known about it; categories that the dataset lacks come in.
        storage
            Whether it is copied into the dataset, or stays where it is.
        name
            For the dataset, with ``/`` between folders; None: the file's own, made fit for all
            systems. If another image has it, a number is put behind it.
        state, group, split
            For all planes; by default what the planes say.

        Raises
        ------
        ImageError
            If it is missing or no image.
        AnnotationError
            If the name leads out of the dataset, or the planes are of another size.
        """
        path = Path(path)
        called = path.name if name is None else name
        wanted = clean_name(called) if name is None else wanted_name(called)
        wish = adding.Wish(
            name=wanted,
            original_name=original_name(called) if wanted != called else "",
            is_referenced=Storage(storage) is Storage.REFERENCE,
            planes=planes,
            state=state,
            split=split,
            group=group,
        )
        return self._add(adding.Content.of_file(path), wish)

    def add_pixels(
        self,
        pixels: NDArray[Any],
        *,
        name: str,
        planes: Sequence[AnnotatedImage] = (),
        group: str = "",
        state: ImageState | None = None,
        split: Split | None = None,
    ) -> Added:
        """Add pixels (H, W) or (H, W, C) as an image file: PNG where it holds them, else TIFF.

        Raises
        ------
        AnnotationError
            As `add_file`.
        """
        pixels = np.asarray(pixels)
        if pixels.ndim not in (2, 3) or not pixels.size:
            raise AnnotationError(f"{name}: pixels must be (H, W) or (H, W, C), got {pixels.shape}")
        wanted = wanted_name(pixels_name(wanted_name(name), pixels))
        wish = adding.Wish(name=wanted, planes=planes, group=group, state=state, split=split)
        return self._add(adding.Content.of_pixels(pixels), wish)

    def _add(self, content: adding.Content, wish: adding.Wish) -> Added:
        record, arrival = adding.add(self._folder, content, wish)
        return Added(
            entry=self._folder.known_entries([record])[0],
            is_new=arrival is adding.Arrival.NEW,
            has_taken_planes=arrival is not adding.Arrival.KNOWN,
        )

    # what is said of images

    def set_state(self, image_ids: Iterable[str], state: ImageState) -> list[ImageEntry]:
        """Set the state of all planes of images; return their entries, with new revisions."""
        ids = list(image_ids)
        saving.set_attributes(self._folder, ids, state=state_value(state))
        return self._entries_of(ids)

    def set_split(self, image_ids: Iterable[str], split: Split | None) -> list[ImageEntry]:
        """Pin images, and with each its whole group, to a split; None leaves it to the rule.

        Returns the entries of all images concerned, with new revisions.
        """
        ids = self._folder.with_groups(image_ids)
        saving.set_attributes(self._folder, ids, split=split_value(split))
        return self._entries_of(ids)

    def set_split_rule(self, rule: SplitRule) -> None:
        """Deal out all images that nobody pinned by another rule."""
        with self._folder.locked():
            self._folder.write_content(replace(self._folder.content, split=rule))

    def set_group(self, image_ids: Iterable[str], group: str) -> list[ImageEntry]:
        """Put images into a group, which stays in one split; empty: each is alone."""
        ids = list(image_ids)
        saving.set_attributes(self._folder, ids, group=group or None)
        return self._entries_of(ids)

    # all of it

    def annotated(
        self,
        splits: Iterable[Split] | None = None,
        *,
        on_problem: Callable[[Problem], None] = raise_problem,
        resolves_splits: bool = False,
    ) -> StoredImages:
        """Return the planes of all images, or of some splits, one image in memory at a time.

        Each has its `path` if its file is there.

        Parameters
        ----------
        splits
            Which images, by the split that they are in.
        on_problem
            Called with what cannot be taken; by default that is an error.
        resolves_splits
            Whether the `split` of an image is the one that it is in, rather than what it is pinned
            to: for programs that know nothing of the rule.
        """
        return StoredImages(
            self._folder,
            None if splits is None else frozenset(splits),
            on_problem,
            resolves_splits=resolves_splits,
        )

    def check(self, *, cancel: CancelToken | None = None) -> Iterator[Progress | Fault]:
        """Read everything, image files included, and yield each fault; nothing is changed.

        Raises
        ------
        RunCancelled
            If somebody asked to stop.
        """
        return check_dataset(self._folder, cancel)

    def repair(self, faults: Iterable[Fault]) -> list[str]:
        """Repair those faults of `check` that can be safely; return what was done, a line each.

        What is taken out of a file, or off its place, is kept under ``removed/``.
        """
        return repair_dataset(self._folder, list(faults))


def _refuse_other_folder(path: Path) -> None:
    if Dataset.is_dataset(path):
        return
    found = [entry.name for entry in path.iterdir() if not _is_of_creation(entry.name)]
    if found:
        raise AnnotationError(
            f"{path}: not empty ({', '.join(sorted(found)[:3])}) and no dataset; choose an empty "
            "folder"
        )


def _is_of_creation(name: str) -> bool:
    # of a process that makes, or died while it made, the same dataset
    return name.startswith(LOCK_NAME) or is_left_over(name)
