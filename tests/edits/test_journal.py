"""Journals on real files: what comes back, and what happens when the disk does not play along."""

import errno
import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.edits.scribble import (
    ALL_WORK,
    IMAGE,
    Work,
    draw,
    everything,
    new_session,
    redo,
    review,
    run_model,
    slide,
    stroke,
    undo,
)

from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import InstanceState
from napari_deeppixel.edits.journal import open_journal
from napari_deeppixel.edits.journal_files import JournalFolder, JournalLockedError
from napari_deeppixel.edits.journal_state import JournalPace, JournalPhase, JournalState
from napari_deeppixel.edits.recovery import (
    RecoveryError,
    discard_recovery,
    find_recovery,
    place_of,
    read_journal,
    recover,
    retire,
)
from napari_deeppixel.edits.saved_session import SavedSession
from napari_deeppixel.edits.session import AnnotationSession

QUICK = JournalPace(sync_s=0.0, first_pause_s=0.01, longest_pause_s=0.05, check_s=0.05)


class Desk:
    """A session with a journal in a folder, and somebody who works on it."""

    def __init__(self, folder: Path, pace: JournalPace = QUICK) -> None:
        self.folder = folder
        self.session = new_session()
        self.rng = np.random.default_rng(3)
        run_model(self.session, self.rng)
        self.journal = open_journal(folder, self.session, image=IMAGE, pace=pace)

    def work(self, *work: Work) -> None:
        for each in work:
            each(self.session, self.rng)

    def waits_for(self, phase: JournalPhase) -> JournalState:
        limit = time.monotonic() + 20
        while self.journal.state.phase is not phase:
            assert time.monotonic() < limit, f"still {self.journal.state}"
            time.sleep(0.005)
        return self.journal.state

    def everything_comes_back(self) -> bool:
        assert self.journal.flush(20)
        session, report = read_journal(self.folder)
        assert not report.damage
        return everything(session) == everything(self.session)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "journal")
    assert desk.journal.flush(20)
    yield desk
    desk.journal.close()


# -- what comes back ------------------------------------------------------------------------------


@given(
    work=st.lists(st.sampled_from(ALL_WORK), max_size=40),
    earlier=st.lists(st.sampled_from(ALL_WORK), max_size=8),
    steps=st.sampled_from([3, 500]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_work_comes_back_with_its_undo_stack(
    tmp_path_factory: pytest.TempPathFactory,
    work: list[Work],
    earlier: list[Work],
    steps: int,
    seed: int,
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    session, rng = new_session(), np.random.default_rng(seed)
    # before the journal was open: its file was still being read
    for each in earlier:
        each(session, rng)
    with open_journal(folder, session, image=IMAGE, pace=replace(QUICK, steps=steps)) as journal:
        for each in work:
            each(session, rng)
        assert journal.flush(20)
        # as another process would find it now
        unclosed, _ = read_journal(folder)
    closed, report = recover(folder)
    assert not report.damage
    expected = everything(session)
    assert everything(unclosed) == expected
    assert everything(closed) == expected
    for again in (unclosed, closed):
        while again.history.undo_name:
            again.undo()
    while session.history.undo_name:
        session.undo()
    assert everything(unclosed) == everything(closed) == everything(session)
    for again in (unclosed, closed, session):
        while again.history.redo_name:
            again.redo()
    assert everything(unclosed) == everything(closed) == everything(session)


def test_step_is_in_the_system_when_the_apply_returns(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "journal", replace(QUICK, wait_s=10.0))
    desk.journal.flush()
    desk.work(draw)
    session, report = read_journal(desk.folder)
    assert report.steps == 1
    assert everything(session) == everything(desk.session)
    desk.journal.close()


def test_recovered_session_goes_on_in_the_same_journal(desk: Desk) -> None:
    desk.work(stroke, draw, draw, undo)
    assert desk.journal.close()
    session, report = recover(desk.folder)
    with open_journal(desk.folder, session, image=IMAGE, recovered=report) as journal:
        assert session.redo() == "draw"
        assert journal.flush()
    again, _ = recover(desk.folder)
    assert everything(again) == everything(session)
    assert not list(desk.folder.glob("earlier-*"))


def test_work_that_nobody_recovered_is_set_aside(desk: Desk) -> None:
    desk.work(draw)
    desk.journal.close()
    other = new_session()
    with open_journal(desk.folder, other, image=IMAGE) as journal:
        assert journal.flush()
    (aside,) = desk.folder.glob("earlier-*")
    session, _ = read_journal(aside)
    assert everything(session) == everything(desk.session)
    assert find_recovery(desk.folder) is None


def test_what_only_a_model_found_is_replaced(tmp_path: Path) -> None:
    session = new_session()
    run_model(session, np.random.default_rng(3))
    for _ in range(3):
        with open_journal(tmp_path, session, image=IMAGE, pace=QUICK) as journal:
            assert journal.flush()
    assert not list(tmp_path.glob("earlier-*"))
    assert len(list(tmp_path.glob("snapshot-*"))) == 1


def test_set_aside_work_is_found_where_it_lies_now_and_goes_with_its_folder(desk: Desk) -> None:
    desk.work(draw)
    desk.journal.close()
    _, report = recover(desk.folder)
    assert place_of(desk.folder, report, is_replaced=False) == desk.folder
    with open_journal(desk.folder, new_session(), image=IMAGE) as journal:
        assert journal.flush()
        place = place_of(desk.folder, report, is_replaced=True)
        assert place in desk.folder.glob("earlier-*")
        discard_recovery(place)
    assert not list(desk.folder.glob("earlier-*"))
    assert place_of(desk.folder, report, is_replaced=True) is None


def test_damaged_work_that_another_journal_has_stays_but_is_answered(desk: Desk) -> None:
    desk.journal.close()
    _, report = recover(desk.folder)
    aside = JournalFolder(path=desk.folder).set_aside()
    assert aside is not None
    retire(aside, replace(report, damage="a line is missing"))
    assert JournalFolder(path=aside).contents() == report.contents
    assert JournalFolder(path=desk.folder).asides() == []
    retire(aside, report)
    assert not aside.exists()


def test_session_goes_on_in_the_journal_that_it_left(desk: Desk) -> None:
    desk.work(draw)
    desk.journal.close()
    report = desk.journal.report()
    with open_journal(desk.folder, desk.session, image=IMAGE, recovered=report) as journal:
        assert journal.flush()
    assert not list(desk.folder.glob("earlier-*"))


def test_work_that_somebody_did_after_the_recovery_is_set_aside(desk: Desk) -> None:
    desk.journal.close()
    session, old_report = recover(desk.folder)
    between, report = recover(desk.folder)
    with open_journal(desk.folder, between, image=IMAGE, recovered=report):
        draw(between, desk.rng)
    with open_journal(desk.folder, session, image=IMAGE, recovered=old_report) as journal:
        assert journal.flush()
    (aside,) = desk.folder.glob("earlier-*")
    assert everything(read_journal(aside)[0]) == everything(between)


def test_summary_counts_what_would_come_back(desk: Desk) -> None:
    index = (0,)
    shown = list(desk.session.visible(index))
    desk.session.take_attributes(index, {shown[0].handle: ("nucleus", "accepted")})
    desk.session.set_regions(index, [((0, 0), (4, 0), (0, 4))], name="complete")
    desk.journal.close()
    summary = find_recovery(desk.folder)
    assert summary is not None
    assert summary.counts == desk.session.count_states()
    assert summary.counts[InstanceState.ACCEPTED] == 1
    assert summary.counts[InstanceState.UNREVIEWED] == len(shown) - 1
    assert (summary.image_name, summary.source) == ("two planes", "/data/two.tif")
    assert summary.complete_planes == 1
    assert abs(summary.last_written.timestamp() - time.time()) < 60
    assert summary.damage == ""


def test_there_is_nothing_to_recover_where_nothing_was_done(tmp_path: Path) -> None:
    assert find_recovery(tmp_path / "never") is None
    assert not (tmp_path / "never").exists()
    with open_journal(tmp_path / "empty", new_session(), image=IMAGE):
        pass
    assert find_recovery(tmp_path / "empty") is None
    with pytest.raises(RecoveryError, match="no snapshot"):
        recover(tmp_path)


def test_saved_work_is_not_offered_until_more_is_done(desk: Desk) -> None:
    desk.work(draw)
    desk.journal.mark_saved()
    desk.journal.flush()
    assert read_journal(desk.folder)[1].is_saved_elsewhere
    desk.journal.close()
    assert find_recovery(desk.folder) is None
    session, report = recover(desk.folder)
    with open_journal(desk.folder, session, image=IMAGE, recovered=report):
        slide(session, desk.rng)
    assert find_recovery(desk.folder) is None
    session, report = recover(desk.folder)
    with open_journal(desk.folder, session, image=IMAGE, recovered=report):
        draw(session, desk.rng)
    assert find_recovery(desk.folder) is not None


def test_discarded_work_is_gone(desk: Desk) -> None:
    desk.work(draw)
    desk.journal.discard()
    assert find_recovery(desk.folder) is None
    second = Desk(desk.folder)
    second.journal.close()
    assert find_recovery(desk.folder) is not None
    discard_recovery(desk.folder)
    assert find_recovery(desk.folder) is None


# -- damaged files --------------------------------------------------------------------------------


def closed_log(desk: Desk, *work: Work) -> Path:
    """Return the log of a journal with some steps that were not yet in a snapshot."""
    desk.work(*work)
    assert desk.journal.flush()
    copy = desk.folder.with_name("copy")
    shutil.copytree(desk.folder, copy)
    return copy / "log-1.jsonl"


def test_torn_last_line_is_left_out(desk: Desk) -> None:
    log = closed_log(desk, draw, draw)
    log.write_bytes(log.read_bytes()[:-20])
    session, report = recover(log.parent)
    assert (report.steps, report.is_torn, report.damage) == (1, True, "")
    desk.session.undo()
    assert everything(session)["instances"] == everything(desk.session)["instances"]


def test_last_line_is_the_last_also_if_the_next_log_lies_ready(desk: Desk) -> None:
    log = closed_log(desk, draw, draw)
    log.write_bytes(log.read_bytes()[:-20])
    following = log.with_name("log-2.jsonl")
    following.write_bytes(b"")
    assert recover(log.parent)[1].is_torn
    following.write_bytes(b"x")
    assert "log-1.jsonl is damaged after step 1" in recover(log.parent)[1].damage


def test_damage_in_the_middle_ends_the_recovery_and_is_told_and_kept(desk: Desk) -> None:
    log = closed_log(desk, draw, draw, draw)
    lines = log.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b'"draw"', b'"drau"')
    log.write_bytes(b"".join(lines))
    session, report = recover(log.parent)
    assert report.steps == 1
    assert report.damage == f"{log.name} is damaged after step 1"
    summary = find_recovery(log.parent)
    assert summary is not None
    assert summary.damage == report.damage
    with open_journal(log.parent, session, image=IMAGE, recovered=report) as journal:
        assert journal.flush()
    (aside,) = log.parent.glob("earlier-*")
    assert (aside / log.name).read_bytes() == b"".join(lines)


def test_missing_line_is_noticed(desk: Desk) -> None:
    log = closed_log(desk, draw, draw, draw)
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(lines[0] + lines[2])
    _, report = recover(log.parent)
    assert report.damage == f"steps 2 to 2 are missing in {log.name}"


def test_damaged_snapshot_is_told(desk: Desk) -> None:
    desk.journal.close()
    (snapshot,) = desk.folder.glob("snapshot-*")
    snapshot.write_bytes(snapshot.read_bytes()[:-30])
    with pytest.raises(RecoveryError, match=r"nothing can be brought back from .* is damaged"):
        recover(desk.folder)


# -- two windows ----------------------------------------------------------------------------------


def test_second_window_of_this_process_is_refused_until_the_first_closes(desk: Desk) -> None:
    with pytest.raises(JournalLockedError, match=r"in this napari since \d\d:\d\d \(20"):
        open_journal(desk.folder, new_session(), image=IMAGE)
    desk.work(draw)
    desk.journal.close()
    desk.journal.close()
    Desk(desk.folder).journal.close()


# -- a disk that does not play along --------------------------------------------------------------


def test_full_disk_is_told_and_nothing_is_lost_once_there_is_space(desk: Desk) -> None:
    resource = pytest.importorskip("resource", reason="only Unix limits the size of files")
    log = desk.folder / "log-1.jsonl"
    desk.work(draw)
    desk.journal.flush()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size + 20, hard))
    try:
        size = log.stat().st_size
        desk.work(draw, draw)
        state = desk.waits_for(JournalPhase.FAILED)
        assert str(desk.folder) in state.message
        assert "the disk is full" in state.message
        assert "free space" in state.message
        assert state.unsaved == 2
        # no torn line stays, in case that the process is killed now
        assert log.stat().st_size == size
        assert not desk.journal.flush(0.1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    desk.waits_for(JournalPhase.SAVED)
    assert desk.everything_comes_back()


def test_memory_stays_flat_while_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path / "journal", replace(QUICK, steps=20, wait_s=0.0))
    desk.work(draw, draw)
    desk.journal.flush()
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", _no_space)
        for _ in range(30):
            desk.work(*[draw] * 10)
            time.sleep(0.02)
        desk.waits_for(JournalPhase.FAILED)
        # 20 steps to a snapshot, which takes the place of what came before at the next try
        limit = time.monotonic() + 20
        while desk.journal.num_in_memory > 60:
            assert time.monotonic() < limit
            time.sleep(0.01)
    desk.waits_for(JournalPhase.SAVED)
    assert desk.everything_comes_back()
    desk.journal.close()


def _no_space(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_folder_that_cannot_be_made_is_told_and_tried_again(tmp_path: Path) -> None:
    blocker = tmp_path / "disk"
    blocker.write_bytes(b"")
    desk = Desk(blocker / "journal")
    desk.work(draw)
    assert "the folder is gone" in desk.waits_for(JournalPhase.FAILED).message
    blocker.unlink()
    desk.waits_for(JournalPhase.SAVED)
    assert desk.everything_comes_back()
    # and it is ours alone from now on
    with pytest.raises(JournalLockedError):
        open_journal(desk.folder, new_session(), image=IMAGE)
    desk.journal.close()


def remove(folder: Path) -> None:
    """Remove a folder at one moment: file by file, the journal would come in between."""
    elsewhere = folder.with_name("removed")
    folder.rename(elsewhere)
    shutil.rmtree(elsewhere)


def test_folder_that_goes_away_is_made_again_with_all_in_it(desk: Desk) -> None:
    desk.work(draw, stroke)
    desk.journal.flush()
    remove(desk.folder)
    desk.work(draw)
    desk.waits_for(JournalPhase.SAVED)
    assert desk.everything_comes_back()
    with pytest.raises(JournalLockedError):
        open_journal(desk.folder, new_session(), image=IMAGE)


def test_folder_that_goes_away_after_a_snapshot_is_made_again_from_it(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "journal", replace(QUICK, steps=5))
    desk.work(*[draw] * 12)
    desk.journal.flush()
    remove(desk.folder)
    desk.work(draw)
    desk.waits_for(JournalPhase.SAVED)
    assert desk.everything_comes_back()
    desk.journal.close()


def test_folder_that_goes_away_while_nobody_works_is_made_again(desk: Desk) -> None:
    desk.work(draw)
    desk.journal.flush()
    remove(desk.folder)
    limit = time.monotonic() + 20
    while not list(desk.folder.glob("log-*")):
        assert time.monotonic() < limit
        time.sleep(0.01)
    assert desk.everything_comes_back()


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_all_is_written_anew_after_an_fsync_that_failed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    states: list[JournalState] = []
    desk.journal.state_changed.connect(states.append)
    real, failures = os.fsync, [OSError(number, "what the system says")]

    def fail_once(descriptor: int) -> None:
        if failures:
            raise failures.pop()
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fail_once)
    desk.work(draw)
    assert desk.everything_comes_back()
    reason = "what the system says" if number == errno.EIO else "the disk is full"
    assert reason in next(s for s in states if s.message).message
    # what it stood for is in another generation
    assert JournalFolder(path=desk.folder).generations("snapshot")[-1] > 1


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.EROFS, "Read-only file system"), "the folder is read-only"),
        (PermissionError(errno.EACCES, "Permission denied"), "you may not write there"),
        (OSError(errno.EDQUOT, "Quota exceeded"), "the disk is full"),
        (ValueError("a bug"), "a bug"),
    ],
)
def test_each_trouble_is_named_and_stays_until_it_is_over(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise error

    with monkeypatch.context() as patch:
        for name in ("write", "fsync", "replace"):
            patch.setattr(os, name, fail)
        desk.work(draw)
        for _ in range(20):
            state = desk.waits_for(JournalPhase.FAILED)
            assert reason in state.message
            assert "kept in memory" in state.message
            time.sleep(0.01)
    desk.waits_for(JournalPhase.SAVED)
    assert desk.everything_comes_back()


def test_snapshot_that_finds_no_space_is_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path / "journal", replace(QUICK, steps=5))
    desk.journal.flush()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", _no_space)
        desk.work(*[draw] * 12)
        assert "the disk is full" in desk.waits_for(JournalPhase.FAILED).message
        # the logs are good all the same, a moment later
        pause = threading.Event()
        for _ in range(200):
            if everything(read_journal(desk.folder)[0]) == everything(desk.session):
                break
            pause.wait(0.05)
        else:
            pytest.fail("the logs do not hold what was done")
    desk.waits_for(JournalPhase.SAVED)
    assert desk.everything_comes_back()
    desk.journal.close()


def test_disk_that_does_not_answer_holds_up_neither_the_work_nor_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path / "journal")
    desk.journal.flush()
    answers, real = threading.Event(), os.write

    def slow(descriptor: int, data: bytes) -> int:
        answers.wait(60)
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", slow)
    began = time.monotonic()
    desk.work(draw, draw)
    assert time.monotonic() - began < 5
    assert not desk.journal.close(timeout_s=0.2)
    assert time.monotonic() - began < 10
    answers.set()
    desk.waits_for(JournalPhase.CLOSED)
    assert everything(recover(desk.folder)[0]) == everything(desk.session)


def test_close_on_a_full_disk_ends_in_time_and_says_so(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything(desk.session)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", _no_space)
        patch.setattr(Path, "replace", _no_space)
        desk.work(draw)
        began = time.monotonic()
        assert not desk.journal.close(timeout_s=0.3)
        assert time.monotonic() - began < 10
    state = desk.waits_for(JournalPhase.CLOSED)
    assert (state.unsaved, "the disk is full" in state.message) == (1, True)
    assert everything(recover(desk.folder)[0]) == before


# -- a long day -----------------------------------------------------------------------------------


def test_memory_and_folder_stay_small_over_five_thousand_steps(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "journal", replace(QUICK, sync_s=0.05, wait_s=0.0))
    most_in_memory = most_bytes = 0
    for number in range(5000):
        desk.work(review if number % 3 else stroke)
        if number % 100 == 0:
            assert desk.journal.flush(20)
            most_in_memory = max(most_in_memory, desk.journal.num_in_memory)
            most_bytes = max(most_bytes, _bytes_in(desk.folder))
    assert most_in_memory <= 1000
    # three logs of 500 steps and three snapshots with 2,000 steps of history
    assert most_bytes < 4_500_000
    assert desk.journal.close(30)
    # the one before as well, should the newest be damaged
    assert len(list(desk.folder.glob("snapshot-*"))) == 2
    assert everything(recover(desk.folder)[0]) == everything(desk.session)


def _bytes_in(folder: Path) -> int:
    sizes = []
    for path in folder.iterdir():
        try:
            sizes.append(path.stat().st_size)
        except FileNotFoundError:
            continue
    return sum(sizes)


def test_long_log_gives_way_to_a_snapshot(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "journal", replace(QUICK, log_bytes=2000))
    desk.work(*[draw] * 30)
    limit = time.monotonic() + 20
    while list(desk.folder.glob("snapshot-1.*")):
        assert time.monotonic() < limit
        desk.work(draw)
    assert desk.everything_comes_back()
    desk.journal.close()


def test_journal_hears_of_steps_before_listeners_that_make_more_of_them(tmp_path: Path) -> None:
    session, rng = new_session(), np.random.default_rng(1)
    run_model(session, rng)

    def answer(_: object) -> None:
        session.set_visibility(score=0.0, min_area=1)
        if len(session.history) < 6:
            draw(session, rng)

    session.changed.connect(answer)
    with open_journal(tmp_path / "journal", session, image=IMAGE, pace=QUICK):
        run_model(session, rng)
    assert everything(recover(tmp_path / "journal")[0]) == everything(session)


def test_closed_journal_no_longer_listens(desk: Desk) -> None:
    desk.journal.close()
    before = everything(desk.session)
    desk.work(draw, slide, redo)
    assert everything(recover(desk.folder)[0]) == before


@given(
    work=st.lists(st.sampled_from((*ALL_WORK, undo, undo, redo)), min_size=10, max_size=60),
    seed=st.integers(0, 2**32 - 1),
)
def test_undo_beyond_the_steps_that_a_snapshot_keeps_comes_back(
    tmp_path_factory: pytest.TempPathFactory, work: list[Work], seed: int
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    session, rng = new_session(), np.random.default_rng(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_deeppixel.edits.snapshot_file._MAX_PAST_INSTANCES", 2)
        pace = replace(QUICK, steps=4)
        with open_journal(folder, session, image=IMAGE, pace=pace) as journal:
            for each in work:
                each(session, rng)
            assert journal.flush(20)
            again, report = read_journal(folder)
    assert not report.damage
    assert _visible(again) == _visible(session)
    # what it still knows can be taken back, and is the same
    while again.history.undo_name:
        assert again.undo() == session.undo()
    assert _visible(again) == _visible(session)


def _visible(session: AnnotationSession) -> dict[PlaneIndex, set[tuple[object, ...]]]:
    """Return what is shown on each plane; instances that came back late lie at other places."""
    return {
        index: {(i.uuid, i.state, i.mask.box_xyxy, i.mask.pixels.tobytes()) for i in shown}
        for index in session.plane_indices
        if (shown := list(session.visible(index)))
    }


def test_whole_session_as_a_value_gives_an_equal_session() -> None:
    session, rng = new_session(), np.random.default_rng(5)
    for work in ALL_WORK * 10:
        work(session, rng)
        assert everything(SavedSession.of(session).restored()) == everything(session)
