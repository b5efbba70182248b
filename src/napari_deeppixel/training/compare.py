"""Base, current and new model on the same images: the gate before a model is used."""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from napari_deeppixel.core.atomic import atomic_file
from napari_deeppixel.core.errors import AnnotationError, DeepPixelError, WeightsError
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.progress import CancelToken, Progress
from napari_deeppixel.dataset.annotated import AnnotatedImage
from napari_deeppixel.dataset.formats.coco import read_coco, write_coco
from napari_deeppixel.dataset.formats.hostile import MAX_TEXT_BYTES, read_json
from napari_deeppixel.engine.base import Engine, PredictOptions
from napari_deeppixel.engine.library import ModelLibrary
from napari_deeppixel.engine.spec_file import read_spec
from napari_deeppixel.training.evaluation.data import read_pixels
from napari_deeppixel.training.evaluation.report import (
    EvaluationReport,
    Outcome,
    evaluate_predictions,
    outcome_of,
)
from napari_deeppixel.training.evaluation.truth import Truth
from napari_deeppixel.training.run_folder import RunFolder
from napari_deeppixel.training.samples import Sample
from napari_deeppixel.training.verdict import ImageChange, Verdict, image_changes, judge

_VERSION = 1
# characters of another error in ours
_MAX_TOLD = 120

ReportProgress = Callable[[Progress], None]


class Role(StrEnum):
    """What a model is in a comparison."""

    BASE = "base"
    CURRENT = "current"
    NEW = "new"


@dataclass(frozen=True, kw_only=True)
class ComparedModel:
    """One model and how it did.

    Attributes
    ----------
    role
        What it is.
    model
        As `load_model` takes it.
    name, weights_hash
        As its instances tell them: the hash is the first 12 digits.
    report
        Its figures.
    predictions
        File of what it found, relative to the comparison's; empty: not kept. Models with the same
        weights share one.
    """

    role: Role
    model: str
    name: str
    weights_hash: str
    report: EvaluationReport
    predictions: str = ""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Models side by side.

    Attributes
    ----------
    models
        In the order of `Role`; those of the roles that were asked for.
    verdict
        Whether the new one is better than the current one.
    dataset, data_hash, split
        What they were compared on.
    date
        When, ISO 8601.
    """

    models: tuple[ComparedModel, ...]
    verdict: Verdict
    dataset: str = ""
    data_hash: str = ""
    split: str = ""
    date: str = field(default_factory=lambda: datetime.now().astimezone().isoformat("T", "seconds"))

    def of(self, role: Role) -> ComparedModel | None:
        """Return the model of a role; None if there is none."""
        return next((model for model in self.models if model.role is role), None)

    def changes(
        self, before: Role = Role.CURRENT, after: Role = Role.NEW
    ) -> tuple[ImageChange, ...]:
        """Return each image with two of the models, those that got worse first."""
        one, other = self.of(before), self.of(after)
        if one is None or other is None:
            return ()
        return image_changes(one.report.images, other.report.images)

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as a JSON object."""
        models = [
            {
                "role": model.role.value,
                "model": model.model,
                "name": model.name,
                "weights_hash": model.weights_hash,
                "predictions": model.predictions,
                "report": model.report.to_json(),
            }
            for model in self.models
        ]
        return {
            "version": _VERSION,
            "verdict": asdict(self.verdict),
            "dataset": self.dataset,
            "data_hash": self.data_hash,
            "split": self.split,
            "date": self.date,
            "models": models,
        }

    def save(self, path: Path | str) -> None:
        """Write the comparison to a file, whole or not at all.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        with atomic_file(Path(path)) as file:
            file.write(json.dumps(self.to_json(), allow_nan=False, indent=1).encode())


def load_comparison(path: Path | str) -> Comparison:
    """Return the comparison that `Comparison.save` wrote.

    Raises
    ------
    AnnotationError
        If the file is missing, or is none.
    """
    try:
        values = read_json(Path(path), limit=MAX_TEXT_BYTES)
        is_known = values.pop("version") <= _VERSION
        comparison = _from_json(values) if is_known else None
    except (ValueError, KeyError, TypeError, AttributeError, DeepPixelError) as error:
        raise AnnotationError(
            f"{path}: no comparison of models can be read ({_why(error, path)}): compare them again"
        ) from error
    if comparison is None:
        raise AnnotationError(f"{path}: of a later version of napari-deeppixel: update it")
    return comparison


def _from_json(values: dict[str, Any]) -> Comparison:
    models = tuple(
        ComparedModel(
            **{
                **model,
                "role": Role(model["role"]),
                "report": EvaluationReport.from_json(model["report"]),
            }
        )
        for model in values.pop("models")
    )
    return Comparison(models=models, verdict=Verdict(**values.pop("verdict")), **values)


def _why(error: Exception, path: Path | str) -> str:
    """Return an error of a file in a few words: some quote the whole file."""
    is_ours = isinstance(error, DeepPixelError)
    told = str(error).removeprefix(f"{path}: ") if is_ours else f"{type(error).__name__}: {error}"
    told = told.splitlines()[0]
    return told if len(told) <= _MAX_TOLD else f"{told[:_MAX_TOLD]}…"


def models_to_compare(
    new: str | Path, *, current: str | None = None, base: str | None = None
) -> dict[Role, str]:
    """Return the model of each role.

    Parameters
    ----------
    new
        As `load_model` takes it, or the folder of a training run, of which the best weights count.
    current
        None: the one in use in the library.
    base
        None: the one that the training of `new` began with, over all its ancestors; if that is not
        known, the role stays empty.
    """
    library = ModelLibrary()
    new = str(RunFolder(Path(new)).best if Path(new).is_dir() else new)
    chosen = {Role.BASE: base or _base_of(new, library), Role.CURRENT: current or library.current}
    return {role: model for role, model in (chosen | {Role.NEW: new}).items() if model}


def _base_of(model: str, library: ModelLibrary) -> str:
    path = library.find(model) or Path(model)
    if path.suffix != ".safetensors" or not path.is_file():
        # of the catalogue, or a bare state dict, which says nothing of itself
        return ""
    return library.base_of(read_spec(path))


def compare(
    models: Mapping[Role, str],
    samples: Sequence[Sample | Truth],
    *,
    path: Path | None = None,
    dataset: str = "",
    data_hash: str = "",
    split: str = "",
    device: str = "auto",
    on_progress: ReportProgress | None = None,
    cancel: CancelToken | None = None,
) -> Comparison:
    """Return models side by side on the same images, each at its own score.

    Models with the same weights are asked once.

    Parameters
    ----------
    models
        Of each role, as `load_model` takes them; current and new at least.
    samples
        The images.
    path
        Where the comparison will be saved: what each model found is written beside it, for
        `outcome_from_file`. None: nothing is written.
    dataset, data_hash, split
        What the images are, to be told.
    device
        As for `load_model`.

    Raises
    ------
    WeightsError
        If a model cannot be loaded, or current or new is not given.
    RunCancelled
        If `cancel` was set meanwhile.
    """
    for role in (Role.CURRENT, Role.NEW):
        if role not in models:
            raise WeightsError(f"a comparison needs a {role} model, got {list(models)}")
    cancel = cancel or CancelToken()
    roles = [role for role in Role if role in models]
    done: dict[str, ComparedModel] = {}
    for number, role in enumerate(roles):
        model = models[role]
        if model not in done:
            report = _part_of(on_progress, number, len(roles))
            engine = _load(model, device, cancel, report)
            weights_hash = _hash_of(engine)
            twin = next((m for m in done.values() if weights_hash == m.weights_hash != ""), None)
            one = twin or _evaluated(engine, samples, role, path, cancel, report)
            done[model] = replace(one, model=model, name=engine.spec.name)
    compared = {role: replace(done[models[role]], role=role) for role in roles}
    return Comparison(
        models=tuple(compared.values()),
        verdict=_verdict(compared[Role.CURRENT], compared[Role.NEW]),
        dataset=dataset,
        data_hash=data_hash,
        split=split,
    )


def _verdict(current: ComparedModel, new: ComparedModel) -> Verdict:
    if current.weights_hash == new.weights_hash != "":
        return Verdict(
            is_better=False, reason=f"{new.name} and {current.name} are the same weights."
        )
    return judge(current.report, new.report)


def _part_of(on_progress: ReportProgress | None, number: int, total: int) -> ReportProgress:
    """Return what tells how far one of several parts is as how far the whole is."""

    def report(inside: Progress) -> None:
        if on_progress is not None:
            fraction = (number + min(inside.fraction, 1.0)) / total
            on_progress(Progress(fraction=fraction, message=inside.message))

    return report


def _hash_of(engine: Engine) -> str:
    return engine.source.removeprefix(engine.spec.name).removeprefix("@")


def _load(model: str, device: str, cancel: CancelToken, report: ReportProgress) -> Engine:
    # imported here: torch takes seconds, and windows read comparisons without it
    from napari_deeppixel.engine.weights import load_model

    report(Progress(fraction=0.0, message=f"loading {model}"))
    engine: Engine = load_model(model, device=device, cancel=cancel)
    return engine


def _evaluated(
    engine: Engine,
    samples: Sequence[Sample | Truth],
    role: Role,
    path: Path | None,
    cancel: CancelToken,
    report: ReportProgress,
) -> ComparedModel:
    found = []
    for number, sample in enumerate(samples):
        cancel.raise_if_cancelled()
        message = f"{role}: image {number + 1:,} of {len(samples):,}"
        report(Progress(fraction=number / (len(samples) + 1), message=message))
        (prediction,) = engine.predict([_pixels_of(sample)], PredictOptions(), cancel=cancel)
        found.append(prediction.candidates)
    report(Progress(fraction=len(samples) / (len(samples) + 1), message=f"{role}: counting"))
    return ComparedModel(
        role=role,
        model="",
        name=engine.spec.name,
        weights_hash=_hash_of(engine),
        report=evaluate_predictions(samples, found, score=engine.spec.score, cancel=cancel),
        predictions="" if path is None else _keep(found, samples, path, role),
    )


# what each model found ----------------------------------------------------------------------------


def outcome_from_file(path: Path | str, role: Role, sample: Sample | Truth) -> Outcome:
    """Return what a model of a saved comparison got right, wrong and missed; without a network.

    The file is read once for each state that it is in.

    Raises
    ------
    AnnotationError
        If the comparison or its predictions cannot be read, or hold no such model or image.
    """
    path = Path(path)
    model, found = _predictions(path, role, _stamp(path))
    prediction = found.get(_key(sample))
    if prediction is None:
        raise AnnotationError(
            f"{path}: {model.name} was not asked about {_key(sample)[0]}: compare the models again"
        )
    return outcome_of(sample, prediction, score=model.report.score)


def _key(sample: Sample | Truth) -> tuple[str, PlaneIndex]:
    name = sample.file_name or (sample.path.name if sample.path else "")
    return name, tuple(sample.plane)


def _pixels_of(sample: Sample | Truth) -> NDArray[Any]:
    return sample.pixels if isinstance(sample, Sample) else read_pixels(sample)


def _keep(
    found: Sequence[InstanceSet], samples: Sequence[Sample | Truth], path: Path, role: Role
) -> str:
    """Write what a model found beside a comparison, as COCO with scores; return the file's name."""
    target = path.with_suffix("") / f"{role}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    images = []
    for sample, instances in zip(samples, found, strict=True):
        file_name, plane = _key(sample)
        images.append(AnnotatedImage.of(file_name, instances, plane=plane))
    write_coco(images, target)
    return target.relative_to(path.parent).as_posix()


def _stamp(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError as error:
        raise AnnotationError(f"{path}: no comparison is there ({error.strerror})") from error


# base, current and new of one comparison
@functools.lru_cache(maxsize=3)
def _predictions(
    path: Path, role: Role, _mtime_ns: int
) -> tuple[ComparedModel, Mapping[tuple[str, PlaneIndex], InstanceSet]]:
    model = load_comparison(path).of(role)
    if model is None or not model.predictions:
        raise AnnotationError(f"{path}: what the {role} model found was not kept: compare again")
    images = read_coco(path.parent / model.predictions)
    return model, {(image.file_name, image.plane): image.instances for image in images}
