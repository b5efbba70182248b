"""The truth of the shipped test video, to and from its file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.dataset.formats.coco_rle import mask_to_rle, segmentation_to_mask

ROOT = Path(__file__).parents[2]
VIDEO = ROOT / "src" / "napari_deeppixel" / "samples" / "moving_nuclei.mp4"
TRUTH = ROOT / "tests" / "data" / "moving_nuclei_truth.json"
CATEGORIES = CategoryTable.from_names("nucleus")
FPS = 30


def truth_document(frames: Sequence[InstanceSet]) -> dict[str, Any]:
    """Return the truth as JSON values.

    A frame is a list of ``[id, x, y, width, height, counts]``: the box on pixel edges, and COCO's
    compressed run lengths of the mask inside that box.
    """
    return {
        "description": "Visible parts of the nuclei in moving_nuclei.mp4; see samples/README.md",
        "licence": "CC0 1.0",
        "image_hw": list(frames[0].image_hw),
        "fps": FPS,
        "frames": [[_entry(instances, k) for k in range(len(instances))] for instances in frames],
    }


def _entry(instances: InstanceSet, position: int) -> list[Any]:
    mask = instances.masks[position]
    height, width = mask.pixels.shape
    counts = mask_to_rle(mask.moved(dy=-mask.y, dx=-mask.x), (height, width))["counts"]
    return [int(instances.handles[position]), mask.x, mask.y, width, height, counts]


def read_truth(path: Path = TRUTH, *, every: int = 1) -> list[InstanceSet]:
    """Return what is to be seen in every n-th frame; handles stay with the nucleus."""
    document = json.loads(path.read_text(encoding="utf-8"))
    height, width = document["image_hw"]
    return [_instances(rows, (height, width)) for rows in document["frames"][::every]]


def _instances(rows: list[list[Any]], image_hw: tuple[int, int]) -> InstanceSet:
    masks = []
    for _, x, y, width, height, counts in rows:
        mask = segmentation_to_mask({"size": [height, width], "counts": counts}, (height, width))
        assert mask is not None
        masks.append(mask.moved(dy=y, dx=x))
    return InstanceSet(
        image_hw=image_hw,
        masks=tuple(masks),
        categories=CATEGORIES,
        handles=np.array([row[0] for row in rows], np.int64),
        sources=("truth",) * len(rows),
    )
