"""Reads GeoJSON, QuPath's and ours: see `geojson`."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import shapely

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import AnnotationError, ImageError
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState
from napari_deeppixel.dataset.formats.base import ReadSource
from napari_deeppixel.dataset.formats.coco_values import (
    Taken,
    image_state_of,
    outlines_of,
    split_of,
    text_of,
)
from napari_deeppixel.dataset.formats.geojson_shapes import polygons_of
from napari_deeppixel.dataset.formats.hostile import plane_hw, read_json
from napari_deeppixel.dataset.formats.image_pairs import (
    checked_plane,
    lead_axes_of,
    match_images,
    plane_at,
    plane_entry,
)
from napari_deeppixel.dataset.formats.instance_values import Collected, category_table
from napari_deeppixel.dataset.formats.label_names import files_below
from napari_deeppixel.dataset.formats.polygons import geometry_to_mask
from napari_deeppixel.dataset.image_file import image_hw

SUFFIX = ".geojson"
OUR_KEY = "napari-deeppixel"
# no sets: a file may say that a type is a list, which has no hash
_GEOMETRIES = (
    "Point",
    "MultiPoint",
    "LineString",
    "MultiLineString",
    "Polygon",
    "MultiPolygon",
    "GeometryCollection",
)


def read_geojson(source: ReadSource) -> Iterator[AnnotatedImage]:
    """Yield the images of GeoJSON files.

    Raises
    ------
    AnnotationError
        If there is none, or a single file cannot be read.
    """
    path = source.path
    if path.is_dir():
        names = {
            each: PurePosixPath(each.relative_to(path).as_posix()).with_suffix("")
            for each in files_below(path, (SUFFIX,))
        }
        if not names:
            raise AnnotationError(f"{path}: no files ending with {SUFFIX}")
    else:
        names = {path: PurePosixPath(path.stem)}
    matched = match_images(names.values(), source.images)
    for each, name in names.items():
        try:
            reader = _Reader(source, each, name, matched.get(name))
        except AnnotationError as error:
            if each == path:
                raise AnnotationError(f"{each}: {str(error).removeprefix(f'{each}: ')}") from error
            source.complain(str(error).removeprefix(f"{each}: "), path=each)
            continue
        yield from reader.images()


def _features(document: Any) -> list[Any]:
    """Return the features in a document: a collection, a list, a feature, or a bare geometry."""
    if isinstance(document, list):
        return document
    if not isinstance(document, dict):
        raise AnnotationError(f"no GeoJSON: an object or list is wanted, got {document!r:.60}")
    kind = document.get("type")
    if kind == "FeatureCollection":
        features = document.get("features")
        if not isinstance(features, list):
            raise AnnotationError("no GeoJSON: the FeatureCollection has no list of features")
        return features
    if kind == "Feature":
        return [document]
    if kind in _GEOMETRIES:
        return [{"type": "Feature", "geometry": document}]
    raise AnnotationError(
        f"no GeoJSON: type must be FeatureCollection or Feature, got {kind!r:.60}"
    )


class _Reader:
    """Reads one file; its size and features are known when it is made."""

    def __init__(
        self, source: ReadSource, path: Path, name: PurePosixPath, image_path: Path | None
    ) -> None:
        self._source, self._path, self._image_path = source, path, image_path
        document = read_json(path)
        self._features = _features(document)
        ours = document.get(OUR_KEY) if isinstance(document, dict) else None
        self._ours: Mapping[str, Any] = ours if isinstance(ours, dict) else {}
        self._hw = self._image_hw()
        own_name = self._ours.get("file_name")
        self._file_name = (
            source.images.relative_name(image_path)
            if image_path is not None
            else own_name
            if isinstance(own_name, str) and own_name.strip()
            else str(name)
        )
        self._axes, self._lead_shape = lead_axes_of(image_path)
        self._colors: dict[str, str] = {}

    def _image_hw(self) -> tuple[int, int]:
        if self._image_path is not None:
            try:
                return image_hw(self._image_path)
            except ImageError as error:
                self._complain(f"the size of its image is not known ({error})", "")
        if "height" in self._ours and "width" in self._ours:
            return plane_hw(self._ours["height"], self._ours["width"])
        raise AnnotationError(
            "the size of its image is not known: no image of that name was found; put the image "
            "beside it, or name the folder that it is in"
        )

    def _complain(self, message: str, entry: str) -> None:
        self._source.complain(message, entry=entry, path=self._path)

    def images(self) -> Iterator[AnnotatedImage]:
        about = self._planes()
        planes: dict[PlaneIndex, Collected] = {plane: Collected(self._hw) for plane in about}
        flat_axes = self._varying_axes()
        for number, feature in enumerate(self._features):
            entry = f"feature {number}"
            try:
                if not isinstance(feature, dict):
                    raise AnnotationError(f"a feature must be an object, got {feature!r:.60}")
                plane = self._plane_of(feature, flat_axes)
                self._add(feature, planes.setdefault(plane, Collected(self._hw)), entry)
            except AnnotationError as error:
                self._complain(f"{error}: left out", entry)
        if not planes:
            planes[(0,) * len(self._lead_shape)] = Collected(self._hw)
        names = [name for each in planes.values() for name in each.category_names]
        table = category_table(self._ours.get("categories"), names, colors=self._colors)
        if not len(table):
            table = CategoryTable.from_names(self._source.default_category)
        for plane, collected in sorted(planes.items(), key=lambda each: each[0]):
            yield AnnotatedImage.of(
                self._file_name,
                collected.to_instances(table),
                plane=plane,
                path=self._image_path,
                instance_extras=collected.extras,
                **about.get(plane, {"state": ImageState.DRAFT}),
            )

    def _planes(self) -> dict[PlaneIndex, dict[str, Any]]:
        """Return plane → what we wrote of it."""
        listed = self._ours.get("planes", [])
        about: dict[PlaneIndex, dict[str, Any]] = {}
        for each in listed if isinstance(listed, list) else []:
            try:
                if not isinstance(each, dict):
                    raise AnnotationError(f"a plane must be an object, got {each!r:.60}")
                plane = checked_plane(each.get("plane"))
                about[plane] = self._plane_values(each, plane_entry(plane))
            except AnnotationError as error:
                self._complain(f"{error}: left out", "planes")
        return about

    def _plane_values(self, each: dict[str, Any], entry: str) -> dict[str, Any]:
        taken = Taken(lambda message: self._complain(message, entry))
        return {
            "state": taken.get(each, "state", image_state_of, ImageState.DRAFT),
            "split": taken.get(each, "split", split_of, None),
            "group": taken.get(each, "group", lambda value: text_of(value, "group"), ""),
            "regions": taken.get(each, "regions", outlines_of, ()),
            "image_extra": taken.mapping(each, "extra"),
        }

    def _varying_axes(self) -> str:
        """Return the axes that QuPath's planes tell apart, where no image says what there is."""
        if self._axes or self._image_path is not None:
            return self._axes
        return "".join(
            axis for axis in "tz" if any(_qupath_plane(each).get(axis) for each in self._features)
        )

    def _plane_of(self, feature: dict[str, Any], axes: str) -> PlaneIndex:
        ours = _ours_of(feature)
        if "plane" in ours:
            return checked_plane(ours["plane"])
        return plane_at(_qupath_plane(feature), axes, self._lead_shape)

    def _add(self, feature: dict[str, Any], collected: Collected, entry: str) -> None:
        def complain(message: str) -> None:
            self._complain(message, entry)

        mask = self._mask(feature, complain)
        if mask is None:
            return
        taken = Taken(complain)
        properties = taken.mapping(feature, "properties")
        ours = _ours_of(feature)
        values = {"score": _measured_score(properties)} | ours
        known = ("classification", "objectType", "object_type", OUR_KEY)
        extra = {key: value for key, value in properties.items() if key not in known}
        if "score" in ours and extra.get("measurements") == {"score": ours["score"]}:
            del extra["measurements"]
        members = ["type", "geometry", "properties"]
        if isinstance(feature.get("id"), str):
            values = {"uuid": feature["id"]} | values
            members.append("id")
        extra |= {key: value for key, value in feature.items() if key not in members}
        collected.add(
            mask,
            category=self._category(properties, complain),
            values=values,
            extra=extra | taken.mapping(ours, "extra"),
            complain=complain,
        )

    def _mask(self, feature: dict[str, Any], complain: Callable[[str], None]) -> CroppedMask | None:
        polygons = polygons_of(feature.get("geometry"), complain)
        if not polygons:
            complain("has no area, so it is left out")
            return None
        shape = shapely.MultiPolygon(polygons)
        mask = geometry_to_mask(shape, self._hw)
        height, width = self._hw
        x1, y1, x2, y2 = shape.bounds
        if mask is None:
            complain(f"no pixel of the image of {height} x {width} lies in it, so it is left out")
        elif x1 < 0 or y1 < 0 or x2 > width or y2 > height:
            complain(f"reaches out of the image of {height} x {width} and was cut at its border")
        return mask

    def _category(self, properties: dict[str, Any], complain: Callable[[str], None]) -> str:
        classification = properties.get("classification")
        if classification is None:
            return self._source.default_category
        if isinstance(classification, str):
            name: Any = classification
        elif isinstance(classification, dict):
            names = classification.get("names")
            # QuPath's classes of several parts are called so in its window
            joined = ": ".join(map(str, names)) if isinstance(names, list) else ""
            name = classification.get("name") or joined
            self._colors.setdefault(str(name), _color(classification))
        else:
            name = ""
        if not isinstance(name, str) or not name.strip():
            complain(
                f"no name of a category in {classification!r:.60}; it becomes "
                f"{self._source.default_category!r}"
            )
            return self._source.default_category
        return name


def _ours_of(feature: dict[str, Any]) -> dict[str, Any]:
    properties = feature.get("properties")
    ours = properties.get(OUR_KEY) if isinstance(properties, dict) else None
    return ours if isinstance(ours, dict) else {}


def _qupath_plane(feature: Any) -> dict[str, int]:
    geometry = feature.get("geometry") if isinstance(feature, dict) else None
    plane = geometry.get("plane") if isinstance(geometry, dict) else None
    found = plane if isinstance(plane, dict) else {}
    return {
        axis: found[axis]
        for axis in "tz"
        if isinstance(found.get(axis), int) and not isinstance(found[axis], bool)
    }


def _measured_score(properties: Mapping[str, Any]) -> Any:
    measurements = properties.get("measurements")
    return measurements.get("score") if isinstance(measurements, dict) else None


def _color(classification: Mapping[str, Any]) -> str:
    """Return ``#rrggbb``; older versions of QuPath write one signed number."""
    color, number = classification.get("color"), classification.get("colorRGB")
    if isinstance(number, int) and not isinstance(number, bool):
        color = [number >> shift & 255 for shift in (16, 8, 0)]
    if not isinstance(color, list) or len(color) < 3:
        return ""
    if not all(isinstance(part, int) and 0 <= part <= 255 for part in color[:3]):
        return ""
    return "#{:02x}{:02x}{:02x}".format(*color[:3])
