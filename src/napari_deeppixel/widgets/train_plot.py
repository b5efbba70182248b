"""A small plot of lines over the steps of a training run."""

import math
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

_MARGIN_PX = 4
# more points than pixels are not seen, and take long to draw
_MAX_POINTS = 400
# how far from a point the mouse may be
_REACH_PX = 40
# the first steps of a new network lose ten times as much as the rest, which would be flat then
_FIRST_SHARE = 0.05

Line = tuple[tuple[int, float], ...]


class CurvePlot(QWidget):
    """Lines over iterations; the mouse tells values.

    Parameters
    ----------
    name
        Its object name.
    colors
        Name → colour of each line.
    tooltip
        What is shown, with units.
    top
        Value at the upper edge; None: the largest.
    """

    def __init__(
        self,
        name: str,
        colors: Mapping[str, str],
        *,
        tooltip: str,
        top: float | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.setObjectName(name)
        self._colors, self._fixed_top, self._about = dict(colors), top, tooltip
        self._lines: dict[str, Line] = dict.fromkeys(colors, ())
        self._last = 1
        self._marked: int | None = None
        self.setToolTip(tooltip)
        self.setMouseTracking(True)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:
        """Return a low and wide size."""
        return QSize(200, 100)

    def minimumSizeHint(self) -> QSize:
        """Return a size that still shows something."""
        return QSize(120, 100)

    def show_lines(
        self,
        lines: Mapping[str, Mapping[int, float]],
        *,
        iterations: int = 0,
        marked: int | None = None,
    ) -> None:
        """Show other values (iteration → value).

        Parameters
        ----------
        lines
            Name → its values; NaN is left out.
        iterations
            At the right edge; less than the last value: that is there.
        marked
            Iteration of a dashed line.
        """
        self._lines = {name: _thinned(lines.get(name, {})) for name in self._colors}
        last = max((line[-1][0] for line in self._lines.values() if line), default=0)
        self._last, self._marked = max(iterations, last, 1), marked
        self.update()

    @property
    def lines(self) -> dict[str, Line]:
        """What is drawn."""
        return dict(self._lines)

    @property
    def top(self) -> float:
        """Value at the upper edge."""
        if self._fixed_top is not None:
            return self._fixed_top
        late = [
            value
            for line in self._lines.values()
            for at, value in line[int(len(line) * _FIRST_SHARE) :]
        ]
        return max(late, default=1.0) * 1.1 or 1.0

    # -- drawing ------------------------------------------------------------------------------

    def _area(self) -> QRectF:
        metrics = self.fontMetrics()
        left = self._width("0.00") + 2 * _MARGIN_PX
        return QRectF(
            left,
            _MARGIN_PX,
            self.width() - left - _MARGIN_PX,
            self.height() - 2 * _MARGIN_PX - metrics.height(),
        )

    def paintEvent(self, _event: QPaintEvent | None) -> None:
        """Draw frame, scales and lines."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        # from all points, so once for all of them
        area, top = self._area(), self.top
        self._draw_scales(painter, area, top)
        painter.setClipRect(area.adjusted(-2, -2, 2, 2))
        for name, line in self._lines.items():
            color = QColor(self._colors[name])
            painter.setPen(QPen(color, 1.5))
            points = [self._place(area, top, *point) for point in line]
            painter.drawPolyline(QPolygonF(points))
            if len(points) < 30:
                painter.setBrush(color)
                for point in points:
                    painter.drawEllipse(point, 2.0, 2.0)
        painter.end()

    def _draw_scales(self, painter: QPainter, area: QRectF, top: float) -> None:
        text = self.palette().text().color()
        faint = QColor(text)
        faint.setAlphaF(0.25)
        height = painter.fontMetrics().height()
        painter.setPen(QPen(faint, 1))
        painter.drawRect(area)
        middle = area.center().y()
        painter.drawLine(QPointF(area.left(), middle), QPointF(area.right(), middle))
        if self._marked is not None:
            x = self._place(area, top, self._marked, 0.0).x()
            painter.setPen(QPen(text, 1, Qt.PenStyle.DashLine))
            painter.drawLine(QPointF(x, area.top()), QPointF(x, area.bottom()))
        painter.setPen(text)
        right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        width = area.left() - _MARGIN_PX
        for y, value in ((area.top() + height / 2, top), (middle, top / 2)):
            painter.drawText(QRectF(0, y - height / 2, width, height), right, _number(value))
        painter.drawText(QRectF(0, area.bottom() - height, width, height), right, "0")
        below = QRectF(area.left(), area.bottom() + 2, area.width(), height)
        painter.drawText(below, Qt.AlignmentFlag.AlignLeft, "step 0")
        painter.drawText(below, Qt.AlignmentFlag.AlignRight, f"{self._last:,}")
        self._draw_names(painter, area.left() + self._width("step 0     "), below)

    def _draw_names(self, painter: QPainter, x: float, line: QRectF) -> None:
        for name, color in self._colors.items():
            painter.setPen(QColor(color))
            painter.drawText(QRectF(x, line.top(), line.width(), line.height()), 0, name)
            x += self._width(f"{name}     ")

    def _width(self, text: str) -> int:
        return int(self.fontMetrics().horizontalAdvance(text))

    def _place(self, area: QRectF, top: float, at: int, value: float) -> QPointF:
        x = area.left() + at / self._last * area.width()
        return QPointF(x, area.bottom() - value / top * area.height())

    # -- what the mouse is on -----------------------------------------------------------------

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        """Tell the values nearest to the mouse."""
        if event is not None:
            QToolTip.showText(
                event.globalPosition().toPoint(), self.text_at(event.position().x()), self
            )

    def text_at(self, x: float) -> str:
        """Return the values nearest to a place, or what is shown where there are none."""
        area = self._area()
        at = (x - area.left()) / max(area.width(), 1) * self._last
        reach = _REACH_PX / max(area.width(), 1) * self._last
        near = {
            name: min(line, key=lambda point: abs(point[0] - at))
            for name, line in self._lines.items()
            if line
        }
        told = [
            f"{name} {value:.3f} at step {step:,}"
            for name, (step, value) in near.items()
            if abs(step - at) <= reach
        ]
        return "\n".join(told) or self._about


def _thinned(values: Mapping[int, float]) -> Line:
    """Return the points in their order; means of neighbours where there are too many."""
    points = sorted((at, value) for at, value in values.items() if math.isfinite(value))
    if len(points) <= _MAX_POINTS:
        return tuple(points)
    edges = np.linspace(0, len(points), _MAX_POINTS + 1).astype(int)
    array = np.array(points)
    means = [array[start:end].mean(axis=0) for start, end in pairwise(edges)]
    return tuple((round(at), float(value)) for at, value in means)


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"
