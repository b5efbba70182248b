"""``dataset.json``: what all images of a dataset share."""

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from napari_deeppixel.core.atomic import atomic_file
from napari_deeppixel.core.category import Category, CategoryTable, free_color, palette_color
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.dataset.formats.hostile import read_json
from napari_deeppixel.dataset.split import SplitRule

FORMAT = "napari-deeppixel dataset"
VERSION = 1
_KNOWN_KEYS = (
    "format",
    "version",
    "categories",
    "next_category_id",
    "merged",
    "former_names",
    "split",
)
_KNOWN_CATEGORY_KEYS = ("id", "name", "color", "key")
_KNOWN_SPLIT_KEYS = ("seed", "val", "test")

# as other programs count
_MAX_CATEGORY_ID = 1 << 31


@dataclass(frozen=True, kw_only=True)
class DatasetFile:
    """What is in ``dataset.json``.

    Attributes
    ----------
    categories
        The truth about names, colours and keys; annotation files hold copies of it.
    split
        How images are dealt out.
    next_category_id
        Never given out before, so that an id means one thing for ever; the lowest free one where
        a file from elsewhere used up the numbers.
    merged
        Id of a category that is gone → the one that took its place.
    former_names
        Category id → names that it had; files that were written then still mean it.
    extra, category_extras, split_extra
        Keys that we do not know; those of categories by their id.
    """

    categories: CategoryTable
    split: SplitRule = field(default_factory=SplitRule)
    next_category_id: int = 1
    merged: Mapping[int, int] = field(default_factory=dict)
    former_names: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    category_extras: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    split_extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        used = [c.id for c in self.categories.categories] + list(self.merged)
        number = max(self.next_category_id, max(used, default=0) + 1)
        if number > _MAX_CATEGORY_ID:
            taken = {*used, *self.former_names}
            number = next(free for free in itertools.count(1) if free not in taken)
        object.__setattr__(self, "next_category_id", number)

    def resolve(self, category_id: Any, name: str | None) -> int | None:
        """Return the category that a file means by an id and a name; None if there is none.

        An id counts if the category has, or had, that name; else the name alone does, since the
        file then comes from elsewhere. Without a name the id must do.
        """
        by_name = {category.name: category.id for category in self.categories.categories}
        if isinstance(category_id, int) and not isinstance(category_id, bool):
            now = self.merged.get(category_id, category_id)
            is_here = now in by_name.values()
            names = (*self.former_names.get(category_id, ()), self._name(category_id))
            if is_here and (name is None or name in names):
                return now
        return None if name is None else by_name.get(name)

    def _name(self, category_id: int) -> str | None:
        try:
            return self.categories.by_id(category_id).name
        except KeyError:
            return None

    def joined_with(self, table: CategoryTable) -> tuple["DatasetFile", dict[int, int]]:
        """Return the same with another table's categories by name, and their id → id here."""
        joined, new_ids = self, dict[int, int]()
        for category in table.categories:
            by_name = {each.name: each.id for each in joined.categories.categories}
            known = by_name.get(category.name)
            if known is None:
                # of somebody who did not see yet that it was renamed or merged
                known = joined.resolve(category.id, category.name)
            if known is None:
                known = joined.next_category_id
                color = free_color(category.color, [c.color for c in joined.categories.categories])
                joined = joined.with_category(replace(category, id=known, color=color))
            new_ids[category.id] = known
        return joined, new_ids

    def with_category(self, category: Category) -> "DatasetFile":
        """Return the same with a new category, or another one in the place of that id."""
        categories = list(self.categories.categories)
        for position, known in enumerate(categories):
            if known.id == category.id:
                categories[position] = category
                break
        else:
            categories.append(category)
        return replace(self, categories=CategoryTable(categories=tuple(categories)))

    def renamed(self, category_id: int, name: str) -> "DatasetFile":
        """Return the same with another name for a category; files with the old one still fit."""
        before = self.categories.by_id(category_id)
        return self.with_category(replace(before, name=name))._with_former(category_id, before.name)

    def merged_into(self, from_id: int, into_id: int) -> "DatasetFile":
        """Return the same with one category in the place of two."""
        gone = self.categories.by_id(from_id)
        left = tuple(c for c in self.categories.categories if c.id != from_id)
        merged = {old: into_id if new == from_id else new for old, new in self.merged.items()}
        return replace(
            self,
            categories=CategoryTable(categories=left),
            merged=merged | {from_id: into_id},
        )._with_former(from_id, gone.name)

    def _with_former(self, category_id: int, name: str) -> "DatasetFile":
        names = (*(n for n in self.former_names.get(category_id, ()) if n != name), name)
        return replace(self, former_names={**self.former_names, category_id: names})

    def without_category(self, category_id: int) -> "DatasetFile":
        """Return the same without a category; its id is not used again."""
        left = tuple(c for c in self.categories.categories if c.id != category_id)
        return replace(self, categories=CategoryTable(categories=left))

    def to_json(self) -> dict[str, Any]:
        """Return the value that `read_dataset_file` reads."""
        return {
            **self.extra,
            "format": FORMAT,
            "version": VERSION,
            "categories": [
                {
                    **self.category_extras.get(c.id, {}),
                    "id": c.id,
                    "name": c.name,
                    "color": c.color,
                    "key": c.key,
                }
                for c in self.categories.categories
            ],
            "next_category_id": self.next_category_id,
            "merged": {str(old): new for old, new in self.merged.items()},
            "former_names": {str(i): list(names) for i, names in self.former_names.items()},
            "split": {
                **self.split_extra,
                "seed": self.split.seed,
                "val": self.split.val,
                "test": self.split.test,
            },
        }


def write_dataset_file(path: Path, content: DatasetFile) -> None:
    """Write ``dataset.json``, whole or not at all.

    Raises
    ------
    OSError
        If it cannot be written; the older one then stays.
    """
    with atomic_file(path) as file:
        file.write(json.dumps(content.to_json(), indent=2).encode())


def read_dataset_file(path: Path) -> DatasetFile:
    """Return what is in a ``dataset.json``.

    Raises
    ------
    AnnotationError
        If it is missing, damaged, of a newer version, or none of ours.
    """
    value = read_json(path)
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise AnnotationError(f"{path}: no dataset of napari-deeppixel; it must have {FORMAT!r}")
    version = value.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise AnnotationError(
            f"{path}: the dataset has version {version!r}, this program knows {VERSION}: update "
            "napari-deeppixel"
        )
    try:
        return _from_json(value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise AnnotationError(
            f"{path}: damaged ({error!r}); take it from a backup, or mend it with a text editor"
        ) from error


def _from_json(value: dict[str, Any]) -> DatasetFile:
    split = value.get("split") or {}
    rule = {key: split[key] for key in _KNOWN_SPLIT_KEYS if key in split}
    categories = [_category(entry, place) for place, entry in enumerate(value["categories"])]
    merged = {int(old): int(new) for old, new in (value.get("merged") or {}).items()}
    ids = {category.id for category in categories}
    if not set(merged.values()) <= ids or set(merged) & ids:
        raise ValueError(f"merged must name categories that are gone and those there, got {merged}")
    former = value.get("former_names") or {}
    return DatasetFile(
        categories=CategoryTable(categories=tuple(categories)),
        split=SplitRule(
            seed=str(rule.get("seed", "")),
            val=float(rule.get("val", SplitRule.val)),
            test=float(rule.get("test", SplitRule.test)),
        ),
        next_category_id=int(value.get("next_category_id", 1)),
        merged=merged,
        former_names={int(i): tuple(str(n) for n in names) for i, names in former.items()},
        extra={key: each for key, each in value.items() if key not in _KNOWN_KEYS},
        category_extras={
            int(entry["id"]): extra
            for entry in value["categories"]
            if (extra := {k: v for k, v in entry.items() if k not in _KNOWN_CATEGORY_KEYS})
        },
        split_extra={key: each for key, each in split.items() if key not in _KNOWN_SPLIT_KEYS},
    )


def _category(entry: dict[str, Any], place: int) -> Category:
    number = int(entry["id"])
    if number > _MAX_CATEGORY_ID:
        raise ValueError(f"category ids go up to {_MAX_CATEGORY_ID:,}, got {number}")
    return Category(
        id=number,
        name=str(entry["name"]),
        color=entry.get("color", palette_color(place)),
        key=entry.get("key", ""),
    )
