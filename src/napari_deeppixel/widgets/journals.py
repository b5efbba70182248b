"""Keeps a journal for each image that is edited, and offers what an earlier one holds."""

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from napari.layers import Image
from qtpy.QtCore import QObject, QTimer, Signal

from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.core.image import ImageArray
from napari_deeppixel.core.instance import InstanceState
from napari_deeppixel.edits.action import Action, RegionsChange
from napari_deeppixel.edits.journal import Journal, open_journal
from napari_deeppixel.edits.journal_files import JournalLockedError, journal_folder
from napari_deeppixel.edits.journal_state import JournalState
from napari_deeppixel.edits.recovery import (
    RecoveryReport,
    discard_recovery,
    find_recovery,
    recover,
)
from napari_deeppixel.edits.session import AnnotationSession
from napari_deeppixel.viewer.layers import InstanceLayers, instance_layers_of
from napari_deeppixel.widgets.worker import BackgroundTask

# what is known about an image hangs on its layer, as its instances do: it survives the dock
WORK_KEY = "napari_deeppixel_journal"
_POLL_MS = 250
_FLUSH_S = 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class EarlierWork:
    """What the journal of an image holds.

    Attributes
    ----------
    folder
        Where it lies.
    session
        As it was.
    report
        How the journal was read.
    image_name
        Of the image then.
    """

    folder: Path
    session: AnnotationSession
    report: RecoveryReport
    image_name: str

    @property
    def is_by_person(self) -> bool:
        """Whether a person did anything, so that a run does not give the same again."""
        counts = self.session.count_states()
        open_count = counts[InstanceState.UNREVIEWED]
        return sum(counts.values()) > open_count or bool(self.session.region_planes)

    def summary(self) -> str:
        """Return what would come back, for people."""
        counts = {s: n for s, n in self.session.count_states().items() if n}
        total = sum(counts.values())
        parts = ", ".join(f"{n:,} {state.value}" for state, n in counts.items())
        when = self.report.last_written.strftime("%Y-%m-%d %H:%M")
        damage = f" {self.report.damage}" if self.report.damage else ""
        return (
            f"Earlier work on this image, last changed {when}: {total:,} instances "
            f"({parts}).{damage}"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Looked:
    """What a look into an image's folder gave; what was found there is offered one by one."""

    folder: Path
    earlier: tuple[EarlierWork, ...] = ()
    problem: str = ""
    is_locked: bool = False


class _ImageWork:
    """What is known about one image; it belongs to one `Journals` at a time."""

    def __init__(self, layer: Image, image: ImageArray, home: "_Works") -> None:
        self.layer, self.image, self.home = layer, image, home
        self.looked: _Looked | None = None
        self.journal: Journal | None = None
        self.session: AnnotationSession | None = None
        # the person wants to edit here, whoever else does
        self.is_forced = False

    def is_of(self, layer: Image, image: ImageArray) -> bool:
        """Whether this is about that layer, with the axes and the shape that it has now."""
        is_same = (self.image.axes, self.image.pixels.shape) == (image.axes, image.pixels.shape)
        # a duplicated layer shares the metadata of the one it was made from
        return self.layer == layer and is_same

    def close(self, timeout_s: float = 5.0) -> None:
        if self.journal is not None:
            self.journal.close(timeout_s)
            self.journal = None


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
        self._task.finished.connect(self._look_at_next)
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
        return "" if work is None or work.looked is None else work.looked.problem

    def is_locked(self, image: Image) -> bool:
        """Whether another window edits the image."""
        work = self._works.get(image)
        return work is not None and work.looked is not None and work.looked.is_locked

    def refusal(self, image: Image) -> str:
        """Return why the instances of an image may not be changed now; empty if they may."""
        if self.is_locked(image):
            return self.problem(image)
        earlier = self.earlier(image)
        if earlier is None or not earlier.is_by_person or self._session_of(image) is not None:
            return ""
        return "There is earlier work on this image: choose Bring back or Discard first."

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
                image = work.image
                self._task.start(lambda _c, _r, layer=layer, image=image: _look(layer, image))  # type: ignore[misc]

    def _on_looked(self, result: tuple[Image, _Looked]) -> None:
        layer, looked = result
        work = self._works.get(layer)
        if work is None:
            return
        if looked.is_locked and work.is_forced:
            own = looked.folder.with_name(f"{looked.folder.name}-{uuid4().hex[:8]}")
            looked = _Looked(folder=own)
        work.looked = looked
        self._attach(work)
        self.changed.emit()

    def _attach(self, work: _ImageWork) -> None:
        """Open the journal of an image that has a session now."""
        session = self._session_of(work.layer)
        if session is None or work.looked is None or work.session is session:
            return
        work.close()
        work.session = session
        session.is_read_only = work.looked.is_locked
        if not work.looked.is_locked:
            # what a run gave before is not worth a question once there is a new one
            worth = tuple(each for each in work.looked.earlier if each.is_by_person)
            work.looked = replace(work.looked, earlier=worth)
            self._open(work, session)

    def _open(
        self,
        work: _ImageWork,
        session: AnnotationSession,
        recovered: RecoveryReport | None = None,
    ) -> None:
        assert work.looked is not None  # both callers have looked at it
        folder, work.session = work.looked.folder, session
        try:
            work.journal = open_journal(folder, session, image=work.image, recovered=recovered)
        except JournalLockedError as error:
            work.looked = _Looked(folder=folder, problem=str(error), is_locked=True)
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
            _add_work(view.session, earlier.session, joins=f"recovery {earlier.folder.name}")
        journal = work.journal
        is_elsewhere = journal is not None and journal.folder != earlier.folder
        if journal is not None and is_elsewhere and journal.flush(_FLUSH_S):
            # the image's own journal has it now
            discard_recovery(earlier.folder)
        self.changed.emit()
        return view

    def discard(self, layer: Image) -> None:
        """Drop the earlier work on an image: only on the person's word."""
        work, earlier = self._works[layer], self._answered(layer)
        if work.journal is None or work.journal.folder != earlier.folder:
            discard_recovery(earlier.folder)
        self.changed.emit()

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


def _look(layer: Image, image: ImageArray) -> Iterator[tuple[Image, _Looked]]:
    folder = journal_folder(image)
    try:
        found = [_earlier_work(folder, image)]
        # of windows that edited the image beside another one
        for beside in sorted(folder.parent.glob(f"{folder.name}-*")):
            with contextlib.suppress(DeepPixelError):
                found.append(_earlier_work(beside, image))
    except JournalLockedError as error:
        yield layer, _Looked(folder=folder, problem=str(error), is_locked=True)
    except (DeepPixelError, OSError) as error:
        yield layer, _Looked(folder=folder, problem=str(error))
    else:
        yield layer, _Looked(folder=folder, earlier=tuple(e for e in found if e is not None))


def _earlier_work(folder: Path, image: ImageArray) -> EarlierWork | None:
    summary = find_recovery(folder)
    if summary is None:
        return None
    session, report = recover(folder)
    if session.image_hw != image.image_hw:
        return None
    return EarlierWork(folder=folder, session=session, report=report, image_name=summary.image_name)


def _add_work(session: AnnotationSession, earlier: AnnotationSession, *, joins: str) -> None:
    """Add what a person did in an earlier session, as one step; predictions give way to it."""
    name = "bring back earlier work"
    for index in sorted({*earlier.plane_indices, *earlier.region_planes}):
        instances = earlier.plane(index)
        human = instances.select([s is not InstanceState.UNREVIEWED for s in instances.states])
        session.add(index, human, name=name, joins=joins)
        before = session.regions(index)
        after = tuple(dict.fromkeys((*before, *earlier.regions(index))))
        if after != before:
            change = RegionsChange(index=index, before=before, after=after)
            session.apply(Action(name=name, regions=(change,)), joins=joins)
        present = session.plane(index)
        is_open = [state is InstanceState.UNREVIEWED for state in present.states]
        session.add_predictions(index, present.select(is_open), joins=joins)


def _close_all(works: _Works, *_args: object) -> None:
    for work in works.values():
        work.close(timeout_s=2.0)
    works.clear()
