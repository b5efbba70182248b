"""AnnotationSession: the truth about all instances of one image."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.core.geometry import Outline
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import MAX_HANDLE, Instance, InstanceSet, InstanceState
from napari_deeppixel.edits.action import Action, Change, RegionsChange
from napari_deeppixel.edits.diff import (
    OverlapRule,
    Region,
    edited_state,
    label_edits,
    with_pixels_of,
)
from napari_deeppixel.edits.history import History
from napari_deeppixel.edits.levels import drawing_rank, with_levels
from napari_deeppixel.edits.plane import PlaneRecord
from napari_deeppixel.edits.rerun import Keep, Replaced, rerun_action

DONE_STATES = frozenset(
    {
        InstanceState.ACCEPTED,
        InstanceState.EDITED,
        InstanceState.DRAWN,
        InstanceState.REJECTED,
    }
)

# a larger number, which a script may write, would leave no room for the next handles
_LARGEST_CHOSEN = MAX_HANDLE // 2


class ReadOnlyError(DeepPixelError):
    """The session may not be changed."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Applied:
    """What just happened to a session.

    Attributes
    ----------
    kind
        Whether something was done, taken back, or done again.
    action
        The action in the direction in which it was applied.
    joins
        As given to `AnnotationSession.apply`.
    """

    kind: Literal["do", "undo", "redo"]
    action: Action
    joins: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class SessionSnapshot:
    """All that a session holds but its history; cheap to take, nothing is copied.

    Attributes
    ----------
    instances
        Of each plane in their order, hidden and rejected ones too; handle 0 where one was never
        shown.
    regions
        Complete regions of each plane that has any.
    max_handle
        Largest handle that was ever given.
    """

    image_hw: tuple[int, int]
    categories: CategoryTable
    instances: Mapping[PlaneIndex, tuple[Instance, ...]]
    regions: Mapping[PlaneIndex, tuple[Outline, ...]]
    max_handle: int
    score: float
    min_area: int


class AnnotationSession:
    """The instances of one image: shown, hidden and rejected, plane by plane.

    Layers are views of it. Everything that changes it is an `Action` on one undo stack.

    Parameters
    ----------
    image_hw
        Size of a plane.
    categories
        Categories to begin with; those of each model that runs are added.

    Attributes
    ----------
    changed
        Signal: `Applied`, after each step that is done, undone or redone.
    visibility_changed
        Signal: plane index → instances that appeared or vanished with the score.
    categories_changed
        Signal: the new table.
    is_read_only
        While set, actions are refused; undo and redo, too.
    """

    # at once, so that the journal hears of a step before one that a listener takes in turn
    changed = Signal(object, reemission="immediate")
    visibility_changed = Signal(object, reemission="immediate")
    categories_changed = Signal(object, reemission="immediate")

    def __init__(self, image_hw: tuple[int, int], categories: CategoryTable) -> None:
        self.image_hw = image_hw
        self.is_read_only = False
        self.history = History()
        self._categories = categories
        self._score = 0.0
        self._min_area = 1
        self._planes: dict[PlaneIndex, PlaneRecord] = {}
        self._regions: dict[PlaneIndex, tuple[Outline, ...]] = {}
        self._sets: dict[tuple[PlaneIndex, bool], InstanceSet] = {}
        self._handles: dict[str, int] = {}
        self._owners: dict[int, tuple[PlaneIndex, str]] = {}
        self._max_handle = 0
        # numbers up to this one may have been given before the session was loaded
        self._max_unknown_handle = 0

    # -- what is there ------------------------------------------------------------------------

    @property
    def categories(self) -> CategoryTable:
        """Categories of all instances."""
        return self._categories

    @property
    def score(self) -> float:
        """Lowest score of a prediction to show."""
        return self._score

    @property
    def min_area(self) -> int:
        """Smallest prediction to show, in pixels."""
        return self._min_area

    @property
    def next_handle(self) -> int:
        """A handle that no instance ever had."""
        return self._max_handle + 1

    @property
    def plane_indices(self) -> list[PlaneIndex]:
        """Lead indices of the planes that hold instances, now or earlier."""
        return sorted(self._planes)

    @property
    def num_visible(self) -> int:
        """Instances shown on all planes."""
        return sum(record.num_shown for record in self._planes.values())

    def plane(self, index: PlaneIndex) -> InstanceSet:
        """Return all instances of a plane, hidden and rejected ones too.

        Handles of those that were never shown are made up for this set.
        """
        return self._set(index, shown_only=False)

    def visible(self, index: PlaneIndex) -> InstanceSet:
        """Return the instances of a plane to show, with their handles in the image.

        Predictions below the score or the smallest area are hidden, rejected instances never
        shown, all that a person confirmed or drew always.
        """
        return self._set(index, shown_only=True)

    def _set(self, index: PlaneIndex, *, shown_only: bool) -> InstanceSet:
        if (index, shown_only) not in self._sets:
            record = self._planes.get(index) or PlaneRecord()
            chosen = record.shown() if shown_only else record.instances()
            free = max((i.handle for i in chosen), default=0)
            numbered = []
            for instance in chosen:
                free += not instance.handle
                numbered.append(instance if instance.handle else replace(instance, handle=free))
            self._sets[index, shown_only] = InstanceSet.from_instances(
                numbered, image_hw=self.image_hw, categories=self._categories
            )
        return self._sets[index, shown_only]

    def shown_in(self, index: PlaneIndex, region_xyxy: Region) -> list[Instance]:
        """Return the visible instances that touch a region, lowest first, as they are drawn."""
        record = self._planes.get(index)
        if record is None:
            return []
        return self.in_drawing_order(index, record.shown_in(region_xyxy))

    def in_drawing_order(self, index: PlaneIndex, instances: Iterable[Instance]) -> list[Instance]:
        """Return instances of a plane, as they are or were, lowest first."""
        record = self._planes[index]
        return sorted(instances, key=lambda i: (*drawing_rank(i), record.place(i.uuid)))

    def get(self, index: PlaneIndex, uuid: str) -> Instance | None:
        """Return an instance, shown or not; None if it is not there."""
        record = self._planes.get(index)
        return None if record is None else record.get(uuid)

    def is_visible(self, index: PlaneIndex, uuid: str) -> bool:
        """Whether an instance is there and shown."""
        record = self._planes.get(index)
        return record is not None and record.is_shown(uuid)

    def find(self, handle: int) -> tuple[PlaneIndex, Instance] | None:
        """Return plane and instance of a handle; None if there is none now."""
        owner = self._owners.get(handle)
        instance = None if owner is None else self.get(*owner)
        return None if owner is None or instance is None else (owner[0], instance)

    def owner_of(self, handle: int) -> tuple[PlaneIndex, str] | None:
        """Return plane and uuid that a handle was given to, there now or not."""
        return self._owners.get(handle)

    def regions(self, index: PlaneIndex) -> tuple[Outline, ...]:
        """Return the complete regions of a plane: there, every object has been reviewed."""
        return self._regions.get(index, ())

    @property
    def region_planes(self) -> list[PlaneIndex]:
        """Planes that have complete regions."""
        return sorted(index for index, regions in self._regions.items() if regions)

    # -- visibility ---------------------------------------------------------------------------

    def set_visibility(self, *, score: float, min_area: int) -> None:
        """Show predictions from a score and an area in pixels on."""
        if (score, min_area) == (self._score, self._min_area):
            return
        self._score, self._min_area = score, min_area
        turned = {}
        for index, record in self._planes.items():
            instances = record.show_where(self.is_to_show)
            if instances:
                turned[index] = [self._numbered(index, i, record) for i in instances]
                self._sets.pop((index, True), None)
        self.visibility_changed.emit(turned)

    def is_to_show(self, instance: Instance) -> bool:
        """Whether an instance, as it is or was, is one to show at this score and area."""
        if instance.state is InstanceState.REJECTED:
            return False
        if instance.state is not InstanceState.UNREVIEWED:
            return True
        return not instance.score < self._score and instance.area >= self._min_area

    def _is_hidden(self, index: PlaneIndex, instance: Instance) -> bool:
        is_open = instance.state is InstanceState.UNREVIEWED
        return is_open and not self.is_visible(index, instance.uuid)

    def _numbered(self, index: PlaneIndex, instance: Instance, record: PlaneRecord) -> Instance:
        """Give a shown instance its handle: hidden ones get none, so that handles stay small."""
        if instance.handle or not record.is_shown(instance.uuid):
            return instance
        numbered = replace(instance, handle=self._handle(index, instance.uuid))
        record.put(numbered, is_shown=True)
        self._sets.pop((index, False), None)
        return numbered

    def _handle(self, index: PlaneIndex, uuid: str, wanted: int = 0) -> int:
        if uuid not in self._handles:
            self._handles[uuid] = wanted or self._max_handle + 1
        handle = self._handles[uuid]
        self._owners[handle] = (index, uuid)
        self._max_handle = max(self._max_handle, handle)
        return handle

    # -- doing and undoing --------------------------------------------------------------------

    def apply(self, action: Action, *, joins: str = "", keeps_levels: bool = False) -> bool:
        """Do an action; return whether it changed anything.

        Parameters
        ----------
        action
            Made from this session as it is now.
        joins
            Actions with the same text that follow each other are undone as one.
        keeps_levels
            The action was done before, elsewhere: its instances have the levels that they got then.

        Raises
        ------
        ReadOnlyError
            If the session may not be changed.
        """
        if not action:
            return False
        self._refuse_if_read_only()
        if not keeps_levels:
            action = with_levels(action, self._planes)
        action = self._take(action)
        self.history.push(action, joins=joins)
        self.changed.emit(Applied(kind="do", action=action, joins=joins))
        return True

    def undo(self) -> str:
        """Take the last step back; return its name, empty if there is none."""
        self._refuse_if_read_only()
        name = self.history.undo_name
        action = self.history.undo()
        if action is not None:
            self.changed.emit(Applied(kind="undo", action=self._take(action)))
        return name

    def redo(self) -> str:
        """Do the step again that was taken back last; return its name, empty if there is none."""
        self._refuse_if_read_only()
        name = self.history.redo_name
        action = self.history.redo()
        if action is not None:
            self.changed.emit(Applied(kind="redo", action=self._take(action)))
        return name

    def _refuse_if_read_only(self) -> None:
        if self.is_read_only:
            raise ReadOnlyError(
                "this image is open for editing in another window: close it there, or choose "
                "Edit here in the Review tab"
            )

    def _take(self, action: Action) -> Action:
        """Do an action; return it with the handles that its instances have."""
        taken = []
        for change in action.changes:
            record = self._planes.setdefault(change.index, PlaneRecord())
            before, after = record.get(change.uuid), None
            if change.after is None:
                record.remove(change.uuid)
            else:
                after = self._put(change.index, change.after, record)
            taken.append(replace(change, before=before, after=after))
            self._forget_sets(change.index)
        for region in action.regions:
            self._regions[region.index] = region.after
        return replace(action, changes=tuple(taken))

    def _put(self, index: PlaneIndex, instance: Instance, record: PlaneRecord) -> Instance:
        # it may come out of the history
        instance.mask.unpack()
        is_shown = self.is_to_show(instance)
        if is_shown or instance.uuid in self._handles:
            handle = self._handle(index, instance.uuid, instance.handle)
            if handle != instance.handle:
                instance = replace(instance, handle=handle)
        record.put(instance, is_shown=is_shown)
        return instance

    def _forget_sets(self, index: PlaneIndex) -> None:
        self._sets.pop((index, True), None)
        self._sets.pop((index, False), None)

    # -- what comes in ------------------------------------------------------------------------

    def add_predictions(
        self,
        index: PlaneIndex,
        predictions: InstanceSet,
        *,
        region_xyxy: Region | None = None,
        keep: Keep = Keep.HUMAN,
        joins: str = "",
    ) -> Replaced:
        """Put predictions in the place of a plane's unreviewed instances.

        Parameters
        ----------
        index
            Lead index of the plane.
        predictions
            All candidates, also those below the score.
        region_xyxy
            The part that the model saw: instances that do not lie wholly inside stay, and
            predictions of a part of one are left out.
        keep
            Which of the instances that are there stay.
        joins
            As for `apply`: the planes of one run are undone as one.
        """
        self._refuse_if_read_only()
        ids = self.join_categories(predictions.categories)
        present = self.plane(index)
        action, replaced = rerun_action(
            index,
            present,
            predictions.recategorised(self._categories, ids),
            region_xyxy=region_xyxy,
            keep=keep,
            hidden_uuids={i.uuid for i in present if self._is_hidden(index, i)},
        )
        self.apply(
            replace(action, changes=tuple(map(self._as_stored, action.changes))), joins=joins
        )
        return replaced

    def _as_stored(self, change: Change) -> Change:
        # `plane` makes handles up for candidates that were never shown
        before = None if change.before is None else self.get(change.index, change.uuid)
        after = change.after
        if after is not None:
            after = replace(after, handle=self._handles.get(after.uuid, 0))
        return replace(change, before=before, after=after)

    def add(self, index: PlaneIndex, instances: InstanceSet, *, name: str, joins: str = "") -> None:
        """Add instances of another session of the same planes, with their states and uuids."""
        self._refuse_if_read_only()
        ids = self.join_categories(instances.categories)
        moved = instances.recategorised(self._categories, ids)
        changes = [
            Change(
                index=index,
                before=self.get(index, instance.uuid),
                after=replace(instance, handle=self._handles.get(instance.uuid, 0)),
            )
            for instance in moved
        ]
        self.apply(Action(name=name, changes=tuple(changes)), joins=joins)

    def join_categories(self, categories: CategoryTable) -> dict[int, int]:
        """Add the categories of another table; return its category id → the id here."""
        table, new_ids = self._categories.joined_with(categories)
        if table != self._categories:
            self._categories = table
            self._sets.clear()
            self.categories_changed.emit(table)
        return new_ids

    def take_label_region(
        self,
        index: PlaneIndex,
        drawn: Sequence[Instance],
        seen: NDArray[Any],
        *,
        region_xyxy: Region,
        rule: OverlapRule = OverlapRule.TAKE,
        category_id: int | None = None,
        beside: Sequence[Instance] = (),
        brings_back: bool = False,
        joins: str = "",
    ) -> bool:
        """Take over what a person changed in a region of a label image, as one step.

        Parameters
        ----------
        index
            Lead index of the plane.
        drawn
            The instances that were drawn there, the last on top.
        seen
            The region (h, w) as it is now.
        region_xyxy
            Where it lies.
        rule
            What painting over another instance does to it.
        category_id
            Category of new instances; None: the first.
        beside
            Visible instances of the region that other label images show, the last on top: what
            is painted over them is subject to the rule, too.
        brings_back
            Whether the number of an instance that is gone means that instance (napari's own undo
            does that), not a new one.
        joins
            As for `apply`: a stroke through several planes is undone as one.

        Returns
        -------
        bool
            Whether anything changed.
        """
        edits = label_edits(
            drawn,
            seen,
            region_xyxy=region_xyxy,
            rule=rule,
            drawn_category_id=category_id or self._categories.categories[0].id,
            beside=beside,
        )
        changes = []
        # above all that the person chose: one of those may be the next handle, too
        chosen = [edit.handle for edit in edits if edit.handle <= _LARGEST_CHOSEN]
        free = count(max([self._max_handle, *chosen]) + 1)
        for edit in edits:
            if edit.before is not None:
                after = edit.after or erased(edit.before)
                changes.append(Change(index=index, before=edit.before, after=after))
            elif edit.after is not None:
                changes.append(
                    self._newly_drawn(index, edit.after, free=free, brings_back=brings_back)
                )
        return self.apply(Action(name=_stroke_name(changes), changes=tuple(changes)), joins=joins)

    def _newly_drawn(
        self, index: PlaneIndex, drawn: Instance, *, free: Iterator[int], brings_back: bool
    ) -> Change:
        owner = self._owners.get(drawn.handle)
        if owner is None and self._max_unknown_handle < drawn.handle <= _LARGEST_CHOSEN:
            return Change(index=index, before=None, after=drawn)
        before = None if owner is None or owner[0] != index else self.get(*owner)
        if before is not None and self.is_visible(index, before.uuid):
            # it lies outside the region, so it was not drawn there
            return Change(index=index, before=before, after=with_pixels_of(before, drawn.mask))
        if brings_back and owner is not None and owner[0] == index:
            back = before or self.history.last_known(owner[1])
            if back is not None:
                after = replace(back, mask=drawn.mask, state=edited_state(back))
                return Change(index=index, before=before, after=after)
        # a number that another plane's or a hidden instance has stays theirs; one that is too
        # large is none
        return Change(index=index, before=None, after=replace(drawn, handle=next(free)))

    def take_attributes(self, index: PlaneIndex, attributes: Mapping[int, tuple[str, str]]) -> bool:
        """Take over categories and states that a person set; return whether anything changed.

        Parameters
        ----------
        index
            Lead index of the plane.
        attributes
            Handle → (category name, state). Unknown names and states are left out.
        """
        ids = {category.name: category.id for category in self._categories.categories}
        states = {state.value: state for state in InstanceState}
        changes = []
        for handle, (name, state) in attributes.items():
            found = self.find(handle)
            if found is None or found[0] != index:
                continue
            before = found[1]
            category_id = ids.get(name, before.category_id)
            new_state = states.get(state, before.state)
            if category_id != before.category_id and new_state is before.state:
                new_state = edited_state(before)
            if (category_id, new_state) != (before.category_id, before.state):
                after = replace(before, category_id=category_id, state=new_state)
                changes.append(Change(index=index, before=before, after=after))
        return self.apply(Action(name="edit the table", changes=tuple(changes)))

    def set_regions(self, index: PlaneIndex, regions: Iterable[Outline], *, name: str) -> bool:
        """Set the complete regions of a plane; return whether that changed anything."""
        before, after = self.regions(index), tuple(regions)
        if before == after:
            return False
        change = RegionsChange(index=index, before=before, after=after)
        return self.apply(Action(name=name, regions=(change,)))

    # -- whole ---------------------------------------------------------------------------------

    def snapshot(self) -> SessionSnapshot:
        """Return all that the session holds now, but its history."""
        return SessionSnapshot(
            image_hw=self.image_hw,
            categories=self._categories,
            instances={index: tuple(record.instances()) for index, record in self._planes.items()},
            regions={index: self._regions[index] for index in self.region_planes},
            max_handle=self._max_handle,
            score=self._score,
            min_area=self._min_area,
        )

    @classmethod
    def from_snapshot(cls, snapshot: SessionSnapshot) -> "AnnotationSession":
        """Return a session as it was, with an empty history."""
        session = cls(snapshot.image_hw, snapshot.categories)
        session._score, session._min_area = snapshot.score, snapshot.min_area
        for index, instances in snapshot.instances.items():
            record = session._planes.setdefault(index, PlaneRecord())
            for instance in instances:
                if instance.handle:
                    session._handle(index, instance.uuid, instance.handle)
                session._put(index, instance, record)
        session._regions = dict(snapshot.regions)
        session._max_handle = max(session._max_handle, snapshot.max_handle)
        session._max_unknown_handle = session._max_handle
        return session

    def count_states(self) -> dict[InstanceState, int]:
        """Return how many instances are in each state; hidden candidates do not count."""
        counts = dict.fromkeys(InstanceState, 0)
        for record in self._planes.values():
            for instance in record.instances():
                if record.is_shown(instance.uuid) or instance.state is InstanceState.REJECTED:
                    counts[instance.state] += 1
        return counts


def erased(instance: Instance) -> Instance | None:
    """Return what is left of an instance that a person erased or deleted.

    What a model found stays as *rejected* with its mask, undrawn, so that the next run does not
    bring it back; what a person drew goes.
    """
    if np.isnan(instance.score):
        return None
    return replace(instance, state=InstanceState.REJECTED)


def _stroke_name(changes: Sequence[Change]) -> str:
    new = sum(change.before is None for change in changes)
    gone = sum(
        change.after is None or change.after.state is InstanceState.REJECTED for change in changes
    )
    if new:
        return "paint a new instance"
    return "erase an instance" if gone else "paint"
