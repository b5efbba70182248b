"""Changes of one tool, gathered until they are one action, and what they cost the neighbours."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import Instance, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.edits.action import Action, Change
from napari_deeppixel.edits.diff import OverlapRule, draw_region, edited_state
from napari_deeppixel.edits.plane import PlaneRecord
from napari_deeppixel.edits.reshape import difference, intersection_mask, union_of, with_pixels
from napari_deeppixel.edits.session import AnnotationSession, erased

# plane and uuid of an instance
InstanceRef: TypeAlias = tuple[PlaneIndex, str]


class EditError(DeepPixelError):
    """A tool cannot do what the person asked for."""


class Draft:
    """What a session would hold after some changes; the session itself stays as it is.

    Parameters
    ----------
    session
        The session, which must not change while there is a draft of it.
    targets
        Instances that the tool is about. Whatever the overlap rule, none takes a pixel from
        another: what each one gets would hang on their order.
    """

    def __init__(self, session: AnnotationSession, targets: Iterable[InstanceRef] = ()) -> None:
        self._session = session
        self._targets = set(targets)
        self._after: dict[InstanceRef, Instance | None] = {}
        # the same by place: a tool may change a thousand instances, each near a few
        self._near: dict[PlaneIndex, PlaneRecord] = defaultdict(PlaneRecord)

    def get(self, index: PlaneIndex, uuid: str) -> Instance | None:
        """Return an instance as it would be; None if it would not be there."""
        ref = (index, uuid)
        return self._after[ref] if ref in self._after else self._session.get(index, uuid)

    def put(self, index: PlaneIndex, instance: Instance) -> None:
        """Add an instance, or put it in the place of the one with its uuid."""
        self._after[index, instance.uuid] = instance
        is_shown = instance.state is not InstanceState.REJECTED
        self._near[index].put(instance, is_shown=is_shown)

    def remove(self, index: PlaneIndex, uuid: str) -> None:
        """Take an instance away."""
        if self._after.get((index, uuid)) is not None:
            self._near[index].remove(uuid)
        self._after[index, uuid] = None

    def reshape(
        self,
        index: PlaneIndex,
        instance: Instance,
        *,
        rule: OverlapRule,
        claimed: CroppedMask | None = None,
    ) -> bool:
        """Put an instance with a new mask, as far as a rule lets it; return if that changed any.

        Parameters
        ----------
        index
            Lead index of the plane.
        instance
            The instance with the mask that it is to have. If the rule leaves no pixel of it,
            nothing changes.
        rule
            What becomes of pixels that other visible instances have. Pixels that the instance
            had before are not touched. An instance loses only pixels that were seen to be its
            own, not those that lie under another one; what loses the last follows
            `session.erased`.
        claimed
            Which of the mask's pixels the rule is about; None: those that it did not have.
        """
        before, mask = self.get(index, instance.uuid), instance.mask
        if claimed is None:
            claimed = mask if before is None else difference(mask, before.mask)
        has_taken = False
        if claimed is not None and rule is not OverlapRule.OVERLAP:
            barred = self._barred(index, instance.uuid, claimed=claimed, rule=rule)
            left = with_pixels(mask, removed=barred)
            free = with_pixels(claimed, removed=barred)
            if left is None:
                return False
            mask = left
            if rule is OverlapRule.TAKE and free is not None:
                has_taken = self._take_visible(index, free, taker=instance.uuid)
        if before is not None and mask.equals(before.mask):
            return has_taken
        self._targets.add((index, instance.uuid))
        self.put(index, replace(instance, mask=mask))
        return True

    def _barred(
        self, index: PlaneIndex, uuid: str, *, claimed: CroppedMask, rule: OverlapRule
    ) -> CroppedMask | None:
        """Return which claimed pixels others hold on to."""
        walls = [
            other.mask
            for other in self._others(index, uuid, near=claimed)
            if rule is OverlapRule.KEEP or (index, other.uuid) in self._targets
        ]
        barred = intersection_mask(claimed, union_of(walls)) if walls else None
        before = self.get(index, uuid)
        return barred if barred is None or before is None else difference(barred, before.mask)

    def _others(self, index: PlaneIndex, uuid: str, *, near: CroppedMask) -> list[Instance]:
        """Return the instances near a mask that would be visible, without one of them."""
        stored = self._session.shown_in(index, near.box_xyxy)
        same = [instance for instance in stored if (index, instance.uuid) not in self._after]
        changed = self._near[index].shown_in(near.box_xyxy)
        return [instance for instance in (*same, *changed) if instance.uuid != uuid]

    def _take_visible(self, index: PlaneIndex, pixels: CroppedMask, *, taker: str) -> bool:
        """Take pixels from the instances that a person sees there; return if any lost one."""
        region_xyxy = pixels.box_xyxy
        shown = self._session.shown_in(index, region_xyxy)
        if all(instance.uuid == taker for instance in shown):
            return False
        # by their place: a new instance has no handle yet
        numbered = [replace(instance, handle=n) for n, instance in enumerate(shown, start=1)]
        image = draw_region(numbered, region_xyxy, np.dtype(np.int32))
        lost = np.where(pixels.pixels, image, 0)
        has_taken = False
        for number in np.unique(lost[lost > 0]).tolist():
            seen = shown[number - 1]
            now = self.get(index, seen.uuid)
            if seen.uuid == taker or now is None or now.state is InstanceState.REJECTED:
                continue
            taken = CroppedMask.from_mask(lost == number, y=pixels.y, x=pixels.x)
            mask = with_pixels(now.mask, removed=taken)
            # rejected with the mask that the model found, so that a new run knows the object again
            left = replace(now, mask=mask, state=edited_state(now)) if mask else erased(seen)
            if left is None:
                self.remove(index, seen.uuid)
            else:
                self.put(index, left)
            has_taken = True
        return has_taken

    def action(self, name: str) -> Action:
        """Return all changes as one action."""
        changes = []
        for (index, uuid), after in self._after.items():
            before = self._session.get(index, uuid)
            if before is not after:
                changes.append(Change(index=index, before=before, after=after))
        return Action(name=name, changes=tuple(changes))


def visible_of(
    session: AnnotationSession, refs: Iterable[InstanceRef]
) -> dict[InstanceRef, Instance]:
    """Return the instances of a selection that are shown, each once, in its order."""
    found = {(index, uuid): session.get(index, uuid) for index, uuid in refs}
    return {
        ref: instance
        for ref, instance in found.items()
        if instance is not None and session.is_visible(*ref)
    }


def counted(count: int) -> str:
    """Return a number of instances in words for the undo list."""
    return "an instance" if count == 1 else f"{count or 'no'} instances"
