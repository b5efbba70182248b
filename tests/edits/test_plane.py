"""Instances of one plane: their order, and the questions by place and identity."""

from hypothesis import given
from hypothesis import strategies as st
from tests.core.strategies import instance_sets
from tests.edits.made import one, square

from napari_deeppixel.edits.plane import PlaneRecord


def record_of(*handles: int) -> PlaneRecord:
    record = PlaneRecord()
    for handle in handles:
        record.put(one(square(0, 0), handle=handle), is_shown=True)
    return record


def handles(record: PlaneRecord) -> list[int]:
    return [instance.handle for instance in record.instances()]


def test_empty_record_holds_and_shows_nothing() -> None:
    record = PlaneRecord()
    assert (record.instances(), record.shown(), record.shown_in((0, 0, 8, 6))) == ([], [], [])
    assert record.get("uuid 1") is None
    assert not record.is_shown("uuid 1")
    assert record.show_where(lambda _: True) == []


def test_instance_that_comes_back_takes_its_old_place() -> None:
    record = record_of(1, 2, 3)
    record.remove("uuid 2")
    assert handles(record) == [1, 3]
    assert (record.get("uuid 2"), record.is_shown("uuid 2")) == (None, False)
    record.put(one(square(0, 0), handle=2), is_shown=True)
    assert handles(record) == [1, 2, 3]
    assert record.place("uuid 2") == 1


def test_instance_with_a_known_uuid_replaces_the_one_that_is_there() -> None:
    record = record_of(1, 2)
    larger = one(square(0, 0, 5), handle=1)
    record.put(larger, is_shown=False)
    assert record.get("uuid 1") is larger
    assert handles(record) == [1, 2]
    assert [instance.handle for instance in record.shown()] == [2]


def test_place_is_asked_with_the_box_as_it_is_now_and_edges_do_not_touch() -> None:
    record = PlaneRecord()
    record.put(one(square(0, 0)), is_shown=True)
    assert record.shown_in((3, 0, 8, 6)) == []
    assert record.shown_in((0, 3, 8, 6)) == []
    assert len(record.shown_in((2, 2, 8, 6))) == 1
    record.put(one(square(3, 5)), is_shown=True)
    assert record.shown_in((0, 0, 5, 6)) == []
    assert len(record.shown_in((7, 5, 8, 6))) == 1


def test_instance_that_went_is_not_found_at_its_place() -> None:
    record = record_of(1)
    record.remove("uuid 1")
    assert record.shown_in((0, 0, 8, 6)) == []
    assert record.show_where(lambda _: True) == []
    assert record.shown_in((0, 0, 8, 6)) == []


def test_show_where_tells_who_appeared_and_who_vanished() -> None:
    record = record_of(1, 2)
    record.put(one(square(0, 0), handle=3), is_shown=False)
    turned = record.show_where(lambda instance: instance.handle >= 2)
    assert [instance.handle for instance in turned] == [1, 3]
    assert [instance.handle for instance in record.shown()] == [2, 3]
    assert record.show_where(lambda instance: instance.handle >= 2) == []


def test_more_instances_than_the_first_room_keep_boxes_and_visibility() -> None:
    record = PlaneRecord()
    for handle in range(1, 201):
        record.put(one(square(0, handle), handle=handle), is_shown=handle % 2 == 0)
    assert len(record.instances()) == 200
    assert [instance.handle for instance in record.shown()] == list(range(2, 201, 2))
    # squares are 3 wide: 98, 99 and 100 reach into column 100
    assert [instance.handle for instance in record.shown_in((100, 0, 101, 1))] == [98, 100]


@given(instance_sets(max_instances=6), st.data())
def test_record_answers_as_a_plain_list_would(instances, data) -> None:
    record, expected = PlaneRecord(), {}
    for instance in instances:
        expected[instance.uuid] = data.draw(st.booleans())
        record.put(instance, is_shown=expected[instance.uuid])
    height, width = instances.image_hw
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    there = [
        instance.uuid
        for instance in instances
        if expected[instance.uuid]
        and instance.box_xyxy[0] <= x < instance.box_xyxy[2]
        and instance.box_xyxy[1] <= y < instance.box_xyxy[3]
    ]
    assert [instance.uuid for instance in record.shown_in((x, y, x + 1, y + 1))] == there
    assert [i.uuid for i in record.shown()] == [u for u in instances.uuids if expected[u]]
