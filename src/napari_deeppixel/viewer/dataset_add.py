"""Adds what a viewer shows to a dataset: a whole image, or a part of a plane."""

import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from napari.layers import Image
from numpy.typing import NDArray

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import ImageError
from napari_deeppixel.core.image import ImageArray, PlaneIndex
from napari_deeppixel.core.instance import InstanceSet
from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState
from napari_deeppixel.dataset.image_entry import Storage
from napari_deeppixel.dataset.image_file import read_image
from napari_deeppixel.dataset.pixels_file import storable
from napari_deeppixel.dataset.store import Added, Dataset, LoadedImage
from napari_deeppixel.edits.diff import Region
from napari_deeppixel.edits.session import SessionSnapshot
from napari_deeppixel.viewer.dataset_layers import annotated_planes
from napari_deeppixel.viewer.layers import instance_layers_of
from napari_deeppixel.viewer.read_layer import layer_to_image
from napari_deeppixel.viewer.region_cut import cut_instances, cut_regions

_MAX_NAME = 120


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerContent:
    """An Image layer and its instances as they are now; made quickly, read in a thread.

    Attributes
    ----------
    image
        The pixels.
    path
        The file that the layer was opened from; None if there is none.
    snapshot
        Its instances; None if it has none yet.
    """

    image: ImageArray
    path: Path | None
    snapshot: SessionSnapshot | None

    @classmethod
    def of(cls, layer: Image, *, channel_axis: int | None) -> "LayerContent":
        """Return what a layer holds, with all that a person did to our layers.

        Raises
        ------
        ImageError
            If the layer holds no image.
        """
        image = layer_to_image(layer, channel_axis=channel_axis)
        view = instance_layers_of(layer)
        if view is not None:
            view.settle_all()
        path = Path(layer.source.path) if layer.source.path else None
        return cls(
            image=image,
            path=path if path is not None and path.is_file() else None,
            snapshot=None if view is None else view.session.snapshot(),
        )

    def is_in(self, loaded: LoadedImage) -> bool:
        """Whether a dataset's image has just the instances that the layer has."""
        ours = self.planes(self.snapshot.categories) if self.snapshot is not None else ()
        return _uuids(ours) == _uuids(loaded.planes)

    def planes(self, categories: CategoryTable) -> tuple[AnnotatedImage, ...]:
        """Return the annotations of all planes that have any; a dataset's categories are known."""
        if self.snapshot is None:
            return ()
        nothing = InstanceSet.empty(self.image.image_hw, categories)
        blank = AnnotatedImage.of(self.image.name, nothing, plane=(0,) * len(self.image.lead_shape))
        planes = annotated_planes(self.snapshot, [blank])
        return tuple(p for p in planes if len(p.instances) or p.regions)


def _uuids(planes: Iterable[AnnotatedImage]) -> set[str]:
    return {uuid for plane in planes for uuid in plane.instances.uuids}


def add_layer(content: LayerContent, dataset: Dataset, *, storage: Storage) -> Added:
    """Add an Image layer to a dataset: its file, or its pixels where there is none that fits.

    Raises
    ------
    DeepPixelError, OSError
        If that is not possible.
    """
    planes = content.planes(dataset.categories)
    state = ImageState.DRAFT if planes else None
    if content.path is not None and _is_same_shape(content.path, content.image):
        return dataset.add_file(content.path, planes=planes, storage=storage, state=state)
    name = plain_name(content.image.name)
    if not content.image.lead_shape:
        pixels = storable(content.image.plane())
        return dataset.add_pixels(pixels, name=name, planes=planes, state=state)
    with tempfile.TemporaryDirectory(prefix="napari-deeppixel-") as folder:
        path = Path(folder) / f"{name}.tif"
        _write_stack(content.image, path)
        return dataset.add_file(path, planes=planes, storage=Storage.COPY, state=state)


def _is_same_shape(path: Path, image: ImageArray) -> bool:
    """Whether a file gives the planes of a layer, so that annotations of one fit the other."""
    try:
        file = read_image(path)
    except ImageError:
        # another plugin reads it
        return False
    return (file.image_hw, file.lead_shape) == (image.image_hw, image.lead_shape)


def add_region(
    content: LayerContent,
    dataset: Dataset,
    *,
    index: PlaneIndex,
    region_xyxy: Region,
    group: str,
) -> Added:
    """Add a part of a plane to a dataset as an image of its own, with the instances inside.

    Instances and complete regions are cut at its border.

    Parameters
    ----------
    content
        The layer.
    dataset
        Where to.
    index
        Lead index of the plane.
    region_xyxy
        x1, y1, x2, y2 inside the plane.
    group
        Of the images that come from the same one.

    Raises
    ------
    DeepPixelError, OSError
        If that is not possible.
    """
    x1, y1, _, _ = region_xyxy
    planes = [
        replace(
            plane,
            plane=(),
            instances=cut_instances(plane.instances, region_xyxy),
            crowds=cut_instances(plane.crowds, region_xyxy),
            regions=cut_regions(plane.regions, region_xyxy),
        )
        for plane in content.planes(dataset.categories)
        if plane.plane == index
    ]
    steps = "".join(f" {axis}{i}" for axis, i in zip(content.image.lead_axes, index, strict=True))
    name = plain_name(f"{Path(content.image.name).stem}{steps} x{x1} y{y1}")
    pixels = content.image.plane(index, region_xyxy=region_xyxy)
    has_any = any(len(plane.instances) or plane.regions for plane in planes)
    return dataset.add_pixels(
        storable(pixels),
        name=name,
        planes=planes,
        group=group,
        state=ImageState.DRAFT if has_any else None,
    )


def plain_name(name: str) -> str:
    """Return a layer's name as one that every system can store as a file."""
    plain = re.sub(r'[\x00-\x1f\x7f<>:"|?*/\\]+', "_", name).strip(" ._")
    return plain[:_MAX_NAME].rstrip(" .") or "image"


def _write_stack(image: ImageArray, path: Path) -> None:
    """Write a stack as a TIFF, a plane at a time, with the names of its axes."""
    first = storable(image.plane(next(image.plane_indices())))

    def planes() -> Iterator[NDArray[Any]]:
        for index in image.plane_indices():
            yield storable(image.plane(index))

    is_rgb = first.ndim == 3 and first.shape[2] in (3, 4)
    plane_axes = "YX" if first.ndim == 2 else "YXS" if is_rgb else "YXC"
    num_bytes = first.nbytes * int(np.prod(image.lead_shape))
    tifffile.imwrite(
        path,
        planes(),
        shape=(*image.lead_shape, *first.shape),
        dtype=first.dtype,
        compression="zlib",
        photometric="rgb" if is_rgb else "minisblack",
        planarconfig="contig" if first.ndim == 3 else None,
        # offsets of a classic TIFF have 32 bits
        bigtiff=num_bytes > 2**31,
        metadata={"axes": image.lead_axes.upper() + plane_axes},
    )
