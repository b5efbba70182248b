"""What one step of work changes: pure values that can be turned round."""

from dataclasses import dataclass, replace

from napari_deeppixel.core.geometry import Outline
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import Instance


@dataclass(frozen=True, kw_only=True, eq=False)
class Change:
    """One instance of a plane before and after a step.

    Attributes
    ----------
    index
        Lead index of the plane.
    before, after
        The instance; None where it is not there. Both have the same uuid.

    Raises
    ------
    ValueError
        If neither is there, or their uuids differ.
    """

    index: PlaneIndex
    before: Instance | None
    after: Instance | None

    def __post_init__(self) -> None:
        before, after = self.before, self.after
        if before is None and after is None:
            raise ValueError("a change needs the instance before or after it, got neither")
        if before is not None and after is not None and before.uuid != after.uuid:
            uuids = sorted((before.uuid, after.uuid))
            raise ValueError(f"a change is about one instance, got uuids {uuids}")

    @property
    def uuid(self) -> str:
        """Identity of the instance."""
        one = self.after or self.before
        assert one is not None  # __post_init__ has seen to it
        return one.uuid

    def inverse(self) -> "Change":
        """Return the change that takes this one back."""
        # not `replace`, which takes twice as long; a run makes 10,000
        return Change(index=self.index, before=self.after, after=self.before)


@dataclass(frozen=True, kw_only=True)
class RegionsChange:
    """The complete regions of a plane before and after a step."""

    index: PlaneIndex
    before: tuple[Outline, ...]
    after: tuple[Outline, ...]

    def inverse(self) -> "RegionsChange":
        """Return the change that takes this one back."""
        return replace(self, before=self.after, after=self.before)


@dataclass(frozen=True, kw_only=True, eq=False)
class Action:
    """One step of work, as a person would count it.

    Attributes
    ----------
    name
        What was done, for people: "split 2 instances".
    changes
        What became of each instance that it touched; an instance comes up once.
    regions
        What became of complete regions; a plane comes up once.
    """

    name: str
    changes: tuple[Change, ...] = ()
    regions: tuple[RegionsChange, ...] = ()

    def __bool__(self) -> bool:
        """Whether it changes anything."""
        return bool(self.changes or self.regions)

    def inverse(self) -> "Action":
        """Return the action that takes this one back."""
        return replace(
            self,
            changes=tuple(change.inverse() for change in reversed(self.changes)),
            regions=tuple(change.inverse() for change in reversed(self.regions)),
        )

    def then(self, later: "Action") -> "Action":
        """Return one action that does this one and then another, under this one's name."""
        changes = {(c.index, c.uuid): c for c in self.changes}
        for change in later.changes:
            first = changes.get((change.index, change.uuid))
            if first is None:
                changes[change.index, change.uuid] = change
            elif first.before is None and change.after is None:
                del changes[change.index, change.uuid]
            else:
                changes[change.index, change.uuid] = replace(first, after=change.after)
        regions = {c.index: c for c in self.regions}
        for region in later.regions:
            known = regions.get(region.index)
            regions[region.index] = replace(known, after=region.after) if known else region
        return replace(self, changes=tuple(changes.values()), regions=tuple(regions.values()))
