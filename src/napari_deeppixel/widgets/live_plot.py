"""A small plot of the last minute."""

import math
from collections import deque

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

SPAN_S = 60.0
_MARGIN_PX = 4
# of the vertical scale: the least, so that noise near zero does not fill the plot
_LEAST_TOP = 5.0


class LivePlot(QWidget):
    """Lines over the last minute, the newest at the right.

    Parameters
    ----------
    names
        Name → colour of each line.
    """

    def __init__(self, names: dict[str, str], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._colors = names
        self._lines: dict[str, deque[tuple[float, float]]] = {name: deque() for name in names}
        self._now_s = 0.0
        self.setObjectName("live.plot")
        self.setToolTip(
            "The last minute. Rates of camera, model and screen, in frames a second: the scale is "
            "at the left."
        )
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:
        """Return a low and wide size."""
        return QSize(200, 84)

    def minimumSizeHint(self) -> QSize:
        """Return a size that still shows something."""
        return QSize(120, 84)

    def add(self, now_s: float, values: dict[str, float]) -> None:
        """Add a point to each line; NaN leaves a gap."""
        self._now_s = now_s
        for name, value in values.items():
            line = self._lines[name]
            line.append((now_s, value))
            while line and now_s - line[0][0] > SPAN_S:
                line.popleft()
        self.update()

    def clear(self) -> None:
        """Forget all points."""
        for line in self._lines.values():
            line.clear()
        self.update()

    @property
    def top(self) -> float:
        """Value at the upper edge."""
        values = [v for line in self._lines.values() for _, v in line if not math.isnan(v)]
        return max([_LEAST_TOP, *values]) * 1.1

    def paintEvent(self, _event: QPaintEvent | None) -> None:
        """Draw frame, scale and lines."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text = self.palette().text().color()
        faint = QColor(text)
        faint.setAlphaF(0.25)
        scale_width = painter.fontMetrics().horizontalAdvance("000") + _MARGIN_PX
        line_height = painter.fontMetrics().height()
        area = QRectF(
            scale_width,
            _MARGIN_PX,
            self.width() - scale_width - _MARGIN_PX,
            self.height() - 2 * _MARGIN_PX - line_height,
        )
        painter.setPen(QPen(faint, 1))
        painter.drawRect(area)
        painter.setPen(text)
        top = self.top
        right = Qt.AlignmentFlag.AlignRight
        painter.drawText(
            QRectF(0, area.top(), scale_width - _MARGIN_PX, line_height), right, f"{top:.0f}"
        )
        painter.drawText(
            QRectF(0, area.bottom() - line_height, scale_width - _MARGIN_PX, line_height),
            right,
            "0",
        )
        self._draw_legend(painter, area)
        for name, line in self._lines.items():
            painter.setPen(QPen(QColor(self._colors[name]), 1.5))
            for piece in self._pieces(line, area, top):
                painter.drawPolyline(piece)
        painter.end()

    def _draw_legend(self, painter: QPainter, area: QRectF) -> None:
        x, y = area.left(), area.bottom() + painter.fontMetrics().ascent() + _MARGIN_PX
        for name, color in self._colors.items():
            painter.setPen(QColor(color))
            painter.drawText(QPointF(x, y), name)
            x += painter.fontMetrics().horizontalAdvance(f"{name}    ")

    def _pieces(
        self, line: deque[tuple[float, float]], area: QRectF, top: float
    ) -> list[QPolygonF]:
        pieces: list[list[QPointF]] = []
        points: list[QPointF] = []
        for at_s, value in line:
            if math.isnan(value):
                pieces.append(points)
                points = []
                continue
            x = area.right() - (self._now_s - at_s) / SPAN_S * area.width()
            points.append(QPointF(x, area.bottom() - value / top * area.height()))
        return [QPolygonF(piece) for piece in (*pieces, points) if len(piece) > 1]
