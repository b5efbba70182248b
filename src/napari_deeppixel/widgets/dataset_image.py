"""The image of a dataset that is open in the window, and whether it is saved."""

import time
from collections.abc import Callable, Iterator
from enum import Enum, auto
from typing import Any, TypeAlias

from napari.layers import Image
from qtpy.QtCore import QObject, Signal

from napari_deeppixel.core.errors import DeepPixelError
from napari_deeppixel.dataset.image_entry import ImageEntry
from napari_deeppixel.dataset.store import DatasetConflictError
from napari_deeppixel.viewer.dataset_saver import ImageSaver
from napari_deeppixel.viewer.layers import InstanceLayers, instance_layers_of
from napari_deeppixel.widgets.controls import single_shot
from napari_deeppixel.widgets.worker import BackgroundTask

# after the last change; while somebody goes on painting, this long after the first at most
AUTOSAVE_MS, _LONGEST_S = 1000, 5.0
# what failed is tried again by itself: a network drive may come back
_RETRY_MS = 10_000


class SavePhase(Enum):
    """How far the disk is behind."""

    SAVED = auto()
    CHANGED = auto()
    SAVING = auto()
    FAILED = auto()
    CONFLICT = auto()


Mark: TypeAlias = tuple[object, object]


def mark_of(layer: Image) -> Mark | None:
    """Return what is another once the instances of a layer have changed; None without any."""
    view = instance_layers_of(layer)
    return None if view is None else (view.session, view.session.history.top)


class OpenImage(QObject):
    """Follows the instances of an Image layer and keeps them saved in the dataset.

    Parameters
    ----------
    saver
        Writes them.
    layer
        The Image layer; its instances may come later.
    seen
        The `mark_of` the layer when it was as the dataset has it; None: it is so now.

    Signals
    -------
    changed
        `phase` or `problem` is another.
    saved
        What the dataset says of the image now.
    settled
        A save ended, well or not.
    """

    changed = Signal()
    saved = Signal(object)
    settled = Signal()

    def __init__(
        self,
        saver: ImageSaver,
        layer: Image,
        *,
        seen: Mark | None = None,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self.saver, self.layer = saver, layer
        self.problem = ""
        self.phase = SavePhase.SAVED
        self._view: InstanceLayers | None = None
        # number of the last change
        self._change = saver.saved_change
        self._changed_since = 0.0
        self._timer = single_shot(self, AUTOSAVE_MS, self.save)
        self._task = BackgroundTask(self)
        self._task.yielded.connect(self._on_saved)
        self._task.failed.connect(self._on_failed)
        self._task.finished.connect(self._on_finished)
        self._retry_timer = single_shot(self, _RETRY_MS, self.save)
        self._has_failed = False
        self._follow(instance_layers_of(layer))
        if seen is not None and seen != mark_of(layer):
            self._on_changed()

    @property
    def image_id(self) -> str:
        """Which image of the dataset."""
        return self.saver.image_id

    @property
    def view(self) -> InstanceLayers | None:
        """What shows the instances; None while there are none."""
        return self._view

    @property
    def change(self) -> int:
        """Number of the last change."""
        return self._change

    @property
    def is_saved(self) -> bool:
        """Whether the disk has all."""
        return self.saver.saved_change >= self._change

    @property
    def is_saving(self) -> bool:
        """Whether a save is under way."""
        return self._task.is_running

    # -- following ----------------------------------------------------------------------------

    def follow(self) -> None:
        """Follow the instances that the layer has now: a run may have given it others."""
        view = instance_layers_of(self.layer)
        if view is not self._view and view is not None:
            self._follow(view)
            self._on_changed()

    def _follow(self, view: InstanceLayers | None) -> None:
        self._unfollow()
        self._view = view
        if view is not None:
            for signal in self._signals(view):
                signal.connect(self._on_changed)

    def _signals(self, view: InstanceLayers) -> tuple[Any, ...]:
        session = view.session
        return session.changed, session.visibility_changed, session.categories_changed

    def _unfollow(self) -> None:
        if self._view is not None:
            for signal in self._signals(self._view):
                signal.disconnect(self._on_changed, missing_ok=True)

    def _on_changed(self, *_what: object) -> None:
        now = time.monotonic()
        if self.is_saved:
            self._changed_since = now
        self._change += 1
        if self.phase is SavePhase.CONFLICT:
            # the person decides first
            return
        if now - self._changed_since < _LONGEST_S or not self._timer.isActive():
            self._timer.start()
        if self.phase is not SavePhase.FAILED:
            self._show(SavePhase.CHANGED)

    # -- saving -------------------------------------------------------------------------------

    def save(self, *, overwrites: bool = False) -> None:
        """Save in a thread; `settled` follows, at once if there is nothing to save."""
        self._timer.stop()
        self._retry_timer.stop()
        if self._task.is_running:
            # its end looks whether there is more
            return
        view = self._view
        if view is None or (self.is_saved and not overwrites):
            if self.phase is not SavePhase.CONFLICT:
                self._show(SavePhase.SAVED)
            self.settled.emit()
            return
        saver, snapshot, change = self.saver, view.session.snapshot(), self._change
        self._has_failed = False

        def work(*_: object) -> Iterator[tuple[ImageEntry, int]]:
            yield saver.save(snapshot, change=change, overwrites=overwrites), change

        self._show(SavePhase.SAVING)
        self._task.start(work)

    def save_here(self) -> bool:
        """Save in this thread, as the window closes; return whether the disk has all."""
        self._timer.stop()
        view = self._view
        if view is None or self.is_saved:
            return True
        try:
            self.saver.save(view.session.snapshot(), change=self._change)
        except (DeepPixelError, OSError) as error:
            self._fail(error)
        return self.is_saved

    def settle(self) -> None:
        """Take over what a person did to the layers and nobody took yet: before a save."""
        self.follow()
        if self._view is not None:
            self._view.settle_all()

    def _on_saved(self, result: tuple[ImageEntry, int]) -> None:
        entry, _ = result
        self.problem = ""
        self.saved.emit(entry)

    def _on_failed(self, error: BaseException) -> None:
        self._fail(error)
        if not isinstance(error, DeepPixelError | OSError):
            raise error

    def _fail(self, error: BaseException) -> None:
        self._has_failed = True
        self.problem = str(error)
        is_conflict = isinstance(error, DatasetConflictError)
        if not is_conflict:
            self._retry_timer.start()
        self._show(SavePhase.CONFLICT if is_conflict else SavePhase.FAILED)

    def _on_finished(self) -> None:
        if not self._has_failed:
            self._show(SavePhase.SAVED if self.is_saved else SavePhase.CHANGED)
            if not self.is_saved:
                self._timer.start()
        self.settled.emit()

    def _show(self, phase: SavePhase) -> None:
        self.phase = phase
        self.changed.emit()

    # -- beside the session -------------------------------------------------------------------

    def change_beside(self, change: Callable[[], object]) -> Callable[[], object]:
        """Return what saves the image and then changes its file otherwise; for a thread."""
        saver, view, number = self.saver, self._view, self._change
        snapshot = None if view is None else view.session.snapshot()

        def save_and_change() -> None:
            if snapshot is not None:
                saver.save(snapshot, change=number)
            saver.change_beside(change)

        return save_and_change

    def keep_copy(self) -> Callable[[], object]:
        """Return what writes a copy of what is here now; for a thread."""
        view = self._view
        snapshot = None if view is None else view.session.snapshot()
        saver = self.saver
        return lambda: None if snapshot is None else saver.keep_copy(snapshot)

    def drop_changes(self) -> None:
        """Count what is here as saved: a copy of it was kept."""
        self._change, self.problem = self.saver.saved_change, ""
        self._show(SavePhase.SAVED)

    def close(self) -> None:
        """Follow nothing any more."""
        self._timer.stop()
        self._retry_timer.stop()
        self._unfollow()
        self._view = None
        self._task.abandon()
