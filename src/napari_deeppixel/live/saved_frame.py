"""One live frame as an image file with its instances beside it."""

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from napari_deeppixel.core.atomic import atomic_file
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState
from napari_deeppixel.dataset.formats.coco import write_coco
from napari_deeppixel.dataset.pixels_file import (
    encode_pixels,
    pixels_hash,
    storable,
    suffix_for,
)
from napari_deeppixel.dataset.store import Dataset
from napari_deeppixel.live.av_errors import without_password
from napari_deeppixel.live.result import LiveResult

# 48 bits: a million frames share one by chance once in 500 folders
_HASH_LETTERS = 12


@dataclass(frozen=True, kw_only=True)
class SavedFrame:
    """Where a frame lies.

    Attributes
    ----------
    image
        PNG for 8 bits, else TIFF.
    annotations
        COCO JSON of its instances.
    is_new
        False: the same pixels were in the folder already, and nothing was written.
    """

    image: Path
    annotations: Path
    is_new: bool


def save_frame(result: LiveResult, folder: Path, *, source: str) -> SavedFrame:
    """Save a frame and its instances in a folder, which is made if it is missing.

    Files are called ``SOURCE_TIME_HASH.png`` (or ``.tif``) and ``…_coco.json``; the time is UTC,
    when the frame came. Both are there whole or not at all, the image first.

    Parameters
    ----------
    result
        The frame and what to write of it.
    folder
        Where to.
    source
        What the camera is called, for the name.

    Raises
    ------
    OSError
        If the files cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pixels = storable(result.frame.pixels)
    digest = pixels_hash(pixels)[:_HASH_LETTERS]
    suffix = suffix_for(pixels)
    # the annotations are written last: without them, an image is not saved
    for known in folder.glob(f"*_{digest}_coco.json"):
        image = known.with_name(known.name.replace("_coco.json", suffix))
        if image.exists():
            return SavedFrame(image=image, annotations=known, is_new=False)
    stem = f"{_slug(source)}_{_time_text(result.frame.grabbed_s)}_{digest}"
    image, annotations = folder / f"{stem}{suffix}", folder / f"{stem}_coco.json"
    with atomic_file(image) as file:
        file.write(encode_pixels(pixels))
    instances = result.instances
    nobody = InstanceSet.empty(instances.image_hw, instances.categories)
    annotated = AnnotatedImage(file_name=image.name, instances=instances, crowds=nobody)
    write_coco([annotated], annotations)
    return SavedFrame(image=image, annotations=annotations, is_new=True)


def add_frame(result: LiveResult, dataset: Dataset, *, source: str, group: str) -> SavedFrame:
    """Add a frame and its instances to a dataset, as a draft; its name is ``SOURCE/SOURCE_TIME``.

    Parameters
    ----------
    result
        The frame and what to keep of it.
    dataset
        Where to.
    source
        What the camera is called, for the name.
    group
        Frames of one group, such as a run of the camera, stay in one split.

    Raises
    ------
    AnnotationError
        If the dataset cannot be written to.
    """
    slug, instances = _slug(source), result.instances
    name = f"{slug}/{slug}_{_time_text(result.frame.grabbed_s)}"
    added = dataset.add_pixels(
        storable(result.frame.pixels),
        name=name,
        planes=[AnnotatedImage.of(name, instances)],
        group=group,
        state=ImageState.DRAFT if len(instances) else ImageState.NONE,
    )
    image_id = added.entry.image_id
    return SavedFrame(
        image=dataset.image_path(image_id),
        annotations=dataset.annotation_path(image_id),
        is_new=added.has_taken_planes,
    )


def _slug(source: str) -> str:
    """Return a name as part of a file name on every system."""
    return (
        re.sub(r"[^A-Za-z0-9]+", "-", without_password(source)).strip("-").lower()[:40] or "frame"
    )


def _time_text(grabbed_s: float) -> str:
    wall_s = time.time() - (time.monotonic() - grabbed_s)
    return datetime.fromtimestamp(wall_s, UTC).strftime("%Y%m%dT%H%M%S.%f")[:-3] + "Z"
