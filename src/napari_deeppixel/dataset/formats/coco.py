"""COCO JSON: instances with run-length coded masks, to and from files.

Polygons are read as COCO's own `frPyObjects` rasterises them; written masks are always run lengths,
which are exact. Our own fields (uuid, state, source, handle) travel under ``attributes``; what we
do not know is kept and written again.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from napari_deeppixel.core.atomic import atomic_file
from napari_deeppixel.core.category import CategoryTable
from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.dataset.annotated import AnnotatedImage
from napari_deeppixel.dataset.formats.base import Problem, raise_problem
from napari_deeppixel.dataset.formats.coco_read import planes_of_document
from napari_deeppixel.dataset.formats.coco_write import coco_document, document_bytes
from napari_deeppixel.dataset.formats.hostile import MAX_TEXT_BYTES, read_json


def read_coco(
    path: Path | str, *, on_problem: Callable[[Problem], None] = raise_problem
) -> list[AnnotatedImage]:
    """Return the images of a COCO file, with all their instances.

    Parameters
    ----------
    path
        The file.
    on_problem
        Called with each entry that cannot be taken as it is: an annotation without a pixel or of
        an unknown image or category, a value out of its range. By default that is an error.

    Raises
    ------
    AnnotationError
        If the file is missing or is no COCO JSON, and at the first problem by default.
    """
    path = Path(path)
    document = read_json(path, limit=MAX_TEXT_BYTES)
    return list(planes_of_document(document, path, on_problem))


def read_provenance(path: Path | str) -> dict[str, str]:
    """Return what a COCO file says of itself: ``data`` (its description) and ``licence``.

    Both are empty where the file is silent.

    Raises
    ------
    AnnotationError
        If the file is missing or is no JSON object.
    """
    document = read_json(Path(path), limit=MAX_TEXT_BYTES)
    try:
        licences = [entry.get("name", "") for entry in document.get("licenses", [])]
        return {
            "data": str(document.get("info", {}).get("description", "")),
            "licence": ", ".join(name for name in licences if name),
        }
    except (AttributeError, TypeError) as error:
        raise AnnotationError(f"{path}: not a COCO file ({error})") from error


def write_coco(
    images: Iterable[AnnotatedImage],
    path: Path | str,
    *,
    categories: CategoryTable | None = None,
) -> None:
    """Write images and their instances as a COCO file, whole or not at all.

    Raises
    ------
    ValueError
        As `coco_write.coco_document`.
    OSError
        If the file cannot be written; an older one then stays as it was.
    """
    path = Path(path)
    data = document_bytes(coco_document(images, categories))
    with atomic_file(path) as file:
        file.write(data)
