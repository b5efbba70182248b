"""What a list of a dataset's images shows of each, without its instances."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.instance import InstanceState
from napari_deeppixel.dataset.annotated import ImageState, Split
from napari_deeppixel.dataset.formats.hostile import plane_hw

# what we keep of an image file among the attributes of each of its planes
FILE_KEYS = ("sha256", "bytes", "storage", "original_name")
COPIED = "copied"
_STATES = {state.value: state for state in ImageState}
_SPLITS: dict[str | None, Split | None] = {None: None, **{split.value: split for split in Split}}
_NUMBERS = re.compile(r"(\d+)")
_OPEN = (InstanceState.UNREVIEWED.value, InstanceState.UNSURE.value)


class Storage(StrEnum):
    """Where the pixels of an image are kept."""

    COPY = "copy"
    REFERENCE = "reference"


@dataclass(frozen=True, kw_only=True)
class ImageFile:
    """What is known about the file of an image.

    Attributes
    ----------
    sha256
        Of its content, hexadecimal; empty: not known.
    num_bytes
        Its size.
    reference
        Absolute path where it lies, for one that was not copied; empty: it was.
    near
        The same path from the dataset's folder, for when both are moved together.
    original_name
        Its name before it came in, where that was taken; else empty.
    """

    sha256: str = ""
    num_bytes: int = 0
    reference: str = ""
    near: str = ""
    original_name: str = ""

    def to_attributes(self) -> dict[str, Any]:
        """Return what is stored with each plane."""
        storage = {"path": self.reference, "near": self.near} if self.reference else COPIED
        attributes = {"sha256": self.sha256, "bytes": self.num_bytes, "storage": storage}
        return attributes | ({"original_name": self.original_name} if self.original_name else {})

    def to_line(self) -> list[Any]:
        """Return what is in a line of the index."""
        return [self.sha256, self.num_bytes, self.reference, self.near, self.original_name]

    @classmethod
    def of_line(cls, value: list[Any]) -> "ImageFile":
        """Return what a line of the index says.

        Raises
        ------
        TypeError, ValueError
            If it is no such line.
        """
        sha256, num_bytes, reference, near, name = value
        for text in (sha256, reference, near, name):
            if type(text) is not str:
                raise TypeError(f"expected text, got {text!r}")
        if type(num_bytes) is not int:
            raise TypeError(f"expected a number of bytes, got {num_bytes!r}")
        return cls(
            sha256=sha256,
            num_bytes=num_bytes,
            reference=reference,
            near=near,
            original_name=name,
        )

    @classmethod
    def of_attributes(cls, attributes: Mapping[str, Any]) -> "ImageFile":
        """Return what a plane's attributes say; what makes no sense counts as not known."""
        size, storage = attributes.get("bytes"), attributes.get("storage")
        place = storage if isinstance(storage, dict) else {}
        return cls(
            sha256=_text(attributes.get("sha256")),
            num_bytes=size if isinstance(size, int) and size > 0 else 0,
            reference=_text(place.get("path")),
            near=_text(place.get("near")),
            original_name=_text(attributes.get("original_name")),
        )


@dataclass(frozen=True, kw_only=True)
class ImageRecord:
    """What an annotation file says of its image, as it is stored; a line of the index.

    Attributes
    ----------
    name
        Of the image, relative to ``images/``.
    size, mtime_ns
        Of the annotation file when it was read.
    image_hw
        Size of its planes.
    num_planes
        Planes with an entry in the file.
    state
        How far the annotation is.
    categories
        (category id, name in the file, objects) for each id that annotations use.
    num_instances, num_unreviewed
        Objects in all, and those that wait for a person.
    split
        What the image is pinned to.
    group
        Images of one group stay in one split.
    file
        What is known about the image file.
    revision
        Number of times that the file was saved.
    problem
        Why the file cannot be read; empty: it can.
    """

    name: str
    size: int = 0
    mtime_ns: int = 0
    image_hw: tuple[int, int] = (0, 0)
    num_planes: int = 0
    state: ImageState = ImageState.NONE
    categories: tuple[tuple[Any, str | None, int], ...] = ()
    num_instances: int = 0
    num_unreviewed: int = 0
    split: Split | None = None
    group: str = ""
    file: ImageFile = field(default_factory=ImageFile)
    revision: int = 0
    problem: str = ""

    def to_line(self) -> list[Any]:
        """Return the value of a line of the index: a list, which is read faster than names."""
        return [
            self.name,
            self.size,
            self.mtime_ns,
            self.image_hw,
            self.num_planes,
            self.state,
            self.categories,
            self.num_instances,
            self.num_unreviewed,
            self.split,
            self.group,
            self.file.to_line(),
            self.revision,
            self.problem,
        ]

    @classmethod
    def of_line(cls, value: list[Any]) -> "ImageRecord":
        """Return the record of a line.

        Raises
        ------
        KeyError, TypeError, ValueError
            If it is none.
        """
        name, size, mtime_ns, image_hw, planes, state, categories, *others = value
        instances, unreviewed, split, group, file, revision, problem = others
        height, width = image_hw
        for number in (size, mtime_ns, height, width, planes, instances, unreviewed, revision):
            if type(number) is not int:
                raise TypeError(f"expected a whole number, got {number!r}")
        for text in (name, group, problem):
            if type(text) is not str:
                raise TypeError(f"expected text, got {text!r}")
        # without __init__, which sets one attribute after the other: people wait for thousands
        record = object.__new__(cls)
        record.__dict__.update(
            name=name,
            size=size,
            mtime_ns=mtime_ns,
            image_hw=(height, width),
            num_planes=planes,
            state=_STATES[state],
            categories=tuple([_category_count(*each) for each in categories]),
            num_instances=instances,
            num_unreviewed=unreviewed,
            split=_SPLITS[split],
            group=group,
            file=ImageFile.of_line(file),
            revision=revision,
            problem=problem,
        )
        return record


@dataclass(frozen=True, kw_only=True)
class ImageEntry:
    """An image of a dataset, as lists show it.

    Attributes
    ----------
    image_id, file_name
        Its name, relative to ``images/``, with ``/``.
    image_hw
        Size of its planes (height, width); (0, 0) if its annotation file cannot be read.
    num_planes
        Planes that have an entry in the annotation file.
    state
        How far the annotation is: complete or none if all planes are, else draft.
    num_instances
        Objects on all planes; rejected ones, crowds and those without a mask do not count.
    num_unreviewed
        Those that are unreviewed or unsure.
    counts
        Category id → objects.
    split
        What the image is for.
    is_split_pinned
        Whether a person said so, of this image or of one in its group.
    group
        Images of one group stay in one split; empty: the image is alone.
    is_referenced, reference
        Whether it lies outside the dataset, and where.
    sha256, num_bytes
        Of the image file.
    revision
        Grows with each save.
    modified_s
        When the annotation file was written, in seconds since 1970.
    problem
        Why the annotation file cannot be read; empty: it can.
    """

    image_id: str
    file_name: str
    image_hw: tuple[int, int]
    num_planes: int
    state: ImageState
    num_instances: int
    num_unreviewed: int
    counts: Mapping[int, int]
    split: Split
    is_split_pinned: bool
    group: str
    is_referenced: bool
    reference: str
    sha256: str
    num_bytes: int
    revision: int
    modified_s: float
    problem: str = ""


def _category_count(category_id: Any, name: Any, count: Any) -> tuple[int | str, str | None, int]:
    if not isinstance(category_id, int | str) or not isinstance(name, str | None):
        raise TypeError(f"no id and name of a category: {category_id!r}, {name!r}")
    return category_id, name, int(count)


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Return what names are sorted by: numbers in them by their value, letters whatever case."""
    parts: list[str | int] = list(_NUMBERS.split(name.casefold()))
    # "²" is a digit to `isdigit`, but no number to `int`
    parts[1::2] = [int(part) for part in parts[1::2] if isinstance(part, str)]
    return parts, name


def record_of_document(document: Any, name: str) -> ImageRecord:
    """Return what an annotation document says, without looking at a mask.

    Raises
    ------
    AnnotationError
        If it is no COCO document of an image.
    """
    images = _entries(document, "images")
    if not images:
        raise AnnotationError("it has no entry for an image")
    attributes = [attributes_of(entry) for entry in images]
    info = document.get("info")
    revision = info.get("revision") if isinstance(info, dict) else 0
    return ImageRecord(
        name=name,
        image_hw=plane_hw(images[0].get("height"), images[0].get("width")),
        num_planes=len(images),
        state=_joint_state([_known(ImageState, a.get("state")) for a in attributes]),
        split=next((s for a in attributes if (s := _known(Split, a.get("split")))), None),
        group=next((g for a in attributes if (g := _text(a.get("group")))), ""),
        file=ImageFile.of_attributes(attributes[0]),
        revision=revision if isinstance(revision, int) and revision > 0 else 0,
        **_counted(document),
    )


def _counted(document: dict[str, Any]) -> dict[str, Any]:
    names = category_names(document)
    counts: dict[Any, int] = {}
    num_open = 0
    for annotation in _entries(document, "annotations"):
        category_id = annotation.get("category_id")
        if not isinstance(category_id, int | str):
            continue
        state = attributes_of(annotation).get("state", InstanceState.UNREVIEWED.value)
        is_object = (
            bool(annotation.get("segmentation"))
            and not annotation.get("iscrowd")
            and state != InstanceState.REJECTED.value
        )
        counts[category_id] = counts.get(category_id, 0) + is_object
        num_open += is_object and state in _OPEN
    return {
        "categories": tuple((i, names.get(i), count) for i, count in counts.items()),
        "num_instances": sum(counts.values()),
        "num_unreviewed": num_open,
    }


def category_names(document: dict[str, Any]) -> dict[Any, str | None]:
    """Return category id → name, as a file has them."""
    return {
        entry["id"]: entry["name"] if isinstance(entry.get("name"), str) else None
        for entry in _entries(document, "categories")
        if isinstance(entry.get("id"), int | str)
    }


def _entries(document: Any, key: str) -> list[dict[str, Any]]:
    values = document.get(key) if isinstance(document, dict) else None
    if not isinstance(values, list):
        raise AnnotationError(f"no COCO file: it has no list of {key}")
    return [value for value in values if isinstance(value, dict)]


def attributes_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of an entry; none if they are no object."""
    attributes = entry.get("attributes")
    return attributes if isinstance(attributes, dict) else {}


def _joint_state(states: list[ImageState | None]) -> ImageState:
    found = {state or ImageState.NONE for state in states}
    return found.pop() if len(found) == 1 else ImageState.DRAFT


def _known(kind: Any, value: Any) -> Any:
    try:
        return kind(value)
    except ValueError:
        return None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
