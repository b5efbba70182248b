"""The journal of an image: what happens to its session is on the disk before anything can go wrong.

Steps are appended to a log as they come; a snapshot begins a new log now and then. After a crash,
`recovery.recover` brings back all but the step that was being made.
"""

from pathlib import Path
from types import TracebackType
from typing import Any

from psygnal import SignalInstance

from napari_deeppixel.core.image import ImageArray
from napari_deeppixel.edits.journal_files import JournalFolder, now_text
from napari_deeppixel.edits.journal_lock import FolderLock
from napari_deeppixel.edits.journal_state import JournalPace, JournalState
from napari_deeppixel.edits.journal_writer import JournalWriter
from napari_deeppixel.edits.record import (
    CategoriesSet,
    Record,
    SavedElsewhere,
    VisibilitySet,
)
from napari_deeppixel.edits.recovery import RecoveryReport
from napari_deeppixel.edits.saved_session import SavedSession
from napari_deeppixel.edits.session import AnnotationSession, Applied
from napari_deeppixel.edits.snapshot_file import FORMAT, Snapshot

# Listeners that change the session in turn come after the journal: it must hear of things in their
# order.
_FIRST = 1000


class Journal:
    """Writes down what happens to a session; made by `open_journal`, in the GUI thread.

    Use it from one thread, but for `state`, `flush` and `state_changed`.

    Attributes
    ----------
    folder
        Where it lies.
    """

    def __init__(
        self,
        folder: Path,
        session: AnnotationSession,
        *,
        image: ImageArray,
        lock: FolderLock,
        recovered: RecoveryReport | None = None,
        pace: JournalPace | None = None,
    ) -> None:
        self.folder = folder
        self._session = session
        self._is_saved_elsewhere = recovered is not None and recovered.is_saved_elsewhere
        # Not the number after what was recovered: should the snapshot of this session be damaged,
        # the steps after it must not be taken for the next ones of the snapshot before.
        number = 0 if recovered is None else recovered.number + 1
        self._is_open = True
        self._writer = JournalWriter(
            folder=JournalFolder(path=folder),
            lock=lock,
            base=self._base(number),
            about=_about(image),
            recovered=recovered,
            pace=pace or JournalPace(),
        )
        self._connections: list[tuple[SignalInstance, Any]] = [  # Any: a slot
            (session.changed, self._on_changed),
            (session.visibility_changed, self._on_visibility_changed),
            (session.categories_changed, self._on_categories_changed),
        ]
        for signal, slot in self._connections:
            signal.connect(slot, priority=_FIRST)
        if recovered is not None:
            # so that there is a number that is missing; nothing is written yet, so do not wait
            shown = VisibilitySet(score=session.score, min_area=session.min_area)
            self._writer.put(shown)
        self._number_of_base = self._writer.number
        self._writer.start()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # -- how it stands ----------------------------------------------------------------------------

    @property
    def state(self) -> JournalState:
        """How far the disk is behind, and what is wrong; for any thread."""
        return self._writer.state

    @property
    def state_changed(self) -> SignalInstance:
        """Signal: `JournalState`, in a thread of the journal; a window asks for `state` instead."""
        return self._writer.state_changed

    @property
    def num_in_memory(self) -> int:
        """Records that are kept in memory until a snapshot makes them superfluous."""
        return self._writer.num_in_memory

    # -- what happens -----------------------------------------------------------------------------

    def _on_changed(self, applied: Applied) -> None:
        self._is_saved_elsewhere = False
        self._put(applied)
        if self._writer.wants_base:
            self._put_base()

    def _on_visibility_changed(self, _turned: object) -> None:
        self._put(VisibilitySet(score=self._session.score, min_area=self._session.min_area))

    def _on_categories_changed(self, _table: object) -> None:
        self._put(CategoriesSet(categories=self._session.categories))

    def _put(self, record: Record) -> None:
        self._writer.put(record)
        # A stroke is in the system when the GUI thread goes on, mostly after 0.2 ms, a new state of
        # 10,000 instances after 30 ms. Without this, what came in the last few milliseconds before
        # a kill would be lost as well.
        num_changes = len(record.action.changes) if isinstance(record, Applied) else 1
        self._writer.wait_until_written(num_changes)

    def _base(self, number: int) -> Snapshot:
        return Snapshot(
            saved=SavedSession.of(self._session),
            number=number,
            is_saved_elsewhere=self._is_saved_elsewhere,
        )

    def _put_base(self) -> None:
        self._number_of_base = self._writer.number
        self._writer.put_base(self._base(self._number_of_base))

    def mark_saved(self) -> None:
        """Note that all so far was saved as annotations: it need not be offered after a crash."""
        self._is_saved_elsewhere = True
        self._put(SavedElsewhere())

    # -- the end ----------------------------------------------------------------------------------

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Return whether the disk has all that happened so far; waits at most so long."""
        return self._writer.flush(timeout_s)

    def close(self, timeout_s: float = 5.0) -> bool:
        """Write the rest and a snapshot, let others in, and return whether the disk has all.

        What was not saved as annotations is offered at the next start. Takes at most `timeout_s`
        and a little; a second call does nothing.
        """
        if not self._is_open:
            return self._writer.flush(0)
        self._disconnect()
        if self._writer.number != self._number_of_base:
            self._put_base()
        return self._writer.stop(timeout_s)

    def report(self) -> RecoveryReport:
        """Return what `recover` would say of a closed journal, but for steps and damage.

        With it, the same session may go on in the same folder: see `open_journal`.
        """
        files = JournalFolder(path=self.folder)
        return RecoveryReport(
            steps=0,
            last_written=files.last_written,
            is_saved_elsewhere=self._is_saved_elsewhere,
            contents=files.contents(),
            number=self._writer.number,
        )

    def discard(self, timeout_s: float = 5.0) -> None:
        """Close the journal and delete what it wrote: only on the person's word."""
        if self._is_open:
            self._disconnect()
            self._writer.stop(timeout_s, deletes=True)

    def _disconnect(self) -> None:
        self._is_open = False
        for signal, slot in self._connections:
            signal.disconnect(slot)


def open_journal(
    folder: Path,
    session: AnnotationSession,
    *,
    image: ImageArray,
    recovered: RecoveryReport | None = None,
    pace: JournalPace | None = None,
) -> Journal:
    """Return the journal of a session, open and at work.

    If nothing can be written there, it is open all the same, says so in its `state`, and tries
    again.

    Parameters
    ----------
    folder
        `journal_folder` of the image; made if it is not there.
    session
        What to write down, with all that it holds now.
    image
        What it belongs to; only name, source and shape are taken.
    recovered
        The report of `recover` that the session came with. Without it, a journal that is in the
        folder is set aside as ``earlier-…`` if it holds what a person did and did not save as
        annotations, else replaced.
    pace
        How often to do what.

    Raises
    ------
    JournalLockedError
        If another window edits the image.
    """
    lock = FolderLock(folder)
    try:
        lock.acquire()
    except OSError:
        # the writer meets the same error, tells of it and tries again
        lock.release()
    return Journal(folder, session, image=image, lock=lock, recovered=recovered, pace=pace)


def _about(image: ImageArray) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "name": image.name,
        "source": image.source,
        "shape": [int(size) for size in image.pixels.shape],
        "axes": image.axes,
        "opened": now_text(),
    }
