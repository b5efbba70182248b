"""What earlier windows left of an image, and how it joins what is there now."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.core.image import ImageArray, PlaneIndex
from napari_deeppixel.core.instance import InstanceState
from napari_deeppixel.edits.action import Action, RegionsChange
from napari_deeppixel.edits.journal_files import (
    JournalFolder,
    JournalLockedError,
    journal_folder,
)
from napari_deeppixel.edits.recovery import RecoveryReport, find_recovery, recover
from napari_deeppixel.edits.session import AnnotationSession


@dataclass(frozen=True, kw_only=True, eq=False)
class EarlierWork:
    """What the journal of an image holds.

    Attributes
    ----------
    folder
        Where it lies.
    session
        As it was.
    report
        How the journal was read.
    image_name
        Of the image then.
    """

    folder: Path
    session: AnnotationSession
    report: RecoveryReport
    image_name: str

    @property
    def is_by_person(self) -> bool:
        """Whether a person did anything, so that a run does not give the same again."""
        counts = self.session.count_states()
        open_count = counts[InstanceState.UNREVIEWED]
        return sum(counts.values()) > open_count or bool(self.session.region_planes)

    def summary(self) -> str:
        """Return what would come back, for people."""
        counts = {s: n for s, n in self.session.count_states().items() if n}
        total = sum(counts.values())
        parts = ", ".join(f"{n:,} {state.value}" for state, n in counts.items())
        when = self.report.last_written.strftime("%Y-%m-%d %H:%M")
        damage = f" {self.report.damage}" if self.report.damage else ""
        return (
            f"Earlier work on this image, last changed {when}: {total:,} instances "
            f"({parts}).{damage}"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Looked:
    """What a look into an image's folder gave; what was found there is offered one by one."""

    folder: Path
    earlier: tuple[EarlierWork, ...] = ()
    problem: str = ""
    is_locked: bool = False


def look(image: ImageArray) -> Looked:
    """Return what earlier windows left of an image: human work first, no more than can be read.

    Reads pixels and whole journals, which may take long: not for the GUI thread.
    """
    folder = journal_folder(image)
    found: list[EarlierWork | None] = []
    problem = ""
    try:
        found.append(_earlier_work(folder, image))
    except JournalLockedError as error:
        return Looked(folder=folder, problem=str(error), is_locked=True)
    except (DeepPixelError, OSError) as error:
        problem = str(error)
    # of windows that edited the image beside another one
    besides = sorted(folder.parent.glob(f"{folder.name}-*"))
    for beside in besides:
        with contextlib.suppress(DeepPixelError, OSError):
            found.append(_earlier_work(beside, image))
    found += [_set_aside_work(each, image) for each in (folder, *besides)]
    earlier = sorted((e for e in found if e is not None), key=lambda e: not e.is_by_person)
    return Looked(folder=folder, earlier=tuple(earlier), problem=problem)


def _set_aside_work(folder: Path, image: ImageArray) -> EarlierWork | None:
    """Return the newest of what was set aside in a folder that a person had to do with."""
    for aside in JournalFolder(path=folder).asides():
        with contextlib.suppress(DeepPixelError, OSError):
            work = _earlier_work(aside.path, image)
            if work is not None and work.is_by_person:
                return work
    return None


def _earlier_work(folder: Path, image: ImageArray) -> EarlierWork | None:
    summary = find_recovery(folder)
    if summary is None:
        return None
    session, report = recover(folder)
    if session.image_hw != image.image_hw:
        return None
    return EarlierWork(folder=folder, session=session, report=report, image_name=summary.image_name)


def add_work(session: AnnotationSession, earlier: AnnotationSession, *, joins: str) -> None:
    """Add what a person did in an earlier session, as one step; predictions give way to it."""
    name = "bring back earlier work"
    for index in sorted({*earlier.plane_indices, *earlier.region_planes}):
        instances = earlier.plane(index)
        human = instances.select([s is not InstanceState.UNREVIEWED for s in instances.states])
        session.add(index, human, name=name, joins=joins)
        before = session.regions(index)
        after = tuple(dict.fromkeys((*before, *earlier.regions(index))))
        if after != before:
            change = RegionsChange(index=index, before=before, after=after)
            session.apply(Action(name=name, regions=(change,)), joins=joins)
        present = session.plane(index)
        is_open = [state is InstanceState.UNREVIEWED for state in present.states]
        session.add_predictions(index, present.select(is_open), joins=joins)


def holds_all_of(session: AnnotationSession, earlier: AnnotationSession) -> bool:
    """Return whether a session has all that a person did in an earlier one."""
    return all(
        _human_ids(earlier, index) <= _human_ids(session, index)
        and set(earlier.regions(index)) <= set(session.regions(index))
        for index in {*earlier.plane_indices, *earlier.region_planes}
    )


def _human_ids(session: AnnotationSession, index: PlaneIndex) -> set[str]:
    instances = session.plane(index)
    pairs = zip(instances.uuids, instances.states, strict=True)
    return {uuid for uuid, state in pairs if state is not InstanceState.UNREVIEWED}
