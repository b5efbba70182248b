import threading
from typing import Any

import pytest
from tests.live.scripted import FILE, ScriptedSource, image, wait_for

from napari_deeppixel.live.grab import Grabber
from napari_deeppixel.live.source import Frame, SourceError, SourceFault, StreamInfo
from napari_deeppixel.live.status import LiveState

QUICK = (0.001,)
LOST = SourceError("the camera is unplugged: plug it in", fault=SourceFault.LOST)


def grab(source: ScriptedSource, **settings: Any) -> tuple[Grabber, list[Frame]]:
    frames: list[Frame] = []
    grabber = Grabber(source, frames.append, retry_pauses_s=QUICK, **settings)
    grabber.start()
    return grabber, frames


def test_a_file_ends_after_its_last_frame() -> None:
    grabber, frames = grab(ScriptedSource([image(1), image(2)], info=FILE))
    assert grabber.join(5)
    assert [int(frame.pixels[0, 0]) for frame in frames] == [1, 2]
    assert grabber.status.state is LiveState.ENDED


@pytest.mark.parametrize("fault", [SourceFault.MISSING, SourceFault.BUSY, SourceFault.TIMEOUT])
def test_a_source_that_never_opened_has_failed_with_its_reason(fault: SourceFault) -> None:
    source = ScriptedSource([SourceError("no camera 3: choose another", fault=fault)])
    grabber, _ = grab(source)
    assert grabber.join(5)
    assert grabber.status.state is LiveState.FAILED
    assert grabber.status.message == "no camera 3: choose another"
    assert source.num_opened == 1


def test_a_source_that_was_live_is_opened_again_and_its_frames_are_of_another_stream() -> None:
    hold = threading.Event()
    source = ScriptedSource([image(1), LOST], [LOST], [LOST], [image(2), hold])
    grabber, frames = grab(source)
    wait_for(lambda: len(frames) == 2)
    assert [frame.stream for frame in frames] == [1, 4]
    assert grabber.status.state is LiveState.LIVE
    hold.set()
    grabber.stop()
    assert grabber.join(5)


def test_while_it_is_tried_again_the_state_says_why_and_how_often() -> None:
    source = ScriptedSource([image(), LOST], [LOST])
    frames: list[Frame] = []
    grabber = Grabber(source, frames.append, retry_pauses_s=(0.001, 0.001, 60))
    grabber.start()
    wait_for(lambda: grabber.status.attempt == 3)
    assert grabber.status.state is LiveState.RECONNECTING
    assert grabber.status.message == "the camera is unplugged: plug it in"
    grabber.stop()
    assert grabber.join(1)
    assert grabber.status.state is LiveState.STOPPED


def test_a_live_source_that_just_ends_is_lost() -> None:
    source = ScriptedSource([image()])
    grabber, frames = grab(source)
    wait_for(lambda: len(frames) >= 3)
    grabber.stop()
    assert grabber.join(5)
    assert source.num_opened >= 3


def test_a_camera_that_is_forbidden_is_not_tried_again() -> None:
    denied = SourceError("not allowed: ask for the group video", fault=SourceFault.DENIED)
    grabber, _ = grab(ScriptedSource([image(), LOST], [denied]))
    assert grabber.join(5)
    assert grabber.status.state is LiveState.FAILED
    assert grabber.status.message == "not allowed: ask for the group video"


def test_an_error_that_no_source_should_raise_ends_it_and_is_kept() -> None:
    grabber, _ = grab(ScriptedSource([image(), ZeroDivisionError("oops")]))
    assert grabber.join(5)
    assert grabber.status.state is LiveState.FAILED
    assert grabber.status.message == "test camera: ZeroDivisionError: oops"
    assert isinstance(grabber.error, ZeroDivisionError)


def test_every_opening_is_closed_in_the_thread_that_reads() -> None:
    source = ScriptedSource([image(), LOST], [LOST], [image(), LOST])
    grabber, frames = grab(source)
    wait_for(lambda: len(frames) >= 3)
    grabber.stop()
    assert grabber.join(5)
    assert source.num_closed == source.num_opened
    assert len(source.threads) == 1
    assert threading.get_ident() not in source.threads


def test_a_source_that_gives_nothing_can_be_stopped() -> None:
    grabber, frames = grab(ScriptedSource([image(), threading.Event()]))
    wait_for(lambda: len(frames) == 1)
    grabber.stop()
    assert grabber.join(1)
    assert grabber.status.state is LiveState.STOPPED


def test_a_silent_source_is_stalled_until_a_frame_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, hold = threading.Event(), threading.Event()
    grabber, frames = grab(ScriptedSource([image(), go_on, image(), hold]))
    wait_for(lambda: len(frames) == 1)
    with monkeypatch.context() as patch:
        patch.setattr("time.monotonic", lambda now=frames[0].grabbed_s: now + 3.2)
        assert grabber.status.state is LiveState.STALLED
        assert grabber.status.message == "no frame for 3 s"
    go_on.set()
    wait_for(lambda: len(frames) == 2)
    assert grabber.status.state is LiveState.LIVE
    grabber.stop()
    assert grabber.join(1)


def test_a_stop_while_it_is_opened_ends_it_before_its_first_frame() -> None:
    frames: list[Frame] = []

    class ForgetfulSource(ScriptedSource):
        """Forgets at each opening that it was interrupted, as one that can be used again does."""

        def open(self) -> StreamInfo:
            info = super().open()
            grabber.stop()
            self._interrupted.clear()
            return info

    grabber = Grabber(ForgetfulSource([threading.Event(), image()]), frames.append)
    grabber.start()
    assert grabber.join(1)
    assert (grabber.status.state, frames) == (LiveState.STOPPED, [])
