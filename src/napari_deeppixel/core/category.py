"""Categories: their ids as stored, names, colours, and places in a network."""

import re
from collections.abc import Collection
from dataclasses import dataclass, replace

# Okabe & Ito 2008, Color Universal Design: told apart by the colour-blind, too
_PALETTE = ("#56b4e9", "#e69f00", "#009e73", "#f0e442", "#cc79a7", "#d55e00", "#0072b2")


def palette_color(position: int) -> str:
    """Return a colour ``#rrggbb`` for the category at a position, from a colour-blind-safe set."""
    return _PALETTE[position % len(_PALETTE)]


def free_color(color: str, taken: Collection[str]) -> str:
    """Return a colour that no other category has, where this one was dealt out, not chosen.

    A colour that is none of the set's was chosen by somebody, and stays.
    """
    if color not in taken or color not in _PALETTE:
        return color
    return next((free for free in _PALETTE if free not in taken), color)


@dataclass(frozen=True, kw_only=True)
class Category:
    """One kind of object.

    Attributes
    ----------
    id
        The number that is stored with annotations; 1 or more.
    name
        What people call it.
    color
        ``#rrggbb``.
    key
        One character that chooses the category when it is typed; empty: none.

    Raises
    ------
    ValueError
        If the id is below 1, the name is empty, the colour is not ``#rrggbb``, or the key is
        longer than one character.
    """

    id: int
    name: str
    color: str
    key: str = ""

    def __post_init__(self) -> None:
        if self.id < 1:
            raise ValueError(f"category id must be 1 or more, got {self.id}")
        if not self.name.strip():
            raise ValueError(f"category {self.id} needs a name")
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", self.color):
            raise ValueError(f"category colour must look like #56b4e9, got {self.color!r}")
        if len(self.key) > 1:
            raise ValueError(f"category key must be one character, got {self.key!r}")


@dataclass(frozen=True, kw_only=True)
class CategoryTable:
    """The categories of a model or dataset.

    Attributes
    ----------
    categories
        In the order shown to people; ids and names are unique.
    class_indices
        The class index in a network (1 or more; 0 is background) of each category. Left empty,
        the categories are 1, 2, 3, … in their order. COCO's published weights leave gaps.

    Raises
    ------
    ValueError
        If ids, names or class indices repeat, their numbers differ, or a class index is below 1.
    """

    categories: tuple[Category, ...]
    class_indices: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.class_indices:
            object.__setattr__(self, "class_indices", tuple(range(1, len(self.categories) + 1)))
        if len(self.class_indices) != len(self.categories):
            raise ValueError(
                f"{len(self.categories)} categories but {len(self.class_indices)} class indices"
            )
        if min(self.class_indices, default=1) < 1:
            raise ValueError(
                f"class indices must be 1 or more (0 is background), got {self.class_indices}"
            )
        for what, values in (
            ("category ids", [category.id for category in self.categories]),
            ("category names", [category.name for category in self.categories]),
            ("class indices", list(self.class_indices)),
        ):
            if len(set(values)) != len(values):
                raise ValueError(f"{what} must be unique, got {values}")

    @classmethod
    def from_names(cls, *names: str) -> "CategoryTable":
        """Return a table of names with ids and class indices 1, 2, 3, … and palette colours."""
        return cls(
            categories=tuple(
                Category(id=position + 1, name=name, color=palette_color(position))
                for position, name in enumerate(names)
            )
        )

    def __len__(self) -> int:
        return len(self.categories)

    @property
    def num_classes(self) -> int:
        """Outputs that a network needs for these categories, background included."""
        return max(self.class_indices, default=0) + 1

    def by_id(self, category_id: int) -> Category:
        """Return the category with an id.

        Raises
        ------
        KeyError
            If there is none.
        """
        for category in self.categories:
            if category.id == category_id:
                return category
        raise KeyError(f"no category {category_id}; there are {[c.id for c in self.categories]}")

    def name_of(self, category_id: int) -> str:
        """Return the name for an id; ``category N`` if the table does not know it."""
        try:
            return self.by_id(category_id).name
        except KeyError:
            return f"category {category_id}"

    def class_index_to_id(self) -> dict[int, int]:
        """Return class index → category id; indices without a category are not in it."""
        return {
            index: category.id
            for index, category in zip(self.class_indices, self.categories, strict=True)
        }

    def id_to_class_index(self) -> dict[int, int]:
        """Return category id → class index."""
        return {category_id: index for index, category_id in self.class_index_to_id().items()}

    def joined_with(self, other: "CategoryTable") -> tuple["CategoryTable", dict[int, int]]:
        """Return a table with the categories of both, and other's category id → id in it.

        Categories of one name are one. A category of `other` whose id is taken gets the next free
        one. Class indices start anew: the joined table belongs to no network.
        """
        if self == other:
            return self, {category.id: category.id for category in other.categories}
        joined = list(self.categories)
        id_of_name = {category.name: category.id for category in joined}
        new_ids: dict[int, int] = {}
        for category in other.categories:
            if category.name not in id_of_name:
                taken = {known.id for known in joined}
                new_id = max(taken) + 1 if category.id in taken else category.id
                color = free_color(category.color, [known.color for known in joined])
                joined.append(replace(category, id=new_id, color=color))
                id_of_name[category.name] = new_id
            new_ids[category.id] = id_of_name[category.name]
        return CategoryTable(categories=tuple(joined)), new_ids
