"""Values in COCO entries that other programs may have got wrong, checked one by one."""

import math
from collections.abc import Callable
from typing import Any

from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.geometry import Outline
from napari_deeppixel.core.instance import MAX_HANDLE, InstanceState
from napari_deeppixel.dataset.annotated import ImageState, Split

MAX_LEVEL = 1 << 62


def number_of(value: Any, what: str) -> float:
    """Return a finite number.

    Raises
    ------
    AnnotationError
        If it is none.
    """
    try:
        if not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value):
            return float(value)
    except OverflowError:
        # a whole number of hundreds of digits
        pass
    raise AnnotationError(f"{what} must be a number, got {value!r:.80}")


def share_of(value: Any, what: str) -> float:
    """Return a number of 0 to 1; NaN for None.

    Raises
    ------
    AnnotationError
        If it is no such number.
    """
    if value is None:
        return math.nan
    share = number_of(value, what)
    if not 0 <= share <= 1:
        raise AnnotationError(f"{what} must lie in 0..1, got {value!r}")
    return share


def box_of(value: Any, what: str) -> tuple[float, ...]:
    """Return four finite numbers.

    Raises
    ------
    AnnotationError
        If these are none.
    """
    if not isinstance(value, list | tuple) or len(value) != 4:
        raise AnnotationError(f"{what} must be four numbers, got {value!r}")
    return tuple(number_of(each, what) for each in value)


def state_of(value: Any) -> InstanceState:
    """Return a review state.

    Raises
    ------
    AnnotationError
        If there is none of that name.
    """
    try:
        return InstanceState(value)
    except ValueError as error:
        names = ", ".join(state.value for state in InstanceState)
        raise AnnotationError(f"state must be one of {names}, got {value!r}") from error


def image_state_of(value: Any) -> ImageState:
    """Return the state of an image.

    Raises
    ------
    AnnotationError
        If there is none of that name.
    """
    try:
        return ImageState(value)
    except ValueError as error:
        raise AnnotationError(
            f"state must be none, draft or complete, got {value!r:.60}"
        ) from error


def split_of(value: Any) -> Split:
    """Return a split.

    Raises
    ------
    AnnotationError
        If there is none of that name.
    """
    try:
        return Split(value)
    except ValueError as error:
        raise AnnotationError(f"split must be train, val or test, got {value!r:.60}") from error


def whole_of(value: Any, what: str, *, lowest: int, highest: int) -> int:
    """Return a whole number in a range, ends included.

    Raises
    ------
    AnnotationError
        If it is none.
    """
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not is_whole or not lowest <= value <= highest:
        raise AnnotationError(f"{what} must be a whole number {lowest}..{highest}, got {value!r}")
    return int(value)


def handle_of(value: Any) -> int:
    """Return a handle.

    Raises
    ------
    AnnotationError
        If it is none.
    """
    return whole_of(value, "handle", lowest=1, highest=MAX_HANDLE)


def text_of(value: Any, what: str) -> str:
    """Return a text.

    Raises
    ------
    AnnotationError
        If it is none.
    """
    if not isinstance(value, str):
        raise AnnotationError(f"{what} must be text, got {value!r}")
    return value


def outlines_of(value: Any) -> tuple[Outline, ...]:
    """Return closed outlines from lists of points [x, y].

    Raises
    ------
    AnnotationError
        If one has fewer than three points, or a point is none.
    """
    if not isinstance(value, list):
        raise AnnotationError(f"regions must be a list of outlines, got {value!r}")
    outlines = []
    for ring in value:
        if not isinstance(ring, list) or len(ring) < 3:
            raise AnnotationError("a region's outline needs three points or more")
        if any(not isinstance(point, list) or len(point) != 2 for point in ring):
            raise AnnotationError("a region's points must be x, y")
        outlines.append(
            tuple((number_of(x, "a coordinate"), number_of(y, "a coordinate")) for x, y in ring)
        )
    return tuple(outlines)


class Taken:
    """Takes values out of an entry; what is wrong is told and replaced.

    Parameters
    ----------
    complain
        Called with each message.
    """

    def __init__(self, complain: Callable[[str], None]) -> None:
        self._complain = complain

    def get(
        self, entry: dict[str, Any], key: str, check: Callable[[Any], Any], default: Any
    ) -> Any:
        """Return a checked value; `default` if it is missing or wrong."""
        if entry.get(key) is None:
            return default
        try:
            return check(entry[key])
        except AnnotationError as error:
            self._complain(f"{error}; that value is left out")
            return default

    def mapping(self, entry: dict[str, Any], key: str) -> dict[str, Any]:
        """Return an object in an entry; an empty one if it is missing or something else."""
        value = entry.get(key)
        if value is not None and not isinstance(value, dict):
            self._complain(f"{key} must be an object, got {value!r}; that value is left out")
        return value if isinstance(value, dict) else {}
