"""Looks for label mistakes of the open dataset, with the model of the Detect tab."""

from collections.abc import Callable, Iterator
from pathlib import Path

from napari_deeppixel.core.progress import CancelToken
from napari_deeppixel.dataset.store import Dataset
from napari_deeppixel.engine.base import EngineKind
from napari_deeppixel.training.mistakes_file import FILE_NAME, load_mistakes, save_mistakes
from napari_deeppixel.widgets.job import EngineShelf
from napari_deeppixel.widgets.worker import ReportProgress, Work


def search_work(
    dataset: Dataset,
    shelf: EngineShelf,
    *,
    model: str,
    device: str,
    engine: EngineKind,
    save_open: Callable[[], object],
) -> Work:
    """Return the work that writes ``DATASET/mistakes.json`` and yields its path.

    Parameters
    ----------
    dataset
        Whose annotations.
    shelf
        Gives the engine.
    model, device, engine
        As `load_model` takes them.
    save_open
        Saves the image that is open, so that the disk has all.
    """

    def work(cancel: CancelToken, report: ReportProgress) -> Iterator[Path]:
        # imported here: torch takes seconds, and this runs in a thread
        from napari_deeppixel.training.mistake_search import search_mistakes

        save_open()
        path = dataset.path / FILE_NAME
        # before the long part: what was dismissed must not be lost
        earlier = load_mistakes(path) if path.is_file() else None
        loaded = shelf.engine(model, device, engine, cancel=cancel, report=report)
        found = search_mistakes(dataset.path, loaded, cancel=cancel, on_progress=report)
        save_mistakes(path, found if earlier is None else found.with_answers_of(earlier))
        yield path

    return work
