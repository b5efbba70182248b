"""Goes from one image of a dataset to another: the last one is saved before it leaves."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari.layers import Image
from qtpy.QtCore import QObject, Signal

from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.core.image import ImageArray
from napari_deeppixel.dataset.image_file import read_image
from napari_deeppixel.dataset.store import (
    Dataset,
    ImageChangedError,
    ImageMissingError,
    LoadedImage,
)
from napari_deeppixel.edits.session import AnnotationSession
from napari_deeppixel.viewer.dataset_layers import (
    close_image,
    fit_to_image,
    in_memory,
    session_of,
    show_image,
)
from napari_deeppixel.viewer.dataset_saver import ImageSaver
from napari_deeppixel.viewer.layers import InstanceLayers
from napari_deeppixel.widgets.dataset_image import Mark, OpenImage, mark_of
from napari_deeppixel.widgets.worker import BackgroundTask, StepRunner

# what is known about an open image hangs on its layer, as its instances do: it survives the dock
OPEN_KEY = "napari_deeppixel_dataset"
NOT_SAVED = "stays open, as it is not saved."


@dataclass(frozen=True, kw_only=True, eq=False)
class _Read:
    """An image that is ready to be shown."""

    dataset: Dataset
    loaded: LoadedImage
    image: ImageArray
    session: AnnotationSession


@dataclass(frozen=True, kw_only=True, eq=False)
class _Left:
    """An image that a dock left open when it was closed."""

    saver: ImageSaver
    layer: Image
    seen: Mark | None


@dataclass(frozen=True, kw_only=True)
class _Wish:
    """What is to be open; nothing if there is no image id."""

    dataset: Dataset | None
    image_id: str
    # done when it is so
    then: Callable[[], object] | None = None


class ImageSwitcher(QObject):
    """Holds the image of a dataset that is open in a viewer; one at a time.

    A switch takes three steps that let the window breathe: what is open is saved, the next image is
    read, and only when both went well the layers change. Of several wishes the newest counts.

    Parameters
    ----------
    viewer
        The napari viewer.
    draw
        Draws layers in steps, as the rest of the window does.
    refusal
        Why an image layer may not leave now; empty if it may.
    finish
        Takes over what a person is in the middle of: before a save.
    score
        Lowest score of a prediction that is shown.

    Signals
    -------
    opened
        `current` is another image, or None.
    status_changed
        Of the image that is open, or of a switch.
    saved
        What the dataset says of an image now.
    failed
        Message for the person: mostly the switch was stopped, and what was open is open.
    """

    opened = Signal()
    status_changed = Signal()
    saved = Signal(object)
    failed = Signal(str)

    def __init__(
        self,
        viewer: Any,
        *,
        draw: Callable[[Iterator[None]], object],
        refusal: Callable[[Image], str],
        finish: Callable[[], object],
        score: Callable[[], float],
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._draw, self._refusal, self._finish = viewer, draw, refusal, finish
        self._score = score
        self.current: OpenImage | None = None
        self._wish: _Wish | None = None
        # wishes that came while something waits for the image to close
        self._later: deque[_Wish] = deque()
        self._read: _Read | None = None
        self._is_closing = False
        self._task = BackgroundTask(self)
        self._task.yielded.connect(self._on_read)
        self._task.failed.connect(self._on_failed)
        self._task.finished.connect(self._on_read_finished)
        self._steps = StepRunner(self)
        self._steps.finished.connect(self._on_steps_finished)
        self._is_shut_down = False
        viewer.layers.events.removed.connect(self._on_layer_removed)

    @property
    def is_busy(self) -> bool:
        """Whether a switch is under way."""
        return self._wish is not None

    @property
    def wanted_id(self) -> str:
        """The image that a switch leads to; empty: none is under way."""
        return "" if self._wish is None else self._wish.image_id

    # -- wishes -------------------------------------------------------------------------------

    def open(self, dataset: Dataset, image_id: str) -> None:
        """Show an image of a dataset, as soon as what is open is saved."""
        self._ask(_Wish(dataset=dataset, image_id=image_id))

    def close(self, then: Callable[[], object] | None = None) -> None:
        """Save and close what is open, then do something."""
        self._ask(_Wish(dataset=None, image_id="", then=then))

    def adopt(
        self, dataset: Dataset, loaded: LoadedImage, layer: Image, *, seen: Mark | None
    ) -> None:
        """Go on with a layer that is in the viewer and was just added to a dataset.

        Parameters
        ----------
        dataset, loaded
            What was added.
        layer
            The layer.
        seen
            Its `mark_of` when it was added.
        """
        saver = ImageSaver(dataset, loaded)

        def adopt() -> None:
            if layer in self._viewer.layers:
                self._set_current(saver, layer, seen=seen)

        if self.current is None:
            adopt()
        else:
            self.close(adopt)

    def take_up(self) -> Dataset | None:
        """Go on with what a closed dock left in the viewer; return its dataset."""
        for layer in self._viewer.layers:
            left = layer.metadata.get(OPEN_KEY)
            # a duplicated layer shares the metadata of the one it was made from
            if isinstance(left, _Left) and left.layer == layer and isinstance(layer, Image):
                self._set_current(left.saver, layer, seen=left.seen)
                return left.saver.dataset
        return None

    def reopen(self) -> None:
        """Read what is open anew: its file was changed past the window."""
        current = self.current
        if current is not None:
            self._read = None
            self.open(current.saver.dataset, current.image_id)

    def _ask(self, wish: _Wish) -> None:
        if self._wish is not None and self._wish.then is not None:
            # what was asked to be done after closing must not be forgotten
            self._later.append(wish)
            return
        is_under_way, self._wish = self.is_busy, wish
        self.status_changed.emit()
        if not is_under_way:
            self._go_on()

    def _go_on(self) -> None:
        """Take the next step towards the wish."""
        wish, current = self._wish, self.current
        if wish is None or self._is_shut_down or self._steps.is_running or self._task.is_running:
            return
        if current is not None:
            refusal = self._refusal(current.layer)
            if refusal:
                self._give_up(refusal)
                return
            self._finish()
            current.settle()
            if not current.is_saved or current.is_saving:
                current.save()
                return
        if wish.dataset is None:
            self._steps.run(self._guarded(self._closing()))
        elif self._read is None or self._read.loaded.entry.image_id != wish.image_id:
            dataset, image_id = wish.dataset, wish.image_id
            score = self._score()
            self._task.start(lambda *_: iter([_read(dataset, image_id, score)]))
        else:
            self._steps.run(self._guarded(self._showing(self._read)))

    def _give_up(self, message: str) -> None:
        self._wish, self._read = None, None
        self._later.clear()
        self.status_changed.emit()
        self.failed.emit(message)

    # -- what comes back ----------------------------------------------------------------------

    def _on_settled(self) -> None:
        """Go on when what is open was saved; stop if it could not be."""
        current = self.current
        if current is None:
            return
        if current.problem:
            if self.is_busy:
                self._give_up(f"{current.image_id} {NOT_SAVED}")
        elif self._is_gone(current) and current.is_saved:
            self._set_current(None, None)
        else:
            self._go_on()

    def _is_gone(self, current: OpenImage) -> bool:
        return current.layer not in self._viewer.layers

    def _on_read(self, read: _Read) -> None:
        self._read = read

    def _on_failed(self, error: BaseException) -> None:
        way_out = ""
        if isinstance(error, ImageMissingError):
            way_out = " (here: Advanced, Find moved images…)"
        elif isinstance(error, ImageChangedError):
            way_out = " (here: right-click it in the list, Accept changed file)"
        self._give_up(f"{error}{way_out}")
        if not isinstance(error, DeepPixelError | OSError):
            raise error

    def _on_read_finished(self) -> None:
        self._go_on()

    def _guarded(self, steps: Iterator[None]) -> Iterator[None]:
        """Take steps; where one fails, the next wish must not wait for it for ever."""
        try:
            yield from steps
        except Exception as error:
            self._give_up(f"The image could not be shown: {error}")
            raise

    def _closing(self) -> Iterator[None]:
        with self._viewer.layers.batched_update():
            self._close_layers()
        yield

    def _close_layers(self) -> None:
        self._is_closing = True
        try:
            if self.current is not None:
                close_image(self._viewer, self.current.layer)
        finally:
            self._is_closing = False

    def _showing(self, read: _Read) -> Iterator[None]:
        name = Path(read.loaded.entry.file_name).stem
        with self._viewer.layers.batched_update():
            self._close_layers()
            self._set_current(None, None)
            view = show_image(self._viewer, read.image, read.session, name=name)
        self._viewer.reset_view()
        yield
        self._set_current(ImageSaver(read.dataset, read.loaded), view.image)
        problems = read.loaded.problems
        if problems:
            self.failed.emit(
                f"{len(problems):,} entries of {read.loaded.entry.file_name} cannot be read "
                f"({problems[0].message}). The file as it is now is kept in removed when the image "
                "is saved"
            )
        self._draw(_drawn(self._viewer, view))

    def _on_steps_finished(self) -> None:
        wish, read, self._read = self._wish, self._read, None
        if wish is None:
            return
        if wish.dataset is None:
            self._set_current(None, None)
        elif read is None or read.loaded.entry.image_id != wish.image_id:
            # a newer wish came meanwhile
            self._go_on()
            return
        self._wish = None
        self.status_changed.emit()
        if wish.then is not None:
            wish.then()
        if self._later:
            self._ask(self._later.popleft())

    # -- what is open -------------------------------------------------------------------------

    def _set_current(
        self, saver: ImageSaver | None, layer: Image | None, *, seen: Mark | None = None
    ) -> None:
        before, self.current = self.current, None
        if before is not None:
            if not before.save_here():
                # changed while its layers left
                self.failed.emit(
                    f"{before.image_id}: what was done last is not saved ({before.problem}). "
                    "It is offered when the image is opened again"
                )
            before.close()
            before.deleteLater()
        if saver is not None and layer is not None:
            self.current = OpenImage(saver, layer, seen=seen, parent=self)
            self.current.changed.connect(self.status_changed)
            self.current.saved.connect(self.saved)
            self.current.settled.connect(self._on_settled)
        self.opened.emit()
        self.status_changed.emit()

    def _on_layer_removed(self, event: Any) -> None:
        """Save what a person did on an image that somebody takes out of the viewer."""
        current = self.current
        if current is not None and event.value == current.layer and not self._is_closing:
            current.settle()
            current.save()

    def shut_down(self) -> None:
        """Save what is open in this thread, and let go of the viewer."""
        if self._is_shut_down:
            return
        self.save_here()
        self._is_shut_down = True
        self._task.abandon()
        self._steps.stop()
        self._viewer.layers.events.removed.disconnect(self._on_layer_removed)
        current = self.current
        if current is not None:
            seen = mark_of(current.layer) if current.is_saved else (None, None)
            left = _Left(saver=current.saver, layer=current.layer, seen=seen)
            current.layer.metadata[OPEN_KEY] = left
            current.close()

    def save_here(self) -> bool:
        """Save what is open before the window closes; return whether the disk has all."""
        if self.current is None or self._is_shut_down:
            return True
        self._finish()
        self.current.settle()
        return self.current.save_here()


def _read(dataset: Dataset, image_id: str, score: float) -> _Read:
    loaded = dataset.load(image_id)
    image = in_memory(read_image(dataset.image_path(image_id)))
    planes = fit_to_image(loaded.planes, image)
    session = session_of(planes, dataset.categories, image_hw=image.image_hw, score=score)
    return _Read(dataset=dataset, loaded=loaded, image=image, session=session)


def _drawn(viewer: Any, view: InstanceLayers) -> Iterator[None]:
    """Draw all, then choose the layer on which the keys work."""
    yield from view.redraw()
    if view.labels_layers and view.image in viewer.layers:
        viewer.layers.selection.active = view.labels_layers[0]
