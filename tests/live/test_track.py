"""Ids that stay with an object, and those that must not."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.strategies import masks_in
from tests.live.moving_nuclei import read_truth

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.live.id_metrics import id_figures
from napari_deeppixel.live.synthetic import SyntheticScene, SyntheticSource
from napari_deeppixel.live.track import (
    MAX_ID,
    Tracker,
    TrackSettings,
    mask_centre_yx,
    mask_iou_matrix,
)

TABLE = CategoryTable.from_names("thing")
HW = (100, 200)


def disc(y: float, x: float, radius: float = 8) -> CroppedMask:
    rows, columns = np.ogrid[: HW[0], : HW[1]]
    mask = CroppedMask.from_mask((rows - y) ** 2 + (columns - x) ** 2 <= radius**2)
    assert mask is not None
    return mask


def frame(*masks: CroppedMask, image_hw: tuple[int, int] = HW) -> InstanceSet:
    return InstanceSet(image_hw=image_hw, masks=masks, categories=TABLE)


def ids(tracker: Tracker, time_s: float, *masks: CroppedMask, **low: Any) -> list[int]:
    handles: list[int] = tracker.update(frame(*masks), time_s, **low).handles.tolist()
    return handles


def test_every_instance_has_an_id_from_its_first_frame_on() -> None:
    assert ids(Tracker(), 0, disc(20, 20), disc(60, 60)) == [1, 2]


def test_ids_and_uuids_follow_objects_that_move_and_change_places_in_the_set() -> None:
    tracker = Tracker()
    first = tracker.update(frame(disc(20, 20), disc(60, 60)), 0)
    second = tracker.update(frame(disc(62, 63), disc(20, 24)), 0.1)
    assert second.handles.tolist() == [2, 1]
    assert second.uuids == first.uuids[::-1]
    assert first.uuids[0] != first.uuids[1]


def test_all_else_of_an_instance_stays_as_it_was() -> None:
    given_set = replace(frame(disc(20, 20), disc(60, 60)), scores=np.array([0.7, 0.9]))
    shown = Tracker().update(given_set, 0)
    assert shown.scores.tolist() == [0.7, 0.9]
    assert shown.masks == given_set.masks


def test_two_discs_that_cross_keep_their_ids() -> None:
    tracker = Tracker()
    # 40 px a second towards each other on rows 4 px apart: each covers the other's last place
    for step in range(31):
        left, right = disc(48, 40 + 4 * step), disc(52, 160 - 4 * step)
        assert ids(tracker, step / 10, left, right) == [1, 2]


def test_a_disc_hidden_while_it_moves_on_is_found_again() -> None:
    tracker = Tracker()
    for step in range(10):
        assert ids(tracker, step / 10, disc(50, 20 + 4 * step), disc(20, 100)) == [2, 1]
    for step in range(10, 20):
        assert ids(tracker, step / 10, disc(20, 100)) == [1]
    # one second later and 40 px on: five of its radii from where it was last seen
    assert ids(tracker, 2.0, disc(50, 100), disc(20, 100)) == [2, 1]


def test_one_that_is_lost_for_too_long_gets_a_new_id() -> None:
    tracker = Tracker(TrackSettings(lost_s=1.0))
    for step in range(5):
        assert ids(tracker, step / 10, disc(50, 50)) == [1]
    assert ids(tracker, 0.5) == []
    assert ids(tracker, 1.39, disc(50, 50)) == [1]
    assert ids(tracker, 1.5) == []
    assert ids(tracker, 2.5, disc(50, 50)) == [2]


def test_one_seen_only_once_is_forgotten_sooner() -> None:
    tracker = Tracker(TrackSettings(young_lost_s=0.2, lost_s=5))
    assert ids(tracker, 0.0, disc(50, 50)) == [1]
    assert ids(tracker, 0.1) == []
    assert ids(tracker, 0.3, disc(50, 50)) == [2]


def test_a_slow_model_does_not_lose_what_it_saw_in_its_last_frame() -> None:
    tracker = Tracker(TrackSettings(lost_s=1.0))
    assert [ids(tracker, 10.0 * step, disc(50, 50)) for step in range(3)] == [[1], [1], [1]]


def test_a_jump_within_the_gate_keeps_the_id_and_one_beyond_it_does_not() -> None:
    for jump, expected in ((20, [1]), (120, [2])):
        tracker = Tracker()
        ids(tracker, 0.0, disc(50, 30))
        assert ids(tracker, 0.3, disc(50, 30 + jump)) == expected


def test_a_much_smaller_thing_beside_the_old_place_is_another_object() -> None:
    tracker = Tracker()
    ids(tracker, 0.0, disc(50, 30, radius=10))
    assert ids(tracker, 0.2, disc(50, 48, radius=3)) == [2]


def test_the_gate_opens_with_time_and_not_with_the_number_of_frames() -> None:
    # the same 20 px: too far in a thirtieth of a second, near enough in a third
    assert [
        (ids(tracker, 0, disc(50, 30)), ids(tracker, dt, disc(50, 50)))[1]
        for tracker, dt in ((Tracker(), 1 / 30), (Tracker(), 1 / 3))
    ] == [[2], [1]]


def test_a_candidate_of_low_score_keeps_a_track_alive_but_is_not_shown() -> None:
    tracker = Tracker(TrackSettings(lost_s=0.5, young_lost_s=0.5))
    nothing = frame()
    for step in range(20):
        shown = tracker.update(
            frame(disc(50, 20 + 2 * step)) if step in (0, 1, 19) else nothing,
            step / 10,
            low=nothing if step in (0, 1, 19) else frame(disc(50, 20 + 2 * step)),
        )
        assert shown.handles.tolist() == ([1] if step in (0, 1, 19) else [])


def test_a_candidate_of_low_score_begins_no_track_and_wakes_no_lost_one() -> None:
    tracker = Tracker(TrackSettings(lost_s=0.5, young_lost_s=0.5))
    for time_s in (0.0, 0.1, 0.2):
        ids(tracker, time_s, disc(50, 50))
    ids(tracker, 0.3)
    for step in range(4, 12):
        ids(tracker, step / 10, low=frame(disc(50, 50), disc(20, 150)))
    assert ids(tracker, 1.2, disc(50, 50), disc(20, 150)) == [3, 2]


def test_empty_frames_are_no_trouble() -> None:
    tracker = Tracker()
    assert [ids(tracker, time_s) for time_s in (0, 1, 2)] == [[], [], []]
    assert tracker.tracks.shape == (0, 4)


def test_another_size_forgets_all_and_the_ids_go_on() -> None:
    tracker = Tracker()
    ids(tracker, 0.0, disc(20, 20), disc(60, 60))
    other = tracker.update(frame(disc(20, 20), image_hw=(120, 200)), 0.1)
    assert other.handles.tolist() == [3]
    assert tracker.tracks.tolist() == [[3, 0.1, 20, 20]]


def test_an_earlier_frame_and_a_reset_forget_all() -> None:
    tracker = Tracker()
    assert ids(tracker, 5.0, disc(20, 20)) == [1]
    assert ids(tracker, 1.0, disc(20, 20)) == [2]
    tracker.reset()
    assert tracker.tracks.shape == (0, 4)
    assert ids(tracker, 1.1, disc(20, 20)) == [3]


def test_two_frames_of_one_moment_are_told_apart_by_overlap_alone() -> None:
    tracker = Tracker()
    assert ids(tracker, 1.0, disc(20, 20)) == ids(tracker, 1.0, disc(20, 21)) == [1]


def test_tracks_hold_centres_by_id_and_time() -> None:
    tracker = Tracker()
    ids(tracker, 0.0, disc(20, 30), disc(60, 70))
    ids(tracker, 0.5, disc(60, 72), disc(20, 32))
    assert tracker.tracks.tolist() == [
        [1, 0.0, 20, 30],
        [1, 0.5, 20, 32],
        [2, 0.0, 60, 70],
        [2, 0.5, 60, 72],
    ]


def test_tracks_are_bounded_in_time_and_in_rows() -> None:
    short = Tracker(TrackSettings(history_s=10))
    few = Tracker(TrackSettings(max_history=3))
    for step in range(50):
        ids(short, step, disc(20, 20))
        ids(few, step, disc(20, 20))
    assert short.tracks[:, 1].tolist() == list(range(39, 50))
    assert few.tracks[:, 1].tolist() == [47, 48, 49]


def test_an_id_rests_before_it_is_given_again() -> None:
    tracker = Tracker(TrackSettings(lost_s=0.0, young_lost_s=0.0, reuse_after_s=10.0))
    tracker._ids._last = MAX_ID - 1
    one = CroppedMask(pixels=np.ones((4, 4), bool), y=0, x=0)
    seen = []
    for step in range(30):
        seen += ids(tracker, step, one)
        ids(tracker, step + 0.5)
    assert seen[:4] == [MAX_ID, 1, 2, 3]
    tracker._ids._last = 0
    # id k was given at second k and rests from k + 1 on: 1 has done so for 28 s
    assert ids(tracker, 30, one) == [1]
    tracker._ids._last = 22
    ids(tracker, 30.5)
    # 23 to 29 still rest
    assert ids(tracker, 31, one) == [30]


def test_ids_fit_16_bits_for_ever() -> None:
    tracker = Tracker(TrackSettings(lost_s=0.0, young_lost_s=0.0, reuse_after_s=1e9))
    tracker._ids._busy = set(range(1, MAX_ID + 1))
    tracker._ids._resting.extend((0.0, number) for number in range(1, MAX_ID + 1))
    # all of them rest: the one that has rested longest is given
    assert ids(tracker, 1, disc(20, 20)) == [1]
    tracker._ids._resting.clear()
    with pytest.raises(ValueError, match="65535"):
        ids(tracker, 2, disc(20, 20), disc(80, 180))


def test_bad_settings_name_the_field() -> None:
    with pytest.raises(ValueError, match="lost_s must be 0 or more, got -1"):
        TrackSettings(lost_s=-1)
    with pytest.raises(ValueError, match=r"min_iou must lie above 0 and up to 1, got 0\.0"):
        TrackSettings(min_iou=0.0)
    with pytest.raises(ValueError, match="position_noise must be above 0"):
        TrackSettings(position_noise=0)


def test_the_centre_of_a_mask_is_the_mean_of_its_pixels() -> None:
    mask = CroppedMask(pixels=np.array([[True, True], [True, False]]), y=10, x=20)
    assert mask_centre_yx(mask).tolist() == pytest.approx([10 + 1 / 3, 20 + 1 / 3])


def reference_iou(mask: CroppedMask, other: CroppedMask, shift_yx: tuple[int, int]) -> float:
    """Sets of pixels, one by one."""

    def pixels(one: CroppedMask, dy: int, dx: int) -> set[tuple[int, int]]:
        rows, columns = np.nonzero(one.pixels)
        return {
            (one.y + y + dy, one.x + x + dx)
            for y, x in zip(rows.tolist(), columns.tolist(), strict=True)
        }

    mine, theirs = pixels(mask, *shift_yx), pixels(other, 0, 0)
    return len(mine & theirs) / len(mine | theirs)


shifts = st.tuples(st.integers(-9, 9), st.integers(-9, 9))


@given(
    st.lists(st.tuples(masks_in((8, 9)), shifts), max_size=4),
    st.lists(masks_in((8, 9)), max_size=4),
)
def test_the_matrix_of_ious_is_that_of_sets_of_pixels(
    moved: list[tuple[CroppedMask, tuple[int, int]]], others: list[CroppedMask]
) -> None:
    shifts_yx = np.array([shift for _, shift in moved], np.int64).reshape(-1, 2)
    ious = mask_iou_matrix([mask for mask, _ in moved], others, shifts_yx=shifts_yx)
    assert ious.shape == (len(moved), len(others))
    for i, (mask, shift) in enumerate(moved):
        for j, other in enumerate(others):
            assert ious[i, j] == reference_iou(mask, other, shift)


# a few sizes that make equal masks, and so equal merits, likely
some_sets = st.lists(
    st.lists(masks_in((3, 4)), max_size=4).map(lambda masks: frame(*masks, image_hw=(3, 4))),
    max_size=4,
)


@given(some_sets)
def test_ids_and_uuids_are_unique_in_every_frame_and_fit_16_bits(sets: list[InstanceSet]) -> None:
    tracker = Tracker()
    for step, instances in enumerate(sets):
        # `InstanceSet` refuses what is not unique
        shown = tracker.update(instances, step / 10)
        assert len(shown) == len(instances)
        assert ((shown.handles >= 1) & (shown.handles <= MAX_ID)).all()


@given(some_sets, st.randoms(use_true_random=False))
def test_the_order_of_the_instances_does_not_change_ids(
    sets: list[InstanceSet], random: Any
) -> None:
    plain, shuffled = Tracker(), Tracker()
    for step, instances in enumerate(sets):
        order = random.sample(range(len(instances)), len(instances))
        one = plain.update(instances, step / 10)
        other = shuffled.update(instances.select(np.array(order, np.int64)), step / 10)
        assert one.handles[order].tolist() == other.handles.tolist()


def test_inputs_are_not_changed() -> None:
    instances = frame(disc(20, 20))
    uuid = instances.uuids[0]
    Tracker().update(instances, 0)
    assert (instances.handles.tolist(), instances.uuids[0]) == ([1], uuid)


def test_moving_discs_are_followed_with_few_switches() -> None:
    source = SyntheticSource(scene=SyntheticScene(seed=11, away_s=0.5), is_paced=False)
    truth = [source.truth(number) for number in range(0, 150, 3)]
    tracker = Tracker()
    figures = id_figures(truth, [tracker.update(t, k / 10) for k, t in enumerate(truth)])
    assert figures.num_misses == figures.num_false == 0
    assert figures.num_switches <= 3


def test_nuclei_of_the_shipped_video_are_followed_with_few_switches() -> None:
    truth = read_truth(every=3)
    tracker = Tracker()
    tracked = [tracker.update(t, k / 10) for k, t in enumerate(truth)]
    figures = id_figures(truth, tracked)
    assert figures.num_switches <= 6
    assert figures.idf1 > 0.9
