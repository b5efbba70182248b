"""What must not be lost, whatever goes wrong while the journal is being written."""

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.edits.scribble import IMAGE, Work, draw, everything, new_session, run_model
from tests.edits.test_journal import QUICK, Desk

from napari_deeppixel.core.instance import InstanceState
from napari_deeppixel.edits import journal_writer
from napari_deeppixel.edits.journal import open_journal
from napari_deeppixel.edits.journal_files import JournalFolder, JournalLockedError, LogFile
from napari_deeppixel.edits.journal_lock import FolderLock
from napari_deeppixel.edits.journal_state import JournalPace, JournalPhase
from napari_deeppixel.edits.journal_writer import JournalWriter
from napari_deeppixel.edits.recovery import RecoveryError, read_journal, recover
from napari_deeppixel.edits.saved_session import SavedSession
from napari_deeppixel.edits.session import Applied
from napari_deeppixel.edits.snapshot_file import Snapshot


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "journal")
    assert desk.journal.flush(20)
    yield desk
    desk.journal.close()


def num_drawn(folder: Path) -> int:
    """Return how many drawn instances the best of a folder's journals would bring back."""
    found = [0]
    for each in (folder, *(aside.path for aside in JournalFolder(path=folder).asides())):
        try:
            session, _ = read_journal(each)
        except RecoveryError:
            continue
        found.append(session.count_states()[InstanceState.DRAWN])
    return max(found)


def call_before(
    patch: pytest.MonkeyPatch, look: Callable[[], None], *places: tuple[Any, str]
) -> None:
    """Look at what a kill would leave, before each call of some functions."""

    def watched(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            look()
            return real(*args, **kwargs)

        return call

    for owner, name in places:
        patch.setattr(owner, name, watched(getattr(owner, name)))


# -- writing anew ---------------------------------------------------------------------------------


def test_kill_while_all_is_written_anew_loses_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.work(*[draw] * 20)
    assert desk.journal.flush(20)
    looks: list[int] = []
    with monkeypatch.context() as patch:
        call_before(
            patch,
            lambda: looks.append(num_drawn(desk.folder)),
            (os, "write"),
            (os, "fsync"),
            (Path, "replace"),
            (Path, "unlink"),
        )
        fail_next_append(patch)
        desk.work(draw)
        assert desk.journal.flush(20)
    assert len(looks) > 20
    assert min(looks) == 20
    assert desk.everything_comes_back()


def fail_next_append(patch: pytest.MonkeyPatch) -> None:
    """Let the disk fail once."""
    real, failures = LogFile.append, [OSError(errno.EIO, "passing error")]

    def append(log: LogFile, line: bytes) -> None:
        if failures:
            raise failures.pop()
        real(log, line)

    patch.setattr(LogFile, "append", append)


def test_full_disk_while_all_is_written_anew_leaves_what_was_there_and_no_heap(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.work(*[draw] * 20)
    assert desk.journal.flush(20)
    real, calls = LogFile.append, 0

    def append(log: LogFile, line: bytes) -> None:
        nonlocal calls
        calls += 1
        if calls == 1 or calls % 8 == 0:
            raise OSError(errno.EIO if calls == 1 else errno.ENOSPC, "no")
        real(log, line)

    with monkeypatch.context() as patch:
        patch.setattr(LogFile, "append", append)
        desk.work(draw)
        while calls < 40:
            desk.waits_for(JournalPhase.FAILED)
            assert num_drawn(desk.folder) == 20
            # what was there, the log that lay ready, and the one that is being tried
            assert len(JournalFolder(path=desk.folder).contents()) <= 4
    desk.waits_for(JournalPhase.SAVED)
    assert desk.everything_comes_back()


def test_log_that_repeats_others_mends_what_is_damaged_in_them(desk: Desk) -> None:
    desk.work(*[draw] * 4)
    assert desk.journal.flush(20)
    log = desk.folder / "log-1.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(lines[0] + b"x" + lines[1] + lines[2])
    again = desk.folder / "log-7.jsonl"
    again.write_bytes(b"".join(lines[:3]) + lines[3][:-9])
    session, report = read_journal(desk.folder)
    assert (report.steps, report.is_torn, report.damage) == (3, True, "")
    desk.session.undo()
    assert everything(session)["instances"] == everything(desk.session)["instances"]
    again.write_bytes(lines[0] + lines[1][:-9])
    assert read_journal(desk.folder)[1].damage == "log-1.jsonl is damaged after step 1"


# -- two windows, and a folder that comes and goes ------------------------------------------------


def be_quiet(desk: Desk) -> None:
    """Wait until nothing is being written: what is half written is not known as ours yet."""
    assert desk.journal.flush(20)
    pause = threading.Event()
    for _ in range(400):
        if desk.journal._writer._snapshot_due is None:
            break
        pause.wait(0.01)
    # its files are noted, and old ones removed, a moment later
    pause.wait(0.2)


def test_work_of_a_window_that_came_while_the_folder_was_gone_is_set_aside(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "journal", replace(QUICK, steps=5, check_s=60.0))
    # its generations are the newer ones
    desk.work(*[draw] * 30)
    be_quiet(desk)
    desk.folder.rename(tmp_path / "gone")
    other, rng = new_session(), np.random.default_rng(8)
    with open_journal(desk.folder, other, image=IMAGE, pace=QUICK):
        for _ in range(7):
            draw(other, rng)
    desk.work(draw)
    assert desk.everything_comes_back()
    (aside,) = desk.folder.glob("earlier-*")
    assert everything(read_journal(aside)[0]) == everything(other)
    desk.journal.close()


def test_lock_that_was_deleted_is_taken_again_and_only_what_others_wrote_is_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path / "journal", replace(QUICK, steps=5, check_s=60.0))
    desk.work(*[draw] * 23)
    be_quiet(desk)
    (desk.folder / "lock").unlink()
    (desk.folder / "snapshot-99.jsonl.gz").write_bytes(b"x")
    with monkeypatch.context() as patch:
        fail_next_append(patch)
        desk.work(draw)
        assert desk.everything_comes_back()
    (aside,) = desk.folder.glob("earlier-*")
    assert JournalFolder(path=aside).contents() == {"snapshot-99.jsonl.gz": 1}
    with pytest.raises(JournalLockedError):
        open_journal(desk.folder, new_session(), image=IMAGE)
    desk.journal.close()


def test_discard_leaves_the_work_of_another_window_alone(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "journal", replace(QUICK, check_s=60.0))
    be_quiet(desk)
    desk.folder.rename(tmp_path / "gone")
    other, rng = new_session(), np.random.default_rng(8)
    with open_journal(desk.folder, other, image=IMAGE, pace=QUICK):
        draw(other, rng)
    desk.journal.discard()
    assert everything(recover(desk.folder)[0]) == everything(other)


def test_kill_while_files_are_set_aside_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path / "journal", replace(QUICK, steps=5))
    desk.work(*[draw] * 23)
    assert desk.journal.flush(20)
    desk.journal.close()
    looks: list[int] = []
    names = ("hardlink_to", "mkdir", "rename", "unlink", "replace")
    with monkeypatch.context() as patch:
        call_before(
            patch,
            lambda: looks.append(num_drawn(desk.folder)),
            *((Path, name) for name in names),
        )
        assert JournalFolder(path=desk.folder).set_aside() is not None
    assert len(looks) > 5
    assert set(looks) == {23}
    assert num_drawn(desk.folder) == 23
    assert JournalFolder(path=desk.folder).contents() == {}


def test_files_are_set_aside_on_a_disk_without_links_and_left_overs_of_it_go(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    desk.work(draw)
    desk.journal.close()
    folder = JournalFolder(path=desk.folder)
    contents, when = folder.contents(), folder.last_written
    left_over = desk.folder / ".earlier-20260102-030405.1.part"
    left_over.mkdir()
    (left_over / "log-1.jsonl").write_bytes(b"")
    monkeypatch.setattr(Path, "hardlink_to", no_links)
    aside = folder.set_aside()
    assert aside is not None
    # by these, `place_of` finds it
    assert JournalFolder(path=aside).contents() == contents
    assert JournalFolder(path=aside).last_written == when
    folder.remove_before(1)
    assert not left_over.exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_disk_without_locks_gets_a_file_for_a_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    fcntl = pytest.importorskip("fcntl", reason="Windows has other locks")

    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    desk = Desk(tmp_path / "journal")
    desk.work(draw)
    assert desk.everything_comes_back()
    assert desk.journal.state.phase is JournalPhase.SAVED
    with pytest.raises(JournalLockedError, match="in this napari"):
        open_journal(desk.folder, new_session(), image=IMAGE)
    desk.journal.close()
    assert everything(recover(desk.folder)[0]) == everything(desk.session)


def test_lock_that_cannot_be_had_at_all_is_named(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> bool:
        raise OSError(errno.ENOLCK, "No locks available")

    with monkeypatch.context() as patch:
        patch.setattr(FolderLock, "acquire", refuse)
        fail_next_append(patch)
        desk.work(draw)
        message = desk.waits_for(JournalPhase.FAILED).message
    assert "knows no file locks" in message
    assert "NAPARI_DEEPPIXEL_JOURNAL" in message
    desk.waits_for(JournalPhase.SAVED)


# -- what cannot be written down, or read again ---------------------------------------------------


def test_numbers_of_numpy_are_written_as_numbers(desk: Desk) -> None:
    desk.session.set_visibility(score=np.float32(0.4), min_area=np.int64(3))  # type: ignore[arg-type]
    desk.work(draw)
    assert desk.everything_comes_back()
    assert desk.journal.state.message == ""


def refuse_record(patch: pytest.MonkeyPatch, refused: int) -> None:
    """Let one record be of a kind that cannot be written down."""
    real = journal_writer.encode_record

    def encode(record: Any, *, number: int) -> Iterator[bytes]:
        if number == refused and isinstance(record, Applied):
            raise TypeError("a Banana is no JSON")
        return real(record, number=number)

    patch.setattr(journal_writer, "encode_record", encode)


def test_step_that_cannot_be_written_down_is_told_and_comes_with_a_snapshot(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages: list[str] = []
    desk.journal.state_changed.connect(lambda state: messages.append(state.message))
    with monkeypatch.context() as patch:
        refuse_record(patch, 2)
        desk.work(draw, draw, draw)
        desk.waits_for(JournalPhase.SAVED)
    assert "The step 'draw' could not be written" in "".join(messages)
    assert desk.everything_comes_back()
    assert len(JournalFolder(path=desk.folder).generations("snapshot")) == 2


def test_steps_after_one_that_cannot_be_written_down_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, JournalPace())
    refuse_record(monkeypatch, 2)
    for _ in range(3):
        bench.work(draw)
    session, report = read_journal(tmp_path)
    assert (report.steps, session.count_states()[InstanceState.DRAWN]) == (2, 2)
    assert report.damage == "step 2 (draw) could not be written down: a Banana is no JSON"
    assert bench.writer.wants_base


def test_snapshot_that_cannot_be_written_down_stops_no_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode(_: Snapshot) -> Iterator[bytes]:
        raise TypeError("a Banana is no JSON")
        yield b""

    desk = Desk(tmp_path / "journal", replace(QUICK, steps=5))
    assert desk.journal.flush(20)
    monkeypatch.setattr("napari_deeppixel.edits.snapshot_file.encode_snapshot", encode)
    desk.work(*[draw] * 23)
    assert "a Banana is no JSON" in desk.waits_for(JournalPhase.FAILED).message
    desk.work(draw)
    assert desk.everything_comes_back()
    desk.journal.close(1)


@pytest.mark.parametrize("place", [12, 200, -60, -4])
def test_damaged_snapshot_is_made_good_by_the_one_before(tmp_path: Path, place: int) -> None:
    desk = Desk(tmp_path / "journal", replace(QUICK, steps=10))
    desk.work(*[draw] * 45)
    assert desk.journal.flush(20)
    desk.journal.close()
    newest = JournalFolder(path=desk.folder).generations("snapshot")[-1]
    path = desk.folder / f"snapshot-{newest}.jsonl.gz"
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    session, report = recover(desk.folder)
    assert report.damage == ""
    assert everything(session) == everything(desk.session)
    with open_journal(desk.folder, session, image=IMAGE, recovered=report) as journal:
        draw(session, desk.rng)
        assert journal.flush(20)
    assert everything(recover(desk.folder)[0]) == everything(session)


def test_snapshot_before_what_was_recovered_is_not_taken_for_all(desk: Desk) -> None:
    desk.work(draw, draw)
    desk.journal.close()
    session, report = recover(desk.folder)
    # before its journal is open, so that the snapshot alone has it
    run_model(session, desk.rng)
    with open_journal(desk.folder, session, image=IMAGE, recovered=report, pace=QUICK) as journal:
        draw(session, desk.rng)
        assert journal.flush(20)
        newest = JournalFolder(path=desk.folder).generations("snapshot")[-1]
        (desk.folder / f"snapshot-{newest}.jsonl.gz").write_bytes(b"")
        back, told = read_journal(desk.folder)
    assert everything(back) == everything(desk.session)
    assert "steps 3 to 3 are missing" in told.damage


def test_log_laid_ready_while_one_is_made_is_not_taken_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, JournalPace())
    real = journal_writer.LogFile

    def in_between(path: Path) -> LogFile:
        log = real(path)
        monkeypatch.undo()
        # the other thread finds none, and makes the same one
        bench.writer._lay_next_log_ready()
        return log

    monkeypatch.setattr(journal_writer, "LogFile", in_between)
    for _ in range(3):
        bench.roll()
        bench.work(draw)
        # what follows a snapshot lies in its own log, or it would go with what is before it
        assert bench.writer._log is not None
        assert bench.writer._log.name == f"log-{bench.writer._generation}.jsonl"
    assert everything(read_journal(tmp_path)[0]) == everything(bench.session)


# -- how soon -------------------------------------------------------------------------------------


class Bench:
    """A writer without threads, whose time stands still until somebody turns it on."""

    def __init__(self, folder: Path, pace: JournalPace) -> None:
        self.now = 100.0
        self.session = new_session()
        self.writer = JournalWriter(
            folder=JournalFolder(path=folder),
            lock=FolderLock(folder),
            base=Snapshot(saved=SavedSession.of(self.session), number=0),
            about={},
            recovered=None,
            pace=pace,
            clock=lambda: self.now,
        )
        self.session.changed.connect(self.writer.put)
        self.writer.write_next()

    def work(self, work: Work) -> None:
        work(self.session, np.random.default_rng())
        self.writer.write_next()

    def roll(self) -> None:
        """Go on in a new log, after a snapshot."""
        saved = SavedSession.of(self.session)
        self.writer.put_base(Snapshot(saved=saved, number=self.writer.number))
        self.writer.write_next()
        self.writer._write_snapshot_when_due()

    def pass_time(self, seconds: float) -> None:
        """Turn the clock on; the logs are synced when they are due."""
        end = self.now + seconds
        while (due := self.writer.sync_due()) <= end:
            self.now = max(self.now, due)
            self.writer.sync_logs()
        self.now = end


def test_step_is_on_the_disk_a_quarter_of_a_second_after_it_was_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, JournalPace())
    synced: list[float] = []
    call_before(monkeypatch, lambda: synced.append(bench.now), (os, "fsync"))
    done = []
    for pause_s in (5.0, 0.0, 0.01, 0.2, 0.3, 0.1, 0.1, 0.1, 9.0):
        bench.pass_time(pause_s)
        bench.work(draw)
        done.append(bench.now)
    bench.pass_time(9.0)
    assert bench.writer.state.unsaved == 0
    for when in done:
        assert min(each - when for each in synced if each >= when) <= 0.25
    # 5.0 with the one at once, 5.25 with the next two, 5.51, 5.76, 14.81
    assert len(set(synced)) < len(done)


def test_step_is_on_the_disk_while_a_snapshot_is_still_on_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, began = threading.Event(), threading.Event()
    real = journal_writer.write_snapshot

    def slow(path: Path, snapshot: Snapshot) -> None:
        began.set()
        answers.wait(60)
        real(path, snapshot)

    desk = Desk(tmp_path / "journal", JournalPace(steps=5))
    assert desk.journal.flush(20)
    with monkeypatch.context() as patch:
        patch.setattr(journal_writer, "write_snapshot", slow)
        desk.work(*[draw] * 6)
        assert began.wait(20)
        before = time.monotonic()
        desk.work(draw)
        assert desk.journal.flush(20)
        # 0.25 s, and what a busy machine needs
        assert time.monotonic() - before < 1.5
        assert not (desk.folder / "snapshot-2.jsonl.gz").exists()
        answers.set()
    desk.journal.close()
    assert everything(recover(desk.folder)[0]) == everything(desk.session)


def test_step_waits_as_long_as_its_size_asks_for_and_for_a_short_time_after_a_slow_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, JournalPace(wait_s=0.05, short_wait_s=0.01))
    waits: list[float | None] = []
    real = threading.Condition.wait_for

    def wait_for(self: Any, predicate: Any, timeout: float | None = None) -> Any:
        waits.append(timeout)
        return real(self, predicate, timeout)

    monkeypatch.setattr(threading.Condition, "wait_for", wait_for)
    draw(bench.session, np.random.default_rng())
    for num_changes in (0, 0, 400):
        bench.writer.wait_until_written(num_changes)
    bench.writer.write_next()
    for num_changes in (0, 0, 10_000, 10_000_000):
        bench.writer.wait_until_written(num_changes)
    assert waits == [0.05, 0.01, 0.02, 0.01, 0.05, 0.3, 1.05]
