"""Which Labels layers there are: one, one a category or one an instance."""

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import TypeAlias

import numpy as np
from napari.layers import Labels

from napari_deeppixel.core.instance import Instance, label_dtype
from napari_deeppixel.edits.session import AnnotationSession
from napari_deeppixel.viewer.labels_view import LabelsView
from napari_deeppixel.viewer.plane_map import PlaneMap

# napari takes about 0.2 s to add each layer
MAX_INSTANCE_LAYERS = 25


class LabelsMode(StrEnum):
    """How instances are spread over Labels layers."""

    ONE = "one Labels layer"
    BY_CATEGORY = "one per category"
    BY_INSTANCE = "one per instance"


Group: TypeAlias = tuple[LabelsMode, int]


class LabelsGroups:
    """The Labels layers of an image.

    Parameters
    ----------
    name
        What their names begin with.
    session
        The instances.
    planes
        Which plane is where.
    insert
        Puts a layer into the viewer; called when the view of it is in `views`.

    Attributes
    ----------
    mode
        How instances are spread; `redraw` of the owner follows it.
    views
        By group: the mode and, unless there is one layer, the category id or the number.
    """

    def __init__(
        self,
        name: str,
        session: AnnotationSession,
        planes: PlaneMap,
        insert: Callable[[LabelsView], None],
    ) -> None:
        self._name, self._session, self._planes, self._insert = name, session, planes, insert
        self.mode = LabelsMode.ONE
        self.views: dict[Group, LabelsView] = {}

    def __iter__(self) -> Iterator[LabelsView]:
        return iter(list(self.views.values()))

    def view_of(self, layer: object) -> LabelsView | None:
        """Return the view of a layer; None if that is none of these."""
        # events carry the layer itself, `is` would fail on napari's proxy
        return next((view for view in self if view.layer == layer), None)

    def drop(self, view: LabelsView) -> None:
        """Forget a view."""
        self.views = {group: each for group, each in self.views.items() if each is not view}

    @property
    def num_visible(self) -> int:
        """Instances shown on all planes."""
        return self._session.num_visible

    @property
    def _kind(self) -> LabelsMode:
        """The mode that can be: one layer where there is nothing to spread, or far too much."""
        count = self.num_visible
        is_much = self.mode is LabelsMode.BY_INSTANCE and count > MAX_INSTANCE_LAYERS
        return LabelsMode.ONE if count == 0 or is_much else self.mode

    def add_missing(self, instances: Iterable[Instance]) -> None:
        """Add the layers that some instances belong in, where they are missing."""
        kind = self._kind
        if kind is LabelsMode.ONE:
            self._add((kind, 0))
            return
        for instance in instances:
            is_by_category = kind is LabelsMode.BY_CATEGORY
            self._add((kind, instance.category_id if is_by_category else instance.handle))

    def _add(self, group: Group) -> None:
        if group in self.views or not self._planes.is_open:
            return
        data = np.zeros(self._planes.layer_shape(), label_dtype(self._session.next_handle - 1))
        name = self._name_of(group)
        layer = Labels(data, name=name, opacity=0.5, **self._planes.placement())
        kind, number = group
        view = LabelsView(
            layer,
            self._session,
            self._planes,
            _membership(group),
            category_id=number if kind is LabelsMode.BY_CATEGORY else None,
        )
        view.fill()
        self.views[group] = view
        self._insert(view)

    def _name_of(self, group: Group) -> str:
        kind, number = group
        if kind is LabelsMode.ONE:
            return self._name
        is_by_category = kind is LabelsMode.BY_CATEGORY
        name = self._session.categories.name_of(number) if is_by_category else number
        return f"{self._name}: {name}"

    def renew(self, view: LabelsView) -> None:
        """Put a new layer, drawn from the session, in the place of a view's."""
        group = next(group for group, each in self.views.items() if each is view)
        self.drop(view)
        self._add(group)

    def unused(self) -> list[LabelsView]:
        """Return the views that this mode does not need."""
        session, now = self._session, self._kind
        sets = [session.visible(index) for index in session.plane_indices]
        return [
            view
            for (kind, _), view in self.views.items()
            if kind is not now
            or not (
                kind is LabelsMode.ONE
                or any(view.is_member(instance) for each in sets for instance in each)
            )
        ]


def _membership(group: Group) -> Callable[[Instance], bool]:
    kind, number = group
    if kind is LabelsMode.BY_CATEGORY:
        return lambda instance: instance.category_id == number
    if kind is LabelsMode.BY_INSTANCE:
        return lambda instance: instance.handle == number
    return lambda _: True
