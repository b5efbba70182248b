"""What napari tells of strokes, and the numbers that may come with them."""

from typing import Any

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray

from napari_deeppixel.core.instance import label_dtype
from napari_deeppixel.edits.diff import Region

# a number further above those in use is replaced: the features table has a row for each up to it
_MAX_GAP = 10_000


def small_numbers(numbers: NDArray[Any], *, first: int) -> NDArray[Any]:
    """Return a label image in which numbers that are negative or far too large are replaced.

    Parameters
    ----------
    numbers
        Integers of any shape and type.
    first
        The next free number: those up to 10,000 above stay.
    """
    limit = first + _MAX_GAP
    if numbers.size == 0 or (numbers.min() >= 0 and numbers.max() <= limit):
        return numbers
    is_odd = (numbers < 0) | (numbers > limit)
    used = int(numbers.max(initial=0, where=~is_odd))
    odd, places = np.unique(numbers[is_odd], return_inverse=True)
    start = max(first, used + 1)
    small = np.where(is_odd, 0, numbers).astype(label_dtype(start + len(odd)))
    small[is_odd] = start + places
    return small


def stroke_regions(atoms: Any) -> list[tuple[tuple[slice, ...], Region]]:
    """Return the lead slices and the region (x1, y1, x2, y2) that a `paint` event touched.

    napari 0.9 sends two kinds of atoms: (slices, mask, …) for strokes, (indices, …) for
    `data_setitem`.
    """
    boxes = []
    for atom in atoms:
        if hasattr(atom, "slice_key"):
            boxes.append([(int(s.start), int(s.stop)) for s in map(_as_slice, atom.slice_key)])
        else:
            boxes.append(
                [(int(i.min()), int(i.max()) + 1) for i in map(np.atleast_1d, atom[0]) if i.size]
            )
    boxes = [box for box in boxes if box]
    if not boxes:
        return []
    low = [min(box[axis][0] for box in boxes) for axis in range(len(boxes[0]))]
    high = [max(box[axis][1] for box in boxes) for axis in range(len(boxes[0]))]
    lead = tuple(slice(a, b) for a, b in zip(low[:-2], high[:-2], strict=True))
    return [(lead, (low[-1], low[-2], high[-1], high[-2]))]


def is_written(layer: Labels, atoms: Any) -> bool:
    """Return whether the pixels that a `paint` event tells of are in the layer already.

    They are after a stroke of the mouse; `paint`, `fill`, `paint_polygon` and `data_setitem` tell
    first, and write then.
    """
    if not atoms:
        return True
    atom = atoms[-1]
    if hasattr(atom, "slice_key"):
        seen = layer.data[atom.slice_key]
        return bool(
            (
                seen == atom.new_value if atom.mask is None else seen[atom.mask] == atom.new_value
            ).all()
        )
    return bool(np.all(layer.data[atom[0]] == atom[2]))


def _as_slice(step: Any) -> slice:
    return step if isinstance(step, slice) else slice(int(step), int(step) + 1)
