"""What an image is for: by a law that never changes its mind, unless a person pinned it."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from napari_deeppixel.dataset.annotated import Split


@dataclass(frozen=True, kw_only=True)
class SplitRule:
    """How images are dealt out.

    The split of an image follows from the seed and its own key alone, so it stays when others come
    or go, and when the share of the other split changes.

    Attributes
    ----------
    seed
        Another one deals anew.
    val, test
        Expected shares of images for validation and test, 0 to 1; the rest is for training.

    Raises
    ------
    ValueError
        If a share lies outside 0 to 1, or both are more than all.
    """

    seed: str = ""
    val: float = 0.2
    test: float = 0.0

    def __post_init__(self) -> None:
        for name, share in (("val", self.val), ("test", self.test)):
            if not 0 <= share <= 1:
                raise ValueError(f"the share of {name} must lie in 0..1, got {share}")
        if self.val + self.test > 1:
            raise ValueError(
                f"val and test may be 1 together, got {self.val} + {self.test}: nothing is left "
                "for training"
            )

    def split_of(self, key: str) -> Split:
        """Return the split of a group, or of an image that is alone, by its key."""
        digest = hashlib.sha256(f"{self.seed}\0{key}".encode(errors="surrogatepass")).digest()
        place = int.from_bytes(digest[:8], "big") / 2**64
        if place < self.test:
            return Split.TEST
        # from the other end, so that a larger test set takes nothing from validation
        return Split.VAL if place >= 1 - self.val else Split.TRAIN


def split_key(image_id: str, *, group: str, sha256: str) -> str:
    """Return what decides on an image's split: its group, else its content, else its name."""
    return f"group {group}" if group else f"image {sha256 or image_id}"


def group_pins(pinned: Iterable[tuple[str, Split | None]]) -> dict[str, set[Split]]:
    """Return group → the splits that its images are pinned to, from pairs of group and pin."""
    pins: dict[str, set[Split]] = {}
    for group, pin in pinned:
        if group and pin is not None:
            pins.setdefault(group, set()).add(pin)
    return pins
