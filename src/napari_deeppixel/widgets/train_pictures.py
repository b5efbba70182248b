"""Pictures of what a network that is being trained finds, beside each other."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QIcon, QImage, QPixmap
from qtpy.QtWidgets import (
    QDialog,
    QLabel,
    QListView,
    QListWidget,
    QListWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_deeppixel.core.progress import CancelToken
from napari_deeppixel.widgets.controls import named
from napari_deeppixel.widgets.thumbnails import as_qimage
from napari_deeppixel.widgets.worker import BackgroundTask, ReportProgress

_SIDE_PX, _LARGE_PX = 112, 900
# more are not looked at while a run goes
_MAX_PICTURES = 12
# decoded: a picture is drawn smaller than its image by whoever writes it, but may be anything
_MAX_PIXELS = 1 << 26

Picture = tuple[Path, NDArray[np.uint8]]


class PictureStrip(QListWidget):
    """The newest pictures, in a row; a click shows one large."""

    def __init__(self) -> None:
        super().__init__()
        named(
            self,
            "train.pictures",
            "What the network finds in validation images now. Click one to see it large.",
        )
        self.setViewMode(QListView.ViewMode.IconMode)
        self.setFlow(QListView.Flow.LeftToRight)
        self.setWrapping(False)
        self.setMovement(QListView.Movement.Static)
        self.setIconSize(QSize(_SIDE_PX, _SIDE_PX))
        self.setSpacing(2)
        self.setFixedHeight(_SIDE_PX + 30)
        self.setMinimumWidth(100)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.itemClicked.connect(self._on_clicked)
        self._wanted: tuple[Path, ...] = ()
        self._shown: tuple[Path, ...] = ()
        self._images: dict[Path, QImage] = {}
        self._task = BackgroundTask(self)
        self._task.yielded.connect(self._on_read)
        self._task.finished.connect(self._on_finished)
        self.hide()

    def show_paths(self, paths: tuple[Path, ...]) -> None:
        """Show other pictures; none: hide."""
        self._wanted = paths[:_MAX_PICTURES]
        if not self._wanted:
            self._task.abandon()
            self._shown = ()
            self._images.clear()
            self.clear()
            self.hide()
        elif not self._task.is_running and self._wanted != self._shown:
            self._read()

    def shut_down(self) -> None:
        """Read no more."""
        self._task.abandon()

    def _read(self) -> None:
        paths = self._shown = self._wanted
        self._task.start(lambda cancel, report: _pictures(paths, cancel, report))

    def _on_read(self, pictures: list[Picture]) -> None:
        self.clear()
        self._images = {path: as_qimage(pixels) for path, pixels in pictures}
        side = QSize(_SIDE_PX, _SIDE_PX) * self.devicePixelRatio()
        for path, image in self._images.items():
            width = min(image.width(), image.height())
            middle = image.copy(
                (image.width() - width) // 2, (image.height() - width) // 2, width, width
            )
            item = QListWidgetItem(QIcon(_scaled(middle, side)), "")
            item.setData(Qt.ItemDataRole.UserRole, str(path))
            item.setToolTip(path.stem)
            item.setSizeHint(QSize(_SIDE_PX + 4, _SIDE_PX + 4))
            self.addItem(item)
        self.setVisible(bool(pictures))

    def _on_finished(self) -> None:
        if self._wanted and self._wanted != self._shown:
            self._read()

    def _on_clicked(self, item: QListWidgetItem) -> None:
        path = Path(item.data(Qt.ItemDataRole.UserRole))
        PictureDialog(path.stem, self._images[path], self).show()


class PictureDialog(QDialog):
    """One picture, as large as fits."""

    def __init__(self, title: str, image: QImage, parent: QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("train.picture")
        self.setWindowTitle(title)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        label = QLabel()
        label.setPixmap(_scaled(image, QSize(_LARGE_PX, _LARGE_PX)))
        layout = QVBoxLayout(self)
        layout.addWidget(label)


def _scaled(image: QImage, size: QSize) -> QPixmap:
    return QPixmap.fromImage(image).scaled(
        size, Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
    )


def _pictures(
    paths: tuple[Path, ...], cancel: CancelToken, _report: ReportProgress
) -> Iterator[list[Picture]]:
    read = []
    for path in paths:
        cancel.raise_if_cancelled()
        try:
            read.append((path, _reduced(read_rgb(path))))
        except (OSError, ValueError):
            # rewritten or taken away meanwhile
            continue
    yield read


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Return a picture file as uint8 (H, W, 3).

    Raises
    ------
    OSError, ValueError
        If it cannot be read, or is too large.
    """
    properties = iio.improps(path)
    if int(np.prod(properties.shape[:2])) > _MAX_PIXELS:
        raise ValueError(f"{path}: a picture of {properties.shape} is too large to show")
    pixels: NDArray[Any] = iio.imread(path)
    if pixels.ndim == 2:
        pixels = pixels[..., np.newaxis]
    return np.ascontiguousarray(np.broadcast_to(pixels[..., :3], (*pixels.shape[:2], 3)), np.uint8)


def _reduced(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return every n-th pixel, so that no side is much longer than a screen shows."""
    step = max(max(pixels.shape[:2]) // _LARGE_PX, 1)
    return np.ascontiguousarray(pixels[::step, ::step])
