"""What the Data tab does to a dataset in a thread."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import AnnotationError, DeepPixelError
from napari_deeppixel.core.progress import CancelToken, Progress
from napari_deeppixel.dataset.image_entry import Storage
from napari_deeppixel.dataset.image_folder import ImageFolder
from napari_deeppixel.dataset.store import Added, Dataset
from napari_deeppixel.widgets.worker import ReportProgress

_MAX_TOLD = 3


@dataclass(frozen=True, kw_only=True)
class AddedFiles:
    """What became of some image files.

    Attributes
    ----------
    added, known
        Ids of images that came in, and of those whose content was there already.
    failed
        Why others did not come in.
    """

    added: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()

    def summary(self) -> str:
        """Return what to tell the person."""
        parts = []
        if self.added or not (self.known or self.failed):
            parts.append(f"{_images(len(self.added))} added.")
        if self.known:
            verb = "was" if len(self.known) == 1 else "were"
            parts.append(f"{_images(len(self.known))} {verb} there already.")
        if self.failed:
            told = "; ".join(self.failed[:_MAX_TOLD])
            more = len(self.failed) - _MAX_TOLD
            told += f"; and {more:,} more" if more > 0 else ""
            parts.append(f"Not added: {told}.")
        return " ".join(parts)


def _images(number: int) -> str:
    return f"{number:,} image{'' if number == 1 else 's'}"


def add_files(
    dataset: Dataset,
    paths: Sequence[Path],
    storage: Storage,
    cancel: CancelToken,
    report: ReportProgress,
) -> Iterator[AddedFiles]:
    """Add image files, and those in folders; yield once what became of them.

    What cannot be added does not keep the others out; after a cancel, what came in stays.
    """
    report(Progress(fraction=0.0, message="looking for images"))
    files: list[Path] = []
    failed: list[str] = []
    for path in paths:
        found = list(ImageFolder(path).paths) if path.is_dir() else [path]
        if not found:
            failed.append(f"{path.name}: no images in this folder")
        files += found
    added: list[str] = []
    known: list[str] = []
    for number, path in enumerate(files):
        if cancel.is_cancelled:
            break
        report(Progress(fraction=number / len(files), message=path.name))
        try:
            one = dataset.add_file(path, storage=storage)
        except (DeepPixelError, OSError) as error:
            failed.append(_about(path, error))
            continue
        (added if one.is_new else known).append(one.entry.image_id)
    yield AddedFiles(added=tuple(added), known=tuple(known), failed=tuple(failed))


def _about(path: Path, error: Exception) -> str:
    # the whole path makes a message long
    return str(error).replace(str(path), path.name)


def open_dataset(path: Path) -> Dataset:
    """Return the dataset in a folder, or in one of the folders that hold it.

    Raises
    ------
    AnnotationError
        If there is none.
    """
    # somebody chose its folder images, or its dataset.json
    for each in (path, *path.parents[:2]):
        if Dataset.is_dataset(each):
            return Dataset.open(each)
    return Dataset.open(path)


def create_dataset(path: Path, names: str) -> Dataset:
    """Return a new dataset in an empty folder.

    Parameters
    ----------
    path
        The folder.
    names
        Of the categories, separated by commas.

    Raises
    ------
    AnnotationError
        If the folder is not empty, or the names are wrong.
    """
    wanted = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    if not wanted:
        raise AnnotationError("a dataset needs at least one category, such as nucleus")
    return Dataset.create(path, categories=CategoryTable.from_names(*wanted))


def describe_added(added: Added) -> str:
    """Return what to tell of one image that was added."""
    entry = added.entry
    if added.is_new:
        return f"{entry.file_name} is in the dataset now, with {entry.num_instances:,} instances."
    return (
        f"{entry.file_name} was in the dataset already, with {entry.num_instances:,} instances: "
        "these are as they were."
    )
