"""Keeps a journal for each image that is edited, and offers what an earlier one holds."""

import contextlib
import functools
import queue
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from napari.layers import Image
from qtpy.QtCore import QObject, QTimer, Signal

from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.core.image import ImageArray
from napari_deeppixel.edits.journal import Journal, open_journal
from napari_deeppixel.edits.journal_files import JournalLockedError
from napari_deeppixel.edits.journal_state import JournalState
from napari_deeppixel.edits.recovery import (
    RecoveryReport,
    discard_recovery,
    place_of,
    retire,
)
from napari_deeppixel.edits.session import AnnotationSession
from napari_deeppixel.viewer.layers import InstanceLayers, instance_layers_of
from napari_deeppixel.widgets.earlier_work import (
    EarlierWork,
    Looked,
    add_work,
    holds_all_of,
    look,
)
from napari_deeppixel.widgets.worker import BackgroundTask

# what is known about an image hangs on its layer, as its instances do: it survives the dock
WORK_KEY = "napari_deeppixel_journal"
_POLL_MS = 250
_FLUSH_S = 1.0
# of a run's wait for the look: pixels on a slow disk must not hold it up for longer
_LOOK_S = 5.0
# mostly the look is done within that, and nobody has to press a second time
_GRACE_S = 0.3


class _ImageWork:
    """What is known about one image; it belongs to one `Journals` at a time."""

    def __init__(self, layer: Image, image: ImageArray, home: "_Works") -> None:
        self.layer, self.image, self.home = layer, image, home
        self.looked: Looked | None = None
        self.journal: Journal | None = None
        self.session: AnnotationSession | None = None
        # the person wants to edit here, whoever else does
        self.is_forced = False
        self.look_began, self.look_failure = time.monotonic(), ""
        # what this window wrote before the layer left or a run renewed its session
        self.own: tuple[AnnotationSession, RecoveryReport] | None = None

    def is_of(self, layer: Image, image: ImageArray) -> bool:
        """Whether this is about that layer, with the axes and the shape that it has now."""
        is_same = (self.image.axes, self.image.pixels.shape) == (image.axes, image.pixels.shape)
        # a duplicated layer shares the metadata of the one it was made from
        return self.layer == layer and is_same

    def close(self, timeout_s: float = 5.0) -> None:
        if self.journal is not None:
            self.journal.close(timeout_s)
            if self.session is not None:
                with contextlib.suppress(OSError):
                    self.own = self.session, self.journal.report()
            self.journal = None

    def own_report(self, session: AnnotationSession) -> RecoveryReport | None:
        """Return what `close` left, if a session holds all of it; else it must be kept."""
        if self.own is None or not (self.own[0] is session or holds_all_of(session, self.own[0])):
            return None
        return self.own[1]


_Works = dict[Image, _ImageWork]


class Journals(QObject):
    """The journals of a viewer's images.

    Signals
    -------
    changed
        Something that the person is told may have changed: see `state`, `earlier`, `problem`.
    """

    changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._works: _Works = {}
        self._waiting: list[Image] = []
        self._task = BackgroundTask(self)
        self._task.yielded.connect(self._on_looked)
        self._task.failed.connect(self._on_look_failed)
        self._task.finished.connect(self._on_look_finished)
        self._looking: Image | None = None
        self._found: queue.SimpleQueue[Looked] = queue.SimpleQueue()
        self._shown: object = None
        self._timer = QTimer(self)
        self._timer.setInterval(_POLL_MS)
        self._timer.timeout.connect(self._on_poll)
        self._timer.start()
        # the dock's close button leaves the journals at work; they end with the window
        self.destroyed.connect(functools.partial(_close_all, self._works))

    # -- what the person is told --------------------------------------------------------------

    def state(self, image: Image) -> JournalState | None:
        """Return how the journal of an image is; None if there is none yet."""
        work = self._works.get(image)
        return work.journal.state if work is not None and work.journal is not None else None

    def earlier(self, image: Image) -> EarlierWork | None:
        """Return what may be brought back, until the person has decided."""
        work = self._works.get(image)
        if work is None or work.looked is None or not work.looked.earlier:
            return None
        return work.looked.earlier[0]

    def problem(self, image: Image) -> str:
        """Return why the journal of an image could not be read or opened; empty if it could."""
        work = self._works.get(image)
        if work is None or work.looked is None:
            return "" if work is None else work.look_failure
        return work.looked.problem

    def is_locked(self, image: Image) -> bool:
        """Whether another window edits the image."""
        work = self._works.get(image)
        return work is not None and work.looked is not None and work.looked.is_locked

    def refusal(self, image: Image) -> str:
        """Return why the instances of an image may not be changed now; empty if they may."""
        if self._is_looking(image) and image is self._looking:
            with contextlib.suppress(queue.Empty):
                self._on_looked((image, self._found.get(timeout=_GRACE_S)))
        if self.is_locked(image):
            return self.problem(image)
        if self._is_looking(image):
            return f"Looking for earlier work on {image.name!r}: try again in a moment."
        earlier = self.earlier(image)
        if earlier is None or not earlier.is_by_person or self._session_of(image) is not None:
            return ""
        return "There is earlier work on this image: choose Bring back or Discard first."

    def _is_looking(self, image: Image) -> bool:
        work = self._works.get(image)
        if work is None or work.looked is not None:
            return False
        is_under_way = image in self._waiting or image is self._looking
        return is_under_way and time.monotonic() < work.look_began + _LOOK_S

    def _session_of(self, image: Image) -> AnnotationSession | None:
        view = instance_layers_of(image)
        return None if view is None else view.session

    # -- following images ---------------------------------------------------------------------

    def watch(self, layer: Image, image: ImageArray) -> None:
        """Look for earlier work on an image, and keep a journal as soon as it has instances."""
        work = self._works.get(layer)
        if work is not None and work.is_of(layer, image):
            self._attach(work)
            return
        self.forget(layer)
        work = layer.metadata.get(WORK_KEY)
        if isinstance(work, _ImageWork) and work.is_of(layer, image):
            # of a dock that was closed, or the layer was away
            work.home.pop(layer, None)
            work.home = self._works
        else:
            work = _ImageWork(layer, image, self._works)
            layer.metadata[WORK_KEY] = work
        self._works[layer] = work
        if work.looked is None:
            self._waiting.append(layer)
            self._look_at_next()
        else:
            self._attach(work)
            self.changed.emit()

    def forget(self, layer: Image) -> None:
        """Close the journal of an image that left the viewer; it may come back."""
        work = self._works.pop(layer, None)
        if work is not None:
            # a failing disk must not hold the window up for long
            work.close(timeout_s=_FLUSH_S)
            work.session = None

    def _look_at_next(self) -> None:
        while self._waiting and not self._task.is_running:
            layer = self._waiting.pop(0)
            work = self._works.get(layer)
            if work is not None:
                self._looking, self._found = layer, queue.SimpleQueue()
                self._task.start(functools.partial(_look, layer, work.image, self._found))

    def _on_look_failed(self, error: Exception) -> None:
        work = None if self._looking is None else self._works.get(self._looking)
        if work is not None:
            work.look_failure = f"What is done on this image is not kept in a journal: {error}"
            self.changed.emit()

    def _on_look_finished(self) -> None:
        self._looking = None
        self._look_at_next()

    def _on_looked(self, result: tuple[Image, Looked]) -> None:
        layer, looked = result
        work = self._works.get(layer)
        # one who asked meanwhile may have it already
        if work is None or work.looked is not None:
            return
        if looked.is_locked and work.is_forced:
            own = looked.folder.with_name(f"{looked.folder.name}-{uuid4().hex[:8]}")
            looked = Looked(folder=own)
        work.looked = replace(looked, problem=self._who_edits(work, looked) or looked.problem)
        self._attach(work)
        self.changed.emit()

    def _who_edits(self, work: _ImageWork, looked: Looked) -> str:
        """Return which layer of this window has the journal; empty if none has."""
        for other in self._works.values():
            is_same = other.journal is not None and other.journal.folder == looked.folder
            if looked.is_locked and is_same and other is not work:
                return (
                    f"this image is being edited as the layer {other.layer.name!r} in this window: "
                    "go on there, or press Edit here"
                )
        return ""

    def _attach(self, work: _ImageWork) -> None:
        """Open the journal of an image that has a session now."""
        session = self._session_of(work.layer)
        if session is None or work.looked is None or work.session is session:
            return
        work.close()
        work.session = session
        session.is_read_only = work.looked.is_locked
        if not work.looked.is_locked:
            self._open(work, session, work.own_report(session))

    def _open(
        self,
        work: _ImageWork,
        session: AnnotationSession,
        recovered: RecoveryReport | None = None,
    ) -> None:
        assert work.looked is not None  # both callers have looked at it
        folder, work.session = work.looked.folder, session
        # what a run gave before is not worth a question once there is a new one
        worth = tuple(each for each in work.looked.earlier if each.is_by_person)
        work.looked = replace(work.looked, earlier=worth)
        try:
            work.journal = open_journal(folder, session, image=work.image, recovered=recovered)
        except JournalLockedError as error:
            looked = Looked(folder=folder, problem=str(error), is_locked=True)
            work.looked = replace(looked, problem=self._who_edits(work, looked) or looked.problem)
            session.is_read_only = True

    # -- what the person decides --------------------------------------------------------------

    def bring_back(self, layer: Image, viewer: Any, *, channel_axis: int | None) -> InstanceLayers:
        """Return the layers of an image with its earlier work; what is there meanwhile stays.

        Raises
        ------
        ValueError
            If none is offered: see `earlier`.
        """
        work, earlier = self._works[layer], self._answered(layer)
        assert work.looked is not None  # it was found there
        view = instance_layers_of(layer)
        if view is None:
            is_own = earlier.folder == work.looked.folder
            view = InstanceLayers(viewer, layer, earlier.session, channel_axis=channel_axis)
            self._open(work, earlier.session, earlier.report if is_own else None)
        else:
            add_work(view.session, earlier.session, joins=f"recovery {earlier.folder.name}")
        place = self._place_of(work, earlier)
        # only when the image's own journal has it; else it is offered again
        if place is not None and work.journal is not None:
            with contextlib.suppress(DeepPixelError, OSError):
                retire(place, earlier.report)
        self.changed.emit()
        return view

    def discard(self, layer: Image) -> None:
        """Delete the earlier work on an image: only on the person's word.

        What cannot be deleted is told as a `problem`.
        """
        work, earlier = self._works[layer], self._answered(layer)
        assert work.looked is not None  # it was found there
        try:
            place = self._place_of(work, earlier)
            if place is None:
                raise FileNotFoundError(f"it is no longer as it was in {earlier.folder}")
            discard_recovery(place)
        except (DeepPixelError, OSError) as error:
            work.looked = replace(
                work.looked, problem=f"The earlier work could not be deleted: {error}"
            )
        self.changed.emit()

    def _place_of(self, work: _ImageWork, earlier: EarlierWork) -> Path | None:
        """Return where earlier work lies now that the journal of the image is written; or None."""
        journal = work.journal
        if journal is not None and not journal.flush(_FLUSH_S):
            return None
        is_replaced = journal is not None and journal.folder == earlier.folder
        return place_of(earlier.folder, earlier.report, is_replaced=is_replaced)

    def _answered(self, layer: Image) -> EarlierWork:
        """Return the earlier work on an image, and offer it no longer."""
        work = self._works[layer]
        if work.looked is None or not work.looked.earlier:
            raise ValueError(f"there is no earlier work on {layer.name!r} to decide about")
        earlier, *others = work.looked.earlier
        work.looked = replace(work.looked, earlier=tuple(others))
        return earlier

    def edit_here(self, layer: Image) -> None:
        """Edit an image although another window did; with a journal of its own if it still does."""
        work = self._works[layer]
        work.is_forced, work.looked, work.session = True, None, None
        work.look_began, work.look_failure = time.monotonic(), ""
        session = self._session_of(layer)
        if session is not None:
            session.is_read_only = False
        self._waiting.append(layer)
        self._look_at_next()
        self.changed.emit()

    def mark_saved(self, layer: Image) -> None:
        """Note that the instances of an image were saved as a file."""
        work = self._works.get(layer)
        if work is not None and work.journal is not None:
            work.journal.mark_saved()

    # -- the end ------------------------------------------------------------------------------

    def _on_poll(self) -> None:
        for work in list(self._works.values()):
            self._attach(work)
        states = {
            layer: work.journal.state
            for layer, work in self._works.items()
            if work.journal is not None
        }
        if states != self._shown:
            self._shown = states
            self.changed.emit()

    def shut_down(self) -> None:
        """Call nobody any more; journals that are open stay so until the window goes."""
        self._timer.stop()
        self._task.abandon()


def _look(
    layer: Image, image: ImageArray, found: "queue.SimpleQueue[Looked]", *_: object
) -> Iterator[tuple[Image, Looked]]:
    looked = look(image)
    found.put(looked)
    yield layer, looked


def _close_all(works: _Works, *_args: object) -> None:
    for work in works.values():
        work.close(timeout_s=2.0)
    works.clear()
