"""The spec in the header of a weights file; no torch here, so that the window can read it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import safetensors

from napari_deeppixel.core.errors import WeightsError
from napari_deeppixel.engine.spec import ModelSpec

SPEC_KEY = "napari_deeppixel"


def read_spec(path: Path | str) -> ModelSpec:
    """Return the spec in the header of a ``.safetensors`` file, without reading the weights.

    Raises
    ------
    WeightsError
        If the file is no such file or holds no spec.
    """
    path = Path(path)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        raise unreadable(path, error) from error
    if SPEC_KEY not in metadata:
        raise WeightsError(
            f"{path}: holds weights but no model description, so another program wrote it: "
            "convert it to a torchvision Mask R-CNN state dict (.pth), or train one here"
        )
    with naming(path):
        return ModelSpec.from_json(metadata[SPEC_KEY])


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the file's name before the message of a `WeightsError`."""
    try:
        yield
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error


def unreadable(path: Path, error: Exception) -> WeightsError:
    """Return the error for a file that cannot be read as weights."""
    return WeightsError(
        f"{path}: cannot be read as weights ({error}); it may be incomplete: copy or download it "
        "again"
    )
