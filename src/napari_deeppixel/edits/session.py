"""AnnotationSession: the truth about all instances of one image."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.geometry import boxes_touch_region
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import Instance, InstanceSet, InstanceState
from napari_deeppixel.edits.diff import label_edits

# two masks of one object (Lin et al. 2014, COCO: IoU 0.5 is a match)
_SAME_OBJECT_IOU = 0.5
# of the smaller mask, where the edge of a view may have cut it
_SAME_OBJECT_SHARE = 0.5


@dataclass(frozen=True, kw_only=True)
class Replaced:
    """What became of a plane when a model ran on it again.

    Attributes
    ----------
    kept
        Instances that a person had reviewed, edited or drawn.
    held_back
        Predictions that were left out because they show the same object as a kept one.
    """

    kept: int
    held_back: int


class AnnotationSession:
    """The instances of one image: shown, hidden and rejected, plane by plane.

    Layers are views of it: they show `visible` instances, and hand edits come back through
    `take_label_edits` and `take_attributes`.

    Parameters
    ----------
    image_hw
        Size of a plane.
    categories
        Categories to begin with; those of each model that runs are added.
    """

    def __init__(self, image_hw: tuple[int, int], categories: CategoryTable) -> None:
        self.image_hw = image_hw
        self.categories = categories
        self._score = 0.0
        self._min_area = 1
        self._planes: dict[PlaneIndex, InstanceSet] = {}
        self._visible: dict[PlaneIndex, InstanceSet] = {}
        self._handles: dict[str, int] = {}
        self._uuids: dict[int, str] = {}
        self._max_handle = 0

    @property
    def score(self) -> float:
        """Lowest score of a prediction to show."""
        return self._score

    @property
    def min_area(self) -> int:
        """Smallest prediction to show, in pixels."""
        return self._min_area

    def set_visibility(self, *, score: float, min_area: int) -> None:
        """Show predictions from a score and an area in pixels on."""
        self._score, self._min_area = score, min_area
        self._visible.clear()

    @property
    def plane_indices(self) -> list[PlaneIndex]:
        """Lead indices of the planes that hold instances."""
        return sorted(self._planes)

    def plane(self, index: PlaneIndex) -> InstanceSet:
        """Return all instances of a plane, hidden and rejected ones too."""
        return self._planes.get(index, InstanceSet.empty(self.image_hw, self.categories))

    def visible(self, index: PlaneIndex) -> InstanceSet:
        """Return the instances of a plane to show, with their handles in the image.

        Predictions below the score or the smallest area are hidden, rejected instances never
        shown, all that a person confirmed or drew always.
        """
        if index not in self._visible:
            self._visible[index] = self._choose_visible(self.plane(index))
        return self._visible[index]

    def _choose_visible(self, instances: InstanceSet) -> InstanceSet:
        states = np.array(instances.states, dtype=object)
        is_open = states == InstanceState.UNREVIEWED
        is_strong = ~(instances.scores < self._score) & (instances.areas >= self._min_area)
        shown = instances.select((~is_open | is_strong) & (states != InstanceState.REJECTED))
        handles = np.array([self._handle(uuid) for uuid in shown.uuids], np.int64)
        return replace(shown, handles=handles)

    def _handle(self, uuid: str) -> int:
        # a hidden candidate gets its handle when it is first shown, so that they stay small
        if uuid not in self._handles:
            self._max_handle += 1
            self._set_handle(uuid, self._max_handle)
        return self._handles[uuid]

    def _set_handle(self, uuid: str, handle: int) -> None:
        self._handles[uuid] = handle
        self._uuids[handle] = uuid
        self._max_handle = max(self._max_handle, handle)

    def add_predictions(
        self,
        index: PlaneIndex,
        predictions: InstanceSet,
        *,
        region_xyxy: tuple[int, int, int, int] | None = None,
    ) -> Replaced:
        """Put predictions in the place of a plane's unreviewed instances.

        Parameters
        ----------
        index
            Lead index of the plane.
        predictions
            All candidates, also those below the score.
        region_xyxy
            The part that the model saw: unreviewed instances that do not lie wholly inside stay,
            and predictions of a part of one are left out.
        """
        self._join_categories(predictions.categories)
        _, new_ids = self.categories.joined_with(predictions.categories)
        predictions = predictions.recategorised(self.categories, new_ids)
        present = self.plane(index)
        is_kept = np.array([s is not InstanceState.UNREVIEWED for s in present.states], np.bool_)
        kept, staying = present.select(is_kept), present.select(is_kept)
        if region_xyxy is not None:
            # an object that the region cuts is known better from the run that saw it whole
            staying = present.select(is_kept | ~self._lie_inside(present, region_xyxy))
        share = None if region_xyxy is None else _SAME_OBJECT_SHARE
        fresh = np.array(
            [not _is_among(p, kept) and not _is_among(p, staying, share) for p in predictions],
            np.bool_,
        )
        accepted = predictions.select(fresh)
        self._hand_on_handles(present, staying, accepted)
        joined = replace(accepted, handles=accepted.handles + int(staying.handles.max(initial=0)))
        self._planes[index] = InstanceSet.concatenate([staying, joined])
        self._visible.pop(index, None)
        reviewed = sum(state is not InstanceState.REJECTED for state in kept.states)
        return Replaced(kept=reviewed, held_back=len(predictions) - len(accepted))

    def _hand_on_handles(
        self, present: InstanceSet, staying: InstanceSet, accepted: InstanceSet
    ) -> None:
        """Give a prediction of an object that was shown before its handle, and so its colour."""
        stay = set(staying.uuids)
        gone = present.select([u not in stay and u in self._handles for u in present.uuids])
        taken: set[str] = set()
        for prediction in accepted:
            for i in np.flatnonzero(boxes_touch_region(gone.boxes_xyxy, prediction.box_xyxy)):
                uuid = gone.uuids[i]
                is_same = prediction.mask.iou(gone.masks[i]) >= _SAME_OBJECT_IOU
                if is_same and uuid not in taken:
                    taken.add(uuid)
                    self._set_handle(prediction.uuid, self._handles.pop(uuid))
                    break

    def _lie_inside(
        self, instances: InstanceSet, region_xyxy: tuple[int, int, int, int]
    ) -> NDArray[np.bool_]:
        """Return which instances (N,) the edge of a region inside the image does not touch."""
        height, width = self.image_hw
        x1, y1, x2, y2 = region_xyxy
        boxes = instances.boxes_xyxy
        inside: NDArray[np.bool_] = (
            (boxes[:, 0] >= x1 + (x1 > 0))
            & (boxes[:, 1] >= y1 + (y1 > 0))
            & (boxes[:, 2] <= x2 - (x2 < width))
            & (boxes[:, 3] <= y2 - (y2 < height))
        )
        return inside

    def adopt(self, index: PlaneIndex, instances: InstanceSet) -> None:
        """Add instances of another session of the same planes, with their states and uuids."""
        self._join_categories(instances.categories)
        _, new_ids = self.categories.joined_with(instances.categories)
        self._store(index, instances.recategorised(self.categories, new_ids))

    def _join_categories(self, categories: CategoryTable) -> None:
        table, _ = self.categories.joined_with(categories)
        if table == self.categories:
            return
        same_ids = {category.id: category.id for category in self.categories.categories}
        self.categories = table
        self._planes = {
            index: instances.recategorised(table, same_ids)
            for index, instances in self._planes.items()
        }
        self._visible.clear()

    def take_label_edits(
        self, index: PlaneIndex, drawn: InstanceSet, label_image: NDArray[Any]
    ) -> bool:
        """Take over what a person changed in a label image (H, W); return whether anything was.

        Parameters
        ----------
        index
            Lead index of the plane.
        drawn
            The visible instances that the label image was drawn from.
        label_image
            As it is now.
        """
        first_id = self.categories.categories[0].id
        edited = label_edits(drawn, label_image, drawn_category_id=first_id)
        for instance in edited:
            # a number that a hidden instance or one on another plane has already stays theirs: the
            # drawn instance gets a new one, and shows it when the plane is drawn again
            if self._uuids.get(instance.handle, instance.uuid) == instance.uuid:
                self._set_handle(instance.uuid, instance.handle)
        if edited:
            self._store(index, edited)
        return bool(edited)

    def take_attributes(self, index: PlaneIndex, attributes: Mapping[int, tuple[str, str]]) -> bool:
        """Take over categories and states that a person set; return whether anything changed.

        Parameters
        ----------
        index
            Lead index of the plane.
        attributes
            Handle → (category name, state). Unknown names and states are left out.
        """
        ids = {category.name: category.id for category in self.categories.categories}
        states = {state.value: state for state in InstanceState}
        changed = []
        for instance in self.visible(index):
            name, state = attributes.get(instance.handle, ("", ""))
            category_id = ids.get(name, instance.category_id)
            new_state = states.get(state, instance.state)
            if category_id != instance.category_id and new_state is instance.state:
                new_state = InstanceState.EDITED
            if (category_id, new_state) != (instance.category_id, instance.state):
                changed.append(replace(instance, category_id=category_id, state=new_state))
        if changed:
            self._store(index, changed)
        return bool(changed)

    def _store(self, index: PlaneIndex, changed: Iterable[Instance]) -> None:
        """Put instances in the place of those with their uuid, or at the end."""
        present = self.plane(index)
        by_uuid: dict[str, Instance] = {instance.uuid: instance for instance in present}
        by_uuid |= {instance.uuid: instance for instance in changed}
        numbered = [
            replace(instance, handle=number)
            for number, instance in enumerate(by_uuid.values(), start=1)
        ]
        self._planes[index] = present.with_instances(numbered)
        self._visible.pop(index, None)


def _is_among(prediction: Instance, kept: InstanceSet, share: float | None = None) -> bool:
    """Whether a prediction shows one of some instances, or that share of one."""
    near = np.flatnonzero(boxes_touch_region(kept.boxes_xyxy, prediction.box_xyxy))
    mask = prediction.mask
    if share is None:
        return any(mask.iou(kept.masks[i]) >= _SAME_OBJECT_IOU for i in near)
    return any(
        mask.intersection(kept.masks[i]) >= share * min(mask.area, kept.masks[i].area) for i in near
    )
