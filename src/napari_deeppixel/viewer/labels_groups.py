"""Which Labels layers there are: one, one a category or one an instance."""

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum

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
        By group name, which is that of the layer until somebody renames it.
    is_frozen
        While set, no layer is added.
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
        self.views: dict[str, LabelsView] = {}
        self.is_frozen = False

    def __iter__(self) -> Iterator[LabelsView]:
        return iter(list(self.views.values()))

    def view_of(self, layer: object) -> LabelsView | None:
        """Return the view of a layer; None if that is none of these."""
        # events carry the layer itself, `is` would fail on napari's proxy
        return next((view for view in self if view.layer == layer), None)

    def drop(self, view: LabelsView) -> None:
        """Forget a view."""
        self.views = {name: each for name, each in self.views.items() if each is not view}

    @property
    def num_visible(self) -> int:
        """Instances shown on all planes."""
        session = self._session
        return sum(len(session.visible(index)) for index in session.plane_indices)

    @property
    def _is_single(self) -> bool:
        if self.mode is LabelsMode.ONE:
            return True
        count = self.num_visible
        return count == 0 or (self.mode is LabelsMode.BY_INSTANCE and count > MAX_INSTANCE_LAYERS)

    def add_missing(self, instances: Iterable[Instance]) -> None:
        """Add the layers that some instances belong in, where they are missing."""
        if self._is_single:
            self._add(self._name, lambda _: True, None)
            return
        for instance in instances:
            self._add_for(instance)

    def _add_for(self, instance: Instance) -> None:
        if self.mode is LabelsMode.BY_INSTANCE:
            handle = instance.handle
            self._add(f"{self._name}: {handle}", lambda i: i.handle == handle, None)
            return
        category_id = instance.category_id
        name = self._session.categories.name_of(category_id)
        self._add(f"{self._name}: {name}", lambda i: i.category_id == category_id, category_id)

    def _add(
        self, name: str, is_member: Callable[[Instance], bool], category_id: int | None
    ) -> None:
        if name in self.views or self.is_frozen or not self._planes.is_open:
            return
        data = np.zeros(self._planes.layer_shape(), label_dtype(self._session.next_handle - 1))
        layer = Labels(data, name=name, opacity=0.5, **self._planes.placement())
        view = LabelsView(
            layer, self._session, self._planes, is_member, name=name, category_id=category_id
        )
        view.fill()
        self.views[name] = view
        self._insert(view)

    def add_like(self, view: LabelsView) -> None:
        """Add a layer for what a view that was dropped showed."""
        self._add(view.name, view.is_member, view.category_id)

    def unused(self) -> list[LabelsView]:
        """Return the views that this mode does not need."""
        session, is_single = self._session, self._is_single
        sets = [session.visible(index) for index in session.plane_indices]
        return [
            view
            for name, view in self.views.items()
            if (name == self._name) != is_single
            or not (is_single or any(view.is_member(i) for each in sets for i in each))
        ]
