"""What predictions are compared with, and the predictions, in one table of categories."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.geometry import Boxes, boxes_xyxy_to_xywh
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.core.words import counted
from napari_deeppixel.training.samples import Sample

# what formats without categories call everything
ANY_CATEGORY = "object"
_MOST_NAMES = 5


@dataclass(frozen=True, kw_only=True)
class Maskless:
    """An annotated object without a pixel, which only COCO's figures count.

    Attributes
    ----------
    category_id
        Its category.
    box_xywh
        As the data give it; None: not given.
    area
        In pixels, likewise; that of the box if it is not given.
    is_crowd
        Whether it is a group of objects.
    is_empty
        Whether there is a mask, though without a pixel; else there is a box alone.
    """

    category_id: int
    box_xywh: tuple[float, ...] | None
    area: float
    is_crowd: bool
    is_empty: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """What is known of one image.

    Attributes
    ----------
    file_name, plane
        The image, as the data name it.
    instances
        The objects.
    crowds
        Groups of objects that nobody told apart (COCO's ``iscrowd``).
    ignored
        Where nobody knows what is there; None: nowhere.
    appearance
        Which images look alike; empty: not looked at.
    path
        The image file; None if it is missing.
    boxes_xywh, areas
        float64 (N, 4) and (N,): as the data give them, where they are not those of the masks.
    crowd_boxes_xywh, crowd_areas
        Likewise.
    maskless
        Objects without a pixel; they are not among `instances`.
    """

    file_name: str
    plane: PlaneIndex = ()
    instances: InstanceSet
    crowds: InstanceSet
    ignored: CroppedMask | None = None
    appearance: str = ""
    path: Path | None = None
    boxes_xywh: Boxes = field(default_factory=lambda: np.zeros((0, 4)))
    areas: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    crowd_boxes_xywh: Boxes = field(default_factory=lambda: np.zeros((0, 4)))
    crowd_areas: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    maskless: tuple[Maskless, ...] = ()

    def __post_init__(self) -> None:
        for instances, boxes, areas in (
            (self.instances, "boxes_xywh", "areas"),
            (self.crowds, "crowd_boxes_xywh", "crowd_areas"),
        ):
            if len(getattr(self, boxes)) != len(instances):
                object.__setattr__(self, boxes, boxes_xyxy_to_xywh(instances.boxes_xyxy))
            if len(getattr(self, areas)) != len(instances):
                object.__setattr__(self, areas, instances.areas.astype(np.float64))

    @property
    def num_boxes_alone(self) -> int:
        """How many objects have a box and no mask."""
        return sum(not each.is_crowd and not each.is_empty for each in self.maskless)

    @property
    def num_objects(self) -> int:
        """How many objects there are to find: masks, and boxes without one."""
        return len(self.instances) + self.num_boxes_alone


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """What was found in one image.

    Attributes
    ----------
    instances
        The predictions; one without a score counts as sure.
    has_mask
        bool (N,): whether there is a mask, or its box alone (the mask then fills the box).
        Default: all have one.
    is_empty
        bool (N,): predictions whose mask has no pixel, of those without one. COCO counts them as
        wrong; in a label image they are nothing. Default: none.
    boxes_xywh
        float64 (N, 4): boxes as a file gives them; x + w - x is not always w, which moves a box
        over the edge of COCO's size ranges. Default: `boxes_xyxy`.
    """

    instances: InstanceSet
    has_mask: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    is_empty: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    boxes_xywh: Boxes = field(default_factory=lambda: np.zeros((0, 4)))

    def __post_init__(self) -> None:
        if len(self.has_mask) != len(self.instances):
            object.__setattr__(self, "has_mask", np.ones(len(self.instances), np.bool_))
        if len(self.is_empty) != len(self.instances):
            object.__setattr__(self, "is_empty", np.zeros(len(self.instances), np.bool_))
        scores = self.instances.scores
        if np.isnan(scores).any():
            sure = replace(self.instances, scores=np.where(np.isnan(scores), 1.0, scores))
            object.__setattr__(self, "instances", sure)
        if len(self.boxes_xywh) != len(self.instances):
            object.__setattr__(self, "boxes_xywh", boxes_xyxy_to_xywh(self.boxes_xyxy))

    @property
    def boxes_xyxy(self) -> Boxes:
        """Boxes (N, 4): as they were predicted, where that is known, or tight round the mask."""
        predicted = self.instances.predicted_boxes_xyxy
        boxes: Boxes = np.where(self.has_box[:, None], predicted, self.instances.boxes_xyxy)
        return boxes

    @property
    def has_box(self) -> NDArray[np.bool_]:
        """Bool (N,): whether a box was predicted, or only a mask."""
        is_known = np.isfinite(self.instances.predicted_boxes_xyxy)
        has_box: NDArray[np.bool_] = np.logical_and.reduce(is_known, axis=1)
        return has_box

    @property
    def is_box_alone(self) -> NDArray[np.bool_]:
        """Bool (N,): whether there is a box, and no word of a mask."""
        return ~self.has_mask & ~self.is_empty

    @property
    def masks(self) -> InstanceSet:
        """Those with a mask."""
        return self.instances.select(self.has_mask)

    def select(self, which: NDArray[np.bool_]) -> "Found":
        """Return some of the predictions."""
        return Found(
            instances=self.instances.select(which),
            has_mask=self.has_mask[which],
            is_empty=self.is_empty[which],
            boxes_xywh=self.boxes_xywh[which],
        )


def truth_of(sample: "Sample | Truth") -> Truth:
    """Return what is known of a sample."""
    if isinstance(sample, Truth):
        return sample
    instances = sample.instances
    return Truth(
        file_name=sample.file_name or sample.path.name,
        plane=sample.plane,
        instances=instances,
        crowds=InstanceSet.empty(instances.image_hw, instances.categories),
        ignored=sample.ignored,
        appearance=sample.appearance,
        path=sample.path,
    )


def found_of(prediction: "InstanceSet | Found") -> Found:
    """Return predictions as those that are compared."""
    return prediction if isinstance(prediction, Found) else Found(instances=prediction)


def in_one_table(
    truths: Sequence[Truth], founds: Sequence[Found]
) -> tuple[list[Truth], list[Found], list[str]]:
    """Return truths and predictions in the truths' categories, and notes about the differences.

    Categories of one name are one, whatever their ids. Where the truth has a single category that
    the predictions do not know, and they have but one, too, both are taken for the same. Other
    predictions of categories that the truth does not have are left out: nobody annotated those.
    """
    table = joined_table(truth.instances.categories for truth in truths)
    found_table = joined_table(found.instances.categories for found in founds)
    new_ids, notes = _ids_in(table, found_table)
    chosen: list[Found] = []
    num_left_out = 0
    for found in founds:
        of_name = {
            category.id: new_ids[category.name]
            for category in found.instances.categories.categories
            if category.name in new_ids
        }
        is_known = np.isin(found.instances.category_ids, list(of_name))
        num_left_out += int((~is_known).sum())
        kept = found if is_known.all() else found.select(is_known)
        chosen.append(replace(kept, instances=kept.instances.recategorised(table, of_name)))
    if num_left_out:
        unknown = [c.name for c in found_table.categories if c.name not in new_ids]
        notes.append(
            f"left out: {counted(num_left_out, 'prediction')} of categories that the data do not "
            f"have ({_some(unknown)})"
        )
    return [_in_table(truth, table) for truth in truths], chosen, notes


def joined_table(tables: Iterable[CategoryTable]) -> CategoryTable:
    """Return one table with the categories of all, by name."""
    joined = CategoryTable(categories=())
    for table in dict.fromkeys(tables):
        joined = joined.joined_with(table)[0] if len(joined) else table
    return joined


def _ids_in(table: CategoryTable, found: CategoryTable) -> tuple[dict[str, int], list[str]]:
    """Return name of a predicted category → id in the truth's table, and notes."""
    ids = {category.name: category.id for category in table.categories}
    names = [category.name for category in found.categories]
    common = {name: ids[name] for name in names if name in ids}
    notes = []
    is_alone = len(ids) == 1 and not common
    if is_alone and (len(names) == 1 or ANY_CATEGORY in ids):
        (name, category_id), *_ = ids.items()
        if names:
            notes.append(
                f"the data call everything {name!r}, the predictions {_some(names)}: they are "
                "taken for the same, so categories are not compared"
            )
        return dict.fromkeys(names, category_id), notes
    unknown = [name for name in ids if name not in common]
    if names and unknown:
        notes.append(
            f"the predictions know no {_some(unknown)}: what the data have of it counts as missed"
        )
    return common, notes


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(repr(name) for name in names[:_MOST_NAMES]) + more


def _in_table(truth: Truth, table: CategoryTable) -> Truth:
    if truth.instances.categories == table:
        return truth
    ids = {category.name: category.id for category in table.categories}
    new_ids = {c.id: ids[c.name] for c in truth.instances.categories.categories}
    return replace(
        truth,
        instances=truth.instances.recategorised(table, new_ids),
        crowds=truth.crowds.recategorised(table, new_ids),
        maskless=tuple(
            replace(each, category_id=new_ids[each.category_id]) for each in truth.maskless
        ),
    )
