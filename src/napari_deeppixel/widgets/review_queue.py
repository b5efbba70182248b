"""Walks through the instances that are to be reviewed."""

import time
from collections.abc import Callable, Iterator

from qtpy.QtCore import QObject, Signal

from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import InstanceState
from napari_deeppixel.core.progress import duration
from napari_deeppixel.edits.action import Change
from napari_deeppixel.edits.queue import (
    QueueItem,
    QueueOrder,
    position_after,
    review_queue,
    time_left_s,
)
from napari_deeppixel.edits.session import (
    DONE_STATES,
    AnnotationSession,
    Applied,
    SessionSnapshot,
)
from napari_deeppixel.edits.uncertainty import OPEN_STATES
from napari_deeppixel.widgets.controls import single_shot
from napari_deeppixel.widgets.worker import BackgroundTask

# queues of what is still to do: what was reviewed meanwhile is passed over
_OPEN_ORDERS = {QueueOrder.UNCERTAIN, QueueOrder.UNREVIEWED, QueueOrder.SMALL}
_REBUILD_MS = 200
# a step that touches more instances is a run: the queue is made anew
_MANY_CHANGES = 30


class ReviewQueue(QObject):
    """The queue of one session at a time, made in a thread.

    Signals
    -------
    changed
        The queue was made anew.
    arrived
        `QueueItem` that a step led to, or None: nothing is left that way.
    failed
        The exception that stopped the making of the queue.
    """

    changed = Signal()
    arrived = Signal(object)
    failed = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._session: AnnotationSession | None = None
        self._order = QueueOrder.UNCERTAIN
        self._category_id: int | None = None
        self._queue: list[QueueItem] = []
        self._places: dict[str, QueueItem] = {}
        self._current: str | None = None
        self._wanted_step = 0
        self._durations: list[float] = []
        self._last_reviewed = time.monotonic()
        self._task = BackgroundTask(self)
        self._task.yielded.connect(self._on_made)
        self._task.failed.connect(self.failed)
        self._task.finished.connect(self._on_finished)
        self._is_stale = False
        self._timer = single_shot(self, _REBUILD_MS, self._make)

    # -- what it is of ------------------------------------------------------------------------

    def set_session(self, session: AnnotationSession | None) -> None:
        """Make a queue of another session."""
        if session is self._session:
            return
        self._disconnect()
        self._session, self._current, self._queue = session, None, []
        self._places, self._durations = {}, []
        self._last_reviewed = time.monotonic()
        if session is not None:
            session.changed.connect(self._on_changed)
            session.visibility_changed.connect(self._on_visibility)
        self._make()

    def set_order(self, order: QueueOrder, *, category_id: int | None = None) -> None:
        """Choose which instances belong to the queue, and which comes first."""
        self._order, self._category_id = order, category_id
        self._current = None
        self._make()

    def _disconnect(self) -> None:
        if self._session is not None:
            self._session.changed.disconnect(self._on_changed, missing_ok=True)
            self._session.visibility_changed.disconnect(self._on_visibility, missing_ok=True)

    def shut_down(self) -> None:
        """Stop all work."""
        self._disconnect()
        self._session = None
        self._timer.stop()
        self._task.abandon()

    def _on_changed(self, applied: Applied) -> None:
        changes = applied.action.changes
        if len(changes) > _MANY_CHANGES or any(map(self._is_new, changes)):
            self._timer.start()
        elif applied.kind == "do":
            self._note_time(sum(map(_is_review, changes)))

    def _note_time(self, num_reviewed: int) -> None:
        if num_reviewed:
            now = time.monotonic()
            # a selection that is decided at once took the time of one
            each = (now - self._last_reviewed) / num_reviewed
            self._durations += [each] * num_reviewed
            self._last_reviewed = now

    def _is_new(self, change: Change) -> bool:
        """Whether there is something to review now that the queue never held."""
        session, after = self._session, change.after
        if session is None or after is None or change.uuid in self._places:
            return False
        return after.state in OPEN_STATES and session.is_visible(change.index, change.uuid)

    def _on_visibility(self, _turned: object) -> None:
        self._timer.start()

    # -- making it ----------------------------------------------------------------------------

    def _make(self) -> None:
        session = self._session
        if session is None or self._task.is_running:
            self._is_stale = session is not None
            return
        self._is_stale = False
        if self._order is QueueOrder.CATEGORY and self._category_id is None:
            self._on_made([])
            return
        # the snapshot costs next to nothing; arrays of all instances are made in the thread
        snapshot, order, category_id = session.snapshot(), self._order, self._category_id
        self._task.start(lambda _c, _r: _made(snapshot, order, category_id))

    def _on_made(self, queue: list[QueueItem]) -> None:
        if self._is_stale or self._session is None:
            # of another session or order: the right one follows
            return
        self._queue = queue
        self._places = {item.uuid: item for item in queue}
        self.changed.emit()

    def _on_finished(self) -> None:
        if self._is_stale:
            self._make()
        elif self._wanted_step:
            step, self._wanted_step = self._wanted_step, 0
            self.go(step)

    # -- walking ------------------------------------------------------------------------------

    @property
    def current(self) -> QueueItem | None:
        """Where one is."""
        return self._places.get(self._current or "")

    def reason(self, uuid: str) -> str:
        """Return why an instance is in the queue; empty if it is not."""
        item = self._places.get(uuid)
        return "" if item is None else item.reason

    def uncertainties(self) -> dict[tuple[PlaneIndex, str], float]:
        """Return how uncertain the instances of the queue are, 0 to 1, by plane and uuid."""
        return {(item.index, item.uuid): item.uncertainty for item in self._queue}

    def __len__(self) -> int:
        return len(self._queue)

    def set_current(self, uuid: str) -> None:
        """Go on from an instance that the person chose."""
        if uuid in self._places:
            self._current = uuid

    def go(self, step: int) -> None:
        """Go to the next instance to review, or the one before; `arrived` follows."""
        if self._task.is_running or self._timer.isActive():
            # right after a run: as soon as the queue is there
            self._wanted_step = step
            return
        position = position_after(
            self._queue, self._current, is_done=self._is_passed(step), step=step
        )
        if position is None:
            position = position_after(self._queue, None, is_done=self._is_passed(step), step=step)
        if position is None:
            self.arrived.emit(None)
            return
        item = self._queue[position]
        self._current = item.uuid
        self.arrived.emit(item)

    def _is_passed(self, step: int) -> Callable[[str], bool]:
        session, is_open_order = self._session, self._order in _OPEN_ORDERS

        def is_passed(uuid: str) -> bool:
            if session is None:
                return True
            index = self._places[uuid].index
            instance = session.get(index, uuid)
            if instance is None:
                return True
            if step < 0:
                # back to what was just decided, rejected or not
                return False
            if is_open_order and instance.state in DONE_STATES:
                return True
            return instance.state is InstanceState.REJECTED

        return is_passed

    # -- progress -----------------------------------------------------------------------------

    def progress(self) -> tuple[int, int, str]:
        """Return reviewed instances, all instances, and a line such as "37 of 212 · 6 min left"."""
        if self._session is None:
            return 0, 0, ""
        counts = self._session.count_states()
        total = sum(counts.values())
        done = sum(counts[state] for state in DONE_STATES)
        text = f"{done:,} of {total:,} reviewed"
        left = time_left_s(self._durations, total - done)
        if left is not None and done < total:
            text += f" · about {duration(left)} left"
        return done, total, text


def _is_review(change: Change) -> bool:
    before, after = change.before, change.after
    if before is None or before.state in DONE_STATES:
        return False
    return after is None or after.state in DONE_STATES


def _made(
    snapshot: SessionSnapshot, order: QueueOrder, category_id: int | None
) -> Iterator[list[QueueItem]]:
    session = AnnotationSession.from_snapshot(snapshot)
    indices = session.plane_indices
    yield review_queue(
        {index: session.visible(index) for index in indices},
        order,
        candidates={index: session.plane(index) for index in indices},
        category_id=category_id,
    )
