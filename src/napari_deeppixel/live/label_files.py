"""Label images of a recording: one a frame, as a TIFF stack or as OME-Zarr."""

import itertools
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.core.instance import InstanceSet, label_dtype
from napari_deeppixel.live.instance_lines import line_instances, read_lines
from napari_deeppixel.live.source import SourceError
from napari_deeppixel.live.video_file import size_of

LabelsKind = Literal["tiff", "zarr"]

# a TIFF holds 4 GiB; ImageJ reads no BigTIFF
_MAX_TIFF_BYTES = 4_000_000_000
# what readers raise on damaged files
_DAMAGED = (OSError, ValueError, IndexError, KeyError, RuntimeError, zlib.error, DeepPixelError)


class LabelsFile(Protocol):
    """Label images of one size and type, one a frame."""

    image_hw: tuple[int, int]
    num_frames: int

    @property
    def path(self) -> Path:
        """Where it lies."""
        ...

    @property
    def num_bytes(self) -> int:
        """Size on the disk."""
        ...

    def takes(self, instances: InstanceSet) -> bool:
        """Whether their size and numbers fit, and there is room."""
        ...

    def write(self, instances: InstanceSet) -> int:
        """Append the label image of a frame; return its number in the file."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


def labels_file(kind: LabelsKind) -> tuple[Callable[[Path, InstanceSet], LabelsFile], str]:
    """Return what makes files of a kind, for instances like the ones given, and their suffix."""
    return (LabelTiff, ".tif") if kind == "tiff" else (LabelZarr, ".ome.zarr")


def _dtype(instances: InstanceSet) -> "np.dtype[Any]":
    return label_dtype(int(instances.handles.max(initial=0)))


def _draw(instances: InstanceSet, dtype: "np.dtype[Any]") -> NDArray[Any]:
    label_image = np.zeros(instances.image_hw, dtype)
    instances.draw_into(label_image)
    return label_image


class LabelTiff:
    """A stack of label images that ImageJ reads, too: one zlib page a frame.

    Parameters
    ----------
    path
        File to write.
    like
        The first instances: their size and numbers set those of the file.

    Raises
    ------
    OSError
        If the file cannot be written.
    """

    def __init__(self, path: Path, like: InstanceSet) -> None:
        self.path, self.image_hw = path, like.image_hw
        self.num_frames = 0
        self._dtype = _dtype(like)
        self._file = path.open("wb")
        self._writer = tifffile.TiffWriter(self._file)

    @property
    def num_bytes(self) -> int:
        """Size on the disk."""
        return size_of(self.path)

    def takes(self, instances: InstanceSet) -> bool:
        """Whether their size and numbers fit, and there is room."""
        room = _MAX_TIFF_BYTES - self.num_bytes
        return (
            instances.image_hw == self.image_hw
            and _dtype(instances) <= self._dtype
            # incompressible pages grow by less than a hundredth
            and room > 1.01 * self._dtype.itemsize * self.image_hw[0] * self.image_hw[1] + 4096
        )

    def write(self, instances: InstanceSet) -> int:
        """Append the label image of a frame; return its number in the file."""
        self._writer.write(
            _draw(instances, self._dtype),
            compression="zlib",
            compressionargs={"level": 1},
            photometric="minisblack",
            # ImageJ's own description would need the number of frames beforehand
            metadata=None,
        )
        self._file.flush()
        self.num_frames += 1
        return self.num_frames - 1

    def close(self) -> None:
        """Close it."""
        try:
            self._writer.close()
        finally:
            self._file.close()


class LabelZarr:
    """An OME-Zarr 0.5 label image (t, y, x), one chunk a frame.

    Parameters
    ----------
    path
        Folder to write.
    like
        The first instances: their size and numbers set those of the file.

    Raises
    ------
    SourceError
        If zarr is not installed.
    OSError
        If the folder cannot be written.
    """

    def __init__(self, path: Path, like: InstanceSet) -> None:
        self.path, self.image_hw = path, like.image_hw
        self.num_frames = 0
        self._dtype = _dtype(like)
        self._written_bytes = 0
        group = _import_zarr().open_group(str(path), mode="w", zarr_format=3)
        group.attrs["ome"] = _ome_attributes(path.name)
        self._array = group.create_array(
            "0",
            shape=(0, *self.image_hw),
            chunks=(1, *self.image_hw),
            dtype=self._dtype,
            dimension_names=("t", "y", "x"),
        )

    @property
    def num_bytes(self) -> int:
        """Size of the chunks on the disk."""
        return self._written_bytes

    def takes(self, instances: InstanceSet) -> bool:
        """Whether their size and numbers fit."""
        return instances.image_hw == self.image_hw and _dtype(instances) <= self._dtype

    def write(self, instances: InstanceSet) -> int:
        """Append the label image of a frame; return its number in the file."""
        self._array.append(_draw(instances, self._dtype)[np.newaxis])
        chunk = self.path / "0" / "c" / str(self.num_frames) / "0" / "0"
        # chunks of zeros are not written
        self._written_bytes += size_of(chunk)
        self.num_frames += 1
        return self.num_frames - 1

    def close(self) -> None:
        """Do nothing: each frame is on the disk already."""


def _import_zarr() -> Any:
    try:
        import zarr
    except ImportError as error:
        raise SourceError(f'OME-Zarr needs zarr ({error}): pip install "zarr>=3"') from error
    if int(zarr.__version__.split(".")[0]) < 3:
        raise SourceError(f'OME-Zarr needs zarr 3, got {zarr.__version__}: pip install "zarr>=3"')
    return zarr


def _ome_attributes(name: str) -> dict[str, Any]:
    axes = [{"name": "t", "type": "time"}] + [{"name": n, "type": "space"} for n in "yx"]
    scale = {"type": "scale", "scale": [1.0, 1.0, 1.0]}
    dataset = {"path": "0", "coordinateTransformations": [scale]}
    return {
        "version": "0.5",
        "multiscales": [{"name": name, "axes": axes, "datasets": [dataset]}],
        "image-label": {},
    }


def num_readable(path: Path) -> int:
    """Return how many label images of a file, ours, can be read; 0 if it is damaged or gone."""
    try:
        if path.suffix == ".zarr":
            # of both: a killed writer may have left the last frame without its pixels
            group = _import_zarr().open_group(str(path), mode="r")
            array = group["0"]
            if array.shape[0]:
                array[-1]
            return int(array.shape[0])
        with tifffile.TiffFile(path) as file:
            file.pages[-1].asarray()
            return len(file.pages)
    except _DAMAGED:
        return 0


def rebuild_labels(folder: Path, names: Sequence[str], lines: Path) -> None:
    """Draw anew those label files that lack frames of the lines, or cannot be read.

    Raises
    ------
    OSError
        If a file cannot be read or written.
    """
    for name in names:
        path = folder / name
        num_frames = sum(1 for _ in _sets_in(name, lines))
        if not num_frames or num_readable(path) >= num_frames:
            continue
        temporary = path.with_name(f"new-{name}")
        make, _ = labels_file("zarr" if path.suffix == ".zarr" else "tiff")
        sets = _sets_in(name, lines)
        first = next(sets)
        new = make(temporary, first)
        try:
            for instances in itertools.chain([first], sets):
                new.write(instances)
        finally:
            new.close()
        if path.is_dir():
            shutil.rmtree(path)
        temporary.replace(path)


def _sets_in(name: str, lines: Path) -> Iterator[InstanceSet]:
    for line in read_lines(lines):
        if line["image"]["labels"] and line["image"]["labels"][0] == name:
            yield line_instances(line)
