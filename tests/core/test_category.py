"""Category ids as stored, and their places in a network."""

import pytest
from hypothesis import given
from tests.core.strategies import category_tables

from napari_deeppixel.core.category import Category, CategoryTable, palette_color

RED = "#ff0000"


def category(number: int, name: str) -> Category:
    return Category(id=number, name=name, color=RED)


def gappy() -> CategoryTable:
    """Return three categories whose ids and class indices leave gaps, in no order."""
    return CategoryTable(
        categories=(category(7, "cat"), category(3, "dog"), category(90, "bird")),
        class_indices=(5, 1, 2),
    )


def test_names_get_ids_and_class_indices_from_one() -> None:
    table = CategoryTable.from_names("nucleus", "cell")
    assert [(c.id, c.name) for c in table.categories] == [(1, "nucleus"), (2, "cell")]
    assert table.class_indices == (1, 2)
    assert table.num_classes == 3
    assert len(table) == 2


def test_a_table_with_gaps_translates_both_ways() -> None:
    table = gappy()
    assert table.class_index_to_id() == {5: 7, 1: 3, 2: 90}
    assert table.id_to_class_index() == {7: 5, 3: 1, 90: 2}


def test_a_network_needs_outputs_up_to_the_largest_class_index() -> None:
    assert gappy().num_classes == 6
    assert CategoryTable(categories=()).num_classes == 1


@given(category_tables())
def test_ids_to_class_indices_and_back_are_the_same(table: CategoryTable) -> None:
    to_index, to_id = table.id_to_class_index(), table.class_index_to_id()
    assert {to_id[to_index[c.id]] for c in table.categories} == {c.id for c in table.categories}
    assert max(to_id) < table.num_classes
    assert 0 not in to_id


def test_categories_are_found_by_id() -> None:
    assert gappy().by_id(90).name == "bird"
    assert gappy().name_of(3) == "dog"
    assert gappy().name_of(4) == "category 4"
    with pytest.raises(KeyError, match=r"no category 4; there are \[7, 3, 90\]"):
        gappy().by_id(4)


@pytest.mark.parametrize(
    ("number", "name", "color", "message"),
    [
        (0, "a", RED, "must be 1 or more, got 0"),
        (-3, "a", RED, "must be 1 or more, got -3"),
        (1, "", RED, "category 1 needs a name"),
        (1, "  ", RED, "category 1 needs a name"),
        (1, "a", "red", "'red'"),
        (1, "a", "#ff00", "'#ff00'"),
        (1, "a", "#ff00000", "'#ff00000'"),
        (1, "a", "#ff000g", "'#ff000g'"),
    ],
)
def test_a_wrong_category_is_refused(number: int, name: str, color: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Category(id=number, name=name, color=color)


@pytest.mark.parametrize(
    ("categories", "class_indices", "message"),
    [
        ((category(1, "a"), category(1, "b")), (), r"category ids must be unique, got \[1, 1\]"),
        ((category(1, "a"), category(2, "a")), (), "category names must be unique"),
        ((category(1, "a"), category(2, "b")), (4, 4), "class indices must be unique"),
        ((category(1, "a"), category(2, "b")), (1,), "2 categories but 1 class indices"),
        ((), (1,), "0 categories but 1 class indices"),
        ((category(1, "a"),), (0,), "class indices must be 1 or more"),
        ((category(1, "a"), category(2, "b")), (1, -1), "class indices must be 1 or more"),
    ],
)
def test_a_wrong_table_is_refused(categories: tuple, class_indices: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CategoryTable(categories=categories, class_indices=class_indices)


def test_palette_goes_round_and_its_first_colours_differ() -> None:
    colors = [palette_color(position) for position in range(7)]
    assert len(set(colors)) == 7
    assert palette_color(7) == colors[0]


def test_joining_a_table_with_itself_changes_nothing() -> None:
    joined, new_ids = gappy().joined_with(gappy())
    assert joined == gappy()
    assert new_ids == {7: 7, 3: 3, 90: 90}


def test_joining_keeps_one_category_for_one_name_and_renumbers_taken_ids() -> None:
    mine = CategoryTable.from_names("cat", "dog")
    theirs = CategoryTable(
        categories=(category(1, "bird"), category(2, "cat"), category(9, "fish"))
    )
    joined, new_ids = mine.joined_with(theirs)
    assert [(c.id, c.name) for c in joined.categories] == [
        (1, "cat"),
        (2, "dog"),
        (3, "bird"),
        (9, "fish"),
    ]
    assert new_ids == {1: 3, 2: 1, 9: 9}
    assert joined.class_indices == (1, 2, 3, 4)


@given(category_tables(), category_tables())
def test_joining_keeps_my_ids_and_finds_each_of_theirs_by_name(
    mine: CategoryTable, theirs: CategoryTable
) -> None:
    joined, new_ids = mine.joined_with(theirs)
    assert joined.categories[: len(mine)] == mine.categories
    assert {c.id for c in theirs.categories} == set(new_ids)
    for other in theirs.categories:
        assert joined.by_id(new_ids[other.id]).name == other.name


def test_a_colour_that_was_dealt_out_is_not_dealt_twice_when_tables_are_joined() -> None:
    joined, _ = CategoryTable.from_names("a", "b").joined_with(CategoryTable.from_names("c"))
    assert len({category.color for category in joined.categories}) == 3
    # one that somebody chose stays
    red = CategoryTable(
        categories=tuple(Category(id=n, name=str(n), color="#ff0000") for n in (1, 2))
    )
    joined, _ = CategoryTable.from_names("a").joined_with(red)
    assert [category.color for category in joined.categories][1:] == ["#ff0000", "#ff0000"]
