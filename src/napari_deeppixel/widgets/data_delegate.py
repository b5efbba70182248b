"""How a row of the image list looks: picture, state, name, counts, split."""

from functools import partial

from qtpy.QtCore import QModelIndex, QPointF, QRect, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QFont, QFontMetrics, QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QStyle, QStyledItemDelegate, QStyleOptionViewItem, QWidget

from napari_deeppixel.dataset.annotated import ImageState
from napari_deeppixel.dataset.image_entry import ImageEntry
from napari_deeppixel.dataset.store import Dataset
from napari_deeppixel.widgets.data_model import EntryRole, OpenRole, count_words
from napari_deeppixel.widgets.thumbnails import THUMBNAIL_PX, Thumbnails

_MARGIN_PX, _DOT_PX = 4, 12
ROW_PX = THUMBNAIL_PX + 2 * _MARGIN_PX
# Okabe & Ito 2008: told apart by the colour-blind, and each has a shape of its own
STATE_COLORS = {
    ImageState.NONE: "#9a9a9a",
    ImageState.DRAFT: "#e69f00",
    ImageState.COMPLETE: "#56b4e9",
}
_PROBLEM_COLOR = "#d55e00"
_SPLIT_CAPTIONS = {"train": "train", "val": "val", "test": "test"}


class ImageDelegate(QStyledItemDelegate):
    """Draws rows of an `ImageListModel`; asks for the thumbnails of those that are in sight.

    Parameters
    ----------
    thumbnails
        Where they come from.
    """

    def __init__(self, thumbnails: Thumbnails, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._thumbnails = thumbnails
        self.dataset: Dataset | None = None

    def sizeHint(self, option: QStyleOptionViewItem, _index: QModelIndex) -> QSize:
        """Return the size of a row; they all have the same."""
        return QSize(option.rect.width(), ROW_PX)

    def paint(
        self, painter: QPainter | None, option: QStyleOptionViewItem, index: QModelIndex
    ) -> None:
        """Draw a row."""
        entry = index.data(EntryRole)
        if painter is None or not isinstance(entry, ImageEntry):
            return
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        is_selected = bool(option.state & QStyle.StateFlag.State_Selected)
        if is_selected:
            painter.fillRect(option.rect, option.palette.highlight())
        is_open = bool(index.data(OpenRole))
        if is_open:
            bar = QRect(option.rect.left(), option.rect.top(), 3, option.rect.height())
            painter.fillRect(bar, QColor(STATE_COLORS[ImageState.COMPLETE]))
        left = option.rect.left() + _MARGIN_PX + 3
        picture = QRect(left, option.rect.top() + _MARGIN_PX, THUMBNAIL_PX, THUMBNAIL_PX)
        self._draw_thumbnail(painter, picture, entry)
        text = option.rect.adjusted(picture.right() - option.rect.left() + 8, 4, -6, -4)
        ink = option.palette.highlightedText() if is_selected else option.palette.text()
        self._draw_text(painter, text, entry, ink=ink.color(), font=option.font, is_open=is_open)
        painter.restore()

    def _draw_thumbnail(self, painter: QPainter, where: QRect, entry: ImageEntry) -> None:
        dataset, key = self.dataset, entry.sha256 or entry.image_id
        image = None
        if dataset is not None and not entry.problem:
            image = self._thumbnails.get(key, partial(dataset.image_path, entry.image_id))
        if image is not None:
            place = image.rect()
            place.moveCenter(where.center())
            painter.drawImage(place, image)
            return
        painter.setPen(QPen(QColor(128, 128, 128, 120), 1))
        painter.drawRect(where)
        if entry.problem or self._thumbnails.is_known(key):
            # there is no picture, and none to come
            painter.drawLine(where.topLeft(), where.bottomRight())

    def _draw_text(
        self,
        painter: QPainter,
        where: QRect,
        entry: ImageEntry,
        *,
        ink: QColor,
        font: QFont,
        is_open: bool,
    ) -> None:
        bold = QFont(font)
        bold.setBold(is_open)
        half = where.height() // 2
        upper = QRect(where.left(), where.top(), where.width(), half)
        lower = QRect(where.left(), where.top() + half, where.width(), half)
        dot = QRectF(upper.left(), upper.center().y() - _DOT_PX / 2 + 1, _DOT_PX, _DOT_PX)
        draw_state(painter, dot, entry)
        name = upper.adjusted(_DOT_PX + 6, 0, 0, 0)
        middle = Qt.AlignmentFlag.AlignVCenter
        painter.setPen(ink)
        painter.setFont(bold)
        # the end of a name tells more than its beginning
        painter.drawText(name, middle, _elided(entry.file_name, bold, name.width()))
        painter.setFont(font)
        faint = QColor(ink)
        faint.setAlphaF(0.75)
        painter.setPen(faint)
        split = "" if entry.problem else _SPLIT_CAPTIONS[entry.split.value]
        if split and entry.is_split_pinned:
            split += " \N{BLACK SQUARE}"
        width = QFontMetrics(font).horizontalAdvance(split)
        painter.drawText(lower, Qt.AlignmentFlag.AlignRight | middle, split)
        counts = entry.problem or count_words(entry)
        room = lower.width() - width - 8
        shown = QFontMetrics(font).elidedText(counts, Qt.TextElideMode.ElideRight, room)
        painter.drawText(lower, middle, shown)


def _elided(text: str, font: QFont, width: int) -> str:
    return str(QFontMetrics(font).elidedText(text, Qt.TextElideMode.ElideMiddle, width))


def draw_state(painter: QPainter, where: QRectF, entry: ImageEntry) -> None:
    """Draw the sign of a state: a ring, a half disc, a disc with a tick, or a triangle."""
    painter.save()
    color = QColor(_PROBLEM_COLOR if entry.problem else STATE_COLORS[entry.state])
    painter.setPen(QPen(color, 1.6))
    painter.setBrush(Qt.BrushStyle.NoBrush)
    ring = where.adjusted(1, 1, -1, -1)
    if entry.problem:
        painter.setBrush(color)
        top = QPointF(ring.center().x(), ring.top())
        painter.drawPolygon(QPolygonF([top, ring.bottomRight(), ring.bottomLeft()]))
    elif entry.state is ImageState.COMPLETE:
        painter.setBrush(color)
        painter.drawEllipse(ring)
        painter.setPen(QPen(QColor("#101010"), 1.6))
        x, y, side = ring.left(), ring.top(), ring.width()
        points = ((0.22, 0.52), (0.43, 0.73), (0.78, 0.3))
        painter.drawPolyline(QPolygonF([QPointF(x + a * side, y + b * side) for a, b in points]))
    else:
        painter.drawEllipse(ring)
        if entry.state is ImageState.DRAFT:
            painter.setBrush(color)
            # sixteenths of a degree, from three o'clock: the left half
            painter.drawPie(ring, 90 * 16, 180 * 16)
    painter.restore()
