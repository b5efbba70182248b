"""Changes gathered before they are an action: later ones see the earlier."""

from dataclasses import replace

from tests.edits.tiny import got, rect, session_of

from napari_deeppixel.core.instance import InstanceState
from napari_deeppixel.edits.diff import OverlapRule
from napari_deeppixel.edits.draft import Draft

TAKE, KEEP = OverlapRule.TAKE, OverlapRule.KEEP


def test_pixels_that_an_earlier_change_set_free_can_be_had() -> None:
    session = session_of({(): [rect(0, 0, 1, 4), rect(0, 4, 1, 2)]})
    draft = Draft(session)
    draft.put((), replace(got(session, "a"), mask=rect(0, 0, 1, 2)))
    wider = replace(got(session, "b"), mask=rect(0, 1, 1, 5))
    assert draft.reshape((), wider, rule=KEEP)
    after = draft.get((), "b")
    assert after is not None
    assert after.mask.equals(rect(0, 2, 1, 4))
    assert got(session, "b").mask.equals(rect(0, 4, 1, 2))  # the session is as it was


def test_instance_that_an_earlier_change_took_whole_keeps_nothing() -> None:
    session = session_of({(): [rect(0, 0, 1, 2), rect(0, 2, 1, 1), rect(3, 3, 1, 1)]})
    draft = Draft(session)
    taker = replace(got(session, "a"), mask=rect(0, 0, 1, 3))
    assert draft.reshape((), taker, rule=TAKE)
    lost = draft.get((), "b")
    assert lost is not None
    assert lost.state is InstanceState.REJECTED
    draft.put((), replace(got(session, "a"), mask=rect(0, 0, 1, 2)))
    assert draft.reshape((), replace(got(session, "c"), mask=rect(0, 2, 1, 2)), rule=KEEP)
    after = draft.get((), "c")
    assert after is not None
    assert after.mask.equals(rect(0, 2, 1, 2))


def test_what_comes_and_goes_in_one_draft_is_no_wall_and_an_untouched_draft_no_action() -> None:
    session = session_of({(): [rect(0, 0, 1, 2)]})
    draft = Draft(session)
    assert not draft.action("nothing")
    draft.put((), got(session, "a"))
    draft.remove((), "a")
    draft.remove((), "a")
    assert draft.get((), "a") is None
    draft.put((), got(session, "a"))
    action = draft.action("nothing")
    assert not action
    assert action.name == "nothing"
