"""Predictions of any program as a COCO results file, or as a COCO document with scores."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.geometry import as_boxes, boxes_xywh_to_xyxy
from napari_deeppixel.core.instance import Instance, InstanceSet, InstanceState
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.core.words import counted
from napari_deeppixel.dataset.annotated import AnnotatedImage
from napari_deeppixel.dataset.formats.base import Problem, raise_problem
from napari_deeppixel.dataset.formats.coco_categories import whole_id
from napari_deeppixel.dataset.formats.coco_read import planes_of_document
from napari_deeppixel.dataset.formats.coco_rle import segmentation_to_mask
from napari_deeppixel.dataset.formats.coco_values import box_of, number_of, share_of
from napari_deeppixel.dataset.formats.hostile import MAX_TEXT_BYTES, read_json
from napari_deeppixel.training.evaluation.data import EvaluationData, FileId
from napari_deeppixel.training.evaluation.truth import Found, Truth, joined_table

_MOST_NAMED = 3
# of a sum of shares in float32
_ROUNDING = 1e-6
# ours are made one by one: a name that cannot be another's
_UUID = "prediction {}"


@dataclass(frozen=True, kw_only=True, eq=False)
class _Entry:
    """One detection, whether its mask is more than its box, and the box as the file gives it."""

    instance: Instance
    has_mask: bool
    is_empty: bool = False
    box_xywh: tuple[float, ...] | None = None

    @property
    def exact_box_xywh(self) -> tuple[float, ...]:
        if self.box_xywh is not None:
            return self.box_xywh
        box = self.instance.predicted_box_xyxy
        x1, y1, x2, y2 = self.instance.box_xyxy if np.isnan(box).any() else box
        return x1, y1, x2 - x1, y2 - y1


def read_results(path: Path, data: EvaluationData) -> tuple[list[Found], list[str]]:
    """Return what a file says was found in each image, and notes about what was left out.

    Parameters
    ----------
    path
        A COCO results file: a list of objects with ``image_id``, ``category_id``, ``score`` and
        ``segmentation`` (run lengths or polygons), ``bbox``, or both. Or a COCO document whose
        annotations have a score.
    data
        The images; ids are those of their file. Where that has none, ids are file names, or
        numbers from 1 on in the order of the images.

    Raises
    ------
    AnnotationError
        If the file cannot be read, or one of its entries; the message names it.
    """
    value = read_json(path, limit=MAX_TEXT_BYTES)
    images = _ImageIds(data)
    table = joined_table(truth.instances.categories for truth in data.truths)
    if isinstance(value, list):
        return _of_list(path, value, data, images, table)
    if isinstance(value, dict) and isinstance(value.get("annotations"), list):
        if not isinstance(value.get("images"), list):
            return _of_list(path, value["annotations"], data, images, table)
        return _of_document(path, value, data, images)
    raise AnnotationError(
        f"{path}: expected a list of COCO results ([{{image_id, category_id, segmentation, "
        f"score}}, ...]) or a COCO document with scores, got {type(value).__name__}"
    )


class _ImageIds:
    """Finds the image that an id means."""

    def __init__(self, data: EvaluationData) -> None:
        self._positions: dict[tuple[type, FileId], int] = {}
        self._texts: dict[str, list[int]] = {}
        names: dict[tuple[str, tuple[int, ...]], int] = {}
        for position, (truth, own) in enumerate(zip(data.truths, data.image_ids, strict=True)):
            names.setdefault((truth.file_name, truth.plane), position)
            # without an id of its own: its name, or its number as `convert` writes it
            ids: list[FileId] = (
                [own] if own is not None else [position + 1, *_spellings(truth.file_name)]
            )
            for each in ids:
                self._positions.setdefault((type(each), each), position)
                self._texts.setdefault(str(each), []).append(position)
        self._names = names

    def find(self, image_id: FileId) -> int | None:
        """Return the position of the image; 7 and "7" are one unless the file has both."""
        exact = self._positions.get((type(image_id), image_id))
        alike = self._texts.get(str(image_id), [])
        return exact if exact is not None or len(alike) != 1 else alike[0]

    def find_name(self, image: AnnotatedImage) -> int | None:
        """Return the position of the image of a document: by its name, else by its id."""
        position = self._names.get((image.file_name, tuple(image.plane)))
        if position is None and image.image_id is not None:
            return self.find(image.image_id)
        return position


def _spellings(file_name: str) -> list[str]:
    name = file_name.rsplit("/", 1)[-1]
    return list(dict.fromkeys([file_name, name, name.rsplit(".", 1)[0]]))


def _of_list(
    path: Path,
    entries: list[Any],
    data: EvaluationData,
    images: _ImageIds,
    table: CategoryTable,
) -> tuple[list[Found], list[str]]:
    found: list[list[_Entry]] = [[] for _ in data.truths]
    category_ids, notes = _ids_of_categories(entries, data, table)
    strange_images: list[FileId] = []
    strange_categories: list[FileId] = []
    for position, entry in enumerate(entries):
        where = f"{path}: entry {position}"
        if not isinstance(entry, dict):
            raise AnnotationError(f"{where}: expected an object, got {entry!r:.60}")
        image_id, category_id = (_id_in(entry, key, where) for key in ("image_id", "category_id"))
        image, category = images.find(image_id), category_ids.get(category_id)
        if image is None:
            strange_images.append(image_id)
            continue
        if category is None:
            strange_categories.append(category_id)
            continue
        try:
            detection = _detection(entry, data.truths[image], category, position)
        except AnnotationError as error:
            raise AnnotationError(f"{where} (image {image_id!r}): {error}") from error
        found[image].append(detection)
    notes += [
        *_left_out("of images that the data do not have", strange_images),
        *_left_out("of categories that the data do not have", strange_categories),
    ]
    return [_found(e, t, table) for e, t in zip(found, data.truths, strict=True)], notes


def _id_in(entry: dict[str, Any], key: str, where: str) -> FileId:
    value = whole_id(entry.get(key))
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise AnnotationError(f"{where}: {key} must be a number or text, got {value!r}")
    return value


def _ids_of_categories(
    entries: list[Any], data: EvaluationData, table: CategoryTable
) -> tuple[dict[FileId, int], list[str]]:
    """Return category id in the results → ours, and notes."""
    ids: dict[FileId, int] = {category.id: category.id for category in table.categories}
    ids |= data.category_ids
    named = (whole_id(entry.get("category_id")) for entry in entries if isinstance(entry, dict))
    used = {each for each in named if isinstance(each, int | str)}
    if len(table) == 1 and len(used) == 1 and not used & ids.keys():
        (other,), (category,) = used, table.categories
        note = (
            f"all predictions are of category {other!r}, which the data do not have: taken for "
            f"their only one, {category.name!r}"
        )
        return {**ids, other: category.id}, [note]
    return ids, []


def _left_out(what: str, ids: list[FileId]) -> Iterator[str]:
    if ids:
        names = list(dict.fromkeys(repr(each) for each in ids))
        more = f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
        yield (
            f"left out: {counted(len(ids), 'prediction')} {what} (id "
            f"{', '.join(names[:_MOST_NAMED])}{more})"
        )


def _detection(entry: dict[str, Any], truth: Truth, category_id: int, number: int) -> _Entry:
    image_hw = truth.instances.image_hw
    if entry.get("score") is None:
        raise AnnotationError("it has no score")
    score = _score(entry["score"])
    segmentation, bbox = entry.get("segmentation"), entry.get("bbox")
    # many programs write [] where they have but a box
    is_box_alone = segmentation is None or (segmentation == [] and bool(bbox))
    if is_box_alone and not bbox:
        raise AnnotationError("it has neither a segmentation nor a bbox")
    mask = None if is_box_alone else segmentation_to_mask(segmentation, image_hw)
    box, box_xywh = (np.nan,) * 4, None
    if bbox or mask is None:
        # the box of an empty mask is that of pycocotools
        box_xywh = box_of(bbox or [0, 0, 0, 0], "bbox")
        (box,) = (tuple(each) for each in boxes_xywh_to_xyxy([box_xywh]).tolist())
    instance = Instance(
        mask=_box_mask(box, image_hw) if mask is None else mask,
        score=score,
        category_id=category_id,
        handle=1,
        uuid=_UUID.format(number),
        state=InstanceState.UNREVIEWED,
        source="",
        predicted_box_xyxy=box,
    )
    return _Entry(
        instance=instance,
        has_mask=mask is not None,
        is_empty=mask is None and not is_box_alone,
        box_xywh=box_xywh,
    )


def _score(value: Any) -> float:
    score = number_of(value, "score")
    if 1 < score <= 1 + _ROUNDING:
        return 1.0
    try:
        return share_of(score, "score")
    except AnnotationError as error:
        raise AnnotationError(f"{error}: scale all scores of the file") from error


def _box_mask(box_xyxy: tuple[float, ...], image_hw: tuple[int, int]) -> CroppedMask:
    """Return the pixels of a box in an image, one at least."""
    height, width = image_hw
    x1, y1, x2, y2 = (round(edge) for edge in box_xyxy)
    left, top = min(max(x1, 0), width - 1), min(max(y1, 0), height - 1)
    right, bottom = max(min(x2, width), left + 1), max(min(y2, height), top + 1)
    return CroppedMask(pixels=np.ones((bottom - top, right - left), np.bool_), y=top, x=left)


def _found(entries: list[_Entry], truth: Truth, table: CategoryTable) -> Found:
    instances = [
        replace(entry.instance, handle=handle) for handle, entry in enumerate(entries, start=1)
    ]
    return Found(
        instances=InstanceSet.from_instances(
            instances, image_hw=truth.instances.image_hw, categories=table
        ),
        has_mask=np.array([entry.has_mask for entry in entries], np.bool_),
        is_empty=np.array([entry.is_empty for entry in entries], np.bool_),
        boxes_xywh=as_boxes([entry.exact_box_xywh for entry in entries]),
    )


def _of_document(
    path: Path, document: dict[str, Any], data: EvaluationData, images: _ImageIds
) -> tuple[list[Found], list[str]]:
    """Return what a COCO document with scores says; categories go by their names."""
    found: list[Found | None] = [None] * len(data.truths)
    strange: list[FileId] = []

    def refuse(problem: Problem) -> None:
        # boxes without a mask are kept as they are: those are wanted
        if not problem.is_kept:
            raise_problem(problem)

    for image in planes_of_document(document, path, refuse):
        position = images.find_name(image)
        if position is None:
            strange += [image.file_name] * (len(image.instances) + len(image.maskless))
            continue
        truth = data.truths[position]
        if image.image_hw != truth.instances.image_hw:
            raise AnnotationError(
                f"{path}: image {image.file_name} has {image.image_hw} pixels, in the data "
                f"{truth.instances.image_hw}"
            )
        found[position] = _of_image(path, image)
    tables = [each.instances.categories for each in found if each is not None]
    for position, truth in enumerate(data.truths):
        if found[position] is None:
            table = tables[0] if tables else truth.instances.categories
            found[position] = Found(instances=InstanceSet.empty(truth.instances.image_hw, table))
    return [each for each in found if each is not None], list(
        _left_out("of images that the data do not have", strange)
    )


def _of_image(path: Path, image: AnnotatedImage) -> Found:
    entries = []
    for instance in image.instances:
        extra = image.instance_extras.get(instance.uuid, {})
        if np.isnan(instance.score):
            raise AnnotationError(
                f"{path}: annotation {extra.get('id')!r} of {image.file_name} has no score: "
                "predictions need one"
            )
        box = extra.get("bbox")
        if np.isnan(instance.predicted_box_xyxy).any():
            # a bbox that is tight round the mask is not kept beside it
            (edges,) = boxes_xywh_to_xyxy([box]).tolist() if box else [instance.box_xyxy]
            instance = replace(instance, predicted_box_xyxy=tuple(edges))
            box_xywh = tuple(box) if box else None
            entries.append(_Entry(instance=instance, has_mask=True, box_xywh=box_xywh))
        else:
            entries.append(_Entry(instance=instance, has_mask=True))
    truth = Truth(file_name=image.file_name, instances=image.instances, crowds=image.crowds)
    for number, entry in enumerate(image.maskless):
        where = f"{path}: annotation {entry.get('id')!r} of {image.file_name}"
        try:
            detection = _detection(dict(entry), truth, int(entry["category_id"]), number)
        except (AnnotationError, KeyError, TypeError, ValueError) as error:
            raise AnnotationError(f"{where}: {error}") from error
        entries.append(detection)
    return _found(entries, truth, image.categories)
