"""What a person chooses by name for a run; no torch here, so that forms and `--help` can use it."""

from enum import StrEnum


class Preset(StrEnum):
    """Sizes and lengths that fit a device."""

    AUTO = "auto"
    CPU = "cpu"
    GPU_8_GB = "8gb"
    GPU_24_GB = "24gb"
    GPU_80_GB = "80gb"


class Freeze(StrEnum):
    """Which layers learn, by the names that matterport's Mask R-CNN gave them."""

    HEADS = "heads"
    UPPER = "4+"
    NONE = "none"
