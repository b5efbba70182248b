"""Keeps a journal for each image that is edited, and offers what an earlier one holds."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from napari.layers import Image
from qtpy.QtCore import QObject, QTimer, Signal

from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.core.image import ImageArray
from napari_deeppixel.core.instance import InstanceState
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

_POLL_MS = 250


@dataclass(frozen=True, kw_only=True, eq=False)
class EarlierWork:
    """What the journal of an image holds.

    Attributes
    ----------
    session
        As it was.
    report
        How the journal was read.
    image_name
        Of the image then.
    """

    session: AnnotationSession
    report: RecoveryReport
    image_name: str

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
    """What a look into an image's folder gave."""

    folder: Path
    earlier: EarlierWork | None = None
    problem: str = ""
    is_locked: bool = False


class _ImageWork:
    """What is known about one image."""

    def __init__(self, image: ImageArray) -> None:
        self.image = image
        self.looked: _Looked | None = None
        self.journal: Journal | None = None
        self.session: AnnotationSession | None = None
        self.is_answered = False


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
        self._works: dict[Image, _ImageWork] = {}
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
        if work is None or work.looked is None or work.is_answered:
            return None
        return work.looked.earlier

    def problem(self, image: Image) -> str:
        """Return why the journal of an image could not be read or opened; empty if it could."""
        work = self._works.get(image)
        return "" if work is None or work.looked is None else work.looked.problem

    def is_locked(self, image: Image) -> bool:
        """Whether another window edits the image."""
        work = self._works.get(image)
        return work is not None and work.looked is not None and work.looked.is_locked

    # -- following images ---------------------------------------------------------------------

    def watch(self, layer: Image, image: ImageArray) -> None:
        """Look for earlier work on an image, and keep a journal as soon as it has instances."""
        if layer in self._works:
            self._attach(layer)
            return
        self._works[layer] = _ImageWork(image)
        self._waiting.append(layer)
        self._look_at_next()

    def forget(self, layer: Image) -> None:
        """Close the journal of an image that left the viewer."""
        work = self._works.pop(layer, None)
        if work is not None and work.journal is not None:
            work.journal.close()

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
        work.looked = looked
        self._attach(layer)
        self.changed.emit()

    def _attach(self, layer: Image) -> None:
        """Open the journal of an image that has a session now."""
        view, work = instance_layers_of(layer), self._works[layer]
        if view is None or work.looked is None or work.session is view.session:
            return
        if work.journal is not None:
            work.journal.close()
            work.journal = None
        work.session = view.session
        if work.looked.is_locked:
            view.session.is_read_only = True
            return
        self._open(work, work.looked.folder, view.session)

    def _open(
        self,
        work: _ImageWork,
        folder: Path,
        session: AnnotationSession,
        recovered: RecoveryReport | None = None,
    ) -> None:
        work.session = session
        try:
            work.journal = open_journal(folder, session, image=work.image, recovered=recovered)
        except JournalLockedError as error:
            work.looked = _Looked(folder=folder, problem=str(error), is_locked=True)
            session.is_read_only = True

    # -- what the person decides --------------------------------------------------------------

    def bring_back(self, layer: Image, viewer: Any, *, channel_axis: int | None) -> InstanceLayers:
        """Return the layers of an image with its earlier work; what is there meanwhile stays."""
        work = self._works[layer]
        earlier = self.earlier(layer)
        assert earlier is not None  # only offered then
        work.is_answered = True
        assert work.looked is not None  # it was found there
        view = instance_layers_of(layer)
        if view is None:
            view = InstanceLayers(viewer, layer, earlier.session, channel_axis=channel_axis)
            self._open(work, work.looked.folder, earlier.session, earlier.report)
        else:
            for index in earlier.session.plane_indices:
                instances = earlier.session.plane(index)
                human = [s is not InstanceState.UNREVIEWED for s in instances.states]
                view.session.add(
                    index,
                    instances.select(human),
                    name="bring back earlier work",
                    joins=f"recovery {work.looked.folder.name}",
                )
        self.changed.emit()
        return view

    def discard(self, layer: Image) -> None:
        """Drop the earlier work on an image: only on the person's word."""
        work = self._works[layer]
        work.is_answered = True
        if work.looked is not None and work.journal is None:
            discard_recovery(work.looked.folder)
        self.changed.emit()

    def edit_here(self, layer: Image) -> None:
        """Edit an image although another window does; with a journal of its own."""
        work = self._works[layer]
        if work.looked is None or work.session is None:
            return
        folder = work.looked.folder
        work.session.is_read_only = False
        work.looked = _Looked(folder=folder.with_name(f"{folder.name}-{uuid4().hex[:8]}"))
        self._open(work, work.looked.folder, work.session)
        self.changed.emit()

    def mark_saved(self, layer: Image) -> None:
        """Note that the instances of an image were saved as a file."""
        work = self._works.get(layer)
        if work is not None and work.journal is not None:
            work.journal.mark_saved()

    # -- the end ------------------------------------------------------------------------------

    def _on_poll(self) -> None:
        for layer in list(self._works):
            self._attach(layer)
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
        summary = find_recovery(folder)
        if summary is None:
            yield layer, _Looked(folder=folder)
            return
        session, report = recover(folder)
        if session.image_hw != image.image_hw:
            yield layer, _Looked(folder=folder)
            return
        earlier = EarlierWork(session=session, report=report, image_name=summary.image_name)
        yield layer, _Looked(folder=folder, earlier=earlier)
    except JournalLockedError as error:
        yield layer, _Looked(folder=folder, problem=str(error), is_locked=True)
    except (DeepPixelError, OSError) as error:
        yield layer, _Looked(folder=folder, problem=str(error))


def _close_all(works: dict[Image, _ImageWork], *_args: object) -> None:
    for work in works.values():
        if work.journal is not None:
            work.journal.close(timeout_s=2.0)
    works.clear()
