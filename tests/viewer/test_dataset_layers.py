"""Annotations of a dataset as a session, and the session as annotations again."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel
from tests.viewer.scene import TABLE, found, rect

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.image import ImageArray
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState, Split
from napari_deeppixel.edits import tools
from napari_deeppixel.edits.session import AnnotationSession
from napari_deeppixel.viewer.dataset_layers import (
    annotated_planes,
    close_image,
    fit_to_image,
    in_memory,
    session_of,
    show_image,
)
from napari_deeppixel.viewer.region_cut import cut_instances, cut_regions

HW = (20, 30)
REGION = ((0.0, 0.0), (10.0, 0.0), (10.0, 8.0), (0.0, 8.0))


def plane(instances: InstanceSet, index: tuple[int, ...] = (), **others: object) -> AnnotatedImage:
    return AnnotatedImage.of("cells.tif", instances, plane=index, **others)


def nothing() -> InstanceSet:
    return InstanceSet.empty(HW, TABLE)


def reviewed() -> InstanceSet:
    """Return an accepted, a rejected and an unsure instance with handles 3, 5 and 9."""
    instances = found([rect(2, 2), rect(2, 5), rect(12, 20)], category_ids=[1, 1, 2])
    states = (InstanceState.ACCEPTED, InstanceState.REJECTED, InstanceState.UNSURE)
    return replace(
        instances, states=states, handles=np.array([3, 5, 9]), levels=np.array([1, 2, 3])
    )


def same(a: InstanceSet, b: InstanceSet) -> bool:
    return (
        (a.uuids, a.states, a.sources) == (b.uuids, b.states, b.sources)
        and a.handles.tolist() == b.handles.tolist()
        and a.scores.tolist() == b.scores.tolist()
        and a.levels.tolist() == b.levels.tolist()
        and a.category_ids.tolist() == b.category_ids.tolist()
        and all(x.equals(y) for x, y in zip(a.masks, b.masks, strict=True))
    )


def test_a_session_and_back_changes_nothing() -> None:
    stored = [plane(reviewed(), regions=(REGION,))]
    session = session_of(stored, TABLE, image_hw=HW)
    (back,) = annotated_planes(session.snapshot(), stored)
    assert same(back.instances, stored[0].instances)
    assert back.regions == (REGION,)
    assert session.next_handle == 10
    assert not session.history.undo_name


def test_what_a_session_does_not_know_is_taken_from_the_file() -> None:
    extras = {"a": {"id": 77, "note": "round"}, "gone": {"id": 5}}
    crowd = found([rect(0, 0)], names="x")
    stored = [
        AnnotatedImage(
            file_name="cells.tif",
            instances=reviewed(),
            crowds=crowd,
            state=ImageState.DRAFT,
            split=Split.VAL,
            group="slide",
            image_extra={"camera": "left"},
            instance_extras=extras,
            maskless=({"id": 3, "category_id": 1},),
        )
    ]
    session = session_of(stored, TABLE, image_hw=HW)
    session.apply(tools.deleted(session, [((), "c")]))
    (back,) = annotated_planes(session.snapshot(), stored)
    assert same(back.crowds, crowd)
    assert (back.state, back.split, back.group) == (ImageState.DRAFT, Split.VAL, "slide")
    assert back.image_extra == {"camera": "left"}
    assert back.instance_extras == {"a": {"id": 77, "note": "round"}}
    assert back.maskless == ({"id": 3, "category_id": 1},)


def test_hidden_candidates_are_not_saved_but_what_the_file_had_stays() -> None:
    low = found([rect(2, 2)], names="s", scores=[0.1])
    stored = [plane(low)]
    session = session_of(stored, TABLE, image_hw=HW)
    new = found([rect(12, 2), rect(12, 20)], names="hk", scores=[0.2, 0.9])
    session.add((), new, name="run")
    session.set_visibility(score=0.5, min_area=1)
    (back,) = annotated_planes(session.snapshot(), stored)
    assert set(back.instances.uuids) == {"s", "k"}


def test_the_lowest_score_hides_nothing_that_the_file_has() -> None:
    session = session_of([plane(found([rect(2, 2)], scores=[0.3]))], TABLE, image_hw=HW, score=0.5)
    assert (session.score, session.num_visible) == (0.3, 1)
    assert session_of([plane(nothing())], TABLE, image_hw=HW, score=0.5).score == 0.5


def test_handles_and_uuids_of_two_planes_never_clash() -> None:
    first = found([rect(2, 2), rect(12, 20)], names="ab")
    stored = [plane(first, (0,)), plane(found([rect(2, 2), rect(12, 2)], names="bc"), (1,))]
    session = session_of(stored, TABLE, image_hw=HW)
    handles = [i.handle for index in ((0,), (1,)) for i in session.plane(index)]
    assert handles == [1, 2, 3, 4]
    assert session.plane((0,)).uuids == ("a", "b")
    assert session.plane((1,)).uuids[0] not in ("a", "b", "c")
    assert session.plane((1,)).uuids[1] == "c"


def test_new_planes_of_a_stack_take_the_place_of_the_one_that_stood_for_all() -> None:
    stored = [plane(nothing(), state=ImageState.NONE, group="film")]
    session = session_of((), TABLE, image_hw=HW)
    session.add((2,), found([rect(2, 2)]), name="draw")
    session.set_regions((1,), (REGION,), name="complete")
    back = annotated_planes(session.snapshot(), stored)
    assert [(p.plane, len(p.instances), len(p.regions), p.group) for p in back] == [
        ((1,), 0, 1, "film"),
        ((2,), 1, 0, "film"),
    ]


def test_categories_of_the_dataset_come_first_and_new_ones_go_along() -> None:
    dataset = CategoryTable.from_names("debris", "nucleus")
    session = session_of([plane(reviewed())], dataset, image_hw=HW)
    assert session.categories.categories == dataset.categories
    assert session.plane(()).category_ids.tolist() == [2, 2, 1]
    assert len(session_of((), CategoryTable(categories=()), image_hw=HW).categories) == 1


def test_annotations_of_another_size_are_refused_and_empty_ones_left_out() -> None:
    image = ImageArray(pixels=np.zeros((3, *HW), np.uint8), axes="zyx")
    assert fit_to_image([plane(nothing())], image) == ()
    fitting = plane(reviewed(), (2,))
    assert fit_to_image([plane(nothing()), fitting], image) == (fitting,)
    with pytest.raises(AnnotationError, match="the file was replaced by another"):
        fit_to_image([plane(reviewed(), (3,))], image)


@pytest.mark.parametrize(
    ("axes", "shape", "shown", "rgb", "channel_axis"),
    [
        ("yx", (20, 30), (20, 30), False, None),
        ("yxc", (20, 30, 3), (20, 30, 3), True, None),
        ("yxc", (20, 30, 2), (2, 20, 30), False, 0),
        ("zcyx", (4, 2, 20, 30), (4, 2, 20, 30), False, 1),
        ("zyxc", (4, 20, 30, 5), (4, 5, 20, 30), False, 1),
    ],
)
def test_images_of_all_kinds_are_shown_with_their_instances(
    axes: str,
    shape: tuple[int, ...],
    shown: tuple[int, ...],
    rgb: bool,
    channel_axis: int | None,
) -> None:
    image = in_memory(ImageArray(pixels=np.zeros(shape, np.uint8), axes=axes))
    lead = (0,) * len(image.lead_shape)
    session = session_of([plane(reviewed(), lead)], TABLE, image_hw=HW)
    viewer = ViewerModel()
    view = show_image(viewer, image, session, name="cells")
    for _ in view.redraw():
        pass
    assert view.image.data.shape == shown
    assert (view.image.rgb, view.channel_axis) == (rgb, channel_axis)
    data = view.labels_layers[0].data
    # the accepted one lies at rows 2 to 5 and columns 2 to 6, the rejected one is not drawn
    assert sorted(np.unique(data).tolist()) == [0, 3, 9]
    assert data[view.planes.data_index(lead)][3, 3] == 3


def test_closing_an_image_leaves_the_layers_of_others() -> None:
    viewer = ViewerModel()
    viewer.add_points([[0, 0]], name="mine")
    image = ImageArray(pixels=np.zeros(HW, np.uint8), axes="yx")
    session = session_of([plane(reviewed(), regions=(REGION,))], TABLE, image_hw=HW)
    view = show_image(viewer, image, session, name="cells")
    for _ in view.redraw():
        pass
    assert len(viewer.layers) == 5
    with viewer.layers.batched_update():
        close_image(viewer, view.image)
    assert [layer.name for layer in viewer.layers] == ["mine"]


def test_instances_are_cut_at_the_border_of_a_region() -> None:
    # 4 x 5 px at (2, 2), (2, 5), (12, 20); the region holds columns 4 to 8 of rows 3 to 12
    cut = cut_instances(reviewed(), (4, 3, 9, 13))
    assert cut.image_hw == (10, 5)
    assert cut.boxes_xyxy.tolist() == [[0, 0, 3, 3], [1, 0, 5, 3]]
    assert cut.handles.tolist() == [3, 5]
    assert not {"a", "b"} & set(cut.uuids)


def test_complete_regions_are_cut_and_moved_with_a_region() -> None:
    (outline,) = cut_regions([REGION], (4, 3, 20, 13))
    assert sorted(outline) == [(0, 0), (0, 5), (6, 0), (6, 5)]
    assert cut_regions([REGION], (15, 10, 20, 20)) == ()


def test_a_ring_stays_a_ring_when_it_is_cut() -> None:
    # the outline goes round a hole and back along the same way
    ring = (
        *((0, 0), (10, 0), (10, 10), (0, 10), (0, 0)),
        *((3, 3), (3, 7), (7, 7), (7, 3), (3, 3)),
    )
    import shapely

    parts = [shapely.Polygon(p) for p in cut_regions([ring], (0, 0, 20, 20))]
    assert sum(part.area for part in parts) == 84
    assert not any(part.contains(shapely.Point(5, 5)) for part in parts)


def test_a_session_with_nothing_is_saved_as_nothing(tmp_path: Path) -> None:
    session = AnnotationSession(HW, TABLE)
    (back,) = annotated_planes(session.snapshot(), [plane(nothing(), path=tmp_path)])
    assert len(back.instances) == 0
    assert back.path == tmp_path
