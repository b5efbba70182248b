"""All exchange formats by name; a format's module is loaded when it is first asked for."""

from importlib import import_module
from pathlib import Path

from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.dataset.formats.base import Format
from napari_deeppixel.dataset.formats.hostile import MAX_TEXT_BYTES, read_json

# name → module in this package and name of the `Format` in it. The order is that of menus, and of
# guesses: what can be told for certain comes first.
_HOMES = {
    "dataset": "dataset_folder:DATASET",
    "coco": "coco_format:COCO",
    "yolo": "yolo:YOLO",
    "labelme": "labelme:LABELME",
    "cvat": "cvat:CVAT",
    "voc": "voc:VOC",
    "geojson": "geojson:GEOJSON",
    "imagej": "imagej:IMAGEJ",
    "ome-zarr": "ome_zarr:OME_ZARR",
    "cellpose": "cellpose:CELLPOSE",
    "labels": "label_files:LABELS",
}

FORMAT_NAMES = tuple(_HOMES)


def get_format(name: str) -> Format:
    """Return a format by its name.

    Raises
    ------
    AnnotationError
        If there is none of that name.
    """
    if name not in _HOMES:
        raise AnnotationError(f"unknown format {name!r}: choose {', '.join(FORMAT_NAMES)}")
    module, _, attribute = _HOMES[name].partition(":")
    found: Format = getattr(import_module(f"{__package__}.{module}"), attribute)
    return found


def all_formats() -> list[Format]:
    """Return all formats, in the order of menus."""
    return [get_format(name) for name in FORMAT_NAMES]


def guess_format(path: Path) -> Format:
    """Return the format that a file or folder probably has.

    Raises
    ------
    AnnotationError
        If it is missing or looks like none.
    """
    if not path.exists():
        raise AnnotationError(f"{path}: no such file or folder")
    for each in all_formats():
        if each.read is not None and each.looks_like(path):
            return each
    if path.is_file() and path.suffix.lower() in (".json", ".geojson"):
        # what is damaged looks like nothing: say that instead
        read_json(path, limit=MAX_TEXT_BYTES)
    raise AnnotationError(
        f"{path}: the format cannot be told; 'convert' takes its name with --from: "
        f"{', '.join(FORMAT_NAMES)}"
    )


def format_to_write(path: Path) -> Format:
    """Return the format that a name asks for by its ending; a folder is a dataset.

    Raises
    ------
    AnnotationError
        If no format that can be written has that ending.
    """
    name = path.name.lower()
    for each in all_formats():
        if each.write is not None and any(name.endswith(suffix) for suffix in each.suffixes):
            return each
    if path.suffix and not path.is_dir():
        raise AnnotationError(
            f"{path}: no format has this ending; name it with --to: {', '.join(FORMAT_NAMES)}"
        )
    return get_format("dataset")
