"""Where in an image a random crop lies: mostly where objects are, never where nobody knows."""

from dataclasses import dataclass

import numpy as np

from napari_deeppixel.core.geometry import BoolImage, box_centres_xy
from napari_deeppixel.training.samples import Sample

# the rest lies anywhere: mostly empty crops teach little, but something
_SHARE_WITH_OBJECTS = 0.95
# by chance first: that every part of the image comes as often as others
_TRIES = 8
# a window holds an object if it has half of the object, or is half covered by it
_HELD_SHARE = 0.5
# less known pixels than these in a window are not worth its time
_KNOWN_SHARE = 0.25


@dataclass(frozen=True, kw_only=True)
class Window:
    """A part of an image: first row and column, and size (height, width)."""

    top: int
    left: int
    size_hw: tuple[int, int]

    @property
    def box_xyxy(self) -> tuple[int, int, int, int]:
        """Box on pixel edges."""
        height, width = self.size_hw
        return self.left, self.top, self.left + width, self.top + height

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the window in an image [y, x]."""
        left, top, right, bottom = self.box_xyxy
        return slice(top, bottom), slice(left, right)


def random_window(sample: Sample, size_hw: tuple[int, int], rng: np.random.Generator) -> Window:
    """Return a window of a size in the image.

    Of an image with objects, 95 % of the windows hold one. Windows of which less than a quarter
    is known are avoided where others can be had.
    """
    wants_object = len(sample.instances) > 0 and rng.random() < _SHARE_WITH_OBJECTS
    rooms = [side - size for side, size in zip(sample.image_hw, size_hw, strict=True)]
    # once for all tries: they are kept compressed
    unknown = None if sample.ignored is None else sample.ignored.pixels
    for _ in range(_TRIES):
        top, left = (int(rng.integers(room + 1)) for room in rooms)
        window = Window(top=top, left=left, size_hw=size_hw)
        is_full = not wants_object or _holds_object(sample, window)
        if is_full and _is_known(sample, unknown, window):
            return window
    y, x = _object_yx(sample, rng) if wants_object else _known_yx(sample, rng)
    top, left = (
        int(rng.integers(max(0, place - size + 1), min(room, place) + 1))
        for place, size, room in zip((y, x), size_hw, rooms, strict=True)
    )
    return Window(top=top, left=left, size_hw=size_hw)


def _holds_object(sample: Sample, window: Window) -> bool:
    boxes = sample.instances.boxes_xyxy
    low = np.maximum(boxes[:, :2], window.box_xyxy[:2])
    high = np.minimum(boxes[:, 2:], window.box_xyxy[2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    smaller = np.minimum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), np.prod(window.size_hw))
    return bool((shared >= _HELD_SHARE * smaller).any())


def _is_known(sample: Sample, unknown: BoolImage | None, window: Window) -> bool:
    if sample.ignored is None or unknown is None:
        return True
    x1, y1, x2, y2 = sample.ignored.box_xyxy
    left, top, right, bottom = window.box_xyxy
    rows = slice(max(top, y1) - y1, max(0, min(bottom, y2) - y1))
    columns = slice(max(left, x1) - x1, max(0, min(right, x2) - x1))
    num_unknown = int(np.count_nonzero(unknown[rows, columns]))
    return num_unknown <= (1 - _KNOWN_SHARE) * window.size_hw[0] * window.size_hw[1]


def _object_yx(sample: Sample, rng: np.random.Generator) -> tuple[int, int]:
    """Return the centre of a random object."""
    number = int(rng.integers(len(sample.instances)))
    x, y = box_centres_xy(sample.instances.boxes_xyxy[number : number + 1])[0]
    return int(y), int(x)


def _known_yx(sample: Sample, rng: np.random.Generator) -> tuple[int, int]:
    """Return a random pixel of which somebody knows what is there; any, if there is none."""
    height, width = sample.image_hw
    known = np.arange(0)
    if sample.ignored is not None:
        known = np.flatnonzero(~sample.ignored.to_mask(sample.image_hw))
    place = int(rng.choice(known)) if known.size else int(rng.integers(height * width))
    return place // width, place % width
