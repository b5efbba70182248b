"""Names and files for formats that know flat images only: planes become images of their own."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from napari_deeppixel.core.atomic import atomic_file
from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.dataset.annotated import AnnotatedImage
from napari_deeppixel.dataset.formats.base import Problem, WriteTarget
from napari_deeppixel.dataset.formats.image_pairs import AnnotationNames, copy_image, place_in
from napari_deeppixel.dataset.image_file import read_image
from napari_deeppixel.dataset.image_folder import IMAGE_SUFFIXES
from napari_deeppixel.dataset.pixels_file import encode_pixels, storable, suffix_for


@dataclass(frozen=True, kw_only=True, eq=False)
class FlatImage:
    """An image under a name that no other one has, whatever its ending.

    Attributes
    ----------
    image
        What is known of it.
    name
        Relative path without an ending, for the image file and its annotations.
    """

    image: AnnotatedImage
    name: PurePosixPath

    @property
    def image_name(self) -> PurePosixPath:
        """Relative path of the image file, if it is not made from a plane."""
        suffix = PurePosixPath(self.image.file_name).suffix
        return self.name.with_name(
            self.name.name + (suffix if suffix.lower() in IMAGE_SUFFIXES else "")
        )


def write_flat(
    images: Iterable[AnnotatedImage], target: WriteTarget, write_one: Callable[[FlatImage], None]
) -> Iterator[AnnotatedImage]:
    """Write images one by one, and yield each when it is written; those that cannot be are told.

    Names: ``a/b.tif`` gives ``a/b``, its plane (3,) ``a/b-3``.
    """
    names = AnnotationNames()
    for image in images:
        try:
            write_one(FlatImage(image=image, name=names.name_for(_flat_name(image))))
        except DeepPixelError as error:
            message = f"{str(error).removeprefix(f'{image.file_name}: ')}: not written"
            target.on_problem(Problem(path=target.path, entry=image.file_name, message=message))
            continue
        yield image


def _flat_name(image: AnnotatedImage) -> str:
    if not image.plane:
        return image.file_name
    name = PurePosixPath(image.file_name)
    numbers = "-".join(str(number) for number in image.plane)
    return str(name.with_name(f"{name.stem}-{numbers}{name.suffix}"))


def put_image(flat: FlatImage, folder: Path | None) -> PurePosixPath:
    """Copy an image into a folder and return its name there; None: only the name.

    Of a stack, the plane alone is written, as PNG or TIFF.

    Raises
    ------
    AnnotationError
        If a link in the folder leads out of it.
    ImageError
        If a plane cannot be read.
    OSError
        If the image cannot be copied.
    """
    image = flat.image
    if folder is None or image.path is None:
        return flat.image_name
    if not image.plane:
        copy_image(replace(image, file_name=str(flat.image_name)), folder)
        return flat.image_name
    pixels = storable(read_image(image.path).plane(image.plane))
    name = flat.name.with_name(flat.name.name + suffix_for(pixels))
    with atomic_file(place_in(folder, name)) as file:
        file.write(encode_pixels(pixels))
    return name
