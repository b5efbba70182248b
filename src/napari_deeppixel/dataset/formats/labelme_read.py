"""Reads LabelMe's JSON files."""

import contextlib
import os.path
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from napari_deeppixel.core.errors import AnnotationError, ImageError
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState
from napari_deeppixel.dataset.formats.base import ReadSource
from napari_deeppixel.dataset.formats.coco_values import (
    MAX_LEVEL,
    Taken,
    box_of,
    handle_of,
    image_state_of,
    share_of,
    split_of,
    state_of,
    text_of,
    whole_of,
)
from napari_deeppixel.dataset.formats.column_crossings import joined_mask
from napari_deeppixel.dataset.formats.hostile import plane_hw, read_json
from napari_deeppixel.dataset.formats.labelme_shapes import shape_to_mask
from napari_deeppixel.dataset.formats.named_objects import NamedCategories, ObjectList
from napari_deeppixel.dataset.image_file import image_hw
from napari_deeppixel.dataset.image_folder import is_inside, safe_name

# where what only we know lies, in a shape and in the whole file
OUR_KEY = "napari_deeppixel"
SHAPE_KEYS = frozenset({"label", "points", "shape_type", "mask", OUR_KEY})
TOP_KEYS = frozenset(
    {"version", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth", OUR_KEY}
)
# shapes carry these even if nobody filled them in
_EMPTY: dict[str, Any] = {"flags": {}, "description": "", "group_id": None}


def read_file(path: Path, source: ReadSource, categories: NamedCategories) -> AnnotatedImage:
    """Return the image of a LabelMe file.

    Raises
    ------
    AnnotationError
        If it is none, or the size of its image is not known.
    """
    document = read_json(path)
    if not isinstance(document, dict) or not isinstance(document.get("shapes"), list):
        raise AnnotationError(f"{path}: no LabelMe file; expected an object with a list of shapes")
    return _Reader(path, document, source, categories).image()


class _Reader:
    """Reads one file."""

    def __init__(
        self,
        path: Path,
        document: dict[str, Any],
        source: ReadSource,
        categories: NamedCategories,
    ) -> None:
        self._path, self._document, self._source = path, document, source
        self._categories = categories
        self._instances, self._crowds = ObjectList(), ObjectList()
        self._name, self._image_path = self._find_image()
        self._hw = self._size()

    def image(self) -> AnnotatedImage:
        for number, shapes in self._objects():
            entry = f"shape {number} of {self._name}"
            try:
                self._add(shapes, entry)
            except AnnotationError as error:
                self._tell(f"{error}; left out", entry)
        ours = _dict_of(self._document.get(OUR_KEY))
        take = Taken(lambda text: self._tell(text, self._name))
        table = self._categories.table
        return AnnotatedImage(
            file_name=self._name,
            instances=self._instances.instances(self._hw, table),
            crowds=self._crowds.instances(self._hw, table),
            path=self._image_path,
            state=take.get(ours, "state", image_state_of, ImageState.DRAFT),
            split=take.get(ours, "split", split_of, None),
            group=take.get(ours, "group", lambda value: text_of(value, "group"), ""),
            image_extra=_unknown(self._document, TOP_KEYS) | _dict_of(ours.get("extra")),
            instance_extras=self._instances.extras | self._crowds.extras,
            maskless=tuple(self._instances.maskless),
        )

    def _find_image(self) -> tuple[str, Path | None]:
        """Return the name of the image, and its file: relative to ours, else by its name."""
        text = self._document.get("imagePath")
        if not isinstance(text, str) or not text.strip() or "\0" in text:
            text = self._path.with_suffix(".png").name
        # "..\\images\\a.jpg" is usual
        named = PurePosixPath(text.replace("\\", "/"))
        images = self._source.images
        beside = Path(os.path.normpath(self._path.parent.absolute() / named))
        root = images.root.absolute()
        is_beside = not named.is_absolute() and beside.is_relative_to(root)
        if is_beside and beside.is_file() and is_inside(beside, root):
            return beside.relative_to(root).as_posix(), beside
        for name in (text, named.name):
            # one that leads out of the folder of the images is looked for by its last part
            with contextlib.suppress(AnnotationError):
                found = images.find(name)
                if found is not None:
                    return images.relative_name(found), found
        if self._document.get("imageData"):
            self._tell(
                f"{named.name} is missing; the copy of it inside the file is not used: export it "
                "with labelme_export_json",
                "",
            )
        try:
            return safe_name(text).as_posix(), None
        except AnnotationError:
            return safe_name(named.name).as_posix(), None

    def _size(self) -> tuple[int, int]:
        said = (self._document.get("imageHeight"), self._document.get("imageWidth"))
        if self._image_path is None:
            return plane_hw(*said)
        try:
            size_hw = image_hw(self._image_path)
        except ImageError as error:
            self._tell(str(error), self._name)
            return plane_hw(*said)
        if said != size_hw and said != (None, None):
            self._tell(
                f"says {said[0]!r:.20} x {said[1]!r:.20} pixels (height x width), but its image "
                f"has {size_hw[0]} x {size_hw[1]}; that counts",
                self._name,
            )
        return size_hw

    def _objects(self) -> list[tuple[int, list[dict[str, Any]]]]:
        """Return number and shapes of each object: those of one label and group are one."""
        objects: list[tuple[int, list[dict[str, Any]]]] = []
        groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for number, shape in enumerate(self._document["shapes"], start=1):
            if not isinstance(shape, dict):
                self._tell(f"a shape must be an object, got {shape!r:.80}; left out", "")
                continue
            group_id = shape.get("group_id")
            key = (repr(shape.get("label")), repr(group_id))
            if group_id is not None and key in groups:
                groups[key].append(shape)
                continue
            groups[key] = [shape]
            objects.append((number, groups[key]))
        return objects

    def _add(self, shapes: list[dict[str, Any]], entry: str) -> None:
        category_id = self._categories.id_of(shapes[0].get("label"))
        masks = [mask for shape in shapes if (mask := self._mask(shape, category_id, entry))]
        if not masks:
            return
        mask = joined_mask(masks)
        if mask is None:
            return
        extra: dict[str, Any] = {}
        for shape in shapes:
            ours = _dict_of(shape.get(OUR_KEY))
            more = _unknown(shape, SHAPE_KEYS) | _dict_of(ours.get("extra"))
            if any(key in extra and extra[key] != value for key, value in more.items()):
                self._tell("its parts say different things; the first one's were kept", entry)
            extra = more | extra
        first = _dict_of(shapes[0].get(OUR_KEY))
        objects = self._crowds if first.get("is_crowd") is True else self._instances
        fields = self._fields(first, entry)
        objects.add(mask, category_id, extra=extra, **fields)

    def _mask(self, shape: dict[str, Any], category_id: int, entry: str) -> CroppedMask | None:
        try:
            mask = shape_to_mask(shape, self._hw)
        except AnnotationError as error:
            self._tell(f"{error}: no instance, but kept as it is", entry)
            mask = None
        else:
            if mask is None:
                self._tell("has no pixel in the image: no instance, but kept as it is", entry)
        if mask is None:
            self._instances.maskless.append({"category_id": category_id, "labelme": shape})
        return mask

    def _fields(self, ours: dict[str, Any], entry: str) -> dict[str, Any]:
        take = Taken(lambda text: self._tell(text, entry))
        fields = {
            "handle": take.get(ours, "handle", handle_of, None),
            "uuid": take.get(ours, "uuid", lambda value: text_of(value, "uuid"), None),
            "state": take.get(ours, "state", state_of, None),
            "source": take.get(ours, "source", lambda value: text_of(value, "source"), None),
            "score": take.get(ours, "score", lambda value: share_of(value, "score"), None),
            "level": take.get(
                ours,
                "level",
                lambda value: whole_of(value, "level", lowest=0, highest=MAX_LEVEL),
                None,
            ),
            "predicted_box_xyxy": take.get(
                ours, "predicted_box", lambda value: box_of(value, "predicted_box"), None
            ),
            "edge_uncertainty": take.get(
                ours, "edge_uncertainty", lambda value: share_of(value, "edge_uncertainty"), None
            ),
        }
        return {key: value for key, value in fields.items() if value is not None}

    def _tell(self, message: str, entry: str) -> None:
        self._source.complain(message, entry=entry, path=self._path)


def _dict_of(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _unknown(entry: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """Return the keys of an entry that we do not know, without those that nobody filled in."""
    return {
        key: value
        for key, value in entry.items()
        if key not in known and not (key in _EMPTY and value in (_EMPTY[key], None))
    }
