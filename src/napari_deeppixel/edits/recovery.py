"""What a journal can bring back after a crash."""

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.core.instance import InstanceState
from napari_deeppixel.edits.journal_files import JournalFolder, read_json
from napari_deeppixel.edits.journal_lock import FolderLock
from napari_deeppixel.edits.record import (
    UNREADABLE,
    ReadRecord,
    SavedElsewhere,
    StepMissing,
    StepTaken,
    decode_record,
    replay,
    unframed,
)
from napari_deeppixel.edits.session import AnnotationSession
from napari_deeppixel.edits.snapshot_file import Snapshot, SnapshotError, read_snapshot

# of a journal that somebody else goes on writing
_MAX_READINGS = 5


class RecoveryError(DeepPixelError):
    """A journal is there, but nothing in it can be read."""


@dataclass(frozen=True, kw_only=True)
class RecoverySummary:
    """What a journal would bring back.

    Attributes
    ----------
    image_name, source
        Of the image when it was edited; its file may have moved since.
    counts
        Instances in each state; hidden candidates do not count.
    complete_planes
        Planes with complete regions.
    last_written
        When, in local time.
    damage
        What could not be read; empty if all could.
    """

    image_name: str
    source: str
    counts: Mapping[InstanceState, int]
    complete_planes: int
    last_written: datetime
    damage: str

    @property
    def is_by_person(self) -> bool:
        """Whether a person did anything of it, so that a run does not give the same again."""
        open_count = self.counts.get(InstanceState.UNREVIEWED, 0)
        return sum(self.counts.values()) > open_count or bool(self.complete_planes)


@dataclass(frozen=True, kw_only=True)
class RecoveryReport:
    """How a journal was read.

    Attributes
    ----------
    steps
        Steps that were done again after the last snapshot.
    last_written
        When the journal was written to, in local time.
    is_saved_elsewhere
        Whether all of it had been saved as annotations.
    is_torn
        Whether the last line was cut short: a step that was being written.
    damage
        What could not be read, for people; empty if all could.
    contents
        Name → bytes of the files then; tells whether somebody wrote since.
    number
        Of the last record.
    """

    steps: int
    last_written: datetime
    is_saved_elsewhere: bool
    is_torn: bool = False
    damage: str = ""
    contents: Mapping[str, int] = field(default_factory=dict)
    number: int = 0


def find_recovery(folder: Path) -> RecoverySummary | None:
    """Return what a journal would bring back; None if nothing that a person would miss.

    That is: no instances and no complete regions, or all of it was saved as annotations. Reads the
    whole journal, which may take seconds: not for the GUI thread.

    Raises
    ------
    JournalLockedError
        If another window edits the image now.
    RecoveryError
        If nothing of it can be read.
    """
    if not JournalFolder(path=folder).generations("snapshot"):
        return None
    with _locked(folder):
        return _summary(folder)


def recover(folder: Path) -> tuple[AnnotationSession, RecoveryReport]:
    """Return the session that a journal holds, with its undo stack, and how it was read.

    Give the report to `open_journal`, so that the journal goes on. May take seconds: not for the
    GUI thread.

    Raises
    ------
    JournalLockedError
        If another window edits the image now.
    RecoveryError
        If nothing of it can be read.
    """
    with _locked(folder):
        return read_journal(folder)


def discard_recovery(folder: Path) -> None:
    """Delete what a journal would bring back: only on the person's word.

    Raises
    ------
    JournalLockedError
        If another window edits the image now.
    OSError
        If a file cannot be removed.
    """
    journal = JournalFolder(path=folder)
    if journal.contents():
        with _locked(folder):
            journal.remove_before(journal.newest + 1)
    if journal.is_aside:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = FolderLock(folder)
    # where nothing can be written, nobody else writes either
    with contextlib.suppress(OSError):
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def summarise(folder: Path) -> RecoverySummary | None:
    """Return what must not be lost when another journal takes the place, for one with the lock.

    None if a person did nothing in it: a run gives the same again, so that it need not be kept.
    What is damaged may hold more than can be read, and stays.

    Raises
    ------
    RecoveryError
        If nothing of it can be read.
    """
    summary = _summary(folder)
    is_missed = summary is not None and (summary.is_by_person or bool(summary.damage))
    return summary if is_missed else None


def place_of(folder: Path, report: RecoveryReport, *, is_replaced: bool) -> Path | None:
    """Return where the journal lies now that was read; None if it is gone or has changed.

    Parameters
    ----------
    folder
        Where it was read; what `JournalFolder.set_aside` made of it is looked for there, too.
    report
        How it was read.
    is_replaced
        Whether another journal has the folder now.
    """
    journal = JournalFolder(path=folder)
    places = [*([] if is_replaced else [journal]), *journal.asides()]
    for each in places:
        # size and time of writing stay as files are moved
        is_same_time = each.last_written == report.last_written
        if is_same_time and each.contents() == report.contents:
            return each.path
    return None


def retire(folder: Path, report: RecoveryReport) -> None:
    """Offer a journal no longer, as another has what it held; what is damaged stays, marked.

    Raises
    ------
    JournalLockedError
        If another window edits the image now.
    OSError
        If a file cannot be removed.
    """
    journal = JournalFolder(path=folder)
    if report.damage and journal.is_aside:
        journal.mark_answered()
    else:
        discard_recovery(folder)


def _summary(folder: Path) -> RecoverySummary | None:
    session, report = read_journal(folder)
    counts = session.count_states()
    complete_planes = len(session.region_planes)
    has_work = any(counts.values()) or complete_planes
    if report.is_saved_elsewhere or not (has_work or report.damage):
        return None
    about = read_json(folder / "image.json")
    return RecoverySummary(
        image_name=str(about.get("name", "")),
        source=str(about.get("source", "")),
        counts=counts,
        complete_planes=complete_planes,
        last_written=report.last_written,
        damage=report.damage,
    )


def read_journal(folder: Path) -> tuple[AnnotationSession, RecoveryReport]:
    """Return session and report as `recover`, without the lock: to look at another's work.

    Raises
    ------
    RecoveryError
        If nothing of it can be read.
    """
    journal = JournalFolder(path=folder)
    for _ in range(_MAX_READINGS):
        before = journal.generations("snapshot")
        with contextlib.suppress(RecoveryError, FileNotFoundError):
            found = _read(journal)
            # else a new snapshot came, and what it replaces may have gone while we were at it
            if journal.generations("snapshot") == before:
                return found
    return _read(journal)


def _read(journal: JournalFolder) -> tuple[AnnotationSession, RecoveryReport]:
    generation, snapshot = _newest_snapshot(journal)
    session = snapshot.saved.restored()
    paths = [journal.log(n) for n in journal.generations("log") if n >= generation]
    reading = _LogReading(snapshot.number, paths)
    steps, is_saved = 0, snapshot.is_saved_elsewhere
    for record in reading.records():
        try:
            session = replay(record, session)
        except UNREADABLE as error:
            reading.stop(f"step {reading.number} does not fit what came before it: {error}")
            break
        if isinstance(record, StepTaken | SavedElsewhere):
            steps += isinstance(record, StepTaken)
            is_saved = isinstance(record, SavedElsewhere)
    return session, RecoveryReport(
        steps=steps,
        last_written=journal.last_written,
        is_saved_elsewhere=is_saved and not reading.damage,
        is_torn=reading.is_torn,
        damage=reading.damage,
        contents=journal.contents(),
        number=reading.number,
    )


def _newest_snapshot(journal: JournalFolder) -> tuple[int, Snapshot]:
    problems = []
    for generation in reversed(journal.generations("snapshot")):
        try:
            return generation, read_snapshot(journal.snapshot(generation))
        except (OSError, SnapshotError) as error:
            problems.append(str(error))
    why = "; ".join(problems) or "there is no snapshot in it"
    raise RecoveryError(f"nothing can be brought back from {journal.path}: {why}")


class _LogReading:
    """Reads the logs of several generations as one, as far as no step is missing.

    A log that was being written anew repeats what is in those before it. So what comes after a
    damage is read as well: it may hold what was damaged.
    """

    def __init__(self, number: int, paths: list[Path]) -> None:
        self.number = number
        self.is_torn = False
        self._torn_name = self._problem = self._missing = ""
        self._paths = paths

    @property
    def damage(self) -> str:
        """What could not be read, for people; empty if all could."""
        return self._problem or self._missing

    def stop(self, problem: str) -> None:
        """Note why the last record, and all after it, are of no use."""
        self._problem, self.is_torn = problem, False

    def records(self) -> Iterator[ReadRecord]:
        for path in self._paths:
            try:
                yield from self._records_in(path)
            except OSError as error:
                self._note(f"{path.name} cannot be read: {error}")

    def _records_in(self, path: Path) -> Iterator[ReadRecord]:
        newest = 0
        with path.open("rb") as file:
            for line in file:
                if self.is_torn:
                    # only the last line of all is one that was being written
                    self._note(f"{self._torn_name} is damaged after step {self.number}")
                payload = unframed(line)
                if payload is None:
                    is_last = not file.peek(1)
                    # a repetition that was cut short lacks nothing
                    if not (is_last and 0 < newest < self.number):
                        self._note_bad_line(path, is_last=is_last)
                    return
                try:
                    newest, record = decode_record(payload)
                except UNREADABLE as error:
                    self._note(
                        f"{path.name} cannot be understood after step {self.number}: {error}"
                    )
                    return
                if newest > self.number + 1:
                    self._note(
                        f"steps {self.number + 1} to {newest - 1} are missing in {path.name}"
                    )
                    return
                if newest == self.number + 1:
                    yield self._taken(newest, record)

    def _taken(self, number: int, record: ReadRecord) -> ReadRecord:
        self.number, self._problem, self.is_torn = number, "", False
        if isinstance(record, StepMissing):
            reason = f"step {number} ({record.name}) could not be written down: {record.reason}"
            self._missing = self._missing or reason
        return record

    def _note(self, problem: str) -> None:
        self._problem, self.is_torn = self._problem or problem, False

    def _note_bad_line(self, path: Path, *, is_last: bool) -> None:
        if is_last and not self._problem:
            self.is_torn, self._torn_name = True, path.name
        else:
            self._note(f"{path.name} is damaged after step {self.number}")
