"""OME-Zarr label images on the disk: their metadata is checked before anything is decoded."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.image import ImageArray
from napari_deeppixel.dataset.formats.coco_values import text_of
from napari_deeppixel.dataset.formats.hostile import plane_hw, read_json
from napari_deeppixel.dataset.formats.label_names import layer_of
from napari_deeppixel.dataset.formats.label_source import named_errors
from napari_deeppixel.dataset.image_folder import is_inside

# numcodecs has one that unpickles, and Zarr takes codecs by name
_SAFE_CODECS = frozenset(
    {"blosc", "bz2", "crc32c", "delta", "gzip", "lz4", "lzma", "shuffle", "zlib", "zstd"}
    | {"bytes", "sharding_indexed", "transpose"}
)
_INTEGERS = frozenset(
    {"bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}
)
_MAX_PLANES = 100_000
# 4 GiB of a plane, or of a chunk: these are decoded as a whole
_MAX_BYTES = 1 << 32
_MAX_DIMENSIONS = 5


def import_zarr() -> Any:
    """Return the module `zarr`, of version 3 or later.

    Raises
    ------
    AnnotationError
        If it is missing or older.
    """
    try:
        import zarr
    except ImportError as error:
        raise AnnotationError(
            f'OME-Zarr needs zarr ({error}): pip install "napari-deeppixel[ome-zarr]"'
        ) from error
    if int(zarr.__version__.split(".")[0]) < 3:
        raise AnnotationError(
            f"OME-Zarr needs zarr 3, got {zarr.__version__}: "
            'pip install "napari-deeppixel[ome-zarr]"'
        )
    return zarr


def is_zarr_group(path: Path) -> bool:
    """Whether a folder is a Zarr group, of either version."""
    return (path / ".zgroup").is_file() or (path / "zarr.json").is_file()


@dataclass(frozen=True, kw_only=True)
class LabelGroup:
    """A label image: where it is, what is said of it, and where its numbers are."""

    path: Path
    attributes: Mapping[str, Any]
    ome: Mapping[str, Any]
    axes: str
    array_path: Path


def _attributes(path: Path) -> dict[str, Any]:
    """Return the attributes of a group or array; an empty object if there are none."""
    if (path / "zarr.json").is_file():
        found = read_json(path / "zarr.json")
        found = found.get("attributes", {}) if isinstance(found, dict) else None
    elif (path / ".zattrs").is_file():
        found = read_json(path / ".zattrs")
    else:
        found = {}
    if not isinstance(found, dict):
        raise AnnotationError("its attributes are no JSON object")
    return found


def _ome(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    # 0.5 has all under "ome", 0.4 beside each other
    ome = attributes.get("ome", attributes)
    return ome if isinstance(ome, dict) else {}


def label_groups(
    root: Path,
) -> tuple[list[tuple[LabelGroup, list[LabelGroup]]], dict[str, AnnotationError]]:
    """Return the label images of an image, each with its layers, and what is wrong with others.

    Raises
    ------
    AnnotationError
        If there are none, or the metadata cannot be read; the message does not name the folder.
    """
    with named_errors(root):
        if "image-label" in _ome(_attributes(root)):
            return [(_label_group(root, root), [])], {}
        folder = root if "labels" in _ome(_attributes(root)) else root / "labels"
        listed = _ome(_attributes(folder)).get("labels", []) if folder.is_dir() else []
        if not isinstance(listed, list) or not listed:
            raise AnnotationError("has no label images (no labels/, or nothing listed in it)")
    found: dict[str, LabelGroup] = {}
    wrong: dict[str, AnnotationError] = {}
    for name in listed:
        try:
            with named_errors(root):
                path = _below(folder, text_of(name, "the name of a label image"))
                found[name] = _label_group(path, root)
        except AnnotationError as error:
            wrong[str(name)] = error
    return _with_layers(found), wrong


def _with_layers(found: dict[str, LabelGroup]) -> list[tuple[LabelGroup, list[LabelGroup]]]:
    bases: dict[str, list[tuple[int, LabelGroup]]] = {name: [] for name in found}
    for name, group in found.items():
        base, number = layer_of(name)
        if number and base in bases and name in bases:
            bases.pop(name)
            bases[base].append((number, group))
    return [
        (found[name], [group for _, group in sorted(layers, key=lambda each: each[0])])
        for name, layers in bases.items()
    ]


def _below(folder: Path, name: str) -> Path:
    parts = PurePosixPath(name.replace("\\", "/"))
    path = folder / parts
    if parts.is_absolute() or ".." in parts.parts or not is_inside(path, folder):
        raise AnnotationError(f"path {name!r} leads out of the folder")
    return path


def _label_group(path: Path, root: Path) -> LabelGroup:
    if not is_inside(path, root) or not path.is_dir():
        raise AnnotationError("is missing, or a link out of the image")
    attributes = _attributes(path)
    ome = _ome(attributes)
    try:
        multiscale = ome["multiscales"][0]
        # 0.3 had names alone
        axes = [each if isinstance(each, str) else each["name"] for each in multiscale["axes"]]
        array_path = _below(path, text_of(multiscale["datasets"][0]["path"], "a path"))
    except (KeyError, IndexError, TypeError) as error:
        raise AnnotationError(f"no multiscales as OME-NGFF wants them ({error!r})") from error
    if axes[-2:] != ["y", "x"] or any(not isinstance(a, str) or len(a) != 1 for a in axes):
        raise AnnotationError(f"axes must be t, c, z, y, x or some of these, got {axes}")
    return LabelGroup(
        path=path, attributes=attributes, ome=ome, axes="".join(axes), array_path=array_path
    )


def open_array(group: LabelGroup) -> ImageArray:
    """Return the numbers of a label image, nothing of them read yet."""
    path = group.array_path
    with named_errors(path):
        if not is_inside(path, group.path):
            raise AnnotationError("a link out of the image")
        _check_array(path)
        zarr = import_zarr()
        store = zarr.storage.LocalStore(path, read_only=True)
        array = zarr.open_array(store, mode="r")
        return ImageArray(pixels=array, axes=group.axes, name=path.name, source=str(path))


def _check_array(path: Path) -> None:
    if (path / "zarr.json").is_file():
        about = read_json(path / "zarr.json")
        dtype, chunks = about["data_type"], about["chunk_grid"]["configuration"]["chunk_shape"]
        codecs = list(_codec_names(about["codecs"]))
    else:
        about = read_json(path / ".zarray")
        dtype, chunks = np.dtype(text_of(about["dtype"], "dtype")).name, about["chunks"]
        used = [about.get("compressor"), *(about.get("filters") or [])]
        codecs = [each["id"] for each in used if each is not None]
    if dtype not in _INTEGERS:
        raise AnnotationError(f"label images hold integers, this one {dtype!r}")
    if not set(codecs) <= _SAFE_CODECS:
        unknown = ", ".join(sorted(map(str, set(codecs) - _SAFE_CODECS)))
        raise AnnotationError(
            f"coded as {unknown}, which is not read: it may run code. Save it with zstd or blosc"
        )
    _check_sizes(about["shape"], chunks, np.dtype(dtype).itemsize)


def _codec_names(codecs: Any) -> Iterator[Any]:
    for codec in codecs:
        yield codec if isinstance(codec, str) else codec["name"]
        inner = {} if isinstance(codec, str) else codec.get("configuration") or {}
        yield from _codec_names([*inner.get("codecs", []), *inner.get("index_codecs", [])])


def _check_sizes(shape: Any, chunks: Any, itemsize: int) -> None:
    for sides in (shape, chunks):
        if (
            not isinstance(sides, list)
            or not 2 <= len(sides) <= _MAX_DIMENSIONS
            or any(
                not isinstance(side, int) or isinstance(side, bool) or side < 1 for side in sides
            )
        ):
            raise AnnotationError(f"sizes must be 2 to 5 whole numbers from 1 on, got {sides}")
    plane_hw(*shape[-2:])
    for what, sides in (("a plane", shape[-2:]), ("a chunk", chunks)):
        num_bytes = math.prod(sides) * itemsize
        if num_bytes > _MAX_BYTES:
            raise AnnotationError(f"{what} of {num_bytes:,} bytes is more than is read at once")
    if math.prod(shape[:-2]) > _MAX_PLANES:
        raise AnnotationError(f"{math.prod(shape[:-2]):,} planes are more than {_MAX_PLANES:,}")
