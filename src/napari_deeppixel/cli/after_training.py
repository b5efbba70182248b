"""What ``napari-deeppixel train`` does once the weights are there, if it is asked to."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_deeppixel.core.progress import CancelToken
from napari_deeppixel.dataset.annotated import Split
from napari_deeppixel.engine.weights import load_model
from napari_deeppixel.training.compare import compare, models_to_compare
from napari_deeppixel.training.events import Compared, MistakesFound
from napari_deeppixel.training.mistake_search import search_mistakes
from napari_deeppixel.training.mistakes_file import save_mistakes
from napari_deeppixel.training.run_folder import RunFolder
from napari_deeppixel.training.samples import Sample


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """A run that has ended.

    Attributes
    ----------
    dataset
        What it was trained on.
    run
        Where the weights are.
    val
        Samples to choose by.
    device
        torch device.
    data_hash
        Of what was in the dataset.
    """

    dataset: Path
    run: RunFolder
    val: Sequence[Sample]
    device: str
    data_hash: str


def compare_trained(trained: Trained, cancel: CancelToken) -> Compared:
    """Compare base, current and new on the images to choose by; return where it is written."""
    path = trained.run.comparison
    comparison = compare(
        models_to_compare(trained.run.best),
        trained.val,
        path=path,
        dataset=trained.dataset.resolve().name,
        data_hash=trained.data_hash,
        split=Split.VAL,
        device=trained.device,
        cancel=cancel,
    )
    comparison.save(path)
    verdict = comparison.verdict
    return Compared(path=path, is_better=verdict.is_better, reason=verdict.reason)


def find_mistakes_of(trained: Trained, cancel: CancelToken) -> MistakesFound:
    """List likely mistakes of the annotations by the new weights; return where they are written."""
    found = search_mistakes(
        trained.dataset,
        load_model(trained.run.best, device=trained.device),
        splits=[Split.TRAIN, Split.VAL] if trained.val else [Split.TRAIN],
        cancel=cancel,
    )
    save_mistakes(trained.run.mistakes, found)
    return MistakesFound(path=trained.run.mistakes, count=found.num_open)
