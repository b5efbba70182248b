"""Our own dataset folder, as something to convert from and to."""

from collections.abc import Iterable, Iterator
from itertools import groupby

from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState
from napari_deeppixel.dataset.formats.base import Format, Holds, Problem, ReadSource, WriteTarget
from napari_deeppixel.dataset.store import Added, Dataset


def _read(source: ReadSource) -> Iterator[AnnotatedImage]:
    for image in Dataset.open(source.path).annotated(on_problem=source.on_problem):
        if image.path is None:
            source.complain(
                "its file is missing; its annotations come without it (check finds moved files)",
                entry=f"image {image.file_name}",
            )
        yield image


def _write(images: Iterable[AnnotatedImage], target: WriteTarget) -> Iterator[AnnotatedImage]:
    dataset = Dataset.create(target.path, categories=target.categories)
    for file_name, group in groupby(images, key=lambda image: image.file_name):
        planes = list(group)
        path = planes[0].path
        if path is None:
            message = "there is no image file, and a dataset needs one: left out. Tell where it is"
        else:
            added = dataset.add_file(
                path, planes=planes, name=file_name, state=_state(planes), split=planes[0].split
            )
            message = _refusal(added, planes, file_name)
        if message:
            target.on_problem(
                Problem(path=target.path, entry=f"image {file_name}", message=message)
            )
        else:
            yield from planes


def _state(planes: list[AnnotatedImage]) -> ImageState | None:
    """Return the state for planes whose file says nothing of it; None where it does."""
    if any(plane.state is not ImageState.NONE for plane in planes):
        return None
    has_any = any(len(plane.instances) for plane in planes)
    return ImageState.DRAFT if has_any else ImageState.NONE


def _refusal(added: Added, planes: list[AnnotatedImage], file_name: str) -> str:
    """Return why annotations did not come in; empty if they did."""
    num_instances = sum(len(plane.instances) for plane in planes)
    if added.has_taken_planes or not num_instances:
        return ""
    there = added.entry.file_name
    name = "" if there == file_name else f" as {there}"
    return (
        f"the image is in the dataset already{name}, with {added.entry.num_instances} instances, "
        f"which stay; the {num_instances} from here are left out"
    )


DATASET = Format(
    name="dataset",
    title="DeepPixel dataset",
    note="A folder with images and annotations, for years of work; keeps everything.",
    looks_like=Dataset.is_dataset,
    read=_read,
    write=_write,
    holds=frozenset(Holds),
)
