"""Another score on a result that is there: nothing is predicted anew, and ids stay."""

import numpy as np
import pytest
from tests.fakes import ThresholdEngine

from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.engine.base import PredictOptions
from napari_deeppixel.live.latest import Latest
from napari_deeppixel.live.predict import Predictor
from napari_deeppixel.live.refilter import refiltered
from napari_deeppixel.live.result import LiveResult
from napari_deeppixel.live.source import Frame
from napari_deeppixel.live.track import MAX_ID, Tracker

# left columns of two squares of 10 px, and their brightness: their score times 255
BRIGHT, DIM = (10, 250), (40, 100)


def result_of(tracker: Tracker, number: int, *, score: float = 0.5, shift: int = 0) -> LiveResult:
    """Return what the pipeline gives for a bright square (0.98) and a dim one (0.39)."""
    pixels = np.zeros((40, 80), np.uint8)
    for x, value in (BRIGHT, DIM):
        pixels[10:20, x + shift : x + shift + 10] = value
    predictor = Predictor(
        Latest(),
        lambda _: None,
        engine=None,
        options=PredictOptions(),
        tracker=tracker,
    )
    frame = Frame(pixels=pixels, number=number, grabbed_s=100 + number / 10)
    return predictor._result(frame, ThresholdEngine(0.2), PredictOptions(score=score))


def by_left(instances: InstanceSet) -> dict[int, int]:
    """Return the id of each instance by its left column."""
    lefts = instances.boxes_xyxy[:, 0].astype(int).tolist()
    return dict(zip(lefts, instances.handles.tolist(), strict=True))


def test_a_lower_score_shows_a_candidate_and_the_tracked_one_keeps_its_id() -> None:
    tracker = Tracker()
    first = result_of(tracker, 0)
    assert by_left(first.instances) == {10: 1}
    more = refiltered(first, tracker, score=0.3)
    assert by_left(more.instances) == {10: 1, 40: 2}
    assert more.instances.uuids[0] == first.instances.uuids[0]
    assert more.frame is first.frame


def test_a_higher_score_hides_and_going_back_gives_the_same_ids() -> None:
    tracker = Tracker()
    more = refiltered(result_of(tracker, 0), tracker, score=0.3)
    none = refiltered(more, tracker, score=0.99)
    assert len(none.instances) == 0
    again = refiltered(none, tracker, score=0.3)
    assert by_left(again.instances) == {10: 1, 40: 2}
    assert again.instances.uuids == more.instances.uuids


def test_the_next_frame_gives_what_was_shown_late_the_same_id() -> None:
    tracker = Tracker()
    more = refiltered(result_of(tracker, 0), tracker, score=0.3)
    after = result_of(tracker, 1, score=0.3, shift=2)
    assert by_left(after.instances) == {12: 1, 42: 2}
    assert set(after.instances.uuids) == set(more.instances.uuids)


def test_a_tracked_object_below_the_score_keeps_its_id_when_it_is_shown_again() -> None:
    tracker = Tracker()
    both = result_of(tracker, 0, score=0.3)
    high = result_of(tracker, 1, score=0.5, shift=1)
    bright, dim = by_left(both.instances)[10], by_left(both.instances)[40]
    assert by_left(high.instances) == {11: bright}
    assert by_left(refiltered(high, tracker, score=0.3).instances) == {11: bright, 41: dim}


def test_a_result_that_the_tracker_has_left_behind_gets_ids_of_its_own() -> None:
    tracker = Tracker()
    old = result_of(tracker, 0)
    result_of(tracker, 1, shift=1)
    more = refiltered(old, tracker, score=0.3)
    assert by_left(more.instances) == {10: 1, 40: 2}
    assert by_left(result_of(tracker, 2, score=0.3, shift=2).instances) == {12: 1, 42: 2}


def test_after_a_reset_ids_are_new_and_nobody_waits_for_them() -> None:
    tracker = Tracker()
    old = result_of(tracker, 0)
    tracker.reset()
    more = refiltered(old, tracker, score=0.3)
    assert by_left(more.instances) == {10: 1, 40: 2}
    assert tracker.tracks.shape == (0, 4)


def test_the_smallest_area_filters_as_well() -> None:
    tracker = Tracker()
    result = result_of(tracker, 0)
    assert len(refiltered(result, tracker, score=0.5, min_area=100).instances) == 1
    assert len(refiltered(result, tracker, score=0.5, min_area=101).instances) == 0


@pytest.mark.parametrize("score", [0.5, 0.9])
def test_where_nothing_changes_the_same_result_comes_back(score: float) -> None:
    tracker = Tracker()
    result = result_of(tracker, 0)
    assert refiltered(result, tracker, score=score) is result


def test_candidates_of_no_track_have_numbers_that_no_track_has() -> None:
    result = result_of(Tracker(), 0)
    assert result.prediction is not None
    assert by_left(result.prediction.candidates)[40] > MAX_ID


def test_what_nobody_kept_cannot_be_filtered() -> None:
    tracker = Tracker()
    result = result_of(tracker, 0)
    bare = LiveResult(
        frame=result.frame,
        instances=result.instances,
        model="m",
        model_s=0.1,
        finished_s=100.2,
    )
    assert refiltered(bare, tracker, score=0.99) is bare
