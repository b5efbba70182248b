"""Keeps one image of a dataset saved, from whichever thread there is."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from napari_deeppixel.core.errors import AnnotationError
from napari_deeppixel.dataset.annotated import AnnotatedImage, ImageState
from napari_deeppixel.dataset.formats.coco import write_coco
from napari_deeppixel.dataset.image_entry import ImageEntry
from napari_deeppixel.dataset.store import Dataset, LoadedImage
from napari_deeppixel.edits.session import SessionSnapshot
from napari_deeppixel.viewer.dataset_layers import annotated_planes


class ImageSaver:
    """Writes what a session holds into the annotation file of an image.

    One thread at a time writes; others wait. What was written is known afterwards, whoever did it.

    Parameters
    ----------
    dataset
        The image's.
    loaded
        The image as it was read.
    """

    def __init__(self, dataset: Dataset, loaded: LoadedImage) -> None:
        self.dataset = dataset
        self._lock = threading.Lock()
        self._stored: tuple[AnnotatedImage, ...] = loaded.planes
        self._entry, self._revision = loaded.entry, loaded.revision
        # of `save`: the newest that the disk has
        self._saved_change = 0

    @property
    def entry(self) -> ImageEntry:
        """What the dataset said of the image when it was read or written last."""
        return self._entry

    @property
    def image_id(self) -> str:
        """Which image."""
        return self._entry.image_id

    @property
    def saved_change(self) -> int:
        """Number of the newest change that the disk has."""
        return self._saved_change

    def save(
        self, snapshot: SessionSnapshot, *, change: int, overwrites: bool = False
    ) -> ImageEntry:
        """Write a session, unless something newer was written; return what the dataset says then.

        Parameters
        ----------
        snapshot
            What to write.
        change
            Number of the last change in it.
        overwrites
            Whether to write although somebody else has written since.

        Raises
        ------
        DatasetConflictError
            If somebody else has written since; nothing was written.
        DeepPixelError, OSError
            If it cannot be written.
        """
        with self._lock:
            if change <= self._saved_change and not overwrites:
                return self._entry
            planes = annotated_planes(snapshot, self._stored)
            revision = self._revision
            if overwrites:
                revision = self.dataset.load(self.image_id).revision
            self._entry = self.dataset.save(
                self.image_id, planes, revision=revision, state=self._state_of(planes)
            )
            self._revision, self._saved_change = self._entry.revision, change
            return self._entry

    def _state_of(self, planes: Sequence[AnnotatedImage]) -> ImageState:
        """Return the state to save: what was not begun is a draft when there is something."""
        state = self._entry.state
        has_any = any(len(plane.instances) or plane.regions for plane in planes)
        return ImageState.DRAFT if state is ImageState.NONE and has_any else state

    def change_beside(self, change: Callable[[], object]) -> ImageEntry:
        """Change the file past the session, such as its state, and follow that.

        Raises
        ------
        DeepPixelError, OSError
            If it cannot be read or written.
        """
        with self._lock:
            change()
            loaded = self.dataset.load(self.image_id)
            # else somebody wrote in between: the next save meets a conflict, as it should
            if loaded.revision == self._revision + 1:
                self._revision, self._entry = loaded.revision, loaded.entry
                by_index = {plane.plane: plane for plane in loaded.planes}
                self._stored = tuple(
                    _with_attributes_of(by_index.get(plane.plane, plane), plane)
                    for plane in self._stored
                )
            return self._entry

    def keep_copy(self, snapshot: SessionSnapshot) -> Path:
        """Write a session beside the dataset's images, as COCO; return where.

        Raises
        ------
        DeepPixelError, OSError
            If it cannot be written.
        """
        with self._lock:
            planes = annotated_planes(snapshot, self._stored)
        # microseconds: two windows may do so in the same second
        when = datetime.now(UTC).strftime("%Y-%m-%d %H.%M.%S.%f")
        path = self.dataset.path / "removed" / f"{when} mine" / f"{self.image_id}.json"
        if not path.resolve().is_relative_to(self.dataset.path.resolve()):
            raise AnnotationError(
                f"{path} is a link out of the dataset: remove the link, then try again"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        write_coco(planes, path)
        return path


def _with_attributes_of(now: AnnotatedImage, plane: AnnotatedImage) -> AnnotatedImage:
    return replace(plane, state=now.state, split=now.split, group=now.group)
