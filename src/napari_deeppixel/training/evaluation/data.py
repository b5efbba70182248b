"""Annotated images to compare with, in whatever form people have them."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.geometry import as_boxes, boxes_xyxy_to_xywh
from napari_deeppixel.core.image import pick_channels
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.core.words import counted
from napari_deeppixel.dataset.annotated import AnnotatedImage, Split
from napari_deeppixel.dataset.formats.base import Problem, ReadSource
from napari_deeppixel.dataset.formats.coco_read import MASK_KEY, mask_fingerprint
from napari_deeppixel.dataset.formats.coco_values import box_of, number_of
from napari_deeppixel.dataset.formats.registry import guess_format
from napari_deeppixel.dataset.image_file import read_image
from napari_deeppixel.dataset.image_folder import ImageFolder
from napari_deeppixel.dataset.store import Dataset
from napari_deeppixel.training.evaluation.truth import Maskless, Truth
from napari_deeppixel.training.samples import appearance_of, is_whole_image, known_part

_OWN_FILE = "instances.json"
_COCO = "coco"
_MOST_TOLD = 3

FileId = int | str


@dataclass(frozen=True, kw_only=True, eq=False)
class EvaluationData:
    """Images with their truth, and how files of predictions call them.

    Attributes
    ----------
    truths
        In the order of their ids, if they have any.
    image_ids
        Id of each image in its file; None: it has none.
    category_ids
        Id of a category in its file → ours, where they differ.
    problems
        What could not be taken as it is, in sentences.
    """

    truths: tuple[Truth, ...]
    image_ids: tuple[FileId | None, ...]
    category_ids: dict[FileId, int]
    problems: tuple[str, ...] = ()


def read_data(path: Path, *, split: Split | None = None) -> EvaluationData:
    """Return the annotated images of a dataset, a split of one, a COCO file, or another format.

    Parameters
    ----------
    path
        A dataset; a split in it (``DATASET/val``); a COCO file with its images beside it or in
        ``images/``; or a folder in any format that can be read, such as one with such a file, or
        with ``images/`` and ``labels/``.
    split
        Which images. None: ``val`` where a folder has splits (all, if that is empty), else all.

    Raises
    ------
    AnnotationError
        If nothing can be read there, or no image is left.
    """
    problems: list[str] = []
    if path.name in tuple(Split) and Dataset.is_dataset(path.parent):
        path, split = path.parent, split or Split(path.name)
    read = _of_dataset if Dataset.is_dataset(path) else _of_format
    images = list(read(path, split, problems))
    # ties of scores between images fall as other programs have them: they go by the ids
    ids = [image.image_id for image, _ in images]
    if all(type(each) is int for each in ids) or all(type(each) is str for each in ids):
        images.sort(key=lambda pair: pair[0].image_id)  # type: ignore[arg-type,return-value]
    truths = [(image, _truth(image, is_whole)) for image, is_whole in images]
    known = [(image, truth) for image, truth in truths if truth is not None]
    if len(known) < len(truths):
        problems.append(
            f"left out: {counted(len(truths) - len(known), 'image')} that nobody marked complete, "
            "without a complete region"
        )
    if not known:
        where = f" in the split {split}" if split else ""
        told = f" ({'; '.join(problems[:_MOST_TOLD])})" if problems else ""
        raise AnnotationError(
            f"{path}: no annotated image{where}{told}; mark images or regions complete, pin some "
            "to the split, or choose another --split"
        )
    return EvaluationData(
        truths=tuple(truth for _, truth in known),
        image_ids=tuple(image.image_id for image, _ in known),
        category_ids=_category_ids(image for image, _ in known),
        problems=tuple(problems),
    )


def _of_dataset(
    path: Path, split: Split | None, problems: list[str]
) -> Iterator[tuple[AnnotatedImage, bool]]:
    dataset = Dataset.open(path)
    told = _teller(problems)
    images = list(dataset.annotated([split or Split.VAL], on_problem=told))
    if split is None and not any(_is_known(image, is_dataset=True) for image in images):
        problems.append(f"{path} has no complete image in the split val: all of its splits count")
        images = list(dataset.annotated(on_problem=told))
    yield from ((image, is_whole_image(image, is_dataset=True)) for image in images)


def _is_known(image: AnnotatedImage, *, is_dataset: bool) -> bool:
    return is_whole_image(image, is_dataset) or bool(image.regions)


def _of_format(
    path: Path, split: Split | None, problems: list[str]
) -> Iterator[tuple[AnnotatedImage, bool]]:
    found = guess_format(path)
    if found.read is None:
        raise AnnotationError(f"{path}: {found.title} cannot be read")
    root = path if path.is_dir() else path.parent
    source = ReadSource(path=path, images=ImageFolder(root), on_problem=_teller(problems))
    images = list(found.read(source))
    has_splits = path.is_dir() and not (path / _OWN_FILE).is_file()
    is_val = has_splits and any(image.split is Split.VAL for image in images)
    if split is None and is_val and any(image.split is not Split.VAL for image in images):
        split = Split.VAL
        problems.append(f"{path} has several splits: val counts (--split chooses)")
    for image in images:
        if split is None or image.split is split:
            # formats of label images cannot say whether an image is complete: it is
            yield image, found.name != _COCO or is_whole_image(image, is_dataset=False)


def _teller(problems: list[str]) -> Callable[[Problem], None]:
    def tell(problem: Problem) -> None:
        problems.append(str(problem))

    return tell


def _truth(image: AnnotatedImage, is_whole: bool) -> Truth | None:
    nobody = InstanceSet.empty(image.image_hw, image.categories)
    known = known_part(replace(image, crowds=nobody), is_whole=is_whole)
    if known is None:
        return None
    instances, ignored = known
    boxes_xywh, areas = _measured(image, instances)
    crowd_boxes_xywh, crowd_areas = _measured(image, image.crowds)
    return Truth(
        file_name=image.file_name,
        plane=tuple(image.plane),
        instances=instances,
        crowds=image.crowds,
        ignored=ignored,
        path=image.path,
        boxes_xywh=boxes_xywh,
        areas=areas,
        crowd_boxes_xywh=crowd_boxes_xywh,
        crowd_areas=crowd_areas,
        # where something is unknown, nobody says whether these lie there
        maskless=tuple(_maskless(image)) if is_whole else (),
    )


def _maskless(image: AnnotatedImage) -> Iterator[Maskless]:
    """Yield what has no pixel, but a mask or a box; COCO counts it."""
    known = {category.id for category in image.categories.categories}
    for entry in image.maskless:
        try:
            box_xywh = box_of(entry["bbox"], "bbox") if entry.get("bbox") else None
            side_areas = box_xywh[2] * box_xywh[3] if box_xywh else 0.0
            area = number_of(entry.get("area", side_areas), "area")
        except AnnotationError:
            continue
        # many programs write [] where they have but a box
        is_empty = bool(entry.get("segmentation"))
        if entry.get("category_id") in known and (is_empty or box_xywh):
            yield Maskless(
                category_id=entry["category_id"],
                box_xywh=box_xywh,
                area=area,
                is_crowd=bool(entry.get("iscrowd")),
                is_empty=is_empty,
            )


def _measured(
    image: AnnotatedImage, instances: InstanceSet
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return boxes (x, y, w, h) and areas as the file gives them, or else those of the masks."""
    boxes_xywh = boxes_xyxy_to_xywh(instances.boxes_xyxy)
    areas = instances.areas.astype(np.float64)
    for position, uuid in enumerate(instances.uuids):
        extra = image.instance_extras.get(uuid, {})
        if extra.get(MASK_KEY) == mask_fingerprint(instances.masks[position]):
            boxes_xywh[position] = extra.get("bbox", boxes_xywh[position])
            areas[position] = extra.get("area", areas[position])
    return as_boxes(boxes_xywh), areas


def _category_ids(images: Iterable[AnnotatedImage]) -> dict[FileId, int]:
    """Return the ids that a file gave to categories → ours, where they differ."""
    ids: dict[FileId, int] = {}
    for image in images:
        extras: dict[str, Any] = image.document.get("categories", {})
        for category in image.categories.categories:
            original = extras.get(category.name, {}).get("attributes", {}).get("original_id")
            if isinstance(original, int | str):
                ids.setdefault(original, category.id)
    return ids


def read_pixels(truth: Truth) -> NDArray[Any]:
    """Return the pixels (H, W, C) of an image, C being 1 or the inputs of a network.

    Raises
    ------
    AnnotationError
        If the file is missing, cannot be read, or has another size than the annotations say.
    """
    if truth.path is None:
        raise AnnotationError(f"{truth.file_name}: the image is not there")
    try:
        pixels = pick_channels(read_image(truth.path).plane(truth.plane), None)
    # a damaged PNG ends in SyntaxError, a TIFF in ZeroDivisionError, TiffFileError and more
    except Exception as error:
        raise AnnotationError(f"{truth.path}: image cannot be read ({error})") from error
    if pixels.shape[:2] != truth.instances.image_hw:
        raise AnnotationError(
            f"{truth.path} has {pixels.shape[:2]} pixels, its annotations "
            f"{truth.instances.image_hw}"
        )
    return pixels


def with_appearance(truth: Truth, pixels: NDArray[Any]) -> Truth:
    """Return the same with what the image looks like."""
    return replace(truth, appearance=appearance_of(pixels, truth.instances, truth.ignored))
