"""Segment image files one after the other and write the results beside each other."""

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from PIL import Image

from napari_deeppixel.batch.inputs import image_stem, result_stems
from napari_deeppixel.batch.overlay import draw_overlay
from napari_deeppixel.core.errors import DeepPixelError, ImageError
from napari_deeppixel.core.image import ImageArray, PlaneIndex, pick_channels
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.progress import CancelToken, Progress
from napari_deeppixel.dataset.annotated import AnnotatedImage
from napari_deeppixel.dataset.formats.coco import write_coco
from napari_deeppixel.dataset.formats.label_tiff import HiddenByOverlap, write_label_tiff
from napari_deeppixel.dataset.image_file import read_image
from napari_deeppixel.engine.base import Engine, PredictOptions, cap_message
from napari_deeppixel.engine.planes import predict_planes


class ResultFormat(StrEnum):
    """What is written for each image."""

    LABELS = "labels"
    COCO = "coco"
    OVERLAY = "overlay"


@dataclass(frozen=True, kw_only=True)
class FileStarted:
    """An image is about to be read; `number` counts from 1 to `num_files`."""

    path: Path
    number: int
    num_files: int


@dataclass(frozen=True, kw_only=True)
class PlaneDone:
    """One plane was segmented; `number` counts from 1 to `num_planes`."""

    path: Path
    plane: PlaneIndex
    number: int
    num_planes: int
    count: int


@dataclass(frozen=True, kw_only=True)
class FileDone:
    """An image was segmented and its results are written.

    Attributes
    ----------
    path
        The image.
    num_planes, count
        Planes, and instances in all of them.
    mean_score, mean_area_px
        Over all instances; NaN without any.
    outputs
        Files that were written.
    hidden
        What the label TIFF cannot show; None if none was written.
    warnings
        Sentences for the person: the limit of instances, parts that were not read, a changed
        name.
    seconds
        Time from opening to the last file written.
    """

    path: Path
    num_planes: int
    count: int
    mean_score: float
    mean_area_px: float
    outputs: tuple[Path, ...]
    hidden: HiddenByOverlap | None
    warnings: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class FileFailed:
    """An image could not be read, segmented or written; nothing of it was written."""

    path: Path
    message: str
    seconds: float


FileEvent = FileStarted | PlaneDone | FileDone | FileFailed


def segment_files(
    paths: Sequence[Path],
    engine: Engine,
    options: PredictOptions,
    *,
    output: Path,
    formats: Sequence[ResultFormat] = tuple(ResultFormat),
    overwrite: bool = False,
    cancel: CancelToken | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Iterator[FileEvent]:
    """Segment images, write their results to a folder, and yield what happens.

    An image that fails is told of and the others go on. The results of an image appear together
    when its last plane is done, each of them whole.

    Parameters
    ----------
    paths
        Image files; `batch.inputs.find_images` gives them for folders and patterns.
    engine, options
        What segments, and how.
    output
        Folder for the results; made if missing. ``<stem>_labels.tif``, ``<stem>_coco.json`` and
        ``<stem>_overlay.png``, for a stack one overlay a plane: ``<stem>_overlay_t0003.png``.
        See `batch.inputs.result_stems` for images of one name.
    formats
        Which of these to write.
    overwrite
        Replace results that are there already. Otherwise their image fails, as corrections may
        have been saved in them.
    cancel
        Stops at the next layer of the network.
    on_progress
        Called with the share of the current image that is done.

    Raises
    ------
    RunCancelled
        If `cancel` was set.
    OSError
        If the folder cannot be made.
    """
    output.mkdir(parents=True, exist_ok=True)
    stems = result_stems(paths)
    run = _Run(
        engine=engine,
        options=options,
        output=output,
        formats=frozenset(formats),
        overwrite=overwrite,
        inputs=frozenset(path.resolve() for path in paths),
        cancel=cancel,
        on_progress=on_progress,
    )
    for number, path in enumerate(paths, start=1):
        yield FileStarted(path=path, number=number, num_files=len(paths))
        started = time.monotonic()
        try:
            yield from _segment_file(path, stems[path], run, started)
        except (DeepPixelError, OSError, MemoryError) as error:
            yield FileFailed(
                path=path,
                message=_sentence(error, path),
                seconds=time.monotonic() - started,
            )


def _sentence(error: Exception, path: Path) -> str:
    if isinstance(error, MemoryError):
        return f"{path}: not enough memory for this image"
    text = str(error)
    # checks that know the image alone quote its name
    return text if str(path) in text else f"{path}: {text.removeprefix(f'{path.name}: ')}"


@dataclass(frozen=True, kw_only=True, eq=False)
class _Run:
    """What is the same for all images of a run."""

    engine: Engine
    options: PredictOptions
    output: Path
    formats: frozenset[ResultFormat]
    overwrite: bool
    inputs: frozenset[Path]
    cancel: CancelToken | None
    on_progress: Callable[[Progress], None] | None

    @property
    def score(self) -> float:
        return self.engine.spec.score if self.options.score is None else self.options.score


def _segment_file(path: Path, stem: str, run: _Run, started: float) -> Iterator[FileEvent]:
    warnings: list[str] = []
    image = read_image(path, on_note=warnings.append)
    with _ResultFiles(run, image, stem) as files:
        planes: dict[PlaneIndex, InstanceSet] = {}
        num_planes = math.prod(image.lead_shape)
        num_capped, next_handle = 0, 1
        for index, prediction in predict_planes(
            image, run.engine, run.options, cancel=run.cancel, on_progress=run.on_progress
        ):
            num_capped += prediction.is_capped(run.score)
            found = prediction.at(score=run.score, min_area=run.options.min_area)
            planes[index] = found.with_handles_from(next_handle)
            next_handle += len(found)
            files.write_overlay(index, planes[index])
            yield PlaneDone(
                path=path, plane=index, number=len(planes), num_planes=num_planes, count=len(found)
            )
        files.write_labels(planes)
        files.write_coco(planes)
        outputs = files.commit()
    if num_capped:
        where = f" (in {num_capped} of {num_planes} planes)" if num_planes > 1 else ""
        warnings.append(cap_message(run.options.max_instances) + where)
    if stem != image_stem(path):
        warnings.append(f"another image has this name, too: the results are called {stem}_...")
    yield _file_done(path, planes, outputs, files.hidden, warnings, started)


def _file_done(
    path: Path,
    planes: dict[PlaneIndex, InstanceSet],
    outputs: tuple[Path, ...],
    hidden: HiddenByOverlap | None,
    warnings: list[str],
    started: float,
) -> FileDone:
    scores = np.concatenate([found.scores for found in planes.values()])
    areas = np.concatenate([found.areas for found in planes.values()])
    return FileDone(
        path=path,
        num_planes=len(planes),
        count=scores.size,
        mean_score=float(scores.mean()) if scores.size else math.nan,
        mean_area_px=float(areas.mean()) if areas.size else math.nan,
        outputs=outputs,
        hidden=hidden,
        warnings=tuple(warnings),
        seconds=time.monotonic() - started,
    )


class _ResultFiles:
    """The results of one image: written under temporary names, renamed together at the end.

    Raises
    ------
    ImageError
        If one is there already, or is an image of this run.
    """

    def __init__(self, run: _Run, image: ImageArray, stem: str) -> None:
        self._run, self._image, self._stem = run, image, stem
        self._temporaries: dict[Path, Path] = {}
        self.hidden: HiddenByOverlap | None = None
        self._refuse_to_replace()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for temporary in self._temporaries.values():
            temporary.unlink(missing_ok=True)

    def _names(self) -> Iterator[str]:
        if ResultFormat.LABELS in self._run.formats:
            yield self._labels_name()
        if ResultFormat.COCO in self._run.formats:
            yield self._coco_name()
        if ResultFormat.OVERLAY in self._run.formats:
            for index in self._image.plane_indices():
                yield self._overlay_name(index)

    def _labels_name(self) -> str:
        return f"{self._stem}_labels.tif"

    def _coco_name(self) -> str:
        return f"{self._stem}_coco.json"

    def _overlay_name(self, index: PlaneIndex) -> str:
        lead_axes = self._image.lead_axes
        plane = [f"_{axis}{i:04d}" for axis, i in zip(lead_axes, index, strict=True)]
        return f"{self._stem}_overlay{''.join(plane)}.png"

    def _refuse_to_replace(self) -> None:
        for name in self._names():
            path = self._run.output / name
            if path.resolve() in self._run.inputs:
                raise ImageError(
                    f"its result {path} would replace another image of this run: choose another "
                    "output folder"
                )
            if path.exists() and not self._run.overwrite:
                raise ImageError(
                    f"{path} is there already: choose another output folder, or replace it "
                    "with --overwrite"
                )

    def _temporary(self, name: str) -> Path:
        temporary = self._run.output / f".{name}.{os.getpid()}.part"
        self._temporaries[self._run.output / name] = temporary
        return temporary

    def write_overlay(self, index: PlaneIndex, instances: InstanceSet) -> None:
        if ResultFormat.OVERLAY not in self._run.formats:
            return
        plane = pick_channels(
            self._image.plane(index), self._run.options.channels, self._run.engine.spec.num_inputs
        )
        picture = Image.fromarray(draw_overlay(plane, instances))
        picture.save(self._temporary(self._overlay_name(index)), format="PNG")

    def write_labels(self, planes: dict[PlaneIndex, InstanceSet]) -> None:
        if ResultFormat.LABELS not in self._run.formats:
            return
        self.hidden = write_label_tiff(
            list(planes.values()),
            self._temporary(self._labels_name()),
            axes=f"{self._image.lead_axes}yx",
            lead_shape=self._image.lead_shape,
        )

    def write_coco(self, planes: dict[PlaneIndex, InstanceSet]) -> None:
        if ResultFormat.COCO not in self._run.formats:
            return
        file_name = self._image_from_output()
        images = [
            AnnotatedImage(
                file_name=file_name,
                instances=found,
                crowds=InstanceSet.empty(found.image_hw, found.categories),
                plane=index,
            )
            for index, found in planes.items()
        ]
        write_coco(images, self._temporary(self._coco_name()))

    def _image_from_output(self) -> str:
        """Return the way from the output folder to the image, so that readers find it."""
        source = Path(self._image.source).resolve()
        try:
            return Path(os.path.relpath(source, self._run.output.resolve())).as_posix()
        except ValueError:
            # no way leads from one Windows drive to another
            return source.as_posix()

    def commit(self) -> tuple[Path, ...]:
        """Give all results their names; return these."""
        for path, temporary in self._temporaries.items():
            temporary.replace(path)
        return tuple(sorted(self._temporaries))
