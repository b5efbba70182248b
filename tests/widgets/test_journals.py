"""Journals in the window: earlier work, a second window, and a disk that fails."""

import os
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtWidgets import QMessageBox
from tests.edits.compare import assert_same_snapshot
from tests.widgets.review_window import ReviewWindow, squares, use_engine

from napari_deeppixel.core.image import ImageArray
from napari_deeppixel.edits.recovery import RecoverySummary, find_recovery
from napari_deeppixel.edits.session import SessionSnapshot
from napari_deeppixel.widgets.earlier_work import Looked, look

QUESTION = "napari_deeppixel.widgets.journal_bar.QMessageBox.question"


@pytest.fixture(autouse=True)
def _engine(monkeypatch: pytest.MonkeyPatch) -> None:
    use_engine(monkeypatch)


def opened(qtbot: Any, name: str = "im") -> ReviewWindow:
    """Return a new window with the squares, as after a start of the program."""
    window = ReviewWindow(qtbot)
    window.add(squares(), name)
    return window


class Disk:
    """What is on the disk; after a crash, the program that crashed writes there no more."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder, self._monkeypatch = folder, monkeypatch
        self._crashes = 0

    @property
    def root(self) -> Path:
        return self._folder / f"journal-{self._crashes}"

    def begin(self) -> None:
        self._monkeypatch.setenv("NAPARI_DEEPPIXEL_JOURNAL", str(self.root))

    def crash(self, *windows: ReviewWindow) -> None:
        """Let the next start find what these windows have written so far."""
        for window in windows:
            for work in window.journals._works.values():
                assert work.journal is None or work.journal.flush()
        before = self.root
        self._crashes += 1
        shutil.copytree(before, self.root)
        self.begin()


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk(tmp_path, monkeypatch)
    disk.begin()
    return disk


def edited(qtbot: Any, disk: Disk) -> SessionSnapshot:
    """Accept one, draw one and mark a region complete; then the program dies."""
    window = opened(qtbot)
    window.run()
    window.tools.select([window.ref("a")])
    window.key("G")
    window.stroke((30, 30), (30, 40), number=60)
    window.press("complete-plane")
    window.settle()
    snapshot = window.session.snapshot()
    disk.crash(window)
    return snapshot


def notice(window: ReviewWindow) -> str:
    return str(window.find("journal.notice").text())


def alarm(window: ReviewWindow) -> str:
    return str(window.find("journal.alarm").text())


def shown(window: ReviewWindow) -> list[str]:
    names = ("bring_back", "discard", "edit_here")
    return [name for name in names if window.find(f"journal.{name}").isVisible()]


# -- earlier work ---------------------------------------------------------------------------------


def test_nothing_is_said_while_all_is_well(qtbot: Any) -> None:
    window = opened(qtbot)
    assert not window.review.bar.isVisible()
    window.run()
    assert not window.review.bar.isVisible()
    state = window.journals.state(window.view.image)
    assert state is not None
    assert state.phase.value in ("saved", "writing")


def test_earlier_work_is_offered_with_its_counts_and_comes_back_whole(
    qtbot: Any, disk: Disk
) -> None:
    before = edited(qtbot, disk)
    window = opened(qtbot, "the same pixels under another name")
    assert "4 instances (2 unreviewed, 1 accepted, 1 drawn)" in notice(window)
    assert shown(window) == ["bring_back", "discard"]
    window.find("journal.bring_back").click()
    window.settle()
    assert_same_snapshot(window.session.snapshot(), before)
    assert not window.review.bar.isVisible()
    name = window.view.image.name
    labels = window.labels(name)
    assert window.viewer.layers.selection.active == labels
    assert (labels.data > 0).sum() == sum(i.area for i in window.session.visible(()))
    # the undo stack came back, too, and the journal goes on
    assert window.view.undo() == "mark a plane complete"
    assert window.view.undo() == "paint a new instance"
    disk.crash(window)
    again = opened(qtbot)
    assert "3 instances (2 unreviewed, 1 accepted)" in notice(again)


def test_the_offer_stands_above_all_tabs(qtbot: Any, disk: Disk) -> None:
    edited(qtbot, disk)
    window = opened(qtbot)
    assert window.dock.tabs.currentWidget() is window.detect
    assert window.find("journal.bring_back").isVisible()


def test_a_run_waits_until_the_person_has_decided_about_their_earlier_work(
    qtbot: Any, disk: Disk
) -> None:
    edited(qtbot, disk)
    window = opened(qtbot)
    window.find("detect.run").click()
    assert not window.detect.run.is_running
    assert "Bring back or Discard" in window.find("detect.status").text()
    window.find("review.by_hand").click()
    assert "Bring back or Discard" in window.status
    window.find("journal.bring_back").click()
    window.run()
    assert window.states() == {"unreviewed": 2, "accepted": 1, "drawn": 1}


def test_what_only_a_model_found_holds_no_run_up(qtbot: Any, disk: Disk) -> None:
    window = opened(qtbot)
    window.run()
    window.settle()
    disk.crash(window)
    again = opened(qtbot)
    assert "3 instances (3 unreviewed)" in notice(again)
    again.run()
    assert again.states() == {"unreviewed": 3}
    again.wait(lambda: not again.review.bar.isVisible())


def test_discarding_asks_first(qtbot: Any, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    edited(qtbot, disk)
    window = opened(qtbot)
    asked: list[str] = []
    buttons = QMessageBox.StandardButton

    def answer(button: Any) -> None:
        monkeypatch.setattr(QUESTION, lambda *args: (asked.append(args[2]), button)[1])

    answer(buttons.Cancel)
    window.find("journal.discard").click()
    assert "4 instances" in asked[0]
    assert shown(window) == ["bring_back", "discard"]
    answer(buttons.Discard)
    window.find("journal.discard").click()
    assert not window.review.bar.isVisible()
    window.run()
    assert window.states() == {"unreviewed": 3}
    disk.crash(window)
    assert "unreviewed" in notice(opened(qtbot))


def test_earlier_work_joins_what_was_begun_meanwhile_as_one_step(qtbot: Any, disk: Disk) -> None:
    edited(qtbot, disk)
    window = opened(qtbot)
    image = window.viewer.layers["im"]
    # a run that was quicker than the look into the journal
    work = window.journals._works[image]
    looked, work.looked = work.looked, None
    window.run()
    work.looked = looked
    window.journals._on_poll()
    window.wait(lambda: shown(window) == ["bring_back", "discard"])
    window.find("journal.bring_back").click()
    window.settle()
    assert window.states() == {"unreviewed": 2, "accepted": 1, "drawn": 1}
    assert len(window.session.regions(())) == 1
    window.press("undo")
    window.settle()
    assert window.states() == {"unreviewed": 3}
    assert window.session.regions(()) == ()


def ignored(qtbot: Any, disk: Disk) -> tuple[SessionSnapshot, ReviewWindow]:
    """Run before the look has found a person's work, and work on; return that work and window."""
    before = edited(qtbot, disk)
    window = opened(qtbot)
    work = window.journals._works[window.viewer.layers["im"]]
    looked, work.looked = work.looked, None
    window.run()
    work.looked = looked
    window.journals._on_poll()
    window.wait(lambda: shown(window) == ["bring_back", "discard"])
    return before, window


def asides(disk: Disk) -> list[Path]:
    return list(disk.root.glob("*/earlier-*"))


def test_a_run_waits_for_the_look_but_not_for_long(
    qtbot: Any, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    edited(qtbot, disk)
    go_on = threading.Event()

    def slow(image: ImageArray) -> Looked:
        go_on.wait(20)
        return look(image)

    monkeypatch.setattr("napari_deeppixel.widgets.journals.look", slow)
    window = ReviewWindow(qtbot)
    image = window.viewer.add_image(squares(), name="im")
    window.find("detect.run").click()
    assert not window.detect.run.is_running
    assert "Looking for earlier work on 'im'" in window.find("detect.status").text()
    window.journals._works[image].look_began -= 5
    assert window.journals.refusal(image) == ""
    go_on.set()
    window.wait(lambda: "Bring back or Discard" in window.journals.refusal(image))


def test_a_run_right_after_the_image_came_finds_the_earlier_work(qtbot: Any, disk: Disk) -> None:
    edited(qtbot, disk)
    window = ReviewWindow(qtbot)
    window.viewer.add_image(squares(), name="im")
    window.find("detect.run").click()
    assert not window.detect.run.is_running
    assert "Bring back or Discard" in window.find("detect.status").text()


def test_a_look_that_fails_holds_no_run_up_and_is_told(
    qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: ImageArray) -> Looked:
        raise RuntimeError("the pixels went")

    monkeypatch.setattr("napari_deeppixel.widgets.journals.look", broken)
    window = ReviewWindow(qtbot)
    image = window.viewer.add_image(squares(), name="im")
    window.wait(lambda: "not kept in a journal: the pixels went" in notice(window))
    assert window.journals.refusal(image) == ""


def test_work_that_was_not_answered_is_offered_at_the_next_start_until_it_is_back(
    qtbot: Any, disk: Disk
) -> None:
    before, window = ignored(qtbot, disk)
    disk.crash(window)
    assert len(asides(disk)) == 1
    again = opened(qtbot)
    assert "4 instances (2 unreviewed, 1 accepted, 1 drawn)" in notice(again)
    again.find("detect.run").click()
    assert "Bring back or Discard" in again.find("detect.status").text()
    again.find("journal.bring_back").click()
    again.settle()
    assert_same_snapshot(again.session.snapshot(), before)
    assert not again.review.bar.isVisible()
    assert asides(disk) == []
    disk.crash(again)
    last = opened(qtbot)
    last.find("journal.bring_back").click()
    assert not last.review.bar.isVisible()
    # nobody holds the dock afterwards: Python may take it away in the middle of a drawing step
    last.settle()


def test_discarding_beside_an_open_session_deletes_what_was_offered(
    qtbot: Any, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, window = ignored(qtbot, disk)
    discard = QMessageBox.StandardButton.Discard
    monkeypatch.setattr(QUESTION, lambda *_: discard)
    window.find("journal.discard").click()
    assert not window.review.bar.isVisible()
    assert asides(disk) == []
    disk.crash(window)
    assert "3 instances (3 unreviewed)" in notice(opened(qtbot))


def test_bringing_back_beside_an_open_session_leaves_nothing_to_ask_about(
    qtbot: Any, disk: Disk
) -> None:
    _, window = ignored(qtbot, disk)
    window.find("journal.bring_back").click()
    window.settle()
    assert asides(disk) == []


def test_work_that_cannot_be_deleted_is_told(
    qtbot: Any, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    edited(qtbot, disk)
    window = opened(qtbot)
    discard = QMessageBox.StandardButton.Discard
    monkeypatch.setattr(QUESTION, lambda *_: discard)
    (snapshot,) = disk.root.glob("*/snapshot-*")
    os.utime(snapshot, (4e9, 4e9))  # somebody wrote to it meanwhile
    window.find("journal.discard").click()
    assert "could not be deleted" in notice(window)
    assert snapshot.exists()


def test_an_image_that_comes_back_goes_on_in_its_own_journal(qtbot: Any, disk: Disk) -> None:
    window = opened(qtbot)
    window.run()
    window.tools.select([window.ref("a")])
    window.key("G")
    image = window.view.image
    window.viewer.layers.remove(image)
    window.viewer.layers.append(image)
    window.journals._on_poll()
    work = window.journals._works[image]
    if work.journal is not None:
        assert work.journal.flush()
    assert asides(disk) == []


def test_a_folder_that_cannot_be_read_hides_no_other(
    qtbot: Any, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    edited(qtbot, disk)
    (main,) = disk.root.iterdir()
    shutil.copytree(main, main.with_name(f"{main.name}-12345678"))
    real = find_recovery

    def broken(folder: Path) -> RecoverySummary | None:
        if folder.name.endswith("-12345678"):
            raise PermissionError("not yours")
        return real(folder)

    monkeypatch.setattr("napari_deeppixel.widgets.earlier_work.find_recovery", broken)
    assert "4 instances" in notice(opened(qtbot))


# -- two windows ----------------------------------------------------------------------------------


def test_the_second_window_is_told_and_may_edit_only_when_asked_to(qtbot: Any) -> None:
    first = opened(qtbot)
    first.run()
    second = opened(qtbot)
    assert "being edited in this napari since" in notice(second)
    assert shown(second) == ["edit_here"]
    second.find("detect.run").click()
    assert not second.detect.run.is_running
    assert "being edited" in second.find("detect.status").text()
    second.find("review.by_hand").click()
    assert second.review.view is None

    second.find("journal.edit_here").click()
    second.wait(lambda: not second.review.bar.isVisible())
    second.run()
    second.tools.select([second.ref("a")])
    second.key("J")
    assert second.states() == {"unreviewed": 2, "rejected": 1}
    assert first.states() == {"unreviewed": 3}
    folders = {
        window.viewer.layers["im"].metadata["napari_deeppixel_journal"].journal.folder
        for window in (first, second)
    }
    assert len(folders) == 2


def test_a_second_layer_with_the_same_pixels_names_the_first(qtbot: Any) -> None:
    window = opened(qtbot)
    window.run()
    window.add(squares(), "copy")
    window.find("detect.image").setCurrentText("copy")
    image = window.viewer.layers["copy"]
    assert "as the layer 'im' in this window" in window.journals.refusal(image)


def test_what_the_second_window_wrote_is_offered_as_well(qtbot: Any, disk: Disk) -> None:
    first = opened(qtbot)
    first.run()
    first.tools.select([first.ref("a")])
    first.key("G")
    second = opened(qtbot)
    second.find("journal.edit_here").click()
    second.wait(lambda: not second.review.bar.isVisible())
    second.run()
    second.stroke((30, 30), (30, 40), number=60)
    disk.crash(first, second)
    again = opened(qtbot)
    assert "1 accepted" in notice(again)
    again.find("journal.bring_back").click()
    again.settle()
    assert "1 drawn" in notice(again)
    again.find("journal.bring_back").click()
    again.settle()
    assert again.states() == {"unreviewed": 2, "accepted": 1, "drawn": 1}
    disk.crash(again)
    last = opened(qtbot)
    assert "4 instances (2 unreviewed, 1 accepted, 1 drawn)" in notice(last)
    last.find("journal.bring_back").click()
    assert not last.review.bar.isVisible()
    # as above
    last.settle()


def test_edit_here_takes_the_journal_over_when_the_other_window_has_closed(qtbot: Any) -> None:
    first = opened(qtbot)
    first.run()
    first.tools.select([first.ref("a")])
    first.key("G")
    second = opened(qtbot)
    first.viewer.layers.remove(first.view.image)
    second.find("journal.edit_here").click()
    second.wait(lambda: shown(second) == ["bring_back", "discard"])
    assert "1 accepted" in notice(second)


# -- a disk that fails ----------------------------------------------------------------------------


def test_a_failing_disk_is_told_in_red_until_it_is_mended_and_work_goes_on(
    qtbot: Any, disk: Disk
) -> None:
    disk.root.write_text("a file where the folder should be")
    window = opened(qtbot)
    window.run()
    window.wait(lambda: "NOT SAVED" in alarm(window))
    assert "Please" in alarm(window)
    window.tools.select([window.ref("a")])
    window.key("G")
    window.stroke((30, 30), (30, 40), number=60)
    window.settle()
    assert window.states() == {"unreviewed": 2, "accepted": 1, "drawn": 1}
    assert "NOT SAVED" in alarm(window)
    disk.root.unlink()
    window.wait(lambda: not window.review.bar.isVisible())
    disk.crash(window)
    assert "1 accepted, 1 drawn" in notice(opened(qtbot))


@pytest.mark.skipif(os.name == "nt", reason="Windows lets nobody move a folder that is in use")
def test_a_folder_that_goes_away_is_told_and_made_again(qtbot: Any, disk: Disk) -> None:
    window = opened(qtbot)
    window.run()
    image = window.view.image
    window.wait(lambda: window.journals.state(image).phase.value == "saved")
    disk.root.rename(disk.root.with_name("away"))
    disk.root.write_text("in the way")
    window.tools.select([window.ref("a")])
    window.key("G")
    window.wait(lambda: "NOT SAVED" in alarm(window))
    disk.root.unlink()
    window.wait(lambda: not window.review.bar.isVisible())
    disk.crash(window)
    assert "1 accepted" in notice(opened(qtbot))


def test_an_image_that_leaves_closes_its_journal(qtbot: Any) -> None:
    window = opened(qtbot)
    window.run()
    image = window.view.image
    window.viewer.layers.remove(image)
    assert window.journals.state(image) is None
    other = opened(qtbot)
    assert "being edited" not in notice(other)


def test_other_pixels_have_a_journal_of_their_own(qtbot: Any, disk: Disk) -> None:
    edited(qtbot, disk)
    window = ReviewWindow(qtbot)
    window.add(np.ascontiguousarray(squares()[::-1]))
    assert not window.review.bar.isVisible()
