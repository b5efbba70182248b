"""Looks through a dataset for label mistakes, with a model."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.core.progress import CancelToken, Progress
from napari_deeppixel.dataset.annotated import Split
from napari_deeppixel.dataset.store import Dataset
from napari_deeppixel.engine.base import CANDIDATE_SCORE, Engine, PredictOptions
from napari_deeppixel.training.mistake import MATCH_IOU, Mistake, MistakeKind
from napari_deeppixel.training.mistakes import BELIEVED_SCORE, find_mistakes
from napari_deeppixel.training.mistakes_file import MistakeList
from napari_deeppixel.training.pixels import PixelCache
from napari_deeppixel.training.samples import Sample, read_split
from napari_deeppixel.training.summary import summarise


def search_mistakes(
    folder: Path,
    engine: Engine,
    *,
    splits: Iterable[Split] = (Split.TRAIN, Split.VAL),
    score: float | None = None,
    cancel: CancelToken | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> MistakeList:
    """Return likely mistakes among the annotations of a dataset, the worst first.

    Objects that a person rejected before are not told as missing.

    Parameters
    ----------
    folder
        A dataset; a folder with ``train/`` and ``val/``; or one with ``instances.json`` (COCO).
    engine
        The model.
    splits
        Which images of a dataset; those without an image to learn from are passed over.
    score
        From which on the model is believed; None: 0.7, or the model's own if that is higher.

    Raises
    ------
    AnnotationError
        If there is no annotated image, or one cannot be read.
    RunCancelled
        If somebody asked to stop.
    """
    splits = tuple(splits)
    samples = _samples_in(folder, splits, engine)
    predictions = _predictions_of(samples, engine, cancel=cancel, on_progress=on_progress)
    believed = max(BELIEVED_SCORE, engine.spec.score) if score is None else score
    found = find_mistakes(samples, predictions, score=believed)
    is_any_missing = any(mistake.kind is MistakeKind.MISSING for mistake in found)
    if is_any_missing and Dataset.is_dataset(folder):
        rejected = _rejected_in(folder, splits)
        found = [mistake for mistake in found if not _is_rejected(mistake, rejected)]
    return MistakeList(
        mistakes=tuple(found),
        dataset=str(folder.absolute()),
        model=engine.source,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _samples_in(folder: Path, splits: Sequence[Split], engine: Engine) -> list[Sample]:
    if Dataset.is_dataset(folder):
        num_images = summarise(folder).num_images
        folders = [folder / split for split in splits if num_images[split]]
    elif (folder / "instances.json").is_file():
        folders = [folder]
    else:
        folders = [f for f in (folder / split for split in splits) if f.is_dir()]
    if not folders:
        raise AnnotationError(
            f"{folder}: no complete image is in the splits {', '.join(splits)}; mark images or "
            "regions complete first: elsewhere nobody knows what is missing"
        )
    cache = PixelCache()
    return [
        sample
        for each in folders
        for sample in read_split(each, engine.spec.normalization, cache=cache)
    ]


def _predictions_of(
    samples: Sequence[Sample],
    engine: Engine,
    *,
    cancel: CancelToken | None,
    on_progress: Callable[[Progress], None] | None,
) -> list[InstanceSet]:
    found = []
    for number, sample in enumerate(samples):
        if on_progress is not None:
            on_progress(Progress(fraction=number / len(samples), message=sample.file_name))
        options = PredictOptions(score=CANDIDATE_SCORE)
        (prediction,) = engine.predict([sample.pixels], options, cancel=cancel)
        found.append(prediction.candidates)
        if cancel is not None:
            cancel.raise_if_cancelled()
    return found


_Places = dict[tuple[str, PlaneIndex], list[CroppedMask]]


def _rejected_in(folder: Path, splits: Sequence[Split]) -> _Places:
    """Return what a person said is no object in some splits, by image and plane."""
    rejected: _Places = {}
    for image in Dataset.open(folder).annotated(splits):
        for mask, state in zip(image.instances.masks, image.instances.states, strict=True):
            if state is InstanceState.REJECTED:
                rejected.setdefault((image.file_name, image.plane), []).append(mask)
    return rejected


def _is_rejected(mistake: Mistake, rejected: _Places) -> bool:
    mask = mistake.mask
    if mistake.kind is not MistakeKind.MISSING or mask is None:
        return False
    known = rejected.get((mistake.file_name, mistake.plane), ())
    return any(mask.iou(other) >= MATCH_IOU for other in known)
