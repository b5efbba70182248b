"""The review queue on a plane that can be drawn on squared paper."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.strategies import instance_sets

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.edits.queue import (
    QueueItem,
    QueueOrder,
    position_after,
    reading_order,
    review_queue,
    time_left_s,
)

TABLE = CategoryTable.from_names("nucleus", "debris")
U, A, N = InstanceState.UNREVIEWED, InstanceState.ACCEPTED, InstanceState.UNSURE


def rectangle(y: int, x: int, height: int, width: int) -> CroppedMask:
    return CroppedMask(pixels=np.ones((height, width), np.bool_), y=y, x=x)


def plane(*masks: CroppedMask, names: str = "", **fields: Any) -> InstanceSet:
    fields.setdefault("scores", np.full(len(masks), 0.9))
    return InstanceSet(
        image_hw=(60, 100),
        masks=masks,
        categories=TABLE,
        uuids=tuple(names or "abcdefgh"[: len(masks)]),
        **fields,
    )


def names(queue: list[QueueItem]) -> str:
    return "".join(item.uuid for item in queue)


def four(**fields: Any) -> InstanceSet:
    """Return a below b on the left, c right of b but a little higher, d at the right edge."""
    return plane(
        rectangle(40, 5, 8, 8),
        rectangle(5, 5, 8, 8),
        rectangle(3, 50, 9, 9),
        rectangle(40, 90, 5, 10),
        **fields,
    )


def test_the_lowest_score_of_what_is_open_comes_first() -> None:
    instances = four(scores=np.array([0.9, 0.5, 0.2, 0.7]), states=(U, U, A, N))
    queue = review_queue({(): instances}, QueueOrder.UNCERTAIN)
    assert names(queue) == "dba"
    assert [item.reason for item in queue] == ["marked unsure", "score 0.50", "score 0.90"]
    assert queue[0].uncertainty == 1
    assert (queue[1].handle, queue[1].index) == (2, ())


def test_the_most_uncertain_of_all_planes_comes_first() -> None:
    planes = {
        (1, 0): plane(rectangle(5, 5, 8, 8), names="x", scores=np.array([0.5])),
        (0, 3): plane(rectangle(5, 5, 8, 8), names="y", scores=np.array([0.6])),
        (0, 2): plane(rectangle(5, 5, 8, 8), names="z", scores=np.array([0.6])),
    }
    queue = review_queue(planes, QueueOrder.UNCERTAIN)
    assert names(queue) == "xzy"
    assert [item.index for item in queue] == [(1, 0), (0, 2), (0, 3)]


def test_candidates_of_the_same_plane_give_a_reason() -> None:
    visible = plane(rectangle(10, 10, 10, 20), scores=np.array([1.0]))
    halves = plane(
        rectangle(10, 10, 10, 10), rectangle(10, 20, 10, 10), names="xy", scores=np.full(2, 0.2)
    )
    planes = {(0,): visible}
    queue = review_queue(planes, QueueOrder.UNCERTAIN, candidates={(0,): halves})
    assert queue[0].reason == "two candidates merged"
    elsewhere = review_queue(planes, QueueOrder.UNCERTAIN, candidates={(1,): halves})
    assert elsewhere[0].reason == "score 1.00"


def test_unreviewed_ones_come_in_reading_order() -> None:
    queue = review_queue({(): four(states=(U, U, U, A))}, QueueOrder.UNREVIEWED)
    assert names(queue) == "bca"


def test_all_come_in_reading_order_with_their_state_as_reason() -> None:
    queue = review_queue({(): four(states=(U, U, A, N))}, QueueOrder.ALL)
    assert names(queue) == "bcad"
    reasons = [item.reason for item in queue]
    assert reasons == ["score 0.90", "accepted", "score 0.90", "marked unsure"]


def test_planes_come_one_after_the_other_in_reading_order() -> None:
    planes = {(2,): plane(rectangle(5, 5, 8, 8), names="x"), (1,): four()}
    assert names(review_queue(planes, QueueOrder.ALL)) == "bcadx"


def test_a_category_comes_unreviewed_first_then_unsure() -> None:
    instances = four(category_ids=np.array([2, 2, 1, 2]), states=(N, A, U, U))
    queue = review_queue({(): instances}, QueueOrder.CATEGORY, category_id=2)
    assert names(queue) == "dab"


def test_a_queue_of_a_category_needs_one() -> None:
    with pytest.raises(ValueError, match="category_id"):
        review_queue({(): four()}, QueueOrder.CATEGORY)


def test_small_ones_are_all_unreviewed_from_the_smallest() -> None:
    queue = review_queue({(): four(states=(U, A, U, U))}, QueueOrder.SMALL)
    assert names(queue) == "dac"
    assert [item.reason for item in queue] == ["area 50 px", "area 64 px", "area 81 px"]


def test_those_at_the_border_come_whatever_their_state() -> None:
    queue = review_queue({(): four(states=(U, U, U, A))}, QueueOrder.BORDER)
    assert names(queue) == "d"
    assert queue[0].reason == "touches the border"


def test_the_largest_overlap_comes_first() -> None:
    instances = plane(
        rectangle(5, 5, 10, 10),
        rectangle(5, 14, 10, 10),
        rectangle(30, 5, 10, 10),
        rectangle(30, 10, 10, 10),
        rectangle(30, 60, 10, 10),
    )
    queue = review_queue({(): instances}, QueueOrder.OVERLAPPING)
    assert names(queue) == "cdab"
    reasons = [item.reason for item in queue]
    assert reasons == ["overlaps another by 50 %"] * 2 + ["overlaps another by 10 %"] * 2


def test_a_row_is_read_from_the_left_though_objects_lie_a_little_higher() -> None:
    masks = [rectangle(10 + y, x, 8, 8) for y, x in ((3, 5), (0, 25), (4, 45), (22, 5))]
    assert reading_order(plane(*masks)).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("order", QueueOrder)
def test_nothing_to_see_is_an_empty_queue(order: QueueOrder) -> None:
    empty = InstanceSet.empty((4, 6), TABLE)
    assert review_queue({}, order, category_id=1) == []
    assert review_queue({(): empty}, order, candidates={(): empty}, category_id=1) == []


@given(instance_sets(), st.sampled_from(QueueOrder))
def test_no_instance_comes_twice_and_all_holds_each(
    instances: InstanceSet, order: QueueOrder
) -> None:
    queue = review_queue({(0,): instances}, order, candidates={(0,): instances}, category_id=1)
    uuids = [item.uuid for item in queue]
    assert len(set(uuids)) == len(uuids)
    assert set(uuids) <= set(instances.uuids)
    if order is QueueOrder.ALL:
        assert len(uuids) == len(instances)


def make_field(seed: int) -> InstanceSet:
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[-9:10, -9:10]
    discs = [CroppedMask.from_mask(yy**2 + xx**2 <= r * r) for r in range(4, 10)]
    masks = tuple(
        disc.moved(dy=int(y), dx=int(x))
        for n, (y, x) in enumerate(rng.integers(0, 4000, (10_000, 2)))
        if (disc := discs[n % 6])
    )
    scores = rng.uniform(0.05, 1, len(masks))
    return InstanceSet(image_hw=(4096, 4096), masks=masks, categories=TABLE, scores=scores)


def test_ten_thousand_with_as_many_candidates_take_no_minute() -> None:
    visible, candidates = make_field(0), make_field(1)
    start = time.process_time()
    queue = review_queue({(): visible}, QueueOrder.UNCERTAIN, candidates={(): candidates})
    # 0.3 s measured; comparing each with each takes minutes
    assert time.process_time() - start < 5
    assert len(queue) == 10_000


def items(names: str) -> list[QueueItem]:
    return [QueueItem(index=(), uuid=n, handle=1, reason="", uncertainty=0) for n in names]


def among(names: str) -> Callable[[str], bool]:
    return lambda uuid: uuid in names


@pytest.mark.parametrize(
    ("uuid", "done", "step", "expected"),
    [
        ("b", "", 1, 2),
        ("b", "", -1, 0),
        ("b", "cd", 1, 4),
        ("d", "bcd", -1, 0),
        # the current one has vanished, and with it both beside it
        ("c", "bcd", 1, 4),
        ("c", "bcd", -1, 0),
        ("e", "", 1, None),
        ("a", "", -1, None),
        ("b", "cde", 1, None),
        # from an end
        (None, "", 1, 0),
        (None, "ab", 1, 2),
        (None, "e", -1, 3),
        ("?", "", 1, 0),
        (None, "abcde", 1, None),
    ],
)
def test_the_next_one_to_do_is_found_past_what_is_done(
    uuid: str | None, done: str, step: int, expected: int | None
) -> None:
    assert position_after(items("abcde"), uuid, is_done=among(done), step=step) == expected


def test_an_empty_queue_has_no_next() -> None:
    assert position_after([], None, is_done=among("")) is None


def test_a_step_over_two_is_refused() -> None:
    with pytest.raises(ValueError, match="step must be 1 or -1, got 2"):
        position_after(items("abc"), "a", is_done=among(""), step=2)


def test_time_left_is_the_median_times_what_remains() -> None:
    assert time_left_s([2, 9, 3], 10) == 30


def test_a_coffee_break_does_not_count() -> None:
    assert time_left_s([2, 900, 2, 2, 61, 4, 4], 10) == 20
    assert time_left_s([2, 900, 61, 3], 10) is None


def test_only_the_last_twenty_count() -> None:
    assert time_left_s([50] * 30 + [1] * 20, 5) == 5


def test_less_than_three_tell_nothing() -> None:
    assert time_left_s([1, 1], 5) is None
