"""Random work on overlapping instances against a simple model of what should be true."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from numpy.typing import NDArray
from tests.core.strategies import assert_same_instances
from tests.edits.compare import assert_same_snapshot
from tests.edits.session_model import (
    HW,
    PLANES,
    WHOLE,
    Brush,
    Key,
    Known,
    Model,
    Newcomer,
    Plane,
    Thing,
)

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.geometry import Outline, mask_to_box_xyxy
from napari_deeppixel.core.instance import Instance, InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.edits.diff import OverlapRule, draw_region
from napari_deeppixel.edits.rerun import Keep
from napari_deeppixel.edits.saved_session import SavedSession
from napari_deeppixel.edits.session import AnnotationSession, Applied, SessionSnapshot

# the names in common have other ids in the second table
TABLES = (
    CategoryTable.from_names("nucleus", "debris"),
    CategoryTable.from_names("debris", "mitosis"),
)
OUTLINES: tuple[Outline, ...] = (
    ((0.0, 0.0), (4.0, 0.0), (4.0, 3.0)),
    ((1.0, 1.0), (8.0, 1.0), (8.0, 6.0), (1.0, 6.0)),
)


@dataclass(frozen=True)
class Patch:
    """A painted rectangle: array rows and columns, and whether only every other pixel is."""

    y: int
    x: int
    height: int
    width: int
    is_chequered: bool

    def mask(self) -> NDArray[np.bool_]:
        """Return the painted pixels of the image."""
        painted = np.zeros(HW, np.bool_)
        painted[self.y : self.y + self.height, self.x : self.x + self.width] = True
        if self.is_chequered:
            rows, columns = np.indices(HW)
            painted &= (rows + columns) % 2 == (self.y + self.x) % 2
        return painted


# -- what a person and a model may come up with


# they cover each other by half and more, or not at all
OFTEN = (
    Patch(0, 0, 3, 3, False),
    Patch(0, 0, 3, 4, False),
    Patch(0, 1, 3, 3, False),
    Patch(2, 4, 4, 4, False),
    Patch(2, 4, 4, 4, True),
)


@st.composite
def _any_patches(draw: st.DrawFn) -> Patch:
    """Draw a rectangle inside the image."""
    y, x = draw(st.integers(0, HW[0] - 1)), draw(st.integers(0, HW[1] - 1))
    height, width = draw(st.integers(1, HW[0] - y)), draw(st.integers(1, HW[1] - x))
    return Patch(y, x, height, width, draw(st.booleans()))


def patches() -> st.SearchStrategy[Patch]:
    """Return rectangles inside the image, some of them time and again."""
    return st.sampled_from(OFTEN) | _any_patches()


def box_xyxy(patch: Patch) -> tuple[int, int, int, int]:
    """Return the box of a rectangle."""
    return patch.x, patch.y, patch.x + patch.width, patch.y + patch.height


regions_xyxy = st.just(WHOLE) | patches().map(box_xyxy)
strokes = st.lists(patches(), min_size=1, max_size=3)
scores = st.sampled_from([0.1, 0.3, 0.5, 0.5, 0.8, 1.0])
predicted = st.tuples(patches(), scores, st.integers(0, 1))
states = st.sampled_from(InstanceState)


def instance_set(
    found: Iterable[tuple[Patch, float, int]], table: CategoryTable, **fields: Any
) -> InstanceSet:
    """Return instances of patches, scores and positions in a table."""
    found = list(found)
    masks = [CroppedMask.from_mask(patch.mask()) for patch, _, _ in found]
    return InstanceSet(
        image_hw=HW,
        masks=tuple(mask for mask in masks if mask is not None),
        categories=table,
        category_ids=np.array([table.categories[c].id for _, _, c in found], np.int64),
        scores=np.array([score for _, score, _ in found], np.float64),
        **fields,
    )


def as_things(instances: InstanceSet) -> dict[str, Thing]:
    """Return what the model knows of instances."""
    return {
        i.uuid: Thing(
            mask=i.mask.to_mask(HW),
            category=instances.categories.name_of(i.category_id),
            state=i.state,
            score=i.score,
        )
        for i in instances
    }


def same_numbers(left: Iterable[float], right: Iterable[float]) -> bool:
    """Whether numbers agree; NaN is like NaN."""
    return bool(np.array_equal(tuple(left), tuple(right), equal_nan=True))


def assert_identical(left: SessionSnapshot, right: SessionSnapshot) -> None:
    """Check that two snapshots agree in everything, handles too."""
    assert_same_snapshot(left, right)
    assert left.max_handle == right.max_handle
    assert left.instances.keys() == right.instances.keys()
    for index, instances in left.instances.items():
        assert [i.handle for i in instances] == [i.handle for i in right.instances[index]]


# -- the machine


class SessionMachine(RuleBasedStateMachine):
    """Does the same to a session and to the model."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.plane: Plane = PLANES[0]
        self.handles: dict[str, int] = {}
        self.ever: dict[int, str] = {}
        self.largest_forgotten = 0
        self.last_found: InstanceSet | None = None
        self.open(AnnotationSession(HW, TABLES[0]))

    def open(self, session: AnnotationSession) -> None:
        """Work on a session from now on; `mirror` follows it by its signals alone."""
        self.session = session
        planes = session.snapshot().instances.items()
        self.mirror = {(plane, i.uuid): i for plane, instances in planes for i in instances}
        session.changed.connect(self._follow)
        session.visibility_changed.connect(self._follow_visibility)

    def _follow(self, applied: Applied) -> None:
        touched = [(change.index, change.uuid) for change in applied.action.changes]
        assert len(set(touched)) == len(touched)
        for key, change in zip(touched, applied.action.changes, strict=True):
            before = self.mirror.pop(key, None)
            assert before is change.before
            if change.after is not None:
                self.mirror[key] = change.after

    def _follow_visibility(self, turned: dict[Plane, list[Instance]]) -> None:
        for plane, instances in turned.items():
            for instance in instances:
                is_shown = self.model.is_shown(self.model.now.things[plane, instance.uuid])
                assert self.session.is_visible(plane, instance.uuid) is is_shown
                self.mirror[plane, instance.uuid] = instance

    def known(self) -> Known:
        """Return whose each number is, as far as this session can know."""
        owners = {handle: self.session.owner_of(handle) for handle in self.ever}
        return Known({h: key for h, key in owners.items() if key}, self.largest_forgotten)

    def welcome(
        self, plane: Plane, new: list[Newcomer], changes: dict[Key, Thing | None]
    ) -> dict[Key, Thing | None]:
        """Return changes with the newcomers under the uuids that the session gave them."""
        known = {*self.model.order[plane], *(n.uuid for n in new)}
        given = iter([u for u in self.session.plane(plane).uuids if u not in known])
        for newcomer in new:
            uuid = newcomer.uuid or next(given)
            changes[plane, uuid] = newcomer.thing
            if newcomer.handle:
                instance = self.session.get(plane, uuid)
                assert instance is not None
                assert instance.handle == newcomer.handle
        assert next(given, None) is None
        return changes

    # -- rules

    @initialize(found=st.lists(predicted, min_size=2, max_size=5))
    def begin(self, found: list[tuple[Patch, float, int]]) -> None:
        """Run a model on one plane."""
        self._run(instance_set(found, TABLES[0]), WHOLE, Keep.HUMAN)

    @rule()
    def turn_to_the_other_plane(self) -> None:
        """Show the other slice."""
        self.plane = PLANES[1 - PLANES.index(self.plane)]

    @rule(
        runs=st.lists(st.lists(predicted, max_size=4), min_size=1, max_size=3),
        table=st.sampled_from(TABLES),
        region_xyxy=regions_xyxy,
        keep=st.sampled_from(Keep),
        joins=st.sampled_from(["", "run 1"]),
    )
    def run_a_model(
        self,
        runs: list[list[tuple[Patch, float, int]]],
        table: CategoryTable,
        region_xyxy: tuple[int, int, int, int],
        keep: Keep,
        joins: str,
    ) -> None:
        """Put new predictions in the place of older ones, on one plane after the other."""
        for found in runs:
            self.last_found = instance_set(found, table)
            self._run(self.last_found, region_xyxy, keep, joins)
            self.turn_to_the_other_plane()

    def _run(
        self,
        found: InstanceSet,
        region_xyxy: tuple[int, int, int, int],
        keep: Keep,
        joins: str = "",
    ) -> None:
        changes, new, counts = self.model.run(self.plane, as_things(found), region_xyxy, keep)
        replaced = self.session.add_predictions(
            self.plane,
            found,
            region_xyxy=None if region_xyxy == WHOLE else region_xyxy,
            keep=keep,
            joins=joins,
        )
        assert replaced == counts
        self.model.do(self.welcome(self.plane, new, changes), joins=joins)

    @precondition(lambda self: self._plane_of_last_found() is not None)
    @rule(region_xyxy=regions_xyxy, keep=st.sampled_from(Keep))
    def take_the_same_predictions_again(
        self, region_xyxy: tuple[int, int, int, int], keep: Keep
    ) -> None:
        """Put predictions in the place of themselves."""
        plane = self._plane_of_last_found()
        assert plane is not None
        assert self.last_found is not None
        self.plane = plane  # a uuid belongs to one plane
        self._run(self.last_found, region_xyxy, keep)

    def _plane_of_last_found(self) -> Plane | None:
        uuids = () if self.last_found is None else self.last_found.uuids
        return next((p for p in PLANES for u in uuids if (p, u) in self.mirror), None)

    @rule(
        data=st.data(),
        strokes=strokes,
        overlap=st.sampled_from(OverlapRule),
        brings_back=st.booleans(),
    )
    def paint_on_the_plane(
        self, data: st.DataObject, strokes: list[Patch], overlap: OverlapRule, brings_back: bool
    ) -> None:
        """Paint, and compare the whole plane."""
        self._paint(data, strokes, WHOLE, overlap, brings_back)

    @rule(
        data=st.data(),
        strokes=strokes,
        overlap=st.sampled_from(OverlapRule),
        brings_back=st.booleans(),
    )
    def paint_in_a_region(
        self, data: st.DataObject, strokes: list[Patch], overlap: OverlapRule, brings_back: bool
    ) -> None:
        """Paint, and compare the part of the plane that was painted."""
        region = mask_to_box_xyxy(np.any([patch.mask() for patch in strokes], axis=0))
        assert region is not None
        self._paint(data, strokes, region, overlap, brings_back)

    def _paint(
        self,
        data: st.DataObject,
        strokes: list[Patch],
        region_xyxy: tuple[int, int, int, int],
        overlap: OverlapRule,
        brings_back: bool,
    ) -> None:
        """Paint numbers of all kinds into what is drawn, and take that over as the view does."""
        x1, y1, x2, y2 = region_xyxy
        old = self.model.label_image(self.plane, self.handles)
        seen = old.copy()
        for patch in strokes:
            seen[patch.mask()] = data.draw(self._numbers())
        category = data.draw(st.sampled_from([None, *self.session.categories.categories]))
        brush = Brush(
            rule=overlap,
            category=(category or self.session.categories.categories[0]).name,
            brings_back=brings_back,
        )
        changes, new = self.model.stroke(self.plane, (old, seen), brush, self.known())
        drawn = self.session.shown_in(self.plane, region_xyxy)
        layer = draw_region(drawn, region_xyxy, np.dtype(np.uint16))
        assert np.array_equal(layer, old[y1:y2, x1:x2])
        is_changed = self.session.take_label_region(
            self.plane,
            drawn,
            seen[y1:y2, x1:x2].astype(np.uint16),
            region_xyxy=region_xyxy,
            rule=overlap,
            category_id=None if category is None else category.id,
            brings_back=brings_back,
        )
        assert is_changed is self.model.do(self.welcome(self.plane, new, changes))

    def _numbers(self) -> st.SearchStrategy[int]:
        """Return numbers to paint with, as often visible ones as hidden, gone or foreign ones."""
        free = self.session.next_handle
        visible = {self.handles[uuid] for uuid in self.model.visible(self.plane)}
        groups = ([0], [free, free + 2], sorted(visible), sorted(self.ever.keys() - visible))
        return st.one_of(*(st.sampled_from(group) for group in groups if group))

    @rule(
        data=st.data(),
        category=st.sampled_from(["", "nucleus", "debris", "mitosis", "no such category"]),
        state=st.sampled_from(["", "no such state", *InstanceState]),
    )
    def edit_the_table(self, data: st.DataObject, category: str, state: str) -> None:
        """Set category and state of some numbers, of this plane and others."""
        numbers = st.sampled_from([self.session.next_handle, *sorted(self.ever)])
        handles = data.draw(st.lists(numbers, max_size=3, unique=True))
        names = [c.name for c in self.session.categories.categories]
        changes: dict[Key, Thing | None] = {}
        for handle in handles:
            key = self.session.owner_of(handle)
            thing = None if key is None else self.model.now.things.get(key)
            if key is None or thing is None or key[0] != self.plane:
                continue
            new = thing
            if category in names and category != thing.category:
                new = thing.edited(category=category)
            if state in list(InstanceState) and state != thing.state:
                new = replace(new, state=InstanceState(state))
            if new is not thing:
                changes[key] = new
        attributes = dict.fromkeys(handles, (category, str(state)))
        is_changed = self.session.take_attributes(self.plane, attributes)
        assert is_changed is self.model.do(changes)

    @rule(
        data=st.data(),
        found=st.lists(
            st.tuples(patches(), scores | st.just(math.nan), st.integers(0, 1)), max_size=3
        ),
        table=st.sampled_from(TABLES),
    )
    def bring_in_another_session(
        self, data: st.DataObject, found: list[tuple[Patch, float, int]], table: CategoryTable
    ) -> None:
        """Add instances with states, some of them known here."""
        taken = list(self.model.present(self.plane))[: data.draw(st.integers(0, len(found)))]
        uuids = (*taken, *(str(uuid4()) for _ in found[len(taken) :]))
        chosen = data.draw(st.lists(states, min_size=len(found), max_size=len(found)))
        incoming = instance_set(found, table, uuids=uuids, states=tuple(chosen))
        self.session.add(self.plane, incoming, name="bring in")
        self.model.do({(self.plane, u): thing for u, thing in as_things(incoming).items()})

    @rule(outlines=st.lists(st.sampled_from(OUTLINES), max_size=2))
    def mark_regions_complete(self, outlines: list[Outline]) -> None:
        """Set the complete regions."""
        wanted = tuple(outlines)
        is_new = wanted != self.model.now.regions.get(self.plane, ())
        assert self.session.set_regions(self.plane, wanted, name="mark complete") is is_new
        self.model.do(regions={self.plane: wanted} if is_new else None)

    @rule(score=st.sampled_from([0.0, 0.3, 0.5, 0.9]), min_area=st.sampled_from([1, 3, 10]))
    def move_the_sliders(self, score: float, min_area: int) -> None:
        """Hide and show predictions."""
        self.model.score, self.model.min_area = score, min_area
        self.session.set_visibility(score=score, min_area=min_area)

    @rule(times=st.integers(1, 3))
    def undo(self, times: int) -> None:
        """Take steps back."""
        for _ in range(times):
            assert bool(self.session.undo()) is bool(self.model.done)
            self.model.undo()

    @rule(times=st.integers(1, 3))
    def redo(self, times: int) -> None:
        """Do steps again."""
        for _ in range(times):
            assert bool(self.session.redo()) is bool(self.model.undone)
            self.model.redo()

    @rule()
    def undo_all_and_redo_all(self) -> None:
        """Go to the start and come back, twice: the first time may show what was hidden then."""
        before = self.session.snapshot()
        self._there_and_back()
        between = self.session.snapshot()
        assert_same_snapshot(between, before)
        if between.max_handle == before.max_handle:
            assert_identical(between, before)
        self._there_and_back()
        assert_identical(self.session.snapshot(), between)

    def _there_and_back(self) -> None:
        steps = len(self.model.done)
        for _ in range(steps):
            assert self.session.undo()
            self.model.undo()
        assert not self.session.history.undo_name
        self.session_is_as_the_model_says()
        for _ in range(steps):
            assert self.session.redo()
            self.model.redo()

    @rule()
    def restart(self) -> None:
        """Go on with all that is saved, with the same steps to undo and redo."""
        again = SavedSession.of(self.session).restored()
        assert_identical(self.session.snapshot(), again.snapshot())
        self.open(again)
        self.largest_forgotten = again.next_handle - 1

    @rule()
    def save_and_load(self) -> None:
        """Go on with what a snapshot holds."""
        snapshot = self.session.snapshot()
        loaded = AnnotationSession.from_snapshot(snapshot)
        assert_identical(snapshot, loaded.snapshot())
        for plane in PLANES:
            assert_same_instances(self.session.visible(plane), loaded.visible(plane))
            assert_same_instances(self.session.plane(plane), loaded.plane(plane))
        assert len(loaded.history) == 0
        self.open(loaded)
        self.model.forget()
        self.largest_forgotten = snapshot.max_handle
        # nothing leads back to what is gone: a prediction of that uuid is a new one
        present = {i.uuid for instances in snapshot.instances.values() for i in instances}
        self.handles = {u: handle for u, handle in self.handles.items() if u in present}

    # -- what must always be true

    @invariant()
    def session_is_as_the_model_says(self) -> None:
        """Every instance, shown or not, in its place."""
        names = self.session.categories
        for plane in PLANES:
            there = self.session.plane(plane)
            assert list(there.uuids) == list(self.model.present(plane))
            for instance, thing in zip(there, self.model.present(plane).values(), strict=True):
                assert np.array_equal(instance.mask.to_mask(HW), thing.mask)
                assert instance.box_xyxy == mask_to_box_xyxy(thing.mask)
                assert names.name_of(instance.category_id) == thing.category
                assert instance.state is thing.state
                assert same_numbers([instance.score], [thing.score])
            assert self.session.regions(plane) == self.model.now.regions.get(plane, ())
        assert len(self.session.history) == len(self.model.done)

    @invariant()
    def visible_instances_are_those_of_the_definition(self) -> None:
        """And they look like what is drawn in every way of drawing them."""
        for plane in PLANES:
            visible = self.session.visible(plane)
            assert list(visible.uuids) == list(self.model.visible(plane))
            drawn = self.session.shown_in(plane, WHOLE)
            assert [i.uuid for i in drawn] == [visible.uuids[i] for i in visible.drawing_order()]
            assert [i.uuid for i in drawn] == self.model.drawn(plane)
            self._learn_handles(plane)
            wanted = self.model.label_image(plane, self.handles)
            assert np.array_equal(visible.label_image(), wanted)
            assert np.array_equal(draw_region(drawn, WHOLE, np.dtype(np.uint32)), wanted)

    def _learn_handles(self, plane: Plane) -> None:
        for instance in self.session.visible(plane):
            assert instance.handle > 0
        for uuid in self.session.plane(plane).uuids:
            instance_here = self.session.get(plane, uuid)
            assert instance_here is not None
            handle = instance_here.handle
            # once given, a number never changes, and nobody else ever gets it
            assert self.handles.get(uuid, handle) == handle
            if handle:
                self.handles[uuid] = handle
                assert self.ever.setdefault(handle, uuid) == uuid
                assert self.session.owner_of(handle) == (plane, uuid)
                assert self.session.find(handle) == (plane, instance_here)
        assert self.session.next_handle > max(self.ever, default=0)

    @invariant()
    def signals_tell_everything(self) -> None:
        """Who listens from the start knows what is there."""
        for plane in PLANES:
            for uuid in self.session.plane(plane).uuids:
                assert self.mirror[plane, uuid] is self.session.get(plane, uuid)
        assert len(self.mirror) == len(self.model.now.things)


TestSessionWorksAsTheModel = SessionMachine.TestCase
TestSessionWorksAsTheModel.settings = settings(max_examples=150, stateful_step_count=30)
