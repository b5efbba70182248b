"""The instance record: what it refuses, and that nothing in it gets lost."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.core.strategies import assert_same_instances, category_tables, instance_sets, sizes_hw

from napari_deeppixel.core.category import Category, CategoryTable
from napari_deeppixel.core.instance import (
    MAX_HANDLE,
    InstanceSet,
    InstanceState,
    label_image_to_instances,
)
from napari_deeppixel.core.mask import CroppedMask

NUCLEUS = CategoryTable.from_names("nucleus")
GAPPY = CategoryTable(
    categories=(
        Category(id=7, name="cat", color="#ff0000"),
        Category(id=3, name="dog", color="#00ff00"),
    )
)


def rectangle(x1: int, y1: int, x2: int, y2: int) -> CroppedMask:
    return CroppedMask(pixels=np.ones((y2 - y1, x2 - x1), bool), y=y1, x=x1)


def pair(**changes: Any) -> InstanceSet:
    """Return two rectangles in an image of 4 x 6 that share the pixels in row 1, columns 2, 3."""
    masks = (rectangle(0, 0, 4, 2), rectangle(2, 1, 6, 4))
    return InstanceSet(**({"image_hw": (4, 6), "masks": masks, "categories": NUCLEUS} | changes))


def test_a_set_of_masks_alone_gets_defaults() -> None:
    instances = pair(categories=GAPPY)
    assert instances.category_ids.tolist() == [7, 7]
    assert np.isnan(instances.scores).all()
    assert instances.handles.tolist() == [1, 2]
    assert len(set(instances.uuids)) == 2
    assert instances.states == (InstanceState.UNREVIEWED,) * 2
    assert instances.sources == ("", "")
    assert np.isnan(instances.predicted_boxes_xyxy).all()
    assert instances.predicted_boxes_xyxy.shape == (2, 4)


def test_two_sets_never_share_a_made_up_uuid() -> None:
    assert not set(pair().uuids) & set(pair().uuids)


def test_boxes_and_areas_are_those_of_the_masks() -> None:
    assert pair().boxes_xyxy.tolist() == [[0, 0, 4, 2], [2, 1, 6, 4]]
    assert pair().areas.tolist() == [8, 12]


def test_an_empty_set_has_arrays_of_the_right_shapes() -> None:
    empty = InstanceSet.empty((4, 6), NUCLEUS)
    assert len(empty) == 0
    assert list(empty) == []
    assert empty.boxes_xyxy.shape == empty.predicted_boxes_xyxy.shape == (0, 4)
    assert empty.areas.shape == empty.scores.shape == empty.handles.shape == (0,)
    assert empty.label_image().tolist() == np.zeros((4, 6)).tolist()
    assert empty.label_image().dtype == np.uint16
    assert empty.drawing_order().shape == (0,)


def test_an_empty_set_goes_through_every_change() -> None:
    empty = InstanceSet.empty((4, 6), NUCLEUS)
    assert len(empty.select(np.zeros(0, bool))) == 0
    assert len(empty.select([])) == 0
    assert len(empty.above_score(0.5)) == 0
    assert len(empty.with_handles_from(5)) == 0
    assert empty.moved(dy=1, dx=2, image_hw=(5, 8)).image_hw == (5, 8)
    assert len(InstanceSet.concatenate([empty, empty])) == 0
    assert len(InstanceSet.concatenate([empty, pair(), empty])) == 2


def test_an_empty_set_needs_no_category() -> None:
    assert len(InstanceSet.empty((1, 1), CategoryTable(categories=()))) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_hw": (0, 6)}, "at least one pixel"),
        ({"image_hw": (4, -1)}, "at least one pixel"),
        ({"image_hw": (3, 6)}, r"mask 1 with box \[2.0, 1.0, 6.0, 4.0\] leaves the plane"),
        ({"image_hw": (4, 5)}, r"mask 1 .* leaves the plane of \(4, 5\)"),
        ({"image_hw": (6, 4)}, r"mask 1 .* leaves the plane of \(6, 4\)"),
        ({"category_ids": np.array([1])}, "2 masks but 1 category_ids"),
        ({"category_ids": np.array([1, 2])}, r"category ids \[2\] are not among \[1\]"),
        ({"categories": CategoryTable(categories=())}, r"category ids \[0\] are not among \[\]"),
        ({"scores": np.array([0.5, 0.5, 0.5])}, "2 masks but 3 scores"),
        ({"scores": np.array([0.5, 1.01])}, r"0..1 or be NaN, got \[0.5, 1.01\]"),
        ({"scores": np.array([-0.1, np.nan])}, "0..1 or be NaN"),
        ({"scores": np.array([np.inf, 0.5])}, "0..1 or be NaN"),
        ({"scores": np.array([[0.5], [0.5]])}, r"scores must have shape \(2,\), got \(2, 1\)"),
        ({"handles": np.array([1])}, "2 masks but 1 handles"),
        ({"handles": np.array([0, 1])}, "1..4294967295"),
        ({"handles": np.array([-1, 1])}, "1..4294967295"),
        ({"handles": np.array([1, 2**32])}, "1..4294967295"),
        ({"handles": np.array([4, 4])}, r"handles must be unique, got \[4, 4\]"),
        ({"uuids": ("a",)}, "2 masks but 1 uuids"),
        ({"uuids": ("a", "a")}, "uuids must be unique"),
        ({"states": (InstanceState.DRAWN,)}, "2 masks but 1 states"),
        ({"states": ("drawn", "lost")}, "'lost' is not a valid InstanceState"),
        ({"sources": ("me", "me", "me")}, "2 masks but 3 sources"),
        ({"predicted_boxes_xyxy": np.zeros((1, 4))}, "2 masks but 1 predicted_boxes_xyxy"),
        ({"predicted_boxes_xyxy": np.zeros((2, 3))}, r"must have shape \(2, 4\)"),
        ({"masks": (), "scores": np.array([0.5])}, "0 masks but 1 scores"),
        ({"masks": (), "uuids": ("a",)}, "0 masks but 1 uuids"),
    ],
)
def test_a_wrong_set_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pair(**changes)


def test_states_may_be_given_as_text() -> None:
    states = pair(states=("drawn", "unsure")).states
    assert states == (InstanceState.DRAWN, InstanceState.UNSURE)
    assert all(isinstance(state, InstanceState) for state in states)


@pytest.mark.parametrize(
    "name", ["category_ids", "scores", "handles", "predicted_boxes_xyxy", "edge_uncertainties"]
)
def test_arrays_are_copies_that_cannot_be_written(name: str) -> None:
    given_array = np.array(getattr(pair(), name))
    given_array[...] = [3, 4] if name == "handles" else 1
    instances = pair(**{name: given_array})
    before = getattr(instances, name).tolist()
    given_array[...] = 0
    assert getattr(instances, name).tolist() == before
    with pytest.raises(ValueError, match="read-only"):
        getattr(instances, name)[0] = 0


def test_an_instance_holds_its_row_of_the_set() -> None:
    instances = pair(
        categories=GAPPY,
        category_ids=np.array([7, 3]),
        scores=np.array([0.25, 0.75]),
        handles=np.array([10, 20]),
        uuids=("a", "b"),
        states=("accepted", "rejected"),
        sources=("me", "you"),
    )
    second = instances[1]
    assert second.mask is instances.masks[1]
    assert second.box_xyxy == (2, 1, 6, 4)
    assert (second.score, second.category_id, second.handle, second.uuid) == (0.75, 3, 20, "b")
    assert (second.state, second.source, second.area) == (InstanceState.REJECTED, "you", 12)
    assert [instance.handle for instance in instances] == [10, 20]
    assert instances[-1].handle == 20


@given(instance_sets())
def test_instances_put_back_into_their_set_change_nothing(instances: InstanceSet) -> None:
    assert_same_instances(instances.with_instances(list(instances)), instances)


def test_a_new_instance_has_no_predicted_box_and_old_ones_keep_theirs() -> None:
    boxes = np.array([[0, 0, 4, 2], [2, 1, 6, 4]], float)
    instances = pair(predicted_boxes_xyxy=boxes, uuids=("a", "b"))
    drawn = replace(instances[0], uuid="c", handle=9, predicted_box_xyxy=(np.nan,) * 4)
    changed = instances.with_instances([drawn, instances[1]])
    assert changed.uuids == ("c", "b")
    assert np.isnan(changed.predicted_boxes_xyxy[0]).all()
    assert changed.predicted_boxes_xyxy[1].tolist() == [2, 1, 6, 4]


@given(instance_sets(), st.data())
def test_select_takes_the_same_rows_of_every_field(
    instances: InstanceSet, data: st.DataObject
) -> None:
    chosen = data.draw(hnp.arrays(bool, len(instances)))
    selected = instances.select(chosen)
    positions = np.flatnonzero(chosen)
    assert_same_instances(selected, instances.select(positions))
    for row, position in zip(selected, positions, strict=True):
        assert row.mask is instances.masks[position]
        assert row.uuid == instances.uuids[position]
        assert row.handle == instances.handles[position]
        assert row.state == instances.states[position]
        assert row.source == instances.sources[position]
        assert row.category_id == instances.category_ids[position]


@given(instance_sets(), st.data())
def test_both_halves_of_a_set_join_to_the_whole(
    instances: InstanceSet, data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(instances)))
    positions = np.arange(len(instances))
    halves = [instances.select(positions[:cut]), instances.select(positions[cut:])]
    assert_same_instances(InstanceSet.concatenate(halves), instances)


def test_select_by_position_keeps_the_order_asked_for() -> None:
    instances = pair(uuids=("a", "b"), handles=np.array([5, 9]))
    swapped = instances.select([1, 0])
    assert swapped.uuids == ("b", "a")
    assert swapped.handles.tolist() == [9, 5]
    assert swapped.boxes_xyxy.tolist() == [[2, 1, 6, 4], [0, 0, 4, 2]]


@pytest.mark.parametrize("which", [np.array([True]), np.array([[True, False]]), np.ones(3, bool)])
def test_a_wrong_number_of_choices_is_refused(which: np.ndarray) -> None:
    with pytest.raises(ValueError, match="need 2 choices"):
        pair().select(which)


def test_one_instance_cannot_be_selected_twice() -> None:
    with pytest.raises(ValueError, match="unique"):
        pair().select([0, 0])


def test_above_score_keeps_the_score_itself_and_what_has_none() -> None:
    masks = tuple(rectangle(x, 0, x + 1, 1) for x in range(4))
    instances = pair(masks=masks, scores=np.array([0.5, 0.49, np.nan, 0.9]))
    assert instances.above_score(0.5).handles.tolist() == [1, 3, 4]


def test_with_handles_from_numbers_on() -> None:
    assert pair().with_handles_from(7).handles.tolist() == [7, 8]
    with pytest.raises(ValueError, match=r"1\.\.4294967295"):
        pair().with_handles_from(int(MAX_HANDLE))


def test_joining_needs_one_size_one_table_and_different_handles() -> None:
    one = pair(uuids=("a", "b"))
    with pytest.raises(ValueError, match="at least one set"):
        InstanceSet.concatenate([])
    with pytest.raises(ValueError, match=r"sizes differ: \[\(4, 6\), \(9, 9\)\]"):
        InstanceSet.concatenate([one, pair(image_hw=(9, 9)).with_handles_from(3)])
    with pytest.raises(ValueError, match="category tables differ"):
        InstanceSet.concatenate([one, pair(categories=GAPPY).with_handles_from(3)])
    with pytest.raises(ValueError, match="handles must be unique"):
        InstanceSet.concatenate([one, pair()])
    with pytest.raises(ValueError, match="uuids must be unique"):
        InstanceSet.concatenate([one, pair(uuids=("b", "c")).with_handles_from(3)])


@given(instance_sets(), st.integers(0, 5), st.integers(0, 5))
def test_moved_there_and_back_is_the_same(instances: InstanceSet, dy: int, dx: int) -> None:
    height, width = instances.image_hw
    moved = instances.moved(dy=dy, dx=dx, image_hw=(height + dy, width + dx))
    assert moved.boxes_xyxy.tolist() == (instances.boxes_xyxy + np.array([dx, dy, dx, dy])).tolist()
    assert moved.uuids == instances.uuids
    back = moved.moved(dy=-dy, dx=-dx, image_hw=(height, width))
    # small multiples of 2**-149 do not survive adding 5, so boxes are compared within 1e-12 px
    close = np.allclose(
        back.predicted_boxes_xyxy, instances.predicted_boxes_xyxy, atol=1e-12, equal_nan=True
    )
    assert close
    assert_same_instances(
        replace(back, predicted_boxes_xyxy=instances.predicted_boxes_xyxy), instances
    )


def test_moved_takes_predicted_boxes_along_and_y_and_x_apart() -> None:
    boxes = np.array([[0, 0, 4, 2], [np.nan] * 4])
    moved = pair(predicted_boxes_xyxy=boxes).moved(dy=10, dx=100, image_hw=(20, 200))
    assert moved.boxes_xyxy.tolist() == [[100, 10, 104, 12], [102, 11, 106, 14]]
    assert moved.predicted_boxes_xyxy[0].tolist() == [100, 10, 104, 12]
    assert np.isnan(moved.predicted_boxes_xyxy[1]).all()


def test_moved_out_of_the_plane_is_refused() -> None:
    with pytest.raises(ValueError, match="must lie in the image"):
        pair().moved(dy=-1, dx=0, image_hw=(4, 6))
    with pytest.raises(ValueError, match="leaves the plane"):
        pair().moved(dy=0, dx=1, image_hw=(4, 6))


def test_recategorised_maps_ids_into_the_other_table() -> None:
    instances = pair(categories=GAPPY, category_ids=np.array([3, 7]))
    both, new_ids = NUCLEUS.joined_with(GAPPY)
    changed = instances.recategorised(both, new_ids)
    assert [both.name_of(i) for i in changed.category_ids] == ["dog", "cat"]
    assert changed.uuids == instances.uuids


@given(instance_sets(), category_tables())
def test_recategorised_keeps_the_name_of_each_category(
    instances: InstanceSet, mine: CategoryTable
) -> None:
    table, new_ids = mine.joined_with(instances.categories)
    changed = instances.recategorised(table, new_ids)
    for before, after in zip(instances, changed, strict=True):
        name = instances.categories.name_of(before.category_id)
        assert table.name_of(after.category_id) == name


def test_overlapping_masks_stay_whole_although_the_drawn_view_shows_one() -> None:
    instances = pair(scores=np.array([0.4, 0.9]))
    assert instances.label_image().tolist() == [
        [1, 1, 1, 1, 0, 0],
        [1, 1, 2, 2, 2, 2],
        [0, 0, 2, 2, 2, 2],
        [0, 0, 2, 2, 2, 2],
    ]
    assert instances.areas.tolist() == [8, 12]


@pytest.mark.parametrize(
    ("scores", "states", "top"),
    [
        ((0.4, 0.9), ("unreviewed", "unreviewed"), 2),
        ((0.9, 0.4), ("unreviewed", "unreviewed"), 1),
        ((0.5, 0.5), ("unreviewed", "unreviewed"), 2),  # the later one
        ((0.4, 0.9), ("accepted", "unreviewed"), 1),
        ((0.4, 0.9), ("edited", "accepted"), 2),
        ((np.nan, 0.9), ("unreviewed", "unreviewed"), 1),
        ((0.9, np.nan), ("drawn", "drawn"), 2),
        ((np.nan, 0.1), ("unreviewed", "unsure"), 2),
    ],
)
def test_what_a_person_said_and_then_the_higher_score_is_on_top(
    scores: tuple, states: tuple, top: int
) -> None:
    instances = pair(scores=np.array(scores), states=states)
    assert instances.drawing_order()[-1] + 1 == top
    assert instances.label_image()[1, 2] == top


@pytest.mark.parametrize(
    ("largest", "dtype"),
    [(65535, np.uint16), (65536, np.uint32), (int(MAX_HANDLE), np.uint32)],
)
def test_a_label_image_is_uint16_while_the_handles_allow(largest: int, dtype: type) -> None:
    label_image = pair(handles=np.array([1, largest])).label_image()
    assert label_image.dtype == dtype
    assert label_image.max() == largest


def test_draw_into_leaves_other_pixels_alone() -> None:
    canvas = np.full((4, 6), 77, np.int64)
    pair(masks=(rectangle(5, 3, 6, 4),), handles=np.array([12])).draw_into(canvas)
    assert canvas[3, 5] == 12
    assert (canvas == 77).sum() == 23


label_images = sizes_hw.flatmap(
    lambda hw: st.sampled_from([np.uint8, np.uint16, np.int32, np.uint32, np.int64]).flatmap(
        lambda dtype: hnp.arrays(dtype, hw, elements=st.sampled_from([0, 1, 2, 9, 100]))
    )
)


@given(label_images)
def test_label_image_to_instances_and_back_is_the_same(label_image: np.ndarray) -> None:
    instances = label_image_to_instances(label_image, categories=NUCLEUS)
    assert np.array_equal(instances.label_image(), label_image)
    assert instances.handles.tolist() == sorted(set(label_image.ravel().tolist()) - {0})
    assert instances.areas.sum() == np.count_nonzero(label_image)


def test_a_label_image_gives_one_instance_for_each_number_also_in_two_parts() -> None:
    label_image = np.array([[0, 7, 0, 3], [0, 0, 0, 3], [0, 7, 7, 0]], np.uint16)
    instances = label_image_to_instances(
        label_image, categories=NUCLEUS, source="me", state=InstanceState.DRAWN
    )
    assert instances.handles.tolist() == [3, 7]
    assert instances.boxes_xyxy.tolist() == [[3, 0, 4, 2], [1, 0, 3, 3]]
    assert instances.masks[1].pixels.tolist() == [[True, False], [False, False], [True, True]]
    assert instances.sources == ("me", "me")
    assert instances.states == (InstanceState.DRAWN,) * 2


def test_a_label_image_with_the_largest_handle_comes_back() -> None:
    label_image = np.array([[0, MAX_HANDLE]], np.uint32)
    instances = label_image_to_instances(label_image, categories=NUCLEUS)
    assert instances.handles.tolist() == [4294967295]
    assert instances.label_image().tolist() == label_image.tolist()


def test_an_empty_label_image_gives_no_instance() -> None:
    assert len(label_image_to_instances(np.zeros((3, 4), np.uint8), categories=NUCLEUS)) == 0


@pytest.mark.parametrize(
    ("label_image", "message"),
    [
        (np.zeros((2, 3, 4), int), "2-D integer, got 3-D"),
        (np.zeros(3, int), "2-D integer, got 1-D"),
        (np.zeros((2, 3)), "2-D integer, got 2-D float64"),
        (np.zeros((2, 3), bool), "2-D integer, got 2-D bool"),
        (np.array([[0, -2]]), "holds -2 to 0"),
        (np.zeros((0, 3), int), "at least one pixel"),
        (np.array([[2**32]]), "0..4294967295"),
        (np.array([[2**63]], np.uint64), "0..4294967295"),
    ],
)
def test_a_wrong_label_image_is_refused(label_image: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        label_image_to_instances(label_image, categories=NUCLEUS)
