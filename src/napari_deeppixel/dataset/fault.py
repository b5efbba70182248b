"""What can be wrong with a dataset."""

from dataclasses import dataclass
from enum import StrEnum


class FaultKind(StrEnum):
    """What is wrong; the values are for people."""

    UNREADABLE = "unreadable annotations"
    BAD_ENTRY = "entry that cannot be taken as it is"
    BAD_MASK = "unreadable mask"
    EMPTY_MASK = "empty mask"
    BOX_ALONE = "box without a mask"
    OUTSIDE = "mask outside the image"
    DUPLICATE_INSTANCE = "instance twice"
    DUPLICATE_IDENTITY = "uuid or number of an instance twice"
    UNKNOWN_CATEGORY = "unknown category"
    STALE_CATEGORY = "category as it was before"
    MISSING_IMAGE = "annotations without their image"
    MOVED_IMAGE = "referenced image is not at its place"
    CHANGED_IMAGE = "image changed"
    BAD_IMAGE = "unreadable image"
    IMAGE_SIZE = "image of another size than its annotations"
    NO_HASH = "image whose content nobody noted"
    ORPHAN_IMAGE = "image without annotations"
    DUPLICATE_IMAGE = "image twice"
    CASE_TWIN = "names that some systems take for one"
    GROUP_SPLIT = "group in several splits"
    LINK = "link"
    LEFT_OVER = "left over from a process that died"
    STALE_INDEX = "index that says something else than the files"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something that is wrong with a dataset.

    Attributes
    ----------
    kind
        What it is.
    image_id
        Of which image, or which file of the dataset; empty: of the whole.
    entry
        Which annotation or group, for people; empty: the file.
    message
        What is wrong, and what to do where it cannot be repaired.
    repair
        What `Dataset.repair` would do; empty: nothing that is safe.
    """

    kind: FaultKind
    image_id: str = ""
    entry: str = ""
    message: str
    repair: str = ""

    def __str__(self) -> str:
        where = ", ".join(part for part in (self.image_id, self.entry) if part)
        return ": ".join(part for part in (where, self.kind.value, self.message) if part)
