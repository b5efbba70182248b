"""Reads OME-Zarr labels: metadata is checked before a pixel is decoded, planes come one by one."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.image import ImageArray, PlaneIndex
from napari_deeppixel.core.instance import InstanceSet, InstanceState
from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState, Split
from napari_deeppixel.dataset.formats.base import ReadSource
from napari_deeppixel.dataset.formats.coco_values import text_of
from napari_deeppixel.dataset.formats.image_pairs import match_images, plane_entry, size_problem
from napari_deeppixel.dataset.formats.instance_values import (
    Collected,
    category_table,
    without_our_keys,
)
from napari_deeppixel.dataset.formats.label_layers import joined_layers
from napari_deeppixel.dataset.formats.label_source import (
    label_plane,
    numbered_instances,
)
from napari_deeppixel.dataset.formats.ome_zarr_groups import (
    LabelGroup,
    import_zarr,
    is_zarr_group,
    label_groups,
    open_array,
)
from napari_deeppixel.dataset.image_folder import is_inside

# in the attributes of what we write
OUR_KEY = "napari-deeppixel"
# where other programs write the kind of an object
_CATEGORY_KEYS = ("category", "class", "classification")


def read_ome_zarr(source: ReadSource) -> Iterator[AnnotatedImage]:
    """Yield the planes of OME-Zarr label images: see `ome_zarr` for what is read.

    Raises
    ------
    AnnotationError
        If there is no such image, or zarr is missing.
    """
    path = source.path
    if not path.is_dir():
        raise AnnotationError(f"{path}: no such folder; OME-Zarr images are folders")
    import_zarr()
    if is_zarr_group(path):
        roots = [path]
    else:
        roots = [
            each
            for each in sorted(path.rglob("*.zarr"))
            if is_zarr_group(each) and is_inside(each, path)
        ]
        if not roots:
            raise AnnotationError(f"{path}: neither an OME-Zarr image nor a folder of such images")
    names = {root: _image_name(root, path) for root in roots}
    matched = match_images(names.values(), source.images)
    for root in roots:
        try:
            groups, wrong = label_groups(root)
        except AnnotationError as error:
            if root == path:
                raise AnnotationError(f"{root}: {error}") from error
            source.complain(str(error), path=root)
            continue
        for name, reason in wrong.items():
            source.complain(f"{reason}: left out", entry=f"label image {name!r}", path=root)
        for base, layers in groups:
            yield from _Reader(source, base, layers).images(root, matched.get(names[root]))


def _image_name(root: Path, folder: Path) -> PurePosixPath:
    name = PurePosixPath(root.name if root == folder else root.relative_to(folder).as_posix())
    stem = name.name
    for ending in (".zarr", ".ome"):
        if stem.lower().endswith(ending) and len(stem) > len(ending):
            stem = stem[: -len(ending)]
    return name.with_name(stem or "image")


class _Reader:
    """Reads the planes of one label image and its layers."""

    def __init__(self, source: ReadSource, group: LabelGroup, layers: Sequence[LabelGroup]) -> None:
        self._source, self._group, self._layers = source, group, layers
        ours = group.attributes.get(OUR_KEY)
        self._ours: Mapping[str, Any] = ours if isinstance(ours, dict) else {}
        self._properties: dict[int, dict[str, Any]] = {}
        for each in (*layers[::-1], group):
            self._properties |= _properties(each, self._complain)

    def _complain(self, message: str, entry: str = "") -> None:
        self._source.complain(message, entry=entry, path=self._group.path)

    def images(self, root: Path, path: Path | None) -> Iterator[AnnotatedImage]:
        try:
            stacks = self._open()
        except AnnotationError as error:
            self._complain(f"{error}: left out")
            return
        problem = size_problem(path, stacks[0].image_hw) if path else ""
        if problem:
            self._complain(f"{problem}: left out")
            return
        name = self._file_name(root, path)
        listed = self._listed_planes()
        lead_axes = self._lead_axes(stacks[0])
        order = [stacks[0].lead_axes.index(axis) for axis in lead_axes]
        indices = {tuple(i[at] for at in order): i for i in stacks[0].plane_indices()}
        for plane, index in sorted(indices.items()):
            if listed is not None and plane not in listed:
                continue
            image = self._plane(stacks, index, plane)
            if image is not None:
                about = (listed or {}).get(plane, {})
                yield replace(image, file_name=name, path=path, plane=plane, **about)

    def _open(self) -> list[ImageArray]:
        stacks = [_without_channel(open_array(self._group))]
        for layer in self._layers:
            try:
                stack = _without_channel(open_array(layer))
                if (stack.axes, stack.pixels.shape) != (stacks[0].axes, stacks[0].pixels.shape):
                    raise AnnotationError(f"has another shape than {self._group.path.name}")
                stacks.append(stack)
            except AnnotationError as error:
                self._complain(f"{error}: left out", layer.path.name)
        return stacks

    def _file_name(self, root: Path, path: Path | None) -> str:
        if path is not None:
            return self._source.images.relative_name(path)
        own = self._ours.get("file_name")
        return own if isinstance(own, str) and own.strip() else root.name

    def _lead_axes(self, stack: ImageArray) -> str:
        own = self._ours.get("lead_axes")
        is_own = isinstance(own, str) and sorted(own) == sorted(stack.lead_axes)
        return str(own) if is_own else stack.lead_axes

    def _listed_planes(self) -> dict[PlaneIndex, dict[str, Any]] | None:
        """Return plane → what is known of it; None if nobody says which planes there are."""
        if "planes" not in self._ours:
            return None
        listed = {}
        try:
            for each in self._ours["planes"]:
                split = each["split"]
                listed[tuple(int(number) for number in each["plane"])] = {
                    "state": ImageState(each["state"]),
                    "split": None if split is None else Split(split),
                    "group": text_of(each["group"], "group"),
                }
        except (KeyError, TypeError, ValueError, OverflowError, AnnotationError) as error:
            self._complain(f"the list of planes cannot be read ({error!r}): all are read")
            return None
        return listed

    def _plane(
        self, stacks: Sequence[ImageArray], index: PlaneIndex, plane: PlaneIndex
    ) -> AnnotatedImage | None:
        nameless = CategoryTable.from_names(self._source.default_category)
        entry = plane_entry(plane)
        try:
            layers = []
            for stack in stacks:
                numbers, was_bool = label_plane(stack, index)
                layers.append(numbered_instances(numbers, nameless))
                if was_bool:
                    self._complain("a mask of yes and no: each part was made an instance", entry)
        except AnnotationError as error:
            self._complain(f"{error}: left out", entry)
            return None
        found = joined_layers(layers, nameless, InstanceState.ACCEPTED)
        return self._with_properties(found, plane)

    def _with_properties(self, found: InstanceSet, plane: PlaneIndex) -> AnnotatedImage:
        collected = Collected(found.image_hw)
        for handle, mask in zip(found.handles.tolist(), found.masks, strict=True):
            values = _of_plane(self._properties.get(handle, {}), plane)
            key = next((k for k in _CATEGORY_KEYS if isinstance(values.get(k), str)), "")
            category = str(values.get(key, ""))
            category = category if category.strip() else self._source.default_category
            known = ("label-value", "plane", "other-planes", key)
            extra = {k: v for k, v in without_our_keys(values).items() if k not in known}
            collected.add(
                mask,
                category=category,
                values={**values, "handle": handle},
                extra=extra,
                complain=lambda message, handle=handle: self._complain(  # type: ignore[misc]
                    message, f"{plane_entry(plane)} number {handle}".strip()
                ),
            )
        table = category_table(self._ours.get("categories"), collected.category_names)
        if not len(table):
            table = CategoryTable.from_names(self._source.default_category)
        return AnnotatedImage.of(
            "",
            collected.to_instances(table),
            state=ImageState.DRAFT,
            instance_extras=collected.extras,
        )


def _without_channel(image: ImageArray) -> ImageArray:
    if image.num_channels > 1:
        raise AnnotationError(
            f"has {image.num_channels} channels of numbers; save each as a label image of its own"
        )
    return image


def _properties(group: LabelGroup, complain: Callable[[str], None]) -> dict[int, dict[str, Any]]:
    about = group.ome.get("image-label")
    about = about if isinstance(about, dict) else {}
    listed = about.get("properties")
    if listed is not None and not isinstance(listed, list):
        complain(f"properties must be a list, got {type(listed).__name__}; they are left out")
    found: dict[int, dict[str, Any]] = {}
    for each in listed if isinstance(listed, list) else []:
        value = each.get("label-value") if isinstance(each, dict) else None
        if isinstance(value, bool) or not isinstance(value, int):
            complain(f"a property without a whole number as label-value is left out: {each!r}")
            continue
        found[value] = each
    return found


def _of_plane(values: Mapping[str, Any], plane: PlaneIndex) -> Mapping[str, Any]:
    """Return what is said of a number in one plane; the same number may mean others elsewhere."""
    others = values.get("other-planes")
    own = values.get("plane")
    if own == list(plane) or not isinstance(own, list):
        return values
    for each in others if isinstance(others, list) else []:
        if isinstance(each, dict) and each.get("plane") == list(plane):
            return each
    return {}
