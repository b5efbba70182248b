"""Annotations from one format into another, with a report of what gets lost before it does."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.instance import InstanceState
from napari_deeppixel.core.progress import CancelToken
from napari_deeppixel.dataset.annotated import (
    AnnotatedImage,
    AnnotatedImages,
    ImageState,
    in_common_table,
)
from napari_deeppixel.dataset.formats.base import Problem, ReadSource, WriteTarget
from napari_deeppixel.dataset.formats.loss import LossMeter, LossReport
from napari_deeppixel.dataset.formats.registry import format_to_write, get_format, guess_format
from napari_deeppixel.dataset.image_folder import ImageFolder, is_inside

# formats that hold states and pins in the open; other programs know nothing of our keys in the rest
_HOLD_ALL = ("dataset", "coco")


class Annotations:
    """Annotations of any format; each pass reads them anew, so that no more than one file is held.

    Parameters
    ----------
    path
        File or folder.
    format_name
        As in the registry; None: guessed.
    images_dir
        Where the images are; None: the folder itself, or that of the file.
    default_category
        Name for instances of formats that know no categories.

    Attributes
    ----------
    problems
        What could not be taken as it is in the last pass.
    resolves_splits
        Whether images of a dataset say what split they are in, rather than what they are pinned to.

    Raises
    ------
    AnnotationError
        If there is nothing there, the format cannot be told, or it cannot be read.
    """

    def __init__(
        self,
        path: Path,
        *,
        format_name: str | None = None,
        images_dir: Path | None = None,
        default_category: str = "object",
    ) -> None:
        self.path = path
        self.format = get_format(format_name) if format_name else guess_format(path)
        if self.format.read is None:
            raise AnnotationError(f"{self.format.title} can be written, not read")
        for needed in (path, images_dir):
            if needed is not None and not needed.exists():
                raise AnnotationError(f"{needed}: no such file or folder")
        root = images_dir or (path if path.is_dir() else path.parent)
        self._images, self._default_category = ImageFolder(root), default_category
        self.problems: list[Problem] = []
        self.resolves_splits = False

    def __iter__(self) -> Iterator[AnnotatedImage]:
        self.problems = []
        assert self.format.read is not None  # __init__ has seen to it
        yield from self.format.read(
            ReadSource(
                path=self.path,
                images=self._images,
                default_category=self._default_category,
                resolves_splits=self.resolves_splits,
                on_problem=self.problems.append,
            )
        )


@dataclass(frozen=True, kw_only=True)
class ImageRead:
    """An image was read, to see what would be lost; `number` counts from 1."""

    number: int
    file_name: str


@dataclass(frozen=True, kw_only=True)
class ImageWritten:
    """An image was written; `number` counts from 1 to `num_images`."""

    number: int
    num_images: int
    file_name: str


@dataclass(frozen=True, kw_only=True)
class Converted:
    """All is written.

    Attributes
    ----------
    path
        What was written.
    format_title
        Its format.
    num_images, num_instances
        Planes and instances that were written.
    problems
        What could not be taken, or written, as it was.
    """

    path: Path
    format_title: str
    num_images: int
    num_instances: int
    problems: tuple[Problem, ...]


class Conversion:
    """One conversion: `survey` first, then `write`; both tell where they are, image by image.

    Parameters
    ----------
    source
        Images to write: `Annotations`, or any that can be gone through more than once.
    path
        File or folder to write.
    format_name
        As in the registry; None: by the ending of `path`, a folder being a dataset.
    images_dir
        Folder to copy the images to; None: where the format wants them.
    copies_images
        Whether a format of a folder brings the images with it.
    state
        For all images; None: what the annotations say.
    overwrites
        Whether a file that is there is replaced, and a folder with something in it written to. A
        dataset takes more images in any case.
    keeps_rejected
        Whether instances that a person rejected are written; None: where the format says of each
        what people said of it, and is read by programs that ask. Elsewhere they would pass for
        objects.

    Attributes
    ----------
    loss
        What gets lost; None before `survey` has ended.
    num_missing
        Images whose file was not found, likewise.

    Raises
    ------
    AnnotationError
        If the format cannot be told, or cannot be written.
    """

    def __init__(
        self,
        source: AnnotatedImages,
        path: Path,
        *,
        format_name: str | None = None,
        images_dir: Path | None = None,
        copies_images: bool = True,
        state: ImageState | None = None,
        overwrites: bool = False,
        keeps_rejected: bool | None = None,
    ) -> None:
        self._source, self._path, self._state = source, path, state
        self.format = get_format(format_name) if format_name else format_to_write(path)
        if self.format.write is None:
            raise AnnotationError(f"{self.format.title} can be read, not written")
        self._images_dir, self._copies_images = images_dir, copies_images
        if isinstance(source, Annotations):
            # other programs know nothing of the dataset's rule
            source.resolves_splits = self.format.name not in _HOLD_ALL
        self._keeps_rejected = (
            self.format.name in _HOLD_ALL if keeps_rejected is None else keeps_rejected
        )
        self._table = CategoryTable(categories=())
        self.loss: LossReport | None = None
        self.num_missing = 0
        self._refuse_own_source()
        if not overwrites and self.format.name != "dataset":
            self._refuse_occupied()

    def _refuse_occupied(self) -> None:
        if self._path.is_dir() and any(self._path.iterdir()):
            raise AnnotationError(
                f"{self._path}: there is something in this folder, which could be mixed up with "
                "what is written; choose an empty one, or allow to overwrite"
            )
        if self._path.is_file():
            raise AnnotationError(f"{self._path} is there already; allow to overwrite it")

    def _refuse_own_source(self) -> None:
        if not isinstance(self._source, Annotations) or not self._path.exists():
            return
        source = self._source.path
        # a dataset never writes over a file that it did not make; other folders may
        is_around = self._path.is_dir() and self.format.name != "dataset"
        is_same = source.exists() and (
            self._path.samefile(source)
            or (source.is_dir() and is_inside(self._path, source))
            or (source.is_file() and is_around and is_inside(source, self._path))
        )
        if is_same:
            raise AnnotationError(
                f"{self._path}: the annotations are read from there; write elsewhere"
            )

    @property
    def source_format(self) -> str | None:
        """Name of the format of the source; None if it is no file."""
        return self._source.format.name if isinstance(self._source, Annotations) else None

    @property
    def source_problems(self) -> tuple[Problem, ...]:
        """What could not be taken as it is, of the last pass through the source."""
        return tuple(self._source.problems) if isinstance(self._source, Annotations) else ()

    def survey(self, cancel: CancelToken | None = None) -> Iterator[ImageRead]:
        """Read all images and work out what the format loses of them; nothing is written.

        Parameters
        ----------
        cancel
            Looked at before each image.

        Raises
        ------
        AnnotationError
            If the source cannot be read, or holds no image.
        RunCancelled
            If somebody asked to stop.
        """
        table, meter = CategoryTable(categories=()), LossMeter(self.format)
        self.num_missing = 0
        for image in self._watched(cancel):
            table, _ = table.joined_with(image.categories)
            self.num_missing += image.path is None
            self._refuse_image(image)
            meter.add(image if self._keeps_rejected else self._without_rejected(image, meter))
            yield ImageRead(number=meter.report.num_images, file_name=image.file_name)
        if not meter.report.num_images:
            raise AnnotationError(f"nothing to convert: no image was found{self._why_none()}")
        self._table, self.loss = table, meter.report

    def _refuse_image(self, image: AnnotatedImage) -> None:
        if image.path is not None and self._path.is_file() and self._path.samefile(image.path):
            raise AnnotationError(f"{self._path}: that is the image itself; write elsewhere")

    def _why_none(self) -> str:
        problems = self.source_problems
        return f": {problems[0]}" if problems else ""

    def write(self, cancel: CancelToken | None = None) -> Iterator[ImageWritten | Converted]:
        """Write all images; the last event is `Converted`.

        Parameters
        ----------
        cancel
            Looked at before each image.

        Raises
        ------
        ValueError
            If `survey` has not ended.
        AnnotationError
            If something cannot be written as the format wants it.
        OSError
            If a file cannot be written.
        RunCancelled
            If somebody asked to stop; what was written stays.
        """
        if self.loss is None:
            raise ValueError("survey first: nothing is written before it is known what gets lost")
        problems: list[Problem] = []
        target = WriteTarget(
            path=self._path,
            categories=self._table,
            images_dir=self._images_dir,
            copies_images=self._copies_images,
            on_problem=problems.append,
        )
        assert self.format.write is not None  # __init__ has seen to it
        num_instances = number = 0
        for number, image in enumerate(self.format.write(self._prepared(cancel), target), start=1):
            num_instances += len(image.instances)
            yield ImageWritten(
                number=number, num_images=self.loss.num_images, file_name=image.file_name
            )
        yield Converted(
            path=self._path,
            format_title=self.format.title,
            num_images=number,
            num_instances=num_instances,
            problems=self.source_problems + tuple(problems),
        )

    def _prepared(self, cancel: CancelToken | None) -> Iterator[AnnotatedImage]:
        for image in self._watched(cancel):
            kept = image if self._keeps_rejected else self._without_rejected(image)
            yield in_common_table(kept, self._table)

    @staticmethod
    def _without_rejected(image: AnnotatedImage, meter: LossMeter | None = None) -> AnnotatedImage:
        kept = [state is not InstanceState.REJECTED for state in image.instances.states]
        if all(kept):
            return image
        if meter is not None:
            meter.add_rejected(len(kept) - sum(kept))
        return replace(image, instances=image.instances.select(np.array(kept, np.bool_)))

    def _watched(self, cancel: CancelToken | None) -> Iterator[AnnotatedImage]:
        for image in self._source:
            if cancel is not None:
                cancel.raise_if_cancelled()
            yield image if self._state is None else replace(image, state=self._state)
