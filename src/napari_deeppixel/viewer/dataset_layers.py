"""An image of a dataset in a viewer: its annotations as a session, and a session as annotations."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from typing import Any
from uuid import uuid4

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image

from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.core.geometry import Outline
from napari_deeppixel.core.image import ImageArray, PlaneIndex
from napari_deeppixel.core.instance import Instance, InstanceSet, InstanceState
from napari_deeppixel.dataset.annotated import AnnotatedImage, in_common_table
from napari_deeppixel.edits.session import AnnotationSession, SessionSnapshot
from napari_deeppixel.viewer.layers import InstanceLayers, instance_layers_of

# larger images are read page by page as they are looked at
_IN_MEMORY_BYTES = 2**31


def in_memory(image: ImageArray) -> ImageArray:
    """Return an image with its pixels in memory, if they are not too many: for a thread.

    Channels that lie last but are no colours come first, as napari shows the last two axes.
    """
    pixels, axes = image.pixels, image.axes
    num_bytes = int(np.prod(pixels.shape, dtype=np.int64)) * np.dtype(pixels.dtype).itemsize
    if num_bytes <= _IN_MEMORY_BYTES:
        pixels = np.asarray(pixels)
    if not is_rgb(image) and "c" in axes and axes.index("c") > len(axes) - 3:
        at = axes.index("c")
        pixels = np.moveaxis(np.asarray(pixels), at, len(axes) - 3)
        rest = axes.replace("c", "")
        axes = f"{rest[:-2]}c{rest[-2:]}"
    return replace(image, pixels=pixels, axes=axes)


def is_rgb(image: ImageArray) -> bool:
    """Whether napari shows the last axis of an image as colours."""
    return image.axes.endswith("yxc") and image.num_channels in (3, 4)


def fit_to_image(planes: Sequence[AnnotatedImage], image: ImageArray) -> tuple[AnnotatedImage, ...]:
    """Return the planes that an image has; those without anything on them may be left out.

    Raises
    ------
    AnnotationError
        If annotations lie on another size of image, or on a plane that it does not have.
    """
    fitting = []
    for plane in planes:
        has_plane = len(plane.plane) == len(image.lead_shape) and all(
            0 <= step < size for step, size in zip(plane.plane, image.lead_shape, strict=True)
        )
        if has_plane and plane.image_hw == image.image_hw:
            fitting.append(plane)
        elif not _is_blank(plane):
            raise AnnotationError(
                f"{plane.file_name}: its annotations are for plane {plane.plane} of "
                f"{plane.image_hw} pixels, but the image has planes of {image.image_hw} and lead "
                f"axes {image.lead_shape}: the file was replaced by another. Press Check…"
            )
    return tuple(fitting)


def _is_blank(plane: AnnotatedImage) -> bool:
    return not (len(plane.instances) or len(plane.crowds) or plane.maskless or plane.regions)


def session_of(
    planes: Sequence[AnnotatedImage],
    categories: CategoryTable,
    *,
    image_hw: tuple[int, int],
    score: float = 0.0,
) -> AnnotationSession:
    """Return a session that holds the annotations of an image, with nothing to undo.

    Uuids, states, scores, regions and handles are kept; a handle or uuid that an earlier plane has
    already is renewed, as they are unique in an image.

    Parameters
    ----------
    planes
        All of one file.
    categories
        Of the dataset; what the planes have more is added.
    image_hw
        Size of a plane.
    score
        Lowest score to show in later runs; lower where a prediction in the file would be hidden.
    """
    table = categories
    for plane in planes:
        table, _ = table.joined_with(plane.categories)
    if not len(table):
        # there must be something to call what is painted
        table = CategoryTable.from_names("object")
    numbers = _Numbers(planes)
    instances = {
        plane.plane: tuple(map(numbers.unique, in_common_table(plane, table).instances))
        for plane in planes
    }
    return AnnotationSession.from_snapshot(
        SessionSnapshot(
            image_hw=image_hw,
            categories=table,
            instances={index: each for index, each in instances.items() if each},
            regions={plane.plane: plane.regions for plane in planes if plane.regions},
            max_handle=numbers.largest,
            score=min([score, *_open_scores(planes)]),
            min_area=1,
        )
    )


def _open_scores(planes: Sequence[AnnotatedImage]) -> Iterator[float]:
    for plane in planes:
        for score, state in zip(plane.instances.scores, plane.instances.states, strict=True):
            if state is InstanceState.UNREVIEWED and not np.isnan(score):
                yield float(score)


class _Numbers:
    """Sees to it that no handle and no uuid comes twice in an image."""

    def __init__(self, planes: Sequence[AnnotatedImage]) -> None:
        self._seen: set[Any] = set()
        self.largest = max((int(p.instances.handles.max(initial=0)) for p in planes), default=0)

    def unique(self, instance: Instance) -> Instance:
        """Return an instance with a handle and a uuid that none before it had."""
        if instance.handle in self._seen:
            self.largest += 1
            instance = replace(instance, handle=self.largest)
        if instance.uuid in self._seen:
            instance = replace(instance, uuid=str(uuid4()))
        self._seen |= {instance.handle, instance.uuid}
        return instance


def annotated_planes(
    snapshot: SessionSnapshot, stored: Sequence[AnnotatedImage]
) -> tuple[AnnotatedImage, ...]:
    """Return what is to be saved of a session; quick enough for small images, else for a thread.

    Rejected instances are saved as such. Candidates of a model that are hidden by their score or
    size are not, unless they were in the file before.

    Parameters
    ----------
    snapshot
        The session.
    stored
        The planes of the image as they were read: what a session does not know, such as crowds
        and the keys of other programs, is taken from there. At least one.
    """
    table = CategoryTable(categories=snapshot.categories.categories)
    for plane in stored:
        table, _ = table.joined_with(plane.categories)
    by_index = {plane.plane: in_common_table(plane, table) for plane in stored}
    known = {uuid for plane in stored for uuid in plane.instances.uuids}
    free = count(snapshot.max_handle + 1)
    saved = {}
    for index in sorted({*snapshot.instances, *snapshot.regions, *by_index}):
        kept = [
            i if i.handle else replace(i, handle=next(free))
            for i in snapshot.instances.get(index, ())
            if i.uuid in known or _is_to_save(i, snapshot)
        ]
        plane = by_index.get(index) or _new_plane(next(iter(by_index.values())), index)
        saved[index] = _with_instances(plane, kept, tuple(snapshot.regions.get(index, ())))
    # a stack that nothing was known of has one plane () that stands for all
    lengths = {len(index) for index, plane in saved.items() if not _is_blank(plane)}
    return tuple(p for index, p in saved.items() if not lengths or len(index) in lengths)


def _is_to_save(instance: Instance, snapshot: SessionSnapshot) -> bool:
    if instance.state is not InstanceState.UNREVIEWED:
        return True
    return not instance.score < snapshot.score and instance.area >= snapshot.min_area


def _new_plane(beside: AnnotatedImage, index: PlaneIndex) -> AnnotatedImage:
    """Return a plane of which nothing is known but the file that it belongs to."""
    return AnnotatedImage.of(
        beside.file_name,
        InstanceSet.empty(beside.image_hw, beside.categories),
        plane=index,
        path=beside.path,
        state=beside.state,
        split=beside.split,
        group=beside.group,
        document=beside.document,
    )


def _with_instances(
    plane: AnnotatedImage, instances: Sequence[Instance], regions: tuple[Outline, ...]
) -> AnnotatedImage:
    uuids = {instance.uuid for instance in instances}
    return replace(
        plane,
        instances=InstanceSet.from_instances(
            instances, image_hw=plane.image_hw, categories=plane.categories
        ),
        regions=regions,
        instance_extras={u: each for u, each in plane.instance_extras.items() if u in uuids},
    )


def show_image(
    viewer: ViewerModel,
    image: ImageArray,
    session: AnnotationSession,
    *,
    name: str,
) -> InstanceLayers:
    """Put an image into a viewer with the layers of a session; they are not drawn yet.

    Parameters
    ----------
    viewer
        The napari viewer.
    image
        As `in_memory` gives it.
    session
        Of this image.
    name
        Of the Image layer.
    """
    rgb = is_rgb(image)
    channel_axis = None if rgb or "c" not in image.axes else image.axes.index("c")
    layer = Image(
        image.pixels,
        rgb=rgb,
        name=name,
        axis_labels=tuple(image.axes[:-1] if rgb else image.axes),
    )
    # before the layer is in the viewer, so that whoever looks at it finds its instances
    view = InstanceLayers(viewer, layer, session, channel_axis=channel_axis)
    viewer.add_layer(layer)
    return view


def close_image(viewer: ViewerModel, image: Image) -> None:
    """Take an image and the layers of its instances out of a viewer.

    Call it in `viewer.layers.batched_update()`: napari takes 0.2 s to tidy up after each
    layer.
    """
    view = instance_layers_of(image)
    ours = [] if view is None else view.layers
    if image in viewer.layers:
        # first, so that nobody looks at its instances any more
        viewer.layers.remove(image)
    if view is not None:
        view.disconnect()
    for layer in ours:
        if layer in viewer.layers:
            viewer.layers.remove(layer)
