"""Datasets to try things on."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tests.dataset.made import CELLS

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.dataset.annotated import AnnotatedImage
from napari_deeppixel.dataset.store import Dataset, Fault

# height, width
HW = (6, 8)


def new_dataset(tmp_path: Path, **others: Any) -> Dataset:
    """Return an empty dataset with the categories nucleus (4) and cell body (2)."""
    return Dataset.create(tmp_path / "set", categories=CELLS, **others)


def write_image(path: Path, level: int = 0, image_hw: tuple[int, int] = HW) -> Path:
    """Write a grey PNG, another one for each level; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(image_hw, level, np.uint8)).save(path, format="PNG")
    return path


def squares(
    *corners_yx: tuple[int, int],
    name: str = "made.png",
    table: CategoryTable = CELLS,
    state: InstanceState = InstanceState.DRAWN,
    **others: Any,
) -> AnnotatedImage:
    """Return a plane of 6 x 8 with squares of 2 x 2 at some corners."""
    square = np.ones((2, 2), np.bool_)
    masks = tuple(CroppedMask(pixels=square, y=y, x=x) for y, x in corners_yx)
    instances = InstanceSet(
        image_hw=HW, masks=masks, categories=table, states=(state,) * len(masks)
    )
    return AnnotatedImage.of(name, instances, **others)


def annotation_path(dataset: Dataset, image_id: str) -> Path:
    return dataset.path / "annotations" / f"{image_id}.json"


def document_of(dataset: Dataset, image_id: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(annotation_path(dataset, image_id).read_text())
    return document


def put_document(dataset: Dataset, image_id: str, document: Any) -> None:
    """Write an annotation file as another program would."""
    annotation_path(dataset, image_id).write_text(json.dumps(document))


def names(dataset: Dataset) -> list[str]:
    return [entry.file_name for entry in dataset.entries()]


def faults_of(dataset: Dataset) -> list[Fault]:
    return [event for event in dataset.check() if isinstance(event, Fault)]


def files_below(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
