"""COCO's run lengths and polygons: masks as JSON values."""

from typing import Any

import numpy as np
from faster_coco_eval import mask_api_new_cpp as coco_mask
from numpy.typing import NDArray

from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.mask import (
    CroppedMask,
    mask_to_rle_counts,
    rle_counts_to_mask,
)
from napari_deeppixel.dataset.formats.column_crossings import packed_if_large
from napari_deeppixel.dataset.formats.polygons import rings_to_mask

# pixels of the columns that a mask touches; decoding takes two bytes for each
_MAX_STRIP_PIXELS = 1 << 30
_MIN_RING = 6


def mask_to_rle(mask: CroppedMask, image_hw: tuple[int, int]) -> dict[str, Any]:
    """Return COCO's compressed run-length dict (``size``, ``counts`` as text) of a mask."""
    runs = {"size": list(image_hw), "counts": mask_to_rle_counts(mask, image_hw)}
    counts = coco_mask.frPyObjects(runs, *image_hw)["counts"]
    return {
        "size": list(image_hw),
        "counts": counts.decode() if isinstance(counts, bytes) else counts,
    }


def segmentation_to_mask(segmentation: Any, image_hw: tuple[int, int]) -> CroppedMask | None:
    """Return the mask of a COCO ``segmentation``: polygons or run lengths, packed or not.

    Polygons are rasterised as COCO's own `frPyObjects` does, several are joined. None if no pixel
    is set.

    Raises
    ------
    AnnotationError
        If it is none of these, its size is not the image's, or it would take too much memory.
    """
    try:
        if isinstance(segmentation, list):
            return _polygons_to_mask(segmentation, image_hw)
        if not isinstance(segmentation, dict):
            raise AnnotationError(
                f"expected polygons or run lengths, got {type(segmentation).__name__}"
            )
        if list(segmentation["size"]) != list(image_hw):
            raise AnnotationError(
                f"mask has size {segmentation['size']}, its image {list(image_hw)}"
            )
        return _runs_to_mask(_counts(segmentation["counts"]), image_hw)
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise AnnotationError(f"segmentation cannot be read: {error}") from error


def _counts(counts: Any) -> NDArray[np.int64]:
    if isinstance(counts, str | bytes):
        return _unpacked(counts.encode("ascii") if isinstance(counts, str) else counts)
    if not isinstance(counts, list) or any(
        isinstance(count, bool) or not isinstance(count, int) for count in counts
    ):
        raise AnnotationError("run lengths must be text or whole numbers")
    return np.array(counts, np.int64)


def _unpacked(text: bytes) -> NDArray[np.int64]:
    """Return the run lengths in COCO's packed text (`rleFrString` in COCO's maskApi.c).

    COCO's own code, and the libraries made from it, read past the end of a text that is cut off.
    """
    letters = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    if letters.size == 0:
        return letters
    if letters.min() < 0 or letters.max() > 63:
        raise AnnotationError("run lengths hold a character that COCO does not use")
    # five bits a letter; the sixth says that the number goes on
    is_last = letters & 0x20 == 0
    if not is_last[-1]:
        raise AnnotationError("run lengths are cut off")
    ends = np.flatnonzero(is_last) + 1
    starts = np.concatenate([[0], ends[:-1]])
    if (ends - starts).max() > 12:
        raise AnnotationError("a run length has more than 60 bits")
    place = np.arange(letters.size) - np.repeat(starts, ends - starts)
    values = np.add.reduceat((letters & 0x1F) << (5 * place), starts)
    # the fifth bit of the last letter is the sign
    is_negative = letters[ends - 1] & 0x10 != 0
    values = np.where(is_negative, values - (1 << (5 * (ends - starts))), values)
    # from the fourth on, they are differences to the last but one
    for first in (1, 2):
        values[first::2] = np.cumsum(values[first::2])
    return values


def _runs_to_mask(counts: NDArray[np.int64], image_hw: tuple[int, int]) -> CroppedMask | None:
    height, width = image_hw
    if counts.size and (counts.min() < 0 or counts.max() > height * width):
        raise AnnotationError(f"run lengths must lie in 0..{height * width}, got others")
    edges = np.cumsum(counts)
    if edges.size > 1:
        last = int(edges[1::2][-1])
        if last - int(edges[0]) + 2 * height > _MAX_STRIP_PIXELS:
            raise AnnotationError(
                f"the mask spans {(last - int(edges[0])) // height:,} columns of {height:,} "
                f"pixels; more than {_MAX_STRIP_PIXELS:,} pixels are not read"
            )
    return packed_if_large(rle_counts_to_mask(counts, image_hw))


def _polygons_to_mask(polygons: list[Any], image_hw: tuple[int, int]) -> CroppedMask | None:
    if not polygons:
        return None
    # COCO allows one polygon that is not in a list of polygons
    rings = [polygons] if not isinstance(polygons[0], list) else polygons
    for ring in rings:
        numbers = isinstance(ring, list) and all(
            isinstance(value, int | float) and not isinstance(value, bool) for value in ring
        )
        if not numbers or len(ring) % 2:
            raise AnnotationError("a polygon must be a list of numbers x, y, x, y, …")
    # many programs write [[]] for nothing, and two points enclose nothing
    return rings_to_mask([ring for ring in rings if len(ring) >= _MIN_RING], image_hw)
