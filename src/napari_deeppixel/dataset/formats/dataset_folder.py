"""Our own dataset folder, as something to convert from and to."""

from collections.abc import Iterable, Iterator
from itertools import groupby

from napari_deeppixel.core.errors import ImageError
from napari_deeppixel.core.image import PlaneIndex
from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState
from napari_deeppixel.dataset.formats.base import Format, Holds, Problem, ReadSource, WriteTarget
from napari_deeppixel.dataset.formats.image_pairs import size_problem
from napari_deeppixel.dataset.store import Added, Dataset


def _read(source: ReadSource) -> Iterator[AnnotatedImage]:
    images = Dataset.open(source.path).annotated(
        on_problem=source.on_problem, resolves_splits=source.resolves_splits
    )
    for image in images:
        if image.path is None:
            source.complain(
                "its file is missing, or not the one that came in; its annotations come without it "
                "(check finds moved files)",
                entry=f"image {image.file_name}",
            )
        yield image


def _write(images: Iterable[AnnotatedImage], target: WriteTarget) -> Iterator[AnnotatedImage]:
    dataset = Dataset.create(target.path, categories=target.categories)
    for file_name, group in groupby(images, key=lambda image: image.file_name):
        entries = list(group)
        planes = _first_of_each_plane(entries)
        message = ""
        if len(planes) < len(entries):
            message = f"{len(entries) - len(planes)} more entries of it: only the first counts"
        try:
            refusal = _add(dataset, file_name, planes)
        except ImageError as error:
            # the other images are good
            refusal = f"{error}: left out"
        if refusal or message:
            target.on_problem(
                Problem(path=target.path, entry=f"image {file_name}", message=refusal or message)
            )
        if not refusal:
            yield from planes


def _first_of_each_plane(entries: list[AnnotatedImage]) -> list[AnnotatedImage]:
    planes: dict[PlaneIndex, AnnotatedImage] = {}
    for entry in entries:
        planes.setdefault(entry.plane, entry)
    return list(planes.values())


def _add(dataset: Dataset, file_name: str, planes: list[AnnotatedImage]) -> str:
    """Add an image with its planes; return why they did not come in, empty if they did."""
    path = planes[0].path
    if path is None:
        return "there is no image file, and a dataset needs one: left out. Say where the images are"
    problems = [size_problem(path, plane.image_hw) for plane in planes]
    if any(problems):
        return f"{next(filter(None, problems))}: left out"
    added = dataset.add_file(
        path, planes=planes, name=file_name, state=_state(planes), split=planes[0].split
    )
    return _refusal(added, planes, file_name)


def _state(planes: list[AnnotatedImage]) -> ImageState | None:
    """Return the state for planes whose file says nothing of it; None where it does."""
    if any(plane.state is not ImageState.NONE for plane in planes):
        return None
    has_any = any(len(plane.instances) for plane in planes)
    return ImageState.DRAFT if has_any else ImageState.NONE


def _refusal(added: Added, planes: list[AnnotatedImage], file_name: str) -> str:
    """Return why annotations did not come in; empty if they did."""
    there = added.entry.file_name
    what = {
        "instances": sum(len(plane.instances) for plane in planes),
        "crowds": sum(len(plane.crowds) for plane in planes),
        "boxes and empty masks": sum(len(plane.maskless) for plane in planes),
        "regions": sum(len(plane.regions) for plane in planes),
    }
    lost = ", ".join(f"{count} {name}" for name, count in what.items() if count)
    is_elsewhere = not added.is_new and there != file_name
    if (added.has_taken_planes and lost) or not (lost or is_elsewhere):
        return ""
    known = f"the image is in the dataset already{f' as {there}' if is_elsewhere else ''}"
    stay = f"{known}, with {added.entry.num_instances} instances, which stay"
    return f"{stay}; {lost} from here are left out" if lost else stay


DATASET = Format(
    name="dataset",
    title="DeepPixel dataset",
    note="A folder with images and annotations, for years of work; keeps everything.",
    looks_like=Dataset.is_dataset,
    read=_read,
    write=_write,
    holds=frozenset(Holds),
)
