"""What training would take from an annotation document, told without looking at a pixel."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.instance import InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.dataset.annotated import ImageState
from napari_deeppixel.dataset.formats.coco_rle import segmentation_to_mask
from napari_deeppixel.dataset.formats.coco_values import outlines_of
from napari_deeppixel.dataset.formats.hostile import plane_hw
from napari_deeppixel.dataset.image_entry import attributes_of
from napari_deeppixel.edits.reshape import regions_mask

Entry: TypeAlias = Mapping[str, Any]
NameOf: TypeAlias = Callable[[Any], str | None]

# plain text: people wait for hundreds of thousands of objects, and enums are slow
_STATES = frozenset(state.value for state in InstanceState)
_UNREVIEWED = InstanceState.UNREVIEWED.value
_DOUBTED = (InstanceState.REJECTED.value, InstanceState.UNSURE.value)


@dataclass(frozen=True, kw_only=True)
class PlaneContent:
    """What training would take from one plane.

    Attributes
    ----------
    is_used
        Whether it is complete, or has complete regions.
    num_pixels, num_complete_pixels
        In all, and those where every object has been annotated.
    counts
        Category name → objects that would be learnt.
    num_unreviewed
        Those of them that no person looked at.
    num_unusable
        Annotations without a mask, or of a category that nobody knows.
    diameters_px
        Of circles of the objects' areas.
    """

    is_used: bool
    num_pixels: int
    num_complete_pixels: int
    counts: Mapping[str, int]
    num_unreviewed: int
    num_unusable: int
    diameters_px: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class ImageContent:
    """What training would take from an image, and a name for all that could change it.

    Attributes
    ----------
    planes
        At least one.
    digest
        SHA-256 of pixels, masks, categories, states and regions; not of names, scores, times, and
        who saved it, and the same in whatever order the annotations stand.
    """

    planes: tuple[PlaneContent, ...]
    digest: str


def content_of(
    images: Iterable[Entry],
    annotations: Iterable[Entry],
    name_of: NameOf,
    *,
    identity: str,
    is_dataset: bool,
) -> ImageContent:
    """Return what is in the COCO entries of an image.

    Parameters
    ----------
    images
        An entry for each plane.
    annotations
        Those that name one of the entries.
    name_of
        Category id in the file → name; None for one that means nothing.
    identity
        SHA-256 of the image file, or its name if that is not known.
    is_dataset
        Whether planes are complete only where they say so. Other programs' files say nothing of
        it, and mean whole images.

    Raises
    ------
    AnnotationError
        If the size of a plane or an outline of a region makes no sense.
    """
    planes = [_Plane(entry, name_of, is_dataset=is_dataset) for entry in images]
    by_id = {plane.key: plane for plane in planes}
    for annotation in annotations:
        plane = by_id.get(_key(annotation.get("image_id")))
        if plane is not None:
            plane.take(annotation)
    told = "\n".join([identity, *sorted(plane.told() for plane in planes)])
    return ImageContent(
        planes=tuple(plane.content() for plane in planes),
        digest=hashlib.sha256(told.encode(errors="surrogatepass")).hexdigest(),
    )


def _key(value: Any) -> tuple[str, str]:
    # 1 and "1" are two ids, and a list, which is none, must not end in an error
    return type(value).__name__, str(value)


def _state_of(annotation: Entry) -> str:
    state = attributes_of(annotation).get("state")
    if isinstance(state, str) and state in _STATES:
        return state
    # as the reader of COCO files decides for files of other programs
    is_prediction = annotation.get("score") is not None
    return _UNREVIEWED if is_prediction else InstanceState.ACCEPTED.value


class _Plane:
    """Counts the annotations of one plane."""

    def __init__(self, entry: Entry, name_of: NameOf, *, is_dataset: bool) -> None:
        self.key = _key(entry.get("id"))
        self._name_of = name_of
        self._hw = plane_hw(entry.get("height"), entry.get("width"))
        attributes = attributes_of(entry)
        state = str(attributes.get("state") or ImageState.NONE.value)
        regions = outlines_of(attributes.get("complete_regions") or [])
        is_silent = not is_dataset and state == ImageState.NONE.value and not regions
        self._is_complete = is_silent or state == ImageState.COMPLETE.value
        self._inside = regions_mask(regions, self._hw)
        self._head = [entry.get("plane") or [], self._hw, self._is_complete or state, regions]
        self._told: list[str] = []
        self._counts: Counter[str] = Counter()
        self._num_unreviewed = self._num_unusable = 0
        self._diameters_px: list[float] = []

    def take(self, annotation: Entry) -> None:
        """Count an annotation."""
        name = self._name_of(annotation.get("category_id"))
        state = _state_of(annotation)
        mask, is_crowd = annotation.get("segmentation"), bool(annotation.get("iscrowd"))
        # not the rest of the entry, such as its score and uuid, which change no training
        self._told.append(f"{name}\0{state}\0{is_crowd}\0{_text_of(mask)}")
        if is_crowd or state in _DOUBTED:
            return
        if not mask or name is None:
            self._num_unusable += 1
            return
        is_unreviewed = state == _UNREVIEWED
        if is_unreviewed and not self._is_complete and not self._covers(mask):
            return
        self._counts[name] += 1
        self._num_unreviewed += is_unreviewed
        area = self._num_pixels(annotation.get("area"), mask)
        if area > 0:
            self._diameters_px.append(2 * math.sqrt(area / math.pi))

    def _covers(self, mask: Any) -> bool:
        """Whether an object lies in a complete region, if with one pixel, as in training."""
        pixels = self._read(mask)
        if pixels is None or self._inside is None:
            return False
        return self._inside.intersection(pixels) > 0

    def _num_pixels(self, area: Any, mask: Any) -> float:
        if isinstance(area, int | float) and 0 < area < self._hw[0] * self._hw[1]:
            return float(area)
        pixels = self._read(mask)
        return float(pixels.area) if pixels is not None else 0.0

    def _read(self, mask: Any) -> CroppedMask | None:
        try:
            return segmentation_to_mask(mask, self._hw)
        except AnnotationError:
            return None

    def told(self) -> str:
        """Return all that training could learn from it, as text."""
        return "\n".join([json.dumps(self._head), *sorted(self._told)])

    def content(self) -> PlaneContent:
        """Return what was counted."""
        num_pixels = self._hw[0] * self._hw[1]
        in_regions = self._inside.area if self._inside is not None else 0
        return PlaneContent(
            is_used=self._is_complete or in_regions > 0,
            num_pixels=num_pixels,
            num_complete_pixels=num_pixels if self._is_complete else in_regions,
            counts=dict(self._counts),
            num_unreviewed=self._num_unreviewed,
            num_unusable=self._num_unusable,
            diameters_px=tuple(self._diameters_px),
        )


def _text_of(mask: Any) -> str:
    # as we write them ourselves: JSON takes ten times as long
    if isinstance(mask, dict) and isinstance(mask.get("counts"), str):
        return f"{mask.get('size')} {mask['counts']}"
    return json.dumps(mask, sort_keys=True)
