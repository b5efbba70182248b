"""The categories of a COCO document: which ids there are which of ours."""

from collections.abc import Callable
from functools import partial
from typing import Any

from napari_deeppixel.core.category import Category, CategoryTable, palette_color
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.dataset.formats.coco_values import Taken, text_of

_MAX_ID = 1 << 31


def id_key(value: Any) -> tuple[type, Any]:
    """Return what tells ids apart: 1 and "1" are two, and True is none."""
    return type(value), value


def whole_id(value: Any) -> Any:
    """Return an id; a whole number as ``int``, though a table (pandas) wrote it as 7.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class FileTable:
    """The categories of a file: its ids, and which of ours they are."""

    def __init__(
        self, table: CategoryTable, ids: dict[tuple[type, Any], int], extras: dict[str, Any]
    ) -> None:
        self.table, self.extras = table, extras
        self._ids = ids

    @classmethod
    def read(
        cls,
        entries: list[Any],
        complain: Callable[[str, str], None],
        known: CategoryTable | None,
    ) -> "FileTable":
        """Return the table of a file's entries.

        Parameters
        ----------
        entries
            The list of categories; nothing about it is trusted.
        complain
            Called with entry and message of what cannot be taken as it is.
        known
            Table that the ids belong to, whatever the file says of them; None: the file's own.
        """
        ids: dict[tuple[type, Any], int] = {}
        extras: dict[str, Any] = {}
        categories: list[Category] = []
        for position, entry in enumerate(entries):
            where = f"category at place {position}"
            if isinstance(entry, dict):
                entry = entry | {"id": whole_id(entry.get("id"))}
            if not isinstance(entry, dict) or not isinstance(entry.get("id"), int | str):
                complain(where, "it has no id; left out")
                continue
            category = (
                _category(entry, categories, partial(complain, where))
                if known is None
                else _known_category(entry, known)
            )
            if category is None:
                complain(where, f"the dataset has no category {entry['id']!r}; left out")
                continue
            is_new = all(each.name != category.name for each in categories)
            if known is None and is_new:
                categories.append(category)
            if id_key(entry["id"]) in ids:
                complain(where, f"two categories have the id {entry['id']!r}; the first counts")
                continue
            ids[id_key(entry["id"])] = category.id
            unknown = _unknown_category_keys(entry, category)
            if unknown:
                extras.setdefault(category.name, unknown)
        for each in known.categories if known is not None else ():
            ids.setdefault(id_key(each.id), each.id)
        return cls(known or CategoryTable(categories=tuple(categories)), ids, extras)

    def id_of(self, value: Any) -> int:
        """Return our id for one in the file.

        Raises
        ------
        AnnotationError
            If the file does not have it.
        """
        value = whole_id(value)
        found = self._ids.get(id_key(value)) if isinstance(value, int | str) else None
        if found is None:
            raise AnnotationError(f"category {value!r} is not in the file")
        return found


def _known_category(entry: dict[str, Any], known: CategoryTable) -> Category | None:
    try:
        return known.by_id(entry["id"])
    except KeyError:
        return None


def _category(
    entry: dict[str, Any], taken: list[Category], complain: Callable[[str], None]
) -> Category:
    """Return a category of a file; another one of the same name, or with a free id, if need be."""
    take = Taken(complain)
    name = take.get(entry, "name", lambda v: text_of(v, "name"), "").strip()
    if not name:
        name = f"category {entry['id']}"
        complain(f"it has no name; called {name!r}")
    for known in taken:
        if known.name == name:
            complain(f"two categories are called {name!r}: they are one from now on")
            return known
    key = take.mapping(entry, "attributes").get("key", "")
    number = entry["id"]
    ids = {category.id for category in taken}
    # ids of 0, which many programs write, and texts cannot be ours
    is_usable = isinstance(number, int) and 1 <= number <= _MAX_ID and number not in ids
    color = entry.get("color")
    values: dict[str, Any] = {
        "id": number if is_usable else max(ids, default=0) + 1,
        "name": name,
        "color": color if isinstance(color, str) else palette_color(len(taken)),
        "key": key if isinstance(key, str) else "",
    }
    try:
        return Category(**values)
    except ValueError:
        return Category(**values | {"color": palette_color(len(taken)), "key": ""})


def _unknown_category_keys(entry: dict[str, Any], category: Category) -> dict[str, Any]:
    """Return what of a category's entry we do not know, and its id and colour if not ours."""
    unknown = {k: v for k, v in entry.items() if k not in ("id", "name", "color", "attributes")}
    attributes = entry.get("attributes")
    attributes = dict(attributes) if isinstance(attributes, dict) else {}
    attributes.pop("key", None)
    if entry["id"] != category.id:
        attributes.setdefault("original_id", entry["id"])
    if "color" in entry and entry["color"] != category.color:
        attributes.setdefault("original_color", entry["color"])
    return unknown | ({"attributes": attributes} if attributes else {})
