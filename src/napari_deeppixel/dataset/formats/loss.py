"""What a format would lose of some images, worked out before anything is written."""

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import euler_number

from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask, union_mask
from napari_deeppixel.dataset.annotated import AnnotatedImage, AnnotatedImages, ImageState
from napari_deeppixel.dataset.formats.base import Format, Holds

# parts touch at corners, holes at edges: the usual pair, so that both can be counted at once
_CORNERS_TOUCH = np.ones((3, 3), np.bool_)


@dataclass(frozen=True, kw_only=True)
class LossReport:
    """What would be lost.

    Attributes
    ----------
    format_title
        Of the format.
    num_images, num_instances
        What was looked at.
    instances_changed
        Instances whose mask reads back otherwise, those that are lost included.
    lowest_iou
        Of an instance's mask with what comes back of it, 0 to 1; 1 if none changes.
    instances_lost
        Instances that are not in the file at all.
    instances_split
        Instances that come back as several objects.
    holes_lost, parts_lost
        Instances that lose a hole, or a part.
    overlaps_lost
        Instances that lose pixels to another one that lies over them.
    renumbered
        Instances whose number is beyond the format's range.
    rejected
        Instances that a person rejected, which are left out; they are in no other count.
    lost
        What else the images hold and the format cannot → in how many instances or images.
    """

    format_title: str
    num_images: int = 0
    num_instances: int = 0
    instances_changed: int = 0
    lowest_iou: float = 1.0
    instances_lost: int = 0
    instances_split: int = 0
    holes_lost: int = 0
    parts_lost: int = 0
    overlaps_lost: int = 0
    renumbered: int = 0
    rejected: int = 0
    lost: dict[str, int] = field(default_factory=dict)

    @property
    def is_lossless(self) -> bool:
        """Whether all comes back as it was."""
        counts = (self.instances_changed, self.instances_split, self.renumbered, self.rejected)
        return not (any(counts) or self.lost)

    def lines(self) -> list[str]:
        """Return what is lost, a sentence each, for people; empty if nothing is."""
        said = [
            (self.instances_lost, "instances are lost altogether"),
            (self.instances_split, "instances come back as several objects"),
            (self.holes_lost, "instances lose a hole"),
            (self.parts_lost, "instances lose a part"),
            (self.overlaps_lost, "instances lose what lies under another one"),
            (self.renumbered, "instances get another number: theirs is too large"),
            (self.rejected, "instances that were rejected are left out"),
        ]
        lines = [f"{count:,} {what}" for count, what in said if count]
        if self.instances_changed:
            lines.insert(
                0,
                f"{self.instances_changed:,} of {self.num_instances:,} instances change their "
                f"pixels (lowest IoU {self.lowest_iou:.3f})",
            )
        return lines + [f"no {what} ({count:,} have some)" for what, count in self.lost.items()]


class LossMeter:
    """Works out what a format would lose, image by image: each is encoded and decoded in memory.

    Parameters
    ----------
    exchange_format
        The format.
    """

    def __init__(self, exchange_format: Format) -> None:
        self._format = exchange_format
        self._counts = {
            each.name: 0
            for each in fields(LossReport)
            if each.name not in ("format_title", "lowest_iou", "lost")
        }
        self._lowest_iou = 1.0
        self._lost: dict[str, int] = {}

    @property
    def report(self) -> LossReport:
        """What would be lost of the images so far."""
        values: dict[str, Any] = dict(self._counts)
        return LossReport(
            format_title=self._format.title,
            lowest_iou=self._lowest_iou,
            lost=dict(self._lost),
            **values,
        )

    def add_rejected(self, count: int) -> None:
        """Count instances that are left out because a person rejected them."""
        self._counts["rejected"] += count

    def add(self, image: AnnotatedImage) -> None:
        """Look at an image."""
        self._counts["num_images"] += 1
        self._counts["num_instances"] += len(image.instances)
        for what, count in _held(image).items():
            if count and what not in self._format.holds:
                self._lost[what.value] = self._lost.get(what.value, 0) + count
        read_back = self._format.read_back(image)
        self._counts["renumbered"] += read_back.renumbered
        overlapping = _overlapping(image.instances)
        for position, (mask, parts) in enumerate(
            zip(image.instances.masks, read_back.masks, strict=True)
        ):
            self._add_mask(mask, parts, is_overlapping=bool(overlapping[position]))

    def _add_mask(
        self, before: CroppedMask, parts: tuple[CroppedMask, ...], *, is_overlapping: bool
    ) -> None:
        self._counts["instances_lost"] += not parts
        self._counts["instances_split"] += len(parts) > 1
        after = union_mask(parts)
        if after is not None and before.equals(after):
            return
        self._counts["instances_changed"] += 1
        self._lowest_iou = min(self._lowest_iou, 0.0 if after is None else before.iou(after))
        if after is None:
            return
        self._counts["overlaps_lost"] += is_overlapping and after.area < before.area
        num_parts, num_holes = _parts_and_holes(before)
        parts_left, holes_left = _parts_and_holes(after)
        self._counts["parts_lost"] += parts_left < num_parts
        self._counts["holes_lost"] += holes_left < num_holes


def measure_loss(images: AnnotatedImages, exchange_format: Format) -> LossReport:
    """Return what a format would lose of some images."""
    meter = LossMeter(exchange_format)
    for image in images:
        meter.add(image)
    return meter.report


def _overlapping(instances: InstanceSet) -> NDArray[np.bool_]:
    """Return which instances (N,) share pixels with another one."""
    if not len(instances):
        return np.zeros(0, np.bool_)
    low, high = instances.boxes_xyxy.min(axis=0), instances.boxes_xyxy.max(axis=0)
    left, top = int(low[0]), int(low[1])
    depth = np.zeros((int(high[3]) - top, int(high[2]) - left), np.uint16)
    places = [mask.moved(dy=-top, dx=-left).slices for mask in instances.masks]
    for place, mask in zip(places, instances.masks, strict=True):
        depth[place] += mask.pixels
    return np.array(
        [
            bool((depth[place][mask.pixels] > 1).any())
            for place, mask in zip(places, instances.masks, strict=True)
        ]
    )


def _parts_and_holes(mask: CroppedMask) -> tuple[int, int]:
    _, parts = ndimage.label(mask.pixels, structure=_CORNERS_TOUCH)
    # Euler number = parts - holes
    return parts, parts - int(euler_number(mask.pixels, connectivity=2))


def _held(image: AnnotatedImage) -> dict[Holds, int]:
    """Return what an image holds next to masks → in how many instances, or 1 for the image."""
    instances = image.instances
    is_open = [state is InstanceState.UNREVIEWED for state in instances.states]
    return {
        Holds.CATEGORIES: len(instances) if len(image.categories) > 1 else 0,
        Holds.SCORES: int((~np.isnan(instances.scores)).sum()),
        Holds.STATES: len(instances) - sum(is_open),
        Holds.SOURCES: sum(bool(source) for source in instances.sources),
        Holds.IDENTITIES: len(instances),
        Holds.HANDLES: len(instances),
        Holds.CROWDS: len(image.crowds),
        Holds.REGIONS: len(image.regions),
        Holds.IMAGE_STATES: int(image.state is not ImageState.NONE),
        Holds.GROUPS: int(bool(image.group)),
        Holds.SPLITS: int(image.split is not None),
        Holds.PLANES: int(bool(image.plane)),
        Holds.EXTRAS: sum(bool(set(extra) - {"id"}) for extra in image.instance_extras.values())
        + bool(image.image_extra),
        Holds.MASKLESS: len(image.maskless),
    }
