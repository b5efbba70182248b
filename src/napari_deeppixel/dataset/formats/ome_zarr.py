"""OME-Zarr: images with their label images (OME-NGFF labels), whole or piece by piece.

What is written: ``<name>.ome.zarr`` for each image, NGFF 0.5 (Zarr 3), with the image's pixels if
its file is known, and its instances under ``labels/instances``; both with a pyramid. What overlaps
is not lost: ``labels/instances_layer_1``, … hold, whole, each instance of which the first label
image hides something. ``image-label`` has the category's colour and the properties of each number:
category, score, state, source, uuid. What NGFF has no word for (the list of categories, states of
images) lies under ``napari-deeppixel`` in the attributes of ``labels/instances``.

What is read: NGFF 0.4 and 0.5; a folder of such images, an image, or a single label image.

`ome-zarr`, the reference library, would bring S3 clients, web servers and dask along for what are
two dozen lines on top of zarr. The tests hold what is written against its reader and against the
models of `ome-zarr-models`.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.image import ImageArray
from napari_deeppixel.core.instance import InstanceSet, label_dtype
from napari_deeppixel.dataset.annotated import AnnotatedImage
from napari_deeppixel.dataset.formats.base import Format, Holds, WriteTarget
from napari_deeppixel.dataset.formats.image_pairs import (
    AnnotationNames,
    StackAxes,
    filled_stack,
    place_in,
    stack_axes,
    write_each,
)
from napari_deeppixel.dataset.formats.instance_values import category_values, instance_values
from napari_deeppixel.dataset.formats.label_layers import hidden_layers
from napari_deeppixel.dataset.formats.ome_zarr_groups import import_zarr, is_zarr_group
from napari_deeppixel.dataset.formats.ome_zarr_read import OUR_KEY, read_ome_zarr
from napari_deeppixel.dataset.image_file import read_image
from napari_deeppixel.dataset.pixels_file import storable

SUFFIX = ".ome.zarr"
LABELS_NAME = "instances"
_CHUNK = 1024
# the last level of a pyramid is no larger
_SMALL_SIDE = 512
_AXIS_TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}


def _write(images: Iterable[AnnotatedImage], target: WriteTarget) -> Iterator[AnnotatedImage]:
    import_zarr()
    names = AnnotationNames()
    is_single = target.path.suffix.lower() == ".zarr"

    def write_file(planes: Sequence[AnnotatedImage]) -> None:
        path = target.path
        if not is_single:
            path = place_in(target.path, f"{names.name_for(planes[0].file_name)}{SUFFIX}")
        _check_replaceable(path)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            _write_one(temporary, planes, has_image=target.copies_images)
            if path.exists():
                shutil.rmtree(path)
            temporary.replace(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    yield from write_each(images, target, write_file, is_single=is_single)


def _check_replaceable(path: Path) -> None:
    """Refuse to write over what we did not write: it may be somebody's only copy of an image."""
    if not path.exists():
        return
    ours = path / "zarr.json"
    is_ours = ours.is_file() and OUR_KEY.encode() in ours.read_bytes()
    if path.is_symlink() or not is_ours:
        raise AnnotationError(
            f"{path}: exists and was not written by this program; name another place"
        )


def _write_one(path: Path, planes: Sequence[AnnotatedImage], *, has_image: bool) -> None:
    stack = stack_axes(planes)
    order = _ngff_order(stack.axes, planes[0].file_name)
    root = import_zarr().open_group(str(path), mode="w", zarr_format=3)
    attributes: dict[str, Any] = {OUR_KEY: {"file_name": planes[0].file_name}}
    image_path = planes[0].path
    if has_image and image_path is not None:
        image = read_image(image_path)
        if image.image_hw == planes[0].image_hw and image.lead_shape == stack.lead_shape:
            attributes["ome"] = _write_image(root, image, planes[0].file_name)
    root.attrs.update(attributes)
    sets = filled_stack(planes, stack)
    layers = [hidden_layers(instances) for instances in sets]
    names = []
    labels = root.create_group("labels")
    for number in range(1 + max(len(of_plane) for of_plane in layers)):
        names.append(f"{LABELS_NAME}_layer_{number}" if number else LABELS_NAME)
        layer = sets
        if number:
            layer = [
                of_plane[number - 1] if number <= len(of_plane) else instances.select([])
                for of_plane, instances in zip(layers, sets, strict=True)
            ]
        group = labels.create_group(names[-1])
        ours = {OUR_KEY: _ours(planes, stack)} if not number else {}
        multiscale = _write_labels(group, layer, stack, order)
        about = _image_label(layer, stack)
        group.attrs.update(
            {"ome": {"version": "0.5", "multiscales": [multiscale], "image-label": about}} | ours
        )
    labels.attrs["ome"] = {"version": "0.5", "labels": names}


def _ngff_order(axes: str, name: str) -> list[int]:
    """Return the lead axes in NGFF's order: time, any other, z."""
    others = [axis for axis in axes if axis not in "tz"]
    if len(others) > 1:
        raise AnnotationError(
            f"{name}: OME-Zarr has no place for axes {axes!r}; it knows t, one more, and z"
        )
    ranks = [0 if axis == "t" else 2 if axis == "z" else 1 for axis in axes]
    return sorted(range(len(axes)), key=lambda position: ranks[position])


def _axis(letter: str) -> dict[str, str]:
    kind = _AXIS_TYPES.get(letter)
    return {"name": letter, "type": kind} if kind else {"name": letter}


def _num_levels(plane_hw: tuple[int, int]) -> int:
    side, levels = max(plane_hw), 1
    while side > _SMALL_SIDE:
        side, levels = -(-side // 2), levels + 1
    return levels


def _multiscale(name: str, axes: str, levels: int, *, is_mean: bool) -> dict[str, Any]:
    datasets = []
    for level in range(levels):
        factors = [float(2**level) if axis in "yx" else 1.0 for axis in axes]
        transforms: list[dict[str, Any]] = [{"type": "scale", "scale": factors}]
        if is_mean:
            # the mean of pixels lies between their centres, the first pixel of four on its own
            shifts = [(factor - 1) / 2 for factor in factors]
            transforms.append({"type": "translation", "translation": shifts})
        datasets.append({"path": str(level), "coordinateTransformations": transforms})
    return {
        "name": name,
        "axes": [_axis(axis) for axis in axes],
        "datasets": datasets,
        "type": "mean" if is_mean else "nearest",
    }


def _arrays(
    group: Any, lead: tuple[int, ...], plane_hw: tuple[int, int], axes: str, dtype: Any
) -> list[Any]:
    arrays = []
    height, width = plane_hw
    for level in range(_num_levels(plane_hw)):
        arrays.append(
            group.create_array(
                str(level),
                shape=(*lead, height, width),
                chunks=(*[1] * len(lead), min(height, _CHUNK), min(width, _CHUNK)),
                dtype=dtype,
                dimension_names=tuple(axes),
            )
        )
        height, width = -(-height // 2), -(-width // 2)
    return arrays


def _write_image(root: Any, image: ImageArray, name: str) -> dict[str, Any]:
    order = _ngff_order(image.lead_axes, name)
    lead = [(image.lead_axes[at], image.lead_shape[at]) for at in order]
    if image.num_channels > 1:
        if any(letter not in "tz" for letter, _ in lead):
            raise AnnotationError(f"{name}: OME-Zarr has no place for axes {image.axes!r}")
        at = sum(letter == "t" for letter, _ in lead)
        lead.insert(at, ("c", image.num_channels))
    axes = "".join(letter for letter, _ in lead) + "yx"
    first = storable(image.plane((0,) * len(image.lead_shape)))
    arrays = _arrays(
        root, tuple(size for _, size in lead), image.image_hw, axes, first.dtype.newbyteorder("=")
    )
    for index in image.plane_indices():
        at_lead: dict[str, int] = dict(zip(image.lead_axes, index, strict=True))
        plane = image.plane(index)
        for channel in range(image.num_channels):
            where = tuple((at_lead | {"c": channel})[letter] for letter, _ in lead)
            pixels = storable(plane[..., channel])
            for array in arrays:
                array[where] = pixels
                pixels = _halved_by_mean(pixels)
    multiscale = _multiscale(name, axes, len(arrays), is_mean=True)
    return {"version": "0.5", "multiscales": [multiscale]}


def _halved_by_mean(pixels: NDArray[Any]) -> NDArray[Any]:
    height, width = pixels.shape
    padded = np.pad(pixels, ((0, height % 2), (0, width % 2)), mode="edge")
    means = padded.reshape(-(-height // 2), 2, -(-width // 2), 2).mean(axis=(1, 3))
    halved: NDArray[Any] = np.rint(means) if pixels.dtype.kind in "ui" else means
    return halved.astype(pixels.dtype)


def _write_labels(
    group: Any, sets: Sequence[InstanceSet], stack: StackAxes, order: Sequence[int]
) -> dict[str, Any]:
    axes = "".join(stack.axes[at] for at in order) + "yx"
    lead = tuple(stack.lead_shape[at] for at in order)
    largest = max(int(instances.handles.max(initial=0)) for instances in sets)
    arrays = _arrays(group, lead, sets[0].image_hw, axes, label_dtype(largest))
    for index, instances in zip(np.ndindex(*stack.lead_shape), sets, strict=True):
        if not len(instances):
            continue
        numbers = instances.label_image()
        where = tuple(index[at] for at in order)
        for level, array in enumerate(arrays):
            array[where] = numbers[:: 2**level, :: 2**level]
    return _multiscale(LABELS_NAME, axes, len(arrays), is_mean=False)


def _image_label(sets: Sequence[InstanceSet], stack: StackAxes) -> dict[str, Any]:
    colors: dict[int, dict[str, Any]] = {}
    properties: dict[int, dict[str, Any]] = {}
    for index, instances in zip(np.ndindex(*stack.lead_shape), sets, strict=True):
        categories = {each.id: each for each in instances.categories.categories}
        for instance in instances:
            category = categories[instance.category_id]
            values = {"category": category.name, "plane": list(index), **instance_values(instance)}
            del values["handle"]
            known = properties.get(instance.handle)
            if known is not None:
                # the same number in another plane; a number may be listed only once
                known.setdefault("other-planes", []).append(values)
                continue
            properties[instance.handle] = {"label-value": instance.handle, **values}
            rgb = [int(category.color[at : at + 2], 16) for at in (1, 3, 5)]
            colors[instance.handle] = {"label-value": instance.handle, "rgba": [*rgb, 255]}
    return {
        "colors": list(colors.values()),
        "properties": list(properties.values()),
        "source": {"image": "../../"},
    }


def _ours(planes: Sequence[AnnotatedImage], stack: StackAxes) -> dict[str, Any]:
    return {
        "file_name": planes[0].file_name,
        "lead_axes": stack.axes,
        "categories": category_values(planes[0].categories),
        "planes": [
            {
                "plane": list(image.plane),
                "state": image.state.value,
                "split": image.split.value if image.split else None,
                "group": image.group,
            }
            for image in planes
        ],
    }


def _looks_like(path: Path) -> bool:
    try:
        if not path.is_dir():
            return False
        # names of images may hold a folder or two
        return is_zarr_group(path) or any(
            each.suffix.lower() == ".zarr" and is_zarr_group(each)
            for pattern in ("*", "*/*", "*/*/*")
            for each in path.glob(pattern)
        )
    except OSError:
        return False


OME_ZARR = Format(
    name="ome-zarr",
    title="OME-Zarr labels",
    note="For images too large for a file, read by napari, Fiji and others; crowds and complete "
    "regions are not in it.",
    suffixes=(".ome.zarr", ".zarr"),
    looks_like=_looks_like,
    read=read_ome_zarr,
    write=_write,
    holds=frozenset(
        {
            Holds.CATEGORIES,
            Holds.SCORES,
            Holds.STATES,
            Holds.SOURCES,
            Holds.IDENTITIES,
            Holds.HANDLES,
            Holds.PLANES,
            Holds.IMAGE_STATES,
            Holds.GROUPS,
            Holds.SPLITS,
        }
    ),
)
