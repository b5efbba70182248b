"""Objects as other programs store them: a mask and the name of its category."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any
from uuid import uuid4

import numpy as np

from napari_deeppixel.core.category import Category, CategoryTable, palette_color
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.instance import MAX_HANDLE, Instance, InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask


class NamedCategories:
    """Categories by name, numbered 1, 2, 3, … as they come up.

    Parameters
    ----------
    colors
        Name → ``#rrggbb``, for those that have one.
    """

    def __init__(self, colors: Mapping[str, str] | None = None) -> None:
        self._colors = dict(colors or {})
        self._ids: dict[str, int] = {}

    def id_of(self, name: object) -> int:
        """Return the id of a category, which is new if nobody asked for it before.

        Raises
        ------
        AnnotationError
            If the name is no text or blank.
        """
        if not isinstance(name, str) or not name.strip():
            raise AnnotationError(f"the name of a category must be text, got {name!r}")
        if name not in self._ids:
            self._ids[name] = len(self._ids) + 1
            self.__dict__.pop("table", None)
        return self._ids[name]

    @cached_property
    def table(self) -> CategoryTable:
        """All categories so far."""
        return CategoryTable(
            categories=tuple(
                Category(id=number, name=name, color=self._colors.get(name, palette_color(at)))
                for at, (name, number) in enumerate(self._ids.items())
            )
        )


class ObjectList:
    """The objects of one image, as they are read one by one; people's, so they are accepted.

    Attributes
    ----------
    extras
        uuid → what `AnnotatedImage.instance_extras` keeps.
    maskless
        What `AnnotatedImage.maskless` keeps.
    """

    def __init__(self) -> None:
        self._instances: list[Instance] = []
        self._handles: set[int] = set()
        self._uuids: set[str] = set()
        self.extras: dict[str, Mapping[str, Any]] = {}
        self.maskless: list[Mapping[str, Any]] = []

    def add(
        self,
        mask: CroppedMask,
        category_id: int,
        *,
        extra: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        """Add an object; `fields` are those of `Instance` that the format knows.

        A handle or uuid that another object has is replaced.
        """
        handle, uuid = fields.pop("handle", 0), fields.pop("uuid", "")
        handle = 0 if handle in self._handles else handle
        uuid = str(uuid4()) if not uuid or uuid in self._uuids else uuid
        self._handles.add(handle)
        self._uuids.add(uuid)
        if extra:
            self.extras[uuid] = extra
        values: dict[str, Any] = {
            "score": np.nan,
            "state": InstanceState.ACCEPTED,
            "source": "",
        } | fields
        self._instances.append(
            Instance(mask=mask, category_id=category_id, handle=handle, uuid=uuid, **values)
        )

    def instances(self, image_hw: tuple[int, int], table: CategoryTable) -> InstanceSet:
        """Return all objects; those without a handle get the next numbers."""
        free = itertools.count(max(self._handles, default=0) + 1)
        numbered = [
            each if each.handle else replace(each, handle=next(free)) for each in self._instances
        ]
        if any(each.handle > MAX_HANDLE for each in numbered):
            numbered = [replace(each, handle=n) for n, each in enumerate(numbered, start=1)]
        return InstanceSet.from_instances(numbered, image_hw=image_hw, categories=table)

    def maskless_box(self, category_id: int, box_xyxy: Sequence[float]) -> None:
        """Keep an object of which only the box is known, as COCO writes it."""
        x1, y1, x2, y2 = box_xyxy
        self.maskless.append({"category_id": category_id, "bbox": [x1, y1, x2 - x1, y2 - y1]})
