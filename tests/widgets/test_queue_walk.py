"""Walking the review queue: what comes next, what is passed over, and how long it takes."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.edits.diff import OverlapRule
from napari_deeppixel.edits.queue import QueueItem, QueueOrder
from napari_deeppixel.edits.reshape_tools import drawn
from napari_deeppixel.edits.session import AnnotationSession
from napari_deeppixel.edits.tools import deleted, with_category, with_state
from napari_deeppixel.widgets import review_queue
from napari_deeppixel.widgets.review_queue import ReviewQueue

HW = (20, 130)
TABLE = CategoryTable.from_names("cell", "debris")
ACCEPTED, REJECTED, UNSURE = (
    InstanceState.ACCEPTED,
    InstanceState.REJECTED,
    InstanceState.UNSURE,
)


def session_of(*planes: tuple[PlaneIndex, dict[str, float]]) -> AnnotationSession:
    """Return a session with 4 x 4 px squares side by side, by uuid and score, on some planes."""
    session = AnnotationSession(HW, TABLE)
    session.set_visibility(score=0.4, min_area=1)
    for index, scores in planes or (((), {"a": 0.9, "b": 0.5, "c": 0.7, "hidden": 0.2}),):
        masks = [
            CroppedMask(pixels=np.ones((4, 4), np.bool_), y=8, x=10 * n + 2)
            for n in range(len(scores))
        ]
        session.add_predictions(
            index,
            InstanceSet(
                image_hw=HW,
                masks=tuple(masks),
                categories=TABLE,
                scores=np.array(list(scores.values())),
                uuids=tuple(scores),
                sources=("model",) * len(scores),
            ),
        )
    return session


class Walk:
    """A queue and where it led."""

    def __init__(self, qtbot: Any, session: AnnotationSession) -> None:
        self.qtbot, self.session = qtbot, session
        self.queue = ReviewQueue()
        self.arrived: list[QueueItem | None] = []
        self.queue.arrived.connect(self.arrived.append)
        self.queue.set_session(session)
        self.wait()

    def wait(self) -> None:
        queue = self.queue
        self.qtbot.waitUntil(
            lambda: not (queue._task.is_running or queue._timer.isActive()), timeout=10_000
        )

    def go(self, step: int = 1) -> str | None:
        """Return the uuid where a step leads."""
        count = len(self.arrived)
        self.queue.go(step)
        self.qtbot.waitUntil(lambda: len(self.arrived) > count, timeout=10_000)
        item = self.arrived[-1]
        return None if item is None else item.uuid

    def decide(self, uuid: str, state: InstanceState, index: PlaneIndex = ()) -> None:
        self.session.apply(with_state(self.session, [(index, uuid)], state))

    def order(self, order: QueueOrder, **settings: Any) -> None:
        self.queue.set_order(order, **settings)
        self.wait()


@pytest.fixture
def walk(qtbot: Any) -> Any:
    """Three unreviewed instances and a hidden candidate: b is the least certain, then c, then a."""
    walk = Walk(qtbot, session_of())
    yield walk
    walk.queue.shut_down()


def test_the_least_certain_comes_first_and_a_hidden_candidate_never(walk: Walk) -> None:
    assert [walk.go() for _ in range(3)] == ["b", "c", "a"]
    assert len(walk.queue) == 3


def test_the_queue_begins_again_at_its_end_with_what_is_left(walk: Walk) -> None:
    assert walk.go() == "b"
    walk.decide("b", UNSURE)
    assert walk.go() == "c"
    walk.decide("c", ACCEPTED)
    assert walk.go() == "a"
    walk.decide("a", REJECTED)
    assert walk.go() == "b"


def test_nothing_left_is_told(walk: Walk) -> None:
    for uuid in "abc":
        walk.decide(uuid, ACCEPTED)
    assert walk.go() is None


def test_back_leads_to_what_was_just_decided_rejected_or_not(walk: Walk) -> None:
    for state in (ACCEPTED, REJECTED):
        walk.decide(str(walk.go()), state)
    assert walk.go() == "a"
    assert [walk.go(-1), walk.go(-1)] == ["c", "b"]
    assert walk.go() == "a"


def test_what_is_gone_is_passed_over_both_ways(walk: Walk) -> None:
    mask = CroppedMask(pixels=np.ones((4, 4), np.bool_), y=8, x=50)
    walk.session.apply(drawn(walk.session, (), mask, category_id=1, rule=OverlapRule.TAKE))
    by_hand = walk.session.visible(()).uuids[-1]
    walk.order(QueueOrder.ALL)
    assert [walk.go() for _ in range(4)] == ["a", "b", "c", by_hand]
    walk.session.apply(deleted(walk.session, [((), by_hand)]))
    assert walk.go() == "a"
    assert walk.go(-1) == "c"


def test_one_goes_on_from_what_was_chosen(walk: Walk) -> None:
    walk.queue.set_current("c")
    assert walk.go() == "a"
    walk.queue.set_current("not in the queue")
    assert walk.queue.current is not None
    assert walk.queue.current.uuid == "a"


def test_a_step_right_after_a_run_is_taken_as_soon_as_the_queue_is_there(qtbot: Any) -> None:
    session = session_of()
    queue = ReviewQueue()
    arrived: list[QueueItem] = []
    queue.arrived.connect(arrived.append)
    queue.set_session(session)
    queue.go(1)
    assert arrived == []
    qtbot.waitUntil(lambda: len(arrived) == 1, timeout=10_000)
    assert arrived[0].uuid == "b"
    queue.shut_down()


def test_candidates_that_the_score_shows_join_the_queue(walk: Walk) -> None:
    walk.session.set_visibility(score=0.1, min_area=1)
    walk.wait()
    assert sorted([str(walk.go()) for _ in range(4)]) == ["a", "b", "c", "hidden"]


def test_what_undo_opens_again_joins_the_queue(qtbot: Any) -> None:
    session = session_of()
    session.apply(with_state(session, [((), "c")], ACCEPTED))
    walk = Walk(qtbot, session)
    assert len(walk.queue) == 2
    session.undo()
    walk.wait()
    assert len(walk.queue) == 3
    walk.queue.shut_down()


def test_a_decision_does_not_change_the_order_under_ones_feet(walk: Walk) -> None:
    changes: list[None] = []
    walk.queue.changed.connect(lambda: changes.append(None))
    walk.go()
    walk.decide("b", ACCEPTED)
    walk.wait()
    assert changes == []
    assert walk.queue.reason("b") == "score 0.50"


def test_one_category_waits_until_it_is_chosen(walk: Walk) -> None:
    walk.session.apply(with_category(walk.session, [((), "c")], 2))
    walk.order(QueueOrder.CATEGORY)
    assert len(walk.queue) == 0
    walk.order(QueueOrder.CATEGORY, category_id=2)
    assert walk.go() == "c"


def test_order_chosen_while_the_queue_is_made_is_the_one_that_counts(qtbot: Any) -> None:
    queue = ReviewQueue()
    queue.set_session(session_of())
    assert queue._task.is_running
    queue.set_order(QueueOrder.SMALL)
    arrived: list[QueueItem] = []
    queue.arrived.connect(arrived.append)
    queue.go(1)
    qtbot.waitUntil(lambda: len(arrived) == 1, timeout=10_000)
    assert arrived[0].reason == "area 16 px"
    queue.shut_down()


def test_another_session_replaces_the_queue_and_the_old_one_is_let_go(walk: Walk) -> None:
    old = walk.session
    other = session_of(((0,), {"x": 0.6}), ((1,), {"y": 0.5}))
    walk.queue.set_session(other)
    walk.wait()
    assert [walk.go(), walk.go()] == ["y", "x"]
    assert walk.arrived[-1] is not None
    assert walk.arrived[-1].index == (0,)
    old.set_visibility(score=0.1, min_area=1)
    assert not walk.queue._timer.isActive()
    walk.queue.set_session(None)
    assert walk.queue.progress() == (0, 0, "")


def test_progress_counts_what_is_shown_and_tells_the_time_left(
    qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(review_queue, "time", SimpleNamespace(monotonic=lambda: now[0]))
    names = [f"n{n}" for n in range(12)]
    walk = Walk(qtbot, session_of(((), dict.fromkeys(names, 0.8))))
    assert walk.queue.progress() == (0, 12, "0 of 12 reviewed")
    for name in names[:4]:
        now[0] += 15
        walk.decide(name, ACCEPTED)
    # eight left, 15 seconds each
    assert walk.queue.progress() == (4, 12, "4 of 12 reviewed · about 2 min left")
    walk.session.undo()
    assert walk.queue.progress()[:2] == (3, 12)
    walk.queue.shut_down()


def test_a_selection_that_is_decided_at_once_shares_the_time(
    qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(review_queue, "time", SimpleNamespace(monotonic=lambda: now[0]))
    names = [f"n{n}" for n in range(12)]
    walk = Walk(qtbot, session_of(((), dict.fromkeys(names, 0.8))))
    now[0] = 12
    refs = [((), name) for name in names[:6]]
    walk.session.apply(with_state(walk.session, refs, REJECTED))
    assert walk.queue.progress() == (6, 12, "6 of 12 reviewed · about 12 s left")
    walk.queue.shut_down()
