"""What can be wrong in an annotation document, and what of it can be mended without a loss."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.instance import InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.dataset.annotation_file import in_categories, planes_of
from napari_deeppixel.dataset.dataset_file import DatasetFile
from napari_deeppixel.dataset.fault import Fault, FaultKind
from napari_deeppixel.dataset.formats.base import Problem
from napari_deeppixel.dataset.formats.coco_rle import segmentation_to_mask
from napari_deeppixel.dataset.formats.hostile import plane_hw
from napari_deeppixel.dataset.image_entry import attributes_of, category_names

# what `mended` mends
MENDABLE = frozenset(
    {
        FaultKind.EMPTY_MASK,
        FaultKind.DUPLICATE_INSTANCE,
        FaultKind.DUPLICATE_IDENTITY,
        FaultKind.UNKNOWN_CATEGORY,
        FaultKind.STALE_CATEGORY,
    }
)
_DROPPED = (FaultKind.EMPTY_MASK, FaultKind.DUPLICATE_INSTANCE)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A fault of one annotation.

    Attributes
    ----------
    position
        Of the annotation in the document's list.
    kind, message, repair
        As in `Fault`.
    key
        The attribute that is wrong, if it is one: ``uuid`` or ``handle``.
    """

    position: int
    kind: FaultKind
    message: str
    repair: str = ""
    key: str = ""


def faults_of_document(
    document: dict[str, Any], content: DatasetFile, *, name: str, path: Path
) -> Iterator[Fault]:
    """Yield what is wrong with an annotation document of an image."""
    findings = find_in_annotations(document, content)
    for finding in findings:
        annotation = document["annotations"][finding.position]
        yield Fault(
            kind=finding.kind,
            image_id=name,
            entry=entry_name(annotation, finding.position),
            message=finding.message,
            repair=finding.repair,
        )
    yield from _faults_of_categories(document, content, name)
    problems: list[Problem] = []
    bare = _without_masks(document, {finding.position for finding in findings})
    try:
        planes_of(bare, content, name=name, path=path, on_problem=problems.append)
    except AnnotationError as error:
        message = str(error).removeprefix(f"{path}: ")
        yield Fault(kind=FaultKind.UNREADABLE, image_id=name, message=message)
    for problem in problems:
        yield Fault(
            kind=FaultKind.BAD_ENTRY,
            image_id=name,
            entry=problem.entry.removesuffix(f" of {name}"),
            message=problem.message,
        )


def entry_name(annotation: Any, position: int) -> str:
    """Return what people call an annotation."""
    if isinstance(annotation, dict) and "id" in annotation:
        return f"annotation {annotation['id']!r}"
    return f"annotation at place {position}"


def find_in_annotations(document: dict[str, Any], content: DatasetFile) -> list[Finding]:
    """Return what is wrong with the masks and identities in a document, in its order."""
    looker = _Looker(document)
    for position, annotation in enumerate(document["annotations"]):
        if isinstance(annotation, dict):
            looker.look_at(position, annotation)
    found = [*looker.findings, *_unknown_categories(document, content)]
    return sorted(found, key=lambda finding: finding.position)


class _Looker:
    def __init__(self, document: dict[str, Any]) -> None:
        self.findings: list[Finding] = []
        self._sizes = dict(_sizes(document))
        self._masks: dict[Any, tuple[int, bool]] = {}
        self._taken: set[Any] = set()

    def look_at(self, position: int, annotation: dict[str, Any]) -> None:
        image_id = annotation.get("image_id")
        size_hw = self._sizes.get(repr(image_id))
        # one of an image that is not there is told by the reader
        if size_hw is None:
            return
        self._look_at_identity(position, annotation)
        segmentation = annotation.get("segmentation")
        try:
            mask = segmentation_to_mask(segmentation or [], size_hw)
        except AnnotationError as error:
            self._add(position, FaultKind.BAD_MASK, f"{error}; draw it again")
            return
        if _reaches_outside(segmentation, size_hw):
            where = "and is cut at its border" if mask is not None else "altogether"
            self._add(position, FaultKind.OUTSIDE, f"it leaves the image {where}")
        elif mask is None and not segmentation and _is_box(annotation.get("bbox")):
            self._add(position, FaultKind.BOX_ALONE, "nothing is trained on it; draw its mask")
        elif mask is None:
            self._add(position, FaultKind.EMPTY_MASK, "no pixel is set", "take it out")
        if mask is not None:
            self._look_for_twin(position, annotation, mask)

    def _add(self, position: int, kind: FaultKind, message: str, repair: str = "") -> None:
        self.findings.append(Finding(position=position, kind=kind, message=message, repair=repair))

    def _look_at_identity(self, position: int, annotation: dict[str, Any]) -> None:
        attributes = attributes_of(annotation)
        for key, what in (("uuid", "uuid"), ("handle", "number")):
            value = attributes.get(key)
            if not isinstance(value, int | str):
                continue
            place = (repr(annotation.get("image_id")), key, value)
            if place in self._taken:
                self.findings.append(
                    Finding(
                        position=position,
                        kind=FaultKind.DUPLICATE_IDENTITY,
                        message=f"another instance has the {what} {value!r}, too",
                        repair=f"give it a new {what}",
                        key=key,
                    )
                )
            self._taken.add(place)

    def _look_for_twin(self, position: int, annotation: dict[str, Any], mask: CroppedMask) -> None:
        state = attributes_of(annotation).get("state", InstanceState.UNREVIEWED.value)
        place = (
            repr(annotation.get("image_id")),
            repr(annotation.get("category_id")),
            bool(annotation.get("iscrowd")),
            # a prediction that a person rejected stays, so that it does not come back
            state == InstanceState.REJECTED.value,
            mask.box_xyxy,
            np.packbits(mask.pixels).tobytes(),
        )
        is_human = state != InstanceState.UNREVIEWED.value
        if place not in self._masks:
            self._masks[place] = (position, is_human)
            return
        first, is_first_human = self._masks[place]
        # the one that a person looked at stays
        gone = first if is_human and not is_first_human else position
        if gone == first:
            self._masks[place] = (position, is_human)
        message = "another one of the category has exactly this mask"
        self._add(gone, FaultKind.DUPLICATE_INSTANCE, message, "take it out")


def _sizes(document: dict[str, Any]) -> Iterator[tuple[str, tuple[int, int]]]:
    for entry in document["images"]:
        if isinstance(entry, dict):
            try:
                size_hw = plane_hw(entry.get("height"), entry.get("width"))
            except AnnotationError:
                continue
            yield repr(entry.get("id")), size_hw


def _reaches_outside(segmentation: Any, size_hw: tuple[int, int]) -> bool:
    if not isinstance(segmentation, list):
        return False
    height, width = size_hw
    for polygon in segmentation:
        points = np.asarray(polygon, np.float64).ravel()
        if points.size < 2:
            continue
        x, y = points[0::2], points[1::2]
        if min(x.min(), y.min()) < 0 or x.max() > width or y.max() > height:
            return True
    return False


def _is_box(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 4
        and all(isinstance(each, int | float) for each in value)
        and value[2] > 0
        and value[3] > 0
    )


def _unknown_categories(document: dict[str, Any], content: DatasetFile) -> Iterator[Finding]:
    names = category_names(document)
    for position, annotation in enumerate(document["annotations"]):
        if not isinstance(annotation, dict):
            continue
        used = annotation.get("category_id")
        name = names.get(used) if isinstance(used, int | str) else None
        if content.resolve(used, name) is None:
            called = f" ({name})" if name else ""
            yield Finding(
                position=position,
                kind=FaultKind.UNKNOWN_CATEGORY,
                message=f"the dataset has no category {used!r}{called}",
                repair=f"add {name!r} to the dataset" if name and name.strip() else "",
            )


def _faults_of_categories(
    document: dict[str, Any], content: DatasetFile, name: str
) -> Iterator[Fault]:
    names = category_names(document)
    ids = [a.get("category_id") for a in _dicts(document["annotations"])]
    used = {category_id for category_id in ids if isinstance(category_id, int | str)}
    for old in (i for i in names if i in used):
        now = content.resolve(old, names[old])
        if now is None:
            continue
        category = content.categories.by_id(now)
        if (old, names[old]) != (now, category.name):
            yield Fault(
                kind=FaultKind.STALE_CATEGORY,
                image_id=name,
                entry=f"category {old!r}",
                message=f"{names[old]!r} is {category.name!r} now; it is read as that",
                repair="write the file anew",
            )


def _without_masks(document: dict[str, Any], left_out: set[int]) -> dict[str, Any]:
    """Return a document with masks of one pixel, which takes no time, and without some entries."""
    sizes = dict(_sizes(document))
    annotations = []
    for position, annotation in enumerate(document["annotations"]):
        size_hw = sizes.get(repr(annotation.get("image_id"))) if _is_dict(annotation) else None
        if position in left_out:
            continue
        if size_hw is not None:
            rest = size_hw[0] * size_hw[1] - 1
            counts = [0, 1, rest] if rest else [0, 1]
            mask = {"size": list(size_hw), "counts": counts}
            annotation = {**annotation, "segmentation": mask}
        annotations.append(annotation)
    return {**document, "annotations": annotations}


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict)


def mended(
    document: dict[str, Any], content: DatasetFile, kinds: frozenset[FaultKind]
) -> tuple[dict[str, Any], DatasetFile, list[str]]:
    """Return a document without faults of some kinds, the dataset's categories, and what was done.

    A document without such a fault comes back as it is.
    """
    findings = [f for f in find_in_annotations(document, content) if f.kind in kinds]
    done = [
        f"{entry_name(document['annotations'][f.position], f.position)}: {f.message}; {_past(f)}"
        for f in findings
        if f.repair
    ]
    renewed = [f for f in findings if f.kind is FaultKind.DUPLICATE_IDENTITY]
    dropped = {f.position for f in findings if f.kind in _DROPPED}
    changed = {**document, "annotations": _renewed(document["annotations"], renewed)}
    changed["annotations"] = [
        a for position, a in enumerate(changed["annotations"]) if position not in dropped
    ]
    if kinds & {FaultKind.UNKNOWN_CATEGORY, FaultKind.STALE_CATEGORY}:
        before = [(a.get("category_id")) for a in _dicts(changed["annotations"])]
        names = category_names(changed)
        changed, content = in_categories(changed, content)
        after = [a.get("category_id") for a in _dicts(changed["annotations"])]
        if before != after or names != category_names(changed):
            done.append("ids and names of categories written as they are now")
    return (changed, content, done) if done else (document, content, [])


def _past(finding: Finding) -> str:
    return {"take it out": "taken out"}.get(finding.repair, finding.repair)


def _dicts(values: Iterable[Any]) -> list[dict[str, Any]]:
    return [value for value in values if isinstance(value, dict)]


def _renewed(annotations: list[Any], findings: Iterable[Finding]) -> list[Any]:
    handles = [attributes_of(a).get("handle") for a in _dicts(annotations)]
    largest = max((h for h in handles if isinstance(h, int)), default=0)
    annotations = list(annotations)
    for finding in findings:
        annotation = annotations[finding.position]
        largest += finding.key == "handle"
        value = str(uuid4()) if finding.key == "uuid" else largest
        attributes = attributes_of(annotation) | {finding.key: value}
        annotations[finding.position] = {**annotation, "attributes": attributes}
    return annotations
