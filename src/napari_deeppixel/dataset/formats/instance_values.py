"""What we know of an instance next to its mask, as values that other programs' files can carry."""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from uuid import uuid4

import numpy as np

from napari_deeppixel.core.category import Category, CategoryTable, palette_color
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.instance import Instance, InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.dataset.formats.coco_values import (
    Taken,
    handle_of,
    share_of,
    state_of,
    text_of,
)

_OUR_KEYS = frozenset({"uuid", "handle", "state", "source", "score"})


def instance_values(instance: Instance) -> dict[str, Any]:
    """Return JSON values that `Collected` reads again: identity, number, state, source, score."""
    values: dict[str, Any] = {
        "uuid": instance.uuid,
        "handle": instance.handle,
        "state": instance.state.value,
        "source": instance.source,
    }
    if not math.isnan(instance.score):
        values["score"] = instance.score
    return values


class Collected:
    """Instances of one plane while they are read: wrong values are told and replaced.

    Parameters
    ----------
    image_hw
        Size of the plane (height, width).
    """

    def __init__(self, image_hw: tuple[int, int]) -> None:
        self.image_hw = image_hw
        self._masks: list[CroppedMask] = []
        self._categories: list[str] = []
        self._values: list[dict[str, Any]] = []
        self._extras: dict[str, dict[str, Any]] = {}
        self._handles: set[int] = set()
        self._uuids: set[str] = set()

    @property
    def category_names(self) -> list[str]:
        """Names of the categories that came up, in the order of their first instance."""
        return list(dict.fromkeys(self._categories))

    @property
    def extras(self) -> dict[str, dict[str, Any]]:
        """Uuid → values that are not ours."""
        return dict(self._extras)

    def add(
        self,
        mask: CroppedMask,
        *,
        category: str,
        values: Mapping[str, Any],
        extra: Mapping[str, Any],
        complain: Callable[[str], None],
    ) -> None:
        """Add an instance.

        Parameters
        ----------
        mask
            Its pixels.
        category
            Name of its category.
        values
            As `instance_values` gives them; each may be missing or wrong.
        extra
            What else the file says of it, kept as it is.
        complain
            Called with what is wrong.
        """
        entry, taken = dict(values), Taken(complain)
        handle = taken.get(entry, "handle", handle_of, None)
        if handle in self._handles:
            complain(f"handle {handle} is another instance's, too; this one gets a new one")
            handle = None
        uuid = taken.get(entry, "uuid", lambda value: text_of(value, "uuid"), "") or str(uuid4())
        if uuid in self._uuids:
            complain(f"uuid {uuid!r} is another instance's, too; this one gets a new one")
            uuid = str(uuid4())
        if handle is not None:
            self._handles.add(handle)
        self._uuids.add(uuid)
        self._masks.append(mask)
        self._categories.append(category)
        self._values.append(
            {
                "handle": handle,
                "uuid": uuid,
                "state": taken.get(entry, "state", state_of, InstanceState.ACCEPTED),
                "source": taken.get(entry, "source", lambda value: text_of(value, "source"), ""),
                "score": taken.get(entry, "score", lambda v: share_of(v, "score"), math.nan),
            }
        )
        if extra:
            self._extras[uuid] = dict(extra)

    def to_instances(self, categories: CategoryTable) -> InstanceSet:
        """Return the instances, in the order they came; the table has all their categories."""
        ids = {category.name: category.id for category in categories.categories}
        free = (number for number in itertools.count(1) if number not in self._handles)
        each = self._values
        handles = [next(free) if one["handle"] is None else one["handle"] for one in each]
        return InstanceSet(
            image_hw=self.image_hw,
            masks=tuple(self._masks),
            categories=categories,
            category_ids=np.array([ids[name] for name in self._categories], np.int64),
            scores=np.array([one["score"] for one in each], np.float64),
            handles=np.array(handles, np.int64),
            uuids=tuple(one["uuid"] for one in each),
            states=tuple(one["state"] for one in each),
            sources=tuple(one["source"] for one in each),
        )


def without_our_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that `instance_values` does not give."""
    return {key: value for key, value in values.items() if key not in _OUR_KEYS}


def category_values(categories: CategoryTable) -> list[dict[str, Any]]:
    """Return JSON values of a table that `category_table` reads again."""
    return [
        {"id": each.id, "name": each.name, "color": each.color, "key": each.key}
        for each in categories.categories
    ]


def category_table(
    listed: Any, names: Iterable[str], *, colors: Mapping[str, str] | None = None
) -> CategoryTable:
    """Return the categories that a file lists, where it does so, and those of other names.

    Parameters
    ----------
    listed
        As `category_values` gives them, or anything else, which is passed over.
    names
        Of the categories that the table must have.
    colors
        Name → ``#rrggbb`` for those that are not listed; an empty one is passed over.
    """
    try:
        table = CategoryTable(categories=tuple(_category(each) for each in listed))
    except (KeyError, TypeError, ValueError, AnnotationError):
        table = CategoryTable(categories=())
    known = list(table.categories)
    for name in names:
        if all(name != each.name for each in known):
            free_id = max((each.id for each in known), default=0) + 1
            color = (colors or {}).get(name) or palette_color(len(known))
            known.append(Category(id=free_id, name=name, color=color))
    return CategoryTable(categories=tuple(known))


def _category(value: Any) -> Category:
    category_id = value["id"]
    if isinstance(category_id, bool) or not isinstance(category_id, int):
        raise AnnotationError(f"category id must be a whole number, got {category_id!r}")
    if category_id > np.iinfo(np.int64).max - (1 << 20):
        raise AnnotationError(f"category id {category_id} is too large")
    return Category(
        id=category_id,
        name=text_of(value["name"], "name"),
        color=text_of(value["color"], "color"),
        key=text_of(value.get("key", ""), "key"),
    )
