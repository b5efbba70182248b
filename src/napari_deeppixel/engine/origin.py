"""Where a model comes from, read out of the free-form provenance of its weights file."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from napari_deeppixel.engine.spec import ModelSpec

# of hexadecimal digits: enough to tell files apart, and what `MaskRCNNEngine.source` has
SHORT_HASH = 12


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a model was made from; empty, 0 or NaN where its file does not say.

    Attributes
    ----------
    start, start_hash
        Model whose weights training began with, and the hash of their file; empty: random weights.
    data, data_hash
        Name of what it was trained on, and what tells two states of that apart.
    date
        When it was trained, ISO 8601.
    licence
        Of the weights.
    iterations, batch_size
        Steps of training, and crops in each.
    ap, ap50
        COCO's mask average precision on the validation images, over IoU 0.50:0.05:0.95 and at 0.50.
    num_images, num_objects
        Of the validation images.
    """

    start: str = ""
    start_hash: str = ""
    data: str = ""
    data_hash: str = ""
    date: str = ""
    licence: str = ""
    iterations: int = 0
    batch_size: int = 0
    ap: float = math.nan
    ap50: float = math.nan
    num_images: int = 0
    num_objects: int = 0

    @classmethod
    def of(cls, spec: ModelSpec) -> "Origin":
        """Return the origin that a model tells; values of another kind than expected are left."""
        told = spec.provenance
        start, figures = told.get("start"), told.get("validation")
        if isinstance(start, Mapping):
            told = told | {"start": start.get("model"), "start_hash": start.get("hash")}
        if isinstance(figures, Mapping):
            told = {**figures, **told}
        values = {each.name: _as(each.default, told.get(each.name)) for each in fields(cls)}
        return cls(**values)

    @property
    def day(self) -> str:
        """The date without the time."""
        return self.date[:10]

    def sentences(self) -> tuple[str, ...]:
        """Return what is known, in sentences for a person."""
        said = [self._of_training(), self._of_steps(), self._of_figures()]
        if self.licence:
            said.append(f"Licence: {self.licence}.")
        return tuple(text for text in said if text) or ("The file does not say where it is from.",)

    def _of_training(self) -> str:
        if not self.data and not self.start:
            return ""
        start = self.start or "random weights"
        if self.start_hash:
            start += f" ({self.start_hash[:SHORT_HASH]})"
        data = f" on {self.data}" if self.data else ""
        if self.data and self.data_hash:
            data += f" (state {self.data_hash[:SHORT_HASH]})"
        return f"Trained from {start}{data}{f', {self.day}' if self.day else ''}."

    def _of_steps(self) -> str:
        if not self.iterations:
            return ""
        crops = f" of {self.batch_size:,} crops" if self.batch_size else ""
        return f"{self.iterations:,} steps{crops}."

    def _of_figures(self) -> str:
        if math.isnan(self.ap):
            return ""
        ap50 = "" if math.isnan(self.ap50) else f", AP50 {self.ap50:.3f}"
        on = f" on {self.num_images:,} validation images" if self.num_images else ""
        objects = f" with {self.num_objects:,} objects" if on and self.num_objects else ""
        return f"AP {self.ap:.3f}{ap50}{on}{objects}."


def _as(default: Any, value: Any) -> Any:
    """Return a value if it is of the default's kind, else the default."""
    if isinstance(default, float) and isinstance(value, int | float):
        return float(value)
    is_kind = isinstance(value, type(default)) and not isinstance(value, bool)
    return value if is_kind else default
