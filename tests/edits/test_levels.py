"""What a person paints or accepts does not sink below what it was above."""

import numpy as np
from tests.edits.made import NUCLEUS, square

from napari_deeppixel.core.instance import Instance, InstanceSet, InstanceState
from napari_deeppixel.edits.diff import OverlapRule
from napari_deeppixel.edits.record_values import decode_instance, values_of
from napari_deeppixel.edits.session import AnnotationSession
from napari_deeppixel.edits.tools import with_state

HW = (8, 12)
WHOLE = (0, 0, 12, 8)


def two(first: float = 0.5, second: float = 0.9) -> AnnotationSession:
    """Return a session with two 6 x 6 px predictions, whose columns 4 and 5 are shared."""
    instances = InstanceSet(
        image_hw=HW,
        masks=(square(0, 0, 6), square(0, 4, 6)),
        categories=NUCLEUS,
        scores=np.array([first, second]),
    )
    session = AnnotationSession(HW, instances.categories)
    session.add_predictions((), instances)
    return session


def get(session: AnnotationSession, number: int) -> Instance:
    instance = session.find(number)
    assert instance is not None
    return instance[1]


def picture(session: AnnotationSession) -> np.ndarray:
    return session.visible(()).label_image()


def stroke(session: AnnotationSession, number: int, rows: slice, columns: slice) -> None:
    seen = picture(session)
    seen[rows, columns] = number
    session.take_label_region(
        (), session.shown_in((), WHOLE), seen, region_xyxy=WHOLE, rule=OverlapRule.TAKE
    )


def accept(session: AnnotationSession, *numbers: int) -> None:
    refs = [((), get(session, number).uuid) for number in numbers]
    session.apply(with_state(session, refs, InstanceState.ACCEPTED))


def test_what_is_painted_stays_above_the_neighbour_that_it_takes_pixels_from() -> None:
    session = two()
    accept(session, 1)
    before = picture(session)
    assert (before[0, 4:6] == 1).all()
    stroke(session, 1, slice(3, 5), slice(5, 8))
    after = picture(session)
    changed = before != after
    assert changed[3:5, 6:8].all()
    assert changed.sum() == 4
    assert get(session, 2).state is InstanceState.EDITED


def test_of_two_predictions_the_one_that_is_painted_comes_on_top() -> None:
    session = two()
    assert picture(session)[0, 4] == 2
    stroke(session, 1, slice(3, 5), slice(5, 8))
    assert picture(session)[0, 4] == 1
    assert picture(session)[3, 7] == 1


def test_accepting_a_neighbour_moves_nothing() -> None:
    session = two()
    accept(session, 1)
    before = picture(session)
    accept(session, 2)
    assert np.array_equal(picture(session), before)


def test_accepting_all_at_once_moves_nothing() -> None:
    for numbers in ((1, 2), (2, 1)):
        session = two()
        before = picture(session)
        accept(session, *numbers)
        assert np.array_equal(picture(session), before)


def test_what_is_drawn_anew_comes_on_top_and_undo_brings_the_picture_back() -> None:
    session = two()
    accept(session, 1, 2)
    before = picture(session)
    stroke(session, 9, slice(0, 2), slice(3, 8))
    assert (picture(session)[:2, 3:8] == 9).all()
    after = picture(session)
    session.undo()
    assert np.array_equal(picture(session), before)
    session.redo()
    assert np.array_equal(picture(session), after)


def test_a_level_is_saved_and_read_again() -> None:
    session = two()
    accept(session, 1)
    instance = get(session, 1)
    assert instance.level == -1
    assert decode_instance(values_of(instance)).level == -1
    assert "level" not in values_of(get(session, 2))
