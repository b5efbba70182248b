"""Writes and reads with one format, and keeps what the reader complained of."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tests.dataset.made import pixels_for

from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.core.mask import CroppedMask
from napari_deeppixel.dataset.annotated import AnnotatedImage
from napari_deeppixel.dataset.formats.base import Format, Problem, ReadBack, ReadSource, WriteTarget
from napari_deeppixel.dataset.image_folder import ImageFolder


def write_with(
    exchange_format: Format, images: Sequence[AnnotatedImage], path: Path, **others: Any
) -> list[AnnotatedImage]:
    """Write images and return those that were yielded."""
    assert exchange_format.write is not None
    target = WriteTarget(path=path, categories=images[0].categories, **others)
    return list(exchange_format.write(images, target))


def read_with(
    exchange_format: Format, path: Path, images: Path | None = None, **others: Any
) -> tuple[list[AnnotatedImage], list[Problem]]:
    """Return what is read, and the problems."""
    assert exchange_format.read is not None
    problems: list[Problem] = []
    root = images or (path if path.is_dir() else path.parent)
    source = ReadSource(path=path, images=ImageFolder(root), on_problem=problems.append, **others)
    return list(exchange_format.read(source)), problems


def read_or_refuse(exchange_format: Format, path: Path) -> list[AnnotatedImage]:
    """Return what is read of a hostile file; anything but an error of ours comes through."""
    try:
        return read_with(exchange_format, path)[0]
    except DeepPixelError:
        return []


def with_pixels(image: AnnotatedImage, folder: Path) -> AnnotatedImage:
    """Return an image whose file is made in a folder."""
    path = folder / image.file_name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels_for(image)).save(path)
    return AnnotatedImage(**{**vars(image), "path": path})


def by_handle(image: AnnotatedImage) -> dict[int, CroppedMask]:
    return dict(zip(image.instances.handles.tolist(), image.instances.masks, strict=True))


def assert_agrees(read_back: ReadBack, before: AnnotatedImage, after: AnnotatedImage) -> None:
    """Check that `read_back` told what came back, for a format that keeps handles."""
    found = by_handle(after)
    for handle, masks in zip(before.instances.handles.tolist(), read_back.masks, strict=True):
        assert len(masks) == (handle in found)
        assert all(mask.equals(found.pop(handle)) for mask in masks)
    assert not found


def label_array(rows: str) -> np.ndarray:
    """Return uint8 numbers drawn as text: ``0110/0220``."""
    return np.array([[int(digit) for digit in row] for row in rows.split("/")], np.uint8)
