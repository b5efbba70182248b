"""Reads ROIs of ImageJ, from a ROI Manager's zip or single: see `imagej`."""

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath

import roifile

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import AnnotationError, ImageError
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState
from napari_deeppixel.dataset.formats.base import ReadSource
from napari_deeppixel.dataset.formats.hostile import read_bytes
from napari_deeppixel.dataset.formats.image_pairs import (
    checked_plane,
    lead_axes_of,
    match_images,
    plane_at,
)
from napari_deeppixel.dataset.formats.imagej_rois import (
    roi_color,
    roi_mask,
    roi_plane,
    roi_values,
)
from napari_deeppixel.dataset.formats.instance_values import (
    Collected,
    category_table,
    without_our_keys,
)
from napari_deeppixel.dataset.formats.label_names import files_below
from napari_deeppixel.dataset.formats.label_source import named_errors
from napari_deeppixel.dataset.image_file import image_hw

ROI_SUFFIX = ".roi"
ZIP_SUFFIX = ".zip"
# what ends the names of our files, and of others'
_NAME_ENDINGS = ("_rois", "_roiset", "-rois", "_roi", "roiset")
_MAX_ENTRIES = 1_000_000
# an outline of a million points has 12 MB
_MAX_ROI_BYTES = 64_000_000
_MAX_ALL_BYTES = 512_000_000
# zlib's technical notes: one byte stands for 1032 at most
_MOST_BYTES_A_BYTE = 1040
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def read_imagej(source: ReadSource) -> Iterator[AnnotatedImage]:
    """Yield the images of ROI files.

    Raises
    ------
    AnnotationError
        If there is none, or a single file cannot be read.
    """
    path = source.path
    if path.is_dir():
        names = {
            each: PurePosixPath(each.relative_to(path).as_posix()).with_name(_image_stem(each))
            for each in files_below(path, (ZIP_SUFFIX, ROI_SUFFIX))
        }
        if not names:
            raise AnnotationError(f"{path}: no ROIs; expected files like x_rois.zip or x.roi")
    else:
        names = {path: PurePosixPath(_image_stem(path))}
    matched = match_images(names.values(), source.images)
    if len(names) == 1 and not matched and len(source.images.paths) == 1:
        # a RoiSet.zip beside the only image
        matched = dict.fromkeys(names.values(), source.images.paths[0])
    for each, name in names.items():
        try:
            with named_errors(each):
                entries = list(roi_entries(each))
                reader = _Reader(source, each, name, matched.get(name))
        except AnnotationError as error:
            if each == path:
                raise AnnotationError(f"{each}: {error}") from error
            source.complain(str(error), path=each)
            continue
        yield from reader.images(entries)


def _image_stem(path: Path) -> str:
    for ending in _NAME_ENDINGS:
        if path.stem.lower().endswith(ending) and len(path.stem) > len(ending):
            return path.stem[: -len(ending)]
    return path.stem


def roi_entries(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of each ROI in a zip or of a single one; nothing is written anywhere.

    Raises
    ------
    AnnotationError
        If the file would grow beyond any set of ROIs.
    zipfile.BadZipFile
        If it is no zip. Other errors of damaged zips come through as well.
    """
    data = read_bytes(path)
    if path.suffix.lower() != ZIP_SUFFIX:
        yield path.name, data
        return
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        infos = [info for info in archive.infolist() if not info.is_dir()]
        _check_sizes(infos)
        for info in infos:
            # never more than the size that was checked, whatever the entry grows to
            with archive.open(info) as file:
                yield info.filename, file.read(info.file_size)


def _check_sizes(infos: list[zipfile.ZipInfo]) -> None:
    if len(infos) > _MAX_ENTRIES:
        raise AnnotationError(f"{len(infos):,} entries are more than {_MAX_ENTRIES:,}")
    total = sum(info.file_size for info in infos)
    if total > _MAX_ALL_BYTES:
        raise AnnotationError(f"its entries grow to {total:,} bytes; ROIs never do")
    for info in infos:
        most = min(_MAX_ROI_BYTES, _MOST_BYTES_A_BYTE * info.compress_size + 1024)
        if info.file_size > most:
            raise AnnotationError(
                f"{info.filename!r:.60} grows to {info.file_size:,} bytes; no ROI"
            )
        if info.compress_type not in _METHODS:
            raise AnnotationError(
                f"{info.filename!r:.60} is packed in a way that ImageJ never uses"
            )


class _Reader:
    """Reads the ROIs of one file; the size of its image is known when it is made."""

    def __init__(
        self, source: ReadSource, path: Path, name: PurePosixPath, image_path: Path | None
    ) -> None:
        self._source, self._path, self._image_path = source, path, image_path
        if image_path is None:
            raise AnnotationError(
                f"ROIs do not know the size of their image, and none called {name} was found; put "
                "it beside them, or name the folder that it is in"
            )
        try:
            self._hw = image_hw(image_path)
        except ImageError as error:
            raise AnnotationError(f"the size of the image is not known: {error}") from error
        self._file_name = source.images.relative_name(image_path)
        self._axes, self._lead_shape = lead_axes_of(image_path)
        self._colors: dict[str, str] = {}

    def images(self, entries: list[tuple[str, bytes]]) -> Iterator[AnnotatedImage]:
        planes: dict[PlaneIndex, Collected] = {}
        for name, data in entries:
            try:
                self._add(name, data, planes)
            except AnnotationError as error:
                self._complain(f"{error}: left out", name)
        if not planes:
            planes[(0,) * len(self._lead_shape)] = Collected(self._hw)
        names = [name for each in planes.values() for name in each.category_names]
        table = category_table(None, names, colors=self._colors)
        if not len(table):
            table = CategoryTable.from_names(self._source.default_category)
        for plane, collected in sorted(planes.items(), key=lambda each: each[0]):
            yield AnnotatedImage.of(
                self._file_name,
                collected.to_instances(table),
                plane=plane,
                path=self._image_path,
                state=ImageState.DRAFT,
                instance_extras=collected.extras,
            )

    def _complain(self, message: str, entry: str) -> None:
        self._source.complain(message, entry=f"ROI {entry!r:.80}", path=self._path)

    def _add(self, name: str, data: bytes, planes: dict[PlaneIndex, Collected]) -> None:
        def complain(message: str) -> None:
            self._complain(message, name)

        with named_errors(self._path):
            roi = roifile.ImagejRoi.frombytes(data)
            values = roi_values(roi)
        told: list[str] = []
        with named_errors(self._path):
            mask = roi_mask(roi, self._hw, told.append)
        for message in told:
            complain(message)
        if mask is None:
            height, width = self._hw
            raise AnnotationError(f"no pixel of the image of {height} x {width} lies in it")
        plane = self._plane_of(roi, values, complain)
        category = str(values.pop("category", ""))
        if category.strip():
            self._colors.setdefault(category, roi_color(roi))
        else:
            category = f"group {roi.group}" if roi.group > 0 else self._source.default_category
        collected = planes.setdefault(plane, Collected(self._hw))
        collected.add(
            mask,
            category=category,
            values=values,
            extra=without_our_keys(values),
            complain=complain,
        )

    def _plane_of(
        self, roi: roifile.ImagejRoi, values: dict[str, object], complain: Callable[[str], None]
    ) -> PlaneIndex:
        own = values.pop("plane", None)
        if own is not None:
            try:
                return checked_plane([int(number) for number in str(own).split()])
            except ValueError as error:
                raise AnnotationError(f"a plane must be whole numbers, got {own!r:.60}") from error
        at: Mapping[str, int] = roi_plane(roi)
        if self._axes and not at:
            complain("is tied to no plane of the stack, so it was put on the first")
        return plane_at(at, self._axes, self._lead_shape) if self._axes else ()
