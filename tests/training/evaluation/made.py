"""Tiny truths and predictions that a person can count."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tests.training.datasets import CELLS, instances_of

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.training.evaluation.truth import Truth

IMAGE_HW = (40, 60)


def truth_with(
    *masks: CroppedMask,
    table: CategoryTable = CELLS,
    ids: Sequence[int] | None = None,
    crowds: Sequence[CroppedMask] = (),
    image_hw: tuple[int, int] = IMAGE_HW,
    **fields: Any,
) -> Truth:
    """Return a truth of some masks and crowds, all of the first category unless told."""
    chosen = np.array(ids if ids is not None else [table.categories[0].id] * len(masks), int)
    values: dict[str, Any] = {"file_name": "a.png", "path": Path("a.png")} | fields
    return Truth(
        instances=instances_of(masks, image_hw, table, category_ids=chosen),
        crowds=instances_of(crowds, image_hw, table),
        **values,
    )


def found_with(
    *scored: tuple[CroppedMask, float],
    table: CategoryTable = CELLS,
    ids: Sequence[int] | None = None,
    image_hw: tuple[int, int] = IMAGE_HW,
    **fields: Any,
) -> InstanceSet:
    """Return predictions of masks with scores."""
    chosen = np.array(ids if ids is not None else [table.categories[0].id] * len(scored), int)
    return instances_of(
        [mask for mask, _ in scored],
        image_hw,
        table,
        scores=np.array([score for _, score in scored], float),
        category_ids=chosen,
        **fields,
    )
