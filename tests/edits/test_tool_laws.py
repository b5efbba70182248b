"""What holds for every tool on any instances: undo and redo are exact, others keep their masks."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.strategies import masks_in
from tests.edits.compare import assert_same_snapshot
from tests.edits.tiny import HW, TABLE

from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.edits import planes_tools, region_tools, reshape_tools, tools
from napari_deeppixel.edits.action import Action
from napari_deeppixel.edits.diff import OverlapRule
from napari_deeppixel.edits.draft import EditError, InstanceRef
from napari_deeppixel.edits.session import AnnotationSession

Tool: TypeAlias = Callable[[AnnotationSession, list[InstanceRef], OverlapRule], Action]

PLANES = [(0,), (2,)]
points = st.tuples(
    st.integers(-2, 16).map(lambda n: n / 2), st.integers(-2, 18).map(lambda n: n / 2)
)


@st.composite
def sessions(draw: st.DrawFn) -> AnnotationSession:
    """Draw a session on two planes with overlaps, all states and hidden candidates."""
    session = AnnotationSession(HW, TABLE)
    session.set_visibility(score=0.5, min_area=1)
    states = st.sampled_from(InstanceState)
    for index in PLANES:
        masks = draw(st.lists(masks_in(HW), max_size=4))
        scores = st.sampled_from([0.2, 0.6, 0.9, np.nan])
        found = InstanceSet(
            image_hw=HW,
            masks=tuple(masks),
            categories=TABLE,
            scores=np.array([draw(scores) for _ in masks]),
            states=tuple(draw(states) for _ in masks),
            sources=tuple(draw(st.sampled_from(["model", "person"])) for _ in masks),
        )
        session.add(index, found, name="open")
    return session


@st.composite
def tools_to_use(draw: st.DrawFn) -> Tool:
    """Draw a tool with its settings."""
    line = draw(st.lists(points, min_size=3, max_size=5))
    mask = draw(masks_in(HW))
    radius_px = draw(st.sampled_from([0.0, 1.0, 2.0]))
    index = draw(st.sampled_from(PLANES))
    state = draw(st.sampled_from(list(tools._STATE_NAMES)))
    options: list[Tool] = [
        lambda s, refs, _: tools.with_state(s, refs, state),
        lambda s, refs, _: tools.with_category(s, refs, 2),
        lambda s, refs, _: tools.deleted(s, refs),
        lambda s, _, __: tools.deleted_in(s, index, line),
        lambda s, refs, _: _all(s, refs, tools.promoted),
        lambda s, refs, _: reshape_tools.united(s, refs),
        lambda s, refs, _: reshape_tools.split_along(s, refs, line, index=index),
        lambda s, refs, _: _all(
            s, refs, lambda s, at, uuid: reshape_tools.split_at(s, (at, uuid), line)
        ),
        lambda s, refs, rule: reshape_tools.filled(s, refs, rule=rule),
        lambda s, refs, _: reshape_tools.without_specks(s, refs),
        lambda s, refs, rule: reshape_tools.smoothed(s, refs, rule=rule, radius_px=radius_px),
        lambda s, refs, rule: reshape_tools.grown(s, refs, rule=rule, radius_px=radius_px),
        lambda s, refs, _: reshape_tools.shrunk(s, refs, radius_px=radius_px),
        lambda s, _, rule: reshape_tools.drawn(s, index, mask, category_id=2, rule=rule),
        lambda s, refs, rule: _all(
            s,
            refs,
            lambda s, at, uuid: reshape_tools.with_mask(s, at, uuid, mask=mask, rule=rule),
        ),
        lambda s, refs, rule: reshape_tools.lasso(
            s, index, line, category_id=1, rule=rule, ref=refs[0] if refs else None
        ),
        lambda s, refs, rule: planes_tools.copied_to(s, refs, index, rule=rule),
        _interpolated,
        lambda s, _, __: region_tools.region_completed(s, index, line),
        lambda s, _, __: region_tools.plane_completed(s, index),
    ]
    return draw(st.sampled_from(options))


def _all(
    session: AnnotationSession,
    refs: list[InstanceRef],
    tool: Callable[[AnnotationSession, tuple[int, ...], str], Action],
) -> Action:
    """Use a tool for a single instance on the first of a selection."""
    return tool(session, *refs[0]) if refs else Action(name="nothing")


def _interpolated(session: AnnotationSession, refs: list[InstanceRef], rule: OverlapRule) -> Action:
    ends = {index: (index, uuid) for index, uuid in refs if session.is_visible(index, uuid)}
    if len(ends) < 2:
        return Action(name="nothing")
    try:
        return planes_tools.interpolated(session, *ends.values(), rule=rule)
    except EditError:
        # scattered pixels may leave nothing between them, which is refused
        return Action(name="nothing")


def _masks(session: AnnotationSession) -> dict[InstanceRef, CroppedMask]:
    snapshot = session.snapshot()
    return {(at, i.uuid): i.mask for at, found in snapshot.instances.items() for i in found}


# twenty tools to draw from
@settings(max_examples=100)
@given(sessions(), tools_to_use(), st.sampled_from(OverlapRule), st.data())
def test_every_tool_is_undone_and_redone_exactly_and_handles_stay_unique(
    session: AnnotationSession, tool: Tool, rule: OverlapRule, data: st.DataObject
) -> None:
    refs = data.draw(st.lists(st.sampled_from([*_masks(session), ((0,), "gone")]), unique=True))
    before = session.snapshot()
    action = tool(session, refs, rule)
    assert action.name
    assert_same_snapshot(session.snapshot(), before)
    assert session.apply(action) is bool(action)
    after = session.snapshot()
    handles = [i.handle for found in after.instances.values() for i in found if i.handle]
    assert len(set(handles)) == len(handles)
    for index in after.instances:
        session.visible(index)  # the set checks itself: in the plane, known categories
    if action:
        session.undo()
        assert_same_snapshot(session.snapshot(), before)
        session.redo()
        assert_same_snapshot(session.snapshot(), after)
        session.undo()
        assert_same_snapshot(session.snapshot(), before)


@given(sessions(), tools_to_use(), st.data())
def test_masks_of_others_stay_as_they_are_where_overlap_is_allowed(
    session: AnnotationSession, tool: Tool, data: st.DataObject
) -> None:
    refs = data.draw(st.lists(st.sampled_from([*_masks(session), ((0,), "gone")]), min_size=1))
    before = _masks(session)
    session.apply(tool(session, refs, OverlapRule.OVERLAP))
    after = _masks(session)
    for ref, mask in before.items():
        # what an outline deletes may be a drawn one, which goes
        if ref not in refs and ref in after:
            assert after[ref].equals(mask)


@given(sessions(), st.data())
def test_pixels_seen_before_are_all_seen_after_growing_and_drawing(
    session: AnnotationSession, data: st.DataObject
) -> None:
    """Whatever the rule, no pixel of the plane becomes background."""
    rule = data.draw(st.sampled_from(OverlapRule))
    mask = data.draw(masks_in(HW))
    refs = list(_masks(session))
    for action in (
        lambda: reshape_tools.grown(session, refs, rule=rule),
        lambda: reshape_tools.drawn(session, (0,), mask, category_id=1, rule=rule),
    ):
        before = {index: session.visible(index).label_image() > 0 for index in PLANES}
        session.apply(action())
        for index, was_seen in before.items():
            is_seen = session.visible(index).label_image() > 0
            assert (is_seen | ~was_seen).all()
