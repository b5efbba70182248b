"""Hand edits and re-runs against masks that can be checked by eye."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.edits.diff import label_edits
from napari_deeppixel.edits.session import AnnotationSession

NUCLEUS = CategoryTable.from_names("nucleus")
HW = (6, 8)


def square(y: int, x: int, size: int = 3) -> CroppedMask:
    return CroppedMask(pixels=np.ones((size, size), np.bool_), y=y, x=x)


def found(*masks: CroppedMask, scores: list[float] | None = None) -> InstanceSet:
    return InstanceSet(
        image_hw=HW,
        masks=masks,
        categories=NUCLEUS,
        scores=np.array(scores or [0.9] * len(masks)),
    )


def session_with(instances: InstanceSet) -> AnnotationSession:
    session = AnnotationSession(HW, NUCLEUS)
    session.set_visibility(score=0.5, min_area=1)
    session.add_predictions((), instances)
    return session


def test_unchanged_label_image_has_no_edits() -> None:
    instances = found(square(0, 0), square(3, 4))
    assert label_edits(instances, instances.label_image(), drawn_category_id=1) == []


def test_pixels_hidden_under_another_instance_survive_an_edit_elsewhere() -> None:
    lower, upper = square(0, 0), square(1, 1)
    instances = found(lower, upper, scores=[0.6, 0.9])
    label_image = instances.label_image()
    label_image[5, 0] = 1  # instance 1 gains a pixel far away
    (edited,) = label_edits(instances, label_image, drawn_category_id=1)
    assert edited.state is InstanceState.EDITED
    expected = lower.to_mask(HW)
    expected[5, 0] = True
    assert np.array_equal(edited.mask.to_mask(HW), expected)


def test_painting_over_takes_the_pixels_from_the_other_instance() -> None:
    instances = found(square(0, 0), square(0, 4))
    label_image = instances.label_image()
    label_image[0, 4] = 1
    first, second = label_edits(instances, label_image, drawn_category_id=1)
    assert (first.mask.area, second.mask.area) == (10, 8)


def test_erased_instance_is_rejected_and_a_new_number_is_drawn() -> None:
    instances = found(square(0, 0))
    label_image = np.zeros(HW, np.uint16)
    label_image[4, 7] = 9
    rejected, drawn = label_edits(instances, label_image, drawn_category_id=1)
    assert rejected.state is InstanceState.REJECTED
    assert rejected.mask.equals(square(0, 0))
    assert (drawn.state, drawn.handle, drawn.box_xyxy) == (InstanceState.DRAWN, 9, (7, 4, 8, 5))
    assert np.isnan(drawn.score)


@given(arrays(np.uint16, HW, elements=st.integers(0, 4)))
def test_visible_instances_draw_the_label_image_that_a_person_left(label_image: np.ndarray) -> None:
    session = session_with(found(square(0, 0), square(1, 2), square(3, 4)))
    session.take_label_edits((), session.visible(()), label_image)
    kept = session.visible(())
    # what was hidden may lie under a pixel that was erased: only that can differ
    differs = kept.label_image() != label_image
    masks = {int(h): m.to_mask(HW) for h, m in zip(kept.handles, kept.masks, strict=True)}
    for y, x in zip(*np.nonzero(differs), strict=True):
        assert masks[int(kept.label_image()[y, x])][y, x]
        assert sum(mask[y, x] for mask in masks.values()) >= 1
    for handle in np.unique(label_image)[1:]:
        assert masks[int(handle)][label_image == handle].all()


def test_new_run_replaces_unreviewed_and_keeps_what_a_person_did() -> None:
    session = session_with(found(square(0, 0), square(3, 4)))
    label_image = session.visible(()).label_image()
    label_image[5, 0] = 1
    session.take_label_edits((), session.visible(()), label_image)
    replaced = session.add_predictions((), found(square(0, 0), square(0, 5)))
    assert (replaced.kept, replaced.held_back) == (1, 1)
    shown = session.visible(())
    assert sorted(mask.box_xyxy for mask in shown.masks) == [(0, 0, 3, 6), (5, 0, 8, 3)]
    assert 1 in shown.handles  # the kept one has its handle still


def test_rejected_instance_is_not_brought_back_by_a_run() -> None:
    session = session_with(found(square(0, 0)))
    session.take_label_edits((), session.visible(()), np.zeros(HW, np.uint16))
    session.add_predictions((), found(square(0, 0)))
    assert len(session.visible(())) == 0
    assert session.plane(()).states == (InstanceState.REJECTED,)


def test_run_on_a_region_leaves_instances_with_their_centre_elsewhere() -> None:
    session = session_with(found(square(0, 0), square(3, 4)))
    session.add_predictions((), found(), region_xyxy=(0, 0, 4, 6))
    assert [mask.box_xyxy for mask in session.visible(()).masks] == [(4, 3, 7, 6)]


def test_handles_stay_when_the_score_moves_and_are_unique_over_planes() -> None:
    session = AnnotationSession(HW, NUCLEUS)
    session.set_visibility(score=0.5, min_area=1)
    for index in ((0,), (1,)):
        session.add_predictions(index, found(square(0, 0), square(3, 4), scores=[0.9, 0.2]))
    assert [session.visible((z,)).handles.tolist() for z in (0, 1)] == [[1], [2]]
    session.set_visibility(score=0.1, min_area=1)
    assert [session.visible((z,)).handles.tolist() for z in (0, 1)] == [[1, 3], [2, 4]]
    session.set_visibility(score=0.5, min_area=1)
    assert [session.visible((z,)).handles.tolist() for z in (0, 1)] == [[1], [2]]


def test_small_predictions_are_hidden_but_drawn_ones_never() -> None:
    session = session_with(found(square(0, 0, 1), square(3, 4, 3)))
    session.set_visibility(score=0.5, min_area=4)
    assert session.visible(()).areas.tolist() == [9]
    label_image = session.visible(()).label_image()
    label_image[0, 7] = 7
    session.take_label_edits((), session.visible(()), label_image)
    assert sorted(session.visible(()).areas.tolist()) == [1, 9]


def test_state_and_category_set_in_a_table_are_taken_over() -> None:
    table = CategoryTable.from_names("nucleus", "debris")
    session = AnnotationSession(HW, table)
    session.add_predictions(
        (), InstanceSet(image_hw=HW, masks=(square(0, 0), square(3, 4)), categories=table)
    )
    shown = session.visible(()).handles.tolist()
    assert session.take_attributes((), {shown[0]: ("debris", ""), shown[1]: ("", "accepted")})
    after = session.visible(())
    assert after.category_ids.tolist() == [2, 1]
    assert after.states == (InstanceState.EDITED, InstanceState.ACCEPTED)
    assert not session.take_attributes((), {shown[0]: ("no such category", "no such state")})


def test_categories_of_a_second_model_are_added_by_name() -> None:
    session = session_with(found(square(0, 0)))
    session.take_attributes((), {1: ("", "accepted")})
    others = CategoryTable.from_names("cat", "nucleus")
    session.add_predictions(
        (),
        InstanceSet(
            image_hw=HW,
            masks=(square(3, 0), square(3, 4)),
            categories=others,
            category_ids=np.array([1, 2]),
            scores=np.array([0.9, 0.9]),
        ),
    )
    names = [session.categories.name_of(i) for i in session.visible(()).category_ids]
    assert names == ["nucleus", "cat", "nucleus"]


def test_new_label_with_the_number_of_a_hidden_instance_gets_its_own() -> None:
    session = session_with(found(square(0, 0), square(3, 4), scores=[0.9, 0.6]))
    assert session.visible(()).handles.tolist() == [1, 2]
    session.set_visibility(score=0.8, min_area=1)
    drawn = session.visible(())
    label_image = drawn.label_image()
    label_image[5, 0] = 2  # what napari's "new label" offers
    session.take_label_edits((), drawn, label_image)
    session.set_visibility(score=0.5, min_area=1)
    shown = session.visible(())
    assert sorted(shown.handles.tolist()) == [1, 2, 3]
    assert shown.states[shown.handles.tolist().index(3)] is InstanceState.DRAWN


def test_number_of_another_plane_painted_here_is_a_new_instance() -> None:
    session = AnnotationSession(HW, NUCLEUS)
    for index in ((0,), (1,)):
        session.add_predictions(index, found(square(0, 0)))
        session.visible(index)
    drawn = session.visible((1,))
    label_image = drawn.label_image()
    label_image[5, 7] = 1
    session.take_label_edits((1,), drawn, label_image)
    assert session.visible((0,)).handles.tolist() == [1]
    assert session.visible((1,)).handles.tolist() == [2, 3]


def test_region_run_does_not_double_an_object_that_its_edge_cuts() -> None:
    whole = square(0, 2)
    session = session_with(found(whole))
    part = CroppedMask(pixels=np.ones((3, 2), np.bool_), y=0, x=2)
    replaced = session.add_predictions((), found(part), region_xyxy=(0, 0, 4, 6))
    assert replaced.held_back == 1
    assert [mask.box_xyxy for mask in session.visible(()).masks] == [whole.box_xyxy]


def test_adopted_instances_keep_state_and_uuid() -> None:
    first = session_with(found(square(0, 0)))
    first.take_attributes((), {1: ("", "accepted")})
    second = AnnotationSession(HW, NUCLEUS)
    second.adopt((), first.plane(()))
    assert second.visible(()).uuids == first.visible(()).uuids
    assert second.visible(()).states == (InstanceState.ACCEPTED,)


def test_object_found_again_keeps_its_handle_and_a_new_one_gets_the_next() -> None:
    session = session_with(found(square(0, 0), square(3, 4)))
    assert session.visible(()).handles.tolist() == [1, 2]
    session.add_predictions((), found(square(3, 5), square(0, 4), square(0, 0)))
    handles = {
        m.box_xyxy: h
        for m, h in zip(session.visible(()).masks, session.visible(()).handles, strict=True)
    }
    assert handles == {(5, 3, 8, 6): 2, (0, 0, 3, 3): 1, (4, 0, 7, 3): 3}
