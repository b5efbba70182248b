"""``mistakes.json``: likely mistakes of a dataset, and what people said about them."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_deeppixel.core.atomic import atomic_file
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.dataset.formats.coco_rle import mask_to_rle, segmentation_to_mask
from napari_deeppixel.dataset.formats.hostile import MAX_TEXT_BYTES, read_json
from napari_deeppixel.training.mistake import MATCH_IOU, Mistake, MistakeAnswer, MistakeKind

# of the list in a dataset or a run
FILE_NAME = "mistakes.json"
FORMAT, VERSION = "napari-deeppixel mistakes", 1


@dataclass(frozen=True, kw_only=True, eq=False)
class MistakeList:
    """What a model made one think of the annotations of a dataset.

    Attributes
    ----------
    mistakes
        The worst first.
    dataset
        Folder of the images.
    model
        Name and hash of the weights.
    date
        When it was made, ISO 8601.
    """

    mistakes: tuple[Mistake, ...]
    dataset: str = ""
    model: str = ""
    date: str = ""

    @property
    def num_open(self) -> int:
        """Mistakes that nobody has said anything about."""
        return sum(mistake.is_open for mistake in self.mistakes)

    def counts(self) -> dict[MistakeKind, int]:
        """Return how many of each kind are open."""
        kinds = [mistake.kind for mistake in self.mistakes if mistake.is_open]
        return {kind: kinds.count(kind) for kind in MistakeKind}

    def answered(self, position: int, answer: MistakeAnswer) -> "MistakeList":
        """Return the list with what a person said about one."""
        mistakes = list(self.mistakes)
        mistakes[position] = replace(mistakes[position], answer=answer)
        return replace(self, mistakes=tuple(mistakes))

    def with_answers_of(self, earlier: "MistakeList") -> "MistakeList":
        """Return the list with what a person dismissed in an earlier one.

        The same mistake is one of the same kind about an annotation that has the same mask as
        then, or one that misses an object in the same place. What was *fixed* and comes again is
        open: it is not fixed.
        """
        known: dict[tuple[str, Any], list[Mistake]] = {}
        for mistake in earlier.mistakes:
            if mistake.answer is MistakeAnswer.DISMISSED:
                known.setdefault((mistake.file_name, mistake.plane), []).append(mistake)
        mistakes = [
            replace(mistake, answer=MistakeAnswer.DISMISSED)
            if any(_is_same(mistake, other) for other in known.get(_place(mistake), ()))
            else mistake
            for mistake in self.mistakes
        ]
        return replace(self, mistakes=tuple(mistakes))


def _place(mistake: Mistake) -> tuple[str, Any]:
    return mistake.file_name, mistake.plane


def _is_same(mistake: Mistake, other: Mistake) -> bool:
    if (mistake.kind, mistake.uuid, mistake.mask_hash) != (other.kind, other.uuid, other.mask_hash):
        return False
    if mistake.uuid or mistake.mask is None or other.mask is None:
        return True
    return mistake.mask.iou(other.mask) >= MATCH_IOU


def save_mistakes(path: Path, found: MistakeList) -> None:
    """Write a list, whole or not at all.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    document = {
        "format": FORMAT,
        "version": VERSION,
        "dataset": found.dataset,
        "model": found.model,
        "date": found.date,
        "mistakes": [mistake_to_json(mistake) for mistake in found.mistakes],
    }
    with atomic_file(path) as file:
        file.write(json.dumps(document, allow_nan=False, indent=1).encode())


def load_mistakes(path: Path) -> MistakeList:
    """Return the list in a file.

    Raises
    ------
    AnnotationError
        If it cannot be read, or is none.
    """
    try:
        document = read_json(path, limit=MAX_TEXT_BYTES)
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise ValueError(f"no file of label mistakes: its format is not {FORMAT!r}")
        if document.get("version") != VERSION:
            raise ValueError(
                f"version {document.get('version')!r}, but this program reads {VERSION}: make the "
                "list anew with napari-deeppixel mistakes"
            )
        return MistakeList(
            mistakes=tuple(_mistake_of(value) for value in document["mistakes"]),
            dataset=str(document["dataset"]),
            model=str(document["model"]),
            date=str(document["date"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, AnnotationError) as error:
        told = str(error).removeprefix(f"{path}: ")
        raise AnnotationError(f"{path} cannot be read ({told})") from error


def mistake_to_json(mistake: Mistake) -> dict[str, Any]:
    """Return a mistake as JSON; masks are COCO's packed run lengths."""
    return {
        "file_name": mistake.file_name,
        "plane": list(mistake.plane),
        "kind": mistake.kind.value,
        "reason": mistake.reason,
        "severity": round(mistake.severity, 4),
        "uuid": mistake.uuid,
        "box_xyxy": list(mistake.box_xyxy),
        "image_hw": list(mistake.image_hw),
        "segmentation": _packed([mistake.mask] if mistake.mask else [], mistake.image_hw),
        "score": None if math.isnan(mistake.score) else mistake.score,
        "source": mistake.source,
        "category": mistake.category,
        "more_segmentations": _packed(mistake.more_masks, mistake.image_hw),
        "more_uuids": list(mistake.more_uuids),
        "mask_hash": mistake.mask_hash,
        "answer": mistake.answer.value,
    }


def _packed(masks: Sequence[CroppedMask], image_hw: tuple[int, int]) -> list[Any]:
    return [mask_to_rle(mask, image_hw) for mask in masks]


def _mistake_of(value: dict[str, Any]) -> Mistake:
    height, width = (int(side) for side in value["image_hw"])
    x1, y1, x2, y2 = (int(edge) for edge in value["box_xyxy"])
    masks = _unpacked(value["segmentation"], (height, width))
    return Mistake(
        file_name=str(value["file_name"]),
        plane=tuple(int(step) for step in value["plane"]),
        kind=MistakeKind(value["kind"]),
        reason=str(value["reason"]),
        severity=float(value["severity"]),
        uuid=str(value["uuid"]),
        box_xyxy=(x1, y1, x2, y2),
        image_hw=(height, width),
        mask=masks[0] if masks else None,
        score=math.nan if value["score"] is None else float(value["score"]),
        source=str(value["source"]),
        category=str(value["category"]),
        more_masks=_unpacked(value["more_segmentations"], (height, width)),
        more_uuids=tuple(str(uuid) for uuid in value["more_uuids"]),
        mask_hash=str(value["mask_hash"]),
        answer=MistakeAnswer(value["answer"]),
    )


def _unpacked(values: list[Any], image_hw: tuple[int, int]) -> tuple[CroppedMask, ...]:
    masks = [segmentation_to_mask(value, image_hw) for value in values]
    return tuple(mask for mask in masks if mask is not None)
