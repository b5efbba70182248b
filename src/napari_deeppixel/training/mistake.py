"""One likely mistake among annotations."""

import hashlib
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.mask import CroppedMask

# two masks of one object (Lin et al. 2014, COCO: IoU 0.5 is a match)
MATCH_IOU = 0.5


class MistakeKind(StrEnum):
    """What seems to be wrong."""

    MISSING = "missing"
    SPURIOUS = "spurious"
    OUTLINE = "outline"
    CATEGORY = "category"


class MistakeAnswer(StrEnum):
    """What a person said about it."""

    OPEN = "open"
    FIXED = "fixed"
    DISMISSED = "dismissed"


@dataclass(frozen=True, kw_only=True, eq=False)
class Mistake:
    """One annotation that may be wrong, or one that may be missing.

    Attributes
    ----------
    file_name, plane
        Of the image, as the dataset names it.
    kind, reason
        What seems to be wrong, and why, in a sentence.
    severity
        0 to 1: how likely it is a mistake, and a bad one.
    uuid
        Of the annotation; empty: there is none.
    box_xyxy
        Where to look.
    image_hw
        Size of the plane.
    mask
        What the model sees there; None for a spurious annotation.
    score, source
        Of the model's mask.
    category
        Name of the category that the annotation should have, as the model sees it.
    more_masks
        Further objects that the model sees in the annotation.
    more_uuids
        Further annotations that are one object with this one.
    mask_hash
        `hash_of` the annotation's mask when it was looked at: with another one, the mistake is
        settled.
    answer
        What a person said.
    """

    file_name: str
    plane: PlaneIndex
    kind: MistakeKind
    reason: str
    severity: float
    uuid: str
    box_xyxy: tuple[int, int, int, int]
    image_hw: tuple[int, int]
    mask: CroppedMask | None = None
    score: float = float("nan")
    source: str = ""
    category: str = ""
    more_masks: tuple[CroppedMask, ...] = ()
    more_uuids: tuple[str, ...] = ()
    mask_hash: str = ""
    answer: MistakeAnswer = MistakeAnswer.OPEN

    @property
    def is_open(self) -> bool:
        """Whether nobody has said anything about it."""
        return self.answer is MistakeAnswer.OPEN


def hash_of(mask: CroppedMask) -> str:
    """Return a short text that is another for masks of other pixels."""
    what = f"{mask.box_xyxy}".encode() + np.packbits(mask.pixels).tobytes()
    return hashlib.sha256(what).hexdigest()[:16]
