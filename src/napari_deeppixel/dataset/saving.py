"""Annotations that are read from a dataset and saved in it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState, Split
from napari_deeppixel.dataset.annotation_file import (
    document_of,
    planes_of,
    with_attributes,
    with_kept,
)
from napari_deeppixel.dataset.dataset_file import DatasetFile
from napari_deeppixel.dataset.folder import (
    DatasetConflictError,
    DatasetFolder,
    ImageChangedError,
    ImageMissingError,
    LastSaved,
)
from napari_deeppixel.dataset.formats.base import Problem
from napari_deeppixel.dataset.image_entry import (
    ImageEntry,
    ImageRecord,
    attributes_of,
    record_of_document,
)
from napari_deeppixel.dataset.image_folder import is_inside
from napari_deeppixel.dataset.image_place import image_path, verify_image


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedImage:
    """An image of a dataset with all that is known about it.

    Attributes
    ----------
    entry
        As lists show it.
    planes
        At least one, if only an empty one; in the order of the file.
    revision
        To be given back when it is saved.
    problems
        What in the file could not be taken; a save keeps a copy of that file in ``removed/``.
    """

    entry: ImageEntry
    planes: tuple[AnnotatedImage, ...]
    revision: int
    problems: tuple[Problem, ...] = ()


def stored_planes(
    folder: DatasetFolder, name: str, document: dict[str, Any]
) -> tuple[list[AnnotatedImage], list[Problem]]:
    """Return the planes in an annotation document, and what could not be taken."""
    problems: list[Problem] = []
    path = folder.annotation_path(name)
    planes = planes_of(document, folder.content, name=name, path=path, on_problem=problems.append)
    return planes, problems


def in_dataset_categories(
    folder: DatasetFolder, planes: Sequence[AnnotatedImage]
) -> tuple[list[AnnotatedImage], DatasetFile]:
    """Return planes in the dataset's categories, which get what they lack; needs the lock.

    Raises
    ------
    AnnotationError
        If a category cannot be taken.
    """
    before = content = folder.content
    new_ids = []
    for plane in planes:
        content, ids = content.joined_with(plane.categories)
        new_ids.append(ids)
    if content is not before:
        # first: a file that names a category that is not there would need a repair
        folder.write_content(content)
    table = content.categories
    joined = [plane.in_table(table, ids) for plane, ids in zip(planes, new_ids, strict=True)]
    return joined, content


def save(
    folder: DatasetFolder,
    image_id: str,
    planes: Sequence[AnnotatedImage],
    *,
    revision: int,
    state: ImageState | None,
) -> ImageRecord:
    """Save the planes of an image; see `Dataset.save`."""
    name = folder.checked(image_id)
    if not planes:
        raise AnnotationError(f"{image_id}: nothing to save: give at least one plane")
    if len({plane.plane for plane in planes}) < len(planes):
        raise AnnotationError(f"{image_id}: a plane is given twice")
    with folder.locked():
        document = folder.read_document(name)
        record = record_of_document(document, name)
        if record.revision != revision:
            raise DatasetConflictError(
                f"{image_id}: somebody else saved it meanwhile (revision {record.revision}, yours "
                f"is {revision}); load it again, or save over it with the new revision"
            )
        for plane in planes:
            if plane.image_hw != record.image_hw:
                raise AnnotationError(
                    f"{image_id}: the image has {record.image_hw} pixels (height, width), its "
                    f"annotations {plane.image_hw}: these are of another image"
                )
        stored, problems = _stored(folder, name, document)
        if problems:
            folder.keep_copy(folder.annotation_path(name), folder.new_removed())
        kept = with_kept(planes, stored)
        if state is not None:
            kept = [replace(plane, state=state) for plane in kept]
        kept, content = in_dataset_categories(folder, kept)
        new = document_of(kept, content, name=name, file=record.file, revision=revision + 1)
        saved = folder.write_document(name, new)
        folder.last_saved = LastSaved(name=name, document=new, planes=_bare(kept, new))
        return saved


def _stored(
    folder: DatasetFolder, name: str, document: dict[str, Any]
) -> tuple[Sequence[AnnotatedImage], list[Problem]]:
    # masks take long to decode, and people save the same image again every few seconds
    last = folder.last_saved
    if last is not None and last.name == name and last.document == document:
        return last.planes, []
    return stored_planes(folder, name, document)


def _bare(planes: Sequence[AnnotatedImage], document: dict[str, Any]) -> list[AnnotatedImage]:
    """Return planes without instances, with the ids that a document gave to all that they hold."""
    ids: dict[Any, dict[Any, Any]] = {entry["id"]: {} for entry in document["images"]}
    for annotation in document["annotations"]:
        uuid = attributes_of(annotation).get("uuid")
        ids[annotation["image_id"]][uuid] = annotation["id"]
    bare = []
    for plane, (image_id, given) in zip(planes, ids.items(), strict=True):
        nobody = InstanceSet.empty(plane.image_hw, plane.categories)
        extras = {u: {**plane.instance_extras.get(u, {}), "id": i} for u, i in given.items()}
        bare.append(
            replace(
                plane,
                instances=nobody,
                crowds=nobody,
                image_id=image_id,
                instance_extras=extras,
            )
        )
    return bare


def set_attributes(folder: DatasetFolder, names: Iterable[str], **values: Any) -> None:
    """Set attributes of all planes of some images; None takes one away."""
    for name in names:
        # a lock for each: others can save between them
        with folder.locked():
            document = folder.read_document(name)
            changed = with_attributes(document, **values)
            if changed != document:
                folder.write_next(folder.checked(name), changed)


class StoredImages:
    """The planes of a dataset's images, read one image at a time, each time anew.

    Parameters
    ----------
    folder
        The dataset.
    splits
        Which images; None: all.
    on_problem
        Called with what cannot be taken.
    resolves_splits
        Whether each image says what split it is in, rather than what it is pinned to.
    """

    def __init__(
        self,
        folder: DatasetFolder,
        splits: frozenset[Split] | None,
        on_problem: Callable[[Problem], None],
        *,
        resolves_splits: bool = False,
    ) -> None:
        self._folder, self._splits, self._on_problem = folder, splits, on_problem
        self._resolves_splits = resolves_splits

    def __iter__(self) -> Iterator[AnnotatedImage]:
        for entry in self._folder.entries():
            if self._splits is None or entry.split in self._splits:
                for plane in self._planes(entry.image_id):
                    yield replace(plane, split=entry.split) if self._resolves_splits else plane

    def _planes(self, name: str) -> Iterator[AnnotatedImage]:
        path = self._folder.annotation_path(name)
        try:
            document = self._folder.read_document(name)
            planes, problems = stored_planes(self._folder, name, document)
        except AnnotationError as error:
            message = str(error).removeprefix(f"{path}: ")
            self._on_problem(Problem(path=path, entry="", message=message))
            return
        for problem in problems:
            self._on_problem(problem)
        place = self._image_of(record_of_document(document, name))
        for plane in planes:
            yield replace(plane, path=place)

    def _image_of(self, record: ImageRecord) -> Path | None:
        """Return the image file, if it is the one that came in: others are told and left out."""
        try:
            path = image_path(self._folder, record)
            if record.file.reference and not record.file.sha256:
                raise ImageChangedError(f"{path} is referenced without saying which file it is")
            if record.file.reference:
                # whoever wrote the dataset may not be whoever owns the file
                verify_image(self._folder, record, None)
            elif not is_inside(path, self._folder.root):
                raise ImageChangedError(f"{path} is a link out of the dataset")
        except ImageMissingError:
            return None
        except ImageChangedError as error:
            self._on_problem(
                Problem(
                    path=self._folder.annotation_path(record.name),
                    entry="",
                    message=str(error).removeprefix(f"{record.name}: "),
                )
            )
            return None
        return path


def found_path(folder: DatasetFolder, record: ImageRecord) -> Path | None:
    """Return where the file of an image is; None if it is missing."""
    place = folder.image_place(record)
    return place if place.is_file() else None
