"""Valid annotations of every format, and what readers make of them once bytes are changed."""

import contextlib
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import imageio.v3 as iio
from tests.dataset.made import eleven, pixels_for

from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.dataset.convert import Annotations, Conversion
from napari_deeppixel.dataset.formats.coco import write_coco
from napari_deeppixel.dataset.image_folder import IMAGE_SUFFIXES

# files that were found to break a reader once, by format: FORMAT/NUMBER-NAME
CORPUS = Path(__file__).parents[1] / "data" / "hostile"
# ends with these that hold no annotations
_NOT_READ = (".lock",)


class HostileTarget:
    """Annotations of one format, whose files can be replaced one at a time.

    Parameters
    ----------
    format_name
        As in the registry; it can be written.
    folder
        An empty folder to work in.

    Attributes
    ----------
    files
        Annotation files that may be replaced, relative to the annotations.
    """

    def __init__(self, format_name: str, folder: Path) -> None:
        self.format_name = format_name
        source = folder / "source"
        image = eleven()
        (source / "day 1").mkdir(parents=True)
        iio.imwrite(source / image.file_name, pixels_for(image))
        write_coco([image], source / "instances.json")
        self._valid, self._changed = folder / "valid", folder / "changed"
        conversion = Conversion(
            Annotations(source / "instances.json"), self._valid, format_name=format_name
        )
        for _ in conversion.survey():
            pass
        for _ in conversion.write():
            pass
        self.files = sorted(self._annotation_files())

    def _annotation_files(self) -> Iterator[Path]:
        pictures = {"images", "JPEGImages"}
        for path in self._valid.rglob("*"):
            relative = path.relative_to(self._valid)
            is_picture = path.suffix.lower() in IMAGE_SUFFIXES and (
                pictures & set(relative.parts) or path.name == "eleven.png"
            )
            if path.is_file() and not is_picture and not path.name.endswith(_NOT_READ):
                yield relative

    def content(self, file: Path) -> bytes:
        """Return what is in an annotation file."""
        return (self._valid / file).read_bytes()

    def read_with(self, file: Path, content: bytes) -> int:
        """Return how many images are read where a file has another content.

        Raises
        ------
        Exception
            What a reader lets out, but the errors that people are told of.
        """
        shutil.rmtree(self._changed, ignore_errors=True)
        shutil.copytree(self._valid, self._changed)
        (self._changed / file).write_bytes(content)
        count = 0
        with contextlib.suppress(DeepPixelError), warnings.catch_warnings():
            # decoders warn of damage, which the reader then finds itself
            warnings.simplefilter("ignore")
            for image in Annotations(self._changed, format_name=self.format_name):
                assert len(image.instances) == len(image.instances.masks)
                count += 1
        return count
