"""Touching boxes and overlapping masks against comparing each with each."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.edits import neighbours
from napari_deeppixel.edits.neighbours import overlap_shares, shared_box_areas, touching_boxes

boxes = st.integers(0, 12).flatmap(
    lambda n: arrays(np.float64, (n, 4), elements=st.integers(0, 40).map(lambda i: i / 2))
)


def rectangle(y: int, x: int, height: int, width: int) -> CroppedMask:
    return CroppedMask(pixels=np.ones((height, width), np.bool_), y=y, x=x)


def test_boxes_that_share_an_edge_only_do_not_touch() -> None:
    a = [[0, 0, 4, 2], [10, 10, 11, 11]]
    b = [[4, 0, 6, 2], [3, 1, 5, 9], [0, 2, 4, 3]]
    assert touching_boxes(a, b).tolist() == [[0, 1]]


def test_one_box_over_a_whole_plane_touches_all_once() -> None:
    small = [[10.0 * i, 3, 10 * i + 2, 5] for i in range(50)]
    pairs = touching_boxes([[0, 0, 500, 500]], small)
    assert pairs.tolist() == [[0, i] for i in range(50)]


def test_no_box_touches_nothing() -> None:
    assert touching_boxes(np.zeros((0, 4)), [[0, 0, 1, 1]]).shape == (0, 2)
    assert touching_boxes([[0, 0, 1, 1]], []).shape == (0, 2)


@pytest.mark.parametrize("most_pairs", [3, neighbours._MOST_PAIRS])
def test_the_grid_finds_what_comparing_each_with_each_finds(
    most_pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "_MOST_PAIRS", most_pairs)

    @given(boxes, boxes)
    def check(a: np.ndarray, b: np.ndarray) -> None:
        expected = [
            [i, j]
            for i in range(len(a))
            for j in range(len(b))
            if (np.minimum(a[i, 2:], b[j, 2:]) > np.maximum(a[i, :2], b[j, :2])).all()
        ]
        assert touching_boxes(a, b).tolist() == expected

    check()


def test_boxes_share_the_area_of_their_intersection() -> None:
    a, b = np.array([[0.0, 0, 4, 6]]), np.array([[2.0, 3, 9, 9], [7.0, 7, 9, 9]])
    assert shared_box_areas(a, b, np.array([[0, 0], [0, 1]])).tolist() == [6, 0]


def test_overlap_is_the_share_of_the_smaller_mask() -> None:
    instances = InstanceSet(
        image_hw=(8, 20),
        masks=(
            rectangle(0, 0, 4, 10),  # 40 px
            rectangle(2, 6, 4, 5),  # 20 px, 8 of them in the first
            rectangle(1, 1, 1, 1),  # inside the first
            rectangle(6, 15, 2, 2),
        ),
        categories=CategoryTable.from_names("nucleus"),
    )
    assert overlap_shares(instances).tolist() == [1.0, 0.4, 1.0, 0.0]


def test_masks_whose_boxes_touch_need_not_overlap() -> None:
    triangle = np.tri(5, dtype=np.bool_)
    corner = CroppedMask(pixels=triangle, y=0, x=0)
    other = CroppedMask(pixels=~triangle[:4, 1:], y=0, x=1)
    instances = InstanceSet(
        image_hw=(5, 5), masks=(corner, other), categories=CategoryTable.from_names("nucleus")
    )
    assert overlap_shares(instances).tolist() == [0.0, 0.0]
