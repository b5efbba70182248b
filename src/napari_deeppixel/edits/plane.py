"""The instances of one plane, quick to ask by identity and by place."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.core.geometry import Boxes, boxes_touch_region
from napari_deeppixel.core.instance import Instance

_FIRST_CAPACITY = 64


class PlaneRecord:
    """Instances by uuid, in the order in which they first came.

    An instance that goes leaves its place empty, so that undo puts it back where it was.
    """

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self._instances: list[Instance | None] = []
        # column by column, which makes the question what lies in a region three times as fast
        self._boxes: Boxes = np.zeros((_FIRST_CAPACITY, 4), order="F")
        self._is_shown: NDArray[np.bool_] = np.zeros(_FIRST_CAPACITY, np.bool_)

    def get(self, uuid: str) -> Instance | None:
        """Return an instance; None if it is not there."""
        place = self._places.get(uuid)
        return None if place is None else self._instances[place]

    def place(self, uuid: str) -> int:
        """Return where in the order an instance is or was."""
        return self._places[uuid]

    def last_place(self, uuid: str) -> int:
        """Return where in the order an instance is, was, or would come."""
        return self._places.get(uuid, len(self._instances))

    def put(self, instance: Instance, *, is_shown: bool) -> None:
        """Add an instance, or put it in the place of the one with its uuid."""
        place = self._places.setdefault(instance.uuid, len(self._instances))
        if place == len(self._instances):
            self._instances.append(None)
        if place == len(self._boxes):
            self._boxes = np.concatenate([self._boxes, np.zeros_like(self._boxes)])
            self._is_shown = np.concatenate([self._is_shown, np.zeros_like(self._is_shown)])
        self._instances[place] = instance
        self._boxes[place] = instance.box_xyxy
        self._is_shown[place] = is_shown

    def remove(self, uuid: str) -> None:
        """Take an instance away."""
        place = self._places[uuid]
        self._instances[place] = None
        self._is_shown[place] = False

    def instances(self) -> list[Instance]:
        """Return all instances."""
        return [instance for instance in self._instances if instance is not None]

    def shown(self) -> list[Instance]:
        """Return the instances that are shown."""
        return self._at(self._is_shown[: len(self._instances)])

    @property
    def num_shown(self) -> int:
        """How many are shown."""
        return int(np.count_nonzero(self._is_shown))

    def is_shown(self, uuid: str) -> bool:
        """Whether an instance is there and shown."""
        place = self._places.get(uuid)
        return place is not None and bool(self._is_shown[place])

    def shown_in(self, region_xyxy: tuple[float, float, float, float]) -> list[Instance]:
        """Return the shown instances whose box touches a region (x1, y1, x2, y2)."""
        count = len(self._instances)
        return self._at(
            self._is_shown[:count] & boxes_touch_region(self._boxes[:count], region_xyxy)
        )

    def _at(self, which: NDArray[np.bool_]) -> list[Instance]:
        chosen = [self._instances[place] for place in np.flatnonzero(which)]
        return [instance for instance in chosen if instance is not None]

    def show_where(self, is_to_show: Callable[[Instance], bool]) -> list[Instance]:
        """Set which instances are shown; return those that appeared or vanished."""
        turned = []
        for place, instance in enumerate(self._instances):
            if instance is None:
                continue
            shows = is_to_show(instance)
            if shows != self._is_shown[place]:
                self._is_shown[place] = shows
                turned.append(instance)
        return turned
