"""A combo box of live sources."""

from pathlib import Path
from typing import Any

from napari.layers import Image
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QInputDialog,
    QToolButton,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_deeppixel.batch.inputs import sample_video
from napari_deeppixel.live.av_errors import without_password
from napari_deeppixel.live.registry import ProviderSources, list_sources
from napari_deeppixel.viewer.live_layers import is_live_layer
from napari_deeppixel.widgets.controls import Note, combo, named
from napari_deeppixel.widgets.worker import BackgroundTask

_STREAM, _FILE = "network stream, other address…", "video file…"
_VIDEOS = "Videos (*.mp4 *.mkv *.avi *.mov *.webm *.m4v *.mpg *.mpeg *.wmv);;All files (*)"


class SourceChoice(QWidget):
    """Cameras, screens, layers, and what a person names: a stream or a file.

    What is plugged in is looked for in a thread, at first and at each press of the button.

    Parameters
    ----------
    viewer
        The napari viewer.

    Signals
    -------
    source_changed
        Another source is chosen.
    """

    source_changed = Signal()

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._found: tuple[ProviderSources, ...] = ()
        self._named: list[str] = []
        self._layer_name = ""
        self._combo = combo(
            "live.source",
            "A camera, a network stream, a video, the screen, or a layer that something else keeps "
            "updating.",
        )
        self._button = named(
            QToolButton(), "live.refresh", "Look again for cameras that were plugged in."
        )
        self._button.setText("↻")
        self.note = Note("live.source_note")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo, 1)
        layout.addWidget(self._button)
        self._task = BackgroundTask(self)
        self._task.yielded.connect(self._on_found)
        self._task.failed.connect(self._on_failed)
        self._combo.activated.connect(self._on_activated)
        self._combo.currentIndexChanged.connect(self._on_changed)
        self._button.clicked.connect(self.look)
        events = viewer.layers.events
        self._events: tuple[Any, ...] = (events.inserted, events.removed, events.renamed)
        for event in self._events:
            event.connect(self._fill)
        self._fill()
        self.look()

    def shut_down(self) -> None:
        """Stop looking, and let go of the viewer; may be called more than once."""
        self._task.abandon()
        for event in self._events:
            event.disconnect(self._fill)
        self._events = ()

    @property
    def chosen(self) -> str | Image | None:
        """An address, or a layer; None if nothing is chosen."""
        data = self._combo.currentData()
        return data if isinstance(data, str | Image) else None

    def choose(self, address: str) -> None:
        """Choose an address, and offer it if it is new."""
        if self._combo.findData(address) < 0:
            self._named.append(address)
            self._fill()
        self._combo.setCurrentIndex(self._combo.findData(address))

    def look(self) -> None:
        """Look for what is plugged in."""
        if not self._task.is_running:
            self._task.start(lambda _cancel, _report: iter([list_sources()]))

    def _on_found(self, found: tuple[ProviderSources, ...]) -> None:
        self._found = found
        problems = [f"{each.name}: {each.problem}" for each in found if each.problem]
        self.note.say("\n".join(problems))
        self._fill()

    def _on_failed(self, error: BaseException) -> None:
        self.note.say(f"cameras cannot be listed: {error}")

    def _fill(self) -> None:
        chosen = self._combo.currentData()
        if isinstance(chosen, Image):
            # other plugins put their preview away and add it anew
            self._layer_name = chosen.name
        elif chosen is not None:
            self._layer_name = ""
        entries: list[tuple[str, Any, str]] = [
            (each.label, each.address, f"{group.name}: {each.address}")
            for group in self._found
            for each in group.sources
        ]
        if not self._found:
            entries.append(("moving discs", "demo", "Demo"))
        video = str(sample_video())
        entries.append(("moving nuclei (sample video)", video, video))
        entries += [
            (_short(address), address, without_password(address)) for address in self._named
        ]
        entries += [
            (f"layer: {layer.name}", layer, "A layer that something else keeps updating")
            for layer in self._viewer.layers
            if isinstance(layer, Image) and not is_live_layer(layer)
        ]
        entries += [(_STREAM, None, "RTSP, or MJPEG over HTTP"), (_FILE, None, "")]
        with signals_blocked(self._combo):
            self._combo.clear()
            for text, data, tooltip in entries:
                self._combo.addItem(text, data)
                at = self._combo.count() - 1
                self._combo.setItemData(at, tooltip, Qt.ItemDataRole.ToolTipRole)
            place = _find(self._combo, chosen)
            if place < 0 and self._layer_name:
                place = self._combo.findText(f"layer: {self._layer_name}")
            if place < 0 and self._layer_name:
                self._combo.setPlaceholderText(f"layer: {self._layer_name} (gone)")
                self._combo.setCurrentIndex(-1)
            else:
                self._combo.setCurrentIndex(max(0, place))
        if self._combo.currentData() is not chosen:
            self.source_changed.emit()

    def _on_changed(self) -> None:
        if self.chosen is not None:
            self.source_changed.emit()

    def _on_activated(self, index: int) -> None:
        text = self._combo.itemText(index)
        if text == _STREAM:
            address, is_ok = QInputDialog.getText(
                self,
                "Network stream",
                "Address of the camera (rtsp://… or http://…), with user:password@ where needed",
            )
            self._take(address.strip() if is_ok else "")
        elif text == _FILE:
            path, _ = QFileDialog.getOpenFileName(self, "Open a video", "", _VIDEOS)
            self._take(path)

    def _take(self, address: str) -> None:
        if address:
            self.choose(address)
        else:
            self._combo.setCurrentIndex(0)


def _find(box: QComboBox, data: Any) -> int:
    """Return where an entry's data is; layers may be proxies: equal, but not the same."""
    for index in range(box.count()):
        known = box.itemData(index)
        if known is not None and type(known) is type(data) and known == data:
            return index
    return -1


def _short(address: str) -> str:
    return without_password(address) if "://" in address else Path(address).name
