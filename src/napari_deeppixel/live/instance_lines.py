"""The instances of a recording, a line of JSON a frame, and the files made of these lines.

A line is there whole or not at all, so the lines are what counts after a crash; COCO and the table
can be made from them again. A line that names categories holds for all lines of the file.
"""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np

from napari_deeppixel.core.atomic import atomic_file
from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.dataset.annotated import AnnotatedImage
from napari_deeppixel.dataset.formats.coco_rle import segmentation_to_mask
from napari_deeppixel.dataset.formats.coco_write import coco_document
from napari_deeppixel.live.result import LiveResult

# JSON values; one reader and one writer, both in this module
Line = dict[str, Any]

_COLUMNS = (
    "stream",
    "frame",
    "seconds",
    "device_s",
    "track_id",
    "category",
    "score",
    "x1",
    "y1",
    "x2",
    "y2",
    "area",
)


def instance_line(
    result: LiveResult,
    *,
    seconds: float,
    video: tuple[str, int] | None,
    labels: tuple[str, int] | None,
) -> Line:
    """Return what is recorded of a result: a COCO image and its annotations, without ids.

    Parameters
    ----------
    result
        Its instances belong to the category table of the recording.
    seconds
        Since the recording began.
    video, labels
        File and number in it of the frame and of its label image; None: it is in none.
    """
    frame, instances = result.frame, result.instances
    place = video or labels
    image = AnnotatedImage(
        file_name=place[0] if place else f"frame-{frame.stream}-{frame.number}",
        instances=instances,
        crowds=InstanceSet.empty(instances.image_hw, instances.categories),
        plane=(place[1],) if place else (),
    )
    document = coco_document([image])
    # COCO readers pass over fields that they do not know
    entry = document["images"][0] | {
        "stream": frame.stream,
        "frame": frame.number,
        "seconds": round(seconds, 6),
        "device_s": frame.device_s,
        "model": result.model,
        "labels": list(labels) if labels else None,
    }
    return {"image": entry, "annotations": document["annotations"]}


def categories_line(table: CategoryTable) -> Line:
    """Return a line that names the categories of all lines."""
    return {
        "categories": [{"id": c.id, "name": c.name, "color": c.color} for c in table.categories]
    }


def line_text(line: Line) -> bytes:
    """Return a line as it is written."""
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def read_lines(path: Path) -> Iterator[Line]:
    """Yield the lines of frames up to the first that is not whole."""
    for line in _all_lines(path):
        if "image" in line:
            yield line


def _all_lines(path: Path) -> Iterator[Line]:
    with path.open("rb") as file:
        for text in file:
            try:
                line = json.loads(text) if text.endswith(b"\n") else None
            except ValueError:
                return
            if not isinstance(line, dict):
                return
            yield line


def read_categories(path: Path) -> list[dict[str, Any]]:
    """Return the categories of the lines; empty if there is none."""
    found: list[dict[str, Any]] = []
    for line in _all_lines(path):
        found = line.get("categories", found)
    return found


def line_instances(line: Line) -> InstanceSet:
    """Return the instances of a line as far as a label image needs them: no categories."""
    image, annotations = line["image"], line["annotations"]
    image_hw = (image["height"], image["width"])
    masks = [segmentation_to_mask(a["segmentation"], image_hw) for a in annotations]
    return InstanceSet(
        image_hw=image_hw,
        masks=tuple(mask for mask in masks if mask is not None),
        categories=CategoryTable.from_names("object"),
        scores=np.array([a.get("score", np.nan) for a in annotations], np.float64),
        handles=np.array([a["attributes"]["handle"] for a in annotations], np.int64),
        states=tuple(InstanceState(a["attributes"]["state"]) for a in annotations),
    )


class InstanceTable:
    """Writes a table (CSV) with a row an instance.

    Parameters
    ----------
    file
        Where to; opened with ``newline=""``.
    """

    def __init__(self, file: TextIO) -> None:
        self._writer = csv.writer(file)
        self._writer.writerow(_COLUMNS)

    def write(self, line: Line, names: dict[int, str]) -> None:
        """Append the instances of a frame; `names` are those of the category ids."""
        image = line["image"]
        device_s = "" if image["device_s"] is None else image["device_s"]
        for annotation in line["annotations"]:
            x1, y1, width, height = (round(side) for side in annotation["bbox"])
            self._writer.writerow(
                (
                    image["stream"],
                    image["frame"],
                    image["seconds"],
                    device_s,
                    annotation["attributes"]["handle"],
                    names[annotation["category_id"]],
                    annotation.get("score", ""),
                    x1,
                    y1,
                    x1 + width,
                    y1 + height,
                    annotation["area"],
                )
            )


def write_table_of_lines(lines: Path, table: Path) -> None:
    """Write the table of all lines, whole or not at all.

    Raises
    ------
    OSError
        If a file cannot be read or written.
    """
    names = {category["id"]: category["name"] for category in read_categories(lines)}
    temporary = table.with_name(f".{table.name}.part")
    try:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = InstanceTable(file)
            for line in read_lines(lines):
                writer.write(line, names)
        temporary.replace(table)
    finally:
        temporary.unlink(missing_ok=True)


def write_coco_of_lines(lines: Path, coco: Path) -> tuple[int, int]:
    """Write the COCO file of all lines, whole or not at all; return numbers of images, instances.

    Memory does not grow with the recording.

    Raises
    ------
    OSError
        If a file cannot be read or written.
    """
    with atomic_file(coco) as file:
        head = {
            "info": {"description": "Instances written by napari-deeppixel"},
            "categories": read_categories(lines),
        }
        file.write(json.dumps(head).encode()[:-1])
        images = ({"id": n} | _without_id(line["image"]) for n, line in _numbered(lines))
        num_images = _write_list(file, "images", images)
        num_instances = _write_list(file, "annotations", _numbered_annotations(lines))
        file.write(b"}")
    return num_images, num_instances


def _numbered(lines: Path) -> Iterator[tuple[int, Line]]:
    return enumerate(read_lines(lines), start=1)


def _numbered_annotations(lines: Path) -> Iterator[Line]:
    number = 0
    for image_id, line in _numbered(lines):
        for annotation in line["annotations"]:
            number += 1
            yield {"id": number, "image_id": image_id} | _without_id(annotation)


def _without_id(entry: Line) -> Line:
    return {key: value for key, value in entry.items() if key not in ("id", "image_id")}


def _write_list(file: BinaryIO, name: str, entries: Iterator[Line]) -> int:
    file.write(f', "{name}": ['.encode())
    count = 0
    for entry in entries:
        file.write((", " if count else "").encode() + json.dumps(entry).encode())
        count += 1
    file.write(b"]")
    return count
