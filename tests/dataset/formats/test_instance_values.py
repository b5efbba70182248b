"""What files carry of an instance next to its mask: read again as it was, wrong values replaced."""

import math
from typing import Any

import pytest
from tests.core.strategies import assert_same_instances
from tests.dataset.made import CELLS, disc, eleven

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import InstanceState
from napari_deeppixel.dataset.formats.instance_values import (
    Collected,
    category_table,
    category_values,
    instance_values,
)


def collected(*entries: dict[str, Any]) -> tuple[Collected, list[str]]:
    found, told = Collected((90, 120)), list[str]()
    for values in entries:
        found.add(disc(9, 9, 3), category="a", values=values, extra={}, complain=told.append)
    return found, told


def test_values_are_read_as_they_were_given() -> None:
    instances = eleven().instances
    found = Collected(instances.image_hw)
    for instance in instances:
        found.add(
            instance.mask,
            category=CELLS.name_of(instance.category_id),
            values=instance_values(instance),
            extra={},
            complain=pytest.fail,
        )
    assert_same_instances(found.to_instances(CELLS), instances)


def test_nothing_given_is_an_accepted_instance_with_the_next_free_number() -> None:
    found, told = collected({"handle": 2}, {}, {})
    instances = found.to_instances(CategoryTable.from_names("a"))
    assert told == []
    assert instances.handles.tolist() == [2, 1, 3]
    assert set(instances.states) == {InstanceState.ACCEPTED}
    assert all(math.isnan(score) for score in instances.scores)
    assert len(set(instances.uuids)) == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"handle": 0}, {"handle": 2**32}, {"handle": True}, {"handle": "1"}, {"handle": 1.5},
        {"score": 2}, {"score": math.nan}, {"score": "high"}, {"state": "fine"}, {"state": []},
        {"uuid": 7}, {"source": {}},
    ],
)  # fmt: skip
def test_a_wrong_value_is_told_of_and_replaced(wrong: dict[str, Any]) -> None:
    found, told = collected(wrong)
    assert len(told) == 1
    assert found.to_instances(CategoryTable.from_names("a")).handles.tolist() == [1]


def test_numbers_and_identities_are_given_once() -> None:
    found, told = collected({"handle": 5, "uuid": "u"}, {"handle": 5, "uuid": "u"})
    instances = found.to_instances(CategoryTable.from_names("a"))
    assert len(told) == 2
    assert instances.handles.tolist() == [5, 1]
    assert instances.uuids[0] == "u"


def test_a_table_keeps_ids_colours_and_keys_and_takes_new_names() -> None:
    table = category_table(category_values(CELLS), ["nucleus", "new"], colors={"new": "#010203"})
    assert table.categories[:2] == CELLS.categories
    new = table.categories[2]
    assert (new.id, new.name, new.color) == (5, "new", "#010203")


@pytest.mark.parametrize(
    "listed",
    [None, 7, "text", [7], [{}], [{"id": "1", "name": "a", "color": "#010203"}],
     [{"id": True, "name": "a", "color": "#010203"}],
     [{"id": 2**63, "name": "a", "color": "#010203"}],
     [{"id": 1, "name": "a", "color": "red"}], [{"id": 1, "name": " ", "color": "#010203"}],
     [{"id": 1, "name": "a", "color": "#010203"}] * 2],
)  # fmt: skip
def test_a_wrong_list_of_categories_is_passed_over(listed: Any) -> None:
    assert [category.name for category in category_table(listed, ["b"]).categories] == ["b"]
